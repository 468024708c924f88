//! A disk that fails: [`FaultyMedium`].

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::disk::{Disk, FileState, NameChange, PIECE_BYTES, apply_name};
use super::{Medium, MediumEntry, MediumFile};

/// How often what fails. Rates are per thousand calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A write that takes fewer bytes than it was given.
    pub short_write: u32,
    /// A write that fails, perhaps after some bytes.
    pub write: u32,
    /// A sync that fails. What it should have made durable may never become so, whatever a later sync
    /// says.
    pub sync: u32,
    /// A read that fails.
    pub read: u32,
    /// A creation, rename, removal, truncation, preallocation or sync of a directory that fails.
    pub other: u32,
    /// Of the calls that change something, the one after this many further ones fails, and no other.
    pub fail_after: Option<u64>,
    /// Room on the medium in bytes; none means without end.
    pub room: Option<u64>,
    /// Stop everything after this many further calls that change something, as if the power went:
    /// every call then fails until [`FaultyMedium::crash`].
    pub stop_after: Option<u64>,
}

/// What a death takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The process died: everything written is there.
    Process,
    /// The machine died: of what was not synced, a random part is there.
    Machine,
}

/// A disk in memory, for tests: it injects [`Faults`], and on [`crash`](Self::crash) leaves what a
/// machine would find after losing power. Everything random follows from the seed.
#[derive(Clone)]
pub struct FaultyMedium {
    disk: Arc<Mutex<Disk>>,
}

impl FaultyMedium {
    /// An empty disk without faults.
    pub fn new(seed: u64) -> Self {
        Self {
            disk: Arc::new(Mutex::new(Disk {
                random: seed,
                faults: Faults::default(),
                changes: 0,
                dead: false,
                files: BTreeMap::new(),
                next_file: 0,
                names: BTreeMap::new(),
                directories: BTreeSet::from([PathBuf::new()]),
                unsynced_names: BTreeMap::new(),
                durable_names: BTreeMap::new(),
                locked: BTreeSet::new(),
            })),
        }
    }

    /// Sets what fails from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock_disk().faults = faults;
    }

    /// How many calls have changed something so far.
    pub fn changes(&self) -> u64 {
        self.lock_disk().changes
    }

    /// Whether [`Faults::stop_after`] has struck.
    pub fn is_stopped(&self) -> bool {
        self.lock_disk().dead
    }

    /// The disk after a death, without faults. Whatever still holds the old one, its files and locks
    /// gets errors from now on.
    pub fn crash(&self, loss: Loss) -> Self {
        let mut old = self.lock_disk();
        old.dead = true;
        let seed = old.next_random();
        let mut new = Disk {
            random: seed,
            faults: Faults::default(),
            changes: 0,
            dead: false,
            files: old.files.clone(),
            next_file: old.next_file,
            names: old.names.clone(),
            directories: old.directories.clone(),
            unsynced_names: old.unsynced_names.clone(),
            durable_names: old.durable_names.clone(),
            locked: BTreeSet::new(),
        };
        drop(old);
        if loss == Loss::Machine {
            new.lose();
        }
        Self {
            disk: Arc::new(Mutex::new(new)),
        }
    }

    /// Overwrites bytes of a file behind everybody's back, as a failing medium does.
    pub fn corrupt(&self, path: &Path, offset: u64, bytes: &[u8]) {
        let mut disk = self.lock_disk();
        let Some(id) = disk.names.get(path).copied() else {
            return;
        };
        let Some(file) = disk.files.get_mut(&id) else {
            return;
        };
        for content in [&mut file.current, &mut file.durable] {
            for (i, byte) in bytes.iter().enumerate() {
                if let Some(at) = content.get_mut(offset as usize + i) {
                    *at = *byte;
                }
            }
        }
    }

    fn lock_disk(&self) -> MutexGuard<'_, Disk> {
        // A panic of one test thread must not hide its message behind a poisoned lock.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

