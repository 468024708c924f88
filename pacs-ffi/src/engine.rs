//! The engine: an open store.

use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;

use pacs_core::engine::block_on;
use pacs_core::{Options, Pacs, Scope};
use pacs_net::transport::Admission;
use pacs_store::embedded::{Rebuilt, Settings, Store};

use crate::context::{Context, pacs_context};
use crate::error::{Failure, pacs_status};
use crate::ffi::{self, Sized_};
use crate::guard::{call, call_out, call_shared, close, may_change};
use crate::handle::{self, Object};
use crate::hooks::{Hooks, hooks, pacs_hooks};
use crate::instance::scope;

/// An open store: keeps instances, finds them and hands them out. May be used from any thread, and from many at once.
pub struct pacs_engine {
    _opaque: [u8; 0],
}

/// The object behind it.
pub(crate) struct Engine {
    pub(crate) context: Arc<Context>,
    pub(crate) pacs: Pacs,
    /// Who decides about associations of its servers, if one does.
    pub(crate) admission: Option<Arc<dyn Admission>>,
    /// Receipts that are open.
    pub(crate) receipts: Arc<AtomicUsize>,
}

/// What the caller brings to an engine. All zero but the first: nothing.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_parts {
    /// `sizeof(pacs_parts)`.
    pub struct_size: usize,
    /// Takes part in what the engine does; may be null.
    pub hooks: *const pacs_hooks,
}

// SAFETY: it begins with its size, and all zero is valid.
unsafe impl Sized_ for pacs_parts {
    const FIRST_SIZE: usize = 16;
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Object for Engine {
    type Raw = pacs_engine;
    const KIND: u8 = 3;
    const NAME: &'static str = "engine";

    fn context(this: &Arc<Self>) -> Arc<Context> {
        Arc::clone(&this.context)
    }
}

/// Reads a configuration: TOML, of which what isn't said has its default. The error says in which line, and why.
pub(crate) fn configuration<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Failure> {
    toml::from_str(text)
        .map_err(|error| Failure::new(pacs_status::PACS_INVALID, format!("the configuration: {error}")))
}

pub(crate) fn settings(configuration: *const c_char) -> Result<Settings, Failure> {
    let settings: Settings = self::configuration(ffi::optional_text(configuration)?.unwrap_or_default())?;
    // What a line alone doesn't show.
    settings.attribute_set()?;
    Ok(settings)
}

/// Opens a store, and makes it where there is none. To be closed with `pacs_engine_close`. `parts` may be null.
///
/// `configuration` is TOML, null for all defaults:
///
/// ```toml
/// data = "./pacs-data"          # the data directory; one process at a time
/// archive = "segment"           # one behind the other in large files; "folder": a file each; "memory": gone with the process
/// duplicates = "replace"        # other bytes under a UID that is kept; the old ones stay as an earlier version. Or "keep-first", "refuse"
/// index-cache-mebibytes = 128
///
/// [access]                      # who may do what, where a call or a peer of a server says who asks
/// anyone = []                   # what everybody may: store, find, retrieve, delete, amend, work, route, administer
/// [[access.role]]
/// name = "reader"
/// allow = ["find", "retrieve"]
/// only = { Modality = ["US"] }  # of what part; left out: of all
/// [[access.peer]]               # known by ae-title, addresses, certificate: all that is named
/// ae-title = "WORKSTATION"
/// roles = ["reader"]
///
/// [[attribute]]                 # what is searched beyond the Standard's query models
/// level = "series"              # patient, study, series or instance
/// path = "ProtocolName"
/// ```
///
/// Blocks: after a crash for as long as the index needs to come up to the archive. Errors: `PACS_INVALID` for the
/// configuration, with the line; `PACS_REFUSED` when another process, or this one, has the store open;
/// `PACS_MISMATCH` when its archive is of another kind; `PACS_CORRUPT` when the index is damaged: see
/// `pacs_rebuild_index`; `PACS_IO`, `PACS_OUT_OF_RESOURCES`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_engine_open(
    context: *mut pacs_context,
    configuration: *const c_char,
    parts: *const pacs_parts,
    engine: *mut *mut pacs_engine,
) -> pacs_status {
    call_shared(context, |context: &Arc<Context>| {
        // First of all, so that they are destroyed whatever fails.
        let (options, admission) = taken_parts(context, parts)?;
        let out = ffi::out(engine)?;
        let store = Store::open_or_make(&settings(configuration)?, options)?;
        out.set(handle::insert(serve(context, store, admission)?)?);
        Ok(())
    })
}

/// What the caller brings to an engine; null is nothing.
pub(crate) fn taken_parts(
    context: &Arc<Context>,
    parts: *const pacs_parts,
) -> Result<(Options, Option<Arc<dyn Admission>>), Failure> {
    let hooks = match ffi::optional_sized(parts)? {
        Some(parts) => hooks(context, parts.hooks)?,
        None => None,
    };
    let mut options = Options::default();
    if let Some(hooks) = &hooks {
        hooks.put_into(&mut options);
    }
    Ok((options, hooks.as_ref().and_then(Hooks::admission)))
}

