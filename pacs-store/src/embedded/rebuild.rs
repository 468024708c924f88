//! Making the index anew, and what the old one knew that the archive no longer gives.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt};
use pacs_core::{Archive, Entry, Error, ErrorKind, Index, InstanceKey, Locator, Pacs, Result, Scope};

use super::encryption::file_keys;
use super::{
    Encryption, INDEX, Opened, Settings, Store, archive, database, index, index_at, note_attributes,
    own_directory,
};

/// The new index until it takes the old one's place: a rebuild that is broken off leaves the old one.
const NEW: &str = "index.redb.new";
/// The old index, where something is missing from the new one.
const OLD: &str = "index.redb.old";

/// Missing instances that are named.
const NAMED_MAX: usize = 100;

/// What a rebuild did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Instances that the new index knows.
    pub instances: u64,
    /// Instances that the archive keeps and that can't be read: the new index does not know them.
    pub unreadable: u64,
    /// Instances that the old index knew in a version that the new one does not know: the archive does not give
    /// it any more.
    pub missing: u64,
    /// The first of them.
    pub first_missing: Vec<InstanceKey>,
    /// The old index was read to its end; else more may be missing. One in a database is not compared.
    pub compared: bool,
    /// Where the old index is kept, where something is missing.
    pub old_index: Option<PathBuf>,
}

impl Store {
    /// Makes the index anew from the archive alone, and says what the old index knew that the archive does not give
    /// any more. Blocks. A store in memory has nothing to be made from.
    ///
    /// The old index goes when the new one is whole. Where something is missing it is kept beside it. In a database it is
    /// emptied first, and filled again.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn rebuild(settings: &Settings) -> Result<Rebuilt> {
        settings.check()?;
        // The archive's lock comes first: nobody else works on the index then.
        let layers = archive(settings)?;
        Self::rebuild_of(&*layers.archive, settings.directory(), settings)
    }

    /// The same of an archive of the program's own.
    ///
    /// # Errors
    /// As [`open_on`](Self::open_on).
    pub fn rebuild_on(archive: &dyn Archive, settings: &Settings) -> Result<Rebuilt> {
        let directory = own_directory(settings)?;
        // Whether that archive has a lock isn't known; an open index has one. How else it is doesn't matter.
        let of_file = || index(directory.as_deref(), settings, None);
        if settings.database.is_none()
            && let Err(error) = of_file()
            && error.kind() == ErrorKind::Refused
        {
            return Err(error);
        }
        Self::rebuild_of(archive, directory.as_deref(), settings)
    }

    fn rebuild_of(archive: &dyn Archive, directory: Option<&Path>, settings: &Settings) -> Result<Rebuilt> {
        settings.check()?;
        let attributes = settings.attribute_set()?;
        let Some(data) = directory else {
            let index = index(None, settings, None)?;
            let recovered = block_on(Pacs::rebuild_index(archive, &*index, &attributes))?;
            return Ok(Rebuilt {
                instances: block_on(index.totals())?.instances,
                unreadable: recovered.unreadable,
                compared: true,
                ..Rebuilt::default()
            });
        };
        if let Some(database) = &settings.database {
            let Opened { index, lock, .. } = database::open(database, data, true)?;
            let recovered = block_on(Pacs::rebuild_index(archive, &*index, &attributes))?;
            note_attributes(data, &attributes)?;
            drop(lock);
            return Ok(Rebuilt {
                instances: block_on(index.totals())?.instances,
                unreadable: recovered.unreadable,
                ..Rebuilt::default()
            });
        }
        database::check_none(data)?;
        let failed = |error| {
            Error::io(
                "index.rebuild",
                "the new index can't take the old one's place",
                error,
            )
        };
        let (path, new_path) = (data.join(INDEX), data.join(NEW));
        match fs::remove_file(&new_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        // An old index that is plain is encrypted, to be compared with: it may be kept.
        let encryption = settings.encryption.clone().map(|encryption| Encryption {
            plain_too: true,
            ..encryption
        });
        let keys = file_keys(encryption.as_ref())?;
        let is_there = path.exists();
        let mut rebuilt = Rebuilt::default();
        {
            let new = index_at(settings, keys.as_ref(), &new_path)?;
            let recovered = block_on(Pacs::rebuild_index(archive, &*new, &attributes))?;
            rebuilt.instances = block_on(new.totals())?.instances;
            rebuilt.unreadable = recovered.unreadable;
            let compared = match is_there {
                true => index_at(settings, keys.as_ref(), &path)
                    .and_then(|old| block_on(compare(archive, &*old, &*new, &mut rebuilt))),
                false => Ok(()),
            };
            rebuilt.compared = compared.is_ok();
            if let Err(error) = compared {
                tracing::warn!(%error, "the old index can't be read: what is missing from the new one is not known");
            }
        }
        if rebuilt.missing > 0 {
            let old = free_name(data);
            fs::rename(&path, &old).map_err(failed)?;
            rebuilt.old_index = Some(old);
        }
        fs::rename(&new_path, &path).map_err(failed)?;
        // Lost, the opening makes it anew once more.
        fs::File::open(data)
            .and_then(|data| data.sync_all())
            .map_err(failed)?;
        note_attributes(data, &attributes)?;
        Ok(rebuilt)
    }
}

