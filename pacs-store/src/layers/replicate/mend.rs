//! Making a damaged copy anew from the other one.
//!
//! The second archive gets another copy, and the notes say where. The first archive gets a spare: the same bytes under the same
//! key, which a scan does not tell of, for the instance stays where it was in the order. What is about to become a spare is noted
//! before, so that after a crash it is not taken for a new version.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::TryStreamExt;
use pacs_core::{Archive, Entry, Error, ErrorKind, Locator, Result, Sequence, Stored, Uid};

use super::notes::{
    Copy, Mending, Position, forget_mending, forget_order, forget_there, note_away, note_copy, note_mending,
    note_order, note_position, note_spare,
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
        let Err(error) = self.verify(locator).await else {
            return Ok(false);
        };
        if self.copy_of(locator).await?.is_none() {
            return Err(error);
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
                let copy = self.notes.of(locator).await?.ok_or_else(super::not_found)?;
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
        // Where it can't be now, who catches up does it.
        self.restore_order(&*second, &copy.key.instance).await.map(drop)
    }

    /// Notes that the second copy is there now.
    async fn note_second(&self, copy: &Copy, anew: Stored) -> Result<()> {
        let instance = &copy.key.instance;
        let _noting = self.noting.lock().await;
        // As it is now; it may have been removed, or made anew in the first archive.
        let now = self.notes.of(&copy.stored.locator).await?;
        let now =
            now.filter(|now| now.second == copy.second && self.check_kept(&copy.stored.locator).is_ok());
        let Some(now) = now else {
            return self.notes.apply(vec![note_away(&anew.locator, instance)]).await;
        };
        let position = {
            let position = self.live.state().position;
            Position {
                second_last: position.second_last.max(anew.sequence),
                ..position
            }
        };
        let mut steps = vec![
            forget_there(&now.second),
            note_away(&now.second, instance),
            // Until those that came later are behind it.
            note_order(instance),
            note_position(position),
        ];
        steps.extend(note_copy(&Copy {
            second: anew.locator,
            second_sequence: anew.sequence,
            ..now
        }));
        self.notes.apply(steps).await?;
        self.live.state().position = position;
        self.live.wake();
        Ok(())
    }

    /// Copies versions of an instance another time into the second archive that come there before an earlier one: the second
    /// archive alone must tell which came last. False where it can't be done now.
    pub(super) async fn restore_order(&self, second: &dyn Archive, instance: &Uid) -> Result<bool> {
        if self.live.state().is_coming(instance) {
            return Ok(false);
        }
        let mut greatest = Sequence(0);
        for version in self.notes.versions(instance).await? {
            if version.second_sequence > greatest {
                greatest = version.second_sequence;
                continue;
            }
            match written_anew(self, second, &version).await {
                Ok(anew) => {
                    greatest = anew.sequence;
                    self.note_second(&version, anew).await?;
                }
                // It has no whole copy.
                Err(error) if is_damage(&error) => {
                    tracing::error!(%instance, %error, "a version can't be brought into its order in the second archive");
                }
                Err(error) => return Err(error),
            }
        }
        let _noting = self.noting.lock().await;
        self.notes.apply(vec![forget_order(instance)]).await?;
        Ok(true)
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
        // As it is now: it may have been removed.
        let now = self.notes.of(&copy.stored.locator).await?;
        let now = now.filter(|_| self.check_kept(&copy.stored.locator).is_ok());
        let is_kept = now.is_some();
        let mut superfluous = None;
        if let Ok(anew) = &anew {
            // Also where it is to be removed: nobody is to hear of it.
            self.spares.fetch_add(1, Ordering::AcqRel);
            steps.push(note_spare(&anew.locator));
            match now {
                Some(now) => {
                    superfluous = now.spare.clone();
                    steps.extend(note_copy(&Copy {
                        spare: Some(anew.locator.clone()),
                        ..now
                    }));
                }
                None => superfluous = Some(anew.locator.clone()),
            }
        }
        let noted = self.notes.apply(steps).await;
        let anew = anew?;
        if let Err(error) = noted {
            // The next opening would find it, a scan before would take it for a version.
            let _ = self.first.remove(&instance, &anew.locator).await;
            return Err(error);
        }
        if let Some(superfluous) = superfluous
            && let Err(error) = self.first.remove(&instance, &superfluous).await
        {
            tracing::warn!(%instance, %error, "a spare that is not needed stays in the first archive");
        }
        is_kept.then_some(()).ok_or_else(super::not_found)
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
