//! One C-STORE: the data set of a file as it is.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use bytes::{Bytes, BytesMut};
use futures::stream;
use pacs_core::{Error, Result};
use pacs_net::dimse::{Category, Client, StoreRequest};

use super::plan::Sendable;
use crate::peer::words;

/// What is read at once.
const CHUNK_BYTES: usize = 1024 * 1024;

/// What became of a file.
pub(super) enum Outcome {
    Stored,
    /// Stored, with this status and comment.
    Warned(String),
    /// Not stored, for this reason.
    NotStored(String),
}

/// Sends a file. An error ends the association; a reason why this one was not stored does not.
pub(super) async fn send(client: &Client, file: &Sendable) -> Result<Outcome> {
    let unreadable = |error: io::Error| {
        let reason = format!("the file can't be read: {}", error.kind());
        Ok(Outcome::NotStored(reason))
    };
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
    let mut pieces = match Pieces::open(file) {
        Ok(pieces) => pieces,
        Err(error) => return unreadable(error),
    };
    let first = match pieces.next() {
        Ok(first) => first,
        Err(error) => return unreadable(error),
    };
    let rest = std::iter::from_fn(move || match pieces.next() {
        Ok(piece) => piece.map(Ok),
        Err(error) => Some(Err(Error::io("file.read", "the file can't be read", error))),
    });
    let data_set = stream::iter(first.map(Ok).into_iter().chain(rest));
    let response = client.store(request, data_set).await?;
    Ok(match response.status().category() {
        Category::Success => Outcome::Stored,
        Category::Warning => Outcome::Warned(words(&response)),
        _ => Outcome::NotStored(words(&response)),
    })
}

/// The pieces of a file's data set.
struct Pieces {
    file: File,
    left: u64,
}

impl Pieces {
    fn open(file: &Sendable) -> io::Result<Self> {
        let mut open = File::open(&file.path)?;
        open.seek(SeekFrom::Start(file.data_set_offset))?;
        Ok(Self {
            file: open,
            left: file.length,
        })
    }

    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let length = CHUNK_BYTES.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if length == 0 {
            return Ok(None);
        }
        let mut piece = BytesMut::zeroed(length);
        self.file.read_exact(&mut piece)?;
        self.left -= length as u64;
        Ok(Some(piece.freeze()))
    }
}
