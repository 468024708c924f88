//! A day in a department, with real peers: an order comes, is worked on, and everybody hears of it.
//!
//! mllp_send sends the order and later merges the patient, findscu asks for the worklist, pynetdicom is the modality (performed
//! step, storage commitment) and the reporting station, storescu sends the images, dcmrecv and storescp receive them by
//! route, as does `ai-triage`, whose report comes back and makes the study urgent; curl is the reader who claims and
//! completes the step over UPS-RS; a listener for HL7 gets the report; findscu, curl and getscu see it all in the end.

mod common;
#[path = "../../ai-triage/tests/phantom/mod.rs"]
mod phantom;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ai_triage::{Settings, Triage};
use dicom_dictionary_std::uids;
use futures::future::BoxFuture;
use pacs_core::{AeTitle, Uid};
use pacs_net::hl7::{self, Fault, Handler, Incoming};
use pacs_net::scu::Remote;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use common::{Peer, Server, directory, environment, free_port, peer, python, rows, script, succeed, tell};

/// Longer than anything may take; what never happens must end the test.
const LONG: Duration = Duration::from_secs(120);

/// Asks again until the answer is one. Each question is a request to the server.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < LONG, "{what} did not happen");
    }
}

struct Ris(UnboundedSender<String>);

impl Handler for Ris {
    fn handle(&self, incoming: Incoming) -> BoxFuture<'_, Result<(), Fault>> {
        let text = String::from_utf8_lossy(&incoming.bytes).into_owned();
        Box::pin(async move {
            incoming.message?;
            // The test may have ended.
            let _ = self.0.send(text);
            Ok(())
        })
    }
}

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).expect("is written");
    path.to_str().expect("a temporary path is plain").to_owned()
}

/// A receiver of DCMTK that says what it stores.
fn receiver(
    program: &str,
    arguments: &[&str],
    directory: &Path,
    port: u16,
) -> (Peer, BufReader<std::process::ChildStderr>) {
    std::fs::create_dir(directory).expect("can be made");
    let mut command = peer(program).expect("DCMTK was found before");
    command.args(arguments).arg("-v").arg(port.to_string());
    let mut child: Child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let out = BufReader::new(child.stderr.take().expect("its standard error is a pipe"));
    (Peer(child), out)
}

