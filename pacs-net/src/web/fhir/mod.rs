//! FHIR R4 (HL7 FHIR 4.0.1): ImagingStudy, read and searched, made from the index alone.
//!
//! | request below [`FHIR`] | interaction |
//! | --- | --- |
//! | `GET metadata` | capabilities (3.1.0.12) |
//! | `GET ImagingStudy/{id}` | read (3.1.0.1); `id` is the Study Instance UID |
//! | `GET ImagingStudy`, `POST ImagingStudy/_search` | search-type (3.1.1) |
//!
//! Each ImagingStudy contains an Endpoint, which is that of DICOMweb (connection type `dicom-wado-rs`). Errors
//! are an OperationOutcome. What is searched by is in `search`; a parameter that is not known is refused, so that a mistyped
//! one does not find everybody.

mod capability;
mod outcome;
mod search;
mod study;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use dicom_dictionary_std::tags;
use futures::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pacs_core::query::{Model, Query, QueryOptions};
use pacs_core::{DataSet, Level, Pacs, Permission, Source, Uid, VR};
use serde_json::{Value, json};

use self::outcome::{FhirResult, Outcome};
use self::search::Search;
use super::access::Needs;
use super::http::accept::{Accept, Offer};
use super::http::body;
use super::http::layers::with_privacy;
use super::http::media_type::MediaType;
use super::http::problem::Problem;
use super::{Segments, Web, WebOptions};
use crate::audited;

/// Where FHIR usually is: see [`router`].
pub const FHIR: &str = "/fhir";

pub(super) const FHIR_JSON: MediaType = MediaType::constant("application", "fhir+json");

/// Instances of a study that an ImagingStudy lists. Of a larger one it lists the series alone, each with the number of its
/// instances: bounds the memory that one resource takes.
pub const INSTANCES_LISTED_MAX: usize = 10_000;

/// The form of a search by POST. What is sent is a few parameters.
const FORM_LENGTH_MAX_BYTES: usize = 64 * 1024;

/// What handlers answer from.
struct Fhir {
    web: Web,
    path: String,
}

/// FHIR at `path`, which may be written as [`WebOptions::path`]; resources lead to DICOMweb at the path of `options`.
///
/// # Panics
/// As [`router`](super::router).
pub fn router(pacs: Pacs, options: WebOptions, path: &str) -> Router {
    let path = super::normalised(path);
    let web = Web::new(pacs, options);
    let guard = web
        .guard(|_, template| match template.ends_with("/metadata") {
            true => Needs::Nothing,
            false => Needs::Part(Permission::Find),
        })
        .answering(|problem| Outcome::from(problem).into_response());
    let state = Arc::new(Fhir {
        web,
        path: path.clone(),
    });
    let router = Router::new()
        .route("/metadata", get(metadata))
        .route("/ImagingStudy", get(search_by_query))
        .route("/ImagingStudy/_search", post(search_by_form).get(search_by_query))
        .route("/ImagingStudy/{id}", get(read));
    let router = guard
        .around(router)
        .layer(DefaultBodyLimit::disable())
        .fallback(async || Outcome::from(Problem::not_found("there is no such resource")))
        .method_not_allowed_fallback(async || Outcome::from(Problem::bare(StatusCode::METHOD_NOT_ALLOWED)))
        .with_state(state);
    let router = with_privacy(router);
    match path.as_str() {
        "" => router,
        path => Router::new().nest(path, router),
    }
}

/// Who asks, what for, and by which URLs it is answered.
struct Asking {
    source: Source,
    /// The base of FHIR, without a slash at its end.
    base: String,
    /// The base of DICOMweb.
    dicomweb: String,
    query: String,
    media_type: MediaType,
}

impl Asking {
    fn of(fhir: &Fhir, request: &Request) -> FhirResult<Self> {
        let query = request.uri().query().unwrap_or_default();
        let dicomweb = fhir
            .web
            .base(request.headers(), request.uri(), request.extensions());
        let origin = dicomweb
            .strip_suffix(fhir.web.options.path.as_str())
            .unwrap_or_default();
        Ok(Self {
            source: fhir.web.source(request.extensions()),
            base: format!("{origin}{}", fhir.path),
            media_type: accepted(request.headers(), query)?,
            query: query.to_owned(),
            dicomweb,
        })
    }
}

