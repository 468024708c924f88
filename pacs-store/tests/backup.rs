//! A backup on disks that fail: the archive as it was at each increment is had again, byte for byte.
//!
//! `PACS_FAULT_RUNS` sets the number of runs, `PACS_SEED` the first seed.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use futures::{StreamExt, stream};
use pacs_core::testkit::archive::{begin, key};
use pacs_core::testkit::random::Random;
use pacs_core::{Archive, Entry, ErrorKind, InstanceKey, Locator, Result, Sequence, Stored};
use pacs_store::backup::{Backup, BackupFile, Increment, Mark};
use pacs_store::medium::{Faults, FaultyMedium, Loss};
use pacs_store::{MemoryArchive, SegmentArchive, SegmentOptions};
use support::{any_faults, any_options, filling, read, runs, scan};

const ROUNDS: usize = 6;
const ID: u128 = 7;

/// Versions of each instance, the first one first.
type Versions = BTreeMap<InstanceKey, Vec<Vec<u8>>>;

struct Run {
    random: Random,
    source_medium: FaultyMedium,
    source: SegmentArchive,
    kept: Vec<(Locator, InstanceKey, Bytes)>,
    medium: FaultyMedium,
    options: SegmentOptions,
    mark: Option<Mark>,
    /// The file that goes along.
    note: Bytes,
    /// What an increment has, if there is one of that number.
    expected: BTreeMap<u64, (Versions, Bytes)>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let source_medium = FaultyMedium::new(random.bits());
        let source = SegmentArchive::open_on(Arc::new(source_medium.clone()), any_options(&mut random));
        Self {
            source: source.expect("opens"),
            source_medium,
            kept: Vec::new(),
            medium: FaultyMedium::new(random.bits()),
            options: any_options(&mut random),
            mark: None,
            note: Bytes::new(),
            expected: BTreeMap::new(),
            random,
        }
    }

    fn place(&self) -> Result<Arc<dyn Archive>> {
        let opened = SegmentArchive::open_on(Arc::new(self.medium.clone()), self.options)?;
        Ok(Arc::new(opened))
    }

    fn change(&mut self) {
        for _ in 0..self.random.below(8) {
            if self.random.chance(4) && !self.kept.is_empty() {
                let (locator, key, _) = self.kept.remove(self.random.index(self.kept.len()));
                block_on(self.source.remove(&key.instance, &locator)).expect("is removed");
                continue;
            }
            // Few enough that some come again.
            let key = key(1 + self.random.below(12));
            let length = *self.random.pick(&[1, 200, 5_000, 40_000]);
            let bytes = filling(&mut self.random, length);
            let stored = block_on(store(&self.source, key, &bytes)).expect("is kept");
            self.kept.push((stored.locator, key, bytes));
        }
        if self.random.chance(2) {
            self.note = filling(&mut self.random, 300);
        }
    }

    /// Makes an increment, unless the disks don't let it.
    fn attempt(&mut self) -> Result<Increment> {
        let place = self.place()?;
        let mark = self.mark.clone().filter(|_| !self.random.chance(4));
        let mut backup = match block_on(Backup::open(Arc::clone(&place), mark.as_ref())) {
            Err(error) if error.kind() == ErrorKind::NotFound => block_on(Backup::begin(place, ID))?,
            backup => backup?,
        };
        assert_eq!(backup.id(), ID);
        let number = backup.last()?.map_or(1, |last| last.number + 1);
        let mut versions = Versions::new();
        for (_, key, bytes) in &self.kept {
            versions.entry(*key).or_default().push(bytes.to_vec());
        }
        self.expected.insert(number, (versions, self.note.clone()));
        let increment = block_on(backup.increment(&self.source, &[file(&self.note)]))?;
        assert_eq!(increment.number, number);
        self.mark = Some(backup.mark());
        Ok(increment)
    }

    fn run(&mut self) {
        let mut acknowledged = 0;
        for _ in 0..ROUNDS {
            self.change();
            let faults = any_faults(&mut self.random);
            self.medium.set_faults(faults);
            let read = *self.random.pick(&[0, 0, 50, 300]);
            self.source_medium.set_faults(Faults {
                read,
                ..Faults::default()
            });
            if let Ok(increment) = self.attempt() {
                acknowledged = increment.number;
            }
            self.source_medium.set_faults(Faults::default());
            self.medium = self
                .medium
                .crash(*self.random.pick(&[Loss::Machine, Loss::Process]));
        }
        self.change();
        let increment = self.attempt().expect("a sound disk takes it");
        assert!(increment.number > acknowledged && increment.unreadable == 0);
        self.check();
    }

    fn check(&mut self) {
        let backup = block_on(Backup::open(self.place().expect("opens"), None)).expect("opens");
        let increments = block_on(backup.increments()).expect("are read");
        let numbers: Vec<u64> = increments.iter().map(|increment| increment.number).collect();
        assert_eq!(numbers, (1..=increments.len() as u64).collect::<Vec<_>>());
        for increment in &increments {
            let (expected, note) = &self.expected[&increment.number];
            let target = MemoryArchive::new();
            let restored = block_on(backup.restore(increment.number, &target, |_| ())).expect("is restored");
            let versions = versions(&target);
            let count = |versions: &Versions| versions.values().map(Vec::len).sum::<usize>();
            assert_eq!(
                (restored.damaged, restored.instances),
                (0, count(&versions) as u64)
            );
            if increment.unreadable == 0 {
                assert_eq!(&versions, expected);
            } else {
                // Some may have been removed since.
                assert!(count(&versions) as u64 + increment.unreadable >= count(expected) as u64);
                for (key, versions) in &versions {
                    assert!(versions.iter().all(|bytes| expected[key].contains(bytes)));
                }
            }
            let pieces = backup
                .file(increment, "note")
                .expect("is understood")
                .expect("is there");
            let pieces: Vec<Bytes> = block_on(pieces.map(|piece| piece.expect("is read")).collect());
            assert_eq!(&pieces.concat(), note);
        }
        let verified = block_on(backup.verify(|_| ())).expect("is verified");
        assert_eq!((verified.damaged, verified.damaged_files.len()), (0, 0));
    }
}

