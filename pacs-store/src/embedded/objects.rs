//! Instances in an object store, by the settings.
//!
//! `DATA/objects/archive` holds what tells the archive from others: the index of one is not opened with another. The directory
//! is locked as long as the archive is open, so that a second program is refused before it takes the archive away.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pacs_core::{Archive, Result};
use serde::Deserialize;

/// Where an archive's objects are: a bucket and what else its store needs to know. Such a store needs the feature `object`.
///
/// Credentials are best left to the environment, from which each kind of store takes them by the names that its own tools use:
/// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AZURE_STORAGE_ACCOUNT_KEY`, `GOOGLE_SERVICE_ACCOUNT`, ... Options come first.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ObjectLocation {
    /// `s3://bucket/prefix`, `az://container/prefix`, `gs://bucket/prefix`, or `file:///directory`.
    pub url: String,
    /// What the store needs to know, by the names that the crate `object_store` gives: `endpoint`, `region`, `allow_http`, ...
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Options whose values are in files and nothing else, such as secrets.
    #[serde(default)]
    pub option_files: BTreeMap<String, PathBuf>,
    /// The authorities that the certificate of the store may also come from, in PEM.
    pub authorities: Option<PathBuf>,
}

/// Options may be secrets.
impl fmt::Debug for ObjectLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectLocation")
            .field("url", &if self.url.contains('@') { "..." } else { &self.url })
            .field("options", &self.options.keys())
            .field("option_files", &self.option_files)
            .field("authorities", &self.authorities)
            .finish()
    }
}

impl ObjectLocation {
    /// The location at `url`, all else as the environment says.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            options: BTreeMap::new(),
            option_files: BTreeMap::new(),
            authorities: None,
        }
    }
}

/// Opens the archive at `location`, whose directory here is there. With `new`, one that nobody has made before.
///
/// # Errors
/// `Refused` when another process has the directory open, `Mismatch` when it belongs to another archive; what the store says.
#[cfg(feature = "object")]
pub(super) fn open(location: &ObjectLocation, directory: &Path, new: bool) -> Result<Arc<dyn Archive>> {
    use std::{fs, io};

    use pacs_core::{Error, ErrorKind};

    use crate::layers::encrypt::random_number;
    use crate::medium::{Medium as _, SystemMedium};
    use crate::object::Expected;
    use crate::{ObjectArchive, ObjectOptions};

    const OPERATION: &str = "store.objects";
    let failed = |error| Error::io(OPERATION, format!("{}", directory.display()), error);
    let lock = SystemMedium::open(directory).and_then(|directory| directory.lock(Path::new("lock")));
    let lock = lock.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            let what = format!("{} is in use by another process", directory.display());
            Error::new(ErrorKind::Refused, OPERATION, what)
        }
        _ => failed(error),
    })?;
    let note = directory.join("archive");
    let noted = match fs::read_to_string(&note) {
        Ok(noted) => Some(noted),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    let expected = noted.map(|noted| u128::from_str_radix(noted.trim(), 16));
    let expected = expected.transpose().map_err(|_| {
        let what = format!("{} is not what it was made as", note.display());
        Error::new(ErrorKind::Corrupt, OPERATION, what)
    })?;
    let expected_there = match expected {
        Some(id) => Expected::This(id),
        None if new => {
            // Noted before it is made: what is there then is ours, also after a crash.
            let note = directory.join("archive-new");
            let id = match fs::read_to_string(&note) {
                Ok(id) => u128::from_str_radix(id.trim(), 16).ok(),
                Err(_) => None,
            };
            let id = match id {
                Some(id) => id,
                None => {
                    let id = random_number()?;
                    super::write_whole(&note, &format!("{id:032x}\n")).map_err(failed)?;
                    id
                }
            };
            Expected::New(id)
        }
        None => Expected::Any,
    };
    let archive = ObjectArchive::open_expected(location, ObjectOptions::default(), expected_there)?;
    if expected.is_none() {
        super::write_whole(&note, &format!("{:032x}\n", archive.id())).map_err(failed)?;
    }
    Ok(Arc::new(archive.holding(lock)))
}

/// Opens the archive that is at `location`, whichever it is.
///
/// # Errors
/// `NotFound` when there is none; what the store says.
#[cfg(feature = "object")]
pub(super) fn open_present(location: &ObjectLocation) -> Result<Arc<dyn Archive>> {
    use crate::object::Expected;
    use crate::{ObjectArchive, ObjectOptions};

    let archive = ObjectArchive::open_expected(location, ObjectOptions::default(), Expected::Present)?;
    Ok(Arc::new(archive))
}

#[cfg(not(feature = "object"))]
pub(super) fn open_present(_: &ObjectLocation) -> Result<Arc<dyn Archive>> {
    Err(without())
}

#[cfg(not(feature = "object"))]
pub(super) fn open(_: &ObjectLocation, _: &Path, _: bool) -> Result<Arc<dyn Archive>> {
    Err(without())
}

#[cfg(not(feature = "object"))]
fn without() -> pacs_core::Error {
    use pacs_core::{Error, ErrorKind};

    let why = "this program was built without the feature object: it has no way to an object store";
    Error::new(ErrorKind::Unsupported, "store.objects", why)
}
