//! Inflates a deflated data set as it passes by (PS3.5 A.5).

use flate2::{Decompress, FlushDecompress, Status};

use super::problem::ProblemKind;
use super::walk::Walker;
use crate::dataset::layout::has_zlib_header;
use crate::error::Result;
use crate::limits;

const OUTPUT_BYTES: usize = 32 * 1024;

/// See the module's text. Of a damaged stream, how much comes out before the damage depends on the pieces that it came in.
pub(super) struct Inflater {
    stream: Option<Decompress>,
    first: Vec<u8>,
    output: Vec<u8>,
    state: State,
    trailing: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Ended,
    /// Damaged, or at the limit.
    Stopped,
}

impl Inflater {
    pub(super) fn new() -> Self {
        Self {
            stream: None,
            first: Vec::new(),
            output: vec![0; OUTPUT_BYTES],
            state: State::Running,
            trailing: 0,
        }
    }

    /// Not everything was looked at.
    pub(super) fn stopped(&self) -> bool {
        self.state == State::Stopped
    }

    /// Bytes inflated so far.
    pub(super) fn inflated(&self) -> u64 {
        self.stream.as_ref().map_or(0, Decompress::total_out)
    }

    pub(super) fn push(&mut self, bytes: &[u8], walker: &mut Walker) -> Result<()> {
        if self.stream.is_none() {
            // The first two bytes tell a zlib wrapper, which the Standard does not have and real
            // writers write, from a bare stream.
            let (first, rest) = bytes.split_at(bytes.len().min(2 - self.first.len()));
            self.first.extend_from_slice(first);
            if self.first.len() < 2 {
                return Ok(());
            }
            let first = std::mem::take(&mut self.first);
            self.stream = Some(Decompress::new(has_zlib_header(&first)));
            self.inflate(&first, walker)?;
            return self.inflate(rest, walker);
        }
        self.inflate(bytes, walker)
    }

    pub(super) fn finish(&mut self, walker: &mut Walker) -> Result<()> {
        if self.stream.is_none() && !self.first.is_empty() {
            self.stop(ProblemKind::NotInflatable, walker);
        }
        if self.state == State::Running && self.stream.is_some() {
            self.stop(ProblemKind::Truncated, walker);
        }
        // One byte of padding makes the length even.
        if self.trailing > 1 {
            walker.problem(ProblemKind::AfterDeflated, None);
        }
        Ok(())
    }

    fn stop(&mut self, kind: ProblemKind, walker: &mut Walker) {
        self.state = State::Stopped;
        walker.problem(kind, None);
    }

    fn inflate(&mut self, mut input: &[u8], walker: &mut Walker) -> Result<()> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        while self.state == State::Running {
            let (before_in, before_out) = (stream.total_in(), stream.total_out());
            let result = stream.decompress(input, &mut self.output, FlushDecompress::None);
            let consumed = (stream.total_in() - before_in) as usize;
            let produced = (stream.total_out() - before_out) as usize;
            input = &input[consumed..];
            walker.push(&self.output[..produced])?;
            match result {
                Ok(Status::StreamEnd) => self.state = State::Ended,
                Ok(_) if stream.total_out() > limits::INFLATED_LENGTH_MAX_BYTES => {
                    self.state = State::Stopped;
                    walker.problem(ProblemKind::InflateLimit, None);
                }
                Ok(_) if consumed == 0 && produced == 0 => return Ok(()),
                Ok(_) => {}
                Err(_) => {
                    self.state = State::Stopped;
                    walker.problem(ProblemKind::NotInflatable, None);
                }
            }
        }
        if self.state == State::Ended {
            self.trailing += input.len() as u64;
        }
        Ok(())
    }
}
