//! Archives around archives: each is an [`Archive`](pacs_core::Archive) that stands on another one.
//!
//! | layer | adds |
//! | --- | --- |
//! | [`encrypt`] | what is kept is encrypted, and what was changed where it lies is refused |

pub mod encrypt;
