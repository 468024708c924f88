//! What the engine promises of single frames.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::future::join_all;

use super::*;
use crate::dataset::{Element, Value};
use crate::engine::{FrameReader, frame_transfer_syntaxes};
use crate::index::Change;
use crate::testkit::around::{Around, AroundIndex};
use crate::testkit::random::{Random, rounds};

/// Explicit VR Big Endian, which is retired.
const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// An engine, what is read of its archive, and whether its index is deaf: told of no frames, as one that was made before there
/// were frame tables.
fn watched(place: &dyn Place) -> (Pacs, Arc<AtomicU64>, Arc<AtomicBool>) {
    let (read, deaf) = <(Arc<AtomicU64>, Arc<AtomicBool>)>::default();
    let count = Arc::clone(&read);
    let archive = Around::new(place.archive()).reading(move |_, pieces| {
        let count = Arc::clone(&count);
        let counted = pieces.inspect_ok(move |piece| {
            count.fetch_add(piece.len() as u64, Ordering::Relaxed);
        });
        counted.boxed()
    });
    let is_deaf = Arc::clone(&deaf);
    let index = AroundIndex::new(place.index()).applying(move |changes| {
        let deaf = is_deaf.load(Ordering::Relaxed);
        changes.retain(|change| !deaf || !matches!(change, Change::Frames { .. }));
        Ok(())
    });
    let pacs = Pacs::open(Arc::new(archive), Arc::new(index), Options::default());
    (block_on(pacs).expect("opens"), read, deaf)
}

/// What stands before the pixel data of an image.
fn header(number: u32, frames: usize, rows: u16, columns: u16, bits: u16) -> DataSet {
    let mut set = data_set(1, 1, number, 0);
    set.remove(tags::PIXEL_DATA);
    set.put_u16(tags::SAMPLES_PER_PIXEL, 1);
    set.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
    set.put_text(tags::NUMBER_OF_FRAMES, VR::IS, frames.to_string());
    set.put_u16(tags::ROWS, rows);
    set.put_u16(tags::COLUMNS, columns);
    set.put_u16(tags::BITS_ALLOCATED, bits);
    set.put_u16(tags::PIXEL_REPRESENTATION, 0);
    set
}

fn announced(number: u32, transfer_syntax: &'static str) -> Announced {
    Announced {
        transfer_syntax: Uid::constant(transfer_syntax),
        ..instance(1, 1, number, 0).0
    }
}

fn item(value: &[u8]) -> Vec<u8> {
    let length = (value.len() as u32).to_le_bytes();
    [b"\xFE\xFF\x00\xE0", &length[..], value].concat()
}

/// Encapsulated pixel data (PS3.5 A.4) behind `header`: the Basic Offset Table, then these fragments.
fn encapsulated(header: &DataSet, table: &[u8], fragments: &[Vec<u8>]) -> Bytes {
    let mut bytes = explicit(header).to_vec();
    bytes.extend(b"\xE0\x7F\x10\x00OB\0\0\xFF\xFF\xFF\xFF");
    bytes.extend(item(table));
    for fragment in fragments {
        bytes.extend(item(fragment));
    }
    bytes.extend(b"\xFE\xFF\xDD\xE0\0\0\0\0");
    bytes.into()
}

fn reader(pacs: &Pacs, received: &Received) -> FrameReader {
    block_on(pacs.frame_reader(&received.record)).expect("has frames")
}

async fn encoded(reader: &FrameReader, number: u32) -> Result<Vec<u8>> {
    let pieces: Vec<Bytes> = reader.encoded(number).await?.try_collect().await?;
    Ok(pieces.concat())
}

fn frame(reader: &FrameReader, number: u32) -> Vec<u8> {
    block_on(encoded(reader, number)).expect("is read")
}

fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// See its name.
pub fn a_frame_is_read_without_the_rest_of_its_instance(place: &dyn Place) {
    let (pacs, read, _) = watched(place);
    const LENGTH: usize = 32 * 1024;
    let frames: Vec<Vec<u8>> = (0..64_u8).map(|n| vec![n; LENGTH]).collect();
    let compressed = encapsulated(&header(1, 64, 128, 128, 16), b"", &frames);
    let mut native = header(2, 64, 128, 128, 16);
    native.put(Element {
        tag: tags::PIXEL_DATA,
        vr: VR::OW,
        value: Value::Bytes(frames.concat().into()),
    });
    for (syntax, number, bytes) in [
        (uids::RLE_LOSSLESS, 1, compressed),
        (uids::EXPLICIT_VR_LITTLE_ENDIAN, 2, explicit(&native)),
    ] {
        let kept = keep(&pacs, (announced(number, syntax), bytes));
        let before = read.load(Ordering::Relaxed);
        let reader = reader(&pacs, &kept);
        assert_eq!(reader.count(), 64);
        for number in [40, 1, 64] {
            assert!(frame(&reader, number) == frames[number as usize - 1]);
        }
        // The head, and three frames.
        let read = read.load(Ordering::Relaxed) - before;
        assert!(
            read <= 64 * 1024 + 3 * (LENGTH as u64 + 8),
            "{read} bytes for three frames"
        );
    }
}

/// What tells the frames of [`frames_split_into_any_fragments_are_read_back_as_they_were`].
fn split(random: &mut Random, frames: &[Vec<u8>], header: &mut DataSet) -> Bytes {
    let extended = random.chance(3);
    let (mut fragments, mut offsets, mut lengths, mut offset) = (Vec::new(), Vec::new(), Vec::new(), 0_u64);
    for frame in frames {
        offsets.push(offset);
        lengths.push(frame.len() as u64);
        let mut rest = &frame[..];
        loop {
            // Of even length, but for the padding of the last one.
            let most = rest.len().div_ceil(2);
            let take = if extended { most } else { random.index(most) + 1 };
            let take = (take * 2).min(rest.len());
            let mut fragment = rest[..take].to_vec();
            fragment.resize(take.next_multiple_of(2), 0);
            offset += 8 + fragment.len() as u64;
            fragments.push(fragment);
            rest = &rest[take..];
            if rest.is_empty() {
                break;
            }
        }
    }
    let mut table = Vec::new();
    if extended {
        // PS3.3 C.7.6.3.1.8: each frame is one fragment, and the Basic Offset Table is empty.
        for (tag, numbers) in [
            (tags::EXTENDED_OFFSET_TABLE, &offsets),
            (tags::EXTENDED_OFFSET_TABLE_LENGTHS, &lengths),
        ] {
            let value: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            let value = Value::Bytes(value.into());
            header.put(Element {
                tag,
                vr: VR::OV,
                value,
            });
        }
    } else if frames.len() > 1 || random.chance(2) {
        table = offsets
            .iter()
            .flat_map(|&offset| (offset as u32).to_le_bytes())
            .collect();
    }
    encapsulated(header, &table, &fragments)
}

/// See its name; seeded. With Basic and Extended Offset Tables, and without any; known to the index or not.
pub fn frames_split_into_any_fragments_are_read_back_as_they_were(place: &dyn Place) {
    let (pacs, _, deaf) = watched(place);
    let mut number = 0;
    rounds(12, |random| {
        number += 1;
        let count = 1 + random.index(6);
        let frames: Vec<Vec<u8>> = (0..count)
            .map(|_| (0..1 + random.index(3000)).map(|_| random.bits() as u8).collect())
            .collect();
        let mut header = header(number, count, 16, 16, 8);
        let bytes = split(random, &frames, &mut header);
        deaf.store(random.chance(2), Ordering::Relaxed);
        let kept = keep(&pacs, (announced(number, uids::JPEG_BASELINE8_BIT), bytes));
        let reader = reader(&pacs, &kept);
        for (number, expected) in (1..).zip(&frames) {
            let mut frame = frame(&reader, number);
            // The byte that makes a fragment even may be there.
            if frame.len() == expected.len() + 1 {
                assert_eq!(frame.pop(), Some(0));
            }
            assert!(frame == *expected, "frame {number} of {count}");
        }
    });
}

