//! What subscribers are told (PS3.4 CC.2.4): [`Event`].

use bytes::{BufMut, Bytes, BytesMut};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};

use super::state::State;
use crate::dataset::{DataSet, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{data_set_from_value, data_set_to_value};
use crate::uid::{AeTitle, Uid};

/// Event Type ID (table CC.2.4-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum EventType {
    /// UPS State Report.
    StateReport = 1,
    /// UPS Cancel Requested.
    CancelRequested = 2,
    /// UPS Progress Report.
    ProgressReport = 3,
    /// SCP Status Change.
    ScpStatusChange = 4,
    /// UPS Assigned.
    Assigned = 5,
}

impl EventType {
    /// All five.
    pub const ALL: [EventType; 5] = [
        EventType::StateReport,
        EventType::CancelRequested,
        EventType::ProgressReport,
        EventType::ScpStatusChange,
        EventType::Assigned,
    ];

    /// The Event Type ID.
    pub fn id(self) -> u16 {
        self as u16
    }
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The step; for [`ScpStatusChange`](EventType::ScpStatusChange) the well-known UID of the global subscription.
    pub sop_instance: Uid,
    /// What kind.
    pub event_type: EventType,
    /// The event information.
    pub attributes: DataSet,
}

impl Event {
    /// The state and the readiness of a step; why it was canceled, where it was.
    pub(super) fn state_report(sop_instance: Uid, step: &DataSet) -> Self {
        let mut attributes = picked(step, &[tags::PROCEDURE_STEP_STATE, tags::INPUT_READINESS_STATE]);
        if step.string(tags::PROCEDURE_STEP_STATE) == Some(State::Canceled.as_str()) {
            let progress = step
                .items(tags::PROCEDURE_STEP_PROGRESS_INFORMATION_SEQUENCE)
                .first();
            let why = [
                tags::REASON_FOR_CANCELLATION,
                tags::PROCEDURE_STEP_DISCONTINUATION_REASON_CODE_SEQUENCE,
            ];
            if let Some(progress) = progress {
                attributes.add_from(&picked(progress, &why).with_values());
            }
        }
        Self {
            sop_instance,
            event_type: EventType::StateReport,
            attributes,
        }
    }

    pub(super) fn cancel_requested(sop_instance: Uid, requester: &AeTitle, information: &DataSet) -> Self {
        let mut attributes = picked(information, &CANCEL_INFORMATION).with_values();
        attributes.put_text(tags::REQUESTING_AE, VR::AE, requester.as_str());
        Self {
            sop_instance,
            event_type: EventType::CancelRequested,
            attributes,
        }
    }

    pub(super) fn progress_report(sop_instance: Uid, step: &DataSet) -> Self {
        Self {
            sop_instance,
            event_type: EventType::ProgressReport,
            attributes: picked(step, &[tags::PROCEDURE_STEP_PROGRESS_INFORMATION_SEQUENCE]),
        }
    }

    /// To whom the step is assigned; `None` when to nobody.
    pub(super) fn assigned(sop_instance: Uid, step: &DataSet) -> Option<Self> {
        let mut attributes = picked(step, &[tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE]).with_values();
        let performers = step.items(tags::SCHEDULED_HUMAN_PERFORMERS_SEQUENCE);
        let codes: Vec<DataSet> = performers
            .iter()
            .flat_map(|performer| performer.items(tags::HUMAN_PERFORMER_CODE_SEQUENCE))
            .cloned()
            .collect();
        if !codes.is_empty() {
            attributes.put_items(tags::HUMAN_PERFORMER_CODE_SEQUENCE, codes);
        }
        // The attribute has one value.
        if let Some(performer) = performers.first() {
            let of_first = picked(performer, &[tags::HUMAN_PERFORMER_ORGANIZATION]);
            attributes.add_from(&of_first.with_values());
        }
        (!attributes.is_empty()).then_some(Self {
            sop_instance,
            event_type: EventType::Assigned,
            attributes,
        })
    }

    /// That the step is assigned to nobody any more.
    fn unassigned(sop_instance: Uid) -> Self {
        let mut attributes = DataSet::new();
        attributes.put_items(tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE, Vec::new());
        attributes.put_items(tags::HUMAN_PERFORMER_CODE_SEQUENCE, Vec::new());
        attributes.put_text(tags::HUMAN_PERFORMER_ORGANIZATION, VR::LO, "");
        Self {
            sop_instance,
            event_type: EventType::Assigned,
            attributes,
        }
    }

