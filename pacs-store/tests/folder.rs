//! What the folder archive promises beyond the trait.

use std::sync::Arc;

use futures::TryStreamExt;
use futures::executor::block_on;
use pacs_core::testkit::archive::{begin, key, part10};
use pacs_core::testkit::engine::instance;
use pacs_core::testkit::random::Random;
use pacs_core::{Archive, Entry, ErrorKind, InstanceKey, Locator, Options, Pacs, Sequence};
use pacs_store::medium::{Faults, FaultyMedium, Loss};
use pacs_store::{FolderArchive, FolderOptions, MemoryIndex};

fn options() -> FolderOptions {
    FolderOptions {
        reserve_bytes: 0,
        threads: 2,
        ..FolderOptions::default()
    }
}

fn scan(archive: &FolderArchive) -> Vec<(InstanceKey, Locator)> {
    let entries: Vec<Entry> = block_on(archive.scan(Sequence(0)).try_collect()).expect("is scanned");
    entries
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::Stored(key, stored) => Some((key, stored.locator)),
            Entry::Removed { .. } => None,
        })
        .collect()
}

fn read(archive: &FolderArchive, locator: &Locator) -> Vec<u8> {
    let pieces: Vec<_> = block_on(archive.read(locator, 0..u64::MAX).try_collect()).expect("is read");
    pieces.concat()
}

#[test]
fn a_folder_is_adopted_in_place_whatever_its_files_are_called() {
    let folder = tempfile::TempDir::new().expect("a temporary directory");
    let root = folder.path();
    std::fs::create_dir_all(root.join("DICOM/PAT 1/ST 1")).expect("is made");
    let file = |path: &str, bytes: &[u8]| std::fs::write(root.join(path), bytes).expect("is written");
    file("DICOM/PAT 1/ST 1/IM1", &part10(&key(1), 300_000, 1));
    file("DICOM/no extension", &part10(&key(2), 100, 2));
    // Without preamble and meta: the data set alone, as older exports have it.
    let whole = part10(&key(3), 100, 3);
    let data_set = pacs_core::dataset::part10::read_meta(&whole, true)
        .expect("is read")
        .expect("is whole")
        .data_set_offset as usize;
    file("bare", &whole[data_set..]);
    file("notes.txt", b"no instance");
    file("empty", b"");
    file("cut.dcm", &part10(&key(4), 100, 4)[..200]);
    let before = std::fs::read(root.join("DICOM/PAT 1/ST 1/IM1")).expect("is read");

    let archive = FolderArchive::open(root, options()).expect("opens");
    let mut found = scan(&archive);
    found.sort();
    let keys: Vec<_> = found.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, [key(1), key(2), key(3)]);
    assert_eq!(read(&archive, &found[0].1), before);

    // New instances stand beside them, and removing an adopted one deletes its file and no other.
    let bytes = part10(&key(5), 1_000, 5);
    let stored = block_on(async { begin(&archive, &bytes, 100).await?.commit(key(5)).await });
    let stored = stored.expect("is kept");
    block_on(archive.remove(&key(2).instance, &found[1].1)).expect("is removed");
    assert!(!root.join("DICOM/no extension").exists());
    let path = std::str::from_utf8(stored.locator.as_bytes()).expect("UIDs");
    assert_eq!(std::fs::read(root.join(path)).expect("a plain file"), bytes);
    assert_eq!(scan(&archive).len(), 3);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_machine_dies() {
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let mut medium = FaultyMedium::new(random.bits());
        let mut kept = Vec::new();
        let mut next = 0;
        for _ in 0..3 {
            let archive = FolderArchive::open_on(Arc::new(medium.clone()), options()).expect("opens");
            medium.set_faults(Faults {
                short_write: 100,
                sync: 50,
                other: 50,
                stop_after: Some(10 + random.below(60)),
                ..Faults::default()
            });
            while !medium.is_stopped() {
                next += 1;
                let bytes = part10(&key(next), random.index(3_000), next);
                let stored =
                    block_on(async { begin(&archive, &bytes, 1_000).await?.commit(key(next)).await });
                if let Ok(stored) = stored {
                    kept.push((key(next), stored.locator, bytes));
                }
            }
            medium = medium.crash(Loss::Machine);
            drop(archive);
        }
        let archive = FolderArchive::open_on(Arc::new(medium), options()).expect("opens");
        let found = scan(&archive);
        for (key, locator, bytes) in &kept {
            assert!(found.contains(&(*key, locator.clone())), "seed {seed}: lost");
            assert_eq!(read(&archive, locator), *bytes, "seed {seed}");
        }
    }
}

#[test]
fn verifying_finds_a_file_that_is_gone_and_its_neighbours_whole() {
    let folder = tempfile::TempDir::new().expect("a temporary directory");
    let archive = FolderArchive::open(folder.path(), options()).expect("opens");
    let kept: Vec<_> = (0..3)
        .map(|n| {
            let bytes = part10(&key(n), 5_000, n);
            block_on(async { begin(&archive, &bytes, 1_000).await?.commit(key(n)).await }).expect("is kept")
        })
        .collect();
    let path = std::str::from_utf8(kept[1].locator.as_bytes()).expect("a path");
    std::fs::remove_file(folder.path().join(path)).expect("is removed");
    let found = kept
        .iter()
        .map(|stored| block_on(archive.verify(&stored.locator)));
    let kinds: Vec<_> = found.map(|found| found.err().map(|error| error.kind())).collect();
    assert_eq!(kinds, [None, Some(ErrorKind::NotFound), None]);
}

#[test]
fn a_file_that_was_cut_short_is_never_handed_out_as_whole_and_verification_names_it() {
    let folder = tempfile::TempDir::new().expect("a temporary directory");
    let archive = FolderArchive::open(folder.path(), options()).expect("opens");
    let index = Arc::new(MemoryIndex::new());
    let pacs = block_on(Pacs::open(Arc::new(archive), index, Options::default())).expect("opens");
    let records: Vec<_> = (1..=2)
        .map(|number| {
            let (announced, bytes) = instance(1, 1, number, 0);
            let received = block_on(async {
                let mut receipt = pacs.receive(announced).await?;
                receipt.write(bytes).await?;
                receipt.commit().await
            });
            received.expect("is kept").record
        })
        .collect();
    let path = std::str::from_utf8(records[0].locator.as_bytes()).expect("a path");
    let file = std::fs::File::options()
        .write(true)
        .open(folder.path().join(path));
    let file = file.expect("is opened");
    for lost in [2, 100] {
        file.set_len(records[0].length - lost).expect("is cut");
        let read: Result<Vec<_>, _> = block_on(pacs.outgoing_data_set(&records[0]).try_collect());
        assert_eq!(read.expect_err("is not whole").kind(), ErrorKind::Corrupt);
        let verified = block_on(pacs.verify(|_| {})).expect("is verified");
        assert_eq!(verified.whole, 1);
        let damaged: Vec<_> = verified.damaged.iter().map(|(key, _)| *key).collect();
        assert_eq!(damaged, [records[0].key]);
    }
}
