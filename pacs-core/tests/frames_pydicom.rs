//! Every test file of pydicom and pydicom-data, kept in an engine and read frame by frame: each frame is the one
//! that pydicom reads, as it is stored and decoded.
#![cfg(feature = "pixel")]
// What is skipped, and what peers say, stands in the output.
#![allow(clippy::print_stdout)]

mod python;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use futures::stream::{self, StreamExt, TryStreamExt};
use pacs_core::dataset::coercion;
use pacs_core::dataset::part10::{FileMeta, read_meta};
use pacs_core::dataset::scan::Scanner;
use pacs_core::engine::Announced;
use pacs_core::{DataSet, Options, Pacs, Received, Result, Source, Uid, VR, tags};
use pacs_store::{MemoryArchive, MemoryIndex};

use python::python_with;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/frames_pydicom.py");

fn script(python: &Path, argument: &str, input: &str) -> String {
    let mut child = Command::new(python)
        .args([SCRIPT, argument])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feeding = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap().unwrap();
    assert!(output.status.success(), "the script failed");
    String::from_utf8(output.stdout).unwrap()
}

/// What is refused, or is other than pydicom has it: known and understood.
const KNOWN: &[(&str, &str)] = &[
    // Cut off on purpose; pydicom hands out what there is of its frame.
    ("MR_truncated.dcm", "ends inside the frame"),
    ("MR_truncated.dcm", "encoded frame 1 is missing"),
    // Its codestream's width was overwritten with a delimiter: pydicom doesn't decode it either.
    (
        "JPEG2000-embedded-sequence-delimiter.dcm",
        "where the data set describes",
    ),
    // They have pixel data of a few bytes and nothing that describes it: pydicom decodes it neither.
    ("nested_priv_SQ.dcm", "describes the pixels is missing"),
    ("meta_missing_tsyntax.dcm", "describes the pixels is missing"),
];

/// Keeps a file in an engine of its own. What says where an instance belongs is put in where it is missing.
async fn keep(file: &[u8], meta: &FileMeta) -> Result<(Pacs, Received)> {
    let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
    let pacs = Pacs::open(archive, index, Options::default()).await?;
    let data_set = Bytes::copy_from_slice(&file[meta.data_set_offset as usize..]);
    let mut scanner = Scanner::new(&meta.transfer_syntax);
    scanner.push(&data_set)?;
    let header = scanner.finish()?.header;
    let mut missing = DataSet::new();
    let uid = |tag| {
        header
            .uid(tag)
            .unwrap_or(Uid::constant("1.2.826.0.1.3680043.10.1"))
    };
    for tag in [
        tags::SOP_CLASS_UID,
        tags::SOP_INSTANCE_UID,
        tags::STUDY_INSTANCE_UID,
        tags::SERIES_INSTANCE_UID,
    ] {
        if header.uid(tag).is_err() {
            missing.put_text(tag, VR::UI, uid(tag).as_str());
        }
    }
    let length = data_set.len() as u64;
    let mut pieces = stream::iter([Ok(data_set)]).boxed();
    if !missing.is_empty() {
        pieces = coercion::apply(&missing, &meta.transfer_syntax, length, pieces)?;
    }
    let mut receipt = pacs
        .receive(Announced {
            sop_class: uid(tags::SOP_CLASS_UID),
            sop_instance: uid(tags::SOP_INSTANCE_UID),
            transfer_syntax: meta.transfer_syntax,
            source: Source::default(),
        })
        .await?;
    while let Some(piece) = pieces.try_next().await? {
        receipt.write(piece).await?;
    }
    let received = receipt.commit().await?;
    Ok((pacs, received))
}

/// Writes the frames of an instance into `folder`; what was refused.
async fn write_frames(pacs: &Pacs, received: &Received, folder: &Path) -> Result<Vec<String>> {
    let mut refused = Vec::new();
    let mut described = String::new();
    std::fs::write(folder.join("header"), &described).unwrap();
    let reader = pacs.frame_reader(&received.record).await?;
    for number in 1..=reader.count() {
        let encoded = async {
            let pieces: Vec<Bytes> = reader.encoded(number).await?.try_collect().await?;
            Ok::<_, pacs_core::Error>(pieces.concat())
        };
        match encoded.await {
            Ok(bytes) => std::fs::write(folder.join(format!("{number}.encoded")), bytes).unwrap(),
            Err(error) => refused.push(format!("encoded refused: {error}")),
        }
        match reader.decoded(number).await {
            Ok(frame) => {
                std::fs::write(folder.join(format!("{number}.decoded")), &frame.pixels).unwrap();
                described = describe(&frame.header);
            }
            Err(error) => refused.push(format!("decoded refused: {error}")),
        }
    }
    refused.dedup();
    std::fs::write(folder.join("header"), described).unwrap();
    Ok(refused)
}

