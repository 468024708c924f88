//! Who takes the lines of one destination, one after the other.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use pacs_core::route::{Line, Outcome, Waiting, What};
use pacs_core::{Result, Timestamp};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::recorded::Recorded;
use super::{Deliveries, Destination, Service, Tried};

/// What waits in a line is read so much at a time.
const BATCH_MAX: usize = 100;

/// Ends of deliveries that are recorded together: each record costs a flush of the medium.
const ENDS_TOGETHER_MAX: usize = 32;

/// Ends wait so long for others to be recorded with: what is not recorded when this process dies is delivered again.
const ENDS_WAIT_MAX: Duration = Duration::from_secs(1);

/// So many lines in a row of which nothing was delivered, and it is the destination that takes nothing. Fewer may be
/// what is wrong with them.
const LINES_IN_A_ROW_MAX: u64 = 4;

/// Who delivers to a destination that takes nothing rests so many times as long as a try took: what is in vain takes
/// next to nothing from the deliveries to others.
const REST: u32 = 30;

/// A rest is no longer than this: who takes again is found soon.
const REST_MAX: Duration = Duration::from_secs(10);

/// A destination that wasn't there for so many tries was away whatever was tried: when it is back, what was tried in vain
/// needn't wait for its own time. Of fewer one line may be the cause, which must not come at once.
const OUTAGE_MIN: u64 = 3;

/// A destination and how it is served.
pub(super) struct Served {
    destination: Arc<dyn Destination>,
    /// Lines delivered at once.
    workers: usize,
    throttle: Throttle,
    state: Mutex<Away>,
    /// When something was last delivered; 0 for never.
    delivered: AtomicU64,
    /// Lines in a row of which nothing was.
    in_vain: AtomicU64,
    /// It is there again, and all lines may be tried.
    back: AtomicBool,
    wake: Notify,
}

impl Served {
    pub(super) fn new(service: Service) -> Self {
        let every = match service.per_second_max {
            0 => Duration::ZERO,
            count => Duration::from_secs(1) / count,
        };
        Self {
            destination: service.destination,
            workers: service.workers.max(1),
            throttle: Throttle {
                every,
                next: tokio::sync::Mutex::new(Instant::now()),
            },
            state: Mutex::default(),
            delivered: AtomicU64::new(0),
            in_vain: AtomicU64::new(0),
            back: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    pub(super) fn workers(&self) -> usize {
        self.workers
    }

    /// There may be something to deliver.
    pub(super) fn wake(&self) {
        self.wake.notify_waiters();
    }

    /// Why nothing is delivered to it now; `None` while it is there.
    pub(super) fn away(&self) -> Option<String> {
        let state = self.state();
        (state.failures > 0).then(|| state.why.clone())
    }

    fn state(&self) -> MutexGuard<'_, Away> {
        // Nothing panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

pub(super) struct Worker {
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
    pub(super) fn new(
        deliveries: &Deliveries,
        name: &Arc<str>,
        served: &Arc<Served>,
        stopping: &watch::Receiver<bool>,
    ) -> Self {
        Self {
            deliveries: deliveries.clone(),
            name: Arc::clone(name),
            served: Arc::clone(served),
            stopping: stopping.clone(),
        }
    }

    /// Until deliveries are stopped.
    pub(super) async fn run(self) {
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
        let now = match self.served.back.swap(false, Ordering::Relaxed) {
            true => Timestamp(u64::MAX - 1),
            false => Timestamp::now(),
        };
        let Some(line) = outbox.claim(&self.name, now).await? else {
            let wait = match outbox.next_try(&self.name).await? {
                Some(at) => Duration::from_millis(at.0.saturating_sub(Timestamp::now().0).max(1)),
                None => Duration::from_secs(60),
            };
            let wait = tokio::time::timeout(wait.min(Duration::from_secs(60)), called);
            self.pause(wait).await;
            return Ok(());
        };
        let begun = Instant::now();
        let (mut ended, mut recorded) = (Vec::new(), None);
        let delivering = AssertUnwindSafe(self.deliver(&line, &mut ended, &mut recorded)).catch_unwind();
        let delivered = delivering.await;
        // What went has gone, whether or not that can be recorded: where it can't, nothing more can begin.
        if let Some(recorded) = recorded
            && let Err(error) = recorded.tell(&self.deliveries.pacs).await
        {
            tracing::error!(destination = %self.name, %error, "what was delivered can't be recorded for audit");
        }
        let went = match delivered {
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
        line.let_go(retry).await?;
        if retry.is_some() && self.served.in_vain.fetch_add(1, Ordering::Relaxed) >= LINES_IN_A_ROW_MAX {
            let rest = (begun.elapsed() * REST).min(REST_MAX);
            self.pause(tokio::time::sleep(rest)).await;
        }
        Ok(())
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
        let away = self.served.state();
        away.until.filter(|until| *until > Instant::now())
    }

    /// Notes whether the destination is there.
    fn note(&self, away: Option<String>) {
        let mut state = self.served.state();
        match away {
            None => {
                if state.failures > 0 {
                    tracing::info!(destination = %self.name, "deliveries go on");
                }
                if state.failures >= OUTAGE_MIN {
                    self.served.back.store(true, Ordering::Relaxed);
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
    /// is not recorded is in `ended`; what is to be told of it for audit in `recorded`.
    async fn deliver(
        &self,
        line: &Line,
        ended: &mut Vec<(Waiting, Outcome)>,
        recorded: &mut Option<Recorded>,
    ) -> Result<Went> {
        let destination = &*self.served.destination;
        let batch = line.waiting(BATCH_MAX).await?;
        if batch.is_empty() {
            return Ok(Went::On);
        }
        let recorded = recorded.insert(Recorded::begin(&self.deliveries.pacs, destination, &batch).await?);
        let (mut any, mut went) = (false, Went::On);
        // When those that have ended are recorded at the latest.
        let mut record_at: Option<Instant> = None;
        let mut tried = destination.deliver(line, batch);
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
            recorded.ended(&waiting, &outcome);
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
                self.served.in_vain.store(0, Ordering::Relaxed);
                Outcome::Delivered(said)
            }
            Tried::Gone => Outcome::Gone,
            Tried::Refused(why) => self.refused(waiting, why),
            Tried::Failed(why) => self.failed(waiting, why),
            Tried::Broken(why) if others_went() => self.failed(waiting, why),
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
