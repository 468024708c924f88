//! What was delivered everywhere, and is old, is forgotten.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use pacs_core::route::{Progress, What};
use pacs_core::{Pacs, Result, Scope, Timestamp, Uid};

/// Removes the studies to which nothing came for `keep`, of which nothing is to be done, and each instance of which was
/// delivered to one of `destinations`. Answers how many instances.
///
/// All that is decided of an instance is decided together, so one that was delivered, in a study of which nothing waits,
/// was delivered everywhere.
pub(crate) async fn forget(pacs: &Pacs, destinations: &[Arc<str>], keep: Duration) -> Result<u64> {
    let keep = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
    let before = Timestamp(Timestamp::now().0.saturating_sub(keep));
    // In this order: what comes after the second is too young for the first.
    let studies = last_come(pacs).await?;
    let unfinished = pacs.outbox()?.unfinished().await?;
    let mut forgotten = 0;
    for (study, last) in studies {
        let is_old = last < before && !unfinished.contains(&study);
        if !is_old || !is_delivered(pacs, destinations, study, &unfinished).await? {
            continue;
        }
        let mut records = pacs.instances(Scope::Study(study));
        while let Some(record) = records.try_next().await? {
            // One that comes, or comes anew, meanwhile stays.
            if record.received < before && pacs.remove_version(&record).await? {
                forgotten += 1;
            }
        }
    }
    Ok(forgotten)
}

/// The studies, and when something came to each last.
async fn last_come(pacs: &Pacs) -> Result<BTreeMap<Uid, Timestamp>> {
    let mut studies = BTreeMap::new();
    let mut all = pacs.instances(Scope::All);
    while let Some(record) = all.try_next().await? {
        let last = studies.entry(record.key.study).or_insert(record.received);
        *last = record.received.max(*last);
    }
    Ok(studies)
}

/// Whether each instance of a study was delivered to somebody, as it is now.
async fn is_delivered(
    pacs: &Pacs,
    destinations: &[Arc<str>],
    study: Uid,
    unfinished: &HashSet<Uid>,
) -> Result<bool> {
    let mut records = pacs.instances(Scope::Study(study));
    while let Some(record) = records.try_next().await? {
        let what = What::Instance(record.key.instance);
        let mut is_done = false;
        for destination in destinations {
            let recorded = pacs.outbox()?.recorded(destination, &what).await?;
            // What came again is another version, which may wait for nobody, and went nowhere.
            is_done |= recorded.is_some_and(|recorded| {
                recorded.progress == Progress::Done && recorded.sequence == record.sequence
            });
        }
        if !is_done || unfinished.contains(&record.key.instance) {
            return Ok(false);
        }
    }
    Ok(true)
}
