//! The state machine of a scan: from bytes that pass by to elements (PS3.5 section 7).
//!
//! It holds what the limits allow and passes over the rest, so memory follows neither the data set's
//! size nor any length in it. Sequences are a stack of [`Level`]s, never a call within a call.

use bytes::Bytes;
use dicom_core::{Tag, VR};

use super::PixelData;
use super::problem::{Problem, ProblemKind};
use crate::dataset::frames::FrameTableBuilder;
use crate::dataset::model::{DataSet, Element, FrameTable, Value};
use crate::dataset::syntax::{
    self, Encoding, ITEM, ITEM_END, SEQUENCE_END, UNDEFINED, dictionary_vr, has_long_length, is_pixel_data,
};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// What an element or item costs in memory beside its value.
const OVERHEAD_BYTES: usize = 64;
/// A value up to this length may also use the reserve.
const SHORT_VALUE_BYTES: usize = 1024;
/// The tags of elements that were left out which are named, the rest is counted.
const LEFT_OUT_NAMED_MAX: usize = 64;

/// How much a walk may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holding {
    /// One value.
    pub(super) value_bytes: usize,
    /// All values and what they cost beside.
    pub(super) total_bytes: usize,
    /// The part of the total that values in sequences may use, so that a long sequence that comes
    /// early can't displace identifying attributes that come late.
    pub(super) nested_bytes: usize,
    /// The part of the total that is kept for short values at the top level, for the same reason.
    pub(super) reserve_bytes: usize,
}

impl Holding {
    /// For the header of an instance.
    pub(super) const HEADER: Holding = Holding {
        value_bytes: limits::HEADER_VALUE_LENGTH_MAX_BYTES,
        total_bytes: limits::HEADER_LENGTH_MAX_BYTES,
        nested_bytes: limits::HEADER_LENGTH_MAX_BYTES / 2,
        reserve_bytes: limits::HEADER_LENGTH_MAX_BYTES / 4,
    };
    /// For a data set that is held whole.
    pub(super) const WHOLE: Holding = Holding {
        value_bytes: limits::PARSED_LENGTH_MAX_BYTES,
        total_bytes: limits::PARSED_LENGTH_MAX_BYTES,
        nested_bytes: limits::PARSED_LENGTH_MAX_BYTES,
        reserve_bytes: 0,
    };
}

/// What a value is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Element,
    BasicOffsetTable,
    ExtendedOffsetTable,
    ExtendedOffsetTableLengths,
}

