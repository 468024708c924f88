//! The Search transaction (PS3.18 10.6): QIDO-RS.

mod answer;
pub(super) mod parameters;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dicom_dictionary_std::tags;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use http::{HeaderValue, StatusCode, header};
use pacs_core::dataset::xml;
use pacs_core::query::{Key, KeyMatch, Model};
use pacs_core::{DataSet, Error, ErrorKind, Level, Query, Result, Uid, VR};

use self::answer::Answers;
use self::parameters::Parameters;
use super::http::accept::Offer;
use super::http::body;
use super::http::media_type::MediaType;
use super::http::multipart::{Part, related};
use super::http::problem::WebResult;
use super::{Asking, Segments, Web};
use crate::audited;

/// Answers that are held before the first goes out, so that it can be said how many there are more.
const HELD_LENGTH_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Answers beyond the limit that are counted: one knows that there are many.
const REMAINING_COUNTED_MAX: u64 = 1000;

/// What is searched: entities of a level, of a study or a series where one is named.
#[derive(Clone, Copy, Debug)]
struct Target {
    level: Level,
    study: Option<Uid>,
    series: Option<Uid>,
}

impl Target {
    /// The URL that is searched.
    fn url(&self, base: &str) -> String {
        let mut url = base.to_owned();
        for (name, uid) in [("studies", self.study), ("series", self.series)] {
            if let Some(uid) = uid {
                url.push_str(&format!("/{name}/{uid}"));
            }
        }
        let what = match self.level {
            Level::Patient | Level::Study => "/studies",
            Level::Series => "/series",
            Level::Instance => "/instances",
        };
        url.push_str(what);
        url
    }
}

/// `GET /studies`
pub(super) async fn studies(State(web): State<Arc<Web>>, request: Request) -> WebResult {
    search(&web, Asking::of(&web, &request)?, Level::Study, &[]).await
}

/// `GET /series`
pub(super) async fn all_series(State(web): State<Arc<Web>>, request: Request) -> WebResult {
    search(&web, Asking::of(&web, &request)?, Level::Series, &[]).await
}

/// `GET /instances`
pub(super) async fn all_instances(State(web): State<Arc<Web>>, request: Request) -> WebResult {
    search(&web, Asking::of(&web, &request)?, Level::Instance, &[]).await
}

/// `GET /studies/{study}/series`
pub(super) async fn series_of_study(
    State(web): State<Arc<Web>>,
    Segments(within): Segments,
    request: Request,
) -> WebResult {
    search(&web, Asking::of(&web, &request)?, Level::Series, &within).await
}

/// `GET /studies/{study}/instances`
pub(super) async fn instances_of_study(
    State(web): State<Arc<Web>>,
    Segments(within): Segments,
    request: Request,
) -> WebResult {
    search(&web, Asking::of(&web, &request)?, Level::Instance, &within).await
}

/// `GET /studies/{study}/series/{series}/instances`
pub(super) async fn instances_of_series(
    State(web): State<Arc<Web>>,
    Segments(within): Segments,
    request: Request,
) -> WebResult {
    search(&web, Asking::of(&web, &request)?, Level::Instance, &within).await
}

async fn search(web: &Web, asking: Asking, level: Level, within: &[String]) -> WebResult {
    let uid = |at: usize| within.get(at).map(|text| Uid::parse(text)).transpose();
    let target = Target {
        level,
        study: uid(0)?,
        series: uid(1)?,
    };
    let offers = [
        Offer::new(MediaType::DICOM_JSON),
        Offer::new(MediaType::JSON),
        Offer::new(MediaType::related(&MediaType::DICOM_XML)),
    ];
    let media_type = &asking.accept.select(&offers)?.offer.media_type;
    let asked = Parameters::parse(&asking.query, level)?;
    let answers = Answers::new(web, &asking, target, &asked);
    let search = Search {
        query: query(web, target, &asked, &answers)?,
        answers,
        limit: asked.limit.unwrap_or(u64::MAX),
        offset: asked.offset,
    };
    let matches = search.matches(web, &asking)?;
    audited::search(
        &web.pacs,
        &asking.source,
        &target.url(&asking.base),
        &asking.query,
    )
    .await?;
    let mut response = if media_type.is_multipart() {
        search.xml(web, &asking, matches).await?
    } else {
        search.json(web, &asking, matches, media_type).await?
    };
    if !search.query.unsupported().is_empty() && asks_for_unsupported(&search.query, &asked) {
        let text = "matching keys that are not supported at this level did not restrict the search";
        warn(&mut response, &asking.base, text);
    }
    Ok(response)
}

/// The same question as a C-FIND would ask.
fn query(web: &Web, target: Target, asked: &Parameters, answers: &Answers) -> Result<Query> {
    let identifier = answers.returning(&asked.identifier);
    let attributes = web.pacs.attributes();
    let mut query = Query::from_identifier(attributes, Model::StudyRoot, &identifier, asked.options)?;
    // In DIMSE what is no date is text that nothing has; here who asks is told.
    let is_no_moment =
        |key: &&Key| matches!(key.vr, VR::DA | VR::TM | VR::DT) && matches!(key.wanted, KeyMatch::Text(_));
    if let Some(key) = query.matching().iter().find(is_no_moment) {
        let what = "what is matched is no date or time, nor a range of them";
        return Err(Error::new(ErrorKind::Invalid, "web.search", what).with_tag(key.tag));
    }
    let mut within = DataSet::new();
    let above = [
        (tags::STUDY_INSTANCE_UID, target.study),
        (tags::SERIES_INSTANCE_UID, target.series),
    ];
    for (tag, uid) in above {
        if let Some(uid) = uid {
            within.put_uid(tag, &uid);
        }
    }
    query.restrict(&within);
    Ok(query)
}

