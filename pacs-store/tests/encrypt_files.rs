//! Index and ledger in encrypted files: what stands in them, with which keys they open, and what a medium that fails
//! while one is made, taken over or given another key leaves of them.
//!
//! `PACS_FAULT_RUNS` sets the number of runs, `PACS_SEED` the first seed.

mod sealed;
mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::executor::block_on;
use pacs_core::testkit::random::Random;
use pacs_core::testkit::world;
use pacs_core::{Change, ErrorKind, Index, Ledger, Result, Sequence, Step};
use pacs_store::layers::encrypt::{FileKeys, KeyList};
use pacs_store::medium::{Faults, FaultyMedium, Loss, Medium, SystemMedium};
use pacs_store::{EncryptOptions, RedbIndex, RedbIndexOptions, RedbLedger};
use sealed::{keys, list};
use support::runs;

const NAME: &str = "Garbo^Greta";
const ID: &str = "PATIENT-ID-4711";

fn file_keys(keys: KeyList, plain_too: bool) -> Arc<FileKeys> {
    let mut options = EncryptOptions::default();
    options.plain_too = plain_too;
    Arc::new(FileKeys::new(Arc::new(keys), options).expect("there is a key"))
}

fn put(ledger: &RedbLedger, key: &'static str, value: &'static str) -> Result<()> {
    let step = Step::Put(
        Bytes::from_static(key.as_bytes()),
        Bytes::from_static(value.as_bytes()),
    );
    block_on(ledger.apply(vec![step])).map(drop)
}

fn get(ledger: &RedbLedger, key: &str) -> Option<Bytes> {
    block_on(ledger.get(key.as_bytes())).expect("is read")
}

/// Files with a patient in them, closed. Tells the UID of the study as the index writes it: two characters a byte.
fn fill(directory: &Path, keys: Option<&Arc<FileKeys>>) -> Vec<u8> {
    let (index, ledger) = (directory.join("index.redb"), directory.join("ledger.redb"));
    let options = RedbIndexOptions::default();
    let (index, ledger) = match keys {
        Some(keys) => (
            RedbIndex::open_encrypted(index, Arc::clone(keys), options),
            RedbLedger::open_encrypted(ledger, Arc::clone(keys)),
        ),
        None => (RedbIndex::open(index, options), RedbLedger::open(ledger)),
    };
    let (index, ledger) = (index.expect("opens"), ledger.expect("opens"));
    let mut record = world::any_record(&mut Random::new(1), 1);
    record
        .attributes
        .patient
        .put_text(tags::PATIENT_NAME, VR::PN, NAME);
    record.attributes.patient.put_text(tags::PATIENT_ID, VR::LO, ID);
    let nibble = |byte: &u8| if *byte == b'.' { 11 } else { byte - b'0' + 1 };
    let pairs = record.key.study.as_str().as_bytes().chunks_exact(2);
    let uid = pairs
        .map(|pair| nibble(&pair[0]) << 4 | nibble(&pair[1]))
        .collect();
    block_on(index.apply(vec![Change::Store(Box::new(record))], Sequence(1))).expect("is applied");
    block_on(index.flush()).expect("is flushed");
    put(&ledger, "a step", NAME).expect("is put");
    uid
}

fn stands_in(path: &Path, text: &[u8]) -> bool {
    let bytes = fs::read(path).expect("is read");
    bytes.windows(text.len()).any(|window| window == text)
}

/// What is to be found in a file where it is plain.
fn traces(uid: &[u8]) -> [(&'static str, &[u8]); 5] {
    [
        ("index.redb", NAME.as_bytes()),
        // As it is searched.
        ("index.redb", b"garbo^greta"),
        ("index.redb", ID.as_bytes()),
        ("index.redb", uid),
        ("ledger.redb", NAME.as_bytes()),
    ]
}

#[test]
fn no_name_id_or_uid_stands_in_the_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let (plain, sealed) = (directory.path().join("plain"), directory.path().join("sealed"));
    for place in [&plain, &sealed] {
        fs::create_dir(place).expect("is made");
    }
    let uid = fill(&plain, None);
    fill(&sealed, Some(&file_keys(keys("k", 7), false)));
    for (file, text) in traces(&uid) {
        assert!(stands_in(&plain.join(file), text), "{file} {text:?}");
        assert!(!stands_in(&sealed.join(file), text), "{file} {text:?}");
    }
    // Nor what a text is made of: of a plain file most blocks repeat, of an encrypted one none does.
    let blocks = |path: &Path| {
        let bytes = fs::read(path).expect("is read");
        let written = bytes[3 * 4096..]
            .chunks_exact(16)
            .filter(|block| **block != [0; 16]);
        let mut blocks: Vec<Vec<u8>> = written.map(<[u8]>::to_vec).collect();
        let count = blocks.len();
        blocks.sort();
        blocks.dedup();
        (count, blocks.len())
    };
    let (all, different) = blocks(&sealed.join("index.redb"));
    assert_eq!(all, different);
    let (all, different) = blocks(&plain.join("index.redb"));
    assert!(all > different);
}

