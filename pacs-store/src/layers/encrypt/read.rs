//! Reading a range: the chunks that cover it, decrypted a piece at a time.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use pacs_core::limits::READ_CHUNK_BYTES;
use pacs_core::{Archive, Error, ErrorKind, Locator, Result};

use super::Shared;
use super::chunk::{CHUNK_BYTES, DataKey, SEALED_BYTES, TAG_BYTES, place};
use super::header::{HEADER_BYTES, Header, INSTANCE};
use crate::buffers::Buffers;

/// Chunks that are decrypted at once: as much as a piece may be.
const CHUNKS_AT_ONCE: usize = READ_CHUNK_BYTES / CHUNK_BYTES;
/// By where and what a Part 10 stream tells itself (PS3.10 7.1).
const PREFIX: Range<usize> = 128..132;
/// What is read to tell how an instance is kept.
const START_BYTES: usize = PREFIX.end;

fn corrupt(why: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, "archive.read", why)
}

/// How an instance is kept.
pub(super) enum Kept {
    Encrypted(Header),
    /// As it came: it was taken in before there was this layer.
    Plain,
}

impl Kept {
    /// By its first bytes; fewer than [`START_BYTES`] only where there are no more.
    fn of(start: &[u8]) -> Result<Self> {
        if start.starts_with(&INSTANCE.magic) {
            let header = start.first_chunk::<HEADER_BYTES>();
            let header = header.ok_or_else(cut_off)?;
            return Header::read(&INSTANCE, header).map(Self::Encrypted);
        }
        match start.get(PREFIX) {
            Some(b"DICM") => Ok(Self::Plain),
            _ => Err(corrupt("the encryption header of the instance is damaged")),
        }
    }
}

/// Stored bytes that were read and not used, in order.
#[derive(Default)]
struct Held {
    pieces: VecDeque<Bytes>,
    length: usize,
}

impl Held {
    /// Takes the first `length` bytes out.
    fn split_to(&mut self, length: usize) -> Self {
        if length >= self.length {
            return std::mem::take(self);
        }
        let mut first = Self::default();
        while first.length < length
            && let Some(mut piece) = self.pieces.pop_front()
        {
            let now = piece.split_to((length - first.length).min(piece.len()));
            self.length -= now.len();
            first.push(now);
            if !piece.is_empty() {
                self.pieces.push_front(piece);
            }
        }
        first
    }

    fn push(&mut self, piece: Bytes) {
        self.length += piece.len();
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    /// The first `length` bytes, which stay, or all there are.
    fn peek(&self, length: usize) -> Cow<'_, [u8]> {
        match self.pieces.front().and_then(|first| first.get(..length)) {
            Some(all) => all.into(),
            None => {
                let bytes = self.pieces.iter().flatten();
                bytes.take(length).copied().collect()
            }
        }
    }

    /// Takes the first `length` bytes out, or all there are, in one piece: without a copy where they came in one.
    fn take(&mut self, length: usize) -> Bytes {
        let mut first = self.split_to(length).pieces;
        match first.len() {
            1 => first.pop_front().unwrap_or_default(),
            _ => first.make_contiguous().concat().into(),
        }
    }
}

struct Reading {
    shared: Arc<Shared>,
    locator: Locator,
    /// Of what was encrypted.
    range: Range<u64>,
    stage: Stage,
}

