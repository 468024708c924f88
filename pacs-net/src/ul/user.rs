//! The user information item (PS3.7 annex D.3.3, PS3.8 annex D).

use std::fmt;

use bytes::Bytes;

/// What both sides tell of themselves beside the presentation contexts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInformation {
    /// Maximum length of the variable field of a P-DATA-TF PDU that the speaker receives, in bytes;
    /// 0 means without limit (PS3.8 D.1).
    pub maximum_length: u32,
    /// Implementation class UID (PS3.7 D.3.3.2).
    pub implementation_class_uid: String,
    /// Implementation version name, up to 16 characters; empty when not given.
    pub implementation_version: String,
    /// Asynchronous operations window; absent means one operation at a time (PS3.7 D.3.3.3).
    pub asynchronous: Option<AsynchronousWindow>,
    /// SCP/SCU role selections (PS3.7 D.3.3.4).
    pub roles: Vec<RoleSelection>,
    /// SOP class extended negotiations (PS3.7 D.3.3.5).
    pub extended: Vec<ExtendedNegotiation>,
    /// SOP class common extended negotiations (PS3.7 D.3.3.6); only in a request.
    pub common_extended: Vec<CommonExtendedNegotiation>,
    /// User identity (PS3.7 D.3.3.7.1); only in a request.
    pub identity: Option<UserIdentity>,
    /// The answer to a user identity (PS3.7 D.3.3.7.2); only in an answer. May be empty.
    pub identity_response: Option<Bytes>,
}

/// Asynchronous operations window (PS3.7 D.3.3.3), always seen from the association requestor. 0 means
/// without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsynchronousWindow {
    /// Operations and notifications the requestor may have outstanding.
    pub invoked: u16,
    /// Operations and notifications the requestor can perform at a time.
    pub performed: u16,
}

/// SCP/SCU role selection (PS3.7 D.3.3.4): the roles of the association requestor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleSelection {
    /// For which SOP class.
    pub sop_class: String,
    /// The requestor is SCU.
    pub scu: bool,
    /// The requestor is SCP.
    pub scp: bool,
}

/// SOP class extended negotiation (PS3.7 D.3.3.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedNegotiation {
    /// For which SOP class.
    pub sop_class: String,
    /// Service class application information: what it means stands with the service class, for
    /// query/retrieve in PS3.4 C.5.
    pub information: Bytes,
}

/// SOP class common extended negotiation (PS3.7 D.3.3.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommonExtendedNegotiation {
    /// For which SOP class.
    pub sop_class: String,
    /// The service class it belongs to.
    pub service_class: String,
    /// Related general SOP classes.
    pub related: Vec<String>,
}

/// User identity (PS3.7 D.3.3.7). `Debug` shows the kind alone: the fields are secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct UserIdentity {
    /// 1: user name, 2: user name and passcode, 3: Kerberos, 4: SAML, 5: JSON web token. Others pass,
    /// so that whoever admits can refuse them.
    pub kind: u8,
    /// The requestor wants an answer when it is accepted.
    pub response_requested: bool,
    /// User name (UTF-8), ticket, assertion or token.
    pub primary: Bytes,
    /// The passcode, with kind 2.
    pub secondary: Bytes,
}

impl fmt::Debug for UserIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserIdentity")
            .field("kind", &self.kind)
            .field("response_requested", &self.response_requested)
            .finish_non_exhaustive()
    }
}

/// Item types of the user information item's sub-items.
pub(crate) mod item {
    pub(crate) const MAXIMUM_LENGTH: u8 = 0x51;
    pub(crate) const IMPLEMENTATION_CLASS_UID: u8 = 0x52;
    pub(crate) const ASYNCHRONOUS_WINDOW: u8 = 0x53;
    pub(crate) const ROLE_SELECTION: u8 = 0x54;
    pub(crate) const IMPLEMENTATION_VERSION: u8 = 0x55;
    pub(crate) const EXTENDED: u8 = 0x56;
    pub(crate) const COMMON_EXTENDED: u8 = 0x57;
    pub(crate) const USER_IDENTITY: u8 = 0x58;
    pub(crate) const USER_IDENTITY_RESPONSE: u8 = 0x59;
}
