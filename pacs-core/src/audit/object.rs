//! What an event is about, as the schema has it (ParticipantObjectIdentification of PS3.15 A.5.1).

use super::Code;
use crate::uid::Uid;

/// Objects of which a message that is written in several documents has each once, and one that each document repeats.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Group {
    pub(super) repeated: Option<Object>,
    pub(super) objects: Vec<Object>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) id: String,
    pub(super) id_type: Code,
    /// ParticipantObjectTypeCode.
    pub(super) type_code: &'static str,
    /// ParticipantObjectTypeCodeRole.
    pub(super) role: Option<&'static str>,
    pub(super) named: Named,
    pub(super) details: Vec<(&'static str, Vec<u8>)>,
    pub(super) description: Description,
}

/// The schema has one of the two.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Named {
    Name(String),
    Query(Vec<u8>),
}

#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Description {
    pub(super) performed_steps: Vec<Uid>,
    pub(super) accession_numbers: Vec<String>,
    pub(super) classes: Vec<SopClass>,
    pub(super) encrypted: Option<bool>,
    pub(super) anonymized: Option<bool>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct SopClass {
    pub(super) uid: Option<Uid>,
    pub(super) count: u64,
    pub(super) instances: Vec<Uid>,
}

impl Object {
    pub(super) fn new(id_type: Code, id: impl Into<String>, type_code: &'static str, named: Named) -> Self {
        Self {
            id: id.into(),
            id_type,
            type_code,
            role: None,
            named,
            details: Vec::new(),
            description: Description::default(),
        }
    }

    pub(super) fn detail(&mut self, kind: &'static str, value: Vec<u8>) {
        self.details.push((kind, value));
    }
}

impl Description {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl SopClass {
    pub(super) fn new(uid: Uid) -> Self {
        Self {
            uid: Some(uid),
            count: 0,
            instances: Vec::new(),
        }
    }
}
