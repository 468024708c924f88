//! The Storage service class (PS3.4 annex B) as SCP.

use dicom_core::Tag;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::StandardDataDictionary;
use pacs_core::dataset::coercion;
use pacs_core::{Announced, Error, ErrorKind, Received, Result, StoreOutcome};

use super::is_stored;
use super::{PacsServices, source};
use crate::dimse::{CommandField, Operation, Reply, Status};
use crate::pace::{Pace, REFUSED_REST};

/// Takes in one instance, piece by piece as it comes off the wire; the answer is success only when it
/// is kept.
pub(super) async fn store(services: &PacsServices, mut operation: Operation) -> Result<Reply> {
    let command = operation.command();
    let source = source(&operation);
    let announced = Announced {
        sop_class: command.sop_class()?,
        sop_instance: command.sop_instance()?,
        transfer_syntax: operation.context().transfer_syntax,
        source: source.clone(),
    };
    if announced.sop_class != operation.context().abstract_syntax {
        let why = "the SOP class is not that of the presentation context";
        return Err(Error::new(ErrorKind::Unsupported, "storage.store", why));
    }
    if !is_stored(&announced.sop_class, services.options.any_sop_class) {
        let why = "the SOP class is not one of storage";
        return Err(Error::new(ErrorKind::Unsupported, "storage.store", why));
    }
    let Some(mut data_set) = operation.take_data_set() else {
        return Err(Error::new(
            ErrorKind::Invalid,
            "storage.store",
            "the request has no data set",
        ));
    };
    let from = announced.source.clone();
    let begin = tokio::time::timeout(services.options.patience, services.pacs.receive(announced));
    let mut receipt = begin.await.map_err(|_| {
        Error::new(
            ErrorKind::OutOfResources,
            "storage.store",
            "too many instances are on their way in",
        )
    })??;
    let mut pace = Pace::default();
    loop {
        match pace.next(data_set.next_piece(), (&services.pacs, &from)).await {
            Ok(Some(piece)) => {
                if let Err(error) = receipt.write(piece).await {
                    drop(receipt);
                    if error.kind() == ErrorKind::Invalid {
                        // Before the rest of it is read and passed over.
                        tokio::time::sleep(REFUSED_REST).await;
                    }
                    return Err(error);
                }
            }
            Ok(None) => break,
            Err(error) if error.kind() == ErrorKind::OutOfResources => {
                // Its turn goes to who waits before we wait for the peer again.
                drop(receipt);
                let reply = Reply::from_error(CommandField::C_STORE, &error);
                operation.answer_and_abort(reply).await;
                return Err(error);
            }
            Err(error) => return Err(error),
        }
    }
    drop(data_set);
    let received = receipt.commit().await?;
    services
        .brought
        .add(&services.pacs, &source, &received.record)
        .await?;
    Ok(reply(&received))
}

fn reply(received: &Received) -> Reply {
    let Some(warning) = received.warning() else {
        return Reply::success();
    };
    let mut reply = Reply::new(Status(warning));
    if received.outcome == StoreOutcome::FirstKept {
        return reply.with_error_comment("another instance is kept under this SOP Instance UID");
    }
    let coerced: Vec<Tag> = received
        .record
        .coerced
        .iter()
        .flat_map(coercion::attributes)
        .collect();
    let mut comment = String::new();
    if !received.complete
        && let Some(problem) = received.problems.first()
    {
        // Without its tag, which is told as Offending Element; where, as far as there is room.
        comment = if coerced.is_empty() {
            format!("{} at byte {}", problem.kind, problem.offset)
        } else {
            problem.kind.to_string()
        };
        reply.offending_elements.extend(problem.tag);
    }
    if !coerced.is_empty() {
        // In front, for a comment has an end (PS3.7 C.4.1).
        let rest = if comment.is_empty() { "" } else { "; " };
        comment = format!("{}{rest}{comment}", coerced_comment(&coerced));
        reply.offending_elements.extend(&coerced);
    }
    if !comment.is_empty() {
        reply = reply.with_error_comment(comment);
    }
    reply
}

/// The attributes by name, as many as there is room for beside what else may be said.
fn coerced_comment(coerced: &[Tag]) -> String {
    let name = |tag: &Tag| match StandardDataDictionary.by_tag(*tag) {
        Some(entry) => entry.alias().to_owned(),
        None => tag.to_string(),
    };
    let first = coerced.first().map(name).unwrap_or_default();
    match coerced.len() {
        1 => format!("coerced {first}"),
        count => format!("coerced {first} and {} more", count - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_names_the_first_of_what_is_coerced_and_counts_the_rest() {
        let tags = [Tag(0x0008, 0x0050), Tag(0x0010, 0x0020), Tag(0x0010, 0x0021)];
        assert_eq!(coerced_comment(&tags[..1]), "coerced AccessionNumber");
        assert_eq!(coerced_comment(&tags), "coerced AccessionNumber and 2 more");
    }
}
