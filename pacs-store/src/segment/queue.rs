//! What waits for the committer.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::channel::oneshot;
use pacs_core::{InstanceKey, Locator, Result, Sequence, Stored, Uid};

use super::lane::Lane;
use super::writer::Written;

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
    pub(super) fn take(&self) -> Option<Vec<Request>> {
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
