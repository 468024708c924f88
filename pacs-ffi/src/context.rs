//! The context: threads, errors and log of one user of the library in a process.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use pacs_core::engine::block_on;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::error::{Failure, pacs_status};
use crate::ffi::{self, Sized_, User};
use crate::guard::{call, call_out, close, contained};
use crate::handle::{self, Object};
use crate::log::{self, Log, pacs_log};

/// Threads, errors and log of one user of the library. Everything else belongs to a context.
pub struct pacs_context {
    _opaque: [u8; 0],
}

/// How a context works. Zero is the default of every field but the first.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_context_options {
    /// `sizeof(pacs_context_options)`.
    pub struct_size: usize,
    /// Threads of the pool that servers and network calls run on; 0 for one for each processor. It is started with
    /// the first of them. Engines have a few threads of their own.
    pub threads: u32,
    /// Not 0: no pool; servers and network calls go on only while a thread of the caller is in `pacs_poll` or in a call
    /// that waits. In a callback of such a call, network calls are answered with `PACS_REFUSED`.
    pub polled: u32,
    /// Called with each line of the log; null for none. See `pacs_log`.
    pub log: pacs_log,
    /// Lines of this level and the more severe ones: 1 errors, 2 warnings, 3 what happens, 4 details, 5 everything;
    /// 0 for 3.
    pub log_level: u32,
    /// Given to `log`.
    pub log_user: *mut c_void,
    /// Called with `log_user` when it isn't needed any more, once, also when the context could not be made, but not when
    /// `struct_size` was wrong. May be null.
    pub log_destroy: Option<unsafe extern "C" fn(*mut c_void)>,
}

// SAFETY: it begins with its size, and all zero is the default.
unsafe impl Sized_ for pacs_context_options {
    const FIRST_SIZE: usize = 48;
}

/// What a context is to this library.
#[derive(Debug)]
pub(crate) struct Context {
    number: u64,
    live: AtomicU64,
    threads: usize,
    polled: bool,
    pool: Mutex<Option<Arc<Pool>>>,
    /// Has its place among those who log as long as it lives.
    _log: Option<Arc<Log>>,
}

impl Object for Context {
    type Raw = pacs_context;
    const KIND: u8 = 1;
    const NAME: &'static str = "context";

    fn context(this: &Arc<Self>) -> Arc<Context> {
        Arc::clone(this)
    }
}

/// The runtime that servers and network calls run on.
#[derive(Debug)]
struct Pool(Option<Runtime>);

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Nothing of a caller runs on it any more: its servers were stopped before.
            runtime.shutdown_background();
        }
    }
}

impl Context {
    /// Tells it from every other one of the process.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn live(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    pub(crate) fn handle_opened(&self) {
        self.live.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn handle_closed(&self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }

    fn pool(&self) -> Result<Arc<Pool>, Failure> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = &*pool {
            return Ok(Arc::clone(pool));
        }
        let mut builder = match self.polled {
            true => Builder::new_current_thread(),
            false => Builder::new_multi_thread(),
        };
        if self.threads > 0 && !self.polled {
            builder.worker_threads(self.threads);
        }
        let runtime = builder.enable_all().thread_name("pacs-net").build();
        let runtime = runtime.map_err(|error| {
            let text = format!("the threads can't be started: {error}");
            Failure::new(pacs_status::PACS_OUT_OF_RESOURCES, text)
        })?;
        Ok(Arc::clone(pool.insert(Arc::new(Pool(Some(runtime))))))
    }

    /// Begins what goes on by itself.
    pub(crate) fn spawn(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<JoinHandle<()>, Failure> {
        match &self.pool()?.0 {
            Some(runtime) => Ok(runtime.spawn(work)),
            None => Err(Failure::new(pacs_status::PACS_CLOSED, "the context is closed")),
        }
    }

    /// Runs `work`, which needs the network, to its end while the caller waits.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Failure> {
        self.run_with(work, stream::empty(), |_: ()| ())
    }

    /// That work would not wait for the thread that asks for it.
    pub(crate) fn may_run(&self) -> Result<(), Failure> {
        if self.polled && Handle::try_current().is_ok() {
            let text = "not from a callback of a polled context: only this thread could do the work";
            return Err(Failure::new(pacs_status::PACS_REFUSED, text));
        }
        Ok(())
    }

    /// Waits for what an engine does. Where only this thread could serve those who hold what is waited for, it goes on
    /// serving.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        let pool = match self.polled {
            true => self.pool.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            false => None,
        };
        match pool.as_ref().and_then(|pool| pool.0.as_ref()) {
            Some(runtime) if Handle::try_current().is_err() => runtime.block_on(work),
            _ => block_on(work),
        }
    }

    /// The same as [`run`](Self::run), and hands what comes meanwhile to `each`, on this thread.
    pub(crate) fn run_with<T: Send + 'static, E>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        mut events: impl Stream<Item = E> + Unpin,
        mut each: impl FnMut(E),
    ) -> Result<T, Failure> {
        let pool = self.pool()?;
        let Some(runtime) = &pool.0 else {
            return Err(Failure::new(pacs_status::PACS_CLOSED, "the context is closed"));
        };
        if !self.polled {
            let work = runtime.spawn(work);
            while let Some(event) = block_on(events.next()) {
                call_out(|| each(event));
            }
            return block_on(work)
                .map_err(|_| Failure::new(pacs_status::PACS_INTERNAL, "a panic was contained"));
        }
        self.may_run()?;
        Ok(runtime.block_on(async {
            let events = async {
                while let Some(event) = events.next().await {
                    each(event);
                }
            };
            futures::future::join(work, events).await.0
        }))
    }
}