#[derive(Debug)]
enum State {
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

/// What is open: a sequence, one of its items, or the fragments of an encapsulated value.
#[derive(Debug)]
struct Level {
    content: Content,
    tag: Tag,
    /// Where it ends at the latest.
    end: u64,
    /// Whether its own length says where it ends.
    defined: bool,
    encoding: Encoding,
    /// Whether its elements are held.
    keep: bool,
    /// No element has been seen in it yet.
    fresh: bool,
}

#[derive(Debug)]
enum Content {
    Sequence(Vec<DataSet>),
    Item(Vec<Element>),
    /// `true` when these are the frames of the instance itself.
    Fragments(bool),
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Walker {
    encoding: Encoding,
    holding: Holding,
    video: bool,
    position: u64,
    state: State,
    carry: [u8; 8],
    carried: usize,
    levels: Vec<Level>,
    root: Vec<Element>,
    fresh: bool,
    last_root: Tag,
    signed: bool,
    held: usize,
    held_nested: usize,
    builder: FrameTableBuilder,
    pub(super) pixel_data: Option<PixelData>,
    pub(super) frames: Option<FrameTable>,
    pub(super) left_out: Vec<Tag>,
    pub(super) left_out_count: u64,
    pub(super) problems: Vec<Problem>,
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
            last_root: Tag(0, 0),
            signed: false,
            held: 0,
            held_nested: 0,
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
        self.state = State::Lost;
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
                    if input.iter().any(|&byte| byte != 0) {
                        self.lose(ProblemKind::Unreadable, None);
                    }
                    self.position += input.len() as u64;
                    return Ok(());
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
    fn collect<const N: usize>(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
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

    fn current_encoding(&self) -> Encoding {
        self.levels.last().map_or(self.encoding, |level| level.encoding)
    }

    /// Where the innermost level ends at the latest.
    fn end(&self) -> u64 {
        self.levels.last().map_or(u64::MAX, |level| level.end)
    }

    /// Bytes left in the innermost level.
    fn room(&self) -> u64 {
        self.end().saturating_sub(self.position)
    }

    /// What stands in the rest of the innermost level is no element: passes over it.
    fn skip_to_end_of_level(&mut self) {
        let tag = self.levels.last().map_or(ITEM, |level| level.tag);
        self.problem(ProblemKind::LengthBeyondParent, Some(tag));
        self.skip(tag, self.room());
    }

    fn skip(&mut self, tag: Tag, length: u64) {
        if length == 0 {
            self.state = State::Header;
            self.close_ended();
        } else {
            self.state = State::Skip { tag, left: length };
        }
    }

    /// Takes the 8 bytes that begin an element or an item.
    fn header(&mut self, bytes: [u8; 8]) -> Result<()> {
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
                    (SEQUENCE_END, false) => return self.delimit(1),
                    (SEQUENCE_END | ITEM_END, _) => return self.stray_delimiter(tag),
                    (_, false) => {
                        self.problem(ProblemKind::MissingDelimiter, Some(tag));
                        self.close();
                    }
                    (_, true) => {
                        self.problem(ProblemKind::Unreadable, Some(tag));
                        self.skip(tag, self.room());
                        return Ok(());
                    }
                },
                Some(Level {
                    content: Content::Fragments(_),
                    ..
                }) => match tag {
                    ITEM => return self.fragment(length),
                    SEQUENCE_END => return self.delimit(1),
                    ITEM_END => return self.stray_delimiter(tag),
                    _ => {
                        self.problem(ProblemKind::MissingDelimiter, Some(tag));
                        self.close();
                    }
                },
                Some(Level { defined: false, .. }) => match tag {
                    ITEM_END => return self.delimit(1),
                    SEQUENCE_END => {
                        self.problem(ProblemKind::MissingDelimiter, Some(tag));
                        // The delimiter is the sequence's: look at it again there.
                        self.close();
                    }
                    ITEM => {
                        self.problem(ProblemKind::MissingDelimiter, Some(tag));
                        self.close();
                    }
                    _ => return self.element_header(bytes),
                },
                Some(_) | None => match tag {
                    ITEM_END | SEQUENCE_END => return self.stray_delimiter(tag),
                    ITEM => {
                        self.lose(ProblemKind::Unreadable, Some(tag));
                        return Ok(());
                    }
                    Tag(0, 0) if length == 0 && self.levels.is_empty() => {
                        self.problem(ProblemKind::TrailingZeros, None);
                        self.state = State::Trailing;
                        return Ok(());
                    }
                    _ => return self.element_header(bytes),
                },
            }
        }
    }

    fn stray_delimiter(&mut self, tag: Tag) -> Result<()> {
        self.problem(ProblemKind::StrayDelimiter, Some(tag));
        self.close_ended();
        Ok(())
    }

    /// A delimiter ended `levels` levels.
    fn delimit(&mut self, levels: usize) -> Result<()> {
        for _ in 0..levels {
            self.close();
        }
        self.state = State::Header;
        self.close_ended();
        Ok(())
    }

    /// Takes the 8 bytes of an element of a data set or item.
    fn element_header(&mut self, bytes: [u8; 8]) -> Result<()> {
        let mut encoding = self.current_encoding();
        let fresh = match self.levels.last_mut() {
            Some(level) => std::mem::take(&mut level.fresh),
            None => std::mem::take(&mut self.fresh),
        };
        if fresh && let Some(found) = self.sniff(bytes, encoding) {
            encoding = found;
            match self.levels.last_mut() {
                Some(level) => level.encoding = found,
                None => self.encoding = found,
            }
        }
        let [g0, g1, e0, e1, v0, v1, l0, l1] = bytes;
        let tag = Tag(encoding.u16([g0, g1]), encoding.u16([e0, e1]));
        let long = encoding.u32([v0, v1, l0, l1]);
        if !encoding.explicit {
            return self.element(tag, None, long, false);
        }
        let short = u32::from(encoding.u16([l0, l1]));
        if let Some(vr) = VR::from_binary([v0, v1]) {
            if has_long_length(vr) {
                self.state = State::Length { tag, vr: Some(vr) };
                return Ok(());
            }
            return self.element(tag, Some(vr), short, true);
        }
        self.problem(ProblemKind::UnknownVr, Some(tag));
        if v0.is_ascii_uppercase() && v1.is_ascii_uppercase() && short == 0 {
            // PS3.5 6.2.2: every VR that is yet to come has the long form.
            self.state = State::Length { tag, vr: None };
            return Ok(());
        }
        let printable = (0x20..0x7F).contains(&v0) && (0x20..0x7F).contains(&v1);
        if printable || (v0, v1) == (0, 0) && short != 0 {
            return self.element(tag, None, short, true);
        }
        // No VR at all: one element, or all that follow, is implicit.
        self.element(tag, None, long, true)
    }

