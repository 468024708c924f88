//! The committer: who commits at the same time shares a pack.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use object_store::PutPayload;
use pacs_core::error::Retry;
use pacs_core::{Error, ErrorKind, InstanceKey, Result, Sequence, Stored, Timestamp};

use super::pack::{Body, ITEMS_MAX, Item, Pack, Position};
use super::upload::{Settled, Uploaded};
use super::writer::{OpenStream, Turns};
use super::{Shared, UPLOADS_MAX};

const TAKEN_AWAY: &str = "another program has opened this archive in the object store: this one takes nothing more until it is opened anew";
const AWAY: &str = "the object store does not answer";

/// What waits for the committer.
pub(super) enum Request {
    Commit {
        key: InstanceKey,
        source: Source,
        length: u64,
        checksum: u64,
        reply: oneshot::Sender<Result<Stored>>,
    },
    Remove {
        position: Position,
        item: Item,
        reply: oneshot::Sender<Result<Sequence>>,
    },
}

/// Where the bytes of a commit are.
pub(super) enum Source {
    Memory(Vec<Bytes>, Turns),
    Stored(OpenStream, Turns),
}

impl Request {
    /// How much it adds to a pack.
    fn bytes(&self) -> usize {
        match self {
            Self::Commit {
                source: Source::Memory(..),
                length,
                ..
            } => *length as usize,
            _ => 0,
        }
    }

    fn refuse(self, error: &Error) {
        // Nobody waits any more: as good.
        match self {
            Self::Commit { reply, .. } => drop(reply.send(Err(copy(error)))),
            Self::Remove { reply, .. } => drop(reply.send(Err(copy(error)))),
        }
    }
}

/// Who waits for an item of a pack, and what goes with it.
enum Waiting {
    Commit {
        reply: oneshot::Sender<Result<Stored>>,
        stream: Option<OpenStream>,
        /// Who comes next waits for it.
        _turns: Turns,
    },
    Removal(oneshot::Sender<Result<Sequence>>, Position),
}

/// A pack on its way, and who waits for it.
struct Upload {
    number: u64,
    pack: Pack,
    waiting: Vec<Waiting>,
}

pub(super) struct Committer {
    shared: Arc<Shared>,
    requests: mpsc::UnboundedReceiver<Request>,
    /// What is not on its way yet, and how many bytes that is.
    gathered: VecDeque<Request>,
    bytes: usize,
    /// When the first of it came.
    since: Instant,
    uploads: FuturesOrdered<BoxFuture<'static, (Upload, Uploaded)>>,
    /// Of these, what came through while it wasn't known of an earlier one.
    uploaded: VecDeque<(Upload, Uploaded)>,
    /// The number of the next pack.
    next: u64,
    closed: bool,
    /// The archive ended while its store was away.
    gave_up: bool,
}

