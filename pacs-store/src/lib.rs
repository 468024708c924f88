//! Where a PACS keeps things: backends of [`pacs_core::Archive`], [`pacs_core::Index`], [`pacs_core::Ledger`] and
//! [`pacs_core::audit::AuditTrail`].
//!
//! | backend | keeps |
//! | --- | --- |
//! | [`SegmentArchive`] | instances, one behind the other in a few large files: the embedded default |
//! | [`FolderArchive`] | instances, one plain file each; adopts a folder that is there |
//! | `ObjectArchive` | instances, packed into the objects of a store such as S3; feature `object` |
//! | [`RedbIndex`] | what is known of them, in an embedded database: the embedded default |
//! | [`RedbLedger`] | deliveries, worklists, steps, in an embedded database: the embedded default |
//! | `PostgresIndex`, `PostgresLedger` | the same in a database that many machines share; feature `postgres` |
//! | [`EncryptedArchive`] | what another archive keeps, encrypted |
//! | [`ReplicatedArchive`] | a second copy of what an archive keeps, in another one |
//! | [`Backup`] | what an archive kept until many moments, any of which can be restored |
//! | [`AuditLog`] | who did what with whose data: the audit trail, in files that are chained by hashes |
//! | [`MemoryArchive`], [`MemoryIndex`], [`MemoryLedger`] | the same in memory: simple models, gone with the process |
//!
//! [`embedded`] opens them by settings, as a configuration file has them. [`pool`] is for backends that block.
//!
//! The stores that keep files stand on [`medium`], and with it on its faults.

#![forbid(unsafe_code)]

pub mod audit;
pub mod backup;
mod buffers;
pub mod embedded;
pub mod folder;
mod gathered;
mod index;
pub mod layers;
pub mod medium;
pub mod memory;
#[cfg(feature = "object")]
pub mod object;
pub mod pool;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod redb;
pub mod segment;

pub use audit::{AuditLog, AuditLogOptions};
pub use backup::Backup;
pub use folder::{FolderArchive, FolderOptions};
pub use layers::encrypt::{EncryptOptions, EncryptedArchive};
pub use layers::replicate::{ReplicateMode, ReplicateOptions, ReplicatedArchive};
pub use memory::{MemoryArchive, MemoryIndex, MemoryLedger};
#[cfg(feature = "object")]
pub use object::{ObjectArchive, ObjectOptions};
#[cfg(feature = "postgres")]
pub use postgres::{Postgres, PostgresIndex, PostgresLedger, PostgresOptions};
pub use redb::{RedbIndex, RedbIndexOptions, RedbLedger};
pub use segment::{Compaction, SegmentArchive, SegmentOptions, SegmentStatistics};
