//! Correcting attributes of what is kept: a patient's name, the patient that a study belongs to.
//!
//! The bytes that came never change. An amended instance has a later version in the archive: the same data set,
//! and in its File Meta Information what takes the place of attributes on its way out
//! ([`coercion`](crate::dataset::coercion)). So an index that is made anew knows every amendment, and what was
//! before is still there.

use std::sync::Arc;

use dicom_dictionary_std::tags;
use futures::{StreamExt, TryStreamExt};

use super::coerce::{self, Original, Reason};
use super::recovery::read_header;
use super::{Pacs, Receipt, StoreOutcome, outgoing};
use crate::archive::Timestamp;
use crate::dataset::part10::Meta;
use crate::dataset::{DataSet, Element};
use crate::error::{Error, ErrorKind, Result};
use crate::hooks::Source;
use crate::index::{InstanceRecord, Scope};
use crate::query::{Model, Query, QueryOptions};
use crate::uid::{AeTitle, InstanceKey, Level, Uid};

/// Instances that are amended at once: their commits share a flush of the medium.
const AT_ONCE: usize = 8;

/// What an amendment came to.
#[derive(Debug, Default)]
pub struct Amended {
    /// Instances that leave with other values than before.
    pub amended: u64,
    /// Instances that had these values already.
    pub unchanged: u64,
    /// Instances that stay as they were, and why.
    pub failed: Vec<(InstanceKey, Error)>,
}

impl Pacs {
    /// Corrects attributes of every instance of `scope`: puts `wanted` in place of what they have, elements of the
    /// top level in normal form, with or without a value.
    ///
    /// Queries find the new values, also of patient, study and series, and not the old ones. The instances leave
    /// with them, and with what they had before in Original Attributes Sequence (0400,0561), with the reason
    /// CORRECT (PS3.3 C.12.1.1.9). The stored data sets stay byte for byte what came; each amended instance
    /// is kept once more, and its earlier version stays.
    ///
    /// Each instance is amended for itself: where the call is broken off, some are and some are not, and the same
    /// call again does the rest. One that can't be amended costs no other. An instance of the study that
    /// comes later comes as it is sent.
    ///
    /// What may not be coerced may not be amended either: see [`Coercer`](crate::hooks::Coercer).
    ///
    /// # Errors
    /// - `Invalid` when nothing is wanted, something that may not be amended, or the scope is everything, or
    ///   all patients without a Patient ID.
    /// - `NotFound` when nothing of the scope is kept.
    /// - What the index says, and what of the archive or the engine would fail any other instance too.
    pub async fn amend(&self, source: &Source, scope: Scope, wanted: DataSet) -> Result<Amended> {
        if wanted.is_empty() {
            return Err(invalid("nothing is to be amended"));
        }
        wanted.iter().try_for_each(coerce::may_be_coerced)?;
        let mut done = Amended::default();
        for scope in self.amendable(scope, &wanted).await? {
            self.amend_all(source, scope, &wanted, &mut done).await?;
        }
        let Amended {
            amended,
            unchanged,
            failed,
        } = &done;
        if amended + unchanged == 0 && failed.is_empty() {
            return Err(Error::new(
                ErrorKind::NotFound,
                "engine.amend",
                "nothing of it is kept",
            ));
        }
        tracing::info!(
            amended,
            unchanged,
            failed = failed.len(),
            "attributes were amended"
        );
        Ok(done)
    }

    /// Makes one patient of two, as when it turns out that both are one person (HL7 ADT A40): every instance of the
    /// patient with the Patient ID `prior` is amended to all that is known of the patient `surviving`.
    /// What is known of the prior one only, it loses.
    ///
    /// # Errors
    /// `NotFound` when nothing of one of the two is kept, `Invalid` when they are the same or have no Patient ID;
    /// otherwise as for [`amend`](Self::amend).
    pub async fn merge_patients(&self, source: &Source, prior: &str, surviving: &str) -> Result<Amended> {
        if prior == surviving {
            return Err(invalid("a patient can't be merged with itself"));
        }
        let Some(mut wanted) = self.patient(surviving).await? else {
            let what = "nothing of the surviving patient is kept";
            return Err(Error::new(ErrorKind::NotFound, "engine.amend", what));
        };
        for known in self.patient(prior).await?.iter().flat_map(DataSet::iter) {
            if !wanted.contains(known.tag) {
                wanted.put(coerce::without_value(known));
            }
        }
        self.amend(source, Scope::Patient(prior.to_owned()), wanted).await
    }

    /// What is known of a patient, as far as it can be amended.
    async fn patient(&self, id: &str) -> Result<Option<DataSet>> {
        if id.is_empty() {
            return Err(no_patient());
        }
        let mut keys = DataSet::new();
        keys.put_text(tags::PATIENT_ID, dicom_core::VR::LO, id);
        let query = Query::new(Model::PatientRoot, Level::Patient, keys, QueryOptions::default());
        let mut found = self.inner.index.query(query);
        while let Some(mut patient) = found.try_next().await? {
            // A wild card in the key is only a letter here.
            if patient.string(tags::PATIENT_ID) == Some(id) {
                patient.retain(|element| {
                    let derived = element.tag.0 == 0x0020;
                    !derived && coerce::may_be_coerced(element).is_ok()
                });
                return Ok(Some(patient));
            }
        }
        Ok(None)
    }

