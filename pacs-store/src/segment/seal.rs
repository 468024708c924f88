//! What must be on record before others may rely on it: marks of removals, seals of segments whose
//! medium failed, and the hint.

use bytes::Bytes;
use pacs_core::{Error, Result, Sequence, Timestamp};
use twox_hash::XxHash3_64;

use super::commit::Committer;
use super::group::Small;
use super::lane::Lane;
use super::record::{Place, REMOVED, RecordKind, STATE_OFFSET, encode_seal, span};
use crate::medium::write_all_at;

impl Committer {
    /// Marks a record whose removal is durable. The mark itself is made durable before a hint lets the
    /// next opening skip the removal.
    pub(super) fn mark_removed(&mut self, place: Place) {
        let result = self
            .store
            .segments
            .file(place.segment)
            .and_then(|file| write_all_at(&*file, &[&REMOVED], place.offset + STATE_OFFSET));
        if let Err(error) = result {
            tracing::error!(%error, "a removed record could not be marked");
            self.store.remember_removed(place);
            self.hint_frozen = true;
        }
        self.marked.insert(place.segment);
        if let Some(segment) = self.store.segments.get(place.segment) {
            let mut state = segment.state();
            state.dead_bytes += span(place.length).unwrap_or(0);
            self.hint_frozen |= state.poisoned;
        }
    }

    /// Takes back, durably, what a failed write left behind the start of a lane; false when the segment
    /// had to be given up.
    pub(super) fn take_back(&mut self, lane: &mut Lane) -> bool {
        let start = lane.start;
        let result = lane.rewind().and_then(|()| lane.file.sync_data());
        if result.is_err() {
            self.poison(lane.segment.id, start);
        }
        result.is_ok()
    }

    /// Gives a segment up: its operating system or medium lost writes, and a later sync that succeeds
    /// would not bring them back.
    pub(super) fn poison(&mut self, id: u64, end: u64) {
        tracing::error!(
            segment = id,
            end,
            "the medium failed; the segment takes nothing more"
        );
        if let Some(segment) = self.store.segments.get(id) {
            let mut state = segment.state();
            state.poisoned = true;
            state.sealed = true;
            state.open = false;
        }
        if self.shared.as_ref().is_some_and(|lane| lane.segment.id == id) {
            self.shared = None;
        }
        self.unsealed.push((id, end));
        self.hint_frozen |= self.marked.contains(&id);
    }

    /// Puts on record that nothing counts behind the end of the segments that were given up.
    pub(super) fn write_seals(&mut self) -> Result<()> {
        // A new segment may fail as well; then it is one more to seal, in the next one.
        const ATTEMPTS: usize = 3;
        for attempt in 1.. {
            if self.unsealed.is_empty() {
                return Ok(());
            }
            match self.try_seals() {
                Ok(()) => self.unsealed.clear(),
                Err(error) if attempt >= ATTEMPTS => return Err(error),
                Err(_) => {}
            }
        }
        Ok(())
    }

    pub(super) fn try_seals(&mut self) -> Result<()> {
        self.open_shared()?;
        let mut small = Small::default();
        let mut last = None;
        for (id, end) in self.unsealed.clone() {
            let payload = Bytes::copy_from_slice(&encode_seal(id, end));
            let received = Timestamp::now();
            let checksum = XxHash3_64::oneshot(&payload);
            let header = self.header(RecordKind::Seal, payload.len() as u64, received, checksum);
            last = self.add_small(&mut small, header, vec![payload]);
        }
        let (Some(mut lane), Some(last)) = (self.shared.take(), last) else {
            return Ok(());
        };
        let result = lane
            .reserve(last.end)
            .and_then(|()| write_all_at(&*lane.file, &small.slices(), lane.start))
            .and_then(|()| lane.file.sync_data());
        if let Err(error) = result {
            let (id, start) = (lane.segment.id, lane.start);
            self.poison(id, start);
            return Err(Error::io(
                "archive.commit",
                "the medium failed, and a note of it failed too",
                error,
            ));
        }
        lane.segment
            .state()
            .add(last.sequence, last.place.offset, last.end);
        lane.start = last.end;
        self.shared = Some(lane);
        Ok(())
    }

    pub(super) fn leave_hint(&mut self, sequence: Sequence) -> Result<()> {
        self.sync_marks()?;
        if self.hint_frozen || !self.unsealed.is_empty() {
            // The next opening walks further; nothing is lost but time.
            return Ok(());
        }
        // A hint that says less than the last one would have the next opening look through more for nothing.
        self.store
            .write_hint(sequence.max(self.store.hinted()))
            .map_err(|error| Error::io("archive.indexed", "the hint could not be written", error))
    }

    /// Makes the marks of removals durable. Only the committer ever syncs a segment: a failure that
    /// somebody else saw would be hidden from it.
    pub(super) fn sync_marks(&mut self) -> Result<()> {
        let mut result = Ok(());
        for id in std::mem::take(&mut self.marked) {
            let Some(segment) = self.store.segments.get(id) else {
                continue;
            };
            let synced = self.store.segments.file(id).and_then(|file| file.sync_data());
            let (poisoned, end) = {
                let state = segment.state();
                (state.poisoned, state.end)
            };
            self.hint_frozen |= poisoned || synced.is_err();
            if let Err(error) = synced {
                if !poisoned {
                    self.poison(id, end);
                }
                result = Err(Error::io(
                    "archive.indexed",
                    "the sync of the medium failed",
                    error,
                ));
            }
        }
        result
    }
}