/// Whether a key that restricts nothing was given a value.
fn asks_for_unsupported(query: &Query, asked: &Parameters) -> bool {
    let given = |tag: &dicom_core::Tag| asked.identifier.get(*tag).is_some_and(|key| !key.is_empty());
    query.unsupported().iter().any(given)
}

struct Search {
    query: Query,
    answers: Answers,
    limit: u64,
    offset: u64,
}

impl Search {
    fn matches(&self, web: &Web, asking: &Asking) -> Result<BoxStream<'static, Result<DataSet>>> {
        let found = web.pacs.find(&asking.source, self.query.clone())?;
        let offset = usize::try_from(self.offset).unwrap_or(usize::MAX);
        // Who counts what is left may ask again behind the end.
        Ok(found.skip(offset).fuse().boxed())
    }

    /// A JSON array: as soon as it is known whether there are more than what was asked for, it goes out.
    async fn json(
        &self,
        web: &Web,
        asking: &Asking,
        mut matches: BoxStream<'static, Result<DataSet>>,
        media_type: &MediaType,
    ) -> WebResult {
        let mut held = Vec::with_capacity(16 * 1024);
        held.push(b'[');
        let mut count = 0;
        while count < self.limit && held.len() < HELD_LENGTH_MAX_BYTES {
            let Some(found) = matches.try_next().await? else {
                break;
            };
            self.answers.write(found, count, &mut held);
            count += 1;
        }
        let is_full = held.len() >= HELD_LENGTH_MAX_BYTES;
        let remaining = match is_full {
            false => remaining(&mut matches).await?,
            true => self.remaining(web, asking).await?,
        };
        // PS3.18 8.3.4.4.1
        if count == 0 {
            let mut response = StatusCode::NO_CONTENT.into_response();
            warn_of_rest(&mut response, &asking.base, remaining);
            return Ok(response);
        }
        let mut response = if is_full {
            let answers = self.answers.clone();
            let left = usize::try_from(self.limit - count).unwrap_or(usize::MAX);
            let rest = matches.take(left).try_chunks(64).map(move |found| {
                let mut out = Vec::new();
                for found in found.map_err(|error| error.1)? {
                    answers.write(found, 1, &mut out);
                }
                Ok(Bytes::from(out))
            });
            let end = stream::iter([Ok(Bytes::from_static(b"]"))]);
            let pieces = stream::iter([Ok(Bytes::from(held))]).chain(rest).chain(end);
            body::from_stream(pieces.boxed()).into_response()
        } else {
            held.push(b']');
            axum::body::Body::from(held).into_response()
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, media_type.header_value());
        warn_of_rest(&mut response, &asking.base, remaining);
        Ok(response)
    }

    /// One part for each match.
    async fn xml(
        &self,
        web: &Web,
        asking: &Asking,
        matches: BoxStream<'static, Result<DataSet>>,
    ) -> WebResult {
        let answers = self.answers.clone();
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let mut matches = matches.take(limit).boxed();
        let first = matches.try_next().await?;
        let remaining = self.remaining(web, asking).await?;
        let Some(first) = first else {
            let mut response = StatusCode::NO_CONTENT.into_response();
            warn_of_rest(&mut response, &asking.base, remaining);
            return Ok(response);
        };
        let matches = stream::iter([Ok(first)]).chain(matches);
        let parts = matches.map_ok(move |found| {
            let mut document = Vec::new();
            xml::write(&answers.complete(found), &[], &|_| String::new(), &mut document);
            Part::whole(&MediaType::DICOM_XML, document)
        });
        let mut response = related(&MediaType::DICOM_XML, parts).into_response();
        warn_of_rest(&mut response, &asking.base, remaining);
        Ok(response)
    }

    /// How many there are beyond the limit, asked for again without their being written.
    async fn remaining(&self, web: &Web, asking: &Asking) -> Result<u64> {
        if self.limit == u64::MAX {
            return Ok(0);
        }
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        remaining(&mut self.matches(web, asking)?.skip(limit).boxed()).await
    }
}

/// Counts what is left, up to [`REMAINING_COUNTED_MAX`].
pub(super) async fn remaining(matches: &mut BoxStream<'static, Result<DataSet>>) -> Result<u64> {
    let mut count = 0;
    while count < REMAINING_COUNTED_MAX && matches.try_next().await?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// Says how many answers are left to be asked for.
pub(super) fn warn_of_rest(response: &mut Response, service: &str, remaining: u64) {
    let count = match remaining {
        0 => return,
        REMAINING_COUNTED_MAX.. => format!("at least {REMAINING_COUNTED_MAX}"),
        count => count.to_string(),
    };
    let text = format!("There are {count} additional results that can be requested");
    warn(response, service, &text);
}

/// Adds a warning of this service.
pub(super) fn warn(response: &mut Response, service: &str, text: &str) {
    response
        .headers_mut()
        .append(header::WARNING, warning(service, text));
}

/// A warning of this service as the value of its field (PS3.18 8.3.4.4.1; RFC 7234 5.5).
pub(super) fn warning(service: &str, text: &str) -> HeaderValue {
    // The base URL was made of a header that was checked, and the texts are ours.
    HeaderValue::from_str(&format!("299 {service} \"{text}\""))
        .unwrap_or_else(|_| HeaderValue::from_static("299 - \"\""))
}
