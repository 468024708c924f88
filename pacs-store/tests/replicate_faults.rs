//! An archive with a second copy, on three disks that fail: it keeps what the archive alone keeps, and the second has it too.
//!
//! `PACS_FAULT_RUNS` sets the number of runs, `PACS_SEED` the first seed.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::executor::block_on;
use pacs_core::testkit::archive::{begin, key, part10};
use pacs_core::testkit::random::Random;
use pacs_core::{Archive, Entry, Result, Sequence};
use pacs_store::medium::{Faults, FaultyMedium, Loss, Medium as _};
use pacs_store::{
    RedbLedger, ReplicateMode, ReplicateOptions, ReplicatedArchive, SegmentArchive, SegmentOptions,
};
use support::model::{Kept, Run, Subject};
use support::{any_options, read, runs, scan};

/// The first archive, the second and the notes, on a disk each.
struct ThreeDisks {
    disks: [FaultyMedium; 3],
    options: [SegmentOptions; 2],
    mode: ReplicateMode,
}

impl ThreeDisks {
    fn second(&self) -> SegmentArchive {
        SegmentArchive::open_on(Arc::new(self.disks[1].clone()), self.options[1]).expect("opens")
    }
}

impl Subject for ThreeDisks {
    type Opened = ReplicatedArchive;

    fn new(random: &mut Random) -> Self {
        Self {
            disks: [(); 3].map(|()| FaultyMedium::new(random.bits())),
            options: [(); 2].map(|()| any_options(random)),
            mode: *random.pick(&[
                ReplicateMode::Later,
                ReplicateMode::WhilePresent,
                ReplicateMode::Always,
            ]),
        }
    }

    fn open(&self) -> Result<ReplicatedArchive> {
        let [first, second, notes] = self.disks.clone().map(Arc::new);
        let [first_options, second_options] = self.options;
        let first = Arc::new(SegmentArchive::open_on(first, first_options)?);
        let open_second = move || {
            let opened = SegmentArchive::open_on(Arc::clone(&second) as _, second_options)?;
            Ok(Arc::new(opened) as Arc<dyn Archive>)
        };
        let notes = Arc::new(RedbLedger::open_on(notes, "copies.redb")?);
        let mut options = ReplicateOptions::default();
        options.mode = self.mode;
        ReplicatedArchive::open(first, Box::new(open_second), notes, options)
    }

    fn media(&mut self) -> Vec<&mut FaultyMedium> {
        self.disks.iter_mut().collect()
    }

    fn check(&self, archive: &ReplicatedArchive, kept: &Kept) {
        block_on(archive.caught_up()).expect("is copied");
        for locator in kept.keys() {
            block_on(archive.verify(locator)).expect("both copies are whole");
        }
    }
}

/// Where these bytes stand in a file of a disk.
fn find(disk: &FaultyMedium, bytes: &[u8]) -> (PathBuf, u64) {
    let directory = Path::new("segments");
    for entry in disk.list(directory).expect("is listed") {
        let path = directory.join(entry.name);
        let file = disk.open(&path).expect("opens");
        let mut content = vec![0; file.length().expect("has a length") as usize];
        let read = file.read_at(&mut content, 0).expect("is read");
        let at = content[..read]
            .windows(bytes.len())
            .position(|window| window == bytes);
        if let Some(at) = at {
            return (path, at as u64);
        }
    }
    panic!("the bytes stand nowhere");
}

#[test]
fn a_death_while_a_copy_is_made_anew_changes_neither_the_order_nor_the_bytes() {
    let mut mended = 0;
    for damaged in [0, 1] {
        for stop_after in 0..40 {
            let mut disks = ThreeDisks {
                disks: [1, 2, 3].map(FaultyMedium::new),
                options: [SegmentOptions {
                    reserve_bytes: 0,
                    ..SegmentOptions::default()
                }; 2],
                mode: ReplicateMode::Always,
            };
            let archive = disks.open().expect("opens");
            let versions = [1, 2, 3].map(|n| part10(&key(1), 1_000 * n as usize, n));
            let stored = versions.clone().map(|bytes| {
                let kept = block_on(async { begin(&archive, &bytes, 500).await?.commit(key(1)).await });
                kept.expect("is kept")
            });
            block_on(archive.caught_up()).expect("is copied");
            block_on(archive.indexed(stored[2].sequence)).expect("is hinted");
            let entries = scan(&archive, Sequence(0)).expect("is scanned");
            // In the middle version.
            let (path, at) = find(&disks.disks[damaged], &versions[1][1_000..1_100]);
            disks.disks[damaged].corrupt(&path, at, b"changed");
            for disk in disks.media() {
                disk.set_faults(Faults {
                    stop_after: Some(stop_after),
                    ..Faults::default()
                });
            }
            let answer = block_on(archive.mend(&stored[1].locator));
            mended += usize::from(matches!(answer, Ok(true)));
            for disk in disks.media() {
                *disk = disk.crash(Loss::Machine);
            }
            drop(archive);
            for _ in 0..2 {
                let archive = disks.open().expect("opens");
                let mut found = scan(&archive, Sequence(0)).expect("is scanned");
                // A spare that could not be noted was removed again: nobody knew of it.
                found.retain(|entry| matches!(entry, Entry::Stored(..)));
                assert_eq!(found, entries, "{stop_after}");
                for (stored, bytes) in stored.iter().zip(&versions) {
                    assert_eq!(read(&archive, &stored.locator).expect("is read"), *bytes);
                }
                // Whatever was left is brought to its end.
                block_on(archive.caught_up()).expect("is copied");
                block_on(archive.mend(&stored[1].locator)).expect("is mended");
                block_on(archive.verify(&stored[1].locator)).expect("both are whole");
            }
        }
    }
    assert!(mended > 10, "{mended} were mended before the death");
}

#[test]
fn what_is_kept_is_kept_twice_and_nothing_is_lost_whatever_the_disks_do() {
    runs(150, |seed| {
        let mut run = Run::<ThreeDisks>::new(seed);
        run.run();
        // The second archive alone has it too.
        let second = run.subject.second();
        let mut found = Vec::new();
        for entry in scan(&second, Sequence(0)).expect("is scanned") {
            if let Entry::Stored(key, stored) = entry {
                found.push((key, read(&second, &stored.locator).expect("is read")));
            }
        }
        for (key, bytes, _) in run.kept().values() {
            let copies = found.iter().filter(|(found, copy)| found == key && copy == bytes);
            assert!(copies.count() > 0, "{key:?} has no second copy");
        }
    });
}
