//! A second copy of what is kept, by the settings.
//!
//! ```text
//! DATA/replica/pair         which directory is the replica of this archive, or
//! DATA/replica/archive      which archive in an object store is
//! DATA/replica/copies.redb  which instance is where in it; can be made anew from both, in the time that it takes to read them
//! REPLICA/replica-of        what `pair` says: a directory without it is not the replica, so that a disk that is away is noticed
//! REPLICA/archive/          the instances, as a data directory has them
//! REPLICA/ledger.redb       the ledger as it was some time ago, where it is a file of the data directory
//! ```
//!
//! A replica becomes the archive when `replica-of` is removed and its directory is the data directory. A new replica is begun
//! when `DATA/replica` is removed.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, ready};
use futures::stream::BoxStream;
use pacs_core::{
    Archive, ArchiveCapability, ArchiveWriter, Entry, Error, ErrorKind, Locator, Result, Sequence, Uid,
};
use serde::Deserialize;

use super::ledger_copy::LedgerCopy;
use super::objects::{self, ObjectLocation};
use super::{Settings, check_apart, encryption, holds_only, write_whole};
use crate::layers::encrypt::{FileKeys, random_number};
use crate::{RedbLedger, ReplicateMode, ReplicateOptions, ReplicatedArchive, SegmentArchive, SegmentOptions};

/// Where the second copy of each instance is kept, and when an instance counts as kept. One of `data` and `objects` is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Replica {
    /// The directory, on another disk.
    pub data: Option<PathBuf>,
    /// Or the object store.
    pub objects: Option<ObjectLocation>,
    /// When an instance counts as kept.
    #[serde(deserialize_with = "mode")]
    pub mode: ReplicateMode,
}

/// The modes by their names in a file.
const MODES: [(&str, ReplicateMode); 3] = [
    ("later", ReplicateMode::Later),
    ("while-present", ReplicateMode::WhilePresent),
    ("always", ReplicateMode::Always),
];

fn mode<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<ReplicateMode, D::Error> {
    let text = String::deserialize(deserializer)?;
    let found = MODES.iter().find(|(name, _)| *name == text);
    found.map(|(_, mode)| *mode).ok_or_else(|| {
        serde::de::Error::custom(format_args!("{text:?} is none of later, while-present, always"))
    })
}

impl Replica {
    /// The mode as a file writes it.
    pub fn mode_name(&self) -> &'static str {
        let found = MODES.iter().find(|(_, mode)| *mode == self.mode);
        found.map_or("", |(name, _)| name)
    }

    /// # Errors
    /// `Invalid` unless it says in one way where the replica is.
    pub(super) fn check(&self) -> Result<()> {
        let is_empty = self.data.as_ref().is_some_and(|data| data.as_os_str().is_empty());
        match self.data.is_some() != self.objects.is_some() && !is_empty {
            true => Ok(()),
            false => {
                let why = "replica: one of data and objects says where it is";
                Err(Error::new(ErrorKind::Invalid, "store.settings", why))
            }
        }
    }
}

/// What is known of the replica, in the data directory.
const KNOWN: &str = "replica";
const PAIR: &str = "pair";
const OBJECTS: &str = "archive";
const COPIES: &str = "copies.redb";
/// In the replica.
const OF: &str = "replica-of";
const ARCHIVE: &str = "archive";

const OPERATION: &str = "store.replica";

/// # Errors
/// `Refused` when this data directory is a replica.
pub(super) fn check_is_none(data: &Path) -> Result<()> {
    match data.join(OF).exists() {
        true => {
            let what = format!(
                "{} is the replica of another archive; it becomes the archive when the file {OF} in it is removed",
                data.display()
            );
            Err(Error::new(ErrorKind::Refused, "store.open", what))
        }
        false => Ok(()),
    }
}

