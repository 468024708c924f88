//! Who is let in over DICOM, and to what, by the real server: users and tokens by pynetdicom, certificates by DCMTK; and the
//! commands that make users and links.

mod common;
#[path = "common/oidc.rs"]
mod oidc;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;

use common::{Server, dcmtk, directory, peer, python, rows, run, run_all, run_with_input, script, succeed};
use oidc::Provider;

const PERMISSIONS: [&str; 8] = [
    "store",
    "find",
    "retrieve",
    "delete",
    "amend",
    "work",
    "route",
    "administer",
];

/// A role for each permission, and one for a part.
fn configuration(folder: &TempDir, more: &str) -> String {
    let mut text = format!(
        "[access]\nusers = {:?}\n{more}\n\
         [[access.role]]\nname = \"all\"\nallow = [\"store\", \"find\", \"retrieve\", \"delete\", \"amend\", \"work\", \"route\", \"administer\"]\n\
         [[access.role]]\nname = \"reader\"\nallow = [\"find\", \"retrieve\"]\n\
         [[access.role]]\nname = \"cardiology\"\nallow = [\"find\", \"retrieve\"]\nonly = {{ ReferringPhysicianName = \"Heart^*\" }}\n",
        folder.path().join("users").to_string_lossy(),
    );
    for permission in PERMISSIONS {
        text.push_str(&format!(
            "[[access.role]]\nname = \"may-{permission}\"\nallow = [\"{permission}\"]\n"
        ));
    }
    let path = folder.path().join("pacs.toml");
    fs::write(&path, text).expect("can be written");
    path.to_string_lossy().into_owned()
}

fn add_user(configuration: &str, data: &Path, name: &str, role: &str, password: &str) {
    let arguments = ["--config", configuration, "users", "add", name, "--role", role];
    assert_eq!(
        run_with_input(data, &arguments, &format!("{password}\n")),
        0,
        "{name}"
    );
}

/// What each was answered: by who, and what was asked.
fn answers(
    server: &Server,
    folder: &TempDir,
    credentials: &[Value],
) -> Option<BTreeMap<(String, String), (String, u64)>> {
    let mut python = python()?;
    let file = folder.path().join("credentials.json");
    fs::write(&file, json!(credentials).to_string()).expect("can be written");
    python
        .arg(script("access.py"))
        .arg(server.port.to_string())
        .arg(&file)
        .stdin(Stdio::null());
    let printed = succeed(python);
    let lines: String = printed
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| format!("{line}\n"))
        .collect();
    let text = |row: &Value, name: &str| row[name].as_str().expect("is there").to_owned();
    let rows = rows(&lines).into_iter().map(|row| {
        let matches = row["matches"].as_u64().expect("is counted");
        (
            (text(&row, "who"), text(&row, "what")),
            (text(&row, "status"), matches),
        )
    });
    Some(rows.collect())
}

/// Which operations each permission is for.
const OPERATIONS: [(&str, &str); 12] = [
    ("C-STORE", "store"),
    ("commitment", "store"),
    ("C-FIND", "find"),
    ("worklist", "find"),
    ("UPS get", "find"),
    ("UPS find", "find"),
    ("C-GET of mine", "retrieve"),
    ("C-GET of another", "retrieve"),
    ("C-MOVE", "retrieve"),
    ("MPPS", "work"),
    ("UPS create", "work"),
    ("C-ECHO", ""),
];

#[test]
fn each_permission_lets_do_over_dicom_what_it_is_for_and_nothing_else() {
    let folder = directory();
    let data = folder.path().join("data");
    let configuration = configuration(&folder, "");
    let mut credentials = Vec::new();
    for (name, role) in std::iter::once(("root".to_owned(), "all".to_owned()))
        .chain(PERMISSIONS.map(|permission| (permission.to_owned(), format!("may-{permission}"))))
        .chain([("carla".to_owned(), "cardiology".to_owned())])
    {
        add_user(
            &configuration,
            &data,
            &name,
            &role,
            &format!("{name}'s secret: ü"),
        );
        credentials.push(json!({"as": name, "user": name, "password": format!("{name}'s secret: ü")}));
    }
    credentials.push(json!({"as": "wrong password", "user": "root", "password": "root"}));
    credentials.push(json!({"as": "no such user", "user": "nobody", "password": "nobody"}));
    credentials.push(json!({"as": "nobody"}));
    let server = Server::start(&data, &["--config", &configuration]);
    let Some(answers) = answers(&server, &folder, &credentials) else {
        return;
    };
    let status = |who: &str, what: &str| answers[&(who.to_owned(), what.to_owned())].clone();
    for who in ["wrong password", "no such user", "nobody"] {
        assert_eq!(status(who, "association").0, "rejected", "{who}");
    }
    for (what, permission) in OPERATIONS {
        for who in PERMISSIONS {
            let (answered, _) = status(who, what);
            let is_allowed = permission.is_empty() || who == permission;
            assert_eq!(answered != "0124", is_allowed, "{what} with {who}: {answered}");
        }
        assert_ne!(status("root", what).0, "0124", "{what}");
    }
    // Of a part: nothing else is there.
    assert_eq!(status("carla", "C-FIND"), ("0000".to_owned(), 1));
    assert!(status("root", "C-FIND").1 > 2);
    assert_eq!(status("carla", "C-GET of mine"), ("0000".to_owned(), 1));
    assert_eq!(status("carla", "C-GET of another"), ("0000".to_owned(), 0));
    assert_eq!(status("root", "C-GET of another"), ("0000".to_owned(), 1));
    for what in ["C-STORE", "worklist", "UPS find", "UPS get", "MPPS"] {
        assert_eq!(status("carla", what).0, "0124", "{what}");
    }
}

