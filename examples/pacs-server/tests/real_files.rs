//! Every file of pydicom's and pydicom-data's packages, real and damaged, through the real server: what is
//! taken comes back as it was sent, and what is not, is refused with a reason. The tables that say so are in
//! the tests' output.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use pacs_core::Uid;
use pacs_core::dataset::part10::{Meta, write_meta};
use serde_json::Value;
use tempfile::TempDir;

use common::{
    count, directory, free_port, peer, pydicom_files, python, rows, run, script, start_with_destination,
    succeed, tell,
};

#[test]
fn every_file_sent_as_it_is_comes_back_byte_for_byte_and_dciodvfy_has_nothing_new_to_say() {
    let directory = directory();
    let kept = directory.path().join("kept");
    fs::create_dir(&kept).expect("can be made");
    let Some(rows) = there_and_back("pynetdicom", &directory, Some(&kept)) else {
        return;
    };
    came_back(&rows, 200);
    assert!(
        rows.iter().all(|row| row["as_it_is"].is_null()),
        "nothing is encoded anew"
    );
    if peer("dciodvfy").is_some() {
        nothing_new(&rows, &kept);
    }
}

/// storescu proposes each file's own transfer syntax, and reads and encodes the file anew: what is sent is
/// known from sending it to a receiver that keeps the bytes.
#[test]
fn every_file_that_storescu_sends_comes_back_byte_for_byte_by_get_and_by_move() {
    if peer("storescu").is_some()
        && let Some(rows) = there_and_back("storescu", &directory(), None)
    {
        came_back(&rows, 200);
    }
}

#[test]
fn every_file_that_dcmsend_sends_comes_back_byte_for_byte_by_get_and_by_move() {
    if peer("dcmsend").is_some()
        && let Some(rows) = there_and_back("dcmsend", &directory(), None)
    {
        came_back(&rows, 180);
    }
}

/// dciodvfy says nothing of what came back, with the header that the archive puts in front, that it doesn't
/// say of the file that was sent.
fn nothing_new(rows: &[Value], kept: &Path) {
    let (mut judged, mut worse) = (0, Vec::new());
    for row in rows.iter().filter(|row| row["kept"].is_string()) {
        let text = |key: &str| row[key].as_str().expect("is in the row");
        let uid = |key: &str| Uid::parse(text(key)).expect("is a UID");
        let meta = Meta::new(uid("sop_class"), uid("sop_instance"), uid("transfer_syntax"));
        let mut part10 = write_meta(&meta).to_vec();
        part10.extend(fs::read(text("kept")).expect("was kept"));
        let returned = kept.join("part10.dcm");
        fs::write(&returned, part10).expect("can be written");
        let (before, after) = (verdict(Path::new(text("path"))), verdict(&returned));
        let new: Vec<&String> = after.difference(&before).collect();
        if !new.is_empty() {
            worse.push(format!("{}: {new:?}", text("file")));
        }
        judged += 1;
    }
    assert!(worse.is_empty(), "{worse:#?}");
    assert!(judged >= 200, "{judged} files were judged");
    tell(&format!("dciodvfy has nothing new to say of {judged} files"));
}

/// What dciodvfy says of a file, its path taken out.
fn verdict(path: &Path) -> BTreeSet<String> {
    let mut dciodvfy = peer("dciodvfy").expect("it was there before");
    let output = dciodvfy.arg(path).output().expect("dciodvfy starts");
    let path = path.to_str().expect("a plain path");
    [output.stdout, output.stderr]
        .iter()
        .flat_map(|said| {
            let said = String::from_utf8_lossy(said).replace(path, "");
            said.lines().map(str::to_owned).collect::<Vec<String>>()
        })
        .collect()
}

