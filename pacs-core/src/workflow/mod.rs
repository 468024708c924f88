//! Worklist items, procedure steps.

pub mod ups;
