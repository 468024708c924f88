//! An archive with a second copy keeps every promise of an archive, and gives what either copy has.

mod sealed;

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use futures::channel::oneshot;
use futures::executor::block_on;
use futures::future::{BoxFuture, Shared};
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use pacs_core::testkit::archive::{ArchivePlace, begin, key, part10};
use pacs_core::testkit::around::Around;
use pacs_core::{
    Archive, ArchiveCapability, ArchiveWriter, Entry, Error, ErrorKind, InstanceKey, Ledger, Locator, Result,
    Sequence, Stored, Uid, archive_conformance,
};
use pacs_store::{
    FolderArchive, FolderOptions, MemoryArchive, MemoryLedger, RedbLedger, ReplicateMode, ReplicateOptions,
    ReplicatedArchive, SegmentArchive, SegmentOptions,
};
use sealed::{keys, open_with};
use tempfile::TempDir;

fn options(mode: ReplicateMode) -> ReplicateOptions {
    let mut options = ReplicateOptions::default();
    options.mode = mode;
    options
}

fn segment(path: &Path) -> SegmentArchive {
    // Room on the machine that tests is not what is tested.
    let options = SegmentOptions {
        reserve_bytes: 0,
        ..SegmentOptions::default()
    };
    SegmentArchive::open(path, options).expect("opens")
}

fn around(inside: Arc<dyn Archive>) -> Arc<dyn Archive> {
    Arc::new(open_with(&inside, keys("k", 7)).expect("opens"))
}

/// Two segment archives and their notes, in a directory that lives as long as the test.
struct Pair {
    directory: TempDir,
    mode: ReplicateMode,
    /// Which one is damaged.
    damaged: &'static str,
    opened: Mutex<Weak<ReplicatedArchive>>,
    /// What the second opening finds.
    is_away: Arc<AtomicBool>,
}

impl Pair {
    fn new(mode: ReplicateMode, damaged: &'static str) -> Self {
        Self {
            directory: TempDir::new().expect("a temporary directory"),
            mode,
            damaged,
            opened: Mutex::default(),
            is_away: Arc::default(),
        }
    }

    fn path(&self, of: &str) -> PathBuf {
        self.directory.path().join(of)
    }

    fn notes(&self) -> Arc<dyn Ledger> {
        Arc::new(RedbLedger::open(self.path("copies.redb")).expect("opens"))
    }

    fn try_open(&self) -> Result<Arc<ReplicatedArchive>> {
        let (second, is_away) = (self.path("second"), Arc::clone(&self.is_away));
        let open_second = move || match is_away.load(Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::Io, "test.open", "away")),
            false => Ok(Arc::new(segment(&second)) as Arc<dyn Archive>),
        };
        let first = Arc::new(segment(&self.path("first")));
        let opened = ReplicatedArchive::open(first, Box::new(open_second), self.notes(), options(self.mode))?;
        let opened = Arc::new(opened);
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&opened);
        Ok(opened)
    }

    fn open_pair(&self) -> Arc<ReplicatedArchive> {
        self.try_open().expect("opens")
    }
}

impl ArchivePlace for Pair {
    fn open(&self) -> Arc<dyn Archive> {
        self.open_pair()
    }

    fn damage(&self, bytes: &Bytes) -> bool {
        let opened = self
            .opened
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .upgrade();
        block_on(opened.expect("is open").caught_up()).expect("is copied");
        flip(&self.path(self.damaged), bytes);
        true
    }
}

/// Changes one byte inside the one segment of `directory` where `bytes` stand.
fn flip(directory: &Path, bytes: &[u8]) {
    let mut found = 0;
    for path in segments(directory) {
        let content = std::fs::read(&path).expect("is read");
        if let Some(at) = content.windows(bytes.len()).position(|window| window == bytes) {
            let at = at + bytes.len() / 2;
            change(&path, at as u64, content[at] ^ 0x10);
            found += 1;
        }
    }
    assert_eq!(found, 1, "the bytes stand in one file");
}

fn change(path: &Path, at: u64, byte: u8) {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .expect("is opened");
    file.write_all_at(&[byte], at).expect("is written");
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory.join("segments")).expect("is listed");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("is listed").path()).collect();
    paths.sort();
    paths
}

archive_conformance!(later, Pair::new(ReplicateMode::Later, "first"));
archive_conformance!(while_present, Pair::new(ReplicateMode::WhilePresent, "second"));
archive_conformance!(always, Pair::new(ReplicateMode::Always, "first"));

