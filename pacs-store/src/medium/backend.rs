//! redb on a [`MediumFile`].

use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::StorageBackend;

use super::{Medium, MediumFile, write_all_at};

/// Lets redb keep its database in a file of a [`Medium`]
/// (`redb::Builder::create_with_backend`), so that it runs on the same disk, and on the same faults,
/// as the archive.
///
/// It takes no lock of its own: the store that owns the directory holds one for all its files.
#[derive(Debug)]
pub struct MediumBackend {
    file: Arc<dyn MediumFile>,
}

impl MediumBackend {
    /// Opens the file at `path`, or makes it and its name durable.
    pub fn open(medium: &dyn Medium, path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: open_or_create(medium, path)?,
        })
    }
}

/// Opens the file at `path`, or makes it and its name durable.
pub(crate) fn open_or_create(medium: &dyn Medium, path: &Path) -> io::Result<Arc<dyn MediumFile>> {
    let file = match medium.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => medium.create(path)?,
        other => other?,
    };
    // Also of a file that was there: the attempt that made it may have ended here.
    medium.sync_directory(path.parent().unwrap_or(Path::new("")))?;
    Ok(file)
}

impl StorageBackend for MediumBackend {
    fn len(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut at = 0;
        while at < out.len() {
            match self.file.read_at(&mut out[at..], offset + at as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => at += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        write_all_at(&*self.file, &[data], offset)
    }
}
