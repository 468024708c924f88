use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use proptest::prelude::*;

use super::{Scan, Scanner, parse};
use crate::dataset::charset::CharacterSet;
use crate::dataset::encode::encode;
use crate::dataset::{DataSet, Element, Value, compact};
use crate::uid::Uid;

const SYNTAXES: [&str; 3] = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"];

fn scan(bytes: &[u8], syntax: &str, chunk: usize) -> Scan {
    let mut scanner = Scanner::new(&Uid::parse(syntax).unwrap());
    for piece in bytes.chunks(chunk) {
        scanner.push(piece).unwrap();
    }
    scanner.finish().unwrap()
}

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
    fn chunks_of_any_size_give_the_same_scan(set in set(3), chunk in 1_usize..40) {
        for syntax in SYNTAXES {
            let bytes = encode(&set, syntax, &CharacterSet::default()).unwrap();
            let whole = scan(&bytes, syntax, usize::MAX);
            prop_assert!(whole.complete && whole.problems.is_empty());
            prop_assert_eq!(scan(&bytes, syntax, chunk), whole);
        }
    }
}
