//! The ledger's promises, on every backend.

use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use pacs_core::archive::Timestamp;
use pacs_core::ledger::Key;
use pacs_core::ledger_conformance;
use pacs_core::route::Outbox;
use pacs_core::{Ledger, Step};
use pacs_store::layers::encrypt::{self, FileKeys, KeyId, KeyList};
use pacs_store::{MemoryLedger, RedbLedger};
use tempfile::TempDir;

fn memory() -> impl Fn() -> Arc<dyn Ledger> {
    let ledger = Arc::new(MemoryLedger::new());
    move || Arc::clone(&ledger) as _
}

fn redb() -> impl Fn() -> Arc<dyn Ledger> {
    let directory = TempDir::new().expect("a temporary directory");
    move || Arc::new(RedbLedger::open(directory.path().join("ledger.redb")).expect("opens")) as _
}

fn encrypted() -> impl Fn() -> Arc<dyn Ledger> {
    let directory = TempDir::new().expect("a temporary directory");
    let keys = KeyList::new([(KeyId::parse("k").expect("a name"), encrypt::Key::new([7; 32]))]);
    let keys = Arc::new(FileKeys::new(Arc::new(keys), Default::default()).expect("there is a key"));
    move || {
        let path = directory.path().join("ledger.redb");
        Arc::new(RedbLedger::open_encrypted(path, Arc::clone(&keys)).expect("opens")) as _
    }
}

ledger_conformance!(in_memory, memory());
ledger_conformance!(in_redb, redb());
ledger_conformance!(in_redb_encrypted, encrypted());

#[test]
fn a_note_of_a_delivery_that_holds_what_it_should_not_is_forgotten_like_any_other() {
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new());
    let done = Key::of("done").number(7).text("A").text("1.2.3").bytes();
    block_on(async {
        let steps = vec![Step::Put(
            done.clone(),
            Bytes::from_static(b"nothing stands here"),
        )];
        assert!(ledger.apply(steps).await.expect("is applied"));
        let outbox = Outbox::open(Arc::clone(&ledger)).await.expect("opens");
        assert_eq!(outbox.forget_done(Timestamp(8)).await.expect("is forgotten"), 1);
        assert_eq!(ledger.get(&done).await.expect("is asked"), None);
    });
}
