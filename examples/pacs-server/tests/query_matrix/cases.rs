//! The matrix: each kind of matching (PS3.4 C.2.2.2), at each level, in each model, hierarchical and
//! relational.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use pacs_core::query::{Model, QueryOptions, unique_key};
use pacs_core::{DataSet, Level};

use crate::data::{PATIENT, SERIES, STUDY};
use crate::keys::{
    ABOVE, AND, Asked, COMBINED, DERIVED, Key, MOMENTS, NUMBER, OF_PATIENT, PAIRS, REFUSED, SCRIPT, SEVERAL,
    T, UNSUPPORTED, asked_at, put, words,
};

/// One question.
pub(crate) struct Case {
    /// The kind of matching.
    pub(crate) kind: &'static str,
    pub(crate) model: Model,
    pub(crate) level: Level,
    /// What is negotiated.
    pub(crate) options: QueryOptions,
    /// What is asked by clients that choose: our SCU always asks in UTF-8.
    pub(crate) charset: &'static str,
    /// Matching keys and return keys, without Query/Retrieve Level.
    pub(crate) keys: DataSet,
    /// Keys whose values don't count, because they can't be matched at this level.
    pub(crate) ignored: Vec<Tag>,
    /// It must be answered by a failure.
    pub(crate) refused: bool,
    /// The matching keys in words.
    pub(crate) words: String,
}

impl Case {
    /// Model and level.
    pub(crate) fn cell(&self) -> String {
        cell(self.model, self.level)
    }

    /// Whether it can be asked without extended negotiation.
    pub(crate) fn is_baseline(&self) -> bool {
        self.options == QueryOptions::default()
    }

    pub(crate) fn name(&self) -> String {
        let options = self.options;
        let negotiated = [
            (options.relational, " relational"),
            (options.combined_date_time, " combined"),
            (options.multiple_values, " multiple"),
        ];
        let negotiated: String = negotiated
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, word)| *word)
            .collect();
        format!("{}{negotiated}, {}: {}", self.cell(), self.kind, self.words)
    }
}

/// Model and level.
pub(crate) fn cell(model: Model, level: Level) -> String {
    let model = match model {
        Model::PatientRoot => "Patient Root",
        Model::StudyRoot => "Study Root",
    };
    format!("{model} {}", level.as_str())
}

/// What every question of a level wants to have returned.
fn returned_at(model: Model, level: Level) -> Vec<(Tag, VR)> {
    let mut wanted = match level {
        Level::Patient => vec![
            (tags::PATIENT_NAME, VR::PN),
            (tags::PATIENT_BIRTH_DATE, VR::DA),
            (tags::PATIENT_SEX, VR::CS),
            (tags::OTHER_PATIENT_NAMES, VR::PN),
            (tags::NUMBER_OF_PATIENT_RELATED_STUDIES, VR::IS),
            (tags::NUMBER_OF_PATIENT_RELATED_SERIES, VR::IS),
            (tags::NUMBER_OF_PATIENT_RELATED_INSTANCES, VR::IS),
        ],
        Level::Study => vec![
            (tags::STUDY_DATE, VR::DA),
            (tags::STUDY_TIME, VR::TM),
            (tags::ACCESSION_NUMBER, VR::SH),
            (tags::STUDY_ID, VR::SH),
            (tags::STUDY_DESCRIPTION, VR::LO),
            (tags::REFERRING_PHYSICIAN_NAME, VR::PN),
            (tags::MODALITIES_IN_STUDY, VR::CS),
            (tags::NUMBER_OF_STUDY_RELATED_SERIES, VR::IS),
            (tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS),
        ],
        Level::Series => vec![
            (tags::MODALITY, VR::CS),
            (tags::SERIES_NUMBER, VR::IS),
            (tags::SERIES_DESCRIPTION, VR::LO),
            (tags::NUMBER_OF_SERIES_RELATED_INSTANCES, VR::IS),
        ],
        Level::Instance => vec![
            (tags::SOP_CLASS_UID, VR::UI),
            (tags::INSTANCE_NUMBER, VR::IS),
            (tags::IMAGE_TYPE, VR::CS),
            (tags::CONTENT_DATE, VR::DA),
        ],
    };
    if (model, level) == (Model::StudyRoot, Level::Study) {
        // In this model the patient's attributes are the study's (PS3.4 C.6.2.1.2).
        wanted.extend([
            (tags::PATIENT_ID, VR::LO),
            (tags::PATIENT_NAME, VR::PN),
            (tags::PATIENT_BIRTH_DATE, VR::DA),
        ]);
    }
    wanted
}

const RELATIONAL: QueryOptions = QueryOptions {
    relational: true,
    combined_date_time: false,
    fuzzy_person_names: false,
    multiple_values: false,
};

/// A question with its unique keys above the level, where they must be given, and its return keys.
fn case(kind: &'static str, model: Model, level: Level, options: QueryOptions, keys: &[Key]) -> Case {
    let mut set = DataSet::new();
    for above in model.levels().iter().filter(|above| **above < level) {
        let (vr, value) = match above {
            Level::Patient => (VR::LO, PATIENT),
            Level::Study => (VR::UI, STUDY),
            _ => (VR::UI, SERIES),
        };
        let value = if options.relational { "" } else { value };
        set.put_text(unique_key(*above), vr, value);
    }
    let vr = if level == Level::Patient { VR::LO } else { VR::UI };
    set.put_text(unique_key(level), vr, "");
    for (tag, vr) in returned_at(model, level) {
        set.put_text(tag, vr, "");
    }
    for key in keys {
        put(&mut set, *key);
    }
    Case {
        kind,
        model,
        level,
        options,
        charset: "ISO_IR 192",
        keys: set,
        ignored: Vec::new(),
        refused: false,
        words: words(keys),
    }
}

