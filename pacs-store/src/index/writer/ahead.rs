//! What a batch is going to look for, told before to tables that are far away.

use dicom_dictionary_std::tags;
use pacs_core::error::Result;
use pacs_core::index::{Change, InstanceRecord};

use super::Writer;
use crate::index::codec::uid_key;
use crate::index::keys::patient_key;
use crate::index::record::Study;
use crate::index::tables::{Lookup, Place, Table, number, series_key, series_uid_key, study_key};

impl Writer {
    /// Tells the tables what these changes look for, as far as it isn't in the cache: in three steps, each of what the one
    /// before leads to.
    pub(super) fn expect<L: Lookup>(&mut self, tables: &L, changes: &[Change]) -> Result<()> {
        if !L::IS_FAR {
            return Ok(());
        }
        let instances = changes.iter().map(|change| match change {
            Change::Store(record) => record.key.instance,
            Change::Frames { instance, .. } | Change::Metadata { instance, .. } => *instance,
            Change::Correct(key, _) => key.instance,
            Change::Remove(instance) => *instance,
        });
        let instances: Vec<_> = instances.map(|uid| uid_key(&uid)).collect();
        let mut wanted: Vec<_> = instances
            .iter()
            .map(|key| (Table::InstanceUids, key.clone()))
            .collect();
        for record in stored(changes) {
            if self.study_numbers.get(&record.key.study).is_none() {
                wanted.push((Table::StudyUids, uid_key(&record.key.study)));
                wanted.push((Table::Patients, patient_of(record)));
            }
        }
        tables.expect(wanted)?;

        let mut wanted = Vec::new();
        let mut above = Vec::new();
        for key in &instances {
            if let Some(place) = tables.get(Table::InstanceUids, key, Place::of_key)? {
                // What else it has may be long, and is only needed where it is replaced.
                wanted.push((Table::Instances, place.key().to_vec()));
                above.push((place.study, Some(place.series)));
            }
        }
        for record in stored(changes) {
            let Some(study) = self.known_study(tables, &record.key.study)? else {
                continue;
            };
            let series = self.series_numbers.get(&(study, record.key.series)).copied();
            if series.is_none() {
                wanted.push((
                    Table::SeriesUids,
                    series_uid_key(&uid_key(&record.key.series), study),
                ));
            }
            above.push((study, series));
        }
        for &(study, series) in &above {
            if self.studies.get(&study).is_none() {
                wanted.push((Table::Studies, study_key(study).to_vec()));
            }
            if let Some(series) = series
                && self.series.get(&(study, series)).is_none()
            {
                wanted.push((Table::Series, series_key(study, series).to_vec()));
            }
        }
        tables.expect(wanted)?;

        let mut wanted = Vec::new();
        for record in stored(changes) {
            let Some(study) = self.known_study(tables, &record.key.study)? else {
                continue;
            };
            if self.series_numbers.get(&(study, record.key.series)).is_some() {
                continue;
            }
            let key = series_uid_key(&uid_key(&record.key.series), study);
            if let Some(series) = tables.get(Table::SeriesUids, &key, number)? {
                wanted.push((Table::Series, series_key(study, series).to_vec()));
            }
        }
        for (study, _) in above {
            if self.studies.get(&study).is_none()
                && let Some(study) = tables.get(Table::Studies, &study_key(study), Study::decode)?
                && self.patients.get(&study.patient_key).is_none()
            {
                wanted.push((Table::Patients, study.patient_key));
            }
        }
        tables.expect(wanted)
    }
}

fn stored(changes: &[Change]) -> impl Iterator<Item = &InstanceRecord> {
    changes.iter().filter_map(|change| match change {
        Change::Store(record) => Some(&**record),
        _ => None,
    })
}

/// Key of the patient whom the record names.
fn patient_of(record: &InstanceRecord) -> Vec<u8> {
    patient_key(
        record
            .attributes
            .patient
            .string(tags::PATIENT_ID)
            .unwrap_or_default(),
    )
}
