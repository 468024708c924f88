//! The messages of every constructor, and messages of any text and size, against the schema of PS3.15 A.5.1.
// What is said of the seed goes into the test's output.
#![allow(clippy::print_stderr)]

#[path = "../python/mod.rs"]
mod python;

use std::fs;
use std::path::Path;
use std::process::Command;

use pacs_core::audit::{
    AccessPoint, Action, AlertSubject, AuditSource, Between, Code, Media, Message, Outcome, OutcomeIndicator,
    Participant, Patient, Question, Study, Subject,
};
use pacs_core::{AeTitle, Error, ErrorKind, PatientId, Uid};

const CT: Uid = Uid::constant("1.2.840.10008.5.1.4.1.1.2");
const STUDY_ROOT_FIND: Uid = Uid::constant("1.2.840.10008.5.1.4.1.2.2.1");
const IMPLICIT: Uid = Uid::constant("1.2.840.10008.1.2");

fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

fn pacs() -> Participant {
    Participant::process("pacs-server", [AeTitle::parse("PACS").unwrap()])
}

fn modality() -> Participant {
    let address = AccessPoint::Address("192.0.2.7".parse().unwrap());
    Participant::application(AeTitle::parse("CT1").unwrap())
        .at(address)
        .requesting()
}

fn doctor(text: &str) -> Participant {
    Participant::person(format!("doc{text}@ward"))
        .also_known_as(format!("doc{text}@REALM"))
        .named(format!("Jane {text} Doe"))
        .at(AccessPoint::Host(format!("ward7{text}.example")))
        .requesting()
}

fn subject(text: &str) -> Subject {
    let id = PatientId::new(&format!("4711{text}"), Some("HOSPITAL"));
    let patient = Patient::new(id, format!("Family{text}^Given"));
    let mut study = Study::new(uid("1.2.3"))
        .with_accession_number(format!("A{text}1"))
        .with_performed_step(uid("1.2.3.9"))
        .encrypted(true)
        .anonymized(false);
    study.add(CT, uid("1.2.3.1.1"));
    study.add(CT, uid("1.2.3.1.2"));
    let mut other = Study::new(uid("1.2.4"));
    other.count(CT, 7);
    Subject::new(patient, [study, other, Study::new(uid("1.2.5"))])
}

fn patient(text: &str) -> Patient {
    Patient::new(format!("4711{text}").as_str(), format!("Family{text}"))
}

/// A message of each constructor; `text` stands in every text that comes from outside.
fn all(text: &str) -> Vec<Message> {
    let between = || Between::new(modality(), pacs()).and(doctor(text));
    let dicom = Question::Dicom {
        sop_class: STUDY_ROOT_FIND,
        identifier: text.as_bytes().to_vec(),
        transfer_syntax: IMPLICIT,
    };
    let web = Question::Uri {
        resource: format!("https://pacs.example/{text}/studies"),
        query: format!("PatientName={text}*").into_bytes(),
    };
    let node = AlertSubject::Node(format!("node{text}"));
    let uri = AlertSubject::Uri(format!("file:///etc/{text}"));
    let place = || AccessPoint::Uri(format!("https://ward.example/{text}"));
    let failed: Result<(), Error> = Err(Error::new(
        ErrorKind::Refused,
        "test.audit",
        format!("not {text}"),
    ));
    let outcomes = [
        Outcome::of(&failed),
        Outcome::failure(OutcomeIndicator::MinorFailure, text),
        Outcome::failure(OutcomeIndicator::MajorFailure, text),
    ];
    let dvd = Media::physical(format!("DVD {text}"), Code::MEDIA_DVD, Some(text.to_owned()));
    let mut messages = vec![
        Message::application_started(pacs(), [doctor(text)]),
        Message::application_stopped(pacs(), []),
        Message::audit_log_used([doctor(text), pacs()], format!("file:///audit{text}")),
        Message::begin_transferring(between(), subject(text)),
        Message::data_export([pacs()], [doctor(text)], dvd, [subject(text), subject("2")]),
        Message::data_export(
            [pacs()],
            [],
            Media::uri(format!("file:///{text}")),
            [subject(text)],
        ),
        Message::data_import([pacs()], [modality()], Media::uri(text), [subject(text)]),
        Message::instances_accessed(Action::Update, [doctor(text), pacs()], subject(text)),
        Message::instances_transferred(Action::Create, between(), subject(text)),
        Message::study_deleted([doctor(text)], subject(text)),
        Message::network_entry(true, pacs()),
        Message::network_entry(false, pacs()),
        Message::query(between(), dicom),
        Message::query(between(), web).with_type(Code::new("RAD-129", "IHE Transactions", text)),
        Message::security_alert(Code::NODE_AUTHENTICATION, [pacs()], [modality()], node, text),
        Message::security_alert(Code::SECURITY_CONFIGURATION, [pacs()], [], uri, text),
        Message::user_login(doctor(text), place(), Some(pacs())),
        Message::user_logout(doctor(text), place(), None),
        Message::order_record(Action::Create, [modality()], patient(text)),
        Message::patient_record(Action::Update, [modality(), pacs()], patient(text)),
        Message::procedure_record(Action::Delete, [modality()], subject(text)),
    ];
    messages.extend(outcomes.map(|outcome| Message::network_entry(true, pacs()).with_outcome(outcome)));
    messages
}

