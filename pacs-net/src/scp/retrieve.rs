//! Retrieve (PS3.4 C.4.2, C.4.3) as SCP: C-MOVE and C-GET.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, FuturesUnordered};
use futures::{FutureExt, StreamExt, TryStreamExt};
use pacs_core::access::Permission;
use pacs_core::audit::{Outcome, OutcomeIndicator, Participant, Subject, Subjects};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode;
use pacs_core::query::{Model, Retrieval, retrieval};
use pacs_core::{DataSet, InstanceRecord, Pacs, Result, Source, Uid};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{PacsServices, query, source};
use crate::audited;
use crate::dimse::{Category, CommandField, MoveOriginator, Operation, Reply, Status, SubOperations};
#[cfg(feature = "pixel")]
use crate::scu::transcoded;
use crate::scu::{Outgoing, Pieces, Sending, Sent, Supply, send_on};

/// Unable to perform sub-operations (PS3.4 C.4.2.1.5, C.4.3.1.4).
const NONE_PERFORMED: Status = Status(0xA702);

/// Pending responses come no more often than this, so that they don't compete with the instances.
const PENDING_INTERVAL: Duration = Duration::from_millis(250);

/// What is read of an instance before its turn to be sent: most slices whole, and little enough for
/// hundreds of retrievals at once.
const READ_AHEAD_BYTES: usize = 640 * 1024;

/// Instances that are read ahead at once, for all retrievals together: with what the archive holds beside,
/// some 64 MiB. A retrieval beyond that reads each instance when its turn comes.
pub(super) const READ_AHEAD_MAX: usize = 64;

/// Length of a Failed SOP Instance UID List: that of a UI in an explicit VR (PS3.5 7.1.2), beyond which it
/// would go out as UN. The counts say how many more there are.
const FAILED_LIST_LENGTH_MAX_BYTES: usize = 65_534;

/// Sends the instances to the destination that the request names.
pub(super) async fn c_move(services: &PacsServices, mut operation: Operation) -> Result<Reply> {
    let model = query::model(&operation, CommandField::C_MOVE)?;
    services.pacs.permit(&source(&operation), Permission::Retrieve)?;
    let Ok(title) = operation.command().move_destination() else {
        return Ok(Reply::new(Status::MOVE_DESTINATION_UNKNOWN)
            .with_error_comment("the Move Destination is absent or no AE title"));
    };
    let known = services
        .options
        .destinations
        .iter()
        .find(|destination| destination.ae_title == title);
    let Some(destination) = known.cloned() else {
        return Ok(Reply::new(Status::MOVE_DESTINATION_UNKNOWN)
            .with_error_comment(format!("no destination is configured as {title}")));
    };
    let job = Job::read(services, &mut operation, model).await?;
    let source = source(&operation);
    let originator = source.calling_ae.map(|ae_title| MoveOriginator {
        ae_title,
        message_id: operation.command().message_id(),
    });
    let mut remote = destination.remote(services.options.ae_title);
    remote.timeouts = crate::transport::Timeouts {
        associate: remote.timeouts.associate,
        ..services.options.timeouts
    };
    let sending = Sending {
        remote,
        // A second association pays only when there is something to share.
        associations: destination.associations.min(job.total.div_ceil(4)).max(1),
        window: services.options.operations_max,
        priority: operation.command().priority(),
        originator,
    };
    let receiver = Participant::application(destination.ae_title);
    let kept = Arc::new(Kept::new(services, source));
    job.recorded(&services.pacs, Some(&receiver), None).await?;
    let results = sending.send(&job.kinds, Arc::clone(&kept), job.items(&kept));
    let reply = job.report(&operation, &kept, results, OnCancel::GiveUp).await;
    job.over(&services.pacs, Some(&receiver), reply).await
}

/// Sends the instances back on the same association.
pub(super) async fn c_get(services: &PacsServices, mut operation: Operation) -> Result<Reply> {
    let model = query::model(&operation, CommandField::C_GET)?;
    let job = Job::read(services, &mut operation, model).await?;
    let client = operation.client();
    let window = match operation.negotiated().outgoing_operations {
        0 => services.options.operations_max,
        window => window.min(services.options.operations_max),
    };
    let kept = Arc::new(Kept::new(services, source(&operation)));
    job.recorded(&services.pacs, None, None).await?;
    let items = job.items(&kept).take_until(operation.cancelled());
    let cancelled = || operation.is_cancelled();
    let priority = operation.command().priority();
    let results = send_on(client, window, priority, Arc::clone(&kept), items, cancelled);
    let reply = job.report(&operation, &kept, results, OnCancel::Finish).await;
    job.over(&services.pacs, None, reply).await
}

