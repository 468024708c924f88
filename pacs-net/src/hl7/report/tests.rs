use bytes::Bytes;
use pacs_core::VR;
use pacs_core::dataset::{Element, Value};

use super::*;

fn code(value: &str, scheme: &str, meaning: &str) -> Vec<DataSet> {
    let mut item = DataSet::new();
    item.put_text(tags::CODE_VALUE, VR::SH, value);
    item.put_text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, scheme);
    item.put_text(tags::CODE_MEANING, VR::LO, meaning);
    vec![item]
}

fn item(kind: &str, concept: &str) -> DataSet {
    let mut item = DataSet::new();
    item.put_text(tags::VALUE_TYPE, VR::CS, kind);
    item.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, code(concept, "DCM", "Concept"));
    item
}

fn report(content: Vec<DataSet>) -> DataSet {
    let mut set = DataSet::new();
    for (tag, vr, text) in [
        (tags::SOP_CLASS_UID, VR::UI, uids::BASIC_TEXT_SR_STORAGE),
        (tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4"),
        (tags::STUDY_INSTANCE_UID, VR::UI, "1.2"),
        (tags::STUDY_DATE, VR::DA, "20240229"),
        (tags::CONTENT_DATE, VR::DA, "20240301"),
        (tags::CONTENT_TIME, VR::TM, "101530"),
        (tags::ACCESSION_NUMBER, VR::SH, "ACC|1"),
        (tags::REFERRING_PHYSICIAN_NAME, VR::PN, "Refer^Ralph^^Prof."),
        (tags::PATIENT_NAME, VR::PN, "Doe^Jane^^Dr.^Jr.=山田^花子"),
        (tags::PATIENT_ID, VR::LO, "4711"),
        (tags::ISSUER_OF_PATIENT_ID, VR::LO, "HOSP"),
        (tags::PATIENT_BIRTH_DATE, VR::DA, "19700131"),
        (tags::PATIENT_SEX, VR::CS, "F"),
        (tags::VALUE_TYPE, VR::CS, "CONTAINER"),
        (tags::COMPLETION_FLAG, VR::CS, "COMPLETE"),
    ] {
        set.put_text(tag, vr, text);
    }
    set.put_items(tags::CONTENT_SEQUENCE, content);
    set
}

#[test]
fn each_text_code_and_number_of_a_report_is_an_observation() {
    let mut text = item("TEXT", "121071");
    text.put_text(tags::TEXT_VALUE, VR::UT, "No | fracture.\r\nNothing & more.");
    let mut coded = item("CODE", "121072");
    coded.put_items(tags::CONCEPT_CODE_SEQUENCE, code("17621005", "SCT", "Normal"));
    let mut number = item("NUM", "121073");
    let mut measured = DataSet::new();
    measured.put_text(tags::NUMERIC_VALUE, VR::DS, "12.5");
    measured.put_items(
        tags::MEASUREMENT_UNITS_CODE_SEQUENCE,
        code("mm", "UCUM", "millimeter"),
    );
    number.put_items(tags::MEASURED_VALUE_SEQUENCE, vec![measured]);
    let mut container = item("CONTAINER", "121070");
    container.put_items(tags::CONTENT_SEQUENCE, vec![coded, number]);
    let mut order = DataSet::new();
    order.put_text(tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO, "P1");
    order.put_items(
        tags::REQUESTED_PROCEDURE_CODE_SEQUENCE,
        code("CTHEAD", "99X", "CT of the head"),
    );
    let parties = Parties {
        sending_application: "PACS".to_owned(),
        receiving_application: "RIS".to_owned(),
        ..Parties::default()
    };
    let report = report(vec![text, container]);
    let message = oru(&report, Some(&order), &parties).unwrap();
    // It is read as it was meant.
    let message = Message::parse(&message.to_bytes().unwrap()).unwrap();
    for (path, expected) in [
        ("MSH-3", "PACS"),
        ("MSH-5", "RIS"),
        ("MSH-9.2", "R01"),
        ("PID-3", "4711"),
        ("PID-3.4", "HOSP"),
        ("PID-5.2", "Jane"),
        ("PID-5.4", "Jr."),
        ("PID-5.5", "Dr."),
        ("PID-5[2].1", "山田"),
        ("PID-5[2].8", "I"),
        ("PID-7", "19700131"),
        ("ORC-2", "P1"),
        ("OBR-3", "ACC|1"),
        ("OBR-4", "CTHEAD"),
        ("OBR-7", "20240229"),
        ("OBR-16.2", "Refer"),
        ("OBR-18", "ACC|1"),
        ("OBR-22", "20240301101530"),
        ("OBR-25", "F"),
        ("OBX[1]-5", "1.2"),
        ("OBX[2]-5", "1.2.3.4"),
        ("OBX[3]-3", "121071"),
        ("OBX[3]-4", "1"),
        ("OBX[3]-5", "No | fracture.\nNothing & more."),
        ("OBX[4]-2", "CWE"),
        ("OBX[4]-4", "2.1"),
        ("OBX[4]-5.2", "Normal"),
        ("OBX[5]-5", "12.5"),
        ("OBX[5]-6", "mm"),
        ("OBX[5]-11", "F"),
    ] {
        assert_eq!(message.get(path).as_deref(), Some(expected), "{path}");
    }
    assert_eq!(message.get("OBX[6]-1"), None);
    let again = oru(&report, None, &parties).unwrap();
    assert_eq!(again.get("MSH-10"), message.get("MSH-10"));
}

#[test]
fn a_document_is_sent_as_it_is() {
    let mut document = report(Vec::new());
    document.put_text(tags::SOP_CLASS_UID, VR::UI, uids::ENCAPSULATED_PDF_STORAGE);
    let mut put = |tag, vr, bytes: &'static [u8]| {
        let value = Value::Bytes(Bytes::from_static(bytes));
        document.put(Element { tag, vr, value });
    };
    put(tags::ENCAPSULATED_DOCUMENT, VR::OB, b"%PDF-1.7 x\0");
    put(tags::ENCAPSULATED_DOCUMENT_LENGTH, VR::UL, &[10, 0, 0, 0]);
    let message = oru(&document, None, &Parties::default()).unwrap();
    assert_eq!(message.get("OBX[3]-2").as_deref(), Some("ED"));
    assert_eq!(message.get("OBX[3]-5.3").as_deref(), Some("pdf"));
    let data = message.get("OBX[3]-5.5").unwrap();
    assert_eq!(base64::decode(&data).unwrap(), b"%PDF-1.7 x");
    let long = vec![b'x'; DOCUMENT_LENGTH_MAX_BYTES + 1];
    document.remove(tags::ENCAPSULATED_DOCUMENT_LENGTH);
    document.put(Element {
        tag: tags::ENCAPSULATED_DOCUMENT,
        vr: VR::OB,
        value: Value::Bytes(long.into()),
    });
    let refused = oru(&document, None, &Parties::default()).unwrap_err();
    assert_eq!(
        (refused.kind(), refused.retry()),
        (ErrorKind::OutOfResources, Retry::Never)
    );
}

