//! Unified procedure steps over real associations, from our own SCU.

#[path = "../support/port.rs"]
mod port;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::{FutureExt, TryStreamExt};
use pacs_core::testkit::workflow::{performed, step};
use pacs_core::workflow::ups::{Event, EventType, State, Subscription};
use pacs_core::{AeTitle, DataSet, Options, Pacs, Uid};
use pacs_net::dimse::{Client, CommandField, CommandSet, serve};
use pacs_net::scp::{Destination, Limits, ScpOptions, Server};
use pacs_net::scu::{self, Remote, ups};
use pacs_net::transport::{self, Acceptor, Connection};
use pacs_net::ul::negotiate::AcceptPolicy;
use pacs_store::{MemoryArchive, MemoryIndex, MemoryLedger};
use port::free_port;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

const TRANSACTION: Uid = Uid::constant("2.25.1");
const WATCH: Uid = Uid::constant("1.2.840.10008.5.1.4.34.6.2");
const PULL: Uid = Uid::constant("1.2.840.10008.5.1.4.34.6.3");

fn title(text: &str) -> AeTitle {
    AeTitle::parse(text).unwrap()
}

/// A running server; it stops when dropped.
struct Running {
    address: SocketAddr,
    pacs: Pacs,
    _stop: oneshot::Sender<()>,
}

impl Running {
    async fn start(destinations: Vec<Destination>) -> Self {
        Self::start_with(destinations, Some(MemoryLedger::new())).await
    }

    async fn start_with(destinations: Vec<Destination>, ledger: Option<MemoryLedger>) -> Self {
        let engine = Options {
            ledger: ledger.map(|ledger| Arc::new(ledger) as _),
            ..Options::default()
        };
        let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
        let pacs = Pacs::open(archive, index, engine).await.unwrap();
        let options = ScpOptions {
            destinations,
            ..ScpOptions::new(title("PACS"))
        };
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::bind(any, pacs.clone(), options, Limits::default())
            .await
            .unwrap();
        let address = server.address().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(server.run(stopped.map(drop), Duration::from_secs(5)));
        Self {
            address,
            pacs,
            _stop: stop,
        }
    }

    async fn client(&self) -> Client {
        let (host, port) = (self.address.ip().to_string(), self.address.port());
        let remote = Remote::new(host, port, title("PACS"), title("TESTER"));
        remote.client(&ups::asking(remote.proposal())).await.unwrap()
    }
}

/// Listens for events on an address, and passes them on.
async fn listen(address: SocketAddr) -> (SocketAddr, mpsc::UnboundedReceiver<Event>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let services = Arc::new(ups::Events::new(move |event| {
            let sent = sender.send(event);
            async move {
                sent.unwrap();
                Ok(())
            }
            .boxed()
        }));
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = Acceptor::new(ups::receiving(AcceptPolicy::new()));
            let association = transport::accept(Connection::tcp(stream), &acceptor)
                .await
                .unwrap();
            serve(association, services.clone()).await.unwrap();
        }
    });
    (address, receiver)
}

fn destination(ae_title: &str, address: SocketAddr) -> Destination {
    Destination {
        ae_title: title(ae_title),
        host: address.ip().to_string(),
        port: address.port(),
        associations: 1,
        tls: None,
    }
}

