//! The ledger's promises, on every backend.

use std::sync::Arc;

use pacs_core::Ledger;
use pacs_core::ledger_conformance;
use pacs_store::layers::encrypt::{FileKeys, Key, KeyId, KeyList};
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
    let keys = KeyList::new([(KeyId::parse("k").expect("a name"), Key::new([7; 32]))]);
    let keys = Arc::new(FileKeys::new(Arc::new(keys), Default::default()).expect("there is a key"));
    move || {
        let path = directory.path().join("ledger.redb");
        Arc::new(RedbLedger::open_encrypted(path, Arc::clone(&keys)).expect("opens")) as _
    }
}

ledger_conformance!(in_memory, memory());
ledger_conformance!(in_redb, redb());
ledger_conformance!(in_redb_encrypted, encrypted());
