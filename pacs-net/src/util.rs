//! What several rooms of the crate use.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
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

/// What a peer says, without these values, which identify somebody, nor control characters, and cut to what fits a line.
pub(crate) fn without(text: &str, values: impl IntoIterator<Item = String>) -> String {
    const TEXT_LENGTH_MAX_CHARS: usize = 200;
    let mut said: String = text.chars().filter(|c| !c.is_control()).collect();
    // Shorter ones are no names, and would tear words apart.
    let mut values: Vec<_> = values
        .into_iter()
        .filter(|value| value.chars().count() > 2)
        .collect();
    // Where one is within another, the longer is taken out first.
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    for value in values {
        said = said.replace(&value, "…");
    }
    // Last: no part of a value is left at the end.
    said.chars().take(TEXT_LENGTH_MAX_CHARS).collect()
}

/// Sets of UIDs by digest: a million of them take some 30 MiB.
#[derive(Default)]
pub(crate) struct Seen {
    states: [RandomState; 2],
    digests: HashSet<u128>,
}

impl Seen {
    fn digest(&self, uid: &Uid) -> u128 {
        let [high, low] = self
            .states
            .each_ref()
            .map(|state| u128::from(state.hash_one(uid)));
        high << 64 | low
    }

    /// Whether it was not there before.
    pub(crate) fn insert(&mut self, uid: &Uid) -> bool {
        let digest = self.digest(uid);
        self.digests.insert(digest)
    }

    pub(crate) fn contains(&self, uid: &Uid) -> bool {
        self.digests.contains(&self.digest(uid))
    }

    pub(crate) fn len(&self) -> usize {
        self.digests.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_value_is_left_wherever_the_text_is_cut() {
        for before in 0..210 {
            let text = format!("{}Morgenstern^Anna\n refused", "x".repeat(before));
            let values = ["Anna", "Morgenstern", "Morgenstern^Anna", "a"].map(str::to_owned);
            let said = without(&text, values);
            assert!(said.chars().count() <= 200);
            assert!(!said.contains(['M', 'A', '\n']), "{said}");
        }
        assert_eq!(without("no such AE", ["AE".to_owned()]), "no such AE");
    }
}
