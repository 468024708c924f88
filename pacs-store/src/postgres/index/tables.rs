//! The tables of an index in a database.
//!
//! The index is read and changed by code that waits for nothing: what it looks for is asked for here, on a thread that may
//! block. What it says it is going to look for comes in one go.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use deadpool_postgres::{Object, Transaction};
use futures::future::try_join_all;
use pacs_core::error::Result;
use tokio::runtime::Handle;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::index::tables::{Lookup, Table, Tables, TablesMut, is_damaged};
use crate::postgres::failure::Failure;

/// Every table, with its name in the database.
const TABLES: [(Table, &str); 12] = [
    (Table::Meta, "index_meta"),
    (Table::StudyUids, "index_study_uids"),
    (Table::SeriesUids, "index_series_uids"),
    (Table::InstanceUids, "index_instance_uids"),
    (Table::Patients, "index_patients"),
    (Table::Studies, "index_studies"),
    (Table::Series, "index_series"),
    (Table::Instances, "index_instances"),
    (Table::Large, "index_large"),
    (Table::Frames, "index_frames"),
    (Table::Metadata, "index_metadata"),
    (Table::Keys, "index_keys"),
];

/// Entries of a range that are fetched at once, at first and at most.
const FETCHED: [usize; 2] = [64, 1024];
/// The same where one may be longer than some hundred bytes.
const FETCHED_LONG: usize = 64;

/// What is asked of the tables. It names the schema.
#[derive(Debug)]
pub(super) struct Statements {
    tables: BTreeMap<Table, OfTable>,
    /// Keeps all others from writing until the transaction ends; answers who wrote last.
    pub(super) lock: String,
    /// Makes who opens it the one who writes, in place of whoever did; answers his number.
    pub(super) open: String,
    pub(super) note_batch: String,
    pub(super) forget_all: String,
    /// All that a lookup looks for, of an instance by its key: one statement sees one state.
    lookup: String,
}

#[derive(Debug)]
struct OfTable {
    get: String,
    range: String,
    put: String,
    remove: String,
}

impl Statements {
    pub(super) fn new(schema: &str) -> Self {
        let of_table = |name: &str| {
            let table = format!("{schema}.{name}");
            OfTable {
                get: format!("SELECT key, value FROM {table} WHERE key = ANY($1)"),
                range: format!(
                    "SELECT key, value FROM {table} WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3"
                ),
                put: format!(
                    "INSERT INTO {table} (key, value) SELECT key, value FROM unnest($1::bytea[], $2::bytea[]) AS e (key, value)
                     ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value"
                ),
                remove: format!("DELETE FROM {table} WHERE key = ANY($1)"),
            }
        };
        let all: Vec<_> = TABLES
            .iter()
            .map(|(_, name)| format!("{schema}.{name}"))
            .collect();
        Self {
            tables: TABLES
                .iter()
                .map(|(table, name)| (*table, of_table(name)))
                .collect(),
            open: format!(
                "UPDATE {schema}.index_writer SET opened = opened + 1, writer = $1, batch = 0
                 WHERE one AND (writer = $1 OR opened < $2) RETURNING opened"
            ),
            lock: format!("SELECT opened, writer, batch FROM {schema}.index_writer WHERE one FOR UPDATE"),
            note_batch: format!("UPDATE {schema}.index_writer SET batch = $1 WHERE one"),
            forget_all: format!("TRUNCATE {}", all.join(", ")),
            lookup: format!(
                "SELECT uid.value, study.value, series.value, instance.value, large.value
                 FROM {schema}.index_instance_uids AS uid
                 LEFT JOIN {schema}.index_studies AS study ON study.key = substring(uid.value FROM 1 FOR 4)
                 LEFT JOIN {schema}.index_series AS series ON series.key = substring(uid.value FROM 1 FOR 8)
                 LEFT JOIN {schema}.index_instances AS instance ON instance.key = uid.value
                 LEFT JOIN {schema}.index_large AS large ON large.key = uid.value
                 WHERE uid.key = $1"
            ),
        }
    }

