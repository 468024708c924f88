//! An archive with a second copy, on three disks that fail: it keeps what the archive alone keeps, and the second has it too.
//!
//! `PACS_FAULT_RUNS` sets the number of runs, `PACS_SEED` the first seed.

mod support;

use std::sync::Arc;

use futures::executor::block_on;
use pacs_core::testkit::random::Random;
use pacs_core::{Archive, Entry, Result, Sequence};
use pacs_store::medium::FaultyMedium;
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
