use bytes::{BufMut, Bytes};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use proptest::prelude::*;

use super::{Overrides, Recoder, Target};
use crate::dataset::charset::CharacterSet;
use crate::dataset::encode::encode;
use crate::dataset::scan::parse;
use crate::dataset::syntax::{DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, number_size};
use crate::dataset::{DataSet, Element, Value};
use crate::error::{ErrorKind, Result};
use crate::limits;
use crate::uid::Uid;

/// Recodes `source` given in pieces of `chunk` bytes.
fn recode(source: &[u8], from: &str, target: Target, overrides: Overrides, chunk: usize) -> Result<Vec<u8>> {
    let mut recoder = Recoder::new(&Uid::parse(from)?, target, overrides)?;
    let mut out = Vec::new();
    for piece in source.chunks(chunk.max(1)) {
        recoder.push(Bytes::copy_from_slice(piece));
        while let Some(piece) = recoder.next_piece()? {
            out.extend_from_slice(&piece);
        }
    }
    recoder.finish()?;
    while let Some(piece) = recoder.next_piece()? {
        out.extend_from_slice(&piece);
    }
    Ok(out)
}

fn plain(source: &[u8], from: &str, target: Target) -> Result<Vec<u8>> {
    recode(source, from, target, Overrides::default(), usize::MAX)
}

const TARGETS: [Target; 2] = [Target::ExplicitLittleEndian, Target::ImplicitLittleEndian];

/// An element whose VR the dictionary knows, so that it is the same after Implicit VR.
fn element() -> impl Strategy<Value = Element> {
    let known = prop::sample::select(vec![
        (tags::IMAGE_TYPE, VR::CS),
        (tags::STUDY_DATE, VR::DA),
        (tags::SOP_INSTANCE_UID, VR::UI),
        (tags::PATIENT_NAME, VR::PN),
        (tags::PATIENT_COMMENTS, VR::LT),
        (tags::ROWS, VR::US),
        (tags::SMALLEST_IMAGE_PIXEL_VALUE, VR::US),
        (tags::FRAME_INCREMENT_POINTER, VR::AT),
        (tags::SIMPLE_FRAME_LIST, VR::UL),
        (tags::REFERENCE_PIXEL_X0, VR::SL),
        (tags::RECOMMENDED_DISPLAY_FRAME_RATE_IN_FLOAT, VR::FL),
        (tags::DIFFUSION_B_VALUE, VR::FD),
        (tags::PIXEL_DATA, VR::OW),
        (tags::FLOAT_PIXEL_DATA, VR::OF),
        (tags::DOUBLE_FLOAT_PIXEL_DATA, VR::OD),
        (tags::EXTENDED_OFFSET_TABLE, VR::OV),
        (tags::ENCAPSULATED_DOCUMENT, VR::OB),
        (tags::LONG_CODE_VALUE, VR::UC),
        (Tag(0x0029, 0x0010), VR::LO),
        (Tag(0x0029, 0x1001), VR::UN),
    ]);
    (known, 0..40usize, any::<u8>(), prop::bool::weighted(0.05)).prop_map(
        |((tag, vr), count, byte, large)| {
            let unit = number_size(vr);
            let bytes: Vec<u8> = if unit == 1 && !matches!(vr, VR::OB | VR::UN) {
                vec![b'0' + byte % 10; count * 2]
            } else {
                let count = if large { count * 900 } else { count };
                (0..count * unit.max(2))
                    .map(|at| (at as u8).wrapping_mul(byte | 1))
                    .collect()
            };
            let long = !matches!(vr, VR::OB | VR::OW | VR::OF | VR::OD | VR::OV | VR::UC | VR::UN);
            let keep = if long {
                bytes.len().min(65534 / unit * unit)
            } else {
                bytes.len()
            };
            Element {
                tag,
                vr,
                value: Value::Bytes(Bytes::from(bytes).slice(..keep)),
            }
        },
    )
}

fn data_set() -> impl Strategy<Value = DataSet> {
    let leaf = prop::collection::vec(element(), 0..8).prop_map(DataSet::from_iter);
    leaf.prop_recursive(5, 60, 4, |inner| {
        let sequence = prop::sample::select(vec![
            tags::REFERENCED_STUDY_SEQUENCE,
            tags::REFERENCED_SERIES_SEQUENCE,
            tags::CONTENT_SEQUENCE,
            tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE,
        ]);
        let sequences = prop::collection::vec((sequence, prop::collection::vec(inner, 0..4)), 0..3);
        (prop::collection::vec(element(), 0..6), sequences).prop_map(|(elements, sequences)| {
            let mut set = DataSet::from_iter(elements);
            for (tag, items) in sequences {
                set.put_items(tag, items);
            }
            set
        })
    })
}

