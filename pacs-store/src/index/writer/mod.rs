//! Applying changes: one write transaction a batch.
//!
//! The records of the last studies, series and patients stay decoded between batches, so that an
//! instance of a study that grows costs its own record, one look at the table of UIDs, and once a batch
//! the counts of what is above it.

mod above;
mod ahead;
mod cache;
mod forget;

use dicom_dictionary_std::tags;
use pacs_core::archive::{Locator, Sequence};
use pacs_core::error::{Error, ErrorKind, Result};
use pacs_core::index::{Change, InstanceRecord};
use pacs_core::uid::Uid;

use cache::{Cache, PatientEntry, SeriesEntry, StudyEntry};

use crate::index::codec::uid_key;
use crate::index::keys::{kinds_below_study, patient_entries, patient_key, study_entries};
use crate::index::record::{
    Counts, Instance, Patient, Series, State, Study, encode_frames, encode_instance, encode_metadata, is_of,
};
use crate::index::tables::{
    Lookup, META_STATE, Place, Table, TablesMut, number, series_key, series_uid_key, study_key, whole,
};

/// Numbers that an instance keeps when it is replaced, so that a stream that runs meanwhile meets it once.
#[derive(Clone, Copy, Default)]
struct Again {
    study: Option<u32>,
    /// In its series, which is the same.
    instance: Option<u32>,
}

/// What stays between batches. After a batch that failed it must be made anew.
pub(crate) struct Writer {
    pub(super) state: State,
    patients: Cache<Vec<u8>, PatientEntry>,
    studies: Cache<u32, StudyEntry>,
    series: Cache<(u32, u32), SeriesEntry>,
    study_numbers: Cache<Uid, u32>,
    series_numbers: Cache<(u32, Uid), u32>,
}

impl Writer {
    pub(crate) fn new(state: State) -> Self {
        Self {
            state,
            patients: Cache::new(),
            studies: Cache::new(),
            series: Cache::new(),
            study_numbers: Cache::new(),
            series_numbers: Cache::new(),
        }
    }

    /// Applies a batch to the tables of a transaction that the caller commits.
    pub(crate) fn apply(
        &mut self,
        tables: &mut impl TablesMut,
        changes: &[Change],
        low_water: Sequence,
    ) -> Result<()> {
        self.expect(tables, changes)?;
        for change in changes {
            match change {
                Change::Store(record) => self.store(tables, record)?,
                Change::Frames {
                    instance,
                    version,
                    table,
                } => {
                    if let Some(place) = place_of(tables, &uid_key(instance))?
                        && self.locator(tables, place)? == *version
                    {
                        let frames = encode_frames(version, table);
                        tables.put(Table::Frames, &place.key(), &frames)?;
                    }
                }
                Change::Metadata {
                    instance,
                    version,
                    record,
                } => {
                    if let Some(place) = place_of(tables, &uid_key(instance))?
                        && self.locator(tables, place)? == *version
                    {
                        let metadata = encode_metadata(version, record);
                        tables.put(Table::Metadata, &place.key(), &metadata)?;
                    }
                }
                Change::Correct(key, correction) => self.correct(tables, key, correction)?,
                Change::Remove(instance) => {
                    let uid_key = uid_key(instance);
                    if let Some(place) = place_of(tables, &uid_key)? {
                        self.forget_instance(tables, place, &uid_key)?;
                        self.forget_empty(tables, place)?;
                    }
                }
            }
        }
        self.write_back(tables)?;
        self.state.low_water = low_water;
        tables.put(Table::Meta, META_STATE, &self.state.encode())?;
        self.patients.trim();
        self.studies.trim();
        self.series.trim();
        self.study_numbers.trim();
        self.series_numbers.trim();
        Ok(())
    }

