//! What stands before the chunks of an instance.
//!
//! | bytes | |
//! | --- | --- |
//! | 0..8 | [`MAGIC`] |
//! | 8 | version of this layout: 1 |
//! | 9 | the length of a chunk as a power of two: 16 |
//! | 10 | length of the name of the master key |
//! | 11 | 0 |
//! | 12..44 | the name, and zeros behind it |
//! | 44..52 | check value of the master key |
//! | 52..64 | nonce, random |
//! | 64..112 | the data key, by AES-256-GCM under the master key, with its tag; bytes 0..64 are authenticated with it |
//! | 112..120 | 0 |
//! | 120..128 | XXH3 of what stands before, little-endian: tells damage from a key that is missing or wrong |
//!
//! Each instance has a data key of its own, so its chunks are bound to its header by it: a chunk of another
//! instance doesn't open with it.

use pacs_core::{Error, ErrorKind, Result};
use ring::aead::{Aad, NONCE_LEN, Nonce};
use twox_hash::XxHash3_64;
use zeroize::Zeroizing;

use super::chunk::{CHUNK_BYTES, DataKey, TAG_BYTES};
use super::keys::{
    CHECK_LENGTH_BYTES, KEY_ID_LENGTH_MAX_BYTES, KEY_LENGTH_BYTES, KeyId, Master, fill_random,
};

pub(super) const HEADER_BYTES: usize = 128;
/// No text, no Part 10 stream, and 7 bits don't keep it.
pub(super) const MAGIC: [u8; 8] = *b"\x8EPACSenc";

const VERSION: u8 = 1;
const ID: usize = 12;
const CHECK: usize = ID + KEY_ID_LENGTH_MAX_BYTES;
const NONCE: usize = CHECK + CHECK_LENGTH_BYTES;
const WRAPPED: usize = NONCE + NONCE_LEN;
const WRAPPED_TAG: usize = WRAPPED + KEY_LENGTH_BYTES;
const RESERVED: usize = WRAPPED_TAG + TAG_BYTES;
const CHECKSUM: usize = HEADER_BYTES - 8;

/// Makes a header with a new data key in it, and gives both.
pub(super) fn seal(master: &Master) -> Result<([u8; HEADER_BYTES], DataKey)> {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8] = VERSION;
    header[9] = CHUNK_BYTES.trailing_zeros() as u8;
    let id = master.id.as_str().as_bytes();
    header[10] = id.len() as u8;
    header[ID..ID + id.len()].copy_from_slice(id);
    header[CHECK..NONCE].copy_from_slice(&master.check);
    let mut key = Zeroizing::new([0; KEY_LENGTH_BYTES]);
    fill_random(&mut *key)?;
    fill_random(&mut header[NONCE..WRAPPED])?;
    let data_key = DataKey::new(&key)?;
    let (before, behind) = header.split_at_mut(WRAPPED);
    let tag = master
        .cipher
        .seal_in_place_separate_tag(nonce(before), Aad::from(&*before), &mut *key)
        .map_err(|_| Error::new(ErrorKind::Internal, "archive.begin", "the key can't be wrapped"))?;
    behind[..KEY_LENGTH_BYTES].copy_from_slice(&*key);
    behind[KEY_LENGTH_BYTES..][..TAG_BYTES].copy_from_slice(tag.as_ref());
    let checksum = XxHash3_64::oneshot(&header[..CHECKSUM]);
    header[CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
    Ok((header, data_key))
}

/// The nonce that stands in a header.
fn nonce(header: &[u8]) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes.copy_from_slice(&header[NONCE..WRAPPED]);
    Nonce::assume_unique_for_key(bytes)
}

fn damaged() -> Error {
    let why = "the encryption header of the instance is damaged";
    Error::new(ErrorKind::Corrupt, "archive.read", why)
}

/// A header whose checksum is right.
pub(super) struct Header {
    bytes: [u8; HEADER_BYTES],
    /// The master key that it names.
    pub(super) id: KeyId,
}

impl Header {
    /// # Errors
    /// `Corrupt` when it is damaged, `Unsupported` when it is of another version.
    pub(super) fn read(bytes: &[u8; HEADER_BYTES]) -> Result<Self> {
        let checksum = XxHash3_64::oneshot(&bytes[..CHECKSUM]);
        if bytes[..8] != MAGIC || bytes[CHECKSUM..] != checksum.to_le_bytes() {
            return Err(damaged());
        }
        if bytes[8] != VERSION || 1_usize.checked_shl(bytes[9].into()) != Some(CHUNK_BYTES) {
            let why = "the instance was encrypted by a later version";
            return Err(Error::new(ErrorKind::Unsupported, "archive.read", why));
        }
        let length = usize::from(bytes[10]).min(KEY_ID_LENGTH_MAX_BYTES);
        let (id, filling) = bytes[ID..CHECK].split_at(length);
        let zeros = [&bytes[11..ID], filling, &bytes[RESERVED..CHECKSUM]];
        if zeros.into_iter().flatten().any(|byte| *byte != 0) {
            return Err(damaged());
        }
        let id = std::str::from_utf8(id).ok().and_then(|id| KeyId::parse(id).ok());
        Ok(Self {
            bytes: *bytes,
            id: id.ok_or_else(damaged)?,
        })
    }

    /// Gives the data key.
    ///
    /// # Errors
    /// `Refused` when it is another key of that name, `Corrupt` when the header is damaged.
    pub(super) fn open(&self, master: &Master) -> Result<DataKey> {
        if self.bytes[CHECK..NONCE] != master.check {
            let why = format!(
                "the key {} is not the one that the instance was written with",
                self.id
            );
            return Err(Error::new(ErrorKind::Refused, "archive.read", why));
        }
        let mut wrapped = Zeroizing::new([0; KEY_LENGTH_BYTES + TAG_BYTES]);
        wrapped.copy_from_slice(&self.bytes[WRAPPED..RESERVED]);
        let aad = Aad::from(&self.bytes[..WRAPPED]);
        let opened = master
            .cipher
            .open_in_place(nonce(&self.bytes), aad, &mut *wrapped);
        let mut key = Zeroizing::new([0; KEY_LENGTH_BYTES]);
        key.copy_from_slice(opened.map_err(|_| damaged())?);
        DataKey::new(&key)
    }
}