/// See its name: words of a big-endian one swapped, single bits shifted, a deflated one inflated.
pub fn native_frames_are_handed_out_as_explicit_little_endian_has_them(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    let put = |header: &DataSet, vr, value: Vec<u8>| {
        let mut set = header.clone();
        let value = Value::Bytes(value.into());
        set.put(Element {
            tag: tags::PIXEL_DATA,
            vr,
            value,
        });
        set
    };
    // Three frames of 3 by 3 words.
    let words: Vec<u8> = (0..54).collect();
    let set = put(&header(1, 3, 3, 3, 16), VR::OW, words.clone());
    let charset = CharacterSet::utf8();
    let big = encode::encode(&set, BIG_ENDIAN, &charset).expect("is encoded");
    let set = put(&header(2, 3, 3, 3, 16), VR::OW, words.clone());
    let implicit = encode::encode(&set, uids::IMPLICIT_VR_LITTLE_ENDIAN, &charset).expect("is encoded");
    let set = put(&header(3, 3, 3, 3, 16), VR::OW, words.clone());
    let mut deflated = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    deflated.write_all(&explicit(&set)).expect("is deflated");
    let deflated = deflated.finish().expect("is deflated");
    for (number, syntax, bytes) in [
        (1, BIG_ENDIAN, big),
        (2, uids::IMPLICIT_VR_LITTLE_ENDIAN, implicit),
        (3, uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, deflated),
    ] {
        let kept = keep(&pacs, (announced(number, syntax), bytes.into()));
        let reader = reader(&pacs, &kept);
        assert_eq!(reader.count(), 3);
        assert_eq!(reader.header().u16(tags::ROWS), Some(3));
        for (number, expected) in (1..).zip(words.chunks(18)) {
            assert_eq!(frame(&reader, number), expected, "{syntax}");
        }
        let syntaxes = frame_transfer_syntaxes(&kept.record.transfer_syntax);
        assert_eq!(syntaxes, [Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN)]);
    }
    // Three frames of 3 by 3 bits, one behind the other.
    let bits = vec![0b1010_1010, 0b1100_1101, 0b1111_0011, 0b101];
    for (number, syntax, vr) in [
        (4, uids::EXPLICIT_VR_LITTLE_ENDIAN, VR::OB),
        (5, BIG_ENDIAN, VR::OW),
    ] {
        let set = put(&header(number, 3, 3, 3, 1), vr, bits.clone());
        let bytes = encode::encode(&set, syntax, &charset).expect("is encoded");
        let reader = reader(&pacs, &keep(&pacs, (announced(number, syntax), bytes.into())));
        assert_eq!(frame(&reader, 1), [0b1010_1010, 0b1]);
        assert_eq!(frame(&reader, 2), [0b1110_0110, 0b1]);
        assert_eq!(frame(&reader, 3), [0b0111_1100, 0b1]);
    }
    let set = put(&header(6, 3, 3, 3, 12), VR::OW, words);
    let bytes = explicit(&set);
    let kept = keep(&pacs, (announced(6, uids::EXPLICIT_VR_LITTLE_ENDIAN), bytes));
    let refused = block_on(pacs.frame_reader(&kept.record));
    assert_eq!(kind(refused), Some(ErrorKind::Unsupported));
}

