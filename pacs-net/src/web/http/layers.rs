//! What goes around a router: CORS, compression, problem details where no route is, and who may keep answers.

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pacs_core::{Error, ErrorKind, Result};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{Predicate, SizeAbove};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::conditional::vary_by_accept;
use super::media_type::MediaType;
use super::problem::Problem;

/// Shorter bodies are not compressed: the header of gzip alone has 18 bytes, and one segment carries them anyway.
const COMPRESSED_LENGTH_MIN_BYTES: u64 = 1024;

/// How long a browser may remember what a preflight request was told.
const PREFLIGHT_AGE: Duration = Duration::from_secs(3600);

/// Lets pages from these origins (`https://viewer.example`; `*` for all) call the router (CORS). Without origins
/// nothing is added. Credentials are not allowed. An OPTIONS request that is no preflight request reaches the router:
/// it asks for the capabilities of a service (PS3.18 8.9).
///
/// # Errors
/// `Invalid` when one is no origin.
pub fn with_cors(router: Router, origins: &[String]) -> Result<Router> {
    if origins.is_empty() {
        return Ok(router);
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        let parsed: Result<Vec<HeaderValue>> = origins.iter().map(|origin| parse_origin(origin)).collect();
        AllowOrigin::list(parsed?)
    };
    let methods = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
    ];
    let exposed = [
        header::ACCEPT_RANGES,
        header::CONTENT_LENGTH,
        header::CONTENT_LOCATION,
        header::CONTENT_RANGE,
        header::ETAG,
        header::LOCATION,
        header::RETRY_AFTER,
        header::WARNING,
        HeaderName::from_static("x-request-id"),
    ];
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods(methods)
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed)
        .max_age(PREFLIGHT_AGE);
    let router = router.layer(middleware::from_fn(recover));
    Ok(router.layer(layer).layer(middleware::from_fn(disguise)))
}

/// On an OPTIONS request that goes by another method.
#[derive(Clone, Copy)]
struct IsOptions;

/// `CorsLayer` answers each OPTIONS request itself, but only preflight requests are its own. What method a request has
/// was looked at before these layers.
async fn disguise(mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    if request.method() == Method::OPTIONS && !headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        *request.method_mut() = Method::GET;
        request.extensions_mut().insert(IsOptions);
    }
    next.run(request).await
}

async fn recover(mut request: Request, next: Next) -> Response {
    if request.extensions_mut().remove::<IsOptions>().is_some() {
        *request.method_mut() = Method::OPTIONS;
    }
    next.run(request).await
}

fn parse_origin(origin: &str) -> Result<HeaderValue> {
    let host = origin.split_once("://").map(|(_, host)| host);
    let is_origin =
        host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '*', ' ', '@']));
    let bad = || {
        Error::new(
            ErrorKind::Invalid,
            "cors.origin",
            format!("{origin:?} is no origin like https://host:port"),
        )
    };
    let value = HeaderValue::from_str(origin).map_err(|_| bad())?;
    if is_origin { Ok(value) } else { Err(bad()) }
}

/// Compresses text (JSON, XML, HTML and its like) by gzip or zstd, as the client accepts. What is encoded already,
/// a part of a representation, or no text is left alone: pixel data is compressed, or asked for as it is.
pub fn with_compression(router: Router) -> Router {
    let layer = CompressionLayer::new()
        .gzip(true)
        .zstd(true)
        // In both a level that keeps up with a network.
        .quality(CompressionLevel::Precise(3))
        .compress_when(SizeAbove::new(COMPRESSED_LENGTH_MIN_BYTES).and(is_worthwhile));
    with_identity(router.layer(layer).layer(middleware::map_response(weaken)))
}

/// For what goes around a compression layer: a client that refuses what is not encoded gets that all the same where
/// nothing else can be had (RFC 9110 12.5.3 leaves that to the server), rather than 406 for what was done already.
pub fn with_identity(router: Router) -> Router {
    router.layer(middleware::map_request(without_refusal_of_identity))
}

