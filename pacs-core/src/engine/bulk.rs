//! Bulk data of instances: single values, read where they lie.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::Pacs;
use super::outgoing::{data_set, shorter};
use crate::dataset::inflate::inflated;
use crate::dataset::metadata::BulkValue;
use crate::dataset::syntax::{self, SEQUENCE_END};
use crate::error::{Error, ErrorKind, Result};
use crate::index::InstanceRecord;

type Pieces = BoxStream<'static, Result<Bytes>>;

impl Pacs {
    /// A range of the bytes of a value, in pieces of bounded size: numbers little endian, as bulk data is handed out
    /// in Explicit VR Little Endian (PS3.18 8.7.3.3.2). A range that reaches past the end yields what there is.
    ///
    /// - Of an encapsulated value (its length is `None`) it is the value field as it is stored: items with their
    ///   headers (PS3.5 A.4), without the delimiter behind them.
    /// - Of an instance in a deflated transfer syntax all that stands before is inflated.
    ///
    /// The stream fails with `Mismatch` when the instance was cut off or damaged before it was received,
    /// with `Corrupt` when the archive has less than was stored, and with what the archive says.
    pub fn read_bulk(&self, record: &InstanceRecord, value: &BulkValue, range: Range<u64>) -> Pieces {
        let end = range.end.min(value.length.unwrap_or(u64::MAX));
        let range = range.start.min(end)..end;
        if range.is_empty() {
            return stream::empty().boxed();
        }
        let size = u64::from(value.swapped);
        if value.length.is_none() || size <= 1 {
            return self.stored(record, value, range);
        }
        // Whole numbers, of which then the range is taken.
        let from = range.start - range.start % size;
        let to = range.end.checked_next_multiple_of(size);
        let to = to.unwrap_or(u64::MAX).min(value.length.unwrap_or(u64::MAX));
        let swapped = swapped(self.stored(record, value, from..to), value.swapped);
        within(swapped, range.start - from..range.end - from)
    }

    /// The bytes as they are stored.
    fn stored(&self, record: &InstanceRecord, value: &BulkValue, range: Range<u64>) -> Pieces {
        let archive = &*self.inner.archive;
        if syntax::is_deflated(&record.transfer_syntax) {
            let inflated = inflated(data_set(archive, record))
                .map_err(Error::about_kept)
                .boxed();
            return match value.length {
                Some(_) => {
                    let at = |offset: u64| value.offset.saturating_add(offset);
                    exactly(
                        within(inflated, at(range.start)..at(range.end)),
                        range.end - range.start,
                    )
                }
                None => within(items(within(inflated, value.offset..u64::MAX)), range),
            };
        }
        let start = record.data_set_offset.saturating_add(value.offset);
        if value.length.is_some() && start.saturating_add(range.end) > record.length {
            let what = "the instance was cut off inside of this value before it came here";
            let error = Error::new(ErrorKind::Mismatch, "engine.read_bulk", what);
            return stream::iter([Err(error.with_tag(value.path.tag()))]).boxed();
        }
        let at = |offset: u64| start.saturating_add(offset).min(record.length);
        match value.length {
            Some(_) => {
                let pieces = archive.read(&record.locator, at(range.start)..at(range.end));
                exactly(pieces, range.end - range.start)
            }
            None => within(items(archive.read(&record.locator, at(0)..record.length)), range),
        }
    }
}

/// The part of a stream that is in `range`.
fn within(pieces: Pieces, range: Range<u64>) -> Pieces {
    let (skip, take) = (range.start, range.end.saturating_sub(range.start));
    stream::try_unfold((pieces, skip, take), |(mut pieces, mut skip, take)| async move {
        while take > 0
            && let Some(mut piece) = pieces.try_next().await?
        {
            let passed = skip.min(piece.len() as u64);
            skip -= passed;
            piece.advance(passed as usize);
            piece.truncate(usize::try_from(take).unwrap_or(usize::MAX));
            if !piece.is_empty() {
                let take = take - piece.len() as u64;
                return Ok(Some((piece, (pieces, skip, take))));
            }
        }
        Ok(None)
    })
    .boxed()
}

