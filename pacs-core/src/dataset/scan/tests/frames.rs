//! Frames of encapsulated pixel data (PS3.5 A.4).

use super::*;
use crate::budget::Budget;
use crate::dataset::{FrameExtent, FrameTable};

const OFFSETS: Tag = Tag(0x7FE0, 0x0001);
const LENGTHS: Tag = Tag(0x7FE0, 0x0002);

struct Image {
    frames: &'static str,
    basic: Vec<u32>,
    extended: Option<(Vec<u64>, Vec<u64>)>,
    fragments: Vec<Vec<u8>>,
}

impl Image {
    fn new(frames: &'static str, fragments: Vec<Vec<u8>>) -> Self {
        Self {
            frames,
            basic: Vec::new(),
            extended: None,
            fragments,
        }
    }

    /// The data set, and the offset of the first fragment's item.
    fn bytes(&self) -> (Vec<u8>, u64) {
        let mut bytes = explicit(Tag(0x0028, 0x0008), VR::IS, self.frames.as_bytes());
        if let Some((offsets, lengths)) = &self.extended {
            let raw = |numbers: &[u64]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>();
            bytes.extend(explicit(OFFSETS, VR::OV, &raw(offsets)));
            bytes.extend(explicit(LENGTHS, VR::OV, &raw(lengths)));
        }
        bytes.extend(header(PIXELS, VR::OB, UNDEFINED));
        let table: Vec<u8> = self.basic.iter().flat_map(|n| n.to_le_bytes()).collect();
        bytes.extend(implicit(ITEM, &table));
        let first = bytes.len() as u64;
        for fragment in &self.fragments {
            bytes.extend(implicit(ITEM, fragment));
        }
        bytes.extend(implicit(SEQUENCE_END, b""));
        bytes.extend(explicit(Tag(0xFFFC, 0xFFFC), VR::OB, &[0; 4]));
        (bytes, first)
    }

    /// What stands at each frame of the table.
    fn frames_in(&self, syntax: &str) -> Option<Vec<Vec<u8>>> {
        let (bytes, _) = self.bytes();
        let scan = scan(&bytes, syntax);
        assert!(scan.complete);
        assert_eq!(scan.pixel_data.unwrap().length, None);
        assert_eq!(
            scan.frames.is_none(),
            kinds(&scan).contains(&ProblemKind::FrameTable)
        );
        let FrameTable { frames } = scan.frames?;
        let piece = |&FrameExtent { offset, length }: &FrameExtent| {
            bytes[offset as usize..(offset + length) as usize].to_vec()
        };
        Some(frames.iter().map(piece).collect())
    }
}

const SOI: [u8; 4] = [0xFF, 0xD8, 0xFF, 0xE0];

fn start(byte: u8) -> Vec<u8> {
    [&SOI[..], &[byte; 6]].concat()
}

#[test]
fn as_many_fragments_as_frames_are_one_each() {
    let fragments = vec![vec![1; 10], vec![2; 4], vec![3; 0], vec![4; 2]];
    let image = Image::new("4 ", fragments.clone());
    assert_eq!(image.frames_in(JPEG), Some(fragments));
}

#[test]
fn several_fragments_of_one_frame_are_one_range_with_the_headers_between() {
    let image = Image::new("1 ", vec![vec![1; 4], vec![2; 4]]);
    let between = [&[1; 4][..], &tag(ITEM), &4_u32.to_le_bytes(), &[2; 4]].concat();
    assert_eq!(image.frames_in(JPEG), Some(vec![between.clone()]));
    let video = Image::new("25", vec![vec![1; 4], vec![2; 4]]);
    assert_eq!(video.frames_in("1.2.840.10008.1.2.4.102"), Some(vec![between]));
    let one = Image::new("25", vec![vec![1; 4]]);
    assert_eq!(one.frames_in(JPEG), Some(vec![vec![1; 4]]));
}

#[test]
fn the_basic_offset_table_tells_frames_of_several_fragments() {
    let mut image = Image::new("2 ", vec![vec![1; 4], vec![2; 6], vec![3; 2]]);
    image.basic = vec![0, 26];
    let first = [&[1; 4][..], &tag(ITEM), &6_u32.to_le_bytes(), &[2; 6]].concat();
    assert_eq!(image.frames_in(JPEG), Some(vec![first, vec![3; 2]]));
    // A table that points between fragments, backwards or behind the end is not believed.
    for wrong in [
        vec![0, 20],
        vec![26, 0],
        vec![0, 4_000_000_000],
        vec![12, 26],
        vec![0, 0],
    ] {
        image.basic = wrong;
        assert_eq!(image.frames_in(JPEG), None);
    }
}

