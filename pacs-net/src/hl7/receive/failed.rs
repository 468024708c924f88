//! Messages that failed: [`FailedMessages`].
//!
//! In the ledger, all below the moment of the first failure and the message's identity:
//! `hl7-failed` has what is known of one, `hl7-failed-bytes` the message as it came, `hl7-failed-id` leads from
//! the identity to the moment, `hl7-failed-count` counts them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use pacs_core::ledger::{Key, Parts};
use pacs_core::{Error, ErrorKind, Ledger, LedgerExt, Result, Step, Timestamp};

use super::super::ack::Fault;
use super::super::server::Incoming;
use super::Receiver;
use super::once::{Identity, damaged, read_fault, write_fault};

/// Failed messages that are kept. Somebody is to look at them; beyond it further ones are only answered.
pub const FAILED_MAX: u64 = 10_000;

/// The same in bytes of all that are kept.
pub const FAILED_MAX_BYTES: u64 = 1024 * 1024 * 1024;

/// Which failed message: when it first failed, and which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FailedId {
    when: u64,
    identity: u128,
}

impl fmt::Display for FailedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:032x}", self.when, self.identity)
    }
}

impl FromStr for FailedId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let read = || {
            let (when, identity) = text.split_once('-')?;
            Some(Self {
                when: u64::from_str_radix(when, 16).ok()?,
                identity: u128::from_str_radix(identity, 16).ok()?,
            })
        };
        read().ok_or_else(|| Error::new(ErrorKind::Invalid, "hl7.failed", "not the ID of a failed message"))
    }
}

impl FailedId {
    fn key(self, kind: &'static str) -> Bytes {
        Identity(self.identity)
            .key(Key::of(kind).number(self.when))
            .bytes()
    }

    fn of_key(key: &[u8]) -> Result<Self> {
        let mut parts = Parts::of(key);
        parts.text()?;
        let when = parts.number()?;
        let identity = u128::from(parts.number()?) << 64 | u128::from(parts.number()?);
        Ok(Self { when, identity })
    }
}

/// What is known of a message that failed. None of it is patient data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedMessage {
    /// Which.
    pub id: FailedId,
    /// When it failed first.
    pub first: Timestamp,
    /// When it failed last.
    pub last: Timestamp,
    /// How often it was tried.
    pub attempts: u64,
    /// Its kind (MSH-9: `ADT^A08`), where it has one.
    pub kind: String,
    /// Its control ID (MSH-10), where it has one.
    pub control_id: String,
    /// Its length in bytes.
    pub length: u64,
    /// Why it failed last.
    pub fault: Fault,
}

/// The messages that failed, oldest first, until somebody processes them again or discards them. What failed for a reason that
/// passed and was sent again with success is none of them any more.
#[derive(Clone)]
pub struct FailedMessages {
    ledger: Arc<dyn Ledger>,
}

impl fmt::Debug for FailedMessages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailedMessages").finish_non_exhaustive()
    }
}

impl FailedMessages {
    /// Those of this ledger.
    pub fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger }
    }

    /// How many there are.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn count(&self) -> Result<u64> {
        let value = self.ledger.get(&count_key()).await?;
        Ok(Kept::of(value.as_ref())?.count)
    }

    /// The first `limit` of those after `after`.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn list(&self, after: Option<FailedId>, limit: usize) -> Result<Vec<FailedMessage>> {
        let mut range = Key::of("hl7-failed").range();
        if let Some(after) = after {
            // Behind the key itself.
            range.start = [&after.key("hl7-failed")[..], &[0]].concat().into();
        }
        let found = self.ledger.range(range, limit).await?;
        found
            .iter()
            .map(|(key, value)| read(FailedId::of_key(key)?, value))
            .collect()
    }

    /// A message as it came; `None` when there is none.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn get(&self, id: FailedId) -> Result<Option<Bytes>> {
        self.ledger.get(&id.key("hl7-failed-bytes")).await
    }

    /// Processes a message again. One that is accepted now is no longer there; another has its new reason.
    ///
    /// # Errors
    /// `NotFound` when there is none, what the ledger says; and within, why it failed again.
    pub async fn retry(&self, id: FailedId, receiver: &Receiver) -> Result<Result<(), Fault>> {
        let Some(bytes) = self.get(id).await? else {
            return Err(Error::new(
                ErrorKind::NotFound,
                "hl7.failed",
                "there is no such failed message",
            ));
        };
        let incoming = Incoming::new(bytes, &receiver.inner.options.undeclared, None);
        Ok(receiver.deal(&incoming, Identity(id.identity)).await)
    }

    /// Forgets a message; answers whether there was one.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn discard(&self, id: FailedId) -> Result<bool> {
        forget(&*self.ledger, id, Vec::new()).await
    }
}

fn count_key() -> Bytes {
    Key::of("hl7-failed-count").bytes()
}

/// How many are kept.
#[derive(Clone, Copy, Default)]
struct Kept {
    count: u64,
    bytes: u64,
}

impl Kept {
    fn of(value: Option<&Bytes>) -> Result<Self> {
        let Some(value) = value else {
            return Ok(Self::default());
        };
        let (count, bytes) = value.split_first_chunk().ok_or_else(damaged)?;
        Ok(Self {
            count: u64::from_be_bytes(*count),
            // Once they were not counted.
            bytes: bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)),
        })
    }

    fn with(self, length: u64) -> Self {
        Self {
            count: self.count + 1,
            bytes: self.bytes.saturating_add(length),
        }
    }

    fn without(self, length: u64) -> Self {
        Self {
            count: self.count.saturating_sub(1),
            bytes: self.bytes.saturating_sub(length),
        }
    }

    fn is_within(self) -> bool {
        self.count <= FAILED_MAX && self.bytes <= FAILED_MAX_BYTES
    }

    fn written(self) -> Bytes {
        [self.count.to_be_bytes(), self.bytes.to_be_bytes()]
            .concat()
            .into()
    }
}

