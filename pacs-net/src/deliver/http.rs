//! What deliveries over HTTP share: one client, an address, what a status means.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use pacs_core::{Error, ErrorKind, Result};

use super::Tried;

/// What of an answer is read.
const ANSWER_LENGTH_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Makes requests to one address.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    client: Client<HttpConnector, Body>,
    pub(super) uri: Uri,
    /// How long an answer is waited for.
    patience: Duration,
}

impl Caller {
    pub(super) fn new(url: &str) -> Result<Self> {
        let invalid = |why: &'static str| Error::new(ErrorKind::Invalid, "deliver.url", why);
        let uri: Uri = url.parse().map_err(|_| invalid("the URL can't be read"))?;
        if uri.scheme_str() != Some("http") || uri.host().is_none() {
            return Err(invalid("a URL that begins with http:// is needed"));
        }
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            uri,
            patience: Duration::from_secs(300),
        })
    }

    /// The status and the body of the answer, as far as it is not too long.
    ///
    /// # Errors
    /// Why there is none: the receiver isn't there.
    pub(super) async fn call(&self, request: Request<Body>) -> Result<(StatusCode, Bytes), Tried> {
        let away = |why: String| Tried::Away(format!("{}: {why}", self.host()));
        let calling = async {
            let answer = self.client.request(request).await.map_err(|error| {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                let why = format!("{error}{}", cause.unwrap_or_default());
                match error.is_connect() {
                    true => away(why),
                    // It broke while this one was under way: it may be what breaks it.
                    false => Tried::Failed(format!("{}: {why}", self.host())),
                }
            })?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_LENGTH_MAX_BYTES);
            let body = body.collect().await.map(http_body_util::Collected::to_bytes);
            Ok((status, body.unwrap_or_default()))
        };
        match tokio::time::timeout(self.patience, calling).await {
            Ok(answer) => answer,
            Err(_) => Err(Tried::Failed(format!("{}: no answer in time", self.host()))),
        }
    }

    fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }
}

/// What an answer that is no success means for a delivery.
pub(super) fn not_taken(status: StatusCode) -> Tried {
    let text = format!("HTTP status {status}");
    match status {
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::INSUFFICIENT_STORAGE
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::BAD_GATEWAY
        | StatusCode::GATEWAY_TIMEOUT => Tried::Away(text),
        _ => Tried::Failed(text),
    }
}
