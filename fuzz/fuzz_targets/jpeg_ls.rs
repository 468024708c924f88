//! Any bytes as frames of JPEG-LS: a picture as large as its data set says, or an error.
//!
//! Run with `cargo fuzz run -s none jpeg_ls -- -rss_limit_mb=1024`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pacs_fuzz::codec::{contain_decoders, decode};

const SYNTAXES: [&str; 2] = ["1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"];

fuzz_target!(init: contain_decoders(), |input: &[u8]| decode(&SYNTAXES, input));
