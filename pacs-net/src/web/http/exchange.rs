//! One request and its response, seen from around the router: limits, panics, request ID, log, metrics.

use std::any::Any;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;
use tracing::Instrument;

use super::activity::{Activity, waits_for_client};
use super::media_type::is_token_character;
use super::metrics::Metrics;
use super::problem::Problem;
use super::received::Received;
use super::server::HttpLimits;
use crate::pace::REFUSED_REST;
use crate::tls::{Acceptor, Certificate, Stream};

/// The header field of the request ID.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest request ID that is taken over, in bytes: a UUID has 36, W3C's trace parents have 55.
const REQUEST_ID_LENGTH_MAX_BYTES: usize = 64;

/// What a body is refused by that can't be understood, or nothing of it (PS3.18 10.5.3.1 for 409).
const NOT_UNDERSTOOD: [StatusCode; 5] = [
    StatusCode::BAD_REQUEST,
    StatusCode::CONFLICT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    StatusCode::UNPROCESSABLE_ENTITY,
];

/// A body longer than this that is refused is answered after a rest, for each MiB of it.
const REFUSED_LENGTH_MIN_BYTES: u64 = 64 * 1024;
const REFUSED_REST_MAX: Duration = Duration::from_secs(1);

/// By what a request is found in the log; also an extension of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(&X_REQUEST_ID).and_then(|value| value.to_str().ok());
        let is_sane = |id: &&str| {
            !id.is_empty() && id.len() <= REQUEST_ID_LENGTH_MAX_BYTES && id.bytes().all(is_token_character)
        };
        match given.filter(is_sane) {
            Some(id) => Self(id.into()),
            None => Self::new(),
        }
    }

    /// A random beginning for each process, then a count.
    fn new() -> Self {
        static PROCESS: OnceLock<u64> = OnceLock::new();
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let process = PROCESS.get_or_init(|| {
            use std::hash::BuildHasher;
            std::collections::hash_map::RandomState::new().hash_one(0)
        });
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(format!("{process:016x}-{count:x}").into())
    }

    /// As it stands in the log and in the response.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// That a request came over TLS: an extension of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Secured {
    /// Whom the client has shown itself to be, where it did.
    pub certificate: Option<Arc<Certificate>>,
}

/// Who sends the requests of a connection.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) address: SocketAddr,
    pub(super) secured: Option<Secured>,
}

impl Client {
    pub(super) fn of(stream: &Stream, address: SocketAddr) -> Self {
        Self {
            address,
            secured: stream.is_secure().then(|| Secured {
                certificate: stream.certificate(),
            }),
        }
    }
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) router: Router,
    pub(super) limits: HttpLimits,
    pub(super) requests: Arc<Semaphore>,
    pub(super) metrics: Metrics,
    pub(super) tls: Option<Acceptor>,
}

/// Where the template of the route goes, which only the router knows.
#[derive(Clone, Default)]
struct Matched(Arc<OnceLock<String>>);

/// The router, which tells what route it took.
pub(super) fn keeping_path(router: Router) -> Router {
    async fn keep(request: Request, next: Next) -> Response {
        let extensions = request.extensions();
        if let (Some(matched), Some(path)) = (extensions.get::<Matched>(), extensions.get::<MatchedPath>()) {
            matched.0.get_or_init(|| path.as_str().to_owned());
        }
        next.run(request).await
    }
    router.layer(middleware::from_fn(keep))
}

/// Whether the body is encoded: what it would grow to nobody knows before.
fn is_encoded(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut encodings = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
    encodings.any(|encoding| {
        let encoding = encoding.trim_ascii();
        !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity")
    })
}

/// No encoding is undone here, and that says so (RFC 9110 15.5.16).
fn not_decoded() -> Response {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "a request's body is taken as it is, without Content-Encoding",
    )
    .with_header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))
    .into_response()
}

impl Shared {
    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        client: Client,
        activity: Arc<Activity>,
    ) -> Result<Response<Sent>, Infallible> {
        let id = RequestId::of(request.headers());
        let span = tracing::info_span!("request", %id);
        let mut exchange = Exchange::begin(&self, activity, request.method().as_str(), client.address, &span);
        let answer = self.route(request, client, &id, &mut exchange);
        let mut response = answer.instrument(span).await;
        let length = exchange.bytes_in.load(Ordering::Relaxed);
        if NOT_UNDERSTOOD.contains(&response.status()) && length > REFUSED_LENGTH_MIN_BYTES {
            // Others have its place meanwhile.
            exchange.permit = None;
            // Before the rest of it is read and passed over.
            let mebibytes = u32::try_from(length >> 20).unwrap_or(u32::MAX);
            let rest = REFUSED_REST.saturating_mul(mebibytes.saturating_add(1));
            tokio::time::sleep(rest.min(REFUSED_REST_MAX)).await;
        }
        if let Ok(value) = HeaderValue::from_str(id.as_str()) {
            response.headers_mut().insert(X_REQUEST_ID, value);
        }
        exchange.status = Some(response.status());
        let length = response.headers().get(header::CONTENT_LENGTH);
        exchange.length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        Ok(response.map(|body| Sent {
            body: Some(body),
            rest: Bytes::new(),
            exchange,
        }))
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        client: Client,
        id: &RequestId,
        exchange: &mut Exchange,
    ) -> Response {
        if is_encoded(request.headers()) && !request.body().is_end_stream() {
            tokio::time::sleep(REFUSED_REST).await;
            return not_decoded();
        }
        let target = request
            .uri()
            .path_and_query()
            .map_or(0, |target| target.as_str().len());
        if target > self.limits.target_length_max_bytes {
            return Problem::bare(StatusCode::URI_TOO_LONG).into_response();
        }
        let Ok(permit) = Arc::clone(&self.requests).try_acquire_owned() else {
            return Problem::unavailable("too many requests are being served").into_response();
        };
        exchange.permit = Some(permit);
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(exchange.matched.clone());
        parts.extensions.insert(id.clone());
        parts.extensions.insert(ConnectInfo(client.address));
        if let Some(secured) = client.secured {
            parts.extensions.insert(secured);
        }
        let bytes_in = Arc::clone(&exchange.bytes_in);
        let body = Body::new(Received::new(body, self.limits.body_stall, bytes_in));
        let request = Request::from_parts(parts, body);
        let router = self.router.clone();
        // A router is used for one request, and what a handler shares with others is behind locks that may be
        // poisoned: it is broken nowhere else.
        let answer = AssertUnwindSafe(async move { router.oneshot(request).await });
        match answer.catch_unwind().await {
            Ok(Ok(response)) => response,
            Err(panic) => {
                tracing::error!(kind = panic_kind(&*panic), "a handler panicked");
                Problem::bare(StatusCode::INTERNAL_SERVER_ERROR).into_response()
            }
        }
    }
}

