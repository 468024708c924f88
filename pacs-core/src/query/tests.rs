use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;

fn set(elements: &[(Tag, VR, &str)]) -> DataSet {
    let mut set = DataSet::new();
    for (tag, vr, text) in elements {
        set.put_text(*tag, *vr, *text);
    }
    set
}

fn one(tag: Tag, vr: VR, text: &str) -> DataSet {
    set(&[(tag, vr, text)])
}

fn query(keys: DataSet, options: QueryOptions) -> Query {
    Query::new(Model::StudyRoot, Level::Study, keys, options)
}

fn matches(tag: Tag, vr: VR, key: &str, value: &str) -> bool {
    query(one(tag, vr, key), QueryOptions::default()).matches(&one(tag, vr, value))
}

fn name(key: &str, value: &str) -> bool {
    matches(tags::PATIENT_NAME, VR::PN, key, value)
}

#[test]
fn text_is_matched_by_case_and_without_the_spaces_around_it() {
    let id = |key, value| matches(tags::PATIENT_ID, VR::LO, key, value);
    assert!(id("A1 ", " A1"));
    assert!(!id("a1", "A1"));
    assert!(!id("A", "A1"));
    assert!(id("A*", "A1") && id("?1", "A1") && id("*", "") && !id("?*", ""));
    assert!(id("B\\A1", "A1"));
}

#[test]
fn numbers_are_compared_as_numbers() {
    let number = |key, value| matches(tags::INSTANCE_NUMBER, VR::IS, key, value);
    assert!(number("+7", "007 "));
    assert!(!number("7", "70"));
    assert!(number("1\\2", "2"));
    assert!(matches(tags::SLICE_LOCATION, VR::DS, "1.50", "15e-1"));
    assert!(!number("7*", "7"));
    let mut rows = DataSet::new();
    rows.put_u16(tags::ROWS, 512);
    assert!(query(rows.clone(), QueryOptions::default()).matches(&rows));
    let mut other = DataSet::new();
    other.put_u16(tags::ROWS, 256);
    assert!(!query(rows, QueryOptions::default()).matches(&other));
}

#[test]
fn a_name_is_matched_without_regard_to_case_accents_and_trailing_delimiters() {
    for (key, value) in [
        ("MULLER^JURGEN", "Müller^Jürgen^^"),
        ("müller*", "Muller^X"),
        ("strasse", "Straße"),
        ("sorensen", "SØRENSEN"),
        ("doe^^^", "Doe"),
        ("doe^*", "Doe"),
        ("doe^j*", "DOE^Jane"),
        ("* ", "Doe"),
        ("yamada", "Yamada=山田=やまだ"),
        ("山田*", "Yamada=山田^太郎"),
        ("=山田", "Yamada=山田=やまだ"),
        ("yamada=*=やまだ", "Yamada=山田=やまだ"),
        ("김?수", "김희수"),
        ("o'neil", "O\u{2019}Neil"),
        ("a  b^c", "A B ^ C"),
    ] {
        assert!(name(key, value), "{key}");
    }
    for (key, value) in [
        ("doe", "Doe^Jane"),
        ("=yamada", "Yamada=山田"),
        ("基", "金"),
        ("기*", "김희수"),
        ("doe^?*", "Doe"),
        ("かとう", "がとう"),
    ] {
        assert!(!name(key, value), "{key}");
    }
}

#[test]
fn fuzzy_matching_finds_what_sounds_alike_only_when_agreed_on() {
    let fuzzy = QueryOptions {
        fuzzy_person_names: true,
        ..QueryOptions::default()
    };
    let record = one(tags::PATIENT_NAME, VR::PN, "Meyer^Katharina");
    let key = || one(tags::PATIENT_NAME, VR::PN, "MAIER");
    assert!(query(key(), fuzzy).matches(&record));
    assert!(!query(key(), QueryOptions::default()).matches(&record));
    assert!(!query(one(tags::PATIENT_NAME, VR::PN, "MILLER"), fuzzy).matches(&record));
}

