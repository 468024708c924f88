//! Backends in memory: simple, and gone with the process.

mod index;

pub use index::MemoryIndex;