/// A panic's text may hold what must not be logged; the panic hook has said where it was.
fn panic_kind(panic: &(dyn Any + Send)) -> &'static str {
    match panic.is::<String>() || panic.is::<&str>() {
        true => "with a text",
        false => "without a text",
    }
}

/// From the header of a request to the end of its response's body, or to where it was dropped.
struct Exchange {
    metrics: Metrics,
    activity: Arc<Activity>,
    permit: Option<OwnedSemaphorePermit>,
    method: &'static str,
    address: SocketAddr,
    matched: Matched,
    status: Option<StatusCode>,
    begun: Instant,
    bytes_in: Arc<AtomicU64>,
    bytes_out: u64,
    /// What Content-Length says.
    length: Option<u64>,
    /// The body came to its end.
    whole: bool,
    span: tracing::Span,
}

impl Exchange {
    fn begin(
        shared: &Shared,
        activity: Arc<Activity>,
        method: &str,
        address: SocketAddr,
        span: &tracing::Span,
    ) -> Self {
        activity.request_begins();
        shared.metrics.request_begins();
        Self {
            metrics: shared.metrics.clone(),
            activity,
            permit: None,
            method: known_method(method),
            address,
            matched: Matched::default(),
            status: None,
            begun: Instant::now(),
            bytes_in: Arc::default(),
            bytes_out: 0,
            length: None,
            whole: false,
            span: span.clone(),
        }
    }
}

/// Methods are the client's to choose; a label is not.
fn known_method(method: &str) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
    KNOWN
        .into_iter()
        .find(|known| *known == method)
        .unwrap_or("other")
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // So that the log names the request.
        let _entered = self.span.enter();
        self.activity.request_ends();
        let took = self.begun.elapsed();
        let path = self.matched.0.get().map_or("none", String::as_str);
        let bytes_in = self.bytes_in.load(Ordering::Relaxed);
        // The client has gone before there was an answer: what nginx calls 499.
        let status = self.status.map_or(499, |status| status.as_u16());
        self.metrics
            .request_ends(self.method, path, status, took, (bytes_in, self.bytes_out));
        let (method, address, bytes_out, whole) = (self.method, self.address, self.bytes_out, self.whole);
        let whole = whole || self.length == Some(bytes_out);
        let milliseconds = took.as_millis() as u64;
        if status >= 400 || !whole {
            tracing::info!(method, path, status, whole, bytes_in, bytes_out, milliseconds, %address, "request ended");
        } else {
            tracing::debug!(method, path, status, bytes_in, bytes_out, milliseconds, %address, "request ended");
        }
    }
}

/// The longest piece of a response that is handed out at once. What hyper has taken counts as sent, and it takes a
/// few of these before a client has taken anything.
const PIECE_LENGTH_MAX_BYTES: usize = 64 * 1024;

/// The body of a response: its panics are contained, and it comes in small pieces, so that it ends about when its
/// client has it.
pub(super) struct Sent {
    /// None behind an error.
    body: Option<Body>,
    /// Of a piece that was too long.
    rest: Bytes,
    exchange: Exchange,
}

impl Sent {
    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        self.exchange.span.in_scope(|| {
            // It is not polled again.
            catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(context))).unwrap_or_else(|panic| {
                tracing::error!(kind = panic_kind(&*panic), "the body of a response panicked");
                Poll::Ready(Some(Err(axum::Error::new(io::Error::other("internal failure")))))
            })
        })
    }

    /// As much of a piece as is handed out at once.
    fn cut(&mut self, mut piece: Bytes) -> Frame<Bytes> {
        self.rest = piece.split_off(piece.len().min(PIECE_LENGTH_MAX_BYTES));
        self.exchange.bytes_out += piece.len() as u64;
        Frame::data(piece)
    }
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let sent = &mut *self;
        waits_for_client(false);
        let frame = if sent.rest.is_empty() {
            match ready!(sent.poll_body(context)) {
                Some(Ok(frame)) => frame
                    .into_data()
                    .map_or_else(|other| other, |piece| sent.cut(piece)),
                Some(Err(error)) => {
                    sent.body = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    sent.exchange.whole |= sent.body.is_some();
                    return Poll::Ready(None);
                }
            }
        } else {
            let rest = std::mem::take(&mut sent.rest);
            sent.cut(rest)
        };
        sent.exchange.whole = sent.is_end_stream();
        waits_for_client(true);
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let of_body = self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint);
        let rest = self.rest.len() as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower().saturating_add(rest));
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        // One without a body isn't polled.
        self.exchange.whole |= self.is_end_stream();
        let body = self.body.take();
        self.exchange.span.in_scope(|| drop(body));
    }
}
