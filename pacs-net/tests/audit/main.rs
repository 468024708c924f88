//! The audit trail on its way to repositories: rsyslog over UDP, TCP and mutual TLS, and receivers that break off.
//!
//! `PACS_SEED` sets the first seed of what receivers do, `PACS_FAULT_RUNS` how often they do it.
// What is drawn by is said.
#![allow(clippy::print_stderr)]

#[path = "../tls/authority.rs"]
mod authority;
#[path = "../support/port.rs"]
mod port;
#[path = "../support/rsyslog.rs"]
mod rsyslog;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use pacs_core::audit::{AuditQueue, AuditSource, AuditTrail, Message, Participant, Recorded};
use pacs_core::testkit::random::Random;
use pacs_net::audit::{Origin, Repository, Sender, SenderOptions, Transport};
use pacs_net::tls::{Connector, Credentials, Files};
use pacs_store::{AuditLog, AuditLogOptions};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use authority::{Authority, Wanted};
use port::free_port;
use rsyslog::{By, Rsyslog};

fn open(directory: &Path) -> Arc<AuditLog> {
    let place = directory.join("audit");
    let options = AuditLogOptions {
        // Several files.
        file_bytes: 64 * 1024,
        ..AuditLogOptions::default()
    };
    Arc::new(AuditLog::open(place, AuditSource::new("PACS"), options).unwrap())
}

/// Closes a log, once nobody reads it any more: what runs on a thread of its own ends after the task that it is of.
async fn closed(log: Arc<AuditLog>) {
    while Arc::strong_count(&log) > 1 {
        tokio::task::yield_now().await;
    }
}

/// Messages of any length that there is, each different.
fn record(log: &AuditLog, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let name = match number % 10 {
            0 => "Müller^山田^😀\t\n".repeat(20),
            _ => "x".repeat((number % 400) as usize),
        };
        let mut who = Participant::person(format!("node {number}")).named(name);
        if number % 25 == 0 {
            who = who.also_known_as("\"".repeat(80));
        }
        log.record(&Message::network_entry(true, who)).unwrap();
    }
}

/// One that is as long as messages are.
fn record_a_long_one(log: &AuditLog) {
    use pacs_core::Uid;
    use pacs_core::audit::{Action, Patient, Study, Subject};
    let mut study = Study::new(Uid::parse("1.2.3").unwrap());
    for number in 0..2000 {
        let class = Uid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap();
        study.add(
            class,
            Uid::parse(&format!("1.2.3.{}.{number}", "4".repeat(50))).unwrap(),
        );
    }
    let subject = Subject::new(Patient::new("P", "N"), [study]);
    let message = Message::instances_accessed(Action::Read, [Participant::person("u")], subject);
    log.record(&message).unwrap();
}

fn all(log: &AuditLog) -> Vec<Recorded> {
    log.read(0, usize::MAX).unwrap()
}

fn origin() -> Origin {
    Origin::new("host.example", "pacs-test", 4711)
}

/// The syslog message of a record, as RFC 5424 and PS3.15 A.6 have it.
fn expected(recorded: &Recorded) -> String {
    let document = std::str::from_utf8(&recorded.document).unwrap();
    let time = recorded.time.rfc3339();
    format!("<85>1 {time} host.example pacs-test 4711 DICOM+RFC3881 - \u{FEFF}{document}")
}

fn quick() -> SenderOptions {
    SenderOptions {
        retry_min: Duration::from_millis(20),
        retry_max: Duration::from_millis(200),
        quiet: Duration::from_millis(50),
        stop: Duration::from_secs(60),
        ..SenderOptions::default()
    }
}

fn repository(transport: Transport, port: u16) -> Repository {
    Repository {
        transport,
        host: "127.0.0.1".to_owned(),
        port,
    }
}

fn sender(log: &Arc<AuditLog>, repository: &Repository, tls: &Connector) -> Sender {
    let queue = Arc::clone(log) as Arc<dyn AuditQueue>;
    Sender::new(queue, repository.clone(), tls.clone(), origin(), quick())
}

/// A sender that runs until it is told to stop.
struct Running(JoinHandle<()>, oneshot::Sender<()>);

impl Running {
    fn start(log: &Arc<AuditLog>, repository: &Repository, tls: &Connector) -> Self {
        let (stop, stopped) = oneshot::channel();
        let sender = sender(log, repository, tls);
        Self(tokio::spawn(sender.run(stopped.map(|_| ()))), stop)
    }

    async fn stop(self) {
        drop(self.1);
        self.0.await.unwrap();
    }

    /// In the middle of whatever it does.
    async fn kill(self) {
        self.0.abort();
        let _ = self.0.await;
    }
}

