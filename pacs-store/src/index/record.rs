//! The records of the four levels and their bytes.
//!
//! What changes with each instance (counts) stands apart from what hardly ever changes (attributes),
//! so that a study that grows is written again without encoding its attributes anew.

use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use pacs_core::archive::{Locator, Sequence, Timestamp};
use pacs_core::dataset::{DataSet, Element, FrameExtent, FrameTable, Value, compact};
use pacs_core::error::Result;
use pacs_core::index::{InstanceRecord, Totals};
use pacs_core::query::LevelAttributes;
use pacs_core::uid::{InstanceKey, Uid};

use super::codec::{Reader, STANDARD_ROOT, data_set, put_bytes, put_data_set, put_number, put_uid};

/// What an instance's record holds beside the others; more than this (a long frame table) stands in a
/// table of its own, so that a walk over instances doesn't read it.
const INLINE_LENGTH_MAX_BYTES: usize = 512;

/// How often each of a few things occurs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counts<T>(pub(super) Vec<(T, u64)>);

impl<T> Default for Counts<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: PartialEq> Counts<T> {
    /// One more.
    pub(super) fn add(&mut self, what: T) {
        match self.0.iter_mut().find(|(known, _)| *known == what) {
            Some((_, count)) => *count += 1,
            None => self.0.push((what, 1)),
        }
    }

    /// One less.
    pub(super) fn subtract(&mut self, what: &T) {
        if let Some(at) = self.0.iter().position(|(known, _)| known == what) {
            self.0[at].1 = self.0[at].1.saturating_sub(1);
            if self.0[at].1 == 0 {
                self.0.remove(at);
            }
        }
    }
}

/// What is known of the whole index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) low_water: Sequence,
    pub(crate) totals: Totals,
    pub(super) next_study: u32,
    /// Kinds of secondary entries, a bit for each code, whose attribute also stands below the study: a
    /// configuration may keep it there. Such entries don't lead to all that match.
    pub(super) kinds_below_study: u64,
}

impl State {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48);
        for number in [
            self.low_water.0,
            self.totals.patients,
            self.totals.studies,
            self.totals.series,
            self.totals.instances,
            self.totals.bytes,
            u64::from(self.next_study),
            self.kinds_below_study,
        ] {
            put_number(&mut out, number);
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        Ok(Self {
            low_water: Sequence(reader.number()?),
            totals: Totals {
                patients: reader.number()?,
                studies: reader.number()?,
                series: reader.number()?,
                instances: reader.number()?,
                bytes: reader.number()?,
            },
            next_study: reader.number_u32()?,
            kinds_below_study: reader.number()?,
        })
    }
}

/// A patient: the attributes that the first study brought, later ones filling what has no value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Patient {
    pub(super) studies: u64,
    pub(super) series: u64,
    pub(super) instances: u64,
    pub(super) attributes: DataSet,
}

impl Patient {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        put_number(&mut out, self.studies);
        put_number(&mut out, self.series);
        put_number(&mut out, self.instances);
        put_data_set(&mut out, &self.attributes);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let record = Bytes::copy_from_slice(bytes);
        let mut reader = Reader::new(&record);
        Ok(Self {
            studies: reader.number()?,
            series: reader.number()?,
            instances: reader.number()?,
            attributes: data_set(&mut reader, &record)?,
        })
    }

    /// Only the three counts.
    pub(super) fn decode_counts(bytes: &[u8]) -> Result<[u64; 3]> {
        let mut reader = Reader::new(bytes);
        Ok([reader.number()?, reader.number()?, reader.number()?])
    }
}

/// A study, with what is derived from its series and instances.
#[derive(Clone, PartialEq)]
pub(super) struct Study {
    pub(super) uid: Uid,
    /// Key of the patient in the table of patients.
    pub(super) patient_key: Vec<u8>,
    pub(super) series: u64,
    pub(super) instances: u64,
    pub(super) bytes: u64,
    pub(super) next_series: u32,
    /// Series of each modality.
    pub(super) modalities: Counts<String>,
    /// Instances of each SOP class.
    pub(super) sop_classes: Counts<Uid>,
    pub(super) patient: DataSet,
    pub(super) study: DataSet,
}

