//! That a message is dealt with once, however often it is sent.

use bytes::Bytes;
use pacs_core::ledger::{Key, Parts};
use pacs_core::{Error, ErrorKind, Result, Retry, Step, Timestamp};
use twox_hash::XxHash3_128;

use super::super::ack::{AckCode, Condition, Fault};
use super::super::path::Path;
use super::super::server::Incoming;
use super::Inner;

/// Entries that are too old, of which so many are forgotten with each new one.
const FORGOTTEN_AT_ONCE: usize = 8;

/// Which message it is: who sent it (MSH-3, MSH-4) and when (MSH-7), its control ID (MSH-10), and what it says behind its
/// header. Some senders begin to count anew, or don't count, and what they say then is another message.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity(pub(super) u128);

impl Identity {
    pub(super) fn of(incoming: &Incoming) -> Self {
        let Ok(message) = &incoming.message else {
            return Self(XxHash3_128::oneshot(&incoming.bytes));
        };
        let (header, rest) = match message.segments() {
            [header, rest @ ..] => (Some(header), rest),
            [] => (None, &[][..]),
        };
        let mut hash = XxHash3_128::new();
        let named = [3, 4, 7, 9, 10].map(|number| header.map_or("", |header| header.field(number)));
        for text in named.into_iter().chain(rest.iter().map(|segment| segment.text())) {
            hash.write(text.as_bytes());
            hash.write(b"\r");
        }
        Self(hash.finish_128())
    }

    /// Adds it to a key.
    pub(super) fn key(self, key: Key) -> Key {
        key.number((self.0 >> 64) as u64).number(self.0 as u64)
    }

    fn outcome(self) -> Bytes {
        self.key(Key::of("hl7-seen")).bytes()
    }

    fn moment(self, when: Timestamp) -> Bytes {
        self.key(Key::of("hl7-seen-at").number(when.0)).bytes()
    }
}

impl Inner {
    /// How a message was answered before; nothing where it is to be dealt with.
    pub(super) async fn before(&self, identity: Identity) -> Result<Option<Result<(), Fault>>> {
        let Some(value) = self.ledger.get(&identity.outcome()).await? else {
            return Ok(None);
        };
        let (when, outcome) = read(&value)?;
        let age = Timestamp::now().0.saturating_sub(when.0);
        Ok((u128::from(age) <= self.options.duplicates.as_millis()).then_some(outcome))
    }

    /// The steps by which it is known that a message was dealt with, and older ones are forgotten.
    pub(super) async fn known(
        &self,
        identity: Identity,
        outcome: &Result<(), Fault>,
        now: Timestamp,
    ) -> Result<Vec<Step>> {
        let mut steps = vec![
            Step::Put(identity.outcome(), write(now, outcome)),
            Step::Put(identity.moment(now), Bytes::new()),
        ];
        let window = u64::try_from(self.options.duplicates.as_millis()).unwrap_or(u64::MAX);
        let old = Key::of("hl7-seen-at").number(now.0.saturating_sub(window));
        let range = Key::of("hl7-seen-at").bytes()..old.bytes();
        for (key, _) in self.ledger.range(range, FORGOTTEN_AT_ONCE).await? {
            let mut parts = Parts::of(&key);
            parts.text()?;
            let when = parts.number()?;
            let other = Identity(u128::from(parts.number()?) << 64 | u128::from(parts.number()?));
            steps.push(Step::Delete(key));
            // It may have come again later.
            if other != identity && self.is_of(other, Timestamp(when)).await? {
                steps.push(Step::Delete(other.outcome()));
            }
        }
        Ok(steps)
    }

    async fn is_of(&self, identity: Identity, when: Timestamp) -> Result<bool> {
        let value = self.ledger.get(&identity.outcome()).await?;
        Ok(match value {
            Some(value) => read(&value)?.0 == when,
            None => false,
        })
    }

    /// Notes that a message was accepted, and is no longer one that failed.
    pub(super) async fn accepted(&self, identity: Identity, now: Timestamp) -> Result<()> {
        let steps = self.known(identity, &Ok(()), now).await?;
        super::failed::settle(&*self.ledger, identity, steps).await
    }

    /// Notes that a message failed and why. One that fails for good is not tried again when it is sent again.
    pub(super) async fn refused(
        &self,
        identity: Identity,
        incoming: &Incoming,
        fault: &Fault,
        now: Timestamp,
    ) -> Result<()> {
        let steps = match fault.retry {
            Retry::Never => self.known(identity, &Err(fault.clone()), now).await?,
            Retry::Later => Vec::new(),
        };
        super::failed::keep(&*self.ledger, identity, incoming, fault, now, steps).await
    }
}

/// Lines: when, code, condition, location, text.
fn write(when: Timestamp, outcome: &Result<(), Fault>) -> Bytes {
    let mut text = when.0.to_string();
    if let Err(fault) = outcome {
        text = format!("{text}\n{}", write_fault(fault));
    }
    text.into()
}

fn read(value: &[u8]) -> Result<(Timestamp, Result<(), Fault>)> {
    let text = std::str::from_utf8(value).map_err(|_| damaged())?;
    let (when, rest) = text.split_once('\n').unwrap_or((text, ""));
    let when = when.parse().map_err(|_| damaged())?;
    let outcome = match rest {
        "" => Ok(()),
        rest => Err(read_fault(rest)?),
    };
    Ok((Timestamp(when), outcome))
}

/// A fault as lines: code, condition, location, text.
pub(super) fn write_fault(fault: &Fault) -> String {
    let location = fault.location.map_or(String::new(), |path| path.to_string());
    let text = fault.text.replace(['\r', '\n'], " ");
    [
        fault.code.as_str(),
        &fault.condition.code().to_string(),
        &location,
        &text,
    ]
    .join("\n")
}

/// Reads one that was written, as one that will not pass.
pub(super) fn read_fault(text: &str) -> Result<Fault> {
    let mut lines = text.split('\n');
    let mut next = || lines.next().ok_or_else(damaged);
    let code = AckCode::parse(next()?).ok_or_else(damaged)?;
    let condition = next()?
        .parse()
        .ok()
        .and_then(Condition::of_code)
        .ok_or_else(damaged)?;
    let location = match next()? {
        "" => None,
        path => Some(Path::parse(path).map_err(|_| damaged())?),
    };
    Ok(Fault {
        code,
        condition,
        text: next()?.to_owned().into(),
        location,
        retry: Retry::Never,
    })
}

pub(super) fn damaged() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "hl7.ledger",
        "a record of a message can't be read",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_read_as_it_was_written() {
        for outcome in [
            Ok(()),
            Err(Fault::missing("PID-3")),
            Err(Fault::reject(Condition::Internal, "a\nb")),
        ] {
            let (when, read) = read(&write(Timestamp(7), &outcome)).unwrap();
            assert_eq!(when, Timestamp(7));
            let expected = outcome.map_err(|mut fault| {
                fault.text = fault.text.replace('\n', " ").into();
                fault
            });
            assert_eq!(read, expected);
        }
        assert_eq!(read(b"x").unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
