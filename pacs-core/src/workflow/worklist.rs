//! The Modality Worklist (PS3.4 annex K): [`Worklist`] keeps scheduled procedure steps, [`WorklistQuery`] asks for them.
//!
//! An item is one scheduled procedure step with all that is known of its requested procedure, order, visit and patient:
//! a data set of the attributes of PS3.4 table K.6-1, with one item in Scheduled Procedure Step Sequence (0040,0100).
//! Its identity is Accession Number (0008,0050) and Scheduled Procedure Step ID (0040,0009).
//!
//! A query answers what is still to be done. The Standard's values of Scheduled Procedure Step Status (0040,0020) go
//! from SCHEDULED to DEPARTED, and none says that a step is over (PS3.3 C.4.10): one that is over is scheduled no more. So
//! items that are COMPLETED, DISCONTINUED or CANCELLED are kept, and answered only to who asks for a status by a key
//! with a value.

mod attributes;
mod entries;
mod query;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use futures::stream::BoxStream;

pub use query::WorklistQuery;

use crate::dataset::conform::is_conforming;
use crate::dataset::{DataSet, Value, compact, standard_vr};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Key, Ledger, LedgerExt, Step};
use crate::patient::PatientId;
use crate::uid::{Uid, random};
use entries::{By, Identity};

/// Values of Scheduled Procedure Step Status (0040,0020): those of PS3.3 C.4.10 that are used here, and ours for a
/// step that is over.
pub mod status {
    /// Scheduled.
    pub const SCHEDULED: &str = "SCHEDULED";
    /// A performed procedure step was created for it.
    pub const STARTED: &str = "STARTED";
    /// It is over: done.
    pub const COMPLETED: &str = "COMPLETED";
    /// It is over: begun, and not brought to its end.
    pub const DISCONTINUED: &str = "DISCONTINUED";
    /// It is over: it will not be done.
    pub const CANCELLED: &str = "CANCELLED";

    /// What a step of this status becomes when it is ordered again: only one that was given up does.
    pub fn again(status: &str) -> Option<&'static str> {
        matches!(status, DISCONTINUED | CANCELLED | "CANCELED").then_some(SCHEDULED)
    }

    /// Whether a step of this status is over. CANCELED is what others write for CANCELLED.
    pub fn is_over(status: &str) -> bool {
        matches!(status, COMPLETED | DISCONTINUED | CANCELLED | "CANCELED")
    }

    /// The status of an item; empty where it has none.
    pub fn of(item: &crate::dataset::DataSet) -> &str {
        super::status_of(item)
    }
}

/// Scheduled procedure steps, in a ledger.
///
/// A handle; clones are the same worklist, and so is every other one made on the same ledger.
#[derive(Clone)]
pub struct Worklist {
    ledger: Arc<dyn Ledger>,
}

impl std::fmt::Debug for Worklist {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worklist").finish_non_exhaustive()
    }
}

