//! `GET /status`: how the server is, for the built-in page and whoever else asks.
//!
//! ```json
//! {
//!   "version": "0.1.0",
//!   "ae_title": "PACS",
//!   "dicom": "127.0.0.1:11112",          where it listens
//!   "uptime_seconds": 5,
//!   "totals": { "patients": 1, "studies": 1, "series": 2, "instances": 40, "bytes": 21000000 },
//!   "disk": { "total_bytes": 500, "free_bytes": 200 },       of the data directory; null: not known
//!   "received": { "instances": [0, 40], "bytes": [0, 21000000] },  by minute, the running one last
//!   "associations": { "open": 2, "limit": 1000 },
//!   "ohif": { "installed": false, "install": "npm ci --prefix examples/viewer" }
//! }
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use pacs_core::{AeTitle, Event, Observer, Pacs, Totals};
use serde::Serialize;

/// Minutes that are counted one by one.
const MINUTES: usize = 60;

/// How much was received, minute by minute over the last hour. An observer of the engine.
#[derive(Debug)]
pub(crate) struct Rates {
    started: Instant,
    minutes: Mutex<Minutes>,
}

impl Rates {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            minutes: Mutex::default(),
        })
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_secs() / 60
    }

    /// The counts stay right whatever a panic elsewhere interrupted: each is one addition.
    fn minutes(&self) -> std::sync::MutexGuard<'_, Minutes> {
        self.minutes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Rates {
    fn observe(&self, event: &Event) -> pacs_core::Result<()> {
        if let Event::Received { record, .. } = event {
            self.minutes().add(self.now(), record.length);
        }
        Ok(())
    }
}

/// A ring of minutes.
#[derive(Debug)]
struct Minutes {
    /// Number of the running minute.
    now: u64,
    instances: [u64; MINUTES],
    bytes: [u64; MINUTES],
}

impl Default for Minutes {
    fn default() -> Self {
        Self {
            now: 0,
            instances: [0; MINUTES],
            bytes: [0; MINUTES],
        }
    }
}

impl Minutes {
    /// Begins the minutes up to `now`.
    fn turn(&mut self, now: u64) {
        let passed = now.saturating_sub(self.now).min(MINUTES as u64);
        for minute in now - passed..now {
            let place = place(minute + 1);
            (self.instances[place], self.bytes[place]) = (0, 0);
        }
        self.now = self.now.max(now);
    }

    fn add(&mut self, now: u64, bytes: u64) {
        self.turn(now);
        let place = place(self.now);
        self.instances[place] += 1;
        self.bytes[place] = self.bytes[place].saturating_add(bytes);
    }

    /// The running minute last.
    fn received(&mut self, now: u64) -> Received {
        self.turn(now);
        let oldest = place(self.now + 1);
        let ordered = |ring: &[u64; MINUTES]| [&ring[oldest..], &ring[..oldest]].concat();
        Received {
            instances: ordered(&self.instances),
            bytes: ordered(&self.bytes),
        }
    }
}

fn place(minute: u64) -> usize {
    (minute % MINUTES as u64) as usize
}

/// What [`routes`] answers from.
pub(crate) struct Status {
    pub(crate) pacs: Pacs,
    /// The data directory, whose disk is told.
    pub(crate) data: PathBuf,
    pub(crate) ae_title: AeTitle,
    /// Where it listens for DICOM.
    pub(crate) dicom: SocketAddr,
    /// Since when it runs, and what it received.
    pub(crate) rates: Arc<Rates>,
    /// Associations that are open now.
    pub(crate) associations: Box<dyn Fn() -> usize + Send + Sync>,
    pub(crate) associations_max: usize,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    version: &'a str,
    ae_title: &'a str,
    dicom: SocketAddr,
    uptime_seconds: u64,
    totals: TotalsAnswer,
    disk: Option<Disk>,
    received: Received,
    associations: Associations,
    ohif: OhifAnswer,
}

