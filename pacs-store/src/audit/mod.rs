//! [`AuditLog`]: the audit trail (PS3.15 A.5) on this machine's disk, where nothing can be changed unnoticed.
//!
//! # On the disk
//!
//! A directory, with files that are only ever appended to:
//!
//! | file | holds |
//! | --- | --- |
//! | `00000000000000000001.audit` and others | records; the name is the number of the first |
//! | `head` | number and hash of the last record that was acknowledged, three times |
//! | `sent` | the number of the last record that was sent, three times |
//! | `lock` | nothing; who writes holds it |
//! | `handed-in/` | messages of other processes that are not in the chain yet: see [`HandIn`] |
//!
//! A record has a number, a time, the hash of the record before, the message, and the SHA-256 of all this. So the hash of
//! a record depends on every bit before it, and a record that was changed, removed, inserted or moved is found by [`verify`] and told by its
//! number. What stands behind the last record is told apart by `head`: records up to it were acknowledged, and when one of them isn't there,
//! the end was cut off; what is behind it and not whole was being written when the process died.
//!
//! # What the chain proves
//!
//! Hashes have no key. A key would have to be in the process that writes, on the machine where the log is: who can change the log
//! there could use it. So whoever has the disk can write another log, all of it, that is as good as this one. What such a one can't
//! change is what is elsewhere: the messages that were sent to an audit repository, and a head that was noted down. [`verify`]
//! takes it and says whether all up to it is still the same. `pacs-server` logs the head when it starts and stops.
//!
//! # What is durable when
//!
//! See [`Durability`]. Callers that wait at the same time share one sync.

mod committer;
mod handed_in;
mod reader;
mod record;
mod recover;
mod state;
mod verify;
mod walk;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures::FutureExt as _;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use pacs_core::audit::{AuditQueue, AuditSource, AuditTrail, Message, Recorded};
use pacs_core::{Error, ErrorKind, Result};

use self::committer::{Committer, Queue, Reply, Settled, Waiting};
use self::handed_in::Taken;
use self::reader::Reader;
use self::state::StateFile;
use crate::medium::{Medium, MediumFile, SystemMedium, write_all_at};

pub use handed_in::HandIn;
pub use record::AuditHead;
pub use recover::Recovered;
pub use verify::{Known, Verified, read, verify, verify_on};
pub use walk::Finding;

const OPERATION: &str = "audit.record";
const HEAD: &str = "head";
const SENT: &str = "sent";

/// When a message counts as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is on stable storage: it survives the machine. Every message waits for a sync, which those that wait at the same time
    /// share.
    Synced,
    /// When it is with the operating system: it survives the process, and within a second the machine.
    Written,
}

/// How a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditLogOptions {
    /// When a message counts as recorded.
    pub durability: Durability,
    /// A file that is as long as this is followed by a new one, in bytes.
    pub file_bytes: u64,
    /// All files together are no longer than this, in bytes: beyond it messages are refused, and none is ever dropped. Files other than
    /// the last may be taken away once they were sent; see [`Known::after`].
    pub limit_bytes: Option<u64>,
}

impl Default for AuditLogOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Synced,
            file_bytes: 64 << 20,
            limit_bytes: None,
        }
    }
}

/// An audit trail in files: see [the module](self). It is also the queue of those who send its messages on.
pub struct AuditLog {
    source: AuditSource,
    queue: Arc<Queue>,
    settled: Arc<Settled>,
    reader: Reader,
    sent: Mutex<Sent>,
    taken: Mutex<Taken>,
    durability: Durability,
    recovered: Recovered,
    head_at_opening: AuditHead,
    medium: Arc<dyn Medium>,
    thread: Mutex<Option<JoinHandle<()>>>,
    _lock: Box<dyn std::any::Any + Send + Sync>,
}

struct Sent {
    file: StateFile,
    sequence: u64,
}

impl AuditLog {
    /// Opens the log in a directory, and makes it where there is none, for its owner alone. `source` is who reports.
    ///
    /// What was being written when the process died, and was never acknowledged, is taken away; what is not as it was written is left
    /// untouched, and the log goes on behind it. Both are said by [`recovered`](Self::recovered).
    ///
    /// # Errors
    /// `Refused` when another process has it open; `Io` and others when the disk fails.
    pub fn open(
        directory: impl Into<PathBuf>,
        source: AuditSource,
        options: AuditLogOptions,
    ) -> Result<Self> {
        let directory = directory.into();
        make_private(&directory).map_err(|error| failed("audit.open", error))?;
        let medium = SystemMedium::open(directory).map_err(|error| failed("audit.open", error))?;
        Self::open_on(Arc::new(medium), source, options)
    }

