//! The Worklist Service (PS3.18 11): UPS-RS. What the engine answers to DIMSE it answers here, in HTTP's words.

mod channel;
mod received;
mod search;
mod subscriptions;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use dicom_core::VR;
use dicom_dictionary_std::tags;
use http::{HeaderValue, StatusCode, header};
use pacs_core::audit::Action;
use pacs_core::dataset::{json, xml};
use pacs_core::workflow::ups::{Refusal, State as StepState, Ups, Warning};
use pacs_core::{AeTitle, DataSet, Error, ErrorKind, Result, Uid};

pub(super) use self::channel::Channels;
use self::received::{named_uid, received, received_if_any};
use super::http::accept::Offer;
use super::http::media_type::MediaType;
use super::http::multipart::{Part, related};
use super::http::problem::{Problem, WebResult};
use super::query::{warn, warning};
use super::{Asking, Segments, Web};
use crate::audited;

/// Requesting AE (0074,1236) of who asks over HTTP and names no AE title.
const NOBODY: &str = "UPS-RS";

pub(super) fn routes() -> Router<Arc<Web>> {
    let subscription = post(subscriptions::subscribe).delete(subscriptions::unsubscribe);
    Router::new()
        .route("/workitems", get(search::search).post(create))
        .route("/workitems/{workitem}", get(retrieve).post(update))
        .route("/workitems/{workitem}/state", put(change_state))
        // An AE title behind these is not of the Standard any more, but sent.
        .route("/workitems/{workitem}/state/{aetitle}", put(change_state))
        .route("/workitems/{workitem}/cancelrequest", post(request_cancellation))
        .route(
            "/workitems/{workitem}/cancelrequest/{aetitle}",
            post(request_cancellation),
        )
        .route("/workitems/{workitem}/subscribers/{aetitle}", subscription)
        .route(
            "/workitems/{workitem}/subscribers/{aetitle}/suspend",
            post(subscriptions::suspend),
        )
        .route("/ws/subscribers/{aetitle}", get(channel::open))
}

/// Create (11.4).
async fn create(State(web): State<Arc<Web>>, request: Request) -> WebResult {
    let asking = Asking::of(&web, &request)?;
    let uid = named_uid(&asking.query, "workitem")?;
    let attributes = received(request).await?;
    let created = ups(&web)?.create(uid, attributes).await;
    let created = created.map_err(|error| refused(&error, &asking.base, StatusCode::BAD_REQUEST))?;
    let done = (Action::Create, &created.sop_instance);
    audited::step(&web.pacs, &asking.source, done.0, done.1).await?;
    let mut response = StatusCode::CREATED.into_response();
    let location = format!("{}/workitems/{}", asking.base, created.sop_instance);
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if created.warning == Some(Warning::CreatedWithModifications) {
        warn(
            &mut response,
            &asking.base,
            "The Workitem was created with modifications.",
        );
    }
    Ok(response)
}

/// Retrieve Workitem (11.5).
async fn retrieve(State(web): State<Arc<Web>>, Segments(path): Segments, request: Request) -> WebResult {
    let asking = Asking::of(&web, &request)?;
    let offers = [
        Offer::new(MediaType::DICOM_JSON),
        Offer::new(MediaType::JSON),
        Offer::new(MediaType::related(&MediaType::DICOM_XML)),
        Offer::new(MediaType::DICOM_XML),
    ];
    let media_type = asking.accept.select(&offers)?.offer.media_type.clone();
    let step = ups(&web)?.get(&uid(&path)?).await;
    let mut step = step.map_err(|error| refused(&error, &asking.base, StatusCode::CONFLICT))?;
    audited::procedure(&web.pacs, &asking.source, Action::Read, &step).await?;
    // What is answered is written in UTF-8.
    step.put_text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
    let mut out = Vec::new();
    if media_type.is_multipart() || media_type.is(&MediaType::DICOM_XML) {
        xml::write(&step, &[], &|_| String::new(), &mut out);
        if media_type.is_multipart() {
            let part = Part::whole(&MediaType::DICOM_XML, out);
            let parts = futures::stream::iter([Ok::<_, Error>(part)]);
            return Ok(related(&MediaType::DICOM_XML, parts).into_response());
        }
    } else {
        out.push(b'[');
        json::write(&step, &[], &|_| String::new(), &mut out);
        out.push(b']');
    }
    Ok(([(header::CONTENT_TYPE, media_type.header_value())], out).into_response())
}

/// Update Workitem (11.6).
async fn update(State(web): State<Arc<Web>>, Segments(path): Segments, request: Request) -> WebResult {
    let asking = Asking::of(&web, &request)?;
    let uid = uid(&path)?;
    let transaction = named_uid(&asking.query, "transaction-uid")?;
    let mut attributes = received(request).await?;
    // The URL says it.
    attributes.remove(tags::SOP_INSTANCE_UID);
    let is_claimed = transaction.is_some() || attributes.string(tags::TRANSACTION_UID).is_some();
    let set = ups(&web)?.set(&uid, transaction.as_ref(), attributes).await;
    set.map_err(|error| unclaimed(&error, is_claimed, &asking.base, StatusCode::BAD_REQUEST))?;
    audited::step(&web.pacs, &asking.source, Action::Update, &uid).await?;
    Ok(StatusCode::OK.into_response())
}

