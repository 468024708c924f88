//! Storage commitment (PS3.4 annex J) as SCP.
//!
//! A request is in the ledger before it is answered with success. The [`Reporter`] then looks at each instance, writes
//! what it finds in the place of the request, and reports it until the requester has answered.

mod check;
mod record;
mod reporter;

use std::collections::HashSet;

use bytes::Bytes;
use dicom_dictionary_std::tags;
use pacs_core::dataset::scan;
use pacs_core::ledger::{Ledger, Step};
use pacs_core::{AeTitle, Error, ErrorKind, Result, Timestamp, Uid};

use super::{PacsServices, source};
use crate::dimse::{Operation, Reply, Status};
use crate::scu::Reference;
use crate::scu::commitment::{ACTION_REQUEST, SOP_CLASS, SOP_INSTANCE, references};
use record::{Record, State, again_key, key};
pub(super) use reporter::Reporter;
use reporter::{Asking, Job};

/// Invalid object instance (PS3.7 10.1.4.1.10): the UID breaks the rules for one.
const INVALID_SOP_INSTANCE: Status = Status(0x0117);
/// No such action.
const NO_SUCH_ACTION: Status = Status(0x0123);

/// N-ACTION: takes a request (PS3.4 J.3.2).
pub(super) async fn action(services: &PacsServices, mut operation: Operation) -> Result<Reply> {
    let Some(reporter) = &services.commitment else {
        return Ok(Reply::new(Status::SOP_CLASS_NOT_SUPPORTED));
    };
    let command = operation.command();
    if !command.sop_class().is_ok_and(|sop_class| sop_class == SOP_CLASS) {
        return Ok(Reply::new(Status::NO_SUCH_SOP_CLASS));
    }
    match command.sop_instance() {
        Ok(instance) if instance == SOP_INSTANCE => {}
        Ok(_) => return Ok(Reply::new(Status::NO_SUCH_SOP_INSTANCE)),
        Err(error) => {
            let reply = Reply::new(INVALID_SOP_INSTANCE).with_error_comment(error.context());
            return Ok(error
                .tags()
                .iter()
                .copied()
                .fold(reply, Reply::with_offending_element));
        }
    }
    if command.action_type_id() != Some(ACTION_REQUEST) {
        return Ok(Reply::new(NO_SUCH_ACTION));
    }
    let requester = source(&operation).calling_ae.ok_or_else(|| {
        let why = "the requester has no AE title to report to";
        Error::new(ErrorKind::Invalid, "commitment.request", why)
    })?;
    let bytes = operation.gather_data_set().await?;
    let set = scan::parse(&bytes, &operation.context().transfer_syntax)?;
    drop(bytes);
    let transaction = set.uid(tags::TRANSACTION_UID)?;
    let instances = distinct(references(&set)?)?;
    if reporter.is_full() {
        let why = "too many transactions are not reported on yet";
        return Err(Error::new(ErrorKind::OutOfResources, "commitment.request", why));
    }
    let count = instances.len();
    let (key, length, is_new) = add(
        &**services.pacs.ledger()?,
        &requester,
        Record::asked(transaction, instances),
    )
    .await?;
    tracing::info!(%requester, %transaction, instances = count, is_new, "storage commitment is asked for");
    reporter.begin(Job {
        key,
        length,
        requester,
        asking: Some(Asking {
            client: operation.client(),
            context: operation.context().clone(),
            answered: Box::pin(operation.answered()),
        }),
    });
    Ok(Reply::success())
}

/// Those that were asked for, each once: a report names the same set (PS3.4 J.3.3.1.2).
fn distinct(instances: Vec<Reference>) -> Result<Vec<Reference>> {
    if instances.is_empty() {
        let why = "no instance is referenced";
        let error = Error::new(ErrorKind::Invalid, "commitment.request", why);
        return Err(error.with_tag(tags::REFERENCED_SOP_SEQUENCE));
    }
    let mut seen = HashSet::with_capacity(instances.len());
    Ok(instances
        .into_iter()
        .filter(|reference| seen.insert(*reference))
        .collect())
}

/// Puts a request into the ledger; answers where, its length in bytes, and whether it was not there before.
///
/// The same request again, as a requester makes it that has not seen our response, is one transaction. Another one under
/// a Transaction UID that is in use has an entry beside it, of which is reported that it can't be (0131H).
async fn add(ledger: &dyn Ledger, requester: &AeTitle, record: Record) -> Result<(Bytes, usize, bool)> {
    let first = key(requester, &record.outcome.transaction);
    let value = record.to_value()?;
    let length = value.len();
    loop {
        let steps = vec![
            Step::Expect(first.clone(), None),
            Step::Put(first.clone(), value.clone()),
        ];
        if ledger.apply(steps).await? {
            return Ok((first, length, true));
        }
        let Some(known) = ledger.get(&first).await? else {
            // Reported on meanwhile.
            continue;
        };
        let known = Record::from_value(&known)?;
        if known.instances() == record.instances() {
            return Ok((first, length, false));
        }
        let again = again_key(requester, &record);
        let is_new = ledger
            .apply(vec![
                Step::Expect(again.clone(), None),
                Step::Put(again.clone(), value),
            ])
            .await?;
        return Ok((again, length, is_new));
    }
}

impl Record {
    fn asked(transaction: Uid, instances: Vec<Reference>) -> Self {
        Self {
            state: State::Asked,
            asked: Timestamp::now(),
            outcome: crate::scu::Commitment {
                transaction,
                retrieve_ae: None,
                committed: instances,
                failed: Vec::new(),
            },
        }
    }
}
