//! The object archive: instances packed into the objects of a store such as S3. See [`ObjectArchive`].

mod bucket;
mod commit;
mod location;
mod opening;
mod pack;
mod read;
mod rewrite;
mod scan;
mod task;
mod upload;
mod writer;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use pacs_core::{
    Archive, ArchiveCapability, ArchiveWriter, Entry, Error, ErrorKind, Locator, Result, Sequence, Uid,
};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Notify, Semaphore};

use crate::embedded::ObjectLocation;
use bucket::Bucket;
use commit::{Committer, Request};
use pack::{Item, Place, PlaceBody, Position};

/// Which archive is expected at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Whichever there is, or a new one.
    Any,
    /// Whichever there is.
    Present,
    /// That with this id, which is made where there is none.
    New(u128),
    /// That with this id.
    This(u128),
}

/// How an [`ObjectArchive`] is set up. The default suits a store in the same building.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectOptions {
    /// Instances that are committed at the same time share an object up to about this length. Removing one of them writes
    /// the object again.
    pub pack_bytes: usize,
    /// Instances up to this length wait in memory for their commit; larger ones count among `streams`.
    pub inline_bytes: usize,
    /// What is longer gets an object of its own, sent in parts of this length while it comes. S3 takes none below 5 MiB, and
    /// at most 10,000 of an object.
    pub part_bytes: usize,
    /// Instances of which something came and that are not kept yet, at most; further ones wait.
    pub instances: usize,
    /// Larger instances among them at most. Each holds up to two parts in memory. One task that begins more than these before it
    /// commits the first waits for ever.
    pub streams: usize,
    /// Objects on their way to the store at the same time, at most 8.
    pub uploads: usize,
    /// Who commits while an object is on its way waits at most this long for others to share the next one with.
    pub window: Duration,
    /// For how long a store that fails is asked again before what waits for it is refused.
    pub patience: Duration,
}

impl Default for ObjectOptions {
    fn default() -> Self {
        Self {
            pack_bytes: 16 << 20,
            inline_bytes: 1 << 20,
            part_bytes: 5 << 20,
            instances: 256,
            streams: 128,
            uploads: 4,
            window: Duration::from_millis(10),
            patience: Duration::from_secs(30),
        }
    }
}

/// Objects on their way at the same time at most, whatever the options say: an opening takes as many numbers, so that an
/// earlier program that still runs gets none of its own stored any more.
const UPLOADS_MAX: u64 = 8;

/// Threads that speak with the store; it does the work.
const THREADS: usize = 2;

/// An archive in an object store: S3 and what speaks its protocol, Azure, Google Cloud, or a directory.
///
/// A commit returns when the store has the object that holds the instance. Who commits at the same time shares an object: a
/// request for each would cost more than what it carries.
///
/// - One program writes to an archive at a time. Opening it takes it away from one that still runs: that one's commits are
///   `Refused` from then on. Nothing that it acknowledged is lost; what it had on its way and refuses may be kept.
/// - A store that fails is asked again for a while; then what comes is refused until the store is back. What was on its way is
///   answered when it is: until then nobody can know whether it is kept. Where the archive is closed before, it is `Closed`, and
///   what the store had got all the same is found by the next opening.
/// - Results of commits and removals come in ascending order of sequence.
/// - What is removed is gone for readers at once; its bytes go when its object is written again, soon after.
///
/// Objects are described in `object/pack.rs`. Dropping the archive waits for commits that were begun. Writers and streams that
/// are still held get `Closed`.
pub struct ObjectArchive {
    shared: Arc<Shared>,
    /// Ended last.
    runtime: Option<Runtime>,
    /// Says that the committer has ended.
    ended: Mutex<std::sync::mpsc::Receiver<()>>,
    /// Released last.
    _held: Option<Box<dyn Any + Send + Sync>>,
}

/// What the archive, its committer, its writers and its streams share.
struct Shared {
    bucket: Bucket,
    options: ObjectOptions,
    runtime: Handle,
    /// The number that this opening drew.
    writer: u64,
    /// What tells the archive from others.
    id: u128,
    /// The last pack that readers and scans see.
    published: AtomicU64,
    /// The last pack that the state says the next opening may pass over.
    settled: AtomicU64,
    /// Closed when there is none.
    queue: Mutex<Option<mpsc::UnboundedSender<Request>>>,
    removals: Mutex<Removals>,
    /// Held while a pack is written again.
    rewriting: tokio::sync::Mutex<()>,
    /// Something is to be removed from packs.
    to_rewrite: Notify,
    /// When objects of single instances were begun that no pack names yet, and how many at that number.
    open_streams: Mutex<BTreeMap<u64, usize>>,
    /// The last pack that may be settled: behind it there is one that can't be read.
    settled_max: AtomicU64,
    /// Of instances that come, and of larger ones among them.
    instances: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    /// Why nothing is taken any more, or not now.
    refusal: Mutex<Option<(ErrorKind, &'static str)>>,
}

/// What was removed and has its bytes still, by pack.
#[derive(Default)]
struct Removals {
    packs: BTreeMap<u64, Removing>,
    /// Of all packs.
    count: usize,
}

struct Removing {
    items: BTreeSet<u32>,
    /// The pack that tells of the first of these removals.
    told_by: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "the archive is closed")
}

