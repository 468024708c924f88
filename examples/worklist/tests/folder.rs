//! The real server on a folder that changes, asked over DICOM; and by DCMTK, with a file that DCMTK made.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use dicom_dictionary_std::tags;
use futures::TryStreamExt;
use pacs_core::workflow::performed::begun;
use pacs_core::{AeTitle, DataSet, Uid, VR};
use pacs_net::dimse::Status;
use pacs_net::scu::{self, Remote};

/// The server; it ends with the test.
struct Server {
    child: Child,
    out: BufReader<ChildStdout>,
    port: u16,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_worklist"))
            .arg(folder)
            .args(["--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let out = BufReader::new(child.stdout.take().expect("its standard output is a pipe"));
        let mut server = Self { child, out, port: 0 };
        let line = server.line();
        let port = line
            .split_once(" as ")
            .and_then(|(address, _)| address.rsplit(':').next()?.parse().ok());
        server.port = port.unwrap_or_else(|| panic!("the server says {line:?}"));
        server
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out
            .read_line(&mut line)
            .expect("its standard output can be read");
        line.trim().to_owned()
    }

    /// Waits until it says that there are so many items.
    fn has(&mut self, items: usize) {
        let wanted = format!("{items} items");
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "the server ended");
            if line == wanted {
                return;
            }
        }
    }

    fn remote(&self) -> Remote {
        let title = |text| AeTitle::parse(text).expect("is an AE title");
        Remote::new("127.0.0.1", self.port, title("WORKLIST"), title("TESTER"))
    }

    /// The accession numbers on the worklist.
    async fn found(&self) -> Vec<String> {
        let remote = self.remote();
        let client = remote
            .client(&scu::worklist_proposal(&remote))
            .await
            .expect("associates");
        let mut keys = DataSet::new();
        keys.put_text(tags::ACCESSION_NUMBER, VR::SH, "");
        let found = scu::find_worklist(&client, &keys).await.expect("is asked");
        let found: Vec<DataSet> = found.try_collect().await.expect("is answered");
        client.release().await.expect("is released");
        let accession = |item: &DataSet| item.string(tags::ACCESSION_NUMBER).map(str::to_owned);
        let mut found: Vec<String> = found.iter().filter_map(accession).collect();
        found.sort_unstable();
        found
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn json(accession: &str) -> String {
    format!(
        r#"{{
            "00080050": {{"vr": "SH", "Value": ["{accession}"]}},
            "00100010": {{"vr": "PN", "Value": [{{"Alphabetic": "Doe^Jane"}}]}},
            "00100020": {{"vr": "LO", "Value": ["P-{accession}"]}},
            "0020000D": {{"vr": "UI", "Value": ["2.25.7"]}},
            "00400100": {{"vr": "SQ", "Value": [{{
                "00080060": {{"vr": "CS", "Value": ["CT"]}},
                "00400001": {{"vr": "AE", "Value": ["CT1"]}},
                "00400002": {{"vr": "DA", "Value": ["20260310"]}},
                "00400009": {{"vr": "SH", "Value": ["S1"]}}
            }}]}}
        }}"#
    )
}

