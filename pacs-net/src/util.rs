//! What several rooms of the crate use.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicBool, Ordering};

use pacs_core::Uid;
use tokio::sync::Notify;

/// Set once, awaited by many.
#[derive(Default)]
pub(crate) struct Signal {
    set: AtomicBool,
    notify: Notify,
}

impl Signal {
    pub(crate) fn set(&self) {
        self.set.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }

    pub(crate) fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    pub(crate) async fn wait(&self) {
        // Made before the flag is read, so that a `set` between the two is not missed.
        let notified = self.notify.notified();
        if !self.is_set() {
            notified.await;
        }
    }
}

/// A UID that nobody else has: of a random number (PS3.5 B.2).
pub(crate) fn new_uid() -> Uid {
    // Each of them has keys of its own, which come of the system's random numbers.
    let random = || u128::from(RandomState::new().hash_one(()));
    let number = (random() << 64) | random();
    // `2.25.` and at most 39 digits are a UID, 64 characters long at most.
    Uid::constant(&format!("2.25.{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_uids_are_valid_and_differ() {
        let uids: std::collections::HashSet<Uid> = (0..1000).map(|_| new_uid()).collect();
        assert_eq!(uids.len(), 1000);
        assert!(uids.iter().all(|uid| Uid::parse(uid).is_ok()));
    }
}
