//! [`Code`]: a coded value, and those of PS3.15 A.5.3.

use std::borrow::Cow;

/// A coded value: `csd-code`, `codeSystemName` and `originalText` of PS3.15 A.5.1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Code {
    pub(super) value: Cow<'static, str>,
    pub(super) scheme: Cow<'static, str>,
    pub(super) meaning: Cow<'static, str>,
}

const fn dcm(value: &'static str, meaning: &'static str) -> Code {
    Code::constant(value, "DCM", meaning)
}

/// Of the value sets that stand in the schema (PS3.15 A.5.1.2.4).
const fn rfc3881(value: &'static str, meaning: &'static str) -> Code {
    Code::constant(value, "RFC-3881", meaning)
}

impl Code {
    /// One that is written in a program.
    pub const fn constant(value: &'static str, scheme: &'static str, meaning: &'static str) -> Self {
        Self {
            value: Cow::Borrowed(value),
            scheme: Cow::Borrowed(scheme),
            meaning: Cow::Borrowed(meaning),
        }
    }

    /// Any other, such as the transaction of IHE that an event belongs to: `("RAD-8", "IHE Transactions", "Image Store")`.
    pub fn new(value: impl Into<String>, scheme: impl Into<String>, meaning: impl Into<String>) -> Self {
        Self {
            value: Cow::Owned(value.into()),
            scheme: Cow::Owned(scheme.into()),
            meaning: Cow::Owned(meaning.into()),
        }
    }

    /// What it means, for people.
    pub fn meaning(&self) -> &str {
        &self.meaning
    }
}

/// Families of events (EventID).
impl Code {
    /// PS3.15 A.5.3.1.
    pub const APPLICATION_ACTIVITY: Self = dcm("110100", "Application Activity");
    /// PS3.15 A.5.3.2.
    pub const AUDIT_LOG_USED: Self = dcm("110101", "Audit Log Used");
    /// PS3.15 A.5.3.3.
    pub const BEGIN_TRANSFERRING: Self = dcm("110102", "Begin Transferring DICOM Instances");
    /// PS3.15 A.5.3.6.
    pub const INSTANCES_ACCESSED: Self = dcm("110103", "DICOM Instances Accessed");
    /// PS3.15 A.5.3.7.
    pub const INSTANCES_TRANSFERRED: Self = dcm("110104", "DICOM Instances Transferred");
    /// PS3.15 A.5.3.8.
    pub const STUDY_DELETED: Self = dcm("110105", "DICOM Study Deleted");
    /// PS3.15 A.5.3.4.
    pub const EXPORT: Self = dcm("110106", "Export");
    /// PS3.15 A.5.3.5.
    pub const IMPORT: Self = dcm("110107", "Import");
    /// PS3.15 A.5.3.9.
    pub const NETWORK_ENTRY: Self = dcm("110108", "Network Entry");
    /// PS3.15 A.5.3.13.
    pub const ORDER_RECORD: Self = dcm("110109", "Order Record");
    /// PS3.15 A.5.3.14.
    pub const PATIENT_RECORD: Self = dcm("110110", "Patient Record");
    /// PS3.15 A.5.3.15.
    pub const PROCEDURE_RECORD: Self = dcm("110111", "Procedure Record");
    /// PS3.15 A.5.3.10.
    pub const QUERY: Self = dcm("110112", "Query");
    /// PS3.15 A.5.3.11.
    pub const SECURITY_ALERT: Self = dcm("110113", "Security Alert");
    /// PS3.15 A.5.3.12.
    pub const USER_AUTHENTICATION: Self = dcm("110114", "User Authentication");
}

