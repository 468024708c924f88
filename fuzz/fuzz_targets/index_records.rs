//! An index whose records, keys and numbers were changed under it: it is opened or refused, every question is answered or
//! is an error, and so is every change.
//!
//! Run with `cargo fuzz run -s none index_records`.

#![no_main]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use arbitrary::Arbitrary;
use bytes::Bytes;
use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt};
use libfuzzer_sys::fuzz_target;
use pacs_core::dataset::FrameTable;
use pacs_core::testkit::random::Random;
use pacs_core::testkit::world;
use pacs_core::{Change, Index, InstanceRecord, Locator, Result, Scope, Sequence, Uid};
use pacs_fuzz::codec::contain_decoders;
use pacs_store::medium::{FaultyMedium, Loss, MediumBackend};
use pacs_store::{RedbIndex, RedbIndexOptions};
use redb::{Database, ReadableTable, TableDefinition};

const PATH: &str = "index";

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    changes: Vec<Damage<'a>>,
    question: u64,
}

#[derive(Arbitrary, Debug)]
struct Damage<'a> {
    table: u8,
    /// Which entry, in their order.
    entry: u8,
    how: How<'a>,
}

#[derive(Arbitrary, Debug)]
enum How<'a> {
    /// Some bytes of its value are others.
    Flip(Vec<(u8, u8)>),
    Cut(u8),
    Replace(&'a [u8]),
    Remove,
    /// Another number, where that is the value.
    Number(u32),
}

