//! Going through what the archive took in.

use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesOrdered};
use pacs_core::{Entry, ErrorKind, Result, Sequence};

use super::Shared;
use super::pack::{Item, Pack, Position};
use super::task::{Output, Stopped, filled};

/// Directories that are read at the same time.
const READ_AHEAD: usize = 8;

/// The stream of [`Archive::scan`](pacs_core::Archive::scan).
pub(super) fn stream(shared: Arc<Shared>, after: Sequence) -> BoxStream<'static, Result<Entry>> {
    let runtime = shared.runtime.clone();
    filled(runtime, "archive.scan", move |mut output| async move {
        let done = scan(&shared, after, &mut output).await;
        (output, done)
    })
}

async fn scan(shared: &Shared, after: Sequence, output: &mut Output<Entry>) -> Result<(), Stopped> {
    let published = shared.published();
    let mut packs = Packs::new(shared, Position::pack_of(after).max(1), published);
    while let Some(found) = packs.next().await? {
        let Found::Pack(number, pack) = found else {
            continue;
        };
        for (item, held) in (0..).zip(&pack.items) {
            let position = Position { pack: number, item };
            if position.sequence() <= after {
                continue;
            }
            let entry = match held {
                Item::Instance { .. } if shared.is_removed(position) => continue,
                Item::Instance { .. } => match pack.stored(position) {
                    Some((key, stored)) => Entry::Stored(key, stored),
                    None => continue,
                },
                Item::Gone => continue,
                Item::Removal { instance, locator } => Entry::Removed {
                    instance: *instance,
                    locator: locator.clone(),
                    sequence: position.sequence(),
                },
            };
            output.put(entry).await?;
        }
    }
    Ok(())
}

/// A pack that was listed, by its number.
pub(super) enum Found {
    Pack(u64, Pack),
    /// It is not there any more.
    Gone(u64),
    /// It is damaged. The log says so; the others are found.
    Unreadable(u64),
}

/// The directories of packs in order, some of them read ahead.
pub(super) struct Packs<'a> {
    shared: &'a Shared,
    walk: Option<super::bucket::Walk>,
    last: u64,
    ahead: FuturesOrdered<BoxFuture<'a, Result<Found>>>,
}

impl<'a> Packs<'a> {
    pub(super) fn new(shared: &'a Shared, from: u64, last: u64) -> Self {
        Self {
            shared,
            walk: Some(shared.bucket.packs(from)),
            last,
            ahead: FuturesOrdered::new(),
        }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Found>> {
        while self.ahead.len() < READ_AHEAD
            && let Some(walk) = &mut self.walk
        {
            match walk.next().await? {
                Some(object) if object.number <= self.last => {
                    let read = read(self.shared, object.number, object.length);
                    self.ahead.push_back(Box::pin(read));
                }
                _ => self.walk = None,
            }
        }
        self.ahead.next().await.transpose()
    }
}

async fn read(shared: &Shared, number: u64, length: u64) -> Result<Found> {
    match shared.bucket.directory(number, Some(length)).await {
        Ok((pack, _)) => Ok(Found::Pack(number, pack)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Found::Gone(number)),
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::error!(pack = number, %error, "a pack can't be read: what it holds is not found");
            Ok(Found::Unreadable(number))
        }
        Err(error) => Err(error),
    }
}