archive_conformance!(in_memory, || {
    let open_second = || Ok(Arc::new(MemoryArchive::new()) as Arc<dyn Archive>);
    let (first, notes) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryLedger::new()));
    let opened = ReplicatedArchive::open(first, Box::new(open_second), notes, ReplicateOptions::default());
    opened.expect("opens")
});

/// Two encrypted copies.
struct EncryptedPair(Pair);

impl ArchivePlace for EncryptedPair {
    fn open(&self) -> Arc<dyn Archive> {
        around(self.0.open_pair())
    }
}

archive_conformance!(
    encrypted_around,
    EncryptedPair(Pair::new(ReplicateMode::WhilePresent, "first"))
);

archive_conformance!(around_encrypted, {
    let directory = TempDir::new().expect("a temporary directory");
    move || {
        let (first, second) = (directory.path().join("first"), directory.path().join("second"));
        let open_second = move || Ok(around(Arc::new(segment(&second))));
        let notes = RedbLedger::open(directory.path().join("copies.redb")).expect("opens");
        let opened = ReplicatedArchive::open(
            around(Arc::new(segment(&first))),
            Box::new(open_second),
            Arc::new(notes),
            options(ReplicateMode::Always),
        );
        opened.expect("opens")
    }
});

fn keep(archive: &dyn Archive, n: u64, filling: usize) -> Result<(InstanceKey, Bytes, Stored)> {
    let bytes = part10(&key(n), filling, n);
    let stored = block_on(async { begin(archive, &bytes, 16_000).await?.commit(key(n)).await })?;
    Ok((key(n), bytes, stored))
}

fn read(archive: &dyn Archive, locator: &Locator, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
    let pieces: Vec<Bytes> = block_on(archive.read(locator, range).try_collect())?;
    Ok(pieces.concat())
}

fn scan(archive: &dyn Archive) -> Vec<(InstanceKey, Stored)> {
    let entries: Vec<Entry> = block_on(archive.scan(Sequence(0)).try_collect()).expect("is scanned");
    let stored = |entry| match entry {
        Entry::Stored(key, stored) => Some((key, stored)),
        Entry::Removed { .. } => None,
    };
    entries.into_iter().filter_map(stored).collect()
}

/// The bytes of every instance, in order of its UID.
fn contents(archive: &dyn Archive) -> Vec<(InstanceKey, Vec<u8>)> {
    let mut contents: Vec<_> = scan(archive)
        .into_iter()
        .map(|(key, stored)| (key, read(archive, &stored.locator, 0..u64::MAX).expect("is read")))
        .collect();
    contents.sort();
    contents
}

/// Around the lengths of blocks and pieces.
const FILLINGS: [usize; 6] = [10, 60_000, 65_536, 300_000, 700_000, 3_000_000];

#[test]
fn every_range_is_read_as_it_was_written_while_each_copy_is_damaged_somewhere() {
    let pair = Pair::new(ReplicateMode::Always, "");
    let archive = pair.open_pair();
    for (n, filling) in (0..).zip(FILLINGS) {
        let (_, bytes, stored) = keep(&*archive, n, filling).expect("is kept");
        block_on(archive.caught_up()).expect("is copied");
        // Alternately in the first and in the second, never both in one block.
        for (block, of) in
            (0..bytes.len() / 65_536).zip(["first", "second", "second", "first"].iter().cycle())
        {
            let at = block * 65_536 + 40_000;
            flip(&pair.path(of), &bytes.slice(at..at + 64));
        }
        let length = bytes.len() as u64;
        for range in [
            0..length,
            0..1,
            1..length,
            39_990..70_000,
            length - 1..length,
            length..length + 9,
        ] {
            let end = (range.end as usize).min(bytes.len());
            let expected = &bytes[(range.start as usize).min(end)..end];
            let found = read(&*archive, &stored.locator, range.clone()).expect("is read");
            assert!(found == expected, "{range:?} of {length}");
        }
        let verified = block_on(archive.verify(&stored.locator)).map_err(|error| error.kind());
        let expected = if length > 65_536 {
            Err(ErrorKind::Corrupt)
        } else {
            Ok(())
        };
        assert_eq!(verified, expected, "{length}");
    }
}

