//! The segment archive on a disk that fails, against a simple model: what was acknowledged is never
//! lost, what is found is always whole.
//!
//! `PACS_FAULT_RUNS` sets the number of runs, `PACS_SEED` the first seed.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use futures::future::join_all;
use pacs_core::testkit::archive::{begin, key};
use pacs_core::testkit::random::Random;
use pacs_core::{Archive, Entry, ErrorKind, InstanceKey, Locator, Result, Sequence, Stored};
use pacs_store::medium::{Faults, FaultyMedium, Loss, Medium};
use pacs_store::{SegmentArchive, SegmentOptions};
use support::{any_faults, any_options, filling, read, runs, scan};

const LIVES: u64 = 4;
const STEPS_PER_LIFE: u64 = 14;

/// What the archive has promised.
#[derive(Default)]
struct Model {
    next: u64,
    /// Acknowledged and not removed.
    kept: BTreeMap<Locator, (InstanceKey, Bytes, Sequence)>,
    /// Begun to be removed without an answer that counts: may be there or not.
    leaving: BTreeMap<Locator, (InstanceKey, Bytes)>,
    /// Committed without an answer that counts: may be there or not, but only whole.
    unsure: BTreeMap<InstanceKey, Bytes>,
    /// Must not be there, and why.
    gone: BTreeMap<InstanceKey, &'static str>,
    /// Refused since the last commit that succeeded. The archive may not have been able to note it.
    refused: BTreeMap<InstanceKey, Bytes>,
    /// What a durable index knows, and up to where.
    index: BTreeMap<Locator, InstanceKey>,
    low_water: Sequence,
    /// The greatest sequence that was acknowledged.
    last: Sequence,
}

