//! [`Receiver`]: does what messages say, on an engine.
//!
//! | message | what is done |
//! | --- | --- |
//! | ADT A01 A04 A08 A28 A31 | what is kept of the patient is corrected: instances and the worklist |
//! | ADT A40 | the prior patient's (MRG-1) become the surviving one's (PID-3) |
//! | ORM O01, OMI O23 | by ORC-1 an item of the worklist is put (NW, XO and the like), of which the router is told, or it is over (CA, OC, DC) |
//! | ORU R01 | the report is kept as an instance of the order's study: documents as Encapsulated PDF, text as Basic Text SR |
//!
//! A message is answered with AA when all of it is durable. One that fails is kept in the ledger: see [`FailedMessages`].
//! The same message sent again is answered as before and not dealt with twice; where it failed for a reason that may pass, it is
//! tried again.

mod failed;
mod once;
mod order;
mod patient;
mod report;

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use pacs_core::access::{Door, Permission};
use pacs_core::audit::Action;
use pacs_core::workflow::Worklist;
use pacs_core::{DataSet, Ledger, Pacs, Result, Retry, Source, Timestamp};

use super::ack::{Condition, Fault};
use super::charset::Charset;
use super::mapping::Mapping;
use super::message::Message;
use super::path::Path;
use super::server::{Handler, Incoming};
use crate::audited;
pub use failed::{FAILED_MAX, FAILED_MAX_BYTES, FailedId, FailedMessage, FailedMessages};
use once::Identity;

/// How a [`Receiver`] behaves.
#[derive(Clone, Debug)]
pub struct ReceiverOptions {
    /// Which attribute is had from which field.
    pub mapping: Mapping,
    /// How long it is known that a message was dealt with.
    pub duplicates: Duration,
    /// The character set of messages that name none.
    pub undeclared: Charset,
}

impl Default for ReceiverOptions {
    fn default() -> Self {
        Self {
            mapping: Mapping::default(),
            duplicates: Duration::from_secs(7 * 24 * 3600),
            undeclared: Charset::default(),
        }
    }
}

/// Does what messages say. A handle; clones are the same.
#[derive(Clone)]
pub struct Receiver {
    inner: Arc<Inner>,
}

struct Inner {
    pacs: Pacs,
    ledger: Arc<dyn Ledger>,
    worklist: Worklist,
    options: ReceiverOptions,
    /// Messages that are being dealt with.
    running: Mutex<HashSet<Identity>>,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver")
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

impl Receiver {
    /// On an engine with a ledger.
    ///
    /// # Errors
    /// `Unsupported` when the engine has none.
    pub fn new(pacs: Pacs, options: ReceiverOptions) -> Result<Self> {
        let ledger = Arc::clone(pacs.ledger()?);
        Ok(Self {
            inner: Arc::new(Inner {
                pacs,
                worklist: Worklist::new(Arc::clone(&ledger)),
                ledger,
                options,
                running: Mutex::default(),
            }),
        })
    }

    /// The messages that failed.
    pub fn failed(&self) -> FailedMessages {
        FailedMessages::new(Arc::clone(&self.inner.ledger))
    }

    /// Deals with a message that was not dealt with before, or is to be again.
    async fn deal(&self, incoming: &Incoming, identity: Identity) -> Result<(), Fault> {
        let Some(_running) = Running::begin(&self.inner, identity) else {
            let mut fault = Fault::reject(Condition::Internal, "the same message is being dealt with");
            fault.retry = Retry::Later;
            return Err(fault);
        };
        let done = match &incoming.message {
            Ok(message) => {
                let acted = AssertUnwindSafe(self.inner.act(message, identity, incoming))
                    .catch_unwind()
                    .await;
                acted.unwrap_or_else(|_| {
                    tracing::error!("an HL7 message made its handler panic");
                    Err(Fault::reject(Condition::Internal, "internal failure"))
                })
            }
            Err(fault) => Err(fault.clone()),
        };
        // All that it means is durable; now that it was dealt with is.
        let now = Timestamp::now();
        let noted = match &done {
            Ok(()) => self.inner.accepted(identity, now).await,
            Err(fault) => self.inner.refused(identity, incoming, fault, now).await,
        };
        noted.map_err(Fault::from).and(done)
    }
}

impl Handler for Receiver {
    fn handle(&self, incoming: Incoming) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            self.inner.may(&incoming)?;
            let identity = Identity::of(&incoming);
            match self.inner.before(identity).await.map_err(Fault::from)? {
                Some(before) => {
                    tracing::info!("an HL7 message came again and is answered as before");
                    before
                }
                None => self.deal(&incoming, identity).await,
            }
        })
    }
}

