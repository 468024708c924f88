//! One frame of encapsulated pixel data (PS3.5 A.4): its fragments without their items' headers.

use bytes::{Buf, Bytes};
use dicom_core::Tag;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::{error, outgoing};
use crate::archive::Archive;
use crate::dataset::{FrameExtent, syntax};
use crate::error::{Error, ErrorKind, Result};
use crate::index::InstanceRecord;

/// The header of an item: tag and length.
const ITEM_HEADER_BYTES: usize = 8;

/// Reads the frame at `extent`, which lies inside the data set.
pub(super) fn read(
    archive: &dyn Archive,
    record: &InstanceRecord,
    extent: FrameExtent,
) -> BoxStream<'static, Result<Bytes>> {
    if extent.length == 0 {
        return stream::empty().boxed();
    }
    // The first fragment's header tells where the next one is.
    let Some(start) = extent.offset.checked_sub(ITEM_HEADER_BYTES as u64) else {
        return stream::iter([Err(no_item())]).boxed();
    };
    let pieces = outgoing::data_set_range(
        archive,
        record,
        start..extent.offset.saturating_add(extent.length),
    );
    joined(pieces)
}

/// The values of the items in `pieces`, which may end inside the last one.
pub(super) fn joined(pieces: BoxStream<'static, Result<Bytes>>) -> BoxStream<'static, Result<Bytes>> {
    let joiner = (pieces, Joiner::default());
    stream::try_unfold(joiner, |(mut pieces, mut joiner)| async {
        loop {
            if let Some(value) = joiner.next()? {
                return Ok(Some((value, (pieces, joiner))));
            }
            match pieces.try_next().await? {
                Some(piece) => joiner.piece = piece,
                None if joiner.collected > 0 => return Err(no_item()),
                None => return Ok(None),
            }
        }
    })
    .boxed()
}

/// Takes the headers out of items that pass by.
#[derive(Default)]
struct Joiner {
    piece: Bytes,
    /// A header while it comes.
    header: [u8; ITEM_HEADER_BYTES],
    collected: usize,
    /// Bytes of the fragment still to come.
    left: u64,
}

impl Joiner {
    /// The next bytes of a fragment; `None` when the piece is used up.
    fn next(&mut self) -> Result<Option<Bytes>> {
        while !self.piece.is_empty() {
            if self.left > 0 {
                let take = usize::try_from(self.left)
                    .unwrap_or(usize::MAX)
                    .min(self.piece.len());
                self.left -= take as u64;
                return Ok(Some(self.piece.split_to(take)));
            }
            let take = (ITEM_HEADER_BYTES - self.collected).min(self.piece.len());
            self.header[self.collected..][..take].copy_from_slice(&self.piece[..take]);
            self.piece.advance(take);
            self.collected += take;
            if self.collected == ITEM_HEADER_BYTES {
                self.collected = 0;
                let [g0, g1, e0, e1, length @ ..] = self.header;
                let tag = Tag(u16::from_le_bytes([g0, g1]), u16::from_le_bytes([e0, e1]));
                let length = u32::from_le_bytes(length);
                if tag != syntax::ITEM || length == syntax::UNDEFINED {
                    return Err(no_item());
                }
                self.left = length.into();
            }
        }
        Ok(None)
    }
}

fn no_item() -> Error {
    error(
        ErrorKind::Corrupt,
        "no fragment lies where the frame table says that a frame does",
    )
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], piece: usize) -> Result<Vec<u8>> {
        let pieces: Vec<_> = bytes
            .chunks(piece)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        let joined: Vec<Bytes> = block_on(joined(stream::iter(pieces).boxed()).try_collect())?;
        Ok(joined.concat())
    }

    fn item(value: &[u8]) -> Vec<u8> {
        let length = (value.len() as u32).to_le_bytes();
        [b"\xFE\xFF\x00\xE0", &length[..], value].concat()
    }

    proptest! {
        #[test]
        fn fragments_of_any_length_in_pieces_of_any_size_are_the_frame(
            fragments in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..8),
            piece in 1_usize..60,
            missing in 0_usize..40,
        ) {
            let mut items: Vec<u8> = fragments.iter().flat_map(|fragment| item(fragment)).collect();
            let mut frame = fragments.concat();
            // An Extended Offset Table may leave the padding of the last fragment out.
            let missing = missing.min(fragments.last().map_or(0, Vec::len));
            items.truncate(items.len() - missing);
            frame.truncate(frame.len() - missing);
            prop_assert_eq!(read(&items, piece).unwrap(), frame);
        }

        #[test]
        fn bytes_that_are_no_items_are_an_error_or_bytes_and_never_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
            piece in 1_usize..60,
        ) {
            if let Ok(frame) = read(&bytes, piece) {
                prop_assert!(frame.len() + ITEM_HEADER_BYTES <= bytes.len() || bytes.is_empty());
            }
        }
    }

    #[test]
    fn what_is_no_item_or_ends_inside_its_header_is_corrupt() {
        for bytes in [
            &b"\xFE\xFF\xDD\xE0\0\0\0\0"[..],
            b"\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFFabc",
            &[&item(b"ab")[..], b"\xFE\xFF"].concat(),
        ] {
            assert_eq!(read(bytes, 3).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}
