//! Having again what a backup has, and telling whether it has it.

use std::collections::{HashMap, HashSet};
use std::task::Poll;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered};
use futures::{FutureExt, StreamExt, TryStreamExt, poll, stream};
use pacs_core::limits::DAMAGED_NAMED_MAX;
use pacs_core::{
    Archive, ArchiveWriter, Error, ErrorKind, InstanceKey, Result, Sequence, Stored, Timestamp, Uid,
};

use super::format::{IncrementRow, Kind, Original, Part, Place, Row};
use super::{AT_ONCE, Backup, Increment, OPERATION, is_damage};

/// Commits that are waited for at the same time: no two of them are of versions of one instance.
const IN_FLIGHT: usize = 64;

/// What was restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Instances that were written, each version counted.
    pub instances: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Instances that the backup does not give any more.
    pub damaged: u64,
    /// The first of them.
    pub first_damaged: Vec<InstanceKey>,
    /// Records of what instances there are, and what was removed, that the backup does not give: what they told of is missing, up
    /// to a thousand entries each.
    pub lost_records: u64,
    /// Names of files that the backup does not give any more.
    pub damaged_files: Vec<String>,
}

/// What a look at all that a backup names has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupVerified {
    /// Instances that are whole, each version counted, also those that were removed later.
    pub whole: u64,
    /// Instances that are damaged or missing.
    pub damaged: u64,
    /// The first of them.
    pub first_damaged: Vec<InstanceKey>,
    /// Names of files that are.
    pub damaged_files: Vec<String>,
    /// As [`Restored::lost_records`].
    pub lost_records: u64,
}

impl Backup {
    /// The last increment that was begun no later than `at` milliseconds after 1970; with `None`, the last one.
    ///
    /// # Errors
    /// As [`increments`](Self::increments).
    pub async fn increment_at(&self, at: Option<Timestamp>) -> Result<Option<Increment>> {
        let increments = self.increments().await?;
        let is_wanted = |increment: &Increment| at.is_none_or(|at| increment.at <= at);
        Ok(increments.into_iter().rev().find(is_wanted))
    }

    /// Writes into `target`, which is empty, what the archive had kept at an increment, in the order in which it came. What the
    /// backup does not give any more is counted and left out. `progress` hears how many instances were written.
    ///
    /// Memory follows the number of removals, some 100 bytes for each.
    ///
    /// # Errors
    /// `Mismatch` when `target` is not empty, `NotFound` when there is no such increment; what the archives say, but of what
    /// is damaged.
    pub async fn restore(
        &self,
        number: u64,
        target: &dyn Archive,
        mut progress: impl FnMut(u64),
    ) -> Result<Restored> {
        if target.scan(Sequence(0)).try_next().await?.is_some() {
            let why = "what should be restored into is not empty";
            return Err(Error::new(ErrorKind::Mismatch, OPERATION, why));
        }
        let rows = self.rows().await?;
        let parts = parts_until(self, &rows, number).await?;
        drop(rows);

        // What was removed later is not written, and what was read late is written in its turn.
        let mut removed = HashMap::new();
        let mut late = Vec::new();
        let mut passed = 0;
        for part in &parts {
            let part = self.part_at(part).await?;
            for row in part.into_iter().flat_map(|part| part.rows) {
                match row {
                    Row::Removed { from, sequence } => {
                        removed.insert(from, sequence);
                    }
                    Row::Kept { of, place } if of.sequence < passed => late.push((of, place)),
                    Row::Kept { of, .. } => passed = of.sequence,
                }
            }
        }
        let is_removed = |of: &Original| {
            removed
                .get(&of.from)
                .is_some_and(|removed| *removed > of.sequence)
        };
        late.sort_by_key(|(of, _)| of.sequence);
        let mut late = late.into_iter().peekable();

        let mut writing = Writing {
            restored: Restored::default(),
            of: HashSet::new(),
            commits: FuturesUnordered::new(),
        };
        let mut passed = 0;
        for part in &parts {
            let Some(part) = self.part_at(part).await? else {
                writing.restored.lost_records += 1;
                continue;
            };
            let mut wanted = Vec::with_capacity(part.rows.len());
            for row in part.rows {
                if let Row::Kept { of, place } = row
                    && of.sequence >= passed
                {
                    passed = of.sequence;
                    while let Some(late) = late.next_if(|(late, _)| late.sequence < passed) {
                        wanted.push(late);
                    }
                    wanted.push((of, place));
                }
            }
            wanted.retain(|(of, _)| !is_removed(of));
            self.write_all(wanted, target, &mut writing).await?;
            progress(writing.restored.instances);
        }
        let rest: Vec<_> = late.filter(|(of, _)| !is_removed(of)).collect();
        self.write_all(rest, target, &mut writing).await?;
        writing.wait_for(0).await?;
        progress(writing.restored.instances);
        Ok(writing.restored)
    }