/// The tables whose values are bytes, by what their keys are.
enum Table {
    Text(&'static str),
    Bytes(&'static str),
    Number(&'static str),
    Eight(&'static str),
    Twelve(&'static str),
    /// Bytes to a number.
    Numbers(&'static str),
}

const TABLES: [Table; 9] = [
    Table::Text("meta"),
    Table::Bytes("patients"),
    Table::Number("studies"),
    Table::Eight("series"),
    Table::Twelve("instances"),
    Table::Twelve("frames"),
    Table::Twelve("metadata"),
    Table::Numbers("study_uids"),
    Table::Numbers("series_uids"),
];

fn open(medium: &FaultyMedium) -> Result<RedbIndex> {
    RedbIndex::open_on(Arc::new(medium.clone()), PATH, RedbIndexOptions::default())
}

static RECORDS: LazyLock<Vec<InstanceRecord>> = LazyLock::new(|| {
    (0..6)
        .map(|at| world::record(1, at % 2, 0, at % 3, at, 0))
        .collect()
});
/// One that isn't there yet.
static MORE: LazyLock<InstanceRecord> = LazyLock::new(|| world::record(1, 0, 1, 0, 9, 0));

static DISK: LazyLock<FaultyMedium> = LazyLock::new(|| {
    let medium = FaultyMedium::new(1);
    let index = open(&medium).expect("a new index");
    let mut changes = Vec::new();
    for record in RECORDS.clone() {
        let (instance, version) = (record.key.instance, record.locator.clone());
        changes.push(Change::Store(Box::new(record)));
        changes.push(Change::Frames {
            instance,
            version: version.clone(),
            table: Arc::new(FrameTable::default()),
        });
        changes.push(Change::Metadata {
            instance,
            version,
            record: Bytes::from_static(b"metadata"),
        });
    }
    block_on(async {
        index.apply(changes, Sequence(9)).await?;
        index.flush().await
    })
    .expect("a disk without faults");
    drop(index);
    medium
});

impl How<'_> {
    /// The value that stands in place of `old`; `None` for none.
    fn of(&self, old: &[u8]) -> Option<Vec<u8>> {
        let mut new = old.to_vec();
        match self {
            Self::Flip(places) if !old.is_empty() => {
                for (at, change) in places {
                    new[usize::from(*at) % old.len()] ^= change;
                }
            }
            Self::Cut(length) => new.truncate(usize::from(*length)),
            Self::Replace(bytes) => new = bytes.to_vec(),
            Self::Remove => return None,
            Self::Flip(_) | Self::Number(_) => {}
        }
        Some(new)
    }
}

/// Changes an entry of a table with these keys.
macro_rules! change {
    ($transaction:expr, $name:expr, $entry:expr, $key:ty, $owned:expr, $by:ident, $new:expr) => {{
        let mut table = $transaction.open_table(TableDefinition::<$key, &[u8]>::new($name))?;
        let count = usize::try_from(redb::ReadableTableMetadata::len(&table)?).unwrap_or(0);
        let changed = match count {
            0 => None,
            count => {
                let found = table.iter()?.nth($entry % count).transpose()?;
                found.map(|(key, value)| ($owned(key.value()), $new(value.value())))
            }
        };
        match changed {
            Some((key, Some(new))) => {
                let new: Vec<u8> = new;
                table.insert(key.$by(), new.as_slice())?;
            }
            Some((key, None)) => _ = table.remove(key.$by())?,
            None => {}
        }
    }};
}

fn damage(database: &Database, changes: &[Damage<'_>]) -> std::result::Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for change in changes {
        let (entry, new) = (usize::from(change.entry), |old: &[u8]| change.how.of(old));
        match &TABLES[usize::from(change.table) % TABLES.len()] {
            Table::Text(name) => change!(transaction, *name, entry, &str, str::to_owned, as_str, new),
            Table::Bytes(name) => change!(transaction, *name, entry, &[u8], <[u8]>::to_vec, as_slice, new),
            Table::Number(name) => change!(transaction, *name, entry, u32, u32::from, clone, new),
            Table::Eight(name) => change!(transaction, *name, entry, [u8; 8], <[u8; 8]>::from, clone, new),
            Table::Twelve(name) => change!(transaction, *name, entry, [u8; 12], <[u8; 12]>::from, clone, new),
            Table::Numbers(name) => {
                let How::Number(number) = change.how else { continue };
                let mut table = transaction.open_table(TableDefinition::<&[u8], u32>::new(name))?;
                let found = table.iter()?.nth(entry % 3).transpose()?;
                if let Some(key) = found.map(|(key, _)| key.value().to_vec()) {
                    table.insert(key.as_slice(), number)?;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

async fn ask(index: &RedbIndex, question: u64) {
    for record in &*RECORDS {
        let instance = record.key.instance;
        let _ = index.lookup(&instance).await;
        let _ = index.frames(&instance, &Locator::new(b"other")).await;
        let _ = index.frames(&instance, &record.locator).await;
    }
    let one = &RECORDS[0].key;
    for scope in [
        Scope::All,
        Scope::Patient("P1".to_owned()),
        Scope::Study(one.study),
        Scope::Series(one.series),
        Scope::Instance(one.instance),
    ] {
        let _ = index
            .instances(scope.clone())
            .take(50)
            .try_collect::<Vec<_>>()
            .await;
        let _ = index.metadata(scope).take(50).try_collect::<Vec<_>>().await;
    }
    let mut random = Random::new(question);
    for _ in 0..3 {
        let query = world::any_query(&mut random, 1);
        let _ = index.query(query).take(50).try_collect::<Vec<_>>().await;
    }
    let _ = index.totals().await;
}

async fn change(index: &RedbIndex) {
    for change in [
        Change::Store(Box::new(RECORDS[1].clone())),
        Change::Store(Box::new(MORE.clone())),
        Change::Remove(RECORDS[0].key.instance),
        Change::Remove(Uid::constant("1.2.3")),
    ] {
        let _ = index.apply(vec![change], Sequence(10)).await;
    }
    let _ = index.flush().await;
}

// What redb itself doesn't stand is contained where it is called.
fuzz_target!(init: contain_decoders(), |input: Input| {
    let medium = DISK.crash(Loss::Process);
    let backend = MediumBackend::open(&medium, Path::new(PATH)).expect("the index is there");
    let database = redb::Builder::new().create_with_backend(backend).expect("it opens");
    if damage(&database, &input.changes).is_err() {
        return;
    }
    drop(database);
    let Ok(index) = open(&medium) else {
        return;
    };
    block_on(async {
        ask(&index, input.question).await;
        change(&index).await;
        ask(&index, input.question ^ 1).await;
    });
});