impl Shared {
    fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// # Errors
    /// Why nothing is taken now.
    fn check_taking(&self, operation: &'static str) -> Result<()> {
        match *lock(&self.refusal) {
            Some((kind, why)) => Err(Error::new(kind, operation, why)),
            None => Ok(()),
        }
    }

    /// Nothing is taken any more.
    fn is_ended(&self) -> bool {
        matches!(
            *lock(&self.refusal),
            Some((ErrorKind::Refused | ErrorKind::Closed, _))
        )
    }

    /// A way to the committer, which works on as long as somebody has one.
    fn queue(&self, operation: &'static str) -> Result<mpsc::UnboundedSender<Request>> {
        lock(&self.queue).clone().ok_or_else(|| closed(operation))
    }

    fn is_removed(&self, position: Position) -> bool {
        let removals = lock(&self.removals);
        let pack = removals.packs.get(&position.pack);
        pack.is_some_and(|pack| pack.items.contains(&position.item))
    }

    fn note_removal(&self, position: Position, told_by: u64) {
        let mut removals = lock(&self.removals);
        let pack = removals.packs.entry(position.pack).or_insert(Removing {
            items: BTreeSet::new(),
            told_by,
        });
        if pack.items.insert(position.item) {
            removals.count += 1;
        }
    }

    /// The last pack that an opening may pass over: all removals up to it are done, and no object of a single instance was
    /// begun before it that may be without a pack.
    fn settled(&self) -> u64 {
        let published = self.published();
        let removals = lock(&self.removals);
        let told_by = removals.packs.values().map(|pack| pack.told_by - 1).min();
        drop(removals);
        let open = lock(&self.open_streams).keys().next().copied();
        published
            .min(self.settled_max.load(Ordering::Acquire))
            .min(told_by.unwrap_or(u64::MAX))
            .min(open.unwrap_or(u64::MAX))
    }
}

impl ObjectArchive {
    /// Opens the archive at `location`, and makes it where there is none. Looks at what was written since the state was last
    /// noted, and takes the archive away from an earlier program. Blocks.
    ///
    /// # Errors
    /// `Invalid` when the location can't be understood, `Refused` when the store does not let in, `Unsupported` when the
    /// archive is of a newer version, `Io` when the store isn't reached.
    pub fn open(location: &ObjectLocation, options: ObjectOptions) -> Result<Self> {
        Self::open_expected(location, options, Expected::Any)
    }

    /// The same, if it is the archive that is expected; another one is left alone.
    ///
    /// # Errors
    /// As [`open`](Self::open); also `Mismatch`.
    pub(crate) fn open_expected(
        location: &ObjectLocation,
        options: ObjectOptions,
        expected: Expected,
    ) -> Result<Self> {
        let (store, prefix) = location.connect(options.patience)?;
        Self::open_there(store, prefix, options, expected)
    }

    /// As [`open`](Self::open), on any store that offers conditional writes, below `prefix`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(store: Arc<dyn ObjectStore>, prefix: Path, options: ObjectOptions) -> Result<Self> {
        Self::open_there(store, prefix, options, Expected::Any)
    }

    /// The archive holds `held` as long as it is open.
    pub(crate) fn holding(mut self, held: Box<dyn Any + Send + Sync>) -> Self {
        self._held = Some(held);
        self
    }

    fn open_there(
        store: Arc<dyn ObjectStore>,
        prefix: Path,
        options: ObjectOptions,
        expected: Expected,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("archive-objects")
            .enable_all()
            .build()
            .map_err(|error| Error::io("archive.open", "a thread can't be started", error))?;
        let bucket = Bucket::new(store, prefix);
        // Whatever executor runs here, it is not the one that is waited for.
        let (tell, told) = std::sync::mpsc::channel();
        let opening = opening::open(bucket, options, expected, runtime.handle().clone());
        runtime.spawn(async move { tell.send(opening.await) });
        let opened = told.recv().unwrap_or_else(|_| Err(closed("archive.open")));
        let (shared, requests) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                // Dropped where others must not wait, it would panic.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let (tell, ended) = std::sync::mpsc::channel();
        let committer = Committer::new(Arc::clone(&shared), requests);
        runtime.spawn(async move {
            committer.run().await;
            // Nobody waits, where it is not dropped.
            let _ = tell.send(());
        });
        runtime.spawn(rewrite::work(Arc::clone(&shared)));
        Ok(Self {
            shared,
            runtime: Some(runtime),
            ended: Mutex::new(ended),
            _held: None,
        })
    }

    /// What tells the archive from every other one: made with it, and kept in the store.
    pub fn id(&self) -> u128 {
        self.shared.id
    }

    /// Gives back the room of what was removed, without waiting for more to be.
    ///
    /// # Errors
    /// What the store says; what isn't done then is done later.
    pub async fn compact(&self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let done = self
            .shared
            .runtime
            .spawn(async move { shared.rewrite_all().await });
        done.await.map_err(|_| closed("archive.compact"))?
    }
}