/// Fails where less than `length` comes: what is left must not pass for all.
fn exactly(pieces: Pieces, length: u64) -> Pieces {
    stream::try_unfold((pieces, length), |(mut pieces, left)| async move {
        match pieces.try_next().await? {
            Some(piece) => {
                let left = left.saturating_sub(piece.len() as u64);
                Ok(Some((piece, (pieces, left))))
            }
            None if left > 0 => Err(shorter()),
            None => Ok(None),
        }
    })
    .boxed()
}

/// Numbers turned to little endian, wherever pieces are cut.
fn swapped(pieces: Pieces, size: u8) -> Pieces {
    let size = usize::from(size);
    stream::try_unfold(
        (pieces, BytesMut::new()),
        move |(mut pieces, mut held)| async move {
            while let Some(piece) = pieces.try_next().await? {
                held.extend_from_slice(&piece);
                let mut whole = held.split_to(held.len() / size * size);
                if !whole.is_empty() {
                    for number in whole.chunks_exact_mut(size) {
                        number.reverse();
                    }
                    return Ok(Some((whole.freeze(), (pieces, held))));
                }
            }
            // Half a number at the end is none.
            Ok((!held.is_empty()).then(|| (held.split().freeze(), (pieces, held))))
        },
    )
    .boxed()
}

/// Items with their headers, up to the delimiter behind them (PS3.5 A.4).
fn items(pieces: Pieces) -> Pieces {
    let state = (pieces, BytesMut::new(), 0_u64);
    stream::try_unfold(Some(state), |state| async move {
        let Some((mut pieces, mut held, mut left)) = state else {
            return Ok(None);
        };
        while let Some(piece) = pieces.try_next().await? {
            held.extend_from_slice(&piece);
            // How much of what is held belongs to items for sure.
            let mut told = 0;
            loop {
                let passed = left.min((held.len() - told) as u64);
                told += passed as usize;
                left -= passed;
                let Some(&[g0, g1, e0, e1, l0, l1, l2, l3]) = held.get(told..).and_then(<[u8]>::first_chunk)
                else {
                    break;
                };
                let tag = dicom_core::Tag(u16::from_le_bytes([g0, g1]), u16::from_le_bytes([e0, e1]));
                let length = u32::from_le_bytes([l0, l1, l2, l3]);
                if tag == SEQUENCE_END {
                    held.truncate(told);
                    return Ok((!held.is_empty()).then(|| (held.freeze(), None)));
                }
                if tag != syntax::ITEM || length == syntax::UNDEFINED {
                    return Err(cut_off());
                }
                told += 8;
                left = u64::from(length);
            }
            if told > 0 {
                let now = held.split_to(told).freeze();
                return Ok(Some((now, Some((pieces, held, left)))));
            }
        }
        Err(cut_off())
    })
    .boxed()
}

fn cut_off() -> Error {
    let why = "a value is cut off, or not encoded as it must be";
    Error::new(ErrorKind::Mismatch, "engine.read_bulk", why)
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    fn cut(bytes: &[u8], piece: usize) -> Pieces {
        let pieces: Vec<_> = bytes
            .chunks(piece)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        stream::iter(pieces).boxed()
    }

    fn all(pieces: Pieces) -> Result<Vec<u8>> {
        block_on(pieces.try_fold(Vec::new(), |mut all, piece| async move {
            all.extend_from_slice(&piece);
            Ok(all)
        }))
    }

    #[test]
    fn items_end_before_their_delimiter_wherever_pieces_are_cut() {
        let value = b"\xFE\xFF\x00\xE0\0\0\0\0\xFE\xFF\x00\xE0\x04\0\0\0\xFE\xFF\xDD\xE0";
        let whole = [&value[..], b"\xFE\xFF\xDD\xE0\0\0\0\0more"].concat();
        for piece in 1..whole.len() {
            assert_eq!(all(items(cut(&whole, piece))).unwrap(), value);
            assert!(all(items(cut(&whole[..value.len() + 4], piece))).is_err());
            assert_eq!(
                all(within(items(cut(&whole, piece)), 6..18)).unwrap(),
                value[6..18]
            );
        }
        assert_eq!(all(items(cut(b"\xFE\xFF\xDD\xE0\0\0\0\0", 3))).unwrap(), b"");
        assert!(all(items(cut(b"\x08\0\x05\0CS\0\0", 3))).is_err());
    }
}
