//! Writes every file of pydicom's test data as DICOM JSON and compares it, value by value, with what pydicom makes of
//! it. Bulk data is compared with what pydicom has inline.

// What is skipped, and what differs for a reason, is said in the output.
#![allow(clippy::print_stderr)]

mod python;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use pacs_core::dataset::metadata::{BulkValue, Metadata, MetadataScanner};
use pacs_core::dataset::part10::read_meta;
use pacs_core::dataset::{Value as Held, json};
use pacs_core::{Tag, limits};
use serde_json::Value;

use python::python_with;

/// The file, and pydicom's JSON.
fn told(python: &Path) -> Vec<(PathBuf, String)> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pydicom_json.py");
    let output = Command::new(python).arg(script).output().expect("python runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut all = Vec::new();
    let mut file = PathBuf::new();
    for line in String::from_utf8(output.stdout)
        .expect("the script writes UTF-8")
        .lines()
    {
        match line.split_once('\t') {
            Some(("F", path)) => file = path.into(),
            Some(("J", json)) => all.push((file.clone(), json.to_owned())),
            Some(("X", _)) => {}
            _ => panic!("the script writes nothing else"),
        }
    }
    all
}

/// The transfer syntax, the data set's bytes, and its metadata.
fn read(file: &Path) -> pacs_core::Result<(String, Vec<u8>, Metadata)> {
    let bytes = std::fs::read(file).expect("the file is there");
    let prefix = &bytes[..bytes.len().min(limits::FILE_META_LENGTH_MAX_BYTES + 1024)];
    let meta = read_meta(prefix, prefix.len() == bytes.len())?.expect("the prefix is long enough");
    let data_set = &bytes[meta.data_set_offset as usize..];
    let mut scanner = MetadataScanner::new(&meta.transfer_syntax);
    for piece in data_set.chunks(1021) {
        scanner.push(piece)?;
    }
    Ok((
        meta.transfer_syntax.to_string(),
        data_set.to_vec(),
        scanner.finish()?,
    ))
}

/// One comparison of two data sets.
struct Comparison<'a> {
    file: &'a str,
    syntax: &'a str,
    data_set: &'a [u8],
    metadata: &'a Metadata,
    compared: usize,
    reasons: &'a mut BTreeMap<&'static str, usize>,
    differences: Vec<String>,
}

