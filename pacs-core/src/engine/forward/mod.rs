//! The routing thread: asks the router about what the committer has done, and enters what it decides into the outbox.
//!
//! The committer hands over what is durable and in the index, and never waits: what doesn't fit is looked for in the
//! archive instead, from where the outbox says that everything was asked about. So it is after a restart.

mod ask;
mod catch_up;
mod fetched;
mod ordered;
mod stable;
mod unasked;

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::ask::Decisions;
use self::catch_up::noted;
pub(super) use self::fetched::FetchedStudies;
pub use self::fetched::Fetching;
pub(super) use self::ordered::Ordered;
use self::stable::{Item, Unsettled, unsettled_step};
use self::unasked::{Unasked, unasked};
use super::block_on::block_on;
use super::observers::Observers;
use super::watched::Watched;
use crate::archive::{Archive, Sequence, Timestamp};
use crate::error::{Error, ErrorKind, Result};
use crate::hooks::Source;
use crate::index::InstanceRecord;
use crate::ledger::{Ledger, Step};
use crate::limits;
use crate::query::AttributeSet;
use crate::route::{Outbox, Router};
use crate::uid::{InstanceKey, Uid};

/// Batches of the committer that may wait. More are found in the archive.
const BATCHES_WAITING: usize = 64;

/// How long what comes close together is gathered: each step of the ledger costs a flush.
const GATHERED: Duration = Duration::from_millis(20);

/// After a failure of the archive, the index or the ledger.
const AGAIN: Duration = Duration::from_secs(1);

/// What the committer did.
#[derive(Default)]
pub(super) struct Done {
    pub(super) received: Vec<(Arc<InstanceRecord>, Source)>,
    /// Amended or removed.
    pub(super) changed: Vec<InstanceKey>,
    /// Orders that were placed. Who placed one waits for its answer.
    pub(super) ordered: Vec<Ordered>,
    pub(super) low_water: Sequence,
}

/// Where the committer hands over.
pub(super) struct Handover {
    batches: SyncSender<Done>,
    shared: Arc<Shared>,
    /// What is not handed over is found again.
    durable: bool,
}

#[derive(Default)]
struct Shared {
    /// Something was not handed over.
    lagging: AtomicBool,
    /// Series that were amended or removed from, and not handed over: no archive tells of them.
    changed: Mutex<BTreeSet<(Uid, Uid)>>,
    /// What is handed over, or will be as soon as it is in the index: it isn't looked for in the archive, which doesn't
    /// tell all of who sent it.
    coming: Mutex<HashMap<Uid, usize>>,
    /// Everything of the archive up to here is in the index.
    low_water: AtomicU64,
}

impl Shared {
    fn changed(&self) -> MutexGuard<'_, BTreeSet<(Uid, Uid)>> {
        // Nothing panics while it holds this lock.
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn coming(&self) -> MutexGuard<'_, HashMap<Uid, usize>> {
        // The same.
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These come no more: they are there, or are to be looked for.
    fn came<'a>(&self, instances: impl IntoIterator<Item = &'a Uid>) {
        let mut coming = self.coming();
        for instance in instances {
            match coming.get_mut(instance) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(coming.remove(instance)),
            }
        }
    }
}

impl Handover {
    /// To be called before these are in the index; then [`give`](Self::give) gives those that are.
    pub(super) fn announce(&self, instances: &[Uid]) {
        let mut coming = self.shared.coming();
        for instance in instances {
            *coming.entry(*instance).or_default() += 1;
        }
    }

    /// Hands over what was done, and takes back what was `announced` and is not part of it.
    pub(super) fn give(&self, done: Done, mut announced: Vec<Uid>) {
        for (record, _) in &done.received {
            if let Some(at) = announced.iter().position(|one| *one == record.key.instance) {
                announced.swap_remove(at);
            }
        }
        self.shared.came(&announced);
        let low_water = done.low_water;
        self.hand_over(done);
        // Last: all up to there is handed over by now, or it is known that it is to be looked for.
        self.shared.low_water.store(low_water.0, Ordering::Release);
    }