/// Has every file sent by `sender` and fetched back; prints the table. With `keep`, what C-GET brings is
/// written there. None when a peer is missing.
fn there_and_back(sender: &str, directory: &TempDir, keep: Option<&Path>) -> Option<Vec<Value>> {
    let mut python: Command = python()?;
    let destination = free_port();
    let server = start_with_destination(directory, destination);
    python.arg(script("roundtrip.py")).args(["--sender", sender]);
    if let Some(keep) = keep {
        python.arg("--keep").arg(keep);
    }
    python.args([server.port.to_string(), destination.to_string()]);
    let rows = rows(&succeed(python));
    table(sender, &rows);
    assert!(server.stop().success());
    let (code, verified) = run(&directory.path().join("data"), &["verify"]);
    assert_eq!(code, 0, "{verified}");
    Some(rows)
}

/// How many files met with which answer, and which ones.
fn table(sender: &str, rows: &[Value]) {
    let mut table: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for row in rows {
        let reason = row["reason"].as_str().unwrap_or_default();
        let answer = match (row["status"].as_u64(), row["as_it_is"].as_bool(), row.get("get")) {
            (Some(0), _, None) => "stored: the same as an earlier file".to_owned(),
            (Some(0), Some(true), _) => "stored, sent as the file is".to_owned(),
            (Some(0), Some(false), _) => "stored, sent encoded anew".to_owned(),
            (Some(0), None, _) => "stored".to_owned(),
            (Some(status), ..) => format!("{status:04X}H {reason}"),
            (None, ..) => format!("not sent by {sender}: {reason}"),
        };
        let file = row["file"].as_str().unwrap_or_default();
        table.entry(answer).or_default().push(file);
    }
    tell(&format!("{} files by {sender}:", rows.len()));
    for (answer, files) in &table {
        tell(&format!("{:>4} {answer}", files.len()));
        if !answer.starts_with("stored") {
            tell(&format!("     {}", files.join(" ")));
        }
    }
}

/// What was taken came back the same both ways, at least this many files; what was refused has no place in
/// study, series and instance.
fn came_back(rows: &[Value], at_least: usize) {
    let taken: Vec<&Value> = rows.iter().filter(|row| row.get("get").is_some()).collect();
    let not_the_same: Vec<&&Value> = taken
        .iter()
        .filter(|row| row["get"] != "same" || row["move"] != "same")
        .collect();
    assert!(not_the_same.is_empty(), "{not_the_same:#?}");
    assert!(taken.len() >= at_least, "{} files were taken", taken.len());
    for row in rows {
        let reason = row["reason"].as_str().unwrap_or_default();
        match row["status"].as_u64() {
            // dcmsend announces no SOP class where the file has it in an element of VR UN.
            Some(0x0122) => assert!(reason.contains("SOP class"), "{row}"),
            Some(status) if status != 0 && status >> 12 != 0xB => assert!(reason.contains("UID"), "{row}"),
            Some(_) => {}
            None => assert!(!reason.is_empty(), "{row}"),
        }
    }
}

#[test]
fn an_import_takes_what_a_sender_may_send_and_says_why_not_the_rest() {
    let Some(files) = pydicom_files() else { return };
    let directory = directory();
    let files = files.to_str().expect("a path of the environment is plain");
    let (code, printed) = run(directory.path(), &["import", files]);
    tell(&printed);
    assert_eq!(code, 3, "DICOMDIRs and texts are refused");
    assert!(printed.contains("refused: a DICOMDIR is not an instance"));
    assert!(printed.contains("refused: a UID is missing (0008,0016)"));
    let (imported, replaced) = (
        count(&printed, "imported"),
        count(
            &printed,
            "kept in place of an earlier version, which stays in the archive",
        ),
    );
    assert!(imported >= 100, "{imported} imported");
    let (_, stats) = run(directory.path(), &["stats"]);
    assert_eq!(count(&stats, "instances"), imported);
    // Again: nothing new comes of the same files.
    let (_, again) = run(directory.path(), &["import", files]);
    assert_eq!(count(&again, "imported"), 0, "{again}");
    let kept = count(&again, "kept already");
    assert!(
        kept + count(
            &again,
            "kept in place of an earlier version, which stays in the archive"
        ) >= imported + replaced
    );
}
