//! Procedure steps from the command line.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::support::server_with;
use pacs_core::AeTitle;
use pacs_net::scp::Destination;

/// Exit code, standard output and standard error.
fn ups(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_dicom-scu"))
        .arg("ups")
        .args(arguments)
        .output()
        .expect("dicom-scu starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let code = output.status.code().expect("it ends by itself");
    (code, text(&output.stdout), text(&output.stderr))
}

const STEP: [&str; 10] = [
    "-k",
    "ProcedureStepState=SCHEDULED",
    "-k",
    "ProcedureStepLabel=Reading",
    "-k",
    "ScheduledProcedureStepPriority=HIGH",
    "-k",
    "ScheduledProcedureStepStartDateTime=20240229",
    "-k",
    "InputReadinessState=READY",
];

#[test]
fn a_step_goes_its_way_from_the_command_line_and_its_events_are_printed() {
    let mut listening = Command::new(env!("CARGO_BIN_EXE_dicom-scu"))
        .args(["ups", "listen", "127.0.0.1:0", "--count", "4"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("dicom-scu starts");
    let mut printed = BufReader::new(listening.stdout.take().expect("a pipe")).lines();
    let mut line = || printed.next().expect("a line").expect("text");
    let said = line();
    let port = said
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok())
        .expect("a port");
    let server = server_with(vec![Destination {
        ae_title: AeTitle::parse("DICOM-SCU").expect("a title"),
        host: "127.0.0.1".to_owned(),
        port,
        associations: 1,
        tls: None,
    }]);
    let address = server.address.to_string();
    let at = |what: &str, rest: &[&str]| ups(&[&[what, &address], rest].concat());

    assert_eq!(at("subscribe", &[]).0, 0);
    let (code, uid, said) = at("create", &STEP);
    // What may be empty was left out.
    assert_eq!(code, 3);
    assert!(said.contains("created with modifications"), "{said}");
    let (code, found, _) = at(
        "find",
        &[
            "-k",
            "ProcedureStepState=SCHEDULED",
            "-k",
            "SOPInstanceUID",
            "--json",
        ],
    );
    assert_eq!((code, found.lines().count()), (0, 1));
    assert!(found.contains(&uid), "{found}");
    let (code, transaction, _) = at("state", &[&uid, "in-progress"]);
    assert_eq!(code, 0);
    let (code, _, said) = at("state", &[&uid, "in-progress"]);
    assert_eq!(code, 1);
    assert!(said.contains("C301H"), "{said}");
    let progress = "ProcedureStepProgressInformationSequence.ProcedureStepProgress=50";
    assert_eq!(
        at("set", &[&uid, "-k", progress, "--transaction", &transaction]).0,
        0
    );
    assert_eq!(at("cancel", &[&uid, "--reason", "not needed"]).0, 0);
    let (_, _, said) = at("state", &[&uid, "completed", "--transaction", &transaction]);
    assert!(said.contains("C304H"), "{said}");
    let (code, step, _) = at("get", &[&uid]);
    assert_eq!(code, 0);
    assert!(step.contains("IN PROGRESS"), "{step}");
    let events: Vec<String> = (0..4).map(|_| line()).collect();
    for (event, what) in
        events
            .iter()
            .zip(["StateReport", "StateReport", "ProgressReport", "CancelRequested"])
    {
        assert!(event.starts_with(&format!("{uid} {what}")), "{event}");
    }
    assert!(listening.wait().expect("it ends").success());
    assert_eq!(at("unsubscribe", &["--suspend"]).0, 0);
    assert_eq!(at("unsubscribe", &[]).0, 0);
}
