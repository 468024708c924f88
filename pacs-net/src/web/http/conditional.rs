//! [`Validators`]: conditional requests (RFC 9110 13).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::problem::Problem;

/// By what a client knows a representation again.
///
/// The tag is a strong one: same tag, same bytes. Where a response is compressed on its way out, its tag is made
/// weak there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    etag: Option<String>,
    last_modified: Option<SystemTime>,
}

/// The most bytes of a list of tags that are looked at: some 150 tags.
const TAGS_LENGTH_MAX_BYTES: usize = 8 * 1024;

impl Validators {
    /// By a tag, without quotes; characters that can't be in one (RFC 9110 8.8.3) are left out.
    pub fn of_tag(tag: &str) -> Self {
        let tag = tag.chars().filter(|c| c.is_ascii_graphic() && *c != '"');
        Self {
            etag: Some(format!("\"{}\"", tag.collect::<String>())),
            last_modified: None,
        }
    }

    /// Also by when it was changed last. HTTP has whole seconds.
    #[must_use]
    pub fn with_last_modified(mut self, time: SystemTime) -> Self {
        let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.last_modified = Some(UNIX_EPOCH + Duration::from_secs(seconds));
        self
    }

    /// Writes ETag and Last-Modified; and that only the client itself may keep the representation, and asks each time
    /// whether it is still the same: a study changes when instances come, and what it is told depends on what it
    /// accepts.
    pub fn put(&self, headers: &mut HeaderMap) {
        if let Some(value) = self.etag.as_ref().and_then(|tag| HeaderValue::from_str(tag).ok()) {
            headers.insert(header::ETAG, value);
        }
        if let Some(value) = self.last_modified.and_then(http_date) {
            headers.insert(header::LAST_MODIFIED, value);
        }
        headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, no-cache"),
        );
        vary_by_accept(headers);
    }

    /// Sees to the preconditions of a request in the order of RFC 9110 13.2.2, before its method is performed. If-Range
    /// is [`range`](super::range)'s.
    ///
    /// # Errors
    /// The response instead: 304 with the validators for GET and HEAD, 412 otherwise.
    // Made once for each request, and handed on as it is.
    #[allow(clippy::result_large_err)]
    pub fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Response> {
        let failed = || Problem::bare(StatusCode::PRECONDITION_FAILED).into_response();
        let reads = method == Method::GET || method == Method::HEAD;
        if headers.contains_key(header::IF_MATCH) {
            if !self.is_listed(headers, &header::IF_MATCH, Strength::Strong) {
                return Err(failed());
            }
        } else if self.is_modified_since(headers, &header::IF_UNMODIFIED_SINCE) == Some(true) {
            return Err(failed());
        }
        let unchanged = if headers.contains_key(header::IF_NONE_MATCH) {
            self.is_listed(headers, &header::IF_NONE_MATCH, Strength::Weak)
        } else {
            reads && self.is_modified_since(headers, &header::IF_MODIFIED_SINCE) == Some(false)
        };
        match unchanged {
            false => Ok(()),
            true if reads => Err(self.not_modified()),
            true => Err(failed()),
        }
    }

    fn not_modified(&self) -> Response {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        self.put(response.headers_mut());
        response
    }

    /// Whether If-Range allows a part (RFC 9110 13.1.5): it names this very representation, or there is none.
    pub(super) fn allows_range(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(header::IF_RANGE) else {
            return true;
        };
        let text = value.to_str().unwrap_or_default().trim();
        if text.starts_with('"') {
            return self.etag.as_deref() == Some(text);
        }
        // A date is a strong validator where nothing changes twice in a second: what is kept here never changes.
        self.last_modified.is_some() && self.last_modified == httpdate::parse_http_date(text).ok()
    }

    fn is_listed(&self, headers: &HeaderMap, name: &HeaderName, strength: Strength) -> bool {
        let mut left = TAGS_LENGTH_MAX_BYTES;
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|list| {
                left = left.saturating_sub(list.len());
                left > 0 && (list.trim() == "*" || tags(list).any(|tag| self.is(tag, strength)))
            })
    }

    fn is(&self, tag: &str, strength: Strength) -> bool {
        let opaque = match strength {
            Strength::Weak => tag.strip_prefix("W/").unwrap_or(tag),
            Strength::Strong => tag,
        };
        self.etag.as_deref() == Some(opaque)
    }

    /// None where it can't be told, or the field is no date: then it is to be passed over.
    fn is_modified_since(&self, headers: &HeaderMap, name: &HeaderName) -> Option<bool> {
        let since = headers.get(name)?.to_str().ok()?;
        let since = httpdate::parse_http_date(since.trim()).ok()?;
        Some(self.last_modified? > since)
    }
}

/// Adds Accept to the fields by which a response was chosen (Vary), where it isn't among them.
pub(super) fn vary_by_accept(headers: &mut HeaderMap) {
    let is_listed = headers
        .get_all(header::VARY)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .any(|name| matches!(name.trim(), "*") || name.trim().eq_ignore_ascii_case("accept"));
    if !is_listed {
        headers.append(header::VARY, HeaderValue::from_static("Accept"));
    }
}

/// How tags are compared (RFC 9110 8.8.3.2).
#[derive(Clone, Copy)]
enum Strength {
    Strong,
    Weak,
}

