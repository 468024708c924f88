//! The index upon ordered tables of bytes: all that is the same wherever these stand.
//!
//! A store gives the tables by the traits of [`tables`]: [`crate::redb`] in a file, `postgres` in a database that many
//! machines share. Here is what makes an index of them.
//!
//! Where things are: `tables` says what tables there are and how keys are made, `codec` and `record` how records become
//! bytes, `keys` the secondary entries and `entries` how they are walked, `writer` applies batches, `plan` chooses how a
//! query finds candidates, `walk` reads records along that way, a [`page`] at a time.

pub(crate) mod codec;
mod entries;
mod keys;
pub(crate) mod page;
mod plan;
mod record;
pub(crate) mod tables;
pub(crate) mod walk;
pub(crate) mod writer;

pub(crate) use record::State;

/// A bound of work or memory; in tests a small one, so that small data cross it.
const fn bound(usual: usize, in_tests: usize) -> usize {
    if cfg!(test) { in_tests } else { usual }
}