/// Certificates of a repository and of a client, by one authority; and a client's by another.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        let (ours, other) = (Authority::new("Hospital CA"), Authority::new("Other CA"));
        ours.write(&room.file("ca.pem"));
        let both = Wanted::default();
        ours.certify(
            "repository",
            both,
            &room.file("repository.pem"),
            &room.file("repository-key.pem"),
        );
        ours.certify("pacs", both, &room.file("pacs.pem"), &room.file("pacs-key.pem"));
        other.certify(
            "pacs",
            both,
            &room.file("foreign.pem"),
            &room.file("foreign-key.pem"),
        );
        room
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn connector(&self, name: &str) -> Connector {
        let files = Files {
            certificate: Some(self.file(&format!("{name}.pem"))),
            key: Some(self.file(&format!("{name}-key.pem"))),
            authorities: Some(self.file("ca.pem")),
        };
        Connector::new(&Credentials::read(files).unwrap()).unwrap()
    }
}

/// Takes from a repository until all are there; those that come again are left out. Each comes for the first time in its order.
fn arrived(repository: &mut Rsyslog, wanted: &[String]) {
    let mut known = BTreeSet::new();
    let mut again = 0;
    let mut next = wanted.iter().enumerate();
    while known.len() < wanted.len() {
        let message = repository.next();
        if known.contains(&message) {
            again += 1;
            continue;
        }
        let (number, expected) = next.next().unwrap();
        // What it says is no patient's here, and it is long.
        assert!(
            message == *expected,
            "message {number} is another: {} bytes for {}",
            message.len(),
            expected.len()
        );
        known.insert(message);
    }
    eprintln!("{} messages arrived, {again} of them again", wanted.len());
}

