//! Deliveries over HTTP: what waits and what was refused, as JSON; hold, release, send again.
//!
//! ```text
//! GET    /outbox                           how it stands with each destination
//! GET    /outbox/NAME[?after=ID]           what was refused for good, page by page
//! GET    /outbox/NAME/of/UID               what became of an instance, a series or a study
//! POST   /outbox/NAME/hold, /release       deliver nothing more to it; go on
//! POST   /outbox/NAME/send-again[?id=ID]   try all that was refused again, or one
//! POST   /outbox/NAME/discard?id=ID        forget one that was refused
//! DELETE /outbox/NAME                      forget all that waits for it or was refused: for one that is no more
//! ```

use axum::Router;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use pacs_core::route::{Progress, Recorded, What};
use pacs_core::{Error, ErrorKind, Pacs, Result, Uid};
use pacs_net::deliver::Deliveries;
use pacs_net::web::http::origin;
use pacs_net::web::http::problem::Problem;
use serde_json::{Value, json};
use tokio::sync::watch;

/// Refused deliveries that are shown at once.
const SHOWN_MAX: usize = 1000;

#[derive(Clone)]
pub(crate) struct OutboxPage {
    pub(crate) pacs: Pacs,
    pub(crate) deliveries: watch::Receiver<Option<Deliveries>>,
}

pub(super) fn routes(page: OutboxPage) -> Router {
    Router::new()
        .route("/outbox", get(all))
        .route("/outbox/{name}", get(refused).delete(abandon))
        .route("/outbox/{name}/of/{uid}", get(recorded))
        .route("/outbox/{name}/hold", post(hold))
        .route("/outbox/{name}/release", post(release))
        .route("/outbox/{name}/send-again", post(send_again))
        .route("/outbox/{name}/discard", post(discard))
        .layer(from_fn(own_pages_alone))
        .with_state(page)
}

/// A page of another origin could hold deliveries, or discard them: a browser asks for such a request without permission.
async fn own_pages_alone(request: Request, next: Next) -> Response {
    match origin::is_allowed(request.headers(), &[]) {
        true => next.run(request).await,
        false => Problem::new(StatusCode::FORBIDDEN, "a page of another origin asks").into_response(),
    }
}

async fn all(State(page): State<OutboxPage>) -> Response {
    let outbox = match page.pacs.outbox() {
        Ok(outbox) => outbox,
        Err(error) => return Problem::from(&error).into_response(),
    };
    let reached = page
        .deliveries
        .borrow()
        .as_ref()
        .map(Deliveries::reached)
        .unwrap_or_default();
    let mut each: Vec<Value> = Vec::new();
    let status = outbox.status();
    for one in &reached {
        if !status.iter().any(|known| known.destination == one.destination) {
            each.push(json!({"destination": &*one.destination, "waiting": 0, "refused": 0, "held": false, "away": one.away}));
        }
    }
    for one in &status {
        let found = reached.iter().find(|known| known.destination == one.destination);
        let away = match found {
            Some(known) => json!(known.away),
            // Somebody must say what becomes of it.
            None => json!("no such destination is configured"),
        };
        each.push(json!({
            "destination": &*one.destination,
            "waiting": one.waiting,
            "refused": one.dead,
            "held": one.held,
            "away": away,
        }));
    }
    each.sort_by_key(|one| one["destination"].to_string());
    json_response(&json!(each))
}

/// The delivery that is named by this parameter of the query, as [`refused`] names it; no other one may stand there.
fn asked(query: Option<&str>, parameter: &str) -> Result<Option<What>> {
    let invalid = |why: String| Error::new(ErrorKind::Invalid, "outbox.ask", why);
    let mut found = None;
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if name != parameter {
            return Err(invalid(format!("only {parameter} may be asked for")));
        }
        let what = value
            .parse()
            .map_err(|_| invalid("no delivery has such an id".to_owned()))?;
        found = Some(what);
    }
    Ok(found)
}

async fn refused(
    State(page): State<OutboxPage>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    answer(async {
        let after = asked(query.as_deref(), "after")?;
        let dead = page.pacs.outbox()?.dead(&name, after.as_ref(), SHOWN_MAX).await?;
        let shown = dead.iter().map(|dead| shown(&dead.what, &dead.recorded));
        Ok(json_response(&json!(shown.collect::<Vec<_>>())))
    })
    .await
}

async fn recorded(State(page): State<OutboxPage>, Path((name, uid)): Path<(String, String)>) -> Response {
    answer(async {
        let uid = Uid::parse(&uid)?;
        let outbox = page.pacs.outbox()?;
        let found = outbox.recorded_of(&name, &uid, SHOWN_MAX).await?;
        let shown = found.iter().map(|(what, recorded)| shown(what, recorded));
        Ok(json_response(&json!(shown.collect::<Vec<_>>())))
    })
    .await
}

fn shown(what: &What, recorded: &Recorded) -> Value {
    let (event, of) = match what {
        What::Instance(instance) => ("instance", instance),
        What::Occasion(trigger, of, _) => (trigger.as_str(), of),
    };
    json!({
        "id": what.to_string(),
        "what": event,
        "uid": of.as_str(),
        "study": recorded.study.as_str(),
        "progress": match recorded.progress {
            Progress::Waiting => "waiting",
            Progress::Done => "delivered",
            Progress::Dead => "refused",
        },
        "why": recorded.why,
        "attempts": recorded.attempts,
        "at": recorded.at.0,
    })
}

/// Whether something is delivered to this destination, or waits for it.
fn known(page: &OutboxPage, name: &str) -> Result<()> {
    let reached = page.deliveries.borrow().as_ref().map(Deliveries::reached);
    // Right after the start nobody knows yet.
    let is_known = reached.is_none_or(|reached| reached.iter().any(|one| &*one.destination == name))
        || page
            .pacs
            .outbox()?
            .status()
            .iter()
            .any(|one| &*one.destination == name);
    match is_known {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::NotFound,
            "outbox.hold",
            "no destination has this name",
        )),
    }
}

async fn hold(State(page): State<OutboxPage>, Path(name): Path<String>) -> Response {
    answer(async {
        known(&page, &name)?;
        page.pacs.outbox()?.hold(&name).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    })
    .await
}

async fn release(State(page): State<OutboxPage>, Path(name): Path<String>) -> Response {
    answer(async {
        page.pacs.outbox()?.release(&name).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    })
    .await
}

async fn send_again(
    State(page): State<OutboxPage>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    answer(async {
        let one = asked(query.as_deref(), "id")?;
        let again = page.pacs.outbox()?.send_again(&name, one).await?;
        Ok(json_response(&json!({"sent-again": again})))
    })
    .await
}

async fn discard(
    State(page): State<OutboxPage>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    answer(async {
        let one = asked(query.as_deref(), "id")?
            .ok_or_else(|| Error::new(ErrorKind::Invalid, "outbox.discard", "id is missing"))?;
        Ok(match page.pacs.outbox()?.discard(&name, one).await? {
            true => StatusCode::NO_CONTENT.into_response(),
            false => Problem::new(StatusCode::NOT_FOUND, "no such delivery was refused").into_response(),
        })
    })
    .await
}

async fn abandon(State(page): State<OutboxPage>, Path(name): Path<String>) -> Response {
    answer(async {
        let abandoned = page.pacs.outbox()?.abandon(&name).await?;
        Ok(json_response(&json!({"abandoned": abandoned})))
    })
    .await
}

fn json_response(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

async fn answer(work: impl Future<Output = Result<Response>>) -> Response {
    work.await
        .unwrap_or_else(|error| Problem::from(&error).into_response())
}
