//! Walks a data set of any size as its bytes pass by, within fixed memory: [`Scanner`].
//!
//! ```
//! use pacs_core::dataset::scan::Scanner;
//! # use pacs_core::uid::Uid;
//! # fn main() -> pacs_core::Result<()> {
//! let mut scanner = Scanner::new(&Uid::constant("1.2.840.10008.1.2.1"));
//! scanner.push(b"\x10\x00\x20\x00LO\x04\x00")?;
//! scanner.push(b"4711")?;
//! let scan = scanner.finish()?;
//! assert!(scan.complete);
//! assert_eq!(scan.header.string(dicom_core::Tag(0x0010, 0x0020)), Some("4711"));
//! # Ok(())
//! # }
//! ```

pub(crate) mod boundaries;
mod bulk;
mod element;
mod holding;
mod inflate;
mod level;
mod problem;
#[cfg(test)]
mod tests;
mod walk;

use std::fmt;

use dicom_core::{Tag, VR};

pub use problem::{Problem, ProblemKind};

use self::holding::Holding;
use self::inflate::Inflater;
use self::walk::Walker;
use super::charset::CharacterSet;
use super::metadata::BulkValue;
use super::model::{DataSet, FrameTable};
use super::{normal, syntax};
use crate::budget::{Budget, Share};
use crate::error::{Error, ErrorKind, Result};
use crate::uid::Uid;

/// Where the pixel data of an instance lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelData {
    /// Pixel Data (7FE0,0010), Double Float Pixel Data (7FE0,0009) or Float Pixel Data (7FE0,0008).
    pub tag: Tag,
    /// Its VR.
    pub vr: VR,
    /// First byte of its value, from the start of the data set (of the inflated one, when it is deflated).
    pub offset: u64,
    /// Bytes of its value; `None` when it is encapsulated (PS3.5 A.4).
    pub length: Option<u64>,
}

/// What a [`Scanner`] found out.
#[derive(Clone, Debug, PartialEq)]
pub struct Scan {
    /// The elements and their nested sequences, in normal form, without pixel data, Group Length and
    /// padding, and without what `left_out` names.
    pub header: DataSet,
    /// Where the frames of encapsulated pixel data lie, from the start of the data set. `None` for
    /// native pixel data, for a deflated data set, and where frames can't be told apart.
    pub frames: Option<FrameTable>,
    /// Where the pixel data lies.
    pub pixel_data: Option<PixelData>,
    /// Bytes pushed.
    pub length: u64,
    /// The structure was followed to the end of the data set, and it ended between two elements of
    /// the top level.
    pub complete: bool,
    /// Elements of the top level that are longer than what a header holds, or hold such: at most the
    /// first 64.
    pub left_out: Vec<Tag>,
    /// How many values were left out, at all levels.
    pub left_out_count: u64,
    /// What is wrong with the data set; of each kind the first.
    pub problems: Vec<Problem>,
}

/// Whether a header holds what there is of `tag`, by what it names as left out.
fn holds(left_out: &[Tag], tag: Tag) -> bool {
    left_out.len() < crate::limits::LEFT_OUT_NAMED_MAX && !left_out.contains(&tag)
}

impl Scan {
    /// Whether the header holds all of the element with this tag, or there is none.
    pub(crate) fn knows(&self, tag: Tag) -> bool {
        holds(&self.left_out, tag)
    }

    /// Demands that the data set is whole.
    ///
    /// # Errors
    /// `Invalid` with the problem that kept it from being `complete`.
    pub fn require_complete(&self) -> Result<()> {
        if self.complete {
            return Ok(());
        }
        use ProblemKind as K;
        let fatal = |problem: &&Problem| {
            matches!(
                problem.kind,
                K::Truncated
                    | K::Unterminated
                    | K::Unreadable
                    | K::TooDeep
                    | K::NotInflatable
                    | K::InflateLimit
            )
        };
        let error = match self.problems.iter().find(fatal) {
            Some(problem) => {
                let error = Error::new(ErrorKind::Invalid, "data_set.scan", problem.to_string());
                problem.tag.into_iter().fold(error, Error::with_tag)
            }
            None => Error::new(ErrorKind::Invalid, "data_set.scan", "the data set is not whole"),
        };
        Err(error)
    }
}