/// See its name. An instance that has no pixel data has no reader.
pub fn a_frame_that_is_not_there_is_not_found_and_a_missing_one_costs_no_other(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    let frames: Vec<Vec<u8>> = (1..=3)
        .map(|n| [&[0xFF, 0xD8, n], &[n; 29][..]].concat())
        .collect();
    let jpeg = uids::JPEG_BASELINE8_BIT;
    let five = encapsulated(&header(1, 5, 4, 4, 16), b"", &frames);
    let kept = keep(&pacs, (announced(1, jpeg), five));
    let fewer = reader(&pacs, &kept);
    assert_eq!(fewer.count(), 5);
    assert_eq!(frame(&fewer, 3), frames[2]);
    assert_eq!(kind(block_on(encoded(&fewer, 4))), Some(ErrorKind::Mismatch));
    for number in [0, 6, u32::MAX] {
        assert_eq!(kind(block_on(encoded(&fewer, number))), Some(ErrorKind::NotFound));
    }
    // Cut off in the middle of frame 3 of 5, as by a sender that broke off: compressed without and with an
    // offset table, and native.
    let five = || {
        (1..=5)
            .map(|n| [&[0xFF, 0xD8, n], &[n; 29][..]].concat())
            .collect::<Vec<_>>()
    };
    let offsets: Vec<u8> = (0..5_u32).flat_map(|n| (n * 40).to_le_bytes()).collect();
    let mut native = header(4, 5, 4, 4, 16);
    native.put(Element {
        tag: tags::PIXEL_DATA,
        vr: VR::OW,
        value: Value::Bytes(five().concat().into()),
    });
    let native = explicit(&native);
    for (number, syntax, bytes, behind) in [
        (
            2,
            jpeg,
            encapsulated(&header(2, 5, 4, 4, 16), b"", &five()),
            8 + 40 * 2 + 16,
        ),
        (
            3,
            jpeg,
            encapsulated(&header(3, 5, 4, 4, 16), &offsets, &five()),
            8 + 40 * 2 + 16,
        ),
        (4, uids::EXPLICIT_VR_LITTLE_ENDIAN, native.clone(), 32 * 2 + 16),
    ] {
        let whole = if number == 4 { 32 * 5 } else { 40 * 5 + 8 };
        let bytes = bytes.slice(..bytes.len() - whole + behind);
        let bytes = bytes.slice(..bytes.len() - if number == 4 { 0 } else { 8 });
        let received = keep(&pacs, (announced(number, syntax), bytes));
        assert!(!received.complete);
        let cut = reader(&pacs, &received);
        assert_eq!(
            (frame(&cut, 1), frame(&cut, 2)),
            (five()[0].clone(), five()[1].clone())
        );
        assert_eq!(
            kind(block_on(encoded(&cut, 3))),
            Some(ErrorKind::Mismatch),
            "{number}"
        );
        assert!(block_on(encoded(&cut, 4)).is_err());
    }
    let mut without = header(5, 1, 4, 4, 16);
    without.remove(tags::PIXEL_DATA);
    let kept = keep(
        &pacs,
        (announced(5, uids::EXPLICIT_VR_LITTLE_ENDIAN), explicit(&without)),
    );
    assert_eq!(
        kind(block_on(pacs.frame_reader(&kept.record))),
        Some(ErrorKind::NotFound)
    );
}

/// See its name.
pub fn no_more_frames_are_counted_than_the_stored_bytes_can_hold(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    let absurd = |number| {
        let mut header = header(number, 1, 4, 4, 16);
        header.put_text(tags::NUMBER_OF_FRAMES, VR::IS, "4000000000");
        header
    };
    let mut native = absurd(1);
    native.put(Element {
        tag: tags::PIXEL_DATA,
        vr: VR::OW,
        value: Value::Bytes(vec![0; 32 * 5].into()),
    });
    let native = explicit(&native);
    let explicit_little = uids::EXPLICIT_VR_LITTLE_ENDIAN;
    // Two frames and a byte of a third.
    let cut = native.slice(..native.len() - 32 * 3 + 1);
    let cut = keep(&pacs, (announced(1, explicit_little), cut));
    assert_eq!(reader(&pacs, &cut).count(), 3);
    let whole = keep(&pacs, (announced(1, explicit_little), native.clone()));
    assert_eq!(reader(&pacs, &whole).count(), 5);
    let mut deflated = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    deflated.write_all(&native).expect("is deflated");
    let deflated = deflated.finish().expect("is deflated").into();
    let kept = keep(
        &pacs,
        (announced(1, uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN), deflated),
    );
    assert_eq!(reader(&pacs, &kept).count(), 5);
    // At most a fragment of nothing for each.
    let bytes = encapsulated(&absurd(2), b"", &[vec![1; 32], vec![2; 32]]);
    let kept = keep(&pacs, (announced(2, uids::RLE_LOSSLESS), bytes));
    assert_eq!(reader(&pacs, &kept).count(), (8 + 2 * 40 + 8) / 8);
}

