//! From chunks to a record.

use std::hash::Hasher as _;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use pacs_core::{ArchiveWriter, Error, ErrorKind, InstanceKey, Result, Stored};
use twox_hash::XxHash3_64;

use super::Store;
use super::lane::{Lane, closed};
use super::queue::{Request, Source};
use crate::gathered::Gathered;

/// A lane and how the writing of a piece to it ended.
pub(super) type Written = (Box<Lane>, io::Result<()>);

pub(super) struct Writer {
    store: Arc<Store>,
    stage: Stage,
    /// Chunks that no I/O thread has yet.
    gathered: Gathered,
    failed: bool,
}

enum Stage {
    /// All of it is in memory, and in the hasher.
    Memory(Box<XxHash3_64>),
    /// A lane is ours and nothing is in flight.
    Lane(Box<Lane>),
    /// An I/O thread writes a piece.
    Writing(oneshot::Receiver<Written>),
    /// Committed, aborted or lost.
    Ended,
}

impl Writer {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            stage: Stage::Memory(Box::default()),
            gathered: Gathered::default(),
            failed: false,
        }
    }

    async fn push(&mut self, chunk: Bytes) -> Result<()> {
        if let Stage::Memory(hasher) = &mut self.stage {
            hasher.write(&chunk);
        }
        self.gathered.push(chunk);
        let piece_bytes = self.store.options.piece_bytes.max(1);
        let limit = match self.stage {
            Stage::Memory(_) => self.store.options.inline_bytes,
            _ => piece_bytes - 1,
        };
        if self.gathered.bytes() <= limit {
            return Ok(());
        }
        // At the end of this match the stage is Lane, or the error has been returned.
        match &mut self.stage {
            Stage::Memory(_) => {
                self.store.room("archive.write")?;
                let mut lane = self.store.lane().await?;
                if let Stage::Memory(hasher) = std::mem::replace(&mut self.stage, Stage::Ended) {
                    lane.hasher = hasher;
                    lane.hashed = self.gathered.bytes() as u64;
                }
                self.stage = Stage::Lane(lane);
            }
            Stage::Writing(receiver) => {
                let (lane, result) = receiver.await.map_err(|_| closed("archive.write"))?;
                self.stage = Stage::Lane(lane);
                result.map_err(write_failed)?;
                self.store.room("archive.write")?;
            }
            Stage::Lane(_) => {}
            Stage::Ended => return Err(closed("archive.write")),
        }
        if self.gathered.bytes() >= piece_bytes
            && let Stage::Lane(lane) = std::mem::replace(&mut self.stage, Stage::Ended)
        {
            let pieces = self.gathered.take();
            self.stage = Stage::Writing(self.write_piece(lane, pieces));
        }
        Ok(())
    }

    fn write_piece(&self, mut lane: Box<Lane>, pieces: Vec<Bytes>) -> oneshot::Receiver<Written> {
        let (sender, receiver) = oneshot::channel();
        let store = Arc::clone(&self.store);
        self.store.writers.spawn(move || {
            let result = lane.append(&pieces, store.lanes.at_most_one_is_used());
            drop(pieces);
            if let Err((lane, _)) = sender.send((lane, result)) {
                store.abort_lane(lane);
            }
        });
        receiver
    }
}

pub(super) fn write_failed(error: io::Error) -> Error {
    Error::io("archive.write", "the medium did not take the instance", error)
}

impl ArchiveWriter for Writer {
    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<()>> {
        async move {
            if self.failed {
                let why = "an earlier write of this instance failed";
                return Err(Error::new(ErrorKind::Invalid, "archive.write", why));
            }
            let result = self.push(chunk).await;
            self.failed |= result.is_err();
            result
        }
        .boxed()
    }

    fn commit(mut self: Box<Self>, key: InstanceKey) -> BoxFuture<'static, Result<Stored>> {
        async move {
            if self.failed {
                let why = "an earlier write of this instance failed";
                return Err(Error::new(ErrorKind::Invalid, "archive.commit", why));
            }
            let (reply, receiver) = oneshot::channel();
            let length = self.gathered.bytes() as u64;
            let tail = self.gathered.take();
            let source = match std::mem::replace(&mut self.stage, Stage::Ended) {
                Stage::Memory(hasher) => Source::Memory {
                    length,
                    checksum: hasher.finish(),
                },
                Stage::Lane(lane) => Source::Lane(lane),
                Stage::Writing(receiver) => Source::Writing(receiver),
                Stage::Ended => return Err(closed("archive.commit")),
            };
            self.store.queue.push(Request::Commit {
                key,
                source,
                pieces: tail,
                reply,
            });
            receiver.await.map_err(|_| closed("archive.commit"))?
        }
        .boxed()
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        // Drop does it.
        async move {
            drop(self);
            Ok(())
        }
        .boxed()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Lane(lane) => {
                let store = Arc::clone(&self.store);
                self.store.writers.spawn(move || store.abort_lane(lane));
            }
            // The I/O thread finds nobody who waits, or has answered already.
            Stage::Writing(mut receiver) => {
                receiver.close();
                if let Ok(Some((lane, _))) = receiver.try_recv() {
                    let store = Arc::clone(&self.store);
                    self.store.writers.spawn(move || store.abort_lane(lane));
                }
            }
            Stage::Memory(_) | Stage::Ended => {}
        }
    }
}