/// Takes the bytes of a data set in pieces of any size and finds out what is in them.
///
/// It is lenient: what real senders get wrong is understood where it can be, and becomes a
/// [`Problem`]. What is not held costs nothing per byte, so it may stand in the path of bulk data.
/// Memory stays below [`limits::HEADER_LENGTH_MAX_BYTES`](crate::limits::HEADER_LENGTH_MAX_BYTES)
/// and what a frame table needs.
pub struct Scanner {
    walker: Walker,
    inflater: Option<Box<Inflater>>,
    length: u64,
}

impl Scanner {
    /// For a data set in this transfer syntax. One that is not known is taken for an encapsulated one.
    pub fn new(transfer_syntax: &Uid) -> Self {
        Self::holding(transfer_syntax, Holding::HEADER)
    }

    /// Counts the memory of the frame table against `room`; where that is used up, there is no table.
    pub(crate) fn with_frame_tables_from(mut self, room: &Budget) -> Self {
        self.walker.builder.room = room.try_take(0);
        self
    }

    /// One that holds all but bulk data, and tells where that lies.
    pub(super) fn noting(transfer_syntax: &Uid) -> Self {
        let mut scanner = Self::holding(transfer_syntax, Holding::METADATA);
        scanner.walker.noted = Some(bulk::Noted::default());
        scanner
    }

    /// Whether there is more than is held. Of one that notes.
    pub(super) fn is_beyond_limit(&self) -> bool {
        self.walker
            .noted
            .as_ref()
            .is_some_and(|noted| noted.is_beyond_limit)
    }

    /// Bytes that are held.
    pub(super) fn held(&self) -> usize {
        self.walker.held
    }

    /// How many of the bytes that come next need not be pushed.
    pub(super) fn skippable(&self) -> u64 {
        match self.inflater {
            None => self.walker.skippable(),
            Some(_) => 0,
        }
    }

    /// Passes over so many bytes, at most [`skippable`](Self::skippable).
    pub(super) fn jump(&mut self, bytes: u64) {
        self.length += bytes;
        self.walker.jump(bytes);
    }

    /// Whether the next bytes belong to the fragments of encapsulated pixel data.
    pub(super) fn is_in_fragments(&self) -> bool {
        self.inflater.is_none() && self.walker.is_in_fragments()
    }

    /// Passes over fragments, up to the item or delimiter that begins `offset` bytes behind the start of the
    /// data set.
    pub(super) fn jump_fragments(&mut self, offset: u64) {
        self.length = self.length.max(offset);
        self.walker.jump_fragments(offset);
    }

    /// As [`finish`](Self::finish), of one that notes: with what it noted.
    pub(super) fn finish_noting(mut self) -> Result<(Scan, Vec<BulkValue>)> {
        let noted = self.walker.noted.as_mut();
        let values = noted.map(|noted| std::mem::take(&mut noted.values));
        Ok((self.finish()?, values.unwrap_or_default()))
    }

    /// One that holds all that stands before the pixel data, to be de-identified.
    pub(crate) fn for_deidentifying(transfer_syntax: &Uid) -> Self {
        Self::holding(transfer_syntax, Holding::DEIDENTIFIED)
    }

