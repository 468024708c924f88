use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use proptest::prelude::*;

use super::{read, write};
use crate::dataset::described::arbitrary::{normal, set, without_binary};
use crate::dataset::metadata::ElementPath;
use crate::dataset::{DataSet, Element, Value};
use crate::error::ErrorKind;
use crate::limits;

const START: &str = concat!(
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
    "<NativeDicomModel xmlns=\"http://dicom.nema.org/PS3.19/models/NativeDICOM\" xml:space=\"preserve\">"
);

fn text_of(set: &DataSet) -> String {
    let mut out = Vec::new();
    write(set, &[], &|_| String::new(), &mut out);
    String::from_utf8(out).unwrap()
}

/// What stands in the one attribute of a data set.
fn value_of(vr: VR, bytes: &[u8]) -> String {
    let value = Value::Bytes(Bytes::copy_from_slice(bytes));
    let tag = Tag(0x0009, 0x1001);
    let mut set = DataSet::new();
    set.put(Element { tag, vr, value });
    let text = text_of(&set);
    let start = format!(
        "{START}<DicomAttribute tag=\"00091001\" vr=\"{}\">",
        vr.to_string()
    );
    let end = "</DicomAttribute></NativeDicomModel>";
    text.strip_prefix(&start)
        .unwrap()
        .strip_suffix(end)
        .unwrap()
        .to_owned()
}

