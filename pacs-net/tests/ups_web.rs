//! UPS-RS (PS3.18 11) on an engine in memory, and its event channels over a real WebSocket.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, header};
use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::{SinkExt, StreamExt};
use pacs_core::dataset::{json, xml};
use pacs_core::testkit::workflow::{performed, step};
use pacs_core::{AeTitle, DataSet, Options, Pacs, Uid};
use pacs_net::web::http::server::{HttpLimits, HttpServer};
use pacs_net::web::{self, WebOptions};
use pacs_store::{MemoryArchive, MemoryIndex, MemoryLedger};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tower::ServiceExt;

const JSON: &str = "application/dicom+json";
const GLOBAL: &str = "1.2.840.10008.5.1.4.34.5";
const FILTERED: &str = "1.2.840.10008.5.1.4.34.5.1";
const TRANSACTION: &str = "2.25.1";

struct Served {
    pacs: Pacs,
    router: Router,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Served {
    async fn new() -> Self {
        let engine = Options {
            ledger: Some(Arc::new(MemoryLedger::new())),
            ..Options::default()
        };
        let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
        let pacs = Pacs::open(archive, index, engine).await.unwrap();
        let router = web::services(&pacs, WebOptions::default(), web::WADO_URI, &[]).unwrap();
        Self { pacs, router }
    }

    async fn ask(&self, method: &str, path: &str, body: Option<(&str, Vec<u8>)>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(format!("/dicom-web{path}"))
            .header(header::HOST, "pacs.example");
        let request = match body {
            Some((content_type, body)) => request
                .header(header::CONTENT_TYPE, content_type)
                .header(header::CONTENT_LENGTH, body.len())
                .body(Body::from(body)),
            None => request.body(Body::empty()),
        };
        let response = self.router.clone().oneshot(request.unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: to_bytes(body, usize::MAX).await.unwrap(),
        }
    }

    async fn send(&self, method: &str, path: &str, set: &DataSet) -> Answer {
        self.ask(method, path, Some((JSON, to_json(set)))).await
    }

    /// Creates a step; answers its UID.
    async fn create(&self, set: &DataSet) -> String {
        let created = self.send("POST", "/workitems", set).await;
        assert_eq!(created.status, 201, "{:?}", created.body);
        let location = created.header(header::LOCATION);
        location.rsplit('/').next().unwrap().to_owned()
    }

    async fn change(&self, uid: &str, state: &str, transaction: Option<&str>) -> Answer {
        let mut set = DataSet::new();
        set.put_text(tags::PROCEDURE_STEP_STATE, VR::CS, state);
        if let Some(transaction) = transaction {
            set.put_text(tags::TRANSACTION_UID, VR::UI, transaction);
        }
        self.send("PUT", &format!("/workitems/{uid}/state"), &set).await
    }

    /// Serves on a port.
    async fn listen(&self) -> SocketAddr {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = HttpServer::bind(any, self.router.clone(), HttpLimits::default())
            .await
            .unwrap();
        let address = server.address().unwrap();
        tokio::spawn(server.run(std::future::pending(), Duration::ZERO));
        address
    }

    /// Waits until nothing waits for an AE any more.
    async fn drained(&self, ae: &str) {
        let (queue, ups) = (AeTitle::parse(ae).unwrap(), self.pacs.ups().unwrap());
        while !ups.events(&queue, 1).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

fn to_json(set: &DataSet) -> Vec<u8> {
    let mut out = Vec::new();
    json::write(set, &[], &|_| String::new(), &mut out);
    out
}

fn code(value: &str) -> DataSet {
    DataSet::code(value, "99TEST", "a test")
}

#[tokio::test]
async fn a_work_item_is_created_retrieved_updated_and_brought_to_its_end() {
    let served = Served::new().await;
    let created = served.send("POST", "/workitems?workitem=1.2.3.4", &step()).await;
    assert_eq!(created.status, 201);
    assert_eq!(
        created.header(header::LOCATION),
        "http://pacs.example/dicom-web/workitems/1.2.3.4"
    );
    let warning = "299 http://pacs.example/dicom-web \"The Workitem was created with modifications.\"";
    assert_eq!(created.header(header::WARNING), warning);
    assert_eq!(
        served.send("POST", "/workitems?1.2.3.4", &step()).await.status,
        409
    );

    let got = served.ask("GET", "/workitems/1.2.3.4", None).await;
    assert_eq!((got.status, got.header(header::CONTENT_TYPE)), (200, JSON));
    let item = &got.json()[0];
    assert_eq!(item["00741000"]["Value"][0], "SCHEDULED");
    assert_eq!(item["00100010"]["Value"][0]["Alphabetic"], "Müller^Jürgen");

    let mut set = DataSet::new();
    set.put_text(tags::WORKLIST_LABEL, VR::LO, "MINE");
    let path = "/workitems/1.2.3.4";
    let with_uid = format!("{path}?transaction-uid={TRANSACTION}");
    assert_eq!(served.send("POST", path, &set).await.status, 200);
    // It is not claimed yet.
    assert_eq!(served.send("POST", &with_uid, &set).await.status, 409);
    assert_eq!(served.change("1.2.3.4", "IN PROGRESS", None).await.status, 400);
    assert_eq!(
        served
            .change("1.2.3.4", "COMPLETED", Some(TRANSACTION))
            .await
            .status,
        409
    );
    assert_eq!(
        served
            .change("1.2.3.4", "IN PROGRESS", Some(TRANSACTION))
            .await
            .status,
        200
    );
    let other = served.change("1.2.3.4", "IN PROGRESS", Some("2.25.2")).await;
    assert_eq!(other.status, 400);
    assert!(
        other
            .header(header::WARNING)
            .ends_with("\"The Transaction UID is incorrect.\"")
    );
    let missing = served.change("1.2.3.4", "COMPLETED", None).await;
    assert!(
        missing
            .header(header::WARNING)
            .ends_with("\"The Transaction UID is missing.\"")
    );
    let missing = served.send("POST", path, &performed()).await;
    assert_eq!(missing.status, 400);
    assert!(
        missing
            .header(header::WARNING)
            .ends_with("\"The Transaction UID is missing.\"")
    );
    let early = served.change("1.2.3.4", "COMPLETED", Some(TRANSACTION)).await;
    assert_eq!(early.status, 409);
    assert_eq!(early.json()["attributes"][0], "00741216");
    assert_eq!(served.send("POST", &with_uid, &performed()).await.status, 200);
    let done = served.change("1.2.3.4", "COMPLETED", Some(TRANSACTION)).await;
    assert_eq!((done.status, done.header(header::WARNING)), (200, ""));
    let again = served.change("1.2.3.4", "COMPLETED", Some(TRANSACTION)).await;
    assert_eq!(again.status, 200);
    let text = "\"The UPS is already in the requested state of COMPLETED.\"";
    assert!(again.header(header::WARNING).ends_with(text));
    // 11.6.2
    assert_eq!(served.send("POST", &with_uid, &set).await.status, 400);
    let got = served.ask("GET", path, None).await;
    assert!(!got.json()[0].as_object().unwrap().contains_key("00081195"));
}

#[tokio::test]
async fn what_can_not_be_is_refused_with_its_status() {
    let served = Served::new().await;
    let uid = served.create(&step()).await;
    let mut no_label = step();
    no_label.remove(tags::PROCEDURE_STEP_LABEL);
    let refused = served.send("POST", "/workitems", &no_label).await;
    assert_eq!(
        (refused.status, &refused.json()["attributes"][0]),
        (400, &Value::from("00741204"))
    );
    let of = |path: &str| format!("/workitems/{uid}{path}");
    type Case = (&'static str, String, Option<(&'static str, &'static str)>, u16);
    let cases: &[Case] = &[
        ("GET", "/workitems/1.2.404".into(), None, 404),
        ("GET", "/workitems/abc".into(), None, 400),
        ("POST", "/workitems".into(), Some(("text/plain", "x")), 415),
        ("POST", "/workitems".into(), Some((JSON, "{")), 400),
        ("POST", "/workitems".into(), Some((JSON, "[]")), 400),
        ("POST", "/workitems".into(), Some((JSON, "[{},{}]")), 400),
        (
            "POST",
            of(""),
            Some((JSON, r#"{"00100010":{"vr":"PN","Value":[{"Alphabetic":"A"}]}}"#)),
            400,
        ),
        ("PUT", of("/state"), Some((JSON, "{}")), 400),
        (
            "PUT",
            of("/state"),
            Some((JSON, r#"{"00741000":{"vr":"CS","Value":["DONE"]}}"#)),
            400,
        ),
        (
            "PUT",
            of("/state"),
            Some((JSON, r#"{"00741000":{"vr":"CS","Value":["SCHEDULED"]}}"#)),
            400,
        ),
        (
            "PUT",
            "/workitems/1.2.404/state".into(),
            Some((JSON, r#"{"00741000":{"vr":"CS","Value":["CANCELED"]}}"#)),
            404,
        ),
        ("POST", "/workitems/1.2.404/cancelrequest".into(), None, 404),
        ("POST", of("/subscribers/WATCHER?deletionlock=perhaps"), None, 400),
        ("POST", of("/subscribers/A%5CB"), None, 400),
        ("POST", "/workitems/1.2.404/subscribers/WATCHER".into(), None, 404),
        ("DELETE", of("/subscribers/WATCHER"), None, 404),
        ("POST", of("/subscribers/WATCHER/suspend"), None, 400),
        (
            "POST",
            format!("/workitems/{FILTERED}/subscribers/WATCHER"),
            None,
            400,
        ),
        ("GET", "/workitems?NoSuchKey=1".into(), None, 400),
        ("GET", "/ws/subscribers/WATCHER".into(), None, 400),
        ("DELETE", of(""), None, 405),
    ];
    for (method, path, body, status) in cases {
        let body = body.map(|(content_type, text)| (content_type, text.as_bytes().to_vec()));
        let answer = served.ask(method, path, body).await;
        assert_eq!(answer.status, *status, "{method} {path} {:?}", answer.body);
        assert_eq!(
            answer.header(header::CONTENT_TYPE),
            "application/problem+json",
            "{method} {path}"
        );
    }
    assert_eq!(
        served.ask("GET", &of(""), None).await.json()[0]["00741000"]["Value"][0],
        "SCHEDULED"
    );
}

#[tokio::test]
async fn cancellation_is_asked_for() {
    let served = Served::new().await;
    let uid = served.create(&step()).await;
    let path = format!("/workitems/{uid}/cancelrequest");
    let mut why = DataSet::new();
    why.put_text(tags::REASON_FOR_CANCELLATION, VR::LT, "ordered twice");
    assert_eq!(served.send("POST", &path, &why).await.status, 202);
    let again = served.ask("POST", &path, None).await;
    assert_eq!(again.status, 202);
    let text = "\"The UPS is already in the requested state of CANCELED.\"";
    assert!(again.header(header::WARNING).ends_with(text));
    let item = &served.ask("GET", &format!("/workitems/{uid}"), None).await.json()[0];
    assert_eq!(item["00741000"]["Value"][0], "CANCELED");
    let progress = &item["00741002"]["Value"][0];
    assert_eq!(progress["00741238"]["Value"][0], "ordered twice");
    // Of one in progress nobody would hear.
    let uid = served.create(&step()).await;
    served.change(&uid, "IN PROGRESS", Some(TRANSACTION)).await;
    let path = format!("/workitems/{uid}/cancelrequest");
    assert_eq!(served.ask("POST", &path, None).await.status, 409);
    let subscribe = format!("/workitems/{uid}/subscribers/PERFORMER");
    assert_eq!(served.ask("POST", &subscribe, None).await.status, 201);
    assert_eq!(served.ask("POST", &path, None).await.status, 202);
}

#[tokio::test]
async fn work_items_are_searched_as_studies_are() {
    let served = Served::new().await;
    assert_eq!(served.ask("GET", "/workitems", None).await.status, 204);
    for number in 0..5 {
        let mut set = step();
        let priority = ["LOW", "HIGH"][number % 2];
        set.put_text(tags::SCHEDULED_PROCEDURE_STEP_PRIORITY, VR::CS, priority);
        set.put_items(
            tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE,
            vec![code(&format!("S{number}"))],
        );
        set.put_text(tags::MEDICAL_ALERTS, VR::LO, "alert");
        served.create(&set).await;
    }
    let found = async |query: &str| {
        let answer = served.ask("GET", &format!("/workitems?{query}"), None).await;
        match answer.status {
            204 => Vec::new(),
            200 => answer.json().as_array().unwrap().clone(),
            status => panic!("{status}"),
        }
    };
    assert_eq!(found("").await.len(), 5);
    let found_high = found("ScheduledProcedureStepPriority=HIGH&ProcedureStepState=SCHEDULED").await;
    assert_eq!(found_high.len(), 2);
    let item = &found_high[0];
    assert_eq!(item["00741204"]["Value"][0], "Reading", "what is always returned");
    assert!(
        !item.as_object().unwrap().contains_key("00102000"),
        "what nobody asked for"
    );
    let item = &found("includefield=MedicalAlerts&PatientName=M%C3%BCller*").await[0];
    assert_eq!(item["00102000"]["Value"][0], "alert");
    assert_eq!(
        found("includefield=all").await[0]["00102000"]["Value"][0],
        "alert"
    );
    assert_eq!(
        found("ScheduledStationNameCodeSequence.CodeValue=S3").await.len(),
        1
    );
    assert_eq!(found("PatientID=nobody").await.len(), 0);
    assert_eq!(
        found("ScheduledProcedureStepStartDateTime=2023-20240301")
            .await
            .len(),
        5
    );

    let page = served.ask("GET", "/workitems?limit=2&offset=1", None).await;
    assert_eq!(page.json().as_array().unwrap().len(), 2);
    let text = "\"There are 2 additional results that can be requested\"";
    assert!(page.header(header::WARNING).ends_with(text), "{:?}", page.headers);
    // The urgent ones come first.
    let all = found("").await;
    let priorities: Vec<_> = all
        .iter()
        .map(|item| item["00741200"]["Value"][0].as_str().unwrap())
        .collect();
    assert_eq!(priorities, ["HIGH", "HIGH", "LOW", "LOW", "LOW"]);
}

#[tokio::test]
async fn xml_is_taken_and_answered_as_the_client_says() {
    let served = Served::new().await;
    let mut body = Vec::new();
    xml::write(&step(), &[], &|_| String::new(), &mut body);
    let created = served
        .ask(
            "POST",
            "/workitems?workitem=1.2.3",
            Some(("application/dicom+xml", body)),
        )
        .await;
    assert_eq!(created.status, 201);
    let got = served
        .ask("GET", "/workitems/1.2.3?accept=application/dicom%2Bxml", None)
        .await;
    assert_eq!(got.header(header::CONTENT_TYPE), "application/dicom+xml");
    let read = xml::read(&got.body).unwrap().header;
    assert_eq!(read.string(tags::PATIENT_NAME), Some("Müller^Jürgen"));
    let related = "multipart/related;type=%22application/dicom%2Bxml%22";
    for path in ["/workitems/1.2.3", "/workitems"] {
        let got = served.ask("GET", &format!("{path}?accept={related}"), None).await;
        assert_eq!(got.status, 200);
        assert!(got.header(header::CONTENT_TYPE).starts_with("multipart/related"));
    }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn channel(address: SocketAddr, ae: &str) -> Socket {
    let url = format!("ws://{address}/dicom-web/ws/subscribers/{ae}");
    connect_async(url).await.expect("the channel opens").0
}

/// The next event: its type, and the state that it tells.
async fn event(socket: &mut Socket) -> (u64, Value) {
    // The pings of the server don't make it wait longer.
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let next = tokio::time::timeout_at(until, socket.next());
        match next
            .await
            .expect("an event comes")
            .expect("the channel is open")
            .unwrap()
        {
            Message::Text(text) => {
                let json: Value = serde_json::from_str(&text).unwrap();
                let id = json["00001002"]["Value"][0].as_u64().unwrap();
                return (id, json);
            }
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_over_a_web_socket_each_once_also_those_from_before() {
    let served = Served::new().await;
    let address = served.listen().await;
    let path = format!("/workitems/{GLOBAL}/subscribers/WATCHER");
    let subscribed = served.ask("POST", &path, None).await;
    assert_eq!(subscribed.status, 201);
    assert_eq!(
        subscribed.header(header::CONTENT_LOCATION),
        "ws://pacs.example/dicom-web/ws/subscribers/WATCHER"
    );
    // Before anybody listens.
    let first = served.create(&step()).await;
    let mut socket = channel(address, "WATCHER").await;
    let (id, json) = event(&mut socket).await;
    assert_eq!(
        (id, json["00001000"]["Value"][0].as_str()),
        (1, Some(first.as_str()))
    );
    assert_eq!(json["00741000"]["Value"][0], "SCHEDULED");
    assert_eq!(json["00000002"]["Value"][0], "1.2.840.10008.5.1.4.34.6.1");
    // A second page of the same reader.
    let mut second = channel(address, "WATCHER").await;
    socket
        .send(Message::Ping(Bytes::from_static(b"there?")))
        .await
        .unwrap();
    served.change(&first, "IN PROGRESS", Some(TRANSACTION)).await;
    for socket in [&mut socket, &mut second] {
        let (_, json) = event(socket).await;
        assert_eq!(json["00741000"]["Value"][0], "IN PROGRESS");
    }
    served.drained("WATCHER").await;
    drop((socket, second));
    // Whoever comes again gets what happened meanwhile, and nothing twice.
    let mut progress = DataSet::new();
    progress.put_text(tags::PROCEDURE_STEP_PROGRESS, VR::DS, "50");
    let mut set = DataSet::new();
    set.put_items(tags::PROCEDURE_STEP_PROGRESS_INFORMATION_SEQUENCE, vec![progress]);
    // The server sees that a connection has ended some time after it did; until then events are sent into it.
    let ae = AeTitle::parse("WATCHER").unwrap();
    drop(served.pacs.ups().unwrap().queue_of(&ae).await);
    let updated = served
        .send(
            "POST",
            &format!("/workitems/{first}?transaction-uid={TRANSACTION}"),
            &set,
        )
        .await;
    assert_eq!(updated.status, 200);
    let mut socket = channel(address, "WATCHER").await;
    let (id, json) = event(&mut socket).await;
    assert_eq!(
        (id, &json["00741002"]["Value"][0]["00741004"]["Value"][0]),
        (3, &Value::from(50))
    );
    served.drained("WATCHER").await;
    let unsubscribed = served.ask("DELETE", &path, None).await;
    assert_eq!(unsubscribed.status, 200);
    assert_eq!(served.ask("DELETE", &path, None).await.status, 404);
    served.create(&step()).await;
    assert_eq!(served.pacs.ups().unwrap().events(&ae, 1).await.unwrap(), []);
    socket.close(None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filtered_subscription_and_its_suspension_over_http() {
    let served = Served::new().await;
    let address = served.listen().await;
    let path = format!("/workitems/{FILTERED}/subscribers/CT");
    let filter = "?filter=ScheduledStationNameCodeSequence.CodeValue=CT1&deletionlock=true";
    assert_eq!(
        served.ask("POST", &format!("{path}{filter}"), None).await.status,
        201
    );
    let mut socket = channel(address, "CT").await;
    let with_station = |station: &str| {
        let mut set = step();
        set.put_items(tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE, vec![code(station)]);
        set
    };
    served.create(&with_station("MR1")).await;
    let wanted = served.create(&with_station("CT1")).await;
    let (_, json) = event(&mut socket).await;
    assert_eq!(json["00001000"]["Value"][0], wanted.as_str());
    assert_eq!(event(&mut socket).await.0, 5, "whom it is assigned to");
    assert_eq!(
        served.ask("POST", &format!("{path}/suspend"), None).await.status,
        200
    );
    assert_eq!(
        served.ask("POST", &format!("{path}/suspend"), None).await.status,
        404
    );
    served.create(&with_station("CT1")).await;
    served.change(&wanted, "IN PROGRESS", Some(TRANSACTION)).await;
    // Only of the one from before.
    let (_, json) = event(&mut socket).await;
    assert_eq!(json["00001000"]["Value"][0], wanted.as_str());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_refused_to_pages_of_others_and_closed_to_who_sends_too_much() {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let served = Served::new().await;
    let address = served.listen().await;
    let url = format!("ws://{address}/dicom-web/ws/subscribers/WATCHER");
    let mut request = url.as_str().into_client_request().unwrap();
    request
        .headers_mut()
        .insert(header::ORIGIN, "https://evil.example".parse().unwrap());
    match connect_async(request).await {
        Err(SocketError::Http(response)) => assert_eq!(response.status(), 403),
        other => panic!("{other:?}"),
    }
    let mut request = url.as_str().into_client_request().unwrap();
    request
        .headers_mut()
        .insert(header::ORIGIN, format!("http://{address}").parse().unwrap());
    let (mut socket, _) = connect_async(request).await.unwrap();
    socket
        .send(Message::Text("x".repeat(100_000).into()))
        .await
        .unwrap();
    loop {
        match socket.next().await {
            Some(Ok(Message::Ping(_))) => {}
            None | Some(Err(_) | Ok(Message::Close(_))) => break,
            Some(Ok(other)) => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_nothing_keeps_no_event_from_who_reads() {
    let served = Served::new().await;
    let address = served.listen().await;
    let path = format!("/workitems/{GLOBAL}/subscribers/WATCHER");
    assert_eq!(served.ask("POST", &path, None).await.status, 201);
    let _idle = channel(address, "WATCHER").await;
    let mut reads = channel(address, "WATCHER").await;
    let mut created = Vec::new();
    for number in 0..300 {
        created.push(served.create(&step()).await);
        if number % 50 == 49 {
            for uid in created.drain(..) {
                assert_eq!(event(&mut reads).await.1["00001000"]["Value"][0], uid.as_str());
            }
        }
    }
    served.drained("WATCHER").await;
}

#[tokio::test]
async fn without_a_ledger_there_are_no_work_items() {
    let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
    let pacs = Pacs::open(archive, index, Options::default()).await.unwrap();
    let router = web::router(pacs.clone(), WebOptions::default());
    let served = Served { pacs, router };
    assert_eq!(served.ask("GET", "/workitems", None).await.status, 404);
    assert!(Uid::parse(TRANSACTION).is_ok());
}
