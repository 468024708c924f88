//! What is encrypted keeps every promise of an archive, and is read by whoever has the key.

mod sealed;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use futures::TryStreamExt;
use futures::executor::block_on;
use pacs_core::testkit::archive::{ArchivePlace, begin, key, part10};
use pacs_core::{Archive, Entry, ErrorKind, Locator, Result, Sequence, Stored, archive_conformance};
use pacs_store::layers::encrypt::{Key, KeyFile, KeyId, KeyList, KeyProvider};
use pacs_store::{EncryptOptions, EncryptedArchive, MemoryArchive};
use sealed::{Kind, keys, list, open_with, stored_files};
use tempfile::TempDir;

/// A directory that lives as long as the test.
struct Directory {
    directory: TempDir,
    kind: Kind,
    /// What is open, inside and around it.
    open: Mutex<Option<[Weak<dyn Archive>; 2]>>,
}

impl Directory {
    fn new(kind: Kind) -> Self {
        Self {
            directory: TempDir::new().expect("a temporary directory"),
            kind,
            open: Mutex::default(),
        }
    }

    /// The stored bytes of the instance in which `bytes` stand, from the chunk in which they begin.
    fn sealed(&self, bytes: &Bytes) -> Bytes {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let [inside, around] = open.as_ref().expect("is open");
        let (inside, around) = (
            inside.upgrade().expect("is open"),
            around.upgrade().expect("is open"),
        );
        for entry in scan(&*around) {
            // One that was damaged before isn't the one.
            let plain = read(&*around, &entry.1.locator, 0..u64::MAX).unwrap_or_default();
            let at = plain.windows(bytes.len()).position(|window| window == bytes);
            if let Some(at) = at {
                let at = (at / 65536 * 65552 + at % 65536 + 128) as u64;
                return read(&*inside, &entry.1.locator, at..at + 16)
                    .expect("is read")
                    .into();
            }
        }
        panic!("no instance has the bytes");
    }
}

impl ArchivePlace for Directory {
    fn open(&self) -> Arc<dyn Archive> {
        let inside = self.kind.open(self.directory.path());
        let around: Arc<dyn Archive> = Arc::new(open_with(&inside, keys("k", 7)).expect("opens"));
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) =
            Some([Arc::downgrade(&inside), Arc::downgrade(&around)]);
        around
    }

    fn damage(&self, bytes: &Bytes) -> bool {
        let sealed = self.sealed(bytes);
        let mut damaged = 0;
        for path in stored_files(self.directory.path()) {
            let mut content = std::fs::read(&path).expect("is read");
            if let Some(at) = content.windows(sealed.len()).position(|window| window == sealed) {
                content[at + 3] ^= 0x10;
                std::fs::write(&path, content).expect("is written");
                damaged += 1;
            }
        }
        assert_eq!(damaged, 1, "the bytes stand in one file");
        true
    }
}

archive_conformance!(encrypted_memory, {
    || open_with(&(Arc::new(MemoryArchive::new()) as _), keys("k", 7)).expect("opens")
});
archive_conformance!(encrypted_folder, Directory::new(Kind::Folder));
archive_conformance!(encrypted_segment, Directory::new(Kind::Segment));
archive_conformance!(encrypted_memory_that_may_be_plain, {
    || {
        let mut options = EncryptOptions::default();
        options.plain_too = true;
        EncryptedArchive::open(Arc::new(MemoryArchive::new()), Arc::new(keys("k", 7)), options)
            .expect("opens")
    }
});

fn keep(archive: &dyn Archive, n: u64, filling: usize) -> (Bytes, Stored) {
    let bytes = part10(&key(n), filling, n);
    let stored = block_on(async { begin(archive, &bytes, 16_000).await?.commit(key(n)).await });
    (bytes, stored.expect("is kept"))
}

fn read(archive: &dyn Archive, locator: &Locator, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
    let pieces: Vec<Bytes> = block_on(archive.read(locator, range).try_collect())?;
    Ok(pieces.concat())
}

fn scan(archive: &dyn Archive) -> Vec<(pacs_core::InstanceKey, Stored)> {
    let entries: Vec<Entry> = block_on(archive.scan(Sequence(0)).try_collect()).expect("is scanned");
    let stored = |entry| match entry {
        Entry::Stored(key, stored) => Some((key, stored)),
        Entry::Removed { .. } => None,
    };
    entries.into_iter().filter_map(stored).collect()
}

/// Around the lengths of chunks, and of what is decrypted at once.
const LENGTHS: [usize; 9] = [0, 1, 65_535, 65_536, 65_537, 131_072, 262_143, 262_144, 262_145];

/// An instance of so many bytes.
fn keep_bytes(archive: &dyn Archive, n: u64, length: usize) -> (Bytes, Stored) {
    let bytes = part10(&key(n), 300_000, n).slice(1000..1000 + length);
    let stored = block_on(async { begin(archive, &bytes, 100_000).await?.commit(key(n)).await });
    (bytes, stored.expect("is kept"))
}