#[test]
fn ranges_include_both_ends() {
    let date = |key, value| matches(tags::STUDY_DATE, VR::DA, key, value);
    assert!(date("20240101-20240131", "20240131") && date("-20240131", "20240131"));
    assert!(date("20240131-", "2024.01.31") && date("20240131", "20240131"));
    assert!(!date("20240101-20240131", "20240201") && !date("20240131-", ""));
    assert!(!date("20240201-20240101", "20240115"));
    assert!(date("202401", "20240115"));
    let time = |key, value| matches(tags::STUDY_TIME, VR::TM, key, value);
    assert!(time("10-11", "115959.999") && time("1030", "103059") && !time("1030", "1031"));
    let moment = |key, value| matches(tags::ACQUISITION_DATE_TIME, VR::DT, key, value);
    assert!(moment("20240101120000+0100", "20240101110000+0000"));
    assert!(moment("20240101-", "20240101000000") && !moment("-2023", "20240101"));
}

#[test]
fn a_date_and_a_time_range_are_one_range_only_when_agreed_on() {
    let keys = set(&[
        (tags::STUDY_DATE, VR::DA, "20060705-20060707"),
        (tags::STUDY_TIME, VR::TM, "1000-1800"),
    ]);
    let night = set(&[
        (tags::STUDY_DATE, VR::DA, "20060706"),
        (tags::STUDY_TIME, VR::TM, "0300"),
    ]);
    let before = set(&[
        (tags::STUDY_DATE, VR::DA, "20060705"),
        (tags::STUDY_TIME, VR::TM, "0959"),
    ]);
    let combined = QueryOptions {
        combined_date_time: true,
        ..QueryOptions::default()
    };
    assert!(query(keys.clone(), combined).matches(&night));
    assert!(!query(keys.clone(), combined).matches(&before));
    assert!(!query(keys, QueryOptions::default()).matches(&night));
    // Of several ranges of dates none is the one that the times belong to.
    let several = set(&[
        (tags::STUDY_DATE, VR::DA, "20060705-20060707\\20060710-20060711"),
        (tags::STUDY_TIME, VR::TM, "1000-1800"),
    ]);
    let later = set(&[
        (tags::STUDY_DATE, VR::DA, "20060710"),
        (tags::STUDY_TIME, VR::TM, "1200"),
    ]);
    assert!(query(several.clone(), combined).matches(&later));
    assert!(!query(several, combined).matches(&night));
}

#[test]
fn the_number_zero_is_a_value() {
    let zero = |vr, value: &[u8]| crate::dataset::Element {
        tag: tags::PIXEL_REPRESENTATION,
        vr,
        value: crate::dataset::Value::Bytes(value.to_vec().into()),
    };
    assert!(!zero(VR::US, &[0, 0]).is_empty() && zero(VR::US, &[]).is_empty());
    // Padding is none.
    assert!(zero(VR::SH, b"  ").is_empty() && zero(VR::UI, &[0, 0]).is_empty());
}

#[test]
fn quotation_marks_ask_for_entities_without_a_value() {
    assert!(matches(tags::ACCESSION_NUMBER, VR::SH, "\"\"", ""));
    assert!(!matches(tags::ACCESSION_NUMBER, VR::SH, "\"\"", "1"));
    let absent = query(
        one(tags::ACCESSION_NUMBER, VR::SH, "\"\""),
        QueryOptions::default(),
    );
    assert!(absent.matches(&DataSet::new()));
}

#[test]
fn an_item_must_match_all_nested_keys_by_itself() {
    let item = |step: &str, procedure: &str| {
        set(&[
            (tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, step),
            (tags::REQUESTED_PROCEDURE_ID, VR::SH, procedure),
        ])
    };
    let sequence = |items| {
        let mut set = DataSet::new();
        set.put_items(tags::REQUEST_ATTRIBUTES_SEQUENCE, items);
        set
    };
    let record = sequence(vec![item("S1", "P1"), item("S2", "P2")]);
    let ask = |items| query(sequence(items), QueryOptions::default());
    assert!(ask(vec![item("S2", "P2")]).matches(&record));
    assert!(!ask(vec![item("S1", "P2")]).matches(&record));
    assert!(ask(vec![]).matches(&record) && ask(vec![DataSet::new()]).matches(&DataSet::new()));
    // The answer holds the matching items only, with the asked attributes only.
    let asked = ask(vec![one(tags::REQUESTED_PROCEDURE_ID, VR::SH, "P*2")]);
    let answer = asked.answer(&record);
    assert_eq!(
        answer.items(tags::REQUEST_ATTRIBUTES_SEQUENCE),
        [one(tags::REQUESTED_PROCEDURE_ID, VR::SH, "P2")]
    );
}

