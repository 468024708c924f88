//! What stands in a segment file, byte for byte.
//!
//! ```text
//! file header, 64 bytes                      record header, 264 bytes
//!  0  8  "PACSSEG1"                            0  8  "PACSREC1"
//!  8  4  format version, 1                     8  8  state: 0, or "REMOVED!"
//! 12  4  kind: 0 shared, 1 stream             16  8  check of bytes 24..264
//! 16  8  segment id                           24  8  length of the payload
//! 24 16  random, keys the checks below        32  8  sequence
//! 40  8  created, milliseconds since 1970     40  8  received, milliseconds since 1970
//! 48  8  check of bytes 0..48                 48  8  check of the payload
//! 56  8  zero                                 56  8  everything before here was durable
//!                                             64  1  kind: 1 instance, 2 removal, 3 seal
//!                                             65  3  lengths of the UIDs of study, series, instance
//!                                             68  4  zero
//!                                             72 192 the UIDs, one after the other, then zero
//! ```
//!
//! Numbers are little endian. Checks are XXH3-64; those of record headers are keyed with the segment's
//! random number, so that no payload can pass itself off as a record. A record is a header, its
//! payload, and zero bytes up to a multiple of 8. The payload of an instance is its whole Part 10
//! stream, so "DICM" stands 392 bytes after each "PACSREC1" and any tool can carve it out.

use pacs_core::{InstanceKey, Locator, Sequence, Timestamp, Uid};
use twox_hash::XxHash3_64;

/// Length of the header of a segment file in bytes; the first record follows.
pub(super) const FILE_HEADER_LENGTH: u64 = 64;
/// Length of the header of a record in bytes.
pub(super) const HEADER_LENGTH: u64 = 264;
/// Where in a record's header its state stands.
pub(super) const STATE_OFFSET: u64 = 8;
/// The state of a record that was removed.
pub(super) const REMOVED: [u8; 8] = *b"REMOVED!";

const FILE_MAGIC: [u8; 8] = *b"PACSSEG1";
const FILE_VERSION: u32 = 1;
pub(super) const RECORD_MAGIC: [u8; 8] = *b"PACSREC1";
const LOCATOR_LENGTH: usize = 24;
/// Length of the payload of a seal in bytes.
pub(super) const SEAL_LENGTH: usize = 16;

/// Who appends to a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentKind {
    /// The committer: many small records a sync.
    Shared,
    /// One writer at a time: its record grows while it streams.
    Stream,
}

/// The header of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) kind: SegmentKind,
    pub(super) id: u64,
    /// Keys the checks of the record headers.
    pub(super) key: u64,
}

impl FileHeader {
    pub(super) fn encode(&self) -> [u8; FILE_HEADER_LENGTH as usize] {
        let mut bytes = [0; FILE_HEADER_LENGTH as usize];
        bytes[..8].copy_from_slice(&FILE_MAGIC);
        bytes[8..12].copy_from_slice(&FILE_VERSION.to_le_bytes());
        let kind: u32 = match self.kind {
            SegmentKind::Shared => 0,
            SegmentKind::Stream => 1,
        };
        bytes[12..16].copy_from_slice(&kind.to_le_bytes());
        put(&mut bytes, 16, self.id);
        put(&mut bytes, 24, self.key);
        put(&mut bytes, 40, Timestamp::now().0);
        let check = XxHash3_64::oneshot(&bytes[..48]);
        put(&mut bytes, 48, check);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; FILE_HEADER_LENGTH as usize] = bytes.first_chunk()?;
        let version = u32::from_le_bytes(*bytes[8..].first_chunk()?);
        if bytes[..8] != FILE_MAGIC
            || version != FILE_VERSION
            || get(bytes, 48) != XxHash3_64::oneshot(&bytes[..48])
        {
            return None;
        }
        let kind = match u32::from_le_bytes(*bytes[12..].first_chunk()?) {
            0 => SegmentKind::Shared,
            1 => SegmentKind::Stream,
            _ => return None,
        };
        Some(Self {
            kind,
            id: counted(get(bytes, 16))?,
            key: get(bytes, 24),
        })
    }
}