/// What within a family happened (EventTypeCode); those of Security Alert are of context group 403 (PS3.16).
impl Code {
    /// Of Application Activity.
    pub const APPLICATION_START: Self = dcm("110120", "Application Start");
    /// Of Application Activity.
    pub const APPLICATION_STOP: Self = dcm("110121", "Application Stop");
    /// Of User Authentication.
    pub const LOGIN: Self = dcm("110122", "Login");
    /// Of User Authentication.
    pub const LOGOUT: Self = dcm("110123", "Logout");
    /// Of Network Entry.
    pub const ATTACH: Self = dcm("110124", "Attach");
    /// Of Network Entry.
    pub const DETACH: Self = dcm("110125", "Detach");
    /// Alert: a node showed who it is, or could not.
    pub const NODE_AUTHENTICATION: Self = dcm("110126", "Node Authentication");
    /// Alert: what is forbidden otherwise is allowed for now.
    pub const EMERGENCY_OVERRIDE_STARTED: Self = dcm("110127", "Emergency Override Started");
    /// Alert.
    pub const NETWORK_CONFIGURATION: Self = dcm("110128", "Network Configuration");
    /// Alert.
    pub const SECURITY_CONFIGURATION: Self = dcm("110129", "Security Configuration");
    /// Alert.
    pub const SOFTWARE_CONFIGURATION: Self = dcm("110131", "Software Configuration");
    /// Alert: somebody tried what isn't allowed to him.
    pub const USE_OF_RESTRICTED_FUNCTION: Self = dcm("110132", "Use of Restricted Function");
    /// Alert: events are not recorded any more, or records are gone.
    pub const AUDIT_RECORDING_STOPPED: Self = dcm("110133", "Audit Recording Stopped");
    /// Alert.
    pub const AUDIT_RECORDING_STARTED: Self = dcm("110134", "Audit Recording Started");
    /// Alert.
    pub const OBJECT_SECURITY_ATTRIBUTES_CHANGED: Self = dcm("110135", "Object Security Attributes Changed");
    /// Alert.
    pub const SECURITY_ROLES_CHANGED: Self = dcm("110136", "Security Roles Changed");
    /// Alert.
    pub const USER_SECURITY_ATTRIBUTES_CHANGED: Self = dcm("110137", "User Security Attributes Changed");
    /// Alert.
    pub const EMERGENCY_OVERRIDE_STOPPED: Self = dcm("110138", "Emergency Override Stopped");
}

/// Roles of participants (RoleIDCode).
impl Code {
    pub(super) const APPLICATION: Self = dcm("110150", "Application");
    pub(super) const APPLICATION_LAUNCHER: Self = dcm("110151", "Application Launcher");
    pub(super) const DESTINATION_ROLE: Self = dcm("110152", "Destination Role ID");
    pub(super) const SOURCE_ROLE: Self = dcm("110153", "Source Role ID");
    pub(super) const DESTINATION_MEDIA: Self = dcm("110154", "Destination Media");
    pub(super) const SOURCE_MEDIA: Self = dcm("110155", "Source Media");
}

/// What identifies an object (ParticipantObjectIDTypeCode).
impl Code {
    pub(super) const STUDY_INSTANCE_UID: Self = dcm("110180", "Study Instance UID");
    pub(super) const SOP_CLASS_UID: Self = dcm("110181", "SOP Class UID");
    pub(super) const NODE_ID: Self = dcm("110182", "Node ID");
    pub(super) const PATIENT_NUMBER: Self = rfc3881("2", "Patient Number");
    pub(super) const URI: Self = rfc3881("12", "URI");
}

/// Kinds of media (MediaType, context group 405 of PS3.16).
impl Code {
    /// A plate or stick that is like a disk.
    pub const MEDIA_USB_DISK: Self = dcm("110030", "USB Disk Emulation");
    /// A letter by Internet.
    pub const MEDIA_EMAIL: Self = dcm("110031", "Email");
    /// A disc.
    pub const MEDIA_CD: Self = dcm("110032", "CD");
    /// A disc.
    pub const MEDIA_DVD: Self = dcm("110033", "DVD");
    /// Anything with an address: a directory, a web server.
    pub const MEDIA_URI: Self = dcm("110037", "URI");
    /// Paper.
    pub const MEDIA_PAPER: Self = dcm("110038", "Paper Document");
}