/// Takes the refusal out of Accept-Encoding.
async fn without_refusal_of_identity(mut request: Request) -> Request {
    let headers = request.headers_mut();
    let fields: Vec<&str> = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let refuses = |item: &&str| {
        let (coding, weight) = item.split_once(';').unwrap_or((item, ""));
        let weight = weight
            .trim()
            .strip_prefix("q=")
            .and_then(|weight| weight.parse::<f32>().ok());
        matches!(coding.trim(), "identity" | "*") && weight == Some(0.0)
    };
    let listed = fields.join(",");
    let kept: Vec<&str> = listed.split(',').filter(|item| !refuses(item)).collect();
    if kept.len() < listed.split(',').count() {
        match HeaderValue::from_str(&kept.join(",")) {
            Ok(value) if !kept.is_empty() => _ = headers.insert(header::ACCEPT_ENCODING, value),
            _ => _ = headers.remove(header::ACCEPT_ENCODING),
        }
    }
    request
}

fn is_worthwhile(status: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = media_type.and_then(|text| text.parse::<MediaType>().ok());
    status != StatusCode::PARTIAL_CONTENT && media_type.is_some_and(|media_type| media_type.is_text())
}

/// A strong tag promises the same bytes, which no longer holds (RFC 9110 8.8.1).
async fn weaken(mut response: Response) -> Response {
    if response.headers().contains_key(header::CONTENT_ENCODING) {
        let strong = response
            .headers()
            .get(header::ETAG)
            .and_then(|tag| tag.to_str().ok());
        let weak = strong
            .filter(|tag| tag.starts_with('"'))
            .map(|tag| format!("W/{tag}"));
        if let Some(value) = weak.and_then(|tag| HeaderValue::from_str(&tag).ok()) {
            response.headers_mut().insert(header::ETAG, value);
        }
    }
    response
}

/// Answers problem details where no route is (404), and where a route doesn't have the method (405). To be called
/// when all routes are there; it takes the place of another fallback.
pub fn with_problems(router: Router) -> Router {
    router
        .fallback(async || Problem::not_found("there is no such resource"))
        .method_not_allowed_fallback(method_not_allowed)
}

/// 405.
pub(in crate::web) async fn method_not_allowed() -> Problem {
    Problem::bare(StatusCode::METHOD_NOT_ALLOWED)
}

/// For answers that hold patients' data: nobody keeps them, where they don't say otherwise (Cache-Control); no browser
/// takes them for something else (X-Content-Type-Options); and those to GET differ by Accept (Vary). Also of what is
/// not found: for a router that is nested, as one that is merged with it would get the fallback too.
pub fn with_privacy(router: Router) -> Router {
    router.layer(middleware::from_fn(keep_private))
}

/// The same for a router with routes, of what its routes answer alone.
pub fn with_privacy_of_routes(router: Router) -> Router {
    router.route_layer(middleware::from_fn(keep_private))
}

async fn keep_private(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("private, no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if reads {
        vary_by_accept(headers);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_origins_are_taken_for_origins() {
        for origin in ["https://viewer.example", "http://127.0.0.1:3000"] {
            assert!(with_cors(Router::new(), &[origin.to_owned()]).is_ok(), "{origin}");
        }
        for origin in [
            "",
            "viewer.example",
            "https://",
            "https://a/b",
            "https://*.a",
            "https://a\n",
        ] {
            assert!(
                with_cors(Router::new(), &[origin.to_owned()]).is_err(),
                "{origin}"
            );
        }
    }

    #[test]
    fn text_is_worth_compressing_and_parts_and_pixels_are_not() {
        let worthwhile = |media_type: &'static str, status| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
            is_worthwhile(status, Version::HTTP_11, &headers, &Extensions::new())
        };
        for media_type in [
            "application/dicom+json",
            "application/dicom+xml",
            "text/html; charset=utf-8",
            "text/javascript",
        ] {
            assert!(worthwhile(media_type, StatusCode::OK), "{media_type}");
            assert!(!worthwhile(media_type, StatusCode::PARTIAL_CONTENT));
        }
        for media_type in [
            "application/dicom",
            "image/png",
            "application/zip",
            "multipart/related; type=\"application/dicom\"",
        ] {
            assert!(!worthwhile(media_type, StatusCode::OK), "{media_type}");
        }
    }
}
