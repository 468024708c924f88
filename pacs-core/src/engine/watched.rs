//! The index as the engine asks it: an answer counts only while the index agrees with the archive.
//!
//! An index may refuse everything after one failure of its medium until it is opened again, and then it
//! knows only what was durable. The archive is the truth, so nothing is lost: the committer opens it
//! again and applies what the archive took in since. Until that is done every question is refused, with
//! an error that says to try again, because the index would deny what it knew before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::Context;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use futures::task::AtomicWaker;

use crate::archive::{Locator, Sequence};
use crate::dataset::{DataSet, FrameTable};
use crate::error::{Error, ErrorKind, Result};
use crate::index::{Index, InstanceRecord, Scope, Totals};
use crate::limits::REFUSALS_PER_HEALING_MAX;
use crate::query::Query;
use crate::uid::Uid;

/// An index, and whether it agrees with the archive.
pub(super) struct Watched {
    index: Arc<dyn Index>,
    health: Arc<Health>,
}

#[derive(Default)]
struct Health {
    /// Grows with each failure and each healing: even while the index agrees with the archive.
    epoch: AtomicU64,
    /// Healings that failed since the last that did not.
    failures: AtomicU32,
    /// Questions refused since the last attempt.
    refused: AtomicU32,
    /// It is time for an attempt.
    due: AtomicBool,
    committer: AtomicWaker,
}

/// What is answered meanwhile.
pub(super) fn behind() -> Error {
    let why = "the index catches up after a failure of its medium";
    Error::new(ErrorKind::Io, "engine.index", why)
}

/// Whether an error tells of the medium and not of what was asked.
fn is_of_medium(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::OutOfResources)
}

impl Health {
    /// The epoch, while the index agrees with the archive. Otherwise each refusal brings the next attempt
    /// nearer.
    fn begin(&self) -> Result<u64> {
        let epoch = self.epoch.load(Ordering::SeqCst);
        if epoch.is_multiple_of(2) {
            return Ok(epoch);
        }
        let refused = self.refused.fetch_add(1, Ordering::SeqCst) + 1;
        // Twice as many after each failure: an attempt that fails late has read much for nothing.
        let failures = self.failures.load(Ordering::SeqCst);
        if refused
            >= 1_u32
                .checked_shl(failures)
                .unwrap_or(u32::MAX)
                .min(REFUSALS_PER_HEALING_MAX)
        {
            self.demand();
        }
        Err(behind())
    }

    /// The result of a question that was begun in `epoch`. What an index says that failed meanwhile, or
    /// was opened again, does not count.
    fn end<T>(&self, epoch: u64, result: Result<T>) -> Result<T> {
        match result {
            Err(error) if is_of_medium(&error) => {
                self.fail(epoch, &error);
                Err(error)
            }
            _ if self.epoch.load(Ordering::SeqCst) != epoch => Err(behind()),
            result => result,
        }
    }

    fn fail(&self, epoch: u64, error: &Error) {
        let next = self
            .epoch
            .compare_exchange(epoch, epoch + 1, Ordering::SeqCst, Ordering::SeqCst);
        if next.is_ok() {
            tracing::error!(%error, "the index failed; it is brought up to the archive again");
            self.demand();
        }
    }

    fn demand(&self) {
        self.due.store(true, Ordering::SeqCst);
        self.committer.wake();
    }

    /// Asks as `ask` does of the index; ends with an error when the index fails before the last item.
    fn stream<T: Send + 'static>(
        self: Arc<Self>,
        ask: impl FnOnce() -> BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let epoch = match self.begin() {
            Ok(epoch) => epoch,
            Err(error) => return stream::iter([Err(error)]).boxed(),
        };
        stream::unfold(Some(ask()), move |items| {
            let health = Arc::clone(&self);
            async move {
                let mut items = items?;
                match items.next().await.map(|item| health.end(epoch, item)) {
                    Some(Ok(item)) => Some((Ok(item), Some(items))),
                    Some(Err(error)) => Some((Err(error), None)),
                    // An early end would be an answer too.
                    None => health.end(epoch, Ok(())).err().map(|error| (Err(error), None)),
                }
            }
        })
        .boxed()
    }
}

impl Watched {
    /// Watches an index that agrees with the archive.
    pub(super) fn new(index: Arc<dyn Index>) -> Self {
        Self {
            index,
            health: Arc::default(),
        }
    }

    /// The index, whatever its state: for bringing it up to the archive.
    pub(super) fn unwatched(&self) -> &dyn Index {
        &*self.index
    }

    pub(super) async fn lookup(&self, instance: &Uid) -> Result<Option<InstanceRecord>> {
        let epoch = self.health.begin()?;
        self.health.end(epoch, self.index.lookup(instance).await)
    }

    pub(super) async fn frames(&self, instance: &Uid, version: &Locator) -> Result<Option<Arc<FrameTable>>> {
        let epoch = self.health.begin()?;
        self.health.end(epoch, self.index.frames(instance, version).await)
    }

    pub(super) async fn totals(&self) -> Result<Totals> {
        let epoch = self.health.begin()?;
        self.health.end(epoch, self.index.totals().await)
    }

    pub(super) async fn flush(&self) -> Result<Sequence> {
        let epoch = self.health.begin()?;
        self.health.end(epoch, self.index.flush().await)
    }

    pub(super) fn instances(&self, scope: Scope) -> BoxStream<'static, Result<InstanceRecord>> {
        let health = Arc::clone(&self.health);
        health.stream(|| self.index.instances(scope))
    }

    pub(super) fn metadata(
        &self,
        scope: Scope,
    ) -> BoxStream<'static, Result<(InstanceRecord, Option<Bytes>)>> {
        let health = Arc::clone(&self.health);
        health.stream(|| self.index.metadata(scope))
    }

    pub(super) fn query(&self, query: Query) -> BoxStream<'static, Result<DataSet>> {
        let health = Arc::clone(&self.health);
        health.stream(|| self.index.query(query))
    }

    /// Takes note of an error that a batch met; whether it is one that healing may help.
    pub(super) fn note(&self, error: &Error) -> bool {
        if is_of_medium(error) {
            self.health
                .fail(self.health.epoch.load(Ordering::SeqCst) & !1, error);
        }
        is_of_medium(error)
    }

    /// Whether the index agrees with the archive.
    pub(super) fn is_healthy(&self) -> bool {
        self.health.epoch.load(Ordering::SeqCst).is_multiple_of(2)
    }

    /// Whether it is time for an attempt to heal; the committer is woken when it becomes so.
    pub(super) fn healing_is_due(&self, context: &Context<'_>) -> bool {
        self.health.committer.register(context.waker());
        self.health.due.load(Ordering::SeqCst) && !self.is_healthy()
    }

    /// Takes note of how an attempt ended. Only the committer heals.
    pub(super) fn attempted(&self, healed: bool) {
        let health = &self.health;
        health.due.store(false, Ordering::SeqCst);
        health.refused.store(0, Ordering::SeqCst);
        if healed {
            health.failures.store(0, Ordering::SeqCst);
            health.epoch.fetch_add(1, Ordering::SeqCst);
        } else {
            health.failures.fetch_add(1, Ordering::SeqCst);
        }
    }
}
