//! Any bytes as frames of JPEG Baseline, Extended and Lossless: a picture as large as its data set says, or an error.
//!
//! Run with `cargo fuzz run -s none jpeg -- -rss_limit_mb=1024`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pacs_fuzz::codec::{contain_decoders, decode};

const SYNTAXES: [&str; 4] = [
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
];

fuzz_target!(init: contain_decoders(), |input: &[u8]| decode(&SYNTAXES, input));
