//! [`Budget`]: an amount that many share, such as memory. Who finds too little left waits, in order of
//! arrival.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::channel::oneshot;

/// An amount that many share; clones are the same one. Its unit is the caller's: bytes, places.
#[derive(Clone)]
pub struct Budget {
    state: Arc<Mutex<State>>,
}

struct State {
    total: usize,
    free: usize,
    waiting: VecDeque<(usize, Box<dyn Waiter>)>,
}

/// Who waits for a share.
pub(crate) trait Waiter: Send {
    /// Whether it waits no longer.
    fn has_left(&self) -> bool;
    /// Gives it the share. It must neither block nor panic.
    fn serve(self: Box<Self>, share: Share);
}

impl Waiter for oneshot::Sender<Share> {
    fn has_left(&self) -> bool {
        self.is_canceled()
    }
    fn serve(self: Box<Self>, share: Share) {
        // Whoever has left since gives it back by its drop.
        let _ = self.send(share);
    }
}

/// Those who left: they are dropped once the lock is let go, as what they hold may come back for it.
type Gone = Vec<(usize, Box<dyn Waiter>)>;

/// A part of a [`Budget`] in use; dropping it gives it back.
pub struct Share {
    state: Arc<Mutex<State>>,
    amount: usize,
}

impl Budget {
    /// So much in all.
    pub fn new(total: usize) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                total,
                free: total,
                waiting: VecDeque::new(),
            })),
        }
    }

    /// Takes so much, or all there is where more is asked for. Waits until it is free and everybody who
    /// asked before has theirs; dropping the future gives up the place.
    pub async fn take(&self, amount: usize) -> Share {
        // Dropped behind the receiver, wherever this future ends: who waits behind it is looked after then.
        let nothing = self.share(0);
        let (sender, receiver) = oneshot::channel();
        self.serve(amount, Box::new(sender));
        // The sender stays in the shared state until a share goes through it, so the wait can't end from the
        // other side; a share of nothing is the harmless answer if it did.
        receiver.await.unwrap_or(nothing)
    }

    /// As [`take`](Self::take), for who is not polled: the share comes to it when it is its turn.
    pub(crate) fn serve(&self, amount: usize, waiter: Box<dyn Waiter>) {
        let mut gone = Gone::new();
        let amount = {
            let mut state = lock(&self.state);
            let amount = amount.min(state.total);
            state.skip_those_who_left(&mut gone);
            if !state.waiting.is_empty() || state.free < amount {
                state.waiting.push_back((amount, waiter));
                return;
            }
            state.free -= amount;
            amount
        };
        waiter.serve(self.share(amount));
    }

    /// Takes so much if it is free now and nobody waits.
    pub fn try_take(&self, amount: usize) -> Option<Share> {
        self.reserve(amount).then(|| self.share(amount))
    }

    /// How much it is in all.
    #[cfg(feature = "pixel")]
    pub(crate) fn total(&self) -> usize {
        lock(&self.state).total
    }

    /// Whether anybody waits now.
    pub fn is_short(&self) -> bool {
        let mut gone = Gone::new();
        let mut state = lock(&self.state);
        state.skip_those_who_left(&mut gone);
        !state.waiting.is_empty()
    }

    fn share(&self, amount: usize) -> Share {
        Share {
            state: Arc::clone(&self.state),
            amount,
        }
    }

    fn reserve(&self, amount: usize) -> bool {
        let mut gone = Gone::new();
        let mut state = lock(&self.state);
        state.skip_those_who_left(&mut gone);
        let fits = state.waiting.is_empty() && state.free >= amount;
        if fits {
            state.free -= amount;
        }
        fits
    }

    /// How much is free now.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        lock(&self.state).free
    }
}

impl Share {
    /// Makes it larger if so much is free now and nobody waits.
    pub fn grow(&mut self, amount: usize) -> bool {
        let budget = Budget {
            state: Arc::clone(&self.state),
        };
        let grown = budget.reserve(amount);
        if grown {
            self.amount += amount;
        }
        grown
    }

    /// Gives all of it back, and stays as a share of nothing that may grow again.
    pub fn give_back(&mut self) {
        let nothing = Share {
            state: Arc::clone(&self.state),
            amount: 0,
        };
        drop(std::mem::replace(self, nothing));
    }
}

