use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use proptest::prelude::*;

use super::Splicer;
use crate::dataset::charset::CharacterSet;
use crate::dataset::encode;
use crate::dataset::scan::parse;
use crate::dataset::syntax::{EXPLICIT_BIG, EXPLICIT_LITTLE, Encoding, IMPLICIT_LITTLE};
use crate::dataset::{DataSet, Element, Value};
use crate::error::{ErrorKind, Result};

const JPEG: &str = "1.2.840.10008.1.2.4.50";

/// Splices `source`, given in pieces of `chunk` bytes.
fn splice(source: &[u8], syntax: &str, put: &DataSet, chunk: usize) -> Result<Vec<u8>> {
    splice_of(source, syntax, put, chunk, source.len())
}

fn splice_of(source: &[u8], syntax: &str, put: &DataSet, chunk: usize, length: usize) -> Result<Vec<u8>> {
    let charset = CharacterSet::parse("ISO_IR 100");
    let mut splicer = Splicer::new(syntax, charset, put.clone(), &[], length as u64);
    let mut out = Vec::new();
    for piece in source.chunks(chunk.max(1)) {
        splicer.push(Bytes::copy_from_slice(piece))?;
        while let Some(piece) = splicer.next_piece() {
            out.extend_from_slice(&piece);
        }
        let held: usize = splicer.held.iter().map(Bytes::len).sum();
        assert!(held < 12, "{held} bytes are held");
    }
    splicer.finish()?;
    while let Some(piece) = splicer.next_piece() {
        out.extend_from_slice(&piece);
    }
    Ok(out)
}

fn text(tag: Tag, vr: VR, value: &str) -> Element {
    Element {
        tag,
        vr,
        value: Value::Bytes(Bytes::copy_from_slice(value.as_bytes())),
    }
}

fn bytes(element: &Element, encoding: Encoding) -> Vec<u8> {
    encode::element(element, encoding, &CharacterSet::parse("ISO_IR 100")).unwrap()
}

fn explicit(elements: &[Element]) -> Vec<u8> {
    elements
        .iter()
        .flat_map(|element| bytes(element, Encoding::EXPLICIT))
        .collect()
}

fn set(elements: &[Element]) -> DataSet {
    elements.iter().cloned().collect()
}

fn u16(encoding: Encoding, number: u16) -> [u8; 2] {
    if encoding.big_endian {
        number.to_be_bytes()
    } else {
        number.to_le_bytes()
    }
}

fn header(encoding: Encoding, tag: Tag, vr: Option<&[u8; 2]>, length: u32) -> Vec<u8> {
    let mut out = [u16(encoding, tag.0), u16(encoding, tag.1)].concat();
    if let Some(vr) = vr.filter(|_| encoding.explicit) {
        out.extend_from_slice(vr);
        out.extend_from_slice(&[0, 0]);
    }
    out.extend(if encoding.big_endian {
        length.to_be_bytes()
    } else {
        length.to_le_bytes()
    });
    out
}

/// A sequence of undefined length, in an item of undefined length an element whose tag might be taken for one
/// of the top level.
fn undefined(encoding: Encoding, tag: Tag, vr: &[u8; 2]) -> Vec<u8> {
    // PS3.5 6.2.2.
    let inside = if vr == b"UN" { Encoding::IMPLICIT } else { encoding };
    [
        header(encoding, tag, Some(vr), u32::MAX),
        header(inside, Tag(0xFFFE, 0xE000), None, u32::MAX),
        bytes(&text(tags::PATIENT_ID, VR::LO, "nested"), inside),
        header(inside, Tag(0xFFFE, 0xE00D), None, 0),
        header(inside, Tag(0xFFFE, 0xE0DD), None, 0),
    ]
    .concat()
}

/// Encapsulated pixel data of two fragments, one of which looks like an element.
fn fragments() -> Vec<u8> {
    let item = |length| header(Encoding::EXPLICIT, Tag(0xFFFE, 0xE000), None, length);
    let lure = bytes(&text(tags::PATIENT_ID, VR::LO, "lure"), Encoding::EXPLICIT);
    [
        header(Encoding::EXPLICIT, tags::PIXEL_DATA, Some(b"OB"), u32::MAX),
        item(0),
        item(lure.len() as u32),
        lure,
        item(2),
        vec![7, 8],
        header(Encoding::EXPLICIT, Tag(0xFFFE, 0xE0DD), None, 0),
    ]
    .concat()
}

