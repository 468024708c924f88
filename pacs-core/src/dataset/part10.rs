//! The File Meta Information that stands before a stored data set (PS3.10 section 7.1).

use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::compact;
use super::model::{DataSet, Value};
use super::syntax;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::uid::{AeTitle, Uid};

/// Implementation Class UID (0002,0012) of this engine; an arc under the root for UUIDs (PS3.5 B.2).
pub const IMPLEMENTATION_CLASS_UID: Uid = Uid::constant("2.25.160776005323985648100336213641528248013");
/// Implementation Version Name (0002,0013) of this engine.
pub const IMPLEMENTATION_VERSION_NAME: &str = "PACS_ENGINE_0_1";
/// Private Information Creator UID (0002,0100) of this engine: Private Information (0002,0102) is what a
/// coercion put in place of attributes of the data set, in the form of [`compact`].
pub const COERCION_UID: Uid = Uid::constant("2.25.148221760978931853569690432036422577546");
/// Media Storage Directory Storage: the SOP class of a DICOMDIR, which is no instance of a patient.
pub const MEDIA_STORAGE_DIRECTORY: Uid = Uid::constant("1.2.840.10008.1.3.10");

/// The preamble and the letters "DICM" (PS3.10 7.1).
const PREAMBLE_BYTES: usize = 128;
const PREFIX_BYTES: usize = PREAMBLE_BYTES + 4;
/// All that stands in a meta of ours beside Private Information.
const OTHERS_LENGTH_MAX_BYTES: usize = 1024;
/// What decides how a file begins that has neither preamble nor meta.
const SNIFF_BYTES: usize = 8;

/// What stands before the data set of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMeta {
    /// Transfer Syntax UID (0002,0010); where there is none, what the first element looks like.
    pub transfer_syntax: Uid,
    /// Whether the file says its transfer syntax.
    pub transfer_syntax_declared: bool,
    /// Where the data set begins, in bytes from the start of the file.
    pub data_set_offset: u64,
    /// Media Storage SOP Class UID (0002,0002).
    pub sop_class: Option<Uid>,
    /// Media Storage SOP Instance UID (0002,0003).
    pub sop_instance: Option<Uid>,
    /// The 128 bytes and "DICM" are there.
    pub had_preamble: bool,
    /// Elements of group 0002 are there.
    pub had_meta: bool,
    /// The elements of group 0002.
    pub elements: DataSet,
}

impl FileMeta {
    /// Whether this is a DICOMDIR (PS3.3 annex F): it describes other files, and is no instance.
    pub fn is_directory(&self) -> bool {
        self.sop_class == Some(MEDIA_STORAGE_DIRECTORY)
    }
}

/// Reads the beginning of a file. `prefix` is what has been read from its start; `whole` says that
/// there is no more. Answers `None` when more bytes are needed, which is never the case once
/// `prefix` holds [`limits::FILE_META_LENGTH_MAX_BYTES`] and 1 KiB.
///
/// It takes what real files hold: no preamble, no meta at all (then the first element tells the
/// transfer syntax), a wrong or missing group length, meta in implicit VR.
///
/// # Errors
/// `Invalid` when it is not a DICOM file, or its meta is longer than the limit.
pub fn read_meta(prefix: &[u8], whole: bool) -> Result<Option<FileMeta>> {
    let had_preamble = match prefix.get(PREAMBLE_BYTES..PREFIX_BYTES) {
        Some(letters) => letters == b"DICM",
        None if !whole => return Ok(None),
        None => false,
    };
    let start = if had_preamble {
        PREFIX_BYTES
    } else if prefix.starts_with(b"DICM") {
        4
    } else {
        0
    };
    let body = &prefix[start..];
    if body.len() < SNIFF_BYTES {
        return if whole {
            Err(invalid("the file ends before its first element"))
        } else {
            Ok(None)
        };
    }
    // The meta is Explicit VR Little Endian (PS3.10 7.1); some writers leave the VR out.
    let mut at = 0;
    let mut elements = Vec::new();
    loop {
        let rest = &body[at..];
        if rest.len() >= 2 && u16::from_le_bytes([rest[0], rest[1]]) != 2 || whole && rest.len() < 8 {
            break;
        }
        let Some(header) = Header::read(rest) else {
            if whole {
                return Err(invalid("the file ends inside its meta information"));
            }
            return Ok(None);
        };
        let end = at
            .saturating_add(header.header)
            .saturating_add(header.length as usize);
        if header.length == syntax::UNDEFINED || end > limits::FILE_META_LENGTH_MAX_BYTES {
            return Err(invalid("the meta information is longer than the limit"));
        }
        if end > body.len() {
            if whole {
                return Err(invalid("the file ends inside its meta information"));
            }
            return Ok(None);
        }
        elements.push((header.tag, header.vr, at + header.header..end));
        at = end;
    }
    if !whole && body.len() < at + SNIFF_BYTES {
        return Ok(None);
    }
    let mut set = DataSet::new();
    for (tag, vr, range) in elements {
        let value = Bytes::copy_from_slice(&body[range]);
        let value = super::Value::Bytes(value);
        set.put(super::Element { tag, vr, value });
    }
    let declared = set.uid(tags::TRANSFER_SYNTAX_UID).ok();
    let transfer_syntax = match declared {
        Some(uid) => uid,
        // A file that is DICOM by its letters and does not say its transfer syntax: the default one
        // (PS3.5 section 10) unless VRs are there.
        None => match sniff(&body[at..]) {
            Err(_) if had_preamble => Uid::constant(syntax::IMPLICIT_LITTLE),
            found => found?,
        },
    };
    Ok(Some(FileMeta {
        transfer_syntax,
        transfer_syntax_declared: declared.is_some(),
        data_set_offset: (start + at) as u64,
        sop_class: set.uid(tags::MEDIA_STORAGE_SOP_CLASS_UID).ok(),
        sop_instance: set.uid(tags::MEDIA_STORAGE_SOP_INSTANCE_UID).ok(),
        had_preamble,
        had_meta: !set.is_empty(),
        elements: set,
    }))
}

