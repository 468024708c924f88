//! The embedded stores by their settings: a data directory, opened and looked after.
//!
//! ```text
//! DATA/archive/          instances, one behind the other in large files (segment archive)
//! DATA/files/            or instances, a file each (folder archive)
//! DATA/objects/          or instances are in an object store, and this says of which archive there all else is
//! DATA/index.redb        what is searched; can be made anew from the archive
//! DATA/ledger.redb       deliveries, worklists and procedure steps: what the archive can't tell again
//! DATA/encryption        the names of the keys that instances were encrypted with, if they are: index and ledger then are too
//! DATA/index.attributes  which attributes the index was filled with
//! DATA/database          that index and ledger are in a database, in place of these two files
//! DATA/index.redb.old    an index that knew what the archive no longer gives, left by a rebuild
//! DATA/replica/          what is known of the second copies, where there are any
//! DATA/backup/           what is known of the backup, where there is one
//! DATA/own-archive/      these four, where the archive is the program's own
//! ```
//!
//! [`Settings`] say what is kept where, as a program's configuration file has them; [`Store`] is the open
//! directory with its engine.

mod attributes;
mod backup;
mod database;
mod encryption;
mod ledger_copy;
mod objects;
mod pieces;
mod rebuild;
mod replica;
mod settings;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::executor::block_on;
use pacs_core::query::AttributeSet;
use pacs_core::{Archive, Error, ErrorKind, Index, Ledger, Options, Pacs, Result};

pub use self::backup::BackupPlace;
pub use self::database::Database;
use self::database::Lock;
use self::ledger_copy::LedgerCopy;
pub use self::objects::ObjectLocation;
pub use self::pieces::file_pieces;
pub use self::rebuild::Rebuilt;
pub use self::replica::Replica;
pub use self::settings::{ArchiveKind, Attribute, AttributeLevel, Duplicates, Encryption, Settings};
use crate::layers::encrypt::FileKeys;
use crate::layers::encrypt::file::PLAIN;
use crate::{
    FolderArchive, FolderOptions, MemoryArchive, MemoryIndex, MemoryLedger, RedbIndex, RedbIndexOptions,
    RedbLedger, ReplicatedArchive, SegmentArchive, SegmentOptions,
};

const INDEX: &str = "index.redb";
const LEDGER: &str = "ledger.redb";
const ATTRIBUTES: &str = "index.attributes";

/// An open store.
pub struct Store {
    /// The engine on it.
    pub pacs: Pacs,
    /// Which attributes are searched.
    pub attributes: Arc<AttributeSet>,
    /// The second copies, where the settings want them.
    pub replica: Option<Arc<ReplicatedArchive>>,
    ledger_in_replica: Option<LedgerCopy>,
    ledger_for_backup: Option<LedgerCopy>,
    /// The archive below its encryption; none where it is the program's own.
    as_it_lies: Option<Arc<dyn Archive>>,
    /// Where the index is; nowhere of a store in memory.
    directory: Option<PathBuf>,
    /// Let go last. Files of an index have locks of their own.
    _lock: Option<Lock>,
}

