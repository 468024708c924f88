//! The archive in an object store: the same promises as everywhere else, on stores in memory, in a directory, on SeaweedFS and
//! on Azurite; and on a store that fails. Where a program is missing, nothing is tested on it, with a word about it; with
//! `PACS_REQUIRE_PEERS` that is a failure.
#![cfg(feature = "object")]

mod copies;
mod failing;
mod faulty;
#[path = "../support/objects.rs"]
mod server;
#[path = "../support/mod.rs"]
mod support;

use std::ops::Range;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use futures::executor::block_on;
use futures::future::{BoxFuture, join_all};
use futures::stream::BoxStream;
use futures::{FutureExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _};
use pacs_core::testkit::archive::{ArchivePlace, begin, key, part10};
use pacs_core::{
    Archive, ArchiveCapability, ArchiveWriter, Entry, ErrorKind, Locator, Options, Result, Sequence, Source,
    Stored, Uid, archive_conformance,
};
use pacs_store::embedded::{ArchiveKind, ObjectLocation, Settings, Store};
use pacs_store::{ObjectArchive, ObjectOptions};
use server::Server;
use support::{read, scan};

/// What the tests do with a store themselves runs here.
static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Runtime::new().expect("threads"));

fn open(store: &Arc<dyn ObjectStore>, options: &ObjectOptions) -> ObjectArchive {
    ObjectArchive::open_on(Arc::clone(store), Path::from("some/prefix"), options.clone()).expect("opens")
}

fn in_memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

/// Small enough that every way is gone.
fn small() -> ObjectOptions {
    ObjectOptions {
        pack_bytes: 20_000,
        inline_bytes: 4_000,
        part_bytes: 100_000,
        uploads: 2,
        ..ObjectOptions::default()
    }
}

/// All objects, with what they hold.
fn objects(store: &Arc<dyn ObjectStore>) -> Vec<(Path, Bytes)> {
    RUNTIME.block_on(async {
        let found: Vec<ObjectMeta> = store.list(None).try_collect().await.expect("is listed");
        let mut objects = Vec::new();
        for object in found {
            let got = store.get(&object.location).await.expect("is there");
            objects.push((object.location, got.bytes().await.expect("is read")));
        }
        objects
    })
}

fn objects_with(store: &Arc<dyn ObjectStore>, part: &str, bytes: &[u8]) -> usize {
    let holds = |held: &Bytes| held.windows(bytes.len()).any(|window| window == bytes);
    let objects = objects(store).into_iter();
    objects
        .filter(|(path, held)| path.as_ref().contains(part) && holds(held))
        .count()
}

/// A store that outlives the archives that are opened on it.
struct Here {
    store: Arc<dyn ObjectStore>,
    options: ObjectOptions,
}

impl ArchivePlace for Here {
    fn open(&self) -> Arc<dyn Archive> {
        Arc::new(open(&self.store, &self.options))
    }

    fn damage(&self, bytes: &Bytes) -> bool {
        for (path, held) in objects(&self.store) {
            let found = held.windows(bytes.len()).position(|window| window == bytes);
            let Some(at) = found else { continue };
            let mut changed = held.to_vec();
            changed[at + bytes.len() / 2] ^= 0x10;
            let put = self.store.put(&path, changed.into());
            RUNTIME.block_on(put).expect("is put");
            return true;
        }
        panic!("the bytes stand in no object");
    }
}

archive_conformance!(
    memory,
    Here {
        store: in_memory(),
        options: ObjectOptions::default(),
    }
);

archive_conformance!(
    memory_small,
    Here {
        store: in_memory(),
        options: small(),
    }
);

archive_conformance!(
    memory_everything_streams,
    Here {
        store: in_memory(),
        options: ObjectOptions {
            inline_bytes: 0,
            part_bytes: 1_000,
            streams: 64,
            ..ObjectOptions::default()
        },
    }
);

/// A place at a server, where there is one.
struct There(Option<ObjectLocation>);

impl There {
    fn at(server: Option<&Server>) -> Self {
        Self(server.map(Server::place))
    }
}

