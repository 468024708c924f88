//! What is asked at each level.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use pacs_core::{DataSet, Level};

/// A matching key.
#[derive(Clone, Copy)]
pub(crate) enum Key {
    /// Its text.
    T(Tag, VR, &'static str),
    /// A number of VR US.
    N(Tag, u16),
    /// A sequence with one item of text, or without an item.
    Q(Tag, &'static [(Tag, VR, &'static str)]),
}
pub(crate) use Key::{N, Q, T};

/// What is asked at a level: the kind, and the keys.
pub(crate) type Asked = (&'static str, &'static [Key]);

pub(crate) const SINGLE: &str = "single value";
pub(crate) const NUMBER: &str = "single value, a number";
pub(crate) const NAME: &str = "single value, a name";
pub(crate) const SCRIPT: &str = "single value, a name in another script";
pub(crate) const UIDS: &str = "list of UIDs";
pub(crate) const UNIVERSAL: &str = "universal";
pub(crate) const WILD: &str = "wild card";
pub(crate) const WILD_NAME: &str = "wild card in a name";
pub(crate) const DATES: &str = "range of dates";
pub(crate) const TIMES: &str = "range of times";
pub(crate) const DATE_TIMES: &str = "range of date-times";
pub(crate) const SEQUENCE: &str = "sequence";
pub(crate) const SEVERAL: &str = "several values in a key";
pub(crate) const EMPTY: &str = "empty value";
pub(crate) const DERIVED: &str = "derived attributes";
pub(crate) const AND: &str = "several keys";
pub(crate) const COMBINED: &str = "combined date and time";
pub(crate) const ABOVE: &str = "attributes of the levels above";
pub(crate) const UNSUPPORTED: &str = "keys that can't be matched";
pub(crate) const REFUSED: &str = "refused";

/// Kinds that every level must have been asked.
pub(crate) const EVERY_LEVEL: [&str; 15] = [
    SINGLE,
    NUMBER,
    NAME,
    UIDS,
    UNIVERSAL,
    WILD,
    WILD_NAME,
    DATES,
    TIMES,
    SEQUENCE,
    SEVERAL,
    EMPTY,
    AND,
    COMBINED,
    UNSUPPORTED,
];

