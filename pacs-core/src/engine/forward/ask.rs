//! Asks the router, and makes of its answers what is entered.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::stable::Unsettled;
use super::{Forwarder, block_on};
use crate::archive::{Sequence, Timestamp};
use crate::dataset::DataSet;
use crate::dataset::part10::FileMeta;
use crate::engine::coerce;
use crate::engine::recovery::read_header;
use crate::error::{Result, Retry};
use crate::hooks::{Event, Source};
use crate::index::InstanceRecord;
use crate::route::{Decided, Delivery, Occasion, Trigger, What};
use crate::uid::{InstanceKey, Uid};
use crate::workflow::report;

/// What is decided, and what is to be told of it.
#[derive(Default)]
pub(super) struct Decisions {
    pub(super) decided: Vec<Decided>,
    pub(super) told: Vec<Event>,
    /// Studies that something came to.
    pub(super) touched: BTreeMap<Uid, Unsettled>,
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
        let instance = occasion.record.map(|record| record.key.instance);
        let instance = instance.as_ref().map(tracing::field::display);
        let answer = catch_unwind(AssertUnwindSafe(|| self.router.route(occasion))).unwrap_or_else(|_| {
            tracing::error!(instance, "the router panicked");
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
        let header = || block_on(self.header(record)).map(|(_, header)| Arc::new(header));
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

    /// Asks about one instance that was stored.
    pub(super) fn stored(
        &self,
        record: &Arc<InstanceRecord>,
        source: &Source,
        decisions: &mut Decisions,
    ) -> Result<()> {
        let fetched = self.fetched.note(&record.key.study, source);
        let asked = !fetched || self.router.wants_fetched();
        for trigger in [Trigger::InstanceStored, Trigger::ReportStored] {
            if !asked
                || !self.router.wants(trigger)
                || (trigger == Trigger::ReportStored && !self.is_report(record)?)
            {
                continue;
            }
            let source = (source, fetched);
            let deliveries = self.occasion(trigger, record, source, record.received, |occasion| {
                self.ask(occasion)
            })?;
            let one = [One::of(record)];
            self.decide(trigger, record, record.received, &one, deliveries, decisions);
        }
        self.touch(&record.key, record.received, decisions);
        Ok(())
    }

    pub(super) fn touch(&self, key: &InstanceKey, at: Timestamp, decisions: &mut Decisions) {
        let wants = |trigger| self.router.wants(trigger);
        let triggers = [Trigger::SeriesStable, Trigger::StudyStable, Trigger::StudyChanged];
        // When a study that was fetched is stable, nothing more of it is waited for.
        if triggers.into_iter().any(wants) || self.fetched.knows(&key.study) {
            let study = decisions.touched.entry(key.study).or_default();
            study.last = study.last.max(at);
            let series = study.series.entry(key.series).or_default();
            *series = at.max(*series);
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
        match block_on(self.header(record)) {
            Ok((_, header)) => Ok(report::is_final(&record.sop_class, &header)),
            Err(error) if error.retry() == Retry::Later => Err(error),
            Err(_) => Ok(false),
        }
    }
}
