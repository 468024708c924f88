//! [`Connector`]: the side of TLS that calls.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use pacs_core::{Error, ErrorKind, Result};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use tokio::net::TcpStream;

use super::acceptor::failed;
use super::credentials::Material;
use super::stream::{Stream, Tcp};
use super::{Credentials, VERSIONS, provider};

/// Makes connections to others secure. Clones are the same.
///
/// The other side's certificate must come from one of the authorities, be valid today, and be for the host that is called
/// (a DNS name or an address among its Subject Alternative Names, RFC 9525). Where the other side asks for one, ours is shown.
#[derive(Clone)]
pub struct Connector(Arc<Inner>);

struct Inner {
    credentials: Credentials,
    made: Mutex<Option<(Arc<Material>, Arc<ClientConfig>)>>,
}

impl Default for Connector {
    /// With nothing to show; the operating system says which authorities are believed.
    fn default() -> Self {
        Self(Arc::new(Inner {
            credentials: Credentials::default(),
            made: Mutex::default(),
        }))
    }
}

impl Connector {
    /// With these credentials.
    ///
    /// # Errors
    /// `Invalid` when they can't be used.
    pub fn new(credentials: &Credentials) -> Result<Self> {
        let connector = Self(Arc::new(Inner {
            credentials: credentials.clone(),
            made: Mutex::default(),
        }));
        connector.config()?;
        Ok(connector)
    }

    /// By the credentials as they are now: the same one while they don't change.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>> {
        let now = self.0.credentials.material();
        let mut made = self.0.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, config)) = &*made
            && Arc::ptr_eq(of, &now)
        {
            return Ok(Arc::clone(config));
        }
        let config = config(&now, &self.0.credentials)?;
        *made = Some((now, Arc::clone(&config)));
        Ok(config)
    }

    /// Makes a connection to `host` secure.
    ///
    /// # Errors
    /// `Refused` when the server and we don't come together, with the reason as its source; `Invalid` when `host` is neither a
    /// DNS name nor an address; `Closed`, `Io`.
    pub(crate) async fn connect(&self, host: &str, stream: TcpStream) -> Result<Stream> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            Error::new(
                ErrorKind::Invalid,
                OPERATION,
                "no certificate can be for such a host name",
            )
        })?;
        let connector = tokio_rustls::TlsConnector::from(self.config()?);
        match connector.connect(name, Tcp::new(stream)).await {
            Ok(stream) => Ok(Stream::tls(stream.into())),
            Err(error) => Err(failed(OPERATION, error)),
        }
    }
}

impl PartialEq for Connector {
    fn eq(&self, other: &Self) -> bool {
        self.0.credentials.is(&other.0.credentials)
    }
}

impl Eq for Connector {}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connector").field(&self.0.credentials).finish()
    }
}

const OPERATION: &str = "tls.connect";

fn config(material: &Material, credentials: &Credentials) -> Result<Arc<ClientConfig>> {
    let authorities = material
        .authorities
        .clone()
        .unwrap_or_else(|| credentials.system());
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&VERSIONS);
    let builder = builder.map_err(|error| {
        Error::new(ErrorKind::Invalid, OPERATION, "no version of TLS can be spoken").with_source(error)
    })?;
    let builder = builder.with_root_certificates(authorities);
    Ok(Arc::new(match &material.own {
        Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(own)))),
        None => builder.with_no_client_auth(),
    }))
}
