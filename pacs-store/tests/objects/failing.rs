//! What is promised where the store fails, or another program comes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::executor::block_on;
use futures::future::join_all;
use object_store::{ObjectStore, ObjectStoreExt as _};
use pacs_core::testkit::archive::{begin, key, part10};
use pacs_core::testkit::random::rounds;
use pacs_core::{Archive as _, Entry, ErrorKind, InstanceKey, Locator, Sequence};
use pacs_store::{ObjectArchive, ObjectOptions};

use crate::faulty::{Faults, Faulty};
use crate::support::{read, scan};
use crate::{RUNTIME, in_memory, keep, objects, open, small};

/// What the course of events says is kept.
#[derive(Default)]
struct Model {
    kept: BTreeMap<Locator, (InstanceKey, Bytes)>,
    /// What was refused, and may be there after all if the program died before the store was back.
    refused: BTreeMap<InstanceKey, Bytes>,
    /// What may be removed or not.
    unclear: BTreeSet<Locator>,
    removed: BTreeSet<Locator>,
}

impl Model {
    fn compare(&mut self, archive: &ObjectArchive, died: bool) {
        let mut seen = BTreeSet::new();
        for entry in scan(archive, Sequence(0)).expect("is scanned") {
            let Entry::Stored(key, stored) = entry else {
                continue;
            };
            match self.kept.get(&stored.locator) {
                Some((kept, _)) => assert_eq!(*kept, key),
                None => {
                    let bytes = died.then(|| self.refused.remove(&key)).flatten();
                    let bytes =
                        bytes.expect("it was not refused, or the store was back before the program died");
                    self.kept.insert(stored.locator.clone(), (key, bytes));
                }
            }
            assert!(seen.insert(stored.locator));
        }
        for (locator, (_, bytes)) in &self.kept {
            match read(archive, locator) {
                Ok(read) => assert_eq!(&read, bytes),
                Err(error) => {
                    assert!(self.unclear.contains(locator), "{error}");
                    assert_eq!(error.kind(), ErrorKind::NotFound);
                    continue;
                }
            }
            assert!(seen.contains(locator));
        }
        // From here on it is settled whatever comes late.
        self.refused.clear();
        for locator in &self.removed {
            let gone = read(archive, locator).expect_err("is gone");
            assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
        }
    }
}

/// With the store whole again what was begun is settled, and something is taken again.
fn settle(archive: &ObjectArchive) {
    while block_on(archive.begin()).is_err() {
        std::thread::yield_now();
    }
}

#[test]
fn what_another_program_found_is_not_taken_back_by_one_that_did_not_know_whether_it_was_stored() {
    let inside = in_memory();
    let faulty = Faulty::new(Arc::clone(&inside), 1);
    let options = ObjectOptions {
        patience: Duration::from_millis(1),
        ..small()
    };
    let first = open(&(Arc::clone(&faulty) as Arc<dyn ObjectStore>), &options);
    let bytes = part10(&key(1), 1_000, 1);
    // It is stored, and no answer comes.
    faulty.set(Faults {
        unanswered: 1000,
        unread: 1000,
        ..Faults::default()
    });
    std::thread::scope(|threads| {
        let waits = threads.spawn(|| keep(&first, 1, &bytes));
        while block_on(first.begin()).is_ok() {
            std::thread::yield_now();
        }
        let second = open(&inside, &options);
        let found = scan(&second, Sequence(0)).expect("is scanned");
        let [Entry::Stored(found, stored)] = &found[..] else {
            panic!("{} entries", found.len());
        };
        assert_eq!(*found, key(1));
        faulty.set(Faults::default());
        let first = waits.join().expect("no panic").expect("it was stored");
        assert_eq!(first, *stored);
        assert_eq!(read(&second, &stored.locator).expect("is read"), bytes);
    });
    let refused = keep(&first, 2, &bytes).expect_err("it was taken away");
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
}

#[test]
fn where_a_pack_can_not_be_read_no_object_is_taken_for_one_that_nobody_names() {
    let store = in_memory();
    let archive = open(&store, &small());
    let bytes = part10(&key(1), 1_000_000, 1);
    keep(&archive, 1, &bytes).expect("is kept");
    drop(archive);
    let (path, pack) = objects(&store)
        .into_iter()
        .find(|(_, held)| held.windows(9).any(|window| window == b"1.2.3.0.0"))
        .expect("a pack names it");
    let put = |bytes: Vec<u8>| RUNTIME.block_on(store.put(&path, bytes.into())).expect("is put");
    let mut damaged = pack.to_vec();
    damaged[10] ^= 1;
    put(damaged);
    let archive = open(&store, &small());
    assert_eq!(scan(&archive, Sequence(0)).expect("is scanned"), []);
    keep(&archive, 2, &part10(&key(2), 100, 2)).expect("is kept");
    block_on(archive.indexed(Sequence(u64::MAX))).expect("is noted");
    drop(archive);
    // Mended, it is there again, also after an opening that passed over it.
    put(pack.to_vec());
    let archive = open(&store, &small());
    let found = scan(&archive, Sequence(0)).expect("is scanned");
    let Some(Entry::Stored(_, stored)) = found.first() else {
        panic!("{} entries", found.len());
    };
    assert_eq!(read(&archive, &stored.locator).expect("is read"), bytes);
}

