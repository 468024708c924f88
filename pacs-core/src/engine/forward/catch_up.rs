//! Looks in the archive for what nobody was asked about.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::TryStreamExt;

use super::ask::Decisions;
use super::{Forwarder, State, block_on};
use crate::archive::{Entry, Sequence};
use crate::dataset::coercion;
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Key, Step};
use crate::limits;
use crate::route::ROUTED;

fn routed() -> Bytes {
    Key::of(ROUTED).bytes()
}

/// The step that notes how far the archive was asked about.
pub(super) fn noted(up_to: Sequence) -> Step {
    Step::Put(routed(), Bytes::copy_from_slice(&up_to.0.to_be_bytes()))
}

impl Forwarder {
    /// Notes what is kept already when there is a router for the first time: that stays where it is. To be done before
    /// anything is acknowledged, so that what comes then is asked about.
    pub(in crate::engine) async fn begin(&self, low_water: Sequence) -> Result<()> {
        let Some((_, ledger)) = &self.outbox else {
            return Ok(());
        };
        if ledger.get(&routed()).await?.is_some() {
            return Ok(());
        }
        let mut kept = low_water;
        if !self.archive.capability().ordered_scan {
            let mut entries = self.archive.scan(Sequence(0));
            while let Some(entry) = entries.try_next().await? {
                kept = kept.max(entry.sequence());
            }
        }
        ledger.apply(vec![noted(kept)]).await.map(drop)
    }
}

impl State {
    /// Asks about everything in the archive that nobody was asked about yet.
    pub(super) fn catch_up(&mut self) -> Result<()> {
        let Some((_, ledger)) = &self.forwarder.outbox else {
            return Ok(());
        };
        let ledger = Arc::clone(ledger);
        // Before the scan: what the index gets after it is handed over.
        let low_water = Sequence(self.shared.low_water.load(Ordering::Acquire));
        let noted = block_on(ledger.get(&routed()))?;
        let noted = noted.as_deref().and_then(|value| value.first_chunk());
        let from = noted.map(|value| Sequence(u64::from_be_bytes(*value)));
        let from = from.ok_or_else(|| {
            let why = "how far the archive was asked about is not noted";
            Error::new(ErrorKind::Corrupt, "engine.route", why)
        })?;
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
                    if record.sequence <= from || self.shared.coming().contains_key(&key.instance) {
                        continue;
                    }
                    let amended = record
                        .coerced
                        .as_ref()
                        .is_some_and(|coerced| coercion::amended(coerced).next().is_some());
                    if amended && !earlier.contains(&key.instance) {
                        self.forwarder
                            .touch(&key.study, &key.series, stored.received, &mut decisions);
                    } else {
                        self.forwarder.stored(&Arc::new(record), None, &mut decisions);
                    }
                }
                Entry::Removed { .. } => {}
            }
            if decisions.len() >= limits::DELIVERIES_AT_ONCE_MAX {
                self.enter(std::mem::take(&mut decisions), Vec::new())?;
            }
        }
        self.enter_up_to(decisions, low_water)
    }
}
