//! Backends in memory: simple, and gone with the process.

mod archive;
mod index;
mod ledger;

pub use archive::MemoryArchive;
pub use index::MemoryIndex;
pub use ledger::MemoryLedger;