fn file(bytes: &Bytes) -> BackupFile {
    let bytes = bytes.clone();
    BackupFile {
        name: "note".to_owned(),
        read: Box::new(move || stream::iter([Ok(bytes.clone())]).boxed()),
    }
}

fn versions(archive: &dyn Archive) -> Versions {
    let mut versions = Versions::new();
    for entry in scan(archive, Sequence(0)).expect("is scanned") {
        if let Entry::Stored(key, stored) = entry {
            let bytes = read(archive, &stored.locator).expect("is read");
            versions.entry(key).or_default().push(bytes);
        }
    }
    versions
}

async fn store(archive: &dyn Archive, key: InstanceKey, bytes: &[u8]) -> Result<Stored> {
    let writer = begin(archive, &Bytes::copy_from_slice(bytes), 10_000).await?;
    writer.commit(key).await
}

#[test]
fn the_archive_as_it_was_at_each_increment_is_had_again_whatever_the_disks_did() {
    runs(150, |seed| Run::new(seed).run());
}

/// A backup of some instances, and where it stands.
fn backup_of(count: u64) -> (Arc<MemoryArchive>, Arc<MemoryArchive>, Backup) {
    let (source, place) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryArchive::new()));
    for number in 1..=count {
        block_on(store(&*source, key(number), format!("{number}").as_bytes())).expect("is kept");
    }
    let mut backup = block_on(Backup::begin(Arc::clone(&place) as _, ID)).expect("is begun");
    block_on(backup.increment(&*source, &[])).expect("is made");
    (source, place, backup)
}

