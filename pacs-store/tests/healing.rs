//! An index whose medium failed comes back by itself, and until it has it says so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt};
use pacs_core::query::{Model, QueryOptions};
use pacs_core::testkit::around::AroundIndex;
use pacs_core::testkit::engine::{instance, instance_uid};
use pacs_core::{
    DataSet, DimseService, DuplicatePolicy, Error, ErrorKind, Level, Options, Pacs, Query, Received, Result,
    Scope, Source, StoreOutcome,
};
use pacs_store::medium::{Faults, FaultyMedium, Loss};
use pacs_store::{MemoryArchive, MemoryIndex, RedbIndex, RedbIndexOptions, SegmentArchive, SegmentOptions};

/// Where archive and index are, each on a medium of its own.
struct Place {
    archive: FaultyMedium,
    index: FaultyMedium,
}

impl Place {
    fn new(seed: u64) -> Self {
        Self {
            archive: FaultyMedium::new(seed),
            index: FaultyMedium::new(seed + 1),
        }
    }

    fn open(&self) -> Pacs {
        self.open_with(DuplicatePolicy::default())
    }

    fn open_with(&self, duplicates: DuplicatePolicy) -> Pacs {
        let segments = SegmentOptions {
            reserve_bytes: 0,
            ..SegmentOptions::default()
        };
        let archive = SegmentArchive::open_on(Arc::new(self.archive.clone()), segments).expect("opens");
        let mut options = RedbIndexOptions::default();
        // Small, so that pages are written before a flush too.
        options.cache_max_bytes = 96 * 1024;
        let medium = Arc::new(self.index.clone());
        let index = RedbIndex::open_on(medium, "index.redb", options).expect("opens");
        let options = Options {
            checkpoint_interval: Duration::from_secs(3600),
            duplicates,
            ..Options::default()
        };
        block_on(Pacs::open(Arc::new(archive), Arc::new(index), options)).expect("opens")
    }

    /// The same after the machine died.
    fn crash(self) -> Self {
        Self {
            archive: self.archive.crash(Loss::Machine),
            index: self.index.crash(Loss::Machine),
        }
    }
}

fn dead() -> Faults {
    Faults {
        write: 1000,
        sync: 1000,
        read: 1000,
        other: 1000,
        ..Faults::default()
    }
}

fn store(pacs: &Pacs, number: u32) -> Result<Received> {
    let (announced, bytes) = instance(number / 10, number % 2, number, 0);
    block_on(async {
        let mut receipt = pacs.receive(announced).await?;
        receipt.write(bytes).await?;
        receipt.commit().await
    })
}

fn lookup(pacs: &Pacs, number: u32) -> Result<bool> {
    let uid = instance_uid(number / 10, number % 2, number);
    Ok(block_on(pacs.lookup(&uid))?.is_some())
}

fn find(pacs: &Pacs) -> Result<usize> {
    let mut keys = DataSet::new();
    keys.put_text(tags::SOP_INSTANCE_UID, VR::UI, "");
    let options = QueryOptions {
        relational: true,
        ..QueryOptions::default()
    };
    let query = Query::new(Model::StudyRoot, Level::Instance, keys, options);
    let found: Vec<DataSet> = block_on(pacs.find(&Source::default(), query)?.try_collect())?;
    Ok(found.len())
}

/// Everything that was acknowledged is found, and the index equals the archive.
fn check(pacs: &Pacs, acknowledged: &[u32]) {
    for number in acknowledged {
        assert!(lookup(pacs, *number).expect("is looked up"), "{number} is found");
    }
    let verified = block_on(pacs.verify(|_| ())).expect("is verified");
    assert_eq!(verified.damaged, vec![]);
    let totals = block_on(pacs.totals()).expect("totals");
    assert_eq!(totals.instances, verified.whole);
    assert_eq!(find(pacs).expect("is answered") as u64, verified.whole);
}

fn assert_try_again(error: &Error) {
    assert_eq!(error.dimse_status(DimseService::Store), 0xA700, "{error:?}");
    assert_eq!(error.dimse_status(DimseService::Find), 0xA700, "{error:?}");
    assert_eq!(error.dimse_status(DimseService::Move), 0xA701, "{error:?}");
}

