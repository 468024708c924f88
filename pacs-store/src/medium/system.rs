//! The operating system's files as a [`Medium`].

use std::any::Any;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{Advice, FallocateFlags, FlockOperation};

use super::{Medium, MediumEntry, MediumFile};

/// A directory of the file system and what is below it.
#[derive(Debug)]
pub struct SystemMedium {
    root: PathBuf,
    /// Kept open: a medium that is unmounted or renamed under us stays the one we opened.
    directory: File,
}

impl SystemMedium {
    /// Opens `root`, and makes it where it isn't there yet.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        create_directory_durably(&root)?;
        let directory = File::open(&root)?;
        Ok(Self { root, directory })
    }
}

/// Makes a directory and syncs the name of each one that was made into the one above.
fn create_directory_durably(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        create_directory_durably(above)?;
    }
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        other => other?,
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    File::open(above.unwrap_or(Path::new(".")))?.sync_all()
}

impl Medium for SystemMedium {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn MediumFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.root.join(path))?;
        Ok(Arc::new(SystemFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn MediumFile>> {
        use io::ErrorKind as E;
        let path = self.root.join(path);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if matches!(error.kind(), E::PermissionDenied | E::ReadOnlyFilesystem) => {
                File::open(path)?
            }
            other => other?,
        };
        Ok(Arc::new(SystemFile(file)))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<MediumEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(self.root.join(directory))? {
            let entry = entry?;
            entries.push(MediumEntry {
                name: entry.file_name(),
                is_directory: entry.file_type()?.is_dir(),
            });
        }
        Ok(entries)
    }

    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        create_directory_durably(&self.root.join(directory))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(self.root.join(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(self.root.join(from), self.root.join(to))
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(self.root.join(directory))?.sync_all()
    }

    fn available_bytes(&self) -> io::Result<u64> {
        let status = rustix::fs::fstatvfs(&self.directory)?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.root.join(path))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(SystemLock(file)))
    }
}

/// The lock on a file. It is given back as such, and not only closed: a process that is about to be started has what this
/// one had open until then, and the lock would stay as long.
struct SystemLock(File);

impl Drop for SystemLock {
    fn drop(&mut self) {
        // Where it fails, closing does the same.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

#[derive(Debug)]
struct SystemFile(File);

impl MediumFile for SystemFile {
    fn write_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.0, pieces, offset)?)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pread(&self.0, into, offset)?)
    }

    fn append_from(&self, into: &mut Vec<u8>, length: usize, offset: u64) -> io::Result<usize> {
        if length == 0 {
            return Ok(0);
        }
        into.reserve_exact(length);
        if into.capacity() - into.len() != length {
            // More room than was asked for: read what was asked for and no more.
            let start = into.len();
            into.resize(start + length, 0);
            let result = self.read_at(&mut into[start..], offset);
            into.truncate(start + result.as_ref().copied().unwrap_or(0));
            return result;
        }
        let spare = rustix::buffer::spare_capacity(into);
        Ok(rustix::io::pread(&self.0, spare, offset)?)
    }

    #[cfg(target_os = "linux")]
    fn read_cached_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        use rustix::io::{Errno, ReadWriteFlags, preadv2};
        match preadv2(
            &self.0,
            &mut [io::IoSliceMut::new(into)],
            offset,
            ReadWriteFlags::NOWAIT,
        ) {
            // Not every file system, and no old kernel, can tell.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(io::ErrorKind::WouldBlock.into()),
            other => Ok(other?),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.0)?)
    }

    fn preallocate(&self, range: Range<u64>) -> io::Result<()> {
        match fallocate(&self.0, FallocateFlags::KEEP_SIZE, range) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            other => other,
        }
    }

    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        fallocate(
            &self.0,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            range,
        )
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn modified(&self) -> io::Result<SystemTime> {
        self.0.metadata()?.modified()
    }

    fn start_writeback(&self, range: Range<u64>) {
        // On Linux this starts the writeback of the dirty pages in the range and drops only those that
        // are clean already, which just-written ones are not.
        if let Some(length) = NonZeroU64::new(range.end.saturating_sub(range.start)) {
            let _ = rustix::fs::fadvise(&self.0, range.start, Some(length), Advice::DontNeed);
        }
    }
}

fn fallocate(file: &File, flags: FallocateFlags, range: Range<u64>) -> io::Result<()> {
    let length = range.end.saturating_sub(range.start);
    if length == 0 {
        return Ok(());
    }
    Ok(rustix::fs::fallocate(file, flags, range.start, length)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_given_back_also_where_a_process_that_is_being_started_has_its_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let medium = SystemMedium::open(directory.path()).expect("opens");
        let lock = medium.lock(Path::new("lock")).expect("is free");
        let lock = lock.downcast::<SystemLock>().expect("its own kind");
        let of_child = lock.0.try_clone().expect("is one more of the same");
        assert!(medium.lock(Path::new("lock")).is_err());
        drop(lock);
        drop(medium.lock(Path::new("lock")).expect("is free again"));
        drop(of_child);
    }
}
