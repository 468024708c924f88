//! redb on an encrypted file.

use std::io;
use std::path::Path;

use ::redb::StorageBackend;
use pacs_core::error::{Error, ErrorKind, Result};

use super::MAGIC;
use crate::layers::encrypt::FileKeys;
use crate::layers::encrypt::file::EncryptedFile;
use crate::medium::{Medium, SystemMedium};

#[derive(Debug)]
pub(super) struct SealedBackend(EncryptedFile);

/// Opens the file at `path`, which nobody else can open as long as this one is.
pub(super) fn open(path: &Path, keys: &FileKeys) -> Result<SealedBackend> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let Some(name) = path.file_name() else {
        let why = "the path has no name of a file";
        return Err(Error::new(ErrorKind::Invalid, "index.open", why));
    };
    let medium = SystemMedium::open(directory.unwrap_or(Path::new(".")))
        .map_err(|error| Error::io("index.open", "the directory can't be opened", error))?;
    EncryptedFile::open(&medium, Path::new(name), &MAGIC, keys, true).map(SealedBackend)
}

/// Opens a file of any medium; the caller sees to it that nobody else does.
pub(super) fn open_on(medium: &dyn Medium, path: &Path, keys: &FileKeys) -> Result<SealedBackend> {
    EncryptedFile::open(medium, path, &MAGIC, keys, false).map(SealedBackend)
}

impl StorageBackend for SealedBackend {
    fn len(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_length(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}