#[test]
fn after_one_failure_of_the_indexs_medium_the_engine_goes_on_and_all_before_are_found() {
    let place = Place::new(1);
    let pacs = place.open();
    store(&pacs, 1).expect("is kept");
    block_on(pacs.checkpoint()).expect("a checkpoint");
    // Applied, and not flushed: the index forgets it, the archive doesn't.
    store(&pacs, 2).expect("is kept");
    place.index.set_faults(Faults {
        sync: 1000,
        ..Faults::default()
    });
    assert_try_again(&block_on(pacs.checkpoint()).expect_err("the medium failed"));
    place.index.set_faults(Faults::default());
    // What comes before the index is healed is refused, and nothing of it is kept. The first attempt may
    // have met the failure too; the second comes after two refusals.
    let mut refusals = 0;
    let outcome = loop {
        match store(&pacs, 3) {
            Ok(received) => break received.outcome,
            Err(error) => assert_try_again(&error),
        }
        refusals += 1;
        assert!(refusals < 5);
    };
    assert_eq!(outcome, StoreOutcome::New);
    check(&pacs, &[1, 2, 3]);
    block_on(pacs.checkpoint()).expect("a checkpoint");
}

#[test]
fn whichever_call_of_the_index_fails_nothing_acknowledged_is_missing_and_the_engine_goes_on() {
    let mut struck = 0;
    for fail_after in 0..120 {
        let place = Place::new(fail_after);
        let pacs = place.open();
        store(&pacs, 0).expect("is kept");
        place.index.set_faults(Faults {
            fail_after: Some(fail_after),
            ..Faults::default()
        });
        let mut acknowledged = vec![0];
        let mut failures = 0;
        for number in 1..12 {
            match store(&pacs, number) {
                Ok(_) => acknowledged.push(number),
                Err(error) => {
                    assert_try_again(&error);
                    failures += 1;
                }
            }
            if number % 3 == 0 {
                failures += u32::from(block_on(pacs.checkpoint()).is_err());
            }
        }
        // One failure may be seen by what it met and by what crossed with it; no more.
        assert!(failures <= 2, "{failures} failures at {fail_after}");
        struck += failures;
        place.index.set_faults(Faults::default());
        while store(&pacs, 12).is_err() {}
        acknowledged.push(12);
        check(&pacs, &acknowledged);
        drop(pacs);
        let place = place.crash();
        check(&place.open(), &acknowledged);
    }
    assert!(struck > 5, "the failures are felt: {struck}");
}

#[test]
fn while_the_indexs_medium_is_dead_every_answer_says_to_try_again_and_then_all_is_there() {
    let place = Place::new(7);
    let pacs = place.open();
    for number in 0..5 {
        store(&pacs, number).expect("is kept");
    }
    let stream = pacs.instances(Scope::All);
    place.index.set_faults(dead());
    block_on(pacs.checkpoint()).expect_err("the medium failed");
    for number in 5..100 {
        assert_try_again(&store(&pacs, number).expect_err("is refused"));
        assert_try_again(&lookup(&pacs, 1).expect_err("is refused"));
        assert_try_again(&find(&pacs).expect_err("is refused"));
        assert_try_again(&block_on(pacs.totals()).expect_err("is refused"));
        let removed = block_on(pacs.remove(&instance_uid(0, 1, 1)));
        assert_try_again(&removed.expect_err("is refused"));
    }
    // Begun before, it does not end as if that were all.
    let items: Vec<Result<_>> = block_on(stream.collect());
    assert!(items.last().is_some_and(Result::is_err));
    place.index.set_faults(Faults::default());
    // Refusals bring about the next attempt; they are counted, so it comes.
    while store(&pacs, 100).is_err() {}
    check(&pacs, &[0, 1, 2, 3, 4, 100]);
    assert_eq!(find(&pacs).expect("is answered"), 6);
    drop(pacs);
    check(&place.crash().open(), &[0, 1, 2, 3, 4, 100]);
}

