//! Events that wait for delivery, in the order they happened: [`EventQueue`].

use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use futures::TryStreamExt;
use futures::lock::OwnedMutexGuard;

use super::Ups;
use super::event::Event;
use super::keys;
use crate::error::Result;
use crate::ledger::{LedgerExt, Step};
use crate::uid::AeTitle;

/// Old events that are deleted at once.
const EXPIRED_AT_ONCE: usize = 256;

/// Events that are kept for one AE when old ones are deleted: who doesn't fetch more than that asks what there is.
const EVENTS_KEPT_MAX: usize = 10_000;

/// An event that waits for an AE.
#[derive(Clone, PartialEq, Eq)]
pub struct QueuedEvent {
    key: Bytes,
    /// The event.
    pub event: Event,
}

impl std::fmt::Debug for QueuedEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("QueuedEvent").field(&self.event).finish()
    }
}

/// The events of one AE, for whoever delivers them: within a process one at a time, so that none is delivered twice.
pub struct EventQueue {
    ups: Ups,
    ae_title: AeTitle,
    _turn: OwnedMutexGuard<()>,
}

impl std::fmt::Debug for EventQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventQueue")
            .field("ae_title", &self.ae_title)
            .finish_non_exhaustive()
    }
}

impl EventQueue {
    /// Whose.
    pub fn ae_title(&self) -> &AeTitle {
        &self.ae_title
    }

    /// The first events that wait, at most `limit`.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn next(&self, limit: usize) -> Result<Vec<QueuedEvent>> {
        self.ups.events(&self.ae_title, limit).await
    }

    /// They were delivered, and wait no longer.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn acknowledge(&self, events: &[QueuedEvent]) -> Result<()> {
        let steps = events.iter().map(|event| Step::Delete(event.key.clone()));
        // Nothing is expected.
        self.ups.ledger().apply(steps.collect()).await.map(drop)
    }
}

impl Ups {
    /// The first events that wait for an AE, at most `limit`. To deliver them see [`queue_of`](Self::queue_of).
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn events(&self, ae_title: &AeTitle, limit: usize) -> Result<Vec<QueuedEvent>> {
        let waiting = self.ledger().range(keys::events_of(ae_title), limit).await?;
        let queued = |(key, value): (Bytes, Bytes)| {
            let event = Event::from_value(&value)?;
            Ok(QueuedEvent { key, event })
        };
        waiting.into_iter().map(queued).collect()
    }

    /// The AE titles that events wait for.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn waiting(&self) -> Result<Vec<AeTitle>> {
        self.titles_in(keys::all_events(), keys::events_of).await
    }

    /// The queue of an AE, to deliver from; waits until nobody else in this process does.
    pub async fn queue_of(&self, ae_title: &AeTitle) -> EventQueue {
        let turn = self.turn(ae_title).lock_owned().await;
        self.queue_with(ae_title, turn)
    }

    /// The same, or `None` when somebody else has it.
    pub fn try_queue_of(&self, ae_title: &AeTitle) -> Option<EventQueue> {
        let turn = self.turn(ae_title).try_lock_owned()?;
        Some(self.queue_with(ae_title, turn))
    }

    fn queue_with(&self, ae_title: &AeTitle, turn: OwnedMutexGuard<()>) -> EventQueue {
        EventQueue {
            ups: self.clone(),
            ae_title: *ae_title,
            _turn: turn,
        }
    }

    fn turn(&self, ae_title: &AeTitle) -> Arc<futures::lock::Mutex<()>> {
        let mut queues = self.inner.queues.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody has are forgotten, so that it stays small.
        if let Entry::Vacant(_) = queues.entry(*ae_title) {
            queues.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        Arc::clone(queues.entry(*ae_title).or_default())
    }

    /// Puts an event that no step is changed with.
    pub(super) async fn queue(&self, ae_title: &AeTitle, event: &Event) -> Result<()> {
        let value = event.to_value()?;
        loop {
            let key = keys::event(ae_title, self.inner.number());
            // Another process may have had the same number.
            let steps = vec![Step::Expect(key.clone(), None), Step::Put(key, value.clone())];
            if self.ledger().apply(steps).await? {
                break;
            }
        }
        self.inner.queued.tell(ae_title);
        Ok(())
    }

    /// The AE titles that the keys of a range begin with; `of` is the range of one.
    pub(super) async fn titles_in(
        &self,
        mut range: Range<Bytes>,
        of: impl Fn(&AeTitle) -> Range<Bytes>,
    ) -> Result<Vec<AeTitle>> {
        let mut titles = Vec::new();
        while let Some((key, _)) = self.ledger().range(range.clone(), 1).await?.first() {
            let title = keys::ae_in(key)?;
            range.start = of(&title).end;
            titles.push(title);
        }
        Ok(titles)
    }

    /// Deletes events that wait since before a moment, in microseconds since 1970, and of more than
    /// [`EVENTS_KEPT_MAX`] of one AE the oldest.
    pub(super) async fn expire_events(&self, moment: u64) -> Result<()> {
        for ae in self.waiting().await? {
            loop {
                let old = self
                    .ledger()
                    .range(keys::events_before(&ae, moment), EXPIRED_AT_ONCE)
                    .await?;
                if old.is_empty() {
                    break;
                }
                let steps = old.into_iter().map(|(key, _)| Step::Delete(key));
                self.ledger().apply(steps.collect()).await?;
            }
            self.keep_newest(&ae, EVENTS_KEPT_MAX).await?;
        }
        Ok(())
    }

    /// Of the events of an AE keeps the newest, so many.
    async fn keep_newest(&self, ae: &AeTitle, most: usize) -> Result<()> {
        let mut events = self.ledger().within(keys::events_of(ae));
        let mut count = 0_usize;
        while events.try_next().await?.is_some() {
            count += 1;
        }
        let mut too_many = count.saturating_sub(most);
        while too_many > 0 {
            let page = too_many.min(EXPIRED_AT_ONCE);
            let oldest = self.ledger().range(keys::events_of(ae), page).await?;
            too_many -= page;
            let steps = oldest.into_iter().map(|(key, _)| Step::Delete(key));
            self.ledger().apply(steps.collect()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::testing::Map;

    #[test]
    fn of_the_events_of_an_ae_the_newest_are_kept() {
        let ups = Ups::new(Arc::new(Map::default()));
        let ae = AeTitle::parse("AE").unwrap();
        for status in ["1", "2", "3"] {
            block_on(ups.queue(&ae, &Event::scp_status(status))).unwrap();
        }
        let before = block_on(ups.events(&ae, 10)).unwrap();
        block_on(ups.keep_newest(&ae, 2)).unwrap();
        assert_eq!(block_on(ups.events(&ae, 10)).unwrap(), before[1..]);
    }
}
