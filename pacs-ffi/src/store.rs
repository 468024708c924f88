//! Taking instances in: from memory, from a file, in pieces.

use std::collections::VecDeque;
use std::ffi::{c_char, c_void};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, stream};
use pacs_core::access::{Door, Identity};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::dataset::part10::{Meta, write_meta};
use pacs_core::dataset::{DataSet, Value};
use pacs_core::limits::READ_CHUNK_BYTES;
use pacs_core::{AeTitle, Error, ErrorKind, Receipt, Received, Source, StoreOutcome, Uid, VR, tags, uids};

use pacs_store::embedded::file_pieces;

use crate::context::Context;
use crate::data_set::{Set, pacs_data_set};
use crate::engine::{Engine, pacs_engine};
use crate::error::{Failure, pacs_status};
use crate::ffi::{self, OutSized, Sized_, fill};
use crate::guard::{alone, call, call_last, close, may_change};
use crate::handle::{self, Object};

/// Room for a UID of 64 characters and NUL.
pub const PACS_UID_LENGTH: usize = 65;

/// Who sends or asks, as far as it is known. It is what hooks are told, and where the configuration has an `[access]`
/// table, who may what is held against it: a call that names no source is the program's own, and needs no leave.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_source {
    /// `sizeof(pacs_source)`.
    pub struct_size: usize,
    /// Calling AE title; may be null.
    pub calling_ae: *const c_char,
    /// Called AE title; may be null.
    pub called_ae: *const c_char,
    /// Network address with its port, as in `192.0.2.7:104` or `[2001:db8::7]:104`; may be null.
    pub address: *const c_char,
    /// The user that the program has proven; may be null. The user's roles count then, in place of the peer's.
    pub user: *const c_char,
    /// The roles of the user, with commas between; may be null.
    pub roles: *const c_char,
}

// SAFETY: it begins with its size, and all zero is valid.
unsafe impl Sized_ for pacs_source {
    const FIRST_SIZE: usize = 32;
}

/// Reads who asks; null is nobody.
pub(crate) fn source(pointer: *const pacs_source) -> Result<Source, Failure> {
    let Some(given) = ffi::optional_sized(pointer)? else {
        return Ok(Source::default());
    };
    let title = |text| -> Result<Option<AeTitle>, Failure> {
        Ok(ffi::optional_text(text)?.map(AeTitle::parse).transpose()?)
    };
    let address = match ffi::optional_text(given.address)? {
        None => None,
        Some(text) => Some(
            text.parse()
                .map_err(|_| Failure::argument("an address is that of a host, with its port"))?,
        ),
    };
    let roles = ffi::optional_text(given.roles)?.unwrap_or_default();
    let user = ffi::optional_text(given.user)?.map(|name| Identity {
        name: name.to_owned(),
        roles: roles
            .split(',')
            .map(str::trim)
            .filter(|role| !role.is_empty())
            .map(str::to_owned)
            .collect(),
        ..Identity::default()
    });
    Ok(Source {
        door: Some(Door::Call),
        identity: user.map(Arc::new),
        calling_ae: title(given.calling_ae)?,
        called_ae: title(given.called_ae)?,
        address,
        ..Source::default()
    })
}

/// What a stored instance was to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pacs_outcome {
    /// Nothing was kept under its SOP Instance UID.
    PACS_OUTCOME_NEW = 0,
    /// The same bytes were kept already.
    PACS_OUTCOME_ALREADY_KEPT = 1,
    /// Different bytes were kept; they are an earlier version now.
    PACS_OUTCOME_REPLACED = 2,
    /// Different bytes were kept and still are; these are not.
    PACS_OUTCOME_FIRST_KEPT = 3,
}

impl From<StoreOutcome> for pacs_outcome {
    fn from(outcome: StoreOutcome) -> Self {
        match outcome {
            StoreOutcome::New => Self::PACS_OUTCOME_NEW,
            StoreOutcome::AlreadyKept => Self::PACS_OUTCOME_ALREADY_KEPT,
            StoreOutcome::Replaced => Self::PACS_OUTCOME_REPLACED,
            StoreOutcome::FirstKept => Self::PACS_OUTCOME_FIRST_KEPT,
        }
    }
}

/// An instance that was stored.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_stored {
    /// `sizeof(pacs_stored)`, set by the caller.
    pub struct_size: usize,
    /// What it was to the engine.
    pub outcome: pacs_outcome,
    /// The warning that its sender is to be answered with (PS3.4 B.2.3), 0 for none.
    pub warning: u16,
    /// Study Instance UID.
    pub study: [c_char; PACS_UID_LENGTH],
    /// Series Instance UID.
    pub series: [c_char; PACS_UID_LENGTH],
    /// SOP Instance UID.
    pub instance: [c_char; PACS_UID_LENGTH],
}

/// Takes in what comes in these pieces, and tells what it was.
fn keep(
    engine: &Engine,
    source: *const pacs_source,
    pieces: impl Iterator<Item = pacs_core::Result<Bytes>>,
    stored: *mut pacs_stored,
) -> Result<(), Failure> {
    may_change()?;
    let (out, source) = (ffi::optional_out_sized(stored)?, self::source(source)?);
    let import = engine.pacs.import(source, stream::iter(pieces));
    tell(out, &engine.context.wait(import)?);
    Ok(())
}