    fn store(&mut self, tables: &mut impl TablesMut, record: &InstanceRecord) -> Result<()> {
        let uid_key = uid_key(&record.key.instance);
        let (bytes, large) = encode_instance(record);
        let mut again = Again::default();
        let (mut frames, mut metadata) = (None, None);
        if let Some(place) = place_of(tables, &uid_key)? {
            if self.is_same(tables, place, record, &bytes, large.as_deref())? {
                // Applied before; only what it fills above it may be missing still.
                return self.tell(tables, place.study, place.series, record);
            }
            again = self.numbers_to_keep(tables, place, record)?;
            frames = tables.get(Table::Frames, &place.key(), whole)?;
            metadata = tables.get(Table::Metadata, &place.key(), whole)?;
            self.forget_instance(tables, place, &uid_key)?;
            // In its own series again, what is above it stays known also where nothing else is below.
            if again.instance.is_none() {
                self.forget_empty(tables, place)?;
            }
        }

        let study_number = self.study(tables, record, again)?;
        let series_number = self.series(tables, study_number, record)?;
        self.tell(tables, study_number, series_number, record)?;

        self.state.kinds_below_study |=
            kinds_below_study(&record.attributes.series, &record.attributes.instance);
        let study = present(self.studies.get(&study_number))?;
        study.dirty = true;
        study.study.instances += 1;
        study.study.bytes = study.study.bytes.saturating_add(record.length);
        study.study.sop_classes.add(record.sop_class);
        let patient = present(self.patients.get(&study.study.patient_key))?;
        patient.dirty = true;
        patient.patient.instances += 1;
        let series = present(self.series.get(&(study_number, series_number)))?;
        series.dirty = true;
        series.series.instances += 1;
        let place = Place {
            study: study_number,
            series: series_number,
            instance: again.instance.unwrap_or(series.series.next_instance),
        };
        series.series.next_instance = series.series.next_instance.max(next(place.instance)?);
        self.state.totals.instances += 1;
        self.state.totals.bytes = self.state.totals.bytes.saturating_add(record.length);

        let key = place.key();
        tables.put(Table::InstanceUids, &uid_key, &key)?;
        tables.put(Table::Instances, &key, &bytes)?;
        if let Some(large) = large {
            tables.put(Table::Large, &key, &large)?;
        }
        if let Some(frames) = frames
            && is_of(&frames, &record.locator)?
        {
            tables.put(Table::Frames, &key, &frames)?;
        }
        if let Some(metadata) = metadata
            && is_of(&metadata, &record.locator)?
        {
            tables.put(Table::Metadata, &key, &metadata)?;
        }
        Ok(())
    }

    /// What an instance that is replaced may keep of its place.
    fn numbers_to_keep(
        &mut self,
        tables: &impl Lookup,
        place: Place,
        record: &InstanceRecord,
    ) -> Result<Again> {
        self.load(tables, place.study, place.series)?;
        let mut again = Again::default();
        if present(self.studies.get(&place.study))?.study.uid == record.key.study {
            again.study = Some(place.study);
            let series = present(self.series.get(&(place.study, place.series)))?;
            if series.series.uid == record.key.series {
                again.instance = Some(place.instance);
            }
        }
        Ok(again)
    }

    /// Whether exactly this record stands there.
    fn is_same(
        &mut self,
        tables: &impl Lookup,
        place: Place,
        record: &InstanceRecord,
        bytes: &[u8],
        large: Option<&[u8]>,
    ) -> Result<bool> {
        // The bytes first: they hold the UID as what differs from the series', and the sequence.
        let same = tables.get(Table::Instances, &place.key(), |known| Ok(known == bytes))?;
        if same != Some(true) {
            return Ok(false);
        }
        self.load(tables, place.study, place.series)?;
        let study = present(self.studies.get(&place.study))?.study.uid;
        let series = present(self.series.get(&(place.study, place.series)))?.series.uid;
        if study != record.key.study || series != record.key.series {
            return Ok(false);
        }
        let same = tables.get(Table::Large, &place.key(), |known| Ok(large == Some(known)))?;
        Ok(same.unwrap_or(large.is_none()))
    }

    /// Where the archive keeps the version of the instance that stands there.
    fn locator(&mut self, tables: &impl Lookup, place: Place) -> Result<Locator> {
        self.load(tables, place.study, place.series)?;
        let series = present(self.series.get(&(place.study, place.series)))?;
        let locator = tables.get(Table::Instances, &place.key(), |known| {
            Instance::decode(known, &series.series.uid)?.locator()
        })?;
        present(locator)
    }

