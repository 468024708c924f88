//! [`StateFile`]: a number and a hash that are written again and again, one of two copies after the other.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use super::record::{AuditHead, NONE, sha256};
use crate::medium::{Medium, MediumFile, read_exact_at, write_all_at};

const MAGIC: &[u8; 8] = b"audithd1";

const COPY_BYTES: usize = 64;

/// What a copy carries of its own checksum.
const CHECK_BYTES: usize = 16;

pub(super) struct StateFile {
    file: Arc<dyn MediumFile>,
    next: u64,
}

/// What such a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// The newest copy that can be read.
    pub(super) newest: Option<AuditHead>,
    pub(super) exists: bool,
    /// Both copies can be read, and there is nothing else.
    pub(super) is_whole: bool,
}

impl StateFile {
    pub(super) fn read(medium: &dyn Medium, name: &str) -> io::Result<State> {
        let file = match medium.open(Path::new(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(State {
                    newest: None,
                    exists: false,
                    is_whole: false,
                });
            }
            Err(error) => return Err(error),
        };
        let length = file.length()?;
        let mut copies = [None; 2];
        for (copy, at) in copies.iter_mut().zip([0, COPY_BYTES as u64]) {
            if length >= at + COPY_BYTES as u64 {
                let mut bytes = Vec::new();
                read_exact_at(&*file, &mut bytes, COPY_BYTES, at)?;
                *copy = decode(&bytes);
            }
        }
        let is_whole = copies.iter().all(Option::is_some) && length == 2 * COPY_BYTES as u64;
        Ok(State {
            newest: copies.into_iter().flatten().max_by_key(|head| head.sequence),
            exists: true,
            is_whole,
        })
    }

    /// Opens the file to be written, or makes it; both copies say `now` then, and are durable.
    pub(super) fn begin(medium: &dyn Medium, name: &str, now: &AuditHead) -> io::Result<Self> {
        let path = Path::new(name);
        let file = match medium.create(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => medium.open(path)?,
            other => other?,
        };
        if file.length()? > 2 * COPY_BYTES as u64 {
            file.truncate(2 * COPY_BYTES as u64)?;
        }
        let mut state = Self { file, next: 0 };
        // One after the other, so that one is whole at any moment.
        for _ in 0..2 {
            state.write(now)?;
            state.file.sync_data()?;
        }
        medium.sync_directory(Path::new(""))?;
        Ok(state)
    }

    /// Writes over the older copy. It survives the process at once, and the machine some time later.
    pub(super) fn write(&mut self, now: &AuditHead) -> io::Result<()> {
        let bytes = encode(now);
        write_all_at(&*self.file, &[&bytes], self.next * COPY_BYTES as u64)?;
        self.next = 1 - self.next;
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn encode(head: &AuditHead) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(COPY_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&head.sequence.to_le_bytes());
    bytes.extend_from_slice(&head.hash);
    let check = sha256(&bytes);
    bytes.extend_from_slice(&check[..CHECK_BYTES]);
    bytes
}

fn decode(bytes: &[u8]) -> Option<AuditHead> {
    let mut head = NONE;
    let mut number = [0; 8];
    number.copy_from_slice(bytes.get(8..16)?);
    head.sequence = u64::from_le_bytes(number);
    head.hash.copy_from_slice(bytes.get(16..48)?);
    (encode(&head) == bytes).then_some(head)
}
