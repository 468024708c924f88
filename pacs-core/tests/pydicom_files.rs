//! Scans every file of pydicom's test data and compares what is read with what pydicom reads.

// What is skipped, and every problem found, is said in the output.
#![allow(clippy::print_stderr)]

mod python;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use dicom_core::Tag;
use pacs_core::dataset::part10::read_meta;
use pacs_core::dataset::scan::{Scan, Scanner};
use pacs_core::dataset::{DataSet, Value};
use pacs_core::limits;

use python::python_with;

/// From the place of an element ("00081140[0].00081150") to its VR and value.
type Elements = BTreeMap<String, (String, Vec<u8>)>;

/// What pydicom says of one file.
struct Told {
    file: PathBuf,
    syntax: String,
    elements: Elements,
    unread: bool,
}

fn told(python: &Path) -> Vec<Told> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pydicom_files.py");
    let output = Command::new(python).arg(script).output().expect("python runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut all: Vec<Told> = Vec::new();
    for line in String::from_utf8(output.stdout)
        .expect("the script writes UTF-8")
        .lines()
    {
        match *line.split('\t').collect::<Vec<_>>() {
            ["F", file] => all.push(Told {
                file: file.into(),
                syntax: String::new(),
                elements: Elements::new(),
                unread: false,
            }),
            ["E", place, vr, value] => {
                let digit = |digit: u8| char::from(digit).to_digit(16).expect("hexadecimal") as u8;
                let pairs = value.as_bytes().as_chunks::<2>().0;
                let value = pairs.iter().map(|&[high, low]| digit(high) << 4 | digit(low));
                let told = all.last_mut().expect("a file comes first");
                told.elements.insert(place.into(), (vr.into(), value.collect()));
            }
            ["S", syntax] => all.last_mut().expect("a file comes first").syntax = syntax.into(),
            ["X", _] => all.last_mut().expect("a file comes first").unread = true,
            _ => panic!("the script writes nothing else"),
        }
    }
    all
}

/// What we read of a file.
fn read(file: &Path) -> pacs_core::Result<(String, Scan)> {
    let bytes = std::fs::read(file).expect("the file is there");
    let prefix = &bytes[..bytes.len().min(limits::FILE_META_LENGTH_MAX_BYTES + 1024)];
    let meta = read_meta(prefix, prefix.len() == bytes.len())?.expect("the prefix is long enough");
    let mut scanner = Scanner::new(&meta.transfer_syntax);
    // An odd size, so that elements are split at every place.
    for piece in bytes[meta.data_set_offset as usize..].chunks(1021) {
        scanner.push(piece)?;
    }
    Ok((meta.transfer_syntax.to_string(), scanner.finish()?))
}

fn flatten(set: &DataSet, path: &str, out: &mut Elements) {
    for element in set.iter() {
        let Tag(group, number) = element.tag;
        let place = format!("{path}{group:04X}{number:04X}");
        match &element.value {
            Value::Bytes(bytes) => {
                out.insert(place, (element.vr.to_string().into(), bytes.to_vec()));
            }
            Value::Items(items) => {
                for (at, item) in items.iter().enumerate() {
                    flatten(item, &format!("{place}[{at}]."), out);
                }
                out.insert(place, ("SQ".into(), Vec::new()));
            }
        }
    }
}

/// A value without padding, which pydicom takes off.
fn bare(vr: &str, value: &[u8]) -> Vec<u8> {
    let padding = |byte: &u8| matches!(byte, 0 | b' ');
    let trim = |value: &[u8], both: bool| {
        let end = value
            .iter()
            .rposition(|byte| !padding(byte))
            .map_or(0, |at| at + 1);
        let start = if both {
            value[..end].iter().take_while(|byte| padding(byte)).count()
        } else {
            0
        };
        value[start..end].to_vec()
    };
    match vr {
        "LT" | "ST" | "UT" | "UR" => trim(value, false),
        "AE" | "AS" | "CS" | "DA" | "DS" | "DT" | "IS" | "LO" | "PN" | "SH" | "TM" | "UC" | "UI" => {
            let mut values: Vec<_> = value
                .split(|&byte| byte == b'\\')
                .map(|value| trim(value, true))
                .collect();
            while values.last().is_some_and(Vec::is_empty) {
                values.pop();
            }
            values.join(&b'\\')
        }
        _ => value.to_vec(),
    }
}

type Side<'a> = Option<(&'a str, &'a [u8])>;

