//! The Storage service class (PS3.4 annex B) as SCP.

use pacs_core::{Announced, Error, ErrorKind, Received, Result, StoreOutcome};

use super::{PacsServices, source};
use crate::dimse::{Operation, Reply, Status};

/// Warning: elements discarded (PS3.4 B.2.3).
const ELEMENTS_DISCARDED: Status = Status(0xB006);
/// Warning: data set does not match SOP class (PS3.4 B.2.3).
const DATA_SET_ODD: Status = Status(0xB007);

/// Takes in one instance, piece by piece as it comes off the wire; the answer is success only when it
/// is kept.
pub(super) async fn store(services: &PacsServices, mut operation: Operation) -> Result<Reply> {
    let command = operation.command();
    let announced = Announced {
        sop_class: command.sop_class()?,
        sop_instance: command.sop_instance()?,
        transfer_syntax: operation.context().transfer_syntax,
        source: source(&operation),
    };
    if announced.sop_class != operation.context().abstract_syntax {
        let why = "the SOP class is not that of the presentation context";
        return Err(Error::new(ErrorKind::Unsupported, "storage.store", why));
    }
    let Some(mut data_set) = operation.take_data_set() else {
        return Err(Error::new(
            ErrorKind::Invalid,
            "storage.store",
            "the request has no data set",
        ));
    };
    let begin = tokio::time::timeout(services.options.patience, services.pacs.receive(announced));
    let mut receipt = begin.await.map_err(|_| {
        Error::new(
            ErrorKind::OutOfResources,
            "storage.store",
            "too many instances are on their way in",
        )
    })??;
    while let Some(piece) = data_set.next_piece().await? {
        receipt.write(piece).await?;
    }
    drop(data_set);
    Ok(reply(&receipt.commit().await?))
}

fn reply(received: &Received) -> Reply {
    if received.outcome == StoreOutcome::FirstKept {
        return Reply::new(ELEMENTS_DISCARDED)
            .with_error_comment("another instance is kept under this SOP Instance UID");
    }
    if received.complete {
        return Reply::success();
    }
    let mut reply = Reply::new(DATA_SET_ODD);
    if let Some(problem) = received.problems.first() {
        reply = reply.with_error_comment(problem.to_string());
        reply.offending_elements.extend(problem.tag);
    }
    reply
}
