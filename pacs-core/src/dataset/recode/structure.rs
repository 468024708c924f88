//! What headers say: which element, sequence, item or value comes, and what is written for it.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::output::Output;
use super::walk::{Content, Level, PixelEvent, Sink, State, Walk, invalid};
use crate::dataset::layout::{self, Header};
use crate::dataset::syntax::{
    Encoding, ITEM, ITEM_END, SEQUENCE_END, UNDEFINED, dictionary_vr, is_pixel_data,
};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

impl Walk {
    /// Takes the 8 bytes that begin an element or an item.
    pub(super) fn header(&mut self, bytes: [u8; 8]) -> Result<()> {
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
        if fresh && let Some((found, _)) = layout::sniff(bytes, encoding, top) {
            encoding = found;
            match self.levels.last_mut() {
                Some(level) => level.encoding = found,
                None => self.encoding = found,
            }
        }
        let Header { tag, vr, length, .. } = Header::read(bytes, encoding);
        match length {
            Some(length) => self.element(tag, vr, length, encoding.explicit),
            None => {
                self.state = State::Length { tag, vr };
                Ok(())
            }
        }
    }

    /// An element's header is known.
    pub(super) fn element(&mut self, tag: Tag, told: Option<VR>, length: u32, explicit: bool) -> Result<()> {
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
    pub(super) fn put_overrides(&mut self, tag: Option<Tag>) {
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
                    "encapsulated pixel data in a native transfer syntax",
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
    pub(super) fn close_ended(&mut self) {
        while let Some(level) = self.levels.last()
            && level.end <= self.position
        {
            self.close();
        }
    }

    /// Closes the innermost level.
    pub(super) fn close(&mut self) {
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