/// The header of one element of the meta.
struct Header {
    tag: Tag,
    vr: VR,
    header: usize,
    length: u32,
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (&[g0, g1, e0, e1, v0, v1, l0, l1], rest) = bytes.split_first_chunk::<8>()?;
        let tag = Tag(u16::from_le_bytes([g0, g1]), u16::from_le_bytes([e0, e1]));
        let (vr, header, length) = match syntax::vr([v0, v1]) {
            Some(vr) if syntax::has_long_length(vr) => (vr, 12, u32::from_le_bytes(*rest.first_chunk()?)),
            Some(vr) => (vr, 8, u32::from(u16::from_le_bytes([l0, l1]))),
            None => {
                let vr = syntax::dictionary_vr(tag, false).unwrap_or(VR::UN);
                (vr, 8, u32::from_le_bytes([v0, v1, l0, l1]))
            }
        };
        Some(Self {
            tag,
            vr,
            header,
            length,
        })
    }
}

/// The transfer syntax of a data set that has no meta, by its first element.
fn sniff(bytes: &[u8]) -> Result<Uid> {
    let Some(&[g0, g1, e0, e1, v0, v1, ..]) = bytes.first_chunk::<SNIFF_BYTES>() else {
        return Err(invalid(
            "the file has no data set and does not say its transfer syntax",
        ));
    };
    let explicit = syntax::vr([v0, v1]).is_some();
    let little = Tag(u16::from_le_bytes([g0, g1]), u16::from_le_bytes([e0, e1]));
    let big = Tag(u16::from_be_bytes([g0, g1]), u16::from_be_bytes([e0, e1]));
    let known = |tag: Tag| tag.0 >= 8 && syntax::dictionary_vr(tag, false).is_some();
    let found = match explicit {
        true if known(big) && !known(little) => syntax::EXPLICIT_BIG,
        true if known(little) => syntax::EXPLICIT_LITTLE,
        false if known(little) => syntax::IMPLICIT_LITTLE,
        _ => {
            return Err(invalid(
                "not a DICOM file: neither \"DICM\" nor a known first element",
            ));
        }
    };
    Ok(Uid::constant(found))
}

fn invalid(context: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, "part10.read", context)
}

/// What to say in front of a stored data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Media Storage SOP Class UID (0002,0002).
    pub sop_class: Uid,
    /// Media Storage SOP Instance UID (0002,0003).
    pub sop_instance: Uid,
    /// Transfer Syntax UID (0002,0010).
    pub transfer_syntax: Uid,
    /// Source Application Entity Title (0002,0016).
    pub source: Option<AeTitle>,
    /// Sending Application Entity Title (0002,0017).
    pub sending: Option<AeTitle>,
    /// Receiving Application Entity Title (0002,0018).
    pub receiving: Option<AeTitle>,
}

impl Meta {
    /// Without the application entities that had it.
    pub fn new(sop_class: Uid, sop_instance: Uid, transfer_syntax: Uid) -> Self {
        Self {
            sop_class,
            sop_instance,
            transfer_syntax,
            source: None,
            sending: None,
            receiving: None,
        }
    }
}

/// Writes preamble, "DICM" and File Meta Information (PS3.10 7.1); the data set follows at once.
pub fn write_meta(meta: &Meta) -> Bytes {
    write(meta, None)
}

