//! OHIF: the prebuilt files of its npm package, and its configuration, made from the running server.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use pacs_core::AeTitle;
use serde_json::json;
use tower::ServiceExt as _;
use tower_http::services::{ServeDir, ServeFile};
use twox_hash::XxHash3_64;

use super::page::is_known;

/// What brings it.
pub(super) const INSTALL: &str = "npm ci --prefix examples/viewer";

/// Where npm puts it, seen from the repository.
const INSTALLED: &str = "examples/viewer/node_modules/@ohif/app/dist";

/// OHIF makes code at run time (WebAssembly, templates) and styles its elements; whatever it loads comes
/// from this server all the same.
const POLICY: &str = "default-src 'self' blob: data:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; \
     style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'self'; object-src 'none'";

/// An installed OHIF.
#[derive(Clone, Debug)]
pub(crate) struct Ohif {
    directory: PathBuf,
    ae_title: AeTitle,
}

impl Ohif {
    /// OHIF in the directory that was configured, or where npm installs it; `None` where it isn't installed.
    /// The error, for a configured directory without OHIF, is fit to be shown.
    pub(crate) fn find(configured: Option<&Path>, ae_title: AeTitle) -> Result<Option<Self>, String> {
        let is_there = |directory: &PathBuf| directory.join("index.html").is_file();
        let found = |directory| Self { directory, ae_title };
        if let Some(directory) = configured {
            let directory = directory.to_owned();
            return if is_there(&directory) {
                Ok(Some(found(directory)))
            } else {
                Err(format!(
                    "ohif-directory: there is no OHIF (index.html) in {}",
                    directory.display()
                ))
            };
        }
        // Where this runs, else where it was built.
        let built = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .join(INSTALLED);
        Ok([PathBuf::from(INSTALLED), built]
            .into_iter()
            .find(is_there)
            .map(found))
    }

