//! What the ledger keeps of a transaction until its report is answered.
//!
//! `commitment`, AE title of the requester, Transaction UID, number → [`Record`]. The number is 0; for a second request
//! under a Transaction UID in use it is a digest of what that asks for.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use pacs_core::ledger::{Key, Parts, data_set_from_value, data_set_to_value};
use pacs_core::{AeTitle, Error, ErrorKind, Result, Timestamp, Uid};

use crate::scu::{Commitment, Reference};

const KIND: &str = "commitment";

/// A transaction.
pub(super) struct Record {
    pub(super) state: State,
    /// When it was asked for.
    pub(super) asked: Timestamp,
    /// What is reported; before it is checked, everything stands there as committed.
    pub(super) outcome: Commitment,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Asked,
    /// It is known what is reported, and stays so however often it is tried.
    Checked,
}

impl Record {
    /// The instances that were asked for.
    pub(super) fn instances(&self) -> BTreeSet<Reference> {
        let failed = self.outcome.failed.iter().map(|(reference, _)| reference);
        self.outcome.committed.iter().chain(failed).copied().collect()
    }

    pub(super) fn to_value(&self) -> Result<Bytes> {
        let set = data_set_to_value(&self.outcome.to_data_set())?;
        let mut value = Vec::with_capacity(9 + set.len());
        value.push(match self.state {
            State::Asked => 0,
            State::Checked => 1,
        });
        value.extend_from_slice(&self.asked.0.to_be_bytes());
        value.extend_from_slice(&set);
        Ok(value.into())
    }

    pub(super) fn from_value(value: &[u8]) -> Result<Self> {
        let (state, asked) = Self::head(value)?;
        let set = data_set_from_value(&value[9..])?;
        Ok(Self {
            state,
            asked,
            outcome: Commitment::from_data_set(&set)?,
        })
    }

    /// What stands before the instances.
    pub(super) fn head(value: &[u8]) -> Result<(State, Timestamp)> {
        let damaged = || {
            let why = "a record of storage commitment can't be read";
            Error::new(ErrorKind::Corrupt, "commitment.read", why)
        };
        let (head, _) = value.split_first_chunk::<9>().ok_or_else(damaged)?;
        let [state, asked @ ..] = head;
        let state = match state {
            0 => State::Asked,
            1 => State::Checked,
            _ => return Err(damaged()),
        };
        Ok((state, Timestamp(u64::from_be_bytes(*asked))))
    }
}

/// Below it are all transactions.
pub(super) fn all() -> Key {
    Key::of(KIND)
}

/// Below it are those of a requester.
pub(super) fn of(requester: &AeTitle) -> Key {
    all().text(requester)
}

pub(super) fn key(requester: &AeTitle, transaction: &Uid) -> Bytes {
    of(requester).text(transaction).number(0).bytes()
}

/// Where a request is kept whose Transaction UID is in use.
pub(super) fn again_key(requester: &AeTitle, record: &Record) -> Bytes {
    let mut digest = DefaultHasher::new();
    record.instances().hash(&mut digest);
    // Not 0, which is that of the first.
    let number = digest.finish().max(1);
    of(requester)
        .text(&record.outcome.transaction)
        .number(number)
        .bytes()
}

/// Of whom a key is, and whether its Transaction UID was in use.
pub(super) fn parts(key: &[u8]) -> Result<(AeTitle, bool)> {
    let mut parts = Parts::of(key);
    parts.text()?;
    let requester = AeTitle::parse(parts.text()?)?;
    parts.text()?;
    Ok((requester, parts.number()? != 0))
}
