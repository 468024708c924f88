//! Any bytes as frames of JPEG 2000 and High-Throughput JPEG 2000: a picture as large as its data set says, or an error.
//!
//! Run with `cargo fuzz run -s none jpeg_2000 -- -rss_limit_mb=1024`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pacs_fuzz::codec::{contain_decoders, decode};

const SYNTAXES: [&str; 6] = [
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.92",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
];

fuzz_target!(init: contain_decoders(), |input: &[u8]| decode(&SYNTAXES, input));
