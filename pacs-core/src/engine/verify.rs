//! Whether what is kept is what was stored, and keeping anew what one of several copies has damaged.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use futures_timer::Delay;

use super::committer::{Committer, Request};
use super::outgoing::has_last_byte;
use super::receipt::is_complete;
use super::recovery::is_damage;
use super::{Inner, Pacs};
use crate::archive::{Archive, Entry, Locator, Sequence, Stored};
use crate::dataset::scan::Scanner;
use crate::error::Result;
use crate::index::{InstanceRecord, Scope};
use crate::uid::{InstanceKey, Uid};

/// How a verification goes about its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// What one of several copies has damaged is kept anew ([`Pacs::repair`]).
    pub repair: bool,
    /// Bytes of instances that are read in a second, over some time; without it as many as can be.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Instances that are passed over: where an earlier one was broken off after so many, this goes on about there.
    pub skip: u64,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Instances, and earlier versions of them, whose bytes are what was stored.
    pub whole: u64,
    /// Those of them that are earlier versions: replaced since, and kept.
    pub whole_earlier: u64,
    /// Those of them of which a copy was damaged, in any version, and that were kept anew.
    pub repaired: u64,
    /// Instances that the index knows and the archive can't give back as stored, or that the archive
    /// keeps and the index does not know, with why. An earlier version is named
    /// by the key of its instance.
    pub damaged: Vec<(InstanceKey, String)>,
}

/// What became of an instance that is kept anew.
pub(super) struct Anew {
    pub(super) record: Box<InstanceRecord>,
    /// Where versions of it were kept before, the oldest first.
    pub(super) before: Vec<Locator>,
}

impl Pacs {
    /// Compares every instance that the index knows with the checksum the archive made when it was
    /// stored, then everything the archive keeps with what the index knows. On an engine that receives
    /// meanwhile, an instance on its way between the two may be reported. `progress` is told how many
    /// instances are done.
    ///
    /// # Errors
    /// What the index says; damage is not an error but a finding.
    pub async fn verify(&self, progress: impl FnMut(u64)) -> Result<Verified> {
        self.verify_with(VerifyOptions::default(), progress).await
    }

    /// The same, as `options` say. It can be dropped at any time.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub async fn verify_with(
        &self,
        options: VerifyOptions,
        mut progress: impl FnMut(u64),
    ) -> Result<Verified> {
        let Inner { archive, index, .. } = &*self.inner;
        let mut verified = Verified::default();
        let mut pace = Pace::new(options.bytes_per_second);
        let mut records = index.instances(Scope::All);
        let mut done = 0;
        while let Some(record) = records.try_next().await? {
            done += 1;
            if done > options.skip {
                pace.wait(record.length).await;
                self.verify_versions(&record, options.repair, &mut verified)
                    .await?;
            }
            progress(done);
        }
        // What the archive keeps and no query finds.
        let mut entries = archive.scan(Sequence(0));
        while let Some(entry) = entries.next().await {
            let Entry::Stored(key, Stored { locator, .. }) = entry? else {
                continue;
            };
            if !self.is_known(&key.instance, &locator).await? {
                verified.damaged.push((
                    key,
                    "the archive keeps it and the index does not know it".to_owned(),
                ));
            }
        }
        Ok(verified)
    }

    /// Whether the index knows this version.
    async fn is_known(&self, instance: &Uid, version: &Locator) -> Result<bool> {
        let record = self.inner.index.lookup(instance).await?;
        Ok(record.is_some_and(|record| record.locator == *version || record.superseded.contains(version)))
    }

    async fn verify_versions(
        &self,
        record: &InstanceRecord,
        repair: bool,
        verified: &mut Verified,
    ) -> Result<()> {
        let archive = &*self.inner.archive;
        let mut damaged = Vec::new();
        match is_as_stored(archive, record).await {
            Ok(()) => verified.whole += 1,
            Err(error) => damaged.push((&record.locator, error, false)),
        }
        for locator in &record.superseded {
            match archive.verify(locator).await {
                Ok(()) => {
                    verified.whole += 1;
                    verified.whole_earlier += 1;
                }
                Err(error) => damaged.push((locator, error, true)),
            }
        }
        if damaged.is_empty() {
            return Ok(());
        }
        let instance = &record.key.instance;
        let is_repaired = match repair {
            true => match self.repair(instance).await {
                Ok(is_repaired) => is_repaired,
                Err(error) => {
                    tracing::error!(%instance, %error, "a damaged instance can't be kept anew");
                    false
                }
            },
            false => false,
        };
        verified.repaired += u64::from(is_repaired);
        for (locator, error, is_earlier) in damaged {
            // What was removed or replaced meanwhile is not missed; nor what is kept elsewhere now.
            let is_known = self.is_known(instance, locator).await?;
            if is_known {
                let why = match is_earlier {
                    true => format!("an earlier version: {error}"),
                    false => error.to_string(),
                };
                verified.damaged.push((record.key, why));
            } else if is_repaired {
                verified.whole += 1;
                verified.whole_earlier += u64::from(is_earlier);
            }
        }
        Ok(())
    }

    /// Keeps an instance anew, in all its versions from the oldest damaged one on, where the archive has a copy of each that
    /// is damaged and another one that is whole; then removes the damaged ones. Answers whether it did: false where all
    /// are whole, or there is no such instance.
    ///
    /// - The order of its versions stays, also where the index is made anew.
    /// - Its bytes stay; it counts as received now.
    ///
    /// # Errors
    /// `Corrupt` or `NotFound` when there is no whole copy of the current version, or of any that is damaged; what the
    /// archive says.
    pub async fn repair(&self, instance: &Uid) -> Result<bool> {
        self.inner
            .request(|reply| Request::Repair(*instance, reply))
            .await
    }

    /// Reads one instance and compares it with the checksum the archive made when it was stored; then answers whether
    /// it is whole: false for one that came cut off, so that its data set can't be followed to its end, and was kept
    /// as it came.
    ///
    /// # Errors
    /// `Corrupt` or `NotFound` when its bytes are not what was stored; what the archive says.
    pub async fn verify_instance(&self, record: &InstanceRecord) -> Result<bool> {
        is_as_stored(&*self.inner.archive, record).await?;
        let mut scanner = Scanner::new(&record.transfer_syntax);
        let mut data_set = self.read_data_set(record);
        while let Some(piece) = data_set.next().await {
            scanner.push(&piece?)?;
        }
        Ok(is_complete(&scanner.finish()?))
    }
}

