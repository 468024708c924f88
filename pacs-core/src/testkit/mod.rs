//! What every backend must pass: each promise of a trait is a sentence, and each sentence a test.

pub mod archive;
pub mod around;
pub mod engine;
pub mod index;
pub mod ledger;
pub mod random;
pub mod reference;
pub mod workflow;
pub mod world;
