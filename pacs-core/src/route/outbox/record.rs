//! What the ledger keeps of deliveries: keys, and values made of parts as keys are.
//!
//! | key | value |
//! | --- | --- |
//! | `delivery`, destination, what | [`Recorded`]: one for each of them, also when it is done |
//! | `waiting`, destination, study, sequence, what | nothing: what of a study waits, in the order of the archive |
//! | `line`, destination, priority, order, study | nothing: whose turn it is |
//! | `line-of`, destination, study | [`LineState`] |
//! | `later`, destination, time, study | nothing: lines that wait for a time |
//! | `dead`, destination, what | nothing |
//! | `done`, time, destination, what | nothing: what may be forgotten |
//! | `held`, destination | nothing |
//! | `changes`, their hash | [`Changes`] |
//! | `routed` | how far the archive was asked about |
//! | `unasked`, instance | nothing: the router could not be asked about it |
//! | `unsettled`, study, series or nothing | when something came to the series, or to the study |
//! | `stable`, study | nothing: it was stable before |
//! | `fetched`, study | a study that is being fetched, and by whom it comes |
//! | `ordered`, study | which orders of a study were asked about, and when |

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use dicom_core::Tag;

use crate::archive::{Sequence, Timestamp};
use crate::dataset::compact;
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Key, Parts, Step};
use crate::limits;
use crate::route::{Changes, Priority, Trigger};
use crate::uid::Uid;

/// What is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// The instance with this SOP Instance UID.
    Instance(Uid),
    /// What happened to the instance, the series or the study with this UID, at this time. An order's is the study's.
    Occasion(Trigger, Uid, Timestamp),
}

/// As keys of the ledger have it, and who asks for one over HTTP.
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance(instance) => f.write_str(instance),
            Self::Occasion(trigger, uid, at) => write!(f, "{trigger} {uid} {}", at.0),
        }
    }
}

impl FromStr for What {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split(' ');
        let (first, uid, at, more) = (words.next(), words.next(), words.next(), words.next());
        match (first, uid, at, more) {
            (Some(uid), None, None, None) => Uid::parse(uid).map(Self::Instance).map_err(|_| damaged()),
            (Some(trigger), Some(uid), Some(at), None) => Ok(Self::Occasion(
                Trigger::parse(trigger).ok_or_else(damaged)?,
                Uid::parse(uid).map_err(|_| damaged())?,
                Timestamp(at.parse().map_err(|_| damaged())?),
            )),
            _ => Err(damaged()),
        }
    }
}

/// How far a delivery has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It waits for its turn, or for another try.
    Waiting,
    /// It was delivered.
    Done,
    /// It was refused for good, and waits for somebody to decide.
    Dead,
}

impl Progress {
    const ALL: [Self; 3] = [Self::Waiting, Self::Done, Self::Dead];
}

/// What is recorded of one delivery.
#[derive(Clone, PartialEq, Eq)]
pub struct Recorded {
    /// How far it has come.
    pub progress: Progress,
    /// The study that it belongs to.
    pub study: Uid,
    /// Place in the archive's order of the version that is delivered, or of the instance that came last.
    pub sequence: Sequence,
    /// Tells that version apart from others.
    pub(crate) version: u64,
    /// In which order.
    pub priority: Priority,
    /// Tries that failed by what was to be delivered, not by who is not there.
    pub attempts: u64,
    /// When this last changed.
    pub at: Timestamp,
    /// The changes on the way, by their hash; empty for none.
    pub(crate) changes: String,
    /// What the receiver said, or why it was not delivered; without patient data.
    pub why: String,
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorded")
            .field("progress", &self.progress)
            .field("priority", &self.priority)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

impl Recorded {
    pub(super) fn value(&self) -> Bytes {
        Key::of("1")
            .number(self.progress as u64)
            .text(self.study.as_str())
            .number(self.sequence.0)
            .number(self.version)
            .number(self.priority as u64)
            .number(self.attempts)
            .number(self.at.0)
            .text(&self.changes)
            .text(&self.why)
            .bytes()
    }

