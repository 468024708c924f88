//! Archives of the caller's own: the functions that C gives, and the engine on them.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use pacs_core::Archive;
use pacs_core::limits::LOCATOR_LENGTH_MAX_BYTES;
use pacs_store::embedded::Store;

use crate::backend::Backend;
use crate::context::{Context, pacs_context};
use crate::engine::{pacs_engine, pacs_parts, pacs_rebuilt, serve, settings, taken_parts};
use crate::error::{Failure, pacs_status};
use crate::ffi::{self, Callbacks, Sized_};
use crate::guard::{call, call_shared, contained};
use crate::handle;
use crate::store::PACS_UID_LENGTH;

/// The version of `pacs_archive` that this header has.
pub const PACS_ARCHIVE_VERSION: u32 = 1;

/// A committed instance survives the death of the process and of the machine.
pub const PACS_ARCHIVE_DURABLE: u32 = 1;

/// A scan begins after a sequence, is in ascending order, and tells of removals. Where it can't, it always tells
/// everything that is kept, in any order, and nothing of removals.
pub const PACS_ARCHIVE_ORDERED_SCAN: u32 = 2;

/// The longest locator.
pub const PACS_LOCATOR_LENGTH: usize = 255;

const _: () = assert!(PACS_LOCATOR_LENGTH == LOCATOR_LENGTH_MAX_BYTES);

/// Room for the words in which a function of an archive says why it failed, with NUL.
pub const PACS_ARCHIVE_REASON_LENGTH: usize = 256;

/// An instance that an archive of the caller's own keeps, or the removal of one.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_archive_entry {
    /// `sizeof(pacs_archive_entry)` of the library, set by it: what lies behind isn't there.
    pub struct_size: usize,
    /// Its place in the order of commits and removals: greater means later, 0 and `UINT64_MAX` are none.
    pub sequence: u64,
    /// Length of the whole file in bytes; at most `INT64_MAX`.
    pub length: u64,
    /// When it was committed, in milliseconds since 1970-01-01 UTC.
    pub received: u64,
    /// Not 0: what was kept there was removed. Then `length`, `received`, `study` and `series` say nothing.
    pub removed: i32,
    /// Bytes of `locator` that say something: 1 to `PACS_LOCATOR_LENGTH`.
    pub locator_length: u32,
    /// Where it is kept: the archive's own encoding of a place, of which the library knows nothing but that it stays.
    pub locator: [u8; PACS_LOCATOR_LENGTH],
    /// Study Instance UID.
    pub study: [c_char; PACS_UID_LENGTH],
    /// Series Instance UID.
    pub series: [c_char; PACS_UID_LENGTH],
    /// SOP Instance UID.
    pub instance: [c_char; PACS_UID_LENGTH],
}

/// An archive of the caller's own: it keeps the bytes of instances, each a DICOM file (PS3.10), and does not look into
/// them. `examples/c/storage.c` is one.
///
/// Its functions
///
/// - are called from any thread: of the caller, of servers, of the engine; and many at once. One writer, and one
///   cursor, is used by one thread at a time, not always by the same.
/// - block until it is done. They answer `PACS_OK`, or by the `pacs_status` that fits why not; a number that is none
///   counts as `PACS_INTERNAL`. `reason` is room for `PACS_ARCHIVE_REASON_LENGTH` bytes, in which they may say it in words,
///   UTF-8, without patient data.
/// - must not change an engine: what would is answered with `PACS_REFUSED`. They may call what else the library has.
/// - are given what is valid during the call.
///
/// What they give is checked, so that an archive which breaks these rules fails with `PACS_INTERNAL`, where that shows.
/// All of them must be there but `destroy`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_archive {
    /// `sizeof(pacs_archive)`.
    pub struct_size: usize,
    /// Given to all functions.
    pub user: *mut c_void,
    /// Called with `user` once, after the last use; may be null. That is when the engine is closed, or as soon as
    /// what was got from it is freed too; on any thread.
    pub destroy: Option<unsafe extern "C" fn(user: *mut c_void)>,
    /// `PACS_ARCHIVE_VERSION`.
    pub version: u32,
    /// What it can do: `PACS_ARCHIVE_...`, added up.
    pub capability: u32,
    /// Begins an instance; `writer` becomes what the other functions are given for it. Nothing of it is told by a
    /// reading or a scan before its commit. `PACS_OUT_OF_RESOURCES` when there is no room.
    pub begin:
        Option<unsafe extern "C" fn(user: *mut c_void, writer: *mut *mut c_void, reason: *mut c_char) -> i32>,
    /// Appends bytes. May wait while too much is unwritten: that is how a fast sender is slowed down. After a failure
    /// the writer is only aborted.
    pub write: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            writer: *mut c_void,
            bytes: *const c_void,
            length: usize,
            reason: *mut c_char,
        ) -> i32,
    >,
    /// Makes an instance durable and visible, and ends the writer, whatever it answers. `entry` has the UIDs, the
    /// length and the time, and is to be given sequence and locator; the time may be changed. After `PACS_OK` a
    /// reading gives the written bytes for ever, and after a failure nothing is kept. Two commits of one instance are
    /// both kept, at two locators.
    ///
    /// Commits and removals come from a few threads that do nothing else: those at the same time may share a flush.
    pub commit: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            writer: *mut c_void,
            entry: *mut pacs_archive_entry,
            reason: *mut c_char,
        ) -> i32,
    >,
    /// Gives an instance up, and ends the writer: nothing of it is kept.
    pub abort: Option<unsafe extern "C" fn(user: *mut c_void, writer: *mut c_void)>,
    /// Reads from `offset` of the file at `locator`, as many bytes as fit, or fewer, but at least one. `length` becomes
    /// how many they are. `PACS_END` at the end of the file and behind it, `PACS_NOT_FOUND` when nothing is kept there,
    /// which a locator of somebody else may say too, `PACS_CORRUPT` for bytes that are not what was written, where
    /// that can be told.
    pub read: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            locator: *const c_void,
            locator_length: usize,
            offset: u64,
            buffer: *mut c_void,
            capacity: usize,
            length: *mut usize,
            reason: *mut c_char,
        ) -> i32,
    >,
    /// Removes what is kept at `locator`, as durably as a commit is; `sequence` becomes its place in the order.
    /// Removing what isn't there succeeds, with a sequence that isn't smaller than the last one.
    pub remove: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            sop_instance_uid: *const c_char,
            locator: *const c_void,
            locator_length: usize,
            sequence: *mut u64,
            reason: *mut c_char,
        ) -> i32,
    >,
    /// Begins to tell what was committed and not removed since, and what was removed, after the sequence `after`;
    /// after 0 everything that is kept. `cursor` becomes what `scan_next` and `scan_end` are given.
    pub scan: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            after: u64,
            cursor: *mut *mut c_void,
            reason: *mut c_char,
        ) -> i32,
    >,
    /// Tells the next one in `entry`, which is all zero but for its `struct_size`; `PACS_END` behind the last one.
    pub scan_next: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            cursor: *mut c_void,
            entry: *mut pacs_archive_entry,
            reason: *mut c_char,
        ) -> i32,
    >,
    /// Ends a scan, at its end or before.
    pub scan_end: Option<unsafe extern "C" fn(user: *mut c_void, cursor: *mut c_void)>,
    /// Compares what is kept at `locator` with the checksum made when it was written: `PACS_CORRUPT` when it differs,
    /// `PACS_NOT_FOUND` when nothing is kept there. Where there are no checksums, whether it can be read.
    pub verify: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            locator: *const c_void,
            locator_length: usize,
            reason: *mut c_char,
        ) -> i32,
    >,
    /// Hints that an index durably knows everything up to `sequence`. To do nothing is right.
    pub indexed: Option<unsafe extern "C" fn(user: *mut c_void, sequence: u64, reason: *mut c_char) -> i32>,
}

