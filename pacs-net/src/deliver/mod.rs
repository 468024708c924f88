//! Deliveries are made: [`Deliveries`] takes what waits in an engine's outbox to its [`Destination`]s.
//!
//! Each destination has workers of its own, so that one that is down, slow or full keeps no other one waiting. A worker
//! claims a line of the outbox (what of one study waits), delivers it in order, and lets it go. What a destination
//! can't be reached for waits until it can, however long; what it refuses is tried again a few times, then waits
//! among the dead until somebody decides. What breaks off while others go through is taken to be at fault itself, and
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
mod report;
mod routes;
#[cfg(feature = "web")]
mod stow;
#[cfg(feature = "web")]
mod webhook;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt as _, Stream, StreamExt as _};
use pacs_core::route::{Line, Outbox, Outcome, Waiting, What};
use pacs_core::{InstanceRecord, Pacs, Result, Timestamp, Uid};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

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

/// What waits in a line is read so much at a time.
const BATCH_MAX: usize = 100;

/// Ends of deliveries that are recorded together: each record costs a flush of the medium.
const ENDS_TOGETHER_MAX: usize = 32;

/// Ends wait so long for others to be recorded with: what is not recorded when this process dies is delivered again.
const ENDS_WAIT_MAX: Duration = Duration::from_secs(1);

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
    /// The receiver isn't there: nothing is tried until it may be there again. For each one as [`Broken`](Self::Broken).
    Away(String),
}

impl Tried {
    /// Whether those behind it may go on.
    fn is_over(&self) -> bool {
        matches!(self, Self::Delivered(_) | Self::Gone | Self::Refused(_))
    }
}

/// Who takes deliveries.
pub trait Destination: Send + Sync + 'static {
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

/// A destination and how it is served.
struct Served {
    destination: Arc<dyn Destination>,
    /// Lines delivered at once.
    workers: usize,
    throttle: Throttle,
    state: Mutex<Away>,
    /// When something was last delivered; 0 for never.
    delivered: AtomicU64,
    wake: Notify,
}

/// Whether a destination is there.
#[derive(Default)]
struct Away {
    failures: u64,
    until: Option<Instant>,
    why: String,
}

/// At most so many deliveries a second.
struct Throttle {
    every: Duration,
    next: tokio::sync::Mutex<Instant>,
}