/// Writes the documents of messages into a directory, and answers how many there are.
fn write(directory: &Path, name: &str, messages: &[Message], text: &str) -> usize {
    let source = AuditSource {
        id: format!("PACS{text}@example"),
        site: Some(text.to_owned()),
    };
    let mut count = 0;
    for (number, message) in messages.iter().enumerate() {
        for (part, document) in message.documents(&source).into_iter().enumerate() {
            fs::write(directory.join(format!("{name}-{number}-{part}.xml")), document).unwrap();
            count += 1;
        }
    }
    count
}

#[test]
fn every_message_is_valid_by_the_schema_of_the_standard_whatever_is_in_its_texts() {
    let Some(python) = python::python_with("lxml, rnc2rng") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let below_space: String = (0..32_u8).map(char::from).collect();
    let long = "<\"&>'\u{10FFFF}\u{7F}".repeat(20_000);
    let texts = [
        ("plain", ""),
        ("letters", "Müller^山田"),
        ("markup", "]]><!--&amp;\"' <a b='c'/> &#0; -->"),
        ("control", &below_space),
        (
            "odd",
            "\u{FFFE}\u{FFFF}\u{FEFF}\u{85}\u{2028}\u{1F600}\u{7F}\u{9F}",
        ),
        ("long", &long),
    ];
    let mut written = 0;
    for (name, text) in texts {
        written += write(directory.path(), name, &all(text), text);
    }
    let mut study = Study::new(uid("1.2.6"));
    for number in 0..3000 {
        study.add(CT, uid(&format!("1.2.6.1.{number}")));
    }
    let studies = (0..2000).map(|number| Study::new(uid(&format!("1.2.7.{number}"))));
    let many = Subject::new(patient(""), [study].into_iter().chain(studies));
    let message = Message::instances_accessed(Action::Read, [doctor("")], many);
    let parts = write(directory.path(), "many", &[message], "");
    assert!(parts > 10, "{parts}");
    written += parts;

    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audit");
    let output = Command::new(python)
        .arg(here.join("validate.py"))
        .arg(here.join("schema.rnc"))
        .arg(directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(said.trim(), format!("looked at {written}"));
    eprintln!("{written} documents are valid");
}

#[test]
fn the_schema_refuses_what_the_standard_does_not_have() {
    let Some(python) = python::python_with("lxml, rnc2rng") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let good = Message::network_entry(true, pacs())
        .documents(&AuditSource::new("PACS"))
        .remove(0);
    let bad = [
        good.replace("EventActionCode=\"E\"", "EventActionCode=\"X\""),
        good.replace(" originalText=\"Attach\"", ""),
        good.replace("UserIsRequestor=\"false\"", "UserIsRequestor=\"no\""),
        good.replace("</AuditMessage>", "<Other/></AuditMessage>"),
    ];
    for (number, document) in bad.iter().enumerate() {
        assert_ne!(*document, good);
        fs::write(directory.path().join(format!("{number}.xml")), document).unwrap();
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audit");
    let output = Command::new(python)
        .arg(here.join("validate.py"))
        .arg(here.join("schema.rnc"))
        .arg(directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        said.lines().filter(|line| line.starts_with("invalid")).count(),
        4,
        "{said}"
    );
}
