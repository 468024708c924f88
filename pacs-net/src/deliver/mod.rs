//! Deliveries are made: [`Deliveries`] takes what waits in an engine's outbox to its [`Destination`]s.
//!
//! Each destination has workers of its own, so that one that is down, slow or full keeps no other one waiting. A worker
//! claims a line of the outbox (what of one study waits), delivers it in order, and lets it go. What a destination
//! can't be reached for waits until it can, however long; what it refuses is tried again a few times, then waits
//! among the dead until somebody decides. One that takes nothing of several lines in a row is tried at a walk, so that
//! what is in vain slows no other one. What breaks off while others go through is taken to be at fault itself, and
//! ends among the dead, too: so it keeps neither its study nor its destination waiting for ever.
//!
//! | destination | delivers |
//! | --- | --- |
//! | [`ToPeer`] | instances, by C-STORE (PS3.4 annex B) |
//! | [`ToFolder`] | instances, as files |
//! | [`ToReadingWorklist`] | what happened, onto the reading worklist |
//! | [`ToReportReceiver`] | final reports, as HL7 messages |
//! | [`FetchPriors`] | nothing: told of a study, it fetches earlier ones of the patient |
//! | `ToStow` (feature `web`) | instances, by STOW-RS (PS3.18 10.5) |
//! | `ToWebhook` (feature `web`) | what happened, as signed JSON over HTTP |

mod folder;
#[cfg(feature = "web")]
mod http;
mod peer;
pub mod priors;
mod reading;
mod recorded;
mod report;
mod routes;
#[cfg(feature = "web")]
mod stow;
#[cfg(feature = "web")]
mod webhook;
mod worker;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use pacs_core::audit::{Media, Participant};
use pacs_core::route::{Line, Outbox, Waiting, What};
use pacs_core::{InstanceRecord, Pacs, Result, Timestamp, Uid};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use folder::ToFolder;
pub use peer::ToPeer;
pub use priors::FetchPriors;
pub use reading::ToReadingWorklist;
pub use report::ToReportReceiver;
pub use routes::Routes;
#[cfg(feature = "web")]
pub use stow::ToStow;
#[cfg(feature = "web")]
pub use webhook::ToWebhook;
use worker::{Served, Worker};

/// How long what is under way may take to come to its end when deliveries are stopped.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How a try to deliver ended. Texts hold no patient data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// It was delivered; what the receiver said to it, if anything.
    Delivered(String),
    /// There is nothing to deliver any more: it was removed.
    Gone,
    /// It will never be taken.
    Refused(String),
    /// The receiver says no to this one: after as many times as [`Patience::attempts_max`] it counts as refused.
    Failed(String),
    /// It went wrong, and nobody says whether this one is at fault: it counts as failed where others were delivered
    /// since it was last tried.
    Broken(String),
    /// There is no room for it now: it is tried again however often.
    Busy(String),
    /// The receiver isn't there, or takes no more associations or requests now: nothing is tried until it may be there
    /// again. None is at fault, so that counts for no try, whatever goes through meanwhile.
    Away(String),
}

impl Tried {
    /// Whether those behind it may go on.
    fn is_over(&self) -> bool {
        matches!(self, Self::Delivered(_) | Self::Gone | Self::Refused(_))
    }
}

/// Who gets what a destination delivers, for the records of audit (PS3.15 A.5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// Nobody outside this server; or nothing that is of a patient.
    Nobody,
    /// A peer: instances are transferred (A.5.3.3, A.5.3.7).
    Peer(Participant),
    /// A medium: they are exported (A.5.3.4).
    Media(Media),
}

/// Who takes deliveries.
pub trait Destination: Send + Sync + 'static {
    /// Who gets what is delivered. It is recorded before it goes, and that it went, where the engine has an
    /// [audit trail](pacs_core::audit).
    fn recipient(&self) -> Recipient;

    /// Whether what identifies the patient is taken out of what is delivered.
    fn deidentifies(&self) -> bool {
        false
    }

    /// Delivers `batch` in its order, and yields how it ended for each as it does.
    ///
    /// It may end early, behind a delivery that was not made: then the others wait on.
    fn deliver<'a>(&'a self, line: &'a Line, batch: Vec<Waiting>) -> BoxStream<'a, (Waiting, Tried)>;
}

/// How long is waited, and how often it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// After the first failure; each further one doubles it.
    pub first: Duration,
    /// At most.
    pub longest: Duration,
    /// Tries of one delivery that its destination refuses.
    pub attempts_max: u64,
    /// How long what was delivered is remembered.
    pub remembered: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
            attempts_max: 8,
            remembered: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

impl Patience {
    /// How long to wait after so many failures in a row: a fifth more or less, so that who failed together doesn't
    /// come back together.
    fn after(&self, failures: u64) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.min(20) as u32);
        let wait = doubled.min(self.longest);
        // Each state hashes otherwise: as good a die as is needed here.
        let percent = RandomState::new().build_hasher().finish() % 41 + 80;
        wait.mul_f64(percent as f64 / 100.0)
    }
}

/// Whether a destination can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Its name.
    pub destination: Arc<str>,
    /// Why nothing is delivered to it now; `None` while it is there.
    pub away: Option<String>,
}

