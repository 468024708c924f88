//! What is known of second copies, kept in a ledger.
//!
//! | key | value |
//! | --- | --- |
//! | `copy`, sequence | an instance of which there are two copies: [`Copy`] |
//! | `place`, locator in the first archive | its sequence |
//! | `of`, SOP Instance UID, sequence | nothing: there are two copies of this version |
//! | `order`, SOP Instance UID | nothing: the second archive has versions of it in another order |
//! | `there`, locator in the second archive | nothing: it is noted |
//! | `spare`, locator in the first archive | nothing: it is a spare, of which a scan does not tell |
//! | `mending`, SOP Instance UID | of what a spare is being written: [`Mending`] |
//! | `later`, locator in the first archive | what it could not give when it was to be copied |
//! | `away`, locator in the second archive | SOP Instance UID of what is to be removed there |
//! | `met`, SOP Instance UID, sequence in the second | a copy that was found there, and that nobody has noted yet |
//! | `state` | how far both archives have been compared: [`Position`] |

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use pacs_core::ledger::{Key, Ledger, LedgerExt, Parts, Step};
use pacs_core::{Error, ErrorKind, InstanceKey, Locator, Result, Sequence, Stored, Timestamp, Uid};

use super::sums::{BLOCK_BYTES, sum};

const COPY: &str = "copy";
const PLACE: &str = "place";
const OF: &str = "of";
const ORDER: &str = "order";
const THERE: &str = "there";
const SPARE: &str = "spare";
const MENDING: &str = "mending";
const LATER: &str = "later";
const AWAY: &str = "away";
const MET: &str = "met";
const STATE: &str = "state";

/// An instance of which there are two copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) key: InstanceKey,
    /// As the first archive took it in.
    pub(super) stored: Stored,
    /// Where the first archive has it now, if not there.
    pub(super) spare: Option<Locator>,
    /// Where the second has it.
    pub(super) second: Locator,
    /// Its place in the order of the second.
    pub(super) second_sequence: Sequence,
    /// The checks of its blocks.
    pub(super) sums: Vec<u64>,
}

/// Of what a spare is being written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mending {
    pub(super) instance: Uid,
    /// Where the first archive has what is damaged.
    pub(super) of: Locator,
    /// The spare comes behind.
    pub(super) after: Sequence,
}

/// How far both archives have been compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Of everything in the first archive up to here there is a copy, or it can't be read.
    pub(super) first: Sequence,
    /// Everything in the second archive up to here is noted.
    pub(super) second: Sequence,
    /// Nothing is noted of what is behind this in the second archive.
    pub(super) second_last: Sequence,
}

/// What is known of second copies.
#[derive(Clone)]
pub(super) struct Notes {
    ledger: Arc<dyn Ledger>,
}

