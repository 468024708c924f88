//! Deleting studies, series and instances: not of the Standard, offered by a switch
//! ([`WebOptions::delete`](super::WebOptions)) as other servers do.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::IntoResponse;
use futures::TryStreamExt;
use http::{Method, StatusCode};
use pacs_core::access::Part;
use pacs_core::{Level, Permission};

use super::http::problem::{Problem, WebResult};
use super::resource::{Resource, not_found};
use super::{Asking, Segments, Web};
use crate::audited;

/// `DELETE` of a study, a series or an instance: 204 when all of it is gone.
pub(super) async fn remove(
    State(web): State<Arc<Web>>,
    Segments(uids): Segments,
    request: Request,
) -> WebResult {
    let asking = Asking::of(&web, &request)?;
    let resource = Resource::parse(&uids)?;
    // What may not be deleted is not shown to be there.
    let is_all = matches!(web.pacs.permit(&asking.source, Permission::Delete)?, Part::All);
    let instances = resource.deletable(&web.pacs, &asking.source);
    let mut removed = 0_u64;
    // In parts, so that a study of any size is deleted in bounded memory; each is recorded before it goes.
    let mut parts = instances.try_chunks(1000);
    while let Some(records) = parts.try_next().await.map_err(|error| error.1)? {
        let is_study = resource.level() == Level::Study && is_all;
        audited::deleted(&web.pacs, &asking.source, is_study, &records).await?;
        for record in records {
            // What has come in its place since is another one.
            removed += u64::from(web.pacs.remove_version(&record).await?);
        }
    }
    if removed == 0 {
        return Err(not_found().into());
    }
    tracing::info!(
        removed,
        resource = resource.level().as_str(),
        "instances were deleted over HTTP"
    );
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Answers what has no other handler where deleting is switched off.
pub(super) async fn switched_off(method: Method) -> Problem {
    match method {
        Method::DELETE => {
            let why = "the server is configured without deletion";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, why)
        }
        _ => Problem::bare(StatusCode::METHOD_NOT_ALLOWED),
    }
}
