use std::os::unix::fs::PermissionsExt;

use bytes::Bytes;
use pacs_core::route::{Delivery, Occasion, Outcome, Progress, What};
use pacs_core::{Options, Step, Uid};
use tempfile::TempDir;

use super::super::tests::{contents, keep_all, settings};
use super::super::{ArchiveKind, Encryption};
use super::*;
use crate::layers::encrypt::KeyFile;

fn directory(place: &TempDir, name: &str) -> BackupPlace {
    BackupPlace {
        directory: Some(place.path().join(name)),
        objects: None,
    }
}

fn open(settings: &Settings) -> Store {
    Store::open_or_make(settings, Options::default()).expect("opens")
}

fn at(place: &TempDir, name: &str) -> Settings {
    settings(&place.path().join(name), ArchiveKind::Segment)
}

#[test]
fn a_store_is_what_it_was_at_each_moment_also_where_it_is_encrypted() {
    for is_encrypted in [false, true] {
        let place = tempfile::tempdir().expect("a directory");
        let mut here = at(&place, "data");
        if is_encrypted {
            KeyFile::new(place.path().join("keys")).add().expect("is made");
            here.encryption = Some(Encryption {
                key_file: Some(place.path().join("keys")),
                ..Encryption::default()
            });
        }
        let backup = directory(&place, "backup");
        let (key, value) = (Bytes::from_static(b"key"), Bytes::from_static(b"value"));
        let [first, second] = {
            let store = open(&here);
            keep_all(&store, 0..20);
            fs::write(here.data.join("users"), "somebody").expect("is written");
            let ledger = store.pacs.ledger().expect("there is one");
            block_on(ledger.apply(vec![Step::Put(key.clone(), value.clone())])).expect("is applied");
            let first = block_on(store.back_up(&backup, &["users", "none"])).expect("is made");
            assert_eq!((first.number, first.instances), (1, 20));
            let first = (first.at, contents(&store), Some(value.clone()));
            assert!(block_on(store.pacs.remove(&Uid::constant("1.2.3.7"))).expect("is removed"));
            keep_all(&store, 20..25);
            block_on(ledger.apply(vec![Step::Delete(key.clone())])).expect("is applied");
            while Timestamp::now() <= first.0 {}
            let second = block_on(store.back_up(&backup, &["users"])).expect("is made");
            assert_eq!((second.number, second.instances, second.removed), (2, 5, 1));
            [first, (second.at, contents(&store), None)]
        };
        fs::remove_dir_all(&here.data).expect("is removed");
        for ((at, expected, value), moment) in [(&first, Some(first.0)), (&second, None)] {
            let (increment, restored) = Store::restore(&here, &backup, moment, |_| ()).expect("is restored");
            assert_eq!(increment.at, *at);
            assert_eq!((restored.instances, restored.damaged), (expected.len() as u64, 0));
            let users = here.data.join("users");
            assert_eq!(fs::read(&users).expect("is read"), b"somebody");
            let mode = fs::metadata(&users).expect("is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let store = open(&here);
            assert_eq!(contents(&store), *expected);
            let found = block_on(store.pacs.ledger().expect("there is one").get(&key));
            assert_eq!(found.expect("is read"), *value);
            // It is another archive now.
            let refused = block_on(store.back_up(&backup, &[])).expect_err("is refused");
            assert_eq!(refused.kind(), ErrorKind::Mismatch);
            drop(store);
            fs::remove_dir_all(&here.data).expect("is removed");
        }
        assert_eq!(backup.increments().expect("are read").len(), 2);
        assert_eq!(backup.verify(|_| ()).expect("is verified").damaged, 0);
    }
}

#[test]
fn a_backup_that_is_away_is_not_begun_anew_where_it_was_and_none_of_another_archive_is_taken() {
    let place = tempfile::tempdir().expect("a directory");
    let (here, backup) = (at(&place, "data"), directory(&place, "backup"));
    let store = open(&here);
    keep_all(&store, 0..3);
    block_on(store.back_up(&backup, &[])).expect("is made");
    let refused = |store: &Store, backup: &BackupPlace| {
        block_on(store.back_up(backup, &[]))
            .expect_err("is refused")
            .kind()
    };
    // As when its disk isn't mounted, before and after a directory is made for it.
    let (is, was) = (place.path().join("backup"), place.path().join("elsewhere"));
    fs::rename(&is, &was).expect("is moved");
    assert_eq!(refused(&store, &backup), ErrorKind::NotFound);
    fs::create_dir(&is).expect("is made");
    assert_eq!(refused(&store, &backup), ErrorKind::NotFound);
    assert_eq!(fs::read_dir(&is).expect("is read").count(), 0);
    fs::remove_dir(&is).expect("is removed");
    fs::rename(&was, &is).expect("is moved");
    keep_all(&store, 3..4);
    let again = block_on(store.back_up(&backup, &[])).expect("is made");
    assert_eq!((again.number, again.instances), (2, 1));
    // Also where all that is known here is lost.
    fs::remove_dir_all(here.data.join(KNOWN)).expect("is removed");
    assert_eq!(refused(&store, &backup), ErrorKind::Mismatch);
    let other = open(&at(&place, "other"));
    assert_eq!(refused(&other, &backup), ErrorKind::Mismatch);
    // An archive is no backup, and what is inside the data directory would be lost with it.
    drop(other);
    assert_eq!(refused(&store, &directory(&place, "other")), ErrorKind::Mismatch);
    let full = place.path().join("full");
    fs::create_dir(&full).expect("is made");
    fs::write(full.join("file"), "").expect("is written");
    assert_eq!(refused(&store, &directory(&place, "full")), ErrorKind::Mismatch);
    assert_eq!(
        refused(&store, &directory(&place, "data/backup-here")),
        ErrorKind::Invalid
    );
    assert_eq!(
        refused(&store, &directory(&place, "no/such/place")),
        ErrorKind::Invalid
    );
    assert_eq!(refused(&store, &BackupPlace::default()), ErrorKind::Invalid);
}

#[test]
fn nothing_is_restored_over_what_is_there_and_what_is_half_restored_is_not_opened() {
    let place = tempfile::tempdir().expect("a directory");
    let (here, backup) = (at(&place, "data"), directory(&place, "backup"));
    let store = open(&here);
    keep_all(&store, 0..3);
    block_on(store.back_up(&backup, &[])).expect("is made");
    drop(store);
    let kind = |settings: &Settings, from: &BackupPlace, at| {
        let restored = Store::restore(settings, from, at, |_| ());
        restored.map(drop).expect_err("is refused").kind()
    };
    assert_eq!(kind(&here, &backup, None), ErrorKind::Mismatch);
    let there = at(&place, "there");
    assert_eq!(kind(&there, &backup, Some(Timestamp(1))), ErrorKind::NotFound);
    assert_eq!(
        kind(&there, &directory(&place, "nowhere"), None),
        ErrorKind::NotFound
    );
    assert!(!there.data.exists());
    Store::restore(&there, &backup, None, |_| ()).expect("is restored");
    fs::write(there.data.join(RESTORING), "").expect("is written");
    let refused = Store::open_or_make(&there, Options::default()).map(drop);
    assert_eq!(refused.expect_err("is refused").kind(), ErrorKind::Refused);
}

#[cfg(feature = "object")]
#[test]
fn a_backup_in_an_object_store_is_restored_into_another_and_what_is_there_is_left_alone() {
    let place = tempfile::tempdir().expect("a directory");
    let objects = |name: &str| {
        fs::create_dir_all(place.path().join(name)).expect("is made");
        ObjectLocation::at(format!("file://{}", place.path().join(name).display()))
    };
    let with = |data: &str, name: &str| Settings {
        objects: Some(objects(name)),
        ..at(&place, data)
    };
    let backup = BackupPlace {
        directory: None,
        objects: Some(objects("backup")),
    };
    // Before there is any, and nothing comes of that.
    assert_eq!(
        backup.increments().expect_err("is none").kind(),
        ErrorKind::NotFound
    );
    let here = with("data", "archive");
    let store = open(&here);
    keep_all(&store, 0..5);
    for number in 1..3 {
        let increment = block_on(store.back_up(&backup, &[])).expect("is made");
        assert_eq!(increment.number, number);
        assert_eq!(backup.increments().expect("are read").len() as u64, number);
    }
    let taken = Store::restore(&with("there", "archive"), &backup, None, |_| ());
    assert_eq!(
        taken.map(drop).expect_err("is refused").kind(),
        ErrorKind::Mismatch
    );
    // Whose it is goes on.
    keep_all(&store, 5..6);
    let there = with("elsewhere", "other");
    Store::restore(&there, &backup, None, |_| ()).expect("is restored");
    assert_eq!(contents(&open(&there)).len(), 5);
}

#[test]
fn a_version_that_comes_after_a_restore_is_delivered_as_any_later_one() {
    let place = tempfile::tempdir().expect("a directory");
    let (here, backup) = (at(&place, "data"), directory(&place, "backup"));
    let routed = || {
        let router = |_: &Occasion<'_>| Ok(vec![Delivery::to("ELSEWHERE")]);
        let options = Options {
            router: Some(Arc::new(router)),
            ..Options::default()
        };
        Store::open_or_make(&here, options).expect("opens")
    };
    let deliver = |store: &Store| {
        let outbox = store.pacs.outbox().expect("there is one");
        let destination = Arc::from("ELSEWHERE");
        loop {
            let line = block_on(outbox.claim(&destination, Timestamp::now())).expect("is asked");
            let Some(line) = line else {
                continue;
            };
            let waiting = block_on(line.waiting(100)).expect("is read");
            let ended = waiting
                .into_iter()
                .map(|one| (one, Outcome::Delivered(String::new())));
            block_on(line.finish(ended.collect())).expect("is noted");
            block_on(line.let_go(None)).expect("is let go");
            return;
        }
    };
    {
        let store = routed();
        // Far up in the order of this archive.
        keep_all(&store, 0..30);
        let recorded = || {
            let what = What::Instance(Uid::constant("1.2.3.29"));
            let outbox = store.pacs.outbox().expect("there is one");
            block_on(outbox.recorded("ELSEWHERE", &what)).expect("is read")
        };
        while recorded().is_none_or(|recorded| recorded.progress != Progress::Done) {
            deliver(&store);
        }
        for number in 0..29 {
            let uid = Uid::parse(&format!("1.2.3.{number}")).expect("is one");
            assert!(block_on(store.pacs.remove(&uid)).expect("is removed"));
        }
        block_on(store.back_up(&backup, &[])).expect("is made");
    }
    fs::remove_dir_all(&here.data).expect("is removed");
    Store::restore(&here, &backup, None, |_| ()).expect("is restored");
    let store = routed();
    let (what, mut later) = (
        What::Instance(Uid::constant("1.2.3.29")),
        super::super::tests::data_set(29),
    );
    later.put_text(pacs_core::tags::PATIENT_ID, pacs_core::VR::LO, "later");
    let pieces = stream::iter([Ok(super::super::tests::encoded(&later))]);
    block_on(store.pacs.import(pacs_core::Source::default(), pieces)).expect("is kept");
    // Asked about in the order of the archive.
    keep_all(&store, 50..51);
    let recorded = |what: &What| {
        let outbox = store.pacs.outbox().expect("there is one");
        block_on(outbox.recorded("ELSEWHERE", what)).expect("is read")
    };
    let last = What::Instance(Uid::constant("1.2.3.50"));
    while recorded(&last).is_none() {}
    assert_eq!(recorded(&what).expect("it was").progress, Progress::Waiting);
}