    fn hand_over(&self, done: Done) {
        let nothing_came = done.received.is_empty() && done.changed.is_empty();
        if nothing_came && done.ordered.is_empty() {
            return;
        }
        if !self.durable {
            // The thread lives as long as this sender.
            let _ = self.batches.send(done);
            return;
        }
        // An order that doesn't fit goes without an answer: who placed it is told that it is too much now.
        if let Err(TrySendError::Full(done)) = self.batches.try_send(done)
            && !nothing_came
        {
            let changed = done.changed.iter().map(|key| (key.study, key.series));
            self.shared.changed().extend(changed);
            self.lag();
            self.shared
                .came(done.received.iter().map(|(record, _)| &record.key.instance));
        }
    }

    /// Something came into the index that nobody handed over.
    pub(super) fn lag(&self) {
        self.shared.lagging.store(true, Ordering::Release);
    }
}

pub(super) struct Forwarder {
    pub(super) archive: Arc<dyn Archive>,
    pub(super) index: Arc<Watched>,
    pub(super) attributes: Arc<AttributeSet>,
    pub(super) router: Arc<dyn Router>,
    pub(super) observers: Arc<Observers>,
    pub(super) outbox: Option<(Outbox, Arc<dyn Ledger>)>,
    pub(super) fetched: Arc<FetchedStudies>,
    /// How long nothing must have come to a series or a study.
    pub(super) stable_after: Duration,
}

struct State {
    forwarder: Forwarder,
    shared: Arc<Shared>,
    /// How far the archive was asked about, as it is noted.
    asked: Sequence,
    /// Series and studies that something came to.
    unsettled: Unsettled,
    unasked: Unasked,
    /// What was unsettled before the last end is known.
    restored: bool,
    /// What was not handed over was asked about.
    caught_up: bool,
}

impl Forwarder {
    /// What runs it until the handover is dropped.
    pub(super) fn start(self, low_water: Sequence) -> (Handover, impl FnOnce() + Send) {
        let (batches, receiver) = sync_channel(BATCHES_WAITING);
        let shared = Arc::new(Shared::default());
        shared.low_water.store(low_water.0, Ordering::Release);
        let handover = Handover {
            batches,
            shared: Arc::clone(&shared),
            durable: self.outbox.is_some(),
        };
        // What came before the last end may not have been asked about.
        shared.lagging.store(self.outbox.is_some(), Ordering::Release);
        let mut state = State {
            forwarder: self,
            shared,
            asked: Sequence(0),
            unsettled: Unsettled::default(),
            unasked: Unasked::new(handover.durable),
            restored: false,
            caught_up: true,
        };
        (handover, move || state.run(&receiver))
    }
}

