//! What stands before the chunks of an instance, and before the contents of a file of a database.
//!
//! | bytes | |
//! | --- | --- |
//! | 0..8 | the magic number of the [`Form`] |
//! | 8 | version of this layout: 1 |
//! | 9 | the length of a unit of the form as a power of two: 16 of a chunk, 12 of a file |
//! | 10 | length of the name of the master key |
//! | 11 | 0 |
//! | 12..44 | the name, and zeros behind it |
//! | 44..52 | check value of the master key |
//! | 52..64 | nonce, random |
//! | 64..112 | the data key, by AES-256-GCM under the master key, with its tag; bytes 0..64 are authenticated with it |
//! | 112..120 | 0 |
//! | 120..128 | XXH3 of what stands before, little-endian: tells damage from a key that is missing or wrong |
//!
//! Each instance and each file has a data key of its own, so what follows is bound to its header by it: a chunk of
//! another instance doesn't open with it.

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use pacs_core::{Error, ErrorKind, Result};
use twox_hash::XxHash3_64;
use zeroize::Zeroizing;

use super::chunk::{CHUNK_BYTES, TAG_BYTES};
use super::keys::{
    CHECK_LENGTH_BYTES, KEY_ID_LENGTH_MAX_BYTES, KEY_LENGTH_BYTES, KeyId, Master, fill_random,
};
use super::xts::UNIT_BYTES;

pub(super) const HEADER_BYTES: usize = 128;

/// What a header stands before.
pub(super) struct Form {
    /// No text, no Part 10 stream, and 7 bits don't keep it.
    pub(super) magic: [u8; 8],
    /// What is encrypted as one, in bytes.
    unit_bytes: usize,
    /// In errors.
    name: &'static str,
    operation: &'static str,
}

pub(super) const INSTANCE: Form = Form {
    magic: *b"\x8EPACSenc",
    unit_bytes: CHUNK_BYTES,
    name: "instance",
    operation: "archive.read",
};

pub(super) const FILE: Form = Form {
    magic: *b"\x8EPACSxts",
    unit_bytes: UNIT_BYTES,
    name: "file",
    operation: "index.open",
};

impl Form {
    fn damaged(&self) -> Error {
        let why = format!("the encryption header of the {} is damaged", self.name);
        Error::new(ErrorKind::Corrupt, self.operation, why)
    }
}

/// The key of what follows a header.
pub(super) type RawKey = Zeroizing<[u8; KEY_LENGTH_BYTES]>;

const VERSION: u8 = 1;
const ID: usize = 12;
const CHECK: usize = ID + KEY_ID_LENGTH_MAX_BYTES;
const NONCE: usize = CHECK + CHECK_LENGTH_BYTES;
const WRAPPED: usize = NONCE + NONCE_LEN;
const WRAPPED_TAG: usize = WRAPPED + KEY_LENGTH_BYTES;
const RESERVED: usize = WRAPPED_TAG + TAG_BYTES;
const CHECKSUM: usize = HEADER_BYTES - 8;

/// A key that nothing was encrypted with yet.
pub(super) fn new_key() -> Result<RawKey> {
    let mut key = Zeroizing::new([0; KEY_LENGTH_BYTES]);
    fill_random(&mut *key)?;
    Ok(key)
}

/// Makes a header that has this key in it.
pub(super) fn wrap(form: &Form, master: &Master, key: &RawKey) -> Result<[u8; HEADER_BYTES]> {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&form.magic);
    header[8] = VERSION;
    header[9] = form.unit_bytes.trailing_zeros() as u8;
    let id = master.id.as_str().as_bytes();
    header[10] = id.len() as u8;
    header[ID..ID + id.len()].copy_from_slice(id);
    header[CHECK..NONCE].copy_from_slice(&master.check);
    fill_random(&mut header[NONCE..WRAPPED])?;
    let (before, behind) = header.split_at_mut(WRAPPED);
    let mut wrapped = key.clone();
    let tag = master
        .cipher
        .seal_in_place_separate_tag(nonce(before), Aad::from(&*before), &mut *wrapped)
        .map_err(|_| Error::new(ErrorKind::Internal, "key.wrap", "the key can't be wrapped"))?;
    behind[..KEY_LENGTH_BYTES].copy_from_slice(&*wrapped);
    behind[KEY_LENGTH_BYTES..][..TAG_BYTES].copy_from_slice(tag.as_ref());
    let checksum = XxHash3_64::oneshot(&header[..CHECKSUM]);
    header[CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
    Ok(header)
}

/// The nonce that stands in a header.
fn nonce(header: &[u8]) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes.copy_from_slice(&header[NONCE..WRAPPED]);
    Nonce::assume_unique_for_key(bytes)
}

/// A header whose checksum is right.
pub(super) struct Header {
    form: &'static Form,
    pub(super) bytes: [u8; HEADER_BYTES],
    /// The master key that it names.
    pub(super) id: KeyId,
}

impl Header {
    /// # Errors
    /// `Corrupt` when it is damaged, `Unsupported` when it is of another version.
    pub(super) fn read(form: &'static Form, bytes: &[u8; HEADER_BYTES]) -> Result<Self> {
        let checksum = XxHash3_64::oneshot(&bytes[..CHECKSUM]);
        if bytes[..8] != form.magic || bytes[CHECKSUM..] != checksum.to_le_bytes() {
            return Err(form.damaged());
        }
        if bytes[8] != VERSION || 1_usize.checked_shl(bytes[9].into()) != Some(form.unit_bytes) {
            let why = format!("the {} was encrypted by a later version", form.name);
            return Err(Error::new(ErrorKind::Unsupported, form.operation, why));
        }
        let length = usize::from(bytes[10]).min(KEY_ID_LENGTH_MAX_BYTES);
        let (id, filling) = bytes[ID..CHECK].split_at(length);
        let zeros = [&bytes[11..ID], filling, &bytes[RESERVED..CHECKSUM]];
        if zeros.into_iter().flatten().any(|byte| *byte != 0) {
            return Err(form.damaged());
        }
        let id = std::str::from_utf8(id).ok().and_then(|id| KeyId::parse(id).ok());
        Ok(Self {
            form,
            bytes: *bytes,
            id: id.ok_or_else(|| form.damaged())?,
        })
    }

    /// Gives the data key.
    ///
    /// # Errors
    /// `Refused` when it is another key of that name, `Corrupt` when the header is damaged.
    pub(super) fn open(&self, master: &Master) -> Result<RawKey> {
        if self.bytes[CHECK..NONCE] != master.check {
            let why = format!(
                "the key {} is not the one that the {} was written with",
                self.id, self.form.name
            );
            return Err(Error::new(ErrorKind::Refused, self.form.operation, why));
        }
        let mut wrapped = Zeroizing::new([0; KEY_LENGTH_BYTES + TAG_BYTES]);
        wrapped.copy_from_slice(&self.bytes[WRAPPED..RESERVED]);
        let aad = Aad::from(&self.bytes[..WRAPPED]);
        let opened = master
            .cipher
            .open_in_place(nonce(&self.bytes), aad, &mut *wrapped);
        let mut key = Zeroizing::new([0; KEY_LENGTH_BYTES]);
        key.copy_from_slice(opened.map_err(|_| self.form.damaged())?);
        Ok(key)
    }
}
