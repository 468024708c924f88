//! Unified Procedure Step (PS3.4 annex CC) as SCP: Push, Watch, Pull and Query here, Event in `report`.
//!
//! A step is always an instance of the Push SOP class; the class that was negotiated says what may be done with it
//! (CC.3.1).

mod report;

use bytes::Bytes;
use dicom_dictionary_std::{tags, uids};
use pacs_core::audit::Action;
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::{encode, scan};
use pacs_core::query::Keys;
use pacs_core::workflow::ups::{Outcome, Refusal, State, Subscription, UPS_PUSH, Ups, Warning};
use pacs_core::{AeTitle, DataSet, Error, Result, Uid};

pub(super) use report::{expire, report};

use super::query::{answer_each, asked, identifier, negotiated_options};
use super::{PacsServices, source};
use crate::audited;
use crate::dimse::{Operation, Reply, Status};
use crate::scu::NATIVE;
use crate::ul::negotiate::{AcceptPolicy, ContextRule};

const WATCH: Uid = Uid::constant(uids::UNIFIED_PROCEDURE_STEP_WATCH);
const PULL: Uid = Uid::constant(uids::UNIFIED_PROCEDURE_STEP_PULL);
const QUERY: Uid = Uid::constant(uids::UNIFIED_PROCEDURE_STEP_QUERY);

/// No such action (PS3.7 C.5.13).
const NO_SUCH_ACTION: Status = Status(0x0123);
/// Class-instance conflict (PS3.7 C.5.5).
const CLASS_INSTANCE_CONFLICT: Status = Status(0x0119);

/// What is called when nobody says who asks.
const NOBODY: &str = "ANONYMOUS";

/// Whether this is a SOP class of the service that peers may be SCU of here.
pub(super) fn is_class(abstract_syntax: &Uid) -> bool {
    [UPS_PUSH, WATCH, PULL, QUERY].contains(abstract_syntax)
}

/// Accepts the service's SOP classes. Where C-FIND is, `find` is what is negotiated beyond the base.
pub(super) fn offered(mut policy: AcceptPolicy, find: &[u8]) -> AcceptPolicy {
    for class in [UPS_PUSH, WATCH, PULL, QUERY] {
        policy = policy.with_context(class, ContextRule::preferred(NATIVE));
        if class != UPS_PUSH {
            policy.extended.insert(class, find.to_vec());
        }
    }
    policy
}

/// N-CREATE.
pub(super) async fn create(services: &PacsServices, mut operation: Operation) -> Result<Reply> {
    if let Some(reply) = out_of_place(&operation, &[UPS_PUSH]) {
        return Ok(reply);
    }
    let uid = operation.command().affected_sop_instance()?;
    let attributes = attributes(&mut operation).await?;
    let created = ups_of(services)?.create(uid, attributes).await?;
    let asking = source(&operation);
    audited::step(&services.pacs, &asking, Action::Create, &created.sop_instance).await?;
    let mut reply = answered(&created);
    reply.affected_sop_instance = Some(created.sop_instance);
    Ok(reply)
}

/// N-SET.
pub(super) async fn set(services: &PacsServices, mut operation: Operation) -> Result<Reply> {
    if let Some(reply) = out_of_place(&operation, &[PULL]) {
        return Ok(reply);
    }
    let uid = operation.command().sop_instance()?;
    let attributes = attributes(&mut operation).await?;
    let set = ups_of(services)?.set(&uid, None, attributes).await?;
    audited::step(&services.pacs, &source(&operation), Action::Update, &uid).await?;
    Ok(answered(&set))
}

/// N-GET.
pub(super) async fn get(services: &PacsServices, operation: Operation) -> Result<Reply> {
    if let Some(reply) = out_of_place(&operation, &[UPS_PUSH, PULL, WATCH]) {
        return Ok(reply);
    }
    let uid = operation.command().sop_instance()?;
    let mut step = ups_of(services)?.get(&uid).await?;
    audited::procedure(&services.pacs, &source(&operation), Action::Read, &step).await?;
    let wanted = operation.command().attribute_identifiers();
    let mut status = Status::SUCCESS;
    if !wanted.is_empty() {
        step.retain(|element| wanted.contains(&element.tag));
        if wanted.iter().any(|tag| !step.contains(*tag)) {
            status = Status(Warning::AttributesNotSupported.status());
        }
    }
    let syntax = &operation.context().transfer_syntax;
    let bytes = encode::encode(&step, syntax, &CharacterSet::utf8())?;
    Ok(Reply::new(status).with_data_set(Bytes::from(bytes)))
}

