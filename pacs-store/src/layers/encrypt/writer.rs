//! From chunks of a sender to chunks that are encrypted.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::FutureExt;
use futures::executor::block_on;
use futures::future::{BoxFuture, poll_fn};
use pacs_core::{ArchiveWriter, Error, ErrorKind, InstanceKey, Result, Stored};

use super::chunk::{CHUNK_BYTES, DataKey, SEALED_BYTES};
use super::header::{self, HEADER_BYTES};
use super::keys::Master;
use crate::pool::Pool;

pub(super) struct Writer {
    inside: Box<dyn ArchiveWriter>,
    key: DataKey,
    /// What is not written yet.
    header: Option<[u8; HEADER_BYTES]>,
    /// Not encrypted yet: at most a chunk. A full one waits until it is known whether it is the last.
    chunk: Vec<u8>,
    number: u64,
    length: u64,
    failed: bool,
    helpers: Arc<Pool>,
}

impl Writer {
    pub(super) fn new(inside: Box<dyn ArchiveWriter>, master: &Master, helpers: Arc<Pool>) -> Result<Self> {
        let (header, key) = header::seal(master)?;
        Ok(Self {
            inside,
            key,
            header: Some(header),
            chunk: Vec::new(),
            number: 0,
            length: 0,
            failed: false,
            helpers,
        })
    }

    async fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.chunk.len() == CHUNK_BYTES {
                self.send(false).await?;
            }
            if self.chunk.capacity() == 0 && (self.number > 0 || rest.len() >= CHUNK_BYTES) {
                self.chunk.reserve_exact(SEALED_BYTES);
            }
            let (now, later) = rest.split_at(rest.len().min(CHUNK_BYTES - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            self.length += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    /// Encrypts the chunk and hands it on.
    async fn send(&mut self, last: bool) -> Result<()> {
        let mut chunk = std::mem::take(&mut self.chunk);
        self.key.seal(self.number, last, &mut chunk)?;
        self.number += 1;
        if let Some(header) = self.header.take() {
            self.inside.write(Bytes::copy_from_slice(&header)).await?;
        }
        self.inside.write(chunk.into()).await
    }

    async fn finish(mut self, key: InstanceKey, committing: Arc<AtomicBool>) -> Result<Stored> {
        if self.failed {
            return Err(failed_before("archive.commit"));
        }
        self.send(true).await?;
        let mut commit = self.inside.commit(key);
        let first = futures::poll!(&mut commit);
        committing.store(true, Ordering::Release);
        let stored = match first {
            Poll::Ready(stored) => stored?,
            Poll::Pending => commit.await?,
        };
        Ok(Stored {
            length: self.length,
            ..stored
        })
    }
}

fn failed_before(operation: &'static str) -> Error {
    let why = "an earlier write of this instance failed";
    Error::new(ErrorKind::Invalid, operation, why)
}

#[deny(clippy::missing_trait_methods)]
impl ArchiveWriter for Writer {
    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<()>> {
        async move {
            if self.failed {
                return Err(failed_before("archive.write"));
            }
            // Until it is through: dropped on its way, it has lost a part of the instance.
            self.failed = true;
            self.push(&chunk).await?;
            self.failed = false;
            Ok(())
        }
        .boxed()
    }

    fn commit(self: Box<Self>, key: InstanceKey) -> BoxFuture<'static, Result<Stored>> {
        let committing = Arc::new(AtomicBool::new(false));
        let helpers = Arc::clone(&self.helpers);
        Commit {
            work: Some((*self).finish(key, Arc::clone(&committing)).boxed()),
            begun: false,
            committing,
            helpers,
        }
        .boxed()
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        self.inside.abort()
    }
}

/// A commit, which goes on when it is dropped after its first poll. The archive inside sees to that as soon as its own
/// commit is polled; until then the last chunk may wait to be taken.
struct Commit {
    work: Option<BoxFuture<'static, Result<Stored>>>,
    begun: bool,
    /// The commit inside was polled.
    committing: Arc<AtomicBool>,
    helpers: Arc<Pool>,
}

impl Future for Commit {
    type Output = Result<Stored>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.begun = true;
        let Some(work) = &mut self.work else {
            // Nobody polls a future that is done.
            return Poll::Pending;
        };
        let stored = ready!(work.as_mut().poll(context));
        self.work = None;
        Poll::Ready(stored)
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        let committing = Arc::clone(&self.committing);
        if !self.begun || committing.load(Ordering::Acquire) {
            return;
        }
        if let Some(mut work) = self.work.take() {
            self.helpers.spawn(move || {
                block_on(poll_fn(|context| {
                    let done = work.as_mut().poll(context).is_ready();
                    match done || committing.load(Ordering::Acquire) {
                        true => Poll::Ready(()),
                        false => Poll::Pending,
                    }
                }));
            });
        }
    }
}
