//! What is required of the attributes of a step when it is created, when it is updated, and in a final state: the table
//! CC.2.5-3 of PS3.4, as data.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags::*;

use super::refusal::Refusal;
use super::state::State;
use crate::dataset::{DataSet, Element, Value, standard_vr};
use crate::error::Result;
use crate::query::date_time;

/// What N-CREATE requires.
#[derive(Clone, Copy, PartialEq)]
enum Create {
    /// Type 1: a value.
    Value,
    /// Type 2: it is there, with or without a value. One that is missing is added (status B300).
    There,
    /// It has no value.
    Empty,
    /// It may be there.
    May,
    /// "-" or "Not allowed".
    Not,
}

/// What N-SET requires.
#[derive(Clone, Copy, PartialEq)]
enum Set {
    /// Where it is given, it has a value; within an item it is given.
    Value,
    /// It may be given.
    May,
    /// "-" or "Not allowed".
    Not,
}

/// What a final state requires (table CC.2.5-2).
#[derive(Clone, Copy, PartialEq)]
enum Final {
    /// R: a value in both.
    Both,
    /// P: a value in COMPLETED.
    Completed,
    /// P, of a sequence that may have no items.
    CompletedThere,
    /// X: a value in CANCELED.
    Canceled,
    /// O, and RC, whose condition only the performer knows.
    No,
}

/// How deep it stands, the attribute, and what is required of it.
type Row = (u8, Tag, Create, Set, Final);

use Create::{Empty, There};
use Final::{Both, Canceled, Completed, CompletedThere, No};

const C1: Create = Create::Value;
const C3: Create = Create::May;
const CX: Create = Create::Not;
const S1: Set = Set::Value;
const S3: Set = Set::May;
const SX: Set = Set::Not;

/// Table CC.2.5-3, without rows that require nothing at all (3/3, O), and without the contents of code sequences. What
/// the Standard requires on a condition that isn't in the data set (1C, 2C) is not required.
const TABLE: &[Row] = &[
    (0, TRANSACTION_UID, Empty, S3, No),
    (0, SCHEDULED_PROCEDURE_STEP_PRIORITY, C1, S1, Both),
    (0, SCHEDULED_PROCEDURE_STEP_MODIFICATION_DATE_TIME, C3, S3, Both),
    (0, PROCEDURE_STEP_LABEL, C1, S1, No),
    // One without a value is filled in: see `DEFAULT_WORKLIST`.
    (0, WORKLIST_LABEL, C3, S1, No),
    (0, SCHEDULED_PROCESSING_PARAMETERS_SEQUENCE, There, S3, No),
    (0, SCHEDULED_STATION_NAME_CODE_SEQUENCE, There, S3, No),
    (0, SCHEDULED_STATION_CLASS_CODE_SEQUENCE, There, S3, No),
    (
        0,
        SCHEDULED_STATION_GEOGRAPHIC_LOCATION_CODE_SEQUENCE,
        There,
        S3,
        No,
    ),
    (0, SCHEDULED_HUMAN_PERFORMERS_SEQUENCE, C3, S3, No),
    (1, HUMAN_PERFORMER_CODE_SEQUENCE, C1, S1, No),
    (1, HUMAN_PERFORMER_NAME, C1, S1, No),
    (1, HUMAN_PERFORMER_ORGANIZATION, C1, S1, No),
    (0, SCHEDULED_PROCEDURE_STEP_START_DATE_TIME, C1, S1, Both),
    (0, SCHEDULED_WORKITEM_CODE_SEQUENCE, There, S3, No),
    (0, COMMENTS_ON_THE_SCHEDULED_PROCEDURE_STEP, There, S3, No),
    (0, INPUT_READINESS_STATE, C1, S1, Both),
    (0, INPUT_INFORMATION_SEQUENCE, There, S3, No),
    (0, PATIENT_NAME, There, SX, No),
    (0, PATIENT_ID, C3, SX, No),
    (0, ISSUER_OF_PATIENT_ID, There, SX, No),
    (0, ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE, There, SX, No),
    (0, OTHER_PATIENT_I_DS_SEQUENCE, There, S3, No),
    (1, PATIENT_ID, C1, S1, No),
    (0, PATIENT_BIRTH_DATE, There, SX, No),
    (0, PATIENT_SEX, There, SX, No),
    (0, ADMISSION_ID, There, SX, No),
    (0, ISSUER_OF_ADMISSION_ID_SEQUENCE, There, SX, No),
    (0, ADMITTING_DIAGNOSES_DESCRIPTION, There, SX, No),
    (0, ADMITTING_DIAGNOSES_CODE_SEQUENCE, There, SX, No),
    (0, REFERENCED_REQUEST_SEQUENCE, There, SX, No),
    (1, STUDY_INSTANCE_UID, C1, S1, No),
    (0, REPLACED_PROCEDURE_STEP_SEQUENCE, C3, SX, No),
    (0, PROCEDURE_STEP_STATE, C1, SX, Both),
    (
        0,
        PROCEDURE_STEP_PROGRESS_INFORMATION_SEQUENCE,
        Empty,
        S3,
        Canceled,
    ),
    (1, PROCEDURE_STEP_COMMUNICATIONS_URI_SEQUENCE, CX, S3, No),
    (2, CONTACT_URI, CX, S1, No),
    (1, PROCEDURE_STEP_CANCELLATION_DATE_TIME, CX, S3, Canceled),
    (
        1,
        PROCEDURE_STEP_DISCONTINUATION_REASON_CODE_SEQUENCE,
        CX,
        S3,
        Canceled,
    ),
    (
        0,
        UNIFIED_PROCEDURE_STEP_PERFORMED_PROCEDURE_SEQUENCE,
        Empty,
        S3,
        Completed,
    ),
    (1, PERFORMED_STATION_NAME_CODE_SEQUENCE, CX, S3, Completed),
    (1, PERFORMED_PROCEDURE_STEP_START_DATE_TIME, CX, S3, Completed),
    (1, PERFORMED_WORKITEM_CODE_SEQUENCE, CX, S3, Completed),
    (1, PERFORMED_PROCEDURE_STEP_END_DATE_TIME, CX, S3, Completed),
    (1, OUTPUT_INFORMATION_SEQUENCE, CX, S3, CompletedThere),
];

