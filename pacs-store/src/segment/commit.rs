//! The committer: one thread that makes what waits durable, a group at a time.
//!
//! A group's small records go to the shared lane in one vectored write; records that streamed get
//! their header in front; then each file that was touched is synced once, all at the same time. So
//! whoever waits shares the sync, and results come in ascending order of sequence.

use std::collections::HashSet;
use std::hash::Hasher as _;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::channel::oneshot;
use futures::executor::block_on;
use pacs_core::{Error, ErrorKind, InstanceKey, Locator, Result, Sequence, Stored, Timestamp, Uid};
use twox_hash::XxHash3_64;

use super::Store;
use super::group::{Done, Part, Pending, Record, Reply, Small};
use super::lane::{Lane, PADDING, closed};
use super::queue::{Request, Source};
use super::record::{HEADER_LENGTH, Header, LAST_GIVEN, Place, RecordKind, SegmentKind};
use super::writer::{Written, write_failed};
use crate::medium::{MediumFile, write_all_at};

/// The committer's own state.
pub(super) struct Committer {
    pub(super) store: Arc<Store>,
    /// The shared lane, once there was something for it.
    pub(super) shared: Option<Lane>,
    /// The last sequence that was given.
    pub(super) sequence: Sequence,
    /// Segments whose medium failed, with the offset behind which nothing counts, not yet on record.
    pub(super) unsealed: Vec<(u64, u64)>,
    /// Segments with records marked as removed since the last hint.
    pub(super) marked: HashSet<u64>,
    /// A mark may be lost: the removals must be replayed at the next opening, so no hint may skip them.
    pub(super) hint_frozen: bool,
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
        if self.sequence.0 > LAST_GIVEN {
            let why = "there are no sequences left: a record says that it is the last there is";
            return self.refuse(group, &Error::new(ErrorKind::Corrupt, "archive.commit", why));
        }
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
                } => match self.find_kept(&instance, &locator, &mut removing) {
                    Ok(Some(place)) => {
                        let payload = Bytes::copy_from_slice(locator.as_bytes());
                        let kind = RecordKind::Removal(instance);
                        let header = self.header(
                            kind,
                            payload.len() as u64,
                            received,
                            XxHash3_64::oneshot(&payload),
                        );
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
        let mut failed = self.sync(small, &pending);
        // What failed must be on record as such before anybody hears of it: else the next opening might
        // find it whole. Where even that fails, nothing more is taken until it succeeds, and the rest of
        // the group fails too: published, it would carry the index past what may still come back.
        if let Err(error) = self.write_seals() {
            tracing::error!(%error, "a failed segment could not be sealed");
            self.give_up(&pending, &mut failed, &error);
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

    pub(super) fn header(
        &mut self,
        kind: RecordKind,
        length: u64,
        received: Timestamp,
        checksum: u64,
    ) -> Header {
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
    pub(super) fn add_small(
        &mut self,
        small: &mut Small,
        mut header: Header,
        pieces: Vec<Bytes>,
    ) -> Option<Record> {
        // The shared lane was opened before, and a payload in memory has a span.
        let (lane, span) = (self.shared.as_ref()?, header.span()?);
        header.durable = lane.start;
        let offset = lane.start + small.length;
        small
            .parts
            .push(Part::Header(header.encode(lane.segment.key).to_vec()));
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
            // The sync follows at once.
            result = lane.append(pieces, false);
        }
        if let Err(error) = result {
            self.store.abort_lane(lane);
            return Err(write_failed(error));
        }
        let checksum = lane.hasher.finish();
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

    /// Lets what did not fail fail as well.
    fn give_up(&mut self, pending: &[Pending], failed: &mut Vec<(u64, Error)>, error: &Error) {
        for Pending { record, .. } in pending {
            let id = record.place.segment;
            if failed.iter().any(|(failed, _)| *failed == id) {
                continue;
            }
            // The first of the group in its segment, as they stand there in order.
            self.poison(id, record.place.offset);
            failed.push((id, copy(error)));
        }
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
    pub(super) fn open_shared(&mut self) -> Result<()> {
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
    fn find_kept(
        &self,
        instance: &Uid,
        locator: &Locator,
        removing: &mut HashSet<Place>,
    ) -> Result<Option<Place>> {
        let Some(place) = Place::from_locator(locator) else {
            return Ok(None);
        };
        match self.store.open_record(place).map(|record| record.header.kind) {
            Ok(RecordKind::Instance(key)) if key.instance == *instance && removing.insert(place) => {
                Ok(Some(place))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
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

/// The same error for each of a group; the cause is in its text.
fn copy(error: &Error) -> Error {
    use std::error::Error as _;
    let context = match error.source() {
        Some(source) => format!("{}: {source}", error.context()),
        None => error.context().to_owned(),
    };
    Error::new(error.kind(), error.operation(), context).with_retry(error.retry())
}
