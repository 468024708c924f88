//! Modality performed procedure steps (PS3.4 annex F): [`PerformedSteps`] keeps what modalities say they do.
//!
//! A step is created IN PROGRESS, set as long as it is, and final once it is COMPLETED or DISCONTINUED (F.1). What must
//! be said when, and what may not be said later, is table F.7.2-1, in `rules`. An error of a peer's making has the
//! status that answers it ([`Error::status`]).
//!
//! With each change of a step, what is known of the scheduled steps that it performs changes in the [`Worklist`], in the
//! same step of the ledger: STARTED as long as any performed step of it is in progress, then COMPLETED when one was
//! completed, else DISCONTINUED. One that was discontinued because the wrong entry of the worklist was selected (110514,
//! DCM) is SCHEDULED again.

mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use futures::TryStreamExt;

use super::worklist::{Worklist, status};
use crate::dataset::DataSet;
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Key, Ledger, LedgerExt, Parts, Step, data_set_from_value, data_set_to_value};
use crate::uid::{Uid, random};

/// Performed Procedure Step Status (0040,0252; PS3.4 table F.1-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PerformedStatus {
    /// Begun.
    InProgress,
    /// Done; final.
    Completed,
    /// Given up; final.
    Discontinued,
}

impl PerformedStatus {
    /// As the Standard spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "IN PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Discontinued => "DISCONTINUED",
        }
    }

    /// Reads a value of Performed Procedure Step Status.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::InProgress, Self::Completed, Self::Discontinued]
            .into_iter()
            .find(|status| status.as_str() == text)
    }

    fn of(step: &DataSet) -> Option<Self> {
        Self::parse(step.string(tags::PERFORMED_PROCEDURE_STEP_STATUS)?)
    }
}

/// A step as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerformedStep {
    /// Its SOP Instance UID.
    pub sop_instance: Uid,
    /// How far it is.
    pub status: PerformedStatus,
    /// All its attributes, in normal form.
    pub attributes: DataSet,
}

/// What a request has made of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerformedChange {
    /// Its SOP Instance UID.
    pub sop_instance: Uid,
    /// What it was; none when it is new.
    pub before: Option<PerformedStatus>,
    /// What it is now.
    pub status: PerformedStatus,
    /// The studies that it performs, or a part of them.
    pub studies: Vec<Uid>,
    /// All its attributes now, in normal form.
    pub attributes: DataSet,
}

/// Modality performed procedure steps, in a ledger.
///
/// A handle; clones are the same steps, and so are all others made on the same ledger.
#[derive(Clone)]
pub struct PerformedSteps {
    ledger: Arc<dyn Ledger>,
    worklist: Worklist,
}

impl std::fmt::Debug for PerformedSteps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PerformedSteps").finish_non_exhaustive()
    }
}

fn key(sop_instance: &Uid) -> Bytes {
    Key::of("performed").text(sop_instance).bytes()
}

fn of_study(study: &Uid) -> Key {
    Key::of("performed-of").text(study)
}

