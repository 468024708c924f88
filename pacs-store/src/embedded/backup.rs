//! Backups of a store, and having one again.
//!
//! ```text
//! DATA/backup/id            what tells the backup of this archive from others
//! DATA/backup/mark          where its last increment is: a directory without it is not the backup, so that a disk that is away
//!                           is noticed
//! DATA/backup/archive       which archive in an object store it is
//! DATA/backup/ledger.redb   the ledger at one moment, for the next increment
//! DATA/restoring            a restore did not end
//! DIRECTORY/archive/        the backup, as a segment archive
//! ```
//!
//! It is only open while an increment is made.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt, stream};
use pacs_core::{Archive, Error, ErrorKind, Result, Timestamp};
use serde::Deserialize;

use super::ledger_copy::LedgerCopy;
use super::objects::{self, ObjectLocation};
use super::{
    LEDGER, Settings, Store, check_apart, failed, file_pieces, holds_only, noted, unguarded, write_whole,
};
use crate::backup::{Backup, BackupFile, BackupVerified, Increment, Mark, Restored};
use crate::layers::encrypt::{FileKeys, random_number};
use crate::{RedbLedger, SegmentArchive, SegmentOptions};

const OPERATION: &str = "store.backup";

const KNOWN: &str = "backup";
const ID: &str = "id";
const MARK: &str = "mark";
const ARCHIVE: &str = "archive";
const RESTORING: &str = "restoring";
/// A file that is not restored to its end.
const UNNAMED: &str = "restoring-file";
/// What says with which keys the archive was encrypted.
const ENCRYPTION: &str = "encryption";

/// Where a backup is. One of the two is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BackupPlace {
    /// A directory, on another disk.
    pub directory: Option<PathBuf>,
    /// Or an object store.
    pub objects: Option<ObjectLocation>,
}

impl BackupPlace {
    /// # Errors
    /// `Invalid` unless it says in one way where the backup is.
    pub fn check(&self) -> Result<()> {
        let is_empty = |directory: &PathBuf| directory.as_os_str().is_empty();
        let is_one = self.directory.is_some() != self.objects.is_some();
        match is_one && !self.directory.as_ref().is_some_and(is_empty) {
            true => Ok(()),
            false => {
                let why = "backup: one of directory and objects says where it is";
                Err(Error::new(ErrorKind::Invalid, "store.settings", why))
            }
        }
    }

    /// Every increment of the backup that is there, the first one first. Blocks.
    ///
    /// # Errors
    /// `NotFound` when there is none, `Refused` when another process has it open; what the archive says.
    pub fn increments(&self) -> Result<Vec<Increment>> {
        block_on(self.open()?.increments())
    }

    /// Compares everything that any increment names with the checksums that were made when it was written. Blocks.
    ///
    /// # Errors
    /// As [`increments`](Self::increments).
    pub fn verify(&self, progress: impl FnMut(u64)) -> Result<BackupVerified> {
        block_on(self.open()?.verify(progress))
    }

    /// The backup that is there, whosever it is.
    fn open(&self) -> Result<Backup> {
        self.check()?;
        let archive = match (&self.objects, &self.directory) {
            (Some(location), _) => objects::open_present(location)?,
            (None, directory) => {
                let directory = directory.as_deref().unwrap_or(Path::new("."));
                check_is_there(directory)?;
                segments(directory)?
            }
        };
        block_on(Backup::open(archive, None))
    }
}

/// The copy of the ledger that the next increment takes along.
pub(super) fn ledger_copy(data: &Path, ledger: &Arc<RedbLedger>, keys: Option<&Arc<FileKeys>>) -> LedgerCopy {
    LedgerCopy::new(ledger, keys, data.join(KNOWN).join(LEDGER))
}

fn bring_up_ledger(copy: &LedgerCopy) -> Result<()> {
    let path = copy.path();
    if !path.exists() {
        copy.forget();
    }
    // A new one is smaller than one that was written over, and whole.
    let made = copy.bring_up(|| match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(OPERATION, path, error)),
        _ => Ok(()),
    });
    made.map(drop)
}