#[test]
fn what_is_no_report_is_refused_and_what_is_not_final_is_told_so() {
    let mut text = item("TEXT", "121071");
    text.put_text(tags::TEXT_VALUE, VR::UT, "x");
    let whole = report(vec![text]);
    let status = |set: &DataSet| {
        let message = oru(set, None, &Parties::default()).unwrap();
        ["OBR-25", "OBX[3]-11"].map(|path| message.get(path).unwrap())
    };
    assert_eq!(status(&whole), ["F", "F"]);
    let mut other = whole.clone();
    other.put_text(tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED");
    assert_eq!(status(&other), ["R", "R"]);
    other.put_text(tags::PRELIMINARY_FLAG, VR::CS, "PRELIMINARY");
    assert_eq!(status(&other), ["P", "P"]);
    let without = |tag| {
        let mut set = whole.clone();
        set.remove(tag);
        oru(&set, None, &Parties::default()).unwrap_err().kind()
    };
    assert_eq!(without(tags::COMPLETION_FLAG), ErrorKind::Refused);
    assert_eq!(without(tags::VALUE_TYPE), ErrorKind::Unsupported);
    assert_eq!(without(tags::PATIENT_ID), ErrorKind::Invalid);
    assert_eq!(without(tags::CONTENT_SEQUENCE), ErrorKind::Invalid);
}