#[test]
fn every_length_and_every_range_around_the_ends_of_chunks_is_what_was_written() {
    let archive = open_with(&(Arc::new(MemoryArchive::new()) as _), keys("k", 7)).expect("opens");
    for (n, length) in (0..).zip(LENGTHS) {
        let (bytes, stored) = keep_bytes(&archive, n, length);
        assert_eq!(stored.length, length as u64);
        let ends = LENGTHS.into_iter().chain([length, length + 1, length + 100_000]);
        for start in ends.clone().chain([usize::MAX - 1]) {
            for end in ends.clone().chain([usize::MAX]) {
                let found = read(&archive, &stored.locator, start as u64..end as u64).expect("is read");
                let (start, end) = (start.min(length), end.min(length));
                assert_eq!(found, bytes[start..end.max(start)], "{start}..{end} of {length}");
            }
        }
    }
    let lengths: Vec<_> = scan(&archive).iter().map(|(_, stored)| stored.length).collect();
    assert_eq!(lengths, LENGTHS.map(|length| length as u64));
}

#[test]
fn nothing_of_an_instance_stands_in_what_is_stored() {
    for kind in [Kind::Folder, Kind::Segment] {
        let directory = TempDir::new().expect("a temporary directory");
        let inside = kind.open(directory.path());
        let archive = open_with(&inside, keys("k", 7)).expect("opens");
        let mut kept = Vec::new();
        for (n, filling) in (0..).zip([100, 70_000, 1_000_000]) {
            kept.push(keep(&archive, n, filling).0);
        }
        drop((archive, inside));
        for path in stored_files(directory.path()) {
            let content = std::fs::read(&path).expect("is read");
            for bytes in &kept {
                for part in bytes
                    .chunks(16)
                    .filter(|part| part.len() == 16 && part != &[0; 16])
                {
                    assert!(!content.windows(16).any(|window| window == part));
                    if content.len() > 200_000 {
                        // Comparing all of a large one with all takes long.
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn what_was_written_with_an_earlier_key_is_read_after_a_rotation_and_is_not_written_anew() {
    let directory = TempDir::new().expect("a temporary directory");
    let file = KeyFile::new(directory.path().join("keys"));
    let first = file.add().expect("is added");
    let inside: Arc<dyn Archive> = Arc::new(MemoryArchive::new());
    let open = || EncryptedArchive::open(Arc::clone(&inside), Arc::new(file.clone()), Default::default());
    let archive = open().expect("opens");
    let (old_bytes, old) = keep(&archive, 1, 100_000);
    let sealed = read(&*inside, &old.locator, 0..u64::MAX).expect("is read");

    let second = file.add().expect("is added");
    assert_eq!(archive.current_key(), first, "until it is told");
    archive.renew().expect("is told");
    assert_eq!(archive.current_key(), second);
    let (new_bytes, new) = keep(&archive, 2, 100_000);
    for archive in [archive, open().expect("opens")] {
        assert_eq!(
            read(&archive, &old.locator, 0..u64::MAX).expect("is read"),
            old_bytes
        );
        assert_eq!(
            read(&archive, &new.locator, 0..u64::MAX).expect("is read"),
            new_bytes
        );
    }
    let names = |locator: &Locator, id: &KeyId| {
        let stored = read(&*inside, locator, 0..128).expect("is read");
        stored.windows(5).any(|window| window == id.as_str().as_bytes())
    };
    assert!(names(&old.locator, &first) && names(&new.locator, &second));
    assert_eq!(
        read(&*inside, &old.locator, 0..u64::MAX).expect("is read"),
        sealed
    );
}

#[test]
fn a_key_that_comes_later_is_asked_for() {
    let inside: Arc<dyn Archive> = Arc::new(MemoryArchive::new());
    let directory = TempDir::new().expect("a temporary directory");
    let file = KeyFile::new(directory.path().join("keys"));
    file.add().expect("is added");
    let reader = EncryptedArchive::open(Arc::clone(&inside), Arc::new(file.clone()), Default::default());
    let reader = reader.expect("opens");
    // Another node writes with a newer key.
    file.add().expect("is added");
    let writer = EncryptedArchive::open(Arc::clone(&inside), Arc::new(file), Default::default());
    let (bytes, stored) = keep(&writer.expect("opens"), 1, 1000);
    assert_eq!(
        read(&reader, &stored.locator, 0..u64::MAX).expect("is read"),
        bytes
    );
}

#[test]
fn a_missing_and_a_wrong_key_are_refused_by_name_and_not_told_as_damage() {
    let inside: Arc<dyn Archive> = Arc::new(MemoryArchive::new());
    let (bytes, stored) = {
        let archive = open_with(&inside, keys("first", 7)).expect("opens");
        keep(&archive, 1, 100_000)
    };
    // At the opening, by the first instance.
    for (given, said) in [
        (keys("second", 7), "the key first is missing"),
        (keys("first", 8), "the key first is not the one"),
    ] {
        let refused = open_with(&inside, given).expect_err("is refused");
        assert_eq!(refused.kind(), ErrorKind::Refused);
        assert!(refused.to_string().contains(said), "{refused}");
    }
    let none = open_with(&inside, KeyList::new([])).expect_err("is refused");
    assert_eq!(none.kind(), ErrorKind::Refused);
    // While it is open.
    let both = list([("second", 8), ("first", 7)]);
    let (_, second) = keep(&open_with(&inside, both.clone()).expect("opens"), 2, 1000);
    let archive = open_with(&inside, keys("first", 7)).expect("opens");
    for _ in 0..3 {
        for range in [0..1, 0..u64::MAX, 70_000..80_000] {
            let refused = read(&archive, &second.locator, range).expect_err("is refused");
            assert_eq!(refused.kind(), ErrorKind::Refused);
            assert!(
                refused.to_string().contains("the key second is missing"),
                "{refused}"
            );
        }
        let refused = block_on(archive.verify(&second.locator)).expect_err("is refused");
        assert_eq!(refused.kind(), ErrorKind::Refused);
    }
    assert_eq!(
        read(&archive, &stored.locator, 0..u64::MAX).expect("is read"),
        bytes
    );
    // A scan needs no key.
    assert_eq!(scan(&archive).len(), 2);
}

#[test]
fn what_was_kept_before_is_refused_unless_plain_instances_are_read_too() {
    for kind in [Kind::Folder, Kind::Segment] {
        let directory = TempDir::new().expect("a temporary directory");
        let inside = kind.open(directory.path());
        let (plain_bytes, plain) = keep(&*inside, 1, 100_000);
        let refused = open_with(&inside, keys("k", 7)).expect_err("is refused");
        assert_eq!(refused.kind(), ErrorKind::Refused);
        assert!(refused.to_string().contains("before encryption"), "{refused}");

        let mut options = EncryptOptions::default();
        options.plain_too = true;
        let open = |options| EncryptedArchive::open(Arc::clone(&inside), Arc::new(keys("k", 7)), options);
        let archive = open(options).expect("opens");
        let (sealed_bytes, sealed) = keep(&archive, 2, 100_000);
        for (bytes, stored) in [(&plain_bytes, &plain), (&sealed_bytes, &sealed)] {
            assert_eq!(
                read(&archive, &stored.locator, 0..u64::MAX).expect("is read"),
                *bytes
            );
            let part = read(&archive, &stored.locator, 70_000..80_000).expect("is read");
            assert_eq!(part, bytes[70_000..80_000]);
            block_on(archive.verify(&stored.locator)).expect("is whole");
        }
        let lengths: Vec<_> = scan(&archive)
            .into_iter()
            .map(|(_, stored)| stored.length)
            .collect();
        assert_eq!(lengths, [plain.length, sealed.length]);
        assert_ne!(
            read(&*inside, &sealed.locator, 0..u64::MAX).expect("is read"),
            sealed_bytes
        );
    }
}

#[test]
fn a_provider_that_panics_or_fails_is_an_error_of_the_read_alone() {
    #[derive(Debug)]
    struct Moody(KeyList);
    impl KeyProvider for Moody {
        fn current(&self) -> Result<(KeyId, Key)> {
            self.0.current()
        }
        fn key(&self, _: &KeyId) -> Result<Option<Key>> {
            panic!("a provider that panics")
        }
    }
    let inside: Arc<dyn Archive> = Arc::new(MemoryArchive::new());
    let both = list([("a", 1), ("b", 2)]);
    let (bytes, known) = keep(&open_with(&inside, both).expect("opens"), 1, 1000);
    let (_, unknown) = keep(
        &open_with(&inside, list([("b", 2), ("a", 1)])).expect("opens"),
        2,
        1000,
    );
    let archive = EncryptedArchive::open(inside, Arc::new(Moody(keys("a", 1))), Default::default());
    let archive = archive.expect("opens");
    for _ in 0..5 {
        let failed = read(&archive, &unknown.locator, 0..1).expect_err("is told");
        assert_eq!(failed.kind(), ErrorKind::Internal);
    }
    assert_eq!(
        read(&archive, &known.locator, 0..u64::MAX).expect("is read"),
        bytes
    );
}

#[test]
fn no_key_is_ever_shown() {
    let list = keys("k", 0xAB);
    let archive = open_with(&(Arc::new(MemoryArchive::new()) as _), list.clone()).expect("opens");
    let shown = format!("{archive:?} {list:?} {:?}", list.current().expect("a key"));
    assert!(!shown.to_lowercase().contains("abab"), "{shown}");
}