/// What the engine needs beside the archive.
struct Opened {
    index: Arc<dyn Index>,
    ledger: Arc<dyn Ledger>,
    ledger_in_replica: Option<LedgerCopy>,
    ledger_for_backup: Option<LedgerCopy>,
    lock: Option<Lock>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("pacs", &self.pacs)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store, and makes it where there is none. Blocks. Of `options`, what `settings` say too is taken
    /// from them.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_or_make(settings: &Settings, options: Options) -> Result<Self> {
        settings.check()?;
        if let Some(directory) = settings.archive_directory() {
            settings.check_kind()?;
            fs::create_dir_all(&directory)
                .map_err(|error| Error::io("store.make", format!("{}", directory.display()), error))?;
        }
        Self::open(settings, options)
    }

    /// Opens the store, which must be there. Blocks.
    ///
    /// # Errors
    /// - `NotFound` when there is none, `Refused` when another process has it open.
    /// - `Refused` when it is encrypted and a key is missing or wrong, or the settings say nothing of keys.
    /// - `Refused` when it is the replica of another; `Corrupt`, of the operation `archive.replicate`, when its archive is older
    ///   than its replica.
    /// - `Mismatch` when its archive is of another kind, or its index and ledger are in another database or in one of which
    ///   the settings say nothing; `Invalid` when attributes can't mean anything.
    /// - `Corrupt` of an operation that begins with `index.` when the index is damaged, `Unsupported` when it is of
    ///   another version: [`rebuild`](Self::rebuild) makes it anew.
    /// - What the archive or the index says.
    pub fn open(settings: &Settings, options: Options) -> Result<Self> {
        settings.check()?;
        let Layers {
            archive,
            as_it_lies,
            replica,
        } = archive(settings)?;
        let directory = settings.directory().map(Path::to_owned);
        let store = Self::with(archive, directory, settings, options)?;
        Ok(Self {
            replica,
            as_it_lies: Some(as_it_lies),
            ..store
        })
    }

    /// Opens an engine on an archive of the program's own, with an index in the data directory, which is made where
    /// there is none. Where `settings` say that instances are kept in memory, it is the index that is; of the archive
    /// they say nothing else. Blocks. Of `options`, what `settings` say too is taken from them.
    ///
    /// # Errors
    /// As [`open`](Self::open); also `Mismatch` when the data directory has an archive, and `Invalid` when the settings want
    /// encryption or second copies: a program that has an archive of its own puts [`EncryptedArchive`](crate::EncryptedArchive)
    /// and [`ReplicatedArchive`] around it itself.
    pub fn open_on(archive: Arc<dyn Archive>, settings: &Settings, options: Options) -> Result<Self> {
        Self::with(archive, own_directory(settings)?, settings, options)
    }

    fn with(
        archive: Arc<dyn Archive>,
        directory: Option<PathBuf>,
        settings: &Settings,
        options: Options,
    ) -> Result<Self> {
        settings.check()?;
        let attributes = Arc::new(settings.attribute_set()?);
        let access = match &settings.access {
            Some(policy) => {
                policy.check(&attributes)?;
                Arc::new(policy.clone())
            }
            None => options.access,
        };
        let Opened {
            index,
            ledger,
            ledger_in_replica,
            ledger_for_backup,
            lock,
        } = index_and_ledger(directory.as_deref(), settings, options.ledger)?;
        let empty = block_on(index.totals())?.instances == 0;
        let options = Options {
            duplicates: settings.duplicates.policy(),
            attributes: Arc::clone(&attributes),
            access,
            ledger: Some(ledger),
            ..options
        };
        let store = Self {
            pacs: block_on(Pacs::open(archive, index, options))?,
            attributes,
            replica: None,
            ledger_in_replica,
            ledger_for_backup,
            as_it_lies: None,
            directory,
            _lock: lock,
        };
        if empty {
            // All that is in the index now was put there with the attributes of today.
            store.note_attributes()?;
        }
        Ok(store)
    }

    /// Whether the index was filled with other attributes than are searched now:
    /// [`reindex`](Self::reindex) mends that.
    pub fn attributes_changed(&self) -> bool {
        let Some(directory) = &self.directory else {
            return false;
        };
        fs::read_to_string(directory.join(ATTRIBUTES)).ok() != Some(fingerprint(&self.attributes))
    }

    /// Indexes what is stored by the attributes that are searched now; answers how many instances those were.
    /// Blocks; the engine serves meanwhile. Noted only when it is durable: broken off, it is to be begun again.
    ///
    /// # Errors
    /// What the archive or the index says.
    pub fn reindex(&self) -> Result<u64> {
        let made = block_on(async {
            let made = self.pacs.reindex(|_| ()).await?;
            self.pacs.checkpoint().await?;
            Ok::<_, Error>(made)
        })?;
        self.note_attributes()?;
        Ok(made)
    }

    /// Copies the ledger into the replica, where that is a directory, the ledger is a file, and it has changed since it was
    /// copied last; answers whether it did. Blocks. A replica becomes the archive with the ledger that it has.
    ///
    /// # Errors
    /// `NotFound` when the replica is not there; those of the medium.
    pub fn copy_ledger(&self) -> Result<bool> {
        match (&self.ledger_in_replica, &self.directory) {
            (Some(copy), Some(directory)) => replica::bring_up_ledger(copy, directory),
            _ => Ok(false),
        }
    }

    fn note_attributes(&self) -> Result<()> {
        match &self.directory {
            Some(directory) => note_attributes(directory, &self.attributes),
            None => Ok(()),
        }
    }
}

