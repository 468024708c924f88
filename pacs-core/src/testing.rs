//! What unit tests of several modules share.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use bytes::Bytes;
use futures::future::{self, BoxFuture};

use crate::error::Result;
use crate::ledger::{Ledger, LedgerCapability, Step};

/// A ledger in memory: that of `pacs-store` is one of another build of this crate.
#[derive(Default)]
pub(crate) struct Map(Mutex<BTreeMap<Bytes, Bytes>>);

impl Map {
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Ledger for Map {
    fn capability(&self) -> LedgerCapability {
        LedgerCapability { durable: false }
    }

    fn get(&self, key: &[u8]) -> BoxFuture<'_, Result<Option<Bytes>>> {
        Box::pin(future::ready(Ok(self.0.lock().unwrap().get(key).cloned())))
    }

    fn range(&self, range: Range<Bytes>, limit: usize) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>>> {
        let found = match range.is_empty() {
            true => Vec::new(),
            false => {
                let entries = self.0.lock().unwrap();
                let found = entries.range(range).take(limit);
                found.map(|(key, value)| (key.clone(), value.clone())).collect()
            }
        };
        Box::pin(future::ready(Ok(found)))
    }

    fn apply(&self, steps: Vec<Step>) -> BoxFuture<'_, Result<bool>> {
        let mut entries = self.0.lock().unwrap();
        let holds = steps.iter().all(|step| match step {
            Step::Expect(key, value) => entries.get(key) == value.as_ref(),
            _ => true,
        });
        for step in steps.into_iter().filter(|_| holds) {
            match step {
                Step::Put(key, value) => drop(entries.insert(key, value)),
                Step::Delete(key) => drop(entries.remove(&key)),
                Step::Expect(..) => {}
            }
        }
        Box::pin(future::ready(Ok(holds)))
    }
}
