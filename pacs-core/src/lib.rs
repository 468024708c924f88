//! What a PACS is, without saying where it keeps things or how peers reach it.

pub mod archive;
pub mod dataset;
pub mod engine;
pub mod error;
pub mod hooks;
pub mod index;
pub mod limits;
#[cfg(feature = "pixel")]
pub mod pixel;
pub mod query;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod uid;

pub use archive::{Archive, ArchiveCapability, ArchiveWriter, Entry, Locator, Sequence, Stored, Timestamp};
pub use dataset::DataSet;
pub use engine::{Announced, DuplicatePolicy, Options, Pacs, Receipt, Received, StoreOutcome};
pub use error::{DimseService, Error, ErrorKind, Result, Retry};
pub use hooks::{Decider, Event, Observer, Source};
pub use index::{Change, Index, IndexCapability, InstanceRecord, Scope, Totals};
pub use query::Query;
pub use uid::{AeTitle, InstanceKey, Level, Uid};
