//! Index and ledger in a database, by the settings.
//!
//! `DATA/database` holds a number that the database's schema holds too: it is this data directory's, and no other's. A second
//! line, `held`, comes when the ledger is there: from then on the directory isn't opened without that schema. So two archives
//! never share an index, and no ledger is forgotten.

#[cfg(feature = "postgres")]
mod opening;

use std::any::Any;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use pacs_core::{Error, ErrorKind, Result};
use serde::Deserialize;

#[cfg(feature = "postgres")]
pub(super) use opening::open;

const NOTE: &str = "database";
const HELD: &str = "held";
const OPERATION: &str = "store.database";

/// The database that index and ledger are kept in, in place of files of the data directory: one that speaks PostgreSQL's
/// protocol. Such a store needs the feature `postgres`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Database {
    /// Where it is: `postgresql://user@host:5432/name`. With `?sslmode=require` over TLS.
    pub url: String,
    /// The file that holds the password and nothing else, where the URL holds none.
    pub password_file: Option<PathBuf>,
    /// The schema that holds the tables; it is made where it is missing.
    #[serde(default = "schema")]
    pub schema: String,
    /// Connections at once for those who ask.
    #[serde(default = "connections")]
    pub connections: usize,
    /// The authorities that the certificate of the server must come from, in PEM; else those that the system knows.
    pub authorities: Option<PathBuf>,
}

fn schema() -> String {
    "pacs".to_owned()
}

fn connections() -> usize {
    16
}

impl Database {
    /// The database at `url`, all else as it is usual.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password_file: None,
            schema: schema(),
            connections: connections(),
            authorities: None,
        }
    }
}

/// The URL may hold a password.
impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("password_file", &self.password_file)
            .field("schema", &self.schema)
            .field("connections", &self.connections)
            .field("authorities", &self.authorities)
            .finish_non_exhaustive()
    }
}

/// That a data directory without a database has none.
///
/// # Errors
/// `Mismatch` when index and ledger are in one.
pub(super) fn check_none(directory: &Path) -> Result<()> {
    match Note::read(directory)? {
        Some(Note { is_held: true, .. }) => {
            let what = format!(
                "index and ledger of {} are in a database, and the settings name none",
                directory.display()
            );
            Err(Error::new(ErrorKind::Mismatch, OPERATION, what))
        }
        _ => Ok(()),
    }
}

/// What `DATA/database` says.
struct Note {
    #[cfg_attr(
        not(feature = "postgres"),
        expect(dead_code, reason = "without a way to a database nobody compares it")
    )]
    number: String,
    is_held: bool,
}

impl Note {
    /// # Errors
    /// `Corrupt` when it is not what was written; what the system says.
    fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(NOTE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(OPERATION, format!("{}", path.display()), error)),
        };
        let mut lines = text.lines();
        match (lines.next().filter(|number| number.len() == 32), lines.next()) {
            (Some(number), held @ (None | Some(HELD))) => Ok(Some(Self {
                number: number.to_owned(),
                is_held: held.is_some(),
            })),
            _ => {
                let what = format!("{} is not what it was made as", path.display());
                Err(Error::new(ErrorKind::Corrupt, OPERATION, what))
            }
        }
    }
}

/// Held as long as the directory's index is open.
pub(super) type Lock = Box<dyn Any + Send + Sync>;

#[cfg(not(feature = "postgres"))]
pub(super) fn open(_: &Database, _: &Path, _: bool) -> Result<super::Opened> {
    let why = "this program was built without the feature postgres: it has no way to a database";
    Err(Error::new(ErrorKind::Unsupported, OPERATION, why))
}