impl ArchivePlace for There {
    fn open(&self) -> Arc<dyn Archive> {
        let location = self.0.as_ref().expect("it is there");
        Arc::new(ObjectArchive::open(location, ObjectOptions::default()).expect("opens"))
    }

    fn is_there(&self) -> bool {
        self.0.is_some()
    }
}

archive_conformance!(seaweedfs, There::at(Server::seaweedfs()));

archive_conformance!(azurite, There::at(Server::azurite()));

/// A directory of the file system.
struct Directory(tempfile::TempDir);

impl ArchivePlace for Directory {
    fn open(&self) -> Arc<dyn Archive> {
        let location = ObjectLocation::at(format!("file://{}", self.0.path().display()));
        Arc::new(ObjectArchive::open(&location, ObjectOptions::default()).expect("opens"))
    }
}

archive_conformance!(
    directory,
    Directory(tempfile::TempDir::new().expect("a directory"))
);

/// Gives back the room of what is removed before it answers.
struct AtOnce(ObjectArchive);

#[deny(clippy::missing_trait_methods)]
impl Archive for AtOnce {
    fn capability(&self) -> ArchiveCapability {
        self.0.capability()
    }

    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn ArchiveWriter>>> {
        self.0.begin()
    }

    fn read(&self, locator: &Locator, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        self.0.read(locator, range)
    }

    fn read_unchecked(&self, locator: &Locator, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        self.0.read_unchecked(locator, range)
    }

    fn remove(&self, instance: &Uid, locator: &Locator) -> BoxFuture<'_, Result<Sequence>> {
        let (instance, locator) = (*instance, locator.clone());
        async move {
            let removed = self.0.remove(&instance, &locator).await?;
            self.0.compact().await?;
            Ok(removed)
        }
        .boxed()
    }

    fn scan(&self, after: Sequence) -> BoxStream<'static, Result<Entry>> {
        self.0.scan(after)
    }

    fn verify(&self, locator: &Locator) -> BoxFuture<'_, Result<()>> {
        self.0.verify(locator)
    }

    fn mend(&self, locator: &Locator) -> BoxFuture<'_, Result<bool>> {
        self.0.mend(locator)
    }

    fn last_sequence(&self) -> Option<Sequence> {
        self.0.last_sequence()
    }

    fn indexed(&self, sequence: Sequence) -> BoxFuture<'_, Result<()>> {
        self.0.indexed(sequence)
    }
}

archive_conformance!(memory_rewritten_at_once, {
    let store = in_memory();
    move || AtOnce(open(&store, &small()))
});

fn keep(archive: &dyn Archive, n: u64, bytes: &Bytes) -> Result<Stored> {
    block_on(async { begin(archive, bytes, 16_000).await?.commit(key(n)).await })
}

/// Commits at the same time.
fn keep_all(archive: &dyn Archive, instances: &[(u64, Bytes)]) -> Vec<Result<Stored>> {
    block_on(async {
        let mut commits = Vec::new();
        for (n, bytes) in instances {
            let writer = begin(archive, bytes, 16_000).await.expect("is written");
            commits.push(writer.commit(key(*n)));
        }
        join_all(commits).await
    })
}

/// The same where nothing fails.
fn kept_all(archive: &dyn Archive, instances: &[(u64, Bytes)]) -> Vec<Stored> {
    let stored = keep_all(archive, instances).into_iter();
    stored.map(|stored| stored.expect("is kept")).collect()
}

fn instances(count: u64, filling: usize) -> Vec<(u64, Bytes)> {
    (0..count).map(|n| (n, part10(&key(n), filling, n + 1))).collect()
}

#[test]
fn who_commits_at_the_same_time_shares_an_object() {
    let slow = ThrottleConfig {
        wait_put_per_call: Duration::from_millis(20),
        ..ThrottleConfig::default()
    };
    let store: Arc<dyn ObjectStore> = Arc::new(ThrottledStore::new(InMemory::new(), slow));
    let archive = open(&store, &ObjectOptions::default());
    kept_all(&archive, &instances(200, 5_000));
    // What came while the first was on its way went together.
    let packs = objects_with(&store, "packs", b"DICM");
    assert!(packs <= 20, "{packs} objects");
}

