//! What a source lists badly costs a migration nothing but that: from our own DICOMweb service with such faults.
#![cfg(feature = "web")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use futures::stream;
use http::{StatusCode, header};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::dataset::part10::{Meta, write_meta};
use pacs_core::{DataSet, Options, Pacs, Source as SentBy, Uid};
use pacs_net::fetch::{Source, WebService};
use pacs_net::migrate::{Migration, Report, Watcher};
use pacs_net::tls::Connector;
use pacs_net::web::{self, WebOptions};
use pacs_store::{MemoryArchive, MemoryIndex};
use tokio::net::TcpListener;
use tower::ServiceExt as _;

/// Studies of one day, one in each second.
const STUDIES: u64 = 50;
/// How many the source lists at most, whatever is asked for.
const CAP: usize = 8;

struct Unwatched;

impl Watcher for Unwatched {
    fn found(&self) {}
    fn ended(&self, _: u64) {}
}

async fn engine() -> Pacs {
    let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
    Pacs::open(archive, index, Options::default()).await.unwrap()
}

/// A study of one instance; the first has no time.
fn study(number: u64) -> Bytes {
    let instance = Uid::parse(&format!("1.2.{number}.1.1")).unwrap();
    let class = Uid::constant(uids::CT_IMAGE_STORAGE);
    let mut set = DataSet::new();
    set.put_uid(tags::SOP_CLASS_UID, &class);
    set.put_uid(tags::SOP_INSTANCE_UID, &instance);
    set.put_text(tags::STUDY_DATE, VR::DA, "20200102");
    if number > 1 {
        set.put_text(tags::STUDY_TIME, VR::TM, format!("1200{number:02}"));
    }
    set.put_text(tags::STUDY_INSTANCE_UID, VR::UI, format!("1.2.{number}"));
    set.put_text(tags::SERIES_INSTANCE_UID, VR::UI, format!("1.2.{number}.1"));
    let syntax = uids::EXPLICIT_VR_LITTLE_ENDIAN;
    let meta = write_meta(&Meta::new(class, instance, Uid::constant(syntax)));
    let bytes = encode(&set, syntax, &CharacterSet::utf8()).unwrap();
    [meta, bytes.into()].concat().into()
}

/// Whether searches are answered with at most [`CAP`], and whether the fourth study has another UID in them.
#[derive(Clone)]
struct Faults {
    cap: bool,
    uid: Arc<AtomicBool>,
}

/// Answers as a service with faults.
async fn answer(whole: Router, faults: Faults, request: Request) -> Response {
    if !request.uri().path().ends_with("/studies") {
        return whole.oneshot(request).await.unwrap();
    }
    let query = request.uri().query().unwrap_or_default();
    let number = |name: &str| {
        let value = query.split('&').find_map(|it| it.strip_prefix(name));
        value.map_or(0, |value| value.parse::<usize>().unwrap())
    };
    let mut kept: Vec<_> = query.split('&').map(str::to_owned).collect();
    if faults.cap {
        if number("offset=") > 0 {
            let mut nothing = Response::new(Body::empty());
            *nothing.status_mut() = StatusCode::NO_CONTENT;
            return nothing;
        }
        kept.retain(|it| !it.starts_with("limit="));
        kept.push(format!("limit={}", number("limit=").min(CAP)));
    }
    let uri = format!("{}?{}", request.uri().path(), kept.join("&"));
    let (mut parts, body) = request.into_parts();
    parts.uri = uri.parse().unwrap();
    let request = Request::from_parts(parts, body);
    let (mut parts, body) = whole.oneshot(request).await.unwrap().into_parts();
    // It doesn't say that there are more.
    parts.headers.remove(header::WARNING);
    parts.headers.remove(header::CONTENT_LENGTH);
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let mut text = String::from_utf8(body.to_vec()).unwrap();
    if faults.uid.load(Ordering::Relaxed) {
        text = text.replace("\"1.2.4\"", "\"1.2.x\"");
    }
    Response::from_parts(parts, text.into())
}

async fn migrate(source: Source, journal: &std::path::Path, into: &Pacs) -> Report {
    let migration = Migration {
        pacs: into.clone(),
        source,
        from: None,
        to: None,
        modality: None,
        studies_at_once: 4,
        slice_max: CAP,
        per_hour: None,
        verify: true,
        journal: journal.to_owned(),
    };
    migration.run(&Unwatched, std::future::pending()).await.unwrap()
}

async fn serve(faults: Faults) -> Source {
    let pacs = engine().await;
    for number in 1..=STUDIES {
        let pieces = stream::iter([Ok(study(number))]);
        pacs.import(SentBy::default(), pieces).await.unwrap();
    }
    let whole = web::router(pacs, WebOptions::default());
    let router =
        Router::new().fallback(move |request: Request| answer(whole.clone(), faults.clone(), request));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/dicom-web", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Source::Web(WebService::new(&url, &Connector::default()).unwrap())
}

#[tokio::test]
async fn a_source_that_lists_few_at_a_time_and_says_so_nowhere_gives_all_studies_of_a_minute() {
    let room = tempfile::tempdir().unwrap();
    let faults = Faults {
        cap: true,
        uid: Arc::default(),
    };
    let (source, here) = (serve(faults).await, engine().await);
    let report = migrate(source, &room.path().join("journal"), &here).await;
    assert_eq!(report.done.studies, STUDIES);
    assert!(report.failed.is_empty());
}

#[tokio::test]
async fn a_study_whose_uid_is_none_keeps_no_other_one_from_coming_and_is_told() {
    let room = tempfile::tempdir().unwrap();
    let journal = room.path().join("journal");
    let is_wrong = Arc::new(AtomicBool::new(true));
    let faults = Faults {
        cap: false,
        uid: Arc::clone(&is_wrong),
    };
    let (source, here) = (serve(faults).await, engine().await);
    let report = migrate(source.clone(), &journal, &here).await;
    assert_eq!(report.done.studies, STUDIES - 1);
    assert!(report.without_uid && !report.is_complete());
    is_wrong.store(false, Ordering::Relaxed);
    let report = migrate(source, &journal, &here).await;
    assert_eq!((report.done.studies, report.fetched), (STUDIES, 1));
    assert!(report.is_complete(), "{report}");
}
