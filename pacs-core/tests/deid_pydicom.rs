//! De-identifies every file of pydicom's test data and looks for what identified in all that comes out. Where
//! `dciodvfy` of dicom3tools is installed, it may find no errors of another kind than it finds in what came.
//!
//! No value of a file is ever shown.

// What is skipped, and what was counted, is said in the output.
#![allow(clippy::print_stderr)]

mod python;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use dicom_core::{Tag, VR};
use futures::executor::block_on;
use futures::{TryStreamExt, stream};
use pacs_core::dataset::part10::read_meta;
use pacs_core::dataset::scan::Scanner;
use pacs_core::dataset::{DataSet, Value};
use pacs_core::deid::{BurnedIn, Dates, Deidentifier, Documents, Profile, Project};
use pacs_core::{Options, Pacs, Source, limits};
use pacs_store::{MemoryArchive, MemoryIndex};

use python::python_with;

/// A shorter value stands anywhere by chance.
const VALUE_LENGTH_MIN_BYTES: usize = 5;

fn files(python: &Path) -> Vec<PathBuf> {
    let script = "import os, pydicom\n\
                  root = os.path.join(os.path.dirname(pydicom.__file__), 'data')\n\
                  for folder, _, names in sorted(os.walk(root)):\n\
                  \tfor name in sorted(names):\n\
                  \t\tif not name.endswith(('.py', '.pyc', '.json', '.txt', '.md', '.zip', '.tar')):\n\
                  \t\t\tprint(os.path.join(folder, name))\n";
    let output = Command::new(python)
        .args(["-c", script])
        .output()
        .expect("python runs");
    let text = String::from_utf8(output.stdout).expect("names are UTF-8");
    text.lines().map(PathBuf::from).collect()
}

/// The tags of Table E.1-1 whose attributes do not stay as they are, without those that repeat.
fn table() -> BTreeSet<Tag> {
    let lines = include_str!("../src/deid/table.txt").lines();
    let tags = lines.filter_map(|line| u32::from_str_radix(line.split(' ').next()?, 16).ok());
    tags.map(|tag| Tag((tag >> 16) as u16, tag as u16)).collect()
}

/// What identifies in a data set, as it stands there, and with which tag. `kept` gets what is said by attributes that
/// stay: the same words identify nobody.
fn collect(
    set: &DataSet,
    table: &BTreeSet<Tag>,
    above: bool,
    identifying: &mut BTreeMap<String, Tag>,
    kept: &mut BTreeSet<String>,
) {
    for element in set.iter() {
        let private = element.tag.0 % 2 == 1;
        let listed = above || private || table.contains(&element.tag) || element.vr == VR::PN;
        if let Value::Items(items) = &element.value {
            // References to instances stay, with other UIDs.
            let stays = matches!(element.tag, Tag(0x0008, 0x1140 | 0x2112));
            for item in items {
                collect(item, table, listed && !stays, identifying, kept);
            }
            continue;
        }
        let binary = matches!(
            element.vr,
            VR::OB | VR::OW | VR::UN | VR::US | VR::SS | VR::UL | VR::SL | VR::FL | VR::FD | VR::AT
        );
        // Numbers, and terms that the Standard defines, say nothing of somebody by themselves.
        if binary || matches!(element.vr, VR::CS | VR::DS | VR::IS | VR::AS | VR::TM) {
            continue;
        }
        for value in element.strings() {
            let parts: Vec<&str> = match element.vr {
                VR::PN => value.split(['^', '=']).collect(),
                _ => vec![value],
            };
            for part in parts {
                let part = part.trim();
                if part.len() < VALUE_LENGTH_MIN_BYTES || part.starts_with("1.2.840.10008.") {
                    continue;
                }
                // Codes stay where they are not in what gives way.
                match listed {
                    true => drop(identifying.insert(part.to_owned(), element.tag)),
                    false => drop(kept.insert(part.to_owned())),
                }
            }
        }
    }
}

fn scan(file: &[u8]) -> Option<DataSet> {
    let prefix = &file[..file.len().min(limits::FILE_META_LENGTH_MAX_BYTES + 1024)];
    let meta = read_meta(prefix, prefix.len() == file.len()).ok()??;
    let mut scanner = Scanner::new(&meta.transfer_syntax);
    scanner.push(&file[meta.data_set_offset as usize..]).ok()?;
    let scan = scanner.finish().ok()?;
    scan.require_complete().ok()?;
    Some(scan.header)
}