struct Layers {
    archive: Arc<dyn Archive>,
    /// Below its encryption.
    as_it_lies: Arc<dyn Archive>,
    /// The layer that keeps second copies.
    replica: Option<Arc<ReplicatedArchive>>,
}

fn archive(settings: &Settings) -> Result<Layers> {
    let encryption = settings.encryption.as_ref();
    let (Some(data), Some(directory)) = (settings.directory(), settings.archive_directory()) else {
        let as_it_lies: Arc<dyn Archive> = Arc::new(MemoryArchive::new());
        return Ok(Layers {
            archive: encryption::around(Arc::clone(&as_it_lies), None, encryption)?,
            as_it_lies,
            replica: None,
        });
    };
    let inside = inside(settings, data, &directory)?;
    // Both copies are encrypted, and each can be read without the other.
    let (as_it_lies, replica) = match &settings.replica {
        Some(replica) => {
            let replicated = replica::around(inside, settings, replica)?;
            (Arc::clone(&replicated) as Arc<dyn Archive>, Some(replicated))
        }
        None => (inside, None),
    };
    Ok(Layers {
        archive: encryption::around(Arc::clone(&as_it_lies), Some(data), encryption)?,
        as_it_lies,
        replica,
    })
}

/// What the data directory has, as it lies there.
fn inside(settings: &Settings, data: &Path, directory: &Path) -> Result<Arc<dyn Archive>> {
    settings.check_kind()?;
    replica::check_is_none(data)?;
    backup::check_is_whole(data)?;
    unguarded(settings, data, directory)
}

/// The same, whatever the data directory is to be.
fn unguarded(settings: &Settings, data: &Path, directory: &Path) -> Result<Arc<dyn Archive>> {
    match fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => {}
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("store.open", format!("{}", directory.display()), error));
        }
        _ => {
            let what = format!("there is no store at {}", data.display());
            return Err(Error::new(ErrorKind::NotFound, "store.open", what));
        }
    }
    if let Some(location) = &settings.objects {
        return objects::open(location, directory, false);
    }
    let opened = match settings.archive {
        ArchiveKind::Folder => {
            let options = FolderOptions {
                sealed: settings.encryption.is_some(),
                ..FolderOptions::default()
            };
            FolderArchive::open(directory, options).map(|archive| Arc::new(archive) as Arc<dyn Archive>)
        }
        _ => SegmentArchive::open(directory, SegmentOptions::default())
            .map(|archive| Arc::new(archive) as Arc<dyn Archive>),
    };
    opened.map_err(|error| match error.kind() {
        ErrorKind::Refused => {
            let what = format!("{} is in use by another process", data.display());
            Error::new(ErrorKind::Refused, "store.open", what)
        }
        kind => Error::new(kind, "store.open", format!("{}: {error}", directory.display())),
    })
}

/// Where the index of an archive of the program's own is.
fn own_directory(settings: &Settings) -> Result<Option<PathBuf>> {
    if settings.encryption.is_some() {
        let why = "encryption: an archive of the program's own is not encrypted by settings";
        return Err(Error::new(ErrorKind::Invalid, "store.settings", why));
    }
    if settings.replica.is_some() {
        let why = "replica: of an archive of the program's own there are no second copies by settings";
        return Err(Error::new(ErrorKind::Invalid, "store.settings", why));
    }
    let directory = settings.own_directory();
    if let Some(directory) = &directory {
        settings.check_own()?;
        fs::create_dir_all(directory)
            .map_err(|error| Error::io("store.make", format!("{}", directory.display()), error))?;
    }
    Ok(directory)
}