#[test]
fn what_both_copies_have_damaged_in_one_block_is_refused() {
    let pair = Pair::new(ReplicateMode::Always, "");
    let archive = pair.open_pair();
    let (_, bytes, stored) = keep(&*archive, 1, 300_000).expect("is kept");
    block_on(archive.caught_up()).expect("is copied");
    for of in ["first", "second"] {
        flip(&pair.path(of), &bytes.slice(140_000..140_064));
    }
    let refused = read(&*archive, &stored.locator, 0..u64::MAX).expect_err("is refused");
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    // What is before and behind is whole.
    for range in [0..131_072, 196_608..300_000] {
        let found = read(&*archive, &stored.locator, range.clone()).expect("is read");
        assert!(found == bytes[range.start as usize..range.end as usize]);
    }
}

#[test]
fn what_the_first_archive_lost_is_scanned_and_read_from_the_second() {
    let pair = Pair::new(ReplicateMode::WhilePresent, "");
    let kept: Vec<_> = {
        let archive = pair.open_pair();
        let kept = (0..6)
            .map(|n| keep(&*archive, n, FILLINGS[n as usize]).expect("is kept"))
            .collect();
        block_on(archive.caught_up()).expect("is copied");
        block_on(archive.indexed(Sequence(6))).expect("is hinted");
        kept
    };
    for path in segments(&pair.path("first")) {
        std::fs::remove_file(path).expect("is removed");
    }
    let archive = pair.open_pair();
    let found: Vec<_> = scan(&*archive);
    let expected: Vec<_> = kept
        .iter()
        .map(|(key, _, stored)| (*key, stored.clone()))
        .collect();
    assert_eq!(found, expected);
    for (_, bytes, stored) in &kept {
        assert!(read(&*archive, &stored.locator, 0..u64::MAX).expect("is read") == *bytes);
        let told = block_on(archive.verify(&stored.locator)).expect_err("is told");
        assert_eq!(told.kind(), ErrorKind::Corrupt);
    }
    // And what is removed then is gone, also after reopening.
    let (key, _, stored) = &kept[2];
    block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
    let gone = read(&*archive, &stored.locator, 0..1).expect_err("is gone");
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    drop(archive);
    assert_eq!(scan(&*pair.open_pair()).len(), 5);
}

#[test]
fn what_was_kept_and_removed_while_the_second_was_away_is_there_when_it_is_back() {
    for mode in [ReplicateMode::Later, ReplicateMode::WhilePresent] {
        let pair = Pair::new(mode, "");
        {
            let archive = pair.open_pair();
            keep(&*archive, 0, 5_000).expect("is kept");
            block_on(archive.caught_up()).expect("is copied");
        }
        pair.is_away.store(true, Ordering::SeqCst);
        let archive = pair.open_pair();
        for n in 1..20 {
            keep(&*archive, n, 5_000 + 40_000 * n as usize).expect("is kept");
        }
        let (key, stored) = scan(&*archive).swap_remove(0);
        block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
        let lag = block_on(archive.lag()).expect("is told");
        assert_eq!((lag.is_present, lag.entries), (false, 20));
        assert!(lag.since.is_some());
        pair.is_away.store(false, Ordering::SeqCst);
        block_on(archive.caught_up()).expect("is copied");
        let lag = block_on(archive.lag()).expect("is told");
        assert_eq!((lag.is_present, lag.entries, lag.unreadable), (true, 0, 0));
        let expected = contents(&*archive);
        assert_eq!(expected.len(), 19);
        drop(archive);
        assert!(contents(&segment(&pair.path("second"))) == expected);
    }
}

#[test]
fn nothing_is_kept_while_the_second_is_away_where_both_are_asked_for() {
    let pair = Pair::new(ReplicateMode::Always, "");
    pair.is_away.store(true, Ordering::SeqCst);
    let archive = pair.open_pair();
    let refused = keep(&*archive, 1, 5_000).expect_err("is refused");
    assert_eq!(refused.kind(), ErrorKind::OutOfResources);
    assert_eq!(scan(&*archive), []);
    pair.is_away.store(false, Ordering::SeqCst);
    block_on(archive.caught_up()).expect("is back");
    keep(&*archive, 1, 5_000).expect("is kept");
    drop(archive);
    assert_eq!(scan(&segment(&pair.path("second"))).len(), 1);
}

