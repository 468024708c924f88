//! The audit trail (PS3.15 A.5, IHE ATNA): who did what with whose data, as messages of the Standard.
//!
//! | noun | what it is |
//! | --- | --- |
//! | [`Message`] | an event, with a constructor for each message of PS3.15 A.5.3 |
//! | [`Participant`], [`Media`] | who took part |
//! | [`Subject`], [`Patient`], [`Study`] | whose data it was |
//! | [`Code`] | coded values |
//! | [`AuditTrail`] | keeps messages; `pacs_store::AuditLog` is one |
//! | [`Audit`] | what servers and embedders hold to tell of events: a trail, or none |
//! | [`AuditQueue`] | messages that wait to be sent; `pacs_net::audit` sends them |
//!
//! ```
//! # use std::sync::Arc;
//! # use pacs_core::audit::{Audit, AuditTrail, Between, Message, Outcome, Participant, Question};
//! # use pacs_core::{AeTitle, Source, Uid};
//! # fn asked(trail: Arc<dyn AuditTrail>, source: &Source, identifier: Vec<u8>) -> pacs_core::Result<()> {
//! // Once, where the program starts.
//! let us = Participant::process("pacs-server", [AeTitle::parse("PACS")?]);
//! let audit = Audit::new(trail, us, true);
//!
//! // At a door, for each query. Where recording is required, an error is what the peer is answered.
//! audit.record(|us| {
//!     let question = Question::Dicom {
//!         sop_class: Uid::constant("1.2.840.10008.5.1.4.1.2.2.1"),
//!         identifier,
//!         transfer_syntax: Uid::constant("1.2.840.10008.1.2"),
//!     };
//!     Message::query(Between::new(Participant::of(source).requesting(), us), question)
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! # What a message has room for
//!
//! Messages are written as XML documents of at most [`AUDIT_DOCUMENT_LENGTH_MAX_BYTES`], which every receiver takes
//! (PS3.15 A.6). A message about more than one document can name becomes several, each with the same event, the same
//! participants and the patient. SOP Instance UIDs are named as far as there is room for them, and always counted. A text is cut
//! to [`AUDIT_TEXT_LENGTH_MAX_BYTES`], a query to [`AUDIT_QUERY_LENGTH_MAX_BYTES`].
//!
//! Messages hold patient data. They belong into an audit trail and nowhere else: `Debug` shows none of it.

mod code;
mod events;
mod object;
mod participant;
mod subject;
#[cfg(test)]
mod tests;
mod trail;
mod xml;

use std::fmt;

pub use code::Code;
pub use events::{AlertSubject, Between, Question};
use object::Group;
pub use participant::{AccessPoint, Media, Participant, file_uri};
pub use subject::{Patient, Study, Subject, Subjects};
pub use trail::{Audit, AuditQueue, AuditTrail, Recorded};

use crate::archive::Timestamp;
use crate::error::Error;
#[cfg(doc)]
use crate::limits::{
    AUDIT_DOCUMENT_LENGTH_MAX_BYTES, AUDIT_QUERY_LENGTH_MAX_BYTES, AUDIT_TEXT_LENGTH_MAX_BYTES,
};

/// Participants of an event: those of the Standard's messages have up to five. Together with the bounds below, any head and any
/// one object fit into a document, however long their texts are.
const PARTICIPANTS_MAX: usize = 5;

/// Types of an event.
const TYPES_MAX: usize = 3;

/// SOP classes of a study that are named; instances of further ones are counted together. Studies have a handful.
const SOP_CLASSES_MAX: usize = 40;

/// Accession numbers, and performed procedure steps, of a study that are named.
const ACCESSION_NUMBERS_MAX: usize = 4;

/// SOP Instance UIDs of a SOP class that are held: as many as a document could name.
const INSTANCES_NAMED_MAX: usize = 512;

/// An event, as it is recorded.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    event: Code,
    types: Vec<Code>,
    action: Action,
    time: Timestamp,
    outcome: Outcome,
    participants: Vec<Participant>,
    groups: Vec<Group>,
}

/// What was done with a thing (EventActionCode).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Create,
    /// It was read, shown, or sent.
    Read,
    /// It was changed.
    Update,
    /// It was deleted.
    Delete,
    /// Something was performed.
    Execute,
}

impl Action {
    fn code(self) -> &'static str {
        match self {
            Self::Create => "C",
            Self::Read => "R",
            Self::Update => "U",
            Self::Delete => "D",
            Self::Execute => "E",
        }
    }
}

/// Whether an event succeeded. Where some of it did and some did not, two messages say so (PS3.15 table A.5.2-1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    indicator: OutcomeIndicator,
    description: Option<String>,
}

/// How an event ended (EventOutcomeIndicator).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeIndicator {
    /// 0: as it should.
    Success,
    /// 4: it failed, and may be tried again: a wrong password.
    MinorFailure,
    /// 8: it was ended: a wrong password once too often.
    SeriousFailure,
    /// 12: it can't be had any more: the user's account is closed.
    MajorFailure,
}

impl OutcomeIndicator {
    fn code(self) -> &'static str {
        match self {
            Self::Success => "0",
            Self::MinorFailure => "4",
            Self::SeriousFailure => "8",
            Self::MajorFailure => "12",
        }
    }
}

impl Outcome {
    /// It succeeded.
    pub const SUCCESS: Self = Self {
        indicator: OutcomeIndicator::Success,
        description: None,
    };

    /// It failed so, for this reason; the reason holds no patient data.
    pub fn failure(indicator: OutcomeIndicator, why: impl Into<String>) -> Self {
        Self {
            indicator,
            description: Some(why.into()),
        }
    }

    /// What a result comes to: an error ended what was asked for (8).
    pub fn of<T>(result: &Result<T, Error>) -> Self {
        match result {
            Ok(_) => Self::SUCCESS,
            Err(error) => Self::failure(OutcomeIndicator::SeriousFailure, error.context()),
        }
    }
}

/// Who reports (AuditSourceIdentification).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSource {
    /// What this system is called among those that report: unique within the site.
    pub id: String,
    /// Where it is, within the enterprise.
    pub site: Option<String>,
}

impl AuditSource {
    /// A system of this name.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            site: None,
        }
    }
}

impl Message {
    fn new(event: Code, action: Action, participants: impl IntoIterator<Item = Participant>) -> Self {
        Self {
            event,
            types: Vec::new(),
            action,
            time: Timestamp::now(),
            outcome: Outcome::SUCCESS,
            participants: participants.into_iter().collect(),
            groups: Vec::new(),
        }
    }

    /// With another outcome than success.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// With another time than that of its making. Of what took long it is the end.
    #[must_use]
    pub fn at(mut self, time: Timestamp) -> Self {
        self.time = time;
        self
    }

    /// With a type besides those it has (EventTypeCode), such as IHE's transaction.
    #[must_use]
    pub fn with_type(mut self, code: Code) -> Self {
        self.types.push(code);
        self
    }

    /// Which family of events it belongs to.
    pub fn event(&self) -> &Code {
        &self.event
    }

    /// The message as XML documents of the schema of PS3.15 A.5.1, mostly one: see [the module](self).
    pub fn documents(&self, source: &AuditSource) -> Vec<String> {
        xml::documents(self, source)
    }
}

/// What it says is patient data.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("event", &self.event.meaning)
            .field("action", &self.action)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}