/// N-ACTION: change the state, request cancellation, subscribe, unsubscribe, suspend.
pub(super) async fn action(services: &PacsServices, mut operation: Operation) -> Result<Reply> {
    let action = operation.command().action_type_id();
    let classes: &[Uid] = match action {
        Some(1) => &[PULL],
        Some(2) => &[UPS_PUSH, WATCH],
        Some(3..=5) => &[WATCH],
        _ => &[],
    };
    if !classes.contains(&operation.context().abstract_syntax) {
        return Ok(Reply::new(NO_SUCH_ACTION).with_error_comment("no action of this SOP class"));
    }
    if let Some(reply) = out_of_place(&operation, classes) {
        return Ok(reply);
    }
    let uid = operation.command().sop_instance()?;
    let information = match operation.command().has_data_set() {
        true => attributes(&mut operation).await?,
        false => DataSet::new(),
    };
    let ups = ups_of(services)?;
    match action {
        Some(1) => {
            let state = state(&information)?;
            let transaction = information.uid(tags::TRANSACTION_UID).ok();
            let changed = ups.change_state(&uid, state, transaction.as_ref()).await?;
            audited::step(&services.pacs, &source(&operation), Action::Update, &uid).await?;
            Ok(answered(&changed))
        }
        Some(2) => {
            let requester = source(&operation).calling_ae;
            let requester = requester.map_or_else(|| AeTitle::parse(NOBODY), Ok)?;
            let asked = ups.request_cancel(&uid, &requester, &information).await?;
            audited::step(&services.pacs, &source(&operation), Action::Update, &uid).await?;
            Ok(answered(&asked))
        }
        Some(3) => {
            let receiver = receiver(&information)?;
            let known = |ae: &AeTitle| {
                services
                    .options
                    .destinations
                    .iter()
                    .any(|one| one.ae_title == *ae)
            };
            if !known(&receiver) {
                return Ok(refused(Refusal::UnknownReceiver).with_offending_element(tags::RECEIVING_AE));
            }
            let lock = information.string(tags::DELETION_LOCK) == Some("TRUE");
            let mut filter = information;
            // Beside these, they are matching keys (CC.2.3.3.1).
            for tag in [
                tags::RECEIVING_AE,
                tags::DELETION_LOCK,
                tags::SPECIFIC_CHARACTER_SET,
            ] {
                filter.remove(tag);
            }
            let to = Subscription::named(uid, filter);
            let subscribed = ups.subscribe(&receiver, &to, lock).await?;
            Ok(answered(&subscribed))
        }
        Some(4) => {
            ups.unsubscribe(&receiver(&information)?, &uid).await?;
            Ok(Reply::success())
        }
        _ => {
            ups.suspend(&receiver(&information)?, &uid).await?;
            Ok(Reply::success())
        }
    }
}

/// C-FIND.
pub(super) async fn find(services: &PacsServices, mut operation: Operation) -> Result<Reply> {
    if let Some(reply) = out_of_place(&operation, &[PULL, WATCH, QUERY]) {
        return Ok(reply);
    }
    let (identifier, charset, bytes) = identifier(&mut operation).await?;
    asked(&services.pacs, &source(&operation), &operation, &bytes).await?;
    let options = negotiated_options(operation.negotiated(), &operation.context().abstract_syntax);
    let matches = ups_of(services)?.find(Keys::new(identifier, options)?);
    answer_each(&operation, matches, Status::PENDING, &charset).await
}

fn ups_of(services: &PacsServices) -> Result<&Ups> {
    services.pacs.ups()
}

/// What answers a request that none of these SOP classes has, or that names an instance of another one.
fn out_of_place(operation: &Operation, classes: &[Uid]) -> Option<Reply> {
    let negotiated = operation.context().abstract_syntax;
    if !classes.contains(&negotiated) {
        let reply = Reply::new(Status::UNRECOGNIZED_OPERATION);
        return Some(reply.with_error_comment("not an operation of this SOP class"));
    }
    match operation.command().sop_class() {
        Ok(class) if class != UPS_PUSH && class != negotiated => {
            let reply = Reply::new(CLASS_INSTANCE_CONFLICT);
            Some(reply.with_error_comment("a UPS is an instance of UPS Push"))
        }
        _ => None,
    }
}

async fn attributes(operation: &mut Operation) -> Result<DataSet> {
    let bytes = operation.gather_data_set().await?;
    scan::parse(&bytes, &operation.context().transfer_syntax)
}

fn answered(outcome: &Outcome) -> Reply {
    match outcome.warning {
        None => Reply::success(),
        Some(warning) => Reply::new(Status(warning.status())).with_error_comment(warning.text()),
    }
}

fn refused(refusal: Refusal) -> Reply {
    Reply::new(Status(refusal.status())).with_error_comment(refusal.text())
}

fn state(information: &DataSet) -> Result<State> {
    let tag = tags::PROCEDURE_STEP_STATE;
    let text = information.string(tag).ok_or_else(|| missing(tag))?;
    State::parse(text).ok_or_else(|| {
        let why = "no state of a procedure step";
        Error::new(pacs_core::ErrorKind::Invalid, "ups.action", why).with_tag(tag)
    })
}

fn receiver(information: &DataSet) -> Result<AeTitle> {
    let tag = tags::RECEIVING_AE;
    let text = information.string(tag).ok_or_else(|| missing(tag))?;
    AeTitle::parse(text).map_err(|error| error.with_tag(tag))
}

fn missing(tag: pacs_core::Tag) -> Error {
    let why = "an attribute of the action is missing";
    Error::new(pacs_core::ErrorKind::Invalid, "ups.action", why).with_tag(tag)
}
