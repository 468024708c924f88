//! Bodies as the engine's streams, and back.

use std::error::Error as _;
use std::io;

use axum::body::Body;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use pacs_core::{Error, ErrorKind, Result};

/// The operation of an [`Error`] that says a request's body did not come, or not in time.
pub const BODY_OPERATION: &str = "http.body";

/// The body of a request, pulled off the wire.
///
/// Its errors are of [`BODY_OPERATION`]: `TimedOut` when the client stalls, or `Io`.
pub fn stream(body: Body) -> BoxStream<'static, Result<Bytes>> {
    let pieces = body.into_data_stream().map_err(|error| {
        let (kind, why) = match is_time_out(&error) {
            true => (
                ErrorKind::TimedOut,
                "the body of the request did not come on in time",
            ),
            false => (ErrorKind::Io, "the body of the request broke off"),
        };
        Error::new(kind, BODY_OPERATION, why).with_source(error)
    });
    // Empty pieces say nothing.
    pieces
        .try_filter(|piece| std::future::ready(!piece.is_empty()))
        .boxed()
}

fn is_time_out(error: &axum::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The body of a request, whole: for small ones.
///
/// # Errors
/// `OutOfResources`, not to be tried again, above `max_bytes`; and as [`stream()`].
pub async fn gather(body: Body, max_bytes: usize) -> Result<Bytes> {
    let mut pieces = stream(body);
    let mut whole: Vec<u8> = Vec::new();
    while let Some(piece) = pieces.try_next().await? {
        if whole.len() + piece.len() > max_bytes {
            let why = format!("the body of the request is longer than {max_bytes} bytes");
            let error = Error::new(ErrorKind::OutOfResources, "http.gather", why);
            return Err(error.with_retry(pacs_core::Retry::Never));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.into())
}

/// What is waited for of a response's body before its header goes out.
const BEGUN_LENGTH_BYTES: usize = 256 * 1024;

/// The same pieces, once some are there, or all: what fails so early is an answer of its own, not a response that
/// breaks off.
///
/// # Errors
/// The first of the pieces, where it is an error among these.
pub async fn begun(
    mut pieces: BoxStream<'static, Result<Bytes>>,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let (mut held, mut length) = (Vec::new(), 0);
    while length < BEGUN_LENGTH_BYTES {
        let Some(piece) = pieces.try_next().await? else {
            return Ok(stream::iter(held).boxed());
        };
        length += piece.len();
        held.push(Ok(piece));
    }
    Ok(stream::iter(held).chain(pieces).boxed())
}

/// A response's body. An error in its midst breaks the connection or the HTTP/2 stream off, so that the client
/// doesn't take the beginning for the whole.
pub fn from_stream(pieces: BoxStream<'static, Result<Bytes>>) -> Body {
    Body::from_stream(pieces.inspect_err(|error| {
        tracing::warn!(operation = error.operation(), %error, "a response was broken off");
    }))
}