/// # Errors
/// `Corrupt` or `NotFound` when the archive can't give the instance back as stored.
async fn is_as_stored(archive: &dyn Archive, record: &InstanceRecord) -> Result<()> {
    archive.verify(&record.locator).await?;
    has_last_byte(archive, record).await
}

impl Committer {
    /// Keeps what is damaged anew; `None` where nothing is.
    pub(super) async fn keep_anew(&self, instance: &Uid) -> Result<Option<Anew>> {
        let Some(mut record) = self.index.lookup(instance).await? else {
            return Ok(None);
        };
        let mut versions: Vec<Locator> = record.superseded.clone();
        versions.reverse();
        versions.push(record.locator.clone());
        let mut damaged = None;
        for (at, version) in versions.iter().enumerate() {
            match self.archive.verify(version).await {
                Ok(()) => {}
                Err(error) if is_damage(error.kind()) => {
                    damaged = Some(at);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        let Some(damaged) = damaged else {
            return Ok(None);
        };
        // Each behind the one before, so that a scan tells their order: all or none.
        let before = versions.split_off(damaged);
        let mut anew = Vec::with_capacity(before.len());
        for version in &before {
            match self.copied(&record.key, version).await {
                Ok(stored) => anew.push(stored),
                Err(error) => {
                    for Stored { locator, .. } in &anew {
                        self.remove_superfluous(instance, locator).await;
                    }
                    return Err(error);
                }
            }
        }
        let Some(current) = anew.pop() else {
            return Ok(None);
        };
        versions.extend(anew.into_iter().map(|stored| stored.locator));
        versions.reverse();
        record.superseded = versions;
        record.locator = current.locator;
        record.sequence = current.sequence;
        record.received = current.received;
        tracing::warn!(%instance, versions = before.len(), "a damaged copy: the instance is kept anew from a whole one");
        Ok(Some(Anew {
            record: Box::new(record),
            before,
        }))
    }

    /// Keeps another time what is kept at `version`.
    async fn copied(&self, key: &InstanceKey, version: &Locator) -> Result<Stored> {
        let mut writer = self.archive.begin().await?;
        let mut pieces = self.archive.read(version, 0..u64::MAX);
        while let Some(piece) = pieces.try_next().await? {
            writer.write(piece).await?;
        }
        writer.commit(*key).await
    }

    /// Removes what the index does not know any more, or not yet.
    pub(super) async fn remove_superfluous(&self, instance: &Uid, version: &Locator) {
        if let Err(error) = self.archive.remove(instance, version).await {
            tracing::error!(%instance, %error, "a version that is not needed stays in the archive");
        }
    }
}

/// Rests so that no more than so many bytes are read in a second.
struct Pace {
    bytes_per_second: Option<NonZeroU64>,
    begun: Instant,
    bytes: u64,
}

impl Pace {
    fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        Self {
            bytes_per_second,
            begun: Instant::now(),
            bytes: 0,
        }
    }

    /// Waits until what was read so far is read at that pace; `next` is read then.
    async fn wait(&mut self, next: u64) {
        let Some(rate) = self.bytes_per_second else {
            return;
        };
        let due = Duration::from_secs_f64(self.bytes as f64 / rate.get() as f64);
        self.bytes = self.bytes.saturating_add(next);
        let rest = due.saturating_sub(self.begun.elapsed());
        if !rest.is_zero() {
            Delay::new(rest).await;
        }
    }
}