async fn next(events: &mut mpsc::UnboundedReceiver<Event>) -> Event {
    let next = tokio::time::timeout(Duration::from_secs(60), events.recv());
    next.await.expect("an event comes").expect("the listener runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_is_created_found_claimed_done_and_told_of() {
    let (address, mut events) = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await;
    let server = Running::start(vec![destination("WATCHER", address)]).await;
    let client = server.client().await;
    let watcher = title("WATCHER");
    let subscribed = ups::subscribe(&client, &watcher, &Subscription::Global, false)
        .await
        .unwrap();
    assert_eq!(subscribed.status.0, 0, "{subscribed:?}");
    let created = ups::create(&client, None, &step()).await.unwrap();
    // What was missing and may be empty was added.
    assert_eq!(created.status.0, 0xB300, "{created:?}");
    let uid = created.sop_instance.expect("the UID that it was given");
    let event = next(&mut events).await;
    assert_eq!(
        (event.event_type, event.sop_instance),
        (EventType::StateReport, uid)
    );

    let mut identifier = DataSet::new();
    identifier.put_text(tags::PROCEDURE_STEP_STATE, VR::CS, "SCHEDULED");
    identifier.put_text(tags::SOP_INSTANCE_UID, VR::UI, "");
    identifier.put_text(tags::PATIENT_NAME, VR::PN, "müller*");
    let found: Vec<DataSet> = ups::find(&client, &identifier)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].uid(tags::SOP_INSTANCE_UID).unwrap(), uid);
    assert_eq!(found[0].string(tags::PATIENT_NAME), Some("Müller^Jürgen"));

    let status = |answer: ups::Answer| answer.status.0;
    let change = |state| ups::change_state(&client, &uid, state, &TRANSACTION);
    assert_eq!(status(change(State::Completed).await.unwrap()), 0xC310);
    assert_eq!(status(change(State::InProgress).await.unwrap()), 0);
    let refused = change(State::Completed).await.unwrap();
    assert_eq!(refused.status.0, 0xC304);
    assert_eq!(
        refused.offending_elements,
        [tags::UNIFIED_PROCEDURE_STEP_PERFORMED_PROCEDURE_SEQUENCE]
    );
    assert!(refused.comment.is_some());
    assert_eq!(
        status(ups::set(&client, &uid, None, &performed()).await.unwrap()),
        0xC301
    );
    let set = ups::set(&client, &uid, Some(&TRANSACTION), &performed())
        .await
        .unwrap();
    assert_eq!(set.status.0, 0, "{set:?}");
    let asked = ups::request_cancel(&client, &uid, &DataSet::new()).await.unwrap();
    assert_eq!(asked.status.0, 0, "{asked:?}");
    assert_eq!(status(change(State::Completed).await.unwrap()), 0);
    assert_eq!(status(change(State::Completed).await.unwrap()), 0xB306);

    let got = ups::get(&client, &uid, &[]).await.unwrap();
    let step = got.attributes.unwrap();
    assert_eq!(step.string(tags::PROCEDURE_STEP_STATE), Some("COMPLETED"));
    assert!(!step.contains(tags::TRANSACTION_UID));
    let wanted = [tags::PROCEDURE_STEP_STATE, tags::MEDICAL_ALERTS];
    let got = ups::get(&client, &uid, &wanted).await.unwrap();
    assert_eq!((got.status.0, got.attributes.unwrap().len()), (0x0001, 1));

    let told: Vec<_> = [
        next(&mut events).await,
        next(&mut events).await,
        next(&mut events).await,
    ]
    .into();
    let types: Vec<_> = told.iter().map(|event| event.event_type).collect();
    assert_eq!(
        types,
        [
            EventType::StateReport,
            EventType::CancelRequested,
            EventType::StateReport
        ]
    );
    assert_eq!(told[1].attributes.string(tags::REQUESTING_AE), Some("TESTER"));
    assert_eq!(
        told[2].attributes.string(tags::PROCEDURE_STEP_STATE),
        Some("COMPLETED")
    );

    let ended = ups::unsubscribe(&client, &watcher, &uid).await.unwrap();
    assert_eq!(ended.status.0, 0);
    client.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_for_who_is_away_come_when_it_is_there_again_and_each_once() {
    // Nobody listens on it yet.
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let server = Running::start(vec![destination("AWAY", address)]).await;
    let client = server.client().await;
    ups::subscribe(&client, &title("AWAY"), &Subscription::Global, false)
        .await
        .unwrap();
    let mut created = Vec::new();
    for _ in 0..100 {
        let answer = ups::create(&client, None, &step()).await.unwrap();
        created.push(answer.sop_instance.unwrap());
    }
    client.release().await.unwrap();
    let (_, mut events) = listen(address).await;
    let mut told = Vec::new();
    for _ in &created {
        told.push(next(&mut events).await.sop_instance);
    }
    assert_eq!(told, created);
    // The last is acknowledged a moment after it was answered; nothing else comes by then.
    let queue = server.pacs.ups().unwrap().queue_of(&title("AWAY")).await;
    assert!(queue.next(1).await.unwrap().is_empty());
    assert!(events.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_unknown_can_not_be_subscribed_and_each_class_has_its_own_operations() {
    let server = Running::start(Vec::new()).await;
    let client = server.client().await;
    let refused = ups::subscribe(&client, &title("STRANGER"), &Subscription::Global, false)
        .await
        .unwrap();
    assert_eq!(
        (refused.status.0, refused.offending_elements),
        (0xC308, vec![tags::RECEIVING_AE])
    );
    let on = |class: Uid| client.context_for(&class).unwrap().id;
    let push = Uid::constant("1.2.840.10008.5.1.4.34.6.1");
    let request = async |context: u8, command: CommandSet| {
        let command = command
            .with_requested_sop_class(&push)
            .with_requested_sop_instance(&TRANSACTION);
        let none: Option<futures::stream::Empty<pacs_core::Result<bytes::Bytes>>> = None;
        let responses = client.request(context, command, none).await.unwrap();
        responses.single().await.unwrap().status().0
    };
    let action = |id| CommandSet::request(CommandField::N_ACTION).with_action_type_id(id);
    for (context, id) in [
        (push, 1),
        (WATCH, 1),
        (PULL, 2),
        (PULL, 3),
        (push, 4),
        (WATCH, 6),
        (WATCH, 0),
    ] {
        assert_eq!(request(on(context), action(id)).await, 0x0123, "{context} {id}");
    }
    let get = || CommandSet::request(CommandField::N_GET);
    let query = Uid::constant("1.2.840.10008.5.1.4.34.6.5");
    assert_eq!(request(on(query), get()).await, 0x0211);
    assert_eq!(request(on(PULL), get()).await, 0xC307);
    for field in [
        CommandField::N_SET,
        CommandField::N_CREATE,
        CommandField::N_DELETE,
    ] {
        assert_eq!(
            request(on(WATCH), CommandSet::request(field)).await,
            0x0211,
            "{field:?}"
        );
    }
    client.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_ledger_the_service_is_not_offered() {
    let server = Running::start_with(Vec::new(), None).await;
    let (host, port) = (server.address.ip().to_string(), server.address.port());
    let remote = Remote::new(host, port, title("PACS"), title("TESTER"));
    let verification = Uid::constant("1.2.840.10008.1.1");
    let proposal = ups::asking(remote.proposal()).with_context(verification, scu::NATIVE.iter());
    let client = remote.client(&proposal).await.unwrap();
    let accepted: Vec<_> = client
        .negotiated()
        .contexts
        .iter()
        .map(|context| context.abstract_syntax)
        .collect();
    assert_eq!(accepted, [verification]);
    client.release().await.unwrap();
}
