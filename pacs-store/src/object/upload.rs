//! Bringing a pack to the store: whether it is there is known for certain before anybody is told.

use std::future::Future;
use std::time::{Duration, Instant};

use object_store::PutPayload;
use pacs_core::error::Retry;
use pacs_core::{Error, ErrorKind, Result};

use super::Shared;
use super::bucket::{Bucket, Created, failed};
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

/// What became of a pack of which it was not known.
pub(super) enum Settled {
    /// It was stored.
    Stored,
    /// It isn't and never will be: its number is taken.
    Empty,
    TakenAway,
}

/// Whose pack has a number.
enum Whose {
    /// This opening's, and whether it is empty.
    Ours(bool),
    Another,
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
            Created::Before => match whose(&self.bucket, self.writer, number).await? {
                Whose::Ours(_) => Ok(Some(())),
                Whose::Another => Ok(None),
            },
        }
    }

    /// Makes certain whether a pack is stored: where it is not, an empty one takes its number, so that it never will be. What
    /// is there stays there: whoever opened the archive meanwhile may have found it. Goes on until the store answers.
    pub(super) async fn settle(&self, number: u64) -> Settled {
        let [mut pause, longest] = pauses(self.options.patience);
        loop {
            match self.take_number(number).await {
                Ok(settled) => return settled,
                Err(error) => {
                    tracing::warn!(%error, "the object store is away: nothing is taken until it is back");
                    tokio::time::sleep(pause).await;
                    pause = longest.min(pause * 2);
                }
            }
        }
    }

    async fn take_number(&self, number: u64) -> Result<Settled> {
        Ok(match take(&self.bucket, self.writer, number).await? {
            Whose::Ours(true) => Settled::Empty,
            Whose::Ours(false) => Settled::Stored,
            Whose::Another => Settled::TakenAway,
        })
    }
}

/// Whether this opening has the number, which is taken by an empty pack unless it is.
pub(super) async fn take_empty(bucket: &Bucket, writer: u64, number: u64) -> Result<bool> {
    Ok(matches!(take(bucket, writer, number).await?, Whose::Ours(_)))
}

async fn take(bucket: &Bucket, writer: u64, number: u64) -> Result<Whose> {
    let empty = PutPayload::from(Pack::new(writer, Vec::new(), 0).encode());
    let created = bucket.create(&bucket.pack(number), empty).await;
    match created.map_err(|error| failed("archive.commit", error))? {
        Created::Now => Ok(Whose::Ours(true)),
        Created::Before => whose(bucket, writer, number).await,
    }
}

/// Of a number that was just said to be taken.
async fn whose(bucket: &Bucket, writer: u64, number: u64) -> Result<Whose> {
    match bucket.directory(number, None).await {
        Ok((there, _)) if there.writer == writer => Ok(Whose::Ours(there.items.is_empty())),
        // What can't be read is none of ours.
        Err(error) if error.kind() != ErrorKind::Corrupt => {
            // Stores also say so of what is only about to be written.
            let why = "the object store does not give what it has";
            Err(Error::new(ErrorKind::Io, "archive.commit", why).with_source(error))
        }
        _ => Ok(Whose::Another),
    }
}
