use super::*;
use crate::deid::SafePrivate;

fn project() -> Project {
    Project::new("trial", b"0123456789abcdef").unwrap()
}

fn made(profile: &Profile, header: &DataSet) -> DataSet {
    let project = project();
    Run::new(profile, &project, header).header(header.clone(), false)
}

fn header() -> DataSet {
    let mut set = DataSet::new();
    for (tag, vr, text) in [
        (tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.2"),
        (tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4"),
        (tags::STUDY_DATE, VR::DA, "20240301"),
        (tags::STUDY_TIME, VR::TM, "101112"),
        (tags::ACQUISITION_DATE_TIME, VR::DT, "20240301101112"),
        (tags::ACCESSION_NUMBER, VR::SH, "A4711"),
        (tags::MANUFACTURER, VR::LO, "Maker"),
        (tags::INSTITUTION_NAME, VR::LO, "Hospital"),
        (tags::STUDY_DESCRIPTION, VR::LO, "Follow-up of Müller"),
        (tags::PATIENT_NAME, VR::PN, "Müller^Eva"),
        (tags::PATIENT_ID, VR::LO, "4711-A"),
        (tags::PATIENT_SEX, VR::CS, "F"),
        (tags::PATIENT_AGE, VR::AS, "093Y"),
        (tags::BODY_PART_EXAMINED, VR::CS, "HEAD"),
        (tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3"),
        (Tag(0x0029, 0x0010), VR::LO, "MAKER"),
        (Tag(0x0029, 0x100C), VR::LO, "of Eva"),
        (Tag(0x0029, 0x100D), VR::LO, "other"),
    ] {
        set.put_text(tag, vr, text);
    }
    set
}

#[test]
fn the_basic_profile_replaces_empties_and_leaves_out() {
    let made = made(&Profile::default(), &header());
    assert_eq!(
        made.string(tags::SOP_CLASS_UID),
        Some("1.2.840.10008.5.1.4.1.1.2")
    );
    assert_eq!(
        made.string(tags::SOP_INSTANCE_UID),
        Some(&*project().uid("1.2.3.4"))
    );
    assert_eq!(
        made.string(tags::STUDY_INSTANCE_UID),
        Some(&*project().uid("1.2.3"))
    );
    for empty in [tags::STUDY_DATE, tags::STUDY_TIME, tags::ACCESSION_NUMBER] {
        assert!(made.get(empty).is_some_and(Element::is_empty), "{empty}");
    }
    for gone in [
        tags::STUDY_DESCRIPTION,
        tags::PATIENT_AGE,
        Tag(0x0029, 0x0010),
        Tag(0x0029, 0x100C),
    ] {
        assert!(!made.contains(gone), "{gone}");
    }
    // X/Z/D, whose Type isn't looked up.
    assert_eq!(made.string(tags::ACQUISITION_DATE_TIME), Some("19000101000000"));
    assert_eq!(made.string(tags::MANUFACTURER), Some("Maker"));
    assert_eq!(made.string(tags::BODY_PART_EXAMINED), Some("HEAD"));
    let (id, name) = (made.string(tags::PATIENT_ID), made.string(tags::PATIENT_NAME));
    assert!(id == name && id.is_some_and(|id| id.len() == 16));
    assert_eq!(made.string(tags::PATIENT_IDENTITY_REMOVED), Some("YES"));
    assert_eq!(
        made.string(tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED),
        Some("REMOVED")
    );
    let codes = made.items(tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE);
    assert_eq!(codes[0].string(tags::CODE_VALUE), Some("113100"));
    assert!(made.contains(tags::DEIDENTIFICATION_METHOD));
}

#[test]
fn dates_of_a_patient_go_back_by_the_same_days_and_times_stay() {
    let profile = Profile {
        dates: Dates::Shift,
        ..Profile::default()
    };
    let made = made(&profile, &header());
    let date = made.string(tags::STUDY_DATE).unwrap();
    assert_ne!(date, "20240301");
    assert_eq!(
        made.string(tags::ACQUISITION_DATE_TIME),
        Some(&*format!("{date}101112"))
    );
    assert_eq!(made.string(tags::STUDY_TIME), Some("101112"));
    assert_eq!(
        made.string(tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED),
        Some("MODIFIED")
    );
    let mut no_date = header();
    no_date.put_text(tags::STUDY_DATE, VR::DA, "of Müller");
    let made = super::tests::made(&profile, &no_date);
    assert!(made.get(tags::STUDY_DATE).is_some_and(Element::is_empty));
}

#[test]
fn what_options_retain_stays_and_an_age_above_89_is_capped() {
    let profile = Profile {
        retain_uids: true,
        retain_institution_identity: true,
        retain_patient_characteristics: true,
        dates: Dates::Keep,
        ..Profile::default()
    };
    let made = made(&profile, &header());
    assert_eq!(made.string(tags::SOP_INSTANCE_UID), Some("1.2.3.4"));
    assert_eq!(made.string(tags::STUDY_DATE), Some("20240301"));
    assert_eq!(made.string(tags::INSTITUTION_NAME), Some("Hospital"));
    assert_eq!(made.string(tags::PATIENT_SEX), Some("F"));
    assert_eq!(made.string(tags::PATIENT_AGE), Some("090Y"));
}

#[test]
fn cleaned_descriptions_say_no_name() {
    let profile = Profile {
        clean_descriptors: true,
        ..Profile::default()
    };
    let made = made(&profile, &header());
    assert_eq!(made.string(tags::STUDY_DESCRIPTION), Some("Follow-up of ***"));
}

#[test]
fn safe_private_attributes_stay_with_their_creator_and_without_names() {
    let mut header = header();
    header.put_text(Tag(0x2001, 0x0011), VR::LO, "Philips Imaging DD 001");
    header.put_text(Tag(0x2001, 0x1104), VR::CS, "I");
    let profile = Profile {
        retain_safe_private: true,
        safe_private: vec![SafePrivate {
            group: 0x0029,
            element: 0x0C,
            creator: "MAKER".into(),
        }],
        ..Profile::default()
    };
    let made = made(&profile, &header);
    assert_eq!(made.string(Tag(0x0029, 0x0010)), Some("MAKER"));
    assert_eq!(made.string(Tag(0x0029, 0x100C)), Some("of ***"));
    assert!(!made.contains(Tag(0x0029, 0x100D)));
    // Nobody has said that these are safe.
    assert!(!made.contains(Tag(0x2001, 0x0011)));
    assert!(!made.contains(Tag(0x2001, 0x1104)));
}

#[test]
fn sequences_are_cleaned_at_any_depth() {
    let mut inner = DataSet::new();
    inner.put_text(
        tags::REFERENCED_SOP_CLASS_UID,
        VR::UI,
        "1.2.840.10008.5.1.4.1.1.2",
    );
    inner.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, "1.2.3.4");
    inner.put_text(tags::PHYSICIANS_OF_RECORD, VR::PN, "Doctor^Who");
    let mut outer = DataSet::new();
    outer.put_items(tags::REFERENCED_SOP_SEQUENCE, vec![inner]);
    outer.put_text(Tag(0x0029, 0x0010), VR::LO, "MAKER");
    let mut header = header();
    header.put_items(tags::REFERENCED_SERIES_SEQUENCE, vec![outer]);
    let made = made(&Profile::default(), &header);
    let outer = &made.items(tags::REFERENCED_SERIES_SEQUENCE)[0];
    assert_eq!(outer.len(), 1);
    let inner = &outer.items(tags::REFERENCED_SOP_SEQUENCE)[0];
    let uid = made.string(tags::SOP_INSTANCE_UID);
    assert_eq!(inner.string(tags::REFERENCED_SOP_INSTANCE_UID), uid);
    assert_eq!(
        inner.string(tags::REFERENCED_SOP_CLASS_UID),
        Some("1.2.840.10008.5.1.4.1.1.2")
    );
    assert!(!inner.contains(tags::PHYSICIANS_OF_RECORD));
}

/// A report that says who it is of in a name, a text and a date, with a reference.
fn report() -> DataSet {
    let item = |tag, vr, text: &str| {
        let mut item = DataSet::new();
        item.put_text(tag, vr, text);
        item
    };
    let mut report = header();
    let items = vec![
        item(tags::PERSON_NAME, VR::PN, "Müller^Eva"),
        item(tags::TEXT_VALUE, VR::UT, "Eva has nothing"),
        item(tags::DATE, VR::DA, "20240301"),
        item(tags::UID, VR::UI, "1.2.3.4"),
        item(tags::CONCEPT_NAME_CODE_SEQUENCE, VR::UN, ""),
    ];
    report.put_items(tags::CONTENT_SEQUENCE, items);
    report
}

#[test]
fn the_content_of_a_report_becomes_one_dummy() {
    let made = made(&Profile::default(), &report());
    let [item] = made.items(tags::CONTENT_SEQUENCE) else {
        panic!("one item is needed");
    };
    assert_eq!(item.string(tags::VALUE_TYPE), Some("TEXT"));
}

#[test]
fn the_content_of_a_report_that_is_cleaned_names_nobody() {
    let mut profile = Profile {
        clean_structured_content: true,
        dates: Dates::Shift,
        ..Profile::default()
    };
    let cleaned = made(&profile, &report());
    let content = cleaned.items(tags::CONTENT_SEQUENCE);
    assert_eq!(content[0].string(tags::PERSON_NAME), Some("ANONYMIZED"));
    assert_eq!(content[1].string(tags::TEXT_VALUE), Some("ANONYMIZED"));
    assert_eq!(content[2].string(tags::DATE), cleaned.string(tags::STUDY_DATE));
    assert_eq!(
        content[3].string(tags::UID),
        cleaned.string(tags::SOP_INSTANCE_UID)
    );
    profile.clean_descriptors = true;
    let cleaned = made(&profile, &report());
    let content = cleaned.items(tags::CONTENT_SEQUENCE);
    assert_eq!(content[1].string(tags::TEXT_VALUE), Some("*** has nothing"));
}

#[test]
fn what_is_not_understood_is_left_out() {
    let mut header = header();
    header.put_text(Tag(0x0018, 0x0001), VR::LO, "Eva");
    header.put_text(tags::REFERENCED_SERIES_SEQUENCE, VR::UN, "Eva");
    header.put_text(tags::PROTOCOL_NAME, VR::UN, "Eva");
    header.put_text(Tag(0x6002, 0x0022), VR::LO, "of Eva");
    let made = made(&Profile::default(), &header);
    assert!(!made.contains(Tag(0x0018, 0x0001)));
    assert!(!made.contains(tags::REFERENCED_SERIES_SEQUENCE));
    assert_ne!(made.string(tags::PROTOCOL_NAME), Some("Eva"));
    // Of an overlay nothing stays where its data doesn't.
    assert!(!made.contains(Tag(0x6002, 0x0022)));
}

#[test]
fn items_of_dummies_keep_their_structure_and_no_value() {
    let mut observer = DataSet::new();
    observer.put_text(tags::VERIFYING_OBSERVER_NAME, VR::PN, "Doctor^Who");
    observer.put_text(tags::VERIFYING_ORGANIZATION, VR::LO, "Hospital");
    observer.put_text(tags::VERIFICATION_DATE_TIME, VR::DT, "20240301101112");
    let mut header = header();
    header.put_items(tags::VERIFYING_OBSERVER_SEQUENCE, vec![observer]);
    let made = made(&Profile::default(), &header);
    let observer = &made.items(tags::VERIFYING_OBSERVER_SEQUENCE)[0];
    for (tag, value) in [
        (tags::VERIFYING_OBSERVER_NAME, "ANONYMIZED"),
        (tags::VERIFYING_ORGANIZATION, "ANONYMIZED"),
        (tags::VERIFICATION_DATE_TIME, "19000101000000"),
    ] {
        assert_eq!(observer.string(tag), Some(value), "{tag}");
    }
}

#[test]
fn what_is_newer_than_the_table_and_what_a_sender_calls_otherwise_does_not_slip_through() {
    let mut header = header();
    let mut item = DataSet::new();
    item.put_text(tags::PATIENT_NAME, VR::PN, "Doe^Jane");
    let raw = b"\x10\0\x10\0PN\x08\0Doe^Jane";
    header.put_text(Tag(0x0010, 0x0012), VR::LT, "Evi");
    header.put_items(Tag(0x0010, 0x0041), vec![item.clone()]);
    header.put_items(Tag(0x0008, 0x1301), vec![item]);
    header.put_text(tags::RETRIEVE_URL, VR::UR, "https://pacs/?patientID=4711-A");
    // Items, a name and an age, by VRs that are not theirs.
    header.put(Element {
        tag: tags::REFERENCED_SERIES_SEQUENCE,
        vr: VR::OB,
        value: Value::Bytes(Bytes::from_static(raw)),
    });
    header.put_text(tags::EVALUATOR_NAME, VR::LO, "Doctor^Who");
    header.put_text(tags::PATIENT_AGE, VR::SH, "093Y");
    header.put_text(tags::PROTOCOL_NAME, VR::LO, "for Who");
    let profile = Profile {
        retain_patient_characteristics: true,
        clean_descriptors: true,
        ..Profile::default()
    };
    for profile in [Profile::default(), profile] {
        let made = made(&profile, &header);
        for tag in [
            Tag(0x0010, 0x0012),
            Tag(0x0010, 0x0041),
            tags::RETRIEVE_URL,
            tags::REFERENCED_SERIES_SEQUENCE,
        ] {
            assert!(!made.contains(tag), "{tag}");
        }
        assert_ne!(made.string(tags::EVALUATOR_NAME), Some("Doctor^Who"));
        assert_ne!(made.string(tags::PATIENT_AGE), Some("093Y"));
        assert_ne!(made.string(tags::PROTOCOL_NAME), Some("for Who"));
        let diagnoses = made.items(Tag(0x0008, 0x1301));
        assert!(
            diagnoses
                .iter()
                .all(|item| item.string(tags::PATIENT_NAME) != Some("Doe^Jane"))
        );
    }
}

#[test]
fn no_real_date_stays_beside_those_that_have_gone_back() {
    let mut header = header();
    header.put_text(tags::DATE_OF_LAST_CALIBRATION, VR::DA, "20240301");
    header.put_text(Tag(0x0029, 0x100C), VR::DA, "20240301");
    header.put_text(Tag(0x0029, 0x100D), VR::UN, "of Eva");
    let safe = |element| SafePrivate {
        group: 0x0029,
        element,
        creator: "MAKER".into(),
    };
    let profile = Profile {
        dates: Dates::Shift,
        retain_device_identity: true,
        retain_safe_private: true,
        safe_private: vec![safe(0x0C), safe(0x0D)],
        ..Profile::default()
    };
    let made = made(&profile, &header);
    let study = made.string(tags::STUDY_DATE).unwrap();
    assert_ne!(study, "20240301");
    assert_eq!(made.string(tags::DATE_OF_LAST_CALIBRATION), Some(study));
    assert_eq!(made.string(Tag(0x0029, 0x100C)), Some(study));
    // Nothing says what is in it.
    assert!(!made.contains(Tag(0x0029, 0x100D)));
}