/// Worklist Label (0074,1202) of a step that is created without one.
const DEFAULT_WORKLIST: &str = "WORKLIST";

/// Values of Scheduled Procedure Step Priority (0074,1200), the most urgent first (PS3.3 C.30.2.1). HIGH is what
/// elsewhere is called STAT.
pub const PRIORITIES: [&str; 3] = ["HIGH", "MEDIUM", "LOW"];

/// Values of Input Readiness State (0040,4041), PS3.3 C.30.2.1.
const READINESS: [&str; 3] = ["INCOMPLETE", "UNAVAILABLE", "READY"];

/// A Patient ID by which steps are found, in bytes: 64 characters of LO.
const PATIENT_ID_LENGTH_MAX_BYTES: usize = 256;

/// Checks what is to be created, and completes it. Answers whether attributes that the requester should have given
/// were added.
pub(super) fn complete_new(set: &mut DataSet) -> Result<bool> {
    // The state has a status of its own.
    match set.string(PROCEDURE_STEP_STATE) {
        Some(text) if text != State::Scheduled.as_str() => {
            return Err(Refusal::NotScheduled.with_tags([PROCEDURE_STEP_STATE]));
        }
        _ => {}
    }
    check_level(TABLE, 0, set, true)?;
    check_values(set)?;
    let mut added = false;
    for (_, tag, create, _, _) in TABLE.iter().filter(|row| row.0 == 0) {
        if *create == There && !set.contains(*tag) || *create == Empty && !set.contains(*tag) {
            added |= *tag != TRANSACTION_UID;
            set.put(empty(*tag));
        }
    }
    set.remove(TRANSACTION_UID);
    if set.string(WORKLIST_LABEL).is_none() {
        set.put_text(WORKLIST_LABEL, VR::LO, DEFAULT_WORKLIST);
    }
    Ok(added)
}

/// Checks what is to be set.
pub(super) fn check_update(set: &DataSet) -> Result<()> {
    if set.string(PROCEDURE_STEP_STATE) == Some(State::Scheduled.as_str()) {
        return Err(Refusal::OnlyCreatedScheduled.with_tags([PROCEDURE_STEP_STATE]));
    }
    for tag in [SOP_CLASS_UID, SOP_INSTANCE_UID] {
        if set.contains(tag) {
            return Err(Refusal::InvalidValue.with_tags([tag]));
        }
    }
    check_level(TABLE, 0, set, false)?;
    check_values(set)
}

/// Holds one data set or item against the rows of its depth; those of what is nested in it follow each row.
fn check_level(rows: &[Row], depth: u8, set: &DataSet, creating: bool) -> Result<()> {
    for (at, (of, tag, create, update, _)) in rows.iter().enumerate() {
        if *of != depth {
            continue;
        }
        let element = set.get(*tag);
        let has_value = element.is_some_and(|element| !element.is_empty());
        let needs_value = match creating {
            true => *create == Create::Value,
            false => *update == Set::Value && (depth > 0 || element.is_some()),
        };
        let may_not = match creating {
            true => (*create == Create::Not && element.is_some()) || (*create == Empty && has_value),
            false => *update == Set::Not && element.is_some(),
        };
        let refusal = match element {
            _ if may_not => Refusal::InvalidValue,
            None if needs_value => Refusal::MissingAttribute,
            Some(_) if needs_value && !has_value => Refusal::MissingValue,
            _ => {
                let nested = nested(rows, at);
                for item in set.items(*tag) {
                    check_level(nested, depth + 1, item, creating)?;
                }
                continue;
            }
        };
        return Err(refusal.with_tags([*tag]));
    }
    Ok(())
}