    fn of(&self, table: Table) -> Result<&OfTable> {
        self.tables.get(&table).ok_or_else(is_damaged)
    }
}

/// What makes the tables, as one step of [`crate::postgres::tables`].
pub(in crate::postgres) const STEP: &str = "
    CREATE TABLE {schema}.index_writer 
        (one boolean PRIMARY KEY CHECK (one), opened bigint NOT NULL, writer text NOT NULL, batch bigint NOT NULL);
    INSERT INTO {schema}.index_writer VALUES (true, 0, '', 0);
    CREATE TABLE {schema}.index_meta (key bytea PRIMARY KEY, value bytea NOT NULL);
    CREATE TABLE {schema}.index_study_uids (key bytea PRIMARY KEY, value bytea NOT NULL);
    CREATE TABLE {schema}.index_series_uids (key bytea PRIMARY KEY, value bytea NOT NULL);
    CREATE TABLE {schema}.index_instance_uids (key bytea PRIMARY KEY, value bytea NOT NULL);
    CREATE TABLE {schema}.index_patients (key bytea PRIMARY KEY, value bytea NOT NULL);
    CREATE TABLE {schema}.index_studies (key bytea PRIMARY KEY, value bytea NOT NULL);
    CREATE TABLE {schema}.index_series (key bytea PRIMARY KEY, value bytea NOT NULL);
    CREATE TABLE {schema}.index_instances (key bytea PRIMARY KEY, value bytea NOT NULL);
    CREATE TABLE {schema}.index_large (key bytea PRIMARY KEY, value bytea NOT NULL);
    CREATE TABLE {schema}.index_frames (key bytea PRIMARY KEY, value bytea NOT NULL);
    CREATE TABLE {schema}.index_metadata (key bytea PRIMARY KEY, value bytea NOT NULL);
    CREATE TABLE {schema}.index_keys (key bytea PRIMARY KEY, value bytea NOT NULL)";

/// Keys, each with its value where it has one.
type Entries<V> = BTreeMap<(Table, Vec<u8>), Option<V>>;

/// One state of the tables: what a transaction sees.
pub(super) struct Reading<'c> {
    transaction: Transaction<'c>,
    statements: &'c Statements,
    runtime: Handle,
    /// What was expected to be looked for.
    known: RefCell<Entries<Bytes>>,
    /// What failed may be done again.
    is_passing: Cell<bool>,
}

impl<'c> Reading<'c> {
    pub(super) fn new(transaction: Transaction<'c>, statements: &'c Statements, runtime: Handle) -> Self {
        Self {
            transaction,
            statements,
            runtime,
            known: RefCell::default(),
            is_passing: Cell::new(false),
        }
    }

    /// What an error of the tables means for who used them.
    pub(super) fn failure(&self, error: pacs_core::Error) -> Failure {
        match self.is_passing.get() {
            true => Failure::Passing(error),
            false => Failure::Final(error),
        }
    }

    /// Empties every table.
    pub(super) fn forget_all(&self) -> Result<()> {
        self.done(self.runtime.block_on(async {
            self.transaction
                .batch_execute(&self.statements.forget_all)
                .await?;
            Ok(())
        }))
    }

    fn done<T>(&self, done: Result<T, Failure>) -> Result<T> {
        done.map_err(|failure| {
            self.is_passing.set(matches!(failure, Failure::Passing(_)));
            failure.into_error()
        })
    }

    async fn ask(&self, statement: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Failure> {
        let statement = self.transaction.prepare_cached(statement).await?;
        Ok(self.transaction.query(&statement, values).await?)
    }
}

fn key_of(row: &Row) -> Result<&[u8], Failure> {
    Ok(row.try_get(0)?)
}

fn value_of(row: &Row) -> Result<&[u8], Failure> {
    Ok(row.try_get(1)?)
}

impl Lookup for Reading<'_> {
    const IS_FAR: bool = true;

