use futures::FutureExt;
use futures::executor::block_on;

use super::*;
use crate::dataset::charset::CharacterSet;
use crate::dataset::encode::encode;
use crate::dataset::{Element, FrameExtent, Value};

const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const RLE: &str = "1.2.840.10008.1.2.5";
const JPEG_LOSSLESS: &str = "1.2.840.10008.1.2.4.57";
const JPEG_BASELINE: &str = "1.2.840.10008.1.2.4.50";
const UNCOMPRESSED: &str = "1.2.840.10008.1.2.1.98";

/// An image of 3 by 3 pixels.
fn header(photometric: &str, samples: u16, bits: u16, frames: Option<&str>) -> DataSet {
    let mut set = DataSet::new();
    set.put_text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3");
    set.put_u16(tags::SAMPLES_PER_PIXEL, samples);
    set.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, photometric);
    if samples > 1 {
        set.put_u16(tags::PLANAR_CONFIGURATION, 1);
    }
    if let Some(frames) = frames {
        set.put_text(tags::NUMBER_OF_FRAMES, VR::IS, frames);
    }
    set.put_u16(tags::ROWS, 3);
    set.put_u16(tags::COLUMNS, 3);
    set.put_u16(tags::BITS_ALLOCATED, bits);
    set.put_u16(tags::PIXEL_REPRESENTATION, 0);
    set
}

fn item(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(b"\xFE\xFF\x00\xE0");
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}

/// A data set with these items as its pixel data, the Basic Offset Table first, and something behind.
fn data_set(header: &DataSet, items: &[&[u8]]) -> Vec<u8> {
    let mut out = encode(header, EXPLICIT, &CharacterSet::default()).unwrap();
    out.extend(b"\xE0\x7F\x10\x00OB\0\0\xFF\xFF\xFF\xFF");
    for bytes in items {
        item(&mut out, bytes);
    }
    out.extend(b"\xFE\xFF\xDD\xE0\0\0\0\0\xFC\xFF\xFC\xFFOB\0\0\x02\0\0\0\0\0");
    out
}

/// Transcodes to Explicit VR Little Endian.
async fn explicit(
    from: &Uid,
    source: Source,
    table: Option<FrameTable>,
    room: &DecodingRoom,
) -> Result<Source> {
    let target = Target::ExplicitLittleEndian;
    let overrides = Overrides::default();
    transcode(from, source, table.map(Arc::new), target, overrides, room).await
}

fn run(from: &str, source: &[u8], table: Option<FrameTable>, chunk: usize) -> Result<Vec<u8>> {
    let pieces: Vec<_> = source
        .chunks(chunk)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    let stream = stream::iter(pieces).boxed();
    block_on(async {
        let out = explicit(&Uid::parse(from)?, stream, table, &DecodingRoom::new(0)).await?;
        let out: Vec<Bytes> = out.try_collect().await?;
        Ok(out.concat())
    })
}

/// The data set read again, and the bytes of its pixel data with their VR.
fn read(out: &[u8]) -> (DataSet, String, Vec<u8>) {
    let mut scanner = Scanner::new(&Uid::constant(EXPLICIT));
    scanner.push(out).unwrap();
    let scan = scanner.finish().unwrap();
    assert!(scan.complete && scan.problems.is_empty(), "{:?}", scan.problems);
    let place = scan.pixel_data.unwrap();
    let start = place.offset as usize;
    let pixels = out[start..start + place.length.unwrap() as usize].to_vec();
    (scan.header, place.vr.to_string().to_owned(), pixels)
}

/// An RLE frame of segments that each hold one run of 9 bytes.
fn rle(values: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 64];
    frame[0] = values.len() as u8;
    for (at, value) in values.iter().enumerate() {
        frame[4 + at * 4] = 64 + 2 * at as u8;
        frame.extend([0xF8, *value]);
    }
    frame
}

