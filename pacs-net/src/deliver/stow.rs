//! [`ToStow`]: instances by STOW-RS.

use std::collections::{HashMap, HashSet};

use axum::body::Body;
use bytes::Bytes;
use dicom_dictionary_std::tags;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use http::{Request, StatusCode, header};
use pacs_core::audit::{AccessPoint, Participant};
use pacs_core::dataset::json;
use pacs_core::deid::Deidentifier;
use pacs_core::route::{Line, Waiting};
use pacs_core::{DataSet, InstanceRecord, Pacs, Result, Retry, Uid};

use super::http::not_taken;
use super::{Destination, Found, Recipient, Tried, find};
use crate::tls::Connector;
use crate::web::http::body::from_stream;
use crate::web::http::client::Caller;
use crate::web::http::media_type::MediaType;
use crate::web::http::multipart::{Part, related};

/// Instances in one request: what a receiver answers is known of all of them only then.
const TOGETHER_MAX: usize = 20;

/// Stores instances at a DICOMweb service, several in one request (PS3.18 10.5). Their bytes stream.
#[derive(Clone, Debug)]
pub struct ToStow {
    pacs: Pacs,
    caller: Caller,
    deidentifier: Option<Deidentifier>,
}

impl ToStow {
    /// To this URL: that of the service's studies, such as `http://archive.example/dicom-web/studies`.
    ///
    /// # Errors
    /// `Invalid` when it is none.
    pub fn new(pacs: Pacs, url: &str, connector: &Connector) -> Result<Self> {
        Ok(Self {
            pacs,
            caller: Caller::new(url, connector)?,
            deidentifier: None,
        })
    }

    /// The same, de-identified; each in a request of its own.
    #[must_use]
    pub fn deidentifying(mut self, by: Option<Deidentifier>) -> Self {
        self.deidentifier = by;
        self
    }

    /// Stores several in one request; where that goes wrong as a whole, each in one of its own, so that one doesn't
    /// bring down the others.
    async fn store(&self, batch: Vec<Waiting>) -> Vec<(Waiting, Tried)> {
        let (mut ended, mut found, mut last) = (Vec::new(), Vec::new(), None);
        for waiting in batch {
            match find(&self.pacs, &waiting).await {
                Found::Instance(record) => found.push((waiting, *record)),
                Found::Nothing(tried) if tried.is_over() => ended.push((waiting, tried)),
                // None behind it goes before it.
                Found::Nothing(tried) => {
                    last = Some((waiting, tried));
                    break;
                }
            }
        }
        let records: Vec<InstanceRecord> = found.iter().map(|(_, record)| record.clone()).collect();
        let tried = self.send(&records).await;
        if found.len() > 1
            && tried
                .iter()
                .all(|tried| matches!(tried, Tried::Failed(_) | Tried::Broken(_)))
        {
            for (waiting, record) in found {
                let tried = self.send(std::slice::from_ref(&record)).await.pop();
                let tried = tried.unwrap_or_else(|| Tried::Broken(String::new()));
                let goes_on = tried.is_over();
                ended.push((waiting, tried));
                if !goes_on {
                    return ended;
                }
            }
        } else {
            ended.extend(found.into_iter().map(|(waiting, _)| waiting).zip(tried));
        }
        ended.extend(last);
        ended
    }

    /// Sends these in one request; answers how it ended for each.
    async fn send(&self, records: &[InstanceRecord]) -> Vec<Tried> {
        let (mut instances, mut files) = (Vec::new(), Vec::new());
        for record in records {
            match &self.deidentifier {
                None => {
                    instances.push(record.key.instance);
                    files.push(self.pacs.outgoing_file(record));
                }
                Some(by) => match self.pacs.deidentified(record, by).await {
                    Ok(made) => {
                        instances.push(made.key.instance);
                        files.push(made.into_file());
                    }
                    // It is alone.
                    Err(error) => return vec![not_made(&error)],
                },
            }
        }
        if instances.is_empty() {
            return Vec::new();
        }
        let answer = match self.request(files) {
            Ok(request) => self.caller.call(request).await.map_err(Tried::from),
            Err(error) => Err(Tried::Refused(error.to_string())),
        };
        let failed = match &answer {
            // Some or all of them failed, and the answer says which (PS3.18 10.5.3); from some services also with 200.
            Ok((StatusCode::OK | StatusCode::ACCEPTED | StatusCode::CONFLICT, body)) => failures(body),
            _ => HashMap::new(),
        };
        let each = instances
            .into_iter()
            .map(|instance| match (&answer, failed.get(&instance)) {
                (Err(tried), _) => tried.clone(),
                (Ok(_), Some(reason)) => {
                    let text = format!("failure reason {reason:04X}H");
                    match reason {
                        0xA700..=0xA7FF => Tried::Busy(text),
                        // What many a server says of whatever goes wrong within it.
                        0x0110 => Tried::Broken(text),
                        _ => Tried::Failed(text),
                    }
                }
                (Ok((StatusCode::OK, _)), None) => Tried::Delivered(String::new()),
                // What it doesn't say it has taken it may not have (PS3.18 10.5.3).
                (Ok((StatusCode::ACCEPTED, body)), None) if stored(body).contains(&instance) => {
                    Tried::Delivered(String::new())
                }
                (Ok((status, _)), None) => not_taken(*status),
            });
        each.collect()
    }

