//! HL7 messages of any bytes: they are read or refused, a message that is read is written and read to the same, its
//! answer is a message, and what an order or a patient is made of it.
//!
//! Run with `cargo fuzz run -s none hl7`.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pacs_net::hl7::ack::answers;
use pacs_net::hl7::{Charset, Mapping, Message, Path};

static MAPPING: LazyLock<Mapping> = LazyLock::new(Mapping::default);

fuzz_target!(|input: (bool, &[u8])| {
    let (with_header, bytes) = input;
    let header: &[u8] = if with_header {
        b"MSH|^~\\&|A|B|C|D|2024||ORM^O01|1|P|2.5"
    } else {
        b""
    };
    let bytes = [header, bytes].concat();
    let message = match Message::parse_with(&bytes, &Charset::default()) {
        Ok(message) => message,
        Err(error) => {
            let _ = error.to_string();
            return;
        }
    };
    let again = Message::from_text(&message.text()).expect("what was read is read again");
    assert!(again == message, "not read as it was written");
    for outcome in [Ok(()), Err(pacs_net::hl7::Fault::missing("PID-3"))] {
        for answer in answers(&message, &outcome) {
            let answer = Message::from_text(&answer.text()).expect("an answer is a message");
            assert!(answer.get("MSA-1").is_some());
        }
    }
    for table in [&MAPPING.patient, &MAPPING.order] {
        let _ = table.apply(&message);
    }
    let mut changed = message.clone();
    let path = Path::parse("ZZZ-3.2").expect("a path");
    if changed.set(&path, "a|b^c").is_ok() && message.delimiters().escape.is_some() {
        assert_eq!(changed.value(&path).as_deref(), Some("a|b^c"));
    }
});
