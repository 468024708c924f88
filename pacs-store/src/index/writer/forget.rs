//! Forgetting instances, and what has nothing left below it.

use pacs_core::error::Result;

use super::{Writer, change_entries, present};
use crate::index::keys::patient_entries;
use crate::index::record::Instance;
use crate::index::tables::{Place, Table, TablesMut, series_key, series_uid_key, study_key};

impl Writer {
    /// Forgets an instance; what is above it may have none left.
    pub(super) fn forget_instance(
        &mut self,
        tables: &mut impl TablesMut,
        place: Place,
        uid_key: &[u8],
    ) -> Result<()> {
        self.load(tables, place.study, place.series)?;
        let series = present(self.series.get(&(place.study, place.series)))?;
        let key = place.key();
        let instance = present(tables.get(Table::Instances, &key, |record| {
            Instance::decode(record, &series.series.uid)
        })?)?;
        let length = instance.length()?;
        tables.remove(Table::Instances, &key)?;
        if instance.is_large() {
            tables.remove(Table::Large, &key)?;
        }
        tables.remove(Table::Frames, &key)?;
        tables.remove(Table::Metadata, &key)?;
        tables.remove(Table::InstanceUids, uid_key)?;
        self.state.totals.instances = self.state.totals.instances.saturating_sub(1);
        self.state.totals.bytes = self.state.totals.bytes.saturating_sub(length);

        series.dirty = true;
        series.series.instances = series.series.instances.saturating_sub(1);
        let study = present(self.studies.get(&place.study))?;
        study.dirty = true;
        study.study.instances = study.study.instances.saturating_sub(1);
        study.study.bytes = study.study.bytes.saturating_sub(length);
        study.study.sop_classes.subtract(&instance.sop_class);
        let patient = present(self.patients.get(&study.study.patient_key))?;
        patient.dirty = true;
        patient.patient.instances = patient.patient.instances.saturating_sub(1);
        Ok(())
    }

    /// Forgets the series that stands there, its study and its patient, where they have no instance left. They are
    /// in the cache.
    pub(super) fn forget_empty(&mut self, tables: &mut impl TablesMut, place: Place) -> Result<()> {
        let above = (place.study, place.series);
        let series = present(self.series.get(&above))?;
        if series.series.instances > 0 {
            return Ok(());
        }
        let study = present(self.studies.get(&place.study))?;
        let patient = present(self.patients.get(&study.study.patient_key))?;
        patient.patient.series = patient.patient.series.saturating_sub(1);
        study.entries_change(place.study);
        study.study.series = study.study.series.saturating_sub(1);
        for modality in series.series.modalities() {
            study.study.modalities.subtract(&modality);
        }
        let series_uid = series.series.uid;
        self.series.remove(&above);
        self.series_numbers.remove(&(place.study, series_uid));
        self.state.totals.series = self.state.totals.series.saturating_sub(1);
        let key = series_uid_key(&crate::index::codec::uid_key(&series_uid), place.study);
        tables.remove(Table::SeriesUids, &key)?;
        tables.remove(Table::Series, &series_key(place.study, place.series))?;
        if study.study.series > 0 {
            return Ok(());
        }

        let study = present(self.studies.remove(&place.study))?;
        self.study_numbers.remove(&study.study.uid);
        self.state.totals.studies = self.state.totals.studies.saturating_sub(1);
        let key = crate::index::codec::uid_key(&study.study.uid);
        tables.remove(Table::StudyUids, &key)?;
        tables.remove(Table::Studies, &study_key(place.study))?;
        change_entries(tables, &study.entries.unwrap_or_default(), &[])?;
        self.patient_loses_study(tables, &study.study.patient_key, 0, 0)
    }

    /// The patient with this key loses a study with so many series and instances; the last study takes
    /// the patient with it.
    pub(super) fn patient_loses_study(
        &mut self,
        tables: &mut impl TablesMut,
        key: &Vec<u8>,
        series: u64,
        instances: u64,
    ) -> Result<()> {
        let entry = present(self.patients.get(key))?;
        entry.dirty = true;
        entry.patient.studies = entry.patient.studies.saturating_sub(1);
        entry.patient.series = entry.patient.series.saturating_sub(series);
        entry.patient.instances = entry.patient.instances.saturating_sub(instances);
        if entry.patient.studies > 0 {
            return Ok(());
        }
        let known = entry.entries.take();
        let known = known.unwrap_or_else(|| patient_entries(&entry.patient, key));
        self.patients.remove(key);
        self.state.totals.patients = self.state.totals.patients.saturating_sub(1);
        tables.remove(Table::Patients, key)?;
        change_entries(tables, &known, &[])
    }
}