impl Worklist {
    /// The worklist of this ledger.
    pub fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger }
    }

    /// Takes in an item, in place of one with the same identity.
    ///
    /// Study Instance UID and Scheduled Procedure Step Status that are missing stay what they were. In a new item
    /// they are made up: a UID that is the same for all steps of one accession number and requested procedure, and
    /// SCHEDULED. So what is over stays so unless the item says another status: see [`schedule`](Self::schedule).
    ///
    /// # Errors
    /// `Invalid`, with the tag, when Accession Number or Scheduled Procedure Step ID is missing, when there is not one
    /// item in Scheduled Procedure Step Sequence, or when a value is not one of its VR or its VR not that of the
    /// attribute; what the ledger says.
    pub async fn put(&self, item: DataSet) -> Result<()> {
        self.put_with(item, |known| known).await
    }

    /// The same of what is to be done, as an order says that is placed or changed: one that was CANCELLED or
    /// DISCONTINUED is SCHEDULED again. What is STARTED or COMPLETED stays so.
    ///
    /// # Errors
    /// As of [`put`](Self::put).
    pub async fn schedule(&self, item: DataSet) -> Result<()> {
        self.put_with(item, |known| status::again(known).unwrap_or(known))
            .await
    }

    /// `kept` says what becomes of the status of an item that says none.
    async fn put_with(&self, mut item: DataSet, kept: fn(&str) -> &str) -> Result<()> {
        item.remove(tags::SPECIFIC_CHARACTER_SET);
        check_values(&item)?;
        let identity = Identity::of(&item)?;
        let made_up = self.study_uid(&item).await?;
        self.change([identity.key()].into(), |old| {
            let mut new = item.clone();
            if new.string(tags::STUDY_INSTANCE_UID).is_none() {
                let known = old
                    .as_ref()
                    .and_then(|old| old.uid(tags::STUDY_INSTANCE_UID).ok());
                new.put_uid(tags::STUDY_INSTANCE_UID, &known.unwrap_or(made_up));
            }
            if status_of(&new).is_empty() {
                let known = old.as_ref().map(status_of).filter(|status| !status.is_empty());
                let known = known.map_or(status::SCHEDULED, kept).to_owned();
                put_status(&mut new, &known);
            }
            Ok(Some(new))
        })
        .await
        .map(drop)
    }

    /// The item with this Accession Number and Scheduled Procedure Step ID.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn get(&self, accession: &str, step: &str) -> Result<Option<DataSet>> {
        let value = self.ledger.get(&Identity::new(accession, step).key()).await?;
        value.map(|value| read(&value)).transpose()
    }

    /// All items of this Accession Number, those that are over too.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn of_order(&self, accession: &str) -> Result<Vec<DataSet>> {
        self.items_by(By::Order, accession).await
    }

    /// All items with this Study Instance UID, those that are over too.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn of_study(&self, study: &Uid) -> Result<Vec<DataSet>> {
        self.items_by(By::Study, study).await
    }

    /// All items with this Patient ID, of whatever issuer, those that are over too.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn of_patient(&self, id: &str) -> Result<Vec<DataSet>> {
        self.items_by(By::Patient, id).await
    }

    /// Forgets one item of an order, or without `step` all of them at once. Answers how many there were.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn remove(&self, accession: &str, step: Option<&str>) -> Result<u64> {
        self.change_of_order(accession, step, |_| Ok(None)).await
    }

    /// Sets Scheduled Procedure Step Status (0040,0020) of one item of an order, or without `step` of all of them at
    /// once; see [`status`]. Answers how many have another one now.
    ///
    /// # Errors
    /// `Invalid` when it is no status: at most 16 capital letters, digits, spaces and underscores (PS3.5 6.2, CS);
    /// what the ledger says.
    pub async fn set_status(&self, accession: &str, step: Option<&str>, status: &str) -> Result<u64> {
        let mut told = DataSet::new();
        told.put_text(tags::SCHEDULED_PROCEDURE_STEP_STATUS, VR::CS, status);
        check_values(&told)?;
        if status.trim().is_empty() {
            let why = "a status is empty";
            return Err(invalid(why, tags::SCHEDULED_PROCEDURE_STEP_STATUS));
        }
        self.change_of_order(accession, step, |mut item| {
            put_status(&mut item, status);
            Ok(Some(item))
        })
        .await
    }

    /// The same, to what `change` makes of the status that each has; `None` leaves it. It may be asked again when
    /// somebody else changes an item meanwhile. Answers what each had.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn change_status(
        &self,
        accession: &str,
        step: Option<&str>,
        mut change: impl FnMut(&str) -> Option<&'static str> + Send,
    ) -> Result<Vec<String>> {
        let mut had = BTreeMap::new();
        self.change_of_order(accession, step, |mut item| {
            let before = status_of(&item).to_owned();
            if let Some(now) = change(&before) {
                put_status(&mut item, now);
            }
            had.insert(Identity::of(&item)?.step, before);
            Ok(Some(item))
        })
        .await?;
        Ok(had.into_values().collect())
    }

    /// Puts `attributes`, which are the patient's, into all items of this patient, and of none with the same Patient ID
    /// by another issuer; a new Patient ID makes them items of that one. Each item has all of them or none. Answers how
    /// many were changed.
    ///
    /// # Errors
    /// `Invalid`, with the tag, when an attribute is none of a patient's modules (PS3.3 C.2.2 to C.2.4), or as of
    /// [`put`](Self::put); what the ledger says. Some items may be changed then; to do it again does the rest.
    pub async fn set_patient(&self, prior: &PatientId, attributes: &DataSet) -> Result<u64> {
        check_values(attributes)?;
        if let Some(other) = attributes
            .iter()
            .find(|element| !attributes::is_patients(element.tag))
        {
            return Err(invalid("an attribute is none of the patient's", other.tag));
        }
        let mut changed = 0;
        for identity in self.found(By::Patient, prior.id()).await? {
            changed += self
                .change([identity.key()].into(), |item| {
                    // It may be another patient's by now.
                    Ok(item.map(|mut item| {
                        if PatientId::of(&item).agrees(prior) {
                            attributes.iter().for_each(|element| item.put(element.clone()));
                        }
                        item
                    }))
                })
                .await?;
        }
        Ok(changed)
    }

    /// Answers a query: for each item that matches the attributes that were asked for (PS3.4 K.4.1.1.3.2), by date or
    /// by what the query tells most by. What is changed meanwhile may or may not be among them, and none is twice.
    pub fn find(&self, query: WorklistQuery) -> BoxStream<'static, Result<DataSet>> {
        query::answers(Arc::clone(&self.ledger), query)
    }

    /// Where the items are that a performed procedure step says it performs, by the items of its Scheduled Step
    /// Attributes Sequence (0040,0270): the one with its Accession Number and Scheduled Procedure Step ID; else those of
    /// the study with that step ID. Where it names no step it is the one of the study that is not over, if there is one
    /// alone: of several nobody can tell which.
    pub(super) async fn performed_by(&self, performed: &[DataSet]) -> Result<BTreeSet<Bytes>> {
        let mut keys = BTreeSet::new();
        for of in performed {
            let accession = of.string(tags::ACCESSION_NUMBER).unwrap_or_default();
            let step = of.string(tags::SCHEDULED_PROCEDURE_STEP_ID).unwrap_or_default();
            let exact = Identity::new(accession, step).key();
            if !accession.is_empty() && !step.is_empty() && self.ledger.get(&exact).await?.is_some() {
                keys.insert(exact);
            } else if let Ok(study) = of.uid(tags::STUDY_INSTANCE_UID) {
                if step.is_empty() {
                    let open = self.found_below(&entries::with(By::Study, &study)[..1]).await?;
                    if let [identity] = &open[..] {
                        keys.insert(identity.key());
                    }
                    continue;
                }
                let of_study = self.found(By::Study, &study).await?.into_iter();
                let named = of_study.filter(|identity| identity.step == step);
                keys.extend(named.map(|identity| identity.key()));
            }
        }
        Ok(keys)
    }

    /// Steps that set the status of the item at a key.
    pub(super) async fn steps_to(&self, key: Bytes, status: &str) -> Result<Vec<Step>> {
        let mut set = |item: Option<DataSet>| {
            Ok(item.map(|mut item| {
                put_status(&mut item, status);
                item
            }))
        };
        Ok(self.steps([key].into(), &mut set).await?.0)
    }

    /// What is to be done so that under each key stands what `change` makes of it, unless somebody else changes it
    /// meanwhile; and how many items become others.
    async fn steps(
        &self,
        keys: BTreeSet<Bytes>,
        change: &mut (impl FnMut(Option<DataSet>) -> Result<Option<DataSet>> + Send),
    ) -> Result<(Vec<Step>, u64)> {
        let (mut steps, mut changed) = (Vec::new(), 0);
        for key in keys {
            let before = self.ledger.get(&key).await?;
            let old = before.as_ref().map(read).transpose()?;
            let entries_before = old.as_ref().map(entries::of).transpose()?.unwrap_or_default();
            let new = change(old)?;
            let entries_now = new.as_ref().map(entries::of).transpose()?.unwrap_or_default();
            let after = new.as_ref().map(|item| Bytes::from(compact::to_bytes(item)));
            if after == before {
                continue;
            }
            changed += 1;
            let gone = entries_before.iter().filter(|entry| !entries_now.contains(entry));
            steps.extend(gone.map(|entry| Step::Delete(entry.clone())));
            let come = entries_now.iter().filter(|entry| !entries_before.contains(entry));
            steps.extend(come.map(|entry| Step::Put(entry.clone(), Bytes::new())));
            steps.push(Step::Expect(key.clone(), before));
            steps.push(match after {
                Some(after) => Step::Put(key, after),
                None => Step::Delete(key),
            });
        }
        Ok((steps, changed))
    }

    /// Changes items, all or none, however many do it at once. Answers how many became others.
    async fn change(
        &self,
        keys: BTreeSet<Bytes>,
        mut change: impl FnMut(Option<DataSet>) -> Result<Option<DataSet>> + Send,
    ) -> Result<u64> {
        loop {
            let (steps, changed) = self.steps(keys.clone(), &mut change).await?;
            if steps.is_empty() || self.ledger.apply(steps).await? {
                return Ok(changed);
            }
        }
    }

    async fn change_of_order(
        &self,
        accession: &str,
        step: Option<&str>,
        mut change: impl FnMut(DataSet) -> Result<Option<DataSet>> + Send,
    ) -> Result<u64> {
        let keys = match step {
            Some(step) => [Identity::new(accession, step).key()].into(),
            None => {
                let found = self.found(By::Order, accession).await?;
                found.into_iter().map(|identity| identity.key()).collect()
            }
        };
        self.change(keys, |item| item.map_or(Ok(None), &mut change)).await
    }

    /// The identities of all items with this value.
    async fn found(&self, by: By, value: &str) -> Result<Vec<Identity>> {
        self.found_below(&entries::with(by, value)).await
    }

    async fn found_below(&self, keys: &[Key]) -> Result<Vec<Identity>> {
        let mut found = Vec::new();
        for key in keys {
            let mut entries = self.ledger.below(key);
            while let Some((entry, _)) = futures::TryStreamExt::try_next(&mut entries).await? {
                found.push(Identity::of_entry(&entry)?);
            }
        }
        Ok(found)
    }

    async fn items_by(&self, by: By, value: &str) -> Result<Vec<DataSet>> {
        let mut items = Vec::new();
        for identity in self.found(by, value).await? {
            // It may be gone since.
            items.extend(self.get(&identity.accession, &identity.step).await?);
        }
        Ok(items)
    }

    /// The UID for the study of an item that has none: of its Accession Number and Requested Procedure ID, and of a
    /// number that no other ledger has.
    async fn study_uid(&self, item: &DataSet) -> Result<Uid> {
        let key = Key::of("worklist-seed").bytes();
        let seed = self.ledger.update(key, |old| {
            let seed = match old {
                Some(seed) => seed.clone(),
                None => Bytes::copy_from_slice(&random().to_be_bytes()),
            };
            Ok((Some(seed.clone()), Vec::new(), seed))
        });
        let accession = item.string(tags::ACCESSION_NUMBER).unwrap_or_default();
        let procedure = item.string(tags::REQUESTED_PROCEDURE_ID).unwrap_or_default();
        let seed = seed.await?;
        let of = [&seed[..], accession.as_bytes(), procedure.as_bytes()];
        Ok(Uid::named(of))
    }
}

