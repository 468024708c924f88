//! [`Outbox`]: deliveries that are decided, until they are made; durable in a [`Ledger`].
//!
//! There is exactly one record for each destination and instance. What of one study waits for one destination is a
//! *line*: whoever delivers claims a line, delivers what waits in it in the order in which it came to the archive, and
//! lets it go. So the order within a study is kept, several studies go at once, and a study that fails keeps no other
//! one waiting.

mod record;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::TryStreamExt;

use super::{Changes, Delivery};
use crate::archive::{Sequence, Timestamp};
use crate::error::Result;
use crate::ledger::{Key, Ledger, LedgerExt, Parts, Step};
use crate::uid::Uid;
use record::LineState;
pub use record::{Progress, Recorded, What};

/// A delivery that a router decided.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) delivery: Delivery,
    pub(crate) what: What,
    pub(crate) study: Uid,
    pub(crate) sequence: Sequence,
    /// Tells the versions of an instance apart.
    pub(crate) version: u64,
}

/// Deliveries that wait, were made, or were refused. Clones are the same.
#[derive(Clone)]
pub struct Outbox {
    inner: Arc<Inner>,
}

struct Inner {
    ledger: Arc<dyn Ledger>,
    state: Mutex<State>,
}

/// Called with a destination's name.
type Listener = Arc<dyn Fn(&str) + Send + Sync>;

/// Lines as they were, and as they become.
type Lines = HashMap<(Arc<str>, Uid), (Option<Bytes>, LineState)>;

#[derive(Default)]
struct State {
    /// Lines that somebody delivers.
    claimed: HashSet<(Arc<str>, Uid)>,
    held: HashSet<Arc<str>>,
    counts: HashMap<Arc<str>, Counts>,
    listeners: Vec<Listener>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    waiting: u64,
    dead: u64,
}

impl State {
    fn count(&mut self, destination: &Arc<str>, waiting: i64, dead: i64) {
        let counts = self.counts.entry(Arc::clone(destination)).or_default();
        counts.waiting = counts.waiting.saturating_add_signed(waiting);
        counts.dead = counts.dead.saturating_add_signed(dead);
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

/// A claimed line. Dropped, it is let go, and others may claim it.
pub struct Line {
    outbox: Outbox,
    destination: Arc<str>,
    study: Uid,
    failures: u64,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line")
            .field("destination", &self.destination)
            .field("study", &self.study)
            .finish_non_exhaustive()
    }
}

/// One delivery of a line that waits.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// What is delivered.
    pub what: What,
    /// What is recorded of it.
    pub recorded: Recorded,
    /// What is changed on the way.
    pub changes: Option<Arc<Changes>>,
}

/// How a try to deliver ended. Texts hold no patient data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was delivered; what the receiver said to it, if anything.
    Delivered(String),
    /// It will never be taken: it is put among the dead.
    Refused(String),
    /// It was not taken this time.
    Failed(String),
    /// It could not be taken this time, whatever it is: that counts for no try.
    Busy(String),
}

/// A delivery that was refused for good.
#[derive(Clone, Debug)]
pub struct Dead {
    /// What was to be delivered.
    pub what: What,
    /// What is recorded of it.
    pub recorded: Recorded,
}

/// How it stands with one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationStatus {
    /// Its name.
    pub destination: Arc<str>,
    /// Deliveries that wait.
    pub waiting: u64,
    /// Deliveries that were refused for good.
    pub dead: u64,
    /// Nothing is delivered to it until it is released.
    pub held: bool,
}

