//! A ledger in memory, as plain as can be.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use futures::future::{self, BoxFuture};
use pacs_core::error::Result;
use pacs_core::ledger::{Ledger, LedgerCapability, Step};

/// Keeps everything in one map under one lock; gone with the process.
#[derive(Default)]
pub struct MemoryLedger {
    entries: RwLock<BTreeMap<Bytes, Bytes>>,
}

impl MemoryLedger {
    /// One without entries.
    pub fn new() -> Self {
        Self::default()
    }
}

impl std::fmt::Debug for MemoryLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryLedger").finish_non_exhaustive()
    }
}

impl Ledger for MemoryLedger {
    fn capability(&self) -> LedgerCapability {
        LedgerCapability { durable: false }
    }

    fn get(&self, key: &[u8]) -> BoxFuture<'_, Result<Option<Bytes>>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        Box::pin(future::ready(Ok(entries.get(key).cloned())))
    }

    fn range(&self, range: Range<Bytes>, limit: usize) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let found = match range.is_empty() {
            true => Vec::new(),
            false => entries
                .range(range)
                .take(limit)
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        };
        Box::pin(future::ready(Ok(found)))
    }

    fn apply(&self, steps: Vec<Step>) -> BoxFuture<'_, Result<bool>> {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let holds = steps.iter().all(|step| match step {
            Step::Expect(key, value) => entries.get(key) == value.as_ref(),
            _ => true,
        });
        if holds {
            for step in steps {
                match step {
                    Step::Put(key, value) => drop(entries.insert(key, value)),
                    Step::Delete(key) => drop(entries.remove(&key)),
                    Step::Expect(..) => {}
                }
            }
        }
        Box::pin(future::ready(Ok(holds)))
    }
}
