//! Segment files that somebody shortened from outside: what is left of them stays as it is, is still read, and
//! the loss is told.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt};
use pacs_core::testkit::engine::instance_uid;
use pacs_core::{Archive, Entry, ErrorKind, InstanceKey, Locator, Sequence, Stored, Uid};
use pacs_store::{SegmentArchive, SegmentOptions};
use tempfile::TempDir;

const PAYLOAD_BYTES: usize = 3000;

/// A few instances to a segment; `inline_bytes` decides whether they stream into segments of their own.
fn open(directory: &Path, inline_bytes: usize) -> SegmentArchive {
    let options = SegmentOptions {
        segment_bytes: 20_000,
        inline_bytes,
        reserve_bytes: 0,
        ..SegmentOptions::default()
    };
    SegmentArchive::open(directory, options).expect("opens")
}

const SHARED: usize = 1 << 20;
const STREAMED: usize = 0;

fn payload(number: u32) -> Bytes {
    vec![number as u8; PAYLOAD_BYTES].into()
}

fn store(archive: &SegmentArchive, number: u32) -> Stored {
    let uid = |text| Uid::parse(text).expect("digits and dots");
    let key = InstanceKey {
        study: uid("1.2"),
        series: uid("1.2.3"),
        instance: instance_uid(1, 1, number),
    };
    block_on(async {
        let mut writer = archive.begin().await?;
        writer.write(payload(number)).await?;
        writer.commit(key).await
    })
    .expect("is kept")
}

fn read(archive: &SegmentArchive, locator: &Locator) -> pacs_core::Result<Bytes> {
    let pieces: Vec<Bytes> = block_on(archive.read(locator, 0..u64::MAX).try_collect())?;
    Ok(pieces.concat().into())
}

/// The locators that a scan tells.
fn scanned(archive: &SegmentArchive) -> Vec<Locator> {
    let entries = block_on(archive.scan(Sequence(0)).collect::<Vec<_>>());
    let stored = entries
        .into_iter()
        .filter_map(|entry| match entry.expect("is read") {
            Entry::Stored(_, stored) => Some(stored.locator),
            Entry::Removed { .. } => None,
        });
    stored.collect()
}

/// Every segment file with its bytes.
fn segments(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(directory.join("segments")).expect("is listed");
    let paths = entries.map(|entry| entry.expect("is listed").path());
    paths
        .map(|path| (path.clone(), fs::read(path).expect("is read")))
        .collect()
}

fn shorten(path: &Path, length: u64) {
    let file = OpenOptions::new().write(true).open(path).expect("is opened");
    file.set_len(length).expect("is shortened");
}

/// Instances over several segments, all of them indexed, and closed; which segment holds each is in the first
/// bytes of its locator.
fn filled(directory: &Path, inline_bytes: usize) -> Vec<Stored> {
    let archive = open(directory, inline_bytes);
    let stored: Vec<Stored> = (0..20).map(|number| store(&archive, number)).collect();
    block_on(archive.indexed(stored[19].sequence)).expect("is noted");
    stored
}

fn is_in(stored: &Stored, path: &Path) -> bool {
    let id = u64::from_be_bytes(*stored.locator.as_bytes().first_chunk().expect("a locator"));
    path.file_name() == Some(format!("{id:08}.seg").as_ref())
}

/// The file that only its size tells from a whole one is the same after opening, storing and closing.
fn stays_as_it_is(inline_bytes: usize, which: fn(&[PathBuf]) -> PathBuf) {
    let directory = TempDir::new().expect("a temporary directory");
    let stored = filled(directory.path(), inline_bytes);
    let paths: Vec<PathBuf> = segments(directory.path()).into_keys().collect();
    assert!(paths.len() > 2, "{paths:?}");
    let path = which(&paths);
    let whole = fs::read(&path).expect("is read");
    // Within the second record.
    shorten(&path, 64 + PAYLOAD_BYTES as u64 + 264 + 1000);
    let left = segments(directory.path());

    for round in 0..2 {
        let archive = open(directory.path(), inline_bytes);
        assert_eq!(archive.statistics().damaged_segments, 1);
        assert!(
            segments(directory.path())[&path] == left[&path],
            "opening {round}"
        );
        let mut whole = Vec::new();
        let mut in_it = 0;
        for (number, one) in (0..).zip(&stored) {
            let read = read(&archive, &one.locator);
            in_it += u32::from(is_in(one, &path));
            if is_in(one, &path) && in_it > 1 {
                assert_eq!(read.expect_err("is lost").kind(), ErrorKind::Corrupt, "{number}");
            } else {
                assert_eq!(read.expect("is read"), payload(number), "{number}");
                whole.push(one.locator.clone());
            }
        }
        let news = store(&archive, 100 + round);
        assert!(!is_in(&news, &path));
        assert!(news.sequence > stored[19].sequence);
        assert_eq!(
            read(&archive, &news.locator).expect("is read"),
            payload(100 + round)
        );
        let found = scanned(&archive);
        assert!(whole.iter().all(|locator| found.contains(locator)));
        assert_eq!(found.len(), whole.len() + 1 + round as usize);
        block_on(archive.indexed(news.sequence)).expect("is noted");
        drop(archive);
        assert!(
            segments(directory.path())[&path] == left[&path],
            "closing {round}"
        );
    }

    // Put back, it is as it was.
    fs::write(&path, whole).expect("is written");
    let archive = open(directory.path(), inline_bytes);
    assert_eq!(archive.statistics().damaged_segments, 0);
    for (number, one) in (0..).zip(&stored) {
        assert_eq!(read(&archive, &one.locator).expect("is read"), payload(number));
    }
    assert_eq!(scanned(&archive).len(), 22);
}

