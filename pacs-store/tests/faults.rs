//! The segment archive on a disk that fails, against a simple model: what was acknowledged is never
//! lost, what is found is always whole.
//!
//! `PACS_FAULT_RUNS` sets the number of runs, `PACS_SEED` the first seed.

mod support;

use std::path::Path;
use std::sync::Arc;

use futures::executor::block_on;
use futures::future::join_all;
use pacs_core::testkit::archive::{begin, key};
use pacs_core::testkit::random::Random;
use pacs_core::{Archive, Entry, ErrorKind, Result, Sequence, Stored};
use pacs_store::medium::{Faults, FaultyMedium, Loss, Medium};
use pacs_store::{SegmentArchive, SegmentOptions};
use support::model::{Run, Subject};
use support::{any_options, filling, read, runs, scan};

/// A segment archive on one disk.
struct OneDisk {
    medium: FaultyMedium,
    options: SegmentOptions,
}

impl Subject for OneDisk {
    type Opened = SegmentArchive;

    fn new(random: &mut Random) -> Self {
        let options = any_options(random);
        Self {
            medium: FaultyMedium::new(random.bits()),
            options,
        }
    }

    fn open(&self) -> Result<SegmentArchive> {
        let archive = SegmentArchive::open_on(Arc::new(self.medium.clone()), self.options)?;
        // Whatever the medium does, what a death leaves is not taken for what somebody did.
        assert_eq!(archive.statistics().damaged_segments, 0);
        Ok(archive)
    }

    fn media(&mut self) -> Vec<&mut FaultyMedium> {
        vec![&mut self.medium]
    }

