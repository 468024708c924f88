//! The audit trail of the real server: recorded, verified, shown, and sent to rsyslog whatever dies in between.

mod common;
#[path = "../../../pacs-net/tests/support/rsyslog.rs"]
mod rsyslog;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use common::{
    Peer, Server, directory, free_port, peer, pydicom_files, python, run, run_all, run_with_input, script,
    succeed,
};
use pacs_core::dataset::base64;
use rsyslog::{By, Rsyslog};

/// A configuration with a table `[audit]`, and what more is wanted.
fn configuration(directory: &Path, audit: &str) -> String {
    let path = directory.join("pacs.toml");
    let mut file = fs::File::create(&path).expect("can be made");
    writeln!(file, "[audit]\n{audit}").expect("is written");
    path.to_string_lossy().into_owned()
}

/// The files of a log.
fn files(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("audit")).expect("the log is there");
    let paths = entries.map(|entry| entry.expect("can be read").path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "audit"))
        .collect();
    files.sort();
    files
}

/// The documents that `audit show` prints.
fn shown(data: &Path, configuration: &str) -> Vec<String> {
    let (code, printed) = run(
        data,
        &["--config", configuration, "audit", "show", "--count", "1000"],
    );
    assert_eq!(code, 0, "{printed}");
    printed
        .lines()
        .filter(|line| line.starts_with('<'))
        .map(str::to_owned)
        .collect()
}

/// Those that are about this.
fn about<'a>(documents: &'a [String], name: &str) -> Vec<&'a String> {
    let are = documents.iter().filter(|document| event(document) == name);
    are.collect()
}

/// The code and the meaning of what a document is about.
fn event(document: &str) -> String {
    let of = |element: &str| {
        let (_, rest) = document.split_once(&format!("<{element} ")).expect("it is there");
        let (_, rest) = rest.split_once("originalText=\"").expect("it has a meaning");
        rest.split_once('"').expect("it ends").0.to_owned()
    };
    match document.contains("<EventTypeCode ") {
        true => of("EventTypeCode"),
        false => of("EventID"),
    }
}

#[test]
fn that_it_serves_is_recorded_and_what_was_done_to_the_records_is_found() {
    let directory = directory();
    let data = directory.path().join("data");
    let configuration = configuration(directory.path(), "required = true");
    let audit = |arguments: &[&str]| {
        let all = [&["--config", &configuration, "audit"], arguments].concat();
        run_all(&data, &all)
    };
    let server = Server::start(&data, &["--config", &configuration]);
    // While it runs it can be verified, and be shown.
    let (code, printed, _) = audit(&["verify"]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("1 records whole"), "{printed}");
    let events = |documents: &[String]| {
        documents
            .iter()
            .map(|document| event(document))
            .collect::<Vec<_>>()
    };
    assert_eq!(events(&shown(&data, &configuration)), ["Application Start"]);
    assert!(server.stop().success());

    let documents = shown(&data, &configuration);
    assert_eq!(
        events(&documents),
        [
            "Application Start",
            "Audit Log Used",
            "Application Stop",
            "Audit Log Used"
        ]
    );
    assert!(documents[0].contains("AlternativeUserID=\"AETITLES=PACS\""));
    let (code, printed, _) = audit(&["verify"]);
    assert_eq!(code, 0, "{printed}");
    let head = printed
        .lines()
        .find_map(|line| line.strip_prefix("head "))
        .expect("the head is said")
        .to_owned();
    assert!(head.starts_with("4:"), "{head}");
    let (code, printed, _) = audit(&["verify", "--head", &head]);
    assert_eq!(code, 0, "{printed}");

    // One letter of the third record.
    let file = &files(&data)[0];
    let whole = fs::read(file).expect("can be read");
    let at = whole
        .windows(16)
        .position(|bytes| bytes == b"Application Stop")
        .expect("it is there");
    let mut changed = whole.clone();
    changed[at] = b'a';
    fs::write(file, &changed).expect("can be written");
    let (code, printed, _) = audit(&["verify"]);
    assert_eq!(code, 3, "{printed}");
    assert!(
        printed.contains("\nrecord 3: not what was written\n"),
        "{printed}"
    );

    // The last one is gone.
    fs::write(file, &whole[..whole.len() - 100]).expect("can be written");
    let (code, printed, _) = audit(&["verify"]);
    assert_eq!(code, 3, "{printed}");
    // The server says so in the trail, serves on, and the gap is found ever after.
    assert!(
        Server::start(&data, &["--config", &configuration])
            .stop()
            .success()
    );
    let expected = [
        "Application Start",
        "Audit Log Used",
        "Application Stop",
        "Audit Recording Stopped",
        "Application Start",
        "Application Stop",
        "Audit Log Used",
    ];
    assert_eq!(events(&shown(&data, &configuration)), expected);
    let (code, printed, _) = audit(&["verify"]);
    assert_eq!(code, 3, "{printed}");
    assert!(printed.contains("record 4: not what was written"), "{printed}");

    // Another log in its place, as good as the first, is told by the head that was noted down.
    fs::remove_dir_all(data.join("audit")).expect("can be removed");
    assert!(
        Server::start(&data, &["--config", &configuration])
            .stop()
            .success()
    );
    assert!(
        Server::start(&data, &["--config", &configuration])
            .stop()
            .success()
    );
    assert_eq!(audit(&["verify"]).0, 0);
    let (code, printed, _) = audit(&["verify", "--head", &head]);
    assert_eq!(code, 3, "{printed}");
    assert!(
        printed.contains("record 4: another than the head says"),
        "{printed}"
    );
    let (code, _, said) = audit(&["verify", "--head", "3"]);
    assert_eq!(code, 2, "{said}");
}