    /// Looks at the first element of a data set or item: is it laid out as `expected`?
    fn sniff(&mut self, bytes: [u8; 8], expected: Encoding) -> Option<Encoding> {
        let [g0, g1, e0, e1, v0, v1, ..] = bytes;
        let vr = VR::from_binary([v0, v1]);
        let tag = |encoding: Encoding| Tag(encoding.u16([g0, g1]), encoding.u16([e0, e1]));
        let here = tag(expected);
        if let Some(vr) = vr {
            let agrees = |tag: Tag| {
                dictionary_vr(tag, false).is_some_and(|known| {
                    known == vr || matches!((known, vr), (VR::US, VR::SS) | (VR::OW, VR::OB | VR::US))
                })
            };
            if !expected.explicit {
                if agrees(here) {
                    self.problem(ProblemKind::ExplicitInImplicit, Some(here));
                    return Some(Encoding::EXPLICIT);
                }
                return None;
            }
            let other = Encoding {
                explicit: true,
                big_endian: !expected.big_endian,
            };
            if self.levels.is_empty() && !agrees(here) && agrees(tag(other)) {
                self.problem(ProblemKind::WrongByteOrder, Some(tag(other)));
                return Some(other);
            }
            return None;
        }
        let printable = (0x20..0x7F).contains(&v0) && (0x20..0x7F).contains(&v1);
        let tag = tag(Encoding::IMPLICIT);
        let known = dictionary_vr(tag, false).is_some() || tag.0 % 2 == 1;
        if expected.explicit && !printable && known {
            self.problem(ProblemKind::ImplicitInExplicit, Some(tag));
            return Some(Encoding::IMPLICIT);
        }
        None
    }

    /// An element's header is known: opens it, holds its value or passes over it.
    fn element(&mut self, tag: Tag, vr: Option<VR>, length: u32, explicit: bool) -> Result<()> {
        self.state = State::Header;
        let encoding = self.current_encoding();
        let top = self.levels.is_empty();
        if top {
            if tag < self.last_root {
                self.problem(ProblemKind::OutOfOrder, Some(tag));
            }
            self.last_root = tag;
        }
        let told = vr.filter(|&vr| vr != VR::UN);
        let vr = match told {
            Some(vr) => vr,
            None => self.resolve(tag, explicit, encoding),
        };
        if length == UNDEFINED {
            let fragments = is_pixel_data(tag) || matches!(told, Some(VR::OB | VR::OW));
            if fragments {
                return self.open_fragments(tag, vr);
            }
            // PS3.5 6.2.2: inside UN of undefined length all is Implicit VR Little Endian.
            let inside = if explicit && told.is_none() {
                Encoding::IMPLICIT
            } else {
                encoding
            };
            return self.open_sequence(tag, None, inside);
        }
        if length % 2 == 1 {
            self.problem(ProblemKind::OddLength, Some(tag));
        }
        let mut bytes = u64::from(length);
        let mut whole = true;
        if bytes > self.room() {
            self.problem(ProblemKind::LengthBeyondParent, Some(tag));
            bytes = self.room();
            whole = false;
        }
        if vr == VR::SQ {
            let inside = if explicit && told.is_none() {
                Encoding::IMPLICIT
            } else {
                encoding
            };
            return self.open_sequence(tag, Some(bytes), inside);
        }
        if top && is_pixel_data(tag) {
            self.note_pixel_data(tag, vr, Some(bytes));
            self.skip(tag, bytes);
            return Ok(());
        }
        let purpose = match tag {
            Tag(0x7FE0, 0x0001) if top => Purpose::ExtendedOffsetTable,
            Tag(0x7FE0, 0x0002) if top => Purpose::ExtendedOffsetTableLengths,
            _ => Purpose::Element,
        };
        let wanted = match purpose {
            Purpose::Element => whole && self.wants(tag, bytes),
            _ => whole && bytes <= (limits::FRAME_TABLE_ENTRIES_MAX as u64) * 8,
        };
        if !wanted {
            self.skip(tag, bytes);
            return Ok(());
        }
        // `wants` has bounded it far below the address space.
        let left = bytes as usize;
        self.state = State::Value {
            tag,
            vr,
            big_endian: encoding.big_endian,
            purpose,
            left,
            buffer: Vec::new(),
        };
        if left == 0 {
            self.value(Bytes::new());
        }
        Ok(())
    }

