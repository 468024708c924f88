//! The routing thread: asks the router about what the committer has done, and enters what it decides into the outbox.
//!
//! The committer hands over what is durable and in the index, and never waits: what doesn't fit is looked for in the
//! archive instead, from where the outbox says that everything was asked about. So it is after a restart.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dicom_core::dictionary::UidDictionary;
use dicom_dictionary_std::{StandardSopClassDictionary, tags};
use futures::TryStreamExt;

use super::block_on::block_on;
use super::coerce;
use super::recovery::read_header;
use super::watched::Watched;
use crate::archive::{Archive, Entry, Sequence, Timestamp};
use crate::dataset::part10::FileMeta;
use crate::dataset::{DataSet, coercion};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::hooks::{Event, Observer, Source};
use crate::index::{InstanceRecord, Scope};
use crate::ledger::{Key, Ledger, LedgerExt, Parts, Step};
use crate::limits;
use crate::query::AttributeSet;
use crate::route::{Decided, Delivery, Occasion, Outbox, Router, Trigger, What};
use crate::uid::{AeTitle, InstanceKey, Uid};

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
    /// Everything of the archive up to here is in the index.
    low_water: AtomicU64,
}

impl Handover {
    pub(super) fn give(&self, done: Done) {
        self.shared.low_water.store(done.low_water.0, Ordering::Release);
        if done.received.is_empty() && done.changed.is_empty() {
            return;
        }
        if !self.durable {
            // The thread lives as long as this sender.
            let _ = self.batches.send(done);
            return;
        }
        if let Err(TrySendError::Full(_)) = self.batches.try_send(done) {
            self.lag();
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
    pub(super) observers: Vec<Arc<dyn Observer>>,
    /// Held while they are told: the committer tells them, too.
    pub(super) telling: Arc<Mutex<()>>,
    pub(super) outbox: Option<(Outbox, Arc<dyn Ledger>)>,
    /// How long nothing must have come to a series or a study.
    pub(super) stable_after: Duration,
}

/// A series or a study that something came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Unsettled {
    last: Timestamp,
    series: BTreeMap<Uid, Timestamp>,
}

impl Unsettled {
    fn value(&self) -> Bytes {
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

fn unstable(study: &Uid) -> Bytes {
    Key::of("unstable").text(study.as_str()).bytes()
}

fn stable(study: &Uid) -> Bytes {
    Key::of("stable").text(study.as_str()).bytes()
}

fn routed() -> Bytes {
    Key::of("routed").bytes()
}

/// The step that notes how far the archive was asked about.
fn noted(up_to: Sequence) -> Step {
    Step::Put(routed(), Bytes::copy_from_slice(&up_to.0.to_be_bytes()))
}

/// What is decided, and what is to be told of it.
#[derive(Default)]
struct Decisions {
    decided: Vec<Decided>,
    told: Vec<Event>,
    /// Studies that something came to.
    touched: BTreeMap<Uid, Unsettled>,
}

/// What is entered of an instance.
#[derive(Clone, Copy)]
struct One {
    instance: Uid,
    sequence: Sequence,
    version: u64,
}

impl One {
    fn of(record: &InstanceRecord) -> Self {
        Self {
            instance: record.key.instance,
            sequence: record.sequence,
            version: version(record),
        }
    }
}

/// Tells the versions of an instance apart: by where they are kept, which stays the same when the index is made anew,
/// and by their length, since a place may be used again.
fn version(record: &InstanceRecord) -> u64 {
    twox_hash::XxHash3_64::oneshot_with_seed(record.length, record.locator.as_bytes())
}

/// The instances of a series.
#[derive(Default)]
struct Kept {
    instances: Vec<One>,
    /// The one that came last.
    last: Option<Arc<InstanceRecord>>,
}

struct State {
    forwarder: Forwarder,
    shared: Arc<Shared>,
    /// What was in the index when the engine opened.
    opened_at: Sequence,
    /// How far the archive was asked about, as it is noted.
    asked: Sequence,
    unsettled: BTreeMap<Uid, Unsettled>,
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
            opened_at: low_water,
            asked: Sequence(0),
            unsettled: BTreeMap::new(),
        };
        (handover, move || state.run(&receiver))
    }

    fn tell(&self, event: &Event) {
        let _one_at_a_time = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        for observer in &self.observers {
            match catch_unwind(AssertUnwindSafe(|| observer.observe(event))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "an observer failed"),
                Err(_) => tracing::error!("an observer panicked"),
            }
        }
    }

