//! [`MemoryArchive`]: the simplest archive that keeps every promise but durability.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, stream};
use pacs_core::limits::READ_CHUNK_BYTES;
use pacs_core::{
    Archive, ArchiveCapability, ArchiveWriter, Entry, Error, ErrorKind, InstanceKey, Locator, Result,
    Sequence, Stored, Timestamp, Uid,
};

/// Keeps instances in memory.
#[derive(Default)]
pub struct MemoryArchive {
    shelf: Arc<Mutex<Shelf>>,
}

#[derive(Default)]
struct Shelf {
    last: u64,
    /// What is kept, by the sequence of its commit, which is its locator.
    kept: BTreeMap<u64, (InstanceKey, Bytes, Timestamp)>,
    /// What was removed, by the sequence of that, until an index knows of it.
    removed: BTreeMap<u64, (Uid, Locator)>,
}

fn shelf(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    // Nothing panics while it holds this lock.
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

fn locate(locator: &Locator) -> Option<u64> {
    Some(u64::from_be_bytes(locator.as_bytes().try_into().ok()?))
}

fn not_found(operation: &'static str) -> Error {
    Error::new(ErrorKind::NotFound, operation, "nothing is kept at this locator")
}

impl MemoryArchive {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn find(&self, locator: &Locator) -> Option<Bytes> {
        let shelf = shelf(&self.shelf);
        let (_, bytes, _) = shelf.kept.get(&locate(locator)?)?;
        Some(bytes.clone())
    }
}

impl Archive for MemoryArchive {
    fn capability(&self) -> ArchiveCapability {
        ArchiveCapability {
            durable: false,
            ordered_scan: true,
        }
    }

    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn ArchiveWriter>>> {
        let writer = Writer {
            shelf: Arc::clone(&self.shelf),
            bytes: BytesMut::new(),
        };
        std::future::ready(Ok(Box::new(writer) as Box<dyn ArchiveWriter>)).boxed()
    }

    fn read(&self, locator: &Locator, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        let Some(bytes) = self.find(locator) else {
            return stream::once(std::future::ready(Err(not_found("archive.read")))).boxed();
        };
        let length = bytes.len();
        // A range past the end yields what there is.
        let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(length);
        let (start, end) = (within(range.start), within(range.end));
        let pieces = (start..end)
            .step_by(READ_CHUNK_BYTES)
            .map(move |at| Ok(bytes.slice(at..end.min(at + READ_CHUNK_BYTES))));
        stream::iter(pieces).boxed()
    }

    fn remove(&self, instance: &Uid, locator: &Locator) -> BoxFuture<'_, Result<Sequence>> {
        let mut shelf = shelf(&self.shelf);
        if locate(locator).is_some_and(|at| shelf.kept.remove(&at).is_some()) {
            shelf.last += 1;
            let sequence = shelf.last;
            shelf.removed.insert(sequence, (*instance, locator.clone()));
        }
        std::future::ready(Ok(Sequence(shelf.last))).boxed()
    }

    fn scan(&self, after: Sequence) -> BoxStream<'static, Result<Entry>> {
        let shelf = shelf(&self.shelf);
        let behind = after.0.saturating_add(1)..;
        let kept = shelf.kept.range(behind.clone());
        let kept = kept.map(|(&sequence, (key, bytes, received))| {
            let stored = Stored {
                locator: Locator::new(&sequence.to_be_bytes()),
                length: bytes.len() as u64,
                sequence: Sequence(sequence),
                received: *received,
            };
            Entry::Stored(*key, stored)
        });
        let removed = shelf.removed.range(behind);
        let removed = removed.map(|(&sequence, (instance, locator))| Entry::Removed {
            instance: *instance,
            locator: locator.clone(),
            sequence: Sequence(sequence),
        });
        let mut entries: Vec<Entry> = kept.chain(removed).collect();
        entries.sort_by_key(Entry::sequence);
        stream::iter(entries.into_iter().map(Ok)).boxed()
    }

    fn verify(&self, locator: &Locator) -> BoxFuture<'_, Result<()>> {
        let found = self.find(locator);
        std::future::ready(found.map(drop).ok_or_else(|| not_found("archive.verify"))).boxed()
    }

    fn indexed(&self, sequence: Sequence) -> BoxFuture<'_, Result<()>> {
        let mut shelf = shelf(&self.shelf);
        shelf.removed = shelf.removed.split_off(&sequence.0.saturating_add(1));
        std::future::ready(Ok(())).boxed()
    }
}

impl fmt::Debug for MemoryArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryArchive").finish_non_exhaustive()
    }
}

struct Writer {
    shelf: Arc<Mutex<Shelf>>,
    bytes: BytesMut,
}

impl ArchiveWriter for Writer {
    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<()>> {
        self.bytes.extend_from_slice(&chunk);
        std::future::ready(Ok(())).boxed()
    }

    fn commit(self: Box<Self>, key: InstanceKey) -> BoxFuture<'static, Result<Stored>> {
        async move {
            let mut shelf = shelf(&self.shelf);
            shelf.last += 1;
            let stored = Stored {
                locator: Locator::new(&shelf.last.to_be_bytes()),
                length: self.bytes.len() as u64,
                sequence: Sequence(shelf.last),
                received: Timestamp::now(),
            };
            let kept = (key, self.bytes.freeze(), stored.received);
            shelf.kept.insert(stored.sequence.0, kept);
            Ok(stored)
        }
        .boxed()
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        std::future::ready(Ok(())).boxed()
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use pacs_core::testkit::archive::key;

    use super::*;

    #[test]
    fn what_was_removed_takes_no_room_once_an_index_knows_of_it() {
        let archive = MemoryArchive::new();
        block_on(async {
            for _ in 0..3 {
                let writer = archive.begin().await.expect("begins");
                let stored = writer.commit(key(1)).await.expect("is kept");
                let removed = archive.remove(&key(1).instance, &stored.locator).await;
                archive
                    .indexed(removed.expect("is removed"))
                    .await
                    .expect("is noted");
            }
        });
        let shelf = shelf(&archive.shelf);
        assert!(shelf.kept.is_empty() && shelf.removed.is_empty());
    }
}
