//! The association PDUs (PS3.8 9.3): [`AssociateRq`], [`AssociateAc`], [`Rejection`], [`Abort`].

use std::fmt;

use super::user::UserInformation;

/// Bytes 11 to 74 of an A-ASSOCIATE PDU: the called and the calling AE title, and 32 reserved bytes. In
/// the answer all are reserved, and identical to those received (PS3.8 table 9-17).
pub type EchoedFields = [u8; 64];

/// A-ASSOCIATE-RQ (PS3.8 9.3.2): what the requestor proposes.
///
/// Texts are as they came, without padding; whether they are valid UIDs or AE titles is for the
/// acceptor to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssociateRq {
    /// Bit 0 stands for version 1, the only one there is.
    pub protocol_version: u16,
    /// AE title of the acceptor, as the requestor knows it.
    pub called_ae_title: String,
    /// AE title of the requestor.
    pub calling_ae_title: String,
    /// The fields of both titles and the reserved one as they came, which the answer repeats; `None` in a
    /// request that is made here.
    pub echoed: Option<EchoedFields>,
    /// Application context name: [`DICOM_APPLICATION_CONTEXT`](super::DICOM_APPLICATION_CONTEXT).
    pub application_context: String,
    /// The proposed presentation contexts in their order.
    pub contexts: Vec<ProposedContext>,
    /// The user information item.
    pub user: UserInformation,
}

/// A presentation context as proposed (PS3.8 9.3.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposedContext {
    /// Presentation context ID: odd.
    pub id: u8,
    /// Abstract syntax: a SOP class UID.
    pub abstract_syntax: String,
    /// The transfer syntaxes that the requestor can do, in its own order.
    pub transfer_syntaxes: Vec<String>,
}

/// A-ASSOCIATE-AC (PS3.8 9.3.3): what the acceptor answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssociateAc {
    /// Bit 0 stands for version 1.
    pub protocol_version: u16,
    /// The request's own, sent back; what a peer sends back is not tested.
    pub echoed: EchoedFields,
    /// Application context name.
    pub application_context: String,
    /// One result for each proposed context.
    pub contexts: Vec<ContextAnswer>,
    /// The user information item.
    pub user: UserInformation,
}

/// The answer to one proposed presentation context (PS3.8 9.3.3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextAnswer {
    /// Presentation context ID of the proposal.
    pub id: u8,
    /// The result.
    pub result: ContextResult,
    /// The chosen transfer syntax; means something only with [`ContextResult::Acceptance`].
    pub transfer_syntax: String,
}

/// Result/Reason of a presentation context (PS3.8 table 9-18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextResult {
    /// 0: acceptance.
    Acceptance,
    /// 1: user rejection.
    UserRejection,
    /// 2: no reason (provider rejection). Values that the Standard doesn't know are read as this.
    NoReason,
    /// 3: abstract syntax not supported.
    AbstractSyntaxNotSupported,
    /// 4: transfer syntaxes not supported.
    TransferSyntaxesNotSupported,
}

impl ContextResult {
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Acceptance,
            1 => Self::UserRejection,
            3 => Self::AbstractSyntaxNotSupported,
            4 => Self::TransferSyntaxesNotSupported,
            _ => Self::NoReason,
        }
    }
}

/// A-ASSOCIATE-RJ (PS3.8 9.3.4, table 9-21).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// 1: permanent, 2: transient.
    pub result: u8,
    /// 1: service user, 2: service provider (ACSE), 3: service provider (presentation).
    pub source: u8,
    /// Reason, to be read with the source.
    pub reason: u8,
}

impl Rejection {
    const fn new(result: u8, source: u8, reason: u8) -> Self {
        Self {
            result,
            source,
            reason,
        }
    }
    /// Permanent, service user: no reason given.
    pub const NO_REASON: Self = Self::new(1, 1, 1);
    /// Permanent, service user: application context name not supported.
    pub const APPLICATION_CONTEXT_NOT_SUPPORTED: Self = Self::new(1, 1, 2);
    /// Permanent, service user: calling AE title not recognized.
    pub const CALLING_AE_NOT_RECOGNIZED: Self = Self::new(1, 1, 3);
    /// Permanent, service user: called AE title not recognized.
    pub const CALLED_AE_NOT_RECOGNIZED: Self = Self::new(1, 1, 7);
    /// Permanent, service provider (ACSE): no reason given. The answer to a user identity that is not believed
    /// (PS3.7 D.3.3.7).
    pub const NOT_BELIEVED: Self = Self::new(1, 2, 1);
    /// Permanent, service provider (ACSE): protocol version not supported.
    pub const PROTOCOL_VERSION_NOT_SUPPORTED: Self = Self::new(1, 2, 2);
    /// Transient, service provider (presentation): temporary congestion.
    pub const TEMPORARY_CONGESTION: Self = Self::new(2, 3, 1);
    /// Transient, service provider (presentation): local limit exceeded.
    pub const LOCAL_LIMIT_EXCEEDED: Self = Self::new(2, 3, 2);

