//! The engine's own thread: every commit and removal goes through it.
//!
//! One thread, because then a commit that has begun ends, whatever becomes of the association that
//! asked for it; two instances under one SOP Instance UID come one after the other; what finishes
//! together is applied to the index as one batch; and the low water, up to which everything of the
//! archive is in the index, is known without a lock.

mod batch;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt};
use futures_timer::Delay;

use super::block_on::block_on;
use super::compare::Comparison;
use super::correction;
use super::digest::Digest;
use super::forward::{Done, Handover, Ordered};
use super::frames::Known;
use super::metadata::Describes;
use super::metadata::ahead::Recent;
use super::observers::Observers;
use super::watched::Watched;
use super::{DuplicatePolicy, StoreOutcome};
use crate::archive::{Archive, ArchiveWriter, Locator, Sequence, Stored};
use crate::budget::Share;
use crate::dataset::FrameTable;
use crate::error::{Error, ErrorKind, Result};
use crate::hooks::{Event, Source};
use crate::index::InstanceRecord;
use crate::limits;
use crate::query::{AttributeSet, LevelAttributes};
use crate::uid::{InstanceKey, Uid};

/// An instance whose bytes have all come and that waits for its commit.
pub(super) struct CommitRequest {
    pub(super) writer: Box<dyn ArchiveWriter>,
    /// The beginning of it, when none of it has gone to the writer.
    pub(super) unwritten: Vec<Bytes>,
    /// What is known before the archive says where and when; those fields are filled in here.
    pub(super) record: Box<InstanceRecord>,
    pub(super) frames: Option<CountedFrames>,
    pub(super) digest: Digest,
    /// The data set's structure could be followed to its end.
    pub(super) complete: bool,
    /// The version that it amends. Where another one is kept by then, nothing is changed and that one is the answer.
    pub(super) amends: Option<Locator>,
    pub(super) source: Source,
    pub(super) reply: oneshot::Sender<Result<Committed>>,
}

/// A frame table, and what it counts for among those on their way.
pub(super) struct CountedFrames {
    pub(super) table: Arc<FrameTable>,
    pub(super) _room: Option<Share>,
}

/// What became of a commit.
pub(super) struct Committed {
    pub(super) outcome: StoreOutcome,
    pub(super) record: Arc<InstanceRecord>,
}

pub(super) enum Request {
    Commit(CommitRequest),
    /// Removes the instance with this UID in all its versions, where a current one is named only while it is that;
    /// answers whether there was one.
    Remove(Uid, Option<Locator>, oneshot::Sender<Result<bool>>),
    /// Replaces the records of instances that are unchanged in the archive, as a re-index does.
    Reindex(Box<InstanceRecord>, oneshot::Sender<Result<bool>>),
    /// Has the index know where the frames of this version of an instance lie. Nobody waits for it; until it
    /// is done, who asks finds what is given here.
    Frames(Uid, Locator, CountedFrames, Option<Known>),
    /// Tells the index the metadata of a version of an instance.
    Describe(Describes),
    /// Has the router asked about an order.
    Ordered(Ordered),
}

impl Request {
    /// What it is about: operations on the same come one after the other.
    fn about(&self) -> Uid {
        match self {
            Request::Ordered(order) => order.study,
            Request::Commit(commit) => commit.record.key.instance,
            Request::Remove(instance, ..) | Request::Frames(instance, ..) => *instance,
            Request::Reindex(record, _) => record.key.instance,
            Request::Describe(describes) => describes.instance,
        }
    }
}

pub(super) struct Committer {
    pub(super) archive: Arc<dyn Archive>,
    pub(super) index: Arc<Watched>,
    pub(super) attributes: Arc<AttributeSet>,
    pub(super) duplicates: DuplicatePolicy,
    /// Whether what is kept under these numbers at these places is whole, as far as it was asked.
    pub(super) whole: Mutex<HashMap<(Sequence, Locator), bool>>,
    /// Who asks the router.
    pub(super) handover: Option<Handover>,
    pub(super) observers: Arc<Observers>,
    /// Everything of the archive up to here was in the index when the engine opened.
    pub(super) low_water: Sequence,
    /// The archive has what the index refused: the low water stays, so that the next healing or opening
    /// finds it.
    pub(super) behind: Arc<AtomicBool>,
    /// Series of which something was received.
    pub(super) recent: Arc<Recent>,
}

/// A finished archive operation, not yet in the index.
struct Finished {
    instance: Uid,
    ticket: Ticket,
    step: Step,
}

