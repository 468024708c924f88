//! Whether two instances under one SOP Instance UID are the same.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use twox_hash::XxHash3_128;

use crate::error::Result;

/// A 128-bit digest and the length of a data set.
///
/// XXH3 is fast enough to run on every byte received, and not made against an adversary: who can
/// already send under a UID could make the engine take two data sets for the same. What it would gain
/// is that its own second data set is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    length: u64,
    hash: u128,
}

/// Makes a [`Digest`] as bytes pass by.
pub(crate) struct Digester {
    length: u64,
    hash: Box<XxHash3_128>,
}

impl Digester {
    pub(crate) fn new() -> Self {
        Self {
            length: 0,
            hash: Box::new(XxHash3_128::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.hash.write(bytes);
    }

    pub(crate) fn finish(&self) -> Digest {
        Digest {
            length: self.length,
            hash: self.hash.finish_128(),
        }
    }
}

/// The digest of all that `stream` yields.
pub(crate) async fn digest_of(mut stream: BoxStream<'static, Result<Bytes>>) -> Result<Digest> {
    let mut digester = Digester::new();
    while let Some(chunk) = stream.next().await {
        digester.update(&chunk?);
    }
    Ok(digester.finish())
}
