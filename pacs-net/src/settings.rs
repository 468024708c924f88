//! Settings as configuration files write them: [`Peer`], [`Tls`], and what a value must be.

use std::path::PathBuf;

use pacs_core::{AeTitle, Error, ErrorKind};
use serde::{Deserialize, Deserializer, de};

use crate::scp::Destination;
use crate::scu::Remote;
use crate::tls::{Acceptor, ClientCertificates, Connector, Credentials, Files};

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
    /// It is called over TLS.
    #[serde(default)]
    pub tls: bool,
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

    /// It, to be called by `calling`; over TLS by `connector`, where it is.
    pub fn remote(&self, calling: AeTitle, connector: &Connector) -> Remote {
        self.destination(connector).remote(calling)
    }

    /// Where a C-MOVE finds it; over TLS by `connector`, where it is called so.
    pub fn destination(&self, connector: &Connector) -> Destination {
        Destination {
            ae_title: self.ae_title,
            host: self.host.clone(),
            port: self.port,
            associations: self.associations,
            tls: self.tls.then(|| connector.clone()),
        }
    }
}

/// What connections are made secure with: one table for all protocols. The keys of a file are the fields' names, with
/// hyphens. By default there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tls {
    /// Our certificate, and behind it those that lead from it to an authority. With one, every server speaks TLS.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// The authorities that the other side's certificate must come from.
    pub authorities: Option<PathBuf>,
    /// Over which protocols clients must show a certificate. Where it isn't said, DICOM and HL7: devices and information
    /// systems show certificates, as IHE ATNA has it; browsers need not.
    pub client_certificates: Option<Vec<Protocol>>,
    /// Over which protocols connections without TLS are taken too, on the same port.
    pub plain: Vec<Protocol>,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Associations.
    Dicom,
    /// DICOMweb, FHIR and pages.
    Http,
    /// HL7 over MLLP.
    Hl7,
}

impl Protocol {
    /// What a file calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dicom => "dicom",
            Self::Http => "http",
            Self::Hl7 => "hl7",
        }
    }
}

impl Tls {
    /// What the files hold.
    ///
    /// # Errors
    /// As [`Credentials::read`].
    pub fn credentials(&self) -> pacs_core::Result<Credentials> {
        Credentials::read(Files {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            authorities: self.authorities.clone(),
        })
    }

    /// Over which protocols clients must show a certificate.
    pub fn required(&self) -> &[Protocol] {
        self.client_certificates
            .as_deref()
            .unwrap_or(&[Protocol::Dicom, Protocol::Hl7])
    }

    /// By which a server of `protocol` takes connections; without TLS where there is no certificate.
    ///
    /// # Errors
    /// `Invalid` when clients must show a certificate, and no authorities are named; or when it is said how clients come
    /// over TLS, and there is no certificate that makes it so.
    pub fn acceptor(
        &self,
        credentials: &Credentials,
        protocol: Protocol,
    ) -> pacs_core::Result<Option<Acceptor>> {
        if self.certificate.is_none() {
            if self.client_certificates.is_some() || !self.plain.is_empty() {
                let why = "[tls] without a certificate: nothing would be taken over TLS";
                return Err(Error::new(ErrorKind::Invalid, "tls.settings", why));
            }
            return Ok(None);
        }
        let clients = match self.authorities {
            _ if self.required().contains(&protocol) => ClientCertificates::Required,
            Some(_) => ClientCertificates::Offered,
            None => ClientCertificates::Ignored,
        };
        let acceptor = Acceptor::new(credentials, clients)?;
        Ok(Some(match self.plain.contains(&protocol) {
            true => acceptor.with_plain(),
            false => acceptor,
        }))
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