async fn arrives_byte_for_byte(transport: Transport, by: By<'_>, tls: Connector) {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut rsyslog) = Rsyslog::new(directory.path(), by, free_port()) else {
        return;
    };
    rsyslog.start();
    let log = open(directory.path());
    let sender = Running::start(&log, &repository(transport, rsyslog.port), &tls);
    record(&log, 1..150);
    record_a_long_one(&log);
    let wanted: Vec<String> = all(&log).iter().map(expected).collect();
    assert_eq!(wanted.len(), 150);
    tokio::task::block_in_place(|| arrived(&mut rsyslog, &wanted));
    sender.stop().await;
    assert_eq!(log.sent(), 150);
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_gets_every_message_byte_for_byte_over_udp() {
    arrives_byte_for_byte(Transport::Udp, By::Udp, Connector::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_gets_every_message_byte_for_byte_over_tcp() {
    arrives_byte_for_byte(Transport::Tcp, By::Tcp, Connector::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_gets_every_message_byte_for_byte_over_mutual_tls() {
    let room = Certificates::new();
    let files = ["repository.pem", "repository-key.pem", "ca.pem"].map(|name| room.file(name));
    let by = By::Tls([&files[0], &files[1], &files[2]]);
    arrives_byte_for_byte(Transport::Tls, by, room.connector("pacs")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_repository_refuses_stays_to_be_sent_to_one_that_knows_us() {
    let room = Certificates::new();
    let files = ["repository.pem", "repository-key.pem", "ca.pem"].map(|name| room.file(name));
    let directory = tempfile::tempdir().unwrap();
    let by = By::Tls([&files[0], &files[1], &files[2]]);
    let Some(mut rsyslog) = Rsyslog::new(directory.path(), by, free_port()) else {
        return;
    };
    rsyslog.start();
    let log = open(directory.path());
    let place = repository(Transport::Tls, rsyslog.port);
    // It takes us: it runs.
    record(&log, 1..2);
    let known = Running::start(&log, &place, &room.connector("pacs"));
    let wanted: Vec<String> = all(&log).iter().map(expected).collect();
    tokio::task::block_in_place(|| arrived(&mut rsyslog, &wanted));
    known.stop().await;
    assert_eq!(log.sent(), 1);
    // With a certificate of another authority it doesn't.
    record(&log, 2..10);
    sender(&log, &place, &room.connector("foreign"))
        .run(std::future::ready(()))
        .await;
    assert_eq!(log.sent(), 1);
    sender(&log, &place, &room.connector("pacs"))
        .run(std::future::ready(()))
        .await;
    let wanted: Vec<String> = all(&log)[1..].iter().map(expected).collect();
    tokio::task::block_in_place(|| arrived(&mut rsyslog, &wanted));
    assert_eq!(log.sent(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_the_repository_is_away_and_the_sender_dies_and_all_comes_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut rsyslog) = Rsyslog::new(directory.path(), By::Tcp, free_port()) else {
        return;
    };
    let place = repository(Transport::Tcp, rsyslog.port);
    let tls = Connector::default();
    let mut number = 1;
    for round in 0..4 {
        // Nobody listens yet.
        let log = open(directory.path());
        let away = Running::start(&log, &place, &tls);
        record(&log, number..number + 700);
        number += 700;
        away.kill().await;
        // It comes, and the sender dies while it sends; after another one has begun the repository stops.
        let killed = Running::start(&log, &place, &tls);
        rsyslog.start();
        tokio::task::block_in_place(|| rsyslog.next());
        killed.kill().await;
        closed(log).await;
        let log = open(directory.path());
        let sender = Running::start(&log, &place, &tls);
        if round % 2 == 0 {
            tokio::task::block_in_place(|| rsyslog.next());
        }
        tokio::task::block_in_place(|| rsyslog.stop());
        record(&log, number..number + 50);
        number += 50;
        sender.kill().await;
        closed(log).await;
    }
    rsyslog.start();
    let log = open(directory.path());
    let sender = Running::start(&log, &place, &tls);
    let wanted: Vec<String> = all(&log).iter().map(expected).collect();
    assert_eq!(wanted.len() as u64, number - 1);
    // What was read above is read again.
    rsyslog.begin_again();
    tokio::task::block_in_place(|| arrived(&mut rsyslog, &wanted));
    sender.stop().await;
    assert_eq!(log.sent(), number - 1);
}

/// Messages that a receiver has read whole.
#[derive(Default)]
struct Taken(Mutex<Vec<String>>);

/// Takes messages as RFC 6587 3.4.1 has it from what was read, and leaves the rest.
fn take(read: &mut Vec<u8>, taken: &Taken) {
    loop {
        let Some(space) = read.iter().position(|byte| *byte == b' ') else {
            return;
        };
        let length: usize = std::str::from_utf8(&read[..space]).unwrap().parse().unwrap();
        if read.len() < space + 1 + length {
            return;
        }
        let message = String::from_utf8(read[space + 1..space + 1 + length].to_vec()).unwrap();
        taken.0.lock().unwrap().push(message);
        read.drain(..space + 1 + length);
    }
}

/// Takes connections, and breaks them off after so many bytes, with more unread, or right after it has read all that was there;
/// when it has no more of such it reads all of them to their end.
async fn receive(listener: TcpListener, mut breaks: Vec<usize>, taken: Arc<Taken>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut left = breaks.pop().unwrap_or(usize::MAX);
        let mut read = Vec::new();
        let mut piece = vec![0; 16 * 1024];
        while left > 0 {
            let length = piece.len().min(left);
            match stream.read(&mut piece[..length]).await {
                Ok(0) | Err(_) => break,
                Ok(count) => {
                    left = left.saturating_sub(count);
                    read.extend_from_slice(&piece[..count]);
                    take(&mut read, &taken);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_breaks_off_anywhere_has_read_every_message_in_the_end() {
    let variable = |name, otherwise| {
        std::env::var(name)
            .ok()
            .and_then(|text: String| text.parse().ok())
            .unwrap_or(otherwise)
    };
    let (runs, first) = (variable("PACS_FAULT_RUNS", 20), variable("PACS_SEED", 1));
    eprintln!("PACS_SEED={first} PACS_FAULT_RUNS={runs}");
    let mut again = 0;
    for seed in first..first + runs {
        let mut random = Random::new(seed);
        let directory = tempfile::tempdir().unwrap();
        let log = open(directory.path());
        record(&log, 1..120);
        let wanted: Vec<String> = all(&log).iter().map(expected).collect();
        let total: usize = wanted.iter().map(|message| message.len() + 5).sum();
        let breaks = (0..random.below(6)).map(|_| 1 + random.index(total)).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = repository(Transport::Tcp, listener.local_addr().unwrap().port());
        let taken = Arc::new(Taken::default());
        let receiving = tokio::spawn(receive(listener, breaks, Arc::clone(&taken)));
        let sender = Running::start(&log, &place, &Connector::default());
        // Ended in order: all is sent by then.
        while log.sent() < 119 {
            tokio::task::yield_now().await;
        }
        sender.stop().await;
        receiving.abort();
        let taken = taken.0.lock().unwrap();
        let mut known = BTreeSet::new();
        let new: Vec<&String> = taken
            .iter()
            .filter(|message| known.insert(message.as_str()))
            .collect();
        assert!(new.into_iter().eq(&wanted), "seed {seed}");
        again += taken.len() - wanted.len();
    }
    eprintln!("{again} messages came again");
}
