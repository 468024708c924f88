//! The second archive: opened when it is there, and compared with what is noted of it before anything is written to it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt};
use pacs_core::{Archive, Entry, Error, ErrorKind, Result, Sequence, Uid};

use super::notes::{Position, forget_away, forget_copy, forget_met, note_away, note_met, note_position};
use super::{AT_ONCE, OpenSecond, Shared, copying, is_damage, read, unordered};

pub(super) struct Second {
    /// Held while it is opened, which may take long.
    open: Mutex<OpenSecond>,
    /// The archive, and whether what is noted of it is what it has.
    opened: Mutex<(Option<Arc<dyn Archive>>, bool)>,
    /// It took what it was given last.
    pub(super) is_present: AtomicBool,
}

impl Second {
    pub(super) fn new(open: OpenSecond) -> Self {
        Self {
            open: Mutex::new(open),
            opened: Mutex::default(),
            is_present: AtomicBool::new(false),
        }
    }

    /// The second archive, where it is open.
    pub(super) fn now(&self) -> Result<Arc<dyn Archive>> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        match &*opened {
            (Some(archive), true) => Ok(Arc::clone(archive)),
            _ => Err(away()),
        }
    }

    /// The same, where it takes what comes.
    pub(super) fn present(&self) -> Result<Arc<dyn Archive>> {
        match self.is_present.load(Ordering::Acquire) {
            true => self.now(),
            false => Err(away()),
        }
    }

    /// Opens it where it isn't open. Blocks, and not within a future: who opens it may wait for one.
    pub(super) fn open(&self) -> Result<Arc<dyn Archive>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = || self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(archive), _) = &*opened() {
            return Ok(Arc::clone(archive));
        }
        let archive = open()?;
        if !archive.capability().ordered_scan {
            return Err(unordered("second"));
        }
        opened().0 = Some(Arc::clone(&archive));
        Ok(archive)
    }

    fn set_compared(&self) {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
    }

    pub(super) fn set_present(&self, is_present: bool) {
        self.is_present.store(is_present, Ordering::Release);
    }
}

pub(super) fn away() -> Error {
    let why = "the second archive is away";
    Error::new(ErrorKind::OutOfResources, "archive.replicate", why)
}

impl Shared {
    /// Compares what is noted with what the second archive has, where that was not done since its opening.
    pub(super) async fn compare_second(&self, second: &dyn Archive) -> Result<()> {
        if self.second.now().is_err() {
            self.forget_lost(second).await?;
            // Before anything comes to the places of what was lost.
            self.send_away(second).await?;
            self.meet(second).await?;
            self.settle_met(second).await?;
            self.second.set_compared();
        }
        Ok(())
    }

    /// Forgets copies that the second archive has lost, and does not know that it had: an archive gives such places again.
    async fn forget_lost(&self, second: &dyn Archive) -> Result<()> {
        let position = self.live.state().position;
        let Some(last) = second.last_sequence().filter(|last| *last < position.second_last) else {
            return Ok(());
        };
        tracing::error!("the second archive has lost what it took in last: it is copied again");
        let mut before = position.first;
        let mut copies = self.notes.after(Sequence(0)).ready_chunks(AT_ONCE);
        while let Some(chunk) = copies.next().await {
            let mut steps = Vec::new();
            for copy in chunk {
                let copy = copy?;
                if copy.second_sequence > last {
                    before = before.min(Sequence(copy.stored.sequence.0 - 1));
                    steps.extend(forget_copy(&copy));
                }
            }
            // A crash in between begins again: what is forgotten then is known to be missing by its position.
            steps.push(note_position(Position {
                first: before,
                ..position
            }));
            self.notes.apply(steps).await?;
        }
        let position = Position {
            first: before,
            second: position.second.min(last),
            second_last: last,
        };
        self.notes.apply(vec![note_position(position)]).await?;
        self.live.state().position = position;
        Ok(())
    }

    /// Removes from the second archive what was removed from the first.
    pub(super) async fn send_away(&self, second: &dyn Archive) -> Result<()> {
        loop {
            let away = self.notes.away(AT_ONCE).await?;
            if away.is_empty() {
                return Ok(());
            }
            let mut steps = Vec::with_capacity(away.len());
            for (locator, instance) in away {
                match second.remove(&instance, &locator).await {
                    // One place that can't be read must not keep the others.
                    Err(error) if !is_damage(&error) => {
                        tracing::warn!(%instance, %error, "what was removed is still in the second archive");
                    }
                    // Where its record can't be found any more there is nothing to remove.
                    _ => steps.push(forget_away(&locator)),
                }
            }
            if steps.is_empty() {
                return Ok(());
            }
            self.notes.apply(steps).await?;
        }
    }

    /// Notes what is in the second archive and may not be noted: what came there shortly before a crash, or all where
    /// the notes were lost.
    async fn meet(&self, second: &dyn Archive) -> Result<()> {
        let position = self.live.state().position;
        let mut entries = second.scan(position.second).ready_chunks(AT_ONCE);
        while let Some(chunk) = entries.next().await {
            let mut steps = Vec::with_capacity(chunk.len());
            for entry in chunk {
                if let Entry::Stored(key, stored) = entry?
                    && !self.notes.is_there(&stored.locator).await?
                    && !self.notes.is_away(&stored.locator).await?
                {
                    steps.push(note_met(&key.instance, &stored));
                }
            }
            self.notes.apply(steps).await?;
        }
        Ok(())
    }

    /// Sends away what was met and is another copy of what is noted: left by a crash, it would be in the wrong place of the
    /// order.
    async fn settle_met(&self, second: &dyn Archive) -> Result<()> {
        let mut after = None;
        loop {
            let page = self.notes.all_met(after.as_ref(), AT_ONCE).await?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            after = Some(last.clone());
            let instances: BTreeSet<Uid> = page.into_iter().map(|(_, instance)| instance).collect();
            for instance in instances {
                let versions = self.notes.versions(&instance).await?;
                if versions.is_empty() {
                    continue;
                }
                for (_, met) in self.notes.met(&instance).await? {
                    let Ok(sums) = copying::sums(second, &met.locator).await else {
                        continue;
                    };
                    let Some(noted) = versions.iter().find(|version| version.sums == sums) else {
                        continue;
                    };
                    // Unless it is the one that is whole.
                    if read::check(second, &noted.second, noted).await.is_ok() {
                        let steps = vec![
                            forget_met(&instance, met.sequence),
                            note_away(&met.locator, &instance),
                        ];
                        self.notes.apply(steps).await?;
                    }
                }
            }
        }
    }

    /// Has what was removed before a crash noted as removed.
    pub(super) async fn forget_removed(&self) -> Result<()> {
        let position = self.live.state().position;
        let mut entries = self.first.scan(position.first);
        while let Some(entry) = entries.try_next().await? {
            let Entry::Removed { locator, .. } = entry else {
                continue;
            };
            if let Some(copy) = self.notes.of(&locator).await? {
                self.remove_spare(&copy).await?;
                self.notes.apply(super::note_removed(&copy).into()).await?;
            }
        }
        Ok(())
    }
}
