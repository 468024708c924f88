//! Unified procedure steps against the real server: pynetdicom's requests in each state, and a server that is killed
//! while events wait.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::FutureExt as _;
use pacs_core::workflow::ups::{Event, EventType, State, Subscription};
use pacs_core::{AeTitle, DataSet, Uid};
use pacs_net::dimse::{Client, serve};
use pacs_net::scu::{Remote, ups};
use pacs_net::transport::{Acceptor, Connection, accept};
use pacs_net::ul::negotiate::AcceptPolicy;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use common::{Server, directory, free_port, python, rows, script, start_with_destination, succeed};

/// Each request and its status where there is no step, and where it is SCHEDULED, IN PROGRESS, COMPLETED, CANCELED
/// (PS3.4 table CC.1.1-2 and the status tables of CC.2). For a search: how many are found.
const STATUSES: [(&str, [u64; 5]); 20] = [
    ("create", [0x0000, 0x0111, 0x0111, 0x0111, 0x0111]),
    ("get", [0xC307, 0x0000, 0x0000, 0x0000, 0x0000]),
    ("find", [0, 1, 1, 1, 1]),
    ("claim", [0xC307, 0x0000, 0xC302, 0xC300, 0xC300]),
    ("claim by another", [0xC307, 0x0000, 0xC301, 0xC301, 0xC301]),
    ("claim without", [0xC307, 0xC301, 0xC301, 0xC301, 0xC301]),
    ("schedule", [0xC307, 0xC303, 0xC303, 0xC303, 0xC303]),
    ("complete", [0xC307, 0xC310, 0x0000, 0xB306, 0xC300]),
    ("complete by another", [0xC307, 0xC310, 0xC301, 0xC301, 0xC301]),
    ("cancel", [0xC307, 0xC310, 0x0000, 0xC300, 0xB304]),
    ("cancel by another", [0xC307, 0xC310, 0xC301, 0xC301, 0xC301]),
    // Nobody is subscribed, so that the performer would not hear of it.
    ("request cancel", [0xC307, 0x0000, 0xC312, 0xC311, 0xB304]),
    ("set", [0xC307, 0xC310, 0x0000, 0xC300, 0xC300]),
    ("set by another", [0xC307, 0xC310, 0xC301, 0xC300, 0xC300]),
    ("set without", [0xC307, 0x0000, 0xC301, 0xC300, 0xC300]),
    // Without its Transaction UID nothing is set of one that is claimed.
    ("set the state", [0xC307, 0xC303, 0xC301, 0xC300, 0xC300]),
    ("subscribe", [0xC307, 0x0000, 0x0000, 0x0000, 0x0000]),
    ("subscribe a stranger", [0xC308, 0xC308, 0xC308, 0xC308, 0xC308]),
    ("unsubscribe", [0xC307, 0x0000, 0x0000, 0x0000, 0x0000]),
    ("suspend", [0xC314, 0xC314, 0xC314, 0xC314, 0xC314]),
];

const STATES: [&str; 5] = ["none", "SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED"];

/// Beside the states.
const FURTHER: [(&str, u64); 6] = [
    ("COMPLETED too early", 0xC304),
    ("CANCELED too early", 0xC304),
    ("create with ProcedureStepLabel None", 0x0120),
    ("create with ProcedureStepLabel ", 0x0121),
    ("create with ProcedureStepState IN PROGRESS", 0xC309),
    ("create with ScheduledWorkitemCodeSequence None", 0xB300),
];

#[test]
fn pynetdicom_is_answered_in_each_state_as_the_tables_say_and_hears_of_each_event_once() {
    let Some(mut python) = python() else {
        return;
    };
    let (directory, destination) = (directory(), free_port());
    let server = start_with_destination(&directory, destination);
    python.arg(script("ups_states.py"));
    python.args([server.port.to_string(), destination.to_string()]);
    let rows = rows(&succeed(python));
    let mut answered: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.get("request").is_some()) {
        let text = |name: &str| row[name].as_str().expect("a text");
        answered.insert(
            (text("request"), text("state")),
            row["status"].as_u64().expect("a status"),
        );
    }
    assert_eq!(answered.len(), STATUSES.len() * STATES.len() + FURTHER.len());
    for (request, statuses) in STATUSES {
        for (state, expected) in STATES.iter().zip(statuses) {
            let status = answered[&(request, *state)];
            assert_eq!(
                status, expected,
                "{request} of {state}: {status:04X} and not {expected:04X}"
            );
        }
    }
    for (request, expected) in FURTHER {
        let state = if request.contains("early") {
            "IN PROGRESS"
        } else {
            "none"
        };
        let status = answered[&(request, state)];
        assert_eq!(status, expected, "{request}: {status:04X}");
    }
    let events = rows
        .iter()
        .find_map(|row| row.get("events"))
        .expect("events came");
    let expected = serde_json::json!([
        [1, "SCHEDULED"],
        [1, "IN PROGRESS"],
        [3, "None"],
        [2, "DESTINATION"],
        // What was set before cancellation took the progress away again.
        [3, "None"],
        [1, "CANCELED"]
    ]);
    assert_eq!(*events, expected);
}

