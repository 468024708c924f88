//! The metadata of instances: from the index where it is known, else read from the archive and then told to the
//! index, so that it is known the next time.

pub(super) mod ahead;
mod large;
mod threads;

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use self::ahead::Recent;
use self::large::Large;
use self::threads::Threads;
use super::block_on::block_on;
use super::committer::Request;
use super::outgoing::shorter;
use super::watched::Watched;
use super::{Inner, Pacs};
use crate::archive::{Archive, Locator};
use crate::budget::{Budget, Share};
use crate::dataset::coercion;
use crate::dataset::metadata::{Metadata, MetadataScanner};
use crate::dataset::syntax::{self, ITEM, SEQUENCE_END};
use crate::error::{Error, ErrorKind, Result};
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
    /// Where instances are read.
    threads: Threads,
    large: Large,
    /// Bytes of records on their way to the index.
    unwritten: Budget,
    pub(super) recent: Arc<Recent>,
}

impl Pacs {
    /// The metadata of an instance, with its coercion applied: from the index, or where that does not know it made
    /// by reading the instance as far as is needed, on a thread of its own. Bulk data is passed over where the archive
    /// can. What is large counts among [`METADATA_HELD_LENGTH_MAX_BYTES`](limits::METADATA_HELD_LENGTH_MAX_BYTES) until
    /// it is dropped.
    ///
    /// # Errors
    /// - `Mismatch` when nothing of the data set can be read.
    /// - `OutOfResources` when the metadata is larger than
    ///   [`METADATA_LENGTH_MAX_BYTES`](limits::METADATA_LENGTH_MAX_BYTES), or, to be tried again, when there is no
    ///   room for it now.
    /// - What the index or the archive says.
    pub async fn metadata(&self, record: &InstanceRecord) -> Result<Arc<Metadata>> {
        let mut known = self.inner.index.metadata(Scope::Instance(record.key.instance));
        let known = known.try_next().await?;
        let known = known.filter(|(known, _)| known.locator == record.locator);
        let made = self
            .inner
            .made(record, known.and_then(|(_, known)| known))
            .await?;
        self.inner.opened(record, made).await
    }

    /// As [`metadata`](Self::metadata), of every instance of `scope`, in the order of
    /// [`instances`](Self::instances). An instance whose metadata the index knows is not opened.
    pub fn metadata_in(&self, scope: Scope) -> BoxStream<'static, Result<(InstanceRecord, Arc<Metadata>)>> {
        let inner = Arc::clone(&self.inner);
        let make = move |(record, known): (InstanceRecord, Option<Bytes>)| {
            let inner = Arc::clone(&inner);
            async move {
                let made = inner.made(&record, known).await?;
                Ok((record, made))
            }
        };
        let inner = Arc::clone(&self.inner);
        let open = move |(record, made)| {
            let inner = Arc::clone(&inner);
            async move {
                let metadata = inner.opened(&record, made).await?;
                Ok((record, metadata))
            }
        };
        let known = self.inner.index.metadata(scope);
        // Nothing large waits ahead of its turn.
        let made = known.map_ok(make);
        made.try_buffered(limits::METADATA_READINGS_MAX / 2)
            .and_then(open)
            .boxed()
    }

    /// Makes the metadata of what was received lately, as the engine does by itself when a series has been quiet for
    /// some seconds. Answers for how many instances.
    ///
    /// # Errors
    /// What the index says. An instance that can't be read is passed over.
    pub async fn describe_recent(&self) -> Result<u64> {
        let requests = self.inner.requests()?;
        let mut made = 0;
        for series in self.inner.describer.recent.take_all() {
            let (describer, requests) = (self.inner.describer.clone(), requests.clone());
            let work = move |goes_on: &dyn Fn() -> bool| {
                block_on(describer.describe_ahead(series, &requests, goes_on, |_| goes_on()))
            };
            made += self.inner.describer.threads.run(work).await?.made;
        }
        Ok(made)
    }
}

/// Metadata on its way to who asked for it.
enum Made {
    Small(Metadata),
    /// Its record: what it takes in memory is taken when its turn comes.
    Large(Bytes),
}

impl Inner {
    /// From what the index knows, else by reading the instance.
    async fn made(&self, record: &InstanceRecord, known: Option<Bytes>) -> Result<Made> {
        let Some(known) = known else {
            return self.read_metadata(record).await;
        };
        let opened = Metadata::inflate(&known, large::SMALL_RECORD_MAX_BYTES);
        match opened.and_then(|inflated| {
            inflated
                .map(|inflated| Metadata::parse(inflated.into()))
                .transpose()
        }) {
            Ok(Some(metadata)) => Ok(Made::Small(metadata)),
            Ok(None) => Ok(Made::Large(known)),
            Err(error) => {
                made_anew(record, &error);
                self.read_metadata(record).await
            }
        }
    }

