//! Any bytes as frames of RLE Lossless, deflated and uncompressed: a picture as large as its data set says, or an
//! error.
//!
//! Run with `cargo fuzz run -s none rle -- -rss_limit_mb=1024`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pacs_fuzz::codec::{contain_decoders, decode};

const SYNTAXES: [&str; 3] = [
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.8.1",
    "1.2.840.10008.1.2.1.98",
];

fuzz_target!(init: contain_decoders(), |input: &[u8]| decode(&SYNTAXES, input));
