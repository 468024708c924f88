//! The hint: what an opening need not walk again.
//!
//! A small file that is replaced as a whole. Lost or damaged, it costs time at the next opening and
//! nothing else.

use std::io;
use std::path::Path;

use pacs_core::Sequence;
use twox_hash::XxHash3_64;

use super::Store;
use super::record::{FILE_HEADER_LENGTH, FileHeader, SegmentKind, counted, is_start};
use crate::medium::{Medium, read_exact_at, write_all_at};

const NAME: &str = "hint";
const NEW_NAME: &str = "hint.new";
const MAGIC: [u8; 8] = *b"PACSHNT1";
const ENTRY_LENGTH: usize = 64;

/// What an index knows of the archive, and where the archive goes on behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hint {
    /// Everything up to here is durably indexed, and removals up to here are marked in their records.
    pub(super) sequence: Sequence,
    pub(super) segments: Vec<SegmentHint>,
}

/// What is known of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHint {
    pub(super) header: FileHeader,
    /// Every record before is whole, and not later than the hint's sequence.
    pub(super) position: u64,
    /// Every record before is whole.
    pub(super) end: u64,
    pub(super) dead_bytes: u64,
    pub(super) first: Sequence,
    /// Of the records before `position`.
    pub(super) last: Sequence,
    /// Nothing counts behind `end`.
    pub(super) sealed: bool,
}

impl Hint {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(24 + self.segments.len() * ENTRY_LENGTH + 8);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.sequence.0.to_le_bytes());
        bytes.extend_from_slice(&(self.segments.len() as u64).to_le_bytes());
        for segment in &self.segments {
            let flags =
                u64::from(segment.header.kind == SegmentKind::Stream) | u64::from(segment.sealed) << 1;
            for number in [
                segment.header.id,
                segment.header.key,
                flags,
                segment.position,
                segment.end,
                segment.dead_bytes,
                segment.first.0,
                segment.last.0,
            ] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        let check = XxHash3_64::oneshot(&bytes);
        bytes.extend_from_slice(&check.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (bytes, check) = bytes.split_last_chunk::<8>()?;
        if u64::from_le_bytes(*check) != XxHash3_64::oneshot(bytes) {
            return None;
        }
        let bytes = bytes.strip_prefix(&MAGIC)?;
        let numbers: Vec<u64> = bytes
            .chunks_exact(8)
            .filter_map(|chunk| chunk.first_chunk().map(|chunk| u64::from_le_bytes(*chunk)))
            .collect();
        let (&[sequence, count], entries) = numbers.split_first_chunk::<2>()?;
        if entries.len() as u64 != count.checked_mul(8)? {
            return None;
        }
        let segment = |entry: &[u64]| {
            let &[id, key, flags, position, end, dead_bytes, first, last] = entry else {
                return None;
            };
            // Before its end, and behind its header: nothing may ever be appended in front of that.
            if !(FILE_HEADER_LENGTH..=end).contains(&position) {
                return None;
            }
            // Both are where a record may begin: one that was appended elsewhere would not be found again.
            if !is_start(position) || !is_start(end) {
                return None;
            }
            let kind = match flags & 1 {
                0 => SegmentKind::Shared,
                _ => SegmentKind::Stream,
            };
            Some(SegmentHint {
                header: FileHeader {
                    kind,
                    id: counted(id)?,
                    key,
                },
                position,
                end,
                dead_bytes,
                first: Sequence(counted(first)?),
                last: Sequence(counted(last)?),
                sealed: flags & 2 != 0,
            })
        };
        Some(Self {
            sequence: Sequence(counted(sequence)?),
            segments: entries.chunks_exact(8).map(segment).collect::<Option<_>>()?,
        })
    }

    /// Reads the hint; an empty one where there is none that holds.
    pub(super) fn read(medium: &dyn Medium) -> Self {
        let bytes = medium.open(Path::new(NAME)).and_then(|file| {
            let length = usize::try_from(file.length()?).unwrap_or(usize::MAX);
            // Of ten million segments; a longer file isn't ours.
            if length > 10_000_000 * ENTRY_LENGTH {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut bytes = Vec::new();
            read_exact_at(&*file, &mut bytes, length, 0)?;
            Ok(bytes)
        });
        match bytes {
            Ok(bytes) => Self::decode(&bytes).unwrap_or_else(|| {
                tracing::warn!("the archive's hint is damaged; every segment is walked");
                Self::default()
            }),
            Err(_) => Self::default(),
        }
    }

    fn write(&self, medium: &dyn Medium) -> io::Result<()> {
        match medium.remove(Path::new(NEW_NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = medium.create(Path::new(NEW_NAME))?;
        write_all_at(&*file, &[&self.encode()], 0)?;
        file.sync_data()?;
        medium.rename(Path::new(NEW_NAME), Path::new(NAME))?;
        medium.sync_directory(Path::new(""))
    }
}

impl Store {
    /// Leaves the hint that everything up to `sequence` is indexed.
    pub(super) fn write_hint(&self, sequence: Sequence) -> io::Result<()> {
        let sequence = sequence.min(self.published());
        let segments = self.segments.all();
        let segments = segments.iter().map(|segment| {
            let state = segment.state();
            let position = match state.last <= sequence {
                true => state.end,
                false => state.start_after(sequence),
            };
            SegmentHint {
                header: FileHeader {
                    kind: segment.kind,
                    id: segment.id,
                    key: segment.key,
                },
                position,
                end: state.end,
                dead_bytes: state.dead_bytes,
                first: state.first,
                last: state.last.min(sequence),
                sealed: state.sealed,
            }
        });
        let hint = Hint {
            sequence,
            segments: segments.collect(),
        };
        hint.write(&*self.medium)?;
        self.set_hinted(sequence);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(id: u64, kind: SegmentKind, sealed: bool) -> SegmentHint {
        SegmentHint {
            header: FileHeader { kind, id, key: 77 },
            position: 64,
            end: 128,
            dead_bytes: 3,
            first: Sequence(4),
            last: Sequence(5),
            sealed,
        }
    }

    #[test]
    fn a_hint_that_would_have_a_segment_go_on_in_front_of_its_first_record_or_begin_behind_its_end_is_none() {
        for (position, end, holds) in [
            (64, 64, true),
            (64, 128, true),
            (0, 0, false),
            (0, 128, false),
            (128, 64, false),
            // Between two places where a record may begin.
            (64, 131, false),
            (67, 128, false),
        ] {
            let segment = SegmentHint {
                position,
                end,
                ..segment(1, SegmentKind::Shared, false)
            };
            let hint = Hint {
                sequence: Sequence(9),
                segments: vec![segment],
            };
            assert_eq!(Hint::decode(&hint.encode()).is_some(), holds, "{position} {end}");
        }
    }

    #[test]
    fn a_hint_reads_back_and_a_damaged_one_is_none() {
        let hint = Hint {
            sequence: Sequence(9),
            segments: vec![
                segment(1, SegmentKind::Shared, false),
                segment(2, SegmentKind::Stream, true),
            ],
        };
        let bytes = hint.encode();
        assert_eq!(Hint::decode(&bytes), Some(hint));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(Hint::decode(&bad), None);
        }
    }
}