/// What of a header describes pixels, for the script.
fn describe(header: &DataSet) -> String {
    let mut lines = String::new();
    for (keyword, tag) in [
        ("SamplesPerPixel", tags::SAMPLES_PER_PIXEL),
        ("PlanarConfiguration", tags::PLANAR_CONFIGURATION),
        ("Rows", tags::ROWS),
        ("Columns", tags::COLUMNS),
        ("BitsAllocated", tags::BITS_ALLOCATED),
        ("BitsStored", tags::BITS_STORED),
        ("HighBit", tags::HIGH_BIT),
        ("PixelRepresentation", tags::PIXEL_REPRESENTATION),
    ] {
        if let Some(number) = header.u16(tag) {
            writeln!(lines, "{keyword}\t{number}").unwrap();
        }
    }
    if let Some(text) = header.string(tags::PHOTOMETRIC_INTERPRETATION) {
        writeln!(lines, "PhotometricInterpretation\t{text}").unwrap();
    }
    lines
}

#[test]
fn every_frame_of_pydicoms_files_is_the_one_that_pydicom_reads() {
    let Some(python) = python_with("numpy, pydicom, openjpeg, libjpeg, rle") else {
        return;
    };
    let folder = std::env::temp_dir().join(format!("pacs-frames-{}", std::process::id()));
    let (mut pairs, mut bad) = (String::new(), Vec::new());
    for (at, path) in script(&python, "list", "").lines().enumerate() {
        let file = std::fs::read(path).unwrap();
        let Ok(Some(meta)) = read_meta(&file, true) else {
            println!("no DICOM file: {path}");
            continue;
        };
        let name = path.rsplit('/').next().unwrap();
        let own = folder.join(at.to_string());
        std::fs::create_dir_all(&own).unwrap();
        let refused = block_on(async {
            let (pacs, received) = keep(&file, &meta).await?;
            write_frames(&pacs, &received, &own).await
        });
        match refused {
            Ok(refused) => bad.extend(refused.iter().map(|why| format!("{name}: {why}"))),
            // If pydicom has some, it misses its frames.
            Err(error) if error.context() == "the instance has no pixel data" => {}
            Err(error) => bad.push(format!("{name}: {error}")),
        }
        writeln!(pairs, "{path}\t{}", own.display()).unwrap();
    }
    let answer = script(&python, "compare", &pairs);
    std::fs::remove_dir_all(&folder).unwrap();
    let (mut encoded, mut decoded) = (0, 0);
    for line in answer.lines() {
        let (path, found) = line.split_once('\t').unwrap_or((line, ""));
        let name = path.rsplit('/').next().unwrap();
        for found in found.split('\t').filter(|found| !found.is_empty()) {
            if let Some(count) = found.strip_prefix("encoded: ") {
                encoded += count.parse::<u32>().unwrap();
            } else if let Some(count) = found.strip_prefix("decoded: ") {
                decoded += count.parse::<u32>().unwrap();
            } else if let Some(note) = found.strip_prefix("note: ") {
                println!("{name}: {note}");
            } else {
                bad.push(format!("{name}: {found}"));
            }
        }
    }
    let is_known = |line: &String| {
        KNOWN
            .iter()
            .any(|(name, why)| line.contains(name) && line.contains(why))
    };
    let (known, unknown): (Vec<_>, Vec<_>) = bad.into_iter().partition(is_known);
    println!("known:\n{}", known.join("\n"));
    println!("the same as pydicom's: {encoded} frames encoded, {decoded} decoded");
    assert!(unknown.is_empty(), "\n{}", unknown.join("\n"));
    assert!(encoded > 400 && decoded > 400);
}