#[test]
fn a_token_is_believed_over_dicom_and_none_that_is_not_what_it_must_be() {
    let Some(mut provider) = Provider::start() else {
        return;
    };
    let folder = directory();
    let issuer = format!(
        "[[access.issuer]]\nurl = {:?}\naudience = {:?}\n\
         roles = {{ radiologist = [\"reader\"], cardiologist = [\"cardiology\"], operator = [\"all\"] }}",
        provider.said.issuer, provider.said.audience
    );
    let configuration = configuration(&folder, &issuer);
    let server = Server::start(&folder.path().join("data"), &["--config", &configuration]);
    let user = |provider: &Provider, name: &str| json!({"as": name, "token": provider.said.tokens[name]});
    let mut credentials = vec![
        user(&provider, "olga"),
        user(&provider, "anna"),
        user(&provider, "carla"),
    ];
    credentials.push(user(&provider, "nobody"));
    for (what, token) in &provider.said.bad {
        credentials.push(json!({"as": what, "token": token}));
    }
    let Some(found) = answers(&server, &folder, &credentials) else {
        return;
    };
    let status = |who: &str, what: &str| found[&(who.to_owned(), what.to_owned())].clone();
    assert!(status("anna", "C-FIND").1 >= 2);
    assert_eq!(status("carla", "C-FIND"), ("0000".to_owned(), 1));
    assert_eq!(status("carla", "C-GET of another").1, 0);
    // A visitor has no role here, so may nothing.
    assert_eq!(status("nobody", "association").0, "rejected");
    for what in provider.said.bad.keys() {
        assert_eq!(status(what, "association").0, "rejected", "{what}");
    }
    // The provider has another key: tokens by it are believed, and those by the key that it has no more are not, once
    // it was asked.
    let before = provider.said.tokens["olga"].clone();
    provider.change_key();
    let credentials = [user(&provider, "olga"), json!({"as": "before", "token": before})];
    let Some(found) = answers(&server, &folder, &credentials) else {
        return;
    };
    assert_eq!(
        found[&("olga".to_owned(), "association".to_owned())].0,
        "accepted"
    );
    assert_eq!(
        found[&("before".to_owned(), "association".to_owned())].0,
        "rejected"
    );
}

#[test]
fn a_system_is_known_by_its_certificate_its_address_and_its_ae_title() {
    let folder = directory();
    let certs = folder.path().join("certs");
    let data = folder.path().join("data");
    let (code, _, said) = run_all(
        &data,
        &[
            "certs",
            &certs.to_string_lossy(),
            "--client",
            "ct1",
            "--client",
            "ws1",
        ],
    );
    assert_eq!(code, 0, "{said}");
    let file = |name: &str| certs.join(name).to_string_lossy().into_owned();
    let more = format!(
        "[[access.peer]]\ncertificate = \"ct1\"\nae-title = \"CT1\"\naddresses = [\"127.0.0.0/8\"]\nroles = [\"may-store\"]\n\
         [[access.peer]]\ncertificate = \"ws1\"\nroles = [\"reader\"]\n\
         [[access.peer]]\nae-title = \"FAR\"\naddresses = [\"192.0.2.1\"]\nroles = [\"all\"]\n\
         [tls]\ncertificate = {:?}\nkey = {:?}\nauthorities = {:?}\n",
        file("server.pem"),
        file("server-key.pem"),
        file("ca.pem"),
    );
    let configuration = configuration(&folder, &more);
    let server = Server::start(&data, &["--config", &configuration]);
    if peer("echoscu").is_none() {
        return;
    }
    let echo = |certificate: &str, title: &str| {
        let mut echoscu = dcmtk("echoscu");
        echoscu
            .args([
                "+tls",
                &file(&format!("{certificate}-key.pem")),
                &file(&format!("{certificate}.pem")),
            ])
            .args(["+cf", &file("ca.pem"), "-aet", title, "-aec", "PACS", "127.0.0.1"])
            .arg(server.port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        echoscu.status().expect("echoscu runs").success()
    };
    assert!(echo("ct1", "CT1"));
    assert!(!echo("ct1", "CT2"), "another AE title");
    assert!(echo("ws1", "ANY"));
}

#[test]
fn beyond_this_machine_nobody_is_let_in_who_is_not_named() {
    let folder = directory();
    let server = Server::start(&folder.path().join("data"), &["--listen", "0.0.0.0"]);
    if peer("echoscu").is_none() || peer("curl").is_none() {
        return;
    }
    let mut echoscu = dcmtk("echoscu");
    echoscu.args(["-v", "-aec", "PACS", "127.0.0.1", &server.port.to_string()]);
    let output = echoscu.output().expect("echoscu runs");
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(
        !output.status.success() && said.contains("Calling AE Title Not Recognized"),
        "{said}"
    );
    let status = |path: &str| {
        let mut curl = peer("curl").expect("is there");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]);
        curl.arg(format!("{}{path}", server.http));
        succeed(curl)
    };
    assert_eq!(status("dicom-web/studies"), "403");
    assert_eq!(status("metrics"), "403");
    assert_eq!(status("readyz"), "200");
}

