//! What a database keeps that speaks PostgreSQL's protocol: the same promises as everywhere else. Where PostgreSQL's
//! programs are missing, nothing is tested, with a word about it; with `PACS_REQUIRE_PEERS` that is a failure.
#![cfg(feature = "postgres")]

#[path = "support/postgres.rs"]
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use dicom_dictionary_std::tags;
use futures::TryStreamExt as _;
use futures::executor::block_on;
use futures::future::join_all;
use pacs_core::index::{Change, InstanceRecord, Scope, Totals};
use pacs_core::ledger::LedgerExt as _;
use pacs_core::query::{Model, QueryOptions};
use pacs_core::testkit::engine::{instance, instance_uid};
use pacs_core::testkit::index::IndexPlace;
use pacs_core::testkit::ledger::LedgerPlace;
use pacs_core::testkit::random::{Random, rounds};
use pacs_core::testkit::world::any_record;
use pacs_core::{
    DataSet, ErrorKind, Index, Ledger, Level, Options, Query, Sequence, Source, Step, Uid, index_conformance,
    ledger_conformance,
};
use pacs_store::embedded::{Database, Encryption, Settings, Store};
use pacs_store::{
    Postgres, PostgresIndex, PostgresLedger, PostgresOptions, RedbIndex, RedbIndexOptions, RedbLedger,
};
use redb::backends::InMemoryBackend;
use server::Server;

