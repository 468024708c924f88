//! Messages of processes that don't have the log open, left for the one that has.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant, SystemTime};

use pacs_core::Result;
use pacs_core::audit::{AuditSource, AuditTrail, Message};
use pacs_core::limits::AUDIT_DOCUMENT_LENGTH_MAX_BYTES;

use super::committer::{Reply, Waiting};
use super::{AuditLog, Durability, failed, gone, make_private, write_whole};
use crate::medium::{Medium, SystemMedium, read_exact_at};

const DIRECTORY: &str = "handed-in";
/// Of what is whole; until then it is called something else.
const ENDING: &str = "xml";
/// After so long what was written is synced: see [`Durability::Written`].
const WRITTEN_DURABLE_AFTER: Duration = Duration::from_secs(2);

/// A trail beside a process that has the log in a directory open: it leaves messages for that, which takes them into the chain
/// with [`AuditLog::take_in`]. A message counts as recorded when it is on stable storage there. Files are of the owner of the
/// directory, so that a server takes in what a command left as root.
#[derive(Debug)]
pub struct HandIn {
    directory: PathBuf,
    source: AuditSource,
}

impl HandIn {
    /// For the log in this directory; `source` is who reports.
    pub fn new(directory: impl Into<PathBuf>, source: AuditSource) -> Self {
        Self {
            directory: directory.into(),
            source,
        }
    }

    fn leave(&self, message: &Message) -> io::Result<()> {
        let medium = SystemMedium::open(self.directory.clone())?;
        make_private(&self.directory.join(DIRECTORY))?;
        self.give_to_owner(Path::new(DIRECTORY))?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let name = format!(
            "{:024}-{}",
            now.unwrap_or_default().as_nanos(),
            std::process::id()
        );
        let documents = message.documents(&self.source);
        // Taken in by the order of their names.
        let names = (0..documents.len()).map(|number| format!("{name}-{number:06}.{ENDING}"));
        let paths: Vec<PathBuf> = names.map(|name| Path::new(DIRECTORY).join(name)).collect();
        for (path, document) in paths.iter().zip(&documents) {
            let new = path.with_extension("new");
            let file = medium.create(&new)?;
            write_whole(&*file, document.as_bytes(), 0)?;
            file.sync_data()?;
            self.give_to_owner(&new)?;
        }
        // All of them are there by now.
        for path in &paths {
            medium.rename(&path.with_extension("new"), path)?;
        }
        medium.sync_directory(Path::new(DIRECTORY))
    }

    fn give_to_owner(&self, path: &Path) -> io::Result<()> {
        let (owner, path) = (fs::metadata(&self.directory)?, self.directory.join(path));
        match fs::metadata(&path)?.uid() == owner.uid() {
            true => Ok(()),
            false => chown(&path, Some(owner.uid()), Some(owner.gid())),
        }
    }
}

impl AuditTrail for HandIn {
    fn record(&self, message: &Message) -> Result<()> {
        self.leave(message)
            .map_err(|error| failed("audit.hand_in", error))
    }
}

/// What was recorded and is still there, with the time that it was recorded at.
pub(super) type Taken = HashMap<PathBuf, Instant>;

impl AuditLog {
    /// Records what others have [handed in](HandIn), in its order, and answers how many messages these were. What a death
    /// interrupts is recorded again rather than lost. What is no message is put aside, as `.bad`, and told in the log.
    ///
    /// # Errors
    /// `Io` and others when the disk fails: what isn't recorded stays where it is.
    pub fn take_in(&self) -> Result<usize> {
        let io = |error| failed("audit.take_in", error);
        // Two at once would record the same.
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut paths = match self.medium.list(Path::new(DIRECTORY)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries.map_err(io)?,
        };
        paths.retain(|entry| !entry.is_directory);
        let paths = paths.iter().map(|entry| Path::new(DIRECTORY).join(&entry.name));
        let mut paths: Vec<_> = paths
            .filter(|path| path.extension().is_some_and(|ending| ending == ENDING))
            .filter(|path| !taken.contains_key(path))
            .collect();
        paths.sort();
        let mut count = 0;
        for path in paths {
            let Some(document) = self.handed_in(&path).map_err(io)? else {
                tracing::error!("what was handed in for audit is no message, and is put aside");
                self.medium
                    .rename(&path, &path.with_extension("bad"))
                    .map_err(io)?;
                continue;
            };
            let (sender, receiver) = sync_channel(1);
            self.queue.push(Waiting {
                documents: vec![document],
                reply: Reply::Blocking(sender),
            });
            receiver.recv().unwrap_or_else(|_| Err(gone()))?;
            taken.insert(path, Instant::now());
            count += 1;
        }
        let durable_after = match self.durability {
            Durability::Synced => Duration::ZERO,
            Durability::Written => WRITTEN_DURABLE_AFTER,
        };
        self.remove_taken(&mut taken, durable_after).map_err(io)?;
        Ok(count)
    }

    /// The message in a file, where it is one.
    fn handed_in(&self, path: &Path) -> io::Result<Option<String>> {
        let file = self.medium.open(path)?;
        let length = file.length()?;
        if length == 0 || length > AUDIT_DOCUMENT_LENGTH_MAX_BYTES as u64 {
            return Ok(None);
        }
        let mut document = Vec::new();
        read_exact_at(&*file, &mut document, length as usize, 0)?;
        Ok(String::from_utf8(document).ok())
    }

    /// Takes away what is on stable storage in the log, since so long.
    pub(super) fn remove_taken(&self, taken: &mut Taken, since: Duration) -> io::Result<()> {
        let durable = |at: &Instant| at.elapsed() >= since;
        let paths: Vec<PathBuf> = taken
            .iter()
            .filter(|(_, at)| durable(at))
            .map(|(path, _)| path.clone())
            .collect();
        for path in &paths {
            match self.medium.remove(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => taken.remove(path),
            };
        }
        match paths.is_empty() {
            true => Ok(()),
            false => self.medium.sync_directory(Path::new(DIRECTORY)),
        }
    }
}
