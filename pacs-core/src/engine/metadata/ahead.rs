//! Making metadata ahead of whoever asks for it first: of series that were received lately and are quiet now.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::channel::{mpsc, oneshot};
use futures::{FutureExt, SinkExt, StreamExt};

use super::{Describer, Describes};
use crate::engine::block_on::block_on;
use crate::engine::committer::Request;
use crate::error::{Error, ErrorKind, Result};
use crate::index::Scope;
use crate::limits;
use crate::uid::Uid;

/// How long nothing of a series must have come until it is taken for complete.
const QUIET: Duration = Duration::from_secs(3);
/// While anything is being received, this part of the time is spent on metadata.
const SHARE_WHILE_RECEIVING: u32 = 10;

/// Series of which something was received, and when the last of it.
#[derive(Default)]
pub(in crate::engine) struct Recent(Mutex<State>);

#[derive(Default)]
struct State {
    series: HashMap<Uid, Instant>,
    last: Option<Instant>,
}

impl Recent {
    /// Notes that an instance of this series was received. Where there is no room it is left to whoever asks first.
    pub(in crate::engine) fn note(&self, series: Uid) {
        let now = Instant::now();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.last = Some(now);
        if let Some(last) = state.series.get_mut(&series) {
            *last = now;
        } else if state.series.len() < limits::RECENT_SERIES_MAX {
            state.series.insert(series, now);
        }
    }

    pub(super) fn take_all(&self) -> Vec<Uid> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.series.drain().map(|(series, _)| series).collect()
    }

    /// Takes the series that has been quiet for longest, with the moment its last instance came.
    fn take_quiet(&self, now: Instant) -> Option<(Uid, Instant)> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (series, last) = state.series.iter().min_by_key(|(_, last)| **last)?;
        let (series, last) = (*series, *last);
        if now.saturating_duration_since(last) < QUIET {
            return None;
        }
        state.series.remove(&series);
        Some((series, last))
    }

    /// Puts back a series that is not done, unless something of it came meanwhile.
    fn put_back(&self, series: Uid, last: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.series.entry(series).or_insert(last);
    }

    fn is_receiving(&self, now: Instant) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .last
            .is_some_and(|last| now.saturating_duration_since(last) < QUIET)
    }
}

/// What became of a series.
pub(super) struct Ahead {
    pub(super) made: u64,
    /// Whether nothing is left.
    pub(super) done: bool,
}

impl Describer {
    /// Makes the metadata of the instances of a series that have none, one by one, while `goes_on` says so. Within
    /// the reading of one it is `reads_on` that says so, which is told when that began: where it says no the rest of
    /// the series is left to whoever asks first.
    pub(super) async fn describe_ahead(
        &self,
        series: Uid,
        requests: &mpsc::Sender<Request>,
        goes_on: impl Fn() -> bool,
        reads_on: impl Fn(Instant) -> bool,
    ) -> Result<Ahead> {
        let mut ahead = Ahead { made: 0, done: true };
        let mut known = self.index.metadata(Scope::Series(series));
        while let Some(item) = known.next().await {
            let (record, None) = item? else {
                continue;
            };
            if !goes_on() {
                ahead.done = false;
                break;
            }
            let instance = record.key.instance;
            let begin = Instant::now();
            let metadata = match self.read(&record, |_| reads_on(begin)).await {
                Ok(Some((metadata, _))) => metadata,
                Ok(None) => {
                    tracing::debug!(%instance, "metadata that takes long is not made ahead");
                    break;
                }
                Err(error) => {
                    tracing::warn!(%instance, %error, "no metadata can be made of an instance");
                    continue;
                }
            };
            let bytes = metadata.to_bytes();
            drop(metadata);
            let (reply, answer) = oneshot::channel();
            let describes = Describes {
                instance,
                version: record.locator,
                _room: self.unwritten.take(bytes.len()).await,
                record: bytes,
                reply: Some(reply),
            };
            let closed = || Error::new(ErrorKind::Closed, "engine.describe", "the engine is closed");
            let mut requests = requests.clone();
            requests
                .send(Request::Describe(describes))
                .await
                .map_err(|_| closed())?;
            answer.await.map_err(|_| closed())??;
            ahead.made += 1;
        }
        Ok(ahead)
    }

    /// Works on series that are quiet now, for no longer than `interval`, and less while anything is received.
    pub(in crate::engine) fn work_ahead(
        &self,
        requests: &mpsc::Sender<Request>,
        interval: Duration,
        is_stopped: impl Fn() -> bool,
    ) {
        let begin = Instant::now();
        let goes_on = || {
            let now = Instant::now();
            let time = match self.recent.is_receiving(now) {
                true => interval / SHARE_WHILE_RECEIVING,
                false => interval,
            };
            now.saturating_duration_since(begin) < time && !is_stopped()
        };
        // One has all the time for itself: were it ended with the others', it would be begun again and again.
        let reads_on = |begin: Instant| begin.elapsed() < interval && !is_stopped();
        while goes_on()
            && let Some((series, last)) = self.recent.take_quiet(Instant::now())
        {
            let work = self.describe_ahead(series, requests, goes_on, reads_on);
            let work = AssertUnwindSafe(work).catch_unwind();
            match block_on(work) {
                Ok(Ok(Ahead { done: true, .. })) => {}
                Ok(Ok(Ahead { done: false, .. })) => {
                    self.recent.put_back(series, last);
                    break;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%series, %error, "the metadata of a series is not made ahead");
                    break;
                }
                Err(_) => tracing::error!(%series, "a panic while the metadata of a series was made"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_taken_once_it_is_quiet_and_the_one_quiet_for_longest_first() {
        let recent = Recent::default();
        let [first, second] = ["1.2", "1.3"].map(Uid::constant);
        recent.note(first);
        recent.note(second);
        let now = Instant::now();
        assert_eq!(recent.take_quiet(now), None);
        assert!(recent.is_receiving(now));
        let later = now + 2 * QUIET;
        assert!(!recent.is_receiving(later));
        let (series, last) = recent.take_quiet(later).unwrap();
        assert_eq!(series, first);
        assert_eq!(recent.take_quiet(later).map(|(series, _)| series), Some(second));
        assert_eq!(recent.take_quiet(later), None);
        recent.put_back(first, last);
        assert_eq!(recent.take_all(), [first]);
    }

    #[test]
    fn what_is_noted_is_bounded() {
        let recent = Recent::default();
        for number in 0..2 * limits::RECENT_SERIES_MAX {
            recent.note(Uid::parse(&format!("1.2.{number}")).unwrap());
        }
        assert_eq!(recent.take_all().len(), limits::RECENT_SERIES_MAX);
    }
}
