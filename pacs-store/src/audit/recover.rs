//! What a log is found to be when it is opened, and how it goes on.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::record::{AuditHead, FILE_HEADER, FILE_HEADER_BYTES, NONE};
use super::state::StateFile;
use super::walk::{FileEnd, Finding, LogFile, Walk};
use super::{HEAD, write_whole};
use crate::medium::{Medium, MediumFile, read_exact_at};

/// What an opening found, besides a log that is as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Bytes at the end that were being written when the process or the machine died. They were never acknowledged, and are gone
    /// now.
    pub torn_bytes: u64,
    /// What is not as it was written, in the last file: the log was changed by others, or the disk lost what it had taken. Nothing
    /// of it was touched; the log goes on in a new file. `verify` looks at all files.
    pub findings: Vec<Finding>,
}

/// Where a log goes on.
pub(super) struct Opened {
    pub(super) file: Arc<dyn MediumFile>,
    pub(super) end: u64,
    pub(super) head: AuditHead,
    /// Of all files.
    pub(super) bytes: u64,
    pub(super) recovered: Recovered,
}

pub(super) fn open(medium: &dyn Medium) -> io::Result<Opened> {
    let state = StateFile::read(medium, HEAD)?;
    let files = LogFile::all(medium)?;
    let acknowledged = state.newest.map_or(0, |head| head.sequence);
    let mut bytes = 0;
    for named in &files {
        bytes += medium.open(&named.path)?.length()?;
    }
    let Some(last_file) = files.last() else {
        // New, or all of it is gone but the head.
        let mut recovered = Recovered::default();
        if acknowledged > 0 {
            recovered.findings.push(Finding::Cut {
                last: 0,
                acknowledged,
            });
        }
        let head = state.newest.unwrap_or(NONE);
        let file = create(medium, head.sequence + 1)?;
        return Ok(Opened {
            file,
            end: FILE_HEADER_BYTES,
            head,
            bytes: FILE_HEADER_BYTES,
            recovered,
        });
    };
    // From the last file that has a record.
    let mut from = files.len() - 1;
    let (mut walk, end) = loop {
        let number = files[from].number;
        let mut walk = Walk::new(acknowledged, number, (number == 1).then_some(NONE.hash));
        walk.heads.extend(state.newest);
        let mut end = FileEnd::Here(0);
        for (at, named) in files.iter().enumerate().skip(from) {
            end = walk.file(&*medium.open(&named.path)?, named, at + 1 == files.len())?;
        }
        if walk.records > 0 || from == 0 {
            break (walk, end);
        }
        from -= 1;
    };
    if walk.records > 0 && state.newest.is_none() {
        walk.find(Finding::HeadFile);
    }
    walk.end();
    let file = medium.open(&last_file.path)?;
    let last = walk.last.unwrap_or(NONE);
    let torn_bytes = match end {
        FileEnd::Torn { bytes, .. } => bytes,
        FileEnd::Here(_) => 0,
    };
    let recovered = Recovered {
        torn_bytes,
        findings: walk.findings,
    };
    if !recovered.findings.is_empty() {
        let head = state
            .newest
            .filter(|head| head.sequence >= last.sequence)
            .unwrap_or(last);
        // Never the name of a file that is there.
        let number = head.sequence.max(last_file.number) + 1;
        let head = AuditHead {
            sequence: number - 1,
            ..head
        };
        return Ok(Opened {
            file: create(medium, number)?,
            end: FILE_HEADER_BYTES,
            head,
            bytes: bytes + FILE_HEADER_BYTES,
            recovered,
        });
    }
    let end = match end {
        FileEnd::Here(end) => end,
        FileEnd::Torn { at, .. } => {
            file.truncate(at)?;
            let mut end = at;
            if at < FILE_HEADER_BYTES {
                write_whole(&*file, FILE_HEADER, 0)?;
                end = FILE_HEADER_BYTES;
            }
            bytes = bytes - torn_bytes + (end - at);
            end
        }
    };
    // What is whole and was not acknowledged is from now on. A sync of it may have failed before the process died, and then a further
    // one would say nothing: so it is written once more, with the beginning of a file that has nothing else.
    let from = match walk.unacknowledged_at.unwrap_or(end) {
        FILE_HEADER_BYTES => 0,
        from => from,
    };
    let mut rest = Vec::new();
    read_exact_at(&*file, &mut rest, (end - from) as usize, from)?;
    write_whole(&*file, &rest, from)?;
    file.sync_data()?;
    Ok(Opened {
        file,
        end,
        head: last,
        bytes,
        recovered,
    })
}

/// Makes the file that begins with this record, durably. One that an earlier attempt left without a record is taken.
pub(super) fn create(medium: &dyn Medium, number: u64) -> io::Result<Arc<dyn MediumFile>> {
    let path = LogFile::new(number).path;
    let file = match medium.create(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let file = medium.open(&path)?;
            if file.length()? > FILE_HEADER_BYTES {
                return Err(error);
            }
            file
        }
        other => other?,
    };
    write_whole(&*file, FILE_HEADER, 0)?;
    file.sync_data()?;
    medium.sync_directory(Path::new(""))?;
    Ok(file)
}
