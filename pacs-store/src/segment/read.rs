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
use crate::medium::{MediumFile, read_exact_at};

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
        Ok(self.open_and_read(place, 0, 0)?.0)
    }

    /// Opens a record and reads a first piece of its payload, with one call where both lie together.
    fn open_and_read(&self, place: Place, from: u64, length: usize) -> Result<(OpenRecord, Bytes)> {
        let segment = self.segment_of(place)?;
        let file = self.segments.file(place.segment).map_err(failed)?;
        let header_length = HEADER_LENGTH as usize;
        let together = if from == 0 { length } else { 0 };
        let mut bytes = Vec::new();
        read_exact_at(&*file, &mut bytes, header_length + together, place.offset).map_err(failed)?;
        let header = Self::check_header(&segment, place, &bytes)?;
        if header.removed {
            return Err(not_found());
        }
        let piece = match from {
            0 => Bytes::from(bytes).slice(header_length..),
            from => read_piece(&*file, place, from, length)?,
        };
        Ok((OpenRecord { file, header }, piece))
    }
}

fn read_piece(file: &dyn MediumFile, place: Place, from: u64, length: usize) -> Result<Bytes> {
    let mut bytes = Vec::new();
    read_exact_at(file, &mut bytes, length, place.offset + HEADER_LENGTH + from).map_err(failed)?;
    Ok(Bytes::from(bytes))
}

/// Whether a record was removed. Looked at after each piece: only what was removed is ever given back,
/// so a piece that was read before is what was written.
fn check_kept(store: &Store, file: &dyn MediumFile, place: Place) -> Result<()> {
    let mut state = Vec::new();
    read_exact_at(file, &mut state, REMOVED.len(), place.offset + STATE_OFFSET).map_err(failed)?;
    if state == REMOVED || store.is_remembered_removed(place) {
        return Err(not_found());
    }
    Ok(())
}

/// A piece, and the record it is of.
type Piece = (Arc<OpenRecord>, Bytes);

struct Reading {
    store: Arc<Store>,
    place: Place,
    /// What is still to be asked for.
    rest: Range<u64>,
    record: Option<Arc<OpenRecord>>,
    ahead: Option<oneshot::Receiver<Result<Piece>>>,
    /// Of everything so far, when everything is read.
    hasher: Option<Box<XxHash3_64>>,
    ended: bool,
}

/// The stream of [`Archive::read`](pacs_core::Archive::read).
pub(super) fn stream(
    store: Arc<Store>,
    locator: &Locator,
    range: Range<u64>,
) -> BoxStream<'static, Result<Bytes>> {
    let Some(place) = Place::from_locator(locator) else {
        return stream::once(std::future::ready(Err(not_found()))).boxed();
    };
    let rest = range.start.min(place.length)..range.end.min(place.length);
    let reading = Reading {
        store,
        place,
        hasher: (rest == (0..place.length)).then(Box::default),
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
        let (record, piece) = match ahead.await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => return Some(Err(error)),
            Err(_) => return Some(Err(closed("archive.read"))),
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

    /// Has the next piece read.
    fn ask(&mut self) {
        let (store, place, record) = (Arc::clone(&self.store), self.place, self.record.clone());
        let from = self.rest.start;
        let length = self.rest.end.saturating_sub(from).min(READ_CHUNK_BYTES as u64) as usize;
        self.rest.start += length as u64;
        self.ahead = Some(self.store.readers.run(move || {
            let (record, piece) = match record {
                Some(record) => {
                    let piece = read_piece(&*record.file, place, from, length)?;
                    (record, piece)
                }
                None => {
                    let (record, piece) = store.open_and_read(place, from, length)?;
                    (Arc::new(record), piece)
                }
            };
            check_kept(&store, &*record.file, place)?;
            Ok((record, piece))
        }));
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