/// Pixel data makes a parse leave out its value; under another tag it is compared.
fn without_pixel_data(set: DataSet) -> DataSet {
    set.into_iter()
        .filter(|element| element.tag.0 != 0x7FE0)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate_cases(), ..ProptestConfig::default() })]

    #[test]
    fn a_recoded_data_set_says_what_its_source_says(set in data_set(), chunk in 1..70usize) {
        let charset = CharacterSet::default();
        for from in [IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG] {
            let source = encode(&set, from, &charset).unwrap();
            for target in TARGETS {
                let out = recode(&source, from, target, Overrides::default(), chunk).unwrap();
                prop_assert_eq!(&out, &plain(&source, from, target).unwrap());
                let read = parse(&out, &target.uid()).unwrap();
                prop_assert!(without_pixel_data(read) == without_pixel_data(set.clone()));
                // Once more into its own transfer syntax changes nothing, and neither does a detour:
                // so the values that a parse leaves out are compared too.
                prop_assert_eq!(&plain(&out, &target.uid(), target).unwrap(), &out);
                let direct = encode(&set, &target.uid(), &charset).unwrap();
                prop_assert_eq!(&plain(&direct, &target.uid(), target).unwrap(), &out);
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_write_more_than_a_little_beyond_them(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        set in data_set(), at in any::<prop::sample::Index>(), chunk in 1..70usize,
    ) {
        for from in [IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED] {
            for target in TARGETS {
                let mut damaged = encode(&set, if from == DEFLATED { EXPLICIT_LITTLE } else { from }, &CharacterSet::default()).unwrap();
                let at = at.index(damaged.len() + 1);
                for (to, from) in damaged[at..].iter_mut().zip(&bytes) { *to = *from; }
                let _ = recode(&damaged, from, target, Overrides::default(), chunk);
                if from != DEFLATED && let Ok(out) = recode(&bytes, from, target, Overrides::default(), chunk) {
                    prop_assert!(out.len() <= 4 * bytes.len() + 64);
                }
            }
        }
    }
}

/// PACS_TEST_CASES raises the number of random data sets.
fn crate_cases() -> u32 {
    std::env::var("PACS_TEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(48)
}

fn explicit(tag: Tag, vr: &str, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u16_le(tag.0);
    out.put_u16_le(tag.1);
    out.put_slice(vr.as_bytes());
    if matches!(vr, "OB" | "OW" | "UN" | "SQ" | "UT") {
        out.put_u16_le(0);
        out.put_u32_le(value.len() as u32);
    } else {
        out.put_u16_le(value.len() as u16);
    }
    out.put_slice(value);
    out
}

fn implicit(tag: Tag, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u16_le(tag.0);
    out.put_u16_le(tag.1);
    out.put_u32_le(value.len() as u32);
    out.put_slice(value);
    out
}

#[test]
fn pixel_representation_in_scope_decides_between_us_and_ss() {
    let smallest = implicit(tags::SMALLEST_IMAGE_PIXEL_VALUE, &[0xFE, 0xFF]);
    let item = |signed: u8| {
        let inside = [
            implicit(tags::PIXEL_REPRESENTATION, &[signed, 0]),
            smallest.clone(),
        ]
        .concat();
        implicit(tags::ICON_IMAGE_SEQUENCE, &implicit(Tag(0xFFFE, 0xE000), &inside))
    };
    // The icon is unsigned, the image around it is signed, and stays so behind the icon.
    let source = [
        implicit(tags::PIXEL_REPRESENTATION, &[1, 0]),
        smallest.clone(),
        item(0),
        implicit(tags::REAL_WORLD_VALUE_FIRST_VALUE_MAPPED, &[0xFE, 0xFF]),
    ]
    .concat();
    let out = plain(&source, IMPLICIT_LITTLE, Target::ExplicitLittleEndian).unwrap();
    let set = parse(&out, EXPLICIT_LITTLE).unwrap();
    assert_eq!(set.get(tags::SMALLEST_IMAGE_PIXEL_VALUE).unwrap().vr, VR::SS);
    let icon = &set.items(tags::ICON_IMAGE_SEQUENCE)[0];
    assert_eq!(icon.get(tags::SMALLEST_IMAGE_PIXEL_VALUE).unwrap().vr, VR::US);
    assert_eq!(
        set.get(tags::REAL_WORLD_VALUE_FIRST_VALUE_MAPPED).unwrap().vr,
        VR::SS
    );
}

#[test]
fn group_length_goes_and_private_elements_become_un_and_their_creators_lo() {
    let source = [
        implicit(Tag(0x0008, 0x0000), &[8, 0, 0, 0]),
        implicit(Tag(0x0009, 0x0010), b"ACME"),
        implicit(Tag(0x0009, 0x1001), b"\x01\x02"),
    ]
    .concat();
    let out = plain(&source, IMPLICIT_LITTLE, Target::ExplicitLittleEndian).unwrap();
    let expected = [
        explicit(Tag(0x0009, 0x0010), "LO", b"ACME"),
        explicit(Tag(0x0009, 0x1001), "UN", b"\x01\x02"),
    ];
    assert_eq!(out, expected.concat());
}

#[test]
fn a_value_too_long_for_its_vr_becomes_un_and_an_odd_one_is_padded() {
    let long = vec![b'1'; 70_000];
    let source = [
        implicit(tags::IMAGE_TYPE, b"ABC"),
        implicit(tags::SOP_INSTANCE_UID, b"1.2"),
        implicit(tags::IMAGE_POSITION_PATIENT, &long),
    ]
    .concat();
    let out = plain(&source, IMPLICIT_LITTLE, Target::ExplicitLittleEndian).unwrap();
    let expected = [
        explicit(tags::IMAGE_TYPE, "CS", b"ABC "),
        explicit(tags::SOP_INSTANCE_UID, "UI", b"1.2\0"),
        explicit(tags::IMAGE_POSITION_PATIENT, "UN", &long),
    ];
    assert_eq!(out, expected.concat());
}

#[test]
fn un_of_undefined_length_is_read_as_implicit_and_written_as_a_sequence() {
    let inside = implicit(tags::PATIENT_ID, b"4711");
    let mut source = b"\x09\x00\x01\x10UN\0\0\xFF\xFF\xFF\xFF".to_vec();
    source.extend(implicit(Tag(0xFFFE, 0xE000), &inside));
    source.extend(implicit(Tag(0xFFFE, 0xE0DD), b""));
    source.extend(explicit(tags::PATIENT_ID, "LO", b"0815"));
    let out = plain(&source, EXPLICIT_LITTLE, Target::ExplicitLittleEndian).unwrap();
    let set = parse(&out, EXPLICIT_LITTLE).unwrap();
    let nested = &set.items(Tag(0x0009, 0x1001))[0];
    assert_eq!(nested.string(tags::PATIENT_ID), Some("4711"));
    assert!(
        out.windows(8)
            .any(|window| window == b"\x10\x00\x20\x00LO\x04\x00")
    );
    assert_eq!(set.string(tags::PATIENT_ID), Some("0815"));
}

#[test]
fn overrides_take_the_place_of_elements_are_added_in_order_and_remove() {
    let inside = explicit(tags::ROWS, "US", &[9, 9]);
    let source = [
        explicit(
            tags::REFERENCED_IMAGE_SEQUENCE,
            "SQ",
            &implicit(Tag(0xFFFE, 0xE000), &inside),
        ),
        explicit(tags::PHOTOMETRIC_INTERPRETATION, "CS", b"YBR_FULL"),
        explicit(tags::ROWS, "US", &[1, 0]),
        explicit(tags::COLUMNS, "US", &[2, 0]),
    ]
    .concat();
    let mut overrides = Overrides::default();
    overrides.put.put_text(tags::MODALITY, VR::CS, "OT");
    overrides
        .put
        .put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "RGB");
    overrides.put.put_u16(tags::BITS_ALLOCATED, 8);
    overrides.remove = vec![tags::ROWS];
    for target in TARGETS {
        let out = recode(&source, EXPLICIT_LITTLE, target, overrides.clone(), 3).unwrap();
        let set = parse(&out, &target.uid()).unwrap();
        let order: Vec<Tag> = set.iter().map(|element| element.tag).collect();
        assert_eq!(
            order,
            [
                tags::MODALITY,
                tags::REFERENCED_IMAGE_SEQUENCE,
                tags::PHOTOMETRIC_INTERPRETATION,
                tags::COLUMNS,
                tags::BITS_ALLOCATED
            ]
        );
        assert_eq!(set.string(tags::PHOTOMETRIC_INTERPRETATION), Some("RGB"));
        // What is nested is not the instance's own.
        assert_eq!(
            set.items(tags::REFERENCED_IMAGE_SEQUENCE)[0].u16(tags::ROWS),
            Some(0x0909)
        );
    }
    overrides.put.put_text(tags::PATIENT_NAME, VR::PN, "Müller");
    let error = Recoder::new(
        &Uid::constant(EXPLICIT_LITTLE),
        Target::ExplicitLittleEndian,
        overrides,
    );
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn sequences_without_end_are_refused_at_the_depth_limit_and_below_it_are_not() {
    let open = b"\x40\x00\x30\xA7SQ\0\0\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF";
    let error = plain(
        &open.repeat(20_000),
        EXPLICIT_LITTLE,
        Target::ImplicitLittleEndian,
    )
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.context().contains("deeper"));
    let deep = open.repeat(limits::SEQUENCE_DEPTH_MAX);
    assert!(plain(&deep, EXPLICIT_LITTLE, Target::ImplicitLittleEndian).is_ok());
}

#[test]
fn a_length_of_four_gigabytes_takes_no_memory_and_is_an_error_when_the_bytes_do_not_come() {
    let source = b"\xE0\x7F\x10\x00OW\0\0\xFE\xFF\xFF\xFF\x01\x02";
    let mut recoder = Recoder::new(
        &Uid::constant(EXPLICIT_LITTLE),
        Target::ImplicitLittleEndian,
        Overrides::default(),
    )
    .unwrap();
    recoder.push(Bytes::from_static(source));
    assert!(recoder.next_piece().unwrap().is_none());
    assert_eq!(recoder.finish().unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_deflated_data_set_is_inflated_piece_by_piece_and_a_bomb_is_refused() {
    use std::io::Write;
    let set = DataSet::from_iter([Element {
        tag: tags::ENCAPSULATED_DOCUMENT,
        vr: VR::OB,
        value: Value::Bytes(Bytes::from(vec![7; 300_000])),
    }]);
    let plain_bytes = encode(&set, EXPLICIT_LITTLE, &CharacterSet::default()).unwrap();
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    deflate.write_all(&plain_bytes).unwrap();
    let mut deflated = deflate.finish().unwrap();
    let whole = deflated.len();
    deflated.push(0);
    for chunk in [1, 7, usize::MAX] {
        let out = recode(
            &deflated,
            DEFLATED,
            Target::ExplicitLittleEndian,
            Overrides::default(),
            chunk,
        );
        assert!(out.unwrap() == plain_bytes);
    }
    let cut = plain(&deflated[..whole - 5], DEFLATED, Target::ExplicitLittleEndian);
    assert_eq!(cut.unwrap_err().kind(), ErrorKind::Invalid);

    let mut bomb = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(b"\xE0\x7F\x10\x00OW\0\0\xFE\xFF\xFF\xFF").unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..=limits::INFLATED_LENGTH_MAX_BYTES >> 20 {
        bomb.write_all(&zeros).unwrap();
    }
    let mut recoder = Recoder::new(
        &Uid::constant(DEFLATED),
        Target::ExplicitLittleEndian,
        Overrides::default(),
    )
    .unwrap();
    recoder.push(Bytes::from(bomb.finish().unwrap()));
    let error = loop {
        match recoder.next_piece() {
            // Pieces come one by one, whatever one piece of the source inflates to.
            Ok(piece) => assert!(piece.unwrap().len() <= 64 * 1024),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::OutOfResources);
}

#[test]
fn encapsulated_pixel_data_is_not_recoded() {
    let jpeg = Uid::constant("1.2.840.10008.1.2.4.50");
    let error = Recoder::new(&jpeg, Target::ExplicitLittleEndian, Overrides::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let source = b"\xE0\x7F\x10\x00OB\0\0\xFF\xFF\xFF\xFF";
    let error = plain(source, EXPLICIT_LITTLE, Target::ExplicitLittleEndian).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
}

#[test]
fn big_endian_cells_of_32_bits_are_swapped_whole_and_other_words_by_two_bytes() {
    let element = |tag: Tag, vr: &[u8], value: &[u8]| {
        let mut out = Vec::new();
        out.put_u16(tag.0);
        out.put_u16(tag.1);
        out.put_slice(vr);
        if vr == b"OW" {
            out.put_u16(0);
            out.put_u32(value.len() as u32);
        } else {
            out.put_u16(value.len() as u16);
        }
        out.put_slice(value);
        out
    };
    let words = [1, 2, 3, 4, 5, 6, 7, 8];
    for (bits, expected) in [
        (16, [2, 1, 4, 3, 6, 5, 8, 7]),
        (32, [4, 3, 2, 1, 8, 7, 6, 5]),
        (64, [8, 7, 6, 5, 4, 3, 2, 1]),
    ] {
        let source = [
            element(tags::BITS_ALLOCATED, b"US", &[0, bits]),
            element(Tag(0x6000, 0x3000), b"OW", &words),
            element(tags::PIXEL_DATA, b"OW", &words),
        ]
        .concat();
        for chunk in [1, 3, 1000] {
            let target = Target::ExplicitLittleEndian;
            let out = recode(&source, EXPLICIT_BIG, target, Overrides::default(), chunk).unwrap();
            assert_eq!(out[out.len() - 8..], expected, "{bits} in pieces of {chunk}");
            assert_eq!(out[out.len() - 28..out.len() - 20], [2, 1, 4, 3, 6, 5, 8, 7]);
        }
    }
}