/// Threads of a pool: more than the processors of any machine that runs this.
const THREADS_MAX: u32 = 1024;

/// Contexts that were made.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// Makes a context. `options` may be null. To be freed with `pacs_context_free`.
///
/// A process may have several; they share nothing but what `pacs_log` says.
///
/// Does not block. Errors: `PACS_BAD_ARGUMENT`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_context_new(
    options: *const pacs_context_options,
    context: *mut *mut pacs_context,
) -> pacs_status {
    let made = contained(|| {
        let options = ffi::optional_sized(options)?;
        // First of all, so that it is destroyed whatever fails.
        let user = options.map(|options| User::new(options.log_user, options.log_destroy));
        let out = ffi::out(context)?;
        let log = match (options, user) {
            (Some(options), Some(user)) => log::register(options.log, options.log_level, user)?,
            _ => None,
        };
        let handle = handle::insert(Context {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            live: AtomicU64::new(0),
            threads: match options.map_or(0, |options| options.threads) {
                threads @ 0..=THREADS_MAX => threads as usize,
                _ => return Err(Failure::argument(format!("threads is at most {THREADS_MAX}"))),
            },
            polled: options.is_some_and(|options| options.polled != 0),
            pool: Mutex::new(None),
            _log: log,
        })?;
        out.set(handle);
        Ok(())
    });
    made.map_or_else(|failure| failure.status, |()| pacs_status::PACS_OK)
}

/// Frees a context; null is nothing to do.
///
/// Does not block. Errors: `PACS_REFUSED` while handles of it are open; it stays open then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_context_free(context: *mut pacs_context) -> pacs_status {
    if context.is_null() {
        return pacs_status::PACS_OK;
    }
    let may = call(context, |context: &Context| match context.live() {
        0 => Ok(()),
        live => Err(Failure::new(
            pacs_status::PACS_REFUSED,
            format!("handles of the context that are open: {live}"),
        )),
    });
    match may {
        pacs_status::PACS_OK => {
            // What a broken-off server has left on a polled one holds the context, which holds it.
            let ended = call(context, |context: &Context| {
                drop(context.pool.lock().unwrap_or_else(PoisonError::into_inner).take());
                Ok(())
            });
            match ended {
                pacs_status::PACS_OK => close::<Context>(context),
                failed => failed,
            }
        }
        refused => refused,
    }
}

/// Lets servers and network calls of a context that was made with `polled` go on, on this thread, for
/// `timeout_milliseconds`; with 0 once over what is ready.
///
/// Blocks that long. From one thread at a time. Errors: `PACS_UNSUPPORTED` when the context has a pool,
/// `PACS_REFUSED` inside a callback of the same context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_poll(context: *mut pacs_context, timeout_milliseconds: u32) -> pacs_status {
    call(context, |context: &Context| {
        if !context.polled {
            let text = "the context has threads of its own; see pacs_context_options.polled";
            return Err(Failure::new(pacs_status::PACS_UNSUPPORTED, text));
        }
        context.run(async move {
            for _ in 0..ROUNDS_OF_A_POLL {
                tokio::task::yield_now().await;
            }
            if timeout_milliseconds > 0 {
                tokio::time::sleep(Duration::from_millis(timeout_milliseconds.into())).await;
            }
        })
    })
}

/// How often a poll looks for what has become ready by what it did.
const ROUNDS_OF_A_POLL: usize = 64;