#[test]
fn a_second_archive_whose_notes_were_lost_is_taken_up_again_without_a_second_copy() {
    let pair = Pair::new(ReplicateMode::WhilePresent, "");
    let expected = {
        let archive = pair.open_pair();
        for n in 0..300 {
            keep(&*archive, n, 1000 + 10 * n as usize).expect("is kept");
        }
        // Another version of one, of the same length.
        let other = part10(&key(7), 1070, 99);
        block_on(async { begin(&*archive, &other, 16_000).await?.commit(key(7)).await }).expect("is kept");
        block_on(archive.caught_up()).expect("is copied");
        contents(&*archive)
    };
    std::fs::remove_file(pair.path("copies.redb")).expect("is removed");
    {
        let archive = pair.open_pair();
        block_on(archive.caught_up()).expect("is copied");
        assert!(contents(&*archive) == expected);
    }
    assert!(contents(&segment(&pair.path("second"))) == expected);
}

#[test]
fn an_archive_that_is_older_than_its_notes_is_told() {
    let pair = Pair::new(ReplicateMode::WhilePresent, "");
    {
        let archive = pair.open_pair();
        keep(&*archive, 1, 5_000).expect("is kept");
        block_on(archive.caught_up()).expect("is copied");
    }
    std::fs::remove_dir_all(pair.path("first")).expect("is removed");
    let refused = pair.try_open().map(drop).expect_err("is told");
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    // The second is an archive like any other.
    assert_eq!(contents(&segment(&pair.path("second"))).len(), 1);
}

#[test]
fn an_archive_that_does_not_tell_its_order_is_refused() {
    let directory = TempDir::new().expect("a temporary directory");
    let folder = FolderArchive::open(directory.path(), FolderOptions::default()).expect("opens");
    let open_second = || Ok(Arc::new(MemoryArchive::new()) as Arc<dyn Archive>);
    let notes = Arc::new(MemoryLedger::new());
    let refused = ReplicatedArchive::open(
        Arc::new(folder),
        Box::new(open_second),
        notes,
        ReplicateOptions::default(),
    );
    assert_eq!(refused.expect_err("is refused").kind(), ErrorKind::Unsupported);
}

#[test]
fn one_instance_that_can_not_be_read_keeps_no_other_from_being_copied() {
    let (first, second) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryArchive::new()));
    let kept: Vec<_> = (0..10)
        .map(|n| keep(&*first, n, 5_000).expect("is kept"))
        .collect();
    let bad = kept[3].2.locator.clone();
    let failing = Around::new(first).reading(move |locator, pieces| match *locator == bad {
        true => stream::iter([Err(Error::new(ErrorKind::Io, "test.read", "a bad sector"))]).boxed(),
        false => pieces,
    });
    let there = Arc::clone(&second);
    let archive = ReplicatedArchive::open(
        Arc::new(failing),
        Box::new(move || Ok(Arc::clone(&there) as Arc<dyn Archive>)),
        Arc::new(MemoryLedger::new()),
        options(ReplicateMode::Always),
    )
    .expect("opens");
    block_on(archive.caught_up()).expect("is copied");
    let lag = block_on(archive.lag()).expect("is told");
    assert_eq!((lag.is_present, lag.entries, lag.unreadable), (true, 0, 1));
    let copied: Vec<_> = scan(&*second).into_iter().map(|(key, _)| key.instance).collect();
    assert_eq!(copied.len(), 9);
    assert!(!copied.contains(&kept[3].0.instance));
    keep(&archive, 10, 5_000).expect("is kept");
    // What is removed is not missed any more.
    let (key, _, stored) = &kept[3];
    block_on(archive.remove(&key.instance, &stored.locator)).expect("is removed");
    block_on(archive.caught_up()).expect("is copied");
    let lag = block_on(archive.lag()).expect("is told");
    assert_eq!(lag.unreadable, 0);
    assert_eq!(scan(&*second).len(), 10);
}

/// Whose commits do not end before they may.
struct Hanging {
    inside: Arc<MemoryArchive>,
    may_end: Shared<oneshot::Receiver<()>>,
}

impl Archive for Hanging {
    fn capability(&self) -> ArchiveCapability {
        self.inside.capability()
    }

    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn ArchiveWriter>>> {
        async {
            let inside = self.inside.begin().await?;
            let may_end = self.may_end.clone();
            Ok(Box::new(HangingWriter { inside, may_end }) as Box<dyn ArchiveWriter>)
        }
        .boxed()
    }