/// What a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    /// An instance; the payload is its Part 10 stream.
    Instance(InstanceKey),
    /// The removal of an instance; the payload is its locator.
    Removal(Uid),
    /// The end of a segment whose medium failed; the payload is its id and the offset behind which
    /// nothing counts.
    Seal,
}

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: RecordKind,
    pub(super) removed: bool,
    pub(super) length: u64,
    pub(super) sequence: Sequence,
    pub(super) received: Timestamp,
    /// XXH3-64 of the payload.
    pub(super) checksum: u64,
    /// When this record was written, everything before this offset of its segment was durable.
    pub(super) durable: u64,
}

impl Header {
    pub(super) fn encode(&self, key: u64) -> [u8; HEADER_LENGTH as usize] {
        let mut bytes = [0; HEADER_LENGTH as usize];
        bytes[..8].copy_from_slice(&RECORD_MAGIC);
        if self.removed {
            bytes[8..16].copy_from_slice(&REMOVED);
        }
        put(&mut bytes, 24, self.length);
        put(&mut bytes, 32, self.sequence.0);
        put(&mut bytes, 40, self.received.0);
        put(&mut bytes, 48, self.checksum);
        put(&mut bytes, 56, self.durable);
        let (kind, uids): (u8, [&str; 3]) = match &self.kind {
            RecordKind::Instance(key) => (1, [&key.study, &key.series, &key.instance]),
            RecordKind::Removal(instance) => (2, ["", "", instance]),
            RecordKind::Seal => (3, [""; 3]),
        };
        bytes[64] = kind;
        let mut at = 72;
        for (i, uid) in uids.iter().enumerate() {
            // A UID is at most 64 bytes long, three of them 192.
            bytes[65 + i] = uid.len() as u8;
            bytes[at..at + uid.len()].copy_from_slice(uid.as_bytes());
            at += uid.len();
        }
        let check = XxHash3_64::oneshot_with_seed(key, &bytes[24..]);
        put(&mut bytes, 16, check);
        bytes
    }

    /// None unless every byte but the state is as it was written.
    pub(super) fn decode(bytes: &[u8], key: u64) -> Option<Self> {
        let bytes: &[u8; HEADER_LENGTH as usize] = bytes.first_chunk()?;
        if bytes[..8] != RECORD_MAGIC || get(bytes, 16) != XxHash3_64::oneshot_with_seed(key, &bytes[24..]) {
            return None;
        }
        let mut at = 72;
        let mut uid = |i: usize| {
            let end = at + usize::from(bytes[65 + i]);
            let text = bytes.get(at..end).and_then(|text| std::str::from_utf8(text).ok());
            at = end;
            text.and_then(|text| Uid::parse(text).ok())
        };
        let (study, series, instance) = (uid(0), uid(1), uid(2));
        let kind = match bytes[64] {
            1 => RecordKind::Instance(InstanceKey {
                study: study?,
                series: series?,
                instance: instance?,
            }),
            2 => RecordKind::Removal(instance?),
            3 => RecordKind::Seal,
            _ => return None,
        };
        let sequence = Sequence(counted(get(bytes, 32))?);
        Some(Self {
            kind,
            removed: bytes[8..16] == REMOVED,
            length: get(bytes, 24),
            sequence,
            received: Timestamp(get(bytes, 40)),
            checksum: get(bytes, 48),
            durable: get(bytes, 56),
        })
    }

    /// Bytes from the start of this record to the start of the next; none when no file is that long.
    pub(super) fn span(&self) -> Option<u64> {
        span(self.length)
    }
}

/// The greatest sequence, but for those of one group, and the greatest segment's id that is given: what reads them takes
/// ones twice as great, so that whatever is given is read again, also where somebody invented the one before.
pub(super) const LAST_GIVEN: u64 = u64::MAX / 4;

/// A sequence or a segment's id that was read, if an archive can have come so far.
pub(super) fn counted(number: u64) -> Option<u64> {
    (number <= 2 * LAST_GIVEN).then_some(number)
}

