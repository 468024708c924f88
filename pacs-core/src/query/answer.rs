//! The response identifier of a match (PS3.4 C.4.1.1.3.2, C.2.2.3).

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::tags;

use super::Query;
use super::key::{Key, is_never_matched};
use crate::dataset::{DataSet, Element, Value, is_private_creator, standard_vr};

impl Query {
    /// The response identifier for an entity that matches: every key that was asked for, with the values
    /// of `record`, or without one where nothing is known; of a sequence the items that match, with the
    /// nested keys only; and Query/Retrieve Level.
    ///
    /// The caller adds what depends on who answers: Retrieve AE Title, Instance Availability, and,
    /// when it is encoded, Specific Character Set.
    pub fn answer(&self, record: &DataSet) -> DataSet {
        let mut out = answer(self.keys(), self.matching(), record);
        out.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, self.level().as_str());
        out
    }
}

pub(super) fn answer(keys: &DataSet, matching: &[Key], record: &DataSet) -> DataSet {
    let mut out = DataSet::new();
    for key in keys.iter() {
        if is_private_creator(key.tag) {
            out.put(key.clone());
            continue;
        }
        if is_never_matched(key.tag) && key.tag != tags::TIMEZONE_OFFSET_FROM_UTC {
            continue;
        }
        let vr = standard_vr(key.tag).unwrap_or(key.vr);
        let known = record.get(key.tag).filter(|element| !element.is_empty());
        let element = match (known, &key.value) {
            (Some(known), Value::Items(items)) => {
                let matching = matching.iter().find(|read| read.tag == key.tag);
                Element {
                    tag: key.tag,
                    vr: VR::SQ,
                    value: Value::Items(answer_items(known, items, matching)),
                }
            }
            (Some(known), Value::Bytes(_)) => known.clone(),
            (None, _) if vr == VR::SQ => Element {
                tag: key.tag,
                vr,
                value: Value::Items(Vec::new()),
            },
            (None, _) => Element {
                tag: key.tag,
                vr,
                value: Value::Bytes(Bytes::new()),
            },
        };
        out.put(element);
    }
    out
}

/// "A sequence of matching items containing only the requested attributes" (C.2.2.2.6).
fn answer_items(known: &Element, asked: &[DataSet], matching: Option<&Key>) -> Vec<DataSet> {
    let Value::Items(items) = &known.value else {
        return Vec::new();
    };
    // No item, or an empty one, asks for the whole sequence.
    let Some(asked) = asked.first().filter(|item| !item.is_empty()) else {
        return items.clone();
    };
    let nested = match matching.map(|key| &key.wanted) {
        Some(super::KeyMatch::Items(keys)) => keys.as_slice(),
        _ => &[],
    };
    items
        .iter()
        .filter(|item| nested.iter().all(|key| key.matches(item)))
        .map(|item| answer(asked, nested, item))
        .collect()
}
