//! What takes the place of attributes of a stored instance on its way out (PS3.4 B.4.1.3).
//!
//! The stored data set stays byte for byte what came. What differs is a small [`DataSet`] in normal form that
//! is kept beside it, in [`InstanceRecord::coerced`](crate::index::InstanceRecord::coerced) and, for the index
//! is derived, in the File Meta Information of the stored instance: the elements that were coerced, and
//! Original Attributes Sequence (0400,0561), complete. Specific Character Set (0008,0005) in it says what text is
//! written in: it is the one of the instance and no change; or UTF-8, where an instance in plain ASCII got
//! values that this can't say. Modified Attributes Sequence (0400,0550) at its top level names, in one item, the
//! attributes that were amended since the instance came; it does not leave.

use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use futures::stream::BoxStream;

use super::charset::CharacterSet;
use super::model::DataSet;
use super::normal::SPECIFIC_CHARACTER_SET;
use super::recode::Overrides;
use super::splice::{self, Splicer};
use super::syntax;
use crate::error::{Error, ErrorKind, Result};
use crate::uid::Uid;

/// Names what was amended, and is no attribute of the instance.
pub(crate) const AMENDED: Tag = tags::MODIFIED_ATTRIBUTES_SEQUENCE;

/// The attributes that were amended since the instance came.
pub(crate) fn amended(coerced: &DataSet) -> impl Iterator<Item = Tag> {
    let items = coerced.items(AMENDED).iter();
    items.flat_map(|item| item.iter().map(|element| element.tag))
}

/// Notes that these were amended, too.
pub(crate) fn note_amended(coerced: &mut DataSet, wanted: &DataSet) {
    let mut item = coerced.items(AMENDED).first().cloned().unwrap_or_default();
    for tag in attributes(wanted) {
        item.put_text(tag, VR::UN, "");
    }
    coerced.put_items(AMENDED, vec![item]);
}

/// The attributes that were coerced, or amended.
pub fn attributes(coerced: &DataSet) -> impl Iterator<Item = Tag> {
    let bookkeeping = [
        SPECIFIC_CHARACTER_SET,
        tags::ORIGINAL_ATTRIBUTES_SEQUENCE,
        AMENDED,
    ];
    let tags = coerced.iter().map(|element| element.tag);
    tags.filter(move |tag| !bookkeeping.contains(tag))
}

/// The elements that take the place of those of the header.
pub(crate) fn replaced(coerced: &DataSet) -> DataSet {
    parts(coerced).1
}

/// The coercion as what a [`Recoder`](super::recode::Recoder) puts in place of the source's elements.
pub fn overrides(coerced: &DataSet) -> Overrides {
    let (charset, put) = parts(coerced);
    Overrides {
        put,
        charset,
        remove: Vec::new(),
    }
}

/// Hands out a stored data set, in its own transfer syntax, with the coercion applied: elements are replaced
/// or added in order of tag, every other byte stays. `length` is that of the stored data set.
///
/// The stream fails with `Invalid` when the data set is cut off so that nothing can be put in.
///
/// # Errors
/// `Unsupported` for a deflated transfer syntax.
pub fn apply(
    coerced: &DataSet,
    transfer_syntax: &Uid,
    length: u64,
    data_set: BoxStream<'static, Result<Bytes>>,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    if syntax::is_deflated(transfer_syntax) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "data_set.splice",
            "a coercion can't be applied to a deflated data set",
        ));
    }
    let (charset, put) = parts(coerced);
    let splicer = Splicer::new(transfer_syntax, charset, put, length);
    Ok(splice::splice(splicer, data_set))
}

/// The Specific Character Set that text is written in, and what is written.
fn parts(coerced: &DataSet) -> (CharacterSet, DataSet) {
    let mut put = coerced.clone();
    put.remove(AMENDED);
    let named = put.get(SPECIFIC_CHARACTER_SET);
    let charset = named.map(|element| CharacterSet::parse(&String::from_utf8_lossy(element.bytes())));
    let charset = charset.unwrap_or_default();
    if charset != CharacterSet::utf8() {
        put.remove(SPECIFIC_CHARACTER_SET);
    }
    (charset, put)
}