/// The kinds of error lines that dciodvfy writes of a file: without the values in them. `None` where it isn't there.
fn errors(file: &[u8]) -> Option<BTreeSet<String>> {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("file.dcm");
    std::fs::write(&path, file).expect("the file can be written");
    let output = Command::new("dciodvfy").arg(&path).output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let kinds = text.lines().filter(|line| line.starts_with("Error")).map(|line| {
        // What stands in angle brackets is a value, unless it is said of which attribute or module.
        let mut kind = String::new();
        for part in line.split('<') {
            let name = ["Element=", "Module=", "attribute ", "Macro="];
            match part.split_once('>') {
                Some((inside, behind)) if name.iter().any(|name| kind.ends_with(name)) => {
                    kind.push_str(inside);
                    kind.push_str(behind);
                }
                Some((_, behind)) => kind.push_str(behind),
                None => kind.push_str(part),
            }
        }
        // UIDs are others, and what is said beside is a number.
        let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let words = kind.split(' ').filter(|word| !is_number(word));
        words.collect::<Vec<_>>().join(" ")
    });
    Some(kinds.collect())
}

fn profiles() -> [(&'static str, Profile); 2] {
    let basic = Profile {
        burned_in: BurnedIn::Keep,
        documents: Documents::Replace,
        ..Profile::default()
    };
    let cleaned = Profile {
        dates: Dates::Shift,
        clean_descriptors: true,
        clean_structured_content: true,
        clean_graphics: true,
        ..basic.clone()
    };
    [("basic", basic), ("cleaned", cleaned)]
}

#[test]
fn nothing_that_identified_is_in_what_comes_out_of_any_file_of_pydicom() {
    let Some(python) = python_with("pydicom") else {
        return;
    };
    let table = table();
    assert_eq!(table.len(), 617);
    let (mut made, mut searched, mut excused) = (0, 0, 0);
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let mut worse: BTreeMap<String, usize> = BTreeMap::new();
    let mut verified = 0;
    for path in files(&python) {
        let file = std::fs::read(&path).expect("the file is there");
        let Some(header) = scan(&file) else { continue };
        // What it can't read, such as what is deflated, is not to be compared.
        let is_read =
            |kinds: &BTreeSet<String>| !kinds.iter().any(|kind| kind.contains("dataset read failed"));
        let before = errors(&file).filter(is_read);
        for (name, profile) in profiles() {
            let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
            let pacs = block_on(Pacs::open(archive, index, Options::default())).expect("it opens");
            let pieces = file.chunks(1021).map(|piece| Ok(Bytes::copy_from_slice(piece)));
            let imported = block_on(pacs.import(Source::default(), stream::iter(pieces.collect::<Vec<_>>())));
            let Ok(received) = imported else { continue };
            let project = Project::new("test", b"a secret of the test").expect("it is long enough");
            let by = Deidentifier::new(profile, project);
            let make = || -> pacs_core::Result<Vec<u8>> {
                block_on(async {
                    let made = pacs.deidentified(&received.record, &by).await?;
                    let pieces: Vec<Bytes> = made.into_file().try_collect().await?;
                    Ok(pieces.concat())
                })
            };
            let output = match make() {
                Ok(output) => output,
                Err(error) => {
                    *refused.entry(format!("{name}: {error:?}")).or_default() += 1;
                    continue;
                }
            };
            assert!(make().is_ok_and(|again| again == output), "{}", path.display());
            let after = scan(&output).unwrap_or_else(|| panic!("unreadable: {}", path.display()));
            assert_eq!(after.string(Tag(0x0012, 0x0062)), Some("YES"));
            made += 1;

            let (mut identifying, mut kept) = (BTreeMap::new(), BTreeSet::new());
            collect(&header, &table, false, &mut identifying, &mut kept);
            for (value, tag) in identifying {
                if name == "cleaned" && !is_sought_when_cleaned(tag) {
                    continue;
                }
                searched += 1;
                if memchr::memmem::find(&output, value.as_bytes()).is_none() {
                    continue;
                }
                match kept.iter().any(|kept| kept.contains(&value)) {
                    true => excused += 1,
                    false => {
                        *found
                            .entry(format!("{name}: {tag} of {}", path.display()))
                            .or_default() += 1
                    }
                }
            }
            if let (Some(before), Some(after)) = (&before, errors(&output)) {
                verified += 1;
                for kind in after.difference(before) {
                    *worse
                        .entry(format!("{name}: {kind} of {}", path.display()))
                        .or_default() += 1;
                }
            }
        }
    }
    eprintln!(
        "{made} instances de-identified, {searched} values looked for, {excused} also said by what stays; \
         {verified} held against dciodvfy; refused: {refused:#?}"
    );
    assert!(made > 100, "so many files are there: {made}");
    assert!(found.is_empty(), "what identified is still there: {found:#?}");
    assert!(
        worse.is_empty(),
        "dciodvfy finds what it did not find before: {worse:#?}"
    );
}

/// Descriptions and content stay when they are cleaned: names, numbers, UIDs and dates don't.
fn is_sought_when_cleaned(tag: Tag) -> bool {
    // Image Comments is cleaned.
    matches!(tag.0, 0x0010 | 0x0020) && tag != Tag(0x0020, 0x4000)
        || matches!(
            tag,
            Tag(
                0x0008,
                0x0018 | 0x0020..=0x0023 | 0x0050 | 0x0080 | 0x0081 | 0x0090 | 0x1050 | 0x1070
            )
        )
}
