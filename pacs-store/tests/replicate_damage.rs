//! Whatever happens to one of two copies: it is found, kept anew from the other, and never served.
//!
//! `PACS_SEED` sets the first seed, `PACS_ROUNDS` how many there are.

mod sealed;

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use futures::{TryStreamExt, stream};
use pacs_core::engine::VerifyOptions;
use pacs_core::testkit::archive::{key, part10};
use pacs_core::testkit::random::{Random, rounds};
use pacs_core::{Archive, Options, Pacs, Scope, Source, Uid};
use pacs_store::{
    RedbIndex, RedbIndexOptions, RedbLedger, ReplicateOptions, ReplicatedArchive, SegmentArchive,
    SegmentOptions,
};
use sealed::{keys, open_with};
use tempfile::TempDir;

/// What is kept: all versions of each instance, the newest first.
type Model = BTreeMap<Uid, Vec<Bytes>>;

fn segment(path: &Path) -> SegmentArchive {
    let options = SegmentOptions {
        segment_bytes: 1 << 20,
        reserve_bytes: 0,
        ..SegmentOptions::default()
    };
    SegmentArchive::open(path, options).expect("opens")
}

struct Place {
    directory: TempDir,
    is_encrypted: bool,
}

impl Place {
    fn path(&self, of: &str) -> PathBuf {
        self.directory.path().join(of)
    }

    fn archive(&self) -> Arc<ReplicatedArchive> {
        let second = self.path("second");
        let notes = RedbLedger::open(self.path("copies.redb")).expect("opens");
        let opened = ReplicatedArchive::open(
            Arc::new(segment(&self.path("first"))),
            Box::new(move || Ok(Arc::new(segment(&second)) as Arc<dyn Archive>)),
            Arc::new(notes),
            ReplicateOptions::default(),
        );
        Arc::new(opened.expect("opens"))
    }

    /// What the engine stands on.
    fn around(&self, archive: Arc<dyn Archive>) -> Arc<dyn Archive> {
        match self.is_encrypted {
            true => Arc::new(open_with(&archive, keys("k", 7)).expect("opens")),
            false => archive,
        }
    }

    /// The index is made anew where there is none.
    fn pacs(&self, archive: Arc<dyn Archive>) -> Pacs {
        let index = RedbIndex::open(self.path("index.redb"), RedbIndexOptions::default()).expect("opens");
        block_on(Pacs::open(archive, Arc::new(index), Options::default())).expect("opens")
    }

    fn forget_index(&self) {
        std::fs::remove_file(self.path("index.redb")).expect("is removed");
    }
}

fn fill(random: &mut Random, pacs: &Pacs) -> Model {
    let mut model = Model::new();
    for n in 0..300 {
        let filling = *random.pick(&[100, 5_000, 70_000, 400_000]) + 2 * random.index(500);
        let key = key(random.below(250));
        if random.chance(12) && model.remove(&key.instance).is_some() {
            assert!(block_on(pacs.remove(&key.instance)).expect("is removed"));
            continue;
        }
        let bytes = part10(&key, filling, n);
        let pieces = stream::iter([Ok(bytes.clone())]);
        block_on(pacs.import(Source::default(), pieces)).expect("is kept");
        model.entry(key.instance).or_default().insert(0, bytes);
    }
    model
}

/// Every version is served as it came, and nothing else is known.
fn check(archive: &dyn Archive, pacs: &Pacs, model: &Model) {
    let records: Vec<_> = block_on(pacs.instances(Scope::All).try_collect()).expect("is read");
    assert_eq!(records.len(), model.len());
    for record in records {
        let locators = [&record.locator].into_iter().chain(&record.superseded);
        let versions: Vec<Vec<u8>> = locators
            .map(|locator| {
                let pieces: Vec<Bytes> =
                    block_on(archive.read(locator, 0..u64::MAX).try_collect()).expect("is served");
                pieces.concat()
            })
            .collect();
        let instance = &record.key.instance;
        assert!(versions == model[instance], "{instance} is not what was stored");
    }
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory.join("segments")).expect("is listed");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("is listed").path()).collect();
    paths.sort();
    paths
}

/// Takes a file away, shortens one, and flips so many bits.
fn damage(random: &mut Random, directory: &Path, flips: u64) {
    let mut paths = segments(directory);
    let taken = paths.swap_remove(random.index(paths.len()));
    std::fs::remove_file(taken).expect("is removed");
    let shortened = random.pick(&paths);
    let length = std::fs::metadata(shortened).expect("is there").len();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(shortened)
        .expect("is opened");
    file.set_len(random.below(length)).expect("is shortened");
    for _ in 0..flips {
        let path = random.pick(&paths);
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .expect("is opened");
        let at = random.below(file.metadata().expect("is there").len());
        let mut byte = [0];
        if file.read_at(&mut byte, at).expect("is read") == 1 {
            file.write_all_at(&[byte[0] ^ 1 << random.below(8)], at)
                .expect("is written");
        }
    }
}

#[test]
fn a_thousand_flipped_bits_and_lost_files_of_one_copy_are_found_repaired_and_never_served() {
    let repairing = {
        let mut options = VerifyOptions::default();
        options.repair = true;
        options
    };
    let (mut flips, mut repaired) = (0, 0);
    rounds(4, |random| {
        let place = Place {
            directory: TempDir::new().expect("a temporary directory"),
            is_encrypted: random.chance(2),
        };
        let archive = place.archive();
        let pacs = place.pacs(place.around(archive.clone()));
        let model = fill(random, &pacs);
        let versions = model.values().map(Vec::len).sum::<usize>() as u64;
        block_on(archive.caught_up()).expect("is copied");
        pacs.close().expect("closes");
        drop((archive, pacs));
        for damaged in ["first", "second", "first"] {
            damage(random, &place.path(damaged), 84);
            flips += 84;
            let archive = place.archive();
            let read = place.around(archive.clone());
            let pacs = place.pacs(read.clone());
            check(&*read, &pacs, &model);
            let verified = block_on(pacs.verify_with(repairing, |_| ())).expect("is verified");
            assert_eq!(
                (verified.whole, verified.damaged),
                (versions, Vec::new()),
                "{damaged}"
            );
            assert!(verified.repaired > 0);
            repaired += verified.repaired;
            check(&*read, &pacs, &model);
            block_on(archive.caught_up()).expect("is copied");
            let again = block_on(pacs.verify(|_| ())).expect("is verified");
            assert_eq!((again.whole, again.damaged), (versions, Vec::new()), "{damaged}");
            pacs.close().expect("closes");
            drop((archive, read, pacs));
            // From what the archives say alone it is the same, also from the second one.
            place.forget_index();
            let archive = place.around(place.archive());
            let pacs = place.pacs(archive.clone());
            check(&*archive, &pacs, &model);
            pacs.close().expect("closes");
        }
        place.forget_index();
        let second = place.around(Arc::new(segment(&place.path("second"))));
        check(&*second, &place.pacs(second.clone()), &model);
    });
    assert!(
        flips >= 1_000 && repaired >= 100,
        "{flips} flips, {repaired} repaired"
    );
}
