//! What the medium can do: the limit that durable ingest is held against.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// Appends `count` blocks of `length` bytes to a new file in `room`, with an fdatasync after each
/// `group` of them. Returns the time it took.
pub(crate) fn append(room: &Path, length: usize, count: usize, group: usize) -> io::Result<Duration> {
    let mut file = tempfile::tempfile_in(room)?;
    let block: Vec<u8> = (0..length).map(|at| (at * 31) as u8).collect();
    let begin = Instant::now();
    for at in 1..=count {
        file.write_all(&block)?;
        if at % group == 0 || at == count {
            file.sync_data()?;
        }
    }
    Ok(begin.elapsed())
}

/// Writes all dirty pages of the machine: on ext4 an fsync waits for other files' pages too, so that
/// otherwise a server pays for what the one before it left.
pub(crate) fn settle(room: &Path) -> io::Result<()> {
    let status = std::process::Command::new("sync").status()?;
    if !status.success() {
        return Err(io::Error::other(format!("sync: {status}")));
    }
    File::open(room)?.sync_all()
}