pub(crate) const OF_PATIENT: &[Asked] = &[
    (SINGLE, &[T(tags::PATIENT_ID, VR::LO, "P-03")]),
    (SINGLE, &[T(tags::PATIENT_ID, VR::LO, "p-03")]),
    (SINGLE, &[T(tags::PATIENT_SEX, VR::CS, "F")]),
    (SINGLE, &[T(tags::PATIENT_BIRTH_DATE, VR::DA, "20230131")]),
    (SINGLE, &[T(tags::PATIENT_BIRTH_TIME, VR::TM, "1000")]),
    (NAME, &[T(tags::PATIENT_NAME, VR::PN, "Doe^Jane")]),
    (NAME, &[T(tags::PATIENT_NAME, VR::PN, "DOE^JANE^^^")]),
    (NAME, &[T(tags::PATIENT_NAME, VR::PN, "muller^jurgen")]),
    (NAME, &[T(tags::PATIENT_NAME, VR::PN, "MÜLLER^Jürgen")]),
    (NAME, &[T(tags::PATIENT_NAME, VR::PN, "Sørensen^Åse^^Dr")]),
    (NAME, &[T(tags::PATIENT_NAME, VR::PN, "sorensen^ase^^dr")]),
    (NAME, &[T(tags::OTHER_PATIENT_NAMES, VR::PN, "green^n")]),
    (SCRIPT, &[T(tags::PATIENT_NAME, VR::PN, "山田^太郎")]),
    (SCRIPT, &[T(tags::PATIENT_NAME, VR::PN, "やまだ^たろう")]),
    (SCRIPT, &[T(tags::PATIENT_NAME, VR::PN, "=山田*")]),
    (
        SCRIPT,
        &[T(
            tags::PATIENT_NAME,
            VR::PN,
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
        )],
    ),
    (SCRIPT, &[T(tags::PATIENT_NAME, VR::PN, "ﾔﾏﾀﾞ^ﾀﾛｳ")]),
    (SCRIPT, &[T(tags::PATIENT_NAME, VR::PN, "Hong*=洪*=홍*")]),
    (SCRIPT, &[T(tags::PATIENT_NAME, VR::PN, "王^小东")]),
    (SCRIPT, &[T(tags::PATIENT_NAME, VR::PN, "ЛЮКСЕМБУРГ^РОЗА")]),
    (SCRIPT, &[T(tags::PATIENT_NAME, VR::PN, "παπαδοπουλοσ^*")]),
    (UNIVERSAL, &[]),
    (UNIVERSAL, &[T(tags::PATIENT_NAME, VR::PN, "*")]),
    (UNIVERSAL, &[T(tags::PATIENT_NAME, VR::PN, "*^*")]),
    (
        UNIVERSAL,
        &[
            T(tags::PATIENT_ID, VR::LO, "*"),
            T(tags::PATIENT_SEX, VR::CS, "*"),
        ],
    ),
    (WILD, &[T(tags::PATIENT_ID, VR::LO, "P-0*")]),
    (WILD, &[T(tags::PATIENT_ID, VR::LO, "?-?1")]),
    (WILD, &[T(tags::PATIENT_SEX, VR::CS, "?")]),
    (WILD, &[T(tags::PATIENT_COMMENTS, VR::LT, "*asting*")]),
    (WILD_NAME, &[T(tags::PATIENT_NAME, VR::PN, "d*")]),
    (WILD_NAME, &[T(tags::PATIENT_NAME, VR::PN, "DO?^*")]),
    (WILD_NAME, &[T(tags::PATIENT_NAME, VR::PN, "Doe^Jane*")]),
    (WILD_NAME, &[T(tags::PATIENT_NAME, VR::PN, "m?ller^j*")]),
    (WILD_NAME, &[T(tags::PATIENT_NAME, VR::PN, "*Åse*")]),
    (DATES, &[T(tags::PATIENT_BIRTH_DATE, VR::DA, "20230105-20230131")]),
    (DATES, &[T(tags::PATIENT_BIRTH_DATE, VR::DA, "-20230105")]),
    (DATES, &[T(tags::PATIENT_BIRTH_DATE, VR::DA, "20230131-")]),
    (TIMES, &[T(tags::PATIENT_BIRTH_TIME, VR::TM, "0959-100000.4")]),
    (TIMES, &[T(tags::PATIENT_BIRTH_TIME, VR::TM, "-1000")]),
    (TIMES, &[T(tags::PATIENT_BIRTH_TIME, VR::TM, "10-")]),
    (
        SEQUENCE,
        &[Q(
            tags::OTHER_PATIENT_I_DS_SEQUENCE,
            &[(tags::PATIENT_ID, VR::LO, "X1")],
        )],
    ),
    (
        SEQUENCE,
        &[Q(
            tags::OTHER_PATIENT_I_DS_SEQUENCE,
            &[
                (tags::PATIENT_ID, VR::LO, ""),
                (tags::ISSUER_OF_PATIENT_ID, VR::LO, "T*"),
            ],
        )],
    ),
    (SEVERAL, &[T(tags::PATIENT_ID, VR::LO, "P-01\\P-07")]),
    (SEVERAL, &[T(tags::OTHER_PATIENT_NAMES, VR::PN, "Green^N\\Grey*")]),
    (EMPTY, &[T(tags::PATIENT_NAME, VR::PN, "\"\"")]),
    (EMPTY, &[T(tags::PATIENT_BIRTH_DATE, VR::DA, "\"\"")]),
    (EMPTY, &[T(tags::PATIENT_SEX, VR::CS, "\"\"")]),
    (
        DERIVED,
        &[T(tags::NUMBER_OF_PATIENT_RELATED_STUDIES, VR::IS, "2")],
    ),
    (NUMBER, &[T(tags::NUMBER_OF_PATIENT_RELATED_SERIES, VR::IS, "1")]),
    (
        AND,
        &[
            T(tags::PATIENT_SEX, VR::CS, "M\\O"),
            T(tags::PATIENT_BIRTH_DATE, VR::DA, "20230101-"),
        ],
    ),
];

