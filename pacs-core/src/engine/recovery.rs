//! The archive is the truth: bringing an index up to it, and making it anew.

use dicom_dictionary_std::tags;
use futures::StreamExt;

use super::committer::Request;
use super::correction;
use super::{Inner, Pacs};
use crate::archive::{Archive, Entry, Locator, Sequence, Stored};
use crate::dataset::part10::{self, FileMeta};
use crate::dataset::scan::{Scan, Scanner};
use crate::error::{Error, ErrorKind, Result};
use crate::index::{Change, Index, InstanceRecord, Scope};
use crate::query::AttributeSet;
use crate::uid::{InstanceKey, Uid};

/// Entries applied to the index at once while it catches up.
const BATCH: usize = 500;

/// For an archive whose scan has no order, the low water after a clean close: there is nothing to
/// look for. Any other value there means a scan of everything.
const CLEAN: Sequence = Sequence(u64::MAX);

/// What an opening or a rebuild did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Instances and removals that the index did not know.
    pub applied: u64,
    /// Instances in the archive that could not be read, and are therefore not in the index.
    pub unreadable: u64,
    /// Everything of the archive up to here is in the index.
    pub low_water: Sequence,
}

/// Applies to `index` what `archive` took in and `index` does not durably know.
pub(super) async fn replay(
    archive: &dyn Archive,
    index: &dyn Index,
    attributes: &AttributeSet,
) -> Result<Recovered> {
    let ordered = archive.capability().ordered_scan;
    let mut low_water = index.low_water().await?;
    if !ordered {
        if low_water == CLEAN {
            // From here on a crash must be noticed.
            index.apply(Vec::new(), Sequence(0)).await?;
            index.flush().await?;
            return Ok(Recovered::default());
        }
        low_water = Sequence(0);
    }
    if let Some(last) = archive.last_sequence()
        && ordered
        && last < low_water
    {
        // Going on, the archive would give places again that the index knows as others', and a later opening would pass over
        // what came meanwhile.
        let why = "the index knows of what came later than anything in the archive: that is an older one, or a part of it is lost";
        return Err(Error::new(ErrorKind::Corrupt, "index.compare", why));
    }
    let mut done = Recovered {
        low_water,
        ..Recovered::default()
    };
    if !ordered {
        done.applied += forget_removed(archive, index).await?;
    }
    let mut entries = archive.scan(low_water).ready_chunks(BATCH);
    while let Some(batch) = entries.next().await {
        let mut changes = Vec::with_capacity(batch.len());
        for entry in batch {
            let entry = entry?;
            if ordered {
                done.low_water = done.low_water.max(entry.sequence());
            }
            match entry {
                Entry::Stored(key, stored) => {
                    match change_for(archive, index, attributes, &changes, key, stored).await {
                        Ok(known) => changes.extend(known),
                        Err(error) => {
                            // What can't be read now may be readable later: then it must not be passed over.
                            if !is_damage(error.kind()) {
                                return Err(error);
                            }
                            done.unreadable += 1;
                            tracing::error!(instance = %key.instance, %error, "an instance in the archive can't be indexed");
                        }
                    }
                }
                Entry::Removed {
                    instance, locator, ..
                } => {
                    let Some(mut known) = known(index, &changes, &instance).await? else {
                        continue;
                    };
                    if known.locator == locator {
                        changes.push(Change::Remove(instance));
                    } else if known.superseded.contains(&locator) {
                        known.superseded.retain(|version| *version != locator);
                        changes.push(Change::Store(Box::new(known)));
                    }
                }
            }
        }
        let entries = changes
            .iter()
            .filter(|change| !matches!(change, Change::Correct(..)));
        done.applied += entries.count() as u64;
        index.apply(changes, done.low_water).await?;
    }
    if done.applied > 0 {
        archive.indexed(index.flush().await?).await?;
    }
    Ok(done)
}

/// What the index will know of an instance once the `pending` changes are applied.
async fn known(index: &dyn Index, pending: &[Change], instance: &Uid) -> Result<Option<InstanceRecord>> {
    let pending = pending.iter().rev().find_map(|change| match change {
        Change::Store(record) if record.key.instance == *instance => Some(Some((**record).clone())),
        Change::Remove(removed) if removed == instance => Some(None),
        _ => None,
    });
    match pending {
        Some(known) => Ok(known),
        None => index.lookup(instance).await,
    }
}

/// Forgets what the archive doesn't have any more: a scan without order never tells of removals.
async fn forget_removed(archive: &dyn Archive, index: &dyn Index) -> Result<u64> {
    let mut gone = Vec::new();
    let mut records = index.instances(Scope::All);
    while let Some(record) = records.next().await {
        let record = record?;
        match archive.read(&record.locator, 0..1).next().await {
            Some(Err(error)) if error.kind() == ErrorKind::NotFound => {
                gone.push(Change::Remove(record.key.instance));
            }
            Some(Err(error)) if !is_damage(error.kind()) => return Err(error),
            _ => {}
        }
    }
    let forgotten = gone.len() as u64;
    index.apply(gone, Sequence(0)).await?;
    Ok(forgotten)
}

/// Whether a failure to read an instance will be the same next time: its bytes are at fault, not the
/// moment.
fn is_damage(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Corrupt | ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Unsupported
    )
}