/// A lossless JPEG codestream, predictor 1, of samples below 128; restarts behind each row, if asked for.
fn lossless(samples: &[u8], columns: usize, restarts: bool, shift: u8) -> Vec<u8> {
    let rows = (samples.len() / columns) as u8;
    let mut out = vec![
        0xFF,
        0xD8,
        0xFF,
        0xC3,
        0,
        11,
        8,
        0,
        rows,
        0,
        columns as u8,
        1,
        1,
        0x11,
        0,
    ];
    // Every size from 0 to 8 has a code of 4 bits, its own number.
    out.extend([0xFF, 0xC4, 0, 28, 0, 0, 0, 0, 9]);
    out.extend([0; 12]);
    out.extend(0..9u8);
    if restarts {
        out.extend([0xFF, 0xDD, 0, 4, 0, columns as u8]);
    }
    out.extend([0xFF, 0xDA, 0, 8, 1, 1, 0, 1, 0, shift]);
    let mut bits: Vec<bool> = Vec::new();
    let flush = |bits: &mut Vec<bool>, out: &mut Vec<u8>| {
        bits.resize(bits.len().next_multiple_of(8), true);
        for byte in bits.chunks(8) {
            let byte = byte.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit));
            out.push(byte);
            if byte == 0xFF {
                out.push(0);
            }
        }
        bits.clear();
    };
    for (at, &sample) in samples.iter().enumerate() {
        let (row, column) = (at / columns, at % columns);
        if restarts && row > 0 && column == 0 {
            flush(&mut bits, &mut out);
            out.extend([0xFF, 0xD0 + (row as u8 - 1) % 8]);
        }
        let predicted = match (row == 0 || restarts, column) {
            (true, 0) => 128 >> shift,
            (false, 0) => i32::from(samples[at - columns] >> shift),
            _ => i32::from(samples[at - 1] >> shift),
        };
        let difference = i32::from(sample >> shift) - predicted;
        let size = 32 - difference.unsigned_abs().leading_zeros();
        let value = if difference < 0 {
            difference + (1 << size) - 1
        } else {
            difference
        };
        bits.extend((0..4).rev().map(|bit| size >> bit & 1 == 1));
        bits.extend((0..size).rev().map(|bit| value >> bit & 1 == 1));
    }
    flush(&mut bits, &mut out);
    out.extend([0xFF, 0xD9]);
    if out.len() % 2 == 1 {
        out.push(0);
    }
    out
}

const FIRST: [u8; 9] = [10, 20, 30, 100, 0, 127, 50, 51, 49];
const SECOND: [u8; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 9];

#[test]
fn rle_becomes_native_with_palette_and_planes_as_labelled_and_odd_lengths_padded() {
    let mut set = header("PALETTE COLOR", 1, 8, None);
    set.put(Element {
        tag: tags::EXTENDED_OFFSET_TABLE,
        vr: VR::OV,
        value: Value::Bytes(Bytes::from_static(&[0; 8])),
    });
    let out = run(RLE, &data_set(&set, &[&[], &rle(&[7])]), None, 5).unwrap();
    let (read_again, vr, pixels) = read(&out);
    assert_eq!(pixels, [7, 7, 7, 7, 7, 7, 7, 7, 7, 0]);
    assert_eq!(vr, "OB");
    assert_eq!(
        read_again.string(tags::PHOTOMETRIC_INTERPRETATION),
        Some("PALETTE COLOR")
    );
    assert!(!read_again.contains(tags::EXTENDED_OFFSET_TABLE));

    let set = header("RGB", 3, 16, Some("1"));
    let out = run(RLE, &data_set(&set, &[&[], &rle(&[1, 2, 3, 4, 5, 6])]), None, 5).unwrap();
    let (read_again, vr, pixels) = read(&out);
    assert_eq!(read_again.u16(tags::PLANAR_CONFIGURATION), Some(1));
    assert_eq!(
        pixels,
        [[2, 1].repeat(9), [4, 3].repeat(9), [6, 5].repeat(9)].concat()
    );
    assert_eq!(vr, "OW");
}

