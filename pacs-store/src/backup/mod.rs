//! [`Backup`]: what an archive has kept, so that it can be had again as it was at any of many moments.
//!
//! A backup stands in an archive of its own, in which nothing is ever removed: on another disk, or in an object store. Each
//! [`increment`](Backup::increment) copies what the archive took since the one before, and notes what was removed. So the
//! archive as it was at an increment is what was copied until then, but for what was removed until then, and
//! [`restore`](Backup::restore) writes that into an empty archive. Files that the archive can't tell again go along.
//!
//! ```text
//! head           a number that was drawn when the backup was begun
//! instances      as the archive had them, byte for byte: encrypted, where that is an archive that is encrypted
//! part           which of them is what: instance, place in the archive's order, place in the backup; what was removed
//! increment      its parts, its files, and which increment was before: with it, and not before, all that is there
//! ```
//!
//! An increment that is broken off goes on where its last part ended. The backup is of one archive: a restored archive has
//! another order, and gets a backup of its own.
//!
//! Beside `verify` of the archive that it stands in, [`verify`](Backup::verify) tells that each increment has all it names.

mod format;
mod restore;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use pacs_core::{
    Archive, Entry, Error, ErrorKind, InstanceKey, Locator, Result, Sequence, Stored, Timestamp,
};

use self::format::{
    FORMAT, FileRow, HEAD, Head, IncrementRow, Kind, Original, Part, Place, Row, decode, digits, encode,
    id_text, kind_of, not_a_backup, own_key,
};
pub use self::restore::{BackupVerified, Restored};

const OPERATION: &str = "archive.backup";

/// Entries of a part: what is copied again at most after a crash.
const PART_ENTRIES: usize = 1024;
/// Instances that are copied at once.
const AT_ONCE: usize = 8;
/// What could not be read is tried again with each increment: so many of them are kept in mind. With more, it is the archive
/// that is to be repaired.
const UNREADABLE_MAX: usize = 10_000;
/// No record of the backup's own is longer.
const RECORD_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// One moment that an archive can be restored to.
#[derive(Clone, PartialEq, Eq)]
pub struct Increment {
    /// The first is 1.
    pub number: u64,
    /// What was acknowledged before is in it.
    pub at: Timestamp,
    /// Instances that were copied since the increment before.
    pub instances: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Removals since the increment before.
    pub removed: u64,
    /// Instances that are missing: the archive could not read them. They are tried again with each increment.
    pub unreadable: Vec<InstanceKey>,
    files: Vec<FileRow>,
}

impl Increment {
    fn new(row: &IncrementRow) -> Result<Self> {
        Ok(Self {
            number: row.number,
            at: Timestamp(row.at),
            instances: row.instances,
            bytes: row.bytes,
            removed: row.removed,
            unreadable: row.unreadable.iter().map(Original::key).collect::<Result<_>>()?,
            files: row.files.clone(),
        })
    }

    /// The names of its files.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.name.as_str())
    }
}

impl fmt::Debug for Increment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Increment")
            .field("number", &self.number)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// A file that goes along with an increment.
pub struct BackupFile {
    /// Its name in the backup.
    pub name: String,
    /// Its bytes; it is called twice where they have changed.
    pub read: Box<dyn Fn() -> BoxStream<'static, Result<Bytes>> + Send + Sync>,
}

impl fmt::Debug for BackupFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupFile")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What an archive has kept, increment by increment, in an archive of its own.
pub struct Backup {
    place: Arc<dyn Archive>,
    id: u128,
    last: Option<(IncrementRow, Place)>,
    begun: Option<Begun>,
}

/// An increment of which there are parts.
struct Begun {
    position: u64,
    unreadable: Vec<Original>,
    instances: u64,
    bytes: u64,
    removed: u64,
    parts: Vec<Place>,
}

impl Begun {
    fn with(before: Option<Self>, part: Part, place: Place) -> Self {
        let mut begun = before.unwrap_or(Self {
            position: 0,
            unreadable: Vec::new(),
            instances: 0,
            bytes: 0,
            removed: 0,
            parts: Vec::new(),
        });
        for row in &part.rows {
            match row {
                Row::Kept { of, .. } => {
                    begun.instances += 1;
                    begun.bytes = begun.bytes.saturating_add(of.length);
                }
                Row::Removed { .. } => begun.removed += 1,
            }
        }
        begun.position = part.position;
        begun.unreadable = part.unreadable;
        begun.parts.push(place);
        begun
    }
}

impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backup")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

/// Where the last increment is, for [`Backup::open`]: text of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark(pub String);

impl Backup {
    /// Begins a backup in an archive that is empty; `id` tells it from others, and nobody can guess it.
    ///
    /// # Errors
    /// `Mismatch` when there is something; `Unsupported` when the archive can't be scanned in its order.
    pub async fn begin(place: Arc<dyn Archive>, id: u128) -> Result<Self> {
        check_order(&*place)?;
        if place.scan(Sequence(0)).try_next().await?.is_some() {
            let why = "what should become a backup is not empty";
            return Err(Error::new(ErrorKind::Mismatch, OPERATION, why));
        }
        let head = Head {
            format: FORMAT,
            id: id_text(id),
        };
        let key = InstanceKey {
            study: HEAD,
            series: HEAD,
            instance: HEAD,
        };
        write(&*place, key, encode(&head)?).await?;
        Ok(Self {
            place,
            id,
            last: None,
            begun: None,
        })
    }

    /// Opens the backup that stands in `place`. With the [`mark`](Self::mark) of its last increment this takes as long as there
    /// is something behind it; without one, or where it doesn't hold, as long as a scan of all takes.
    ///
    /// Removes what an increment that was broken off has left behind its last part.
    ///
    /// # Errors
    /// `NotFound` when there is nothing, `Mismatch` when it is something else, `Unsupported` when it is of a later version;
    /// what the archive says.
    pub async fn open(place: Arc<dyn Archive>, mark: Option<&Mark>) -> Result<Self> {
        check_order(&*place)?;
        let mut backup = match Self::at_mark(&place, mark).await {
            Some(backup) => backup,
            None => Self::at_head(&place).await?,
        };
        let after = match &backup.last {
            Some((_, place)) => Sequence(place.sequence),
            None => Sequence(0),
        };
        let mut entries = place.scan(after);
        let mut left: Vec<(InstanceKey, Locator)> = Vec::new();
        while let Some(entry) = entries.try_next().await? {
            let Entry::Stored(key, stored) = entry else {
                continue;
            };
            if key.instance == HEAD {
                continue;
            }
            match kind_of(backup.id, &key) {
                Some(Kind::Part) => {
                    let part = backup.record(&stored.locator).await?;
                    backup.begun = Some(Begun::with(backup.begun.take(), part, Place::of(&stored)));
                    left.clear();
                }
                Some(Kind::Increment) => {
                    backup.last = Some((backup.record(&stored.locator).await?, Place::of(&stored)));
                    backup.begun = None;
                    left.clear();
                }
                Some(Kind::File) | None => left.push((key, stored.locator)),
            }
        }
        for (key, locator) in left {
            place.remove(&key.instance, &locator).await?;
        }
        Ok(backup)
    }

    /// None where the mark does not lead to an increment.
    async fn at_mark(place: &Arc<dyn Archive>, mark: Option<&Mark>) -> Option<Self> {
        let (id, last) = mark?.0.trim().split_once(' ')?;
        let id = u128::from_str_radix(id, 16).ok()?;
        let last: Place = decode(last.as_bytes()).ok()?;
        let mut backup = Self {
            place: Arc::clone(place),
            id,
            last: None,
            begun: None,
        };
        let row: IncrementRow = backup.record(&last.locator().ok()?).await.ok()?;
        if row.id != id_text(id) {
            return None;
        }
        backup.last = Some((row, last));
        Some(backup)
    }

    async fn at_head(place: &Arc<dyn Archive>) -> Result<Self> {
        let Some(first) = place.scan(Sequence(0)).try_next().await? else {
            return Err(Error::new(ErrorKind::NotFound, OPERATION, "there is no backup"));
        };
        let locator = match first {
            Entry::Stored(key, stored) if key.study == HEAD && key.instance == HEAD => stored.locator,
            _ => {
                let why = "this is no backup: it is an archive of something else";
                return Err(Error::new(ErrorKind::Mismatch, OPERATION, why));
            }
        };
        let head: Head = decode(&read_all(&**place, &locator).await?)?;
        if head.format != FORMAT {
            let why = "the backup is of another version of this program";
            return Err(Error::new(ErrorKind::Unsupported, OPERATION, why));
        }
        let id = u128::from_str_radix(&head.id, 16).map_err(|_| not_a_backup("its number is none"))?;
        Ok(Self {
            place: Arc::clone(place),
            id,
            last: None,
            begun: None,
        })
    }

