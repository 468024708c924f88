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

/// Whether an attribute says which instance it is of, how it is read or what its pixels are, or is none of a data set:
/// then it leaves as it came.
pub(crate) fn is_fixed(tag: Tag) -> bool {
    let identifies = [
        SPECIFIC_CHARACTER_SET,
        tags::SOP_CLASS_UID,
        tags::SOP_INSTANCE_UID,
        tags::STUDY_INSTANCE_UID,
        tags::SERIES_INSTANCE_UID,
    ];
    identifies.contains(&tag) || !(0x0008..0x7FE0).contains(&tag.0) || tag.0 == 0x0028 || tag.1 == 0
}

/// Names, in what leaves with further changes, the attributes that are left out; it is kept nowhere.
const REMOVED: Tag = tags::NONCONFORMING_MODIFIED_ATTRIBUTES_SEQUENCE;

/// What was coerced, with changes for one receiver over it: nothing of these is noted in what leaves. `charset` is that
/// of the instance where text beyond ASCII is put.
pub(crate) fn changed(
    coerced: Option<&DataSet>,
    set: &DataSet,
    remove: &[Tag],
    charset: Option<&CharacterSet>,
) -> DataSet {
    let mut changed = coerced.cloned().unwrap_or_default();
    if let (Some(charset), false) = (charset, changed.contains(SPECIFIC_CHARACTER_SET)) {
        changed.put_text(SPECIFIC_CHARACTER_SET, VR::CS, charset.value());
    }
    let mut removed = DataSet::new();
    for tag in remove {
        changed.remove(*tag);
        removed.put_text(*tag, VR::UN, "");
    }
    for element in set.iter() {
        removed.remove(element.tag);
        changed.put(element.clone());
    }
    if !removed.is_empty() {
        changed.put_items(REMOVED, vec![removed]);
    }
    changed
}

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
        REMOVED,
    ];
    let tags = coerced.iter().map(|element| element.tag);
    tags.filter(move |tag| !bookkeeping.contains(tag))
}

/// The elements that take the place of those of the header.
pub(crate) fn replaced(coerced: &DataSet) -> DataSet {
    parts(coerced).put
}

/// The coercion as what a [`Recoder`](super::recode::Recoder) puts in place of the source's elements.
pub fn overrides(coerced: &DataSet) -> Overrides {
    let Parts { charset, put, remove } = parts(coerced);
    Overrides { put, charset, remove }
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
    let Parts { charset, put, remove } = parts(coerced);
    let splicer = Splicer::new(transfer_syntax, charset, put, &remove, length);
    Ok(splice::splice(splicer, data_set))
}

/// What a coercion means for the bytes of the data set.
struct Parts {
    /// What text is written in.
    charset: CharacterSet,
    put: DataSet,
    remove: Vec<Tag>,
}

fn parts(coerced: &DataSet) -> Parts {
    let mut put = coerced.clone();
    put.remove(AMENDED);
    let remove = put.items(REMOVED).iter();
    let remove = remove
        .flat_map(|item| item.iter().map(|element| element.tag))
        .collect();
    put.remove(REMOVED);
    let named = put.get(SPECIFIC_CHARACTER_SET);
    let charset = named.map(|element| CharacterSet::parse(&String::from_utf8_lossy(element.bytes())));
    let charset = charset.unwrap_or_default();
    if charset != CharacterSet::utf8() {
        put.remove(SPECIFIC_CHARACTER_SET);
    }
    Parts { charset, put, remove }
}