    pub(super) fn read(value: &[u8]) -> Result<Self> {
        let mut parts = versioned(value)?;
        Ok(Self {
            progress: one_of(&Progress::ALL, parts.number()?)?,
            study: uid(&mut parts)?,
            sequence: Sequence(parts.number()?),
            version: parts.number()?,
            priority: one_of(&Priority::ALL, parts.number()?)?,
            attempts: parts.number()?,
            at: Timestamp(parts.number()?),
            changes: parts.text()?.to_owned(),
            why: parts.text()?.to_owned(),
        })
    }
}

/// What of one study waits for one destination.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct LineState {
    pub(super) priority: Priority,
    /// Place in the archive's order of what began it: who came first is first.
    pub(super) order: Sequence,
    /// Counts what was added, so that who empties it notices.
    pub(super) added: u64,
    /// Tries that failed one after the other.
    pub(super) failures: u64,
    /// Not before this time; 0 for now.
    pub(super) not_before: Timestamp,
}

impl LineState {
    pub(super) fn value(&self) -> Bytes {
        Key::of("1")
            .number(self.priority as u64)
            .number(self.order.0)
            .number(self.added)
            .number(self.failures)
            .number(self.not_before.0)
            .bytes()
    }

    pub(super) fn read(value: &[u8]) -> Result<Self> {
        let mut parts = versioned(value)?;
        Ok(Self {
            priority: one_of(&Priority::ALL, parts.number()?)?,
            order: Sequence(parts.number()?),
            added: parts.number()?,
            failures: parts.number()?,
            not_before: Timestamp(parts.number()?),
        })
    }

    /// Where it stands among the lines of its destination: among those whose turn it is, or those that wait for a time.
    pub(super) fn place(&self, destination: &str, study: &Uid) -> Bytes {
        let key = match self.not_before.0 {
            0 => lines(destination)
                .number(self.priority as u64)
                .number(self.order.0),
            time => later(destination).number(time),
        };
        key.text(study.as_str()).bytes()
    }
}

fn versioned(value: &[u8]) -> Result<Parts<'_>> {
    let mut parts = Parts::of(value);
    match parts.text()? {
        "1" => Ok(parts),
        _ => Err(damaged()),
    }
}

fn one_of<T: Copy>(all: &[T], number: u64) -> Result<T> {
    let at = usize::try_from(number).map_err(|_| damaged())?;
    all.get(at).copied().ok_or_else(damaged)
}

pub(super) fn uid(parts: &mut Parts<'_>) -> Result<Uid> {
    Uid::parse(parts.text()?).map_err(|_| damaged())
}

pub(super) fn damaged() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "outbox.read",
        "a record of the outbox can't be read",
    )
}

pub(super) fn deliveries(destination: &str) -> Key {
    Key::of("delivery").text(destination)
}

pub(super) fn delivery(destination: &str, what: &What) -> Bytes {
    deliveries(destination).text(&what.to_string()).bytes()
}

pub(super) fn all_waiting(destination: &str) -> Key {
    Key::of("waiting").text(destination)
}

pub(super) fn waiting_of(destination: &str, study: &Uid) -> Key {
    all_waiting(destination).text(study.as_str())
}

pub(super) fn waiting(destination: &str, study: &Uid, sequence: Sequence, what: &What) -> Bytes {
    waiting_of(destination, study)
        .number(sequence.0)
        .text(&what.to_string())
        .bytes()
}

pub(super) fn lines(destination: &str) -> Key {
    Key::of("line").text(destination)
}

pub(super) fn later(destination: &str) -> Key {
    Key::of("later").text(destination)
}

pub(super) fn line_of(destination: &str, study: &Uid) -> Bytes {
    Key::of("line-of").text(destination).text(study.as_str()).bytes()
}

