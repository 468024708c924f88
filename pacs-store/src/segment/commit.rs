//! The committer: one thread that makes what waits durable, a group at a time.
//!
//! A group's small records go to the shared lane in one vectored write; records that streamed get
//! their header in front; then each file that was touched is synced once, all at the same time. So
//! whoever waits shares the sync, and results come in ascending order of sequence.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::channel::oneshot;
use futures::executor::block_on;
use pacs_core::{Error, ErrorKind, InstanceKey, Locator, Result, Sequence, Stored, Timestamp, Uid};
use xxhash_rust::xxh3::xxh3_64;

use super::Store;
use super::lane::{Lane, PADDING, closed};
use super::record::{
    HEADER_LENGTH, Header, Place, REMOVED, RecordKind, STATE_OFFSET, SegmentKind, encode_seal, span,
};
use super::writer::{Written, write_failed};
use crate::medium::{MediumFile, write_all_at};

/// Requests that one group takes at most, and bytes of its small records: beyond it the sync has long
/// been shared, and those in front should not wait for those behind.
const GROUP_REQUESTS: usize = 256;
const GROUP_BYTES: u64 = 16 << 20;

/// Something that the committer does.
pub(super) enum Request {
    /// Keep an instance.
    Commit {
        key: InstanceKey,
        source: Source,
        /// What no I/O thread has written yet.
        pieces: Vec<Bytes>,
        reply: oneshot::Sender<Result<Stored>>,
    },
    /// Remove what is kept at a place.
    Remove {
        instance: Uid,
        locator: Locator,
        reply: oneshot::Sender<Result<Sequence>>,
    },
    /// Make every mark of a removal durable that was set before.
    SyncMarks { reply: oneshot::Sender<Result<()>> },
    /// Leave a hint for the next opening.
    Indexed {
        sequence: Sequence,
        reply: oneshot::Sender<Result<()>>,
    },
}

/// Where the bytes of an instance are when it is committed.
pub(super) enum Source {
    /// All with the request.
    Memory { length: u64, checksum: u64 },
    /// In a lane.
    Lane(Box<Lane>),
    /// In a lane, and a piece is still being written.
    Writing(oneshot::Receiver<Written>),
}

