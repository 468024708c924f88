//! [`ByteRange`]: range requests (RFC 9110 14).
//!
//! One range is served. A request for several gets the whole, as RFC 9110 14.2 allows: no client of DICOMweb makes
//! it, and many overlapping ranges are a way to make a server send much for little.

use std::ops::Range;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::conditional::Validators;
use super::problem::Problem;

/// What of a representation is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// All.
    Whole,
    /// These bytes, at least one, within the representation.
    Part(Range<u64>),
}

impl ByteRange {
    /// What `headers` ask for of a representation of `length` bytes. A Range field that can't be read, or that If-Range
    /// disallows, counts as none (RFC 9110 14.2); so does one of another method than GET.
    ///
    /// # Errors
    /// 416 with the length, when the range has no byte in common with the representation.
    pub fn of_request(
        method: &Method,
        headers: &HeaderMap,
        length: u64,
        validators: &Validators,
    ) -> Result<Self, Problem> {
        if method != Method::GET || !validators.allows_range(headers) {
            return Ok(Self::Whole);
        }
        let field = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
        match field.and_then(|text| parse(text, length)) {
            None => Ok(Self::Whole),
            Some(part) if !part.is_empty() => Ok(Self::Part(part)),
            Some(_) => {
                let problem = Problem::bare(StatusCode::RANGE_NOT_SATISFIABLE);
                Err(problem.with_header(header::CONTENT_RANGE, text(format!("bytes */{length}"))))
            }
        }
    }

    /// The bytes to be sent.
    pub fn bytes(&self, length: u64) -> Range<u64> {
        match self {
            Self::Whole => 0..length,
            Self::Part(range) => range.clone(),
        }
    }

    /// Writes Accept-Ranges, Content-Length and Content-Range; gives the status, 200 or 206.
    pub fn put(&self, length: u64, headers: &mut HeaderMap) -> StatusCode {
        let sent = self.bytes(length);
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(header::CONTENT_LENGTH, (sent.end - sent.start).into());
        if *self == Self::Whole {
            return StatusCode::OK;
        }
        let content = format!("bytes {}-{}/{length}", sent.start, sent.end - 1);
        headers.insert(header::CONTENT_RANGE, text(content));
        StatusCode::PARTIAL_CONTENT
    }
}

fn text(value: String) -> HeaderValue {
    // Digits and ASCII words alone.
    HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static("bytes */*"))
}

/// The one range that is asked for, cut to the representation: empty where it lies outside. None where the field isn't
/// understood, or names several.
fn parse(text: &str, length: u64) -> Option<Range<u64>> {
    let (unit, ranges) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || ranges.contains(',') {
        return None;
    }
    let (first, last) = ranges.trim().split_once('-')?;
    // Digits alone: what is read here would also read a sign. More than 19 are beyond every length.
    let number = |digits: &str| -> Option<u64> {
        let sound = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        sound.then(|| digits.parse().unwrap_or(u64::MAX))
    };
    if first.is_empty() {
        let suffix = number(last)?;
        return Some(length.saturating_sub(suffix)..length);
    }
    let first = number(first)?;
    let end = match last {
        "" => length,
        last => number(last)
            .filter(|last| *last >= first)?
            .saturating_add(1)
            .min(length),
    };
    Some(first.min(end)..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(range: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_str(range).unwrap());
        headers
    }

    fn of(range: &str, length: u64) -> Result<ByteRange, Problem> {
        ByteRange::of_request(&Method::GET, &headers(range), length, &Validators::default())
    }

    #[test]
    fn a_range_is_cut_to_the_representation() {
        for (range, expected) in [
            ("bytes=0-0", 0..1),
            ("bytes=2-4", 2..5),
            ("Bytes = 8-", 8..10),
            ("bytes=8-99999999999999999999999", 8..10),
            ("bytes=-3", 7..10),
            ("bytes=-30", 0..10),
        ] {
            assert_eq!(of(range, 10).unwrap(), ByteRange::Part(expected), "{range}");
        }
    }

    #[test]
    fn what_is_no_range_or_several_gives_the_whole() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=3-2",
            "bytes=+1-2",
            "items=0-1",
            "bytes=0-1,3-4",
            "bytes=a-b",
        ] {
            assert_eq!(of(range, 10).unwrap(), ByteRange::Whole, "{range}");
        }
        let head = ByteRange::of_request(&Method::HEAD, &headers("bytes=0-1"), 10, &Validators::default());
        assert_eq!(head.unwrap(), ByteRange::Whole);
    }

    #[test]
    fn a_range_outside_of_the_representation_is_refused_with_its_length() {
        for (range, length) in [
            ("bytes=10-", 10),
            ("bytes=10-11", 10),
            ("bytes=-0", 10),
            ("bytes=0-", 0),
            ("bytes=-1", 0),
        ] {
            let problem = of(range, length).unwrap_err();
            assert_eq!(problem.status(), StatusCode::RANGE_NOT_SATISFIABLE, "{range}");
            let response = axum::response::IntoResponse::into_response(problem);
            assert_eq!(
                response.headers()[header::CONTENT_RANGE],
                format!("bytes */{length}")
            );
        }
    }

    #[test]
    fn the_response_says_what_it_holds() {
        let mut headers = HeaderMap::new();
        assert_eq!(
            ByteRange::Part(2..5).put(10, &mut headers),
            StatusCode::PARTIAL_CONTENT
        );
        assert_eq!(headers[header::CONTENT_RANGE], "bytes 2-4/10");
        assert_eq!(headers[header::CONTENT_LENGTH], "3");
        let mut headers = HeaderMap::new();
        assert_eq!(ByteRange::Whole.put(10, &mut headers), StatusCode::OK);
        assert_eq!(headers[header::CONTENT_LENGTH], "10");
        assert_eq!(headers[header::ACCEPT_RANGES], "bytes");
    }

    #[test]
    fn if_range_must_name_this_very_representation() {
        let validators = Validators::of_tag("a");
        for (value, part) in [
            ("\"a\"", true),
            ("\"b\"", false),
            ("W/\"a\"", false),
            ("Sun, 06 Nov 1994 08:49:37 GMT", false),
        ] {
            let mut headers = headers("bytes=0-1");
            headers.insert(header::IF_RANGE, HeaderValue::from_str(value).unwrap());
            let range = ByteRange::of_request(&Method::GET, &headers, 10, &validators).unwrap();
            assert_eq!(range == ByteRange::Part(0..2), part, "{value}");
        }
    }
}
