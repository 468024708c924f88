//! Where messages go: [`AuditTrail`], [`Audit`] for those who have events to tell, [`AuditQueue`] for those who send them.

use std::collections::HashMap;
use std::fmt;
use std::future::ready;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::{Message, Participant};
use crate::archive::Timestamp;
use crate::error::Result;

/// Keeps messages of audit, for good or until they are sent.
///
/// An implementation calls nobody back, and may be called from any thread, by many at once.
pub trait AuditTrail: Send + Sync + 'static {
    /// Takes a message. When this returns `Ok`, the message is as safe as the trail makes it: on stable storage, where it
    /// promises that. Messages whose calls came one after the other stand in that order.
    ///
    /// It may wait for a disk, and for nothing else: no network, no other process. A message is taken as a whole or not at all.
    ///
    /// # Errors
    /// Why it is not kept: `OutOfResources` when there is no room, `Io` when the medium failed, `Closed`.
    fn record(&self, message: &Message) -> Result<()>;

    /// The same for a caller that must not wait: the message is taken in the order of the calls, and the future is ready once
    /// [`record`](Self::record) would have returned.
    ///
    /// # Errors
    /// As of [`record`](Self::record).
    fn submit(&self, message: &Message) -> BoxFuture<'static, Result<()>> {
        ready(self.record(message)).boxed()
    }
}

/// What those hold who have events to tell, such as servers: a trail, or none. Clones are the same.
#[derive(Clone, Default)]
pub struct Audit(Option<Arc<Inner>>);

struct Inner {
    trail: Arc<dyn AuditTrail>,
    application: Participant,
    is_required: bool,
    is_failing: AtomicBool,
    /// What was told of lately, by its hash.
    lately: Mutex<HashMap<u64, Instant>>,
}

/// How long what was told of once is no news: who looks through a study asks for each of its pictures.
const LATELY: Duration = Duration::from_secs(600);

/// How much of it is remembered.
const LATELY_MAX: usize = 10_000;

impl Audit {
    /// To this trail; `application` is how this program takes part in events.
    ///
    /// With `is_required`, what can't be recorded must not happen: an error of the trail is the caller's, to be answered to
    /// whoever asked. Without, it is logged, and things go on.
    pub fn new(trail: Arc<dyn AuditTrail>, application: Participant, is_required: bool) -> Self {
        Self(Some(Arc::new(Inner {
            trail,
            application,
            is_required,
            is_failing: AtomicBool::new(false),
            lately: Mutex::default(),
        })))
    }

    /// To nowhere: nothing is recorded, and no message is made. The same as the default.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether anything is recorded.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether this was [noted](Self::note) within the last ten minutes, or nothing is recorded: for what comes many times
    /// and is to be told of once. Now and then what was noted isn't known any more before that.
    pub fn is_known(&self, what: &impl Hash) -> bool {
        let Some(inner) = &self.0 else {
            return true;
        };
        is_noted(&inner.lately(), hash(what))
    }

    /// Whether this is to be told of now: it was not [noted](Self::note) lately, and is from now on. Of several who ask at once
    /// about the same, one is answered yes.
    pub fn is_news(&self, what: &impl Hash) -> bool {
        let Some(inner) = &self.0 else {
            return false;
        };
        let mut lately = inner.lately();
        let is_news = !is_noted(&lately, hash(what));
        if is_news {
            note(&mut lately, hash(what));
        }
        is_news
    }

    /// Notes that this was told of: when it is recorded.
    pub fn note(&self, what: &impl Hash) {
        let Some(inner) = &self.0 else {
            return;
        };
        note(&mut inner.lately(), hash(what));
    }

    /// Records what `message` makes of this application's own participant. It may wait for a disk.
    ///
    /// # Errors
    /// Those of [`AuditTrail::record`], where recording is required. What is asked for must not be done then.
    pub fn record(&self, message: impl FnOnce(Participant) -> Message) -> Result<()> {
        match &self.0 {
            Some(inner) => inner.judged(inner.trail.record(&message(inner.application.clone()))),
            None => Ok(()),
        }
    }

    /// The same where the caller must not wait. The message is taken before this returns, whether or not the future is polled.
    ///
    /// # Errors
    /// As of [`record`](Self::record).
    pub fn submit(&self, message: impl FnOnce(Participant) -> Message) -> BoxFuture<'static, Result<()>> {
        match &self.0 {
            Some(inner) => {
                let inner = Arc::clone(inner);
                let taken = inner.trail.submit(&message(inner.application.clone()));
                async move { inner.judged(taken.await) }.boxed()
            }
            None => ready(Ok(())).boxed(),
        }
    }
}

fn is_noted(lately: &HashMap<u64, Instant>, what: u64) -> bool {
    lately.get(&what).is_some_and(|at| at.elapsed() < LATELY)
}

fn note(lately: &mut HashMap<u64, Instant>, what: u64) {
    if lately.len() >= LATELY_MAX {
        lately.retain(|_, at| at.elapsed() < LATELY);
        if lately.len() >= LATELY_MAX {
            lately.clear();
        }
    }
    lately.insert(what, Instant::now());
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

impl Inner {
    fn lately(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        self.lately.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judged(&self, recorded: Result<()>) -> Result<()> {
        let was_failing = self.is_failing.swap(recorded.is_err(), Ordering::Relaxed);
        match recorded {
            Err(error) => {
                // Said once until it is over: many requests fail the same way.
                if !was_failing {
                    let is_required = self.is_required;
                    tracing::error!(%error, is_required, "events can't be recorded for audit");
                }
                if self.is_required { Err(error) } else { Ok(()) }
            }
            Ok(()) => {
                if was_failing {
                    tracing::info!("events are recorded for audit again");
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_required = self.0.as_ref().map(|inner| inner.is_required);
        f.debug_struct("Audit")
            .field("is_required", &is_required)
            .finish()
    }
}

/// Messages that wait to be sent, in the order they were recorded. Only what the trail would not lose any more is in it.
pub trait AuditQueue: Send + Sync + 'static {
    /// Up to `count` of those behind the number `after`, oldest first; none when there are none yet. May wait for a disk.
    ///
    /// # Errors
    /// `Io` when the medium failed.
    fn read(&self, after: u64, count: usize) -> Result<Vec<Recorded>>;

    /// The number of the last that was sent: 0 when none was.
    fn sent(&self) -> u64;

    /// Notes that all up to this number were sent. When the program dies, an earlier note may be what is left, and messages
    /// are sent again then. May wait for a disk.
    ///
    /// # Errors
    /// `Io` when the medium failed.
    fn set_sent(&self, sequence: u64) -> Result<()>;

    /// Ready once there is one behind the number `after`, or the trail is closed.
    fn wait(&self, after: u64) -> BoxFuture<'static, ()>;
}

/// A message that was recorded.
#[derive(Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its number: the first is 1, each further one more.
    pub sequence: u64,
    /// When it was recorded.
    pub time: Timestamp,
    /// The message, as XML (PS3.15 A.5.1) in UTF-8.
    pub document: Bytes,
}

/// The document holds patient data.
impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorded")
            .field("sequence", &self.sequence)
            .field("time", &self.time)
            .field("length", &self.document.len())
            .finish()
    }
}
