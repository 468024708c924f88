//! The state machine of a [`Recoder`](super::Recoder): from elements in one layout to another.
//!
//! Sequences are a stack of [`Level`]s, never a call within a call.

// What a capturing walk says is for the transcoder, which may be left out.
#![cfg_attr(not(feature = "pixel"), allow(dead_code))]

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::Target;
use super::inflate::Inflater;
use super::output::Output;
use crate::dataset::syntax::{
    self, Encoding, ITEM, ITEM_END, SEQUENCE_END, UNDEFINED, dictionary_vr, has_long_length, is_pixel_data,
};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// Why [`Walk::step`] came back.
#[derive(Debug)]
pub(crate) enum Event {
    /// More of the source is needed.
    Starved,
    /// A piece can be taken.
    Output,
    /// The encapsulated pixel data of the instance.
    Pixel(PixelEvent),
}

/// What comes of encapsulated pixel data (PS3.5 A.4).
#[derive(Debug)]
pub(crate) enum PixelEvent {
    /// It begins.
    Begin,
    /// A fragment begins, whose value is at `offset` from the start of the source. The first is the
    /// Basic Offset Table.
    Fragment { offset: u64 },
    /// Bytes of the fragment.
    Data(Bytes),
    /// It ends.
    End,
}

#[derive(Debug)]
enum State {
    /// Collects the 8 bytes of an element's tag and what follows, or of an item's tag and length.
    Header,
    /// Collects the 4 bytes of a long length (PS3.5 table 7.1-1).
    Length {
        tag: Tag,
        vr: Option<VR>,
    },
    Value(Value),
    /// Behind the last element, where only zeros may stand.
    Trailing,
}

/// A value that passes by.
#[derive(Debug)]
struct Value {
    tag: Tag,
    left: u64,
    sink: Sink,
    /// The size of its numbers, when their bytes are to be swapped.
    swap: usize,
    /// What makes its length even.
    pad: Option<u8>,
    /// Pixel Representation, which is looked at.
    signed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sink {
    Write,
    Drop,
    Pixel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Sequence,
    Item,
    Fragments,
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
    sink: Sink,
    /// No element has been seen in it yet.
    fresh: bool,
    /// Whether Pixel Representation in it is 1.
    signed: Option<bool>,
    /// It was written with a length of zero, so nothing delimits it.
    empty: bool,
}

pub(crate) struct Walk {
    pub(crate) out: Output,
    encoding: Encoding,
    inflater: Option<Inflater>,
    /// Of the source, deflated if it is.
    queue: VecDeque<Bytes>,
    /// What is looked at now.
    input: Bytes,
    position: u64,
    state: State,
    carry: [u8; 8],
    carried: usize,
    levels: Vec<Level>,
    fresh: bool,
    signed: bool,
    overrides: VecDeque<(Tag, Option<Bytes>)>,
    /// The tags of all overrides, in order.
    overridden: Vec<Tag>,
    capture: bool,
    events: VecDeque<PixelEvent>,
    finished: bool,
}

impl Walk {
    pub(super) fn new(
        encoding: Encoding,
        deflated: bool,
        target: Target,
        overrides: Vec<(Tag, Option<Bytes>)>,
        capture: bool,
    ) -> Self {
        Self {
            out: Output::new(target),
            encoding,
            inflater: deflated.then(Inflater::new),
            queue: VecDeque::new(),
            input: Bytes::new(),
            position: 0,
            state: State::Header,
            carry: [0; 8],
            carried: 0,
            levels: Vec::new(),
            fresh: true,
            signed: false,
            overridden: overrides.iter().map(|(tag, _)| *tag).collect(),
            overrides: overrides.into(),
            capture,
            events: VecDeque::new(),
            finished: false,
        }
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.queue.push_back(bytes);
        }
    }

