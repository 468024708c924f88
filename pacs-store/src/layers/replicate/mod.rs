//! A second copy of what an archive keeps: [`ReplicatedArchive`].
//!
//! The first archive is the one whose order, places and numbers count; the second has the same instances at places of its
//! own. A ledger holds which is where, with a check of each block of 64 KiB. What is read is compared with these checks
//! before it is given out, and comes from the other copy where one does not hold: so no byte that changed where it lay is
//! served, and none is missed as long as one of the two copies has it.
//!
//! What comes is written to both at once, or to the first alone ([`ReplicateMode`]). A thread looks through what the first
//! archive took in, and copies what the second lacks: also after the second was away, or was begun later than the first.
//! Removals follow.
//!
//! # What it protects
//! A medium that loses or changes what it keeps, up to a whole archive. [`verify`](Archive::verify) reads both copies and
//! tells of a damaged one, [`mend`](Archive::mend) makes it anew from the other. The second archive is an archive like any other: where the first is lost,
//! an engine opens on the second, with an index made anew. What was kept while the second was behind is then missing:
//! [`lag`](ReplicatedArchive::lag) tells how much that is.
//!
//! It does not protect from removal, which is done in both, nor from what has write access to both.
//!
//! # Crashes
//! What both archives say is the truth: where the notes are behind after a crash, what is in the second archive and not
//! noted is compared, byte for byte, with what is there in the first. A copy whose first was never committed may stay in
//! the second archive after a crash: it was never acknowledged. Where the notes are lost, spare copies in the first archive
//! are taken for versions when an index is made anew.

mod catch_up;
mod copying;
mod mend;
mod notes;
mod read;
mod scan;
mod second;
mod sums;
mod writer;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::oneshot;
use futures::executor::block_on;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use pacs_core::ledger::{Ledger, Step};
use pacs_core::{
    Archive, ArchiveCapability, ArchiveWriter, Entry, Error, ErrorKind, Locator, Result, Sequence, Timestamp,
    Uid,
};

use self::notes::{Copy, Notes, Position, note_removed};
use self::second::Second;
use crate::pool::Pool;

/// Entries that are noted together: the flush of a ledger is shared by so many.
const AT_ONCE: usize = 256;

/// How far a removal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gone {
    /// Whether it will be isn't known yet.
    Removing,
    /// From the first archive, at this place in its order.
    Removed(Sequence),
    /// And the notes know of it.
    Noted(Sequence),
}

/// Threads that see to commits that nobody waits for.
const HELPERS: usize = 2;

/// When an instance counts as kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplicateMode {
    /// With the first copy; the second follows. What the first archive loses before that is lost.
    Later,
    /// With both copies, as long as the second archive takes them; while it doesn't, with the first, and the second
    /// follows.
    #[default]
    WhilePresent,
    /// With both copies; refused while the second archive doesn't take them.
    Always,
}

/// How a [`ReplicatedArchive`] works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicateOptions {
    /// When an instance counts as kept.
    pub mode: ReplicateMode,
    /// With [`ReplicateMode::WhilePresent`], so long the second archive may be behind the first before it counts as away.
    pub patience: Duration,
}

impl Default for ReplicateOptions {
    fn default() -> Self {
        Self {
            mode: ReplicateMode::default(),
            patience: Duration::from_secs(10),
        }
    }
}

/// How far the second archive is behind the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// The second archive took what it was given last.
    pub is_present: bool,
    /// Commits and removals that the second archive lacks, up to [`LAG_COUNTED_MAX`].
    pub entries: u64,
    /// When the first instance of them was committed.
    pub since: Option<Timestamp>,
    /// Instances that have no second copy, because the first archive could not give them; up to [`LAG_COUNTED_MAX`]. They are
    /// tried again now and then.
    pub unreadable: u64,
}

/// What a [`Lag`] counts to at most.
pub const LAG_COUNTED_MAX: usize = 10_000;

/// Gives the second archive, each time it is asked until it succeeds.
pub type OpenSecond = Box<dyn Fn() -> Result<Arc<dyn Archive>> + Send + Sync>;

/// An archive of whose instances there is a second copy in another one. See [the module](self).
///
/// Locators, sequences and lengths are those of the first archive.
pub struct ReplicatedArchive {
    shared: Arc<Shared>,
    /// The thread, and what is dropped to end it.
    thread: Option<(JoinHandle<()>, oneshot::Sender<()>)>,
}