impl State {
    fn skip_those_who_left(&mut self, gone: &mut Gone) {
        while self.waiting.front().is_some_and(|(_, waiter)| waiter.has_left()) {
            gone.extend(self.waiting.pop_front());
        }
    }

    /// Takes what the first who waits gets, if so much is free.
    fn next_served(&mut self, gone: &mut Gone) -> Option<(usize, Box<dyn Waiter>)> {
        self.skip_those_who_left(gone);
        let (amount, _) = self.waiting.front()?;
        self.free = self.free.checked_sub(*amount)?;
        self.waiting.pop_front()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        lock(&self.state).free += self.amount;
        loop {
            // The lock is let go before anybody is served: whoever wakes, or has left, comes back for it.
            let mut gone = Gone::new();
            let served = lock(&self.state).next_served(&mut gone);
            let Some((amount, waiter)) = served else {
                return;
            };
            waiter.serve(Share {
                state: Arc::clone(&self.state),
                amount,
            });
        }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("Budget")
            .field("total", &state.total)
            .field("free", &state.free)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share")
            .field("amount", &self.amount)
            .finish_non_exhaustive()
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
    fn the_one_who_waits_longest_gets_what_is_given_back_and_a_waiter_that_left_is_skipped() {
        let budget = Budget::new(1);
        let held = block_on(budget.take(1));
        let mut gone = Box::pin(budget.take(1));
        assert!((&mut gone).now_or_never().is_none());
        let mut waits = Box::pin(budget.take(1));
        assert!((&mut waits).now_or_never().is_none());
        assert!(budget.is_short());
        drop(gone);
        drop(held);
        assert!(!budget.is_short());
        let second = block_on(waits);
        assert_eq!(budget.free(), 0);
        drop(second);
        assert_eq!(budget.free(), 1);
    }

    #[test]
    fn who_asks_for_little_waits_behind_who_asks_for_much_but_not_behind_who_left() {
        let budget = Budget::new(10);
        let _held = block_on(budget.take(5));
        let mut much = Box::pin(budget.take(8));
        assert!((&mut much).now_or_never().is_none());
        let mut little = Box::pin(budget.take(2));
        assert!((&mut little).now_or_never().is_none());
        assert!(budget.try_take(2).is_none());
        drop(much);
        assert!(little.now_or_never().is_some());
        assert_eq!(budget.free(), 5);
    }

    #[test]
    fn a_waiter_that_leaves_while_it_is_served_holds_nobody_up() {
        use std::pin::Pin;
        use std::task::{Context, Wake, Waker};

        type Waiting = Pin<Box<dyn Future<Output = Share> + Send>>;
        /// Drops the future that waits when it is woken.
        struct Leaves(Mutex<Option<Waiting>>);
        impl Wake for Leaves {
            fn wake(self: Arc<Self>) {
                let waiting = self.0.lock().unwrap().take();
                drop(waiting);
            }
        }

        let budget = Budget::new(1);
        let held = block_on(budget.take(1));
        let shared = budget.clone();
        let waiting: Waiting = Box::pin(async move { shared.take(1).await });
        let leaves = Arc::new(Leaves(Mutex::new(Some(waiting))));
        let waker = Waker::from(Arc::clone(&leaves));
        let polled = leaves
            .0
            .lock()
            .unwrap()
            .as_mut()
            .map(|waiting| waiting.as_mut().poll(&mut Context::from_waker(&waker)));
        assert!(polled.is_some_and(|polled| polled.is_pending()));
        let mut next = Box::pin(budget.take(1));
        assert!((&mut next).now_or_never().is_none());
        drop(held);
        assert!(next.now_or_never().is_some());
        assert_eq!(budget.free(), 1);
    }

    #[test]
    fn who_asks_for_more_than_there_is_gets_all_and_a_share_grows_while_there_is_room() {
        let budget = Budget::new(10);
        let all = block_on(budget.take(1_000));
        assert_eq!(budget.free(), 0);
        drop(all);
        let mut share = budget.try_take(4).unwrap();
        assert!(share.grow(6));
        assert!(!share.grow(1));
        drop(share);
        assert_eq!(budget.free(), 10);
    }
}
