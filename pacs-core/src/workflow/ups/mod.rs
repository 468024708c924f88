//! Unified procedure steps (PS3.4 annex CC): [`Ups`] keeps them in a ledger.
//!
//! A step is a data set with a state. Somebody creates it ([`Ups::create`]), who performs it claims it with a
//! Transaction UID of their own ([`Ups::change_state`]), updates it ([`Ups::set`]) and brings it to a final state.
//! Others look ([`Ups::get`], [`Ups::find`]), ask for cancellation ([`Ups::request_cancel`]), and subscribe
//! ([`Ups::subscribe`]): their events are kept with the change itself, and wait in a queue for each AE title until they
//! are delivered ([`Ups::events`]).
//!
//! What a request is answered with is a [`Refusal`] within an error, or an [`Outcome`] with or without a
//! [`Warning`]. Each is a status of the Standard.
//!
//! ```
//! use std::sync::Arc;
//!
//! use futures::executor::block_on;
//! use pacs_core::ledger::Ledger;
//! use pacs_core::workflow::ups::{Refusal, State, Ups};
//! use pacs_core::{DataSet, Uid, VR, tags};
//! # use pacs_store::MemoryLedger;
//!
//! # fn main() -> pacs_core::Result<()> {
//! let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new());
//! let ups = Ups::new(ledger);
//! let mut step = DataSet::new();
//! step.put_text(tags::PROCEDURE_STEP_STATE, VR::CS, "SCHEDULED");
//! step.put_text(tags::PROCEDURE_STEP_LABEL, VR::LO, "Read the study");
//! step.put_text(tags::SCHEDULED_PROCEDURE_STEP_PRIORITY, VR::CS, "HIGH");
//! step.put_text(tags::SCHEDULED_PROCEDURE_STEP_START_DATE_TIME, VR::DT, "20240229");
//! step.put_text(tags::INPUT_READINESS_STATE, VR::CS, "READY");
//! let created = block_on(ups.create(None, step))?;
//! let uid = created.sop_instance;
//!
//! let transaction = Uid::random();
//! block_on(ups.change_state(&uid, State::InProgress, Some(&transaction)))?;
//! // Somebody else comes too late.
//! let other = Uid::random();
//! let error = block_on(ups.change_state(&uid, State::InProgress, Some(&other))).unwrap_err();
//! assert_eq!(Refusal::of(&error), Some(Refusal::TransactionUid));
//! # Ok(())
//! # }
//! ```

mod attributes;
mod change;
mod event;
mod find;
mod held;
mod keys;
mod patient;
mod queue;
mod refusal;
mod state;
mod subscribe;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use dicom_dictionary_std::uids;

pub use attributes::{ALWAYS_RETURNED, PRIORITIES};
pub use event::{Event, EventType};
pub use queue::{EventQueue, QueuedEvent};
pub use refusal::{Refusal, Warning};
pub use state::State;
pub use subscribe::Subscription;

use crate::dataset::DataSet;
use crate::ledger::Ledger;
use crate::uid::{AeTitle, Uid};

/// The SOP class of every step (PS3.4 CC.3.1): UPS Push.
pub const UPS_PUSH: Uid = Uid::constant(uids::UNIFIED_PROCEDURE_STEP_PUSH);

/// The well-known UID of the global subscription.
pub const GLOBAL_SUBSCRIPTION: Uid = Uid::constant(uids::UPS_GLOBAL_SUBSCRIPTION_INSTANCE);

/// The well-known UID of the filtered global subscription.
pub const FILTERED_GLOBAL_SUBSCRIPTION: Uid = Uid::constant(uids::UPS_FILTERED_GLOBAL_SUBSCRIPTION_INSTANCE);

/// The steps of a ledger. A handle; clones are the same, and hear of each other's changes.
#[derive(Clone)]
pub struct Ups {
    inner: Arc<Inner>,
}

struct Inner {
    ledger: Arc<dyn Ledger>,
    /// The last number that an event was given.
    numbers: AtomicU64,
    changes: Listeners<UpsChange>,
    queued: Listeners<AeTitle>,
    /// Held by whoever delivers the events of an AE.
    queues: Mutex<HashMap<AeTitle, Arc<futures::lock::Mutex<()>>>>,
}

