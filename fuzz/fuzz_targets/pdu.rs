//! PDUs in any chunking: the decoder neither panics nor holds more than its buffer, what it hands on is
//! as long as what came in, and an association PDU that is read is written and read to the same.
//!
//! Run with `cargo fuzz run -s none pdu`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pacs_net::ul::codec::{read_pdu, write_pdu};
use pacs_net::ul::decoder::{Decoder, Item};

fuzz_target!(|input: (u8, u16, &[u8])| {
    let (chunk, maximum_length, bytes) = input;
    let mut decoder = Decoder::new(u32::from(maximum_length));
    let mut handed_on = 0;
    for piece in bytes.chunks(usize::from(chunk) + 1) {
        decoder.buffer().extend_from_slice(piece);
        loop {
            match decoder.next_item() {
                Ok(Some(Item::Fragment(fragment))) => {
                    assert!(fragment.last || !fragment.data.is_empty());
                    handed_on += fragment.data.len();
                }
                Ok(Some(Item::Pdu(pdu))) => {
                    // Written anew it may be longer than an item can say: then it is refused.
                    if let Ok(written) = write_pdu(&pdu) {
                        let again = read_pdu(written[0], &written[6..]).expect("what we write we read");
                        let rewritten = write_pdu(&again).expect("what we wrote once we write again");
                        assert_eq!(written, rewritten);
                    }
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    assert!(handed_on <= bytes.len());
});
