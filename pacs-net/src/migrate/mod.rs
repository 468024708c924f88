//! Brings all studies of a living PACS into an engine: [`Migration`].
//!
//! The studies are asked for in slices of their dates, each is fetched and then held against what the source lists of it
//! ([`Source`] says by which services). A journal notes what is complete, so that an interrupted migration goes on where it was;
//! what was under way is listed again, and only what is missing is fetched.

mod days;
mod discover;
mod journal;
mod report;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use pacs_core::{Error, ErrorKind, Pacs, Result, Uid};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use days::Day;
use discover::Discovery;
use journal::Journal;
pub use report::{Report, Totals};

use crate::fetch::{Fetched, Source};

/// Studies that are found and wait for their turn.
const FOUND_WAITING_MAX: usize = 256;

/// How often something is tried that fails, and how long is waited first; then twice as long.
const TRIES_MAX: u32 = 5;
const WAIT_FIRST: Duration = Duration::from_secs(1);

/// A peer that fails for so many in a row is gone: the migration stops, to be called again.
const FAILURES_IN_A_ROW_MAX: u32 = 20;

/// How often is looked whether it may go on.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// A migration of studies from another PACS.
#[derive(Clone, Debug)]
pub struct Migration {
    /// Where they go.
    pub pacs: Pacs,
    /// Where they come from.
    pub source: Source,
    /// Those of this day and later; without it and `to` also those without a date.
    pub from: Option<Day>,
    /// Those of this day and earlier.
    pub to: Option<Day>,
    /// Those with this modality among theirs.
    pub modality: Option<String>,
    /// Studies fetched at once; at least 1.
    pub studies_at_once: usize,
    /// A question that is answered with so many studies or more is asked again for half as many days, and for half of
    /// a day down to a second. What a peer answers at most, if it has a cap, or less: then none is missed.
    pub slice_max: usize,
    /// Studies begun in an hour, where that is bounded.
    pub per_hour: Option<u32>,
    /// Everything is looked at again, to the last byte in the archive, also what the journal has.
    pub verify: bool,
    /// The file that notes what is complete. One for each peer and selection.
    pub journal: PathBuf,
}

/// Is told how a migration goes on, and says whether it may.
pub trait Watcher: Sync {
    /// A study was found.
    fn found(&self);
    /// A study has come to its end, with this many bytes.
    fn ended(&self, bytes: u64);
    /// Whether a study may be begun now: for migrations that run at night.
    fn may_begin(&self) -> bool {
        true
    }
}

/// What the parts of a running migration share.
struct Shared {
    report: Mutex<Report>,
    stopped: AtomicBool,
    failures_in_a_row: AtomicU32,
    /// When the next study may be begun.
    next: Mutex<Instant>,
}

impl Shared {
    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn tries(&self) -> Tries<'_> {
        Tries {
            shared: self,
            made: 1,
            wait: WAIT_FIRST,
        }
    }
}

/// How often something was tried.
struct Tries<'a> {
    shared: &'a Shared,
    made: u32,
    wait: Duration,
}

impl Tries<'_> {
    /// Waits, and answers whether it is to be tried again.
    async fn again(&mut self, error: &Error) -> bool {
        if self.made == TRIES_MAX || self.shared.has_stopped() {
            return false;
        }
        tracing::warn!(%error, "it is tried again");
        tokio::time::sleep(self.wait).await;
        self.made += 1;
        self.wait *= 2;
        true
    }
}

impl Migration {
    /// Runs to its end, or until `stop` is ready: then what was begun is finished.
    ///
    /// # Errors
    /// When the peer can't be reached or offers no query, or the journal can't be written. What can't be fetched is no
    /// error: it stands in the report.
    pub async fn run(&self, watcher: &dyn Watcher, stop: impl Future<Output = ()>) -> Result<Report> {
        let failed = |error| Error::io("migration.journal", "the journal can't be written", error);
        let begun = Instant::now();
        // Before a long wait for who is not there.
        self.source.reach().await?;
        let journal = Journal::open(&self.journal).map_err(failed)?;
        let shared = Shared {
            report: Mutex::default(),
            stopped: AtomicBool::new(false),
            failures_in_a_row: AtomicU32::new(0),
            next: Mutex::new(begun),
        };
        if !self.verify {
            shared.report().earlier = journal.earlier;
        }
        let journal = Mutex::new(journal);
        self.work(&shared, &journal, watcher, stop).await;
        let mut report = shared.report.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.stopped = shared.stopped.into_inner();
        report.took = begun.elapsed();
        if report.is_complete() {
            let journal = journal.into_inner().unwrap_or_else(PoisonError::into_inner);
            journal.finish().map_err(failed)?;
        }
        Ok(report)
    }

