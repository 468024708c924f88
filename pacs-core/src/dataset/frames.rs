//! Where the frames of encapsulated pixel data lie (PS3.5 A.4): made as fragments pass by.

use super::model::{FrameExtent, FrameTable};
use crate::budget::Share;
use crate::limits;

/// Fragments that room is claimed for at once.
const FRAGMENTS_PER_CLAIM: usize = 1024;

/// What a fragment and its frame take in vectors that may have grown to twice what is in them.
const FRAGMENT_ROOM_BYTES: usize = 2 * size_of::<Fragment>() + size_of::<FrameExtent>();

/// The header of an item: tag and length.
const ITEM_HEADER_BYTES: u64 = 8;

/// One fragment.
#[derive(Clone, Copy, Debug)]
struct Fragment {
    /// First byte of its value, from the start of the data set.
    offset: u64,
    length: u32,
    /// Its first bytes, enough to tell the start of a compressed image.
    magic: [u8; 4],
}

impl Fragment {
    /// Where its item begins, which is what offset tables count.
    fn item(&self) -> u64 {
        self.offset - ITEM_HEADER_BYTES
    }

    fn end(&self) -> u64 {
        self.offset + u64::from(self.length)
    }

    /// Whether a compressed image begins in it: JPEG or JPEG-LS (SOI), JPEG 2000 (codestream or
    /// box), JPEG XL (codestream), RLE (number of segments, PS3.5 G.5).
    fn starts_image(&self) -> bool {
        matches!(
            self.magic,
            [0xFF, 0xD8, ..]
                | [0xFF, 0x4F, 0xFF, 0x51]
                | [0, 0, 0, 0x0C]
                | [0xFF, 0x0A, ..]
                | [1..=15, 0, 0, 0]
        )
    }
}

/// Collects fragments and offset tables, and joins them to frames.
#[derive(Debug, Default)]
pub(super) struct FrameTableBuilder {
    fragments: Vec<Fragment>,
    overflow: bool,
    /// What the memory for all this is counted against, where it is counted. It holds on to what was made of one
    /// pixel data element while the next one comes.
    pub(super) room: Option<Share>,
    is_out_of_room: bool,
    /// Extended Offset Table and its lengths.
    claimed: [bool; 2],
    /// Bytes of the last fragment's magic still to come.
    peek: usize,
    basic: Vec<u32>,
    extended: Vec<u64>,
    extended_lengths: Vec<u64>,
}

impl FrameTableBuilder {
    /// Whether there is room for so many bytes; they count from then on. Without room no table is made.
    pub(super) fn claims(&mut self, bytes: usize) -> bool {
        let fits = self.room.as_mut().is_none_or(|room| room.grow(bytes));
        if !fits {
            self.is_out_of_room = true;
            self.forget();
            if let Some(room) = &mut self.room {
                room.give_back();
            }
        }
        fits
    }

    /// As [`claims`](Self::claims), for the Extended Offset Table or its lengths; a second one counts for
    /// nothing.
    pub(super) fn claims_extended(&mut self, lengths: bool, bytes: usize) -> bool {
        !std::mem::replace(&mut self.claimed[usize::from(lengths)], true) && self.claims(bytes)
    }

    fn forget(&mut self) {
        self.overflow = false;
        self.fragments = Vec::new();
        self.basic = Vec::new();
        self.extended = Vec::new();
        self.extended_lengths = Vec::new();
    }

    /// Whether there is no table because there was no room for it.
    pub(super) fn is_out_of_room(&self) -> bool {
        self.is_out_of_room
    }

