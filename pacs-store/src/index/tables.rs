//! What tables there are, how their keys are made, and what a store of them can do.
//!
//! A study gets a number when its first instance comes, a series one within its study, an instance
//! one within its series. Numbers make the keys short and keep what belongs together next to each
//! other: `(study, series, instance)` is one range for each entity. A number is never used again.

use std::ops::{Bound, ControlFlow};

use pacs_core::error::{Error, ErrorKind, Result};

use super::codec::{Reader, put_number};
use super::record::State;

/// A table: keys in ascending order of their bytes, each with a value. Numbers in keys and values are big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    /// [`META_FORMAT`] and [`META_STATE`].
    Meta,
    /// Packed Study Instance UID to the study's number.
    StudyUids,
    /// Packed Series Instance UID, then the study's number, to the series' number.
    SeriesUids,
    /// Packed SOP Instance UID to a [`Place`].
    InstanceUids,
    /// Key of the patient to its record.
    Patients,
    /// Number of the study to its record, which holds the patient's attributes too.
    Studies,
    /// Study and series number to the series' record.
    Series,
    /// [`Place`] to the instance's record.
    Instances,
    /// [`Place`] to what of an instance is too large to stand among the records.
    Large,
    /// [`Place`] to the instance's locator and frame table.
    Frames,
    /// [`Place`] to the instance's locator and metadata: those of one series are one range.
    Metadata,
    /// The secondary keys, without values: see [`super::keys`].
    Keys,
}

/// Looking for keys in a state of the tables.
pub(crate) trait Lookup {
    /// Whether each look is a way to another machine and back.
    const IS_FAR: bool = false;

    /// What `read` makes of the value of a key; `None` where it has none.
    fn get<T>(&self, table: Table, key: &[u8], read: impl FnOnce(&[u8]) -> Result<T>) -> Result<Option<T>>;

    /// Says that these keys are going to be looked for: a store that is far away brings them all at once.
    fn expect(&self, _keys: impl IntoIterator<Item = (Table, Vec<u8>)>) -> Result<()> {
        Ok(())
    }
}

/// One state of the tables, to read.
pub(crate) trait Tables: Lookup {
    /// Gives the entries between two keys to `each`, in ascending order: `limit` of them at most, and none after it
    /// breaks off.
    fn range(
        &self,
        table: Table,
        between: (Bound<&[u8]>, Bound<&[u8]>),
        limit: usize,
        each: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()>;
}

/// The tables within a batch: what was written is found.
pub(crate) trait TablesMut: Lookup {
    /// Puts a value under a key, in place of what was there.
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()>;

    /// Removes a key, if it is there.
    fn remove(&mut self, table: Table, key: &[u8]) -> Result<()>;
}

/// Version of all that is written here.
const FORMAT: u32 = 5;
/// Key in the table of what there is once: [`FORMAT`].
const META_FORMAT: &[u8] = b"format";
/// The same: [`State`].
pub(crate) const META_STATE: &[u8] = b"state";

/// The whole of a value that is read later.
pub(crate) fn whole(value: &[u8]) -> Result<Vec<u8>> {
    Ok(value.to_vec())
}

/// A value that is a number.
pub(super) fn number(value: &[u8]) -> Result<u32> {
    value.try_into().map(u32::from_be_bytes).map_err(|_| is_damaged())
}

/// What is known of the whole index.
pub(crate) fn state(tables: &impl Lookup) -> Result<State> {
    Ok(tables
        .get(Table::Meta, META_STATE, State::decode)?
        .unwrap_or_default())
}

/// Whether the tables are of this format; `false` where they are of none yet.
///
/// # Errors
/// `Unsupported` when they are of another format.
pub(crate) fn is_prepared(tables: &impl Lookup) -> Result<bool> {
    let format = tables.get(Table::Meta, META_FORMAT, |format| {
        Reader::new(format).number_u32()
    })?;
    match format {
        None => Ok(false),
        Some(FORMAT) => Ok(true),
        Some(_) => Err(is_of_another_version()),
    }
}

pub(crate) fn is_of_another_version() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "index.open",
        "the index was written by another version: rebuild it from the archive",
    )
}

/// Makes tables that are empty those of this format.
pub(crate) fn prepare(tables: &mut impl TablesMut) -> Result<()> {
    let mut format = Vec::new();
    put_number(&mut format, u64::from(FORMAT));
    tables.put(Table::Meta, META_FORMAT, &format)
}

/// A key or value that can't be one.
pub(crate) fn is_damaged() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "index.table",
        "the index is damaged: rebuild it from the archive",
    )
}

/// Where an instance stands: number of the study, of the series in it, of the instance in that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) study: u32,
    pub(super) series: u32,
    pub(super) instance: u32,
}

impl Place {
    pub(super) fn key(self) -> [u8; 12] {
        let mut key = [0; 12];
        key[..4].copy_from_slice(&self.study.to_be_bytes());
        key[4..8].copy_from_slice(&self.series.to_be_bytes());
        key[8..].copy_from_slice(&self.instance.to_be_bytes());
        key
    }

    pub(super) fn of_key(key: &[u8]) -> Result<Self> {
        let number = |at: usize| key.get(at..at + 4).map_or_else(|| Err(is_damaged()), number);
        Ok(Self {
            study: number(0)?,
            series: number(4)?,
            instance: number(8)?,
        })
    }
}

/// Key of a study.
pub(super) fn study_key(study: u32) -> [u8; 4] {
    study.to_be_bytes()
}

/// Key of a series.
pub(super) fn series_key(study: u32, series: u32) -> [u8; 8] {
    (u64::from(study) << 32 | u64::from(series)).to_be_bytes()
}

/// Key in the table of Series Instance UIDs.
pub(super) fn series_uid_key(packed: &[u8], study: u32) -> Vec<u8> {
    [packed, &study.to_be_bytes()].concat()
}

/// The last four bytes of a key: a study's number, or in the table of series a series'.
pub(super) fn number_at_end(key: &[u8]) -> Option<u32> {
    key.last_chunk().map(|number| u32::from_be_bytes(*number))
}
