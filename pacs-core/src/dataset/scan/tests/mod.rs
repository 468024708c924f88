mod frames;
mod lenient;
mod property;

use super::{ProblemKind, Scan, Scanner, parse};
use crate::dataset::syntax::{ITEM, ITEM_END, SEQUENCE_END, UNDEFINED, has_long_length};
use crate::uid::Uid;
use dicom_core::{Tag, VR};

const IMPLICIT: &str = "1.2.840.10008.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
const BIG: &str = "1.2.840.10008.1.2.2";
const JPEG: &str = "1.2.840.10008.1.2.4.50";

/// Scans `bytes` in pieces of `piece` bytes.
fn scan_in_pieces(bytes: &[u8], syntax: &str, piece: usize) -> crate::Result<Scan> {
    let mut scanner = Scanner::new(&Uid::parse(syntax).unwrap());
    for piece in bytes.chunks(piece) {
        scanner.push(piece)?;
    }
    scanner.finish()
}

/// Scans `bytes` whole and byte by byte, which must be the same.
fn scan(bytes: &[u8], syntax: &str) -> Scan {
    let whole = scan_in_pieces(bytes, syntax, usize::MAX).unwrap();
    assert_eq!(scan_in_pieces(bytes, syntax, 1).unwrap(), whole);
    whole
}

fn kinds(scan: &Scan) -> Vec<ProblemKind> {
    scan.problems.iter().map(|problem| problem.kind).collect()
}

fn tag(tag: Tag) -> [u8; 4] {
    let (g, e) = (tag.0.to_le_bytes(), tag.1.to_le_bytes());
    [g[0], g[1], e[0], e[1]]
}

/// The header of an element in Explicit VR Little Endian.
fn header(t: Tag, vr: VR, length: u32) -> Vec<u8> {
    let mut bytes = tag(t).to_vec();
    bytes.extend(vr.to_bytes());
    if has_long_length(vr) {
        bytes.extend([0, 0]);
        bytes.extend(length.to_le_bytes());
    } else {
        bytes.extend(u16::try_from(length).unwrap().to_le_bytes());
    }
    bytes
}

/// An element in Explicit VR Little Endian.
fn explicit(t: Tag, vr: VR, value: &[u8]) -> Vec<u8> {
    [header(t, vr, value.len() as u32), value.to_vec()].concat()
}

/// An element in Implicit VR Little Endian, an item or a delimiter.
fn implicit(t: Tag, value: &[u8]) -> Vec<u8> {
    [&tag(t)[..], &(value.len() as u32).to_le_bytes(), value].concat()
}

/// A sequence or an item of undefined length, with its delimiter.
fn undefined(opening: Vec<u8>, inside: &[u8], delimiter: Tag) -> Vec<u8> {
    [&opening[..], inside, &implicit(delimiter, b"")].concat()
}

fn open_item() -> Vec<u8> {
    [tag(ITEM), UNDEFINED.to_le_bytes()].concat()
}

const NAME: Tag = Tag(0x0010, 0x0010);
const ID: Tag = Tag(0x0010, 0x0020);
const CHARSET: Tag = Tag(0x0008, 0x0005);
const SEQUENCE: Tag = Tag(0x0008, 0x1140);
const PIXELS: Tag = Tag(0x7FE0, 0x0010);

#[test]
fn the_pixel_data_is_announced_when_it_begins_and_never_held() {
    let mut scanner = Scanner::new(&Uid::constant(EXPLICIT));
    scanner.push(&explicit(ID, VR::LO, b"4711")).unwrap();
    assert_eq!(scanner.header_so_far().string(ID), Some("4711"));
    assert_eq!(scanner.at_pixel_data(), None);
    scanner.push(&header(PIXELS, VR::OW, 1 << 30)).unwrap();
    let pixels = scanner.at_pixel_data().unwrap();
    assert_eq!(
        (pixels.tag, pixels.vr, pixels.offset, pixels.length),
        (PIXELS, VR::OW, 24, Some(1 << 30))
    );
    let chunk = vec![7; 1 << 20];
    for _ in 0..1 << 10 {
        scanner.push(&chunk).unwrap();
    }
    scanner
        .push(&explicit(Tag(0xFFFC, 0xFFFC), VR::OB, &[0; 10]))
        .unwrap();
    let scan = scanner.finish().unwrap();
    assert!(scan.complete && scan.problems.is_empty() && scan.left_out.is_empty());
    assert_eq!(scan.length, (1 << 30) + 24 + 22);
    assert_eq!(scan.header.len(), 1);
}

#[test]
fn a_data_set_that_ends_early_says_so_and_gives_what_it_had() {
    let whole = [
        explicit(ID, VR::LO, b"4711"),
        header(SEQUENCE, VR::SQ, UNDEFINED),
        open_item(),
        explicit(NAME, VR::PN, b"A^B "),
        explicit(PIXELS, VR::OW, &[0; 20]),
    ]
    .concat();
    for end in 0..whole.len() {
        let Ok(scan) = scan_in_pieces(&whole[..end], EXPLICIT, 5) else {
            assert!(end < 12 && end > 0, "{end}");
            continue;
        };
        assert_eq!(scan.complete, end == 12 || end == 0, "{end}");
        assert_eq!(scan.require_complete().is_ok(), scan.complete);
        if end >= 12 {
            assert_eq!(scan.header.string(ID), Some("4711"));
        }
        if end > 12 {
            let error = scan.require_complete().unwrap_err();
            assert!(error.context().contains("truncated"), "{error}");
        }
        if end >= 44 {
            assert_eq!(scan.header.items(SEQUENCE)[0].string(NAME), Some("A^B"));
        }
    }
    assert!(parse(&whole, EXPLICIT).is_err());
}

