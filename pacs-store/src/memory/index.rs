//! An index in memory, as plain as can be: the readable model of what an index does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use futures::stream::{self, BoxStream, StreamExt};

use pacs_core::archive::{Locator, Sequence};
use pacs_core::dataset::{DataSet, FrameTable};
use pacs_core::error::Result;
use pacs_core::index::{Change, Index, IndexCapability, InstanceRecord, Scope, Totals};
use pacs_core::query::{LevelAttributes, Query};
use pacs_core::uid::{InstanceKey, Level, Uid};

/// Keeps everything in maps under one lock, for tests and small tools. A query walks all entities of its
/// level; what is derived from the levels below is counted each time.
///
/// A study keeps what its own instances say of the patient, so that studies which share a Patient ID by
/// mistake, or have none, never answer with one another's name. A patient's own answer is made of all.
#[derive(Debug, Default)]
pub struct MemoryIndex {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    low_water: Sequence,
    studies: BTreeMap<Uid, Study>,
    /// What is known of the patient with this Patient ID.
    patients: BTreeMap<String, DataSet>,
    /// Study and series of each instance.
    places: BTreeMap<Uid, (Uid, Uid)>,
    /// Of an instance at this place in the archive.
    frames: BTreeMap<Uid, (Locator, Arc<FrameTable>)>,
    metadata: BTreeMap<Uid, (Locator, Bytes)>,
}

#[derive(Debug, Default)]
struct Study {
    patient: DataSet,
    attributes: DataSet,
    series: BTreeMap<Uid, Series>,
}

#[derive(Debug, Default)]
struct Series {
    attributes: DataSet,
    instances: BTreeMap<Uid, InstanceRecord>,
}

impl Study {
    /// The Patient ID, empty where there is none.
    fn patient_id(&self) -> &str {
        self.patient.string(tags::PATIENT_ID).unwrap_or_default()
    }

    fn instances(&self) -> impl Iterator<Item = &InstanceRecord> {
        self.series.values().flat_map(|series| series.instances.values())
    }
}

impl Known {
    fn store(&mut self, record: InstanceRecord) {
        let key = record.key;
        let known = self.record(&key.instance);
        let is_in_place = known.is_some_and(|known| known.key == key);
        let frames = self
            .frames
            .remove(&key.instance)
            .filter(|frames| frames.0 == record.locator);
        let metadata = self
            .metadata
            .remove(&key.instance)
            .filter(|metadata| metadata.0 == record.locator);
        if !is_in_place {
            self.remove(&key.instance);
        }
        self.metadata
            .extend(metadata.map(|metadata| (key.instance, metadata)));
        self.frames.extend(frames.map(|frames| (key.instance, frames)));
        self.places.insert(key.instance, (key.study, key.series));
        let study = self.studies.entry(key.study).or_default();
        record.tell(Level::Patient, &mut study.patient);
        record.tell(Level::Study, &mut study.attributes);
        let patient = self.patients.entry(study.patient_id().to_owned()).or_default();
        record.tell(Level::Patient, patient);
        let series = study.series.entry(key.series).or_default();
        record.tell(Level::Series, &mut series.attributes);
        series.instances.insert(key.instance, record);
        self.forget_patients_without_study();
    }

    fn correct(&mut self, key: &InstanceKey, correction: &LevelAttributes) {
        if self.record(&key.instance).is_none_or(|known| known.key != *key) {
            return;
        }
        let Some(study) = self.studies.get_mut(&key.study) else {
            return;
        };
        let before = study.patient.clone();
        let id_before = study.patient_id().to_owned();
        correction.correct(Level::Patient, &mut study.patient);
        correction.correct(Level::Study, &mut study.attributes);
        if let Some(series) = study.series.get_mut(&key.series) {
            correction.correct(Level::Series, &mut series.attributes);
        }
        let id = study.patient_id().to_owned();
        match self.patients.get_mut(&id) {
            _ if study.patient == before => {}
            Some(patient) if id == id_before => correction.correct(Level::Patient, patient),
            Some(patient) => patient.add_from(&correction.patient.with_values()),
            None => {
                let patient = study.patient.with_values();
                self.patients.insert(id, patient);
            }
        }
        self.forget_patients_without_study();
    }

    /// Whether this version of an instance is the one that is known.
    fn is_known(&self, instance: &Uid, version: &Locator) -> bool {
        self.record(instance)
            .is_some_and(|record| record.locator == *version)
    }

    fn record(&self, instance: &Uid) -> Option<&InstanceRecord> {
        let (study, series) = self.places.get(instance)?;
        self.studies
            .get(study)?
            .series
            .get(series)?
            .instances
            .get(instance)
    }

