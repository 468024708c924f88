//! One error type for the whole engine, and the one conversion of it to a DIMSE status.
//!
//! An [`Error`] is what a caller, a peer or a medium can cause. A broken invariant of our own is a
//! panic, and every panic is contained to its association or request.

use std::borrow::Cow;
use std::fmt;

use dicom_core::Tag;

/// `Result` with the engine's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the terms that decide an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was asked for is not kept here.
    NotFound,
    /// Something else is already kept under this name, and the policy is to refuse.
    AlreadyExists,
    /// The bytes or arguments given can't be understood.
    Invalid,
    /// The data set contradicts what was announced about it (for C-STORE: status A900), or what is kept is damaged
    /// since before it came here, so that what is asked for can't be made of it.
    Mismatch,
    /// Understood, but not offered here.
    Unsupported,
    /// Understood, but not allowed by policy or access control.
    Refused,
    /// No room: disk, memory budget or another named limit.
    OutOfResources,
    /// Stored bytes are not what was stored.
    Corrupt,
    /// The operation was cancelled by whoever asked for it.
    Cancelled,
    /// A wait ended without the event.
    TimedOut,
    /// The engine, association or connection is closed.
    Closed,
    /// The medium or the peer failed: an input/output error.
    Io,
    /// A failure of our own, contained.
    Internal,
}

impl ErrorKind {
    /// All there are.
    pub const ALL: [Self; 13] = [
        Self::NotFound,
        Self::AlreadyExists,
        Self::Invalid,
        Self::Mismatch,
        Self::Unsupported,
        Self::Refused,
        Self::OutOfResources,
        Self::Corrupt,
        Self::Cancelled,
        Self::TimedOut,
        Self::Closed,
        Self::Io,
        Self::Internal,
    ];

    /// What it means for whoever asked, in a few words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::NotFound => "what is asked for is not kept here",
            Self::AlreadyExists => "something else is kept under this identifier",
            Self::Invalid => "the request can't be understood",
            Self::Mismatch => "the data set is not what was announced, or what is kept is damaged",
            Self::Unsupported => "not offered here",
            Self::Refused => "not allowed",
            Self::OutOfResources => "no room now, or larger than a limit",
            Self::Corrupt => "stored bytes are not what was stored",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "not done in time",
            Self::Closed => "the server is stopping",
            Self::Io => "the medium failed",
            Self::Internal => "a failure of the server",
        }
    }
}

/// Whether the same call may succeed when made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The same call will fail the same way.
    Never,
    /// The same call may succeed later.
    Later,
}