fn curl(arguments: &[&str]) -> Option<(u16, Value)> {
    let mut command = Command::new("curl");
    command.args(["-s", "-w", "\n%{http_code}"]).args(arguments);
    let output = command.output().expect("curl starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n')?;
    Some((
        status.parse().ok()?,
        serde_json::from_str(body).unwrap_or(Value::Null),
    ))
}

fn python_row(port: u16, arguments: &[&str]) -> Value {
    let mut python = python().expect("it was found before");
    python
        .arg(script("department.py"))
        .arg(port.to_string())
        .args(arguments);
    rows(&succeed(python)).remove(0)
}

fn mllp(port: u16, directory: &Path, name: &str, segments: &[&str]) {
    let message = segments.join("\r") + "\r";
    let file = write(directory, name, &message);
    let mut command = Command::new(environment().join("bin/mllp_send"));
    command.args([
        "--loose",
        "--file",
        &file,
        "--port",
        &port.to_string(),
        "127.0.0.1",
    ]);
    let answer = succeed(command);
    assert!(answer.contains("MSA|AA"), "{answer}");
}

fn findscu(port: u16, arguments: &[&str]) -> String {
    let mut command = peer("findscu").expect("DCMTK was found before");
    command.args(["-aec", "PACS"]).args(arguments);
    command.args(["127.0.0.1", &port.to_string()]);
    succeed(command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_worked_on_and_everybody_hears_of_it() {
    if peer("findscu").is_none() || python().is_none() {
        return;
    }
    let here = directory();
    let here = here.path();
    let study = phantom::study_uid(7);
    let [hl7_port, ris_port, one, other, triage_port] = std::array::from_fn(|_| free_port());

    // The listener of the information system.
    let (heard, mut messages) = unbounded_channel();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ris_port));
    let ris = hl7::Server::bind(address, Arc::new(Ris(heard)), hl7::ServerOptions::default());
    let ris = ris.await.expect("the port is free");
    tokio::spawn(ris.run(std::future::pending(), Duration::ZERO));

    // The PACS, and where its images go.
    let mut configuration = format!("stable-after-seconds = 1\n[hl7]\nport = {hl7_port}\n");
    for (title, port) in [
        ("ONE", one),
        ("OTHER", other),
        ("AI-TRIAGE", triage_port),
        ("MODALITY", free_port()),
    ] {
        configuration += &format!("[[peer]]\nae-title = \"{title}\"\nhost = \"127.0.0.1\"\nport = {port}\n");
    }
    configuration += "[[attribute]]\nlevel = \"instance\"\npath = \"ContentSequence.ContentSequence.ConceptCodeSequence.CodeValue\"\n";
    let routes = format!(
        r#"
[[destination]]
name = "RIS"
report = "127.0.0.1:{ris_port}"
[[route]]
name = "images"
when = {{ Modality = "CT" }}
send-to = ["ONE", "OTHER", "AI-TRIAGE"]
[[route]]
name = "a suspected bleeding is read at once"
when = {{ "ContentSequence.ContentSequence.ConceptCodeSequence.CodeValue" = "1386000" }}
tell = ["READING"]
priority = "stat"
[[route]]
name = "reports"
on = "report-stored"
tell = ["RIS"]
"#
    );
    let configuration = write(here, "configuration.toml", &configuration);
    let routes = write(here, "routes.toml", &routes);
    let server = Server::start(
        &here.join("data"),
        &["--config", &configuration, "--routes", &routes],
    );
    let dicomweb = server.dicomweb();

    let into = |name: &str| here.join(name).to_str().expect("plain").to_owned();
    let (_one, mut one_says) = receiver(
        "dcmrecv",
        &[
            "-xf",
            "/etc/dcmtk/storescp.cfg",
            "Default",
            "-aet",
            "ONE",
            "-od",
            &into("one"),
        ],
        &here.join("one"),
        one,
    );
    let (_other, mut other_says) = receiver(
        "storescp",
        &["-aet", "OTHER", "-od", &into("other")],
        &here.join("other"),
        other,
    );
    let triage = Triage::open(Settings {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, triage_port)),
        ae_title: AeTitle::parse("AI-TRIAGE").expect("is one"),
        pacs: Remote::new(
            "127.0.0.1",
            server.port,
            AeTitle::parse("PACS").expect("is one"),
            AeTitle::parse("AI-TRIAGE").expect("is one"),
        ),
        quiet: Duration::from_secs(1),
        data: here.join("triage"),
        room_bytes: 1 << 30,
        workitems: None,
    });
    let triage = triage.await.expect("it opens");
    tokio::spawn(triage.run(std::future::pending(), Duration::ZERO));

    // An order, seen on the worklist.
    let patient = "PID|1||P 7||Order^Jane||19700101|O";
    mllp(
        hl7_port,
        here,
        "order.hl7",
        &[
            "MSH|^~\\&|RIS|DEP|PACS|DEP|20260102030000||ORM^O01|ORDER1|P|2.3.1",
            patient,
            "PV1|1|O",
            "ORC|NW|A 7|A 7||SC",
            "OBR|1|A 7|A 7|HEAD^CT of the head^99X||||||||||||||A 7|RP7|SPS7||||CT|||1^^^20260102030405^^R",
            &format!("ZDS|{study}^RIS^Application^DICOM"),
        ],
    );
    let asked = findscu(
        server.port,
        &[
            "-W",
            "-k",
            "AccessionNumber=A 7",
            "-k",
            "PatientID",
            "-k",
            "StudyInstanceUID",
            "-k",
            "ScheduledProcedureStepSequence[0].Modality=CT",
            "-k",
            "ScheduledProcedureStepSequence[0].ScheduledProcedureStepID=SPS7",
        ],
    );
    assert!(asked.contains(study.as_str()) && asked.contains("P 7"), "{asked}");

    // The modality works.
    let step = format!("{study}.5");
    assert_eq!(python_row(server.port, &["begin", &step, &study])["status"], 0);
    let images = here.join("images");
    std::fs::create_dir(&images).expect("can be made");
    for (number, slice) in phantom::explicit(&phantom::slices(7, true)).iter().enumerate() {
        let file = phantom::file(uids::CT_IMAGE_STORAGE, slice);
        std::fs::write(images.join(number.to_string()), file).expect("is written");
    }
    let mut storescu = peer("storescu").expect("DCMTK was found before");
    storescu
        .args(["-aec", "PACS", "+sd", "127.0.0.1", &server.port.to_string()])
        .arg(&images);
    succeed(storescu);
    let committed = python_row(server.port, &["commit", images.to_str().expect("plain")]);
    assert_eq!(
        committed,
        json!({"status": 0, "event": 1, "committed": phantom::SLICES})
    );
    assert_eq!(python_row(server.port, &["end", &step, &study])["status"], 0);

    // By route to both receivers.
    for says in [&mut one_says, &mut other_says] {
        let mut stored = 0;
        while stored < phantom::SLICES {
            let mut line = String::new();
            assert!(says.read_line(&mut line).expect("it can be read") > 0, "it ended");
            stored += usize::from(
                line.to_lowercase().contains("storing dicom file") || line.contains("Stored received object"),
            );
        }
    }

    // The service's report is back, and the study is urgent.
    let found = until("the report of ai-triage", || {
        let (_, found) = curl(&[&format!("{dicomweb}/studies/{study}/series?Modality=SR")])?;
        (found.as_array()?.len() == 1).then_some(found)
    });
    drop(found);
    let wanted = format!("{dicomweb}/workitems?00741000=SCHEDULED&00741200=HIGH&includefield=all");
    let workitem = until("the urgent step", || {
        let (_, found) = curl(&["-H", "Accept: application/dicom+json", &wanted])?;
        Some(
            found.as_array()?.first()?["00080018"]["Value"][0]
                .as_str()?
                .to_owned(),
        )
    });

    // A reader claims and completes it.
    let transaction = Uid::random();
    let change = |state: &str| {
        let body = json!([{
            "00741000": {"vr": "CS", "Value": [state]},
            "00081195": {"vr": "UI", "Value": [transaction.as_str()]},
        }]);
        let json_type = "Content-Type: application/dicom+json";
        let url = format!("{dicomweb}/workitems/{workitem}/state");
        curl(&["-X", "PUT", "-H", json_type, "-d", &body.to_string(), &url])
            .expect("it answers")
            .0
    };
    assert_eq!(change("IN PROGRESS"), 200);
    // Not before what was done is said.
    assert_ne!(change("COMPLETED"), 200);
    let code = |value: &str, meaning: &str| {
        json!({"vr": "SQ", "Value": [{
            "00080100": {"vr": "SH", "Value": [value]},
            "00080102": {"vr": "SH", "Value": ["DCM"]},
            "00080104": {"vr": "LO", "Value": [meaning]},
        }]})
    };
    let performed = json!([{
        "00081195": {"vr": "UI", "Value": [transaction.as_str()]},
        "00741216": {"vr": "SQ", "Value": [{
            "00404028": code("110005", "Interpretation"),
            "00404050": {"vr": "DT", "Value": ["20260102040000"]},
            "00404019": code("110005", "Interpretation"),
            "00404051": {"vr": "DT", "Value": ["20260102050000"]},
            "00404033": {"vr": "SQ"},
        }]},
    }]);
    let url = format!("{dicomweb}/workitems/{workitem}?transaction-uid={transaction}");
    let set = curl(&[
        "-X",
        "POST",
        "-H",
        "Content-Type: application/dicom+json",
        "-d",
        &performed.to_string(),
        &url,
    ]);
    assert_eq!(set.expect("it answers").0, 200);
    assert_eq!(change("COMPLETED"), 200);

    // The final report leaves as a message.
    assert_eq!(
        python_row(server.port, &["report", &study, "A 7", "P 7"])["status"],
        0
    );
    let told = tokio::time::timeout(LONG, messages.recv())
        .await
        .expect("a message comes")
        .expect("one");
    assert!(
        told.contains("ORU^R01") && told.contains("bleeding of the department"),
        "{}",
        told.len()
    );

    // The patient becomes another one, for everybody.
    mllp(
        hl7_port,
        here,
        "merge.hl7",
        &[
            "MSH|^~\\&|RIS|DEP|PACS|DEP|20260102060000||ADT^A40|MERGE1|P|2.3.1",
            "EVN|A40|20260102060000",
            "PID|1||P 8||Order^Jane||19700101|O",
            "MRG|P 7",
        ],
    );
    let asked = findscu(
        server.port,
        &[
            "-S",
            "-k",
            "QueryRetrieveLevel=STUDY",
            "-k",
            "PatientID=P 8",
            "-k",
            "StudyInstanceUID",
        ],
    );
    assert!(asked.contains(study.as_str()), "{asked}");
    let (_, found) = curl(&[&format!("{dicomweb}/studies?PatientID=P%208")]).expect("it answers");
    assert_eq!(found[0]["0020000D"]["Value"][0], study.as_str());
    let (_, found) = curl(&[&format!("{dicomweb}/studies?PatientID=P%207")]).unwrap_or((204, Value::Null));
    assert!(
        found.as_array().is_none_or(Vec::is_empty),
        "the prior patient has nothing more"
    );
    let fetched = here.join("fetched");
    std::fs::create_dir(&fetched).expect("can be made");
    let mut getscu = peer("getscu").expect("DCMTK was found before");
    getscu.args(["-S", "-aec", "PACS", "-k", "QueryRetrieveLevel=SERIES", "-k"]);
    getscu
        .arg(format!("StudyInstanceUID={study}"))
        .arg("-k")
        .arg(format!("SeriesInstanceUID={study}.1"));
    getscu.args([
        "-od",
        fetched.to_str().expect("plain"),
        "127.0.0.1",
        &server.port.to_string(),
    ]);
    succeed(getscu);
    let mut count = 0;
    for entry in std::fs::read_dir(&fetched).expect("can be listed") {
        let bytes = std::fs::read(entry.expect("can be read").path()).expect("can be read");
        assert!(bytes.windows(3).any(|window| window == b"P 8"));
        count += 1;
    }
    assert_eq!(count, phantom::SLICES);
    assert!(server.stop().success());
    tell(
        "a day: order, worklist, performed step, images, commitment, two receivers, triage, urgent, read, report, merge",
    );
    // What the receivers said is theirs.
    std::io::stdout().flush().expect("standard output can be written");
}
