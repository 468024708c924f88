//! What a backup writes of itself, beside the instances: as JSON, in instances of UIDs that nobody else can know.

use pacs_core::{Entry, Error, ErrorKind, InstanceKey, Locator, Result, Sequence, Stored, Timestamp, Uid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub(super) const FORMAT: u32 = 1;

/// The first that is kept, of these UIDs: before an instance of a peer could be.
pub(super) const HEAD: Uid = Uid::constant("2.25.202160745908431907254806151230470131985");

/// What a backup keeps beside instances: numbers of series of the study that is the backup's own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Part,
    Increment,
    File,
}

const KINDS: [(Kind, &str); 3] = [(Kind::Part, ".1"), (Kind::Increment, ".2"), (Kind::File, ".3")];

/// What tells a backup's own from instances: its number was drawn when it was begun, so that no peer can have sent such a UID.
pub(super) fn own_key(id: u128, kind: Kind) -> Result<InstanceKey> {
    let study = Uid::of_uuid(id);
    let ending = KINDS
        .iter()
        .find(|(known, _)| *known == kind)
        .map_or("", |(_, ending)| ending);
    let series = Uid::parse(&format!("{study}{ending}"))?;
    Ok(InstanceKey {
        study,
        series,
        instance: Uid::random(),
    })
}

/// None of an instance.
pub(super) fn kind_of(id: u128, key: &InstanceKey) -> Option<Kind> {
    let ending = key.series.strip_prefix(Uid::of_uuid(id).as_str())?;
    let found = KINDS.iter().find(|(_, known)| *known == ending);
    found.map(|(kind, _)| *kind)
}

#[derive(Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) format: u32,
    pub(super) id: String,
}

/// Where something is in the backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Its locator, in hexadecimal digits.
    pub(super) at: String,
    pub(super) length: u64,
    /// That of its twin, where it has one.
    pub(super) sequence: u64,
    /// Where it is once more: what a backup writes of itself is there twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) twin: Option<String>,
}

impl Place {
    pub(super) fn of(stored: &Stored) -> Self {
        Self {
            at: digits(&stored.locator),
            length: stored.length,
            sequence: stored.sequence.0,
            twin: None,
        }
    }

    pub(super) fn with_twin(self, twin: &Stored) -> Self {
        Self {
            sequence: twin.sequence.0,
            twin: Some(digits(&twin.locator)),
            ..self
        }
    }

    pub(super) fn locator(&self) -> Result<Locator> {
        locator(&self.at)
    }

    /// Every place where it is.
    pub(super) fn locators(&self) -> Result<Vec<Locator>> {
        [Some(&self.at), self.twin.as_ref()]
            .into_iter()
            .flatten()
            .map(|at| locator(at))
            .collect()
    }
}

/// An instance of the archive.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Original {
    study: String,
    series: String,
    instance: String,
    /// Its place in the archive's order.
    pub(super) sequence: u64,
    /// When the archive took it.
    received: u64,
    pub(super) length: u64,
    /// Its locator there.
    pub(super) from: String,
}

impl Original {
    pub(super) fn new(key: &InstanceKey, stored: &Stored) -> Self {
        Self {
            study: key.study.to_string(),
            series: key.series.to_string(),
            instance: key.instance.to_string(),
            sequence: stored.sequence.0,
            received: stored.received.0,
            length: stored.length,
            from: digits(&stored.locator),
        }
    }

    /// Whether it is what the archive has at this place in its order.
    pub(super) fn is(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Stored(key, stored) => {
                *self.instance == *key.instance
                    && self.from == digits(&stored.locator)
                    && self.received == stored.received.0
            }
            Entry::Removed { .. } => false,
        }
    }

    pub(super) fn key(&self) -> Result<InstanceKey> {
        let parse = |text: &str| Uid::parse(text).map_err(|_| not_a_backup("a UID is none"));
        Ok(InstanceKey {
            study: parse(&self.study)?,
            series: parse(&self.series)?,
            instance: parse(&self.instance)?,
        })
    }

    /// As the archive told it.
    pub(super) fn stored(&self) -> Result<Stored> {
        Ok(Stored {
            locator: locator(&self.from)?,
            length: self.length,
            sequence: Sequence(self.sequence),
            received: Timestamp(self.received),
        })
    }
}

/// What happened in the archive.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Row {
    Kept {
        #[serde(flatten)]
        of: Original,
        place: Place,
    },
    /// What was at a locator until then.
    Removed { from: String, sequence: u64 },
}

/// How far in the archive's order a backup is.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Reached {
    /// Everything up to here was looked at.
    pub(super) position: u64,
    /// The last instance up to there that was copied: in another archive there is another in its place.
    pub(super) last: Option<Original>,
    /// What could not be read until then, to be tried again.
    pub(super) unreadable: Vec<Original>,
    /// What could not be read until then and is not tried again.
    pub(super) unreadable_beyond: u64,
}

/// Rows of an increment, in the archive's order; but for instances that could not be read when it was their turn.
#[derive(Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) reached: Reached,
    pub(super) rows: Vec<Row>,
}

/// A file as an increment has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileRow {
    pub(super) name: String,
    /// SHA-256, in hexadecimal digits.
    pub(super) sha256: String,
    pub(super) place: Place,
}

/// What makes a part of what was written an increment.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct IncrementRow {
    pub(super) id: String,
    pub(super) number: u64,
    pub(super) at: u64,
    pub(super) reached: Reached,
    pub(super) instances: u64,
    pub(super) bytes: u64,
    pub(super) removed: u64,
    pub(super) parts: Vec<Place>,
    pub(super) files: Vec<FileRow>,
    pub(super) previous: Option<Place>,
}

pub(super) fn id_text(id: u128) -> String {
    format!("{id:032x}")
}

pub(super) fn digits(locator: &Locator) -> String {
    locator
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn locator(digits: &str) -> Result<Locator> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(byte).collect();
    let bytes = bytes.filter(|_| digits.len().is_multiple_of(2));
    bytes
        .map(|bytes| Locator::new(&bytes))
        .ok_or_else(|| not_a_backup("a locator is none"))
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    // Not the text of the error: it may quote what stands there.
    serde_json::from_slice(bytes).map_err(|_| not_a_backup("what a backup writes of itself can't be read"))
}

pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|_| {
        Error::new(
            ErrorKind::Internal,
            super::OPERATION,
            "it can't be written as JSON",
        )
    })
}

pub(super) fn not_a_backup(why: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, super::OPERATION, why)
}
