//! Making a damaged copy anew from the other one.
//!
//! The second archive gets another copy, and the notes say where. The first archive gets a spare: the same bytes under the same
//! key, which a scan does not tell of, for the instance stays where it was in the order. What is about to become a spare is noted
//! before, so that after a crash it is not taken for a new version.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::TryStreamExt;
use pacs_core::{Archive, Entry, Error, ErrorKind, Locator, Result, Stored};

use super::notes::{
    Copy, Mending, forget_mending, forget_there, note_away, note_copy, note_mending, note_spare,
};
use super::writer::OnTheWay;
use super::{Shared, copying, is_damage, read};

/// How a copy is.
enum Health {
    Whole,
    Damaged(Error),
    /// Nothing can be said of it now.
    Away(Error),
}

impl Shared {
    /// That both copies are whole, where there are two and the second archive is here.
    pub(super) async fn verify(&self, locator: &Locator) -> Result<()> {
        let Some(copy) = self.copy_of(locator).await? else {
            return self.first.verify(locator).await;
        };
        let (which, error) = match self.health(&copy).await? {
            (Health::Whole, Health::Whole | Health::Away(_)) => return Ok(()),
            (Health::Damaged(first), Health::Damaged(_)) => return Err(first),
            (Health::Away(error), _) => return Err(error),
            (Health::Damaged(error), _) => ("first", error),
            (_, Health::Damaged(error)) => ("second", error),
        };
        let what = format!("the {which} of two copies is damaged: {error}");
        Err(Error::new(ErrorKind::Corrupt, "archive.verify", what))
    }

    /// How both copies are.
    async fn health(&self, copy: &Copy) -> Result<(Health, Health)> {
        let first = health_of(&*self.first, copy.in_first(), copy).await;
        self.check_kept(&copy.stored.locator)?;
        let second = match self.second.present() {
            Ok(second) => health_of(&*second, &copy.second, copy).await,
            Err(error) => Health::Away(error),
        };
        if let Health::Away(error) = &second {
            self.second_failed(error);
        }
        self.check_kept(&copy.stored.locator)?;
        Ok((first, second))
    }

    /// Makes anew what is damaged of what is kept there; answers whether something was.
    pub(super) async fn mend(self: &Arc<Self>, locator: &Locator) -> Result<bool> {
        if self.verify(locator).await.is_ok() {
            return Ok(false);
        }
        if self.copy_of(locator).await?.is_none() {
            return self.first.verify(locator).await.map(|()| false);
        }
        let _mending = self.mending.lock().await;
        let Some(copy) = self.notes.of(locator).await? else {
            return Err(busy("the copy is not noted yet"));
        };
        let (first, second) = self.health(&copy).await?;
        let mut is_mended = false;
        if let Health::Damaged(error) = &second {
            tracing::warn!(instance = %copy.key.instance, %error, "the second copy is made anew");
            self.mend_second(&copy).await?;
            is_mended = true;
        }
        match first {
            Health::Whole => {}
            Health::Away(error) => return Err(error),
            Health::Damaged(_) if self.scans.load(Ordering::Acquire) > 0 => {
                return Err(busy("the archive is being scanned"));
            }
            Health::Damaged(error) => {
                tracing::warn!(instance = %copy.key.instance, %error, "the first copy is made anew");
                // As the second is noted by now.
                let copy = self.notes.of(locator).await?.unwrap_or(copy);
                self.mend_first(copy).await?;
                is_mended = true;
            }
        }
        Ok(is_mended)
    }

    async fn mend_second(self: &Arc<Self>, copy: &Copy) -> Result<()> {
        let second = self.second.present()?;
        let anew = written_anew(self, &*second, copy).await?;
        self.note_second(copy, anew).await?;
        self.check_kept(&copy.stored.locator)?;
        restore_order(self, &*second, copy).await
    }

    /// Notes that the second copy is there now.
    async fn note_second(&self, copy: &Copy, anew: Stored) -> Result<()> {
        let instance = &copy.key.instance;
        let _noting = self.noting.lock().await;
        // As it is now; it may have been removed, or made anew in the first archive.
        let steps = match self.notes.of(&copy.stored.locator).await? {
            Some(now) if now.second == copy.second && self.check_kept(&copy.stored.locator).is_ok() => {
                let mut steps = vec![forget_there(&now.second), note_away(&now.second, instance)];
                steps.extend(note_copy(&Copy {
                    second: anew.locator,
                    second_sequence: anew.sequence,
                    ..now
                }));
                steps
            }
            _ => vec![note_away(&anew.locator, instance)],
        };
        self.notes.apply(steps).await?;
        self.live.wake();
        Ok(())
    }

