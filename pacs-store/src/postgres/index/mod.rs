//! [`PostgresIndex`]: an index that many machines share.

mod tables;

use std::collections::VecDeque;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use deadpool_postgres::{GenericClient as _, Object};
use futures::executor::block_on;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};
use pacs_core::archive::{Locator, Sequence};
use pacs_core::dataset::{DataSet, FrameTable};
use pacs_core::error::{Error, ErrorKind, Result};
use pacs_core::index::{Change, Index, IndexCapability, InstanceRecord, Scope, Totals};
use pacs_core::query::Query;
use pacs_core::uid::Uid;
use tokio::runtime::Handle;
use tokio_postgres::IsolationLevel;
use tokio_postgres::types::ToSql;

use super::Postgres;
use super::connection::Whose;
use super::failure::Failure;
use crate::index::codec::uid_key;
use crate::index::page::{Page, Pager};
use crate::index::tables::{is_prepared, prepare, state};
use crate::index::walk;
use crate::index::writer::Writer;
use crate::layers::encrypt::random_number;
pub(super) use tables::STEP;
use tables::{Batch, OfInstance, Reading, Statements};

/// An [`Index`] in the tables of a database.
///
/// One writes: who opened it last. What it knows of patients, studies and series it keeps for its next batch. Where the
/// database goes back behind what it had committed, as a standby does that takes over too early, that is an error of the medium,
/// as another one is: what is missing is applied again. Reading goes on meanwhile: a page of an answer, a lookup, is of one state.
///
/// Each batch is durable when it is applied, as far as the database keeps what it commits.
pub struct PostgresIndex {
    shared: Arc<Shared>,
}

struct Shared {
    database: Postgres,
    statements: Arc<Statements>,
    writing: Arc<Writing>,
}

/// Who writes, and what stays between batches.
struct Writing {
    /// Nobody else's.
    name: String,
    state: Mutex<Wrote>,
}

#[derive(Default)]
struct Wrote {
    /// What the database numbered the opening by.
    opened: i64,
    /// The batch that was begun last.
    begun: i64,
    /// The batch that is known to have been committed last.
    committed: i64,
    /// What is known since, and since which. Absent after one that failed.
    known: Option<(i64, Writer)>,
}

impl fmt::Debug for PostgresIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresIndex").finish_non_exhaustive()
    }
}

impl PostgresIndex {
    /// The index of this database. It is from now on the one that writes: another one that did is refused. Blocks.
    ///
    /// # Errors
    /// `Unsupported` when it was written by another version: [`emptied`](Self::emptied), it can be made again from the
    /// archive. `Io` when the database isn't reached.
    pub fn new(database: Postgres) -> Result<Self> {
        let index = Self::opened(database)?;
        if !block_on(index.shared.read(Whose::Own, |tables| is_prepared(tables)))? {
            block_on(index.shared.change(|tables, writer| {
                if !is_prepared(tables)? {
                    prepare(tables)?;
                }
                known(tables, writer)
            }))?;
        }
        Ok(index)
    }

    /// The same, after everything was forgotten, whatever it was. Blocks.
    ///
    /// # Errors
    /// What the database says.
    pub fn emptied(database: Postgres) -> Result<Self> {
        let index = Self::opened(database)?;
        block_on(index.clear())?;
        Ok(index)
    }

    fn opened(database: Postgres) -> Result<Self> {
        let shared = Shared {
            statements: Arc::new(Statements::new(database.schema())),
            database,
            writing: Arc::new(Writing {
                name: format!("{:032x}", random_number()?),
                state: Mutex::default(),
            }),
        };
        block_on(shared.take_over(i64::MAX))?;
        Ok(Self {
            shared: Arc::new(shared),
        })
    }
}

impl Shared {
    /// Becomes the one that writes, unless somebody does who opened it after the one of this number.
    fn take_over(&self, opened: i64) -> impl Future<Output = Result<()>> + Send + use<> {
        let (statements, writing) = (Arc::clone(&self.statements), Arc::clone(&self.writing));
        self.database.run(Whose::Own, move |client: Object| {
            let (statements, writing) = (Arc::clone(&statements), Arc::clone(&writing));
            async move {
                let values: [&(dyn ToSql + Sync); 2] = [&writing.name, &opened];
                let Some(row) = client.query_opt(&statements.open, &values).await? else {
                    return Err(Failure::Final(another_writes()));
                };
                *writing.state() = Wrote {
                    opened: row.try_get(0)?,
                    ..Wrote::default()
                };
                Ok(())
            }
        })
    }

