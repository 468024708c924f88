//! HL7 messages over MLLP: our listener and our sender, and `mllp_send` of the Python package hl7.
#![allow(clippy::print_stderr)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use pacs_core::{ErrorKind, Retry};
use pacs_net::hl7::ack::Condition;
use pacs_net::hl7::{Fault, Handler, Incoming, Message, Sender, SenderOptions, Server, ServerOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Takes what is accepted, refuses what says so in MSH-6, and panics where that is asked for.
#[derive(Default)]
struct Keeper {
    taken: Mutex<Vec<String>>,
    /// Is told of each message that says "wait", which is answered when the other is told.
    waiting: Notify,
    go_on: Notify,
}

impl Handler for Keeper {
    fn handle(&self, incoming: Incoming) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let message = incoming.message?;
            match message.get("MSH-6").as_deref() {
                Some("panic") => panic!("as asked for"),
                Some("refuse") => {
                    return Err(Fault::error(
                        Condition::UnknownKey,
                        "no such thing as 4711 of Doe",
                    ));
                }
                Some("wait") => {
                    self.waiting.notify_one();
                    self.go_on.notified().await;
                }
                _ => {}
            }
            self.taken.lock().unwrap().push(message.get("MSH-10").unwrap());
            Ok(())
        })
    }
}

struct Running {
    address: SocketAddr,
    keeper: Arc<Keeper>,
    stop: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Running {
    async fn with(options: ServerOptions) -> Self {
        let keeper = Arc::new(Keeper::default());
        let handler: Arc<dyn Handler> = keeper.clone();
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), handler, options)
            .await
            .unwrap();
        let address = server.address().unwrap();
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(server.run(async move { stopped.notified().await }, Duration::from_secs(10)));
        Self {
            address,
            keeper,
            stop,
            task,
        }
    }

    async fn new() -> Self {
        Self::with(ServerOptions::default()).await
    }

    fn sender(&self) -> Sender {
        Sender::new("127.0.0.1", self.address.port(), SenderOptions::default())
    }

    async fn end(self) -> Vec<String> {
        self.stop.notify_one();
        self.task.await.unwrap();
        self.keeper.taken.lock().unwrap().clone()
    }
}

