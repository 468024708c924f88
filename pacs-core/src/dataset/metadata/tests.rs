use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use proptest::prelude::*;

use super::{BulkValue, ElementPath, Metadata, MetadataScanner};
use crate::dataset::charset::CharacterSet;
use crate::dataset::encode::encode;
use crate::dataset::syntax::{DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE};
use crate::dataset::{DataSet, Element, Value};
use crate::error::{ErrorKind, Result};
use crate::limits;
use crate::uid::Uid;

const JPEG: &str = "1.2.840.10008.1.2.4.50";

fn scan(bytes: &[u8], syntax: &str, piece: usize) -> Result<Metadata> {
    let mut scanner = MetadataScanner::new(&Uid::parse(syntax).unwrap());
    for piece in bytes.chunks(piece) {
        scanner.push(piece)?;
    }
    scanner.finish()
}

/// As whoever can jump reads it: what is skippable is not pushed. Tells how much was pushed.
fn scan_jumping(bytes: &[u8], syntax: &str, piece: usize) -> Result<(Metadata, usize)> {
    let mut scanner = MetadataScanner::new(&Uid::parse(syntax).unwrap());
    let mut pushed = 0;
    while (scanner.position() as usize) < bytes.len() {
        let at = scanner.position() as usize;
        let skippable = scanner.skippable().min((bytes.len() - at) as u64);
        if skippable > 0 {
            scanner.skip(skippable);
            continue;
        }
        let end = (at + piece).min(bytes.len());
        scanner.push(&bytes[at..end])?;
        pushed += end - at;
    }
    Ok((scanner.finish()?, pushed))
}

fn element(tag: Tag, vr: VR, bytes: Vec<u8>) -> Element {
    let value = Value::Bytes(bytes.into());
    Element { tag, vr, value }
}

/// Values of lengths around the limits, also in items.
fn set(depth: u32) -> BoxedStrategy<DataSet> {
    let long = prop_oneof![
        Just(0_usize),
        0..40_usize,
        1020..1030_usize,
        Just(limits::INLINE_VALUE_LENGTH_MAX_BYTES as usize),
        Just(limits::INLINE_VALUE_LENGTH_MAX_BYTES as usize + 8)
    ]
    .prop_map(|length| length / 8 * 8);
    let kind = prop::sample::select(vec![
        (tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA, VR::OW),
        (tags::ENCAPSULATED_DOCUMENT, VR::OB),
        (tags::DOUBLE_FLOAT_PIXEL_DATA, VR::OD),
        (tags::SELECTOR_UV_VALUE, VR::UV),
        (tags::TEXT_VALUE, VR::UT),
        (tags::PIXEL_DATA, VR::OW),
        (Tag(0x0009, 0x1001), VR::UN),
    ]);
    let elements = prop::collection::vec((kind, long, any::<u8>()), 0..4).prop_map(|kinds| {
        let fill = |length, seed: u8| (0..length).map(|at| (at as u8 ^ seed) % 26 + b'a').collect();
        let all = kinds
            .into_iter()
            .map(move |((tag, vr), length, seed)| element(tag, vr, fill(length, seed)));
        all.collect::<DataSet>()
    });
    let items = match depth {
        0 => Just(None).boxed(),
        _ => prop::option::of(prop::collection::vec(set(depth - 1), 0..3)).boxed(),
    };
    (elements, items, "[a-zä]{0,8}")
        .prop_map(|(mut set, items, name)| {
            set.put_text(tags::PATIENT_NAME, VR::PN, name);
            if let Some(items) = items {
                set.put_items(tags::REFERENCED_STUDY_SEQUENCE, items);
            }
            set
        })
        .boxed()
}

