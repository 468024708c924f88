//! The Retrieve Capabilities transaction (PS3.18 8.9): what this service offers, as it is set up.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::IntoResponse;
use http::header;
use serde_json::{Value, json};

use super::http::accept::Offer;
use super::http::media_type::MediaType;
use super::http::problem::WebResult;
use super::{Asking, INSTANCE, SERIES, STUDY, Web};

/// The Web Application Description Language, which 8.9 has as the default.
const WADL: MediaType = MediaType::constant("application", "vnd.sun.wadl+xml");

/// One transaction on one kind of resource.
pub(crate) struct Transaction {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) name: &'static str,
    pub(crate) parameters: &'static [&'static str],
    pub(crate) takes: &'static [&'static str],
    pub(crate) gives: &'static [&'static str],
}

const SEARCHING: &[&str] = &[
    "{attribute}",
    "includefield",
    "fuzzymatching",
    "emptyvaluematching",
    "multiplevaluematching",
    "limit",
    "offset",
    "accept",
    "charset",
];
const RENDERING: &[&str] = &["annotation", "quality", "viewport", "window", "accept", "charset"];
const ANY: &[&str] = &["accept", "charset"];

const DESCRIPTIONS: &[&str] = &[
    "application/dicom+json",
    "multipart/related; type=\"application/dicom+xml\"",
];
const INSTANCES: &[&str] = &[
    "multipart/related; type=\"application/dicom\"; transfer-syntax=*",
    "application/dicom; transfer-syntax=*",
    "application/zip; transfer-syntax=*",
];
const OCTETS: &[&str] = &[
    "application/octet-stream",
    "multipart/related; type=\"application/octet-stream\"",
];
const FRAMES: &[&str] = &[
    "multipart/related; type=\"application/octet-stream\"; transfer-syntax=*",
    "application/octet-stream; transfer-syntax=*",
    "multipart/related; type=\"image/*\"; transfer-syntax=*",
    "image/*; transfer-syntax=*",
    "video/*; transfer-syntax=*",
];
const PICTURES: &[&str] = &[
    "image/jpeg",
    "image/png",
    "image/gif",
    "multipart/related; type=\"image/jpeg\"",
    "multipart/related; type=\"image/png\"",
    "multipart/related; type=\"image/gif\"",
];
const SMALL_PICTURES: &[&str] = &["image/jpeg", "image/png", "image/gif"];
const STORED: &[&str] = &[
    "multipart/related; type=\"application/dicom\"",
    "multipart/related; type=\"application/dicom+json\"",
    "multipart/related; type=\"application/dicom+xml\"",
    "application/dicom",
];
const WORKITEMS: &[&str] = &["application/dicom+json", "application/dicom+xml"];
const REPORTS: &[&str] = &["application/dicom+json", "application/dicom+xml"];