#[test]
fn what_is_large_has_an_object_of_its_own_and_nothing_is_left_of_what_was_given_up() {
    let store = in_memory();
    let archive = open(&store, &small());
    let bytes = part10(&key(1), 1_000_000, 1);
    let stored = keep(&archive, 1, &bytes).expect("is kept");
    let writer = block_on(begin(&archive, &part10(&key(2), 1_000_000, 2), 16_000)).expect("is written");
    block_on(writer.abort()).expect("is given up");
    assert_eq!(objects_with(&store, "streams", b"DICM"), 1);
    assert_eq!(objects_with(&store, "packs", b"DICM"), 0);
    block_on(archive.remove(&key(1).instance, &stored.locator)).expect("is removed");
    block_on(archive.compact()).expect("gives back");
    assert_eq!(objects_with(&store, "streams", b"DICM"), 0);
}

#[test]
fn what_was_removed_is_in_no_object_and_what_was_not_is_read_as_ever() {
    let store = in_memory();
    let archive = open(&store, &ObjectOptions::default());
    let kept = instances(40, 3_000);
    let stored: Vec<Stored> = kept_all(&archive, &kept);
    let before = scan(&archive, Sequence(0)).expect("is scanned");
    let is_removed = |n: usize| !n.is_multiple_of(4);
    for (n, stored) in stored.iter().enumerate().filter(|(n, _)| is_removed(*n)) {
        block_on(archive.remove(&key(n as u64).instance, &stored.locator)).expect("is removed");
    }
    block_on(archive.compact()).expect("gives back");
    for reopened in [false, true] {
        let archive = match reopened {
            true => &open(&store, &ObjectOptions::default()),
            false => &archive,
        };
        for (n, stored) in stored.iter().enumerate() {
            let bytes = &kept[n].1;
            let middle = &bytes[bytes.len() / 2..bytes.len() / 2 + 64];
            assert_eq!(objects_with(&store, "", middle), usize::from(!is_removed(n)));
            match is_removed(n) {
                true => {
                    let gone = read(archive, &stored.locator).expect_err("is gone");
                    assert_eq!(gone.kind(), ErrorKind::NotFound);
                }
                false => assert_eq!(&read(archive, &stored.locator).expect("is read"), bytes),
            }
        }
        let left = scan(archive, Sequence(0)).expect("is scanned");
        let left: Vec<Entry> = left
            .into_iter()
            .filter(|entry| matches!(entry, Entry::Stored(..)))
            .collect();
        let is_left = |entry: &Entry| {
            let of = |stored: &Stored| entry.sequence() == stored.sequence;
            stored.iter().position(of).is_some_and(|n| !is_removed(n))
        };
        let expected: Vec<Entry> = before.iter().filter(|entry| is_left(entry)).cloned().collect();
        assert_eq!(expected.len(), stored.len() / 4);
        assert_eq!(left, expected);
    }
    // Of what is removed as a whole, too, nothing is left.
    let archive = open(&store, &ObjectOptions::default());
    for n in (0..stored.len()).filter(|n| !is_removed(*n)) {
        block_on(archive.remove(&key(n as u64).instance, &stored[n].locator)).expect("is removed");
    }
    block_on(archive.compact()).expect("gives back");
    assert_eq!(objects_with(&store, "", b"DICM"), 0);
}

#[test]
fn every_store_gives_back_the_room_of_what_was_removed() {
    for server in [Server::seaweedfs(), Server::azurite()].into_iter().flatten() {
        let archive = ObjectArchive::open(&server.place(), ObjectOptions::default()).expect("opens");
        let kept = instances(6, 3_000);
        let stored: Vec<Stored> = kept_all(&archive, &kept);
        // Once more, what was written again is written again.
        for round in [0..2, 2..4] {
            for n in round {
                let removed = archive.remove(&key(n).instance, &stored[n as usize].locator);
                block_on(removed).expect("is removed");
            }
            block_on(archive.compact()).expect("gives back");
        }
        for (stored, (n, bytes)) in stored.iter().zip(&kept) {
            match read(&archive, &stored.locator) {
                Ok(read) => assert!(*n >= 4 && read == *bytes),
                Err(error) => assert!(*n < 4 && error.kind() == ErrorKind::NotFound, "{error}"),
            }
        }
    }
}

