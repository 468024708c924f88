//! Modality Performed Procedure Step and its retrieval (PS3.4 F.7, F.8) as SCP.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use dicom_core::Tag;
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::{encode, scan};
use pacs_core::workflow::{PerformedChange, PerformedSteps};
use pacs_core::{DataSet, Error, ErrorKind, Result, Uid};

use crate::dimse::{CommandField, Operation, Reply, Status};

/// Invalid Attribute Value (PS3.7 C.5.11).
const INVALID_ATTRIBUTE_VALUE: Status = Status(0x0106);

/// Is told what modalities say they do, once it is kept. It may not block.
#[derive(Clone)]
pub struct PerformedHook(pub Arc<dyn Fn(&PerformedChange) + Send + Sync>);

impl fmt::Debug for PerformedHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PerformedHook")
    }
}

/// Answers an N-CREATE (PS3.4 F.7.2.1) and tells `hook`. For servers that are made of parts;
/// [`PacsServices`](super::PacsServices) does it from its engine.
///
/// # Errors
/// What the requester is answered.
pub async fn create_performed(
    steps: &PerformedSteps,
    hook: Option<&PerformedHook>,
    mut operation: Operation,
) -> Result<Reply> {
    let sop_instance = sop_instance(&operation)?;
    let attributes = attributes(&mut operation).await?;
    let created = steps.create(&sop_instance, attributes.clone()).await;
    answered(created, hook, &operation, &attributes)
}

/// Answers an N-SET (F.7.2.2) and tells `hook`.
///
/// # Errors
/// What the requester is answered.
pub async fn set_performed(
    steps: &PerformedSteps,
    hook: Option<&PerformedHook>,
    mut operation: Operation,
) -> Result<Reply> {
    let sop_instance = sop_instance(&operation)?;
    let modifications = attributes(&mut operation).await?;
    let set = steps.set(&sop_instance, modifications.clone()).await;
    answered(set, hook, &operation, &modifications)
}

/// Answers an N-GET (F.8.2.1): the attributes that Attribute Identifier List names, or all where it is empty. Status
/// 0001H when some of them are not known.
///
/// # Errors
/// What the requester is answered.
pub async fn get_performed(steps: &PerformedSteps, operation: Operation) -> Result<Reply> {
    let sop_instance = sop_instance(&operation)?;
    let Some(step) = steps.get(&sop_instance).await? else {
        let why = "there is no step with this SOP Instance UID";
        return Err(Error::new(ErrorKind::NotFound, "performed.get", why));
    };
    let asked = operation.command().attribute_identifiers();
    let mut attributes = step.attributes;
    let mut status = Status::SUCCESS;
    if !asked.is_empty() {
        attributes.retain(|element| asked.contains(&element.tag));
        if asked.iter().any(|tag| !attributes.contains(*tag)) {
            // Requested optional attributes are not supported (PS3.4 F.8.2.1.4).
            status = Status(0x0001);
        }
    }
    let reply = Reply::new(status);
    match attributes.is_empty() {
        true => Ok(reply),
        false => Ok(reply.with_data_set(encoded(&attributes, &operation)?)),
    }
}

/// The step that is meant. Its UID is the requester's to give (F.7.2.1.2).
fn sop_instance(operation: &Operation) -> Result<Uid> {
    // Invalid SOP Instance (PS3.7 C.5.12).
    operation
        .command()
        .sop_instance()
        .map_err(|error| error.with_status(0x0117))
}

async fn attributes(operation: &mut Operation) -> Result<DataSet> {
    let bytes = operation.gather_data_set().await?;
    scan::parse(&bytes, &operation.context().transfer_syntax)
}

fn encoded(set: &DataSet, operation: &Operation) -> Result<Bytes> {
    let transfer_syntax = &operation.context().transfer_syntax;
    Ok(encode::encode(set, transfer_syntax, &CharacterSet::utf8())?.into())
}

/// Success; or the status of the error, with the values at fault where it is that they are invalid (F.7.2.1.3: "with an
/// Attribute List").
fn answered(
    done: Result<PerformedChange>,
    hook: Option<&PerformedHook>,
    operation: &Operation,
    given: &DataSet,
) -> Result<Reply> {
    let error = match done {
        Ok(change) => {
            if let Some(hook) = hook {
                (hook.0)(&change);
            }
            return Ok(Reply::success());
        }
        Err(error) => error,
    };
    let field: CommandField = operation.command().command_field();
    let mut reply = Reply::from_error(field, &error);
    if reply.status == INVALID_ATTRIBUTE_VALUE {
        let at_fault: &[Tag] = error.tags();
        let mut values = given.clone();
        values.retain(|element| at_fault.contains(&element.tag));
        if !values.is_empty() {
            reply = reply.with_data_set(encoded(&values, operation)?);
        }
    }
    Ok(reply)
}