#[test]
fn questions_alone_bring_the_index_back() {
    let place = Place::new(3);
    let pacs = place.open();
    store(&pacs, 1).expect("is kept");
    place.index.set_faults(dead());
    block_on(pacs.checkpoint()).expect_err("the medium failed");
    place.index.set_faults(Faults::default());
    while lookup(&pacs, 1).is_err() {
        std::thread::yield_now();
    }
    check(&pacs, &[1]);
}

#[test]
fn an_index_that_is_open_again_and_behind_its_archive_denies_nothing() {
    let place = Place::new(5);
    let pacs = place.open();
    store(&pacs, 1).expect("is kept");
    place.archive.set_faults(Faults {
        read: 1000,
        ..Faults::default()
    });
    place.index.set_faults(Faults {
        fail_after: Some(0),
        ..Faults::default()
    });
    block_on(pacs.checkpoint()).expect_err("the medium failed");
    // Each attempt opens the index, which has forgotten the instance, and can't ask the archive.
    for _ in 0..200 {
        assert_try_again(&lookup(&pacs, 1).expect_err("is refused"));
        assert_try_again(&find(&pacs).expect_err("is refused"));
        assert_try_again(&store(&pacs, 2).expect_err("is refused"));
    }
    place.archive.set_faults(Faults::default());
    while store(&pacs, 2).is_err() {}
    check(&pacs, &[1, 2]);
}

/// Sends an instance of the same shape and length under one UID.
fn send(pacs: &Pacs, version: u32) -> Result<Received> {
    let (announced, bytes) = instance(1, 1, 1, version);
    block_on(async {
        let mut receipt = pacs.receive(announced).await?;
        receipt.write(bytes).await?;
        receipt.commit().await
    })
}

#[test]
fn a_kept_instance_that_cannot_be_read_just_now_is_not_replaced_against_the_policy() {
    for policy in [DuplicatePolicy::KeepFirst, DuplicatePolicy::Refuse] {
        let place = Place::new(11);
        let pacs = place.open_with(policy);
        let first = send(&pacs, 0).expect("it is kept");
        place.archive.set_faults(Faults {
            read: 1000,
            ..Faults::default()
        });
        let refused = send(&pacs, 1).expect_err("it can't be compared");
        assert_eq!(refused.kind(), ErrorKind::Io, "{policy:?}");
        place.archive.set_faults(Faults::default());
        let kept = block_on(pacs.lookup(&first.record.key.instance)).expect("the index answers");
        assert_eq!(kept.as_ref(), Some(&*first.record), "{policy:?}");
        match send(&pacs, 1) {
            Ok(received) => assert_eq!(received.outcome, StoreOutcome::FirstKept),
            Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists),
        }
    }
}

#[test]
fn an_index_that_was_away_agrees_with_its_archive_again_also_where_nobody_asks() {
    let (opened, told) = channel();
    // As one at the other end of a line is.
    let is_away = Arc::new(AtomicBool::new(false));
    let asked = |is_away: &AtomicBool| match is_away.load(Ordering::SeqCst) {
        false => Ok(()),
        true => Err(Error::new(ErrorKind::Io, "test.index", "the line is cut")),
    };
    let (of_applying, of_opening) = (Arc::clone(&is_away), Arc::clone(&is_away));
    let opened = Mutex::new(opened);
    let index = AroundIndex::new(Arc::new(MemoryIndex::new()))
        .applying(move |_| asked(&of_applying))
        .reopening(move || {
            asked(&of_opening)?;
            let opened = opened.lock().expect("nobody panicked");
            opened.send(()).expect("the test waits");
            Ok(())
        });
    let archive = Arc::new(MemoryArchive::new());
    let pacs = block_on(Pacs::open(archive, Arc::new(index), Options::default())).expect("opens");
    store(&pacs, 1).expect("is kept");
    is_away.store(true, Ordering::SeqCst);
    assert_try_again(&store(&pacs, 2).expect_err("is refused"));
    is_away.store(false, Ordering::SeqCst);
    told.recv().expect("it is opened again");
    store(&pacs, 2).expect("is kept");
    check(&pacs, &[1, 2]);
}
