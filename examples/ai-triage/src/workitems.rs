//! Raising the priority of open reading steps, over UPS-RS (PS3.18 11).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use pacs_core::{Error, ErrorKind, Result, Uid};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Scheduled Procedure Step Priority (0074,1200).
const PRIORITY: &str = "00741200";
/// Where a step names its study: in its input (CC.2.5-3), or in the request it is for.
const OF_STUDY: [&str; 2] = ["00404021.0020000D", "0040A370.0020000D"];
/// What is read of an answer.
const ANSWER_LENGTH_MAX_BYTES: usize = 1024 * 1024;
/// How long is waited for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How urgent a step is (PS3.3 C.30.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// It can wait.
    Low,
    /// As usual.
    Medium,
    /// Before others.
    High,
    /// At once.
    Stat,
}

impl Priority {
    fn as_str(self) -> &'static str {
        match self {
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
            Self::Stat => "STAT",
        }
    }
}

impl FromStr for Priority {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::Low, Self::Medium, Self::High, Self::Stat];
        let found = all
            .into_iter()
            .find(|priority| text.eq_ignore_ascii_case(priority.as_str()));
        found.ok_or_else(|| invalid("a priority is LOW, MEDIUM, HIGH or STAT"))
    }
}

/// A Worklist Service (PS3.18 11), and what a finding makes of its steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workitems {
    base: Uri,
    priority: Priority,
}

impl fmt::Display for Workitems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.base)
    }
}

impl Workitems {
    /// The service at `url`, below which `/workitems` is: `http://pacs:8080/dicom-web`. There is no TLS here.
    ///
    /// # Errors
    /// `Invalid` when it is no such URL.
    pub fn at(url: &str, priority: Priority) -> Result<Self> {
        let base: Uri = url
            .trim_end_matches('/')
            .parse()
            .map_err(|_| invalid("not a URL"))?;
        if base.scheme_str() != Some("http") || base.host().is_none() || base.query().is_some() {
            return Err(invalid("the service is at a URL like http://pacs:8080/dicom-web"));
        }
        Ok(Self { base, priority })
    }

    /// Raises the priority of every step of the study that nobody has claimed yet; answers how many. A step that is
    /// as urgent already stays as it is.
    ///
    /// # Errors
    /// `Io` and `TimedOut` when the service can't be reached, `Refused` with its status when it does not do it.
    pub(crate) async fn raise(&self, study: &Uid) -> Result<usize> {
        let raising = async {
            for attribute in OF_STUDY {
                let steps = self.open_steps(attribute, study).await?;
                if !steps.is_empty() {
                    return self.raise_all(&steps).await;
                }
            }
            Ok(0)
        };
        let late = |_| Error::new(ErrorKind::TimedOut, "workitems.raise", "no answer in time");
        tokio::time::timeout(PATIENCE, raising).await.map_err(late)?
    }

    /// Search (11.9): the steps in state SCHEDULED, each with how urgent it is.
    async fn open_steps(&self, attribute: &str, study: &Uid) -> Result<Vec<(Uid, Option<Priority>)>> {
        let query = format!("{attribute}={study}&00741000=SCHEDULED&includefield={PRIORITY}");
        let request = Request::get(self.path(&format!("workitems?{query}")));
        let (status, body) = self.ask(request, Bytes::new()).await?;
        if status == StatusCode::NO_CONTENT {
            return Ok(Vec::new());
        }
        let steps: Vec<Value> =
            serde_json::from_slice(&body).map_err(|_| refused("an answer that is no JSON"))?;
        let first = |step: &Value, tag: &str| Some(step.get(tag)?.get("Value")?.get(0)?.as_str()?.to_owned());
        let step = |step: &Value| {
            let instance = Uid::parse(&first(step, "00080018")?).ok()?;
            let priority = first(step, PRIORITY).and_then(|text| text.parse().ok());
            Some((instance, priority))
        };
        Ok(steps.iter().filter_map(step).collect())
    }

    /// Update (11.6). A step that is not claimed has no Transaction UID.
    async fn raise_all(&self, steps: &[(Uid, Option<Priority>)]) -> Result<usize> {
        let mut raised = 0;
        for (step, priority) in steps {
            if priority.is_some_and(|priority| priority >= self.priority) {
                continue;
            }
            let change = json!([{ PRIORITY: { "vr": "CS", "Value": [self.priority.as_str()] } }]);
            let request = Request::post(self.path(&format!("workitems/{step}")))
                .header(header::CONTENT_TYPE, "application/dicom+json");
            self.ask(request, change.to_string().into()).await?;
            raised += 1;
        }
        Ok(raised)
    }

    fn path(&self, below: &str) -> String {
        format!("{}/{below}", self.base.path().trim_end_matches('/'))
    }

