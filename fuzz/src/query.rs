//! Query components of URIs, of bytes and words.

use std::fmt::Write;

/// A byte of 128 and above stands for one of `words`, names that mutation alone would not find; any other for itself.
pub fn query(bytes: &[u8], words: &[&str]) -> String {
    let mut query = String::new();
    for byte in bytes {
        match words.get(usize::from(*byte).wrapping_sub(128)) {
            Some(word) => word.bytes().for_each(|byte| push(&mut query, byte)),
            None => push(&mut query, *byte),
        }
    }
    query
}

/// A byte as a URI holds it.
fn push(query: &mut String, byte: u8) {
    match byte {
        b'!'..=b'~' if !b"\"#<>\\^`{|}".contains(&byte) => query.push(byte.into()),
        byte => _ = write!(query, "%{byte:02X}"),
    }
}