const OF_STUDY: &[Asked] = &[
    (SINGLE, &[T(tags::STUDY_INSTANCE_UID, VR::UI, "2.25.7002")]),
    (SINGLE, &[T(tags::ACCESSION_NUMBER, VR::SH, "A1")]),
    (SINGLE, &[T(tags::ACCESSION_NUMBER, VR::SH, "a1")]),
    (SINGLE, &[T(tags::STUDY_DESCRIPTION, VR::LO, "CHEST PA")]),
    (SINGLE, &[T(tags::STUDY_DATE, VR::DA, "20230105")]),
    (SINGLE, &[T(tags::STUDY_TIME, VR::TM, "10")]),
    (SINGLE, &[T(tags::STUDY_TIME, VR::TM, "100000")]),
    (NUMBER, &[T(tags::NUMBER_OF_STUDY_RELATED_SERIES, VR::IS, "2")]),
    (NAME, &[T(tags::REFERRING_PHYSICIAN_NAME, VR::PN, "Grey^Zola")]),
    (
        NAME,
        &[T(tags::REFERRING_PHYSICIAN_NAME, VR::PN, "Shepherd^Derek^^Dr")],
    ),
    (
        NAME,
        &[T(tags::NAME_OF_PHYSICIANS_READING_STUDY, VR::PN, "grey^zola")],
    ),
    (
        UIDS,
        &[T(
            tags::STUDY_INSTANCE_UID,
            VR::UI,
            "2.25.7001\\2.25.7003\\2.25.7010\\2.25.404",
        )],
    ),
    (UIDS, &[T(tags::STUDY_INSTANCE_UID, VR::UI, "2.25.404")]),
    (
        UIDS,
        &[T(
            tags::SOP_CLASSES_IN_STUDY,
            VR::UI,
            "1.2.840.10008.5.1.4.1.1.4\\1.2.840.10008.5.1.4.1.1.88.11",
        )],
    ),
    (UNIVERSAL, &[]),
    (
        UNIVERSAL,
        &[
            T(tags::STUDY_DESCRIPTION, VR::LO, "*"),
            T(tags::STUDY_DATE, VR::DA, "*"),
        ],
    ),
    (WILD, &[T(tags::STUDY_DESCRIPTION, VR::LO, "CHEST*")]),
    (WILD, &[T(tags::STUDY_DESCRIPTION, VR::LO, "*a*")]),
    (WILD, &[T(tags::ACCESSION_NUMBER, VR::SH, "?2")]),
    (WILD, &[T(tags::STUDY_DESCRIPTION, VR::LO, "HEAD?NECK")]),
    (WILD_NAME, &[T(tags::REFERRING_PHYSICIAN_NAME, VR::PN, "grey*")]),
    (WILD_NAME, &[T(tags::REFERRING_PHYSICIAN_NAME, VR::PN, "Gr?y^M*")]),
    (DATES, &[T(tags::STUDY_DATE, VR::DA, "20230105-20240229")]),
    (DATES, &[T(tags::STUDY_DATE, VR::DA, "-20230105")]),
    (DATES, &[T(tags::STUDY_DATE, VR::DA, "20230131-")]),
    (TIMES, &[T(tags::STUDY_TIME, VR::TM, "0000-0959")]),
    (TIMES, &[T(tags::STUDY_TIME, VR::TM, "-095959")]),
    (TIMES, &[T(tags::STUDY_TIME, VR::TM, "100000-")]),
    (
        SEQUENCE,
        &[Q(
            tags::PROCEDURE_CODE_SEQUENCE,
            &[
                (tags::CODE_VALUE, VR::SH, "C2"),
                (tags::CODING_SCHEME_DESIGNATOR, VR::SH, ""),
                (tags::CODE_MEANING, VR::LO, ""),
            ],
        )],
    ),
    (
        SEQUENCE,
        &[Q(
            tags::PROCEDURE_CODE_SEQUENCE,
            &[
                (tags::CODE_VALUE, VR::SH, "C*"),
                (tags::CODE_MEANING, VR::LO, "*more"),
            ],
        )],
    ),
    (SEVERAL, &[T(tags::MODALITIES_IN_STUDY, VR::CS, "CT\\MR")]),
    (SEVERAL, &[T(tags::ACCESSION_NUMBER, VR::SH, "A0\\A3")]),
    (
        SEVERAL,
        &[T(
            tags::NAME_OF_PHYSICIANS_READING_STUDY,
            VR::PN,
            "Grey*\\Bailey*",
        )],
    ),
    (EMPTY, &[T(tags::STUDY_DESCRIPTION, VR::LO, "\"\"")]),
    (EMPTY, &[T(tags::STUDY_DATE, VR::DA, "\"\"")]),
    (EMPTY, &[T(tags::REFERRING_PHYSICIAN_NAME, VR::PN, "\"\"")]),
    (DERIVED, &[T(tags::MODALITIES_IN_STUDY, VR::CS, "MR")]),
    (DERIVED, &[T(tags::MODALITIES_IN_STUDY, VR::CS, "?R")]),
    (
        DERIVED,
        &[T(tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, "2")],
    ),
    (
        AND,
        &[
            T(tags::STUDY_DATE, VR::DA, "20230101-"),
            T(tags::STUDY_DESCRIPTION, VR::LO, "?*"),
            T(tags::REFERRING_PHYSICIAN_NAME, VR::PN, "g*"),
        ],
    ),
];