impl Notes {
    pub(super) fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger }
    }

    pub(super) async fn position(&self) -> Result<Position> {
        let Some(mut value) = self.ledger.get(&Key::of(STATE).bytes()).await? else {
            return Ok(Position::default());
        };
        let mut number = || value.try_get_u64().map_err(|_| damaged());
        Ok(Position {
            first: Sequence(number()?),
            second: Sequence(number()?),
            second_last: Sequence(number()?),
        })
    }

    /// The copy of what the first archive keeps there.
    pub(super) async fn of(&self, locator: &Locator) -> Result<Option<Copy>> {
        let Some(mut place) = self.ledger.get(&place_key(locator)).await? else {
            return Ok(None);
        };
        let sequence = place.try_get_u64().map_err(|_| damaged())?;
        let value = self.ledger.get(&copy_key(Sequence(sequence))).await?;
        value
            .map(|value| Copy::decode(Sequence(sequence), value))
            .transpose()
    }

    /// All copies of what came after `after`, in their order.
    pub(super) fn after(&self, after: Sequence) -> BoxStream<'static, Result<Copy>> {
        let end = Key::of(COPY).range().end;
        let ledger = Arc::clone(&self.ledger);
        let first = copy_key(Sequence(after.0.saturating_add(1)));
        let pages = futures::stream::try_unfold(Some(first), move |from| {
            let (ledger, end) = (Arc::clone(&ledger), end.clone());
            async move {
                let Some(from) = from else { return Ok(None) };
                let page = ledger.range(from..end, PAGE_COPIES).await?;
                let mut copies = Vec::with_capacity(page.len());
                for (key, value) in page {
                    let mut parts = Parts::of(&key);
                    parts.text()?;
                    copies.push(Copy::decode(Sequence(parts.number()?), value)?);
                }
                let last = copies.last().filter(|_| copies.len() == PAGE_COPIES);
                let next = last.map(|last: &Copy| copy_key(Sequence(last.stored.sequence.0 + 1)));
                Ok::<_, Error>(Some((futures::stream::iter(copies).map(Ok), next)))
            }
        });
        pages.try_flatten().boxed()
    }

    pub(super) async fn apply(&self, steps: Vec<Step>) -> Result<()> {
        match steps.is_empty() || self.ledger.apply(steps).await? {
            true => Ok(()),
            // Nothing is expected, so nothing fails to hold.
            false => Err(damaged()),
        }
    }

    /// What is to be removed from the second archive, the first `limit`.
    pub(super) async fn away(&self, limit: usize) -> Result<Vec<(Locator, Uid)>> {
        let range = Key::of(AWAY).range();
        let prefix = range.start.len();
        let found = self.ledger.range(range, limit).await?;
        let read = |(key, value): (Bytes, Bytes)| Ok((Locator::new(&key[prefix..]), uid(&value)?));
        found.into_iter().map(read).collect()
    }

    /// Instances of which copies were found that are not noted, the first `limit` behind `after`, each as often as it has any.
    pub(super) async fn all_met(&self, after: Option<&Bytes>, limit: usize) -> Result<Vec<(Bytes, Uid)>> {
        let mut range = Key::of(MET).range();
        if let Some(after) = after {
            let mut start = BytesMut::from(&after[..]);
            start.put_u8(0);
            range.start = start.freeze();
        }
        let found = self.ledger.range(range, limit).await?;
        let read = |(key, _): (Bytes, Bytes)| {
            let mut parts = Parts::of(&key);
            parts.text()?;
            let instance = uid(parts.text()?.as_bytes())?;
            Ok((key, instance))
        };
        found.into_iter().map(read).collect()
    }

    /// Copies of an instance that were found in the second archive and are not noted: their keys here, and what they are.
    pub(super) async fn met(&self, instance: &Uid) -> Result<Vec<(Bytes, Stored)>> {
        let below = self.ledger.below(&Key::of(MET).text(instance));
        below
            .and_then(|(key, value)| async move {
                let mut parts = Parts::of(&key);
                let (_, _, sequence) = (parts.text()?, parts.text()?, parts.number()?);
                let mut value = value;
                let length = value.try_get_u64().map_err(|_| damaged())?;
                let stored = Stored {
                    locator: Locator::new(&value),
                    length,
                    sequence: Sequence(sequence),
                    received: Timestamp(0),
                };
                Ok((key, stored))
            })
            .try_collect()
            .await
    }

    /// The copies of an instance's versions, in their order.
    pub(super) async fn versions(&self, instance: &Uid) -> Result<Vec<Copy>> {
        let mut found = Vec::new();
        let mut versions = self.ledger.below(&Key::of(OF).text(instance));
        while let Some((key, _)) = versions.try_next().await? {
            let mut parts = Parts::of(&key);
            let (_, _, sequence) = (parts.text()?, parts.text()?, Sequence(parts.number()?));
            if let Some(value) = self.ledger.get(&copy_key(sequence)).await? {
                found.push(Copy::decode(sequence, value)?);
            }
        }
        Ok(found)
    }

    /// Of which instances the second archive has versions in another order, the first `limit`.
    pub(super) async fn out_of_order(&self, limit: usize) -> Result<Vec<Uid>> {
        let found = self.ledger.range(Key::of(ORDER).range(), limit).await?;
        let read = |(key, _): (Bytes, Bytes)| {
            let mut parts = Parts::of(&key);
            parts.text()?;
            uid(parts.text()?.as_bytes())
        };
        found.into_iter().map(read).collect()
    }

    pub(super) async fn is_away(&self, second: &Locator) -> Result<bool> {
        Ok(self.ledger.get(&away_key(second)).await?.is_some())
    }

    /// Whether the copy there is noted.
    pub(super) async fn is_there(&self, second: &Locator) -> Result<bool> {
        Ok(self.ledger.get(&with(THERE, second)).await?.is_some())
    }

    pub(super) async fn is_spare(&self, first: &Locator) -> Result<bool> {
        Ok(self.ledger.get(&with(SPARE, first)).await?.is_some())
    }

    pub(super) async fn count_spares(&self) -> Result<u64> {
        let spares = self.ledger.below(&Key::of(SPARE));
        spares.try_fold(0, |count, _| async move { Ok(count + 1) }).await
    }

    /// Of what spares were being written.
    pub(super) async fn mending(&self) -> Result<Vec<Mending>> {
        let below = self.ledger.below(&Key::of(MENDING));
        below
            .and_then(|(key, mut value)| async move {
                let mut parts = Parts::of(&key);
                parts.text()?;
                let instance = uid(parts.text()?.as_bytes())?;
                let after = Sequence(value.try_get_u64().map_err(|_| damaged())?);
                Ok(Mending {
                    instance,
                    of: Locator::new(&value),
                    after,
                })
            })
            .try_collect()
            .await
    }

    /// What could not be read when it was to be copied, the first `limit` behind `after`.
    pub(super) async fn later(
        &self,
        after: Option<&Locator>,
        limit: usize,
    ) -> Result<Vec<(InstanceKey, Stored)>> {
        let mut range = Key::of(LATER).range();
        if let Some(after) = after {
            let mut start = BytesMut::from(&with(LATER, after)[..]);
            start.put_u8(0);
            range.start = start.freeze();
        }
        let found = self.ledger.range(range, limit).await?;
        let read = |(_, mut value): (Bytes, Bytes)| {
            let sequence = Sequence(value.try_get_u64().map_err(|_| damaged())?);
            let copy = Copy::decode(sequence, value)?;
            Ok((copy.key, copy.stored))
        };
        found.into_iter().map(read).collect()
    }
}