    /// What tells it from other backups.
    pub fn id(&self) -> u128 {
        self.id
    }

    /// Where its last increment is.
    pub fn mark(&self) -> Option<Mark> {
        let (_, place) = self.last.as_ref()?;
        let place = serde_json::to_string(place).ok()?;
        Some(Mark(format!("{} {place}", id_text(self.id))))
    }

    /// The last increment.
    ///
    /// # Errors
    /// `Corrupt` when it can't be understood.
    pub fn last(&self) -> Result<Option<Increment>> {
        self.last.as_ref().map(|(row, _)| Increment::new(row)).transpose()
    }

    /// Every increment, the first one first.
    ///
    /// # Errors
    /// What the archive says; `Corrupt` when one can't be understood.
    pub async fn increments(&self) -> Result<Vec<Increment>> {
        let mut increments = Vec::new();
        let mut next = self.last.as_ref().map(|(row, _)| row.clone());
        while let Some(row) = next {
            increments.push(Increment::new(&row)?);
            next = self.before(&row).await?;
        }
        increments.reverse();
        Ok(increments)
    }

    async fn before(&self, row: &IncrementRow) -> Result<Option<IncrementRow>> {
        let Some(previous) = &row.previous else {
            return Ok(None);
        };
        let previous: IncrementRow = self.record(&previous.locator()?).await?;
        match previous.number + 1 == row.number && previous.id == id_text(self.id) {
            true => Ok(Some(previous)),
            false => Err(not_a_backup("its increments are out of order")),
        }
    }

    /// Copies what `source` took since the last increment, and `files` where they have changed. What was acknowledged before
    /// it was called is in it when it returns, but for what it names as unreadable.
    ///
    /// An archive that is compacted drops removals that an index knows of: the backup does not hear of those that it was
    /// not told before.
    ///
    /// # Errors
    /// - `Mismatch` when the archive has less in its order than the backup knows of: it is another one.
    /// - `Unsupported` when `source` can't be scanned in its order.
    /// - `Corrupt` when more can't be read than is to be expected of a medium that holds; what either archive says. Then it
    ///   goes on with the next call.
    pub async fn increment(&mut self, source: &dyn Archive, files: &[BackupFile]) -> Result<Increment> {
        check_order(source)?;
        let at = Timestamp::now();
        let last_sequence = source.last_sequence();
        let mut position = self.position();
        if last_sequence.is_some_and(|last| last < position) {
            let why =
                "the archive is not the one that the backup is of: it has less than the backup knows of";
            return Err(Error::new(ErrorKind::Mismatch, OPERATION, why));
        }
        let is_wanted = |entry: &Result<Entry>| match (entry, last_sequence) {
            (Ok(entry), Some(last)) => entry.sequence() <= last,
            _ => true,
        };
        let entries = source
            .scan(position)
            .take_while(|entry| std::future::ready(is_wanted(entry)));
        let mut chunks = entries.chunks(PART_ENTRIES);
        let mut again = match self.begun {
            // They were tried.
            Some(_) => Vec::new(),
            None => self.unreadable().to_vec(),
        };
        loop {
            let chunk = chunks.next().await;
            if chunk.is_none() && again.is_empty() {
                break;
            }
            let mut entries: Vec<Result<Entry>> = Vec::new();
            for original in std::mem::take(&mut again) {
                entries.push(Ok(Entry::Stored(original.key()?, original.stored()?)));
            }
            entries.extend(chunk.into_iter().flatten());
            let part = self.part(source, entries, &mut position).await?;
            let place = self.write(Kind::Part, encode(&part)?).await?;
            self.begun = Some(Begun::with(self.begun.take(), part, place));
        }
        let files = self.files(files).await?;
        let last = self.last.as_ref();
        let begun = self.begun.as_ref();
        let row = IncrementRow {
            id: id_text(self.id),
            number: last.map_or(0, |(last, _)| last.number) + 1,
            at: at.0,
            position: position.0,
            instances: begun.map_or(0, |begun| begun.instances),
            bytes: begun.map_or(0, |begun| begun.bytes),
            removed: begun.map_or(0, |begun| begun.removed),
            unreadable: self.unreadable().to_vec(),
            parts: begun.map_or_else(Vec::new, |begun| begun.parts.clone()),
            files,
            previous: last.map(|(_, place)| place.clone()),
        };
        let increment = Increment::new(&row)?;
        let place = self.write(Kind::Increment, encode(&row)?).await?;
        self.last = Some((row, place));
        self.begun = None;
        Ok(increment)
    }

