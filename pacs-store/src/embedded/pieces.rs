//! [`file_pieces`]: a file, to be taken in.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use pacs_core::{Error, Result};

/// What is read at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// The bytes of a file in pieces, as [`Pacs::import`](pacs_core::Pacs::import) takes them; each is read when it is asked
/// for, which blocks. An error is the last one.
///
/// # Errors
/// What the system says: `NotFound` when there is no such file.
pub fn file_pieces(path: &Path) -> Result<impl Iterator<Item = Result<Bytes>> + use<>> {
    let mut file = Some(File::open(path).map_err(unreadable)?);
    Ok(std::iter::from_fn(move || {
        let piece = next(file.as_mut()?);
        if !matches!(&piece, Ok(piece) if !piece.is_empty()) {
            file = None;
        }
        match piece {
            Ok(piece) if piece.is_empty() => None,
            piece => Some(piece.map_err(unreadable)),
        }
    }))
}

/// Reads the next piece; an empty one at the end of the file.
fn next(file: &mut File) -> io::Result<Bytes> {
    let mut buffer = BytesMut::zeroed(CHUNK_BYTES);
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(buffer.freeze())
}

fn unreadable(error: io::Error) -> Error {
    Error::io("file.read", "the file can't be read", error)
}
