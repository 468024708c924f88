//! Storage commitment (PS3.4 annex J): what is asked and answered, and asking for it as SCU.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use futures::future::{BoxFuture, FutureExt};
use futures::stream;
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::{encode, scan};
use pacs_core::{AeTitle, DataSet, Error, ErrorKind, Result, Uid};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{NATIVE, Remote};
use crate::dimse::{Client, CommandField, CommandSet, Operation, Reply, Response, Services, Status, serve};
use crate::transport::{Acceptor, Connection, PresentationContext, accept};
use crate::ul::negotiate::{AcceptPolicy, ContextRule};

/// Storage Commitment Push Model.
pub(crate) const SOP_CLASS: Uid = Uid::constant(uids::STORAGE_COMMITMENT_PUSH_MODEL);
/// Its one well-known instance (PS3.4 J.3.5).
pub(crate) const SOP_INSTANCE: Uid = Uid::constant(uids::STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE);

/// Request Storage Commitment (PS3.4 J.3.2.1).
pub(crate) const ACTION_REQUEST: u16 = 1;
/// Storage Commitment Request Successful (PS3.4 J.3.3.1).
pub(crate) const EVENT_SUCCESSFUL: u16 = 1;
/// Storage Commitment Request Complete - Failures Exist.
pub(crate) const EVENT_FAILURES: u16 = 2;

/// Instances of one transaction. With their UIDs at their longest they fit what is gathered of a data set.
pub const COMMITMENT_INSTANCES_MAX: usize = 50_000;

/// Transactions that are waited for at once.
const WAITING_MAX: usize = 1000;

/// Associations at once that a listener for reports serves.
const REPORTERS_MAX: usize = 16;

/// An instance by its SOP class and SOP instance UID (PS3.3 table 10-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// Referenced SOP Class UID (0008,1150).
    pub sop_class: Uid,
    /// Referenced SOP Instance UID (0008,1155).
    pub sop_instance: Uid,
}

impl Reference {
    /// Reads an item of a sequence.
    pub(crate) fn read(item: &DataSet) -> Result<Self> {
        Ok(Self {
            sop_class: item.uid(tags::REFERENCED_SOP_CLASS_UID)?,
            sop_instance: item.uid(tags::REFERENCED_SOP_INSTANCE_UID)?,
        })
    }

    /// An item of a sequence.
    pub(crate) fn item(&self) -> DataSet {
        let mut item = DataSet::new();
        item.put_uid(tags::REFERENCED_SOP_CLASS_UID, &self.sop_class);
        item.put_uid(tags::REFERENCED_SOP_INSTANCE_UID, &self.sop_instance);
        item
    }
}

/// What a provider answers about a transaction (PS3.4 J.3.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commitment {
    /// Transaction UID (0008,1195).
    pub transaction: Uid,
    /// Who keeps what is committed, where that is said: Retrieve AE Title (0008,0054).
    pub retrieve_ae: Option<AeTitle>,
    /// What the provider commits itself to keep.
    pub committed: Vec<Reference>,
    /// What it doesn't, each with its Failure Reason (0008,1197; PS3.3 C.14.1.1).
    pub failed: Vec<(Reference, u16)>,
}

impl Commitment {
    /// Event Type ID (PS3.4 table J.3.3-1).
    pub(crate) fn event_type(&self) -> u16 {
        if self.failed.is_empty() {
            EVENT_SUCCESSFUL
        } else {
            EVENT_FAILURES
        }
    }

    /// The event information.
    pub(crate) fn to_data_set(&self) -> DataSet {
        let mut set = DataSet::new();
        if let Some(title) = &self.retrieve_ae {
            set.put_text(tags::RETRIEVE_AE_TITLE, VR::AE, title.as_str());
        }
        set.put_uid(tags::TRANSACTION_UID, &self.transaction);
        if !self.failed.is_empty() {
            let items = self.failed.iter().map(|(reference, reason)| {
                let mut item = reference.item();
                item.put_u16(tags::FAILURE_REASON, *reason);
                item
            });
            set.put_items(tags::FAILED_SOP_SEQUENCE, items.collect());
        }
        if !self.committed.is_empty() {
            let items = self.committed.iter().map(Reference::item);
            set.put_items(tags::REFERENCED_SOP_SEQUENCE, items.collect());
        }
        set
    }

    /// Reads event information.
    pub(crate) fn from_data_set(set: &DataSet) -> Result<Self> {
        let failed = items(set, tags::FAILED_SOP_SEQUENCE)?.iter().map(|item| {
            // Without a reason it has failed all the same.
            let reason = item.u16(tags::FAILURE_REASON);
            Ok((
                Reference::read(item)?,
                reason.unwrap_or(Status::PROCESSING_FAILURE.0),
            ))
        });
        Ok(Self {
            transaction: set.uid(tags::TRANSACTION_UID)?,
            retrieve_ae: set
                .string(tags::RETRIEVE_AE_TITLE)
                .and_then(|text| AeTitle::parse(text).ok()),
            committed: references(set)?,
            failed: failed.collect::<Result<_>>()?,
        })
    }
}

