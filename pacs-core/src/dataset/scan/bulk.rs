//! Values that metadata does not hold: which they are, and where they lie.

use dicom_core::{Tag, VR};

use super::level::{Content, Level};
use super::walk::{State, Walker};
use crate::dataset::metadata::{BulkValue, ElementPath};
use crate::dataset::syntax::{self, is_pixel_data};
use crate::limits;

/// What was noted so far.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// In the order they came.
    pub(super) values: Vec<BulkValue>,
    /// There is more than is held.
    pub(super) is_beyond_limit: bool,
}

/// Whether a value is bulk data. The choice is the server's (PS3.18 10.4.1.1.2), among the VRs of F.2.2.
pub(super) fn is_bulk(tag: Tag, vr: VR, length: u64) -> bool {
    let inline_max = match vr {
        _ if is_pixel_data(tag) => return true,
        VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN => {
            limits::INLINE_BINARY_LENGTH_MAX_BYTES
        }
        VR::DS
        | VR::FD
        | VR::FL
        | VR::IS
        | VR::LT
        | VR::SL
        | VR::SS
        | VR::ST
        | VR::SV
        | VR::UC
        | VR::UL
        | VR::US
        | VR::UT
        | VR::UV => limits::INLINE_VALUE_LENGTH_MAX_BYTES,
        _ => limits::INLINE_LENGTH_MAX_BYTES,
    };
    length > inline_max
}

impl Walker {
    /// Notes the value that begins here, when that is asked for.
    pub(super) fn note(&mut self, tag: Tag, vr: VR, length: Option<u64>) {
        if self.noted.is_none() {
            return;
        }
        let path = self.path(tag);
        if !self.charge(path.size()) {
            return;
        }
        let offset = self.position;
        let swapped = match self.current_encoding().big_endian {
            // 8 at most.
            true => syntax::number_size(vr) as u8,
            false => 1,
        };
        if let Some(noted) = &mut self.noted {
            noted.values.push(BulkValue {
                path,
                vr,
                offset,
                length,
                swapped,
            });
        }
    }

    fn path(&self, tag: Tag) -> ElementPath {
        let mut path = ElementPath::default();
        for level in &self.levels {
            if let Content::Sequence(items) = &level.content {
                // The item that is open is behind those that were closed.
                let number = u32::try_from(items.len() + 1).unwrap_or(u32::MAX);
                path.enter(level.tag, number);
            }
        }
        path.with_tag(tag)
    }

    /// How many of the bytes that come next change nothing but the position.
    pub(super) fn skippable(&self) -> u64 {
        match self.state {
            State::Skip { left, .. } => left,
            State::Lost => u64::MAX,
            _ => 0,
        }
    }

    /// Passes over so many bytes, at most [`skippable`](Self::skippable).
    pub(super) fn jump(&mut self, bytes: u64) {
        self.position = self.position.saturating_add(bytes);
        if let State::Skip { left, .. } = &mut self.state {
            *left = left.saturating_sub(bytes);
            if *left == 0 {
                self.state = State::Header;
                self.close_ended();
            }
        }
    }

    /// Whether the next bytes are those of an encapsulated value of the top level.
    pub(super) fn is_in_fragments(&self) -> bool {
        let [level] = self.levels.as_slice() else {
            return false;
        };
        matches!(
            level,
            Level {
                content: Content::Fragments(_),
                ..
            }
        ) && !matches!(self.state, State::Lost)
    }

    /// Passes over fragments, up to the item or delimiter that begins at `position`.
    pub(super) fn jump_fragments(&mut self, position: u64) {
        if self.is_in_fragments() && position > self.position {
            if let Some(level) = self.levels.last_mut() {
                level.fresh = false;
            }
            self.position = position;
            self.carried = 0;
            self.state = State::Header;
        }
    }
}
