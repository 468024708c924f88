//! Settings as configuration files write them: [`Peer`], and what a value must be.

use pacs_core::AeTitle;
use serde::{Deserialize, Deserializer, de};

use crate::scp::Destination;

/// A remote application entity. The keys of a file are the fields' names, with hyphens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Peer {
    /// What it is called: the destination of a C-MOVE.
    #[serde(deserialize_with = "ae_title")]
    pub ae_title: AeTitle,
    /// Its host name or address.
    #[serde(deserialize_with = "not_empty")]
    pub host: String,
    /// Its port.
    #[serde(deserialize_with = "port")]
    pub port: u16,
    /// Associations opened to it at once.
    #[serde(default = "Peer::default_associations", deserialize_with = "associations")]
    pub associations: usize,
}

impl Peer {
    /// Associations opened to one peer at most: more would only wait for its disk.
    pub const ASSOCIATIONS_MAX: usize = 64;

    /// Associations opened to a peer of which a file says nothing else.
    pub fn default_associations() -> usize {
        2
    }

    /// The AE title that two peers of a file share, if two do: then the second would never be sent to.
    pub fn twice(peers: &[Self]) -> Option<AeTitle> {
        let is_known = |at: usize| {
            peers[..at]
                .iter()
                .any(|other| other.ae_title == peers[at].ae_title)
        };
        let twice = (0..peers.len()).find(|at| is_known(*at))?;
        Some(peers[twice].ae_title)
    }

    /// Where a C-MOVE finds it.
    pub fn destination(&self) -> Destination {
        Destination {
            ae_title: self.ae_title,
            host: self.host.clone(),
            port: self.port,
            associations: self.associations,
        }
    }
}

/// Reads an AE title.
///
/// # Errors
/// Why the text is none.
pub fn ae_title<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AeTitle, D::Error> {
    let text = String::deserialize(deserializer)?;
    AeTitle::parse(&text).map_err(|error| de::Error::custom(error.context()))
}

/// Reads a number that is not 0.
///
/// # Errors
/// That it is 0.
pub fn at_least_one<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + PartialEq + Default,
{
    let number = T::deserialize(deserializer)?;
    if number == T::default() {
        Err(de::Error::custom("at least 1"))
    } else {
        Ok(number)
    }
}

fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        Err(de::Error::custom("a host name or address must stand here"))
    } else {
        Ok(text)
    }
}

fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    match u16::deserialize(deserializer)? {
        0 => Err(de::Error::custom("a port is 1 to 65535")),
        port => Ok(port),
    }
}

fn associations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let number = usize::deserialize(deserializer)?;
    if (1..=Peer::ASSOCIATIONS_MAX).contains(&number) {
        Ok(number)
    } else {
        Err(de::Error::custom(format_args!(
            "1 to {} associations can be opened to a peer",
            Peer::ASSOCIATIONS_MAX
        )))
    }
}