/// See its name.
pub fn where_the_index_knows_no_frames_the_instance_is_read_once_for_all_who_ask(place: &dyn Place) {
    let (pacs, read, deaf) = watched(place);
    deaf.store(true, Ordering::Relaxed);
    let frames: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![n; 16 * 1024]).collect();
    let bytes = encapsulated(&header(1, 40, 64, 128, 16), b"", &frames);
    let length = bytes.len() as u64;
    let kept = keep(&pacs, (announced(1, uids::RLE_LOSSLESS), bytes));
    assert_eq!(block_on(pacs.frames(&kept.record)).expect("is looked up"), None);
    // Its metadata is known.
    block_on(pacs.describe_recent()).expect("is made");
    deaf.store(false, Ordering::Relaxed);
    let before = read.load(Ordering::Relaxed);
    let ask = |number: u32| {
        let (pacs, record) = (pacs.clone(), Arc::clone(&kept.record));
        async move { encoded(&pacs.frame_reader(&record).await?, number).await }
    };
    let found = block_on(join_all((1..=12).map(ask)));
    for (found, expected) in found.into_iter().zip(&frames) {
        assert!(found.expect("is read") == *expected);
    }
    let one = |frames: u64| frames * (16 * 1024 + 8);
    let whole = read.load(Ordering::Relaxed) - before - one(12);
    assert!(
        whole < length + length / 2,
        "{whole} bytes of {length} beside frames"
    );
    // The committer takes one request after the other: what came before this one is applied.
    block_on(pacs.remove(&instance_uid(9, 9, 9))).expect("is not there");
    let table = block_on(pacs.frames(&kept.record)).expect("is looked up");
    assert_eq!(table.map(|table| table.frames.len()), Some(40));
    let before = read.load(Ordering::Relaxed);
    assert!(block_on(ask(40)).expect("is read") == frames[39]);
    assert!(read.load(Ordering::Relaxed) - before <= one(1));
}

/// See its name: one frame, of all its fragments.
pub fn a_video_is_handed_out_whole_as_its_one_frame(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    let fragments = [vec![1; 400], vec![2; 300], vec![3; 20]];
    let bytes = encapsulated(&header(1, 250, 16, 16, 8), b"", &fragments);
    let kept = keep(&pacs, (announced(1, uids::MPEG4HP41), bytes));
    let reader = reader(&pacs, &kept);
    assert_eq!((reader.count(), frame(&reader, 1)), (1, fragments.concat()));
    assert_eq!(kind(block_on(encoded(&reader, 2))), Some(ErrorKind::NotFound));
    let syntaxes = frame_transfer_syntaxes(&kept.record.transfer_syntax);
    assert_eq!(syntaxes, [Uid::constant(uids::MPEG4HP41)]);
}

/// See its name; with feature `pixel`.
pub fn a_frame_is_decoded_with_a_header_that_describes_it_and_a_damaged_one_costs_no_other(
    place: &dyn Place,
) {
    #[cfg(feature = "pixel")]
    decoding(place);
    #[cfg(not(feature = "pixel"))]
    let _ = place;
}

/// See its name; with feature `render`.
pub fn an_animation_of_pictures_of_several_sizes_is_refused(place: &dyn Place) {
    #[cfg(feature = "render")]
    drawing(place);
    #[cfg(not(feature = "render"))]
    let _ = place;
}

#[cfg(feature = "render")]
fn drawing(place: &dyn Place) {
    use crate::pixel::render::{PictureFormat, RenderOptions};

    let pacs = open(place, DuplicatePolicy::default());
    let mut set = header(1, 3, 4, 4, 8);
    set.put_u16(tags::BITS_STORED, 8);
    set.put_u16(tags::HIGH_BIT, 7);
    let spacing = |spacing: &str| {
        let mut measures = DataSet::new();
        measures.put_text(tags::PIXEL_SPACING, VR::DS, spacing);
        let mut groups = DataSet::new();
        groups.put_items(tags::PIXEL_MEASURES_SEQUENCE, vec![measures]);
        groups
    };
    // The pixels of the third are twice as high as wide.
    let groups = ["1\\1", "1\\1", "2\\1"].map(spacing).to_vec();
    set.put_items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, groups);
    let value = Value::Bytes((0..48).collect::<Vec<u8>>().into());
    set.put(Element {
        tag: tags::PIXEL_DATA,
        vr: VR::OB,
        value,
    });
    let kept = keep(
        &pacs,
        (announced(1, uids::EXPLICIT_VR_LITTLE_ENDIAN), explicit(&set)),
    );
    let renderer = block_on(pacs.renderer(&kept.record)).expect("has frames");
    let options = RenderOptions::default();
    let size = |number| {
        let picture = block_on(renderer.picture(number, &options)).expect("is drawn");
        (picture.width, picture.height)
    };
    assert_eq!([1, 2, 3].map(size), [(4, 4), (4, 4), (4, 8)]);
    let frame_time = renderer.frame_time();
    let animation =
        |numbers: &[u32]| block_on(renderer.encoded(numbers, &options, PictureFormat::Gif { frame_time }));
    assert!(animation(&[1, 2, 1]).expect("is drawn").starts_with(b"GIF89a"));
    let refused = animation(&[1, 2, 3]).expect_err("sizes differ");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.context().contains("frame 3"), "{refused}");
    assert_eq!(kind(animation(&[1, 4])), Some(ErrorKind::NotFound));
}