/// What is offered; deleting where it is switched on, work items where there is a ledger.
pub(crate) fn transactions(delete: bool, workitems: bool) -> Vec<Transaction> {
    let transaction = |method, path: &str, name, parameters, takes, gives| Transaction {
        method,
        path: path.to_owned(),
        name,
        parameters,
        takes,
        gives,
    };
    let get = |path: &str, name, parameters, gives| transaction("GET", path, name, parameters, &[], gives);
    let mut all = vec![
        get("/studies", "SearchForStudies", SEARCHING, DESCRIPTIONS),
        get("/series", "SearchForSeries", SEARCHING, DESCRIPTIONS),
        get("/instances", "SearchForInstances", SEARCHING, DESCRIPTIONS),
        get(
            &format!("{STUDY}/series"),
            "SearchForStudySeries",
            SEARCHING,
            DESCRIPTIONS,
        ),
        get(
            &format!("{STUDY}/instances"),
            "SearchForStudyInstances",
            SEARCHING,
            DESCRIPTIONS,
        ),
        get(
            &format!("{SERIES}/instances"),
            "SearchForSeriesInstances",
            SEARCHING,
            DESCRIPTIONS,
        ),
        transaction("POST", "/studies", "StoreInstances", ANY, STORED, REPORTS),
        transaction("POST", STUDY, "StoreStudyInstances", ANY, STORED, REPORTS),
    ];
    for (path, of) in [(STUDY, "Study"), (SERIES, "Series"), (INSTANCE, "Instance")] {
        let names: [&'static str; 7] = match of {
            "Study" => [
                "RetrieveStudy",
                "RetrieveStudyMetadata",
                "RetrieveStudyBulkdata",
                "RetrieveStudyPixelData",
                "RetrieveRenderedStudy",
                "RetrieveStudyThumbnail",
                "DeleteStudy",
            ],
            "Series" => [
                "RetrieveSeries",
                "RetrieveSeriesMetadata",
                "RetrieveSeriesBulkdata",
                "RetrieveSeriesPixelData",
                "RetrieveRenderedSeries",
                "RetrieveSeriesThumbnail",
                "DeleteSeries",
            ],
            _ => [
                "RetrieveInstance",
                "RetrieveInstanceMetadata",
                "RetrieveInstanceBulkdata",
                "RetrieveInstancePixelData",
                "RetrieveRenderedInstance",
                "RetrieveInstanceThumbnail",
                "DeleteInstance",
            ],
        };
        let [whole, metadata, bulk, pixels, rendered, thumbnail, deletes] = names;
        all.extend([
            get(path, whole, ANY, INSTANCES),
            get(&format!("{path}/metadata"), metadata, ANY, DESCRIPTIONS),
            get(&format!("{path}/bulkdata"), bulk, ANY, OCTETS),
            get(&format!("{path}/pixeldata"), pixels, ANY, OCTETS),
            get(&format!("{path}/rendered"), rendered, RENDERING, PICTURES),
            get(&format!("{path}/thumbnail"), thumbnail, RENDERING, SMALL_PICTURES),
        ]);
        if delete {
            all.push(transaction("DELETE", path, deletes, &[], &[], &[]));
        }
    }
    if workitems {
        let one = "/workitems/{workitem}";
        let subscription = "/workitems/{workitem}/subscribers/{aetitle}";
        let transaction =
            |method, path, name, parameters, takes| transaction(method, path, name, parameters, takes, &[]);
        all.extend([
            get("/workitems", "SearchForWorkitems", SEARCHING, DESCRIPTIONS),
            transaction("POST", "/workitems", "CreateWorkitem", &["workitem"], WORKITEMS),
            get(one, "RetrieveWorkitem", ANY, DESCRIPTIONS),
            transaction("POST", one, "UpdateWorkitem", &["transaction-uid"], WORKITEMS),
            transaction(
                "PUT",
                "/workitems/{workitem}/state",
                "ChangeWorkitemState",
                &[],
                WORKITEMS,
            ),
            transaction(
                "POST",
                "/workitems/{workitem}/cancelrequest",
                "RequestCancellation",
                &[],
                WORKITEMS,
            ),
            transaction(
                "POST",
                subscription,
                "Subscribe",
                &["deletionlock", "filter"],
                &[],
            ),
            transaction("DELETE", subscription, "Unsubscribe", &[], &[]),
            transaction(
                "POST",
                "/workitems/{workitem}/subscribers/{aetitle}/suspend",
                "SuspendGlobalSubscription",
                &[],
                &[],
            ),
            get(
                "/ws/subscribers/{aetitle}",
                "OpenNotificationConnection",
                &[],
                &[],
            ),
        ]);
    }
    let frames = format!("{INSTANCE}/frames/{{frames}}");
    all.extend([
        get(
            &format!("{INSTANCE}/bulkdata/{{element}}"),
            "RetrieveBulkdata",
            ANY,
            OCTETS,
        ),
        get(&frames, "RetrieveFrames", ANY, FRAMES),
        get(
            &format!("{frames}/rendered"),
            "RetrieveRenderedFrames",
            RENDERING,
            PICTURES,
        ),
        get(
            &format!("{frames}/thumbnail"),
            "RetrieveFrameThumbnail",
            RENDERING,
            SMALL_PICTURES,
        ),
    ]);
    all
}

/// `OPTIONS` of the service.
pub(super) async fn options(State(web): State<Arc<Web>>, request: Request) -> WebResult {
    let asking = Asking::of(&web, &request)?;
    let offers = [Offer::new(WADL), Offer::new(MediaType::JSON)];
    let media_type = &asking.accept.select(&offers)?.offer.media_type;
    let transactions = transactions(web.options.delete, web.pacs.ups().is_ok());
    let text = if media_type.is(&WADL) {
        wadl(&asking.base, &transactions)
    } else {
        described(&asking.base, &transactions).to_string()
    };
    let headers = [
        (header::CONTENT_TYPE, media_type.header_value()),
        (header::ALLOW, http::HeaderValue::from_static("OPTIONS")),
    ];
    Ok((headers, text).into_response())
}

