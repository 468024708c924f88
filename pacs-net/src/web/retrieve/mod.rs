//! The Retrieve transaction (PS3.18 10.4): WADO-RS.

pub(super) mod bulk;
pub(super) mod frames;
pub(super) mod instances;
mod listing;
pub(super) mod metadata;
pub(super) mod rendered;
mod syntax;
mod zip;