#[test]
fn who_may_come_in_is_recorded_when_it_changes_also_beside_a_server_that_runs() {
    let directory = directory();
    let data = directory.path().join("data");
    let access = "required = true\n[access]\n[[access.role]]\nname = \"reader\"\nallow = [\"find\"]\n";
    let configuration = configuration(directory.path(), access);
    let keys = directory.path().join("keys");
    let keys = keys.to_str().expect("is text");
    let call = |arguments: &[&str], input: &str| {
        let all = [&["--config", &configuration], arguments].concat();
        run_with_input(&data, &all, input)
    };
    let server = Server::start(&data, &["--config", &configuration]);
    assert_eq!(
        call(&["users", "add", "mary", "--role", "reader"], "a password\n"),
        0
    );
    assert_eq!(
        call(&["users", "add", "mary", "--role", "nobody"], "a password\n"),
        1
    );
    assert_eq!(
        call(&["share", "1.2.3", "--days", "2", "--name", "dr-jones"], ""),
        0
    );
    assert!(server.stop().success());
    assert_eq!(call(&["users", "remove", "mary"], ""), 0);
    assert_eq!(call(&["users", "remove", "mary"], ""), 1);
    assert_eq!(call(&["keys", "new", keys], ""), 0);

    let documents = shown(&data, &configuration);
    let users = about(&documents, "User Security Attributes Changed");
    assert_eq!(users.len(), 2);
    assert!(users[0].contains(&described("user mary has the roles reader")));
    assert!(users[1].contains(&described("user mary is removed")));
    let links = about(&documents, "Object Security Attributes Changed");
    assert_eq!(links.len(), 1);
    let link = "a link, named \"dr-jones\", lets whoever has it in for 2 days, to 1.2.3";
    assert!(links[0].contains(&described(link)));
    assert_eq!(about(&documents, "Security Configuration").len(), 1);
    assert!(
        documents
            .iter()
            .all(|document| !document.contains(&described("a password")))
    );
}