enum Event {
    Came(Option<Request>),
    Uploaded(Upload, Uploaded),
    Waited,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, requests: mpsc::UnboundedReceiver<Request>) -> Self {
        Self {
            next: shared.published() + 1,
            shared,
            requests,
            gathered: VecDeque::new(),
            bytes: 0,
            since: Instant::now(),
            uploads: FuturesOrdered::new(),
            uploaded: VecDeque::new(),
            closed: false,
            gave_up: false,
        }
    }

    /// Works until the archive is dropped and everything is answered.
    pub(super) async fn run(mut self) {
        loop {
            self.begin_uploads();
            if let Some((upload, uploaded)) = self.uploaded.pop_front() {
                self.finish(upload, uploaded).await;
                continue;
            }
            if self.closed && self.gathered.is_empty() && self.uploads.is_empty() {
                return;
            }
            match self.event().await {
                Event::Came(None) => self.closed = true,
                Event::Came(Some(request)) => self.take(request),
                Event::Uploaded(upload, uploaded) => self.finish(upload, uploaded).await,
                Event::Waited => {}
            }
        }
    }

    fn take(&mut self, request: Request) {
        if let Err(error) = self.shared.check_taking("archive.commit") {
            return request.refuse(&error);
        }
        if self.gathered.is_empty() {
            self.since = Instant::now();
        }
        self.bytes += request.bytes();
        self.gathered.push_back(request);
    }

    fn has_slot(&self) -> bool {
        let slots = self.shared.options.uploads.clamp(1, UPLOADS_MAX as usize);
        self.uploads.len() < slots
    }

    fn begin_uploads(&mut self) {
        while !self.gathered.is_empty() && self.has_slot() {
            let is_full = self.bytes >= self.shared.options.pack_bytes || self.gathered.len() >= ITEMS_MAX;
            let has_waited = self.since.elapsed() >= self.shared.options.window;
            if !(self.uploads.is_empty() || is_full || has_waited || self.closed) {
                return;
            }
            self.begin_upload();
        }
    }

    async fn event(&mut self) -> Event {
        let waits_for_time = !self.gathered.is_empty() && self.has_slot();
        let waited = self.since + self.shared.options.window;
        tokio::select! {
            // What came together goes together.
            biased;
            request = self.requests.next(), if !self.closed => Event::Came(request),
            Some((upload, uploaded)) = self.uploads.next(), if !self.uploads.is_empty() => Event::Uploaded(upload, uploaded),
            () = tokio::time::sleep_until(waited.into()), if waits_for_time => Event::Waited,
        }
    }

    fn begin_upload(&mut self) {
        let received = Timestamp::now();
        let (mut items, mut waiting, mut payload) = (Vec::new(), Vec::new(), Vec::new());
        let mut offset = 0;
        while let Some(request) = self.gathered.pop_front() {
            self.bytes -= request.bytes();
            match request {
                Request::Commit {
                    key,
                    source,
                    length,
                    checksum,
                    reply,
                } => {
                    let (body, stream, turns) = match source {
                        Source::Memory(pieces, turns) => {
                            let there: usize = pieces.iter().map(Bytes::len).sum();
                            if there as u64 != length {
                                let lost =
                                    Error::new(ErrorKind::Internal, "archive.commit", "bytes are missing");
                                drop(reply.send(Err(lost)));
                                continue;
                            }
                            payload.extend(pieces);
                            let body = Body::Inside(offset);
                            offset += length;
                            (body, None, turns)
                        }
                        Source::Stored(stream, turns) => (Body::Own(stream.name()), Some(stream), turns),
                    };
                    items.push(Item::Instance {
                        key,
                        received,
                        body,
                        length,
                        checksum,
                    });
                    waiting.push(Waiting::Commit {
                        reply,
                        stream,
                        _turns: turns,
                    });
                }
                Request::Remove {
                    position,
                    item,
                    reply,
                } => {
                    items.push(item);
                    waiting.push(Waiting::Removal(reply, position));
                }
            }
            if offset >= self.shared.options.pack_bytes as u64 || items.len() >= ITEMS_MAX {
                break;
            }
        }
        self.since = Instant::now();
        let number = self.next;
        self.next += 1;
        let pack = Pack::new(self.shared.writer, items, offset);
        payload.push(pack.encode());
        let payload = PutPayload::from_iter(payload);
        let upload = Upload {
            number,
            pack,
            waiting,
        };
        let shared = Arc::clone(&self.shared);
        // By itself: what is sent is signed, which takes its time.
        let uploading = self
            .shared
            .runtime
            .spawn(async move { shared.upload(number, payload).await });
        let work = async move {
            let ended =
                |_| Uploaded::Unknown(Error::new(ErrorKind::Internal, "archive.commit", "a task ended"));
            (upload, uploading.await.unwrap_or_else(ended))
        };
        self.uploads.push_back(work.boxed());
    }

    /// Makes a pack visible, or makes sure that it never is, and tells those who wait. In order of numbers.
    async fn finish(&mut self, upload: Upload, uploaded: Uploaded) {
        // What another program took away before this one came through it may have passed over. And an archive that ended
        // while its store was away waits no longer: those who wait hear that it is closed.
        if self.is_taken_away() {
            return drop(refuse_all(upload, &taken_away()));
        }
        if self.gave_up {
            return;
        }
        match uploaded {
            Uploaded::Stored => self.publish(upload),
            Uploaded::TakenAway => {
                self.take_away();
                // Whether a pack names their objects, whoever has the archive finds.
                drop(refuse_all(upload, &taken_away()));
            }
            Uploaded::Unknown(error) => {
                tracing::error!(%error, "whether a pack is stored is not known: who waits for it waits on");
                *super::lock(&self.shared.refusal) = Some((ErrorKind::Io, AWAY));
                let Some(settled) = self.settle(upload.number, &error).await else {
                    self.gave_up = true;
                    return;
                };
                match settled {
                    Settled::Stored => self.publish(upload),
                    Settled::Empty => self.give_up(refuse_all(upload, &error)),
                    Settled::TakenAway => {
                        self.take_away();
                        return drop(refuse_all(upload, &taken_away()));
                    }
                }
                *super::lock(&self.shared.refusal) = None;
            }
        }
    }

    /// Removes objects that no pack will name.
    fn give_up(&self, streams: Vec<OpenStream>) {
        let shared = Arc::clone(&self.shared);
        self.shared.runtime.spawn(async move {
            for stream in streams {
                // What is left an opening finds, since it stays noted.
                if shared
                    .bucket
                    .delete(&shared.bucket.stream(stream.name()))
                    .await
                    .is_ok()
                {
                    stream.into_settled();
                }
            }
        });
    }

    /// Until it is certain whether the pack is kept, nothing else is taken. None when the archive ended before.
    async fn settle(&mut self, number: u64, error: &Error) -> Option<Settled> {
        while let Some(request) = self.gathered.pop_front() {
            request.refuse(error);
        }
        self.bytes = 0;
        let shared = Arc::clone(&self.shared);
        let mut settled = Box::pin(async move { shared.settle(number).await });
        let patience = self.shared.options.patience;
        loop {
            tokio::select! {
                settled = &mut settled => return Some(settled),
                request = self.requests.next(), if !self.closed => match request {
                    Some(request) => request.refuse(error),
                    None => self.closed = true,
                },
                // Left alone, they would run out of time.
                Some(uploaded) = self.uploads.next(), if !self.uploads.is_empty() => self.uploaded.push_back(uploaded),
                () = tokio::time::sleep(patience), if self.closed => return None,
            }
        }
    }

    fn is_taken_away(&self) -> bool {
        matches!(*super::lock(&self.shared.refusal), Some((ErrorKind::Refused, _)))
    }

    fn take_away(&mut self) {
        if !self.is_taken_away() {
            tracing::error!("{TAKEN_AWAY}");
        }
        *super::lock(&self.shared.refusal) = Some((ErrorKind::Refused, TAKEN_AWAY));
        while let Some(request) = self.gathered.pop_front() {
            request.refuse(&taken_away());
        }
        self.bytes = 0;
    }

    fn publish(&mut self, upload: Upload) {
        let Upload {
            number,
            pack,
            waiting,
        } = upload;
        let mut has_removals = false;
        for waiting in &waiting {
            if let Waiting::Removal(_, position) = waiting {
                self.shared.note_removal(*position, number);
                has_removals = true;
            }
        }
        self.shared.published.store(number, Ordering::Release);
        for (item, waiting) in (0..).zip(waiting) {
            let position = Position { pack: number, item };
            // Nobody waits any more: a scan tells.
            match waiting {
                Waiting::Commit { reply, stream, .. } => {
                    if let Some(stream) = stream {
                        stream.into_settled();
                    }
                    let stored = pack.stored(position).map(|(_, stored)| stored);
                    let lost = || Error::new(ErrorKind::Internal, "archive.commit", "an item is missing");
                    drop(reply.send(stored.ok_or_else(lost)));
                }
                Waiting::Removal(reply, _) => drop(reply.send(Ok(position.sequence()))),
            }
        }
        if has_removals {
            self.shared.to_rewrite.notify_one();
        }
    }
}

fn taken_away() -> Error {
    Error::new(ErrorKind::Refused, "archive.commit", TAKEN_AWAY)
}

/// Answers the objects that no pack names now.
fn refuse_all(upload: Upload, error: &Error) -> Vec<OpenStream> {
    let mut streams = Vec::new();
    for waiting in upload.waiting {
        match waiting {
            Waiting::Commit { reply, stream, .. } => {
                drop(reply.send(Err(copy(error))));
                streams.extend(stream);
            }
            Waiting::Removal(reply, _) => drop(reply.send(Err(copy(error)))),
        }
    }
    streams
}

/// The same error for each of a pack; the cause is in the log.
fn copy(error: &Error) -> Error {
    let retry: Retry = error.retry();
    Error::new(error.kind(), error.operation(), error.context().to_owned()).with_retry(retry)
}
