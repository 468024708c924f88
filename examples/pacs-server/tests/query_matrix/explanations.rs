//! Why other servers answer otherwise, and what our side rests on.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use pacs_core::DataSet;
use pacs_core::dataset::Element;
use serde_json::Value;

use crate::clients::{in_one_form, key};
use crate::differences::{Difference, View};

/// All values of an attribute as they are stored.
pub(crate) fn stored(known: &DataSet, tag: Tag) -> String {
    known.strings(tag).collect::<Vec<_>>().join("\\")
}

fn text(key: &Element) -> String {
    key.strings().collect::<Vec<_>>().join("\\")
}

/// Letter by letter, with `*` and `?`.
fn literally(pattern: &str, text: &str) -> bool {
    fn wild(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|skipped| wild(rest, &text[skipped..])),
            Some((letter, rest)) => {
                let first = text.first();
                first.is_some_and(|c| *letter == '?' || c == letter) && wild(rest, &text[1..])
            }
        }
    }
    let letters = |text: &str| text.chars().collect::<Vec<_>>();
    wild(&letters(pattern), &letters(text))
}

fn without_case(pattern: &str, text: &str) -> bool {
    literally(&pattern.to_uppercase(), &text.to_uppercase())
}

fn is_wild(key: &Element) -> bool {
    text(key).contains(['*', '?'])
}

fn is_number(key: &Element) -> bool {
    matches!(key.vr, VR::IS | VR::DS)
}