/// What happened to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was created.
    Created,
    /// Attributes were set, or what is known of its patient.
    Updated,
    /// It went to another state.
    StateChanged,
    /// Somebody wants it canceled.
    CancelRequested,
    /// It was deleted, long after it came to its final state.
    Deleted,
}

/// A change that is durable.
#[derive(Clone, Debug)]
pub struct UpsChange {
    /// The step.
    pub sop_instance: Uid,
    /// What happened.
    pub kind: ChangeKind,
    /// Its state now.
    pub state: State,
    /// All of it as [`Ups::get`] answers: without the Transaction UID.
    pub step: Arc<DataSet>,
}

/// What came of a request that was not refused.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The step; for a global subscription its well-known UID.
    pub sop_instance: Uid,
    /// What is to be noted.
    pub warning: Option<Warning>,
    /// What changed; `None` when nothing did.
    pub change: Option<UpsChange>,
}

impl fmt::Debug for Ups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ups").finish_non_exhaustive()
    }
}

impl Ups {
    /// The steps of this ledger. Within a process there should be one of them and its clones, as
    /// [`Pacs::ups`](crate::Pacs::ups) gives: only those hear of each other's changes.
    pub fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self {
            inner: Arc::new(Inner {
                ledger,
                numbers: AtomicU64::new(0),
                changes: Listeners::default(),
                queued: Listeners::default(),
                queues: Mutex::default(),
            }),
        }
    }

    /// Has `told` called after each change that is made through this handle or a clone, as long as what is answered
    /// is kept. It must not block; changes of one step come in their order, unless they are made at the same time.
    #[must_use = "it ends when this is dropped"]
    pub fn watch(&self, told: impl Fn(&UpsChange) + Send + Sync + 'static) -> Watching {
        self.inner.changes.add(Arc::new(told))
    }

    /// The same for an AE that an event was put into the queue of.
    #[must_use = "it ends when this is dropped"]
    pub fn watch_events(&self, told: impl Fn(&AeTitle) + Send + Sync + 'static) -> Watching {
        self.inner.queued.add(Arc::new(told))
    }

    fn ledger(&self) -> &dyn Ledger {
        &*self.inner.ledger
    }
}

impl Inner {
    /// A number after all before: the microseconds since 1970, or one more than the last.
    fn number(&self) -> u64 {
        let now = micros();
        let next = |last: u64| Some(now.max(last.saturating_add(1)));
        let last = self
            .numbers
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        // `next` always answers.
        now.max(last.unwrap_or_default().saturating_add(1))
    }
}

fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Who is told.
struct Listeners<T> {
    listeners: Arc<Mutex<Vec<Listener<T>>>>,
}

type Listener<T> = (u64, Arc<dyn Fn(&T) + Send + Sync>);

impl<T> Default for Listeners<T> {
    fn default() -> Self {
        Self {
            listeners: Arc::default(),
        }
    }
}

impl<T: 'static> Listeners<T> {
    fn add(&self, told: Arc<dyn Fn(&T) + Send + Sync>) -> Watching {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let id = listeners.last().map_or(0, |(last, _)| last + 1);
        listeners.push((id, told));
        let listeners = Arc::clone(&self.listeners);
        Watching {
            end: Some(Box::new(move || {
                let mut listeners = listeners.lock().unwrap_or_else(PoisonError::into_inner);
                listeners.retain(|(other, _)| *other != id);
            })),
        }
    }

    fn tell(&self, what: &T) {
        // Not under the lock, so that who is told may listen to more, or no longer.
        let told: Vec<_> = {
            let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            listeners.iter().map(|(_, told)| Arc::clone(told)).collect()
        };
        for told in told {
            told(what);
        }
    }
}

/// Somebody is told of changes until this is dropped.
pub struct Watching {
    end: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl fmt::Debug for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watching").finish_non_exhaustive()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end();
        }
    }
}
