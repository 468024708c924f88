//! What an element's header says, and what becomes of its value.

use bytes::Bytes;
use dicom_core::{Tag, VR};

use super::PixelData;
use super::boundaries::Boundary;
use super::problem::ProblemKind;
use super::walk::{Purpose, State, Walker};
use crate::dataset::layout::{self, Header};
use crate::dataset::model::{Element, Value};
use crate::dataset::syntax::{self, Encoding, UNDEFINED, dictionary_vr, is_pixel_data};
use crate::error::Result;
use crate::limits;

impl Walker {
    /// Takes the 8 bytes of an element of a data set or item.
    pub(super) fn element_header(&mut self, bytes: [u8; 8]) -> Result<()> {
        let mut encoding = self.current_encoding();
        if self.levels.is_empty() {
            self.element_start = self.position.saturating_sub(8);
        }
        let fresh = match self.levels.last_mut() {
            Some(level) => std::mem::take(&mut level.fresh),
            None => std::mem::take(&mut self.fresh),
        };
        if fresh && let Some((found, tag)) = layout::sniff(bytes, encoding, self.levels.is_empty()) {
            let kind = match (encoding.explicit, found.explicit) {
                (false, _) => ProblemKind::ExplicitInImplicit,
                (true, false) => ProblemKind::ImplicitInExplicit,
                (true, true) => ProblemKind::WrongByteOrder,
            };
            self.problem(kind, Some(tag));
            encoding = found;
            match self.levels.last_mut() {
                Some(level) => level.encoding = found,
                None => self.encoding = found,
            }
        }
        let Header {
            tag,
            vr,
            length,
            unknown_vr,
        } = Header::read(bytes, encoding);
        if unknown_vr {
            self.problem(ProblemKind::UnknownVr, Some(tag));
        }
        match length {
            Some(length) => self.element(tag, vr, length, encoding.explicit),
            None => {
                self.state = State::Length { tag, vr };
                Ok(())
            }
        }
    }

    /// An element's header is known: opens it, holds its value or passes over it.
    pub(super) fn element(&mut self, tag: Tag, vr: Option<VR>, length: u32, explicit: bool) -> Result<()> {
        self.state = State::Header;
        let encoding = self.current_encoding();
        let top = self.levels.is_empty();
        if top {
            if self.last_root.is_some_and(|last| tag <= last) {
                self.problem(ProblemKind::OutOfOrder, Some(tag));
            }
            self.last_root = Some(tag);
            let start = self.element_start;
            let end = (length != UNDEFINED).then(|| self.position.saturating_add(u64::from(length)));
            if let Some(boundaries) = &mut self.boundaries {
                boundaries.push(Boundary { tag, start, end });
            }
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
            self.note(tag, vr, Some(bytes));
            self.skip(tag, bytes);
            return Ok(());
        }
        let purpose = match tag {
            Tag(0x7FE0, 0x0001) if top && self.noted.is_none() => Purpose::ExtendedOffsetTable,
            Tag(0x7FE0, 0x0002) if top && self.noted.is_none() => Purpose::ExtendedOffsetTableLengths,
            _ => Purpose::Element,
        };
        let wanted = match purpose {
            Purpose::Element => whole && self.wants(tag, vr, bytes),
            _ if self.boundaries.is_some() => false,
            _ if !whole || bytes > (limits::FRAME_TABLE_ENTRIES_MAX as u64) * 8 => false,
            // The bytes, and the numbers made of them.
            table => {
                let lengths = table == Purpose::ExtendedOffsetTableLengths;
                self.builder.claims_extended(lengths, bytes as usize * 2)
            }
        };
        if !whole {
            self.leave_out(tag);
        }
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
    pub(super) fn resolve(&self, tag: Tag, explicit: bool, encoding: Encoding) -> VR {
        match dictionary_vr(tag, self.signed) {
            // The byte order of numbers under UN is nobody's promise in big endian.
            Some(vr) if explicit && encoding.big_endian && syntax::number_size(vr) > 1 => VR::UN,
            Some(vr) => vr,
            None => VR::UN,
        }
    }

    pub(super) fn note_pixel_data(&mut self, tag: Tag, vr: VR, length: Option<u64>) {
        self.pixel_data.get_or_insert(PixelData {
            tag,
            vr,
            offset: self.position,
            length,
        });
    }

    /// A value that is held has been read.
    pub(super) fn value(&mut self, bytes: Bytes) {
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
}
