//! What is recorded of deliveries (PS3.15 A.5.3.3, A.5.3.4, A.5.3.7).

use std::collections::HashMap;

use pacs_core::audit::{self, Action, Between, Message, OutcomeIndicator, Subject, Subjects};
use pacs_core::route::{Outcome, Trigger, Waiting, What};
use pacs_core::{InstanceRecord, Pacs, Result, Retry, Uid};

use super::{Destination, Recipient};

/// What is known of a batch on its way.
pub(super) struct Recorded {
    recipient: Recipient,
    deidentifies: bool,
    records: HashMap<Uid, InstanceRecord>,
    delivered: Subjects,
    refused: Subjects,
    /// Why the first was.
    why: String,
}

/// The instance that is handed over, if one is.
fn instance(what: What) -> Option<Uid> {
    match what {
        What::Instance(instance) | What::Occasion(Trigger::ReportStored, instance, _) => Some(instance),
        What::Occasion(..) => None,
    }
}

impl Recorded {
    /// Records that these are about to go.
    ///
    /// # Errors
    /// Where it must be recorded and can't be: then nothing may go. What the index says, where it may say something else
    /// another time.
    pub(super) async fn begin(pacs: &Pacs, destination: &dyn Destination, batch: &[Waiting]) -> Result<Self> {
        let mut recorded = Self {
            recipient: match pacs.audit().is_on() {
                true => destination.recipient(),
                false => Recipient::Nobody,
            },
            deidentifies: destination.deidentifies(),
            records: HashMap::new(),
            delivered: Subjects::default(),
            refused: Subjects::default(),
            why: String::new(),
        };
        if recorded.recipient == Recipient::Nobody {
            return Ok(recorded);
        }
        let mut subjects = Subjects::default();
        for instance in batch.iter().filter_map(|waiting| instance(waiting.what)) {
            match pacs.lookup(&instance).await {
                Ok(Some(record)) => {
                    subjects.add(&record);
                    recorded.records.insert(instance, record);
                }
                // What was removed doesn't go, nor what can't be read: the destination finds the same.
                Ok(None) => {}
                Err(error) if error.retry() == Retry::Never => {}
                Err(error) => return Err(error),
            }
        }
        let subjects = recorded.subjects(subjects);
        match &recorded.recipient {
            Recipient::Media(media) if !subjects.is_empty() => {
                let exported = |us| Message::data_export([us], [], media.clone(), subjects);
                pacs.audit().submit(exported).await?;
            }
            Recipient::Peer(_) => {
                for subject in subjects {
                    let begins = |us| Message::begin_transferring(recorded.between(us), subject);
                    pacs.audit().submit(begins).await?;
                }
            }
            Recipient::Nobody | Recipient::Media(_) => {}
        }
        Ok(recorded)
    }

    fn subjects(&self, subjects: Subjects) -> Vec<Subject> {
        let subjects = subjects.take().into_iter();
        subjects
            .map(|subject| subject.anonymized(self.deidentifies))
            .collect()
    }

    /// From this server to the receiver; the server's rules wanted it.
    fn between(&self, us: audit::Participant) -> Between {
        let receiver = match &self.recipient {
            Recipient::Peer(receiver) => receiver.clone(),
            Recipient::Nobody | Recipient::Media(_) => us.clone(),
        };
        Between::new(us.requesting(), receiver)
    }

    /// One has come to its end.
    pub(super) fn ended(&mut self, waiting: &Waiting, outcome: &Outcome) {
        let Some(record) = instance(waiting.what).and_then(|instance| self.records.get(&instance)) else {
            return;
        };
        match outcome {
            // An export was recorded when it began.
            Outcome::Delivered(_) if matches!(self.recipient, Recipient::Peer(_)) => {
                self.delivered.add(record)
            }
            Outcome::Refused(why) => {
                self.refused.add(record);
                if self.why.is_empty() {
                    self.why.clone_from(why);
                }
            }
            // It is told of when it has gone.
            _ => {}
        }
    }

    /// Records what went, and what never will.
    ///
    /// # Errors
    /// Where it must be recorded and can't be.
    pub(super) async fn tell(mut self, pacs: &Pacs) -> Result<()> {
        let [delivered, refused] = [&mut self.delivered, &mut self.refused].map(std::mem::take);
        let (delivered, refused) = (self.subjects(delivered), self.subjects(refused));
        let failed = audit::Outcome::failure(OutcomeIndicator::MinorFailure, self.why.as_str());
        let went = delivered
            .into_iter()
            .map(|subject| (subject, audit::Outcome::SUCCESS));
        let stayed = refused.into_iter().map(|subject| (subject, failed.clone()));
        for (subject, outcome) in went.chain(stayed) {
            let message = |us: audit::Participant| match &self.recipient {
                Recipient::Media(media) => Message::data_export([us], [], media.clone(), [subject]),
                _ => Message::instances_transferred(Action::Read, self.between(us), subject),
            };
            let told = pacs.audit().submit(|us| message(us).with_outcome(outcome));
            told.await?;
        }
        Ok(())
    }
}
