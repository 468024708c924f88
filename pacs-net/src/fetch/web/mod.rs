//! Studies from a DICOMweb service: QIDO-RS (PS3.18 10.6) and WADO-RS (10.4).

mod objects;
mod question;
mod retrieve;
mod search;

use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use pacs_core::{Error, ErrorKind, Result};

pub(super) use retrieve::fetch;
pub(super) use search::{find, reach};

use crate::tls::Connector;
use crate::web::http::client::{Caller, NoAnswer, may_pass};

/// A DICOMweb service. `Display` is its URL.
#[derive(Clone, Debug)]
pub struct WebService {
    caller: Arc<Caller>,
    /// Without a slash at the end.
    base: Arc<str>,
}

impl WebService {
    /// At this base URL (PS3.18 8.2), such as `http://archive.example:8042/dicom-web`; called by `connector` where it
    /// begins with `https://`.
    ///
    /// # Errors
    /// `Invalid` when it is none; `Unsupported` for a user's name in it: no password is sent.
    pub fn new(url: &str, connector: &Connector) -> Result<Self> {
        let caller = Caller::new(url, connector)?;
        let uri = caller.uri();
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            let why = "a user's name in a URL is not offered: no password is sent";
            return Err(Error::new(ErrorKind::Unsupported, "fetch.url", why));
        }
        if uri.query().is_some() {
            let why = "the base URL of a service has no query";
            return Err(Error::new(ErrorKind::Invalid, "fetch.url", why));
        }
        let scheme = uri.scheme_str().unwrap_or("http");
        let base = format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/'));
        Ok(Self {
            caller: Arc::new(caller),
            base: base.into(),
        })
    }

    /// The header of the answer to a GET of what is at `path`, a slash and what follows, below the base URL.
    async fn get(&self, path: &str, accept: &'static str) -> Result<Response<Incoming>, NoAnswer> {
        let request = Request::get(format!("{}{path}", self.base))
            .header(header::ACCEPT, HeaderValue::from_static(accept))
            .body(Body::empty());
        // A path is made of UIDs and of what is percent-encoded; too long it can become.
        let request = request.map_err(|error| NoAnswer::Broken(format!("{}: {error}", self.base)))?;
        self.caller.answer(request).await
    }

    /// What an answer that is no success means for who asks.
    fn failed(&self, status: StatusCode) -> Error {
        let kind = match may_pass(status) {
            true => ErrorKind::Io,
            // It answered: it will answer so again.
            false => ErrorKind::Refused,
        };
        Error::new(
            kind,
            "fetch.web",
            format!("{} answered HTTP status {status}", self.base),
        )
    }
}

impl fmt::Display for WebService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}
