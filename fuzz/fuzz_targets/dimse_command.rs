//! Command sets: what is read is encoded and read to the same, and no accessor panics.
//!
//! Run with `cargo fuzz run -s none dimse_command`.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pacs_net::dimse::{CommandSet, Status};

fuzz_target!(|bytes: &[u8]| {
    let Ok(set) = CommandSet::decode(&Bytes::copy_from_slice(bytes)) else {
        return;
    };
    let _ = (
        set.sop_class(),
        set.sop_instance(),
        set.priority(),
        set.status().category(),
    );
    let _ = (set.move_destination(), set.move_originator(), set.error_comment());
    let _ = (
        set.offending_elements(),
        set.attribute_identifiers(),
        set.sub_operations(),
    );
    let encoded = set.encode();
    let again = CommandSet::decode(&encoded).expect("what we encode we decode");
    assert_eq!(again.encode(), encoded);
    let response = CommandSet::response(&set, Status::SUCCESS);
    let response = CommandSet::decode(&response.encode()).expect("a response can be read");
    assert_eq!(response.message_id_responded_to(), Some(set.message_id()));
});
