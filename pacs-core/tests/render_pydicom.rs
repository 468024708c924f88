//! Every test file of pydicom and pydicom-data, and some made of them, rendered by us and by the Standard's
//! formulas in numpy.
#![cfg(feature = "render")]
// What is skipped, and how far apart the pictures are, stands in the output.
#![allow(clippy::print_stdout)]

mod python;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use bytes::Bytes;
use futures::executor::block_on;
use futures::stream::{self, StreamExt, TryStreamExt};
use pacs_core::dataset::DataSet;
use pacs_core::dataset::part10::{Meta, read_meta, write_meta};
use pacs_core::dataset::scan::{Scanner, parse};
use pacs_core::limits::DECODING_LENGTH_MAX_BYTES;
use pacs_core::pixel::render::{RenderOptions, picture_size, render};
use pacs_core::pixel::{DecodingRoom, Overrides, Target, transcode};
use pacs_core::uid::Uid;
use pacs_core::{Result, VR, tags};

use python::python_with;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/render_pydicom.py");

fn script(python: &Path, arguments: &[&str]) -> String {
    let output = Command::new(python)
        .arg(SCRIPT)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "the script failed");
    String::from_utf8(output.stdout).unwrap()
}

/// The script that compares, which answers each line with one.
struct Comparison {
    child: Child,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Comparison {
    fn start(python: &Path) -> Self {
        let mut child = Command::new(python)
            .args([SCRIPT, "compare"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, answers }
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.child.stdin.as_ref().unwrap(), "{line}").unwrap();
        self.answers.next().expect("the script ended").unwrap()
    }
}

/// An instance without compression.
struct Plain {
    bytes: Vec<u8>,
    header: DataSet,
    pixels: std::ops::Range<usize>,
}

/// The whole of a file in Explicit VR Little Endian; `None` when it has no pixels.
fn plain(file: &[u8]) -> Result<Option<Plain>> {
    let Some(meta) = read_meta(file, true)? else {
        return Ok(None);
    };
    let data_set = Bytes::copy_from_slice(&file[meta.data_set_offset as usize..]);
    let target = Target::ExplicitLittleEndian;
    let bytes = block_on(async {
        let source = stream::iter([Ok(data_set)]).boxed();
        let room = DecodingRoom::new(DECODING_LENGTH_MAX_BYTES);
        let out = transcode(
            &meta.transfer_syntax,
            source,
            None,
            target,
            Overrides::default(),
            &room,
        )
        .await?;
        out.try_collect::<Vec<Bytes>>().await
    })?
    .concat();
    let mut scanner = Scanner::new(&target.uid());
    scanner.push(&bytes)?;
    let scan = scanner.finish()?;
    if !scan.header.contains(tags::ROWS) {
        return Ok(None);
    }
    let Some((place, length)) = scan.pixel_data.and_then(|place| Some((place, place.length?))) else {
        return Ok(None);
    };
    let start = place.offset as usize;
    // With the header of the pixel data's own element cut off, all before it is held whole.
    let header = parse(&bytes[..start - 12], &target.uid())?;
    let uid = |uid: Option<Uid>| uid.unwrap_or(Uid::constant("1.2.3"));
    let head = write_meta(&Meta::new(
        uid(meta.sop_class),
        uid(meta.sop_instance),
        target.uid(),
    ));
    let pixels = head.len() + start..head.len() + start + length as usize;
    Ok(Some(Plain {
        bytes: [&head[..], &bytes].concat(),
        header,
        pixels,
    }))
}

impl Plain {
    fn frames(&self) -> usize {
        let frames = self.header.string(tags::NUMBER_OF_FRAMES);
        frames.and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
    }

