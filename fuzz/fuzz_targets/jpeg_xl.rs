//! Any bytes as frames of JPEG XL: a picture as large as its data set says, or an error.
//!
//! Run with `cargo fuzz run -s none jpeg_xl -- -rss_limit_mb=1024`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pacs_fuzz::codec::{contain_decoders, decode};

const SYNTAXES: [&str; 3] = [
    "1.2.840.10008.1.2.4.110",
    "1.2.840.10008.1.2.4.111",
    "1.2.840.10008.1.2.4.112",
];

fuzz_target!(init: contain_decoders(), |input: &[u8]| decode(&SYNTAXES, input));
