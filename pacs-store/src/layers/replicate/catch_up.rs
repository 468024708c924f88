//! The thread that copies what the second archive lacks.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::channel::oneshot;
use futures::executor::block_on;
use futures::future::{Either, join_all, select};
use futures::{StreamExt, stream};
use pacs_core::ledger::Step;
use pacs_core::{Archive, Entry, Error, ErrorKind, InstanceKey, Locator, Result, Sequence, Stored, Uid};

use super::notes::{
    Copy, Position, forget_later, forget_met, note_away, note_copy, note_later, note_order, note_position,
    note_removed,
};
use super::{AT_ONCE, Gone, Shared};

/// Copies that are made at the same time: they share the flush of the second archive.
const COPIES_AT_ONCE: usize = 8;
/// What comes within this time is noted together.
const GATHERED: Duration = Duration::from_millis(100);
/// The pauses while the second archive takes nothing: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// How often the archives are told what need not be looked through again.
const HINT_EACH: Duration = Duration::from_secs(5);
/// How often that is tried again which the first archive could not give.
const RETRY_EACH: Duration = Duration::from_secs(600);

/// Until the archive is closed.
pub(super) fn run(shared: &Shared, mut closed: oneshot::Receiver<()>) {
    let mut catching = CatchUp {
        shared,
        hinted: Instant::now(),
        retried: None,
        claimed: RefCell::default(),
        failed: RefCell::default(),
    };
    let mut pause: Option<Duration> = None;
    while shared.wait(pause) {
        let round = catch_unwind(AssertUnwindSafe(|| {
            let second = shared.second.open()?;
            let round = pin!(async {
                shared.compare_second(&*second).await?;
                catching.round(&*second).await
            });
            // What is left then, the next opening finds.
            match block_on(select(round, &mut closed)) {
                Either::Left((round, _)) => round,
                Either::Right(_) => Err(closed_error()),
            }
        }));
        let round = round.unwrap_or_else(|_| {
            let why = "the thread that copies panicked";
            Err(Error::new(ErrorKind::Internal, "archive.replicate", why))
        });
        match round {
            Ok(()) => pause = None,
            Err(_) if shared.live.is_closed() => break,
            Err(error) => {
                let was_present = shared.second.is_present.swap(false, Ordering::AcqRel);
                // Nothing is being copied.
                let mut state = shared.live.state();
                state.gone.retain(|_, gone| !matches!(gone, Gone::Noted(_)));
                drop(state);
                if was_present || pause.is_none() {
                    tracing::error!(%error, "the second archive is behind; it is tried again");
                }
                let [first, longest] = PAUSES;
                pause = Some(pause.map_or(first, |last| (last * 2).min(longest)));
            }
        }
    }
    // What both archives have is noted, so that what either loses until the next opening is known.
    if let Err(error) = block_on(catching.settle()) {
        tracing::warn!(%error, "what both archives have could not be noted; the next opening compares them");
    }
    let position = shared.live.state().position;
    if let Ok(second) = shared.second.present()
        && let Err(error) = block_on(second.indexed(position.second))
    {
        tracing::warn!(%error, "the second archive did not take a hint");
    }
}

fn closed_error() -> Error {
    Error::new(ErrorKind::Closed, "archive.replicate", "the archive is closed")
}

