//! Opening: which records count, and where each segment goes on.
//!
//! Behind what the hint vouches for, a record counts when its header holds and its payload matches its
//! checksum. Everything before the greatest `durable` offset that a header tells had been synced when
//! that header was written, so payloads are read behind it only: that is the last group of a shared
//! segment and the last record of a stream.
//!
//! That a record is read does not say that it is on the medium: after a sync that failed, and a restart
//! of the process alone, the operating system may still show what it has dropped. So whatever no sync
//! is known to have covered is written again before it counts.
//!
//! Only an end that a crash can have left unfinished is cut off or written again: that of a segment of streams, and
//! of the last shared segment that is in use, for the committer begins a shared segment when all before are synced
//! or sealed. Where a hint or a seal vouches for more than a file has, no crash took it, and the file is left as it is.

use std::collections::{HashMap, HashSet};
use std::hash::Hasher as _;
use std::io;
use std::path::Path;
use std::sync::Arc;

use pacs_core::limits::LOCATOR_LENGTH_MAX_BYTES;
use pacs_core::{ErrorKind, Locator, Sequence, Uid};
use twox_hash::XxHash3_64;

use super::Store;
use super::file::{DIRECTORY, Segment, parse_name, path};
use super::hint::{Hint, SegmentHint};
use super::lane::Lane;
use super::record::{
    FILE_HEADER_LENGTH, FileHeader, HEADER_LENGTH, Header, LAST_GIVEN, Place, RECORD_MAGIC, REMOVED,
    RecordKind, STATE_OFFSET, SegmentKind, decode_seal, span,
};
use super::walk::Walk;
use crate::medium::{MediumFile, read_exact_at, write_all_at};

/// Sequences that are passed over where records were lost, more than the lost ones can have had: an index may know
/// of them, and would take what gets them again for what it knows.
const LOST_SEQUENCES: u64 = 1 << 32;

/// A segment while the archive is opened.
struct Found {
    segment: Arc<Segment>,
    file: Arc<dyn MediumFile>,
    hint: Option<SegmentHint>,
    length: u64,
    /// Something in it is known to be durable.
    in_use: bool,
    /// A shared segment behind it is in use, so that a crash left nothing unfinished in this one.
    finished: bool,
}

impl Store {
    /// Looks at every segment, repairs what a crash left, and says where the committer goes on.
    pub(super) fn recover(self: &Arc<Self>) -> io::Result<(Option<Lane>, Sequence)> {
        let hint = Hint::read(&*self.medium);
        let mut found = self.find(&hint)?;
        let mut seals = HashMap::new();
        for one in &mut found {
            one.in_use = one.collect_seals(&mut seals)?;
        }
        let is_shared = |one: &Found| one.segment.kind == SegmentKind::Shared;
        let last_in_use = found.iter().rposition(|one| one.in_use && is_shared(one));
        for one in &mut found[..last_in_use.unwrap_or(0)] {
            one.finished = is_shared(one);
        }
        let mut removals = Vec::new();
        let mut last = hint.sequence;
        let mut is_lost = lost_files(&hint, &found);
        for one in &mut found {
            one.settle(seals.get(&one.segment.id).copied(), &mut removals)?;
            let state = one.segment.state();
            last = last.max(state.last);
            is_lost |= state.cut.is_some();
            drop(state);
            self.segments.insert(Arc::clone(&one.segment));
        }
        if is_lost {
            last.0 = last.0.saturating_add(LOST_SEQUENCES);
        }
        // What is told of a segment whose file is lost must not be taken for one of another segment.
        let hinted = hint.segments.iter().map(|hint| hint.header.id);
        let removed = removals.iter().map(|(_, place)| place.segment);
        let named = hinted.chain(seals.into_keys()).chain(removed);
        if let Some(named) = named.filter(|id| *id < LAST_GIVEN).max()
            && found.iter().all(|one| one.segment.id < named)
        {
            // The next opening counts on from the newest file.
            self.segments.skip(named);
            let (segment, file) = self.segments.create(SegmentKind::Stream)?;
            self.lanes.add(Box::new(Lane::new(segment, file)));
        }
        self.publish(last);
        self.set_hinted(hint.sequence);
        self.replay_removals(&removals)?;

        let mut shared = None;
        for one in found {
            let (end, closed) = {
                let state = one.segment.state();
                (state.end, state.sealed || state.cut.is_some())
            };
            let goes_on = !closed && end < self.options.segment_bytes;
            match one.segment.kind {
                // The last one or none: what is in use says that all before are finished.
                SegmentKind::Shared => shared = goes_on.then(|| one.into_lane()),
                SegmentKind::Stream if goes_on => self.lanes.add(Box::new(one.into_lane())),
                SegmentKind::Stream => {}
            }
        }
        Ok((shared, last))
    }