/// What C-CANCEL does to sub-operations that are under way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnCancel {
    /// Their associations are aborted.
    GiveUp,
    /// They come to their end: a message half sent would end the requestor's association.
    Finish,
}

/// One retrieval: which instances, and what of them must be known beforehand.
struct Job {
    asked: Arc<Retrieval>,
    /// Who asks.
    source: Source,
    total: usize,
    /// Whose they are, where that is recorded.
    subjects: Vec<Subject>,
    /// SOP classes and transfer syntaxes, for the negotiation with a destination.
    kinds: BTreeSet<(Uid, Uid)>,
}

impl Job {
    async fn read(services: &PacsServices, operation: &mut Operation, model: Model) -> Result<Self> {
        let source = source(operation);
        services.pacs.permit(&source, Permission::Retrieve)?;
        let (identifier, _, _) = query::identifier(operation).await?;
        let asked = Arc::new(retrieval(model, &identifier)?);
        let mut job = Job {
            asked,
            source,
            total: 0,
            subjects: Vec::new(),
            kinds: BTreeSet::new(),
        };
        let mut subjects = Subjects::default();
        let mut records = records(&services.pacs, &job.asked, &job.source);
        while let Some(record) = records.try_next().await? {
            job.total += 1;
            if services.pacs.audit().is_on() {
                subjects.add(&record);
            }
            job.kinds.insert((record.sop_class, record.transfer_syntax));
        }
        drop(records);
        job.subjects = subjects.take();
        Ok(job)
    }

    /// Records that they begin to go (PS3.15 A.5.3.3), or that they went (A.5.3.7).
    async fn recorded(
        &self,
        pacs: &Pacs,
        receiver: Option<&Participant>,
        outcome: Option<Outcome>,
    ) -> Result<()> {
        let subjects = self.subjects.clone();
        audited::handed_out(pacs, &self.source, receiver.cloned(), subjects, outcome).await
    }

    /// The same at the end, with what came of it.
    async fn over(&self, pacs: &Pacs, receiver: Option<&Participant>, reply: Result<Reply>) -> Result<Reply> {
        let outcome = match &reply {
            Ok(reply) if reply.status == Status::SUCCESS => Outcome::SUCCESS,
            Ok(reply) => {
                let why = format!("not all went: {}", reply.status);
                Outcome::failure(OutcomeIndicator::MinorFailure, why)
            }
            Err(_) => Outcome::of(&reply),
        };
        self.recorded(pacs, receiver, Some(outcome)).await?;
        reply
    }

    /// The instances once more: they are not held while they wait for their turn. Once one is sent, the
    /// next is begun to be read when it is asked for, which is meanwhile.
    fn items(&self, kept: &Arc<Kept>) -> BoxStream<'static, Item> {
        let kept = Arc::clone(kept);
        records(&kept.pacs, &self.asked, &self.source)
            .filter_map(|record| async move {
                record
                    .inspect_err(|error| tracing::error!(%error, "the index failed within a retrieval"))
                    .ok()
            })
            .then(move |record| {
                let kept = Arc::clone(&kept);
                async move {
                    let data_set = match kept.opening.load(Ordering::Relaxed) {
                        true => Some(kept.begin(&record).await),
                        false => None,
                    };
                    Item {
                        record,
                        data_set: Mutex::new(data_set),
                    }
                }
            })
            .boxed()
    }

    /// Counts what becomes of each, tells the peer now and then, and makes the final response.
    async fn report(
        &self,
        operation: &Operation,
        kept: &Kept,
        mut results: BoxStream<'_, (Item, Sent)>,
        on_cancel: OnCancel,
    ) -> Result<Reply> {
        let mut counts = Counts {
            total: self.total,
            ..Counts::default()
        };
        let mut told = None::<Instant>;
        // A pending response and the sub-operations share one sender, which a sub-operation holds while
        // it sends: so both are driven here, and neither waits while the other is not.
        let mut telling = FuturesUnordered::new();
        let cancelled = loop {
            let result = tokio::select! {
                biased;
                () = operation.cancelled(), if on_cancel == OnCancel::GiveUp => None,
                Some(sent) = telling.next(), if !telling.is_empty() => {
                    let () = sent?;
                    continue;
                }
                result = results.next() => result,
            };
            let Some((item, sent)) = result else {
                break operation.is_cancelled() && counts.done() < self.total;
            };
            if item.take().is_some() {
                kept.opening.store(false, Ordering::Relaxed);
            }
            counts.add(item.record.key.instance, sent);
            let due = told.is_none_or(|told| told.elapsed() >= PENDING_INTERVAL);
            if counts.done() < self.total && due && telling.is_empty() {
                told = Some(Instant::now());
                let pending = Reply::new(Status::PENDING).with_sub_operations(counts.shown(true));
                telling.push(operation.respond(pending));
            }
        };
        drop(results);
        while let Some(sent) = telling.next().await {
            sent?;
        }
        if !cancelled {
            counts.add_missing();
        }
        Ok(counts.last(operation, cancelled))
    }
}