#[test]
fn early_sequences_and_long_values_do_not_displace_identifying_attributes() {
    let item = implicit(ITEM, &explicit(Tag(0x0008, 0x1155), VR::UI, &[b'1'; 64]));
    let mut bytes = header(SEQUENCE, VR::SQ, UNDEFINED);
    for _ in 0..20_000 {
        bytes.extend_from_slice(&item);
    }
    bytes.extend(implicit(SEQUENCE_END, b""));
    for number in 0x1000..0x1020 {
        bytes.extend(explicit(Tag(0x0009, number), VR::UN, &[1; 60_000]));
    }
    bytes.extend(explicit(ID, VR::LO, b"4711"));
    bytes.extend(explicit(Tag(0x0028, 0x3006), VR::OW, &vec![0; 70_000]));
    let scan = scan_in_pieces(&bytes, EXPLICIT, 4096).unwrap();
    assert!(scan.complete && scan.problems.is_empty());
    assert_eq!(scan.header.string(ID), Some("4711"));
    let items = scan.header.items(SEQUENCE).len();
    assert!(items > 1_000 && items < 20_000, "{items}");
    assert_eq!(scan.left_out.first(), Some(&SEQUENCE));
    assert_eq!(scan.left_out.last(), Some(&Tag(0x0028, 0x3006)));
    assert!(scan.left_out_count > 10_000);
    // Parsed whole, all of it is there.
    assert_eq!(parse(&bytes, EXPLICIT).unwrap().items(SEQUENCE).len(), 20_000);
}

#[test]
fn sequences_nested_too_deep_are_refused_in_both_forms() {
    let opening = [header(SEQUENCE, VR::SQ, UNDEFINED), open_item()].concat();
    let at_limit = opening.repeat(crate::limits::SEQUENCE_DEPTH_MAX);
    let scan = scan_in_pieces(&at_limit, EXPLICIT, 100).unwrap();
    assert_eq!(kinds(&scan), [ProblemKind::Unterminated]);
    let bomb = opening.repeat(100_000);
    assert_eq!(
        scan_in_pieces(&bomb, EXPLICIT, 4096).unwrap_err().kind(),
        crate::ErrorKind::Invalid
    );
    assert!(parse(&bomb, EXPLICIT).is_err());

    let mut bomb = Vec::new();
    for _ in 0..1_000 {
        bomb = explicit(SEQUENCE, VR::SQ, &implicit(ITEM, &bomb));
    }
    assert_eq!(
        scan_in_pieces(&bomb, EXPLICIT, 4096).unwrap_err().tags(),
        [SEQUENCE]
    );
}

#[test]
fn a_command_set_is_parsed() {
    let bytes = [
        implicit(Tag(0, 0), &[28, 0, 0, 0]),
        implicit(Tag(0, 2), b"1.2.840.10008.1.1\0"),
        implicit(Tag(0, 0x100), &[0x30, 0]),
    ]
    .concat();
    let set = parse(&bytes, IMPLICIT).unwrap();
    assert_eq!(set.string(Tag(0, 2)), Some("1.2.840.10008.1.1"));
    assert_eq!(set.u16(Tag(0, 0x100)), Some(0x30));
    assert_eq!(set.len(), 2);
}

/// A data set deflated as a bare stream, or with zlib's wrapper.
fn deflate(bytes: &[u8], wrapper: bool) -> Vec<u8> {
    let mut stream = flate2::Compress::new(flate2::Compression::default(), wrapper);
    let mut out = Vec::with_capacity(bytes.len() + 1000);
    stream
        .compress_vec(bytes, &mut out, flate2::FlushCompress::Finish)
        .unwrap();
    out
}

#[test]
fn a_deflated_data_set_is_inflated_as_it_passes_by() {
    let bytes = [
        explicit(ID, VR::LO, b"4711"),
        explicit(PIXELS, VR::OB, &vec![3; 500_000]),
        explicit(Tag(0xFFFC, 0xFFFC), VR::OB, &[0; 2]),
    ]
    .concat();
    for wrapper in [false, true] {
        let mut deflated = deflate(&bytes, wrapper);
        let found = scan(&deflated, DEFLATED);
        assert!(found.complete && found.problems.is_empty(), "{found:?}");
        assert_eq!(found.header.string(ID), Some("4711"));
        assert_eq!(found.pixel_data.unwrap().length, Some(500_000));
        assert_eq!(found.length, deflated.len() as u64);

        deflated.push(0);
        assert!(
            scan(&deflated, DEFLATED).problems.is_empty(),
            "one byte of padding"
        );
        deflated.push(0);
        assert_eq!(kinds(&scan(&deflated, DEFLATED)), [ProblemKind::AfterDeflated]);
        let cut = scan(&deflated[..deflated.len() / 2], DEFLATED);
        assert!(!cut.complete && kinds(&cut).contains(&ProblemKind::Truncated));
        assert_eq!(cut.header.string(ID), Some("4711"));
    }
    let bare = scan_in_pieces(&bytes, DEFLATED, 10);
    assert!(bare.is_err(), "not deflated at all: no element is understood");
}