/// The engine of an open store.
pub(crate) fn serve(
    context: &Arc<Context>,
    store: Store,
    admission: Option<Arc<dyn Admission>>,
) -> Result<Engine, Failure> {
    let opened = Engine {
        context: Arc::clone(context),
        pacs: store.pacs.clone(),
        admission,
        receipts: Arc::default(),
    };
    // Other attributes are configured than the index was filled with: it is filled again, while it serves.
    if store.attributes_changed() {
        std::thread::Builder::new()
            .name("pacs-reindex".to_owned())
            .spawn(move || {
                if let Err(error) = store.reindex() {
                    tracing::warn!(%error, "indexing again ended early; it begins again with the next opening");
                }
            })
            .map_err(|error| pacs_core::Error::io("engine.open", "a thread can't be started", error))?;
    }
    Ok(opened)
}

/// Finishes what was accepted, makes the index durable and ends the handle; null is nothing to do. What was got from
/// the engine stays open, must be freed, and answers `PACS_CLOSED` where it would have to change something; until then
/// the store can't be opened again. Servers are stopped before.
///
/// Blocks. Errors: what the archive or the index says of the last flush; the handle is ended all the same, and what
/// was acknowledged is kept. `PACS_REFUSED` in a hook; the handle stays open then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_engine_close(engine: *mut pacs_engine) -> pacs_status {
    if engine.is_null() {
        return pacs_status::PACS_OK;
    }
    if let refused @ (pacs_status::PACS_REFUSED | pacs_status::PACS_BAD_HANDLE) =
        call(engine, |_: &Engine| may_change())
    {
        return refused;
    }
    // The handle ends last: hooks that are told of the end may still ask it.
    let closed = call(engine, |engine: &Engine| Ok(engine.pacs.close()?));
    match close::<Engine>(engine) {
        pacs_status::PACS_OK => closed,
        ended => ended,
    }
}

/// How much is kept.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_totals {
    /// `sizeof(pacs_totals)`, set by the caller.
    pub struct_size: usize,
    /// Distinct patients.
    pub patients: u64,
    /// Studies.
    pub studies: u64,
    /// Series.
    pub series: u64,
    /// Instances, without earlier versions.
    pub instances: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

/// How much is kept.
///
/// Blocks shortly. Errors: what the index says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_engine_totals(
    engine: *const pacs_engine,
    totals: *mut pacs_totals,
) -> pacs_status {
    call(engine, |engine: &Engine| {
        let out = ffi::out_sized(totals)?;
        let now = block_on(engine.pacs.totals())?;
        out.set(pacs_totals {
            struct_size: size_of::<pacs_totals>(),
            patients: now.patients,
            studies: now.studies,
            series: now.series,
            instances: now.instances,
            bytes: now.bytes,
        });
        Ok(())
    })
}

/// What entities are of: a number that calls take as `int32_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pacs_level {
    /// Everything that is kept.
    PACS_LEVEL_ALL = 0,
    /// A patient, by Patient ID (0010,0020).
    PACS_LEVEL_PATIENT = 1,
    /// A study, by Study Instance UID (0020,000D).
    PACS_LEVEL_STUDY = 2,
    /// A series, by Series Instance UID (0020,000E).
    PACS_LEVEL_SERIES = 3,
    /// An instance, by SOP Instance UID (0008,0018).
    PACS_LEVEL_INSTANCE = 4,
}

/// Removes a patient, a study, a series or an instance, in all versions. `removed`, which may be null, becomes the
/// number of instances that were: 0 when there was none. `level` is a `pacs_level` other than `PACS_LEVEL_ALL`.
///
/// Blocks: every instance is removed durably. When it fails, `removed` of them are gone all the same.
/// Errors: what the archive or the index says; `PACS_REFUSED` in a hook.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_engine_remove(
    engine: *mut pacs_engine,
    level: i32,
    id: *const c_char,
    removed: *mut u64,
) -> pacs_status {
    call(engine, |engine: &Engine| {
        may_change()?;
        let scope = scope(level, ffi::optional_text(id)?)?;
        if scope == Scope::All {
            return Err(Failure::argument(
                "a level is needed: everything is not removed at once",
            ));
        }
        let mut count = 0;
        let done = block_on(async {
            use futures::TryStreamExt as _;
            let mut records = engine.pacs.instances(scope);
            while let Some(record) = records.try_next().await? {
                count += u64::from(engine.pacs.remove(&record.key.instance).await?);
            }
            Ok::<_, Failure>(())
        });
        if !removed.is_null() {
            ffi::out(removed)?.set(count);
        }
        done
    })
}

