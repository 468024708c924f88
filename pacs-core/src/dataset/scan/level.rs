//! Sequences, items and encapsulated values: what is open, how it opens and closes.

use dicom_core::{Tag, VR};

use super::problem::ProblemKind;
use super::walk::{Purpose, State, Walker};
use crate::dataset::model::{DataSet, Element, Value};
use crate::dataset::syntax::{Encoding, ITEM, UNDEFINED, is_pixel_data};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

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
    /// Whether its elements are held.
    pub(super) keep: bool,
    /// No element has been seen in it yet.
    pub(super) fresh: bool,
}

#[derive(Debug)]
pub(super) enum Content {
    Sequence(Vec<DataSet>),
    Item(Vec<Element>),
    /// `true` when these are the frames of the instance itself.
    Fragments(bool),
}

impl Walker {
    pub(super) fn open_sequence(&mut self, tag: Tag, length: Option<u64>, encoding: Encoding) -> Result<()> {
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

    pub(super) fn open_item(&mut self, length: u32) -> Result<()> {
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

    pub(super) fn open_fragments(&mut self, tag: Tag, vr: VR) -> Result<()> {
        let own = self.levels.is_empty()
            && is_pixel_data(tag)
            && self.pixel_data.is_none()
            && self.boundaries.is_none();
        if own {
            self.note_pixel_data(tag, vr, None);
        } else {
            self.leave_out(tag);
        }
        self.note(tag, vr, None);
        let encoding = self.current_encoding();
        let frames = own && self.noted.is_none();
        self.open(Content::Fragments(frames), tag, None, encoding, false);
        Ok(())
    }

    pub(super) fn open(
        &mut self,
        content: Content,
        tag: Tag,
        length: Option<u64>,
        encoding: Encoding,
        keep: bool,
    ) {
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
    pub(super) fn fragment(&mut self, length: u32) -> Result<()> {
        let Some(level) = self.levels.last_mut() else {
            return Ok(());
        };
        let (tag, own) = (level.tag, matches!(level.content, Content::Fragments(true)));
        let first = std::mem::take(&mut level.fresh);
        if length == UNDEFINED {
            return self.unreadable(tag);
        }
        let mut bytes = u64::from(length);
        if bytes > self.room() {
            self.problem(ProblemKind::LengthBeyondParent, Some(tag));
            bytes = self.room();
        }
        if own
            && first
            && bytes > 0
            && bytes <= (limits::FRAME_TABLE_ENTRIES_MAX as u64) * 4
            && self.builder.claims(bytes as usize * 2)
        {
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

    pub(super) fn add(&mut self, element: Element) {
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
    pub(super) fn close_ended(&mut self) {
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
    pub(super) fn close(&mut self) {
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
                let cut = self
                    .problems
                    .iter()
                    .any(|known| matches!(known.kind, ProblemKind::Truncated | ProblemKind::Unterminated));
                self.frames = self.builder.build(frames, self.video, cut);
                if self.frames.is_none() && !self.builder.is_out_of_room() {
                    self.problem(ProblemKind::FrameTable, Some(level.tag));
                }
            }
            _ => {}
        }
    }
}
