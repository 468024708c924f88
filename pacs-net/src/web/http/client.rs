//! [`Caller`]: requests to another's service.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use pacs_core::{Error, ErrorKind};
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::time::Instant;
use tower::{BoxError, Service};

use crate::tls::{self, Connector};

/// What of an answer is read that is read whole.
const ANSWER_LENGTH_MAX_BYTES: usize = 4 * 1024 * 1024;

/// How long a connection is waited for.
const CONNECT: Duration = Duration::from_secs(10);

/// How long who is called may be silent: it may have much to do before an answer.
const PATIENCE: Duration = Duration::from_secs(300);

/// Makes requests to one service, on connections that are kept for the next one.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    uri: Uri,
    patience: Duration,
    connector: Connector,
    /// Made when it is first needed.
    client: Arc<Mutex<Option<Made>>>,
}

type HttpClient = Client<InTime, Body>;

/// By what the present one was made.
#[derive(Debug)]
struct Made(Arc<ClientConfig>, HttpClient);

fn made(config: Arc<ClientConfig>) -> Made {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_nodelay(true);
    // The scheme says whether TLS is spoken.
    connector.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config((*config).clone())
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    Made(
        config,
        Client::builder(TokioExecutor::new()).build(InTime(connector)),
    )
}

/// Connects within a time, of which the handshake of TLS is a part: the connector itself waits for that without end.
#[derive(Clone, Debug)]
struct InTime(HttpsConnector<HttpConnector>);

type Connected = <HttpsConnector<HttpConnector> as Service<Uri>>::Response;

impl Service<Uri> for InTime {
    type Response = Connected;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Connected, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(CONNECT, self.0.call(uri));
        async move { connecting.await.map_err(|_| "no connection in time")? }.boxed()
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// There is no connection.
    Away(String),
    /// It broke while the request was under way, which may be what breaks it.
    Broken(String),
    /// Nothing came for a long while.
    Silent(String),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(why) | Self::Broken(why) | Self::Silent(why) => f.write_str(why),
        }
    }
}

impl NoAnswer {
    /// `Io`, or `TimedOut`; of the operation `away` when there is no connection.
    pub(crate) fn error(self, away: &'static str) -> Error {
        let (kind, operation) = match self {
            Self::Silent(_) => (ErrorKind::TimedOut, "http.call"),
            Self::Away(_) => (ErrorKind::Io, away),
            Self::Broken(_) => (ErrorKind::Io, "http.call"),
        };
        Error::new(kind, operation, self.to_string())
    }
}

impl Caller {
    /// Of a service or a resource at this URL, called by `connector` where it begins with `https://`.
    ///
    /// # Errors
    /// `Invalid` when it is none.
    pub(crate) fn new(url: &str, connector: &Connector) -> pacs_core::Result<Self> {
        let invalid = |why: &'static str| Error::new(ErrorKind::Invalid, "http.url", why);
        let uri: Uri = url.parse().map_err(|_| invalid("the URL can't be read"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(invalid("a URL that begins with http:// or https:// is needed"));
        }
        Ok(Self {
            uri,
            patience: PATIENCE,
            connector: connector.clone(),
            client: Arc::default(),
        })
    }

    /// By the credentials as they are now. When they have changed, what the old ones hold of connections goes with them.
    fn client(&self) -> pacs_core::Result<HttpClient> {
        let config = self.connector.config()?;
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let present = client.take().filter(|made| Arc::ptr_eq(&made.0, &config));
        Ok(client.insert(present.unwrap_or_else(|| made(config))).1.clone())
    }

    /// What is called.
    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The status and the body of the answer, as far as it is not too long.
    ///
    /// # Errors
    /// Why there is none. `Silent` when for so long nothing more of the request was taken, and no answer came; however
    /// long it takes in all.
    pub(crate) async fn call(&self, mut request: Request<Body>) -> Result<(StatusCode, Bytes), NoAnswer> {
        if let Some(length) = request.body().size_hint().exact() {
            request
                .headers_mut()
                .insert(header::CONTENT_LENGTH, length.into());
        }
        let (moved, moves) = watch::channel(Instant::now());
        let request = request.map(|body| {
            let pieces = body.into_data_stream();
            Body::from_stream(pieces.inspect(move |_| {
                moved.send_replace(Instant::now());
            }))
        });
        let calling = async {
            let answer = self.ask(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_LENGTH_MAX_BYTES);
            let body = body.collect().await.map(http_body_util::Collected::to_bytes);
            Ok((status, body.unwrap_or_default()))
        };
        let mut calling = std::pin::pin!(calling);
        loop {
            let until = *moves.borrow() + self.patience;
            match tokio::time::timeout_at(until, &mut calling).await {
                Ok(answer) => return answer,
                Err(_) if *moves.borrow() + self.patience > until => {}
                Err(_) => return Err(silent(self.host())),
            }
        }
    }

    /// The header of the answer; its body is read as [`pieces`](Self::pieces).
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn answer(&self, request: Request<Body>) -> Result<Response<Incoming>, NoAnswer> {
        match tokio::time::timeout(self.patience, self.ask(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(silent(self.host())),
        }
    }

    /// The body of an answer, as it comes: however long it takes in all, who sends it must not be silent.
    ///
    /// Its errors are `Io` when it breaks off, and `TimedOut`. They are the last item.
    pub(crate) fn pieces(&self, body: Incoming) -> BoxStream<'static, pacs_core::Result<Bytes>> {
        let (patience, host) = (self.patience, self.host().to_owned());
        let begin = Some((body.into_data_stream(), host));
        let pieces = stream::unfold(begin, move |state| async move {
            let (mut body, host) = state?;
            let failed = match tokio::time::timeout(patience, body.next()).await {
                Ok(None) => return None,
                Ok(Some(Ok(piece))) => return Some((Ok(piece), Some((body, host)))),
                Ok(Some(Err(error))) => {
                    let why = format!("{host}: the answer broke off");
                    Error::new(ErrorKind::Io, "http.call", why).with_source(error)
                }
                Err(_) => silent(&host).error("http.call"),
            };
            Some((Err(failed), None))
        });
        // Empty pieces say nothing.
        let pieces = pieces.filter(|piece| {
            std::future::ready(piece.as_ref().map_or(true, |piece: &Bytes| !piece.is_empty()))
        });
        pieces.boxed()
    }

    async fn ask(&self, request: Request<Body>) -> Result<Response<Incoming>, NoAnswer> {
        let client = self.client();
        let client =
            client.map_err(|error| NoAnswer::Away(format!("{}: {}", self.host(), error.context())))?;
        client.request(request).await.map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            let why = format!("{}: {error}{}", self.host(), cause.unwrap_or_default());
            match error.is_connect() || tls::is_refusal(&error) {
                true => NoAnswer::Away(why),
                false => NoAnswer::Broken(why),
            }
        })
    }

    fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }
}

fn silent(host: &str) -> NoAnswer {
    NoAnswer::Silent(format!("{host}: no answer in time"))
}

/// Whether an answer that is no success says that it may be another one later, whatever is asked.
pub(crate) fn may_pass(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::INSUFFICIENT_STORAGE
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::BAD_GATEWAY
            | StatusCode::GATEWAY_TIMEOUT
    )
}
