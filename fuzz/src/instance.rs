//! Instances, and engines in memory that keep them.

use std::sync::Arc;

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use futures::executor::block_on;
use futures::stream;
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::dataset::part10::{Meta, write_meta};
use pacs_core::{DataSet, InstanceRecord, Options, Pacs, Result, Source, Uid};
use pacs_store::{MemoryArchive, MemoryIndex};

pub const STUDY: &str = "1.2.1";
pub const SERIES: &str = "1.2.1.1";
pub const INSTANCE: &str = "1.2.1.1.0";

/// An engine that keeps nothing yet.
pub fn engine() -> Pacs {
    let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
    block_on(Pacs::open(archive, index, Options::default())).expect("an engine in memory opens")
}

/// What names an instance, and of whom it is.
pub fn names(study: &str, series: &str, instance: &str) -> DataSet {
    let mut set = DataSet::new();
    set.put_text(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE);
    set.put_text(tags::SOP_INSTANCE_UID, VR::UI, instance);
    set.put_text(tags::STUDY_INSTANCE_UID, VR::UI, study);
    set.put_text(tags::SERIES_INSTANCE_UID, VR::UI, series);
    set
}

/// The beginning of a file: File Meta Information for `instance` in this transfer syntax.
pub fn meta(instance: &str, transfer_syntax: &str) -> Vec<u8> {
    let uid = |text: &str| Uid::parse(text).expect("a UID");
    let meta = Meta::new(uid(uids::CT_IMAGE_STORAGE), uid(instance), uid(transfer_syntax));
    write_meta(&meta).to_vec()
}

/// `set` in Explicit VR Little Endian.
///
/// # Panics
/// Where it can't be encoded.
pub fn explicit(set: &DataSet) -> Vec<u8> {
    encode(set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8()).expect("a data set can be encoded")
}

/// Keeps a file; its record, where it was kept under [`INSTANCE`].
pub fn keep(pacs: &Pacs, file: Vec<u8>) -> Result<Option<InstanceRecord>> {
    block_on(async {
        let pieces = stream::iter([Ok(Bytes::from(file))]);
        pacs.import(Source::default(), pieces).await?;
        pacs.lookup(&Uid::constant(INSTANCE)).await
    })
}

/// Forgets [`INSTANCE`], so that the next input finds the engine as this one did.
pub fn forget(pacs: &Pacs) {
    block_on(pacs.remove(&Uid::constant(INSTANCE))).expect("is removed from memory");
}
