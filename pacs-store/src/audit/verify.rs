//! Verification of a log: from end to end, whoever has it open.

use std::path::PathBuf;
use std::sync::Arc;

use pacs_core::Result;

use super::record::{AuditHead, NONE};
use super::state::StateFile;
use super::walk::{FileEnd, Finding, LogFile, Walk};
use super::{HEAD, failed, of_directory};
use crate::medium::Medium;

/// What is known of a log from elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The log must have this record, and nothing before it may be another than it was.
    pub head: Option<AuditHead>,
    /// The log begins behind this record: files before were taken away on purpose. Otherwise it must begin with the first.
    pub after: Option<AuditHead>,
}

/// What a verification came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Whole records, wherever they stand.
    pub records: u64,
    /// The last record that is in its place; number 0 where there is none.
    pub head: AuditHead,
    /// What is not as it was written, in the order of the log: the first 1,000.
    pub findings: Vec<Finding>,
    /// How many there are.
    pub findings_count: u64,
    /// Bytes at the end of what was being written when the process or the machine died, or is being written now. Nobody was told
    /// that they are kept, so nothing is lost. The next opening takes them away.
    pub torn_bytes: u64,
    /// Not all of the three copies of the head can be read, as when the machine died while it was written. By the others the log is what it
    /// should be, up to the record before at least. The next opening writes it anew.
    pub is_head_torn: bool,
}

/// Verifies the log in a directory: every bit of every record, their order, and their end. It may be in use.
///
/// That the end is not cut off is known by the file `head` beside the log, which whoever can write there can make anew; and for
/// certain by [`Known::head`].
///
/// # Errors
/// `NotFound` when there is no such directory; `Io` when it can't be read.
pub fn verify(directory: impl Into<PathBuf>, known: &Known) -> Result<Verified> {
    verify_on(&*of_directory(directory.into())?, known)
}

/// The same on a medium.
///
/// # Errors
/// As of [`verify`].
pub fn verify_on(medium: &dyn Medium, known: &Known) -> Result<Verified> {
    const OPERATION: &str = "audit.verify";
    let io = |error| failed(OPERATION, error);
    // Before the log, which may go on growing.
    let state = StateFile::read(medium, HEAD).map_err(io)?;
    let files = LogFile::all(medium).map_err(io)?;
    let after = known.after.unwrap_or(NONE);
    let acknowledged = state.newest.map_or(0, |head| head.sequence);
    let mut walk = Walk::new(acknowledged, after.sequence + 1, Some(after.hash));
    walk.heads.extend(state.newest.into_iter().chain(known.head));
    let mut torn_bytes = 0;
    for (at, named) in files.iter().enumerate() {
        let file = medium.open(&named.path).map_err(io)?;
        let end = walk.file(&*file, named, at + 1 == files.len()).map_err(io)?;
        if let FileEnd::Torn { bytes, .. } = end {
            torn_bytes = bytes;
        }
    }
    if walk.records > 0 && state.newest.is_none() {
        walk.find(Finding::HeadFile);
    }
    walk.end();
    Ok(Verified {
        records: walk.records,
        head: walk.last.unwrap_or(after),
        findings: walk.findings,
        findings_count: walk.findings_count,
        torn_bytes,
        is_head_torn: state.exists && !state.is_whole,
    })
}

/// The records of the log in a directory behind the number `after`, oldest first, up to `count`: the messages that people read. It
/// may be in use.
///
/// # Errors
/// As of [`verify`].
pub fn read(
    directory: impl Into<PathBuf>,
    after: u64,
    count: usize,
) -> Result<Vec<pacs_core::audit::Recorded>> {
    let medium: Arc<dyn Medium> = of_directory(directory.into())?;
    super::reader::Reader::new(medium).read(after, u64::MAX, count)
}
