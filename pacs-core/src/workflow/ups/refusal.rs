//! Why a request is refused, or done with a warning: the statuses of PS3.4 CC.2.1.4 to CC.2.8.4.

use std::fmt;

use dicom_core::Tag;

use crate::error::{Error, ErrorKind};

macro_rules! statuses {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $case:ident = $code:literal $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $case,)* }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$case,)*];

            /// The DIMSE status.
            pub fn status(self) -> u16 {
                match self { $(Self::$case => $code,)* }
            }

            /// The sentence of the Standard.
            pub fn text(self) -> &'static str {
                match self { $(Self::$case => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.text())
            }
        }
    };
}

statuses! {
    /// Why a request is refused. It is the cause of an [`Error`]: see [`Refusal::of`].
    Refusal {
        /// An attribute has a value that it can't have, or may not be given here.
        InvalidValue = 0x0106 "an attribute may not have this value here",
        /// A step of this UID is there.
        Duplicate = 0x0111 "a procedure step with this UID exists already",
        /// An attribute that is required is not there.
        MissingAttribute = 0x0120 "a required attribute is missing",
        /// An attribute that must have a value has none.
        MissingValue = 0x0121 "a required attribute has no value",
        /// The step is in a final state.
        Final = 0xC300 "the UPS may no longer be updated",
        /// The Transaction UID is missing or another one.
        TransactionUid = 0xC301 "the correct Transaction UID was not provided",
        /// Somebody performs it already.
        InProgress = 0xC302 "the UPS is already IN PROGRESS",
        /// A step is SCHEDULED only when it is created.
        OnlyCreatedScheduled = 0xC303 "the UPS may only become SCHEDULED via N-CREATE",
        /// An attribute that the final state requires has no value (table CC.2.5-3).
        FinalStateRequirements = 0xC304 "the UPS has not met final state requirements",
        /// There is no such step.
        NoSuchStep = 0xC307 "there is no such UPS here",
        /// The receiving AE can't be reached.
        UnknownReceiver = 0xC308 "the Receiving AE-TITLE is unknown here",
        /// A step is created SCHEDULED.
        NotScheduled = 0xC309 "the provided value of UPS State was not SCHEDULED",
        /// Nobody performs it yet.
        NotInProgress = 0xC310 "the UPS is not yet IN PROGRESS",
        /// It was completed.
        Completed = 0xC311 "the UPS is already COMPLETED",
        /// Nobody would hear of the request.
        PerformerAway = 0xC312 "the performer cannot be contacted",
        /// The action is not one for this instance.
        NotAppropriate = 0xC314 "this action is not appropriate for this instance",
    }
}

statuses! {
    /// What is done with a warning.
    Warning {
        /// Some of the attributes asked for are not there.
        AttributesNotSupported = 0x0001 "requested optional attributes are not supported",
        /// Attributes that were missing were added without a value.
        CreatedWithModifications = 0xB300 "the UPS was created with modifications",
        /// It is canceled already.
        AlreadyCanceled = 0xB304 "the UPS is already in the requested state of CANCELED",
        /// It is completed already.
        AlreadyCompleted = 0xB306 "the UPS is already in the requested state of COMPLETED",
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// The refusal that an error is, where it is one.
    pub fn of(error: &Error) -> Option<Self> {
        std::error::Error::source(error)?.downcast_ref().copied()
    }

    pub(super) fn error(self) -> Error {
        let kind = match self {
            Self::NoSuchStep => ErrorKind::NotFound,
            Self::Duplicate => ErrorKind::AlreadyExists,
            Self::InvalidValue
            | Self::MissingAttribute
            | Self::MissingValue
            | Self::TransactionUid
            | Self::OnlyCreatedScheduled
            | Self::NotScheduled
            | Self::UnknownReceiver => ErrorKind::Invalid,
            _ => ErrorKind::Mismatch,
        };
        Error::new(kind, "ups.request", self.text())
            .with_status(self.status())
            .with_source(self)
    }

    pub(super) fn with_tags(self, tags: impl IntoIterator<Item = Tag>) -> Error {
        tags.into_iter().fold(self.error(), Error::with_tag)
    }
}