    /// The parts of `scope` that stay what they are while their instances are amended: a study leaves its patient
    /// with the first of them.
    async fn amendable(&self, scope: Scope, wanted: &DataSet) -> Result<Vec<Scope>> {
        let patient = match scope {
            Scope::All => return Err(invalid("not everything can be amended at once")),
            Scope::Patient(patient) if patient.is_empty() => return Err(no_patient()),
            Scope::Patient(patient) => patient,
            scope => return Ok(vec![scope]),
        };
        let other = wanted.string(tags::PATIENT_ID).filter(|id| **id != patient);
        let mut studies = self.studies(&patient, |_| true).await?;
        if let Some(other) = other {
            // Such a call that was broken off left studies there of which not all is amended.
            let is_amended = |record: &InstanceRecord| {
                let coerced = record.coerced.as_ref();
                coerced.is_some_and(|coerced| coerced.contains(tags::PATIENT_ID))
            };
            studies.extend(self.studies(other, is_amended).await?);
        }
        Ok(studies.into_iter().map(Scope::Study).collect())
    }

    /// The studies of a patient that have an instance of this kind.
    async fn studies(&self, patient: &str, is_one: impl Fn(&InstanceRecord) -> bool) -> Result<Vec<Uid>> {
        let mut studies = Vec::new();
        let mut records = self.inner.index.instances(Scope::Patient(patient.to_owned()));
        while let Some(record) = records.try_next().await? {
            // The instances of a study come together.
            if studies.last() != Some(&record.key.study) && is_one(&record) {
                studies.push(record.key.study);
            }
        }
        Ok(studies)
    }

    async fn amend_all(
        &self,
        source: &Source,
        scope: Scope,
        wanted: &DataSet,
        done: &mut Amended,
    ) -> Result<()> {
        let records = self.inner.index.instances(scope);
        let amended = records.map(|record| async {
            let record = record?;
            let key = record.key;
            Ok((key, self.amend_one(source, record, wanted).await))
        });
        let mut amended = std::pin::pin!(amended.buffer_unordered(AT_ONCE));
        while let Some((key, amended)) = amended.try_next().await? {
            match amended {
                Ok(true) => done.amended += 1,
                Ok(false) => done.unchanged += 1,
                Err(error) if fails_all(error.kind()) => return Err(error),
                Err(error) => done.failed.push((key, error)),
            }
        }
        Ok(())
    }

    /// Whether anything had to be changed.
    async fn amend_one(&self, source: &Source, mut record: InstanceRecord, wanted: &DataSet) -> Result<bool> {
        let archive = &*self.inner.archive;
        loop {
            let before = record.coerced.take().unwrap_or_default();
            // Known without a look at the instance.
            let has = |element: &Element| {
                before
                    .get(element.tag)
                    .is_some_and(|it| coerce::same(it, element))
            };
            if wanted.iter().all(has) {
                return Ok(false);
            }
            let (meta, scan) = read_header(archive, &record.locator).await?;
            let header = coerce::applied(scan.header.clone(), &before);
            // What is not there needs no value taken away.
            let mut wanted = wanted.clone();
            wanted.retain(|element| !element.is_empty() || header.contains(element.tag));
            let changed = Original {
                reason: Reason::Correct,
                header: &header,
                transfer_syntax: &record.transfer_syntax,
                source,
                knows: &|tag| scan.knows(tag),
            }
            .coerced(wanted, Timestamp::now())?;
            let Some(changed) = changed else {
                return Ok(false);
            };
            let coerced = coerce::applied(before, &changed);
            let title = |tag| {
                meta.elements
                    .string(tag)
                    .and_then(|title| AeTitle::parse(title).ok())
            };
            let meta = Meta {
                source: title(tags::SOURCE_APPLICATION_ENTITY_TITLE),
                sending: title(tags::SENDING_APPLICATION_ENTITY_TITLE),
                receiving: title(tags::RECEIVING_APPLICATION_ENTITY_TITLE),
                ..Meta::new(record.sop_class, record.key.instance, record.transfer_syntax)
            };
            let inner = Arc::clone(&self.inner);
            let mut receipt = Receipt::amending(inner, &record, &meta, coerced, source.clone()).await?;
            let mut data_set = outgoing::data_set(archive, &record);
            while let Some(piece) = data_set.try_next().await? {
                receipt.write(piece).await?;
            }
            let received = receipt.commit().await?;
            if received.outcome == StoreOutcome::Replaced {
                return Ok(true);
            }
            // Another version came meanwhile: that one is to be amended.
            record = (*received.record).clone();
        }
    }
}

/// Whether the next instance would fail like this one.
fn fails_all(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Closed | ErrorKind::Io | ErrorKind::OutOfResources | ErrorKind::Internal
    )
}

fn invalid(what: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, "engine.amend", what)
}

fn no_patient() -> Error {
    invalid("who has no Patient ID is no one patient").with_tag(tags::PATIENT_ID)
}