#[test]
fn every_kind_of_value_is_written_as_annex_a_says() {
    for (vr, bytes, expected) in [
        (
            VR::CS,
            &b"A\\B "[..],
            r#"<Value number="1">A</Value><Value number="2">B</Value>"#,
        ),
        (VR::CS, b"  ", ""),
        (
            VR::LT,
            b"a<b>&\"\r\n\x1b",
            "<Value number=\"1\">a&lt;b&gt;&amp;&quot;&#13;&#10;\u{FFFD}</Value>",
        ),
        (VR::DS, b"+1.50", r#"<Value number="1">+1.50</Value>"#),
        (
            VR::PN,
            b"Family^Given^^Dr.==Phon^etic",
            concat!(
                r#"<PersonName number="1"><Alphabetic><FamilyName>Family</FamilyName><GivenName>Given</GivenName>"#,
                "<NamePrefix>Dr.</NamePrefix></Alphabetic><Phonetic><FamilyName>Phon</FamilyName>",
                "<GivenName>etic</GivenName></Phonetic></PersonName>"
            ),
        ),
        (VR::SL, &(-7_i32).to_le_bytes(), r#"<Value number="1">-7</Value>"#),
        (
            VR::FL,
            &f32::NAN.to_le_bytes(),
            r#"<Value number="1">NaN</Value>"#,
        ),
        (
            VR::AT,
            b"\x10\x00\x20\x00",
            r#"<Value number="1">00100020</Value>"#,
        ),
        (VR::UN, b"ab", "<InlineBinary>YWI=</InlineBinary>"),
    ] {
        assert_eq!(value_of(vr, bytes), expected, "{vr:?}");
    }
}

#[test]
fn private_elements_are_named_by_their_creator_and_find_their_block_again() {
    let mut set = DataSet::new();
    for (block, creator) in [(0x10, "FIRST"), (0x23, "A<B")] {
        set.put_text(Tag(0x0009, block), VR::LO, creator);
        set.put_text(Tag(0x0009, block << 8 | 1), VR::LO, creator);
    }
    set.put_text(Tag(0x0011, 0x1001), VR::LO, "of nobody");
    let text = text_of(&set);
    assert!(text.contains(r#"<DicomAttribute tag="00090001" vr="LO" privateCreator="A&lt;B">"#));
    assert!(text.contains(r#"<DicomAttribute tag="00111001" vr="LO">"#));
    assert_eq!(read(text.as_bytes()).unwrap().header, set);
    // A second block of one creator is told apart.
    set.put_text(Tag(0x0009, 0x24), VR::LO, "A<B");
    set.put_text(Tag(0x0009, 0x2401), VR::LO, "again");
    assert_eq!(read(text_of(&set).as_bytes()).unwrap().header, set);
    // Without its reservation it gets a free block.
    let alone = r#"<NativeDicomModel><DicomAttribute tag="00090010" vr="LO"><Value number="1">TAKEN</Value></DicomAttribute>
        <DicomAttribute tag="00090001" vr="OB" privateCreator="NEW"><BulkData uri="x"/></DicomAttribute></NativeDicomModel>"#;
    let described = read(alone.as_bytes()).unwrap();
    assert_eq!(described.header.string(Tag(0x0009, 0x0011)), Some("NEW"));
    assert_eq!(described.bulk[0].path, ElementPath::new(Tag(0x0009, 0x1101)));
}

#[test]
fn numbers_of_values_leave_out_what_is_empty_and_sections_and_entities_are_text() {
    let text = r#"<?xml version="1.0"?><!-- a comment --><d:NativeDicomModel xmlns:d="x">
        <d:DicomAttribute tag="00080008" vr="CS" keyword="ImageType">
            <d:Value number="2"><![CDATA[A&B]]></d:Value> <d:Value number="4">&lt;&#x43;</d:Value>
        </d:DicomAttribute>
        <d:DicomAttribute tag="00080005"/>
    </d:NativeDicomModel>"#;
    let header = read(text.as_bytes()).unwrap().header;
    assert_eq!(header.get(tags::IMAGE_TYPE).unwrap().bytes(), b"\\A&B\\\\<C");
    assert_eq!(
        header.get(tags::SPECIFIC_CHARACTER_SET).map(|element| element.vr),
        Some(VR::CS)
    );
}

#[test]
fn what_is_not_xml_or_not_the_model_is_invalid() {
    let attribute = |inside: &str| {
        format!(
            "<NativeDicomModel><DicomAttribute tag=\"00100020\" vr=\"LO\">{inside}</DicomAttribute></NativeDicomModel>"
        )
    };
    for text in [
        "".to_owned(),
        "<x/>".to_owned(),
        "<NativeDicomModel>".to_owned(),
        "<NativeDicomModel></x>".to_owned(),
        "<NativeDicomModel/><NativeDicomModel/>".to_owned(),
        "<NativeDicomModel>text</NativeDicomModel>".to_owned(),
        "<NativeDicomModel><DicomAttribute vr=\"LO\"/></NativeDicomModel>".to_owned(),
        "<NativeDicomModel><DicomAttribute tag=\"00100020\" vr=\"XX\"/></NativeDicomModel>".to_owned(),
        "<!DOCTYPE x [<!ENTITY a \"b\">]><NativeDicomModel/>".to_owned(),
        attribute("<Value>&unknown;</Value>"),
        attribute("<Value>&#0;</Value>"),
        attribute("<Value number=\"0\">A</Value>"),
        attribute("<Value number=\"2\">A</Value><Value number=\"1\">A</Value>"),
        attribute("<Value number=\"4000000000\">A</Value>"),
        attribute("<Item number=\"1\"/>"),
        attribute("<Value>A</Value><BulkData uri=\"x\"/>"),
        attribute("<BulkData/>"),
        attribute("<Other/>"),
        attribute("<PersonName><Other/></PersonName>"),
    ] {
        assert_eq!(
            read(text.as_bytes()).unwrap_err().kind(),
            ErrorKind::Invalid,
            "{text}"
        );
    }
}

#[test]
fn sequences_are_read_as_deep_as_a_scan_reads_them_and_no_deeper() {
    let nested = |depth: usize| {
        let open = "<DicomAttribute tag=\"00081140\" vr=\"SQ\"><Item number=\"1\">";
        let close = "</Item></DicomAttribute>";
        format!(
            "<NativeDicomModel>{}{}</NativeDicomModel>",
            open.repeat(depth),
            close.repeat(depth)
        )
    };
    assert!(read(nested(limits::SEQUENCE_DEPTH_MAX).as_bytes()).is_ok());
    assert!(read(nested(limits::SEQUENCE_DEPTH_MAX + 1).as_bytes()).is_err());
    assert!(read(nested(100_000).as_bytes()).is_err());
}

proptest! {
    #[test]
    fn any_data_set_is_xml_and_comes_back(set in set(3)) {
        let text = text_of(&set);
        let described = read(text.as_bytes()).unwrap();
        prop_assert!(described.bulk.is_empty());
        prop_assert_eq!(normal(&described.header, true), normal(&set, true));
    }

    #[test]
    fn bulk_data_of_any_place_comes_back_where_it_was(set in set(3)) {
        let (header, bulk) = without_binary(&set);
        let mut out = Vec::new();
        write(&header, &bulk, &|value| format!("u\"<{}", value.path), &mut out);
        let described = read(&out).unwrap();
        prop_assert_eq!(normal(&described.header, true), normal(&header, true));
        let found: Vec<(ElementPath, VR)> = described.bulk.iter().map(|one| (one.path.clone(), one.vr)).collect();
        let expected: Vec<(ElementPath, VR)> = bulk.iter().map(|one| (one.path.clone(), one.vr)).collect();
        prop_assert_eq!(found, expected);
        let uri = |path: &ElementPath| format!("u\"<{}", path);
        let named = described.bulk.iter().all(|one| one.uri == uri(&one.path));
        prop_assert!(named);
    }

    #[test]
    fn damaged_xml_never_panics(set in set(2), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut text = text_of(&set).into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        let _ = read(&text);
        let _ = read(&text[..at]);
    }
}
