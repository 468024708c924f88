//! Any bytes as the beginning of a file: no panic, and what was answered early stays the answer.
//!
//! Run with `cargo fuzz run -s none part10`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pacs_core::dataset::part10::read_meta;

fuzz_target!(|file: &[u8]| {
    let whole = read_meta(file, true);
    for end in [132, 140, 200, 1000] {
        let Some(prefix) = file.get(..end) else {
            break;
        };
        match (read_meta(prefix, false), &whole) {
            (Ok(Some(early)), Ok(Some(whole))) => {
                assert!(early == *whole, "a longer prefix gives another answer")
            }
            (Ok(Some(_)), _) => panic!("answered early, and refused when whole"),
            _ => {}
        }
    }
    if let Ok(found) = whole {
        let found = found.expect("never asks for more than there is");
        assert!(found.data_set_offset <= file.len() as u64);
    }
});
