//! Asks the router, and makes of its answers what is entered.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use dicom_dictionary_std::tags;

use super::stable::Item;
use super::{Forwarder, block_on};
use crate::archive::{Sequence, Timestamp};
use crate::dataset::DataSet;
use crate::dataset::part10::FileMeta;
use crate::engine::coerce;
use crate::engine::recovery::read_header;
use crate::error::{Error, ErrorKind, Result};
use crate::hooks::{Event, Source};
use crate::index::InstanceRecord;
use crate::route::{Decided, Delivery, Occasion, Trigger, What};
use crate::uid::{AeTitle, Uid};
use crate::workflow::report;

/// What is decided, and what is to be told of it.
#[derive(Default)]
pub(super) struct Decisions {
    pub(super) decided: Vec<Decided>,
    pub(super) told: Vec<Event>,
    /// Series and studies that something came to.
    pub(super) touched: BTreeMap<Item, Timestamp>,
    /// Instances that could not be asked about.
    pub(super) unasked: Vec<Uid>,
}

impl Decisions {
    /// How much there is to be entered.
    pub(super) fn len(&self) -> usize {
        self.decided.len() + self.touched.len() + self.unasked.len()
    }
}

/// What is entered of an instance.
#[derive(Clone, Copy)]
pub(super) struct One {
    instance: Uid,
    sequence: Sequence,
    version: u64,
}

impl One {
    pub(super) fn of(record: &InstanceRecord) -> Self {
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

impl Forwarder {
    /// What the router decides of one occasion. Without an outbox nobody asks again, and an error is logged here.
    pub(super) fn ask(&self, occasion: &Occasion<'_>) -> Result<Vec<Delivery>> {
        let answer = catch_unwind(AssertUnwindSafe(|| self.router.route(occasion))).unwrap_or_else(|_| {
            let why = "the router panicked";
            Err(Error::new(ErrorKind::Internal, "engine.route", why))
        });
        match answer {
            Ok(mut deliveries) => {
                let mut seen = HashSet::new();
                deliveries
                    .retain(|delivery| seen.insert((Arc::clone(&delivery.destination), delivery.tells)));
                Ok(deliveries)
            }
            Err(error) if self.outbox.is_some() => Err(error),
            Err(error) => {
                let instance = occasion.record.map(|record| record.key.instance);
                let instance = instance.as_ref().map(tracing::field::display);
                tracing::error!(instance, %error, "it could not be decided where something goes");
                Ok(Vec::new())
            }
        }
    }

    pub(super) fn occasion<T>(
        &self,
        trigger: Trigger,
        record: &InstanceRecord,
        (source, fetched): (&Source, bool),
        at: Timestamp,
        work: impl FnOnce(&Occasion<'_>) -> T,
    ) -> T {
        // Read once, however many rules ask for it.
        let read = OnceCell::new();
        let header = || -> Result<Arc<DataSet>> {
            if let Some(header) = read.get() {
                return Ok(Arc::clone(header));
            }
            let (_, header) = block_on(self.header(record))?;
            Ok(Arc::clone(read.get_or_init(|| Arc::new(header))))
        };
        work(&Occasion {
            trigger,
            record: Some(record),
            source,
            fetched,
            at,
            attributes: &self.attributes,
            header: &header,
        })
    }

    pub(super) async fn header(&self, record: &InstanceRecord) -> Result<(FileMeta, DataSet)> {
        let (meta, scan) = read_header(&*self.archive, &record.locator).await?;
        let header = match &record.coerced {
            Some(coerced) => coerce::applied(scan.header, coerced),
            None => scan.header,
        };
        Ok((meta, header))
    }

    /// Asks about one instance that was stored; one that can't be asked about is asked about another time.
    pub(super) fn stored(
        &self,
        record: &Arc<InstanceRecord>,
        source: Option<&Source>,
        decisions: &mut Decisions,
    ) {
        if let Err(error) = self.ask_about(record, source, decisions) {
            let instance = record.key.instance;
            tracing::error!(%instance, %error, "it could not be decided where an instance goes");
            if self.outbox.is_some() {
                decisions.unasked.push(instance);
            }
        }
        self.touch(&record.key.study, &record.key.series, record.received, decisions);
    }

    /// The same. Without a `source` it is the one that its header names.
    pub(super) fn ask_about(
        &self,
        record: &Arc<InstanceRecord>,
        source: Option<&Source>,
        decisions: &mut Decisions,
    ) -> Result<()> {
        let triggers = [Trigger::InstanceStored, Trigger::ReportStored];
        let wants = |trigger| self.router.wants(trigger);
        if !triggers.into_iter().any(wants) && !self.fetched.knows(&record.key.study) {
            return Ok(());
        }
        let read;
        let source = match source {
            Some(source) => source,
            None => {
                read = self.source(record)?;
                &read
            }
        };
        let fetched = self.fetched.note(&record.key.study, source);
        if fetched && !self.router.wants_fetched() {
            return Ok(());
        }
        for trigger in triggers.into_iter().filter(|trigger| wants(*trigger)) {
            if trigger == Trigger::ReportStored && !self.is_report(record)? {
                continue;
            }
            let source = (source, fetched);
            let deliveries = self.occasion(trigger, record, source, record.received, |occasion| {
                self.ask(occasion)
            })?;
            let one = [One::of(record)];
            self.decide(trigger, record, record.received, &one, deliveries, decisions);
        }
        Ok(())
    }

    /// Who sent an instance, as its header has it.
    pub(super) fn source(&self, record: &InstanceRecord) -> Result<Source> {
        let (meta, _) = block_on(read_header(&*self.archive, &record.locator))?;
        let title = |tag| {
            let title = meta.elements.string(tag);
            title.and_then(|title| AeTitle::parse(title).ok())
        };
        Ok(Source {
            calling_ae: title(tags::SENDING_APPLICATION_ENTITY_TITLE)
                .or_else(|| title(tags::SOURCE_APPLICATION_ENTITY_TITLE)),
            called_ae: title(tags::RECEIVING_APPLICATION_ENTITY_TITLE),
            ..Source::default()
        })
    }

    pub(super) fn touch(&self, study: &Uid, series: &Uid, at: Timestamp, decisions: &mut Decisions) {
        let wants = |trigger| self.router.wants(trigger);
        let mut touch = |item| {
            let last = decisions.touched.entry(item).or_default();
            *last = at.max(*last);
        };
        if wants(Trigger::SeriesStable) {
            touch((*study, Some(*series)));
        }
        // When a study that was fetched is stable, nothing more of it is waited for.
        let wanted = wants(Trigger::StudyStable) || wants(Trigger::StudyChanged);
        if wanted || self.fetched.knows(study) {
            touch((*study, None));
        }
    }

    /// Makes of deliveries what is entered, for the instances that they are about.
    pub(super) fn decide(
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
            Trigger::StudyStable | Trigger::StudyChanged | Trigger::OrderPlaced => key.study,
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

    fn is_report(&self, record: &InstanceRecord) -> Result<bool> {
        if !report::may_be_report(&record.sop_class) {
            return Ok(false);
        }
        let (_, header) = block_on(self.header(record))?;
        Ok(report::is_final(&record.sop_class, &header))
    }
}
