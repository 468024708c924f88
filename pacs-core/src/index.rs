//! The index knows what is kept, and where: [`Index`], [`Change`], [`InstanceRecord`].
//!
//! The archive is the truth and the index is derived from it: an index that is lost or behind is made
//! again by [`Archive::scan`](crate::archive::Archive::scan).

use std::sync::Arc;

use bytes::Bytes;
use dicom_dictionary_std::tags;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::archive::{Locator, Sequence, Stored, Timestamp};
use crate::dataset::{DataSet, FrameTable};
use crate::error::Result;
use crate::query::{LevelAttributes, Query};
use crate::uid::{InstanceKey, Level, Uid};

/// All that the index knows of one instance.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceRecord {
    /// Study, series and instance.
    pub key: InstanceKey,
    /// SOP Class UID (0008,0016).
    pub sop_class: Uid,
    /// Transfer Syntax UID (0002,0010) of the stored data set.
    pub transfer_syntax: Uid,
    /// Where the archive keeps it.
    pub locator: Locator,
    /// Length in bytes of the whole Part 10 stream.
    pub length: u64,
    /// Where in that stream the data set begins, in bytes.
    pub data_set_offset: u64,
    /// Its place in the archive's order.
    pub sequence: Sequence,
    /// When it was committed.
    pub received: Timestamp,
    /// The attributes that are searched and returned, as an
    /// [`AttributeSet`](crate::query::AttributeSet) chose them.
    ///
    /// Where the instance was coerced they hold what took the place of what came.
    ///
    /// Instances of one entity may disagree about it: see [`tell`](Self::tell).
    pub attributes: LevelAttributes,
    /// What the instance leaves with in place of what came, where a [`Coercer`](crate::hooks::Coercer) coerced it or
    /// it was amended: see [`coercion`](crate::dataset::coercion).
    pub coerced: Option<DataSet>,
    /// Earlier versions that a replacement left in the archive, newest first.
    pub superseded: Vec<Locator>,
}

impl InstanceRecord {
    /// What the archive said of it when it was committed.
    pub(crate) fn stored(&self) -> Stored {
        Stored {
            locator: self.locator.clone(),
            length: self.length,
            sequence: self.sequence,
            received: self.received,
        }
    }

    /// Brings what the instance says of its patient, study or series into what is `known` of that one: the first one
    /// applied counts, and later ones add what is not known yet. What a correction took away is known to have no
    /// value. What is said of another patient (by Patient ID) adds nothing, so that two are never mixed.
    pub fn tell(&self, level: Level, known: &mut DataSet) {
        let told = self.attributes.at(level);
        if level != Level::Patient || !differ(known, told) {
            known.add_from(told);
        }
    }
}

/// Whether two are of different patients. Who is known to have no Patient ID is another one than who has one.
fn differ(known: &DataSet, told: &DataSet) -> bool {
    let told = told.string(tags::PATIENT_ID);
    told.is_some() && known.contains(tags::PATIENT_ID) && told != known.string(tags::PATIENT_ID)
}

/// One step of a batch that an index applies.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Know this instance; forget what was known under the same SOP Instance UID. What it says of patient, study
    /// and series is brought there as [`InstanceRecord::tell`] does it; they stay known where the instance is
    /// their only one and belongs to the same series as before.
    ///
    /// A frame table and a metadata record that are known of this version stay: where the locator is the same.
    Store(Box<InstanceRecord>),
    /// Know where the frames of this version of an instance lie, from the start of its data set. It is
    /// forgotten with that version; where that is not the one that is known, it changes nothing.
    Frames {
        /// SOP Instance UID.
        instance: Uid,
        /// The locator of the version.
        version: Locator,
        /// Where its frames lie.
        table: Arc<FrameTable>,
    },
    /// Know the metadata of this version of an instance, as
    /// [`Metadata::to_bytes`](crate::dataset::metadata::Metadata::to_bytes) writes it. It is forgotten with that
    /// version; where that is not the one that is known, it changes nothing.
    Metadata {
        /// SOP Instance UID.
        instance: Uid,
        /// The locator of the version.
        version: Locator,
        /// Its metadata, which the index does not look into.
        record: Bytes,
    },
    /// Have these attributes take the place of what is known of the patient, the study and the series of an instance
    /// that is known in that series; of another one it changes nothing. One without a value takes the value away, and
    /// no instance brings it back.
    ///
    /// Of the patient that the study is of, it corrects what it corrects of the study. A study whose Patient ID becomes
    /// another one goes to that patient: values are added that are not known of that one yet; all that are known of the
    /// study, where the patient was not known.
    Correct(InstanceKey, Box<LevelAttributes>),
    /// Forget the instance with this SOP Instance UID. Forgetting the last instance of a series
    /// forgets the series, and so up to the patient.
    Remove(Uid),
}

