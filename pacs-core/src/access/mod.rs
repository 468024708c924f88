//! Who may do what: [`AccessControl`] decides, once, for every way in.
//!
//! - A door (DIMSE, HTTP, HL7) says in [`Source`] what it knows of who asks: what they call themselves, and what is
//!   proven, [`Certificate`] and [`Identity`].
//! - [`Pacs`](crate::Pacs) asks before it stores, finds, hands out and amends; what it doesn't do itself (procedure steps,
//!   deliveries, deletion) a door asks about by [`Pacs::permit`](crate::Pacs::permit).
//! - [`Policy`] decides by roles, as a configuration file has them; [`AllowAll`] is what an engine has by itself.
//!
//! A [`Source`] without a [`Door`] is the program around the engine, which needs no leave.

mod network;
mod policy;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Deserialize;

pub use network::Network;
pub use policy::{Peer, Policy, Role, Values};

use crate::dataset::DataSet;
use crate::error::{Error, ErrorKind, Result};
use crate::hooks::Source;
use crate::query::{Key, QueryOptions};
use crate::uid::Level;

/// What somebody may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// Have instances kept: C-STORE, STOW-RS, reports by HL7; ask for storage commitment.
    Store,
    /// Know what is kept and what is to be done: C-FIND, QIDO-RS, FHIR, worklists, procedure steps.
    Find,
    /// Have what is kept: C-MOVE, C-GET, WADO-RS, WADO-URI.
    Retrieve,
    /// Take instances away for good.
    Delete,
    /// Correct what is known of patients and studies, and merge patients: ADT by HL7.
    Amend,
    /// Take part in the workflow: orders, performed procedure steps, unified procedure steps.
    Work,
    /// See what is delivered to whom, hold it back, let it go, send it again.
    Route,
    /// See how the server is.
    Administer,
}

impl Permission {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::Store,
        Self::Find,
        Self::Retrieve,
        Self::Delete,
        Self::Amend,
        Self::Work,
        Self::Route,
        Self::Administer,
    ];

    /// What a configuration file calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Find => "find",
            Self::Retrieve => "retrieve",
            Self::Delete => "delete",
            Self::Amend => "amend",
            Self::Work => "work",
            Self::Route => "route",
            Self::Administer => "administer",
        }
    }
}

/// By which way a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Door {
    /// Over an association.
    Dicom,
    /// Over HTTP.
    Web,
    /// As an HL7 message.
    Hl7,
    /// By a call of a program, for somebody else: in C, one that names a source.
    Call,
}

/// What a certificate that was verified says of whom it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Its subject, as RFC 4514 writes it in the order of the certificate: `C=DE, O=Hospital, CN=ct1`.
    pub subject: String,
    /// The last common name of the subject.
    pub common_name: Option<String>,
    /// The DNS names that it is for.
    pub names: Vec<String>,
}

impl Certificate {
    /// Whether it is of `name`: its whole subject, its common name or one of its DNS names.
    pub fn is_of(&self, name: &str) -> bool {
        self.subject == name
            || self.common_name.as_deref() == Some(name)
            || self.names.iter().any(|dns| dns.eq_ignore_ascii_case(name))
    }
}

/// A user, proven by a password or a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// What the user is called.
    pub name: String,
    /// The roles that they have.
    pub roles: Vec<String>,
    /// What is allowed beside the roles, and of what part: what a share link says.
    pub granted: Vec<(Permission, Part)>,
    /// When the proof ends, also that of an association which still runs.
    pub until: Option<SystemTime>,
}

/// Of what somebody may do something with: all that is kept, or a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    #[default]
    All,
    /// What fits any of these.
    Only(Arc<[Restriction]>),
}

impl Part {
    /// What is a part of this or of `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::Only(one), Self::Only(other)) => Self::Only(one.iter().chain(&*other).cloned().collect()),
        }
    }

    /// Whether it holds what these attributes are of: those of an instance, or of a study and its patient.
    pub fn holds(&self, attributes: &DataSet) -> bool {
        match self {
            Self::All => true,
            Self::Only(any) => any.iter().any(|restriction| restriction.fits(attributes)),
        }
    }
}

/// Attributes and the values that they must have, each of them; matched as the keys of a query are (PS3.4 C.2.2.2), where
/// any of several values will do.
#[derive(Clone, PartialEq)]
pub struct Restriction {
    keys: DataSet,
    matching: Arc<[Key]>,
}

impl Eq for Restriction {}

impl Restriction {
    /// By these keys, in normal form.
    ///
    /// # Errors
    /// `Invalid` when none of them restricts, so that everything would fit.
    pub fn new(keys: DataSet) -> Result<Self> {
        let matching: Arc<[Key]> = Key::parse_all(&keys, QueryOptions::default()).into();
        if matching.is_empty() {
            let why = "no attribute with a value is named, so that everything would fit";
            return Err(Error::new(ErrorKind::Invalid, "access.restriction", why));
        }
        Ok(Self { keys, matching })
    }

    /// The attributes with their values.
    pub fn keys(&self) -> &DataSet {
        &self.keys
    }

    /// Whether these attributes have the values.
    pub fn fits(&self, attributes: &DataSet) -> bool {
        self.matching.iter().all(|key| key.matches(attributes))
    }

    /// Whether these attributes of an entity of `level` have the values, as far as they are of it or of what is above it.
    pub(crate) fn fits_at(
        &self,
        level: Level,
        level_of: impl Fn(dicom_core::Tag) -> Option<Level>,
        attributes: &DataSet,
    ) -> bool {
        let mut above = self
            .matching
            .iter()
            .filter(|key| level_of(key.tag).is_some_and(|of| of <= level));
        above.all(|key| key.matches(attributes))
    }

    /// The lowest level of its attributes, from that of a study on. What the engine doesn't index is looked for with the
    /// instance, where it isn't found.
    pub(crate) fn level(&self, level_of: impl Fn(dicom_core::Tag) -> Option<Level>) -> Level {
        let levels = self.matching.iter().map(|key| level_of(key.tag));
        levels
            .map(|level| level.unwrap_or(Level::Instance))
            .fold(Level::Study, Level::max)
    }
}

/// The values may say who somebody is.
impl fmt::Debug for Restriction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tags = self.keys.iter().map(|element| element.tag);
        f.debug_set().entries(tags).finish()
    }
}

/// Decides who may do what. There is one for an engine, which every door asks.
///
/// It is asked on the thread of the request, again for each instance that is handed out, and should answer quickly.
pub trait AccessControl: Send + Sync + 'static {
    /// With what part of what is kept `source` may do this. Only asked where the source came in by a door.
    ///
    /// # Errors
    /// `Refused` when with none, which is the answer that the peer gets.
    fn permit(&self, source: &Source, permission: Permission) -> Result<Part>;
}

/// Allows everybody everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl AccessControl for AllowAll {
    fn permit(&self, _: &Source, _: Permission) -> Result<Part> {
        Ok(Part::All)
    }
}

/// The operation of the errors that say that somebody may not.
pub const OPERATION: &str = "access.permit";

/// What is answered to who may not.
pub fn refused(permission: Permission) -> Error {
    let why = match permission {
        Permission::Store => "not allowed to store",
        Permission::Find => "not allowed to find",
        Permission::Retrieve => "not allowed to retrieve",
        Permission::Delete => "not allowed to delete",
        Permission::Amend => "not allowed to amend",
        Permission::Work => "not allowed to take part in the workflow",
        Permission::Route => "not allowed to see or change what is delivered",
        Permission::Administer => "not allowed to administer",
    };
    Error::new(ErrorKind::Refused, OPERATION, why)
}
