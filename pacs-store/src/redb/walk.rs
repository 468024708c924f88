//! Reading records: from a way to candidates to whole answers.

use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use pacs_core::archive::Locator;
use pacs_core::dataset::{DataSet, Element, FrameTable, Value};
use pacs_core::error::Result;
use pacs_core::index::{InstanceRecord, Scope};
use pacs_core::query::{Key, Query};
use pacs_core::uid::{Level, Uid};

use super::codec::uid_key;
use super::error::storage;
use super::keys::{patient_entries, patient_key};
use super::plan::{self, Candidates, Patients, Stretch};
use super::record::{Instance, Patient, Series, Study, decode_frames, decode_metadata};
use super::stream::{Page, Pager};
use super::tables::{Place, ReadTables, of_series_key, series_key};

/// The instance with this SOP Instance UID.
pub(super) fn lookup(tables: &ReadTables, uid: &Uid) -> Result<Option<InstanceRecord>> {
    let Some(place) = place_of(tables, uid)? else {
        return Ok(None);
    };
    let Some(study) = study(tables, place.study)? else {
        return Ok(None);
    };
    let Some(series) = series(tables, &study, place.study, place.series)? else {
        return Ok(None);
    };
    let Some(record) = tables.instances.get(place.key()).map_err(storage)? else {
        return Ok(None);
    };
    let instance = Instance::decode(record.value(), &series.uid)?;
    finish(tables, place, instance, &study, &series).map(Some)
}

/// Where the frames of this version of an instance lie.
pub(super) fn frames(tables: &ReadTables, uid: &Uid, version: &Locator) -> Result<Option<FrameTable>> {
    let Some(place) = place_of(tables, uid)? else {
        return Ok(None);
    };
    match tables.frames.get(place.key()).map_err(storage)? {
        Some(frames) => decode_frames(frames.value(), version),
        None => Ok(None),
    }
}

fn place_of(tables: &ReadTables, uid: &Uid) -> Result<Option<Place>> {
    let found = tables
        .instance_uids
        .get(uid_key(uid).as_slice())
        .map_err(storage)?;
    Ok(found.map(|place| Place::of_key(place.value())))
}

fn finish(
    tables: &ReadTables,
    place: Place,
    instance: Instance,
    study: &Study,
    series: &Series,
) -> Result<InstanceRecord> {
    if instance.is_large() {
        let large = tables.large.get(place.key()).map_err(storage)?;
        let large = large.as_ref().map(|large| large.value()).unwrap_or_default();
        return instance.finish(study, series, Some(large));
    }
    instance.finish(study, series, None)
}

fn study(tables: &ReadTables, number: u32) -> Result<Option<Study>> {
    let record = tables.studies.get(number).map_err(storage)?;
    record.map(|record| Study::decode(record.value())).transpose()
}

fn series(tables: &ReadTables, above: &Study, study: u32, number: u32) -> Result<Option<Series>> {
    let record = tables.series.get(series_key(study, number)).map_err(storage)?;
    record
        .map(|record| Series::decode(record.value(), &above.uid))
        .transpose()
}

fn put_text(set: &mut Vec<Element>, tag: Tag, vr: VR, text: String) {
    set.push(Element {
        tag,
        vr,
        value: Value::Bytes(Bytes::from(text)),
    });
}

fn put_count(set: &mut Vec<Element>, tag: Tag, count: u64) {
    put_text(set, tag, VR::IS, count.to_string());
}

fn join<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    let mut texts: Vec<_> = texts.collect();
    texts.sort_unstable();
    texts.join("\\")
}

/// All that is known of a patient.
fn patient_answer(patient: &Patient) -> DataSet {
    let mut out: Vec<Element> = patient.attributes.iter().cloned().collect();
    put_count(&mut out, tags::NUMBER_OF_PATIENT_RELATED_STUDIES, patient.studies);
    put_count(&mut out, tags::NUMBER_OF_PATIENT_RELATED_SERIES, patient.series);
    put_count(
        &mut out,
        tags::NUMBER_OF_PATIENT_RELATED_INSTANCES,
        patient.instances,
    );
    DataSet::from(out)
}

