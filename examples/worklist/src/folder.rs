//! The folder, and what of it is on the worklist.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use dicom_dictionary_std::tags;
use futures::TryStreamExt;
use pacs_core::dataset::{json, part10, scan};
use pacs_core::workflow::{Worklist, WorklistQuery};
use pacs_core::{DataSet, Error, ErrorKind, Result, VR};

/// A file that is read: more than a hundred thousand items are below.
const FILE_LENGTH_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Accession Number and Scheduled Procedure Step ID.
type Identity = (String, String);

/// A file as it was read last.
struct Known {
    changed: Option<SystemTime>,
    length: u64,
    items: BTreeSet<Identity>,
}

pub(crate) struct Folder {
    directory: PathBuf,
    known: HashMap<PathBuf, Known>,
}

impl Folder {
    pub(crate) fn new(directory: PathBuf) -> Self {
        let known = HashMap::new();
        Self { directory, known }
    }

    /// How many items the files have.
    pub(crate) fn items(&self) -> usize {
        self.all().len()
    }

    fn all(&self) -> BTreeSet<&Identity> {
        self.known.values().flat_map(|known| &known.items).collect()
    }

    /// Brings the worklist up to the folder; answers whether there was anything to do. A file that can't be read is
    /// told of, and what it said before holds on.
    pub(crate) async fn read(&mut self, worklist: &Worklist) -> Result<bool> {
        let unreadable = |error| Error::io("folder.read", "the folder can't be read", error);
        let (mut seen, mut gone, mut changed) = (BTreeSet::new(), BTreeSet::new(), false);
        for entry in fs::read_dir(&self.directory).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            // It may be gone again.
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            let is_ours = matches!(path.extension().and_then(|end| end.to_str()), Some("json" | "wl"));
            if !is_ours || !metadata.is_file() {
                continue;
            }
            seen.insert(path.clone());
            let (modified, length) = (metadata.modified().ok(), metadata.len());
            let before = self.known.remove(&path);
            if let Some(known) = &before
                && known.changed == modified
                && known.length == length
            {
                self.known.extend(before.map(|known| (path, known)));
                continue;
            }
            changed = true;
            let before = before.map(|known| known.items).unwrap_or_default();
            let items = match put_all(&path, worklist).await {
                Ok(items) => items,
                Err(error) => {
                    tracing::error!(file = %path.display(), %error, "a file is passed over");
                    before.clone()
                }
            };
            gone.extend(before.difference(&items).cloned());
            let changed = modified;
            self.known.insert(
                path,
                Known {
                    changed,
                    length,
                    items,
                },
            );
        }
        self.known.retain(|path, known| {
            let is_there = seen.contains(path);
            if !is_there {
                changed = true;
                gone.append(&mut known.items);
            }
            is_there
        });
        let all = self.all();
        for identity in gone.iter().filter(|identity| !all.contains(identity)) {
            worklist.remove(&identity.0, Some(&identity.1)).await?;
        }
        Ok(changed)
    }

    /// Removes what no file has any more: it went while nobody looked.
    pub(crate) async fn tidy(&self, worklist: &Worklist) -> Result<()> {
        let mut step = DataSet::new();
        step.put_text(tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, "");
        let mut keys = DataSet::new();
        keys.put_text(tags::ACCESSION_NUMBER, VR::SH, "");
        keys.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![step]);
        let found = worklist.find(WorklistQuery::from_identifier(&keys)?);
        let found: Vec<DataSet> = found.try_collect().await?;
        let all = self.all();
        for identity in found
            .iter()
            .map(identity)
            .filter(|identity| !all.contains(identity))
        {
            worklist.remove(&identity.0, Some(&identity.1)).await?;
        }
        Ok(())
    }
}

/// Puts the items of a file on the worklist.
async fn put_all(path: &Path, worklist: &Worklist) -> Result<BTreeSet<Identity>> {
    let mut items = BTreeSet::new();
    for item in read_file(path)? {
        items.insert(identity(&item));
        worklist.put(item).await?;
    }
    Ok(items)
}

fn identity(item: &DataSet) -> Identity {
    let step = item.items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE).first();
    let step = step.and_then(|step| step.string(tags::SCHEDULED_PROCEDURE_STEP_ID));
    let accession = item.string(tags::ACCESSION_NUMBER).unwrap_or_default();
    (accession.to_owned(), step.unwrap_or_default().to_owned())
}

fn read_file(path: &Path) -> Result<Vec<DataSet>> {
    let failed = |error| Error::io("folder.file", "it can't be read", error);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_LENGTH_MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > FILE_LENGTH_MAX_BYTES {
        return Err(Error::new(ErrorKind::Invalid, "folder.file", "it is too long"));
    }
    if path.extension().is_some_and(|end| end == "json") {
        let read = json::read(&bytes)?.into_iter().map(|described| described.header);
        let without_meta = read.map(|mut item| {
            item.retain(|element| element.tag.group() > 2);
            item
        });
        return Ok(without_meta.collect());
    }
    let no_file = || {
        Error::new(
            ErrorKind::Invalid,
            "folder.file",
            "it is no DICOM file, or cut off",
        )
    };
    let meta = part10::read_meta(&bytes, true)?.ok_or_else(no_file)?;
    let offset = usize::try_from(meta.data_set_offset).map_err(|_| no_file())?;
    let set = bytes.get(offset..).ok_or_else(no_file)?;
    Ok(vec![scan::parse(set, &meta.transfer_syntax)?])
}
