//! What doors record of what is done through them (PS3.15 A.5): once, for DIMSE, HTTP and HL7 alike.
//!
//! Each returns when the message is as safe as the trail makes it, and an error where it must be recorded and can't be:
//! then what was asked for isn't done.

use std::net::IpAddr;

use dicom_dictionary_std::tags;
use futures::future::try_join_all;
use pacs_core::audit::{
    AccessPoint, Action, Between, Message, Outcome, OutcomeIndicator, Participant, Patient, Question, Study,
    Subject, Subjects,
};
use pacs_core::{DataSet, InstanceRecord, Pacs, Result, Source, Uid};

/// Who asks, and wanted it.
fn asking(source: &Source) -> Participant {
    Participant::of(source).requesting()
}

/// A query is asked (A.5.3.10).
pub(crate) async fn query(pacs: &Pacs, source: &Source, question: impl FnOnce() -> Question) -> Result<()> {
    let asked = pacs
        .audit()
        .submit(|us| Message::query(Between::new(asking(source), us), question()));
    asked.await
}

/// A query by a URI.
#[cfg(feature = "web")]
pub(crate) async fn search(pacs: &Pacs, source: &Source, resource: &str, parameters: &str) -> Result<()> {
    let question = || Question::Uri {
        resource: resource.to_owned(),
        query: parameters.as_bytes().to_vec(),
    };
    query(pacs, source, question).await
}

/// Instances of these patients go to who asks, and to `receiver` where that is another (A.5.3.7); or they are about to
/// (A.5.3.3).
pub(crate) async fn handed_out(
    pacs: &Pacs,
    source: &Source,
    receiver: Option<Participant>,
    subjects: Vec<Subject>,
    outcome: Option<Outcome>,
) -> Result<()> {
    let messages = subjects.into_iter().map(|subject| {
        let (receiver, outcome) = (receiver.clone(), outcome.clone());
        pacs.audit().submit(|us| {
            let between = match receiver {
                None => Between::new(us, asking(source)),
                Some(receiver) => Between::new(us, receiver).and(asking(source)),
            };
            match outcome {
                None => Message::begin_transferring(between, subject),
                Some(outcome) => {
                    Message::instances_transferred(Action::Read, between, subject).with_outcome(outcome)
                }
            }
        })
    });
    try_join_all(messages).await.map(|_| ())
}

/// One instance goes to who asks. Of those of one study that go to somebody one after the other, the first is told of.
#[cfg(feature = "web")]
pub(crate) async fn shown(pacs: &Pacs, source: &Source, record: &InstanceRecord) -> Result<()> {
    let user = source.identity.as_ref().map(|user| user.name.as_str());
    let address = source.address.map(|address| address.ip());
    if !pacs.audit().is_news(&("shown", user, address, record.key.study)) {
        return Ok(());
    }
    handed_out(pacs, source, None, Subject::of([record]), Some(Outcome::SUCCESS)).await
}

/// Instances come from who sends them (A.5.3.7), or begin to (A.5.3.3).
pub(crate) async fn taken_in(
    pacs: &Pacs,
    source: &Source,
    subjects: Vec<Subject>,
    is_begin: bool,
) -> Result<()> {
    let messages = subjects.into_iter().map(|subject| {
        pacs.audit().submit(|us| {
            let between = Between::new(asking(source), us);
            match is_begin {
                true => Message::begin_transferring(between, subject),
                false => Message::instances_transferred(Action::Create, between, subject),
            }
        })
    });
    try_join_all(messages).await.map(|_| ())
}

/// Instances are deleted; `is_study` where all of a study are (A.5.3.8, A.5.3.6).
#[cfg(feature = "web")]
pub(crate) async fn deleted(
    pacs: &Pacs,
    source: &Source,
    is_study: bool,
    records: &[InstanceRecord],
) -> Result<()> {
    if !pacs.audit().is_on() {
        return Ok(());
    }
    let messages = Subject::of(records).into_iter().map(|subject| {
        pacs.audit().submit(|us| {
            let who = [asking(source), us];
            match is_study {
                true => Message::study_deleted(who, subject),
                false => Message::instances_accessed(Action::Delete, who, subject),
            }
        })
    });
    try_join_all(messages).await.map(|_| ())
}