enum Step {
    Stored {
        record: Box<InstanceRecord>,
        frames: Option<CountedFrames>,
        /// What it says otherwise of what is above it than the version before.
        correction: Option<LevelAttributes>,
        outcome: StoreOutcome,
        /// It is what was kept already, with other attributes on its way out.
        is_amended: bool,
        source: Source,
        reply: oneshot::Sender<Result<Committed>>,
    },
    /// Nothing to apply: the answer stands already.
    Unchanged(Box<dyn FnOnce() -> Option<Event> + Send>),
    Removed {
        key: InstanceKey,
        sequence: Sequence,
        reply: oneshot::Sender<Result<bool>>,
    },
    /// A removal that failed after some versions: the record knows those that are left.
    PartlyRemoved {
        record: Box<InstanceRecord>,
        sequence: Sequence,
        error: Error,
        reply: oneshot::Sender<Result<bool>>,
    },
    Reindexed {
        record: Box<InstanceRecord>,
        reply: oneshot::Sender<Result<bool>>,
    },
    Framed {
        instance: Uid,
        version: Locator,
        frames: CountedFrames,
        /// Who asks before it is applied finds it here.
        _known: Option<Known>,
    },
    Described(Describes),
    Ordered(Ordered),
}

/// The greatest sequence applied when an operation began, and a number that tells operations apart.
/// Whatever the archive takes in for the operation comes after that sequence.
type Ticket = (Sequence, u64);

/// What the thread keeps between events.
struct State {
    committer: Arc<Committer>,
    running: FuturesUnordered<BoxFuture<'static, Finished>>,
    /// UIDs with an operation under way, and who waits behind it.
    busy: HashMap<Uid, VecDeque<Request>>,
    tickets: BTreeSet<Ticket>,
    next_ticket: u64,
    applied: Sequence,
    low_water: Sequence,
    /// What of a batch the router is asked about.
    done: Done,
    /// Set while the index does not agree with the archive: the next attempt, also where nobody asks.
    next_healing: Option<Pause>,
}

/// A wait that is twice as long after each failure.
struct Pause {
    length: Duration,
    over: Delay,
}

impl Pause {
    fn after(last: Option<Self>) -> Self {
        let [first, longest] = limits::HEALING_PAUSES;
        let length = last.map_or(first, |last| (last.length * 2).min(longest));
        Self {
            length,
            over: Delay::new(length),
        }
    }
}

impl Committer {
    /// Serves requests until every sender is gone and the last one is answered.
    pub(super) fn run(self, mut requests: mpsc::Receiver<Request>) {
        let mut state = State {
            low_water: self.low_water,
            applied: self.low_water,
            committer: Arc::new(self),
            running: FuturesUnordered::new(),
            busy: HashMap::new(),
            tickets: BTreeSet::new(),
            next_ticket: 0,
            done: Done::default(),
            next_healing: None,
        };
        block_on(async {
            let mut finished = Vec::new();
            let mut open = true;
            while open || !state.running.is_empty() {
                let healing_is_due = futures::future::poll_fn(|context| {
                    // First, so that what is asked next finds an index that answers.
                    let pause = state.next_healing.as_mut();
                    let is_time = pause.is_some_and(|pause| pause.over.poll_unpin(context).is_ready());
                    if state.committer.index.healing_is_due(context) || is_time {
                        return Poll::Ready(true);
                    }
                    while open {
                        match requests.poll_next_unpin(context) {
                            Poll::Ready(Some(request)) => state.start(request),
                            Poll::Ready(None) => open = false,
                            Poll::Pending => break,
                        }
                    }
                    while let Poll::Ready(Some(done)) = state.running.poll_next_unpin(context) {
                        finished.push(done);
                    }
                    let ended = !open && state.running.is_empty();
                    if finished.is_empty() && !ended {
                        Poll::Pending
                    } else {
                        Poll::Ready(false)
                    }
                })
                .await;
                if healing_is_due {
                    state.heal().await;
                    continue;
                }
                state.apply(&mut finished).await;
            }
        });
    }

    /// Decides what an arriving instance is, and commits it unless the same is already kept.
    async fn commit(self: Arc<Self>, request: CommitRequest) -> Step {
        let CommitRequest {
            writer,
            unwritten,
            mut record,
            frames,
            digest,
            complete,
            amends,
            source,
            reply,
        } = request;
        let is_amended = amends.is_some();
        let decided = match amends {
            Some(amended) => self.amend(writer, &mut record, &amended).await,
            None => {
                self.decide_and_commit(writer, unwritten, &mut record, digest, complete)
                    .await
            }
        };
        match decided {
            Ok((outcome @ (StoreOutcome::New | StoreOutcome::Replaced), correction)) => Step::Stored {
                record,
                frames,
                correction,
                outcome,
                is_amended,
                source,
                reply,
            },
            Ok((outcome, _)) => Step::Unchanged(Box::new(move || {
                let record: Arc<InstanceRecord> = Arc::from(record);
                let kept = Arc::clone(&record);
                let _ = reply.send(Ok(Committed { outcome, record }));
                (!is_amended).then_some(Event::Received {
                    record: kept,
                    source,
                    outcome,
                })
            })),
            Err(error) => Step::Unchanged(Box::new(move || {
                let _ = reply.send(Err(error));
                None
            })),
        }
    }

