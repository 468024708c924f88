//! The segment archive: an append-only log of instances. See [`SegmentArchive`].

mod commit;
mod compact;
mod file;
mod group;
mod hint;
mod lane;
mod queue;
mod read;
mod record;
mod recover;
mod scan;
mod seal;
mod walk;
mod writer;

use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, TryStreamExt};
use pacs_core::{
    Archive, ArchiveCapability, ArchiveWriter, Entry, Error, ErrorKind, Locator, Result, Sequence, Uid,
};

use crate::buffers::Buffers;
use crate::medium::{Medium, SystemMedium};
use crate::pool::Pool;
use commit::Committer;
use file::{DIRECTORY, Segments};
use lane::{Lanes, closed};
use pacs_core::limits::READ_CHUNK_BYTES;
use queue::{Queue, Request};
use record::Place;

pub use compact::Compaction;

/// The file that stands for the lock of a store.
const LOCK_NAME: &str = "lock";

/// How a [`SegmentArchive`] is set up. The default suits a server with some local disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentOptions {
    /// A segment that has reached this length takes nothing more. Greater ones are fewer, smaller ones
    /// are sooner empty and given back.
    pub segment_bytes: u64,
    /// Instances up to this length wait in memory for their commit and share a segment and its sync;
    /// larger ones stream into a segment of their own for the time. What a writer holds in memory is
    /// bounded by this and two pieces.
    ///
    /// Measured with instances of 530 KB (`examples/append_rate.rs`): with one writer it makes no
    /// difference whether they wait or stream; 16 writers are 2.5 times as fast when they stream.
    pub inline_bytes: usize,
    /// What of a stream is handed to a thread to be written at once, while the next is gathered.
    pub piece_bytes: usize,
    /// Instances that stream at the same time at most; further ones wait. One task that begins more than
    /// these before it commits the first waits for ever.
    pub lanes: usize,
    /// Writing is refused when the medium has less room than this, so that removal and the index can
    /// still work.
    pub reserve_bytes: u64,
    /// Segment files that readers keep open at most.
    pub open_files: usize,
    /// Threads that write what streams.
    pub write_threads: usize,
    /// Threads that read.
    pub read_threads: usize,
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            inline_bytes: 256 * 1024,
            piece_bytes: 128 * 1024,
            lanes: 128,
            reserve_bytes: 256 << 20,
            open_files: 256,
            write_threads: 4,
            read_threads: 4,
        }
    }
}

/// An archive that is a log: instances one behind the other in a few large files.
///
/// A commit is one append and one sync, shared with whoever commits at the same time; a new file for
/// each instance, with a sync of its own and one of the directory, costs two to four times that.
/// Segment files are described in `segment/record.rs`; each instance stands in them as the whole
/// Part 10 stream it was written as.
///
/// Results of commits and removals come in ascending order of sequence: when one returns, so has every
/// one before it, or does at once.
///
/// Dropping it waits for commits that were begun. Writers and streams that are still held get `Closed`.
pub struct SegmentArchive {
    store: Arc<Store>,
    committer: Option<JoinHandle<()>>,
    /// Released last.
    _lock: Box<dyn Any + Send + Sync>,
}

/// Read buffers that are kept for use: 8 MiB.
const SPARE_BUFFERS: usize = 32;

/// What the archive, its committer, its writers and its streams share.
struct Store {
    medium: Arc<dyn Medium>,
    options: SegmentOptions,
    segments: Segments,
    lanes: Lanes,
    queue: Queue,
    /// The last sequence that readers and scans see.
    published: AtomicU64,
    /// The sequence of the last hint.
    hinted: AtomicU64,
    /// Removed records whose mark could not be written.
    unmarked: Mutex<HashSet<Place>>,
    has_unmarked: AtomicBool,
    writers: Pool,
    readers: Pool,
    buffers: Arc<Buffers>,
    syncers: Pool,
}

/// How much a [`SegmentArchive`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentStatistics {
    /// Segment files.
    pub segments: u64,
    /// Bytes in them, also those that were removed.
    pub bytes: u64,
    /// Bytes of what was removed and whose room was not given back; a lower bound after a crash.
    pub dead_bytes: u64,
    /// Segment files that did not end where they were left when the archive was opened: somebody shortened them,
    /// or wrote to them. What they lack is lost, what they have is read.
    pub damaged_segments: u64,
}

impl SegmentArchive {
    /// Opens the archive in a directory of the file system, and makes it where there is none. After a
    /// crash, looks at what was written since the last [`indexed`](Archive::indexed).
    ///
    /// Cuts off nothing but the end that a crash left unfinished. A segment file that is shorter than it was, and one
    /// that is gone, is an error in the log; it stays as it is and takes nothing more, the rest is served.
    ///
    /// # Errors
    /// `Refused` when another process has it open, `Io` when the directory can't be used.
    pub fn open(directory: impl Into<PathBuf>, options: SegmentOptions) -> Result<Self> {
        let medium = SystemMedium::open(directory)
            .map_err(|error| Error::io("archive.open", "can't open the archive's directory", error))?;
        Self::open_on(Arc::new(medium), options)
    }