/// All that is known of a study and its patient.
fn study_answer(tables: &ReadTables, study: &Study) -> Result<DataSet> {
    let patient = tables
        .patients
        .get(study.patient_key.as_slice())
        .map_err(storage)?;
    let counts = patient
        .map(|patient| Patient::decode_counts(patient.value()))
        .transpose()?;
    let [studies, series, instances] = counts.unwrap_or_default();
    let mut out = Vec::with_capacity(study.patient.len() + study.study.len() + 8);
    put_text(&mut out, tags::STUDY_INSTANCE_UID, VR::UI, study.uid.to_string());
    out.extend(study.patient.iter().cloned());
    out.extend(study.study.iter().cloned());
    put_count(&mut out, tags::NUMBER_OF_PATIENT_RELATED_STUDIES, studies);
    put_count(&mut out, tags::NUMBER_OF_PATIENT_RELATED_SERIES, series);
    put_count(&mut out, tags::NUMBER_OF_PATIENT_RELATED_INSTANCES, instances);
    put_count(&mut out, tags::NUMBER_OF_STUDY_RELATED_SERIES, study.series);
    put_count(&mut out, tags::NUMBER_OF_STUDY_RELATED_INSTANCES, study.instances);
    let modalities = join(study.modalities.0.iter().map(|(text, _)| text.as_str()));
    put_text(&mut out, tags::MODALITIES_IN_STUDY, VR::CS, modalities);
    let classes = join(study.sop_classes.0.iter().map(|(class, _)| class.as_str()));
    put_text(&mut out, tags::SOP_CLASSES_IN_STUDY, VR::UI, classes);
    Ok(DataSet::from(out))
}

/// All that is known of a series and those above it, given the answer for the study.
fn series_answer(above: &DataSet, series: &Series) -> DataSet {
    let mut out: Vec<Element> = above.iter().cloned().collect();
    put_text(
        &mut out,
        tags::SERIES_INSTANCE_UID,
        VR::UI,
        series.uid.to_string(),
    );
    out.extend(series.attributes.iter().cloned());
    put_count(
        &mut out,
        tags::NUMBER_OF_SERIES_RELATED_INSTANCES,
        series.instances,
    );
    DataSet::from(out)
}

/// All that is known of an instance and those above it, given the answer for the series.
fn instance_answer(above: &DataSet, instance: &Instance) -> DataSet {
    let mut out: Vec<Element> = above.iter().cloned().collect();
    put_text(
        &mut out,
        tags::SOP_CLASS_UID,
        VR::UI,
        instance.sop_class.to_string(),
    );
    put_text(&mut out, tags::SOP_INSTANCE_UID, VR::UI, instance.uid.to_string());
    out.extend(instance.attributes.iter().cloned());
    DataSet::from(out)
}

/// What is above the instances of a stretch.
struct Above<'t> {
    tables: &'t ReadTables,
    study: Study,
    number: u32,
}

impl<'t> Above<'t> {
    fn read(tables: &'t ReadTables, number: u32) -> Result<Option<Self>> {
        let study = study(tables, number)?;
        Ok(study.map(|study| Self {
            tables,
            study,
            number,
        }))
    }

    /// The first series of the stretch, with its number.
    fn series(&self, stretch: Stretch) -> Result<Option<(u32, Series)>> {
        let (from, to) = (stretch.from, stretch.to);
        let range = series_key(self.number, from.series)..=series_key(self.number, to.series);
        let Some(entry) = self.tables.series.range(range).map_err(storage)?.next() else {
            return Ok(None);
        };
        let (key, record) = entry.map_err(storage)?;
        let (_, number) = of_series_key(key.value());
        Ok(Some((number, Series::decode(record.value(), &self.study.uid)?)))
    }

    /// Gives the instances of the stretch that are of one series, until the page is full; what is left
    /// of that series then.
    fn instances<T>(
        &self,
        series: &Series,
        stretch: Stretch,
        page: &mut Page<T>,
        mut give: impl FnMut(&mut Page<T>, Place, Instance) -> Result<()>,
    ) -> Result<Option<Stretch>> {
        let range = stretch.from.key()..=stretch.to.key();
        for entry in self.tables.instances.range(range).map_err(storage)? {
            let (key, record) = entry.map_err(storage)?;
            let place = Place::of_key(key.value());
            page.step();
            give(page, place, Instance::decode(record.value(), &series.uid)?)?;
            if page.is_full() {
                return Ok(stretch.after_instance(place));
            }
        }
        Ok(None)
    }
}

/// Makes of the record of the instance at a place what is yielded of it.
type Make<T> = fn(&ReadTables, Place, InstanceRecord, &mut Page<T>) -> Result<T>;