fn wadl(base: &str, transactions: &[Transaction]) -> String {
    let mut out = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<application xmlns=\"http://wadl.dev.java.net/2009/02\">\n",
    );
    // Writing to a String can't fail.
    let _ = writeln!(out, "  <resources base=\"{}\">", escaped(base));
    for transaction in transactions {
        let _ = writeln!(
            out,
            "    <resource path=\"{}\">",
            transaction.path.trim_start_matches('/')
        );
        for name in transaction
            .path
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split('}').next())
        {
            let _ = writeln!(
                out,
                "      <param name=\"{name}\" style=\"template\" required=\"true\"/>"
            );
        }
        let _ = writeln!(
            out,
            "      <method name=\"{}\" id=\"{}\">\n        <request>",
            transaction.method, transaction.name
        );
        for parameter in transaction.parameters {
            let _ = writeln!(out, "          <param name=\"{parameter}\" style=\"query\"/>");
        }
        for taken in transaction.takes {
            let _ = writeln!(
                out,
                "          <representation mediaType=\"{}\"/>",
                escaped(taken)
            );
        }
        let _ = writeln!(out, "        </request>\n        <response>");
        for given in transaction.gives {
            let _ = writeln!(
                out,
                "          <representation mediaType=\"{}\"/>",
                escaped(given)
            );
        }
        let _ = writeln!(out, "        </response>\n      </method>\n    </resource>");
    }
    out.push_str("  </resources>\n</application>\n");
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

fn described(base: &str, transactions: &[Transaction]) -> Value {
    let resources: Vec<Value> = transactions
        .iter()
        .map(|transaction| {
            json!({
                "path": transaction.path,
                "method": transaction.method,
                "id": transaction.name,
                "parameters": transaction.parameters,
                "requestMediaTypes": transaction.takes,
                "responseMediaTypes": transaction.gives,
            })
        })
        .collect();
    json!({ "base": base, "resources": resources })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use futures::executor::block_on;
    use http::StatusCode;
    use pacs_core::{Options, Pacs};
    use pacs_store::{MemoryArchive, MemoryIndex, MemoryLedger};
    use tower::ServiceExt;

    use super::super::{WebOptions, router};
    use super::*;

    #[test]
    fn everything_that_is_described_is_there() {
        let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
        let engine = Options {
            ledger: Some(Arc::new(MemoryLedger::new())),
            ..Options::default()
        };
        let pacs = block_on(Pacs::open(archive, index, engine)).unwrap();
        let options = WebOptions {
            delete: true,
            ..WebOptions::default()
        };
        let router = router(pacs, options);
        for transaction in transactions(true, true) {
            let names = [
                ("{study}", "1.2"),
                ("{series}", "3.4"),
                ("{instance}", "5.6"),
                ("{frames}", "1"),
                ("{element}", "00420011"),
                ("{workitem}", "7.8"),
                ("{aetitle}", "WATCHER"),
            ];
            let mut path = transaction.path.clone();
            for (name, value) in names {
                path = path.replace(name, value);
            }
            let request = Request::builder()
                .method(transaction.method)
                .uri(format!("/dicom-web{path}"))
                .body(Body::empty())
                .unwrap();
            let response = block_on(router.clone().oneshot(request)).unwrap();
            // Nothing is kept: a search finds nothing, a store lacks its media type, all else is of nothing.
            let expected = match transaction.method {
                // One that is suspended must be a global subscription, and a channel is a WebSocket.
                _ if transaction.name == "SuspendGlobalSubscription" => StatusCode::BAD_REQUEST,
                _ if transaction.name == "OpenNotificationConnection" => StatusCode::BAD_REQUEST,
                _ if transaction.takes.is_empty() && transaction.method != "GET" => StatusCode::NOT_FOUND,
                "PUT" => StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "POST" if transaction.name == "RequestCancellation" => StatusCode::NOT_FOUND,
                "POST" => StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "GET" if transaction.name.starts_with("Search") => StatusCode::NO_CONTENT,
                _ => StatusCode::NOT_FOUND,
            };
            assert_eq!(response.status(), expected, "{} {path}", transaction.method);
            let problem = response.headers().get(header::CONTENT_TYPE);
            assert!(
                expected == StatusCode::NO_CONTENT || problem.is_some(),
                "{path}: no route"
            );
        }
    }
}