/// Makes the index durable up to now, so that the next opening has nothing to repeat. No instance depends on it.
///
/// Blocks. Errors: what the archive or the index says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_engine_checkpoint(engine: *mut pacs_engine) -> pacs_status {
    call(engine, |engine: &Engine| {
        may_change()?;
        block_on(engine.pacs.checkpoint())?;
        Ok(())
    })
}

/// Called now and then with how many instances are done. Another answer than 0 ends the call with
/// `PACS_CANCELLED`. On the thread of the call; it may call the library.
pub type pacs_progress = Option<unsafe extern "C" fn(user: *mut c_void, done: u64) -> i32>;

/// Called with an instance that is damaged, or that could not be amended, and why. On the thread of the call; it may call the library. The strings
/// are valid during the call.
pub type pacs_damaged =
    Option<unsafe extern "C" fn(user: *mut c_void, sop_instance_uid: *const c_char, why: *const c_char)>;

/// What a verification tells.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_verification {
    /// `sizeof(pacs_verification)`, set by the caller.
    pub struct_size: usize,
    /// Given to the callbacks; set by the caller.
    pub user: *mut c_void,
    /// May be null; set by the caller.
    pub progress: pacs_progress,
    /// Called at the end for each damaged instance; may be null; set by the caller.
    pub damaged: pacs_damaged,
}

// SAFETY: it begins with its size, and all zero is valid.
unsafe impl Sized_ for pacs_verification {
    const FIRST_SIZE: usize = 32;
}

/// Compares everything that is kept with the checksums made when it was stored, and the archive with the index.
/// `whole` and `damaged` become how many instances, earlier versions among them, are whole and how many are not.
/// `verification` may be null, and so may `damaged`.
///
/// Blocks as long as it takes to read everything; the engine serves meanwhile. Damage is no error but a finding.
/// Errors: what the index says, `PACS_CANCELLED`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_engine_verify(
    engine: *mut pacs_engine,
    verification: *const pacs_verification,
    whole: *mut u64,
    damaged: *mut u64,
) -> pacs_status {
    call(engine, |engine: &Engine| {
        let whole = ffi::out(whole)?;
        let asked = ffi::optional_sized(verification)?;
        let cancelled = Cell::new(false);
        let user = asked.map_or(std::ptr::null_mut(), |asked| asked.user);
        let progress = asked.and_then(|asked| asked.progress);
        let mut verify = pin!(engine.pacs.verify(|done| {
            if let Some(progress) = progress
                && !cancelled.get()
            {
                cancelled.set(call_out(|| ffi::tell_progress(progress, user, done)) != 0);
            }
        }));
        let found = block_on(poll_fn(|context| match cancelled.get() {
            true => Poll::Ready(Err(Failure::new(
                pacs_status::PACS_CANCELLED,
                "the callback cancelled it",
            ))),
            false => verify.as_mut().poll(context).map_err(Failure::from),
        }))?;
        if let Some(tell) = asked.and_then(|asked| asked.damaged) {
            for (key, why) in &found.damaged {
                ffi::tell_damaged(tell, user, key.instance.as_str(), why);
            }
        }
        whole.set(found.whole);
        if !damaged.is_null() {
            ffi::out(damaged)?.set(found.damaged.len() as u64);
        }
        Ok(())
    })
}

/// What a rebuild did.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_rebuilt {
    /// `sizeof(pacs_rebuilt)`, set by the caller.
    pub struct_size: usize,
    /// Instances that the new index knows.
    pub instances: u64,
    /// Instances that the archive keeps and that can't be read.
    pub unreadable: u64,
    /// Instances that the old index knew and the archive does not give any more. Where there are some, the old index is
    /// kept beside the new one.
    pub missing: u64,
    /// 1 when the old index could be read to its end, or there was none; 0 when more may be missing.
    pub compared: u32,
    /// Zero.
    pub reserved: u32,
}

impl pacs_rebuilt {
    pub(crate) fn of(rebuilt: &Rebuilt) -> Self {
        Self {
            struct_size: size_of::<Self>(),
            instances: rebuilt.instances,
            unreadable: rebuilt.unreadable,
            missing: rebuilt.missing,
            compared: rebuilt.compared.into(),
            reserved: 0,
        }
    }
}

/// Makes the index of a store anew from its archive alone. For a store that is not open; `configuration` is that of
/// `pacs_engine_open`. `rebuilt` may be null. That something is missing is no error but a finding.
///
/// Blocks as long as it takes to read everything. Errors: as `pacs_engine_open`; `PACS_NOT_FOUND` when there is no
/// store.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_rebuild_index(
    context: *mut pacs_context,
    configuration: *const c_char,
    rebuilt: *mut pacs_rebuilt,
) -> pacs_status {
    call(context, |_: &Context| {
        let out = ffi::optional_out_sized(rebuilt)?;
        let rebuilt = Store::rebuild(&settings(configuration)?)?;
        if let Some(out) = out {
            out.set(pacs_rebuilt::of(&rebuilt));
        }
        Ok(())
    })
}
