//! Scanning all segments in order of sequence.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use pacs_core::{Entry, Error, Locator, Result, Sequence, Stored};

use super::Store;
use super::file::Segment;
use super::lane::closed;
use super::record::{HEADER_LENGTH, Header, Place, RecordKind};
use super::walk::Walk;
use crate::medium::{MediumFile, read_exact_at};

/// Entries that are read at once.
const BATCH: usize = 256;

/// One segment that is being walked.
struct Cursor {
    segment: Arc<Segment>,
    file: Arc<dyn MediumFile>,
    at: u64,
    end: u64,
    /// The record in front.
    front: (u64, Header),
}

/// A merge of segments: each is ascending in itself.
struct Scan {
    store: Arc<Store>,
    after: Sequence,
    /// What is published later is left out, so that the order holds across segments.
    until: Sequence,
    /// Segments that were not begun, the one with the greatest first sequence first, and their ends.
    later: Vec<(Sequence, Arc<Segment>, u64)>,
    cursors: BinaryHeap<Reverse<(Sequence, usize)>>,
    slots: Vec<Option<Cursor>>,
}

fn failed(error: std::io::Error) -> Error {
    Error::io("archive.scan", "the medium did not give a segment", error)
}

/// The stream of [`Archive::scan`](pacs_core::Archive::scan).
pub(super) fn stream(store: Arc<Store>, after: Sequence) -> BoxStream<'static, Result<Entry>> {
    // Read before the ends: every record up to here lies before them.
    let until = store.published();
    let mut later: Vec<_> = store
        .segments
        .all()
        .into_iter()
        .filter_map(|segment| {
            let state = segment.state();
            let wanted = state.first.0 != 0 && state.last > after;
            let end = state.cut.unwrap_or(state.end);
            let entry = wanted.then(|| (state.first, Arc::clone(&segment), end));
            drop(state);
            entry
        })
        .collect();
    later.sort_by_key(|(first, ..)| Reverse(*first));
    let scan = Scan {
        store,
        after,
        until,
        later,
        cursors: BinaryHeap::new(),
        slots: Vec::new(),
    };
    stream::unfold(Some(scan), |scan| async move {
        let mut scan = scan?;
        let store = Arc::clone(&scan.store);
        let read = store.readers.run(move || {
            let batch = scan.batch();
            (scan, batch)
        });
        let (items, scan) = match read.await {
            Ok((_, Ok(batch))) if batch.is_empty() => return None,
            Ok((scan, Ok(batch))) => (batch.into_iter().map(Ok).collect(), Some(scan)),
            Ok((_, Err(error))) => (vec![Err(error)], None),
            Err(_) => (vec![Err(closed("archive.scan"))], None),
        };
        Some((stream::iter(items), scan))
    })
    .flatten()
    .boxed()
}

impl Scan {
    fn batch(&mut self) -> Result<Vec<Entry>> {
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            match self.next()? {
                Some(entry) => batch.push(entry),
                None => break,
            }
        }
        Ok(batch)
    }

    fn next(&mut self) -> Result<Option<Entry>> {
        loop {
            // A segment is begun when the merge has come to its first record.
            while let Some((first, ..)) = self.later.last() {
                let front = self.cursors.peek().map(|Reverse((sequence, _))| *sequence);
                if front.is_some_and(|front| front < (*first).max(self.after)) {
                    break;
                }
                if let Some((_, segment, end)) = self.later.pop() {
                    self.begin(segment, end)?;
                }
            }
            let Some(Reverse((_, slot))) = self.cursors.pop() else {
                return Ok(None);
            };
            let Some(mut cursor) = self.slots[slot].take() else {
                continue;
            };
            let entry = cursor.entry(&self.store)?;
            if cursor.advance(self.after, self.until)? {
                self.cursors.push(Reverse((cursor.front.1.sequence, slot)));
                self.slots[slot] = Some(cursor);
            }
            if entry.is_some() {
                return Ok(entry);
            }
        }
    }

    fn begin(&mut self, segment: Arc<Segment>, end: u64) -> Result<()> {
        // Given back since, with all its records removed.
        if self.store.segments.get(segment.id).is_none() {
            return Ok(());
        }
        let file = self.store.segments.file(segment.id).map_err(failed)?;
        let at = segment.state().start_after(self.after);
        let mut cursor = Cursor {
            segment,
            file,
            at,
            end,
            front: (0, EMPTY),
        };
        if cursor.advance(self.after, self.until)? {
            let slot = self.slots.len();
            self.cursors.push(Reverse((cursor.front.1.sequence, slot)));
            self.slots.push(Some(cursor));
        }
        Ok(())
    }
}

/// Stands in front before there is a record.
const EMPTY: Header = Header {
    kind: RecordKind::Seal,
    removed: false,
    length: 0,
    sequence: Sequence(0),
    received: pacs_core::Timestamp(0),
    checksum: 0,
    durable: 0,
};

impl Cursor {
    /// Goes to the next record between the two sequences; false at the end.
    fn advance(&mut self, after: Sequence, until: Sequence) -> Result<bool> {
        let mut walk = Walk::new(&*self.file, self.segment.key, self.at, self.end);
        while let Some(front) = walk.next().map_err(failed)? {
            self.at = walk.position();
            let sequence = front.1.sequence;
            if sequence > until {
                return Ok(false);
            }
            if sequence > after && front.1.kind != RecordKind::Seal {
                self.front = front;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What the record in front tells.
    fn entry(&self, store: &Store) -> Result<Option<Entry>> {
        let (offset, header) = &self.front;
        let place = Place {
            segment: self.segment.id,
            offset: *offset,
            length: header.length,
        };
        Ok(match header.kind {
            RecordKind::Instance(_) if header.removed || store.is_remembered_removed(place) => None,
            RecordKind::Instance(key) => Some(Entry::Stored(
                key,
                Stored {
                    locator: place.to_locator(),
                    length: header.length,
                    sequence: header.sequence,
                    received: header.received,
                },
            )),
            RecordKind::Removal(instance) => Some(Entry::Removed {
                instance,
                locator: removed_locator(&*self.file, *offset, header)?,
                sequence: header.sequence,
            }),
            RecordKind::Seal => None,
        })
    }
}

/// The payload of a removal.
fn removed_locator(file: &dyn MediumFile, offset: u64, header: &Header) -> Result<Locator> {
    let length = header
        .length
        .min(pacs_core::limits::LOCATOR_LENGTH_MAX_BYTES as u64);
    let mut bytes = Vec::new();
    read_exact_at(file, &mut bytes, length as usize, offset + HEADER_LENGTH).map_err(failed)?;
    Ok(Locator::new(&bytes))
}
