//! Series and studies that nothing came to for a while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;

use super::ask::{Decisions, One};
use super::{State, block_on, fetched};
use crate::archive::Timestamp;
use crate::error::Result;
use crate::index::{InstanceRecord, Scope};
use crate::ledger::{Key, LedgerExt, Parts, Step};
use crate::route::Trigger;
use crate::uid::Uid;

/// The routing thread looks up at least this often: the clock may have been set.
const MOMENT_MAX: Duration = Duration::from_secs(10);

/// A series or a study that something came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unsettled {
    pub(super) last: Timestamp,
    pub(super) series: BTreeMap<Uid, Timestamp>,
}

impl Unsettled {
    pub(super) fn value(&self) -> Bytes {
        let mut value = Key::of("1").number(self.last.0);
        for (series, last) in &self.series {
            value = value.number(last.0).text(series.as_str());
        }
        value.bytes()
    }

    fn read(value: &[u8]) -> Result<Self> {
        let mut parts = Parts::of(value);
        parts.text()?;
        let mut read = Self {
            last: Timestamp(parts.number()?),
            ..Self::default()
        };
        while !parts.is_empty() {
            let last = Timestamp(parts.number()?);
            read.series.insert(Uid::parse(parts.text()?)?, last);
        }
        Ok(read)
    }
}

pub(super) fn unstable(study: &Uid) -> Bytes {
    Key::of("unstable").text(study.as_str()).bytes()
}

fn stable(study: &Uid) -> Bytes {
    Key::of("stable").text(study.as_str()).bytes()
}

/// The instances of a series.
#[derive(Default)]
struct Kept {
    instances: Vec<One>,
    /// The one that came last.
    last: Option<Arc<InstanceRecord>>,
}

impl State {
    /// Reads what was not stable yet.
    pub(super) fn restore(&mut self) -> Result<()> {
        let Some((_, ledger)) = &self.forwarder.outbox else {
            return Ok(());
        };
        let known: Vec<_> = block_on(ledger.below(&Key::of("unstable")).try_collect())?;
        for (key, value) in known {
            let mut parts = Parts::of(&key);
            parts.text()?;
            let (study, known) = (Uid::parse(parts.text()?)?, Unsettled::read(&value)?);
            self.unsettled.insert(study, known);
        }
        Ok(())
    }

    /// How long until something may be stable.
    pub(super) fn until_stable(&self) -> Duration {
        let fetched = &self.forwarder.fetched;
        let moments = self.unsettled.iter().flat_map(|(study, unsettled)| {
            // One that is being fetched isn't stable before it is there.
            let last = Some(&unsettled.last).filter(|_| !fetched.is_under_way(study));
            unsettled.series.values().chain(last)
        });
        match moments.min() {
            Some(first) => {
                let after = u64::try_from(self.forwarder.stable_after.as_millis()).unwrap_or(u64::MAX);
                let due = first.0.saturating_add(after);
                Duration::from_millis(due.saturating_sub(Timestamp::now().0)).min(MOMENT_MAX)
            }
            None => MOMENT_MAX,
        }
    }

    /// Asks about the series and studies that nothing came to for a while.
    pub(super) fn settle(&mut self) -> Result<()> {
        let now = Timestamp::now();
        let after = u64::try_from(self.forwarder.stable_after.as_millis()).unwrap_or(u64::MAX);
        let is_quiet = |last: Timestamp| last.0.saturating_add(after) <= now.0;
        let due: Vec<Uid> = self
            .unsettled
            .iter()
            .filter(|(study, unsettled)| {
                let under_way = self.forwarder.fetched.is_under_way(study);
                let mut series = unsettled.series.values();
                (is_quiet(unsettled.last) && !under_way) || series.any(|last| is_quiet(*last))
            })
            .map(|(study, _)| *study)
            .collect();
        let mut failed = None;
        for study in self.forwarder.fetched.ended(is_quiet) {
            if self.unsettled.contains_key(&study) {
                continue;
            }
            // Nothing came of it.
            self.enter(Decisions::default(), vec![fetched::forgotten(&study)])?;
            self.forwarder.fetched.forget(&study);
        }
        for study in due {
            // One that fails keeps no other one waiting.
            if let Err(error) = self.settle_study(&study, after, is_quiet) {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn settle_study(&mut self, study: &Uid, after: u64, is_quiet: impl Fn(Timestamp) -> bool) -> Result<()> {
        let Some(mut unsettled) = self.unsettled.get(study).cloned() else {
            return Ok(());
        };
        // The same when it is asked again: so it is told once.
        let now = Timestamp(unsettled.last.0.saturating_add(after));
        let mut quiet = Vec::new();
        unsettled.series.retain(|series, last| {
            let settles = is_quiet(*last);
            if settles {
                quiet.push(*series);
            }
            !settles
        });
        let is_stable = is_quiet(unsettled.last) && !self.forwarder.fetched.is_under_way(study);
        let forwarder = &self.forwarder;
        // Of each instance no more than what is entered: there may be very many.
        let mut kept: BTreeMap<Uid, Kept> = BTreeMap::new();
        let mut found = forwarder.index.instances(Scope::Study(*study));
        while let Some(record) = block_on(found.try_next())? {
            let series = kept.entry(record.key.series).or_default();
            series.instances.push(One::of(&record));
            if series
                .last
                .as_ref()
                .is_none_or(|last| last.sequence < record.sequence)
            {
                series.last = Some(Arc::new(record));
            }
        }
        let mut decisions = Decisions::default();
        let mut ask = |trigger, of: &[&Kept]| -> Result<()> {
            let last = of.iter().filter_map(|kept| kept.last.as_ref());
            let Some(last) = last.max_by_key(|record| record.sequence) else {
                return Ok(());
            };
            if !self.forwarder.router.wants(trigger) {
                return Ok(());
            }
            let of: Vec<_> = of
                .iter()
                .flat_map(|kept| kept.instances.iter().copied())
                .collect();
            let source = self.source(last)?;
            let fetched = match trigger {
                Trigger::SeriesStable => forwarder.fetched.brings(study, &source),
                _ => forwarder.fetched.alone(study),
            };
            if fetched && !forwarder.router.wants_fetched() {
                return Ok(());
            }
            let source = (&source, fetched);
            let deliveries =
                forwarder.occasion(trigger, last, source, now, |occasion| forwarder.ask(occasion))?;
            forwarder.decide(trigger, last, now, &of, deliveries, &mut decisions);
            Ok(())
        };
        for series in quiet.iter().filter_map(|series| kept.get(series)) {
            ask(Trigger::SeriesStable, &[series])?;
        }
        let mut further = Vec::new();
        if is_stable {
            let known = match &forwarder.outbox {
                Some((_, ledger)) => block_on(ledger.get(&stable(study)))?.is_some(),
                None => false,
            };
            let trigger = if known {
                Trigger::StudyChanged
            } else {
                Trigger::StudyStable
            };
            ask(trigger, &kept.values().collect::<Vec<_>>())?;
            if !kept.is_empty() {
                further.push(Step::Put(stable(study), Bytes::new()));
            }
            further.push(Step::Delete(unstable(study)));
            further.push(fetched::forgotten(study));
        } else {
            further.push(Step::Put(unstable(study), unsettled.value()));
        }
        self.enter(decisions, further)?;
        match is_stable {
            true => {
                self.unsettled.remove(study);
                self.forwarder.fetched.forget(study);
            }
            false => drop(self.unsettled.insert(*study, unsettled)),
        }
        Ok(())
    }
}
