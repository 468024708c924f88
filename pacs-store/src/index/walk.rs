//! Reading records: from a way to candidates to whole answers.

use std::marker::PhantomData;
use std::ops::{Bound, ControlFlow};

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
use super::keys::{patient_entries, patient_key};
use super::page::{Page, Pager};
use super::plan::{self, Candidates, Patients, Stretch};
use super::record::{Instance, Patient, Series, Study, decode_frames, decode_metadata};
use super::tables::{Lookup, Place, Table, Tables, is_damaged, number_at_end, series_key, study_key, whole};

/// The instance with this SOP Instance UID.
pub(crate) fn lookup(tables: &impl Lookup, uid: &Uid) -> Result<Option<InstanceRecord>> {
    let Some(place) = place_of(tables, uid)? else {
        return Ok(None);
    };
    let Some(study) = study(tables, place.study)? else {
        return Ok(None);
    };
    let Some(series) = series(tables, &study, place.study, place.series)? else {
        return Ok(None);
    };
    let instance = tables.get(Table::Instances, &place.key(), |record| {
        Instance::decode(record, &series.uid)
    })?;
    instance
        .map(|instance| finish(tables, place, instance, &study, &series))
        .transpose()
}

/// Where the frames of this version of an instance lie.
pub(crate) fn frames(tables: &impl Lookup, uid: &Uid, version: &Locator) -> Result<Option<FrameTable>> {
    let Some(place) = place_of(tables, uid)? else {
        return Ok(None);
    };
    let frames = tables.get(Table::Frames, &place.key(), |frames| {
        decode_frames(frames, version)
    })?;
    Ok(frames.flatten())
}

fn place_of(tables: &impl Lookup, uid: &Uid) -> Result<Option<Place>> {
    tables.get(Table::InstanceUids, &uid_key(uid), Place::of_key)
}

fn finish(
    tables: &impl Lookup,
    place: Place,
    instance: Instance,
    study: &Study,
    series: &Series,
) -> Result<InstanceRecord> {
    if instance.is_large() {
        let large = tables.get(Table::Large, &place.key(), whole)?;
        return instance.finish(study, series, Some(&large.unwrap_or_default()));
    }
    instance.finish(study, series, None)
}

fn study(tables: &impl Lookup, number: u32) -> Result<Option<Study>> {
    tables.get(Table::Studies, &study_key(number), Study::decode)
}

