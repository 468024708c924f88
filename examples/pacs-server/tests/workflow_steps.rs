//! The real server's worklist asked by DCMTK, with DCMTK's own worklist server beside it; its performed procedure steps in
//! every state by pynetdicom. A peer that isn't installed is skipped with a word about it; with `PACS_REQUIRE_PEERS`
//! set it is a failure.

mod common;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use dicom_dictionary_std::{tags, uids};
use futures::executor::block_on;
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::dataset::part10::{Meta, write_meta};
use pacs_core::workflow::Worklist;
use pacs_core::{DataSet, Uid, VR};
use pacs_store::RedbLedger;

use common::{Peer, Server, dcmtk, directory, free_port, peer, python, rows, script, succeed, tell};

/// Accession number, step, patient's name and ID, station, modality, date, time.
const ITEMS: [[&str; 8]; 6] = [
    ["A1", "S1", "Doe^Jane", "P1", "CT1", "CT", "20260310", "0800"],
    ["A1", "S2", "Doe^Jane", "P1", "CT1", "CT", "20260310", "1430"],
    ["A2", "S1", "Müller^Anna", "P2", "CT1", "CT", "20260311", "0915"],
    ["A3", "S1", "Dorn^Max", "P3", "MR1", "MR", "20260310", "1000"],
    ["A4", "S1", "Doe^John", "P4", "MR1", "MR", "20260401", "1000"],
    ["A5", "S1", "Roe^Rita", "P5", "US1", "US", "20260312", "233000.5"],
];

fn item(values: &[&str; 8]) -> DataSet {
    let [accession, step, name, patient, station, modality, date, time] = values;
    let mut code = DataSet::new();
    code.put_text(tags::CODE_VALUE, VR::SH, format!("PROTOCOL-{modality}"));
    code.put_text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, "99TEST");
    code.put_text(tags::CODE_MEANING, VR::LO, "A protocol");
    let mut scheduled = DataSet::new();
    for (tag, vr, text) in [
        (tags::MODALITY, VR::CS, *modality),
        (tags::SCHEDULED_STATION_AE_TITLE, VR::AE, station),
        (tags::SCHEDULED_PROCEDURE_STEP_START_DATE, VR::DA, date),
        (tags::SCHEDULED_PROCEDURE_STEP_START_TIME, VR::TM, time),
        (tags::SCHEDULED_PERFORMING_PHYSICIAN_NAME, VR::PN, "House^Greg"),
        (tags::SCHEDULED_PROCEDURE_STEP_DESCRIPTION, VR::LO, "Head"),
        (tags::SCHEDULED_STATION_NAME, VR::SH, "Room 1"),
        (tags::SCHEDULED_PROCEDURE_STEP_LOCATION, VR::SH, "Floor 2"),
        (tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, step),
    ] {
        scheduled.put_text(tag, vr, text);
    }
    scheduled.put_items(tags::SCHEDULED_PROTOCOL_CODE_SEQUENCE, vec![code.clone()]);
    let mut set = DataSet::new();
    for (tag, vr, text) in [
        (tags::ACCESSION_NUMBER, VR::SH, *accession),
        (tags::REFERRING_PHYSICIAN_NAME, VR::PN, "Referrer^Rolf"),
        (tags::PATIENT_NAME, VR::PN, name),
        (tags::PATIENT_ID, VR::LO, patient),
        (tags::PATIENT_BIRTH_DATE, VR::DA, "19700131"),
        (tags::PATIENT_SEX, VR::CS, "O"),
        (tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO, "Head"),
        (tags::REQUESTED_PROCEDURE_ID, VR::SH, &format!("RP-{accession}")),
        (
            tags::STUDY_INSTANCE_UID,
            VR::UI,
            &format!("2.25.{}", &accession[1..]),
        ),
    ] {
        set.put_text(tag, vr, text);
    }
    set.put_items(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE, vec![code]);
    set.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![scheduled]);
    set
}

/// The server, with a ledger below `directory` that has the items.
fn server(directory: &Path) -> Server {
    let data = directory.join("data");
    fs::create_dir_all(&data).expect("can be made");
    let ledger = Arc::new(RedbLedger::open(data.join("ledger.redb")).expect("opens"));
    let worklist = Worklist::new(ledger);
    for values in &ITEMS {
        block_on(worklist.put(item(values))).expect("is an item");
    }
    // One process may have it open.
    drop(worklist);
    Server::start(&data, &[])
}

