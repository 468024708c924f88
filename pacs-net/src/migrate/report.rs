//! What a migration says at its end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use pacs_core::Uid;

/// How many are named for each reason.
const NAMED_MAX: usize = 5;

/// How much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Studies.
    pub studies: u64,
    /// Their series.
    pub series: u64,
    /// Their instances.
    pub instances: u64,
    /// Bytes of their Part 10 streams here.
    pub bytes: u64,
}

impl Totals {
    pub(super) fn add(&mut self, series: u64, instances: u64, bytes: u64) {
        self.studies += 1;
        self.series += series;
        self.instances += instances;
        self.bytes += bytes;
    }
}

/// What became of a migration.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What this call found complete, or made so.
    pub done: Totals,
    /// What earlier calls did, and this one did not look at again.
    pub earlier: Totals,
    /// Instances that had to be fetched by this call.
    pub fetched: u64,
    /// Studies that are not complete: how many for each reason, and the first of them.
    pub failed: BTreeMap<String, (u64, Vec<Uid>)>,
    /// Instances that the peer lists and that are not kept here.
    pub missing: u64,
    /// Slices of dates that the peer would not list, with its words.
    pub not_listed: Vec<String>,
    /// The peer lists studies without a valid Study Instance UID: nobody can ask for them.
    pub without_uid: bool,
    /// It was stopped before its end, and goes on when it is called again.
    pub stopped: bool,
    /// How long this call took.
    pub took: Duration,
}

impl Report {
    /// Whether everything that the peer has, of what was wanted, is kept here.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.not_listed.is_empty() && !self.without_uid && !self.stopped
    }

    pub(super) fn fail(&mut self, study: Uid, reason: String) {
        let (count, first) = self.failed.entry(reason).or_default();
        *count += 1;
        if first.len() < NAMED_MAX {
            first.push(study);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed: u64 = self.failed.values().map(|(count, _)| count).sum();
        let all = [self.done, self.earlier];
        let sum = |of: fn(&Totals) -> u64| all.iter().map(of).sum::<u64>();
        writeln!(f, "{:>14} studies complete", sum(|it| it.studies))?;
        writeln!(f, "{:>14} series", sum(|it| it.series))?;
        writeln!(f, "{:>14} instances", sum(|it| it.instances))?;
        writeln!(f, "{:>14} bytes", sum(|it| it.bytes))?;
        writeln!(f, "{:>14} instances fetched by this call", self.fetched)?;
        if self.earlier.studies > 0 {
            writeln!(f, "{:>14} studies done by earlier calls", self.earlier.studies)?;
        }
        writeln!(f, "{:>14} studies failed", failed)?;
        writeln!(f, "{:>14} instances missing", self.missing)?;
        writeln!(f, "{:>14} seconds", self.took.as_secs())?;
        for (reason, (count, first)) in &self.failed {
            writeln!(f, "\n{count} failed: {reason}")?;
            for study in first {
                writeln!(f, "    {study}")?;
            }
            if *count > first.len() as u64 {
                writeln!(f, "    and {} more", count - first.len() as u64)?;
            }
        }
        for what in &self.not_listed {
            writeln!(f, "\nnot listed: {what}")?;
        }
        if self.without_uid {
            writeln!(
                f,
                "\nthe peer lists studies without a valid UID: they can't be fetched"
            )?;
        }
        if self.stopped {
            writeln!(f, "\nstopped before its end: the same call goes on where it was")?;
        }
        Ok(())
    }
}
