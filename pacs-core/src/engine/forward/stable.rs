//! Series and studies that nothing came to for a while.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;

use super::ask::{Decisions, One};
use super::{Forwarder, State, block_on, fetched};
use crate::archive::Timestamp;
use crate::error::Result;
use crate::index::Scope;
use crate::ledger::{Key, LedgerExt, Parts, Step};
use crate::limits;
use crate::route::Trigger;
use crate::uid::Uid;

/// The routing thread looks up at least this often: the clock may have been set.
const MOMENT_MAX: Duration = Duration::from_secs(10);

/// Series and studies that are asked about at once: new instances go before.
const AT_ONCE: usize = 64;

/// A series of a study, or the study itself.
pub(super) type Item = (Uid, Option<Uid>);

/// Series and studies that something came to.
#[derive(Default)]
pub(super) struct Unsettled {
    last: BTreeMap<Item, Timestamp>,
    /// The same in the order in which they get stable, a study behind its series.
    due: BTreeSet<(Timestamp, Uid, Reverse<Option<Uid>>)>,
}

impl Unsettled {
    pub(super) fn last(&self, item: &Item) -> Option<Timestamp> {
        self.last.get(item).copied()
    }

    pub(super) fn put(&mut self, item: Item, last: Timestamp) {
        self.remove(&item);
        self.last.insert(item, last);
        self.due.insert((last, item.0, Reverse(item.1)));
    }

    fn remove(&mut self, item: &Item) {
        if let Some(last) = self.last.remove(item) {
            self.due.remove(&(last, item.0, Reverse(item.1)));
        }
    }

    /// All of them, those first that something came to first.
    fn in_order(&self) -> impl Iterator<Item = (Item, Timestamp)> + '_ {
        self.due
            .iter()
            .map(|(last, study, series)| ((*study, series.0), *last))
    }

    /// What came when the clock was ahead came now.
    fn not_later_than(&mut self, now: Timestamp) {
        while let Some((last, study, series)) = self.due.last().copied()
            && last > now
        {
            self.put((study, series.0), now);
        }
    }
}

/// Where it is kept when something came to it.
pub(super) fn unsettled(item: &Item) -> Bytes {
    let series = item.1.as_ref().map_or("", Uid::as_str);
    Key::of("unsettled").text(item.0.as_str()).text(series).bytes()
}

pub(super) fn unsettled_step(item: &Item, last: Timestamp) -> Step {
    Step::Put(unsettled(item), Bytes::copy_from_slice(&last.0.to_be_bytes()))
}

fn stable(study: &Uid) -> Bytes {
    Key::of("stable").text(study.as_str()).bytes()
}

impl State {
    /// Reads what was not stable yet.
    pub(super) fn restore(&mut self) -> Result<()> {
        let Some((_, ledger)) = &self.forwarder.outbox else {
            return Ok(());
        };
        let ledger = Arc::clone(ledger);
        let all = Key::of("unsettled");
        let mut known = ledger.below(&all);
        while let Some((key, value)) = block_on(known.try_next())? {
            let mut parts = Parts::of(&key);
            parts.text()?;
            let study = Uid::parse(parts.text()?)?;
            let series = match parts.text()? {
                "" => None,
                series => Some(Uid::parse(series)?),
            };
            let last = Timestamp(Parts::of(&value).number()?);
            self.unsettled.put((study, series), last);
        }
        Ok(())
    }

    fn after(&self) -> u64 {
        u64::try_from(self.forwarder.stable_after.as_millis()).unwrap_or(u64::MAX)
    }

