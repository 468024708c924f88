//! What holds for all data sets, and for all bytes.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use proptest::prelude::*;

use super::{BIG, DEFLATED, EXPLICIT, IMPLICIT, JPEG, deflate, parse, scan_in_pieces};
use crate::dataset::charset::CharacterSet;
use crate::dataset::encode::encode;
use crate::dataset::{DataSet, Element, Value, compact};

const SYNTAXES: [&str; 3] = [IMPLICIT, EXPLICIT, BIG];

/// Text that survives padding and splitting.
fn text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[A-Za-zäéПα山^=]{0,20}").unwrap()
}

fn set(depth: u32) -> BoxedStrategy<DataSet> {
    let leaves = (
        text(),
        proptest::option::of(text()),
        any::<u16>(),
        any::<f64>(),
        proptest::collection::vec(any::<u32>(), 0..4),
    );
    let items = if depth == 0 {
        Just(Vec::new()).boxed()
    } else {
        proptest::collection::vec(set(depth - 1), 0..3).boxed()
    };
    (leaves, items)
        .prop_map(|((name, comments, rows, factor, numbers), items)| {
            let mut set = DataSet::new();
            set.put_text(tags::PATIENT_NAME, VR::PN, name);
            if let Some(comments) = comments {
                set.put_text(tags::IMAGE_COMMENTS, VR::LT, comments);
            }
            set.put_u16(tags::ROWS, rows);
            for (tag, vr, value) in [
                (
                    tags::REAL_WORLD_VALUE_SLOPE,
                    VR::FD,
                    factor.to_le_bytes().to_vec(),
                ),
                (
                    tags::SIMPLE_FRAME_LIST,
                    VR::UL,
                    numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
                ),
            ] {
                let value = Value::Bytes(value.into());
                set.put(Element { tag, vr, value });
            }
            set.put_items(tags::REFERENCED_STUDY_SEQUENCE, items);
            set
        })
        .boxed()
}

/// The same without padding and Specific Character Set, which encoding adds.
fn bare(set: &DataSet) -> DataSet {
    set.iter()
        .filter(|element| element.tag != Tag(0x0008, 0x0005))
        .map(|element| {
            let value = match &element.value {
                Value::Items(items) => Value::Items(items.iter().map(bare).collect()),
                Value::Bytes(bytes) if crate::dataset::syntax::is_text(element.vr) => {
                    Value::Bytes(bytes.trim_ascii_end().to_vec().into())
                }
                Value::Bytes(bytes) => Value::Bytes(bytes.clone()),
            };
            Element {
                value,
                ..element.clone()
            }
        })
        .collect()
}

proptest! {
    #[test]
    fn what_is_encoded_is_parsed_again_in_every_syntax(set in set(3)) {
        for syntax in SYNTAXES {
            let bytes = encode(&set, syntax, &CharacterSet::default()).unwrap();
            prop_assert_eq!(bare(&parse(&bytes, syntax).unwrap()), bare(&set));
        }
        prop_assert_eq!(compact::from_bytes(&compact::to_bytes(&set).into()).unwrap(), set);
    }

    #[test]
    fn pieces_of_any_size_give_the_same_scan(set in set(3), piece in 1_usize..40) {
        for syntax in SYNTAXES {
            let bytes = encode(&set, syntax, &CharacterSet::default()).unwrap();
            let whole = scan_in_pieces(&bytes, syntax, usize::MAX).unwrap();
            prop_assert!(whole.complete && whole.problems.is_empty());
            prop_assert_eq!(scan_in_pieces(&bytes, syntax, piece).unwrap(), whole);
        }
        let bytes = encode(&set, EXPLICIT, &CharacterSet::default()).unwrap();
        let deflated = deflate(&bytes, false);
        prop_assert_eq!(
            scan_in_pieces(&deflated, DEFLATED, piece).unwrap().header,
            scan_in_pieces(&bytes, EXPLICIT, piece).unwrap().header
        );
    }

    #[test]
    fn damaged_data_sets_give_the_same_scan_in_pieces_of_any_size(
        set in set(2),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<proptest::sample::Index>(),
        piece in 1_usize..40,
    ) {
        for syntax in [IMPLICIT, EXPLICIT, BIG, DEFLATED, JPEG] {
            let plain = if syntax == DEFLATED { EXPLICIT } else { syntax };
            let mut bytes = encode(&set, plain, &CharacterSet::default()).unwrap();
            if syntax == DEFLATED {
                bytes = deflate(&bytes, false);
            }
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            bytes.truncate(cut.index(bytes.len()) + 1);
            same_in_pieces(&bytes, syntax, piece)?;
        }
    }

    #[test]
    fn any_tokens_give_the_same_scan_in_pieces_of_any_size(
        tokens in proptest::collection::vec(token(), 0..60),
        piece in 1_usize..40,
    ) {
        let bytes = tokens.concat();
        for syntax in [IMPLICIT, EXPLICIT, BIG, DEFLATED, JPEG] {
            same_in_pieces(&bytes, syntax, piece)?;
        }
        let _ = compact::from_bytes(&bytes.into());
    }
}

/// Neither way may panic, and both must find the same.
fn same_in_pieces(bytes: &[u8], syntax: &str, piece: usize) -> Result<(), TestCaseError> {
    let whole = scan_in_pieces(bytes, syntax, usize::MAX);
    let pieces = scan_in_pieces(bytes, syntax, piece);
    match (whole, pieces) {
        (Ok(whole), Ok(pieces)) => {
            prop_assert_eq!(&whole, &pieces);
            prop_assert_eq!(whole.length, bytes.len() as u64);
            prop_assert!(whole.header.iter().is_sorted_by(|a, b| a.tag < b.tag));
        }
        (whole, pieces) => prop_assert!(whole.is_err() && pieces.is_err()),
    }
    Ok(())
}

/// Pieces that data sets are made of, in any order: far more gets past the first header than of
/// random bytes.
fn token() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&'static [u8]> = vec![
        b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100",
        b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff",
        b"\x08\x00\x40\x11SQ\0\0\x40\0\0\0",
        b"\x08\x00\x40\x11\xff\xff\xff\xff",
        b"\x09\x00\x10\x10UN\0\0\xff\xff\xff\xff",
        b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
        b"\xfe\xff\x00\xe0\x10\0\0\0",
        b"\xfe\xff\x00\xe0\0\0\0\0",
        b"\xfe\xff\x0d\xe0\0\0\0\0",
        b"\xfe\xff\xdd\xe0\0\0\0\0",
        b"\x10\x00\x10\x00PN\x04\x00\xfc\x1b$B",
        b"\x10\x00\x10\x00\x04\0\0\0A^B ",
        b"\x28\x00\x08\x00IS\x02\x002 ",
        b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff",
        b"\xe0\x7f\x10\x00OW\0\0\x08\0\0\0",
        b"\xe0\x7f\x01\x00OV\0\0\x10\0\0\0",
        b"\0\0\0\0",
        b"\xff\xd8",
    ];
    prop_oneof![
        8 => proptest::sample::select(words).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..12),
    ]
}
