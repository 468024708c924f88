//! [`Known`]: what an instance says itself of whom it is of, so that it can be found in its free text.

use std::collections::BTreeSet;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use crate::dataset::{DataSet, Element, Value, standard_vr};

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

/// Identifying values, in lower case, the longest first.
pub(super) struct Known(Vec<String>);

impl Known {
    /// Of a header: those of attributes that `gives_way` says don't stay.
    pub(super) fn of(header: &DataSet, gives_way: &dyn Fn(&Element) -> bool) -> Self {
        let mut all = BTreeSet::new();
        collect(header, gives_way, &mut all);
        let mut all: Vec<String> = all.into_iter().collect();
        all.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self(all)
    }

    /// `text` without them, wherever one stands as a word or words of its own.
    pub(super) fn without(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.0 {
            let (lower, places) = lowered(&text);
            let mut made = String::new();
            let mut taken = 0;
            for (at, _) in lower.match_indices(value.as_str()) {
                let (at, end) = (places[at], places[at + value.len()]);
                let before = text[..at].chars().next_back();
                let after = text[end..].chars().next();
                let inside = |beside: Option<char>, edge: Option<char>| {
                    beside.is_some_and(char::is_alphanumeric) && !edge.is_some_and(has_no_spaces)
                };
                let is_within =
                    inside(before, value.chars().next()) || inside(after, value.chars().next_back());
                // A letter may be longer in lower case, so one may end within it.
                if is_within || at < taken || at >= end {
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

/// The text in lower case, and where each byte of that, and its end, is in the text.
fn lowered(text: &str) -> (String, Vec<usize>) {
    let (mut lower, mut places) = (
        String::with_capacity(text.len()),
        Vec::with_capacity(text.len() + 1),
    );
    for (at, letter) in text.char_indices() {
        lower.extend(letter.to_lowercase());
        places.resize(lower.len(), at);
    }
    places.push(text.len());
    (lower, places)
}

/// Whether words are written next to each other with it: Thai, Chinese, Japanese, Korean.
fn has_no_spaces(letter: char) -> bool {
    matches!(
        letter,
        '\u{0E00}'..='\u{0E7F}' | '\u{1100}'..='\u{11FF}' | '\u{3005}'..='\u{30FF}' | '\u{3130}'..='\u{318F}'
            | '\u{3400}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7AF}' | '\u{F900}'..='\u{FAFF}' | '\u{FF66}'..='\u{FF9F}'
            | '\u{20000}'..='\u{3FFFF}'
    )
}

/// Items are nested at most as deep as the scan lets them, so the recursion is bounded. What stands outside of them comes
/// first.
fn collect(set: &DataSet, gives_way: &dyn Fn(&Element) -> bool, all: &mut BTreeSet<String>) {
    for element in set
        .iter()
        .filter(|element| matches!(element.value, Value::Bytes(_)))
    {
        // A sender may have told another VR.
        let is_name = element.vr == VR::PN || standard_vr(element.tag) == Some(VR::PN);
        let gives_way = match is_name && element.vr != VR::PN {
            true => gives_way(&Element {
                vr: VR::PN,
                ..element.clone()
            }),
            false => gives_way(element),
        };
        if !gives_way || !(is_name || IDENTIFIERS.contains(&element.tag)) {
            continue;
        }
        for value in element.strings() {
            let value = value.trim().to_lowercase();
            if is_name {
                let parts = value.split(['^', '=', ' ', ',']);
                let parts = parts.flat_map(|part| std::iter::once(part).chain(part.split(['-', '\''])));
                let parts = parts.filter(|part| {
                    part.chars().count() >= NAME_LENGTH_MIN || part.chars().any(has_no_spaces)
                });
                all.extend(parts.map(str::to_owned));
            }
            if value.chars().count() >= ID_LENGTH_MIN {
                all.insert(value);
            }
        }
        if all.len() >= VALUES_MAX {
            return;
        }
    }
    for element in set.iter() {
        if let Value::Items(items) = &element.value {
            items.iter().for_each(|item| collect(item, gives_way, all));
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
        assert_eq!(known.without("MÜLLER. EVANS"), "***. EVANS");
        set.put_text(tags::PATIENT_NAME, VR::PN, "Meier-O'Hara^A=山田^太郎=やまだ");
        let known = Known::of(&set, &|_| true);
        assert_eq!(
            known.without("山田太郎様 of Meier, or Hara; İ stays"),
            "******様 of ***, or ***; İ stays"
        );
        let stays = Known::of(&set, &|element| element.vr != VR::PN);
        assert_eq!(stays.without("Müller 4711-A"), "Müller ***");
    }
}
