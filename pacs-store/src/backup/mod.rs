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
mod increment;
mod restore;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use pacs_core::{
    Archive, Entry, Error, ErrorKind, InstanceKey, Locator, Result, Sequence, Stored, Timestamp,
};

use self::format::{
    FORMAT, FileRow, HEAD, Head, IncrementRow, Kind, Original, Part, Place, Reached, Row, decode, encode,
    id_text, kind_of, not_a_backup, own_key,
};
pub use self::restore::{BackupVerified, Restored};

const OPERATION: &str = "archive.backup";

/// Instances that are copied at once.
const AT_ONCE: usize = 8;
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

/// What is said of one place, and not of the whole archive.
fn is_damage(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Io
    )
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