impl Outbox {
    /// The outbox that is kept in `ledger`.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn open(ledger: Arc<dyn Ledger>) -> Result<Self> {
        let mut state = State::default();
        for kind in ["waiting", "dead"] {
            let all = Key::of(kind);
            let mut found = ledger.below(&all);
            while let Some((key, _)) = found.try_next().await? {
                let mut parts = Parts::of(&key);
                parts.text()?;
                let counts = state.counts.entry(parts.text()?.into()).or_default();
                match kind {
                    "waiting" => counts.waiting += 1,
                    _ => counts.dead += 1,
                }
            }
        }
        let held: Vec<_> = ledger.below(&record::all_held()).try_collect().await?;
        for (key, _) in held {
            let mut parts = Parts::of(&key);
            parts.text()?;
            state.held.insert(parts.text()?.into());
        }
        Ok(Self {
            inner: Arc::new(Inner {
                ledger,
                state: Mutex::new(state),
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds this lock.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `listener` called with a destination's name whenever there may be something to deliver to it. It must not
    /// block.
    pub fn listen(&self, listener: Listener) {
        self.state().listeners.push(listener);
    }

    fn told(&self, destination: &str) {
        let listeners = self.state().listeners.clone();
        listeners.iter().for_each(|listener| listener(destination));
    }

    /// Enters what was decided, with `further` steps, in one. What is recorded already of the same version is
    /// passed over.
    pub(crate) async fn add(&self, decided: Vec<Decided>, further: Vec<Step>) -> Result<()> {
        loop {
            let mut steps = further.clone();
            let mut lines = Lines::new();
            let mut counted: HashMap<Arc<str>, (i64, i64)> = HashMap::new();
            let mut seen = HashSet::new();
            for one in &decided {
                let destination = &one.delivery.destination;
                let key = record::delivery(destination, &one.what);
                if !seen.insert(key.clone()) {
                    continue;
                }
                let old = self.inner.ledger.get(&key).await?;
                if let Some(old) = &old {
                    let known = Recorded::read(old)?;
                    if known.version == one.version {
                        continue;
                    }
                    match known.progress {
                        Progress::Waiting => {
                            steps.push(Step::Delete(record::waiting(
                                destination,
                                &known.study,
                                known.sequence,
                                &one.what,
                            )));
                            counted.entry(Arc::clone(destination)).or_default().0 -= 1;
                        }
                        Progress::Dead => {
                            steps.push(Step::Delete(record::dead(destination, &one.what)));
                            counted.entry(Arc::clone(destination)).or_default().1 -= 1;
                        }
                        Progress::Done => {
                            steps.push(Step::Delete(record::done(known.at, destination, &one.what)))
                        }
                    }
                }
                let mut changes = String::new();
                if let Some(changed) = &one.delivery.changes {
                    let (hash, at, value) = record::changes_entry(changed);
                    steps.push(Step::Put(at, value));
                    changes = hash;
                }
                let recorded = Recorded {
                    progress: Progress::Waiting,
                    study: one.study,
                    sequence: one.sequence,
                    version: one.version,
                    priority: one.delivery.priority,
                    attempts: 0,
                    at: Timestamp::now(),
                    changes,
                    why: String::new(),
                };
                steps.push(Step::Expect(key.clone(), old));
                steps.push(Step::Put(key, recorded.value()));
                let waits = record::waiting(destination, &one.study, one.sequence, &one.what);
                steps.push(Step::Put(waits, Bytes::new()));
                counted.entry(Arc::clone(destination)).or_default().0 += 1;
                self.join_line(&mut lines, destination, one).await?;
            }
            for ((destination, study), (old, new)) in &lines {
                self.put_line(&mut steps, destination, study, old.as_ref(), Some(new))?;
            }
            if steps.is_empty() {
                return Ok(());
            }
            if self.inner.ledger.apply(steps).await? {
                for (destination, (waiting, dead)) in &counted {
                    self.state().count(destination, *waiting, *dead);
                }
                counted.keys().for_each(|destination| self.told(destination));
                return Ok(());
            }
        }
    }

    /// Puts a delivery into its line, which may move up with it.
    async fn join_line(&self, lines: &mut Lines, destination: &Arc<str>, one: &Decided) -> Result<()> {
        let of = (Arc::clone(destination), one.study);
        if let Some((_, line)) = lines.get_mut(&of) {
            line.priority = line.priority.min(one.delivery.priority);
            return Ok(());
        }
        let old = self
            .inner
            .ledger
            .get(&record::line_of(destination, &one.study))
            .await?;
        let line = match &old {
            Some(old) => {
                let mut line = LineState::read(old)?;
                line.priority = line.priority.min(one.delivery.priority);
                line.added = line.added.wrapping_add(1);
                line
            }
            None => LineState {
                priority: one.delivery.priority,
                order: one.sequence,
                added: 0,
                failures: 0,
                not_before: Timestamp(0),
            },
        };
        lines.insert(of, (old, line));
        Ok(())
    }

    /// The steps that have a line as it is now, if it is as it was.
    fn put_line(
        &self,
        steps: &mut Vec<Step>,
        destination: &str,
        study: &Uid,
        old: Option<&Bytes>,
        new: Option<&LineState>,
    ) -> Result<()> {
        let key = record::line_of(destination, study);
        if let Some(old) = old {
            steps.push(Step::Delete(LineState::read(old)?.place(destination, study)));
        }
        steps.push(Step::Expect(key.clone(), old.cloned()));
        match new {
            Some(new) => {
                steps.push(Step::Put(new.place(destination, study), Bytes::new()));
                steps.push(Step::Put(key, new.value()));
            }
            None => steps.push(Step::Delete(key)),
        }
        Ok(())
    }

    /// The line of `destination` whose turn it is, for whoever asks alone; `None` when nothing is to be delivered now,
    /// or the destination is held.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn claim(&self, destination: &Arc<str>, now: Timestamp) -> Result<Option<Line>> {
        if self.state().held.contains(destination) {
            return Ok(None);
        }
        self.wake_lines(destination, now).await?;
        let mut range = record::lines(destination).range();
        loop {
            // More than can be claimed are never asked for.
            let claimed = self
                .state()
                .claimed
                .iter()
                .filter(|(name, _)| name == destination)
                .count();
            let page = self.inner.ledger.range(range.clone(), claimed + 1).await?;
            let Some((last, _)) = page.last() else {
                return Ok(None);
            };
            range.start = next_after(last);
            for (key, _) in &page {
                let mut parts = Parts::of(key);
                parts.text()?;
                parts.text()?;
                parts.number()?;
                parts.number()?;
                let study = record::uid(&mut parts)?;
                if !self.state().claimed.insert((Arc::clone(destination), study)) {
                    continue;
                }
                // From here on it is let go when it is dropped.
                let mut line = Line {
                    outbox: self.clone(),
                    destination: Arc::clone(destination),
                    study,
                    failures: 0,
                };
                let state = self
                    .inner
                    .ledger
                    .get(&record::line_of(destination, &study))
                    .await?;
                // It may have come to its end between the two looks.
                if let Some(state) = state {
                    let state = LineState::read(&state)?;
                    if state.not_before.0 == 0 {
                        line.failures = state.failures;
                        return Ok(Some(line));
                    }
                }
            }
        }
    }

    /// Gives lines whose time has come their turn.
    async fn wake_lines(&self, destination: &Arc<str>, now: Timestamp) -> Result<()> {
        const AT_ONCE: usize = 64;
        let due =
            record::later(destination).range().start..record::later(destination).number(now.0 + 1).bytes();
        loop {
            let page = self.inner.ledger.range(due.clone(), AT_ONCE).await?;
            for (key, _) in &page {
                let mut parts = Parts::of(key);
                parts.text()?;
                parts.text()?;
                parts.number()?;
                let study = record::uid(&mut parts)?;
                let at = record::line_of(destination, &study);
                let Some(old) = self.inner.ledger.get(&at).await? else {
                    continue;
                };
                let mut line = LineState::read(&old)?;
                line.not_before = Timestamp(0);
                let mut steps = Vec::new();
                self.put_line(&mut steps, destination, &study, Some(&old), Some(&line))?;
                // Where it is not as it was, somebody else woke it.
                self.inner.ledger.apply(steps).await?;
            }
            if page.len() < AT_ONCE {
                return Ok(());
            }
        }
    }

    /// When the next line of `destination` waits to be tried again, if one does; never while it is held.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn next_try(&self, destination: &str) -> Result<Option<Timestamp>> {
        if self.state().held.contains(destination) {
            return Ok(None);
        }
        let first = self
            .inner
            .ledger
            .range(record::later(destination).range(), 1)
            .await?;
        let Some((key, _)) = first.first() else {
            return Ok(None);
        };
        let mut parts = Parts::of(key);
        parts.text()?;
        parts.text()?;
        Ok(Some(Timestamp(parts.number()?)))
    }

    /// Delivers nothing more to a destination until it is released. What is under way is finished.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn hold(&self, destination: &str) -> Result<()> {
        let held = Step::Put(record::held(destination), Bytes::new());
        self.inner.ledger.apply(vec![held]).await?;
        self.state().held.insert(destination.into());
        Ok(())
    }

    /// Delivers to a destination that was held again.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn release(&self, destination: &str) -> Result<()> {
        self.inner
            .ledger
            .apply(vec![Step::Delete(record::held(destination))])
            .await?;
        self.state().held.remove(destination);
        self.told(destination);
        Ok(())
    }

