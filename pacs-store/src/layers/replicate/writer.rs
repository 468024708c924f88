//! Writing to both archives at once.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, join, pending, select};
use futures_timer::Delay;
use pacs_core::{ArchiveWriter, Error, ErrorKind, InstanceKey, Result, Stored, Uid};

use super::notes::{Copy, note_away};
use super::second::away;
use super::sums::Summing;
use super::{Live, ReplicateMode, ReplicateOptions, Shared};
use crate::layers::continued::Continued;
use crate::pool::Pool;

/// Copies that wait to be noted at most: further ones are left to the thread that catches up.
const FRESH_MAX: usize = 100_000;

pub(super) struct Writer {
    first: Box<dyn ArchiveWriter>,
    second: Option<Box<dyn ArchiveWriter>>,
    summing: Summing,
    options: ReplicateOptions,
    failed: bool,
    /// Not the archive: it may be closed while somebody writes.
    shared: Weak<Shared>,
    live: Arc<Live>,
    helpers: Arc<Pool>,
}

impl Writer {
    pub(super) async fn begin(shared: &Arc<Shared>) -> Result<Self> {
        let second = match shared.options.mode {
            ReplicateMode::Later => None,
            ReplicateMode::Always => Some(begin_second(shared).await.map_err(not_taken)?),
            ReplicateMode::WhilePresent => {
                let patience = Delay::new(shared.options.patience);
                match select(pin!(begin_second(shared)), patience).await {
                    Either::Left((second, _)) => second.ok(),
                    Either::Right(((), _)) => {
                        shared.second_failed(&away());
                        None
                    }
                }
            }
        };
        Ok(Self {
            first: shared.first.begin().await?,
            second,
            summing: Summing::default(),
            options: shared.options,
            failed: false,
            shared: Arc::downgrade(shared),
            live: Arc::clone(&shared.live),
            helpers: Arc::clone(&shared.helpers),
        })
    }

    async fn push(&mut self, chunk: Bytes) -> Result<()> {
        let Some(second) = &mut self.second else {
            return self.first.write(chunk).await;
        };
        self.summing.push(&chunk);
        let patience = match self.options.mode {
            ReplicateMode::Always => pending().boxed(),
            ReplicateMode::Later | ReplicateMode::WhilePresent => Delay::new(self.options.patience).boxed(),
        };
        let second = async {
            match select(second.write(chunk.clone()), patience).await {
                Either::Left((written, _)) => written,
                Either::Right(((), _)) => Err(away()),
            }
        };
        let (first, second) = join(self.first.write(chunk.clone()), second).await;
        first?;
        if let Err(error) = second {
            self.second = None;
            goes_on_without(&self.shared, self.options.mode, error)?;
        }
        Ok(())
    }

    async fn finish(self, key: InstanceKey, committing: Arc<AtomicBool>) -> Result<Stored> {
        if self.failed {
            return Err(failed_before("archive.commit"));
        }
        let Self {
            first,
            second,
            summing,
            options,
            shared,
            live,
            ..
        } = self;
        let Some(second) = second else {
            let mut commit = first.commit(key);
            let first = futures::poll!(&mut commit);
            committing.store(true, Ordering::Release);
            let stored = match first {
                std::task::Poll::Ready(stored) => stored?,
                std::task::Poll::Pending => commit.await?,
            };
            live.wake();
            return Ok(stored);
        };
        let on_the_way = OnTheWay::new(&live, key.instance);
        let note = Note {
            key,
            summing,
            live,
            shared,
        };
        if options.mode == ReplicateMode::Always {
            // What is refused must not be in the first archive: a scan would find it.
            let second = match second.commit(key).await {
                Ok(second) => second,
                Err(error) => {
                    first.abort().await?;
                    note.second_failed(&error);
                    return Err(not_taken(error));
                }
            };
            let first = first.commit(key).await;
            return note.kept(first, Ok(second)).await;
        }
        match select(first.commit(key), second.commit(key)).await {
            Either::Right((second, first)) => note.kept(first.await, second).await,
            Either::Left((first, second)) => match select(second, Delay::new(options.patience)).await {
                Either::Left((second, _)) => note.kept(first, second).await,
                Either::Right(((), second)) => {
                    let answer = match &first {
                        Ok(stored) => Ok(stored.clone()),
                        Err(error) => Err(Error::new(
                            error.kind(),
                            error.operation(),
                            error.context().to_owned(),
                        )),
                    };
                    note.second_failed(&away());
                    let live = Arc::clone(&note.live);
                    // Until it is known what became of it, nobody takes it for missing.
                    let late = async move {
                        let _ = note.kept(first, second.await).await;
                        drop(on_the_way);
                    };
                    let mut state = live.state();
                    if !state.closed {
                        state.late.push(late.boxed());
                    }
                    drop(state);
                    answer
                }
            },
        }
    }
}

