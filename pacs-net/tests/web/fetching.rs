//! Studies from a DICOMweb service: our own, and the same with the faults that services have.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use http::{StatusCode, header};
use pacs_core::audit::Audit;
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::dataset::part10::{Meta, write_meta};
use pacs_core::route::{Delivery, Occasion, Router as Rules, Trigger};
use pacs_core::{DataSet, Error, ErrorKind, Level, Options, Pacs, Result, Retry, Source as SentBy, Uid};
use pacs_net::fetch::{Fetched, Source, WebService};
use pacs_net::tls::Connector;
use pacs_net::web::{self, WebOptions};
use pacs_store::{MemoryArchive, MemoryIndex};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tower::ServiceExt as _;

fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

async fn engine() -> Pacs {
    let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
    Pacs::open(archive, index, Options::default()).await.unwrap()
}

/// Series and instances of a study of this number.
const SERIES: usize = 2;
const INSTANCES: usize = 3;

/// Instances of a study; those of the second series are long, and in a transfer syntax that nobody converts.
fn study(number: usize) -> Vec<(Uid, Bytes)> {
    let each = (1..=SERIES).flat_map(|series| (1..=INSTANCES).map(move |instance| (series, instance)));
    each.map(|(series, instance)| {
        let sop_instance = uid(&format!("1.2.{number}.{series}.{instance}"));
        let mut set = DataSet::new();
        set.put_text(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE);
        set.put_uid(tags::SOP_INSTANCE_UID, &sop_instance);
        set.put_text(tags::STUDY_DATE, VR::DA, format!("202001{:02}", number % 28 + 1));
        set.put_text(tags::MODALITY, VR::CS, "CT");
        set.put_text(tags::PATIENT_ID, VR::LO, format!("P{number}"));
        set.put_text(tags::STUDY_INSTANCE_UID, VR::UI, format!("1.2.{number}"));
        set.put_text(
            tags::SERIES_INSTANCE_UID,
            VR::UI,
            format!("1.2.{number}.{series}"),
        );
        let length = if series == 2 { 100_000 } else { 10 };
        set.put_text(tags::TEXT_VALUE, VR::UT, "x".repeat(length));
        let syntax = match series {
            2 => "1.2.3.4.5.6.7",
            _ => uids::EXPLICIT_VR_LITTLE_ENDIAN,
        };
        let meta = write_meta(&Meta::new(
            Uid::constant(uids::CT_IMAGE_STORAGE),
            sop_instance,
            uid(syntax),
        ));
        let bytes = encode(&set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8()).unwrap();
        (sop_instance, [meta, bytes.into()].concat().into())
    })
    .collect()
}

/// Who sent what is kept there, which its files say.
fn modality() -> SentBy {
    SentBy {
        calling_ae: Some("CT1".parse().unwrap()),
        ..SentBy::default()
    }
}

/// What is behind what comes between.
struct Next(Router);

impl Next {
    async fn run(self, request: Request) -> Response {
        self.0.oneshot(request).await.unwrap()
    }
}

/// A PACS with DICOMweb, and what comes between it and its clients.
struct Served {
    pacs: Pacs,
    url: String,
    serving: AbortHandle,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn listen(router: Router) -> (String, AbortHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/dicom-web", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, serving.abort_handle())
}

impl Served {
    /// With so many studies.
    async fn whole(studies: usize) -> Self {
        Self::between(studies, |request, next| next.run(request).boxed()).await
    }

    async fn between<F>(studies: usize, between: F) -> Self
    where
        F: Fn(Request, Next) -> BoxFuture<'static, Response> + Clone + Send + Sync + 'static,
    {
        let pacs = engine().await;
        for (_, file) in (1..=studies).flat_map(study) {
            let pieces = stream::iter([Ok(file)]);
            pacs.import(modality(), pieces).await.unwrap();
        }
        let whole = web::router(pacs.clone(), WebOptions::default());
        let router = Router::new().fallback(move |request: Request| between(request, Next(whole.clone())));
        let (url, serving) = listen(router).await;
        Self { pacs, url, serving }
    }