/// Every record begins at a multiple of this.
const ALIGNMENT_BYTES: u64 = 8;

/// Whether a record may begin there.
pub(super) fn is_start(offset: u64) -> bool {
    offset.is_multiple_of(ALIGNMENT_BYTES)
}

/// Bytes that a record with a payload of this length takes.
pub(super) fn span(length: u64) -> Option<u64> {
    HEADER_LENGTH
        .checked_add(length)?
        .checked_next_multiple_of(ALIGNMENT_BYTES)
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) segment: u64,
    /// Of the record's header.
    pub(super) offset: u64,
    /// Of the payload.
    pub(super) length: u64,
}

impl Place {
    pub(super) fn to_locator(self) -> Locator {
        let mut bytes = [0; LOCATOR_LENGTH];
        for (i, number) in [self.segment, self.offset, self.length].into_iter().enumerate() {
            bytes[i * 8..][..8].copy_from_slice(&number.to_be_bytes());
        }
        Locator::new(&bytes)
    }

    /// None when it isn't one of ours.
    pub(super) fn from_locator(locator: &Locator) -> Option<Self> {
        let bytes: &[u8; LOCATOR_LENGTH] = locator.as_bytes().try_into().ok()?;
        let number = |i: usize| {
            bytes[i * 8..]
                .first_chunk()
                .map(|chunk| u64::from_be_bytes(*chunk))
        };
        Some(Self {
            segment: number(0).and_then(counted)?,
            offset: number(1)?,
            length: number(2)?,
        })
    }
}

/// The payload of a seal.
pub(super) fn encode_seal(segment: u64, end: u64) -> [u8; SEAL_LENGTH] {
    let mut bytes = [0; SEAL_LENGTH];
    put(&mut bytes, 0, segment);
    put(&mut bytes, 8, end);
    bytes
}

/// Segment id and end.
pub(super) fn decode_seal(bytes: &[u8]) -> Option<(u64, u64)> {
    let bytes: &[u8; SEAL_LENGTH] = bytes.try_into().ok()?;
    Some((counted(get(bytes, 0))?, get(bytes, 8)))
}

fn put(bytes: &mut [u8], at: usize, number: u64) {
    bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
}

/// `at + 8` must be inside.
fn get(bytes: &[u8], at: usize) -> u64 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let uid = Uid::parse(&"9".repeat(64)).unwrap();
        Header {
            kind: RecordKind::Instance(InstanceKey {
                study: uid,
                series: Uid::constant("1.2"),
                instance: uid,
            }),
            removed: false,
            length: 12,
            sequence: Sequence(7),
            received: Timestamp(8),
            checksum: 9,
            durable: 64,
        }
    }

    #[test]
    fn a_header_reads_back_as_it_was_written_and_only_with_its_key() {
        let bytes = header().encode(5);
        assert_eq!(Header::decode(&bytes, 5), Some(header()));
        assert_eq!(Header::decode(&bytes, 6), None);
    }

    #[test]
    fn a_header_behind_which_there_is_no_sequence_left_is_no_header() {
        for (number, is_one) in [
            (2 * LAST_GIVEN, true),
            (2 * LAST_GIVEN + 1, false),
            (u64::MAX, false),
        ] {
            let header = Header {
                sequence: Sequence(number),
                ..header()
            };
            let read = Header::decode(&header.encode(5), 5);
            assert_eq!(read, is_one.then_some(header), "{number}");
        }
    }

    #[test]
    fn a_header_with_any_bit_flipped_outside_its_state_is_no_header() {
        let bytes = header().encode(5);
        for bit in (0..bytes.len() * 8).filter(|bit| !(64..128).contains(bit)) {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bad, 5), None, "bit {bit}");
        }
    }

    #[test]
    fn a_locator_that_is_not_ours_is_no_place() {
        let place = Place {
            segment: 1,
            offset: 2,
            length: 3,
        };
        assert_eq!(Place::from_locator(&place.to_locator()), Some(place));
        assert_eq!(Place::from_locator(&Locator::new(b"elsewhere")), None);
    }
}