#[test]
fn frames_of_several_fragments_are_told_apart_by_either_table_or_by_how_images_begin() {
    let (first, second) = (lossless(&FIRST, 3, false, 0), lossless(&SECOND, 3, false, 0));
    let (a, b) = first.split_at(20);
    let (c, d) = second.split_at(30);
    let set = header("MONOCHROME2", 1, 8, Some("2 "));
    let expected = [&FIRST[..], &SECOND].concat();
    // From the first fragment's item to that of the second frame are three items.
    let right = [[0; 4], (first.len() as u32 + 24).to_le_bytes()].concat();
    let wrong = [[0; 4], 12u32.to_le_bytes()].concat();
    let nonsense = [[9; 4], [9; 4], [9; 4]].concat();
    for basic in [&[][..], &right, &nonsense] {
        let source = data_set(&set, &[basic, a, &[], b, c, d]);
        for chunk in [1, 33, 100_000] {
            let out = run(JPEG_LOSSLESS, &source, None, chunk).unwrap();
            assert_eq!(read(&out).2, expected);
        }
    }
    // A table that cuts a frame is believed, and what comes of it is no frame.
    let source = data_set(&set, &[&wrong, a, b, c, d]);
    assert_eq!(
        run(JPEG_LOSSLESS, &source, None, 7).unwrap_err().kind(),
        ErrorKind::Invalid
    );
    let at = |place: &[u8]| {
        let at = source.windows(place.len()).position(|window| window == place);
        FrameExtent {
            offset: at.unwrap() as u64,
            length: 0,
        }
    };
    let frames = vec![at(a), at(c)];
    let out = run(JPEG_LOSSLESS, &source, Some(FrameTable { frames }), 7).unwrap();
    assert_eq!(read(&out).2, expected);
}

#[test]
fn a_lossless_jpeg_with_restarts_or_a_point_transform_is_decoded() {
    let set = header("MONOCHROME2", 1, 8, None);
    for restarts in [false, true] {
        for shift in [0, 1, 3] {
            let source = data_set(&set, &[&[], &lossless(&FIRST, 3, restarts, shift)]);
            let out = run(JPEG_LOSSLESS, &source, None, 64).unwrap();
            let expected = FIRST.map(|sample| sample >> shift << shift);
            assert_eq!(read(&out).2[..9], expected, "restarts {restarts}, shift {shift}");
        }
    }
}

#[test]
fn a_jpeg_of_more_bits_than_there_are_is_refused() {
    let set = header("MONOCHROME2", 1, 32, None);
    for process in [0xC3, 0xC1] {
        let mut jpeg = lossless(&FIRST, 3, false, 0);
        let frame = jpeg.windows(2).position(|marker| marker == [0xFF, 0xC3]);
        let frame = frame.expect("a frame header");
        jpeg[frame + 1] = process;
        // Sample precision (ISO/IEC 10918-1, B.2.2).
        jpeg[frame + 4] = 32;
        let refused = run(JPEG_LOSSLESS, &data_set(&set, &[&[], &jpeg]), None, 64).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        assert!(refused.context().contains("32 bits"), "{refused}");
    }
}

#[test]
fn who_finds_no_room_to_decode_waits_until_another_is_done() {
    let set = header("MONOCHROME2", 1, 8, None);
    let source = data_set(&set, &[&[], &lossless(&FIRST, 3, false, 0)]);
    let from = Uid::constant(JPEG_LOSSLESS);
    // A stream of 9 pixels, twice, and where its frame begins.
    let room = DecodingRoom::new(50);
    let begin = || {
        let stream = stream::iter([Ok(Bytes::copy_from_slice(&source))]).boxed();
        explicit(&from, stream, None, &room)
    };
    let first = block_on(begin()).unwrap();
    // A stream that nobody reads on keeps nobody from decoding.
    assert_eq!(room.free(), [50, 50, 0]);
    let mut second = Box::pin(begin());
    assert!((&mut second).now_or_never().is_none());
    drop(first);
    let second: Vec<_> = block_on(async { second.await.unwrap().try_collect().await }).unwrap();
    assert_eq!(second.concat(), run(JPEG_LOSSLESS, &source, None, 64).unwrap());
    assert_eq!(room.free(), [50, 50, 50]);
}