fn message(id: &str, receiver: &str) -> Message {
    let text = format!(
        "MSH|^~\\&|RIS|HOSP|PACS|{receiver}|20240229||ADT^A08|{id}|P|2.5.1||||||UNICODE UTF-8\rPID|||4711||Doe^Jane\r"
    );
    Message::parse(text.as_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_acknowledged_over_one_connection_and_a_panic_costs_only_its_own() {
    let running = Running::new().await;
    let sender = running.sender();
    sender.send(&message("1", "")).await.unwrap();
    let refused = sender.send(&message("2", "refuse")).await.unwrap_err();
    assert_eq!(
        (refused.kind(), refused.retry()),
        (ErrorKind::Refused, Retry::Never)
    );
    // What the receiver says, without what identifies the patient.
    assert_eq!(
        refused.context(),
        "the receiver answered AE: 204 Unknown key identifier; no such thing as … of …"
    );
    let panicked = sender.send(&message("3", "panic")).await.unwrap_err();
    assert!(
        panicked.context().starts_with("the receiver answered AR: 207"),
        "{panicked}"
    );
    let answer = sender.send(&message("4", "")).await.unwrap();
    assert_eq!(answer.get("MSA-2").as_deref(), Some("4"));
    assert_eq!(running.end().await, ["1", "4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dealt_with_when_the_server_stops_is_answered() {
    let running = Running::new().await;
    let sender = Arc::new(running.sender());
    let sending = tokio::spawn({
        let sender = Arc::clone(&sender);
        async move { sender.send(&message("1", "wait")).await }
    });
    running.keeper.waiting.notified().await;
    running.stop.notify_one();
    running.keeper.go_on.notify_one();
    sending.await.unwrap().unwrap();
    assert_eq!(running.end().await, ["1"]);
    // The kept connection is closed, and nobody listens.
    let gone = sender.send(&message("2", "")).await.unwrap_err();
    // As far as the closing has come to it.
    assert!(matches!(gone.kind(), ErrorKind::Io | ErrorKind::Closed), "{gone}");
    assert_eq!(gone.retry(), Retry::Later);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_the_receiver_closed_is_opened_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let closed = Arc::new(Notify::new());
    let receiver = tokio::spawn({
        let closed = Arc::clone(&closed);
        async move {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut message = [0; 1024];
                let length = stream.read(&mut message).await.unwrap();
                let text = String::from_utf8_lossy(&message[..length]).into_owned();
                let id = text.split('|').nth(9).unwrap().to_owned();
                // An answer to something else comes first.
                let answers = format!(
                    "\x0BMSH|^~\\&|||||||ACK|1|P|2.5\rMSA|AE|other\r\x1C\r\x0BMSH|^~\\&|||||||ACK|2|P|2.5\rMSA|AA|{id}\r\x1C\r"
                );
                stream.write_all(answers.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
                // The other end has seen the end of the stream before it closes.
                while stream.read(&mut message).await.is_ok_and(|length| length > 0) {}
                closed.notify_one();
            }
        }
    });
    let sender = Sender::new("127.0.0.1", port, SenderOptions::default());
    sender.send(&message("1", "")).await.unwrap();
    let second = tokio::spawn(async move { sender.send(&message("2", "")).await });
    closed.notified().await;
    second.await.unwrap().unwrap();
    receiver.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_answer_or_goes_in_the_middle_is_to_be_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = SenderOptions {
        answer: Duration::from_millis(50),
        ..SenderOptions::default()
    };
    let sender = Sender::new("127.0.0.1", listener.local_addr().unwrap().port(), options);
    let silent = sender.send(&message("1", "")).await.unwrap_err();
    assert_eq!(
        (silent.kind(), silent.retry()),
        (ErrorKind::TimedOut, Retry::Later)
    );
    let (silent, _) = listener.accept().await.unwrap();
    let going = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut piece = [0; 16];
        stream.read_exact(&mut piece).await.unwrap();
    });
    let sender = Sender::new("127.0.0.1", sender_port(&silent), SenderOptions::default());
    let gone = sender.send(&message("2", "")).await.unwrap_err();
    assert_eq!(gone.retry(), Retry::Later);
    going.await.unwrap();
}

fn sender_port(stream: &TcpStream) -> u16 {
    stream.local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_senders_are_answered_or_let_go_and_cost_nobody_else_anything() {
    let options = ServerOptions {
        message_length_max: 2000,
        transfer: Duration::from_millis(200),
        idle: Duration::from_millis(200),
        ..ServerOptions::default()
    };
    let running = Running::with(options).await;
    let header = "MSH|^~\\&|RIS||||||ADT^A08|9|P|2.5\r";
    let long = format!("\x0B{header}{}", "X".repeat(5000));
    for (sent, answered) in [
        // Too long: answered by its header, then let go.
        (
            long.as_str(),
            Some("MSA|AR|9|the message is longer than 2000 bytes"),
        ),
        // No message: answered as far as there is a header.
        (
            "\x0BMSH|^~\\&|RIS||||||ADT^A08|9|P|2.5\rgarbage\x1C\r",
            Some("MSA|AR|9|a segment does not begin with its name"),
        ),
        (
            "\x0BMSH|^~\\&|RIS||||||ADT^A08|9|P|2.5||||||KLINGON\r\x1C\r",
            Some("MSA|AR|9|MSH-18 names a character set"),
        ),
        ("\x0Bgarbage\x1C\r", None),
        ("GET / HTTP/1.1\r\n\r\n", None),
        // Never ends.
        ("\x0BMSH|", None),
        ("", None),
    ] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // It ends by itself, where need be as nothing comes any more. A reset is an end, too.
        let _ = stream.read_to_end(&mut answer).await;
        let text = String::from_utf8_lossy(&answer).into_owned();
        match answered {
            Some(expected) => assert!(text.contains(expected), "{sent}: {text}"),
            None => assert_eq!(text, "", "{sent}"),
        }
    }
    running.sender().send(&message("1", "")).await.unwrap();
    assert_eq!(running.end().await, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mllp_send_is_answered() {
    let venv = std::env::var_os("PACS_PEERS_VENV").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/peers-venv"),
        PathBuf::from,
    );
    let program = venv.join("bin/mllp_send");
    if !program.exists() {
        assert!(
            std::env::var_os("PACS_REQUIRE_PEERS").is_none_or(|value| value != "1"),
            "mllp_send is required and not installed"
        );
        eprintln!("skipped: mllp_send is not installed (.ci/peers)");
        return;
    }
    let running = Running::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("message.hl7");
    std::fs::write(&file, message("ID-1", "").text()).unwrap();
    let port = running.address.port().to_string();
    let output = tokio::task::spawn_blocking(move || {
        Command::new(program)
            .args(["--loose", "--file"])
            .arg(file)
            .args(["--port", &port, "127.0.0.1"])
            .output()
            .unwrap()
    });
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("MSA|AA|ID-1"), "{said}");
    assert_eq!(running.end().await, ["ID-1"]);
}
