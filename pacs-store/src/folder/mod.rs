//! The folder archive: one Part 10 file per instance. See [`FolderArchive`].

mod path;
mod scan;
mod writer;

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use pacs_core::limits::READ_CHUNK_BYTES;
use pacs_core::{
    Archive, ArchiveCapability, ArchiveWriter, Entry, Error, ErrorKind, Locator, Result, Sequence, Timestamp,
    Uid,
};

use crate::medium::{Medium, MediumFile, SystemMedium};
use crate::pool::Pool;

/// How a [`FolderArchive`] is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderOptions {
    /// Writing is refused when the medium has less room than this.
    pub reserve_bytes: u64,
    /// Threads that read and write.
    pub threads: usize,
    /// What is kept are no DICOM files: a layer makes something else of them, as
    /// [`EncryptedArchive`](crate::EncryptedArchive) does. They are named `INSTANCE.sealed`, and a scan takes the UIDs
    /// from their path. DICOM files that are there are found as ever. Where this isn't set, a scan that comes upon such
    /// a file is `Refused`.
    pub sealed: bool,
}

impl Default for FolderOptions {
    fn default() -> Self {
        Self {
            reserve_bytes: 256 << 20,
            threads: 8,
            sealed: false,
        }
    }
}

/// An archive of plain files: `STUDY/SERIES/INSTANCE.dcm` below one directory, named by the UIDs.
///
/// For people who want plain files, and to adopt a folder that is there: a scan yields every file that
/// is a DICOM instance, whatever its name. Such files are read in place and never written to; one is
/// deleted when it is removed through the archive.
///
/// - Each commit costs a new file, its sync and that of its directory: the segment archive is two to
///   four times as fast.
/// - There are no checksums: [`verify`](Archive::verify) finds what can't be read, not what was changed.
/// - A file whose path is longer than a locator can be, 255 bytes, is left out, and the log says so.
/// - Files that change behind the archive's back are found by a new scan (`rebuild-index`) only.
///
/// What is being written lies in `.pacs/incoming` until its commit.
pub struct FolderArchive {
    folder: Arc<Folder>,
    /// Released last.
    _lock: Box<dyn Any + Send + Sync>,
}

/// What the archive, its writers and its streams share.
struct Folder {
    medium: Arc<dyn Medium>,
    options: FolderOptions,
    /// Numbers what is being written.
    incoming: AtomicU64,
    sequence: AtomicU64,
    /// Held while a free name is looked for and taken.
    naming: Mutex<()>,
    pool: Pool,
}

fn not_found() -> Error {
    Error::new(
        ErrorKind::NotFound,
        "archive.read",
        "nothing is kept at this locator",
    )
}

fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "the archive is closed")
}

/// Sequences follow the clock, so that they grow over restarts without being kept anywhere.
fn sequence_at(time: Timestamp) -> Sequence {
    Sequence(time.0 << 16)
}

impl FolderArchive {
    /// Opens a directory of the file system, and makes it where there is none. What an earlier process
    /// left without commit is deleted.
    ///
    /// # Errors
    /// `Refused` when another process has it open, `Io` when the directory can't be used.
    pub fn open(directory: impl Into<PathBuf>, options: FolderOptions) -> Result<Self> {
        let medium = SystemMedium::open(directory)
            .map_err(|error| Error::io("archive.open", "can't open the archive's directory", error))?;
        Self::open_on(Arc::new(medium), options)
    }

    /// As [`open`](Self::open), on any medium.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(medium: Arc<dyn Medium>, options: FolderOptions) -> Result<Self> {
        let failed = |error| Error::io("archive.open", "can't open the archive", error);
        medium
            .create_directory(Path::new(path::INCOMING))
            .map_err(failed)?;
        let lock = medium.lock(Path::new(path::LOCK)).map_err(|error| {
            let busy = "the archive is open in another process";
            match error.kind() {
                std::io::ErrorKind::WouldBlock => Error::new(ErrorKind::Refused, "archive.open", busy),
                _ => failed(error),
            }
        })?;
        for entry in medium.list(Path::new(path::INCOMING)).map_err(failed)? {
            medium
                .remove(&Path::new(path::INCOMING).join(entry.name))
                .map_err(failed)?;
        }
        let folder = Folder {
            medium,
            options,
            incoming: AtomicU64::new(0),
            sequence: AtomicU64::new(sequence_at(Timestamp::now()).0),
            naming: Mutex::new(()),
            pool: Pool::new("archive-folder", options.threads).map_err(failed)?,
        };
        Ok(Self {
            folder: Arc::new(folder),
            _lock: lock,
        })
    }
}

impl Drop for FolderArchive {
    fn drop(&mut self) {
        self.folder.pool.close();
    }
}

impl fmt::Debug for FolderArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FolderArchive")
            .field("medium", &self.folder.medium)
            .finish_non_exhaustive()
    }
}

