//! [`RedbLedger`]: the ledger in one file, on the embedded database redb.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use ::redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use bytes::Bytes;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use pacs_core::error::{Error, ErrorKind, Result};
use pacs_core::ledger::{Ledger, LedgerCapability, Step};

use super::{RedbIndexOptions, contained, error, open_file, open_storage, sealed};
use crate::layers::encrypt::FileKeys;
use crate::medium::{Medium, MediumBackend};

const ENTRIES: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("entries");

/// Memory for pages of the file: what waits is read from its beginning, over and over.
const CACHE_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Calls of [`Ledger::apply`] that share one flush at most: bounds what one of them waits for.
const GROUP_MAX: usize = 1024;

/// A [`Ledger`] in one file.
///
/// A thread of its own writes: what is asked for while it waits for the medium becomes one transaction, with one
/// flush. After an error of the medium the file is opened again with the next call.
///
/// One process may have the file open. Dropping it finishes what was begun.
pub struct RedbLedger {
    shared: Arc<Shared>,
    /// Dropping the sender ends the thread.
    writer: Option<(Sender<Request>, JoinHandle<()>)>,
}

struct Shared {
    /// Calls that changed something.
    changes: AtomicU64,
    /// Absent after an error of the medium, until somebody opens it again.
    database: RwLock<Option<Database>>,
    opener: Box<dyn Fn() -> Result<Database> + Send + Sync>,
}

struct Request {
    steps: Vec<Step>,
    reply: oneshot::Sender<Result<bool>>,
}

impl fmt::Debug for RedbLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbLedger").finish_non_exhaustive()
    }
}

impl RedbLedger {
    /// Opens the ledger in the file at `path`, which is made when it is missing.
    ///
    /// # Errors
    /// `AlreadyExists` when another process has it open, `Unsupported` when the file is something else, `Corrupt` when
    /// it is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        Self::new(Box::new(move || open_file(&path, options())))
    }

    /// As [`open`](Self::open), in a file of any medium. It takes no lock.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(medium: Arc<dyn Medium>, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        Self::new(Box::new(move || {
            let backend = MediumBackend::open(&*medium, &path)
                .map_err(|error| Error::io("ledger.open", "the ledger can't be opened", error))?;
            open_storage(backend, options())
        }))
    }

    /// As [`open`](Self::open), in a file that is [encrypted](FileKeys). Blocks where a key has to be asked for.
    ///
    /// # Errors
    /// As [`open`](Self::open); `Refused` when the file's key is missing or wrong, and when the file is plain and
    /// [`plain_too`](crate::EncryptOptions::plain_too) isn't set.
    pub fn open_encrypted(path: impl AsRef<Path>, keys: Arc<FileKeys>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        Self::new(Box::new(move || {
            open_storage(sealed::open(&path, &keys)?, options())
        }))
    }

    /// As [`open_encrypted`](Self::open_encrypted), in a file of any medium. It takes no lock.
    ///
    /// # Errors
    /// As [`open_encrypted`](Self::open_encrypted).
    pub fn open_encrypted_on(
        medium: Arc<dyn Medium>,
        path: impl AsRef<Path>,
        keys: Arc<FileKeys>,
    ) -> Result<Self> {
        let path = path.as_ref().to_owned();
        Self::new(Box::new(move || {
            open_storage(sealed::open_on(&*medium, &path, &keys)?, options())
        }))
    }

    fn new(opener: Box<dyn Fn() -> Result<Database> + Send + Sync>) -> Result<Self> {
        let shared = Arc::new(Shared {
            changes: AtomicU64::new(0),
            database: RwLock::new(None),
            opener,
        });
        shared.with(|_| Ok(()))?;
        let (requests, receiver) = channel();
        let writing = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("pacs-ledger".to_owned())
            .spawn(move || write(&writing, &receiver))
            .map_err(|error| Error::io("ledger.open", "a thread can't be started", error))?;
        Ok(Self {
            shared,
            writer: Some((requests, thread)),
        })
    }
}

impl RedbLedger {
    /// Grows with each [`apply`](Ledger::apply) that may have changed something, since it was opened.
    pub fn changes(&self) -> u64 {
        self.shared.changes.load(Ordering::Acquire)
    }

