//! What packing is worth: an archive in an object store beside an object for each instance, turn by turn in one run, on the same
//! store, with as many who keep instances at the same time.
//!
//! The store is SeaweedFS with its files on the medium to measure, so that all of it is on this machine. Each who keeps waits for
//! one instance to be kept before the next, as an association does.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use pacs_core::{Archive as _, InstanceKey, Uid};
use pacs_store::{ObjectArchive, ObjectOptions};

use crate::{Turns, median, say};

#[path = "../../../pacs-store/tests/support/objects.rs"]
mod server;

/// Bytes of an instance, how many there are in a turn, and how many times the rate of an object for each is the target.
const SIZES: [(usize, usize, f64); 2] = [(10 << 10, 4_000, 10.0), (525 << 10, 400, 3.0)];
const AT_ONCE: [usize; 3] = [16, 64, 256];

pub(crate) fn measure(arguments: &Turns) -> Result<bool, Box<dyn Error>> {
    let Some(server) = server::Server::own_seaweedfs() else {
        return Ok(true);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let quick = arguments.common.quick;
    let turns = if quick { 1 } else { arguments.turns };
    let location = server.place();
    let (plain, _) = object_store::parse_url_opts(&location.url.parse()?, location.options.clone())?;
    let plain: Arc<dyn ObjectStore> = plain.into();
    let archive = ObjectArchive::open(&location, ObjectOptions::default())?;
    let mut held = true;
    let mut number = 0;
    say(&format!(
        "{:>10} {:>8} {:>14} {:>12} {:>6}",
        "", "at once", "an object each", "packed", "ratio"
    ))?;
    for (length, instances, target) in SIZES {
        let instances = if quick { 64 } else { instances };
        let bytes = Bytes::from(
            (0..length as u64)
                .map(|n| crate::scatter(n) as u8)
                .collect::<Vec<u8>>(),
        );
        for at_once in AT_ONCE {
            let mut times: [Vec<Duration>; 2] = Default::default();
            for turn in 0..turns {
                for at in if turn % 2 == 0 { [0, 1] } else { [1, 0] } {
                    let (first, bytes) = (number, &bytes);
                    number += instances;
                    let begin = Instant::now();
                    runtime.block_on(try_join_all((0..at_once).map(|one| {
                        let (plain, archive) = (&plain, &archive);
                        async move {
                            for n in (one..instances).step_by(at_once).map(|n| n + first) {
                                match at {
                                    0 => keep_plain(&**plain, n, bytes.clone()).await?,
                                    _ => keep(archive, n, bytes.clone()).await?,
                                }
                            }
                            Ok::<_, Box<dyn Error>>(())
                        }
                    })))?;
                    times[at].push(begin.elapsed());
                }
            }
            let [plain, packed] = &times;
            let ratios = plain.iter().zip(packed);
            let ratio = median(ratios.map(|(plain, packed)| plain.as_secs_f64() / packed.as_secs_f64()));
            let rate =
                |times: &[Duration]| instances as f64 / median(times.iter().map(Duration::as_secs_f64));
            let missed = !quick && ratio < target;
            held &= !missed;
            say(&format!(
                "{:>6} KiB {at_once:>8} {:>12.0}/s {:>10.0}/s {ratio:>6.2}{}",
                length >> 10,
                rate(plain),
                rate(packed),
                if missed { "  missed" } else { "" }
            ))?;
        }
    }
    Ok(held)
}

async fn keep_plain(store: &dyn ObjectStore, number: usize, bytes: Bytes) -> Result<(), Box<dyn Error>> {
    let path = Path::from(format!("plain/{:03}/{number}", number % 1000));
    store.put(&path, bytes.into()).await?;
    Ok(())
}

async fn keep(archive: &ObjectArchive, number: usize, bytes: Bytes) -> Result<(), Box<dyn Error>> {
    let uid = Uid::parse(&format!("1.2.3.{number}"))?;
    let key = InstanceKey {
        study: uid,
        series: uid,
        instance: uid,
    };
    let mut writer = archive.begin().await?;
    writer.write(bytes).await?;
    writer.commit(key).await?;
    Ok(())
}