/// The instances of a scope.
pub(super) struct Instances<T> {
    scope: Scope,
    make: Make<T>,
    candidates: Option<Candidates>,
    now: Option<Stretch>,
}

impl Instances<InstanceRecord> {
    pub(super) fn new(scope: Scope) -> Self {
        Self::making(scope, |_, _, record, _| Ok(record))
    }
}

/// Bytes of metadata that count as much as a record.
const METADATA_BYTES_PER_STEP: usize = 16 * 1024;

impl Instances<(InstanceRecord, Option<Bytes>)> {
    pub(super) fn with_metadata(scope: Scope) -> Self {
        Self::making(scope, |tables, place, record, page| {
            let known = tables.metadata.get(place.key()).map_err(storage)?;
            let metadata = match known {
                Some(known) => {
                    page.steps(known.value().len(), METADATA_BYTES_PER_STEP);
                    decode_metadata(known.value(), &record.locator)?
                }
                None => None,
            };
            Ok((record, metadata))
        })
    }
}

impl<T> Instances<T> {
    fn making(scope: Scope, make: Make<T>) -> Self {
        Self {
            scope,
            make,
            candidates: None,
            now: None,
        }
    }

    fn candidates(&self, tables: &ReadTables) -> Result<Candidates> {
        Ok(match &self.scope {
            Scope::All => Candidates::all(tables)?,
            Scope::Patient(id) => Candidates::of_patient(tables, id.trim())?,
            Scope::Study(uid) => Candidates::list(plan::study(tables, uid)?),
            Scope::Series(uid) => Candidates::list(plan::series(tables, uid)?),
            Scope::Instance(uid) => Candidates::list(plan::instances(tables, &[*uid])?),
        })
    }
}

impl<T: Send + Unpin + 'static> Pager for Instances<T> {
    type Item = T;

    fn page(&mut self, tables: &ReadTables, page: &mut Page<T>) -> Result<bool> {
        if self.candidates.is_none() {
            self.candidates = Some(self.candidates(tables)?);
        }
        while !page.is_full() {
            let Some(stretch) = next(&mut self.now, &mut self.candidates, tables, page)? else {
                break;
            };
            page.step();
            let Some(above) = Above::read(tables, stretch.from.study)? else {
                continue;
            };
            if let Scope::Patient(id) = &self.scope
                && above.study.patient_key != patient_key(id.trim())
            {
                continue;
            }
            let stretch = stretch.as_of_now(above.study.next_series);
            let Some((number, series)) = above.series(stretch)? else {
                continue;
            };
            let left = above.instances(
                &series,
                stretch.within_series(number, series.next_instance),
                page,
                |page, place, instance| {
                    let record = finish(tables, place, instance, &above.study, &series)?;
                    let made = (self.make)(tables, place, record, page)?;
                    page.push(made);
                    Ok(())
                },
            )?;
            self.now = left.map_or_else(
                || stretch.after_series(number),
                |left| {
                    Some(Stretch {
                        to: stretch.to,
                        ..left
                    })
                },
            );
        }
        Ok(self.now.is_none() && self.candidates.as_ref().is_some_and(Candidates::is_done))
    }
}

/// What is left of the stretch that is being walked, or the next candidate.
fn next<T>(
    now: &mut Option<Stretch>,
    candidates: &mut Option<Candidates>,
    tables: &ReadTables,
    page: &mut Page<T>,
) -> Result<Option<Stretch>> {
    match (now.take(), candidates) {
        (Some(left), _) => Ok(Some(left)),
        (None, Some(candidates)) => candidates.next(tables, page),
        (None, None) => Ok(None),
    }
}

/// Whether what is below an entity may match, as far as the entity has the attributes of these keys.
fn may_match(keys: &[Key], entity: &DataSet) -> bool {
    keys.iter()
        .all(|key| !entity.contains(key.tag) || key.matches(entity))
}

/// The answers to a query.
pub(super) struct Answers {
    query: Query,
    of_study: Vec<Key>,
    of_series: Vec<Key>,
    patients: Option<Patients>,
    candidates: Option<Candidates>,
    now: Option<Stretch>,
}

impl Answers {
    pub(super) fn new(query: Query) -> Self {
        Self {
            of_study: plan::of_study(&query),
            of_series: plan::of_series(&query),
            query,
            patients: None,
            candidates: None,
            now: None,
        }
    }