    /// Whether the same request may be accepted later.
    pub fn is_transient(self) -> bool {
        self.result == 2
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match (self.source, self.reason) {
            (1, 1) | (2, 1) => "no reason given",
            (1, 2) => "application context name not supported",
            (1, 3) => "calling AE title not recognized",
            (1, 7) => "called AE title not recognized",
            (2, 2) => "protocol version not supported",
            (3, 1) => "temporary congestion",
            (3, 2) => "local limit exceeded",
            _ => "reserved reason",
        };
        let result = if self.is_transient() {
            "transient"
        } else {
            "permanent"
        };
        write!(
            f,
            "association rejected, {result}: {reason} (result {}, source {}, reason {})",
            self.result, self.source, self.reason
        )
    }
}

impl std::error::Error for Rejection {}

/// A-ABORT (PS3.8 9.3.8, table 9-26).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// 0: service user, 2: service provider.
    pub source: u8,
    /// Reason; means something only from the provider.
    pub reason: u8,
}

impl Abort {
    /// The service user gave up.
    pub const USER: Self = Self { source: 0, reason: 0 };
    /// Provider: reason not specified.
    pub const NOT_SPECIFIED: Self = Self::provider(0);
    /// Provider: unrecognized PDU.
    pub const UNRECOGNIZED_PDU: Self = Self::provider(1);
    /// Provider: unexpected PDU.
    pub const UNEXPECTED_PDU: Self = Self::provider(2);
    /// Provider: unrecognized PDU parameter.
    pub const UNRECOGNIZED_PARAMETER: Self = Self::provider(4);
    /// Provider: unexpected PDU parameter.
    pub const UNEXPECTED_PARAMETER: Self = Self::provider(5);
    /// Provider: invalid PDU parameter value.
    pub const INVALID_PARAMETER: Self = Self::provider(6);

    const fn provider(reason: u8) -> Self {
        Self { source: 2, reason }
    }
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match (self.source, self.reason) {
            (2, 0) => "by the provider: reason not specified",
            (2, 1) => "by the provider: unrecognized PDU",
            (2, 2) => "by the provider: unexpected PDU",
            (2, 4) => "by the provider: unrecognized PDU parameter",
            (2, 5) => "by the provider: unexpected PDU parameter",
            (2, 6) => "by the provider: invalid PDU parameter value",
            (2, _) => "by the provider: reserved reason",
            _ => "by the service user",
        };
        write!(f, "association aborted {text}")
    }
}

impl std::error::Error for Abort {}

/// Any PDU but P-DATA-TF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pdu {
    /// 01H.
    AssociateRq(Box<AssociateRq>),
    /// 02H.
    AssociateAc(Box<AssociateAc>),
    /// 03H.
    AssociateRj(Rejection),
    /// 05H.
    ReleaseRq,
    /// 06H.
    ReleaseRp,
    /// 07H.
    Abort(Abort),
}

/// PDU types (PS3.8 9.3.1).
pub mod pdu_type {
    /// A-ASSOCIATE-RQ.
    pub const ASSOCIATE_RQ: u8 = 0x01;
    /// A-ASSOCIATE-AC.
    pub const ASSOCIATE_AC: u8 = 0x02;
    /// A-ASSOCIATE-RJ.
    pub const ASSOCIATE_RJ: u8 = 0x03;
    /// P-DATA-TF.
    pub const P_DATA_TF: u8 = 0x04;
    /// A-RELEASE-RQ.
    pub const RELEASE_RQ: u8 = 0x05;
    /// A-RELEASE-RP.
    pub const RELEASE_RP: u8 = 0x06;
    /// A-ABORT.
    pub const ABORT: u8 = 0x07;
}
