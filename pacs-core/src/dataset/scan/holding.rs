//! How much of a data set is held in memory.

use dicom_core::{Tag, VR};

use super::bulk;
use super::walk::Walker;
use crate::limits;

/// What an element or item costs in memory beside its value.
const OVERHEAD_BYTES: usize = 64;
/// A value up to this length may also use the reserve.
const SHORT_VALUE_BYTES: usize = 1024;

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
    /// For one of which only the structure counts.
    pub(super) const NOTHING: Holding = Holding {
        value_bytes: 0,
        total_bytes: 0,
        nested_bytes: 0,
        reserve_bytes: 0,
    };
    /// For the metadata of an instance: values that are not held are noted.
    pub(super) const METADATA: Holding = Holding {
        value_bytes: limits::METADATA_LENGTH_MAX_BYTES,
        total_bytes: limits::METADATA_LENGTH_MAX_BYTES,
        nested_bytes: limits::METADATA_LENGTH_MAX_BYTES,
        reserve_bytes: 0,
    };
    /// For the header of an instance that is de-identified.
    pub(super) const DEIDENTIFIED: Holding = Holding {
        value_bytes: limits::DEIDENTIFIED_HEADER_LENGTH_MAX_BYTES,
        total_bytes: limits::DEIDENTIFIED_HEADER_LENGTH_MAX_BYTES,
        nested_bytes: limits::DEIDENTIFIED_HEADER_LENGTH_MAX_BYTES,
        reserve_bytes: 0,
    };
    /// For a data set that is held whole.
    pub(super) const WHOLE: Holding = Holding {
        value_bytes: limits::PARSED_LENGTH_MAX_BYTES,
        total_bytes: limits::PARSED_LENGTH_MAX_BYTES,
        nested_bytes: limits::PARSED_LENGTH_MAX_BYTES,
        reserve_bytes: 0,
    };
}

impl Walker {
    /// Decides whether a value is held, and takes its cost from the budget if so.
    pub(super) fn wants(&mut self, tag: Tag, vr: VR, length: u64) -> bool {
        // Group Length says nothing once values are in normal form (PS3.5 7.2); padding never does.
        if tag.1 == 0 || tag == Tag(0xFFFC, 0xFFFC) {
            return false;
        }
        if self.noted.is_some() && bulk::is_bulk(tag, vr, length) {
            self.note(tag, vr, Some(length));
            return false;
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let wanted = length <= self.holding.value_bytes && self.charge(length);
        if !wanted {
            self.leave_out(tag);
        }
        wanted
    }

    pub(super) fn charge(&mut self, length: usize) -> bool {
        let fits = self.fits(length);
        if !fits && let Some(noted) = &mut self.noted {
            noted.is_beyond_limit = true;
        }
        fits
    }

    fn fits(&mut self, length: usize) -> bool {
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

    pub(super) fn leave_out(&mut self, tag: Tag) {
        let tag = self.levels.first().map_or(tag, |level| level.tag);
        self.left_out_count += 1;
        if self.left_out.last() != Some(&tag) && self.left_out.len() < limits::LEFT_OUT_NAMED_MAX {
            self.left_out.push(tag);
        }
    }
}
