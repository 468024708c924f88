//! Reading a range of an instance, piece by piece, one piece ahead.

use std::hash::Hasher as _;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::channel::oneshot;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use pacs_core::limits::READ_CHUNK_BYTES;
use pacs_core::{Error, ErrorKind, Locator, Result};
use twox_hash::XxHash3_64;

use super::Store;
use super::file::Segment;
use super::lane::closed;
use super::record::{HEADER_LENGTH, Header, Place, REMOVED, RecordKind, STATE_OFFSET, span};
use crate::buffers::Buffers;
use crate::medium::{MediumFile, fill_by, read_exact_at};

/// A record that is open for reading.
pub(super) struct OpenRecord {
    pub(super) file: Arc<dyn MediumFile>,
    pub(super) header: Header,
}

fn not_found() -> Error {
    let why = "nothing is kept at this locator";
    Error::new(ErrorKind::NotFound, "archive.read", why)
}

pub(super) fn corrupt(why: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, "archive.read", why)
}

fn failed(error: std::io::Error) -> Error {
    // A file that is gone or too short is a damaged archive, not an unknown instance.
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => corrupt("the segment file is shorter than it was"),
        _ => Error::io("archive.read", "the medium did not give the instance", error),
    }
}

impl Store {
    /// The segment of a place that lies before its end.
    fn segment_of(&self, place: Place) -> Result<Arc<Segment>> {
        let segment = self.segments.get(place.segment).ok_or_else(not_found)?;
        let end = span(place.length).and_then(|span| place.offset.checked_add(span));
        if end.is_none_or(|end| end > segment.state().end) || self.is_remembered_removed(place) {
            return Err(not_found());
        }
        Ok(segment)
    }

    fn check_header(segment: &Segment, place: Place, bytes: &[u8]) -> Result<Header> {
        let header = Header::decode(bytes, segment.key)
            .ok_or_else(|| corrupt("the header of the instance's record is damaged"))?;
        let is_instance = matches!(header.kind, RecordKind::Instance(_));
        if !is_instance || header.length != place.length {
            return Err(not_found());
        }
        Ok(header)
    }

    /// The record of an instance at a place, whether removed or not.
    pub(super) fn find_record(&self, place: Place) -> Result<Header> {
        let segment = self.segment_of(place)?;
        let file = self.segments.file(place.segment).map_err(failed)?;
        let mut bytes = Vec::new();
        read_exact_at(&*file, &mut bytes, HEADER_LENGTH as usize, place.offset).map_err(failed)?;
        Self::check_header(&segment, place, &bytes)
    }

    /// # Errors
    /// `NotFound` when no instance is kept there, `Corrupt` when its header is damaged.
    pub(super) fn open_record(&self, place: Place) -> Result<OpenRecord> {
        match self.open_and_read(place, 0, 0, Read::Wait) {
            Ok((record, _)) => Ok(record),
            Err(unread) => Err(unread.into_error()),
        }
    }

    /// Opens a record and reads a first piece of its payload, with one call where both lie together.
    fn open_and_read(
        &self,
        place: Place,
        from: u64,
        length: usize,
        read: Read,
    ) -> Result<(OpenRecord, Bytes), Unread> {
        let segment = self.segment_of(place)?;
        let file = match read {
            Read::Wait => self.segments.file(place.segment).map_err(failed)?,
            Read::Cached => self.segments.file_if_open(place.segment).ok_or(Unread::Waits)?,
        };
        let header_length = HEADER_LENGTH as usize;
        let together = if from == 0 { length } else { 0 };
        let bytes = read.exact(&self.buffers, &*file, header_length + together, place.offset)?;
        let header = Self::check_header(&segment, place, &bytes)?;
        if header.removed {
            return Err(not_found().into());
        }
        let piece = match from {
            0 => bytes.slice(header_length..),
            from => self.read_piece(&*file, place, from, length, read)?,
        };
        Ok((OpenRecord { file, header }, piece))
    }

    fn read_piece(
        &self,
        file: &dyn MediumFile,
        place: Place,
        from: u64,
        length: usize,
        read: Read,
    ) -> Result<Bytes, Unread> {
        read.exact(&self.buffers, file, length, place.offset + HEADER_LENGTH + from)
    }

    /// Whether a record was removed. Looked at after each piece: only what was removed is ever given
    /// back, so a piece that was read before is what was written.
    fn check_kept(&self, file: &dyn MediumFile, place: Place, read: Read) -> Result<(), Unread> {
        let state = read.exact(&self.buffers, file, REMOVED.len(), place.offset + STATE_OFFSET)?;
        if state == REMOVED.as_slice() || self.is_remembered_removed(place) {
            return Err(not_found().into());
        }
        Ok(())
    }
}

/// How a piece is read.
#[derive(Clone, Copy)]
enum Read {
    /// On a thread that may wait for the medium.
    Wait,
    /// At once, when it is in memory: a hand-over to another thread and back costs more than the copy.
    Cached,
}

