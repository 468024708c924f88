//! [`Outbox`]: deliveries that are decided, until they are made; durable in a [`Ledger`].
//!
//! There is exactly one record for each destination and instance. What of one study waits for one destination is a
//! *line*: whoever delivers claims a line, delivers what waits in it in the order in which it came to the archive, and
//! lets it go. So the order within a study is kept, several studies go at once, and a study that fails keeps no other
//! one waiting.

mod enter;
mod line;
mod record;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::TryStreamExt;

use super::{Delivery, Trigger};
use crate::archive::{Sequence, Timestamp};
use crate::error::Result;
use crate::ledger::{self, Key, Ledger, LedgerExt, Parts, Step};
use crate::uid::Uid;
pub use line::{Line, Outcome, Waiting};
pub(super) use record::without_order;
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

/// Called with a destination's name; answers whether it still listens.
type Listener = Arc<dyn Fn(&str) -> bool + Send + Sync>;

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

    /// Has `listener` called with a destination's name whenever there may be something to deliver to it, for as long as
    /// it answers that it listens. It must not block.
    pub fn listen(&self, listener: Listener) {
        self.state().listeners.push(listener);
    }

    fn told(&self, destination: &str) {
        let listeners = self.state().listeners.clone();
        // Called without the lock.
        for listener in listeners {
            if !listener(destination) {
                let others = |other: &Listener| !Arc::ptr_eq(other, &listener);
                self.state().listeners.retain(others);
            }
        }
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

    /// What is recorded of all that is about this UID: of an instance, and of what happened to it, to a series or to a
    /// study. The first `limit` of each.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn recorded_of(
        &self,
        destination: &str,
        uid: &Uid,
        limit: usize,
    ) -> Result<Vec<(What, Recorded)>> {
        let mut found = Vec::new();
        let instance = What::Instance(*uid);
        let recorded = self.recorded(destination, &instance).await?;
        found.extend(recorded.map(|recorded| (instance, recorded)));
        for trigger in Trigger::ALL {
            let of = record::deliveries(destination).beginning(&format!("{trigger} {uid} "));
            for (key, value) in self.inner.ledger.range(of.range(), limit).await? {
                let mut parts = Parts::of(&key);
                parts.text()?;
                parts.text()?;
                found.push((parts.text()?.parse()?, Recorded::read(&value)?));
            }
        }
        Ok(found)
    }

    /// Of what something is to be done still: UIDs of studies of which something waits for a destination, or was refused
    /// by one, or that the router is to be asked about once they are stable; and of instances that it could not be asked
    /// about yet.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn unfinished(&self) -> Result<HashSet<Uid>> {
        let ledger = &self.inner.ledger;
        let mut unfinished = HashSet::new();
        for (kind, before) in [("line-of", 2), ("unsettled", 1), ("unasked", 1)] {
            let all = Key::of(kind);
            let mut found = ledger.below(&all);
            while let Some((key, _)) = found.try_next().await? {
                let mut parts = Parts::of(&key);
                for _ in 0..before {
                    parts.text()?;
                }
                unfinished.insert(record::uid(&mut parts)?);
            }
        }
        let all = Key::of("dead");
        let mut found = ledger.below(&all);
        while let Some((key, _)) = found.try_next().await? {
            let mut parts = Parts::of(&key);
            parts.text()?;
            let destination = parts.text()?;
            let what = record::what_of_dead(&key)?;
            if let Some(recorded) = self.recorded(destination, &what).await? {
                unfinished.insert(recorded.study);
            }
        }
        Ok(unfinished)
    }

    /// Deliveries to `destination` that were refused for good: the first `limit` of them, or of those behind `after`.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn dead(&self, destination: &str, after: Option<&What>, limit: usize) -> Result<Vec<Dead>> {
        let mut dead = Vec::new();
        let mut range = record::all_dead(destination).range();
        if let Some(after) = after {
            range.start = ledger::after(&record::dead(destination, after));
        }
        for (key, _) in self.inner.ledger.range(range, limit).await? {
            let what = record::what_of_dead(&key)?;
            if let Some(recorded) = self.recorded(destination, &what).await? {
                dead.push(Dead { what, recorded });
            }
        }
        Ok(dead)
    }

    /// Forgets everything that waits for `destination` or was refused by it: for one that is no more. Answers how many
    /// deliveries that were.
    ///
    /// # Errors
    /// What the ledger says; then some may be forgotten.
    pub async fn abandon(&self, destination: &str) -> Result<u64> {
        const AT_ONCE: usize = 256;
        let ledger = &self.inner.ledger;
        let mut abandoned = 0;
        for (all, is_dead) in [
            (record::all_waiting(destination), false),
            (record::all_dead(destination), true),
        ] {
            let mut range = all.range();
            loop {
                let page = ledger.range(range.clone(), AT_ONCE).await?;
                let Some((last, _)) = page.last() else { break };
                range.start = ledger::after(last);
                for (key, value) in &page {
                    let what = match is_dead {
                        true => record::what_of_dead(key)?,
                        false => record::what_of_waiting(key)?,
                    };
                    // One that ends meanwhile has ended.
                    let steps = vec![
                        Step::Expect(key.clone(), Some(value.clone())),
                        Step::Delete(key.clone()),
                        Step::Delete(record::delivery(destination, &what)),
                    ];
                    if ledger.apply(steps).await? {
                        abandoned += 1;
                        let (waiting, dead) = if is_dead { (0, -1) } else { (-1, 0) };
                        self.state().count(&destination.into(), waiting, dead);
                    }
                }
            }
        }
        for lines in [record::lines(destination), record::later(destination)] {
            let lines: Vec<_> = ledger.below(&lines).try_collect().await?;
            for (key, _) in lines {
                self.end_line(destination, &record::study_of_line(&key)?).await?;
            }
        }
        Ok(abandoned)
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
            for (key, value) in &page {
                let mut parts = Parts::of(key);
                parts.text()?;
                parts.number()?;
                let destination = parts.text()?;
                let what: What = parts.text()?.parse()?;
                steps.push(Step::Delete(record::delivery(destination, &what)));
                // Whatever it is: else this would try it for ever.
                steps.push(Step::Expect(key.clone(), Some(value.clone())));
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
