//! [`Committer`]: writes what waits, and makes it durable for all that wait together.

use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, mem};

use futures::channel::oneshot;
use pacs_core::{Error, ErrorKind, Result, Timestamp};

use super::record::{self, AuditHead, FILE_HEADER_BYTES};
use super::state::StateFile;
use super::{AuditLogOptions, Durability, OPERATION, failed, recover, write_whole};
use crate::medium::{Medium, MediumFile};

/// Messages that wait to be written, at most. Who records waits, so there are no more than callers at once.
const WAITING_MAX: usize = 16 * 1024;

/// Documents that are written together, in bytes: beyond it the sync has long been shared.
const GROUP_BYTES: usize = 4 << 20;

/// What is written is synced so soon where nobody waits for that.
const SYNC_AFTER: Duration = Duration::from_millis(200);

/// Whom to tell when a message is kept.
pub(super) enum Reply {
    Blocking(SyncSender<Result<()>>),
    Async(oneshot::Sender<Result<()>>),
}

impl Reply {
    fn give(self, result: Result<()>) {
        // Who doesn't wait any more needs no answer.
        match self {
            Self::Blocking(sender) => drop(sender.send(result)),
            Self::Async(sender) => drop(sender.send(result)),
        }
    }
}

pub(super) struct Waiting {
    pub(super) documents: Vec<String>,
    pub(super) reply: Reply,
}

/// What waits for the committer.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Waiting>,
    is_closed: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, QueueState> {
        // Nothing panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, waiting: Waiting) {
        let mut state = self.state();
        let refusal = if state.is_closed {
            Some(Error::new(
                ErrorKind::Closed,
                OPERATION,
                "the log of audit is closed",
            ))
        } else if state.waiting.len() >= WAITING_MAX {
            let why = format!("{WAITING_MAX} messages wait to be written to the log of audit");
            Some(Error::new(ErrorKind::OutOfResources, OPERATION, why))
        } else {
            None
        };
        match refusal {
            Some(error) => {
                drop(state);
                waiting.reply.give(Err(error));
            }
            None => {
                state.waiting.push_back(waiting);
                drop(state);
                self.changed.notify_one();
            }
        }
    }

    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }

    /// Waits for messages, up to `until`. `None` when the queue is closed and empty.
    fn take(&self, until: Option<Instant>) -> Option<Vec<Waiting>> {
        let mut state = self.state();
        while state.waiting.is_empty() {
            if state.is_closed {
                return None;
            }
            state = match until {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Some(Vec::new());
                    }
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        let mut group = Vec::new();
        let mut bytes = 0;
        while bytes < GROUP_BYTES
            && let Some(waiting) = state.waiting.pop_front()
        {
            bytes += waiting.documents.iter().map(String::len).sum::<usize>();
            group.push(waiting);
        }
        Some(group)
    }
}

/// How far a log is settled, and who waits for more.
#[derive(Default)]
pub(super) struct Settled {
    state: Mutex<SettledState>,
}

#[derive(Default)]
struct SettledState {
    last: u64,
    is_closed: bool,
    waiting: Vec<(u64, oneshot::Sender<()>)>,
}

impl Settled {
    fn state(&self) -> MutexGuard<'_, SettledState> {
        // Nothing panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn last(&self) -> u64 {
        self.state().last
    }

    pub(super) fn set(&self, last: u64) {
        let mut state = self.state();
        state.last = last;
        let (ready, waiting) = mem::take(&mut state.waiting)
            .into_iter()
            .partition(|(after, _)| *after < last);
        state.waiting = waiting;
        drop(state);
        tell(ready);
    }

    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        tell(waiting);
    }

    /// Is told once there is a record behind `after`.
    pub(super) fn wait(&self, after: u64) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        if state.last > after || state.is_closed {
            drop(state);
            let _ = sender.send(());
        } else {
            state.waiting.push((after, sender));
        }
        receiver
    }
}

fn tell(waiting: Vec<(u64, oneshot::Sender<()>)>) {
    for (_, sender) in waiting {
        // Who doesn't wait any more needs no word.
        let _ = sender.send(());
    }
}

pub(super) struct Committer {
    pub(super) medium: Arc<dyn Medium>,
    pub(super) options: AuditLogOptions,
    pub(super) queue: Arc<Queue>,
    pub(super) settled: Arc<Settled>,
    pub(super) file: Arc<dyn MediumFile>,
    /// Where the next record goes.
    pub(super) end: u64,
    /// The last record that was written.
    pub(super) head: AuditHead,
    /// The last one that is on stable storage.
    pub(super) durable: u64,
    /// Of all files.
    pub(super) bytes: u64,
    pub(super) head_file: StateFile,
    /// Something of a group that failed may stand behind the end.
    pub(super) is_dirty: bool,
    /// Nothing is known of what a later sync of the file would say.
    pub(super) is_given_up: bool,
}