/// What may stand in a source: with the same `seed` always the same bytes.
fn sources(seed: usize, encoding: Encoding) -> Vec<(Tag, Vec<u8>)> {
    let one = |element: Element| (element.tag, bytes(&element, encoding));
    let item = set(&[
        text(tags::PATIENT_ID, VR::LO, "item"),
        text(tags::PATIENT_NAME, VR::PN, "Bj\u{f6}rk"),
    ]);
    let long = "x".repeat(seed % 3000);
    let sequence = Element {
        tag: tags::REFERENCED_STUDY_SEQUENCE,
        vr: VR::SQ,
        value: Value::Items(vec![item.clone(), DataSet::new(), item]),
    };
    vec![
        one(text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 100")),
        one(text(tags::ACCESSION_NUMBER, VR::SH, "A1")),
        one(text(tags::STUDY_DESCRIPTION, VR::LO, &long)),
        one(sequence),
        (
            tags::REFERENCED_SERIES_SEQUENCE,
            undefined(encoding, tags::REFERENCED_SERIES_SEQUENCE, b"SQ"),
        ),
        one(text(tags::PATIENT_NAME, VR::PN, "Bj\u{f6}rk")),
        one(text(tags::PATIENT_ID, VR::LO, "")),
        (
            tags::OTHER_PATIENT_I_DS_SEQUENCE,
            undefined(encoding, tags::OTHER_PATIENT_I_DS_SEQUENCE, b"UN"),
        ),
        one(text(tags::STUDY_ID, VR::SH, "S")),
        (
            tags::REQUEST_ATTRIBUTES_SEQUENCE,
            undefined(encoding, tags::REQUEST_ATTRIBUTES_SEQUENCE, b"SQ"),
        ),
    ]
}

fn puts() -> Vec<Element> {
    let original = set(&[text(tags::PATIENT_NAME, VR::PN, "\u{c5}se")]);
    vec![
        text(tags::ACCESSION_NUMBER, VR::SH, "A2000"),
        text(tags::PATIENT_NAME, VR::PN, "\u{c5}se"),
        text(tags::PATIENT_ID, VR::LO, "4711"),
        text(tags::ISSUER_OF_PATIENT_ID, VR::LO, "H"),
        Element {
            tag: tags::OTHER_PATIENT_I_DS_SEQUENCE,
            vr: VR::SQ,
            value: Value::Items(Vec::new()),
        },
        text(tags::STUDY_ID, VR::SH, "T"),
        Element {
            tag: tags::ORIGINAL_ATTRIBUTES_SEQUENCE,
            vr: VR::SQ,
            value: Value::Items(vec![original]),
        },
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn elements_are_replaced_or_added_and_every_other_byte_stays(
        seed in any::<usize>(),
        syntax in prop::sample::select(vec![EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG, JPEG]),
        present in any::<u16>(),
        wanted in any::<u8>(),
        chunk in 1_usize..300,
    ) {
        let encoding = Encoding::of(syntax);
        let chosen = |mask: u16, at: usize| mask >> at & 1 == 1;
        let mut parts: Vec<(Tag, Vec<u8>)> = sources(seed, encoding)
            .into_iter().enumerate().filter(|(at, _)| chosen(present, *at)).map(|(_, part)| part).collect();
        let pixels = if syntax == JPEG {
            fragments()
        } else {
            bytes(&Element { tag: tags::PIXEL_DATA, vr: VR::OW, value: Value::Bytes(vec![1; 900].into()) }, encoding)
        };
        parts.push((tags::PIXEL_DATA, pixels));
        let put: Vec<Element> = puts()
            .into_iter().enumerate().filter(|(at, _)| chosen(wanted.into(), *at)).map(|(_, part)| part).collect();
        let source: Vec<u8> = parts.iter().flat_map(|(_, part)| part.clone()).collect();
        for element in &put {
            parts.retain(|(tag, _)| *tag != element.tag);
            parts.push((element.tag, bytes(element, encoding)));
        }
        parts.sort_by_key(|(tag, _)| *tag);
        let expected: Vec<u8> = parts.into_iter().flat_map(|(_, part)| part).collect();
        let spliced = splice(&source, syntax, &set(&put), chunk).unwrap();
        prop_assert_eq!(&spliced, &expected);
        // And what is read back is what was read, edited.
        if syntax != JPEG {
            let named = present & 1 == 1;
            let mut edited = parse(&source, syntax).unwrap();
            for element in put.into_iter().filter(|_| named) {
                edited.put(element);
            }
            if named {
                prop_assert_eq!(trimmed(&parse(&spliced, syntax).unwrap()), trimmed(&edited));
            }
        }
    }

    #[test]
    fn any_bytes_are_passed_on_or_refused_and_never_a_panic(
        source in prop::collection::vec(any::<u8>(), 0..200),
        syntax in prop::sample::select(vec![EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG, JPEG]),
        chunk in 1_usize..50,
    ) {
        let _ = splice(&source, syntax, &set(&puts()), chunk);
    }
}

fn trimmed(set: &DataSet) -> DataSet {
    let trim = |element: &Element| Element {
        value: match &element.value {
            Value::Items(items) => Value::Items(items.iter().map(trimmed).collect()),
            Value::Bytes(bytes) => Value::Bytes(bytes.trim_ascii_end().to_vec().into()),
        },
        ..element.clone()
    };
    set.iter().map(trim).collect()
}

fn patient_id() -> Element {
    text(tags::PATIENT_ID, VR::LO, "47")
}

#[test]
fn group_length_of_a_group_that_changes_is_left_out() {
    let length = |group| Element {
        tag: Tag(group, 0),
        vr: VR::UL,
        value: Value::Bytes(Bytes::from_static(&[10, 0, 0, 0])),
    };
    // The encoder writes none itself.
    let raw = |group| {
        [
            &header(Encoding::EXPLICIT, Tag(group, 0), None, 0)[..4],
            b"UL\x04\0",
            length(group).bytes(),
        ]
        .concat()
    };
    let modality = text(tags::MODALITY, VR::CS, "CT");
    let source = [
        raw(8),
        explicit(std::slice::from_ref(&modality)),
        raw(0x10),
        explicit(&[text(tags::PATIENT_ID, VR::LO, "1")]),
    ]
    .concat();
    let expected = [raw(8), explicit(&[modality, patient_id()])].concat();
    assert_eq!(
        splice(&source, EXPLICIT_LITTLE, &set(&[patient_id()]), 5).unwrap(),
        expected
    );
}

#[test]
fn an_element_that_comes_twice_or_out_of_order_gives_way_each_time() {
    let study = text(tags::STUDY_ID, VR::SH, "S1");
    let name = text(tags::PATIENT_NAME, VR::PN, "AB");
    let old = text(tags::PATIENT_ID, VR::LO, "OLD!");
    let source = explicit(&[old.clone(), study.clone(), name.clone(), old]);
    let expected = explicit(&[patient_id(), study, name]);
    assert_eq!(
        splice(&source, EXPLICIT_LITTLE, &set(&[patient_id()]), 7).unwrap(),
        expected
    );
}

#[test]
fn what_is_laid_out_otherwise_than_its_transfer_syntax_says_stays_so() {
    let name = text(tags::PATIENT_NAME, VR::PN, "AB");
    let expected = explicit(&[name.clone(), patient_id()]);
    let spliced = splice(&explicit(&[name]), IMPLICIT_LITTLE, &set(&[patient_id()]), 7).unwrap();
    assert_eq!(spliced, expected);
}

#[test]
fn what_is_added_at_the_end_stands_before_zeros_that_fill_up() {
    for zeros in [3, 8, 50] {
        let modality = text(tags::MODALITY, VR::CS, "CT");
        let source = [explicit(std::slice::from_ref(&modality)), vec![0; zeros]].concat();
        let expected = [explicit(&[modality, patient_id()]), vec![0; zeros]].concat();
        let spliced = splice(&source, EXPLICIT_LITTLE, &set(&[patient_id()]), 9).unwrap();
        assert_eq!(spliced, expected, "{zeros} zeros");
    }
}

#[test]
fn what_is_added_stands_before_an_element_that_is_cut_off() {
    let modality = text(tags::MODALITY, VR::CS, "CT");
    let cut = explicit(&[text(tags::PATIENT_ID, VR::LO, "cut off")]);
    let source = [&explicit(std::slice::from_ref(&modality))[..], &cut[..11]].concat();
    let study = text(tags::STUDY_ID, VR::SH, "S1");
    let expected = [&explicit(&[modality, study.clone()])[..], &cut[..11]].concat();
    assert_eq!(
        splice(&source, EXPLICIT_LITTLE, &set(&[study]), 4).unwrap(),
        expected
    );
}

#[test]
fn sequences_that_a_sender_did_not_end_are_ended_before_what_is_added() {
    let whole = undefined(Encoding::BIG, tags::REFERENCED_SERIES_SEQUENCE, b"SQ");
    let expected = [&whole[..], &bytes(&patient_id(), Encoding::BIG)].concat();
    let spliced = splice(&whole[..whole.len() - 16], EXPLICIT_BIG, &set(&[patient_id()]), 6).unwrap();
    assert_eq!(spliced, expected);
}

#[test]
fn a_data_set_that_is_cut_off_where_nothing_can_be_added_is_invalid() {
    let whole = undefined(Encoding::EXPLICIT, tags::REFERENCED_SERIES_SEQUENCE, b"SQ");
    let error = splice(
        &whole[..whole.len() - 20],
        EXPLICIT_LITTLE,
        &set(&[patient_id()]),
        6,
    )
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn a_data_set_cut_off_in_its_pixel_data_is_spliced_up_to_there() {
    let source = fragments();
    let expected = [&explicit(&[patient_id()])[..], &source[..40]].concat();
    assert_eq!(
        splice_of(&source[..40], JPEG, &set(&[patient_id()]), 6, 40).unwrap(),
        expected
    );
}

#[test]
fn what_the_character_set_can_not_say_is_invalid() {
    let error = splice(
        &[],
        EXPLICIT_LITTLE,
        &set(&[text(tags::PATIENT_NAME, VR::PN, "山田")]),
        1,
    )
    .unwrap_err();
    assert_eq!(
        (error.kind(), error.tags()),
        (ErrorKind::Invalid, &[tags::PATIENT_NAME][..])
    );
}