/// The archive with its second copy, as the settings say; `first` is what the data directory has.
pub(super) fn around(
    first: Arc<dyn Archive>,
    settings: &Settings,
    replica: &Replica,
) -> Result<Arc<ReplicatedArchive>> {
    replica.check()?;
    if let Some(place) = &replica.data {
        check_apart(&settings.data, place, "replica")?;
    }
    let known = settings.data.join(KNOWN);
    fs::create_dir_all(&known).map_err(|error| failed(&known, error))?;
    let copies = known.join(COPIES);
    let notes = match encryption::file_keys(settings.encryption.as_ref())? {
        Some(keys) => RedbLedger::open_encrypted(&copies, keys),
        None => RedbLedger::open(&copies),
    };
    let notes = notes
        .map_err(|error| Error::new(error.kind(), OPERATION, format!("{}: {error}", copies.display())))?;
    let place = replica.clone();
    let open = move || open(&known, &place);
    let options = ReplicateOptions {
        mode: replica.mode,
        ..ReplicateOptions::default()
    };
    let opened = ReplicatedArchive::open(first, Box::new(open), Arc::new(notes), options);
    opened
        .map(Arc::new)
        .map_err(|error| match (error.kind(), error.operation()) {
            (ErrorKind::Corrupt, "archive.replicate") => {
                let what = format!(
                    "{}. It becomes the archive when {OF} is removed from it and it is the data directory",
                    error.context()
                );
                Error::new(ErrorKind::Corrupt, "archive.replicate", what)
            }
            _ => error,
        })
}

/// Opens the replica; takes one that is nobody's when there was none before.
///
/// # Errors
/// `NotFound` when it isn't there, `Mismatch` when it is another's; what the archive says.
fn open(known: &Path, replica: &Replica) -> Result<Arc<dyn Archive>> {
    let other = match replica.objects {
        Some(_) => PAIR,
        None => OBJECTS,
    };
    if known.join(other).exists() {
        let what = format!(
            "the replica is another one: a new one is begun when {} is removed",
            known.display()
        );
        return Err(Error::new(ErrorKind::Mismatch, OPERATION, what));
    }
    match (&replica.objects, &replica.data) {
        (Some(location), _) => objects::open(location, known, true),
        (None, Some(place)) => open_directory(known, place),
        // It was checked that it is one of both.
        (None, None) => Err(mismatch(known)),
    }
}

fn open_directory(known: &Path, place: &Path) -> Result<Arc<dyn Archive>> {
    let (pair, of) = (known.join(PAIR), place.join(OF));
    if fs::metadata(place).is_ok_and(|place| !place.is_dir()) {
        let what = format!("{} is no directory", place.display());
        return Err(Error::new(ErrorKind::Invalid, OPERATION, what));
    }
    match (noted(&pair)?, noted(&of)?) {
        (Some(pair), Some(of)) if pair == of => {}
        (Some(_), None) => {
            // Not made anew: a disk that isn't mounted leaves an empty directory.
            let what = format!("the replica is not at {}", place.display());
            return Err(Error::new(ErrorKind::NotFound, OPERATION, what));
        }
        // A crash came between the two notes.
        (None, Some(of)) if is_empty(place) => {
            write_whole(&pair, &of).map_err(|error| failed(&pair, error))?;
        }
        (None, None) if is_empty(place) => {
            let id = format!("{:032x}\n", random_number()?);
            // Not with what is above it: where a disk isn't mounted, that is missing too.
            let made = match fs::create_dir(place) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                made => made,
            };
            made.and_then(|()| write_whole(&of, &id)).map_err(|error| {
                let what = format!("{} can't be made a replica: {error}", place.display());
                Error::new(ErrorKind::Invalid, OPERATION, what)
            })?;
            write_whole(&pair, &id).map_err(|error| failed(&pair, error))?;
        }
        _ => return Err(mismatch(place)),
    }
    let archive = SegmentArchive::open(place.join(ARCHIVE), SegmentOptions::default())?;
    Ok(Arc::new(AtPlace {
        inside: archive,
        pair,
        of,
    }))
}

/// The copy of the ledger in a replica; none where that is no directory.
pub(super) fn ledger_copy(
    settings: &Settings,
    ledger: &Arc<RedbLedger>,
    keys: Option<&Arc<FileKeys>>,
) -> Option<LedgerCopy> {
    let place = settings.replica.as_ref()?.data.as_ref()?;
    Some(LedgerCopy::new(ledger, keys, place.join(super::LEDGER)))
}

