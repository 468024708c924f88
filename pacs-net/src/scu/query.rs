//! Query and retrieve as SCU (PS3.4 annex C).

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::{encode, scan};
use pacs_core::query::Model;
use pacs_core::{AeTitle, DataSet, Error, ErrorKind, Level, Result, Uid};

use super::{NATIVE, Remote};
use crate::dimse::{Client, CommandField, Response, Status, SubOperations};
use crate::transport::{PresentationContext, Proposal};

/// The SOP class of an operation in an information model (PS3.4 C.6).
pub(crate) fn sop_class(model: Model, operation: CommandField) -> Option<Uid> {
    let uid = match (model, operation) {
        (Model::PatientRoot, CommandField::C_FIND) => {
            uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
        }
        (Model::PatientRoot, CommandField::C_MOVE) => {
            uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE
        }
        (Model::PatientRoot, CommandField::C_GET) => uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET,
        (Model::StudyRoot, CommandField::C_FIND) => uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
        (Model::StudyRoot, CommandField::C_MOVE) => uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE,
        (Model::StudyRoot, CommandField::C_GET) => uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET,
        _ => return None,
    };
    Some(Uid::constant(uid))
}

/// A proposal for C-FIND, C-MOVE or C-GET in one model. Relational queries are asked for.
pub fn query_proposal(remote: &Remote, model: Model, operation: CommandField) -> Proposal {
    let Some(sop_class) = sop_class(model, operation) else {
        return remote.proposal();
    };
    remote
        .proposal()
        .with_context(sop_class, NATIVE.iter())
        .with_extended(sop_class, Bytes::from_static(&[1]))
}

/// An identifier: Query/Retrieve Level and `keys`.
pub fn identifier(level: Level, keys: &DataSet) -> DataSet {
    let mut identifier = keys.clone();
    identifier.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, level.as_str());
    identifier
}

fn context(client: &Client, model: Model, operation: CommandField) -> Result<&PresentationContext> {
    let sop_class = sop_class(model, operation).ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            "query.request",
            "no query or retrieve operation",
        )
    })?;
    client.context_for(&sop_class)
}

/// Identifiers go out in UTF-8 where they are not plain ASCII (PS3.3 C.12.1.1.2).
pub(super) fn encoded(context: &PresentationContext, identifier: &DataSet) -> Result<Bytes> {
    Ok(encode::encode(identifier, &context.transfer_syntax, &CharacterSet::utf8())?.into())
}

/// C-FIND (PS3.4 C.4.1): yields the identifier of each match, in normal form.
///
/// # Errors
/// As [`Client::find`]; as an item of the stream, when the peer answers failure.
pub async fn find(
    client: &Client,
    model: Model,
    identifier: &DataSet,
) -> Result<BoxStream<'static, Result<DataSet>>> {
    find_until(client, model, identifier, std::future::pending()).await
}

/// The same. When `cancelled` is ready, the peer is asked to end it (C-CANCEL); the stream then ends with `Cancelled`,
/// unless the peer was done already.
///
/// # Errors
/// As [`find`].
pub async fn find_until(
    client: &Client,
    model: Model,
    identifier: &DataSet,
    cancelled: impl Future<Output = ()> + Send + 'static,
) -> Result<BoxStream<'static, Result<DataSet>>> {
    let context = context(client, model, CommandField::C_FIND)?.clone();
    matches_until(client, context, identifier, cancelled).await
}

/// C-FIND on a context: yields the identifier of each match.
pub(super) async fn matches_until(
    client: &Client,
    context: PresentationContext,
    identifier: &DataSet,
    cancelled: impl Future<Output = ()> + Send + 'static,
) -> Result<BoxStream<'static, Result<DataSet>>> {
    let responses = client.find(&context, encoded(&context, identifier)?).await?;
    let matches = responses.cancelled_by(cancelled).try_filter_map(move |response| {
        let transfer_syntax = context.transfer_syntax;
        async move {
            match response.data_set {
                Some(data_set) if response.command.status().is_pending() => {
                    scan::parse(&data_set, &transfer_syntax).map(Some)
                }
                _ if response.status() == Status::SUCCESS || response.status().is_pending() => Ok(None),
                _ => Err(failed("query.find", &response)),
            }
        }
    });
    Ok(matches.boxed())
}