/// The items of Referenced SOP Sequence (0008,1199).
pub(crate) fn references(set: &DataSet) -> Result<Vec<Reference>> {
    items(set, tags::REFERENCED_SOP_SEQUENCE)?
        .iter()
        .map(Reference::read)
        .collect()
}

fn items(set: &DataSet, tag: Tag) -> Result<&[DataSet]> {
    let items = set.items(tag);
    if items.len() > COMMITMENT_INSTANCES_MAX {
        let why = format!("more than {COMMITMENT_INSTANCES_MAX} instances in one transaction");
        return Err(Error::new(ErrorKind::OutOfResources, "commitment.read", why).with_tag(tag));
    }
    Ok(items)
}

/// Transactions that we wait for, and where their reports arrive: on any association, as
/// [`Services`] of it.
///
/// A report that nobody waits for is refused (0115H), so that its provider knows that it did not arrive. What is
/// waited for is in memory: who wants to know after a restart asks again.
#[derive(Default)]
pub struct Commitments {
    waiting: Mutex<HashMap<Uid, oneshot::Sender<Arrived>>>,
}

/// A report that has come.
struct Arrived {
    report: Commitment,
    /// Its provider has been answered: until then the association must stay, or the report comes again.
    answered: BoxFuture<'static, ()>,
}

impl Commitments {
    /// One that waits for nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Uid, oneshot::Sender<Arrived>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expect(&self, transaction: Uid) -> Result<Expected<'_>> {
        let (sender, report) = oneshot::channel();
        let mut waiting = self.waiting();
        if waiting.len() >= WAITING_MAX {
            let why = "too many storage commitments are waited for";
            return Err(Error::new(ErrorKind::OutOfResources, "commitment.request", why));
        }
        waiting.insert(transaction, sender);
        Ok(Expected {
            commitments: self,
            transaction,
            report,
        })
    }

    /// Hands a report to who waits for it; answers whether somebody does.
    fn arrived(&self, arrived: Arrived) -> bool {
        let waiting = self.waiting().remove(&arrived.report.transaction);
        waiting.is_some_and(|waiting| waiting.send(arrived).is_ok())
    }

    async fn report(&self, mut operation: Operation) -> Result<Reply> {
        let command = operation.command();
        if operation.context().abstract_syntax != SOP_CLASS
            || !command.sop_class().is_ok_and(|sop_class| sop_class == SOP_CLASS)
        {
            return Ok(Reply::new(Status::NO_SUCH_SOP_CLASS));
        }
        if !command
            .sop_instance()
            .is_ok_and(|instance| instance == SOP_INSTANCE)
        {
            return Ok(Reply::new(Status::NO_SUCH_SOP_INSTANCE));
        }
        let event = command.event_type_id();
        if !matches!(event, Some(EVENT_SUCCESSFUL | EVENT_FAILURES)) {
            return Ok(Reply::new(NO_SUCH_EVENT_TYPE));
        }
        let bytes = operation.gather_data_set().await?;
        let set = scan::parse(&bytes, &operation.context().transfer_syntax)?;
        let report = Commitment::from_data_set(&set)?;
        let answered = operation.answered().boxed();
        if self.arrived(Arrived { report, answered }) {
            return Ok(Reply::success());
        }
        let why = "nobody waits for this transaction";
        Err(Error::new(ErrorKind::Invalid, "commitment.report", why).with_tag(tags::TRANSACTION_UID))
    }

    /// Takes reports that come on associations of their own, in which their provider asks to be SCP (PS3.7 D.3.3.4),
    /// until it is dropped. For who has no [`Server`](crate::scp::Server) to take them.
    pub async fn listen(self: Arc<Self>, listener: TcpListener, ae_title: AeTitle) {
        let mut policy = AcceptPolicy::new()
            .with_context(Uid::constant(uids::VERIFICATION), ContextRule::preferred(NATIVE))
            .with_context(SOP_CLASS, context_rule());
        policy.ae_titles = vec![ae_title];
        let acceptor = Arc::new(Acceptor::new(policy));
        let mut associations = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = associations.join_next() => {}
                accepted = listener.accept(), if associations.len() < REPORTERS_MAX => {
                    let Ok((stream, address)) = accepted else {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    };
                    let (this, acceptor) = (Arc::clone(&self), Arc::clone(&acceptor));
                    associations.spawn(async move {
                        let served = async {
                            let association = accept(Connection::tcp(stream), &acceptor).await?;
                            serve(association, this).await
                        };
                        if let Err(error) = served.await {
                            tracing::info!(%address, %error, "an association for a report broke off");
                        }
                    });
                }
            }
        }
    }
}

impl Services for Commitments {
    fn n_event_report(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        self.report(operation).boxed()
    }
}

impl fmt::Debug for Commitments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commitments")
            .field("waiting", &self.waiting().len())
            .finish()
    }
}

/// No such event type (PS3.7 10.1.1.1.8).
const NO_SUCH_EVENT_TYPE: Status = Status(0x0113);

