//! Correcting attributes of what is kept: a patient's name, the patient that a study belongs to.
//!
//! The bytes that came never change. An amended instance has a later version in the archive: the same data set,
//! and in its File Meta Information what takes the place of attributes on its way out
//! ([`coercion`](crate::dataset::coercion)). So an index that is made anew knows every amendment, and what was
//! before is still there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::future::ready;
use futures::{StreamExt, TryStreamExt};

use super::coerce::{self, Original, Reason};
use super::recovery::read_header;
use super::{Pacs, Receipt, StoreOutcome, outgoing};
use crate::access::Permission;
use crate::archive::Timestamp;
use crate::dataset::part10::Meta;
use crate::dataset::{DataSet, Element, coercion, conform, syntax};
use crate::error::{Error, ErrorKind, Result};
use crate::hooks::Source;
use crate::index::{InstanceRecord, Scope};
use crate::limits;
use crate::patient::PatientId;
use crate::query::{Model, Query, QueryOptions};
use crate::uid::{AeTitle, InstanceKey, Level, Uid};

/// Instances that are amended at once: their commits share a flush of the medium.
const AT_ONCE: usize = 8;
/// Instances that could not be amended and are named.
const NAMED_MAX: usize = 1000;

/// What an amendment came to.
#[derive(Debug, Default)]
pub struct Amended {
    /// Instances that leave with other values than before.
    pub amended: u64,
    /// Instances that had these values already.
    pub unchanged: u64,
    /// Instances that stay as they were because they can't be amended.
    pub failed: u64,
    /// The first thousand of them, and why.
    pub first_failed: Vec<(InstanceKey, Error)>,
}

impl Amended {
    fn count(&mut self, key: InstanceKey, done: Result<bool>) {
        match done {
            Ok(true) => self.amended += 1,
            Ok(false) => self.unchanged += 1,
            Err(error) => {
                self.failed += 1;
                if self.first_failed.len() < NAMED_MAX {
                    self.first_failed.push((key, error));
                }
            }
        }
    }
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
    /// call again does the rest. One that can't be amended or read costs no other. An instance that comes later, also
    /// in place of one that was amended, leaves as it is sent; what is known above it stays as it was amended.
    ///
    /// What may not be coerced may not be amended either: see [`Coercer`](crate::hooks::Coercer). What is known of
    /// patient and study (by the [`AttributeSet`](crate::query::AttributeSet)) is amended for a whole study at least,
    /// and what is known of a series for all of it.
    ///
    /// # Errors
    /// - `Refused` when `source` may not amend everything.
    /// - `Invalid` when nothing is wanted, something that may not be amended or not of this scope, a value that the
    ///   attribute can't have (PS3.5 6.2), no Patient ID, or the scope is everything, or all patients without one.
    /// - `NotFound` when nothing of the scope is kept.
    /// - What the index says, and what of the archive or the engine would fail any other instance too.
    pub async fn amend(&self, source: &Source, scope: Scope, wanted: DataSet) -> Result<Amended> {
        self.permit_all(source, Permission::Amend)?;
        let at_most = match scope {
            Scope::All | Scope::Patient(_) | Scope::Study(_) => Level::Patient,
            Scope::Series(_) => Level::Series,
            Scope::Instance(_) => Level::Instance,
        };
        self.check_wanted(&wanted, at_most)?;
        let scopes = match scope {
            Scope::All => return Err(invalid("not everything can be amended at once")),
            Scope::Patient(id) => self.amendable(&id.as_str().into(), &wanted).await?,
            scope => vec![scope],
        };
        self.put(source, scopes, &wanted).await
    }

    /// The same for every instance of a patient, and of none with the same Patient ID by another issuer: a study whose
    /// issuer is not known is the patient's.
    ///
    /// # Errors
    /// As for [`amend`](Self::amend).
    pub async fn amend_patient(
        &self,
        source: &Source,
        patient: &PatientId,
        wanted: DataSet,
    ) -> Result<Amended> {
        self.permit_all(source, Permission::Amend)?;
        self.check_wanted(&wanted, Level::Patient)?;
        let scopes = self.amendable(patient, &wanted).await?;
        self.put(source, scopes, &wanted).await
    }

