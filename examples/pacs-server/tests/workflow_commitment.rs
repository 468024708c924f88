//! Storage commitment (PS3.4 annex J) with pynetdicom, which is SCU and SCP of it.

mod common;

use std::fs;
use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use pacs_core::{AeTitle, Uid};
use pacs_net::scu::{CommitmentRequest, Commitments, Reference, Remote};
use serde_json::{Value, json};
use tempfile::TempDir;

use common::{Peer, Server, directory, free_port, python, rows, script, succeed, tell};

const ROOT: &str = "1.2.826.0.1.3680043.10.1.77.";

/// A server that knows REQUESTER at `port`.
fn start(directory: &TempDir, port: u16) -> Server {
    let path = directory.path().join("configuration.toml");
    let mut file = fs::File::create(&path).expect("can be made");
    writeln!(
        file,
        "[[peer]]\nae-title = \"REQUESTER\"\nhost = \"127.0.0.1\"\nport = {port}"
    )
    .expect("is written");
    let path = path.to_str().expect("a temporary path is plain");
    Server::start(&directory.path().join("data"), &["--config", path])
}

/// Runs the script to its end. `None` where pynetdicom is not installed.
fn commitment(arguments: &[&str]) -> Option<Vec<Value>> {
    let mut python = python()?;
    python.arg(script("commitment.py")).args(arguments);
    Some(rows(&succeed(python)))
}