/// The same entry where it tells nothing of the order of the archive.
pub(in crate::route) fn without_order(key: &[u8], value: &[u8]) -> (Bytes, Bytes) {
    let as_it_is = || (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    // What can't be read stays for who reads it.
    translated(key, value).ok().flatten().unwrap_or_else(as_it_is)
}

fn translated(key: &[u8], value: &[u8]) -> Result<Option<(Bytes, Bytes)>> {
    let mut parts = Parts::of(key);
    match parts.text()? {
        "delivery" => {
            let recorded = Recorded {
                sequence: Sequence(0),
                ..Recorded::read(value)?
            };
            Ok(Some((Bytes::copy_from_slice(key), recorded.value())))
        }
        "waiting" => {
            let (destination, study, _) = (parts.text()?, uid(&mut parts)?, parts.number()?);
            let what: What = parts.text()?.parse()?;
            let key = waiting(destination, &study, Sequence(0), &what);
            Ok(Some((key, Bytes::copy_from_slice(value))))
        }
        _ => Ok(None),
    }
}

pub(super) fn all_dead(destination: &str) -> Key {
    Key::of("dead").text(destination)
}

pub(super) fn dead(destination: &str, what: &What) -> Bytes {
    all_dead(destination).text(&what.to_string()).bytes()
}

/// What the key of a dead delivery is about.
pub(super) fn what_of_dead(key: &[u8]) -> Result<What> {
    let mut parts = Parts::of(key);
    parts.text()?;
    parts.text()?;
    parts.text()?.parse()
}

/// What the key of a delivery that waits is about.
pub(super) fn what_of_waiting(key: &[u8]) -> Result<What> {
    let mut parts = Parts::of(key);
    parts.text()?;
    parts.text()?;
    parts.text()?;
    parts.number()?;
    parts.text()?.parse()
}

/// Of which study a line is: by its place.
pub(super) fn study_of_line(key: &[u8]) -> Result<Uid> {
    let mut parts = Parts::of(key);
    let is_later = parts.text()? == "later";
    parts.text()?;
    parts.number()?;
    if !is_later {
        parts.number()?;
    }
    uid(&mut parts)
}

pub(super) fn all_done() -> Key {
    Key::of("done")
}

pub(super) fn done(at: Timestamp, destination: &str, what: &What) -> Bytes {
    all_done()
        .number(at.0)
        .text(destination)
        .text(&what.to_string())
        .bytes()
}

pub(super) fn held(destination: &str) -> Bytes {
    Key::of("held").text(destination).bytes()
}

pub(super) fn all_held() -> Key {
    Key::of("held")
}

/// Where changes are kept, and as what.
pub(super) fn changes_entry(changes: &Changes) -> (String, Bytes, Bytes) {
    let mut value = Vec::new();
    for tag in &changes.remove {
        value.extend_from_slice(&tag.0.to_be_bytes());
        value.extend_from_slice(&tag.1.to_be_bytes());
    }
    let mut entry = Vec::from((changes.remove.len() as u64).to_be_bytes());
    entry.append(&mut value);
    entry.extend_from_slice(&compact::to_bytes(&changes.set));
    let hash = format!("{:032x}", twox_hash::XxHash3_128::oneshot(&entry));
    (hash.clone(), changes_key(&hash), entry.into())
}

pub(super) fn changes_key(hash: &str) -> Bytes {
    Key::of("changes").text(hash).bytes()
}

pub(super) fn read_changes(value: &Bytes) -> Result<Arc<Changes>> {
    let (count, rest) = value.split_first_chunk::<8>().ok_or_else(damaged)?;
    let count = usize::try_from(u64::from_be_bytes(*count)).map_err(|_| damaged())?;
    let length = count
        .checked_mul(4)
        .filter(|length| *length <= rest.len())
        .ok_or_else(damaged)?;
    let tag = |bytes: &[u8]| {
        Tag(
            u16::from_be_bytes([bytes[0], bytes[1]]),
            u16::from_be_bytes([bytes[2], bytes[3]]),
        )
    };
    Ok(Arc::new(Changes {
        remove: rest[..length].chunks_exact(4).map(tag).collect(),
        set: compact::from_bytes(&value.slice(8 + length..)).map_err(|_| damaged())?,
    }))
}

/// A text of bounded length, for `why`.
pub(super) fn shortened(text: &str) -> String {
    let mut end = text.len().min(limits::DELIVERY_TEXT_LENGTH_MAX_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// The steps that have a line as it is now, if it is as it was.
pub(super) fn put_line(
    steps: &mut Vec<Step>,
    destination: &str,
    study: &Uid,
    old: Option<&Bytes>,
    new: Option<&LineState>,
) -> Result<()> {
    let key = line_of(destination, study);
    if let Some(old) = old {
        steps.push(Step::Delete(LineState::read(old)?.place(destination, study)));
    }
    steps.push(Step::Expect(key.clone(), old.cloned()));
    match new {
        Some(new) => {
            steps.push(Step::Put(new.place(destination, study), Bytes::new()));
            steps.push(Step::Put(key, new.value()));
        }
        None => steps.push(Step::Delete(key)),
    }
    Ok(())
}