#[test]
fn a_file_opens_with_its_key_alone_and_a_second_opening_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ledger.redb");
    let open = |keys: KeyList| RedbLedger::open_encrypted(&path, file_keys(keys, false));
    let ledger = open(keys("k", 7)).expect("is made");
    put(&ledger, "a", "1").expect("is put");
    let busy = open(keys("k", 7)).expect_err("is refused");
    assert_eq!(busy.kind(), ErrorKind::AlreadyExists, "{busy}");
    drop(ledger);
    for (other, said) in [
        (keys("k", 8), "the key k is not the one"),
        (keys("l", 7), "the key k is missing"),
    ] {
        let refused = open(other).expect_err("is refused");
        assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
        assert!(refused.to_string().contains(said), "{refused}");
    }
    // An index tells who opens it as a plain one.
    let index = directory.path().join("index.redb");
    let keys = file_keys(keys("k", 7), false);
    drop(RedbIndex::open_encrypted(&index, keys, RedbIndexOptions::default()).expect("is made"));
    let refused = RedbIndex::open(&index, RedbIndexOptions::default()).expect_err("is refused");
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    assert!(refused.to_string().contains("is encrypted"), "{refused}");
}

#[test]
fn after_a_rotation_the_older_key_is_needed_once_and_what_is_kept_is_not_written_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ledger.redb");
    let open = |keys: KeyList| RedbLedger::open_encrypted(&path, file_keys(keys, false));
    put(&open(keys("old", 7)).expect("is made"), "a", "1").expect("is put");
    let front = |path: &Path| fs::read(path).expect("is read")[..8192].to_vec();
    let before = front(&path);
    drop(open(list([("new", 8), ("old", 7)])).expect("opens"));
    assert_ne!(front(&path), before);
    let again = front(&path);
    let ledger = open(keys("new", 8)).expect("opens with the new key alone");
    assert_eq!(get(&ledger, "a"), Some(Bytes::from_static(b"1")));
    drop(ledger);
    assert!(front(&path) == again, "nothing is wrapped anew without need");
    let refused = open(keys("old", 7)).expect_err("is refused");
    assert!(
        refused.to_string().contains("the key new is missing"),
        "{refused}"
    );
}

#[test]
fn one_damaged_copy_of_the_header_is_mended_and_two_are_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ledger.redb");
    let open = || RedbLedger::open_encrypted(&path, file_keys(keys("k", 7), false));
    put(&open().expect("is made"), "a", "1").expect("is put");
    let damage = |at: usize| {
        let mut bytes = fs::read(&path).expect("is read");
        bytes[at] ^= 1;
        fs::write(&path, bytes).expect("is written");
    };
    // Magic number, key and checksum of either copy.
    for at in [0, 70, 127, 4096, 4096 + 70, 4096 + 127] {
        damage(at);
        assert_eq!(get(&open().expect("opens"), "a"), Some(Bytes::from_static(b"1")));
        let bytes = fs::read(&path).expect("is read");
        assert!(bytes[..128] == bytes[4096..4096 + 128], "it is mended");
    }
    damage(70);
    damage(4096 + 70);
    assert_eq!(open().expect_err("is refused").kind(), ErrorKind::Corrupt);
}

