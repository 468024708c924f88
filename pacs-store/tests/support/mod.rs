//! What the tests on a disk that fails share.
//!
//! `PACS_FAULT_RUNS` sets the number of runs, `PACS_SEED` the first seed.
#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod model;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::TryStreamExt;
use futures::executor::block_on;
use pacs_core::testkit::random::Random;
use pacs_core::{Archive, Entry, Locator, Result, Sequence};
use pacs_store::SegmentOptions;
use pacs_store::medium::Faults;

pub(crate) fn filling(random: &mut Random, length: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.bits().to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

pub(crate) fn read(archive: &dyn Archive, locator: &Locator) -> Result<Vec<u8>> {
    block_on(
        archive
            .read(locator, 0..u64::MAX)
            .try_fold(Vec::new(), |mut all, piece| {
                all.extend_from_slice(&piece);
                std::future::ready(Ok(all))
            }),
    )
}

pub(crate) fn scan(archive: &dyn Archive, after: Sequence) -> Result<Vec<Entry>> {
    block_on(archive.scan(after).try_collect())
}

/// Sizes so small that everything happens at once, and so large that it never does.
pub(crate) fn any_options(random: &mut Random) -> SegmentOptions {
    SegmentOptions {
        segment_bytes: *random.pick(&[1, 20_000, 100_000, 1 << 30]),
        inline_bytes: *random.pick(&[0, 3_000, 1 << 20]),
        piece_bytes: *random.pick(&[1, 2_000, 1 << 20]),
        lanes: 4,
        reserve_bytes: 0,
        open_files: *random.pick(&[1, 4, 100]),
        write_threads: 1,
        read_threads: 1,
    }
}

pub(crate) fn any_faults(random: &mut Random) -> Faults {
    let mut rate = |choices: &[u32]| *random.pick(choices);
    let mut faults = Faults {
        short_write: rate(&[0, 0, 300]),
        write: rate(&[0, 0, 30, 200]),
        sync: rate(&[0, 0, 30, 300]),
        read: rate(&[0, 0, 30]),
        other: rate(&[0, 0, 30, 200]),
        ..Faults::default()
    };
    if random.chance(8) {
        faults.room = Some(random.below(300_000));
    }
    if random.chance(2) {
        faults.stop_after = Some(random.below(80));
    }
    faults
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs `run` with one seed after another, on all processors; the seed of a run that panics is printed.
#[allow(clippy::print_stderr)]
pub(crate) fn runs(default: u64, run: impl Fn(u64) + Sync) {
    let first = number("PACS_SEED").unwrap_or(1);
    let runs = number("PACS_FAULT_RUNS").unwrap_or(default);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= runs {
                        return;
                    }
                    let seed = first.wrapping_add(at);
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
                        eprintln!("repeat with PACS_SEED={seed} PACS_FAULT_RUNS=1");
                        next.store(runs, Ordering::Relaxed);
                        resume_unwind(panic);
                    }
                }
            });
        }
    });
}
