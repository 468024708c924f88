//! What runs beside the server for the sake of what is kept: it is read through, and how far its second copies are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pacs_core::Timestamp;
use pacs_core::engine::{Verified, VerifyOptions};
use pacs_net::web::http::metrics::{Metrics, OwnNumber};
use pacs_store::embedded::Store;

use crate::config::{Config, ScrubConfig};

/// How often it is asked how far the second copies are.
const ASKED_EACH: Duration = Duration::from_secs(5);
/// Instances between two notes of how far a pass is.
const NOTED_EACH: u64 = 1000;
/// The longest sleep, after which the clock is looked at again.
const SLEEP_MAX: Duration = Duration::from_secs(3600);
/// The pause after a pass that failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What is shown of it.
pub(crate) struct Numbers {
    replica: Option<[OwnNumber; 4]>,
    scrub: Option<[OwnNumber; 3]>,
    pub(crate) backup: Option<[OwnNumber; 2]>,
}

/// Metrics with those of this module that the settings make sense of.
pub(crate) fn metrics(config: &Config) -> (Metrics, Numbers) {
    const REPLICA: [(&str, &str); 4] = [
        (
            "replica_present",
            "1 where the replica took what it was given last",
        ),
        (
            "replica_lag_entries",
            "Commits and removals that the replica lacks",
        ),
        (
            "replica_lag_seconds",
            "Age of the oldest instance that the replica lacks",
        ),
        (
            "replica_unreadable",
            "Instances that could not be copied since the start",
        ),
    ];
    const SCRUB: [(&str, &str); 3] = [
        ("scrub_instances", "Instances that the running pass has looked at"),
        (
            "scrub_damaged",
            "What the last pass that ended found damaged and could not repair",
        ),
        (
            "scrub_repaired",
            "Instances that the last pass that ended kept anew",
        ),
    ];
    const BACKUP: [(&str, &str); 2] = [
        (
            "backup_last_seconds",
            "When the last increment of the backup was begun since the start, in seconds since 1970",
        ),
        (
            "backup_unreadable",
            "Instances that can't be read and are not in the backup",
        ),
    ];
    let mut wanted = Vec::new();
    if config.replica.is_some() {
        wanted.extend(REPLICA);
    }
    if config.scrub.is_some() {
        wanted.extend(SCRUB);
    }
    if config.backup.is_some() {
        wanted.extend(BACKUP);
    }
    let (metrics, numbers) = Metrics::with_own(wanted);
    let mut numbers = numbers.into_iter();
    let numbers = Numbers {
        replica: config.replica.as_ref().and_then(|_| next(&mut numbers)),
        scrub: config.scrub.as_ref().and_then(|_| next(&mut numbers)),
        backup: config.backup.as_ref().and_then(|_| next(&mut numbers)),
    };
    (metrics, numbers)
}

fn next<const N: usize>(numbers: &mut impl Iterator<Item = OwnNumber>) -> Option<[OwnNumber; N]> {
    numbers.take(N).collect::<Vec<_>>().try_into().ok()
}

/// Until it is dropped.
pub(crate) async fn run(config: &Config, store: &Store, numbers: &Numbers) {
    tokio::join!(watch_replica(store, numbers), async {
        if let Some(scrub) = &config.scrub {
            scrub_for_ever(scrub, &config.data, store, numbers).await;
        }
    });
}

async fn watch_replica(store: &Store, numbers: &Numbers) {
    let (Some(replica), Some([present, entries, seconds, unreadable])) = (&store.replica, &numbers.replica)
    else {
        return;
    };
    loop {
        copy_ledger(store);
        match replica.lag().await {
            Ok(lag) => {
                let since = lag
                    .since
                    .map_or(0, |since| Timestamp::now().0.saturating_sub(since.0));
                present.set(lag.is_present.into());
                entries.set(lag.entries);
                seconds.set(since / 1000);
                unreadable.set(lag.unreadable);
            }
            Err(error) => tracing::warn!(%error, "it is not known how far the replica is"),
        }
        tokio::time::sleep(ASKED_EACH).await;
    }
}

/// Copies the ledger into the replica.
pub(crate) fn copy_ledger(store: &Store) {
    if let Err(error) = store.copy_ledger() {
        tracing::warn!(%error, "worklists, steps and deliveries are not copied into the replica");
    }
}