/// Copies that are read at a time.
const PAGE_COPIES: usize = 256;

pub(super) fn note_position(position: Position) -> Step {
    let mut value = BytesMut::with_capacity(24);
    value.put_u64(position.first.0);
    value.put_u64(position.second.0);
    value.put_u64(position.second_last.0);
    Step::Put(Key::of(STATE).bytes(), value.freeze())
}

pub(super) fn note_copy(copy: &Copy) -> [Step; 4] {
    let sequence = copy.stored.sequence;
    [
        Step::Put(of_key(&copy.key.instance, sequence), Bytes::new()),
        Step::Put(with(THERE, &copy.second), Bytes::new()),
        Step::Put(copy_key(sequence), copy.encode()),
        Step::Put(
            place_key(&copy.stored.locator),
            Bytes::copy_from_slice(&sequence.0.to_be_bytes()),
        ),
    ]
}

/// That the second archive does not have its copy any more.
pub(super) fn forget_copy(copy: &Copy) -> [Step; 4] {
    [
        Step::Delete(of_key(&copy.key.instance, copy.stored.sequence)),
        forget_there(&copy.second),
        Step::Delete(copy_key(copy.stored.sequence)),
        Step::Delete(place_key(&copy.stored.locator)),
    ]
}

/// That an instance was removed from the first archive, and is to be removed from the second.
pub(super) fn note_removed(copy: &Copy) -> [Step; 5] {
    let [of, there, forgotten, place] = forget_copy(copy);
    let away = note_away(&copy.second, &copy.key.instance);
    [of, there, forgotten, place, away]
}

pub(super) fn note_order(instance: &Uid) -> Step {
    Step::Put(Key::of(ORDER).text(instance).bytes(), Bytes::new())
}

pub(super) fn forget_order(instance: &Uid) -> Step {
    Step::Delete(Key::of(ORDER).text(instance).bytes())
}

pub(super) fn forget_there(second: &Locator) -> Step {
    Step::Delete(with(THERE, second))
}

pub(super) fn note_spare(first: &Locator) -> Step {
    Step::Put(with(SPARE, first), Bytes::new())
}

