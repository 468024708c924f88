//! An archive or an index around another one, for tests that count what is asked of it or let it fail.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, ready};
use futures::stream::BoxStream;

use crate::archive::{Archive, ArchiveCapability, ArchiveWriter, Entry, Locator, Sequence};
use crate::dataset::{DataSet, FrameTable};
use crate::error::Result;
use crate::index::{Change, Index, IndexCapability, InstanceRecord, Scope, Totals};
use crate::query::Query;
use crate::uid::Uid;

/// What is read, and what becomes of it.
type Reading =
    dyn Fn(&Locator, BoxStream<'static, Result<Bytes>>) -> BoxStream<'static, Result<Bytes>> + Send + Sync;

/// The archive inside, but for what is put around it.
pub struct Around {
    inside: Arc<dyn Archive>,
    beginning: Box<dyn Fn() -> Result<()> + Send + Sync>,
    reading: Box<Reading>,
}

impl fmt::Debug for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Around").finish_non_exhaustive()
    }
}

impl Around {
    /// Changes nothing.
    pub fn new(inside: Arc<dyn Archive>) -> Self {
        Self {
            inside,
            beginning: Box::new(|| Ok(())),
            reading: Box::new(|_, pieces| pieces),
        }
    }

    /// Asks before an instance is begun; an error is the answer.
    #[must_use]
    pub fn beginning(mut self, ask: impl Fn() -> Result<()> + Send + Sync + 'static) -> Self {
        self.beginning = Box::new(ask);
        self
    }

    /// Makes something else of what is read at a locator.
    #[must_use]
    pub fn reading(
        mut self,
        make: impl Fn(&Locator, BoxStream<'static, Result<Bytes>>) -> BoxStream<'static, Result<Bytes>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.reading = Box::new(make);
        self
    }
}

#[deny(clippy::missing_trait_methods)]
impl Archive for Around {
    fn capability(&self) -> ArchiveCapability {
        self.inside.capability()
    }

    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn ArchiveWriter>>> {
        match (self.beginning)() {
            Ok(()) => self.inside.begin(),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn read(&self, locator: &Locator, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        (self.reading)(locator, self.inside.read(locator, range))
    }

    fn read_unchecked(&self, locator: &Locator, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        (self.reading)(locator, self.inside.read_unchecked(locator, range))
    }

    fn remove(&self, instance: &Uid, locator: &Locator) -> BoxFuture<'_, Result<Sequence>> {
        self.inside.remove(instance, locator)
    }

    fn scan(&self, after: Sequence) -> BoxStream<'static, Result<Entry>> {
        self.inside.scan(after)
    }

    fn verify(&self, locator: &Locator) -> BoxFuture<'_, Result<()>> {
        self.inside.verify(locator)
    }

    fn mend(&self, locator: &Locator) -> BoxFuture<'_, Result<bool>> {
        self.inside.mend(locator)
    }

    fn last_sequence(&self) -> Option<Sequence> {
        self.inside.last_sequence()
    }

    fn indexed(&self, sequence: Sequence) -> BoxFuture<'_, Result<()>> {
        self.inside.indexed(sequence)
    }
}

/// What is applied, and what becomes of it.
type Applying = dyn Fn(&mut Vec<Change>) -> Result<()> + Send + Sync;

/// The index inside, but for what is put around it.
pub struct AroundIndex {
    inside: Arc<dyn Index>,
    applying: Box<Applying>,
    reopening: Box<dyn Fn() -> Result<()> + Send + Sync>,
}

impl fmt::Debug for AroundIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AroundIndex").finish_non_exhaustive()
    }
}

impl AroundIndex {
    /// Changes nothing.
    pub fn new(inside: Arc<dyn Index>) -> Self {
        Self {
            inside,
            applying: Box::new(|_| Ok(())),
            reopening: Box::new(|| Ok(())),
        }
    }

    /// Makes something else of what is applied; an error is the answer.
    #[must_use]
    pub fn applying(mut self, make: impl Fn(&mut Vec<Change>) -> Result<()> + Send + Sync + 'static) -> Self {
        self.applying = Box::new(make);
        self
    }

    /// Asks before it is opened again; an error is the answer.
    #[must_use]
    pub fn reopening(mut self, ask: impl Fn() -> Result<()> + Send + Sync + 'static) -> Self {
        self.reopening = Box::new(ask);
        self
    }
}

#[deny(clippy::missing_trait_methods)]
impl Index for AroundIndex {
    fn capability(&self) -> IndexCapability {
        self.inside.capability()
    }

    fn apply(&self, mut changes: Vec<Change>, low_water: Sequence) -> BoxFuture<'_, Result<()>> {
        match (self.applying)(&mut changes) {
            Ok(()) => self.inside.apply(changes, low_water),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn flush(&self) -> BoxFuture<'_, Result<Sequence>> {
        self.inside.flush()
    }

    fn low_water(&self) -> BoxFuture<'_, Result<Sequence>> {
        self.inside.low_water()
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        self.inside.clear()
    }

    fn reopen(&self) -> BoxFuture<'_, Result<()>> {
        match (self.reopening)() {
            Ok(()) => self.inside.reopen(),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn lookup(&self, instance: &Uid) -> BoxFuture<'_, Result<Option<InstanceRecord>>> {
        self.inside.lookup(instance)
    }

    fn frames(&self, instance: &Uid, version: &Locator) -> BoxFuture<'_, Result<Option<Arc<FrameTable>>>> {
        self.inside.frames(instance, version)
    }

    fn instances(&self, scope: Scope) -> BoxStream<'static, Result<InstanceRecord>> {
        self.inside.instances(scope)
    }

    fn metadata(&self, scope: Scope) -> BoxStream<'static, Result<(InstanceRecord, Option<Bytes>)>> {
        self.inside.metadata(scope)
    }

    fn query(&self, query: Query) -> BoxStream<'static, Result<DataSet>> {
        self.inside.query(query)
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals>> {
        self.inside.totals()
    }
}