async fn scrub_for_ever(config: &ScrubConfig, data: &Path, store: &Store, numbers: &Numbers) {
    let note = Note(data.join("scrub"));
    if let (
        Pass::Ended {
            damaged, repaired, ..
        },
        Some([_, damaged_number, repaired_number]),
    ) = (note.read(), &numbers.scrub)
    {
        damaged_number.set(damaged);
        repaired_number.set(repaired);
    }
    loop {
        let now = Timestamp::now().0;
        let due = match note.read() {
            Pass::Ended { at: ended, .. } => {
                let pause = u64::try_from((DAY * config.pause_days).as_millis()).unwrap_or(u64::MAX);
                ended.saturating_add(pause).saturating_sub(now)
            }
            Pass::Begun(_) => 0,
        };
        if due > 0 {
            tokio::time::sleep(Duration::from_millis(due).min(SLEEP_MAX)).await;
            continue;
        }
        if let Err(error) = pass(config, store, &note, numbers).await {
            tracing::error!(%error, "a pass through what is kept failed; it is begun again");
            tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
        }
    }
}

async fn pass(config: &ScrubConfig, store: &Store, note: &Note, numbers: &Numbers) -> pacs_core::Result<()> {
    let mut options = VerifyOptions::default();
    options.repair = true;
    options.bytes_per_second = std::num::NonZeroU64::from(config.mebibytes_per_second).checked_mul(MEBIBYTE);
    options.skip = match note.read() {
        Pass::Begun(done) => done,
        Pass::Ended { .. } => 0,
    };
    tracing::info!(after = options.skip, "a pass through what is kept begins");
    let verified = store
        .pacs
        .verify_with(options, |done| {
            if done.is_multiple_of(NOTED_EACH) && done > options.skip {
                note.write(Pass::Begun(done));
            }
            if let Some([instances, ..]) = &numbers.scrub {
                instances.set(done);
            }
        })
        .await?;
    let (whole, repaired, damaged) = (verified.whole, verified.repaired, damaged_count(&verified));
    note.write(Pass::Ended {
        at: Timestamp::now().0,
        damaged,
        repaired,
    });
    if let Some([_, damaged_number, repaired_number]) = &numbers.scrub {
        damaged_number.set(damaged);
        repaired_number.set(repaired);
    }
    match damaged {
        0 => tracing::info!(whole, repaired, "a pass through what is kept ended"),
        _ => tracing::error!(
            whole,
            repaired,
            damaged,
            "a pass through what is kept ended: some of it is damaged"
        ),
    }
    Ok(())
}

pub(crate) fn damaged_count(verified: &Verified) -> u64 {
    verified.damaged.len() as u64 + verified.damaged_beyond
}

const MEBIBYTE: std::num::NonZeroU64 = std::num::NonZeroU64::new(1 << 20).expect("is not 0");

/// How far a pass is, or when the last one ended (milliseconds since 1970), and what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Begun(u64),
    Ended { at: u64, damaged: u64, repaired: u64 },
}

/// Where that is noted. Without it, a pass begins from the start.
struct Note(PathBuf);

impl Note {
    fn read(&self) -> Pass {
        let text = fs::read_to_string(&self.0).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(%error, "it is not known how far the last pass was");
            }
            String::new()
        });
        let mut words = text.split_whitespace();
        let what = words.next();
        let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        match (what, &numbers[..]) {
            (Some("ended"), &[at, damaged, repaired]) => Pass::Ended {
                at,
                damaged,
                repaired,
            },
            (Some("done"), &[count]) => Pass::Begun(count),
            _ => Pass::Begun(0),
        }
    }

    fn write(&self, pass: Pass) {
        let text = match pass {
            Pass::Begun(count) => format!("done {count}\n"),
            Pass::Ended {
                at,
                damaged,
                repaired,
            } => format!("ended {at} {damaged} {repaired}\n"),
        };
        // Not synced: lost, a pass does some of its work again.
        if let Err(error) = fs::write(&self.0, text) {
            tracing::warn!(%error, "it can't be noted how far a pass is");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_of_a_pass_is_read_back_and_nothing_is_taken_for_it_that_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let note = Note(directory.path().join("scrub"));
        assert_eq!(note.read(), Pass::Begun(0));
        let ended = Pass::Ended {
            at: 1_700_000_000_000,
            damaged: 2,
            repaired: 3,
        };
        for pass in [Pass::Begun(7), ended] {
            note.write(pass);
            assert_eq!(note.read(), pass);
        }
        fs::write(&note.0, "ended soon").unwrap();
        assert_eq!(note.read(), Pass::Begun(0));
    }
}