/// What an index says of itself; the conformance suite takes from it what to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexCapability {
    /// What was applied and flushed survives the death of the process and of the machine.
    pub durable: bool,
}

/// Which instances: everything below one entity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everything.
    All,
    /// Of the patient with this Patient ID (0010,0020).
    Patient(String),
    /// Of this study.
    Study(Uid),
    /// Of this series.
    Series(Uid),
    /// This one.
    Instance(Uid),
}

/// How much an index knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Distinct patients.
    pub patients: u64,
    /// Studies.
    pub studies: u64,
    /// Series.
    pub series: u64,
    /// Instances.
    pub instances: u64,
    /// Sum of the lengths of the stored Part 10 streams.
    pub bytes: u64,
}

/// Knows what is kept.
///
/// Every method may be called from any thread, and many at once.
pub trait Index: Send + Sync + 'static {
    /// What this index can do.
    fn capability(&self) -> IndexCapability;

    /// Applies `changes` in order, all or none, and remembers `low_water` in the same step.
    ///
    /// - When it returns, every later lookup and query sees all of them.
    /// - Applying the same changes again changes nothing.
    /// - Need not be durable before [`flush`](Self::flush); whatever becomes durable does so in the
    ///   order of application, with its `low_water`.
    ///
    /// The engine calls this from a thread of its own, so it may block.
    fn apply(&self, changes: Vec<Change>, low_water: Sequence) -> BoxFuture<'_, Result<()>>;

    /// Makes everything that was applied durable; returns the low water that now is.
    fn flush(&self) -> BoxFuture<'_, Result<Sequence>>;

    /// Everything of the archive up to here is applied. After a reopening: what was durable.
    fn low_water(&self) -> BoxFuture<'_, Result<Sequence>>;

    /// Forgets everything, also the low water.
    fn clear(&self) -> BoxFuture<'_, Result<()>>;

    /// Opens the index again in place, after an error of its medium that it may not go on from.
    ///
    /// - Afterwards it is as after a reopening: it knows what was durable, or more, with the low water of
    ///   that moment.
    /// - Streams that were begun before end with an error, or go on.
    /// - An index that goes on by itself does nothing.
    ///
    /// The engine applies what is missing before anybody asks again.
    fn reopen(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// The instance with this SOP Instance UID.
    fn lookup(&self, instance: &Uid) -> BoxFuture<'_, Result<Option<InstanceRecord>>>;

    /// Where the frames of this version of an instance lie, from the start of its data set.
    ///
    /// - It is what [`Change::Frames`] told of the version that is known now; of any other nothing is known.
    ///
    /// A frame table is large, so no record holds one.
    fn frames(&self, instance: &Uid, version: &Locator) -> BoxFuture<'_, Result<Option<Arc<FrameTable>>>>;

    /// Every instance of `scope`; those of one series come together, and so of one study.
    ///
    /// - What is applied while the stream runs may or may not be yielded.
    /// - A scope that is not known yields nothing.
    fn instances(&self, scope: Scope) -> BoxStream<'static, Result<InstanceRecord>>;

    /// Every instance of `scope` as [`instances`](Self::instances) yields it, with the metadata record that is known
    /// of its version.
    ///
    /// - It is what [`Change::Metadata`] told of the version that is known now; of any other nothing is known.
    /// - The records of one series are read together, so that they cost little more than their bytes.
    fn metadata(&self, scope: Scope) -> BoxStream<'static, Result<(InstanceRecord, Option<Bytes>)>>;

    /// Yields one data set for each entity at the query's level that matches all its keys.
    ///
    /// - A yielded data set holds all that the index knows of the entity and of those above it, also
    ///   what is derived from those below: Number of Patient Related Studies, Series, Instances
    ///   (0020,1200..1204), of Study Related Series, Instances (0020,1206, 1208), of Series Related
    ///   Instances (0020,1209), Modalities in Study (0008,0061), SOP Classes in Study (0008,0062).
    /// - Matching is [`Query::matches`], whatever path the index takes to candidates.
    /// - What is applied while the stream runs may or may not be yielded.
    fn query(&self, query: Query) -> BoxStream<'static, Result<DataSet>>;

    /// How much is known.
    fn totals(&self) -> BoxFuture<'_, Result<Totals>>;
}
