//! Which files an import has taken in: lost with no harm, kept only while the import is unfinished.
//!
//! A file of 16-byte marks, appended to. Nothing is synced: a mark that is lost costs reading one
//! file again, and a mark is only written after its instance is durable.

use std::collections::HashSet;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use twox_hash::XxHash3_128;

/// Marks that wait before they are written.
const UNWRITTEN_MAX: usize = 256;

/// A file as it was: its path, its length, the time of its last change.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Mark(u128);

impl Mark {
    pub(super) fn of(path: &Path, metadata: &Metadata) -> Self {
        let changed = metadata
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .map_or(0, |since| since.as_nanos());
        let mut text = path.as_os_str().as_bytes().to_vec();
        text.push(0);
        text.extend_from_slice(&metadata.len().to_le_bytes());
        text.extend_from_slice(&changed.to_le_bytes());
        Self(XxHash3_128::oneshot(&text))
    }
}

/// The marks of one import.
pub(super) struct Journal {
    path: PathBuf,
    taken: HashSet<Mark>,
    out: BufWriter<File>,
    unwritten: usize,
}

impl Journal {
    /// Opens the journal of an import of `directory`, in the directory `journals`.
    pub(super) fn open(journals: &Path, directory: &Path) -> io::Result<Self> {
        let name = format!(
            "{:032x}.import",
            XxHash3_128::oneshot(directory.as_os_str().as_bytes())
        );
        let path = journals.join(name);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            bytes => bytes?,
        };
        let marks = bytes.as_chunks::<16>().0;
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        // An interrupted append may have left part of a mark.
        file.set_len(marks.len() as u64 * 16)?;
        Ok(Self {
            path,
            taken: marks
                .iter()
                .map(|mark| Mark(u128::from_le_bytes(*mark)))
                .collect(),
            out: BufWriter::new(file),
            unwritten: 0,
        })
    }

    /// Whether this file was taken in before.
    pub(super) fn holds(&self, mark: Mark) -> bool {
        self.taken.contains(&mark)
    }

    /// Notes a file as taken in.
    pub(super) fn add(&mut self, mark: Mark) -> io::Result<()> {
        self.out.write_all(&mark.0.to_le_bytes())?;
        self.unwritten += 1;
        if self.unwritten >= UNWRITTEN_MAX {
            self.unwritten = 0;
            self.out.flush()?;
        }
        Ok(())
    }

    /// The import is over: the next one of the same directory looks at everything.
    pub(super) fn finish(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }

    /// The import is to be called again.
    pub(super) fn keep(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(path: &Path) -> Mark {
        Mark::of(path, &fs::metadata(path).unwrap())
    }

    #[test]
    fn an_interrupted_import_finds_its_marks_and_a_changed_file_has_another() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        fs::write(&source, "one").unwrap();
        let mut journal = Journal::open(directory.path(), Path::new("/a")).unwrap();
        let before = mark(&source);
        journal.add(before).unwrap();
        journal.keep().unwrap();
        // Half a mark, as a crash leaves it.
        let file = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let file = file.into_iter().find(|path| path.extension().is_some()).unwrap();
        OpenOptions::new()
            .append(true)
            .open(file)
            .unwrap()
            .write_all(b"half")
            .unwrap();

        let mut journal = Journal::open(directory.path(), Path::new("/a")).unwrap();
        assert!(journal.holds(before));
        fs::write(&source, "another").unwrap();
        assert!(!journal.holds(mark(&source)));
        journal.add(mark(&source)).unwrap();
        journal.keep().unwrap();
        let journal = Journal::open(directory.path(), Path::new("/a")).unwrap();
        assert!(journal.holds(before) && journal.holds(mark(&source)));
        assert!(
            !Journal::open(directory.path(), Path::new("/b"))
                .unwrap()
                .holds(before)
        );

        journal.finish().unwrap();
        assert!(
            !Journal::open(directory.path(), Path::new("/a"))
                .unwrap()
                .holds(before)
        );
    }
}
