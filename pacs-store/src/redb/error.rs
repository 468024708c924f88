//! From redb's errors to the engine's. redb's texts hold no keys or values.

use std::error::Error as StdError;

use pacs_core::error::{Error, ErrorKind};

fn io_kind(error: &std::io::Error) -> ErrorKind {
    Error::io("index.storage", "", std::io::Error::from(error.kind())).kind()
}

/// A failure of the medium, or bytes on it that are not what was written.
pub(super) fn storage(error: ::redb::StorageError) -> Error {
    use ::redb::StorageError as E;
    let (kind, context) = match &error {
        E::Io(cause) => (io_kind(cause), "the index could not be read or written"),
        E::Corrupted(_) => (
            ErrorKind::Corrupt,
            "the index is damaged: rebuild it from the archive",
        ),
        E::DatabaseClosed => (ErrorKind::Closed, "the index is closed"),
        E::PreviousIo => (
            ErrorKind::Io,
            "an earlier failure of the medium closed the index: open it again",
        ),
        E::ValueTooLarge(_) => (ErrorKind::OutOfResources, "a record is too large for the index"),
        _ => (ErrorKind::Internal, "the index failed"),
    };
    Error::new(kind, "index.storage", context).with_source(error)
}

/// A table that can't be opened.
pub(super) fn table(error: ::redb::TableError) -> Error {
    match error {
        ::redb::TableError::Storage(error) => storage(error),
        other => unusable("index.table", other),
    }
}

/// A transaction that can't begin.
pub(super) fn transaction(error: ::redb::TransactionError) -> Error {
    match error {
        ::redb::TransactionError::Storage(error) => storage(error),
        other => unusable("index.begin", other),
    }
}

/// A transaction that can't be committed.
pub(super) fn commit(error: ::redb::CommitError) -> Error {
    match error {
        ::redb::CommitError::Storage(error) => storage(error),
        other => unusable("index.commit", other),
    }
}

/// A database that can't be opened.
pub(super) fn database(error: ::redb::DatabaseError) -> Error {
    use ::redb::DatabaseError as E;
    match error {
        E::Storage(error) => storage(error),
        E::DatabaseAlreadyOpen => Error::new(
            ErrorKind::AlreadyExists,
            "index.open",
            "another process has the index open",
        ),
        other => Error::new(
            ErrorKind::Unsupported,
            "index.open",
            "not an index of this version: rebuild it from the archive",
        )
        .with_source(other),
    }
}

fn unusable(operation: &'static str, cause: impl StdError + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Internal, operation, "the index failed").with_source(cause)
}

/// A durability that redb refuses, which it does not for one process.
pub(super) fn durability(error: ::redb::SetDurabilityError) -> Error {
    unusable("index.begin", error)
}
