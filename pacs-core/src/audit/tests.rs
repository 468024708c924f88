//! What stands in documents, and that it is no more than they have room for.

use std::collections::HashSet;
use std::sync::Mutex;

use proptest::prelude::*;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::*;
use crate::error::{ErrorKind, Result};
use crate::limits::{AUDIT_DOCUMENT_LENGTH_MAX_BYTES, AUDIT_QUERY_LENGTH_MAX_BYTES};
use crate::uid::Uid;

const CT: Uid = Uid::constant("1.2.840.10008.5.1.4.1.1.2");

fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

fn source() -> AuditSource {
    AuditSource::new("PACS")
}

fn patient() -> Patient {
    Patient::new("4711", "Family^Given")
}

/// The values of an attribute in all elements of a name.
fn values(document: &str, element: &str, attribute: &str) -> Vec<String> {
    let mut reader = Reader::from_str(document);
    let mut found = Vec::new();
    let of = |start: &BytesStart<'_>| {
        let value = start
            .attributes()
            .map(Result::unwrap)
            .find(|value| value.key.as_ref() == attribute);
        value.map(|value| quick_xml::escape::unescape(&value.value).unwrap().into_owned())
    };
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) | Event::Empty(start) if start.name().as_ref() == element => {
                found.extend(of(&start));
            }
            Event::Eof => return found,
            _ => {}
        }
    }
}

/// What a text is written as.
fn written(text: &str) -> String {
    let allowed = |c: char| match c {
        '\t' | '\n' | '\r' => c,
        '\u{0}'..='\u{1F}' | '\u{7F}'..='\u{9F}' | '\u{FFFE}' | '\u{FFFF}' => '\u{FFFD}',
        c => c,
    };
    text.chars().map(allowed).collect()
}