struct Run {
    random: Random,
    medium: FaultyMedium,
    options: SegmentOptions,
    model: Model,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let options = any_options(&mut random);
        Self {
            medium: FaultyMedium::new(random.bits()),
            random,
            options,
            model: Model::default(),
        }
    }

    fn open(&self) -> Result<SegmentArchive> {
        let archive = SegmentArchive::open_on(Arc::new(self.medium.clone()), self.options)?;
        // Whatever the medium does, what a death leaves is not taken for what somebody did.
        assert_eq!(archive.statistics().damaged_segments, 0);
        Ok(archive)
    }

    fn run(&mut self) {
        for _ in 0..LIVES {
            let archive = self.open().expect("opens on a sound medium");
            self.check(&archive);
            let faults = any_faults(&mut self.random);
            self.medium.set_faults(faults);
            for _ in 0..1 + self.random.below(STEPS_PER_LIFE) {
                self.step(&archive);
                if self.medium.is_stopped() {
                    break;
                }
            }
            self.die(archive);
        }
        let archive = self.open().expect("opens on a sound medium");
        self.check(&archive);
    }

    /// Ends a life: the machine or the process dies, or the archive is closed in peace.
    fn die(&mut self, archive: SegmentArchive) {
        let loss = *self.random.pick(&[Loss::Machine, Loss::Machine, Loss::Process]);
        if self.random.chance(3) && !self.medium.is_stopped() {
            drop(archive);
            self.medium = self.medium.crash(loss);
        } else {
            self.medium = self.medium.crash(loss);
            drop(archive);
        }
        // Refused by a medium that then died: nothing could be noted.
        self.model.unsure.append(&mut self.model.refused);
        // Now and then it dies again while it opens.
        while self.random.chance(3) {
            let faults = Faults {
                stop_after: Some(self.random.below(20)),
                ..any_faults(&mut self.random)
            };
            self.medium.set_faults(faults);
            drop(self.open());
            self.medium = self.medium.crash(loss);
        }
    }

    fn step(&mut self, archive: &SegmentArchive) {
        match self.random.below(12) {
            0..=5 => self.commit(archive),
            6 => self.abort(archive),
            7 => self.remove(archive),
            8 => self.read(archive),
            9 => self.index(archive),
            10 => drop(block_on(archive.compact())),
            _ => {
                if let Ok(entries) = scan(archive, Sequence(0)) {
                    self.check_entries(archive, &entries);
                }
            }
        }
    }

    fn new_instance(&mut self) -> (InstanceKey, Bytes) {
        self.model.next += 1;
        let length = *self.random.pick(&[0, 1, 200, 2_999, 9_000, 40_000]);
        let length = length + self.random.index(300);
        (key(self.model.next), filling(&mut self.random, length))
    }

    fn commit(&mut self, archive: &SegmentArchive) {
        let count = 1 + self.random.index(4);
        let chunk = *self.random.pick(&[100, 1_500, 1 << 20]);
        let wanted: Vec<_> = (0..count).map(|_| self.new_instance()).collect();
        let mut begun = Vec::new();
        for (key, bytes) in wanted {
            match block_on(begin(archive, &bytes, chunk)) {
                Ok(writer) => begun.push((key, bytes, writer)),
                Err(_) => drop(self.model.gone.insert(key, "never begun")),
            }
        }
        let mut sent = Vec::new();
        let mut commits = Vec::new();
        for (key, bytes, writer) in begun {
            commits.push(writer.commit(key));
            sent.push((key, bytes));
        }
        let results = block_on(join_all(commits));
        if results.iter().any(Result::is_ok) {
            let refused = std::mem::take(&mut self.model.refused);
            let noted = refused.into_keys().map(|key| (key, "refused"));
            self.model.gone.extend(noted);
        }
        let mut sequences: Vec<_> = results.iter().flatten().map(|stored| stored.sequence).collect();
        for ((key, bytes), result) in sent.into_iter().zip(results) {
            match result {
                Ok(stored) => self.keep(key, bytes, stored),
                Err(_) => drop(self.model.refused.insert(key, bytes)),
            }
        }
        sequences.sort();
        for sequence in sequences {
            assert!(sequence > self.model.last, "sequences grow");
            self.model.last = sequence;
        }
    }

    fn keep(&mut self, key: InstanceKey, bytes: Bytes, stored: Stored) {
        assert_eq!(stored.length, bytes.len() as u64);
        let before = self
            .model
            .kept
            .insert(stored.locator, (key, bytes, stored.sequence));
        assert!(before.is_none(), "two instances at one place");
    }

    fn abort(&mut self, archive: &SegmentArchive) {
        let (key, bytes) = self.new_instance();
        if let Ok(writer) = block_on(begin(archive, &bytes, 1_500)) {
            let _ = block_on(writer.abort());
        }
        self.model.gone.insert(key, "aborted");
    }

    fn choose(&mut self) -> Option<(Locator, InstanceKey, Bytes)> {
        let at = self.random.index(self.model.kept.len());
        let (locator, (key, bytes, _)) = self.model.kept.iter().nth(at)?;
        Some((locator.clone(), *key, bytes.clone()))
    }

    fn remove(&mut self, archive: &SegmentArchive) {
        let Some((locator, key, bytes)) = self.choose() else {
            return;
        };
        let result = block_on(archive.remove(&key.instance, &locator));
        self.model.kept.remove(&locator);
        match result {
            Ok(sequence) => {
                self.model.last = self.model.last.max(sequence);
                self.model.gone.insert(key, "removed");
                match read(archive, &locator) {
                    Ok(_) => panic!("a removed instance is read"),
                    Err(error) => assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Io)),
                }
            }
            Err(_) => drop(self.model.leaving.insert(locator, (key, bytes))),
        }
    }

    fn read(&mut self, archive: &SegmentArchive) {
        let Some((locator, _, bytes)) = self.choose() else {
            return;
        };
        match read(archive, &locator) {
            Ok(read) => assert_eq!(read, bytes),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Io, "{error}"),
        }
    }

    /// An index applies what came since its low water, makes it durable and tells.
    fn index(&mut self, archive: &SegmentArchive) {
        let Ok(entries) = scan(archive, self.model.low_water) else {
            return;
        };
        for entry in entries {
            self.model.low_water = entry.sequence();
            apply(&mut self.model.index, entry);
        }
        let hint = *self.random.pick(&[
            self.model.low_water,
            Sequence(self.random.clone().below(self.model.low_water.0 + 1)),
        ]);
        let _ = block_on(archive.indexed(hint));
    }

    /// After a reopening on a sound medium.
    fn check(&mut self, archive: &SegmentArchive) {
        let entries = scan(archive, Sequence(0)).expect("is scanned");
        self.check_entries(archive, &entries);
        let model = &mut self.model;
        let mut found = BTreeMap::new();
        for entry in &entries {
            let Entry::Stored(key, stored) = entry else {
                continue;
            };
            found.insert(stored.locator.clone(), *key);
            // From now on it must stay.
            if let Some(bytes) = model.unsure.remove(key) {
                model
                    .kept
                    .insert(stored.locator.clone(), (*key, bytes, stored.sequence));
            }
            if let Some((key, bytes)) = model.leaving.remove(&stored.locator) {
                model
                    .kept
                    .insert(stored.locator.clone(), (key, bytes, stored.sequence));
            }
            model.last = model.last.max(stored.sequence);
        }
        // What an opening did not find must never come back.
        let unsure = std::mem::take(&mut model.unsure);
        let leaving = std::mem::take(&mut model.leaving);
        let lost = unsure
            .into_keys()
            .chain(leaving.into_values().map(|(key, _)| key));
        model
            .gone
            .extend(lost.map(|key| (key, "not found by an opening")));

        // An index that was durable up to its low water becomes equal to the archive.
        let mut index = model.index.clone();
        for entry in scan(archive, model.low_water).expect("is scanned") {
            apply(&mut index, entry);
        }
        assert_eq!(index, found, "the index equals the archive");
        if let Some(after) = entries.get(self.random.index(entries.len())) {
            let after = after.sequence();
            let rest = scan(archive, after).expect("is scanned");
            let expected: Vec<_> = entries.iter().filter(|entry| entry.sequence() > after).collect();
            assert!(
                rest.iter().eq(expected),
                "a scan after {after:?} is the rest of the scan"
            );
        }
    }

    fn check_entries(&self, archive: &SegmentArchive, entries: &[Entry]) {
        let model = &self.model;
        let mut last = Sequence(0);
        let mut seen = BTreeSet::new();
        for entry in entries {
            assert!(entry.sequence() > last, "a scan is in ascending order");
            last = entry.sequence();
            let Entry::Stored(key, stored) = entry else {
                continue;
            };
            assert!(seen.insert(stored.locator.clone()), "a place is yielded twice");
            let gone = model.gone.get(key);
            assert_eq!(gone, None, "{key:?} must not be there");
            let expected = match model.kept.get(&stored.locator) {
                Some((expected, bytes, sequence)) => {
                    assert_eq!((expected, *sequence), (key, stored.sequence));
                    bytes
                }
                None => match model.leaving.get(&stored.locator) {
                    Some((_, bytes)) => bytes,
                    None => model
                        .unsure
                        .get(key)
                        .or_else(|| model.refused.get(key))
                        .expect("what is found was committed"),
                },
            };
            match read(archive, &stored.locator) {
                Ok(bytes) => assert_eq!(bytes, *expected, "{key:?} is whole"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Io, "{error}"),
            }
        }
        for (locator, (key, ..)) in &model.kept {
            assert!(seen.contains(locator), "{key:?} was acknowledged and is lost");
        }
    }
}

fn apply(index: &mut BTreeMap<Locator, InstanceKey>, entry: Entry) {
    match entry {
        Entry::Stored(key, stored) => drop(index.insert(stored.locator, key)),
        Entry::Removed { locator, .. } => drop(index.remove(&locator)),
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_found_is_half_whatever_the_medium_does() {
    runs(300, |seed| Run::new(seed).run());
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