    /// What the instance is, and what it corrects above it where it takes the place of another version.
    async fn decide_and_commit(
        &self,
        mut writer: Box<dyn ArchiveWriter>,
        unwritten: Vec<Bytes>,
        record: &mut InstanceRecord,
        digest: Digest,
        complete: bool,
    ) -> Result<(StoreOutcome, Option<LevelAttributes>)> {
        let (mut outcome, mut correction) = (StoreOutcome::New, None);
        let instance = record.key.instance;
        if let Some(kept) = self.index.lookup(&instance).await? {
            match self.compare(&kept, record, digest, complete).await? {
                Comparison::Same => {
                    writer.abort().await?;
                    *record = kept;
                    return Ok((StoreOutcome::AlreadyKept, None));
                }
                Comparison::Different | Comparison::Less if self.duplicates == DuplicatePolicy::Refuse => {
                    writer.abort().await?;
                    tracing::warn!(%instance, "refused: another instance is kept under its UID");
                    return Err(Error::new(
                        ErrorKind::AlreadyExists,
                        "engine.commit",
                        "another instance is kept under this SOP Instance UID",
                    ));
                }
                Comparison::Less => {
                    writer.abort().await?;
                    tracing::warn!(%instance, "left out: it is cut off, and a better one is kept under its UID");
                    *record = kept;
                    return Ok((StoreOutcome::FirstKept, None));
                }
                Comparison::Different if self.duplicates == DuplicatePolicy::KeepFirst => {
                    writer.abort().await?;
                    *record = kept;
                    return Ok((StoreOutcome::FirstKept, None));
                }
                // What is worth less than the one that arrives gives way, whatever the policy.
                Comparison::Different | Comparison::More => {
                    record.superseded = kept.superseded.clone();
                    record.superseded.insert(0, kept.locator.clone());
                    let (archive, attributes) = (&*self.archive, &self.attributes);
                    correction = correction::of_replacement(archive, attributes, &kept, record).await;
                    outcome = StoreOutcome::Replaced;
                }
            }
        }
        for bytes in unwritten {
            writer.write(bytes).await?;
        }
        keep(writer, record).await?;
        if outcome == StoreOutcome::Replaced {
            let InstanceKey { study, series, .. } = record.key;
            tracing::info!(%instance, %series, %study, "replaced: what was kept is an earlier version now");
        }
        Ok((outcome, correction))
    }

    async fn amend(
        &self,
        writer: Box<dyn ArchiveWriter>,
        record: &mut InstanceRecord,
        amended: &Locator,
    ) -> Result<(StoreOutcome, Option<LevelAttributes>)> {
        let kept = self.index.lookup(&record.key.instance).await?;
        let Some(kept) = kept else {
            writer.abort().await?;
            let what = "the instance was removed while it was amended";
            return Err(Error::new(ErrorKind::NotFound, "engine.amend", what));
        };
        if kept.locator != *amended {
            writer.abort().await?;
            *record = kept;
            return Ok((StoreOutcome::FirstKept, None));
        }
        record.superseded = kept.superseded;
        record.superseded.insert(0, kept.locator);
        keep(writer, record).await?;
        let correction = correction::of_amended(&self.attributes, record);
        Ok((StoreOutcome::Replaced, correction))
    }

    async fn remove(
        self: Arc<Self>,
        instance: Uid,
        only: Option<Locator>,
        reply: oneshot::Sender<Result<bool>>,
    ) -> Step {
        let mut record = match self.index.lookup(&instance).await {
            Ok(Some(kept)) if only.is_none_or(|only| only == kept.locator) => Box::new(kept),
            other => {
                return Step::Unchanged(Box::new(move || {
                    let _ = reply.send(other.map(|_| false));
                    None
                }));
            }
        };
        // The newest version last: a crash in between leaves it, and with it the whole instance.
        let mut removed = None;
        let error = loop {
            let oldest = record.superseded.last().unwrap_or(&record.locator);
            match self.archive.remove(&instance, oldest).await {
                Err(error) => break error,
                Ok(sequence) if record.superseded.pop().is_none() => {
                    let key = record.key;
                    return Step::Removed { key, sequence, reply };
                }
                Ok(sequence) => removed = Some(sequence),
            }
        };
        match removed {
            Some(sequence) => Step::PartlyRemoved {
                record,
                sequence,
                error,
                reply,
            },
            None => Step::Unchanged(Box::new(move || {
                let _ = reply.send(Err(error));
                None
            })),
        }
    }

    /// The record is applied only while the index still has this very version of the instance.
    async fn reindex(
        self: Arc<Self>,
        mut record: Box<InstanceRecord>,
        reply: oneshot::Sender<Result<bool>>,
    ) -> Step {
        match self.index.lookup(&record.key.instance).await {
            Ok(Some(kept)) if kept.locator == record.locator => {
                record.superseded = kept.superseded;
                Step::Reindexed { record, reply }
            }
            other => Step::Unchanged(Box::new(move || {
                let _ = reply.send(other.map(|_| false));
                None
            })),
        }
    }
}

/// Commits what was written; the record then says where and when.
async fn keep(writer: Box<dyn ArchiveWriter>, record: &mut InstanceRecord) -> Result<()> {
    let Stored {
        locator,
        length,
        sequence,
        received,
    } = writer.commit(record.key).await?;
    record.locator = locator;
    record.length = length;
    record.sequence = sequence;
    record.received = received;
    Ok(())
}
