//! [`Line`]: what of one study waits for one destination, for whoever delivers it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::record::{self, LineState};
use super::{Outbox, Progress, Recorded, What};
use crate::archive::Timestamp;
use crate::error::Result;
use crate::ledger::{self, Parts, Step};
use crate::route::Changes;
use crate::uid::Uid;

/// A claimed line. Dropped, it is let go, and others may claim it.
pub struct Line {
    outbox: Outbox,
    destination: Arc<str>,
    study: Uid,
    failures: u64,
    /// Something of it came to its end.
    progressed: AtomicBool,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line")
            .field("destination", &self.destination)
            .field("study", &self.study)
            .finish_non_exhaustive()
    }
}

/// One delivery of a line that waits.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// What is delivered.
    pub what: What,
    /// What is recorded of it.
    pub recorded: Recorded,
    /// What is changed on the way.
    pub changes: Option<Arc<Changes>>,
}

/// How a try to deliver ended. Texts hold no patient data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was delivered; what the receiver said to it, if anything.
    Delivered(String),
    /// There is nothing to deliver any more: nothing is recorded of it.
    Gone,
    /// It will never be taken: it is put among the dead.
    Refused(String),
    /// It was not taken this time.
    Failed(String),
    /// It could not be taken this time, whatever it is: that counts for no try.
    Busy(String),
}

impl Outcome {
    /// Whether it waits no longer.
    fn is_end(&self) -> bool {
        matches!(self, Self::Delivered(_) | Self::Gone | Self::Refused(_))
    }
}

impl Outbox {
    /// The line of `destination` whose turn it is, for whoever asks alone; `None` when nothing is to be delivered now,
    /// or the destination is held.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn claim(&self, destination: &Arc<str>, now: Timestamp) -> Result<Option<Line>> {
        if self.state().held.contains(destination) {
            return Ok(None);
        }
        self.wake_lines(destination, now).await?;
        let mut range = record::lines(destination).range();
        loop {
            // More than can be claimed are never asked for.
            let claimed = self
                .state()
                .claimed
                .iter()
                .filter(|(name, _)| name == destination)
                .count();
            let page = self.inner.ledger.range(range.clone(), claimed + 1).await?;
            let Some((last, _)) = page.last() else {
                return Ok(None);
            };
            range.start = ledger::after(last);
            for (key, _) in &page {
                let study = record::study_of_line(key)?;
                if !self.state().claimed.insert((Arc::clone(destination), study)) {
                    continue;
                }
                // From here on it is let go when it is dropped.
                let mut line = Line {
                    outbox: self.clone(),
                    destination: Arc::clone(destination),
                    study,
                    failures: 0,
                    progressed: AtomicBool::new(false),
                };
                let state = self
                    .inner
                    .ledger
                    .get(&record::line_of(destination, &study))
                    .await?;
                // It may have come to its end between the two looks.
                if let Some(state) = state {
                    let state = LineState::read(&state)?;
                    if state.not_before.0 == 0 {
                        line.failures = state.failures;
                        return Ok(Some(line));
                    }
                }
            }
        }
    }

    /// Gives lines whose time has come their turn, some of them at once: who delivers comes again for the others.
    async fn wake_lines(&self, destination: &Arc<str>, now: Timestamp) -> Result<()> {
        const AT_ONCE: usize = 64;
        let due =
            record::later(destination).range().start..record::later(destination).number(now.0 + 1).bytes();
        let page = self.inner.ledger.range(due, AT_ONCE).await?;
        let mut steps = Vec::new();
        for (key, _) in &page {
            let study = record::study_of_line(key)?;
            let at = record::line_of(destination, &study);
            let Some(old) = self.inner.ledger.get(&at).await? else {
                continue;
            };
            let mut line = LineState::read(&old)?;
            line.not_before = Timestamp(0);
            record::put_line(&mut steps, destination, &study, Some(&old), Some(&line))?;
        }
        if !steps.is_empty() {
            // Where they are not as they were, somebody else woke them.
            self.inner.ledger.apply(steps).await?;
        }
        Ok(())
    }

    /// When the next line of `destination` waits to be tried again, if one does; never while it is held.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn next_try(&self, destination: &str) -> Result<Option<Timestamp>> {
        if self.state().held.contains(destination) {
            return Ok(None);
        }
        let first = self
            .inner
            .ledger
            .range(record::later(destination).range(), 1)
            .await?;
        let Some((key, _)) = first.first() else {
            return Ok(None);
        };
        let mut parts = Parts::of(key);
        parts.text()?;
        parts.text()?;
        Ok(Some(Timestamp(parts.number()?)))
    }
}

impl Line {
    /// Of which study it is.
    pub fn study(&self) -> &Uid {
        &self.study
    }

    /// To whom it leads.
    pub fn destination(&self) -> &Arc<str> {
        &self.destination
    }

    /// Times in a row that it was claimed, and nothing of it came to its end.
    pub fn failures(&self) -> u64 {
        match self.progressed.load(Ordering::Relaxed) {
            true => 0,
            false => self.failures,
        }
    }

