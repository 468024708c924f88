//! The HTTP server loop on real sockets: what slow, greedy and broken clients get, and how it ends.
#![cfg(feature = "web")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use http::header;
use pacs_net::web::http::conditional::Validators;
use pacs_net::web::http::layers::{with_compression, with_cors, with_privacy, with_problems};
use pacs_net::web::http::media_type::MediaType;
use pacs_net::web::http::metrics::Metrics;
use pacs_net::web::http::problem::Problem;
use pacs_net::web::http::server::{HttpLimits, HttpServer, RequestId};
use pacs_net::web::http::{body, health};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

struct Running {
    address: SocketAddr,
    metrics: Metrics,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(router: Router, limits: HttpLimits) -> Self {
        let metrics = Metrics::new();
        let server = HttpServer::bind(([127, 0, 0, 1], 0).into(), router, limits)
            .await
            .unwrap();
        let server = server.with_metrics(metrics.clone());
        let address = server.address().unwrap();
        let (stop, stopped) = oneshot::channel();
        let stopped = async move { drop(stopped.await) };
        let task = tokio::spawn(server.run(stopped, Duration::from_secs(60)));
        Self {
            address,
            metrics,
            stop: Some(stop),
            task,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request on a connection of its own, which the server closes; gives the whole response.
    async fn exchange(&self, request: impl AsRef<[u8]>) -> Response {
        let mut stream = self.connect().await;
        stream.write_all(request.as_ref()).await.unwrap();
        let mut whole = Vec::new();
        stream.read_to_end(&mut whole).await.unwrap();
        Response::parse(&whole)
    }

    async fn get(&self, path: &str, fields: &str) -> Response {
        self.exchange(format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n"
        ))
        .await
    }

    fn begin_stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    async fn stop(mut self) {
        self.begin_stop();
        self.task.await.unwrap();
    }
}

struct Response {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Response {
    fn parse(whole: &[u8]) -> Self {
        let end = whole
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .expect("a header");
        let head = String::from_utf8(whole[..end].to_vec())
            .unwrap()
            .to_ascii_lowercase();
        Self {
            status: head[9..12].parse().unwrap(),
            head,
            body: whole[end + 4..].to_vec(),
        }
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

fn text() -> String {
    "[{\"00080005\":{\"vr\":\"CS\"}}]".repeat(1000)
}

fn router() -> Router {
    let json = || async {
        let mut response = (
            [(header::CONTENT_TYPE, MediaType::DICOM_JSON.header_value())],
            text(),
        )
            .into_response();
        Validators::of_tag("one").put(response.headers_mut());
        response
    };
    let broken = || async {
        let pieces = stream::iter([Ok(Bytes::from("half"))]);
        let panics = stream::poll_fn(|_| panic!("in the midst"));
        body::from_stream(pieces.chain(panics).boxed())
    };
    let router = Router::new()
        .route(
            "/hello/{name}",
            get(|Path(name): Path<String>| async move { format!("hello {name}") }),
        )
        .route("/json", get(json))
        .route("/panic", get(|| async { panic!("a handler's own") as () }))
        .route("/broken", get(broken))
        .route(
            "/id",
            get(|id: axum::Extension<RequestId>| async move { id.to_string() }),
        )
        .route("/count", post(count));
    with_compression(with_problems(router))
}

async fn count(body: Body) -> Result<String, Problem> {
    let length = body::stream(body).try_fold(0, |sum, piece| async move { Ok(sum + piece.len()) });
    Ok(length.await?.to_string())
}

#[tokio::test]
async fn requests_are_answered_one_after_the_other_on_a_connection() {
    let server = Running::start(router(), HttpLimits::default()).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /hello/a HTTP/1.1\r\nHost: a\r\n\r\nGET /hello/b HTTP/1.1\r\nHost: a\r\n")
        .await
        .unwrap();
    stream.write_all(b"Connection: close\r\n\r\n").await.unwrap();
    let mut whole = String::new();
    stream.read_to_string(&mut whole).await.unwrap();
    assert!(whole.contains("hello a") && whole.contains("hello b"), "{whole}");
    server.stop().await;
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_next_request_works() {
    let server = Running::start(router(), HttpLimits::default()).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /panic HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut begin = vec![0; 4096];
    let read = stream.read(&mut begin).await.unwrap();
    let response = Response::parse(&begin[..read]);
    assert_eq!(
        (response.status, response.field("content-type")),
        (500, Some("application/problem+json"))
    );
    assert!(!String::from_utf8(response.body).unwrap().contains("own"));
    stream
        .write_all(b"GET /hello/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut whole = Vec::new();
    stream.read_to_end(&mut whole).await.unwrap();
    assert_eq!(Response::parse(&whole).status, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_panics_breaks_its_response_off() {
    let server = Running::start(router(), HttpLimits::default()).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /broken HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut whole = Vec::new();
    // Closed or reset: both tell the client.
    let _ = stream.read_to_end(&mut whole).await;
    assert!(!whole.ends_with(b"0\r\n\r\n"));
    assert_eq!(server.get("/hello/a", "").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn too_long_headers_and_targets_are_refused() {
    let limits = HttpLimits::default();
    let server = Running::start(router(), limits.clone()).await;
    let many = "A: 1\r\n".repeat(limits.header_fields_max + 1);
    assert_eq!(server.get("/hello/a", &many).await.status, 431);
    // No more than is needed, so that nothing is left unread: then the answer would be lost in a reset.
    let head = "GET /hello/a HTTP/1.1\r\nA: ";
    let flood = format!(
        "{head}{}",
        "x".repeat(limits.header_length_max_bytes + 1 - head.len())
    );
    assert_eq!(server.exchange(flood).await.status, 431);
    let target = format!("/hello/{}", "x".repeat(limits.target_length_max_bytes));
    let response = server.get(&target, "").await;
    assert_eq!(
        (response.status, response.field("content-type")),
        (414, Some("application/problem+json"))
    );
    assert_eq!(server.exchange("what is this\r\n\r\n").await.status, 400);
    let counted = "pacs_http_request_duration_seconds_count{method=\"other\",path=\"none\",status=\"4xx\"} 3";
    let metrics = server.metrics.clone();
    server.stop().await;
    let text = metrics.to_text();
    assert!(text.lines().any(|line| line == counted), "{text}");
}

#[tokio::test]
async fn head_is_answered_as_get_without_a_body() {
    let server = Running::start(router(), HttpLimits::default()).await;
    let request = "HEAD /json HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let response = server.exchange(request).await;
    let length = text().len().to_string();
    assert_eq!(
        (response.status, response.field("content-length")),
        (200, Some(&*length))
    );
    assert_eq!(response.field("etag"), Some("\"one\""));
    assert!(response.body.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn json_is_compressed_for_those_who_accept_it() {
    let server = Running::start(router(), HttpLimits::default()).await;
    for (encoding, magic) in [("gzip", &[0x1F, 0x8B][..]), ("zstd", &[0x28, 0xB5, 0x2F, 0xFD])] {
        let response = server
            .get("/json", &format!("Accept-Encoding: {encoding}\r\n"))
            .await;
        assert_eq!(response.field("content-encoding"), Some(encoding));
        assert_eq!(response.field("etag"), Some("w/\"one\""));
        let fields: Vec<_> = response
            .head
            .lines()
            .filter_map(|line| line.strip_prefix("vary: "))
            .collect();
        assert_eq!(fields, ["accept", "accept-encoding"]);
        // Behind the length of the first chunk.
        let line = response
            .body
            .windows(2)
            .position(|window| window == b"\r\n")
            .unwrap();
        assert!(response.body[line + 2..].starts_with(magic));
        assert!(response.body.len() < text().len() / 10);
    }
    let plain = server.get("/json", "").await;
    assert_eq!(
        (plain.field("content-encoding"), plain.field("etag")),
        (None, Some("\"one\""))
    );
    assert_eq!(plain.body, text().as_bytes());
    let short = server.get("/hello/a", "Accept-Encoding: gzip\r\n").await;
    assert_eq!(short.field("content-encoding"), None);
    server.stop().await;
}

#[tokio::test]
async fn a_sane_request_id_is_taken_over_and_another_is_made() {
    let server = Running::start(router(), HttpLimits::default()).await;
    let given = server.get("/id", "X-Request-Id: abc-1\r\n").await;
    assert_eq!(
        (given.field("x-request-id"), &*given.body),
        (Some("abc-1"), &b"abc-1"[..])
    );
    for id in ["", "a b", "a\"", &"x".repeat(65)] {
        let made = server.get("/id", &format!("X-Request-Id: {id}\r\n")).await;
        let made_id = made.field("x-request-id").unwrap();
        assert_ne!(made_id, id);
        assert_eq!(made.body, made_id.as_bytes());
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    let server = Running::start(router(), HttpLimits::default()).await;
    let missing = server.get("/nowhere", "").await;
    assert_eq!(
        (missing.status, missing.field("content-type")),
        (404, Some("application/problem+json"))
    );
    let request = "DELETE /json HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let response = server.exchange(request).await;
    assert_eq!(
        (response.status, response.field("allow")),
        (405, Some("get,head"))
    );
    assert_eq!(response.field("content-type"), Some("application/problem+json"));
    server.stop().await;
}

#[tokio::test]
async fn other_origins_are_let_in_by_configuration() {
    let router = with_cors(router(), &["https://viewer.example".to_owned()]).unwrap();
    let server = Running::start(router, HttpLimits::default()).await;
    let ours = server.get("/hello/a", "Origin: https://viewer.example\r\n").await;
    assert_eq!(
        ours.field("access-control-allow-origin"),
        Some("https://viewer.example")
    );
    let theirs = server.get("/hello/a", "Origin: https://evil.example\r\n").await;
    assert_eq!(theirs.field("access-control-allow-origin"), None);
    let preflight = server
        .exchange(
            "OPTIONS /json HTTP/1.1\r\nHost: a\r\nConnection: close\r\nOrigin: https://viewer.example\r\n\
             Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: accept\r\n\r\n",
        )
        .await;
    assert_eq!(preflight.status, 200);
    assert_eq!(preflight.field("access-control-allow-headers"), Some("accept"));
    server.stop().await;
}

#[tokio::test]
async fn only_preflight_requests_are_answered_for_the_router() {
    let capabilities = |method: http::Method| async move { format!("{method} is ours") };
    let router = router().route("/", MethodRouter::new().options(capabilities));
    let router = with_cors(router, &["https://viewer.example".to_owned()]).unwrap();
    let server = Running::start(router, HttpLimits::default()).await;
    let options = |path: &str, fields: &str| {
        format!("OPTIONS {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n")
    };
    let origin = "Origin: https://viewer.example\r\n";
    let asked = server.exchange(options("/", "")).await;
    assert_eq!((asked.status, &*asked.body), (200, &b"OPTIONS is ours"[..]));
    let asked = server.exchange(options("/", origin)).await;
    assert_eq!((asked.status, &*asked.body), (200, &b"OPTIONS is ours"[..]));
    let allowed = "access-control-allow-origin";
    assert_eq!(asked.field(allowed), Some("https://viewer.example"));
    let preflight = format!("{origin}Access-Control-Request-Method: OPTIONS\r\n");
    let preflight = server.exchange(options("/", &preflight)).await;
    assert_eq!((preflight.status, &*preflight.body), (200, &b""[..]));
    assert!(preflight.field("access-control-allow-methods").is_some());
    let elsewhere = server.exchange(options("/json", origin)).await;
    assert_eq!(
        (elsewhere.status, elsewhere.field("allow")),
        (405, Some("get,head"))
    );
    server.stop().await;
}

#[tokio::test]
async fn answers_are_nobodys_to_keep_where_they_do_not_say_otherwise() {
    let server = Running::start(with_privacy(router()), HttpLimits::default()).await;
    for (path, kept) in [
        ("/json", "private, no-cache"),
        ("/hello/a", "private, no-store"),
        ("/nowhere", "private, no-store"),
    ] {
        let response = server.get(path, "").await;
        assert_eq!(response.field("cache-control"), Some(kept), "{path}");
        assert_eq!(
            response.field("x-content-type-options"),
            Some("nosniff"),
            "{path}"
        );
        assert_eq!(response.field("vary"), Some("accept"), "{path}");
    }
    let request = "POST /count HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\n1";
    let response = server.exchange(request).await;
    assert_eq!(
        (response.field("cache-control"), response.field("vary")),
        (Some("private, no-store"), None)
    );
    server.stop().await;
}

#[tokio::test]
async fn requests_beyond_the_limit_are_asked_to_come_again() {
    let gate = Arc::new(Notify::new());
    let (entered, mut enters) = tokio::sync::mpsc::unbounded_channel();
    let waiting = gate.clone();
    let router = Router::new().route(
        "/wait",
        get(move || {
            let (gate, entered) = (waiting.clone(), entered.clone());
            async move {
                entered.send(()).unwrap();
                gate.notified().await;
            }
        }),
    );
    let limits = HttpLimits {
        requests_max: 1,
        ..HttpLimits::default()
    };
    let server = Arc::new(Running::start(router, limits).await);
    let first = tokio::spawn({
        let server = server.clone();
        async move { server.get("/wait", "").await.status }
    });
    enters.recv().await.unwrap();
    let second = server.get("/wait", "").await;
    assert_eq!((second.status, second.field("retry-after")), (503, Some("5")));
    gate.notify_one();
    assert_eq!(first.await.unwrap(), 200);
    Arc::into_inner(server).unwrap().stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_sends_a_header_slowly_or_nothing_is_dropped() {
    let server = Running::start(router(), HttpLimits::default()).await;
    for begin in [
        "",
        "P",
        "PRI * HT",
        "GET /hello/a HTTP/1.1\r\nHost:",
        "GET /hello/a HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut stream = server.connect().await;
        stream.write_all(begin.as_bytes()).await.unwrap();
        let mut whole = Vec::new();
        // The end comes by itself; the last one is answered before.
        let _ = stream.read_to_end(&mut whole).await;
        assert_eq!(
            whole.starts_with(b"HTTP/1.1 200"),
            begin.ends_with("\r\n\r\n"),
            "{begin:?}"
        );
    }
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_given_up() {
    let server = Running::start(router(), HttpLimits::default()).await;
    let request = "POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf";
    let response = server.exchange(request).await;
    assert_eq!(response.status, 408);
    let whole = "POST /count HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\nhalf";
    assert_eq!(server.exchange(whole).await.body, b"4");
    server.stop().await;
}

/// Tells when it is dropped.
struct Dropped(Option<oneshot::Sender<()>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.take().unwrap().send(());
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_of_a_response_is_dropped() {
    let (sender, receiver) = oneshot::channel();
    let guard = Arc::new(std::sync::Mutex::new(Some(Dropped(Some(sender)))));
    let router = Router::new().route(
        "/endless",
        get(move || {
            let dropped = guard.lock().unwrap().take().unwrap();
            let piece = Bytes::from(vec![0; 1 << 16]);
            async move {
                body::from_stream(
                    stream::repeat_with(move || {
                        let _ = &dropped;
                        Ok(piece.clone())
                    })
                    .boxed(),
                )
            }
        }),
    );
    let server = Running::start(router, HttpLimits::default()).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    receiver.await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_drain_lets_requests_end_and_closes_the_rest() {
    let gate = Arc::new(Notify::new());
    let (entered, mut enters) = tokio::sync::mpsc::unbounded_channel();
    let waiting = gate.clone();
    let router = router().route(
        "/wait",
        get(move || {
            let (gate, entered) = (waiting.clone(), entered.clone());
            async move {
                entered.send(()).unwrap();
                gate.notified().await;
                "done"
            }
        }),
    );
    let mut server = Running::start(router, HttpLimits::default()).await;
    // One that was used and rests, one that was never used, one with a request.
    let mut resting = server.connect().await;
    resting
        .write_all(b"GET /hello/a HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut answer = vec![0; 4096];
    assert_ne!(resting.read(&mut answer).await.unwrap(), 0);
    let mut fresh = server.connect().await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    enters.recv().await.unwrap();
    server.begin_stop();
    assert_eq!(resting.read(&mut answer).await.unwrap(), 0);
    assert_eq!(fresh.read(&mut answer).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(server.address).await.is_err());
    gate.notify_one();
    let mut whole = Vec::new();
    busy.read_to_end(&mut whole).await.unwrap();
    assert_eq!(Response::parse(&whole).body, b"done");
    server.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_though_a_request_does_not() {
    let (entered, mut enters) = tokio::sync::mpsc::unbounded_channel();
    let router = Router::new().route(
        "/never",
        get(move || {
            entered.send(()).unwrap();
            std::future::pending::<()>()
        }),
    );
    let server = Running::start(router, HttpLimits::default()).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    enters.recv().await.unwrap();
    server.stop().await;
    let mut whole = Vec::new();
    let _ = busy.read_to_end(&mut whole).await;
    assert!(whole.is_empty());
}

#[tokio::test]
async fn http_2_is_served_by_prior_knowledge() {
    let server = Running::start(router(), HttpLimits::default()).await;
    let stream = hyper_util::rt::TokioIo::new(server.connect().await);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, stream)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    for name in ["a", "b"] {
        let request = http::Request::get(format!("http://a/hello/{name}"))
            .body(Body::empty())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let whole = http_body_util::BodyExt::collect(response.into_body())
            .await
            .unwrap()
            .to_bytes();
        assert_eq!(whole, format!("hello {name}"));
    }
    let request = http::Request::get("http://a/panic").body(Body::empty()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 500);
    drop(sender);
    connection.await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn what_was_served_is_counted_by_the_template_of_its_path() {
    use pacs_core::{Options, Pacs};
    use pacs_store::{MemoryArchive, MemoryIndex};

    let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
    let pacs = Pacs::open(archive, index, Options::default()).await.unwrap();
    let health = health::Health::new(pacs.clone());
    let metrics = Metrics::new();
    let router = router()
        .merge(health.router())
        .merge(health::metrics_router(metrics.clone(), pacs.clone()));
    let server = HttpServer::bind(([127, 0, 0, 1], 0).into(), router, HttpLimits::default())
        .await
        .unwrap();
    let server = server.with_metrics(metrics.clone());
    let address = server.address().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(server.run(async move { drop(stopped.await) }, Duration::from_secs(60)));
    let server = Running {
        address,
        metrics,
        stop: Some(stop),
        task,
    };
    server.get("/hello/secret?name=secret", "").await;
    server
        .exchange("POST /count HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\n1234")
        .await;
    server.get("/secret", "").await;
    server
        .exchange("SECRET /json HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    let scraped = server.get("/metrics", "").await;
    let text = String::from_utf8(scraped.body).unwrap();
    for line in [
        "pacs_http_request_duration_seconds_count{method=\"GET\",path=\"/hello/{name}\",status=\"2xx\"} 1",
        "pacs_http_request_duration_seconds_count{method=\"GET\",path=\"none\",status=\"4xx\"} 1",
        "pacs_http_request_duration_seconds_count{method=\"other\",path=\"/json\",status=\"4xx\"} 1",
        "pacs_http_requests_in_flight 1",
        "pacs_http_received_bytes_total 4",
        "pacs_instances 0",
    ] {
        assert!(
            text.lines().any(|written| written == line),
            "{line} is missing in\n{text}"
        );
    }
    assert!(!text.to_ascii_lowercase().contains("secret"));
    assert_eq!(server.metrics.associations_open(), 0);

    assert_eq!(server.get("/healthz", "").await.status, 200);
    assert_eq!(server.get("/readyz", "").await.status, 200);
    health.drain();
    assert_eq!(server.get("/readyz", "").await.status, 503);
    assert_eq!(server.get("/healthz", "").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_body_with_content_encoding_is_refused_unread_and_one_without_is_taken() {
    let running = Running::start(router(), HttpLimits::default()).await;
    let post = |encoding: &str| {
        format!(
            "POST /count HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Encoding: {encoding}\r\nContent-Length: 3\r\n\r\nabc"
        )
    };
    let refused = running.exchange(post("gzip")).await;
    assert_eq!(refused.status, 415);
    assert!(
        refused.head.contains("accept-encoding: identity"),
        "{}",
        refused.head
    );
    let taken = running.exchange(post("identity")).await;
    assert_eq!((taken.status, taken.body.as_slice()), (200, &b"3"[..]));
    running.stop().await;
}