    /// How it stands with each destination that something was ever decided for since the outbox was opened, or waits.
    pub fn status(&self) -> Vec<DestinationStatus> {
        let state = self.state();
        let mut names: Vec<&Arc<str>> = state.counts.keys().chain(&state.held).collect();
        names.sort_unstable();
        names.dedup();
        let status = |name: &&Arc<str>| {
            let counts = state.counts.get(*name).copied().unwrap_or_default();
            DestinationStatus {
                destination: Arc::clone(name),
                waiting: counts.waiting,
                dead: counts.dead,
                held: state.held.contains(*name),
            }
        };
        names.iter().map(status).collect()
    }

    /// What is recorded of a delivery.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn recorded(&self, destination: &str, what: &What) -> Result<Option<Recorded>> {
        let found = self
            .inner
            .ledger
            .get(&record::delivery(destination, what))
            .await?;
        found.map(|value| Recorded::read(&value)).transpose()
    }

    /// Deliveries to `destination` that were refused for good, the first `limit` of them.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn dead(&self, destination: &str, limit: usize) -> Result<Vec<Dead>> {
        let mut dead = Vec::new();
        let page = self
            .inner
            .ledger
            .range(record::all_dead(destination).range(), limit)
            .await?;
        for (key, _) in page {
            let mut parts = Parts::of(&key);
            parts.text()?;
            parts.text()?;
            let what = What::parse(parts.text()?)?;
            if let Some(recorded) = self.recorded(destination, &what).await? {
                dead.push(Dead { what, recorded });
            }
        }
        Ok(dead)
    }

    /// Tries again to deliver what was refused for good: everything of the destination, or one. Answers how many.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn send_again(&self, destination: &str, one: Option<What>) -> Result<u64> {
        let mut again = 0;
        loop {
            let page: Vec<What> = match one {
                Some(what) => vec![what],
                None => self
                    .dead(destination, 256)
                    .await?
                    .into_iter()
                    .map(|dead| dead.what)
                    .collect(),
            };
            let before = again;
            for what in page {
                again += u64::from(self.revive(&destination.into(), what).await?);
            }
            if again == before || one.is_some() {
                self.told(destination);
                return Ok(again);
            }
        }
    }

    async fn revive(&self, destination: &Arc<str>, what: What) -> Result<bool> {
        let key = record::delivery(destination, &what);
        loop {
            let Some(old) = self.inner.ledger.get(&key).await? else {
                return Ok(false);
            };
            let mut recorded = Recorded::read(&old)?;
            if recorded.progress != Progress::Dead {
                return Ok(false);
            }
            recorded.progress = Progress::Waiting;
            recorded.attempts = 0;
            recorded.at = Timestamp::now();
            let study = recorded.study;
            let decided = Decided {
                delivery: Delivery {
                    priority: recorded.priority,
                    ..Delivery::to(Arc::clone(destination))
                },
                what,
                study,
                sequence: recorded.sequence,
                version: recorded.version,
            };
            let mut lines = Lines::new();
            self.join_line(&mut lines, destination, &decided).await?;
            let mut steps = vec![
                Step::Expect(key.clone(), Some(old)),
                Step::Put(key.clone(), recorded.value()),
                Step::Delete(record::dead(destination, &what)),
                Step::Put(
                    record::waiting(destination, &study, recorded.sequence, &what),
                    Bytes::new(),
                ),
            ];
            for ((destination, study), (old, new)) in &lines {
                self.put_line(&mut steps, destination, study, old.as_ref(), Some(new))?;
            }
            if self.inner.ledger.apply(steps).await? {
                self.state().count(destination, 1, -1);
                return Ok(true);
            }
        }
    }

    /// Forgets a delivery that was refused for good; answers whether there was one.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn discard(&self, destination: &str, what: What) -> Result<bool> {
        let key = record::delivery(destination, &what);
        let Some(old) = self.inner.ledger.get(&key).await? else {
            return Ok(false);
        };
        if Recorded::read(&old)?.progress != Progress::Dead {
            return Ok(false);
        }
        let steps = vec![
            Step::Expect(key.clone(), Some(old)),
            Step::Delete(key),
            Step::Delete(record::dead(destination, &what)),
        ];
        let discarded = self.inner.ledger.apply(steps).await?;
        if discarded {
            self.state().count(&destination.into(), 0, -1);
        }
        Ok(discarded)
    }

    /// Forgets deliveries that were made before `before`; answers how many.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn forget_done(&self, before: Timestamp) -> Result<u64> {
        const AT_ONCE: usize = 256;
        let range = record::all_done().range().start..record::all_done().number(before.0).bytes();
        let mut forgotten = 0;
        loop {
            let page = self.inner.ledger.range(range.clone(), AT_ONCE).await?;
            let mut steps = Vec::new();
            for (key, _) in &page {
                let mut parts = Parts::of(key);
                parts.text()?;
                parts.number()?;
                let destination = parts.text()?;
                let what = What::parse(parts.text()?)?;
                steps.push(Step::Delete(record::delivery(destination, &what)));
                steps.push(Step::Expect(key.clone(), Some(Bytes::new())));
                steps.push(Step::Delete(key.clone()));
            }
            if page.is_empty() {
                return Ok(forgotten);
            }
            if self.inner.ledger.apply(steps).await? {
                forgotten += page.len() as u64;
            }
        }
    }
}

