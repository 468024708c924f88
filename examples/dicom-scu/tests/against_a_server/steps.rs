//! `worklist` and `mpps` against our own server, and `worklist` against DCMTK's.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use dicom_dictionary_std::{tags, uids};
use futures::executor::block_on;
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::dataset::part10::{Meta, write_meta};
use pacs_core::workflow::Worklist;
use pacs_core::{DataSet, Ledger, Uid, VR};
use pacs_store::MemoryLedger;

use crate::port::free_port;
use crate::support::server_on;

fn item(number: u32) -> DataSet {
    let mut step = DataSet::new();
    for (tag, vr, text) in [
        (tags::MODALITY, VR::CS, "CT"),
        (tags::SCHEDULED_STATION_AE_TITLE, VR::AE, "CT1"),
        (tags::SCHEDULED_PROCEDURE_STEP_START_DATE, VR::DA, "20260310"),
        (tags::SCHEDULED_PROCEDURE_STEP_START_TIME, VR::TM, "1030"),
        (tags::SCHEDULED_PERFORMING_PHYSICIAN_NAME, VR::PN, "House^Greg"),
        (tags::SCHEDULED_PROCEDURE_STEP_DESCRIPTION, VR::LO, "Head"),
        (tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, "S1"),
    ] {
        step.put_text(tag, vr, text);
    }
    let mut item = DataSet::new();
    for (tag, vr, text) in [
        (tags::ACCESSION_NUMBER, VR::SH, format!("A{number}")),
        (tags::PATIENT_NAME, VR::PN, format!("Doe{number}^Jane")),
        (tags::PATIENT_ID, VR::LO, format!("P{number}")),
        (tags::STUDY_INSTANCE_UID, VR::UI, format!("2.25.{number}")),
        (tags::REQUESTED_PROCEDURE_ID, VR::SH, "RP1".to_owned()),
        (tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO, "Head".to_owned()),
    ] {
        item.put_text(tag, vr, text);
    }
    item.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![step]);
    item
}

/// Exit code, standard output and standard error.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_dicom-scu"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("dicom-scu starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_step_is_found_begun_ended_and_asked_for() {
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new());
    let worklist = Worklist::new(Arc::clone(&ledger));
    for number in 1..=3 {
        block_on(worklist.put(item(number))).expect("is an item");
    }
    let server = server_on(ledger);
    let address = server.address.to_string();
    let all = [
        "worklist",
        &address,
        "-k",
        "PatientID",
        "-k",
        "PatientName",
        "-k",
        "AccessionNumber",
    ];
    let (code, said, _) = run(&all);
    assert_eq!(code, Some(0));
    assert!(
        said.contains("Doe2^Jane") && said.ends_with("3 item(s)\n"),
        "{said}"
    );
    let (code, said, _) = run(&[&all[..], &["--cancel-after", "1", "--json"]].concat());
    assert_eq!(code, Some(0));
    assert!(said.contains("Doe1^Jane"), "{said}");

    let directory = tempfile::tempdir().expect("can be made");
    let path = directory.path().join("item.json");
    let one = [
        "worklist",
        &address,
        "--json",
        "-k",
        "PatientID=P2",
        "-k",
        "PatientName",
        "-k",
        "AccessionNumber",
        "-k",
        "StudyInstanceUID",
        "-k",
        "RequestedProcedureID",
        "-k",
        "ScheduledProcedureStepSequence",
    ];
    let (_, said, _) = run(&one);
    std::fs::write(&path, said).expect("is written");
    let item = path.to_str().expect("a temporary path is plain");
    let begin = ["mpps", "create", &address, "--item", item];
    let (code, _, complained) = run(&begin);
    assert_eq!(code, Some(1));
    assert!(
        complained.contains("0120H") && complained.contains("0040,0241"),
        "{complained}"
    );
    let (code, said, complained) = run(&[
        &begin[..],
        &[
            "-k",
            "PerformedProcedureStepID=1",
            "-k",
            "PerformedStationAETitle=CT1",
            "-k",
            "PerformedProcedureStepStartDate=20260310",
            "-k",
            "PerformedProcedureStepStartTime=1031",
        ],
    ]
    .concat());
    assert_eq!(code, Some(0), "{complained}");
    let instance = said.trim();
    let (_, said, _) = run(&[
        "mpps",
        "get",
        &address,
        instance,
        "-k",
        "PerformedProcedureStepStatus",
        "-k",
        "PatientID",
    ]);
    assert!(said.contains("IN PROGRESS") && said.contains("P2"), "{said}");
    let end = [
        "mpps",
        "set",
        &address,
        instance,
        "-k",
        "PerformedProcedureStepStatus=COMPLETED",
        "-k",
        "PerformedProcedureStepEndDate=20260310",
        "-k",
        "PerformedProcedureStepEndTime=1040",
        "-k",
        "PerformedSeriesSequence.ProtocolName=Head",
        "-k",
        "PerformedSeriesSequence.SeriesInstanceUID=2.25.9",
    ];
    assert_eq!(run(&end).0, Some(0));
    let (code, _, complained) = run(&end);
    assert_eq!(code, Some(1));
    assert!(complained.contains("may no longer be updated"), "{complained}");
    let (_, said, _) = run(&all);
    assert!(said.ends_with("2 item(s)\n"), "{said}");
}

/// Ends with the test.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn write_wl(path: &Path, set: &DataSet) {
    let meta = write_meta(&Meta::new(
        Uid::constant(uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND),
        Uid::random(),
        Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN),
    ));
    let set = encode(set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8()).expect("can be written");
    std::fs::write(path, [&meta[..], &set].concat()).expect("is written");
}

#[test]
fn dcmtks_worklist_server_answers_us() {
    let directory = tempfile::tempdir().expect("can be made");
    let files = directory.path().join("PACS");
    std::fs::create_dir(&files).expect("can be made");
    std::fs::write(files.join("lockfile"), "").expect("is written");
    for number in 1..=3 {
        write_wl(&files.join(format!("{number}.wl")), &item(number));
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let spawned = Command::new("wlmscpfs")
        .env("TCP_NODELAY", "1")
        .args(["-dfr", "-dfp"])
        .arg(directory.path())
        .arg(address.port().to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(child) = spawned else {
        let required = std::env::var_os("PACS_REQUIRE_PEERS").is_some();
        assert!(
            !required,
            "wlmscpfs is missing, and PACS_REQUIRE_PEERS is set; .ci/peers installs it"
        );
        let skipped = "skipped: wlmscpfs is not installed; .ci/peers installs it\n";
        std::io::Write::write_all(&mut std::io::stdout(), skipped.as_bytes()).expect("can be said");
        return;
    };
    let mut wlmscpfs = Peer(child);
    let address = address.to_string();
    while run(&["echo", &address]).0 != Some(0) {
        let ended = wlmscpfs.0.try_wait().expect("can be asked");
        assert!(ended.is_none(), "wlmscpfs ended: {ended:?}");
    }
    let (code, said, complained) = run(&[
        "worklist",
        &address,
        "-k",
        "PatientName=Doe2*",
        "-k",
        "AccessionNumber",
    ]);
    assert_eq!(code, Some(0), "{complained}");
    assert!(
        said.contains("Doe2^Jane") && said.ends_with("1 item(s)\n"),
        "{said}"
    );
}