    async fn mend_first(self: &Arc<Self>, copy: Copy) -> Result<()> {
        let instance = copy.key.instance;
        // Who catches up does not go by it.
        let _on_the_way = OnTheWay::new(&self.live, instance);
        let mending = Mending {
            instance,
            of: copy.stored.locator.clone(),
            after: self.first.last_sequence().unwrap_or_default(),
        };
        self.notes.apply(vec![note_mending(&mending)]).await?;
        let anew = written_anew(self, &*self.first, &copy).await;
        let _noting = self.noting.lock().await;
        let mut steps = vec![forget_mending(&instance)];
        let kept = self.check_kept(&copy.stored.locator);
        if let Ok(anew) = &anew {
            // Also where it is to be removed: nobody is to hear of it.
            self.spares.fetch_add(1, Ordering::AcqRel);
            steps.push(note_spare(&anew.locator));
            if kept.is_ok() {
                steps.extend(note_copy(&Copy {
                    spare: Some(anew.locator.clone()),
                    ..copy.clone()
                }));
            }
        }
        let noted = self.notes.apply(steps).await;
        let anew = anew?;
        if let Err(error) = noted {
            // The next opening would find it, a scan before would take it for a version.
            let _ = self.first.remove(&instance, &anew.locator).await;
            return Err(error);
        }
        let superfluous = match &kept {
            Ok(()) => copy.spare,
            Err(_) => Some(anew.locator),
        };
        if let Some(superfluous) = superfluous
            && let Err(error) = self.first.remove(&instance, &superfluous).await
        {
            tracing::warn!(%instance, %error, "a spare that is not needed stays in the first archive");
        }
        kept
    }

    /// Finds spares that were written just before a crash. Before anything else is read.
    pub(super) async fn settle_mending(&self) -> Result<()> {
        for mending in self.notes.mending().await? {
            let mut steps = vec![forget_mending(&mending.instance)];
            if let Some(copy) = self.notes.of(&mending.of).await? {
                let mut entries = self.first.scan(mending.after);
                while let Some(entry) = entries.try_next().await? {
                    let Entry::Stored(key, stored) = entry else {
                        continue;
                    };
                    if key == copy.key
                        && stored.length == copy.stored.length
                        && copying::sums(&*self.first, &stored.locator)
                            .await
                            .is_ok_and(|sums| sums == copy.sums)
                    {
                        steps.push(note_spare(&stored.locator));
                        steps.extend(note_copy(&Copy {
                            spare: Some(stored.locator),
                            ..copy.clone()
                        }));
                    }
                }
            }
            self.notes.apply(steps).await?;
        }
        let spares = self.notes.count_spares().await?;
        self.spares.store(spares, Ordering::Release);
        Ok(())
    }

    /// Whether it is a spare copy, of which a scan does not tell.
    pub(super) async fn is_spare(&self, locator: &Locator) -> Result<bool> {
        match self.spares.load(Ordering::Acquire) {
            0 => Ok(false),
            _ => self.notes.is_spare(locator).await,
        }
    }
}

/// Writes what is kept another time, from blocks that are whole.
async fn written_anew(shared: &Shared, archive: &dyn Archive, copy: &Copy) -> Result<Stored> {
    let mut writer = archive.begin().await?;
    let mut reading = read::Reading::new(shared, Arc::new(copy.clone()), 0..u64::MAX);
    while let Some(piece) = reading.next().await? {
        writer.write(piece).await?;
    }
    writer.commit(copy.key).await
}

/// Copies the versions that came later than this one another time, each behind the one before: the second archive alone must
/// tell which came last.
pub(super) async fn restore_order(shared: &Shared, second: &dyn Archive, of: &Copy) -> Result<()> {
    for later in shared.notes.later_versions(of).await? {
        let anew = written_anew(shared, second, &later).await?;
        shared.note_second(&later, anew).await?;
    }
    Ok(())
}

async fn health_of(archive: &dyn Archive, locator: &Locator, copy: &Copy) -> Health {
    let error = match read::check(archive, locator, copy).await {
        Ok(()) => return Health::Whole,
        Err(error) if is_damage(&error) => return Health::Damaged(error),
        Err(error) => error,
    };
    // A medium that can't read one place, or one that can't do anything.
    let takes = async { archive.begin().await?.abort().await };
    match takes.await {
        Ok(()) => Health::Damaged(error),
        Err(_) => Health::Away(error),
    }
}

fn busy(why: &'static str) -> Error {
    Error::new(ErrorKind::Io, "archive.mend", why)
}
