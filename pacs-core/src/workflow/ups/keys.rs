//! Where in the ledger what is kept of steps lies.
//!
//! | key | value |
//! | --- | --- |
//! | `ups` uid | the step, with its Transaction UID |
//! | `ups.watchers` uid | who is subscribed to it |
//! | `ups.work` state, priority, start, uid | |
//! | `ups.study` study, uid | |
//! | `ups.patient` patient ID, uid | |
//! | `ups.final` modified, uid | those in a final state |
//! | `ups.watched` AE title, uid | |
//! | `ups.global` | who is subscribed globally |
//! | `ups.event` AE title, number | an event that waits |

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;
use dicom_dictionary_std::tags;

use super::attributes::PRIORITIES;
use super::state::State;
use crate::dataset::DataSet;
use crate::error::Result;
use crate::ledger::{Key, Parts};
use crate::query::date_time;
use crate::uid::{AeTitle, Uid};

const STEP: &str = "ups";
const WORK: &str = "ups.work";
const STUDY: &str = "ups.study";
const PATIENT: &str = "ups.patient";
const FINAL: &str = "ups.final";
const WATCHED: &str = "ups.watched";
const EVENT: &str = "ups.event";

pub(super) fn step(uid: &Uid) -> Bytes {
    Key::of(STEP).text(uid).bytes()
}

pub(super) fn all_steps() -> Range<Bytes> {
    Key::of(STEP).range()
}

pub(super) fn watchers(uid: &Uid) -> Bytes {
    Key::of("ups.watchers").text(uid).bytes()
}

pub(super) fn global() -> Bytes {
    Key::of("ups.global").bytes()
}

pub(super) fn watched(ae: &AeTitle, uid: &Uid) -> Bytes {
    Key::of(WATCHED).text(ae).text(uid).bytes()
}

pub(super) fn watched_by(ae: &AeTitle) -> Range<Bytes> {
    Key::of(WATCHED).text(ae).range()
}

pub(super) fn all_watched() -> Range<Bytes> {
    Key::of(WATCHED).range()
}

pub(super) fn event(ae: &AeTitle, number: u64) -> Bytes {
    Key::of(EVENT).text(ae).number(number).bytes()
}

pub(super) fn events_of(ae: &AeTitle) -> Range<Bytes> {
    Key::of(EVENT).text(ae).range()
}

pub(super) fn all_events() -> Range<Bytes> {
    Key::of(EVENT).range()
}

/// Events for an AE numbered below `number`.
pub(super) fn events_before(ae: &AeTitle, number: u64) -> Range<Bytes> {
    let key = Key::of(EVENT).text(ae);
    key.bytes()..key.number(number).bytes()
}

/// Steps in a final state since before a moment, in microseconds since 1970.
pub(super) fn final_before(moment: i64) -> Range<Bytes> {
    Key::of(FINAL).bytes()..Key::of(FINAL).number(ordered(moment)).bytes()
}

pub(super) fn of_study(study: &Uid) -> Range<Bytes> {
    Key::of(STUDY).text(study).range()
}

pub(super) fn of_patient(id: &str) -> Range<Bytes> {
    Key::of(PATIENT).text(id).range()
}

/// Steps of a state and a priority that start from `from` to `to`, both inside, in microseconds since 1970.
pub(super) fn work(state: State, priority: u64, from: i64, to: i64) -> Range<Bytes> {
    let key = Key::of(WORK).text(state.as_str()).number(priority);
    let first = key.clone().number(ordered(from)).bytes();
    first..key.number(ordered(to)).range().end
}

/// The place of a priority in the order of urgency; what is none comes last.
pub(super) fn priority(step: &DataSet) -> u64 {
    let text = step.string(tags::SCHEDULED_PROCEDURE_STEP_PRIORITY);
    let place = PRIORITIES.iter().position(|one| Some(*one) == text);
    place.unwrap_or(PRIORITIES.len()) as u64
}

/// A number with the same order.
fn ordered(moment: i64) -> u64 {
    moment.cast_unsigned() ^ (1 << 63)
}

/// The UID in a key of a step or an entry.
pub(super) fn uid_in(key: &[u8]) -> Result<Uid> {
    let mut parts = Parts::of(key);
    match parts.text()? {
        WORK => {
            parts.text()?;
            parts.number()?;
            parts.number()?;
        }
        FINAL => _ = parts.number()?,
        STEP => {}
        _ => _ = parts.text()?,
    }
    Uid::parse(parts.text()?)
}

/// The AE title in a key of an event or of what is watched.
pub(super) fn ae_in(key: &[u8]) -> Result<AeTitle> {
    let mut parts = Parts::of(key);
    parts.text()?;
    AeTitle::parse(parts.text()?)
}

/// The state of a step that is kept.
pub(super) fn state_of(step: &DataSet) -> State {
    let state = step.string(tags::PROCEDURE_STEP_STATE);
    // None is kept without one.
    state.and_then(State::parse).unwrap_or(State::Scheduled)
}

fn moment_of(step: &DataSet, tag: dicom_core::Tag) -> i64 {
    step.string(tag).and_then(date_time).map_or(0, |(begin, _)| begin)
}

/// The entries by which a step is found.
pub(super) fn entries(uid: &Uid, step: &DataSet) -> BTreeSet<Bytes> {
    let state = state_of(step);
    let start = ordered(moment_of(step, tags::SCHEDULED_PROCEDURE_STEP_START_DATE_TIME));
    let work = Key::of(WORK)
        .text(state.as_str())
        .number(priority(step))
        .number(start);
    let mut entries = BTreeSet::from([work.text(uid).bytes()]);
    for study in studies(step) {
        entries.insert(Key::of(STUDY).text(&study).text(uid).bytes());
    }
    if let Some(id) = step.string(tags::PATIENT_ID) {
        entries.insert(Key::of(PATIENT).text(id).text(uid).bytes());
    }
    if state.is_final() {
        let modified = moment_of(step, tags::SCHEDULED_PROCEDURE_STEP_MODIFICATION_DATE_TIME);
        entries.insert(Key::of(FINAL).number(ordered(modified)).text(uid).bytes());
    }
    entries
}

/// The studies that a step is about: that it makes, that it was requested with, that it works on.
pub(super) fn studies(step: &DataSet) -> BTreeSet<Uid> {
    let within = [
        tags::REFERENCED_REQUEST_SEQUENCE,
        tags::INPUT_INFORMATION_SEQUENCE,
    ];
    let items = within.iter().flat_map(|tag| step.items(*tag));
    std::iter::once(step)
        .chain(items)
        .filter_map(|set| set.uid(tags::STUDY_INSTANCE_UID).ok())
        .collect()
}
