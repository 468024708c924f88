//! [`FileToSend`]: a DICOM file, to be sent as it is.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use dicom_dictionary_std::tags;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use pacs_core::dataset::part10::read_meta;
use pacs_core::dataset::scan::Scanner;
use pacs_core::{Error, ErrorKind, Result, Uid};

use super::{Outgoing, Pieces, Supply};

/// What is read first of a file: nearly always it holds the meta information.
const FIRST_BYTES: usize = 4 * 1024;
/// What is read at most to find out what a file is.
const READ_MAX_BYTES: usize = 1024 * 1024;
/// What is read at once of a data set.
const CHUNK_BYTES: usize = 1024 * 1024;

/// A file that can be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileToSend {
    /// Where it is.
    pub path: PathBuf,
    /// SOP Class UID of its data set.
    pub sop_class: Uid,
    /// SOP Instance UID of its data set.
    pub sop_instance: Uid,
    /// Transfer syntax of its data set.
    pub transfer_syntax: Uid,
    /// Where in it the data set begins, in bytes.
    pub data_set_offset: u64,
    /// Length of the data set in bytes.
    pub length: u64,
}

impl FileToSend {
    /// Finds out what a file is. Reads its beginning, and blocks.
    ///
    /// # Errors
    /// `Io` or `NotFound` when it can't be read; `Invalid` when it is no DICOM file, or lacks the UIDs that say what it
    /// is; `Unsupported` for a DICOMDIR.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |error| Error::io("file.read", "the file can't be read", error);
        let file = File::open(path).map_err(failed)?;
        let file_length = file.metadata().map_err(failed)?.len();
        let mut head = Vec::new();
        let mut wanted = FIRST_BYTES;
        let (meta, whole) = loop {
            (&file)
                .take((wanted - head.len()) as u64)
                .read_to_end(&mut head)
                .map_err(failed)?;
            let whole = head.len() < wanted;
            match read_meta(&head, whole)? {
                Some(meta) => break (meta, whole),
                None => wanted *= 4,
            }
        };
        if meta.is_directory() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "file.read",
                "a DICOMDIR is not an instance",
            ));
        }
        // What the data set says counts: a receiver compares it with what was announced (PS3.4 B.2.3).
        let uids = |head: &[u8]| {
            let offset = usize::try_from(meta.data_set_offset).unwrap_or(usize::MAX);
            let mut scanner = Scanner::new(&meta.transfer_syntax);
            scanner.push(head.get(offset..).unwrap_or_default())?;
            let header = scanner.header_so_far();
            Ok((
                header.uid(tags::SOP_CLASS_UID)?,
                header.uid(tags::SOP_INSTANCE_UID)?,
            ))
        };
        let (sop_class, sop_instance) = match uids(&head) {
            Ok(uids) => uids,
            Err(_) if !whole => {
                (&file)
                    .take(READ_MAX_BYTES.saturating_sub(head.len()) as u64)
                    .read_to_end(&mut head)
                    .map_err(failed)?;
                uids(&head)?
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            path: path.to_owned(),
            sop_class,
            sop_instance,
            transfer_syntax: meta.transfer_syntax,
            data_set_offset: meta.data_set_offset,
            length: file_length.saturating_sub(meta.data_set_offset),
        })
    }

    /// The data set, in pieces that are read when they are asked for, which blocks; the first one is read here.
    ///
    /// # Errors
    /// What the system says, here of the file and its first piece. As an item, an error also tells of a file that has
    /// become shorter.
    pub fn pieces(&self) -> io::Result<Pieces> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.data_set_offset))?;
        let mut rest = Rest {
            file,
            left: self.length,
        };
        let first = rest.next_piece()?;
        let rest = std::iter::from_fn(move || match rest.next_piece() {
            Ok(piece) => piece.map(Ok),
            Err(error) => {
                rest.left = 0;
                Some(Err(Error::io("file.read", "the file can't be read", error)))
            }
        });
        Ok(stream::iter(first.map(Ok).into_iter().chain(rest)).boxed())
    }
}

/// What is left of a data set.
struct Rest {
    file: File,
    left: u64,
}

impl Rest {
    fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        let length = CHUNK_BYTES.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if length == 0 {
            return Ok(None);
        }
        let mut piece = BytesMut::zeroed(length);
        self.file.read_exact(&mut piece)?;
        self.left -= length as u64;
        Ok(Some(piece.freeze()))
    }
}

/// Gives files, as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files;

impl Supply<FileToSend> for Files {
    fn outgoing(&self, file: &FileToSend) -> Outgoing {
        Outgoing {
            sop_class: file.sop_class,
            sop_instance: file.sop_instance,
            transfer_syntax: file.transfer_syntax,
        }
    }

    fn open<'a>(&'a self, file: &'a FileToSend) -> BoxFuture<'a, Result<Pieces>> {
        let opened = file
            .pieces()
            .map_err(|error| Error::io("file.read", "the file can't be read", error));
        std::future::ready(opened).boxed()
    }
}