impl Drop for ObjectArchive {
    fn drop(&mut self) {
        drop(lock(&self.shared.queue).take());
        self.shared.instances.close();
        self.shared.streams.close();
        // What was begun is finished, or refused when the store stays away.
        let _ = lock(&self.ended).recv();
        lock(&self.shared.refusal).get_or_insert((ErrorKind::Closed, "the archive is closed"));
        // A pack that is being written again is finished before somebody else opens the archive.
        let (tell, told) = std::sync::mpsc::channel();
        let shared = Arc::clone(&self.shared);
        self.shared.runtime.spawn(async move {
            let finished = tokio::time::timeout(shared.options.patience, shared.rewriting.lock()).await;
            drop(finished);
            let _ = tell.send(());
        });
        let _ = told.recv();
        if let Some(runtime) = self.runtime.take() {
            // Waits for nothing, so it may be dropped where others must not wait.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for ObjectArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectArchive")
            .field("bucket", &self.shared.bucket)
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl Archive for ObjectArchive {
    fn capability(&self) -> ArchiveCapability {
        ArchiveCapability {
            durable: true,
            ordered_scan: true,
        }
    }

    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn ArchiveWriter>>> {
        async move {
            self.shared.check_taking("archive.begin")?;
            let writer = writer::Writer::new(Arc::clone(&self.shared));
            Ok(Box::new(writer) as Box<dyn ArchiveWriter>)
        }
        .boxed()
    }

    fn read(&self, locator: &Locator, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        read::stream(Arc::clone(&self.shared), locator, range, true)
    }

    fn read_unchecked(&self, locator: &Locator, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        read::stream(Arc::clone(&self.shared), locator, range, false)
    }

    fn remove(&self, instance: &Uid, locator: &Locator) -> BoxFuture<'_, Result<Sequence>> {
        let (instance, locator) = (*instance, locator.clone());
        let shared = Arc::clone(&self.shared);
        async move {
            let done = self.shared.runtime.spawn(remove(shared, instance, locator));
            done.await.map_err(|_| closed("archive.remove"))?
        }
        .boxed()
    }

    fn scan(&self, after: Sequence) -> BoxStream<'static, Result<Entry>> {
        scan::stream(Arc::clone(&self.shared), after)
    }

    fn verify(&self, locator: &Locator) -> BoxFuture<'_, Result<()>> {
        let place = Place::from_locator(locator);
        let shared = Arc::clone(&self.shared);
        // Reading all of it compares the checksum at the end.
        let read = read::stream(Arc::clone(&self.shared), locator, 0..u64::MAX, true);
        async move {
            if let Some(place) = place.filter(|place| place.length == 0) {
                // There is nothing to read, so whether it is there says its pack.
                let asked = self
                    .shared
                    .runtime
                    .spawn(async move { is_kept(&shared, &place).await });
                return match asked.await.map_err(|_| closed("archive.verify"))?? {
                    Some(_) => Ok(()),
                    None => Err(bucket::not_found()),
                };
            }
            read.try_for_each(|_| std::future::ready(Ok(()))).await
        }
        .boxed()
    }

    fn last_sequence(&self) -> Option<Sequence> {
        Some(Position::last_of(self.shared.published()))
    }

    fn indexed(&self, _: Sequence) -> BoxFuture<'_, Result<()>> {
        let shared = Arc::clone(&self.shared);
        async move {
            let done = self
                .shared
                .runtime
                .spawn(async move { opening::note(&shared).await });
            done.await.map_err(|_| closed("archive.indexed"))?
        }
        .boxed()
    }
}

/// The SOP Instance UID of what is kept at a place, if anything.
async fn is_kept(shared: &Shared, place: &Place) -> Result<Option<Uid>> {
    if place.position.pack > shared.published() || shared.is_removed(place.position) {
        return Ok(None);
    }
    let length = match place.body {
        PlaceBody::Inside { object_length, .. } => Some(object_length),
        PlaceBody::Own(_) => None,
    };
    let pack = match shared.bucket.directory(place.position.pack, length).await {
        Ok((pack, _)) => pack,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(match pack.stored(place.position) {
        Some((key, stored)) if stored.locator == place.to_locator() => Some(key.instance),
        _ => None,
    })
}

async fn remove(shared: Arc<Shared>, instance: Uid, locator: Locator) -> Result<Sequence> {
    // Nothing to make durable; everything that was answered so far is.
    let nothing = Ok(Position::last_of(shared.published()));
    let Some(place) = Place::from_locator(&locator) else {
        return nothing;
    };
    let queue = shared.queue("archive.remove")?;
    if is_kept(&shared, &place).await? != Some(instance) {
        return nothing;
    }
    let (reply, receiver) = oneshot::channel();
    let item = Item::Removal { instance, locator };
    let request = Request::Remove {
        position: place.position,
        item,
        reply,
    };
    queue
        .unbounded_send(request)
        .map_err(|_| closed("archive.remove"))?;
    drop(queue);
    receiver.await.map_err(|_| closed("archive.remove"))?
}