/// What the archive, its thread and its streams share.
struct Shared {
    first: Arc<dyn Archive>,
    second: Second,
    notes: Notes,
    /// Held while notes of copies are written, so that what was removed is not noted afterwards.
    noting: futures::lock::Mutex<()>,
    options: ReplicateOptions,
    live: Arc<Live>,
    helpers: Arc<Pool>,
    /// Copies are made anew there, one at a time.
    mender: Pool,
    /// Held while a copy is made anew.
    mending: futures::lock::Mutex<()>,
    /// Scans that go on: none of them must come by a spare that is not noted yet.
    scans: AtomicUsize,
    /// Spares in the first archive.
    spares: AtomicU64,
    /// Up to where the index knows everything, as it said last.
    indexed: AtomicU64,
}

fn unordered(which: &str) -> Error {
    let why = format!("the {which} archive does not tell in which order it took things in");
    Error::new(ErrorKind::Unsupported, "archive.replicate", why)
}

/// What writers and the thread that catches up tell each other.
#[derive(Default)]
struct Live {
    state: Mutex<LiveState>,
    changed: Condvar,
}

#[derive(Default)]
struct LiveState {
    /// Both copies are kept, and it is not noted yet.
    fresh: HashMap<Locator, Arc<Copy>>,
    /// UIDs of instances whose second copy is kept, or about to be, and whose first isn't yet: how many of each.
    on_the_way: HashMap<Uid, usize>,
    /// What was removed from the first archive, or is being removed: the second may still have it.
    gone: HashMap<Locator, Gone>,
    position: Position,
    /// Something happened.
    is_due: bool,
    /// Who waits until everything up to there is copied.
    waiting: Vec<(Sequence, oneshot::Sender<()>)>,
    /// Second copies that writers did not wait for.
    late: Vec<BoxFuture<'static, ()>>,
    closed: bool,
}

impl LiveState {
    /// Whether a version of the instance is on its way into both archives, or there and not noted.
    fn is_coming(&self, instance: &Uid) -> bool {
        self.on_the_way.contains_key(instance)
            || self.fresh.values().any(|copy| copy.key.instance == *instance)
    }
}

impl Live {
    fn state(&self) -> MutexGuard<'_, LiveState> {
        // Nothing panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.state().is_due = true;
        self.changed.notify_all();
    }

    fn is_closed(&self) -> bool {
        self.state().closed
    }
}

impl ReplicatedArchive {
    /// Keeps copies of what `first` keeps in the archive that `second` gives, with notes in `notes`, a ledger that is used
    /// for nothing else. Blocks. A second archive that is away now is asked for again later.
    ///
    /// # Errors
    /// `Unsupported` when one of them has no ordered scan; `Corrupt` when the notes tell of what came later than anything
    /// in `first`: that is an older one, or a part of it is lost. What `first` and `notes` say, and `second`, unless that
    /// is `Io` or `NotFound`.
    pub fn open(
        first: Arc<dyn Archive>,
        second: OpenSecond,
        notes: Arc<dyn Ledger>,
        options: ReplicateOptions,
    ) -> Result<Self> {
        let failed = |error| Error::io("archive.replicate", "a thread can't start", error);
        if !first.capability().ordered_scan {
            return Err(unordered("first"));
        }
        let notes = Notes::new(notes);
        let position = block_on(notes.position())?;
        if first.last_sequence().is_some_and(|last| last < position.first) {
            let why = "copies are noted of what came later than anything in the archive: that is an older one, or a part of it is lost. The second archive has what is missing";
            return Err(Error::new(ErrorKind::Corrupt, "archive.replicate", why));
        }
        let live = Arc::new(Live::default());
        live.state().position = position;
        live.state().is_due = true;
        let shared = Arc::new(Shared {
            first,
            second: Second::new(second),
            notes,
            noting: futures::lock::Mutex::new(()),
            options,
            live,
            helpers: Arc::new(Pool::new("archive-copy", HELPERS).map_err(failed)?),
            mender: Pool::new("archive-mend", 1).map_err(failed)?,
            mending: futures::lock::Mutex::new(()),
            scans: AtomicUsize::new(0),
            spares: AtomicU64::new(0),
            indexed: AtomicU64::new(0),
        });
        // Before anything is read: what was removed must not be served from its second copy.
        block_on(async {
            shared.settle_mending().await?;
            shared.forget_removed().await
        })?;
        let opened = shared
            .second
            .open()
            .and_then(|second| block_on(shared.compare_second(&*second)));
        match opened {
            Ok(()) => shared.second.set_present(true),
            Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::NotFound) => {
                tracing::error!(%error, "the second archive is away; it is asked for again");
            }
            Err(error) => return Err(error),
        }
        let (close, closed) = oneshot::channel();
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("archive-catch-up".to_owned())
                .spawn(move || catch_up::run(&shared, closed))
                .map_err(failed)?
        };
        Ok(Self {
            shared,
            thread: Some((thread, close)),
        })
    }

    /// Waits until the second archive has all that was kept before this call and that the first can give
    /// ([`Lag::unreadable`]). While the second is away, that is until it is back.
    ///
    /// # Errors
    /// `Closed` when the archive is closed before.
    pub async fn caught_up(&self) -> Result<()> {
        let closed = |_| Error::new(ErrorKind::Closed, "archive.replicate", "the archive is closed");
        let last = self.shared.first.last_sequence().unwrap_or(Sequence(u64::MAX));
        let (sender, receiver) = oneshot::channel();
        self.shared.live.state().waiting.push((last, sender));
        self.shared.live.wake();
        receiver.await.map_err(closed)
    }

    /// How far the second archive is behind. Looks at what it lacks, so it is not for each second.
    ///
    /// # Errors
    /// What the first archive says.
    pub async fn lag(&self) -> Result<Lag> {
        let position = self.shared.live.state().position;
        let mut lag = Lag {
            is_present: self.shared.second.present().is_ok(),
            unreadable: self.shared.notes.later(None, LAG_COUNTED_MAX).await?.len() as u64,
            ..Lag::default()
        };
        let mut entries = self.shared.first.scan(position.first).take(LAG_COUNTED_MAX);
        while let Some(entry) = entries.try_next().await? {
            lag.entries += 1;
            if let (Entry::Stored(_, stored), None) = (entry, lag.since) {
                lag.since = Some(stored.received);
            }
        }
        Ok(lag)
    }
}

