//! What a browser gets beside DICOMweb: how the server is, the built-in page, and OHIF where it is installed.
//!
//! ```text
//! /status          how the server is, as JSON
//! /outbox          what waits to be delivered, and what was refused
//! /study-status    how far studies are: acquired, read, reported
//! /quick/          the built-in page
//! /                OHIF where it is installed, else the built-in page too
//! /app-config.js   OHIF's configuration, made from the running server
//! ```

mod ohif;
mod outbox;
mod page;
mod reading;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{Method, header};
use axum::middleware;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use pacs_core::{Pacs, Permission};
use pacs_net::deliver::Deliveries;
use pacs_net::identity::Identities;
use pacs_net::web::access::{Guard, Needs};
use pacs_net::web::http::health::{Health, metrics_router};
use pacs_net::web::http::layers::{with_identity, with_problems};
use pacs_net::web::http::metrics::Metrics;
use pacs_net::web::http::problem::Problem;
use pacs_net::web::http::server::{HttpLimits, HttpServer};
use pacs_net::web::{self, WebOptions};
use tokio::sync::watch;
use tower_http::compression::CompressionLayer;

pub(crate) use ohif::Ohif;
pub(crate) use status::{Rates, Status};

use crate::config::Config;

/// How DICOMweb is answered.
pub(crate) fn options(config: &Config) -> WebOptions {
    WebOptions {
        origin: Some(config.web.origin.clone()).filter(|origin| !origin.is_empty()),
        delete: config.web.delete,
        spool: config.data.clone(),
        any_sop_class: config.any_sop_class,
        ..WebOptions::default()
    }
}

/// What is served over HTTP.
pub(crate) struct Served {
    pub(crate) pacs: Pacs,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    /// Where it listens for DICOM.
    pub(crate) dicom: SocketAddr,
    pub(crate) rates: Arc<Rates>,
    pub(crate) deliveries: watch::Receiver<Option<Deliveries>>,
    /// Who believes users.
    pub(crate) identities: Option<Identities>,
}

/// Listens for HTTP. The error is fit to be shown.
pub(crate) async fn bind(config: &Config, served: Served) -> Result<HttpServer, String> {
    let address = SocketAddr::new(config.listen, config.http_port);
    let metrics = served.metrics.clone();
    let limits = HttpLimits {
        address_share: config.address_share(),
        ..HttpLimits::default()
    };
    let server = HttpServer::bind(address, router(config, served)?, limits)
        .await
        .map_err(|error| error.to_string())?;
    Ok(server.with_metrics(metrics))
}

/// All that is served, each to who may.
fn router(config: &Config, served: Served) -> Result<Router, String> {
    let failed = |error: pacs_core::Error| error.to_string();
    let ohif = Ohif::find(config.web.ohif_directory.as_deref(), config.ae_title)?;
    let (open, associations_max) = (served.metrics.clone(), config.limits.associations);
    let status = Status {
        pacs: served.pacs.clone(),
        data: config.data.clone(),
        ae_title: config.ae_title,
        dicom: served.dicom,
        rates: served.rates,
        associations: Box::new(move || usize::try_from(open.associations_open()).unwrap_or(usize::MAX)),
        associations_max,
    };
    let mut options = options(config);
    options.identities = served.identities.clone();
    let origins = &config.web.cors_origins;
    let dicomweb = web::services(&served.pacs, options, web::WADO_URI, origins).map_err(failed)?;
    let has_ohif = ohif.is_some();
    let page = outbox::OutboxPage {
        pacs: served.pacs.clone(),
        deliveries: served.deliveries,
    };
    let router = routes(status, ohif)
        .merge(outbox::routes(page))
        .merge(reading::routes(served.pacs.clone()))
        .merge(served.health.router())
        .merge(metrics_router(served.metrics, served.pacs.clone()));
    let router = Guard::new(served.pacs, served.identities, needs).around(router);
    Ok(whole(router, dicomweb, has_ohif))
}

/// What a request beside DICOMweb needs. Pages are programs: they show what they may ask for.
fn needs(_: &Method, template: &str) -> Needs {
    match template {
        "/quick" | "/app-config.js" | "/healthz" | "/readyz" => Needs::Nothing,
        _ if page::paths().any(|path| path == template.strip_prefix("/quick").unwrap_or(template)) => {
            Needs::Nothing
        }
        "/study-status" => Needs::Part(Permission::Find),
        "/status" => Needs::All(Permission::Find),
        template if template.starts_with("/outbox") => Needs::All(Permission::Route),
        _ => Needs::All(Permission::Administer),
    }
}

