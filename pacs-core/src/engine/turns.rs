//! [`Turns`]: who may have an instance on its way in. One address has at most half of them, so that whoever sends slowly,
//! or very much at once, waits for itself and not everybody for it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::budget::{Budget, Share};
use crate::hooks::Source;

/// Turns of all, and of each address.
#[derive(Clone)]
pub(super) struct Turns {
    all: Budget,
    of_one_max: usize,
    addresses: Arc<Mutex<HashMap<IpAddr, Address>>>,
}

struct Address {
    turns: Budget,
    /// Who has a turn of them or waits for one.
    users: usize,
}

/// A turn, until it is dropped.
pub(super) struct Turn {
    _of_all: Share,
    /// Given back before the address is forgotten.
    _of_address: Option<(Share, User)>,
}

/// One of those for whom an address is remembered.
struct User {
    address: IpAddr,
    addresses: Arc<Mutex<HashMap<IpAddr, Address>>>,
}

impl Turns {
    /// So many at once.
    pub(super) fn new(max: usize) -> Self {
        let max = max.max(1);
        Self {
            all: Budget::new(max),
            of_one_max: max.div_ceil(2),
            addresses: Arc::default(),
        }
    }

    /// A turn for an instance that comes from there. Waits for one; dropping the future gives up the place.
    pub(super) async fn take(&self, source: &Source) -> Turn {
        let of_address = match source.site() {
            Some(address) => {
                let (turns, user) = self.user(address);
                Some((turns.take(1).await, user))
            }
            None => None,
        };
        Turn {
            _of_all: self.all.take(1).await,
            _of_address: of_address,
        }
    }

    /// Whether somebody waits for a turn that one who comes from there has.
    pub(super) fn are_short(&self, source: &Source) -> bool {
        let of_address = source.site().and_then(|address| {
            let addresses = lock(&self.addresses);
            addresses.get(&address).map(|address| address.turns.clone())
        });
        self.all.is_short() || of_address.is_some_and(|turns| turns.is_short())
    }

    fn user(&self, address: IpAddr) -> (Budget, User) {
        let mut addresses = lock(&self.addresses);
        let known = addresses.entry(address).or_insert_with(|| Address {
            turns: Budget::new(self.of_one_max),
            users: 0,
        });
        known.users += 1;
        let user = User {
            address,
            addresses: Arc::clone(&self.addresses),
        };
        (known.turns.clone(), user)
    }
}

fn lock(addresses: &Mutex<HashMap<IpAddr, Address>>) -> MutexGuard<'_, HashMap<IpAddr, Address>> {
    // Nothing panics while it holds this lock.
    addresses.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for User {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = lock(&self.addresses).entry(self.address) {
            let address = entry.get_mut();
            address.users -= 1;
            if address.users == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn from(address: &str) -> Source {
        Source {
            address: Some(address.parse().unwrap()),
            ..Source::default()
        }
    }

    #[test]
    fn one_address_has_half_of_the_turns_and_who_waits_for_them_is_in_nobody_elses_way() {
        let turns = Turns::new(4);
        let (one, other) = (from("192.0.2.1:5"), from("192.0.2.2:5"));
        let nowhere = Source::default();
        let take = |source| turns.take(source).now_or_never();
        let held = [take(&one).unwrap(), take(&one).unwrap()];
        let mut waiting = turns.take(&one).boxed();
        assert!((&mut waiting).now_or_never().is_none());
        assert!(turns.are_short(&one) && !turns.are_short(&other));
        let others = [take(&other).unwrap(), take(&nowhere).unwrap()];
        // Now there are no more for anybody.
        let mut further = turns.take(&nowhere).boxed();
        assert!((&mut further).now_or_never().is_none());
        assert!(turns.are_short(&other));
        drop(held);
        assert!((&mut further).now_or_never().is_some());
        let third = waiting.now_or_never().unwrap();
        drop((others, third));
        assert!(
            lock(&turns.addresses).is_empty(),
            "nobody is remembered who has gone"
        );
    }
}
