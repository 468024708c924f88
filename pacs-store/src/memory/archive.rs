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
    /// What happened, by sequence. The locator of an instance is the sequence of its commit.
    log: BTreeMap<u64, Event>,
}

enum Event {
    Stored(InstanceKey, Bytes, Timestamp),
    Removed(Uid, Locator),
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
        match shelf(&self.shelf).log.get(&locate(locator)?) {
            Some(Event::Stored(_, bytes, _)) => Some(bytes.clone()),
            _ => None,
        }
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
        let place = locate(locator).filter(|at| matches!(shelf.log.get(at), Some(Event::Stored(..))));
        if let Some(at) = place {
            shelf.log.remove(&at);
            shelf.last += 1;
            let sequence = shelf.last;
            shelf
                .log
                .insert(sequence, Event::Removed(*instance, locator.clone()));
        }
        std::future::ready(Ok(Sequence(shelf.last))).boxed()
    }

    fn scan(&self, after: Sequence) -> BoxStream<'static, Result<Entry>> {
        let shelf = shelf(&self.shelf);
        let entries: Vec<_> = shelf
            .log
            .range(after.0.saturating_add(1)..)
            .map(|(&sequence, event)| {
                let sequence = Sequence(sequence);
                Ok(match event {
                    Event::Stored(key, bytes, received) => Entry::Stored(
                        *key,
                        Stored {
                            locator: Locator::new(&sequence.0.to_be_bytes()),
                            length: bytes.len() as u64,
                            sequence,
                            received: *received,
                        },
                    ),
                    Event::Removed(instance, locator) => Entry::Removed {
                        instance: *instance,
                        locator: locator.clone(),
                        sequence,
                    },
                })
            })
            .collect();
        stream::iter(entries).boxed()
    }

    fn verify(&self, locator: &Locator) -> BoxFuture<'_, Result<()>> {
        let found = self.find(locator);
        std::future::ready(found.map(drop).ok_or_else(|| not_found("archive.verify"))).boxed()
    }

    fn indexed(&self, _sequence: Sequence) -> BoxFuture<'_, Result<()>> {
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
            let event = Event::Stored(key, self.bytes.freeze(), stored.received);
            shelf.log.insert(stored.sequence.0, event);
            Ok(stored)
        }
        .boxed()
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        std::future::ready(Ok(())).boxed()
    }
}
