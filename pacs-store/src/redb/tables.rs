//! The tables of an index in redb.

use std::ops::{Bound, ControlFlow};

use ::redb::{
    Key, ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, TableError, Value,
    WriteTransaction,
};
use pacs_core::error::Result;

use super::error::{storage, table as table_error};
use crate::index::tables::{self, Lookup, Tables, TablesMut, is_damaged};

/// What bytes stand for in keys and values: numbers and what has a fixed length take less room.
trait Raw: Value {
    fn of(bytes: &[u8]) -> Result<Self::SelfType<'_>>;
    fn with<T>(value: &Self::SelfType<'_>, use_it: impl FnOnce(&[u8]) -> T) -> T;
}

impl Raw for &'static [u8] {
    fn of(bytes: &[u8]) -> Result<&[u8]> {
        Ok(bytes)
    }

    fn with<T>(value: &&[u8], use_it: impl FnOnce(&[u8]) -> T) -> T {
        use_it(value)
    }
}

impl Raw for &'static str {
    fn of(bytes: &[u8]) -> Result<&str> {
        std::str::from_utf8(bytes).map_err(|_| is_damaged())
    }

    fn with<T>(value: &&str, use_it: impl FnOnce(&[u8]) -> T) -> T {
        use_it(value.as_bytes())
    }
}

impl Raw for u32 {
    fn of(bytes: &[u8]) -> Result<u32> {
        <[u8; 4]>::of(bytes).map(u32::from_be_bytes)
    }

    fn with<T>(value: &u32, use_it: impl FnOnce(&[u8]) -> T) -> T {
        use_it(&value.to_be_bytes())
    }
}

impl<const N: usize> Raw for [u8; N] {
    fn of(bytes: &[u8]) -> Result<[u8; N]> {
        bytes.try_into().map_err(|_| is_damaged())
    }

    fn with<T>(value: &[u8; N], use_it: impl FnOnce(&[u8]) -> T) -> T {
        use_it(value)
    }
}

impl Raw for () {
    fn of(_: &[u8]) -> Result<()> {
        Ok(())
    }

    fn with<T>((): &(), use_it: impl FnOnce(&[u8]) -> T) -> T {
        use_it(&[])
    }
}

fn get<K: Key + Raw + 'static, V: Raw + 'static, T>(
    table: &impl ReadableTable<K, V>,
    key: &[u8],
    read: impl FnOnce(&[u8]) -> Result<T>,
) -> Result<Option<T>> {
    let value = table.get(K::of(key)?).map_err(storage)?;
    value.map(|value| V::with(&value.value(), read)).transpose()
}

fn range<K: Key + Raw + 'static, V: Raw + 'static>(
    table: &ReadOnlyTable<K, V>,
    (from, to): (Bound<&[u8]>, Bound<&[u8]>),
    limit: usize,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let between = (bound::<K>(from)?, bound::<K>(to)?);
    for entry in table
        .range::<K::SelfType<'_>>(between)
        .map_err(storage)?
        .take(limit)
    {
        let (key, value) = entry.map_err(storage)?;
        let answer = K::with(&key.value(), |key| {
            V::with(&value.value(), |value| each(key, value))
        });
        if answer?.is_break() {
            break;
        }
    }
    Ok(())
}

fn bound<K: Raw>(bound: Bound<&[u8]>) -> Result<Bound<K::SelfType<'_>>> {
    Ok(match bound {
        Bound::Included(key) => Bound::Included(K::of(key)?),
        Bound::Excluded(key) => Bound::Excluded(K::of(key)?),
        Bound::Unbounded => Bound::Unbounded,
    })
}

fn put<K: Key + Raw + 'static, V: Raw + 'static>(
    table: &mut Table<'_, K, V>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    table.insert(K::of(key)?, V::of(value)?).map_err(storage)?;
    Ok(())
}

fn remove<K: Key + Raw + 'static, V: Raw + 'static>(table: &mut Table<'_, K, V>, key: &[u8]) -> Result<()> {
    table.remove(K::of(key)?).map_err(storage)?;
    Ok(())
}

