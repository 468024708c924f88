//! The metadata of instances: from the index where it is known, else read from the archive and then told to the
//! index, so that it is known the next time.

pub(super) mod ahead;

use std::sync::Arc;

use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use self::ahead::Recent;
use super::committer::Request;
use super::outgoing::shorter;
use super::watched::Watched;
use super::{Inner, Pacs};
use crate::archive::{Archive, Locator};
use crate::budget::{Budget, Share};
use crate::dataset::coercion;
use crate::dataset::metadata::{Metadata, MetadataScanner};
use crate::dataset::syntax::{ITEM, SEQUENCE_END};
use crate::error::Result;
use crate::index::{InstanceRecord, Scope};
use crate::limits;
use crate::uid::Uid;

/// What is read first of an instance, in bytes: most headers are shorter.
const WINDOW_MIN_BYTES: u64 = 32 * 1024;
/// What is read at once of one whose header goes on.
const WINDOW_MAX_BYTES: u64 = 1024 * 1024;

/// A metadata record on its way to the index.
pub(super) struct Describes {
    pub(super) instance: Uid,
    pub(super) version: Locator,
    pub(super) record: Bytes,
    /// Its bytes among those on their way.
    pub(super) _room: Share,
    pub(super) reply: Option<oneshot::Sender<Result<bool>>>,
}

/// Makes metadata.
#[derive(Clone)]
pub(super) struct Describer {
    archive: Arc<dyn Archive>,
    index: Arc<Watched>,
    /// Instances that are read at once.
    readings: Budget,
    /// Bytes of records on their way to the index.
    unwritten: Budget,
    pub(super) recent: Arc<Recent>,
}

impl Pacs {
    /// The metadata of an instance, with its coercion applied: from the index, or where that does not know it made
    /// by reading the instance as far as is needed. Bulk data is passed over where the archive can.
    ///
    /// # Errors
    /// `Invalid` when nothing of the data set can be read, `OutOfResources` when the metadata is larger than
    /// [`METADATA_LENGTH_MAX_BYTES`](limits::METADATA_LENGTH_MAX_BYTES); what the index or the archive says.
    pub async fn metadata(&self, record: &InstanceRecord) -> Result<Arc<Metadata>> {
        let mut known = self.inner.index.metadata(Scope::Instance(record.key.instance));
        let known = known.try_next().await?;
        let known = known.filter(|(known, _)| known.locator == record.locator);
        self.inner
            .described(record, known.and_then(|(_, known)| known))
            .await
    }

    /// As [`metadata`](Self::metadata), of every instance of `scope`, in the order of
    /// [`instances`](Self::instances). An instance whose metadata the index knows is not opened.
    pub fn metadata_in(&self, scope: Scope) -> BoxStream<'static, Result<(InstanceRecord, Arc<Metadata>)>> {
        let inner = Arc::clone(&self.inner);
        let one = move |(record, known): (InstanceRecord, Option<Bytes>)| {
            let inner = Arc::clone(&inner);
            async move {
                let metadata = inner.described(&record, known).await?;
                Ok((record, metadata))
            }
        };
        let known = self.inner.index.metadata(scope);
        known
            .map_ok(one)
            .try_buffered(limits::METADATA_READINGS_MAX / 2)
            .boxed()
    }

    /// Makes the metadata of what was received lately, as the engine does by itself when a series has been quiet for
    /// some seconds. Answers for how many instances.
    ///
    /// # Errors
    /// What the index says. An instance that can't be read is passed over.
    pub async fn describe_recent(&self) -> Result<u64> {
        let requests = self.inner.requests()?;
        let describer = &self.inner.describer;
        let mut made = 0;
        for series in describer.recent.take_all() {
            made += describer.describe_ahead(series, &requests, || true).await?.made;
        }
        Ok(made)
    }
}