/// The tags of a list. Commas may stand within one.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let opening = rest.find('"')?;
        let closing = opening + 1 + rest[opening + 1..].find('"')?;
        let (tag, behind) = rest.split_at(closing + 1);
        rest = behind;
        Some(tag)
    })
}

/// A time as HTTP writes it; none where it is beyond the year 9999, which HTTP can't write.
fn http_date(time: SystemTime) -> Option<HeaderValue> {
    const YEAR_10000_SECONDS: u64 = 253_402_300_800;
    let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let writable = seconds < YEAR_10000_SECONDS;
    writable.then(|| HeaderValue::from_str(&httpdate::fmt_http_date(time)).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn validators() -> Validators {
        let time = httpdate::parse_http_date(DATE).unwrap() + Duration::from_millis(900);
        Validators::of_tag("a,b").with_last_modified(time)
    }

    /// The status instead, or 200.
    fn check(method: Method, fields: &[(HeaderName, &str)]) -> u16 {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        match validators().check(&method, &headers) {
            Ok(()) => 200,
            Err(response) => response.status().as_u16(),
        }
    }

    #[test]
    fn what_a_client_has_is_not_sent_again() {
        for value in ["\"a,b\"", "W/\"a,b\"", "\"x\", \"a,b\"", "*", "\"\",W/\"a,b\""] {
            assert_eq!(
                check(Method::GET, &[(header::IF_NONE_MATCH, value)]),
                304,
                "{value}"
            );
            assert_eq!(
                check(Method::PUT, &[(header::IF_NONE_MATCH, value)]),
                412,
                "{value}"
            );
        }
        for value in ["\"a\"", "\"b\"", "a,b", "\"a,b", ""] {
            assert_eq!(
                check(Method::GET, &[(header::IF_NONE_MATCH, value)]),
                200,
                "{value}"
            );
        }
        let repeated = [
            (header::IF_NONE_MATCH, "\"x\""),
            (header::IF_NONE_MATCH, "\"a,b\""),
        ];
        assert_eq!(check(Method::HEAD, &repeated), 304);
        let response = validators().not_modified();
        assert_eq!(response.headers()[header::ETAG], "\"a,b\"");
        assert_eq!(response.headers()[header::LAST_MODIFIED], DATE);
    }

    #[test]
    fn what_is_known_again_is_the_clients_own_and_asked_for_each_time() {
        let mut headers = HeaderMap::new();
        headers.insert(header::VARY, HeaderValue::from_static("Origin, Accept-Encoding"));
        validators().put(&mut headers);
        validators().put(&mut headers);
        assert_eq!(headers[header::CACHE_CONTROL], "private, no-cache");
        let vary: Vec<_> = headers.get_all(header::VARY).iter().collect();
        assert_eq!(vary, ["Origin, Accept-Encoding", "Accept"]);
        for listed in ["*", "origin, accept"] {
            let mut headers = HeaderMap::from_iter([(header::VARY, HeaderValue::from_static(listed))]);
            vary_by_accept(&mut headers);
            assert_eq!(headers.get_all(header::VARY).iter().count(), 1, "{listed}");
        }
    }

    #[test]
    fn dates_count_where_there_are_no_tags() {
        let (before, after) = ("Sun, 06 Nov 1994 08:49:36 GMT", "Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(check(Method::GET, &[(header::IF_MODIFIED_SINCE, DATE)]), 304);
        assert_eq!(check(Method::GET, &[(header::IF_MODIFIED_SINCE, after)]), 304);
        assert_eq!(check(Method::GET, &[(header::IF_MODIFIED_SINCE, before)]), 200);
        assert_eq!(check(Method::DELETE, &[(header::IF_MODIFIED_SINCE, DATE)]), 200);
        assert_eq!(
            check(Method::GET, &[(header::IF_MODIFIED_SINCE, "yesterday")]),
            200
        );
        let both = [
            (header::IF_NONE_MATCH, "\"x\""),
            (header::IF_MODIFIED_SINCE, DATE),
        ];
        assert_eq!(check(Method::GET, &both), 200);
        assert_eq!(check(Method::GET, &[(header::IF_UNMODIFIED_SINCE, before)]), 412);
        assert_eq!(check(Method::GET, &[(header::IF_UNMODIFIED_SINCE, DATE)]), 200);
    }

    #[test]
    fn if_match_compares_strongly() {
        assert_eq!(check(Method::DELETE, &[(header::IF_MATCH, "\"a,b\"")]), 200);
        assert_eq!(check(Method::DELETE, &[(header::IF_MATCH, "*")]), 200);
        assert_eq!(check(Method::DELETE, &[(header::IF_MATCH, "W/\"a,b\"")]), 412);
        assert_eq!(check(Method::GET, &[(header::IF_MATCH, "\"x\"")]), 412);
    }

    #[test]
    fn a_tag_holds_what_a_tag_may_hold_and_a_date_what_can_be_written() {
        let mut headers = HeaderMap::new();
        let far = UNIX_EPOCH + Duration::from_secs(1 << 40);
        Validators::of_tag("a\"\n b\u{e9}")
            .with_last_modified(far)
            .put(&mut headers);
        assert_eq!(headers[header::ETAG], "\"ab\"");
        assert!(!headers.contains_key(header::LAST_MODIFIED));
    }
}
