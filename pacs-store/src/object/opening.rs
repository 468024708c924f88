//! Opening an archive, and the state that lets an opening pass over what is long settled.
//!
//! The state is an object of some lines: the version, the archive's id, the number of the last pack that is settled.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::channel::mpsc;
use futures::{StreamExt, TryStreamExt, stream};
use pacs_core::error::Retry;
use pacs_core::{Error, ErrorKind, Result};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

use super::bucket::{Bucket, Created};
use super::commit::Request;
use super::pack::{Body, Item, NUMBER_MAX, Place, StreamName};
use super::scan::{Found, Packs};
use super::upload::{patiently, take_empty};
use super::{Expected, ObjectOptions, Removals, Shared, UPLOADS_MAX};
use crate::layers::encrypt::random_number;

const FIRST_LINE: &str = "pacs object archive, version 1";

struct State {
    id: u128,
    settled: u64,
}

impl State {
    fn text(&self) -> String {
        format!("{FIRST_LINE}\n{:032x}\n{}\n", self.id, self.settled)
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        if first.starts_with("pacs object archive") && first != FIRST_LINE {
            let why = "the archive in the object store is of a newer version";
            return Err(Error::new(ErrorKind::Unsupported, "archive.open", why));
        }
        let id = lines.next().and_then(|id| u128::from_str_radix(id, 16).ok());
        let settled = lines.next().and_then(|settled| settled.parse().ok());
        match (first == FIRST_LINE, id, settled) {
            (true, Some(id), Some(settled)) if settled <= NUMBER_MAX / 2 => Ok(Self { id, settled }),
            _ => {
                let why = "the state of the archive in the object store is damaged";
                Err(Error::new(ErrorKind::Corrupt, "archive.open", why))
            }
        }
    }
}

pub(super) async fn open(
    bucket: Bucket,
    options: ObjectOptions,
    expected: Expected,
    runtime: Handle,
) -> Result<(Arc<Shared>, mpsc::UnboundedReceiver<Request>)> {
    open_or_fail(bucket, options, expected, runtime)
        .await
        .map_err(|error| {
            match (error.kind(), error.retry()) {
                // It does not let in.
                (ErrorKind::Io, Retry::Never) => {
                    Error::new(ErrorKind::Refused, "archive.open", error.context().to_owned())
                        .with_source(error)
                }
                _ => error,
            }
        })
}

async fn open_or_fail(
    bucket: Bucket,
    options: ObjectOptions,
    expected: Expected,
    runtime: Handle,
) -> Result<(Arc<Shared>, mpsc::UnboundedReceiver<Request>)> {
    let patience = options.patience;
    let state = patiently(patience, || state(&bucket, expected)).await?;
    match expected {
        Expected::New(id) if id != state.id => {
            let why = "the object store has an archive there already: a new one needs a place of its own";
            return Err(Error::new(ErrorKind::Mismatch, "archive.open", why));
        }
        Expected::This(id) if id != state.id => return Err(another()),
        _ => {}
    }
    let writer = random_number()? as u64;
    let last = patiently(patience, || take_over(&bucket, writer, state.settled)).await?;
    let (sender, requests) = mpsc::unbounded();
    let shared = Shared {
        runtime,
        writer,
        id: state.id,
        published: AtomicU64::new(last),
        settled: AtomicU64::new(state.settled),
        settled_max: AtomicU64::new(u64::MAX),
        queue: Mutex::new(Some(sender)),
        removals: Mutex::new(Removals::default()),
        rewriting: tokio::sync::Mutex::new(()),
        to_rewrite: Notify::new(),
        open_streams: Mutex::new(BTreeMap::new()),
        instances: Arc::new(Semaphore::new(options.instances.max(1))),
        streams: Arc::new(Semaphore::new(options.streams.max(1))),
        refusal: Mutex::new(None),
        bucket,
        options,
    };
    patiently(patience, || look_at_unsettled(&shared, state.settled)).await?;
    if shared.settled() < last {
        shared.to_rewrite.notify_one();
    }
    Ok((Arc::new(shared), requests))
}

fn another() -> Error {
    let why = "the object store has another archive there than the one that belongs here, or none";
    Error::new(ErrorKind::Mismatch, "archive.open", why)
}

