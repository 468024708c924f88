//! Chunks that wait together.

use bytes::{Bytes, BytesMut};

/// Chunks below this are copied together: each one in the list costs 32 bytes, a place in a system
/// call, and keeps the buffer alive that it was cut from.
const SMALL_CHUNK_BYTES: usize = 4096;

/// Chunks in the order they came.
#[derive(Default)]
pub(crate) struct Gathered {
    pieces: Vec<Bytes>,
    small: BytesMut,
    bytes: usize,
}

impl Gathered {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        if chunk.len() < SMALL_CHUNK_BYTES {
            self.small.extend_from_slice(&chunk);
            return;
        }
        if !self.small.is_empty() {
            self.pieces.push(self.small.split().freeze());
        }
        self.pieces.push(chunk);
    }

    /// All of it, in pieces that are not empty.
    pub(crate) fn take(&mut self) -> Vec<Bytes> {
        self.bytes = 0;
        if !self.small.is_empty() {
            self.pieces.push(self.small.split().freeze());
        }
        std::mem::take(&mut self.pieces)
    }
}
