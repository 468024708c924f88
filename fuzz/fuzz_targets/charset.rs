//! Any bytes in any character set: no panic, and what can be written is read again as it was.
//!
//! Run with `cargo fuzz run -s none charset`.

#![no_main]

use dicom_core::VR;
use libfuzzer_sys::fuzz_target;
use pacs_core::dataset::charset::CharacterSet;

const TERMS: [&str; 12] = [
    "",
    "ISO_IR 13",
    "ISO_IR 100",
    "ISO_IR 192",
    "GB18030",
    "GBK",
    "\\ISO 2022 IR 87\\ISO 2022 IR 159",
    "ISO 2022 IR 13\\ISO 2022 IR 87",
    "\\ISO 2022 IR 149",
    "\\ISO 2022 IR 58",
    "ISO 2022 IR 100\\ISO 2022 IR 101\\ISO 2022 IR 109\\ISO 2022 IR 110\\ISO 2022 IR 144",
    "ISO 2022 IR 127\\ISO 2022 IR 126\\ISO 2022 IR 138\\ISO 2022 IR 148\\ISO 2022 IR 203\\ISO 2022 IR 166",
];

fuzz_target!(|input: &[u8]| {
    let [choice, vr, bytes @ ..] = input else {
        return;
    };
    let set = CharacterSet::parse(TERMS[usize::from(*choice) % TERMS.len()]);
    let vr = [VR::PN, VR::LO, VR::UT, VR::CS][usize::from(*vr) % 4];
    let text = set.decode(vr, bytes);
    if vr != VR::CS
        && let Some(written) = set.encode(&text)
    {
        assert!(set.decode(vr, &written) == text, "not read as it was written");
    }
    let _ = CharacterSet::parse(&String::from_utf8_lossy(bytes)).value();
});
