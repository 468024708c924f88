//! Holds the archive against every promise of the traits.

use own_backend::DirectoryArchive;

/// A place for each test: a directory that goes with the closure, which opens it as often as asked.
fn place() -> impl Fn() -> DirectoryArchive {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    move || DirectoryArchive::open(directory.path()).expect("the archive opens")
}

pacs_core::archive_conformance!(directory_archive, place());
