//! What has finished: applied to the index as one batch, answered, told.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::FutureExt;

use super::{Committed, Committer, Finished, Pause, Request, State, Step};
use crate::archive::Locator;
use crate::engine::correction;
use crate::engine::recovery::replay;
use crate::engine::watched::behind;
use crate::error::{Error, ErrorKind, Result};
use crate::hooks::Event;
use crate::index::{Change, InstanceRecord};
use crate::uid::Uid;

impl State {
    pub(super) fn start(&mut self, request: Request) {
        let instance = request.about();
        if let Some(waiting) = self.busy.get_mut(&instance) {
            waiting.push_back(request);
            return;
        }
        self.busy.insert(instance, VecDeque::new());
        self.begin(instance, request);
    }

    fn begin(&mut self, instance: Uid, request: Request) {
        let ticket = (self.applied, self.next_ticket);
        self.next_ticket += 1;
        self.tickets.insert(ticket);
        let committer = Arc::clone(&self.committer);
        let operation = async move {
            match request {
                Request::Commit(commit) => committer.commit(commit).await,
                Request::Remove(instance, only, reply) => committer.remove(instance, only, reply).await,
                Request::Reindex(record, reply) => committer.reindex(record, reply).await,
                // An index that knows another version by now takes no notice.
                Request::Frames(instance, version, frames, known) => Step::Framed {
                    instance,
                    version,
                    frames,
                    _known: known,
                },
                Request::Describe(describes) => Step::Described(describes),
                Request::Ordered(order) => Step::Ordered(order),
            }
        };
        // A backend that panics fails this operation, not the engine: the dropped reply tells who asked.
        let contained = AssertUnwindSafe(operation)
            .catch_unwind()
            .map(move |step| Finished {
                instance,
                ticket,
                step: step.unwrap_or_else(|_| Step::Unchanged(Box::new(|| None))),
            });
        self.running.push(contained.boxed());
    }

    /// Applies what has finished as one batch, then answers.
    pub(super) async fn apply(&mut self, finished: &mut Vec<Finished>) {
        for done in finished.iter() {
            self.tickets.remove(&done.ticket);
        }
        let stored = |done: &Finished| match &done.step {
            Step::Stored { record, .. } => Some(record.key.instance),
            _ => None,
        };
        let stored: Vec<_> = finished.iter().filter_map(stored).collect();
        if let Some(handover) = &self.committer.handover {
            handover.announce(&stored);
        }
        let mut applied = self.apply_batch(finished).await;
        if let Err(error) = &applied
            && self.committer.index.note(error)
            && self.heal().await
        {
            // Healing applied all that is in the archive; what only the batch knows comes now.
            applied = self.apply_batch(finished).await;
        }
        if let Err(error) = &applied {
            tracing::error!(%error, "the index refused a batch");
            self.committer.index.note(error);
        }
        for done in finished.drain(..) {
            if !self.answer(done.step, applied.as_ref().err()).await {
                tracing::error!(
                    "the archive is ahead of the index; its healing or the next opening brings it up"
                );
                self.committer.behind.store(true, Ordering::Relaxed);
            }
            self.release(done.instance);
        }
        let mut done = std::mem::take(&mut self.done);
        if let Some(handover) = &self.committer.handover {
            done.low_water = self.low_water;
            handover.give(done, stored);
        }
    }

