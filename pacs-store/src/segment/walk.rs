//! From record to record through one segment.

use std::io;

use super::record::{HEADER_LENGTH, Header, RECORD_MAGIC, SegmentKind};
use crate::medium::MediumFile;

/// What is read at once while looking for the next header; most records are longer.
const HEADER_WINDOW_BYTES: usize = 4096;
/// What is read at once behind a damaged place.
const SEARCH_WINDOW_BYTES: usize = 256 * 1024;

/// Yields the records of a segment between two offsets, in order. Where something else stands than a
/// record, it looks for the next one: a damaged record hides itself alone.
pub(super) struct Walk<'a> {
    file: &'a dyn MediumFile,
    key: u64,
    /// Where the next record should begin.
    at: u64,
    limit: u64,
    /// A header of zeros at or behind here is where a stream was cut off; nothing follows.
    zero_ends: Option<u64>,
    window: Vec<u8>,
    window_at: u64,
    /// A place that held no record.
    pub(super) damaged: Option<u64>,
    /// Places of headers that hold, of records that reach past the limit. Once the file is longer, what stands behind
    /// would be taken for their payload.
    pub(super) overreaching: Vec<u64>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(file: &'a dyn MediumFile, key: u64, start: u64, limit: u64) -> Self {
        Self {
            file,
            key,
            at: start,
            limit,
            zero_ends: None,
            window: Vec::new(),
            window_at: 0,
            damaged: None,
            overreaching: Vec::new(),
        }
    }

    /// For the tail of a segment after a crash: everything before `known` was whole.
    pub(super) fn of_tail(mut self, kind: SegmentKind, known: u64) -> Self {
        if kind == SegmentKind::Stream {
            self.zero_ends = Some(known);
        }
        self
    }

    /// Where the next record should begin.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// The next record and its offset. Its payload lies before the limit; it has not been looked at.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Header)>> {
        loop {
            if self.at.saturating_add(HEADER_LENGTH) > self.limit {
                return Ok(None);
            }
            let (at, key) = (self.at, self.key);
            let window = self.header_window(at)?;
            let zero = window[..HEADER_LENGTH as usize].iter().all(|byte| *byte == 0);
            if let Some(header) = Header::decode(window, key) {
                let payload_end = (at + HEADER_LENGTH).checked_add(header.length);
                if let (Some(payload_end), Some(span)) = (payload_end, header.span())
                    && payload_end <= self.limit
                {
                    self.at = at + span;
                    return Ok(Some((at, header)));
                }
                self.overreaching.push(at);
            }
            self.damaged.get_or_insert(at);
            if zero && self.zero_ends.is_some_and(|known| at >= known) {
                return Ok(None);
            }
            match self.search(at + 8)? {
                Some(found) => self.at = found,
                None => return Ok(None),
            }
        }
    }

    /// At least a header's length of bytes from `at`, zero behind the end of the file.
    fn header_window(&mut self, at: u64) -> io::Result<&[u8]> {
        let inside = at
            .checked_sub(self.window_at)
            .is_some_and(|skip| skip + HEADER_LENGTH <= self.window.len() as u64);
        if !inside {
            self.window.clear();
            self.window_at = at;
            fill(self.file, &mut self.window, HEADER_WINDOW_BYTES, at)?;
            if (self.window.len() as u64) < HEADER_LENGTH {
                self.window.resize(HEADER_LENGTH as usize, 0);
            }
        }
        Ok(&self.window[(at - self.window_at) as usize..])
    }

    /// The first record at or behind `from`, which is a multiple of 8.
    fn search(&self, mut from: u64) -> io::Result<Option<u64>> {
        let mut window = Vec::new();
        while from + HEADER_LENGTH <= self.limit {
            window.clear();
            fill(self.file, &mut window, SEARCH_WINDOW_BYTES, from)?;
            if (window.len() as u64) < HEADER_LENGTH {
                return Ok(None);
            }
            let last = window.len() - HEADER_LENGTH as usize;
            for skip in (0..=last).step_by(8) {
                if window[skip..].starts_with(&RECORD_MAGIC)
                    && Header::decode(&window[skip..], self.key).is_some()
                {
                    return Ok(Some(from + skip as u64));
                }
            }
            from += (last / 8 * 8 + 8) as u64;
        }
        Ok(None)
    }
}

/// Appends up to `length` bytes; fewer only at the end of the file.
fn fill(file: &dyn MediumFile, into: &mut Vec<u8>, length: usize, offset: u64) -> io::Result<()> {
    while into.len() < length {
        match file.append_from(into, length - into.len(), offset + into.len() as u64) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pacs_core::{Sequence, Timestamp};

    use super::super::record::RecordKind;
    use super::*;
    use crate::medium::{FaultyMedium, Medium, write_all_at};

    #[test]
    fn a_record_that_reaches_past_the_end_is_none_and_hides_no_other() {
        const KEY: u64 = 5;
        let header = |length| Header {
            kind: RecordKind::Seal,
            removed: true,
            length,
            sequence: Sequence(1),
            received: Timestamp(0),
            checksum: 0,
            durable: 0,
        };
        for (length, whole) in [(0, 3), (HEADER_LENGTH, 2), (HEADER_LENGTH + 8, 2), (u64::MAX, 2)] {
            let medium = FaultyMedium::new(1);
            let file = medium.create(Path::new("a")).expect("a disk without faults");
            let records = [header(0), header(length), header(0)].map(|header| header.encode(KEY));
            write_all_at(&*file, &[&records.concat()], 0).expect("a disk without faults");
            let mut walk = Walk::new(&*file, KEY, 0, 3 * HEADER_LENGTH);
            let mut found = 0;
            while walk.next().expect("a disk without faults").is_some() {
                found += 1;
            }
            assert_eq!(found, whole, "{length}");
            let overreaching = if length > HEADER_LENGTH {
                vec![HEADER_LENGTH]
            } else {
                Vec::new()
            };
            assert_eq!(walk.overreaching, overreaching);
        }
    }
}