impl Comparison<'_> {
    fn objects(&mut self, path: &str, ours: &Value, theirs: &Value) {
        let (ours, theirs) = (ours.as_object().unwrap(), theirs.as_object().unwrap());
        let keys: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        for key in keys {
            let place = format!("{path}{key}");
            self.compared += 1;
            let (our, their) = (ours.get(key), theirs.get(key));
            if let (Some(our), Some(their)) = (our, their)
                && self.is_same(&place, our, their)
            {
                continue;
            }
            match self.explained(key, &place, our, their) {
                Some(reason) => *self.reasons.entry(reason).or_default() += 1,
                None => {
                    let show = |value: Option<&Value>| {
                        let text = value.map_or("absent".to_owned(), Value::to_string);
                        text.chars().take(120).collect::<String>()
                    };
                    let line = format!(
                        "{} {place}: ours {}, pydicom's {}",
                        self.file,
                        show(our),
                        show(their)
                    );
                    self.differences.push(line);
                }
            }
        }
    }

    fn is_same(&mut self, place: &str, ours: &Value, theirs: &Value) -> bool {
        let vr = ours["vr"].as_str().unwrap();
        if theirs["vr"] != vr {
            return false;
        }
        if let Some(uri) = ours.get("BulkDataURI").and_then(Value::as_str) {
            return self.is_same_bulk(uri, vr, theirs);
        }
        if ours.get("InlineBinary") != theirs.get("InlineBinary") {
            return false;
        }
        let none = Vec::new();
        let values = |one: &Value| one.get("Value").and_then(Value::as_array).cloned();
        let (ours, theirs) = (values(ours), values(theirs));
        let (ours, theirs) = (ours.as_ref().unwrap_or(&none), theirs.as_ref().unwrap_or(&none));
        if ours.len() != theirs.len() {
            return false;
        }
        for (at, (our, their)) in ours.iter().zip(theirs).enumerate() {
            let same = match (our, their) {
                (Value::Object(_), Value::Object(_)) if vr == "SQ" => {
                    self.objects(&format!("{place}/{}/", at + 1), our, their);
                    true
                }
                (Value::Number(our), Value::Number(their)) if vr == "FL" => {
                    our.as_f64().map(|number| number as f32) == their.as_f64().map(|number| number as f32)
                }
                (Value::Number(our), Value::Number(their)) => our.as_f64() == their.as_f64(),
                _ => our == their,
            };
            if !same {
                return false;
            }
        }
        true
    }

    /// Whether pydicom has inline what lies where we say.
    fn is_same_bulk(&self, path: &str, vr: &str, theirs: &Value) -> bool {
        let value = self.metadata.bulk_value(&path.parse().unwrap()).unwrap();
        let one = format!("{{\"00090001\":{theirs}}}");
        let described = json::read(one.as_bytes()).unwrap().remove(0);
        let element = described.header.get(Tag(0x0009, 0x0001)).unwrap();
        let Held::Bytes(inline) = &element.value else {
            return false;
        };
        let start = value.offset as usize;
        let Some(stored) = value
            .length
            .and_then(|length| self.data_set.get(start..start + length as usize))
        else {
            return false;
        };
        match vr {
            // Text is compared without padding.
            "UT" | "LT" | "ST" | "DS" | "IS" => inline.trim_ascii_end() == stored.trim_ascii_end(),
            _ => inline[..] == *stored,
        }
    }

    /// Why a difference is right. Each line is a decision.
    fn explained(
        &self,
        key: &str,
        place: &str,
        ours: Option<&Value>,
        theirs: Option<&Value>,
    ) -> Option<&'static str> {
        let vr = |one: &Value| one["vr"].as_str().unwrap_or_default().to_owned();
        match (ours, theirs) {
            (Some(ours), _) if key == "00080005" => {
                let is_utf8 = ours["Value"][0] == "ISO_IR 192";
                is_utf8.then_some("JSON is UTF-8, and Specific Character Set says so")
            }
            (None, Some(_)) if key.ends_with("0000") => Some("Group Length is not in the model (F.2.2)"),
            (None, Some(_)) if key == "FFFCFFFC" => Some("padding is left out"),
            (None, Some(_)) if self.file == "rtplan_truncated.dcm" && place.ends_with("300A012C") => {
                Some("half a value is not held")
            }
            (Some(_), None)
                if INVALID
                    .iter()
                    .any(|(file, of)| self.file.starts_with(file) && key == *of) =>
            {
                Some("pydicom leaves out a value that does not conform, and the sequence around it")
            }
            (Some(ours), Some(theirs)) if vr(ours) == "UN" && vr(theirs) != "UN" => {
                Some("pydicom has a dictionary of private elements; here they are UN")
            }
            (Some(ours), Some(theirs)) if vr(ours) == "OW" && self.syntax == "1.2.840.10008.1.2.2" => {
                let words = |one: &Value| {
                    let text = format!("{{\"00090001\":{one}}}");
                    let described = json::read(text.as_bytes()).unwrap().remove(0);
                    described
                        .header
                        .get(Tag(0x0009, 0x0001))
                        .unwrap()
                        .bytes()
                        .to_vec()
                };
                let swapped: Vec<u8> = words(theirs)
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .flat_map(|[a, b]| [*b, *a])
                    .collect();
                (swapped == words(ours)).then_some("pydicom leaves words in big endian")
            }
            (Some(ours), Some(theirs)) => {
                let bare = |one: &Value| -> Vec<Value> {
                    let values = one["Value"].as_array().cloned().unwrap_or_default();
                    let bare = |value: Value| match value.as_str().map(str::trim_end) {
                        Some("") => Value::Null,
                        Some(text) => text.into(),
                        None => value,
                    };
                    values.into_iter().map(bare).collect()
                };
                (vr(ours) == vr(theirs) && bare(ours) == bare(theirs))
                    .then_some("what is empty is null (F.2.5), and padding says nothing (PS3.5 6.2)")
            }
            _ => None,
        }
    }
}

/// Values that do not conform: the beginning of the file's name, and the element of the top level.
const INVALID: [(&str, &str); 7] = [
    // Not a number.
    ("badVR", "00280008"),
    // A UID with a component that begins with 0.
    ("badVR", "300C0002"),
    ("rtdose", "300C0002"),
    // Hashes in the place of UIDs and a name.
    ("bad_sequence", "00080018"),
    ("bad_sequence", "0020000D"),
    ("bad_sequence", "0020000E"),
    ("bad_sequence", "00200010"),
];

#[test]
fn every_file_of_pydicom_is_the_json_that_pydicom_makes_of_it() {
    let Some(python) = python_with("pydicom") else {
        return;
    };
    let mut differences = Vec::new();
    let (mut files, mut compared) = (0, 0);
    let mut reasons = BTreeMap::new();
    for (file, theirs) in told(&python) {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let Ok((syntax, data_set, metadata)) = read(&file) else {
            // What can't be read is the matter of another test.
            continue;
        };
        let theirs: Value = serde_json::from_str(&theirs).expect("pydicom writes JSON");
        if theirs.as_object().is_none_or(serde_json::Map::is_empty) {
            continue;
        }
        let mut shown = metadata.clone();
        shown.bulk.retain(|value| {
            !matches!(
                value.path.to_string().as_str(),
                "7FE00008" | "7FE00009" | "7FE00010"
            )
        });
        let mut out = Vec::new();
        let uri = |value: &BulkValue| value.path.to_string();
        json::write(&shown.header, &shown.bulk, &uri, &mut out);
        let ours: Value = serde_json::from_slice(&out).expect("we write JSON");
        let mut comparison = Comparison {
            file: &name,
            syntax: &syntax,
            data_set: &data_set,
            metadata: &metadata,
            compared: 0,
            reasons: &mut reasons,
            differences: Vec::new(),
        };
        comparison.objects("", &ours, &theirs);
        compared += comparison.compared;
        differences.append(&mut comparison.differences);
        files += 1;
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