macro_rules! tables {
    ($( $table:ident $field:ident: $key:ty => $value:ty ),* $(,)?) => {
        /// All tables, to read one state of the index.
        pub(super) struct ReadTables {
            $( $field: ReadOnlyTable<$key, $value>, )*
        }

        impl ReadTables {
            pub(super) fn open(transaction: &ReadTransaction) -> std::result::Result<Self, TableError> {
                Ok(Self {
                    $( $field: transaction.open_table(TableDefinition::new(stringify!($field)))?, )*
                })
            }
        }

        impl Lookup for ReadTables {
            fn get<T>(
                &self,
                table: tables::Table,
                key: &[u8],
                read: impl FnOnce(&[u8]) -> Result<T>,
            ) -> Result<Option<T>> {
                match table {
                    $( tables::Table::$table => get(&self.$field, key, read), )*
                }
            }
        }

        impl Tables for ReadTables {
            fn range(
                &self,
                table: tables::Table,
                between: (Bound<&[u8]>, Bound<&[u8]>),
                limit: usize,
                each: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
            ) -> Result<()> {
                match table {
                    $( tables::Table::$table => range(&self.$field, between, limit, each), )*
                }
            }
        }

        /// All tables, to write.
        pub(super) struct WriteTables<'t> {
            $( $field: Table<'t, $key, $value>, )*
        }

        impl<'t> WriteTables<'t> {
            /// Makes what is missing of them.
            pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self> {
                Ok(Self {
                    $( $field: transaction
                        .open_table(TableDefinition::new(stringify!($field)))
                        .map_err(table_error)?, )*
                })
            }
        }

        impl Lookup for WriteTables<'_> {
            fn get<T>(
                &self,
                table: tables::Table,
                key: &[u8],
                read: impl FnOnce(&[u8]) -> Result<T>,
            ) -> Result<Option<T>> {
                match table {
                    $( tables::Table::$table => get(&self.$field, key, read), )*
                }
            }
        }

        impl TablesMut for WriteTables<'_> {
            fn put(&mut self, table: tables::Table, key: &[u8], value: &[u8]) -> Result<()> {
                match table {
                    $( tables::Table::$table => put(&mut self.$field, key, value), )*
                }
            }

            fn remove(&mut self, table: tables::Table, key: &[u8]) -> Result<()> {
                match table {
                    $( tables::Table::$table => remove(&mut self.$field, key), )*
                }
            }
        }

        /// Deletes every table.
        pub(super) fn delete_all(transaction: &WriteTransaction) -> Result<()> {
            $(
                let definition: TableDefinition<'_, $key, $value> = TableDefinition::new(stringify!($field));
                transaction.delete_table(definition).map_err(table_error)?;
            )*
            Ok(())
        }

        /// All of them, for tests.
        #[cfg(test)]
        pub(super) const ALL: &[tables::Table] = &[$( tables::Table::$table, )*];
    };
}

tables! {
    Meta meta: &'static str => &'static [u8],
    StudyUids study_uids: &'static [u8] => u32,
    SeriesUids series_uids: &'static [u8] => u32,
    InstanceUids instance_uids: &'static [u8] => [u8; 12],
    Patients patients: &'static [u8] => &'static [u8],
    Studies studies: u32 => &'static [u8],
    Series series: [u8; 8] => &'static [u8],
    Instances instances: [u8; 12] => &'static [u8],
    Large large: [u8; 12] => &'static [u8],
    Frames frames: [u8; 12] => &'static [u8],
    Metadata metadata: [u8; 12] => &'static [u8],
    Keys keys: &'static [u8] => (),
}

/// Whether the tables are there.
///
/// # Errors
/// `Unsupported` when they are of another format.
pub(super) fn are_prepared(transaction: &ReadTransaction) -> Result<bool> {
    // Of another format, they may have other types; the format's own never changes.
    let meta: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
    match transaction.open_table(meta) {
        Err(TableError::TableDoesNotExist(_)) => Ok(false),
        // It is never without its format, unless it is somebody else's.
        other => match tables::is_prepared(&Meta(other.map_err(table_error)?))? {
            true => Ok(true),
            false => Err(tables::is_of_another_version()),
        },
    }
}

/// The table of what there is once, where the others may not be those of this format.
struct Meta(ReadOnlyTable<&'static str, &'static [u8]>);

impl Lookup for Meta {
    fn get<T>(
        &self,
        _: tables::Table,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<Option<T>> {
        get(&self.0, key, read)
    }
}

/// Makes the tables.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<()> {
    tables::prepare(&mut WriteTables::open(transaction)?)
}
