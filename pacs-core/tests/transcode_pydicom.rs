//! Every test file of pydicom and pydicom-data, transcoded by us and read again by pydicom.
#![cfg(feature = "pixel")]
// What is skipped, and what peers say, stands in the output.
#![allow(clippy::print_stdout)]

mod python;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use futures::stream::{self, StreamExt, TryStreamExt};
use pacs_core::Result;
use pacs_core::dataset::part10::{FileMeta, Meta, read_meta, write_meta};
use pacs_core::dataset::recode::is_native;
use pacs_core::dataset::scan::Scanner;
use pacs_core::limits::DECODING_LENGTH_MAX_BYTES;
use pacs_core::pixel::{DecodingRoom, Overrides, Target, can_transcode, transcode};
use pacs_core::uid::Uid;

use python::python_with;

/// What reads all that we write.
const WITH_DECODERS: &str = "numpy, pydicom, openjpeg, libjpeg, rle";

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcode_pydicom.py");
const JPEG_XL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/jpegxl_pydicom.py");

fn script(python: &Path, argument: &str, input: &str) -> String {
    run(python, &[SCRIPT, argument], input)
}

fn run(python: &Path, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(python)
        .args(arguments)
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

/// Transcodes a file's data set, given in small pieces.
fn transcoded(file: &[u8], meta: &FileMeta, target: Target, with_table: bool) -> Result<Vec<u8>> {
    let data_set = Bytes::copy_from_slice(&file[meta.data_set_offset as usize..]);
    let table = if with_table {
        let mut scanner = Scanner::new(&meta.transfer_syntax);
        scanner.push(&data_set)?;
        scanner.finish()?.frames
    } else {
        None
    };
    let pieces: Vec<_> = data_set
        .chunks(10_000)
        .map(|piece| Ok(data_set.slice_ref(piece)))
        .collect();
    let out = block_on(async {
        let stream = transcode(
            &meta.transfer_syntax,
            stream::iter(pieces).boxed(),
            table.map(Arc::new),
            target,
            Overrides::default(),
            &DecodingRoom::new(DECODING_LENGTH_MAX_BYTES),
        )
        .await?;
        stream.try_collect::<Vec<Bytes>>().await
    })?;
    Ok(out.concat())
}

/// Why a file can't be transcoded, or what pydicom says other than we do: known and understood.
const KNOWN: &[(&str, &str)] = &[
    // Cut off on purpose.
    ("MR_truncated.dcm", "ends inside an element"),
    ("rtplan_truncated.dcm", "ends inside an element"),
    // Its codestream's width was overwritten with a delimiter.
    (
        "JPEG2000-embedded-sequence-delimiter.dcm",
        "where the data set describes",
    ),
    // Colour of 12 bits: no SOP class has it, DCMTK makes it when forced.
    ("+ee+bt", "12 bits and several components"),
];

/// A folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("pacs-transcode-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Transcodes every file to both targets, and has pydicom compare what came of it with the file, or
/// with the reference that stands behind it.
fn check(python: &Path, folder: &Path, paths: &[(String, Option<String>)]) {
    let (mut pairs, mut bad, mut counts) = (String::new(), Vec::new(), BTreeMap::<String, usize>::new());
    for (at, (path, reference)) in paths.iter().enumerate() {
        let file = std::fs::read(path).unwrap();
        let Ok(Some(meta)) = read_meta(&file, true) else {
            println!("no DICOM file: {path}");
            continue;
        };
        let name = Path::new(path).file_name().unwrap().to_str().unwrap();
        for (target, with_table) in [
            (Target::ExplicitLittleEndian, true),
            (Target::ImplicitLittleEndian, false),
        ] {
            let possible = can_transcode(&meta.transfer_syntax, &[target.uid()]);
            match transcoded(&file, &meta, target, with_table) {
                Ok(bytes) => {
                    assert_eq!(possible, Some(target));
                    *counts.entry(meta.transfer_syntax.to_string()).or_default() += 1;
                    let out = folder.join(format!("{at}-{target:?}-{name}"));
                    let uid = |uid: Option<Uid>| uid.unwrap_or(Uid::constant("1.2.3"));
                    let head = write_meta(&Meta::new(
                        uid(meta.sop_class),
                        uid(meta.sop_instance),
                        target.uid(),
                    ));
                    std::fs::write(&out, [&head[..], &bytes].concat()).unwrap();
                    let reference = reference.as_ref().unwrap_or(path);
                    pairs.push_str(&format!("{reference}\t{}\n", out.display()));
                }
                Err(error) => bad.push(format!("{name}: refused: {error}")),
            }
        }
    }
    let answer = script(python, "compare", &pairs);
    let (native, others): (Vec<_>, Vec<_>) = counts.iter().partition(|(syntax, _)| is_native(syntax));
    println!("transcoded: native {native:?}, compressed {others:?}");
    for line in answer.lines() {
        let (path, found) = line.split_once('\t').unwrap_or((line, ""));
        let name = path.rsplit('/').next().unwrap();
        for found in found.split('\t').filter(|found| !found.is_empty()) {
            match found.strip_prefix("note: ") {
                Some(note) => println!("{name}: {note}"),
                None => bad.push(format!("{name}: {found}")),
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
    assert!(unknown.is_empty(), "\n{}", unknown.join("\n"));
}

#[test]
fn every_file_of_pydicom_reads_there_as_its_source_does() {
    let Some(python) = python_with(WITH_DECODERS) else {
        return;
    };
    let folder = folder("files");
    let list = script(&python, "list", "");
    let paths: Vec<_> = list.lines().map(|path| (path.to_owned(), None)).collect();
    check(&python, &folder, &paths);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// How DCMTK compresses: the command and its options.
const DCMTK: &[&[&str]] = &[
    &["dcmcjpeg", "+el", "+sv", "1"],
    &["dcmcjpeg", "+el", "+sv", "2"],
    &["dcmcjpeg", "+el", "+sv", "3"],
    &["dcmcjpeg", "+el", "+sv", "4"],
    &["dcmcjpeg", "+el", "+sv", "5"],
    &["dcmcjpeg", "+el", "+sv", "6"],
    &["dcmcjpeg", "+el", "+sv", "7"],
    &["dcmcjpeg", "+e1", "+pl", "+pt", "2"],
    &["dcmcjpeg", "+e1", "+fs", "4", "-ot"],
    &["dcmcjpeg", "+eb", "+fs", "4"],
    &["dcmcjpeg", "+eb", "+s4"],
    &["dcmcjpeg", "+eb", "+cr"],
    &["dcmcjpeg", "+ee", "+bt"],
    &["dcmcjpeg", "+ee", "+be"],
    &["dcmcrle"],
    &["dcmcrle", "-ot"],
    &["dcmcjpls", "+el"],
    &["dcmcjpls", "+el", "+il"],
    &["dcmcjpls", "+el", "+is"],
    &["dcmcjpls", "+el", "+in"],
    &[
        "dcmcjpls", "+el", "+t1", "4", "+t2", "9", "+t3", "30", "+rs", "32",
    ],
    &["dcmcjpls", "+en"],
    &["dcmcjpls", "+el", "+fs", "4", "-ot"],
];

#[test]
fn what_dcmtk_compresses_reads_in_pydicom_as_its_source_does() {
    let dcmtk = Command::new("dcmcjpeg")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    let required = std::env::var_os("PACS_REQUIRE_PEERS").is_some();
    assert!(dcmtk || !required, "DCMTK is required, and is not there");
    let Some(python) = python_with(WITH_DECODERS).filter(|_| dcmtk) else {
        println!("skipped: DCMTK or a virtual environment with pydicom is not there (see .ci/peers)");
        return;
    };
    let folder = folder("dcmtk");
    let list = script(&python, "list", "");
    let mut paths = Vec::new();
    for name in [
        "CT_small.dcm",
        "MR_small.dcm",
        "SC_rgb.dcm",
        "emri_small.dcm",
        "OBXXXX1A.dcm",
        "SC_rgb_2frame.dcm",
    ] {
        let source = list
            .lines()
            .find(|path| path.ends_with(&format!("/{name}")))
            .unwrap();
        for (at, how) in DCMTK.iter().enumerate() {
            let out = folder.join(format!("{}-{at}-{name}", how[1..].join("")));
            let status = Command::new(how[0])
                .args(&how[1..])
                .arg(source)
                .arg(&out)
                .stderr(Stdio::null())
                .status();
            if status.unwrap().success() {
                // pydicom's decoder does not undo a point transform, DCMTK's does.
                let reference = how.contains(&"+pt").then(|| {
                    let decoded = format!("{}.decoded", out.display());
                    assert!(
                        Command::new("dcmdjpeg")
                            .arg(&out)
                            .arg(&decoded)
                            .status()
                            .unwrap()
                            .success()
                    );
                    decoded
                });
                paths.push((out.display().to_string(), reference));
            } else {
                println!("DCMTK does not: {how:?} {name}");
            }
        }
    }
    assert!(paths.len() > 100, "DCMTK compressed {} files only", paths.len());
    check(&python, &folder, &paths);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Writes what became of a file as a file, and answers whether the file was transcoded.
fn write_transcoded(file: &[u8], out: &Path) -> Result<()> {
    let meta = read_meta(file, true)?.unwrap();
    let bytes = transcoded(file, &meta, Target::ExplicitLittleEndian, true)?;
    let uid = |uid: Option<Uid>| uid.unwrap_or(Uid::constant("1.2.3"));
    let syntax = Target::ExplicitLittleEndian.uid();
    let head = write_meta(&Meta::new(uid(meta.sop_class), uid(meta.sop_instance), syntax));
    std::fs::write(out, [&head[..], &bytes].concat()).unwrap();
    Ok(())
}

#[cfg(feature = "jpegxl")]
#[test]
fn what_libjxl_compresses_has_the_pixels_that_it_decodes_itself() {
    let Some(python) = python_with("numpy, pydicom, openjpeg, libjpeg, rle, imagecodecs") else {
        return;
    };
    let folder = folder("jpegxl");
    let made = run(&python, &[JPEG_XL, "make", folder.to_str().unwrap()], "");
    let mut pairs = String::new();
    for line in made.lines() {
        let (path, expected) = line.split_once('\t').unwrap();
        let out = format!("{path}.transcoded");
        write_transcoded(&std::fs::read(path).unwrap(), Path::new(&out))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        pairs.push_str(&format!("{out}\t{expected}\n"));
    }
    let answer = run(&python, &[JPEG_XL, "compare"], &pairs);
    println!("{answer}");
    assert_eq!(answer.lines().count(), made.lines().count());
    assert!(
        answer.lines().count() >= 10 && !answer.contains("BAD"),
        "\n{answer}"
    );
    std::fs::remove_dir_all(&folder).unwrap();
}

#[cfg(feature = "jpeg2000")]
#[test]
fn a_codestream_of_jpeg_2000_is_decoded_under_the_labels_of_part_2_too() {
    let Some(python) = python_with(WITH_DECODERS) else {
        return;
    };
    let folder = folder("part2");
    let list = script(&python, "list", "");
    let mut compared = 0;
    for (name, label) in [("693_J2KR.dcm", "92"), ("MR_small_jp2klossless.dcm", "93")] {
        let path = list
            .lines()
            .find(|path| path.ends_with(&format!("/{name}")))
            .unwrap();
        let file = std::fs::read(path).unwrap();
        let plain = folder.join("plain");
        write_transcoded(&file, &plain).unwrap();
        let uid = b"1.2.840.10008.1.2.4.9";
        let at = file.windows(uid.len()).position(|window| window == uid).unwrap() + uid.len() - 1;
        let mut relabelled = file;
        relabelled[at..at + 2].copy_from_slice(label.as_bytes());
        let out = folder.join("out");
        write_transcoded(&relabelled, &out).unwrap();
        assert!(
            std::fs::read(&plain).unwrap() == std::fs::read(&out).unwrap(),
            "{name}"
        );
        compared += 1;
        // With extensions that nothing here knows: a marker of the multiple component transform, cut off.
        let siz = relabelled
            .windows(4)
            .position(|window| window == [0xFF, 0x4F, 0xFF, 0x51])
            .unwrap();
        relabelled[siz + 6] |= 0x81;
        let cod = siz
            + relabelled[siz..]
                .windows(2)
                .position(|window| window == [0xFF, 0x52])
                .unwrap();
        relabelled[cod + 1] = 0x74;
        let error = write_transcoded(&relabelled, &out).unwrap_err();
        assert!(error.to_string().contains("part 2"), "{error}");
    }
    assert_eq!(compared, 2);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A seed from PACS_SEED, or a fixed one.
fn seed() -> u64 {
    let given = std::env::var("PACS_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or(0x5EED)
}

#[test]
fn damaged_frames_are_errors_or_other_pixels_and_stop_nothing() {
    let Some(python) = python_with(WITH_DECODERS) else {
        return;
    };
    // PACS_TEST_CASES raises the number of damaged copies of each file.
    let copies = std::env::var("PACS_TEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(12);
    let mut state = seed();
    println!("PACS_SEED={state}");
    let mut random = |below: usize| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let (mut errors, mut others) = (BTreeMap::<String, usize>::new(), 0);
    for path in script(&python, "list", "").lines() {
        let file = std::fs::read(path).unwrap();
        let Ok(Some(meta)) = read_meta(&file, true) else {
            continue;
        };
        if is_native(&meta.transfer_syntax) || file.len() > 300_000 {
            continue;
        }
        let tag = [0xE0, 0x7F, 0x10, 0x00];
        let Some(pixels) = file.windows(4).rposition(|window| window == tag) else {
            continue;
        };
        for copy in 0..copies {
            let mut damaged = file.clone();
            // Near the start, where the headers of codestreams are, and anywhere.
            for _ in 0..=copy % 4 {
                let span = damaged.len() - pixels;
                let at = pixels + 12 + random(if copy % 2 == 0 { span.min(200) } else { span } - 12);
                damaged[at] = random(256) as u8;
            }
            if copy % 5 == 4 {
                damaged.truncate(pixels + random(damaged.len() - pixels));
            }
            match transcoded(&damaged, &meta, Target::ExplicitLittleEndian, copy % 3 == 0) {
                Ok(_) => others += 1,
                Err(error) => *errors.entry(format!("{:?}", error.kind())).or_default() += 1,
            }
        }
    }
    println!("{others} decoded, errors {errors:?}");
    assert!(others > 0 && !errors.is_empty());
    assert!(!errors.contains_key("Internal"), "a decoding thread died");
}
