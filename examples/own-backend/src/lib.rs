//! An archive of one's own, in this one file: a directory that holds a Part 10 file for each instance.
//!
//! All that the archive must remember of an instance stands in the file's name: its place in the order
//! of commits, the checksum of its bytes, and the UIDs of study, series and instance. So there is
//! nothing that could disagree with the files. Made to be read, not to be fast: it blocks the thread
//! that polls it, and it flushes each instance by itself.
//!
//! Run with
//!
//! ```text
//! cargo test -p own-backend
//! ```
//!
//! which holds the archive against every promise of the trait (`archive_conformance!`). Then give it to
//! the engine: `Pacs::open(Arc::new(DirectoryArchive::open(directory)?), index, options)`.

use std::fs::{self, File};
use std::hash::Hasher as _;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use pacs_core::limits::READ_CHUNK_BYTES;
use pacs_core::{
    Archive, ArchiveCapability, ArchiveWriter, Entry, Error, ErrorKind, InstanceKey, Locator, Result,
    Sequence, Stored, Timestamp, Uid,
};
use twox_hash::XxHash3_64;

/// What a file is called until its commit.
const UNFINISHED: &str = "unfinished-";

/// Keeps each instance as a file of one directory.
#[derive(Debug)]
pub struct DirectoryArchive {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    /// Counts files that are being written, for their names.
    unfinished: AtomicU64,
    /// The last sequence that was given out.
    sequence: AtomicU64,
}

/// The name of a file: how an instance is found, and all that is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    sequence: Sequence,
    checksum: u64,
    key: InstanceKey,
}

impl Name {
    /// At most 16 + 16 + 3 * 64 + 4 characters: below what a file system and a locator hold.
    fn text(&self) -> String {
        let InstanceKey {
            study,
            series,
            instance,
        } = self.key;
        format!(
            "{:016x}_{:016x}_{study}_{series}_{instance}",
            self.sequence.0, self.checksum
        )
    }

    /// `None` for what is none of ours: a path that leads elsewhere is never one.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('_');
        let sequence = Sequence(u64::from_str_radix(parts.next()?, 16).ok()?);
        let checksum = u64::from_str_radix(parts.next()?, 16).ok()?;
        let mut uid = || Uid::parse(parts.next()?).ok();
        let key = InstanceKey {
            study: uid()?,
            series: uid()?,
            instance: uid()?,
        };
        let name = Self {
            sequence,
            checksum,
            key,
        };
        (name.text() == text).then_some(name)
    }

    fn of(locator: &Locator) -> Option<Self> {
        std::str::from_utf8(locator.as_bytes()).ok().and_then(Self::parse)
    }
}

impl DirectoryArchive {
    /// Opens the archive in `directory`, which is made when it isn't there.
    ///
    /// # Errors
    /// `Io` when the directory can't be made or read.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self> {
        let directory = directory.into();
        let open = || {
            fs::create_dir_all(&directory)?;
            // The clock, in microseconds, keeps the order growing past what was removed before the
            // last close.
            let mut last = Timestamp::now().0.saturating_mul(1000);
            for entry in fs::read_dir(&directory)? {
                let name = entry?.file_name();
                let name = name.to_string_lossy();
                if name.starts_with(UNFINISHED) {
                    fs::remove_file(directory.join(&*name))?;
                } else if let Some(name) = Name::parse(&name) {
                    last = last.max(name.sequence.0);
                }
            }
            Ok(last)
        };
        let last = open().map_err(io_error("archive.open"))?;
        let shared = Shared {
            directory,
            unfinished: AtomicU64::new(0),
            sequence: AtomicU64::new(last),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }
}

impl Shared {
    fn next_sequence(&self) -> Sequence {
        Sequence(self.sequence.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn path(&self, locator: &Locator) -> Result<(Name, PathBuf)> {
        let name = Name::of(locator).ok_or_else(not_found)?;
        Ok((name, self.directory.join(name.text())))
    }

    /// Makes names durable that were given or taken away.
    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    fn stored(&self, name: &Name) -> io::Result<Stored> {
        let text = name.text();
        let metadata = fs::metadata(self.directory.join(&text))?;
        let since = metadata
            .modified()?
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(Stored {
            locator: Locator::new(text.as_bytes()),
            length: metadata.len(),
            sequence: name.sequence,
            received: Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        })
    }

    /// All that is kept, in the order of commits.
    fn entries(&self) -> io::Result<Vec<Name>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            names.extend(Name::parse(&entry?.file_name().to_string_lossy()));
        }
        names.sort();
        Ok(names)
    }
}

impl Archive for DirectoryArchive {
    fn capability(&self) -> ArchiveCapability {
        ArchiveCapability {
            durable: true,
            ordered_scan: false,
        }
    }

    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn ArchiveWriter>>> {
        async {
            let number = self.shared.unfinished.fetch_add(1, Ordering::Relaxed);
            let path = self.shared.directory.join(format!("{UNFINISHED}{number}"));
            let file = File::create_new(&path).map_err(io_error("archive.begin"))?;
            let writer = Writer {
                shared: Arc::clone(&self.shared),
                path,
                file,
                checksum: XxHash3_64::new(),
                finished: false,
            };
            Ok(Box::new(writer) as Box<dyn ArchiveWriter>)
        }
        .boxed()
    }

