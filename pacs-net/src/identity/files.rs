//! Files that are read again when they have changed, and are their owner's alone.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::time::SystemTime;

use pacs_core::{Error, Result};

/// By what it is told whether a file has changed; none where there is no file.
pub(super) type Stamp = Option<(SystemTime, u64)>;

pub(super) fn stamp(file: &Path) -> Stamp {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Puts a file with these bytes in the place of what is there, durably. It is of the owner of the directory, so that a server
/// reads what a command wrote as root.
pub(super) fn write_private(file: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |error| {
        let what = format!("{} can't be written", file.display());
        Error::io("identity.write", what, error)
    };
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut new = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    new.write_all(bytes).map_err(failed)?;
    let (owner, ours) = (
        fs::metadata(directory).map_err(failed)?,
        new.as_file().metadata().map_err(failed)?,
    );
    if owner.uid() != ours.uid() {
        chown(new.path(), Some(owner.uid()), Some(owner.gid())).map_err(failed)?;
    }
    new.as_file().sync_all().map_err(failed)?;
    new.persist(file).map_err(|error| failed(error.error))?;
    fs::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed)
}