/// # Errors
/// `NotFound` when the replica is not there; those of the medium.
pub(super) fn bring_up_ledger(copy: &LedgerCopy, data: &Path) -> Result<bool> {
    copy.bring_up(|| {
        let place = copy.path().parent().unwrap_or(Path::new("."));
        let pair = noted(&data.join(KNOWN).join(PAIR))?;
        match pair.is_some() && pair == noted(&place.join(OF))? {
            true => Ok(()),
            false => {
                let what = format!("the replica is not at {}", place.display());
                Err(Error::new(ErrorKind::NotFound, OPERATION, what))
            }
        }
    })
}

/// Whether there is nothing, but for what a replica that was just begun has.
fn is_empty(place: &Path) -> bool {
    // One that can't be listed isn't there.
    holds_only(place, &[OF]).unwrap_or(true)
}

/// The archive of a replica that takes something only while it is where it was: a file that is open can be written to also
/// where nobody finds it any more.
struct AtPlace {
    inside: SegmentArchive,
    pair: PathBuf,
    of: PathBuf,
}

#[deny(clippy::missing_trait_methods)]
impl Archive for AtPlace {
    fn capability(&self) -> ArchiveCapability {
        self.inside.capability()
    }

    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn ArchiveWriter>>> {
        let is_there = noted(&self.pair).and_then(|pair| Ok(pair.is_some() && pair == noted(&self.of)?));
        match is_there {
            Ok(true) => self.inside.begin(),
            Ok(false) => {
                let what = format!("the replica is no more where {} was", self.of.display());
                Box::pin(ready(Err(Error::new(ErrorKind::Io, OPERATION, what))))
            }
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn read(&self, locator: &Locator, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        self.inside.read(locator, range)
    }

    fn read_unchecked(&self, locator: &Locator, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        self.inside.read_unchecked(locator, range)
    }

    fn remove(&self, instance: &Uid, locator: &Locator) -> BoxFuture<'_, Result<Sequence>> {
        self.inside.remove(instance, locator)
    }

    fn scan(&self, after: Sequence) -> BoxStream<'static, Result<Entry>> {
        self.inside.scan(after)
    }

    fn verify(&self, locator: &Locator) -> BoxFuture<'_, Result<()>> {
        self.inside.verify(locator)
    }

    fn mend(&self, locator: &Locator) -> BoxFuture<'_, Result<bool>> {
        self.inside.mend(locator)
    }

    fn last_sequence(&self) -> Option<Sequence> {
        self.inside.last_sequence()
    }

    fn indexed(&self, sequence: Sequence) -> BoxFuture<'_, Result<()>> {
        self.inside.indexed(sequence)
    }
}

fn noted(path: &Path) -> Result<Option<String>> {
    super::noted(OPERATION, path)
}

fn failed(path: &Path, error: io::Error) -> Error {
    super::failed(OPERATION, path, error)
}