/// Puts bulk data back in its place: then nothing may be missing.
fn put_back(metadata: &Metadata, bytes: &[u8]) -> DataSet {
    fn put(set: &mut DataSet, items: &[(Tag, u32)], element: Element) {
        let Some(((sequence, number), inside)) = items.split_first() else {
            assert!(!set.contains(element.tag));
            return set.put(element);
        };
        let mut all = set.items(*sequence).to_vec();
        put(&mut all[*number as usize - 1], inside, element);
        set.put_items(*sequence, all);
    }
    let mut set = metadata.header.clone();
    for value in &metadata.bulk {
        let start = value.offset as usize;
        let mut bytes = bytes[start..start + value.length.unwrap() as usize].to_vec();
        if value.swapped > 1 {
            for number in bytes.chunks_exact_mut(value.swapped.into()) {
                number.reverse();
            }
        }
        let items: Vec<_> = value.path.items().collect();
        put(&mut set, &items, element(value.path.tag(), value.vr, bytes));
    }
    set
}

/// Without Specific Character Set, which encoding adds, and padding.
fn bare(set: &DataSet) -> DataSet {
    let one = |element: &Element| {
        let value = match &element.value {
            Value::Items(items) => Value::Items(items.iter().map(bare).collect()),
            Value::Bytes(bytes) if element.vr == VR::PN => {
                Value::Bytes(bytes.trim_ascii_end().to_vec().into())
            }
            Value::Bytes(bytes) => Value::Bytes(bytes.clone()),
        };
        Element { value, ..*element }
    };
    let named = |element: &&Element| element.tag != tags::SPECIFIC_CHARACTER_SET;
    set.iter().filter(named).map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn header_and_bulk_data_together_are_the_data_set(set in set(2), piece in 1_usize..3000) {
        for syntax in [IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG] {
            let bytes = encode(&set, syntax, &CharacterSet::utf8()).unwrap();
            let metadata = scan(&bytes, syntax, piece).unwrap();
            if syntax != IMPLICIT_LITTLE {
                prop_assert_eq!(bare(&put_back(&metadata, &bytes)), bare(&set));
            }
            prop_assert!(metadata.bulk.is_sorted_by(|a, b| a.path < b.path));
            let (jumped, _) = scan_jumping(&bytes, syntax, piece).unwrap();
            prop_assert_eq!(&jumped, &metadata);
            let read = Metadata::from_bytes(&metadata.to_bytes()).unwrap();
            prop_assert_eq!(&read, &metadata);
        }
        let plain = encode(&set, EXPLICIT_LITTLE, &CharacterSet::utf8()).unwrap();
        let deflated = encode(&set, DEFLATED, &CharacterSet::utf8()).unwrap();
        prop_assert_eq!(scan(&deflated, DEFLATED, piece).unwrap(), scan(&plain, EXPLICIT_LITTLE, piece).unwrap());
    }

    #[test]
    fn damaged_data_sets_give_the_same_metadata_in_pieces_of_any_size(
        set in set(2),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        piece in 1_usize..300,
    ) {
        for syntax in [IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, JPEG] {
            let mut bytes = encode(&set, syntax, &CharacterSet::utf8()).unwrap();
            bytes.truncate(4096);
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            bytes.truncate(cut.index(bytes.len()) + 1);
            let whole = scan(&bytes, syntax, usize::MAX).ok();
            prop_assert_eq!(&scan(&bytes, syntax, piece).ok(), &whole);
            prop_assert_eq!(&scan_jumping(&bytes, syntax, piece).ok().map(|(metadata, _)| metadata), &whole);
            if let Some(whole) = whole {
                prop_assert!(whole.bulk.is_sorted_by(|a, b| a.path < b.path));
                prop_assert_eq!(Metadata::from_bytes(&whole.to_bytes()).unwrap(), whole);
            }
        }
    }

    #[test]
    fn damaged_records_are_corrupt_or_something_else_and_never_panic(
        set in set(1),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let bytes = encode(&set, EXPLICIT_LITTLE, &CharacterSet::utf8()).unwrap();
        let mut record = scan(&bytes, EXPLICIT_LITTLE, usize::MAX).unwrap().to_bytes().to_vec();
        let at = at.index(record.len());
        let cut = Metadata::from_bytes(&record[..at]);
        prop_assert_eq!(cut.unwrap_err().kind(), ErrorKind::Corrupt);
        record[at] = byte;
        if let Err(error) = Metadata::from_bytes(&record) {
            prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }
}

#[test]
fn a_path_is_read_as_it_is_written_and_is_ordered_as_its_element() {
    let in_order = [
        "00080016",
        "00081140/1/00081150",
        "00081140/1/00081155",
        "00081140/2/00081150",
        "00081140/10/00081150",
        "7FE00010",
    ];
    let paths: Vec<ElementPath> = in_order.iter().map(|text| text.parse().unwrap()).collect();
    assert!(paths.is_sorted());
    assert_eq!(
        paths.iter().map(ToString::to_string).collect::<Vec<_>>(),
        in_order
    );
    let path = &paths[1];
    assert_eq!(path, &ElementPath::nested(&[(Tag(8, 0x1140), 1)], Tag(8, 0x1150)));
    assert_eq!((path.tag(), path.top()), (Tag(8, 0x1150), Tag(8, 0x1140)));
    for wrong in [
        "",
        "0008",
        "00080016/",
        "00080016/1",
        "00081140/0/00081150",
        "00081140/+1/00081150",
        "0008114x",
        "00081140/1/00081150/2",
        "+0081140",
    ] {
        assert!(wrong.parse::<ElementPath>().is_err(), "{wrong}");
    }
    assert!("00081140/1/".repeat(100_000).parse::<ElementPath>().is_err());
}

/// An encapsulated instance with elements behind its pixel data and an encapsulated icon before it.
fn encapsulated() -> (Vec<u8>, usize) {
    let mut bytes = b"\x10\x00\x20\x00LO\x04\x004711".to_vec();
    bytes.extend(b"\x88\x00\x00\x02SQ\0\0\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF");
    let fragments = |bytes: &mut Vec<u8>, length: usize| {
        bytes.extend(b"\xE0\x7F\x10\x00OB\0\0\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\0\0\0\0");
        for _ in 0..3 {
            bytes.extend(b"\xFE\xFF\x00\xE0");
            bytes.extend((length as u32).to_le_bytes());
            bytes.extend(vec![7; length]);
        }
        let end = bytes.len();
        bytes.extend(b"\xFE\xFF\xDD\xE0\0\0\0\0");
        end
    };
    fragments(&mut bytes, 10);
    bytes.extend(b"\xFE\xFF\x0D\xE0\0\0\0\0\xFE\xFF\xDD\xE0\0\0\0\0");
    let end = fragments(&mut bytes, 100_000);
    bytes.extend(b"\xFA\xFF\xFA\xFFSQ\0\0\0\0\0\0");
    (bytes, end)
}

#[test]
fn what_is_encapsulated_has_no_length_and_what_follows_it_is_found_without_reading_it() {
    let (bytes, end) = encapsulated();
    let whole = scan(&bytes, JPEG, usize::MAX).unwrap();
    let told: Vec<_> = whole
        .bulk
        .iter()
        .map(|value| (value.path.to_string(), value.length))
        .collect();
    assert_eq!(
        told,
        [
            ("00880200/1/7FE00010".to_owned(), None),
            ("7FE00010".to_owned(), None)
        ]
    );
    assert_eq!(whole.pixel_data.map(|one| one.offset), Some(whole.bulk[1].offset));
    assert!(whole.header.contains(Tag(0xFFFA, 0xFFFA)));
    let (jumped, pushed) = scan_jumping(&bytes, JPEG, 512).unwrap();
    assert_eq!(jumped, whole);
    assert!(pushed < 4_000, "{pushed}");
    // Who knows where the fragments end needs nothing of them.
    let mut scanner = MetadataScanner::new(&Uid::parse(JPEG).unwrap());
    scanner.push(&bytes[..whole.bulk[1].offset as usize]).unwrap();
    assert!(scanner.is_in_fragments());
    scanner.skip_fragments(end as u64);
    scanner.push(&bytes[end..]).unwrap();
    assert_eq!(scanner.finish().unwrap(), whole);
}

#[test]
fn native_pixel_data_is_passed_over_and_an_empty_one_is_told_of() {
    let mut set = DataSet::new();
    set.put(element(tags::PIXEL_DATA, VR::OW, vec![1; 1_000_000]));
    set.put_text(tags::DATA_SET_TRAILING_PADDING, VR::OB, "");
    set.put_items(tags::DIGITAL_SIGNATURES_SEQUENCE, Vec::new());
    let bytes = encode(&set, EXPLICIT_LITTLE, &CharacterSet::utf8()).unwrap();
    let (metadata, pushed) = scan_jumping(&bytes, EXPLICIT_LITTLE, 512).unwrap();
    assert!(metadata.header.contains(tags::DIGITAL_SIGNATURES_SEQUENCE) && pushed < 1024);
    let empty = scan(b"\xE0\x7F\x10\x00OW\0\0\0\0\0\0", EXPLICIT_LITTLE, 3).unwrap();
    assert_eq!(empty.bulk[0].length, Some(0));
}

#[test]
fn the_functional_groups_of_twenty_thousand_frames_fit_and_more_than_is_held_is_refused() {
    // Five functional groups of an item with four values each: some 500 bytes a frame.
    let mut inside = Vec::new();
    for group in 0..5_u8 {
        let mut item = Vec::new();
        for number in 0..4_u8 {
            item.extend([0x20, 0, number, 0x90 + group]);
            item.extend(b"DS\x10\x00-123.45\\-678.901");
            item.truncate(item.len() / 2 * 2);
        }
        inside.extend([0x18, 0, group, 0x91]);
        inside.extend(b"SQ\0\0");
        inside.extend((item.len() as u32 + 8).to_le_bytes());
        inside.extend(b"\xFE\xFF\x00\xE0");
        inside.extend((item.len() as u32).to_le_bytes());
        inside.extend(item);
    }
    let mut frame = b"\xFE\xFF\x00\xE0".to_vec();
    frame.extend((inside.len() as u32).to_le_bytes());
    frame.extend(inside);
    let scan = |frames: usize| {
        let mut scanner = MetadataScanner::new(&Uid::parse(EXPLICIT_LITTLE).unwrap());
        scanner.push(b"\x00\x52\x30\x92SQ\0\0\xFF\xFF\xFF\xFF")?;
        (0..frames).try_for_each(|_| scanner.push(&frame))?;
        scanner.push(b"\xFE\xFF\xDD\xE0\0\0\0\0")?;
        scanner.finish()
    };
    let metadata = scan(20_000).unwrap();
    assert_eq!(
        metadata
            .header
            .items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE)
            .len(),
        20_000
    );
    let record = metadata.to_bytes();
    assert!(record.len() < 2_000_000);
    assert_eq!(Metadata::from_bytes(&record).unwrap(), metadata);
    assert_eq!(scan(100_000).unwrap_err().kind(), ErrorKind::OutOfResources);
}

