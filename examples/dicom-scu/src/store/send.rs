//! One C-STORE: the data set of a file as it is.

use pacs_core::Result;
use pacs_net::dimse::{Category, Client, StoreRequest};
use pacs_net::scu::FileToSend;

use crate::peer::words;

/// What became of a file.
pub(super) enum Outcome {
    Stored,
    /// Stored, with this status and comment.
    Warned(String),
    /// Not stored, for this reason.
    NotStored(String),
}

/// Sends a file. An error ends the association; a reason why this one was not stored does not.
pub(super) async fn send(client: &Client, file: &FileToSend) -> Result<Outcome> {
    let context = client
        .negotiated()
        .contexts_for(&file.sop_class)
        .find(|context| context.transfer_syntax == file.transfer_syntax);
    let Some(context) = context else {
        return Ok(Outcome::NotStored(
            "the peer does not take its SOP class in its transfer syntax".to_owned(),
        ));
    };
    let request = StoreRequest::new(context.id, file.sop_class, file.sop_instance);
    // The first piece is read before the association is asked for, so that operations in flight read
    // while another one is sent.
    let data_set = match file.pieces() {
        Ok(pieces) => pieces,
        Err(error) => {
            let reason = format!("the file can't be read: {}", error.kind());
            return Ok(Outcome::NotStored(reason));
        }
    };
    let response = client.store(request, data_set).await?;
    Ok(match response.status().category() {
        Category::Success => Outcome::Stored,
        Category::Warning => Outcome::Warned(words(&response)),
        _ => Outcome::NotStored(words(&response)),
    })
}