/// Accession number and step of what findscu is answered at `port`, in order.
fn found(port: u16, keys: &[&str]) -> Vec<String> {
    let mut findscu = dcmtk("findscu");
    findscu.args(["-W", "-aec", "PACS", "-aet", "MODALITY"]);
    for key in [
        "AccessionNumber",
        "ScheduledProcedureStepSequence[0].ScheduledProcedureStepID",
    ] {
        // What is a matching key too is given below.
        if !keys.iter().any(|given| given.starts_with(key)) {
            findscu.args(["-k", key]);
        }
    }
    for key in keys {
        findscu.args(["-k", key]);
    }
    findscu.args(["127.0.0.1", &port.to_string()]);
    let said = succeed(findscu);
    let values = |tag: &str| -> Vec<String> {
        let lines = said.lines().filter(|line| line.contains(tag));
        let value = |line: &str| Some(line.split_once('[')?.1.split_once(']')?.0.trim().to_owned());
        lines.filter_map(value).collect()
    };
    let (accessions, steps) = (values("(0008,0050)"), values("(0040,0009)"));
    assert_eq!(accessions.len(), steps.len(), "{said}");
    let pairs = accessions.iter().zip(steps);
    let mut found: Vec<String> = pairs
        .map(|(accession, step)| format!("{accession} {step}"))
        .collect();
    found.sort_unstable();
    found
}

/// Keys of a query, what must be found, and whether DCMTK's server finds the same: it matches the required keys alone,
/// and names by their case.
const QUERIES: &[(&[&str], &[&str], bool)] = &[
    (&[], &["A1 S1", "A1 S2", "A2 S1", "A3 S1", "A4 S1", "A5 S1"], true),
    (
        &["SPS.ScheduledStationAETitle=CT1"],
        &["A1 S1", "A1 S2", "A2 S1"],
        true,
    ),
    (
        &[
            "SPS.ScheduledStationAETitle=CT1",
            "SPS.ScheduledProcedureStepStartDate=20260310",
        ],
        &["A1 S1", "A1 S2"],
        true,
    ),
    (
        &["SPS.ScheduledProcedureStepStartDate=20260310", "SPS.Modality=MR"],
        &["A3 S1"],
        true,
    ),
    (
        &["SPS.ScheduledProcedureStepStartDate=20260310-20260312"],
        &["A1 S1", "A1 S2", "A2 S1", "A3 S1", "A5 S1"],
        true,
    ),
    (
        &["SPS.ScheduledProcedureStepStartDate=20260401-"],
        &["A4 S1"],
        true,
    ),
    (&["SPS.ScheduledProcedureStepStartDate=-20260309"], &[], true),
    (
        &[
            "SPS.ScheduledProcedureStepStartDate=20260310-20260311",
            "SPS.ScheduledProcedureStepStartTime=1200-1000",
        ],
        &["A1 S2", "A2 S1"],
        true,
    ),
    (&["PatientName=Doe^J*"], &["A1 S1", "A1 S2", "A4 S1"], true),
    (&["PatientName=doe^jane"], &["A1 S1", "A1 S2"], false),
    (&["PatientID=P3"], &["A3 S1"], true),
    (&["SPS.ScheduledPerformingPhysicianName=House*"], &ALL, true),
    (&["SPS.ScheduledPerformingPhysicianName=Wilson*"], &[], true),
    (&["AccessionNumber=A1"], &["A1 S1", "A1 S2"], true),
    (&["RequestedProcedureID=RP-A4"], &["A4 S1"], true),
    (&["StudyInstanceUID=2.25.2"], &["A2 S1"], false),
    (
        &["SPS.ScheduledProtocolCodeSequence[0].CodeValue=PROTOCOL-US"],
        &["A5 S1"],
        false,
    ),
    (&["SPS.ScheduledProcedureStepID=S2"], &["A1 S2"], false),
];
const ALL: [&str; 6] = ["A1 S1", "A1 S2", "A2 S1", "A3 S1", "A4 S1", "A5 S1"];

