//! Making the copy of an instance, or finding that there is one.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use pacs_core::{Archive, Error, ErrorKind, InstanceKey, Locator, Result, Stored};

use super::catch_up::{CatchUp, Done};
use super::is_damage;
use super::notes::Copy;
use super::sums::Summing;

impl CatchUp<'_> {
    /// Copies an instance, unless one that was met is its copy.
    ///
    /// # Errors
    /// What the second archive says, and the notes.
    pub(super) async fn copy(&self, second: &dyn Archive, entry: Box<(InstanceKey, Stored)>) -> Result<Done> {
        let (key, stored) = &*entry;
        let first = &*self.shared.first;
        let mut met = self.shared.notes.met(&key.instance).await?;
        met.retain(|(noted, met)| met.length == stored.length && !self.claimed.borrow().contains(noted));
        if !met.is_empty() {
            let sums = sums(first, &stored.locator).await;
            let is_alone = met.len() == 1;
            for (noted, met) in met {
                let copy = match (&sums, self::sums(second, &met.locator).await) {
                    (Ok(first), Ok(second)) if *first == second => second,
                    // What the first archive has damaged, and the second has whole, must not be lost with it.
                    (Err(error), Ok(second))
                        if is_damage(error) && is_alone && self.is_mostly(&stored.locator, &second).await =>
                    {
                        second
                    }
                    _ => continue,
                };
                // Another one with the same bytes may have taken it meanwhile.
                if self.claimed.borrow_mut().insert(noted) {
                    let sequence = met.sequence;
                    return Ok(Done::Copied(
                        Arc::new(copy_of(key, stored, met, copy)),
                        Some(sequence),
                    ));
                }
            }
        }
        let mut writer = second.begin().await?;
        let mut pieces = first.read(&stored.locator, 0..u64::MAX);
        let mut summing = Summing::default();
        let unread = loop {
            match pieces.next().await {
                Some(Ok(piece)) => {
                    summing.push(&piece);
                    writer.write(piece).await?;
                }
                Some(Err(error)) => break Some(error),
                None => break None,
            }
        };
        let (sums, length) = summing.finish();
        let shorter = || Error::new(ErrorKind::Corrupt, "archive.read", "it is shorter than it was");
        let unread = unread.or_else(|| (length != stored.length).then(shorter));
        if let Some(error) = unread {
            writer.abort().await?;
            if !is_damage(&error) {
                // One place that can't be read, or an archive that can't do anything.
                first.begin().await?.abort().await?;
            }
            // What was removed meanwhile is not missed; of that a scan tells.
            tracing::error!(instance = %key.instance, %error, "an instance can't be copied now");
            return Ok(Done::Later(entry));
        }
        let second = writer.commit(*key).await?;
        Ok(Done::Copied(Arc::new(copy_of(key, stored, second, sums)), None))
    }
}

impl CatchUp<'_> {
    /// Whether most blocks that the first archive has there have these checks: of another version hardly any has.
    async fn is_mostly(&self, locator: &Locator, sums: &[u64]) -> bool {
        let mut pieces = self.shared.first.read_unchecked(locator, 0..u64::MAX);
        let mut summing = Summing::default();
        while let Some(Ok(piece)) = pieces.next().await {
            summing.push(&piece);
        }
        let (found, _) = summing.finish();
        let equal = found.iter().zip(sums).filter(|(found, sum)| found == sum);
        2 * equal.count() > sums.len()
    }
}

/// The checks of an instance.
pub(super) async fn sums(archive: &dyn Archive, locator: &Locator) -> Result<Vec<u64>> {
    let mut pieces = archive.read(locator, 0..u64::MAX);
    let mut summing = Summing::default();
    while let Some(piece) = pieces.try_next().await? {
        let piece: Bytes = piece;
        summing.push(&piece);
    }
    Ok(summing.finish().0)
}

fn copy_of(key: &InstanceKey, stored: &Stored, second: Stored, sums: Vec<u64>) -> Copy {
    Copy {
        key: *key,
        stored: stored.clone(),
        spare: None,
        second: second.locator,
        second_sequence: second.sequence,
        sums,
    }
}