    /// That the server was restarted, or goes down. What it keeps it has kept (WARM START).
    pub(super) fn scp_status(status: &str) -> Self {
        let mut attributes = DataSet::new();
        attributes.put_text(tags::SCP_STATUS, VR::CS, status);
        attributes.put_text(tags::SUBSCRIPTION_LIST_STATUS, VR::CS, "WARM START");
        attributes.put_text(tags::UNIFIED_PROCEDURE_STEP_LIST_STATUS, VR::CS, "WARM START");
        Self {
            sop_instance: Uid::constant(uids::UPS_GLOBAL_SUBSCRIPTION_INSTANCE),
            event_type: EventType::ScpStatusChange,
            attributes,
        }
    }

    /// As a value of the ledger: type, length of the UID, UID, attributes.
    pub(super) fn to_value(&self) -> Result<Bytes> {
        let attributes = data_set_to_value(&self.attributes)?;
        let mut value = BytesMut::with_capacity(3 + self.sop_instance.len() + attributes.len());
        value.put_u16(self.event_type.id());
        // At most 64.
        value.put_u8(self.sop_instance.len() as u8);
        value.put_slice(self.sop_instance.as_bytes());
        value.put_slice(&attributes);
        Ok(value.freeze())
    }

    pub(super) fn from_value(value: &[u8]) -> Result<Self> {
        let parts = || {
            let ([high, low, length], rest) = value.split_first_chunk()?;
            let id = u16::from_be_bytes([*high, *low]);
            let event_type = EventType::ALL.into_iter().find(|kind| kind.id() == id)?;
            let (uid, rest) = rest.split_at_checked(usize::from(*length))?;
            let uid = Uid::parse(std::str::from_utf8(uid).ok()?).ok()?;
            Some((event_type, uid, rest))
        };
        let (event_type, sop_instance, attributes) = parts()
            .ok_or_else(|| Error::new(ErrorKind::Corrupt, "ups.event", "a kept event can't be read"))?;
        Ok(Self {
            sop_instance,
            event_type,
            attributes: data_set_from_value(attributes)?,
        })
    }
}

/// What may come with a request to cancel (table CC.2.2-1).
pub(super) const CANCEL_INFORMATION: [Tag; 4] = [
    tags::REASON_FOR_CANCELLATION,
    tags::PROCEDURE_STEP_DISCONTINUATION_REASON_CODE_SEQUENCE,
    tags::CONTACT_URI,
    tags::CONTACT_DISPLAY_NAME,
];

fn picked(set: &DataSet, wanted: &[Tag]) -> DataSet {
    wanted.iter().filter_map(|tag| set.get(*tag).cloned()).collect()
}

/// What subscribers are told of an update: of readiness, of whom it is assigned to, of progress.
pub(super) fn of_update(sop_instance: Uid, old: &DataSet, new: &DataSet) -> Vec<Event> {
    let differs = |tag: Tag| old.get(tag) != new.get(tag);
    let mut events = Vec::new();
    if differs(tags::INPUT_READINESS_STATE) {
        events.push(Event::state_report(sop_instance, new));
    }
    if differs(tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE)
        || differs(tags::SCHEDULED_HUMAN_PERFORMERS_SEQUENCE)
    {
        let assigned = Event::assigned(sop_instance, new);
        let was_assigned = || Event::assigned(sop_instance, old).is_some();
        events.extend(assigned.or_else(|| was_assigned().then(|| Event::unassigned(sop_instance))));
    }
    let progress = |set: &DataSet| -> Vec<DataSet> {
        let wanted = [
            tags::PROCEDURE_STEP_PROGRESS,
            tags::PROCEDURE_STEP_PROGRESS_DESCRIPTION,
            tags::PROCEDURE_STEP_COMMUNICATIONS_URI_SEQUENCE,
        ];
        match set
            .get(tags::PROCEDURE_STEP_PROGRESS_INFORMATION_SEQUENCE)
            .map(|element| &element.value)
        {
            Some(Value::Items(items)) => {
                let said = items.iter().map(|item| picked(item, &wanted));
                said.filter(|item| !item.is_empty()).collect()
            }
            _ => Vec::new(),
        }
    };
    if progress(old) != progress(new) {
        events.push(Event::progress_report(sop_instance, new));
    }
    events
}