enum Stage {
    /// Nothing is read yet.
    Beginning,
    Plain(BoxStream<'static, Result<Bytes>>),
    Encrypted(Box<Chunks>),
    Ended,
}

struct Chunks {
    inside: BoxStream<'static, Result<Bytes>>,
    inside_ended: bool,
    held: Held,
    key: Arc<DataKey>,
    /// The next chunk: what is held begins with it.
    number: u64,
    /// Behind the last chunk that is asked for.
    end: u64,
    /// The last chunk that is asked for, or the last of all, was taken.
    done: bool,
}

/// Chunks that are decrypted together, as they were read.
struct Sealed {
    held: Held,
    key: Arc<DataKey>,
    number: u64,
    /// The last of them is the last of all.
    has_last: bool,
}

impl Sealed {
    /// What was encrypted.
    fn open(mut self, buffers: &Arc<Buffers>) -> Result<Bytes> {
        let stored = self.held.length;
        let (count, short) = (stored.div_ceil(SEALED_BYTES), stored % SEALED_BYTES);
        let length = stored.checked_sub(count * TAG_BYTES);
        let length = length.filter(|_| short == 0 || short >= TAG_BYTES);
        let length = length.ok_or_else(cut_off)?;
        buffers.filled(length, |into| {
            for (number, chunk) in (self.number..).zip(into_chunks(into, count)) {
                let last = self.has_last && number + 1 == self.number + count as u64;
                let sealed = self.held.take(chunk.len() + TAG_BYTES);
                self.key.open(number, last, &sealed, chunk)?;
            }
            Ok(())
        })
    }
}

fn cut_off() -> Error {
    corrupt("the instance is shorter than it was")
}

impl Chunks {
    /// The next chunks, those that are here and make no more than a piece; none when there are no more.
    async fn next(&mut self) -> Result<Option<Sealed>> {
        if self.done {
            return Ok(None);
        }
        // One byte more tells that a chunk is not the last of all.
        while self.held.length <= SEALED_BYTES && !self.inside_ended {
            match self.inside.next().await {
                Some(piece) => self.held.push(piece?),
                None => self.inside_ended = true,
            }
        }
        let here = match self.inside_ended {
            true => self.held.length.div_ceil(SEALED_BYTES),
            false => (self.held.length - 1) / SEALED_BYTES,
        };
        let wanted = (self.end - self.number).min(here.min(CHUNKS_AT_ONCE) as u64);
        let held = self.held.split_to(wanted as usize * SEALED_BYTES);
        if held.length == 0 {
            // Every instance has a first chunk.
            return if self.number == 0 {
                Err(cut_off())
            } else {
                Ok(None)
            };
        }
        let number = self.number;
        let has_last = self.inside_ended && self.held.length == 0;
        self.number += wanted;
        self.done = has_last || self.number == self.end;
        Ok(Some(Sealed {
            held,
            key: Arc::clone(&self.key),
            number,
            has_last,
        }))
    }
}

/// The stream of [`Archive::read`](pacs_core::Archive::read).
pub(super) fn stream(
    shared: Arc<Shared>,
    locator: &Locator,
    range: Range<u64>,
) -> BoxStream<'static, Result<Bytes>> {
    if range.start >= range.end {
        return shared.inside.read(locator, 0..0);
    }
    let reading = Reading {
        shared,
        locator: locator.clone(),
        range,
        stage: Stage::Beginning,
    };
    stream::unfold(reading, |mut reading| async move {
        let item = reading.next().await.transpose()?;
        if item.is_err() {
            reading.stage = Stage::Ended;
        }
        Some((item, reading))
    })
    .boxed()
}

/// How the instance at `locator` is kept.
pub(super) async fn kept(inside: &dyn Archive, locator: &Locator) -> Result<Kept> {
    let mut held = Held::default();
    let mut inside = inside.read(locator, 0..START_BYTES as u64);
    while let Some(piece) = inside.try_next().await? {
        held.push(piece);
    }
    Kept::of(&held.peek(START_BYTES))
}