/// What is noted of an instance once both copies are kept.
struct Note {
    key: InstanceKey,
    summing: Summing,
    live: Arc<Live>,
    shared: Weak<Shared>,
}

impl Note {
    /// What became of the instance, where the first copy is enough.
    async fn kept(self, first: Result<Stored>, second: Result<Stored>) -> Result<Stored> {
        match (&first, second) {
            (Ok(stored), Ok(second)) => {
                let (sums, _) = self.summing.finish();
                let copy = Copy {
                    key: self.key,
                    stored: stored.clone(),
                    spare: None,
                    second: second.locator,
                    second_sequence: second.sequence,
                    sums,
                };
                let copy = Arc::new(copy);
                self.live.state().fresh.insert(stored.locator.clone(), copy);
            }
            (Ok(_), Err(error)) => self.second_failed(&error),
            (Err(_), Ok(second)) => take_back(&self.shared, self.key.instance, second).await,
            (Err(_), Err(_)) => {}
        }
        first
    }

    fn second_failed(&self, error: &Error) {
        if let Some(shared) = self.shared.upgrade() {
            shared.second_failed(error);
        }
    }
}

/// What a sender is told: whatever the second archive says, it may come again.
fn not_taken(error: Error) -> Error {
    let what = format!("the second archive does not take it: {error}");
    Error::new(ErrorKind::OutOfResources, "archive.replicate", what)
}

/// Whether the first copy is enough, where the second can't be had.
fn goes_on_without(shared: &Weak<Shared>, mode: ReplicateMode, error: Error) -> Result<()> {
    if let Some(shared) = shared.upgrade() {
        shared.second_failed(&error);
    }
    match mode {
        ReplicateMode::Always => Err(not_taken(error)),
        ReplicateMode::Later | ReplicateMode::WhilePresent => Ok(()),
    }
}

/// Has a copy removed whose first was not kept.
async fn take_back(shared: &Weak<Shared>, instance: Uid, second: Stored) {
    if let Some(shared) = shared.upgrade()
        && let Err(error) = shared
            .notes
            .apply(vec![note_away(&second.locator, &instance)])
            .await
    {
        tracing::error!(%instance, %error, "an instance that was refused stays in the second archive");
    }
}

async fn begin_second(shared: &Shared) -> Result<Box<dyn ArchiveWriter>> {
    if shared.live.state().fresh.len() >= FRESH_MAX {
        return Err(away());
    }
    let begun = shared.second.present()?.begin().await;
    begun.inspect_err(|error| shared.second_failed(error))
}

impl Shared {
    /// The second archive did not take something: it is left alone until the thread that catches up has seen that it does
    /// again.
    pub(super) fn second_failed(&self, error: &Error) {
        if self.second.is_present.swap(false, Ordering::AcqRel) {
            tracing::error!(%error, "the second archive does not take what comes; what it lacks is copied when it does again");
        }
        self.live.wake();
    }
}

fn failed_before(operation: &'static str) -> Error {
    let why = "an earlier write of this instance failed";
    Error::new(ErrorKind::Invalid, operation, why)
}

/// Says that an instance is on its way into both archives.
pub(super) struct OnTheWay {
    live: Arc<Live>,
    instance: Uid,
}

impl OnTheWay {
    pub(super) fn new(live: &Arc<Live>, instance: Uid) -> Self {
        *live.state().on_the_way.entry(instance).or_default() += 1;
        Self {
            live: Arc::clone(live),
            instance,
        }
    }
}

impl Drop for OnTheWay {
    fn drop(&mut self) {
        let mut state = self.live.state();
        if let Some(count) = state.on_the_way.get_mut(&self.instance) {
            *count -= 1;
            if *count == 0 {
                state.on_the_way.remove(&self.instance);
            }
        }
        drop(state);
        self.live.wake();
    }
}

#[deny(clippy::missing_trait_methods)]
impl ArchiveWriter for Writer {
    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<()>> {
        async move {
            if self.failed {
                return Err(failed_before("archive.write"));
            }
            // Until it is through: dropped on its way, it has lost a part of the instance.
            self.failed = true;
            self.push(chunk).await?;
            self.failed = false;
            Ok(())
        }
        .boxed()
    }

    fn commit(self: Box<Self>, key: InstanceKey) -> BoxFuture<'static, Result<Stored>> {
        let committing = Arc::new(AtomicBool::new(false));
        let helpers = Arc::clone(&self.helpers);
        let work = (*self).finish(key, Arc::clone(&committing)).boxed();
        Continued::new(work, committing, helpers).boxed()
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        async move {
            let Self { first, second, .. } = *self;
            if let Some(second) = second {
                // What is left of it in the second archive is not seen there either.
                let _ = second.abort().await;
            }
            first.abort().await
        }
        .boxed()
    }
}
