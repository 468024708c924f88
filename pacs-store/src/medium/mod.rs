//! The disk that stores stand on: [`Medium`], [`MediumFile`].
//!
//! Everything that must survive the death of the machine goes through these two traits, so that one
//! seeded layer of faults ([`FaultyMedium`]) can stand under every store.
//!
//! # What a medium is assumed to guarantee
//! - What was written before a [`sync_data`](MediumFile::sync_data) that returned `Ok` is read back
//!   after the process or the machine dies.
//! - Of what was not synced, any set of 512-byte pieces may survive, in any order. A piece holds
//!   either what was written or what stood there before, except that a piece that was being written
//!   at the moment of death may be torn; checksums find that.
//! - The length of a file is synced with its data. Bytes that a grown file was never given are zero. A
//!   length that was set is there as a whole or not at all.
//! - After a `sync_data` that failed, nothing is known about what it should have synced, and a later
//!   `sync_data` of the same file that succeeds says nothing about it either: the operating system
//!   may have dropped the dirty pages and marked them clean. So a store gives up such a file.
//! - The names in a directory are durable after [`sync_directory`](Medium::sync_directory). A rename
//!   is atomic: after death one of the two names is there, with the whole file.
//! - An aligned write of 8 bytes is never torn.
//! - Reads see all earlier writes of the same process, synced or not.

mod backend;
mod disk;
mod fault;
mod system;

use std::any::Any;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

pub use backend::MediumBackend;
pub(crate) use backend::open_or_create;
pub use fault::{Faults, FaultyMedium, Loss};
pub use system::SystemMedium;

/// A tree of directories and files. Paths are relative to its root.
pub trait Medium: fmt::Debug + Send + Sync + 'static {
    /// Makes a new file, open for reading and writing. The name is durable after
    /// [`sync_directory`](Self::sync_directory).
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn MediumFile>>;

    /// Opens a file for reading and writing; one that must not be written to, for reading.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn MediumFile>>;

    /// What a directory holds, in no order.
    fn list(&self, directory: &Path) -> io::Result<Vec<MediumEntry>>;

    /// Makes a directory and those above it, durably; one that is there is left as it is.
    fn create_directory(&self, directory: &Path) -> io::Result<()>;

    /// Takes the name of a file away. Whoever has it open can still read it.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name, in place of whatever has that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// Room for more, in bytes.
    fn available_bytes(&self) -> io::Result<u64>;

    /// Takes the lock that the file at `path` stands for, until the guard is dropped or the process
    /// dies.
    ///
    /// # Errors
    /// `WouldBlock` when somebody else has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>>;
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediumEntry {
    /// The last component of its path.
    pub name: OsString,
    /// A directory, not a file.
    pub is_directory: bool,
}

/// An open file.
pub trait MediumFile: fmt::Debug + Send + Sync + 'static {
    /// Writes the joined `pieces` at `offset` and says how many bytes were taken, which may be fewer.
    /// A file that is too short grows.
    fn write_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Reads what stands at `offset` and says how many bytes came; 0 only at the end of the file, or
    /// when nothing was asked for.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Appends up to `length` bytes from `offset` to `into`, otherwise as [`read_at`](Self::read_at).
    /// Saves the clearing of memory that is overwritten at once, where the medium can.
    fn append_from(&self, into: &mut Vec<u8>, length: usize, offset: u64) -> io::Result<usize> {
        let start = into.len();
        into.resize(start + length, 0);
        let result = self.read_at(&mut into[start..], offset);
        into.truncate(start + result.as_ref().copied().unwrap_or(0));
        result
    }

    /// As [`read_at`](Self::read_at), but only what is in memory already.
    ///
    /// # Errors
    /// `WouldBlock` when the medium would have to be waited for, and always where that isn't known.
    fn read_cached_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let _ = (into, offset);
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Makes everything that was written to this file durable, with its length.
    fn sync_data(&self) -> io::Result<()>;

    /// Reserves room for a range without changing length or contents. Where the medium can't, it does
    /// nothing.
    ///
    /// # Errors
    /// `StorageFull` when there is no room.
    fn preallocate(&self, range: Range<u64>) -> io::Result<()>;

    /// Gives the room of a range back; it then reads as zero.
    ///
    /// # Errors
    /// `Unsupported` where the medium can't.
    fn punch(&self, range: Range<u64>) -> io::Result<()>;

    /// Sets the length. Room that was reserved beyond it is given back.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// The length in bytes.
    fn length(&self) -> io::Result<u64>;

    /// When it was last written to.
    fn modified(&self) -> io::Result<SystemTime>;

    /// Hints that a range should begin its way to the medium, so that a later sync is short. Never
    /// waits, promises nothing.
    fn start_writeback(&self, range: Range<u64>);
}

/// Writes all of the joined `pieces` at `offset`, however many calls that takes.
pub fn write_all_at(file: &dyn MediumFile, pieces: &[&[u8]], mut offset: u64) -> io::Result<()> {
    // Linux takes at most 1,024 pieces a call (IOV_MAX).
    const PIECES_MAX: usize = 1024;
    let mut at = 0;
    let mut skip = 0;
    while at < pieces.len() {
        let slices: Vec<IoSlice<'_>> = pieces[at..]
            .iter()
            .take(PIECES_MAX)
            .enumerate()
            .map(|(i, piece)| IoSlice::new(if i == 0 { &piece[skip..] } else { piece }))
            .collect();
        if slices.iter().all(|slice| slice.is_empty()) {
            at += slices.len();
            skip = 0;
            continue;
        }
        let mut written = match file.write_at(&slices, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        offset += written as u64;
        while at < pieces.len() && written >= pieces[at].len() - skip {
            written -= pieces[at].len() - skip;
            at += 1;
            skip = 0;
        }
        skip += written;
    }
    Ok(())
}

/// Appends exactly `length` bytes from `offset` to `into`.
///
/// # Errors
/// `UnexpectedEof` when the file ends before.
pub fn read_exact_at(
    file: &dyn MediumFile,
    into: &mut Vec<u8>,
    length: usize,
    offset: u64,
) -> io::Result<()> {
    let start = into.len();
    into.resize(start + length, 0);
    let filled = fill_by(|into, at| file.read_at(into, at), &mut into[start..], offset);
    if filled.is_err() {
        into.truncate(start);
    }
    filled
}

/// Fills `into` by `read`, which is [`MediumFile::read_at`] or [`MediumFile::read_cached_at`].
///
/// # Errors
/// What `read` says; `UnexpectedEof` when the file ends before.
pub fn fill_by(
    read: impl Fn(&mut [u8], u64) -> io::Result<usize>,
    into: &mut [u8],
    offset: u64,
) -> io::Result<()> {
    let mut filled = 0;
    while filled < into.len() {
        match read(&mut into[filled..], offset + filled as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