    fn source(&self) -> Source {
        Source::Web(WebService::new(&self.url, &Connector::default()).unwrap())
    }
}

/// Whether an instance, a series or a study is asked for, not searched.
fn retrieves(request: &Request) -> bool {
    let accept = request.headers().get(header::ACCEPT);
    accept.is_some_and(|accept| accept.to_str().unwrap().contains("application/dicom\""))
}

/// Of a path, what is behind the last slash.
fn last(request: &Request) -> String {
    request.uri().path().rsplit('/').next().unwrap().to_owned()
}

async fn fetch(source: &Source, pacs: &Pacs) -> Result<Fetched> {
    source.fetch_study(pacs, &uid("1.2.1"), true).await
}

/// The data sets kept of the first study, as they lie there.
async fn kept(pacs: &Pacs) -> BTreeSet<(Uid, Uid, Vec<u8>)> {
    let mut kept = BTreeSet::new();
    for (instance, _) in study(1) {
        if let Some(record) = pacs.lookup(&instance).await.unwrap() {
            let pieces: Vec<Bytes> = pacs.read_data_set(&record).try_collect().await.unwrap();
            kept.insert((instance, record.transfer_syntax, pieces.concat()));
        }
    }
    kept
}

async fn find(source: &Source, level: Level, keys: &DataSet, at_most: usize) -> Result<Vec<DataSet>> {
    let mut finder = source.finder(&Audit::none());
    finder.find(level, keys, at_most).await?.try_collect().await
}

#[tokio::test]
async fn a_study_comes_as_it_is_kept_there_and_what_is_here_is_not_asked_for_again() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    let served = Served::between(2, move |request, next| {
        if retrieves(&request) {
            noted.lock().unwrap().push(request.uri().path().to_owned());
        }
        next.run(request).boxed()
    })
    .await;
    let (source, here) = (served.source(), engine().await);
    source.reach().await.unwrap();
    let fetched = fetch(&source, &here).await.unwrap();
    assert_eq!((fetched.series, fetched.instances, fetched.asked), (2, 6, 6));
    assert_eq!((fetched.missing, fetched.said), (Vec::new(), None));
    assert!(kept(&here).await == kept(&served.pacs).await);
    assert_eq!(kept(&here).await.len(), SERIES * INSTANCES);
    assert!(here.lookup(&uid("1.2.2.1.1")).await.unwrap().is_none());
    assert_eq!(*asked.lock().unwrap(), ["/dicom-web/studies/1.2.1"]);

    let fetched = fetch(&source, &here).await.unwrap();
    assert_eq!((fetched.instances, fetched.asked), (6, 0));
    assert_eq!(asked.lock().unwrap().len(), 1);

    // Where some are here: a whole series, and one instance alone.
    let here = engine().await;
    for (_, file) in study(1).into_iter().take(2) {
        here.import(SentBy::default(), stream::iter([Ok(file)]))
            .await
            .unwrap();
    }
    let fetched = fetch(&source, &here).await.unwrap();
    assert_eq!((fetched.asked, fetched.missing.len()), (4, 0));
    let mut asked = asked.lock().unwrap().split_off(1);
    asked.sort();
    let expected = [
        "/dicom-web/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.3",
        "/dicom-web/studies/1.2.1/series/1.2.1.2",
    ];
    assert_eq!(asked, expected);
}

/// Notes whether what is stored is fetched, and who sent it.
struct Noting(std::sync::mpsc::Sender<(bool, Option<String>)>);

impl Rules for Noting {
    fn route(&self, occasion: &Occasion<'_>) -> Result<Vec<Delivery>> {
        let sender = occasion.source.calling_ae.map(|title| title.to_string());
        self.0.send((occasion.fetched, sender)).unwrap();
        Ok(Vec::new())
    }