    async fn apply_batch(&mut self, finished: &[Finished]) -> Result<()> {
        let mut changes = Vec::with_capacity(finished.len());
        let mut greatest = self.applied;
        for done in finished {
            match &done.step {
                Step::Stored {
                    record,
                    frames,
                    correction,
                    ..
                } => {
                    greatest = greatest.max(record.sequence);
                    changes.push(Change::Store(record.clone()));
                    changes.extend(correction::change(record, correction.clone()));
                    changes.extend(frames.as_ref().map(|frames| Change::Frames {
                        instance: record.key.instance,
                        version: record.locator.clone(),
                        table: Arc::clone(&frames.table),
                    }));
                }
                Step::Removed { key, sequence, .. } => {
                    greatest = greatest.max(*sequence);
                    changes.push(Change::Remove(key.instance));
                }
                Step::PartlyRemoved { record, sequence, .. } => {
                    greatest = greatest.max(*sequence);
                    changes.push(Change::Store(record.clone()));
                }
                Step::Reindexed { record, .. } => {
                    let attributes = &self.committer.attributes;
                    changes.push(Change::Store(record.clone()));
                    changes.extend(correction::change(
                        record,
                        correction::of_amended(attributes, record),
                    ));
                }
                Step::Framed {
                    instance,
                    version,
                    frames,
                    ..
                } => changes.push(Change::Frames {
                    instance: *instance,
                    version: version.clone(),
                    table: Arc::clone(&frames.table),
                }),
                Step::Described(describes) => changes.push(Change::Metadata {
                    instance: describes.instance,
                    version: describes.version.clone(),
                    record: describes.record.clone(),
                }),
                Step::Unchanged(_) | Step::Ordered(_) => {}
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        if !self.committer.index.is_healthy() {
            return Err(behind());
        }
        let low_water = match self.tickets.first() {
            _ if self.committer.behind.load(Ordering::Relaxed) => self.low_water,
            Some((floor, _)) => *floor,
            None => greatest,
        };
        let index = self.committer.index.unwatched();
        AssertUnwindSafe(index.apply(changes, low_water))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| {
                Err(Error::new(
                    ErrorKind::Internal,
                    "engine.index",
                    "the index panicked while it applied a batch",
                ))
            })?;
        self.applied = greatest;
        self.low_water = low_water;
        Ok(())
    }

    /// Opens an index that failed again and brings it up to the archive; whether that succeeded.
    ///
    /// Whatever is under way in the archive meanwhile comes behind what is applied here, or is applied
    /// twice, which changes nothing.
    pub(super) async fn heal(&mut self) -> bool {
        let Committer {
            archive,
            index,
            attributes,
            behind,
            ..
        } = &*self.committer;
        let healing = async {
            index.unwatched().reopen().await?;
            replay(&**archive, index.unwatched(), attributes).await
        };
        let healed = AssertUnwindSafe(healing)
            .catch_unwind()
            .await
            .unwrap_or_else(|_| {
                let why = "the index or the archive panicked";
                Err(Error::new(ErrorKind::Internal, "engine.heal", why))
            });
        match &healed {
            Ok(recovered) => {
                self.applied = self.applied.max(recovered.low_water);
                self.low_water = recovered.low_water;
                if let Some(handover) = &self.committer.handover {
                    handover.lag();
                }
                behind.store(false, Ordering::Relaxed);
                tracing::warn!(
                    applied = recovered.applied,
                    "the index agrees with the archive again"
                );
            }
            Err(error) => tracing::error!(%error, "the index could not be brought up to the archive"),
        }
        index.attempted(healed.is_ok());
        let last = self.next_healing.take();
        self.next_healing = healed.is_err().then(|| Pause::after(last));
        healed.is_ok()
    }

    /// Answers whoever waits. False when the archive now has what the index does not.
    async fn answer(&mut self, step: Step, failed: Option<&Error>) -> bool {
        let error =
            || failed.map(|error| Error::new(error.kind(), "engine.index", error.context().to_owned()));
        match step {
            Step::Unchanged(answer) => {
                if let Some(event) = answer() {
                    self.committer.observers.tell(&event);
                }
            }
            Step::Stored {
                record,
                outcome,
                is_amended,
                source,
                reply,
                ..
            } => {
                if let Some(error) = error() {
                    // An index that failed may know it all the same; then it stays, and is kept when the
                    // index is healed.
                    let undone = self.committer.index.is_healthy()
                        && self.undo(&record.key.instance, &record.locator).await;
                    let _ = reply.send(Err(error));
                    return undone;
                }
                let record: Arc<InstanceRecord> = Arc::from(record);
                self.committer.recent.note(record.key.series);
                let _ = reply.send(Ok(Committed {
                    outcome,
                    record: Arc::clone(&record),
                }));
                if is_amended {
                    self.done.changed.push(record.key);
                    self.committer.observers.tell(&Event::Amended { record, source });
                    return true;
                }
                self.done.received.push((Arc::clone(&record), source.clone()));
                self.committer.observers.tell(&Event::Received {
                    record,
                    source,
                    outcome,
                });
            }
            Step::Removed { key, reply, .. } => {
                let failed = error();
                let done = failed.is_none();
                let _ = reply.send(failed.map_or(Ok(true), Err));
                if done {
                    self.done.changed.push(key);
                    self.committer.observers.tell(&Event::Removed { key });
                }
                return done;
            }
            Step::PartlyRemoved { error, reply, .. } => {
                let _ = reply.send(Err(error));
                return failed.is_none();
            }
            Step::Reindexed { reply, .. } => {
                let _ = reply.send(error().map_or(Ok(true), Err));
            }
            // What the index did not take is made again when it is asked for.
            Step::Framed { .. } => {}
            Step::Ordered(order) => self.done.ordered.push(order),
            Step::Described(describes) => {
                if let Some(reply) = describes.reply {
                    let _ = reply.send(error().map_or(Ok(true), Err));
                }
            }
        }
        true
    }

    /// Takes back from the archive what the index refused, so that an instance answered with failure
    /// does not appear later. Where that fails too (false) it may appear: kept, and never acknowledged.
    async fn undo(&self, instance: &Uid, locator: &Locator) -> bool {
        let removed = AssertUnwindSafe(self.committer.archive.remove(instance, locator)).catch_unwind();
        let problem = match removed.await {
            Ok(Ok(_)) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the archive panicked".to_owned(),
        };
        tracing::error!(%instance, problem, "an instance that was answered with failure stays in the archive");
        false
    }

    fn release(&mut self, instance: Uid) {
        let next = self.busy.get_mut(&instance).and_then(VecDeque::pop_front);
        match next {
            Some(request) => self.begin(instance, request),
            None => {
                self.busy.remove(&instance);
            }
        }
    }
}
