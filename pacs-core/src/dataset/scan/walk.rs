//! The state machine of a scan: from bytes that pass by to elements (PS3.5 section 7).
//!
//! It holds what the limits allow and passes over the rest, so memory follows neither the data set's
//! size nor any length in it. Sequences are a stack of [`Level`]s, never a call within a call.

use bytes::Bytes;
use dicom_core::{Tag, VR};

use super::PixelData;
use super::boundaries::{self, Boundary};
use super::bulk::Noted;
use super::holding::Holding;
use super::level::{Content, Level};
use super::problem::{Problem, ProblemKind};
use crate::dataset::frames::FrameTableBuilder;
use crate::dataset::model::{Element, FrameTable};
use crate::dataset::syntax::{Encoding, ITEM, ITEM_END, SEQUENCE_END};
use crate::error::Result;

/// What a value is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Element,
    BasicOffsetTable,
    ExtendedOffsetTable,
    ExtendedOffsetTableLengths,
}

pub(super) enum State {
    /// Collects the 8 bytes of an element's tag and what follows, or of an item's tag and length.
    Header,
    /// Collects the 4 bytes of a long length (PS3.5 table 7.1-1).
    Length { tag: Tag, vr: Option<VR> },
    /// Collects a value that is held.
    Value {
        tag: Tag,
        vr: VR,
        big_endian: bool,
        purpose: Purpose,
        left: usize,
        buffer: Vec<u8>,
    },
    /// Passes over what is not held.
    Skip { tag: Tag, left: u64 },
    /// Behind the last element, where only zeros may stand.
    Trailing,
    /// The structure is lost; the rest passes by.
    Lost,
}

/// See the module's text.
pub(super) struct Walker {
    pub(super) encoding: Encoding,
    pub(super) holding: Holding,
    pub(super) video: bool,
    pub(super) position: u64,
    pub(super) state: State,
    pub(super) carry: [u8; 8],
    pub(super) carried: usize,
    pub(super) levels: Vec<Level>,
    pub(super) root: Vec<Element>,
    pub(super) fresh: bool,
    pub(super) last_root: Option<Tag>,
    pub(super) signed: bool,
    pub(super) held: usize,
    pub(super) held_nested: usize,
    /// Where an element of the top level begins whose header is being read.
    pub(super) element_start: u64,
    /// Where elements of the top level begin, when that is asked for; then no frame table is made.
    pub(super) boundaries: Option<Vec<Boundary>>,
    /// Values that are not held, when that is asked for; then no frame table is made.
    pub(super) noted: Option<Noted>,
    pub(super) builder: FrameTableBuilder,
    pub(super) pixel_data: Option<PixelData>,
    pub(super) frames: Option<FrameTable>,
    pub(super) left_out: Vec<Tag>,
    pub(super) left_out_count: u64,
    pub(super) problems: Vec<Problem>,
}

/// How many zeros stand first, looked at many at once.
fn leading_zeros(bytes: &[u8]) -> usize {
    let (blocks, _) = bytes.as_chunks::<64>();
    let is_zero = |block: &&[u8; 64]| block.iter().fold(0, |all, byte| all | byte) == 0;
    let zeros = 64 * blocks.iter().take_while(is_zero).count();
    zeros + bytes[zeros..].iter().take_while(|&&byte| byte == 0).count()
}

impl Walker {
    pub(super) fn new(encoding: Encoding, video: bool, holding: Holding) -> Self {
        Self {
            encoding,
            holding,
            video,
            position: 0,
            state: State::Header,
            carry: [0; 8],
            carried: 0,
            levels: Vec::new(),
            root: Vec::new(),
            fresh: true,
            last_root: None,
            signed: false,
            held: 0,
            held_nested: 0,
            element_start: 0,
            boundaries: None,
            noted: None,
            builder: FrameTableBuilder::default(),
            pixel_data: None,
            frames: None,
            left_out: Vec::new(),
            left_out_count: 0,
            problems: Vec::new(),
        }
    }

    /// The elements of the top level so far, in the order they came, text not yet decoded.
    pub(super) fn root(&self) -> &[Element] {
        &self.root
    }

    pub(super) fn problem(&mut self, kind: ProblemKind, tag: Option<Tag>) {
        if self.problems.iter().all(|known| known.kind != kind) {
            self.problems.push(Problem {
                kind,
                offset: self.position,
                tag,
            });
        }
    }