impl PerformedSteps {
    /// The steps of this ledger, and of its worklist.
    pub fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self {
            worklist: Worklist::new(Arc::clone(&ledger)),
            ledger,
        }
    }

    /// Creates a step (N-CREATE, PS3.4 F.7.2.1).
    ///
    /// # Errors
    /// `AlreadyExists` (0111H) when there is one with this UID. `Invalid`, with the tags, when a required attribute is
    /// missing (0120H) or empty (0121H), when the status is not IN PROGRESS, or a Study Instance UID is none (0106H).
    /// What the ledger says.
    pub async fn create(&self, sop_instance: &Uid, mut attributes: DataSet) -> Result<PerformedChange> {
        attributes.remove(tags::SPECIFIC_CHARACTER_SET);
        rules::check_created(&attributes)?;
        if PerformedStatus::of(&attributes) != Some(PerformedStatus::InProgress) {
            let why = "a step is created IN PROGRESS (PS3.4 F.7.2.1.3)";
            return Err(invalid_value(why, tags::PERFORMED_PROCEDURE_STEP_STATUS));
        }
        let studies = studies(&attributes)?;
        let change = PerformedChange {
            sop_instance: *sop_instance,
            before: None,
            status: PerformedStatus::InProgress,
            studies,
            attributes,
        };
        loop {
            if self.ledger.get(&key(sop_instance)).await?.is_some() {
                let why = "there is a step with this SOP Instance UID";
                return Err(Error::new(ErrorKind::AlreadyExists, "performed.create", why));
            }
            let mut steps = self.steps(None, &change).await?;
            let of_studies = change
                .studies
                .iter()
                .map(|study| of_study(study).text(sop_instance));
            steps.extend(of_studies.map(|entry| Step::Put(entry.bytes(), Bytes::new())));
            if self.ledger.apply(steps).await? {
                return Ok(change);
            }
        }
    }

    /// Sets attributes of a step (N-SET, PS3.4 F.7.2.2): sequences are given whole.
    ///
    /// An attribute that may not be set is passed over where it says what is known already. One that may be set need not
    /// have been created, as modalities leave some out.
    ///
    /// # Errors
    /// `NotFound` (0112H) when there is no such step. `Refused` (0110H with Error ID A710H, table F.7.2-2) when it is
    /// final. `Invalid`, with the tags, when an attribute may not be set (0105H), the status is none (0106H), what is
    /// required of a final step or of an item has no value (0121H). What the ledger says.
    pub async fn set(&self, sop_instance: &Uid, mut modifications: DataSet) -> Result<PerformedChange> {
        modifications.remove(tags::SPECIFIC_CHARACTER_SET);
        loop {
            let Some(value) = self.ledger.get(&key(sop_instance)).await? else {
                let why = "there is no step with this SOP Instance UID";
                return Err(Error::new(ErrorKind::NotFound, "performed.set", why));
            };
            let kept = read(*sop_instance, &value)?;
            if kept.status != PerformedStatus::InProgress {
                let why = "Performed Procedure Step Object may no longer be updated";
                let error = Error::new(ErrorKind::Refused, "performed.set", why);
                return Err(error.with_status(0x0110).with_error_id(0xA710));
            }
            rules::check_set(&kept.attributes, &modifications)?;
            let mut attributes = kept.attributes;
            modifications
                .iter()
                .for_each(|element| attributes.put(element.clone()));
            let status = PerformedStatus::of(&attributes).ok_or_else(|| {
                let why = "a step is IN PROGRESS, COMPLETED or DISCONTINUED (PS3.4 F.1)";
                invalid_value(why, tags::PERFORMED_PROCEDURE_STEP_STATUS)
            })?;
            if status != PerformedStatus::InProgress {
                rules::check_final(&attributes)?;
            }
            let change = PerformedChange {
                sop_instance: *sop_instance,
                before: Some(kept.status),
                status,
                studies: studies(&attributes)?,
                attributes,
            };
            let steps = self.steps(Some(value), &change).await?;
            if self.ledger.apply(steps).await? {
                return Ok(change);
            }
        }
    }

    /// The step with this SOP Instance UID.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn get(&self, sop_instance: &Uid) -> Result<Option<PerformedStep>> {
        let value = self.ledger.get(&key(sop_instance)).await?;
        value.map(|value| read(*sop_instance, &value)).transpose()
    }

    /// The steps that perform this study, or a part of it.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn of_study(&self, study: &Uid) -> Result<Vec<PerformedStep>> {
        let below = of_study(study);
        let mut entries = self.ledger.below(&below);
        let mut found = Vec::new();
        while let Some((entry, _)) = entries.try_next().await? {
            let mut parts = Parts::of(&entry);
            let (_, _, sop_instance) = (parts.text()?, parts.text()?, parts.text()?);
            found.extend(self.get(&Uid::parse(sop_instance)?).await?);
        }
        Ok(found)
    }

    /// What makes `change` of what was kept, with what becomes of the scheduled steps.
    async fn steps(&self, before: Option<Bytes>, change: &PerformedChange) -> Result<Vec<Step>> {
        let key = key(&change.sop_instance);
        let mut steps = Vec::new();
        if change.before != Some(change.status) {
            steps = self.steps_of_worklist(change).await?;
        }
        steps.push(Step::Expect(key.clone(), before));
        steps.push(Step::Put(key, data_set_to_value(&change.attributes)?));
        Ok(steps)
    }

    /// What becomes of the scheduled steps that a step performs, by it and by all others that perform them.
    async fn steps_of_worklist(&self, change: &PerformedChange) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        let mut others = Vec::new();
        for study in &change.studies {
            // Of two that change at once, one has to look again at the other.
            let turn = Key::of("performed-turn").text(study).bytes();
            let before = self.ledger.get(&turn).await?;
            steps.push(Step::Expect(turn.clone(), before));
            steps.push(Step::Put(turn, Bytes::copy_from_slice(&random().to_be_bytes())));
            others.extend(self.of_study(study).await?);
        }
        others.retain(|other| other.sop_instance != change.sop_instance);
        let mut named = Vec::new();
        for other in &others {
            let keys = self.worklist.performed_by(scheduled(&other.attributes)).await?;
            named.push((keys, other.status));
        }
        for key in self.worklist.performed_by(scheduled(&change.attributes)).await? {
            let any = |status| {
                let mut others = named.iter();
                change.status == status || others.any(|(keys, other)| *other == status && keys.contains(&key))
            };
            let now = match () {
                () if any(PerformedStatus::InProgress) => status::STARTED,
                () if any(PerformedStatus::Completed) => status::COMPLETED,
                () if is_of_wrong_entry(&change.attributes) => status::SCHEDULED,
                () => status::DISCONTINUED,
            };
            steps.extend(self.worklist.steps_to(key, now).await?);
        }
        Ok(steps)
    }
}