/// Starts the script, and waits until it listens.
fn listening(arguments: &[&str]) -> (Peer, BufReader<std::process::ChildStdout>) {
    let mut python = python().expect("it was found before");
    python
        .arg(script("commitment.py"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child: Child = python.spawn().expect("python starts");
    let mut out = BufReader::new(child.stdout.take().expect("its standard output is a pipe"));
    assert_eq!(row(&mut out)["listening"], true);
    (Peer(child), out)
}

fn row(out: &mut impl std::io::BufRead) -> Value {
    let mut line = String::new();
    out.read_line(&mut line).expect("its standard output can be read");
    serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?} is no row"))
}

/// Changes one byte of the pixel data of an instance in the archive.
fn damage(data: &Path) {
    let mark = [0xD5, 0xA7].repeat(200);
    for path in files(data) {
        let mut bytes = fs::read(&path).expect("can be read");
        if let Some(at) = bytes.windows(mark.len()).position(|window| window == mark) {
            bytes[at + 100] ^= 1;
            return fs::write(&path, bytes).expect("can be written");
        }
    }
    panic!("no file has the mark");
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("can be listed");
    let paths = entries.map(|entry| entry.expect("can be read").path());
    paths
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

/// Status, event type, how many are committed, and why the others are not.
fn expected(case: &str) -> (&'static str, Option<(u16, usize, Value)>) {
    let failed = |uid: &str, reason: &str| json!({ format!("{ROOT}{uid}"): reason });
    match case {
        "all kept" => ("0000", Some((1, 4, json!({})))),
        "one missing" => ("0000", Some((2, 1, failed("404", "0112")))),
        "all missing" => (
            "0000",
            Some((
                2,
                0,
                json!({ format!("{ROOT}404"): "0112", format!("{ROOT}405"): "0112" }),
            )),
        ),
        "wrong class" => ("0000", Some((2, 1, failed("1", "0119")))),
        "no class of storage" => ("0000", Some((2, 0, failed("406", "0122")))),
        "damaged" => ("0000", Some((2, 1, failed("66", "0110")))),
        "duplicates" => ("0000", Some((1, 2, json!({})))),
        "wrong instance UID" => ("0112", None),
        "wrong action type" => ("0123", None),
        _ => ("0115", None),
    }
}

#[test]
fn pynetdicom_asks_in_every_way_and_is_answered_on_the_same_and_on_another_association() {
    let directory = directory();
    let own_port = free_port();
    let server = start(&directory, own_port);
    let Some(_) = commitment(&["store", &server.port.to_string()]) else {
        return;
    };
    assert!(server.stop().success());
    damage(&directory.path().join("data"));
    let server = start(&directory, own_port);
    let rows = commitment(&["table", &server.port.to_string(), &own_port.to_string()]);
    let rows = rows.expect("pynetdicom was there before");
    assert_eq!(rows.len(), 2 * 14);
    for row in &rows {
        tell(&row.to_string());
        let (status, report) = expected(row["case"].as_str().expect("a row has a case"));
        assert_eq!(row["status"], status, "{row}");
        let Some((event, committed, failed)) = report else {
            assert!(row.get("report").is_none(), "{row}");
            continue;
        };
        assert_eq!(
            (&row["transaction"], &row["report"]["event"]),
            (&json!(true), &json!(event)),
            "{row}"
        );
        assert_eq!(
            row["report"]["committed"].as_array().map(Vec::len),
            Some(committed),
            "{row}"
        );
        assert_eq!(row["report"]["failed"], failed, "{row}");
        assert_eq!(
            (&row["report"]["retrieve_ae"], &row["report"]["well_known"]),
            (&json!("PACS"), &json!(true))
        );
        if row["mode"] == "another" {
            assert_eq!(row["report"]["roles"], true, "{row}");
        }
    }
    assert!(server.stop().success());
}

#[test]
fn a_report_is_delivered_after_the_server_was_killed_behind_the_request() {
    let directory = directory();
    let own_port = free_port();
    let server = start(&directory, own_port);
    let Some(_) = commitment(&["store", &server.port.to_string()]) else {
        return;
    };
    let asked = commitment(&["ask", &server.port.to_string()]).expect("pynetdicom is there");
    assert_eq!(asked[0]["status"], "0000");
    server.kill();
    let (_requester, mut out) = listening(&["listen", &own_port.to_string()]);
    let server = start(&directory, own_port);
    let report = row(&mut out);
    assert_eq!(report["transaction"], asked[0]["transaction"]);
    assert_eq!(
        (&report["event"], report["committed"].as_array().map(Vec::len)),
        (&json!(1), Some(4))
    );
    assert!(server.stop().success());
}

#[test]
fn our_scu_takes_the_report_of_pynetdicom_on_the_same_and_on_another_association() {
    if python().is_none() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for mode in ["same", "another"] {
        let own = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .expect("a port");
        let (keeper, own_port) = (free_port(), own.local_addr().expect("an address").port());
        let (_keeper, mut out) = listening(&["provide", &keeper.to_string(), mode, &own_port.to_string()]);
        let title = |text| AeTitle::parse(text).expect("it is one");
        let remote = Remote::new("127.0.0.1", keeper, title("KEEPER"), title("REQUESTER"));
        let reference = |number: u32| Reference {
            sop_class: Uid::constant("1.2.840.10008.5.1.4.1.1.2"),
            sop_instance: Uid::parse(&format!("{ROOT}{number}")).expect("is a UID"),
        };
        let asked = [reference(1), reference(2), reference(404)];
        let commitments = Arc::new(Commitments::new());
        let request = CommitmentRequest {
            // Where the report comes on another association, it waits for the end of this one.
            hold: Duration::from_secs(if mode == "same" { 30 } else { 0 }),
            patience: Duration::from_secs(30),
        };
        let report = runtime.block_on(async {
            let listening = Arc::clone(&commitments).listen(own, title("REQUESTER"));
            tokio::select! {
                report = request.ask(&remote, &asked, &commitments) => report.expect("it is answered"),
                () = listening => unreachable!("it listens for ever"),
            }
        });
        assert_eq!(report.committed, asked[..2], "{mode}");
        assert_eq!(report.failed, [(reference(404), 0x0112)], "{mode}");
        assert_eq!(row(&mut out)["answered"], "0000", "{mode}");
    }
}