    /// The segment files. One whose header was never synced holds nothing and is taken away.
    fn find(&self, hint: &Hint) -> io::Result<Vec<Found>> {
        let hints: HashMap<u64, SegmentHint> =
            hint.segments.iter().map(|hint| (hint.header.id, *hint)).collect();
        let mut found = Vec::new();
        for entry in self.medium.list(Path::new(DIRECTORY))? {
            let Some(id) = entry.name.to_str().and_then(parse_name) else {
                continue;
            };
            self.segments.skip(id);
            let file = self.medium.open(&path(id))?;
            let length = file.length()?;
            let mut bytes = Vec::new();
            let readable = length.min(FILE_HEADER_LENGTH) as usize;
            read_exact_at(&*file, &mut bytes, readable, 0)?;
            let hint = hints.get(&id).copied();
            let header = FileHeader::decode(&bytes).filter(|header| header.id == id);
            let header = match (header, hint) {
                (Some(header), _) => header,
                // The hint's copy of the header serves where the file's own is damaged.
                (None, Some(hint)) if length < hint.end => hint.header,
                (None, Some(hint)) => {
                    tracing::error!(
                        segment = id,
                        "the header of a segment file is damaged; written anew"
                    );
                    write_all_at(&*file, &[&hint.header.encode()], 0)?;
                    file.sync_data()?;
                    hint.header
                }
                (None, None) if length <= FILE_HEADER_LENGTH => {
                    self.medium.remove(&path(id))?;
                    continue;
                }
                (None, None) => {
                    // Never overwritten: a tool may still carve it.
                    tracing::error!(segment = id, "a segment file has no header; it is left alone");
                    continue;
                }
            };
            found.push(Found {
                segment: Arc::new(Segment::new(header)),
                file,
                hint: hint.filter(|hint| hint.header == header),
                length,
                in_use: false,
                finished: false,
            });
        }
        self.medium.sync_directory(Path::new(DIRECTORY))?;
        found.sort_by_key(|one| one.segment.id);
        Ok(found)
    }

    /// Marks what was removed behind the hint: its mark may not have survived.
    fn replay_removals(&self, removals: &[(Uid, Place)]) -> io::Result<()> {
        let mut counted = HashSet::new();
        for (instance, place) in removals {
            let Some(segment) = self.segments.get(place.segment) else {
                continue;
            };
            match self.find_record(*place) {
                Ok(Header {
                    kind: RecordKind::Instance(key),
                    ..
                }) if key.instance == *instance => {
                    let file = self.segments.file(place.segment)?;
                    write_all_at(&*file, &[&REMOVED], place.offset + STATE_OFFSET)?;
                    file.sync_data()?;
                }
                // What is not what was removed stays.
                Ok(_) => continue,
                // A mark must not hit a payload: only where a record begins.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {}
                // What can't be read now is marked by another opening: a hint may skip it after this one.
                Err(error) => return Err(io::Error::other(error)),
            }
            if counted.insert(*place) {
                segment.state().dead_bytes += span(place.length).unwrap_or(0);
            }
        }
        Ok(())
    }
}

impl Found {
    /// Where the walk begins, and up to where everything is known to be whole.
    fn known(&self) -> (u64, u64) {
        self.hint
            .map_or((FILE_HEADER_LENGTH, FILE_HEADER_LENGTH), |hint| {
                (hint.position, hint.end)
            })
    }

