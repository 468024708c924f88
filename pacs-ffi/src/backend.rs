//! What the functions of an archive in C are to the engine: futures and streams, whose answers are checked.
//!
//! What a function answers may be anything, also by a mistake of its author. Whatever shows is an error here, so that
//! neither memory nor what the engine relies on depends on it.

use std::ffi::{CStr, c_char};
use std::fmt;
use std::ops::Range;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use pacs_core::limits::READ_CHUNK_BYTES;
use pacs_core::{
    Archive, ArchiveCapability, ArchiveWriter, Entry, Error, ErrorKind, InstanceKey, Locator, Result,
    Sequence, Stored, Timestamp, Uid,
};
use pacs_store::pool::Pool;

use crate::archive::{
    PACS_ARCHIVE_DURABLE, PACS_ARCHIVE_ORDERED_SCAN, PACS_ARCHIVE_REASON_LENGTH, PACS_ARCHIVE_VERSION,
    PACS_LOCATOR_LENGTH, pacs_archive, pacs_archive_entry,
};
use crate::error::{Failure, pacs_status};
use crate::ffi::{ArchiveCalls, Given, Reason, User, c_string, fill, text_of};
use crate::guard::{call_out, holding_engine};

/// Commits and removals of one archive that are under way at once: enough to share a flush, which each waits for.
const COMMITS_AT_ONCE: usize = 8;

const BEGIN: &str = "archive.begin";
const WRITE: &str = "archive.write";
const COMMIT: &str = "archive.commit";
const READ: &str = "archive.read";
const REMOVE: &str = "archive.remove";
const SCAN: &str = "archive.scan";

/// An archive in C.
pub(crate) struct Backend {
    /// Ended first: what it still does uses the functions.
    pool: Arc<Pool>,
    shared: Arc<Shared>,
}

/// What the archive, its writers and its streams share.
struct Shared {
    calls: ArchiveCalls,
    /// The greatest sequence that a commit or a removal was given, or an ordered scan told.
    last: AtomicU64,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("capability", &self.capability())
            .finish_non_exhaustive()
    }
}

impl Backend {
    pub(crate) fn new(table: pacs_archive, user: User) -> Result<Self, Failure> {
        if table.version != PACS_ARCHIVE_VERSION {
            let text = format!(
                "version {} of an archive, and {PACS_ARCHIVE_VERSION} is known here",
                table.version
            );
            return Err(Failure::argument(text));
        }
        if table.capability & !(PACS_ARCHIVE_DURABLE | PACS_ARCHIVE_ORDERED_SCAN) != 0 {
            return Err(Failure::argument(
                "an archive has a capability that is not known here",
            ));
        }
        let functions = [
            ("begin", table.begin.is_some()),
            ("write", table.write.is_some()),
            ("commit", table.commit.is_some()),
            ("abort", table.abort.is_some()),
            ("read", table.read.is_some()),
            ("remove", table.remove.is_some()),
            ("scan", table.scan.is_some()),
            ("scan_next", table.scan_next.is_some()),
            ("scan_end", table.scan_end.is_some()),
            ("verify", table.verify.is_some()),
            ("indexed", table.indexed.is_some()),
        ];
        if let Some((name, _)) = functions.iter().find(|(_, is_there)| !is_there) {
            return Err(Failure::argument(format!("an archive lacks its function {name}")));
        }
        let pool = Pool::new("pacs-archive", COMMITS_AT_ONCE)
            .map_err(|error| Error::io("archive.open", "a thread can't be started", error))?;
        let shared = Shared {
            calls: ArchiveCalls { table, user },
            last: AtomicU64::new(0),
        };
        Ok(Self {
            pool: Arc::new(pool),
            shared: Arc::new(shared),
        })
    }
}

/// Why a function failed, in its own terms.
struct Refusal {
    /// None where it answered with a number that is no status.
    status: Option<pacs_status>,
    reason: String,
}

impl Refusal {
    fn is_end(&self) -> bool {
        self.status == Some(pacs_status::PACS_END)
    }

    fn error(self, operation: &'static str) -> Error {
        let status = self.status.unwrap_or(pacs_status::PACS_INTERNAL);
        let text = match self.reason.is_empty() {
            true => format!("the archive answered: {}", status.text().to_string_lossy()),
            false => self.reason,
        };
        Error::new(status.kind(), operation, text)
    }
}