    /// Reads one state of the tables.
    fn read<T, R>(&self, whose: Whose, read: R) -> impl Future<Output = Result<T>> + Send + use<T, R>
    where
        T: Send + 'static,
        R: Fn(&Reading<'_>) -> Result<T> + Send + Sync + 'static,
    {
        let (statements, read) = (Arc::clone(&self.statements), Arc::new(read));
        self.database.run(whose, move |client| {
            let (statements, read) = (Arc::clone(&statements), Arc::clone(&read));
            blocking(move |runtime| reading(client, &statements, runtime, |tables| read(tables)))
        })
    }

    /// Changes the tables in one transaction, while nobody else does. What is known since the last one is given, where there
    /// is something, and what is known now is answered.
    fn change<C>(&self, change: C) -> impl Future<Output = Result<()>> + Send + use<C>
    where
        C: Fn(&mut Batch<'_>, Option<Writer>) -> Result<Writer> + Send + Sync + 'static,
    {
        let (statements, change) = (Arc::clone(&self.statements), Arc::new(change));
        let writing = Arc::clone(&self.writing);
        self.database.run(Whose::Own, move |client| {
            let (statements, change) = (Arc::clone(&statements), Arc::clone(&change));
            let writing = Arc::clone(&writing);
            blocking(move |runtime| writing.batch(client, &statements, runtime, &*change))
        })
    }

    /// An answer, a page at a time.
    fn pages<P: Pager>(self: &Arc<Self>, pager: P) -> BoxStream<'static, Result<P::Item>>
    where
        P::Item: 'static,
    {
        let of_pages = Pages {
            shared: Arc::downgrade(self),
            pager: Arc::new(Mutex::new(pager)),
            answers: VecDeque::new(),
            is_done: false,
        };
        stream::unfold(of_pages, |mut pages| async move {
            loop {
                if let Some(answer) = pages.answers.pop_front() {
                    return Some((Ok(answer), pages));
                }
                if pages.is_done {
                    return None;
                }
                match pages.next().await {
                    Ok((answers, is_done)) => {
                        pages.answers = answers;
                        pages.is_done = is_done;
                    }
                    Err(error) => {
                        pages.is_done = true;
                        return Some((Err(error), pages));
                    }
                }
            }
        })
        .fuse()
        .boxed()
    }
}

struct Pages<P: Pager> {
    /// Weak, so that a forgotten stream keeps no database open.
    shared: Weak<Shared>,
    pager: Arc<Mutex<P>>,
    answers: VecDeque<P::Item>,
    is_done: bool,
}

impl<P: Pager> Pages<P>
where
    P::Item: 'static,
{
    fn next(&self) -> impl Future<Output = Result<(VecDeque<P::Item>, bool)>> + Send + use<P> {
        let pager = Arc::clone(&self.pager);
        let read = self.shared.upgrade().map(|shared| {
            let statements = Arc::clone(&shared.statements);
            shared.database.run(Whose::Questions, move |client| {
                let (statements, pager) = (Arc::clone(&statements), Arc::clone(&pager));
                blocking(move |runtime| {
                    let mut pager = pager.lock().unwrap_or_else(PoisonError::into_inner);
                    let mut page = Page::new();
                    let mut began = false;
                    let read = reading(client, &statements, runtime, |tables| {
                        began = true;
                        pager.page(tables, &mut page)
                    });
                    match read {
                        Ok(is_done) => Ok((page.into_answers(), is_done)),
                        // It doesn't know any more where it stood.
                        Err(failure) if began => Err(Failure::Final(failure.into_error())),
                        Err(failure) => Err(failure),
                    }
                })
            })
        });
        async move {
            match read {
                Some(read) => read.await,
                None => Err(Error::new(
                    ErrorKind::Closed,
                    "index.read",
                    "the index was closed meanwhile",
                )),
            }
        }
    }
}

impl Writing {
    fn state(&self) -> MutexGuard<'_, Wrote> {
        // What is wrong after a panic is that nothing is known.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn batch(
        &self,
        mut client: Object,
        statements: &Statements,
        runtime: Handle,
        change: &dyn Fn(&mut Batch<'_>, Option<Writer>) -> Result<Writer>,
    ) -> Result<(), Failure> {
        let (number, known) = {
            let mut state = self.state();
            state.begun += 1;
            (state.begun, state.known.take())
        };
        let transaction = runtime.block_on(async {
            let transaction = client.transaction().await?;
            let lock = transaction.prepare_cached(&statements.lock).await?;
            let last = transaction.query_one(&lock, &[]).await?;
            let last_batch = self.last_batch(last.try_get(0)?, last.try_get(1)?, last.try_get(2)?)?;
            let note = transaction.prepare_cached(&statements.note_batch).await?;
            transaction.execute(&note, &[&number]).await?;
            Ok::<_, Failure>((transaction, last_batch))
        });
        let (transaction, last) = transaction?;
        let mut batch = Batch::new(Reading::new(transaction, statements, runtime));
        let known = known.filter(|(number, _)| *number == last);
        let writer = match change(&mut batch, known.map(|(_, writer)| writer)) {
            Ok(writer) => writer,
            Err(error) => return Err(batch.reading.failure(error)),
        };
        batch.finish()?;
        let mut state = self.state();
        state.committed = number;
        state.known = Some((number, writer));
        Ok(())
    }

    /// The batch that the database had last, where it is one of these and none is missing.
    ///
    /// # Errors
    /// `Io` where the database went back behind what it had committed, as one that takes the place of another may: what is
    /// missing has to be applied again. `Refused` where another program has become the one that writes.
    fn last_batch(&self, opened: i64, writer: &str, batch: i64) -> Result<i64, Failure> {
        let state = self.state();
        let is_mine = writer == self.name;
        if is_mine && batch >= state.committed {
            return Ok(batch);
        }
        Err(Failure::Final(match is_mine || opened < state.opened {
            true => Error::new(
                ErrorKind::Io,
                "index.apply",
                "the database lacks what it had committed",
            ),
            false => another_writes(),
        }))
    }
}

fn another_writes() -> Error {
    Error::new(
        ErrorKind::Refused,
        "index.apply",
        "another program has opened the index since: it is the one that writes",
    )
}

/// What is known for the next batch.
fn known(tables: &Batch<'_>, writer: Option<Writer>) -> Result<Writer> {
    match writer {
        Some(writer) => Ok(writer),
        None => Ok(Writer::new(state(tables)?)),
    }
}

/// Does `work` where it may block; what panics there is damage, as everywhere in the index.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce(Handle) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let runtime = Handle::current();
    let done = tokio::task::spawn_blocking(move || {
        std::panic::catch_unwind(AssertUnwindSafe(|| work(runtime)))
            .unwrap_or_else(|_| Err(Failure::Final(crate::index::tables::is_damaged())))
    });
    match done.await {
        Ok(done) => done,
        Err(_) => Err(Failure::Final(Error::new(
            ErrorKind::Closed,
            "database",
            "the database is closed",
        ))),
    }
}

/// Reads one state of the tables.
fn reading<T>(
    mut client: Object,
    statements: &Statements,
    runtime: Handle,
    read: impl FnOnce(&Reading<'_>) -> Result<T>,
) -> Result<T, Failure> {
    let begun = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start();
    let transaction = runtime.block_on(begun)?;
    let tables = Reading::new(transaction, statements, runtime);
    read(&tables).map_err(|error| tables.failure(error))
}

#[deny(clippy::missing_trait_methods)]
impl Index for PostgresIndex {
    fn capability(&self) -> IndexCapability {
        IndexCapability { durable: true }
    }

    fn apply(&self, changes: Vec<Change>, low_water: Sequence) -> BoxFuture<'_, Result<()>> {
        let applied = self.shared.change(move |tables, writer| {
            let mut writer = known(tables, writer)?;
            writer.apply(tables, &changes, low_water)?;
            Ok(writer)
        });
        Box::pin(applied)
    }

    fn flush(&self) -> BoxFuture<'_, Result<Sequence>> {
        self.low_water()
    }

