//! [`AddressShare`]: what of all connections one address may have, so that it doesn't keep the others out.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pacs_core::hooks::site;

/// What one address may have of the connections that a port takes at once, in percent. By default half of them: one
/// sender that does everything for a whole hospital stays below, and alone it keeps nobody out.
///
/// What one address is, [`site`] says. Clients behind a proxy or a
/// translation of addresses are one: where all come by a proxy, [`AddressShare::WHOLE`] leaves it to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressShare(u8);

impl AddressShare {
    /// All of them.
    pub const WHOLE: Self = Self(100);

    /// So many percent of them, and one connection at least; more than 100 is 100.
    #[must_use]
    pub const fn percent(percent: u8) -> Self {
        Self(if percent > 100 { 100 } else { percent })
    }

    /// Of so many connections.
    fn of(self, connections: usize) -> usize {
        // Divided first, no number of connections overflows.
        let (hundreds, rest) = (connections / 100, connections % 100);
        let percent = usize::from(self.0);
        (hundreds * percent + (rest * percent).div_ceil(100)).max(1)
    }
}

impl Default for AddressShare {
    fn default() -> Self {
        Self(50)
    }
}

/// Counts the connections of each address.
#[derive(Debug)]
pub(crate) struct Addresses {
    share: usize,
    beyond: usize,
    counts: Arc<Mutex<HashMap<IpAddr, Count>>>,
}

#[derive(Debug, Default)]
struct Count {
    connections: usize,
    /// That the address is beyond its share is in the log. Once is enough: who floods us doesn't flood the log.
    told: bool,
}

impl Addresses {
    /// Each address may have its share of `connections`, and beyond it so many more that are told so.
    pub(crate) fn new(share: AddressShare, connections: usize, beyond: usize) -> Self {
        Self {
            share: share.of(connections),
            beyond,
            counts: Arc::default(),
        }
    }

    /// A place for one more connection of this address, if it may have one.
    pub(crate) fn take(&self, address: IpAddr) -> Option<Place> {
        let address = site(address);
        let mut counts = lock(&self.counts);
        let count = counts.entry(address).or_default();
        let is_beyond_share = count.connections >= self.share;
        if is_beyond_share && !count.told {
            count.told = true;
            tracing::warn!(%address, connections = count.connections, "an address has its share of connections: further ones are refused");
        }
        if count.connections >= self.share.saturating_add(self.beyond) {
            return None;
        }
        count.connections += 1;
        Some(Place {
            address,
            is_beyond_share,
            counts: Arc::clone(&self.counts),
        })
    }
}

fn lock(counts: &Mutex<HashMap<IpAddr, Count>>) -> MutexGuard<'_, HashMap<IpAddr, Count>> {
    // Nothing panics while it holds this lock.
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection's place among those of its address, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    address: IpAddr,
    is_beyond_share: bool,
    counts: Arc<Mutex<HashMap<IpAddr, Count>>>,
}

impl Place {
    /// Whether its address had its share before.
    pub(crate) fn is_beyond_share(&self) -> bool {
        self.is_beyond_share
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = lock(&self.counts).entry(self.address) {
            let count = entry.get_mut();
            count.connections -= 1;
            if count.connections == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_share_is_rounded_up_and_one_connection_at_least() {
        for (percent, connections, share) in [
            (50, 2000, 1000),
            (50, 65, 33),
            (1, 10, 1),
            (0, 10, 1),
            (50, 1, 1),
            (100, 7, 7),
            (255, 7, 7),
        ] {
            assert_eq!(AddressShare::percent(percent).of(connections), share);
        }
        assert_eq!(AddressShare::WHOLE.of(usize::MAX), usize::MAX);
    }

    #[test]
    fn an_address_has_its_share_then_a_few_that_are_told_then_none_and_others_have_theirs() {
        let addresses = Addresses::new(AddressShare::percent(50), 4, 1);
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let mut places: Vec<Place> = (0..3).map(|_| addresses.take(one).unwrap()).collect();
        let beyond: Vec<bool> = places.iter().map(Place::is_beyond_share).collect();
        assert_eq!(beyond, [false, false, true]);
        assert!(addresses.take(one).is_none());
        assert!(!addresses.take(other).unwrap().is_beyond_share());
        drop(places.swap_remove(0));
        assert!(addresses.take(one).unwrap().is_beyond_share());
        places.clear();
        assert!(!addresses.take(one).unwrap().is_beyond_share());
        assert!(
            lock(&addresses.counts).is_empty(),
            "nothing is kept of who has gone"
        );
    }
}