#[test]
fn a_compressed_frame_that_is_far_larger_than_its_pixels_is_refused_before_it_is_held() {
    let set = header("MONOCHROME2", 1, 8, None);
    let mut jpeg = lossless(&FIRST, 3, false, 0);
    jpeg.resize(2 * 1024 * 1024 + 1024, 0);
    let error = run(JPEG_LOSSLESS, &data_set(&set, &[&[], &jpeg]), None, 64 * 1024).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.context().contains("far larger"), "{error}");
}

#[test]
fn an_offset_table_that_is_longer_than_the_frames_need_is_passed_over() {
    let set = header("MONOCHROME2", 1, 8, None);
    let jpeg = lossless(&FIRST, 3, false, 0);
    let out = run(
        JPEG_LOSSLESS,
        &data_set(&set, &[&[1; 100_000], &jpeg]),
        None,
        4096,
    )
    .unwrap();
    assert_eq!(read(&out).2[..9], FIRST);
}

#[test]
fn what_can_not_be_decoded_fails_before_the_first_byte_and_says_why() {
    let fails = |from, source: &[u8], kind, says: &str| {
        let stream = stream::iter([Ok(Bytes::copy_from_slice(source))]).boxed();
        let out = block_on(explicit(
            &Uid::constant(from),
            stream,
            None,
            &DecodingRoom::new(0),
        ));
        let error = out.err().unwrap_or_else(|| panic!("not refused: {says}"));
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.context().contains(says), "{error}");
    };
    let set = header("MONOCHROME2", 1, 8, None);
    let jpeg = lossless(&[FIRST, FIRST].concat(), 3, false, 0);
    fails(
        JPEG_LOSSLESS,
        &data_set(&set, &[&[], &jpeg]),
        ErrorKind::Mismatch,
        "6 rows, 3 columns",
    );
    let jpeg = lossless(&FIRST, 3, false, 0);
    fails(
        JPEG_LOSSLESS,
        &data_set(&set, &[&[], &jpeg[..jpeg.len() - 8]]),
        ErrorKind::Invalid,
        "ends early",
    );
    fails(
        JPEG_BASELINE,
        &data_set(&set, &[&[], b"GIF89a"]),
        ErrorKind::Invalid,
        "does not begin",
    );
    fails(
        RLE,
        &data_set(&set, &[&[], &rle(&[1, 2])]),
        ErrorKind::Mismatch,
        "2 segments",
    );
    fails(RLE, &data_set(&set, &[&[]]), ErrorKind::Mismatch, "0 frames");
    let fewer = header("MONOCHROME2", 1, 12, None);
    fails(
        RLE,
        &data_set(&fewer, &[&[], &rle(&[1])]),
        ErrorKind::Unsupported,
        "12 bits",
    );
    let mut large = set.clone();
    large.put_u16(tags::ROWS, 65535);
    large.put_u16(tags::COLUMNS, 65535);
    fails(
        RLE,
        &data_set(&large, &[&[], &rle(&[1])]),
        ErrorKind::Unsupported,
        "larger than",
    );
    let many = header("MONOCHROME2", 1, 8, Some("2000000000"));
    fails(
        RLE,
        &data_set(&many, &[&[], &rle(&[1])]),
        ErrorKind::Unsupported,
        "4 GiB",
    );
    let mpeg = "1.2.840.10008.1.2.4.100";
    fails(
        mpeg,
        &data_set(&set, &[&[], &[0, 0]]),
        ErrorKind::Unsupported,
        mpeg,
    );
    let mut native = set.clone();
    native.put(Element {
        tag: tags::PIXEL_DATA,
        vr: VR::OB,
        value: Value::Bytes(Bytes::from_static(&[0; 10])),
    });
    let native = encode(&native, EXPLICIT, &CharacterSet::default()).unwrap();
    fails(RLE, &native, ErrorKind::Mismatch, "not encapsulated");
}