    fn read(&self, locator: &Locator, range: std::ops::Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        self.inside.read(locator, range)
    }

    fn remove(&self, instance: &Uid, locator: &Locator) -> BoxFuture<'_, Result<Sequence>> {
        self.inside.remove(instance, locator)
    }

    fn scan(&self, after: Sequence) -> BoxStream<'static, Result<Entry>> {
        self.inside.scan(after)
    }

    fn verify(&self, locator: &Locator) -> BoxFuture<'_, Result<()>> {
        self.inside.verify(locator)
    }

    fn indexed(&self, sequence: Sequence) -> BoxFuture<'_, Result<()>> {
        self.inside.indexed(sequence)
    }
}

struct HangingWriter {
    inside: Box<dyn ArchiveWriter>,
    may_end: Shared<oneshot::Receiver<()>>,
}

impl ArchiveWriter for HangingWriter {
    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<()>> {
        self.inside.write(chunk)
    }

    fn commit(self: Box<Self>, key: InstanceKey) -> BoxFuture<'static, Result<Stored>> {
        async move {
            let _ = self.may_end.await;
            self.inside.commit(key).await
        }
        .boxed()
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        self.inside.abort()
    }
}

#[test]
fn a_second_archive_that_hangs_is_not_waited_for_and_has_everything_once_in_the_end() {
    for ends in [true, false] {
        let inside = Arc::new(MemoryArchive::new());
        let (end, may_end) = oneshot::channel();
        let second = Arc::new(Hanging {
            inside: Arc::clone(&inside),
            may_end: may_end.shared(),
        });
        let mut options = options(ReplicateMode::WhilePresent);
        options.patience = std::time::Duration::from_millis(1);
        let archive = ReplicatedArchive::open(
            Arc::new(MemoryArchive::new()),
            Box::new(move || Ok(Arc::clone(&second) as Arc<dyn Archive>)),
            Arc::new(MemoryLedger::new()),
            options,
        )
        .expect("opens");
        for n in 0..5 {
            keep(&archive, n, 5_000).expect("is kept");
        }
        assert_eq!(scan(&archive).len(), 5);
        if ends {
            end.send(()).expect("is waited for");
            block_on(archive.caught_up()).expect("is copied");
            assert!(contents(&*inside) == contents(&archive));
        }
        // It is closed also while the second hangs.
        drop(archive);
    }
}

/// What each instance's versions are, in the order of a scan.
fn versions(archive: &dyn Archive) -> Vec<(InstanceKey, Vec<u8>)> {
    let mut versions: Vec<_> = scan(archive)
        .into_iter()
        .map(|(key, stored)| {
            let bytes = read(archive, &stored.locator, 0..u64::MAX).expect("is read");
            (key, bytes)
        })
        .collect();
    versions.sort_by_key(|(key, _)| *key);
    versions
}

#[test]
fn the_second_archive_alone_tells_which_version_came_last() {
    for mode in [ReplicateMode::Later, ReplicateMode::WhilePresent] {
        let pair = Pair::new(mode, "");
        pair.is_away.store(true, Ordering::SeqCst);
        let archive = pair.open_pair();
        let keep_version = |n: u64, filling: usize| {
            let bytes = part10(&key(n), filling, n + filling as u64);
            let stored = block_on(async { begin(&*archive, &bytes, 16_000).await?.commit(key(n)).await });
            stored.expect("is kept")
        };
        // The first version is long on its way when the next one is copied, or written to both.
        for n in 0..30 {
            keep_version(n, 2_000_000);
            keep_version(n, 100);
        }
        pair.is_away.store(false, Ordering::SeqCst);
        std::thread::scope(|scope| {
            scope.spawn(|| block_on(archive.caught_up()).expect("is copied"));
            for n in (0..30).rev() {
                keep_version(n, 200);
            }
        });
        block_on(archive.caught_up()).expect("is copied");
        // A mended version does not come last.
        let first = scan(&*archive).swap_remove(0).1;
        let bytes = read(&*archive, &first.locator, 0..u64::MAX).expect("is read");
        flip(&pair.path("second"), &bytes[40_000..40_064]);
        assert!(block_on(archive.mend(&first.locator)).expect("is mended"));
        block_on(archive.caught_up()).expect("is copied");
        let expected = versions(&*archive);
        drop(archive);
        assert!(versions(&segment(&pair.path("second"))) == expected, "{mode:?}");
    }
}
