//! Search (PS3.18 11.9).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use http::{StatusCode, header};
use pacs_core::dataset::xml;
use pacs_core::query::Keys;
use pacs_core::workflow::ups::ALWAYS_RETURNED;
use pacs_core::{DataSet, Level, Result};

use super::super::http::accept::Offer;
use super::super::http::body;
use super::super::http::media_type::MediaType;
use super::super::http::multipart::{Part, related};
use super::super::http::problem::WebResult;
use super::super::query::parameters::{Parameters, put_return_key};
use super::super::query::{remaining, warn_of_rest};
use super::super::retrieve::metadata::array;
use super::super::{Asking, Web};
use super::{to_json, ups};
use crate::audited;

/// Answers that are held, so that it can be said how many there are more. A page of a list has fewer.
const HELD_MAX: u64 = 10_000;

pub(super) async fn search(State(web): State<Arc<Web>>, request: Request) -> WebResult {
    let asking = Asking::of(&web, &request)?;
    let offers = [
        Offer::new(MediaType::DICOM_JSON),
        Offer::new(MediaType::JSON),
        Offer::new(MediaType::related(&MediaType::DICOM_XML)),
    ];
    let media_type = asking.accept.select(&offers)?.offer.media_type.clone();
    let mut asked = Parameters::parse(&asking.query, Level::Study)?;
    // There are no levels.
    asked.identifier.remove(tags::QUERY_RETRIEVE_LEVEL);
    for tag in ALWAYS_RETURNED {
        put_return_key(&mut asked.identifier, *tag);
    }
    let resource = format!("{}/workitems", asking.base);
    audited::search(&web.pacs, &asking.source, &resource, &asking.query).await?;
    let keys = Keys::new(asked.identifier, asked.options)?;
    let found = match asked.everything {
        true => ups(&web)?.steps(keys),
        false => ups(&web)?.find(keys),
    };
    let skipped = usize::try_from(asked.offset).unwrap_or(usize::MAX);
    let mut found = found.skip(skipped).map_ok(in_utf8).boxed();
    let mut left = 0;
    let limit = asked.limit.unwrap_or(u64::MAX);
    if limit <= HELD_MAX {
        // Below ten thousand.
        let held: Vec<DataSet> = found.by_ref().take(limit as usize).try_collect().await?;
        left = remaining(&mut found).await?;
        found = stream::iter(held).map(Ok).boxed();
    } else {
        found = found.take(usize::try_from(limit).unwrap_or(usize::MAX)).boxed();
    }
    let mut response = answer(found, &media_type).await?;
    warn_of_rest(&mut response, &asking.base, left);
    Ok(response)
}

async fn answer(
    mut found: BoxStream<'static, Result<DataSet>>,
    media_type: &MediaType,
) -> WebResult<Response> {
    let Some(first) = found.try_next().await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let found = stream::iter([Ok(first)]).chain(found);
    if media_type.is_multipart() {
        let parts = found.map_ok(|step| {
            let mut document = Vec::new();
            xml::write(&step, &[], &|_| String::new(), &mut document);
            Part::whole(&MediaType::DICOM_XML, document)
        });
        return Ok(related(&MediaType::DICOM_XML, parts).into_response());
    }
    let items = found.map_ok(|step| to_json(&step)).boxed();
    let pieces = body::begun(array(items)).await?;
    let content_type = [(header::CONTENT_TYPE, media_type.header_value())];
    Ok((content_type, body::from_stream(pieces)).into_response())
}

fn in_utf8(mut step: DataSet) -> DataSet {
    step.put_text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
    step
}
