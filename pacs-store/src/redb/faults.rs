//! Random batches on a medium that fails and dies: whatever happens, what is found afterwards is the
//! index as it was after some batch, none before the last flush that succeeded.

use std::sync::Arc;

use futures::executor::block_on;
use pacs_core::archive::Sequence;
use pacs_core::index::{Change, Index};
use pacs_core::testkit::random::{Random, rounds};
use pacs_core::testkit::world;
use pacs_core::uid::Uid;

use super::tests::{contents, file_keys};
use super::{RedbIndex, RedbIndexOptions};
use crate::layers::encrypt::FileKeys;
use crate::medium::{Faults, FaultyMedium, Loss};

/// Small, so that pages are written before a flush too.
const OPTIONS: RedbIndexOptions = RedbIndexOptions {
    cache_max_bytes: 96 * 1024,
};

fn open(medium: &FaultyMedium, keys: Option<&Arc<FileKeys>>) -> pacs_core::Result<RedbIndex> {
    let medium = Arc::new(medium.clone());
    match keys {
        Some(keys) => RedbIndex::open_encrypted_on(medium, "index.redb", Arc::clone(keys), OPTIONS),
        None => RedbIndex::open_on(medium, "index.redb", OPTIONS),
    }
}

fn any_changes(random: &mut Random, world: u64, known: &mut Vec<Uid>) -> Vec<Change> {
    (0..1 + random.below(12))
        .map(|_| {
            if !known.is_empty() && random.chance(4) {
                return Change::Remove(known.swap_remove(random.index(known.len())));
            }
            let record = world::any_record(random, world);
            known.push(record.key.instance);
            Change::Store(Box::new(record))
        })
        .collect()
}

fn any_faults(random: &mut Random) -> Faults {
    let mut faults = Faults::default();
    match random.below(4) {
        0 => faults.stop_after = Some(random.below(60)),
        1 => {
            faults.write = 20;
            faults.short_write = 100;
            faults.sync = 100;
            faults.other = 50;
        }
        2 => faults.read = 10,
        _ => {}
    }
    faults
}

#[test]
fn after_any_fault_the_index_is_what_it_was_after_some_batch_and_no_flush_is_lost() {
    run(None);
}

#[test]
fn after_any_fault_an_encrypted_index_is_what_it_was_after_some_batch_and_no_flush_is_lost() {
    run(Some(&file_keys()));
}

fn run(keys: Option<&Arc<FileKeys>>) {
    rounds(25, |random| {
        let world = random.bits();
        let mut medium = FaultyMedium::new(random.bits());
        // The batches that were applied, and how many are durable at least.
        let mut batches: Vec<Vec<Change>> = Vec::new();
        let mut durable = 0;
        let mut known = Vec::new();
        for _ in 0..4 {
            // One life: opened, perhaps on a medium that fails, until it ends somehow.
            medium.set_faults(any_faults(random));
            let mut life = open(&medium, keys);
            let mut unknown = None;
            if let Ok(index) = &life {
                for _ in 0..random.below(25) {
                    if random.chance(5) {
                        match block_on(index.flush()) {
                            Ok(water) => {
                                durable = batches.len();
                                assert_eq!(water, Sequence(durable as u64));
                            }
                            Err(_) => break,
                        }
                        continue;
                    }
                    let changes = any_changes(random, world, &mut known);
                    match block_on(index.apply(changes.clone(), Sequence(batches.len() as u64 + 1))) {
                        Ok(()) => batches.push(changes),
                        Err(_) => {
                            // An apply that failed has left nothing, or all.
                            unknown = Some(changes);
                            break;
                        }
                    }
                }
            }
            if random.chance(3) {
                // An orderly end, as orderly as the medium lets it be.
                life = Err(pacs_core::Error::new(
                    pacs_core::ErrorKind::Closed,
                    "test.end",
                    "closed",
                ));
            }
            let loss = *random.pick(&[Loss::Process, Loss::Machine]);
            medium = medium.crash(loss);
            drop(life);

            let mut index = open(&medium, keys).expect("the index opens on a whole medium");
            let found = block_on(index.low_water()).expect("low water").0 as usize;
            batches.extend(unknown.filter(|_| found > batches.len()));
            assert!(
                durable <= found && found <= batches.len(),
                "{durable} {found} {}",
                batches.len()
            );
            batches.truncate(found);
            let fresh = RedbIndex::with_backend(::redb::backends::InMemoryBackend::new(), OPTIONS)
                .expect("an index in memory");
            for (at, batch) in batches.iter().enumerate() {
                block_on(fresh.apply(batch.clone(), Sequence(at as u64 + 1))).expect("apply in memory");
            }
            assert!(
                contents(&index) == contents(&fresh),
                "the contents of batch {found}"
            );
            drop(fresh);
            let shared = Arc::get_mut(&mut index.shared).expect("nobody else has it");
            assert!(
                shared
                    .database
                    .get_mut()
                    .unwrap()
                    .as_mut()
                    .expect("open")
                    .check_integrity()
                    .expect("checked"),
                "the file is whole"
            );
            durable = found;
        }
    });
}
