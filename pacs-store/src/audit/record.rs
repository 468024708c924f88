//! Records of the log: one message each, chained by SHA-256.
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | `A5 61 75 64` |
//! | 4 | length of the document |
//! | 8 | number of the record |
//! | 8 | when it was recorded, in milliseconds since 1970 |
//! | 8 | number of the last record that was on stable storage before this one was written |
//! | 32 | hash of the record before; zero for the first |
//! | length | the document |
//! | 32 | SHA-256 of all that stands before in the record |
//!
//! Numbers are little endian. A record says of itself whether it is whole; its place in the chain says whether it belongs there.

use std::fmt;
use std::io;
use std::str::FromStr;

use aws_lc_rs::digest;
use bytes::Bytes;
use pacs_core::limits::AUDIT_DOCUMENT_LENGTH_MAX_BYTES;
use pacs_core::{Error, ErrorKind, Timestamp};

use crate::medium::{MediumFile, read_exact_at};

/// What a file of the log begins with.
pub(super) const FILE_HEADER: &[u8; 16] = b"pacs-audit log 1";

pub(super) const FILE_HEADER_BYTES: u64 = FILE_HEADER.len() as u64;

const MAGIC: [u8; 4] = [0xA5, b'a', b'u', b'd'];

const HEADER_BYTES: usize = 64;

const HASH_BYTES: usize = 32;

pub(super) type Hash = [u8; HASH_BYTES];

/// Where the chain begins.
pub(super) const NONE: AuditHead = AuditHead {
    sequence: 0,
    hash: [0; HASH_BYTES],
};

/// The end of a log, or of a part of it: the number of a record and its hash, in which all records before it have their part.
///
/// Written as the number, a colon and 64 hexadecimal digits. Who keeps one elsewhere can tell later whether all up to that
/// record is still what it was.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    pub(super) sequence: u64,
    pub(super) hash: Hash,
}

impl AuditHead {
    /// The number of the record; 0 where there is none.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl fmt::Display for AuditHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.sequence)?;
        self.hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for AuditHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditHead({self})")
    }
}

impl FromStr for AuditHead {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let (number, digits) = text.trim().split_once(':')?;
            let mut hash = [0; HASH_BYTES];
            if digits.len() != 2 * HASH_BYTES || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return None;
            }
            for (at, byte) in hash.iter_mut().enumerate() {
                *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
            }
            let sequence = number.parse().ok()?;
            Some(Self { sequence, hash })
        };
        parse().ok_or_else(|| {
            let why = "a head is the number of a record, a colon and 64 hexadecimal digits";
            Error::new(ErrorKind::Invalid, "audit.head", why)
        })
    }
}

/// A record that is whole.
pub(super) struct Frame {
    pub(super) head: AuditHead,
    pub(super) previous: Hash,
    pub(super) time: Timestamp,
    pub(super) settled: u64,
    pub(super) document: Bytes,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// Appends the record behind `before` to `out`, and answers what is then the head.
pub(super) fn encode(
    out: &mut Vec<u8>,
    before: &AuditHead,
    settled: u64,
    time: Timestamp,
    document: &str,
) -> AuditHead {
    let begin = out.len();
    let sequence = before.sequence + 1;
    out.extend_from_slice(&MAGIC);
    // Documents are bounded far below 4 GiB.
    out.extend_from_slice(&(document.len() as u32).to_le_bytes());
    for number in [sequence, time.0, settled] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&before.hash);
    out.extend_from_slice(document.as_bytes());
    let hash = sha256(&out[begin..]);
    out.extend_from_slice(&hash);
    AuditHead { sequence, hash }
}

pub(super) fn sha256(bytes: &[u8]) -> Hash {
    let digest = digest::digest(&digest::SHA256, bytes);
    let mut hash = [0; HASH_BYTES];
    hash.copy_from_slice(digest.as_ref());
    hash
}

impl Frame {
    /// The record at `start` of a file of this length; none where no whole one stands there.
    pub(super) fn read(file: &dyn MediumFile, start: u64, length: u64) -> io::Result<Option<Self>> {
        let left = length.saturating_sub(start);
        if left < (HEADER_BYTES + HASH_BYTES) as u64 {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        read_exact_at(file, &mut bytes, HEADER_BYTES, start)?;
        let document_length = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
        let whole = HEADER_BYTES + document_length + HASH_BYTES;
        if bytes[..4] != MAGIC || document_length > AUDIT_DOCUMENT_LENGTH_MAX_BYTES || whole as u64 > left {
            return Ok(None);
        }
        let at = start + HEADER_BYTES as u64;
        read_exact_at(file, &mut bytes, document_length + HASH_BYTES, at)?;
        let (content, hash) = bytes.split_at(whole - HASH_BYTES);
        if sha256(content) != hash {
            return Ok(None);
        }
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(number)
        };
        let copied = |from: &[u8]| {
            let mut copy = [0; HASH_BYTES];
            copy.copy_from_slice(from);
            copy
        };
        Ok(Some(Self {
            head: AuditHead {
                sequence: number(8),
                hash: copied(hash),
            },
            previous: copied(&bytes[32..64]),
            time: Timestamp(number(16)),
            settled: number(24),
            start,
            end: start + whole as u64,
            document: Bytes::from(bytes).slice(HEADER_BYTES..HEADER_BYTES + document_length),
        }))
    }

    /// The first whole record that begins at `from` or behind it.
    pub(super) fn find(file: &dyn MediumFile, mut from: u64, length: u64) -> io::Result<Option<Self>> {
        const WINDOW_BYTES: u64 = 64 * 1024;
        while from < length {
            let window = WINDOW_BYTES.min(length - from);
            let mut bytes = Vec::new();
            read_exact_at(file, &mut bytes, window as usize, from)?;
            for (at, four) in bytes.windows(MAGIC.len()).enumerate() {
                if four == MAGIC
                    && let Some(frame) = Self::read(file, from + at as u64, length)?
                {
                    return Ok(Some(frame));
                }
            }
            if window < WINDOW_BYTES {
                break;
            }
            // The next window sees those that begin in the last bytes of this one.
            from += window - MAGIC.len() as u64 + 1;
        }
        Ok(None)
    }
}
