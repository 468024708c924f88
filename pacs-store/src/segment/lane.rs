//! Lanes: the open ends of segment files that large instances stream into, one each at a time.

use std::collections::VecDeque;
use std::hash::Hasher as _;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::channel::oneshot;
use pacs_core::{Error, ErrorKind, Result};
use twox_hash::XxHash3_64;

use super::Store;
use super::file::Segment;
use super::record::{HEADER_LENGTH, SegmentKind, span};
use crate::medium::{MediumFile, write_all_at};

/// Room is reserved in steps of this many bytes. Without it every sync also waits for the allocation
/// of blocks: measured here on ext4, append and sync run 1.1 to 1.3 times as fast with reserved room,
/// with or without a change of the length. Overwriting zeroed blocks runs 1.6 times as fast, but each
/// byte is then written twice, which costs more than it gains once senders keep the disk busy.
const PREALLOCATE_BYTES: u64 = 32 << 20;

/// A record that streams begins its way to the medium each time this much is written, so that the
/// sync at its end is short and dirty pages are few. While others stream too, smaller steps only add
/// overhead: an instance of 530 KB was stored 0.85 times as fast when its halves were pushed early.
const WRITEBACK_BYTES: u64 = 8 << 20;
/// The same for the only record that streams: then the medium has nothing else to do, and an instance of
/// 530 KB was stored 1.07 times as fast.
const WRITEBACK_ALONE_BYTES: u64 = 128 << 10;

/// Zeros that fill a record up to a multiple of 8.
pub(super) const PADDING: [u8; 8] = [0; 8];

/// The open end of a segment.
pub(super) struct Lane {
    pub(super) segment: Arc<Segment>,
    pub(super) file: Arc<dyn MediumFile>,
    /// Where the record begins that is being written, or the next one.
    pub(super) start: u64,
    /// Bytes of its payload so far.
    pub(super) length: u64,
    pub(super) hasher: Box<XxHash3_64>,
    /// Bytes of the payload that went through the hasher before they came here.
    pub(super) hashed: u64,
    allocated: u64,
    pushed: u64,
}

impl Lane {
    pub(super) fn new(segment: Arc<Segment>, file: Arc<dyn MediumFile>) -> Self {
        let start = segment.state().end;
        Self {
            segment,
            file,
            start,
            length: 0,
            hasher: Box::default(),
            hashed: 0,
            allocated: start,
            pushed: start,
        }
    }

    /// Makes sure that room is reserved up to `end`.
    pub(super) fn reserve(&mut self, end: u64) -> io::Result<()> {
        if end > self.allocated {
            let to = end.saturating_add(PREALLOCATE_BYTES);
            self.file.preallocate(self.allocated..to)?;
            self.allocated = to;
        }
        Ok(())
    }

    /// Appends to the payload. `alone` says that no other record streams.
    pub(super) fn append(&mut self, pieces: &[Bytes], alone: bool) -> io::Result<()> {
        let offset = self.start + HEADER_LENGTH + self.length;
        let mut parts: Vec<&[u8]> = Vec::with_capacity(pieces.len() + 1);
        for piece in pieces {
            let known = self.hashed.saturating_sub(self.length).min(piece.len() as u64);
            self.hasher.write(&piece[known as usize..]);
            self.length += piece.len() as u64;
            parts.push(piece);
        }
        let end = self.start + HEADER_LENGTH + self.length;
        self.reserve(end)?;
        write_all_at(&*self.file, &parts, offset)?;
        let step = if alone {
            WRITEBACK_ALONE_BYTES
        } else {
            WRITEBACK_BYTES
        };
        if end - self.pushed >= step {
            self.file.start_writeback(self.pushed..end);
            self.pushed = end;
        }
        Ok(())
    }

    /// Where the record ends, with its padding.
    pub(super) fn end(&self) -> u64 {
        // What was written fits a file, so it fits a number.
        span(self.length).map_or(u64::MAX, |span| self.start.saturating_add(span))
    }

    /// Begins the next record behind this one.
    pub(super) fn advance(&mut self) {
        self.start = self.end();
        self.restart();
    }

    /// Takes back what was written of this record.
    pub(super) fn rewind(&mut self) -> io::Result<()> {
        self.restart();
        self.allocated = self.start;
        self.file.truncate(self.start)
    }

