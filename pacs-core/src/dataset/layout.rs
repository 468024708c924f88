//! Reads the header of an element as real senders write it: for the scan and for the recoder.

use dicom_core::{Tag, VR};

use super::syntax::{self, Encoding, dictionary_vr, has_long_length};

/// What the first 8 bytes of an element say (PS3.5 7.1.2, 7.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) tag: Tag,
    /// `None` when no VR stands there, or none that is known.
    pub(crate) vr: Option<VR>,
    /// `None` when it follows in 4 bytes more.
    pub(crate) length: Option<u32>,
    /// A VR should stand there, and what does is none that is known.
    pub(crate) unknown_vr: bool,
}

impl Header {
    pub(crate) fn read(bytes: [u8; 8], encoding: Encoding) -> Self {
        let [g0, g1, e0, e1, v0, v1, l0, l1] = bytes;
        let tag = Tag(encoding.u16([g0, g1]), encoding.u16([e0, e1]));
        let long = encoding.u32([v0, v1, l0, l1]);
        if !encoding.explicit {
            return Self {
                tag,
                vr: None,
                length: Some(long),
                unknown_vr: false,
            };
        }
        let short = u32::from(encoding.u16([l0, l1]));
        if let Some(vr) = syntax::vr([v0, v1]) {
            return Self {
                tag,
                vr: Some(vr),
                length: (!has_long_length(vr)).then_some(short),
                unknown_vr: false,
            };
        }
        let length = if v0.is_ascii_uppercase() && v1.is_ascii_uppercase() && short == 0 {
            // PS3.5 6.2.2: every VR that is yet to come has the long form.
            None
        } else if is_printable([v0, v1]) || (v0, v1) == (0, 0) && short != 0 {
            Some(short)
        } else {
            // No VR at all: this element, or all that follow, is implicit.
            Some(long)
        };
        Self {
            tag,
            vr: None,
            length,
            unknown_vr: true,
        }
    }
}

/// Looks at the first element of a data set or item: is it laid out otherwise than `expected`?
/// Answers how, and the tag that says so. At the `top` its byte order may be the other one too.
pub(crate) fn sniff(bytes: [u8; 8], expected: Encoding, top: bool) -> Option<(Encoding, Tag)> {
    let [g0, g1, e0, e1, v0, v1, ..] = bytes;
    let tag = |encoding: Encoding| Tag(encoding.u16([g0, g1]), encoding.u16([e0, e1]));
    let found = |encoding: Encoding| Some((encoding, tag(encoding)));
    let Some(vr) = syntax::vr([v0, v1]) else {
        let tag = tag(Encoding::IMPLICIT);
        let known = dictionary_vr(tag, false).is_some() || tag.0 % 2 == 1;
        let implicit = expected.explicit && !is_printable([v0, v1]) && known;
        return implicit.then_some((Encoding::IMPLICIT, tag));
    };
    let agrees = |encoding: Encoding| {
        dictionary_vr(tag(encoding), false).is_some_and(|known| {
            known == vr || matches!((known, vr), (VR::US, VR::SS) | (VR::OW, VR::OB | VR::US))
        })
    };
    if !expected.explicit {
        return found(Encoding::EXPLICIT).filter(|_| agrees(expected));
    }
    let other = Encoding {
        explicit: true,
        big_endian: !expected.big_endian,
    };
    found(other).filter(|_| top && !agrees(expected) && agrees(other))
}

/// Whether a deflated data set stands in a zlib wrapper (RFC 1950: method 8, window of 32 KiB, header
/// checksum), which the Standard does not have (PS3.5 A.5) and real writers write.
pub(crate) fn has_zlib_header(bytes: &[u8]) -> bool {
    matches!(bytes, [0x78, flags, ..] if (0x7800 + u32::from(*flags)).is_multiple_of(31))
}

fn is_printable(bytes: [u8; 2]) -> bool {
    bytes.iter().all(|byte| (0x20..0x7F).contains(byte))
}