impl Study {
    /// The part that hardly ever changes.
    pub(super) fn encode_attributes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(384);
        put_uid(&mut out, &self.uid, "");
        put_bytes(&mut out, &self.patient_key);
        put_data_set(&mut out, &self.patient);
        put_data_set(&mut out, &self.study);
        out
    }

    /// The record, given what [`encode_attributes`](Self::encode_attributes) made.
    pub(super) fn encode(&self, attributes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(attributes.len() + 64);
        put_number(&mut out, self.series);
        put_number(&mut out, self.instances);
        put_number(&mut out, self.bytes);
        put_number(&mut out, u64::from(self.next_series));
        put_number(&mut out, self.modalities.0.len() as u64);
        for (modality, count) in &self.modalities.0 {
            put_bytes(&mut out, modality.as_bytes());
            put_number(&mut out, *count);
        }
        put_number(&mut out, self.sop_classes.0.len() as u64);
        for (class, count) in &self.sop_classes.0 {
            put_uid(&mut out, class, STANDARD_ROOT);
            put_number(&mut out, *count);
        }
        out.extend_from_slice(attributes);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let record = Bytes::copy_from_slice(bytes);
        let mut reader = Reader::new(&record);
        let series = reader.number()?;
        let instances = reader.number()?;
        let bytes = reader.number()?;
        let next_series = reader.number_u32()?;
        let mut modalities = Counts::default();
        for _ in 0..reader.count()? {
            modalities.0.push((reader.text()?.to_owned(), reader.number()?));
        }
        let mut sop_classes = Counts::default();
        for _ in 0..reader.count()? {
            sop_classes.0.push((reader.uid(STANDARD_ROOT)?, reader.number()?));
        }
        Ok(Self {
            uid: reader.uid("")?,
            patient_key: reader.bytes()?.to_vec(),
            series,
            instances,
            bytes,
            next_series,
            modalities,
            sop_classes,
            patient: data_set(&mut reader, &record)?,
            study: data_set(&mut reader, &record)?,
        })
    }
}

/// A series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    pub(super) uid: Uid,
    pub(super) instances: u64,
    pub(super) next_instance: u32,
    pub(super) attributes: DataSet,
}

impl Series {
    /// The part that hardly ever changes; the UID as what differs from the study's.
    pub(super) fn encode_attributes(&self, study: &Uid) -> Vec<u8> {
        let mut out = Vec::with_capacity(192);
        put_uid(&mut out, &self.uid, study);
        put_data_set(&mut out, &self.attributes);
        out
    }

    pub(super) fn encode(&self, attributes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(attributes.len() + 12);
        put_number(&mut out, self.instances);
        put_number(&mut out, u64::from(self.next_instance));
        out.extend_from_slice(attributes);
        out
    }

    pub(super) fn decode(bytes: &[u8], study: &Uid) -> Result<Self> {
        let record = Bytes::copy_from_slice(bytes);
        let mut reader = Reader::new(&record);
        Ok(Self {
            instances: reader.number()?,
            next_instance: reader.number_u32()?,
            uid: reader.uid(study)?,
            attributes: data_set(&mut reader, &record)?,
        })
    }

