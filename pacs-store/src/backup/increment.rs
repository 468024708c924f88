//! Making an increment.

use aws_lc_rs::digest;
use futures::stream;
use futures::{StreamExt, TryStreamExt};
use pacs_core::{
    Archive, Entry, Error, ErrorKind, InstanceKey, Locator, Result, Sequence, Stored, Timestamp,
};

use super::format::{
    FileRow, IncrementRow, Kind, Original, Part, Place, Reached, Row, digits, encode, id_text, own_key,
};
use super::{AT_ONCE, Backup, BackupFile, Increment, OPERATION, check_order, is_damage};

/// Entries of a part, and about how many bytes: what is copied again at most after a crash.
const PART_ENTRIES: usize = 1024;
const PART_BYTES: u64 = 1024 * 1024 * 1024;
/// What could not be read is tried again with each increment: so many of them are kept in mind.
const UNREADABLE_MAX: usize = 1_000;

impl Backup {
    /// Copies what `source` took since the last increment, and `files` where they have changed. What was acknowledged before
    /// it was called is in it when it returns, but for what it counts as unreadable and what no scan of `source` tells of.
    ///
    /// An archive that is compacted drops removals that an index knows of: the backup does not hear of those that it was
    /// not told before.
    ///
    /// # Errors
    /// - `Mismatch` when the archive is another one: it has less in its order than the backup knows of, or something else there.
    /// - `Unsupported` when `source` can't be scanned in its order.
    /// - What either archive says. Then it goes on with the next call.
    pub async fn increment(&mut self, source: &dyn Archive, files: &[BackupFile]) -> Result<Increment> {
        check_order(source)?;
        let at = Timestamp::now();
        let end = source.last_sequence();
        let mut reached = self.reached();
        check_same(source, &reached).await?;
        while let Some((key, locator)) = self.left.pop() {
            self.place.remove(&key.instance, &locator).await?;
        }
        let mut entries = Vec::new();
        for original in std::mem::take(&mut reached.unreadable) {
            entries.push(Entry::Stored(original.key()?, original.stored()?));
        }
        loop {
            let after = Sequence(reached.position);
            // A scan that goes on would hold up who mends what is read.
            entries.extend(next_entries(source, after, end).await?);
            if entries.is_empty() {
                break;
            }
            let part = self
                .part(source, std::mem::take(&mut entries), &mut reached)
                .await?;
            self.write_part(part).await?;
        }
        if end.is_some() {
            self.removed_meanwhile(source, &mut reached).await?;
        }
        let files = self.files(files).await?;
        let begun = self.begun.get_or_insert_default();
        let row = IncrementRow {
            id: id_text(self.id),
            number: self.last.as_ref().map_or(0, |(last, _)| last.number) + 1,
            at: at.0,
            reached,
            instances: begun.instances,
            bytes: begun.bytes,
            removed: begun.removed,
            parts: begun.parts.clone(),
            files,
            previous: self.last.as_ref().map(|(_, place)| place.clone()),
        };
        let increment = Increment::new(&row)?;
        let place = self.write(Kind::Increment, encode(&row)?).await?;
        self.place.indexed(Sequence(place.sequence)).await?;
        self.last = Some((row, place));
        self.begun = None;
        Ok(increment)
    }

    /// How far in the archive's order it is.
    fn reached(&self) -> Reached {
        match (&self.begun, &self.last) {
            (Some(begun), _) => begun.reached.clone(),
            (None, Some((last, _))) => last.reached.clone(),
            (None, None) => Reached::default(),
        }
    }

    async fn write_part(&mut self, part: Part) -> Result<()> {
        let place = self.write(Kind::Part, encode(&part)?).await?;
        // So that the next opening looks at what follows alone.
        self.place.indexed(Sequence(place.sequence)).await?;
        self.begun.get_or_insert_default().add(part, place);
        Ok(())
    }

    /// Notes what was removed since the increment began: a later version of what it has may have gone before it was copied,
    /// and then the earlier one has gone too. The next one hears of it once more.
    async fn removed_meanwhile(&mut self, source: &dyn Archive, reached: &mut Reached) -> Result<()> {
        let mut entries = source.scan(Sequence(reached.position)).fuse();
        loop {
            let mut rows = Vec::new();
            while rows.len() < PART_ENTRIES
                && let Some(entry) = entries.try_next().await?
            {
                if let Entry::Removed {
                    locator, sequence, ..
                } = &entry
                {
                    rows.push(removed(locator, *sequence, reached));
                }
            }
            if rows.is_empty() {
                return Ok(());
            }
            let reached = reached.clone();
            self.write_part(Part { reached, rows }).await?;
        }
    }

