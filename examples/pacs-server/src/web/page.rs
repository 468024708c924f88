//! The built-in page: files that are part of this program, and nothing from elsewhere.

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use twox_hash::XxHash3_64;

/// Everything comes from this server, and nobody else may frame the page.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'; object-src 'none'";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

macro_rules! file {
    ($path:literal, $kind:expr, $name:literal) => {
        ($path, $kind, include_bytes!(concat!("page/", $name)).as_slice())
    };
}

/// Path, media type and content.
const FILES: [(&str, &str, &[u8]); 13] = [
    file!("/", HTML, "index.html"),
    file!("/app.js", SCRIPT, "app.js"),
    file!("/dicomweb.js", SCRIPT, "dicomweb.js"),
    file!("/dom.js", SCRIPT, "dom.js"),
    file!("/geometry.js", SCRIPT, "geometry.js"),
    file!("/icon.svg", IMAGE, "icon.svg"),
    file!("/list.js", SCRIPT, "list.js"),
    file!("/pane.js", SCRIPT, "pane.js"),
    file!("/pictures.js", SCRIPT, "pictures.js"),
    file!("/reading.js", SCRIPT, "reading.js"),
    file!("/status.js", SCRIPT, "status.js"),
    file!("/style.css", STYLE, "style.css"),
    file!("/viewer.js", SCRIPT, "viewer.js"),
];

/// The paths of its files.
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(path, ..)| *path)
}

/// The page. `root` is where the server's own paths begin, seen from it: `./` or `../`.
pub(super) fn routes(root: &str) -> Router {
    FILES
        .into_iter()
        .fold(Router::new(), |router, (path, kind, content)| {
            let content = if kind == HTML {
                rooted(content, root)
            } else {
                Bytes::from_static(content)
            };
            // Weak: the same tag goes with the compressed form.
            let tag = format!("W/\"{:016x}\"", XxHash3_64::oneshot(&content));
            let file = File { kind, content, tag };
            router.route(
                path,
                get(move |headers: HeaderMap| async move { file.answer(&headers) }),
            )
        })
}

fn rooted(html: &[u8], root: &str) -> Bytes {
    let html = String::from_utf8_lossy(html);
    html.replace(
        r#"name="root" content="./""#,
        &format!(r#"name="root" content="{root}""#),
    )
    .into()
}

#[derive(Clone)]
struct File {
    kind: &'static str,
    content: Bytes,
    tag: String,
}

impl File {
    fn answer(&self, request: &HeaderMap) -> Response {
        let headers: [(HeaderName, &str); 6] = [
            (header::CONTENT_TYPE, self.kind),
            (header::ETAG, &self.tag),
            // Asked for again each time, and answered with 304: a new version shows at once.
            (header::CACHE_CONTROL, "no-cache"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        if is_known(request, &self.tag) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        (headers, self.content.clone()).into_response()
    }
}

/// Whether If-None-Match names the weak tag `tag` (RFC 9110 13.1.2).
pub(super) fn is_known(request: &HeaderMap, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value: &HeaderValue| value.to_str().ok())
        // Our tags have no comma.
        .flat_map(|value| value.split(','))
        .any(|known| known.trim() == "*" || opaque(known) == opaque(tag))
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(router: &Router, request: axum::http::request::Builder) -> (StatusCode, HeaderMap, String) {
        let answer = router
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        let (parts, body) = answer.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (
            parts.status,
            parts.headers,
            String::from_utf8_lossy(&body).into_owned(),
        )
    }

    #[tokio::test]
    async fn every_file_is_served_with_its_type_under_the_strict_policy() {
        let router = routes("./");
        for (path, kind, content) in FILES {
            let (status, headers, body) = ask(&router, Request::get(path)).await;
            assert_eq!(
                (status, &headers[header::CONTENT_TYPE]),
                (StatusCode::OK, &HeaderValue::from_static(kind))
            );
            assert_eq!(headers[header::CONTENT_SECURITY_POLICY], POLICY);
            assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(headers[header::REFERRER_POLICY], "no-referrer");
            assert_eq!(body.as_bytes(), content, "{path}");
        }
        assert_eq!(
            ask(&router, Request::get("/other.js")).await.0,
            StatusCode::NOT_FOUND
        );
        assert_eq!(
            ask(&router, Request::post("/")).await.0,
            StatusCode::METHOD_NOT_ALLOWED
        );
    }

    #[tokio::test]
    async fn a_browser_that_has_a_file_is_told_so() {
        let router = routes("./");
        let (_, headers, _) = ask(&router, Request::get("/app.js")).await;
        let tag = headers[header::ETAG].to_str().unwrap();
        for known in [tag, &tag[2..], "*", &format!("\"other\", {tag}")] {
            let (status, _, body) =
                ask(&router, Request::get("/app.js").header("If-None-Match", known)).await;
            assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""), "{known}");
        }
        let (status, ..) = ask(
            &router,
            Request::get("/app.js").header("If-None-Match", "\"other\""),
        )
        .await;
        assert_eq!(status, StatusCode::OK);
    }

    #[tokio::test]
    async fn the_page_knows_where_the_paths_of_the_server_begin() {
        let (_, below, html) = ask(&routes("../"), Request::get("/")).await;
        assert!(html.contains(r#"<meta name="root" content="../">"#));
        let (_, top, html) = ask(&routes("./"), Request::get("/")).await;
        assert!(html.contains(r#"<meta name="root" content="./">"#));
        assert_ne!(below[header::ETAG], top[header::ETAG]);
    }

    #[test]
    fn all_that_the_page_names_is_part_of_it_and_nothing_is_from_elsewhere() {
        for (path, _, content) in FILES {
            let text = std::str::from_utf8(content).unwrap();
            for (before, quote) in [("src=\"", '"'), ("href=\"", '"'), ("from '", '\'')] {
                for (at, _) in text.match_indices(before) {
                    let target = text[at + before.len()..].split(quote).next().unwrap();
                    let local = target.trim_start_matches("./");
                    let known = FILES.iter().any(|(path, ..)| path[1..] == *local);
                    assert!(known || target.starts_with('#'), "{path} names {target}");
                }
            }
            let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!elsewhere.contains("://"), "{path} names an address");
        }
    }
}