fn identity_key(identity: Identity) -> Bytes {
    identity.key(Key::of("hl7-failed-id")).bytes()
}

async fn find(ledger: &dyn Ledger, identity: Identity) -> Result<Option<FailedId>> {
    let Some(when) = ledger.get(&identity_key(identity)).await? else {
        return Ok(None);
    };
    let when = u64::from_be_bytes(*when.first_chunk().ok_or_else(damaged)?);
    let identity = identity.0;
    Ok(Some(FailedId { when, identity }))
}

/// Keeps a message that failed, or why it did again; with further steps.
pub(super) async fn keep(
    ledger: &dyn Ledger,
    identity: Identity,
    incoming: &Incoming,
    fault: &Fault,
    now: Timestamp,
    further: Vec<Step>,
) -> Result<()> {
    let known = find(ledger, identity).await?;
    let id = known.unwrap_or(FailedId {
        when: now.0,
        identity: identity.0,
    });
    let key = id.key("hl7-failed");
    if known.is_some() {
        return ledger
            .update(key, |old| {
                let attempts = match old {
                    Some(old) => read(id, old)?.attempts,
                    None => 0,
                };
                Ok((
                    Some(write(incoming, fault, now, attempts + 1)),
                    further.clone(),
                    (),
                ))
            })
            .await;
    }
    let record = write(incoming, fault, now, 1);
    let when = Bytes::copy_from_slice(&now.0.to_be_bytes());
    ledger
        .update(count_key(), |old| {
            let kept = Kept::of(old)?.with(incoming.bytes.len() as u64);
            let mut steps = further.clone();
            if !kept.is_within() {
                // It is answered all the same, and its sender has it still.
                return Ok((old.cloned(), steps, ()));
            }
            steps.extend([
                Step::Put(key.clone(), record.clone()),
                Step::Put(id.key("hl7-failed-bytes"), incoming.bytes.clone()),
                Step::Put(identity_key(identity), when.clone()),
            ]);
            Ok((Some(kept.written()), steps, ()))
        })
        .await
}

/// Applies `further`, and forgets the message where it had failed.
pub(super) async fn settle(ledger: &dyn Ledger, identity: Identity, further: Vec<Step>) -> Result<()> {
    if let Some(id) = find(ledger, identity).await?
        && forget(ledger, id, further.clone()).await?
    {
        return Ok(());
    }
    // Nothing is expected, so that it is always applied.
    ledger.apply(further).await.map(drop)
}

async fn forget(ledger: &dyn Ledger, id: FailedId, further: Vec<Step>) -> Result<bool> {
    let key = id.key("hl7-failed");
    loop {
        let Some(record) = ledger.get(&key).await? else {
            return Ok(false);
        };
        let old = ledger.get(&count_key()).await?;
        let kept = Kept::of(old.as_ref())?.without(read(id, &record)?.length);
        let mut steps = further.clone();
        steps.extend([
            Step::Expect(key.clone(), Some(record)),
            Step::Expect(count_key(), old),
            Step::Put(count_key(), kept.written()),
            Step::Delete(key.clone()),
            Step::Delete(id.key("hl7-failed-bytes")),
            Step::Delete(identity_key(Identity(id.identity))),
        ]);
        if ledger.apply(steps).await? {
            return Ok(true);
        }
    }
}

/// Lines: last, attempts, length, kind, control ID, then the fault.
fn write(incoming: &Incoming, fault: &Fault, now: Timestamp, attempts: u64) -> Bytes {
    let header = super::super::message::Message::header(&incoming.bytes);
    let get = |path| {
        let text = header
            .as_ref()
            .and_then(|header| header.get(path))
            .unwrap_or_default();
        // Whatever stands there, it is shown to people: no more than what belongs there.
        text.chars()
            .filter(|c| c.is_ascii_graphic())
            .take(40)
            .collect::<String>()
    };
    let (code, event) = (get("MSH-9.1"), get("MSH-9.2"));
    let kind = if event.is_empty() {
        code
    } else {
        format!("{code}^{event}")
    };
    let numbers = format!("{}\n{attempts}\n{}", now.0, incoming.bytes.len());
    [numbers, kind, get("MSH-10"), write_fault(fault)]
        .join("\n")
        .into()
}

fn read(id: FailedId, value: &[u8]) -> Result<FailedMessage> {
    let text = std::str::from_utf8(value).map_err(|_| damaged())?;
    let mut lines = text.splitn(6, '\n');
    let mut next = || lines.next().ok_or_else(damaged);
    let number = |text: &str| text.parse::<u64>().map_err(|_| damaged());
    Ok(FailedMessage {
        id,
        first: Timestamp(id.when),
        last: Timestamp(number(next()?)?),
        attempts: number(next()?)?,
        length: number(next()?)?,
        kind: next()?.to_owned(),
        control_id: next()?.to_owned(),
        fault: read_fault(next()?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_messages_are_bounded_in_number_and_in_bytes() {
        let two = Kept::default().with(10).with(FAILED_MAX_BYTES - 10);
        assert!(two.is_within() && !two.with(1).is_within());
        let read = Kept::of(Some(&two.without(4).written())).unwrap();
        assert_eq!((read.count, read.bytes), (1, FAILED_MAX_BYTES - 4));
        let most = Kept {
            count: FAILED_MAX,
            bytes: 0,
        };
        assert!(most.is_within() && !most.with(0).is_within());
        // As it was written once.
        let once = Bytes::copy_from_slice(&7_u64.to_be_bytes());
        assert_eq!(Kept::of(Some(&once)).unwrap().count, 7);
    }
}
