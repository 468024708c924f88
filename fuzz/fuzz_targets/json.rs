//! Any bytes as DICOM JSON: no panic, bounded depth, and what was understood is written as JSON that is
//! understood again as the same.
//!
//! Run with `cargo fuzz run -s none json -- -rss_limit_mb=512`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pacs_core::dataset::json;

fuzz_target!(|input: &[u8]| {
    let Ok(all) = json::read(input) else {
        return;
    };
    for described in all {
        let mut first = Vec::new();
        json::write(&described.header, &[], &|_| String::new(), &mut first);
        let read = json::read(&first).expect("our own JSON").remove(0);
        // Padding and the forms of numbers are gone now, so from here on nothing changes.
        let mut second = Vec::new();
        json::write(&read.header, &[], &|_| String::new(), &mut second);
        assert_eq!(String::from_utf8(first), String::from_utf8(second));
    }
});
