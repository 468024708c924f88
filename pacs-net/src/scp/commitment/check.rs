//! Whether an instance is really kept.

use pacs_core::{ErrorKind, Pacs, Result, Retry};

use crate::dimse::Status;
use crate::scp::is_stored;
use crate::scu::{Commitment, Reference};

/// Failure Reason (0008,1197), PS3.3 C.14.1.1.
mod reason {
    use crate::dimse::Status;
    pub(super) const PROCESSING_FAILURE: u16 = Status::PROCESSING_FAILURE.0;
    pub(super) const NO_SUCH_OBJECT_INSTANCE: u16 = Status::NO_SUCH_SOP_INSTANCE.0;
    pub(super) const CLASS_INSTANCE_CONFLICT: u16 = 0x0119;
    pub(super) const DUPLICATE_TRANSACTION_UID: u16 = 0x0131;
}

/// Looks at each instance of `outcome` that stands there as committed: it does no longer where it is not kept whole.
///
/// # Errors
/// What the index says, and what of the archive may pass, as `Closed`: then it is not known.
pub(super) async fn check(pacs: &Pacs, outcome: &mut Commitment, any_sop_class: bool) -> Result<()> {
    for reference in std::mem::take(&mut outcome.committed) {
        match failure(pacs, &reference, any_sop_class).await? {
            None => outcome.committed.push(reference),
            Some(reason) => outcome.failed.push((reference, reason)),
        }
    }
    Ok(())
}

/// Nothing is committed under a Transaction UID that is in use.
pub(super) fn refuse_all(outcome: &mut Commitment) {
    let refused = std::mem::take(&mut outcome.committed).into_iter();
    outcome
        .failed
        .extend(refused.map(|reference| (reference, reason::DUPLICATE_TRANSACTION_UID)));
}

/// Why an instance can't be committed.
async fn failure(pacs: &Pacs, reference: &Reference, any_sop_class: bool) -> Result<Option<u16>> {
    let instance = &reference.sop_instance;
    let Some(record) = pacs.lookup(instance).await? else {
        let reason = match is_stored(&reference.sop_class, any_sop_class) {
            true => reason::NO_SUCH_OBJECT_INSTANCE,
            false => Status::SOP_CLASS_NOT_SUPPORTED.0,
        };
        return Ok(Some(reason));
    };
    if record.sop_class != reference.sop_class {
        return Ok(Some(reason::CLASS_INSTANCE_CONFLICT));
    }
    match pacs.verify_instance(&record).await {
        Ok(true) => Ok(None),
        Ok(false) => {
            tracing::warn!(%instance, "not committed: it is kept as it came, which was cut off");
            Ok(Some(reason::PROCESSING_FAILURE))
        }
        Err(error) if error.kind() == ErrorKind::Closed || error.retry() == Retry::Later => Err(error),
        Err(error) => {
            tracing::error!(%instance, %error, "not committed: it can't be read as it was stored");
            Ok(Some(reason::PROCESSING_FAILURE))
        }
    }
}