/// The attributes with which a step that performs `item`, an item of the worklist, is created: what the item says, all
/// that may be empty, and IN PROGRESS (PS3.4 table F.7.2-1). An empty `item` does for what was not scheduled, except
/// that the caller adds a Study Instance UID in Scheduled Step Attributes Sequence.
///
/// The caller adds Performed Procedure Step ID, Performed Station AE Title, Performed Procedure Step Start Date and
/// Time, and Modality where the item doesn't say it.
pub fn begun(item: &DataSet) -> DataSet {
    rules::begun(item)
}

fn read(sop_instance: Uid, value: &[u8]) -> Result<PerformedStep> {
    let mut attributes = data_set_from_value(value)?;
    attributes.remove(tags::SPECIFIC_CHARACTER_SET);
    let damaged = || Error::new(ErrorKind::Corrupt, "performed.read", "a step has no status");
    Ok(PerformedStep {
        sop_instance,
        status: PerformedStatus::of(&attributes).ok_or_else(damaged)?,
        attributes,
    })
}

/// What a step says of the scheduled steps that it performs.
fn scheduled(attributes: &DataSet) -> &[DataSet] {
    attributes.items(tags::SCHEDULED_STEP_ATTRIBUTES_SEQUENCE)
}

/// Whether a step was discontinued because it is not the one that was to be performed (PS3.16 CID 9300).
fn is_of_wrong_entry(attributes: &DataSet) -> bool {
    let reasons = attributes.items(tags::PERFORMED_PROCEDURE_STEP_DISCONTINUATION_REASON_CODE_SEQUENCE);
    reasons.iter().any(|reason| {
        let get = |tag| reason.string(tag);
        (get(tags::CODE_VALUE), get(tags::CODING_SCHEME_DESIGNATOR)) == (Some("110514"), Some("DCM"))
    })
}

/// The studies that Scheduled Step Attributes Sequence names, each once.
fn studies(attributes: &DataSet) -> Result<Vec<Uid>> {
    let items = scheduled(attributes);
    let studies: Result<BTreeSet<Uid>> = items
        .iter()
        .map(|item| item.uid(tags::STUDY_INSTANCE_UID))
        .collect();
    let studies = studies.map_err(|error| error.with_status(0x0106))?;
    Ok(studies.into_iter().collect())
}

fn invalid_value(why: &'static str, tag: Tag) -> Error {
    refused(why, 0x0106).with_tag(tag)
}

fn refused(why: &'static str, status: u16) -> Error {
    Error::new(ErrorKind::Invalid, "performed.check", why).with_status(status)
}

/// An element without a value.
fn empty(set: &mut DataSet, tag: Tag, vr: VR) {
    match vr {
        VR::SQ => set.put_items(tag, Vec::new()),
        _ => set.put_text(tag, vr, ""),
    }
}