/// What failed, whether to try again, during which operation, and why.
///
/// The text never holds patient data: it names attributes, UIDs, sizes and limits, not values that
/// identify a person.
pub struct Error {
    kind: ErrorKind,
    retry: Retry,
    operation: &'static str,
    context: Cow<'static, str>,
    tags: Vec<Tag>,
    status: Option<u16>,
    error_id: Option<u16>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` during `operation` ("archive.commit"), with a sentence that says why.
    pub fn new(kind: ErrorKind, operation: &'static str, context: impl Into<Cow<'static, str>>) -> Self {
        let retry = match kind {
            ErrorKind::OutOfResources | ErrorKind::TimedOut | ErrorKind::Io => Retry::Later,
            _ => Retry::Never,
        };
        Self {
            kind,
            retry,
            operation,
            context: context.into(),
            tags: Vec::new(),
            status: None,
            error_id: None,
            source: None,
        }
    }

    /// An input/output error; a full medium becomes [`ErrorKind::OutOfResources`].
    pub fn io(
        operation: &'static str,
        context: impl Into<Cow<'static, str>>,
        source: std::io::Error,
    ) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::OutOfResources,
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::OutOfMemory => ErrorKind::OutOfResources,
            std::io::ErrorKind::TimedOut => ErrorKind::TimedOut,
            _ => ErrorKind::Io,
        };
        Self::new(kind, operation, context).with_source(source)
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Names an attribute at fault (PS3.7 C.5.11, Offending Element).
    #[must_use]
    pub fn with_tag(mut self, tag: Tag) -> Self {
        self.tags.push(tag);
        self
    }

    /// Says which status answers a DIMSE request that failed this way, where a service class has one of its own for
    /// it (PS3.4), in place of the one that the kind comes to.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Says which Error ID (0000,0903) goes with it.
    #[must_use]
    pub fn with_error_id(mut self, id: u16) -> Self {
        self.error_id = Some(id);
        self
    }

    /// Overrides whether the same call may succeed later.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The error as one about what is kept: who asks for it gave nothing that could be `Invalid`.
    pub(crate) fn about_kept(mut self) -> Self {
        if self.kind == ErrorKind::Invalid {
            self.kind = ErrorKind::Mismatch;
        }
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later.
    pub fn retry(&self) -> Retry {
        self.retry
    }

    /// During which operation, as `noun.verb`.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Why, as a sentence fit for a DICOM Error Comment or an HTTP problem body.
    pub fn context(&self) -> &str {
        &self.context
    }

    /// The attributes at fault.
    pub fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// The status of its own that a service class has for it, see [`with_status`](Self::with_status).
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// Error ID (0000,0903).
    pub fn error_id(&self) -> Option<u16> {
        self.error_id
    }

    /// The status that answers a DIMSE request of `service` which failed this way
    /// (PS3.7 annex C, PS3.4 B.2.3, C.4.1.1.4, C.4.2.1.5, C.4.3.1.4).
    pub fn dimse_status(&self, service: DimseService) -> u16 {
        use DimseService as S;
        use ErrorKind as K;
        if let Some(status) = self.status {
            return status;
        }
        match (service, self.kind) {
            (S::Find | S::Move | S::Get, K::Cancelled) => 0xFE00,
            (S::Echo, _) => 0x0110,
            (_, K::Unsupported) => 0x0122,
            // A duplicate that policy refuses: C-STORE has no status of its own for it (PS3.7 9.1.1.1.9).
            (_, K::Refused) | (S::Store, K::AlreadyExists) => 0x0124,
            // A place of ours that is missing or damaged is our failure, and may be mended.
            (
                S::Store,
                K::OutOfResources | K::Io | K::TimedOut | K::Closed | K::Internal | K::NotFound | K::Corrupt,
            ) => 0xA700,
            (S::Find, K::OutOfResources | K::Io | K::TimedOut | K::Closed) => 0xA700,
            // A701: unable to calculate the number of matches; nothing has been sent yet.
            (S::Move | S::Get, K::OutOfResources | K::Io | K::TimedOut | K::Closed | K::NotFound) => 0xA701,
            (S::Store | S::Find | S::Move | S::Get, K::Mismatch) => 0xA900,
            (S::Find | S::Move | S::Get, K::Invalid) => 0xA900,
            _ => 0xC000,
        }
    }

    /// The status that answers an HTTP request which failed this way (PS3.18 8.5, and the tables of status codes of
    /// the transactions, such as 10.5.3-1; RFC 9110 15).
    ///
    /// What a request asks of its own representation is not an error of the engine: 406, 412, 415 and 416 are the
    /// web's. So is 410: nothing here remembers what was deleted.
    pub fn http_status(&self) -> u16 {
        use ErrorKind as K;
        match self.kind {
            K::Invalid => 400,
            K::Refused => 403,
            K::NotFound => 404,
            // A conflict with what is kept, or of a data set with what was said of it (PS3.18 table 10.5.3-1). Also
            // where what is kept is damaged: no status of the Retrieve Transaction says so (table 10.4.3-1, which
            // leaves the rest to 8.5 and so to HTTP). Neither the request nor the server is at fault, and who sends
            // the instance again mends it (RFC 9110 15.5.10).
            K::AlreadyExists | K::Mismatch => 409,
            // A limit that the same request will always meet, such as a size.
            K::OutOfResources if self.retry == Retry::Never => 413,
            K::Corrupt | K::Internal => 500,
            K::Unsupported => 501,
            // A request that was cancelled by whoever made it reads no answer; an engine may cancel too.
            K::OutOfResources | K::TimedOut | K::Closed | K::Io | K::Cancelled => 503,
        }
    }
}

/// The DIMSE services whose failure has statuses of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DimseService {
    /// C-ECHO.
    Echo,
    /// C-STORE.
    Store,
    /// C-FIND.
    Find,
    /// C-MOVE.
    Move,
    /// C-GET.
    Get,
}

/// For whoever runs the program: why, the attributes at fault, and the cause. `Debug` also has the kind and
/// the operation.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)?;
        for tag in &self.tags {
            write!(f, " {tag}")?;
        }
        match self.source.as_ref().map(ToString::to_string) {
            // Where the cause says it best, it is the context too.
            Some(cause) if cause != self.context => write!(f, ": {cause}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}: {self}", self.kind, self.operation)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| &**s as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_displayed_is_for_people_and_says_nothing_twice() {
        let error = Error::new(ErrorKind::Io, "medium.read", "the file can't be read");
        assert_eq!(error.to_string(), "the file can't be read");
        let error = error.with_tag(Tag(0x0010, 0x0020)).with_source("no disk");
        assert_eq!(error.to_string(), "the file can't be read (0010,0020): no disk");
        assert_eq!(
            format!("{error:?}"),
            "Io medium.read: the file can't be read (0010,0020): no disk"
        );
        let error = Error::new(ErrorKind::Closed, "peer.call", "aborted").with_source("aborted");
        assert_eq!(error.to_string(), "aborted");
    }

    #[test]
    fn all_kinds_are_there_once() {
        // The match in `meaning` has each: a kind that is new and not among these shares its place with none.
        let places: std::collections::BTreeSet<u8> =
            ErrorKind::ALL.into_iter().map(|kind| kind as u8).collect();
        assert_eq!(places.len(), ErrorKind::ALL.len());
        assert_eq!(
            places.last().map(|last| usize::from(*last) + 1),
            Some(places.len())
        );
        let meanings: std::collections::BTreeSet<&str> =
            ErrorKind::ALL.into_iter().map(ErrorKind::meaning).collect();
        assert_eq!(meanings.len(), ErrorKind::ALL.len());
    }

    #[test]
    fn what_a_client_did_is_a_4xx_and_what_happened_to_us_a_5xx() {
        use ErrorKind as K;
        let status = |kind| Error::new(kind, "test.status", "why").http_status();
        let theirs = [K::Invalid, K::Refused, K::NotFound, K::AlreadyExists, K::Mismatch];
        assert_eq!(theirs.map(status), [400, 403, 404, 409, 409]);
        let ours = [K::Corrupt, K::Internal, K::Unsupported];
        assert_eq!(ours.map(status), [500, 500, 501]);
        let passing = [K::OutOfResources, K::TimedOut, K::Closed, K::Io, K::Cancelled];
        assert_eq!(passing.map(status), [503; 5]);
        let too_large = Error::new(K::OutOfResources, "test.status", "why").with_retry(Retry::Never);
        assert_eq!(too_large.http_status(), 413);
    }
}