impl Drop for ReplicatedArchive {
    fn drop(&mut self) {
        self.shared.live.state().closed = true;
        self.shared.live.changed.notify_all();
        if let Some((thread, close)) = self.thread.take() {
            drop(close);
            if thread.join().is_err() {
                tracing::error!("the thread that catches up panicked");
            }
        }
        self.shared.helpers.close();
        self.shared.mender.close();
        let (waiting, late) = {
            let mut state = self.shared.live.state();
            (
                std::mem::take(&mut state.waiting),
                std::mem::take(&mut state.late),
            )
        };
        // What they hold tells the state.
        drop((waiting, late));
    }
}

impl fmt::Debug for ReplicatedArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicatedArchive")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

/// Whether a copy is at fault, and not the moment.
fn is_damage(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Invalid
    )
}

impl Shared {
    /// What is known of the copies of what is kept there; `None` where there is one alone.
    ///
    /// # Errors
    /// `NotFound` when it was removed; what the notes say.
    async fn copy_of(&self, locator: &Locator) -> Result<Option<Arc<Copy>>> {
        {
            let state = self.live.state();
            if state.gone.contains_key(locator) {
                return Err(not_found());
            }
            if let Some(copy) = state.fresh.get(locator) {
                return Ok(Some(Arc::clone(copy)));
            }
        }
        let copy = self.notes.of(locator).await?;
        // Removed meanwhile, it may have been noted before.
        self.check_kept(locator)?;
        Ok(copy.map(Arc::new))
    }

    /// # Errors
    /// `NotFound` when it was removed.
    fn check_kept(&self, locator: &Locator) -> Result<()> {
        match self.live.state().gone.contains_key(locator) {
            true => Err(not_found()),
            false => Ok(()),
        }
    }

    async fn remove(&self, instance: &Uid, locator: &Locator) -> Result<Sequence> {
        let mut steps = self.unnoted_copies(instance, locator).await?;
        steps.push(notes::forget_later(locator));
        // From now on nobody is given the second copy.
        let mut removing = Removing::begin(&self.live, locator);
        let sequence = match self.first.remove(instance, locator).await {
            // Where its record can't be found any more there is nothing to remove.
            Err(error) if is_damage(&error) => self.first.last_sequence().unwrap_or_default(),
            removed => removed?,
        };
        // Whatever the notes say: a scan tells of it after a crash.
        removing.to = Some(Gone::Removed(sequence));
        let _noting = self.noting.lock().await;
        let fresh = self.live.state().fresh.get(locator).cloned();
        let copy = match fresh {
            Some(copy) => Some((*copy).clone()),
            None => self.notes.of(locator).await?,
        };
        if let Some(copy) = &copy {
            self.remove_spare(copy).await?;
            steps.extend(note_removed(copy));
        }
        self.notes.apply(steps).await?;
        self.live.state().fresh.remove(locator);
        removing.to = Some(Gone::Noted(sequence));
        Ok(sequence)
    }