/// Takes what waits in an outbox to its destinations. Clones are the same.
#[derive(Clone)]
pub struct Deliveries {
    pacs: Pacs,
    outbox: Outbox,
    served: Arc<HashMap<Arc<str>, Arc<Served>>>,
    patience: Patience,
}

impl std::fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deliveries")
            .field("destinations", &self.served.len())
            .finish_non_exhaustive()
    }
}

/// One that is to be served.
pub struct Service {
    /// Its name: what rules call it.
    pub name: Arc<str>,
    /// Who takes the deliveries.
    pub destination: Arc<dyn Destination>,
    /// Lines delivered at once: associations, for a peer.
    pub workers: usize,
    /// Deliveries a second, at most; 0 for as many as can be.
    pub per_second_max: u32,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

impl Deliveries {
    /// Deliveries out of the outbox of `pacs` to these destinations.
    ///
    /// # Errors
    /// `Unsupported` when the engine has no ledger.
    pub fn new(pacs: &Pacs, services: Vec<Service>, patience: Patience) -> Result<Self> {
        let served = services.into_iter();
        let served = served.map(|service| (Arc::clone(&service.name), Arc::new(Served::new(service))));
        let served: HashMap<_, _> = served.collect();
        let outbox = pacs.outbox()?.clone();
        let served = Arc::new(served);
        let listening = Arc::downgrade(&served);
        outbox.listen(Arc::new(move |destination: &str| {
            let Some(served) = listening.upgrade() else {
                return false;
            };
            if let Some(served) = served.get(destination) {
                served.wake();
            }
            true
        }));
        Ok(Self {
            pacs: pacs.clone(),
            outbox,
            served,
            patience,
        })
    }

    /// Which destinations are there.
    pub fn reached(&self) -> Vec<Reached> {
        let mut reached: Vec<_> = self
            .served
            .iter()
            .map(|(name, served)| Reached {
                destination: Arc::clone(name),
                away: served.away(),
            })
            .collect();
        reached.sort_by(|a, b| a.destination.cmp(&b.destination));
        reached
    }

    /// Delivers until `stop` is ready. What is under way then is broken off, and is tried again another time; what has
    /// come to its end is recorded.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let (stopping, stopped) = watch::channel(false);
        let mut workers = JoinSet::new();
        for (name, served) in self.served.iter() {
            for _ in 0..served.workers() {
                let worker = Worker::new(&self, name, served, &stopped);
                workers.spawn(worker.run());
            }
        }
        // Ends when it is dropped.
        let mut forgetting = JoinSet::new();
        forgetting.spawn(self.clone().forget());
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(ended) = workers.join_next() => {
                    // A worker contains what its destination does; this would be a fault of our own.
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!("a worker for deliveries panicked");
                    }
                }
                else => {
                    stop.as_mut().await;
                    break;
                }
            }
        }
        // Nobody listens where no worker is left.
        let _ = stopping.send(true);
        let ended = async { while workers.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_PATIENCE, ended).await.is_err() {
            workers.shutdown().await;
        }
    }

    /// Forgets what was delivered long ago, now and then.
    async fn forget(self) {
        const NOW_AND_THEN: Duration = Duration::from_secs(3600);
        loop {
            let age = u64::try_from(self.patience.remembered.as_millis()).unwrap_or(u64::MAX);
            let before = Timestamp(Timestamp::now().0.saturating_sub(age));
            if let Err(error) = self.outbox.forget_done(before).await {
                tracing::warn!(%error, "what was delivered long ago could not be forgotten");
            }
            tokio::time::sleep(NOW_AND_THEN).await;
        }
    }
}

/// What is sent of a delivery: the instance as it leaves for this destination.
pub(crate) enum Found {
    /// With its changes.
    Instance(Box<InstanceRecord>),
    /// There is nothing to send, for this reason.
    Nothing(Tried),
}

/// Looks up what a delivery is about.
pub(crate) async fn find(pacs: &Pacs, waiting: &Waiting) -> Found {
    let What::Instance(instance) = waiting.what else {
        return Found::Nothing(Tried::Refused("the destination takes instances alone".to_owned()));
    };
    match found(pacs, &instance, waiting).await {
        Ok(Some(record)) => Found::Instance(Box::new(record)),
        Ok(None) => Found::Nothing(Tried::Gone),
        Err(error) if error.retry() == pacs_core::Retry::Later => {
            Found::Nothing(Tried::Broken(error.to_string()))
        }
        Err(error) => Found::Nothing(Tried::Refused(error.to_string())),
    }
}

async fn found(pacs: &Pacs, instance: &Uid, waiting: &Waiting) -> Result<Option<InstanceRecord>> {
    let Some(record) = pacs.lookup(instance).await? else {
        return Ok(None);
    };
    match &waiting.changes {
        Some(changes) => pacs.changed_on_the_way(&record, changes).await.map(Some),
        None => Ok(Some(record)),
    }
}

/// Ends behind the first that was not made: so the order is kept.
fn in_order<'a>(
    each: impl Stream<Item = (Waiting, Tried)> + Send + 'a,
) -> impl Stream<Item = (Waiting, Tried)> + Send + 'a {
    let mut ended = false;
    each.take_while(move |(_, tried)| {
        let goes = !ended;
        ended |= !tried.is_over();
        futures::future::ready(goes)
    })
}
