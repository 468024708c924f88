//! Multipart bodies (RFC 2046 5.1, RFC 2387) as streams: memory does not follow size.
//!
//! [`related`] writes one, [`MultipartReader`] reads one.

mod reader;
mod writer;

pub use reader::{
    MultipartReader, PART_HEADERS_LENGTH_MAX_BYTES, PART_HEADERS_MAX, PREAMBLE_LENGTH_MAX_BYTES, PartReader,
};
pub use writer::{Multipart, Part, related};
