//! What is to be sent, and the presentation contexts that it needs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use dicom_dictionary_std::tags;
use pacs_core::dataset::part10::read_meta;
use pacs_core::dataset::scan::Scanner;
use pacs_core::{Error, ErrorKind, Result, Uid};
use walkdir::WalkDir;

/// Presentation contexts of one association (PS3.8 9.3.2: odd numbers up to 255).
const CONTEXTS_MAX: usize = 128;
/// What is read first of a file: nearly always it holds the meta information.
const FIRST_BYTES: usize = 4 * 1024;
/// What is read at most to find out what a file is.
const READ_MAX_BYTES: usize = 1024 * 1024;

/// A file that can be sent.
#[derive(Debug)]
pub(super) struct Sendable {
    pub(super) path: PathBuf,
    pub(super) sop_class: Uid,
    pub(super) sop_instance: Uid,
    pub(super) transfer_syntax: Uid,
    pub(super) data_set_offset: u64,
    /// Of the data set, in bytes.
    pub(super) length: u64,
}

/// Files whose contexts fit into one association.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) contexts: Vec<(Uid, Uid)>,
    pub(super) files: Vec<Sendable>,
}

/// All that is to be sent.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) batches: Vec<Batch>,
    /// Files that can't be sent, by reason.
    pub(super) refused: BTreeMap<String, Vec<PathBuf>>,
}

impl Plan {
    /// Looks at the beginning of each file at or below `paths`.
    pub(super) fn make(paths: &[PathBuf]) -> Self {
        let mut plan = Self::default();
        for path in paths {
            for entry in WalkDir::new(path).sort_by_file_name() {
                match entry {
                    Ok(entry) if entry.file_type().is_file() => plan.add(entry.into_path()),
                    Ok(_) => {}
                    Err(error) => {
                        let reason = match error.io_error().map(std::io::Error::kind) {
                            Some(std::io::ErrorKind::NotFound) => "there is nothing at this path".to_owned(),
                            Some(kind) => format!("can't be read: {kind}"),
                            None => "can't be read".to_owned(),
                        };
                        plan.refuse(error.path().unwrap_or(path).to_owned(), reason);
                    }
                }
            }
        }
        plan
    }

    /// Bytes of all data sets.
    pub(super) fn bytes(&self) -> u64 {
        self.batches
            .iter()
            .flat_map(|batch| &batch.files)
            .map(|file| file.length)
            .sum()
    }

    fn add(&mut self, path: PathBuf) {
        match look_at(&path) {
            Ok(file) => {
                let context = (file.sop_class, file.transfer_syntax);
                let fits = |batch: &&mut Batch| {
                    batch.contexts.contains(&context) || batch.contexts.len() < CONTEXTS_MAX
                };
                let batch = match self.batches.iter_mut().find(fits) {
                    Some(batch) => batch,
                    None => {
                        self.batches.push(Batch::default());
                        let last = self.batches.len() - 1;
                        &mut self.batches[last]
                    }
                };
                if !batch.contexts.contains(&context) {
                    batch.contexts.push(context);
                }
                batch.files.push(file);
            }
            Err(error) => {
                let tags: String = error.tags().iter().map(|tag| format!(" {tag}")).collect();
                self.refuse(path, format!("{}{tags}", error.context()));
            }
        }
    }

    fn refuse(&mut self, path: PathBuf, reason: String) {
        self.refused.entry(reason).or_default().push(path);
    }
}

/// Finds out what a file is.
fn look_at(path: &Path) -> Result<Sendable> {
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
                .take((READ_MAX_BYTES - head.len()) as u64)
                .read_to_end(&mut head)
                .map_err(failed)?;
            uids(&head)?
        }
        Err(error) => return Err(error),
    };
    Ok(Sendable {
        path: path.to_owned(),
        sop_class,
        sop_instance,
        transfer_syntax: meta.transfer_syntax,
        data_set_offset: meta.data_set_offset,
        length: file_length.saturating_sub(meta.data_set_offset),
    })
}
