//! A copy of the archive's directory that is taken while instances come in is a backup: the index is made anew from
//! it, and whatever was acknowledged before the copy began is there.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use futures::executor::block_on;
use pacs_core::query::AttributeSet;
use pacs_core::testkit::engine::{instance, instance_uid};
use pacs_core::{Announced, Options, Pacs, Received, Result};
use pacs_store::{MemoryIndex, SegmentArchive, SegmentOptions};
use tempfile::TempDir;

const COPIES: usize = 8;
const SENDERS: u32 = 4;
/// Instances that come between one copy and the next, at least.
const BETWEEN: usize = 40;

fn open(directory: &Path) -> Arc<SegmentArchive> {
    // Instances from 100 on stream, and a segment is soon full.
    let options = SegmentOptions {
        segment_bytes: 30_000,
        inline_bytes: 1500,
        reserve_bytes: 0,
        ..SegmentOptions::default()
    };
    Arc::new(SegmentArchive::open(directory, options).expect("opens"))
}

async fn store(pacs: &Pacs, (announced, bytes): (Announced, Bytes)) -> Result<Received> {
    let mut receipt = pacs.receive(announced).await?;
    receipt.write(bytes).await?;
    receipt.commit().await
}

/// Instances of about 1,000 bytes, and every third of about 3,000.
fn numbered(sender: u32, number: u32) -> (Announced, Bytes) {
    let (announced, bytes) = instance(1, sender, number, 0);
    match number % 3 {
        // What trails behind a data set is kept as well.
        0 => (announced, [bytes, vec![0; 2000].into()].concat().into()),
        _ => (announced, bytes),
    }
}

/// The segments alone, as they are found: the hint is told to be left out.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("segments")).expect("is made");
    for entry in fs::read_dir(from.join("segments")).expect("is listed") {
        let path = entry.expect("is listed").path();
        let name = path.file_name().expect("a file");
        fs::copy(&path, to.join("segments").join(name)).expect("is copied");
    }
}

/// Lets the senders end, also where a copy fails.
struct Enough<'a>(&'a AtomicBool);

impl Drop for Enough<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_copy_taken_while_instances_come_has_all_that_was_acknowledged_before() {
    let (directory, copies) = (
        TempDir::new().expect("a directory"),
        TempDir::new().expect("a directory"),
    );
    let archive = open(directory.path());
    let pacs = block_on(Pacs::open(
        archive,
        Arc::new(MemoryIndex::new()),
        Options::default(),
    ));
    let pacs = pacs.expect("opens");
    let (acknowledged, more) = (Mutex::new(Vec::new()), Condvar::new());
    let done = AtomicBool::new(false);
    let next = AtomicU32::new(0);
    let known = |least: usize| {
        let known = acknowledged.lock().expect("nobody panics");
        let known = more.wait_while(known, |known: &mut Vec<_>| known.len() < least);
        known.expect("nobody panics").clone()
    };
    let taken: Vec<_> = std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (pacs, acknowledged, more) = (&pacs, &acknowledged, &more);
            let (done, next) = (&done, &next);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    block_on(store(pacs, numbered(sender, number))).expect("is kept");
                    let mut acknowledged = acknowledged.lock().expect("nobody panics");
                    acknowledged.push(instance_uid(1, sender, number));
                    more.notify_all();
                }
            });
        }
        let _enough = Enough(&done);
        let take = |at: usize| {
            let before = known((at + 1) * BETWEEN);
            let to = copies.path().join(at.to_string());
            copy(directory.path(), &to);
            (to, before)
        };
        (0..COPIES).map(take).collect()
    });
    for (path, before) in taken {
        let (archive, index) = (open(&path), Arc::new(MemoryIndex::new()));
        assert_eq!(archive.statistics().damaged_segments, 0);
        let attributes = AttributeSet::default();
        let rebuilt = Pacs::rebuild_index(&*archive, &*index, &attributes);
        assert_eq!(block_on(rebuilt).expect("is rebuilt").unreadable, 0);
        let copied = block_on(Pacs::open(archive, index, Options::default())).expect("opens");
        for instance in &before {
            assert!(block_on(copied.lookup(instance)).expect("is looked up").is_some());
        }
        let verified = block_on(copied.verify(|_| ())).expect("is verified");
        assert_eq!(verified.damaged, []);
        assert!(verified.whole >= before.len() as u64);
    }
}