#[test]
fn a_record_that_inflates_beyond_all_bounds_is_corrupt() {
    use std::io::Write;
    let mut encoder = flate2::write::DeflateEncoder::new(vec![super::VERSION], flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..=limits::METADATA_LENGTH_MAX_BYTES >> 20 {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 1 << 20);
    assert_eq!(
        Metadata::from_bytes(&bomb).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    assert_eq!(Metadata::from_bytes(b"").unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(
        Metadata::from_bytes(&[9, 1, 2]).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
}

#[test]
fn elements_that_take_the_place_of_others_do_so_for_bulk_data_too() {
    let mut metadata = Metadata::default();
    metadata.header.put_text(tags::PATIENT_ID, VR::LO, "old");
    for path in ["00100020", "00081140/1/00090001", "7FE00010"] {
        metadata.bulk.push(BulkValue {
            path: path.parse().unwrap(),
            vr: VR::OB,
            offset: 0,
            length: None,
            swapped: 1,
        });
    }
    let mut elements = DataSet::new();
    elements.put_text(tags::PATIENT_ID, VR::LO, "new");
    elements.put_items(Tag(0x0008, 0x1140), Vec::new());
    metadata.replace(&elements);
    assert_eq!(metadata.bulk.len(), 1);
    assert_eq!(metadata.header.string(tags::PATIENT_ID), Some("new"));
    assert_eq!(
        metadata.bulk_value(&"7FE00010".parse().unwrap()),
        metadata.bulk.first()
    );
    assert_eq!(metadata.bulk_value(&"00100020".parse().unwrap()), None);
}