    /// How far in the archive's order it is.
    fn position(&self) -> Sequence {
        let of_last = self.last.as_ref().map_or(0, |(last, _)| last.position);
        Sequence(self.begun.as_ref().map_or(of_last, |begun| begun.position))
    }

    fn unreadable(&self) -> &[Original] {
        match (&self.begun, &self.last) {
            (Some(begun), _) => &begun.unreadable,
            (None, Some((last, _))) => &last.unreadable,
            (None, None) => &[],
        }
    }

    /// Copies what was kept; what can't be read now is left for later.
    async fn part(
        &self,
        source: &dyn Archive,
        entries: Vec<Result<Entry>>,
        position: &mut Sequence,
    ) -> Result<Part> {
        let mut rows = Vec::with_capacity(entries.len());
        let mut unreadable = match &self.begun {
            Some(begun) => begun.unreadable.clone(),
            None => Vec::new(),
        };
        let mut copied = stream::iter(entries)
            .map(|entry| async move {
                let entry = entry?;
                let copied = match &entry {
                    Entry::Stored(key, stored) => Some(self.copy(source, key, stored).await?),
                    Entry::Removed { .. } => None,
                };
                Ok::<_, Error>((entry, copied))
            })
            .buffered(AT_ONCE);
        while let Some((entry, copied)) = copied.try_next().await? {
            *position = (*position).max(entry.sequence());
            match (entry, copied) {
                (Entry::Stored(key, stored), Some(Copied::Is(place))) => rows.push(Row::Kept {
                    of: Original::new(&key, &stored),
                    place,
                }),
                (Entry::Stored(key, stored), Some(Copied::Later)) => {
                    if unreadable.len() >= UNREADABLE_MAX {
                        let why = "too much of the archive can't be read: it is to be repaired first";
                        return Err(Error::new(ErrorKind::Corrupt, OPERATION, why));
                    }
                    unreadable.push(Original::new(&key, &stored));
                }
                // Removed meanwhile.
                (Entry::Stored(..), _) => {}
                (
                    Entry::Removed {
                        locator, sequence, ..
                    },
                    _,
                ) => rows.push(Row::Removed {
                    from: digits(&locator),
                    sequence: sequence.0,
                }),
            }
        }
        Ok(Part {
            position: position.0,
            unreadable,
            rows,
        })
    }

    async fn copy(&self, source: &dyn Archive, key: &InstanceKey, stored: &Stored) -> Result<Copied> {
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
            return writer
                .commit(*key)
                .await
                .map(|stored| Copied::Is(Place::of(&stored)));
        };
        writer.abort().await?;
        match error.kind() {
            ErrorKind::NotFound => Ok(Copied::Gone),
            ErrorKind::Corrupt | ErrorKind::Io => {
                tracing::error!(instance = %key.instance, %error, "an instance can't be read and is not in the backup");
                Ok(Copied::Later)
            }
            _ => Err(error),
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

    async fn write(&self, kind: Kind, bytes: Vec<u8>) -> Result<Place> {
        write(&*self.place, own_key(self.id, kind)?, bytes).await
    }

    /// A record of the backup's own.
    async fn record<T: serde::de::DeserializeOwned>(&self, locator: &Locator) -> Result<T> {
        decode(&read_all(&*self.place, locator).await?)
    }
}

enum Copied {
    Is(Place),
    /// It can't be read now.
    Later,
    /// It was removed; a scan will tell.
    Gone,
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

fn check_order(archive: &dyn Archive) -> Result<()> {
    match archive.capability().ordered_scan {
        true => Ok(()),
        false => {
            let why = "there are backups of archives, and in archives, that can be scanned in their order";
            Err(Error::new(ErrorKind::Unsupported, OPERATION, why))
        }
    }
}

async fn write(place: &dyn Archive, key: InstanceKey, bytes: Vec<u8>) -> Result<Place> {
    let mut writer = place.begin().await?;
    writer.write(Bytes::from(bytes)).await?;
    Ok(Place::of(&writer.commit(key).await?))
}

async fn read_all(place: &dyn Archive, locator: &Locator) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut pieces = place.read(locator, 0..RECORD_MAX_BYTES);
    while let Some(piece) = pieces.try_next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}