// SAFETY: it begins with its size, and all zero is valid.
unsafe impl Sized_ for pacs_archive {
    const FIRST_SIZE: usize = 120;
}
// SAFETY: its first fields are those, in every version.
unsafe impl Callbacks for pacs_archive {}

/// Takes an archive over: from here on it is destroyed once, also when something is wrong with it.
fn taken(archive: *const pacs_archive) -> Result<Arc<dyn Archive>, Failure> {
    let user = ffi::user_of(archive)?;
    let table = ffi::sized(archive)?;
    Ok(Arc::new(Backend::new(table, user)?))
}

/// The archive that these functions are, for the tests of what it promises.
///
/// # Safety
/// As for every function that is given a `pacs_archive`.
#[doc(hidden)]
pub unsafe fn archive_of(archive: *const pacs_archive) -> Result<Arc<dyn Archive>, pacs_status> {
    taken(archive).map_err(|failure| failure.status)
}

/// Opens a store on an archive of the caller's own. To be closed with `pacs_engine_close`. `parts` may be null.
///
/// `configuration` is that of `pacs_engine_open`, with another meaning of `archive`: `"memory"` has the index in memory,
/// where each opening fills it with all that is kept; otherwise it is made in the data directory, which no archive of
/// the library may have too.
///
/// `archive` is read before this returns; its `user` is the library's from then on, and `destroy` is called once, also
/// when the opening fails. Where `archive` is null, or its `struct_size` ends before `version`, nothing is taken over.
///
/// Blocks: as `pacs_engine_open`. Errors: also `PACS_BAD_ARGUMENT` for an archive that lacks a function, is of another
/// version or of a size that isn't known here; what the archive says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_engine_open_on(
    context: *mut pacs_context,
    configuration: *const c_char,
    archive: *const pacs_archive,
    parts: *const pacs_parts,
    engine: *mut *mut pacs_engine,
) -> pacs_status {
    // Before anything else, so that whatever fails it is destroyed.
    let archive = contained(|| taken(archive));
    call_shared(context, |context: &Arc<Context>| {
        let (options, admission) = taken_parts(context, parts)?;
        let (out, archive) = (ffi::out(engine)?, archive?);
        let store = Store::open_on(archive, &settings(configuration)?, options)?;
        out.set(handle::insert(serve(context, store, admission)?)?);
        Ok(())
    })
}

/// Makes the index of a store on an archive of the caller's own anew. For a store that is not open; otherwise as
/// `pacs_rebuild_index`, with the `archive` of `pacs_engine_open_on`, which is taken over here too.
///
/// Blocks as long as it takes to read everything. Errors: as `pacs_engine_open_on`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_rebuild_index_on(
    context: *mut pacs_context,
    configuration: *const c_char,
    archive: *const pacs_archive,
    rebuilt: *mut pacs_rebuilt,
) -> pacs_status {
    let archive = contained(|| taken(archive));
    call(context, |_: &Context| {
        let (archive, out) = (archive?, ffi::optional_out_sized(rebuilt)?);
        let rebuilt = Store::rebuild_on(&*archive, &settings(configuration)?)?;
        if let Some(out) = out {
            out.set(pacs_rebuilt::of(&rebuilt));
        }
        Ok(())
    })
}
