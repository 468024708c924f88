//! From chunks to a commit.

use std::hash::Hasher as _;
use std::sync::Arc;

use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use futures::future::BoxFuture;
use futures::{FutureExt, SinkExt, StreamExt};
use object_store::WriteMultipart;
use pacs_core::{ArchiveWriter, Error, ErrorKind, InstanceKey, Result, Stored};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use twox_hash::XxHash3_64;

use super::bucket::failed;
use super::commit::{Request, Source};
use super::pack::StreamName;
use super::{Shared, closed, lock};
use crate::gathered::Gathered;
use crate::layers::encrypt::random_number;

/// That an instance is one of those that come, and of the larger ones among them.
#[derive(Default)]
pub(super) struct Turns {
    instance: Option<OwnedSemaphorePermit>,
    stream: Option<OwnedSemaphorePermit>,
}

async fn turn(of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    let turn = Arc::clone(of).acquire_owned().await;
    turn.map_err(|_| closed("archive.write"))
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    stage: Stage,
    hasher: XxHash3_64,
    length: u64,
}

enum Stage {
    Memory(Gathered, Turns),
    Stream(Stream),
    /// Failed, or ended.
    Ended,
}

/// An object of its own that is being sent.
struct Stream {
    parts: mpsc::Sender<Part>,
    sent: JoinHandle<Result<OpenStream>>,
    turns: Turns,
}

enum Part {
    Bytes(Bytes),
    /// What came is all of it: without this word the object is not made.
    End,
}

/// An object of one instance that no pack names yet.
pub(super) struct OpenStream {
    shared: Arc<Shared>,
    name: StreamName,
    is_settled: bool,
}

impl OpenStream {
    fn begin(shared: Arc<Shared>) -> Result<Self> {
        let random = random_number()?;
        // The number is read and noted at once: the state that is noted meanwhile does not pass over it.
        let mut open = lock(&shared.open_streams);
        let begun = shared.published();
        *open.entry(begun).or_default() += 1;
        drop(open);
        Ok(Self {
            shared,
            name: StreamName { begun, random },
            is_settled: false,
        })
    }

    pub(super) fn name(&self) -> StreamName {
        self.name
    }

    /// A pack names it, or it isn't there.
    pub(super) fn into_settled(mut self) {
        self.settle();
    }

    fn settle(&mut self) {
        if !std::mem::replace(&mut self.is_settled, true) {
            let mut open = lock(&self.shared.open_streams);
            if let Some(count) = open.get_mut(&self.name.begun) {
                *count -= 1;
                if *count == 0 {
                    open.remove(&self.name.begun);
                }
            }
        }
    }
}

// Dropped otherwise, it may be left in the store: it stays noted, and the next opening of the archive looks for it.

impl Writer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            stage: Stage::Memory(Gathered::default(), Turns::default()),
            hasher: XxHash3_64::default(),
            length: 0,
        }
    }

    async fn push(&mut self, chunk: Bytes) -> Result<()> {
        self.hasher.write(&chunk);
        self.length += chunk.len() as u64;
        // Where the future is dropped in between, the writer has ended: it lacks something.
        self.stage = match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Memory(mut gathered, mut turns) => {
                gathered.push(chunk);
                let options = &self.shared.options;
                if turns.instance.is_none() {
                    turns.instance = Some(turn(&self.shared.instances).await?);
                }
                if turns.stream.is_none() && gathered.bytes() > options.inline_bytes {
                    turns.stream = Some(turn(&self.shared.streams).await?);
                }
                match gathered.bytes() > options.part_bytes {
                    false => Stage::Memory(gathered, turns),
                    true => {
                        let mut stream = self.begin_stream(turns)?;
                        for piece in gathered.take() {
                            stream.put(piece).await?;
                        }
                        Stage::Stream(stream)
                    }
                }
            }
            Stage::Stream(mut stream) => {
                stream.put(chunk).await?;
                Stage::Stream(stream)
            }
            Stage::Ended => return Err(closed("archive.write")),
        };
        Ok(())
    }

    fn begin_stream(&self, turns: Turns) -> Result<Stream> {
        let open = OpenStream::begin(Arc::clone(&self.shared))?;
        let (parts, receiver) = mpsc::channel(1);
        let sent = self.shared.runtime.spawn(send(open, receiver));
        Ok(Stream { parts, sent, turns })
    }
}

