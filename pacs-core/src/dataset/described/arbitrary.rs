//! Data sets of every VR, for tests, and what of them both models keep.

use bytes::Bytes;
use dicom_core::{Tag, VR};
use proptest::prelude::*;

use super::values::{Number, bare_components, is_binary, is_number, json_number};
use crate::dataset::metadata::{BulkValue, ElementPath};
use crate::dataset::normal::SPECIFIC_CHARACTER_SET;
use crate::dataset::{DataSet, Element, Value};

const VRS: [VR; 33] = [
    VR::AE,
    VR::AS,
    VR::AT,
    VR::CS,
    VR::DA,
    VR::DS,
    VR::DT,
    VR::FD,
    VR::FL,
    VR::IS,
    VR::LO,
    VR::LT,
    VR::OB,
    VR::OD,
    VR::OF,
    VR::OL,
    VR::OV,
    VR::OW,
    VR::PN,
    VR::SH,
    VR::SL,
    VR::SS,
    VR::ST,
    VR::SV,
    VR::TM,
    VR::UC,
    VR::UI,
    VR::UL,
    VR::UN,
    VR::UR,
    VR::US,
    VR::UT,
    VR::UV,
];

/// Characters that mean something somewhere, more often than others.
fn text() -> impl Strategy<Value = String> {
    let special = prop::sample::select(
        "\\\\ ^=\"<>&'\0\u{1}\u{1b}\t\r\n\u{7f}\u{fffe}\u{fffd}äП山\u{1F600}"
            .chars()
            .collect::<Vec<_>>(),
    );
    let char = prop_oneof![3 => "[A-Za-z0-9.+-]".prop_map(|text| text.chars().next().unwrap_or('a')), 2 => special, 1 => any::<char>()];
    prop::collection::vec(char, 0..12).prop_map(String::from_iter)
}

fn number_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[+-]?[0-9]{0,4}[.]?[0-9]{0,4}([eE][+-]?[0-9]{1,2})?",
        any::<i32>().prop_map(|n| n.to_string())
    ]
}

fn leaf(vr: VR) -> BoxedStrategy<Bytes> {
    let bytes = |size: usize| {
        prop::collection::vec(any::<u8>(), 0..6 * size).prop_map(move |mut bytes| {
            bytes.truncate(bytes.len() / size * size);
            bytes
        })
    };
    match vr {
        VR::FD => prop::collection::vec(any::<f64>(), 0..3)
            .prop_map(|numbers| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>())
            .prop_map(Bytes::from)
            .boxed(),
        VR::IS | VR::DS => prop::collection::vec(prop_oneof![3 => number_text(), 1 => text()], 0..4)
            .prop_map(|texts| Bytes::from(texts.join("\\")))
            .boxed(),
        _ if is_number(vr) => bytes(8).prop_map(Bytes::from).boxed(),
        _ if is_binary(vr) => bytes(1).prop_map(Bytes::from).boxed(),
        _ => text().prop_map(Bytes::from).boxed(),
    }
}

/// With private elements that are reserved and such that are not.
pub(in crate::dataset) fn set(depth: u32) -> BoxedStrategy<DataSet> {
    let tag = prop_oneof![
        (0x0010_u16..0x0050, 1_u16..0x3000).prop_map(|(group, number)| Tag(group * 2, number)),
        (0x1000_u16..0x1020).prop_map(|number| Tag(0x0009, number)),
        Just(Tag(0x0011, 0x0010)),
        Just(Tag(0x0010, 0x0010)),
    ];
    let element = (tag, prop::sample::select(VRS.to_vec())).prop_flat_map(|(tag, vr)| {
        leaf(vr).prop_map(move |bytes| Element {
            tag,
            vr,
            value: Value::Bytes(bytes),
        })
    });
    let items = match depth {
        0 => Just(None).boxed(),
        _ => prop::option::of(prop::collection::vec(set(depth - 1), 0..3)).boxed(),
    };
    (prop::collection::vec(element, 0..6), any::<bool>(), items)
        .prop_map(|(mut elements, reserved, items)| {
            if reserved {
                let mut creator = DataSet::new();
                creator.put_text(Tag(0x0009, 0x0010), VR::LO, "ACME");
                elements.extend(creator);
            }
            let mut set = DataSet::from(elements);
            if let Some(items) = items {
                set.put_items(Tag(0x0008, 0x1140), items);
            }
            set
        })
        .boxed()
}