/// Requests that wait for the committer.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    requests: VecDeque<Request>,
    closed: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, QueueState> {
        // Nothing panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A closed queue drops the request, which cancels its reply.
    pub(super) fn push(&self, request: Request) {
        let mut state = self.state();
        if !state.closed {
            state.requests.push_back(request);
            drop(state);
            self.changed.notify_one();
        }
    }

    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Waits for requests; none when the queue is closed and empty.
    fn take(&self) -> Option<Vec<Request>> {
        let mut state = self.state();
        while state.requests.is_empty() {
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let mut bytes = 0;
        let mut count = 0;
        for request in state.requests.iter().take(GROUP_REQUESTS) {
            if let Request::Commit {
                source: Source::Memory { length, .. },
                ..
            } = request
            {
                bytes += length;
            }
            if count > 0 && bytes > GROUP_BYTES {
                break;
            }
            count += 1;
        }
        Some(state.requests.drain(..count).collect())
    }
}

/// The committer's own state.
pub(super) struct Committer {
    store: Arc<Store>,
    /// The shared lane, once there was something for it.
    shared: Option<Lane>,
    /// The last sequence that was given.
    sequence: Sequence,
    /// Segments whose medium failed, with the offset behind which nothing counts, not yet on record.
    unsealed: Vec<(u64, u64)>,
    /// Segments with records marked as removed since the last hint.
    marked: HashSet<u64>,
    /// A mark may be lost: the removals must be replayed at the next opening, so no hint may skip them.
    hint_frozen: bool,
}

/// A record of the group that is being committed.
struct Record {
    place: Place,
    sequence: Sequence,
    /// Where the next one begins.
    end: u64,
}

/// A record, and who waits for it.
struct Pending {
    record: Record,
    reply: Reply,
}

impl Record {
    fn of_stream(
        self,
        reply: oneshot::Sender<Result<Stored>>,
        received: Timestamp,
        lane: Box<Lane>,
    ) -> Pending {
        Pending {
            record: self,
            reply: Reply::Instance(reply, received, Some(lane)),
        }
    }
}

enum Reply {
    Instance(oneshot::Sender<Result<Stored>>, Timestamp, Option<Box<Lane>>),
    Removal(oneshot::Sender<Result<Sequence>>, Place),
}

impl Committer {
    pub(super) fn new(store: Arc<Store>, shared: Option<Lane>, sequence: Sequence) -> Self {
        Self {
            store,
            shared,
            sequence,
            unsealed: Vec::new(),
            marked: HashSet::new(),
            hint_frozen: false,
        }
    }

    /// Until the queue is closed and empty.
    pub(super) fn run(mut self) {
        while let Some(group) = self.store.queue.take() {
            self.commit(group);
        }
        if let Some(lane) = &self.shared {
            lane.trim();
        }
    }

    fn commit(&mut self, group: Vec<Request>) {
        if let Err(error) = self.write_seals() {
            return self.refuse(group, &error);
        }
        if let Err(error) = self.open_shared() {
            return self.refuse(group, &error);
        }
        let received = Timestamp::now();
        let mut small = Small::default();
        let mut pending = Vec::new();
        let mut refused = Vec::new();
        let mut syncs = Vec::new();
        let mut hints = Vec::new();
        let mut removing = HashSet::new();
        for request in group {
            match request {
                Request::Commit {
                    key,
                    source: Source::Memory { length, checksum },
                    pieces,
                    reply,
                } => {
                    let header = self.header(RecordKind::Instance(key), length, received, checksum);
                    let reply = Reply::Instance(reply, received, None);
                    let record = self.add_small(&mut small, header, pieces);
                    pending.extend(record.map(|record| Pending { record, reply }));
                }
                Request::Commit {
                    key,
                    source: Source::Lane(lane),
                    pieces,
                    reply,
                } => match self.finish_stream(key, received, Ok((lane, Ok(()))), &pieces) {
                    Ok((record, lane)) => pending.push(record.of_stream(reply, received, lane)),
                    Err(error) => refused.push((reply, error)),
                },
                Request::Commit {
                    key,
                    source: Source::Writing(written),
                    pieces,
                    reply,
                } => match self.finish_stream(key, received, block_on(written), &pieces) {
                    Ok((record, lane)) => pending.push(record.of_stream(reply, received, lane)),
                    Err(error) => refused.push((reply, error)),
                },
                Request::Remove {
                    instance,
                    locator,
                    reply,
                } => match self.find_kept(&locator, &mut removing) {
                    Ok(Some(place)) => {
                        let payload = Bytes::copy_from_slice(locator.as_bytes());
                        let kind = RecordKind::Removal(instance);
                        let header = self.header(kind, payload.len() as u64, received, xxh3_64(&payload));
                        let reply = Reply::Removal(reply, place);
                        let record = self.add_small(&mut small, header, vec![payload]);
                        pending.extend(record.map(|record| Pending { record, reply }));
                    }
                    // Nothing to make durable; everything that was answered so far is.
                    Ok(None) => drop(reply.send(Ok(self.store.published()))),
                    Err(error) => drop(reply.send(Err(error))),
                },
                Request::SyncMarks { reply } => syncs.push(reply),
                Request::Indexed { sequence, reply } => hints.push((sequence, reply)),
            }
        }
        let failed = self.sync(small, &pending);
        // What failed must be on record as such before anybody hears of it: else the next opening might
        // find it whole. Where even that fails, nothing more is taken until it succeeds.
        if let Err(error) = self.write_seals() {
            tracing::error!(%error, "a failed segment could not be sealed");
        }
        self.answer(pending, &failed);
        for (reply, error) in refused {
            drop(reply.send(Err(error)));
        }
        for reply in syncs {
            drop(reply.send(self.sync_marks()));
        }
        for (sequence, reply) in hints {
            // Nobody waits: the hint is as good.
            let _ = reply.send(self.leave_hint(sequence));
        }
    }

    fn header(&mut self, kind: RecordKind, length: u64, received: Timestamp, checksum: u64) -> Header {
        self.sequence.0 += 1;
        Header {
            kind,
            removed: false,
            length,
            sequence: self.sequence,
            received,
            checksum,
            // The record's lane says.
            durable: 0,
        }
    }

    /// Puts a record into the group's one write.
    fn add_small(&mut self, small: &mut Small, mut header: Header, pieces: Vec<Bytes>) -> Option<Record> {
        // The shared lane was opened before, and a payload in memory has a span.
        let (lane, span) = (self.shared.as_ref()?, header.span()?);
        header.durable = lane.start;
        let offset = lane.start + small.length;
        small.parts.push(Part::Header(header.encode(lane.segment.key)));
        small.parts.extend(pieces.into_iter().map(Part::Payload));
        small
            .parts
            .push(Part::Padding((span - HEADER_LENGTH - header.length) as usize));
        small.length += span;
        Some(Record {
            place: Place {
                segment: lane.segment.id,
                offset,
                length: header.length,
            },
            sequence: header.sequence,
            end: offset + span,
        })
    }

    /// Writes the rest of a record that streamed, and its header.
    fn finish_stream(
        &mut self,
        key: InstanceKey,
        received: Timestamp,
        written: Result<Written, oneshot::Canceled>,
        pieces: &[Bytes],
    ) -> Result<(Record, Box<Lane>)> {
        let (mut lane, mut result) = written.map_err(|_| closed("archive.commit"))?;
        if lane.segment.state().poisoned {
            result = Err(io::Error::other("the segment's medium failed meanwhile"));
        }
        if result.is_ok() {
            result = lane.append(pieces);
        }
        if let Err(error) = result {
            self.store.abort_lane(lane);
            return Err(write_failed(error));
        }
        let checksum = lane.hasher.digest();
        let mut header = self.header(RecordKind::Instance(key), lane.length, received, checksum);
        header.durable = lane.start;
        let end = lane.end();
        let payload_end = lane.start + HEADER_LENGTH + lane.length;
        let padding = &PADDING[..(end - payload_end) as usize];
        let result = write_all_at(&*lane.file, &[padding], payload_end)
            .and_then(|()| write_all_at(&*lane.file, &[&header.encode(lane.segment.key)], lane.start));
        if let Err(error) = result {
            // Some of the header may be there.
            if self.take_back(&mut lane) {
                self.store.return_lane(lane);
            } else {
                self.store.retire_lane(&lane);
            }
            return Err(write_failed(error));
        }
        let record = Record {
            place: Place {
                segment: lane.segment.id,
                offset: lane.start,
                length: lane.length,
            },
            sequence: header.sequence,
            end,
        };
        Ok((record, lane))
    }

    /// Writes the group's small records and syncs every file it touched; says which segments failed.
    fn sync(&mut self, small: Small, pending: &[Pending]) -> Vec<(u64, Error)> {
        let mut failed = Vec::new();
        let mut files: Vec<(u64, u64, Arc<dyn MediumFile>)> = Vec::new();
        let mut taken_back = false;
        if small.length > 0
            && let Some(mut lane) = self.shared.take()
        {
            let id = lane.segment.id;
            let end = lane.start + small.length;
            let result = lane
                .reserve(end)
                .and_then(|()| write_all_at(&*lane.file, &small.slices(), lane.start));
            match result {
                Ok(()) => {
                    files.push((id, lane.start, Arc::clone(&lane.file)));
                    self.shared = Some(lane);
                }
                Err(error) => {
                    failed.push((id, write_failed(error)));
                    taken_back = self.take_back(&mut lane);
                    if taken_back {
                        self.shared = Some(lane);
                    }
                }
            }
        }
        for Pending { reply, .. } in pending {
            if let Reply::Instance(_, _, Some(lane)) = reply {
                files.push((lane.segment.id, lane.start, Arc::clone(&lane.file)));
            }
        }
        let mut files = files.into_iter();
        let first = files.next();
        let others: Vec<_> = files
            .map(|(id, start, file)| (id, start, self.store.syncers.run(move || file.sync_data())))
            .collect();
        let first = first.map(|(id, start, file)| (id, start, file.sync_data()));
        let others = others.into_iter().map(|(id, start, result)| {
            let gone = |_| Err(io::Error::other("the sync was not run"));
            (id, start, block_on(result).unwrap_or_else(gone))
        });
        let results: Vec<_> = first.into_iter().chain(others).collect();
        // From here the shared lane goes on behind the group; where its sync failed, in another segment.
        if let Some(lane) = &mut self.shared
            && !taken_back
        {
            lane.start += small.length;
        }
        for (id, start, result) in results {
            if let Err(error) = result {
                self.poison(id, start);
                failed.push((
                    id,
                    Error::io("archive.commit", "the sync of the medium failed", error),
                ));
            }
        }
        failed
    }

    /// Makes the group visible and tells everybody.
    fn answer(&mut self, pending: Vec<Pending>, failed: &[(u64, Error)]) {
        let mut replies = Vec::new();
        let mut last = self.store.published();
        for Pending { record, reply } in pending {
            let error = failed.iter().find(|(id, _)| *id == record.place.segment);
            if let Some((_, error)) = error {
                match reply {
                    Reply::Instance(reply, _, lane) => {
                        if let Some(lane) = lane {
                            self.store.retire_lane(&lane);
                        }
                        drop(reply.send(Err(copy(error))));
                    }
                    Reply::Removal(reply, _) => drop(reply.send(Err(copy(error)))),
                }
                continue;
            }
            if let Some(segment) = self.store.segments.get(record.place.segment) {
                segment
                    .state()
                    .add(record.sequence, record.place.offset, record.end);
            }
            last = last.max(record.sequence);
            match reply {
                Reply::Instance(reply, received, lane) => {
                    if let Some(mut lane) = lane {
                        lane.advance();
                        self.store.return_lane(lane);
                    }
                    let stored = Stored {
                        locator: record.place.to_locator(),
                        length: record.place.length,
                        sequence: record.sequence,
                        received,
                    };
                    replies.push(Done::Instance(reply, stored));
                }
                Reply::Removal(reply, place) => {
                    self.mark_removed(place);
                    replies.push(Done::Removal(reply, record.sequence));
                }
            }
        }
        self.store.publish(last);
        for done in replies {
            // Nobody waits any more: a scan tells.
            match done {
                Done::Instance(reply, stored) => drop(reply.send(Ok(stored))),
                Done::Removal(reply, sequence) => drop(reply.send(Ok(sequence))),
            }
        }
    }

    /// Opens a shared lane where there is none, or a new one behind a full one.
    fn open_shared(&mut self) -> Result<()> {
        if let Some(lane) = &self.shared
            && lane.start >= self.store.options.segment_bytes
        {
            lane.trim();
            lane.segment.state().open = false;
            self.shared = None;
        }
        if self.shared.is_none() {
            let (segment, file) = self
                .store
                .segments
                .create(SegmentKind::Shared)
                .map_err(|error| Error::io("archive.commit", "can't make a segment file", error))?;
            self.shared = Some(Lane::new(segment, file));
        }
        Ok(())
    }

    /// Where a record is that is kept, or none; each place is found once in a group.
    fn find_kept(&self, locator: &Locator, removing: &mut HashSet<Place>) -> Result<Option<Place>> {
        let Some(place) = Place::from_locator(locator) else {
            return Ok(None);
        };
        match self.store.open_record(place) {
            Ok(_) if removing.insert(place) => Ok(Some(place)),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Marks a record whose removal is durable. The mark itself is made durable before a hint lets the
    /// next opening skip the removal.
    fn mark_removed(&mut self, place: Place) {
        let result = self
            .store
            .segments
            .file(place.segment)
            .and_then(|file| write_all_at(&*file, &[&REMOVED], place.offset + STATE_OFFSET));
        if let Err(error) = result {
            tracing::error!(%error, "a removed record could not be marked");
            self.store.remember_removed(place);
            self.hint_frozen = true;
        }
        self.marked.insert(place.segment);
        if let Some(segment) = self.store.segments.get(place.segment) {
            let mut state = segment.state();
            state.dead_bytes += span(place.length).unwrap_or(0);
            self.hint_frozen |= state.poisoned;
        }
    }

    /// Takes back, durably, what a failed write left behind the start of a lane; false when the segment
    /// had to be given up.
    fn take_back(&mut self, lane: &mut Lane) -> bool {
        let start = lane.start;
        let result = lane.rewind().and_then(|()| lane.file.sync_data());
        if result.is_err() {
            self.poison(lane.segment.id, start);
        }
        result.is_ok()
    }

    /// Gives a segment up: its operating system or medium lost writes, and a later sync that succeeds
    /// would not bring them back.
    fn poison(&mut self, id: u64, end: u64) {
        tracing::error!(
            segment = id,
            end,
            "the medium failed; the segment takes nothing more"
        );
        if let Some(segment) = self.store.segments.get(id) {
            let mut state = segment.state();
            state.poisoned = true;
            state.sealed = true;
            state.open = false;
        }
        if self.shared.as_ref().is_some_and(|lane| lane.segment.id == id) {
            self.shared = None;
        }
        self.unsealed.push((id, end));
        self.hint_frozen |= self.marked.contains(&id);
    }

    /// Puts on record that nothing counts behind the end of the segments that were given up.
    fn write_seals(&mut self) -> Result<()> {
        // A new segment may fail as well; then it is one more to seal, in the next one.
        const ATTEMPTS: usize = 3;
        for attempt in 1.. {
            if self.unsealed.is_empty() {
                return Ok(());
            }
            match self.try_seals() {
                Ok(()) => self.unsealed.clear(),
                Err(error) if attempt >= ATTEMPTS => return Err(error),
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn try_seals(&mut self) -> Result<()> {
        self.open_shared()?;
        let mut small = Small::default();
        let mut last = None;
        for (id, end) in self.unsealed.clone() {
            let payload = Bytes::copy_from_slice(&encode_seal(id, end));
            let received = Timestamp::now();
            let checksum = xxh3_64(&payload);
            let header = self.header(RecordKind::Seal, payload.len() as u64, received, checksum);
            last = self.add_small(&mut small, header, vec![payload]);
        }
        let (Some(mut lane), Some(last)) = (self.shared.take(), last) else {
            return Ok(());
        };
        let result = lane
            .reserve(last.end)
            .and_then(|()| write_all_at(&*lane.file, &small.slices(), lane.start))
            .and_then(|()| lane.file.sync_data());
        if let Err(error) = result {
            let (id, start) = (lane.segment.id, lane.start);
            self.poison(id, start);
            return Err(Error::io(
                "archive.commit",
                "the medium failed, and a note of it failed too",
                error,
            ));
        }
        lane.segment
            .state()
            .add(last.sequence, last.place.offset, last.end);
        lane.start = last.end;
        self.shared = Some(lane);
        Ok(())
    }

    fn leave_hint(&mut self, sequence: Sequence) -> Result<()> {
        self.sync_marks()?;
        if self.hint_frozen || !self.unsealed.is_empty() {
            // The next opening walks further; nothing is lost but time.
            return Ok(());
        }
        self.store
            .write_hint(sequence)
            .map_err(|error| Error::io("archive.indexed", "the hint could not be written", error))
    }

    /// Makes the marks of removals durable. Only the committer ever syncs a segment: a failure that
    /// somebody else saw would be hidden from it.
    fn sync_marks(&mut self) -> Result<()> {
        let mut result = Ok(());
        for id in std::mem::take(&mut self.marked) {
            let Some(segment) = self.store.segments.get(id) else {
                continue;
            };
            let synced = self.store.segments.file(id).and_then(|file| file.sync_data());
            let (poisoned, end) = {
                let state = segment.state();
                (state.poisoned, state.end)
            };
            self.hint_frozen |= poisoned || synced.is_err();
            if let Err(error) = synced {
                if !poisoned {
                    self.poison(id, end);
                }
                result = Err(Error::io(
                    "archive.indexed",
                    "the sync of the medium failed",
                    error,
                ));
            }
        }
        result
    }

    fn refuse(&mut self, group: Vec<Request>, error: &Error) {
        for request in group {
            match request {
                Request::Commit { source, reply, .. } => {
                    match source {
                        Source::Lane(lane) => self.store.abort_lane(lane),
                        Source::Writing(written) => {
                            if let Ok((lane, _)) = block_on(written) {
                                self.store.abort_lane(lane);
                            }
                        }
                        Source::Memory { .. } => {}
                    }
                    drop(reply.send(Err(copy(error))));
                }
                Request::Remove { reply, .. } => drop(reply.send(Err(copy(error)))),
                Request::SyncMarks { reply } | Request::Indexed { reply, .. } => {
                    drop(reply.send(Err(copy(error))))
                }
            }
        }
    }
}

enum Done {
    Instance(oneshot::Sender<Result<Stored>>, Stored),
    Removal(oneshot::Sender<Result<Sequence>>, Sequence),
}

/// Small records on their way into one write.
#[derive(Default)]
struct Small {
    parts: Vec<Part>,
    length: u64,
}

enum Part {
    Header([u8; HEADER_LENGTH as usize]),
    Payload(Bytes),
    Padding(usize),
}

impl Small {
    fn slices(&self) -> Vec<&[u8]> {
        let slice = |part| match part {
            &Part::Padding(length) => &PADDING[..length],
            Part::Header(header) => &header[..],
            Part::Payload(bytes) => &bytes[..],
        };
        self.parts.iter().map(slice).collect()
    }
}

/// The same error for each of a group; the cause is in its text.
fn copy(error: &Error) -> Error {
    use std::error::Error as _;
    let context = match error.source() {
        Some(source) => format!("{}: {source}", error.context()),
        None => error.context().to_owned(),
    };
    Error::new(error.kind(), error.operation(), context).with_retry(error.retry())
}