#[test]
fn the_extended_offset_table_tells_frames_without_padding() {
    let mut image = Image::new("2 ", vec![vec![1; 4], vec![2; 6]]);
    image.extended = Some((vec![0, 12], vec![3, 6]));
    assert_eq!(image.frames_in(JPEG), Some(vec![vec![1; 3], vec![2; 6]]));
    for wrong in [
        (vec![0, 11], vec![3, 6]),
        (vec![0, 12], vec![3, 7]),
        (vec![0, u64::MAX], vec![3, 6]),
    ] {
        image.extended = Some(wrong);
        assert_eq!(
            image.frames_in(JPEG),
            Some(vec![vec![1; 4], vec![2; 6]]),
            "by count"
        );
    }
}

#[test]
fn the_starts_of_images_tell_frames_where_no_table_does() {
    let fragments = vec![start(1), vec![9; 4], start(2), start(3), vec![8; 2]];
    let frames = Image::new("3 ", fragments.clone()).frames_in(JPEG).unwrap();
    assert_eq!(frames.len(), 3);
    assert_eq!(frames[1], start(2));
    assert!(frames[2].starts_with(&start(3)) && frames[2].ends_with(&[8; 2]));
    assert_eq!(Image::new("4 ", fragments).frames_in(JPEG), None);
}

#[test]
fn encapsulated_pixel_data_of_an_icon_is_not_the_image() {
    let icon = undefined(
        header(PIXELS, VR::OB, UNDEFINED),
        &[implicit(ITEM, b""), implicit(ITEM, &[1; 4])].concat(),
        SEQUENCE_END,
    );
    let bytes = [
        explicit(ID, VR::LO, b"4711"),
        undefined(
            header(Tag(0x0088, 0x0200), VR::SQ, UNDEFINED),
            &implicit(ITEM, &icon),
            SEQUENCE_END,
        ),
    ]
    .concat();
    let scan = scan(&bytes, JPEG);
    assert!(scan.complete && scan.problems.is_empty());
    assert_eq!((scan.pixel_data, scan.frames), (None, None));
    assert_eq!(scan.left_out, [Tag(0x0088, 0x0200)]);
}

#[test]
fn a_stream_that_ends_among_fragments_has_a_table_of_what_came() {
    let image = Image::new("2 ", vec![vec![1; 4], vec![2; 6]]);
    let (bytes, first) = image.bytes();
    let end = first as usize + 12 + 14;
    let found = scan(&bytes[..end], JPEG);
    assert_eq!(kinds(&found), [ProblemKind::Unterminated]);
    assert_eq!(found.frames.unwrap().frames.len(), 2);
    assert!(!found.complete);
}

#[test]
fn a_stream_that_ends_inside_a_frame_has_a_table_of_the_frames_before() {
    let pieces = || (1..=3).flat_map(|byte| [start(byte), vec![byte; 4]]).collect();
    // Frames of two fragments, and of one.
    let mut of_two = Image::new("3 ", pieces());
    of_two.basic = vec![0, 30, 60];
    let mut of_one = Image::new("6 ", (1..=6).map(start).collect());
    let without_table = Image::new("6 ", (1..=6).map(start).collect());
    of_one.extended = Some(((0..6).map(|n| n * 18).collect(), vec![10; 6]));
    for (image, length, whole) in [
        (&of_two, 30 + 18, 1),      // between the fragments of the second
        (&of_two, 30 + 18 + 10, 2), // in the last fragment of the second: it reaches beyond the end
        (&of_two, 60 + 9, 3),
        (&of_one, 3 * 18, 3),
        (&of_one, 3 * 18 + 9, 4),
        (&without_table, 3 * 18 + 9, 4),
    ] {
        let (bytes, first) = image.bytes();
        let found = scan(&bytes[..first as usize + length], JPEG);
        assert!(!found.complete);
        let frames = found.frames.expect("has a table").frames;
        assert_eq!(frames.len(), whole, "{length}");
        assert_eq!(frames[0].offset, first + 8);
    }
    // Fewer fragments than frames, though nothing is cut.
    let fewer = Image::new("4 ", (1..=3).map(start).collect());
    assert_eq!(fewer.frames_in(JPEG), Some((1..=3).map(start).collect()));
    assert_eq!(Image::new("4 ", vec![vec![7; 4]; 3]).frames_in(JPEG), None);
}

#[test]
fn without_room_for_it_there_is_no_frame_table_and_nothing_is_wrong_with_the_data_set() {
    let image = Image::new("5000", vec![b"\xFF\xD8ab".to_vec(); 5_000]);
    let (bytes, _) = image.bytes();
    for (room, fits) in [(1_000_000, true), (100_000, false), (1_000, false)] {
        let budget = Budget::new(room);
        let mut scanner = Scanner::new(&Uid::constant(EXPLICIT)).with_frame_tables_from(&budget);
        scanner.push(&bytes).unwrap();
        let (scan, held) = scanner.finish_counted().unwrap();
        assert_eq!(scan.frames.is_some(), fits, "{room}");
        assert!(scan.complete && scan.problems.is_empty(), "{room}");
        assert_eq!(budget.free() < room, fits, "{room}");
        drop(held);
        assert_eq!(budget.free(), room);
    }
}