    fn limit(&self) -> u64 {
        match self.hint {
            Some(hint) if hint.sealed => hint.end.min(self.length),
            _ => self.length,
        }
    }

    fn walk(&self) -> Walk<'_> {
        let (start, known) = self.known();
        Walk::new(&*self.file, self.segment.key, start, self.limit()).of_tail(self.segment.kind, known)
    }

    /// Collects the seals behind the hint. Answers whether something is known to be durable in the segment: the
    /// seals that had to be on record before are then.
    fn collect_seals(&self, seals: &mut HashMap<u64, u64>) -> io::Result<bool> {
        let mut in_use = self.known().1 > FILE_HEADER_LENGTH;
        let mut walk = self.walk();
        while let Some((offset, header)) = walk.next()? {
            in_use |= header.durable > FILE_HEADER_LENGTH;
            if header.kind != RecordKind::Seal {
                // Seals are synced before anything else is written.
                in_use = true;
                continue;
            }
            let payload = self.short_payload(offset, &header)?;
            if let Some((segment, end)) = payload.and_then(|payload| decode_seal(&payload)) {
                // Of several, what the first one saw as durable.
                let sealed = seals.entry(segment).or_insert(end);
                *sealed = (*sealed).min(end);
            }
        }
        Ok(in_use)
    }

    /// The payload of a record that isn't an instance, where it is whole.
    fn short_payload(&self, offset: u64, header: &Header) -> io::Result<Option<Vec<u8>>> {
        let mut payload = Vec::new();
        if header.length > LOCATOR_LENGTH_MAX_BYTES as u64 {
            return Ok(None);
        }
        read_exact_at(
            &*self.file,
            &mut payload,
            header.length as usize,
            offset + HEADER_LENGTH,
        )?;
        Ok((XxHash3_64::oneshot(&payload) == header.checksum).then_some(payload))
    }

    /// Finds the end of the segment, and cuts off what a crash left behind it.
    fn settle(&mut self, sealed: Option<u64>, removals: &mut Vec<(Uid, Place)>) -> io::Result<()> {
        let (start, known) = self.known();
        let vouched = known.max(sealed.unwrap_or(0));
        let is_cut = self.length < vouched;
        let is_sealed = sealed.is_some() || self.hint.is_some_and(|hint| hint.sealed);
        // Behind a seal may stand what the medium was too late with.
        let is_left_alone = is_cut || self.finished && !is_sealed;
        if self.hint.is_none() && !is_cut && !(self.finished && self.in_use) {
            // Where nothing vouches for its header, it is written again as it stands: so a torn write changes nothing.
            let mut header = Vec::new();
            read_exact_at(&*self.file, &mut header, FILE_HEADER_LENGTH as usize, 0)?;
            write_all_at(&*self.file, &[&header], 0)?;
            self.file.sync_data()?;
        }
        {
            let mut state = self.segment.state();
            state.end = vouched;
            state.cut = is_cut.then_some(self.length);
            state.sealed = is_sealed;
            if let Some(hint) = self.hint {
                state.dead_bytes = hint.dead_bytes;
                state.first = hint.first;
                state.last = hint.last;
                if start > FILE_HEADER_LENGTH {
                    state.marks.push((hint.last, start));
                }
            }
        }
        let limit = sealed.unwrap_or(u64::MAX).min(self.limit());
        let mut durable = if is_left_alone { u64::MAX } else { known };
        let mut unsure: Vec<(u64, Header)> = Vec::new();
        let mut walk = self.walk();
        while let Some((offset, header)) = walk.next()? {
            let Some(end) = header.span().map(|span| offset + span) else {
                break;
            };
            if offset + HEADER_LENGTH + header.length > limit {
                break;
            }
            if header.durable > durable {
                durable = header.durable;
                for (offset, header) in unsure.extract_if(.., |(offset, _)| *offset < durable) {
                    self.count(offset, &header, removals)?;
                }
            }
            if end <= durable {
                self.count(offset, &header, removals)?;
            } else {
                unsure.push((offset, header));
            }
        }
        if is_left_alone {
            self.tell_if_damaged();
            return Ok(());
        }
        let overreaching = walk.overreaching;
        let mut torn = Vec::new();
        let mut dirty = !unsure.is_empty();
        for (offset, header) in unsure {
            if self.make_sure(offset, &header)? {
                self.count(offset, &header, removals)?;
            } else {
                torn.push(offset);
            }
        }
        let end = self.segment.state().end;
        for offset in torn.into_iter().filter(|offset| *offset < end) {
            // A whole record follows, so this one can't be cut off. It was never acknowledged, or is
            // damaged: either way it must not be seen.
            tracing::warn!(
                segment = self.segment.id,
                offset,
                "a record is damaged and set aside"
            );
            write_all_at(&*self.file, &[&REMOVED], offset + STATE_OFFSET)?;
            dirty = true;
        }
        for offset in overreaching.into_iter().filter(|offset| *offset < end) {
            tracing::warn!(
                segment = self.segment.id,
                offset,
                "a record that was never whole is taken away"
            );
            write_all_at(&*self.file, &[&[0; RECORD_MAGIC.len()]], offset)?;
            dirty = true;
        }
        if self.length != end {
            self.file.truncate(end)?;
            dirty = true;
        }
        if dirty {
            self.file.sync_data()?;
        }
        self.length = end;
        Ok(())
    }

    /// Says where a segment that no crash can have left so doesn't end where it should.
    fn tell_if_damaged(&self) {
        let mut state = self.segment.state();
        let (segment, length, end) = (self.segment.id, self.length, state.end);
        state.damaged = length != end;
        if length < end {
            tracing::error!(
                segment,
                length,
                end,
                "a segment file is shorter than it was: what stood behind is lost, and what is left stays as it is"
            );
        } else if length > end {
            tracing::error!(
                segment,
                length,
                end,
                "a segment file does not end with a record: it is damaged or was shortened, and stays as it is"
            );
        }
    }

    fn count(&self, offset: u64, header: &Header, removals: &mut Vec<(Uid, Place)>) -> io::Result<()> {
        let end = offset + header.span().unwrap_or(HEADER_LENGTH);
        self.segment.state().add(header.sequence, offset, end);
        if let RecordKind::Removal(instance) = header.kind {
            let payload = self.short_payload(offset, header)?;
            let place = payload.and_then(|payload| Place::from_locator(&Locator::new(&payload)));
            removals.extend(place.map(|place| (instance, place)));
        }
        Ok(())
    }

    /// Compares a payload with its checksum, and writes the record again as it stands. The payload of a
    /// removed record may be gone, and nobody asks for it.
    fn make_sure(&self, offset: u64, header: &Header) -> io::Result<bool> {
        const PIECE_BYTES: u64 = 1 << 20;
        let mut hasher = XxHash3_64::new();
        let mut at = 0;
        let mut piece = Vec::new();
        while at < header.length && !header.removed {
            let length = (header.length - at).min(PIECE_BYTES);
            piece.clear();
            let offset = offset + HEADER_LENGTH + at;
            read_exact_at(&*self.file, &mut piece, length as usize, offset)?;
            write_all_at(&*self.file, &[&piece], offset)?;
            hasher.write(&piece);
            at += length;
        }
        let whole = header.removed || hasher.finish() == header.checksum;
        if whole {
            write_all_at(&*self.file, &[&header.encode(self.segment.key)], offset)?;
        }
        Ok(whole)
    }

    fn into_lane(self) -> Lane {
        self.segment.state().open = true;
        Lane::new(self.segment, self.file)
    }
}

/// Whether files are gone that the hint knows.
fn lost_files(hint: &Hint, found: &[Found]) -> bool {
    let there: HashSet<u64> = found.iter().map(|one| one.segment.id).collect();
    let mut is_lost = false;
    for hint in hint
        .segments
        .iter()
        .filter(|hint| !there.contains(&hint.header.id))
    {
        is_lost = true;
        tracing::error!(
            segment = hint.header.id,
            "a segment file is not there: lost, or given back by a compaction just before a crash"
        );
    }
    is_lost
}
