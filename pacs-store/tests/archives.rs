//! Every archive keeps every promise of the trait.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use pacs_core::Archive;
use pacs_core::archive_conformance;
use pacs_core::testkit::archive::ArchivePlace;
use pacs_store::medium::FaultyMedium;
use pacs_store::{FolderArchive, FolderOptions, MemoryArchive, SegmentArchive, SegmentOptions};
use tempfile::TempDir;

archive_conformance!(memory, MemoryArchive::new);

/// A directory that lives as long as the test.
struct Directory<A: Archive> {
    directory: TempDir,
    /// The archive keeps checksums, so it can tell damage.
    checksums: bool,
    open: fn(&Path) -> A,
}

impl<A: Archive> ArchivePlace for Directory<A> {
    fn open(&self) -> Arc<dyn Archive> {
        Arc::new((self.open)(self.directory.path()))
    }

    fn damage(&self, bytes: &Bytes) -> bool {
        if self.checksums {
            flip(self.directory.path(), bytes);
        }
        self.checksums
    }
}

/// Changes one byte inside the one segment of `directory` where `bytes` stand.
fn flip(directory: &Path, bytes: &[u8]) {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory.join("segments")).expect("is listed") {
        let path = entry.expect("is listed").path();
        let content = std::fs::read(&path).expect("is read");
        let at = content.windows(bytes.len()).position(|window| window == bytes);
        found.extend(at.map(|at| (path, at + bytes.len() / 2, content)));
    }
    let [(path, at, content)] = &found[..] else {
        panic!("the bytes stand in {} files", found.len());
    };
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .expect("is opened");
    file.write_all_at(&[content[*at] ^ 0x10], *at as u64)
        .expect("is written");
}

fn directory<A: Archive>(open: fn(&Path) -> A) -> Directory<A> {
    Directory {
        directory: TempDir::new().expect("a temporary directory"),
        checksums: true,
        open,
    }
}

/// Room on the machine that tests is not what is tested.
fn options() -> SegmentOptions {
    SegmentOptions {
        reserve_bytes: 0,
        ..SegmentOptions::default()
    }
}

fn segment(path: &Path, options: SegmentOptions) -> SegmentArchive {
    SegmentArchive::open(path, options).expect("opens")
}

archive_conformance!(segment_default, directory(|path| segment(path, options())));

archive_conformance!(
    segment_small_segments,
    directory(|path| {
        let options = SegmentOptions {
            segment_bytes: 200_000,
            open_files: 2,
            ..options()
        };
        segment(path, options)
    })
);

archive_conformance!(
    segment_everything_streams,
    directory(|path| {
        let options = SegmentOptions {
            inline_bytes: 0,
            lanes: 64,
            write_threads: 1,
            read_threads: 1,
            ..options()
        };
        segment(path, options)
    })
);

archive_conformance!(
    segment_nothing_streams,
    directory(|path| {
        let options = SegmentOptions {
            inline_bytes: 16 << 20,
            ..options()
        };
        segment(path, options)
    })
);

archive_conformance!(segment_in_memory, {
    let medium = Arc::new(FaultyMedium::new(1));
    move || {
        let medium = Arc::clone(&medium);
        SegmentArchive::open_on(medium, options()).expect("opens")
    }
});

archive_conformance!(
    folder,
    Directory {
        // Its files are anybody's to write: there is nothing to compare them with.
        checksums: false,
        ..directory(|path| {
            let options = FolderOptions {
                reserve_bytes: 0,
                ..FolderOptions::default()
            };
            FolderArchive::open(path, options).expect("opens")
        })
    }
);
