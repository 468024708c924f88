//! Encryption by the settings, and what the data directory says of it.
//!
//! `DATA/encryption` has a line for each key that instances were ever written with: its name and its check value. So a
//! key that is missing is told at the opening and not by the first instance that needs it, and what is encrypted isn't
//! opened as if it were not. Index and ledger name the key that they need themselves.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::executor::block_on;
use pacs_core::{Archive, Error, ErrorKind, Result};
use serde::Deserialize;

use crate::layers::encrypt::{
    EncryptOptions, EncryptedArchive, FileKeys, KeyCommand, KeyFile, KeyId, KeyProvider, KeyVariable,
    key_of_first,
};

const NOTE: &str = "encryption";
const NEW_NOTE: &str = "encryption.new";

/// How instances, the index and the ledger are encrypted: where the keys are, as [`layers::encrypt`](crate::layers::encrypt) has them. One of the
/// three is set.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Encryption {
    /// The file of keys; [`KeyFile::add`] makes one.
    pub key_file: Option<PathBuf>,
    /// The environment variable with keys.
    pub key_variable: Option<String>,
    /// The program that writes keys, and its arguments.
    pub key_command: Vec<String>,
    /// Instances that were kept before encryption was switched on are read too. An index and a ledger of that time are
    /// encrypted when they are opened; what the disk held of the plain ones is not overwritten.
    pub plain_too: bool,
}

/// A command's arguments may be secrets.
impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encryption")
            .field("key_file", &self.key_file)
            .field("key_variable", &self.key_variable)
            .field("key_command", &self.key_command.first())
            .field("plain_too", &self.plain_too)
            .finish_non_exhaustive()
    }
}

impl Encryption {
    /// What gives the keys.
    ///
    /// # Errors
    /// `Invalid` unless one of the three is set.
    pub fn provider(&self) -> Result<Arc<dyn KeyProvider>> {
        match (&self.key_file, &self.key_variable, &self.key_command[..]) {
            (Some(path), None, []) => Ok(Arc::new(KeyFile::new(path))),
            (None, Some(name), []) => Ok(Arc::new(KeyVariable::new(name))),
            (None, None, [program, arguments @ ..]) => Ok(Arc::new(KeyCommand::new(program, arguments))),
            _ => {
                let why = "encryption: one of key-file, key-variable and key-command says where the keys are";
                Err(Error::new(ErrorKind::Invalid, "store.settings", why))
            }
        }
    }
}

/// The keys of index and ledger. Blocks.
pub(super) fn file_keys(encryption: Option<&Encryption>) -> Result<Option<Arc<FileKeys>>> {
    let keys = encryption.map(|encryption| {
        let options = EncryptOptions {
            plain_too: encryption.plain_too,
        };
        FileKeys::new(encryption.provider()?, options).map(Arc::new)
    });
    keys.transpose()
}

/// The archive as the settings say, with `data` the data directory of it.
pub(super) fn around(
    inside: Arc<dyn Archive>,
    data: Option<&Path>,
    encryption: Option<&Encryption>,
) -> Result<Arc<dyn Archive>> {
    let used = match data {
        Some(data) => used(data)?,
        None => BTreeMap::new(),
    };
    let refused = |why| Error::new(ErrorKind::Refused, "store.open", why);
    let Some(encryption) = encryption else {
        // The note may not have come along with the archive from a backup; the index doesn't either. Where it is there, a
        // scan that goes through a whole folder is spared.
        let is_ordered = inside.capability().ordered_scan;
        let has_index = data.is_some_and(|data| data.join(super::INDEX).exists());
        let id = match used.into_keys().next() {
            Some(id) => Some(id),
            None if is_ordered || !has_index => block_on(key_of_first(&*inside))?,
            None => None,
        };
        return match (id, data) {
            (Some(id), Some(data)) => Err(refused(format!(
                "what is kept in {} is encrypted, and the settings say nothing of its keys ({id})",
                data.display()
            ))),
            _ => Ok(inside),
        };
    };
    let options = EncryptOptions {
        plain_too: encryption.plain_too,
    };
    let archive = EncryptedArchive::open(inside, encryption.provider()?, options)?;
    for (id, check) in &used {
        if archive.key_check(id)? != *check {
            return Err(refused(format!(
                "the key {id} is not the one that instances were written with"
            )));
        }
    }
    let current = archive.current_key();
    if let Some(data) = data
        && !used.contains_key(&current)
    {
        let check = archive.key_check(&current)?;
        note(data, used.into_iter().chain([(current, check)]))?;
    }
    Ok(Arc::new(archive))
}