impl Reading {
    /// The next piece; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            match &mut self.stage {
                Stage::Beginning => self.begin().await?,
                Stage::Plain(pieces) => return pieces.try_next().await,
                Stage::Encrypted(_) => match self.decrypt().await? {
                    Some(piece) if piece.is_empty() => {}
                    piece => return Ok(piece),
                },
                Stage::Ended => return Ok(None),
            }
        }
    }

    async fn begin(&mut self) -> Result<()> {
        let chunk = CHUNK_BYTES as u64;
        let number = self.range.start / chunk;
        // The range isn't empty, so its end is not 0.
        let end = (self.range.end - 1) / chunk + 1;
        // One byte more than the chunks: it tells that the last of them is not the last of all.
        let behind = place(end).saturating_add(1);
        let inside = &self.shared.inside;
        let first = if number == 0 { behind } else { START_BYTES as u64 };
        // Every chunk says itself whether it is what was written, and the header does.
        let mut chunks = inside.read_unchecked(&self.locator, 0..first);
        let mut held = Held::default();
        let mut inside_ended = false;
        while held.length < START_BYTES && !inside_ended {
            match chunks.next().await {
                Some(piece) => held.push(piece?),
                None => inside_ended = true,
            }
        }
        let header = match Kept::of(&held.peek(START_BYTES))? {
            Kept::Encrypted(header) => header,
            Kept::Plain if self.shared.options.plain_too => {
                self.stage = Stage::Plain(inside.read(&self.locator, self.range.clone()));
                return Ok(());
            }
            Kept::Plain => return Err(plain()),
        };
        if number == 0 {
            held.split_to(HEADER_BYTES);
        } else {
            (held, inside_ended) = (Held::default(), false);
            chunks = inside.read_unchecked(&self.locator, place(number)..behind);
        }
        let key = header.open(&*self.shared.master(&header.id).await?)?;
        let key = Arc::new(DataKey::new(&key)?);
        self.stage = Stage::Encrypted(Box::new(Chunks {
            inside: chunks,
            inside_ended,
            held,
            key,
            number,
            end,
            done: false,
        }));
        Ok(())
    }

    /// The next piece, decrypted; none when there are no more. Where it is used: to hand it to another thread and wait
    /// for that costs more than to decrypt it.
    async fn decrypt(&mut self) -> Result<Option<Bytes>> {
        let Stage::Encrypted(chunks) = &mut self.stage else {
            return Ok(None);
        };
        let next = chunks.next().await?;
        let done = chunks.done;
        if done || next.is_none() {
            self.stage = Stage::Ended;
        }
        match next {
            Some(sealed) => {
                let (number, piece) = (sealed.number, sealed.open(&self.shared.buffers)?);
                Ok(Some(self.asked_for(number, piece)))
            }
            None => {
                if !done {
                    // There is nothing where the range begins.
                    check_end(Arc::clone(&self.shared), &self.locator, self.range.start).await?;
                }
                Ok(None)
            }
        }
    }

    /// What was asked for of a piece that begins with this chunk.
    fn asked_for(&self, number: u64, piece: Bytes) -> Bytes {
        let (first, length) = (number * CHUNK_BYTES as u64, piece.len());
        let within = |at: u64| usize::try_from(at.saturating_sub(first)).map_or(length, |at| at.min(length));
        piece.slice(within(self.range.start)..within(self.range.end))
    }
}

/// That the instance ends before `start`, by the chunk that says so: it is not only cut off.
async fn check_end(shared: Arc<Shared>, locator: &Locator, start: u64) -> Result<()> {
    let mut pieces = stream(shared, locator, 0..u64::MAX);
    let mut length = 0;
    while let Some(piece) = pieces.try_next().await? {
        length += piece.len() as u64;
    }
    match length <= start {
        true => Ok(()),
        false => Err(cut_off()),
    }
}

/// `into` as so many chunks; also where it is empty.
fn into_chunks(into: &mut [u8], count: usize) -> impl Iterator<Item = &mut [u8]> {
    let mut rest = into;
    (0..count).map(move |_| {
        let length = rest.len().min(CHUNK_BYTES);
        let (chunk, behind) = std::mem::take(&mut rest).split_at_mut(length);
        rest = behind;
        chunk
    })
}

/// What is kept was taken in before there was this layer.
pub(super) fn plain() -> Error {
    let why =
        "the instance was kept before encryption was switched on; with plain-too what is plain is read too";
    Error::new(ErrorKind::Refused, "archive.read", why)
}
