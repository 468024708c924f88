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

use super::chunk::{CHUNK_BYTES, DataKey, TAG_BYTES};
use super::header::{self, HEADER_BYTES};
use super::keys::Master;
use crate::buffers::{Buffer, Buffers};
use crate::pool::Pool;

pub(super) struct Writer {
    inside: Box<dyn ArchiveWriter>,
    key: DataKey,
    /// What is not written yet.
    header: Option<[u8; HEADER_BYTES]>,
    /// Not encrypted yet: at most a chunk. A full one waits until it is known whether it is the last.
    chunk: Chunk,
    number: u64,
    length: u64,
    failed: bool,
    buffers: Arc<Buffers>,
    helpers: Arc<Pool>,
}

/// What is gathered of a chunk, and behind it room for its tag.
enum Chunk {
    /// Instances that are shorter than a chunk wait for their commit in no more memory than they need.
    Short(Vec<u8>),
    /// So many bytes of a buffer.
    Long(Buffer, usize),
}

impl Chunk {
    fn length(&self) -> usize {
        match self {
            Self::Short(bytes) => bytes.len(),
            Self::Long(_, length) => *length,
        }
    }

    /// Appends; it doesn't become longer than a chunk by it.
    fn push(&mut self, bytes: &[u8], buffers: &Arc<Buffers>) {
        match self {
            Self::Short(before) if before.len() + bytes.len() <= SHORT_BYTES => {
                before.extend_from_slice(bytes)
            }
            Self::Short(before) => {
                let mut buffer = buffers.take();
                let length = before.len();
                buffer.bytes_mut()[..length].copy_from_slice(before);
                *self = Self::Long(buffer, length);
                self.push(bytes, buffers);
            }
            Self::Long(buffer, length) => {
                buffer.bytes_mut()[*length..*length + bytes.len()].copy_from_slice(bytes);
                *length += bytes.len();
            }
        }
    }

    /// Encrypted, with its tag.
    fn seal(self, key: &DataKey, number: u64, last: bool) -> Result<Bytes> {
        match self {
            Self::Short(mut bytes) => {
                bytes.resize(bytes.len() + TAG_BYTES, 0);
                key.seal(number, last, &mut bytes)?;
                Ok(bytes.into())
            }
            Self::Long(mut buffer, length) => {
                let sealed = length + TAG_BYTES;
                key.seal(number, last, &mut buffer.bytes_mut()[..sealed])?;
                Ok(buffer.freeze(sealed))
            }
        }
    }
}

/// The longest of which no buffer is taken.
const SHORT_BYTES: usize = CHUNK_BYTES / 4;

impl Writer {
    pub(super) fn new(
        inside: Box<dyn ArchiveWriter>,
        master: &Master,
        buffers: Arc<Buffers>,
        helpers: Arc<Pool>,
    ) -> Result<Self> {
        let key = header::new_key()?;
        let header = header::wrap(&header::INSTANCE, master, &key)?;
        Ok(Self {
            inside,
            key: DataKey::new(&key)?,
            header: Some(header),
            chunk: Chunk::Short(Vec::new()),
            number: 0,
            length: 0,
            failed: false,
            buffers,
            helpers,
        })
    }

    async fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.chunk.length() == CHUNK_BYTES {
                self.send(false).await?;
            }
            let (now, later) = rest.split_at(rest.len().min(CHUNK_BYTES - self.chunk.length()));
            self.chunk.push(now, &self.buffers);
            self.length += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    /// Encrypts the chunk and hands it on.
    async fn send(&mut self, last: bool) -> Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, Chunk::Short(Vec::new()));
        let sealed = chunk.seal(&self.key, self.number, last)?;
        self.number += 1;
        if let Some(header) = self.header.take() {
            self.inside.write(Bytes::copy_from_slice(&header)).await?;
        }
        self.inside.write(sealed).await
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
