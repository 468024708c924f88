//! Multipart bodies: however a body is cut, its parts are the same; and what is read is bounded by what came.
//!
//! Run with `cargo fuzz run -s none multipart`.

#![no_main]

use bytes::Bytes;
use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt, stream};
use libfuzzer_sys::fuzz_target;
use pacs_net::web::http::multipart::MultipartReader;

/// The parts up to the first error, and whether there was one.
fn read(body: &[u8], piece: usize) -> (Vec<(usize, Vec<u8>)>, bool) {
    let pieces: Vec<_> = body
        .chunks(piece)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    let mut reader = MultipartReader::with_boundary("b", stream::iter(pieces).boxed()).expect("a boundary");
    let mut parts = Vec::new();
    block_on(async {
        loop {
            match reader.next_part().await {
                Ok(Some(mut part)) => {
                    let mut bytes = Vec::new();
                    let _ = (part.media_type(), part.location(), part.id());
                    let fields = part.headers().len();
                    loop {
                        match part.try_next().await {
                            Ok(Some(piece)) => bytes.extend_from_slice(&piece),
                            Ok(None) => break,
                            Err(_) => return (parts, true),
                        }
                    }
                    parts.push((fields, bytes));
                }
                Ok(None) => return (parts, false),
                Err(_) => return (parts, true),
            }
        }
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, body)) = bytes.split_first() else {
        return;
    };
    let whole = read(body, usize::MAX);
    assert_eq!(read(body, usize::from(*first).max(1)), whole);
    let data: usize = whole.0.iter().map(|part| part.1.len()).sum();
    assert!(data <= body.len());
});
