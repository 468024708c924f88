//! Modality Performed Procedure Step and its retrieval (PS3.4 F.7, F.8) as SCU.

use bytes::Bytes;
use dicom_core::Tag;
use dicom_dictionary_std::uids;
use futures::stream;
use pacs_core::dataset::scan;
use pacs_core::{DataSet, Result, Uid};

use super::query::encoded;
use super::{NATIVE, Remote};
use crate::dimse::{Client, CommandField, CommandSet, Response};
use crate::transport::{PresentationContext, Proposal};

const PERFORMED: Uid = Uid::constant(uids::MODALITY_PERFORMED_PROCEDURE_STEP);
const RETRIEVE: Uid = Uid::constant(uids::MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE);

/// A proposal for performed procedure steps: to create, set and retrieve them.
pub fn performed_proposal(remote: &Remote) -> Proposal {
    let proposal = remote.proposal().with_context(PERFORMED, NATIVE.iter());
    proposal.with_context(RETRIEVE, NATIVE.iter())
}

/// N-CREATE (PS3.4 F.7.2.1): a step begins. `pacs_core::workflow::performed::begun` has what it must say.
///
/// # Errors
/// As [`Client::request`]. A failure status is no error: it is in the response.
pub async fn create_performed(client: &Client, sop_instance: &Uid, attributes: &DataSet) -> Result<Response> {
    let context = client.context_for(&PERFORMED)?;
    let command = CommandSet::request(CommandField::N_CREATE)
        .with_affected_sop_class(&PERFORMED)
        .with_affected_sop_instance(sop_instance);
    request(client, context, command, Some(attributes)).await
}

/// N-SET (F.7.2.2): a step goes on or ends; sequences are given whole.
///
/// # Errors
/// As [`Client::request`]. A failure status is no error: it is in the response.
pub async fn set_performed(client: &Client, sop_instance: &Uid, modifications: &DataSet) -> Result<Response> {
    let context = client.context_for(&PERFORMED)?;
    let command = CommandSet::request(CommandField::N_SET)
        .with_requested_sop_class(&PERFORMED)
        .with_requested_sop_instance(sop_instance);
    request(client, context, command, Some(modifications)).await
}

/// N-GET (F.8.2.1): the attributes with these tags, or all without any; in normal form, absent where the peer sends
/// none.
///
/// # Errors
/// As [`Client::request`]; `Invalid` when what comes can't be read. A failure status is no error: it is in the response.
pub async fn get_performed(
    client: &Client,
    sop_instance: &Uid,
    attributes: &[Tag],
) -> Result<(Response, Option<DataSet>)> {
    let context = client.context_for(&RETRIEVE)?;
    let mut command = CommandSet::request(CommandField::N_GET)
        .with_requested_sop_class(&RETRIEVE)
        .with_requested_sop_instance(sop_instance);
    if !attributes.is_empty() {
        command = command.with_attribute_identifiers(attributes);
    }
    let response = request(client, context, command, None).await?;
    let read = |bytes: &Bytes| scan::parse(bytes, &context.transfer_syntax);
    let set = response.data_set.as_ref().map(read).transpose()?;
    Ok((response, set))
}

async fn request(
    client: &Client,
    context: &PresentationContext,
    command: CommandSet,
    data_set: Option<&DataSet>,
) -> Result<Response> {
    let bytes = data_set.map(|set| encoded(context, set)).transpose()?;
    let data_set = bytes.map(|bytes| stream::iter([Ok(bytes)]));
    client
        .request(context.id, command, data_set)
        .await?
        .single()
        .await
}
