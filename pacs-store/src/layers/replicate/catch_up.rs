//! The thread that copies what the second archive lacks.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt, stream};
use pacs_core::ledger::Step;
use pacs_core::{Archive, Entry, Error, ErrorKind, InstanceKey, Locator, Result, Sequence, Stored};

use super::notes::{Copy, Position, forget_met, note_away, note_copy, note_position, note_removed};
use super::sums::Summing;
use super::{AT_ONCE, Shared, is_damage};

/// Copies that are made at the same time: they share the flush of the second archive.
const COPIES_AT_ONCE: usize = 8;
/// What comes within this time is noted together.
const GATHERED: Duration = Duration::from_millis(100);
/// The pauses while the second archive takes nothing: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// How often the archives are told what need not be looked through again.
const HINT_EACH: Duration = Duration::from_secs(5);

/// Until the archive is closed.
pub(super) fn run(shared: &Shared) {
    let mut catching = CatchUp {
        shared,
        hinted: Instant::now(),
        claimed: RefCell::default(),
    };
    let mut pause: Option<Duration> = None;
    while shared.wait(pause) {
        let round = catch_unwind(AssertUnwindSafe(|| {
            let second = shared.open_second()?;
            block_on(catching.round(&*second))
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
                if was_present || pause.is_none() {
                    tracing::error!(%error, "the second archive is behind; it is tried again");
                }
                let [first, longest] = PAUSES;
                pause = Some(pause.map_or(first, |last| (last * 2).min(longest)));
            }
        }
    }
    // So that what is lost of it until the next opening is told by it.
    let position = shared.live.state().position;
    if let Ok(second) = shared.second.present()
        && let Err(error) = block_on(second.indexed(position.second))
    {
        tracing::warn!(%error, "the second archive did not take a hint");
    }
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

struct CatchUp<'a> {
    shared: &'a Shared,
    hinted: Instant,
    /// Copies that were met, and are taken for what is noted next.
    claimed: RefCell<HashSet<Bytes>>,
}

/// What is to be done about an entry of the first archive.
enum Work {
    /// Nothing any more.
    None,
    /// Both copies are kept already.
    Note(Arc<Copy>),
    Copy(Box<(InstanceKey, Stored)>),
    Removed(Locator),
}

/// The same when it is done.
enum Done {
    None,
    Copied(Arc<Copy>, Option<Sequence>),
    Removed(Locator),
}

impl CatchUp<'_> {
    /// Copies all that the second archive lacks now.
    async fn round(&mut self, second: &dyn Archive) -> Result<()> {
        let asked = std::mem::take(&mut self.shared.live.state().waiting);
        let reached = self.work(second).await;
        if !matches!(reached, Ok(true)) {
            let mut state = self.shared.live.state();
            state.waiting.extend(asked);
            // What was on its way wakes this thread when it is there.
        } else {
            for waiting in asked {
                // Who waited may have gone.
                let _ = waiting.send(());
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
        shared.send_away(second).await?;
        let last = second.last_sequence();
        let reached = self.catch_up(second).await?;
        shared.send_away(second).await?;
        self.note_all_met(last).await?;
        self.hint(second).await?;
        Ok(reached)
    }

    /// Everything in the second archive up to `last` is noted, unless something is on its way.
    async fn note_all_met(&self, last: Option<Sequence>) -> Result<()> {
        let notes = &self.shared.notes;
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
        // What was met and is nobody's copy was noted already, or its first was never committed.
        loop {
            let met = notes.met_at_all(AT_ONCE).await?;
            if met.is_empty() {
                break;
            }
            notes.apply(met.into_iter().map(Step::Delete).collect()).await?;
        }
        notes.apply(vec![note_position(position)]).await?;
        self.shared.live.state().position = position;
        Ok(())
    }

    /// Goes through what the first archive took in. Answers whether it came to the end: what is on its way into both
    /// archives is left for later, and all behind it.
    async fn catch_up(&self, second: &dyn Archive) -> Result<bool> {
        let shared = self.shared;
        let after = shared.live.state().position.first;
        let mut entries = shared.first.scan(after).ready_chunks(AT_ONCE);
        while let Some(chunk) = entries.next().await {
            let mut passed = after;
            let mut works = Vec::with_capacity(chunk.len());
            let mut is_on_the_way = false;
            for entry in chunk {
                let entry = entry?;
                let Some(work) = self.work_of(&entry).await? else {
                    is_on_the_way = true;
                    break;
                };
                passed = passed.max(entry.sequence());
                works.push(work);
            }
            let done: Vec<Done> = stream::iter(works)
                .map(|work| self.done(second, work))
                .buffered(COPIES_AT_ONCE)
                .try_collect()
                .await?;
            if !done.is_empty() {
                self.note(done, passed).await?;
            }
            self.claimed.borrow_mut().clear();
            if is_on_the_way {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What is to be done about an entry; `None` while it is on its way into both archives.
    async fn work_of(&self, entry: &Entry) -> Result<Option<Work>> {
        let (key, stored) = match entry {
            Entry::Removed { locator, .. } => return Ok(Some(Work::Removed(locator.clone()))),
            Entry::Stored(key, stored) => (key, stored),
        };
        {
            let state = self.shared.live.state();
            if state.gone.contains_key(&stored.locator) {
                return Ok(Some(Work::None));
            }
            if let Some(copy) = state.fresh.get(&stored.locator) {
                return Ok(Some(Work::Note(Arc::clone(copy))));
            }
            if state.on_the_way.contains_key(&key.instance) {
                return Ok(None);
            }
        }
        Ok(Some(match self.shared.notes.of(&stored.locator).await? {
            Some(_) => Work::None,
            None => Work::Copy(Box::new((*key, stored.clone()))),
        }))
    }

    async fn done(&self, second: &dyn Archive, work: Work) -> Result<Done> {
        Ok(match work {
            Work::None => Done::None,
            Work::Note(copy) => Done::Copied(copy, None),
            Work::Removed(locator) => Done::Removed(locator),
            Work::Copy(entry) => match self.copy(second, entry.0, &entry.1).await? {
                Some((copy, met)) => Done::Copied(Arc::new(copy), met),
                None => Done::None,
            },
        })
    }

    /// Copies an instance, unless one that was met is its copy: then it answers the sequence of that too. `None` where
    /// the first archive can't give it.
    async fn copy(
        &self,
        second: &dyn Archive,
        key: InstanceKey,
        stored: &Stored,
    ) -> Result<Option<(Copy, Option<Sequence>)>> {
        let first = &*self.shared.first;
        for (noted, met) in self.shared.notes.met(&key.instance).await? {
            if met.length != stored.length || self.claimed.borrow().contains(&noted) {
                continue;
            }
            let Some(sums) = self.sums(first, &stored.locator).await? else {
                return Ok(None);
            };
            // Another one with the same bytes may have taken it meanwhile.
            let is_it = self.sums(second, &met.locator).await?.as_ref() == Some(&sums);
            if is_it && self.claimed.borrow_mut().insert(noted) {
                let sequence = met.sequence;
                return Ok(Some((copy_of(key, stored, met, sums), Some(sequence))));
            }
        }
        let mut writer = second.begin().await?;
        let mut pieces = first.read(&stored.locator, 0..u64::MAX);
        let mut summing = Summing::default();
        while let Some(piece) = pieces.next().await {
            self.check_open()?;
            match piece {
                Ok(piece) => {
                    summing.push(&piece);
                    writer.write(piece).await?;
                }
                Err(error) if is_damage(&error) => {
                    writer.abort().await?;
                    self.tell_unreadable(&key, &error);
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        let (sums, length) = summing.finish();
        if length != stored.length {
            writer.abort().await?;
            let why = "it is not as long as it was";
            self.tell_unreadable(&key, &Error::new(ErrorKind::Corrupt, "archive.replicate", why));
            return Ok(None);
        }
        let second = writer.commit(key).await?;
        Ok(Some((copy_of(key, stored, second, sums), None)))
    }

    fn tell_unreadable(&self, key: &InstanceKey, error: &Error) {
        // What was removed meanwhile is not missed.
        if error.kind() != ErrorKind::NotFound {
            self.shared.unreadable.fetch_add(1, Ordering::Relaxed);
            tracing::error!(instance = %key.instance, %error, "an instance can't be copied");
        }
    }

    /// The checks of an instance; `None` where it is damaged or gone.
    async fn sums(&self, archive: &dyn Archive, locator: &Locator) -> Result<Option<Vec<u64>>> {
        let mut pieces = archive.read(locator, 0..u64::MAX);
        let mut summing = Summing::default();
        while let Some(piece) = pieces.next().await {
            self.check_open()?;
            match piece {
                Ok(piece) => summing.push(&piece),
                Err(error) if is_damage(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(summing.finish().0))
    }

    /// # Errors
    /// `Closed` when the archive is being closed: a long copy must not keep it.
    fn check_open(&self) -> Result<()> {
        match self.shared.live.is_closed() {
            true => Err(Error::new(
                ErrorKind::Closed,
                "archive.replicate",
                "the archive is closed",
            )),
            false => Ok(()),
        }
    }

    /// Notes what was done, and that everything up to `passed` is.
    async fn note(&self, done: Vec<Done>, passed: Sequence) -> Result<()> {
        let shared = self.shared;
        let _noting = shared.noting.lock().await;
        let mut steps = Vec::with_capacity(2 * done.len() + 1);
        let mut here: HashMap<&Locator, &Copy> = HashMap::new();
        let mut greatest = Sequence(0);
        for done in &done {
            match done {
                Done::None => {}
                Done::Copied(copy, met) => {
                    steps.extend(met.map(|met| forget_met(&copy.key.instance, met)));
                    // Who removes it meanwhile looks for it here before, or finds it noted afterwards.
                    if shared.check_kept(&copy.stored.locator).is_err() {
                        steps.push(note_away(&copy.second, &copy.key.instance));
                    } else {
                        steps.extend(note_copy(copy));
                        greatest = greatest.max(copy.second_sequence);
                        here.insert(&copy.stored.locator, copy);
                    }
                }
                Done::Removed(locator) => match here.get(locator) {
                    Some(copy) => steps.extend(note_removed(copy)),
                    None => {
                        let noted = shared.notes.of(locator).await?;
                        steps.extend(noted.iter().flat_map(note_removed));
                    }
                },
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
        state.gone.retain(|_, sequence| *sequence > position.first);
        for done in &done {
            if let Done::Copied(copy, _) = done {
                state.fresh.remove(&copy.stored.locator);
            }
        }
        Ok(())
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

fn copy_of(key: InstanceKey, stored: &Stored, second: Stored, sums: Vec<u64>) -> Copy {
    Copy {
        key,
        stored: stored.clone(),
        second: second.locator,
        second_sequence: second.sequence,
        sums,
    }
}
