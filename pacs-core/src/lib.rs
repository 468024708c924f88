//! What a PACS is, without saying where it keeps things or how peers reach it: no runtime, no sockets,
//! no files.
//!
//! A PACS receives instances, keeps them, finds them and hands them out. Five nouns do that, and a
//! sixth puts them together:
//!
//! | noun | what it does | begin at |
//! | --- | --- | --- |
//! | **archive** | keeps the bytes of instances | [`Archive`], [`ArchiveWriter`], [`Locator`] |
//! | **index** | knows what is kept, and where | [`Index`], [`Change`], [`InstanceRecord`] |
//! | **query** | asks the index | [`Query`], [`query::AttributeSet`] |
//! | **router** | decides where instances go | [`Router`], [`route::Rules`] |
//! | **ledger** | keeps what the archive can't tell again: deliveries, worklists, steps | [`Ledger`], [`LedgerExt`] |
//! | **engine** | puts them together, so that success means kept | [`Pacs`], [`Receipt`], [`Options`] |
//!
//! # A PACS in 20 lines
//!
//! ```
//! use std::sync::Arc;
//!
//! use futures::executor::block_on;
//! use futures::{TryStreamExt, stream};
//! use pacs_core::dataset::DataSet;
//! use pacs_core::query::{Model, Query, QueryOptions};
//! use pacs_core::{Level, Options, Pacs, Source};
//! use pacs_store::{MemoryArchive, MemoryIndex};
//! # use dicom_core::VR;
//! # use dicom_dictionary_std::{tags, uids};
//! # fn file() -> bytes::Bytes {
//! #     let mut set = DataSet::new();
//! #     set.put_text(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE);
//! #     set.put_text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4");
//! #     set.put_text(tags::PATIENT_NAME, VR::PN, "Family^Given");
//! #     set.put_text(tags::STUDY_INSTANCE_UID, VR::UI, "1.2");
//! #     set.put_text(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.3");
//! #     let charset = pacs_core::dataset::charset::CharacterSet::utf8();
//! #     pacs_core::dataset::encode::encode(&set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &charset).unwrap().into()
//! # }
//!
//! # fn main() -> pacs_core::Result<()> {
//! # block_on(async {
//! let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
//! let pacs = Pacs::open(archive, index, Options::default()).await?;
//!
//! // The bytes of a DICOM file, in pieces of any size. When this returns, the instance is kept.
//! let received = pacs.import(Source::default(), stream::iter([Ok(file())])).await?;
//!
//! let mut keys = DataSet::new();
//! keys.put_text(tags::PATIENT_NAME, VR::PN, "fam*");
//! keys.put_text(tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, "");
//! let query = Query::new(Model::StudyRoot, Level::Study, keys, QueryOptions::default());
//! let studies: Vec<DataSet> = pacs.find(&Source::default(), query)?.try_collect().await?;
//! assert_eq!(studies[0].string(tags::NUMBER_OF_STUDY_RELATED_INSTANCES), Some("1"));
//!
//! let bytes: Vec<_> = pacs.read(&received.record).try_collect().await?;
//! assert_eq!(bytes.concat().len() as u64, received.record.length);
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # The contract
//!
//! - **Success means kept.** [`Receipt::commit`] returns `Ok` when the bytes are on stable storage and
//!   a query finds the instance. Killed at any instant, an engine reopens with every acknowledged
//!   instance whole, findable and byte-identical, and with no half of one.
//! - **Bytes are kept as received.** The data set goes to the archive in the transfer syntax and the
//!   bytes that came; a Part 10 header is put in front. What a [`Coercer`] coerces or [`Pacs::amend`] corrects
//!   is kept beside them, found by queries, and applied on the way out: see [`dataset::coercion`].
//! - **The archive is the truth, the index is derived.** [`Pacs::open`] brings an index that is behind
//!   up to its archive, [`Pacs::rebuild_index`] makes it anew.
//! - **Memory does not follow size.** Instances pass in pieces; see [`limits`].
//! - **A duplicate never destroys.** See [`DuplicatePolicy`].
//!
//! # Where to change what
//!
//! | you want to | go to |
//! | --- | --- |
//! | keep instances somewhere else | implement [`Archive`]; run `archive_conformance!` of `testkit` on it; `examples/own-backend` shows one |
//! | have instances encrypted where they lie, or another layer around an archive | `pacs_store::layers` |
//! | keep what is known of them somewhere else | implement [`Index`]; run `index_conformance!` of `testkit` on it |
//! | schedule procedure steps, know what was performed | [`workflow`] |
//! | keep deliveries and worklists somewhere else | implement [`Ledger`]; run `ledger_conformance!` of `testkit` on it |
//! | say who may do what | [`access`]: [`access::Policy`], or an [`AccessControl`] of one's own, in [`Options::access`] |
//! | decide what is admitted, coerce attributes, be told what happened | [`hooks`]: [`Decider`], [`Coercer`], [`Observer`]s |
//! | correct what is kept, make one patient of two | [`Pacs::amend`], [`Pacs::amend_patient`], [`Pacs::merge_patients`] |
//! | record who did what with whose data | [`audit`]: [`audit::Audit`], [`audit::AuditTrail`] |
//! | hand instances out without who they are of | [`deid`]: [`deid::Profile`], [`deid::Project`], [`Pacs::deidentified`] |
//! | send instances on by rules | [`route`]: [`route::Rules`] decide, [`Pacs::outbox`] has what is decided |
//! | tell what is fetched from elsewhere apart from what is new | [`Pacs::fetching`] |
//! | search for further attributes | [`query::AttributeSet::keep`] in [`Options::attributes`], then [`Pacs::reindex`] |
//! | know what DICOM bytes mean | [`dataset`]: scan, character sets, Part 10, encode, JSON, XML; `pixel` decodes, `pixel::render` makes pictures |
//! | work with procedure steps, hear of what becomes of them | [`workflow::ups`], [`Pacs::ups`] |
//! | have all of an instance but its bulk data | [`Pacs::metadata`], [`Pacs::metadata_in`], [`Pacs::read_bulk`] |
//! | have one frame, or a picture of it | [`Pacs::frame_reader`]; `Pacs::renderer` (feature `render`) |
//! | know why something failed, and what a peer is answered | [`error`] |
//! | know how much of anything is allowed | [`limits`] |
//! | know what is defended against whom, and what isn't | [`threats`] |
//!
//! The crates around this one: `pacs-store` has archives and indexes, `pacs-net` reaches an engine over
//! DICOM and DICOMweb, `pacs-ffi` puts all of it behind a C ABI.
//!
//! # Features
//!
//! - `testkit`: the conformance suites that every backend must pass, and the reference model.
//! - `pixel`: decoding for receivers that don't take a compressed transfer syntax; `jpeg2000` adds JPEG 2000 and
//!   HTJ2K, `jpegxl` JPEG XL. `pixel` of `pacs-net` is this one.
//! - `render`: pictures of frames, as a browser shows them. Comes with `web` of `pacs-net`.