/// Counts what `old` knows and `new` does not.
async fn compare(
    archive: &dyn Archive,
    old: &dyn Index,
    new: &dyn Index,
    rebuilt: &mut Rebuilt,
) -> Result<()> {
    let removed = removed_since(archive, old).await?;
    let mut records = old.instances(Scope::All);
    while let Some(record) = records.try_next().await? {
        let now = new.lookup(&record.key.instance).await?;
        let is_given = |version: &Locator| {
            removed.contains(version)
                || now
                    .as_ref()
                    .is_some_and(|now| now.locator == *version || now.superseded.contains(version))
        };
        if is_given(&record.locator) && record.superseded.iter().all(is_given) {
            continue;
        }
        rebuilt.missing += 1;
        if rebuilt.first_missing.len() < NAMED_MAX {
            rebuilt.first_missing.push(record.key);
        }
    }
    Ok(())
}

/// What was removed and `old` was not told of before a crash. An archive whose scan has no order does not say: what
/// was removed just before a crash counts as missing there.
async fn removed_since(archive: &dyn Archive, old: &dyn Index) -> Result<HashSet<Locator>> {
    let mut removed = HashSet::new();
    if archive.capability().ordered_scan {
        let mut entries = archive.scan(old.low_water().await?);
        while let Some(entry) = entries.next().await {
            if let Entry::Removed { locator, .. } = entry? {
                removed.insert(locator);
            }
        }
    }
    Ok(removed)
}

