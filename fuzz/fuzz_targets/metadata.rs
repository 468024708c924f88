//! Any bytes as a metadata record of an index, and as the data set that one is made of: no panic, bounded
//! memory, and what is skippable changes nothing.
//!
//! Run with `cargo fuzz run -s none metadata -- -rss_limit_mb=512`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pacs_core::dataset::metadata::{Metadata, MetadataScanner};
use pacs_core::uid::Uid;

const SYNTAXES: [Uid; 4] = [
    Uid::constant("1.2.840.10008.1.2"),
    Uid::constant("1.2.840.10008.1.2.1"),
    Uid::constant("1.2.840.10008.1.2.2"),
    Uid::constant("1.2.840.10008.1.2.4.50"),
];

fuzz_target!(|input: &[u8]| {
    let _ = Metadata::from_bytes(input);
    let [choice, piece, bytes @ ..] = input else {
        return;
    };
    let syntax = &SYNTAXES[usize::from(*choice) % SYNTAXES.len()];
    let mut whole = MetadataScanner::new(syntax);
    let pushed = whole.push(bytes);
    let mut jumping = MetadataScanner::new(syntax);
    while jumping.position() < bytes.len() as u64 {
        let at = jumping.position() as usize;
        let left = (bytes.len() - at) as u64;
        let skippable = jumping.skippable().min(left);
        if skippable > 0 {
            jumping.skip(skippable);
        } else if jumping
            .push(&bytes[at..bytes.len().min(at + usize::from(*piece).max(1))])
            .is_err()
        {
            assert!(pushed.is_err());
            return;
        }
    }
    let (Ok(whole), Ok(jumping)) = (whole.finish(), jumping.finish()) else {
        return;
    };
    assert!(whole == jumping);
    assert!(Metadata::from_bytes(&whole.to_bytes()).expect("our own record") == whole);
});