/// Why a difference is right. Each line is a decision.
fn explained(
    syntax: &str,
    file: &str,
    place: &str,
    ours: Side<'_>,
    theirs: Side<'_>,
) -> Option<&'static str> {
    match (ours, theirs) {
        (Some(("UN", our)), Some((vr, their))) if bare(vr, our) == bare(vr, their) => {
            Some("pydicom has a dictionary of private elements; here they are UN, with the same bytes")
        }
        (Some(("PN", our)), Some(("PN", their))) => {
            let trimmed = String::from_utf8_lossy(our);
            let trimmed = trimmed.trim_end_matches(['=', ' ', '\0']);
            (trimmed.as_bytes() == their).then_some("pydicom leaves out empty component groups of a name")
        }
        (Some(("OW", our)), Some(("OW", their))) if syntax == "1.2.840.10008.1.2.2" => {
            let swapped: Vec<u8> = their
                .as_chunks::<2>()
                .0
                .iter()
                .flat_map(|[a, b]| [*b, *a])
                .collect();
            (swapped == our).then_some("pydicom leaves words in big endian")
        }
        (None, Some(_)) if place.ends_with("FFFCFFFC") => Some("padding is not held"),
        (None, Some(_)) if file == "rtplan_truncated.dcm" && place == "300A00B0[0].300A0111[0].300A012C" => {
            Some("half a value is not held")
        }
        _ => None,
    }
}

fn side((vr, value): &(String, Vec<u8>)) -> (&str, &[u8]) {
    (vr, value)
}

/// Files that are in the folders and hold no data set.
const NOT_DICOM: [&str; 2] = [
    // A text.
    "README",
    // A stray byte in front shifts everything; pydicom makes one element of 4 GiB of it.
    "no_meta.dcm",
];

#[test]
fn every_file_of_pydicom_is_read_as_pydicom_reads_it() {
    let Some(python) = python_with("pydicom") else {
        return;
    };
    let mut differences = Vec::new();
    let (mut files, mut compared) = (0, 0);
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for Told {
        file,
        syntax: their_syntax,
        elements: theirs,
        unread,
    } in told(&python)
    {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let (syntax, scan) = match read(&file) {
            Ok(read) => read,
            Err(_) if NOT_DICOM.contains(&name.as_str()) => continue,
            Err(error) => {
                differences.push(format!("{name}: not read: {error}"));
                continue;
            }
        };
        files += 1;
        for problem in &scan.problems {
            eprintln!("{name} ({syntax}): {problem}");
        }
        if unread || theirs.is_empty() {
            assert!(
                !scan.header.is_empty(),
                "{name}: pydicom does not read it, and neither do we"
            );
            continue;
        }
        if !their_syntax.is_empty() && their_syntax != syntax {
            differences.push(format!(
                "{name}: transfer syntax {syntax}, pydicom's {their_syntax}"
            ));
        }
        let mut ours = Elements::new();
        flatten(&scan.header, "", &mut ours);
        let left_out: Vec<String> = scan
            .left_out
            .iter()
            .map(|tag| format!("{:04X}{:04X}", tag.0, tag.1))
            .collect();
        let places: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        for place in places {
            if left_out.iter().any(|tag| place.starts_with(tag.as_str())) {
                continue;
            }
            let (our, their) = (ours.get(place), theirs.get(place));
            compared += 1;
            if let (Some((our_vr, our)), Some((their_vr, their))) = (our, their)
                && (our_vr == their_vr || their_vr.contains(our_vr.as_str()))
                && bare(our_vr, our) == bare(our_vr, their)
            {
                continue;
            }
            let (our_side, their_side) = (our.map(side), their.map(side));
            match explained(&syntax, &name, place, our_side, their_side) {
                Some(reason) => *reasons.entry(reason).or_default() += 1,
                None => {
                    let show = |side: Option<&(String, Vec<u8>)>| match side {
                        Some((vr, value)) => {
                            let start = &value[..value.len().min(40)];
                            format!("{vr} {} bytes {:?}", value.len(), String::from_utf8_lossy(start))
                        }
                        None => "absent".into(),
                    };
                    differences.push(format!(
                        "{name} {place}: ours {}, pydicom's {}",
                        show(our),
                        show(their)
                    ));
                }
            }
        }
    }
    eprintln!("{files} files, {compared} elements compared; explained differences: {reasons:#?}");
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences.join("\n")
    );
    assert!(files > 150 && compared > 10_000, "pydicom's test files are there");
}