/// All that is served; what is nowhere is a problem, or OHIF's to answer.
fn whole(router: Router, dicomweb: Router, has_ohif: bool) -> Router {
    let router = router.merge(dicomweb);
    if !has_ohif {
        return with_problems(router);
    }
    router.layer(middleware::map_response(told))
}

/// Says in words what is nowhere, or not done there, where a file server says it by its status alone.
async fn told(response: Response) -> Response {
    let status = response.status();
    let is_told = response.headers().contains_key(header::CONTENT_TYPE);
    if is_told || !status.is_client_error() {
        return response;
    }
    let mut problem = Problem::bare(status).into_response();
    for (name, value) in response.headers() {
        if *name != header::CONTENT_LENGTH {
            problem.headers_mut().insert(name, value.clone());
        }
    }
    problem
}

/// Answers for all of the above. Paths of others (`/dicom-web`, `/wado`, `/metrics`) are merged with it; the
/// fallback is OHIF's where there is one.
pub(crate) fn routes(status: Status, ohif: Option<Ohif>) -> Router {
    // Both addresses work: a link to the built-in page stays good when OHIF is installed later.
    let router = Router::new()
        .merge(status::routes(status, ohif.is_some()))
        .route("/quick", get(|| async { Redirect::permanent("quick/") }))
        .nest("/quick/", page::routes("../"));
    let router = match ohif {
        Some(ohif) => router.merge(ohif.routes()),
        None => router.merge(page::routes("./")),
    };
    // OHIF's largest file has 17 MB that way.
    with_identity(router.layer(CompressionLayer::new()))
}

