//! What the tests of encryption share.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pacs_core::{Archive, Result};
use pacs_store::layers::encrypt::{Key, KeyId, KeyList};
use pacs_store::{EncryptedArchive, FolderArchive, FolderOptions, SegmentArchive, SegmentOptions};

/// What is inside.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Folder,
    Segment,
}

impl Kind {
    pub(crate) fn open(self, path: &Path) -> Arc<dyn Archive> {
        // Room on the machine that tests is not what is tested.
        match self {
            Self::Folder => {
                let options = FolderOptions {
                    reserve_bytes: 0,
                    sealed: true,
                    ..FolderOptions::default()
                };
                Arc::new(FolderArchive::open(path, options).expect("opens"))
            }
            Self::Segment => {
                let options = SegmentOptions {
                    reserve_bytes: 0,
                    ..SegmentOptions::default()
                };
                Arc::new(SegmentArchive::open(path, options).expect("opens"))
            }
        }
    }
}

/// These keys, each of one byte.
pub(crate) fn list<const N: usize>(keys: [(&str, u8); N]) -> KeyList {
    KeyList::new(keys.map(|(id, byte)| (KeyId::parse(id).expect("a name"), Key::new([byte; 32]))))
}

pub(crate) fn keys(id: &str, byte: u8) -> KeyList {
    list([(id, byte)])
}

pub(crate) fn open_with(inside: &Arc<dyn Archive>, keys: KeyList) -> Result<EncryptedArchive> {
    EncryptedArchive::open(Arc::clone(inside), Arc::new(keys), Default::default())
}

/// The files of an archive that hold instances.
pub(crate) fn stored_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("is listed") {
            let path = entry.expect("is listed").path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            match path.is_dir() {
                true => directories.push(path),
                false if name == "lock" => {}
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}
