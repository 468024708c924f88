//! [`Decoder`]: the bytes that arrive, cut into PDUs and P-DATA fragments.
//!
//! A P-DATA-TF PDU is never gathered: its values are handed on as they arrive, as slices of the read
//! buffer. So the memory of a receiving association is its read buffer, however long its PDUs are.

use bytes::{Buf, Bytes, BytesMut};

use super::ASSOCIATE_LENGTH_MAX_BYTES;
use super::codec::{Violation, read_pdu};
use super::pdu::{Abort, Pdu, pdu_type};

/// A read buffer at rest. Holds any control PDU but a large proposal.
const BUFFER_MIN_BYTES: usize = 4 * 1024;

/// A read buffer under load: a few PDUs of usual size in one system call.
const BUFFER_MAX_BYTES: usize = 256 * 1024;

/// Over how many bytes it is told whether what comes is worth its buffers.
const WORTH_WINDOW_BYTES: usize = 2 * BUFFER_MAX_BYTES;

/// Of fewer bytes it isn't told whether they come in crumbs.
const CRUMBS_MIN_BYTES: usize = 16 * 1024;

/// A piece of a message: part of one presentation data value (PS3.8 9.3.5, annex E).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Presentation context ID, as received.
    pub context_id: u8,
    /// Part of a command set, else of a data set.
    pub command: bool,
    /// The command set or data set ends with this piece.
    pub last: bool,
    /// The piece; a slice of the read buffer, or a copy where most of that is of no use to anybody. Empty only when
    /// `last`.
    pub data: Bytes,
}

/// What a [`Decoder`] finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A PDU other than P-DATA-TF.
    Pdu(Pdu),
    /// A piece of a P-DATA-TF PDU.
    Fragment(Fragment),
}

#[derive(Clone, Copy, Debug)]
struct Pdv {
    context_id: u8,
    command: bool,
    last: bool,
    left: u32,
}

#[derive(Clone, Copy, Debug)]
enum Inside {
    /// Before a PDU's header.
    Boundary,
    /// In a P-DATA-TF PDU, before a PDV's header; so many bytes are left of the PDU.
    PData { left: u32 },
    /// In a PDV; so many bytes are left of the PDU behind it.
    Pdv { pdv: Pdv, left_behind: u32 },
}

/// Cuts the bytes of one direction of an association into [`Item`]s.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    inside: Inside,
    maximum_length: u32,
    read_size: usize,
    /// Bytes that came of late, and those of them that were handed on.
    came: usize,
    handed_on: usize,
}

impl Decoder {
    /// A decoder that refuses P-DATA-TF PDUs longer than `maximum_length` bytes (0: none is refused).
    pub fn new(maximum_length: u32) -> Self {
        Self {
            buffer: BytesMut::new(),
            inside: Inside::Boundary,
            maximum_length,
            read_size: BUFFER_MIN_BYTES,
            came: 0,
            handed_on: 0,
        }
    }

    /// Sets the limit on P-DATA-TF PDUs, once it is agreed.
    pub fn set_maximum_length(&mut self, maximum_length: u32) {
        self.maximum_length = maximum_length;
    }

    /// The buffer to append received bytes to, with room for a read of fitting size.
    pub fn buffer(&mut self) -> &mut BytesMut {
        let announced = match self.inside {
            Inside::Boundary => 0,
            Inside::PData { left } => left as usize,
            Inside::Pdv { pdv, left_behind } => pdv.left as usize + left_behind as usize,
        };
        let want = self
            .read_size
            .max(announced.saturating_add(12))
            .min(BUFFER_MAX_BYTES);
        let spare = self.buffer.capacity() - self.buffer.len();
        if spare < want.min(BUFFER_MAX_BYTES / 4) {
            self.buffer.reserve(want);
        }
        &mut self.buffer
    }

    /// Tells how many bytes were appended by one read, so that the size of the next can follow.
    pub fn note_read(&mut self, length: usize) {
        if length >= self.read_size {
            self.read_size = (self.read_size * 4).min(BUFFER_MAX_BYTES);
        }
    }

    /// Nothing is buffered and no PDU has begun.
    pub fn is_at_rest(&self) -> bool {
        self.buffer.is_empty() && matches!(self.inside, Inside::Boundary)
    }

    /// Gives memory back where the decoder is at rest.
    pub fn shrink(&mut self) {
        if self.is_at_rest() {
            self.buffer = BytesMut::new();
            self.read_size = BUFFER_MIN_BYTES;
        }
    }

    /// The next item of what is buffered; `None` asks for more bytes.
    ///
    /// # Errors
    /// A violation of PS3.8 9.3. What follows can't be understood any more.
    pub fn next_item(&mut self) -> Result<Option<Item>, Violation> {
        loop {
            match self.inside {
                Inside::Boundary => match self.header()? {
                    None => return Ok(None),
                    Some((pdu_type::P_DATA_TF, length)) => {
                        self.buffer.advance(6);
                        self.weigh(6, 0);
                        self.inside = Inside::PData { left: length };
                    }
                    Some((kind, length)) => {
                        let whole = 6 + length as usize;
                        if self.buffer.len() < whole {
                            return Ok(None);
                        }
                        let pdu = read_pdu(kind, &self.buffer[6..whole])?;
                        self.buffer.advance(whole);
                        return Ok(Some(Item::Pdu(pdu)));
                    }
                },
                Inside::PData { left: 0 } => self.inside = Inside::Boundary,
                Inside::PData { left } => {
                    let Some(header) = self.buffer.first_chunk::<6>() else {
                        if left < 6 {
                            return Err(Violation::invalid("a PDU too short for a PDV's header"));
                        }
                        return Ok(None);
                    };
                    let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
                    // The length counts the context ID and the message control header.
                    if length < 2 || u64::from(length) + 4 > u64::from(left) {
                        return Err(Violation::invalid("a PDV's length disagrees with its PDU's"));
                    }
                    let pdv = Pdv {
                        context_id: header[4],
                        command: header[5] & 1 != 0,
                        last: header[5] & 2 != 0,
                        left: length - 2,
                    };
                    self.buffer.advance(6);
                    self.weigh(6, 0);
                    self.inside = Inside::Pdv {
                        pdv,
                        left_behind: left - 4 - length,
                    };
                    if pdv.left == 0 && pdv.last {
                        return Ok(Some(self.fragment(pdv, left - 4 - length, 0)));
                    }
                }
                Inside::Pdv { pdv, left_behind } if pdv.left == 0 => {
                    self.inside = Inside::PData { left: left_behind };
                }
                Inside::Pdv { pdv, left_behind } => {
                    let length = self.buffer.len().min(pdv.left as usize);
                    if length == 0 {
                        return Ok(None);
                    }
                    return Ok(Some(self.fragment(pdv, left_behind, length)));
                }
            }
        }
    }

