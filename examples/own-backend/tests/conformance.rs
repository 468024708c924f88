//! Holds the archive against every promise of the traits.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use own_backend::DirectoryArchive;
use pacs_core::Archive;
use pacs_core::testkit::archive::ArchivePlace;
use tempfile::TempDir;

/// A place for each test: a directory, which is opened as often as asked.
struct Place(TempDir);

impl ArchivePlace for Place {
    fn open(&self) -> Arc<dyn Archive> {
        Arc::new(DirectoryArchive::open(self.0.path()).expect("the archive opens"))
    }

    /// Changes one byte in the file where `bytes` stand, to see whether `verify` finds it. An archive
    /// without checksums leaves this method out.
    fn damage(&self, bytes: &Bytes) -> bool {
        for entry in std::fs::read_dir(self.0.path()).expect("can be listed") {
            let path = entry.expect("can be listed").path();
            let content = std::fs::read(&path).expect("can be read");
            if let Some(at) = content.windows(bytes.len()).position(|window| window == bytes) {
                let file = std::fs::OpenOptions::new()
                    .write(true)
                    .open(path)
                    .expect("can be opened");
                file.write_all_at(&[content[at] ^ 1], at as u64)
                    .expect("can be written");
                return true;
            }
        }
        panic!("the bytes are in no file");
    }
}

fn place() -> Place {
    Place(tempfile::tempdir().expect("a temporary directory can be made"))
}

pacs_core::archive_conformance!(directory_archive, place());