    fn compact(&self, archive: &SegmentArchive) {
        drop(block_on(archive.compact()));
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_found_is_half_whatever_the_medium_does() {
    runs(300, |seed| Run::<OneDisk>::new(seed).run());
}

/// What an index that stops where a scan ended will not look at again must not change behind it.
#[test]
fn a_refused_commit_that_could_not_be_noted_is_not_passed_by_one_that_succeeds() {
    let options = SegmentOptions {
        inline_bytes: 0,
        reserve_bytes: 0,
        ..SegmentOptions::default()
    };
    let mut refused = 0;
    for seed in 0..600 {
        let medium = FaultyMedium::new(seed);
        let archive = SegmentArchive::open_on(Arc::new(medium.clone()), options).expect("opens");
        let bytes = filling(&mut Random::new(seed), 100);
        let begun: Vec<_> = (0..16)
            .map(|_| block_on(begin(&archive, &bytes, 500)).expect("begins"))
            .collect();
        medium.set_faults(Faults {
            sync: 600,
            ..Faults::default()
        });
        let commits = begun
            .into_iter()
            .zip(1..)
            .map(|(writer, n)| writer.commit(key(n)));
        let results = block_on(join_all(commits));
        refused += usize::from(results.iter().any(Result::is_err));
        let known = scan(&archive, Sequence(0)).expect("is scanned");
        let acknowledged = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(known.len(), acknowledged, "seed {seed}");
        let low_water = known.last().map_or(Sequence(0), Entry::sequence);
        let medium = medium.crash(Loss::Machine);
        drop(archive);
        let archive = SegmentArchive::open_on(Arc::new(medium), options).expect("opens");
        let all = scan(&archive, Sequence(0)).expect("is scanned");
        let later = scan(&archive, low_water).expect("is scanned");
        assert!(all.into_iter().eq(known.into_iter().chain(later)), "seed {seed}");
    }
    assert!(refused > 100);
}

#[test]
fn a_removal_is_not_forgotten_by_an_opening_that_could_not_read_what_it_removed() {
    let options = SegmentOptions {
        reserve_bytes: 0,
        ..SegmentOptions::default()
    };
    for seed in 0..40 {
        let medium = FaultyMedium::new(seed);
        let archive = SegmentArchive::open_on(Arc::new(medium.clone()), options).expect("opens");
        let bytes = filling(&mut Random::new(seed), 2_000);
        let stored = block_on(async { begin(&archive, &bytes, 500).await?.commit(key(1)).await });
        let locator = stored.expect("is kept").locator;
        block_on(archive.remove(&key(1).instance, &locator)).expect("is removed");
        // The mark in the record is not durable yet; the removal is.
        let medium = medium.crash(Loss::Machine);
        drop(archive);
        medium.set_faults(Faults {
            read: 100,
            ..Faults::default()
        });
        if let Ok(archive) = SegmentArchive::open_on(Arc::new(medium.clone()), options) {
            // An index knows of the removal: nobody looks at it again.
            let _ = block_on(archive.indexed(Sequence(u64::MAX)));
        }
        medium.set_faults(Faults::default());
        let archive = SegmentArchive::open_on(Arc::new(medium), options).expect("opens");
        let stored = |entry: &Entry| matches!(entry, Entry::Stored(..));
        let entries = scan(&archive, Sequence(0)).expect("is scanned");
        assert!(!entries.iter().any(stored), "seed {seed}");
    }
}

#[test]
fn a_segment_that_compaction_could_not_take_away_does_not_bring_back_what_was_removed() {
    let options = SegmentOptions {
        segment_bytes: 1,
        reserve_bytes: 0,
        ..SegmentOptions::default()
    };
    for seed in 0..20 {
        let medium = FaultyMedium::new(seed);
        let archive = SegmentArchive::open_on(Arc::new(medium.clone()), options).expect("opens");
        let bytes = filling(&mut Random::new(seed), 2_000);
        let stored = block_on(async { begin(&archive, &bytes, 500).await?.commit(key(1)).await });
        let stored = stored.expect("is kept");
        block_on(archive.indexed(stored.sequence)).expect("takes the hint");
        block_on(archive.remove(&key(1).instance, &stored.locator)).expect("is removed");
        medium.set_faults(Faults {
            other: 1000,
            ..Faults::default()
        });
        assert!(block_on(archive.compact()).is_err());
        medium.set_faults(Faults::default());
        block_on(archive.indexed(Sequence(u64::MAX))).expect("takes the hint");
        let medium = medium.crash(Loss::Machine);
        drop(archive);
        let archive = SegmentArchive::open_on(Arc::new(medium), options).expect("opens");
        let stored = |entry: &Entry| matches!(entry, Entry::Stored(..));
        let entries = scan(&archive, Sequence(0)).expect("is scanned");
        assert!(!entries.iter().any(stored), "seed {seed}");
    }
}

#[test]
fn a_damaged_instance_is_corrupt_and_the_others_stay_whole() {
    let medium = FaultyMedium::new(1);
    let options = SegmentOptions {
        reserve_bytes: 0,
        ..SegmentOptions::default()
    };
    let archive = SegmentArchive::open_on(Arc::new(medium.clone()), options).expect("opens");
    let kept: Vec<_> = (0..9_u64)
        .map(|n| {
            let bytes = filling(&mut Random::new(n), 5_000);
            let commit = async { begin(&archive, &bytes, 1_000).await?.commit(key(n)).await };
            (bytes.clone(), block_on(commit).expect("is kept"))
        })
        .collect();
    let path = Path::new("segments/00000001.seg");
    // A locator holds segment, offset and length; the payload stands 264 bytes behind the offset.
    let offset = |stored: &Stored| {
        let bytes = stored.locator.as_bytes()[8..16].try_into().expect("8 bytes");
        u64::from_be_bytes(bytes)
    };
    medium.corrupt(path, offset(&kept[3].1) + 264 + 4_000, b"damage");
    medium.corrupt(path, offset(&kept[6].1) + 30, b"damage");
    let check = |archive: &SegmentArchive, seen: usize| {
        for (n, (bytes, stored)) in kept.iter().enumerate() {
            let verified = block_on(archive.verify(&stored.locator)).map_err(|error| error.kind());
            if n == 3 || n == 6 {
                assert_eq!(verified, Err(ErrorKind::Corrupt));
                assert!(read(archive, &stored.locator).is_err());
            } else {
                assert_eq!(verified, Ok(()));
                assert_eq!(read(archive, &stored.locator).expect("is read"), *bytes);
            }
        }
        assert_eq!(scan(archive, Sequence(0)).expect("is scanned").len(), seen);
    };
    // The one with a damaged header can't be named any more; the one with damaged bytes can.
    check(&archive, 8);
    drop(archive);
    let archive = SegmentArchive::open_on(Arc::new(medium), options).expect("opens");
    check(&archive, 8);
}

#[test]
fn two_archives_cannot_open_one_directory() {
    let medium: Arc<dyn Medium> = Arc::new(FaultyMedium::new(1));
    let options = SegmentOptions::default();
    let archive = SegmentArchive::open_on(Arc::clone(&medium), options).expect("opens");
    let second = SegmentArchive::open_on(Arc::clone(&medium), options);
    assert_eq!(second.err().map(|error| error.kind()), Some(ErrorKind::Refused));
    drop(archive);
    SegmentArchive::open_on(medium, options).expect("opens again");
}

#[test]
fn writing_is_refused_below_the_reserve_and_what_is_kept_stays_readable() {
    let medium = FaultyMedium::new(1);
    let options = SegmentOptions {
        reserve_bytes: 1_000_000,
        ..SegmentOptions::default()
    };
    let archive = SegmentArchive::open_on(Arc::new(medium.clone()), options).expect("opens");
    let bytes = filling(&mut Random::new(1), 5_000);
    let stored = block_on(async { begin(&archive, &bytes, 1_000).await?.commit(key(1)).await });
    let stored = stored.expect("is kept");
    medium.set_faults(Faults {
        room: Some(1_000_000),
        ..Faults::default()
    });
    let refused = block_on(archive.begin()).err().map(|error| error.kind());
    assert_eq!(refused, Some(ErrorKind::OutOfResources));
    assert_eq!(read(&archive, &stored.locator).expect("is read"), bytes);
}

#[test]
fn compaction_gives_room_back_and_moves_nothing() {
    let medium = FaultyMedium::new(1);
    let options = SegmentOptions {
        segment_bytes: 200_000,
        reserve_bytes: 0,
        ..SegmentOptions::default()
    };
    let archive = SegmentArchive::open_on(Arc::new(medium.clone()), options).expect("opens");
    let kept: Vec<_> = (0..60_u64)
        .map(|n| {
            let bytes = filling(&mut Random::new(n), 20_000);
            let commit = async { begin(&archive, &bytes, 20_000).await?.commit(key(n)).await };
            (bytes.clone(), block_on(commit).expect("is kept"))
        })
        .collect();
    for (n, (_, stored)) in kept.iter().enumerate().filter(|(n, _)| n % 2 == 0 || *n < 30) {
        block_on(archive.remove(&key(n as u64).instance, &stored.locator)).expect("is removed");
    }
    block_on(archive.indexed(Sequence(u64::MAX))).expect("takes the hint");
    let before = archive.statistics();
    let compaction = block_on(archive.compact()).expect("compacts");
    let after = archive.statistics();
    assert!(compaction.segments_removed >= 2, "{compaction:?}");
    assert!(
        compaction.freed_bytes > before.dead_bytes / 2,
        "{compaction:?} {before:?}"
    );
    assert!(
        after.segments < before.segments && after.dead_bytes == 0,
        "{after:?}"
    );
    let check = |archive: &SegmentArchive| {
        for (n, (bytes, stored)) in kept.iter().enumerate() {
            let found = read(archive, &stored.locator).map_err(|error| error.kind());
            if n % 2 == 0 || n < 30 {
                assert_eq!(found, Err(ErrorKind::NotFound));
            } else {
                assert_eq!(found.as_ref(), Ok(&bytes.to_vec()));
            }
        }
    };
    check(&archive);
    let medium = medium.crash(Loss::Machine);
    drop(archive);
    check(&SegmentArchive::open_on(Arc::new(medium), options).expect("opens"));
}
