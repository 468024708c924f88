//! Subscribe, Unsubscribe, Suspend Global Subscription (PS3.18 11.10 to 11.12).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::IntoResponse;
use dicom_dictionary_std::tags;
use http::{HeaderValue, StatusCode, header};
use pacs_core::workflow::ups::{Refusal, Subscription};
use pacs_core::{AeTitle, DataSet, Error, ErrorKind, Level, Result};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::http::problem::{Problem, WebResult};
use super::super::query::parameters::Parameters;
use super::super::{Asking, Segments, Web};
use super::{refused, uid, ups};

/// `POST /workitems/{workitem}/subscribers/{aetitle}`
pub(super) async fn subscribe(
    State(web): State<Arc<Web>>,
    Segments(path): Segments,
    request: Request,
) -> WebResult {
    let asking = Asking::of(&web, &request)?;
    let ae_title = ae_title(&path)?;
    let (lock, filter) = parameters(&asking.query)?;
    let to = Subscription::named(uid(&path)?, filter);
    let subscribed = ups(&web)?.subscribe(&ae_title, &to, lock).await;
    subscribed.map_err(|error| refused(&error, &asking.base, StatusCode::CONFLICT))?;
    let mut response = StatusCode::CREATED.into_response();
    // The scheme of WebSocket instead of that of HTTP (11.10.3.2).
    let base = asking.base.replacen("http", "ws", 1);
    let title = utf8_percent_encode(&ae_title, NON_ALPHANUMERIC);
    if let Ok(channel) = HeaderValue::from_str(&format!("{base}/ws/subscribers/{title}")) {
        response.headers_mut().insert(header::CONTENT_LOCATION, channel);
    }
    Ok(response)
}

/// `DELETE /workitems/{workitem}/subscribers/{aetitle}`
pub(super) async fn unsubscribe(
    State(web): State<Arc<Web>>,
    Segments(path): Segments,
    request: Request,
) -> WebResult {
    let asking = Asking::of(&web, &request)?;
    let was_there = ups(&web)?.unsubscribe(&ae_title(&path)?, &uid(&path)?).await;
    ended(was_there, &asking)
}

/// `POST /workitems/{workitem}/subscribers/{aetitle}/suspend`
pub(super) async fn suspend(
    State(web): State<Arc<Web>>,
    Segments(path): Segments,
    request: Request,
) -> WebResult {
    let asking = Asking::of(&web, &request)?;
    let was_there = ups(&web)?.suspend(&ae_title(&path)?, &uid(&path)?).await;
    ended(was_there, &asking)
}

fn ended(was_there: Result<bool>, asking: &Asking) -> WebResult {
    let was_there = was_there.map_err(|error| match Refusal::of(&error) {
        Some(Refusal::NotAppropriate) => Problem::bad_request("only a global subscription can be suspended"),
        _ => refused(&error, &asking.base, StatusCode::CONFLICT),
    })?;
    match was_there {
        true => Ok(StatusCode::OK.into_response()),
        false => Err(Problem::not_found("there is no such subscription")),
    }
}

fn ae_title(path: &[String]) -> Result<AeTitle> {
    AeTitle::parse(path.get(1).map_or("", String::as_str))
}

/// Whether there is a deletion lock, and the matching keys of a filter (11.10.1.2).
fn parameters(query: &str) -> Result<(bool, DataSet)> {
    let invalid = |why: &'static str| Error::new(ErrorKind::Invalid, "web.subscribe", why);
    let (mut lock, mut filter) = (false, String::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match (&*name, &*value) {
            ("deletionlock", "true") => lock = true,
            ("deletionlock", "false") => lock = false,
            ("deletionlock", _) => return Err(invalid("deletionlock is \"true\" or \"false\"")),
            ("filter", keys) => filter.push_str(keys),
            ("accept" | "charset", _) => {}
            _ => return Err(invalid("a parameter is none of a subscription")),
        }
    }
    let mut keys = form_urlencoded::Serializer::new(String::new());
    let mut pair: Option<(&str, String)> = None;
    for part in filter.split(',').filter(|part| !part.is_empty()) {
        match (part.split_once('='), &mut pair) {
            (Some((name, value)), _) => {
                if let Some((name, value)) = pair.replace((name, value.to_owned())) {
                    keys.append_pair(name, &value);
                }
            }
            // A comma in a value.
            (None, Some((_, value))) => {
                value.push(',');
                value.push_str(part);
            }
            (None, None) => return Err(invalid("filter is a list of attribute=value")),
        }
    }
    if let Some((name, value)) = pair {
        keys.append_pair(name, &value);
    }
    let mut filter = Parameters::parse(&keys.finish(), Level::Study)?.identifier;
    filter.remove(tags::QUERY_RETRIEVE_LEVEL);
    Ok((lock, filter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_list_of_attributes_with_their_values() {
        let query = "deletionlock=true&filter=WorklistLabel=READING,\
                     ScheduledStationNameCodeSequence.CodeValue=CT1,StudyInstanceUID=1.2,1.3";
        let (lock, filter) = parameters(query).unwrap();
        assert!(lock);
        assert_eq!(filter.len(), 3);
        assert_eq!(filter.string(tags::WORKLIST_LABEL), Some("READING"));
        let station = &filter.items(tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE)[0];
        assert_eq!(station.string(tags::CODE_VALUE), Some("CT1"));
        let studies: Vec<_> = filter.strings(tags::STUDY_INSTANCE_UID).collect();
        assert_eq!(studies, ["1.2", "1.3"]);
        for bad in [
            "deletionlock=yes",
            "filter=x",
            "filter=NoSuchThing=1",
            "nothing=1",
        ] {
            assert!(parameters(bad).is_err(), "{bad}");
        }
    }
}
