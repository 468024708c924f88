//! `GET /study-status?study=UID,UID`: how far studies are, for the built-in page; DICOMweb has no word for it.
//!
//! ```json
//! { "1.2.3": "acquired", "1.2.4": "reported" }       who is nowhere known is left out
//! ```

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{Extensions, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures::TryStreamExt as _;
use pacs_core::query::{Model, QueryOptions};
use pacs_core::workflow::Reading;
use pacs_core::{DataSet, Level, Pacs, Permission, Query, Result, Source, Uid, tags};
use pacs_net::web::access::source;
use pacs_net::web::http::problem::Problem;
use serde_json::{Map, json};

/// Studies that are told at once: more than a page of a list has.
const STUDIES_MAX: usize = 100;

pub(super) fn routes(pacs: Pacs) -> Router {
    Router::new().route("/study-status", get(told)).with_state(pacs)
}

async fn told(State(pacs): State<Pacs>, RawQuery(query): RawQuery, extensions: Extensions) -> Response {
    let query = query.unwrap_or_default();
    let studies = query.strip_prefix("study=").unwrap_or_default();
    let studies: Result<Vec<Uid>> = studies.split(',').map(Uid::parse).collect();
    let Some(studies) = studies.ok().filter(|studies| studies.len() <= STUDIES_MAX) else {
        let why =
            format!("study is a list of at most {STUDIES_MAX} Study Instance UIDs with a comma between them");
        return Problem::bad_request(why).into_response();
    };
    let answer = async {
        let reading = Reading::new(&pacs)?;
        let mut answer = Map::new();
        for study in theirs(&pacs, &source(&extensions), studies).await? {
            if let Some(status) = reading.status(&study).await? {
                answer.insert(study.to_string(), json!(status.as_str()));
            }
        }
        Ok::<_, pacs_core::Error>(json!(answer).to_string())
    };
    match answer.await {
        Ok(answer) => ([(header::CONTENT_TYPE, "application/json")], answer).into_response(),
        Err(error) => Problem::from(&error).into_response(),
    }
}

/// Those of the studies that `source` may know of: the others are not known to be there.
async fn theirs(pacs: &Pacs, source: &Source, studies: Vec<Uid>) -> Result<Vec<Uid>> {
    if pacs.permit_all(source, Permission::Find).is_ok() {
        // Also those of which nothing came yet.
        return Ok(studies);
    }
    let mut theirs = Vec::new();
    for study in studies {
        let mut keys = DataSet::new();
        keys.put_uid(tags::STUDY_INSTANCE_UID, &study);
        let query = Query::new(Model::StudyRoot, Level::Study, keys, QueryOptions::default());
        if pacs.find(source, query)?.try_next().await?.is_some() {
            theirs.push(study);
        }
    }
    Ok(theirs)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use pacs_core::Options;
    use pacs_store::{MemoryArchive, MemoryIndex, MemoryLedger};
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(options: Options, query: &str) -> (u16, String) {
        let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
        let pacs = Pacs::open(archive, index, options).await.unwrap();
        let request = Request::get(format!("/study-status{query}"));
        let answer = routes(pacs).oneshot(request.body(Body::empty()).unwrap());
        let (parts, body) = answer.await.unwrap().into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (parts.status.as_u16(), String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn what_nobody_knows_is_left_out_and_what_is_no_list_of_uids_is_refused() {
        let options = || Options {
            ledger: Some(Arc::new(MemoryLedger::new())),
            ..Options::default()
        };
        assert_eq!(ask(options(), "?study=1.2.3,1.2.4").await, (200, "{}".to_owned()));
        let many = vec!["1.2"; STUDIES_MAX + 1].join(",");
        for query in ["", "?study=", "?study=x", &format!("?study={many}")] {
            assert_eq!(ask(options(), query).await.0, 400, "{query}");
        }
        // Without a ledger there is no worklist.
        assert_eq!(ask(Options::default(), "?study=1.2.3").await.0, 501);
    }
}
