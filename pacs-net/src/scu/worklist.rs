//! Modality Worklist (PS3.4 annex K) as SCU.

use dicom_dictionary_std::uids;
use futures::stream::BoxStream;
use pacs_core::{DataSet, Result, Uid};

use super::query::matches_until;
use super::{NATIVE, Remote};
use crate::dimse::Client;
use crate::transport::Proposal;

const WORKLIST: Uid = Uid::constant(uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND);

/// A proposal for queries of a worklist.
pub fn worklist_proposal(remote: &Remote) -> Proposal {
    remote.proposal().with_context(WORKLIST, NATIVE.iter())
}

/// C-FIND of a worklist (PS3.4 K.4.1): yields the item of each match with what was asked for, in normal form. Keys of
/// the scheduled step stand in the one item of Scheduled Procedure Step Sequence (0040,0100).
///
/// # Errors
/// As [`Client::find`]; as an item of the stream, when the peer answers failure.
pub async fn find_worklist(
    client: &Client,
    identifier: &DataSet,
) -> Result<BoxStream<'static, Result<DataSet>>> {
    find_worklist_until(client, identifier, std::future::pending()).await
}

/// The same. When `cancelled` is ready, the peer is asked to end it (C-CANCEL); the stream then ends with `Cancelled`,
/// unless the peer was done already.
///
/// # Errors
/// As [`find_worklist`].
pub async fn find_worklist_until(
    client: &Client,
    identifier: &DataSet,
    cancelled: impl Future<Output = ()> + Send + 'static,
) -> Result<BoxStream<'static, Result<DataSet>>> {
    let context = client.context_for(&WORKLIST)?.clone();
    matches_until(client, context, identifier, cancelled).await
}