    fn holding(transfer_syntax: &str, holding: Holding) -> Self {
        let encoding = syntax::Encoding::of(transfer_syntax);
        Self {
            walker: Walker::new(encoding, syntax::is_video(transfer_syntax), holding),
            inflater: syntax::is_deflated(transfer_syntax).then(|| Box::new(Inflater::new())),
            length: 0,
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// `Invalid` when sequences are nested too deep. Everything else that is wrong becomes a
    /// [`Problem`] of the [`Scan`], and later bytes are passed over.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.length += bytes.len() as u64;
        match &mut self.inflater {
            None => self.walker.push(bytes),
            Some(inflater) => inflater.push(bytes, &mut self.walker),
        }
    }

    /// Bytes pushed so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Of what is deflated, how many bytes it was inflated to so far.
    pub(crate) fn inflated(&self) -> Option<u64> {
        self.inflater.as_ref().map(|inflater| inflater.inflated())
    }

    /// Where the pixel data lies, once the scan has come to it: then every element that identifies
    /// the instance has been seen, unless elements are out of order.
    pub fn at_pixel_data(&self) -> Option<PixelData> {
        self.walker.pixel_data
    }

    /// Whether all of the element with this tag has been seen, or that there is none, unless elements are
    /// out of order; and it is not one that a header does not hold.
    pub(crate) fn knows(&self, tag: Tag) -> bool {
        let passed = self.at_pixel_data().is_some() || self.walker.last_root.is_some_and(|last| last > tag);
        passed && holds(&self.walker.left_out, tag)
    }

    /// Whether the header holds all that was seen so far.
    pub(crate) fn holds_all(&self) -> bool {
        self.walker.left_out_count == 0
    }

    /// The elements seen so far, in normal form; a sequence counts when it has ended.
    pub fn header_so_far(&self) -> DataSet {
        let mut header = DataSet::from(self.walker.root().to_vec());
        normal::decode(&mut header, &CharacterSet::default());
        header
    }

    /// Says that nothing more comes.
    ///
    /// # Errors
    /// `Invalid` when no element at all was understood in the bytes pushed.
    pub fn finish(self) -> Result<Scan> {
        let (scan, _) = self.finish_counted()?;
        Ok(scan)
    }

    /// As [`finish`](Self::finish), with what the frame table counts while it is held.
    pub(crate) fn finish_counted(mut self) -> Result<(Scan, Option<Share>)> {
        let deflated = self.inflater.is_some();
        if let Some(inflater) = &mut self.inflater {
            inflater.finish(&mut self.walker)?;
        }
        let stopped = self.inflater.as_ref().is_some_and(|inflater| inflater.stopped());
        let complete = self.walker.finish() && !stopped;
        let mut walker = self.walker;
        let frames = walker.frames.take().filter(|_| !deflated);
        let room = walker.builder.room.take();
        let pixel_data = walker.pixel_data;
        let left_out = std::mem::take(&mut walker.left_out);
        let left_out_count = walker.left_out_count;
        let problems = std::mem::take(&mut walker.problems);
        if walker.root().is_empty()
            && left_out_count == 0
            && pixel_data.is_none()
            && self.length > 0
            && !complete
        {
            return Err(Error::new(
                ErrorKind::Invalid,
                "data_set.scan",
                "no data element can be read in it",
            ));
        }
        let mut header = DataSet::from(walker.into_root());
        normal::decode(&mut header, &CharacterSet::default());
        let scan = Scan {
            header,
            frames,
            pixel_data,
            length: self.length,
            complete,
            left_out,
            left_out_count,
            problems,
        };
        Ok((scan, room))
    }
}

impl fmt::Debug for Scanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scanner")
            .field("length", &self.length)
            .field("pixel_data", &self.walker.pixel_data)
            .field("problems", &self.walker.problems)
            .finish_non_exhaustive()
    }
}

/// Reads a whole small data set: an identifier, a command set (in Implicit VR Little Endian).
///
/// Every value is held, in normal form; Specific Character Set (0008,0005) keeps the value it came
/// with, so that an answer can be written in the same set. Group Length elements are dropped. A
/// caller bounds the input; what is held is at most
/// [`limits::PARSED_LENGTH_MAX_BYTES`](crate::limits::PARSED_LENGTH_MAX_BYTES).
///
/// # Errors
/// `Invalid` when it is not whole or can't be understood, `OutOfResources` when it is too large.
pub fn parse(bytes: &[u8], transfer_syntax: &str) -> Result<DataSet> {
    let mut scanner = Scanner::holding(transfer_syntax, Holding::WHOLE);
    scanner.push(bytes)?;
    let scan = scanner.finish()?;
    if scan.left_out_count > 0 {
        return Err(Error::new(
            ErrorKind::OutOfResources,
            "data_set.parse",
            "the data set is too large to be held",
        ));
    }
    scan.require_complete()?;
    Ok(scan.header)
}
