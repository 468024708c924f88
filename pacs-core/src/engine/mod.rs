//! [`Pacs`]: archive and index put together, so that success means kept.

mod access;
mod amend;
mod block_on;
mod bulk;
mod coerce;
mod committer;
mod compare;
mod correction;
mod deidentified;
mod digest;
mod forward;
mod frames;
mod import;
mod metadata;
mod observers;
mod outgoing;
mod receipt;
mod recovery;
#[cfg(feature = "render")]
mod render;
mod slowly;
mod turns;
mod verify;
mod watched;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::SinkExt;
use futures::channel::{mpsc, oneshot};
use futures::stream::BoxStream;

use self::turns::Turns;
use crate::access::{AccessControl, AllowAll, Permission};
use crate::archive::{Archive, Sequence};
use crate::audit::Audit;
use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Result};
use crate::hooks::{AdmitAll, Coercer, Decider, Observer, Source};
use crate::index::{Index, InstanceRecord, Scope, Totals};
use crate::ledger::Ledger;
use crate::limits;
#[cfg(feature = "pixel")]
use crate::pixel::DecodingRoom;
use crate::query::AttributeSet;
use crate::route::{Outbox, Router, Trigger};
use crate::uid::Uid;
use crate::workflow::ups::Ups;
pub use amend::Amended;
pub use block_on::block_on;
use committer::{Committer, Request};
pub use forward::Fetching;
use forward::{FetchedStudies, Forwarder};
#[cfg(feature = "pixel")]
pub use frames::DecodedFrame;
pub use frames::{FrameReader, frame_transfer_syntaxes};
use metadata::Describer;
use observers::Observers;
pub use receipt::{Announced, Receipt, Received};
pub use recovery::Recovered;
#[cfg(feature = "render")]
pub use render::Renderer;
pub use verify::{Verified, VerifyOptions};
use watched::Watched;

/// What happens to an instance that arrives under a SOP Instance UID that is already kept with
/// different bytes. With the same bytes it is always a success and no second copy; so it is with the bytes of
/// an earlier version, which does not become current again. What is cut off or damaged
/// ([`Received::complete`]) never takes the place of a whole one, or of a longer one that is cut off too: it is
/// left out with a warning ([`StoreOutcome::FirstKept`]), or refused. A whole one always takes the place of
/// what is cut off or damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DuplicatePolicy {
    /// Keep the new one as current, and the old one in the archive as an earlier version.
    #[default]
    Replace,
    /// Keep the first; the sender is answered with a warning.
    KeepFirst,
    /// Keep the first; the sender is answered with a failure.
    Refuse,
}

/// What a received instance was to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreOutcome {
    /// Nothing was kept under its SOP Instance UID.
    New,
    /// The same bytes were kept already.
    AlreadyKept,
    /// Different bytes were kept; they are an earlier version now.
    Replaced,
    /// Different bytes were kept and still are; these are not.
    FirstKept,
}

/// How an engine behaves; every field has a default that is safe.
#[derive(Clone)]
pub struct Options {
    /// See [`DuplicatePolicy`].
    pub duplicates: DuplicatePolicy,
    /// Which attributes are searched and returned.
    pub attributes: Arc<AttributeSet>,
    /// Instances on their way in at once, half of them from one address; more wait for a turn. Bounds memory together with what an
    /// archive's writer may buffer.
    pub receipts_max: usize,
    /// How often what was applied to the index is made durable there. Bounds the time that an opening
    /// after a crash takes; no instance depends on it.
    pub checkpoint_interval: Duration,
    /// Who says who may do what.
    pub access: Arc<dyn AccessControl>,
    /// Who decides what is admitted.
    pub decider: Arc<dyn Decider>,
    /// Who coerces attributes of what arrives; nobody, and all stays as it came.
    pub coercer: Option<Arc<dyn Coercer>>,
    /// Who decides where instances go; nobody, and nothing goes anywhere by itself.
    pub router: Option<Arc<dyn Router>>,
    /// Deliveries are entered into the outbox, where there is a ledger. Else they are told to the observers alone
    /// ([`Event::Routed`](crate::hooks::Event::Routed)), and those that were not told at the end are lost.
    pub keep_deliveries: bool,
    /// How long nothing must have come to a series or a study before the router is told that it is stable.
    pub stable_after: Duration,
    /// Where deliveries, worklists and procedure steps are kept; nowhere, and there are none.
    pub ledger: Option<Arc<dyn Ledger>>,
    /// Where it is recorded who did what with whose data.
    pub audit: Audit,
    /// Who is told what happened.
    pub observers: Vec<Arc<dyn Observer>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            duplicates: DuplicatePolicy::default(),
            attributes: Arc::new(AttributeSet::default()),
            receipts_max: limits::RECEIPTS_MAX,
            checkpoint_interval: Duration::from_secs(5),
            access: Arc::new(AllowAll),
            decider: Arc::new(AdmitAll),
            coercer: None,
            router: None,
            keep_deliveries: true,
            stable_after: Duration::from_secs(60),
            ledger: None,
            audit: Audit::none(),
            observers: Vec::new(),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("duplicates", &self.duplicates)
            .field("receipts_max", &self.receipts_max)
            .field("checkpoint_interval", &self.checkpoint_interval)
            .finish_non_exhaustive()
    }
}