/// Who sends a message. One that is tried again, the program sends itself.
fn source(incoming: &Incoming) -> Source {
    Source {
        door: incoming.peer.is_some().then_some(Door::Hl7),
        address: incoming.peer,
        certificate: incoming.certificate.clone(),
        ..Source::default()
    }
}

impl Inner {
    /// Whether who sends a message may have it done. What they may not is not kept either.
    fn may(&self, incoming: &Incoming) -> Result<(), Fault> {
        let kind = incoming
            .message
            .as_ref()
            .ok()
            .and_then(|message| message.get("MSH-9.1"));
        let permissions = match kind.as_deref() {
            Some("ADT") => &[Permission::Amend][..],
            Some("ORM" | "OMI") => &[Permission::Work],
            Some("ORU") => &[Permission::Store],
            // It will be refused, and be kept as one that failed for who may send any.
            _ => &[Permission::Amend, Permission::Work, Permission::Store],
        };
        let source = source(incoming);
        let permitted = permissions
            .iter()
            .map(|permission| self.pacs.permit_all(&source, *permission));
        let refused = permitted.reduce(|one, other| one.or(other)).unwrap_or(Ok(()));
        // HL7 table 0357 has no better word for it.
        refused.map_err(|error| Fault::reject(Condition::Internal, error.context().to_owned()))
    }

    /// Does what a message says.
    async fn act(&self, message: &Message, identity: Identity, incoming: &Incoming) -> Result<(), Fault> {
        // It was allowed; how it is done, with what is kept, is the receiver's doing.
        let source = Source {
            door: None,
            ..source(incoming)
        };
        let get = |path| message.get(path).unwrap_or_default();
        if get("MSH-10").trim().is_empty() {
            // It could not be told from another one.
            return Err(Fault::missing("MSH-10"));
        }
        let kind = (get("MSH-9.1"), get("MSH-9.2"));
        let done = match (kind.0.as_str(), kind.1.as_str()) {
            ("ADT", "A01" | "A04" | "A08" | "A28" | "A31") => self.update_patient(message, &source).await,
            ("ADT", "A40") => self.merge_patients(message, &source).await,
            ("ORM", "O01") | ("OMI", "O23") => self.take_order(message, &source).await,
            ("ORU", "R01") => self.keep_report(message, identity, &source).await,
            ("ADT" | "ORM" | "OMI" | "ORU", _) => Err(Fault::reject(
                Condition::UnsupportedEvent,
                "this event is not taken here",
            )
            .at(at("MSH-9.2"))),
            ("", _) => Err(Fault::missing("MSH-9.1")),
            _ => {
                let why = "this kind of message is not taken here";
                Err(Fault::reject(Condition::UnsupportedMessageType, why).at(at("MSH-9.1")))
            }
        };
        if done.is_ok() {
            self.record(&kind.0, message, &source).await?;
        }
        done
    }

    /// Records what a message did (PS3.15 A.5.3.13, A.5.3.14): an order, a patient, a report of one.
    async fn record(&self, kind: &str, message: &Message, source: &Source) -> Result<(), Fault> {
        if !self.pacs.audit().is_on() {
            return Ok(());
        }
        let patient = self.patient(message)?;
        let control = message.get("ORC-1").unwrap_or_default();
        let action = match (kind, control.as_str()) {
            ("ORM" | "OMI", "NW") | ("ORU", _) => Action::Create,
            ("ORM" | "OMI", "CA" | "OC" | "DC") => Action::Delete,
            _ => Action::Update,
        };
        let is_order = kind != "ADT";
        Ok(audited::known(&self.pacs, source, is_order, action, &patient).await?)
    }

    /// What a message says of its patient.
    fn patient(&self, message: &Message) -> Result<DataSet, Fault> {
        self.options.mapping.patient.apply(message)
    }
}

/// A path that stands in the program.
///
/// # Panics
/// Where it is none: each is run by a test.
fn at(path: &'static str) -> Path {
    Path::parse(path).expect("a path")
}

/// That a message is being dealt with.
struct Running<'a>(&'a Inner, Identity);

impl<'a> Running<'a> {
    fn begin(inner: &'a Inner, identity: Identity) -> Option<Self> {
        let mut running = inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(identity).then_some(Self(inner, identity))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(&self.1);
    }
}
