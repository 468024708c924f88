//! One file on its way in.

use std::cell::Cell;
use std::path::Path;

use futures::executor::block_on;
use futures::stream;
use pacs_core::{Error, ErrorKind, Pacs, Received, Source};
use pacs_store::embedded::file_pieces;

/// What became of a file.
pub(super) struct Outcome {
    /// Bytes that were read and told to the progress.
    pub(super) bytes: u64,
    pub(super) result: Result<Received, Error>,
}

impl Outcome {
    /// Whether another try may end otherwise.
    pub(super) fn may_be_retried(&self) -> bool {
        use ErrorKind as K;
        match &self.result {
            Ok(_) => false,
            Err(error) => !matches!(
                error.kind(),
                K::Invalid | K::Mismatch | K::Unsupported | K::AlreadyExists | K::Refused
            ),
        }
    }
}

/// Takes in one file; `progress` is told how many bytes were read.
pub(super) fn import(pacs: &Pacs, path: &Path, progress: impl Fn(u64)) -> Outcome {
    let bytes = Cell::new(0);
    let told = |read: u64| {
        bytes.set(bytes.get() + read);
        progress(read);
    };
    let result = file_pieces(path).and_then(|pieces| {
        let pieces = pieces.inspect(|piece| {
            if let Ok(piece) = piece {
                told(piece.len() as u64);
            }
        });
        block_on(pacs.import(Source::default(), stream::iter(pieces)))
    });
    Outcome {
        bytes: bytes.get(),
        result,
    }
}