    /// Has `other` hold what `translate` makes of each key and value of this one at one moment, and nothing else. Blocks; durable
    /// when it returns.
    ///
    /// # Errors
    /// Those of the medium, of either; then `other` is what it was.
    pub fn copy_to(
        &self,
        other: &Self,
        translate: impl Fn(&[u8], &[u8]) -> Option<(Bytes, Bytes)>,
    ) -> Result<()> {
        self.shared.with(|database| {
            let reading = database.begin_read().map_err(error::transaction)?;
            let from = reading.open_table(ENTRIES).map_err(error::table)?;
            other.shared.with(|database| {
                let mut writing = database.begin_write().map_err(error::transaction)?;
                writing
                    .set_durability(Durability::Immediate)
                    .map_err(error::durability)?;
                writing.set_quick_repair(true);
                writing.delete_table(ENTRIES).map_err(error::table)?;
                {
                    let mut to = writing.open_table(ENTRIES).map_err(error::table)?;
                    for entry in from.iter().map_err(error::storage)? {
                        let (key, value) = entry.map_err(error::storage)?;
                        if let Some((key, value)) = translate(key.value(), value.value()) {
                            to.insert(&*key, &*value).map_err(error::storage)?;
                        }
                    }
                }
                writing.commit().map_err(error::commit)
            })
        })
    }
}

impl Drop for RedbLedger {
    fn drop(&mut self) {
        if let Some((requests, thread)) = self.writer.take() {
            drop(requests);
            // The thread contains its panics, so joining has nothing to tell.
            let _ = thread.join();
        }
    }
}

fn options() -> RedbIndexOptions {
    RedbIndexOptions {
        cache_max_bytes: CACHE_MAX_BYTES,
    }
}

impl Shared {
    /// Works on the database, which is opened again where it failed before.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        let contained = contained("ledger.storage", || {
            {
                let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
                if let Some(database) = &*database {
                    return work(database);
                }
            }
            let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
            if database.is_none() {
                *database = Some(prepared((self.opener)()?)?);
            }
            drop(database);
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            match &*database {
                Some(database) => work(database),
                None => Err(Error::new(ErrorKind::Io, "ledger.storage", "")),
            }
        });
        contained.map_err(|error| {
            if matches!(
                error.kind(),
                ErrorKind::Io | ErrorKind::Closed | ErrorKind::OutOfResources
            ) {
                // redb goes on with nothing after a failure of its medium.
                *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
            }
            of_ledger(error)
        })
    }
}

/// The index's errors, as those of the ledger.
fn of_ledger(error: Error) -> Error {
    if error.kind() == ErrorKind::Refused {
        // It says what is the matter with the keys.
        return error;
    }
    let text = match error.kind() {
        ErrorKind::Io => "the ledger could not be read or written",
        ErrorKind::OutOfResources => "there is no room for the ledger",
        ErrorKind::Corrupt => "the ledger is damaged",
        ErrorKind::AlreadyExists => "another process has the ledger open",
        ErrorKind::Unsupported => "not a ledger of this version",
        _ => "the ledger failed",
    };
    Error::new(error.kind(), "ledger.storage", text).with_source(error)
}

/// The database with its table.
fn prepared(database: Database) -> Result<Database> {
    let reading = database.begin_read().map_err(error::transaction)?;
    if reading.open_table(ENTRIES).is_err() {
        let mut transaction = database.begin_write().map_err(error::transaction)?;
        transaction.set_quick_repair(true);
        transaction.open_table(ENTRIES).map_err(error::table)?;
        transaction.commit().map_err(error::commit)?;
    }
    drop(reading);
    Ok(database)
}

/// Writes until every sender is gone.
fn write(shared: &Shared, requests: &Receiver<Request>) {
    while let Ok(first) = requests.recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX
            && let Ok(next) = requests.try_recv()
        {
            group.push(next);
        }
        let written = shared.with(|database| write_group(database, &group));
        // Also after an error: of the medium, it may be there all the same.
        shared.changes.fetch_add(1, Ordering::AcqRel);
        match written {
            Ok(applied) => {
                for (request, applied) in group.into_iter().zip(applied) {
                    // Nobody waits any more: it was applied all the same.
                    let _ = request.reply.send(applied);
                }
            }
            Err(error) => {
                for request in group {
                    let told = Error::new(error.kind(), error.operation(), error.context().to_owned());
                    let _ = request.reply.send(Err(told));
                }
            }
        }
    }
}

