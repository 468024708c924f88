//! What an import says at its end.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use pacs_core::{Error, StoreOutcome};

use super::file::Outcome;

/// Files that are named for each reason.
const NAMED_MAX: usize = 5;

/// Counts of what became of the files.
#[derive(Default)]
pub(super) struct Report {
    new: u64,
    already_kept: u64,
    replaced: u64,
    first_kept: u64,
    resumed: u64,
    /// Among those that are kept: the data set couldn't be followed to its end.
    incomplete: u64,
    refused: BTreeMap<String, Refused>,
    /// Why nothing more was taken in.
    unrecorded: Option<String>,
    /// Something failed that may not fail another time.
    failed: bool,
}

#[derive(Default)]
struct Refused {
    count: u64,
    first: Vec<PathBuf>,
}

impl Report {
    pub(super) fn add(&mut self, path: &Path, outcome: &Outcome) {
        match &outcome.result {
            Ok(kept) => {
                *match kept.outcome {
                    StoreOutcome::New => &mut self.new,
                    StoreOutcome::AlreadyKept => &mut self.already_kept,
                    StoreOutcome::Replaced => &mut self.replaced,
                    StoreOutcome::FirstKept => &mut self.first_kept,
                } += 1;
                let is_left_out = kept.outcome == StoreOutcome::FirstKept;
                self.incomplete += u64::from(!kept.complete && !is_left_out);
            }
            Err(error) => {
                self.failed |= outcome.may_be_retried();
                let tags: String = error.tags().iter().map(|tag| format!(" {tag}")).collect();
                self.refuse(path, format!("{}{tags}", error.context()));
            }
        }
    }

    /// What was taken in must be recorded for audit, and can't be.
    pub(super) fn unrecorded(&mut self, error: &Error) {
        self.unrecorded = Some(error.to_string());
        self.failed = true;
    }

    /// A directory or file that can't be looked at.
    pub(super) fn unreadable(&mut self, path: &Path, reason: &str) {
        self.failed = true;
        self.refuse(path, reason.to_owned());
    }

    /// A file that an earlier call took in.
    pub(super) fn resumed(&mut self) {
        self.resumed += 1;
    }

    /// Whether every file was taken in.
    pub(super) fn complete(&self) -> bool {
        self.refused.is_empty() && self.unrecorded.is_none()
    }

    /// Whether another call may take in more.
    pub(super) fn failed(&self) -> bool {
        self.failed
    }

    fn refuse(&mut self, path: &Path, reason: String) {
        let refused = self.refused.entry(reason).or_default();
        refused.count += 1;
        if refused.first.len() < NAMED_MAX {
            refused.first.push(path.to_owned());
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused: u64 = self.refused.values().map(|refused| refused.count).sum();
        writeln!(f, "{:>10} imported", self.new)?;
        let rest = [
            (self.already_kept, "kept already"),
            (
                self.replaced,
                "kept in place of an earlier version, which stays in the archive",
            ),
            (self.first_kept, "left out: another version is kept"),
            (self.resumed, "taken in by an earlier call"),
            (refused, "refused"),
        ];
        for (count, what) in rest.into_iter().filter(|(count, _)| *count > 0) {
            writeln!(f, "{count:>10} {what}")?;
        }
        if self.incomplete > 0 {
            writeln!(
                f,
                "\n{} of those kept can't be followed to their end",
                self.incomplete
            )?;
        }
        if let Some(why) = &self.unrecorded {
            writeln!(
                f,
                "\nnothing more is taken in: it can't be recorded for audit: {why}"
            )?;
        }
        for (reason, refused) in &self.refused {
            writeln!(f, "\n{} refused: {reason}", refused.count)?;
            for path in &refused.first {
                writeln!(f, "    {}", path.display())?;
            }
            if refused.count > refused.first.len() as u64 {
                writeln!(f, "    and {} more", refused.count - refused.first.len() as u64)?;
            }
        }
        Ok(())
    }
}