/// What the index must learn of a stored instance; nothing when it knows it already.
async fn change_for(
    archive: &dyn Archive,
    index: &dyn Index,
    attributes: &AttributeSet,
    pending: &[Change],
    key: InstanceKey,
    stored: Stored,
) -> Result<Vec<Change>> {
    let earlier = known(index, pending, &key.instance).await?;
    let mut superseded = Vec::new();
    if let Some(known) = &earlier {
        if known.locator == stored.locator || known.superseded.contains(&stored.locator) {
            return Ok(Vec::new());
        }
        // A scan without order may come to an earlier version after a later one.
        if stored.sequence < known.sequence {
            return met_later(archive, attributes, known.clone(), stored).await;
        }
        superseded = known.superseded.clone();
        superseded.insert(0, known.locator.clone());
    }
    let mut record = read_record(archive, attributes, key, stored).await?;
    record.superseded = superseded;
    let correction = match &earlier {
        _ if correction::is_amended(&record) => correction::of_amended(attributes, &record),
        Some(earlier) => correction::of_replacement(archive, attributes, earlier, &record).await,
        None => None,
    };
    let correction = correction::change(&record, correction);
    Ok([Change::Store(Box::new(record))]
        .into_iter()
        .chain(correction)
        .collect())
}

/// What the index must learn of an earlier version, when it knows a later one.
async fn met_later(
    archive: &dyn Archive,
    attributes: &AttributeSet,
    mut known: InstanceRecord,
    stored: Stored,
) -> Result<Vec<Change>> {
    let earlier = stored.locator.clone();
    known.superseded.push(earlier);
    let mut corrections = Vec::new();
    // What is known above it may be what another one says; it counts what each version says itself.
    let own = |stored| read_record(archive, attributes, known.key, stored);
    if let (Ok(earlier), Ok(mut later)) = (own(stored).await, own(known.stored()).await)
        && !correction::is_amended(&later)
    {
        later.superseded = known.superseded.clone();
        if correction::is_amended(&earlier) {
            corrections.push(correction::of_amended(attributes, &earlier));
        }
        corrections.push(correction::of_replacement(archive, attributes, &earlier, &later).await);
    }
    let corrections = corrections
        .into_iter()
        .filter_map(|it| correction::change(&known, it));
    let corrections: Vec<Change> = corrections.collect();
    Ok([Change::Store(Box::new(known))]
        .into_iter()
        .chain(corrections)
        .collect())
}

/// Reads what stands before an instance's pixel data, and no further: File Meta Information and data set as stored.
/// Where there is no pixel data, the whole data set is read: then the scan is complete or the data set is not.
pub(super) async fn read_header(archive: &dyn Archive, locator: &Locator) -> Result<(FileMeta, Scan)> {
    let mut stream = archive.read(locator, 0..u64::MAX);
    let (meta, mut chunk) = super::import::read_meta(&mut stream).await?;
    let mut scanner = Scanner::new(&meta.transfer_syntax);
    loop {
        scanner.push(&chunk)?;
        if scanner.at_pixel_data().is_some() {
            break;
        }
        match stream.next().await {
            Some(next) => chunk = next?,
            None => break,
        }
    }
    Ok((meta, scanner.finish()?))
}

/// Makes the index record of an instance from its stored bytes, reading no further than its pixel data.
pub(super) async fn read_record(
    archive: &dyn Archive,
    attributes: &AttributeSet,
    key: InstanceKey,
    stored: Stored,
) -> Result<InstanceRecord> {
    let (meta, mut scan) = read_header(archive, &stored.locator).await?;
    let coerced = part10::coerced(&meta)?;
    if let Some(coerced) = &coerced {
        super::coerce::check(coerced)?;
        scan.header = super::coerce::applied(scan.header, coerced);
    }
    Ok(InstanceRecord {
        key,
        sop_class: scan.header.uid(tags::SOP_CLASS_UID)?,
        transfer_syntax: meta.transfer_syntax,
        locator: stored.locator,
        length: stored.length,
        data_set_offset: meta.data_set_offset,
        sequence: stored.sequence,
        received: stored.received,
        attributes: attributes.extract(&scan.header),
        coerced,
        superseded: Vec::new(),
    })
}

/// The last step of a close. An index that is `behind` its archive must not be taken for one that isn't.
pub(super) async fn closed(archive: &dyn Archive, index: &dyn Index, behind: bool) -> Result<()> {
    if !archive.capability().ordered_scan && !behind {
        index.apply(Vec::new(), CLEAN).await?;
    }
    archive.indexed(index.flush().await?).await
}

impl Pacs {
    /// Forgets the index and makes it anew from the archive alone. For an archive and an index that no
    /// engine has open.
    ///
    /// # Errors
    /// What the archive or the index says.
    pub async fn rebuild_index(
        archive: &dyn Archive,
        index: &dyn Index,
        attributes: &AttributeSet,
    ) -> Result<Recovered> {
        index.clear().await?;
        let recovered = replay(archive, index, attributes).await?;
        closed(archive, index, false).await?;
        Ok(recovered)
    }

    /// Makes the index records of all instances anew from their stored bytes, while the engine serves:
    /// for attributes that a changed [`AttributeSet`] adds. `progress` is told how many are done.
    ///
    /// Answers how many records were made; an instance that can't be read keeps the record it has.
    ///
    /// # Errors
    /// What the index says.
    pub async fn reindex(&self, mut progress: impl FnMut(u64)) -> Result<u64> {
        let Inner {
            archive,
            index,
            attributes,
            ..
        } = &*self.inner;
        let mut made = 0;
        let mut records = index.instances(Scope::All);
        while let Some(record) = records.next().await {
            let record = record?;
            let key = record.key;
            match read_record(&**archive, attributes, key, record.stored()).await {
                Ok(record) => {
                    if self
                        .inner
                        .request(|reply| Request::Reindex(Box::new(record), reply))
                        .await?
                    {
                        made += 1;
                    }
                }
                Err(error) => {
                    tracing::error!(instance = %key.instance, %error, "an instance can't be indexed again")
                }
            }
            progress(made);
        }
        Ok(made)
    }
}