#[derive(Debug, Serialize)]
struct TotalsAnswer {
    patients: u64,
    studies: u64,
    series: u64,
    instances: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Disk {
    total_bytes: u64,
    free_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Received {
    instances: Vec<u64>,
    bytes: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct Associations {
    open: usize,
    limit: usize,
}

#[derive(Debug, Serialize)]
struct OhifAnswer {
    installed: bool,
    install: &'static str,
}

/// Answers `GET /status`.
pub(super) fn routes(status: Status, ohif: bool) -> Router {
    let status = Arc::new(status);
    Router::new().route(
        "/status",
        get(move || {
            let status = Arc::clone(&status);
            async move { status.answer(ohif).await }
        }),
    )
}

impl Status {
    async fn answer(&self, ohif: bool) -> Response {
        let totals = match self.pacs.totals().await {
            Ok(totals) => totals,
            Err(error) => {
                tracing::warn!(%error, "the status can't be told");
                let problem = r#"{"title":"The index can't be asked now.","status":503}"#;
                let kind = [(header::CONTENT_TYPE, "application/problem+json")];
                return (StatusCode::SERVICE_UNAVAILABLE, kind, problem).into_response();
            }
        };
        let Totals {
            patients,
            studies,
            series,
            instances,
            bytes,
        } = totals;
        let data = self.data.clone();
        // A file system on a network may take its time.
        let disk = tokio::task::spawn_blocking(move || disk(&data))
            .await
            .unwrap_or_default();
        let answer = Answer {
            version: env!("CARGO_PKG_VERSION"),
            ae_title: self.ae_title.as_str(),
            dicom: self.dicom,
            uptime_seconds: self.rates.started.elapsed().as_secs(),
            totals: TotalsAnswer {
                patients,
                studies,
                series,
                instances,
                bytes,
            },
            disk,
            received: self.rates.minutes().received(self.rates.now()),
            associations: Associations {
                open: (self.associations)(),
                limit: self.associations_max,
            },
            ohif: OhifAnswer {
                installed: ohif,
                install: super::ohif::INSTALL,
            },
        };
        match serde_json::to_vec(&answer) {
            Ok(json) => {
                let headers = [
                    (header::CONTENT_TYPE, "application/json"),
                    (header::CACHE_CONTROL, "no-store"),
                ];
                (headers, json).into_response()
            }
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

/// The disk that `directory` lies on, as this process may use it.
fn disk(directory: &Path) -> Option<Disk> {
    let disk = rustix::fs::statvfs(directory).ok()?;
    Some(Disk {
        total_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
        free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
    })
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use futures::executor::block_on;
    use futures::stream;
    use pacs_core::dataset::charset::CharacterSet;
    use pacs_core::dataset::encode::encode;
    use pacs_core::{DataSet, Options, Source, VR, tags, uids};
    use pacs_store::{MemoryArchive, MemoryIndex};
    use serde_json::{Value, json};
    use tower::ServiceExt as _;

    use super::*;

    fn file() -> bytes::Bytes {
        let mut set = DataSet::new();
        set.put_text(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE);
        set.put_text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4");
        set.put_text(tags::STUDY_INSTANCE_UID, VR::UI, "1.2");
        set.put_text(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.3");
        encode(&set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8())
            .unwrap()
            .into()
    }

    #[tokio::test]
    async fn the_status_tells_what_the_server_holds_and_has_received() {
        let rates = Rates::new();
        let options = Options {
            observers: vec![rates.clone()],
            ..Options::default()
        };
        let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
        let pacs = block_on(Pacs::open(archive, index, options)).unwrap();
        let received = pacs
            .import(Source::default(), stream::iter([Ok(file())]))
            .await
            .unwrap();
        // Observers are told in the order of the index; once it is closed, all of them were.
        pacs.close().unwrap();
        let data = tempfile::tempdir().unwrap();
        let router = routes(
            Status {
                pacs,
                data: data.path().to_owned(),
                ae_title: "HERE".parse().unwrap(),
                dicom: ([127, 0, 0, 1], 104).into(),
                rates,
                associations: Box::new(|| 3),
                associations_max: 7,
            },
            false,
        );
        let answer = router
            .oneshot(Request::get("/status").body(Body::empty()).unwrap())
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let status: Value = serde_json::from_slice(&body).unwrap();
        let length = received.record.length;
        assert_eq!(
            status["totals"],
            json!({ "patients": 1, "studies": 1, "series": 1, "instances": 1, "bytes": length })
        );
        assert_eq!(
            (&status["ae_title"], &status["dicom"]),
            (&json!("HERE"), &json!("127.0.0.1:104"))
        );
        assert_eq!(status["associations"], json!({ "open": 3, "limit": 7 }));
        assert_eq!(status["ohif"]["installed"], json!(false));
        let sum = |what: &str| -> u64 {
            let list = status["received"][what].as_array().unwrap();
            assert_eq!(list.len(), MINUTES);
            list.iter().filter_map(Value::as_u64).sum()
        };
        assert_eq!((sum("instances"), sum("bytes")), (1, length));
        let (total, free) = (
            status["disk"]["total_bytes"].as_u64(),
            status["disk"]["free_bytes"].as_u64(),
        );
        assert!(total > Some(0) && free <= total, "{total:?} {free:?}");
    }

    #[test]
    fn a_minute_is_counted_until_an_hour_has_passed() {
        let mut minutes = Minutes::default();
        minutes.add(0, 10);
        minutes.add(0, 5);
        minutes.add(59, 1);
        let received = minutes.received(59);
        assert_eq!((received.instances[0], received.bytes[0]), (2, 15));
        assert_eq!((received.instances[59], received.bytes[59]), (1, 1));
        let received = minutes.received(60);
        assert_eq!((received.instances[0], received.instances[58]), (0, 1));
        assert_eq!(minutes.received(1000).instances, [0; MINUTES]);
        // A clock that stands still or a late caller moves nothing back.
        minutes.add(999, 2);
        assert_eq!(minutes.received(1000).bytes[59], 2);
    }

    #[test]
    fn the_disk_of_a_directory_that_is_not_there_is_not_known() {
        assert!(disk(Path::new("/no/such/directory")).is_none());
    }
}
