//! By what an item is found: keys of the ledger without values, beside the item itself.
//!
//! An entry is `worklist-by`, whether the item is over, by what, the values, then the identity of the item. So what is
//! still to be done lies apart from all that ever was, and what is asked for together lies together: the day of a
//! station, of a modality, of all.

use std::ops::Range;

use bytes::Bytes;
use dicom_dictionary_std::tags;

use super::{invalid, status, status_of, step_of};
use crate::dataset::DataSet;
use crate::error::Result;
use crate::ledger::{Key, Parts};
use crate::query::{fold_person_name, folded_groups};

const ITEM: &str = "worklist";
const ENTRY: &str = "worklist-by";

/// How much of a name is in an entry. A longer key finds more than it asks for, and what it finds is matched whole.
const NAME_LENGTH_MAX_BYTES: usize = 64;

/// By what items are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Study Instance UID.
    Study,
    /// Accession Number.
    Order,
    /// Requested Procedure ID.
    Procedure,
    /// Patient ID.
    Patient,
    /// One component group of Patient's Name, folded.
    Name,
    /// Scheduled Station AE Title, then Scheduled Procedure Step Start Date.
    Station,
    /// Modality, then Scheduled Procedure Step Start Date.
    Modality,
    /// Scheduled Procedure Step Start Date; every item is found by it.
    Date,
}

impl By {
    const ALL: [Self; 8] = [
        Self::Study,
        Self::Order,
        Self::Procedure,
        Self::Patient,
        Self::Name,
        Self::Station,
        Self::Modality,
        Self::Date,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Study => "study",
            Self::Order => "order",
            Self::Procedure => "procedure",
            Self::Patient => "patient",
            Self::Name => "name",
            Self::Station => "station",
            Self::Modality => "modality",
            Self::Date => "date",
        }
    }

    /// Values before the identity.
    fn values(self) -> usize {
        match self {
            Self::Station | Self::Modality => 2,
            _ => 1,
        }
    }
}

/// Which item it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) accession: String,
    pub(super) step: String,
}

impl Identity {
    pub(super) fn new(accession: &str, step: &str) -> Self {
        Self {
            accession: accession.trim().to_owned(),
            step: step.trim().to_owned(),
        }
    }

    /// Of an item.
    pub(super) fn of(item: &DataSet) -> Result<Self> {
        let why = "Scheduled Procedure Step Sequence must have one item (PS3.4 table K.6-1)";
        let step = step_of(item).ok_or_else(|| invalid(why, tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE))?;
        let single = |set: &DataSet, tag| {
            let mut values = set.strings(tag);
            match (values.next(), values.next()) {
                (Some(value), None) if !value.is_empty() => Ok(value.to_owned()),
                _ => Err(invalid("what names an item must have one value", tag)),
            }
        };
        Ok(Self {
            accession: single(item, tags::ACCESSION_NUMBER)?,
            step: single(step, tags::SCHEDULED_PROCEDURE_STEP_ID)?,
        })
    }

    /// Of an entry.
    pub(super) fn of_entry(entry: &[u8]) -> Result<Self> {
        let mut parts = Parts::of(entry);
        let (_, _, by) = (parts.text()?, parts.text()?, parts.text()?);
        let by = By::ALL.iter().find(|known| known.name() == by);
        for _ in 0..by.map_or(0, |by| by.values()) {
            parts.text()?;
        }
        Ok(Self::new(parts.text()?, parts.text()?))
    }

    /// Where the item is kept.
    pub(super) fn key(&self) -> Bytes {
        Key::of(ITEM).text(&self.accession).text(&self.step).bytes()
    }
}

/// Where the entries by this lie, of items that are over or of those that are not.
pub(super) fn under(by: By, over: bool) -> Key {
    let over = if over { "over" } else { "open" };
    Key::of(ENTRY).text(over).text(by.name())
}

/// Where the entries of all items with this value lie: of those that are not over, and of those that are.
pub(super) fn with(by: By, value: &str) -> [Key; 2] {
    [false, true].map(|over| under(by, over).text(value.trim()))
}

/// From the first day to the last, both inside, below a key.
pub(super) fn days(key: &Key, from: &str, to: &str) -> Range<Bytes> {
    key.clone().beginning(from).bytes()..key.clone().beginning(to).range().end
}

/// The beginning of a folded name that stands in an entry.
pub(super) fn name_beginning(folded: &str) -> &str {
    let ends = folded.char_indices().map(|(at, letter)| at + letter.len_utf8());
    let end = ends.take_while(|end| *end <= NAME_LENGTH_MAX_BYTES).last();
    &folded[..end.unwrap_or(0)]
}

/// The entries of an item, each once, in no order that means something but always in the same.
pub(super) fn of(item: &DataSet) -> Result<Vec<Bytes>> {
    let identity = Identity::of(item)?;
    let over = status::is_over(status_of(item));
    let mut entries: Vec<Bytes> = Vec::with_capacity(8);
    let mut put = |by, values: &[&str]| {
        let key = values.iter().fold(under(by, over), |key, value| key.text(value));
        let entry = key.text(&identity.accession).text(&identity.step).bytes();
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    };
    for (by, tag) in [
        (By::Study, tags::STUDY_INSTANCE_UID),
        (By::Order, tags::ACCESSION_NUMBER),
        (By::Procedure, tags::REQUESTED_PROCEDURE_ID),
        (By::Patient, tags::PATIENT_ID),
    ] {
        if let Some(value) = item.string(tag) {
            put(by, &[value]);
        }
    }
    for name in item.strings(tags::PATIENT_NAME) {
        for group in folded_groups(&fold_person_name(name)) {
            put(By::Name, &[name_beginning(group)]);
        }
    }
    if let Some(step) = step_of(item) {
        let date = step
            .string(tags::SCHEDULED_PROCEDURE_STEP_START_DATE)
            .unwrap_or_default();
        put(By::Date, &[date]);
        for station in step.strings(tags::SCHEDULED_STATION_AE_TITLE) {
            put(By::Station, &[station, date]);
        }
        if let Some(modality) = step.string(tags::MODALITY) {
            put(By::Modality, &[modality, date]);
        }
    }
    Ok(entries)
}