/// The rows of what is nested in the row at `at`.
fn nested(rows: &[Row], at: usize) -> &[Row] {
    let below = &rows[at + 1..];
    let end = below.iter().position(|row| row.0 <= rows[at].0);
    &below[..end.unwrap_or(below.len())]
}

/// The values by which steps are ordered and found.
pub(super) fn check_values(set: &DataSet) -> Result<()> {
    let one_of = |tag: Tag, values: &[&str]| set.string(tag).is_none_or(|text| values.contains(&text));
    let checks = [
        (
            SCHEDULED_PROCEDURE_STEP_PRIORITY,
            one_of(SCHEDULED_PROCEDURE_STEP_PRIORITY, &PRIORITIES),
        ),
        (INPUT_READINESS_STATE, one_of(INPUT_READINESS_STATE, &READINESS)),
        (
            SCHEDULED_PROCEDURE_STEP_START_DATE_TIME,
            set.string(SCHEDULED_PROCEDURE_STEP_START_DATE_TIME)
                .is_none_or(|text| date_time(text).is_some()),
        ),
        (
            PATIENT_ID,
            set.string(PATIENT_ID)
                .is_none_or(|text| text.len() <= PATIENT_ID_LENGTH_MAX_BYTES),
        ),
        (
            STUDY_INSTANCE_UID,
            set.string(STUDY_INSTANCE_UID).is_none() || set.uid(STUDY_INSTANCE_UID).is_ok(),
        ),
    ];
    match checks.iter().find(|(_, is_good)| !is_good) {
        Some((tag, _)) => Err(Refusal::InvalidValue.with_tags([*tag])),
        None => Ok(()),
    }
}

/// The attributes that keep a step out of a final state.
pub(super) fn missing_in(state: State, set: &DataSet) -> Vec<Tag> {
    let mut missing = Vec::new();
    look_for_missing(TABLE, 0, state, set, &mut missing);
    missing.sort_unstable();
    missing.dedup();
    missing
}

fn look_for_missing(rows: &[Row], depth: u8, state: State, set: &DataSet, missing: &mut Vec<Tag>) {
    for (at, (of, tag, _, _, required)) in rows.iter().enumerate() {
        if *of != depth {
            continue;
        }
        let element = set.get(*tag);
        let has_value = element.is_some_and(|element| !element.is_empty());
        let is_met = match required {
            Both => has_value,
            Completed => has_value || state != State::Completed,
            CompletedThere => element.is_some() || state != State::Completed,
            Canceled => has_value || state != State::Canceled,
            No => true,
        };
        if !is_met {
            missing.push(*tag);
        }
        for item in set.items(*tag) {
            look_for_missing(nested(rows, at), depth + 1, state, item, missing);
        }
    }
}

fn empty(tag: Tag) -> Element {
    let vr = standard_vr(tag).unwrap_or(VR::UN);
    let value = match vr {
        VR::SQ => Value::Items(Vec::new()),
        _ => Value::Bytes(bytes::Bytes::new()),
    };
    Element { tag, vr, value }
}

/// What is answered of a step though nobody asked for it: return key type 1 or 2 (PS3.18 11.9.2).
pub const ALWAYS_RETURNED: &[Tag] = &[
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    PATIENT_NAME,
    PATIENT_ID,
    ISSUER_OF_PATIENT_ID,
    ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE,
    OTHER_PATIENT_I_DS_SEQUENCE,
    PATIENT_BIRTH_DATE,
    PATIENT_SEX,
    ADMISSION_ID,
    ISSUER_OF_ADMISSION_ID_SEQUENCE,
    ADMITTING_DIAGNOSES_DESCRIPTION,
    ADMITTING_DIAGNOSES_CODE_SEQUENCE,
    STUDY_INSTANCE_UID,
    SCHEDULED_PROCEDURE_STEP_START_DATE_TIME,
    SCHEDULED_WORKITEM_CODE_SEQUENCE,
    INPUT_INFORMATION_SEQUENCE,
    SCHEDULED_STATION_NAME_CODE_SEQUENCE,
    SCHEDULED_STATION_CLASS_CODE_SEQUENCE,
    SCHEDULED_STATION_GEOGRAPHIC_LOCATION_CODE_SEQUENCE,
    SCHEDULED_HUMAN_PERFORMERS_SEQUENCE,
    INPUT_READINESS_STATE,
    REFERENCED_REQUEST_SEQUENCE,
    PROCEDURE_STEP_STATE,
    PROCEDURE_STEP_PROGRESS_INFORMATION_SEQUENCE,
    SCHEDULED_PROCEDURE_STEP_PRIORITY,
    WORKLIST_LABEL,
    PROCEDURE_STEP_LABEL,
    SCHEDULED_PROCESSING_PARAMETERS_SEQUENCE,
];
