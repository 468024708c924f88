//! AES-256 in XTS mode (IEEE 1619, NIST SP 800-38E): as many bytes as before, each block of 16 by itself.

use aes::Aes256;
use aes::cipher::array::Array;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

use super::keys::{KEY_LENGTH_BYTES, derived};

/// What is encrypted by itself: a write that was torn at such a boundary is torn there after decryption too.
pub(super) const BLOCK_BYTES: usize = 16;
/// A data unit of the mode: the pages of a database begin at its boundaries.
pub(super) const UNIT_BYTES: usize = 4096;
/// Blocks that go through the cipher together, which is several times as fast as one by one.
const BATCH: usize = 32;

type Block = Array<u8, aes::cipher::consts::U16>;

/// The two keys of the mode.
pub(super) struct Xts {
    data: Aes256,
    tweak: Aes256,
}

impl Xts {
    /// The two follow from one, and differ (SP 800-38E leaves that to the implementation, FIPS 140 asks for it).
    pub(super) fn new(key: &[u8; KEY_LENGTH_BYTES]) -> Self {
        Self::of(&derived(key, b"XTS data key"), &derived(key, b"XTS tweak key"))
    }

    fn of(data: &[u8; KEY_LENGTH_BYTES], tweak: &[u8; KEY_LENGTH_BYTES]) -> Self {
        Self {
            data: Aes256::new(&Array(*data)),
            tweak: Aes256::new(&Array(*tweak)),
        }
    }

    /// Encrypts whole blocks that stand at `offset`, the beginning of one.
    pub(super) fn encrypt(&self, offset: u64, blocks: &mut [u8]) {
        self.apply(offset, blocks, |batch| self.data.encrypt_blocks(batch));
    }

    /// The reverse.
    pub(super) fn decrypt(&self, offset: u64, blocks: &mut [u8]) {
        self.apply(offset, blocks, |batch| self.data.decrypt_blocks(batch));
    }

    fn apply(&self, mut offset: u64, bytes: &mut [u8], cipher: impl Fn(&mut [Block])) {
        let (mut rest, behind) = Array::slice_as_chunks_mut(bytes);
        debug_assert!(behind.is_empty() && offset.is_multiple_of(BLOCK_BYTES as u64));
        while !rest.is_empty() {
            let within = (offset % UNIT_BYTES as u64) as usize / BLOCK_BYTES;
            let count = rest.len().min(UNIT_BYTES / BLOCK_BYTES - within);
            let (unit, later) = rest.split_at_mut(count);
            let mut tweak = self.tweak(offset / UNIT_BYTES as u64);
            for _ in 0..within {
                tweak = doubled(tweak);
            }
            for batch in unit.chunks_mut(BATCH) {
                let mut tweaks = [0; BATCH];
                for (block, place) in batch.iter_mut().zip(&mut tweaks) {
                    *place = tweak;
                    mix(block, tweak);
                    tweak = doubled(tweak);
                }
                cipher(batch);
                for (block, tweak) in batch.iter_mut().zip(tweaks) {
                    mix(block, tweak);
                }
            }
            offset += (count * BLOCK_BYTES) as u64;
            rest = later;
        }
    }

    /// Of the first block of a unit.
    fn tweak(&self, unit: u64) -> u128 {
        let mut block = Array(u128::from(unit).to_le_bytes());
        self.tweak.encrypt_block(&mut block);
        u128::from_le_bytes(block.0)
    }
}

/// Times the primitive element of GF(2^128) (IEEE 1619 5.2).
fn doubled(tweak: u128) -> u128 {
    (tweak << 1) ^ if tweak >> 127 == 1 { 0x87 } else { 0 }
}

fn mix(block: &mut Block, tweak: u128) {
    block.0 = (u128::from_le_bytes(block.0) ^ tweak).to_le_bytes();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn vector_10_of_the_standard_comes_out() {
        // IEEE 1619 annex B, XTS-AES-256: its data unit has 512 bytes, of which the first 128 stand here. A unit of
        // ours is longer, which makes no difference to its beginning.
        let key = |hex: &str| <[u8; 32]>::try_from(bytes(hex)).expect("32 bytes");
        let xts = Xts::of(
            &key("2718281828459045235360287471352662497757247093699959574966967627"),
            &key("3141592653589793238462643383279502884197169399375105820974944592"),
        );
        let plain: Vec<u8> = (0..128).collect();
        let sealed = bytes(concat!(
            "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b",
            "5d31e276f8fe4a8d66b317f9ac683f44680a86ac35adfc3345befecb4bb188fd",
            "5776926c49a3095eb108fd1098baec70aaa66999a72a82f27d848b21d4a741b0",
            "c5cd4d5fff9dac89aeba122961d03a757123e9870f8acf1000020887891429ca",
        ));
        let offset = 0xff * UNIT_BYTES as u64;
        let mut blocks = plain.clone();
        xts.encrypt(offset, &mut blocks);
        assert_eq!(blocks, sealed);
        xts.decrypt(offset, &mut blocks);
        assert_eq!(blocks, plain);
    }

    #[test]
    fn a_part_is_encrypted_as_it_is_in_the_whole() {
        let xts = Xts::new(&[7; 32]);
        let plain: Vec<u8> = (0..3 * UNIT_BYTES).map(|at| at as u8).collect();
        let mut whole = plain.clone();
        xts.encrypt(UNIT_BYTES as u64, &mut whole);
        for (from, to) in [
            (0, 16),
            (16, 48),
            (UNIT_BYTES - 32, UNIT_BYTES + 320),
            (2000, 3 * UNIT_BYTES),
        ] {
            let mut part = plain[from..to].to_vec();
            xts.encrypt((UNIT_BYTES + from) as u64, &mut part);
            assert_eq!(part, whole[from..to]);
            xts.decrypt((UNIT_BYTES + from) as u64, &mut part);
            assert_eq!(part, plain[from..to]);
        }
        let mut elsewhere = plain.clone();
        xts.encrypt(0, &mut elsewhere);
        assert_ne!(elsewhere[..16], whole[..16]);
    }
}
