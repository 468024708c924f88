//! Against DCMTK, where it is installed.
#![allow(clippy::print_stderr)]

#[path = "support/port.rs"]
mod port;
mod support;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pacs_core::Result;
use pacs_net::dimse::*;
use pacs_net::transport::{Acceptor, Connection, accept, connect_tcp};
use port::free_port;
use support::*;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Whether the program is installed. A missing one is reported, and is a failure where peers are
/// required.
fn installed(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        assert!(
            std::env::var_os("PACS_REQUIRE_PEERS").is_none_or(|value| value != "1"),
            "{program} is required and not installed"
        );
        eprintln!("skipped: {program} is not installed (Debian package dcmtk)");
    }
    found
}

/// Serves one association on a free port.
async fn server(services: Arc<dyn Services>) -> (SocketAddr, JoinHandle<Result<Ended>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let association = accept(Connection::tcp(stream), &Acceptor::new(policy())).await?;
        serve(association, services).await
    });
    (address, task)
}

/// Runs a client of DCMTK to its end; answers what it wrote.
async fn run(program: &'static str, arguments: Vec<String>) -> (bool, String) {
    let output = tokio::task::spawn_blocking(move || {
        Command::new(program)
            .args(arguments)
            .env("TCP_NODELAY", "1")
            .output()
            .unwrap()
    })
    .await
    .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn echoscu_is_answered_with_128_contexts_and_several_echoes() {
    if !installed("echoscu") {
        return;
    }
    for arguments in [
        "-v",
        "-v --propose-pc 128",
        "-v --propose-ts 38 --repeat 5",
        "-v --abort",
        "-v -pdu 4096",
    ] {
        let (address, served) = server(Arc::new(NoServices)).await;
        let mut arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        arguments.extend(["127.0.0.1".to_owned(), address.port().to_string()]);
        let aborting = arguments.iter().any(|argument| argument == "--abort");
        let (success, text) = run("echoscu", arguments).await;
        assert!(success, "{text}");
        assert!(text.contains("Received Echo Response (Success)"), "{text}");
        let ended = served.await.unwrap().unwrap();
        assert_eq!(matches!(ended, Ended::Aborted(_)), aborting, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn echoscu_understands_why_it_is_rejected() {
    if !installed("echoscu") {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut policy = policy();
        policy.ae_titles = vec![title("PACS")];
        accept(Connection::tcp(stream), &Acceptor::new(policy))
            .await
            .map(drop)
    });
    let arguments = ["-v", "-aec", "OTHER", "127.0.0.1", &port.to_string()].map(str::to_owned);
    let (success, text) = run("echoscu", arguments.into()).await;
    assert!(!success);
    assert!(text.contains("Called AE Title Not Recognized"), "{text}");
    assert!(served.await.unwrap().is_err());
}

/// A small CT in Explicit VR Little Endian.
fn ct() -> Vec<u8> {
    let mut set = Vec::new();
    let mut put = |group: u16, element: u16, vr: &[u8; 2], value: &[u8]| {
        set.extend_from_slice(&group.to_le_bytes());
        set.extend_from_slice(&element.to_le_bytes());
        set.extend_from_slice(vr);
        if vr == b"OW" {
            set.extend_from_slice(&[0, 0]);
            set.extend_from_slice(&(value.len() as u32).to_le_bytes());
        } else {
            set.extend_from_slice(&(value.len() as u16).to_le_bytes());
        }
        set.extend_from_slice(value);
    };
    put(0x0008, 0x0016, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0");
    put(0x0008, 0x0018, b"UI", b"1.2.3.4\0");
    put(0x0010, 0x0010, b"PN", b"A^B ");
    put(0x0010, 0x0020, b"LO", b"ID");
    put(0x0020, 0x000D, b"UI", b"1.2.3\0");
    put(0x0020, 0x000E, b"UI", b"1.2.3.1\0");
    put(0x7FE0, 0x0010, b"OW", &vec![7; 700_000]);
    set
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storescp_takes_what_we_send_byte_for_byte() {
    if !installed("storescp") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut peer = Command::new("storescp")
        .args(["--bit-preserving", "-od"])
        .arg(folder.path())
        .arg(port.to_string())
        .env("TCP_NODELAY", "1")
        .spawn()
        .unwrap();
    let mut proposal = proposal();
    proposal.request_mut().contexts.clear();
    let proposal = proposal
        .with_context(VERIFICATION, [&IMPLICIT])
        .with_context(CT, [&EXPLICIT])
        .with_asynchronous(8, 1);
    let open = async {
        loop {
            // Refused until the peer listens; a connection is the event.
            match connect_tcp(("127.0.0.1", port), &proposal).await {
                Ok(association) => return association,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let association = tokio::time::timeout(Duration::from_secs(30), open).await.unwrap();
    let client = Client::start(association, Arc::new(NoServices));
    assert_eq!(client.echo().await.unwrap(), Status::SUCCESS);
    assert_eq!(
        client.negotiated().outgoing_operations,
        1,
        "DCMTK doesn't negotiate a window"
    );
    let request = StoreRequest::new(client.context_for(&CT).unwrap().id, CT, uid("1.2.3.4"));
    let pieces: Vec<_> = ct()
        .chunks(33_333)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    let response = client
        .store(request, futures::stream::iter(pieces))
        .await
        .unwrap();
    assert_eq!(response.status(), Status::SUCCESS);
    client.release().await.unwrap();
    peer.kill().unwrap();
    peer.wait().unwrap();
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap();
    assert!(std::fs::read(file.path()).unwrap().ends_with(&ct()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storescu_sends_what_we_take_byte_for_byte() {
    if !installed("storescu") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ct.dcm");
    // DCMTK reads a bare data set too.
    std::fs::write(&path, ct()).unwrap();
    for pdu in ["4096", "131072"] {
        let keeper = Arc::new(Keeper::default());
        let (address, served) = server(keeper.clone()).await;
        let mut arguments = ["-v", "-d", "-xe", "--max-send-pdu", pdu, "127.0.0.1"]
            .map(str::to_owned)
            .to_vec();
        arguments.extend([address.port().to_string(), path.to_string_lossy().into_owned()]);
        let (success, text) = run("storescu", arguments).await;
        assert!(success, "{text}");
        assert_eq!(served.await.unwrap().unwrap(), Ended::Released);
        let taken = keeper.taken();
        assert_eq!(taken.len(), 1);
        assert!(taken[0] == ct(), "{} bytes of {}", taken[0].len(), ct().len());
    }
}
