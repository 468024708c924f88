//! Whether what is kept is what was stored, and making anew what one of several copies has damaged.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use futures_timer::Delay;

use super::outgoing::has_last_byte;
use super::receipt::is_complete;
use super::{Inner, Pacs};
use crate::archive::{Archive, Entry, Locator, Sequence, Stored};
use crate::dataset::scan::Scanner;
use crate::error::{ErrorKind, Result};
use crate::index::{InstanceRecord, Scope};
use crate::limits;
use crate::uid::{InstanceKey, Uid};

/// An instance is longer on its way from the archive into the index only where the index is away.
const ON_THE_WAY: Duration = Duration::from_secs(2);

/// How a verification goes about its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// What one of several copies has damaged is made anew from another one ([`Archive::mend`]).
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
    /// Instances of which a copy was damaged, in any version, and was made anew.
    pub repaired: u64,
    /// Instances that the index knows and the archive can't give back as stored, or that the archive
    /// keeps and the index does not know, with why. An earlier version is named
    /// by the key of its instance. The first [`DAMAGED_NAMED_MAX`](limits::DAMAGED_NAMED_MAX) of them.
    pub damaged: Vec<(InstanceKey, String)>,
    /// How many there are beyond those.
    pub damaged_beyond: u64,
}

impl Verified {
    fn add_damaged(&mut self, key: InstanceKey, why: String) {
        tracing::error!(instance = %key.instance, why, "damaged");
        match self.damaged.len() < limits::DAMAGED_NAMED_MAX {
            true => self.damaged.push((key, why)),
            false => self.damaged_beyond += 1,
        }
    }
}

impl Pacs {
    /// Compares every instance that the index knows with the checksum the archive made when it was
    /// stored, then everything the archive keeps with what the index knows. It may be used on an engine that receives
    /// meanwhile. `progress` is told how many instances are done.
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
        let mut unknown = Vec::new();
        let mut entries = archive.scan(Sequence(0));
        while let Some(entry) = entries.next().await {
            let Entry::Stored(key, Stored { locator, .. }) = entry? else {
                continue;
            };
            if !self.is_known(&key.instance, &locator).await? {
                match unknown.len() < limits::DAMAGED_NAMED_MAX {
                    true => unknown.push((key, locator)),
                    false => verified.damaged_beyond += 1,
                }
            }
        }
        drop(entries);
        if !unknown.is_empty() {
            // It may have been on its way from the one to the other.
            Delay::new(ON_THE_WAY).await;
        }
        for (key, locator) in unknown {
            let is_there = archive.read(&locator, 0..1).next().await;
            let is_gone =
                is_there.is_some_and(|read| read.is_err_and(|error| error.kind() == ErrorKind::NotFound));
            if !is_gone && !self.is_known(&key.instance, &locator).await? {
                let why = "the archive keeps it and the index does not know it";
                verified.add_damaged(key, why.to_owned());
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
        let mut is_repaired = false;
        for version in [&record.locator].into_iter().chain(&record.superseded) {
            let is_earlier = *version != record.locator;
            let mut found = archive.verify(version).await;
            if found.is_err() && repair {
                found = archive.mend(version).await.map(|mended| is_repaired |= mended);
            }
            if found.is_ok() && !is_earlier {
                found = has_last_byte(archive, record).await;
            }
            match found {
                Ok(()) => {
                    verified.whole += 1;
                    verified.whole_earlier += u64::from(is_earlier);
                }
                // What was removed or replaced meanwhile is not missed.
                Err(_) if !self.is_known(&record.key.instance, version).await? => {}
                Err(error) => {
                    let why = match is_earlier {
                        true => format!("an earlier version: {error}"),
                        false => error.to_string(),
                    };
                    verified.add_damaged(record.key, why);
                }
            }
        }
        verified.repaired += u64::from(is_repaired);
        Ok(())
    }

    /// Has every copy of an instance whole again, in each of its versions, where the archive has another one that is
    /// ([`Archive::mend`]). Answers whether one was not.
    ///
    /// # Errors
    /// `Corrupt` or `NotFound` when a version has no whole copy; what the archive says. The other versions are mended.
    pub async fn repair(&self, record: &InstanceRecord) -> Result<bool> {
        let (mut was_damaged, mut failed) = (false, None);
        for version in record.superseded.iter().chain([&record.locator]) {
            match self.inner.archive.mend(version).await {
                Ok(mended) => was_damaged |= mended,
                Err(error) => failed = Some(error),
            }
        }
        if was_damaged {
            tracing::warn!(instance = %record.key.instance, "a copy was damaged: it was made anew from a whole one");
        }
        failed.map_or(Ok(was_damaged), Err)
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