    fn wants(&self, trigger: Trigger) -> bool {
        trigger == Trigger::InstanceStored
    }

    fn wants_fetched(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn what_is_fetched_counts_as_that_and_says_who_sent_it_there() {
    let served = Served::whole(1).await;
    let source = served.source();
    let (noting, noted) = std::sync::mpsc::channel();
    let options = Options {
        router: Some(Arc::new(Noting(noting))),
        ..Options::default()
    };
    let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
    let here = Pacs::open(archive, index, options).await.unwrap();
    let fetching = here.fetching(&uid("1.2.1"), &source.brings()).await.unwrap();
    assert_eq!(fetch(&source, &here).await.unwrap().missing, Vec::new());
    drop(fetching);
    // The same modality sends another one by itself.
    let (_, file) = study(2).remove(0);
    here.import(modality(), stream::iter([Ok(file)])).await.unwrap();
    // Closed, so that everything was asked about.
    here.close().unwrap();
    let noted: Vec<_> = noted.try_iter().collect();
    let expected = |fetched| (fetched, Some("CT1".to_owned()));
    assert_eq!(noted[..6], vec![expected(true); 6]);
    assert_eq!(noted[6..], [expected(false)]);
}

#[tokio::test]
async fn each_level_is_searched_by_keys_and_ended_early() {
    let served = Served::whole(5).await;
    let source = served.source();
    let mut keys = DataSet::new();
    keys.put_text(tags::STUDY_INSTANCE_UID, VR::UI, "");
    keys.put_text(tags::PATIENT_ID, VR::LO, "P3");
    let found = find(&source, Level::Study, &keys, 10).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].uid(tags::STUDY_INSTANCE_UID).unwrap(), uid("1.2.3"));
    keys.put_text(tags::PATIENT_ID, VR::LO, "");
    assert_eq!(find(&source, Level::Study, &keys, 10).await.unwrap().len(), 5);
    assert_eq!(find(&source, Level::Study, &keys, 2).await.unwrap().len(), 2);
    keys.put_text(tags::STUDY_DATE, VR::DA, "20200102-20200103");
    assert_eq!(find(&source, Level::Study, &keys, 10).await.unwrap().len(), 2);

    let mut keys = DataSet::new();
    keys.put_uid(tags::STUDY_INSTANCE_UID, &uid("1.2.3"));
    keys.put_text(tags::MODALITY, VR::CS, "");
    let found = find(&source, Level::Series, &keys, 10).await.unwrap();
    let modalities: Vec<_> = found.iter().map(|set| set.string(tags::MODALITY)).collect();
    assert_eq!(modalities, [Some("CT"); SERIES]);
    keys.put_uid(tags::SERIES_INSTANCE_UID, &uid("1.2.3.2"));
    let found = find(&source, Level::Instance, &keys, 10).await.unwrap();
    assert_eq!(found.len(), INSTANCES);
    keys.put_uid(tags::STUDY_INSTANCE_UID, &uid("1.9"));
    assert!(
        find(&source, Level::Instance, &keys, 10)
            .await
            .unwrap()
            .is_empty()
    );
}