    /// The modality, by which the study counts its series: one, but for series that name several.
    pub(super) fn modalities(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .attributes
            .strings(tags::MODALITY)
            .filter(|modality| !modality.is_empty())
            .map(str::to_owned)
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Frame table, superseded versions and, where there is one, the coercion stand in the record.
const HAS_MORE: u8 = 1;
/// They stand in the table for what is large.
const HAS_LARGE: u8 = 2;
/// SOP Instance UID was left out of the attributes, for it is the key.
const UID_OMITTED: u8 = 4;
/// SOP Class UID was left out of the attributes.
const CLASS_OMITTED: u8 = 8;
/// The instance was coerced: what took the place of what came stands behind the frame table.
const COERCED: u8 = 16;

/// The bytes of an instance's record, and of what is too large for it.
pub(super) fn encode_instance(record: &InstanceRecord) -> (Vec<u8>, Option<Vec<u8>>) {
    let is_text = |tag: Tag, text: &str| {
        record.attributes.instance.get(tag).is_some_and(|element| {
            element.vr == VR::UI && matches!(&element.value, Value::Bytes(b) if b == text.as_bytes())
        })
    };
    let mut flags = 0;
    let mut kept = std::borrow::Cow::Borrowed(&record.attributes.instance);
    if is_text(tags::SOP_INSTANCE_UID, &record.key.instance) {
        flags |= UID_OMITTED;
        kept.to_mut().remove(tags::SOP_INSTANCE_UID);
    }
    if is_text(tags::SOP_CLASS_UID, &record.sop_class) {
        flags |= CLASS_OMITTED;
        kept.to_mut().remove(tags::SOP_CLASS_UID);
    }
    if record.coerced.is_some() {
        flags |= COERCED;
    }
    let mut more = encode_more(record);
    let mut large = None;
    if more.len() > INLINE_LENGTH_MAX_BYTES {
        flags |= HAS_LARGE;
        large = Some(std::mem::take(&mut more));
    } else if !more.is_empty() {
        flags |= HAS_MORE;
    }

    let mut out = Vec::with_capacity(192);
    out.push(flags);
    put_uid(&mut out, &record.key.instance, &record.key.series);
    put_uid(&mut out, &record.sop_class, STANDARD_ROOT);
    put_data_set(&mut out, &kept);
    put_uid(&mut out, &record.transfer_syntax, STANDARD_ROOT);
    put_bytes(&mut out, record.locator.as_bytes());
    put_number(&mut out, record.length);
    put_number(&mut out, record.data_set_offset);
    put_number(&mut out, record.sequence.0);
    put_number(&mut out, record.received.0);
    out.extend_from_slice(&more);
    (out, large)
}

/// Superseded versions and coercion; nothing when there are none.
fn encode_more(record: &InstanceRecord) -> Vec<u8> {
    let mut out = Vec::new();
    if record.superseded.is_empty() && record.coerced.is_none() {
        return out;
    }
    put_number(&mut out, record.superseded.len() as u64);
    for locator in &record.superseded {
        put_bytes(&mut out, locator.as_bytes());
    }
    if let Some(coerced) = &record.coerced {
        put_bytes(&mut out, &compact::to_bytes(coerced));
    }
    out
}

/// What [`encode_more`] wrote.
#[derive(Default)]
struct More {
    superseded: Vec<Locator>,
    coerced: Option<DataSet>,
}

fn decode_more(reader: &mut Reader<'_>, is_coerced: bool) -> Result<More> {
    let mut superseded = Vec::new();
    for _ in 0..reader.count()? {
        superseded.push(Locator::new(reader.bytes()?));
    }
    let coerced = match is_coerced {
        true => Some(compact::from_bytes(&Bytes::copy_from_slice(reader.bytes()?))?),
        false => None,
    };
    Ok(More { superseded, coerced })
}

/// The frame table of the version at `locator`.
pub(super) fn encode_frames(locator: &Locator, table: &FrameTable) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, locator.as_bytes());
    put_number(&mut out, table.frames.len() as u64);
    // Frames nearly always follow one another: each offset as the distance from the last end.
    let mut end = 0u64;
    for frame in &table.frames {
        put_number(&mut out, frame.offset.wrapping_sub(end));
        put_number(&mut out, frame.length);
        end = frame.offset.wrapping_add(frame.length);
    }
    out
}

/// The metadata of the version at `locator`.
pub(super) fn encode_metadata(locator: &Locator, metadata: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(metadata.len() + locator.as_bytes().len() + 2);
    put_bytes(&mut out, locator.as_bytes());
    out.extend_from_slice(metadata);
    out
}

/// What [`encode_metadata`] wrote, if it is of the version at `locator`.
pub(super) fn decode_metadata(bytes: &[u8], locator: &Locator) -> Result<Option<Bytes>> {
    let mut reader = Reader::new(bytes);
    let is_of = reader.bytes()? == locator.as_bytes();
    let metadata = &bytes[bytes.len() - reader.remaining()..];
    Ok(is_of.then(|| Bytes::copy_from_slice(metadata)))
}

/// Whether what [`encode_frames`] or [`encode_metadata`] wrote is of the version at `locator`.
pub(super) fn is_of(bytes: &[u8], locator: &Locator) -> Result<bool> {
    Ok(Reader::new(bytes).bytes()? == locator.as_bytes())
}

