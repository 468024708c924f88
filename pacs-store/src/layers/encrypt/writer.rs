//! From chunks of a sender to chunks that are encrypted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use pacs_core::{ArchiveWriter, Error, ErrorKind, InstanceKey, Result, Stored};

use super::chunk::{CHUNK_BYTES, DataKey, SEALED_BYTES, TAG_BYTES};
use super::header::{self, HEADER_BYTES};
use super::keys::Master;
use crate::buffers::{Buffer, Buffers};
use crate::layers::continued::Continued;
use crate::pool::Pool;

pub(super) struct Writer {
    inside: Box<dyn ArchiveWriter>,
    key: DataKey,
    /// What is not written yet.
    header: Option<[u8; HEADER_BYTES]>,
    /// Not encrypted yet. What is full waits until it is known whether it ends with the last chunk.
    gathered: Gathered,
    /// Of the first chunk in it.
    number: u64,
    length: u64,
    failed: bool,
    buffers: Arc<Buffers>,
    helpers: Arc<Pool>,
}

/// Chunks that are gathered, encrypted and handed on together: the archive inside works in larger pieces than one.
const GROUP_CHUNKS: usize = 4;
/// The same as they are stored.
pub(super) const GROUP_BYTES: usize = GROUP_CHUNKS * SEALED_BYTES;

/// What is gathered, with room for its tags.
enum Gathered {
    /// Instances of at most a chunk wait for their commit in no more memory than they need.
    Short(Vec<u8>),
    /// So many bytes of an instance in a buffer of [`GROUP_BYTES`], with room for a tag behind each chunk.
    Long(Buffer, usize),
}

impl Gathered {
    /// For how many more bytes there is room.
    fn room(&self) -> usize {
        match self {
            Self::Short(_) => usize::MAX,
            Self::Long(_, length) => GROUP_CHUNKS * CHUNK_BYTES - length,
        }
    }

    /// Appends the first of `bytes`, and gives the others.
    fn push<'a>(&mut self, bytes: &'a [u8], buffers: &Arc<Buffers>) -> &'a [u8] {
        match self {
            Self::Short(before) if before.len() + bytes.len() <= CHUNK_BYTES => {
                before.reserve(bytes.len() + TAG_BYTES);
                before.extend_from_slice(bytes);
                &[]
            }
            Self::Short(before) => {
                let before = std::mem::take(before);
                *self = Self::Long(buffers.take(), 0);
                // No more than a chunk.
                self.push(&before, buffers);
                self.push(bytes, buffers)
            }
            Self::Long(buffer, length) => {
                let mut rest = bytes;
                while !rest.is_empty() && *length < GROUP_CHUNKS * CHUNK_BYTES {
                    let (chunk, within) = (*length / CHUNK_BYTES, *length % CHUNK_BYTES);
                    let (now, later) = rest.split_at(rest.len().min(CHUNK_BYTES - within));
                    let at = chunk * SEALED_BYTES + within;
                    buffer.bytes_mut()[at..at + now.len()].copy_from_slice(now);
                    *length += now.len();
                    rest = later;
                }
                rest
            }
        }
    }

    /// Encrypted, with their tags, and how many chunks these are. With `last` the last of them is the last of all.
    fn seal(self, key: &DataKey, number: u64, last: bool) -> Result<(Bytes, u64)> {
        match self {
            Self::Short(mut bytes) => {
                bytes.resize(bytes.len() + TAG_BYTES, 0);
                key.seal(number, last, &mut bytes)?;
                Ok((bytes.into(), 1))
            }
            Self::Long(mut buffer, length) => {
                let count = length.div_ceil(CHUNK_BYTES);
                let sealed = length + count * TAG_BYTES;
                let chunks = buffer.bytes_mut()[..sealed].chunks_mut(SEALED_BYTES);
                for (at, chunk) in chunks.enumerate() {
                    key.seal(number + at as u64, last && at + 1 == count, chunk)?;
                }
                let bytes = match sealed < GROUP_BYTES / 2 {
                    // It may wait for its commit, and would keep the whole buffer.
                    true => Bytes::copy_from_slice(&buffer.bytes_mut()[..sealed]),
                    false => buffer.freeze(sealed),
                };
                Ok((bytes, count as u64))
            }
        }
    }
}

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
            gathered: Gathered::Short(Vec::new()),
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
            if self.gathered.room() == 0 {
                let next = Gathered::Long(self.buffers.take(), 0);
                self.send(next, false).await?;
            }
            rest = self.gathered.push(rest, &self.buffers);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Encrypts what is gathered and hands it on; `next` takes its place.
    async fn send(&mut self, next: Gathered, last: bool) -> Result<()> {
        let gathered = std::mem::replace(&mut self.gathered, next);
        let (sealed, count) = gathered.seal(&self.key, self.number, last)?;
        self.number += count;
        if let Some(header) = self.header.take() {
            self.inside.write(Bytes::copy_from_slice(&header)).await?;
        }
        self.inside.write(sealed).await
    }

    async fn finish(mut self, key: InstanceKey, committing: Arc<AtomicBool>) -> Result<Stored> {
        if self.failed {
            return Err(failed_before("archive.commit"));
        }
        self.send(Gathered::Short(Vec::new()), true).await?;
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
        let work = (*self).finish(key, Arc::clone(&committing)).boxed();
        Continued::new(work, committing, helpers).boxed()
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        self.inside.abort()
    }
}