    fn check_wanted(&self, wanted: &DataSet, at_most: Level) -> Result<()> {
        if wanted.is_empty() {
            return Err(invalid("nothing is to be amended"));
        }
        for element in wanted.iter() {
            coerce::may_be_coerced(element)?;
            if self
                .inner
                .attributes
                .level_of(element.tag)
                .is_some_and(|level| level < at_most)
            {
                let what =
                    "an attribute of more than this: amend the whole study, series or patient that has it";
                return Err(invalid(what).with_tag(element.tag));
            }
            if !conform::is_conforming(element) {
                let what = "a value that the attribute can't have (PS3.5 6.2)";
                return Err(invalid(what).with_tag(element.tag));
            }
        }
        if wanted.contains(tags::PATIENT_ID) && wanted.string(tags::PATIENT_ID).is_none() {
            let what = "a Patient ID can't be taken away: nothing would lead to the patient any more";
            return Err(invalid(what).with_tag(tags::PATIENT_ID));
        }
        Ok(())
    }

    async fn put(&self, source: &Source, scopes: Vec<Scope>, wanted: &DataSet) -> Result<Amended> {
        let mut done = Amended::default();
        for scope in scopes {
            self.amend_all(source, scope, wanted, &mut done).await?;
        }
        let Amended {
            amended,
            unchanged,
            failed,
            ..
        } = done;
        if amended + unchanged + failed == 0 {
            let what = "nothing of what is to be amended is kept";
            return Err(Error::new(ErrorKind::NotFound, "engine.amend", what));
        }
        tracing::info!(amended, unchanged, failed, "attributes were amended");
        Ok(done)
    }

    /// Makes one patient of two, as when it turns out that both are one person (HL7 ADT A40): every instance of the
    /// patient `prior` is amended to all that is known of the patient `surviving`.
    /// What is known of the prior one only, it loses. Instances with the same Patient ID by another issuer are another
    /// patient's, and stay.
    ///
    /// # Errors
    /// `NotFound` when nothing of one of the two is kept, `Invalid` when they are the same or have no Patient ID;
    /// otherwise as for [`amend`](Self::amend).
    pub async fn merge_patients(
        &self,
        source: &Source,
        prior: &PatientId,
        surviving: &PatientId,
    ) -> Result<Amended> {
        self.permit_all(source, Permission::Amend)?;
        if prior.agrees(surviving) {
            return Err(invalid("a patient can't be merged with itself"));
        }
        let Some(known) = self.patient(surviving).await? else {
            let what = "nothing of the surviving patient is kept";
            return Err(Error::new(ErrorKind::NotFound, "engine.amend", what));
        };
        let mut wanted = DataSet::new();
        // What is counted (group 0020) is no attribute of an instance.
        let of_patient = self.inner.attributes.at(Level::Patient);
        for tag in of_patient.filter(|tag| tag.0 != 0x0020) {
            let Some(vr) = syntax::dictionary_vr(tag, false) else {
                continue;
            };
            // It may have come with another VR, and without a value nothing of the prior one stays.
            let element = match known.get(tag) {
                Some(known) => Element { vr, ..known.clone() },
                None => coerce::without_value(tag, vr),
            };
            let may_be = coerce::may_be_coerced(&element).is_ok();
            wanted.put(match may_be {
                true => element,
                false => coerce::without_value(tag, vr),
            });
        }
        wanted.put_text(tags::PATIENT_ID, VR::LO, surviving.id());
        if let Some(issuer) = surviving.issuer() {
            wanted.put_text(tags::ISSUER_OF_PATIENT_ID, VR::LO, issuer);
        }
        let scopes = self.amendable(prior, &wanted).await?;
        self.put(source, scopes, &wanted).await
    }

    /// What is known of a patient: of one whose issuer is known what their studies say, since what is known by the ID
    /// alone may be of several.
    async fn patient(&self, patient: &PatientId) -> Result<Option<DataSet>> {
        if patient.id().is_empty() {
            return Err(no_patient());
        }
        let mut keys = DataSet::new();
        keys.put_text(tags::PATIENT_ID, VR::LO, patient.id());
        let (model, level) = match patient.issuer() {
            Some(_) => (Model::StudyRoot, Level::Study),
            None => (Model::PatientRoot, Level::Patient),
        };
        let mut found = self
            .inner
            .index
            .query(Query::new(model, level, keys, QueryOptions::default()));
        let (mut theirs, mut of_no_issuer) = (None::<DataSet>, None::<DataSet>);
        while let Some(known) = found.try_next().await? {
            // A wild card in the key is only a letter here.
            let of = PatientId::of(&known);
            if of.agrees(patient) {
                let is_exact = of.issuer() == patient.issuer();
                let all = if is_exact { &mut theirs } else { &mut of_no_issuer };
                all.get_or_insert_default().add_from(&known);
            }
        }
        if let (Some(theirs), Some(more)) = (&mut theirs, &of_no_issuer) {
            theirs.add_from(more);
        }
        Ok(theirs.or(of_no_issuer))
    }