/// A name for the old index: that of an earlier one is not taken, for it knows what is missing since then.
fn free_name(data: &Path) -> PathBuf {
    let names = (2..).map(|number| data.join(format!("{OLD}{number}")));
    let mut names = [data.join(OLD)].into_iter().chain(names);
    names
        .find(|name| !name.exists())
        .unwrap_or_else(|| data.join(OLD))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use futures::stream;
    use pacs_core::{Options, Source, Uid};

    use super::super::ArchiveKind;
    use super::super::tests::{file, settings};
    use super::*;

    /// A closed store with instances 1 to 5.
    fn filled(settings: &Settings) {
        let store = Store::open_or_make(settings, Options::default()).expect("opens");
        for number in 1..=5 {
            let file = stream::iter([Ok(file(number))]);
            block_on(store.pacs.import(Source::default(), file)).expect("is kept");
        }
        store.pacs.close().expect("closes");
    }

    fn segment(data: &Path) -> PathBuf {
        let entries = fs::read_dir(data.join("archive/segments")).expect("is listed");
        let paths = entries.map(|entry| entry.expect("is listed").path());
        paths.min().expect("a segment")
    }

    fn shorten(path: &Path, by: u64) {
        let file = OpenOptions::new().write(true).open(path).expect("is opened");
        let length = file.metadata().expect("has a length").len();
        file.set_len(length - by).expect("is shortened");
    }

    #[test]
    fn what_the_archive_no_longer_gives_is_counted_named_and_left_in_the_old_index() {
        let data = tempfile::tempdir().expect("a directory");
        let settings = settings(data.path(), ArchiveKind::Segment);
        filled(&settings);
        let before = Store::rebuild(&settings).expect("is rebuilt");
        let whole = Rebuilt {
            instances: 5,
            compared: true,
            ..Rebuilt::default()
        };
        assert_eq!(before, whole);
        shorten(&segment(data.path()), 100);
        let rebuilt = Store::rebuild(&settings).expect("is rebuilt");
        assert_eq!((rebuilt.instances, rebuilt.missing), (4, 1));
        assert_eq!(rebuilt.first_missing.len(), 1);
        assert_eq!(&*rebuilt.first_missing[0].instance, "1.2.3.5");
        let old = data.path().join("index.redb.old");
        assert_eq!(rebuilt.old_index.as_deref(), Some(&*old));
        let old = index_at(&settings, None, &old).expect("opens");
        assert_eq!(block_on(old.totals()).expect("totals").instances, 5);
        drop(old);
        // Nothing is missing from what is known now, and what was is still to be had.
        let again = Store::rebuild(&settings).expect("is rebuilt");
        assert_eq!((again.instances, again.missing), (4, 0));
        assert!(data.path().join("index.redb.old").exists());
        shorten(&segment(data.path()), 1000);
        let more = Store::rebuild(&settings).expect("is rebuilt");
        assert!(more.missing > 0);
        assert_eq!(more.old_index, Some(data.path().join("index.redb.old2")));
        let last = Store::rebuild(&settings).expect("is rebuilt");
        assert_eq!((last.instances, last.missing), (more.instances, 0));
    }

    #[test]
    fn a_file_that_is_gone_from_a_folder_is_missing() {
        let data = tempfile::tempdir().expect("a directory");
        let settings = settings(data.path(), ArchiveKind::Folder);
        filled(&settings);
        let record = {
            let store = Store::open(&settings, Options::default()).expect("opens");
            let gone = Uid::parse("1.2.3.2").expect("a UID");
            block_on(store.pacs.lookup(&gone))
                .expect("is looked up")
                .expect("is kept")
        };
        let path = String::from_utf8(record.locator.as_bytes().to_vec()).expect("a path");
        fs::remove_file(data.path().join("files").join(path)).expect("is removed");
        let rebuilt = Store::rebuild(&settings).expect("is rebuilt");
        assert_eq!((rebuilt.instances, rebuilt.missing), (4, 1));
    }

    #[test]
    fn what_was_removed_is_not_missing_even_where_the_old_index_was_not_told() {
        let data = tempfile::tempdir().expect("a directory");
        let settings = settings(data.path(), ArchiveKind::Segment);
        filled(&settings);
        let path = data.path().join(INDEX);
        let behind = fs::read(&path).expect("is read");
        let store = Store::open(&settings, Options::default()).expect("opens");
        assert!(block_on(store.pacs.remove(&Uid::constant("1.2.3.4"))).expect("is removed"));
        store.pacs.close().expect("closes");
        drop(store);
        fs::write(&path, behind).expect("is written");
        let rebuilt = Store::rebuild(&settings).expect("is rebuilt");
        assert_eq!((rebuilt.instances, rebuilt.missing), (4, 0));
    }

    #[test]
    fn an_old_index_that_can_not_be_read_is_told_and_replaced() {
        let data = tempfile::tempdir().expect("a directory");
        let settings = settings(data.path(), ArchiveKind::Segment);
        filled(&settings);
        fs::write(data.path().join(INDEX), vec![7; 8192]).expect("is written");
        let rebuilt = Store::rebuild(&settings).expect("is rebuilt");
        assert_eq!(
            (rebuilt.instances, rebuilt.missing, rebuilt.compared),
            (5, 0, false)
        );
        let store = Store::open(&settings, Options::default()).expect("opens");
        assert_eq!(block_on(store.pacs.totals()).expect("totals").instances, 5);
    }
}