    fn request(&self, files: Vec<BoxStream<'static, Result<Bytes>>>) -> Result<Request<Body>> {
        let part = |file| Ok(Part::new(&MediaType::DICOM, file));
        let multipart = related(&MediaType::DICOM, stream::iter(files).map(part));
        let request = Request::post(self.caller.uri().clone())
            .header(header::CONTENT_TYPE, multipart.media_type.header_value())
            .header(header::ACCEPT, "application/dicom+json")
            .body(from_stream(multipart.body));
        request.map_err(|error| {
            let why = error.to_string();
            pacs_core::Error::new(pacs_core::ErrorKind::Invalid, "deliver.stow", why)
        })
    }
}

/// What it means that an instance can't be de-identified.
fn not_made(error: &pacs_core::Error) -> Tried {
    match error.retry() {
        Retry::Later => Tried::Broken(error.to_string()),
        Retry::Never => Tried::Refused(error.to_string()),
    }
}

/// Referenced SOP Sequence (0008,1199): the instances that were stored.
fn stored(body: &[u8]) -> HashSet<Uid> {
    let read = response(body);
    let items = read
        .iter()
        .flat_map(|set| set.items(tags::REFERENCED_SOP_SEQUENCE));
    items
        .filter_map(|item| item.uid(tags::REFERENCED_SOP_INSTANCE_UID).ok())
        .collect()
}

/// The answer: one object (PS3.18 10.5.3.1), where a list is read.
fn response(body: &[u8]) -> Vec<DataSet> {
    let list = [b"[", body, b"]"].concat();
    let read = json::read(if body.starts_with(b"[") { body } else { &list });
    read.unwrap_or_default()
        .into_iter()
        .map(|described| described.header)
        .collect()
}

/// Failed SOP Sequence (0008,1198): Failure Reason by instance.
fn failures(body: &[u8]) -> HashMap<Uid, u16> {
    let read = response(body);
    let items = read.iter().flat_map(|set| set.items(tags::FAILED_SOP_SEQUENCE));
    items
        .filter_map(|item| {
            let instance = item.uid(tags::REFERENCED_SOP_INSTANCE_UID).ok()?;
            Some((instance, item.u16(tags::FAILURE_REASON).unwrap_or(0x0110)))
        })
        .collect()
}

impl Destination for ToStow {
    fn recipient(&self) -> Recipient {
        // Without what may follow a question mark: some put a secret there.
        let url = self.caller.uri().to_string();
        let place = url.split('?').next().unwrap_or_default().to_owned();
        Recipient::Peer(Participant::node(AccessPoint::Uri(place)))
    }

    fn deidentifies(&self) -> bool {
        self.deidentifier.is_some()
    }

    fn deliver<'a>(&'a self, _: &'a Line, batch: Vec<Waiting>) -> BoxStream<'a, (Waiting, Tried)> {
        // The header of each that is de-identified is in memory.
        let together = match self.deidentifier {
            Some(_) => 1,
            None => TOGETHER_MAX,
        };
        let together = stream::iter(batch).chunks(together);
        let mut ended = false;
        together
            .then(move |chunk| self.store(chunk))
            .take_while(move |tried: &Vec<(Waiting, Tried)>| {
                let goes = !ended;
                ended |= tried.iter().any(|(_, tried)| !tried.is_over());
                futures::future::ready(goes)
            })
            .flat_map(stream::iter)
            .boxed()
    }
}
