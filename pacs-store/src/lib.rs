//! Backends.

pub mod redb;

pub use redb::{RedbIndex, RedbIndexOptions};