    /// Copies what was kept; what can't be read now is left for later.
    async fn part(&self, source: &dyn Archive, entries: Vec<Entry>, reached: &mut Reached) -> Result<Part> {
        let mut rows = Vec::with_capacity(entries.len());
        let mut copied = stream::iter(entries)
            .map(|entry| async move {
                let copied = match &entry {
                    Entry::Stored(key, stored) => self.copy(source, key, stored).await?,
                    Entry::Removed { .. } => None,
                };
                Ok::<_, Error>((entry, copied))
            })
            .buffered(AT_ONCE);
        while let Some((entry, copied)) = copied.try_next().await? {
            reached.position = reached.position.max(entry.sequence().0);
            match (entry, copied) {
                (Entry::Stored(key, stored), Some(place)) => {
                    let of = Original::new(&key, &stored);
                    if reached
                        .last
                        .as_ref()
                        .is_none_or(|last| last.sequence < of.sequence)
                    {
                        reached.last = Some(of.clone());
                    }
                    rows.push(Row::Kept { of, place });
                }
                (Entry::Stored(key, stored), None) => match reached.unreadable.len() < UNREADABLE_MAX {
                    true => reached.unreadable.push(Original::new(&key, &stored)),
                    false => reached.unreadable_beyond += 1,
                },
                (
                    Entry::Removed {
                        locator, sequence, ..
                    },
                    _,
                ) => {
                    rows.push(removed(&locator, sequence, reached));
                }
            }
        }
        Ok(Part {
            reached: reached.clone(),
            rows,
        })
    }

    /// None where it can't be read now. That may be because it was removed meanwhile: a scan will tell.
    async fn copy(&self, source: &dyn Archive, key: &InstanceKey, stored: &Stored) -> Result<Option<Place>> {
        let mut writer = self.place.begin().await?;
        let mut pieces = source.read(&stored.locator, 0..u64::MAX);
        let mut length = 0;
        let unread = loop {
            match pieces.next().await {
                Some(Ok(piece)) => {
                    length += piece.len() as u64;
                    writer.write(piece).await?;
                }
                Some(Err(error)) => break Some(error),
                None if length == stored.length => break None,
                None => {
                    let why = "it is not as long as it was";
                    break Some(Error::new(ErrorKind::Corrupt, "archive.read", why));
                }
            }
        };
        let Some(error) = unread else {
            return writer.commit(*key).await.map(|stored| Some(Place::of(&stored)));
        };
        writer.abort().await?;
        match is_damage(&error) {
            true => {
                tracing::warn!(instance = %key.instance, %error, "an instance can't be copied into the backup now");
                Ok(None)
            }
            false => Err(error),
        }
    }

    /// What an increment says of its files: where one is as it was before, the copy of before.
    async fn files(&self, files: &[BackupFile]) -> Result<Vec<FileRow>> {
        let known = self.last.as_ref().map_or(&[][..], |(last, _)| &last.files);
        let mut rows = Vec::with_capacity(files.len());
        for file in files {
            let mut hashing = Hashing::new();
            let mut pieces = (file.read)();
            while let Some(piece) = pieces.try_next().await? {
                hashing.push(&piece);
            }
            let sha256 = hashing.finish();
            if let Some(row) = known
                .iter()
                .find(|row| row.name == file.name && row.sha256 == sha256)
            {
                rows.push(row.clone());
                continue;
            }
            let mut writer = self.place.begin().await?;
            let mut hashing = Hashing::new();
            let mut pieces = (file.read)();
            while let Some(piece) = pieces.try_next().await? {
                hashing.push(&piece);
                writer.write(piece).await?;
            }
            let stored = writer.commit(own_key(self.id, Kind::File)?).await?;
            rows.push(FileRow {
                name: file.name.clone(),
                sha256: hashing.finish(),
                place: Place::of(&stored),
            });
        }
        Ok(rows)
    }
}

/// A row, after which nobody waits for what was removed.
fn removed(locator: &Locator, sequence: Sequence, reached: &mut Reached) -> Row {
    let from = digits(locator);
    reached
        .unreadable
        .retain(|original| original.from != from || original.sequence > sequence.0);
    Row::Removed {
        from,
        sequence: sequence.0,
    }
}

/// What comes after `after` and not after `end`, as much as makes a part.
async fn next_entries(source: &dyn Archive, after: Sequence, end: Option<Sequence>) -> Result<Vec<Entry>> {
    let mut entries = source.scan(after);
    let (mut next, mut bytes) = (Vec::new(), 0_u64);
    while next.len() < PART_ENTRIES && bytes < PART_BYTES {
        match entries.try_next().await? {
            Some(entry) if end.is_none_or(|end| entry.sequence() <= end) => {
                if let Entry::Stored(_, stored) = &entry {
                    bytes = bytes.saturating_add(stored.length);
                }
                next.push(entry);
            }
            _ => break,
        }
    }
    Ok(next)
}

/// That the archive has what the backup copied last where it was, unless it was removed.
async fn check_same(source: &dyn Archive, reached: &Reached) -> Result<()> {
    let mut is_same = source
        .last_sequence()
        .is_none_or(|last| last.0 >= reached.position);
    if let Some(last) = &reached.last {
        let mut entries = source.scan(Sequence(last.sequence.saturating_sub(1)));
        if let Some(entry) = entries.try_next().await? {
            is_same &= entry.sequence().0 > last.sequence || last.is(&entry);
        }
    }
    match is_same {
        true => Ok(()),
        false => {
            let why = "the archive is not the one that the backup is of, or is older than its backup";
            Err(Error::new(ErrorKind::Mismatch, OPERATION, why))
        }
    }
}

struct Hashing(digest::Context);

impl Hashing {
    fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    fn push(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    fn finish(self) -> String {
        self.0
            .finish()
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}