    async fn opened(&self, record: &InstanceRecord, made: Made) -> Result<Arc<Metadata>> {
        let mut metadata = match made {
            Made::Large(bytes) => match self.opened_large(record, bytes).await {
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    made_anew(record, &error);
                    match self.read_metadata(record).await? {
                        Made::Large(bytes) => return self.opened_large(record, bytes).await,
                        Made::Small(metadata) => metadata,
                    }
                }
                opened => return opened,
            },
            Made::Small(metadata) => metadata,
        };
        if let Some(coerced) = &record.coerced {
            metadata.replace(&coercion::replaced(coerced));
        }
        Ok(Arc::new(metadata))
    }

    async fn opened_large(&self, record: &InstanceRecord, bytes: Bytes) -> Result<Arc<Metadata>> {
        let large = self.describer.large.clone();
        let (version, coerced) = (record.locator.clone(), record.coerced.clone());
        let open = move |_: &dyn Fn() -> bool| large.open(&version, coerced.as_ref(), &bytes);
        self.describer.threads.run(open).await
    }

    async fn read_metadata(&self, record: &InstanceRecord) -> Result<Made> {
        let (describer, its) = (self.describer.clone(), record.clone());
        let make = move |goes_on: &dyn Fn() -> bool| describer.make(&its, goes_on);
        let made = self.describer.threads.run(make).await;
        let (made, bytes) = made.map_err(Error::about_kept)?;
        // Nobody waits for it: where there is no room it is made again the next time.
        if let Ok(requests) = self.requests() {
            self.describer.tell(record, bytes, requests);
        }
        Ok(made)
    }
}

fn made_anew(record: &InstanceRecord, error: &Error) {
    let instance = record.key.instance;
    tracing::warn!(%instance, %error, "metadata is made anew");
}

impl Describer {
    pub(super) fn new(archive: Arc<dyn Archive>, index: Arc<Watched>) -> Self {
        Self {
            archive,
            index,
            threads: Threads::default(),
            large: Large::new(limits::METADATA_HELD_LENGTH_MAX_BYTES),
            unwritten: Budget::new(limits::METADATA_UNWRITTEN_LENGTH_MAX_BYTES),
            recent: Arc::default(),
        }
    }

    /// Hands a record to the committer, if there is room for it now.
    fn tell(&self, record: &InstanceRecord, bytes: Bytes, mut requests: mpsc::Sender<Request>) {
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

    /// Makes the metadata of a stored instance, and its record, on this thread; large ones one after the other.
    fn make(&self, record: &InstanceRecord, goes_on: &dyn Fn() -> bool) -> Result<(Made, Bytes)> {
        // Little that is deflated may be much.
        let deflated = syntax::is_deflated(&record.transfer_syntax);
        let turn = RefCell::new(deflated.then(|| self.large.one_at_a_time()));
        let is_large = |held: usize| held > large::SMALL_MAX_BYTES;
        let reading = self.read(record, |held| {
            if is_large(held) {
                turn.borrow_mut()
                    .get_or_insert_with(|| self.large.one_at_a_time());
            }
            goes_on()
        });
        let Some((metadata, held)) = block_on(reading)? else {
            let what = "nobody waits for the metadata";
            return Err(Error::new(ErrorKind::Internal, "metadata.make", what));
        };
        let bytes = metadata.to_bytes();
        let made = match is_large(held) {
            true => Made::Large(bytes.clone()),
            false => Made::Small(metadata),
        };
        Ok((made, bytes))
    }

    /// Makes the metadata of a stored instance by reading it, and tells what it takes in memory. `goes_on` is asked
    /// with that on the way; `None` when it says no.
    async fn read(
        &self,
        record: &InstanceRecord,
        goes_on: impl Fn(usize) -> bool,
    ) -> Result<Option<(Metadata, usize)>> {
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
                if !goes_on(scanner.held()) {
                    return Ok(None);
                }
            }
            if scanner.position() == at {
                return Err(shorter());
            }
            window = (window * 2).min(WINDOW_MAX_BYTES);
        }
        let held = scanner.held();
        Ok(Some((scanner.finish()?, held)))
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