#[cfg(test)]
mod access_tests;
#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use axum::body::{Body, to_bytes};
    use axum::http::{HeaderMap, Method, Request, StatusCode, header};
    use pacs_core::{AeTitle, Options};
    use pacs_store::{MemoryArchive, MemoryIndex};
    use tower::ServiceExt as _;

    use super::*;

    async fn server(ohif: Option<Ohif>) -> Router {
        let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
        let status = Status {
            pacs: Pacs::open(archive, index, Options::default()).await.unwrap(),
            data: ".".into(),
            ae_title: title(),
            dicom: ([127, 0, 0, 1], 104).into(),
            rates: Rates::new(),
            associations: Box::new(|| 0),
            associations_max: 1,
        };
        routes(status, ohif)
    }

    /// Without OHIF and with it, and with CORS.
    async fn wholes(dist: &Path) -> [Router; 2] {
        fs::write(dist.join("index.html"), "<title>OHIF</title>").unwrap();
        let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
        let pacs = Pacs::open(archive, index, Options::default()).await.unwrap();
        let services =
            web::services(&pacs, WebOptions::default(), web::WADO_URI, &[ORIGIN.to_owned()]).unwrap();
        let router = server(None).await.merge(Health::new(pacs).router());
        let ohif = server(Ohif::find(Some(dist), title()).unwrap()).await;
        [
            whole(router, services.clone(), false),
            whole(ohif, services, true),
        ]
    }

    const ORIGIN: &str = "https://viewer.example";

    async fn request(
        router: &Router,
        method: Method,
        path: &str,
        fields: &[(header::HeaderName, &str)],
    ) -> (u16, HeaderMap, String) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in fields {
            request = request.header(name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let body = String::from_utf8_lossy(&body).into_owned();
        (parts.status.as_u16(), parts.headers, body)
    }

    #[tokio::test]
    async fn capabilities_are_told_to_those_who_ask_and_preflight_requests_are_answered() {
        let dist = tempfile::tempdir().unwrap();
        for router in wholes(dist.path()).await {
            let fields = [(header::ORIGIN, ORIGIN), (header::ACCEPT, "application/json")];
            let (status, headers, body) = request(&router, Method::OPTIONS, "/dicom-web", &fields).await;
            assert_eq!(status, 200, "{body}");
            assert!(body.contains("studies"), "{body}");
            assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], ORIGIN);
            for path in ["/dicom-web/studies", "/dicom-web/nothing", "/wado"] {
                let fields = [
                    (header::ORIGIN, ORIGIN),
                    (header::ACCESS_CONTROL_REQUEST_METHOD, "GET"),
                ];
                let (status, headers, _) = request(&router, Method::OPTIONS, path, &fields).await;
                assert_eq!(status, 200, "{path}");
                assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], ORIGIN, "{path}");
            }
            let (status, headers, _) = request(&router, Method::POST, "/wado", &[]).await;
            assert_eq!(status, 405);
            assert_eq!(headers[header::ALLOW], "GET,HEAD");
            assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
        }
    }

    #[tokio::test]
    async fn what_is_not_there_is_a_problem_for_a_program() {
        let dist = tempfile::tempdir().unwrap();
        let [without, with] = wholes(dist.path()).await;
        for (router, path) in [
            (&without, "/nowhere"),
            (&without, "/dicom-web/nowhere"),
            (&with, "/dicom-web/nowhere"),
        ] {
            let (status, headers, _) = request(router, Method::GET, path, &[]).await;
            assert_eq!(status, 404, "{path}");
            assert_eq!(
                headers[header::CONTENT_TYPE],
                "application/problem+json",
                "{path}"
            );
        }
        assert_eq!(request(&with, Method::GET, "/nowhere", &[]).await.0, 404);
    }

    #[tokio::test]
    async fn what_is_got_can_be_asked_for_by_head() {
        let dist = tempfile::tempdir().unwrap();
        for router in wholes(dist.path()).await {
            for path in [
                "/",
                "/quick",
                "/quick/",
                "/quick/app.js",
                "/status",
                "/dicom-web/studies",
                "/wado",
            ] {
                let page = [(header::ACCEPT, "text/html, */*")];
                let (status, ..) = request(&router, Method::GET, path, &page).await;
                let head = request(&router, Method::HEAD, path, &page).await;
                assert_eq!((head.0, &*head.2), (status, ""), "{path}");
            }
        }
    }

    fn title() -> AeTitle {
        "HERE".parse().unwrap()
    }

    async fn ask(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path)
            .header(header::ACCEPT, "text/html")
            .body(Body::empty())
            .unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        let (status, body) = (
            answer.status(),
            to_bytes(answer.into_body(), usize::MAX).await.unwrap(),
        );
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn without_ohif_the_built_in_page_is_the_first_page() {
        let router = server(None).await;
        assert!(ask(&router, "/").await.1.contains(r#"name="root" content="./""#));
        assert!(
            ask(&router, "/quick/")
                .await
                .1
                .contains(r#"name="root" content="../""#)
        );
        for path in ["/app.js", "/quick/app.js", "/style.css", "/status"] {
            assert_eq!(ask(&router, path).await.0, StatusCode::OK, "{path}");
        }
        assert_eq!(ask(&router, "/quick").await.0, StatusCode::PERMANENT_REDIRECT);
        assert_eq!(ask(&router, "/viewer").await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn with_ohif_the_built_in_page_is_below_quick() {
        let dist = tempfile::tempdir().unwrap();
        fs::write(dist.path().join("index.html"), "<title>OHIF</title>").unwrap();
        let ohif = Ohif::find(Some(dist.path()), title()).unwrap();
        let router = server(ohif).await;
        for path in ["/", "/viewer"] {
            assert_eq!(ask(&router, path).await.1, "<title>OHIF</title>");
        }
        assert!(
            ask(&router, "/quick/")
                .await
                .1
                .contains(r#"name="root" content="../""#)
        );
        let (_, status) = ask(&router, "/status").await;
        assert!(status.contains(r#""installed":true"#), "{status}");
    }

    #[tokio::test]
    async fn the_first_page_comes_also_to_who_takes_anything_or_does_not_say() {
        let dist = tempfile::tempdir().unwrap();
        for router in wholes(dist.path()).await {
            for fields in [&[][..], &[(header::ACCEPT, "*/*")]] {
                let (status, headers, body) = request(&router, Method::GET, "/", fields).await;
                assert_eq!(status, 200, "{body}");
                let kind = headers[header::CONTENT_TYPE].to_str().unwrap();
                assert!(kind.starts_with("text/html"), "{kind}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_sent_is_compressed_where_the_browser_takes_it() {
        let router = server(None).await;
        let request = Request::get("/app.js")
            .header(header::ACCEPT_ENCODING, "gzip")
            .body(Body::empty())
            .unwrap();
        let answer = router.oneshot(request).await.unwrap();
        assert_eq!(answer.headers()[header::CONTENT_ENCODING], "gzip");
    }
}