#[test]
fn a_later_frame_that_fails_or_is_missing_ends_the_stream_with_an_error() {
    let set = header("MONOCHROME2", 1, 8, Some("2"));
    let damaged = data_set(&set, &[&[], &rle(&[1]), &rle(&[1])[..64]]);
    assert_eq!(
        run(RLE, &damaged, None, 9).unwrap_err().kind(),
        ErrorKind::Invalid
    );
    let error = run(RLE, &data_set(&set, &[&[], &rle(&[1])]), None, 9).unwrap_err();
    assert_eq!(
        (error.kind(), error.tags()),
        (ErrorKind::Mismatch, &[tags::NUMBER_OF_FRAMES][..])
    );
    // One too many is nobody's.
    let more = data_set(&set, &[&[], &rle(&[1]), &rle(&[2]), &rle(&[3])]);
    let out = run(RLE, &more, None, 9).unwrap();
    assert_eq!(read(&out).2, [[1; 9], [2; 9]].concat());
}

#[test]
fn a_data_set_without_pixels_and_one_that_is_not_compressed_are_handed_out() {
    let mut set = DataSet::new();
    set.put_text(tags::PATIENT_ID, VR::LO, "4711");
    let source = encode(&set, EXPLICIT, &CharacterSet::default()).unwrap();
    assert_eq!(run(JPEG_BASELINE, &source, None, 3).unwrap(), source);
    let set = header("MONOCHROME2", 1, 8, Some("2"));
    let source = data_set(
        &set,
        &[
            &[],
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 0],
            &[9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
        ],
    );
    let out = run(UNCOMPRESSED, &source, None, 3).unwrap();
    assert_eq!(
        read(&out).2,
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    );
}

#[test]
fn an_icon_goes_when_it_is_compressed_and_stays_when_it_is_not() {
    let mut icon = b"\x88\x00\x00\x02SQ\0\0\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF".to_vec();
    let end = b"\xFE\xFF\x0D\xE0\0\0\0\0\xFE\xFF\xDD\xE0\0\0\0\0";
    let body = data_set(&header("MONOCHROME2", 1, 8, None), &[&[], &rle(&[1])]);
    let pixels = body
        .windows(4)
        .position(|window| window == b"\xE0\x7F\x10\x00")
        .unwrap();
    let mut native = icon.clone();
    native.extend(b"\xE0\x7F\x10\x00OB\0\0\x02\0\0\0\x01\x02");
    native.extend(end);
    icon.extend(b"\xE0\x7F\x10\x00OB\0\0\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\0\0\0\0\xFE\xFF\xDD\xE0\0\0\0\0");
    icon.extend(end);
    for (icon, stays) in [(native, true), (icon, false)] {
        let source = [&body[..pixels], &icon, &body[pixels..]].concat();
        let out = run(RLE, &source, None, 11).unwrap();
        let (set, _, pixels) = read(&out);
        assert_eq!(set.contains(tags::ICON_IMAGE_SEQUENCE), stays);
        assert_eq!(pixels[..9], [1; 9]);
    }
}

#[test]
fn what_was_jpeg_with_loss_is_labelled_rgb_and_lossy() {
    let image = Image::of(&header("YBR_FULL_422", 3, 8, None), Codec::JpegLossy).unwrap();
    let labels = image.labels(Codec::JpegLossy, &DataSet::new());
    assert_eq!(labels.put.string(tags::PHOTOMETRIC_INTERPRETATION), Some("RGB"));
    assert_eq!(labels.put.string(tags::LOSSY_IMAGE_COMPRESSION), Some("01"));
    assert_eq!(labels.put.u16(tags::PLANAR_CONFIGURATION), Some(0));
    let image = Image::of(&header("YBR_FULL_422", 3, 8, None), Codec::JpegLossless).unwrap();
    let labels = image.labels(Codec::JpegLossless, &DataSet::new());
    assert_eq!(
        labels.put.string(tags::PHOTOMETRIC_INTERPRETATION),
        Some("YBR_FULL")
    );
    assert!(!labels.put.contains(tags::LOSSY_IMAGE_COMPRESSION));
}