#[cfg(feature = "pixel")]
fn decoding(place: &dyn Place) {
    let pacs = open(place, DuplicatePolicy::default());
    // Runs of 16 bytes in RLE segments (PS3.5 annex G), one for each sample.
    let rle = |samples: [u8; 3]| {
        let mut frame = vec![0; 64];
        frame[0] = 3;
        for (at, sample) in samples.into_iter().enumerate() {
            frame[4 + at * 4] = 64 + 2 * at as u8;
            frame.extend([0xF1, sample]);
        }
        frame
    };
    let colour = |number, photometric: &str| {
        let mut header = header(number, 3, 4, 4, 8);
        header.put_u16(tags::SAMPLES_PER_PIXEL, 3);
        header.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, photometric);
        header.put_u16(tags::PLANAR_CONFIGURATION, 0);
        header
    };
    let frames = [rle([1, 2, 3]), b"no RLE at all".to_vec(), rle([4, 5, 6])];
    let bytes = encapsulated(
        &colour(1, "RGB"),
        b"",
        &frames.map(|mut frame| {
            frame.resize(frame.len().next_multiple_of(2), 0);
            frame
        }),
    );
    let kept = keep(&pacs, (announced(1, uids::RLE_LOSSLESS), bytes));
    let compressed = reader(&pacs, &kept);
    let decoded = block_on(join_all((1..=4).map(|number| compressed.decoded(number))));
    let [first, damaged, third, beyond] = &decoded[..] else {
        panic!("four were asked for");
    };
    let pixels = |samples: [u8; 3]| samples.repeat(16);
    assert_eq!(first.as_ref().expect("is decoded").pixels[..], pixels([1, 2, 3]));
    assert_eq!(third.as_ref().expect("is decoded").pixels[..], pixels([4, 5, 6]));
    assert_eq!(damaged.as_ref().err().map(Error::kind), Some(ErrorKind::Mismatch));
    assert_eq!(beyond.as_ref().err().map(Error::kind), Some(ErrorKind::NotFound));
    let header = &first.as_ref().expect("is decoded").header;
    assert_eq!(header.string(tags::PHOTOMETRIC_INTERPRETATION), Some("RGB"));
    assert_eq!(header.u16(tags::PLANAR_CONFIGURATION), Some(0));
    let explicit_little = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let syntaxes = frame_transfer_syntaxes(&kept.record.transfer_syntax);
    assert_eq!(syntaxes, [kept.record.transfer_syntax, explicit_little]);
    // Native pixels of which two share their chrominance: 2 bytes each.
    let mut shared = colour(2, "YBR_FULL_422");
    let value: Vec<u8> = (0..3_u8)
        .flat_map(|frame| [frame, 10, 20, 30].repeat(8))
        .collect();
    let value = Value::Bytes(value.into());
    shared.put(Element {
        tag: tags::PIXEL_DATA,
        vr: VR::OB,
        value,
    });
    let kept = keep(
        &pacs,
        (announced(2, uids::EXPLICIT_VR_LITTLE_ENDIAN), explicit(&shared)),
    );
    let native = reader(&pacs, &kept);
    assert_eq!(frame(&native, 2), [1, 10, 20, 30].repeat(8));
    let decoded = block_on(native.decoded(2)).expect("is decoded");
    assert_eq!(decoded.pixels[..], [1, 20, 30, 10, 20, 30].repeat(8));
    assert_eq!(
        decoded.header.string(tags::PHOTOMETRIC_INTERPRETATION),
        Some("YBR_FULL")
    );
}