    /// Goes on until there is something to say.
    pub(crate) fn step(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Event::Pixel(event));
            }
            if self.out.ready() {
                return Ok(Event::Output);
            }
            if !self.fill()? {
                return Ok(Event::Starved);
            }
            match &self.state {
                State::Header if self.carried == 0 && self.room() < 8 => self.skip_to_end_of_level(),
                State::Header => {
                    if let Some(bytes) = self.collect::<8>() {
                        self.header(bytes)?;
                    }
                }
                State::Length { .. } if self.carried == 0 && self.room() < 4 => self.skip_to_end_of_level(),
                State::Length { tag, vr } => {
                    let (tag, vr) = (*tag, *vr);
                    if let Some(bytes) = self.collect::<4>() {
                        let length = self.current_encoding().u32(bytes);
                        self.element(tag, vr, length, true)?;
                    }
                }
                State::Value(_) => self.value(),
                State::Trailing => {
                    if self.input.iter().any(|&byte| byte != 0) {
                        return Err(invalid("bytes that are no element follow the last element"));
                    }
                    self.consume(self.input.len());
                }
            }
        }
    }

    /// Says that nothing more comes.
    pub(crate) fn finish(&mut self) -> Result<()> {
        if self.finished {
            return Ok(());
        }
        self.finished = true;
        let truncated = match &self.state {
            State::Header if self.carried == 0 => None,
            State::Header if self.levels.is_empty() && self.carry[..self.carried].iter().all(|&b| b == 0) => {
                None
            }
            State::Trailing => None,
            State::Header => Some(None),
            State::Length { tag, .. } => Some(Some(*tag)),
            State::Value(value) => Some(Some(value.tag)),
        };
        if let Some(tag) = truncated {
            let error = invalid("the data set ends inside an element");
            return Err(tag.into_iter().fold(error, Error::with_tag));
        }
        if let Some(inflater) = &self.inflater
            && !inflater.ended()
            && (self.position > 0 || !self.queue.is_empty())
        {
            return Err(invalid("the deflated stream ends early"));
        }
        // Delimiters that a sender forgot at the end cost no value.
        while !self.levels.is_empty() {
            self.close();
        }
        self.put_overrides(None);
        self.out.finish();
        Ok(())
    }

    /// Makes sure that there is input to look at.
    fn fill(&mut self) -> Result<bool> {
        while self.input.is_empty() {
            let Some(next) = self.queue.front_mut() else {
                return Ok(false);
            };
            match &mut self.inflater {
                None => self.input = self.queue.pop_front().unwrap_or_default(),
                Some(inflater) => {
                    let before = next.len();
                    self.input = inflater.inflate(next)?;
                    if next.is_empty() {
                        self.queue.pop_front();
                    } else if self.input.is_empty() && next.len() == before {
                        // A single first byte: it needs the next one.
                        let Some(first) = self.queue.pop_front() else {
                            return Ok(false);
                        };
                        let Some(second) = self.queue.pop_front() else {
                            self.queue.push_front(first);
                            return Ok(false);
                        };
                        let mut joined = BytesMut::from(&first[..]);
                        joined.extend_from_slice(&second);
                        self.queue.push_front(joined.freeze());
                    }
                }
            }
        }
        Ok(true)
    }

    fn consume(&mut self, count: usize) {
        self.input.advance(count);
        self.position += count as u64;
    }

    /// Collects `N` (at most 8) bytes over any number of pieces.
    fn collect<const N: usize>(&mut self) -> Option<[u8; N]> {
        if self.carried == 0
            && let Some(bytes) = self.input.first_chunk::<N>()
        {
            let bytes = *bytes;
            self.consume(N);
            return Some(bytes);
        }
        let take = (N - self.carried).min(self.input.len());
        self.carry[self.carried..self.carried + take].copy_from_slice(&self.input[..take]);
        self.carried += take;
        self.consume(take);
        if self.carried < N {
            return None;
        }
        self.carried = 0;
        self.carry.first_chunk().copied()
    }

    fn current_encoding(&self) -> Encoding {
        self.levels.last().map_or(self.encoding, |level| level.encoding)
    }

    fn current_sink(&self) -> Sink {
        self.levels.last().map_or(Sink::Write, |level| level.sink)
    }

    /// Whether Pixel Representation in scope is 1.
    fn current_signed(&self) -> bool {
        let nested = self.levels.iter().rev().find_map(|level| level.signed);
        nested.unwrap_or(self.signed)
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
        self.pass(tag, self.room(), Sink::Drop, VR::UN);
    }

    /// Lets a value of this length pass by; its header has been written.
    fn pass(&mut self, tag: Tag, length: u64, sink: Sink, vr: VR) {
        let big_endian = self.current_encoding().big_endian;
        let text = syntax::is_text(vr) && vr != VR::UI;
        self.state = State::Value(Value {
            tag,
            left: length,
            sink,
            swap: if big_endian { syntax::number_size(vr) } else { 1 },
            pad: (length % 2 == 1).then_some(if text { b' ' } else { 0 }),
            signed: tag == tags::PIXEL_REPRESENTATION,
        });
        if length == 0 {
            self.state = State::Header;
            self.close_ended();
        }
    }

    /// The next bytes of a value.
    fn value(&mut self) {
        let State::Value(value) = &mut self.state else {
            return;
        };
        let take = usize::try_from(value.left)
            .unwrap_or(usize::MAX)
            .min(self.input.len());
        // The bytes of a number that are still to be joined with the next piece, then the piece.
        let held = std::mem::take(&mut self.carried);
        self.position += take as u64;
        value.left -= take as u64;
        let last = value.left == 0;
        let mut piece = self.input.split_to(take);
        if value.swap > 1 {
            let mut numbers = BytesMut::with_capacity(held + piece.len());
            numbers.extend_from_slice(&self.carry[..held]);
            numbers.extend_from_slice(&piece);
            let whole = numbers.len() - numbers.len() % value.swap;
            for number in numbers[..whole].chunks_exact_mut(value.swap) {
                number.reverse();
            }
            if !last {
                let rest = numbers.split_off(whole);
                self.carry[..rest.len()].copy_from_slice(&rest);
                self.carried = rest.len();
            }
            piece = numbers.freeze();
        }
        if value.signed
            && let Some(&low) = piece.first()
        {
            value.signed = false;
            match self.levels.last_mut() {
                Some(level) => level.signed = Some(low == 1),
                None => self.signed = low == 1,
            }
        }
        match value.sink {
            Sink::Write => {
                self.out.value(piece);
                if last && let Some(pad) = value.pad {
                    self.out.put(&[pad]);
                }
            }
            Sink::Pixel if piece.is_empty() => {}
            Sink::Pixel => self.events.push_back(PixelEvent::Data(piece)),
            Sink::Drop => {}
        }
        if last {
            self.state = State::Header;
            self.close_ended();
        }
    }

    /// Takes the 8 bytes that begin an element or an item.
    fn header(&mut self, bytes: [u8; 8]) -> Result<()> {
        loop {
            let encoding = self.current_encoding();
            let [g0, g1, e0, e1, v0, v1, l0, l1] = bytes;
            let tag = Tag(encoding.u16([g0, g1]), encoding.u16([e0, e1]));
            let length = encoding.u32([v0, v1, l0, l1]);
            let Some(level) = self.levels.last() else {
                return match tag {
                    ITEM_END | SEQUENCE_END => self.stray_delimiter(),
                    ITEM => Err(invalid("an item stands outside of any sequence")),
                    Tag(0, 0) if length == 0 => {
                        self.state = State::Trailing;
                        Ok(())
                    }
                    _ => self.element_header(bytes),
                };
            };
            match (level.content, tag) {
                (Content::Sequence, ITEM) => return self.open_item(length),
                (Content::Fragments, ITEM) => return self.fragment(length),
                (Content::Sequence | Content::Fragments, SEQUENCE_END) | (Content::Item, ITEM_END)
                    if !level.defined =>
                {
                    self.close();
                    self.close_ended();
                    return Ok(());
                }
                (Content::Fragments, ITEM_END)
                | (Content::Sequence, ITEM_END | SEQUENCE_END)
                | (Content::Item, ITEM_END) => return self.stray_delimiter(),
                (Content::Item, SEQUENCE_END) if level.defined => return self.stray_delimiter(),
                (Content::Item, ITEM) if level.defined => {
                    return Err(invalid("an item stands directly in an item").with_tag(level.tag));
                }
                (Content::Sequence, _) if level.defined => {
                    self.skip_to_end_of_level();
                    return Ok(());
                }
                // The delimiter is missing: what comes is looked at again outside.
                (Content::Item, SEQUENCE_END | ITEM) | (Content::Sequence | Content::Fragments, _) => {
                    self.close();
                }
                (Content::Item, _) => return self.element_header(bytes),
            }
        }
    }

    /// A delimiter where nothing is to be delimited is passed over.
    fn stray_delimiter(&mut self) -> Result<()> {
        self.state = State::Header;
        self.close_ended();
        Ok(())
    }

    /// Takes the 8 bytes of an element of a data set or item.
    fn element_header(&mut self, bytes: [u8; 8]) -> Result<()> {
        let mut encoding = self.current_encoding();
        let top = self.levels.is_empty();
        let fresh = match self.levels.last_mut() {
            Some(level) => std::mem::take(&mut level.fresh),
            None => std::mem::take(&mut self.fresh),
        };
        if fresh && let Some(found) = sniff(bytes, encoding, top) {
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
        if v0.is_ascii_uppercase() && v1.is_ascii_uppercase() && short == 0 {
            // PS3.5 6.2.2: every VR that is yet to come has the long form.
            self.state = State::Length { tag, vr: None };
            return Ok(());
        }
        let printable = (0x20..0x7F).contains(&v0) && (0x20..0x7F).contains(&v1);
        let long_form = !printable && ((v0, v1) != (0, 0) || short == 0);
        self.element(tag, None, if long_form { long } else { short }, true)
    }

    /// An element's header is known.
    fn element(&mut self, tag: Tag, told: Option<VR>, length: u32, explicit: bool) -> Result<()> {
        self.state = State::Header;
        let mut sink = self.current_sink();
        if self.levels.is_empty() {
            self.put_overrides(Some(tag));
            if self.overridden.binary_search(&tag).is_ok() {
                sink = Sink::Drop;
            }
        }
        if tag.1 == 0 {
            sink = Sink::Drop;
        }
        let mut vr = told.unwrap_or_else(|| dictionary_vr(tag, self.current_signed()).unwrap_or(VR::UN));
        if length == UNDEFINED {
            if is_pixel_data(tag) || matches!(told, Some(VR::OB | VR::OW)) {
                return self.open_fragments(tag, vr, sink);
            }
            // PS3.5 6.2.2: inside UN of undefined length all is Implicit VR Little Endian.
            let implicit = explicit && matches!(told, None | Some(VR::UN));
            return self.open_sequence(tag, None, implicit, sink);
        }
        let bytes = u64::from(length).min(self.room());
        if vr == VR::SQ {
            if told.is_some() || !explicit {
                return self.open_sequence(tag, Some(bytes), false, sink);
            }
            // Its VR is none that is known, so nobody says how its items are laid out.
            vr = VR::UN;
        }
        if self.capture && self.levels.is_empty() && tag == tags::PIXEL_DATA && sink == Sink::Write {
            return Err(Error::new(
                ErrorKind::Mismatch,
                "data_set.recode",
                "the pixel data is not encapsulated as its transfer syntax says",
            )
            .with_tag(tag));
        }
        if sink == Sink::Write {
            // It came from a u32 that is not the largest.
            let even = (bytes + bytes % 2) as u32;
            self.out.header(tag, vr, even);
        }
        self.pass(tag, bytes, sink, vr);
        Ok(())
    }

    /// Writes the overrides that stand before `tag`, and the one in its place.
    fn put_overrides(&mut self, tag: Option<Tag>) {
        while let Some((next, _)) = self.overrides.front()
            && tag.is_none_or(|tag| *next <= tag)
        {
            if let Some((_, Some(bytes))) = self.overrides.pop_front() {
                self.out.put(&bytes);
            }
        }
    }

    fn open_sequence(&mut self, tag: Tag, length: Option<u64>, implicit: bool, sink: Sink) -> Result<()> {
        if self.levels.len() / 2 >= limits::SEQUENCE_DEPTH_MAX {
            let context = format!(
                "sequences are nested deeper than {} levels",
                limits::SEQUENCE_DEPTH_MAX
            );
            return Err(Error::new(ErrorKind::Invalid, "data_set.recode", context).with_tag(tag));
        }
        if sink == Sink::Write {
            self.out.header(tag, VR::SQ, Output::nesting_length(length));
        }
        let encoding = if implicit {
            Encoding::IMPLICIT
        } else {
            self.current_encoding()
        };
        self.open(Content::Sequence, tag, length, encoding, sink);
        Ok(())
    }

    fn open_item(&mut self, length: u32) -> Result<()> {
        let tag = self.levels.last().map_or(ITEM, |level| level.tag);
        let length = (length != UNDEFINED).then_some(u64::from(length).min(self.room()));
        let sink = self.current_sink();
        if sink == Sink::Write {
            self.out.item(ITEM, Output::nesting_length(length));
        }
        self.open(Content::Item, tag, length, self.current_encoding(), sink);
        Ok(())
    }

    fn open_fragments(&mut self, tag: Tag, vr: VR, sink: Sink) -> Result<()> {
        let mut sink = sink;
        let unsupported = |context: &'static str| {
            Err(Error::new(ErrorKind::Unsupported, "data_set.recode", context).with_tag(tag))
        };
        if sink == Sink::Write {
            if self.capture && self.levels.is_empty() && tag == tags::PIXEL_DATA {
                sink = Sink::Pixel;
                self.events.push_back(PixelEvent::Begin);
            } else if self.capture && is_pixel_data(tag) {
                return unsupported("compressed pixel data inside a sequence can't be transcoded");
            } else if is_pixel_data(tag) {
                return Err(Error::new(
                    ErrorKind::Mismatch,
                    "data_set.recode",
                    "the pixel data is encapsulated though its transfer syntax is native",
                )
                .with_tag(tag));
            } else if !self.out.explicit() {
                return unsupported("a value in fragments can't be said in Implicit VR Little Endian");
            } else {
                self.out.header(tag, vr, UNDEFINED);
            }
        }
        self.open(Content::Fragments, tag, None, self.current_encoding(), sink);
        Ok(())
    }

    fn open(&mut self, content: Content, tag: Tag, length: Option<u64>, encoding: Encoding, sink: Sink) {
        let around = self.end();
        self.levels.push(Level {
            content,
            tag,
            end: length.map_or(around, |length| self.position.saturating_add(length).min(around)),
            defined: length.is_some(),
            encoding,
            sink,
            fresh: true,
            signed: None,
            empty: length == Some(0),
        });
        self.state = State::Header;
        self.close_ended();
    }

    /// A fragment, or the Basic Offset Table that stands in the place of the first (PS3.5 A.4).
    fn fragment(&mut self, length: u32) -> Result<()> {
        let tag = self.levels.last().map_or(ITEM, |level| level.tag);
        if length == UNDEFINED {
            return Err(invalid("a fragment has no length").with_tag(tag));
        }
        let length = u64::from(length).min(self.room());
        let sink = self.current_sink();
        match sink {
            // It came from a u32 that is not the largest.
            Sink::Write => self.out.item(ITEM, (length + length % 2) as u32),
            Sink::Pixel => self.events.push_back(PixelEvent::Fragment {
                offset: self.position,
            }),
            Sink::Drop => {}
        }
        self.pass(tag, length, sink, VR::OB);
        Ok(())
    }

    /// Closes every level that ends here.
    fn close_ended(&mut self) {
        while let Some(level) = self.levels.last()
            && level.end <= self.position
        {
            self.close();
        }
    }

    /// Closes the innermost level.
    fn close(&mut self) {
        self.state = State::Header;
        let Some(level) = self.levels.pop() else {
            return;
        };
        match (level.content, level.sink) {
            (_, Sink::Drop) => {}
            (_, Sink::Pixel) => self.events.push_back(PixelEvent::End),
            (_, Sink::Write) if level.empty => {}
            (Content::Item, Sink::Write) => self.out.item(ITEM_END, 0),
            (Content::Sequence | Content::Fragments, Sink::Write) => self.out.item(SEQUENCE_END, 0),
        }
    }
}

