//! The real server over TLS, with certificates of `pacs-server certs`: OpenSSL, DCMTK and curl.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use common::{Server, directory, free_port, peer, pydicom_files, run_all, succeed};

/// A folder with certificates, and a configuration that uses them.
struct Room {
    folder: TempDir,
}

impl Room {
    fn new() -> Self {
        let folder = directory();
        let (code, _, said) = run_all(
            &folder.path().join("data"),
            &["certs", &folder.path().join("certs").to_string_lossy()],
        );
        assert_eq!(code, 0, "{said}");
        Self { folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("certs").join(name)
    }

    fn configuration(&self, more: &str) -> PathBuf {
        let path = self.folder.path().join("pacs.toml");
        let quoted = |name: &str| format!("{:?}", self.file(name).to_string_lossy());
        let text = format!(
            "[tls]\ncertificate = {}\nkey = {}\nauthorities = {}\n{more}",
            quoted("server.pem"),
            quoted("server-key.pem"),
            quoted("ca.pem"),
        );
        fs::write(&path, text).expect("can be written");
        path
    }

    fn start(&self, more: &str) -> Server {
        let configuration = self.configuration(more);
        Server::start(
            &self.folder.path().join("data"),
            &["--config", &configuration.to_string_lossy()],
        )
    }

    /// What `openssl s_client` says of a handshake, and whether it was one.
    fn handshake(&self, port: u16, arguments: &[&str]) -> Option<(bool, String)> {
        let mut openssl = peer("openssl")?;
        openssl
            .args(["s_client", "-brief", "-connect", &format!("127.0.0.1:{port}")])
            .arg("-CAfile")
            .arg(self.file("ca.pem"))
            .args(["-verify_return_error"])
            .args(arguments);
        let output = openssl.output().expect("openssl runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Some((output.status.success(), said))
    }
}

fn echo(port: u16, arguments: &[&str], folder: &Path) -> bool {
    let mut echoscu = common::dcmtk("echoscu");
    echoscu.current_dir(folder).args(arguments);
    echoscu.args(["-aec", "PACS", "127.0.0.1", &port.to_string()]);
    echoscu.stdout(Stdio::null()).stderr(Stdio::null());
    echoscu.status().expect("echoscu runs").success()
}

#[test]
fn openssl_comes_in_with_a_certificate_and_nobody_with_weak_or_foreign_ones() {
    let room = Room::new();
    let server = room.start("");
    let own = |name: &str| {
        let (certificate, key) = (
            room.file(&format!("{name}.pem")),
            room.file(&format!("{name}-key.pem")),
        );
        [
            "-cert".to_owned(),
            certificate.to_string_lossy().into_owned(),
            "-key".to_owned(),
            key.to_string_lossy().into_owned(),
        ]
    };
    let with = |own: &[String; 4], more: &[&str]| {
        let mut arguments: Vec<&str> = own.iter().map(String::as_str).collect();
        arguments.extend(more);
        room.handshake(server.port, &arguments)
    };
    let client = own("client");
    let Some((is_secure, said)) = with(&client, &[]) else {
        return;
    };
    assert!(is_secure && said.contains("TLSv1.3"), "{said}");
    for suite in [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    ] {
        let (is_secure, said) = with(&client, &["-tls1_2", "-cipher", suite]).expect("openssl is there");
        assert!(is_secure && said.contains(suite), "{suite}: {said}");
    }
    // What is weak, each where the client would take it.
    for weak in [
        &["-tls1"][..],
        &["-tls1_1"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "eNULL:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "aNULL:@SECLEVEL=0"],
    ] {
        let mut weak = weak.to_vec();
        if !weak.contains(&"-cipher") {
            weak.extend(["-cipher", "ALL:@SECLEVEL=0"]);
        }
        let (is_secure, said) = with(&client, &weak).expect("openssl is there");
        assert!(
            !is_secure && !said.contains("CONNECTION ESTABLISHED"),
            "{weak:?}: {said}"
        );
    }
    // Who shows none, or one of another authority.
    let (is_secure, said) = room
        .handshake(server.port, &["-tls1_2"])
        .expect("openssl is there");
    assert!(!is_secure, "{said}");
    let foreign = Room::new();
    let (certificate, key) = (foreign.file("client.pem"), foreign.file("client-key.pem"));
    let foreign = [
        "-cert",
        &certificate.to_string_lossy(),
        "-key",
        &key.to_string_lossy(),
        "-tls1_2",
    ]
    .map(str::to_owned);
    let arguments: Vec<&str> = foreign.iter().map(String::as_str).collect();
    let (is_secure, said) = room.handshake(server.port, &arguments).expect("openssl is there");
    assert!(!is_secure, "{said}");
}

#[test]
fn dcmtk_stores_over_mutual_tls_and_without_it_only_where_plain_is_allowed() {
    let (Some(files), Some(mut storescu)) = (pydicom_files(), peer("storescu")) else {
        return;
    };
    let room = Room::new();
    let server = room.start("");
    let certs = room.folder.path().join("certs");
    storescu
        .current_dir(&certs)
        .args(["+tls", "client-key.pem", "client.pem", "+cf", "ca.pem"])
        .args(["-aec", "PACS", "127.0.0.1", &server.port.to_string()])
        .arg(files.join("CT_small.dcm"));
    succeed(storescu);
    let secure = &["+tls", "client-key.pem", "client.pem", "+cf", "ca.pem"][..];
    assert!(echo(server.port, secure, &certs));
    assert!(!echo(server.port, &["+tla", "+cf", "ca.pem"], &certs));
    assert!(!echo(server.port, &[], &certs));
    let (code, printed) = {
        assert!(server.stop().success());
        common::run(&room.folder.path().join("data"), &["stats"])
    };
    assert_eq!((code, common::count(&printed, "instances")), (0, 1), "{printed}");

    let both = room.start("plain = [\"dicom\"]\n");
    assert!(echo(both.port, &[], &certs));
    assert!(echo(both.port, secure, &certs));
}

#[test]
fn a_c_move_goes_over_tls_to_a_peer_that_is_called_so() {
    let (Some(files), Some(mut storescp)) = (pydicom_files(), peer("storescp")) else {
        return;
    };
    let room = Room::new();
    let (certs, destination) = (room.folder.path().join("certs"), free_port());
    let received = room.folder.path().join("received");
    fs::create_dir(&received).expect("can be made");
    // It shows the server's certificate, which is for 127.0.0.1, and wants to see one of the authority.
    storescp
        .current_dir(&certs)
        .args([
            "+tls",
            "server-key.pem",
            "server.pem",
            "+cf",
            "ca.pem",
            "-aet",
            "DESTINATION",
            "-od",
        ])
        .arg(&received)
        .arg(destination.to_string());
    let mut storescp = common::Peer(storescp.spawn().expect("storescp starts"));
    let server = room.start(&format!(
        "plain = [\"dicom\"]\n[[peer]]\nae-title = \"DESTINATION\"\nhost = \"127.0.0.1\"\nport = {destination}\ntls = true\n"
    ));
    let port = server.port.to_string();
    let mut storescu = common::dcmtk("storescu");
    storescu
        .args(["-aec", "PACS", "127.0.0.1", &port])
        .arg(files.join("CT_small.dcm"));
    succeed(storescu);
    storescp.until(|| {
        echo(
            destination,
            &["+tls", "client-key.pem", "client.pem", "+cf", "ca.pem"],
            &certs,
        )
    });
    let mut movescu = common::dcmtk("movescu");
    movescu.args([
        "-S",
        "-aec",
        "PACS",
        "-aem",
        "DESTINATION",
        "-k",
        "QueryRetrieveLevel=STUDY",
        "-k",
        "StudyInstanceUID=1.3.6.1.4.1.5962.1.2.1.20040119072730.12322",
        "127.0.0.1",
        &port,
    ]);
    succeed(movescu);
    let count = fs::read_dir(&received).expect("is there").count();
    assert_eq!(count, 1);
}

#[test]
fn curl_reads_over_https_what_it_is_given_the_authority_of() {
    let Some(mut curl) = peer("curl") else {
        return;
    };
    let room = Room::new();
    let server = room.start("");
    assert!(server.http.starts_with("https://127.0.0.1:"), "{}", server.http);
    let url = format!("{}/studies", server.dicomweb());
    curl.args(["--silent", "--fail", "--show-error", "--cacert"])
        .arg(room.file("ca.pem"))
        .args(["-H", "Accept: application/dicom+json", &url]);
    succeed(curl);
    let refused = |arguments: &[&str], url: &str| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail"]).args(arguments).arg(url);
        let status = curl.stdout(Stdio::null()).status().expect("curl runs");
        !status.success()
    };
    assert!(refused(&[], &url), "nobody believes a test's authority");
    assert!(
        refused(&[], &url.replace("https://", "http://")),
        "TLS is asked for"
    );
}

#[test]
fn certificates_are_made_anew_by_the_authority_that_is_there_and_keys_are_secret() {
    use std::os::unix::fs::PermissionsExt as _;
    let room = Room::new();
    let read = |name: &str| fs::read(room.file(name)).expect("is there");
    let (authority, server) = (read("ca.pem"), read("server.pem"));
    for name in ["ca-key.pem", "server-key.pem", "client-key.pem"] {
        let mode = fs::metadata(room.file(name))
            .expect("is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
    let certs = room.folder.path().join("certs");
    let again = |arguments: &[&str]| {
        let mut all = vec!["certs"];
        let folder = certs.to_string_lossy();
        all.push(&folder);
        all.extend(arguments);
        run_all(&room.folder.path().join("data"), &all)
    };
    let (code, printed, said) = again(&["--host", "pacs.example", "--client", "ct1", "--client", "ct2"]);
    assert_eq!(code, 0, "{said}");
    // What is printed is a configuration, and nothing else.
    assert!(said.contains("pacs.example"), "{said}");
    let table: toml::Table = printed.parse().expect("is TOML");
    assert!(table.contains_key("tls"), "{printed}");
    assert_eq!(read("ca.pem"), authority);
    assert_ne!(read("server.pem"), server);
    assert!(!read("ct2.pem").is_empty());
    for name in ["server", "ca", "", "a/b", "..", "a b", "server-key"] {
        let (code, _, _) = again(&["--client", name]);
        assert_eq!(code, 2, "{name:?}");
    }
    for host in [
        "",
        "https://pacs.example",
        "pacs.example:8080",
        "pacs example",
        ".",
    ] {
        let (code, _, _) = again(&["--host", host]);
        assert_eq!(code, 2, "{host:?}");
    }
}
