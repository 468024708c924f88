//! What doors record of what is done through them (PS3.15 A.5): once, for DIMSE, HTTP and HL7 alike.
//!
//! Each returns when the message is as safe as the trail makes it, and an error where it must be recorded and can't be: then
//! nothing is handed out, found or deleted. What comes in is recorded when it is kept, before its sender is answered: where
//! that can't be recorded the sender hears of a failure, and what is kept stays.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dicom_dictionary_std::tags;
use futures::future::try_join_all;
use pacs_core::audit::{
    AccessPoint, Action, AlertSubject, Audit, Between, Code, Message, Outcome, OutcomeIndicator, Participant,
    Patient, Question, Study, Subject, Subjects,
};
use pacs_core::{DataSet, Error, ErrorKind, InstanceRecord, Pacs, Result, Retry, Source, Uid};

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
    let what = ("shown", user, address, record.key.study);
    if pacs.audit().is_known(&what) {
        return Ok(());
    }
    handed_out(pacs, source, None, Subject::of([record]), Some(Outcome::SUCCESS)).await?;
    pacs.audit().note(&what);
    Ok(())
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
            // What comes by no door was fetched.
            let between = match source.door {
                Some(_) => Between::new(asking(source), us),
                None => Between::new(Participant::of(source), us.requesting()),
            };
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

/// A unified procedure step was changed: which, is looked up.
pub(crate) async fn step(pacs: &Pacs, source: &Source, action: Action, uid: &Uid) -> Result<()> {
    if !pacs.audit().is_on() {
        return Ok(());
    }
    // It was changed: that is told even where it can't be said any more whose it is.
    let step = pacs.ups()?.get(uid).await.unwrap_or_default();
    procedure(pacs, source, action, &step).await
}

/// Somebody has proven who they are, or has not, and why (A.5.3.12). Who fails while nobody looks, and tokens that aren't
/// believed, are told of once in a while for each address: whoever reaches a port could fill a disk with them.
pub(crate) async fn login(
    pacs: &Pacs,
    name: &str,
    address: Option<IpAddr>,
    error: Option<&Error>,
) -> Result<()> {
    let what = (
        "login",
        error.map(|_| pacs_core::hooks::site(address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))),
    );
    let is_cheap = error.is_some_and(|error| {
        error.retry() == Retry::Later || name == A_TOKEN || error.kind() == ErrorKind::Invalid
    });
    // What isn't known now says nothing of who asks.
    let says_nothing =
        error.is_some_and(|error| !matches!(error.kind(), ErrorKind::Refused | ErrorKind::Invalid));
    if says_nothing || is_cheap && pacs.audit().is_known(&what) {
        return Ok(());
    }
    let recorded = pacs.audit().submit(|us| {
        let place = match address {
            Some(address) => AccessPoint::Address(address),
            None => AccessPoint::Host("local".to_owned()),
        };
        let message = Message::user_login(Participant::person(name).requesting(), place, Some(us));
        match error {
            None => message,
            Some(error) => {
                message.with_outcome(Outcome::failure(OutcomeIndicator::MinorFailure, error.context()))
            }
        }
    });
    recorded.await?;
    if is_cheap {
        pacs.audit().note(&what);
    }
    Ok(())
}

/// A node was not let in, and why (A.5.3.11): it could make no secure connection, or its association was rejected; `kind`
/// is one of a few. Told of once in a while for each address and kind, since whoever reaches a port can do it again and again;
/// it is turned away, whether or not that can be recorded.
pub(crate) fn turned_away(audit: &Audit, source: &Source, kind: impl Hash, why: &str) {
    let address = source.address.map(|address| address.ip());
    if !audit.is_news(&("turned away", address.map(pacs_core::hooks::site), kind)) {
        return;
    }
    let alert = |us| {
        let subject = AlertSubject::of(address);
        let performers = [Participant::of(source)];
        Message::security_alert(Code::NODE_AUTHENTICATION, [us], performers, subject, why)
            .with_outcome(Outcome::failure(OutcomeIndicator::MinorFailure, why))
    };
    let recorded = audit.submit(alert);
    // What can't be recorded is in the log.
    tokio::spawn(async move { drop(recorded.await) });
}

/// What somebody is called who came with a token that isn't believed.
pub(crate) const A_TOKEN: &str = "a token";

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
pub(crate) struct Brought(Mutex<Gathered>);

#[derive(Debug, Default)]
struct Gathered {
    subjects: Subjects,
    /// Studies of which it was told that they begin to come.
    begun: HashSet<Uid>,
}

/// Patients of whom instances are gathered before they are told of.
const BROUGHT_MAX: usize = 100;

/// Studies that are remembered as begun; of one beyond it is told once more.
const BEGUN_MAX: usize = 1000;

impl Brought {
    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An instance was kept. The first of each study is told of before its sender is answered.
    pub(crate) async fn add(&self, pacs: &Pacs, source: &Source, record: &InstanceRecord) -> Result<()> {
        if !pacs.audit().is_on() {
            return Ok(());
        }
        let study = record.key.study;
        // It is kept, whatever becomes of the first word of it.
        self.gathered().subjects.add(record);
        if !self.gathered().begun.contains(&study) {
            taken_in(pacs, source, Subject::of([record]), true).await?;
            let mut gathered = self.gathered();
            if gathered.begun.len() >= BEGUN_MAX {
                gathered.begun.clear();
            }
            gathered.begun.insert(study);
        }
        let is_full = self.gathered().subjects.len() >= BROUGHT_MAX;
        match is_full {
            true => self.tell(pacs, source).await,
            false => Ok(()),
        }
    }

    /// What was brought since it was told of last.
    pub(crate) async fn tell(&self, pacs: &Pacs, source: &Source) -> Result<()> {
        let brought = std::mem::take(&mut self.gathered().subjects);
        taken_in(pacs, source, brought.take(), false).await
    }
}
