//! Which studies have been quiet for a while.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pacs_core::Uid;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Studies of which something arrived, each with when it did last.
pub(crate) struct Quiet {
    after: Duration,
    arrived: Mutex<HashMap<Uid, Instant>>,
    changed: Notify,
}

impl Quiet {
    /// A study is quiet when nothing of it has arrived for `after`.
    pub(crate) fn new(after: Duration) -> Self {
        Self {
            after,
            arrived: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Something of a study arrived.
    pub(crate) fn touch(&self, study: Uid) {
        self.arrived().insert(study, Instant::now());
        self.changed.notify_one();
    }

    /// Whether something of a study arrived that has not been given out yet.
    pub(crate) fn is_waiting(&self, study: &Uid) -> bool {
        self.arrived().contains_key(study)
    }

    /// Waits for a study to be quiet and gives it out; of several, the one that was quiet first. It is for one
    /// caller at a time.
    pub(crate) async fn next(&self) -> Uid {
        loop {
            let first = {
                let arrived = self.arrived();
                let first = arrived.iter().min_by_key(|(study, at)| (**at, **study));
                first.map(|(study, at)| (*study, *at + self.after))
            };
            match first {
                Some((study, due)) if due <= Instant::now() => {
                    self.arrived().remove(&study);
                    return study;
                }
                // What arrives meanwhile is due later than this.
                Some((_, due)) => sleep_until(due).await,
                None => self.changed.notified().await,
            }
        }
    }

    fn arrived(&self) -> MutexGuard<'_, HashMap<Uid, Instant>> {
        // Nothing panics while it holds this lock.
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::advance;

    use super::*;

    const A: Uid = Uid::constant("1.2.1");
    const B: Uid = Uid::constant("1.2.2");

    /// What is given out now, if something is.
    async fn now(quiet: &Quiet) -> Option<Uid> {
        tokio::select! {
            biased;
            study = quiet.next() => Some(study),
            () = tokio::task::yield_now() => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_study_is_given_out_once_when_nothing_of_it_has_arrived_for_a_while() {
        let quiet = Quiet::new(Duration::from_secs(10));
        quiet.touch(A);
        advance(Duration::from_secs(6)).await;
        quiet.touch(B);
        quiet.touch(A);
        advance(Duration::from_secs(6)).await;
        quiet.touch(A);
        assert_eq!(now(&quiet).await, None);
        advance(Duration::from_secs(4)).await;
        assert_eq!(now(&quiet).await, Some(B));
        assert!(quiet.is_waiting(&A) && !quiet.is_waiting(&B));
        assert_eq!(now(&quiet).await, None);
        advance(Duration::from_secs(6)).await;
        assert_eq!(now(&quiet).await, Some(A));
        advance(Duration::from_secs(60)).await;
        assert_eq!(now(&quiet).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_before_the_first_study_is_woken_by_it() {
        let quiet = Arc::new(Quiet::new(Duration::from_secs(10)));
        let waiting = tokio::spawn({
            let quiet = Arc::clone(&quiet);
            async move { quiet.next().await }
        });
        tokio::task::yield_now().await;
        quiet.touch(B);
        assert_eq!(waiting.await.unwrap(), B);
    }
}
