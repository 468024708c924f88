//! Fills a data directory.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use dicom_dictionary_std::uids;
use futures::future::{BoxFuture, try_join_all};
use futures::stream;
use futures::{FutureExt as _, StreamExt as _};
use pacs_core::hooks::Source;
use pacs_core::{Announced, Error, ErrorKind, Options, Pacs, Result, Uid};
use pacs_net::scu::{Outgoing, Pieces, Remote, Sending, Supply};
use pacs_store::embedded::{Database, Settings, Store};

use crate::made::{self, Instance};

const SYNTAX: Uid = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);
/// Instances on their way in at once: they share one sync.
const AT_ONCE: usize = 1024;
const INDEX_CACHE_MEBIBYTES: u32 = 1024;

/// So many are a part of a filling whose rate is looked at.
const PART: u64 = 1_000_000;

/// What a filling did.
pub(crate) struct Filled {
    /// Instances that were not there.
    pub(crate) lacked: u64,
    /// Instances that are there now, with those that came otherwise.
    pub(crate) holds: u64,
    /// Instances a second of the first and of the last million, where there are two.
    pub(crate) first_and_last: Option<(f64, f64)>,
}

/// Fills the directory of a stopped server up to instance number `size`, through the engine.
pub(crate) async fn up_to(data: &Path, size: u64, database: Option<Database>) -> Result<Filled> {
    let settings = Settings {
        data: data.to_owned(),
        index_cache_mebibytes: INDEX_CACHE_MEBIBYTES,
        database,
        ..Settings::default()
    };
    let options = Options {
        receipts_max: AT_ONCE,
        ..Options::default()
    };
    // It blocks.
    let opened = tokio::task::spawn_blocking(move || Store::open(&settings, options)).await;
    let store =
        opened.map_err(|_| Error::new(ErrorKind::Internal, "scale.fill", "the opening panicked"))??;
    let pacs = store.pacs.clone();
    let first = first_missing(&pacs, size).await?;
    let next = Arc::new(AtomicU64::new(first));
    // When which number had its turn.
    let turns = Arc::new(Mutex::new(vec![(first, Instant::now())]));
    let workers = (0..AT_ONCE).map(|_| {
        let (pacs, next, turns) = (pacs.clone(), Arc::clone(&next), Arc::clone(&turns));
        async move {
            let task = tokio::spawn(async move {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at == size || at % PART == 0 && at > first {
                        let mut turns = turns.lock().unwrap_or_else(PoisonError::into_inner);
                        turns.push((at, Instant::now()));
                    }
                    if at >= size {
                        return Ok(());
                    }
                    keep(&pacs, made::instance(at)?).await?;
                }
            });
            task.await
                .map_err(|_| Error::new(ErrorKind::Internal, "scale.fill", "a worker panicked"))?
        }
    });
    try_join_all(workers).await?;
    let holds = pacs.totals().await?.instances;
    pacs.close()?;
    let turns = turns.lock().unwrap_or_else(PoisonError::into_inner);
    let rates = turns.windows(2).filter_map(|pair| {
        let [(from, begin), (to, end)] = pair else {
            return None;
        };
        // The first and the last may be a part of a million; a small part says nothing.
        let count = to.checked_sub(*from).filter(|count| *count >= PART * 9 / 10)?;
        Some(count as f64 / end.duration_since(*begin).as_secs_f64())
    });
    let rates: Vec<f64> = rates.collect();
    let first_and_last = match rates.as_slice() {
        [first, .., last] => Some((*first, *last)),
        _ => None,
    };
    Ok(Filled {
        lacked: size - first,
        holds,
        first_and_last,
    })
}

/// The instances are filled in by ascending number, so that a search by halves finds the end.
async fn first_missing(pacs: &Pacs, size: u64) -> Result<u64> {
    let (mut low, mut high) = (0, size);
    while low < high {
        let middle = low + (high - low) / 2;
        match pacs.lookup(&made::instance(middle)?.sop_instance).await? {
            Some(_) => low = middle + 1,
            None => high = middle,
        }
    }
    // What was under way at once may lack anywhere among the last.
    Ok(low.saturating_sub(2 * AT_ONCE as u64))
}

async fn keep(pacs: &Pacs, instance: Instance) -> Result<()> {
    let announced = Announced {
        sop_class: instance.sop_class,
        sop_instance: instance.sop_instance,
        transfer_syntax: SYNTAX,
        source: Source::default(),
    };
    let mut receipt = pacs.receive(announced).await?;
    receipt.write(instance.data_set).await?;
    receipt.commit().await.map(drop)
}

/// Sends instances from number `from` on over four associations, and stops in their middle after `count`
/// acknowledgements; answers which were acknowledged.
pub(crate) async fn over_the_wire(remote: &Remote, from: u64, count: u64) -> Result<Vec<Uid>> {
    let mut sending = Sending::to(remote.clone());
    sending.associations = 4;
    sending.window = 8;
    let kinds: BTreeSet<(Uid, Uid)> = made::sop_classes().map(|class| (class, SYNTAX)).collect();
    let items = stream::iter(from..).map(made::instance);
    let items = items.filter_map(|made| async move { made.ok() });
    let mut sent = sending.send(&kinds, Arc::new(Made), items);
    let mut acknowledged = Vec::new();
    while (acknowledged.len() as u64) < count {
        let Some((instance, sent)) = sent.next().await else {
            break;
        };
        let (status, _) = sent?;
        if !status.is_done() {
            let why = format!("an instance is answered {status}");
            return Err(Error::new(ErrorKind::Refused, "scale.send", why));
        }
        acknowledged.push(instance.sop_instance);
    }
    Ok(acknowledged)
}

/// Hands out made instances.
struct Made;

impl Supply<Instance> for Made {
    fn outgoing(&self, instance: &Instance) -> Outgoing {
        Outgoing {
            sop_class: instance.sop_class,
            sop_instance: instance.sop_instance,
            transfer_syntax: SYNTAX,
        }
    }

    fn open<'a>(&'a self, instance: &'a Instance) -> BoxFuture<'a, Result<Pieces>> {
        let data_set: Bytes = instance.data_set.clone();
        async move { Ok(stream::iter([Ok(data_set)]).boxed()) }.boxed()
    }
}
