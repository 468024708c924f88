//! [`Problem`]: what an HTTP client is told of a failure (RFC 9457), and the one way from the engine's
//! [`Error`] to it.

use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pacs_core::{Error, Retry, Tag};
use serde_json::{Value, json};

use super::media_type::MediaType;

/// When a client is told to come again, where nobody knows better.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A failure as problem details of type `about:blank`: the status says it all. It never holds patient data.
#[derive(Clone, Debug)]
pub struct Problem(Box<Content>);

/// Boxed, since it is the rare side of many a result.
#[derive(Clone, Debug)]
struct Content {
    status: StatusCode,
    detail: Option<Cow<'static, str>>,
    retry: Option<Retry>,
    attributes: Vec<Tag>,
    headers: HeaderMap,
}

/// What handlers return.
pub type WebResult<T = Response> = Result<T, Problem>;

impl Problem {
    /// A problem with a sentence that says why.
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        let mut problem = Self::bare(status);
        problem.0.detail = Some(detail.into());
        problem
    }

    /// A problem where the status says it all.
    pub fn bare(status: StatusCode) -> Self {
        Self(Box::new(Content {
            status,
            detail: None,
            retry: None,
            attributes: Vec::new(),
            headers: HeaderMap::new(),
        }))
    }

    /// 400: the request can't be understood.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404: there is no such thing here.
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 406: none of what the client accepts can be had; the detail lists what can (RFC 9110 15.5.7).
    pub fn not_acceptable<'a>(offered: impl IntoIterator<Item = &'a MediaType>) -> Self {
        let mut listed: Vec<String> = offered.into_iter().map(ToString::to_string).collect();
        listed.dedup();
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            format!("available here: {}", listed.join(", ")),
        )
    }

    /// 415: a body of this kind is not taken here; the detail and the Accept field list what is
    /// (RFC 9110 15.5.16).
    pub fn unsupported_media_type(taken: &[MediaType]) -> Self {
        let listed: Vec<String> = taken.iter().map(ToString::to_string).collect();
        let listed = listed.join(", ");
        let mut problem = Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("taken here: {listed}"),
        );
        if let Ok(value) = HeaderValue::from_str(&listed) {
            problem.0.headers.insert(header::ACCEPT, value);
        }
        problem
    }

    /// 503: come again in [`RETRY_AFTER`].
    pub fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).with_retry_after(RETRY_AFTER)
    }

    /// Adds Retry-After, in whole seconds.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.0.retry = Some(Retry::Later);
        self.with_header(header::RETRY_AFTER, after.as_secs().max(1).into())
    }

    /// Answers with this status, where a transaction has one of its own.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    /// Adds a header field.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Why, as a sentence.
    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// The members of RFC 9457, and for errors of the engine `retry` ("later" or "never") and `attributes` (tags as
    /// the DICOM JSON model writes them).
    pub fn to_json(&self) -> Value {
        let mut members = json!({
            "type": "about:blank",
            "title": self.0.status.canonical_reason().unwrap_or("Unknown"),
            "status": self.0.status.as_u16(),
        });
        if let Some(detail) = &self.0.detail {
            members["detail"] = json!(detail);
        }
        if let Some(retry) = self.0.retry {
            members["retry"] = match retry {
                Retry::Later => json!("later"),
                Retry::Never => json!("never"),
            };
        }
        if !self.0.attributes.is_empty() {
            let tags = self.0.attributes.iter();
            let tags = tags.map(|tag| format!("{:04X}{:04X}", tag.group(), tag.element()));
            members["attributes"] = tags.collect();
        }
        members
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<&Error> for Problem {
    /// By [`Error::http_status`]. What the client can't mend is logged here, with its cause, which the
    /// client isn't told.
    fn from(error: &Error) -> Self {
        let status = if error.operation() == super::body::BODY_OPERATION {
            // The client was too slow, or its connection broke: not our failure (RFC 9110 15.5.9).
            StatusCode::REQUEST_TIMEOUT
        } else {
            StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
        };
        if status.is_server_error() {
            tracing::warn!(operation = error.operation(), %error, "a request failed");
        }
        let mut problem = Self::new(status, error.context().to_owned());
        if status == StatusCode::SERVICE_UNAVAILABLE {
            problem = problem.with_retry_after(RETRY_AFTER);
        }
        problem.0.retry = Some(error.retry());
        problem.0.attributes = error.tags().to_vec();
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.to_json().to_string();
        let mut response = (self.0.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, MediaType::PROBLEM_JSON.header_value());
        headers.extend(self.0.headers);
        response
    }
}

#[cfg(test)]
mod tests {
    use pacs_core::ErrorKind;

    use super::*;

    #[test]
    fn an_error_of_the_engine_becomes_problem_details() {
        let error = Error::new(
            ErrorKind::Mismatch,
            "engine.receive",
            "another study than announced",
        );
        let error = error
            .with_tag(Tag(0x0020, 0x000D))
            .with_source("what the client needn't know");
        let problem = Problem::from(error);
        assert_eq!(
            problem.to_json(),
            json!({
                "type": "about:blank", "title": "Conflict", "status": 409, "detail": "another study than announced",
                "retry": "never", "attributes": ["0020000D"],
            })
        );
        let response = problem.into_response();
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "application/problem+json"
        );
    }

    #[test]
    fn what_may_pass_is_to_be_tried_again() {
        let error = Error::new(ErrorKind::OutOfResources, "budget.take", "memory is used up");
        let response = Problem::from(error).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "5");
    }

    #[test]
    fn a_client_that_was_too_slow_with_its_body_is_told_so() {
        let error = Error::new(
            ErrorKind::TimedOut,
            super::super::body::BODY_OPERATION,
            "the body stalled",
        );
        assert_eq!(Problem::from(error).status(), StatusCode::REQUEST_TIMEOUT);
    }

    #[test]
    fn what_is_taken_and_offered_instead_is_listed() {
        let problem = Problem::unsupported_media_type(&[MediaType::DICOM, MediaType::DICOM_JSON]);
        assert_eq!(
            problem.detail(),
            Some("taken here: application/dicom, application/dicom+json")
        );
        let response = problem.into_response();
        assert_eq!(
            response.headers()[header::ACCEPT],
            "application/dicom, application/dicom+json"
        );
        let problem = Problem::not_acceptable([&MediaType::DICOM]);
        assert_eq!(problem.status(), StatusCode::NOT_ACCEPTABLE);
    }
}