fn title(text: &str) -> AeTitle {
    AeTitle::parse(text).expect("a title")
}

fn step() -> DataSet {
    let mut set = DataSet::new();
    set.put_text(tags::PROCEDURE_STEP_STATE, VR::CS, "SCHEDULED");
    set.put_text(tags::PROCEDURE_STEP_LABEL, VR::LO, "Reading");
    set.put_text(tags::SCHEDULED_PROCEDURE_STEP_PRIORITY, VR::CS, "HIGH");
    set.put_text(tags::SCHEDULED_PROCEDURE_STEP_START_DATE_TIME, VR::DT, "20240229");
    set.put_text(tags::INPUT_READINESS_STATE, VR::CS, "READY");
    set
}

async fn client(server: &Server) -> Client {
    let remote = Remote::new("127.0.0.1", server.port, title("PACS"), title("DESTINATION"));
    remote
        .client(&ups::asking(remote.proposal()))
        .await
        .expect("it associates")
}

/// Events as they come to a port.
async fn listen(port: u16) -> mpsc::UnboundedReceiver<Event> {
    let (sender, events) = mpsc::unbounded_channel();
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .expect("the port can be had");
    let services = Arc::new(ups::Events::new(move |event| {
        // The test may be over.
        let _ = sender.send(event);
        async { Ok(()) }.boxed()
    }));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let services = services.clone();
            tokio::spawn(async move {
                let acceptor = Acceptor::new(ups::receiving(AcceptPolicy::new()));
                if let Ok(association) = accept(Connection::tcp(stream), &acceptor).await {
                    let _ = serve(association, services).await;
                }
            });
        }
    });
    events
}

fn restart(data: &Path, server: Server) -> Server {
    server.kill();
    let configuration = data.join("configuration.toml");
    Server::start(
        &data.join("data"),
        &[
            "--config",
            configuration.to_str().expect("a temporary path is plain"),
        ],
    )
}

#[test]
fn a_server_that_is_killed_keeps_each_step_its_claim_its_subscriptions_and_the_events_that_wait() {
    let (directory, destination) = (directory(), free_port());
    let mut server = start_with_destination(&directory, destination);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let asking = client(&server).await;
        let done = |answer: ups::Answer| assert!(answer.status.is_done(), "{answer:?}");
        let all = Subscription::Global;
        done(
            ups::subscribe(&asking, &title("DESTINATION"), &all, false)
                .await
                .expect("is answered"),
        );
        let mut expected = Vec::new();
        let transaction = Uid::random();
        for round in 0..5 {
            let asking = client(&server).await;
            let created = ups::create(&asking, None, &step()).await.expect("is answered");
            let uid = created.sop_instance.expect("it has a UID");
            expected.push((uid, "SCHEDULED"));
            let claimed = ups::change_state(&asking, &uid, State::InProgress, &transaction).await;
            done(claimed.expect("is answered"));
            expected.push((uid, "IN PROGRESS"));
            // What was answered is kept, whenever it dies.
            server = restart(directory.path(), server);
            let asking = client(&server).await;
            let other = ups::change_state(&asking, &uid, State::InProgress, &Uid::random()).await;
            assert_eq!(other.expect("is answered").status.0, 0xC301, "round {round}");
        }
        let mut events = listen(destination).await;
        let mut told = Vec::new();
        while told.len() < expected.len() {
            let next = tokio::time::timeout(Duration::from_secs(120), events.recv());
            let event = next.await.expect("an event comes").expect("somebody listens");
            // Of each restart too.
            if event.event_type == EventType::StateReport {
                let state = event.attributes.string(tags::PROCEDURE_STEP_STATE);
                told.push((event.sop_instance, state.expect("a state").to_owned()));
            }
        }
        let expected: Vec<_> = expected
            .iter()
            .map(|(uid, state)| (*uid, (*state).to_owned()))
            .collect();
        assert_eq!(told, expected);
    });
}