#[test]
fn who_makes_no_secure_connection_and_whose_association_is_rejected_is_recorded() {
    let directory = directory();
    let data = directory.path().join("data");
    let certificates = directory.path().join("certs");
    let (code, _, said) = run_all(directory.path(), &["certs", &certificates.to_string_lossy()]);
    assert_eq!(code, 0, "{said}");
    let quoted = |name: &str| format!("{:?}", certificates.join(name).to_string_lossy());
    let port = free_port();
    let settings = format!(
        "required = true\n[hl7]\nport = {port}\n[tls]\nauthorities = {}\ncertificate = {}\nkey = {}\nplain = [\"dicom\"]\n\
         [access]\n[[access.role]]\nname = \"sends\"\nallow = [\"store\"]\n[[access.peer]]\nae-title = \"KNOWN\"\nroles = [\"sends\"]\n",
        quoted("ca.pem"),
        quoted("server.pem"),
        quoted("server-key.pem"),
    );
    let configuration = configuration(directory.path(), &settings);
    let server = Server::start(&data, &["--config", &configuration]);
    let web: u16 = server
        .http
        .trim_end_matches('/')
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok())
        .expect("it has a port");
    for port in [web, port] {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("is sent");
        // What it answers, an alert of TLS or nothing, ends.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let associate = |called: &str, calling: &str| {
        let mut echoscu = peer("echoscu")?;
        echoscu.args([
            "-aec",
            called,
            "-aet",
            calling,
            "127.0.0.1",
            &server.port.to_string(),
        ]);
        echoscu.stderr(std::process::Stdio::null());
        Some(echoscu.status().expect("echoscu runs").success())
    };
    // One that is told twice is recorded once.
    for (called, calling, is_accepted) in [
        ("PACS", "KNOWN", true),
        ("PACS", "STRANGER", false),
        ("PACS", "STRANGER", false),
        ("OTHER", "KNOWN", false),
    ] {
        let Some(accepted) = associate(called, calling) else {
            return;
        };
        assert_eq!(accepted, is_accepted, "{calling} to {called}");
    }
    assert!(server.stop().success());

    let documents = shown(&data, &configuration);
    let alerts = about(&documents, "Node Authentication");
    assert_eq!(alerts.len(), 3, "{alerts:?}");
    let says =
        |alert: &str, what: &str| alert.contains("EventOutcomeIndicator=\"4\"") && alert.contains(what);
    assert!(says(alerts[0], "no secure connection: "), "{}", alerts[0]);
    assert!(
        says(alerts[1], "calling AE title not recognized"),
        "{}",
        alerts[1]
    );
    assert!(alerts[1].contains("AETITLES=STRANGER"), "{}", alerts[1]);
    assert!(says(alerts[2], "called AE title not recognized"), "{}", alerts[2]);
    assert!(
        alerts.iter().all(|alert| alert.contains("127.0.0.1")),
        "{alerts:?}"
    );
}

/// The value of an alert's description, as a document has it.
fn described(text: &str) -> String {
    let mut encoded = Vec::new();
    base64::encode(text.as_bytes(), &mut encoded);
    String::from_utf8(encoded).expect("is text")
}

#[test]
fn without_the_table_nothing_is_recorded() {
    let directory = directory();
    let data = directory.path().join("data");
    assert!(Server::start(&data, &[]).stop().success());
    assert!(!data.join("audit").exists());
    let (code, _, said) = run_all(&data, &["audit", "verify"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("there is no log of audit in"), "{said}");
}

#[test]
fn a_log_that_may_not_grow_stops_a_server_that_must_record_and_no_other() {
    let directory = directory();
    let data = directory.path().join("data");
    let optional = configuration(directory.path(), "limit-mebibytes = 0");
    assert!(Server::start(&data, &["--config", &optional]).stop().success());
    let required = configuration(directory.path(), "limit-mebibytes = 0\nrequired = true");
    let (code, _, said) = run_all(
        &data,
        &[
            "--config",
            &required,
            "--dicom-port",
            "0",
            "--http-port",
            "0",
            "serve",
        ],
    );
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("as large as it may be"), "{said}");
}