/// One transaction, synchronised. What each request is answered, once it is durable.
fn write_group(database: &Database, group: &[Request]) -> Result<Vec<Result<bool>>> {
    let mut transaction = database.begin_write().map_err(error::transaction)?;
    transaction
        .set_durability(Durability::Immediate)
        .map_err(error::durability)?;
    transaction.set_quick_repair(true);
    let mut answers = Vec::with_capacity(group.len());
    let mut changed = false;
    {
        let mut table = transaction.open_table(ENTRIES).map_err(error::table)?;
        for request in group {
            if let Err(error) = Step::check_lengths(&request.steps) {
                answers.push(Err(error));
                continue;
            }
            let mut holds = true;
            for step in &request.steps {
                if let Step::Expect(key, expected) = step {
                    let found = table.get(&**key).map_err(error::storage)?;
                    holds &= found.as_ref().map(|found| found.value()) == expected.as_deref();
                }
            }
            if holds {
                for step in &request.steps {
                    match step {
                        Step::Put(key, value) => {
                            table.insert(&**key, &**value).map_err(error::storage)?;
                            changed = true;
                        }
                        Step::Delete(key) => {
                            changed |= table.remove(&**key).map_err(error::storage)?.is_some();
                        }
                        Step::Expect(..) => {}
                    }
                }
            }
            answers.push(Ok(holds));
        }
    }
    if changed {
        transaction.commit().map_err(error::commit)?;
    } else {
        transaction.abort().map_err(error::storage)?;
    }
    Ok(answers)
}

impl Ledger for RedbLedger {
    fn capability(&self) -> LedgerCapability {
        LedgerCapability { durable: true }
    }

    fn get(&self, key: &[u8]) -> BoxFuture<'_, Result<Option<Bytes>>> {
        let found = self.shared.with(|database| {
            let transaction = database.begin_read().map_err(error::transaction)?;
            let table = transaction.open_table(ENTRIES).map_err(error::table)?;
            let found = table.get(key).map_err(error::storage)?;
            Ok(found.map(|found| Bytes::copy_from_slice(found.value())))
        });
        Box::pin(std::future::ready(found))
    }

    fn get_all<'a>(&'a self, keys: &'a [Bytes]) -> BoxFuture<'a, Result<Vec<Option<Bytes>>>> {
        let found = self.shared.with(|database| {
            let transaction = database.begin_read().map_err(error::transaction)?;
            let table = transaction.open_table(ENTRIES).map_err(error::table)?;
            let get = |key: &Bytes| {
                let found = table.get(&**key).map_err(error::storage)?;
                Ok(found.map(|found| Bytes::copy_from_slice(found.value())))
            };
            keys.iter().map(get).collect()
        });
        Box::pin(std::future::ready(found))
    }

    fn range(&self, range: Range<Bytes>, limit: usize) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>>> {
        Box::pin(async move {
            if range.is_empty() {
                return Ok(Vec::new());
            }
            self.shared.with(|database| {
                let transaction = database.begin_read().map_err(error::transaction)?;
                let table = transaction.open_table(ENTRIES).map_err(error::table)?;
                let entries = table.range(&*range.start..&*range.end).map_err(error::storage)?;
                entries
                    .take(limit)
                    .map(|entry| {
                        let (key, value) = entry.map_err(error::storage)?;
                        let copied = Bytes::copy_from_slice;
                        Ok((copied(key.value()), copied(value.value())))
                    })
                    .collect()
            })
        })
    }

    fn apply(&self, steps: Vec<Step>) -> BoxFuture<'_, Result<bool>> {
        let closed = || Error::new(ErrorKind::Closed, "ledger.apply", "the ledger is closed");
        let (reply, answer) = oneshot::channel();
        let sent = match &self.writer {
            Some((requests, _)) => requests.send(Request { steps, reply }).is_ok(),
            None => false,
        };
        Box::pin(async move {
            match sent {
                true => answer.await.map_err(|_| closed())?,
                false => Err(closed()),
            }
        })
    }
}
