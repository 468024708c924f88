//! Query (PS3.4 C.4.1) as SCP.

use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use futures::{Stream, StreamExt, TryStreamExt};
use pacs_core::audit::Question;
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::{encode, scan};
use pacs_core::query::{Model, QueryOptions};
use pacs_core::{DataSet, Error, ErrorKind, Pacs, Query, Result, Source, Uid};

use super::{PacsServices, source};
use crate::audited;
use crate::dimse::{CommandField, Operation, Reply, Status};
use crate::scu;
use crate::transport::Negotiated;

/// Answers a match by a pending response, until there are no more or the peer cancels.
pub(super) async fn find(services: &PacsServices, mut operation: Operation) -> Result<Reply> {
    let model = model(&operation, CommandField::C_FIND)?;
    let source = source(&operation);
    let (identifier, charset, bytes) = identifier(&mut operation).await?;
    asked(&services.pacs, &source, &operation, &bytes).await?;
    let options = negotiated_options(operation.negotiated(), &operation.context().abstract_syntax);
    let query = Query::from_identifier(services.pacs.attributes(), model, &identifier, options)?;
    // FF01: a key is not supported for matching or for existence (PS3.4 C.4.1.1.4).
    let pending = if query.unsupported().is_empty() {
        Status::PENDING
    } else {
        Status::PENDING_OPTIONAL_KEYS
    };
    let matches = services.pacs.find(&source, query)?;
    let matches = matches.map_ok(|found| completed(services, &identifier, found));
    answer_each(&operation, matches, pending, &charset).await
}

/// Answers each match by a pending response, until there are no more or the peer cancels.
pub(super) async fn answer_each(
    operation: &Operation,
    matches: impl Stream<Item = Result<DataSet>> + Send,
    pending: Status,
    charset: &CharacterSet,
) -> Result<Reply> {
    let mut matches = std::pin::pin!(matches);
    loop {
        let found = tokio::select! {
            biased;
            () = operation.cancelled() => return Ok(Reply::new(Status::CANCEL)),
            found = matches.next() => found,
        };
        let Some(found) = found.transpose()? else {
            return Ok(Reply::success());
        };
        let bytes = encode::encode(&found, &operation.context().transfer_syntax, charset)?;
        operation
            .respond(Reply::new(pending).with_data_set(Bytes::from(bytes)))
            .await?;
    }
}

/// The information model of the presentation context.
pub(super) fn model(operation: &Operation, field: CommandField) -> Result<Model> {
    let abstract_syntax = operation.context().abstract_syntax;
    [Model::PatientRoot, Model::StudyRoot]
        .into_iter()
        .find(|model| scu::sop_class(*model, field) == Some(abstract_syntax))
        .ok_or_else(|| {
            let why = "the presentation context is of another service";
            Error::new(ErrorKind::Unsupported, "query.model", why)
        })
}

/// Records that this is asked.
pub(super) async fn asked(
    pacs: &Pacs,
    source: &Source,
    operation: &Operation,
    identifier: &Bytes,
) -> Result<()> {
    let context = operation.context();
    let question = || Question::Dicom {
        sop_class: context.abstract_syntax,
        identifier: identifier.to_vec(),
        transfer_syntax: context.transfer_syntax,
    };
    audited::query(pacs, source, question).await
}

/// The request's identifier, the character set that answers can be written in, and the bytes it came as.
pub(super) async fn identifier(operation: &mut Operation) -> Result<(DataSet, CharacterSet, Bytes)> {
    let bytes = operation.gather_data_set().await?;
    let identifier = scan::parse(&bytes, &operation.context().transfer_syntax)?;
    let declared: Vec<&str> = identifier.strings(tags::SPECIFIC_CHARACTER_SET).collect();
    let charset = CharacterSet::parse(&declared.join("\\"));
    Ok((identifier, charset, bytes))
}

/// What was agreed on by SOP class extended negotiation (PS3.4 C.5.1.1).
pub(super) fn negotiated_options(negotiated: &Negotiated, sop_class: &Uid) -> QueryOptions {
    let agreed = negotiated
        .extended
        .iter()
        .find(|item| item.sop_class == sop_class.as_str());
    let on = |byte: usize| agreed.is_some_and(|item| item.information.get(byte) == Some(&1));
    QueryOptions {
        relational: on(0),
        combined_date_time: on(1),
        fuzzy_person_names: on(2),
        multiple_values: on(6),
    }
}

/// What depends on who answers (PS3.4 C.4.1.1.3.2): Retrieve AE Title always, Instance Availability
/// where it was asked for.
fn completed(services: &PacsServices, asked: &DataSet, mut answer: DataSet) -> DataSet {
    const INSTANCE_AVAILABILITY: Tag = tags::INSTANCE_AVAILABILITY;
    answer.put_text(
        tags::RETRIEVE_AE_TITLE,
        VR::AE,
        services.options.ae_title.as_str(),
    );
    if asked.contains(INSTANCE_AVAILABILITY) {
        answer.put_text(INSTANCE_AVAILABILITY, VR::CS, "ONLINE");
    }
    answer
}
