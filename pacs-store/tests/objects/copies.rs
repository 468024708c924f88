//! One of two copies in an object store: what that one loses is found and kept anew, and never served.

use std::collections::BTreeMap;

use futures::stream;
use pacs_core::engine::VerifyOptions;
use pacs_core::testkit::random::{Random, rounds};
use pacs_core::{Pacs, Scope};
use pacs_store::{
    MemoryIndex, MemoryLedger, ReplicateOptions, ReplicatedArchive, SegmentArchive, SegmentOptions,
};

use super::*;

fn segment(directory: &tempfile::TempDir) -> Arc<dyn Archive> {
    let options = SegmentOptions {
        reserve_bytes: 0,
        ..SegmentOptions::default()
    };
    Arc::new(SegmentArchive::open(directory.path(), options).expect("opens"))
}

fn replicated(
    first: Arc<dyn Archive>,
    second: impl Fn() -> Arc<dyn Archive> + Send + Sync + 'static,
) -> Arc<ReplicatedArchive> {
    let (second, notes) = (Box::new(move || Ok(second())), Arc::new(MemoryLedger::new()));
    let opened = ReplicatedArchive::open(first, second, notes, ReplicateOptions::default());
    Arc::new(opened.expect("opens"))
}

archive_conformance!(a_segment_archive_with_copies_in_objects, {
    let directory = tempfile::tempdir().expect("a directory");
    let store = in_memory();
    move || {
        let store = Arc::clone(&store);
        let ledger = pacs_store::RedbLedger::open(directory.path().join("copies.redb")).expect("opens");
        let opened = ReplicatedArchive::open(
            segment(&directory),
            Box::new(move || Ok(Arc::new(open(&store, &small())) as Arc<dyn Archive>)),
            Arc::new(ledger),
            ReplicateOptions::default(),
        );
        opened.expect("opens")
    }
});

/// Takes objects with instances away, shortens some and flips bits in the others. Answers how many were touched.
fn damage(store: &Arc<dyn ObjectStore>, random: &mut Random) -> usize {
    let with_instances = objects(store).into_iter();
    let with_instances = with_instances.filter(|(_, held)| held.windows(4).any(|window| window == b"DICM"));
    let mut touched = 0;
    for (path, held) in with_instances {
        let what = random.below(4);
        touched += usize::from(what < 3);
        let mut changed = held.to_vec();
        match what {
            0 => RUNTIME.block_on(store.delete(&path)).expect("is deleted"),
            1 => changed.truncate(random.index(changed.len())),
            2 => {
                for _ in 0..20 {
                    let at = random.index(changed.len());
                    changed[at] ^= 1 << random.below(8);
                }
            }
            _ => {}
        }
        if what == 1 || what == 2 {
            let put = store.put(&path, changed.into());
            RUNTIME.block_on(put).expect("is put");
        }
    }
    touched
}

#[test]
fn objects_that_are_lost_shortened_or_changed_are_found_and_kept_anew_and_nothing_of_them_is_served() {
    let mut repairing = VerifyOptions::default();
    repairing.repair = true;
    rounds(3, |random| {
        let (directory, store) = (tempfile::tempdir().expect("a directory"), in_memory());
        let there = Arc::clone(&store);
        let archive = replicated(segment(&directory), move || Arc::new(open(&there, &small())));
        let opened = Pacs::open(archive.clone(), Arc::new(MemoryIndex::new()), Options::default());
        let pacs = block_on(opened).expect("opens");
        let mut kept = BTreeMap::new();
        for n in 0..60 {
            let bytes = part10(&key(n), *random.pick(&[500, 3_000, 70_000, 300_000]), n + 1);
            let pieces = stream::iter([Ok(bytes.clone())]);
            block_on(pacs.import(Source::default(), pieces)).expect("is kept");
            kept.insert(key(n).instance, bytes);
        }
        let check = || {
            let records: Vec<_> = block_on(pacs.instances(Scope::All).try_collect()).expect("is read");
            assert_eq!(records.len(), kept.len());
            for record in records {
                let served = read(&*archive, &record.locator).expect("is served");
                assert!(served == kept[&record.key.instance], "{record:?}");
            }
        };
        for _ in 0..2 {
            block_on(archive.caught_up()).expect("is copied");
            let touched = damage(&store, random);
            check();
            let verified = block_on(pacs.verify_with(repairing, |_| ())).expect("is verified");
            assert_eq!((verified.whole, verified.damaged), (60, Vec::new()));
            // At least one instance of each object that was touched; a flipped bit may hit none.
            assert!(verified.repaired > 0, "{touched} objects were touched");
            check();
            let again = block_on(pacs.verify(|_| ())).expect("is verified");
            assert_eq!((again.whole, again.damaged), (60, Vec::new()));
        }
        block_on(archive.caught_up()).expect("is copied");
        pacs.close().expect("closes");
    });
}
