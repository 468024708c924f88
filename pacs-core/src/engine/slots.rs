//! A fixed number of slots: who finds none free waits for one, in order of arrival.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::channel::oneshot;

/// Bounds how many of something exist at once.
#[derive(Clone)]
pub(crate) struct Slots {
    state: Arc<Mutex<State>>,
}

struct State {
    free: usize,
    waiting: VecDeque<oneshot::Sender<Slot>>,
}

/// One slot in use; dropping it frees it.
pub(crate) struct Slot {
    state: Option<Arc<Mutex<State>>>,
}

impl Slots {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                free: count,
                waiting: VecDeque::new(),
            })),
        }
    }

    pub(crate) async fn take(&self) -> Slot {
        let waiting = {
            let mut state = lock(&self.state);
            if state.free > 0 {
                state.free -= 1;
                return Slot {
                    state: Some(Arc::clone(&self.state)),
                };
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.push_back(sender);
            receiver
        };
        // The sender stays in the shared state until a slot goes through it, so the wait can't be
        // cancelled from the other side; a slot that frees nothing is the harmless answer if it were.
        waiting.await.unwrap_or(Slot { state: None })
    }

    /// Whether anybody waits for one now.
    pub(crate) fn are_short(&self) -> bool {
        let state = lock(&self.state);
        state.waiting.iter().any(|waiting| !waiting.is_canceled())
    }

    /// How many are free now.
    #[cfg(test)]
    fn free(&self) -> usize {
        lock(&self.state).free
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(shared) = self.state.take() else { return };
        let mut slot = Slot {
            state: Some(Arc::clone(&shared)),
        };
        loop {
            let mut state = lock(&shared);
            let Some(sender) = state.waiting.pop_front() else {
                state.free += 1;
                slot.state = None;
                return;
            };
            drop(state);
            match sender.send(slot) {
                Ok(()) => return,
                // Whoever waited has gone; the next one gets it.
                Err(back) => slot = back,
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Nothing panics while the lock is held, and the state is whole between statements.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use futures::executor::block_on;

    #[test]
    fn the_one_who_waits_longest_gets_the_freed_slot_and_a_waiter_that_left_is_skipped() {
        let slots = Slots::new(1);
        let held = block_on(slots.take());
        let mut gone = Box::pin(slots.take());
        assert!((&mut gone).now_or_never().is_none());
        let mut waits = Box::pin(slots.take());
        assert!((&mut waits).now_or_never().is_none());
        assert!(slots.are_short());
        drop(gone);
        drop(held);
        assert!(!slots.are_short());
        let second = block_on(waits);
        assert_eq!(slots.free(), 0);
        drop(second);
        assert_eq!(slots.free(), 1);
    }
}
