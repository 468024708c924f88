//! Inflates a deflated data set as a stream (PS3.5 A.5).

use bytes::{Buf, Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::layout::has_zlib_header;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::give_way::give_way;
use crate::limits;

const OUTPUT_BYTES: usize = 32 * 1024;
/// After so many pieces the executor has its turn, also where all that is inflated is passed over.
const PIECES_AT_ONCE: u32 = 16;

/// What runs between two pieces.
struct Inflating {
    source: BoxStream<'static, Result<Bytes>>,
    input: Bytes,
    stream: Option<Decompress>,
    /// Pieces since the executor had its turn.
    pieces: u32,
}

/// The inflated data set, in pieces of bounded size; it ends where the deflated stream does.
///
/// The stream fails with `Invalid` when the deflated one is damaged or ends early, and with `OutOfResources`
/// beyond [`limits::INFLATED_LENGTH_MAX_BYTES`].
pub(crate) fn inflated(source: BoxStream<'static, Result<Bytes>>) -> BoxStream<'static, Result<Bytes>> {
    let inflating = Inflating {
        source,
        input: Bytes::new(),
        stream: None,
        pieces: 0,
    };
    stream::try_unfold(inflating, |mut inflating| async {
        inflating.pieces += 1;
        if inflating.pieces > PIECES_AT_ONCE {
            inflating.pieces = 0;
            give_way().await;
        }
        let piece = inflating.next().await?;
        Ok(piece.map(|piece| (piece, inflating)))
    })
    .boxed()
}

impl Inflating {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => {
                    // The first two bytes tell a zlib wrapper, which the Standard does not have and real
                    // writers write, from a bare stream.
                    let Some(first) = self.input.first_chunk::<2>() else {
                        if !self.fill().await? {
                            return if self.input.is_empty() {
                                Ok(None)
                            } else {
                                Err(damaged())
                            };
                        }
                        continue;
                    };
                    self.stream.insert(Decompress::new(has_zlib_header(first)))
                }
            };
            let mut output = BytesMut::zeroed(OUTPUT_BYTES);
            let (before_in, before_out) = (stream.total_in(), stream.total_out());
            let status = stream
                .decompress(&self.input, &mut output, FlushDecompress::None)
                .map_err(|error| damaged().with_source(error))?;
            // Both are at most the length of a buffer in memory.
            self.input.advance((stream.total_in() - before_in) as usize);
            output.truncate((stream.total_out() - before_out) as usize);
            if stream.total_out() > limits::INFLATED_LENGTH_MAX_BYTES {
                let what = "the deflated data set is larger than what is inflated";
                return Err(
                    Error::new(ErrorKind::OutOfResources, "data_set.inflate", what).with_retry(Retry::Never)
                );
            }
            if !output.is_empty() {
                return Ok(Some(output.freeze()));
            }
            if status == Status::StreamEnd {
                return Ok(None);
            }
            // Without room it would have made output; so it needs input.
            if !self.fill().await? {
                return Err(damaged());
            }
        }
    }

    /// Adds what comes next to the input; false when nothing comes.
    async fn fill(&mut self) -> Result<bool> {
        let Some(next) = self.source.try_next().await? else {
            return Ok(false);
        };
        self.input = if self.input.is_empty() {
            next
        } else {
            // At most a few bytes that could not be used alone.
            Bytes::from([&self.input[..], &next[..]].concat())
        };
        Ok(true)
    }
}

fn damaged() -> Error {
    let what = "the deflated stream is damaged or ends early";
    Error::new(ErrorKind::Invalid, "data_set.inflate", what)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, ZlibEncoder};
    use futures::executor::block_on;

    use super::*;

    fn run(deflated: &[u8], piece: usize) -> Result<Vec<u8>> {
        let pieces: Vec<_> = deflated
            .chunks(piece)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        let out = block_on(inflated(stream::iter(pieces).boxed()).try_collect::<Vec<_>>())?;
        assert!(out.iter().all(|piece| piece.len() <= OUTPUT_BYTES));
        Ok(out.concat())
    }

    #[test]
    fn the_executor_has_its_turn_while_much_is_passed_over() {
        let plain = vec![0; 4 * 1024 * 1024];
        let mut deflated = DeflateEncoder::new(Vec::new(), Compression::best());
        deflated.write_all(&plain).unwrap();
        let deflated = deflated.finish().unwrap();
        let source = stream::iter([Ok(Bytes::from(deflated))]).boxed();
        let mut all =
            Box::pin(inflated(source).try_fold(0, |length, piece| async move { Ok(length + piece.len()) }));
        let mut turns = 0;
        let length = block_on(std::future::poll_fn(|context| {
            turns += 1;
            all.as_mut().poll(context)
        }));
        assert_eq!(length.unwrap(), plain.len());
        assert!(turns > 4, "{turns}");
    }

    #[test]
    fn what_was_deflated_comes_out_whole_in_pieces_of_any_size_and_cut_short_it_is_an_error() {
        // Shrinks to a few hundred bytes, so that the last of the input yields many pieces.
        let plain: Vec<u8> = (0..300_000_u32).map(|n| (n / 1000) as u8).collect();
        let mut bare = DeflateEncoder::new(Vec::new(), Compression::best());
        bare.write_all(&plain).unwrap();
        let bare = bare.finish().unwrap();
        let mut wrapped = ZlibEncoder::new(Vec::new(), Compression::best());
        wrapped.write_all(&plain).unwrap();
        for deflated in [[&bare[..], b"\0"].concat(), bare, wrapped.finish().unwrap()] {
            for piece in [1, 7, 1_000_000] {
                assert!(run(&deflated, piece).unwrap() == plain);
            }
            let cut = &deflated[..deflated.len() / 2];
            assert_eq!(run(cut, 50).unwrap_err().kind(), ErrorKind::Invalid);
        }
        assert_eq!(run(b"", 1).unwrap(), b"");
        assert_eq!(run(b"x", 1).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