    /// Answers from one study, or from what was left of it, until the page is full.
    fn below_study(&mut self, tables: &ReadTables, page: &mut Page<DataSet>, stretch: Stretch) -> Result<()> {
        let Some(above) = Above::read(tables, stretch.from.study)? else {
            return Ok(());
        };
        let study = study_answer(tables, &above.study)?;
        if self.query.level() == Level::Study {
            return self.decide(page, study);
        }
        if !may_match(&self.of_study, &study) {
            return Ok(());
        }
        let mut left = Some(stretch.as_of_now(above.study.next_series));
        while let Some(stretch) = left {
            if page.is_full() {
                self.now = Some(stretch);
                break;
            }
            page.step();
            let Some((number, series)) = above.series(stretch)? else {
                break;
            };
            left = stretch.after_series(number);
            let answer = series_answer(&study, &series);
            if self.query.level() == Level::Series {
                self.decide(page, answer)?;
                continue;
            }
            if !may_match(&self.of_series, &answer) {
                continue;
            }
            let rest = above.instances(
                &series,
                stretch.within_series(number, series.next_instance),
                page,
                |page, _, instance| self.decide(page, instance_answer(&answer, &instance)),
            )?;
            if let Some(rest) = rest {
                self.now = Some(Stretch {
                    to: stretch.to,
                    ..rest
                });
                break;
            }
        }
        Ok(())
    }

    fn decide(&self, page: &mut Page<DataSet>, answer: DataSet) -> Result<()> {
        if self.query.matches(&answer) {
            page.push(answer);
        }
        Ok(())
    }

    fn patients(&mut self, tables: &ReadTables, page: &mut Page<DataSet>) -> Result<bool> {
        let mut patients = match self.patients.take() {
            Some(patients) => patients,
            None => plan::patients(tables, &self.query)?,
        };
        let left = self.some_patients(tables, page, &mut patients);
        self.patients = Some(patients);
        left
    }

    /// Looks at some patients; `false` when none is left.
    fn some_patients(
        &self,
        tables: &ReadTables,
        page: &mut Page<DataSet>,
        patients: &mut Patients,
    ) -> Result<bool> {
        match patients {
            Patients::List(keys) => {
                let Some(key) = keys.pop_front() else {
                    return Ok(false);
                };
                page.step();
                if let Some(record) = tables.patients.get(key.as_slice()).map_err(storage)? {
                    self.decide(page, patient_answer(&Patient::decode(record.value())?))?;
                }
                Ok(true)
            }
            Patients::Table(range, filter) => {
                let (from, to) = (range.from.clone(), range.to.clone());
                for entry in tables
                    .patients
                    .range(from.as_slice()..to.as_slice())
                    .map_err(storage)?
                {
                    let (key, record) = entry.map_err(storage)?;
                    if page.is_full() {
                        range.from = key.value().to_vec();
                        return Ok(true);
                    }
                    page.step();
                    if filter.passes(key.value()) {
                        self.decide(page, patient_answer(&Patient::decode(record.value())?))?;
                    }
                }
                Ok(false)
            }
            Patients::Entries(entries) => {
                let mut found = Vec::new();
                let left = entries.patients(tables, page, |key, entry| {
                    found.push((key.to_vec(), entry.to_vec()));
                    found.len() < 32
                })?;
                for (key, entry) in found {
                    page.step();
                    let Some(record) = tables.patients.get(key.as_slice()).map_err(storage)? else {
                        continue;
                    };
                    let patient = Patient::decode(record.value())?;
                    // Of a patient with several entries the first one counts.
                    let all = patient_entries(&patient, &key);
                    if all.iter().find(|entry| entries.has(entry)) == Some(&entry) {
                        self.decide(page, patient_answer(&patient))?;
                    }
                }
                Ok(left)
            }
        }
    }
}

impl Pager for Answers {
    type Item = DataSet;

    fn page(&mut self, tables: &ReadTables, page: &mut Page<DataSet>) -> Result<bool> {
        if self.query.level() == Level::Patient {
            while !page.is_full() {
                if !self.patients(tables, page)? {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        if self.candidates.is_none() {
            self.candidates = Some(plan::candidates(tables, &self.query)?);
        }
        while !page.is_full() {
            let Some(stretch) = next(&mut self.now, &mut self.candidates, tables, page)? else {
                break;
            };
            page.step();
            self.below_study(tables, page, stretch)?;
        }
        Ok(self.now.is_none() && self.candidates.as_ref().is_some_and(Candidates::is_done))
    }
}
