//! The tables, and how their keys are made.
//!
//! A study gets a number when its first instance comes, a series one within its study, an instance
//! one within its series. Numbers make the keys short and keep what belongs together next to each
//! other: `(study, series, instance)` is one range for each entity. A number is never used again.

use ::redb::{ReadOnlyTable, ReadTransaction, Table, TableDefinition, TableError, WriteTransaction};
use pacs_core::error::{Error, ErrorKind, Result};

use super::codec::Reader;
use super::error::{storage, table};
use super::record::State;

/// [`META_FORMAT`] and [`META_STATE`].
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Packed Study Instance UID to the study's number.
const STUDY_UIDS: TableDefinition<'_, &[u8], u32> = TableDefinition::new("study_uids");
/// Packed Series Instance UID, then the study's number, to the series' number.
const SERIES_UIDS: TableDefinition<'_, &[u8], u32> = TableDefinition::new("series_uids");
/// Packed SOP Instance UID to a [`Place`].
const INSTANCE_UIDS: TableDefinition<'_, &[u8], [u8; 12]> = TableDefinition::new("instance_uids");
/// Key of the patient to its record.
const PATIENTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("patients");
/// Number of the study to its record, which holds the patient's attributes too.
const STUDIES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("studies");
/// Study and series number to the series' record.
const SERIES: TableDefinition<'_, [u8; 8], &[u8]> = TableDefinition::new("series");
/// [`Place`] to the instance's record.
const INSTANCES: TableDefinition<'_, [u8; 12], &[u8]> = TableDefinition::new("instances");
/// [`Place`] to what of an instance is too large to stand among the records.
const LARGE: TableDefinition<'_, [u8; 12], &[u8]> = TableDefinition::new("large");
/// [`Place`] to the instance's locator and frame table.
const FRAMES: TableDefinition<'_, [u8; 12], &[u8]> = TableDefinition::new("frames");
/// [`Place`] to the instance's locator and metadata: those of one series are one range.
const METADATA: TableDefinition<'_, [u8; 12], &[u8]> = TableDefinition::new("metadata");
/// The secondary keys: see [`super::keys`].
const KEYS: TableDefinition<'_, &[u8], ()> = TableDefinition::new("keys");

/// Version of all that is written here.
pub(super) const FORMAT: u32 = 5;
/// Entry of the meta table: [`FORMAT`].
pub(super) const META_FORMAT: &str = "format";
/// Entry of the meta table: [`super::record::State`].
pub(super) const META_STATE: &str = "state";

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

    pub(super) fn of_key(key: [u8; 12]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = key;
        Self {
            study: u32::from_be_bytes([a, b, c, d]),
            series: u32::from_be_bytes([e, f, g, h]),
            instance: u32::from_be_bytes([i, j, k, l]),
        }
    }
}

/// Key of a series.
pub(super) fn series_key(study: u32, series: u32) -> [u8; 8] {
    (u64::from(study) << 32 | u64::from(series)).to_be_bytes()
}

/// Study and series number of a series' key.
pub(super) fn of_series_key(key: [u8; 8]) -> (u32, u32) {
    let both = u64::from_be_bytes(key);
    ((both >> 32) as u32, both as u32)
}

/// Key in the table of Series Instance UIDs.
pub(super) fn series_uid_key(packed: &[u8], study: u32) -> Vec<u8> {
    [packed, &study.to_be_bytes()].concat()
}

/// The last four bytes of a key, a study's number.
pub(super) fn study_at_end(key: &[u8]) -> Option<u32> {
    key.last_chunk().map(|number| u32::from_be_bytes(*number))
}

macro_rules! tables {
    ($( $field:ident: $definition:ident <$key:ty, $value:ty> ),* $(,)?) => {
        /// All tables, to read one state of the index.
        pub(super) struct ReadTables {
            $( pub(super) $field: ReadOnlyTable<$key, $value>, )*
        }

        impl ReadTables {
            pub(super) fn open(transaction: &ReadTransaction) -> Result<Self> {
                Ok(Self {
                    $( $field: transaction.open_table($definition).map_err(table)?, )*
                })
            }
        }

        /// All tables, to write.
        pub(super) struct WriteTables<'t> {
            $( pub(super) $field: Table<'t, $key, $value>, )*
        }

        impl<'t> WriteTables<'t> {
            pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self> {
                Ok(Self {
                    $( $field: transaction.open_table($definition).map_err(table)?, )*
                })
            }
        }

        /// Deletes every table.
        pub(super) fn delete_all(transaction: &WriteTransaction) -> Result<()> {
            $( transaction.delete_table($definition).map_err(table)?; )*
            Ok(())
        }
    };
}

tables! {
    meta: META <&'static str, &'static [u8]>,
    study_uids: STUDY_UIDS <&'static [u8], u32>,
    series_uids: SERIES_UIDS <&'static [u8], u32>,
    instance_uids: INSTANCE_UIDS <&'static [u8], [u8; 12]>,
    patients: PATIENTS <&'static [u8], &'static [u8]>,
    studies: STUDIES <u32, &'static [u8]>,
    series: SERIES <[u8; 8], &'static [u8]>,
    instances: INSTANCES <[u8; 12], &'static [u8]>,
    large: LARGE <[u8; 12], &'static [u8]>,
    frames: FRAMES <[u8; 12], &'static [u8]>,
    metadata: METADATA <[u8; 12], &'static [u8]>,
    keys: KEYS <&'static [u8], ()>,
}

impl ReadTables {
    /// What is known of the whole index.
    pub(super) fn state(&self) -> Result<State> {
        match self.meta.get(META_STATE).map_err(storage)? {
            Some(state) => State::decode(state.value()),
            None => Ok(State::default()),
        }
    }
}

/// Whether the tables are there.
///
/// # Errors
/// `Unsupported` when they are of another format.
pub(super) fn is_prepared(transaction: &ReadTransaction) -> Result<bool> {
    let meta = match transaction.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(false),
        other => other.map_err(table)?,
    };
    let format = meta.get(META_FORMAT).map_err(storage)?;
    let format = format
        .map(|format| Reader::new(format.value()).number_u32())
        .transpose()?;
    match format {
        Some(FORMAT) => Ok(true),
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            "index.open",
            "the index was written by another version: rebuild it from the archive",
        )),
    }
}

/// Makes the tables.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<()> {
    let mut tables = WriteTables::open(transaction)?;
    let mut format = Vec::new();
    super::codec::put_number(&mut format, u64::from(FORMAT));
    tables
        .meta
        .insert(META_FORMAT, format.as_slice())
        .map_err(storage)?;
    Ok(())
}
