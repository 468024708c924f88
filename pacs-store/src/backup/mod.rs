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
    FORMAT, FileRow, HEAD, Head, IncrementRow, Kind, Original, Part, Place, Reached, Row, decode, digits,
    encode, id_text, kind_of, not_a_backup, own_key,
};
pub use self::restore::{BackupVerified, Restored};

const OPERATION: &str = "archive.backup";

/// Entries of a part, and about how many bytes: what is copied again at most after a crash.
const PART_ENTRIES: usize = 1024;
const PART_BYTES: u64 = 1024 * 1024 * 1024;
/// Instances that are copied at once.
const AT_ONCE: usize = 8;
/// What could not be read is tried again with each increment: so many of them are kept in mind.
const UNREADABLE_MAX: usize = 1_000;
/// Of what could not be read, so many are named.
const UNREADABLE_NAMED_MAX: usize = 16;
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
    /// Instances that are missing: the archive could not read them. The first thousand are tried again with each increment; for
    /// others a new backup is begun, when the archive is whole.
    pub unreadable: u64,
    /// The first of them.
    pub first_unreadable: Vec<InstanceKey>,
    files: Vec<FileRow>,
}

impl Increment {
    fn new(row: &IncrementRow) -> Result<Self> {
        let first = row.reached.unreadable.iter().take(UNREADABLE_NAMED_MAX);
        Ok(Self {
            number: row.number,
            at: Timestamp(row.at),
            instances: row.instances,
            bytes: row.bytes,
            removed: row.removed,
            unreadable: row.reached.unreadable.len() as u64 + row.reached.unreadable_beyond,
            first_unreadable: first.map(Original::key).collect::<Result<_>>()?,
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
    /// What an increment that was broken off left behind its last part.
    left: Vec<(InstanceKey, Locator)>,
}

/// An increment of which there are parts.
#[derive(Default)]
struct Begun {
    reached: Reached,
    instances: u64,
    bytes: u64,
    removed: u64,
    parts: Vec<Place>,
}

impl Begun {
    fn add(&mut self, part: Part, place: Place) {
        for row in &part.rows {
            match row {
                Row::Kept { of, .. } => {
                    self.instances += 1;
                    self.bytes = self.bytes.saturating_add(of.length);
                }
                Row::Removed { .. } => self.removed += 1,
            }
        }
        self.reached = part.reached;
        self.parts.push(place);
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
        write_twice(&*place, key, encode(&head)?).await?;
        Ok(Self {
            place,
            id,
            last: None,
            begun: None,
            left: Vec::new(),
        })
    }

    /// Opens the backup that stands in `place`. With the [`mark`](Self::mark) of its last increment this takes as long as there
    /// is something behind it; without one, or where it doesn't hold, as long as a scan of all takes.
    /// Nothing is written.
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
        // Of two that are the same, the first that can be read; where none can, what follows of the increment is copied again.
        let (mut read, mut lost) = (None, None);
        while let Some(entry) = entries.try_next().await? {
            let Entry::Stored(key, stored) = entry else {
                continue;
            };
            if key.instance == HEAD {
                continue;
            }
            let place = Place::of(&stored);
            match kind_of(backup.id, &key) {
                Some(Kind::File) | None => backup.left.push((key, stored.locator)),
                Some(_) if read == Some(key.instance) => backup.is_twin(&stored),
                Some(Kind::Part) if lost.is_some_and(|lost| lost != key.instance) => {}
                Some(kind) => {
                    let met = match kind {
                        Kind::Part => backup.met_part(place).await,
                        _ => backup.met_increment(place).await,
                    };
                    match met {
                        Ok(()) => {
                            backup.left.clear();
                            (read, lost) = (Some(key.instance), None);
                        }
                        Err(error) if error.kind() == ErrorKind::Corrupt => {
                            tracing::error!(%error, "a record of the backup is damaged");
                            lost = Some(key.instance);
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(backup)
    }

    async fn met_part(&mut self, place: Place) -> Result<()> {
        let part = self.record(&place).await?;
        self.begun.get_or_insert_default().add(part, place);
        Ok(())
    }

    async fn met_increment(&mut self, place: Place) -> Result<()> {
        self.last = Some((self.record(&place).await?, place));
        self.begun = None;
        Ok(())
    }

    /// What was read last is there once more.
    fn is_twin(&mut self, twin: &Stored) {
        let place = match (&mut self.begun, &mut self.last) {
            (Some(begun), _) => begun.parts.last_mut(),
            (None, Some((_, place))) => Some(place),
            (None, None) => None,
        };
        if let Some(place) = place {
            *place = place.clone().with_twin(twin);
        }
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
            left: Vec::new(),
        };
        let row: IncrementRow = backup.record(&last).await.ok()?;
        if row.id != id_text(id) {
            return None;
        }
        backup.last = Some((row, last));
        Some(backup)
    }

    async fn at_head(place: &Arc<dyn Archive>) -> Result<Self> {
        let mut entries = place.scan(Sequence(0));
        let mut head = Err(Error::new(ErrorKind::NotFound, OPERATION, "there is no backup"));
        // It is there twice.
        for _ in 0..2 {
            match entries.try_next().await? {
                Some(Entry::Stored(key, stored)) if key.study == HEAD && key.instance == HEAD => {
                    let read = read_all(&**place, &stored.locator).await;
                    head = read.and_then(|read| decode::<Head>(&read));
                }
                Some(_) if head.is_err() => {
                    let why =
                        "this is no backup: it is an archive of something else, or its beginning is lost";
                    return Err(Error::new(ErrorKind::Mismatch, OPERATION, why));
                }
                Some(_) => {}
                None => break,
            }
            if head.is_ok() {
                break;
            }
        }
        let head = head?;
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
            left: Vec::new(),
        })
    }

    /// What tells it from other backups.
    pub fn id(&self) -> u128 {
        self.id
    }

    /// Where its last increment is; without one, no more than which backup it is.
    pub fn mark(&self) -> Mark {
        let place = self
            .last
            .as_ref()
            .and_then(|(_, place)| serde_json::to_string(place).ok());
        Mark(format!("{} {}\n", id_text(self.id), place.unwrap_or_default()))
    }

    /// The last increment.
    ///
    /// # Errors
    /// `Corrupt` when it can't be understood.
    pub fn last(&self) -> Result<Option<Increment>> {
        self.last.as_ref().map(|(row, _)| Increment::new(row)).transpose()
    }

    /// Every increment that can be read, the first one first: where a number is missing, its record is lost.
    ///
    /// # Errors
    /// What the archive says.
    pub async fn increments(&self) -> Result<Vec<Increment>> {
        let rows = self.rows().await?;
        rows.iter().map(|(row, _)| Increment::new(row)).collect()
    }

    /// The records of all increments, the first one first. Each leads to the one before; where one is damaged, a scan finds the
    /// others.
    async fn rows(&self) -> Result<Vec<(IncrementRow, Place)>> {
        let mut rows = Vec::new();
        let mut next = self.last.clone();
        while let Some((row, place)) = next {
            next = match &row.previous {
                None => None,
                Some(previous) => match self.record::<IncrementRow>(previous).await {
                    Ok(before) => Some((before, previous.clone())),
                    Err(error) if is_damage(&error) => return self.scanned_rows().await,
                    Err(error) => return Err(error),
                },
            };
            rows.push((row, place));
        }
        rows.reverse();
        Ok(rows)
    }

    async fn scanned_rows(&self) -> Result<Vec<(IncrementRow, Place)>> {
        let mut rows: Vec<(IncrementRow, Place)> = Vec::new();
        for place in self.scanned(Kind::Increment).await? {
            match self.record::<IncrementRow>(&place).await {
                Ok(row) => rows.push((row, place)),
                Err(error) => self.check_damage(error).await?,
            }
        }
        Ok(rows)
    }

    /// Where everything of a kind is, in its order.
    async fn scanned(&self, kind: Kind) -> Result<Vec<Place>> {
        let mut found: Vec<Place> = Vec::new();
        let mut last = None;
        let mut entries = self.place.scan(Sequence(0));
        while let Some(entry) = entries.try_next().await? {
            let Entry::Stored(key, stored) = entry else {
                continue;
            };
            if kind_of(self.id, &key) != Some(kind) {
                continue;
            }
            match found.last_mut() {
                Some(place) if last == Some(key.instance) => *place = place.clone().with_twin(&stored),
                _ => found.push(Place::of(&stored)),
            }
            last = Some(key.instance);
        }
        Ok(found)
    }

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

    async fn write(&self, kind: Kind, bytes: Vec<u8>) -> Result<Place> {
        write_twice(&*self.place, own_key(self.id, kind)?, bytes).await
    }

    /// A record of the backup's own.
    async fn record<T: serde::de::DeserializeOwned>(&self, place: &Place) -> Result<T> {
        let mut failed = not_a_backup("it is nowhere");
        for locator in place.locators()? {
            let read = read_all(&*self.place, &locator).await;
            match read.and_then(|read| decode(&read)) {
                Ok(record) => return Ok(record),
                Err(error) => failed = error,
            }
        }
        Err(failed)
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

/// What is said of one place, and not of the whole archive.
fn is_damage(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Io
    )
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

/// One of two is enough to be read.
async fn write_twice(place: &dyn Archive, key: InstanceKey, bytes: Vec<u8>) -> Result<Place> {
    let bytes = Bytes::from(bytes);
    let mut written = Vec::with_capacity(2);
    for _ in 0..2 {
        let mut writer = place.begin().await?;
        writer.write(bytes.clone()).await?;
        written.push(writer.commit(key).await?);
    }
    Ok(Place::of(&written[0]).with_twin(&written[1]))
}

async fn read_all(place: &dyn Archive, locator: &Locator) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut pieces = place.read(locator, 0..RECORD_MAX_BYTES);
    while let Some(piece) = pieces.try_next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}