/// The state; a new one where there is none and none is expected.
async fn state(bucket: &Bucket, expected: Expected) -> Result<State> {
    if let Some(state) = bucket.read_state().await? {
        // Without this the archive could be written by two programs, and neither would notice.
        if let Created::Now = bucket
            .create_state(String::from_utf8_lossy(&state).into_owned())
            .await?
        {
            let why = "the object store does not offer conditional writes: it writes over what is there";
            return Err(Error::new(ErrorKind::Unsupported, "archive.open", why));
        }
        return State::parse(&state);
    }
    match expected {
        Expected::This(_) => return Err(another()),
        Expected::Present => {
            let why = "the object store has no archive there";
            return Err(Error::new(ErrorKind::NotFound, "archive.open", why));
        }
        Expected::Any | Expected::New(_) => {}
    }
    let new = State {
        id: match expected {
            Expected::New(id) => id,
            Expected::Any | Expected::Present | Expected::This(_) => random_number()?,
        },
        settled: 0,
    };
    match bucket.create_state(new.text()).await? {
        Created::Now => Ok(new),
        // Somebody else was first.
        Created::Before => {
            let state = bucket.read_state().await?;
            let gone = || {
                Error::new(
                    ErrorKind::Io,
                    "archive.open",
                    "the archive's state comes and goes",
                )
            };
            State::parse(&state.ok_or_else(gone)?)
        }
    }
}

/// Packs that an opening looks at, at most: between two notes of the state there never are so many.
const UNSETTLED_MAX: u64 = 1 << 24;

/// Takes every number that an earlier program may have a pack on its way for: it gets none stored any more. Answers the last
/// number that is taken.
async fn take_over(bucket: &Bucket, writer: u64, settled: u64) -> Result<u64> {
    let mut there = HashSet::new();
    let mut last = settled;
    let mut walk = bucket.packs(settled + 1);
    while let Some(pack) = walk.next().await? {
        there.insert(pack.number);
        last = last.max(pack.number);
    }
    if last - settled > UNSETTLED_MAX {
        let why = "the archive in the object store has packs whose numbers can't be";
        return Err(Error::new(ErrorKind::Corrupt, "archive.open", why));
    }
    let missing = (settled + 1..=last).filter(|number| !there.contains(number));
    let taken = stream::iter(missing).map(|number| take_empty(bucket, writer, number));
    taken
        .buffer_unordered(8)
        .try_for_each(|_| std::future::ready(Ok(())))
        .await?;
    // One that still runs stores its packs by the numbers that follow, so many at the same time at most: behind so many that
    // are ours it has none.
    let mut ours = 0;
    while ours < UPLOADS_MAX {
        last += 1;
        ours = match take_empty(bucket, writer, last).await? {
            true => ours + 1,
            false => 0,
        };
    }
    Ok(last)
}

/// Removals that are not done yet are noted, objects that no pack names are removed. Where a pack can't be read, nothing is
/// removed, and the next opening looks at it again.
async fn look_at_unsettled(shared: &Shared, settled: u64) -> Result<()> {
    let mut named = HashSet::new();
    let mut packs = Packs::new(shared, settled + 1, shared.published());
    let mut unreadable = None;
    while let Some(found) = packs.next().await? {
        let (number, pack) = match found {
            Found::Pack(number, pack) => (number, pack),
            Found::Gone(number) | Found::Unreadable(number) => {
                unreadable = unreadable.or(Some(number));
                continue;
            }
        };
        for item in &pack.items {
            match item {
                Item::Instance {
                    body: Body::Own(name),
                    ..
                } => drop(named.insert(*name)),
                Item::Removal { locator, .. } => {
                    if let Some(place) = Place::from_locator(locator) {
                        shared.note_removal(place.position, number);
                    }
                }
                _ => {}
            }
        }
    }
    if let Some(number) = unreadable {
        shared.settled_max.store(number - 1, Ordering::Release);
        return Ok(());
    }
    let streams = shared.bucket.streams(settled).await?;
    let left: Vec<StreamName> = streams.into_iter().filter(|name| !named.contains(name)).collect();
    for name in left {
        tracing::info!("an object that was not committed is removed");
        shared.bucket.delete(&shared.bucket.stream(name)).await?;
    }
    Ok(())
}

/// Notes what the next opening may pass over. A failure costs that opening time and nothing else.
pub(super) async fn note(shared: &Shared) -> Result<()> {
    let settled = shared.settled();
    if settled <= shared.settled.load(Ordering::Acquire) || shared.check_taking("archive.indexed").is_err() {
        return Ok(());
    }
    let state = State {
        id: shared.id,
        settled,
    };
    match shared.bucket.write_state(state.text()).await {
        Ok(()) => drop(shared.settled.fetch_max(settled, Ordering::AcqRel)),
        Err(error) => tracing::warn!(%error, "the state of the archive can't be noted"),
    }
    Ok(())
}