/// Reads the beginning of an instance; all of a small one. One that can't be read fails before its
/// message begins. The permit is given back with the stream.
async fn read_ahead(pieces: Pieces, permit: OwnedSemaphorePermit) -> Result<Pieces> {
    let mut pieces = pieces.fuse();
    let mut read = Vec::new();
    let mut length = 0;
    while length < READ_AHEAD_BYTES
        && let Some(piece) = pieces.next().await.transpose()?
    {
        length += piece.len();
        read.push(Ok(piece));
    }
    let whole = stream::iter(read).chain(pieces);
    Ok(whole
        .inspect(move |_| {
            let _ = &permit;
        })
        .boxed())
}

/// An instance that is about to be sent.
struct Item {
    record: InstanceRecord,
    /// As it is stored, where it is read ahead; taken when it is sent.
    data_set: Mutex<Option<Result<Pieces>>>,
}

impl Item {
    /// What is begun of it, unless it was taken before.
    fn take(&self) -> Option<Result<Pieces>> {
        // Nothing panics while it holds this lock.
        self.data_set
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// What is asked for, of what `source` may have: the rest isn't shown to be there.
fn records(
    pacs: &Pacs,
    asked: &Arc<Retrieval>,
    source: &Source,
) -> BoxStream<'static, Result<InstanceRecord>> {
    let (pacs, asked, source) = (pacs.clone(), Arc::clone(asked), source.clone());
    stream::iter(asked.scopes.clone())
        .flat_map(move |scope| pacs.instances_for(&source, Permission::Retrieve, scope))
        .try_filter(move |record| std::future::ready(asked.asks_for(record)))
        .boxed()
}

#[derive(Default)]
struct Counts {
    total: usize,
    completed: usize,
    failed: usize,
    warning: usize,
    failed_uids: Vec<Uid>,
    failed_list_length: usize,
    first_reason: Option<String>,
}

impl Counts {
    fn add(&mut self, instance: Uid, sent: Sent) {
        let reason = match sent {
            Ok((status, comment)) => match status.category() {
                Category::Success => {
                    self.completed += 1;
                    return;
                }
                Category::Warning => {
                    self.warning += 1;
                    return;
                }
                _ => format!("{status} {}", comment.unwrap_or_default()),
            },
            Err(error) => error.context().to_owned(),
        };
        tracing::warn!(%instance, reason, "a sub-operation failed");
        self.failed += 1;
        self.first_reason.get_or_insert(reason);
        let length = self.failed_list_length + instance.as_str().len() + 1;
        if length <= FAILED_LIST_LENGTH_MAX_BYTES {
            self.failed_list_length = length;
            self.failed_uids.push(instance);
        }
    }

    /// Instances that were there when they were counted and not when they were to be sent.
    fn add_missing(&mut self) {
        let missing = self.total.saturating_sub(self.done());
        if missing > 0 {
            self.failed += missing;
            self.first_reason
                .get_or_insert_with(|| "instances were removed, or the index failed, meanwhile".to_owned());
        }
    }

    fn done(&self) -> usize {
        self.completed + self.failed + self.warning
    }

    /// The counts are 16 bits wide (PS3.7 E.1); beyond that they stay at the greatest.
    fn shown(&self, remaining: bool) -> SubOperations {
        let clamp = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        SubOperations {
            remaining: remaining.then(|| clamp(self.total.saturating_sub(self.done()))),
            completed: clamp(self.completed),
            failed: clamp(self.failed),
            warning: clamp(self.warning),
        }
    }