#[test]
fn findscu_finds_in_our_worklist_what_it_finds_in_dcmtks_and_more_kinds_of_keys() {
    let Some(mut wlmscpfs) = peer("wlmscpfs") else {
        return;
    };
    let directory = directory();
    let ours = server(directory.path());
    let files = directory.path().join("files");
    fs::create_dir_all(files.join("PACS")).expect("can be made");
    fs::write(files.join("PACS/lockfile"), "").expect("is written");
    for (number, values) in ITEMS.iter().enumerate() {
        let meta = write_meta(&Meta::new(
            Uid::constant(uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND),
            Uid::random(),
            Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN),
        ));
        let latin1 = CharacterSet::parse("ISO_IR 100");
        let set = encode(&item(values), uids::EXPLICIT_VR_LITTLE_ENDIAN, &latin1).expect("can be written");
        let path = files.join(format!("PACS/{number}.wl"));
        fs::write(path, [&meta[..], &set].concat()).expect("is written");
    }
    let theirs = free_port();
    wlmscpfs.arg("-dfp").arg(&files).arg(theirs.to_string());
    wlmscpfs.stdout(Stdio::null()).stderr(Stdio::null());
    let mut wlmscpfs = Peer(wlmscpfs.spawn().expect("wlmscpfs starts"));
    // It doesn't say when it listens; echoscu does.
    let listens = || {
        let mut echoscu = dcmtk("echoscu");
        echoscu.args(["-q", "-aec", "PACS", "127.0.0.1", &theirs.to_string()]);
        echoscu.status().expect("echoscu starts").success()
    };
    wlmscpfs.until(listens);
    for (keys, expected, same) in QUERIES {
        let keys: Vec<String> = keys
            .iter()
            .map(|key| key.replace("SPS.", "ScheduledProcedureStepSequence[0]."))
            .collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        assert_eq!(found(ours.port, &keys), *expected, "{keys:?}");
        let other = found(theirs, &keys);
        if *same {
            assert_eq!(other, *expected, "wlmscpfs, {keys:?}");
        } else {
            tell(&format!("{keys:?}: wlmscpfs finds {other:?}"));
        }
    }
}

/// Each request in each state: none, IN PROGRESS, COMPLETED, DISCONTINUED.
const PERFORMED: [(&str, [&str; 4]); 11] = [
    ("create", ["0000", "0111", "0111", "0111"]),
    ("create COMPLETED", ["0106", "0106", "0106", "0106"]),
    ("create without a station", ["0120", "0120", "0120", "0120"]),
    ("set IN PROGRESS", ["0112", "0000", FINAL, FINAL]),
    ("set COMPLETED", ["0112", "0000", FINAL, FINAL]),
    ("set DISCONTINUED", ["0112", "0000", FINAL, FINAL]),
    ("set COMPLETED without a series", ["0112", "0121", FINAL, FINAL]),
    ("set an unknown status", ["0112", "0106", FINAL, FINAL]),
    ("set a description", ["0112", "0000", FINAL, FINAL]),
    ("set the patient", ["0112", "0105", FINAL, FINAL]),
    ("get", ["0112", "0000", "0000", "0000"]),
];
/// May no longer be updated (PS3.4 table F.7.2-2).
const FINAL: &str = "0110 A710";

#[test]
fn each_request_in_each_state_of_a_performed_step_is_answered_as_the_standard_says() {
    let Some(mut python) = python() else { return };
    let directory = directory();
    let server = server(directory.path());
    python
        .arg(script("performed_steps.py"))
        .arg(server.port.to_string());
    let rows = rows(&succeed(python));
    assert_eq!(rows.len(), 4 * PERFORMED.len());
    for row in &rows {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let states = ["none", "IN PROGRESS", "COMPLETED", "DISCONTINUED"];
        let state = states
            .iter()
            .position(|state| *state == row["state"])
            .expect("a state");
        let (_, expected) = PERFORMED
            .iter()
            .find(|(name, _)| *name == row["request"])
            .expect("a request");
        let answered = format!("{} {}", text("status"), text("error"));
        assert_eq!(answered.trim(), expected[state], "{row}");
    }
}