/// Calls a function, which may take its time and may not change the engine, since its thread may be waiting.
fn told(call: impl FnOnce(&mut Reason) -> i32) -> Result<(), Refusal> {
    let mut reason = [0; PACS_ARCHIVE_REASON_LENGTH];
    let number = call_out(|| holding_engine(|| call(&mut reason)));
    match pacs_status::of_number(number) {
        Some(pacs_status::PACS_OK) => Ok(()),
        status => Err(Refusal {
            status,
            reason: text_of(&reason),
        }),
    }
}

fn broken(operation: &'static str, what: &'static str) -> Error {
    Error::new(
        ErrorKind::Internal,
        operation,
        format!("the archive breaks its contract: {what}"),
    )
}

fn broken_off(operation: &'static str) -> Error {
    Error::new(ErrorKind::Internal, operation, "the archive's thread ended")
}

impl pacs_archive_entry {
    fn empty() -> Self {
        Self {
            struct_size: size_of::<Self>(),
            sequence: 0,
            length: 0,
            received: 0,
            removed: 0,
            locator_length: 0,
            locator: [0; PACS_LOCATOR_LENGTH],
            study: fill(""),
            series: fill(""),
            instance: fill(""),
        }
    }

    fn locator(&self) -> Result<Locator, &'static str> {
        match self.locator.get(..self.locator_length as usize) {
            Some([]) => Err("a locator is empty"),
            Some(bytes) => Ok(Locator::new(bytes)),
            None => Err("a locator is longer than PACS_LOCATOR_LENGTH"),
        }
    }

    /// The greatest one would leave no place behind it, and means something else to the engine.
    fn sequence(&self) -> Result<Sequence, &'static str> {
        match self.sequence {
            0 | u64::MAX => Err("a sequence is 0 or the greatest number"),
            sequence => Ok(Sequence(sequence)),
        }
    }

    fn stored(&self) -> Result<Stored, &'static str> {
        if i64::try_from(self.length).is_err() {
            return Err("an instance is longer than any file");
        }
        Ok(Stored {
            locator: self.locator()?,
            length: self.length,
            sequence: self.sequence()?,
            received: Timestamp(self.received),
        })
    }

    /// What a scan tells.
    fn entry(&self) -> Result<Entry, &'static str> {
        let instance = uid(&self.instance)?;
        if self.removed != 0 {
            return Ok(Entry::Removed {
                instance,
                locator: self.locator()?,
                sequence: self.sequence()?,
            });
        }
        let key = InstanceKey {
            study: uid(&self.study)?,
            series: uid(&self.series)?,
            instance,
        };
        Ok(Entry::Stored(key, self.stored()?))
    }
}

fn uid(chars: &[c_char]) -> Result<Uid, &'static str> {
    Uid::parse(&text_of(chars)).map_err(|_| "an entry lacks a UID, or has something else there")
}

impl Shared {
    fn commit(&self, key: InstanceKey, length: u64, writer: Given) -> Result<Stored> {
        let mut entry = pacs_archive_entry {
            length,
            received: Timestamp::now().0,
            study: fill(key.study.as_str()),
            series: fill(key.series.as_str()),
            instance: fill(key.instance.as_str()),
            ..pacs_archive_entry::empty()
        };
        let before = self.last.load(Ordering::SeqCst);
        told(|reason| self.calls.commit(writer, &mut entry, reason)).map_err(|why| why.error(COMMIT))?;
        if entry.length != length {
            return Err(broken(COMMIT, "it kept another length than was written"));
        }
        let stored = entry.stored().map_err(|what| broken(COMMIT, what))?;
        // An index that was durable in between would never look for it again.
        if stored.sequence.0 <= before {
            return Err(broken(COMMIT, "a sequence isn't greater than those before"));
        }
        self.last.fetch_max(stored.sequence.0, Ordering::SeqCst);
        Ok(stored)
    }