fn next_after(key: &Bytes) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

impl Line {
    /// Of which study it is.
    pub fn study(&self) -> &Uid {
        &self.study
    }

    /// To whom it leads.
    pub fn destination(&self) -> &Arc<str> {
        &self.destination
    }

    /// Tries that failed one after the other.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// What waits in it, in its order: the first `limit` behind what was given before, where that is still waiting.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn waiting(&self, behind: Option<&Waiting>, limit: usize) -> Result<Vec<Waiting>> {
        let ledger = &self.outbox.inner.ledger;
        let all: Range<Bytes> = record::waiting_of(&self.destination, &self.study).range();
        let from = match behind {
            Some(last) => next_after(&self.key(last)),
            None => all.start,
        };
        let mut waiting = Vec::new();
        for (key, _) in ledger.range(from..all.end, limit).await? {
            let mut parts = Parts::of(&key);
            parts.text()?;
            parts.text()?;
            parts.text()?;
            parts.number()?;
            let what = What::parse(parts.text()?)?;
            let Some(recorded) = self.outbox.recorded(&self.destination, &what).await? else {
                continue;
            };
            let changes = match recorded.changes.as_str() {
                "" => None,
                hash => match ledger.get(&record::changes_key(hash)).await? {
                    Some(value) => Some(record::read_changes(&value)?),
                    None => return Err(record::damaged()),
                },
            };
            waiting.push(Waiting {
                what,
                recorded,
                changes,
            });
        }
        Ok(waiting)
    }

    fn key(&self, waiting: &Waiting) -> Bytes {
        record::waiting(
            &self.destination,
            &self.study,
            waiting.recorded.sequence,
            &waiting.what,
        )
    }

    /// Records how tries ended, in one durable step. What was replaced by another version meanwhile stays as that says.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn finish(&self, ended: Vec<(Waiting, Outcome)>) -> Result<()> {
        let (mut steps, mut done, mut dead) = (Vec::new(), 0, 0);
        for (waiting, outcome) in &ended {
            let key = record::delivery(&self.destination, &waiting.what);
            let old = waiting.recorded.value();
            if self.outbox.inner.ledger.get(&key).await?.as_ref() != Some(&old) {
                continue;
            }
            let mut new = Recorded {
                at: Timestamp::now(),
                ..waiting.recorded.clone()
            };
            match outcome {
                Outcome::Delivered(said) => {
                    new.progress = Progress::Done;
                    new.why = record::shortened(said);
                    steps.push(Step::Put(
                        record::done(new.at, &self.destination, &waiting.what),
                        Bytes::new(),
                    ));
                    done += 1;
                }
                Outcome::Refused(why) => {
                    new.progress = Progress::Dead;
                    new.attempts += 1;
                    new.why = record::shortened(why);
                    steps.push(Step::Put(
                        record::dead(&self.destination, &waiting.what),
                        Bytes::new(),
                    ));
                    dead += 1;
                }
                Outcome::Failed(why) => {
                    new.attempts += 1;
                    new.why = record::shortened(why);
                }
                Outcome::Busy(why) => new.why = record::shortened(why),
            }
            if new.progress != Progress::Waiting {
                steps.push(Step::Delete(self.key(waiting)));
            }
            steps.push(Step::Expect(key.clone(), Some(old)));
            steps.push(Step::Put(key, new.value()));
        }
        if steps.is_empty() {
            return Ok(());
        }
        if !self.outbox.inner.ledger.apply(steps).await? {
            // Another version of one of them was decided about just now: one by one, the others count.
            if ended.len() > 1 {
                for one in ended {
                    Box::pin(self.finish(vec![one])).await?;
                }
            }
            return Ok(());
        }
        self.outbox.state().count(&self.destination, -(done + dead), dead);
        Ok(())
    }

    /// Lets it go: with nothing in it, it is no more; else it waits until `retry`, or for its next turn.
    ///
    /// # Errors
    /// What the ledger says; then others may claim it as it is.
    pub async fn let_go(self, retry: Option<Timestamp>) -> Result<()> {
        let ledger = &self.outbox.inner.ledger;
        let at = record::line_of(&self.destination, &self.study);
        loop {
            let Some(old) = ledger.get(&at).await? else {
                return Ok(());
            };
            let all = record::waiting_of(&self.destination, &self.study).range();
            let empty = ledger.range(all, 1).await?.is_empty();
            let mut line = LineState::read(&old)?;
            line.failures = match retry {
                Some(_) => line.failures + 1,
                None => 0,
            };
            line.not_before = retry.unwrap_or(Timestamp(0));
            let mut steps = Vec::new();
            self.outbox.put_line(
                &mut steps,
                &self.destination,
                &self.study,
                Some(&old),
                (!empty).then_some(&line),
            )?;
            if ledger.apply(steps).await? {
                return Ok(());
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let claim = (Arc::clone(&self.destination), self.study);
        self.outbox.state().claimed.remove(&claim);
        self.outbox.told(&self.destination);
    }
}
