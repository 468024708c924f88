//! How a transfer syntax lays out elements, and what a value representation says of a value's bytes.

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;

/// Implicit VR Little Endian.
pub(crate) const IMPLICIT_LITTLE: &str = "1.2.840.10008.1.2";
/// Explicit VR Little Endian.
pub(crate) const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";
/// Deflated Explicit VR Little Endian.
pub(crate) const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
/// Explicit VR Big Endian (retired).
pub(crate) const EXPLICIT_BIG: &str = "1.2.840.10008.1.2.2";
/// JPIP Referenced Deflate.
const JPIP_DEFLATED: &str = "1.2.840.10008.1.2.4.95";
/// JPIP HTJ2K Referenced Deflate.
const JPIP_HTJ2K_DEFLATED: &str = "1.2.840.10008.1.2.4.205";

/// Item (FFFE,E000).
pub(crate) const ITEM: Tag = Tag(0xFFFE, 0xE000);
/// Item Delimitation Item (FFFE,E00D).
pub(crate) const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
/// Sequence Delimitation Item (FFFE,E0DD).
pub(crate) const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);
/// The length that means "up to the delimiter" (PS3.5 7.1).
pub(crate) const UNDEFINED: u32 = u32::MAX;

/// How elements are laid out (PS3.5 7.1, annex A).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Encoding {
    pub(crate) explicit: bool,
    pub(crate) big_endian: bool,
}

impl Encoding {
    pub(crate) const IMPLICIT: Encoding = Encoding {
        explicit: false,
        big_endian: false,
    };
    pub(crate) const EXPLICIT: Encoding = Encoding {
        explicit: true,
        big_endian: false,
    };
    pub(crate) const BIG: Encoding = Encoding {
        explicit: true,
        big_endian: true,
    };

    /// Every syntax that is not known is taken for an encapsulated one, which all are Explicit VR
    /// Little Endian (PS3.5 A.4).
    pub(crate) fn of(transfer_syntax: &str) -> Encoding {
        match transfer_syntax {
            IMPLICIT_LITTLE => Encoding::IMPLICIT,
            EXPLICIT_BIG => Encoding::BIG,
            _ => Encoding::EXPLICIT,
        }
    }

    pub(crate) fn u16(self, bytes: [u8; 2]) -> u16 {
        if self.big_endian {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        }
    }

    pub(crate) fn u32(self, bytes: [u8; 4]) -> u32 {
        if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    }
}

/// Whether the data set is one deflated stream (PS3.5 A.5).
pub(crate) fn is_deflated(transfer_syntax: &str) -> bool {
    matches!(transfer_syntax, DEFLATED | JPIP_DEFLATED | JPIP_HTJ2K_DEFLATED)
}

/// Whether a frame may be anywhere in the fragments: the whole is one video stream (PS3.5 A.4.5 to A.4.7).
pub(crate) fn is_video(transfer_syntax: &str) -> bool {
    transfer_syntax
        .strip_prefix("1.2.840.10008.1.2.4.10")
        .is_some_and(|rest| matches!(rest.as_bytes(), [b'0'..=b'8'] | [b'0'..=b'8', b'.', ..]))
}

/// The VR with these two letters. This is asked for every element, so it is a match of bytes.
pub(crate) fn vr(letters: [u8; 2]) -> Option<VR> {
    Some(match &letters {
        b"AE" => VR::AE,
        b"AS" => VR::AS,
        b"AT" => VR::AT,
        b"CS" => VR::CS,
        b"DA" => VR::DA,
        b"DS" => VR::DS,
        b"DT" => VR::DT,
        b"FL" => VR::FL,
        b"FD" => VR::FD,
        b"IS" => VR::IS,
        b"LO" => VR::LO,
        b"LT" => VR::LT,
        b"OB" => VR::OB,
        b"OD" => VR::OD,
        b"OF" => VR::OF,
        b"OL" => VR::OL,
        b"OV" => VR::OV,
        b"OW" => VR::OW,
        b"PN" => VR::PN,
        b"SH" => VR::SH,
        b"SL" => VR::SL,
        b"SQ" => VR::SQ,
        b"SS" => VR::SS,
        b"ST" => VR::ST,
        b"SV" => VR::SV,
        b"TM" => VR::TM,
        b"UC" => VR::UC,
        b"UI" => VR::UI,
        b"UL" => VR::UL,
        b"UN" => VR::UN,
        b"UR" => VR::UR,
        b"US" => VR::US,
        b"UT" => VR::UT,
        b"UV" => VR::UV,
        _ => return None,
    })
}

