//! Backends.

pub mod memory;
pub mod redb;

pub use memory::MemoryIndex;
pub use redb::{RedbIndex, RedbIndexOptions};
