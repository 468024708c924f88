//! What the reference says must be answered.

use dicom_core::VR;
use dicom_dictionary_std::tags;
use pacs_core::query::Query;
use pacs_core::testkit::reference::{Reference, matches};
use pacs_core::{DataSet, Level};

use crate::cases::Case;
use crate::clients::{Outcome, in_one_form};

/// What a server that is called `title` must answer.
pub(crate) fn expected(reference: &Reference, case: &Case, title: &str) -> Outcome {
    if case.refused {
        return Outcome::Refused;
    }
    let mut keys = case.keys.clone();
    for tag in &case.ignored {
        keys.remove(*tag);
    }
    let query = Query::new(case.model, case.level, keys, case.options);
    let answers = reference.answers(&query).into_values().map(|record| {
        let mut answer = returned(&query, &case.keys, &record);
        answer.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, case.level.as_str());
        answer.put_text(tags::RETRIEVE_AE_TITLE, VR::AE, title);
        in_one_form(&answer)
    });
    Outcome::of(case.level, answers)
}

/// Each key with the value of the record, of a sequence the items that match (PS3.4 C.2.2.3, C.2.2.2.6).
fn returned(query: &Query, keys: &DataSet, record: &DataSet) -> DataSet {
    let mut out = DataSet::new();
    for key in keys.iter() {
        if key.vr != VR::SQ {
            match record.get(key.tag) {
                Some(element) => out.put(element.clone()),
                None => out.put_text(key.tag, key.vr, ""),
            }
            continue;
        }
        let known = record.items(key.tag).iter();
        let items = match keys.items(key.tag).first() {
            None => known.cloned().collect(),
            Some(nested) => {
                let query = Query::new(query.model(), Level::Instance, nested.clone(), query.options());
                let matching = known.filter(|item| matches(&query, item));
                matching.map(|item| returned(&query, nested, item)).collect()
            }
        };
        out.put_items(key.tag, items);
    }
    out
}
