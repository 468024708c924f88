//! Every test file of pydicom and pydicom-data, transcoded by us and read again by pydicom.
#![cfg(feature = "pixel")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use futures::executor::block_on;
use futures::stream::{self, StreamExt, TryStreamExt};
use pacs_core::Result;
use pacs_core::dataset::part10::{FileMeta, Meta, read_meta, write_meta};
use pacs_core::dataset::recode::is_native;
use pacs_core::dataset::scan::Scanner;
use pacs_core::pixel::{Target, can_transcode, transcode};
use pacs_core::uid::Uid;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcode_pydicom.py");

/// The interpreter of the peers' virtual environment.
fn python() -> Option<PathBuf> {
    let venv = std::env::var_os("PACS_PEERS_VENV").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers-venv"),
        PathBuf::from,
    );
    let python = venv.join("bin/python");
    let works = Command::new(&python)
        .args(["-c", "import numpy, pydicom, openjpeg, libjpeg, rle"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !works && std::env::var_os("PACS_REQUIRE_PEERS").is_some() {
        panic!(
            "pydicom and its decoders are required, and are not in {}",
            venv.display()
        );
    }
    works.then_some(python)
}

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
        let stream = transcode(&meta.transfer_syntax, stream::iter(pieces).boxed(), table, target).await?;
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
];

#[test]
fn every_file_reads_in_pydicom_as_its_source_does() {
    let Some(python) = python() else {
        println!("skipped: no virtual environment with pydicom and its decoders (see .ci/peers)");
        return;
    };
    let folder = std::env::temp_dir().join(format!("pacs-transcode-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (mut pairs, mut refused, mut counts) = (String::new(), Vec::new(), BTreeMap::<String, usize>::new());
    for (at, path) in script(&python, "list", "").lines().enumerate() {
        let file = std::fs::read(path).unwrap();
        let Ok(Some(meta)) = read_meta(&file, true) else {
            println!("no DICOM file: {path}");
            continue;
        };
        let name = Path::new(path).file_name().unwrap().to_str().unwrap().to_owned();
        for (target, with_table) in [
            (Target::ExplicitLittleEndian, true),
            (Target::ImplicitLittleEndian, false),
        ] {
            let possible = can_transcode(&meta.transfer_syntax, &[target.uid()]);
            match transcoded(&file, &meta, target, with_table) {
                Ok(bytes) => {
                    assert_eq!(possible, Some(target));
                    *counts.entry(meta.transfer_syntax.to_string()).or_default() += 1;
                    let out = folder.join(format!("{at}-{}-{name}", with_table));
                    let uid = |uid: Option<Uid>| uid.unwrap_or(Uid::constant("1.2.3"));
                    let head = write_meta(&Meta {
                        sop_class: uid(meta.sop_class),
                        sop_instance: uid(meta.sop_instance),
                        transfer_syntax: target.uid(),
                        source: None,
                        sending: None,
                        receiving: None,
                    });
                    std::fs::write(&out, [&head[..], &bytes].concat()).unwrap();
                    pairs.push_str(&format!("{path}\t{}\n", out.display()));
                }
                Err(error) => refused.push((name.clone(), error.to_string())),
            }
        }
    }
    let answer = script(&python, "compare", &pairs);
    let native = counts
        .iter()
        .filter(|(syntax, _)| is_native(syntax))
        .map(|(_, count)| count)
        .sum::<usize>();
    println!(
        "{native} native and {} others, by transfer syntax: {counts:?}",
        counts.values().sum::<usize>() - native
    );
    let mut bad = refused
        .iter()
        .map(|(name, why)| format!("{name}: refused: {why}"))
        .collect::<Vec<_>>();
    for line in answer.lines() {
        let (path, found) = line.split_once('\t').unwrap_or((line, ""));
        let name = path.rsplit('/').next().unwrap();
        for found in found.split('\t').filter(|found| !found.is_empty()) {
            if found.starts_with("note: ") {
                println!("{name}: {found}");
            } else {
                bad.push(format!("{name}: {found}"));
            }
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
    let known = |line: &&String| {
        KNOWN
            .iter()
            .any(|(name, why)| line.contains(name) && line.contains(why))
    };
    let (known, unknown): (Vec<_>, Vec<_>) = bad.iter().partition(known);
    println!(
        "known:\n{}",
        known.iter().map(|s| s.as_str()).collect::<Vec<_>>().join("\n")
    );
    assert!(
        unknown.is_empty(),
        "\n{}",
        unknown.iter().map(|s| s.as_str()).collect::<Vec<_>>().join("\n")
    );
}