/// Written beside and renamed, so that nobody reads half of it.
fn write(folder: &Path, name: &str, text: &str) {
    let part = folder.join("part");
    fs::write(&part, text).expect("is written");
    fs::rename(part, folder.join(name)).expect("is renamed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_in_the_folder_changes_on_the_worklist_and_what_is_done_stays_done() {
    let folder = tempfile::tempdir().expect("can be made");
    let path = folder.path();
    write(path, "one.json", &json("A1"));
    let mut server = Server::start(path);
    assert_eq!(server.found().await, ["A1"]);
    write(path, "more.json", &format!("[{}, {}]", json("A2"), json("A3")));
    server.has(3);
    assert_eq!(server.found().await, ["A1", "A2", "A3"]);
    write(path, "more.json", &format!("[{}]", json("A3")));
    server.has(2);
    assert_eq!(server.found().await, ["A1", "A3"]);
    // What can't be read changes nothing.
    write(path, "more.json", "[{]");
    server.has(2);
    assert_eq!(server.found().await, ["A1", "A3"]);
    fs::remove_file(path.join("one.json")).expect("is removed");
    server.has(1);
    assert_eq!(server.found().await, ["A3"]);

    let remote = server.remote();
    let modality = remote
        .client(&scu::performed_proposal(&remote))
        .await
        .expect("associates");
    let item = pacs_core::dataset::json::read(json("A3").as_bytes())
        .expect("is JSON")
        .remove(0)
        .header;
    let mut step = begun(&item);
    for (tag, vr, text) in [
        (tags::PERFORMED_PROCEDURE_STEP_ID, VR::SH, "1"),
        (tags::PERFORMED_STATION_AE_TITLE, VR::AE, "CT1"),
        (tags::PERFORMED_PROCEDURE_STEP_START_DATE, VR::DA, "20260310"),
        (tags::PERFORMED_PROCEDURE_STEP_START_TIME, VR::TM, "1031"),
    ] {
        step.put_text(tag, vr, text);
    }
    let instance = Uid::random();
    let begun = scu::create_performed(&modality, &instance, &step)
        .await
        .expect("is answered");
    assert_eq!(begun.status(), Status::SUCCESS);
    let mut series = DataSet::new();
    series.put_text(tags::PROTOCOL_NAME, VR::LO, "Head");
    series.put_text(tags::SERIES_INSTANCE_UID, VR::UI, "2.25.8");
    let mut end = DataSet::new();
    end.put_text(tags::PERFORMED_PROCEDURE_STEP_STATUS, VR::CS, "COMPLETED");
    end.put_text(tags::PERFORMED_PROCEDURE_STEP_END_DATE, VR::DA, "20260310");
    end.put_text(tags::PERFORMED_PROCEDURE_STEP_END_TIME, VR::TM, "1040");
    end.put_items(tags::PERFORMED_SERIES_SEQUENCE, vec![series]);
    let ended = scu::set_performed(&modality, &instance, &end)
        .await
        .expect("is answered");
    assert_eq!(ended.status(), Status::SUCCESS);
    modality.release().await.expect("is released");
    assert!(server.found().await.is_empty());

    // Killed and started again: what was done is done, and what went meanwhile is gone.
    write(path, "two.json", &format!("[{}, {}]", json("A4"), json("A5")));
    server.has(3);
    drop(server);
    write(path, "two.json", &json("A5"));
    write(path, "more.json", &json("A3"));
    let server = Server::start(path);
    assert_eq!(server.found().await, ["A5"]);
}

const DUMP: &str = "\
(0008,0005) CS [ISO_IR 100]
(0008,0050) SH [A9]
(0010,0010) PN [M\u{fc}ller^Anna]
(0010,0020) LO [P9]
(0020,000d) UI [2.25.9]
(0040,0100) SQ
(fffe,e000) -
(0008,0060) CS [MR]
(0040,0001) AE [MR1]
(0040,0002) DA [20260310]
(0040,0003) TM [0800]
(0040,0009) SH [S9]
(fffe,e00d) -
(fffe,e0dd) -
";

#[test]
fn findscu_finds_what_dump2dcm_made() {
    let folder = tempfile::tempdir().expect("can be made");
    let dump = folder.path().join("item.dump");
    let latin1: Vec<u8> = DUMP
        .chars()
        .map(|letter| u8::try_from(letter).expect("is Latin 1"))
        .collect();
    fs::write(&dump, latin1).expect("is written");
    let made = Command::new("dump2dcm")
        .arg(&dump)
        .arg(folder.path().join("item.wl"))
        .output();
    let Ok(made) = made else {
        let required = std::env::var_os("PACS_REQUIRE_PEERS").is_some();
        assert!(
            !required,
            "dump2dcm is missing, and PACS_REQUIRE_PEERS is set; .ci/peers installs it"
        );
        let skipped = "skipped: dump2dcm is not installed; .ci/peers installs it\n";
        std::io::Write::write_all(&mut std::io::stdout(), skipped.as_bytes()).expect("can be said");
        return;
    };
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let server = Server::start(folder.path());
    let output = Command::new("findscu")
        .env("TCP_NODELAY", "1")
        .args([
            "-W",
            "-aec",
            "WORKLIST",
            "-k",
            "PatientName=M*",
            "-k",
            "AccessionNumber",
        ])
        .args(["-k", "ScheduledProcedureStepSequence[0].Modality=MR", "127.0.0.1"])
        .arg(server.port.to_string())
        .output()
        .expect("findscu starts");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("[A9]") && said.contains("[MR]"), "{said}");
}
