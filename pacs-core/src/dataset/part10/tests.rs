use super::*;
use proptest::prelude::*;

const CT: Uid = Uid::constant("1.2.840.10008.5.1.4.1.1.2");
const EXPLICIT: Uid = Uid::constant("1.2.840.10008.1.2.1");
const DATA: &[u8] = b"\x08\x00\x16\x00UI\x1a\x001.2.840.10008.5.1.4.1.1.2\0";

fn meta() -> Meta {
    Meta {
        sop_class: CT,
        sop_instance: Uid::constant("1.2.3"),
        transfer_syntax: EXPLICIT,
        source: Some(AeTitle::parse("MODALITY").unwrap()),
        sending: Some(AeTitle::parse("SENDER1").unwrap()),
        receiving: None,
    }
}

/// Feeds ever more of `file`; it must ask for more until it answers, and then stay with the answer.
fn read(file: &[u8]) -> Result<FileMeta> {
    let answer = read_meta(file, true)?.expect("never asks for more than there is");
    let mut early = None;
    for end in 0..=file.len() {
        match (read_meta(&file[..end], false), &early) {
            (Ok(None), None) => {}
            (Ok(Some(found)), None) => early = Some(found),
            (Ok(Some(found)), Some(before)) => assert_eq!(found, *before),
            (other, _) => panic!("{other:?} after {early:?}"),
        }
    }
    assert_eq!(early.as_ref(), Some(&answer));
    Ok(answer)
}

#[test]
fn what_is_written_is_read_again_and_the_data_set_follows_at_once() {
    let written = write_meta(&meta());
    assert_eq!(written.len() % 2, 0);
    let found = read(&[&written[..], DATA].concat()).unwrap();
    assert_eq!(found.data_set_offset, written.len() as u64);
    assert_eq!(found.transfer_syntax, EXPLICIT);
    assert_eq!(found.sop_class, Some(CT));
    assert_eq!(found.sop_instance, Some(meta().sop_instance));
    assert!(found.had_preamble && found.had_meta && found.transfer_syntax_declared && !found.is_directory());
    let text = |tag| found.elements.string(tag);
    assert_eq!(
        text(tags::IMPLEMENTATION_CLASS_UID),
        Some(IMPLEMENTATION_CLASS_UID.as_str())
    );
    assert_eq!(
        text(tags::IMPLEMENTATION_VERSION_NAME),
        Some(IMPLEMENTATION_VERSION_NAME)
    );
    assert_eq!(text(tags::SOURCE_APPLICATION_ENTITY_TITLE), Some("MODALITY"));
    assert_eq!(text(tags::SENDING_APPLICATION_ENTITY_TITLE), Some("SENDER1"));
    assert_eq!(text(tags::RECEIVING_APPLICATION_ENTITY_TITLE), None);
    // The group length counts from behind itself to the data set (PS3.10 7.1).
    let length = found
        .elements
        .get(tags::FILE_META_INFORMATION_GROUP_LENGTH)
        .unwrap();
    assert_eq!(length.bytes(), (written.len() as u32 - 144).to_le_bytes());
}

#[test]
fn a_wrong_or_missing_group_length_does_not_matter() {
    let mut file = [&write_meta(&meta())[..], DATA].concat();
    let before = read(&file).unwrap().data_set_offset;
    file[140..144].copy_from_slice(&7_u32.to_le_bytes());
    assert_eq!(read(&file).unwrap().data_set_offset, before);
    file.drain(132..144);
    assert_eq!(read(&file).unwrap().data_set_offset, before - 12);
}

#[test]
fn meta_without_vr_and_without_preamble_is_read() {
    let mut bare = b"DICM".to_vec();
    for (tag, value) in [
        (0x02_u16, &b"1.2.840.10008.5.1.4.1.1.2\0"[..]),
        (0x10, b"1.2.840.10008.1.2.1\0"),
    ] {
        bare.extend([2, 0, tag as u8, 0]);
        bare.extend((value.len() as u32).to_le_bytes());
        bare.extend(value);
    }
    bare.extend(DATA);
    for file in [bare.clone(), bare[4..].to_vec(), [vec![0; 128], bare].concat()] {
        // Only behind the place of the preamble is it known that there is none.
        let found = read(&[&file[..], &[b' '; 128]].concat()).unwrap();
        assert_eq!(found.transfer_syntax, EXPLICIT);
        assert_eq!(found.sop_class, Some(CT));
        assert_eq!(&file[found.data_set_offset as usize..], DATA);
    }
}

#[test]
fn without_any_meta_the_first_element_tells_the_transfer_syntax() {
    let padded = |start: &[u8]| [start, &[b'1'; 200]].concat();
    for (start, syntax) in [
        (DATA, "1.2.840.10008.1.2.1"),
        (&b"\x08\x00\x16\x00\xc8\0\0\0"[..], "1.2.840.10008.1.2"),
        (b"\x00\x08\x00\x16UI\x00\xc8", "1.2.840.10008.1.2.2"),
    ] {
        let found = read(&padded(start)).unwrap();
        assert_eq!(found.transfer_syntax.as_str(), syntax);
        assert_eq!(found.data_set_offset, 0);
        assert!(!found.had_preamble && !found.had_meta && !found.transfer_syntax_declared);
    }
}

#[test]
fn a_directory_is_recognized() {
    let file = [
        &write_meta(&Meta {
            sop_class: MEDIA_STORAGE_DIRECTORY,
            ..meta()
        })[..],
        DATA,
    ]
    .concat();
    assert!(read(&file).unwrap().is_directory());
}

#[test]
fn what_is_no_dicom_file_and_endless_meta_are_refused() {
    for bytes in [&b""[..], b"GIF89a", &[0; 500], &b"<html>".repeat(100)] {
        assert_eq!(read_meta(bytes, true).unwrap_err().kind(), ErrorKind::Invalid);
    }
    let mut file = [vec![0; 128], b"DICM".to_vec()].concat();
    file.extend(b"\x02\x00\x02\x01OB\0\0\xff\xff\xff\x7f");
    assert!(
        read_meta(&file, false).is_err(),
        "the length is refused before its bytes come"
    );
    let mut many = [vec![0; 128], b"DICM".to_vec()].concat();
    while many.len() < limits::FILE_META_LENGTH_MAX_BYTES + 1024 {
        many.extend(b"\x02\x00\x16\x00AE\x00\x00");
    }
    assert!(read_meta(&many, false).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        written in any::<bool>(),
    ) {
        if written {
            bytes = [&write_meta(&meta())[..], DATA].concat();
        }
        for (at, byte) in damage {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        if let Ok(found) = read_meta(&bytes, true) {
            let found = found.expect("never asks for more than there is");
            prop_assert!(found.data_set_offset <= bytes.len() as u64);
        }
    }
}