/// A service that has these studies and answers searches as `page` says: from the offset and the limit to a range, and
/// whether it says that there are more.
async fn listing(
    count: usize,
    page: impl Fn(usize, usize) -> (std::ops::Range<usize>, bool) + Clone + Send + Sync + 'static,
) -> (Source, AbortHandle, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let noted = Arc::clone(&asked);
    let router = Router::new().fallback(move |request: Request| {
        let (page, noted) = (page.clone(), Arc::clone(&noted));
        async move {
            noted.fetch_add(1, Ordering::Relaxed);
            let query = request.uri().query().unwrap().to_owned();
            let number = |name: &str| {
                let value = query.split('&').find_map(|it| it.strip_prefix(name));
                value.map_or(0, |value| value.parse().unwrap())
            };
            let (range, says_more) = page(number("offset="), number("limit="));
            let objects: Vec<_> = (range.start.min(count)..range.end.min(count))
                .map(|at| serde_json::json!({"0020000D": {"vr": "UI", "Value": [format!("1.2.{at}")]}}))
                .collect();
            let mut response = serde_json::to_string(&objects).unwrap().into_response();
            if says_more {
                let warning = "299 a: \"there are additional results that can be requested\"";
                response
                    .headers_mut()
                    .insert(header::WARNING, warning.parse().unwrap());
            }
            response
        }
    });
    let (url, serving) = listen(router).await;
    (
        Source::Web(WebService::new(&url, &Connector::default()).unwrap()),
        serving,
        asked,
    )
}

/// How many are found, where at most so many are wanted.
async fn listed(source: &Source, at_most: usize) -> Result<usize> {
    let found = find(source, Level::Study, &DataSet::new(), at_most).await?;
    let different: BTreeSet<Uid> = found
        .iter()
        .map(|set| set.uid(tags::STUDY_INSTANCE_UID).unwrap())
        .collect();
    assert_eq!(different.len(), found.len(), "each is found once");
    Ok(found.len())
}

#[tokio::test]
async fn all_pages_are_read_whatever_a_service_gives_at_once() {
    // It gives 30 at most, and says so, or doesn't.
    for says_more in [true, false] {
        let page = move |offset, limit: usize| {
            let end = offset + limit.min(30);
            (offset..end, says_more && end < 100)
        };
        let (source, _serving, _) = listing(100, page).await;
        assert_eq!(listed(&source, usize::MAX).await.unwrap(), 100);
        assert_eq!(listed(&source, 45).await.unwrap(), 45);
    }
    // More than a page of ours.
    let (source, _serving, asked) = listing(2500, |offset, limit| (offset..offset + limit, false)).await;
    assert_eq!(listed(&source, usize::MAX).await.unwrap(), 2500);
    assert!(asked.load(Ordering::Relaxed) <= 4);
    // What comes while it is asked moves the others: each is found once.
    let (source, _serving, _) = listing(60, |offset, _| (offset.saturating_sub(5)..offset + 20, false)).await;
    assert_eq!(listed(&source, usize::MAX).await.unwrap(), 60);
}

#[tokio::test]
async fn a_service_that_ignores_the_offset_is_not_asked_for_ever_and_what_it_keeps_back_is_told() {
    // All at once, whatever is asked.
    let (source, _serving, asked) = listing(2500, |_, _| (0..usize::MAX, false)).await;
    assert_eq!(listed(&source, usize::MAX).await.unwrap(), 2500);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // All of few.
    let (source, _serving, asked) = listing(25, |_, _| (0..usize::MAX, false)).await;
    assert_eq!(listed(&source, usize::MAX).await.unwrap(), 25);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    // The first ones, again and again.
    for says_more in [true, false] {
        let page = move |_, limit: usize| (0..if says_more { 30 } else { limit }, says_more);
        let (source, _serving, asked) = listing(2500, page).await;
        let error = listed(&source, usize::MAX).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        // It gives as many as are wanted.
        assert_eq!(listed(&source, 20).await.unwrap(), 20);
    }
}

/// What stands in for the answer to a retrieval: the real one's media type and body.
async fn instead(response: Response, change: impl FnOnce(Bytes) -> Body) -> Response {
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let mut changed = Response::new(change(body));
    *changed.status_mut() = parts.status;
    if let Some(content_type) = parts.headers.get(header::CONTENT_TYPE) {
        changed
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type.clone());
    }
    changed
}

/// A body that breaks off.
fn broken(bytes: Bytes) -> Body {
    Body::from_stream(stream::iter([Ok(bytes), Err(std::io::Error::other("it broke"))]))
}

