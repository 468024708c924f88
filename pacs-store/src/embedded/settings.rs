//! What is kept where, as a configuration file says it.

use std::path::{Path, PathBuf};

use pacs_core::access::Policy;
use pacs_core::query::{AttributePath, AttributeSet};
use pacs_core::{DuplicatePolicy, Error, ErrorKind, Level, Result};
use serde::{Deserialize, Deserializer, de};

use super::attributes;
use super::database::Database;
pub use super::encryption::Encryption;
use super::objects::ObjectLocation;
use super::replica::Replica;

/// All settings of a store. The keys of a file are the fields' names, with hyphens; `attribute` for a table of
/// `attributes`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// The data directory.
    pub data: PathBuf,
    /// How instances are kept, where they are not in an object store.
    pub archive: ArchiveKind,
    /// The object store that instances are kept in; without it they are in the data directory.
    pub objects: Option<ObjectLocation>,
    /// Where second copies of instances are kept; without it there are none.
    pub replica: Option<Replica>,
    /// What happens to an instance that comes with other bytes under a UID that is kept.
    pub duplicates: Duplicates,
    /// Memory for the index's pages.
    pub index_cache_mebibytes: u32,
    /// How instances are encrypted; without it they are kept as they came.
    pub encryption: Option<Encryption>,
    /// The database that index and ledger are kept in; without it they are files of the data directory.
    pub database: Option<Database>,
    /// Who may do what; without it, what the options of the opening say.
    pub access: Option<Policy>,
    /// What is searched beyond the attributes of the Standard's query models.
    #[serde(rename = "attribute")]
    pub attributes: Vec<Attribute>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data: PathBuf::from("./pacs-data"),
            archive: ArchiveKind::Segment,
            objects: None,
            replica: None,
            duplicates: Duplicates::Replace,
            index_cache_mebibytes: 128,
            encryption: None,
            database: None,
            access: None,
            attributes: Vec::new(),
        }
    }
}

/// How instances are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArchiveKind {
    /// One behind the other in large files.
    #[default]
    Segment,
    /// A file each.
    Folder,
    /// In memory, with the index; gone with the process.
    Memory,
}

/// What happens to an instance that comes with other bytes under a UID that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Duplicates {
    /// [`DuplicatePolicy::Replace`]
    Replace,
    /// [`DuplicatePolicy::KeepFirst`]
    KeepFirst,
    /// [`DuplicatePolicy::Refuse`]
    Refuse,
}

impl Duplicates {
    pub(super) fn policy(self) -> DuplicatePolicy {
        match self {
            Self::Replace => DuplicatePolicy::Replace,
            Self::KeepFirst => DuplicatePolicy::KeepFirst,
            Self::Refuse => DuplicatePolicy::Refuse,
        }
    }

    /// As a file writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::KeepFirst => "keep-first",
            Self::Refuse => "refuse",
        }
    }
}

/// An attribute that is searched and returned besides the usual ones.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Attribute {
    /// At which level it is asked for.
    pub level: AttributeLevel,
    /// Where it stands, as [`AttributePath`] reads it.
    #[serde(deserialize_with = "path")]
    pub path: String,
}

/// A level by its name in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttributeLevel {
    /// [`Level::Patient`]
    Patient,
    /// [`Level::Study`]
    Study,
    /// [`Level::Series`]
    Series,
    /// [`Level::Instance`]
    Instance,
}

impl AttributeLevel {
    /// As a file writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Patient => "patient",
            Self::Study => "study",
            Self::Series => "series",
            Self::Instance => "instance",
        }
    }

    pub(super) fn level(self) -> Level {
        match self {
            Self::Patient => Level::Patient,
            Self::Study => Level::Study,
            Self::Series => Level::Series,
            Self::Instance => Level::Instance,
        }
    }
}

impl Settings {
    /// The attributes that are searched and returned.
    ///
    /// # Errors
    /// `Invalid` when one of [`attributes`](Self::attributes) can't mean anything, with the reason.
    pub fn attribute_set(&self) -> Result<AttributeSet> {
        attributes::set(&self.attributes).map_err(|why| Error::new(ErrorKind::Invalid, "store.settings", why))
    }

    /// That what is set fits together.
    ///
    /// # Errors
    /// `Invalid` when encryption and a database are wanted: what a database keeps isn't encrypted here. And when instances
    /// are to be in an object store and in files or memory, or there are to be second copies of what is a file each or in
    /// memory.
    pub fn check(&self) -> Result<()> {
        let invalid = |why| Err(Error::new(ErrorKind::Invalid, "store.settings", why));
        if self.encryption.is_some() && self.database.is_some() {
            return invalid(
                "encryption and database: what a database keeps is not encrypted by this program, it is one or the other",
            );
        }
        if self.objects.is_some() && self.archive != ArchiveKind::Segment {
            return invalid("archive and objects: instances are kept in the one or in the other");
        }
        if let Some(replica) = &self.replica {
            replica.check()?;
            if self.archive != ArchiveKind::Segment {
                return invalid(
                    "archive and replica: there are second copies of what is kept in large files or in an object store",
                );
            }
        }
        Ok(())
    }

    /// The data directory; none of a store in memory.
    pub(super) fn directory(&self) -> Option<&Path> {
        (self.archive != ArchiveKind::Memory).then_some(&self.data)
    }

    /// Where the archive's files are.
    pub(super) fn archive_directory(&self) -> Option<PathBuf> {
        Some(self.data.join(self.directory_name()?))
    }

    /// Where the index of an archive of one's own is; nowhere when it is in memory.
    pub(super) fn own_directory(&self) -> Option<PathBuf> {
        Some(self.directory()?.join(OWN))
    }

    /// That the data directory has no archive of another kind: it would be left out.
    pub(super) fn check_kind(&self) -> Result<()> {
        self.check_alone(self.directory_name())
    }

    /// The same, for an archive of one's own.
    pub(super) fn check_own(&self) -> Result<()> {
        self.check_alone(Some(OWN))
    }

    fn directory_name(&self) -> Option<&'static str> {
        match &self.objects {
            Some(_) => Some(OBJECTS),
            None => directory_of(self.archive),
        }
    }

    fn check_alone(&self, own: Option<&str>) -> Result<()> {
        let others = [ArchiveKind::Segment, ArchiveKind::Folder].map(directory_of);
        for name in others.into_iter().flatten().chain([OBJECTS, OWN]) {
            if own != Some(name) && self.data.join(name).is_dir() {
                let what = format!("{} has an archive of another kind: {name}", self.data.display());
                return Err(Error::new(ErrorKind::Mismatch, "store.open", what));
            }
        }
        Ok(())
    }
}

/// Beside the directories of the archives that are ours, so that none is opened with another's index.
const OWN: &str = "own-archive";

/// What says of the data directory that its instances are in an object store.
const OBJECTS: &str = "objects";

fn directory_of(kind: ArchiveKind) -> Option<&'static str> {
    match kind {
        ArchiveKind::Segment => Some("archive"),
        ArchiveKind::Folder => Some("files"),
        ArchiveKind::Memory => None,
    }
}

fn path<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.parse::<AttributePath>() {
        Ok(_) => Ok(text),
        Err(error) => Err(de::Error::custom(format_args!("{text:?}: {}", error.context()))),
    }
}
