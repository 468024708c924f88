//! Unified Procedure Step (PS3.4 annex CC) as SCU: what is asked of steps ([`create`], [`change_state`], [`subscribe`],
//! ...), and the events that come back ([`Events`]).
//!
//! A status that says no is no error: it is in the [`Answer`].

use std::sync::Arc;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::{encode, scan};
use pacs_core::workflow::ups::{
    Event, EventType, FILTERED_GLOBAL_SUBSCRIPTION, GLOBAL_SUBSCRIPTION, State, Subscription, UPS_PUSH,
};
use pacs_core::{AeTitle, DataSet, Error, ErrorKind, Result, Uid};

use super::NATIVE;
use super::query::matches_until;
use crate::dimse::{
    Client, CommandField, CommandSet, NO_DATA_SET, Operation, Reply, Response, Services, Status, whole,
};
use crate::transport::{PresentationContext, Proposal, Sender};
use crate::ul::negotiate::{AcceptPolicy, ContextRule};

const WATCH: Uid = Uid::constant(uids::UNIFIED_PROCEDURE_STEP_WATCH);
const PULL: Uid = Uid::constant(uids::UNIFIED_PROCEDURE_STEP_PULL);
const EVENT: Uid = Uid::constant(uids::UNIFIED_PROCEDURE_STEP_EVENT);
const QUERY: Uid = Uid::constant(uids::UNIFIED_PROCEDURE_STEP_QUERY);

/// No such event type (PS3.7 C.5.14).
const NO_SUCH_EVENT_TYPE: Status = Status(0x0113);

/// Proposes what all that can be asked of steps needs.
#[must_use]
pub fn asking(proposal: Proposal) -> Proposal {
    [UPS_PUSH, PULL, WATCH, QUERY]
        .into_iter()
        .fold(proposal, |proposal, class| {
            proposal.with_context(class, NATIVE.iter())
        })
}

/// What a peer answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status: of the service class where it begins with B3 or C3.
    pub status: Status,
    /// Why, where the peer says so.
    pub comment: Option<String>,
    /// The attributes at fault.
    pub offending_elements: Vec<Tag>,
    /// The step; for a new one its UID.
    pub sop_instance: Option<Uid>,
    /// The attributes that came.
    pub attributes: Option<DataSet>,
}

/// Creates a step (N-CREATE); the peer gives it a UID where there is none.
///
/// # Errors
/// As [`Client::request`]; `Unsupported` when the peer did not accept the SOP class.
pub async fn create(client: &Client, sop_instance: Option<&Uid>, attributes: &DataSet) -> Result<Answer> {
    let mut command = CommandSet::request(CommandField::N_CREATE).with_affected_sop_class(&UPS_PUSH);
    if let Some(uid) = sop_instance {
        command = command.with_affected_sop_instance(uid);
    }
    let context = context(client, &[UPS_PUSH])?;
    ask(client, context, command, Some(attributes)).await
}

/// Sets attributes (N-SET). Of a step that is IN PROGRESS its Transaction UID must be given.
///
/// # Errors
/// As [`create`].
pub async fn set(
    client: &Client,
    sop_instance: &Uid,
    transaction: Option<&Uid>,
    attributes: &DataSet,
) -> Result<Answer> {
    let mut attributes = attributes.clone();
    if let Some(transaction) = transaction {
        attributes.put_uid(tags::TRANSACTION_UID, transaction);
    }
    let command = requested(CommandField::N_SET, sop_instance);
    ask(client, context(client, &[PULL])?, command, Some(&attributes)).await
}

/// The attributes of a step (N-GET); all when `wanted` is empty.
///
/// # Errors
/// As [`create`].
pub async fn get(client: &Client, sop_instance: &Uid, wanted: &[Tag]) -> Result<Answer> {
    let mut command = requested(CommandField::N_GET, sop_instance);
    if !wanted.is_empty() {
        command = command.with_attribute_identifiers(wanted);
    }
    let context = context(client, &[PULL, WATCH, UPS_PUSH])?;
    ask(client, context, command, None).await
}

/// Changes the state (N-ACTION 1): claims a step with a new Transaction UID, or brings one to its end with the same.
///
/// # Errors
/// As [`create`].
pub async fn change_state(
    client: &Client,
    sop_instance: &Uid,
    state: State,
    transaction: &Uid,
) -> Result<Answer> {
    let mut information = DataSet::new();
    information.put_uid(tags::TRANSACTION_UID, transaction);
    information.put_text(tags::PROCEDURE_STEP_STATE, VR::CS, state.as_str());
    act(client, 1, &[PULL], sop_instance, &information).await
}

/// Asks that a step be canceled (N-ACTION 2).
///
/// # Errors
/// As [`create`].
pub async fn request_cancel(client: &Client, sop_instance: &Uid, information: &DataSet) -> Result<Answer> {
    act(client, 2, &[UPS_PUSH, WATCH], sop_instance, information).await
}