/// What is known of a patient, or an order of theirs, is changed (A.5.3.14, A.5.3.13).
pub(crate) async fn known(
    pacs: &Pacs,
    source: &Source,
    is_order: bool,
    action: Action,
    patient: &DataSet,
) -> Result<()> {
    let recorded = pacs.audit().submit(|us| {
        let who = [asking(source), us];
        match is_order {
            true => Message::order_record(action, who, patient_of(patient)),
            false => Message::patient_record(action, who, patient_of(patient)),
        }
    });
    recorded.await
}

/// A procedure step was made or changed (A.5.3.15), as far as it is known.
pub(crate) async fn procedure(pacs: &Pacs, source: &Source, action: Action, step: &DataSet) -> Result<()> {
    let recorded = pacs.audit().submit(|us| {
        let subject = Subject::new(patient_of(step), studies_of(step));
        Message::procedure_record(action, [asking(source), us], subject)
    });
    recorded.await
}

/// The same for who can't wait.
pub(crate) fn procedure_soon(pacs: &Pacs, source: &Source, action: Action, step: &DataSet) {
    drop(pacs.audit().submit(|us| {
        let subject = Subject::new(patient_of(step), studies_of(step));
        Message::procedure_record(action, [asking(source), us], subject)
    }));
}

/// A unified procedure step was changed: which, is looked up.
pub(crate) async fn step(pacs: &Pacs, source: &Source, action: Action, uid: &Uid) -> Result<()> {
    if !pacs.audit().is_on() {
        return Ok(());
    }
    // It was changed: that is told even where it can't be said any more whose it is.
    let step = pacs.ups()?.get(uid).await.unwrap_or_default();
    procedure(pacs, source, action, &step).await
}

/// Somebody has proven who they are, or has not (A.5.3.12).
pub(crate) async fn login(
    pacs: &Pacs,
    name: &str,
    address: Option<IpAddr>,
    why_not: Option<&str>,
) -> Result<()> {
    let recorded = pacs.audit().submit(|us| {
        let place = match address {
            Some(address) => AccessPoint::Address(address),
            None => AccessPoint::Host("local".to_owned()),
        };
        let message = Message::user_login(Participant::person(name).requesting(), place, Some(us));
        match why_not {
            None => message,
            Some(why) => message.with_outcome(Outcome::failure(OutcomeIndicator::MinorFailure, why)),
        }
    });
    recorded.await
}

fn patient_of(set: &DataSet) -> Patient {
    let name = set.string(tags::PATIENT_NAME).unwrap_or_default();
    Patient::new(pacs_core::PatientId::of(set), name)
}

/// The studies that a procedure step is of, by what it refers to.
fn studies_of(step: &DataSet) -> Vec<Study> {
    let sequences = [
        tags::SCHEDULED_STEP_ATTRIBUTES_SEQUENCE,
        tags::REFERENCED_REQUEST_SEQUENCE,
    ];
    let items = sequences.iter().flat_map(|tag| step.items(*tag));
    let uids = items.filter_map(|item| item.uid(tags::STUDY_INSTANCE_UID).ok());
    let mut studies: Vec<Uid> = uids.collect();
    studies.sort_unstable();
    studies.dedup();
    studies.into_iter().map(Study::new).collect()
}

/// The instances that one association brings.
#[derive(Debug, Default)]
pub(crate) struct Brought(std::sync::Mutex<Subjects>);

/// Patients of whom instances are gathered before they are told of.
const BROUGHT_MAX: usize = 100;

impl Brought {
    /// An instance was kept. The first of each study is told of before its sender is answered.
    pub(crate) async fn add(&self, pacs: &Pacs, source: &Source, record: &InstanceRecord) -> Result<()> {
        if !pacs.audit().is_on() {
            return Ok(());
        }
        let (is_first, is_full) = {
            let mut subjects = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            (subjects.add(record), subjects.len() >= BROUGHT_MAX)
        };
        if is_first {
            taken_in(pacs, source, Subject::of([record]), true).await?;
        }
        if is_full {
            self.tell(pacs, source).await?;
        }
        Ok(())
    }

    /// What was brought since it was told of last.
    pub(crate) async fn tell(&self, pacs: &Pacs, source: &Source) -> Result<()> {
        let brought = std::mem::take(&mut *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        taken_in(pacs, source, brought.take(), false).await
    }
}
