//! An archive around another one, for tests that count what is asked of it or let it fail.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, ready};
use futures::stream::BoxStream;

use crate::archive::{Archive, ArchiveCapability, ArchiveWriter, Entry, Locator, Sequence};
use crate::error::Result;
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

    fn last_sequence(&self) -> Option<Sequence> {
        self.inside.last_sequence()
    }

    fn indexed(&self, sequence: Sequence) -> BoxFuture<'_, Result<()>> {
        self.inside.indexed(sequence)
    }
}