/// Subscribes an AE, which the peer must know (N-ACTION 3).
///
/// # Errors
/// As [`create`].
pub async fn subscribe(client: &Client, receiver: &AeTitle, to: &Subscription, lock: bool) -> Result<Answer> {
    let (uid, mut information) = match to {
        Subscription::Step(uid) => (*uid, DataSet::new()),
        Subscription::Global => (GLOBAL_SUBSCRIPTION, DataSet::new()),
        Subscription::Filtered(keys) => (FILTERED_GLOBAL_SUBSCRIPTION, keys.clone()),
    };
    information.put_text(tags::RECEIVING_AE, VR::AE, receiver.as_str());
    information.put_text(tags::DELETION_LOCK, VR::LO, if lock { "TRUE" } else { "FALSE" });
    act(client, 3, &[WATCH], &uid, &information).await
}

/// Ends a subscription to a step, or by one of the well-known UIDs a global one (N-ACTION 4).
///
/// # Errors
/// As [`create`].
pub async fn unsubscribe(client: &Client, receiver: &AeTitle, sop_instance: &Uid) -> Result<Answer> {
    act(client, 4, &[WATCH], sop_instance, &received_by(receiver)).await
}

/// Ends a global subscription for steps that are still to come (N-ACTION 5).
///
/// # Errors
/// As [`create`].
pub async fn suspend(client: &Client, receiver: &AeTitle, sop_instance: &Uid) -> Result<Answer> {
    act(client, 5, &[WATCH], sop_instance, &received_by(receiver)).await
}

/// Finds steps (C-FIND): yields the identifier of each match, in normal form.
///
/// # Errors
/// As [`create`]; as an item of the stream, when the peer answers failure.
pub async fn find(client: &Client, identifier: &DataSet) -> Result<BoxStream<'static, Result<DataSet>>> {
    let context = context(client, &[QUERY, PULL, WATCH])?.clone();
    matches_until(client, context, identifier, std::future::pending()).await
}

fn received_by(receiver: &AeTitle) -> DataSet {
    let mut information = DataSet::new();
    information.put_text(tags::RECEIVING_AE, VR::AE, receiver.as_str());
    information
}

fn requested(field: CommandField, sop_instance: &Uid) -> CommandSet {
    CommandSet::request(field)
        .with_requested_sop_class(&UPS_PUSH)
        .with_requested_sop_instance(sop_instance)
}

async fn act(
    client: &Client,
    action: u16,
    classes: &[Uid],
    sop_instance: &Uid,
    information: &DataSet,
) -> Result<Answer> {
    let command = requested(CommandField::N_ACTION, sop_instance).with_action_type_id(action);
    ask(client, context(client, classes)?, command, Some(information)).await
}

/// The context of the first of these SOP classes that the peer accepted.
fn context<'a>(client: &'a Client, classes: &[Uid]) -> Result<&'a PresentationContext> {
    let accepted = |class| client.negotiated().context_for(class);
    classes.iter().find_map(accepted).ok_or_else(Sender::no_context)
}

async fn ask(
    client: &Client,
    context: &PresentationContext,
    command: CommandSet,
    attributes: Option<&DataSet>,
) -> Result<Answer> {
    let data_set = match attributes.filter(|attributes| !attributes.is_empty()) {
        None => NO_DATA_SET,
        Some(attributes) => {
            let bytes = encode::encode(attributes, &context.transfer_syntax, &CharacterSet::utf8())?;
            whole(bytes.into())
        }
    };
    let responses = client.request(context.id, command, data_set).await?;
    let Response { command, data_set } = responses.single().await?;
    Ok(Answer {
        status: command.status(),
        comment: command.error_comment().map(str::to_owned),
        offending_elements: command.offending_elements(),
        sop_instance: command.affected_sop_instance()?,
        attributes: data_set
            .map(|bytes| scan::parse(&bytes, &context.transfer_syntax))
            .transpose()?,
    })
}

/// Adds to a policy that events of steps are taken, whether their sender asks for its role or not.
#[must_use]
pub fn receiving(policy: AcceptPolicy) -> AcceptPolicy {
    policy.with_context(EVENT, ContextRule::preferred(NATIVE).with_requestor_scp())
}

/// Takes N-EVENT-REPORT (PS3.4 CC.2.4) on an association that its policy allows by [`receiving`].
pub struct Events {
    taken: Arc<dyn Fn(Event) -> BoxFuture<'static, Result<()>> + Send + Sync>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Each event is answered with success when the future of `taken` is ready, or with the error.
    pub fn new(taken: impl Fn(Event) -> BoxFuture<'static, Result<()>> + Send + Sync + 'static) -> Self {
        Self {
            taken: Arc::new(taken),
        }
    }
}

impl Services for Events {
    fn n_event_report(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let id = operation.command().event_type_id();
            let known = EventType::ALL.into_iter().find(|kind| Some(kind.id()) == id);
            let Some(event_type) = known else {
                return Ok(Reply::new(NO_SUCH_EVENT_TYPE));
            };
            if operation.context().abstract_syntax != EVENT {
                let why = "the presentation context is not of UPS Event";
                return Err(Error::new(ErrorKind::Unsupported, "ups.event", why));
            }
            let sop_instance = operation.command().sop_instance()?;
            let attributes = match operation.command().has_data_set() {
                true => {
                    let bytes = operation.gather_data_set().await?;
                    scan::parse(&bytes, &operation.context().transfer_syntax)?
                }
                false => DataSet::new(),
            };
            (self.taken)(Event {
                sop_instance,
                event_type,
                attributes,
            })
            .await?;
            Ok(Reply::success())
        })
    }
}