/// The index, and the ledger where the caller has none.
fn index_and_ledger(
    directory: Option<&Path>,
    settings: &Settings,
    own_ledger: Option<Arc<dyn Ledger>>,
) -> Result<Opened> {
    if let (Some(directory), Some(database)) = (directory, &settings.database) {
        let opened = database::open(database, directory, false)?;
        return Ok(Opened {
            ledger: own_ledger.unwrap_or(opened.ledger),
            ..opened
        });
    }
    let keys = match directory {
        Some(directory) => {
            database::check_none(directory)?;
            encryption::file_keys(settings.encryption.as_ref())?
        }
        None => None,
    };
    let index = index(directory, settings, keys.as_ref())?;
    let (ledger, ledger_in_replica, ledger_for_backup): (Arc<dyn Ledger>, _, _) =
        match (own_ledger, directory) {
            (Some(ledger), _) => (ledger, None, None),
            (None, None) => (Arc::new(MemoryLedger::new()), None, None),
            (None, Some(directory)) => {
                let ledger = ledger(directory, keys.clone())?;
                let in_replica = replica::ledger_copy(settings, &ledger, keys.as_ref());
                let for_backup = backup::ledger_copy(directory, &ledger, keys.as_ref());
                (ledger, in_replica, Some(for_backup))
            }
        };
    Ok(Opened {
        index,
        ledger,
        ledger_in_replica,
        ledger_for_backup,
        lock: None,
    })
}

fn index(
    directory: Option<&Path>,
    settings: &Settings,
    keys: Option<&Arc<FileKeys>>,
) -> Result<Arc<dyn Index>> {
    let Some(directory) = directory else {
        return Ok(Arc::new(MemoryIndex::new()));
    };
    index_at(settings, keys, &directory.join(INDEX))
}

fn ledger(directory: &Path, keys: Option<Arc<FileKeys>>) -> Result<Arc<RedbLedger>> {
    let path = directory.join(LEDGER);
    let opened = match keys {
        Some(keys) => RedbLedger::open_encrypted(&path, keys),
        None => RedbLedger::open(&path),
    };
    let opened = opened.map_err(|error| {
        Error::new(
            error.kind(),
            "ledger.open",
            format!("{}: {error}", path.display()),
        )
    });
    Ok(Arc::new(opened?))
}

fn index_at(settings: &Settings, keys: Option<&Arc<FileKeys>>, path: &Path) -> Result<Arc<dyn Index>> {
    let mebibytes = usize::try_from(settings.index_cache_mebibytes).unwrap_or(usize::MAX);
    let options = RedbIndexOptions {
        cache_max_bytes: mebibytes.saturating_mul(1024 * 1024),
        ..RedbIndexOptions::default()
    };
    let opened = match keys {
        Some(keys) => RedbIndex::open_encrypted(path, Arc::clone(keys), options),
        None => RedbIndex::open(path, options),
    };
    let opened = opened.map_err(|error| {
        let kind = match error.kind() {
            // A file that can be opened and still is no index: some damage looks like a failing disk.
            ErrorKind::Io if can_be_opened(path) => ErrorKind::Corrupt,
            // Another process, or this one, has it open.
            ErrorKind::AlreadyExists => ErrorKind::Refused,
            kind => kind,
        };
        let anew = match error.context() == PLAIN {
            true => ", and rebuild-index makes it anew from the archive",
            false => "",
        };
        Error::new(kind, "index.open", format!("{}: {error}{anew}", path.display()))
    });
    Ok(Arc::new(opened?))
}

/// Writes a file that is durable, and whole before it has its name.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;

    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// What a note says, where there is one.
fn noted(operation: &'static str, path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(noted) => Ok(Some(noted)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(operation, path, error)),
    }
}