    pub(super) fn basic_offsets(&mut self, table: &[u8]) {
        self.basic = table
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| u32::from_le_bytes(*b))
            .collect();
    }

    pub(super) fn extended_offsets(&mut self, table: &[u8]) {
        self.extended = table
            .as_chunks::<8>()
            .0
            .iter()
            .map(|b| u64::from_le_bytes(*b))
            .collect();
    }

    pub(super) fn extended_lengths(&mut self, table: &[u8]) {
        self.extended_lengths = table
            .as_chunks::<8>()
            .0
            .iter()
            .map(|b| u64::from_le_bytes(*b))
            .collect();
    }

    /// A fragment begins whose value is at `offset`.
    pub(super) fn fragment(&mut self, offset: u64, length: u32) {
        self.peek = 0;
        if self.is_out_of_room {
            return;
        }
        if self.fragments.len() >= limits::FRAME_TABLE_ENTRIES_MAX {
            self.overflow = true;
            return;
        }
        if self.fragments.len().is_multiple_of(FRAGMENTS_PER_CLAIM)
            && !self.claims(FRAGMENTS_PER_CLAIM * FRAGMENT_ROOM_BYTES)
        {
            return;
        }
        self.peek = 4.min(length as usize);
        self.fragments.push(Fragment {
            offset,
            length,
            magic: [0x55; 4],
        });
    }

    /// Bytes of the last fragment pass by.
    pub(super) fn peek(&mut self, bytes: &[u8]) {
        if self.peek == 0 {
            return;
        }
        if let Some(fragment) = self.fragments.last_mut() {
            let wanted = 4.min(fragment.length as usize);
            for &byte in bytes.iter().take(self.peek) {
                fragment.magic[wanted - self.peek] = byte;
                self.peek -= 1;
            }
        }
    }

    /// The table of `frames` frames, made of what came so far. `None` when frames can't be told apart.
    ///
    /// It has fewer where fewer came. `cut` is whether the data set ends before the fragments do: then offset
    /// tables may point behind its end.
    pub(super) fn build(&mut self, frames: u64, video: bool, cut: bool) -> Option<FrameTable> {
        let table = self.table(frames, video, cut);
        self.forget();
        table
    }

    fn table(&self, frames: u64, video: bool, cut: bool) -> Option<FrameTable> {
        if self.overflow || self.is_out_of_room {
            return None;
        }
        let first = *self.fragments.first()?;
        let last = *self.fragments.last()?;
        if video {
            // The frames of a video are inside one stream (PS3.5 8.2.5 to 8.2.8).
            return Some(FrameTable {
                frames: vec![FrameExtent {
                    offset: first.offset,
                    length: last.end() - first.offset,
                }],
            });
        }
        if !self.extended.is_empty()
            && let Some(table) = self.by_extended(first.item(), cut)
        {
            return Some(table);
        }
        if !self.basic.is_empty()
            && let Some(table) = self.by_starts(self.basic.iter().map(|&o| u64::from(o)), first.item(), cut)
        {
            return Some(table);
        }
        let count = self.fragments.len() as u64;
        // Of the last one too little may have come to tell.
        let mut told = self.fragments.iter().rev().skip(usize::from(cut));
        if frames == count || frames > count && told.all(Fragment::starts_image) {
            let frames = self.fragments.iter().map(|fragment| FrameExtent {
                offset: fragment.offset,
                length: u64::from(fragment.length),
            });
            return Some(FrameTable {
                frames: frames.collect(),
            });
        }
        if frames <= 1 || self.fragments.len() == 1 {
            return Some(FrameTable {
                frames: vec![FrameExtent {
                    offset: first.offset,
                    length: last.end() - first.offset,
                }],
            });
        }
        let starts = self.fragments.iter().filter(|fragment| fragment.starts_image());
        if starts.clone().count() as u64 == frames && first.starts_image() {
            let base = first.item();
            return self.by_starts(starts.map(|fragment| fragment.item() - base), base, false);
        }
        None
    }

    /// Extended Offset Table (7FE0,0001) and its lengths (PS3.3 C.7.6.3.1.8): each frame is one fragment.
    fn by_extended(&self, base: u64, cut: bool) -> Option<FrameTable> {
        if self.extended.len() != self.extended_lengths.len() {
            return self.by_starts(self.extended.iter().copied(), base, cut);
        }
        let mut frames = Vec::with_capacity(self.extended.len());
        for (&offset, &length) in self.extended.iter().zip(&self.extended_lengths) {
            let item = base.checked_add(offset)?;
            if cut && self.ends_before(item) {
                break;
            }
            let fragment = self.fragments[self.at(item)?];
            // The length is without the byte that makes the fragment even.
            if length > u64::from(fragment.length) {
                return None;
            }
            frames.push(FrameExtent {
                offset: fragment.offset,
                length,
            });
        }
        Some(FrameTable { frames })
    }

    /// Frames that begin at the items at `starts`, counted from `base`, and reach to the next one.
    fn by_starts(&self, starts: impl Iterator<Item = u64>, base: u64, cut: bool) -> Option<FrameTable> {
        let mut firsts = Vec::new();
        let mut next = None;
        for start in starts {
            let item = base.checked_add(start)?;
            if cut && self.ends_before(item) {
                next = Some(item);
                break;
            }
            let at = self.at(item)?;
            if firsts.last().is_some_and(|&before| before >= at) {
                return None;
            }
            firsts.push(at);
        }
        // A table that leaves out the first fragments is no table.
        if firsts.first() != Some(&0) {
            return None;
        }
        let ends = firsts.iter().skip(1).copied().chain([self.fragments.len()]);
        let frames = firsts.iter().zip(ends).map(|(&first, end)| {
            let (first, last) = (self.fragments[first], self.fragments[end - 1]);
            FrameExtent {
                offset: first.offset,
                length: last.end() - first.offset,
            }
        });
        let mut frames: Vec<_> = frames.collect();
        // Of a frame of several fragments the last ones may be missing.
        if next.is_some() && next != self.fragments.last().map(Fragment::end) {
            frames.pop();
        }
        Some(FrameTable { frames })
    }

    /// Whether the last fragment's item begins before `item`.
    fn ends_before(&self, item: u64) -> bool {
        self.fragments.last().is_none_or(|last| last.item() < item)
    }

    /// The fragment whose item begins at `item`.
    fn at(&self, item: u64) -> Option<usize> {
        self.fragments.binary_search_by_key(&item, Fragment::item).ok()
    }
}