#[test]
fn what_is_put_in_place_of_the_source_stands_beside_the_labels_and_frames_are_still_found() {
    let mut header = header("RGB", 3, 8, Some("2"));
    header.put_text(tags::PATIENT_ID, VR::LO, "OLD");
    let frames = [rle(&[1, 2, 3]), rle(&[4, 5, 6])];
    // Two fragments of the first frame: only the table tells where the second begins.
    let (a, b) = frames[0].split_at(66);
    let source = data_set(&header, &[&[], a, b, &frames[1]]);
    let at = |part: &[u8]| {
        source
            .windows(part.len())
            .position(|window| window == part)
            .unwrap() as u64
    };
    let extent = |first: &[u8], length| FrameExtent {
        offset: at(first),
        length,
    };
    let table = FrameTable {
        frames: vec![
            extent(a, frames[0].len() as u64 + 8),
            extent(&frames[1], frames[1].len() as u64),
        ],
    };
    let mut put = DataSet::new();
    put.put_text(tags::PATIENT_ID, VR::LO, "a much longer one");
    put.put_text(tags::PATIENT_NAME, VR::PN, "M\u{fc}ller");
    let overrides = Overrides {
        put,
        charset: CharacterSet::parse("ISO_IR 100"),
        remove: Vec::new(),
    };
    let out = block_on(async {
        let pieces = stream::iter([Ok(Bytes::from(source.clone()))]).boxed();
        let from = Uid::constant(RLE);
        let (table, target) = (Some(Arc::new(table)), Target::ExplicitLittleEndian);
        let out = transcode(&from, pieces, table, target, overrides, &DecodingRoom::new(0)).await?;
        Ok::<_, Error>(out.try_collect::<Vec<Bytes>>().await?.concat())
    })
    .unwrap();
    let (said, _, pixels) = read(&out);
    assert_eq!(said.string(tags::PATIENT_ID), Some("a much longer one"));
    // The source names no character set, so its bytes are taken for what they most likely are.
    assert_eq!(said.string(tags::PATIENT_NAME), Some("M\u{fc}ller"));
    let (expected, _, plain) = {
        let stream = run(RLE, &data_set(&header, &[&[], &frames[0], &frames[1]]), None, 100).unwrap();
        read(&stream)
    };
    assert_eq!(pixels, plain);
    assert_eq!(
        said.u16(tags::PLANAR_CONFIGURATION),
        expected.u16(tags::PLANAR_CONFIGURATION)
    );
}

#[test]
fn what_is_ybr_partial_becomes_rgb_and_two_pixels_may_share_their_chrominance_without_compression() {
    let frame: Vec<u8> = [16u8, 128, 128].repeat(9);
    // RLE and what is not compressed keep what they are given.
    let image = Image::of(&header("YBR_PARTIAL_422", 3, 8, None), Codec::JpegLossless).unwrap();
    let labels = image.labels(Codec::JpegLossless, &DataSet::new());
    assert_eq!(labels.put.string(tags::PHOTOMETRIC_INTERPRETATION), Some("RGB"));
    let image = Image::of(&header("YBR_PARTIAL_422", 3, 8, None), Codec::Rle).unwrap();
    assert!(
        !image
            .labels(Codec::Rle, &DataSet::new())
            .put
            .contains(tags::PHOTOMETRIC_INTERPRETATION)
    );
    let mut set = header("YBR_FULL_422", 3, 8, None);
    set.put_u16(tags::COLUMNS, 4);
    let shared = &frame[..24];
    let out = run(UNCOMPRESSED, &data_set(&set, &[&[], shared]), None, 5).unwrap();
    let (said, _, pixels) = read(&out);
    assert_eq!(pixels, shared);
    assert_eq!(
        said.string(tags::PHOTOMETRIC_INTERPRETATION),
        Some("YBR_FULL_422")
    );
}

#[cfg(feature = "jpegxl")]
mod jpeg_xl {
    use super::*;

    const LOSSLESS: &str = "1.2.840.10008.1.2.4.110";

