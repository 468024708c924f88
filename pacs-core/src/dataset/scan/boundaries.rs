//! Where the elements of the top level begin, and nothing else: [`Boundaries`].

use bytes::{BufMut, BytesMut};
use dicom_core::Tag;

use super::holding::Holding;
use super::level::Content;
use super::walk::{State, Walker};
use crate::dataset::syntax::{self, Encoding, ITEM_END, SEQUENCE_END};
use crate::error::Result;

/// Behind the last element that can be told: zeros that fill up, or what makes no sense.
pub(crate) const END: Tag = Tag(0xFFFF, 0xFFFF);

/// The beginning of an element of the top level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Boundary {
    pub(crate) tag: Tag,
    /// The first byte of its header, from the start of the data set.
    pub(crate) start: u64,
    /// Behind its value, when its length says that.
    pub(crate) end: Option<u64>,
}

/// Finds the elements of the top level in a data set that is not deflated, as leniently as a
/// [`Scanner`](super::Scanner). Holds no value.
pub(crate) struct Boundaries(Walker);

impl Boundaries {
    pub(crate) fn new(transfer_syntax: &str) -> Self {
        let encoding = Encoding::of(transfer_syntax);
        let mut walker = Walker::new(encoding, syntax::is_video(transfer_syntax), Holding::NOTHING);
        walker.boundaries = Some(Vec::new());
        Self(walker)
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.push(bytes)
    }

    /// The elements that were found since the last call.
    pub(crate) fn take(&mut self) -> Vec<Boundary> {
        self.0.boundaries.replace(Vec::new()).unwrap_or_default()
    }

    /// Up to here it is told to which element the bytes belong.
    pub(crate) fn told(&self) -> u64 {
        match self.0.state {
            State::Header => self.0.position - self.0.carried as u64,
            State::Length { .. } if self.0.levels.is_empty() => self.0.element_start,
            _ => self.0.position,
        }
    }

    /// How elements are laid out, as their first one shows.
    pub(crate) fn encoding(&self) -> Encoding {
        self.0.encoding
    }

    /// What must stand between the end of the bytes pushed and a further element: the delimiters that are
    /// missing. `None` when the data set ends inside an element.
    pub(crate) fn delimiters(&self) -> Option<BytesMut> {
        let Walker {
            state,
            carry,
            carried,
            levels,
            ..
        } = &self.0;
        let filled = levels.is_empty() && carry[..*carried].iter().all(|&byte| byte == 0);
        if !matches!(state, State::Header) || *carried > 0 && !filled {
            return None;
        }
        let mut out = BytesMut::new();
        for level in levels.iter().rev() {
            let tag = match level.content {
                _ if level.defined => return None,
                Content::Item(_) => ITEM_END,
                Content::Sequence(_) | Content::Fragments(_) => SEQUENCE_END,
            };
            if level.encoding.big_endian {
                out.put_u16(tag.0);
                out.put_u16(tag.1);
            } else {
                out.put_u16_le(tag.0);
                out.put_u16_le(tag.1);
            }
            out.put_u32(0);
        }
        Some(out)
    }
}
