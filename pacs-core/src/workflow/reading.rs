//! The reading worklist: who is to read which study, and how far a study is.
//!
//! A study that is stable opens a unified procedure step ([`Reading::open`]): interpretation, of this study. A reader
//! claims and completes it as anybody does a step ([`Ups`]); a final report completes it too ([`Reading::complete`]).
//! A step that is in progress can't go back to SCHEDULED (PS3.4 CC.1.1). A reader who can't read on cancels it, and in
//! the same moment a new step waits in its place, which names the one that it replaces; so a study is not forgotten.
//! A step that somebody asked to cancel before it was claimed stays canceled: that study is not to be read.
//! How far a study is ([`Reading::status`]) is kept nowhere: it is told by what the worklist, the performed steps, the
//! reading step, the reports and the index say, so it is never out of date.

use std::sync::Arc;

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::TryStreamExt;

use super::ups::{Refusal, State, Ups};
use super::{PerformedStatus, PerformedSteps, Worklist, worklist};
use crate::archive::Timestamp;
use crate::dataset::DataSet;
use crate::engine::Pacs;
use crate::error::{Error, Result};
use crate::index::{InstanceRecord, Scope};
use crate::ledger::{Key, Step};
use crate::route::Priority;
use crate::uid::Uid;

/// The worklist that reading steps are on: Worklist Label (0074,1202).
pub const WORKLIST_LABEL: &str = "READING";

/// How far a study is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StudyStatus {
    /// It is on the modality worklist, and nothing was done.
    Scheduled,
    /// A modality performs it, or instances of it have come and more may.
    InProgress,
    /// It is complete, as far as is known, and waits to be read or is being read.
    Acquired,
    /// Its reading step is completed.
    Read,
    /// A final report of it was stored.
    Reported,
}

impl StudyStatus {
    /// Its name, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::InProgress => "in progress",
            Self::Acquired => "acquired",
            Self::Read => "read",
            Self::Reported => "reported",
        }
    }
}

/// The reading worklist of an engine. Clones are the same.
#[derive(Clone, Debug)]
pub struct Reading {
    pacs: Pacs,
    ups: Ups,
    worklist: Worklist,
    performed: PerformedSteps,
}

impl Reading {
    /// On an engine with a ledger.
    ///
    /// # Errors
    /// `Unsupported` when it has none.
    pub fn new(pacs: &Pacs) -> Result<Self> {
        let ledger = pacs.ledger()?;
        Ok(Self {
            ups: pacs.ups()?.clone(),
            worklist: Worklist::new(Arc::clone(ledger)),
            performed: PerformedSteps::new(Arc::clone(ledger)),
            pacs: pacs.clone(),
        })
    }

    /// The UID of the first step that reads a study: always the same, so that it is opened once. One that was given back
    /// is followed by others.
    pub fn step_of(study: &Uid) -> Uid {
        Uid::named([&b"reading"[..], study.as_bytes()])
    }

    /// The step that reads a study, of several the one that was not given back.
    async fn current(&self, study: &Uid) -> Result<Uid> {
        let mut steps = self.ups.of_study(study);
        while let Some(step) = steps.try_next().await? {
            let uid = step.uid(tags::SOP_INSTANCE_UID)?;
            if is_reading(&step, &uid, study) && state_of(&step) != State::Canceled {
                return Ok(uid);
            }
        }
        Ok(Self::step_of(study))
    }