fn failed(operation: &'static str, path: &Path, error: io::Error) -> Error {
    Error::io(operation, format!("{}", path.display()), error)
}

/// Whether there is nothing in a directory but these names, and what a file system of its own begins with.
fn holds_only(directory: &Path, names: &[&str]) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        if name != *"lost+found" && names.iter().all(|other| name != **other) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// That neither is in the other: they would be lost together.
fn check_apart(data: &Path, place: &Path, what: &str) -> Result<()> {
    // One that isn't there has no other name.
    let whole = |path: &Path| {
        fs::canonicalize(path)
            .or_else(|_| std::path::absolute(path))
            .map_err(|error| failed("store.settings", path, error))
    };
    let (data, place) = (whole(data)?, whole(place)?);
    match data.starts_with(&place) || place.starts_with(&data) {
        true => {
            let why = format!("{what}: its directory and the data directory are one in the other");
            Err(Error::new(ErrorKind::Invalid, "store.settings", why))
        }
        false => Ok(()),
    }
}

fn can_be_opened(path: &Path) -> bool {
    fs::OpenOptions::new().read(true).write(true).open(path).is_ok()
}

fn fingerprint(attributes: &AttributeSet) -> String {
    format!("{:016x}\n", attributes.fingerprint())
}

fn note_attributes(directory: &Path, attributes: &AttributeSet) -> Result<()> {
    // Not synced: without it the index is only filled again.
    fs::write(directory.join(ATTRIBUTES), fingerprint(attributes))
        .map_err(|error| Error::io("store.note", "the index's attributes can't be noted", error))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use futures::TryStreamExt;
    use pacs_core::dataset::charset::CharacterSet;
    use pacs_core::dataset::encode::encode;
    use pacs_core::{DataSet, Scope, Source, Uid, VR, tags, uids};

    use super::*;

    /// An instance of a study and a series.
    pub(super) fn file(number: u32) -> Bytes {
        encoded(&data_set(number))
    }

    pub(super) fn data_set(number: u32) -> DataSet {
        let mut set = DataSet::new();
        set.put_text(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE);
        set.put_text(tags::SOP_INSTANCE_UID, VR::UI, format!("1.2.3.{number}"));
        set.put_text(tags::STUDY_INSTANCE_UID, VR::UI, "1.2");
        set.put_text(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.3");
        set
    }

    pub(super) fn encoded(set: &DataSet) -> Bytes {
        let encoded = encode(set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8());
        encoded.expect("is encoded").into()
    }

    pub(super) fn keep_all(store: &Store, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let pieces = futures::stream::iter([Ok(file(number))]);
            block_on(store.pacs.import(Source::default(), pieces)).expect("is kept");
        }
    }

    pub(super) fn contents(store: &Store) -> BTreeMap<Uid, Vec<u8>> {
        let records: Vec<_> = block_on(store.pacs.instances(Scope::All).try_collect()).expect("is read");
        let read = |record: pacs_core::InstanceRecord| {
            let pieces: Vec<Bytes> =
                block_on(store.pacs.read_data_set(&record).try_collect()).expect("is read");
            (record.key.instance, pieces.concat())
        };
        records.into_iter().map(read).collect()
    }

    pub(super) fn settings(data: &Path, archive: ArchiveKind) -> Settings {
        Settings {
            data: data.to_owned(),
            archive,
            ..Settings::default()
        }
    }

    #[test]
    fn each_kind_opens_again_and_no_kind_as_another() {
        for (kind, other) in [
            (ArchiveKind::Segment, ArchiveKind::Folder),
            (ArchiveKind::Folder, ArchiveKind::Segment),
        ] {
            let data = tempfile::tempdir().unwrap();
            let here = settings(data.path(), kind);
            let missing = Store::open(&here, Options::default()).unwrap_err();
            assert_eq!(missing.kind(), ErrorKind::NotFound);
            let store = Store::open_or_make(&here, Options::default()).unwrap();
            assert!(!store.attributes_changed());
            store.pacs.close().unwrap();
            drop(store);
            let as_other = settings(data.path(), other);
            let refused = Store::open_or_make(&as_other, Options::default()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Mismatch);
            assert_eq!(Store::rebuild(&here).unwrap().instances, 0);
            drop(Store::open(&here, Options::default()).unwrap());
        }
    }

    #[test]
    fn a_store_in_memory_leaves_nothing_on_the_disk() {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open_or_make(&settings(data.path(), ArchiveKind::Memory), Options::default());
        store.unwrap().pacs.close().unwrap();
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_archive_of_ones_own_has_its_index_in_the_data_directory_and_no_other_store_beside_it() {
        let data = tempfile::tempdir().unwrap();
        let here = settings(data.path(), ArchiveKind::Segment);
        let own = Arc::new(MemoryArchive::new());
        let store = Store::open_on(own.clone(), &here, Options::default()).unwrap();
        for busy in [
            Store::open_on(own.clone(), &here, Options::default()).map(drop),
            Store::rebuild_on(&*own, &here).map(drop),
        ] {
            assert_eq!(busy.unwrap_err().kind(), ErrorKind::Refused);
        }
        store.pacs.close().unwrap();
        drop(store);
        assert_eq!(Store::rebuild_on(&*own, &here).unwrap().instances, 0);
        let refused = Store::open_or_make(&here, Options::default()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Mismatch);

        let data = tempfile::tempdir().unwrap();
        let here = settings(data.path(), ArchiveKind::Folder);
        drop(Store::open_or_make(&here, Options::default()).unwrap());
        let refused = Store::open_on(own.clone(), &here, Options::default()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Mismatch);

        let data = tempfile::tempdir().unwrap();
        let in_memory = settings(data.path(), ArchiveKind::Memory);
        drop(Store::open_on(own.clone(), &in_memory, Options::default()).unwrap());
        let wanted = Settings {
            encryption: Some(Encryption::default()),
            ..in_memory
        };
        let refused = Store::open_on(own, &wanted, Options::default()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0);
    }

    /// Keeps an instance and closes.
    fn keep(settings: &Settings, number: u32) {
        let store = Store::open_or_make(settings, Options::default()).unwrap();
        let pieces = futures::stream::iter([Ok(file(number))]);
        block_on(store.pacs.import(pacs_core::Source::default(), pieces)).unwrap();
        store.pacs.close().unwrap();
    }

    #[test]
    fn an_archive_that_is_older_than_its_index_is_told_and_nothing_is_kept_until_the_index_is_made_anew() {
        let data = tempfile::tempdir().unwrap();
        let here = settings(data.path(), ArchiveKind::Segment);
        keep(&here, 1);
        let (archive, backup) = (data.path().join("archive"), data.path().join("backup"));
        copy(&archive, &backup);
        keep(&here, 2);
        fs::remove_dir_all(&archive).unwrap();
        fs::rename(&backup, &archive).unwrap();
        let error = Store::open(&here, Options::default()).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.operation().starts_with("index."), "{error}");
        let rebuilt = Store::rebuild(&here).unwrap();
        assert_eq!((rebuilt.instances, rebuilt.missing), (1, 1));
        keep(&here, 3);
        let store = Store::open(&here, Options::default()).unwrap();
        assert_eq!(block_on(store.pacs.totals()).unwrap().instances, 2);
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => copy(&entry.path(), &to),
                false => drop(fs::copy(entry.path(), to).unwrap()),
            }
        }
    }

    #[test]
    fn a_file_that_is_no_index_is_told_as_a_damaged_one() {
        let data = tempfile::tempdir().unwrap();
        let settings = settings(data.path(), ArchiveKind::Segment);
        drop(Store::open_or_make(&settings, Options::default()).unwrap());
        fs::write(data.path().join(INDEX), vec![7; 8192]).unwrap();
        let error = Store::open(&settings, Options::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.operation().starts_with("index."));
        assert_eq!(Store::rebuild(&settings).unwrap().instances, 0);
    }
}
