//! [`RedbIndex`]: the index in one file, on the embedded database redb.
//!
//! The index itself is `crate::index`, upon the tables of `tables`; `stream` reads a page at a time.
//!
//! # Durability
//! A batch is one transaction that is atomic and visible but not synchronised; [`flush`](Index::flush)
//! makes all of them durable with one more. After a crash the index is what it was at some flush, or
//! later, with the low water of that moment; what is missing is applied again from the archive. Each
//! flush records which pages of the file are free, so that opening after a crash doesn't walk the file.
//! redb refuses everything after a failure of its medium; [`reopen`](Index::reopen) is then like a
//! restart after a crash.

mod error;
#[cfg(test)]
mod faults;
mod ledger;
mod sealed;
mod stream;
mod tables;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use ::redb::{Database, Durability, ReadableDatabase, StorageBackend};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use pacs_core::archive::{Locator, Sequence};
use pacs_core::dataset::{DataSet, FrameTable};
use pacs_core::error::{Error, ErrorKind, Result};
use pacs_core::index::{Change, Index, IndexCapability, InstanceRecord, Scope, Totals};
use pacs_core::query::Query;
use pacs_core::uid::Uid;

use crate::index::writer::Writer;
use crate::index::{State, walk};
use crate::layers::encrypt::{FileKeys, file::is_encrypted};
use crate::medium::{Medium, MediumBackend};
pub use ledger::RedbLedger;
use tables::{ReadTables, WriteTables};

/// How a [`RedbIndex`] uses the machine.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RedbIndexOptions {
    /// Memory for pages of the file, in bytes; up to half of it holds pages that are not written yet.
    /// Pages that don't fit are read through the system's own cache.
    pub cache_max_bytes: usize,
}

impl Default for RedbIndexOptions {
    fn default() -> Self {
        Self {
            cache_max_bytes: 64 * 1024 * 1024,
        }
    }
}

/// An [`Index`] in one file.
///
/// One process may have the file open. Dropping it makes what was applied durable.
pub struct RedbIndex {
    shared: Arc<Shared>,
}

/// What streams need too. They hold it weakly, so that a forgotten stream keeps no file open.
struct Shared {
    writing: Mutex<Writing>,
    /// Absent while it could not be opened again. Whoever reads or writes holds it, so that one is closed
    /// before the next is opened; taken after `writing`.
    database: RwLock<Option<Database>>,
    opener: Opener,
}

/// Opens the database where it is.
type Opener = Box<dyn Fn() -> Result<Database> + Send + Sync>;

struct Writing {
    /// Absent after a batch that failed, until it is read again.
    writer: Option<Writer>,
    /// Something was applied since the last flush.
    unflushed: bool,
}

impl fmt::Debug for RedbIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbIndex").finish_non_exhaustive()
    }
}

impl RedbIndex {
    /// Opens the index in the file at `path`, which is made when it is missing.
    ///
    /// # Errors
    /// `AlreadyExists` when another process has it open, `Unsupported` when the file is something else
    /// or of another version, `Corrupt` when it is damaged: an index can be made again from the archive.
    pub fn open(path: impl AsRef<Path>, options: RedbIndexOptions) -> Result<Self> {
        let path = path.as_ref().to_owned();
        Self::new(Box::new(move || open_file(&path, options)))
    }

