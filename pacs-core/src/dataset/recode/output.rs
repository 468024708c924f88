//! Collects what is written: small pieces are put together, large values pass through uncopied.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use dicom_core::{Tag, VR};

use super::Target;
use crate::dataset::syntax::{self, UNDEFINED};

/// A value up to this length is copied behind its header.
const COPIED_LENGTH_MAX_BYTES: usize = 4 * 1024;
/// A piece is handed out when it has come to this length.
const PIECE_BYTES: usize = 64 * 1024;
/// The longest value with a 2-byte length.
const SHORT_LENGTH_MAX_BYTES: u32 = 0xFFFE;

#[derive(Debug)]
pub(crate) struct Output {
    target: Target,
    small: BytesMut,
    pieces: VecDeque<Bytes>,
}

impl Output {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            small: BytesMut::new(),
            pieces: VecDeque::new(),
        }
    }

    pub(super) fn explicit(&self) -> bool {
        self.target.explicit()
    }

    /// Whether a piece can be handed out.
    pub(crate) fn ready(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// Nothing more is written.
    pub(crate) fn finish(&mut self) {
        self.flush();
    }

    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        self.pieces.pop_front()
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push_back(self.small.split().freeze());
        }
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.small.extend_from_slice(bytes);
        if self.small.len() >= PIECE_BYTES {
            self.flush();
        }
    }

    /// A value, or a part of one.
    pub(crate) fn value(&mut self, bytes: Bytes) {
        if bytes.len() <= COPIED_LENGTH_MAX_BYTES {
            self.put(&bytes);
        } else {
            self.flush();
            self.pieces.push_back(bytes);
        }
    }

    /// The header of an element (PS3.5 7.1.2, 7.1.3); `length` is even or [`UNDEFINED`].
    pub(crate) fn header(&mut self, tag: Tag, vr: VR, length: u32) {
        self.tag(tag);
        if !self.target.explicit() {
            self.small.put_u32_le(length);
        } else if syntax::has_long_length(vr) || length > SHORT_LENGTH_MAX_BYTES {
            let vr = if syntax::has_long_length(vr) { vr } else { VR::UN };
            self.small.put_slice(&vr.to_bytes());
            self.small.put_u16_le(0);
            self.small.put_u32_le(length);
        } else {
            self.small.put_slice(&vr.to_bytes());
            // Bounded by the branch above.
            self.small.put_u16_le(length as u16);
        }
    }

    /// An item or delimiter, which has no VR (PS3.5 7.5).
    pub(super) fn item(&mut self, tag: Tag, length: u32) {
        self.tag(tag);
        self.small.put_u32_le(length);
    }

    /// The header of a sequence or item: of undefined length, unless it is empty.
    pub(super) fn nesting_length(length: Option<u64>) -> u32 {
        if length == Some(0) { 0 } else { UNDEFINED }
    }

    fn tag(&mut self, tag: Tag) {
        self.small.put_u16_le(tag.0);
        self.small.put_u16_le(tag.1);
    }
}
