//! [`Reply`]: what an operation answers.

use bytes::Bytes;
use dicom_core::Tag;
use pacs_core::{DimseService, Error, Uid};

use super::command::CommandSet;
use super::field::{CommandField, SubOperations};
use super::status::Status;

/// One response: a status, and what goes with it.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: Status,
    /// Why, for a status other than success; on the wire it is cut to 64 characters.
    pub error_comment: Option<String>,
    /// The attributes at fault.
    pub offending_elements: Vec<Tag>,
    /// Error ID (0000,0903), where a service class has one for it.
    pub error_id: Option<u16>,
    /// The data set (identifier, attribute list, event information), encoded in the transfer syntax of
    /// the operation's presentation context.
    pub data_set: Option<Bytes>,
    /// Counts, for C-MOVE and C-GET.
    pub sub_operations: Option<SubOperations>,
    /// Affected SOP Instance UID, where it is not that of the request (N-CREATE).
    pub affected_sop_instance: Option<Uid>,
}

impl Reply {
    /// With this status alone.
    pub fn new(status: Status) -> Self {
        Self {
            status,
            error_comment: None,
            offending_elements: Vec::new(),
            error_id: None,
            data_set: None,
            sub_operations: None,
            affected_sop_instance: None,
        }
    }

    /// Success.
    pub fn success() -> Self {
        Self::new(Status::SUCCESS)
    }

    /// A pending response with an identifier.
    pub fn pending(identifier: Bytes) -> Self {
        Self::new(Status::PENDING).with_data_set(identifier)
    }

    /// What answers a request of this command field that failed with `error`.
    pub fn from_error(field: CommandField, error: &Error) -> Self {
        let service = match field {
            CommandField::C_STORE => Some(DimseService::Store),
            CommandField::C_FIND => Some(DimseService::Find),
            CommandField::C_MOVE => Some(DimseService::Move),
            CommandField::C_GET => Some(DimseService::Get),
            _ => None,
        };
        // A service class has statuses of its own.
        let status = error.status().map(Status).unwrap_or_else(|| match service {
            Some(service) => Status(error.dimse_status(service)),
            None => normalized_status(error),
        });
        Self {
            error_id: error.error_id(),
            offending_elements: error.tags().to_vec(),
            ..Self::new(status).with_error_comment(error.context())
        }
    }

    /// Adds an Error Comment.
    #[must_use]
    pub fn with_error_comment(mut self, comment: impl Into<String>) -> Self {
        self.error_comment = Some(comment.into());
        self
    }

    /// Adds an Offending Element.
    #[must_use]
    pub fn with_offending_element(mut self, tag: Tag) -> Self {
        self.offending_elements.push(tag);
        self
    }

    /// Adds a data set.
    #[must_use]
    pub fn with_data_set(mut self, data_set: Bytes) -> Self {
        self.data_set = Some(data_set);
        self
    }

    /// Adds counts.
    #[must_use]
    pub fn with_sub_operations(mut self, counts: SubOperations) -> Self {
        self.sub_operations = Some(counts);
        self
    }

    /// The command set of this response to `request`.
    pub(super) fn command(&self, request: &CommandSet) -> CommandSet {
        let mut set = CommandSet::response(request, self.status);
        set.set_has_data_set(self.data_set.is_some());
        if let Some(comment) = &self.error_comment {
            set = set.with_error_comment(comment);
        }
        if !self.offending_elements.is_empty() {
            set = set.with_offending_elements(&self.offending_elements);
        }
        if let Some(id) = self.error_id {
            set = set.with_error_id(id);
        }
        if let Some(counts) = self.sub_operations {
            set = set.with_sub_operations(counts);
        }
        if let Some(instance) = &self.affected_sop_instance {
            set = set.with_affected_sop_instance(instance);
        }
        set
    }
}

/// The statuses of C-ECHO and the N-services (PS3.7 annex C).
fn normalized_status(error: &Error) -> Status {
    use pacs_core::ErrorKind as K;
    match error.kind() {
        K::NotFound => Status::NO_SUCH_SOP_INSTANCE,
        K::AlreadyExists => Status(0x0111),
        K::Invalid | K::Mismatch => Status(0x0115),
        K::Unsupported => Status::SOP_CLASS_NOT_SUPPORTED,
        K::Refused => Status::NOT_AUTHORIZED,
        K::OutOfResources => Status::RESOURCE_LIMITATION,
        _ => Status::PROCESSING_FAILURE,
    }
}
