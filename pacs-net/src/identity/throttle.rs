//! [`Throttle`]: who fails too often waits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pacs_core::hooks::site;
use pacs_core::{Result, Retry};
use tokio::time::Instant;

use super::not_believed;

/// Attempts that may fail before somebody waits: who mistypes has some.
const ATTEMPTS_OF_ONE: u32 = 5;
/// The same for all names from one address, behind which there may be many people.
const ATTEMPTS_OF_ADDRESS: u32 = 50;
/// How long is waited first; each further failure doubles it.
const WAIT: Duration = Duration::from_secs(10);
/// The longest wait, after which failures are forgotten.
const WAIT_MAX: Duration = Duration::from_secs(900);
/// Who is remembered at once. Beyond it the one that failed longest ago is forgotten.
const REMEMBERED_MAX: usize = 10_000;

/// Counts failures by name and address, and by address alone: a name alone would let a stranger keep its user out.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    failures: Mutex<HashMap<Who, Failures>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    Named(String, Option<IpAddr>),
    Address(Option<IpAddr>),
}

impl Who {
    fn of(name: &str, address: Option<IpAddr>) -> [(Self, u32); 2] {
        // Who has a network of IPv6 to themselves is one.
        let address = address.map(site);
        // No longer than a name is: what somebody sends is not kept.
        let name: String = name.chars().take(64).collect();
        [
            (Self::Named(name, address), ATTEMPTS_OF_ONE),
            (Self::Address(address), ATTEMPTS_OF_ADDRESS),
        ]
    }
}

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Failures {
    /// Until when nobody looks, with so many attempts before.
    fn until(&self, attempts: u32) -> Option<Instant> {
        let beyond = self.count.checked_sub(attempts)?;
        let wait = WAIT.saturating_mul(1_u32.checked_shl(beyond).unwrap_or(u32::MAX));
        Some(self.last + wait.min(WAIT_MAX))
    }
}

impl Throttle {
    /// Begins an attempt, which counts as failed until it has [`succeeded`](Self::succeeded): else many at once would be one.
    ///
    /// # Errors
    /// `Refused`, to be tried later, when there were too many.
    pub(super) fn begin(&self, name: &str, address: Option<IpAddr>) -> Result<()> {
        let now = Instant::now();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        for (who, attempts) in Who::of(name, address) {
            let until = failures.get(&who).and_then(|failures| failures.until(attempts));
            if until.is_some_and(|until| now < until) {
                let why = "too many attempts have failed: try again later";
                return Err(not_believed(why).with_retry(Retry::Later));
            }
        }
        for (who, _) in Who::of(name, address) {
            if failures.len() >= REMEMBERED_MAX && !failures.contains_key(&who) {
                make_room(&mut failures, now);
            }
            let known = failures.entry(who).or_insert(Failures { count: 0, last: now });
            if now.duration_since(known.last) > WAIT_MAX {
                known.count = 0;
            }
            known.count = known.count.saturating_add(1);
            known.last = now;
        }
        Ok(())
    }

    /// An attempt has succeeded: those of this name from there before it are forgotten, and of its address one counts less.
    pub(super) fn succeeded(&self, name: &str, address: Option<IpAddr>) {
        let [(named, _), (address, _)] = Who::of(name, address);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let of_name = failures.remove(&named).map_or(1, |known| known.count);
        if let Some(known) = failures.get_mut(&address) {
            // With it those of the name: somebody mistyped, and here they are.
            known.count = known.count.saturating_sub(of_name);
        }
    }
}

fn make_room(failures: &mut HashMap<Who, Failures>, now: Instant) {
    failures.retain(|_, known| now.duration_since(known.last) <= WAIT_MAX);
    if failures.len() < REMEMBERED_MAX {
        return;
    }
    let oldest = failures.iter().min_by_key(|(_, known)| known.last);
    if let Some(who) = oldest.map(|(who, _)| who.clone()) {
        failures.remove(&who);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)));
    const THERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)));

    #[tokio::test(start_paused = true)]
    async fn who_fails_too_often_waits_longer_each_time_and_others_do_not() {
        let throttle = Throttle::default();
        for _ in 0..ATTEMPTS_OF_ONE {
            throttle.begin("anna", HERE).unwrap();
        }
        let error = throttle.begin("anna", HERE).unwrap_err();
        assert_eq!(error.retry(), Retry::Later);
        throttle.begin("anna", THERE).unwrap();
        throttle.begin("berta", HERE).unwrap();
        tokio::time::advance(WAIT).await;
        throttle.begin("anna", HERE).unwrap();
        tokio::time::advance(WAIT).await;
        assert!(throttle.begin("anna", HERE).is_err());
        tokio::time::advance(WAIT).await;
        throttle.begin("anna", HERE).unwrap();
        throttle.succeeded("anna", HERE);
        for _ in 0..ATTEMPTS_OF_ONE {
            throttle.begin("anna", HERE).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_names_from_one_address_are_many_attempts_and_those_that_succeed_are_none() {
        let throttle = Throttle::default();
        for number in 0..10 * ATTEMPTS_OF_ADDRESS {
            let name = format!("user{number}");
            throttle.begin(&name, HERE).unwrap();
            throttle.succeeded(&name, HERE);
        }
        for number in 0..ATTEMPTS_OF_ADDRESS {
            throttle.begin(&format!("guess{number}"), HERE).unwrap();
        }
        assert!(throttle.begin("anna", HERE).is_err());
        throttle.begin("anna", THERE).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_network_of_ipv6_is_one_address() {
        let throttle = Throttle::default();
        for number in 0..ATTEMPTS_OF_ONE {
            let address = format!("2001:db8::{number:x}").parse().unwrap();
            throttle.begin("anna", Some(address)).unwrap();
        }
        assert!(
            throttle
                .begin("anna", Some("2001:db8::ffff".parse().unwrap()))
                .is_err()
        );
        throttle
            .begin("anna", Some("2001:db8:0:1::1".parse().unwrap()))
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_remembered_than_was_said() {
        let throttle = Throttle::default();
        for number in 0..REMEMBERED_MAX + 10 {
            let address = format!("10.0.{}.{}", number / 256, number % 256).parse().unwrap();
            throttle.begin("anna", Some(address)).unwrap();
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(throttle.failures.lock().unwrap().len() <= REMEMBERED_MAX);
    }
}
