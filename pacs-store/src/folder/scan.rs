//! Finding the instances among the files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use dicom_dictionary_std::tags;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use pacs_core::dataset::part10::read_meta;
use pacs_core::dataset::scan::Scanner;
use pacs_core::limits::FILE_META_LENGTH_MAX_BYTES;
use pacs_core::{DataSet, Entry, Error, ErrorKind, InstanceKey, Result, Sequence, Stored, Timestamp};

use super::{Folder, closed, path, sequence_at};
use crate::medium::MediumFile;

/// Files that are looked at in one go.
const BATCH: usize = 64;
/// Directories in directories; deeper ones are left out.
const DEPTH_MAX: usize = 64;
/// What is read of a file at once. Mostly everything that identifies an instance lies in the first.
const PIECE_BYTES: usize = 16 * 1024;

/// Directories and files that were not looked at yet.
struct Walk {
    folder: Arc<Folder>,
    directories: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

/// The stream of [`Archive::scan`](pacs_core::Archive::scan).
pub(super) fn stream(folder: Arc<Folder>) -> BoxStream<'static, Result<Entry>> {
    let walk = Walk {
        folder,
        directories: vec![PathBuf::new()],
        files: Vec::new(),
    };
    stream::unfold(Some(walk), |walk| async move {
        let mut walk = walk?;
        let folder = Arc::clone(&walk.folder);
        let looked = folder.pool.run(move || {
            let batch = walk.batch();
            (walk, batch)
        });
        let (items, walk) = match looked.await {
            Ok((walk, Ok(Some(batch)))) => (batch.into_iter().map(Ok).collect(), Some(walk)),
            Ok((_, Ok(None))) => return None,
            Ok((_, Err(error))) => (vec![Err(error)], None),
            Err(_) => (vec![Err(closed("archive.scan"))], None),
        };
        Some((stream::iter(items), walk))
    })
    .flatten()
    .boxed()
}

impl Walk {
    /// The instances among the next files; none when there are no more files.
    fn batch(&mut self) -> Result<Option<Vec<Entry>>> {
        let failed = |error| Error::io("archive.scan", "the medium did not give a directory", error);
        while self.files.len() < BATCH {
            let Some(directory) = self.directories.pop() else {
                break;
            };
            let entries = match self.folder.medium.list(&directory) {
                // Removed since it was found.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.map_err(failed)?,
            };
            for entry in entries {
                let path = directory.join(&entry.name);
                if path == Path::new(path::PRIVATE) {
                    continue;
                }
                match entry.is_directory {
                    true if path.components().count() <= DEPTH_MAX => self.directories.push(path),
                    true => tracing::warn!("a directory is too deep and left out of the scan"),
                    false => self.files.push(path),
                }
            }
        }
        if self.files.is_empty() {
            return Ok(None);
        }
        let rest = self.files.len().saturating_sub(BATCH);
        let files = self.files.split_off(rest);
        let entries = files.iter().filter_map(|path| self.look(path).transpose());
        entries.collect::<Result<_>>().map(Some)
    }

    /// What a file holds, if it is an instance. Names of files may be those of patients: they are not
    /// logged.
    ///
    /// # Errors
    /// `Refused` where it is sealed and nobody is there who could open it: it isn't passed over as if it were no instance.
    fn look(&self, path: &Path) -> Result<Option<Entry>> {
        let sealed = path::of_sealed(path);
        if sealed.is_some() && !self.folder.options.sealed {
            let why = "instances here are encrypted, and nothing is said of their keys";
            return Err(Error::new(ErrorKind::Refused, "archive.scan", why));
        }
        Ok(self.found(path, sealed))
    }

    fn found(&self, path: &Path, sealed: Option<(InstanceKey, u32)>) -> Option<Entry> {
        let Some(locator) = path::to_locator(path) else {
            tracing::warn!("the path of a file is longer than a locator can be; it is left out");
            return None;
        };
        let (file, length) = match self.folder.open_file(path) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(%error, "a file can't be read and is left out of the scan");
                return None;
            }
        };
        let identified = match sealed {
            Some(sealed) => Ok(Some(sealed)),
            None => identify(&*file).map(|key| key.map(|key| (key, path::version(path, &key)))),
        };
        let (key, version) = match identified {
            Ok(identified) => identified?,
            Err(error) => {
                tracing::debug!(%error, "a file is no instance");
                return None;
            }
        };
        let received = file
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let received = received.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
        Some(Entry::Stored(
            key,
            Stored {
                locator,
                length,
                sequence: sequence_of(Timestamp(received), version),
                received: Timestamp(received),
            },
        ))
    }
}

/// Of versions of an instance that have one time the name tells the later one.
fn sequence_of(time: Timestamp, version: u32) -> Sequence {
    Sequence(sequence_at(time).0 | u64::from(version.min(u32::from(u16::MAX))))
}

/// The UIDs of the instance in a file; none for a DICOMDIR.
fn identify(file: &dyn MediumFile) -> Result<Option<InstanceKey>> {
    let failed = |error| Error::io("archive.scan", "the medium did not give a file", error);
    let mut bytes = Vec::new();
    let mut at = 0;
    let mut more = |into: &mut Vec<u8>| -> Result<bool> {
        let read = file.append_from(into, PIECE_BYTES, at).map_err(failed)?;
        at += read as u64;
        Ok(read == 0)
    };
    let meta = loop {
        let whole = more(&mut bytes)? || bytes.len() > FILE_META_LENGTH_MAX_BYTES + 1024;
        if let Some(meta) = read_meta(&bytes, whole)? {
            break meta;
        }
        if whole {
            return Ok(None);
        }
    };
    if meta.is_directory() {
        return Ok(None);
    }
    let mut scanner = Scanner::new(&meta.transfer_syntax);
    let start = usize::try_from(meta.data_set_offset).unwrap_or(usize::MAX);
    scanner.push(bytes.get(start..).unwrap_or_default())?;
    loop {
        let header = scanner.header_so_far();
        if let Some(key) = key_of(&header) {
            return Ok(Some(key));
        }
        bytes.clear();
        if scanner.at_pixel_data().is_some() || more(&mut bytes)? {
            return Ok(key_of(&scanner.finish()?.header));
        }
        scanner.push(&bytes)?;
    }
}

fn key_of(header: &DataSet) -> Option<InstanceKey> {
    Some(InstanceKey {
        study: header.uid(tags::STUDY_INSTANCE_UID).ok()?,
        series: header.uid(tags::SERIES_INSTANCE_UID).ok()?,
        instance: header.uid(tags::SOP_INSTANCE_UID).ok()?,
    })
}