impl Read {
    fn exact(
        self,
        buffers: &Arc<Buffers>,
        file: &dyn MediumFile,
        length: usize,
        offset: u64,
    ) -> Result<Bytes, Unread> {
        let read = buffers.filled(length, |into| match self {
            Read::Wait => fill_by(|into, at| file.read_at(into, at), into, offset),
            Read::Cached => fill_by(|into, at| file.read_cached_at(into, at), into, offset),
        });
        read.map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => Unread::Waits,
            _ => failed(error).into(),
        })
    }
}

/// Why there is no piece.
enum Unread {
    /// It must be waited for, which [`Read::Cached`] doesn't.
    Waits,
    Failed(Error),
}

impl From<Error> for Unread {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Unread {
    fn into_error(self) -> Error {
        match self {
            Self::Waits => failed(std::io::ErrorKind::WouldBlock.into()),
            Self::Failed(error) => error,
        }
    }
}

/// A piece, and the record it is of.
type Piece = (Arc<OpenRecord>, Bytes);

/// The next piece.
enum Ahead {
    Here(Result<Piece>),
    Coming(oneshot::Receiver<Result<Piece>>),
}

struct Reading {
    store: Arc<Store>,
    place: Place,
    /// What is still to be asked for.
    rest: Range<u64>,
    record: Option<Arc<OpenRecord>>,
    ahead: Option<Ahead>,
    /// Of everything so far, when everything is read.
    hasher: Option<Box<XxHash3_64>>,
    ended: bool,
}

/// The stream of [`Archive::read`](pacs_core::Archive::read); not `checked`, of
/// [`read_unchecked`](pacs_core::Archive::read_unchecked).
pub(super) fn stream(
    store: Arc<Store>,
    locator: &Locator,
    range: Range<u64>,
    checked: bool,
) -> BoxStream<'static, Result<Bytes>> {
    let Some(place) = Place::from_locator(locator) else {
        return stream::once(std::future::ready(Err(not_found()))).boxed();
    };
    let rest = range.start.min(place.length)..range.end.min(place.length);
    let reading = Reading {
        store,
        place,
        hasher: (checked && rest == (0..place.length)).then(Box::default),
        rest,
        record: None,
        ahead: None,
        ended: false,
    };
    stream::unfold(reading, |mut reading| async move {
        let item = reading.next().await?;
        reading.ended = item.is_err();
        Some((item, reading))
    })
    .boxed()
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Bytes>> {
        if self.ended {
            return None;
        }
        if self.record.is_none() && self.ahead.is_none() {
            self.ask();
        }
        let Some(ahead) = self.ahead.take() else {
            // All pieces have been yielded.
            self.ended = true;
            return self.check().err().map(Err);
        };
        let read = match ahead {
            Ahead::Here(read) => read,
            Ahead::Coming(read) => read.await.unwrap_or_else(|_| Err(closed("archive.read"))),
        };
        let (record, piece) = match read {
            Ok(read) => read,
            Err(error) => return Some(Err(error)),
        };
        self.record = Some(record);
        if let Some(hasher) = &mut self.hasher {
            hasher.write(&piece);
        }
        if !self.rest.is_empty() {
            self.ask();
        }
        if piece.is_empty() {
            self.ended = true;
            return self.check().err().map(Err);
        }
        // The last piece is held back when the whole is damaged.
        if self.ahead.is_none()
            && let Err(error) = self.check()
        {
            return Some(Err(error));
        }
        Some(Ok(piece))
    }

    /// Has the next piece read: at once where it is in memory, else by a thread that may wait.
    fn ask(&mut self) {
        let (store, place, record) = (Arc::clone(&self.store), self.place, self.record.clone());
        let from = self.rest.start;
        let length = self.rest.end.saturating_sub(from).min(READ_CHUNK_BYTES as u64) as usize;
        self.rest.start += length as u64;
        let piece = move |read: Read| -> Result<Piece, Unread> {
            let (record, piece) = match &record {
                Some(record) => {
                    let piece = store.read_piece(&*record.file, place, from, length, read)?;
                    (Arc::clone(record), piece)
                }
                None => {
                    let (record, piece) = store.open_and_read(place, from, length, read)?;
                    (Arc::new(record), piece)
                }
            };
            store.check_kept(&*record.file, place, read)?;
            Ok((record, piece))
        };
        self.ahead = Some(match piece(Read::Cached) {
            Ok(piece) => Ahead::Here(Ok(piece)),
            Err(Unread::Failed(error)) => Ahead::Here(Err(error)),
            Err(Unread::Waits) => {
                let readers = &self.store.readers;
                Ahead::Coming(readers.run(move || piece(Read::Wait).map_err(Unread::into_error)))
            }
        });
    }

    fn check(&self) -> Result<()> {
        match (&self.hasher, &self.record) {
            (Some(hasher), Some(record)) if hasher.finish() != record.header.checksum => {
                Err(corrupt("the instance's bytes are not what was stored"))
            }
            _ => Ok(()),
        }
    }
}