#[test]
fn a_removal_that_was_not_done_when_the_program_died_is_done_by_the_next_opening() {
    let store = in_memory();
    let archive = open(&store, &ObjectOptions::default());
    let kept = instances(3, 3_000);
    let stored: Vec<_> = kept_all(&archive, &kept);
    block_on(archive.remove(&key(1).instance, &stored[1].locator)).expect("is removed");
    // Dropped, it does nothing more.
    drop(archive);
    assert_eq!(objects_with(&store, "", &kept[1].1[1_000..1_064]), 1);
    let archive = open(&store, &ObjectOptions::default());
    let gone = read(&archive, &stored[1].locator).expect_err("is gone");
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    block_on(archive.compact()).expect("gives back");
    assert_eq!(objects_with(&store, "", &kept[1].1[1_000..1_064]), 0);
    assert_eq!(read(&archive, &stored[2].locator).expect("is read"), kept[2].1);
}

#[test]
fn who_opens_an_archive_takes_it_away_and_nothing_that_was_acknowledged_is_lost() {
    let store = in_memory();
    let first = open(&store, &small());
    let mut kept = Vec::new();
    for (n, bytes) in instances(10, 3_000) {
        kept.push((bytes.clone(), keep(&first, n, &bytes).expect("is kept")));
    }
    // One that is on its way when the other opens.
    let bytes = part10(&key(20), 1_000_000, 20);
    let on_its_way = block_on(begin(&first, &bytes, 16_000)).expect("is written");
    let second = open(&store, &small());
    let refused = block_on(on_its_way.commit(key(20))).expect_err("is refused");
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    let refused = keep(&first, 21, &bytes).expect_err("is refused");
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    let refused = block_on(first.remove(&key(0).instance, &kept[0].1.locator)).expect_err("is refused");
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    let (bytes, stored) = &kept[3];
    assert_eq!(&read(&first, &stored.locator).expect("is read"), bytes);
    kept.push((bytes.clone(), keep(&second, 22, bytes).expect("is kept")));
    for (bytes, stored) in &kept {
        assert_eq!(&read(&second, &stored.locator).expect("is read"), bytes);
    }
    assert_eq!(scan(&second, Sequence(0)).expect("is scanned").len(), kept.len());
    assert_eq!(first.id(), second.id());
    assert_ne!(first.id(), open(&in_memory(), &small()).id());
}

#[test]
fn what_is_settled_is_not_looked_at_by_the_next_opening() {
    let store = in_memory();
    let archive = open(&store, &ObjectOptions::default());
    for (n, bytes) in instances(50, 100) {
        keep(&archive, n, &bytes).expect("is kept");
    }
    let last = archive.last_sequence().expect("it can tell");
    block_on(archive.indexed(last)).expect("is noted");
    drop(archive);
    let faulty = faulty::Faulty::new(Arc::clone(&store), 1);
    let watched: Arc<dyn ObjectStore> = Arc::clone(&faulty) as Arc<dyn ObjectStore>;
    let archive = open(&watched, &ObjectOptions::default());
    // The state, and the packs that opening made.
    let gets = faulty.gets();
    assert!(gets <= 20, "{gets}");
    assert_eq!(scan(&archive, Sequence(0)).expect("is scanned").len(), 50);
    assert_eq!(scan(&archive, last).expect("is scanned"), []);
}

#[test]
fn what_is_committed_while_the_store_restarts_waits_for_it() {
    let Some(server) = Server::own_seaweedfs() else {
        return;
    };
    let archive = ObjectArchive::open(&server.place(), ObjectOptions::default()).expect("opens");
    let mut kept = Vec::new();
    for round in 0..2 {
        let some: Vec<(u64, Bytes)> = instances(20, 20_000)
            .into_iter()
            .map(|(n, bytes)| (n + round * 20, bytes))
            .collect();
        std::thread::scope(|threads| {
            let commits = threads.spawn(|| kept_all(&archive, &some));
            server.stop();
            server.start();
            for (stored, (_, bytes)) in commits.join().expect("no panic").into_iter().zip(&some) {
                kept.push((stored, bytes.clone()));
            }
        });
        for (stored, bytes) in &kept {
            assert_eq!(&read(&archive, &stored.locator).expect("is read"), bytes);
        }
    }
}