    /// `FIRST` by libjxl, without loss.
    const GRAY: &[u8] =
        b"\xFF\x0A\x10\x10\x10\x14\x37\x02\x08\x04\x01\x00\x58\x00\x4B\x18\x8B\x15\x52\x5C\x0E\x36\
        \x0E\x00\x4C\x00\x00\x0C\x6F\x1E\x92\xC9\xEA\xD5\xD3\x0C";
    /// The multiples of 9 as colours.
    const COLOR: &[u8] =
        b"\xFF\x0A\x10\x10\x10\x09\x08\x04\x01\x00\x8C\x00\x4B\x18\x8B\x15\x42\x11\x76\xB3\xDC\x05\
        \x22\x01\x88\x56\xAB\xD5\x6A\xB5\x5A\x2D\xDD\xC2\xC4\xCC\x2F\xF3\xD3\x98\x24\xF3\x6B\xAA\xB0\x0A\x52";
    /// The multiples of 17 of `FIRST`, with 12 bits.
    const DEEP: &[u8] =
        b"\xFF\x0A\x10\x10\x18\x14\x2D\x02\x08\x04\x01\x00\x64\x00\x4B\x18\x8B\x15\x52\x6C\x0C\xEC\
        \x80\xCD\xA9\xF1\x2D\x18\x2A\x95\x5A\xDB\x50\x1F\xDC\x60\xD9\x2C\x01";

    fn even(frame: &[u8]) -> Vec<u8> {
        let mut frame = frame.to_vec();
        if frame.len() % 2 == 1 {
            frame.push(0);
        }
        frame
    }

    #[test]
    fn gray_and_colours_are_decoded_and_a_padding_byte_is_passed_over() {
        let set = header("MONOCHROME2", 1, 8, None);
        let out = run(LOSSLESS, &data_set(&set, &[&[], GRAY]), None, 7).unwrap();
        assert_eq!(read(&out).2[..9], FIRST);
        let set = header("MONOCHROME2", 1, 16, None);
        let out = run(LOSSLESS, &data_set(&set, &[&[], &even(DEEP)]), None, 7).unwrap();
        let expected: Vec<u8> = FIRST
            .iter()
            .flat_map(|&v| (u16::from(v) * 17).to_le_bytes())
            .collect();
        assert_eq!(read(&out).2, expected);
        let expected: Vec<u8> = (0..27).map(|at| at * 9).collect();
        for (photometric, label) in [("RGB", "RGB"), ("YBR_RCT", "RGB"), ("YBR_FULL", "YBR_FULL")] {
            let set = header(photometric, 3, 8, None);
            let out = run(LOSSLESS, &data_set(&set, &[&[], &even(COLOR)]), None, 7).unwrap();
            let (said, _, pixels) = read(&out);
            assert_eq!(pixels[..27], expected);
            assert_eq!(said.string(tags::PHOTOMETRIC_INTERPRETATION), Some(label));
        }
        // What is coded with loss is handed out as RGB.
        let set = header("YBR_FULL", 3, 8, None);
        let out = run(
            "1.2.840.10008.1.2.4.112",
            &data_set(&set, &[&[], &even(COLOR)]),
            None,
            7,
        )
        .unwrap();
        let (said, _, pixels) = read(&out);
        assert_eq!(said.string(tags::PHOTOMETRIC_INTERPRETATION), Some("RGB"));
        assert_ne!(pixels[..27], expected);
    }

    #[test]
    fn what_is_not_as_described_is_refused_before_it_is_decoded() {
        let kind = |set: &DataSet, frame: &[u8]| {
            run(LOSSLESS, &data_set(set, &[&[], &even(frame)]), None, 64)
                .unwrap_err()
                .kind()
        };
        let mut other = header("MONOCHROME2", 1, 8, None);
        assert_eq!(kind(&other, DEEP), ErrorKind::Mismatch);
        assert_eq!(kind(&other, COLOR), ErrorKind::Mismatch);
        other.put_u16(tags::ROWS, 4);
        assert_eq!(kind(&other, GRAY), ErrorKind::Mismatch);
        let set = header("MONOCHROME2", 1, 8, None);
        for length in (0..GRAY.len() - 2).step_by(2) {
            assert_eq!(kind(&set, &GRAY[..length]), ErrorKind::Invalid, "{length}");
        }
    }

    #[test]
    fn any_byte_may_be_damaged() {
        let set = header("RGB", 3, 8, None);
        for at in 0..COLOR.len() {
            for bit in 0..8 {
                let mut damaged = even(COLOR);
                damaged[at] ^= 1 << bit;
                let _ = run(LOSSLESS, &data_set(&set, &[&[], &damaged]), None, 64);
            }
        }
    }
}