    /// Brings a series that is known into the cache, with its study and patient.
    fn load(&mut self, tables: &impl Lookup, study: u32, series: u32) -> Result<()> {
        self.load_study(tables, study)?;
        if self.series.get(&(study, series)).is_some() {
            return Ok(());
        }
        let study_uid = present(self.studies.get(&study))?.study.uid;
        let value = present(tables.get(Table::Series, &series_key(study, series), |record| {
            Series::decode(record, &study_uid)
        })?)?;
        let entry = SeriesEntry {
            attributes: value.encode_attributes(&study_uid),
            series: value,
            dirty: false,
        };
        self.series.put((study, series), entry);
        Ok(())
    }

    /// Brings a study that is known into the cache, with its patient.
    fn load_study(&mut self, tables: &impl Lookup, number: u32) -> Result<()> {
        if self.studies.get(&number).is_none() {
            let study = present(tables.get(Table::Studies, &study_key(number), Study::decode)?)?;
            let entry = StudyEntry {
                attributes: study.encode_attributes(),
                study,
                dirty: false,
                entries: None,
            };
            self.studies.put(number, entry);
        }
        let key = &present(self.studies.get(&number))?.study.patient_key;
        if self.patients.get(key).is_none() {
            let entry = PatientEntry {
                patient: present(tables.get(Table::Patients, key, Patient::decode)?)?,
                dirty: false,
                entries: None,
            };
            self.patients.put(key.clone(), entry);
        }
        Ok(())
    }

    /// The patient with this key, made when it isn't known, with one study more.
    fn patient_gets_study(&mut self, tables: &impl Lookup, key: &[u8]) -> Result<&mut PatientEntry> {
        let key = key.to_vec();
        if self.patients.get(&key).is_none() {
            let known = tables.get(Table::Patients, &key, Patient::decode)?;
            if known.is_none() {
                self.state.totals.patients += 1;
            }
            let entry = PatientEntry {
                entries: known.is_none().then(Vec::new),
                patient: known.unwrap_or_default(),
                dirty: false,
            };
            self.patients.put(key.clone(), entry);
        }
        let entry = present(self.patients.get(&key))?;
        entry.dirty = true;
        entry.patient.studies += 1;
        Ok(entry)
    }

    /// Number of the study, if it is known.
    fn known_study(&mut self, tables: &impl Lookup, uid: &Uid) -> Result<Option<u32>> {
        match self.study_numbers.get(uid) {
            Some(&mut number) => Ok(Some(number)),
            None => tables.get(Table::StudyUids, &uid_key(uid), number),
        }
    }

    /// Number of the record's study, which is made when it isn't known.
    fn study(&mut self, tables: &mut impl TablesMut, record: &InstanceRecord, again: Again) -> Result<u32> {
        let uid = record.key.study;
        if let Some(number) = self.known_study(tables, &uid)? {
            self.study_numbers.put(uid, number);
            self.load_study(tables, number)?;
            return Ok(number);
        }
        let number = again.study.unwrap_or(self.state.next_study);
        self.state.next_study = self.state.next_study.max(next(number)?);
        let patient = &record.attributes.patient;
        let study = Study {
            uid,
            patient_key: patient_key(patient.string(tags::PATIENT_ID).unwrap_or_default()),
            series: 0,
            instances: 0,
            bytes: 0,
            next_series: 0,
            modalities: Counts::default(),
            sop_classes: Counts::default(),
            patient: patient.clone(),
            study: record.attributes.study.clone(),
        };
        self.patient_gets_study(tables, &study.patient_key)?;
        let entry = StudyEntry {
            attributes: study.encode_attributes(),
            study,
            dirty: true,
            entries: Some(Vec::new()),
        };
        self.studies.put(number, entry);
        self.study_numbers.put(uid, number);
        self.state.totals.studies += 1;
        tables.put(Table::StudyUids, &uid_key(&uid), &number.to_be_bytes())?;
        Ok(number)
    }