fn tell(out: Option<OutSized<pacs_stored>>, received: &Received) {
    let Some(out) = out else { return };
    let key = received.record.key;
    out.set(pacs_stored {
        struct_size: size_of::<pacs_stored>(),
        outcome: received.outcome.into(),
        warning: received.warning().unwrap_or(0),
        study: fill(key.study.as_str()),
        series: fill(key.series.as_str()),
        instance: fill(key.instance.as_str()),
    });
}

/// Stores an instance from memory: a DICOM file (PS3.10), or a bare data set. When it returns `PACS_OK`, the instance
/// is on stable storage and a query finds it. `source` and `stored` may be null. The bytes are the caller's again
/// afterwards.
///
/// Blocks. Errors: `PACS_INVALID` when it is no DICOM file or lacks the UIDs that say what it is, `PACS_UNSUPPORTED`
/// for a DICOMDIR, `PACS_ALREADY_EXISTS` by the policy, what a hook says, `PACS_OUT_OF_RESOURCES`, `PACS_IO`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_store(
    engine: *mut pacs_engine,
    source: *const pacs_source,
    bytes: *const c_void,
    length: usize,
    stored: *mut pacs_stored,
) -> pacs_status {
    call(engine, |engine: &Engine| {
        let bytes = ffi::bytes(bytes, length)?;
        // A piece at a time is copied, since the engine may hold one for longer than this call.
        let pieces = bytes
            .chunks(READ_CHUNK_BYTES)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)));
        keep(engine, source, pieces, stored)
    })
}

/// Stores an instance from a file; otherwise as `pacs_store`. `path` is UTF-8.
///
/// Blocks. Errors: as `pacs_store`; `PACS_NOT_FOUND` when there is no such file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_store_file(
    engine: *mut pacs_engine,
    source: *const pacs_source,
    path: *const c_char,
    stored: *mut pacs_stored,
) -> pacs_status {
    call(engine, |engine: &Engine| {
        let pieces = file_pieces(Path::new(ffi::text(path)?))?;
        keep(engine, source, pieces, stored)
    })
}

/// Stores an instance that was made in memory, as a file in Explicit VR Little Endian and UTF-8; otherwise as
/// `pacs_store`. The data set says what it is: SOP Class, SOP Instance, Study and Series Instance UID.
///
/// Blocks. Errors: as `pacs_store`; `PACS_INVALID` when a UID is missing, a value can't be written or an
/// attribute is none of an instance. Group 0002 is left out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_store_data_set(
    engine: *mut pacs_engine,
    source: *const pacs_source,
    set: *const pacs_data_set,
    stored: *mut pacs_stored,
) -> pacs_status {
    call(engine, |engine: &Engine| {
        let mut set = handle::get::<Set>(set)?.copy();
        // What a File Meta Information said is said by the new one.
        set.retain(|element| element.tag.0 != 0x0002);
        if !is_of_an_instance(&set) {
            let text = "an attribute is none of an instance: of groups 0000 to 0006, or a delimiter";
            return Err(Failure::new(pacs_status::PACS_INVALID, text));
        }
        let charset = CharacterSet::utf8();
        set.put_text(tags::SPECIFIC_CHARACTER_SET, VR::CS, charset.value());
        let syntax = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);
        let (class, instance) = (set.uid(tags::SOP_CLASS_UID)?, set.uid(tags::SOP_INSTANCE_UID)?);
        let pieces = [
            write_meta(&Meta::new(class, instance, syntax)),
            encode(&set, &syntax, &charset)?.into(),
        ];
        keep(engine, source, pieces.into_iter().map(Ok), stored)
    })
}

/// Whether a data set of an instance may have these attributes (PS3.5 7.1, 7.5): none of messages and files, and no
/// item or delimiter.
fn is_of_an_instance(set: &DataSet) -> bool {
    set.iter().all(|element| {
        let nested = match &element.value {
            Value::Items(items) => items.iter().all(is_of_an_instance),
            Value::Bytes(_) => true,
        };
        nested && element.tag.0 >= 8 && element.tag.0 != 0xFFFE
    })
}

/// An instance on its way in, in pieces. From one thread at a time.
pub struct pacs_receipt {
    _opaque: [u8; 0],
}

/// The object behind it.
struct Incoming {
    context: Arc<Context>,
    /// One of those that an engine has open at once.
    _open: Open,
    pieces: Pieces,
    state: Mutex<State>,
}

