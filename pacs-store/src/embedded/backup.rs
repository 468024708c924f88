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
use std::sync::{Arc, Mutex, PoisonError};

use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt, stream};
use pacs_core::route::beside_another_archive;
use pacs_core::{Archive, Error, ErrorKind, Result, Timestamp};
use serde::Deserialize;

use super::objects::{self, ObjectLocation};
use super::{LEDGER, Settings, Store, check_apart, failed, file_pieces, noted, unguarded, write_whole};
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

/// The ledger of the data directory, to be copied.
pub(super) struct LedgerFile {
    pub(super) ledger: Arc<RedbLedger>,
    pub(super) keys: Option<Arc<FileKeys>>,
    /// How far the ledger was when it was copied last.
    pub(super) copied: Mutex<Option<u64>>,
}

impl LedgerFile {
    /// Has a copy of one moment at `path`.
    fn copy_to(&self, path: &Path) -> Result<()> {
        let mut copied = self.copied.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = self.ledger.changes();
        if *copied == Some(changes) && path.exists() {
            return Ok(());
        }
        // It is a copy, and a new one is smaller than one that was written over, and whole.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(OPERATION, path, error));
            }
            _ => {}
        }
        let copy = match &self.keys {
            Some(keys) => RedbLedger::open_encrypted(path, Arc::clone(keys)),
            None => RedbLedger::open(path),
        };
        self.ledger.copy_to(&copy?, beside_another_archive)?;
        *copied = Some(changes);
        Ok(())
    }
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
        if let Some(ledger) = &self.ledger_file {
            let path = known.join(LEDGER);
            ledger.copy_to(&path)?;
            along.push(file(LEDGER, path));
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
        let is_something = fs::read_dir(data)
            .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name() != *"lost+found"));
        if is_something {
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
                    _ if is_free(directory) => {}
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

/// Whether there is nothing, but for a backup, and a file system.
fn is_free(directory: &Path) -> bool {
    let is_ours = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            [ARCHIVE, "lost+found"]
                .iter()
                .any(|name| entry.file_name() == *name)
        })
    };
    fs::read_dir(directory).is_ok_and(|mut entries| entries.all(is_ours))
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
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use bytes::Bytes;
    use pacs_core::route::{Delivery, Occasion, Outcome, Progress, What};
    use pacs_core::{Options, Step, Uid};
    use tempfile::TempDir;

    use super::super::tests::{contents, keep_all, settings};
    use super::super::{ArchiveKind, Encryption};
    use super::*;
    use crate::layers::encrypt::KeyFile;

    fn directory(place: &TempDir, name: &str) -> BackupPlace {
        BackupPlace {
            directory: Some(place.path().join(name)),
            objects: None,
        }
    }

    fn open(settings: &Settings) -> Store {
        Store::open_or_make(settings, Options::default()).expect("opens")
    }

    fn at(place: &TempDir, name: &str) -> Settings {
        settings(&place.path().join(name), ArchiveKind::Segment)
    }

    #[test]
    fn a_store_is_what_it_was_at_each_moment_also_where_it_is_encrypted() {
        for is_encrypted in [false, true] {
            let place = tempfile::tempdir().expect("a directory");
            let mut here = at(&place, "data");
            if is_encrypted {
                KeyFile::new(place.path().join("keys")).add().expect("is made");
                here.encryption = Some(Encryption {
                    key_file: Some(place.path().join("keys")),
                    ..Encryption::default()
                });
            }
            let backup = directory(&place, "backup");
            let (key, value) = (Bytes::from_static(b"key"), Bytes::from_static(b"value"));
            let [first, second] = {
                let store = open(&here);
                keep_all(&store, 0..20);
                fs::write(here.data.join("users"), "somebody").expect("is written");
                let ledger = store.pacs.ledger().expect("there is one");
                block_on(ledger.apply(vec![Step::Put(key.clone(), value.clone())])).expect("is applied");
                let first = block_on(store.back_up(&backup, &["users", "none"])).expect("is made");
                assert_eq!((first.number, first.instances), (1, 20));
                let first = (first.at, contents(&store), Some(value.clone()));
                assert!(block_on(store.pacs.remove(&Uid::constant("1.2.3.7"))).expect("is removed"));
                keep_all(&store, 20..25);
                block_on(ledger.apply(vec![Step::Delete(key.clone())])).expect("is applied");
                while Timestamp::now() <= first.0 {}
                let second = block_on(store.back_up(&backup, &["users"])).expect("is made");
                assert_eq!((second.number, second.instances, second.removed), (2, 5, 1));
                [first, (second.at, contents(&store), None)]
            };
            fs::remove_dir_all(&here.data).expect("is removed");
            for ((at, expected, value), moment) in [(&first, Some(first.0)), (&second, None)] {
                let (increment, restored) =
                    Store::restore(&here, &backup, moment, |_| ()).expect("is restored");
                assert_eq!(increment.at, *at);
                assert_eq!((restored.instances, restored.damaged), (expected.len() as u64, 0));
                let users = here.data.join("users");
                assert_eq!(fs::read(&users).expect("is read"), b"somebody");
                let mode = fs::metadata(&users).expect("is there").permissions().mode();
                assert_eq!(mode & 0o777, 0o600);
                let store = open(&here);
                assert_eq!(contents(&store), *expected);
                let found = block_on(store.pacs.ledger().expect("there is one").get(&key));
                assert_eq!(found.expect("is read"), *value);
                // It is another archive now.
                let refused = block_on(store.back_up(&backup, &[])).expect_err("is refused");
                assert_eq!(refused.kind(), ErrorKind::Mismatch);
                drop(store);
                fs::remove_dir_all(&here.data).expect("is removed");
            }
            assert_eq!(backup.increments().expect("are read").len(), 2);
            assert_eq!(backup.verify(|_| ()).expect("is verified").damaged, 0);
        }
    }

    #[test]
    fn a_backup_that_is_away_is_not_begun_anew_where_it_was_and_none_of_another_archive_is_taken() {
        let place = tempfile::tempdir().expect("a directory");
        let (here, backup) = (at(&place, "data"), directory(&place, "backup"));
        let store = open(&here);
        keep_all(&store, 0..3);
        block_on(store.back_up(&backup, &[])).expect("is made");
        let refused = |store: &Store, backup: &BackupPlace| {
            block_on(store.back_up(backup, &[]))
                .expect_err("is refused")
                .kind()
        };
        // As when its disk isn't mounted, before and after a directory is made for it.
        let (is, was) = (place.path().join("backup"), place.path().join("elsewhere"));
        fs::rename(&is, &was).expect("is moved");
        assert_eq!(refused(&store, &backup), ErrorKind::NotFound);
        fs::create_dir(&is).expect("is made");
        assert_eq!(refused(&store, &backup), ErrorKind::NotFound);
        assert_eq!(fs::read_dir(&is).expect("is read").count(), 0);
        fs::remove_dir(&is).expect("is removed");
        fs::rename(&was, &is).expect("is moved");
        keep_all(&store, 3..4);
        let again = block_on(store.back_up(&backup, &[])).expect("is made");
        assert_eq!((again.number, again.instances), (2, 1));
        // Also where all that is known here is lost.
        fs::remove_dir_all(here.data.join(KNOWN)).expect("is removed");
        assert_eq!(refused(&store, &backup), ErrorKind::Mismatch);
        let other = open(&at(&place, "other"));
        assert_eq!(refused(&other, &backup), ErrorKind::Mismatch);
        // An archive is no backup, and what is inside the data directory would be lost with it.
        drop(other);
        assert_eq!(refused(&store, &directory(&place, "other")), ErrorKind::Mismatch);
        let full = place.path().join("full");
        fs::create_dir(&full).expect("is made");
        fs::write(full.join("file"), "").expect("is written");
        assert_eq!(refused(&store, &directory(&place, "full")), ErrorKind::Mismatch);
        assert_eq!(
            refused(&store, &directory(&place, "data/backup-here")),
            ErrorKind::Invalid
        );
        assert_eq!(
            refused(&store, &directory(&place, "no/such/place")),
            ErrorKind::Invalid
        );
        assert_eq!(refused(&store, &BackupPlace::default()), ErrorKind::Invalid);
    }

    #[test]
    fn nothing_is_restored_over_what_is_there_and_what_is_half_restored_is_not_opened() {
        let place = tempfile::tempdir().expect("a directory");
        let (here, backup) = (at(&place, "data"), directory(&place, "backup"));
        let store = open(&here);
        keep_all(&store, 0..3);
        block_on(store.back_up(&backup, &[])).expect("is made");
        drop(store);
        let kind = |settings: &Settings, from: &BackupPlace, at| {
            let restored = Store::restore(settings, from, at, |_| ());
            restored.map(drop).expect_err("is refused").kind()
        };
        assert_eq!(kind(&here, &backup, None), ErrorKind::Mismatch);
        let there = at(&place, "there");
        assert_eq!(kind(&there, &backup, Some(Timestamp(1))), ErrorKind::NotFound);
        assert_eq!(
            kind(&there, &directory(&place, "nowhere"), None),
            ErrorKind::NotFound
        );
        assert!(!there.data.exists());
        Store::restore(&there, &backup, None, |_| ()).expect("is restored");
        fs::write(there.data.join(RESTORING), "").expect("is written");
        let refused = Store::open_or_make(&there, Options::default()).map(drop);
        assert_eq!(refused.expect_err("is refused").kind(), ErrorKind::Refused);
    }

    #[cfg(feature = "object")]
    #[test]
    fn a_backup_in_an_object_store_is_restored_into_another_and_what_is_there_is_left_alone() {
        let place = tempfile::tempdir().expect("a directory");
        let objects = |name: &str| {
            fs::create_dir_all(place.path().join(name)).expect("is made");
            ObjectLocation::at(format!("file://{}", place.path().join(name).display()))
        };
        let with = |data: &str, name: &str| Settings {
            objects: Some(objects(name)),
            ..at(&place, data)
        };
        let backup = BackupPlace {
            directory: None,
            objects: Some(objects("backup")),
        };
        // Before there is any, and nothing comes of that.
        assert_eq!(
            backup.increments().expect_err("is none").kind(),
            ErrorKind::NotFound
        );
        let here = with("data", "archive");
        let store = open(&here);
        keep_all(&store, 0..5);
        for number in 1..3 {
            let increment = block_on(store.back_up(&backup, &[])).expect("is made");
            assert_eq!(increment.number, number);
            assert_eq!(backup.increments().expect("are read").len() as u64, number);
        }
        let taken = Store::restore(&with("there", "archive"), &backup, None, |_| ());
        assert_eq!(
            taken.map(drop).expect_err("is refused").kind(),
            ErrorKind::Mismatch
        );
        // Whose it is goes on.
        keep_all(&store, 5..6);
        let there = with("elsewhere", "other");
        Store::restore(&there, &backup, None, |_| ()).expect("is restored");
        assert_eq!(contents(&open(&there)).len(), 5);
    }

    #[test]
    fn a_version_that_comes_after_a_restore_is_delivered_as_any_later_one() {
        let place = tempfile::tempdir().expect("a directory");
        let (here, backup) = (at(&place, "data"), directory(&place, "backup"));
        let routed = || {
            let router = |_: &Occasion<'_>| Ok(vec![Delivery::to("ELSEWHERE")]);
            let options = Options {
                router: Some(Arc::new(router)),
                ..Options::default()
            };
            Store::open_or_make(&here, options).expect("opens")
        };
        let deliver = |store: &Store| {
            let outbox = store.pacs.outbox().expect("there is one");
            let destination = Arc::from("ELSEWHERE");
            loop {
                let line = block_on(outbox.claim(&destination, Timestamp::now())).expect("is asked");
                let Some(line) = line else {
                    continue;
                };
                let waiting = block_on(line.waiting(100)).expect("is read");
                let ended = waiting
                    .into_iter()
                    .map(|one| (one, Outcome::Delivered(String::new())));
                block_on(line.finish(ended.collect())).expect("is noted");
                block_on(line.let_go(None)).expect("is let go");
                return;
            }
        };
        {
            let store = routed();
            // Far up in the order of this archive.
            keep_all(&store, 0..30);
            let recorded = || {
                let what = What::Instance(Uid::constant("1.2.3.29"));
                let outbox = store.pacs.outbox().expect("there is one");
                block_on(outbox.recorded("ELSEWHERE", &what)).expect("is read")
            };
            while recorded().is_none_or(|recorded| recorded.progress != Progress::Done) {
                deliver(&store);
            }
            for number in 0..29 {
                let uid = Uid::parse(&format!("1.2.3.{number}")).expect("is one");
                assert!(block_on(store.pacs.remove(&uid)).expect("is removed"));
            }
            block_on(store.back_up(&backup, &[])).expect("is made");
        }
        fs::remove_dir_all(&here.data).expect("is removed");
        Store::restore(&here, &backup, None, |_| ()).expect("is restored");
        let store = routed();
        let (what, mut later) = (
            What::Instance(Uid::constant("1.2.3.29")),
            super::super::tests::data_set(29),
        );
        later.put_text(pacs_core::tags::PATIENT_ID, pacs_core::VR::LO, "later");
        let pieces = stream::iter([Ok(super::super::tests::encoded(&later))]);
        block_on(store.pacs.import(pacs_core::Source::default(), pieces)).expect("is kept");
        // Asked about in the order of the archive.
        keep_all(&store, 50..51);
        let recorded = |what: &What| {
            let outbox = store.pacs.outbox().expect("there is one");
            block_on(outbox.recorded("ELSEWHERE", what)).expect("is read")
        };
        let last = What::Instance(Uid::constant("1.2.3.50"));
        while recorded(&last).is_none() {}
        assert_eq!(recorded(&what).expect("it was").progress, Progress::Waiting);
    }
}