    /// The studies of a patient: such a one stays what it is while its instances are amended, and leaves its patient with
    /// the first of them.
    async fn amendable(&self, patient: &PatientId, wanted: &DataSet) -> Result<Vec<Scope>> {
        if patient.id().is_empty() {
            return Err(no_patient());
        }
        let is_theirs = |record: &InstanceRecord| PatientId::of(&record.attributes.patient).agrees(patient);
        let mut studies = self.studies(patient.id(), is_theirs).await?;
        // Such a call that was broken off left studies at who they are to be of, and not all of them is amended.
        let id = wanted.string(tags::PATIENT_ID).unwrap_or(patient.id());
        let other = PatientId::new(id, wanted.string(tags::ISSUER_OF_PATIENT_ID));
        if !other.agrees(patient) {
            let more = self.studies(other.id(), |record| was_of(record, patient)).await?;
            studies.extend(
                more.into_iter()
                    .filter(|study| !studies.contains(study))
                    .collect::<Vec<_>>(),
            );
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
        let is_broken = AtomicBool::new(false);
        let records = self.inner.index.instances(scope);
        let records = records.take_while(|_| ready(!is_broken.load(Ordering::Relaxed)));
        let amended = records.map(|record| async {
            let record = record?;
            let key = record.key;
            Ok::<_, Error>((key, self.amend_one(source, record, wanted).await?))
        });
        let mut amended = std::pin::pin!(amended.buffer_unordered(AT_ONCE));
        let mut broken = None;
        while let Some(ended) = amended.next().await {
            match ended {
                Ok((key, ended)) => done.count(key, ended),
                // What has begun is finished, and nothing more is.
                Err(error) => {
                    is_broken.store(true, Ordering::Relaxed);
                    broken.get_or_insert(error);
                }
            }
        }
        broken.map_or(Ok(()), Err)
    }

    /// Whether anything had to be changed, or why this one can't be.
    ///
    /// # Errors
    /// What would fail any other one, too.
    async fn amend_one(
        &self,
        source: &Source,
        mut record: InstanceRecord,
        wanted: &DataSet,
    ) -> Result<Result<bool>> {
        loop {
            let (meta, coerced) = match self.amendment(source, &record, wanted).await {
                Ok(Some(amendment)) => amendment,
                Ok(None) => return Ok(Ok(false)),
                Err(error) => return Ok(Err(error)),
            };
            let begun = Receipt::amending(Arc::clone(&self.inner), &record, &meta, coerced, source.clone());
            let mut receipt = match begun.await {
                Ok(receipt) => receipt,
                Err(error) => return its_own(error),
            };
            let mut data_set = outgoing::data_set(&*self.inner.archive, &record);
            loop {
                match data_set.try_next().await {
                    Ok(Some(piece)) => match receipt.write(piece).await {
                        Ok(()) => {}
                        Err(error) => return its_own(error),
                    },
                    Ok(None) => break,
                    Err(error) => return Ok(Err(error)),
                }
            }
            match receipt.commit().await {
                Ok(received) if received.outcome == StoreOutcome::Replaced => return Ok(Ok(true)),
                // Another version came meanwhile: that one is to be amended, if it is where this one was.
                Ok(received) if received.record.key == record.key => record = (*received.record).clone(),
                Ok(_) => {
                    let what = "the instance went to another series while it was amended";
                    return Ok(Err(Error::new(ErrorKind::Mismatch, "engine.amend", what)));
                }
                Err(error) => return its_own(error),
            }
        }
    }

    /// What is kept with the amended version of an instance; `None` when it has these values.
    async fn amendment(
        &self,
        source: &Source,
        record: &InstanceRecord,
        wanted: &DataSet,
    ) -> Result<Option<(Meta, DataSet)>> {
        let none = DataSet::new();
        let before = record.coerced.as_ref().unwrap_or(&none);
        // Known without a look at the instance.
        let has = |element: &Element| {
            before
                .get(element.tag)
                .is_some_and(|it| coerce::same(it, element))
        };
        // Nothing can be noted with one that is deflated.
        let agrees = syntax::is_deflated(&record.transfer_syntax) || self.agrees(record, wanted);
        if agrees && wanted.iter().all(has) {
            return Ok(None);
        }
        let (meta, scan) = read_header(&*self.inner.archive, &record.locator).await?;
        if scan.pixel_data.is_none() && !scan.complete {
            let what = "the instance was cut off before it came here, and nothing can be put into it";
            return Err(Error::new(ErrorKind::Unsupported, "engine.amend", what));
        }
        let header = coerce::applied(scan.header.clone(), before);
        // What is not there needs no value taken away.
        let mut needed = wanted.clone();
        needed.retain(|element| {
            let is_there = header.contains(element.tag) || !scan.knows(element.tag);
            !element.is_empty() || is_there
        });
        let title = |tag| {
            let title = meta.elements.string(tag);
            title.and_then(|title| AeTitle::parse(title).ok())
        };
        let meta = Meta {
            source: title(tags::SOURCE_APPLICATION_ENTITY_TITLE),
            sending: title(tags::SENDING_APPLICATION_ENTITY_TITLE),
            receiving: title(tags::RECEIVING_APPLICATION_ENTITY_TITLE),
            ..Meta::new(record.sop_class, record.key.instance, record.transfer_syntax)
        };
        let changed = Original {
            reason: Reason::Correct,
            provider: meta.source.or(meta.sending),
            header: &header,
            transfer_syntax: &record.transfer_syntax,
            source,
            knows: &|tag| scan.knows(tag),
            is_all: scan.left_out_count == 0,
        }
        .coerced(needed, Timestamp::now())?;
        if changed.is_none() && agrees {
            return Ok(None);
        }
        let mut coerced = before.clone();
        if let Some(changed) = changed {
            coerced = coerce::applied(coerced, &changed);
        }
        // All of it, also what it has already: it counts above the instance.
        coercion::note_amended(&mut coerced, wanted);
        Ok(Some((meta, coerced)))
    }

    /// Whether what is known above the instance is what is wanted there: an instance that is gone may have said
    /// something else.
    fn agrees(&self, record: &InstanceRecord, wanted: &DataSet) -> bool {
        wanted.iter().all(|element| {
            let level = self.inner.attributes.level_of(element.tag);
            let Some(level) = level.filter(|level| *level != Level::Instance) else {
                return true;
            };
            match record.attributes.at(level).get(element.tag) {
                // Of sequences only a part is searched.
                _ if element.vr == VR::SQ => true,
                Some(known) => coerce::same(known, element),
                // One that is too long is not searched.
                None => element.is_empty() || element.bytes().len() > limits::INDEXED_VALUE_LENGTH_MAX_BYTES,
            }
        })
    }
}

/// A failure of one instance, or of what would fail any other one too.
fn its_own(error: Error) -> Result<Result<bool>> {
    use ErrorKind as K;
    match error.kind() {
        K::Closed | K::Io | K::OutOfResources | K::Internal => Err(error),
        _ => Ok(Err(error)),
    }
}

/// Whether the instance was amended to be no longer that patient's.
fn was_of(record: &InstanceRecord, patient: &PatientId) -> bool {
    let Some(coerced) = &record.coerced else {
        return false;
    };
    let whose = [tags::PATIENT_ID, tags::ISSUER_OF_PATIENT_ID];
    let mut items = coerced.items(tags::ORIGINAL_ATTRIBUTES_SEQUENCE).iter();
    coercion::amended(coerced).any(|tag| whose.contains(&tag))
        && items.any(|item| {
            if item.string(tags::REASON_FOR_THE_ATTRIBUTE_MODIFICATION) != Some("CORRECT") {
                return false;
            }
            let mut values = item.items(tags::MODIFIED_ATTRIBUTES_SEQUENCE).iter();
            values.any(|values| {
                // Where the issuer alone became another one, the ID is what it was.
                let of = |set: &DataSet| set.string(tags::PATIENT_ID).map(str::to_owned);
                let id = match whose.iter().any(|tag| values.contains(*tag)) {
                    true => of(values).or_else(|| of(&record.attributes.patient)),
                    false => None,
                };
                let issuer = values.string(tags::ISSUER_OF_PATIENT_ID);
                id.is_some_and(|id| PatientId::new(&id, issuer).agrees(patient))
            })
        })
}

fn invalid(what: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, "engine.amend", what)
}

fn no_patient() -> Error {
    invalid("who has no Patient ID is no one patient").with_tag(tags::PATIENT_ID)
}