#[test]
fn rsyslog_has_every_record_in_order_over_mutual_tls_though_it_was_away_and_the_server_was_killed() {
    let directory = directory();
    let certificates = directory.path().join("certs");
    let (code, _, said) = run_all(directory.path(), &["certs", &certificates.to_string_lossy()]);
    assert_eq!(code, 0, "{said}");
    let file = |name: &str| certificates.join(name);
    let files = ["server.pem", "server-key.pem", "ca.pem"].map(file);
    let by = By::Tls([&files[0], &files[1], &files[2]]);
    let Some(mut rsyslog) = Rsyslog::new(directory.path(), by, free_port()) else {
        return;
    };
    let quoted = |name: &str| format!("{:?}", file(name).to_string_lossy());
    let audit = format!(
        "required = true\nrepository = \"tls://localhost:{}\"\n[tls]\nauthorities = {}\ncertificate = {}\nkey = {}\n\
         plain = [\"dicom\", \"http\", \"hl7\"]\n",
        rsyslog.port,
        quoted("ca.pem"),
        quoted("client.pem"),
        quoted("client-key.pem"),
    );
    let configuration = configuration(directory.path(), &audit);
    let data = directory.path().join("data");
    let start = || Server::start(&data, &["--config", &configuration]);
    for round in 0..6 {
        // Nobody listens in the first rounds, and in the middle of one it begins to.
        let server = start();
        if round == 3 {
            rsyslog.start();
            // It has begun to send.
            rsyslog.next();
        }
        if round == 4 {
            rsyslog.stop();
        }
        match round % 2 {
            0 => assert!(server.stop().success()),
            _ => server.kill(),
        }
    }
    rsyslog.start();
    let last = start();
    rsyslog.begin_again();
    // Those of six starts and three ends, and of this start; then of its end.
    let mut messages = Vec::new();
    let mut known = BTreeSet::new();
    let mut take = |rsyslog: &mut Rsyslog, until: usize| {
        while messages.len() < until {
            let message = rsyslog.next();
            let (header, document) = message
                .split_once('\u{FEFF}')
                .expect("a mark stands before the document");
            assert!(header.starts_with("<85>1 2"), "{header}");
            assert!(
                header.contains(" pacs-server ") && header.ends_with(" DICOM+RFC3881 - "),
                "{header}"
            );
            // The time tells two starts apart.
            if known.insert(document.to_owned()) {
                messages.push(document.to_owned());
            }
        }
    };
    take(&mut rsyslog, 10);
    assert!(last.stop().success());
    take(&mut rsyslog, 11);
    rsyslog.stop();
    let (code, printed) = run(&data, &["--config", &configuration, "audit", "verify"]);
    assert_eq!(code, 0, "{printed}");
    let shown = shown(&data, &configuration);
    assert_eq!(messages, shown[..11]);
}