    /// Removes the spare of what is removed, before it is forgotten which that is.
    async fn remove_spare(&self, copy: &Copy) -> Result<()> {
        match &copy.spare {
            Some(spare) => self.first.remove(&copy.key.instance, spare).await.map(drop),
            None => Ok(()),
        }
    }

    /// What there is to note of copies in the second archive that are of what is kept there, and not noted.
    async fn unnoted_copies(&self, instance: &Uid, locator: &Locator) -> Result<Vec<Step>> {
        let met = self.notes.met(instance).await?;
        if met.is_empty() {
            return Ok(Vec::new());
        }
        let sums = match self.notes.of(locator).await? {
            Some(copy) => Ok(copy.sums),
            None => copying::sums(&*self.first, locator).await,
        };
        let (Ok(second), Ok(sums)) = (self.second.now(), sums) else {
            return Ok(Vec::new());
        };
        let mut steps = Vec::new();
        for (_, met) in met {
            let of_met = copying::sums(&*second, &met.locator).await;
            if of_met.is_ok_and(|of_met| of_met == sums) {
                steps.extend([
                    notes::forget_met(instance, met.sequence),
                    notes::note_away(&met.locator, instance),
                ]);
            }
        }
        Ok(steps)
    }
}

/// A removal; dropped before the first archive has done it, what was to be removed is as it was.
struct Removing<'a> {
    live: &'a Live,
    locator: &'a Locator,
    /// How far it is when this is dropped.
    to: Option<Gone>,
}

impl<'a> Removing<'a> {
    fn begin(live: &'a Live, locator: &'a Locator) -> Self {
        // It may have been gone before.
        let to = live.state().gone.insert(locator.clone(), Gone::Removing);
        Self { live, locator, to }
    }
}

impl Drop for Removing<'_> {
    fn drop(&mut self) {
        let mut state = self.live.state();
        match self.to {
            Some(to) => drop(state.gone.insert(self.locator.clone(), to)),
            None => drop(state.gone.remove(self.locator)),
        }
        drop(state);
        self.live.wake();
    }
}

fn not_found() -> Error {
    let why = "nothing is kept at this locator";
    Error::new(ErrorKind::NotFound, "archive.read", why)
}

#[deny(clippy::missing_trait_methods)]
impl Archive for ReplicatedArchive {
    fn capability(&self) -> ArchiveCapability {
        self.shared.first.capability()
    }

    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn ArchiveWriter>>> {
        async move {
            let writer = writer::Writer::begin(&self.shared).await?;
            Ok(Box::new(writer) as Box<dyn ArchiveWriter>)
        }
        .boxed()
    }

    fn read(&self, locator: &Locator, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        read::stream(Arc::clone(&self.shared), locator.clone(), range, true)
    }

    fn read_unchecked(&self, locator: &Locator, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        // What does not hold is to come from the other copy.
        read::stream(Arc::clone(&self.shared), locator.clone(), range, false)
    }

    fn remove(&self, instance: &Uid, locator: &Locator) -> BoxFuture<'_, Result<Sequence>> {
        let (instance, locator) = (*instance, locator.clone());
        async move { self.shared.remove(&instance, &locator).await }.boxed()
    }

    fn scan(&self, after: Sequence) -> BoxStream<'static, Result<Entry>> {
        scan::stream(Arc::clone(&self.shared), after)
    }

    fn verify(&self, locator: &Locator) -> BoxFuture<'_, Result<()>> {
        let (shared, locator) = (Arc::clone(&self.shared), locator.clone());
        async move { shared.verify(&locator).await }.boxed()
    }

    fn mend(&self, locator: &Locator) -> BoxFuture<'_, Result<bool>> {
        let (shared, locator) = (Arc::clone(&self.shared), locator.clone());
        // It comes to its end whether somebody waits or not: what is half done would be found by a scan.
        let mended = self.shared.helpers.run(move || block_on(shared.mend(&locator)));
        async move {
            mended.await.unwrap_or_else(|_| {
                Err(Error::new(
                    ErrorKind::Closed,
                    "archive.mend",
                    "the archive is closed",
                ))
            })
        }
        .boxed()
    }

    fn last_sequence(&self) -> Option<Sequence> {
        let position = self.shared.live.state().position;
        self.shared
            .first
            .last_sequence()
            .map(|last| last.max(position.first))
    }

    fn indexed(&self, sequence: Sequence) -> BoxFuture<'_, Result<()>> {
        // What the second archive does not know yet must still be told by a scan.
        self.shared.indexed.fetch_max(sequence.0, Ordering::AcqRel);
        let position = self.shared.live.state().position;
        self.shared.first.indexed(sequence.min(position.first))
    }
}
