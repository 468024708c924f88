//! What instances say of their patient, study and series, and what corrects it.

use dicom_dictionary_std::tags;
use pacs_core::dataset::{DataSet, Element};
use pacs_core::error::Result;
use pacs_core::index::InstanceRecord;
use pacs_core::query::LevelAttributes;
use pacs_core::uid::{InstanceKey, Level};

use super::{Writer, place_of, present};
use crate::index::codec::uid_key;
use crate::index::keys::{patient_entries, patient_key};
use crate::index::tables::TablesMut;

/// What a change of a study was to its patient.
#[derive(Clone, Copy)]
enum OfPatient {
    /// Nothing.
    Same,
    /// The same patient, of whom something else is known of the study.
    Changed,
    /// The study is another patient's, who was known.
    Other,
    /// The study is another patient's, who was not.
    New,
}

impl Writer {
    /// Brings what the record says of patient, study and series, which are in the cache, to them.
    pub(super) fn tell(
        &mut self,
        tables: &mut impl TablesMut,
        study: u32,
        series: u32,
        record: &InstanceRecord,
    ) -> Result<()> {
        let told = |level, known: &DataSet| {
            // Nearly always there is nothing new, and that is seen without a copy.
            lacks(known, record.attributes.at(level))
                .then(|| changed(known, |known| record.tell(level, known)))?
        };
        let _ = self.change_study(tables, study, &told)?;
        self.change_patient(study, |known| told(Level::Patient, known))?;
        self.change_series(study, series, &told)
    }

    /// Corrects what is known above an instance that is known.
    pub(super) fn correct(
        &mut self,
        tables: &mut impl TablesMut,
        key: &InstanceKey,
        correction: &LevelAttributes,
    ) -> Result<()> {
        let Some(place) = place_of(tables, &uid_key(&key.instance))? else {
            return Ok(());
        };
        self.load(tables, place.study, place.series)?;
        let uid = present(self.studies.get(&place.study))?.study.uid;
        let series = present(self.series.get(&(place.study, place.series)))?.series.uid;
        if uid != key.study || series != key.series {
            return Ok(());
        }
        let corrected = |level, known: &DataSet| changed(known, |known| correction.correct(level, known));
        let of_patient = self.change_study(tables, place.study, &corrected)?;
        self.change_series(place.study, place.series, &corrected)?;
        let of_study = present(self.studies.get(&place.study))?;
        let of_study = of_study.study.patient.with_values();
        self.change_patient(place.study, |known| match of_patient {
            OfPatient::Same => None,
            OfPatient::Changed => corrected(Level::Patient, known),
            OfPatient::New => changed(known, |known| known.add_from(&of_study)),
            OfPatient::Other => changed(known, |known| known.add_from(&correction.patient.with_values())),
        })
    }

    /// Changes what is known of a study, in the cache with its patient, as `change` says. It may be another
    /// patient's then.
    fn change_study(
        &mut self,
        tables: &mut impl TablesMut,
        number: u32,
        change: &impl Fn(Level, &DataSet) -> Option<DataSet>,
    ) -> Result<OfPatient> {
        let study = present(self.studies.get(&number))?;
        let of_patient = change(Level::Patient, &study.study.patient);
        let of_study = change(Level::Study, &study.study.study);
        if of_patient.is_none() && of_study.is_none() {
            return Ok(OfPatient::Same);
        }
        study.entries_change(number);
        if let Some(of_study) = of_study {
            study.study.study = of_study;
        }
        let Some(of_patient) = of_patient else {
            study.attributes = study.study.encode_attributes();
            return Ok(OfPatient::Same);
        };
        study.study.patient = of_patient;
        let id = study.study.patient.string(tags::PATIENT_ID).unwrap_or_default();
        let key = patient_key(id);
        let (series, instances) = (study.study.series, study.study.instances);
        let before = std::mem::replace(&mut study.study.patient_key, key.clone());
        study.attributes = study.study.encode_attributes();
        if key == before {
            return Ok(OfPatient::Changed);
        }
        self.patient_loses_study(tables, &before, series, instances)?;
        let patients = self.state.totals.patients;
        let patient = self.patient_gets_study(tables, &key)?;
        patient.patient.series += series;
        patient.patient.instances += instances;
        Ok(match self.state.totals.patients > patients {
            true => OfPatient::New,
            false => OfPatient::Other,
        })
    }

    /// Changes what is known of the patient of a study, both in the cache.
    fn change_patient(&mut self, study: u32, change: impl FnOnce(&DataSet) -> Option<DataSet>) -> Result<()> {
        let key = &present(self.studies.get(&study))?.study.patient_key;
        let patient = present(self.patients.get(key))?;
        if let Some(changed) = change(&patient.patient.attributes) {
            if patient.entries.is_none() {
                patient.entries = Some(patient_entries(&patient.patient, key));
            }
            patient.patient.attributes = changed;
            patient.dirty = true;
        }
        Ok(())
    }

    /// Changes what is known of a series, in the cache with its study.
    fn change_series(
        &mut self,
        study_number: u32,
        series_number: u32,
        change: &impl Fn(Level, &DataSet) -> Option<DataSet>,
    ) -> Result<()> {
        let study = present(self.studies.get(&study_number))?;
        let series = present(self.series.get(&(study_number, series_number)))?;
        let Some(changed) = change(Level::Series, &series.series.attributes) else {
            return Ok(());
        };
        let before = series.series.modalities();
        series.series.attributes = changed;
        series.attributes = series.series.encode_attributes(&study.study.uid);
        series.dirty = true;
        let after = series.series.modalities();
        if before != after {
            study.entries_change(study_number);
            for modality in &before {
                study.study.modalities.subtract(modality);
            }
            for modality in after {
                study.study.modalities.add(modality);
            }
        }
        Ok(())
    }
}

/// What is known after `change`, where that is something else.
fn changed(known: &DataSet, change: impl FnOnce(&mut DataSet)) -> Option<DataSet> {
    let mut changed = known.clone();
    change(&mut changed);
    (changed != *known).then_some(changed)
}

/// Whether [`DataSet::add_from`] would bring something new.
fn lacks(have: &DataSet, more: &DataSet) -> bool {
    // Nearly always both hold the same tags: they are walked side by side.
    let mut have = have.iter().peekable();
    more.iter().any(|element: &Element| {
        while have.next_if(|known| known.tag < element.tag).is_some() {}
        have.peek().is_none_or(|known| known.tag != element.tag)
    })
}