    fn get<T>(&self, table: Table, key: &[u8], read: impl FnOnce(&[u8]) -> Result<T>) -> Result<Option<T>> {
        let known = self.known.borrow().get(&(table, key.to_vec())).cloned();
        if let Some(known) = known {
            return known.map(|value| read(&value)).transpose();
        }
        let (statement, keys) = (&self.statements.of(table)?.get, [key]);
        let rows = self.done(self.runtime.block_on(self.ask(statement, &[&keys.as_slice()])))?;
        match rows.first() {
            Some(row) => read(self.done(value_of(row))?).map(Some),
            None => Ok(None),
        }
    }

    fn expect(&self, keys: impl IntoIterator<Item = (Table, Vec<u8>)>) -> Result<()> {
        let mut wanted: BTreeMap<Table, BTreeSet<Vec<u8>>> = BTreeMap::new();
        let mut known = self.known.borrow_mut();
        for (table, key) in keys {
            if !known.contains_key(&(table, key.clone())) {
                wanted.entry(table).or_default().insert(key);
            }
        }
        let asked = wanted.iter().map(|(table, keys)| async move {
            let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            let statement = self.statements.of(*table).map_err(Failure::Final)?;
            Ok((*table, self.ask(&statement.get, &[&keys]).await?))
        });
        let found = self.done(self.runtime.block_on(try_join_all(asked)))?;
        for (table, rows) in found {
            for row in &rows {
                let entry = (self.done(key_of(row))?, self.done(value_of(row))?);
                known.insert((table, entry.0.to_vec()), Some(Bytes::copy_from_slice(entry.1)));
            }
        }
        for (table, keys) in wanted {
            for key in keys {
                known.entry((table, key)).or_insert(None);
            }
        }
        Ok(())
    }
}

impl Tables for Reading<'_> {
    fn range(
        &self,
        table: Table,
        between: (Bound<&[u8]>, Bound<&[u8]>),
        limit: usize,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let (Some(mut from), Some(to)) = (first_of(between.0), first_after(between.1)) else {
            return Ok(());
        };
        let [mut fetched, mut fetched_max] = FETCHED;
        if matches!(
            table,
            Table::Patients | Table::Studies | Table::Series | Table::Instances
        ) {
            fetched_max = FETCHED_LONG;
        }
        let statement = &self.statements.of(table)?.range;
        let mut left = limit;
        while left > 0 && from < to {
            fetched = fetched.min(fetched_max).min(left);
            let some = fetched as i64;
            let rows = self.done(self.runtime.block_on(self.ask(statement, &[&from, &to, &some])))?;
            for row in &rows {
                if each(self.done(key_of(row))?, self.done(value_of(row))?)?.is_break() {
                    return Ok(());
                }
            }
            match rows.last() {
                Some(last) if rows.len() == fetched => from = after(self.done(key_of(last))?),
                _ => break,
            }
            left -= fetched;
            fetched *= 4;
        }
        Ok(())
    }
}

/// What is there for one instance.
pub(super) struct OfInstance(Option<Row>);

impl OfInstance {
    pub(super) async fn fetch(
        client: &Object,
        statements: &Statements,
        uid_key: &[u8],
    ) -> Result<Self, Failure> {
        let lookup = client.prepare_cached(&statements.lookup).await?;
        Ok(Self(client.query_opt(&lookup, &[&uid_key]).await?))
    }
}

impl Lookup for OfInstance {
    fn get<T>(&self, table: Table, _: &[u8], read: impl FnOnce(&[u8]) -> Result<T>) -> Result<Option<T>> {
        let column = match table {
            Table::InstanceUids => 0,
            Table::Studies => 1,
            Table::Series => 2,
            Table::Instances => 3,
            Table::Large => 4,
            // A lookup looks for nothing else.
            _ => return Err(is_damaged()),
        };
        let value = self.0.as_ref().map(|row| row.try_get::<_, Option<&[u8]>>(column));
        let value = value.transpose().map_err(|_| is_damaged())?;
        value.flatten().map(read).transpose()
    }
}