pub(super) fn note_mending(mending: &Mending) -> Step {
    let mut value = BytesMut::new();
    value.put_u64(mending.after.0);
    value.put_slice(mending.of.as_bytes());
    Step::Put(Key::of(MENDING).text(&mending.instance).bytes(), value.freeze())
}

pub(super) fn forget_mending(instance: &Uid) -> Step {
    Step::Delete(Key::of(MENDING).text(instance).bytes())
}

pub(super) fn note_later(key: &InstanceKey, stored: &Stored) -> Step {
    let copy = Copy {
        key: *key,
        stored: stored.clone(),
        spare: None,
        second: Locator::new(&[]),
        second_sequence: Sequence(0),
        sums: Vec::new(),
    };
    let mut value = BytesMut::new();
    value.put_u64(stored.sequence.0);
    value.put_slice(&copy.encode());
    Step::Put(with(LATER, &stored.locator), value.freeze())
}

pub(super) fn forget_later(first: &Locator) -> Step {
    Step::Delete(with(LATER, first))
}

pub(super) fn note_away(second: &Locator, instance: &Uid) -> Step {
    Step::Put(away_key(second), Bytes::copy_from_slice(instance.as_bytes()))
}

pub(super) fn forget_away(second: &Locator) -> Step {
    Step::Delete(away_key(second))
}

pub(super) fn note_met(instance: &Uid, stored: &Stored) -> Step {
    let key = Key::of(MET).text(instance).number(stored.sequence.0).bytes();
    let mut value = BytesMut::new();
    value.put_u64(stored.length);
    value.put_slice(stored.locator.as_bytes());
    Step::Put(key, value.freeze())
}

pub(super) fn forget_met(instance: &Uid, sequence: Sequence) -> Step {
    Step::Delete(Key::of(MET).text(instance).number(sequence.0).bytes())
}

fn of_key(instance: &Uid, sequence: Sequence) -> Bytes {
    Key::of(OF).text(instance).number(sequence.0).bytes()
}

fn copy_key(sequence: Sequence) -> Bytes {
    Key::of(COPY).number(sequence.0).bytes()
}

fn place_key(locator: &Locator) -> Bytes {
    with(PLACE, locator)
}

fn away_key(second: &Locator) -> Bytes {
    with(AWAY, second)
}

fn with(kind: &'static str, locator: &Locator) -> Bytes {
    let mut key = BytesMut::from(&Key::of(kind).bytes()[..]);
    key.put_slice(locator.as_bytes());
    key.freeze()
}

fn damaged() -> Error {
    let why = "what is noted of second copies can't be read";
    Error::new(ErrorKind::Corrupt, "archive.notes", why)
}

fn uid(bytes: &[u8]) -> Result<Uid> {
    let text = std::str::from_utf8(bytes).map_err(|_| damaged())?;
    Uid::parse(text).map_err(|_| damaged())
}

impl Copy {
    /// Where the first archive has it now.
    pub(super) fn in_first(&self) -> &Locator {
        self.spare.as_ref().unwrap_or(&self.stored.locator)
    }

    /// How many of `blocks`, which begin at `at`, are what was stored: up to the first block that isn't.
    pub(super) fn good(&self, at: u64, blocks: &[u8]) -> usize {
        let first = usize::try_from(at / BLOCK_BYTES as u64).unwrap_or(usize::MAX);
        let expected = self.sums.iter().skip(first);
        let good = blocks.chunks(BLOCK_BYTES).zip(expected);
        let good = good.take_while(|(block, expected)| sum(block) == **expected);
        good.map(|(block, _)| block.len()).sum()
    }

    fn encode(&self) -> Bytes {
        let mut value = BytesMut::with_capacity(300 + 8 * self.sums.len());
        value.put_u64(self.stored.length);
        value.put_u64(self.stored.received.0);
        value.put_u64(self.second_sequence.0);
        let InstanceKey {
            study,
            series,
            instance,
        } = &self.key;
        let uids = [study, series, instance].map(|uid| uid.as_bytes());
        for part in uids.into_iter().chain([
            self.stored.locator.as_bytes(),
            self.spare.as_ref().map_or(&[], |spare| spare.as_bytes()),
            self.second.as_bytes(),
        ]) {
            // A UID has at most 64 bytes, a locator 255.
            value.put_u8(part.len() as u8);
            value.put_slice(part);
        }
        for sum in &self.sums {
            value.put_u64(*sum);
        }
        value.freeze()
    }