#![forbid(unsafe_code)]

/// Attribute tags, value representations, and the dictionary's names for tags and UIDs: from the versions of
/// dicom-rs that this crate is built with.
pub use dicom_core::{Tag, VR};
pub use dicom_dictionary_std::{tags, uids};

pub mod access;
pub mod archive;
pub mod audit;
pub mod budget;
pub mod dataset;
pub mod deid;
pub mod engine;
pub mod error;
mod give_way;
pub mod hooks;
pub mod index;
pub mod ledger;
pub mod limits;
mod patient;
#[cfg(feature = "pixel")]
pub mod pixel;
pub mod query;
pub mod route;
#[cfg(test)]
mod testing;
#[cfg(feature = "testkit")]
pub mod testkit;
#[doc = include_str!("threats.md")]
pub mod threats {}
pub mod uid;
pub mod workflow;

pub use access::{AccessControl, Permission};
pub use archive::{Archive, ArchiveCapability, ArchiveWriter, Entry, Locator, Sequence, Stored, Timestamp};
pub use dataset::DataSet;
#[cfg(feature = "render")]
pub use engine::Renderer;
pub use engine::{
    Amended, Announced, DuplicatePolicy, Fetching, FrameReader, Options, Pacs, Receipt, Received,
    StoreOutcome,
};
pub use error::{DimseService, Error, ErrorKind, Result, Retry};
pub use hooks::{Coercer, Decider, Event, Observer, Source};
pub use index::{Change, Index, IndexCapability, InstanceRecord, Scope, Totals};
pub use ledger::{Ledger, LedgerCapability, LedgerExt, Step};
pub use patient::PatientId;
pub use query::Query;
pub use route::{Delivery, Router};
pub use uid::{AeTitle, InstanceKey, Level, Uid};
