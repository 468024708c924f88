//! Unified procedure steps on a ledger: PS3.4 annex CC.

mod finding;
mod states;
mod subscribing;

use std::sync::Arc;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::executor::block_on;
use pacs_core::ledger::Ledger;
use pacs_core::workflow::ups::{EventType, Refusal, State, Ups};
use pacs_core::{AeTitle, DataSet, Error, Result, Tag, Uid};
use pacs_store::{MemoryLedger, RedbLedger};

fn in_memory() -> Ups {
    Ups::new(Arc::new(MemoryLedger::new()))
}

fn title(text: &str) -> AeTitle {
    AeTitle::parse(text).unwrap()
}

fn code(value: &str) -> DataSet {
    DataSet::code(value, "99TEST", "a test")
}

/// What a careful SCU creates.
fn step() -> DataSet {
    let mut set = DataSet::new();
    set.put_text(tags::PROCEDURE_STEP_STATE, VR::CS, "SCHEDULED");
    set.put_text(tags::PROCEDURE_STEP_LABEL, VR::LO, "Reading");
    set.put_text(tags::WORKLIST_LABEL, VR::LO, "READING");
    set.put_text(tags::SCHEDULED_PROCEDURE_STEP_PRIORITY, VR::CS, "MEDIUM");
    set.put_text(
        tags::SCHEDULED_PROCEDURE_STEP_START_DATE_TIME,
        VR::DT,
        "20240229101530",
    );
    set.put_text(tags::INPUT_READINESS_STATE, VR::CS, "READY");
    for tag in [
        tags::COMMENTS_ON_THE_SCHEDULED_PROCEDURE_STEP,
        tags::PATIENT_NAME,
        tags::ISSUER_OF_PATIENT_ID,
        tags::PATIENT_BIRTH_DATE,
        tags::PATIENT_SEX,
        tags::ADMISSION_ID,
        tags::ADMITTING_DIAGNOSES_DESCRIPTION,
    ] {
        set.put_text(tag, pacs_core::dataset::standard_vr(tag).unwrap(), "");
    }
    for tag in [
        tags::SCHEDULED_PROCESSING_PARAMETERS_SEQUENCE,
        tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE,
        tags::SCHEDULED_STATION_CLASS_CODE_SEQUENCE,
        tags::SCHEDULED_STATION_GEOGRAPHIC_LOCATION_CODE_SEQUENCE,
        tags::SCHEDULED_WORKITEM_CODE_SEQUENCE,
        tags::INPUT_INFORMATION_SEQUENCE,
        tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE,
        tags::OTHER_PATIENT_I_DS_SEQUENCE,
        tags::ISSUER_OF_ADMISSION_ID_SEQUENCE,
        tags::ADMITTING_DIAGNOSES_CODE_SEQUENCE,
        tags::REFERENCED_REQUEST_SEQUENCE,
        tags::PROCEDURE_STEP_PROGRESS_INFORMATION_SEQUENCE,
        tags::UNIFIED_PROCEDURE_STEP_PERFORMED_PROCEDURE_SEQUENCE,
    ] {
        set.put_items(tag, Vec::new());
    }
    set
}

/// What its performer says of it when it is done.
fn performed() -> DataSet {
    let mut item = DataSet::new();
    item.put_items(tags::PERFORMED_STATION_NAME_CODE_SEQUENCE, vec![code("STATION")]);
    item.put_items(tags::PERFORMED_WORKITEM_CODE_SEQUENCE, vec![code("110005")]);
    item.put_text(
        tags::PERFORMED_PROCEDURE_STEP_START_DATE_TIME,
        VR::DT,
        "20240229103000",
    );
    item.put_text(
        tags::PERFORMED_PROCEDURE_STEP_END_DATE_TIME,
        VR::DT,
        "20240229104500",
    );
    item.put_items(tags::OUTPUT_INFORMATION_SEQUENCE, Vec::new());
    let mut set = DataSet::new();
    set.put_items(
        tags::UNIFIED_PROCEDURE_STEP_PERFORMED_PROCEDURE_SEQUENCE,
        vec![item],
    );
    set
}

/// Why it was stopped.
fn discontinued() -> DataSet {
    let mut item = DataSet::new();
    item.put_items(
        tags::PROCEDURE_STEP_DISCONTINUATION_REASON_CODE_SEQUENCE,
        vec![code("110513")],
    );
    let mut set = DataSet::new();
    set.put_items(tags::PROCEDURE_STEP_PROGRESS_INFORMATION_SEQUENCE, vec![item]);
    set
}

const TRANSACTION: Uid = Uid::constant("2.25.1");
const OTHER_TRANSACTION: Uid = Uid::constant("2.25.2");

/// A step in a state, claimed with `TRANSACTION` where it is not SCHEDULED, and with all that a final state needs.
fn in_state(ups: &Ups, state: State) -> Uid {
    block_on(async {
        let uid = ups.create(None, step()).await.unwrap().sop_instance;
        if state == State::Scheduled {
            return uid;
        }
        let mine = Some(&TRANSACTION);
        ups.change_state(&uid, State::InProgress, mine).await.unwrap();
        ups.set(&uid, mine, performed()).await.unwrap();
        ups.set(&uid, mine, discontinued()).await.unwrap();
        if state.is_final() {
            ups.change_state(&uid, state, mine).await.unwrap();
        }
        uid
    })
}

fn state_of(ups: &Ups, uid: &Uid) -> State {
    let step = block_on(ups.get(uid)).unwrap();
    State::parse(step.string(tags::PROCEDURE_STEP_STATE).unwrap()).unwrap()
}

/// The status that a request is answered with.
fn status(answer: &Result<pacs_core::workflow::ups::Outcome>) -> u16 {
    match answer {
        Ok(outcome) => outcome.warning.map_or(0, |warning| warning.status()),
        Err(error) => refusal(error).status(),
    }
}

fn refusal(error: &Error) -> Refusal {
    Refusal::of(error).unwrap_or_else(|| panic!("no refusal: {error:?}"))
}

/// Types of the events that wait for an AE.
fn events(ups: &Ups, ae: &str) -> Vec<EventType> {
    let waiting = block_on(ups.events(&title(ae), 1000)).unwrap();
    waiting.iter().map(|queued| queued.event.event_type).collect()
}