    pub(super) fn lose(&mut self, kind: ProblemKind, tag: Option<Tag>) {
        self.problem(kind, tag);
        if self.levels.is_empty() {
            self.note_end();
        }
        self.state = State::Lost;
    }

    /// The 8 bytes that were just read are behind the last element that can be told.
    fn note_end(&mut self) {
        let start = self.position.saturating_sub(8);
        if let Some(boundaries) = &mut self.boundaries {
            boundaries.push(Boundary {
                tag: boundaries::END,
                start,
                end: None,
            });
        }
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, mut input: &[u8]) -> Result<()> {
        while !input.is_empty() {
            match &mut self.state {
                State::Header => {
                    if self.carried == 0 && self.room() < 8 {
                        self.skip_to_end_of_level();
                    } else if let Some(bytes) = self.collect::<8>(&mut input) {
                        self.header(bytes)?;
                    }
                }
                State::Length { tag, vr } => {
                    let (tag, vr) = (*tag, *vr);
                    if self.carried == 0 && self.room() < 4 {
                        self.skip_to_end_of_level();
                    } else if let Some(bytes) = self.collect::<4>(&mut input) {
                        let length = self.current_encoding().u32(bytes);
                        self.element(tag, vr, length, true)?;
                    }
                }
                State::Value { left, buffer, .. } => {
                    let take = (*left).min(input.len());
                    let (now, rest) = input.split_at(take);
                    input = rest;
                    *left -= take;
                    self.position += take as u64;
                    if *left > 0 {
                        buffer.extend_from_slice(now);
                    } else if buffer.is_empty() {
                        self.value(Bytes::copy_from_slice(now));
                    } else {
                        buffer.extend_from_slice(now);
                        let value = std::mem::take(buffer);
                        self.value(Bytes::from(value.into_boxed_slice()));
                    }
                }
                State::Skip { left, .. } => {
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    let (now, rest) = input.split_at(take);
                    input = rest;
                    *left -= take as u64;
                    let done = *left == 0;
                    self.position += take as u64;
                    self.builder.peek(now);
                    if done {
                        self.state = State::Header;
                        self.close_ended();
                    }
                }
                State::Trailing => {
                    let zeros = leading_zeros(input);
                    self.position += zeros as u64;
                    input = &input[zeros..];
                    if !input.is_empty() {
                        self.lose(ProblemKind::Unreadable, None);
                    }
                }
                State::Lost => {
                    self.position += input.len() as u64;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Says that nothing more comes; closes what is open. Returns whether the data set was whole.
    pub(super) fn finish(&mut self) -> bool {
        let at_boundary = match &self.state {
            State::Header if self.carried == 0 => true,
            State::Header if self.levels.is_empty() && self.carry[..self.carried].iter().all(|&b| b == 0) => {
                self.problem(ProblemKind::TrailingZeros, None);
                true
            }
            State::Header | State::Length { .. } => {
                self.problem(ProblemKind::Truncated, None);
                false
            }
            State::Value { tag, .. } | State::Skip { tag, .. } => {
                let tag = *tag;
                self.problem(ProblemKind::Truncated, Some(tag));
                false
            }
            State::Trailing => true,
            State::Lost => false,
        };
        if at_boundary && let Some(open) = self.levels.last() {
            let tag = open.tag;
            self.problem(ProblemKind::Unterminated, Some(tag));
        }
        let whole = at_boundary && self.levels.is_empty();
        while !self.levels.is_empty() {
            self.close();
        }
        whole
    }

    /// The elements of the top level, text not yet decoded.
    pub(super) fn into_root(self) -> Vec<Element> {
        self.root
    }

    /// Collects `N` (at most 8) bytes over any number of pushes.
    pub(super) fn collect<const N: usize>(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        if self.carried == 0
            && let Some((bytes, rest)) = input.split_first_chunk::<N>()
        {
            *input = rest;
            self.position += N as u64;
            return Some(*bytes);
        }
        let take = (N - self.carried).min(input.len());
        let (now, rest) = input.split_at(take);
        *input = rest;
        self.carry[self.carried..self.carried + take].copy_from_slice(now);
        self.carried += take;
        self.position += take as u64;
        if self.carried < N {
            return None;
        }
        self.carried = 0;
        self.carry.first_chunk().copied()
    }

    pub(super) fn current_encoding(&self) -> Encoding {
        self.levels.last().map_or(self.encoding, |level| level.encoding)
    }

    /// Where the innermost level ends at the latest.
    pub(super) fn end(&self) -> u64 {
        self.levels.last().map_or(u64::MAX, |level| level.end)
    }

    /// Bytes left in the innermost level.
    pub(super) fn room(&self) -> u64 {
        self.end().saturating_sub(self.position)
    }

    /// What stands in the rest of the innermost level is no element: passes over it.
    pub(super) fn skip_to_end_of_level(&mut self) {
        let tag = self.levels.last().map_or(ITEM, |level| level.tag);
        self.problem(ProblemKind::LengthBeyondParent, Some(tag));
        self.skip(tag, self.room());
    }

    /// What stands here makes no sense. Where a length around it tells how to go on, passes over the
    /// rest of that; else all that follows is lost.
    pub(super) fn unreadable(&mut self, tag: Tag) -> Result<()> {
        if self.end() == u64::MAX {
            self.lose(ProblemKind::Unreadable, Some(tag));
        } else {
            self.problem(ProblemKind::Unreadable, Some(tag));
            self.leave_out(tag);
            self.skip(tag, self.room());
        }
        Ok(())
    }

    pub(super) fn skip(&mut self, tag: Tag, length: u64) {
        if length == 0 {
            self.state = State::Header;
            self.close_ended();
        } else {
            self.state = State::Skip { tag, left: length };
        }
    }

    /// Takes the 8 bytes that begin an element or an item.
    pub(super) fn header(&mut self, bytes: [u8; 8]) -> Result<()> {
        loop {
            let encoding = self.current_encoding();
            let [g0, g1, e0, e1, v0, v1, l0, l1] = bytes;
            let tag = Tag(encoding.u16([g0, g1]), encoding.u16([e0, e1]));
            let length = encoding.u32([v0, v1, l0, l1]);
            match self.levels.last() {
                Some(Level {
                    content: Content::Sequence(_),
                    defined,
                    ..
                }) => match (tag, *defined) {
                    (ITEM, _) => return self.open_item(length),
                    (SEQUENCE_END, false) => return self.delimit(),
                    (SEQUENCE_END | ITEM_END, _) => return self.stray_delimiter(tag),
                    (_, false) => {
                        self.problem(ProblemKind::MissingDelimiter, Some(tag));
                        self.close();
                    }
                    (_, true) => return self.unreadable(tag),
                },
                Some(Level {
                    content: Content::Fragments(_),
                    ..
                }) => match tag {
                    ITEM => return self.fragment(length),
                    SEQUENCE_END => return self.delimit(),
                    ITEM_END => return self.stray_delimiter(tag),
                    _ => {
                        self.problem(ProblemKind::MissingDelimiter, Some(tag));
                        self.close();
                    }
                },
                Some(Level { defined: false, .. }) => match tag {
                    ITEM_END => return self.delimit(),
                    // It belongs to the sequence: look at it again there.
                    SEQUENCE_END | ITEM => {
                        self.problem(ProblemKind::MissingDelimiter, Some(tag));
                        self.close();
                    }
                    _ => return self.element_header(bytes),
                },
                Some(_) | None => match tag {
                    ITEM_END | SEQUENCE_END => return self.stray_delimiter(tag),
                    ITEM => return self.unreadable(tag),
                    Tag(0, 0) if length == 0 && self.levels.is_empty() => {
                        self.problem(ProblemKind::TrailingZeros, None);
                        self.note_end();
                        self.state = State::Trailing;
                        return Ok(());
                    }
                    _ => return self.element_header(bytes),
                },
            }
        }
    }

    pub(super) fn stray_delimiter(&mut self, tag: Tag) -> Result<()> {
        self.problem(ProblemKind::StrayDelimiter, Some(tag));
        self.close_ended();
        Ok(())
    }

    /// A delimiter ended the innermost level.
    pub(super) fn delimit(&mut self) -> Result<()> {
        self.close();
        self.state = State::Header;
        self.close_ended();
        Ok(())
    }
}