impl Store {
    /// Makes an increment of the backup at `place`, which is begun where there is none: what was acknowledged before this is
    /// called is in it when it returns. The engine serves meanwhile; it blocks in places, and is best awaited on a thread of its own.
    /// `files` of the data directory go along, where they are there; the ledger does by itself, where it is a file.
    ///
    /// What is encrypted is so in the backup too, under the same keys, which are not in it.
    ///
    /// # Errors
    /// - `Unsupported` of a store in memory, of a file for each instance, and of an archive that has no order.
    /// - `Invalid` when the place can't be one: inside the data directory, or not to be made.
    /// - `NotFound` when the backup is not where it was, `Mismatch` when what is there is another's, or the archive is not the
    ///   one that it is of; `Refused` when another process has it open.
    /// - What the archives say. What was copied until then is not copied again.
    pub async fn back_up(&self, place: &BackupPlace, files: &[&str]) -> Result<Increment> {
        place.check()?;
        let (Some(data), Some(archive)) = (&self.directory, &self.as_it_lies) else {
            let why = "there are backups of stores in a data directory that are opened by their settings";
            return Err(Error::new(ErrorKind::Unsupported, OPERATION, why));
        };
        if !archive.capability().ordered_scan {
            let why = "where each instance is a file, every program that copies files backs them up";
            return Err(Error::new(ErrorKind::Unsupported, OPERATION, why));
        }
        let known = data.join(KNOWN);
        fs::create_dir_all(&known).map_err(|error| failed(OPERATION, &known, error))?;
        let mut backup = open(data, &known, place).await?;
        let mut along = Vec::new();
        if let Some(copy) = &self.ledger_for_backup {
            bring_up_ledger(copy)?;
            along.push(file(LEDGER, copy.path().to_owned()));
        }
        for name in [ENCRYPTION].iter().chain(files) {
            let path = data.join(name);
            if path.is_file() {
                along.push(file(name, path));
            }
        }
        let increment = backup.increment(&**archive, &along).await?;
        let Mark(mark) = backup.mark();
        note(&known, MARK, &mark)?;
        Ok(increment)
    }

    /// Makes the data directory of `settings`, which is not there or empty, what it was at an increment of the backup at
    /// `from`: the last that was begun no later than `at`, or the last of all. Blocks. `progress` hears how many instances
    /// were written. The index is made when it is opened for the first time.
    ///
    /// # Errors
    /// - `Mismatch` when there is something in the data directory, `Invalid` when the settings keep nothing there.
    /// - `NotFound` when there is no backup, or no increment so early.
    /// - What the archives say. Then the data directory is not opened, and has to be removed.
    pub fn restore(
        settings: &Settings,
        from: &BackupPlace,
        at: Option<Timestamp>,
        progress: impl FnMut(u64),
    ) -> Result<(Increment, Restored)> {
        settings.check()?;
        let (Some(data), Some(directory)) = (settings.directory(), settings.archive_directory()) else {
            let why = "a store in memory is not restored";
            return Err(Error::new(ErrorKind::Invalid, OPERATION, why));
        };
        if fs::exists(data).unwrap_or(true) && !holds_only(data, &[]).unwrap_or(false) {
            let what = format!(
                "{} is not empty: a restore makes a new data directory",
                data.display()
            );
            return Err(Error::new(ErrorKind::Mismatch, OPERATION, what));
        }
        if let Some(directory) = &from.directory {
            check_apart(data, directory, "backup")?;
        }
        let backup = from.open()?;
        let Some(increment) = block_on(backup.increment_at(at))? else {
            let why = "the backup has no increment that was begun so early";
            return Err(Error::new(ErrorKind::NotFound, OPERATION, why));
        };
        // Noted first: what is half restored is never taken for an archive.
        fs::create_dir_all(data).map_err(|error| failed(OPERATION, data, error))?;
        let restoring = note(data, RESTORING, "")?;
        fs::create_dir_all(&directory).map_err(|error| failed(OPERATION, &directory, error))?;
        let archive = match &settings.objects {
            // One that is there is left alone, and who has it open too.
            Some(location) => objects::open(location, &directory, true)?,
            None => unguarded(settings, data, &directory)?,
        };
        let mut restored = block_on(backup.restore(increment.number, &*archive, progress))?;
        for name in increment.files() {
            match restore_file(&backup, &increment, name, data) {
                // All else is there.
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::error!(name, %error, "the backup does not give a file");
                    restored.damaged_files.push(name.to_owned());
                }
                restored => restored?,
            }
        }
        drop(archive);
        let _ = fs::remove_file(data.join(UNNAMED));
        let ended = fs::remove_file(&restoring).and_then(|()| fs::File::open(data)?.sync_all());
        ended.map_err(|error| failed(OPERATION, &restoring, error))?;
        Ok((increment, restored))
    }
}

/// # Errors
/// `Refused` when a restore of this data directory did not end.
pub(super) fn check_is_whole(data: &Path) -> Result<()> {
    match data.join(RESTORING).exists() {
        true => {
            let what = format!(
                "a restore into {} did not end; it is to be removed, and restored again",
                data.display()
            );
            Err(Error::new(ErrorKind::Refused, "store.open", what))
        }
        false => Ok(()),
    }
}

/// Writes a note; answers where.
fn note(directory: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    write_whole(&path, text).map_err(|error| failed(OPERATION, &path, error))?;
    Ok(path)
}

