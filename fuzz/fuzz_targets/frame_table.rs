//! Encapsulated pixel data with offset tables and fragments of any kind: what is found of the frames lies inside the
//! data set where that is whole, and no frame that is handed out is longer than the data set.
//!
//! Run with `cargo fuzz run -s none frame_table`.

#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use futures::TryStreamExt;
use futures::executor::block_on;
use libfuzzer_sys::fuzz_target;
use pacs_core::dataset::{Element, Value};
use pacs_core::{InstanceRecord, Pacs};
use pacs_fuzz::codec::item;
use pacs_fuzz::instance::{INSTANCE, SERIES, STUDY, engine, explicit, forget, keep, meta, names};

static PACS: LazyLock<Pacs> = LazyLock::new(engine);

/// JPEG, whose frames begin with a marker; RLE, whose frames are fragments; a video.
const SYNTAXES: [&str; 3] = [
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.102",
];

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    syntax: u8,
    /// Number of Frames, in place of as many as there are fragments.
    frames: Option<i32>,
    basic: Offsets,
    extended: Option<(Offsets, Offsets)>,
    fragments: Vec<Fragment<'a>>,
    /// Where the data set is cut off, from its end.
    cut: u8,
    behind: &'a [u8],
}

#[derive(Arbitrary, Debug)]
enum Offsets {
    Right,
    None,
    Any(Vec<u32>),
    Odd(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Fragment<'a> {
    /// Begins as an image does.
    Image(&'a [u8]),
    Any(&'a [u8]),
}

impl Fragment<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Image(bytes) => [b"\xFF\xD8", *bytes].concat(),
            Self::Any(bytes) => bytes.to_vec(),
        }
    }
}

impl Offsets {
    fn bytes<const N: usize>(&self, right: &[u64]) -> Vec<u8> {
        let number = |number: u64| number.to_le_bytes()[..N].to_vec();
        match self {
            Self::Right => right.iter().copied().flat_map(number).collect(),
            Self::None => Vec::new(),
            Self::Any(offsets) => offsets.iter().flat_map(|&offset| number(offset.into())).collect(),
            Self::Odd(bytes) => bytes.clone(),
        }
    }
}

impl Input<'_> {
    fn data_set(&self) -> Vec<u8> {
        let (mut fragments, mut starts, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
        for fragment in &self.fragments {
            starts.push(fragments.len() as u64);
            let bytes = fragment.bytes();
            lengths.push(bytes.len() as u64);
            item(&mut fragments, &bytes);
        }
        let mut set = names(STUDY, SERIES, INSTANCE);
        let frames = self
            .frames
            .map_or(self.fragments.len().to_string(), |frames| frames.to_string());
        set.put_text(tags::NUMBER_OF_FRAMES, VR::IS, frames);
        if let Some((offsets, of_lengths)) = &self.extended {
            let mut put = |tag: Tag, bytes: Vec<u8>| {
                let value = Value::Bytes(Bytes::from(bytes));
                set.put(Element {
                    tag,
                    vr: VR::OV,
                    value,
                });
            };
            put(tags::EXTENDED_OFFSET_TABLE, offsets.bytes::<8>(&starts));
            put(
                tags::EXTENDED_OFFSET_TABLE_LENGTHS,
                of_lengths.bytes::<8>(&lengths),
            );
        }
        let mut bytes = explicit(&set);
        bytes.extend_from_slice(b"\xE0\x7F\x10\0OB\0\0\xFF\xFF\xFF\xFF");
        item(&mut bytes, &self.basic.bytes::<4>(&starts));
        bytes.append(&mut fragments);
        bytes.extend_from_slice(b"\xFE\xFF\xDD\xE0\0\0\0\0");
        bytes.extend_from_slice(self.behind);
        bytes.truncate(bytes.len() - usize::from(self.cut).min(bytes.len() / 2));
        bytes
    }
}

/// `whole` is whether nothing is cut off: else an offset table may point behind the end, and reading tells.
fn check(record: &InstanceRecord, length: u64, whole: bool) {
    block_on(async {
        let table = PACS.frames(record).await;
        if whole && let Ok(Some(table)) = &table {
            for extent in &table.frames {
                assert!(
                    extent
                        .offset
                        .checked_add(extent.length)
                        .is_some_and(|end| end <= length)
                );
            }
        }
        let Ok(reader) = PACS.frame_reader(record).await else {
            return;
        };
        for number in (0..reader.count().min(20)).map(|at| at + 1) {
            let Ok(pieces) = reader.encoded(number).await else {
                continue;
            };
            if let Ok(pieces) = pieces.try_collect::<Vec<Bytes>>().await {
                let frame: usize = pieces.iter().map(Bytes::len).sum();
                assert!(frame as u64 <= length, "more than there is");
            }
        }
    });
}

fuzz_target!(|input: Input| {
    let syntax = SYNTAXES[usize::from(input.syntax) % SYNTAXES.len()];
    let data_set = input.data_set();
    let length = data_set.len() as u64;
    let mut file = meta(INSTANCE, syntax);
    file.extend(data_set);
    if let Ok(Some(record)) = keep(&PACS, file) {
        check(&record, length, input.cut == 0 && input.behind.is_empty());
        forget(&PACS);
    }
});
