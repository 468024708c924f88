//! Errors as FHIR tells them: OperationOutcome (FHIR R4 2.38).

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use pacs_core::Error;
use serde_json::{Value, json};

use super::super::http::problem::Problem;
use super::FHIR_JSON;

/// A failure of a FHIR interaction.
#[derive(Debug)]
pub(super) struct Outcome(Problem);

pub(super) type FhirResult<T> = Result<T, Outcome>;

impl From<Problem> for Outcome {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<Error> for Outcome {
    fn from(error: Error) -> Self {
        Self(error.into())
    }
}

impl Outcome {
    /// 400, with a sentence that says why.
    pub(super) fn invalid(why: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self(Problem::bad_request(why))
    }

    fn to_json(&self) -> Value {
        let status = self.0.status();
        // Of the value set IssueType.
        let code = match status {
            StatusCode::BAD_REQUEST => "invalid",
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => "forbidden",
            StatusCode::NOT_FOUND => "not-found",
            StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_ACCEPTABLE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::NOT_IMPLEMENTED => "not-supported",
            StatusCode::CONFLICT => "conflict",
            StatusCode::PAYLOAD_TOO_LARGE => "too-long",
            StatusCode::REQUEST_TIMEOUT => "timeout",
            StatusCode::SERVICE_UNAVAILABLE => "transient",
            _ => "exception",
        };
        let why = self.0.detail().or(status.canonical_reason()).unwrap_or("failed");
        json!({
            "resourceType": "OperationOutcome",
            "issue": [{ "severity": "error", "code": code, "diagnostics": why }],
        })
    }
}

impl IntoResponse for Outcome {
    fn into_response(self) -> Response {
        let body = self.to_json().to_string();
        // The other header fields are those of the problem.
        let (mut parts, _) = self.0.into_response().into_parts();
        parts
            .headers
            .insert(header::CONTENT_TYPE, FHIR_JSON.header_value());
        parts.headers.remove(header::CONTENT_LENGTH);
        Response::from_parts(parts, body.into())
    }
}