    /// What waits in it, in its order: the first `limit`.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn waiting(&self, limit: usize) -> Result<Vec<Waiting>> {
        let ledger = &self.outbox.inner.ledger;
        let all = record::waiting_of(&self.destination, &self.study).range();
        let mut waiting = Vec::new();
        for (key, _) in ledger.range(all, limit).await? {
            let what = record::what_of_waiting(&key)?;
            let Some(recorded) = self.outbox.recorded(&self.destination, &what).await? else {
                continue;
            };
            let changes = match recorded.changes.as_str() {
                "" => None,
                hash => match ledger.get(&record::changes_key(hash)).await? {
                    Some(value) => Some(record::read_changes(&value)?),
                    None => return Err(record::damaged()),
                },
            };
            waiting.push(Waiting {
                what,
                recorded,
                changes,
            });
        }
        Ok(waiting)
    }

    fn key(&self, waiting: &Waiting) -> Bytes {
        record::waiting(
            &self.destination,
            &self.study,
            waiting.recorded.sequence,
            &waiting.what,
        )
    }

    /// Records how tries ended, in one durable step. What was replaced by another version meanwhile stays as that says.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn finish(&self, ended: Vec<(Waiting, Outcome)>) -> Result<()> {
        let (mut steps, mut done, mut dead) = (Vec::new(), 0, 0);
        if ended.iter().any(|(_, outcome)| outcome.is_end()) {
            self.progressed.store(true, Ordering::Relaxed);
        }
        for (waiting, outcome) in &ended {
            let key = record::delivery(&self.destination, &waiting.what);
            let old = waiting.recorded.value();
            if self.outbox.inner.ledger.get(&key).await?.as_ref() != Some(&old) {
                continue;
            }
            steps.push(Step::Expect(key.clone(), Some(old)));
            if outcome.is_end() {
                steps.push(Step::Delete(self.key(waiting)));
            }
            let mut new = Recorded {
                at: Timestamp::now(),
                ..waiting.recorded.clone()
            };
            match outcome {
                Outcome::Delivered(said) => {
                    new.progress = Progress::Done;
                    new.why = record::shortened(said);
                    steps.push(Step::Put(
                        record::done(new.at, &self.destination, &waiting.what),
                        Bytes::new(),
                    ));
                    done += 1;
                }
                Outcome::Gone => {
                    steps.push(Step::Delete(key));
                    done += 1;
                    continue;
                }
                Outcome::Refused(why) => {
                    new.progress = Progress::Dead;
                    new.attempts += 1;
                    new.why = record::shortened(why);
                    steps.push(Step::Put(
                        record::dead(&self.destination, &waiting.what),
                        Bytes::new(),
                    ));
                    dead += 1;
                }
                Outcome::Failed(why) => {
                    new.attempts += 1;
                    new.why = record::shortened(why);
                }
                Outcome::Busy(why) => new.why = record::shortened(why),
            }
            steps.push(Step::Put(key, new.value()));
        }
        if steps.is_empty() {
            return Ok(());
        }
        if !self.outbox.inner.ledger.apply(steps).await? {
            // Another version of one of them was decided about just now: one by one, the others count.
            if ended.len() > 1 {
                for one in ended {
                    Box::pin(self.finish(vec![one])).await?;
                }
            }
            return Ok(());
        }
        self.outbox.state().count(&self.destination, -(done + dead), dead);
        Ok(())
    }

    /// Lets it go: with nothing in it, it is no more; else it waits until `retry`, or for its next turn.
    ///
    /// # Errors
    /// What the ledger says; then others may claim it as it is.
    pub async fn let_go(self, retry: Option<Timestamp>) -> Result<()> {
        let failures = match retry {
            Some(_) => self.failures() + 1,
            None => 0,
        };
        let not_before = retry.unwrap_or(Timestamp(0));
        self.outbox
            .change_line(&self.destination, &self.study, |line| {
                line.failures = failures;
                line.not_before = not_before;
            })
            .await
    }
}

impl Outbox {
    /// Ends a line that nothing waits in.
    pub(super) async fn end_line(&self, destination: &str, study: &Uid) -> Result<()> {
        self.change_line(destination, study, |_| ()).await
    }

    /// Changes a line, or ends it where nothing waits in it.
    async fn change_line(
        &self,
        destination: &str,
        study: &Uid,
        change: impl Fn(&mut LineState),
    ) -> Result<()> {
        let ledger = &self.inner.ledger;
        let at = record::line_of(destination, study);
        loop {
            let Some(old) = ledger.get(&at).await? else {
                return Ok(());
            };
            let all = record::waiting_of(destination, study).range();
            let empty = ledger.range(all, 1).await?.is_empty();
            let mut line = LineState::read(&old)?;
            change(&mut line);
            if !empty && line.value() == old {
                return Ok(());
            }
            let mut steps = Vec::new();
            let new = (!empty).then_some(&line);
            record::put_line(&mut steps, destination, study, Some(&old), new)?;
            if ledger.apply(steps).await? {
                return Ok(());
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let claim = (Arc::clone(&self.destination), self.study);
        self.outbox.state().claimed.remove(&claim);
        self.outbox.told(&self.destination);
    }
}