/// The engine: an archive and an index that agree.
///
/// Where the index's medium fails, everything is refused for now (`Io`) until the index is brought up to the
/// archive again; what asks meanwhile brings about the attempts.
///
/// A handle; clones are the same engine. When the last one goes, what was accepted is finished and the
/// index is flushed.
#[derive(Clone)]
pub struct Pacs {
    inner: Arc<Inner>,
}

struct Inner {
    archive: Arc<dyn Archive>,
    index: Arc<Watched>,
    attributes: Arc<AttributeSet>,
    access: Arc<dyn AccessControl>,
    audit: Audit,
    decider: Arc<dyn Decider>,
    coercer: Option<Arc<dyn Coercer>>,
    ledger: Option<Arc<dyn Ledger>>,
    outbox: Option<Outbox>,
    /// Who is asked about orders.
    orders: Option<Arc<dyn Router>>,
    fetched: Option<Arc<FetchedStudies>>,
    /// All of a process hear of the same changes.
    ups: Option<Ups>,
    receipts: Turns,
    /// Memory for the frame tables that are made: of instances on their way in, and of kept ones that have none.
    frame_tables: Budget,
    /// Frame tables that are in use or being made.
    tables: frames::Tables,
    #[cfg(feature = "pixel")]
    decoding: DecodingRoom,
    describer: Describer,
    /// The archive has what the index does not.
    behind: Arc<AtomicBool>,
    threads: Mutex<Option<Threads>>,
}

/// What runs while the engine is open.
struct Threads {
    requests: mpsc::Sender<Request>,
    committer: JoinHandle<()>,
    /// Ends with the committer.
    forwarding: Option<JoinHandle<()>>,
    /// Dropping the sender ends the thread.
    checkpoint: (std::sync::mpsc::Sender<()>, JoinHandle<()>),
}

impl fmt::Debug for Pacs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pacs").finish_non_exhaustive()
    }
}