    fn remove(&mut self, instance: &Uid) {
        self.frames.remove(instance);
        self.metadata.remove(instance);
        let Some((study_uid, series_uid)) = self.places.remove(instance) else {
            return;
        };
        if let Some(study) = self.studies.get_mut(&study_uid) {
            if let Some(series) = study.series.get_mut(&series_uid) {
                series.instances.remove(instance);
                if series.instances.is_empty() {
                    study.series.remove(&series_uid);
                }
            }
            if study.series.is_empty() {
                self.studies.remove(&study_uid);
            }
        }
        self.forget_patients_without_study();
    }

    fn forget_patients_without_study(&mut self) {
        let named: BTreeSet<&str> = self.studies.values().map(Study::patient_id).collect();
        self.patients.retain(|id, _| named.contains(id.as_str()));
    }

    fn studies_of<'k>(&'k self, patient: &'k str) -> impl Iterator<Item = &'k Study> {
        self.studies
            .values()
            .filter(move |study| study.patient_id() == patient)
    }

    /// A record as a lookup yields it: with what is known of the entities above.
    fn complete(study: &Study, series: &Series, record: &InstanceRecord) -> InstanceRecord {
        let mut record = record.clone();
        record.attributes.patient = study.patient.clone();
        record.attributes.study = study.attributes.clone();
        record.attributes.series = series.attributes.clone();
        record
    }

    fn instances(&self, scope: &Scope) -> Vec<InstanceRecord> {
        let mut out = Vec::new();
        for (study_uid, study) in &self.studies {
            let inside = match scope {
                Scope::Study(wanted) => wanted == study_uid,
                Scope::Patient(wanted) => wanted == study.patient_id(),
                _ => true,
            };
            if !inside {
                continue;
            }
            for (series_uid, series) in &study.series {
                let inside = |record: &InstanceRecord| match scope {
                    Scope::Series(wanted) => wanted == series_uid,
                    Scope::Instance(wanted) => *wanted == record.key.instance,
                    _ => true,
                };
                let records = series.instances.values().filter(|record| inside(record));
                out.extend(records.map(|record| Self::complete(study, series, record)));
            }
        }
        out
    }

    /// The record of every entity at the level of `query` that matches.
    fn answers(&self, query: &Query) -> Vec<DataSet> {
        let mut out = Vec::new();
        let mut decide = |record: DataSet| {
            if query.matches(&record) {
                out.push(record);
            }
        };
        if query.level() == Level::Patient {
            for (id, attributes) in &self.patients {
                let mut record = attributes.clone();
                self.count_patient(id, &mut record);
                decide(record);
            }
            return out;
        }
        for (study_uid, study) in &self.studies {
            let mut of_study = study.patient.clone();
            self.count_patient(study.patient_id(), &mut of_study);
            put_all(&mut of_study, &study.attributes);
            of_study.put_uid(tags::STUDY_INSTANCE_UID, study_uid);
            count_study(study, &mut of_study);
            if query.level() == Level::Study {
                decide(of_study);
                continue;
            }
            for (series_uid, series) in &study.series {
                let mut of_series = of_study.clone();
                put_all(&mut of_series, &series.attributes);
                of_series.put_uid(tags::SERIES_INSTANCE_UID, series_uid);
                put_count(
                    &mut of_series,
                    tags::NUMBER_OF_SERIES_RELATED_INSTANCES,
                    series.instances.len(),
                );
                if query.level() == Level::Series {
                    decide(of_series);
                    continue;
                }
                for (instance, record) in &series.instances {
                    let mut of_instance = of_series.clone();
                    put_all(&mut of_instance, &record.attributes.instance);
                    of_instance.put_uid(tags::SOP_INSTANCE_UID, instance);
                    of_instance.put_uid(tags::SOP_CLASS_UID, &record.sop_class);
                    decide(of_instance);
                }
            }
        }
        out
    }

    fn count_patient(&self, id: &str, record: &mut DataSet) {
        let studies: Vec<&Study> = self.studies_of(id).collect();
        let series = studies.iter().map(|study| study.series.len()).sum();
        let instances = studies.iter().map(|study| study.instances().count()).sum();
        put_count(record, tags::NUMBER_OF_PATIENT_RELATED_STUDIES, studies.len());
        put_count(record, tags::NUMBER_OF_PATIENT_RELATED_SERIES, series);
        put_count(record, tags::NUMBER_OF_PATIENT_RELATED_INSTANCES, instances);
    }

    fn totals(&self) -> Totals {
        let instances = || self.studies.values().flat_map(Study::instances);
        Totals {
            patients: self.patients.len() as u64,
            studies: self.studies.len() as u64,
            series: self.studies.values().map(|study| study.series.len() as u64).sum(),
            instances: instances().count() as u64,
            bytes: instances().fold(0, |all, record| all.saturating_add(record.length)),
        }
    }
}

