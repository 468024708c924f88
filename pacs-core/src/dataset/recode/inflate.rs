//! Inflates a deflated data set on demand (PS3.5 A.5), so that no more of it is held than is used.

use bytes::{Buf, Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};

use crate::dataset::layout::has_zlib_header;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

pub(crate) const OUTPUT_BYTES: usize = 32 * 1024;

pub(crate) struct Inflater {
    stream: Option<Decompress>,
    ended: bool,
}

impl Inflater {
    pub(crate) fn new() -> Self {
        Self {
            stream: None,
            ended: false,
        }
    }

    /// Whether the deflated stream has come to its end.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// The next inflated bytes; none when more input is needed.
    pub(crate) fn inflate(&mut self, input: &mut Bytes) -> Result<Bytes> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                // The first two bytes tell a zlib wrapper, which the Standard does not have and real
                // writers write, from a bare stream.
                let Some(first) = input.first_chunk::<2>() else {
                    return Ok(Bytes::new());
                };
                self.stream.insert(Decompress::new(has_zlib_header(first)))
            }
        };
        if self.ended {
            // Padding to even length follows.
            input.clear();
            return Ok(Bytes::new());
        }
        let mut output = BytesMut::zeroed(OUTPUT_BYTES);
        let (before_in, before_out) = (stream.total_in(), stream.total_out());
        let status = stream
            .decompress(input, &mut output, FlushDecompress::None)
            .map_err(|error| invalid("the deflated stream is damaged").with_source(error))?;
        // Both are at most the length of a buffer in memory.
        let consumed = (stream.total_in() - before_in) as usize;
        output.truncate((stream.total_out() - before_out) as usize);
        if consumed == 0 && output.is_empty() && status != Status::StreamEnd {
            return Err(invalid("the deflated stream is damaged"));
        }
        input.advance(consumed);
        if stream.total_out() > limits::INFLATED_LENGTH_MAX_BYTES {
            return Err(Error::new(
                ErrorKind::OutOfResources,
                "data_set.recode",
                "the deflated data set is larger than what is inflated",
            )
            .with_retry(crate::error::Retry::Never));
        }
        self.ended = status == Status::StreamEnd;
        Ok(output.freeze())
    }
}

fn invalid(context: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, "data_set.recode", context)
}
