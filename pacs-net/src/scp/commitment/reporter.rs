//! [`Reporter`]: checks what was asked for, and reports until it is answered.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use pacs_core::ledger::{Ledger, Step};
use pacs_core::{AeTitle, Error, ErrorKind, Pacs, Result, Timestamp};
use tokio::sync::{Notify, Semaphore, mpsc};

use super::check::{check, refuse_all};
use super::record::{self, Record, State};
use crate::dimse::{Client, CommandField, CommandSet, Status};
use crate::scp::ScpOptions;
use crate::scu::NATIVE;
use crate::scu::commitment::{SOP_CLASS, SOP_INSTANCE, send};
use crate::transport::PresentationContext;

/// Transactions that are checked at once: the disk has other work.
const CHECKS_MAX: usize = 2;

/// Transactions that are not reported on yet, of all requesters together. Beyond, a request is refused (0213H).
const PENDING_MAX: usize = 10_000;

/// The same in bytes of their records: those that wait for an answer to their report are in memory.
const PENDING_MAX_BYTES: usize = 64 * 1024 * 1024;

/// How long is waited after the first failure to report; then twice as long each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(15 * 60);

/// How long it is tried to report. Who doesn't hear of us for a week has asked again, or never will.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);

/// Reports on what was asked for. Its work is done where [`run`](Self::run) is polled.
pub(in crate::scp) struct Reporter {
    pacs: Pacs,
    ledger: Arc<dyn Ledger>,
    options: Arc<ScpOptions>,
    jobs: mpsc::UnboundedSender<Job>,
    /// Until somebody runs it.
    queue: Mutex<Option<mpsc::UnboundedReceiver<Job>>>,
    /// Keys of transactions in the ledger, with the lengths of their records: they bound the queue, and what is in memory.
    pending: Mutex<HashMap<Bytes, usize>>,
    /// Keys of those that somebody works on.
    claimed: Mutex<HashSet<Bytes>>,
    checks: Semaphore,
}

/// A transaction to be checked, and to be reported on.
pub(super) struct Job {
    pub(super) key: Bytes,
    /// Of its record, in bytes.
    pub(super) length: usize,
    pub(super) requester: AeTitle,
    pub(super) asking: Option<Asking>,
}

/// The association that a request came on.
pub(super) struct Asking {
    pub(super) client: Client,
    pub(super) context: PresentationContext,
    /// The request has its response, which comes before the report.
    pub(super) answered: BoxFuture<'static, ()>,
}

/// A requester whose reports are delivered on associations of our own.
#[derive(Default)]
struct Delivery {
    /// There is something to deliver, and the requester may be there again.
    again: Notify,
    /// The same, for when the delivery has ended meanwhile.
    more: AtomicBool,
}

enum Done {
    /// The first step of a transaction; it is still to be delivered to this requester.
    Begun(Option<AeTitle>),
    /// All of this requester is delivered.
    Delivered(AeTitle),
}

impl Reporter {
    /// `None` where the engine has no ledger.
    pub(in crate::scp) fn new(pacs: &Pacs, options: &Arc<ScpOptions>) -> Option<Self> {
        let ledger = Arc::clone(pacs.ledger().ok()?);
        let (jobs, queue) = mpsc::unbounded_channel();
        Some(Self {
            pacs: pacs.clone(),
            ledger,
            options: Arc::clone(options),
            jobs,
            queue: Mutex::new(Some(queue)),
            pending: Mutex::default(),
            claimed: Mutex::default(),
            checks: Semaphore::new(CHECKS_MAX),
        })
    }

    fn pending(&self) -> usize {
        lock(&self.pending).len()
    }

    /// Whether there is no room for one more.
    pub(super) fn is_full(&self) -> bool {
        let pending = lock(&self.pending);
        pending.len() >= PENDING_MAX || pending.values().sum::<usize>() >= PENDING_MAX_BYTES
    }

    pub(super) fn begin(&self, job: Job) {
        lock(&self.pending).insert(job.key.clone(), job.length);
        // Without anybody who runs it, it stays in the ledger for the next one.
        let _ = self.jobs.send(job);
    }

