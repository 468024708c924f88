//! [`Cutter`]: a message that leaves, cut into P-DATA-TF PDUs of one presentation data value each.
//!
//! Payload is never copied: headers of 12 bytes stand between slices of what was pushed.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use super::pdu::pdu_type;

/// The PDUs we send to a peer that receives longer ones: beyond this length nothing is won.
pub const SENT_LENGTH_MAX_BYTES: u32 = 256 * 1024;

/// PDU header and PDV header.
const HEADERS_LENGTH_BYTES: usize = 12;

/// Cuts command sets and data sets into PDUs.
#[derive(Debug)]
pub struct Cutter {
    context_id: u8,
    payload_max: usize,
    pending: VecDeque<Bytes>,
    pending_length: usize,
    headers: BytesMut,
    out: Vec<Bytes>,
    out_length: usize,
}

impl Cutter {
    /// A cutter for messages on presentation context `context_id` to a peer that receives P-DATA-TF
    /// PDUs of up to `maximum_length` bytes, at least
    /// [`PEER_MAXIMUM_LENGTH_MIN_BYTES`](super::PEER_MAXIMUM_LENGTH_MIN_BYTES).
    pub fn new(context_id: u8, maximum_length: u32) -> Self {
        Self {
            context_id,
            // Fragments are of even length (PS3.8 annex E), and a header must leave room for some.
            payload_max: (maximum_length.clamp(super::PEER_MAXIMUM_LENGTH_MIN_BYTES, SENT_LENGTH_MAX_BYTES)
                as usize
                - 6)
                & !1,
            pending: VecDeque::new(),
            pending_length: 0,
            headers: BytesMut::new(),
            out: Vec::new(),
            out_length: 0,
        }
    }

    /// Adds a whole command set.
    pub fn command(&mut self, command: Bytes) {
        self.push(command, true);
        self.finish(true);
    }

    /// Adds a piece of the data set.
    pub fn data(&mut self, piece: Bytes) {
        self.push(piece, false);
    }

    /// Ends the data set.
    pub fn end_data(&mut self) {
        self.finish(false);
    }

    /// Bytes that are ready to be sent.
    pub fn ready_length(&self) -> usize {
        self.out_length
    }

    /// Takes what is ready to be sent.
    pub fn take_ready(&mut self) -> Vec<Bytes> {
        self.out_length = 0;
        std::mem::take(&mut self.out)
    }

    fn push(&mut self, piece: Bytes, command: bool) {
        if piece.is_empty() {
            return;
        }
        self.pending_length += piece.len();
        self.pending.push_back(piece);
        // One byte at least stays, since the last PDV must be known as the last.
        while self.pending_length > self.payload_max {
            self.cut(self.payload_max, command, false);
        }
    }

    fn finish(&mut self, command: bool) {
        self.cut(self.pending_length, command, true);
    }

    fn cut(&mut self, length: usize, command: bool, last: bool) {
        if self.headers.capacity() - self.headers.len() < HEADERS_LENGTH_BYTES {
            self.headers.reserve(HEADERS_LENGTH_BYTES * 32);
        }
        // `length` is at most SENT_LENGTH_MAX_BYTES.
        let item = length as u32 + 2;
        self.headers.put_slice(&[pdu_type::P_DATA_TF, 0]);
        self.headers.put_u32(item + 4);
        self.headers.put_u32(item);
        self.headers
            .put_slice(&[self.context_id, u8::from(command) | (u8::from(last) << 1)]);
        self.out.push(self.headers.split().freeze());
        self.out_length += HEADERS_LENGTH_BYTES + length;
        self.pending_length -= length;
        let mut left = length;
        while left > 0 {
            // `pending` holds `pending_length` bytes, of which `left` are not yet taken.
            let Some(mut piece) = self.pending.pop_front() else {
                break;
            };
            if piece.len() > left {
                self.pending.push_front(piece.split_off(left));
            }
            left -= piece.len();
            self.out.push(piece);
        }
    }
}