/// What [`encode_frames`] wrote, if it is of the version at `locator`.
pub(super) fn decode_frames(bytes: &[u8], locator: &Locator) -> Result<Option<FrameTable>> {
    if !is_of(bytes, locator)? {
        return Ok(None);
    }
    let mut reader = Reader::new(bytes);
    reader.bytes()?;
    let mut frames = Vec::new();
    let mut end = 0u64;
    // Two bytes a frame at least.
    for _ in 0..reader.count()? {
        let offset = end.wrapping_add(reader.number()?);
        let length = reader.number()?;
        end = offset.wrapping_add(length);
        frames.push(FrameExtent { offset, length });
    }
    Ok(Some(FrameTable { frames }))
}

/// What of an instance's record a query needs, read without the rest.
pub(super) struct Instance {
    pub(super) uid: Uid,
    pub(super) sop_class: Uid,
    pub(super) attributes: DataSet,
    record: Bytes,
    rest: usize,
    flags: u8,
}

impl Instance {
    pub(super) fn decode(bytes: &[u8], series: &Uid) -> Result<Self> {
        let record = Bytes::copy_from_slice(bytes);
        let mut reader = Reader::new(&record);
        let flags = reader.byte()?;
        let uid = reader.uid(series)?;
        let sop_class = reader.uid(STANDARD_ROOT)?;
        let mut attributes = data_set(&mut reader, &record)?;
        let rest = record.len() - reader.remaining();
        if flags & CLASS_OMITTED != 0 {
            put_uid_element(&mut attributes, tags::SOP_CLASS_UID, &sop_class);
        }
        if flags & UID_OMITTED != 0 {
            put_uid_element(&mut attributes, tags::SOP_INSTANCE_UID, &uid);
        }
        Ok(Self {
            uid,
            sop_class,
            attributes,
            rest,
            flags,
            record,
        })
    }

    /// Whether more stands in the table for what is large.
    pub(super) fn is_large(&self) -> bool {
        self.flags & HAS_LARGE != 0
    }

    /// The whole record; `large` is what stands in the table for what is large.
    pub(super) fn finish(
        self,
        study: &Study,
        series: &Series,
        large: Option<&[u8]>,
    ) -> Result<InstanceRecord> {
        let mut reader = Reader::new(&self.record[self.rest..]);
        let transfer_syntax = reader.uid(STANDARD_ROOT)?;
        let locator = Locator::new(reader.bytes()?);
        let length = reader.number()?;
        let data_set_offset = reader.number()?;
        let sequence = Sequence(reader.number()?);
        let received = Timestamp(reader.number()?);
        let is_coerced = self.flags & COERCED != 0;
        let More { superseded, coerced } = match large {
            Some(large) => decode_more(&mut Reader::new(large), is_coerced)?,
            None if self.flags & HAS_MORE != 0 => decode_more(&mut reader, is_coerced)?,
            None => More::default(),
        };
        Ok(InstanceRecord {
            key: InstanceKey {
                study: study.uid,
                series: series.uid,
                instance: self.uid,
            },
            sop_class: self.sop_class,
            transfer_syntax,
            locator,
            length,
            data_set_offset,
            sequence,
            received,
            attributes: LevelAttributes {
                patient: study.patient.clone(),
                study: study.study.clone(),
                series: series.attributes.clone(),
                instance: self.attributes,
            },
            coerced,
            superseded,
        })
    }

    /// Where the archive keeps it.
    pub(super) fn locator(&self) -> Result<Locator> {
        let mut reader = Reader::new(&self.record[self.rest..]);
        reader.uid(STANDARD_ROOT)?;
        Ok(Locator::new(reader.bytes()?))
    }

    /// Length in bytes of the whole Part 10 stream.
    pub(super) fn length(&self) -> Result<u64> {
        let mut reader = Reader::new(&self.record[self.rest..]);
        reader.uid(STANDARD_ROOT)?;
        reader.bytes()?;
        reader.number()
    }
}

fn put_uid_element(set: &mut DataSet, tag: Tag, uid: &Uid) {
    set.put(Element {
        tag,
        vr: VR::UI,
        value: Value::Bytes(Bytes::copy_from_slice(uid.as_bytes())),
    });
}