impl Stream {
    async fn put(&mut self, piece: Bytes) -> Result<()> {
        if self.parts.send(Part::Bytes(piece)).await.is_ok() {
            return Ok(());
        }
        // The sending ended: why, it says itself.
        match (&mut self.sent).await {
            Ok(Err(error)) => Err(error),
            _ => Err(closed("archive.write")),
        }
    }
}

/// Sends an object part by part as they come.
async fn send(mut open: OpenStream, mut parts: mpsc::Receiver<Part>) -> Result<OpenStream> {
    let shared = Arc::clone(&open.shared);
    let path = shared.bucket.stream(open.name);
    let upload = match shared.bucket.upload(&path).await {
        Ok(upload) => upload,
        Err(error) => {
            open.settle();
            return Err(error);
        }
    };
    let mut upload = WriteMultipart::new_with_chunk_size(upload, shared.options.part_bytes.max(1));
    let mut is_all = false;
    let mut result = Ok(());
    while let Some(part) = parts.next().await {
        match part {
            Part::Bytes(piece) => {
                // Not more than one part on its way and one that is gathered is in memory.
                result = upload.wait_for_capacity(1).await;
                if result.is_err() {
                    break;
                }
                upload.put(piece);
            }
            Part::End => {
                is_all = true;
                break;
            }
        }
    }
    if result.is_err() || !is_all {
        // What a store keeps of it is no object; it is told to forget it.
        if upload.abort().await.is_ok() {
            open.settle();
        }
        let gone = Error::new(ErrorKind::Cancelled, "archive.write", "the instance was given up");
        return Err(match result {
            Err(error) => failed("archive.write", error),
            Ok(()) => gone,
        });
    }
    match upload.finish().await {
        Ok(_) => Ok(open),
        Err(error) => {
            // There may be an object all the same. Where it can't be removed now, it stays noted.
            if shared.bucket.delete(&path).await.is_ok() {
                open.settle();
            }
            Err(failed("archive.write", error))
        }
    }
}

impl ArchiveWriter for Writer {
    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<()>> {
        async move {
            let written = self.push(chunk).await;
            if written.is_err() {
                self.stage = Stage::Ended;
            }
            written
        }
        .boxed()
    }

    fn commit(self: Box<Self>, key: InstanceKey) -> BoxFuture<'static, Result<Stored>> {
        let Self {
            shared,
            stage,
            hasher,
            length,
        } = *self;
        async move {
            // Held, the archive waits for it.
            let queue = shared.queue("archive.commit")?;
            let work = async move {
                let source = match stage {
                    Stage::Memory(mut gathered, turns) => Source::Memory(gathered.take(), turns),
                    Stage::Stream(mut stream) => {
                        // If it ended before, it says itself why.
                        let _ = stream.parts.send(Part::End).await;
                        let sent = stream.sent.await.map_err(|_| closed("archive.commit"))?;
                        Source::Stored(sent?, stream.turns)
                    }
                    Stage::Ended => return Err(closed("archive.commit")),
                };
                let (reply, receiver) = oneshot::channel();
                let request = Request::Commit {
                    key,
                    source,
                    length,
                    checksum: hasher.finish(),
                    reply,
                };
                let sent = queue.unbounded_send(request);
                sent.map_err(|_| closed("archive.commit"))?;
                drop(queue);
                receiver.await.map_err(|_| closed("archive.commit"))?
            };
            let work = shared.runtime.spawn(work);
            work.await.map_err(|_| closed("archive.commit"))?
        }
        .boxed()
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        async move {
            // An object that was begun is given up when nobody sends parts of it any more.
            if let Stage::Stream(Stream { parts, sent, .. }) = self.stage {
                drop(parts);
                let _ = sent.await;
            }
            Ok(())
        }
        .boxed()
    }
}
