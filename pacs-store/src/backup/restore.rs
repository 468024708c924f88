//! Having again what a backup has, and telling whether it has it.

use std::collections::HashMap;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use pacs_core::limits::DAMAGED_NAMED_MAX;
use pacs_core::{Archive, Error, ErrorKind, InstanceKey, Result, Sequence};

use super::format::{IncrementRow, Original, Part, Place, Row};
use super::{AT_ONCE, Backup, Increment, OPERATION};

/// Instances that are written before it is seen to the next: no two of them are versions of one.
const BATCH: usize = 64;

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
}

/// What is copied, and from where.
struct Wanted {
    of: Original,
    place: Place,
}

impl Backup {
    /// The last increment that was begun no later than `at` milliseconds after 1970; with `None`, the last one.
    ///
    /// # Errors
    /// As [`increments`](Self::increments).
    pub async fn increment_at(&self, at: Option<pacs_core::Timestamp>) -> Result<Option<Increment>> {
        let increments = self.increments().await?;
        let found = increments
            .into_iter()
            .rev()
            .find(|increment| at.is_none_or(|at| increment.at <= at));
        Ok(found)
    }

    /// Writes into `target`, which is empty, what the archive had kept at an increment, in the order in which it came. What the
    /// backup does not give any more is counted and left out. `progress` hears how many instances were written.
    ///
    /// Memory follows the number of removals, some 100 bytes for each.
    ///
    /// # Errors
    /// `Mismatch` when `target` is not empty, `NotFound` when there is no such increment; what the archives say.
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
        let parts: Vec<Place> = self
            .rows_until(number)
            .await?
            .into_iter()
            .flat_map(|row| row.parts)
            .collect();

        // What was removed later is not written, and what was read late is written in its turn.
        let mut removed = HashMap::new();
        let mut late = Vec::new();
        let mut passed = 0;
        for part in &parts {
            let part: Part = self.record(&part.locator()?).await?;
            for row in part.rows {
                match row {
                    Row::Removed { from, sequence } => {
                        removed.insert(from, sequence);
                    }
                    Row::Kept { of, place } if of.sequence < passed => late.push(Wanted { of, place }),
                    Row::Kept { of, .. } => passed = of.sequence,
                }
            }
        }
        let is_removed = |of: &Original| {
            removed
                .get(&of.from)
                .is_some_and(|removed| *removed > of.sequence)
        };
        late.retain(|wanted| !is_removed(&wanted.of));
        late.sort_by_key(|wanted| wanted.of.sequence);
        let mut late = late.into_iter().peekable();

        let mut restored = Restored::default();
        let mut batch: Vec<(InstanceKey, Place)> = Vec::with_capacity(BATCH);
        let mut passed = 0;
        for part in &parts {
            let part: Part = self.record(&part.locator()?).await?;
            for row in part.rows {
                let Row::Kept { of, place } = row else {
                    continue;
                };
                if of.sequence < passed {
                    continue;
                }
                passed = of.sequence;
                while let Some(wanted) = late.next_if(|wanted| wanted.of.sequence < passed) {
                    self.queue(wanted, &mut batch, target, &mut restored).await?;
                    progress(restored.instances);
                }
                if !is_removed(&of) {
                    self.queue(Wanted { of, place }, &mut batch, target, &mut restored)
                        .await?;
                    progress(restored.instances);
                }
            }
        }
        for wanted in late {
            self.queue(wanted, &mut batch, target, &mut restored).await?;
        }
        self.flush(&mut batch, target, &mut restored).await?;
        progress(restored.instances);
        Ok(restored)
    }

    async fn queue(
        &self,
        wanted: Wanted,
        batch: &mut Vec<(InstanceKey, Place)>,
        target: &dyn Archive,
        restored: &mut Restored,
    ) -> Result<()> {
        let key = wanted.of.key()?;
        // The later of two versions is that which comes later.
        let is_there = batch.iter().any(|(other, _)| other.instance == key.instance);
        if is_there || batch.len() >= BATCH {
            self.flush(batch, target, restored).await?;
        }
        batch.push((key, wanted.place));
        Ok(())
    }

    async fn flush(
        &self,
        batch: &mut Vec<(InstanceKey, Place)>,
        target: &dyn Archive,
        restored: &mut Restored,
    ) -> Result<()> {
        let mut written = stream::iter(batch.drain(..))
            .map(|(key, place)| async move {
                let is_written = self.write_again(&key, &place, target).await?;
                Ok::<_, Error>((key, place, is_written))
            })
            .buffer_unordered(AT_ONCE);
        while let Some((key, place, is_written)) = written.try_next().await? {
            if is_written {
                restored.instances += 1;
                restored.bytes = restored.bytes.saturating_add(place.length);
                continue;
            }
            restored.damaged += 1;
            if restored.first_damaged.len() < DAMAGED_NAMED_MAX {
                restored.first_damaged.push(key);
            }
        }
        Ok(())
    }

    /// Answers whether the backup has it whole.
    async fn write_again(&self, key: &InstanceKey, place: &Place, target: &dyn Archive) -> Result<bool> {
        let mut writer = target.begin().await?;
        let mut pieces = self.place.read(&place.locator()?, 0..u64::MAX);
        let mut length = 0;
        loop {
            match pieces.next().await {
                Some(Ok(piece)) => {
                    length += piece.len() as u64;
                    writer.write(piece).await?;
                }
                None if length == place.length => break,
                failed => {
                    writer.abort().await?;
                    return match failed {
                        Some(Err(error)) if !is_damage(&error) => Err(error),
                        _ => {
                            tracing::error!(instance = %key.instance, "the backup does not give an instance");
                            Ok(false)
                        }
                    };
                }
            }
        }
        writer.commit(*key).await.map(|_| true)
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
        let Some((last, _)) = &self.last else {
            return Ok(verified);
        };
        for row in self.rows_until(last.number).await? {
            for part in row.parts {
                let part: Part = self.record(&part.locator()?).await?;
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
            for file in row.files {
                if !self.is_whole(&file.place).await? && !verified.damaged_files.contains(&file.name) {
                    verified.damaged_files.push(file.name);
                }
            }
        }
        Ok(verified)
    }

    async fn is_whole(&self, place: &Place) -> Result<bool> {
        match self.place.verify(&place.locator()?).await {
            Ok(()) => Ok(true),
            Err(error) if is_damage(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The increments up to one, the first one first.
    async fn rows_until(&self, number: u64) -> Result<Vec<IncrementRow>> {
        let mut rows = Vec::new();
        let mut next = self.last.as_ref().map(|(row, _)| row.clone());
        while let Some(row) = next {
            next = self.before(&row).await?;
            if row.number <= number {
                rows.push(row);
            }
        }
        rows.reverse();
        match rows.last() {
            Some(row) if row.number == number => Ok(rows),
            _ => Err(Error::new(
                ErrorKind::NotFound,
                OPERATION,
                "there is no such increment",
            )),
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
