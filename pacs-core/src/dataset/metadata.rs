//! [`Metadata`]: all of an instance but its bulk data, and where that lies (PS3.18 10.4.1.1.2).
//!
//! ```
//! use pacs_core::dataset::metadata::MetadataScanner;
//! use pacs_core::{Uid, tags};
//! # fn main() -> pacs_core::Result<()> {
//! let mut scanner = MetadataScanner::new(&Uid::constant("1.2.840.10008.1.2.1"));
//! scanner.push(b"\x10\x00\x20\x00LO\x04\x004711")?;
//! scanner.push(b"\xE0\x7F\x10\x00OW\0\0\x04\0\0\0\x01\x02\x03\x04")?;
//! let metadata = scanner.finish()?;
//! assert_eq!(metadata.header.string(tags::PATIENT_ID), Some("4711"));
//! assert_eq!(metadata.bulk[0].path.to_string(), "7FE00010");
//! assert_eq!((metadata.bulk[0].offset, metadata.bulk[0].length), (24, Some(4)));
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;

use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use super::compact::{self, read_number, write_number};
use super::model::DataSet;
use super::scan::{PixelData, Scanner};
use super::syntax;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::limits;
use crate::uid::Uid;

/// Where in a data set an element stands: through which items of which sequences, and its tag.
///
/// Paths are ordered as their elements are in a data set. As text it is the tags with the numbers of items,
/// counted from 1, between them: `00081140/1/00081155`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ElementPath {
    /// Tags and numbers of items in turn, so that their order is that of paths.
    steps: Vec<u32>,
}

fn number_of(tag: Tag) -> u32 {
    u32::from(tag.0) << 16 | u32::from(tag.1)
}

fn tag_of(number: u32) -> Tag {
    Tag((number >> 16) as u16, number as u16)
}

impl ElementPath {
    /// Of an element of the top level.
    pub fn new(tag: Tag) -> Self {
        Self::default().with_tag(tag)
    }

    /// Of an element in the items `within`: each is a sequence and a number of an item, from 1.
    pub fn nested(within: &[(Tag, u32)], tag: Tag) -> Self {
        let mut path = Self::default();
        for &(sequence, item) in within {
            path.enter(sequence, item);
        }
        path.with_tag(tag)
    }

    /// The tag of the element.
    pub fn tag(&self) -> Tag {
        tag_of(self.steps.last().copied().unwrap_or_default())
    }

    /// The sequences around it, outermost first, each with the number of the item, from 1.
    pub fn items(&self) -> impl Iterator<Item = (Tag, u32)> {
        self.steps
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&[tag, item]| (tag_of(tag), item))
    }

    /// The tag of the element of the top level that it is, or is in.
    pub fn top(&self) -> Tag {
        tag_of(self.steps.first().copied().unwrap_or_default())
    }

    /// Goes into an item. What is made so is a path once it has a tag at its end.
    pub(super) fn enter(&mut self, sequence: Tag, item: u32) {
        self.steps.extend([number_of(sequence), item]);
    }

    /// Goes out of the item.
    pub(super) fn leave(&mut self) {
        self.steps.truncate(self.steps.len().saturating_sub(2));
    }

    pub(super) fn with_tag(mut self, tag: Tag) -> Self {
        self.steps.push(number_of(tag));
        self
    }

    /// Whether it is below the item that `within` went into, and then whether directly.
    pub(super) fn is_below(&self, within: &Self) -> Option<bool> {
        let rest = self.steps.strip_prefix(within.steps.as_slice())?;
        Some(rest.len() == 1)
    }

    /// The tag that it has, or goes through, in the item that `within` went into.
    pub(super) fn tag_below(&self, within: &Self) -> Tag {
        tag_of(self.steps.get(within.steps.len()).copied().unwrap_or_default())
    }

    /// Bytes it takes in memory.
    pub(super) fn size(&self) -> usize {
        self.steps.len() * size_of::<u32>()
    }
}

