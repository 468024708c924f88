//! Reading a range of an instance.

use std::hash::Hasher as _;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use object_store::path::Path;
use pacs_core::limits::READ_CHUNK_BYTES;
use pacs_core::{Locator, Result};
use twox_hash::XxHash3_64;

use super::Shared;
use super::bucket::{corrupt, failed, not_found};
use super::pack::{Place, PlaceBody};
use super::task::{Output, Stopped, filled};

/// What is asked for at once, and is here before it is handed on: a request that lasts as long as its reader takes is ended by
/// the store.
const REQUEST_BYTES: u64 = 2 << 20;
/// How often a pack may be written again under a reader.
const REWRITES_MAX: usize = 8;

/// The stream of [`Archive::read`](pacs_core::Archive::read); not `checked`, of
/// [`read_unchecked`](pacs_core::Archive::read_unchecked).
pub(super) fn stream(
    shared: Arc<Shared>,
    locator: &Locator,
    range: Range<u64>,
    checked: bool,
) -> BoxStream<'static, Result<Bytes>> {
    let Some(place) = Place::from_locator(locator) else {
        return stream::once(std::future::ready(Err(not_found()))).boxed();
    };
    let rest = range.start.min(place.length)..range.end.min(place.length);
    if rest.is_empty() {
        return stream::empty().boxed();
    }
    let runtime = shared.runtime.clone();
    filled(runtime, "archive.read", move |output| {
        let is_whole = rest == (0..place.length);
        let mut reading = Reading {
            shared,
            place,
            hasher: (checked && is_whole).then(Box::default),
            held: None,
            output,
        };
        async move {
            let done = reading.run(rest).await;
            (reading.output, done)
        }
    })
}

struct Reading {
    shared: Arc<Shared>,
    place: Place,
    /// Of everything so far, when everything is read.
    hasher: Option<Box<XxHash3_64>>,
    /// The last piece, until it is known that another one follows or the whole is not damaged.
    held: Option<Bytes>,
    output: Output<Bytes>,
}

/// An object and where in it the instance begins.
struct Source {
    path: Path,
    offset: u64,
    /// What its length is, if it was not written again.
    length: Option<u64>,
}

impl Reading {
    async fn run(&mut self, rest: Range<u64>) -> Result<(), Stopped> {
        let bucket = &self.shared.bucket;
        let mut source = match self.place.body {
            PlaceBody::Inside {
                offset,
                object_length,
            } => Source {
                path: bucket.pack(self.place.position.pack),
                offset,
                length: Some(object_length),
            },
            PlaceBody::Own(name) => Source {
                path: bucket.stream(name),
                offset: 0,
                length: None,
            },
        };
        let mut at = rest.start;
        let mut rewrites = 0;
        while at < rest.end {
            if self.shared.is_removed(self.place.position)
                || self.place.position.pack > self.shared.published()
            {
                return Err(not_found().into());
            }
            let end = rest.end.min(at + REQUEST_BYTES);
            let got = self
                .shared
                .bucket
                .get(&source.path, source.offset + at..source.offset + end)
                .await;
            let is_another = match (&got, source.length) {
                (Ok(got), Some(length)) => got.meta.size != length,
                // Written again, it is shorter.
                (Err(error), Some(_)) => error.kind() == pacs_core::ErrorKind::Corrupt,
                (_, None) => false,
            };
            if is_another {
                rewrites += 1;
                if rewrites > REWRITES_MAX {
                    return Err(corrupt("the pack's object is not as long as its directory says").into());
                }
                source = self.find_again(source.path).await?;
                continue;
            }
            let some = got?.bytes().await;
            self.hand_on(some.map_err(|error| failed("archive.read", error))?)
                .await?;
            at = end;
        }
        if let Some(hasher) = &self.hasher
            && hasher.finish() != self.place.checksum
        {
            // The last piece is held back when the whole is damaged.
            return Err(corrupt("the instance's bytes are not what was stored").into());
        }
        if let Some(last) = self.held.take() {
            self.output.put(last).await?;
        }
        Ok(())
    }

    /// Where the instance is in a pack that was written again.
    async fn find_again(&self, path: Path) -> Result<Source> {
        let position = self.place.position;
        let (pack, length) = self.shared.bucket.directory(position.pack, None).await?;
        match pack.stored(position) {
            Some((_, stored)) if stored.locator == self.place.to_locator() => Ok(Source {
                path,
                offset: pack.offset_of(position.item),
                length: Some(length),
            }),
            _ => Err(not_found()),
        }
    }

    async fn hand_on(&mut self, mut some: Bytes) -> Result<(), Stopped> {
        while !some.is_empty() {
            let piece = some.split_to(some.len().min(READ_CHUNK_BYTES));
            self.put(piece).await?;
        }
        Ok(())
    }

    async fn put(&mut self, piece: Bytes) -> Result<(), Stopped> {
        if let Some(hasher) = &mut self.hasher {
            hasher.write(&piece);
        }
        if let Some(before) = self.held.replace(piece) {
            self.output.put(before).await?;
        }
        Ok(())
    }
}