    /// The VR of an element whose bytes don't tell it, or tell UN.
    fn resolve(&self, tag: Tag, explicit: bool, encoding: Encoding) -> VR {
        match dictionary_vr(tag, self.signed) {
            // The byte order of numbers under UN is nobody's promise in big endian.
            Some(vr) if explicit && encoding.big_endian && syntax::number_size(vr) > 1 => VR::UN,
            Some(vr) => vr,
            None => VR::UN,
        }
    }

    /// Decides whether a value is held, and takes its cost from the budget if so.
    fn wants(&mut self, tag: Tag, length: u64) -> bool {
        // Group Length says nothing once values are in normal form (PS3.5 7.2); padding never does.
        if tag.1 == 0 || tag == Tag(0xFFFC, 0xFFFC) {
            return false;
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let wanted = length <= self.holding.value_bytes && self.charge(length);
        if !wanted {
            self.leave_out(tag);
        }
        wanted
    }

    fn charge(&mut self, length: usize) -> bool {
        let cost = length.saturating_add(OVERHEAD_BYTES);
        let Holding {
            total_bytes,
            nested_bytes,
            reserve_bytes,
            ..
        } = self.holding;
        if let Some(level) = self.levels.last() {
            if !level.keep || self.held_nested + cost > nested_bytes {
                return false;
            }
            if self.held + cost > total_bytes - reserve_bytes {
                return false;
            }
            self.held_nested += cost;
        } else {
            let reserve = if length > SHORT_VALUE_BYTES {
                reserve_bytes
            } else {
                0
            };
            if self.held + cost > total_bytes - reserve {
                return false;
            }
        }
        self.held += cost;
        true
    }

    fn leave_out(&mut self, tag: Tag) {
        let tag = self.levels.first().map_or(tag, |level| level.tag);
        self.left_out_count += 1;
        if self.left_out.last() != Some(&tag) && self.left_out.len() < LEFT_OUT_NAMED_MAX {
            self.left_out.push(tag);
        }
    }

    fn note_pixel_data(&mut self, tag: Tag, vr: VR, length: Option<u64>) {
        self.pixel_data.get_or_insert(PixelData {
            tag,
            vr,
            offset: self.position,
            length,
        });
    }

    fn open_sequence(&mut self, tag: Tag, length: Option<u64>, encoding: Encoding) -> Result<()> {
        let sequences = self.levels.len() / 2;
        if sequences >= limits::SEQUENCE_DEPTH_MAX {
            self.lose(ProblemKind::TooDeep, Some(tag));
            return Err(Error::new(
                ErrorKind::Invalid,
                "data_set.scan",
                format!(
                    "sequences are nested deeper than {} levels",
                    limits::SEQUENCE_DEPTH_MAX
                ),
            )
            .with_tag(tag));
        }
        let keep = self.charge(0);
        if !keep {
            self.leave_out(tag);
            if let Some(length) = length {
                self.skip(tag, length);
                return Ok(());
            }
        }
        self.open(Content::Sequence(Vec::new()), tag, length, encoding, keep);
        Ok(())
    }

    fn open_item(&mut self, length: u32) -> Result<()> {
        let encoding = self.current_encoding();
        let tag = self.levels.last().map_or(ITEM, |level| level.tag);
        let mut defined = (length != UNDEFINED).then_some(u64::from(length));
        if let Some(length) = &mut defined
            && *length > self.room()
        {
            self.problem(ProblemKind::LengthBeyondParent, Some(tag));
            *length = self.room();
        }
        let keep = self.charge(0);
        if !keep && self.levels.last().is_some_and(|level| level.keep) {
            self.leave_out(tag);
        }
        if !keep && let Some(length) = defined {
            self.skip(tag, length);
            return Ok(());
        }
        self.open(Content::Item(Vec::new()), tag, defined, encoding, keep);
        Ok(())
    }

    fn open_fragments(&mut self, tag: Tag, vr: VR) -> Result<()> {
        let own = self.levels.is_empty() && is_pixel_data(tag) && self.pixel_data.is_none();
        if own {
            self.note_pixel_data(tag, vr, None);
        } else {
            self.leave_out(tag);
        }
        let encoding = self.current_encoding();
        self.open(Content::Fragments(own), tag, None, encoding, false);
        Ok(())
    }

    fn open(&mut self, content: Content, tag: Tag, length: Option<u64>, encoding: Encoding, keep: bool) {
        let around = self.end();
        self.levels.push(Level {
            content,
            tag,
            end: length.map_or(around, |length| self.position.saturating_add(length).min(around)),
            defined: length.is_some(),
            encoding,
            keep,
            fresh: true,
        });
        self.state = State::Header;
        self.close_ended();
    }

    /// A fragment, or the Basic Offset Table that stands in the place of the first (PS3.5 A.4).
    fn fragment(&mut self, length: u32) -> Result<()> {
        let Some(level) = self.levels.last_mut() else {
            return Ok(());
        };
        let (tag, own) = (level.tag, matches!(level.content, Content::Fragments(true)));
        let first = std::mem::take(&mut level.fresh);
        if length == UNDEFINED {
            self.lose(ProblemKind::Unreadable, Some(tag));
            return Ok(());
        }
        let mut bytes = u64::from(length);
        if bytes > self.room() {
            self.problem(ProblemKind::LengthBeyondParent, Some(tag));
            bytes = self.room();
        }
        if own && first && bytes > 0 && bytes <= (limits::FRAME_TABLE_ENTRIES_MAX as u64) * 4 {
            self.state = State::Value {
                tag,
                vr: VR::UL,
                big_endian: false,
                purpose: Purpose::BasicOffsetTable,
                left: bytes as usize,
                buffer: Vec::new(),
            };
            return Ok(());
        }
        if own && !first {
            self.builder.fragment(self.position, length);
        }
        self.skip(tag, bytes);
        Ok(())
    }

    /// A value that is held has been read.
    fn value(&mut self, bytes: Bytes) {
        let State::Value {
            tag,
            vr,
            big_endian,
            purpose,
            ..
        } = std::mem::replace(&mut self.state, State::Header)
        else {
            return;
        };
        let bytes = if big_endian && syntax::number_size(vr) > 1 {
            let mut swapped = bytes.to_vec();
            syntax::swap(vr, &mut swapped);
            Bytes::from(swapped)
        } else {
            bytes
        };
        match purpose {
            Purpose::BasicOffsetTable => self.builder.basic_offsets(&bytes),
            Purpose::ExtendedOffsetTable => self.builder.extended_offsets(&bytes),
            Purpose::ExtendedOffsetTableLengths => self.builder.extended_lengths(&bytes),
            Purpose::Element => {
                if self.levels.is_empty() && tag == Tag(0x0028, 0x0103) {
                    self.signed = bytes.first() == Some(&1);
                }
                let value = Value::Bytes(bytes);
                self.add(Element { tag, vr, value });
            }
        }
        self.close_ended();
    }

    fn add(&mut self, element: Element) {
        match self.levels.last_mut() {
            None => self.root.push(element),
            Some(Level {
                content: Content::Item(elements),
                keep: true,
                ..
            }) => elements.push(element),
            Some(_) => {}
        }
    }

    /// Closes every level that ends here.
    fn close_ended(&mut self) {
        while let Some(level) = self.levels.last()
            && level.end <= self.position
        {
            if !level.defined {
                let tag = level.tag;
                self.problem(ProblemKind::MissingDelimiter, Some(tag));
            }
            self.close();
        }
    }

    /// Closes the innermost level.
    fn close(&mut self) {
        let Some(level) = self.levels.pop() else {
            return;
        };
        match level.content {
            Content::Sequence(items) if level.keep => self.add(Element {
                tag: level.tag,
                vr: VR::SQ,
                value: Value::Items(items),
            }),
            Content::Item(elements) if level.keep => {
                if let Some(Level {
                    content: Content::Sequence(items),
                    ..
                }) = self.levels.last_mut()
                {
                    items.push(DataSet::from(elements));
                }
            }
            Content::Fragments(true) => {
                let frames = self
                    .root
                    .iter()
                    .rfind(|element| element.tag == Tag(0x0028, 0x0008));
                let frames = frames
                    .and_then(|element| element.strings().next()?.parse::<u64>().ok())
                    .unwrap_or(1);
                self.frames = std::mem::take(&mut self.builder).build(frames, self.video);
                if self.frames.is_none() {
                    self.problem(ProblemKind::FrameTable, Some(level.tag));
                }
            }
            _ => {}
        }
    }
}
