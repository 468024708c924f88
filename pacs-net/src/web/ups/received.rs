//! What comes with a request: one data set, in JSON or XML, and UIDs in the query component.

use axum::extract::Request;
use axum::http::header;
use futures::TryStreamExt;
use pacs_core::dataset::{json, xml};
use pacs_core::{DataSet, Error, ErrorKind, Result, Uid};

use super::super::http::body;
use super::super::http::media_type::MediaType;
use super::super::http::multipart::MultipartReader;
use super::super::http::problem::{Problem, WebResult};

/// A work item in JSON or XML, in bytes. Real ones have some KiB; many input references make them longer.
const WORKITEM_LENGTH_MAX_BYTES: usize = 4 * 1024 * 1024;

/// The data set of a request.
pub(super) async fn received(request: Request) -> WebResult<DataSet> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()?.parse::<MediaType>().ok());
    let content_type = content_type.ok_or_else(unsupported)?;
    let is_json =
        |media_type: &MediaType| media_type.is(&MediaType::DICOM_JSON) || media_type.is(&MediaType::JSON);
    let (is_json, bytes) = if content_type.is(&MediaType::MULTIPART_RELATED) {
        let root = content_type.root();
        if !is_json(&root) && !root.is(&MediaType::DICOM_XML) {
            return Err(unsupported());
        }
        let is_json = is_json(&root);
        let mut parts = MultipartReader::new(&content_type, body::stream(request.into_body()))?;
        let mut bytes = Vec::new();
        if let Some(mut part) = parts.next_part().await? {
            while let Some(piece) = part.try_next().await? {
                if bytes.len() + piece.len() > WORKITEM_LENGTH_MAX_BYTES {
                    let why = "a work item is longer than what is taken";
                    let error = Error::new(ErrorKind::OutOfResources, "web.workitem", why);
                    return Err(error.with_retry(pacs_core::Retry::Never).into());
                }
                bytes.extend_from_slice(&piece);
            }
        }
        if parts.next_part().await?.is_some() {
            return Err(Problem::bad_request("one work item is taken at a time"));
        }
        (is_json, bytes.into())
    } else if is_json(&content_type) || content_type.is(&MediaType::DICOM_XML) {
        let bytes = body::gather(request.into_body(), WORKITEM_LENGTH_MAX_BYTES).await?;
        (is_json(&content_type), bytes)
    } else {
        return Err(unsupported());
    };
    Ok(read(&bytes, is_json)?)
}

/// The same where the request may have none.
pub(super) async fn received_if_any(request: Request) -> WebResult<DataSet> {
    let is_said = request.headers().contains_key(header::CONTENT_TYPE);
    let is_empty = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .is_none_or(|length| length == "0");
    match is_said && !is_empty {
        true => received(request).await,
        false if is_empty => Ok(DataSet::new()),
        false => Err(unsupported()),
    }
}

fn unsupported() -> Problem {
    Problem::unsupported_media_type(&[MediaType::DICOM_JSON, MediaType::DICOM_XML])
}

fn read(bytes: &[u8], is_json: bool) -> Result<DataSet> {
    let invalid = |why: &'static str| Error::new(ErrorKind::Invalid, "web.workitem", why);
    let mut all = match is_json {
        true => json::read(bytes)?,
        false => vec![xml::read(bytes)?],
    };
    let described = all.pop().filter(|_| all.is_empty());
    let described = described.ok_or_else(|| invalid("the request must have one work item"))?;
    if let Some(reference) = described.bulk.first() {
        let why = "a work item has no bulk data";
        return Err(invalid(why).with_tag(reference.path.tag()));
    }
    let mut set = described.header;
    // Those below are of messages and files.
    set.retain(|element| element.tag.group() >= 0x0008);
    Ok(set)
}

/// A UID in the query component, with the parameter's name before it or, as the templates of the Standard also can be
/// read, without.
pub(super) fn named_uid(query: &str, name: &str) -> Result<Option<Uid>> {
    let mut parameters = form_urlencoded::parse(query.as_bytes());
    let found = parameters.find_map(|(key, value)| match value.is_empty() {
        false if key == name => Some(value.into_owned()),
        true if Uid::parse(&key).is_ok() => Some(key.into_owned()),
        _ => None,
    });
    found.map(|text| Uid::parse(&text)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_stands_in_the_query_with_or_without_its_name() {
        let named = |query| named_uid(query, "workitem").unwrap().map(|uid| uid.to_string());
        assert_eq!(named("workitem=1.2.3").as_deref(), Some("1.2.3"));
        assert_eq!(named("1.2.3").as_deref(), Some("1.2.3"));
        assert_eq!(named("accept=x&workitem=1.2").as_deref(), Some("1.2"));
        assert_eq!(named(""), None);
        assert!(named_uid("workitem=abc", "workitem").is_err());
    }
}