/// The keys that instances were written with, each with its check value.
fn used(data: &Path) -> Result<BTreeMap<KeyId, String>> {
    let path = data.join(NOTE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        text => text.map_err(|error| Error::io("store.open", format!("{}", path.display()), error))?,
    };
    let lines = text.lines().map(|line| {
        let (id, check) = line.split_once(' ')?;
        Some((KeyId::parse(id).ok()?, check.to_owned()))
    });
    let used = lines.collect::<Option<_>>();
    used.ok_or_else(|| {
        let why = format!("{} is damaged: take it from a backup", path.display());
        Error::new(ErrorKind::Corrupt, "store.open", why)
    })
}

/// Durable before anything is written with the keys.
fn note(data: &Path, used: impl Iterator<Item = (KeyId, String)>) -> Result<()> {
    let text: String = used.map(|(id, check)| format!("{id} {check}\n")).collect();
    let (path, new_path) = (data.join(NOTE), data.join(NEW_NOTE));
    let noted = fs::File::create(&new_path)
        .and_then(|mut new| new.write_all(text.as_bytes()).and_then(|()| new.sync_all()))
        .and_then(|()| fs::rename(&new_path, &path))
        .and_then(|()| fs::File::open(data)?.sync_all());
    noted.map_err(|error| Error::io("store.open", format!("{}", path.display()), error))
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::{TryStreamExt, stream};
    use pacs_core::{InstanceRecord, Options, Source};

    use super::super::tests::file;
    use super::super::{ArchiveKind, Settings, Store};
    use super::*;
    use crate::{RedbIndex, RedbLedger};

    fn settings(data: &Path, archive: ArchiveKind, encryption: Option<Encryption>) -> Settings {
        Settings {
            data: data.to_owned(),
            archive,
            encryption,
            ..Settings::default()
        }
    }

    fn by_file(path: &Path, plain_too: bool) -> Option<Encryption> {
        Some(Encryption {
            key_file: Some(path.to_owned()),
            plain_too,
            ..Encryption::default()
        })
    }

    /// Keeps an instance and closes.
    fn keep(settings: &Settings, number: u32) -> InstanceRecord {
        let store = Store::open_or_make(settings, Options::default()).expect("opens");
        let pieces = stream::iter([Ok(file(number))]);
        let received = block_on(store.pacs.import(Source::default(), pieces)).expect("is kept");
        store.pacs.close().expect("closes");
        (*received.record).clone()
    }

    fn read(settings: &Settings, record: &InstanceRecord) -> Result<Vec<u8>> {
        let store = Store::open(settings, Options::default())?;
        let pieces: Vec<bytes::Bytes> = block_on(store.pacs.read(record).try_collect())?;
        store.pacs.close()?;
        Ok(pieces.concat())
    }

    #[test]
    fn an_encrypted_store_opens_with_each_of_its_keys_and_with_no_other() {
        for kind in [ArchiveKind::Segment, ArchiveKind::Folder] {
            let place = tempfile::tempdir().expect("a directory");
            let (data, keys) = (place.path().join("data"), place.path().join("keys"));
            let here = settings(&data, kind, by_file(&keys, false));
            let refused = |settings: &Settings, said: &str| {
                let refused = Store::open_or_make(settings, Options::default()).expect_err("is refused");
                assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
                assert!(refused.to_string().contains(said), "{refused}");
            };
            refused(&here, "keys");
            KeyFile::new(&keys).add().expect("is added");
            let first = keep(&here, 1);
            let old_keys = fs::read(&keys).expect("is read");
            KeyFile::new(&keys).add().expect("is added");
            let second = keep(&here, 2);
            for record in [&first, &second] {
                let bytes = read(&here, record).expect("is read");
                assert_eq!(bytes.len() as u64, record.length);
            }
            assert_eq!(Store::rebuild(&here).expect("is rebuilt").instances, 2);

            // Without the newer one, without any, and with another of the same name.
            let all_keys = fs::read(&keys).expect("is read");
            fs::write(&keys, &old_keys).expect("is written");
            refused(&here, "the key key-2 is missing");
            let rebuilt = Store::rebuild(&here).expect_err("is refused");
            assert_eq!(rebuilt.kind(), ErrorKind::Refused);
            refused(
                &settings(&data, kind, None),
                "the settings say nothing of its keys",
            );
            fs::remove_file(&keys).expect("is removed");
            KeyFile::new(&keys).add().expect("is added");
            refused(&here, "key-1");
            fs::write(&keys, &all_keys).expect("is written");
            read(&here, &second).expect("is read");
        }
    }

    #[test]
    fn an_encrypted_archive_without_note_and_settings_is_refused_and_nothing_plain_is_put_into_it() {
        for kind in [ArchiveKind::Segment, ArchiveKind::Folder] {
            let place = tempfile::tempdir().expect("a directory");
            let (data, keys) = (place.path().join("data"), place.path().join("keys"));
            KeyFile::new(&keys).add().expect("is added");
            let record = keep(&settings(&data, kind, by_file(&keys, false)), 1);
            // As a backup of the archive alone brings it back.
            for file in [NOTE, "index.redb", "ledger.redb"] {
                fs::remove_file(data.join(file)).expect("is removed");
            }
            let plain = settings(&data, kind, None);
            for refused in [
                Store::open_or_make(&plain, Options::default()).map(drop),
                Store::open(&plain, Options::default()).map(drop),
                Store::rebuild(&plain).map(drop),
            ] {
                let refused = refused.expect_err("is refused");
                assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
                assert!(refused.to_string().contains("encrypted"), "{refused}");
            }
            let here = settings(&data, kind, by_file(&keys, false));
            assert_eq!(Store::rebuild(&here).expect("is rebuilt").instances, 1);
            read(&here, &record).expect("is read");
        }
    }

    #[test]
    fn what_was_plain_before_is_read_where_that_is_set() {
        for kind in [ArchiveKind::Segment, ArchiveKind::Folder] {
            let place = tempfile::tempdir().expect("a directory");
            let (data, keys) = (place.path().join("data"), place.path().join("keys"));
            let plain = keep(&settings(&data, kind, None), 1);
            KeyFile::new(&keys).add().expect("is added");
            let strict = settings(&data, kind, by_file(&keys, false));
            let refused = Store::open(&strict, Options::default()).expect_err("is refused");
            assert_eq!(refused.kind(), ErrorKind::Refused);
            assert!(refused.to_string().contains("before encryption"), "{refused}");
            let starts = |file: &str| fs::read(data.join(file)).expect("is read")[..4].to_vec();
            assert_eq!(
                (starts("index.redb"), starts("ledger.redb")),
                (b"redb".to_vec(), b"redb".to_vec())
            );
            let both = settings(&data, kind, by_file(&keys, true));
            let sealed = keep(&both, 2);
            for record in [&plain, &sealed] {
                assert_eq!(read(&both, record).expect("is read").len() as u64, record.length);
            }
            assert_eq!(Store::rebuild(&both).expect("is rebuilt").instances, 2);
            for file in ["index.redb", "ledger.redb"] {
                assert_ne!(starts(file), b"redb");
            }
        }
    }

    #[test]
    fn a_plain_index_of_encrypted_instances_is_told_and_made_anew() {
        let place = tempfile::tempdir().expect("a directory");
        let (data, keys) = (place.path().join("data"), place.path().join("keys"));
        KeyFile::new(&keys).add().expect("is added");
        let here = settings(&data, ArchiveKind::Segment, by_file(&keys, false));
        let record = keep(&here, 1);
        // As it was when only instances were encrypted.
        for file in ["index.redb", "ledger.redb"] {
            fs::remove_file(data.join(file)).expect("is removed");
        }
        drop(RedbIndex::open(data.join("index.redb"), Default::default()).expect("is made"));
        let refused = Store::open(&here, Options::default()).expect_err("is refused");
        assert_eq!(refused.kind(), ErrorKind::Refused);
        assert!(refused.to_string().contains("rebuild-index"), "{refused}");
        let rebuilt = Store::rebuild(&here).expect("is rebuilt");
        assert_eq!((rebuilt.instances, rebuilt.compared), (1, true));
        read(&here, &record).expect("is read");
        drop(RedbLedger::open(data.join("plain.redb")).expect("is made"));
        fs::rename(data.join("plain.redb"), data.join("ledger.redb")).expect("is renamed");
        let refused = Store::open(&here, Options::default()).expect_err("is refused");
        assert!(refused.to_string().contains("plain-too"), "{refused}");
        read(
            &settings(&data, ArchiveKind::Segment, by_file(&keys, true)),
            &record,
        )
        .expect("is read");
        read(&here, &record).expect("is read");
    }

    #[test]
    fn settings_name_one_place_of_keys() {
        let parse = |text: &str| toml::from_str::<Settings>(text).expect("are settings").encryption;
        assert_eq!(parse(""), None);
        for good in [
            "key-file = \"keys\"",
            "key-variable = \"KEYS\"\nplain-too = true",
            "key-command = [\"vault\", \"read\"]",
        ] {
            let encryption = parse(&format!("[encryption]\n{good}")).expect("is set");
            encryption.provider().expect("says where the keys are");
        }
        for bad in ["", "key-command = []", "key-file = \"a\"\nkey-variable = \"B\""] {
            let encryption = parse(&format!("[encryption]\n{bad}")).expect("is set");
            let error = encryption.provider().expect_err("is refused");
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }
}
