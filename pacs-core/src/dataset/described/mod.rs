//! What the two models of PS3.18 annex F and PS3.19 annex A have in common: a data set whose bulk data lies
//! elsewhere, as text.

pub mod base64;
pub(super) mod merge;
pub(super) mod values;

#[cfg(test)]
pub(super) mod arbitrary;

use dicom_core::{Tag, VR};

use super::metadata::ElementPath;
use super::model::{DataSet, Element, Value};
use super::normal::SPECIFIC_CHARACTER_SET;
use super::syntax;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// A data set as it was described, whose bulk data lies elsewhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Described {
    /// Its elements, in normal form, without those in `bulk` and without Group Length. File Meta Information
    /// (group 0002) is among them, where it was described.
    pub header: DataSet,
    /// The elements whose value lies elsewhere, in order of their paths.
    pub bulk: Vec<BulkReference>,
}

/// An element whose value lies elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkReference {
    /// The element.
    pub path: ElementPath,
    /// Its VR.
    pub vr: VR,
    /// Where its value lies, as it was written.
    pub uri: String,
}

/// The Specific Character Set of both models is UTF-8 (PS3.18 F.2, PS3.19 A.1.5).
pub(super) const UTF8: &str = "ISO_IR 192";

/// Whether an element stands in neither model: Group Length (PS3.18 F.2.2), padding, and what is no part of a data
/// set.
pub(super) fn is_left_out(tag: Tag) -> bool {
    tag.1 == 0 || matches!(tag.0, 0 | 0x0002 | 0xFFFE) || tag == Tag(0xFFFC, 0xFFFC)
}

/// Whether Specific Character Set must be named beside what the data set names.
pub(super) fn needs_charset(set: &DataSet) -> bool {
    fn is_beyond_ascii(set: &DataSet) -> bool {
        set.iter().any(|element| match &element.value {
            Value::Items(items) => items.iter().any(is_beyond_ascii),
            Value::Bytes(bytes) => syntax::has_character_set(element.vr) && !bytes.is_ascii(),
        })
    }
    !set.contains(SPECIFIC_CHARACTER_SET) && is_beyond_ascii(set)
}

/// Elements of one data set or item as they are read, the bulk data of all.
#[derive(Default)]
pub(super) struct Reading {
    /// Where it is being read.
    pub(super) within: ElementPath,
    pub(super) bulk: Vec<BulkReference>,
}

impl Reading {
    /// Notes that a value lies elsewhere.
    pub(super) fn refer(&mut self, tag: Tag, vr: VR, uri: String) {
        let path = self.within.clone().with_tag(tag);
        self.bulk.push(BulkReference { path, vr, uri });
    }

    /// Demands that an item may be gone into.
    pub(super) fn check_depth(&self, tag: Tag) -> Result<()> {
        if self.within.items().count() >= limits::SEQUENCE_DEPTH_MAX {
            return Err(invalid("sequences are nested too deep").with_tag(tag));
        }
        Ok(())
    }

    /// Goes into an item.
    pub(super) fn enter(&mut self, tag: Tag, item: usize) -> Result<()> {
        self.check_depth(tag)?;
        self.within.enter(tag, u32::try_from(item).unwrap_or(u32::MAX));
        Ok(())
    }

    /// What was read, and what bulk data it has.
    pub(super) fn finish(&mut self, header: DataSet) -> Described {
        let mut bulk = std::mem::take(&mut self.bulk);
        bulk.sort_by(|a, b| a.path.cmp(&b.path));
        Described { header, bulk }
    }
}

/// The VR with these letters.
pub(super) fn parse_vr(letters: &str) -> Option<VR> {
    syntax::vr(letters.as_bytes().try_into().ok()?)
}

/// An element of a sequence.
pub(super) fn sequence(tag: Tag, items: Vec<DataSet>) -> Element {
    Element {
        tag,
        vr: VR::SQ,
        value: Value::Items(items),
    }
}

pub(super) fn check_length(bytes: &[u8]) -> Result<()> {
    if bytes.len() <= limits::DESCRIPTION_LENGTH_MAX_BYTES {
        return Ok(());
    }
    let what = "a description of instances is longer than what is read at once";
    Err(Error::new(ErrorKind::OutOfResources, "data_set.describe", what)
        .with_retry(crate::error::Retry::Never))
}

pub(super) fn invalid(context: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Invalid, "data_set.describe", context)
}