#[test]
fn what_a_backup_lost_is_told_and_the_rest_is_restored() {
    let (_, place, backup) = backup_of(20);
    let lost = key(7);
    for entry in scan(&*place, Sequence(0)).expect("is scanned") {
        if let Entry::Stored(found, stored) = entry
            && found == lost
        {
            block_on(place.remove(&found.instance, &stored.locator)).expect("is removed");
        }
    }
    let verified = block_on(backup.verify(|_| ())).expect("is verified");
    assert_eq!((verified.whole, verified.damaged), (19, 1));
    assert_eq!(verified.first_damaged, [lost]);
    let target = MemoryArchive::new();
    let restored = block_on(backup.restore(1, &target, |_| ())).expect("is restored");
    assert_eq!((restored.instances, restored.damaged), (19, 1));
    assert_eq!(restored.first_damaged, [lost]);
}

#[test]
fn of_two_records_of_what_a_backup_has_one_is_enough() {
    let (source, place, backup) = backup_of(3_000);
    let entries: Vec<_> = scan(&*place, Sequence(0)).expect("is scanned");
    let of_source: Vec<_> = versions(&*source).into_keys().collect();
    // The first of each pair, then the second as well.
    let own: Vec<_> = entries
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::Stored(key, stored) if !of_source.contains(&key) => Some((key, stored.locator)),
            _ => None,
        })
        .collect();
    // A head, three parts and an increment.
    assert_eq!(own.len(), 10);
    for (key, locator) in own.iter().step_by(2) {
        block_on(place.remove(&key.instance, locator)).expect("is removed");
    }
    for backup in [
        backup,
        block_on(Backup::open(Arc::clone(&place) as _, None)).expect("opens"),
    ] {
        let target = MemoryArchive::new();
        let restored = block_on(backup.restore(1, &target, |_| ())).expect("is restored");
        assert_eq!((restored.damaged, restored.lost_records), (0, 0));
        assert_eq!(versions(&target), versions(&*source));
    }
    let (key, locator) = &own[3];
    block_on(place.remove(&key.instance, locator)).expect("is removed");
    let backup = block_on(Backup::open(Arc::clone(&place) as _, None)).expect("opens");
    let restored = block_on(backup.restore(1, &MemoryArchive::new(), |_| ())).expect("is restored");
    assert_eq!((restored.instances, restored.lost_records), (3_000 - 1_024, 1));
    assert_eq!(
        block_on(backup.verify(|_| ())).expect("is verified").lost_records,
        1
    );
}

#[test]
fn where_both_records_of_an_increment_are_lost_every_other_one_is_restored() {
    let (source, place, mut backup) = backup_of(5);
    let mut expected = vec![versions(&*source)];
    for number in 6..9 {
        block_on(store(&*source, key(number), b"more")).expect("is kept");
        block_on(backup.increment(&*source, &[])).expect("is made");
        expected.push(versions(&*source));
    }
    // A head, and a part and an increment each; the second increment is the third pair.
    let own: Vec<_> = scan(&*place, Sequence(0))
        .expect("is scanned")
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::Stored(found, stored) if (1..9).all(|number| key(number) != found) => {
                Some((found, stored.locator))
            }
            _ => None,
        })
        .collect();
    assert_eq!(own.len(), 18);
    for (key, locator) in &own[8..10] {
        block_on(place.remove(&key.instance, locator)).expect("is removed");
    }
    let backup = block_on(Backup::open(Arc::clone(&place) as _, None)).expect("opens");
    let increments = block_on(backup.increments()).expect("are read");
    let numbers: Vec<_> = increments.iter().map(|increment| increment.number).collect();
    assert_eq!(numbers, [1, 3, 4]);
    for number in numbers {
        let target = MemoryArchive::new();
        let restored = block_on(backup.restore(number, &target, |_| ())).expect("is restored");
        assert_eq!((restored.damaged, restored.lost_records), (0, 0));
        assert_eq!(versions(&target), expected[number as usize - 1]);
    }
    let verified = block_on(backup.verify(|_| ())).expect("is verified");
    assert_eq!((verified.whole, verified.lost_records), (8, 1));
}

