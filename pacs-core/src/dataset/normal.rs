//! Brings the text of a data set to normal form once its character sets are known.

use bytes::Bytes;
use dicom_core::Tag;

use super::charset::CharacterSet;
use super::model::{DataSet, Value};
use super::syntax;

/// Specific Character Set.
pub(crate) const SPECIFIC_CHARACTER_SET: Tag = Tag(0x0008, 0x0005);

/// Decodes all text to UTF-8, by the Specific Character Set of the data set or, where it has none,
/// by that of the data set around it (PS3.5 7.5.3).
///
/// Items are nested at most [`limits::SEQUENCE_DEPTH_MAX`](crate::limits::SEQUENCE_DEPTH_MAX) deep:
/// the scan made sure, so the recursion is bounded.
pub(crate) fn decode(set: &mut DataSet, around: &CharacterSet) {
    let own = set
        .get(SPECIFIC_CHARACTER_SET)
        .map(|element| CharacterSet::parse(&String::from_utf8_lossy(element.bytes())));
    let charset = own.as_ref().unwrap_or(around);
    for element in set.elements_mut() {
        match &mut element.value {
            Value::Items(items) => {
                for item in items {
                    decode(item, charset);
                }
            }
            Value::Bytes(bytes) if syntax::is_text(element.vr) => {
                // Plain ASCII is what it is in every set; 0x1B switches sets.
                if bytes.iter().any(|&byte| byte >= 0x80 || byte == 0x1B) {
                    *bytes = Bytes::from(charset.decode(element.vr, bytes));
                }
            }
            Value::Bytes(_) => {}
        }
    }
}
