//! Bringing a pack to the store: whether it is there is known for certain before anybody is told.

use std::future::Future;
use std::time::{Duration, Instant};

use object_store::PutPayload;
use pacs_core::error::Retry;
use pacs_core::{Error, ErrorKind, Result};

use super::Shared;
use super::bucket::{Created, failed};
use super::pack::Pack;

/// Between two attempts, at first and at most; less where there is less patience.
fn pauses(patience: Duration) -> [Duration; 2] {
    [Duration::from_millis(50), Duration::from_secs(2)].map(|pause| pause.min(patience / 8))
}

/// What became of a pack.
pub(super) enum Uploaded {
    Stored,
    /// Another program has the archive: what it wrote has this pack's number.
    TakenAway,
    /// The store failed for too long. It may have the pack all the same, or get it yet.
    Unknown(Error),
}

/// Does something again until it is done; gives up when the store was patiently asked.
pub(super) async fn patiently<T, F: Future<Output = Result<T>>>(
    patience: Duration,
    mut attempt: impl FnMut() -> F,
) -> Result<T> {
    let [mut pause, longest] = pauses(patience);
    let begin = Instant::now();
    loop {
        match attempt().await {
            Err(error) if is_passing(&error) && begin.elapsed() + pause < patience => {
                tracing::debug!(%error, "the object store is asked again");
                tokio::time::sleep(pause).await;
                pause = longest.min(pause * 2);
            }
            done => return done,
        }
    }
}

fn is_passing(error: &Error) -> bool {
    error.kind() == ErrorKind::Io && error.retry() == Retry::Later
}

impl Shared {
    /// Stores a pack of this opening under its number.
    pub(super) async fn upload(&self, number: u64, payload: PutPayload) -> Uploaded {
        let stored = patiently(self.options.patience, || self.create(number, payload.clone())).await;
        match stored {
            Ok(Some(())) => Uploaded::Stored,
            Ok(None) => Uploaded::TakenAway,
            Err(error) => Uploaded::Unknown(error),
        }
    }

    /// None when another program has stored a pack of this number.
    async fn create(&self, number: u64, payload: PutPayload) -> Result<Option<()>> {
        let created = self.bucket.create(&self.bucket.pack(number), payload).await;
        match created.map_err(|error| failed("archive.commit", error))? {
            Created::Now => Ok(Some(())),
            // An earlier attempt may have come through without an answer.
            Created::Before => {
                let (there, _) = self.bucket.directory(number, None).await.map_err(again)?;
                Ok((there.writer == self.writer).then_some(()))
            }
        }
    }

    /// Makes sure that nothing of a pack is kept that may or may not have been stored: its number is taken by an empty one.
    /// Goes on until the store does it; answers false when another program has the archive.
    pub(super) async fn settle(&self, number: u64) -> bool {
        let [mut pause, longest] = pauses(self.options.patience);
        loop {
            match self.make_empty(number).await {
                Ok(settled) => return settled,
                Err(error) => {
                    tracing::warn!(%error, "the object store is away: nothing is taken until it is back");
                    tokio::time::sleep(pause).await;
                    pause = longest.min(pause * 2);
                }
            }
        }
    }

    async fn make_empty(&self, number: u64) -> Result<bool> {
        let path = self.bucket.pack(number);
        let empty = || PutPayload::from(Pack::new(self.writer, Vec::new(), 0).encode());
        let created = self.bucket.create(&path, empty()).await;
        match created.map_err(|error| failed("archive.commit", error))? {
            Created::Now => return Ok(true),
            Created::Before => {}
        }
        let (there, _) = self.bucket.directory(number, None).await.map_err(again)?;
        if there.writer != self.writer {
            return Ok(false);
        }
        if !there.items.is_empty() {
            self.bucket.overwrite(&path, empty()).await?;
        }
        Ok(true)
    }
}

/// What was just said to be there and can't be read is a failure of the moment.
fn again(error: Error) -> Error {
    let why = "the object store does not give what it has";
    Error::new(ErrorKind::Io, "archive.commit", why).with_source(error)
}