fn mismatch(place: &Path) -> Error {
    let what = format!(
        "{} is not the replica of this archive: it is another's, an archive of its own, or no empty directory. Where the \
         data directory was lost, the replica becomes the archive when {OF} is removed from it and it is the data directory",
        place.display()
    );
    Error::new(ErrorKind::Mismatch, OPERATION, what)
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::stream;
    use pacs_core::{Options, Source, Step};
    use tempfile::TempDir;

    use super::super::tests::{contents, file, keep_all as keep, settings};
    use super::super::{ArchiveKind, Encryption, Store};
    use super::*;
    use crate::layers::encrypt::KeyFile;

    struct Place(TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a directory"))
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn settings(&self, mode: ReplicateMode) -> Settings {
            Settings {
                replica: Some(Replica {
                    data: Some(self.path("replica")),
                    mode,
                    ..Replica::default()
                }),
                ..settings(&self.path("data"), ArchiveKind::Segment)
            }
        }
    }

    #[test]
    fn a_replica_becomes_the_archive_when_all_else_is_lost_also_where_it_is_encrypted() {
        for is_encrypted in [false, true] {
            let place = Place::new();
            let mut settings = place.settings(ReplicateMode::Always);
            if is_encrypted {
                KeyFile::new(place.path("keys")).add().expect("is made");
                settings.encryption = Some(Encryption {
                    key_file: Some(place.path("keys")),
                    ..Encryption::default()
                });
            }
            let (key, value) = (Bytes::from_static(b"key"), Bytes::from_static(b"value"));
            let expected = {
                let store = Store::open_or_make(&settings, Options::default()).expect("opens");
                keep(&store, 0..20);
                let ledger = store.pacs.ledger().expect("there is one");
                let is_copied = || store.copy_ledger().expect("is copied");
                assert!(is_copied());
                block_on(ledger.apply(vec![Step::Put(key.clone(), value.clone())])).expect("is applied");
                assert_eq!([is_copied(), is_copied()], [true, false]);
                assert!(block_on(store.pacs.remove(&Uid::constant("1.2.3.7"))).expect("is removed"));
                block_on(store.replica.as_ref().expect("there is one").caught_up()).expect("is copied");
                contents(&store)
            };
            assert_eq!(expected.len(), 19);
            fs::remove_dir_all(place.path("data")).expect("is removed");
            let promoted = Settings {
                data: place.path("replica"),
                replica: None,
                ..settings
            };
            // Not by mistake.
            let refused = Store::open(&promoted, Options::default())
                .map(drop)
                .expect_err("is refused");
            assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
            fs::remove_file(place.path("replica").join(OF)).expect("is removed");
            let store = Store::open(&promoted, Options::default()).expect("opens");
            assert_eq!(contents(&store), expected);
            let found = block_on(store.pacs.ledger().expect("there is one").get(&key));
            assert_eq!(found.expect("is read"), Some(value));
        }
    }

    #[test]
    fn a_replica_that_is_not_there_is_away_and_no_other_is_taken_for_it() {
        let place = Place::new();
        let settings = place.settings(ReplicateMode::WhilePresent);
        keep(
            &Store::open_or_make(&settings, Options::default()).expect("opens"),
            0..3,
        );
        // As when its disk isn't mounted.
        fs::rename(place.path("replica"), place.path("elsewhere")).expect("is moved");
        fs::create_dir(place.path("replica")).expect("is made");
        {
            let store = Store::open(&settings, Options::default()).expect("opens");
            keep(&store, 3..6);
            let lag = block_on(store.replica.as_ref().expect("there is one").lag()).expect("is told");
            assert!(!lag.is_present && lag.entries >= 3, "{lag:?}");
            assert_eq!(contents(&store).len(), 6);
        }
        assert_eq!(fs::read_dir(place.path("replica")).expect("is read").count(), 0);
        fs::remove_dir(place.path("replica")).expect("is removed");
        fs::rename(place.path("elsewhere"), place.path("replica")).expect("is moved");
        {
            let store = Store::open(&settings, Options::default()).expect("opens");
            block_on(store.replica.as_ref().expect("there is one").caught_up()).expect("is copied");
        }
        // One of another archive, and an archive of its own.
        let refused = |settings: &Settings| {
            let opened = Store::open_or_make(settings, Options::default()).map(drop);
            opened.expect_err("is refused").kind()
        };
        let other = Settings {
            data: place.path("other"),
            ..settings.clone()
        };
        assert_eq!(refused(&other), ErrorKind::Mismatch);
        let own = Settings {
            data: place.path("own"),
            replica: None,
            ..settings.clone()
        };
        drop(Store::open_or_make(&own, Options::default()).expect("opens"));
        let of_own = Settings {
            data: place.path("another"),
            replica: Some(Replica {
                data: Some(place.path("own")),
                ..Replica::default()
            }),
            ..settings
        };
        assert_eq!(refused(&of_own), ErrorKind::Mismatch);
    }

    #[cfg(feature = "object")]
    #[test]
    fn a_replica_in_an_object_store_is_a_new_archive_there_and_no_other() {
        let place = Place::new();
        let objects = |name: &str| {
            fs::create_dir_all(place.path(name)).expect("is made");
            ObjectLocation::at(format!("file://{}", place.path(name).display()))
        };
        let with = |data: &str, name: &str| Settings {
            replica: Some(Replica {
                objects: Some(objects(name)),
                mode: ReplicateMode::Always,
                ..Replica::default()
            }),
            ..settings(&place.path(data), ArchiveKind::Segment)
        };
        for _ in 0..2 {
            keep(
                &Store::open_or_make(&with("data", "replica"), Options::default()).expect("opens"),
                0..3,
            );
        }
        // Of another, and our own.
        let other = with("other", "replica");
        let own = Settings {
            objects: Some(objects("own")),
            ..with("own-data", "own")
        };
        for settings in [other, own] {
            let refused = Store::open_or_make(&settings, Options::default()).map(drop);
            assert_eq!(refused.expect_err("is refused").kind(), ErrorKind::Mismatch);
        }
        // It becomes the archive.
        fs::remove_dir_all(place.path("data")).expect("is removed");
        let promoted = Settings {
            objects: Some(objects("replica")),
            ..settings(&place.path("data"), ArchiveKind::Segment)
        };
        let store = Store::open_or_make(&promoted, Options::default()).expect("opens");
        assert_eq!(contents(&store).len(), 3);
    }

    #[test]
    fn what_both_have_when_it_is_closed_is_known_when_one_loses_it() {
        for number in 1..4 {
            let place = Place::new();
            let settings = place.settings(ReplicateMode::Always);
            let expected = {
                let store = Store::open_or_make(&settings, Options::default()).expect("opens");
                keep(&store, 0..number);
                contents(&store)
            };
            let segments = place.path("data").join("archive/segments");
            for entry in fs::read_dir(segments).expect("is listed") {
                fs::remove_file(entry.expect("is listed").path()).expect("is removed");
            }
            for _ in 0..3 {
                let store = Store::open(&settings, Options::default()).expect("opens");
                assert_eq!(contents(&store), expected);
            }
            Store::rebuild(&settings).expect("is rebuilt");
            let store = Store::open(&settings, Options::default()).expect("opens");
            assert_eq!(contents(&store), expected);
        }
    }

    #[test]
    fn a_replica_that_is_taken_away_while_it_is_used_takes_nothing_any_more() {
        let place = Place::new();
        let settings = place.settings(ReplicateMode::Always);
        let store = Store::open_or_make(&settings, Options::default()).expect("opens");
        keep(&store, 0..2);
        fs::rename(place.path("replica"), place.path("elsewhere")).expect("is moved");
        let pieces = stream::iter([Ok(file(7))]);
        let refused = block_on(store.pacs.import(Source::default(), pieces)).expect_err("is refused");
        assert_eq!(refused.kind(), ErrorKind::OutOfResources, "{refused}");
        fs::rename(place.path("elsewhere"), place.path("replica")).expect("is moved");
        block_on(store.replica.as_ref().expect("there is one").caught_up()).expect("is back");
        keep(&store, 7..8);
    }

    #[test]
    fn what_can_not_have_a_replica_is_refused() {
        let place = Place::new();
        let of_folder = Settings {
            archive: ArchiveKind::Folder,
            ..place.settings(ReplicateMode::Later)
        };
        let nowhere = Settings {
            replica: Some(Replica::default()),
            ..of_folder.clone()
        };
        let at = |path: PathBuf| Settings {
            replica: Some(Replica {
                data: Some(path),
                ..Replica::default()
            }),
            ..place.settings(ReplicateMode::Later)
        };
        let inside = at(place.path("data").join("replica-here"));
        let around = at(place.0.path().to_owned());
        let (unnamed, unmounted) = (at(PathBuf::new()), at(place.path("no/such/place")));
        fs::write(place.path("file"), "").expect("is written");
        let no_directory = at(place.path("file"));
        for settings in [
            of_folder,
            nowhere,
            inside,
            around,
            unnamed,
            unmounted,
            no_directory,
        ] {
            let refused = Store::open_or_make(&settings, Options::default()).map(drop);
            assert_eq!(refused.expect_err("is refused").kind(), ErrorKind::Invalid);
        }
        let archive = Arc::new(crate::MemoryArchive::new());
        let own = Store::open_on(archive, &place.settings(ReplicateMode::Later), Options::default());
        assert_eq!(own.map(drop).expect_err("is refused").kind(), ErrorKind::Invalid);
    }
}