impl State {
    fn run(&mut self, batches: &Receiver<Done>) {
        // After a failure nothing is tried before this moment.
        let mut not_before = Instant::now();
        loop {
            if Instant::now() >= not_before && !self.bring_up() {
                not_before = Instant::now() + AGAIN;
            }
            if self.unasked.wait().is_some_and(|wait| wait.is_zero()) && !self.noted(Self::ask_again) {
                self.unasked.put_off();
            }
            let is_up = self.restored && self.caught_up;
            let pause = not_before.saturating_duration_since(Instant::now());
            let wait = match is_up {
                true => self.until_stable().max(pause),
                false => pause,
            };
            let wait = self.unasked.wait().map_or(wait, |unasked| unasked.min(wait));
            match batches.recv_timeout(wait) {
                // What is passed over, or can't be entered, is found in the archive.
                Ok(first) => {
                    let mut gathered = self.gather(first, batches);
                    let came = gathered.received.iter();
                    self.shared.came(came.map(|(record, _)| &record.key.instance));
                    for order in std::mem::take(&mut gathered.ordered) {
                        self.ordered(order);
                    }
                    self.caught_up = is_up && self.noted(|state| state.take(gathered));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let may_settle = self.restored && self.caught_up && Instant::now() >= not_before;
            if may_settle && !self.noted(Self::settle) {
                not_before = Instant::now() + AGAIN;
            }
        }
    }

    /// Makes good what could not be done before; whether all of it is.
    fn bring_up(&mut self) -> bool {
        self.restored = self.restored || self.noted(Self::restore);
        if self.shared.lagging.swap(false, Ordering::AcqRel) || !self.caught_up {
            self.caught_up = self.noted(Self::catch_up);
        }
        let changed = std::mem::take(&mut *self.shared.changed());
        if !changed.is_empty() && !self.noted(|state| state.take_changed(&changed)) {
            self.shared.changed().extend(changed);
            self.caught_up = false;
        }
        self.restored && self.caught_up
    }

    /// With `first` what comes close behind it.
    fn gather(&self, first: Done, batches: &Receiver<Done>) -> Done {
        let mut gathered = first;
        // With nothing durable, a flush is nothing to wait for.
        let until = match self.forwarder.outbox {
            Some(_) => Instant::now() + GATHERED,
            None => Instant::now(),
        };
        while gathered.received.len() + gathered.changed.len() < limits::DELIVERIES_AT_ONCE_MAX {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(next) = batches.recv_timeout(left) else {
                break;
            };
            gathered.received.extend(next.received);
            gathered.changed.extend(next.changed);
            gathered.ordered.extend(next.ordered);
            gathered.low_water = gathered.low_water.max(next.low_water);
            if left.is_zero() {
                break;
            }
        }
        gathered
    }

    fn noted(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> bool {
        let done = catch_unwind(AssertUnwindSafe(|| work(self))).unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Internal,
                "engine.route",
                "the routing thread panicked",
            ))
        });
        if let Err(error) = &done {
            tracing::error!(%error, "what is to be delivered could not be entered; it is tried again");
        }
        done.is_ok()
    }

    fn take_changed(&mut self, changed: &BTreeSet<(Uid, Uid)>) -> Result<()> {
        let (now, mut decisions) = (Timestamp::now(), Decisions::default());
        for (study, series) in changed {
            self.forwarder.touch(study, series, now, &mut decisions);
        }
        self.enter(decisions, Vec::new())
    }

    fn take(&mut self, done: Done) -> Result<()> {
        let mut decisions = Decisions::default();
        for (record, source) in &done.received {
            self.forwarder.stored(record, Some(source), &mut decisions);
        }
        let now = Timestamp::now();
        for key in &done.changed {
            self.forwarder.touch(&key.study, &key.series, now, &mut decisions);
        }
        // While something is looked for in the archive, how far all was asked about is known when that ends.
        self.enter_up_to(decisions, done.low_water)
    }

    /// Enters what was decided, and notes that the archive was asked about up to there; but not while something is to
    /// be looked for in it.
    fn enter_up_to(&mut self, decisions: Decisions, low_water: Sequence) -> Result<()> {
        if low_water <= self.asked || self.shared.lagging.load(Ordering::Acquire) {
            return self.enter(decisions, Vec::new());
        }
        self.enter(decisions, vec![noted(low_water)])?;
        self.asked = low_water;
        Ok(())
    }

    /// Enters what was decided, and with the last of it `further` steps; then tells it.
    fn enter(&mut self, decisions: Decisions, mut further: Vec<Step>) -> Result<()> {
        let Decisions {
            mut decided,
            told,
            mut touched,
            unasked: failed,
        } = decisions;
        let is_news =
            |item: &Item, last: &mut Timestamp| self.unsettled.last(item).is_none_or(|known| known < *last);
        touched.retain(is_news);
        if let Some((outbox, _)) = &self.forwarder.outbox {
            let noted = self.forwarder.fetched.changed();
            // In front: a note that ends ends.
            further.splice(0..0, noted.iter().map(|(_, step)| step.clone()));
            further.extend(touched.iter().map(|(item, last)| unsettled_step(item, *last)));
            further.extend(
                failed
                    .iter()
                    .map(|instance| Step::Put(unasked(instance), Bytes::new())),
            );
            while decided.len() > limits::DELIVERIES_AT_ONCE_MAX {
                let rest = decided.split_off(limits::DELIVERIES_AT_ONCE_MAX);
                block_on(outbox.add(std::mem::replace(&mut decided, rest), Vec::new()))?;
            }
            block_on(outbox.add(decided, further))?;
            self.forwarder.fetched.kept(&noted);
        }
        for (item, last) in touched {
            self.unsettled.put(item, last);
        }
        if !failed.is_empty() {
            self.unasked.added();
        }
        told.iter().for_each(|event| self.forwarder.observers.tell(event));
        Ok(())
    }
}