/// The media type of the answer, by `_format` or Accept (3.1.0.1.11).
fn accepted(headers: &HeaderMap, parameters: &str) -> FhirResult<MediaType> {
    let offers = [Offer::new(FHIR_JSON), Offer::new(MediaType::JSON)];
    let format = form_urlencoded::parse(parameters.as_bytes()).find(|(name, _)| name == "_format");
    let media_type = match format.as_ref().map(|(_, value)| value.as_ref()) {
        Some("json" | "application/json" | "application/fhir+json" | "application/fhir json") => FHIR_JSON,
        Some(_) => return Err(Problem::not_acceptable(offers.iter().map(|offer| &offer.media_type)).into()),
        None => Accept::of_parameter(headers, None, "_format")?
            .select(&offers)?
            .offer
            .media_type
            .clone(),
    };
    Ok(media_type)
}

/// `GET metadata`
async fn metadata(State(fhir): State<Arc<Fhir>>, request: Request) -> FhirResult<Response> {
    let asking = Asking::of(&fhir, &request)?;
    Ok(answer(&asking, &capability::statement(&asking.base)))
}

/// `GET ImagingStudy/{id}`
async fn read(
    State(fhir): State<Arc<Fhir>>,
    Segments(within): Segments,
    request: Request,
) -> FhirResult<Response> {
    let asking = Asking::of(&fhir, &request)?;
    let not_found = || Problem::not_found("no study with this id is kept");
    let id = within
        .first()
        .and_then(|id| Uid::parse(id).ok())
        .ok_or_else(not_found)?;
    let mut keys = study_keys();
    keys.put_uid(tags::STUDY_INSTANCE_UID, &id);
    let query = Query::new(Model::StudyRoot, Level::Study, keys, OPTIONS);
    let resource_url = format!("{}/ImagingStudy/{id}", asking.base);
    audited::search(&fhir.web.pacs, &asking.source, &resource_url, "").await?;
    let found = fhir.web.pacs.find(&asking.source, query)?.try_next().await?;
    let found = found.ok_or_else(not_found)?;
    let resource = resource(&fhir.web.pacs, &asking.source, &asking.dicomweb, &found).await?;
    Ok(answer(&asking, &resource))
}

/// `GET ImagingStudy`
async fn search_by_query(State(fhir): State<Arc<Fhir>>, request: Request) -> FhirResult<Response> {
    let asking = Asking::of(&fhir, &request)?;
    let search = Search::parse(&[&asking.query])?;
    let parameters = asking.query.clone();
    searched(&fhir, asking, search, &parameters).await
}

/// `POST ImagingStudy/_search`: the parameters stand in the URL, in the form, or in both.
async fn search_by_form(State(fhir): State<Arc<Fhir>>, request: Request) -> FhirResult<Response> {
    let mut asking = Asking::of(&fhir, &request)?;
    let headers = request.headers().clone();
    let form = MediaType::constant("application", "x-www-form-urlencoded");
    let content_type = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let content_type = content_type.and_then(|text| text.parse::<MediaType>().ok());
    if !content_type.is_some_and(|content_type| content_type.is(&form)) {
        return Err(Problem::unsupported_media_type(&[form]).into());
    }
    let body = body::gather(request.into_body(), FORM_LENGTH_MAX_BYTES).await?;
    let body = std::str::from_utf8(&body).map_err(|_| Problem::bad_request("the form is not UTF-8"))?;
    asking.media_type = accepted(&headers, &[asking.query.as_str(), body].join("&"))?;
    let search = Search::parse(&[&asking.query, body])?;
    let parameters = [asking.query.as_str(), body].join("&");
    searched(&fhir, asking, search, &parameters).await
}

/// Matches beyond the page that are counted. Where there are more, the Bundle has no total.
const COUNTED_MAX: usize = 1000;