    fn remove(&self, instance: &CStr, locator: &Locator) -> Result<Sequence> {
        let before = self.last.load(Ordering::SeqCst);
        let mut sequence = 0;
        told(|reason| {
            self.calls
                .remove(instance, locator.as_bytes(), &mut sequence, reason)
        })
        .map_err(|why| why.error(REMOVE))?;
        if sequence < before || sequence == u64::MAX {
            let what = "the sequence of a removal is smaller than those before, or the greatest number";
            return Err(broken(REMOVE, what));
        }
        self.last.fetch_max(sequence, Ordering::SeqCst);
        Ok(Sequence(sequence))
    }

    fn is_ordered(&self) -> bool {
        self.calls.table.capability & PACS_ARCHIVE_ORDERED_SCAN != 0
    }
}

impl Archive for Backend {
    fn capability(&self) -> ArchiveCapability {
        ArchiveCapability {
            durable: self.shared.calls.table.capability & PACS_ARCHIVE_DURABLE != 0,
            ordered_scan: self.shared.is_ordered(),
        }
    }

    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn ArchiveWriter>>> {
        async {
            let mut writer = Given(ptr::null_mut());
            told(|reason| self.shared.calls.begin(&mut writer, reason)).map_err(|why| why.error(BEGIN))?;
            let writer = Writer {
                pool: Arc::clone(&self.pool),
                begun: Begun {
                    shared: Arc::clone(&self.shared),
                    writer: Some(writer),
                    length: 0,
                    failed: false,
                },
            };
            Ok(Box::new(writer) as Box<dyn ArchiveWriter>)
        }
        .boxed()
    }

    fn read(&self, locator: &Locator, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        let reading = Reading {
            shared: Arc::clone(&self.shared),
            locator: locator.clone(),
            left: range,
        };
        stream::try_unfold(reading, |mut reading| async {
            Ok(reading.piece()?.map(|piece| (piece, reading)))
        })
        .boxed()
    }

    fn remove(&self, instance: &Uid, locator: &Locator) -> BoxFuture<'_, Result<Sequence>> {
        let (shared, locator) = (Arc::clone(&self.shared), locator.clone());
        let instance = c_string(instance.as_str());
        async move {
            let removed = self.pool.run(move || shared.remove(&instance, &locator));
            removed.await.map_err(|_| broken_off(REMOVE))?
        }
        .boxed()
    }

    fn scan(&self, after: Sequence) -> BoxStream<'static, Result<Entry>> {
        let scan = Scan {
            shared: Arc::clone(&self.shared),
            cursor: None,
            last: after,
            told: 0,
            mark: None,
        };
        stream::try_unfold(scan, |mut scan| async {
            Ok(scan.next()?.map(|entry| (entry, scan)))
        })
        .boxed()
    }

    fn verify(&self, locator: &Locator) -> BoxFuture<'_, Result<()>> {
        let locator = locator.clone();
        async move {
            told(|reason| self.shared.calls.verify(locator.as_bytes(), reason))
                .map_err(|why| why.error("archive.verify"))
        }
        .boxed()
    }

    fn indexed(&self, sequence: Sequence) -> BoxFuture<'_, Result<()>> {
        async move {
            told(|reason| self.shared.calls.indexed(sequence.0, reason))
                .map_err(|why| why.error("archive.indexed"))
        }
        .boxed()
    }
}

struct Writer {
    pool: Arc<Pool>,
    begun: Begun,
}

/// An instance on its way in. Dropped before its commit, it is aborted.
struct Begun {
    shared: Arc<Shared>,
    /// None once it has ended.
    writer: Option<Given>,
    length: u64,
    failed: bool,
}

impl Begun {
    fn write(&mut self, chunk: &[u8]) -> Result<()> {
        let (false, Some(writer)) = (self.failed, &self.writer) else {
            return Err(ended(WRITE));
        };
        let written = told(|reason| self.shared.calls.write(writer, chunk, reason));
        self.failed = written.is_err();
        self.length += chunk.len() as u64;
        written.map_err(|why| why.error(WRITE))
    }

    fn commit(mut self, key: InstanceKey) -> Result<Stored> {
        match self.writer.take_if(|_| !self.failed) {
            Some(writer) => self.shared.commit(key, self.length, writer),
            None => Err(ended(COMMIT)),
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            call_out(|| holding_engine(|| self.shared.calls.abort(writer)));
        }
    }
}

