//! Reading what has two copies: each block is compared with its check before it is given out, and taken from the other
//! copy where it does not hold.

use std::ops::{Deref, Range};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use pacs_core::{Archive, Error, ErrorKind, Locator, Result};

use super::Shared;
use super::notes::Copy;
use super::sums::{BLOCK_BYTES, Blocks, Summing};

/// The stream of [`Archive::read`].
pub(super) fn stream(
    shared: Arc<Shared>,
    locator: Locator,
    range: Range<u64>,
    checked: bool,
) -> BoxStream<'static, Result<Bytes>> {
    stream::once(async move {
        let copy = match shared.copy_of(&locator).await {
            Ok(copy) => copy,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return stream::once(std::future::ready(Err(error))).boxed();
            }
            Err(error) => {
                // The first archive has it all the same.
                tracing::error!(%error, "what is noted of second copies can't be read");
                None
            }
        };
        match copy {
            Some(copy) => {
                let reading = Reading::new(shared, copy, range);
                let next = |mut reading: Reading<_>| async move {
                    let piece = reading.next().await?;
                    Ok(piece.map(|piece| (piece, reading)))
                };
                stream::try_unfold(reading, next).boxed()
            }
            None if checked => shared.first.read(&locator, range),
            None => shared.first.read_unchecked(&locator, range),
        }
    })
    .flatten()
    .boxed()
}

/// What has two copies, being read.
pub(super) struct Reading<S> {
    shared: S,
    copy: Arc<Copy>,
    /// What was asked for, within the instance.
    range: Range<u64>,
    /// Up to where whole blocks are read.
    end: u64,
    /// Where the next block begins.
    at: u64,
    pieces: Option<BoxStream<'static, Result<Bytes>>>,
    blocks: Blocks,
    /// Blocks that are whole and compared.
    ready: [Option<Bytes>; 2],
    is_second: bool,
    /// Where the other copy had no whole block, and why.
    failed: Option<(u64, Error)>,
}

impl<S: Deref<Target = Shared>> Reading<S> {
    pub(super) fn new(shared: S, copy: Arc<Copy>, range: Range<u64>) -> Self {
        const BLOCK: u64 = BLOCK_BYTES as u64;
        let length = copy.stored.length;
        let range = range.start.min(length)..range.end.min(length);
        let (at, end) = match range.is_empty() {
            true => (0, 0),
            false => (
                range.start / BLOCK * BLOCK,
                range.end.next_multiple_of(BLOCK).min(length),
            ),
        };
        Self {
            shared,
            copy,
            range,
            end,
            at,
            pieces: None,
            blocks: Blocks::default(),
            ready: [None, None],
            is_second: false,
            failed: None,
        }
    }

    /// The next blocks that are whole.
    ///
    /// # Errors
    /// When neither copy has them.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(blocks) = self.ready.iter_mut().find_map(Option::take) {
                return Ok(Some(self.asked_for(blocks)));
            }
            if self.at >= self.end {
                return Ok(None);
            }
            if let Err(error) = self.read_on().await {
                self.take_the_other(error).await?;
            }
        }
    }

    /// Reads from the copy that is read until there are whole blocks.
    async fn read_on(&mut self) -> Result<()> {
        let (at, end) = (self.at, self.end);
        let pieces = match &mut self.pieces {
            Some(pieces) => pieces,
            None => {
                self.blocks = Blocks::default();
                let pieces = self.open()?;
                self.pieces.insert(pieces)
            }
        };
        let mut missing = end - at - self.blocks.waiting() as u64;
        let mut ready_is_empty = true;
        loop {
            let piece = pieces.try_next().await?.ok_or_else(shorter)?;
            let piece = piece.slice(..piece.len().min(usize::try_from(missing).unwrap_or(usize::MAX)));
            let length = piece.len() as u64;
            let whole = self.blocks.push(piece, missing);
            missing -= length;
            if whole.iter().all(Option::is_none) {
                continue;
            }
            for (blocks, ready) in whole.into_iter().flatten().zip(&mut self.ready) {
                let good = self.copy.good(self.at, &blocks);
                self.at += good as u64;
                if good < blocks.len() {
                    // What is before is given out; what is not is asked for again, and of the other copy then.
                    self.pieces = None;
                    if good == 0 && ready_is_empty {
                        return Err(changed());
                    }
                    *ready = (good > 0).then(|| blocks.slice(..good));
                    return Ok(());
                }
                ready_is_empty = false;
                *ready = Some(blocks);
            }
            return Ok(());
        }
    }

    fn open(&self) -> Result<BoxStream<'static, Result<Bytes>>> {
        let range = self.at..self.end;
        if !self.is_second {
            return Ok(self.shared.first.read_unchecked(self.copy.in_first(), range));
        }
        let second = self.shared.second.now()?;
        Ok(second.read_unchecked(&self.copy.second, range))
    }

    /// Goes on with the other copy, where this one has no whole block.
    ///
    /// # Errors
    /// When the other one has none there either.
    async fn take_the_other(&mut self, error: Error) -> Result<()> {
        // What was removed meanwhile is in neither.
        self.shared.check_kept(&self.copy.stored.locator)?;
        let instance = self.copy.key.instance;
        if let Some((_, before)) = self.failed.take_if(|(at, _)| *at == self.at) {
            tracing::error!(%instance, %before, %error, "neither copy of an instance can be read");
            return Err(before);
        }
        let copy = if self.is_second { "second" } else { "first" };
        tracing::warn!(%instance, %error, copy, "a copy of an instance can't be read; the other one is");
        self.failed = Some((self.at, error));
        self.is_second = !self.is_second;
        self.pieces = None;
        Ok(())
    }

    /// What was asked for of blocks that end where the next ones begin, or of the last before them.
    fn asked_for(&self, blocks: Bytes) -> Bytes {
        let waiting: usize = self.ready.iter().flatten().map(Bytes::len).sum();
        let first = self.at - (waiting + blocks.len()) as u64;
        let within = |at: u64| {
            usize::try_from(at.saturating_sub(first)).map_or(blocks.len(), |at| at.min(blocks.len()))
        };
        blocks.slice(within(self.range.start)..within(self.range.end))
    }
}

fn shorter() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "archive.read",
        "a copy is shorter than it was",
    )
}

fn changed() -> Error {
    let why = "the bytes of a copy are not what was stored";
    Error::new(ErrorKind::Corrupt, "archive.read", why)
}

/// That a copy is whole.
///
/// # Errors
/// `Corrupt` when it isn't, `NotFound` when nothing is there; what the archive says.
pub(super) async fn check(archive: &dyn Archive, locator: &Locator, copy: &Copy) -> Result<()> {
    let mut pieces = archive.read_unchecked(locator, 0..u64::MAX);
    let mut summing = Summing::default();
    while let Some(piece) = pieces.try_next().await? {
        summing.push(&piece);
    }
    let (sums, length) = summing.finish();
    if length == 0 {
        // A range of nothing says nothing of what is there.
        archive.verify(locator).await?;
    }
    match sums == copy.sums && length == copy.stored.length {
        true => Ok(()),
        false => Err(changed()),
    }
}
