//! Frame tables of kept instances: from the index, else made by reading the instance once, however many ask.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{BoxFuture, Shared, WeakShared};
use futures::{FutureExt, TryStreamExt};

use super::error;
use crate::archive::Locator;
use crate::dataset::FrameTable;
use crate::dataset::scan::{ProblemKind, Scanner};
use crate::engine::committer::{CountedFrames, Request};
use crate::engine::{Inner, outgoing};
use crate::error::{Error, ErrorKind, Result};
use crate::index::InstanceRecord;

type Finding = BoxFuture<'static, Result<Arc<FrameTable>, Arc<Error>>>;
/// A frame table that is being looked for, or was found: whoever waits drives it.
pub(in crate::engine) type Known = Shared<Finding>;

/// The frame tables that somebody holds or waits for now, or that the committer has yet to apply. One lives as
/// long as they do.
#[derive(Default)]
pub(in crate::engine) struct Tables(Mutex<HashMap<Locator, WeakShared<Finding>>>);

impl Tables {
    fn lock(&self) -> MutexGuard<'_, HashMap<Locator, WeakShared<Finding>>> {
        // Nothing panics while it is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, version: &Locator) -> Option<Known> {
        self.lock().get(version).and_then(WeakShared::upgrade)
    }
}

impl Inner {
    /// The frame table of this version of an instance; nothing happens before it is waited for.
    pub(super) fn frame_table(self: &Arc<Self>, record: &InstanceRecord) -> Known {
        let mut tables = self.tables.lock();
        let known = tables.get(&record.locator).and_then(WeakShared::upgrade);
        // What failed is tried again by who comes later.
        if let Some(known) = known.filter(|known| !matches!(known.peek(), Some(Err(_)))) {
            return known;
        }
        tables.retain(|_, known| known.upgrade().is_some());
        let (pacs, record) = (Arc::clone(self), record.clone());
        let locator = record.locator.clone();
        let finding = async move {
            let found = AssertUnwindSafe(find(&pacs, &record)).catch_unwind().await;
            found
                .unwrap_or_else(|_| {
                    let what = "the archive or the index panicked while frames were looked for";
                    Err(error(ErrorKind::Internal, what))
                })
                .map_err(Arc::new)
        };
        let known = finding.boxed().shared();
        // It has not been polled, so there is something to be weak about.
        tables.extend(known.downgrade().map(|weak| (locator, weak)));
        known
    }
}

/// Looks the table up, or reads the instance to make it.
async fn find(pacs: &Arc<Inner>, record: &InstanceRecord) -> Result<Arc<FrameTable>> {
    let (instance, version) = (&record.key.instance, &record.locator);
    if let Some(table) = pacs.index.frames(instance, version).await? {
        return Ok(table);
    }
    let mut scanner = Scanner::new(&record.transfer_syntax).with_frame_tables_from(&pacs.frame_tables);
    let mut pieces = outgoing::data_set(&*pacs.archive, record);
    while let Some(piece) = pieces.try_next().await? {
        scanner.push(&piece)?;
    }
    let (scan, room) = scanner.finish_counted()?;
    let Some(table) = scan.frames else {
        let untold = |problem: &crate::dataset::scan::Problem| problem.kind == ProblemKind::FrameTable;
        return Err(if scan.problems.iter().any(untold) {
            let what = "the frames in the pixel data can't be told apart";
            error(ErrorKind::Mismatch, what)
        } else {
            let what = "there is no room now to find where the frames lie";
            error(ErrorKind::OutOfResources, what)
        });
    };
    let table = Arc::new(table);
    let frames = CountedFrames {
        table: Arc::clone(&table),
        _room: room,
    };
    // Nobody waits for it: where it fails, the next one who asks reads the instance again.
    let known = pacs.tables.known(version);
    let request = Request::Frames(*instance, version.clone(), frames, known);
    let kept = pacs
        .requests()
        .is_ok_and(|mut requests| requests.try_send(request).is_ok());
    if !kept {
        tracing::debug!(%instance, "a frame table was made and could not be kept");
    }
    Ok(table)
}

/// The same error, for one more of those who waited.
pub(super) fn repeated(failed: &Error) -> Error {
    let error = Error::new(failed.kind(), failed.operation(), failed.context().to_owned());
    let error = error.with_retry(failed.retry());
    failed.tags().iter().copied().fold(error, Error::with_tag)
}
