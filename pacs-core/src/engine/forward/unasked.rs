//! Instances that could not be asked about: each is asked about again in its time, and keeps no other one waiting.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::ask::Decisions;
use super::{AGAIN, State, block_on};
use crate::error::Result;
use crate::ledger::{Key, Parts, Step, after};
use crate::uid::Uid;

/// How many are asked about again at once.
const AT_ONCE: usize = 64;

/// How long is waited before all of them are asked about once more.
const ROUND: Duration = Duration::from_secs(60);

/// When they are asked about again.
pub(super) struct Unasked {
    /// Never, when there is none.
    next: Option<Instant>,
    /// Those before had their turn in this round.
    from: Option<Bytes>,
}

impl Unasked {
    /// Those of before the last end are asked about at once.
    pub(super) fn new(durable: bool) -> Self {
        Self {
            next: durable.then(Instant::now),
            from: None,
        }
    }

    /// How long until their turn; `None` for never.
    pub(super) fn wait(&self) -> Option<Duration> {
        let next = self.next?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// There is one.
    pub(super) fn added(&mut self) {
        self.next.get_or_insert_with(|| Instant::now() + ROUND);
    }

    /// Not before a while.
    pub(super) fn put_off(&mut self) {
        self.next = Some(Instant::now() + AGAIN);
    }
}

/// Where it is noted that an instance could not be asked about.
pub(super) fn unasked(instance: &Uid) -> Bytes {
    Key::of("unasked").text(instance.as_str()).bytes()
}

impl State {
    /// Asks about them again, until some of them fail once more.
    pub(super) fn ask_again(&mut self) -> Result<()> {
        let Some((_, ledger)) = &self.forwarder.outbox else {
            return Ok(());
        };
        let ledger = Arc::clone(ledger);
        loop {
            let all = Key::of("unasked").range();
            let is_first = self.unasked.from.is_none();
            let start = self.unasked.from.clone().unwrap_or(all.start);
            let page = block_on(ledger.range(start..all.end, AT_ONCE))?;
            let (mut decisions, mut further, mut failed) = (Decisions::default(), Vec::new(), None);
            for (key, _) in &page {
                let mut parts = Parts::of(key);
                parts.text()?;
                let instance = Uid::parse(parts.text()?)?;
                let asked = match block_on(self.forwarder.index.lookup(&instance))? {
                    Some(record) => self.forwarder.ask_about(&Arc::new(record), None, &mut decisions),
                    // It was removed.
                    None => Ok(()),
                };
                match asked {
                    Ok(()) => further.push(Step::Delete(key.clone())),
                    Err(error) => failed = Some(error),
                }
            }
            let done = further.len();
            self.enter(decisions, further)?;
            if let Some(error) = &failed {
                let left = page.len() - done;
                tracing::error!(%error, instances = left, "instances can still not be asked about where they go");
            }
            if page.len() < AT_ONCE {
                self.unasked.from = None;
                let is_none = is_first && failed.is_none();
                self.unasked.next = (!is_none).then(|| Instant::now() + ROUND);
                return Ok(());
            }
            self.unasked.from = page.last().map(|(last, _)| after(last));
            if failed.is_some() {
                self.unasked.put_off();
                return Ok(());
            }
        }
    }
}