impl Shared {
    /// Waits until there is something to do, or for the pause after a failure. False when the archive is closed.
    fn wait(&self, pause: Option<Duration>) -> bool {
        let live = &self.live;
        let state = live.state();
        let state = match pause {
            // Who waits for the copies doesn't wait for the pause.
            Some(pause) => {
                let asked = state.waiting.len();
                let waited = live.changed.wait_timeout_while(state, pause, |state| {
                    !state.closed && state.waiting.len() <= asked
                });
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let waited = live
                    .changed
                    .wait_while(state, |state| !state.is_due && !state.closed);
                let state = waited.unwrap_or_else(PoisonError::into_inner);
                let gathering = live
                    .changed
                    .wait_timeout_while(state, GATHERED, |state| !state.closed && state.waiting.is_empty());
                gathering.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        let mut state = state;
        state.is_due = false;
        !state.closed
    }
}

pub(super) struct CatchUp<'a> {
    pub(super) shared: &'a Shared,
    hinted: Instant,
    /// When that was tried again last which could not be read.
    retried: Option<Instant>,
    /// Copies that were met, and are taken for what is noted next.
    pub(super) claimed: RefCell<HashSet<Bytes>>,
    /// What the second archive said when it did not take a copy: nothing further is begun then.
    pub(super) failed: RefCell<Option<Error>>,
}

/// What is to be done about an entry of the first archive.
enum Work {
    /// Nothing any more.
    None,
    /// Both copies are kept already.
    Note(Arc<Copy>),
    Copy(Box<(InstanceKey, Stored)>),
    Removed(Uid, Locator),
}

/// The same when it is done.
pub(super) enum Done {
    None,
    /// With the sequence of one that was met, where that is the copy.
    Copied(Arc<Copy>, Option<Sequence>),
    /// The first archive could not give it now.
    Later(Box<(InstanceKey, Stored)>),
    Removed(Uid, Locator),
    /// The second archive did not take it, or was not asked.
    Not,
}

impl CatchUp<'_> {
    /// Copies all that the second archive lacks now.
    async fn round(&mut self, second: &dyn Archive) -> Result<()> {
        let asked = std::mem::take(&mut self.shared.live.state().waiting);
        let reached = self.work(second).await;
        let mut state = self.shared.live.state();
        let position = state.position.first;
        for (wanted, waiting) in asked {
            match reached
                .as_ref()
                .is_ok_and(|reached| *reached || position >= wanted)
            {
                // Who waited may have gone.
                true => drop(waiting.send(())),
                // What was on its way wakes this thread when it is there.
                false => state.waiting.push((wanted, waiting)),
            }
        }
        reached.map(drop)
    }

    /// Answers whether all was copied that was there when it began.
    async fn work(&mut self, second: &dyn Archive) -> Result<bool> {
        let shared = self.shared;
        if !shared.second.is_present.load(Ordering::Acquire) {
            // That it takes what comes.
            second.begin().await?.abort().await?;
            shared.second.set_present(true);
            tracing::info!("the second archive takes what comes");
        }
        // What writers did not wait for.
        let late = std::mem::take(&mut shared.live.state().late);
        join_all(late).await;
        shared.send_away(second).await?;
        self.retry(second).await?;
        let last = second.last_sequence();
        let reached = self.catch_up(second).await?;
        self.restore_orders(second).await?;
        shared.send_away(second).await?;
        if reached {
            self.note_all_met(last).await?;
        }
        self.hint(second).await?;
        Ok(reached)
    }

    /// Notes what is in both archives, up to the first that is not. For the end: the second archive is not asked.
    async fn settle(&self) -> Result<()> {
        let mut position = self.shared.live.state().position.first;
        let mut entries = self.shared.first.scan(position).ready_chunks(AT_ONCE);
        let mut is_end = false;
        while let (false, Some(chunk)) = (is_end, entries.next().await) {
            let mut done = Vec::with_capacity(chunk.len());
            for entry in chunk {
                let entry = entry?;
                let work = self.work_of(&entry).await?;
                done.push(match work {
                    None | Some(Work::Copy(_)) => {
                        is_end = true;
                        break;
                    }
                    Some(Work::None) => Done::None,
                    Some(Work::Note(copy)) => Done::Copied(copy, None),
                    Some(Work::Removed(instance, locator)) => Done::Removed(instance, locator),
                });
                position = position.max(entry.sequence());
            }
            self.note(done, position).await?;
        }
        let indexed = Sequence(self.shared.indexed.load(Ordering::Acquire));
        self.shared.first.indexed(indexed.min(position)).await
    }

    /// Everything in the second archive up to `last` is noted, or met and nobody's, unless something is on its way.
    async fn note_all_met(&self, last: Option<Sequence>) -> Result<()> {
        let position = {
            let state = self.shared.live.state();
            let is_noted = state.on_the_way.is_empty() && state.fresh.is_empty();
            match last.filter(|last| is_noted && *last > state.position.second) {
                Some(second) => Position {
                    second,
                    ..state.position
                },
                None => return Ok(()),
            }
        };
        self.shared.notes.apply(vec![note_position(position)]).await?;
        self.shared.live.state().position = position;
        Ok(())
    }

    /// Tries again now and then what could not be read.
    async fn retry(&mut self, second: &dyn Archive) -> Result<()> {
        if self.retried.is_some_and(|retried| retried.elapsed() < RETRY_EACH) {
            return Ok(());
        }
        self.retried = Some(Instant::now());
        let mut after = None;
        loop {
            let later = self.shared.notes.later(after.as_ref(), AT_ONCE).await?;
            let Some((_, last)) = later.last() else {
                return Ok(());
            };
            after = Some(last.locator.clone());
            let works = later.into_iter().map(|entry| Work::Copy(Box::new(entry)));
            let position = self.shared.live.state().position.first;
            self.all_done(second, works.map(|work| (Sequence(0), work)).collect(), position)
                .await?;
        }
    }

