//! In which transfer syntax an instance or a frame is handed out (PS3.18 8.7.3).

use dicom_dictionary_std::uids;
use pacs_core::Uid;
use pacs_core::pixel::{Target, can_transcode};

use super::super::http::accept::Wanted;

/// As it is kept, or made into Explicit VR Little Endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandedOut {
    AsKept,
    /// Where it can't be had after all, what is kept may go out instead.
    Explicit {
        else_as_kept: bool,
    },
}

/// Transfer syntaxes whose pixels have lost something: the Standard lets them leave as they are kept
/// (8.7.3.4).
const LOSSY: &[&str] = &[
    uids::JPEG_BASELINE8_BIT,
    uids::JPEG_EXTENDED12_BIT,
    uids::JPEGLS_NEAR_LOSSLESS,
    uids::JPEG2000,
    uids::JPEG2000MC,
    uids::HTJ2K,
    uids::JPEGXL,
    uids::JPEGXLJPEG_RECOMPRESSION,
];

/// The best of what a client accepts, in its order, of an instance that is kept in `kept`; none where nothing
/// will do.
///
/// What is kept leaves in its own transfer syntax where the client takes any. That may be Implicit VR Little
/// Endian or Explicit VR Big Endian, which 8.7.3 doesn't have for web services: it is how an instance leaves with
/// the bytes that it came with, and asked for by name or by `*` alone.
pub(crate) fn choose(kept: &Uid, wanted: &[Wanted]) -> Option<HandedOut> {
    let explicit = Target::ExplicitLittleEndian.uid();
    let is_explicit = *kept == explicit;
    let can_be_explicit = can_transcode(kept, &[explicit]).is_some();
    wanted.iter().find_map(|wanted| match wanted {
        Wanted::Any => Some(HandedOut::AsKept),
        Wanted::One(uid) if *uid == kept.as_str() => Some(HandedOut::AsKept),
        Wanted::One(uid) if *uid == explicit.as_str() && can_be_explicit => {
            Some(HandedOut::Explicit { else_as_kept: false })
        }
        Wanted::One(_) => None,
        // "unless the origin server has only access to the pixel data in lossy compressed form" or can't say it
        // in Explicit VR Little Endian.
        Wanted::Default if is_explicit || !can_be_explicit || LOSSY.contains(&kept.as_str()) => {
            Some(HandedOut::AsKept)
        }
        Wanted::Default => Some(HandedOut::Explicit { else_as_kept: true }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_leaves_as_it_is_or_in_explicit_little_endian() {
        use HandedOut::{AsKept, Explicit};
        let one = |uid: &str| Wanted::One(uid.to_owned());
        let explicit = uids::EXPLICIT_VR_LITTLE_ENDIAN;
        let (otherwise, strictly) = (Explicit { else_as_kept: true }, Explicit { else_as_kept: false });
        let cases = [
            (explicit, vec![Wanted::Default], Some(AsKept)),
            (
                uids::IMPLICIT_VR_LITTLE_ENDIAN,
                vec![Wanted::Default],
                Some(otherwise),
            ),
            (uids::IMPLICIT_VR_LITTLE_ENDIAN, vec![Wanted::Any], Some(AsKept)),
            (uids::JPEG2000_LOSSLESS, vec![Wanted::Default], Some(otherwise)),
            (uids::JPEG2000_LOSSLESS, vec![one(explicit)], Some(strictly)),
            (uids::JPEG2000_LOSSLESS, vec![one(uids::RLE_LOSSLESS)], None),
            (
                uids::JPEG2000_LOSSLESS,
                vec![one(uids::RLE_LOSSLESS), one(uids::JPEG2000_LOSSLESS)],
                Some(AsKept),
            ),
            (uids::JPEG_BASELINE8_BIT, vec![Wanted::Default], Some(AsKept)),
            (uids::JPEG_BASELINE8_BIT, vec![one(explicit)], Some(strictly)),
            // Nothing here decodes MPEG-4.
            (uids::MPEG4HP41, vec![Wanted::Default], Some(AsKept)),
            (uids::MPEG4HP41, vec![one(explicit)], None),
        ];
        for (kept, wanted, expected) in cases {
            assert_eq!(
                choose(&Uid::constant(kept), &wanted),
                expected,
                "{kept} {wanted:?}"
            );
        }
    }
}