#[test]
fn what_is_plain_is_refused_and_is_encrypted_where_that_is_set() {
    let directory = tempfile::tempdir().expect("a directory");
    let uid = fill(directory.path(), None);
    let (index, ledger) = (
        directory.path().join("index.redb"),
        directory.path().join("ledger.redb"),
    );
    let options = RedbIndexOptions::default();
    let before = fs::read(&ledger).expect("is read");
    let strict = file_keys(keys("k", 7), false);
    let refused = [
        RedbLedger::open_encrypted(&ledger, Arc::clone(&strict)).expect_err("is refused"),
        RedbIndex::open_encrypted(&index, Arc::clone(&strict), options).expect_err("is refused"),
    ];
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(
            error.to_string().contains("before encryption was switched on"),
            "{error}"
        );
    }
    assert!(fs::read(&ledger).expect("is read") == before);
    let both = file_keys(keys("k", 7), true);
    // What an attempt left that was broken off is no obstacle.
    fs::write(directory.path().join("ledger.redb.encrypting"), "half").expect("is written");
    drop(RedbLedger::open_encrypted(&ledger, Arc::clone(&both)).expect("is taken over"));
    drop(RedbIndex::open_encrypted(&index, both, options).expect("is taken over"));
    let names = fs::read_dir(directory.path()).expect("is listed");
    assert_eq!(names.count(), 2);
    for (file, text) in traces(&uid) {
        assert!(!stands_in(&directory.path().join(file), text), "{file} {text:?}");
    }
    let opened = RedbLedger::open_encrypted(&ledger, Arc::clone(&strict)).expect("opens");
    assert_eq!(get(&opened, "a step"), Some(Bytes::from_static(NAME.as_bytes())));
    let opened = RedbIndex::open_encrypted(&index, strict, options).expect("opens");
    assert_eq!(block_on(opened.totals()).expect("is told").instances, 1);
}

/// What becomes of a ledger whose medium dies while it is made, taken over or given another key.
#[test]
fn a_ledger_is_whole_whatever_happens_while_it_is_made_taken_over_or_given_another_key() {
    const ENTRIES: [(&str, &str); 3] = [("a", "1"), ("b", "2"), ("c", "3")];
    runs(200, |seed| {
        let mut random = Random::new(seed);
        let mut medium = FaultyMedium::new(random.bits());
        let open = |medium: &FaultyMedium, keys: Option<&Arc<FileKeys>>| {
            let medium = Arc::new(medium.clone());
            match keys {
                Some(keys) => RedbLedger::open_encrypted_on(medium, "ledger.redb", Arc::clone(keys)),
                None => RedbLedger::open_on(medium, "ledger.redb"),
            }
        };
        let old = file_keys(keys("old", 7), true);
        let new = file_keys(list([("new", 8), ("old", 7)]), true);
        // It begins plain, encrypted by the older key, or not at all.
        let kind = random.below(3);
        let mut kept = 0;
        if kind < 2 {
            let ledger = open(&medium, (kind == 1).then_some(&old)).expect("is made");
            for (key, value) in ENTRIES {
                put(&ledger, key, value).expect("is put");
            }
            kept = ENTRIES.len();
        }
        for _ in 0..1 + random.below(4) {
            let faults = match random.below(3) {
                0 => Faults {
                    stop_after: Some(random.below(20)),
                    ..Faults::default()
                },
                _ => support::any_faults(&mut random),
            };
            medium.set_faults(faults);
            let ledger = open(&medium, Some(&new));
            if let Ok(ledger) = &ledger {
                for (key, value) in &ENTRIES[kept..] {
                    if put(ledger, key, value).is_err() {
                        break;
                    }
                    kept += 1;
                }
            }
            let loss = *random.pick(&[Loss::Machine, Loss::Machine, Loss::Process]);
            medium = medium.crash(loss);
        }
        let ledger = open(&medium, Some(&new)).expect("opens on a sound medium");
        for (key, value) in &ENTRIES[..kept] {
            assert_eq!(get(&ledger, key).as_deref(), Some(value.as_bytes()), "{key}");
        }
        drop(ledger);
        let file = medium.open(Path::new("ledger.redb")).expect("is there");
        let mut start = [0; 8];
        assert_eq!(file.read_at(&mut start, 0).expect("is read"), 8);
        assert!(start.ends_with(b"PACSxts"));
        let newest = file_keys(keys("new", 8), false);
        open(&medium, Some(&newest)).expect("the older key is not needed any more");
    });
}

#[test]
fn a_medium_of_the_system_serves_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let medium = Arc::new(SystemMedium::open(directory.path()).expect("opens"));
    let keys = file_keys(keys("k", 7), false);
    for _ in 0..2 {
        let ledger = RedbLedger::open_encrypted_on(medium.clone(), "ledger.redb", Arc::clone(&keys));
        put(&ledger.expect("opens"), "a", "1").expect("is put");
    }
}
