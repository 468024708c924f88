//! What identifiers are called.

use dicom_core::Tag;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, UidDictionary};
use dicom_dictionary_std::{StandardDataDictionary, StandardSopClassDictionary, uids};
use pacs_core::Uid;

use super::markdown::code;

/// The transfer syntaxes that a name is known of: the dictionary has those of SOP classes alone.
const TRANSFER_SYNTAXES: &[(&str, &str)] = &[
    (uids::IMPLICIT_VR_LITTLE_ENDIAN, "Implicit VR Little Endian"),
    (uids::EXPLICIT_VR_LITTLE_ENDIAN, "Explicit VR Little Endian"),
    ("1.2.840.10008.1.2.2", "Explicit VR Big Endian (retired)"),
    (
        "1.2.840.10008.1.2.1.98",
        "Encapsulated Uncompressed Explicit VR Little Endian",
    ),
    ("1.2.840.10008.1.2.1.99", "Deflated Explicit VR Little Endian"),
    ("1.2.840.10008.1.2.8.1", "Deflated Image Frame Compression"),
    ("1.2.840.10008.1.2.5", "RLE Lossless"),
    ("1.2.840.10008.1.2.4.50", "JPEG Baseline"),
    ("1.2.840.10008.1.2.4.51", "JPEG Extended"),
    ("1.2.840.10008.1.2.4.57", "JPEG Lossless"),
    ("1.2.840.10008.1.2.4.70", "JPEG Lossless, first-order prediction"),
    ("1.2.840.10008.1.2.4.80", "JPEG-LS Lossless"),
    ("1.2.840.10008.1.2.4.81", "JPEG-LS Near-Lossless"),
    ("1.2.840.10008.1.2.4.90", "JPEG 2000 Lossless"),
    ("1.2.840.10008.1.2.4.91", "JPEG 2000"),
    ("1.2.840.10008.1.2.4.92", "JPEG 2000 Part 2 Lossless"),
    ("1.2.840.10008.1.2.4.93", "JPEG 2000 Part 2"),
    ("1.2.840.10008.1.2.4.110", "JPEG XL Lossless"),
    ("1.2.840.10008.1.2.4.111", "JPEG XL JPEG Recompression"),
    ("1.2.840.10008.1.2.4.112", "JPEG XL"),
    ("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000 Lossless"),
    (
        "1.2.840.10008.1.2.4.202",
        "High-Throughput JPEG 2000 with RPCL, Lossless",
    ),
    ("1.2.840.10008.1.2.4.203", "High-Throughput JPEG 2000"),
];

/// The name of a SOP class, as the dictionary has it.
pub(super) fn sop_class(uid: &Uid) -> String {
    let known = StandardSopClassDictionary
        .by_uid(uid)
        .map(|entry| entry.name.to_owned());
    known.unwrap_or_else(|| "not in the dictionary".to_owned())
}

/// The name of a transfer syntax, or its UID.
pub(super) fn transfer_syntax(uid: &Uid) -> String {
    let known = TRANSFER_SYNTAXES.iter().find(|(known, _)| *known == uid.as_str());
    known.map_or_else(|| code(uid.as_str()), |(_, name)| (*name).to_owned())
}

/// Compressed transfer syntaxes that are decoded by this build.
#[cfg(feature = "pixel")]
pub(super) fn decoded() -> Vec<String> {
    let explicit = [Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN)];
    let all = TRANSFER_SYNTAXES.iter().map(|(uid, _)| Uid::constant(uid));
    let decoded = all.filter(|uid| pacs_core::pixel::can_transcode(uid, &explicit).is_some());
    decoded.map(|uid| transfer_syntax(&uid)).collect()
}

#[cfg(not(feature = "pixel"))]
pub(super) fn decoded() -> Vec<String> {
    Vec::new()
}

/// The keyword of an attribute, or its tag.
pub(super) fn attribute(tag: Tag) -> (String, String) {
    match StandardDataDictionary.by_tag(tag) {
        Some(entry) => (
            entry.alias().to_owned(),
            entry.vr().relaxed().to_string().to_owned(),
        ),
        None => (tag.to_string(), "UN".to_owned()),
    }
}