fn series(tables: &impl Lookup, above: &Study, study: u32, number: u32) -> Result<Option<Series>> {
    tables.get(Table::Series, &series_key(study, number), |record| {
        Series::decode(record, &above.uid)
    })
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
fn study_answer(tables: &impl Tables, study: &Study) -> Result<DataSet> {
    let counts = tables.get(Table::Patients, &study.patient_key, Patient::decode_counts)?;
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
struct Above<'t, T> {
    tables: &'t T,
    study: Study,
    number: u32,
}

impl<'t, T: Tables> Above<'t, T> {
    fn read(tables: &'t T, number: u32) -> Result<Option<Self>> {
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
        let (from, to) = (
            series_key(self.number, from.series),
            series_key(self.number, to.series),
        );
        let between = (Bound::Included(&from[..]), Bound::Included(&to[..]));
        let mut first = None;
        self.tables.range(Table::Series, between, 1, |key, record| {
            let number = number_at_end(key).ok_or_else(is_damaged)?;
            first = Some((number, Series::decode(record, &self.study.uid)?));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(first)
    }

    /// Gives the instances of the stretch that are of one series, until the page is full; what is left
    /// of that series then.
    fn instances<A>(
        &self,
        series: &Series,
        stretch: Stretch,
        page: &mut Page<A>,
        mut give: impl FnMut(&mut Page<A>, Place, Instance) -> Result<()>,
    ) -> Result<Option<Stretch>> {
        let (from, to) = (stretch.from.key(), stretch.to.key());
        let between = (Bound::Included(&from[..]), Bound::Included(&to[..]));
        let mut left = None;
        self.tables
            .range(Table::Instances, between, page.left().max(1), |key, record| {
                let place = Place::of_key(key)?;
                page.step();
                give(page, place, Instance::decode(record, &series.uid)?)?;
                if page.is_full() {
                    left = stretch.after_instance(place);
                    return Ok(ControlFlow::Break(()));
                }
                Ok(ControlFlow::Continue(()))
            })?;
        Ok(left)
    }
}

/// What is yielded of an instance.
pub(crate) trait Yielded: Sized + Send + Unpin + 'static {
    /// Made of the record of the instance at a place.
    fn of(tables: &impl Tables, record: InstanceRecord, key: &[u8], page: &mut Page<Self>) -> Result<Self>;
}

impl Yielded for InstanceRecord {
    fn of(_: &impl Tables, record: InstanceRecord, _: &[u8], _: &mut Page<Self>) -> Result<Self> {
        Ok(record)
    }
}

/// Bytes of metadata that count as much as a record.
const METADATA_BYTES_PER_STEP: usize = 16 * 1024;

impl Yielded for (InstanceRecord, Option<Bytes>) {
    fn of(tables: &impl Tables, record: InstanceRecord, key: &[u8], page: &mut Page<Self>) -> Result<Self> {
        let metadata = tables.get(Table::Metadata, key, |known| {
            page.steps(known.len(), METADATA_BYTES_PER_STEP);
            decode_metadata(known, &record.locator)
        })?;
        Ok((record, metadata.flatten()))
    }
}

/// The instances of a scope.
pub(crate) struct Instances<T> {
    scope: Scope,
    candidates: Option<Candidates>,
    now: Option<Stretch>,
    yielded: PhantomData<fn() -> T>,
}

impl<T: Yielded> Instances<T> {
    pub(crate) fn new(scope: Scope) -> Self {
        Self {
            scope,
            candidates: None,
            now: None,
            yielded: PhantomData,
        }
    }

    fn candidates(&self, tables: &impl Tables) -> Result<Candidates> {
        Ok(match &self.scope {
            Scope::All => Candidates::all(tables)?,
            Scope::Patient(id) => Candidates::of_patient(tables, id.trim())?,
            Scope::Study(uid) => Candidates::list(plan::study(tables, uid)?),
            Scope::Series(uid) => Candidates::list(plan::series(tables, uid)?),
            Scope::Instance(uid) => Candidates::list(plan::instances(tables, &[*uid])?),
        })
    }
}

impl<T: Yielded> Pager for Instances<T> {
    type Item = T;

    fn page(&mut self, tables: &impl Tables, page: &mut Page<T>) -> Result<bool> {
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
                    let made = T::of(tables, record, &place.key(), page)?;
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
    tables: &impl Tables,
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
pub(crate) struct Answers {
    query: Query,
    of_study: Vec<Key>,
    of_series: Vec<Key>,
    patients: Option<Patients>,
    candidates: Option<Candidates>,
    now: Option<Stretch>,
}

impl Answers {
    pub(crate) fn new(query: Query) -> Self {
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
    fn below_study(
        &mut self,
        tables: &impl Tables,
        page: &mut Page<DataSet>,
        stretch: Stretch,
    ) -> Result<()> {
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

    fn patients(&mut self, tables: &impl Tables, page: &mut Page<DataSet>) -> Result<bool> {
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
        tables: &impl Tables,
        page: &mut Page<DataSet>,
        patients: &mut Patients,
    ) -> Result<bool> {
        match patients {
            Patients::List(keys) => {
                let Some(key) = keys.pop_front() else {
                    return Ok(false);
                };
                page.step();
                if let Some(patient) = tables.get(Table::Patients, &key, Patient::decode)? {
                    self.decide(page, patient_answer(&patient))?;
                }
                Ok(true)
            }
            Patients::Table(range, filter) => {
                let between = (Bound::Included(&*range.from), Bound::Excluded(&*range.to));
                let mut next = None;
                // One more than there is time for, to know where to go on.
                tables.range(Table::Patients, between, page.left() + 1, |key, record| {
                    if page.is_full() {
                        next = Some(key.to_vec());
                        return Ok(ControlFlow::Break(()));
                    }
                    page.step();
                    if filter.passes(key) {
                        self.decide(page, patient_answer(&Patient::decode(record)?))?;
                    }
                    Ok(ControlFlow::Continue(()))
                })?;
                Ok(match next {
                    Some(next) => {
                        range.from = next;
                        true
                    }
                    None => false,
                })
            }
            Patients::Entries(entries) => {
                let mut found = Vec::new();
                let left = entries.patients(tables, page, |key, entry| {
                    found.push((key.to_vec(), entry.to_vec()));
                    found.len() < 32
                })?;
                tables.expect(found.iter().map(|(key, _)| (Table::Patients, key.clone())))?;
                for (key, entry) in found {
                    page.step();
                    let Some(patient) = tables.get(Table::Patients, &key, Patient::decode)? else {
                        continue;
                    };
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

    fn page(&mut self, tables: &impl Tables, page: &mut Page<DataSet>) -> Result<bool> {
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