#[test]
fn several_values_of_a_key_match_any_or_each_by_agreement() {
    let keys = || one(tags::MODALITIES_IN_STUDY, VR::CS, "CT\\PT");
    let record = |text| one(tags::MODALITIES_IN_STUDY, VR::CS, text);
    let each = QueryOptions {
        multiple_values: true,
        ..QueryOptions::default()
    };
    assert!(query(keys(), QueryOptions::default()).matches(&record("PT\\MR")));
    assert!(!query(keys(), each).matches(&record("PT\\MR")));
    assert!(query(keys(), each).matches(&record("PT\\SR\\CT")));
}

#[test]
fn a_restricted_query_matches_less_and_returns_nothing_more() {
    let mut asked = query(one(tags::PATIENT_NAME, VR::PN, "DOE*"), QueryOptions::default());
    let before = asked.clone();
    asked.restrict(&one(tags::INSTITUTION_NAME, VR::LO, "HERE"));
    let record = |place| {
        set(&[
            (tags::PATIENT_NAME, VR::PN, "Doe"),
            (tags::INSTITUTION_NAME, VR::LO, place),
        ])
    };
    assert!(asked.matches(&record("HERE")) && !asked.matches(&record("THERE")));
    assert!(before.matches(&record("THERE")) && before != asked);
    assert!(!asked.answer(&record("HERE")).contains(tags::INSTITUTION_NAME));
}

fn identifier(level: &str, more: &[(Tag, VR, &str)]) -> DataSet {
    let mut keys = one(tags::QUERY_RETRIEVE_LEVEL, VR::CS, level);
    keys.add_from(&set(more));
    keys
}

fn parse(model: Model, keys: &DataSet, options: QueryOptions) -> crate::Result<Query> {
    Query::from_identifier(&AttributeSet::default(), model, keys, options)
}

