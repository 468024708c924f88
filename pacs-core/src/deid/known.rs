//! [`Known`]: what an instance says itself of whom it is of, so that it can be found in its free text.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use crate::dataset::{DataSet, Element, Value};

/// What stands in the place of an identifying value.
const REMOVED: &str = "***";
/// A shorter part of a name stands in too many words.
const NAME_LENGTH_MIN: usize = 2;
/// A shorter number is any number.
const ID_LENGTH_MIN: usize = 4;
/// Values of one instance that are looked for; real ones have some ten.
const VALUES_MAX: usize = 1000;

/// Attributes whose whole value identifies somebody or someplace, beside every name of a person.
const IDENTIFIERS: [Tag; 17] = [
    tags::ACCESSION_NUMBER,
    tags::INSTITUTION_NAME,
    tags::INSTITUTION_ADDRESS,
    tags::STATION_NAME,
    tags::INSTITUTIONAL_DEPARTMENT_NAME,
    tags::PATIENT_ID,
    tags::PATIENT_BIRTH_DATE,
    // Other Patient IDs, which is retired.
    Tag(0x0010, 0x1000),
    tags::PATIENT_ADDRESS,
    // Medical Record Locator, which is retired.
    Tag(0x0010, 0x1090),
    tags::MILITARY_RANK,
    tags::PATIENT_TELEPHONE_NUMBERS,
    tags::DEVICE_SERIAL_NUMBER,
    tags::STUDY_ID,
    tags::ADMISSION_ID,
    tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST,
    tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST,
];

/// Identifying values, in ASCII lower case, the longest first.
pub(super) struct Known(Vec<String>);

impl Known {
    /// Of a header: those of attributes that `gives_way` says don't stay.
    pub(super) fn of(header: &DataSet, gives_way: &dyn Fn(&Element) -> bool) -> Self {
        let mut all = Vec::new();
        collect(header, gives_way, &mut all);
        all.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        all.dedup();
        Self(all)
    }

    /// `text` without them, wherever one stands as a word or words of its own.
    pub(super) fn without(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.0 {
            // ASCII alone changes its case, so every byte keeps its place.
            let lower = text.to_ascii_lowercase();
            let mut made = String::new();
            let mut taken = 0;
            for (at, _) in lower.match_indices(value.as_str()) {
                let end = at + value.len();
                let before = text[..at].chars().next_back();
                let after = text[end..].chars().next();
                let inside = |beside: Option<char>| beside.is_some_and(char::is_alphanumeric);
                if inside(before) || inside(after) {
                    continue;
                }
                made.push_str(&text[taken..at]);
                made.push_str(REMOVED);
                taken = end;
            }
            if taken > 0 {
                made.push_str(&text[taken..]);
                text = made;
            }
        }
        text
    }
}

/// Items are nested at most as deep as the scan lets them, so the recursion is bounded.
fn collect(set: &DataSet, gives_way: &dyn Fn(&Element) -> bool, all: &mut Vec<String>) {
    for element in set.iter() {
        if let Value::Items(items) = &element.value {
            for item in items {
                collect(item, gives_way, all);
            }
            continue;
        }
        let is_name = element.vr == VR::PN;
        if !(is_name || IDENTIFIERS.contains(&element.tag)) || !gives_way(element) {
            continue;
        }
        for value in element.strings() {
            let value = value.trim().to_ascii_lowercase();
            if is_name {
                let parts = value.split(['^', '=', ' ', ',']);
                let parts = parts.filter(|part| part.chars().count() >= NAME_LENGTH_MIN);
                all.extend(parts.map(str::to_owned));
            }
            if value.chars().count() >= ID_LENGTH_MIN {
                all.push(value);
            }
        }
        if all.len() >= VALUES_MAX {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found_as_words_in_any_case() {
        let mut set = DataSet::new();
        set.put_text(tags::PATIENT_NAME, VR::PN, "Müller^Eva=Yamada^X");
        set.put_text(tags::PATIENT_ID, VR::LO, "4711-A");
        let known = Known::of(&set, &|_| true);
        assert_eq!(
            known.without("Evaluation of Müller, EVA (4711-a, not 14711-A)"),
            "Evaluation of ***, *** (***, not 14711-A)"
        );
        assert_eq!(known.without("nobody"), "nobody");
        let stays = Known::of(&set, &|element| element.vr != VR::PN);
        assert_eq!(stays.without("Müller 4711-A"), "Müller ***");
    }
}
