use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use proptest::prelude::*;

use super::{read, write};
use crate::dataset::described::arbitrary::{normal, set, without_binary};
use crate::dataset::metadata::{BulkValue, ElementPath};
use crate::dataset::{DataSet, Element, Value};
use crate::error::ErrorKind;
use crate::limits;

fn text_of(set: &DataSet) -> String {
    let mut out = Vec::new();
    write(set, &[], &|_| String::new(), &mut out);
    String::from_utf8(out).unwrap()
}

fn element(vr: VR, bytes: &[u8]) -> DataSet {
    let value = Value::Bytes(Bytes::copy_from_slice(bytes));
    let mut set = DataSet::new();
    let tag = Tag(0x0009, 0x1001);
    set.put(Element { tag, vr, value });
    set
}

/// What stands behind the VR.
fn value_of(vr: VR, bytes: &[u8]) -> String {
    let text = text_of(&element(vr, bytes));
    let start = format!("{{\"00091001\":{{\"vr\":\"{}\"", vr.to_string());
    text.strip_prefix(&start)
        .unwrap()
        .strip_suffix("}}")
        .unwrap()
        .to_owned()
}

#[test]
fn every_kind_of_value_is_written_as_annex_f_says() {
    for (vr, bytes, expected) in [
        (VR::CS, &b"A\\B "[..], r#","Value":["A","B"]"#),
        (VR::CS, b"  ", ""),
        (VR::CS, b"A\\\\C", r#","Value":["A",null,"C"]"#),
        (VR::CS, b"\\", r#","Value":[null,null]"#),
        (VR::LT, b"a\\b\r\n\"\x01", r#","Value":["a\\b\r\n\"\u0001"]"#),
        (VR::IS, b"+12\\x", r#","Value":[12,"x"]"#),
        (VR::DS, b"1.50\\.5\\1e999", r#","Value":[1.50,0.5,"1e999"]"#),
        (
            VR::PN,
            b"A^B==C\\=X\\=",
            r#","Value":[{"Alphabetic":"A^B","Phonetic":"C"},{"Ideographic":"X"},null]"#,
        ),
        (VR::US, b"\x01\x00\xFF\xFF", r#","Value":[1,65535]"#),
        (VR::SS, b"\xFE\xFF", r#","Value":[-2]"#),
        (
            VR::AT,
            b"\x10\x00\x20\x00\xE0\x7F\x10\x00",
            r#","Value":["00100020","7FE00010"]"#,
        ),
        (VR::FL, &0.1_f32.to_le_bytes(), r#","Value":[0.1]"#),
        (VR::FL, &f32::NAN.to_le_bytes(), r#","Value":["NaN"]"#),
        (
            VR::FD,
            &f64::NEG_INFINITY.to_le_bytes(),
            r#","Value":["-Infinity"]"#,
        ),
        (VR::FD, &1e300_f64.to_le_bytes(), r#","Value":[1e300]"#),
        (
            VR::UV,
            &(1_u64 << 53).to_le_bytes(),
            r#","Value":[9007199254740992]"#,
        ),
        (
            VR::UV,
            &u64::MAX.to_le_bytes(),
            r#","Value":["18446744073709551615"]"#,
        ),
        (
            VR::SV,
            &i64::MIN.to_le_bytes(),
            r#","Value":["-9223372036854775808"]"#,
        ),
        (VR::OB, b"\0\x01", r#","InlineBinary":"AAE=""#),
        (VR::UN, b"ab", r#","InlineBinary":"YWI=""#),
        (VR::UN, b"", ""),
        (VR::US, b"x", ""),
    ] {
        assert_eq!(value_of(vr, bytes), expected, "{vr:?}");
    }
}

#[test]
fn what_is_no_text_is_json_all_the_same() {
    let text = text_of(&element(VR::LO, b"\xFF\xFE\0x"));
    let whole: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(whole["00091001"]["Value"][0], "\u{FFFD}\u{FFFD}\0x");
}

#[test]
fn sequences_and_their_items_may_be_empty() {
    let mut set = DataSet::new();
    set.put_items(tags::REFERENCED_STUDY_SEQUENCE, Vec::new());
    set.put_items(
        tags::REFERENCED_SERIES_SEQUENCE,
        vec![DataSet::new(), DataSet::new()],
    );
    let text = text_of(&set);
    assert_eq!(
        text,
        r#"{"00081110":{"vr":"SQ"},"00081115":{"vr":"SQ","Value":[{},{}]}}"#
    );
    assert_eq!(read(text.as_bytes()).unwrap()[0].header, set);
}

#[test]
fn the_character_set_is_utf_8_and_group_length_and_file_meta_information_are_left_out() {
    let mut set = element(VR::LO, b"x");
    set.put_text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "\\ISO 2022 IR 87");
    set.put_text(tags::TRANSFER_SYNTAX_UID, VR::UI, "1.2");
    set.put_text(Tag(0x0008, 0), VR::UL, "x");
    set.put_text(Tag(0xFFFC, 0xFFFC), VR::OB, "x");
    let expected = r#"{"00080005":{"vr":"CS","Value":["ISO_IR 192"]},"00091001":{"vr":"LO","Value":["x"]}}"#;
    assert_eq!(text_of(&set), expected);
}

fn bulk(path: &str, length: Option<u64>) -> BulkValue {
    BulkValue {
        path: path.parse().unwrap(),
        vr: VR::OW,
        offset: 0,
        length,
        swapped: 1,
    }
}

#[test]
fn bulk_data_stands_in_its_place_also_in_items_and_before_all_else() {
    let mut item = DataSet::new();
    item.put_text(tags::PATIENT_ID, VR::LO, "1");
    let mut set = DataSet::new();
    set.put_items(tags::REFERENCED_SERIES_SEQUENCE, vec![DataSet::new(), item]);
    let values = [
        bulk("00080001", None),
        bulk("00081115/1/00090001", Some(4)),
        bulk("00081115/2/00090001", Some(4)),
        bulk("00081115/2/7FE00010", None),
        // Of what is not there nothing is told.
        bulk("00081115/3/7FE00010", None),
        bulk("00081140/1/7FE00010", None),
        bulk("7FE00010", Some(0)),
    ];
    let mut out = Vec::new();
    write(&set, &values, &|value| format!("../{}", value.path), &mut out);
    let expected = concat!(
        r#"{"00080001":{"vr":"OW","BulkDataURI":"../00080001"},"00081115":{"vr":"SQ","Value":["#,
        r#"{"00090001":{"vr":"OW","BulkDataURI":"../00081115/1/00090001"}},"#,
        r#"{"00090001":{"vr":"OW","BulkDataURI":"../00081115/2/00090001"},"00100020":{"vr":"LO","Value":["1"]},"#,
        r#""7FE00010":{"vr":"OW","BulkDataURI":"../00081115/2/7FE00010"}}]},"7FE00010":{"vr":"OW"}}"#
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let described = read(expected.as_bytes()).unwrap().remove(0);
    let paths: Vec<String> = described.bulk.iter().map(|one| one.path.to_string()).collect();
    assert_eq!(
        paths,
        [
            "00080001",
            "00081115/1/00090001",
            "00081115/2/00090001",
            "00081115/2/7FE00010"
        ]
    );
    assert!(
        described
            .bulk
            .iter()
            .all(|one| one.uri == format!("../{}", one.path))
    );
    assert_eq!(described.header.items(tags::REFERENCED_SERIES_SEQUENCE).len(), 2);
}

#[test]
fn members_may_come_in_any_order_and_unknown_ones_are_passed_over() {
    let text = r#" [ {"00100020": {"x": [{"a": [1, -2.5e3, true, false, null, "\ud83d\ude00"]}, {}], "Value": ["A"], "vr": "LO"},
        "00081140": {"Value": [{"00081155": {"Value": ["1.2"], "vr": "UI"}}], "vr": "SQ"},
        "00100010": {"vr": "PN", "Value": [{"Phonetic": "P", "Alphabetic": "A"}, null, {}]},
        "00200013": {"vr": "IS", "Value": ["5"]}, "00280010": {"Value": [512]}, "00280030": {"vr": "DS", "Value": [null]},
        "00080000": {"vr": "UL", "Value": [1]}, "00020010": {"vr": "UI", "Value": ["1.2.840"]} }, {} ] "#;
    let all = read(text.as_bytes()).unwrap();
    assert_eq!(all.len(), 2);
    let set = &all[0].header;
    let bytes = |tag| set.get(tag).map(|element| element.bytes().to_vec());
    assert_eq!(set.string(tags::PATIENT_ID), Some("A"));
    assert_eq!(
        set.items(Tag(0x0008, 0x1140))[0].string(Tag(0x0008, 0x1155)),
        Some("1.2")
    );
    assert_eq!(bytes(tags::PATIENT_NAME).unwrap(), b"A==P\\\\");
    assert_eq!(set.string(tags::INSTANCE_NUMBER), Some("5"));
    assert_eq!(set.u16(tags::ROWS), Some(512));
    assert_eq!(bytes(tags::PIXEL_SPACING).unwrap(), b"");
    assert_eq!(set.string(tags::TRANSFER_SYNTAX_UID), Some("1.2.840"));
    assert!(!set.contains(Tag(0x0008, 0)));
}

#[test]
fn what_is_not_json_or_not_the_model_is_invalid() {
    for text in [
        "",
        "[",
        "{",
        "[{}",
        "[{},]",
        "{,}",
        "[{}] x",
        "{}{}",
        "null",
        "[1]",
        "\"x\"",
        "\u{FEFF}",
        r#"{"PatientID":{"vr":"LO"}}"#,
        r#"{"00100020":{"vr":"LO",}}"#,
        r#"{"00100020":{"vr":"XX"}}"#,
        r#"{"00100020":{"vr":"LO","Value":"A"}}"#,
        r#"{"00100020":{"vr":"LO","Value":[true]}}"#,
        r#"{"00100020":{"vr":"LO","Value":[{"00100020":{"vr":"LO"}}]}}"#,
        r#"{"00100020":{"vr":"LO","Value":["A],"}}"#,
        r#"{"00100020":{"vr":"LO","Value":["\x"]}}"#,
        r#"{"00100020":{"vr":"LO","Value":["\u12"]}}"#,
        "{\"00100020\":{\"vr\":\"LO\",\"Value\":[\"a\nb\"]}}",
        r#"{"00280010":{"vr":"US","Value":[01]}}"#,
        r#"{"00280010":{"vr":"US","Value":[1.]}}"#,
        r#"{"00280010":{"vr":"US","Value":[70000]}}"#,
        r#"{"00280010":{"vr":"US","Value":[1],"InlineBinary":"AA=="}}"#,
        r#"{"00081140":{"vr":"SQ","Value":["A"]}}"#,
        r#"{"00081140":{"vr":"SQ","Value":[null]}}"#,
        r#"{"7FE00010":{"vr":"OW","InlineBinary":"*"}}"#,
        r#"{"7FE00010":{"vr":"OW","Value":[1]}}"#,
    ] {
        assert_eq!(
            read(text.as_bytes()).unwrap_err().kind(),
            ErrorKind::Invalid,
            "{text}"
        );
    }
    assert_eq!(read(b"{\"\xFF\":{}}").unwrap_err().kind(), ErrorKind::Invalid);
    let one = format!(r#"{{"x":{}1{}}}"#, "[".repeat(300), "]".repeat(300));
    let deep = format!(r#"{{"00100020":{one}}}"#);
    assert_eq!(read(deep.as_bytes()).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn sequences_are_read_as_deep_as_a_scan_reads_them_and_no_deeper() {
    let nested = |depth: usize| {
        let (open, close) = (r#"{"00081140":{"vr":"SQ","Value":["#, "]}}");
        format!("{}{{}}{}", open.repeat(depth), close.repeat(depth))
    };
    let deepest = nested(limits::SEQUENCE_DEPTH_MAX);
    let read_back = read(deepest.as_bytes()).unwrap().remove(0).header;
    assert_eq!(text_of(&read_back), deepest);
    let error = read(nested(limits::SEQUENCE_DEPTH_MAX + 1).as_bytes()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(read(nested(100_000).as_bytes()).is_err());
}

proptest! {
    #[test]
    fn any_data_set_is_json_and_comes_back(set in set(3)) {
        let text = text_of(&set);
        let whole: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert!(whole.is_object());
        let described = read(text.as_bytes()).unwrap().remove(0);
        prop_assert!(described.bulk.is_empty());
        prop_assert_eq!(normal(&described.header, false), normal(&set, false));
    }

    #[test]
    fn bulk_data_of_any_place_comes_back_where_it_was(set in set(3)) {
        let (header, bulk) = without_binary(&set);
        let mut out = Vec::new();
        write(&header, &bulk, &|value| format!("u\"\\{}", value.path), &mut out);
        let described = read(&out).unwrap().remove(0);
        prop_assert_eq!(normal(&described.header, false), normal(&header, false));
        let found: Vec<(ElementPath, VR)> = described.bulk.iter().map(|one| (one.path.clone(), one.vr)).collect();
        let expected: Vec<(ElementPath, VR)> = bulk.iter().map(|one| (one.path.clone(), one.vr)).collect();
        prop_assert_eq!(found, expected);
        let uri = |path: &ElementPath| format!("u\"\\{}", path);
        let named = described.bulk.iter().all(|one| one.uri == uri(&one.path));
        prop_assert!(named);
    }

    #[test]
    fn damaged_json_never_panics(set in set(2), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut text = text_of(&set).into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        let ours = read(&text);
        // What is read is JSON.
        if ours.is_ok() {
            let theirs = serde_json::from_slice::<serde_json::Value>(&text);
            let known = theirs.as_ref().is_err_and(|error| error.to_string().contains("surrogate") || error.to_string().contains("out of range"));
            prop_assert!(known || theirs.is_ok(), "{:?}", theirs);
        }
        let _ = read(&text[..at]);
    }
}