    /// Brings versions of instances into their order in the second archive.
    async fn restore_orders(&self, second: &dyn Archive) -> Result<()> {
        loop {
            let instances = self.shared.notes.out_of_order(AT_ONCE).await?;
            let mut is_left = instances.is_empty();
            for instance in instances {
                is_left |= !self.shared.restore_order(second, &instance).await?;
            }
            if is_left {
                return Ok(());
            }
        }
    }

    /// Goes through what the first archive took in. Answers whether it came to the end: what is on its way into both
    /// archives is left for later, and all behind it.
    async fn catch_up(&self, second: &dyn Archive) -> Result<bool> {
        let shared = self.shared;
        let after = shared.live.state().position.first;
        let mut entries = shared.first.scan(after).ready_chunks(AT_ONCE);
        while let Some(chunk) = entries.next().await {
            let mut works = Vec::with_capacity(chunk.len());
            let mut is_on_the_way = false;
            for entry in chunk {
                let entry = entry?;
                let Some(work) = self.work_of(&entry).await? else {
                    is_on_the_way = true;
                    break;
                };
                works.push((entry.sequence(), work));
            }
            self.all_done(second, works, after).await?;
            if is_on_the_way {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Does them all and notes what was done; that everything is done up to the first that was not.
    ///
    /// # Errors
    /// What the second archive said of that one.
    async fn all_done(
        &self,
        second: &dyn Archive,
        works: Vec<(Sequence, Work)>,
        mut passed: Sequence,
    ) -> Result<()> {
        // What an earlier one left that failed.
        self.claimed.borrow_mut().clear();
        self.failed.take();
        let sequences: Vec<_> = works.iter().map(|(sequence, _)| *sequence).collect();
        let done: Vec<Done> = stream::iter(works)
            .map(|(_, work)| self.done(second, work))
            .buffered(COPIES_AT_ONCE)
            .collect()
            .await;
        let until_failed = done.iter().take_while(|done| !matches!(done, Done::Not));
        for (sequence, _) in sequences.into_iter().zip(until_failed) {
            passed = passed.max(sequence);
        }
        if !done.is_empty() {
            self.note(done, passed).await?;
        }
        self.failed.take().map_or(Ok(()), Err)
    }

    /// What is to be done about an entry; `None` while it is on its way into both archives, or out of them.
    async fn work_of(&self, entry: &Entry) -> Result<Option<Work>> {
        let (key, stored) = match entry {
            Entry::Removed {
                instance, locator, ..
            } => {
                // Its second copy may be what is on its way.
                let state = self.shared.live.state();
                let is_on_the_way = state.on_the_way.contains_key(instance);
                return Ok((!is_on_the_way).then(|| Work::Removed(*instance, locator.clone())));
            }
            Entry::Stored(key, stored) => (key, stored),
        };
        {
            let state = self.shared.live.state();
            match state.gone.get(&stored.locator) {
                // Whether it will be removed isn't known yet.
                Some(Gone::Removing) => return Ok(None),
                Some(_) => return Ok(Some(Work::None)),
                None => {}
            }
            if let Some(copy) = state.fresh.get(&stored.locator) {
                return Ok(Some(Work::Note(Arc::clone(copy))));
            }
            if state.on_the_way.contains_key(&key.instance) {
                return Ok(None);
            }
        }
        let notes = &self.shared.notes;
        let is_known =
            self.shared.is_spare(&stored.locator).await? || notes.of(&stored.locator).await?.is_some();
        Ok(Some(match is_known {
            true => Work::None,
            false => Work::Copy(Box::new((*key, stored.clone()))),
        }))
    }

    async fn done(&self, second: &dyn Archive, work: Work) -> Done {
        match work {
            Work::None => Done::None,
            Work::Note(copy) => Done::Copied(copy, None),
            Work::Removed(instance, locator) => Done::Removed(instance, locator),
            Work::Copy(_) if self.failed.borrow().is_some() => Done::Not,
            Work::Copy(entry) => self.copy(second, entry).await.unwrap_or_else(|error| {
                self.failed.borrow_mut().get_or_insert(error);
                Done::Not
            }),
        }
    }

    /// Notes what was done, and that everything up to `passed` is.
    async fn note(&self, done: Vec<Done>, passed: Sequence) -> Result<()> {
        let shared = self.shared;
        let _noting = shared.noting.lock().await;
        let mut steps = Vec::with_capacity(2 * done.len() + 1);
        let mut here: HashMap<&Locator, &Copy> = HashMap::new();
        let mut greatest = Sequence(0);
        let mut removed = Vec::new();
        for done in &done {
            match done {
                Done::None | Done::Not => {}
                Done::Later(entry) => {
                    let (key, stored) = &**entry;
                    if shared.check_kept(&stored.locator).is_ok() {
                        steps.push(note_later(key, stored));
                    }
                }
                Done::Copied(copy, met) => {
                    steps.push(forget_later(&copy.stored.locator));
                    steps.extend(met.map(|met| forget_met(&copy.key.instance, met)));
                    // Who removes it meanwhile looks for it here before, or finds it noted afterwards.
                    if shared.check_kept(&copy.stored.locator).is_err() {
                        steps.push(note_away(&copy.second, &copy.key.instance));
                    } else {
                        steps.extend(note_copy(copy));
                        greatest = greatest.max(copy.second_sequence);
                        if self.is_out_of_order(copy, &here).await? {
                            steps.push(note_order(&copy.key.instance));
                        }
                        here.insert(&copy.stored.locator, copy);
                    }
                }
                Done::Removed(instance, locator) => {
                    steps.push(forget_later(locator));
                    let fresh = shared.live.state().fresh.get(locator).cloned();
                    let noted = match (here.remove(locator), fresh) {
                        (Some(copy), _) => Some(copy.clone()),
                        (None, Some(copy)) => Some((*copy).clone()),
                        (None, None) => shared.notes.of(locator).await?,
                    };
                    match noted {
                        Some(copy) => {
                            shared.remove_spare(&copy).await?;
                            steps.extend(note_removed(&copy));
                        }
                        None => steps.extend(self.unclaimed(instance, &here).await?),
                    }
                    removed.push(locator);
                }
            }
        }
        let position = {
            let position = shared.live.state().position;
            Position {
                first: position.first.max(passed),
                second_last: position.second_last.max(greatest),
                ..position
            }
        };
        steps.push(note_position(position));
        shared.notes.apply(steps).await?;
        let mut state = shared.live.state();
        state.position = position;
        state.gone.retain(|_, gone| match gone {
            Gone::Removing => true,
            Gone::Removed(sequence) | Gone::Noted(sequence) => *sequence > position.first,
        });
        for locator in removed {
            state.fresh.remove(locator);
        }
        for done in &done {
            if let Done::Copied(copy, _) = done {
                state.fresh.remove(&copy.stored.locator);
            }
        }
        Ok(())
    }

    /// Whether the second archive has another version of the instance on the wrong side of this one.
    async fn is_out_of_order(&self, copy: &Copy, here: &HashMap<&Locator, &Copy>) -> Result<bool> {
        let is_wrong = |other: &Copy| {
            let order = other.stored.sequence.cmp(&copy.stored.sequence);
            order != std::cmp::Ordering::Equal && order != other.second_sequence.cmp(&copy.second_sequence)
        };
        let instance = copy.key.instance;
        let noted = self.shared.notes.versions(&instance).await?;
        let here = here.values().filter(|other| other.key.instance == instance);
        Ok(noted.iter().any(is_wrong) || here.copied().any(is_wrong))
    }

    /// What was met of an instance that is removed, and of which no version is left: it is that one's.
    async fn unclaimed(&self, instance: &Uid, here: &HashMap<&Locator, &Copy>) -> Result<Vec<Step>> {
        let met = self.shared.notes.met(instance).await?;
        let is_left = self.shared.live.state().is_coming(instance);
        let is_here = here.values().any(|copy| copy.key.instance == *instance);
        if met.is_empty() || is_left || is_here || !self.shared.notes.versions(instance).await?.is_empty() {
            return Ok(Vec::new());
        }
        let steps = met.into_iter().flat_map(|(_, met)| {
            [
                forget_met(instance, met.sequence),
                note_away(&met.locator, instance),
            ]
        });
        Ok(steps.collect())
    }

    /// Tells both archives now and then what need not be looked through again.
    async fn hint(&mut self, second: &dyn Archive) -> Result<()> {
        if self.hinted.elapsed() < HINT_EACH {
            return Ok(());
        }
        self.hinted = Instant::now();
        let position = self.shared.live.state().position;
        let indexed = Sequence(self.shared.indexed.load(Ordering::Acquire));
        self.shared.first.indexed(indexed.min(position.first)).await?;
        second.indexed(position.second).await
    }
}