    /// As [`open`](Self::open), in a file of any medium. It takes no lock: the archive on the same medium
    /// holds one.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(
        medium: Arc<dyn Medium>,
        path: impl AsRef<Path>,
        options: RedbIndexOptions,
    ) -> Result<Self> {
        let path = path.as_ref().to_owned();
        Self::new(Box::new(move || {
            let backend = MediumBackend::open(&*medium, &path)
                .map_err(|error| Error::io("index.open", "the index can't be opened", error))?;
            open_storage(backend, options)
        }))
    }

    /// As [`open`](Self::open), in a file that is [encrypted](FileKeys). Blocks where a key has to be asked for.
    ///
    /// # Errors
    /// As [`open`](Self::open); `Refused` when the file's key is missing or wrong, and when the file is plain and
    /// [`plain_too`](crate::EncryptOptions::plain_too) isn't set: an index can be made again from the archive.
    pub fn open_encrypted(
        path: impl AsRef<Path>,
        keys: Arc<FileKeys>,
        options: RedbIndexOptions,
    ) -> Result<Self> {
        let path = path.as_ref().to_owned();
        Self::new(Box::new(move || {
            open_storage(sealed::open(&path, &keys)?, options)
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
        options: RedbIndexOptions,
    ) -> Result<Self> {
        let path = path.as_ref().to_owned();
        Self::new(Box::new(move || {
            open_storage(sealed::open_on(&*medium, &path, &keys)?, options)
        }))
    }

    /// Opens the index on a storage of the caller's: memory, a raw device. After an error of the storage it
    /// can't go on, because nobody can open the storage again.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn with_backend(backend: impl StorageBackend, options: RedbIndexOptions) -> Result<Self> {
        let database = open_storage(backend, options)?;
        let opener = || {
            let why = "the index is on a storage that can't be opened again";
            Err(Error::new(ErrorKind::Unsupported, "index.open", why))
        };
        Self::with(database, Box::new(opener))
    }

    fn new(opener: Opener) -> Result<Self> {
        Self::with(opener()?, opener)
    }

    fn with(database: Database, opener: Opener) -> Result<Self> {
        let shared = Shared {
            writing: Mutex::new(Writing {
                writer: None,
                unflushed: false,
            }),
            database: RwLock::new(Some(prepared(database)?)),
            opener,
        };
        let state = shared.state()?;
        shared.writing().writer = Some(Writer::new(state));
        Ok(Self {
            shared: Arc::new(shared),
        })
    }
}

fn open_file(path: &Path, options: RedbIndexOptions) -> Result<Database> {
    let open = || {
        contained("index.open", || {
            builder(options).create(path).map_err(error::database)
        })
    };
    let database = open().or_else(|error| {
        if starts_encrypted(path) {
            let why = "the file is encrypted, and there are no keys for it";
            return Err(Error::new(ErrorKind::Refused, "index.open", why));
        }
        // Only now, when no other process can be about to make the file.
        let again = empty_unfinished(path).map_err(|e| Error::io("index.open", "no index", e))?;
        if again { open() } else { Err(error) }
    })?;
    // The name is durable before anything is said to be.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    std::fs::File::open(directory.unwrap_or(Path::new(".")))
        .and_then(|directory| directory.sync_all())
        .map_err(|e| Error::io("index.open", "the directory can't be synchronised", e))?;
    Ok(database)
}

fn open_storage(backend: impl StorageBackend, options: RedbIndexOptions) -> Result<Database> {
    contained("index.open", || {
        let mut start = [0; MAGIC.len()];
        let prepared = backend.len().and_then(|length| {
            if length < MAGIC.len() as u64 {
                return Ok(());
            }
            backend.read(0, &mut start)?;
            if is_unfinished(&start) {
                backend.set_len(0)
            } else {
                Ok(())
            }
        });
        prepared.map_err(|e| Error::io("index.open", "the index can't be read", e))?;
        builder(options)
            .create_with_backend(backend)
            .map_err(error::database)
    })
}

/// The database with all its tables.
fn prepared(database: Database) -> Result<Database> {
    let reading = database.begin_read().map_err(error::transaction)?;
    if !tables::are_prepared(&reading)? {
        let mut transaction = database.begin_write().map_err(error::transaction)?;
        // As in every durable commit: the last one decides how long opening after a crash takes.
        transaction.set_quick_repair(true);
        tables::prepare(&transaction)?;
        transaction.commit().map_err(error::commit)?;
    }
    drop(reading);
    Ok(database)
}

/// What a file of redb begins with. It is written last when the file is made, and until it is durable
/// nothing was promised of the file.
const MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";

/// Whether the making of a file that begins like this was cut off.
fn is_unfinished(start: &[u8; MAGIC.len()]) -> bool {
    *start != MAGIC
        && start
            .iter()
            .zip(MAGIC)
            .all(|(&byte, magic)| byte == 0 || byte == magic)
}

/// Whether the file at `path` is an encrypted one, as far as can be told.
fn starts_encrypted(path: &Path) -> bool {
    use std::io::Read;
    let mut start = [0; 8];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && is_encrypted(&start)
}

/// Empties the file at `path` if its making was cut off. Says whether it did.
fn empty_unfinished(path: &Path) -> std::io::Result<bool> {
    use std::io::Read;
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
    let mut start = [0; MAGIC.len()];
    let unfinished = file.read_exact(&mut start).is_ok() && is_unfinished(&start);
    if unfinished {
        file.set_len(0)?;
    }
    Ok(unfinished)
}

fn builder(options: RedbIndexOptions) -> ::redb::Builder {
    let mut builder = ::redb::Builder::new();
    builder.set_cache_size(options.cache_max_bytes);
    builder
}

/// Runs `work`; redb panics on some damaged files, and that is an error like others.
fn contained<T>(operation: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Corrupt,
            operation,
            "the index is damaged: rebuild it from the archive",
        ))
    })
}

/// The database, held open.
struct OpenDatabase<'a>(RwLockReadGuard<'a, Option<Database>>);

impl OpenDatabase<'_> {
    fn get(&self) -> Result<&Database> {
        self.0.as_ref().ok_or_else(|| {
            let why = "the index could not be opened again after a failure of its medium";
            Error::new(ErrorKind::Io, "index.open", why)
        })
    }
}

/// The tables of one moment.
struct Reading<'a> {
    tables: ReadTables,
    /// Let go after the tables.
    _database: OpenDatabase<'a>,
}

impl Deref for Reading<'_> {
    type Target = ReadTables;

    fn deref(&self) -> &ReadTables {
        &self.tables
    }
}

