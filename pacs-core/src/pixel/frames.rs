//! Puts the fragments of encapsulated pixel data together to frames (PS3.5 A.4).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::codec::unsupported;
use super::image::Image;
use crate::dataset::FrameTable;
use crate::error::Result;
use crate::limits;

/// What tells that a fragment begins a frame.
#[derive(Debug)]
enum Division {
    /// Offsets of the frames' first fragments, from the start of the data set.
    Starts(Vec<u64>),
    /// All fragments are one frame.
    Whole,
    /// Each fragment is a frame.
    Fragments,
    /// The first bytes of an image.
    Magic,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Frames {
    division: Division,
    count: u64,
    /// Of a compressed frame.
    frame_length_max: usize,
    table_is_given: bool,
    /// The Basic Offset Table, while its bytes come.
    basic: Option<BytesMut>,
    /// Where the fragment that comes begins, and its bytes.
    fragment: Option<(u64, Vec<Bytes>)>,
    current: Vec<Bytes>,
    held: usize,
    begun: u64,
    ready: VecDeque<Vec<Bytes>>,
}

impl Frames {
    /// Of the image's frames. `table` serves when it has as many.
    pub(super) fn new(
        image: &Image,
        table: Option<Arc<FrameTable>>,
        fragments_are_frames: bool,
    ) -> Result<Self> {
        let count = image.frames;
        let table = table.filter(|table| table.frames.len() as u64 == count);
        let table_is_given = table.is_some();
        let division = match table {
            Some(table) => Division::Starts(table.frames.iter().map(|extent| extent.offset).collect()),
            None if count == 1 => Division::Whole,
            None if fragments_are_frames => Division::Fragments,
            None => Division::Magic,
        };
        Ok(Self {
            division,
            count,
            frame_length_max: image.compressed_length_max()?,
            table_is_given,
            basic: Some(BytesMut::new()),
            fragment: None,
            current: Vec::new(),
            held: 0,
            begun: 0,
            ready: VecDeque::new(),
        })
    }

    /// A fragment begins whose value is at `offset`.
    pub(super) fn fragment(&mut self, offset: u64) {
        if self.basic.is_some() && self.fragment.is_none() {
            // The first item is the Basic Offset Table.
            self.fragment = Some((offset, Vec::new()));
            return;
        }
        if let Some(table) = self.basic.take() {
            self.fragment = None;
            self.basic_offsets(&table, offset);
        }
        self.end_fragment();
        self.fragment = Some((offset, Vec::new()));
    }

    /// Takes bytes of the fragment.
    pub(super) fn data(&mut self, bytes: Bytes) -> Result<()> {
        if let Some(table) = &mut self.basic {
            // One that is too long for the frames is of no use.
            if table.len() as u64 <= self.count.min(limits::FRAME_TABLE_ENTRIES_MAX as u64) * 4 {
                table.extend_from_slice(&bytes);
            }
            return Ok(());
        }
        self.held += bytes.len() + size_of::<Bytes>();
        // A frame is held until the next one has begun.
        if self.held > self.frame_length_max * 2 {
            return Err(unsupported(
                "a compressed frame is far larger than what it describes",
            ));
        }
        if let Some((_, fragment)) = &mut self.fragment {
            fragment.push(bytes);
        }
        Ok(())
    }

    /// The pixel data ends.
    pub(super) fn end(&mut self) {
        if self.basic.take().is_some() {
            self.fragment = None;
        }
        self.end_fragment();
        self.end_frame();
    }

    /// The next frame that is whole: the bytes of its fragments.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let mut pieces = self.ready.pop_front()?;
        if pieces.len() == 1 {
            return pieces.pop();
        }
        Some(Bytes::from(pieces.concat()))
    }

    /// Takes the Basic Offset Table, which counts from the first fragment's item.
    fn basic_offsets(&mut self, table: &[u8], first: u64) {
        let offsets = table.as_chunks::<4>().0;
        if self.table_is_given || offsets.len() as u64 != self.count {
            return;
        }
        let starts: Vec<u64> = offsets
            .iter()
            .map(|&offset| first + u64::from(u32::from_le_bytes(offset)))
            .collect();
        if starts.first() == Some(&first) && starts.is_sorted_by(|a, b| a < b) {
            self.division = Division::Starts(starts);
        }
    }

    fn end_fragment(&mut self) {
        let Some((offset, pieces)) = self.fragment.take() else {
            return;
        };
        let begins = match &self.division {
            Division::Starts(starts) => {
                let next = usize::try_from(self.begun).ok().and_then(|at| starts.get(at));
                next.is_some_and(|&start| start <= offset)
            }
            Division::Whole => self.begun == 0,
            Division::Fragments => true,
            Division::Magic => self.begun == 0 || begins_image(&pieces),
        };
        if begins {
            self.end_frame();
            self.begun += 1;
            self.held = pieces.iter().map(Bytes::len).sum();
        }
        self.current.extend(pieces);
    }

    fn end_frame(&mut self) {
        if self.begun > 0 {
            self.ready.push_back(std::mem::take(&mut self.current));
        }
    }
}

/// Whether a compressed image begins in a fragment: JPEG or JPEG-LS (SOI), JPEG 2000 (codestream or box).
fn begins_image(pieces: &[Bytes]) -> bool {
    let mut first = pieces.iter().flatten().copied();
    let magic: [u8; 4] = std::array::from_fn(|_| first.next().unwrap_or(0x55));
    matches!(
        magic,
        [0xFF, 0xD8, ..] | [0xFF, 0x4F, 0xFF, 0x51] | [0, 0, 0, 0x0C]
    )
}
