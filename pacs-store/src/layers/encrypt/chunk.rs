//! Chunks: what is encrypted at once, and read at once.
//!
//! The nonce of a chunk is its number and whether it is the last one (the STREAM construction of Hoang, Reyhanitabar,
//! Rogaway and Vizár): chunks that were put in another order, left out, doubled or cut off don't open. A data key is
//! used for one instance, so no nonce is used twice.
//!
//! Every chunk but the last is full. The last one is empty only where there is no other.

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use pacs_core::{Error, ErrorKind, Result};

use super::header::HEADER_BYTES;
use super::keys::{KEY_LENGTH_BYTES, cipher};

/// Length of a chunk before it is encrypted. One frame of a range costs one more at most; greater ones are not
/// measurably faster.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;
pub(super) const TAG_BYTES: usize = 16;
/// Length of a full chunk as it is stored.
pub(super) const SEALED_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

/// The key of an instance.
pub(super) struct DataKey(LessSafeKey);

impl DataKey {
    pub(super) fn new(key: &[u8; KEY_LENGTH_BYTES]) -> Result<Self> {
        Ok(Self(cipher(key)?))
    }

    /// Encrypts a chunk where it is, and puts its tag into the last [`TAG_BYTES`] behind it.
    pub(super) fn seal(&self, number: u64, last: bool, chunk_and_tag: &mut [u8]) -> Result<()> {
        let length = chunk_and_tag.len().saturating_sub(TAG_BYTES);
        let (chunk, into) = chunk_and_tag.split_at_mut(length);
        // Fails for what is longer than 64 GiB.
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce(number, last), Aad::empty(), chunk)
            .map_err(|_| {
                let why = "a chunk can't be encrypted";
                Error::new(ErrorKind::Internal, "archive.write", why)
            })?;
        into.copy_from_slice(tag.as_ref());
        Ok(())
    }

    /// Decrypts a chunk with its tag behind it to `into`, which is as long as the chunk. After an error what stands
    /// there is of no use.
    ///
    /// # Errors
    /// `Corrupt` when it is not what was encrypted as this chunk of this instance.
    pub(super) fn open(&self, number: u64, last: bool, sealed: &[u8], into: &mut [u8]) -> Result<()> {
        let opened = sealed.split_last_chunk::<TAG_BYTES>().map(|(chunk, tag)| {
            self.0
                .open_separate_gather(nonce(number, last), Aad::empty(), chunk, tag, into)
        });
        opened.and_then(|opened| opened.ok()).ok_or_else(|| {
            let why = "the instance's bytes are not what was encrypted";
            Error::new(ErrorKind::Corrupt, "archive.read", why)
        })
    }
}

fn nonce(number: u64, last: bool) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[3..11].copy_from_slice(&number.to_be_bytes());
    bytes[11] = u8::from(last);
    Nonce::assume_unique_for_key(bytes)
}

/// Where a chunk begins in what is stored.
pub(super) fn place(number: u64) -> u64 {
    number
        .saturating_mul(SEALED_BYTES as u64)
        .saturating_add(HEADER_BYTES as u64)
}

/// The length of what was encrypted to `stored` bytes; none where nothing is encrypted to so many.
pub(super) fn plain_length(stored: u64) -> Option<u64> {
    let sealed = stored.checked_sub(HEADER_BYTES as u64)?;
    let (full, last) = (sealed / SEALED_BYTES as u64, sealed % SEALED_BYTES as u64);
    let tag = TAG_BYTES as u64;
    let last = match last {
        0 if full > 0 => 0,
        last if last > tag || (last == tag && full == 0) => last - tag,
        _ => return None,
    };
    Some(full * CHUNK_BYTES as u64 + last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_follows_from_the_stored_one_and_from_no_other() {
        let chunk = CHUNK_BYTES as u64;
        for plain in [
            0,
            1,
            2,
            15,
            16,
            17,
            chunk - 1,
            chunk,
            chunk + 1,
            5 * chunk,
            10_000_000_000,
        ] {
            let chunks = plain.div_ceil(chunk).max(1);
            let stored = HEADER_BYTES as u64 + plain + 16 * chunks;
            assert_eq!(plain_length(stored), Some(plain));
        }
        let full = SEALED_BYTES as u64;
        for stored in [0, 127, 128, 143, 128 + full + 1, 128 + full + 16] {
            assert_eq!(plain_length(stored), None, "{stored}");
        }
        let _ = plain_length(u64::MAX);
    }

    #[test]
    fn a_chunk_opens_as_itself_alone() {
        let key = DataKey::new(&[7; 32]).expect("a key");
        let mut sealed = b"a chunk and sixteen more".to_vec();
        sealed.truncate(7 + TAG_BYTES);
        key.seal(3, true, &mut sealed).expect("is sealed");
        let open = |key: &DataKey, number, last, sealed: &[u8]| {
            let mut chunk = vec![0; sealed.len() - TAG_BYTES];
            key.open(number, last, sealed, &mut chunk)?;
            Ok::<_, Error>(chunk)
        };
        assert_eq!(open(&key, 3, true, &sealed).expect("opens"), b"a chunk");
        let other = DataKey::new(&[8; 32]).expect("a key");
        for (key, number, last) in [(&key, 2, true), (&key, 3, false), (&other, 3, true)] {
            let refused = open(key, number, last, &sealed).expect_err("is refused");
            assert_eq!(refused.kind(), ErrorKind::Corrupt);
        }
    }
}
