//! The ledger's promises, on every backend.

use std::sync::Arc;

use pacs_core::Ledger;
use pacs_core::ledger_conformance;
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

ledger_conformance!(in_memory, memory());
ledger_conformance!(in_redb, redb());
