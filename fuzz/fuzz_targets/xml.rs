//! Any bytes as a document of the Native DICOM Model: no panic, bounded depth, and what was understood is
//! written as XML that is understood again as the same.
//!
//! Run with `cargo fuzz run -s none xml -- -rss_limit_mb=512`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pacs_core::dataset::xml;

fuzz_target!(|input: &[u8]| {
    let Ok(described) = xml::read(input) else {
        return;
    };
    let mut first = Vec::new();
    xml::write(&described.header, &[], &|_| String::new(), &mut first);
    let read = xml::read(&first).expect("our own XML");
    // Padding and the forms of numbers are gone now, so from here on nothing changes.
    let mut second = Vec::new();
    xml::write(&read.header, &[], &|_| String::new(), &mut second);
    assert_eq!(String::from_utf8(first), String::from_utf8(second));
});