    fn last(self, operation: &Operation, cancelled: bool) -> Reply {
        let status = if cancelled {
            Status::CANCEL
        } else if self.failed == 0 && self.warning == 0 {
            Status::SUCCESS
        } else if self.failed == self.done() {
            NONE_PERFORMED
        } else {
            Status::SUBOPERATIONS_WARNING
        };
        let mut reply = Reply::new(status).with_sub_operations(self.shown(cancelled));
        reply.error_comment = self.first_reason;
        if !self.failed_uids.is_empty() {
            let list: Vec<&str> = self.failed_uids.iter().map(Uid::as_str).collect();
            let mut data_set = DataSet::new();
            data_set.put_text(tags::FAILED_SOP_INSTANCE_UID_LIST, VR::UI, list.join("\\"));
            let syntax = &operation.context().transfer_syntax;
            match encode::encode(&data_set, syntax, &CharacterSet::utf8()) {
                Ok(bytes) => reply.data_set = Some(bytes.into()),
                Err(error) => tracing::error!(%error, "a list of failed instances can't be written"),
            }
        }
        reply
    }
}

/// Instances of the engine, given out as far as `source` may have them.
struct Kept {
    pacs: Pacs,
    /// How long a turn to decode is waited for.
    #[cfg(feature = "pixel")]
    patience: Duration,
    source: Source,
    permits: Arc<Semaphore>,
    /// Instances are opened, so that it pays to begin the next: not before an association stands, and not
    /// while what was begun fails without being opened.
    opening: AtomicBool,
}

impl Kept {
    fn new(services: &PacsServices, source: Source) -> Self {
        Self {
            pacs: services.pacs.clone(),
            #[cfg(feature = "pixel")]
            patience: services.options.timeouts.idle,
            source,
            permits: Arc::clone(&services.read_ahead),
            opening: AtomicBool::new(false),
        }
    }

    /// The stored data set; its beginning is read while there are permits.
    async fn begin(&self, record: &InstanceRecord) -> Result<Pieces> {
        let pieces = self.pacs.read_data_set(record);
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => read_ahead(pieces, permit).await,
            Err(_) => Ok(pieces),
        }
    }

    /// The stored data set, if `source` may have the instance.
    async fn stored(&self, item: &Item) -> Result<Pieces> {
        self.pacs.admit_retrieve(&self.source, &item.record).await?;
        self.opening.store(true, Ordering::Relaxed);
        match item.take() {
            Some(begun) => begun,
            None => self.begin(&item.record).await,
        }
    }
}

impl Supply<Item> for Kept {
    fn outgoing(&self, Item { record, .. }: &Item) -> Outgoing {
        Outgoing {
            sop_class: record.sop_class,
            sop_instance: record.key.instance,
            transfer_syntax: record.transfer_syntax,
        }
    }

    fn open<'a>(&'a self, item: &'a Item) -> BoxFuture<'a, Result<Pieces>> {
        async move { Ok(Pacs::outgoing(&item.record, self.stored(item).await?)) }.boxed()
    }

    #[cfg(feature = "pixel")]
    fn convert<'a>(&'a self, item: &'a Item, accepted: &'a [Uid]) -> BoxFuture<'a, Result<(Uid, Pieces)>> {
        async move {
            let stored = self.stored(item);
            transcoded(&self.pacs, &item.record, stored, accepted, self.patience).await
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pacs_core::{Error, ErrorKind};

    #[test]
    fn the_list_of_what_failed_stays_within_what_an_explicit_vr_holds_and_the_count_goes_on() {
        let mut counts = Counts::default();
        for number in 10_000..13_000 {
            let instance = Uid::parse(&format!("1.2.826.0.1.3680043.10.1.{number}")).unwrap();
            counts.add(instance, Err(Error::new(ErrorKind::Io, "test", "as asked")));
        }
        assert_eq!(counts.failed, 3_000);
        let mut data_set = DataSet::new();
        let list: Vec<&str> = counts.failed_uids.iter().map(Uid::as_str).collect();
        data_set.put_text(tags::FAILED_SOP_INSTANCE_UID_LIST, VR::UI, list.join("\\"));
        let syntax = "1.2.840.10008.1.2.1";
        let bytes = encode::encode(&data_set, syntax, &CharacterSet::utf8()).unwrap();
        assert_eq!(&bytes[4..6], b"UI");
        assert!(list.len() > 2_000);
    }
}
