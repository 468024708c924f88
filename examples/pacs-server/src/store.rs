//! The data directory: the archive in segment files, the index beside it.
//!
//! ```text
//! DATA/archive/          instances, one behind the other in large files
//! DATA/index.redb        what is searched; can be made anew from the archive
//! DATA/index.attributes  which attributes the index was filled with
//! DATA/imports/          journals of unfinished imports
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::executor::block_on;
use pacs_core::query::AttributeSet;
use pacs_core::{Archive, Error, ErrorKind, Index, Observer, Options, Pacs};
use pacs_store::{RedbIndex, RedbIndexOptions, SegmentArchive, SegmentOptions};

use crate::config::Config;

const INDEX: &str = "index.redb";
const ATTRIBUTES: &str = "index.attributes";
const IMPORTS: &str = "imports";

/// An open data directory.
pub(crate) struct Store {
    pub(crate) pacs: Pacs,
    /// Which attributes are searched.
    pub(crate) attributes: Arc<AttributeSet>,
    data: PathBuf,
}

impl Store {
    /// Opens the data directory, and makes it where there is none. The error is fit to be shown.
    pub(crate) fn open_or_make(config: &Config, observers: Vec<Arc<dyn Observer>>) -> Result<Self, String> {
        let directory = archive_directory(config);
        fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        Self::open_observed(config, observers)
    }

    /// Opens the data directory. The error is fit to be shown.
    pub(crate) fn open(config: &Config) -> Result<Self, String> {
        Self::open_observed(config, Vec::new())
    }

    fn open_observed(config: &Config, observers: Vec<Arc<dyn Observer>>) -> Result<Self, String> {
        let attributes = Arc::new(config.attribute_set()?);
        let (archive, index) = (archive(config)?, index(config)?);
        let explained = |error| explained(config, &error);
        let empty = block_on(index.totals()).map_err(explained)?.instances == 0;
        let options = Options {
            duplicates: config.duplicates.policy(),
            attributes: Arc::clone(&attributes),
            observers,
            ..Options::default()
        };
        let pacs = block_on(Pacs::open(archive, index, options)).map_err(explained)?;
        let store = Self {
            pacs,
            attributes,
            data: config.data.clone(),
        };
        if empty {
            // All that is in the index now was put there with the attributes of today.
            store.note_attributes().map_err(|error| error.to_string())?;
        }
        Ok(store)
    }

    /// Where journals of imports are kept.
    pub(crate) fn imports(&self) -> PathBuf {
        self.data.join(IMPORTS)
    }

    /// Whether the index was filled with other attributes than are searched now.
    pub(crate) fn attributes_changed(&self) -> bool {
        fs::read_to_string(self.data.join(ATTRIBUTES)).ok() != Some(fingerprint(&self.attributes))
    }

    /// Notes that the index is filled with the attributes that are searched now.
    pub(crate) fn note_attributes(&self) -> io::Result<()> {
        note_attributes(&self.data, &self.attributes)
    }
}

/// Makes the index anew from the archive alone; answers how many instances it knows and how many can't
/// be read. The error is fit to be shown.
pub(crate) fn rebuild_index(config: &Config) -> Result<(u64, u64), String> {
    let attributes = config.attribute_set()?;
    // The archive's lock comes first: nobody else works on the index then.
    let archive = archive(config)?;
    match fs::remove_file(config.data.join(INDEX)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.to_string()),
        _ => {}
    }
    let index = index(config)?;
    let rebuilt = Pacs::rebuild_index(&*archive, &*index, &attributes);
    let rebuilt = block_on(rebuilt).map_err(|error| error.to_string())?;
    note_attributes(&config.data, &attributes).map_err(|error| error.to_string())?;
    let totals = block_on(index.totals()).map_err(|error| error.to_string())?;
    Ok((totals.instances, rebuilt.unreadable))
}

fn archive_directory(config: &Config) -> PathBuf {
    config.data.join("archive")
}

fn archive(config: &Config) -> Result<Arc<dyn Archive>, String> {
    let directory = archive_directory(config);
    match fs::metadata(&directory) {
        Ok(metadata) if metadata.is_dir() => {}
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(format!("{}: {error}", directory.display()));
        }
        _ => return Err(format!("there is no store at {}", config.data.display())),
    }
    match SegmentArchive::open(&directory, SegmentOptions::default()) {
        Ok(archive) => Ok(Arc::new(archive)),
        Err(error) if error.kind() == ErrorKind::Refused => {
            Err(format!("{} is in use by another process", config.data.display()))
        }
        Err(error) => Err(format!("{}: {error}", directory.display())),
    }
}

fn index(config: &Config) -> Result<Arc<dyn Index>, String> {
    let path = config.data.join(INDEX);
    let mut options = RedbIndexOptions::default();
    options.cache_max_bytes = usize::try_from(config.index_cache_mebibytes)
        .unwrap_or(usize::MAX)
        .saturating_mul(1024 * 1024);
    match RedbIndex::open(&path, options) {
        Ok(index) => Ok(Arc::new(index)),
        // A file that can be opened and still is no index: some damage looks like a failing disk.
        Err(error) if error.kind() == ErrorKind::Io && can_be_opened(&path) => {
            Err(format!("{}: {error}\n{}", path.display(), remedy(config)))
        }
        Err(error) => Err(format!("{}: {}", path.display(), explained(config, &error))),
    }
}

fn can_be_opened(path: &Path) -> bool {
    fs::OpenOptions::new().read(true).write(true).open(path).is_ok()
}

/// The error, with what to do where the index is damaged.
pub(crate) fn explained(config: &Config, error: &Error) -> String {
    let of_index = error.operation().starts_with("index.");
    if of_index && matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) {
        format!("{error}\n{}", remedy(config))
    } else {
        error.to_string()
    }
}

fn remedy(config: &Config) -> String {
    format!(
        "the index holds nothing of its own, this makes it anew from the archive:\n    {}",
        config.command("rebuild-index")
    )
}

fn fingerprint(attributes: &AttributeSet) -> String {
    format!("{:016x}\n", attributes.fingerprint())
}

fn note_attributes(data: &Path, attributes: &AttributeSet) -> io::Result<()> {
    // Not synced: without it the index is only filled again.
    fs::write(data.join(ATTRIBUTES), fingerprint(attributes))
}
