//! Resource attacks on the real server, each beside four honest senders: those finish, nothing of theirs is lost, and the
//! server's memory stays small. At what rate: `cargo run --release -p load-bench -- attacks`.
//!
//! Attackers come from an address of their own, as Linux has all of 127.0.0.0/8.
//! `PACS_ATTACKS` names those that are tried, by the names that are printed; all by default.
#![cfg(target_os = "linux")]

mod attack;
#[path = "../common/mod.rs"]
mod common;
mod honest;

use std::net::Ipv4Addr;

use futures::future::try_join_all;
use pacs_core::AeTitle;
use pacs_net::hl7::{self, Message, SenderOptions};
use pacs_net::scu::Remote;

use attack::{Attack, Target};
use common::{Server, directory, free_port, tell};
use honest::Sender;

/// What the server may take: that of an idle one of its kind is some 30 MiB, of a busy one below 256 MiB.
const PEAK_MAX_BYTES: u64 = 512 * 1024 * 1024;

const SENDERS: u64 = 4;

/// What each sends beside one attack.
const INSTANCES: u64 = 10;

#[test]
fn beside_each_attack_four_senders_finish_nothing_is_lost_and_memory_stays_small() {
    let directory = directory();
    let hl7_port = free_port();
    let configuration = directory.path().join("configuration.toml");
    let text = format!("[limits]\nassociations = 200\n[hl7]\nport = {hl7_port}\n");
    std::fs::write(&configuration, text).expect("can be written");
    let configuration = configuration.to_str().expect("a temporary path is plain");
    let data = directory.path().join("data");
    let mut server = Server::start(&data, &["--config", configuration]);
    let http = server.http.trim_start_matches("http://").trim_end_matches('/');
    let target = Target {
        dicom: (Ipv4Addr::LOCALHOST, server.port).into(),
        http: http.parse().expect("an address"),
        hl7: (Ipv4Addr::LOCALHOST, hl7_port).into(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("the runtime starts");
    let title = |text| AeTitle::parse(text).expect("is an AE title");
    let remote = Remote::new("127.0.0.1", server.port, title("PACS"), title("HONEST"));
    let senders: Vec<Sender> = (0..SENDERS)
        .map(|number| Sender {
            remote: remote.clone(),
            target,
            number,
        })
        .collect();
    let mut sent = 0;
    let mut send = |count| {
        let numbers = sent..sent + count;
        sent += count;
        let all = try_join_all(senders.iter().map(|sender| sender.send(numbers.clone())));
        runtime.block_on(all)
    };
    // Something for those who ask for much and read nothing.
    send(100).expect("all are sent");
    let wanted = std::env::var("PACS_ATTACKS").unwrap_or_default();
    for attack in Attack::ALL {
        let name = format!("{attack:?}");
        if !wanted.is_empty() && !wanted.split(',').any(|one| one == name) {
            continue;
        }
        server.forget_peak_memory();
        let running = runtime.block_on(attack.begin(target));
        let outcome = send(INSTANCES);
        outcome.unwrap_or_else(|error| panic!("beside {name} a sender fails: {error}"));
        runtime.block_on(is_answered(target, &remote));
        let peak = server.peak_memory();
        tell(&format!("{name:<16} peak {:>4} MiB", peak >> 20));
        assert!(server.runs(), "{name} ended the server");
        assert!(peak < PEAK_MAX_BYTES, "{name}: the peak is {} MiB", peak >> 20);
        drop(running);
    }
    let all = try_join_all(senders.iter().map(|sender| sender.check(0..sent)));
    runtime.block_on(all).expect("all comes back as it was sent");
    assert!(server.stop().success());
    // What honest senders were told is kept is there again, and no half of anything else.
    let (code, printed) = common::run(&data, &["verify"]);
    assert_eq!(code, 0, "{printed}");
    let server = Server::start(&data, &["--config", configuration]);
    let mut senders = senders;
    for sender in &mut senders {
        sender.remote = Remote::new("127.0.0.1", server.port, title("PACS"), title("HONEST"));
    }
    let all = try_join_all(senders.iter().map(|sender| sender.check(0..sent)));
    runtime.block_on(all).expect("all is there after a restart");
}

/// Every door is open to who comes from elsewhere.
async fn is_answered(target: Target, remote: &Remote) {
    let status = remote.echo().await.expect("an association is accepted");
    assert_eq!(status, pacs_net::dimse::Status::SUCCESS);
    let message = "MSH|^~\\&|HIS|A|PACS|B|20240101101500||ADT^A08|1|P|2.5\rEVN|A08\rPID|||999^^^A||OTHER^ONE||19700131|F\r";
    let message = Message::from_text(message).expect("a message");
    let sender = hl7::Sender::new("127.0.0.1", target.hl7.port(), SenderOptions::default());
    sender.send(&message).await.expect("a message is taken");
    let response = tokio::net::TcpStream::connect(target.http).await;
    let mut stream = response.expect("a connection is accepted");
    let request = format!(
        "GET /dicom-web/studies?limit=1 HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        target.http
    );
    let mut answer = Vec::new();
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes())
        .await
        .expect("is sent");
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer)
        .await
        .expect("is answered");
    assert!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&answer[..answer.len().min(100)])
    );
}
