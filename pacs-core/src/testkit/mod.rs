//! What every backend must pass: each promise of a trait is a sentence, and each sentence a test.

pub mod engine;
