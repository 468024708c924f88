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
use crate::dataset::syntax::{self, Encoding, ITEM};
use crate::error::{Error, ErrorKind, Result};

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
pub(super) enum State {
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
pub(super) struct Value {
    tag: Tag,
    left: u64,
    sink: Sink,
    /// The size of its numbers, when their bytes are to be swapped.
    swap: usize,
    /// What makes its length even.
    pad: Option<u8>,
    /// What is looked at as it passes.
    look: Option<Look>,
}

/// An attribute that says how others are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    PixelRepresentation,
    /// Of the instance itself.
    BitsAllocated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sink {
    Write,
    Drop,
    Pixel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Sequence,
    Item,
    Fragments,
}

/// What is open: a sequence, one of its items, or the fragments of an encapsulated value.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) content: Content,
    pub(super) tag: Tag,
    /// Where it ends at the latest.
    pub(super) end: u64,
    /// Whether its own length says where it ends.
    pub(super) defined: bool,
    pub(super) encoding: Encoding,
    pub(super) sink: Sink,
    /// No element has been seen in it yet.
    pub(super) fresh: bool,
    /// Whether Pixel Representation in it is 1.
    pub(super) signed: Option<bool>,
    /// It was written with a length of zero, so nothing delimits it.
    pub(super) empty: bool,
}

pub(crate) struct Walk {
    pub(crate) out: Output,
    pub(super) encoding: Encoding,
    inflater: Option<Inflater>,
    /// Of the source, deflated if it is.
    queue: VecDeque<Bytes>,
    /// What is looked at now.
    input: Bytes,
    pub(super) position: u64,
    pub(super) state: State,
    carry: [u8; 8],
    carried: usize,
    pub(super) levels: Vec<Level>,
    pub(super) fresh: bool,
    pub(super) signed: bool,
    /// Bits Allocated of the instance.
    bits_allocated: u8,
    pub(super) overrides: VecDeque<(Tag, Option<Bytes>)>,
    /// The tags of all overrides, in order.
    pub(super) overridden: Vec<Tag>,
    pub(super) capture: bool,
    pub(super) events: VecDeque<PixelEvent>,
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
            bits_allocated: 0,
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

    pub(super) fn current_encoding(&self) -> Encoding {
        self.levels.last().map_or(self.encoding, |level| level.encoding)
    }

    pub(super) fn current_sink(&self) -> Sink {
        self.levels.last().map_or(Sink::Write, |level| level.sink)
    }

    /// Whether Pixel Representation in scope is 1.
    pub(super) fn current_signed(&self) -> bool {
        let nested = self.levels.iter().rev().find_map(|level| level.signed);
        nested.unwrap_or(self.signed)
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
        self.pass(tag, self.room(), Sink::Drop, VR::UN);
    }

    /// Lets a value of this length pass by; its header has been written.
    pub(super) fn pass(&mut self, tag: Tag, length: u64, sink: Sink, vr: VR) {
        let big_endian = self.current_encoding().big_endian;
        let text = syntax::is_text(vr) && vr != VR::UI;
        let top = self.levels.is_empty();
        let cells = (top && tag == tags::PIXEL_DATA).then_some(usize::from(self.bits_allocated));
        let look = match tag {
            tags::PIXEL_REPRESENTATION => Some(Look::PixelRepresentation),
            tags::BITS_ALLOCATED if top => Some(Look::BitsAllocated),
            _ => None,
        };
        self.state = State::Value(Value {
            tag,
            left: length,
            sink,
            swap: if big_endian {
                syntax::swapped_size(vr, cells)
            } else {
                1
            },
            pad: (length % 2 == 1).then_some(if text { b' ' } else { 0 }),
            look,
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
        if let Some(look) = value.look
            && let Some(&low) = piece.first()
        {
            value.look = None;
            match (look, self.levels.last_mut()) {
                (Look::BitsAllocated, _) => self.bits_allocated = low,
                (Look::PixelRepresentation, Some(level)) => level.signed = Some(low == 1),
                (Look::PixelRepresentation, None) => self.signed = low == 1,
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
}

pub(super) fn invalid(context: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, "data_set.recode", context)
}