    /// Number of the record's series in a study in the cache; it is made when it isn't known.
    fn series(&mut self, tables: &mut impl TablesMut, study: u32, record: &InstanceRecord) -> Result<u32> {
        let uid = record.key.series;
        if let Some(&mut number) = self.series_numbers.get(&(study, uid)) {
            self.load(tables, study, number)?;
            return Ok(number);
        }
        let key = series_uid_key(&uid_key(&uid), study);
        let has_series = present(self.studies.get(&study))?.study.series > 0;
        if has_series && let Some(number) = tables.get(Table::SeriesUids, &key, number)? {
            self.series_numbers.put((study, uid), number);
            self.load(tables, study, number)?;
            return Ok(number);
        }
        let above = present(self.studies.get(&study))?;
        let number = above.study.next_series;
        above.study.next_series = above.study.next_series.max(next(number)?);
        above.study.series += 1;
        let series = Series {
            uid,
            instances: 0,
            next_instance: 0,
            attributes: record.attributes.series.clone(),
        };
        above.entries_change(study);
        for modality in series.modalities() {
            above.study.modalities.add(modality);
        }
        present(self.patients.get(&above.study.patient_key))?
            .patient
            .series += 1;
        let entry = SeriesEntry {
            attributes: series.encode_attributes(&above.study.uid),
            series,
            dirty: true,
        };
        self.series.put((study, number), entry);
        self.series_numbers.put((study, uid), number);
        self.state.totals.series += 1;
        tables.put(Table::SeriesUids, &key, &number.to_be_bytes())?;
        Ok(number)
    }

    /// Writes what changed above the instances.
    fn write_back(&mut self, tables: &mut impl TablesMut) -> Result<()> {
        for (key, entry) in self.patients.values().filter(|(_, entry)| entry.dirty) {
            entry.dirty = false;
            if let Some(known) = entry.entries.take() {
                change_entries(tables, &known, &patient_entries(&entry.patient, key))?;
            }
            let record = entry.patient.encode();
            tables.put(Table::Patients, key, &record)?;
        }
        for (&number, entry) in self.studies.values().filter(|(_, entry)| entry.dirty) {
            entry.dirty = false;
            if let Some(known) = entry.entries.take() {
                change_entries(tables, &known, &study_entries(&entry.study, number))?;
            }
            let record = entry.study.encode(&entry.attributes);
            tables.put(Table::Studies, &study_key(number), &record)?;
        }
        for (&(study, series), entry) in self.series.values().filter(|(_, entry)| entry.dirty) {
            entry.dirty = false;
            let record = entry.series.encode(&entry.attributes);
            tables.put(Table::Series, &series_key(study, series), &record)?;
        }
        Ok(())
    }
}

/// Where the instance stands.
fn place_of(tables: &impl Lookup, uid_key: &[u8]) -> Result<Option<Place>> {
    tables.get(Table::InstanceUids, uid_key, Place::of_key)
}

/// Replaces the secondary entries `known` by `wanted`; both are in ascending order.
fn change_entries(tables: &mut impl TablesMut, known: &[Vec<u8>], wanted: &[Vec<u8>]) -> Result<()> {
    for entry in known.iter().filter(|entry| wanted.binary_search(entry).is_err()) {
        tables.remove(Table::Keys, entry)?;
    }
    for entry in wanted.iter().filter(|entry| known.binary_search(entry).is_err()) {
        tables.put(Table::Keys, entry, &[])?;
    }
    Ok(())
}

/// The number after `number`.
fn next(number: u32) -> Result<u32> {
    number.checked_add(1).ok_or_else(|| {
        Error::new(
            ErrorKind::OutOfResources,
            "index.apply",
            "the index has no number left: rebuild it from the archive",
        )
    })
}

/// What one table says stands in another.
fn present<T>(record: Option<T>) -> Result<T> {
    record.ok_or_else(|| {
        Error::new(
            ErrorKind::Corrupt,
            "index.apply",
            "the index contradicts itself: rebuild it from the archive",
        )
    })
}