const OF_SERIES: &[Asked] = &[
    (SINGLE, &[T(tags::SERIES_INSTANCE_UID, VR::UI, "2.25.7000.2")]),
    (SINGLE, &[T(tags::MODALITY, VR::CS, "CT")]),
    (SINGLE, &[T(tags::SERIES_DESCRIPTION, VR::LO, "Chest pa")]),
    (SINGLE, &[T(tags::SERIES_DATE, VR::DA, "20240229")]),
    (NUMBER, &[T(tags::SERIES_NUMBER, VR::IS, "1")]),
    (NUMBER, &[T(tags::SERIES_NUMBER, VR::IS, "+2")]),
    (NAME, &[T(tags::OPERATORS_NAME, VR::PN, "Grey^Lexie")]),
    (
        UIDS,
        &[T(
            tags::SERIES_INSTANCE_UID,
            VR::UI,
            "2.25.7000.1\\2.25.7000.3\\2.25.7001.0",
        )],
    ),
    (UNIVERSAL, &[]),
    (
        UNIVERSAL,
        &[
            T(tags::MODALITY, VR::CS, "*"),
            T(tags::SERIES_NUMBER, VR::IS, "*"),
        ],
    ),
    (UNIVERSAL, &[Q(tags::REQUEST_ATTRIBUTES_SEQUENCE, &[])]),
    (WILD, &[T(tags::MODALITY, VR::CS, "?R")]),
    (WILD, &[T(tags::SERIES_DESCRIPTION, VR::LO, "*HEST*")]),
    (WILD_NAME, &[T(tags::OPERATORS_NAME, VR::PN, "grey*")]),
    (WILD_NAME, &[T(tags::OPERATORS_NAME, VR::PN, "*^?lex")]),
    (DATES, &[T(tags::SERIES_DATE, VR::DA, "20230131-20240301")]),
    (
        DATES,
        &[T(tags::PERFORMED_PROCEDURE_STEP_START_DATE, VR::DA, "-20230131")],
    ),
    (TIMES, &[T(tags::SERIES_TIME, VR::TM, "0959-10")]),
    (
        TIMES,
        &[T(tags::PERFORMED_PROCEDURE_STEP_START_TIME, VR::TM, "1000-")],
    ),
    (
        SEQUENCE,
        &[Q(
            tags::REQUEST_ATTRIBUTES_SEQUENCE,
            &[
                (tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, "S1"),
                (tags::REQUESTED_PROCEDURE_ID, VR::SH, ""),
            ],
        )],
    ),
    (
        SEQUENCE,
        &[Q(
            tags::REQUEST_ATTRIBUTES_SEQUENCE,
            &[
                (tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, "S?"),
                (tags::REQUESTED_PROCEDURE_ID, VR::SH, "R1"),
            ],
        )],
    ),
    (
        SEQUENCE,
        &[Q(
            tags::REQUEST_ATTRIBUTES_SEQUENCE,
            &[(tags::REQUESTED_PROCEDURE_ID, VR::SH, "\"\"")],
        )],
    ),
    (SEVERAL, &[T(tags::MODALITY, VR::CS, "MR\\SR")]),
    (SEVERAL, &[T(tags::OPERATORS_NAME, VR::PN, "Karev*\\grey^lexie")]),
    (EMPTY, &[T(tags::SERIES_NUMBER, VR::IS, "\"\"")]),
    (EMPTY, &[T(tags::SERIES_DESCRIPTION, VR::LO, "\"\"")]),
    (
        DERIVED,
        &[T(tags::NUMBER_OF_SERIES_RELATED_INSTANCES, VR::IS, "1")],
    ),
    (
        AND,
        &[
            T(tags::MODALITY, VR::CS, "CT"),
            T(tags::SERIES_DATE, VR::DA, "20230101-"),
        ],
    ),
];