/// The same, with what a coercion put in place of attributes of the data set.
///
/// # Errors
/// `Invalid` when it is longer than what a File Meta Information holds.
pub(crate) fn write_meta_coerced(meta: &Meta, coerced: &DataSet) -> Result<Bytes> {
    let information = compact::to_bytes(coerced);
    // The other elements are a few hundred bytes.
    if information.len() > limits::FILE_META_LENGTH_MAX_BYTES - OTHERS_LENGTH_MAX_BYTES {
        return Err(Error::new(
            ErrorKind::Invalid,
            "part10.write",
            "what is coerced is longer than a File Meta Information holds",
        ));
    }
    Ok(write(meta, Some(&information)))
}

/// What a coercion put in place of attributes of the data set, as the meta says.
///
/// # Errors
/// `Corrupt` when it says that there is such, and it can't be read.
pub(crate) fn coerced(meta: &FileMeta) -> Result<Option<DataSet>> {
    let creator = meta.elements.string(tags::PRIVATE_INFORMATION_CREATOR_UID);
    if creator != Some(COERCION_UID.as_str()) {
        return Ok(None);
    }
    let information = meta.elements.get(tags::PRIVATE_INFORMATION);
    let Some(Value::Bytes(bytes)) = information.map(|element| &element.value) else {
        return Err(Error::new(
            ErrorKind::Corrupt,
            "part10.coerced",
            "what was coerced is missing",
        ));
    };
    // What is of odd length has been padded, and no element is that short.
    let unpadded = bytes.strip_suffix(&[0]).map(|unpadded| bytes.slice_ref(unpadded));
    match (compact::from_bytes(bytes), unpadded) {
        (Err(_), Some(unpadded)) => compact::from_bytes(&unpadded).map(Some),
        (read, _) => read.map(Some),
    }
}

fn write(meta: &Meta, coerced: Option<&[u8]>) -> Bytes {
    let mut group = Vec::with_capacity(384);
    // File Meta Information Version: 00 01.
    put(&mut group, tags::FILE_META_INFORMATION_VERSION, VR::OB, &[0, 1]);
    let uids = [
        (tags::MEDIA_STORAGE_SOP_CLASS_UID, &meta.sop_class),
        (tags::MEDIA_STORAGE_SOP_INSTANCE_UID, &meta.sop_instance),
        (tags::TRANSFER_SYNTAX_UID, &meta.transfer_syntax),
        (tags::IMPLEMENTATION_CLASS_UID, &IMPLEMENTATION_CLASS_UID),
    ];
    for (tag, uid) in uids {
        put(&mut group, tag, VR::UI, uid.as_bytes());
    }
    put(
        &mut group,
        tags::IMPLEMENTATION_VERSION_NAME,
        VR::SH,
        IMPLEMENTATION_VERSION_NAME.as_bytes(),
    );
    let titles = [
        (tags::SOURCE_APPLICATION_ENTITY_TITLE, &meta.source),
        (tags::SENDING_APPLICATION_ENTITY_TITLE, &meta.sending),
        (tags::RECEIVING_APPLICATION_ENTITY_TITLE, &meta.receiving),
    ];
    for (tag, title) in titles {
        if let Some(title) = title {
            put(&mut group, tag, VR::AE, title.as_bytes());
        }
    }
    if let Some(coerced) = coerced {
        put(
            &mut group,
            tags::PRIVATE_INFORMATION_CREATOR_UID,
            VR::UI,
            COERCION_UID.as_bytes(),
        );
        put(&mut group, tags::PRIVATE_INFORMATION, VR::OB, coerced);
    }
    let mut out = vec![0; PREAMBLE_BYTES];
    out.reserve_exact(4 + 12 + group.len());
    out.extend_from_slice(b"DICM");
    // UIDs and titles of at most 64 bytes, and what was held against a limit: far below 4 GiB.
    let length = (group.len() as u32).to_le_bytes();
    put(
        &mut out,
        tags::FILE_META_INFORMATION_GROUP_LENGTH,
        VR::UL,
        &length,
    );
    out.extend_from_slice(&group);
    Bytes::from(out)
}

/// Appends one element in Explicit VR Little Endian; `value` is at most a few hundred bytes, or has a VR with
/// a long length.
fn put(out: &mut Vec<u8>, tag: Tag, vr: VR, value: &[u8]) {
    let padded = value.len() + value.len() % 2;
    out.extend_from_slice(&tag.0.to_le_bytes());
    out.extend_from_slice(&tag.1.to_le_bytes());
    out.extend_from_slice(&vr.to_bytes());
    if syntax::has_long_length(vr) {
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&(padded as u32).to_le_bytes());
    } else {
        out.extend_from_slice(&(padded as u16).to_le_bytes());
    }
    out.extend_from_slice(value);
    if padded > value.len() {
        out.push(if matches!(vr, VR::UI | VR::OB) { 0 } else { b' ' });
    }
}

#[cfg(test)]
mod tests;