    /// Makes one request on a connection of its own.
    async fn ask(&self, request: http::request::Builder, body: Bytes) -> Result<(StatusCode, Bytes)> {
        let lost = |error: hyper::Error| {
            Error::new(ErrorKind::Io, "workitems.ask", "the connection is broken").with_source(error)
        };
        // There is a host, or it would not have been taken.
        let host = self.base.host().unwrap_or_default();
        let port = self.base.port_u16().unwrap_or(80);
        let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await;
        let stream =
            stream.map_err(|error| Error::io("workitems.ask", "the service can't be reached", error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(lost)?;
        let request = request
            .header(
                header::HOST,
                self.base.authority().map_or(host, |authority| authority.as_str()),
            )
            .header(header::ACCEPT, "application/dicom+json")
            .body(Full::new(body))
            .map_err(|_| invalid("a request that is none"))?;
        let answer = async {
            let answer = sender.send_request(request).await.map_err(lost)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_LENGTH_MAX_BYTES)
                .collect()
                .await;
            let body = body
                .map_err(|_| refused("an answer that is cut off or too long"))?
                .to_bytes();
            if !status.is_success() {
                return Err(refused(&format!("the service answers {status}")));
            }
            Ok((status, body))
        };
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            // What was read before the connection ended is there still.
            _ = connection => answer.await,
        }
    }
}

fn invalid(why: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, "workitems.at", why)
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::Refused, "workitems.ask", why.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use axum::extract::{Path, State};
    use axum::response::{IntoResponse, Response};
    use axum::routing::{get, post};

    use super::*;

    /// A Worklist Service with three steps of one study, as PS3.18 11 has it; holds each update.
    type Updates = Arc<Mutex<Vec<(String, Value)>>>;

    async fn search(uri: Uri) -> Response {
        let query = uri.query().unwrap_or_default().split('&');
        let query: BTreeMap<&str, &str> = query.filter_map(|pair| pair.split_once('=')).collect();
        assert_eq!(query["00741000"], "SCHEDULED");
        let by_request = query.get("0040A370.0020000D").copied();
        match (query.get("00404021.0020000D").copied(), by_request) {
            (Some("1.2.3"), None) => {
                let step = |uid: &str, priority: &str| {
                    json!({
                        "00080018": {"vr": "UI", "Value": [uid]},
                        "00741200": {"vr": "CS", "Value": [priority]},
                    })
                };
                let steps = [step("1.1", "MEDIUM"), step("1.2", "STAT"), step("1.3", "LOW")];
                let steps = json!(steps);
                (
                    [(header::CONTENT_TYPE, "application/dicom+json")],
                    steps.to_string(),
                )
                    .into_response()
            }
            (None, Some("1.2.4")) => json!([{"00080018": {"vr": "UI", "Value": ["1.4"]}}])
                .to_string()
                .into_response(),
            (Some("1.2.6"), None) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            _ => StatusCode::NO_CONTENT.into_response(),
        }
    }

    async fn update(State(updates): State<Updates>, Path(step): Path<String>, body: String) -> StatusCode {
        updates
            .lock()
            .unwrap()
            .push((step, serde_json::from_str(&body).unwrap()));
        StatusCode::OK
    }

    #[tokio::test]
    async fn open_steps_of_the_study_are_raised_and_those_that_are_as_urgent_are_left_alone() {
        let updates = Updates::default();
        let service = axum::Router::new()
            .route("/rs/workitems", get(search))
            .route("/rs/workitems/{step}", post(update))
            .with_state(Arc::clone(&updates));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, service).await });
        let workitems = Workitems::at(&format!("http://{address}/rs/"), Priority::High).unwrap();
        let study = |text| Uid::constant(text);
        assert_eq!(workitems.raise(&study("1.2.3")).await.unwrap(), 2);
        assert_eq!(workitems.raise(&study("1.2.4")).await.unwrap(), 1);
        assert_eq!(workitems.raise(&study("1.2.5")).await.unwrap(), 0);
        let refused = workitems.raise(&study("1.2.6")).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused);
        let updates = updates.lock().unwrap();
        let steps: Vec<&str> = updates.iter().map(|(step, _)| &**step).collect();
        assert_eq!(steps, ["1.1", "1.3", "1.4"]);
        let change = json!([{"00741200": {"vr": "CS", "Value": ["HIGH"]}}]);
        assert!(updates.iter().all(|(_, told)| *told == change));
    }

    #[test]
    fn what_is_no_url_of_a_service_is_refused() {
        for bad in [
            "",
            "pacs:8080",
            "https://pacs/rs",
            "http://",
            "http://a b/",
            "http://pacs/?a",
        ] {
            assert!(Workitems::at(bad, Priority::High).is_err(), "{bad}");
        }
        assert!("urgent".parse::<Priority>().is_err());
        assert_eq!("stat".parse::<Priority>().unwrap(), Priority::Stat);
    }
}
