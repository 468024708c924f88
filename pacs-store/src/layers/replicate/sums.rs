//! Checks of an instance's bytes, a block at a time, so that any range of them can be compared before it is given out.

use std::hash::Hasher as _;

use bytes::{Bytes, BytesMut};
use twox_hash::XxHash3_64;

/// Bytes that one check covers. 0.012 percent of the length is kept; a range costs what is read around it.
pub(super) const BLOCK_BYTES: usize = 64 * 1024;

/// The check of a block: XXH3-64.
pub(super) fn sum(block: &[u8]) -> u64 {
    XxHash3_64::oneshot(block)
}

/// Makes the checks of bytes that pass by.
#[derive(Default)]
pub(super) struct Summing {
    sums: Vec<u64>,
    hasher: Box<XxHash3_64>,
    /// Bytes of the last block so far.
    within: usize,
    length: u64,
}

impl Summing {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BLOCK_BYTES - self.within));
            if self.within == 0 && now.len() == BLOCK_BYTES {
                self.sums.push(sum(now));
            } else {
                self.hasher.write(now);
                self.within += now.len();
                if self.within == BLOCK_BYTES {
                    self.end_block();
                }
            }
            rest = later;
        }
    }

    fn end_block(&mut self) {
        self.sums.push(self.hasher.finish());
        *self.hasher = XxHash3_64::new();
        self.within = 0;
    }

    /// The checks, and the length of all.
    pub(super) fn finish(mut self) -> (Vec<u64>, u64) {
        if self.within > 0 {
            self.end_block();
        }
        (self.sums, self.length)
    }
}

/// From pieces to whole blocks.
#[derive(Default)]
pub(super) struct Blocks {
    part: BytesMut,
}

impl Blocks {
    /// Bytes that wait for the rest of their block.
    pub(super) fn waiting(&self) -> usize {
        self.part.len()
    }

    /// Adds a piece, and gives what is complete: whole blocks, one or more in each. The last block of an instance may be
    /// shorter, so `end` says how many bytes are missing up to the end of all, this piece included.
    pub(super) fn push(&mut self, mut piece: Bytes, end: u64) -> [Option<Bytes>; 2] {
        let mut first = None;
        if !self.part.is_empty() {
            let missing = BLOCK_BYTES - self.part.len();
            let now = piece.split_to(missing.min(piece.len()));
            self.part.extend_from_slice(&now);
            if self.part.len() < BLOCK_BYTES && now.len() as u64 != end {
                return [None, None];
            }
            first = Some(std::mem::take(&mut self.part).freeze());
            if now.len() as u64 == end {
                return [first, None];
            }
            let rest = self.whole(piece, end - now.len() as u64);
            return [first, rest];
        }
        let rest = self.whole(piece, end);
        [first.take(), rest]
    }

    fn whole(&mut self, mut piece: Bytes, end: u64) -> Option<Bytes> {
        let whole = match piece.len() as u64 == end {
            true => piece.len(),
            false => piece.len() / BLOCK_BYTES * BLOCK_BYTES,
        };
        let blocks = piece.split_to(whole);
        self.part.extend_from_slice(&piece);
        (!blocks.is_empty()).then_some(blocks)
    }
}

#[cfg(test)]
mod tests {
    use pacs_core::testkit::random::{Random, rounds};

    use super::*;

    fn any_bytes(random: &mut Random) -> Bytes {
        let around = *random.pick(&[0, 1, BLOCK_BYTES, 3 * BLOCK_BYTES]);
        let length = (around + random.index(5)).saturating_sub(2);
        (0..length).map(|_| random.bits() as u8).collect()
    }

    fn any_pieces(random: &mut Random, mut bytes: Bytes) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let most = *random.pick(&[100, BLOCK_BYTES, 4 * BLOCK_BYTES]);
            let length = 1 + random.index(most.min(bytes.len()));
            pieces.push(bytes.split_to(length));
        }
        pieces
    }

    #[test]
    fn checks_are_those_of_the_blocks_however_the_bytes_come() {
        rounds(50, |random| {
            let bytes = any_bytes(random);
            let mut summing = Summing::default();
            for piece in any_pieces(random, bytes.clone()) {
                summing.push(&piece);
            }
            let expected = bytes.chunks(BLOCK_BYTES).map(sum).collect::<Vec<_>>();
            assert_eq!(summing.finish(), (expected, bytes.len() as u64));
        });
    }

    #[test]
    fn blocks_joined_are_the_pieces_joined_and_only_the_last_is_short() {
        rounds(50, |random| {
            let bytes = any_bytes(random);
            let mut blocks = Blocks::default();
            let mut end = bytes.len() as u64;
            let mut joined = BytesMut::new();
            for piece in any_pieces(random, bytes.clone()) {
                let length = piece.len() as u64;
                for whole in blocks.push(piece, end).into_iter().flatten() {
                    assert!(joined.len().is_multiple_of(BLOCK_BYTES));
                    joined.extend_from_slice(&whole);
                }
                end -= length;
            }
            assert_eq!(joined, bytes);
        });
    }
}