fn ended(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "a piece was refused before")
}

impl ArchiveWriter for Writer {
    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<()>> {
        async move { self.begun.write(&chunk) }.boxed()
    }

    fn commit(self: Box<Self>, key: InstanceKey) -> BoxFuture<'static, Result<Stored>> {
        async move {
            let Self { pool, begun } = *self;
            let committed = pool.run(move || begun.commit(key));
            committed.await.map_err(|_| broken_off(COMMIT))?
        }
        .boxed()
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        async move {
            drop(self);
            Ok(())
        }
        .boxed()
    }
}

struct Reading {
    shared: Arc<Shared>,
    locator: Locator,
    left: Range<u64>,
}

impl Reading {
    /// The next bytes; none at the end.
    fn piece(&mut self) -> Result<Option<Bytes>> {
        let left = self.left.end.saturating_sub(self.left.start);
        if left == 0 {
            return Ok(None);
        }
        let capacity = left.min(READ_CHUNK_BYTES as u64) as usize;
        let (mut piece, mut length) = (BytesMut::zeroed(capacity), 0);
        let (locator, offset) = (self.locator.as_bytes(), self.left.start);
        let calls = &self.shared.calls;
        match told(|reason| calls.read(locator, offset, &mut piece, &mut length, reason)) {
            Err(why) if why.is_end() => return Ok(None),
            Err(why) => return Err(why.error(READ)),
            Ok(()) if length > capacity => return Err(broken(READ, "it read more than was asked for")),
            // It could go on like that for ever.
            Ok(()) if length == 0 => return Err(broken(READ, "it read nothing and said nothing of an end")),
            Ok(()) => {}
        }
        piece.truncate(length);
        self.left.start += length as u64;
        Ok(Some(piece.freeze()))
    }
}

struct Scan {
    shared: Arc<Shared>,
    /// None until the first entry is asked for.
    cursor: Option<Cursor>,
    /// The sequence of the last entry, or the one to begin after.
    last: Sequence,
    told: u64,
    /// An entry that was told, set anew each time as many more were told: a scan that goes round comes by it.
    mark: Option<Locator>,
}

struct Cursor {
    shared: Arc<Shared>,
    given: Given,
}

impl Drop for Cursor {
    fn drop(&mut self) {
        call_out(|| holding_engine(|| self.shared.calls.scan_end(&self.given)));
    }
}

impl Scan {
    fn next(&mut self) -> Result<Option<Entry>> {
        let calls = &self.shared.calls;
        let cursor = match &mut self.cursor {
            Some(cursor) => cursor,
            begins => {
                let mut given = Given(ptr::null_mut());
                told(|reason| calls.scan(self.last.0, &mut given, reason)).map_err(|why| why.error(SCAN))?;
                let shared = Arc::clone(&self.shared);
                begins.insert(Cursor { shared, given })
            }
        };
        let mut entry = pacs_archive_entry::empty();
        match told(|reason| calls.scan_next(&cursor.given, &mut entry, reason)) {
            Err(why) if why.is_end() => return Ok(None),
            told => told.map_err(|why| why.error(SCAN))?,
        }
        let entry = entry.entry().map_err(|what| broken(SCAN, what))?;
        match self.shared.is_ordered() {
            true => self.check_order(&entry),
            false => self.check_progress(&entry),
        }
        .map_err(|what| broken(SCAN, what))?;
        Ok(Some(entry))
    }

    fn check_order(&mut self, entry: &Entry) -> Result<(), &'static str> {
        if entry.sequence() <= self.last {
            return Err("a scan is not in ascending order");
        }
        self.last = entry.sequence();
        self.shared.last.fetch_max(self.last.0, Ordering::SeqCst);
        Ok(())
    }

    fn check_progress(&mut self, entry: &Entry) -> Result<(), &'static str> {
        let Entry::Stored(_, Stored { locator, .. }) = entry else {
            return Err("a scan without order tells of a removal");
        };
        if self.mark.as_ref() == Some(locator) {
            return Err("a scan tells the same again");
        }
        self.told += 1;
        if self.told.is_power_of_two() {
            self.mark = Some(locator.clone());
        }
        Ok(())
    }
}