    /// What the router decides of one occasion. Without an outbox nobody asks again, and an error is logged here.
    fn ask(&self, occasion: &Occasion<'_>) -> Result<Vec<Delivery>> {
        let instance = occasion.record.key.instance;
        let answer = catch_unwind(AssertUnwindSafe(|| self.router.route(occasion))).unwrap_or_else(|_| {
            tracing::error!(%instance, "the router panicked");
            Ok(Vec::new())
        });
        match answer {
            Ok(mut deliveries) => {
                let mut seen = HashSet::new();
                deliveries
                    .retain(|delivery| seen.insert((Arc::clone(&delivery.destination), delivery.tells)));
                Ok(deliveries)
            }
            Err(error) if self.outbox.is_some() && error.retry() == Retry::Later => Err(error),
            Err(error) => {
                tracing::error!(%instance, %error, "it could not be decided where an instance goes");
                Ok(Vec::new())
            }
        }
    }

    fn occasion<T>(
        &self,
        trigger: Trigger,
        record: &InstanceRecord,
        source: &Source,
        at: Timestamp,
        work: impl FnOnce(&Occasion<'_>) -> T,
    ) -> T {
        let header = || block_on(self.header(record)).map(|(_, header)| Arc::new(header));
        work(&Occasion {
            trigger,
            record,
            source,
            at,
            attributes: &self.attributes,
            header: &header,
        })
    }

    async fn header(&self, record: &InstanceRecord) -> Result<(FileMeta, DataSet)> {
        let (meta, scan) = read_header(&*self.archive, &record.locator).await?;
        let header = match &record.coerced {
            Some(coerced) => coerce::applied(scan.header, coerced),
            None => scan.header,
        };
        Ok((meta, header))
    }

    /// Asks about one instance that was stored.
    fn stored(&self, record: &Arc<InstanceRecord>, source: &Source, decisions: &mut Decisions) -> Result<()> {
        for trigger in [Trigger::InstanceStored, Trigger::ReportStored] {
            if !self.router.wants(trigger) || (trigger == Trigger::ReportStored && !self.is_report(record)?) {
                continue;
            }
            let deliveries = self.occasion(trigger, record, source, record.received, |occasion| {
                self.ask(occasion)
            })?;
            let one = [One::of(record)];
            self.decide(trigger, record, record.received, &one, deliveries, decisions);
        }
        self.touch(&record.key, record.received, decisions);
        Ok(())
    }

    fn touch(&self, key: &InstanceKey, at: Timestamp, decisions: &mut Decisions) {
        let wants = |trigger| self.router.wants(trigger);
        if wants(Trigger::SeriesStable) || wants(Trigger::StudyStable) || wants(Trigger::StudyChanged) {
            let study = decisions.touched.entry(key.study).or_default();
            study.last = study.last.max(at);
            let series = study.series.entry(key.series).or_default();
            *series = at.max(*series);
        }
    }

    /// Makes of deliveries what is entered, for the instances that they are about.
    fn decide(
        &self,
        trigger: Trigger,
        record: &Arc<InstanceRecord>,
        at: Timestamp,
        instances: &[One],
        deliveries: Vec<Delivery>,
        decisions: &mut Decisions,
    ) {
        let key = record.key;
        let about = match trigger {
            Trigger::InstanceStored | Trigger::ReportStored => key.instance,
            Trigger::SeriesStable => key.series,
            Trigger::StudyStable | Trigger::StudyChanged => key.study,
        };
        for delivery in &deliveries {
            let decided = |what, sequence, version| Decided {
                delivery: delivery.clone(),
                what,
                study: key.study,
                sequence,
                version,
            };
            if delivery.tells {
                let what = What::Occasion(trigger, about, at);
                decisions
                    .decided
                    .push(decided(what, record.sequence, version(record)));
                continue;
            }
            let each = instances.iter();
            let each = each.map(|one| decided(What::Instance(one.instance), one.sequence, one.version));
            decisions.decided.extend(each);
        }
        if !deliveries.is_empty() {
            decisions.told.push(Event::Routed {
                record: Arc::clone(record),
                deliveries,
            });
        }
    }

    /// Whether it is a report that somebody stands for: an encapsulated document, or an SR document that is complete
    /// and verified (PS3.3 C.17.2). What measures or lists instead of reporting is none.
    fn is_report(&self, record: &InstanceRecord) -> Result<bool> {
        let alias = StandardSopClassDictionary
            .by_uid(&record.sop_class)
            .map(|entry| entry.alias)
            .unwrap_or_default();
        if alias.starts_with("Encapsulated")
            && !alias.contains("STL")
            && !alias.contains("OBJ")
            && !alias.contains("MTL")
        {
            return Ok(true);
        }
        const DOCUMENTS: [&str; 5] = [
            "BasicTextSR",
            "EnhancedSR",
            "ComprehensiveSR",
            "Comprehensive3DSR",
            "ExtensibleSR",
        ];
        if !DOCUMENTS.iter().any(|document| alias.starts_with(document)) {
            return Ok(false);
        }
        match block_on(self.header(record)) {
            Ok((_, header)) => Ok(header.string(tags::COMPLETION_FLAG) == Some("COMPLETE")
                && header.string(tags::VERIFICATION_FLAG) == Some("VERIFIED")),
            Err(error) if error.retry() == Retry::Later => Err(error),
            Err(_) => Ok(false),
        }
    }
}

impl State {
    fn run(&mut self, batches: &Receiver<Done>) {
        let mut caught_up = true;
        let mut restored = false;
        // After a failure of what settles, not before this moment.
        let mut settle_from = Instant::now();
        loop {
            if !restored {
                restored = self.restore();
                caught_up &= restored;
            }
            if self.shared.lagging.swap(false, Ordering::AcqRel) || !caught_up {
                caught_up = self.noted(Self::catch_up);
            }
            let pause = settle_from.saturating_duration_since(Instant::now());
            let wait = match caught_up && restored {
                true => self.until_stable().max(pause),
                false => AGAIN,
            };
            let first = match batches.recv_timeout(wait) {
                Ok(first) => Some(first),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Some(first) = first {
                let mut gathered = first;
                while gathered.received.len() < limits::DELIVERIES_AT_ONCE_MAX {
                    // With nothing durable, a flush is nothing to wait for.
                    let wait = if self.forwarder.outbox.is_some() {
                        GATHERED
                    } else {
                        Duration::ZERO
                    };
                    let Ok(next) = batches.recv_timeout(wait) else {
                        break;
                    };
                    gathered.received.extend(next.received);
                    gathered.changed.extend(next.changed);
                    gathered.low_water = gathered.low_water.max(next.low_water);
                }
                // What is passed over here, or could not be entered, is found in the archive.
                caught_up = caught_up && restored && self.noted(|state| state.take(gathered));
            }
            if caught_up && restored && Instant::now() >= settle_from && !self.noted(Self::settle) {
                settle_from = Instant::now() + AGAIN;
            }
        }
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

    /// Reads what was not stable yet.
    fn restore(&mut self) -> bool {
        self.noted(|state| {
            let Some((_, ledger)) = &state.forwarder.outbox else {
                return Ok(());
            };
            let known: Vec<_> = block_on(ledger.below(&Key::of("unstable")).try_collect())?;
            for (key, value) in known {
                let mut parts = Parts::of(&key);
                parts.text()?;
                state
                    .unsettled
                    .insert(Uid::parse(parts.text()?)?, Unsettled::read(&value)?);
            }
            Ok(())
        })
    }

    fn take(&mut self, done: Done) -> Result<()> {
        let mut decisions = Decisions::default();
        for (record, source) in &done.received {
            self.forwarder.stored(record, source, &mut decisions)?;
        }
        let now = Timestamp::now();
        for key in &done.changed {
            self.forwarder.touch(key, now, &mut decisions);
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
            touched,
        } = decisions;
        let mut touched: Vec<(Uid, Unsettled)> = touched.into_iter().collect();
        for (study, new) in &mut touched {
            if let Some(known) = self.unsettled.get(study) {
                new.last = new.last.max(known.last);
                for (series, last) in &known.series {
                    let new = new.series.entry(*series).or_default();
                    *new = (*last).max(*new);
                }
            }
        }
        if let Some((outbox, _)) = &self.forwarder.outbox {
            further.extend(
                touched
                    .iter()
                    .map(|(study, new)| Step::Put(unstable(study), new.value())),
            );
            while decided.len() > limits::DELIVERIES_AT_ONCE_MAX {
                let rest = decided.split_off(limits::DELIVERIES_AT_ONCE_MAX);
                block_on(outbox.add(std::mem::replace(&mut decided, rest), Vec::new()))?;
            }
            block_on(outbox.add(decided, further))?;
        }
        self.unsettled.extend(touched);
        told.iter().for_each(|event| self.forwarder.tell(event));
        Ok(())
    }

    /// Asks about everything in the archive that nobody was asked about yet.
    fn catch_up(&mut self) -> Result<()> {
        let Some((_, ledger)) = &self.forwarder.outbox else {
            return Ok(());
        };
        let ledger = Arc::clone(ledger);
        // Before the scan: what the index gets after it is handed over.
        let low_water = Sequence(self.shared.low_water.load(Ordering::Acquire));
        let from = match block_on(ledger.get(&routed()))? {
            Some(value) => {
                let value = value.first_chunk().map(|value| u64::from_be_bytes(*value));
                Sequence(value.ok_or_else(|| Error::new(ErrorKind::Corrupt, "engine.route", "no sequence"))?)
            }
            // What was kept before there was a router stays where it is.
            None => {
                let from = self.first()?;
                self.enter(Decisions::default(), vec![noted(from)])?;
                from
            }
        };
        self.asked = from;
        let mut entries = self.forwarder.archive.scan(from);
        let mut decisions = Decisions::default();
        let mut earlier = HashSet::new();
        while let Some(entry) = block_on(entries.try_next())? {
            match entry {
                Entry::Stored(key, stored) => {
                    let Some(record) = block_on(self.forwarder.index.lookup(&key.instance))? else {
                        continue;
                    };
                    if record.locator != stored.locator {
                        earlier.insert(key.instance);
                        continue;
                    }
                    // An archive without order yields everything.
                    if record.sequence <= from {
                        continue;
                    }
                    let amended = record
                        .coerced
                        .as_ref()
                        .is_some_and(|coerced| coercion::amended(coerced).next().is_some());
                    if amended && !earlier.contains(&key.instance) {
                        self.forwarder.touch(&key, stored.received, &mut decisions);
                    } else {
                        let record = Arc::new(record);
                        let source = self.source(&record)?;
                        self.forwarder.stored(&record, &source, &mut decisions)?;
                    }
                }
                Entry::Removed { .. } => {}
            }
            if decisions.decided.len() >= limits::DELIVERIES_AT_ONCE_MAX {
                self.enter(std::mem::take(&mut decisions), Vec::new())?;
            }
        }
        self.enter_up_to(decisions, low_water)
    }

    /// What is kept already when the router is asked for the first time.
    fn first(&self) -> Result<Sequence> {
        let archive = &self.forwarder.archive;
        let mut from = self.opened_at;
        if !archive.capability().ordered_scan {
            let mut entries = archive.scan(Sequence(0));
            while let Some(entry) = block_on(entries.try_next())? {
                from = from.max(entry.sequence());
            }
        }
        Ok(from)
    }

    /// Who sent an instance, as its header has it. One whose header can't be read came from nobody known.
    fn source(&self, record: &InstanceRecord) -> Result<Source> {
        let meta = match block_on(read_header(&*self.forwarder.archive, &record.locator)) {
            Ok((meta, _)) => meta,
            Err(error) if error.retry() == Retry::Later => return Err(error),
            Err(_) => return Ok(Source::default()),
        };
        let title = |tag| {
            meta.elements
                .string(tag)
                .and_then(|title| AeTitle::parse(title).ok())
        };
        Ok(Source {
            calling_ae: title(tags::SENDING_APPLICATION_ENTITY_TITLE)
                .or_else(|| title(tags::SOURCE_APPLICATION_ENTITY_TITLE)),
            called_ae: title(tags::RECEIVING_APPLICATION_ENTITY_TITLE),
            address: None,
        })
    }

    /// How long until something may be stable.
    fn until_stable(&self) -> Duration {
        let moments = self
            .unsettled
            .values()
            .flat_map(|study| study.series.values().chain([&study.last]));
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
    fn settle(&mut self) -> Result<()> {
        let now = Timestamp::now();
        let after = u64::try_from(self.forwarder.stable_after.as_millis()).unwrap_or(u64::MAX);
        let is_quiet = |last: Timestamp| last.0.saturating_add(after) <= now.0;
        let due: Vec<Uid> = self
            .unsettled
            .iter()
            .filter(|(_, study)| is_quiet(study.last) || study.series.values().any(|last| is_quiet(*last)))
            .map(|(study, _)| *study)
            .collect();
        let mut failed = None;
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
        let is_stable = is_quiet(unsettled.last);
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
            let deliveries =
                forwarder.occasion(trigger, last, &source, now, |occasion| forwarder.ask(occasion))?;
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
        } else {
            further.push(Step::Put(unstable(study), unsettled.value()));
        }
        self.enter(decisions, further)?;
        match is_stable {
            true => drop(self.unsettled.remove(study)),
            false => drop(self.unsettled.insert(*study, unsettled)),
        }
        Ok(())
    }
}

/// The routing thread looks up at least this often: the clock may have been set.
const MOMENT_MAX: Duration = Duration::from_secs(10);
