//! Backends in memory: simple, and gone with the process.

mod archive;
mod index;

pub use archive::MemoryArchive;
pub use index::MemoryIndex;