/// The key that comes next.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

fn first_of(from: Bound<&[u8]>) -> Option<Vec<u8>> {
    Some(match from {
        Bound::Included(key) => key.to_vec(),
        Bound::Excluded(key) => after(key),
        Bound::Unbounded => Vec::new(),
    })
}

fn first_after(to: Bound<&[u8]>) -> Option<Vec<u8>> {
    match to {
        Bound::Included(key) => Some(after(key)),
        Bound::Excluded(key) => Some(key.to_vec()),
        // Nothing looks for all there is.
        Bound::Unbounded => None,
    }
}

/// What a batch changes of one table.
#[derive(Default)]
struct Changes<'b> {
    put: Vec<&'b [u8]>,
    values: Vec<&'b [u8]>,
    removed: Vec<&'b [u8]>,
}

/// The tables within a batch. What is changed stays here until [`finish`](Self::finish).
pub(super) struct Batch<'c> {
    pub(super) reading: Reading<'c>,
    changed: Entries<Vec<u8>>,
}

impl<'c> Batch<'c> {
    pub(super) fn new(reading: Reading<'c>) -> Self {
        Self {
            reading,
            changed: BTreeMap::new(),
        }
    }

    /// Writes what was changed, table by table, and makes it last.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let Self { reading, changed } = self;
        let mut of_tables: BTreeMap<Table, Changes<'_>> = BTreeMap::new();
        for ((table, key), value) in &changed {
            let changes = of_tables.entry(*table).or_default();
            match value {
                Some(value) => {
                    changes.put.push(key);
                    changes.values.push(value);
                }
                None => changes.removed.push(key),
            }
        }
        let (transaction, statements) = (&reading.transaction, reading.statements);
        reading.runtime.block_on(async {
            // All of them are on their way at once; the database does one behind the other.
            let written = of_tables.into_iter().map(|(table, changes)| async move {
                let statements = statements.of(table).map_err(Failure::Final)?;
                if !changes.removed.is_empty() {
                    let statement = transaction.prepare_cached(&statements.remove).await?;
                    transaction.execute(&statement, &[&changes.removed]).await?;
                }
                if !changes.put.is_empty() {
                    let statement = transaction.prepare_cached(&statements.put).await?;
                    let values: [&(dyn ToSql + Sync); 2] = [&changes.put, &changes.values];
                    transaction.execute(&statement, &values).await?;
                }
                Ok::<_, Failure>(())
            });
            try_join_all(written).await
        })?;
        let Reading {
            transaction, runtime, ..
        } = reading;
        runtime
            .block_on(transaction.commit())
            .map_err(|error| Failure::of_commit(&error))
    }
}

impl Lookup for Batch<'_> {
    const IS_FAR: bool = true;

    fn get<T>(&self, table: Table, key: &[u8], read: impl FnOnce(&[u8]) -> Result<T>) -> Result<Option<T>> {
        match self.changed.get(&(table, key.to_vec())) {
            Some(value) => value.as_deref().map(read).transpose(),
            None => self.reading.get(table, key, read),
        }
    }

    fn expect(&self, keys: impl IntoIterator<Item = (Table, Vec<u8>)>) -> Result<()> {
        let is_new = |key: &(Table, Vec<u8>)| !self.changed.contains_key(key);
        self.reading.expect(keys.into_iter().filter(is_new))
    }
}

impl TablesMut for Batch<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.changed.insert((table, key.to_vec()), Some(value.to_vec()));
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<()> {
        self.changed.insert((table, key.to_vec()), None);
        Ok(())
    }
}