    /// As [`open`](Self::open), on any medium.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(medium: Arc<dyn Medium>, options: SegmentOptions) -> Result<Self> {
        let failed = |error| Error::io("archive.open", "can't open the archive", error);
        let lock = medium.lock(Path::new(LOCK_NAME)).map_err(|error| {
            let busy = "the archive is open in another process";
            match error.kind() {
                std::io::ErrorKind::WouldBlock => Error::new(ErrorKind::Refused, "archive.open", busy),
                _ => failed(error),
            }
        })?;
        medium.create_directory(Path::new(DIRECTORY)).map_err(failed)?;
        let store = Arc::new(Store {
            segments: Segments::new(Arc::clone(&medium), options.open_files),
            medium,
            options,
            lanes: Lanes::default(),
            queue: Queue::default(),
            published: AtomicU64::new(0),
            hinted: AtomicU64::new(0),
            unmarked: Mutex::default(),
            has_unmarked: AtomicBool::new(false),
            writers: Pool::new("archive-write", options.write_threads).map_err(failed)?,
            readers: Pool::new("archive-read", options.read_threads).map_err(failed)?,
            buffers: Buffers::new(READ_CHUNK_BYTES + record::HEADER_LENGTH as usize, SPARE_BUFFERS),
            syncers: Pool::new("archive-sync", options.lanes.min(8)).map_err(failed)?,
        });
        let (shared, sequence) = store.recover().map_err(failed)?;
        let committer = Committer::new(Arc::clone(&store), shared, sequence);
        let committer = std::thread::Builder::new()
            .name("archive-commit".to_owned())
            .spawn(move || committer.run())
            .map_err(failed)?;
        Ok(Self {
            store,
            committer: Some(committer),
            _lock: lock,
        })
    }

    /// How much it holds.
    pub fn statistics(&self) -> SegmentStatistics {
        let mut statistics = SegmentStatistics::default();
        for segment in self.store.segments.all() {
            let state = segment.state();
            statistics.segments += 1;
            statistics.bytes += state.end;
            statistics.dead_bytes += state.dead_bytes;
            statistics.damaged_segments += u64::from(state.damaged);
        }
        statistics
    }
}

impl Drop for SegmentArchive {
    fn drop(&mut self) {
        // The committer answers what waits; then the pools finish what was begun, and nobody writes to
        // the directory any more when the lock is released.
        self.store.queue.close();
        if let Some(committer) = self.committer.take()
            && committer.join().is_err()
        {
            tracing::error!("the committer of the archive panicked");
        }
        self.store.writers.close();
        self.store.syncers.close();
        self.store.readers.close();
        self.store.lanes.trim();
    }
}

impl fmt::Debug for SegmentArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentArchive")
            .field("medium", &self.store.medium)
            .field("options", &self.store.options)
            .finish_non_exhaustive()
    }
}

impl Store {
    fn published(&self) -> Sequence {
        Sequence(self.published.load(Ordering::Acquire))
    }

    fn publish(&self, sequence: Sequence) {
        self.published.store(sequence.0, Ordering::Release);
    }

    fn hinted(&self) -> Sequence {
        Sequence(self.hinted.load(Ordering::Acquire))
    }

    fn set_hinted(&self, sequence: Sequence) {
        self.hinted.store(sequence.0, Ordering::Release);
    }

    fn remember_removed(&self, place: Place) {
        self.unmarked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(place);
        self.has_unmarked.store(true, Ordering::Release);
    }

    fn is_remembered_removed(&self, place: Place) -> bool {
        self.has_unmarked.load(Ordering::Acquire)
            && self
                .unmarked
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&place)
    }

    /// # Errors
    /// `OutOfResources` when the medium has less room than the reserve.
    fn room(&self, operation: &'static str) -> Result<()> {
        let available = self
            .medium
            .available_bytes()
            .map_err(|error| Error::io(operation, "can't ask the medium for its room", error))?;
        if available < self.options.reserve_bytes {
            let why = format!(
                "{} MiB of room left, {} MiB are reserved",
                available >> 20,
                self.options.reserve_bytes >> 20
            );
            return Err(Error::new(ErrorKind::OutOfResources, operation, why));
        }
        Ok(())
    }
}

impl Archive for SegmentArchive {
    fn capability(&self) -> ArchiveCapability {
        ArchiveCapability {
            durable: true,
            ordered_scan: true,
        }
    }

    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn ArchiveWriter>>> {
        async move {
            self.store.room("archive.begin")?;
            let writer = writer::Writer::new(Arc::clone(&self.store));
            Ok(Box::new(writer) as Box<dyn ArchiveWriter>)
        }
        .boxed()
    }

    fn read(&self, locator: &Locator, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        read::stream(Arc::clone(&self.store), locator, range, true)
    }

    fn read_unchecked(&self, locator: &Locator, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        read::stream(Arc::clone(&self.store), locator, range, false)
    }

    fn remove(&self, instance: &Uid, locator: &Locator) -> BoxFuture<'_, Result<Sequence>> {
        let (instance, locator) = (*instance, locator.clone());
        async move {
            let (reply, receiver) = oneshot::channel();
            self.store.queue.push(Request::Remove {
                instance,
                locator,
                reply,
            });
            receiver.await.map_err(|_| closed("archive.remove"))?
        }
        .boxed()
    }

    fn scan(&self, after: Sequence) -> BoxStream<'static, Result<Entry>> {
        scan::stream(Arc::clone(&self.store), after)
    }

    fn verify(&self, locator: &Locator) -> BoxFuture<'_, Result<()>> {
        // Reading all of it compares the checksum at the end.
        read::stream(Arc::clone(&self.store), locator, 0..u64::MAX, true)
            .try_for_each(|_| std::future::ready(Ok(())))
            .boxed()
    }

    fn last_sequence(&self) -> Option<Sequence> {
        Some(self.store.published())
    }

    fn indexed(&self, sequence: Sequence) -> BoxFuture<'_, Result<()>> {
        async move {
            let (reply, receiver) = oneshot::channel();
            self.store.queue.push(Request::Indexed { sequence, reply });
            receiver.await.map_err(|_| closed("archive.indexed"))?
        }
        .boxed()
    }
}