/// A schema of its own.
struct Place(Option<(&'static Server, PostgresOptions)>);

impl Place {
    fn new() -> Self {
        Self(Server::shared().map(|server| (server, server.schema())))
    }

    fn database(&self) -> Postgres {
        let (server, options) = self.0.as_ref().expect("the server is there");
        Postgres::open(&server.url, options.clone()).expect("opens")
    }
}

impl LedgerPlace for Place {
    fn open(&self) -> Arc<dyn Ledger> {
        Arc::new(PostgresLedger::new(self.database()))
    }

    fn is_there(&self) -> bool {
        self.0.is_some()
    }
}

ledger_conformance!(ledger, Place::new());

/// The same for an index.
struct IndexHere(Place);

impl IndexPlace for IndexHere {
    fn open(&self) -> Arc<dyn Index> {
        Arc::new(PostgresIndex::new(self.0.database()).expect("opens"))
    }

    fn is_there(&self) -> bool {
        self.0.is_there()
    }
}

index_conformance!(index, IndexHere(Place::new()));

#[test]
fn many_who_open_a_schema_at_once_make_it_once() {
    let place = Place::new();
    if !place.is_there() {
        return;
    }
    std::thread::scope(|scope| {
        let opened: Vec<_> = (0..8).map(|_| scope.spawn(|| place.open())).collect();
        for ledger in opened {
            let ledger = ledger.join().expect("opens");
            assert_eq!(block_on(ledger.get(b"a")).expect("is asked"), None);
        }
    });
}

#[test]
fn what_is_asked_while_the_database_restarts_is_answered_afterwards() {
    let Some(server) = Server::own() else { return };
    let database = Postgres::open(&server.url, server.schema()).expect("opens");
    let ledger = PostgresLedger::new(database);
    for round in 0..3 {
        let key = Bytes::from(format!("key {round}"));
        server.stop();
        let asked = ledger.get(&key);
        server.start();
        assert_eq!(block_on(asked).expect("is asked again"), None);
        let put = Step::Put(key.clone(), key.clone());
        assert!(block_on(ledger.apply(vec![put])).expect("is applied"));
        assert_eq!(block_on(ledger.get(&key)).expect("is asked"), Some(key));
    }
}

#[test]
fn who_is_not_let_in_and_what_is_no_database_is_told_so() {
    let Some(server) = Server::shared() else { return };
    let refused = |url: &str| {
        let opened = Postgres::open(url, server.schema());
        opened.expect_err("is refused").kind()
    };
    assert_eq!(
        refused(&format!("{}nowhere", server.url.trim_end_matches("postgres"))),
        ErrorKind::Invalid
    );
    assert_eq!(refused("not a URL"), ErrorKind::Invalid);
    assert_eq!(
        refused(&server.url.replace("postgres@", "nobody@")),
        ErrorKind::Refused
    );
}

#[test]
fn over_tls_a_server_is_believed_by_its_authority_and_its_name_alone() {
    let Some(server) = Server::shared() else { return };
    let opened = |host: &str, authorities: Option<&std::path::Path>| {
        let url = format!("{}?sslmode=require", server.url.replace("127.0.0.1", host));
        let mut options = server.schema();
        options.authorities = authorities.map(std::path::Path::to_owned);
        options.patience = std::time::Duration::from_secs(1);
        Postgres::open(&url, options)
    };
    let certificate = Some(&*server.certificate);
    let database = opened("localhost", certificate).expect("opens");
    let ledger = PostgresLedger::new(database);
    assert_eq!(block_on(ledger.get(b"a")).expect("is asked"), None);
    for (host, authorities) in [("127.0.0.1", certificate), ("localhost", None)] {
        let refused = opened(host, authorities).expect_err("is not believed");
        assert_eq!(refused.kind(), ErrorKind::Io, "{host}: {refused}");
    }
    let refused =
        opened("localhost", Some(std::path::Path::new("/dev/null"))).expect_err("there is none in it");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

#[test]
fn those_who_come_to_one_ledger_from_several_places_lose_no_change() {
    let place = Place::new();
    if !place.is_there() {
        return;
    }
    const PLACES: usize = 3;
    const TIMES: usize = 40;
    let count =
        |old: Option<&Bytes>| old.map_or(0, |old| u64::from_be_bytes(old[..].try_into().expect("8 bytes")));
    std::thread::scope(|scope| {
        for own in 0..PLACES {
            let ledger = place.open();
            scope.spawn(move || {
                for time in 0..TIMES {
                    let keys = [b"one", b"two"];
                    let key = Bytes::from_static(keys[(own + time) % 2]);
                    let changed = ledger.update(key, |old| {
                        let new = Bytes::copy_from_slice(&(count(old) + 1).to_be_bytes());
                        let own = Bytes::from(format!("{own} {time}"));
                        let absent = Step::Expect(own.clone(), None);
                        Ok((Some(new), vec![absent, Step::Put(own, Bytes::new())], ()))
                    });
                    block_on(changed).expect("is changed");
                }
            });
        }
    });
    let ledger = place.open();
    let of = |key: &'static [u8]| count(block_on(ledger.get(key)).expect("is asked").as_ref());
    assert_eq!(of(b"one") + of(b"two"), (PLACES * TIMES) as u64);
}

#[test]
fn what_was_applied_while_the_database_dies_again_and_again_is_there() {
    let Some(server) = Server::own() else { return };
    let options = server.schema();
    let database = Postgres::open(&server.url, options.clone()).expect("opens");
    let ledger = PostgresLedger::new(database);
    let key = |number: u32| Bytes::copy_from_slice(&number.to_be_bytes());
    let put = |number| Step::Put(key(number), key(number));
    let is_over = AtomicBool::new(false);
    let applied = std::thread::scope(|scope| {
        let applying = scope.spawn(|| {
            let (mut number, mut applied) = (0, Vec::new());
            while !is_over.load(Ordering::Relaxed) {
                // Several wait for one transaction.
                let numbers = [number, number + 1, number + 2];
                let asked =
                    numbers.map(|number| ledger.apply(vec![Step::Expect(key(number), None), put(number)]));
                let answers = block_on(join_all(asked));
                applied.extend(numbers.into_iter().zip(answers));
                number += 3;
            }
            applied
        });
        for _ in 0..4 {
            server.stop();
            server.start();
            // Something was applied in between.
            block_on(ledger.apply(vec![put(u32::MAX)])).expect("it is there again");
        }
        is_over.store(true, Ordering::Relaxed);
        applying.join().expect("nothing panicked")
    });
    let all = block_on(ledger.range(key(0)..key(u32::MAX), usize::MAX)).expect("is asked");
    for (number, answer) in &applied {
        let is_there = all.binary_search(&(key(*number), key(*number))).is_ok();
        match answer {
            Ok(answer) => assert_eq!(*answer, is_there, "{number}"),
            // The connection broke when it was to be committed: nobody knows.
            Err(error) => assert_eq!(error.kind(), ErrorKind::Io, "{error}"),
        }
    }
    assert!(applied.iter().any(|(_, answer)| matches!(answer, Ok(true))));
}

#[test]
fn what_two_places_want_at_once_is_done_one_behind_the_other() {
    let place = Place::new();
    if !place.is_there() {
        return;
    }
    let (one, other) = (place.open(), place.open());
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    for round in 0..60 {
        let ledgers = [&one, &other];
        let start = std::sync::Barrier::new(2);
        let (first, second) = (bytes("k"), bytes("x"));
        std::thread::scope(|scope| {
            for (own, ledger) in ledgers.into_iter().enumerate() {
                let (first, second, start) = (&first, &second, &start);
                scope.spawn(move || {
                    let value = bytes(["one", "other"][own]);
                    let mut steps = vec![match own {
                        0 => Step::Put(first.clone(), value.clone()),
                        _ => Step::Delete(first.clone()),
                    }];
                    steps.push(Step::Put(second.clone(), value));
                    // In either order.
                    if (round + own) % 2 == 0 {
                        steps.reverse();
                    }
                    start.wait();
                    assert!(block_on(ledger.apply(steps)).expect("is applied"));
                });
            }
        });
        let of = |key: &Bytes| block_on(one.get(key)).expect("is asked");
        let expected = match of(&second) {
            Some(last) if last == "one" => Some(bytes("one")),
            _ => None,
        };
        assert_eq!(of(&first), expected, "round {round}");
    }
}

#[test]
fn a_key_that_is_longer_than_any_has_no_value_and_costs_nobody_else_anything() {
    let place = Place::new();
    if !place.is_there() {
        return;
    }
    let ledger = place.open();
    let mut random = Random::new(1);
    let long: Vec<u8> = (0..20_000).map(|_| random.bits() as u8).collect();
    let long = Bytes::from(long);
    let put = Step::Put(Bytes::from_static(b"a"), Bytes::from_static(b"1"));
    let asked = [
        ledger.apply(vec![
            Step::Expect(long.clone(), None),
            Step::Delete(long.clone()),
            put.clone(),
        ]),
        ledger.apply(vec![
            Step::Expect(long.clone(), Some(long)),
            Step::Delete(Bytes::from_static(b"a")),
        ]),
        ledger.apply(vec![put]),
    ];
    let answers = block_on(join_all(asked));
    let answers: Vec<bool> = answers
        .into_iter()
        .map(|answer| answer.expect("is answered"))
        .collect();
    assert_eq!(answers, [true, false, true]);
    assert_eq!(
        block_on(ledger.get(b"a")).expect("is asked"),
        Some(Bytes::from_static(b"1"))
    );
}

/// Some changes of a small world.
fn any_changes(random: &mut Random, world: u64, known: &mut Vec<Uid>) -> Vec<Change> {
    (0..1 + random.below(12))
        .map(|_| {
            if !known.is_empty() && random.chance(4) {
                return Change::Remove(known.swap_remove(random.index(known.len())));
            }
            let record = any_record(random, world);
            known.push(record.key.instance);
            Change::Store(Box::new(record))
        })
        .collect()
}

/// What an index knows, in whatever order.
fn contents(index: &dyn Index) -> (Totals, Vec<InstanceRecord>, Vec<DataSet>) {
    let all: Vec<_> = block_on(index.instances(Scope::All).try_collect()).expect("is read");
    let mut all: Vec<InstanceRecord> = all;
    all.sort_unstable_by_key(|record| record.key.instance);
    let query = Query::new(
        Model::StudyRoot,
        Level::Study,
        DataSet::default(),
        QueryOptions::default(),
    );
    let studies: Vec<_> = block_on(index.query(query).try_collect()).expect("is read");
    let mut studies: Vec<DataSet> = studies;
    studies.sort_unstable_by_key(|study| study.uid(tags::STUDY_INSTANCE_UID).expect("has its UID"));
    (block_on(index.totals()).expect("is read"), all, studies)
}

fn of_batches(batches: &[Vec<Change>]) -> (Totals, Vec<InstanceRecord>, Vec<DataSet>) {
    let index = RedbIndex::with_backend(InMemoryBackend::new(), RedbIndexOptions::default()).expect("opens");
    for batch in batches {
        block_on(index.apply(batch.clone(), Sequence(1))).expect("is applied");
    }
    contents(&index)
}

#[test]
fn who_opened_an_index_last_is_the_one_that_writes_and_knows_what_the_others_did() {
    if !Place::new().is_there() {
        return;
    }
    rounds(6, |random| {
        let place = Place::new();
        let open = || PostgresIndex::new(place.database()).expect("opens");
        let mut index = open();
        let world = random.bits();
        let (mut batches, mut known) = (Vec::new(), Vec::new());
        for at in 0..30 {
            let changes = any_changes(random, world, &mut known);
            if random.chance(6) {
                let before = std::mem::replace(&mut index, open());
                let refused = block_on(before.apply(changes.clone(), Sequence(9)));
                assert_eq!(refused.expect_err("is refused").kind(), ErrorKind::Refused);
                let refused = block_on(before.reopen());
                assert_eq!(refused.expect_err("is refused").kind(), ErrorKind::Refused);
                let water = block_on(before.low_water()).expect("reads on");
                assert_eq!(water, Sequence(at));
            }
            block_on(index.apply(changes.clone(), Sequence(at + 1))).expect("is applied");
            batches.push(changes);
        }
        assert!(
            contents(&index) == of_batches(&batches),
            "it is that of all batches"
        );
    });
}

#[test]
fn a_database_that_went_back_behind_what_it_had_committed_is_brought_up_to_the_archive() {
    let Some(server) = Server::shared() else { return };
    let schema = server.schema().schema;
    let data = tempfile::tempdir().expect("a directory");
    let settings = store_settings(data.path(), server, &schema);
    let store = Store::open_or_make(&settings, Options::default()).expect("opens");
    (1..=3).for_each(|number| import(&store, number));
    // As a standby has it that is behind when it takes over.
    let tables = [
        "writer",
        "meta",
        "study_uids",
        "series_uids",
        "instance_uids",
        "patients",
        "studies",
        "series",
        "instances",
        "large",
        "frames",
        "metadata",
        "keys",
    ];
    let copies =
        tables.map(|table| format!("CREATE TABLE {schema}.was_{table} AS TABLE {schema}.index_{table};"));
    server.sql(&copies.concat());
    (4..=6).for_each(|number| import(&store, number));
    assert_eq!(instances(&store), 6);
    let back = tables.map(|table| {
        format!("DELETE FROM {schema}.index_{table}; INSERT INTO {schema}.index_{table} TABLE {schema}.was_{table};")
    });
    server.sql(&back.concat());
    import(&store, 7);
    assert_eq!(instances(&store), 7);
    for number in 1..=7 {
        let found = block_on(store.pacs.lookup(&uid(number))).expect("is asked");
        assert!(found.is_some(), "{number}");
    }
}

#[test]
fn whenever_the_database_dies_an_index_knows_all_of_a_batch_or_nothing_and_every_one_that_was_applied() {
    let Some(server) = Server::own() else { return };
    let options = server.schema();
    rounds(1, |random| {
        let index =
            PostgresIndex::new(Postgres::open(&server.url, options.clone()).expect("opens")).expect("opens");
        block_on(index.clear()).expect("is emptied");
        let (world, seed) = (random.bits(), random.bits());
        let is_over = AtomicBool::new(false);
        let (applied, told) = std::sync::mpsc::channel();
        let batches = std::thread::scope(|scope| {
            let (index, is_ended) = (&index, &is_over);
            let applying = scope.spawn(move || {
                let mut random = Random::new(seed);
                let (mut batches, mut known) = (Vec::new(), Vec::new());
                while !is_ended.load(Ordering::Relaxed) {
                    let changes = any_changes(&mut random, world, &mut known);
                    let water = batches.len() as u64 + 1;
                    match block_on(index.apply(changes.clone(), Sequence(water))) {
                        Ok(()) => {
                            batches.push(changes);
                            let _ = applied.send(());
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
                            // Nobody knows but the index.
                            let now = block_on(index.low_water()).expect("it is there again");
                            if now == Sequence(water) {
                                batches.push(changes);
                            }
                        }
                    }
                }
                batches
            });
            for _ in 0..4 {
                server.stop();
                server.start();
                // Something was applied in between.
                told.try_iter().for_each(drop);
                told.recv().expect("it is there again");
            }
            is_over.store(true, Ordering::Relaxed);
            applying.join().expect("nothing panicked")
        });
        assert_eq!(
            block_on(index.low_water()).expect("is asked"),
            Sequence(batches.len() as u64)
        );
        assert!(
            contents(&index) == of_batches(&batches),
            "the index is that of {} batches",
            batches.len()
        );
    });
}

/// A data directory whose index and ledger are in the database.
fn store_settings(data: &std::path::Path, server: &Server, schema: &str) -> Settings {
    let mut database = Database::at(&server.url);
    database.schema = schema.to_owned();
    Settings {
        data: data.to_owned(),
        database: Some(database),
        ..Settings::default()
    }
}

fn file(number: u32) -> Bytes {
    instance(1, 1, number, 0).1
}

fn uid(number: u32) -> Uid {
    instance_uid(1, 1, number)
}

fn import(store: &Store, number: u32) {
    let file = futures::stream::iter([Ok(file(number))]);
    block_on(store.pacs.import(Source::default(), file)).expect("is kept");
}

fn instances(store: &Store) -> u64 {
    block_on(store.pacs.totals()).expect("is asked").instances
}

#[test]
fn a_data_directory_goes_to_a_database_with_its_ledger_and_not_back_without() {
    let Some(server) = Server::shared() else { return };
    let schema = server.schema().schema;
    let data = tempfile::tempdir().expect("a directory");
    let in_database = store_settings(data.path(), server, &schema);
    let in_files = Settings {
        database: None,
        ..in_database.clone()
    };
    let key = Bytes::from_static(b"something that waits");
    {
        let store = Store::open_or_make(&in_files, Options::default()).expect("opens");
        import(&store, 1);
        store.pacs.close().expect("closes");
    }
    let ledger = RedbLedger::open(data.path().join("ledger.redb")).expect("opens");
    let entries = (0..150_u32).map(|at| Step::Put(at.to_be_bytes().to_vec().into(), key.clone()));
    assert!(block_on(ledger.apply(entries.collect())).expect("is applied"));
    drop(ledger);
    {
        let store = Store::open(&in_database, Options::default()).expect("opens");
        assert_eq!(instances(&store), 1, "the index is made from the archive");
        import(&store, 2);
        let second = Store::open(&in_database, Options::default());
        assert_eq!(
            second.map(drop).expect_err("is in use").kind(),
            ErrorKind::Refused
        );
        store.pacs.close().expect("closes");
    }
    let mut options = PostgresOptions::default();
    options.schema.clone_from(&schema);
    let ledger = PostgresLedger::new(Postgres::open(&server.url, options).expect("opens"));
    for at in 0..150_u32 {
        assert_eq!(
            block_on(ledger.get(&at.to_be_bytes())).expect("is asked"),
            Some(key.clone())
        );
    }
    assert!(!data.path().join("ledger.redb").exists());
    let store = Store::open(&in_database, Options::default()).expect("opens");
    assert_eq!(instances(&store), 2);
    assert!(!store.attributes_changed());
    drop(store);

    // What is found there later is somebody else's.
    let stale = RedbLedger::open(data.path().join("ledger.redb")).expect("opens");
    let old = Step::Put(0_u32.to_be_bytes().to_vec().into(), Bytes::from_static(b"old"));
    assert!(block_on(stale.apply(vec![old])).expect("is applied"));
    drop((
        stale,
        Store::open(&in_database, Options::default()).expect("opens"),
    ));
    assert_eq!(
        block_on(ledger.get(&0_u32.to_be_bytes())).expect("is asked"),
        Some(key)
    );

    let kind = |opened: pacs_core::Result<Store>| opened.map(drop).expect_err("is refused").kind();
    let without = Store::open(&in_files, Options::default());
    assert_eq!(kind(without), ErrorKind::Mismatch);
    let rebuilt = Store::rebuild(&in_files);
    assert_eq!(rebuilt.expect_err("is refused").kind(), ErrorKind::Mismatch);
    let nowhere = store_settings(data.path(), server, &server.schema().schema);
    assert_eq!(
        kind(Store::open(&nowhere, Options::default())),
        ErrorKind::Mismatch
    );
    let other = tempfile::tempdir().expect("a directory");
    let other = store_settings(other.path(), server, &schema);
    let refused = Store::open_or_make(&other, Options::default());
    assert_eq!(kind(refused), ErrorKind::Mismatch);
    let in_files = Settings {
        database: None,
        ..other
    };
    // Nothing of it went to the database.
    drop(Store::open_or_make(&in_files, Options::default()).expect("opens"));
    let encrypted = Settings {
        encryption: Some(Encryption::default()),
        ..in_database.clone()
    };
    assert_eq!(
        kind(Store::open(&encrypted, Options::default())),
        ErrorKind::Invalid
    );
}

#[test]
fn an_index_in_a_database_is_made_anew_from_the_archive_alone() {
    let Some(server) = Server::shared() else { return };
    let data = tempfile::tempdir().expect("a directory");
    let settings = store_settings(data.path(), server, &server.schema().schema);
    let store = Store::open_or_make(&settings, Options::default()).expect("opens");
    (1..=5).for_each(|number| import(&store, number));
    store.pacs.close().expect("closes");
    drop(store);
    // Something that the archive does not have, something that is missing, and no state that can be read.
    let mut options = PostgresOptions::default();
    options
        .schema
        .clone_from(&settings.database.as_ref().expect("is set").schema);
    let index = PostgresIndex::new(Postgres::open(&server.url, options).expect("opens")).expect("opens");
    let mut random = Random::new(1);
    let changes = vec![
        Change::Store(Box::new(any_record(&mut random, 1))),
        Change::Remove(uid(3)),
    ];
    let water = block_on(index.low_water()).expect("is asked");
    block_on(index.apply(changes, water)).expect("is applied");
    drop(index);
    let schema = &settings.database.as_ref().expect("is set").schema;
    server.sql(&format!("UPDATE {schema}.index_meta SET value = '\\xffffffff'"));
    let damaged = Store::open(&settings, Options::default());
    assert!(
        damaged
            .map(drop)
            .expect_err("is damaged")
            .operation()
            .starts_with("index.")
    );
    let rebuilt = Store::rebuild(&settings).expect("is rebuilt");
    assert_eq!(
        (rebuilt.instances, rebuilt.unreadable, rebuilt.compared),
        (5, 0, false)
    );
    let store = Store::open(&settings, Options::default()).expect("opens");
    assert_eq!(instances(&store), 5);
    let found = block_on(store.pacs.lookup(&uid(3)));
    assert!(found.expect("is asked").is_some());
}

#[test]
fn when_the_database_is_back_the_store_goes_on_by_itself_and_has_all_that_it_took() {
    let Some(server) = Server::own() else { return };
    let data = tempfile::tempdir().expect("a directory");
    let settings = store_settings(data.path(), &server, &server.schema().schema);
    let store = Store::open_or_make(&settings, Options::default()).expect("opens");
    import(&store, 1);
    server.stop();
    let refused = block_on(
        store
            .pacs
            .import(Source::default(), futures::stream::iter([Ok(file(2))])),
    );
    assert_eq!(refused.map(drop).expect_err("is refused").kind(), ErrorKind::Io);
    server.start();
    // As a sender does that comes again and again.
    let again = || {
        block_on(
            store
                .pacs
                .import(Source::default(), futures::stream::iter([Ok(file(2))])),
        )
    };
    let begin = std::time::Instant::now();
    while let Err(error) = again() {
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(
            begin.elapsed() < std::time::Duration::from_secs(120),
            "it goes on"
        );
    }
    import(&store, 3);
    assert_eq!(instances(&store), 3);
}

#[test]
fn who_has_a_schema_has_it_alone_until_it_is_closed() {
    let Some(server) = Server::shared() else { return };
    let mut options = server.schema();
    let first = Postgres::open(&server.url, options.clone()).expect("opens");
    assert_eq!(first.claim("one", true).expect("is free").as_deref(), Some("one"));
    options.patience = std::time::Duration::from_millis(300);
    let second = Postgres::open(&server.url, options.clone()).expect("opens");
    let refused = second.claim("one", true).expect_err("is refused");
    assert_eq!(refused.kind(), ErrorKind::Refused);
    drop((first, second));
    options.patience = server.schema().patience;
    let third = Postgres::open(&server.url, options).expect("opens");
    let owner = third.claim("other", true).expect("is free again");
    assert_eq!(owner.as_deref(), Some("one"), "it stays whose it was");
    let empty = Postgres::open(&server.url, server.schema()).expect("opens");
    assert_eq!(empty.claim("one", false).expect("is free"), None);
}