/// How a context is accepted on which users ask and providers report; of those many a one asks for no role.
pub(crate) fn context_rule() -> ContextRule {
    ContextRule::preferred(NATIVE).with_requestor_scp()
}

/// A transaction that is waited for; dropped, it no longer is.
struct Expected<'a> {
    commitments: &'a Commitments,
    transaction: Uid,
    report: oneshot::Receiver<Arrived>,
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.commitments.waiting().remove(&self.transaction);
    }
}

/// How storage commitment is asked for.
#[derive(Clone, Copy, Debug)]
pub struct CommitmentRequest {
    /// How long our association is kept for the report to come on it. A provider that reports on an association of its
    /// own alone may begin only when ours has ended.
    pub hold: Duration,
    /// How long the report is waited for in all.
    pub patience: Duration,
}

impl Default for CommitmentRequest {
    /// 10 seconds, 10 minutes.
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(10),
            patience: Duration::from_secs(600),
        }
    }
}

impl CommitmentRequest {
    /// Asks `remote` to commit itself to keep `instances`, and waits for its report: on the same association, or on
    /// another one where `commitments` takes reports there ([`Commitments::listen`], or a server's
    /// [`ScpOptions::commitments`](crate::scp::ScpOptions::commitments)).
    ///
    /// What the report does not name is not committed.
    ///
    /// # Errors
    /// - `Invalid` without instances, `OutOfResources` with more than [`COMMITMENT_INSTANCES_MAX`], or while too many
    ///   transactions are waited for.
    /// - `Refused` when the peer refuses, with its status; `TimedOut` when no report came.
    /// - `Unsupported` when it doesn't offer the service; as [`Client::request`].
    pub async fn ask(
        &self,
        remote: &Remote,
        instances: &[Reference],
        commitments: &Arc<Commitments>,
    ) -> Result<Commitment> {
        if instances.is_empty() || instances.len() > COMMITMENT_INSTANCES_MAX {
            let kind = match instances.len() {
                0 => ErrorKind::Invalid,
                _ => ErrorKind::OutOfResources,
            };
            let why = format!("1 to {COMMITMENT_INSTANCES_MAX} instances are asked for at once");
            return Err(Error::new(kind, "commitment.request", why));
        }
        let transaction = Uid::random();
        let mut expected = commitments.expect(transaction)?;
        let patience = tokio::time::sleep(self.patience);
        tokio::pin!(patience);
        let proposal = remote.proposal().with_context(SOP_CLASS, NATIVE.iter());
        let client = Client::start(remote.connect(&proposal).await?, Arc::clone(commitments) as _);
        request(&client, transaction, instances).await?;
        let early = tokio::select! {
            report = &mut expected.report => Some(report),
            () = tokio::time::sleep(self.hold.min(self.patience)) => None,
        };
        let early = match early {
            Some(Ok(Arrived { report, answered })) => {
                answered.await;
                Some(Ok(report))
            }
            Some(Err(error)) => Some(Err(error)),
            None => None,
        };
        // Its report is here, or comes on another association.
        if let Err(error) = client.release().await {
            tracing::debug!(%error, "a release was not answered");
        }
        let report = match early {
            Some(report) => report,
            None => tokio::select! {
                arrived = &mut expected.report => arrived.map(|arrived| arrived.report),
                () = &mut patience => {
                    let why = "the peer did not report on the storage commitment in time";
                    return Err(Error::new(ErrorKind::TimedOut, "commitment.request", why));
                }
            },
        };
        // The sender goes with our own entry alone, which is there as long as `expected`.
        report.map_err(|_| Error::new(ErrorKind::Internal, "commitment.request", "nobody waits any more"))
    }
}

async fn request(client: &Client, transaction: Uid, instances: &[Reference]) -> Result<()> {
    let context = client.context_for(&SOP_CLASS)?;
    let mut set = DataSet::new();
    set.put_uid(tags::TRANSACTION_UID, &transaction);
    let items = instances.iter().map(Reference::item).collect();
    set.put_items(tags::REFERENCED_SOP_SEQUENCE, items);
    let command = CommandSet::request(CommandField::N_ACTION)
        .with_requested_sop_class(&SOP_CLASS)
        .with_requested_sop_instance(&SOP_INSTANCE)
        .with_action_type_id(ACTION_REQUEST);
    let response = send(client, context, command, &set).await?;
    if response.status().is_done() {
        Ok(())
    } else {
        Err(super::query::failed("commitment.request", &response))
    }
}

/// Makes a request with a data set, and awaits its response.
pub(crate) async fn send(
    client: &Client,
    context: &PresentationContext,
    command: CommandSet,
    set: &DataSet,
) -> Result<Response> {
    let bytes = encode::encode(set, &context.transfer_syntax, &CharacterSet::utf8())?;
    let data_set = stream::iter([Ok(Bytes::from(bytes))]);
    let responses = client.request(context.id, command, Some(data_set)).await?;
    responses.single().await
}