/// Whether the VR has the 4-byte length of PS3.5 7.1.2 table 7.1-1.
pub(crate) fn has_long_length(vr: VR) -> bool {
    matches!(
        vr,
        VR::OB
            | VR::OD
            | VR::OF
            | VR::OL
            | VR::OV
            | VR::OW
            | VR::SQ
            | VR::SV
            | VR::UC
            | VR::UN
            | VR::UR
            | VR::UT
            | VR::UV
    )
}

/// The size of the numbers in a value, whose bytes follow the byte order; 1 where there is no order.
pub(crate) fn number_size(vr: VR) -> usize {
    match vr {
        VR::US | VR::SS | VR::OW | VR::AT => 2,
        VR::UL | VR::SL | VR::FL | VR::OF | VR::OL => 4,
        VR::FD | VR::OD | VR::OV | VR::SV | VR::UV => 8,
        _ => 1,
    }
}

/// The size of what is swapped in a big-endian value: its numbers, or, in Pixel Data, its cells of so many bits.
///
/// The Standard's OW has words of 16 bits, and a cell of 32 would be two of them with the low one first. Writers
/// have always swapped such cells whole (RT Dose), and readers read them so.
pub(crate) fn swapped_size(vr: VR, cell_bits: Option<usize>) -> usize {
    match cell_bits {
        Some(bits @ (32 | 64)) if vr == VR::OW => bits / 8,
        _ => number_size(vr),
    }
}

/// Turns big-endian numbers to little endian, or back.
pub(crate) fn swap(vr: VR, bytes: &mut [u8]) {
    let size = number_size(vr);
    if size > 1 {
        for number in bytes.chunks_exact_mut(size) {
            number.reverse();
        }
    }
}

/// Whether the value is text.
pub(crate) fn is_text(vr: VR) -> bool {
    number_size(vr) == 1 && !matches!(vr, VR::OB | VR::UN | VR::SQ)
}

/// Whether Specific Character Set (0008,0005) governs the value (PS3.5 6.1.2.3).
pub(crate) fn has_character_set(vr: VR) -> bool {
    matches!(vr, VR::LO | VR::LT | VR::PN | VR::SH | VR::ST | VR::UC | VR::UT)
}

/// The VR that the dictionary gives, with what depends on context resolved: `signed` is whether
/// Pixel Representation (0028,0103) in scope is 1 (PS3.5 A.1, A.2).
pub(crate) fn dictionary_vr(tag: Tag, signed: bool) -> Option<VR> {
    if tag.1 == 0 {
        return Some(VR::UL);
    }
    if tag.0 % 2 == 1 {
        // A private element, unless it reserves a block (PS3.5 7.8.1).
        return (0x10..=0xFF).contains(&tag.1).then_some(VR::LO);
    }
    let vr = match StandardDataDictionary.by_tag(tag)?.vr() {
        VirtualVr::Exact(vr) => vr,
        VirtualVr::Xs if signed => VR::SS,
        VirtualVr::Xs => VR::US,
        VirtualVr::Ox | VirtualVr::Px | VirtualVr::Lt => VR::OW,
        _ => return None,
    };
    Some(vr)
}

/// Whether the tag begins the pixel data of an image: Pixel Data, Float or Double Float Pixel Data.
pub(crate) fn is_pixel_data(tag: Tag) -> bool {
    tag.0 == 0x7FE0 && matches!(tag.1, 0x0008 | 0x0009 | 0x0010)
}