/// The backup of this data directory, which is begun where there was none.
async fn open(data: &Path, known: &Path, place: &BackupPlace) -> Result<Backup> {
    let mark = noted(OPERATION, &known.join(MARK))?.map(Mark);
    let elsewhere = |is: String| {
        let what = format!(
            "{is}. Is its disk mounted? Only where it is gone for good, a new one is begun when {} is removed",
            known.display()
        );
        Error::new(ErrorKind::NotFound, OPERATION, what)
    };
    if mark.is_some() && known.join(ARCHIVE).exists() != place.objects.is_some() {
        return Err(elsewhere(
            "the backup is elsewhere than the settings say".to_owned(),
        ));
    }
    let archive = match (&place.objects, &place.directory) {
        (Some(location), _) => objects::open(location, known, true)?,
        (None, directory) => {
            let directory = directory.as_deref().unwrap_or(Path::new("."));
            check_apart(data, directory, "backup")?;
            match mark {
                Some(_) => {
                    check_is_there(directory).map_err(|error| elsewhere(error.context().to_owned()))?
                }
                // Not with what is above it: where a disk isn't mounted, that is missing too.
                None => match fs::DirBuilder::new().mode(0o700).create(directory) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        let what = format!("{} can't be made: {error}", directory.display());
                        return Err(Error::new(ErrorKind::Invalid, OPERATION, what));
                    }
                    _ if holds_only(directory, &[ARCHIVE]).unwrap_or(false) => {}
                    _ => {
                        let what = format!("{} has something else than a backup", directory.display());
                        return Err(Error::new(ErrorKind::Mismatch, OPERATION, what));
                    }
                },
            }
            segments(directory)?
        }
    };
    let path = known.join(ID);
    let id = match noted(OPERATION, &path)? {
        Some(id) => u128::from_str_radix(id.trim(), 16).map_err(|_| {
            let what = format!("{} is not what it was made as", path.display());
            Error::new(ErrorKind::Corrupt, OPERATION, what)
        })?,
        None => {
            // Noted before the backup has it: what has it then is ours, also after a crash.
            let id = random_number()?;
            note(known, ID, &format!("{id:032x}\n"))?;
            id
        }
    };
    let backup = match Backup::open(Arc::clone(&archive), mark.as_ref()).await {
        Err(error) if error.kind() == ErrorKind::NotFound && mark.is_none() => {
            Backup::begin(archive, id).await?
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(elsewhere("the backup is empty where it should be".to_owned()));
        }
        backup => backup?,
    };
    if backup.id() != id {
        let why = "what is there is the backup of another archive, or of this one before it was restored: a new one is begun \
                   elsewhere";
        return Err(Error::new(ErrorKind::Mismatch, OPERATION, why));
    }
    // From now on it is missed.
    if mark.is_none() {
        let Mark(mark) = backup.mark();
        note(known, MARK, &mark)?;
    }
    Ok(backup)
}

fn check_is_there(directory: &Path) -> Result<()> {
    match directory.join(ARCHIVE).is_dir() {
        true => Ok(()),
        false => {
            let what = format!("there is no backup at {}", directory.display());
            Err(Error::new(ErrorKind::NotFound, OPERATION, what))
        }
    }
}

fn segments(directory: &Path) -> Result<Arc<dyn Archive>> {
    let opened = SegmentArchive::open(directory.join(ARCHIVE), SegmentOptions::default());
    let opened = opened.map_err(|error| match error.kind() {
        ErrorKind::Refused => {
            let what = format!("{} is in use by another process", directory.display());
            Error::new(ErrorKind::Refused, OPERATION, what)
        }
        _ => error,
    })?;
    Ok(Arc::new(opened))
}

fn file(name: &str, path: PathBuf) -> BackupFile {
    BackupFile {
        name: name.to_owned(),
        read: Box::new(move || match file_pieces(&path) {
            Ok(pieces) => stream::iter(pieces).boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }),
    }
}

fn restore_file(backup: &Backup, increment: &Increment, name: &str, data: &Path) -> Result<()> {
    // Who can write a backup does not thereby write elsewhere.
    let mut components = Path::new(name).components();
    let is_plain = matches!(components.next(), Some(Component::Normal(_))) && components.next().is_none();
    let Some(mut pieces) = backup.file(increment, name)?.filter(|_| is_plain) else {
        let why = "a file of the backup has no plain name";
        return Err(Error::new(ErrorKind::Corrupt, OPERATION, why));
    };
    // Whole before it has its name.
    let path = data.join(UNNAMED);
    let write = |file: &mut fs::File, piece: &[u8]| {
        io::Write::write_all(file, piece).map_err(|error| failed(OPERATION, &path, error))
    };
    // Secrets may be in it.
    let mut file = fs::OpenOptions::new()
        .mode(0o600)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .map_err(|error| failed(OPERATION, &path, error))?;
    while let Some(piece) = block_on(pieces.try_next())? {
        write(&mut file, &piece)?;
    }
    let named = file.sync_all().and_then(|()| fs::rename(&path, data.join(name)));
    named.map_err(|error| failed(OPERATION, &path, error))
}

#[cfg(test)]
mod tests;