/// A Bundle of type searchset (2.36.2). Each resource is made when the one before has gone out.
async fn searched(fhir: &Fhir, asking: Asking, search: Search, parameters: &str) -> FhirResult<Response> {
    let mut bundle = json!({ "resourceType": "Bundle", "type": "searchset" });
    let mut page = Vec::new();
    let mut is_more = false;
    let mut total = Some(0);
    if let Some(keys) = search.keys(study_keys()) {
        let resource = format!("{}/ImagingStudy", asking.base);
        audited::search(&fhir.web.pacs, &asking.source, &resource, parameters).await?;
        let query = Query::new(Model::StudyRoot, Level::Study, keys, OPTIONS);
        let mut found = fhir
            .web
            .pacs
            .find(&asking.source, query)?
            .skip(search.offset)
            .fuse();
        while page.len() < search.count
            && let Some(study) = found.try_next().await?
        {
            page.push(study);
        }
        let mut beyond = 0;
        while beyond < COUNTED_MAX && found.try_next().await?.is_some() {
            beyond += 1;
        }
        is_more = beyond > 0;
        // Where the page lies behind the end, how many there are before it isn't known.
        let is_known = beyond < COUNTED_MAX && (search.offset == 0 || !page.is_empty());
        total = is_known.then_some(search.offset + page.len() + beyond);
    }
    if let Some(total) = total {
        bundle["total"] = json!(total);
    }
    bundle["link"] = search.links(&asking.base, is_more);
    let mut begin = bundle.to_string();
    // An object ends with a brace.
    begin.pop();
    if page.is_empty() {
        return Ok(answer(&asking, &bundle));
    }
    begin.push_str(",\"entry\":[");
    let (pacs, source, dicomweb) = (
        fhir.web.pacs.clone(),
        asking.source.clone(),
        asking.dicomweb.clone(),
    );
    let base = asking.base.clone();
    let entries = stream::iter(page.into_iter().enumerate()).then(move |(at, study)| {
        let (pacs, source, dicomweb, base) = (pacs.clone(), source.clone(), dicomweb.clone(), base.clone());
        async move {
            let resource = resource(&pacs, &source, &dicomweb, &study).await?;
            let entry = json!({
                "fullUrl": format!("{base}/ImagingStudy/{}", study.string(tags::STUDY_INSTANCE_UID).unwrap_or_default()),
                "resource": resource,
                "search": { "mode": "match" },
            });
            let comma = if at == 0 { "" } else { "," };
            Ok(Bytes::from(format!("{comma}{entry}")))
        }
    });
    let whole = stream::iter([Ok(Bytes::from(begin))])
        .chain(entries)
        .chain(stream::iter([Ok(Bytes::from_static(b"]}"))]));
    let mut response = body::from_stream(whole.boxed()).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type(&asking.media_type));
    Ok(response)
}

const OPTIONS: QueryOptions = QueryOptions {
    relational: true,
    combined_date_time: false,
    fuzzy_person_names: false,
    multiple_values: false,
};

/// What is asked of a study.
fn study_keys() -> DataSet {
    keys(study::STUDY)
}

fn keys(tags: &[(pacs_core::Tag, VR)]) -> DataSet {
    let mut keys = DataSet::new();
    for (tag, vr) in tags {
        match *vr {
            VR::SQ => keys.put_items(*tag, Vec::new()),
            vr => keys.put_text(*tag, vr, ""),
        }
    }
    keys
}

/// The ImagingStudy of a study that was found, with its series and their instances.
async fn resource(pacs: &Pacs, source: &Source, dicomweb: &str, found: &DataSet) -> pacs_core::Result<Value> {
    let uid = found.uid(tags::STUDY_INSTANCE_UID)?;
    let below = |level, table| {
        let mut keys = keys(table);
        keys.put_uid(tags::STUDY_INSTANCE_UID, &uid);
        pacs.find(source, Query::new(Model::StudyRoot, level, keys, OPTIONS))
    };
    let mut series: Vec<DataSet> = below(Level::Series, study::SERIES)?.try_collect().await?;
    let number = |set: &DataSet| {
        set.string(tags::SERIES_NUMBER)
            .and_then(|text| text.trim().parse::<i64>().ok())
    };
    series.sort_by_key(|set| {
        (
            number(set),
            set.string(tags::SERIES_INSTANCE_UID).map(str::to_owned),
        )
    });
    let mut instances: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut found_instances = below(Level::Instance, study::INSTANCE)?.take(INSTANCES_LISTED_MAX + 1);
    let mut count = 0;
    while let Some(instance) = found_instances.try_next().await? {
        count += 1;
        if count > INSTANCES_LISTED_MAX {
            instances.clear();
            break;
        }
        let of = instance
            .string(tags::SERIES_INSTANCE_UID)
            .unwrap_or_default()
            .to_owned();
        instances.entry(of).or_default().push(study::instance(&instance));
    }
    let series: Vec<Value> = series
        .iter()
        .map(|set| {
            let uid = set.string(tags::SERIES_INSTANCE_UID).unwrap_or_default();
            study::series(set, found, instances.remove(uid).unwrap_or_default())
        })
        .collect();
    Ok(study::study(found, series, dicomweb))
}

fn answer(asking: &Asking, resource: &Value) -> Response {
    let headers = [(header::CONTENT_TYPE, content_type(&asking.media_type))];
    (headers, resource.to_string()).into_response()
}

fn content_type(media_type: &MediaType) -> HeaderValue {
    media_type.header_value()
}
