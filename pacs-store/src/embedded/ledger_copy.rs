//! A copy of the ledger of the data directory, to stand beside another archive.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pacs_core::Result;
use pacs_core::route::beside_another_archive;

use crate::RedbLedger;
use crate::layers::encrypt::FileKeys;

/// Encrypted under the same keys, where the ledger is.
pub(super) struct LedgerCopy {
    ledger: Arc<RedbLedger>,
    keys: Option<Arc<FileKeys>>,
    path: PathBuf,
    /// How far the ledger was when it was copied last.
    copied: Mutex<Option<u64>>,
}

impl LedgerCopy {
    pub(super) fn new(ledger: &Arc<RedbLedger>, keys: Option<&Arc<FileKeys>>, path: PathBuf) -> Self {
        Self {
            ledger: Arc::clone(ledger),
            keys: keys.cloned(),
            path,
            copied: Mutex::new(None),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Has it be of one moment from now on, where the ledger has changed since it was made; answers whether it has. What has to
    /// be before a copy is made, `prepare` does.
    ///
    /// # Errors
    /// Those of `prepare`, and those of the medium.
    pub(super) fn bring_up(&self, prepare: impl FnOnce() -> Result<()>) -> Result<bool> {
        let mut copied = self.copied.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = self.ledger.changes();
        if *copied == Some(changes) {
            return Ok(false);
        }
        prepare()?;
        let copy = match &self.keys {
            Some(keys) => RedbLedger::open_encrypted(&self.path, Arc::clone(keys)),
            None => RedbLedger::open(&self.path),
        };
        self.ledger.copy_to(&copy?, beside_another_archive)?;
        *copied = Some(changes);
        Ok(true)
    }

    /// It is lost, and made anew the next time.
    pub(super) fn forget(&self) {
        *self.copied.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