/// All of the matrix.
pub(crate) fn cases() -> Vec<Case> {
    let mut out = Vec::new();
    for model in [Model::PatientRoot, Model::StudyRoot] {
        for level in model.levels().iter().copied() {
            for options in [QueryOptions::default(), RELATIONAL] {
                let plain = |asked: &Asked| case(asked.0, model, level, options, asked.1);
                out.extend(asked_at(level).iter().map(plain));
                if (model, level) == (Model::StudyRoot, Level::Study) {
                    let of_patient = OF_PATIENT
                        .iter()
                        .filter(|(kind, _)| ![DERIVED, NUMBER].contains(kind));
                    out.extend(of_patient.map(plain));
                }
                out.extend(unsupported(model, level, options));
            }
            out.extend(negotiated(model, level));
            out.extend(refused(model, level));
        }
    }
    out.extend(in_other_character_sets());
    out
}

/// What must be agreed on: combined date and time, and several values each of which must match.
fn negotiated(model: Model, level: Level) -> Vec<Case> {
    let combined = QueryOptions {
        combined_date_time: true,
        ..RELATIONAL
    };
    let multiple = QueryOptions {
        multiple_values: true,
        ..RELATIONAL
    };
    let mut out = Vec::new();
    for (_, date, time) in PAIRS.into_iter().filter(|(of, ..)| *of == level) {
        for (dates, times) in MOMENTS {
            let keys = [T(date, VR::DA, dates), T(time, VR::TM, times)];
            out.push(case(COMBINED, model, level, combined, &keys));
            out.push(case(AND, model, level, RELATIONAL, &keys));
        }
    }
    let several = asked_at(level).iter().filter(|(kind, _)| *kind == SEVERAL);
    out.extend(several.map(|(kind, keys)| case(kind, model, level, multiple, keys)));
    // Attributes of the levels above, also beyond the unique keys, may be keys of a relational query
    // (PS3.4 C.4.1.2.2.1), and are answered.
    if level > Level::Study {
        let keys = [
            T(tags::PATIENT_NAME, VR::PN, "MÜLLER*"),
            T(tags::STUDY_DATE, VR::DA, "20230101-"),
            T(tags::MODALITIES_IN_STUDY, VR::CS, "MR"),
            T(tags::STUDY_DESCRIPTION, VR::LO, ""),
        ];
        out.push(case(ABOVE, model, level, RELATIONAL, &keys));
    }
    out
}

/// A key of a level below, or of what isn't kept, doesn't restrict (PS3.4 C.2.2.1.3); without a value it is not
/// supported all the same.
fn unsupported(model: Model, level: Level, options: QueryOptions) -> [Case; 2] {
    let (tag, vr, text) = match level {
        Level::Patient => (tags::STUDY_DATE, VR::DA, "20230105"),
        Level::Study => (tags::MODALITY, VR::CS, "CT"),
        Level::Series => (tags::INSTANCE_NUMBER, VR::IS, "1"),
        Level::Instance => (tags::KVP, VR::DS, "120"),
    };
    [(tag, vr, text), (tags::ACQUISITION_PROTOCOL_NAME, VR::LO, "")].map(|(tag, vr, text)| {
        let mut case = case(UNSUPPORTED, model, level, options, &[T(tag, vr, text)]);
        case.ignored.push(tag);
        case
    })
}

/// Hierarchical questions without a single value in a unique key above (PS3.4 C.4.1.2.1), and a level
/// that the model doesn't have.
fn refused(model: Model, level: Level) -> Vec<Case> {
    let hierarchical = QueryOptions::default();
    let mut out = Vec::new();
    for above in model.levels().iter().filter(|above| **above < level) {
        let (vr, bad) = match above {
            Level::Patient => (VR::LO, ["", "P-0*"]),
            _ => (VR::UI, ["", "2.25.7000\\2.25.7001"]),
        };
        for bad in bad {
            let keys = [T(unique_key(*above), vr, bad)];
            out.push(case(REFUSED, model, level, hierarchical, &keys));
        }
    }
    if (model, level) == (Model::StudyRoot, Level::Study) {
        out.push(case(REFUSED, model, Level::Patient, hierarchical, &[]));
    }
    out.iter_mut().for_each(|case| case.refused = true);
    out
}

/// The same names, asked for in the sets that people have.
fn in_other_character_sets() -> Vec<Case> {
    let asked: [(&str, &[Key]); 6] = [
        ("ISO_IR 100", &[T(tags::PATIENT_NAME, VR::PN, "MÜLLER^JÜRGEN")]),
        (
            "\\ISO 2022 IR 87",
            &[T(tags::PATIENT_NAME, VR::PN, "*=山田^太郎")],
        ),
        ("\\ISO 2022 IR 149", &[T(tags::PATIENT_NAME, VR::PN, "=洪^吉洞")]),
        ("GB18030", &[T(tags::PATIENT_NAME, VR::PN, "王*")]),
        ("ISO_IR 144", &[T(tags::PATIENT_NAME, VR::PN, "Люксембург^Роза")]),
        ("ISO_IR 126", &[T(tags::PATIENT_NAME, VR::PN, "Παπαδόπουλος*")]),
    ];
    let cells = [
        (Model::PatientRoot, Level::Patient),
        (Model::StudyRoot, Level::Study),
    ];
    let each = cells.into_iter().flat_map(|(model, level)| {
        asked.map(|(charset, keys)| Case {
            charset,
            ..case(SCRIPT, model, level, QueryOptions::default(), keys)
        })
    });
    each.collect()
}
