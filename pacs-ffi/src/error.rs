//! Statuses, and the last failure of a thread.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::{CStr, c_char};

use pacs_core::{DimseService, Error, ErrorKind, Retry};

use crate::context::{Context, pacs_context};
use crate::ffi::{self, fill};
use crate::guard::{call, quietly};

/// What came of a call. A number never changes its meaning; new ones are added at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pacs_status {
    /// It succeeded.
    PACS_OK = 0,
    /// There is no more: an iterator or a reader is at its end. Not a failure; nothing was written.
    PACS_END = 1,
    /// What was asked for is not kept here.
    PACS_NOT_FOUND = 2,
    /// Something else is already kept under this name, and the policy is to refuse.
    PACS_ALREADY_EXISTS = 3,
    /// Bytes or values can't be understood.
    PACS_INVALID = 4,
    /// The data set contradicts what was said of it.
    PACS_MISMATCH = 5,
    /// Understood, but not offered here.
    PACS_UNSUPPORTED = 6,
    /// Understood, but not allowed: by a hook, by access control, or by what goes on at the moment.
    PACS_REFUSED = 7,
    /// No room: disk, memory budget or another limit. Try again later.
    PACS_OUT_OF_RESOURCES = 8,
    /// Stored bytes are not what was stored.
    PACS_CORRUPT = 9,
    /// Whoever asked for it cancelled it.
    PACS_CANCELLED = 10,
    /// A wait ended without the event.
    PACS_TIMED_OUT = 11,
    /// The engine, server, association or connection is closed.
    PACS_CLOSED = 12,
    /// The medium or the peer failed.
    PACS_IO = 13,
    /// A failure of the library itself, contained: this call failed, everything else goes on.
    PACS_INTERNAL = 14,
    /// An argument breaks the rules of the header: null, no UTF-8, a wrong `struct_size`, an unknown number.
    PACS_BAD_ARGUMENT = 15,
    /// Not an open handle, or one of another kind.
    PACS_BAD_HANDLE = 16,
    /// The buffer is too small; the length that is needed was written.
    PACS_BUFFER_TOO_SMALL = 17,
}

use pacs_status::*;

/// Every status, in the order of their numbers.
const ALL: [pacs_status; 18] = [
    PACS_OK,
    PACS_END,
    PACS_NOT_FOUND,
    PACS_ALREADY_EXISTS,
    PACS_INVALID,
    PACS_MISMATCH,
    PACS_UNSUPPORTED,
    PACS_REFUSED,
    PACS_OUT_OF_RESOURCES,
    PACS_CORRUPT,
    PACS_CANCELLED,
    PACS_TIMED_OUT,
    PACS_CLOSED,
    PACS_IO,
    PACS_INTERNAL,
    PACS_BAD_ARGUMENT,
    PACS_BAD_HANDLE,
    PACS_BUFFER_TOO_SMALL,
];

// Numbers keep their meaning.
const _: () = {
    let mut number = 0;
    while number < ALL.len() {
        assert!(ALL[number] as usize == number);
        number += 1;
    }
};

impl pacs_status {
    /// The status of this number, as a callback gives one.
    pub(crate) fn of_number(number: i32) -> Option<Self> {
        usize::try_from(number).ok().and_then(|at| ALL.get(at)).copied()
    }

    /// What kind of the engine's errors a callback means by it.
    pub(crate) fn kind(self) -> ErrorKind {
        match self {
            PACS_NOT_FOUND => ErrorKind::NotFound,
            PACS_ALREADY_EXISTS => ErrorKind::AlreadyExists,
            PACS_INVALID => ErrorKind::Invalid,
            PACS_MISMATCH => ErrorKind::Mismatch,
            PACS_UNSUPPORTED => ErrorKind::Unsupported,
            PACS_REFUSED => ErrorKind::Refused,
            PACS_OUT_OF_RESOURCES => ErrorKind::OutOfResources,
            PACS_CORRUPT => ErrorKind::Corrupt,
            PACS_CANCELLED => ErrorKind::Cancelled,
            PACS_TIMED_OUT => ErrorKind::TimedOut,
            PACS_CLOSED => ErrorKind::Closed,
            PACS_IO => ErrorKind::Io,
            _ => ErrorKind::Internal,
        }
    }

    pub(crate) fn text(self) -> &'static CStr {
        match self {
            PACS_OK => c"success",
            PACS_END => c"there is no more",
            PACS_NOT_FOUND => c"not found",
            PACS_ALREADY_EXISTS => c"exists already",
            PACS_INVALID => c"invalid",
            PACS_MISMATCH => c"contradicts what was said of it",
            PACS_UNSUPPORTED => c"not supported",
            PACS_REFUSED => c"refused",
            PACS_OUT_OF_RESOURCES => c"out of resources",
            PACS_CORRUPT => c"stored bytes are damaged",
            PACS_CANCELLED => c"cancelled",
            PACS_TIMED_OUT => c"timed out",
            PACS_CLOSED => c"closed",
            PACS_IO => c"the medium or the peer failed",
            PACS_INTERNAL => c"internal failure",
            PACS_BAD_ARGUMENT => c"bad argument",
            PACS_BAD_HANDLE => c"not an open handle of this kind",
            PACS_BUFFER_TOO_SMALL => c"the buffer is too small",
        }
    }
}

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: pacs_status,
    retry: bool,
    dimse_status: u16,
    operation: &'static str,
    text: Cow<'static, str>,
}