    /// Reads several at once, and asks for their commits one after the other: they come in this order.
    async fn write_all(
        &self,
        wanted: Vec<(Original, Place)>,
        target: &dyn Archive,
        writing: &mut Writing,
    ) -> Result<()> {
        let mut written = stream::iter(wanted)
            .map(|(of, place)| async move {
                let key = of.key()?;
                let writer = self.write_again(&key, &place, target).await?;
                Ok::<_, Error>((key, place.length, writer))
            })
            .buffered(AT_ONCE);
        while let Some((key, length, writer)) = written.try_next().await? {
            match writer {
                Some(writer) => writing.commit(key, length, writer).await?,
                None => {
                    writing.restored.damaged += 1;
                    if writing.restored.first_damaged.len() < DAMAGED_NAMED_MAX {
                        writing.restored.first_damaged.push(key);
                    }
                }
            }
        }
        Ok(())
    }

    /// None where the backup does not have it whole.
    async fn write_again(
        &self,
        key: &InstanceKey,
        place: &Place,
        target: &dyn Archive,
    ) -> Result<Option<Box<dyn ArchiveWriter>>> {
        let mut writer = target.begin().await?;
        let mut pieces = self.place.read(&place.locator()?, 0..u64::MAX);
        let mut length = 0;
        loop {
            match pieces.next().await {
                Some(Ok(piece)) => {
                    length += piece.len() as u64;
                    writer.write(piece).await?;
                }
                None if length == place.length => return Ok(Some(writer)),
                failed => {
                    writer.abort().await?;
                    if let Some(Err(error)) = failed {
                        self.check_damage(error).await?;
                    }
                    tracing::error!(instance = %key.instance, "the backup does not give an instance");
                    return Ok(None);
                }
            }
        }
    }

    /// That it is said of one place alone, and the rest is there.
    ///
    /// # Errors
    /// `error`, where it isn't.
    pub(super) async fn check_damage(&self, error: Error) -> Result<()> {
        let is_there = match &self.last {
            Some((_, place)) if is_damage(&error) => self.record::<IncrementRow>(place).await.is_ok(),
            _ => false,
        };
        match is_there {
            true => Ok(()),
            false => Err(error),
        }
    }

    /// A part; none where it is damaged.
    async fn part_at(&self, place: &Place) -> Result<Option<Part>> {
        match self.record(place).await {
            Ok(part) => Ok(Some(part)),
            Err(error) => {
                self.check_damage(error).await?;
                tracing::error!("the backup does not give a record of what it has");
                Ok(None)
            }
        }
    }

