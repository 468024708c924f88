//! [`Head`]: what stands before the pixel data, held; and the stream of what takes the place of all of it.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::header::Run;
use super::pixels::Blanking;
use super::profile::Rectangle;
use super::{Deidentifier, Documents};
use crate::dataset::charset::CharacterSet;
use crate::dataset::scan::Scanner;
use crate::dataset::scan::boundaries::{Boundaries, Boundary, END};
use crate::dataset::{DataSet, Element, Value, encode};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::uid::Uid;

type Source = BoxStream<'static, Result<Bytes>>;

/// The group of the pixel data.
const PIXELS: u16 = 0x7FE0;

/// What stands before the pixel data of an instance, and the rest of it still to be read.
pub(crate) struct Head {
    header: DataSet,
    /// Elements of the top level of which not all is in the header.
    left_out: Vec<Tag>,
    /// Where the pixel data, or what stands in its place, begins.
    behind: Option<Boundary>,
    passing: Passing,
    source: Source,
}

/// The rest of a data set as it passes by.
struct Passing {
    boundaries: Boundaries,
    found: VecDeque<Boundary>,
    held: VecDeque<Bytes>,
    held_at: u64,
    /// What the bytes that pass now belong to: pixel data that stays, and what is blanked in it from where on.
    passes: bool,
    blanking: Option<Blanking>,
    value_at: Option<u64>,
    /// Pixel data is known to come.
    has_pixels: bool,
    ended: bool,
}

impl Head {
    /// Reads up to the pixel data, of a data set that is not deflated.
    ///
    /// # Errors
    /// `Invalid` when it is cut off or can't be followed, `OutOfResources` when it is longer than
    /// [`limits::DEIDENTIFIED_HEADER_LENGTH_MAX_BYTES`] and what is longer isn't left out anyway; what the source says.
    pub(crate) async fn read(transfer_syntax: &Uid, source: Source) -> Result<Self> {
        // What has nothing behind its header is asked again all the same.
        let mut source = source.fuse().boxed();
        let mut passing = Passing::new(transfer_syntax);
        let mut scanner = Scanner::for_deidentifying(transfer_syntax);
        let behind = loop {
            let Some(bytes) = source.try_next().await? else {
                for piece in passing.take(u64::MAX) {
                    scanner.push(&piece)?;
                }
                break None;
            };
            passing.push(bytes)?;
            let behind = passing.found.iter().position(|found| found.tag.0 >= PIXELS);
            let behind = behind.map(|at| passing.found.split_off(at));
            passing.found.clear();
            let until = match &behind {
                Some(found) => found.front().map_or(u64::MAX, |first| first.start),
                None => passing.boundaries.told(),
            };
            for piece in passing.take(until) {
                scanner.push(&piece)?;
            }
            if let Some(found) = behind {
                passing.found = found;
                break passing.found.front().copied();
            }
        };
        let scan = scanner.finish()?;
        scan.require_complete()?;
        if scan.left_out_count > 0 && scan.left_out.len() >= limits::LEFT_OUT_NAMED_MAX {
            return Err(too_long());
        }
        Ok(Self {
            header: scan.header,
            left_out: scan.left_out,
            behind,
            passing,
            source,
        })
    }

    pub(crate) fn header(&self) -> &DataSet {
        &self.header
    }

    /// Whether not all of this element is in the header.
    pub(crate) fn lacks(&self, tag: Tag) -> bool {
        self.left_out.contains(&tag)
    }

    pub(crate) fn has_pixels(&self) -> bool {
        self.behind.is_some_and(|behind| behind.tag.0 == PIXELS)
    }

    /// The patient's pseudonym, and the data set that takes the place of this one, in the same transfer syntax; pixel data that is blanked is not
    /// encapsulated.
    ///
    /// # Errors
    /// Those of [`Blanking::of`]; `OutOfResources` when the header lacks what stays.
    pub(crate) fn deidentify(self, by: &Deidentifier, blank: &[Rectangle]) -> Result<(String, Source)> {
        let Self {
            header,
            left_out,
            behind,
            mut passing,
            source,
        } = self;
        passing.has_pixels = behind.is_some_and(|behind| behind.tag.0 == PIXELS);
        let run = Run::new(&by.profile, &by.project, &header);
        if !left_out.iter().all(|tag| run.leaves_out(*tag)) {
            return Err(too_long());
        }
        if !blank.is_empty() {
            passing.blanking = Some(Blanking::of(&header, blank)?);
        }
        let mut made = run.header(header, !blank.is_empty());
        if by.profile.documents == Documents::Replace && made.contains(tags::ENCAPSULATED_DOCUMENT_LENGTH) {
            made.put(Element {
                tag: tags::ENCAPSULATED_DOCUMENT_LENGTH,
                vr: VR::UL,
                value: Value::Bytes(Bytes::from_static(&[2, 0, 0, 0])),
            });
        }
        let (encoding, utf8) = (passing.boundaries.encoding(), CharacterSet::utf8());
        let mut pieces = Vec::new();
        let mut small = Vec::new();
        for element in made.iter() {
            let bytes =
                encode::element(element, encoding, &utf8).map_err(|error| error.with_tag(element.tag))?;
            small.extend_from_slice(&bytes);
            if small.len() >= limits::READ_CHUNK_BYTES {
                pieces.push(Ok(Bytes::from(std::mem::take(&mut small))));
            }
        }
        pieces.push(Ok(Bytes::from(small)));
        let rest = stream::try_unfold(Some((passing, source)), |state| async {
            let Some((mut passing, mut source)) = state else {
                return Ok(None);
            };
            loop {
                let out = passing.pass()?;
                if !out.is_empty() {
                    return Ok(Some((out, Some((passing, source)))));
                }
                match source.next().await {
                    Some(bytes) => passing.push(bytes?)?,
                    None => return Ok(Some((passing.finish()?, None))),
                }
            }
        });
        let rest = rest.map_ok(|pieces| stream::iter(pieces).map(Ok)).try_flatten();
        let patient = made.string(tags::PATIENT_ID).unwrap_or_default().to_owned();
        Ok((patient, stream::iter(pieces).chain(rest).boxed()))
    }
}