#[tokio::test]
async fn a_transfer_that_breaks_off_leaves_no_half_of_an_instance_and_the_rest_is_asked_for_alone() {
    for is_clean in [true, false] {
        let served = Served::between(1, move |request, next| {
            let is_study = retrieves(&request) && last(&request) == "1.2.1";
            async move {
                let response = next.run(request).await;
                let cut = |body: Bytes| {
                    let half = body.slice(..body.len() / 2);
                    if is_clean { Body::from(half) } else { broken(half) }
                };
                match is_study {
                    true => instead(response, cut).await,
                    false => response,
                }
            }
            .boxed()
        })
        .await;
        let here = engine().await;
        let fetched = fetch(&served.source(), &here).await.unwrap();
        assert_eq!((fetched.asked, fetched.missing.len()), (6, 0));
        assert!(fetched.said.is_some(), "that it broke off is told");
        assert!(kept(&here).await == kept(&served.pacs).await);
    }
}

#[tokio::test]
async fn an_instance_that_breaks_every_transfer_is_missing_and_all_others_are_kept() {
    let served = Served::between(1, |request, next| {
        let holds = ["1.2.1", "1.2.1.2", "1.2.1.2.2"].contains(&last(&request).as_str());
        let is_hit = retrieves(&request) && holds;
        async move {
            let response = next.run(request).await;
            let cut = |body: Bytes| {
                let at = body.windows(9).position(|it| it == b"1.2.1.2.2").unwrap();
                broken(body.slice(..at + 5000))
            };
            match is_hit {
                true => instead(response, cut).await,
                false => response,
            }
        }
        .boxed()
    })
    .await;
    let here = engine().await;
    for _ in 0..2 {
        let fetched = fetch(&served.source(), &here).await.unwrap();
        assert_eq!(fetched.missing, [uid("1.2.1.2.2")]);
        assert!(fetched.said.is_some());
        assert_eq!(kept(&here).await.len(), 5);
    }
}

#[tokio::test]
async fn a_broken_part_ends_neither_the_study_nor_is_it_kept() {
    let served = Served::between(1, |request, next| {
        let is_retrieved = retrieves(&request);
        async move {
            let response = next.run(request).await;
            let spoil = |body: Bytes| {
                let mut body = body.to_vec();
                // The preambles of two instances, the second time where only one is asked for.
                let magic: Vec<_> = (0..body.len() - 4)
                    .filter(|at| body[*at..].starts_with(b"DICM"))
                    .collect();
                for at in [0, 2] {
                    if let Some(at) = magic.get(at) {
                        body[*at..at + 4].copy_from_slice(b"MICD");
                    }
                }
                Body::from(body)
            };
            match is_retrieved {
                true => instead(response, spoil).await,
                false => response,
            }
        }
        .boxed()
    })
    .await;
    let here = engine().await;
    let fetched = fetch(&served.source(), &here).await.unwrap();
    assert_eq!(fetched.missing.len(), 2);
    assert!(fetched.said.is_some());
    assert_eq!(kept(&here).await.len(), 4);
}