    /// The bytes of a file, as an increment has it: whole, or the stream ends with an error. None where it has none of this
    /// name.
    ///
    /// # Errors
    /// `Corrupt` when what names it can't be understood.
    pub fn file(
        &self,
        increment: &Increment,
        name: &str,
    ) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        let Some(file) = increment.files.iter().find(|file| file.name == name) else {
            return Ok(None);
        };
        let locator = file.place.locator()?;
        Ok(Some(self.place.read(&locator, 0..u64::MAX)))
    }

    /// Compares everything that any increment names with the checksums that were made when it was written. `progress` hears
    /// how many instances were looked at.
    ///
    /// # Errors
    /// What the archive says, but of what is damaged; `Corrupt` when it is what names them.
    pub async fn verify(&self, mut progress: impl FnMut(u64)) -> Result<BackupVerified> {
        let mut verified = BackupVerified::default();
        let rows = self.rows().await?;
        let Some((last, _)) = rows.last() else {
            return Ok(verified);
        };
        verified.lost_records = last.number.saturating_sub(rows.len() as u64);
        for part in parts_until(self, &rows, last.number).await? {
            let Some(part) = self.part_at(&part).await? else {
                verified.lost_records += 1;
                continue;
            };
            for row in part.rows {
                let Row::Kept { of, place } = row else {
                    continue;
                };
                if self.is_whole(&place).await? {
                    verified.whole += 1;
                } else {
                    verified.damaged += 1;
                    if verified.first_damaged.len() < DAMAGED_NAMED_MAX {
                        verified.first_damaged.push(of.key()?);
                    }
                }
                progress(verified.whole + verified.damaged);
            }
        }
        for file in rows.iter().flat_map(|(row, _)| &row.files) {
            if !verified.damaged_files.contains(&file.name) && !self.is_whole(&file.place).await? {
                verified.damaged_files.push(file.name.clone());
            }
        }
        Ok(verified)
    }

    async fn is_whole(&self, place: &Place) -> Result<bool> {
        match self.place.verify(&place.locator()?).await {
            Ok(()) => Ok(true),
            Err(error) => self.check_damage(error).await.map(|()| false),
        }
    }
}

/// Where the parts of the increments up to one are, the first one first: what their records say, or, where one of these is lost,
/// what was written before that one.
async fn parts_until(backup: &Backup, rows: &[(IncrementRow, Place)], number: u64) -> Result<Vec<Place>> {
    let until = rows.iter().position(|(row, _)| row.number == number);
    let Some(until) = until else {
        return Err(Error::new(
            ErrorKind::NotFound,
            OPERATION,
            "there is no such increment",
        ));
    };
    let is_whole = until as u64 + 1 == number;
    if is_whole {
        let parts = rows[..=until].iter().flat_map(|(row, _)| &row.parts);
        return Ok(parts.cloned().collect());
    }
    let mut parts = backup.scanned(Kind::Part).await?;
    parts.retain(|part| part.sequence < rows[until].1.sequence);
    Ok(parts)
}

/// What is being restored.
struct Writing {
    restored: Restored,
    /// Instances whose commits are waited for.
    of: HashSet<Uid>,
    commits: FuturesUnordered<BoxFuture<'static, (Uid, Result<Stored>)>>,
}

impl Writing {
    async fn commit(&mut self, key: InstanceKey, length: u64, writer: Box<dyn ArchiveWriter>) -> Result<()> {
        // The later of two versions is that which is committed later.
        let room = match self.of.insert(key.instance) {
            true => IN_FLIGHT - 1,
            false => 0,
        };
        self.wait_for(room).await?;
        self.of.insert(key.instance);
        let mut commit = writer
            .commit(key)
            .map(move |stored| (key.instance, stored))
            .boxed();
        self.restored.instances += 1;
        self.restored.bytes = self.restored.bytes.saturating_add(length);
        // Asked for now, and not when it is waited for.
        match poll!(&mut commit) {
            Poll::Ready((_, stored)) => {
                self.of.remove(&key.instance);
                stored.map(drop)
            }
            Poll::Pending => {
                self.commits.push(commit);
                Ok(())
            }
        }
    }

    /// Waits until there are no more than `room`.
    async fn wait_for(&mut self, room: usize) -> Result<()> {
        while self.commits.len() > room
            && let Some((instance, stored)) = self.commits.next().await
        {
            self.of.remove(&instance);
            stored?;
        }
        Ok(())
    }
}
