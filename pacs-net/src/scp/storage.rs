//! The Storage service class (PS3.4 annex B) as SCP.

use std::time::Duration;

use bytes::Bytes;
use dicom_core::Tag;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::StandardDataDictionary;
use pacs_core::dataset::coercion;
use pacs_core::limits::{RECEIPT_RATE_MIN_BYTES_PER_SECOND, RECEIPT_RATE_WINDOW_SECONDS};
use pacs_core::{Announced, Error, ErrorKind, Pacs, Received, Result, StoreOutcome};
use tokio::time::Instant;

use super::policy::is_stored;
use super::{PacsServices, source};
use crate::dimse::{CommandField, DataSetStream, Operation, Reply, Status};

/// Warning: coercion of data elements (PS3.4 B.2.3).
const COERCED: Status = Status(0xB000);
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
        match pace.next_piece(&mut data_set, &services.pacs).await {
            Ok(Some(piece)) => receipt.write(piece).await?,
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
    Ok(reply(&receipt.commit().await?))
}

const WINDOW: Duration = Duration::from_secs(RECEIPT_RATE_WINDOW_SECONDS);
const WINDOW_MIN_BYTES: u64 = RECEIPT_RATE_MIN_BYTES_PER_SECOND * RECEIPT_RATE_WINDOW_SECONDS;

/// How fast a sender delivers: the time that we wait for it counts, what our archive takes doesn't.
#[derive(Default)]
struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// The next piece of a data set.
    ///
    /// # Errors
    /// `OutOfResources` when the sender is too slow while others wait for their turn; and as
    /// [`DataSetStream::next_piece`].
    async fn next_piece(&mut self, data_set: &mut DataSetStream, pacs: &Pacs) -> Result<Option<Bytes>> {
        loop {
            let since = Instant::now();
            let left = WINDOW.saturating_sub(self.waited);
            let piece = tokio::time::timeout(left, data_set.next_piece()).await;
            self.waited += since.elapsed();
            if let Ok(piece) = piece {
                let piece = piece?;
                self.bytes += piece.as_ref().map_or(0, |piece| piece.len() as u64);
                return Ok(piece);
            }
            if self.bytes < WINDOW_MIN_BYTES && pacs.receipts_are_short() {
                let why = format!(
                    "below {RECEIPT_RATE_MIN_BYTES_PER_SECOND} bytes a second while others wait to send"
                );
                return Err(Error::new(ErrorKind::OutOfResources, "storage.store", why));
            }
            *self = Self::default();
        }
    }
}

/// What is wrong with what came counts more than what became of it here: the sender may still have better.
fn reply(received: &Received) -> Reply {
    if received.outcome == StoreOutcome::FirstKept {
        return Reply::new(ELEMENTS_DISCARDED)
            .with_error_comment("another instance is kept under this SOP Instance UID");
    }
    let coerced: Vec<Tag> = received
        .record
        .coerced
        .iter()
        .flat_map(coercion::attributes)
        .collect();
    let mut comment = String::new();
    let mut reply = if !received.complete {
        let mut reply = Reply::new(DATA_SET_ODD);
        if let Some(problem) = received.problems.first() {
            // Without its tag, which is told as Offending Element; where, as far as there is room.
            comment = if coerced.is_empty() {
                format!("{} at byte {}", problem.kind, problem.offset)
            } else {
                problem.kind.to_string()
            };
            reply.offending_elements.extend(problem.tag);
        }
        reply
    } else if coerced.is_empty() {
        return Reply::success();
    } else {
        Reply::new(COERCED)
    };
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