/// Change Workitem State (11.7).
async fn change_state(State(web): State<Arc<Web>>, Segments(path): Segments, request: Request) -> WebResult {
    let asking = Asking::of(&web, &request)?;
    let uid = uid(&path)?;
    let information = received(request).await?;
    let tag = tags::PROCEDURE_STEP_STATE;
    let state = information
        .string(tag)
        .and_then(StepState::parse)
        .ok_or_else(|| {
            let why = "Procedure Step State is none of IN PROGRESS, COMPLETED and CANCELED";
            Error::new(ErrorKind::Invalid, "web.workitem", why).with_tag(tag)
        })?;
    let transaction = match information.string(tags::TRANSACTION_UID) {
        Some(_) => Some(information.uid(tags::TRANSACTION_UID)?),
        None => None,
    };
    let changed = ups(&web)?.change_state(&uid, state, transaction.as_ref()).await;
    let is_claimed = transaction.is_some();
    let changed =
        changed.map_err(|error| unclaimed(&error, is_claimed, &asking.base, StatusCode::CONFLICT))?;
    audited::step(&web.pacs, &asking.source, Action::Update, &uid).await?;
    Ok(noted(StatusCode::OK, changed.warning, &asking.base))
}

/// Request Cancellation (11.8).
async fn request_cancellation(
    State(web): State<Arc<Web>>,
    Segments(path): Segments,
    request: Request,
) -> WebResult {
    let asking = Asking::of(&web, &request)?;
    let uid = uid(&path)?;
    let requester = AeTitle::parse(path.get(1).map_or(NOBODY, String::as_str))?;
    let information = received_if_any(request).await?;
    let asked = ups(&web)?.request_cancel(&uid, &requester, &information).await;
    let asked = asked.map_err(|error| refused(&error, &asking.base, StatusCode::CONFLICT))?;
    audited::step(&web.pacs, &asking.source, Action::Update, &uid).await?;
    Ok(noted(StatusCode::ACCEPTED, asked.warning, &asking.base))
}

fn ups(web: &Web) -> Result<&Ups> {
    web.pacs.ups()
}

/// The first segment of the path that is variable.
fn uid(path: &[String]) -> Result<Uid> {
    Uid::parse(path.first().map_or("", String::as_str))
}

/// A success, with what is to be noted.
fn noted(status: StatusCode, noted: Option<Warning>, base: &str) -> Response {
    let mut response = status.into_response();
    match noted {
        Some(Warning::AlreadyCanceled) => warn(
            &mut response,
            base,
            "The UPS is already in the requested state of CANCELED.",
        ),
        Some(Warning::AlreadyCompleted) => warn(
            &mut response,
            base,
            "The UPS is already in the requested state of COMPLETED.",
        ),
        _ => {}
    }
    response
}

/// The same of a request that needs the Transaction UID, which may be missing or be another one (11.6.3.1, 11.7.3.1).
fn unclaimed(error: &Error, is_claimed: bool, base: &str, at_end: StatusCode) -> Problem {
    if is_claimed || Refusal::of(error) != Some(Refusal::TransactionUid) {
        return refused(error, base, at_end);
    }
    let why = "The Transaction UID is missing.";
    Problem::bad_request(why).with_header(header::WARNING, warning(base, why))
}

/// The statuses and warnings of tables 11.4.3-1 to 11.8.3-1. `at_end` answers that a step is in its final state, which
/// the tables of different transactions have differently.
fn refused(error: &Error, base: &str, at_end: StatusCode) -> Problem {
    let Some(refusal) = Refusal::of(error) else {
        return error.into();
    };
    let inconsistent = "The submitted request is inconsistent with the state of the UPS Instance.";
    let (status, text) = match refusal {
        Refusal::NoSuchStep => (StatusCode::NOT_FOUND, None),
        Refusal::Duplicate => (StatusCode::CONFLICT, None),
        Refusal::TransactionUid => (StatusCode::BAD_REQUEST, Some("The Transaction UID is incorrect.")),
        Refusal::Final => (at_end, Some(inconsistent)),
        Refusal::InProgress
        | Refusal::FinalStateRequirements
        | Refusal::NotInProgress
        | Refusal::Completed
        | Refusal::PerformerAway => (StatusCode::CONFLICT, Some(inconsistent)),
        Refusal::OnlyCreatedScheduled => (StatusCode::BAD_REQUEST, Some(inconsistent)),
        _ => (StatusCode::BAD_REQUEST, None),
    };
    let problem = Problem::from(error).with_status(status);
    match text {
        Some(text) => problem.with_header(header::WARNING, warning(base, text)),
        None => problem,
    }
}

/// One data set as an answer in JSON.
fn to_json(step: &DataSet) -> Vec<u8> {
    let mut out = Vec::new();
    json::write(step, &[], &|_| String::new(), &mut out);
    out
}
