//! One file on its way in.

use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use futures::executor::block_on;
use futures::stream;
use pacs_core::{Error, ErrorKind, Pacs, Received, Source};

/// What is read at once.
const CHUNK_BYTES: usize = 256 * 1024;

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
    let result = File::open(path).map_err(unreadable).and_then(|mut file| {
        let pieces = std::iter::from_fn(|| match chunk(&mut file) {
            Ok(chunk) if chunk.is_empty() => None,
            Ok(chunk) => {
                told(chunk.len() as u64);
                Some(Ok(chunk))
            }
            Err(error) => Some(Err(unreadable(error))),
        });
        block_on(pacs.import(Source::default(), stream::iter(pieces)))
    });
    Outcome {
        bytes: bytes.get(),
        result,
    }
}

/// Reads the next piece; an empty one at the end of the file.
fn chunk(file: &mut File) -> std::io::Result<Bytes> {
    let mut buffer = BytesMut::zeroed(CHUNK_BYTES);
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(buffer.freeze())
}

fn unreadable(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "import.read", "the file can't be read").with_source(error)
}