pub(super) fn failed(operation: &'static str, response: &Response) -> Error {
    let (status, comment) = (response.status(), response.command.error_comment());
    let kind = if status == Status::CANCEL {
        ErrorKind::Cancelled
    } else {
        ErrorKind::Refused
    };
    Error::new(
        kind,
        operation,
        format!("the peer answered {status}: {}", comment.unwrap_or("no comment")),
    )
}

/// How far a C-MOVE or C-GET has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Pending, or the final status.
    pub status: Status,
    /// Counts of sub-operations.
    pub counts: SubOperations,
    /// Why, where the peer says so.
    pub comment: Option<String>,
    /// Failed SOP Instance UID List (0008,0058) of the final response.
    pub failed: Vec<String>,
}

fn progress(
    responses: BoxStream<'static, Result<Response>>,
    transfer_syntax: Uid,
) -> BoxStream<'static, Result<Progress>> {
    responses
        .map_ok(move |response| {
            let list = response
                .data_set
                .as_deref()
                .map(|bytes| scan::parse(bytes, &transfer_syntax));
            let failed = match &list {
                Some(Ok(list)) => list
                    .strings(tags::FAILED_SOP_INSTANCE_UID_LIST)
                    .map(str::to_owned)
                    .collect(),
                _ => Vec::new(),
            };
            Progress {
                status: response.status(),
                counts: response.command.sub_operations(),
                comment: response.command.error_comment().map(str::to_owned),
                failed,
            }
        })
        .boxed()
}

/// C-MOVE (PS3.4 C.4.2) to `destination`.
///
/// # Errors
/// As [`Client::request`]. A failure status is no error: it is the last item of the stream.
pub async fn move_to(
    client: &Client,
    model: Model,
    identifier: &DataSet,
    destination: &AeTitle,
) -> Result<BoxStream<'static, Result<Progress>>> {
    move_until(client, model, identifier, destination, std::future::pending()).await
}

/// The same. When `cancelled` is ready, the peer is asked to end it (C-CANCEL).
///
/// # Errors
/// As [`move_to`].
pub async fn move_until(
    client: &Client,
    model: Model,
    identifier: &DataSet,
    destination: &AeTitle,
    cancelled: impl Future<Output = ()> + Send + 'static,
) -> Result<BoxStream<'static, Result<Progress>>> {
    let context = context(client, model, CommandField::C_MOVE)?.clone();
    let responses = client
        .r#move(&context, destination, encoded(&context, identifier)?)
        .await?;
    Ok(progress(
        responses.cancelled_by(cancelled),
        context.transfer_syntax,
    ))
}

/// C-GET (PS3.4 C.4.3). The instances come to the services that `client` was started with.
///
/// # Errors
/// As [`Client::get`]. A failure status is no error: it is the last item of the stream.
pub async fn retrieve(
    client: &Client,
    model: Model,
    identifier: &DataSet,
) -> Result<BoxStream<'static, Result<Progress>>> {
    retrieve_until(client, model, identifier, std::future::pending()).await
}

/// The same. When `cancelled` is ready, the peer is asked to end it (C-CANCEL).
///
/// # Errors
/// As [`retrieve`].
pub async fn retrieve_until(
    client: &Client,
    model: Model,
    identifier: &DataSet,
    cancelled: impl Future<Output = ()> + Send + 'static,
) -> Result<BoxStream<'static, Result<Progress>>> {
    let context = context(client, model, CommandField::C_GET)?.clone();
    let responses = client.get(&context, encoded(&context, identifier)?).await?;
    Ok(progress(
        responses.cancelled_by(cancelled),
        context.transfer_syntax,
    ))
}