    /// A frame, by its number from 1.
    fn frame(&self, number: usize) -> Vec<u8> {
        let number_of = |tag| usize::from(self.header.u16(tag).unwrap_or(1));
        let pixels = number_of(tags::ROWS) * number_of(tags::COLUMNS);
        let all = &self.bytes[self.pixels.clone()];
        if self.header.u16(tags::BITS_ALLOCATED) == Some(1) {
            // Frames lie bit by bit; each on its own begins with a byte.
            let mut frame = vec![0u8; pixels.div_ceil(8)];
            for at in 0..pixels {
                let from = (number - 1) * pixels + at;
                frame[at / 8] |= (all[from / 8] >> (from % 8) & 1) << (at % 8);
            }
            return frame;
        }
        let bytes = pixels * number_of(tags::SAMPLES_PER_PIXEL) * number_of(tags::BITS_ALLOCATED) / 8;
        let shared = self
            .header
            .string(tags::PHOTOMETRIC_INTERPRETATION)
            .unwrap_or_default()
            .ends_with("_422");
        let length = if shared && all.len() < bytes * self.frames() {
            bytes / 3 * 2
        } else {
            bytes
        };
        all[(number - 1) * length..][..length].to_vec()
    }
}

/// How a file is rendered: window, viewport, and whether it is taken for MONOCHROME1.
const HOW: &[(&str, &str, bool)] = &[
    ("", "", false),
    ("", "", true),
    ("40,400,linear", "", false),
    ("700.5,1200.25,linear-exact", "", false),
    ("300,700,sigmoid", "", true),
    ("", "97,83", false),
    ("", "301,700,3.5,2,-40.25,30", false),
    ("128,256,linear", "2000,90,5,1,20,-20", false),
];

/// Why a file isn't rendered, or isn't compared: known and understood.
const KNOWN: &[(&str, &str)] = &[
    // Cut off on purpose.
    ("MR_truncated.dcm", "ends inside an element"),
    ("rtplan_truncated.dcm", "ends inside an element"),
    // pydicom does not read its number of frames.
    ("badVR.dcm", "invalid literal"),
    // Its codestream's width was overwritten with a delimiter.
    (
        "JPEG2000-embedded-sequence-delimiter.dcm",
        "where the data set describes",
    ),
];

fn options(window: &str, viewport: &str) -> RenderOptions {
    RenderOptions {
        window: (!window.is_empty()).then(|| window.parse().unwrap()),
        viewport: (!viewport.is_empty()).then(|| viewport.parse().unwrap()),
        ..RenderOptions::default()
    }
}

#[test]
fn pictures_of_every_file_are_within_one_level_of_the_standards_formulas() {
    let Some(python) = python_with("numpy, pydicom") else {
        return;
    };
    let folder = std::env::temp_dir().join(format!("pacs-render-{}", std::process::id()));
    let sources = folder.join("made");
    std::fs::create_dir_all(&sources).unwrap();
    let made = script(&python, &["make", sources.to_str().unwrap()]);
    let pictures = folder.join("pictures");
    let mut comparison = Comparison::start(&python);
    let list = script(&python, &["list"]);
    let (mut bad, mut compared, mut as_pydicom) = (Vec::new(), BTreeMap::<String, usize>::new(), 0);
    for (at, path) in made.lines().chain(list.lines()).enumerate() {
        let name = Path::new(path).file_name().unwrap().to_str().unwrap();
        let file = std::fs::read(path).unwrap();
        if read_meta(&file, true).is_err() {
            println!("no DICOM file: {name}");
            continue;
        }
        let plain = match plain(&file) {
            Ok(Some(plain)) => plain,
            Ok(None) => continue,
            Err(error) => {
                bad.push(format!("{name}: refused: {error}"));
                continue;
            }
        };
        std::fs::create_dir_all(&pictures).unwrap();
        let decoded = pictures.join(format!("{at}-{name}"));
        std::fs::write(&decoded, &plain.bytes).unwrap();
        let frames = plain.frames();
        let photometric = plain
            .header
            .string(tags::PHOTOMETRIC_INTERPRETATION)
            .unwrap_or_default();
        let mut numbers = vec![1, frames / 2 + 1, frames];
        numbers.dedup();
        for number in numbers {
            let frame = plain.frame(number);
            for (which, &(window, viewport, monochrome1)) in HOW.iter().enumerate() {
                let mut header = plain.header.clone();
                let side = |tag| header.u16(tag).unwrap_or_default();
                let is_small = side(tags::ROWS) < 10 || side(tags::COLUMNS) < 10;
                if is_small && viewport.split(',').count() > 2 {
                    continue;
                }
                if monochrome1 {
                    if photometric != "MONOCHROME2" {
                        continue;
                    }
                    header.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1");
                }
                let options = options(window, viewport);
                let picture = match render(&header, &frame, number as u32, &options) {
                    Ok(picture) => picture,
                    Err(error) => {
                        bad.push(format!("{name}: frame {number} not rendered: {error}"));
                        break;
                    }
                };
                let size = (picture.width, picture.height);
                assert_eq!(picture_size(&header, number as u32, &options).unwrap(), size);
                let out = pictures.join(format!("{at}-{number}-{which}"));
                let mut bytes = Vec::new();
                for number in [picture.width, picture.height, picture.channels.into()] {
                    bytes.extend(number.to_le_bytes());
                }
                bytes.extend(picture.pixels);
                std::fs::write(&out, bytes).unwrap();
                let kind = if monochrome1 { "MONOCHROME1" } else { "" };
                let (decoded, out) = (decoded.display(), out.display());
                let answer = comparison.ask(&format!(
                    "{decoded}\t{number}\t{out}\t{window}\t{viewport}\t{kind}"
                ));
                if answer.contains("BAD") {
                    bad.push(answer);
                } else {
                    *compared.entry(photometric.to_owned()).or_default() += 1;
                    if let Some((_, off)) = answer.split_once("pipeline off by ") {
                        as_pydicom += 1;
                        if off.parse::<f64>().is_ok_and(|off| off > 1.01) {
                            bad.push(answer);
                        }
                    }
                }
            }
        }
        std::fs::remove_dir_all(&pictures).unwrap();
    }
    drop(comparison.child.stdin.take());
    assert!(comparison.child.wait().unwrap().success());
    std::fs::remove_dir_all(&folder).unwrap();
    println!("compared: {compared:?}, of these with pydicom's own pipeline too: {as_pydicom}");
    let is_known = |line: &String| {
        KNOWN
            .iter()
            .any(|(name, why)| line.contains(name) && line.contains(why))
    };
    let (known, unknown): (Vec<_>, Vec<_>) = bad.into_iter().partition(is_known);
    println!("known:\n{}", known.join("\n"));
    assert!(
        compared.values().sum::<usize>() > 1000 && as_pydicom > 100,
        "{compared:?} {as_pydicom}"
    );
    assert!(unknown.is_empty(), "\n{}", unknown.join("\n"));
}
