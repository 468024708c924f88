//! Modality Worklist (PS3.4 annex K) as SCP.

use std::sync::Arc;

use pacs_core::dataset::charset::CharacterSet;
use pacs_core::workflow::{Worklist, WorklistQuery};
use pacs_core::{DataSet, Result};

use super::query::{answer_each, asked, identifier};
use super::{PacsServices, source};
use crate::dimse::{Operation, Reply, Status};

/// What a query of the worklist negotiates beyond the base (K.5.1): two reserved bytes, fuzzy matching of person names;
/// not timezone adjustment.
pub(super) const OFFERED: [u8; 4] = [1, 1, 1, 0];

/// Answers a C-FIND from a worklist: each match by a pending response, until there are no more or the peer cancels
/// (PS3.4 K.4.1). For servers that are made of parts; [`PacsServices`](super::PacsServices) does it from its engine.
///
/// # Errors
/// What the requester is answered.
pub async fn find_worklist(worklist: &Worklist, mut operation: Operation) -> Result<Reply> {
    let (identifier, charset, _) = identifier(&mut operation).await?;
    found(worklist, &operation, &identifier, &charset).await
}

/// The same from an engine's worklist, where it is recorded who asks.
pub(super) async fn find(services: &PacsServices, mut operation: Operation) -> Result<Reply> {
    let (identifier, charset, bytes) = identifier(&mut operation).await?;
    asked(&services.pacs, &source(&operation), &operation, &bytes).await?;
    let worklist = Worklist::new(Arc::clone(services.pacs.ledger()?));
    found(&worklist, &operation, &identifier, &charset).await
}

async fn found(
    worklist: &Worklist,
    operation: &Operation,
    identifier: &DataSet,
    charset: &CharacterSet,
) -> Result<Reply> {
    let query = if is_fuzzy(operation) {
        WorklistQuery::from_identifier_fuzzy(identifier)?
    } else {
        WorklistQuery::from_identifier(identifier)?
    };
    // FF01: a key is not supported for matching or for existence (table K.4-1).
    let pending = if query.unsupported().is_empty() {
        Status::PENDING
    } else {
        Status::PENDING_OPTIONAL_KEYS
    };
    answer_each(operation, worklist.find(query), pending, charset).await
}

/// Whether fuzzy matching of person names was agreed on (K.5.1.2).
fn is_fuzzy(operation: &Operation) -> bool {
    let sop_class = operation.context().abstract_syntax;
    let mut agreed = operation.negotiated().extended.iter();
    let agreed = agreed.find(|item| item.sop_class == sop_class.as_str());
    agreed.is_some_and(|item| item.information.get(2) == Some(&1))
}