/// What of a data set is the same in every form: without Specific Character Set, insignificant padding, and what is
/// no number of its VR. `is_xml` takes the characters out that XML does not have.
pub(in crate::dataset) fn normal(set: &DataSet, is_xml: bool) -> DataSet {
    let sayable = |char: char| match char {
        '\t' | '\n' | '\r' => char,
        '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' if is_xml => '\u{fffd}',
        char => char,
    };
    let one = |element: &Element| {
        let vr = element.vr;
        let value = match &element.value {
            Value::Items(items) => Value::Items(items.iter().map(|item| normal(item, is_xml)).collect()),
            Value::Bytes(_) if element.is_empty() => Value::Bytes(Bytes::new()),
            Value::Bytes(bytes) if is_binary(vr) => Value::Bytes(bytes.clone()),
            Value::Bytes(bytes) if is_number(vr) => Value::Bytes(numbers(vr, bytes)),
            Value::Bytes(_) => {
                let texts = element.strings().map(|text| match vr {
                    VR::IS | VR::DS => {
                        json_number(text).map_or(text.to_owned(), |number| number.into_owned())
                    }
                    VR::PN => {
                        let groups = text.split('=').take(3).map(bare_components);
                        groups
                            .collect::<Vec<_>>()
                            .join("=")
                            .trim_end_matches('=')
                            .to_owned()
                    }
                    _ => text.to_owned(),
                });
                let text = texts.collect::<Vec<_>>().join("\\");
                Value::Bytes(Bytes::from(text.chars().map(sayable).collect::<String>()))
            }
        };
        Element { value, ..*element }
    };
    let named = |element: &&Element| element.tag != SPECIFIC_CHARACTER_SET;
    set.iter().filter(named).map(one).collect()
}

fn numbers(vr: VR, bytes: &[u8]) -> Bytes {
    let all = Number::all(vr, bytes).flat_map(|number| match number {
        Number::Single(number) if number.is_nan() => f32::NAN.to_le_bytes().to_vec(),
        Number::Double(number) if number.is_nan() => f64::NAN.to_le_bytes().to_vec(),
        Number::Single(number) => number.to_le_bytes().to_vec(),
        Number::Double(number) => number.to_le_bytes().to_vec(),
        Number::Tag(Tag(group, element)) => [group.to_le_bytes(), element.to_le_bytes()].concat(),
        Number::Unsigned(number) => number.to_le_bytes()[..crate::dataset::syntax::number_size(vr)].to_vec(),
        Number::Signed(number) => number.to_le_bytes()[..crate::dataset::syntax::number_size(vr)].to_vec(),
    });
    all.collect::<Vec<u8>>().into()
}

/// Takes every binary value that is not empty out of a data set, as if it were bulk data.
pub(in crate::dataset) fn without_binary(set: &DataSet) -> (DataSet, Vec<BulkValue>) {
    fn take(set: &DataSet, within: &mut Vec<(Tag, u32)>, bulk: &mut Vec<BulkValue>) -> DataSet {
        let mut out = DataSet::new();
        for element in set.iter() {
            match &element.value {
                Value::Bytes(bytes) if is_binary(element.vr) && !bytes.is_empty() => bulk.push(BulkValue {
                    path: ElementPath::nested(within, element.tag),
                    vr: element.vr,
                    offset: 0,
                    length: Some(bytes.len() as u64),
                    swapped: 1,
                }),
                Value::Bytes(_) => out.put(element.clone()),
                Value::Items(items) => {
                    let items = items.iter().zip(1..).map(|(item, number)| {
                        within.push((element.tag, number));
                        let item = take(item, within, bulk);
                        within.pop();
                        item
                    });
                    let items = items.collect();
                    out.put_items(element.tag, items);
                }
            }
        }
        out
    }
    let mut bulk = Vec::new();
    let header = take(set, &mut Vec::new(), &mut bulk);
    (header, bulk)
}
