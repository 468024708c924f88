//! UIDs for what messages bring and has none.

use pacs_core::Uid;
use twox_hash::XxHash3_128;

/// The UID of what these parts name: the same for the same parts, so that what is sent again gets the same one.
///
/// It is a UUID of version 8 (RFC 9562 5.8), below 2.25 (PS3.5 B.2).
pub(super) fn named(parts: &[&str]) -> Uid {
    let mut hash = XxHash3_128::new();
    for part in parts {
        hash.write(&(part.len() as u64).to_be_bytes());
        hash.write(part.as_bytes());
    }
    let number = hash.finish_128() & !(0xF << 76) & !(0x3 << 62) | 0x8 << 76 | 0x2 << 62;
    Uid::of_uuid(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_parts_name_the_same_and_others_another() {
        assert_eq!(named(&["a", "bc"]), named(&["a", "bc"]));
        assert_ne!(named(&["a", "bc"]), named(&["ab", "c"]));
        assert!(Uid::parse(named(&[]).as_str()).is_ok());
    }
}
