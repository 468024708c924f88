//! [`related`]: parts become a body.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use pacs_core::Result;

use super::super::body;
use super::super::media_type::MediaType;

/// One part to be written.
pub struct Part {
    headers: HeaderMap,
    body: BoxStream<'static, Result<Bytes>>,
}

impl Part {
    /// A part of this media type.
    pub fn new(media_type: &MediaType, body: impl Stream<Item = Result<Bytes>> + Send + 'static) -> Self {
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(header::CONTENT_TYPE, media_type.header_value());
        Self {
            headers,
            body: body.boxed(),
        }
    }

    /// A part whose bytes are there.
    pub fn whole(media_type: &MediaType, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::new(media_type, stream::once(std::future::ready(Ok(bytes))))
    }

    /// Says where the part alone is found (PS3.18 8.6.1.2: Content-Location). What is no header value is left out.
    #[must_use]
    pub fn with_location(self, location: &str) -> Self {
        match HeaderValue::from_str(location) {
            Ok(value) => self.with_header(header::CONTENT_LOCATION, value),
            Err(_) => self,
        }
    }

    /// Adds a header field.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// A multipart body under way.
pub struct Multipart {
    /// The media type of the whole, with its boundary.
    pub media_type: MediaType,
    /// The body. An error of a part, or instead of a part, is its last item: then the final boundary is missing.
    pub body: BoxStream<'static, Result<Bytes>>,
}

/// Writes `parts` as `multipart/related` (RFC 2387), one after the other as the client takes them. Parameters of `root`,
/// the media type of the parts, become parameters of the whole: `transfer-syntax` where all parts have the same
/// (PS3.18 8.7.3.5.1, 8.7.9).
///
/// The boundary has 128 random bits that nobody outside learns before the body begins, so that the data needn't be
/// looked into.
pub fn related(root: &MediaType, parts: impl Stream<Item = Result<Part>> + Send + 'static) -> Multipart {
    let boundary = boundary();
    let body = write(boundary.clone(), parts.boxed());
    Multipart {
        media_type: MediaType::related(root).with_parameter("boundary", boundary),
        body,
    }
}

/// From the system's randomness, by way of a keyed hash (std promises no more than that its keys are random, and
/// SipHash that its results can't be told without them).
fn boundary() -> String {
    let (one, other) = (RandomState::new(), RandomState::new());
    format!("{:016x}{:016x}", one.hash_one(0_u8), other.hash_one(1_u8))
}

enum Writing {
    /// Before a part, or the end.
    Between {
        first: bool,
    },
    /// Within a part.
    Within(BoxStream<'static, Result<Bytes>>),
    Ended,
}

fn write(boundary: String, parts: BoxStream<'static, Result<Part>>) -> BoxStream<'static, Result<Bytes>> {
    let begin = (parts, Writing::Between { first: true });
    let pieces = stream::unfold(begin, move |(mut parts, mut state)| {
        let boundary = boundary.clone();
        async move {
            loop {
                match state {
                    Writing::Between { first } => match parts.next().await {
                        Some(Ok(part)) => {
                            let head = head(&boundary, first, &part.headers);
                            return Some((Ok(head), (parts, Writing::Within(part.body))));
                        }
                        Some(Err(error)) => return Some((Err(error), (parts, Writing::Ended))),
                        None => {
                            let line_end = if first { "" } else { "\r\n" };
                            let close = Bytes::from(format!("{line_end}--{boundary}--\r\n"));
                            return Some((Ok(close), (parts, Writing::Ended)));
                        }
                    },
                    Writing::Within(mut body) => match body.next().await {
                        Some(Ok(piece)) if piece.is_empty() => state = Writing::Within(body),
                        Some(Ok(piece)) => return Some((Ok(piece), (parts, Writing::Within(body)))),
                        Some(Err(error)) => return Some((Err(error), (parts, Writing::Ended))),
                        None => state = Writing::Between { first: false },
                    },
                    Writing::Ended => return None,
                }
            }
        }
    });
    pieces.boxed()
}

fn head(boundary: &str, first: bool, headers: &HeaderMap) -> Bytes {
    let mut head = BytesMut::with_capacity(256);
    if !first {
        head.put_slice(b"\r\n");
    }
    head.put_slice(b"--");
    head.put_slice(boundary.as_bytes());
    head.put_slice(b"\r\n");
    for (name, value) in headers {
        // As most readers expect to see it; names have no case.
        let mut upper = true;
        for byte in name.as_str().bytes() {
            head.put_u8(if upper { byte.to_ascii_uppercase() } else { byte });
            upper = byte == b'-';
        }
        head.put_slice(b": ");
        head.put_slice(value.as_bytes());
        head.put_slice(b"\r\n");
    }
    head.put_slice(b"\r\n");
    head.freeze()
}

impl IntoResponse for Multipart {
    fn into_response(self) -> Response {
        let content_type = [(header::CONTENT_TYPE, self.media_type.header_value())];
        (content_type, body::from_stream(self.body)).into_response()
    }
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Multipart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Multipart");
        debug
            .field("media_type", &self.media_type)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use dicom_dictionary_std::uids;
    use futures::executor::block_on;
    use pacs_core::{Error, ErrorKind};

    use super::*;

    fn written(multipart: Multipart) -> (String, Vec<Result<Bytes>>) {
        let boundary = multipart.media_type.boundary().unwrap().to_owned();
        (boundary, block_on(multipart.body.collect()))
    }

    #[test]
    fn parts_are_written_as_rfc_2046_has_them() {
        let parts = [
            Part::whole(&MediaType::DICOM, "one").with_location("/studies/1"),
            Part::whole(&MediaType::DICOM, ""),
        ];
        let multipart = related(&MediaType::DICOM, stream::iter(parts.map(Ok)));
        let (boundary, pieces) = written(multipart);
        let body: Vec<u8> = pieces
            .into_iter()
            .flat_map(|piece| piece.unwrap().to_vec())
            .collect();
        let expected = format!(
            "--{boundary}\r\nContent-Type: application/dicom\r\nContent-Location: /studies/1\r\n\r\none\r\n\
             --{boundary}\r\nContent-Type: application/dicom\r\n\r\n\r\n--{boundary}--\r\n"
        );
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[test]
    fn the_whole_says_what_its_parts_are() {
        let root = MediaType::JLS.with_transfer_syntax(uids::JPEGLS_LOSSLESS);
        let multipart = related(&root, stream::empty());
        let boundary = multipart.media_type.boundary().unwrap();
        let expected = format!(
            "multipart/related; type=\"image/jls\"; transfer-syntax=1.2.840.10008.1.2.4.80; boundary={boundary}"
        );
        assert_eq!(multipart.media_type.to_string(), expected);
        assert_eq!(boundary.len(), 32);
        let other = related(&root, stream::empty());
        assert_ne!(other.media_type.boundary(), Some(boundary));
    }

    #[test]
    fn an_error_is_the_last_that_comes_and_no_boundary_follows() {
        let error = || Error::new(ErrorKind::Io, "archive.read", "the medium fails");
        let part = Part::new(
            &MediaType::DICOM,
            stream::iter([Ok(Bytes::from("half")), Err(error())]),
        );
        let parts = stream::iter([Ok(part), Ok(Part::whole(&MediaType::DICOM, "never"))]);
        let (_, pieces) = written(related(&MediaType::DICOM, parts));
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[1].as_ref().unwrap(), "half");
        assert!(pieces[2].is_err());
        let (_, pieces) = written(related(&MediaType::DICOM, stream::iter([Err(error())])));
        assert!(pieces.len() == 1 && pieces[0].is_err());
    }
}