    /// Opens the step that reads `study`; answers false when it is open or over already, or there is no such study.
    ///
    /// What was requested (accession number, requested procedure, priority) is told by the worklist, where it knows the
    /// study; the more urgent of that and of `priority` counts.
    ///
    /// # Errors
    /// What index and ledger say.
    pub async fn open(&self, study: &Uid, priority: Priority) -> Result<bool> {
        let Some(record) = self.any_instance(study).await? else {
            return Ok(false);
        };
        // The first one may have been given back, and be forgotten.
        if self.current(study).await? != Self::step_of(study) {
            return Ok(false);
        }
        let order = self.worklist.of_study(study).await?.into_iter().next();
        let step = step(study, &record, order.as_ref(), priority);
        match self.ups.create(Some(Self::step_of(study)), step).await {
            Ok(_) => Ok(true),
            Err(error) if Refusal::of(&error) == Some(Refusal::Duplicate) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes the step that reads `study` as urgent as `priority`, if it is less; opens it where it isn't open.
    ///
    /// # Errors
    /// What index and ledger say.
    pub async fn raise(&self, study: &Uid, priority: Priority) -> Result<()> {
        loop {
            let uid = self.current(study).await?;
            let (step, transaction) = match self.ups.with_transaction(&uid).await {
                Ok(found) => found,
                Err(error) if Refusal::of(&error) == Some(Refusal::NoSuchStep) => {
                    return self.open(study, priority).await.map(drop);
                }
                Err(error) => return Err(error),
            };
            if state_of(&step).is_final() || urgency(&step) <= priority {
                return Ok(());
            }
            let mut wanted = DataSet::new();
            put_priority(&mut wanted, priority);
            let mut requests = step.items(tags::REFERENCED_REQUEST_SEQUENCE).to_vec();
            for request in &mut requests {
                request.put_text(tags::REQUESTED_PROCEDURE_PRIORITY, VR::SH, priority.as_str());
            }
            wanted.put_items(tags::REFERENCED_REQUEST_SEQUENCE, requests);
            match self.ups.set_as_scp(&uid, transaction.as_ref(), wanted).await {
                Err(error) if is_elsewhere(&error) => {}
                done => return done.map(drop),
            }
        }
    }

    /// Completes the step that reads the study of `report`, which is kept: also where a reader has claimed it. What is
    /// over stays as it is; where there was none it is opened for it.
    ///
    /// # Errors
    /// What index and ledger say.
    pub async fn complete(&self, report: &InstanceRecord) -> Result<()> {
        let study = report.key.study;
        // Also of a study that was read before.
        let noted = Step::Put(
            reported(&study),
            Bytes::copy_from_slice(report.key.instance.as_bytes()),
        );
        self.pacs.ledger()?.apply(vec![noted]).await?;
        loop {
            let uid = self.current(&study).await?;
            let (step, transaction) = match self.ups.with_transaction(&uid).await {
                Ok(found) => found,
                Err(error) if Refusal::of(&error) == Some(Refusal::NoSuchStep) => {
                    // Where it can't be opened the study is gone, or somebody opened it just now.
                    match self.open(&study, Priority::default()).await? {
                        true => continue,
                        false if self.any_instance(&study).await?.is_none() => return Ok(()),
                        false => continue,
                    }
                }
                Err(error) => return Err(error),
            };
            let state = state_of(&step);
            if state.is_final() {
                return Ok(());
            }
            let transaction = transaction.unwrap_or_else(Uid::random);
            let done = async {
                if state == State::Scheduled {
                    self.ups
                        .change_state(&uid, State::InProgress, Some(&transaction))
                        .await?;
                }
                self.ups
                    .set(&uid, Some(&transaction), performed(&step, report))
                    .await?;
                self.ups
                    .change_state(&uid, State::Completed, Some(&transaction))
                    .await
            };
            match done.await {
                // Somebody claimed it, or ended it, just now.
                Err(error) if is_elsewhere(&error) => {}
                done => return done.map(drop),
            }
        }
    }

    /// How far a study is; `None` of one that nobody knows.
    ///
    /// # Errors
    /// What index and ledger say.
    pub async fn status(&self, study: &Uid) -> Result<Option<StudyStatus>> {
        if let Some(report) = self.pacs.ledger()?.get(&reported(study)).await? {
            let report = std::str::from_utf8(&report)
                .ok()
                .and_then(|uid| Uid::parse(uid).ok());
            // It may have been removed since. Once nothing was noted of which it is.
            let is_kept = match report {
                Some(report) => self.pacs.lookup(&report).await?.is_some(),
                None => true,
            };
            if is_kept {
                return Ok(Some(StudyStatus::Reported));
            }
        }
        match self.ups.get(&self.current(study).await?).await {
            Ok(step) if state_of(&step) == State::Completed => {
                return Ok(Some(StudyStatus::Read));
            }
            Ok(_) => return Ok(Some(StudyStatus::Acquired)),
            Err(error) if Refusal::of(&error) == Some(Refusal::NoSuchStep) => {}
            Err(error) => return Err(error),
        }
        let performed = self.performed.of_study(study).await?;
        if performed
            .iter()
            .any(|step| step.status == PerformedStatus::InProgress)
        {
            return Ok(Some(StudyStatus::InProgress));
        }
        let is_kept = self.any_instance(study).await?.is_some();
        if is_kept
            && performed
                .iter()
                .any(|step| step.status == PerformedStatus::Completed)
        {
            return Ok(Some(StudyStatus::Acquired));
        }
        if is_kept {
            return Ok(Some(StudyStatus::InProgress));
        }
        let items = self.worklist.of_study(study).await?;
        let status = |item: &DataSet| {
            let steps = item.items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE);
            let status = steps
                .first()
                .and_then(|step| step.string(tags::SCHEDULED_PROCEDURE_STEP_STATUS));
            !worklist::status::is_over(status.unwrap_or_default())
        };
        Ok(items.iter().any(status).then_some(StudyStatus::Scheduled))
    }

    async fn any_instance(&self, study: &Uid) -> Result<Option<InstanceRecord>> {
        self.pacs.instances(Scope::Study(*study)).try_next().await
    }
}

/// Whether somebody else changed the step between two looks.
fn is_elsewhere(error: &Error) -> bool {
    let refusal = Refusal::of(error);
    matches!(
        refusal,
        Some(Refusal::TransactionUid | Refusal::InProgress | Refusal::NotInProgress | Refusal::Final)
    )
}

/// Of a step that is kept; none is without one.
fn state_of(step: &DataSet) -> State {
    let state = step.string(tags::PROCEDURE_STEP_STATE).and_then(State::parse);
    state.unwrap_or(State::Scheduled)
}

/// How urgent a step is: of what is HIGH there, the request says what is STAT.
fn urgency(step: &DataSet) -> Priority {
    let text = step.string(tags::SCHEDULED_PROCEDURE_STEP_PRIORITY);
    let priority = text.and_then(Priority::parse).unwrap_or_default();
    let is_stat = (step.items(tags::REFERENCED_REQUEST_SEQUENCE).iter())
        .filter_map(|request| Priority::parse(request.string(tags::REQUESTED_PROCEDURE_PRIORITY)?))
        .any(|requested| requested == Priority::Stat);
    match priority {
        Priority::High if is_stat => Priority::Stat,
        priority => priority,
    }
}

/// What takes the place of a reading step that its reader gave back, and its UID; `None` for other steps.
pub(super) fn again(canceled: &DataSet) -> Option<(Uid, DataSet)> {
    let uid = canceled.uid(tags::SOP_INSTANCE_UID).ok()?;
    let requests = canceled.items(tags::REFERENCED_REQUEST_SEQUENCE).iter();
    let mut studies = requests.filter_map(|request| request.uid(tags::STUDY_INSTANCE_UID).ok());
    if !studies.any(|study| is_reading(canceled, &uid, &study)) {
        return None;
    }
    let mut replaced = DataSet::new();
    for (tag, of) in [
        (tags::REFERENCED_SOP_CLASS_UID, tags::SOP_CLASS_UID),
        (tags::REFERENCED_SOP_INSTANCE_UID, tags::SOP_INSTANCE_UID),
    ] {
        replaced.put_uid(tag, &canceled.uid(of).ok()?);
    }
    let mut step = canceled.clone();
    // What its reader said, and what belonged to that one.
    for tag in [
        tags::SOP_INSTANCE_UID,
        tags::TRANSACTION_UID,
        tags::PROCEDURE_STEP_PROGRESS_INFORMATION_SEQUENCE,
        tags::UNIFIED_PROCEDURE_STEP_PERFORMED_PROCEDURE_SEQUENCE,
    ] {
        step.remove(tag);
    }
    step.put_text(tags::PROCEDURE_STEP_STATE, VR::CS, State::Scheduled.as_str());
    step.put_items(tags::REPLACED_PROCEDURE_STEP_SEQUENCE, vec![replaced]);
    Some((next_of(&uid), step))
}

/// The UID of the step that follows one that was given back.
fn next_of(step: &Uid) -> Uid {
    Uid::named([&b"reading again"[..], step.as_bytes()])
}

/// Whether a step is one of those that are opened here to read a study: others may bear the same label.
fn is_reading(step: &DataSet, uid: &Uid, study: &Uid) -> bool {
    let follows = || {
        let mut replaced = step.items(tags::REPLACED_PROCEDURE_STEP_SEQUENCE).iter();
        replaced.any(|item| {
            let replaced = item.uid(tags::REFERENCED_SOP_INSTANCE_UID);
            replaced.is_ok_and(|replaced| next_of(&replaced) == *uid)
        })
    };
    let mut requests = step.items(tags::REFERENCED_REQUEST_SEQUENCE).iter();
    requests.any(|request| request.uid(tags::STUDY_INSTANCE_UID).ok() == Some(*study))
        && (*uid == Reading::step_of(study) || follows())
}

/// Scheduled Procedure Step Priority (0074,1200) has three values; STAT is HIGH there (PS3.3 C.30.2.1).
fn at_most_high(priority: Priority) -> Priority {
    priority.max(Priority::High)
}

fn put_priority(step: &mut DataSet, priority: Priority) {
    let text = at_most_high(priority).as_str();
    step.put_text(tags::SCHEDULED_PROCEDURE_STEP_PRIORITY, VR::CS, text);
}

/// The attributes of a new step (PS3.4 table CC.2.5-3).
fn step(study: &Uid, record: &InstanceRecord, order: Option<&DataSet>, priority: Priority) -> DataSet {
    let known = record.attributes.together();
    let ordered = order
        .and_then(|order| order.string(tags::REQUESTED_PROCEDURE_PRIORITY))
        .and_then(Priority::parse);
    let priority = ordered.map_or(priority, |ordered| ordered.min(priority));
    let mut step = DataSet::new();
    put_priority(&mut step, priority);
    step.put_text(tags::PROCEDURE_STEP_STATE, VR::CS, State::Scheduled.as_str());
    step.put_text(tags::PROCEDURE_STEP_LABEL, VR::LO, "Interpretation");
    step.put_text(tags::WORKLIST_LABEL, VR::LO, WORKLIST_LABEL);
    step.put_text(
        tags::SCHEDULED_PROCEDURE_STEP_START_DATE_TIME,
        VR::DT,
        Timestamp::now().date_time(),
    );
    step.put_text(tags::INPUT_READINESS_STATE, VR::CS, "READY");
    step.put_items(tags::SCHEDULED_WORKITEM_CODE_SEQUENCE, vec![interpretation()]);
    let mut input = DataSet::new();
    input.put_text(tags::TYPE_OF_INSTANCES, VR::CS, "DICOM");
    input.put_uid(tags::STUDY_INSTANCE_UID, study);
    step.put_items(tags::INPUT_INFORMATION_SEQUENCE, vec![input]);
    for tag in [
        tags::PATIENT_NAME,
        tags::PATIENT_ID,
        tags::ISSUER_OF_PATIENT_ID,
        tags::PATIENT_BIRTH_DATE,
        tags::PATIENT_SEX,
    ] {
        if let Some(element) = known.get(tag).or_else(|| order?.get(tag)) {
            step.put(element.clone());
        }
    }
    let mut request = DataSet::new();
    request.put_uid(tags::STUDY_INSTANCE_UID, study);
    for tag in [
        tags::ACCESSION_NUMBER,
        tags::REFERRING_PHYSICIAN_NAME,
        tags::REQUESTED_PROCEDURE_ID,
        tags::REQUESTED_PROCEDURE_DESCRIPTION,
    ] {
        if let Some(element) = order.and_then(|order| order.get(tag)).or_else(|| known.get(tag)) {
            request.put(element.clone());
        }
    }
    request.put_text(tags::REQUESTED_PROCEDURE_PRIORITY, VR::SH, priority.as_str());
    step.put_items(tags::REFERENCED_REQUEST_SEQUENCE, vec![request]);
    step
}

/// What was done, as a final state requires it (PS3.4 table CC.2.5-3): with what its performer has said of it already.
fn performed(step: &DataSet, report: &InstanceRecord) -> DataSet {
    let said = step.items(tags::UNIFIED_PROCEDURE_STEP_PERFORMED_PROCEDURE_SEQUENCE);
    let mut said = said.to_vec();
    let mut done = match said.is_empty() {
        true => DataSet::new(),
        false => said.remove(0),
    };
    let begun = step
        .string(tags::SCHEDULED_PROCEDURE_STEP_START_DATE_TIME)
        .unwrap_or_default();
    for (tag, item) in [
        (
            tags::PERFORMED_STATION_NAME_CODE_SEQUENCE,
            DataSet::code("PACS", "99PACS", "PACS"),
        ),
        (tags::PERFORMED_WORKITEM_CODE_SEQUENCE, interpretation()),
    ] {
        if done.items(tag).is_empty() {
            done.put_items(tag, vec![item]);
        }
    }
    for (tag, time) in [
        (tags::PERFORMED_PROCEDURE_STEP_START_DATE_TIME, begun.to_owned()),
        (
            tags::PERFORMED_PROCEDURE_STEP_END_DATE_TIME,
            Timestamp::now().date_time(),
        ),
    ] {
        if done.string(tag).is_none() {
            done.put_text(tag, VR::DT, time);
        }
    }
    let mut instance = DataSet::new();
    instance.put_uid(tags::REFERENCED_SOP_CLASS_UID, &report.sop_class);
    instance.put_uid(tags::REFERENCED_SOP_INSTANCE_UID, &report.key.instance);
    let mut output = DataSet::new();
    output.put_items(tags::REFERENCED_SOP_SEQUENCE, vec![instance]);
    output.put_text(tags::TYPE_OF_INSTANCES, VR::CS, "DICOM");
    output.put_uid(tags::STUDY_INSTANCE_UID, &report.key.study);
    output.put_uid(tags::SERIES_INSTANCE_UID, &report.key.series);
    let mut outputs = done.items(tags::OUTPUT_INFORMATION_SEQUENCE).to_vec();
    // It is said already where somebody else changed the step between two tries.
    let mut said_of = outputs
        .iter()
        .flat_map(|output| output.items(tags::REFERENCED_SOP_SEQUENCE));
    let is_this = |instance: &DataSet| {
        instance.string(tags::REFERENCED_SOP_INSTANCE_UID) == Some(report.key.instance.as_str())
    };
    if !said_of.any(is_this) {
        outputs.push(output);
    }
    done.put_items(tags::OUTPUT_INFORMATION_SEQUENCE, outputs);
    said.insert(0, done);
    let mut set = DataSet::new();
    set.put_items(tags::UNIFIED_PROCEDURE_STEP_PERFORMED_PROCEDURE_SEQUENCE, said);
    set
}

/// That a final report of this study was stored, and which.
fn reported(study: &Uid) -> Bytes {
    Key::of("reported").text(study.as_str()).bytes()
}

/// Interpretation (PS3.16 CID 9231).
fn interpretation() -> DataSet {
    DataSet::code("110005", "DCM", "Interpretation")
}