    /// The same on a medium.
    ///
    /// # Errors
    /// As of [`open`](Self::open).
    pub fn open_on(medium: Arc<dyn Medium>, source: AuditSource, options: AuditLogOptions) -> Result<Self> {
        let io = |error| failed("audit.open", error);
        let lock = medium.lock(Path::new("lock")).map_err(|error| {
            let why = "another process has the log of audit open";
            match error.kind() {
                io::ErrorKind::WouldBlock => Error::new(ErrorKind::Refused, "audit.open", why),
                _ => io(error),
            }
        })?;
        let opened = recover::open(&*medium).map_err(io)?;
        let head_file = StateFile::begin(&*medium, HEAD, &opened.head).map_err(io)?;
        let sent = StateFile::read(&*medium, SENT).map_err(io)?;
        // Numbers that are not given yet were never sent.
        let sent = sent
            .newest
            .map_or(0, |sent| sent.sequence.min(opened.head.sequence));
        let sent = Sent {
            file: StateFile::begin(&*medium, SENT, &numbered(sent)).map_err(io)?,
            sequence: sent,
        };
        if opened.recovered.torn_bytes > 0 {
            tracing::warn!(
                bytes = opened.recovered.torn_bytes,
                "the end of the log of audit was being written when the process died; it was never acknowledged, and is cut off"
            );
        }
        for finding in &opened.recovered.findings {
            tracing::error!(%finding, "the log of audit is not what was written");
        }
        let (queue, settled) = (Arc::new(Queue::default()), Arc::new(Settled::default()));
        settled.set(opened.head.sequence);
        let committer = Committer {
            medium: Arc::clone(&medium),
            options,
            queue: Arc::clone(&queue),
            settled: Arc::clone(&settled),
            file: opened.file,
            end: opened.end,
            head: opened.head,
            durable: opened.head.sequence,
            bytes: opened.bytes,
            head_file,
            is_dirty: false,
            is_given_up: false,
        };
        let thread = thread::Builder::new()
            .name("pacs-audit".to_owned())
            .spawn(move || committer.run())
            .map_err(io)?;
        Ok(Self {
            source,
            queue,
            settled,
            reader: Reader::new(Arc::clone(&medium)),
            sent: Mutex::new(sent),
            taken: Mutex::default(),
            durability: options.durability,
            recovered: opened.recovered,
            head_at_opening: opened.head,
            medium,
            thread: Mutex::new(Some(thread)),
            _lock: lock,
        })
    }

    /// What the opening found.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// The last record that is acknowledged, by which [`verify`] can tell later that nothing up to it has changed.
    pub fn head(&self) -> AuditHead {
        let state = StateFile::read(&*self.medium, HEAD);
        state
            .ok()
            .and_then(|state| state.newest)
            .unwrap_or(self.head_at_opening)
    }

    /// Writes what waits, makes it durable, and takes no more.
    pub fn close(&self) {
        self.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            return tracing::error!("the thread of the log of audit panicked");
        }
        // What was recorded is on stable storage now.
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.remove_taken(&mut taken, Duration::ZERO) {
            tracing::warn!(%error, "what was taken into the log of audit is there once more, and will be taken in again");
        }
    }

    fn push(&self, message: &Message, reply: Reply) {
        let documents = message.documents(&self.source);
        self.queue.push(Waiting { documents, reply });
    }

    fn lock_sent(&self) -> MutexGuard<'_, Sent> {
        // Nothing panics while it holds this lock.
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog")
            .field("settled", &self.settled.last())
            .field("sent", &self.lock_sent().sequence)
            .finish_non_exhaustive()
    }
}

impl AuditTrail for AuditLog {
    fn record(&self, message: &Message) -> Result<()> {
        let (sender, receiver) = sync_channel(1);
        self.push(message, Reply::Blocking(sender));
        receiver.recv().unwrap_or_else(|_| Err(gone()))
    }

    fn submit(&self, message: &Message) -> BoxFuture<'static, Result<()>> {
        let (sender, receiver) = oneshot::channel();
        self.push(message, Reply::Async(sender));
        async move { receiver.await.unwrap_or_else(|_| Err(gone())) }.boxed()
    }
}

impl AuditQueue for AuditLog {
    fn read(&self, after: u64, count: usize) -> Result<Vec<Recorded>> {
        self.reader.read(after, self.settled.last(), count)
    }

    fn sent(&self) -> u64 {
        self.lock_sent().sequence
    }

    fn set_sent(&self, sequence: u64) -> Result<()> {
        let mut sent = self.lock_sent();
        sent.file
            .write(&numbered(sequence))
            .map_err(|error| failed("audit.sent", error))?;
        sent.sequence = sequence;
        Ok(())
    }

    fn wait(&self, after: u64) -> BoxFuture<'static, ()> {
        let told = self.settled.wait(after);
        // Where nobody is left to tell, it is closed.
        told.map(|_| ()).boxed()
    }
}

/// A number alone, for a file that keeps one.
fn numbered(sequence: u64) -> AuditHead {
    AuditHead {
        sequence,
        ..record::NONE
    }
}

fn gone() -> Error {
    Error::new(
        ErrorKind::Internal,
        OPERATION,
        "the thread of the log of audit is gone",
    )
}

fn failed(operation: &'static str, error: io::Error) -> Error {
    Error::io(operation, "the log of audit failed", error)
}

fn write_whole(file: &dyn MediumFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    write_all_at(file, &[bytes], offset)
}

/// A directory that must be there.
fn of_directory(directory: PathBuf) -> Result<Arc<dyn Medium>> {
    if !directory.is_dir() {
        let why = format!("there is no log of audit in {}", directory.display());
        return Err(Error::new(ErrorKind::NotFound, "audit.open", why));
    }
    let medium = SystemMedium::open(directory).map_err(|error| failed("audit.open", error))?;
    Ok(Arc::new(medium))
}

/// Makes a directory that its owner alone can enter: messages hold patient data. One that is there stays as it is.
fn make_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(above) = directory.parent().filter(|above| !above.as_os_str().is_empty()) {
        // Those above are made as others of the store.
        SystemMedium::open(above)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    let above = directory.parent().filter(|above| !above.as_os_str().is_empty());
    std::fs::File::open(above.unwrap_or(Path::new(".")))?.sync_all()
}