impl Shared {
    fn writing(&self) -> MutexGuard<'_, Writing> {
        // After a panic in a batch the writer is absent, which is all that could be wrong.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn database(&self) -> OpenDatabase<'_> {
        OpenDatabase(self.database.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn read(&self) -> Result<Reading<'_>> {
        let database = self.database();
        let transaction = database.get()?.begin_read().map_err(error::transaction)?;
        Ok(Reading {
            tables: ReadTables::open(&transaction).map_err(error::table)?,
            _database: database,
        })
    }

    fn state(&self) -> Result<State> {
        crate::index::tables::state(&*self.read()?)
    }

    /// One transaction, not synchronised.
    fn change(&self, work: impl FnOnce(&mut Writer, &mut WriteTables<'_>) -> Result<()>) -> Result<()> {
        let mut writing = self.writing();
        let mut writer = match writing.writer.take() {
            Some(writer) => writer,
            None => Writer::new(self.state()?),
        };
        let database = self.database();
        let mut transaction = database.get()?.begin_write().map_err(error::transaction)?;
        transaction
            .set_durability(Durability::None)
            .map_err(error::durability)?;
        let mut tables = WriteTables::open(&transaction)?;
        // On an error the transaction is dropped and so undone, and the writer with it.
        work(&mut writer, &mut tables)?;
        drop(tables);
        transaction.commit().map_err(error::commit)?;
        writing.writer = Some(writer);
        writing.unflushed = true;
        Ok(())
    }

    fn flush(&self) -> Result<Sequence> {
        let mut writing = self.writing();
        let state = self.state()?;
        if writing.unflushed {
            let database = self.database();
            let mut transaction = database.get()?.begin_write().map_err(error::transaction)?;
            transaction
                .set_durability(Durability::Immediate)
                .map_err(error::durability)?;
            transaction.set_quick_repair(true);
            transaction.commit().map_err(error::commit)?;
            writing.unflushed = false;
        }
        Ok(state.low_water)
    }

    fn clear(&self) -> Result<()> {
        let mut writing = self.writing();
        writing.writer = None;
        let database = self.database();
        let mut transaction = database.get()?.begin_write().map_err(error::transaction)?;
        transaction.set_quick_repair(true);
        tables::delete_all(&transaction)?;
        tables::prepare(&transaction)?;
        transaction.commit().map_err(error::commit)?;
        writing.unflushed = false;
        Ok(())
    }

    fn reopen(&self) -> Result<()> {
        let mut writing = self.writing();
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *writing = Writing {
            writer: None,
            unflushed: false,
        };
        // Nobody reads or writes it now, so this closes the file.
        *database = None;
        *database = Some(prepared((self.opener)()?)?);
        Ok(())
    }
}

impl Index for RedbIndex {
    fn capability(&self) -> IndexCapability {
        IndexCapability { durable: true }
    }

    fn apply(&self, changes: Vec<Change>, low_water: Sequence) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            contained("index.apply", || {
                self.shared
                    .change(|writer, tables| writer.apply(tables, &changes, low_water))
            })
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<Sequence>> {
        Box::pin(async move { contained("index.flush", || self.shared.flush()) })
    }

    fn low_water(&self) -> BoxFuture<'_, Result<Sequence>> {
        Box::pin(async move { contained("index.low_water", || Ok(self.shared.state()?.low_water)) })
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { contained("index.clear", || self.shared.clear()) })
    }

    fn reopen(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { contained("index.reopen", || self.shared.reopen()) })
    }

    fn lookup(&self, instance: &Uid) -> BoxFuture<'_, Result<Option<InstanceRecord>>> {
        let instance = *instance;
        Box::pin(async move { contained("index.lookup", || walk::lookup(&*self.shared.read()?, &instance)) })
    }

    fn frames(&self, instance: &Uid, version: &Locator) -> BoxFuture<'_, Result<Option<Arc<FrameTable>>>> {
        let (instance, version) = (*instance, version.clone());
        Box::pin(async move {
            contained("index.frames", || {
                let frames = walk::frames(&*self.shared.read()?, &instance, &version)?;
                Ok(frames.map(Arc::new))
            })
        })
    }

    fn instances(&self, scope: Scope) -> BoxStream<'static, Result<InstanceRecord>> {
        Box::pin(stream::Paged::new(&self.shared, walk::Instances::new(scope)))
    }

    fn metadata(&self, scope: Scope) -> BoxStream<'static, Result<(InstanceRecord, Option<Bytes>)>> {
        Box::pin(stream::Paged::new(&self.shared, walk::Instances::new(scope)))
    }

    fn query(&self, query: Query) -> BoxStream<'static, Result<DataSet>> {
        Box::pin(stream::Paged::new(&self.shared, walk::Answers::new(query)))
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals>> {
        Box::pin(async move { contained("index.totals", || Ok(self.shared.state()?.totals)) })
    }
}
