//! What is routed arrives, whoever dies: receivers that are down, slow, full, refusing and dying in the middle, and the
//! server killed as `kill -9` does again and again. Every instance that was acknowledged is delivered to each of them,
//! and is recorded once.
//!
//! `PACS_DELIVER_ROUNDS` sets how often the server is killed (default 5), `PACS_SEED` repeats a run.

mod common;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use futures::future::BoxFuture;
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::route::{Outbox, Progress, What};
use pacs_core::testkit::random::Random;
use pacs_core::{AeTitle, DataSet, Result, Uid};
use pacs_net::dimse::{self, Operation, Reply, Services, Status, StoreRequest};
use pacs_net::scu::Remote;
use pacs_net::transport::{self, Acceptor, Connection};
use pacs_net::ul::negotiate::{AcceptPolicy, ContextRule};
use pacs_store::RedbLedger;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use common::{Server, directory, free_port, tell};

const CT: Uid = Uid::constant(uids::CT_IMAGE_STORAGE);
const EXPLICIT: Uid = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);

/// How a receiver behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Steady,
    /// Nobody listens until the last round.
    Down,
    /// Answers an instance only when the steady one has it.
    Slow,
    /// Out of resources until the last round.
    Full,
    /// Fails each instance when it comes for the first time.
    Refusing,
    /// Breaks every seventh instance off.
    Dying,
}

const KINDS: [Kind; 6] = [
    Kind::Steady,
    Kind::Down,
    Kind::Slow,
    Kind::Full,
    Kind::Refusing,
    Kind::Dying,
];

impl Kind {
    fn name(self) -> String {
        format!("{self:?}").to_uppercase()
    }
}

struct Receiver {
    kind: Kind,
    got: Mutex<BTreeSet<Uid>>,
    seen: Mutex<BTreeSet<Uid>>,
    count: AtomicU64,
    last_round: Arc<AtomicBool>,
    changed: Notify,
    /// Of all but the steady one.
    steady: Option<Arc<Receiver>>,
}

impl Services for Receiver {
    fn c_store(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let instance = operation.command().sop_instance()?;
            let count = self.count.fetch_add(1, Ordering::Relaxed);
            let first = self.seen.lock().unwrap().insert(instance);
            let is_last = self.last_round.load(Ordering::Relaxed);
            if let Some(mut data_set) = operation.take_data_set() {
                while data_set.next_piece().await?.is_some() {}
            }
            match self.kind {
                Kind::Slow => self.steady().has(&BTreeSet::from([instance])).await,
                Kind::Full if !is_last => return Ok(Reply::new(Status::OUT_OF_RESOURCES)),
                Kind::Refusing if first => return Ok(Reply::new(Status::CANNOT_UNDERSTAND)),
                Kind::Dying if count % 7 == 6 => {
                    operation
                        .answer_and_abort(Reply::new(Status::PROCESSING_FAILURE))
                        .await;
                    return Ok(Reply::new(Status::PROCESSING_FAILURE));
                }
                _ => {}
            }
            self.got.lock().unwrap().insert(instance);
            self.changed.notify_waiters();
            Ok(Reply::success())
        })
    }
}

impl Receiver {
    fn steady(&self) -> &Receiver {
        self.steady.as_deref().unwrap_or(self)
    }

    async fn has(&self, all: &BTreeSet<Uid>) {
        loop {
            let changed = self.changed.notified();
            if all.is_subset(&self.got.lock().unwrap()) {
                return;
            }
            changed.await;
        }
    }
}

async fn listen(receiver: Arc<Receiver>, port: u16) -> JoinHandle<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).await.expect("the port is free");
    tokio::spawn(async move {
        let policy = AcceptPolicy::new().with_context(CT, ContextRule::as_proposed());
        let acceptor = Arc::new(Acceptor::new(policy));
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            let (acceptor, receiver) = (Arc::clone(&acceptor), Arc::clone(&receiver));
            tokio::spawn(async move {
                // However it ends: the server under test is killed now and then.
                if let Ok(association) = transport::accept(Connection::tcp(stream), &acceptor).await {
                    let _ = dimse::serve(association, receiver).await;
                }
            });
        }
    })
}

fn instance(round: u64, study: u64, number: u64) -> (Uid, Bytes) {
    let uid = |text: String| Uid::parse(&text).expect("digits and dots");
    let sop_instance = uid(format!("2.25.78.{round}.{study}.1.{number}"));
    let mut set = DataSet::new();
    set.put_uid(tags::SOP_CLASS_UID, &CT);
    set.put_uid(tags::SOP_INSTANCE_UID, &sop_instance);
    set.put_text(tags::PATIENT_ID, VR::LO, "P");
    set.put_text(tags::MODALITY, VR::CS, "CT");
    set.put_uid(tags::STUDY_INSTANCE_UID, &uid(format!("2.25.78.{round}.{study}")));
    set.put_uid(
        tags::SERIES_INSTANCE_UID,
        &uid(format!("2.25.78.{round}.{study}.1")),
    );
    set.put_text(tags::IMAGE_COMMENTS, VR::LT, "x".repeat(5000));
    let bytes = encode(&set, &EXPLICIT, &CharacterSet::default()).expect("it can be written");
    (sop_instance, bytes.into())
}