impl Inner {
    async fn described(&self, record: &InstanceRecord, known: Option<Bytes>) -> Result<Arc<Metadata>> {
        let mut metadata = match known.map(|known| Metadata::from_bytes(&known)) {
            Some(Ok(metadata)) => metadata,
            damaged => {
                if let Some(Err(error)) = damaged {
                    let instance = record.key.instance;
                    tracing::warn!(%instance, %error, "metadata is made anew");
                }
                let metadata = self.describer.read(record).await?;
                // Nobody waits for it: where there is no room it is made again the next time.
                if let Ok(requests) = self.requests() {
                    self.describer.tell(record, &metadata, requests);
                }
                metadata
            }
        };
        if let Some(coerced) = &record.coerced {
            metadata.replace(&coercion::replaced(coerced));
        }
        Ok(Arc::new(metadata))
    }
}

impl Describer {
    pub(super) fn new(archive: Arc<dyn Archive>, index: Arc<Watched>) -> Self {
        Self {
            archive,
            index,
            readings: Budget::new(limits::METADATA_READINGS_MAX),
            unwritten: Budget::new(limits::METADATA_UNWRITTEN_LENGTH_MAX_BYTES),
            recent: Arc::default(),
        }
    }

    /// Hands a record to the committer, if there is room for it now.
    fn tell(&self, record: &InstanceRecord, metadata: &Metadata, mut requests: mpsc::Sender<Request>) {
        let bytes = metadata.to_bytes();
        if let Some(room) = self.unwritten.try_take(bytes.len()) {
            let request = Request::Describe(Describes {
                instance: record.key.instance,
                version: record.locator.clone(),
                record: bytes,
                _room: room,
                reply: None,
            });
            // A closed engine takes none.
            let _ = requests.try_send(request);
        }
    }

    /// Makes the metadata of a stored instance by reading it.
    async fn read(&self, record: &InstanceRecord) -> Result<Metadata> {
        let _turn = self.readings.take(1).await;
        let length = record.length.saturating_sub(record.data_set_offset);
        let mut scanner = MetadataScanner::new(&record.transfer_syntax);
        let mut window = WINDOW_MIN_BYTES;
        let mut asked_for_frames = false;
        while scanner.position() < length {
            let at = scanner.position();
            if !asked_for_frames && scanner.is_in_fragments() {
                asked_for_frames = true;
                if let Some(end) = self.end_of_frames(record, at..length).await? {
                    scanner.skip_fragments(end);
                    window = WINDOW_MIN_BYTES;
                    continue;
                }
            }
            let skippable = scanner.skippable().min(length - at);
            if skippable > 0 {
                scanner.skip(skippable);
                // Behind much that is passed over mostly little follows.
                if skippable > window {
                    window = WINDOW_MIN_BYTES;
                }
                continue;
            }
            let end = at.saturating_add(window).min(length);
            let mut pieces = self.pieces(record, at, end);
            while let Some(piece) = pieces.try_next().await? {
                scanner.push(&piece)?;
            }
            if scanner.position() == at {
                return Err(shorter());
            }
            window = (window * 2).min(WINDOW_MAX_BYTES);
        }
        scanner.finish()
    }

    fn pieces(&self, record: &InstanceRecord, from: u64, to: u64) -> BoxStream<'static, Result<Bytes>> {
        let place = |at: u64| record.data_set_offset.saturating_add(at);
        self.archive.read(&record.locator, place(from)..place(to))
    }

    /// Where behind the last frame that the index knows an item or a delimiter stands, if it does so within `rest` of
    /// the data set.
    async fn end_of_frames(
        &self,
        record: &InstanceRecord,
        rest: std::ops::Range<u64>,
    ) -> Result<Option<u64>> {
        let frames = self.index.frames(&record.key.instance, &record.locator).await?;
        let last = frames.and_then(|table| table.frames.last().copied());
        let end = last.and_then(|last| last.offset.checked_add(last.length)?.checked_next_multiple_of(2));
        let Some(end) = end.filter(|end| rest.contains(end) && rest.end - end >= 8) else {
            return Ok(None);
        };
        let mut tag = Vec::new();
        let mut pieces = self.pieces(record, end, end + 4);
        while let Some(piece) = pieces.try_next().await? {
            tag.extend_from_slice(&piece);
        }
        // Encapsulated pixel data is little endian (PS3.5 A.4).
        let stands_there = [ITEM, SEQUENCE_END].iter().any(|wanted| {
            let bytes = [wanted.0.to_le_bytes(), wanted.1.to_le_bytes()];
            tag == bytes.as_flattened()
        });
        Ok(stands_there.then_some(end))
    }
}