fn count_study(study: &Study, record: &mut DataSet) {
    let modalities = study
        .series
        .values()
        .filter_map(|series| series.attributes.string(tags::MODALITY));
    let classes = study.instances().map(|instance| instance.sop_class.as_str());
    record.put_text(tags::MODALITIES_IN_STUDY, VR::CS, distinct(modalities));
    record.put_text(tags::SOP_CLASSES_IN_STUDY, VR::UI, distinct(classes));
    put_count(record, tags::NUMBER_OF_STUDY_RELATED_SERIES, study.series.len());
    put_count(
        record,
        tags::NUMBER_OF_STUDY_RELATED_INSTANCES,
        study.instances().count(),
    );
}

fn distinct<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    let texts: BTreeSet<&str> = texts.collect();
    texts.into_iter().collect::<Vec<_>>().join("\\")
}

fn put_count(record: &mut DataSet, tag: Tag, count: usize) {
    record.put_text(tag, VR::IS, count.to_string());
}

fn put_all(record: &mut DataSet, more: &DataSet) {
    for element in more.iter() {
        record.put(element.clone());
    }
}

impl MemoryIndex {
    /// One that knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    // A panic while the lock is held would be a bug in the few lines above; what is known stays usable.
    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ready<T: Send + 'static>(value: T) -> BoxFuture<'static, Result<T>> {
    future::ready(Ok(value)).boxed()
}

fn all<T: Send + 'static>(items: Vec<T>) -> BoxStream<'static, Result<T>> {
    stream::iter(items.into_iter().map(Ok)).boxed()
}

impl Index for MemoryIndex {
    fn capability(&self) -> IndexCapability {
        IndexCapability { durable: false }
    }

    fn apply(&self, changes: Vec<Change>, low_water: Sequence) -> BoxFuture<'_, Result<()>> {
        let mut known = self.write();
        for change in changes {
            match change {
                Change::Store(record) => known.store(*record),
                Change::Frames {
                    instance,
                    version,
                    table,
                } => {
                    if known.is_known(&instance, &version) {
                        known.frames.insert(instance, (version, table));
                    }
                }
                Change::Metadata {
                    instance,
                    version,
                    record,
                } => {
                    if known.is_known(&instance, &version) {
                        known.metadata.insert(instance, (version, record));
                    }
                }
                Change::Correct(key, correction) => known.correct(&key, &correction),
                Change::Remove(instance) => known.remove(&instance),
            }
        }
        known.low_water = low_water;
        ready(())
    }

    fn flush(&self) -> BoxFuture<'_, Result<Sequence>> {
        self.low_water()
    }

    fn low_water(&self) -> BoxFuture<'_, Result<Sequence>> {
        ready(self.read().low_water)
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        *self.write() = Known::default();
        ready(())
    }

    fn lookup(&self, instance: &Uid) -> BoxFuture<'_, Result<Option<InstanceRecord>>> {
        let known = self.read();
        let found = known.places.get(instance).and_then(|(study, series)| {
            let study = known.studies.get(study)?;
            let series = study.series.get(series)?;
            Some(Known::complete(study, series, series.instances.get(instance)?))
        });
        ready(found)
    }

    fn frames(&self, instance: &Uid, version: &Locator) -> BoxFuture<'_, Result<Option<Arc<FrameTable>>>> {
        let known = self.read();
        let frames = known.frames.get(instance).filter(|(kept, _)| kept == version);
        ready(frames.map(|(_, table)| Arc::clone(table)))
    }

    fn instances(&self, scope: Scope) -> BoxStream<'static, Result<InstanceRecord>> {
        all(self.read().instances(&scope))
    }

    fn metadata(&self, scope: Scope) -> BoxStream<'static, Result<(InstanceRecord, Option<Bytes>)>> {
        let known = self.read();
        let with_metadata = |record: InstanceRecord| {
            let metadata = known.metadata.get(&record.key.instance);
            let metadata = metadata.map(|(_, metadata)| metadata.clone());
            (record, metadata)
        };
        all(known.instances(&scope).into_iter().map(with_metadata).collect())
    }

    fn query(&self, query: Query) -> BoxStream<'static, Result<DataSet>> {
        all(self.read().answers(&query))
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals>> {
        ready(self.read().totals())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::MemoryIndex;
    use pacs_core::index::Index;

    pacs_core::index_conformance!(conformance, {
        let index = Arc::new(MemoryIndex::new());
        move || Arc::clone(&index) as Arc<dyn Index>
    });
}