#[test]
fn a_write_that_was_dropped_ends_its_instance_and_harms_no_other() {
    let store = in_memory();
    let archive = open(
        &store,
        &ObjectOptions {
            streams: 1,
            ..small()
        },
    );
    let large = part10(&key(1), 50_000, 1);
    let first = block_on(begin(&archive, &large, 16_000)).expect("is written");
    let mut second = block_on(archive.begin()).expect("begins");
    // It waits for the first, and is dropped.
    assert!(second.write(large.clone()).now_or_never().is_none());
    let ended = block_on(second.commit(key(2))).expect_err("it has ended");
    assert_eq!(ended.kind(), ErrorKind::Closed, "{ended}");
    let stored = block_on(first.commit(key(1))).expect("is kept");
    assert_eq!(read(&archive, &stored.locator).expect("is read"), large);
}

#[test]
fn an_archive_that_is_not_there_any_more_does_not_say_that_its_instances_were_removed() {
    let store = in_memory();
    let archive = open(&store, &small());
    let stored = keep(&archive, 1, &part10(&key(1), 1_000, 1)).expect("is kept");
    for (path, _) in objects(&store) {
        RUNTIME.block_on(store.delete(&path)).expect("is deleted");
    }
    let error = read(&archive, &stored.locator).expect_err("is not there");
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    let error = block_on(archive.remove(&key(1).instance, &stored.locator)).expect_err("is not there");
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
}

#[test]
fn on_a_store_that_fails_what_was_acknowledged_is_kept_and_what_was_refused_is_not() {
    rounds(40, |random| {
        let faulty = Faulty::new(in_memory(), random.bits());
        let store: Arc<dyn ObjectStore> = Arc::clone(&faulty) as Arc<dyn ObjectStore>;
        let options = ObjectOptions {
            patience: Duration::from_millis(*random.pick(&[1, 20])),
            window: Duration::from_millis(*random.pick(&[0, 5])),
            uploads: *random.pick(&[1, 4]),
            ..small()
        };
        let mut model = Model::default();
        let mut next = 0;
        for _ in 0..4 {
            faulty.set(Faults::default());
            let archive = open(&store, &options);
            model.compare(&archive, true);
            faulty.set(Faults {
                refused: *random.pick(&[0, 50, 300]),
                unanswered: *random.pick(&[0, 100, 300]),
                late: *random.pick(&[0, 100, 300]),
                unread: *random.pick(&[0, 100]),
            });
            for _ in 0..6 {
                let some: Vec<(u64, Bytes)> = (0..random.below(6))
                    .map(|_| {
                        next += 1;
                        let filling = *random.pick(&[10, 3_000, 30_000, 300_000]);
                        (next, part10(&key(next), filling, next))
                    })
                    .collect();
                let results = block_on(join_all(some.iter().map(|(n, bytes)| async {
                    begin(&archive, bytes, 16_000).await?.commit(key(*n)).await
                })));
                for ((n, bytes), result) in some.into_iter().zip(results) {
                    match result {
                        Ok(stored) => drop(model.kept.insert(stored.locator, (key(n), bytes))),
                        Err(_) => drop(model.refused.insert(key(n), bytes)),
                    }
                }
                let one = model.kept.iter().nth(random.below(8) as usize);
                if let Some((locator, (key, _))) = one.map(|(locator, kept)| (locator.clone(), kept.clone()))
                {
                    match block_on(archive.remove(&key.instance, &locator)) {
                        Ok(_) => {
                            model.kept.remove(&locator);
                            model.removed.insert(locator);
                        }
                        Err(_) => drop(model.unclear.insert(locator)),
                    }
                }
                match random.below(4) {
                    0 => drop(block_on(archive.compact())),
                    1 => drop(block_on(archive.indexed(Sequence(0)))),
                    _ => {}
                }
            }
            if random.below(2) == 0 {
                faulty.set(Faults::default());
                settle(&archive);
                model.compare(&archive, false);
                // A commit shows that it does.
                next += 1;
                let bytes = part10(&key(next), 100, next);
                let stored = keep(&archive, next, &bytes).expect("is kept");
                model.kept.insert(stored.locator, (key(next), bytes));
            }
        }
    });
}
