//! Giving back the room of what was removed.
//!
//! Nothing moves: the blocks under removed payloads are given back to the medium in place, and a
//! segment without a record that counts goes as a whole. So every locator stays as it is, an index has
//! nothing to learn, and a crash at any instant leaves nothing to finish.

use std::io;
use std::sync::Arc;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::executor::block_on;
use futures::future::BoxFuture;
use pacs_core::{Error, Result};

use super::file::Segment;
use super::lane::closed;
use super::queue::Request;
use super::record::{FILE_HEADER_LENGTH, HEADER_LENGTH, RecordKind, SEAL_LENGTH, decode_seal};
use super::walk::Walk;
use super::{SegmentArchive, Store};
use crate::medium::{MediumFile, read_exact_at};

/// The unit in which file systems give back room; smaller pieces would only be cleared.
const BLOCK_BYTES: u64 = 4096;

/// What a compaction gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Bytes that the medium has back.
    pub freed_bytes: u64,
    /// Segment files that are gone.
    pub segments_removed: u64,
}

fn failed(error: io::Error) -> Error {
    Error::io("archive.compact", "the medium failed", error)
}

impl SegmentArchive {
    /// Gives back the room of everything that was removed.
    ///
    /// - Locators stay as they are, and reading goes on meanwhile.
    /// - Where the medium can't free a part of a file, only segments go in which nothing is kept.
    /// - A segment goes only when an index knows of every record in it ([`indexed`]).
    ///
    /// [`indexed`]: pacs_core::Archive::indexed
    ///
    /// # Errors
    /// `Io` when the medium fails; what was given back until then stays so.
    pub fn compact(&self) -> BoxFuture<'_, Result<Compaction>> {
        let store = Arc::clone(&self.store);
        let done = self.store.readers.run(move || store.compact());
        async move { done.await.map_err(|_| closed("archive.compact"))? }.boxed()
    }
}

impl Store {
    fn compact(&self) -> Result<Compaction> {
        let mut compaction = Compaction::default();
        let segments = self.segments.all();
        let newest = segments.last().map(|segment| segment.id);
        for segment in segments {
            if segment.state().dead_bytes > 0 || segment.state().last <= self.hinted() {
                // The newest stays: the next opening counts on from its id, and an id is never given twice.
                let may_go = Some(segment.id) != newest;
                self.compact_segment(&segment, may_go, &mut compaction)?;
            }
        }
        Ok(compaction)
    }

    fn seal_matters(&self, file: &dyn MediumFile, offset: u64) -> io::Result<bool> {
        let mut payload = Vec::new();
        read_exact_at(file, &mut payload, SEAL_LENGTH, offset + HEADER_LENGTH)?;
        let sealed = decode_seal(&payload).and_then(|(id, _)| self.segments.get(id));
        Ok(sealed.is_some_and(|segment| segment.state().poisoned))
    }

    fn compact_segment(&self, segment: &Segment, may_go: bool, compaction: &mut Compaction) -> Result<()> {
        let (end, last, open, poisoned) = {
            let state = segment.state();
            (state.end, state.last, state.open, state.poisoned)
        };
        if poisoned || (open && segment.state().dead_bytes == 0) {
            return Ok(());
        }
        let file = self.segments.file(segment.id).map_err(failed)?;
        let mut walk = Walk::new(&*file, segment.key, FILE_HEADER_LENGTH, end);
        let mut kept = 0;
        let mut dead = Vec::new();
        while let Some((offset, header)) = walk.next().map_err(failed)? {
            match header.kind {
                RecordKind::Instance(_) if header.removed => dead.push((offset, header.length)),
                // Marked in the records they removed, once the hint is past them.
                RecordKind::Removal(_) => {}
                RecordKind::Instance(_) => kept += 1,
                // The next opening must find it, unless what it seals was cut off or is gone already.
                RecordKind::Seal => kept += usize::from(self.seal_matters(&*file, offset).map_err(failed)?),
            }
        }
        // The marks must be durable before their payloads go: a record without a mark must be whole. And
        // before the segment goes, as its file may be there again after a crash.
        if !dead.is_empty() {
            let (reply, synced) = oneshot::channel();
            self.queue.push(Request::SyncMarks { reply });
            block_on(synced).map_err(|_| closed("archive.compact"))??;
        }
        if may_go && kept == 0 && !open && walk.damaged.is_none() && last <= self.hinted() && last.0 > 0 {
            self.segments.remove(segment.id).map_err(failed)?;
            compaction.segments_removed += 1;
            compaction.freed_bytes += end;
            return Ok(());
        }
        let before = segment.state().dead_bytes;
        for (offset, length) in dead {
            let start = (offset + HEADER_LENGTH).next_multiple_of(BLOCK_BYTES);
            let stop = (offset + HEADER_LENGTH + length) / BLOCK_BYTES * BLOCK_BYTES;
            if start >= stop {
                continue;
            }
            match file.punch(start..stop) {
                Ok(()) => compaction.freed_bytes += stop - start,
                Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(()),
                Err(error) => return Err(failed(error)),
            }
        }
        let mut state = segment.state();
        // Removals that came meanwhile stay counted.
        state.dead_bytes = state.dead_bytes.saturating_sub(before);
        Ok(())
    }
}