#[test]
fn an_identifier_needs_a_level_of_its_model_and_the_unique_keys_above() {
    use Model::{PatientRoot, StudyRoot};
    let fault = |model, keys: &DataSet| {
        let error = parse(model, keys, QueryOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        error.tags().to_vec()
    };
    let level = vec![tags::QUERY_RETRIEVE_LEVEL];
    assert_eq!(fault(StudyRoot, &DataSet::new()), level);
    assert_eq!(fault(StudyRoot, &identifier("PATIENT", &[])), level);
    assert_eq!(fault(StudyRoot, &identifier("FRAME", &[])), level);
    let series = identifier("SERIES", &[]);
    assert_eq!(fault(StudyRoot, &series), [tags::STUDY_INSTANCE_UID]);
    assert_eq!(fault(PatientRoot, &series), [tags::PATIENT_ID]);
    let two = identifier("SERIES", &[(tags::STUDY_INSTANCE_UID, VR::UI, "1.2\\1.3")]);
    assert_eq!(fault(StudyRoot, &two), [tags::STUDY_INSTANCE_UID]);
    let relational = QueryOptions {
        relational: true,
        ..QueryOptions::default()
    };
    assert!(parse(PatientRoot, &series, relational).is_ok());
    assert!(parse(PatientRoot, &identifier("PATIENT", &[]), QueryOptions::default()).is_ok());
}

#[test]
fn a_key_beyond_the_limits_is_refused_but_a_list_of_uids_may_be_long() {
    let ask = |tag, vr, text: &str| {
        parse(
            Model::StudyRoot,
            &identifier("STUDY", &[(tag, vr, text)]),
            QueryOptions::default(),
        )
    };
    for text in ["?a".repeat(600), "A\\".repeat(300)] {
        let error = ask(tags::PATIENT_COMMENTS, VR::LT, &text).map(drop).unwrap_err();
        assert_eq!(
            (error.kind(), error.tags()),
            (ErrorKind::Invalid, &[tags::PATIENT_COMMENTS][..])
        );
    }
    let uids = (0..5000)
        .map(|n| format!("1.2.{n}"))
        .collect::<Vec<_>>()
        .join("\\");
    let query = ask(tags::STUDY_INSTANCE_UID, VR::UI, &uids).unwrap();
    assert!(query.matches(&one(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.4999")));
    assert!(!query.matches(&one(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.5000")));
}

#[test]
fn keys_that_cannot_be_matched_are_answered_empty_and_named() {
    let keys = identifier(
        "STUDY",
        &[
            (tags::MODALITY, VR::CS, "CT"),
            (tags::PATIENT_NAME, VR::PN, "DOE*"),
            (tags::RETRIEVE_AE_TITLE, VR::AE, "ELSEWHERE"),
            (tags::KVP, VR::DS, "120"),
            (tags::PATIENT_COMMENTS, VR::LT, ""),
            (tags::OPERATORS_NAME, VR::PN, ""),
            (Tag(0x0029, 0x0010), VR::LO, "ACME"),
            (Tag(0x0029, 0x1001), VR::LO, "X"),
            // Nobody reserved that block.
            (Tag(0x0029, 0x2001), VR::LO, ""),
        ],
    );
    let query = parse(Model::StudyRoot, &keys, QueryOptions::default()).unwrap();
    assert_eq!(
        query.unsupported(),
        [
            tags::MODALITY,
            tags::OPERATORS_NAME,
            tags::KVP,
            Tag(0x0029, 0x1001),
            Tag(0x0029, 0x2001)
        ]
    );
    let record = set(&[(tags::PATIENT_NAME, VR::PN, "Doe^Jane")]);
    assert!(query.matches(&record));
    let answer = query.answer(&record);
    assert_eq!(answer.string(tags::PATIENT_NAME), Some("Doe^Jane"));
    assert!(answer.get(tags::MODALITY).unwrap().is_empty());
    assert_eq!(answer.string(Tag(0x0029, 0x0010)), Some("ACME"));
    assert_eq!(answer.string(tags::QUERY_RETRIEVE_LEVEL), Some("STUDY"));
    assert!(!answer.contains(tags::RETRIEVE_AE_TITLE));
}

#[test]
fn a_retrieval_names_one_patient_or_a_list_of_uids() {
    use crate::index::Scope;
    let uid = |text| crate::Uid::parse(text).unwrap();
    let scopes = |model, keys: &DataSet| retrieval(model, keys).map(|retrieval| retrieval.scopes);
    let keys = identifier("SERIES", &[(tags::SERIES_INSTANCE_UID, VR::UI, "1.2\\1.3\\1.2")]);
    let expected = vec![Scope::Series(uid("1.2")), Scope::Series(uid("1.3"))];
    assert_eq!(scopes(Model::StudyRoot, &keys).unwrap(), expected);
    let patient = identifier("PATIENT", &[(tags::PATIENT_ID, VR::LO, "A*")]);
    assert_eq!(
        scopes(Model::PatientRoot, &patient).unwrap(),
        [Scope::Patient("A*".into())]
    );
    assert!(scopes(Model::StudyRoot, &patient).is_err());
    for value in ["", "1.2.x", "*"] {
        let keys = identifier("STUDY", &[(tags::STUDY_INSTANCE_UID, VR::UI, value)]);
        let error = scopes(Model::StudyRoot, &keys).unwrap_err();
        assert_eq!(
            (error.kind(), error.tags()),
            (ErrorKind::Invalid, &[tags::STUDY_INSTANCE_UID][..])
        );
    }
}

#[test]
fn a_retrieval_of_a_series_of_one_study_leaves_that_series_of_another_study_out() {
    let keys = identifier(
        "SERIES",
        &[
            (tags::STUDY_INSTANCE_UID, VR::UI, "1.1"),
            (tags::SERIES_INSTANCE_UID, VR::UI, "1.9"),
        ],
    );
    let of = |study| instance_of("P", study);
    let asked = retrieval(Model::StudyRoot, &keys).unwrap();
    assert!(asked.asks_for(&of("1.1")) && !asked.asks_for(&of("1.2")));
    let lenient = identifier("SERIES", &[(tags::SERIES_INSTANCE_UID, VR::UI, "1.9")]);
    let asked = retrieval(Model::StudyRoot, &lenient).unwrap();
    assert!(asked.asks_for(&of("1.1")) && asked.asks_for(&of("1.2")));
}

#[test]
fn a_retrieval_of_one_patients_study_leaves_it_out_when_it_is_another_patients() {
    let keys = |patient| {
        identifier(
            "STUDY",
            &[
                (tags::PATIENT_ID, VR::LO, patient),
                (tags::STUDY_INSTANCE_UID, VR::UI, "1.1"),
            ],
        )
    };
    let asks = |model, patient| {
        retrieval(model, &keys(patient))
            .unwrap()
            .asks_for(&instance_of(" P1", "1.1"))
    };
    for (patient, wanted) in [
        ("P1", true),
        (" P1 ", true),
        ("", true),
        ("*", true),
        ("P2", false),
    ] {
        assert_eq!(asks(Model::PatientRoot, patient), wanted, "{patient:?}");
        // There Patient ID is no unique key (PS3.4 C.6.2.1).
        assert!(asks(Model::StudyRoot, patient), "{patient:?}");
    }
}

/// An instance of series 1.9 of a study, and of a patient.
fn instance_of(patient: &str, study: &str) -> crate::InstanceRecord {
    let uid = |text| crate::Uid::parse(text).unwrap();
    let mut attributes = LevelAttributes::default();
    attributes.patient.put_text(tags::PATIENT_ID, VR::LO, patient);
    crate::InstanceRecord {
        key: crate::InstanceKey {
            study: uid(study),
            series: uid("1.9"),
            instance: uid("1.9.1"),
        },
        sop_class: uid("1.2"),
        transfer_syntax: uid("1.2.840.10008.1.2"),
        locator: crate::Locator::new(&[]),
        length: 0,
        data_set_offset: 0,
        sequence: crate::Sequence(0),
        received: crate::Timestamp(0),
        attributes,
        coerced: None,
        superseded: Vec::new(),
    }
}

#[test]
fn a_sequence_key_of_several_items_is_refused() {
    let item = set(&[(tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, "*1*")]);
    let key = |items: Vec<DataSet>| {
        let mut keys = identifier("STUDY", &[]);
        keys.put(crate::dataset::Element {
            tag: tags::REQUEST_ATTRIBUTES_SEQUENCE,
            vr: VR::SQ,
            value: crate::dataset::Value::Items(items),
        });
        let attributes = AttributeSet::default();
        Query::from_identifier(&attributes, Model::StudyRoot, &keys, QueryOptions::default()).map(drop)
    };
    assert!(key(vec![item.clone()]).is_ok());
    let error = key(vec![item; 2]).unwrap_err();
    assert_eq!(
        (error.kind(), error.tags()),
        (ErrorKind::Invalid, &[tags::REQUEST_ATTRIBUTES_SEQUENCE][..])
    );
}

#[test]
fn attributes_go_to_their_level_and_private_ones_to_a_block_of_their_creator() {
    let path = |text: &str| text.parse::<AttributePath>().unwrap();
    let attributes = [
        (Level::Series, "0029xx10[ACME 1.1]:LO"),
        (Level::Series, "0029xx20[OTHER]:LO"),
        (Level::Instance, "ReferencedSeriesSequence.0029xx10[ACME 1.1]:SH"),
        (Level::Study, "KVP"),
    ]
    .iter()
    .try_fold(AttributeSet::default(), |set, (level, text)| {
        set.keep(*level, &path(text))
    })
    .unwrap();
    let mut header = set(&[
        (tags::PATIENT_ID, VR::LO, "A1"),
        (tags::MODALITY, VR::CS, "CT"),
        (tags::KVP, VR::DS, "120"),
        (tags::STUDY_ID, VR::SH, " "),
        (tags::PIXEL_DATA, VR::OW, "0000"),
        (Tag(0x0029, 0x0010), VR::LO, "NOBODY"),
        (Tag(0x0029, 0x00A1), VR::LO, "ACME 1.1 "),
        (Tag(0x0029, 0xA110), VR::UN, "secret"),
        (Tag(0x0029, 0x1020), VR::LO, "nobody's"),
    ]);
    header.put_items(
        tags::REQUEST_ATTRIBUTES_SEQUENCE,
        vec![set(&[
            (tags::REQUESTED_PROCEDURE_ID, VR::SH, "P1"),
            (tags::KVP, VR::DS, "120"),
        ])],
    );
    let kept = attributes.extract(&header);
    assert_eq!(kept.patient, one(tags::PATIENT_ID, VR::LO, "A1"));
    assert_eq!(kept.study, one(tags::KVP, VR::DS, "120"));
    let mut series = set(&[
        (tags::MODALITY, VR::CS, "CT"),
        (Tag(0x0029, 0x0010), VR::LO, "ACME 1.1"),
        (Tag(0x0029, 0x1010), VR::LO, "secret"),
    ]);
    series.put_items(
        tags::REQUEST_ATTRIBUTES_SEQUENCE,
        vec![one(tags::REQUESTED_PROCEDURE_ID, VR::SH, "P1")],
    );
    assert_eq!(kept.series, series);
    assert!(kept.instance.is_empty());

    // A query may have the creator in another block still.
    let keys = identifier(
        "SERIES",
        &[
            (tags::STUDY_INSTANCE_UID, VR::UI, "1.2"),
            (Tag(0x0029, 0x0020), VR::LO, "ACME 1.1"),
            (Tag(0x0029, 0x2010), VR::UN, "sec*"),
        ],
    );
    let mut record = kept.series.clone();
    record.put_text(tags::STUDY_INSTANCE_UID, VR::UI, "1.2");
    let query =
        Query::from_identifier(&attributes, Model::StudyRoot, &keys, QueryOptions::default()).unwrap();
    assert!(query.unsupported().is_empty());
    assert!(query.matches(&record));
    record.put_text(Tag(0x0029, 0x1010), VR::LO, "public");
    assert!(!query.matches(&record));
    assert_eq!(query.answer(&record).string(Tag(0x0029, 0x1010)), Some("public"));
}

#[test]
fn what_came_as_un_has_a_value_or_none_as_its_own_vr_says() {
    let path = "0029xx10[ACME 1.1]:US".parse::<AttributePath>().unwrap();
    let attributes = AttributeSet::default().keep(Level::Series, &path).unwrap();
    let mut header = one(Tag(0x0029, 0x0010), VR::LO, "ACME 1.1");
    for (tag, value) in [
        (Tag(0x0029, 0x1010), "\0\0"),
        (tags::STUDY_ID, "\0\0"),
        (tags::STUDY_DESCRIPTION, "  "),
        (tags::ACCESSION_NUMBER, "A1"),
    ] {
        header.put_text(tag, VR::UN, value);
    }
    let kept = attributes.extract(&header);
    assert_eq!(kept.series.get(Tag(0x0029, 0x1010)).unwrap().bytes(), [0, 0]);
    assert_eq!(kept.study, one(tags::ACCESSION_NUMBER, VR::SH, "A1"));
}

#[test]
fn the_fingerprint_follows_the_configuration() {
    let path = |text: &str| text.parse::<AttributePath>().unwrap();
    let base = AttributeSet::default();
    assert_eq!(base.fingerprint(), AttributeSet::default().fingerprint());
    let more = base.clone().keep(Level::Series, &path("KVP")).unwrap();
    let moved = base.clone().keep(Level::Instance, &path("KVP")).unwrap();
    assert_ne!(base.fingerprint(), more.fingerprint());
    assert_ne!(moved.fingerprint(), more.fingerprint());
    assert_eq!(base.level_of(tags::STUDY_DATE), Some(Level::Study));
    assert_eq!(
        base.level_of(tags::NUMBER_OF_PATIENT_RELATED_SERIES),
        Some(Level::Patient)
    );
    assert_eq!(base.level_of(tags::KVP), None);
}

#[test]
fn an_attribute_that_can_mean_nothing_is_not_kept_and_the_error_says_why() {
    let keep = |level, text: &str| AttributeSet::default().keep(level, &text.parse().unwrap());
    for (level, text, reason) in [
        (Level::Study, "PatientName", "of level PATIENT"),
        (Level::Series, "StudyDate", "of level STUDY"),
        (Level::Study, "SOPInstanceUID", "of level IMAGE"),
        (Level::Study, "SOPClassUID", "of level IMAGE"),
        (
            Level::Series,
            "ProcedureCodeSequence.CodeMeaning",
            "of level STUDY",
        ),
        (Level::Study, "NumberOfStudyRelatedInstances", "counted"),
        (Level::Study, "SpecificCharacterSet", "never searched"),
        (Level::Study, "00180000", "never searched"),
    ] {
        let error = keep(level, text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
        assert!(error.context().contains(reason), "{text}: {error}");
    }
    for (level, text) in [
        (Level::Patient, "PatientName"),
        (Level::Series, "InstitutionName"),
        (Level::Study, "RequestAttributesSequence.RequestedProcedureID"),
    ] {
        assert!(keep(level, text).is_ok(), "{text}");
    }
}

#[test]
fn a_path_that_names_no_attribute_is_refused() {
    for bad in [
        "",
        "Nonsense",
        "PatientID.PatientName",
        "00291010",
        "0028xx10[A]:LO",
        "0029xx10[]:LO",
        "0029xx10[A]",
        "PixelData",
        "00020010",
    ] {
        assert_eq!(
            bad.parse::<AttributePath>().unwrap_err().kind(),
            ErrorKind::Invalid,
            "{bad}"
        );
    }
    assert_eq!(
        "(0018,0060)".parse::<AttributePath>().unwrap(),
        "KVP".parse().unwrap()
    );
}

/// Text of the characters that mean something to matching, and a few others.
fn lively_text() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof![
            proptest::sample::select(vec![
                "*", "?", "^", "=", "\\", "-", "\"", " ", "0", "2024", "0101", "+0100", ".", ":", "a", "É",
                "ß", "İ", "ｶﾞ", "＝", "山", "김", "\u{0301}", "\u{3099}", "\0", "1.2", "e5", "Ǆ", "ŉ", "ΐ",
                "ẞ",
            ])
            .prop_map(str::to_owned),
            any::<char>().prop_map(String::from),
        ],
        0..8,
    )
    .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn folding_twice_is_folding_once(name in lively_text()) {
        let once = fold_person_name(&name);
        prop_assert_eq!(fold_person_name(&once), once);
    }

    #[test]
    fn the_short_way_of_matching_a_name_agrees_with_folding(name in "[A-Za-c ^=?*`]{0,8}", key in "[A-Ca-c^=?*]{0,5}") {
        if let Some(key) = PersonKey::parse(&key, false) {
            prop_assert_eq!(key.matches(&name), key.matches_folded(&fold_person_name(&name)));
        }
    }

    #[test]
    fn what_a_name_key_says_to_a_planner_holds_for_every_match(
        name in "[ab^=é]{0,6}", key in "[ab^=?*é]{0,5}", fuzzy in any::<bool>(),
    ) {
        if let Some(key) = PersonKey::parse(&key, fuzzy) && key.matches(&name) {
            let folded = fold_person_name(&name);
            prop_assert!(folded_groups(&folded).any(|group| group.starts_with(key.prefix())));
            prop_assert!(folded_groups(&folded).any(|group| key.may_match_group(group)));
            if let Some(exact) = key.exact() {
                prop_assert!(folded_groups(&folded).any(|group| group == exact));
            }
        }
    }

    #[test]
    fn no_key_and_no_value_can_make_matching_panic(
        key in lively_text(), value in lively_text(),
        tag in proptest::sample::select(vec![
            tags::PATIENT_NAME, tags::PATIENT_ID, tags::STUDY_DATE, tags::STUDY_TIME, tags::ACQUISITION_DATE_TIME,
            tags::INSTANCE_NUMBER, tags::SLICE_LOCATION, tags::STUDY_INSTANCE_UID, tags::IMAGE_TYPE, tags::ROWS,
            tags::REQUEST_ATTRIBUTES_SEQUENCE, tags::IMAGE_COMMENTS, Tag(0x0029, 0x1001),
        ]),
        fuzzy_person_names in any::<bool>(), combined_date_time in any::<bool>(), multiple_values in any::<bool>(),
    ) {
        let options = QueryOptions { relational: true, combined_date_time, fuzzy_person_names, multiple_values };
        let mut keys = one(tag, VR::UN, &key);
        keys.put_text(tags::STUDY_TIME, VR::TM, &key);
        let record = one(tag, VR::UN, &value);
        let query = query(keys, options);
        query.matches(&record);
        query.answer(&record);
    }
}