#[tokio::test]
async fn an_instance_of_another_study_is_not_kept() {
    let served = Served::between(2, |mut request, next| {
        if retrieves(&request) {
            let other = request.uri().path().replacen("1.2.1", "1.2.2", 1);
            *request.uri_mut() = other.split("/series").next().unwrap().parse().unwrap();
        }
        next.run(request).boxed()
    })
    .await;
    let here = engine().await;
    let fetched = fetch(&served.source(), &here).await.unwrap();
    assert_eq!(fetched.missing.len(), 6);
    assert!(here.lookup(&uid("1.2.2.1.1")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_service_that_knows_no_transfer_syntax_in_an_accept_field_is_asked_without() {
    for status in [StatusCode::NOT_ACCEPTABLE, StatusCode::BAD_REQUEST] {
        let served = Served::between(1, move |mut request, next| {
            if !retrieves(&request) {
                return next.run(request).boxed();
            }
            let accept = request.headers()[header::ACCEPT].to_str().unwrap();
            if accept.contains("transfer-syntax") {
                return std::future::ready(status.into_response()).boxed();
            }
            assert_eq!(accept, "multipart/related; type=\"application/dicom\"");
            // What such a service gives: as it is kept.
            let kept = format!("{accept}; transfer-syntax=*");
            request
                .headers_mut()
                .insert(header::ACCEPT, kept.parse().unwrap());
            next.run(request).boxed()
        })
        .await;
        let here = engine().await;
        let fetched = fetch(&served.source(), &here).await.unwrap();
        assert_eq!((fetched.asked, fetched.missing.len()), (6, 0));
        assert!(kept(&here).await == kept(&served.pacs).await);
    }
}

/// What becomes of a study where retrievals are answered so.
async fn answered(response: impl Fn() -> Response + Clone + Send + Sync + 'static) -> Result<Fetched> {
    let served = Served::between(1, move |request, next| match retrieves(&request) {
        true => std::future::ready(response()).boxed(),
        false => next.run(request).boxed(),
    })
    .await;
    fetch(&served.source(), &engine().await).await
}

#[tokio::test]
async fn what_a_service_will_not_give_is_missing_and_what_may_pass_is_an_error_to_try_again() {
    for status in [404, 410, 403, 500, 501] {
        let status = StatusCode::from_u16(status).unwrap();
        let fetched = answered(move || status.into_response()).await.unwrap();
        assert_eq!(fetched.missing.len(), 6, "{status}");
        assert!(fetched.said.unwrap().contains(status.as_str()), "{status}");
    }
    for status in [408, 429, 503] {
        let status = StatusCode::from_u16(status).unwrap();
        let error = answered(move || status.into_response()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.retry()),
            (ErrorKind::Io, Retry::Later),
            "{status}"
        );
    }
    let page = || ([(header::CONTENT_TYPE, "text/html")], "<html>sign in</html>").into_response();
    let fetched = answered(page).await.unwrap();
    assert_eq!(fetched.missing.len(), 6);
    assert!(fetched.said.unwrap().contains("text/html"));
}

#[tokio::test]
async fn what_has_no_valid_uid_is_found_all_the_same_and_keeps_no_other_back() {
    let text = "[{},{\"0020000D\":{\"vr\":\"UI\",\"Value\":[\"x\"]}},\
                {\"0020000D\":{\"vr\":\"UI\",\"Value\":[\"1.2\"]}}]";
    let (url, serving) = listen(Router::new().fallback(move || std::future::ready(text))).await;
    let source = Source::Web(WebService::new(&url, &Connector::default()).unwrap());
    let found = find(&source, Level::Study, &DataSet::new(), 3).await.unwrap();
    let uids: Vec<_> = found
        .iter()
        .map(|set| set.uid(tags::STUDY_INSTANCE_UID).ok())
        .collect();
    assert_eq!(uids, [None, None, Some(uid("1.2"))]);
    serving.abort();
}

/// What a search comes to that is answered so.
async fn searched(response: impl Fn() -> Response + Clone + Send + Sync + 'static) -> Error {
    let (url, serving) = listen(Router::new().fallback(move || std::future::ready(response()))).await;
    let source = Source::Web(WebService::new(&url, &Connector::default()).unwrap());
    let error = source.reach().await.unwrap_err();
    serving.abort();
    error
}

#[tokio::test]
async fn a_search_that_is_refused_or_answered_with_something_else_says_so() {
    for status in [400, 401, 404, 413, 500] {
        let status = StatusCode::from_u16(status).unwrap();
        let error = searched(move || status.into_response()).await;
        assert_eq!(error.kind(), ErrorKind::Refused, "{status}");
        assert!(error.to_string().contains(status.as_str()), "{error}");
    }
    for status in [429, 503] {
        let status = StatusCode::from_u16(status).unwrap();
        let error = searched(move || status.into_response()).await;
        assert_eq!(
            (error.kind(), error.retry()),
            (ErrorKind::Io, Retry::Later),
            "{status}"
        );
    }
    for text in ["<html>", "[{\"0020000D\":7}]"] {
        let error = searched(move || text.into_response()).await;
        assert_eq!(error.kind(), ErrorKind::Refused, "{text}");
    }
    let cut = || broken(Bytes::from_static(b"[{\"0020000D\"")).into_response();
    assert_eq!(searched(cut).await.kind(), ErrorKind::Io);
}

#[tokio::test]
async fn a_service_that_falls_silent_in_an_instance_is_given_up_and_nothing_of_the_instance_is_kept() {
    let silent = Arc::new(Notify::new());
    let falls = Arc::clone(&silent);
    let served = Served::between(1, move |request, next| {
        let (is_retrieved, falls) = (retrieves(&request), Arc::clone(&falls));
        async move {
            let response = next.run(request).await;
            let stall = |body: Bytes| {
                let begin = stream::iter([Ok::<_, std::io::Error>(body.slice(..body.len() / 2))]);
                let rest = stream::once(async move {
                    falls.notify_one();
                    std::future::pending().await
                });
                Body::from_stream(begin.chain(rest))
            };
            match is_retrieved {
                true => instead(response, stall).await,
                false => response,
            }
        }
        .boxed()
    })
    .await;
    let (source, here) = (served.source(), engine().await);
    let fetching = fetch(&source, &here);
    let waiting = async {
        silent.notified().await;
        // From here on the clock goes as fast as nothing happens.
        tokio::time::pause();
        std::future::pending::<()>().await
    };
    let error = tokio::select! {
        fetched = fetching => fetched.unwrap_err(),
        () = waiting => unreachable!("it waits for ever"),
    };
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(kept(&here).await.is_subset(&kept(&served.pacs).await));
}

#[tokio::test]
async fn a_service_that_is_not_there_and_a_url_that_is_none_are_told() {
    let served = Served::whole(0).await;
    let source = served.source();
    source.reach().await.unwrap();
    let url = served.url.clone();
    let port = url
        .split(':')
        .nth(2)
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    drop(served);
    // The task is gone once its port can be had again.
    while TcpListener::bind(format!("127.0.0.1:{port}")).await.is_err() {
        tokio::task::yield_now().await;
    }
    let error = Source::Web(WebService::new(&url, &Connector::default()).unwrap())
        .reach()
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Io, Retry::Later));
    for (url, kind) in [
        ("https://user:secret@a.example/dicom-web", ErrorKind::Unsupported),
        ("http://user:secret@a.example/dicom-web", ErrorKind::Unsupported),
        ("http://a.example/dicom-web?a=b", ErrorKind::Invalid),
        ("ftp://a.example", ErrorKind::Invalid),
        ("a.example", ErrorKind::Invalid),
        ("", ErrorKind::Invalid),
    ] {
        let error = WebService::new(url, &Connector::default()).unwrap_err();
        assert_eq!(error.kind(), kind, "{url}");
        assert!(!error.to_string().contains("secret"));
    }
    let service = WebService::new("http://a.example:8042/dicom-web/", &Connector::default()).unwrap();
    assert_eq!(service.to_string(), "http://a.example:8042/dicom-web");
}

#[tokio::test]
async fn a_service_that_fails_at_a_search_of_all_is_there_all_the_same() {
    let (url, serving) = listen(Router::new().fallback(|request: Request| async move {
        // Such as one that has lost a file which it reads for each study.
        match request.uri().query().unwrap().contains("0020000D=") {
            true => StatusCode::NO_CONTENT,
            false => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }))
    .await;
    let source = Source::Web(WebService::new(&url, &Connector::default()).unwrap());
    source.reach().await.unwrap();
    let error = listed(&source, 10).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    serving.abort();
}