    /// Gives reserved room back.
    pub(super) fn trim(&self) {
        // Only room is at stake.
        let _ = self.file.truncate(self.start);
    }

    fn restart(&mut self) {
        self.length = 0;
        self.hashed = 0;
        self.pushed = self.start;
        *self.hasher = XxHash3_64::new();
    }
}

/// The lanes nobody writes to, and the writers that wait for one.
#[derive(Default)]
pub(super) struct Lanes {
    state: Mutex<LanesState>,
}

#[derive(Default)]
struct LanesState {
    // Boxed, as writers and the committer hand them on.
    #[allow(clippy::vec_box)]
    free: Vec<Box<Lane>>,
    /// Free ones and those in use.
    open: usize,
    waiting: VecDeque<oneshot::Sender<Result<Box<Lane>>>>,
}

impl Lanes {
    fn state(&self) -> MutexGuard<'_, LanesState> {
        // Nothing panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a lane at opening.
    pub(super) fn add(&self, lane: Box<Lane>) {
        let mut state = self.state();
        state.open += 1;
        state.free.push(lane);
    }

    /// Whether no more than one record streams.
    pub(super) fn at_most_one_is_used(&self) -> bool {
        let state = self.state();
        state.open <= state.free.len() + 1
    }

    /// Gives the reserved room of all free ones back.
    pub(super) fn trim(&self) {
        for lane in &self.state().free {
            lane.trim();
        }
    }
}

impl Store {
    /// A lane for one record. Waits while the greatest number of lanes is in use.
    pub(super) async fn lane(self: &Arc<Self>) -> Result<Box<Lane>> {
        let receiver = {
            let mut state = self.lanes.state();
            while let Some(lane) = state.free.pop() {
                if !lane.segment.state().poisoned {
                    return Ok(lane);
                }
                state.open -= 1;
            }
            let (sender, receiver) = oneshot::channel();
            if state.open < self.options.lanes {
                state.open += 1;
                drop(state);
                self.open_lane(sender);
            } else {
                state.waiting.push_back(sender);
            }
            receiver
        };
        receiver.await.map_err(|_| closed("archive.write"))?
    }

    /// Makes a segment for a writer that waits; it is counted as open already.
    fn open_lane(self: &Arc<Self>, sender: oneshot::Sender<Result<Box<Lane>>>) {
        let store = Arc::clone(self);
        self.writers.spawn(move || {
            let result = match store.segments.create(SegmentKind::Stream) {
                Ok((segment, file)) => Ok(Box::new(Lane::new(segment, file))),
                Err(error) => {
                    store.lanes.state().open -= 1;
                    Err(Error::io("archive.write", "can't make a segment file", error))
                }
            };
            if let Err(Ok(lane)) = sender.send(result) {
                store.return_lane(lane);
            }
        });
    }

    /// Hands a lane with nothing unfinished in it to the next writer.
    pub(super) fn return_lane(self: &Arc<Self>, lane: Box<Lane>) {
        let poisoned = lane.segment.state().poisoned;
        if poisoned || lane.start >= self.options.segment_bytes {
            lane.trim();
            return self.retire_lane(&lane);
        }
        let mut lane = Ok(lane);
        let mut state = self.lanes.state();
        while let Some(waiting) = state.waiting.pop_front() {
            match waiting.send(lane) {
                Ok(()) => return,
                Err(back) => lane = back,
            }
        }
        state.free.extend(lane);
    }

    /// Takes a lane out of use for good.
    pub(super) fn retire_lane(self: &Arc<Self>, lane: &Lane) {
        lane.segment.state().open = false;
        let mut state = self.lanes.state();
        if let Some(waiting) = state.waiting.pop_front() {
            drop(state);
            self.open_lane(waiting);
        } else {
            state.open -= 1;
        }
    }

    /// Takes back what a writer left in a lane.
    pub(super) fn abort_lane(self: &Arc<Self>, mut lane: Box<Lane>) {
        match lane.rewind() {
            Ok(()) => self.return_lane(lane),
            // Its record has no header, so nothing sees it; the next opening cuts it off.
            Err(_) => self.retire_lane(&lane),
        }
    }
}

pub(super) fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "the archive is closed")
}
