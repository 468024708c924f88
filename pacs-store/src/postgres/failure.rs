//! What a failure of the database means.

use std::io;

use pacs_core::{Error, ErrorKind};
use tokio_postgres::error::SqlState;

/// Why something was not done.
pub(super) enum Failure {
    /// For the moment; nothing of it was done.
    Passing(Error),
    /// For good, or nobody knows whether it was done.
    Final(Error),
}

impl Failure {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Passing(error) | Self::Final(error) => error,
        }
    }

    /// Of a commit. Where the connection broke meanwhile, or the database says that it went away or can't tell, nobody knows
    /// whether it was made, and it is not made again.
    pub(super) fn of_commit(error: &tokio_postgres::Error) -> Self {
        let code = error.code();
        let is_told = code.is_some_and(|code| {
            !matches!(code.code().get(..2), Some("08" | "57"))
                && *code != SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
        });
        match is_told {
            true => error.into(),
            false => Self::Final(Error::new(
                ErrorKind::Io,
                OPERATION,
                "the connection broke while the database was to keep something: it may have",
            )),
        }
    }
}

const OPERATION: &str = "database";

impl From<&tokio_postgres::Error> for Failure {
    fn from(error: &tokio_postgres::Error) -> Self {
        let Some(code) = error.code() else {
            let text = match error.is_closed() {
                true => "the connection to the database broke",
                false => "the database is not reached",
            };
            // What it says itself may hold what was sent; the system and TLS say nothing of that.
            let source =
                std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
            let text = match source {
                Some(source) => format!("{text}: {source}"),
                None => text.to_owned(),
            };
            return Self::Passing(Error::new(ErrorKind::Io, OPERATION, text));
        };
        let told = |kind, text: &str| {
            // The message and its details may hold values; the code never does.
            Error::new(kind, OPERATION, format!("{text} (SQLSTATE {})", code.code()))
        };
        if [
            &SqlState::T_R_SERIALIZATION_FAILURE,
            &SqlState::T_R_DEADLOCK_DETECTED,
            // Another one, who may be gone, holds what is wanted.
            &SqlState::LOCK_NOT_AVAILABLE,
        ]
        .contains(&code)
        {
            return Self::Passing(told(ErrorKind::Io, "others changed the same at the same time"));
        }
        match code.code().get(..2) {
            // Connection exceptions; a server that stops, starts or has too many connections.
            Some("08" | "57") => Self::Passing(told(ErrorKind::Io, "the database is away")),
            _ if *code == SqlState::TOO_MANY_CONNECTIONS => {
                Self::Passing(told(ErrorKind::Io, "the database takes no more connections"))
            }
            Some("53") => Self::Final(told(ErrorKind::OutOfResources, "the database has no room")),
            Some("28") => Self::Final(told(ErrorKind::Refused, "the database lets this user not in")),
            Some("42") if *code == SqlState::INSUFFICIENT_PRIVILEGE => Self::Final(told(
                ErrorKind::Refused,
                "the database does not let this user do that",
            )),
            Some("3D") => Self::Final(told(ErrorKind::Invalid, "there is no such database")),
            _ if *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => {
                Self::Passing(told(ErrorKind::Io, "the database gave the connection up"))
            }
            // A standby, or one that was switched to reading.
            Some("25") if *code == SqlState::READ_ONLY_SQL_TRANSACTION => {
                Self::Passing(told(ErrorKind::Io, "the database is only read just now"))
            }
            Some("58") => Self::Final(told(ErrorKind::Io, "the medium of the database failed")),
            Some("XX") if *code != SqlState::INTERNAL_ERROR => {
                Self::Final(told(ErrorKind::Corrupt, "the database is damaged"))
            }
            _ => Self::Final(told(ErrorKind::Internal, "the database refused a statement")),
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::from(&error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}