    /// Takes `length` bytes, at most `pdv.left`, out of the buffer.
    fn fragment(&mut self, mut pdv: Pdv, left_behind: u32, length: usize) -> Item {
        self.weigh(length, length);
        let data = match self.is_worth_its_buffers() {
            true => self.buffer.split_to(length).freeze(),
            false => {
                let copy = Bytes::copy_from_slice(&self.buffer[..length]);
                self.buffer.advance(length);
                copy
            }
        };
        pdv.left -= length as u32;
        self.inside = if pdv.left == 0 {
            Inside::PData { left: left_behind }
        } else {
            Inside::Pdv { pdv, left_behind }
        };
        Item::Fragment(Fragment {
            context_id: pdv.context_id,
            command: pdv.command,
            last: pdv.last && pdv.left == 0,
            data,
        })
    }

    /// Takes account of bytes that came, and of what of them is handed on.
    fn weigh(&mut self, came: usize, handed_on: usize) {
        self.came += came;
        self.handed_on += handed_on;
        if self.came > WORTH_WINDOW_BYTES {
            self.came /= 2;
            self.handed_on /= 2;
        }
    }

    /// Whether half of what comes is handed on. A slice keeps the whole buffer in memory that it was cut from: who sends
    /// a little between headers of nothing would have us hold many times what is counted.
    fn is_worth_its_buffers(&self) -> bool {
        self.handed_on >= self.came / 2
    }

    /// Whether a quarter and more of what comes are headers. No implementation cuts what it sends so small; who does it all the
    /// same has us work on tens of thousands of PDUs for each MiB.
    pub(crate) fn comes_in_crumbs(&self) -> bool {
        // Below 36 bytes in each PDU.
        self.came >= CRUMBS_MIN_BYTES && self.handed_on < self.came / 4 * 3
    }

    /// Type and length of the PDU that begins here, if its header is there and allowed.
    fn header(&self) -> Result<Option<(u8, u32)>, Violation> {
        let Some(&kind) = self.buffer.first() else {
            return Ok(None);
        };
        if !(pdu_type::ASSOCIATE_RQ..=pdu_type::ABORT).contains(&kind) {
            return Err(Violation {
                abort: Abort::UNRECOGNIZED_PDU,
                reason: "a PDU of unknown type",
            });
        }
        let Some(header) = self.buffer.first_chunk::<6>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([header[2], header[3], header[4], header[5]]);
        let allowed = match kind {
            pdu_type::ASSOCIATE_RQ | pdu_type::ASSOCIATE_AC => length <= ASSOCIATE_LENGTH_MAX_BYTES,
            pdu_type::P_DATA_TF => length >= 6 && (self.maximum_length == 0 || length <= self.maximum_length),
            _ => length == 4,
        };
        if !allowed {
            return Err(Violation::invalid("a PDU's length is outside what is allowed"));
        }
        Ok(Some((kind, length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pdv(data: &[u8]) -> Vec<u8> {
        let length = data.len() as u32 + 2;
        [
            &[4, 0][..],
            &(length + 4).to_be_bytes(),
            &length.to_be_bytes(),
            &[1, 0],
            data,
        ]
        .concat()
    }

    /// How many of the pieces, of so many bytes, keep the buffer that they came in.
    fn slices(bytes: &[u8], length: usize) -> usize {
        let mut decoder = Decoder::new(0);
        let mut slices = 0;
        for piece in bytes.chunks(BUFFER_MAX_BYTES / 2) {
            decoder.buffer().extend_from_slice(piece);
            loop {
                let buffer = decoder.buffer.as_ptr_range();
                match decoder.next_item() {
                    Ok(Some(Item::Fragment(fragment))) if fragment.data.len() == length => {
                        slices += usize::from(buffer.contains(&fragment.data.as_ptr()));
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(violation) => panic!("{violation:?}"),
                }
            }
        }
        slices
    }

    #[test]
    fn what_comes_between_pdvs_of_nothing_keeps_no_buffer_and_what_comes_as_usual_is_not_copied() {
        let nothing = pdv(&[]).repeat(20_000);
        let wasteful = [pdv(&[7; 4200]), nothing].concat().repeat(8);
        // Until the first buffer is gone nobody knows.
        assert_eq!(slices(&wasteful, 4200), 1);
        // As many as come at once: what is cut is handed on in parts.
        for (length, count) in [(200, 20), (4200, 20), (16_000, 7)] {
            let usual = pdv(&vec![7; length]).repeat(count);
            assert_eq!(slices(&usual, length), count);
        }
    }
}