    /// Those that may get stable, the first of them first: a study that is being fetched isn't before it is there.
    fn may_settle(&self) -> impl Iterator<Item = (Item, Timestamp)> + '_ {
        let fetched = &self.forwarder.fetched;
        let items = self.unsettled.in_order();
        items.filter(|((study, series), _)| series.is_some() || !fetched.is_under_way(study))
    }

    /// How long until something may be stable.
    pub(super) fn until_stable(&self) -> Duration {
        match self.may_settle().next() {
            Some((_, last)) => {
                let due = last.0.saturating_add(self.after());
                Duration::from_millis(due.saturating_sub(Timestamp::now().0)).min(MOMENT_MAX)
            }
            None => MOMENT_MAX,
        }
    }

    /// Asks about the series and studies that nothing came to for a while: some of them.
    pub(super) fn settle(&mut self) -> Result<()> {
        let now = Timestamp::now();
        let after = self.after();
        self.unsettled.not_later_than(now);
        let is_quiet = |last: Timestamp| last.0.saturating_add(after) <= now.0;
        for study in self.forwarder.fetched.ended(is_quiet) {
            if self.unsettled.last(&(study, None)).is_some() {
                continue;
            }
            // Nothing came of it.
            self.enter(Decisions::default(), vec![fetched::forgotten(&study)])?;
            self.forwarder.fetched.forget(&study);
        }
        let due = self.may_settle().take_while(|(_, last)| is_quiet(*last));
        let due: Vec<_> = due.take(AT_ONCE).collect();
        let (mut decisions, mut further, mut settled) = (Decisions::default(), Vec::new(), Vec::new());
        for (item, last) in due {
            // The same when it is asked about again: so it is told once.
            let at = Timestamp(last.0.saturating_add(after));
            match self.forwarder.settled(&item, at, &mut decisions) {
                Ok(steps) => {
                    further.extend(steps);
                    settled.push(item);
                }
                Err(error) => {
                    // Tried again in its own time, it keeps no other one waiting.
                    tracing::error!(study = %item.0, %error, "what is stable could not be asked about; it is tried again");
                    self.unsettled.put(item, now);
                }
            }
            if decisions.decided.len() >= limits::DELIVERIES_AT_ONCE_MAX {
                break;
            }
        }
        if settled.is_empty() {
            return Ok(());
        }
        self.enter(decisions, further)?;
        for item in settled {
            self.unsettled.remove(&item);
            if item.1.is_none() {
                self.forwarder.fetched.forget(&item.0);
            }
        }
        Ok(())
    }
}

impl Forwarder {
    /// Asks about a series or a study that is stable; answers what is to be noted.
    fn settled(&self, (study, series): &Item, at: Timestamp, decisions: &mut Decisions) -> Result<Vec<Step>> {
        let mut steps = vec![Step::Delete(unsettled(&(*study, *series)))];
        let scope = match series {
            Some(series) => Scope::Series(*series),
            None => {
                steps.push(fetched::forgotten(study));
                Scope::Study(*study)
            }
        };
        let wants = |trigger| self.router.wants(trigger);
        let trigger = match (series, &self.outbox) {
            (Some(_), _) => Trigger::SeriesStable,
            (None, Some((_, ledger))) if block_on(ledger.get(&stable(study)))?.is_some() => {
                Trigger::StudyChanged
            }
            (None, _) => Trigger::StudyStable,
        };
        if trigger == Trigger::StudyChanged
            && block_on(self.index.instances(Scope::Study(*study)).try_next())?.is_none()
        {
            // All of it was removed: what comes again is as new as any.
            steps.push(Step::Delete(stable(study)));
            return Ok(steps);
        }
        let is_marked = trigger == Trigger::StudyStable && wants(Trigger::StudyChanged);
        if !wants(trigger) && !is_marked {
            return Ok(steps);
        }
        // Of each instance no more than what is entered: there may be very many.
        let (mut instances, mut last) = (Vec::new(), None);
        let mut found = self.index.instances(scope);
        while let Some(record) = block_on(found.try_next())? {
            if record.key.study != *study {
                continue;
            }
            instances.push(One::of(&record));
            if last
                .as_ref()
                .is_none_or(|last: &Arc<crate::index::InstanceRecord>| last.sequence < record.sequence)
            {
                last = Some(Arc::new(record));
            }
        }
        let Some(last) = last else {
            // All of it was removed.
            return Ok(steps);
        };
        if series.is_none() {
            steps.push(Step::Put(stable(study), Bytes::new()));
        }
        if !wants(trigger) {
            return Ok(steps);
        }
        let source = self.source(&last)?;
        let fetched = match series {
            Some(_) => self.fetched.brings(study, &source),
            None => self.fetched.alone(study),
        };
        if fetched && !self.router.wants_fetched() {
            return Ok(steps);
        }
        let deliveries = self.occasion(trigger, &last, (&source, fetched), at, |occasion| {
            self.ask(occasion)
        })?;
        self.decide(trigger, &last, at, &instances, deliveries, decisions);
        Ok(steps)
    }
}