    fn low_water(&self) -> BoxFuture<'_, Result<Sequence>> {
        Box::pin(
            self.shared
                .read(Whose::Own, |tables| Ok(state(tables)?.low_water)),
        )
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        let cleared = self.shared.change(|tables, _| {
            tables.reading.forget_all()?;
            prepare(tables)?;
            Ok(Writer::new(Default::default()))
        });
        Box::pin(cleared)
    }

    fn reopen(&self) -> BoxFuture<'_, Result<()>> {
        // What failed left nothing behind; what a database lacks that went back is applied again from here.
        let opened = self.shared.writing.state().opened;
        Box::pin(self.shared.take_over(opened))
    }

    fn lookup(&self, instance: &Uid) -> BoxFuture<'_, Result<Option<InstanceRecord>>> {
        let (instance, statements) = (*instance, Arc::clone(&self.shared.statements));
        let found = self.shared.database.run(Whose::Questions, move |client: Object| {
            let statements = Arc::clone(&statements);
            async move {
                let found = OfInstance::fetch(&client, &statements, &uid_key(&instance)).await?;
                walk::lookup(&found, &instance).map_err(Failure::Final)
            }
        });
        Box::pin(found)
    }

    fn frames(&self, instance: &Uid, version: &Locator) -> BoxFuture<'_, Result<Option<Arc<FrameTable>>>> {
        let (instance, version) = (*instance, version.clone());
        let frames = self.shared.read(Whose::Questions, move |tables| {
            Ok(walk::frames(tables, &instance, &version)?.map(Arc::new))
        });
        Box::pin(frames)
    }

    fn instances(&self, scope: Scope) -> BoxStream<'static, Result<InstanceRecord>> {
        self.shared.pages(walk::Instances::new(scope))
    }

    fn metadata(&self, scope: Scope) -> BoxStream<'static, Result<(InstanceRecord, Option<Bytes>)>> {
        self.shared.pages(walk::Instances::new(scope))
    }

    fn query(&self, query: Query) -> BoxStream<'static, Result<DataSet>> {
        self.shared.pages(walk::Answers::new(query))
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals>> {
        Box::pin(
            self.shared
                .read(Whose::Questions, |tables| Ok(state(tables)?.totals)),
        )
    }
}