impl Pacs {
    /// Opens an engine on an archive and an index: brings the index up to the archive, then serves.
    ///
    /// # Errors
    /// What the archive or the index says; `Corrupt`, of the operation `index.compare`, where the index knows of what came
    /// later than anything in the archive: an older archive was put beside it, or a part is lost. An index that is made
    /// anew says what there is.
    pub async fn open(archive: Arc<dyn Archive>, index: Arc<dyn Index>, options: Options) -> Result<Self> {
        let recovered = recovery::replay(&*archive, &*index, &options.attributes).await?;
        tracing::info!(
            applied = recovered.applied,
            unreadable = recovered.unreadable,
            "the index has all that the archive gives"
        );
        let behind = Arc::new(AtomicBool::new(false));
        let index = Arc::new(Watched::new(index));
        let describer = Describer::new(Arc::clone(&archive), Arc::clone(&index));
        let outbox = match &options.ledger {
            Some(ledger) => Some(Outbox::open(Arc::clone(ledger)).await?),
            None => None,
        };
        let observers = Arc::new(Observers::new(options.observers));
        let kept = options.ledger.clone().filter(|_| options.keep_deliveries);
        let orders = options.router.clone().filter(|_| kept.is_some());
        let fetched = match options.router {
            Some(_) => Some(Arc::new(FetchedStudies::open(kept.clone()).await?)),
            None => None,
        };
        let forwarder = options
            .router
            .zip(fetched.clone())
            .map(|(router, fetched)| Forwarder {
                archive: Arc::clone(&archive),
                index: Arc::clone(&index),
                attributes: Arc::clone(&options.attributes),
                router,
                observers: Arc::clone(&observers),
                outbox: outbox.clone().zip(kept),
                fetched,
                stable_after: options.stable_after,
            });
        if let Some(forwarder) = &forwarder {
            forwarder.begin(recovered.low_water).await?;
        }
        let (handover, forwarding) = forwarder
            .map(|forwarder| forwarder.start(recovered.low_water))
            .unzip();
        let committer = Committer {
            archive: Arc::clone(&archive),
            index: Arc::clone(&index),
            attributes: Arc::clone(&options.attributes),
            duplicates: options.duplicates,
            whole: Mutex::default(),
            handover,
            observers,
            low_water: recovered.low_water,
            behind: Arc::clone(&behind),
            recent: Arc::clone(&describer.recent),
        };
        // As many may wait as may be on their way in: commits never block one another here.
        let (requests, receiver) = mpsc::channel(options.receipts_max);
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(run)
                .map_err(|error| Error::io("engine.open", "a thread can't be started", error))
        };
        let committer = spawn("pacs-commit", Box::new(move || committer.run(receiver)))?;
        let forwarding = match forwarding {
            Some(forwarding) => Some(spawn("pacs-route", Box::new(forwarding))?),
            None => None,
        };
        let (stop, stopped) = std::sync::mpsc::channel();
        let checkpoint = {
            let (archive, index) = (Arc::clone(&archive), Arc::clone(&index));
            let interval = options.checkpoint_interval;
            let (describer, requests) = (describer.clone(), requests.clone());
            let run = move || {
                checkpoint_until(&stopped, interval, &*archive, &index, |is_stopped| {
                    describer.work_ahead(&requests, interval, is_stopped);
                });
            };
            spawn("pacs-checkpoint", Box::new(run))?
        };
        Ok(Self {
            inner: Arc::new(Inner {
                archive,
                index,
                attributes: options.attributes,
                access: options.access,
                audit: options.audit,
                decider: options.decider,
                coercer: options.coercer,
                ups: options.ledger.clone().map(Ups::new),
                ledger: options.ledger,
                outbox,
                orders,
                fetched,
                receipts: Turns::new(options.receipts_max),
                frame_tables: Budget::new(limits::FRAME_TABLES_LENGTH_MAX_BYTES),
                tables: frames::Tables::default(),
                #[cfg(feature = "pixel")]
                decoding: DecodingRoom::new(limits::DECODING_LENGTH_MAX_BYTES),
                describer,
                behind,
                threads: Mutex::new(Some(Threads {
                    requests,
                    committer,
                    forwarding,
                    checkpoint: (stop, checkpoint),
                })),
            }),
        })
    }

    /// Begins to take in an instance; waits while too many are on their way in, or half of them from this address.
    ///
    /// # Errors
    /// `Refused` when its source may not store; `OutOfResources` when the archive has no room.
    pub async fn receive(&self, announced: Announced) -> Result<Receipt> {
        self.permit(&announced.source, Permission::Store)?;
        Receipt::begin(Arc::clone(&self.inner), announced).await
    }

    /// Whether somebody waits in [`receive`](Self::receive) now because too many instances are on their way in, in all or
    /// from this address: then one of `source` that makes no progress is in the way.
    pub fn receipts_are_short(&self, source: &Source) -> bool {
        self.inner.receipts.are_short(source)
    }

    /// Every instance of `scope`, those of one series together.
    pub fn instances(&self, scope: Scope) -> BoxStream<'static, Result<InstanceRecord>> {
        self.inner.index.instances(scope)
    }

    /// The instance with this SOP Instance UID.
    ///
    /// # Errors
    /// What the index says.
    pub async fn lookup(&self, instance: &Uid) -> Result<Option<InstanceRecord>> {
        self.inner.index.lookup(instance).await
    }

    /// Removes an instance in all its versions; answers whether there was one.
    ///
    /// # Errors
    /// What the archive or the index says.
    pub async fn remove(&self, instance: &Uid) -> Result<bool> {
        self.inner
            .request(|reply| Request::Remove(*instance, None, reply))
            .await
    }

    /// Does the same if this is its current version still; answers whether it was. What came under its UID since the
    /// record was read stays.
    ///
    /// # Errors
    /// What the archive or the index says.
    pub async fn remove_version(&self, record: &InstanceRecord) -> Result<bool> {
        let (instance, only) = (record.key.instance, record.locator.clone());
        self.inner
            .request(|reply| Request::Remove(instance, Some(only), reply))
            .await
    }

    /// Which attributes are searched and returned.
    pub fn attributes(&self) -> &AttributeSet {
        &self.inner.attributes
    }

    /// Where doors record who did what with whose data.
    pub fn audit(&self) -> &Audit {
        &self.inner.audit
    }

    /// Where deliveries, worklists and procedure steps are kept.
    ///
    /// # Errors
    /// `Unsupported` when the engine was opened without a ledger.
    pub fn ledger(&self) -> Result<&Arc<dyn Ledger>> {
        self.inner.ledger.as_ref().ok_or_else(|| {
            let why = "the engine has no ledger: it keeps no worklist";
            Error::new(ErrorKind::Unsupported, "engine.ledger", why)
        })
    }

    /// Deliveries that wait, were made, or were refused.
    ///
    /// # Errors
    /// `Unsupported` when the engine was opened without a ledger.
    pub fn outbox(&self) -> Result<&Outbox> {
        self.inner.outbox.as_ref().ok_or_else(|| {
            let why = "the engine has no ledger: it keeps no deliveries";
            Error::new(ErrorKind::Unsupported, "engine.outbox", why)
        })
    }

    /// The unified procedure steps.
    ///
    /// # Errors
    /// As [`ledger`](Self::ledger).
    pub fn ups(&self) -> Result<&Ups> {
        self.ledger()?;
        self.inner.ups.as_ref().ok_or_else(|| {
            // Where there is a ledger they are made.
            Error::new(ErrorKind::Unsupported, "engine.ups", "the engine has no ledger")
        })
    }

    /// How much is kept.
    ///
    /// # Errors
    /// What the index says.
    pub async fn totals(&self) -> Result<Totals> {
        self.inner.index.totals().await
    }

    /// Makes the index durable up to now, so that the next opening has nothing to repeat.
    ///
    /// # Errors
    /// What the archive or the index says.
    pub async fn checkpoint(&self) -> Result<Sequence> {
        checkpoint(&*self.inner.archive, &self.inner.index).await
    }

    /// Finishes what was accepted, makes the index durable and refuses everything after. Blocks.
    ///
    /// # Errors
    /// What the archive or the index says of the last flush.
    pub fn close(&self) -> Result<()> {
        self.inner.close()
    }
}