/// Sends an HL7 message, and answers what came back.
fn hl7(port: u16, kind: &str, rest: &str) -> String {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let message = format!("\x0BMSH|^~\\&|RIS|HOSP|PACS|RAD|20260310||{kind}|{kind}-1|P|2.5\r{rest}\r\x1C\r");
    stream.write_all(message.as_bytes()).expect("is sent");
    let mut answer = Vec::new();
    let mut byte = [0];
    while answer.last() != Some(&0x1C) && stream.read(&mut byte).expect("it answers") == 1 {
        answer.push(byte[0]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn what_is_done_through_each_door_is_recorded_with_who_did_it() {
    let directory = directory();
    let data = directory.path().join("data");
    let port = free_port();
    let settings = format!(
        "required = true\n[hl7]\nport = {port}\n[web]\ndelete = true\n[access]\nanyone = [\"amend\", \"work\"]\n\
         [[access.role]]\nname = \"all\"\nallow = [\"store\", \"find\", \"retrieve\", \"delete\", \"work\"]\n"
    );
    let configuration = configuration(directory.path(), &settings);
    let user = pacs_net::identity::User::new("anna", vec!["all".to_owned()], b"secret").expect("is one");
    fs::create_dir_all(&data).expect("can be made");
    pacs_net::identity::Users::write(&data.join("users"), &[user]).expect("can be written");
    let server = Server::start(&data, &["--config", &configuration]);
    let (Some(mut python), Some(_)) = (python(), peer("curl")) else {
        return;
    };
    let credentials = directory.path().join("credentials.json");
    let list = serde_json::json!([
        { "as": "anna", "user": "anna", "password": "secret", "ae": "WS1" },
        { "as": "wrong", "user": "anna", "password": "guess" },
    ]);
    fs::write(&credentials, list.to_string()).expect("can be written");
    python
        .arg(script("access.py"))
        .arg(server.port.to_string())
        .arg(&credentials);
    succeed(python);
    let curl = |method: &str, path: &str, user: &str| {
        let mut curl = peer("curl").expect("is there");
        curl.args([
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-X",
            method,
            "-u",
            user,
        ]);
        curl.arg(format!("{}/{path}", server.dicomweb()));
        succeed(curl)
    };
    const STUDY: &str = "1.2.826.0.1.3680043.10.9.1";
    assert_eq!(curl("GET", "studies?PatientID=STORED", "anna:secret"), "200");
    assert_eq!(curl("GET", &format!("studies/{STUDY}"), "anna:secret"), "200");
    assert_eq!(curl("GET", "workitems", "anna:secret"), "200");
    assert_eq!(curl("GET", "studies", "anna:guess"), "401");
    assert_eq!(curl("DELETE", &format!("studies/{STUDY}"), "anna:secret"), "204");
    let patient = "PID|||STORED||Doe^Jane||19700131|F";
    let order = format!(
        "{patient}\rORC|NW|P1|F1||||^^^20260310083000^^S\rOBR|1|P1|F1|CT^CT^L||||||||||||||ACC1|RP1|SPS1||||CT\rZDS|1.2"
    );
    for (kind, rest) in [("ADT^A08", patient), ("ORM^O01", &order)] {
        let answer = hl7(port, kind, rest);
        assert!(answer.contains("MSA|AA"), "{answer}");
    }
    let mut refused = peer("curl").expect("is there");
    refused.args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]);
    refused.arg(format!("{}metrics", server.http));
    assert_eq!(succeed(refused), "401");
    assert!(server.stop().success());

    let documents = shown(&data, &configuration);
    let by_anna = |name: &str| {
        about(&documents, name)
            .iter()
            .filter(|document| document.contains("UserID=\"anna\""))
            .count()
    };
    // Over DICOM: studies, worklist, procedure steps. Over HTTP: studies, work items.
    assert!(by_anna("Query") >= 5, "{}", by_anna("Query"));
    assert!(by_anna("Begin Transferring DICOM Instances") >= 2);
    let transferred = about(&documents, "DICOM Instances Transferred");
    assert!(
        transferred
            .iter()
            .any(|document| document.contains("EventActionCode=\"C\"") && document.contains(STUDY))
    );
    assert!(
        transferred
            .iter()
            .any(|document| document.contains("EventActionCode=\"R\"") && document.contains(STUDY))
    );
    let deleted = about(&documents, "DICOM Study Deleted");
    assert!(deleted.len() == 1 && deleted[0].contains(STUDY) && deleted[0].contains("anna"));
    let logins = about(&documents, "Login");
    let failed = logins
        .iter()
        .filter(|document| document.contains("EventOutcomeIndicator=\"4\""));
    assert_eq!(failed.count(), 2, "one over DICOM, one over HTTP");
    assert!(logins.len() >= 4);
    for (name, least) in [
        ("Use of Restricted Function", 1),
        ("Patient Record", 1),
        ("Order Record", 1),
        ("Procedure Record", 2),
        ("Application Start", 1),
        ("Application Stop", 1),
    ] {
        assert!(
            about(&documents, name).len() >= least,
            "{name}: {}",
            about(&documents, name).len()
        );
    }
    let (code, printed) = run(&data, &["--config", &configuration, "audit", "verify"]);
    assert_eq!(code, 0, "{printed}");
}

#[test]
fn what_is_taken_in_from_files_corrected_exported_and_delivered_by_rules_is_recorded_with_who_wanted_it() {
    let (Some(files), Some(mut storescp)) = (pydicom_files(), peer("storescp")) else {
        return;
    };
    const STUDY: &str = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322";
    let room = directory();
    let path = |name: &str| room.path().join(name).to_string_lossy().into_owned();
    let (data, port) = (room.path().join("data"), free_port());
    for folder in ["incoming", "received"] {
        fs::create_dir(path(folder)).expect("can be made");
    }
    fs::copy(files.join("CT_small.dcm"), path("incoming/ct.dcm")).expect("can be copied");
    let peers =
        format!("required = true\n[[peer]]\nae-title = \"STATION\"\nhost = \"127.0.0.1\"\nport = {port}\n");
    let configuration = configuration(room.path(), &peers);
    let command = |arguments: &[&str]| {
        let all = [&["--config", &configuration], arguments].concat();
        let (code, printed, said) = run_all(&data, &all);
        assert_eq!(code, 0, "{printed}{said}");
    };
    command(&["import", &path("incoming")]);
    command(&["amend", "--study", STUDY, "PatientName=Roe^Richard"]);
    command(&["export", "--key", "PatientID=1CT1", &path("exported")]);
    let secret = "one that is as long as it has to be for a project";
    let profile = format!("project = \"P\"\nsecret = \"{secret}\"\n");
    fs::write(path("profile.toml"), &profile).expect("can be written");
    let hidden = ["--deidentify", &path("profile.toml"), &path("hidden")];
    command(&[&["export", "--key", "PatientID=1CT1"], &hidden[..]].concat());

    let routes = format!(
        "[[destination]]\nname = \"FOLDER\"\nfolder = {:?}\n[destination.deidentify]\n{profile}\
         [[route]]\nname = \"all\"\nsend-to = [\"FOLDER\", \"STATION\"]\n",
        path("delivered")
    );
    fs::write(path("routes.toml"), routes).expect("can be written");
    storescp.args(["-aet", "STATION", "-od", &path("received"), &port.to_string()]);
    let _station = Peer(storescp.spawn().expect("storescp starts"));
    let server = Server::start(
        &data,
        &["--config", &configuration, "--routes", &path("routes.toml")],
    );
    let mut storescu = common::dcmtk("storescu");
    storescu.args(["-aec", "PACS", "127.0.0.1", &server.port.to_string()]);
    storescu.arg(files.join("MR_small.dcm"));
    succeed(storescu);
    let mr = "1.3.6.1.4.1.5962.1.1.4.1.1.20040826185059.5457";
    for name in ["FOLDER", "STATION"] {
        let is_delivered = || {
            let mut curl = common::peer("curl").expect("is there");
            curl.args(["-s", &format!("{}outbox/{name}/of/{mr}", server.http)]);
            succeed(curl).contains("\"delivered\"")
        };
        while !is_delivered() {}
    }
    assert!(server.stop().success());

    let documents = shown(&data, &configuration);
    let user = std::env::var("LOGNAME").or(std::env::var("USER"));
    let by_hand = |document: &str| match &user {
        Ok(user) => document.contains(&format!("UserID=\"{user}@")),
        Err(_) => document.contains("UserID=\"uid "),
    };
    let [imported] = about(&documents, "Import")[..] else {
        panic!("others than expected");
    };
    assert!(imported.contains(STUDY) && by_hand(imported));
    assert!(imported.contains(&format!("file://{}", path("incoming"))));
    let [amended] = about(&documents, "DICOM Instances Accessed")[..] else {
        panic!("others than expected");
    };
    assert!(amended.contains("EventActionCode=\"U\"") && amended.contains(STUDY) && by_hand(amended));
    let [exported, hidden, delivered] = about(&documents, "Export")[..] else {
        panic!("others than expected");
    };
    assert!(exported.contains(&format!("file://{}", path("exported"))) && by_hand(exported));
    assert!(exported.contains(STUDY) && exported.contains("<Anonymized>false"));
    assert!(hidden.contains(&format!("file://{}", path("hidden"))) && hidden.contains("<Anonymized>true"));
    assert!(delivered.contains(&format!("file://{}", path("delivered"))) && delivered.contains(mr));
    assert!(delivered.contains("<Anonymized>true") && !by_hand(delivered));
    let to_station = |name: &str| {
        let to = |document: &&&String| document.contains("AETITLES=STATION");
        about(&documents, name).iter().filter(to).count()
    };
    assert_eq!(to_station("Begin Transferring DICOM Instances"), 1);
    assert_eq!(to_station("DICOM Instances Transferred"), 1);
    let (code, printed) = run(&data, &["--config", &configuration, "audit", "verify"]);
    assert_eq!(code, 0, "{printed}");
}

#[test]
fn an_import_that_must_be_recorded_and_can_not_be_ends_and_says_so() {
    let Some(files) = pydicom_files() else {
        return;
    };
    let room = directory();
    let path = |name: &str| room.path().join(name).to_string_lossy().into_owned();
    fs::create_dir(path("incoming")).expect("can be made");
    // More than wait for workers at once and are recorded together.
    for number in 0..1500 {
        let to = path(&format!("incoming/{number}.dcm"));
        fs::hard_link(files.join("CT_small.dcm"), &to)
            .or_else(|_| fs::copy(files.join("CT_small.dcm"), &to).map(drop))
            .expect("can be copied");
    }
    let configuration = configuration(room.path(), "limit-mebibytes = 0\nrequired = true");
    let data = room.path().join("data");
    let import = [
        "--config",
        &configuration,
        "import",
        &path("incoming"),
        "--workers",
        "2",
    ];
    let (code, printed, _) = run_all(&data, &import);
    assert_eq!(code, 3, "{printed}");
    assert!(printed.contains("it can't be recorded for audit"), "{printed}");
}