impl fmt::Display for ElementPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.steps.iter().enumerate() {
            match at % 2 {
                0 if at > 0 => write!(f, "/{step:08X}")?,
                0 => write!(f, "{step:08X}")?,
                _ => write!(f, "/{step}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for ElementPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ElementPath {
    type Err = Error;

    /// # Errors
    /// `Invalid` when it is no path, or one that is too deep.
    fn from_str(text: &str) -> Result<Self> {
        let invalid = || Error::new(ErrorKind::Invalid, "metadata.path", "not the path of an element");
        let mut steps = Vec::new();
        for (at, part) in text.split('/').enumerate() {
            if at > 2 * limits::SEQUENCE_DEPTH_MAX {
                return Err(invalid());
            }
            let step = match at % 2 {
                0 => parse_tag(part).map(number_of),
                _ if part.bytes().all(|byte| byte.is_ascii_digit()) => {
                    part.parse().ok().filter(|&item| item > 0)
                }
                _ => None,
            };
            steps.push(step.ok_or_else(invalid)?);
        }
        if steps.len() % 2 == 1 {
            Ok(Self { steps })
        } else {
            Err(invalid())
        }
    }
}

/// Eight hexadecimal digits.
pub(super) fn parse_tag(text: &str) -> Option<Tag> {
    let is_tag = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_tag.then(|| u32::from_str_radix(text, 16).ok().map(tag_of))?
}

/// A value that metadata does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkValue {
    /// Its element.
    pub path: ElementPath,
    /// Its VR.
    pub vr: VR,
    /// Its first byte, from the start of the data set (of the inflated one, when it is deflated).
    pub offset: u64,
    /// Its bytes; `None` when it is encapsulated (PS3.5 A.4).
    pub length: Option<u64>,
    /// Bytes of each of its numbers, or of the cells of pixel data, where those stand there with the most significant
    /// byte first; else 1.
    pub swapped: u8,
}

/// All of an instance but its bulk data: values of OB, OD, OF, OL, OV, OW and UN above
/// [`INLINE_BINARY_LENGTH_MAX_BYTES`](limits::INLINE_BINARY_LENGTH_MAX_BYTES), others that may be bulk data
/// (PS3.18 F.2.2) above [`INLINE_VALUE_LENGTH_MAX_BYTES`](limits::INLINE_VALUE_LENGTH_MAX_BYTES), and pixel data of
/// any length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// All values but those in `bulk`, in normal form, without Group Length and padding.
    pub header: DataSet,
    /// The values that are not in the header, in order of their paths.
    pub bulk: Vec<BulkValue>,
    /// Where the pixel data lies. It is in `bulk` too.
    pub pixel_data: Option<PixelData>,
}

impl Metadata {
    /// The bulk data at this path.
    pub fn bulk_value(&self, path: &ElementPath) -> Option<&BulkValue> {
        let at = self.bulk.binary_search_by(|value| value.path.cmp(path)).ok()?;
        self.bulk.get(at)
    }

    /// Puts elements of the top level in the place of those that are there.
    pub(crate) fn replace(&mut self, elements: &DataSet) {
        self.bulk.retain(|value| !elements.contains(value.path.top()));
        for element in elements.iter() {
            self.header.put(element.clone());
        }
    }
}

/// Takes the bytes of a data set in pieces of any size, as [`Scanner`] does, and makes its metadata.
///
/// What it holds stays below [`limits::METADATA_LENGTH_MAX_BYTES`].
pub struct MetadataScanner(Scanner);

impl MetadataScanner {
    /// For a data set in this transfer syntax.
    pub fn new(transfer_syntax: &Uid) -> Self {
        Self(Scanner::noting(transfer_syntax))
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// `Invalid` when sequences are nested too deep, `OutOfResources` when the metadata is larger than what is held.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.push(bytes)?;
        if self.0.is_beyond_limit() {
            let what = "the metadata of the instance is larger than what is held";
            let error = Error::new(ErrorKind::OutOfResources, "metadata.scan", what);
            return Err(error.with_retry(Retry::Never));
        }
        Ok(())
    }

    /// Bytes pushed and passed over so far: where the next ones stand.
    pub fn position(&self) -> u64 {
        self.0.length()
    }

    /// How many of the bytes that come next are bulk data, or behind all that can be understood: they need not be
    /// read, but may be passed over with [`skip`](Self::skip).
    pub fn skippable(&self) -> u64 {
        self.0.skippable()
    }

    /// Passes over so many bytes, or as many as are [`skippable`](Self::skippable).
    pub fn skip(&mut self, bytes: u64) {
        self.0.jump(bytes.min(self.0.skippable()));
    }

    /// Whether the bytes that come next are fragments of encapsulated pixel data. Who knows where they end may pass
    /// over them with [`skip_fragments`](Self::skip_fragments).
    pub fn is_in_fragments(&self) -> bool {
        self.0.is_in_fragments()
    }

    /// Passes over fragments, up to the item or delimiter that begins `offset` bytes behind the start of the data
    /// set.
    pub fn skip_fragments(&mut self, offset: u64) {
        self.0.jump_fragments(offset);
    }

    /// Bytes that are held.
    pub(crate) fn held(&self) -> usize {
        self.0.held()
    }

    /// Says that nothing more comes. Of a data set that is cut off or broken it is what could be understood.
    ///
    /// # Errors
    /// `Invalid` when no element at all was understood.
    pub fn finish(self) -> Result<Metadata> {
        let (scan, mut bulk) = self.0.finish_noting()?;
        bulk.sort_by(|a, b| a.path.cmp(&b.path));
        // Of elements that come twice the last counts, as in a data set.
        bulk.dedup_by(|later, earlier| {
            let same = later.path == earlier.path;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        let pixel_data = ElementPath::new(tags::PIXEL_DATA);
        let bits = scan.header.u16(tags::BITS_ALLOCATED).map(usize::from);
        for value in &mut bulk {
            if value.swapped > 1 && value.path == pixel_data {
                // 8 at most.
                value.swapped = syntax::swapped_size(value.vr, bits) as u8;
            }
        }
        Ok(Metadata {
            header: scan.header,
            bulk,
            pixel_data: scan.pixel_data,
        })
    }
}

impl fmt::Debug for MetadataScanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MetadataScanner").field(&self.0).finish()
    }
}