const OF_INSTANCE: &[Asked] = &[
    (SINGLE, &[T(tags::SOP_INSTANCE_UID, VR::UI, "2.25.7000.0.4")]),
    (
        SINGLE,
        &[T(tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.2")],
    ),
    (SINGLE, &[T(tags::IMAGE_TYPE, VR::CS, "SECONDARY")]),
    (
        SINGLE,
        &[T(tags::ACQUISITION_DATE_TIME, VR::DT, "20230105100000.25")],
    ),
    (NUMBER, &[T(tags::INSTANCE_NUMBER, VR::IS, "3")]),
    (NUMBER, &[T(tags::INSTANCE_NUMBER, VR::IS, "03")]),
    (NUMBER, &[T(tags::SLICE_LOCATION, VR::DS, "1.5")]),
    (NUMBER, &[N(tags::ROWS, 512)]),
    (NAME, &[T(tags::CONTENT_CREATOR_NAME, VR::PN, "Grey^Zola")]),
    (
        UIDS,
        &[T(
            tags::SOP_INSTANCE_UID,
            VR::UI,
            "2.25.7000.0.1\\2.25.7000.0.10\\2.25.7000.0.11",
        )],
    ),
    (UNIVERSAL, &[]),
    (UNIVERSAL, &[T(tags::INSTANCE_NUMBER, VR::IS, "*")]),
    (WILD, &[T(tags::IMAGE_TYPE, VR::CS, "*ARY")]),
    (WILD, &[T(tags::IMAGE_COMMENTS, VR::LT, "Chest*")]),
    (WILD_NAME, &[T(tags::CONTENT_CREATOR_NAME, VR::PN, "gre?^*")]),
    (DATES, &[T(tags::CONTENT_DATE, VR::DA, "20230105-20230131")]),
    (TIMES, &[T(tags::CONTENT_TIME, VR::TM, "-10")]),
    (TIMES, &[T(tags::CONTENT_TIME, VR::TM, "100000.2-1830")]),
    (
        DATE_TIMES,
        &[T(
            tags::ACQUISITION_DATE_TIME,
            VR::DT,
            "20230105090000-20230105100000",
        )],
    ),
    (DATE_TIMES, &[T(tags::ACQUISITION_DATE_TIME, VR::DT, "-20230105")]),
    (
        DATE_TIMES,
        &[T(tags::ACQUISITION_DATE_TIME, VR::DT, "20230105100000-")],
    ),
    (
        DATE_TIMES,
        &[T(
            tags::ACQUISITION_DATE_TIME,
            VR::DT,
            "20230105113000+0230-20231231+0230",
        )],
    ),
    (
        SEQUENCE,
        &[Q(
            tags::CONCEPT_NAME_CODE_SEQUENCE,
            &[(tags::CODE_VALUE, VR::SH, "T2"), (tags::CODE_MEANING, VR::LO, "")],
        )],
    ),
    (SEVERAL, &[T(tags::IMAGE_TYPE, VR::CS, "AXIAL\\PRIMARY")]),
    (SEVERAL, &[T(tags::INSTANCE_NUMBER, VR::IS, "1\\02")]),
    (EMPTY, &[T(tags::SLICE_LOCATION, VR::DS, "\"\"")]),
    (EMPTY, &[T(tags::CONTENT_DATE, VR::DA, "\"\"")]),
    (
        AND,
        &[
            T(tags::CONTENT_DATE, VR::DA, "20230101-20241231"),
            N(tags::ROWS, 128),
        ],
    ),
];

/// Pairs of a date and a time, of each level.
pub(crate) const PAIRS: [(Level, Tag, Tag); 5] = [
    (Level::Patient, tags::PATIENT_BIRTH_DATE, tags::PATIENT_BIRTH_TIME),
    (Level::Study, tags::STUDY_DATE, tags::STUDY_TIME),
    (Level::Series, tags::SERIES_DATE, tags::SERIES_TIME),
    (
        Level::Series,
        tags::PERFORMED_PROCEDURE_STEP_START_DATE,
        tags::PERFORMED_PROCEDURE_STEP_START_TIME,
    ),
    (Level::Instance, tags::CONTENT_DATE, tags::CONTENT_TIME),
];
/// The last has ranges of two forms, which stay two conditions.
pub(crate) const MOMENTS: [(&str, &str); 4] = [
    ("20230105-20240229", "1000-0900"),
    ("20230131-", "1000-"),
    ("-20240229", "-0959"),
    ("20230105-20240229", "1000-"),
];

pub(crate) fn asked_at(level: Level) -> &'static [Asked] {
    match level {
        Level::Patient => OF_PATIENT,
        Level::Study => OF_STUDY,
        Level::Series => OF_SERIES,
        Level::Instance => OF_INSTANCE,
    }
}

pub(crate) fn put(set: &mut DataSet, key: Key) {
    match key {
        T(tag, vr, text) => set.put_text(tag, vr, text),
        N(tag, number) => set.put_u16(tag, number),
        Q(tag, nested) => {
            let mut item = DataSet::new();
            for (tag, vr, text) in nested {
                item.put_text(*tag, *vr, *text);
            }
            set.put_items(tag, vec![item; usize::from(!nested.is_empty())]);
        }
    }
}

pub(crate) fn words(keys: &[Key]) -> String {
    let words = keys.iter().map(|key| match key {
        T(tag, _, text) => format!("{tag} {text}"),
        N(tag, number) => format!("{tag} {number}"),
        Q(tag, nested) => {
            let nested: Vec<String> = nested
                .iter()
                .map(|(tag, _, text)| format!("{tag} {text}"))
                .collect();
            format!("{tag} [{}]", nested.join(", "))
        }
    });
    words.collect::<Vec<_>>().join(", ")
}