impl Folder {
    fn next_sequence(&self) -> Sequence {
        Sequence(self.sequence.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn open_file(&self, path: &Path) -> Result<(Arc<dyn MediumFile>, u64)> {
        use std::io::ErrorKind as E;
        let opened = self.medium.open(path).and_then(|file| {
            let length = file.length()?;
            Ok((file, length))
        });
        opened.map_err(|error| match error.kind() {
            E::NotFound | E::IsADirectory | E::NotADirectory | E::InvalidFilename => not_found(),
            _ => Error::io("archive.read", "the medium did not give the instance", error),
        })
    }

    fn remove_file(&self, path: &Path) -> std::io::Result<()> {
        match self.medium.remove(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            // No file, so nothing that is kept.
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::IsADirectory => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.medium.sync_directory(path.parent().unwrap_or(Path::new(""))),
        }
    }
}

/// A stream over one file.
struct Reading {
    folder: Arc<Folder>,
    path: PathBuf,
    range: Range<u64>,
    file: Option<Arc<dyn MediumFile>>,
    ended: bool,
}

impl Reading {
    /// The next piece; empty at the end.
    fn read(&mut self) -> Result<Bytes> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => {
                let (file, length) = self.folder.open_file(&self.path)?;
                self.range = self.range.start.min(length)..self.range.end.min(length);
                self.file = Some(Arc::clone(&file));
                file
            }
        };
        let left = self.range.end.saturating_sub(self.range.start);
        let mut bytes = Vec::new();
        file.append_from(
            &mut bytes,
            left.min(READ_CHUNK_BYTES as u64) as usize,
            self.range.start,
        )
        .map_err(|error| Error::io("archive.read", "the medium did not give the instance", error))?;
        if bytes.is_empty() && left > 0 {
            let why = "the file has become shorter";
            return Err(Error::new(ErrorKind::Corrupt, "archive.read", why));
        }
        self.range.start += bytes.len() as u64;
        Ok(bytes.into())
    }
}

impl Archive for FolderArchive {
    fn capability(&self) -> ArchiveCapability {
        ArchiveCapability {
            durable: true,
            ordered_scan: false,
        }
    }

    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn ArchiveWriter>>> {
        async move {
            let available =
                self.folder.medium.available_bytes().map_err(|error| {
                    Error::io("archive.begin", "can't ask the medium for its room", error)
                })?;
            if available < self.folder.options.reserve_bytes {
                let why = "less room is left than is reserved";
                return Err(Error::new(ErrorKind::OutOfResources, "archive.begin", why));
            }
            let writer = writer::Writer::new(Arc::clone(&self.folder));
            Ok(Box::new(writer) as Box<dyn ArchiveWriter>)
        }
        .boxed()
    }

    fn read(&self, locator: &Locator, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        let Some(path) = path::from_locator(locator) else {
            return stream::once(std::future::ready(Err(not_found()))).boxed();
        };
        let reading = Reading {
            folder: Arc::clone(&self.folder),
            path,
            range,
            file: None,
            ended: false,
        };
        stream::unfold(reading, |mut reading| async move {
            if reading.ended {
                return None;
            }
            let folder = Arc::clone(&reading.folder);
            let read = folder.pool.run(move || {
                let piece = reading.read();
                (reading, piece)
            });
            // A closed archive ends the stream with one error.
            let Ok((mut reading, piece)) = read.await else {
                return None;
            };
            reading.ended = piece.is_err();
            match piece {
                Ok(piece) if piece.is_empty() => None,
                piece => Some((piece, reading)),
            }
        })
        .boxed()
    }

    fn remove(&self, _instance: &Uid, locator: &Locator) -> BoxFuture<'_, Result<Sequence>> {
        let path = path::from_locator(locator);
        async move {
            if let Some(path) = path {
                let folder = Arc::clone(&self.folder);
                self.folder
                    .pool
                    .run(move || folder.remove_file(&path))
                    .await
                    .map_err(|_| closed("archive.remove"))?
                    .map_err(|error| Error::io("archive.remove", "the medium failed", error))?;
            }
            Ok(self.folder.next_sequence())
        }
        .boxed()
    }

    fn scan(&self, _after: Sequence) -> BoxStream<'static, Result<Entry>> {
        scan::stream(Arc::clone(&self.folder))
    }

    fn verify(&self, locator: &Locator) -> BoxFuture<'_, Result<()>> {
        // There is no checksum to compare with: it is readable, or not.
        self.read(locator, 0..u64::MAX)
            .try_for_each(|_| std::future::ready(Ok(())))
            .boxed()
    }

    fn indexed(&self, _sequence: Sequence) -> BoxFuture<'_, Result<()>> {
        std::future::ready(Ok(())).boxed()
    }
}