#[test]
fn what_was_removed_while_an_increment_was_made_is_not_in_it_in_an_earlier_version() {
    let (source, _, mut backup) = backup_of(1);
    // Seen by the increment as it begins, gone before it is copied: as by a removal in the middle of a long one.
    let later = block_on(store(&*source, key(1), b"later")).expect("is kept");
    let first = scan(&*source, Sequence(0)).expect("is scanned").swap_remove(0);
    let Entry::Stored(_, first) = first else {
        panic!("it is kept");
    };
    for locator in [&first.locator, &later.locator] {
        block_on(source.remove(&key(1).instance, locator)).expect("is removed");
    }
    block_on(store(&*source, key(2), b"other")).expect("is kept");
    let increment = block_on(backup.increment(&*source, &[])).expect("is made");
    assert_eq!((increment.instances, increment.unreadable), (1, 0));
    let target = MemoryArchive::new();
    block_on(backup.restore(2, &target, |_| ())).expect("is restored");
    assert_eq!(versions(&target), versions(&*source));
}

#[test]
fn a_long_increment_is_of_many_parts_and_of_nothing_when_nothing_happened() {
    let (source, place, mut backup) = backup_of(3_000);
    let last = backup.last().expect("is understood").expect("is there");
    assert_eq!((last.number, last.instances, last.removed), (1, 3_000, 0));
    let nothing = block_on(backup.increment(&*source, &[])).expect("is made");
    assert_eq!((nothing.number, nothing.instances, nothing.removed), (2, 0, 0));
    let again = block_on(Backup::open(place, Some(&backup.mark()))).expect("opens");
    assert_eq!(again.last().expect("is understood"), Some(nothing));
    let target = MemoryArchive::new();
    block_on(again.restore(1, &target, |_| ())).expect("is restored");
    assert_eq!(versions(&target), versions(&*source));
}

#[test]
fn an_instance_with_the_uids_of_the_head_is_an_instance() {
    let (source, place, mut backup) = backup_of(1);
    let head = scan(&*place, Sequence(0)).expect("is scanned").into_iter().next();
    let Some(Entry::Stored(head, _)) = head else {
        panic!("it begins with a head");
    };
    block_on(store(&*source, head, b"{\"format\":9}")).expect("is kept");
    block_on(backup.increment(&*source, &[])).expect("is made");
    let again = block_on(Backup::open(place, None)).expect("opens");
    let target = MemoryArchive::new();
    block_on(again.restore(2, &target, |_| ())).expect("is restored");
    assert_eq!(versions(&target), versions(&*source));
}

#[test]
fn what_is_no_backup_or_of_another_archive_is_refused() {
    let (source, place, mut backup) = backup_of(5);
    let other = MemoryArchive::new();
    block_on(store(&other, key(1), b"1")).expect("is kept");
    // Something else where the backup knows what was.
    for number in 102..109 {
        block_on(store(&other, key(number), b"1")).expect("is kept");
    }
    let refused = block_on(backup.increment(&other, &[]))
        .map(drop)
        .expect_err("is refused");
    assert_eq!(refused.kind(), ErrorKind::Mismatch);
    let other: Arc<dyn Archive> = Arc::new(other);
    let kind = |result: Result<Backup>| result.map(drop).expect_err("is refused").kind();
    assert_eq!(
        kind(block_on(Backup::begin(Arc::clone(&other), ID))),
        ErrorKind::Mismatch
    );
    assert_eq!(kind(block_on(Backup::open(other, None))), ErrorKind::Mismatch);
    let empty: Arc<dyn Archive> = Arc::new(MemoryArchive::new());
    assert_eq!(kind(block_on(Backup::open(empty, None))), ErrorKind::NotFound);
    let restored = |number, target: &dyn Archive| {
        let restored = block_on(backup.restore(number, target, |_| ()));
        restored.expect_err("is refused").kind()
    };
    assert_eq!(restored(9, &MemoryArchive::new()), ErrorKind::NotFound);
    assert_eq!(restored(1, &*source), ErrorKind::Mismatch);
    // A mark of nowhere does not mislead.
    let mark = Mark("0123 {}".to_owned());
    let found = block_on(Backup::open(place, Some(&mark))).expect("opens");
    assert_eq!(found.id(), ID);
}