    /// Finds studies and brings them over, as long as it may.
    async fn work(
        &self,
        shared: &Shared,
        journal: &Mutex<Journal>,
        watcher: &dyn Watcher,
        stop: impl Future<Output = ()>,
    ) {
        let (sender, found) = mpsc::channel(FOUND_WAITING_MAX);
        let discovery = Discovery::new(self, shared, sender).run();
        let found = stream::unfold(found, async |mut found: mpsc::Receiver<Uid>| {
            found.recv().await.map(|study| (study, found))
        });
        let studies = found
            .map(|study| {
                watcher.found();
                self.study(study, shared, journal, watcher)
            })
            .buffer_unordered(self.studies_at_once.max(1))
            .for_each(|bytes| {
                watcher.ended(bytes);
                std::future::ready(())
            });
        let work = futures::future::join(discovery, studies);
        let mut work = std::pin::pin!(work);
        tokio::select! {
            _ = &mut work => return,
            () = stop => shared.stopped.store(true, Ordering::Relaxed),
        }
        work.await;
    }

    /// Brings one study over; answers its bytes.
    async fn study(
        &self,
        study: Uid,
        shared: &Shared,
        journal: &Mutex<Journal>,
        watcher: &dyn Watcher,
    ) -> u64 {
        let journal = || journal.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.verify && journal().holds(&study) {
            return 0;
        }
        if !self.turn(shared, watcher).await {
            return 0;
        }
        let fetched = match self.fetched(&study, shared).await {
            Ok(fetched) => fetched,
            Err(error) => {
                shared.report().fail(study, error.to_string());
                if shared.failures_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_IN_A_ROW_MAX {
                    tracing::error!("too many studies failed in a row: the migration stops");
                    shared.stopped.store(true, Ordering::Relaxed);
                }
                return 0;
            }
        };
        shared.failures_in_a_row.store(0, Ordering::Relaxed);
        let (series, instances) = (fetched.series as u64, fetched.instances as u64);
        let missing = fetched.missing.len() as u64;
        let mut report = shared.report();
        report.fetched += (fetched.asked as u64).saturating_sub(missing);
        if instances == 0 {
            report.fail(study, "the peer lists no instance of it".to_owned());
        } else if missing > 0 {
            report.missing += missing;
            let said = fetched.said.as_deref().unwrap_or("success");
            report.fail(study, format!("instances are missing; the peer said {said}"));
        } else {
            report.done.add(series, instances, fetched.bytes);
            drop(report);
            if let Err(error) = journal().add(&study, series, instances, fetched.bytes) {
                tracing::warn!(%error, "the journal can't be written; an interrupted migration looks at all again");
            }
        }
        fetched.bytes
    }

    /// Waits until a study may be begun; answers whether one still may.
    async fn turn(&self, shared: &Shared, watcher: &dyn Watcher) -> bool {
        if let Some(per_hour) = self.per_hour {
            let turn = {
                let mut next = shared.next.lock().unwrap_or_else(PoisonError::into_inner);
                let turn = (*next).max(Instant::now());
                *next = turn + Duration::from_secs(3600) / per_hour.max(1);
                turn
            };
            while !shared.has_stopped() && Instant::now() < turn {
                tokio::time::sleep_until(turn.min(Instant::now() + LOOK_AGAIN)).await;
            }
        }
        while !shared.has_stopped() && !watcher.may_begin() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        !shared.has_stopped()
    }

    async fn fetched(&self, study: &Uid, shared: &Shared) -> Result<Fetched> {
        // It is no new study: rules for those that come don't send it on.
        let _fetching = match self.pacs.fetching(study, &self.source.brings()).await {
            Ok(fetching) => Some(fetching),
            // Nobody is asked about what comes.
            Err(error) if error.kind() == ErrorKind::Unsupported => None,
            Err(error) => return Err(error),
        };
        let mut tries = shared.tries();
        let mut first = None;
        loop {
            match self.source.fetch_study(&self.pacs, study, self.verify).await {
                Ok(mut fetched) if fetched.missing.is_empty() || first.is_some() => {
                    fetched.asked = fetched.asked.max(first.unwrap_or_default());
                    return Ok(fetched);
                }
                // What could not be given once may be given when it is asked for alone.
                Ok(fetched) => first = Some(fetched.asked),
                Err(error) => {
                    if !tries.again(&error).await {
                        return Err(error);
                    }
                }
            }
        }
    }
}
