//! [`PostgresIndex`]: an index that many machines share.

mod tables;

use std::collections::VecDeque;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

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

use super::Postgres;
use super::failure::Failure;
use crate::index::page::{Page, Pager};
use crate::index::tables::{is_prepared, prepare, state};
use crate::index::walk;
use crate::index::writer::Writer;
pub(super) use tables::STEP;
use tables::{Batch, Reading, Statements};

/// An [`Index`] in the tables of a database.
///
/// One writes at a time, whoever has it open; what it knows of patients, studies and series it keeps for its next batch,
/// as long as nobody else wrote. Reading goes on meanwhile: a page of an answer, a lookup, is of one state.
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

/// What stays between batches.
struct Writing {
    /// Who this is among all that ever opened it.
    writer: i64,
    batches: AtomicI64,
    /// The number of the batch that was written last, with what is known since. Absent after one that failed.
    last: Mutex<Option<(i64, Writer)>>,
}

impl fmt::Debug for PostgresIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresIndex").finish_non_exhaustive()
    }
}

impl PostgresIndex {
    /// The index of this database. Blocks.
    ///
    /// # Errors
    /// `Unsupported` when it was written by another version: an index can be made again from the archive. `Io` when the
    /// database isn't reached.
    pub fn new(database: Postgres) -> Result<Self> {
        let statements = Arc::new(Statements::new(database.schema()));
        let of_opening = Arc::clone(&statements);
        let writer = block_on(database.run(move |client: Object| {
            let statements = Arc::clone(&of_opening);
            async move { Ok(client.query_one(&statements.open, &[]).await?.try_get(0)?) }
        }))?;
        let shared = Shared {
            database,
            statements,
            writing: Arc::new(Writing {
                writer,
                batches: AtomicI64::new(1),
                last: Mutex::new(None),
            }),
        };
        if !block_on(shared.read(|tables| is_prepared(tables)))? {
            block_on(shared.change(|tables, _| match is_prepared(tables)? {
                true => Ok(()),
                // Nobody else came before.
                false => prepare(tables),
            }))?;
        }
        Ok(Self {
            shared: Arc::new(shared),
        })
    }
}

impl Shared {
    /// Reads one state of the tables.
    fn read<T, R>(&self, read: R) -> impl Future<Output = Result<T>> + Send + use<T, R>
    where
        T: Send + 'static,
        R: Fn(&Reading<'_>) -> Result<T> + Send + Sync + 'static,
    {
        let (statements, read) = (Arc::clone(&self.statements), Arc::new(read));
        self.database.run(move |client| {
            let (statements, read) = (Arc::clone(&statements), Arc::clone(&read));
            blocking(move |runtime| reading(client, &statements, runtime, |tables| read(tables)))
        })
    }

    /// Changes the tables in one transaction, while nobody else does.
    fn change<C>(&self, change: C) -> impl Future<Output = Result<()>> + Send + use<C>
    where
        C: Fn(&mut Batch<'_>, &mut Writer) -> Result<()> + Send + Sync + 'static,
    {
        let (statements, change) = (Arc::clone(&self.statements), Arc::new(change));
        let writing = Arc::clone(&self.writing);
        self.database.run(move |client| {
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
            shared.database.run(move |client| {
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
    fn batch(
        &self,
        mut client: Object,
        statements: &Statements,
        runtime: Handle,
        change: &dyn Fn(&mut Batch<'_>, &mut Writer) -> Result<()>,
    ) -> Result<(), Failure> {
        let known = self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        let number = self.batches.fetch_add(1, Ordering::Relaxed);
        let transaction = runtime.block_on(async {
            let transaction = client.transaction().await?;
            let lock = transaction.prepare_cached(&statements.lock).await?;
            let last = transaction.query_one(&lock, &[]).await?;
            let (writer, batch): (i64, i64) = (last.try_get(0)?, last.try_get(1)?);
            let note = transaction.prepare_cached(&statements.note_writer).await?;
            transaction.execute(&note, &[&self.writer, &number]).await?;
            Ok::<_, Failure>((transaction, (writer == self.writer).then_some(batch)))
        });
        let (transaction, last) = transaction?;
        let mut batch = Batch::new(Reading::new(transaction, statements, runtime));
        let known = known.filter(|(number, _)| Some(*number) == last);
        let mut writer = match known {
            Some((_, writer)) => writer,
            None => match state(&batch) {
                Ok(state) => Writer::new(state),
                Err(error) => return Err(batch.reading.failure(error)),
            },
        };
        if let Err(error) = change(&mut batch, &mut writer) {
            return Err(batch.reading.failure(error));
        }
        batch.finish()?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, writer));
        Ok(())
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
        Box::pin(
            self.shared
                .change(move |tables, writer| writer.apply(tables, &changes, low_water)),
        )
    }

    fn flush(&self) -> BoxFuture<'_, Result<Sequence>> {
        self.low_water()
    }

    fn low_water(&self) -> BoxFuture<'_, Result<Sequence>> {
        Box::pin(self.shared.read(|tables| Ok(state(tables)?.low_water)))
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        let cleared = self.shared.change(|tables, writer| {
            tables.reading.forget_all()?;
            *writer = Writer::new(Default::default());
            prepare(tables)
        });
        Box::pin(cleared)
    }

    fn reopen(&self) -> BoxFuture<'_, Result<()>> {
        // What failed left nothing behind, and the next batch looks anew.
        Box::pin(std::future::ready(Ok(())))
    }

    fn lookup(&self, instance: &Uid) -> BoxFuture<'_, Result<Option<InstanceRecord>>> {
        let instance = *instance;
        Box::pin(self.shared.read(move |tables| walk::lookup(tables, &instance)))
    }

    fn frames(&self, instance: &Uid, version: &Locator) -> BoxFuture<'_, Result<Option<Arc<FrameTable>>>> {
        let (instance, version) = (*instance, version.clone());
        let frames = self
            .shared
            .read(move |tables| Ok(walk::frames(tables, &instance, &version)?.map(Arc::new)));
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
        Box::pin(self.shared.read(|tables| Ok(state(tables)?.totals)))
    }
}