/// Sends until the server is killed, after as many instances as are told; answers those that were acknowledged.
async fn send(server: Server, round: u64, until: u64) -> BTreeSet<Uid> {
    let title = AeTitle::parse("PACS").expect("PACS is an AE title");
    let remote = Remote::new("127.0.0.1", server.port, title, title);
    let proposal = remote.proposal().with_context(CT, [&EXPLICIT]);
    let client = remote.client(&proposal).await.expect("the server is there");
    let context = client.context_for(&CT).expect("CT images are taken").id;
    let mut acknowledged = BTreeSet::new();
    for number in 0..until {
        let (uid, bytes) = instance(round, number % 3, number);
        let pieces = futures::stream::iter([Ok(bytes)]);
        let response = client.store(StoreRequest::new(context, CT, uid), pieces).await;
        if response.expect("it is answered").status().is_done() {
            acknowledged.insert(uid);
        }
    }
    // One more is under way when it dies.
    let (uid, bytes) = instance(round, 0, until);
    let pieces = futures::stream::iter([Ok(bytes)]);
    let sending = client.store(StoreRequest::new(context, CT, uid), pieces);
    let (_, _) = futures::future::join(sending, async { server.kill() }).await;
    acknowledged
}

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    let mut file = std::fs::File::create(&path).expect("can be made");
    file.write_all(text.as_bytes()).expect("is written");
    path.to_str().expect("a temporary path is plain").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_instance_is_delivered_to_everybody_and_recorded_once() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("PACS_SEED").unwrap_or_else(|| pacs_core::Timestamp::now().0);
    let rounds = number("PACS_DELIVER_ROUNDS").unwrap_or(5);
    tell(&format!("PACS_SEED={seed}"));
    let mut random = Random::new(seed);
    let last_round = Arc::new(AtomicBool::new(false));
    let directory = directory();
    let (mut peers, mut receivers): (_, Vec<(Arc<Receiver>, u16)>) = (String::new(), Vec::new());
    for kind in KINDS {
        let port = free_port();
        peers += &format!(
            "[[peer]]\nae-title = \"{}\"\nhost = \"127.0.0.1\"\nport = {port}\n",
            kind.name()
        );
        let receiver = Arc::new(Receiver {
            kind,
            got: Mutex::default(),
            seen: Mutex::default(),
            count: AtomicU64::new(0),
            last_round: Arc::clone(&last_round),
            changed: Notify::new(),
            steady: receivers.first().map(|(steady, _)| Arc::clone(steady)),
        });
        if kind != Kind::Down {
            listen(Arc::clone(&receiver), port).await;
        }
        receivers.push((receiver, port));
    }
    let names: Vec<String> = KINDS.iter().map(|kind| format!("\"{}\"", kind.name())).collect();
    let routes = format!("[[route]]\nname = \"all\"\nsend-to = [{}]\n", names.join(", "));
    let configuration = write(directory.path(), "configuration.toml", &peers);
    let routes = write(directory.path(), "routes.toml", &routes);
    let data = directory.path().join("data");
    let start = || Server::start(&data, &["--config", &configuration, "--routes", &routes]);

    let mut acknowledged = BTreeSet::new();
    for round in 0..rounds {
        acknowledged.extend(send(start(), round, 1 + random.below(25)).await);
    }
    last_round.store(true, Ordering::Relaxed);
    for (receiver, port) in &receivers {
        if receiver.kind == Kind::Down {
            listen(Arc::clone(receiver), *port).await;
        }
    }
    let server = start();
    for (receiver, _) in &receivers {
        let waiting = tokio::time::timeout(Duration::from_secs(300), receiver.has(&acknowledged));
        if waiting.await.is_err() {
            let missing = acknowledged.difference(&receiver.got.lock().unwrap()).count();
            panic!(
                "seed {seed}: {:?} misses {missing} of {}",
                receiver.kind,
                acknowledged.len()
            );
        }
    }
    assert!(server.stop().success());
    let ledger = RedbLedger::open(data.join("ledger.redb")).expect("nobody else has it open");
    let outbox = Outbox::open(Arc::new(ledger)).await.expect("it opens");
    for (receiver, _) in &receivers {
        for instance in &acknowledged {
            let name = receiver.kind.name();
            let recorded = outbox
                .recorded(&name, &What::Instance(*instance))
                .await
                .expect("it is read");
            let progress = recorded.map(|recorded| recorded.progress);
            // What was delivered last may still wait for its record when the server stops.
            assert!(
                matches!(progress, Some(Progress::Done | Progress::Waiting)),
                "seed {seed}: {name}: {progress:?}"
            );
        }
    }
    let dead: u64 = outbox.status().iter().map(|status| status.dead).sum();
    assert_eq!(dead, 0, "seed {seed}");
    tell(&format!(
        "{} acknowledged in {rounds} lives of the server, delivered to {} receivers; 0 lost",
        acknowledged.len(),
        receivers.len()
    ));
}
