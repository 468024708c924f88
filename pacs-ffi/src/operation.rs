//! How a call to a peer goes on: its time, cancelling it, being told how far it has come.

use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _, select};
use pacs_core::{Error, ErrorKind, Result as CoreResult};
use pacs_net::scu::Progress;
use tokio::sync::watch;

use crate::context::{Context, pacs_context};
use crate::error::{Failure, pacs_status};
use crate::ffi::{self, Sized_};
use crate::guard::{call, call_shared, close};
use crate::handle::{self, Object};

/// How far a transfer has come, and at its end what came of it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct pacs_counts {
    /// `sizeof(pacs_counts)`, set by the caller where it gets one as a result.
    pub struct_size: usize,
    /// Instances that were transferred.
    pub completed: u64,
    /// Instances that were not.
    pub failed: u64,
    /// Instances that were, with a warning.
    pub warnings: u64,
    /// Instances that are still to come, as far as it is known.
    pub remaining: u64,
    /// The last status of the peer (PS3.7 annex C); 0 is success.
    pub dimse_status: u16,
    /// Zero.
    pub reserved: [u16; 3],
}

/// Told how far a transfer has come. Another answer than 0 cancels it. On the thread of the call.
pub type pacs_counting = Option<unsafe extern "C" fn(user: *mut c_void, counts: *const pacs_counts) -> i32>;

/// Ends calls from another thread.
pub struct pacs_cancel {
    _opaque: [u8; 0],
}

/// The object behind it.
struct Cancel {
    context: Arc<Context>,
    cancelled: watch::Sender<bool>,
}

impl Object for Cancel {
    type Raw = pacs_cancel;
    const KIND: u8 = 11;
    const NAME: &'static str = "cancel token";

    fn context(this: &Arc<Self>) -> Arc<Context> {
        Arc::clone(&this.context)
    }
}

/// Makes a token with which calls can be ended from another thread. To be freed with `pacs_cancel_free`.
///
/// Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_cancel_new(
    context: *mut pacs_context,
    cancel: *mut *mut pacs_cancel,
) -> pacs_status {
    call_shared(context, |context: &Arc<Context>| {
        let out = ffi::out(cancel)?;
        out.set(handle::insert(Cancel {
            context: Arc::clone(context),
            cancelled: watch::channel(false).0,
        })?);
        Ok(())
    })
}

/// Ends the calls that were given the token, now and later.
///
/// Does not block: the calls end when their peers have answered, at the latest after ten seconds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_cancel_now(cancel: *mut pacs_cancel) -> pacs_status {
    call(cancel, |cancel: &Cancel| {
        cancel.cancelled.send_replace(true);
        Ok(())
    })
}

/// Frees a token; null is nothing to do. Calls that were given it go on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_cancel_free(cancel: *mut pacs_cancel) -> pacs_status {
    close::<Cancel>(cancel)
}

/// How a call to a peer goes on. Zero is the default of every field but the first.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_operation {
    /// `sizeof(pacs_operation)`.
    pub struct_size: usize,
    /// The whole call ends after so many milliseconds with `PACS_TIMED_OUT`; 0 for no such limit. Whatever this is, a
    /// connection that doesn't come about ends it after 10 s, and a silent peer after some minutes.
    pub timeout_milliseconds: u32,
    /// May be null.
    pub cancel: *const pacs_cancel,
    /// Told how far it has come; may be null.
    pub counting: pacs_counting,
    /// Given to `counting`.
    pub user: *mut c_void,
}

// SAFETY: it begins with its size, and all zero is the default.
unsafe impl Sized_ for pacs_operation {
    const FIRST_SIZE: usize = 40;
}

/// What ends a call before its time.
pub(crate) struct Ends {
    timeout: Option<Duration>,
    /// Set by a callback.
    pub(crate) stop: watch::Sender<bool>,
    token: Option<Arc<Cancel>>,
}

/// How long a peer may take to answer that something was cancelled.
const CANCEL_GRACE: Duration = Duration::from_secs(10);

async fn is_set(mut flag: watch::Receiver<bool>) {
    if flag.wait_for(|set| *set).await.is_err() {
        // Nobody can set it any more.
        std::future::pending().await
    }
}

impl Ends {
    pub(crate) fn read(operation: *const pacs_operation) -> Result<(Self, Option<pacs_operation>), Failure> {
        let operation = ffi::optional_sized(operation)?;
        let token = match operation {
            Some(operation) if !operation.cancel.is_null() => Some(handle::get::<Cancel>(operation.cancel)?),
            _ => None,
        };
        let milliseconds = operation.map_or(0, |operation| operation.timeout_milliseconds);
        let ends = Self {
            timeout: (milliseconds > 0).then(|| Duration::from_millis(milliseconds.into())),
            stop: watch::channel(false).0,
            token,
        };
        Ok((ends, operation))
    }

    /// Ready when it is cancelled.
    pub(crate) fn cancelled(&self) -> BoxFuture<'static, ()> {
        let stop = is_set(self.stop.subscribe());
        match &self.token {
            Some(token) => {
                let token = is_set(token.cancelled.subscribe());
                select(Box::pin(stop), Box::pin(token)).map(|_| ()).boxed()
            }
            None => stop.boxed(),
        }
    }

    /// `work`, until it is cancelled or its time is over.
    pub(crate) fn around<T: Send + 'static>(
        &self,
        work: impl Future<Output = CoreResult<T>> + Send + 'static,
    ) -> BoxFuture<'static, CoreResult<T>> {
        let (cancelled, timeout) = (self.cancelled(), self.timeout);
        let work = Box::pin(work);
        async move {
            let over = async {
                match timeout {
                    Some(timeout) => tokio::time::sleep(timeout).await,
                    None => std::future::pending().await,
                }
            };
            let given_up = async {
                cancelled.await;
                tokio::time::sleep(CANCEL_GRACE).await;
            };
            tokio::select! {
                biased;
                done = work => done,
                () = over => Err(ended(ErrorKind::TimedOut, "its time was over")),
                () = given_up => Err(ended(ErrorKind::Cancelled, "it was cancelled")),
            }
        }
        .boxed()
    }
}

pub(crate) fn ended(kind: ErrorKind, why: &'static str) -> Error {
    Error::new(kind, "remote.call", why)
}

/// Hands counts to the caller, and takes its answer.
pub(crate) fn counting(ends: &Ends, operation: Option<pacs_operation>) -> impl FnMut(pacs_counts) {
    let stop = ends.stop.clone();
    move |counts| {
        if let Some(operation) = operation
            && let Some(tell) = operation.counting
            && ffi::tell_counts(tell, operation.user, &counts) != 0
        {
            stop.send_replace(true);
        }
    }
}

/// Room for counts that wait for the caller: what comes later counts what came before.
pub(crate) const COUNTS_WAITING: usize = 16;

impl pacs_counts {
    pub(crate) fn new() -> Self {
        Self {
            struct_size: size_of::<Self>(),
            completed: 0,
            failed: 0,
            warnings: 0,
            remaining: 0,
            dimse_status: 0,
            reserved: [0; 3],
        }
    }

    pub(crate) fn of(progress: &Progress) -> Self {
        let counts = progress.counts;
        Self {
            completed: counts.completed.into(),
            failed: counts.failed.into(),
            warnings: counts.warning.into(),
            remaining: counts.remaining.unwrap_or_default().into(),
            dimse_status: progress.status.0,
            ..Self::new()
        }
    }
}