fn invalid(context: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, "data_set.recode", context)
}

/// Looks at the first element of a data set or item: is it laid out otherwise than `expected`?
fn sniff(bytes: [u8; 8], expected: Encoding, top: bool) -> Option<Encoding> {
    let [g0, g1, e0, e1, v0, v1, ..] = bytes;
    let tag = |encoding: Encoding| Tag(encoding.u16([g0, g1]), encoding.u16([e0, e1]));
    let Some(vr) = VR::from_binary([v0, v1]) else {
        let printable = (0x20..0x7F).contains(&v0) && (0x20..0x7F).contains(&v1);
        let tag = tag(Encoding::IMPLICIT);
        let known = dictionary_vr(tag, false).is_some() || tag.0 % 2 == 1;
        return (expected.explicit && !printable && known).then_some(Encoding::IMPLICIT);
    };
    let agrees = |tag: Tag| {
        dictionary_vr(tag, false).is_some_and(|known| {
            known == vr || matches!((known, vr), (VR::US, VR::SS) | (VR::OW, VR::OB | VR::US))
        })
    };
    if !expected.explicit {
        return agrees(tag(expected)).then_some(Encoding::EXPLICIT);
    }
    let other = Encoding {
        explicit: true,
        big_endian: !expected.big_endian,
    };
    (top && !agrees(tag(expected)) && agrees(tag(other))).then_some(other)
}