impl Inner {
    fn requests(&self) -> Result<mpsc::Sender<Request>> {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = || Error::new(ErrorKind::Closed, "engine.request", "the engine is closed");
        threads
            .as_ref()
            .map(|threads| threads.requests.clone())
            .ok_or_else(closed)
    }

    async fn request<T>(&self, make: impl FnOnce(oneshot::Sender<Result<T>>) -> Request) -> Result<T> {
        let closed = || Error::new(ErrorKind::Closed, "engine.request", "the engine is closed");
        let (reply, answer) = oneshot::channel();
        self.send(make(reply)).await?;
        answer.await.map_err(|_| closed())?
    }

    async fn send(&self, request: Request) -> Result<()> {
        let closed = |_| Error::new(ErrorKind::Closed, "engine.request", "the engine is closed");
        self.requests()?.send(request).await.map_err(closed)
    }

    fn wants_orders(&self) -> bool {
        let router = self.orders.as_ref();
        router.is_some_and(|router| router.wants(Trigger::OrderPlaced))
    }

    fn close(&self) -> Result<()> {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Threads {
            requests,
            committer,
            forwarding,
            checkpoint: (stop, checkpoints),
        }) = threads
        else {
            return Ok(());
        };
        // The checkpoint thread has requests too, and ends first.
        drop((requests, stop));
        // The threads contain their panics, so joining has nothing to tell.
        let _ = (
            committer.join(),
            checkpoints.join(),
            forwarding.map(JoinHandle::join),
        );
        block_on(recovery::closed(
            &*self.archive,
            self.index.unwatched(),
            self.behind.load(Ordering::Relaxed) || !self.index.is_healthy(),
        ))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the last flush failed; the next opening repeats what it lacks");
        }
    }
}

async fn checkpoint(archive: &dyn Archive, index: &Watched) -> Result<Sequence> {
    let durable = index.flush().await?;
    archive.indexed(durable).await?;
    Ok(durable)
}

fn checkpoint_until(
    stopped: &std::sync::mpsc::Receiver<()>,
    interval: Duration,
    archive: &dyn Archive,
    index: &Watched,
    between: impl Fn(&dyn Fn() -> bool),
) {
    use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
    while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        if let Err(error) = block_on(checkpoint(archive, index)) {
            tracing::error!(%error, "a checkpoint failed; it is tried again");
        }
        between(&|| stopped.try_recv() != Err(TryRecvError::Empty));
    }
}
