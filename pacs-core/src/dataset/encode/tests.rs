use bytes::Bytes;

use super::*;
use crate::dataset::scan::parse;

const IMPLICIT: &str = "1.2.840.10008.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
const BIG: &str = "1.2.840.10008.1.2.2";
const NAME: Tag = Tag(0x0010, 0x0010);
const SEQUENCE: Tag = Tag(0x0008, 0x1140);

fn named(name: &str) -> DataSet {
    let mut set = DataSet::new();
    set.put_text(NAME, VR::PN, name);
    set
}

#[test]
fn values_are_padded_and_sequences_have_defined_lengths() {
    let mut set = named("A^B");
    set.put_text(Tag(0x0008, 0x0018), VR::UI, "1.2.3");
    set.put_text(Tag(0x0008, 0x0000), VR::UL, "not written");
    let mut outer = DataSet::new();
    outer.put_items(SEQUENCE, vec![set, DataSet::new()]);
    let charset = CharacterSet::default();
    assert_eq!(
        encode(&outer, EXPLICIT, &charset).unwrap(),
        [
            &b"\x08\x00\x40\x11SQ\0\0\x2a\0\0\0\xfe\xff\x00\xe0\x1a\0\0\0"[..],
            b"\x08\x00\x18\x00UI\x06\x001.2.3\0\x10\x00\x10\x00PN\x04\x00A^B ",
            b"\xfe\xff\x00\xe0\0\0\0\0",
        ]
        .concat()
    );
    assert_eq!(
        encode(&outer, IMPLICIT, &charset).unwrap(),
        [
            &b"\x08\x00\x40\x11\x2a\0\0\0\xfe\xff\x00\xe0\x1a\0\0\0"[..],
            b"\x08\x00\x18\x00\x06\0\0\x001.2.3\0\x10\x00\x10\x00\x04\0\0\0A^B ",
            b"\xfe\xff\x00\xe0\0\0\0\0",
        ]
        .concat()
    );
    let mut set = DataSet::new();
    set.put_u16(Tag(0x0028, 0x0010), 0x102);
    assert_eq!(
        encode(&set, BIG, &charset).unwrap(),
        b"\x00\x28\x00\x10US\x00\x02\x01\x02"
    );
    let deflated = encode(&set, DEFLATED, &charset).unwrap();
    assert_eq!(deflated.len() % 2, 0);
    assert_eq!(parse(&deflated, DEFLATED).unwrap(), set);
}

#[test]
fn the_character_set_is_the_one_asked_for_or_utf8_and_is_named_only_when_it_is_needed() {
    let latin = CharacterSet::parse("ISO_IR 100");
    for (name, asked, declared, bytes) in [
        ("Muller", &latin, None, &b"Muller"[..]),
        ("Müller", &latin, Some("ISO_IR 100"), b"M\xfcller"),
        (
            "Müller",
            &CharacterSet::default(),
            Some("ISO_IR 192"),
            b"M\xc3\xbcller ",
        ),
        ("山", &latin, Some("ISO_IR 192"), b"\xe5\xb1\xb1 "),
    ] {
        // An earlier name of the set, as it came with the identifier, gives way.
        let mut set = named(name);
        set.put_text(SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 144");
        let nested = {
            let mut outer = DataSet::new();
            outer.put_items(SEQUENCE, vec![set.clone()]);
            outer
        };
        for (set, within) in [(&set, false), (&nested, true)] {
            let written = encode(set, EXPLICIT, asked).unwrap();
            assert!(
                written.windows(bytes.len()).any(|window| window == bytes),
                "{name}"
            );
            let read = parse(&written, EXPLICIT).unwrap();
            assert_eq!(read.string(SPECIFIC_CHARACTER_SET), declared, "{name}");
            let read = if within { &read.items(SEQUENCE)[0] } else { &read };
            assert_eq!(read.string(NAME), Some(name));
            assert!(!within || !read.contains(SPECIFIC_CHARACTER_SET));
        }
    }
}

#[test]
fn each_text_is_said_in_one_set_or_all_in_utf8() {
    // Each can be said in one of the two, none in both.
    let mut set = named("Жук");
    set.put_text(Tag(0x0010, 0x4000), VR::LT, "Ärger");
    let written = encode(&set, IMPLICIT, &CharacterSet::parse("ISO_IR 144")).unwrap();
    let read = parse(&written, IMPLICIT).unwrap();
    assert_eq!(read.string(SPECIFIC_CHARACTER_SET), Some("ISO_IR 192"));
    assert_eq!(
        (read.string(NAME), read.string(Tag(0x0010, 0x4000))),
        (Some("Жук"), Some("Ärger"))
    );
}

#[test]
fn a_value_too_long_for_its_vr_goes_as_un_and_comes_back_as_it_was() {
    let mut set = DataSet::new();
    let numbers: Vec<u8> = (0..40_000_u32).flat_map(u32::to_le_bytes).collect();
    let element = Element {
        tag: Tag(0x0008, 0x1161),
        vr: VR::UL,
        value: Value::Bytes(Bytes::from(numbers)),
    };
    set.put(element.clone());
    let written = encode(&set, EXPLICIT, &CharacterSet::default()).unwrap();
    assert_eq!(written[4..6], *b"UN");
    assert_eq!(
        parse(&written, EXPLICIT).unwrap().get(element.tag),
        Some(&element)
    );
}