impl Failure {
    /// One that the same call meets again.
    pub(crate) fn new(status: pacs_status, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            retry: false,
            dimse_status: 0,
            operation: "call",
            text: text.into(),
        }
    }

    /// The same call may succeed later.
    pub(crate) fn with_retry(mut self) -> Self {
        self.retry = true;
        self
    }

    /// An argument that breaks the rules of the header.
    pub(crate) fn argument(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(PACS_BAD_ARGUMENT, text)
    }

    /// Why, as a sentence.
    pub(crate) fn text(&self) -> String {
        self.text.clone().into_owned()
    }

    /// There is no more.
    pub(crate) fn end() -> Self {
        Self::new(PACS_END, "there is no more")
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::NotFound => PACS_NOT_FOUND,
            ErrorKind::AlreadyExists => PACS_ALREADY_EXISTS,
            ErrorKind::Invalid => PACS_INVALID,
            ErrorKind::Mismatch => PACS_MISMATCH,
            ErrorKind::Unsupported => PACS_UNSUPPORTED,
            ErrorKind::Refused => PACS_REFUSED,
            ErrorKind::OutOfResources => PACS_OUT_OF_RESOURCES,
            ErrorKind::Corrupt => PACS_CORRUPT,
            ErrorKind::Cancelled => PACS_CANCELLED,
            ErrorKind::TimedOut => PACS_TIMED_OUT,
            ErrorKind::Closed => PACS_CLOSED,
            ErrorKind::Io => PACS_IO,
            _ => PACS_INTERNAL,
        };
        Self {
            status,
            retry: error.retry() == Retry::Later,
            dimse_status: error.dimse_status(DimseService::Store),
            operation: error.operation(),
            text: error.to_string().into(),
        }
    }
}

/// Contexts whose failures one thread remembers.
const REMEMBERED_MAX: usize = 16;

thread_local! {
    /// The last failure of this thread in each context, by the context's number; the newest at the end.
    static LAST: RefCell<Vec<(u64, Failure)>> = const { RefCell::new(Vec::new()) };
}

/// Remembers a failure of this thread.
pub(crate) fn remember(context: &Context, failure: Failure) {
    // A thread that is ending, and a process, has no such place any more: then only the status tells.
    let _ = LAST.try_with(|last| {
        let mut last = last.borrow_mut();
        last.retain(|(of, _)| *of != context.number());
        if last.len() == REMEMBERED_MAX {
            last.remove(0);
        }
        last.push((context.number(), failure));
    });
}

/// Room for an operation's name.
pub const PACS_OPERATION_LENGTH: usize = 48;

/// Room for an error's text.
pub const PACS_ERROR_TEXT_LENGTH: usize = 512;

/// Why the last call failed that did.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_error {
    /// `sizeof(pacs_error)`, set by the caller.
    pub struct_size: usize,
    /// What the call returned.
    pub status: pacs_status,
    /// 1 when the same call may succeed later, 0 when it will fail the same way.
    pub retry: i32,
    /// The status that answers a C-STORE which failed this way (PS3.4 B.2.3); 0 where the failure is none of the
    /// engine's.
    pub dimse_status: u16,
    /// During which operation, as `noun.verb`.
    pub operation: [c_char; PACS_OPERATION_LENGTH],
    /// Why, in UTF-8, cut to fit. It holds no patient data.
    pub text: [c_char; PACS_ERROR_TEXT_LENGTH],
}

/// Why the last call of this thread in this context failed that did; `PACS_END` when none has. A success changes
/// nothing of it, and neither does this call.
///
/// Every thread has its own: threads that share a context don't see each other's. The failure of a call that was
/// given no valid handle belongs to no context; only its status tells of it.
///
/// Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_last_error(
    context: *const pacs_context,
    error: *mut pacs_error,
) -> pacs_status {
    quietly(context, |context: &Context| {
        let out = ffi::out_sized(error)?;
        let told = LAST.try_with(|last| {
            let last = last.borrow();
            let (_, failure) = last.iter().find(|(of, _)| *of == context.number())?;
            out.set(pacs_error {
                struct_size: size_of::<pacs_error>(),
                status: failure.status,
                retry: failure.retry.into(),
                dimse_status: failure.dimse_status,
                operation: fill(failure.operation),
                text: fill(&failure.text),
            });
            Some(())
        });
        told.ok().flatten().ok_or_else(Failure::end)
    })
}

/// A few words for a status, for ever valid; those for `PACS_INTERNAL` when there is no such status.
#[unsafe(no_mangle)]
pub extern "C" fn pacs_status_text(status: i32) -> *const c_char {
    pacs_status::of_number(status)
        .unwrap_or(PACS_INTERNAL)
        .text()
        .as_ptr()
}

/// Handles that are open in a context, the context's own not counted: 0 when nothing leaks.
///
/// Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_live_handles(context: *const pacs_context, count: *mut u64) -> pacs_status {
    call(context, |context: &Context| {
        let out = ffi::out(count)?;
        out.set(context.live());
        Ok(())
    })
}
