//! The single values of a command set that have a type of their own.

use std::fmt;

/// Command Field (0000,0100).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommandField(pub u16);

macro_rules! command_fields {
    ($($(#[$doc:meta])* $name:ident = $code:literal $text:literal;)*) => {
        impl CommandField {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            fn name(self) -> Option<&'static str> {
                match self.0 & !Self::RESPONSE {
                    $($code => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

command_fields! {
    /// C-STORE-RQ.
    C_STORE = 0x0001 "C-STORE";
    /// C-GET-RQ.
    C_GET = 0x0010 "C-GET";
    /// C-FIND-RQ.
    C_FIND = 0x0020 "C-FIND";
    /// C-MOVE-RQ.
    C_MOVE = 0x0021 "C-MOVE";
    /// C-ECHO-RQ.
    C_ECHO = 0x0030 "C-ECHO";
    /// N-EVENT-REPORT-RQ.
    N_EVENT_REPORT = 0x0100 "N-EVENT-REPORT";
    /// N-GET-RQ.
    N_GET = 0x0110 "N-GET";
    /// N-SET-RQ.
    N_SET = 0x0120 "N-SET";
    /// N-ACTION-RQ.
    N_ACTION = 0x0130 "N-ACTION";
    /// N-CREATE-RQ.
    N_CREATE = 0x0140 "N-CREATE";
    /// N-DELETE-RQ.
    N_DELETE = 0x0150 "N-DELETE";
    /// C-CANCEL-RQ, which has no response.
    C_CANCEL = 0x0FFF "C-CANCEL";
}

impl CommandField {
    const RESPONSE: u16 = 0x8000;

    /// A response, not a request.
    pub fn is_response(self) -> bool {
        self.0 & Self::RESPONSE != 0
    }

    /// The response to this request.
    #[must_use]
    pub fn response(self) -> Self {
        Self(self.0 | Self::RESPONSE)
    }
}

impl fmt::Display for CommandField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_response() { "RSP" } else { "RQ" };
        match self.name() {
            Some(name) => write!(f, "{name}-{kind}"),
            None => write!(f, "{:04X}H", self.0),
        }
    }
}

impl fmt::Debug for CommandField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Priority (0000,0700).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u16)]
pub enum Priority {
    /// 0000H.
    #[default]
    Medium = 0,
    /// 0001H.
    High = 1,
    /// 0002H.
    Low = 2,
}

/// Counts of sub-operations (0000,1020) to (0000,1023).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubOperations {
    /// Still to do; left out of a final response (PS3.7 9.1.4.1.7), except after a cancel.
    pub remaining: Option<u16>,
    /// Done.
    pub completed: u16,
    /// Failed.
    pub failed: u16,
    /// Done with a warning.
    pub warning: u16,
}