    fn read(&self, locator: &Locator, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        let open = || {
            let (_, path) = self.shared.path(locator)?;
            let mut file = File::open(path).map_err(io_error("archive.read"))?;
            let length = file.metadata().map_err(io_error("archive.read"))?.len();
            let start = range.start.min(length);
            file.seek(SeekFrom::Start(start))
                .map_err(io_error("archive.read"))?;
            Ok(file.take(range.end.saturating_sub(start)))
        };
        let file = match open() {
            Ok(file) => file,
            Err(error) => return stream::iter([Err(error)]).boxed(),
        };
        stream::try_unfold(file, |mut file| async {
            let mut chunk =
                BytesMut::zeroed(READ_CHUNK_BYTES.min(usize::try_from(file.limit()).unwrap_or(usize::MAX)));
            let length = file.read(&mut chunk).map_err(io_error("archive.read"))?;
            chunk.truncate(length);
            Ok((length > 0).then(|| (chunk.freeze(), file)))
        })
        .boxed()
    }

    fn remove(&self, _instance: &Uid, locator: &Locator) -> BoxFuture<'_, Result<Sequence>> {
        let locator = locator.clone();
        async move {
            if let Ok((_, path)) = self.shared.path(&locator) {
                match fs::remove_file(path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    result => result.map_err(io_error("archive.remove"))?,
                }
                self.shared.sync_directory().map_err(io_error("archive.remove"))?;
            }
            Ok(self.shared.next_sequence())
        }
        .boxed()
    }

    fn scan(&self, _after: Sequence) -> BoxStream<'static, Result<Entry>> {
        let shared = Arc::clone(&self.shared);
        let names = match shared.entries() {
            Ok(names) => names,
            Err(error) => return stream::iter([Err(io_error("archive.scan")(error))]).boxed(),
        };
        stream::iter(names)
            .filter_map(move |name| {
                let entry = match shared.stored(&name) {
                    Ok(stored) => Some(Ok(Entry::Stored(name.key, stored))),
                    // Removed since the names were read.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    Err(error) => Some(Err(io_error("archive.scan")(error))),
                };
                async { entry }
            })
            .boxed()
    }

    fn verify(&self, locator: &Locator) -> BoxFuture<'_, Result<()>> {
        let locator = locator.clone();
        async move {
            let (name, path) = self.shared.path(&locator)?;
            match checksum(&path).map_err(io_error("archive.verify"))? {
                checksum if checksum == name.checksum => Ok(()),
                _ => Err(Error::new(
                    ErrorKind::Corrupt,
                    "archive.verify",
                    "the bytes are not those that were written",
                )),
            }
        }
        .boxed()
    }

    fn indexed(&self, _sequence: Sequence) -> BoxFuture<'_, Result<()>> {
        async { Ok(()) }.boxed()
    }
}

/// An instance on its way in: a file of a name that no scan knows.
struct Writer {
    shared: Arc<Shared>,
    path: PathBuf,
    file: File,
    checksum: XxHash3_64,
    finished: bool,
}

impl Writer {
    fn finish(&mut self, key: InstanceKey) -> io::Result<Stored> {
        self.file.sync_all()?;
        let name = Name {
            sequence: self.shared.next_sequence(),
            checksum: self.checksum.finish(),
            key,
        };
        let path = self.shared.directory.join(name.text());
        // The commit: before the rename nothing is there, after it everything is.
        fs::rename(&self.path, &path)?;
        self.path = path;
        self.shared.sync_directory()?;
        let stored = self.shared.stored(&name)?;
        self.finished = true;
        Ok(stored)
    }
}

impl ArchiveWriter for Writer {
    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<()>> {
        async move {
            self.checksum.write(&chunk);
            self.file.write_all(&chunk).map_err(io_error("archive.write"))
        }
        .boxed()
    }

    fn commit(mut self: Box<Self>, key: InstanceKey) -> BoxFuture<'static, Result<Stored>> {
        async move { self.finish(key).map_err(io_error("archive.commit")) }.boxed()
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        // Dropping does it.
        async move {
            drop(self);
            Ok(())
        }
        .boxed()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            // A file that can't be removed now is removed by the next opening.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn checksum(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut checksum = XxHash3_64::new();
    let mut buffer = vec![0; READ_CHUNK_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(checksum.finish()),
            length => checksum.write(&buffer[..length]),
        }
    }
}

fn not_found() -> Error {
    Error::new(ErrorKind::NotFound, "archive.read", "nothing is kept there")
}

/// Names the operation that failed; what isn't there becomes `NotFound`, a full disk `OutOfResources`.
fn io_error(operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| Error::io(operation, "the directory of the archive", error)
}