/// The version of what [`Metadata::to_bytes`] writes.
const VERSION: u8 = 2;

const HAS_LENGTH: u8 = 1;
/// Above it are the bytes that are swapped.
const SWAPPED_SHIFT: u32 = 1;

impl Metadata {
    /// Writes it for an index to keep: [`compact`], and where the bulk data lies, compressed.
    pub fn to_bytes(&self) -> Bytes {
        let header = compact::to_bytes(&self.header);
        let mut places = Vec::new();
        write_number(self.bulk.len() as u64, &mut places);
        for value in &self.bulk {
            write_number(value.path.steps.len() as u64, &mut places);
            for &step in &value.path.steps {
                write_number(u64::from(step), &mut places);
            }
            write_place(value.vr, value.offset, value.length, value.swapped, &mut places);
        }
        if let Some(pixel_data) = &self.pixel_data {
            write_number(u64::from(number_of(pixel_data.tag)), &mut places);
            write_place(
                pixel_data.vr,
                pixel_data.offset,
                pixel_data.length,
                1,
                &mut places,
            );
        }
        let mut length = Vec::new();
        write_number(header.len() as u64, &mut length);
        let mut out = Vec::with_capacity(64 + header.len() / 2);
        out.push(VERSION);
        let mut encoder = DeflateEncoder::new(out, Compression::fast());
        let written = [&length, &header, &places]
            .iter()
            .try_for_each(|part| encoder.write_all(part));
        // A vector takes all that is written.
        written.and_then(|()| encoder.finish()).unwrap_or_default().into()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// `Corrupt` when it is anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let inflated = Self::inflate(bytes, limits::METADATA_LENGTH_MAX_BYTES)?.ok_or_else(no_metadata)?;
        Self::parse(inflated.into())
    }

    /// The first half of [`from_bytes`](Self::from_bytes); `None` when more than `most` bytes come out.
    pub(crate) fn inflate(bytes: &[u8], most: usize) -> Result<Option<Vec<u8>>> {
        let deflated = bytes.strip_prefix(&[VERSION]).ok_or_else(no_metadata)?;
        let mut inflated = Vec::with_capacity(deflated.len().saturating_mul(4).min(1 << 20));
        DeflateDecoder::new(deflated)
            .take(most as u64 + 1)
            .read_to_end(&mut inflated)
            .map_err(|error| no_metadata().with_source(error))?;
        Ok((inflated.len() <= most).then_some(inflated))
    }

    /// The second half: the values of the header are slices of `inflated`.
    pub(crate) fn parse(inflated: Bytes) -> Result<Self> {
        Self::read(&inflated).ok_or_else(no_metadata)
    }

    fn read(inflated: &Bytes) -> Option<Self> {
        let mut rest: &[u8] = inflated;
        let length = usize::try_from(read_number(&mut rest)?).ok()?;
        let header = compact::from_bytes(&inflated.slice_ref(rest.split_off(..length)?)).ok()?;
        let mut bulk = Vec::new();
        for _ in 0..read_number(&mut rest)? {
            let count = read_number(&mut rest)?;
            if count % 2 == 0 || count > 2 * limits::SEQUENCE_DEPTH_MAX as u64 + 1 {
                return None;
            }
            let steps = (0..count).map(|_| u32::try_from(read_number(&mut rest)?).ok());
            let path = ElementPath {
                steps: steps.collect::<Option<_>>()?,
            };
            let (vr, offset, length, swapped) = read_place(&mut rest)?;
            bulk.push(BulkValue {
                path,
                vr,
                offset,
                length,
                swapped,
            });
        }
        let mut pixel_data = None;
        if !rest.is_empty() {
            let tag = tag_of(u32::try_from(read_number(&mut rest)?).ok()?);
            let (vr, offset, length, _) = read_place(&mut rest)?;
            pixel_data = Some(PixelData {
                tag,
                vr,
                offset,
                length,
            });
        }
        rest.is_empty().then_some(Self {
            header,
            bulk,
            pixel_data,
        })
    }
}

fn no_metadata() -> Error {
    let what = "not the metadata of an instance";
    Error::new(ErrorKind::Corrupt, "metadata.from_bytes", what)
}

fn write_place(vr: VR, offset: u64, length: Option<u64>, swapped: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&vr.to_bytes());
    let has_length = if length.is_some() { HAS_LENGTH } else { 0 };
    out.push(has_length | swapped << SWAPPED_SHIFT);
    write_number(offset, out);
    if let Some(length) = length {
        write_number(length, out);
    }
}

fn read_place(rest: &mut &[u8]) -> Option<(VR, u64, Option<u64>, u8)> {
    let [first, second, flags] = *rest.split_off(..3)?.first_chunk()?;
    let vr = syntax::vr([first, second])?;
    let offset = read_number(rest)?;
    let length = match flags & HAS_LENGTH {
        0 => None,
        _ => Some(read_number(rest)?),
    };
    let swapped = flags >> SWAPPED_SHIFT;
    matches!(swapped, 1 | 2 | 4 | 8).then_some((vr, offset, length, swapped))
}

#[cfg(test)]
mod tests;