#[test]
fn users_are_added_changed_and_removed_while_the_server_runs() {
    let folder = directory();
    let data = folder.path().join("data");
    let configuration = configuration(&folder, "");
    let server = Server::start(&data, &["--config", &configuration]);
    if peer("curl").is_none() {
        return;
    }
    let status = |user: &str| {
        let mut curl = peer("curl").expect("is there");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-u", user]);
        curl.arg(server.dicomweb() + "/studies");
        succeed(curl)
    };
    assert_eq!(status("anna:the first one"), "401");
    add_user(&configuration, &data, "anna", "reader", "the first one");
    assert_eq!(status("anna:the first one"), "204");
    add_user(&configuration, &data, "anna", "may-store", "another one");
    assert_eq!(status("anna:the first one"), "401");
    assert_eq!(status("anna:another one"), "403");
    let (code, listed) = run(&data, &["--config", &configuration, "users", "list"]);
    assert_eq!((code, listed.as_str()), (0, "anna: may-store\n"));
    let (code, _) = run(&data, &["--config", &configuration, "users", "remove", "anna"]);
    assert_eq!(code, 0);
    assert_eq!(status("anna:another one"), "401");
    // Who guesses waits.
    let guesses: Vec<String> = (0..7)
        .map(|number| status(&format!("anna:guess{number}")))
        .collect();
    assert_eq!(guesses.last().map(String::as_str), Some("429"), "{guesses:?}");
}

#[test]
fn a_link_shows_its_studies_and_nothing_else() {
    let folder = directory();
    let data = folder.path().join("data");
    let configuration = configuration(&folder, "anyone = [\"store\"]");
    let server = Server::start(&data, &["--config", &configuration]);
    let Some(files) = common::pydicom_files() else {
        return;
    };
    for name in ["CT_small.dcm", "MR_small.dcm"] {
        let mut storescu = dcmtk("storescu");
        storescu
            .args(["-aec", "PACS", "127.0.0.1", &server.port.to_string()])
            .arg(files.join(name));
        succeed(storescu);
    }
    const SHARED: &str = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322";
    const OTHER: &str = "1.3.6.1.4.1.5962.1.2.4.20040826185059.5457";
    let arguments = [
        "--config",
        &configuration,
        "share",
        SHARED,
        "--days",
        "1",
        "--name",
        "practice",
    ];
    let (code, link) = run(&data, &arguments);
    assert_eq!(code, 0);
    let token = link
        .trim()
        .split_once("#token=")
        .expect("it has a token")
        .1
        .to_owned();
    let got = |path: &str| {
        let mut curl = peer("curl").expect("is there");
        curl.args([
            "-s",
            "-w",
            "\n%{http_code}",
            "-H",
            &format!("Authorization: Bearer {token}"),
        ]);
        curl.arg(format!("{}/{path}", server.dicomweb()));
        let said = succeed(curl);
        let (body, status) = said.rsplit_once('\n').expect("it has a status");
        (status.to_owned(), body.to_owned())
    };
    let (status, body) = got("studies");
    assert!(
        status == "200" && body.contains(SHARED) && !body.contains(OTHER),
        "{status}"
    );
    assert_eq!(got(&format!("studies/{SHARED}/metadata")).0, "200");
    assert_eq!(got(&format!("studies/{OTHER}/metadata")).0, "404");
    assert_eq!(got("workitems").0, "403");
    let take_back = |name: &str| {
        let arguments = ["--config", &configuration, "share", "--take-back", name];
        assert_eq!(run(&data, &arguments).0, 0);
    };
    take_back("another");
    assert_eq!(got("studies").0, "200");
    take_back("practice");
    assert_eq!(got("studies").0, "401");
}