#[test]
fn what_is_no_location_and_who_is_not_let_in_is_told_so() {
    for url in [
        "",
        "pacs",
        "ftp://pacs",
        "s3://",
        "s3://key:secret@pacs",
        "s3://pacs?region=x",
    ] {
        let error = ObjectArchive::open(&ObjectLocation::at(url), ObjectOptions::default()).expect_err(url);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{url}: {error}");
    }
    let mut location = ObjectLocation::at("s3://pacs");
    location.options.insert("colour".to_owned(), "red".to_owned());
    let error = ObjectArchive::open(&location, ObjectOptions::default()).expect_err("no such option");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.context().contains("colour"), "{error}");
    location.options = [("secret_access_key".to_owned(), "s3cret".to_owned())].into();
    assert!(!format!("{location:?}").contains("s3cret"));

    let Some(server) = Server::seaweedfs() else { return };
    let mut location = server.place();
    location
        .options
        .insert("secret_access_key".to_owned(), "wrong".to_owned());
    let error = ObjectArchive::open(&location, ObjectOptions::default()).expect_err("is not let in");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    let secret = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(secret.path(), "secret\n").expect("is written");
    location.options.remove("secret_access_key");
    location
        .option_files
        .insert("secret_access_key".to_owned(), secret.path().to_owned());
    drop(ObjectArchive::open(&location, ObjectOptions::default()).expect("opens"));
}

fn settings(data: &std::path::Path, bucket: &std::path::Path) -> Settings {
    Settings {
        data: data.to_owned(),
        objects: Some(ObjectLocation::at(format!("file://{}", bucket.display()))),
        ..Settings::default()
    }
}

fn count(store: &Store) -> u64 {
    block_on(store.pacs.totals()).expect("is counted").instances
}

#[test]
fn a_data_directory_and_its_archive_in_an_object_store_belong_together() {
    let [data, other, bucket, second] =
        std::array::from_fn(|_| tempfile::TempDir::new().expect("a directory"));
    let here = settings(data.path(), bucket.path());
    let store = Store::open_or_make(&here, Options::default()).expect("opens");
    for n in 0..3 {
        let pieces = futures::stream::iter([Ok(part10(&key(n), 1_000, n))]);
        block_on(store.pacs.import(Source::default(), pieces)).expect("is kept");
    }
    // A second program on the directory takes nothing away.
    let busy = Store::open(&here, Options::default())
        .map(drop)
        .expect_err("it is open");
    assert_eq!(busy.kind(), ErrorKind::Refused, "{busy}");
    let busy = Store::rebuild(&here).map(drop).expect_err("it is open");
    assert_eq!(busy.kind(), ErrorKind::Refused, "{busy}");
    let pieces = futures::stream::iter([Ok(part10(&key(3), 1_000, 3))]);
    block_on(store.pacs.import(Source::default(), pieces)).expect("is kept");
    store.pacs.close().expect("closes");
    drop(store);

    for wrong in [
        settings(data.path(), second.path()),
        Settings {
            objects: None,
            ..here.clone()
        },
    ] {
        let error = Store::open_or_make(&wrong, Options::default()).map(drop);
        assert_eq!(error.expect_err("is another").kind(), ErrorKind::Mismatch);
    }
    let both = Settings {
        archive: ArchiveKind::Folder,
        ..here.clone()
    };
    let error = Store::open_or_make(&both, Options::default()).map(drop);
    assert_eq!(error.expect_err("one or the other").kind(), ErrorKind::Invalid);

    assert_eq!(count(&Store::open(&here, Options::default()).expect("opens")), 4);
    assert_eq!(Store::rebuild(&here).expect("is made anew").instances, 4);
    // Without the directory, the archive alone is enough.
    let elsewhere = settings(other.path(), bucket.path());
    assert_eq!(
        count(&Store::open_or_make(&elsewhere, Options::default()).expect("opens")),
        4
    );
}
