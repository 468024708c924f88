//! Archives around archives: each is an [`Archive`](pacs_core::Archive) that stands on another one.
//!
//! | layer | adds |
//! | --- | --- |
//! | [`encrypt`] | what is kept is encrypted, and what was changed where it lies is refused |
//! | [`replicate`] | a second copy in another archive, which is read where the first is damaged or lost |
//!
//! They stack: an encrypted archive around a replicated one keeps two encrypted copies.

mod continued;
pub mod encrypt;
pub mod replicate;