impl Medium for FaultyMedium {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn MediumFile>> {
        let mut disk = self.lock_disk();
        let rate = disk.faults.other;
        disk.change(rate)?;
        if !disk.directories.contains(directory_of(path)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if disk.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = disk.next_file;
        disk.next_file += 1;
        disk.files.insert(id, FileState::default());
        disk.change_name(directory_of(path), NameChange::Put(path.to_owned(), id));
        Ok(Arc::new(FaultyFile {
            disk: Arc::clone(&self.disk),
            id,
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn MediumFile>> {
        let mut disk = self.lock_disk();
        disk.alive()?;
        let rate = disk.faults.read;
        disk.fail(rate)?;
        let id = *disk.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(FaultyFile {
            disk: Arc::clone(&self.disk),
            id,
        }))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<MediumEntry>> {
        let disk = self.lock_disk();
        disk.alive()?;
        if !disk.directories.contains(directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let within = |path: &Path, is_directory| {
            let name = path.file_name()?;
            (directory_of(path) == directory).then(|| MediumEntry {
                name: OsString::from(name),
                is_directory,
            })
        };
        let files = disk.names.keys().filter_map(|path| within(path, false));
        let directories = disk.directories.iter().filter_map(|path| within(path, true));
        Ok(files.chain(directories).collect())
    }

    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        let mut disk = self.lock_disk();
        if disk.directories.contains(directory) {
            return disk.alive();
        }
        let rate = disk.faults.other;
        disk.change(rate)?;
        for path in directory.ancestors() {
            disk.directories.insert(path.to_owned());
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.lock_disk();
        let rate = disk.faults.other;
        disk.change(rate)?;
        if !disk.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change_name(directory_of(path), NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.lock_disk();
        let rate = disk.faults.other;
        disk.change(rate)?;
        let id = *disk.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        // One step in the directory of the new name: whatever survives, it is one of the two.
        let change = NameChange::Rename(from.to_owned(), to.to_owned(), id);
        disk.change_name(directory_of(to), change);
        Ok(())
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let mut disk = self.lock_disk();
        let rate = disk.faults.other;
        disk.change(rate)?;
        for change in disk.unsynced_names.remove(directory).unwrap_or_default() {
            apply_name(&mut disk.durable_names, &change);
        }
        Ok(())
    }

    fn available_bytes(&self) -> io::Result<u64> {
        let disk = self.lock_disk();
        disk.alive()?;
        Ok(disk
            .faults
            .room
            .map_or(u64::MAX, |room| room.saturating_sub(disk.used())))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut disk = self.lock_disk();
        disk.alive()?;
        if !disk.locked.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(LockGuard {
            disk: Arc::clone(&self.disk),
            path: path.to_owned(),
        }))
    }
}

struct LockGuard {
    disk: Arc<Mutex<Disk>>,
    path: PathBuf,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        disk.locked.remove(&self.path);
    }
}

struct FaultyFile {
    disk: Arc<Mutex<Disk>>,
    id: u64,
}

impl FaultyFile {
    fn with<T>(&self, action: impl FnOnce(&mut Disk, u64) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        action(&mut disk, self.id)
    }
}

/// The state of an open file; it stays after its name is removed.
fn state(disk: &mut Disk, id: u64) -> io::Result<&mut FileState> {
    disk.files.get_mut(&id).ok_or(io::ErrorKind::NotFound.into())
}

impl MediumFile for FaultyFile {
    fn write_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.with(|disk, id| {
            disk.alive()?;
            let faults = disk.faults;
            // Stopped in the middle of a write, some of it may have arrived.
            let result = disk.change(faults.write);
            let total: usize = pieces.iter().map(|piece| piece.len()).sum();
            let mut taken = total;
            if result.is_err() || disk.below(1000) < u64::from(faults.short_write) {
                taken = disk.below(total as u64 + 1) as usize;
            }
            if result.is_ok() {
                taken = taken.max(usize::from(total > 0));
            }
            if let Some(room) = faults.room {
                let end = offset + taken as u64;
                let grows = end.saturating_sub(state(disk, id)?.current.len() as u64);
                if grows > room.saturating_sub(disk.used()) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
            }
            let file = state(disk, id)?;
            let end = offset as usize + taken;
            if file.current.len() < end {
                file.current.resize(end, 0);
            }
            let mut at = offset as usize;
            for piece in pieces {
                let length = piece.len().min(end - at);
                file.current[at..at + length].copy_from_slice(&piece[..length]);
                at += length;
            }
            if taken > 0 {
                file.dirty
                    .extend(offset / PIECE_BYTES..=(offset + taken as u64 - 1) / PIECE_BYTES);
            }
            result.map(|()| taken)
        })
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|disk, id| {
            disk.alive()?;
            let rate = disk.faults.read;
            disk.fail(rate)?;
            let file = state(disk, id)?;
            let start = usize::try_from(offset)
                .unwrap_or(usize::MAX)
                .min(file.current.len());
            let length = into.len().min(file.current.len() - start);
            into[..length].copy_from_slice(&file.current[start..start + length]);
            Ok(length)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|disk, id| {
            let rate = disk.faults.sync;
            let result = disk.change(rate);
            let coin = disk.next_random();
            let file = state(disk, id)?;
            if result.is_ok() {
                file.durable.resize(file.current.len(), 0);
                file.set_lengths.clear();
            } else if coin >> 63 == 1 {
                // The length is on the medium all the same.
                let length = file.durable.len().max(file.current.len());
                file.durable.resize(length, 0);
            }
            for (i, piece) in std::mem::take(&mut file.dirty).into_iter().enumerate() {
                // A failed sync makes some pieces durable and drops the others for ever.
                if result.is_ok() || coin >> (i % 64) & 1 == 1 {
                    let start = (piece * PIECE_BYTES) as usize;
                    let end = (start + PIECE_BYTES as usize)
                        .min(file.durable.len())
                        .min(file.current.len());
                    if start < end {
                        file.durable[start..end].copy_from_slice(&file.current[start..end]);
                    }
                }
            }
            result
        })
    }

    fn preallocate(&self, range: Range<u64>) -> io::Result<()> {
        self.with(|disk, id| {
            let faults = disk.faults;
            disk.change(faults.other)?;
            let grows = range.end.saturating_sub(state(disk, id)?.current.len() as u64);
            match faults.room {
                Some(room) if grows > room.saturating_sub(disk.used()) => {
                    Err(io::ErrorKind::StorageFull.into())
                }
                _ => Ok(()),
            }
        })
    }

    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        self.with(|disk, id| {
            let rate = disk.faults.other;
            disk.change(rate)?;
            let file = state(disk, id)?;
            let end = range.end.min(file.current.len() as u64);
            if range.start < end {
                file.current[range.start as usize..end as usize].fill(0);
                file.dirty
                    .extend(range.start / PIECE_BYTES..=(end - 1) / PIECE_BYTES);
            }
            Ok(())
        })
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.with(|disk, id| {
            let rate = disk.faults.other;
            disk.change(rate)?;
            let file = state(disk, id)?;
            let old = file.current.len() as u64;
            file.current.resize(length as usize, 0);
            file.set_lengths.push(length as usize);
            // What is cut off, or grown, differs from the medium until the next sync.
            let (low, high) = (old.min(length), old.max(length));
            if low < high {
                file.dirty.extend(low / PIECE_BYTES..=(high - 1) / PIECE_BYTES);
            }
            Ok(())
        })
    }

    fn length(&self) -> io::Result<u64> {
        self.with(|disk, id| {
            disk.alive()?;
            Ok(state(disk, id)?.current.len() as u64)
        })
    }

    fn modified(&self) -> io::Result<SystemTime> {
        // Time would make runs differ.
        Ok(SystemTime::UNIX_EPOCH)
    }

    fn start_writeback(&self, _range: Range<u64>) {}
}

impl fmt::Debug for FaultyMedium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyMedium").finish_non_exhaustive()
    }
}

impl fmt::Debug for FaultyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyFile").field("id", &self.id).finish()
    }
}