    fn decode(sequence: Sequence, mut value: Bytes) -> Result<Self> {
        let length = value.try_get_u64().map_err(|_| damaged())?;
        let received = value.try_get_u64().map_err(|_| damaged())?;
        let second_sequence = value.try_get_u64().map_err(|_| damaged())?;
        let mut part = || {
            let length = usize::from(value.try_get_u8().map_err(|_| damaged())?);
            match length <= value.len() {
                true => Ok(value.split_to(length)),
                false => Err(damaged()),
            }
        };
        let key = InstanceKey {
            study: uid(&part()?)?,
            series: uid(&part()?)?,
            instance: uid(&part()?)?,
        };
        let first = Locator::new(&part()?);
        // No archive has a place without a name.
        let spare = Some(part()?).filter(|spare| !spare.is_empty());
        let second = Locator::new(&part()?);
        let (sums, rest) = value.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(damaged());
        }
        Ok(Self {
            key,
            stored: Stored {
                locator: first,
                length,
                sequence,
                received: Timestamp(received),
            },
            spare: spare.map(|spare| Locator::new(&spare)),
            second,
            second_sequence: Sequence(second_sequence),
            sums: sums.iter().map(|sum| u64::from_be_bytes(*sum)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use pacs_core::testkit::archive::key;

    use super::*;
    use crate::MemoryLedger;

    fn copy(n: u64, sums: usize) -> Copy {
        Copy {
            key: key(n),
            stored: Stored {
                locator: Locator::new(&[0, n as u8, 255]),
                length: n,
                sequence: Sequence(n),
                received: Timestamp(9),
            },
            spare: n.is_multiple_of(2).then(|| Locator::new(&[7, 7])),
            second: Locator::new(&[n as u8; 255]),
            second_sequence: Sequence(2 * n),
            sums: (0..sums as u64).collect(),
        }
    }

    #[test]
    fn what_is_noted_is_found_by_its_place_and_in_order_until_it_is_removed() {
        let notes = Notes::new(Arc::new(MemoryLedger::new()));
        let copies: Vec<_> = [3, 1, 2].map(|n| copy(n, n as usize)).into();
        let steps = copies.iter().flat_map(note_copy).collect();
        block_on(notes.apply(steps)).expect("is applied");
        for copy in &copies {
            let found = block_on(notes.of(&copy.stored.locator)).expect("is read");
            assert_eq!(found.as_ref(), Some(copy));
        }
        let removed = &copies[0];
        block_on(notes.apply(note_removed(removed).into())).expect("is applied");
        let found = block_on(notes.of(&removed.stored.locator)).expect("is read");
        assert_eq!(found, None);
        let in_order: Vec<_> = block_on(notes.after(Sequence(0)).try_collect()).expect("is read");
        assert_eq!(in_order, [copies[1].clone(), copies[2].clone()]);
        let after_one: Vec<_> = block_on(notes.after(Sequence(1)).try_collect()).expect("is read");
        assert_eq!(after_one, [copies[2].clone()]);
        let away = block_on(notes.away(10)).expect("is read");
        assert_eq!(away, [(removed.second.clone(), removed.key.instance)]);
    }

    #[test]
    fn all_copies_are_read_also_where_there_are_more_than_are_read_at_a_time() {
        let notes = Notes::new(Arc::new(MemoryLedger::new()));
        let count = 2 * PAGE_COPIES as u64;
        let steps = (1..=count).flat_map(|n| note_copy(&copy(n, 0))).collect();
        block_on(notes.apply(steps)).expect("is applied");
        let read: Vec<Copy> = block_on(notes.after(Sequence(0)).try_collect()).expect("is read");
        let sequences: Vec<_> = read.iter().map(|copy| copy.stored.sequence.0).collect();
        assert_eq!(sequences, (1..=count).collect::<Vec<_>>());
    }
}
