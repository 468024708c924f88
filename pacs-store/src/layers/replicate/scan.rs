//! What either archive keeps, in the order of the first.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::stream::{BoxStream, Peekable};
use futures::{StreamExt, future, stream};
use pacs_core::{Entry, Result, Sequence, Stored};

use super::Shared;
use super::notes::Copy;

/// The stream of [`Archive::scan`](pacs_core::Archive::scan). What the first archive has lost, and the second has, is
/// yielded in its place; spares are not.
pub(super) fn stream(shared: Arc<Shared>, after: Sequence) -> BoxStream<'static, Result<Entry>> {
    stream::once(async move {
        {
            // What is about to be a spare is noted first.
            let _mending = shared.mending.lock().await;
            shared.scans.fetch_add(1, Ordering::AcqRel);
        }
        // What is noted later than the first archive is asked could be behind what it was not asked for.
        let position = shared.live.state().position.first;
        let first = shared.first.scan(after);
        let noted = shared.notes.after(after);
        let noted = noted.take_while(move |copy| {
            let is_before = copy
                .as_ref()
                .map_or(true, |copy| copy.stored.sequence <= position);
            future::ready(is_before)
        });
        let merging = Merging {
            first: first.peekable(),
            noted: noted.boxed().peekable(),
            shared,
        };
        stream::unfold(merging, |mut merging| async move {
            let next = merging.next().await?;
            Some((next, merging))
        })
    })
    .flatten()
    .boxed()
}

struct Merging {
    shared: Arc<Shared>,
    first: Peekable<BoxStream<'static, Result<Entry>>>,
    noted: Peekable<BoxStream<'static, Result<Copy>>>,
}

impl Drop for Merging {
    fn drop(&mut self) {
        self.shared.scans.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Merging {
    async fn next(&mut self) -> Option<Result<Entry>> {
        loop {
            let first = std::pin::Pin::new(&mut self.first).peek().await;
            let first = first.map(|entry| entry.as_ref().map_or(Sequence(0), Entry::sequence));
            let noted = std::pin::Pin::new(&mut self.noted).peek().await;
            let noted = noted.map(|copy| copy.as_ref().map_or(Sequence(0), |copy| copy.stored.sequence));
            let take_noted = match (first, noted) {
                (None, None) => return None,
                (Some(_), None) => false,
                (None, Some(_)) => true,
                (Some(first), Some(noted)) => noted < first,
            };
            if !take_noted {
                if first == noted {
                    // The same, as the first archive has it.
                    let _ = self.noted.next().await;
                }
                let entry = self.first.next().await?;
                let locator = match &entry {
                    Ok(Entry::Stored(_, Stored { locator, .. }) | Entry::Removed { locator, .. }) => locator,
                    Err(_) => return Some(entry),
                };
                match self.shared.is_spare(locator).await {
                    Ok(true) => continue,
                    Ok(false) => return Some(entry),
                    Err(error) => return Some(Err(error)),
                }
            }
            match self.noted.next().await? {
                Err(error) => return Some(Err(error)),
                Ok(copy) if self.shared.check_kept(&copy.stored.locator).is_err() => {}
                // Read some time ago, it may have been removed since.
                Ok(copy) if matches!(self.shared.notes.of(&copy.stored.locator).await, Ok(None)) => {}
                Ok(copy) => return Some(Ok(Entry::Stored(copy.key, copy.stored))),
            }
        }
    }
}
