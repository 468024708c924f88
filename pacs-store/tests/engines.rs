//! The engine keeps its promises on every pair of archive and index.

use std::path::Path;
use std::sync::Arc;

use pacs_core::testkit::engine::Place;
use pacs_core::{Archive, Index, Ledger, engine_conformance};
use pacs_store::layers::encrypt::{FileKeys, KeyFile};
use pacs_store::{
    EncryptOptions, EncryptedArchive, FolderArchive, FolderOptions, MemoryArchive, MemoryIndex, MemoryLedger,
    RedbIndex, RedbIndexOptions, RedbLedger, SegmentArchive, SegmentOptions,
};
use tempfile::TempDir;

/// In memory: opening again finds the same ones.
struct Memory(Arc<MemoryArchive>, Arc<MemoryIndex>, Arc<MemoryLedger>);

impl Place for Memory {
    fn archive(&self) -> Arc<dyn Archive> {
        self.0.clone()
    }
    fn index(&self) -> Arc<dyn Index> {
        self.1.clone()
    }
    fn ledger(&self) -> Arc<dyn Ledger> {
        self.2.clone()
    }
}

fn memory() -> Memory {
    Memory(
        Arc::new(MemoryArchive::new()),
        Arc::new(MemoryIndex::new()),
        Arc::new(MemoryLedger::new()),
    )
}

/// In a directory that lives as long as the test.
struct Directory {
    directory: TempDir,
    archive: fn(&Path) -> Arc<dyn Archive>,
    index: fn(&Path) -> Arc<dyn Index>,
    ledger: fn(&Path) -> Arc<dyn Ledger>,
}

impl Place for Directory {
    fn archive(&self) -> Arc<dyn Archive> {
        (self.archive)(self.directory.path())
    }
    fn index(&self) -> Arc<dyn Index> {
        (self.index)(self.directory.path())
    }
    fn ledger(&self) -> Arc<dyn Ledger> {
        (self.ledger)(self.directory.path())
    }
}

fn directory(archive: fn(&Path) -> Arc<dyn Archive>, index: fn(&Path) -> Arc<dyn Index>) -> Directory {
    Directory {
        directory: TempDir::new().expect("a temporary directory"),
        archive,
        index,
        ledger: |path| Arc::new(RedbLedger::open(path.join("ledger.redb")).expect("opens")),
    }
}

/// Archive, index and ledger.
fn all_encrypted() -> Directory {
    Directory {
        ledger: |path| {
            let opened = RedbLedger::open_encrypted(path.join("ledger.redb"), file_keys(path));
            Arc::new(opened.expect("opens"))
        },
        ..directory(encrypted, redb_encrypted)
    }
}

fn segment(path: &Path) -> Arc<dyn Archive> {
    // Room on the machine that tests is not what is tested.
    let options = SegmentOptions {
        reserve_bytes: 0,
        ..SegmentOptions::default()
    };
    Arc::new(SegmentArchive::open(path, options).expect("opens"))
}

fn folder(path: &Path) -> Arc<dyn Archive> {
    let options = FolderOptions {
        reserve_bytes: 0,
        ..FolderOptions::default()
    };
    Arc::new(FolderArchive::open(path.join("folder"), options).expect("opens"))
}

fn keys(path: &Path) -> Arc<KeyFile> {
    let keys = KeyFile::new(path.join("keys"));
    if !path.join("keys").exists() {
        keys.add().expect("is added");
    }
    Arc::new(keys)
}

fn file_keys(path: &Path) -> Arc<FileKeys> {
    Arc::new(FileKeys::new(keys(path), EncryptOptions::default()).expect("there is a key"))
}

fn encrypted(path: &Path) -> Arc<dyn Archive> {
    let options = EncryptOptions::default();
    Arc::new(EncryptedArchive::open(segment(path), keys(path), options).expect("opens"))
}

fn redb_encrypted(path: &Path) -> Arc<dyn Index> {
    let options = RedbIndexOptions::default();
    let opened = RedbIndex::open_encrypted(path.join("index.redb"), file_keys(path), options);
    Arc::new(opened.expect("opens"))
}

fn redb(path: &Path) -> Arc<dyn Index> {
    Arc::new(RedbIndex::open(path.join("index.redb"), RedbIndexOptions::default()).expect("opens"))
}

engine_conformance!(memory_memory, memory());
engine_conformance!(segment_redb, directory(segment, redb));
engine_conformance!(folder_redb, directory(folder, redb));
engine_conformance!(encrypted_redb, directory(encrypted, redb));
engine_conformance!(all_encrypted, all_encrypted());

#[cfg(feature = "object")]
fn object(path: &Path) -> Arc<dyn Archive> {
    let location = pacs_store::embedded::ObjectLocation::at(format!("file://{}/objects", path.display()));
    Arc::new(pacs_store::ObjectArchive::open(&location, Default::default()).expect("opens"))
}

#[cfg(feature = "object")]
engine_conformance!(object_redb, directory(object, redb));