impl Passing {
    fn new(transfer_syntax: &Uid) -> Self {
        Self {
            boundaries: Boundaries::new(transfer_syntax),
            found: VecDeque::new(),
            held: VecDeque::new(),
            held_at: 0,
            passes: false,
            blanking: None,
            value_at: None,
            has_pixels: false,
            ended: false,
        }
    }

    fn push(&mut self, bytes: Bytes) -> Result<()> {
        self.boundaries.push(&bytes)?;
        self.held.push_back(bytes);
        self.found.extend(self.boundaries.take());
        Ok(())
    }

    /// What is held before `end`.
    fn take(&mut self, end: u64) -> Vec<Bytes> {
        let mut taken = Vec::new();
        while self.held_at < end
            && let Some(front) = self.held.front_mut()
        {
            let length = usize::try_from(end - self.held_at).unwrap_or(usize::MAX);
            let piece = front.split_to(length.min(front.len()));
            if !front.has_remaining() {
                self.held.pop_front();
            }
            self.held_at += piece.len() as u64;
            taken.push(piece);
        }
        taken
    }

    /// What leaves of the bytes of which it is told to which element they belong.
    fn pass(&mut self) -> Result<Vec<Bytes>> {
        let mut out = Vec::new();
        while let Some(boundary) = self.found.pop_front() {
            self.pass_until(boundary.start, &mut out)?;
            let Boundary { tag, start, .. } = boundary;
            if tag.0 == PIXELS && !self.has_pixels {
                let why =
                    "pixel data stands behind what belongs behind it: whether it may leave was not looked at";
                return Err(Error::new(ErrorKind::Invalid, "deid.stream", why).with_tag(tag));
            }
            if self.blanking.is_some() && tag.0 == PIXELS && matches!(tag.1, 0x08 | 0x09) {
                let why = "pixels that are no integers can't be blanked";
                return Err(Error::new(ErrorKind::Unsupported, "deid.stream", why).with_tag(tag));
            }
            // Offset tables, their total length, and pixel data of any kind.
            self.passes = tag.0 == PIXELS && matches!(tag.1, 0x01..=0x03 | 0x08..=0x10);
            self.ended |= tag == END;
            let header = if self.boundaries.encoding().explicit {
                12
            } else {
                8
            };
            self.value_at = (tag == tags::PIXEL_DATA).then_some(start + header);
        }
        self.pass_until(self.boundaries.told(), &mut out)?;
        Ok(out)
    }

    fn pass_until(&mut self, end: u64, out: &mut Vec<Bytes>) -> Result<()> {
        let mut at = self.held_at;
        for mut piece in self.take(end) {
            if self.ended && piece.iter().any(|byte| *byte != 0) {
                let why = "bytes that are no element stand behind the last one";
                return Err(Error::new(ErrorKind::Invalid, "deid.stream", why));
            }
            if !self.passes {
                continue;
            }
            if let (Some(blanking), Some(value_at)) = (&self.blanking, self.value_at) {
                let before = usize::try_from(value_at.saturating_sub(at)).unwrap_or(usize::MAX);
                let header = piece.split_to(before.min(piece.len()));
                at += header.len() as u64;
                let passed = piece.len() as u64;
                if !header.is_empty() {
                    out.push(header);
                }
                piece = blanking.apply(at.saturating_sub(value_at), piece);
                at += passed;
            }
            if !piece.is_empty() {
                out.push(piece);
            }
        }
        Ok(())
    }

    /// What leaves when nothing more comes.
    fn finish(&mut self) -> Result<Vec<Bytes>> {
        let mut out = Vec::new();
        let delimiters = self.boundaries.delimiters();
        self.pass_until(u64::MAX, &mut out)?;
        match delimiters {
            Some(delimiters) if self.passes && !delimiters.is_empty() => out.push(delimiters.freeze()),
            // What stands behind the last element that can be told was looked at.
            None if self.passes => {
                let why = "the data set ends inside its pixel data";
                return Err(Error::new(ErrorKind::Invalid, "deid.stream", why));
            }
            _ => {}
        }
        Ok(out)
    }
}

fn too_long() -> Error {
    Error::new(
        ErrorKind::OutOfResources,
        "deid.header",
        "what stands before the pixel data is longer than what is held to de-identify it",
    )
    .with_retry(crate::error::Retry::Never)
}

#[cfg(test)]
mod tests;