/// An item from the ledger: in the compact form, since a query may have to look at thousands.
fn read(value: &Bytes) -> Result<DataSet> {
    compact::from_bytes(value)
}

/// The one item of Scheduled Procedure Step Sequence.
fn step_of(item: &DataSet) -> Option<&DataSet> {
    match item.items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE) {
        [step] => Some(step),
        _ => None,
    }
}

fn status_of(item: &DataSet) -> &str {
    let status = step_of(item).and_then(|step| step.string(tags::SCHEDULED_PROCEDURE_STEP_STATUS));
    status.unwrap_or_default()
}

fn put_status(item: &mut DataSet, status: &str) {
    if let Some(step) = step_of(item) {
        let mut step = step.clone();
        step.put_text(tags::SCHEDULED_PROCEDURE_STEP_STATUS, VR::CS, status);
        item.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![step]);
    }
}

/// Holds all values against their VRs, and the VRs against the attributes.
fn check_values(set: &DataSet) -> Result<()> {
    for element in set.iter() {
        if standard_vr(element.tag).is_some_and(|vr| vr != element.vr) {
            return Err(invalid("a value has another VR than its attribute", element.tag));
        }
        match &element.value {
            // As deep as the data set was read, which is bounded.
            Value::Items(items) => items.iter().try_for_each(check_values)?,
            Value::Bytes(_) if is_conforming(element) => {}
            Value::Bytes(_) => return Err(invalid("a value is none of its VR (PS3.5 6.2)", element.tag)),
        }
    }
    Ok(())
}

fn invalid(why: &'static str, tag: Tag) -> Error {
    Error::new(ErrorKind::Invalid, "worklist.item", why).with_tag(tag)
}