    /// Serves its files, its configuration, and its first page for the addresses that it makes in the browser.
    pub(super) fn routes(self) -> Router {
        let config = configuration(self.ae_title);
        let tag = format!("W/\"{:016x}\"", XxHash3_64::oneshot(config.as_bytes()));
        let config = get(move |headers: HeaderMap| async move {
            let about = [
                (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
                (header::ETAG, &tag),
                (header::CACHE_CONTROL, "no-cache"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            if is_known(&headers, &tag) {
                return (StatusCode::NOT_MODIFIED, about).into_response();
            }
            (about, config.clone()).into_response()
        });
        Router::new()
            .route("/app-config.js", config)
            .fallback(move |request: Request<Body>| {
                let ohif = self.clone();
                async move { ohif.file(request).await }
            })
    }

    async fn file(&self, request: Request<Body>) -> Response {
        let path = request.uri().path().to_owned();
        // Its own addresses (/viewer, /segmentation, ...) are no files. A browser that goes there wants a page;
        // a program that asks for what isn't there is told so. The first page is there for both.
        let is_address = !path.rsplit('/').next().unwrap_or_default().contains('.');
        let wants_page = matches!(*request.method(), Method::GET | Method::HEAD)
            && (path == "/" || is_address && accepts_html(request.headers()));
        let answer = if wants_page {
            let index = ServeFile::new(self.directory.join("index.html"));
            served(index.oneshot(request).await)
        } else {
            let files = ServeDir::new(&self.directory).append_index_html_on_directories(false);
            served(files.oneshot(request).await)
        };
        with_headers(answer, &path)
    }
}

fn served<B>(answer: Result<Response<B>, Infallible>) -> Response
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    match answer {
        Ok(answer) => answer.map(Body::new),
        Err(never) => match never {},
    }
}

fn accepts_html(request: &HeaderMap) -> bool {
    let accepted = request.get_all(header::ACCEPT).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("text/html"))
}

fn with_headers(mut answer: Response, path: &str) -> Response {
    let headers = answer.headers_mut();
    // Weak: the same tag goes with the compressed form.
    let tag = headers
        .get(header::ETAG)
        .and_then(|tag| HeaderValue::try_from(format!("W/{}", tag.to_str().ok()?)).ok());
    if let Some(tag) = tag {
        headers.insert(header::ETAG, tag);
    }
    let kept = if has_hash(path) {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    for (name, value) in [
        (header::CACHE_CONTROL, kept),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// Whether a file's name changes with its content: `app.bundle.0f6159c501addfe9.js`.
fn has_hash(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.split('.')
        .any(|part| part.len() == 16 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// OHIF's configuration: one data source, this server.
fn configuration(ae_title: AeTitle) -> String {
    let config = json!({
        "name": "pacs-server",
        "routerBasename": "/",
        "extensions": [],
        "modes": [],
        "customizationService": {},
        "showStudyList": true,
        "maxNumberOfWebWorkers": 3,
        // All comes from one origin, and nothing needs shared memory.
        "showWarningMessageForCrossOrigin": false,
        "showCPUFallbackMessage": true,
        "showLoadingIndicator": true,
        "strictZSpacingForVolumeViewport": true,
        "groupEnabledModesFirst": true,
        // Browsers open six connections to one server over HTTP/1.1: more would only wait in front of them.
        "maxNumRequests": { "interaction": 20, "thumbnail": 5, "prefetch": 10 },
        "showErrorDetails": "always",
        "defaultDataSourceName": "pacs",
        "dataSources": [{
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "pacs",
            "configuration": {
                "friendlyName": ae_title.as_str(),
                "name": ae_title.as_str(),
                "qidoRoot": "/dicom-web",
                "wadoRoot": "/dicom-web",
                "wadoUriRoot": "/wado",
                "qidoSupportsIncludeField": true,
                "supportsFuzzyMatching": true,
                "supportsWildcard": true,
                // Rejecting is a service of dcm4chee's own.
                "supportsReject": false,
                "dicomUploadEnabled": true,
                "imageRendering": "wadors",
                "thumbnailRendering": "thumbnail",
                "thumbnailRequestStrategy": "fetch",
                "enableStudyLazyLoad": true,
                // True is for files on a plain web server: the browser would do the matching.
                "staticWado": false,
                "singlepart": "bulkdata,video",
                "bulkDataURI": { "enabled": true },
                "omitQuotationForMultipartRequest": false
            }
        }]
    });
    format!("window.config = {config};\n{PHONE}")
}

/// On a phone OHIF's toolbar lies over itself and its panels leave the image a tenth of the screen: it gets the
/// width that it is made for, may be zoomed, and begins with its panels closed.
const PHONE: &str = r#"if (matchMedia('(max-width: 720px)').matches) {
  document.querySelector('meta[name=viewport]').content = 'width=720';
  if (!sessionStorage.getItem('studyList.previewOpen')) sessionStorage.setItem('studyList.previewOpen', '{"open":false}');
  const closed = { leftPanelClosed: { $set: true }, rightPanelClosed: { $set: true } };
  window.config.modesConfiguration = {
    '@ohif/mode-longitudinal': { routes: { 0: { layoutInstance: { props: closed } } } },
  };
}
"#;

#[cfg(test)]
mod tests {
    use std::fs;

    use axum::body::to_bytes;

    use super::*;

    struct Site {
        router: Router,
        _directory: tempfile::TempDir,
    }

    /// A directory of our own with the shape of OHIF's, and a secret beside it.
    fn site() -> Site {
        let directory = tempfile::tempdir().unwrap();
        let dist = directory.path().join("dist");
        fs::create_dir_all(dist.join("assets")).unwrap();
        fs::write(directory.path().join("secret.txt"), "secret").unwrap();
        fs::write(dist.join("index.html"), "<title>OHIF</title>").unwrap();
        fs::write(dist.join("app-config.js"), "the package's own").unwrap();
        fs::write(dist.join("app.bundle.0f6159c501addfe9.js"), "code").unwrap();
        fs::write(dist.join("assets/codec.wasm"), "wasm").unwrap();
        let ohif = Ohif::find(Some(&dist), title()).unwrap().unwrap();
        Site {
            router: ohif.routes(),
            _directory: directory,
        }
    }

    fn title() -> AeTitle {
        "HERE".parse().unwrap()
    }

    async fn ask(site: &Site, path: &str, accept: &str) -> (StatusCode, HeaderMap, String) {
        let request = Request::get(path)
            .header(header::ACCEPT, accept)
            .body(Body::empty())
            .unwrap();
        let answer = site.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (
            parts.status,
            parts.headers,
            String::from_utf8_lossy(&body).into_owned(),
        )
    }

    #[tokio::test]
    async fn files_come_with_their_type_and_those_with_a_hash_are_kept_for_good() {
        let site = site();
        let (_, headers, body) = ask(&site, "/app.bundle.0f6159c501addfe9.js", "*/*").await;
        assert_eq!(
            (body.as_str(), &headers[header::CONTENT_TYPE]),
            ("code", &HeaderValue::from_static("text/javascript"))
        );
        assert!(
            headers[header::CACHE_CONTROL]
                .to_str()
                .unwrap()
                .contains("immutable")
        );
        assert!(headers[header::ETAG].to_str().unwrap().starts_with("W/\""));
        let (_, headers, _) = ask(&site, "/assets/codec.wasm", "*/*").await;
        assert_eq!(headers[header::CONTENT_TYPE], "application/wasm");
        assert_eq!(headers[header::CACHE_CONTROL], "no-cache");
    }

    #[tokio::test]
    async fn its_own_addresses_are_its_first_page_for_a_browser_and_nothing_for_a_program() {
        let site = site();
        for path in ["/", "/viewer?StudyInstanceUIDs=1.2", "/segmentation", "/a/b"] {
            let (status, headers, body) = ask(&site, path, "text/html,*/*;q=0.8").await;
            assert_eq!(
                (status, body.as_str()),
                (StatusCode::OK, "<title>OHIF</title>"),
                "{path}"
            );
            assert_eq!(headers[header::CACHE_CONTROL], "no-cache");
        }
        assert_eq!(
            ask(&site, "/viewer", "application/json").await.0,
            StatusCode::NOT_FOUND
        );
        assert_eq!(
            ask(&site, "/missing.js", "text/html").await.0,
            StatusCode::NOT_FOUND
        );
    }

    #[tokio::test]
    async fn no_path_leads_out_of_the_directory() {
        let site = site();
        for path in [
            "/../secret.txt",
            "/%2e%2e/secret.txt",
            "/..%2fsecret.txt",
            "/assets/../../secret.txt",
            "/assets/%2e%2e%2f%2e%2e%2fsecret.txt",
            "//secret.txt",
            "/..%5csecret.txt",
            "/%00/secret.txt",
        ] {
            let (status, _, body) = ask(&site, path, "*/*").await;
            assert!(
                status.is_client_error() && !body.contains("secret"),
                "{path}: {status}"
            );
        }
    }

    #[tokio::test]
    async fn the_configuration_is_this_servers_and_not_the_packages() {
        let (_, _, body) = ask(&site(), "/app-config.js", "*/*").await;
        let (first, _) = body.split_once('\n').unwrap();
        let json = first
            .strip_prefix("window.config = ")
            .and_then(|rest| rest.strip_suffix(";"))
            .unwrap();
        let config: serde_json::Value = serde_json::from_str(json).unwrap();
        let source = &config["dataSources"][0]["configuration"];
        assert_eq!(source["friendlyName"], "HERE");
        for root in ["qidoRoot", "wadoRoot"] {
            assert_eq!(source[root], "/dicom-web");
        }
        assert_eq!(source["wadoUriRoot"], "/wado");
    }

    #[test]
    fn a_configured_directory_without_ohif_is_an_error() {
        let empty = tempfile::tempdir().unwrap();
        let error = Ohif::find(Some(empty.path()), title()).unwrap_err();
        assert!(error.contains("ohif-directory"), "{error}");
    }
}
