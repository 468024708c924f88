//! [`KeyFile`]: keys in a file, and how one is added.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use pacs_core::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

use super::super::keys::{Key, KeyId};
use super::{KeyList, Listed, read_list, refused, text};

/// Keys in a file, which is read each time that it is asked for one. It must be its owner's alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// The file at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Puts a new key before the others, and makes the file where there is none. What is written from the next opening
    /// on is written with it. Gives its name.
    ///
    /// - Broken off at any instant, the file is what it was or what it is to be.
    ///
    /// # Errors
    /// `Refused` when the file is no list of keys or not its owner's alone, `Io` when it can't be written.
    pub fn add(&self) -> Result<KeyId> {
        let failed = |error| {
            let what = format!("{} can't be written", self.path.display());
            Error::io("key.add", what, error)
        };
        // Where a link leads, the file is.
        let path = match fs::canonicalize(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.path.clone(),
            path => path.map_err(failed)?,
        };
        let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
        let directory = fs::File::open(directory.unwrap_or(Path::new("."))).map_err(failed)?;
        // One at a time, so that none leaves out another's key. The lock goes with the handle.
        rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| failed(error.into()))?;
        let (before, owner) = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Zeroizing::new(String::new()), None),
            found => {
                let found = found.map_err(failed)?;
                let text = self.text().map_err(|error| self.refused(&error))?;
                (text, Some((found.uid(), found.gid())))
            }
        };
        let known = KeyList::parse(&before).map_err(|error| self.refused(&error))?;
        let mut ids = (1..).map(|number| KeyId::parse(&format!("key-{number}")));
        let id = ids.find(|id| id.as_ref().is_ok_and(|id| known.find(id).is_none()));
        // The names don't come to an end.
        let id = id.unwrap_or_else(|| KeyId::parse("key"))?;
        let hex = Key::random()?.to_hex();
        // One that was left is in the way.
        let mut new_path = path.clone().into_os_string();
        new_path.push(".new");
        let new_path = PathBuf::from(new_path);
        match fs::remove_file(&new_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut new = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new_path)
            .map_err(failed)?;
        // Who reads it may be another than who makes the key.
        if let Some((user, group)) = owner {
            std::os::unix::fs::fchown(&new, Some(user), Some(group)).map_err(failed)?;
        }
        let written = [id.as_str(), " ", &hex, "\n", &before]
            .iter()
            .try_for_each(|part| new.write_all(part.as_bytes()))
            .and_then(|()| new.sync_all())
            .and_then(|()| fs::rename(&new_path, &path));
        written.map_err(failed)?;
        directory.sync_all().map_err(failed)?;
        Ok(id)
    }

    fn refused(&self, error: &Error) -> Error {
        refused(format!("the key file {}: {error}", self.path.display()))
    }
}

impl Listed for KeyFile {
    fn text(&self) -> Result<Zeroizing<String>> {
        let failed = |error| Error::io("key.ask", "it can't be read", error);
        let file = fs::File::open(&self.path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode();
        if mode & 0o077 != 0 {
            let why = format!(
                "it is not its owner's alone: its mode is {:03o}, make it 600",
                mode & 0o777
            );
            return Err(Error::new(ErrorKind::Refused, "key.ask", why));
        }
        text(read_list(file)?)
    }
}

impl fmt::Display for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key file {}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::thread;

    use super::super::super::keys::KeyProvider as _;
    use super::*;

    #[test]
    fn keys_that_are_added_at_once_are_all_there_where_a_link_leads() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, link) = (directory.path().join("keys"), directory.path().join("link"));
        KeyFile::new(&path).add().expect("is added");
        std::os::unix::fs::symlink(&path, &link).expect("is linked");
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| KeyFile::new(&link).add().expect("is added"));
            }
        });
        assert!(fs::symlink_metadata(&link).expect("is there").is_symlink());
        let list = KeyFile::new(&path).list().expect("is read");
        assert_eq!(list.ids().count(), 9);
    }

    #[test]
    fn a_key_is_added_before_the_others_in_a_file_of_its_owner_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("keys");
        let file = KeyFile::new(&path);
        assert_eq!(file.current().expect_err("none").kind(), ErrorKind::Refused);
        let first = file.add().expect("is added");
        let second = file.add().expect("is added");
        assert_eq!((first.as_str(), second.as_str()), ("key-1", "key-2"));
        assert_eq!(file.current().expect("a key").0, second);
        assert!(file.key(&first).expect("is asked").is_some());
        let mode = fs::metadata(&path).expect("is there").mode();
        assert_eq!(mode & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("is set");
            let refused = file.current().expect_err("is refused");
            assert_eq!(refused.kind(), ErrorKind::Refused);
            assert!(refused.to_string().contains("make it 600"), "{refused}");
            assert!(file.add().is_err());
        }
    }

    #[test]
    fn what_is_no_list_of_keys_is_not_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("keys");
        fs::write(&path, "something else").expect("is written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("is set");
        let refused = KeyFile::new(&path).add().expect_err("is refused");
        assert_eq!(refused.kind(), ErrorKind::Refused);
        assert_eq!(fs::read(&path).expect("is read"), b"something else");
    }
}