    /// Checks and reports, also what was asked for before the last restart. Never ends; the second call does nothing.
    pub(in crate::scp) async fn run(&self) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut queue) = queue else {
            return std::future::pending().await;
        };
        let mut work: FuturesUnordered<BoxFuture<'_, Done>> = FuturesUnordered::new();
        let mut deliveries: HashMap<AeTitle, Arc<Delivery>> = HashMap::new();
        match self.left_behind().await {
            Ok(jobs) => work.extend(jobs.into_iter().map(|job| self.begun(job).boxed())),
            Err(error) => tracing::error!(%error, "storage commitments of before can't be read"),
        }
        loop {
            let done = tokio::select! {
                Some(job) = queue.recv() => {
                    work.push(self.begun(job).boxed());
                    continue;
                }
                Some(done) = work.next(), if !work.is_empty() => done,
            };
            let (requester, is_new) = match done {
                Done::Begun(None) => continue,
                Done::Begun(Some(requester)) => match deliveries.get(&requester) {
                    Some(delivery) => {
                        delivery.more.store(true, Ordering::Relaxed);
                        delivery.again.notify_one();
                        continue;
                    }
                    None => (requester, true),
                },
                Done::Delivered(requester) => {
                    let ended = deliveries.remove(&requester);
                    let more = ended.is_some_and(|ended| ended.more.load(Ordering::Relaxed));
                    (requester, more)
                }
            };
            if is_new {
                let delivery = Arc::new(Delivery::default());
                deliveries.insert(requester, Arc::clone(&delivery));
                work.push(self.deliver(requester, delivery).boxed());
            }
        }
    }

    /// What the ledger has from before.
    async fn left_behind(&self) -> Result<Vec<Job>> {
        let mut jobs = Vec::new();
        let mut range = record::all().range();
        while let Some((key, value)) = self.next(&mut range).await? {
            let (requester, _) = record::parts(&key)?;
            lock(&self.pending).insert(key.clone(), value.len());
            jobs.push(Job {
                key,
                length: value.len(),
                requester,
                asking: None,
            });
        }
        Ok(jobs)
    }

    /// The first of a range, which then begins behind it: a page of them may be gigabytes.
    async fn next(&self, range: &mut Range<Bytes>) -> Result<Option<(Bytes, Bytes)>> {
        let first = self.ledger.range(range.clone(), 1).await?.pop();
        if let Some((key, _)) = &first {
            range.start = [&key[..], &[0]].concat().into();
        }
        Ok(first)
    }

    /// Checks a transaction, and reports where the association it was asked for on is still there.
    async fn begun(&self, job: Job) -> Done {
        let Some(claim) = self.claim(&job.key) else {
            // Somebody is at it, and ends with a delivery where it is not answered.
            return Done::Begun(Some(job.requester));
        };
        let mut wait = RETRY_FIRST;
        let record = loop {
            match self.checked(&job.key).await {
                Ok(Some(record)) => break record,
                // It was reported on meanwhile.
                Ok(None) => {
                    lock(&self.pending).remove(&job.key);
                    return Done::Begun(None);
                }
                Err(error) => {
                    tracing::error!(%error, "a storage commitment can't be checked now; it is tried again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_MAX);
                }
            }
        };
        if let Some(asking) = job.asking {
            asking.answered.await;
            match self.report(&asking.client, &asking.context, &record).await {
                Ok(status) if status.is_done() => match self.forget(&job.key).await {
                    Ok(()) => return Done::Begun(None),
                    Err(error) => tracing::error!(%error, "a report is answered, and comes once more"),
                },
                // Many a requester takes reports on associations of their own alone.
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "no report on the association of its request"),
            }
        }
        drop(claim);
        Done::Begun(Some(job.requester))
    }

    /// The transaction with what is to be reported, which is in the ledger.
    async fn checked(&self, key: &Bytes) -> Result<Option<Record>> {
        loop {
            // Before it is loaded: thousands may wait. The semaphore is never closed.
            let _turn = self.checks.acquire().await;
            let Some(value) = self.ledger.get(key).await? else {
                return Ok(None);
            };
            let mut record = Record::from_value(&value)?;
            if record.state == State::Checked {
                return Ok(Some(record));
            }
            let (_, is_again) = record::parts(key)?;
            if is_again {
                refuse_all(&mut record.outcome);
            } else {
                check(&self.pacs, &mut record.outcome, self.options.any_sop_class).await?;
            }
            record.state = State::Checked;
            record.outcome.retrieve_ae = Some(self.options.ae_title);
            let steps = vec![
                Step::Expect(key.clone(), Some(value)),
                Step::Put(key.clone(), record.to_value()?),
            ];
            if self.ledger.apply(steps).await? {
                return Ok(Some(record));
            }
        }
    }

    /// Reports everything of a requester on associations of our own, until all of it is answered or given up.
    async fn deliver(&self, requester: AeTitle, delivery: Arc<Delivery>) -> Done {
        let mut wait = RETRY_FIRST;
        loop {
            delivery.more.store(false, Ordering::Relaxed);
            let before = self.pending();
            match self.deliver_all(&requester).await {
                Ok(()) => return Done::Delivered(requester),
                Err(error) => {
                    tracing::warn!(%requester, %error, "a storage commitment could not be reported; it is tried again");
                }
            }
            if self.pending() < before {
                wait = RETRY_FIRST;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = delivery.again.notified() => {}
            }
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    async fn deliver_all(&self, requester: &AeTitle) -> Result<()> {
        let mut connected: Option<(Client, PresentationContext)> = None;
        let mut is_not_taken = false;
        let mut range = record::of(requester).range();
        while let Some((key, value)) = self.next(&mut range).await? {
            let (state, asked) = Record::head(&value)?;
            if Timestamp::now().0.saturating_sub(asked.0) > GIVEN_UP_AFTER.as_millis() as u64 {
                tracing::error!(%requester, "a storage commitment could not be reported for a week, and is given up");
                self.forget(&key).await?;
                continue;
            }
            // One that isn't checked, or is reported on the association of its request, comes here later.
            let Some(_claim) = self.claim(&key).filter(|_| state == State::Checked) else {
                continue;
            };
            // Answered between the reading and the claim.
            let Some(value) = self.ledger.get(&key).await? else {
                continue;
            };
            let record = Record::from_value(&value)?;
            let (client, context) = match &connected {
                Some(connected) => connected,
                None => connected.insert(self.associate(requester).await?),
            };
            match self.report(client, context, &record).await? {
                // It may be taken later, within the week.
                Status::PROCESSING_FAILURE | Status::RESOURCE_LIMITATION => is_not_taken = true,
                // Whatever else is answered: it would be answered so again.
                _ => self.forget(&key).await?,
            }
        }
        if let Some((client, _)) = connected
            && let Err(error) = client.release().await
        {
            tracing::debug!(%error, "a release was not answered");
        }
        match is_not_taken {
            false => Ok(()),
            true => {
                let why = "the requester could not take a report for now";
                Err(Error::new(ErrorKind::OutOfResources, "commitment.report", why))
            }
        }
    }

    /// An association on which we are SCP and the requester of the commitment is SCU (PS3.4 J.3.3, PS3.7 D.3.3.4).
    async fn associate(&self, requester: &AeTitle) -> Result<(Client, PresentationContext)> {
        let mut known = self.options.destinations.iter();
        let destination = known
            .find(|destination| destination.ae_title == *requester)
            .ok_or_else(|| {
                let why = "no peer is configured by its AE title";
                Error::new(ErrorKind::NotFound, "commitment.report", why)
            })?;
        let remote = destination.remote(self.options.ae_title);
        let proposal = remote
            .proposal()
            .with_context(SOP_CLASS, NATIVE.iter())
            .with_role(SOP_CLASS, false, true);
        let connected = remote.client(&proposal).await;
        let client = connected.map_err(|error| remote.unreachable(error))?;
        // Also where the peer answers no role: many a one takes reports all the same.
        let context = client.negotiated().contexts.first().cloned();
        let context = context.ok_or_else(|| {
            let why = "it does not take reports of storage commitment";
            Error::new(ErrorKind::Unsupported, "commitment.report", why)
        })?;
        Ok((client, context))
    }

    /// N-EVENT-REPORT; answers the status of its response.
    async fn report(
        &self,
        client: &Client,
        context: &PresentationContext,
        record: &Record,
    ) -> Result<Status> {
        let outcome = &record.outcome;
        let command = CommandSet::request(CommandField::N_EVENT_REPORT)
            .with_affected_sop_class(&SOP_CLASS)
            .with_affected_sop_instance(&SOP_INSTANCE)
            .with_event_type_id(outcome.event_type());
        let set = outcome.to_data_set();
        let sent = send(client, context, command, &set);
        let response = tokio::time::timeout(self.options.timeouts.receive, sent).await;
        let response = response.map_err(|_| {
            let why = "the report was not answered in time";
            Error::new(ErrorKind::TimedOut, "commitment.report", why)
        })??;
        let (transaction, status) = (&outcome.transaction, response.status());
        let (committed, failed) = (outcome.committed.len(), outcome.failed.len());
        if status == Status::SUCCESS {
            tracing::info!(%transaction, committed, failed, "storage commitment reported");
        } else {
            tracing::warn!(%transaction, committed, failed, %status, "storage commitment reported, and not taken");
        }
        Ok(status)
    }

    async fn forget(&self, key: &Bytes) -> Result<()> {
        self.ledger.apply(vec![Step::Delete(key.clone())]).await?;
        lock(&self.pending).remove(key);
        Ok(())
    }

    fn claim(&self, key: &Bytes) -> Option<Claim<'_>> {
        lock(&self.claimed).insert(key.clone()).then(|| Claim {
            reporter: self,
            key: key.clone(),
        })
    }
}

fn lock<T>(keys: &Mutex<T>) -> MutexGuard<'_, T> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reporter")
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}

/// That somebody works on a transaction, so that it is not reported twice at once.
struct Claim<'a> {
    reporter: &'a Reporter,
    key: Bytes,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        lock(&self.reporter.claimed).remove(&self.key);
    }
}
