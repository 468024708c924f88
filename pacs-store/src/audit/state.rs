//! [`StateFile`]: a number and a hash that are written again and again, one of three copies after the other.
//!
//! They stand in one piece of the medium. When the machine dies, the one that was being written is broken, and where the piece is torn
//! another one; the third is whole.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use super::record::{AuditHead, NONE, sha256};
use crate::medium::{Medium, MediumFile, read_exact_at, write_all_at};

const MAGIC: &[u8; 8] = b"audithd1";

const COPY_BYTES: usize = 64;

const COPIES: usize = 3;

/// What a copy carries of its own checksum.
const CHECK_BYTES: usize = 16;

pub(super) struct StateFile {
    file: Arc<dyn MediumFile>,
    next: usize,
}

/// What such a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// The newest copy that can be read.
    pub(super) newest: Option<AuditHead>,
    pub(super) exists: bool,
    /// All copies can be read, and there is nothing else.
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
        let copies = copies(&*file)?;
        Ok(State {
            newest: copies.into_iter().flatten().max_by_key(|head| head.sequence),
            exists: true,
            is_whole: copies.iter().all(Option::is_some) && file.length()? == (COPIES * COPY_BYTES) as u64,
        })
    }

    /// Opens the file to be written, or makes it; all copies say `now` then, and are durable.
    pub(super) fn begin(medium: &dyn Medium, name: &str, now: &AuditHead) -> io::Result<Self> {
        let path = Path::new(name);
        let file = match medium.create(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => medium.open(path)?,
            other => other?,
        };
        if file.length()? > (COPIES * COPY_BYTES) as u64 {
            file.truncate((COPIES * COPY_BYTES) as u64)?;
        }
        let copies = copies(&*file)?;
        let mut state = Self { file, next: 0 };
        // Broken ones first, and one after the other, so that one is whole at any moment.
        let (broken, whole): (Vec<usize>, Vec<usize>) = (0..COPIES).partition(|at| copies[*at].is_none());
        for at in broken.into_iter().chain(whole) {
            state.next = at;
            state.write(now)?;
            state.file.sync_data()?;
        }
        medium.sync_directory(Path::new(""))?;
        Ok(state)
    }

    /// Writes over the oldest copy. It survives the process at once, and the machine some time later.
    pub(super) fn write(&mut self, now: &AuditHead) -> io::Result<()> {
        let bytes = encode(now);
        write_all_at(&*self.file, &[&bytes], (self.next * COPY_BYTES) as u64)?;
        self.next = (self.next + 1) % COPIES;
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn copies(file: &dyn MediumFile) -> io::Result<[Option<AuditHead>; COPIES]> {
    let length = file.length()?;
    let mut copies = [None; COPIES];
    for (number, copy) in copies.iter_mut().enumerate() {
        let at = (number * COPY_BYTES) as u64;
        if length >= at + COPY_BYTES as u64 {
            let mut bytes = Vec::new();
            read_exact_at(file, &mut bytes, COPY_BYTES, at)?;
            *copy = decode(&bytes);
        }
    }
    Ok(copies)
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