enum State {
    /// What the engine makes of the pieces so far.
    Receiving(BoxFuture<'static, pacs_core::Result<Receipt>>),
    /// It was refused: no further piece is taken.
    Failed,
}

/// Receipts that an engine has open at once. Each may hold a turn among those on their way in
/// (`limits::RECEIPTS_MAX`) as long as its caller likes; the others are for what doesn't.
const OPEN_MAX: usize = 64;

/// Counts while it lives.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn count(open: &Arc<AtomicUsize>) -> Result<Self, Failure> {
        let counted = Self(Arc::clone(open));
        if open.fetch_add(1, Ordering::Relaxed) >= OPEN_MAX {
            let text = format!("{OPEN_MAX} receipts of the engine are open");
            return Err(Failure::new(pacs_status::PACS_OUT_OF_RESOURCES, text).with_retry());
        }
        Ok(counted)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Object for Incoming {
    type Raw = pacs_receipt;
    const KIND: u8 = 4;
    const NAME: &'static str = "receipt";

    fn context(this: &Arc<Self>) -> Arc<Context> {
        Arc::clone(&this.context)
    }
}

/// Pieces that wait for the engine.
#[derive(Clone, Default)]
struct Pieces(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    pieces: VecDeque<Bytes>,
    ended: bool,
}

impl Pieces {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream for Pieces {
    type Item = pacs_core::Result<Bytes>;

    /// Nobody is woken by a new piece: who brings one polls.
    fn poll_next(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let mut waiting = self.lock();
        match waiting.pieces.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(piece))),
            None if waiting.ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// Begins an instance whose file comes in pieces. Ended by `pacs_receipt_commit` or `pacs_receipt_abort`. `source`
/// may be null.
///
/// Does not block. Errors: `PACS_OUT_OF_RESOURCES` when 64 receipts of the engine are open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_receive(
    engine: *mut pacs_engine,
    source: *const pacs_source,
    receipt: *mut *mut pacs_receipt,
) -> pacs_status {
    call(engine, |engine: &Engine| {
        let (out, source) = (ffi::out(receipt)?, self::source(source)?);
        let pieces = Pieces::default();
        let (pacs, stream) = (engine.pacs.clone(), pieces.clone());
        out.set(handle::insert(Incoming {
            context: Arc::clone(&engine.context),
            _open: Open::count(&engine.receipts)?,
            pieces,
            state: Mutex::new(State::Receiving(
                async move { pacs.receive_file(source, stream).await }.boxed(),
            )),
        })?);
        Ok(())
    })
}

/// Takes the next bytes of the file; they are the caller's again afterwards.
///
/// Blocks while the archive has too much unwritten: that is how a fast sender is slowed down. Errors: as
/// `pacs_store`; the instance is refused then, and the receipt is still to be ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_receipt_write(
    receipt: *mut pacs_receipt,
    bytes: *const c_void,
    length: usize,
) -> pacs_status {
    call(receipt, |incoming: &Incoming| {
        may_change()?;
        let bytes = ffi::bytes(bytes, length)?;
        let mut state = alone(&incoming.state)?;
        for piece in bytes.chunks(READ_CHUNK_BYTES) {
            let State::Receiving(receiving) = &mut *state else {
                return Err(refused());
            };
            incoming
                .pieces
                .lock()
                .pieces
                .push_back(Bytes::copy_from_slice(piece));
            // It has the piece when it asks for another one.
            let failed = incoming.context.wait(futures::future::poll_fn(|context| {
                match receiving.as_mut().poll(context) {
                    Poll::Ready(Err(error)) => Poll::Ready(Some(error)),
                    Poll::Ready(Ok(_)) => Poll::Ready(Some(Error::new(
                        ErrorKind::Internal,
                        "receipt.write",
                        "the instance ended before its bytes",
                    ))),
                    Poll::Pending if incoming.pieces.lock().pieces.is_empty() => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                }
            }));
            if let Some(error) = failed {
                *state = State::Failed;
                return Err(error.into());
            }
        }
        Ok(())
    })
}

fn refused() -> Failure {
    Failure::new(pacs_status::PACS_CLOSED, "the instance was refused before")
}

/// Ends the file, makes the instance durable and visible, and ends the handle. When it returns `PACS_OK`, the instance
/// is on stable storage and a query finds it; otherwise nothing is kept. `stored` may be null.
///
/// Blocks. Errors: as `pacs_store`; `PACS_CLOSED` when a piece was refused before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_receipt_commit(
    receipt: *mut pacs_receipt,
    stored: *mut pacs_stored,
) -> pacs_status {
    // Refused, it stays.
    if let refused @ pacs_status::PACS_REFUSED = call(receipt, |incoming: &Incoming| {
        may_change()?;
        alone(&incoming.state).map(|_| ())
    }) {
        return refused;
    }
    call_last(receipt, |incoming: &Incoming| {
        let out = ffi::optional_out_sized(stored)?;
        let mut state = alone(&incoming.state)?;
        let State::Receiving(receiving) = std::mem::replace(&mut *state, State::Failed) else {
            return Err(refused());
        };
        incoming.pieces.lock().ended = true;
        let received = incoming.context.wait(async { receiving.await?.commit().await })?;
        tell(out, &received);
        Ok(())
    })
}

/// Gives an instance up, and ends the handle; null is nothing to do. Nothing of it is kept.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_receipt_abort(receipt: *mut pacs_receipt) -> pacs_status {
    close::<Incoming>(receipt)
}
