//! Messages of processes that don't have the log open, left for the one that has.

use std::io;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::mpsc::sync_channel;
use std::time::SystemTime;

use pacs_core::Result;
use pacs_core::audit::{AuditSource, Message};

use super::committer::{Reply, Waiting};
use super::{AuditLog, failed, gone, make_private, write_whole};
use crate::medium::{Medium, SystemMedium, read_exact_at};

const DIRECTORY: &str = "handed-in";
/// Of what is whole; until then it is called something else.
const ENDING: &str = "xml";

/// Leaves a message for the log in a directory, where another process has that open: it takes the message into the chain
/// with [`AuditLog::take_in`]. When this returns it is on stable storage.
///
/// # Errors
/// `Io` when it can't be written.
pub fn hand_in(directory: &Path, source: &AuditSource, message: &Message) -> Result<()> {
    let io = |error| failed("audit.hand_in", error);
    let medium = SystemMedium::open(directory.to_owned()).map_err(io)?;
    make_private(&directory.join(DIRECTORY)).map_err(io)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let name = format!(
        "{:024}-{}",
        now.unwrap_or_default().as_nanos(),
        std::process::id()
    );
    for (number, document) in message.documents(source).iter().enumerate() {
        // Taken in by the order of their names.
        let whole = Path::new(DIRECTORY).join(format!("{name}-{number}.{ENDING}"));
        let new = whole.with_extension("new");
        let file = medium.create(&new).map_err(io)?;
        write_whole(&*file, document.as_bytes(), 0).map_err(io)?;
        file.sync_data().map_err(io)?;
        medium.rename(&new, &whole).map_err(io)?;
    }
    medium.sync_directory(Path::new(DIRECTORY)).map_err(io)
}

impl AuditLog {
    /// Records what others have [handed in](hand_in), in its order, and answers how many messages these were. What a death
    /// interrupts is recorded again rather than lost.
    ///
    /// # Errors
    /// `Io` and others when the disk fails: what isn't recorded stays where it is.
    pub fn take_in(&self) -> Result<usize> {
        let io = |error| failed("audit.take_in", error);
        // Two at once would record the same.
        let _alone = self.taking_in.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = match self.medium.list(Path::new(DIRECTORY)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries.map_err(io)?,
        };
        let mut paths: Vec<_> = entries
            .iter()
            .map(|entry| Path::new(DIRECTORY).join(&entry.name))
            .filter(|path| path.extension().is_some_and(|ending| ending == ENDING))
            .collect();
        paths.sort();
        for path in &paths {
            let file = self.medium.open(path).map_err(io)?;
            let length = file.length().map_err(io)?;
            let mut document = Vec::new();
            read_exact_at(&*file, &mut document, length as usize, 0).map_err(io)?;
            // Whatever it is, it must not stand in the way of those behind it.
            let document = String::from_utf8_lossy(&document).into_owned();
            let (sender, receiver) = sync_channel(1);
            self.queue.push(Waiting {
                documents: vec![document],
                reply: Reply::Blocking(sender),
            });
            receiver.recv().unwrap_or_else(|_| Err(gone()))?;
            self.medium.remove(path).map_err(io)?;
        }
        if !paths.is_empty() {
            self.medium.sync_directory(Path::new(DIRECTORY)).map_err(io)?;
        }
        Ok(paths.len())
    }
}
