//! Which studies a migration has brought over: lost with no harm, kept only while the migration is unfinished.
//!
//! A text file, one line a study. Nothing is synced: what is lost costs listing a study again, and a line is only
//! written after the study is kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use pacs_core::Uid;

use super::Totals;
use crate::util::Seen;

/// The studies that earlier calls and this one brought over.
pub(super) struct Journal {
    path: PathBuf,
    done: Seen,
    /// Of earlier calls.
    pub(super) earlier: Totals,
    file: File,
}

impl Journal {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let text = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            text => text?,
        };
        // An interrupted append may have left part of a line.
        let whole = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        file.set_len(whole as u64)?;
        let (mut done, mut earlier) = (Seen::default(), Totals::default());
        for line in String::from_utf8_lossy(&text[..whole]).lines() {
            let mut words = line.split(' ');
            let Some(Ok(study)) = words.next().map(Uid::parse) else {
                continue;
            };
            let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            if done.insert(&study) {
                earlier.add(number(), number(), number());
            }
        }
        Ok(Self {
            path: path.to_owned(),
            done,
            earlier,
            file,
        })
    }

    pub(super) fn holds(&self, study: &Uid) -> bool {
        self.done.contains(study)
    }

    pub(super) fn add(&mut self, study: &Uid, series: u64, instances: u64, bytes: u64) -> io::Result<()> {
        self.done.insert(study);
        self.file
            .write_all(format!("{study} {series} {instances} {bytes}\n").as_bytes())
    }

    /// The migration is over: the next one looks at everything.
    pub(super) fn finish(self) -> io::Result<()> {
        fs::remove_file(self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_migration_finds_what_was_done_and_half_a_line_counts_for_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let [first, second] = ["1.2.3", "1.2.4"].map(|text| Uid::parse(text).unwrap());
        let mut journal = Journal::open(&path).unwrap();
        journal.add(&first, 1, 2, 3).unwrap();
        drop(journal);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"1.2.4 1").unwrap();
        let mut journal = Journal::open(&path).unwrap();
        assert!(journal.holds(&first) && !journal.holds(&second));
        assert_eq!((journal.earlier.studies, journal.earlier.bytes), (1, 3));
        journal.add(&second, 1, 1, 1).unwrap();
        drop(journal);
        let journal = Journal::open(&path).unwrap();
        assert_eq!((journal.earlier.studies, journal.earlier.instances), (2, 3));
        journal.finish().unwrap();
        assert!(!path.exists());
    }
}