/// One way in which a server differs, and what our side rests on.
pub(crate) struct Explanation {
    pub(crate) server: &'static str,
    pub(crate) what: &'static str,
    /// Clauses of PS3.4 where no other part is named.
    pub(crate) clause: &'static str,
    pub(crate) applies: fn(&View<'_>) -> bool,
}

const DCMQRSCP: &str = "dcmqrscp";
const ORTHANC: &str = "Orthanc";

/// The attributes of the matrix that dcmqrscp's index keeps.
const KEPT_BY_DCMQRSCP: [Tag; 20] = [
    tags::PATIENT_ID,
    tags::PATIENT_NAME,
    tags::PATIENT_BIRTH_DATE,
    tags::PATIENT_BIRTH_TIME,
    tags::PATIENT_SEX,
    tags::OTHER_PATIENT_NAMES,
    tags::PATIENT_COMMENTS,
    tags::STUDY_INSTANCE_UID,
    tags::STUDY_DATE,
    tags::STUDY_TIME,
    tags::STUDY_ID,
    tags::STUDY_DESCRIPTION,
    tags::ACCESSION_NUMBER,
    tags::REFERRING_PHYSICIAN_NAME,
    tags::NAME_OF_PHYSICIANS_READING_STUDY,
    tags::SERIES_INSTANCE_UID,
    tags::SERIES_NUMBER,
    tags::MODALITY,
    tags::SOP_INSTANCE_UID,
    tags::INSTANCE_NUMBER,
];

/// The first that applies counts.
pub(crate) const EXPLANATIONS: &[Explanation] = &[
    Explanation {
        server: DCMQRSCP,
        what: "keeps few attributes: keys of others neither restrict nor come back",
        clause: "they are optional keys, C.2.2.1.3; we keep and derive them",
        applies: |view| {
            view.extra_without(|key| !KEPT_BY_DCMQRSCP.contains(&key.tag))
                || view
                    .value()
                    .is_some_and(|(tag, _, theirs)| theirs.is_none() && !KEPT_BY_DCMQRSCP.contains(&tag))
        },
    },
    Explanation {
        server: DCMQRSCP,
        what: "answers an attribute of a level below with that of some instance",
        clause: "a key of a level below comes back without a value, C.2.2.1.3",
        applies: |view| {
            view.value()
                .is_some_and(|(tag, ours, _)| view.case.ignored.contains(&tag) && ours == "")
        },
    },
    Explanation {
        server: DCMQRSCP,
        what: "takes several values in a key for one",
        clause: "any of them matches, as in a list of UIDs, C.2.2.2.2; each, once C.2.2.2.8 is negotiated",
        applies: |view| view.missing(|key, _| key.strings().count() > 1),
    },
    Explanation {
        server: DCMQRSCP,
        what: "takes several values of an attribute for one",
        clause: "a match of any value is a match, C.2.2.2",
        applies: |view| {
            view.missing(|key, stored| {
                let mut values = stored.split('\\');
                stored.contains('\\')
                    && !literally(&text(key), stored)
                    && values.any(|v| without_case(&text(key), v))
            })
        },
    },
    Explanation {
        server: DCMQRSCP,
        what: "takes \"\" for two letters",
        clause: "empty value matching, C.2.2.2.7; here without negotiation too",
        applies: |view| view.missing(|key, stored| text(key) == "\"\"" && stored.is_empty()),
    },
    Explanation {
        server: DCMQRSCP,
        what: "finds nothing by * in a date or number, and nothing without a value by it",
        clause: "no wild card of C.2.2.2.4; many SCUs send it, so * alone is universal here for every VR",
        applies: |view| view.missing(|key, _| text(key) == "*"),
    },
    Explanation {
        server: DCMQRSCP,
        what: "knows no wild cards in text of VR LT",
        clause: "C.2.2.2.4 names LT",
        applies: |view| view.missing(|key, _| key.vr == VR::LT && is_wild(key)),
    },
    Explanation {
        server: DCMQRSCP,
        what: "compares numbers letter by letter",
        clause: "left open by the Standard (CP-2305); here as numbers",
        applies: |view| view.missing(|key, stored| is_number(key) && text(key) != stored),
    },
    Explanation {
        server: DCMQRSCP,
        what: "finds no time of less precision than the key, or more",
        clause: "a time stands for the span that it names, PS3.5 6.2 and C.2.2.2.5.2",
        applies: |view| {
            view.missing(|key, stored| key.vr == VR::TM && (stored.len() != 6 || text(key).len() < 6))
        },
    },
    Explanation {
        server: DCMQRSCP,
        what: "compares names letter by letter: case, accents, trailing ^ and component groups count",
        clause: "left open by C.2.2.2.1; here none of these counts, and each group (PS3.5 6.2.1) is compared",
        applies: |view| view.missing(|key, stored| key.vr == VR::PN && !literally(&text(key), stored)),
    },
    Explanation {
        server: DCMQRSCP,
        what: "does not compare names by their letters where a set has code extensions",
        clause: "text is compared, whatever set it is written in, C.2.2.2 and C.4.1.1.3.1",
        applies: |view| {
            // Those sets of the matrix that have escape sequences are of East Asia.
            let switched = |text: &str| text.chars().any(|c| c > '\u{3000}');
            view.missing(|key, stored| key.vr == VR::PN && switched(stored))
        },
    },
    Explanation {
        server: DCMQRSCP,
        what: "answers without the unique keys above, also with several or a wild card",
        clause: "they must be single values, C.4.1.2.1",
        applies: |view| matches!(view.difference, Difference::NotRefused),
    },
    Explanation {
        server: ORTHANC,
        what: "does not match sequences, and answers them whole",
        clause: "the items that match, with the attributes asked for, C.2.2.2.6",
        applies: |view| {
            let asked = |tag: Tag| {
                view.case
                    .keys
                    .get(tag)
                    .is_some_and(|key| key.vr == VR::SQ && !key.is_empty())
            };
            view.extra_without(|key| key.vr == VR::SQ)
                || view.value().is_some_and(|(tag, _, theirs)| {
                    asked(tag)
                        && theirs.map(without_empty)
                            == in_one_form(&view.known).get(&key(tag)).map(without_empty)
                })
        },
    },
    Explanation {
        server: ORTHANC,
        what: "answers attributes without a value inside a sequence that is asked for whole",
        clause: "our index keeps no attribute without a value: here we answer less",
        applies: |view| {
            view.value().is_some_and(|(_, ours, theirs)| {
                ours.is_array() && theirs.is_some_and(|theirs| without_empty(ours) == without_empty(theirs))
            })
        },
    },
    Explanation {
        server: ORTHANC,
        what: "finds what has no value by a range without a beginning",
        clause: "nothing is no date or time in a range, C.2.2.2.5",
        applies: |view| view.extra(|key, stored| text(key).starts_with('-') && stored.is_empty()),
    },
    Explanation {
        server: ORTHANC,
        what: "compares times and date-times as text, whatever their precision and offset",
        clause: "a value stands for the span that it names, PS3.5 6.2 and C.2.2.2.5",
        applies: |view| {
            let by_text = |key: &Element, stored: &str| {
                matches!(key.vr, VR::TM | VR::DT) && in_range_as_text(&text(key), stored)
            };
            view.missing(|key, stored| matches!(key.vr, VR::TM | VR::DT) && !by_text(key, stored))
                || view.extra(by_text)
        },
    },
    Explanation {
        server: ORTHANC,
        what: "takes wild cards in one of several values for letters",
        clause: "any of them matches, as in a list of UIDs, C.2.2.2.2",
        applies: |view| view.missing(|key, _| key.strings().count() > 1 && is_wild(key)),
    },
    Explanation {
        server: ORTHANC,
        what: "takes several values of an attribute for one",
        clause: "a match of any value is a match, C.2.2.2",
        applies: |view| {
            view.missing(|key, stored| {
                let mut values = stored.split('\\');
                stored.contains('\\')
                    && !without_case(&text(key), stored)
                    && values.any(|value| key.strings().any(|key| without_case(key, value)))
            })
        },
    },
    Explanation {
        server: ORTHANC,
        what: "takes \"\" for two letters",
        clause: "empty value matching, C.2.2.2.7; here without negotiation too",
        applies: |view| view.missing(|key, stored| text(key) == "\"\"" && stored.is_empty()),
    },
    Explanation {
        server: ORTHANC,
        what: "can't match what it derives: counts, SOP Classes in Study",
        clause: "optional keys, C.3.4; we match them",
        applies: |view| {
            view.missing(|key, _| {
                [
                    tags::NUMBER_OF_PATIENT_RELATED_STUDIES,
                    tags::NUMBER_OF_PATIENT_RELATED_SERIES,
                    tags::NUMBER_OF_STUDY_RELATED_SERIES,
                    tags::NUMBER_OF_STUDY_RELATED_INSTANCES,
                    tags::NUMBER_OF_SERIES_RELATED_INSTANCES,
                    tags::SOP_CLASSES_IN_STUDY,
                ]
                .contains(&key.tag)
            })
        },
    },
    Explanation {
        server: ORTHANC,
        what: "finds nothing by an attribute of a level below, or that is nowhere",
        clause: "an optional key that is not supported does not restrict, C.2.2.1.3",
        applies: |view| view.missing(|key, _| view.case.ignored.contains(&key.tag)),
    },
    Explanation {
        server: ORTHANC,
        what: "compares numbers letter by letter",
        clause: "left open by the Standard (CP-2305); here as numbers",
        applies: |view| view.missing(|key, stored| is_number(key) && !key.strings().any(|key| key == stored)),
    },
    Explanation {
        server: ORTHANC,
        what: "takes ? for one byte of UTF-8",
        clause: "? is a character, C.2.2.2.4",
        applies: |view| view.missing(|key, stored| text(key).contains('?') && !stored.is_ascii()),
    },
    Explanation {
        server: ORTHANC,
        what: "compares names with accents, trailing ^ and all component groups at once",
        clause: "left open by C.2.2.2.1; here none of these counts, and each group (PS3.5 6.2.1) is compared",
        applies: |view| view.missing(|key, stored| key.vr == VR::PN && !without_case(&text(key), stored)),
    },
    Explanation {
        server: ORTHANC,
        what: "answers in its own default set, and loses the letters that it lacks",
        clause: "UTF-8 where the request's set can't say a value, C.4.1.1.3.2",
        applies: |view| {
            view.value().is_some_and(|(_, ours, theirs)| {
                let (ours, theirs) = (ours.as_str(), theirs.and_then(Value::as_str));
                let latin = |text: &str| text.chars().filter(|c| *c <= '\u{FF}').collect::<String>();
                ours.zip(theirs)
                    .is_some_and(|(ours, theirs)| ours != theirs && latin(ours) == theirs)
            })
        },
    },
    Explanation {
        server: ORTHANC,
        what: "misreads ISO 2022 IR 13 with ISO 2022 IR 87",
        clause: "PS3.5 6.1.2.5, PS3.3 C.12.1.1.2",
        applies: |view| {
            let name = stored(&view.known, tags::PATIENT_NAME);
            let half_width = name.contains(|c| ('\u{FF61}'..='\u{FF9F}').contains(&c));
            half_width && view.value().is_some_and(|(tag, ..)| tag == tags::PATIENT_NAME)
        },
    },
    Explanation {
        server: ORTHANC,
        what: "refuses * in a date or number",
        clause: "no wild card of C.2.2.2.4; many SCUs send it, so * alone is universal here for every VR",
        applies: |view| {
            let wild = |key: &Element, _: &str| is_wild(key) && (key.vr == VR::DA || is_number(key));
            matches!(view.difference, Difference::Refused) && view.some_key(wild)
        },
    },
    Explanation {
        server: ORTHANC,
        what: "answers without the unique keys above, also with several or a wild card, and at PATIENT level in Study Root",
        clause: "they must be single values, C.4.1.2.1; the levels are the model's, C.6.2.1",
        applies: |view| matches!(view.difference, Difference::NotRefused),
    },
];

/// As a server does that knows nothing of times.
fn in_range_as_text(range: &str, value: &str) -> bool {
    let (from, to) = range.split_once('-').unwrap_or((range, range));
    from <= value && (to.is_empty() || value <= to)
}

/// A sequence without what has no value.
fn without_empty(items: &Value) -> Value {
    let kept = |item: &Value| {
        let elements = item.as_object().into_iter().flatten();
        let kept = elements.filter(|(_, value)| **value != "");
        Value::Object(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
    };
    items.as_array().into_iter().flatten().map(kept).collect()
}