impl Throttle {
    async fn turn(&self) {
        if !self.every.is_zero() {
            let mut next = self.next.lock().await;
            tokio::time::sleep_until(*next).await;
            *next = Instant::now() + self.every;
        }
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
        let served = services.into_iter().map(|service| {
            let every = match service.per_second_max {
                0 => Duration::ZERO,
                count => Duration::from_secs(1) / count,
            };
            let served = Served {
                destination: service.destination,
                workers: service.workers.max(1),
                throttle: Throttle {
                    every,
                    next: tokio::sync::Mutex::new(Instant::now()),
                },
                state: Mutex::default(),
                delivered: AtomicU64::new(0),
                wake: Notify::new(),
            };
            (service.name, Arc::new(served))
        });
        let served: HashMap<_, _> = served.collect();
        let outbox = pacs.outbox()?.clone();
        let served = Arc::new(served);
        let listening = Arc::downgrade(&served);
        outbox.listen(Arc::new(move |destination: &str| {
            let Some(served) = listening.upgrade() else {
                return false;
            };
            if let Some(served) = served.get(destination) {
                served.wake.notify_waiters();
            }
            true
        }));
        Ok(Self {
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
            .map(|(name, served)| {
                let away = served.state.lock().unwrap_or_else(PoisonError::into_inner);
                Reached {
                    destination: Arc::clone(name),
                    away: (away.failures > 0).then(|| away.why.clone()),
                }
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
            for _ in 0..served.workers {
                let worker = Worker {
                    deliveries: self.clone(),
                    name: Arc::clone(name),
                    served: Arc::clone(served),
                    stopping: stopped.clone(),
                };
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

struct Worker {
    deliveries: Deliveries,
    name: Arc<str>,
    served: Arc<Served>,
    stopping: watch::Receiver<bool>,
}

/// What is to become of a line.
enum Went {
    /// It is let go as it is.
    On,
    /// It is to be tried again, in its own time.
    Again,
}

impl Worker {
    async fn run(self) {
        while !*self.stopping.borrow() {
            if let Err(error) = self.once().await {
                tracing::error!(destination = %self.name, %error, "deliveries stand still; they go on in a while");
                let wait = self.deliveries.patience.longest.min(Duration::from_secs(10));
                self.pause(tokio::time::sleep(wait)).await;
            }
        }
    }

    /// Until deliveries are stopped.
    async fn stopped(&self) {
        let mut stopping = self.stopping.clone();
        // With nobody left who may say so, they are.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    /// Waits for something, or until deliveries are stopped.
    async fn pause(&self, for_what: impl Future) {
        tokio::select! {
            _ = for_what => {}
            () = self.stopped() => {}
        }
    }

    /// Delivers what waits in one line, or waits until there may be one.
    async fn once(&self) -> Result<()> {
        let outbox = &self.deliveries.outbox;
        // From now on no call is missed.
        let mut called = std::pin::pin!(self.served.wake.notified());
        called.as_mut().enable();
        if let Some(until) = self.away_until() {
            self.pause(tokio::time::sleep_until(until)).await;
            return Ok(());
        }
        let Some(line) = outbox.claim(&self.name, Timestamp::now()).await? else {
            let wait = match outbox.next_try(&self.name).await? {
                Some(at) => Duration::from_millis(at.0.saturating_sub(Timestamp::now().0).max(1)),
                None => Duration::from_secs(60),
            };
            let wait = tokio::time::timeout(wait.min(Duration::from_secs(60)), called);
            self.pause(wait).await;
            return Ok(());
        };
        let mut ended = Vec::new();
        let delivering = AssertUnwindSafe(self.deliver(&line, &mut ended)).catch_unwind();
        let went = match delivering.await {
            Ok(Ok(went)) => went,
            Ok(Err(error)) => {
                tracing::error!(destination = %self.name, %error, "a line of deliveries stands still; it goes on in a while");
                Went::Again
            }
            Err(_) => {
                tracing::error!(destination = %self.name, "a destination panicked");
                line.finish(ended).await?;
                self.panicked(&line).await?;
                Went::Again
            }
        };
        let retry = match went {
            Went::On => None,
            Went::Again => {
                let mut wait = self.deliveries.patience.after(line.failures());
                // When the destination is tried again it is with another line: this one may be why it went away.
                if let Some(until) = self.away_until() {
                    wait = wait.max((until - Instant::now()) * 2);
                }
                let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                Some(Timestamp(Timestamp::now().0.saturating_add(wait)))
            }
        };
        line.let_go(retry).await
    }

    /// The first of the line is taken to be at fault.
    async fn panicked(&self, line: &Line) -> Result<()> {
        let first = line.waiting(1).await?.into_iter();
        let ended = first.map(|waiting| {
            let outcome = self.failed(&waiting, "a destination panicked".to_owned());
            (waiting, outcome)
        });
        line.finish(ended.collect()).await
    }

    fn away_until(&self) -> Option<Instant> {
        let away = self.served.state.lock().unwrap_or_else(PoisonError::into_inner);
        away.until.filter(|until| *until > Instant::now())
    }

    /// Notes whether the destination is there.
    fn note(&self, away: Option<String>) {
        let mut state = self.served.state.lock().unwrap_or_else(PoisonError::into_inner);
        match away {
            None => {
                if state.failures > 0 {
                    tracing::info!(destination = %self.name, "deliveries go on");
                }
                *state = Away::default();
            }
            // Several workers notice the same.
            Some(_) if state.until.is_some_and(|until| until > Instant::now()) => {}
            Some(why) => {
                let wait = self.deliveries.patience.after(state.failures);
                if state.failures == 0 {
                    tracing::warn!(destination = %self.name, why, "deliveries wait: the destination isn't there");
                }
                state.failures += 1;
                state.until = Some(Instant::now() + wait);
                state.why = why;
            }
        }
    }

    /// Delivers a batch of what waits in a line. Then it is another one's turn, if one is more urgent. What has ended and
    /// is not recorded is in `ended`.
    async fn deliver(&self, line: &Line, ended: &mut Vec<(Waiting, Outcome)>) -> Result<Went> {
        let batch = line.waiting(BATCH_MAX).await?;
        if batch.is_empty() {
            return Ok(Went::On);
        }
        let (mut any, mut went) = (false, Went::On);
        // When those that have ended are recorded at the latest.
        let mut record_at: Option<Instant> = None;
        let mut tried = self.served.destination.deliver(line, batch);
        loop {
            let recording = async {
                match record_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let next = tokio::select! {
                next = tried.next() => next,
                () = recording => {
                    line.finish(std::mem::take(ended)).await?;
                    record_at = None;
                    continue;
                }
                () = self.stopped() => break,
            };
            let Some((waiting, tried)) = next else { break };
            any = true;
            let outcome = self.outcome(&waiting, tried);
            if matches!(outcome, Outcome::Failed(_) | Outcome::Busy(_)) {
                went = Went::Again;
            }
            ended.push((waiting, outcome));
            record_at.get_or_insert_with(|| Instant::now() + ENDS_WAIT_MAX);
            self.served.throttle.turn().await;
            if ended.len() >= ENDS_TOGETHER_MAX {
                line.finish(std::mem::take(ended)).await?;
                record_at = None;
            }
        }
        drop(tried);
        line.finish(std::mem::take(ended)).await?;
        // A destination that yields nothing makes no progress.
        Ok(if any || *self.stopping.borrow() {
            went
        } else {
            Went::Again
        })
    }

    /// What is recorded of a try.
    fn outcome(&self, waiting: &Waiting, tried: Tried) -> Outcome {
        match &tried {
            Tried::Away(why) => self.note(Some(why.clone())),
            // Nobody was asked.
            Tried::Gone => {}
            _ => self.note(None),
        }
        let others_went = || self.served.delivered.load(Ordering::Relaxed) > waiting.recorded.at.0;
        match tried {
            Tried::Delivered(said) => {
                self.served.delivered.store(Timestamp::now().0, Ordering::Relaxed);
                Outcome::Delivered(said)
            }
            Tried::Gone => Outcome::Gone,
            Tried::Refused(why) => self.refused(waiting, why),
            Tried::Failed(why) => self.failed(waiting, why),
            Tried::Broken(why) | Tried::Away(why) if others_went() => self.failed(waiting, why),
            Tried::Broken(why) | Tried::Busy(why) | Tried::Away(why) => Outcome::Busy(why),
        }
    }

    fn failed(&self, waiting: &Waiting, why: String) -> Outcome {
        match waiting.recorded.attempts + 1 >= self.deliveries.patience.attempts_max {
            true => self.refused(waiting, why),
            false => Outcome::Failed(why),
        }
    }

    fn refused(&self, waiting: &Waiting, why: String) -> Outcome {
        match waiting.what {
            What::Instance(instance) => {
                tracing::warn!(destination = %self.name, %instance, why, "a delivery was refused for good");
            }
            What::Occasion(trigger, of, _) => {
                tracing::warn!(destination = %self.name, %trigger, %of, why, "a delivery was refused for good");
            }
        }
        Outcome::Refused(why)
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