impl Committer {
    /// Until the queue is closed.
    pub(super) fn run(mut self) {
        let mut sync_at = None;
        while let Some(group) = self.queue.take(sync_at) {
            if !group.is_empty() {
                self.commit(group);
            }
            let is_durable = self.durable == self.head.sequence;
            sync_at = match sync_at {
                _ if is_durable => None,
                None => Some(Instant::now() + SYNC_AFTER),
                Some(at) if at <= Instant::now() => {
                    self.sync_in_background();
                    None
                }
                Some(at) => Some(at),
            };
        }
        if self.durable < self.head.sequence {
            self.sync_in_background();
        }
        if let Err(error) = self.head_file.sync() {
            tracing::error!(%error, "the head of the log of audit can't be synced");
        }
        self.settled.close();
    }

    fn commit(&mut self, group: Vec<Waiting>) {
        let result = self.write(&group);
        for waiting in group {
            waiting.reply.give(match &result {
                Ok(()) => Ok(()),
                Err(error) => {
                    Err(Error::new(error.kind(), error.operation(), error.to_string())
                        .with_retry(error.retry()))
                }
            });
        }
    }

    fn write(&mut self, group: &[Waiting]) -> Result<()> {
        let documents = || group.iter().flat_map(|waiting| &waiting.documents);
        self.repair()?;
        let mut bytes = Vec::with_capacity(documents().map(|document| document.len() + 96).sum());
        let now = Timestamp::now();
        let mut head = self.head;
        for document in documents() {
            head = record::encode(&mut bytes, &head, self.durable, now, document);
        }
        let length = bytes.len() as u64;
        if self
            .options
            .limit_bytes
            .is_some_and(|limit| self.bytes + length > limit)
        {
            let why =
                "the log of audit is as large as it may be: take its older files away, or raise the limit";
            return Err(Error::new(ErrorKind::OutOfResources, OPERATION, why));
        }
        let is_full = self.end > FILE_HEADER_BYTES && self.end + length > self.options.file_bytes;
        if is_full {
            self.rotate()?;
        }
        self.is_dirty = true;
        write_whole(&*self.file, &bytes, self.end).map_err(io_failed)?;
        let is_synced = self.options.durability == Durability::Synced;
        if is_synced && let Err(error) = self.file.sync_data() {
            self.is_given_up = true;
            return Err(io_failed(error));
        }
        self.is_dirty = false;
        self.end += length;
        self.bytes += length;
        self.head = head;
        if is_synced {
            self.settle();
        }
        Ok(())
    }

    /// Takes away what a group that failed may have left: nobody was told that it is kept.
    fn repair(&mut self) -> Result<()> {
        if self.is_dirty {
            self.file.truncate(self.end).map_err(io_failed)?;
            // It fails again where the disk is at fault; then the next file shows it.
            let _ = self.file.sync_data();
            self.is_dirty = false;
        }
        if self.is_given_up && self.end > FILE_HEADER_BYTES {
            self.new_file()?;
        }
        self.is_given_up = false;
        Ok(())
    }

    fn rotate(&mut self) -> Result<()> {
        if self.durable < self.head.sequence {
            self.sync()?;
        }
        self.new_file()
    }

    fn new_file(&mut self) -> Result<()> {
        self.file = recover::create(&*self.medium, self.head.sequence + 1).map_err(io_failed)?;
        self.end = FILE_HEADER_BYTES;
        self.bytes += FILE_HEADER_BYTES;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        if let Err(error) = self.file.sync_data() {
            self.is_given_up = true;
            return Err(io_failed(error));
        }
        self.settle();
        Ok(())
    }

    fn sync_in_background(&mut self) {
        if let Err(error) = self.sync() {
            tracing::error!(%error, "the log of audit can't be synced: what was written to it may be lost when the machine dies");
            // It is in the file all the same; the next one begins anew.
            self.settle();
        }
    }

    /// All that was written is on stable storage.
    fn settle(&mut self) {
        self.durable = self.head.sequence;
        if let Err(error) = self.head_file.write(&self.head) {
            // The record itself is kept. What is weaker is the proof that the end was not cut off.
            tracing::error!(%error, "the head of the log of audit can't be written");
        }
        self.settled.set(self.durable);
    }
}

fn io_failed(error: io::Error) -> Error {
    failed(OPERATION, error)
}