#[test]
fn a_shortened_segment_is_not_shortened_further_and_its_loss_is_an_error_of_what_is_lost_alone() {
    stays_as_it_is(SHARED, |paths| paths[0].clone());
}

#[test]
fn nothing_is_appended_to_a_shortened_last_segment() {
    stays_as_it_is(SHARED, |paths| paths[paths.len() - 1].clone());
}

#[test]
fn a_shortened_segment_of_streams_is_not_shortened_further() {
    stays_as_it_is(STREAMED, |paths| paths[0].clone());
}

#[test]
fn a_segment_that_was_shortened_to_nothing_is_not_made_anew() {
    let directory = TempDir::new().expect("a temporary directory");
    let stored = filled(directory.path(), SHARED);
    let path = segments(directory.path()).into_keys().next().expect("a segment");
    shorten(&path, 0);
    let archive = open(directory.path(), SHARED);
    assert_eq!(fs::metadata(&path).expect("is there").len(), 0);
    let lost = stored.iter().filter(|one| is_in(one, &path));
    for one in lost {
        let error = read(&archive, &one.locator).expect_err("is lost");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn without_the_hint_a_segment_that_others_follow_is_not_shortened_either() {
    let directory = TempDir::new().expect("a temporary directory");
    let stored = filled(directory.path(), SHARED);
    let paths: Vec<PathBuf> = segments(directory.path()).into_keys().collect();
    shorten(&paths[1], 64 + PAYLOAD_BYTES as u64 + 264 + 1000);
    let left = segments(directory.path());
    let lost = stored.iter().filter(|one| is_in(one, &paths[1])).count() - 1;
    for round in 0..2 {
        if round == 0 {
            fs::remove_file(directory.path().join("hint")).expect("is removed");
        }
        let archive = open(directory.path(), SHARED);
        assert_eq!(archive.statistics().damaged_segments, 1);
        assert_eq!(scanned(&archive).len(), 20 - lost + round as usize);
        let news = store(&archive, 100 + round);
        assert!(!paths[..paths.len() - 1].iter().any(|path| is_in(&news, path)));
        block_on(archive.indexed(news.sequence)).expect("is noted");
        drop(archive);
        let now = segments(directory.path());
        for path in &paths[..paths.len() - 1] {
            assert!(now[path] == left[path], "{}", path.display());
        }
    }
    let archive = open(directory.path(), SHARED);
    assert_eq!(read(&archive, &stored[0].locator).expect("is read"), payload(0));
}

#[test]
fn a_sequence_that_was_lost_with_a_segment_is_not_given_again() {
    let directory = TempDir::new().expect("a temporary directory");
    let archive = open(directory.path(), SHARED);
    let stored: Vec<Stored> = (0..20).map(|number| store(&archive, number)).collect();
    // An index knows more than it said, and then the process dies.
    block_on(archive.indexed(stored[2].sequence)).expect("is noted");
    drop(archive);
    let paths: Vec<PathBuf> = segments(directory.path()).into_keys().collect();
    shorten(&paths[paths.len() - 1], 100);
    fs::remove_file(&paths[paths.len() - 2]).expect("is removed");
    let archive = open(directory.path(), SHARED);
    assert!(store(&archive, 100).sequence > stored[19].sequence);
}

#[test]
fn what_was_removed_from_a_lost_segment_removes_nothing_from_one_that_is_made_later() {
    for hint_is_there in [false, true] {
        let directory = TempDir::new().expect("a temporary directory");
        let archive = open(directory.path(), SHARED);
        store(&archive, 0);
        drop(archive);
        let archive = open(directory.path(), STREAMED);
        let removed = store(&archive, 1);
        block_on(archive.remove(&instance_uid(1, 1, 1), &removed.locator)).expect("is removed");
        if hint_is_there {
            block_on(archive.indexed(removed.sequence)).expect("is noted");
        }
        drop(archive);
        let lost = segments(directory.path()).into_keys().next_back();
        let lost = lost.filter(|path| is_in(&removed, path));
        let lost = lost.expect("it is in the last one");
        fs::remove_file(&lost).expect("is removed");

        // An opening that stores nothing, and closes as an engine does.
        let archive = open(directory.path(), STREAMED);
        block_on(archive.indexed(removed.sequence)).expect("is noted");
        drop(archive);
        let kept = store(&open(directory.path(), STREAMED), 2);
        assert!(!is_in(&kept, &lost));
        fs::remove_file(directory.path().join("hint")).expect("is removed");
        let archive = open(directory.path(), STREAMED);
        let bytes = read(&archive, &kept.locator);
        assert_eq!(bytes.expect("is kept"), payload(2), "{hint_is_there}");
    }
}