proptest! {
    #[test]
    fn any_text_comes_out_of_a_document_as_it_went_in_but_for_what_xml_does_not_have(text in "\\PC{0,60}|(?s).{0,60}") {
        let who = Participant::person(text.as_str()).named(text.as_str());
        let document = Message::network_entry(true, who).documents(&source()).remove(0);
        prop_assert_eq!(values(&document, "ActiveParticipant", "UserID"), [written(&text)]);
        prop_assert_eq!(values(&document, "ActiveParticipant", "UserName"), [written(&text)]);
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters(text in "[<&é\\x00a]{500,900}") {
        let who = Participant::person(text.as_str());
        let document = Message::network_entry(true, who).documents(&source()).remove(0);
        let found = values(&document, "ActiveParticipant", "UserID").remove(0);
        let begin = found.strip_suffix('…').unwrap_or(&found);
        prop_assert!(written(&text).starts_with(begin));
        prop_assert!(found.len() > 70);
    }
}

#[test]
fn a_message_with_the_longest_of_everything_fits_its_document() {
    let long = "\"".repeat(5000);
    let code = || Code::new(long.as_str(), long.as_str(), long.as_str());
    let who = || {
        Participant::person(long.as_str())
            .also_known_as(long.as_str())
            .named(long.as_str())
            .at(AccessPoint::Host(long.clone()))
    };
    let between = || (0..20).fold(Between::new(who(), who()), |between, _| between.and(who()));
    let mut study = Study::new(uid("1.".repeat(31).trim_end_matches('.')));
    for class in 0..300 {
        for instance in 0..20 {
            study.add(
                uid(&format!("1.2.{class}.{}", "1".repeat(50))),
                uid(&format!("1.{instance}.{}", "2".repeat(50))),
            );
        }
    }
    for _ in 0..20 {
        study = study
            .with_accession_number(long.as_str())
            .with_performed_step(uid("1.2.3"));
    }
    let patient = Patient::new(crate::PatientId::new(&long, Some(&long)), long.as_str());
    let studies = [study.clone().anonymized(true).encrypted(true), study];
    let subject = Subject::new(patient, studies);
    let question = Question::Dicom {
        sop_class: CT,
        identifier: vec![0; 1 << 20],
        transfer_syntax: CT,
    };
    let web = Question::Uri {
        resource: long.clone(),
        query: vec![b'q'; 1 << 20],
    };
    let messages = [
        Message::instances_transferred(Action::Create, between(), subject.clone()),
        Message::data_export(
            [who(), who()],
            (0..9).map(|_| who()),
            Media::physical(long.as_str(), code(), Some(long.clone())),
            [subject.clone(), subject],
        ),
        Message::query(between(), question),
        Message::query(between(), web),
        Message::security_alert(
            code(),
            [who(), who()],
            (0..9).map(|_| who()),
            AlertSubject::Uri(long.clone()),
            &long,
        ),
    ];
    let source = AuditSource {
        id: long.clone(),
        site: Some(long.clone()),
    };
    for message in messages {
        let message = (0..9).fold(message, |message, _| message.with_type(code()));
        let message = message.with_outcome(Outcome::failure(OutcomeIndicator::MajorFailure, long.as_str()));
        for document in message.documents(&source) {
            let length = document.len();
            assert!(length <= AUDIT_DOCUMENT_LENGTH_MAX_BYTES, "{message:?}: {length}");
        }
    }
}

#[test]
fn an_export_names_its_medium_and_one_requestor_however_many_receive_it() {
    let receivers = (0..9).map(|number| Participant::person(format!("r{number}")).requesting());
    let message = Message::data_export([Participant::person("u")], receivers, Media::uri("file:///x"), []);
    let document = message.documents(&source()).remove(0);
    assert!(values(&document, "MediaType", "csd-code") == ["110037"]);
    let requestors = values(&document, "ActiveParticipant", "UserIsRequestor");
    assert_eq!(requestors.iter().filter(|value| *value == "true").count(), 1);
    let silent = Message::data_import([Participant::person("u")], [], Media::uri("file:///x"), []);
    let document = silent.documents(&source()).remove(0);
    assert_eq!(
        values(&document, "ActiveParticipant", "UserIsRequestor"),
        ["true", "false"]
    );
}

#[test]
fn sop_instance_uids_are_named_while_there_is_room_and_counted_always() {
    let mut study = Study::new(uid("1.2.3"));
    for number in 0..2000 {
        study.add(
            CT,
            uid(&format!(
                "1.2.840.113619.2.55.3.604688119.969.1234567890.{number}"
            )),
        );
    }
    let subject = Subject::new(patient(), [study]);
    let message = Message::instances_accessed(Action::Read, [Participant::person("u")], subject);
    let documents = message.documents(&source());
    assert_eq!(documents.len(), 1);
    assert_eq!(values(&documents[0], "SOPClass", "NumberOfInstances"), ["2000"]);
    let named = values(&documents[0], "Instance", "UID");
    assert!(
        named.len() > 350 && named.len() <= INSTANCES_NAMED_MAX,
        "{}",
        named.len()
    );
    assert!(documents[0].len() + 100 > AUDIT_DOCUMENT_LENGTH_MAX_BYTES || named.len() == INSTANCES_NAMED_MAX);
}

#[test]
fn instances_of_more_sop_classes_than_are_named_are_counted_together() {
    let mut study = Study::new(uid("1.2.3"));
    for class in 0..SOP_CLASSES_MAX + 10 {
        study.count(uid(&format!("1.2.3.{class}")), 3);
    }
    let subject = Subject::new(patient(), [study]);
    let message = Message::study_deleted([Participant::person("u")], subject);
    let document = message.documents(&source()).remove(0);
    let counts = values(&document, "SOPClass", "NumberOfInstances");
    let total: u64 = counts.iter().map(|count| count.parse::<u64>().unwrap()).sum();
    assert_eq!(
        (counts.len(), total),
        (SOP_CLASSES_MAX + 1, 3 * (SOP_CLASSES_MAX as u64 + 10))
    );
}

#[test]
fn of_many_studies_each_stands_once_in_several_documents_that_each_say_who_and_whose() {
    let subject = |of: u32| {
        let studies = (0..300).map(move |number| Study::new(uid(&format!("1.2.{of}.{number}"))));
        Subject::new(Patient::new(format!("P{of}").as_str(), "Family"), studies)
    };
    let who = Participant::person("u").requesting();
    let message = Message::data_export([who], [], Media::uri("file:///x"), (0..3).map(subject));
    let documents = message.documents(&source());
    assert!(documents.len() > 3);
    let mut studies = HashSet::new();
    for document in &documents {
        assert!(document.len() <= AUDIT_DOCUMENT_LENGTH_MAX_BYTES);
        assert_eq!(values(document, "EventID", "csd-code"), ["110106"]);
        assert_eq!(values(document, "ActiveParticipant", "UserID")[0], "u");
        // In the order of the document: a patient, then studies of that one.
        let mut patient = None;
        for id in values(document, "ParticipantObjectIdentification", "ParticipantObjectID") {
            if let Some(number) = id.strip_prefix('P') {
                patient = Some(number.to_owned());
            } else {
                let of = format!("1.2.{}.", patient.as_deref().expect("the patient stands before"));
                assert!(id.starts_with(&of), "{id}");
                assert!(studies.insert(id), "twice");
            }
        }
    }
    assert_eq!(studies.len(), 900);
}

#[test]
fn of_a_long_query_the_beginning_is_told_and_how_long_it_is() {
    let between = || Between::new(Participant::person("u"), Participant::person("p"));
    let question = |length| Question::Dicom {
        sop_class: CT,
        identifier: vec![7; length],
        transfer_syntax: Uid::constant("1.2.840.10008.1.2"),
    };
    let whole = Message::query(between(), question(AUDIT_QUERY_LENGTH_MAX_BYTES))
        .documents(&source())
        .remove(0);
    assert_eq!(
        values(&whole, "ParticipantObjectDetail", "type"),
        ["TransferSyntax"]
    );
    let cut = Message::query(between(), question(70_000))
        .documents(&source())
        .remove(0);
    assert_eq!(
        values(&cut, "ParticipantObjectDetail", "type"),
        ["TransferSyntax", "QueryLength"]
    );
    let lengths = values(&cut, "ParticipantObjectDetail", "value");
    assert_eq!(crate::dataset::base64::decode(&lengths[1]).unwrap(), b"70000");
}

#[test]
fn nothing_of_a_patient_or_a_user_stands_in_what_debug_shows() {
    let who = Participant::person("secret")
        .named("secret")
        .also_known_as("secret");
    let subject = Subject::new(Patient::new("secret", "secret"), [Study::new(uid("1.2.34567"))]);
    let question = Question::Uri {
        resource: "secret".to_owned(),
        query: b"secret".to_vec(),
    };
    let media = Media::physical("secret", Code::MEDIA_CD, Some("secret".to_owned()));
    let message = Message::instances_accessed(Action::Read, [who.clone()], subject.clone());
    let shown = format!("{who:?} {subject:?} {question:?} {media:?} {message:?}");
    assert!(!shown.contains("secret") && !shown.contains("34567"), "{shown}");
}

/// Keeps what was recorded, or fails.
#[derive(Default)]
struct Kept {
    events: Mutex<Vec<String>>,
    fails: std::sync::atomic::AtomicBool,
}

impl AuditTrail for Kept {
    fn record(&self, message: &Message) -> Result<()> {
        if self.fails.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Io, "test.record", "the disk is gone"));
        }
        self.events
            .lock()
            .unwrap()
            .push(message.event().meaning().to_owned());
        Ok(())
    }
}

#[test]
fn what_can_not_be_recorded_is_refused_only_where_recording_is_required() {
    for is_required in [true, false] {
        let kept = std::sync::Arc::new(Kept::default());
        let audit = Audit::new(kept.clone(), Participant::person("us"), is_required);
        assert!(audit.is_on());
        audit.record(|us| Message::network_entry(true, us)).unwrap();
        let submitted = audit.submit(|us| Message::application_started(us, []));
        futures::executor::block_on(submitted).unwrap();
        assert_eq!(
            *kept.events.lock().unwrap(),
            ["Network Entry", "Application Activity"]
        );
        kept.fails.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(
            audit.record(|us| Message::network_entry(true, us)).is_err(),
            is_required
        );
        let submitted = audit.submit(|us| Message::network_entry(true, us));
        assert_eq!(futures::executor::block_on(submitted).is_err(), is_required);
    }
    let none = Audit::none();
    none.record(|_| unreachable!("no message is made")).unwrap();
    assert!(!none.is_on());
}
