//! [`Status`] of a response (PS3.7 annex C).

use std::fmt;

/// Status (0000,0900).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status(pub u16);

/// What a status comes to (PS3.7 C.1 to C.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// Done.
    Success,
    /// More responses follow.
    Pending,
    /// Ended by C-CANCEL.
    Cancel,
    /// Done, with something to note.
    Warning,
    /// Not done.
    Failure,
}

impl Status {
    /// Success.
    pub const SUCCESS: Self = Self(0x0000);
    /// Pending.
    pub const PENDING: Self = Self(0xFF00);
    /// C-FIND: pending, one or more optional keys are not supported.
    pub const PENDING_OPTIONAL_KEYS: Self = Self(0xFF01);
    /// Terminated due to a cancel request.
    pub const CANCEL: Self = Self(0xFE00);
    /// C-MOVE, C-GET: complete, one or more failures or warnings.
    pub const SUBOPERATIONS_WARNING: Self = Self(0xB000);
    /// C-STORE: coercion of data elements.
    pub const COERCED: Self = Self(0xB000);
    /// Processing failure.
    pub const PROCESSING_FAILURE: Self = Self(0x0110);
    /// No such SOP instance.
    pub const NO_SUCH_SOP_INSTANCE: Self = Self(0x0112);
    /// No such SOP class.
    pub const NO_SUCH_SOP_CLASS: Self = Self(0x0118);
    /// SOP class not supported.
    pub const SOP_CLASS_NOT_SUPPORTED: Self = Self(0x0122);
    /// Not authorized.
    pub const NOT_AUTHORIZED: Self = Self(0x0124);
    /// Duplicate invocation: the message ID is in use.
    pub const DUPLICATE_INVOCATION: Self = Self(0x0210);
    /// Unrecognized operation.
    pub const UNRECOGNIZED_OPERATION: Self = Self(0x0211);
    /// Mistyped argument.
    pub const MISTYPED_ARGUMENT: Self = Self(0x0212);
    /// Resource limitation.
    pub const RESOURCE_LIMITATION: Self = Self(0x0213);
    /// C-STORE, C-FIND, C-MOVE, C-GET: out of resources.
    pub const OUT_OF_RESOURCES: Self = Self(0xA700);
    /// C-MOVE: move destination unknown.
    pub const MOVE_DESTINATION_UNKNOWN: Self = Self(0xA801);
    /// Data set (C-FIND and others: identifier) does not match the SOP class.
    pub const DATA_SET_MISMATCH: Self = Self(0xA900);
    /// C-STORE: cannot understand; C-FIND and others: unable to process.
    pub const CANNOT_UNDERSTAND: Self = Self(0xC000);

    /// What it comes to. A value that the Standard doesn't know is a failure.
    pub fn category(self) -> Category {
        match self.0 {
            0x0000 => Category::Success,
            0xFF00 | 0xFF01 => Category::Pending,
            0xFE00 => Category::Cancel,
            // Attribute list error and attribute value out of range are warnings (PS3.7 C.4).
            0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF => Category::Warning,
            _ => Category::Failure,
        }
    }

    /// More responses follow.
    pub fn is_pending(self) -> bool {
        self.category() == Category::Pending
    }

    /// Done, perhaps with a warning.
    pub fn is_done(self) -> bool {
        matches!(self.category(), Category::Success | Category::Warning)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X}H ({:?})", self.0, self.category())
    }
}
