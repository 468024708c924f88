//! [`Acceptor`]: the side of TLS that is called.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pacs_core::audit::Audit;
use pacs_core::{Error, ErrorKind, Result, Source};
use rustls::ServerConfig;
use rustls::server::{NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use tokio::net::TcpStream;

use super::credentials::Material;
use super::stream::{Stream, Tcp};
use super::{Credentials, VERSIONS, provider};
use crate::audited;

/// What is asked of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// A certificate of one of the authorities: mutual authentication, as IHE ATNA wants it between devices.
    Required,
    /// None, but one that is shown must be of one of the authorities.
    Offered,
    /// None, and none is looked at.
    Ignored,
}

/// Takes connections over TLS. Clones are the same.
#[derive(Clone)]
pub struct Acceptor {
    credentials: Credentials,
    clients: ClientCertificates,
    plain: bool,
    protocols: Protocols,
    /// Who is told of clients that are refused.
    audit: Audit,
    made: Arc<Mutex<(Arc<Material>, Arc<ServerConfig>)>>,
}

/// Names of protocols of ALPN (RFC 7301), the better first.
type Protocols = &'static [&'static [u8]];

/// What a handshake of TLS begins with (RFC 8446 5.1). No association request (PS3.8 9.3.2), message over MLLP or request
/// of HTTP does.
const HANDSHAKE: u8 = 22;

impl Acceptor {
    /// Shows these credentials, and asks that of its clients.
    ///
    /// # Errors
    /// `Invalid` when there is no certificate to show, or no authority that a client's certificate could come from.
    pub fn new(credentials: &Credentials, clients: ClientCertificates) -> Result<Self> {
        let material = credentials.material();
        let config = config(&material, clients, &[])?;
        Ok(Self {
            credentials: credentials.clone(),
            clients,
            plain: false,
            protocols: &[],
            audit: Audit::default(),
            made: Arc::new(Mutex::new((material, config))),
        })
    }

    /// Also takes connections without TLS on the same port: told apart by their first byte.
    #[must_use]
    pub fn with_plain(mut self) -> Self {
        self.plain = true;
        self
    }

    /// Tells this audit trail of clients with which no secure connection comes about (PS3.15 A.5.3.11, Node
    /// Authentication).
    #[must_use]
    pub fn with_audit(mut self, audit: Audit) -> Self {
        self.audit = audit;
        self
    }

    /// Names these protocols in the handshake.
    #[cfg(feature = "web")]
    pub(crate) fn with_protocols(mut self, protocols: Protocols) -> Result<Self> {
        let material = self.credentials.material();
        let config = config(&material, self.clients, protocols)?;
        self.made = Arc::new(Mutex::new((material, config)));
        self.protocols = protocols;
        Ok(self)
    }

    /// By the credentials as they are now.
    fn config(&self) -> Arc<ServerConfig> {
        let now = self.credentials.material();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&made.0, &now) {
            match config(&now, self.clients, self.protocols) {
                Ok(config) => *made = (now, config),
                Err(error) => {
                    tracing::error!(%error, "the new certificates can't be used: the old ones stay");
                    made.0 = now;
                }
            }
        }
        Arc::clone(&made.1)
    }

    /// Makes a connection secure, or answers it as it is where it may be.
    ///
    /// # Errors
    /// `Refused` when the client and we don't come together, with the reason as its source; `TimedOut`; `Closed` when it goes
    /// without a word; `Io`.
    pub(crate) async fn accept(&self, stream: TcpStream, patience: Duration) -> Result<Stream> {
        let address = stream.peer_addr().ok();
        let accepted = self.make_secure(stream, patience).await;
        if let Err(error) = &accepted
            && error.kind() == ErrorKind::Refused
        {
            let source = Source {
                address,
                ..Source::default()
            };
            audited::turned_away(&self.audit, &source, "tls", error.context());
        }
        accepted
    }

    async fn make_secure(&self, stream: TcpStream, patience: Duration) -> Result<Stream> {
        let accepting = async {
            if self.plain {
                let mut first = [0];
                let peeked = stream.peek(&mut first).await;
                match peeked.map_err(|error| Error::io(OPERATION, "the connection broke", error))? {
                    0 => {
                        return Err(Error::new(
                            ErrorKind::Closed,
                            OPERATION,
                            "the client said nothing",
                        ));
                    }
                    _ if first[0] != HANDSHAKE => return Ok(Stream::plain(stream)),
                    _ => {}
                }
            }
            let acceptor = tokio_rustls::TlsAcceptor::from(self.config());
            match acceptor.accept(Tcp::new(stream)).await {
                Ok(stream) => Ok(Stream::tls(stream.into())),
                Err(error) => Err(failed(OPERATION, error)),
            }
        };
        let accepted = tokio::time::timeout(patience, accepting).await;
        accepted.unwrap_or_else(|_| {
            let why = "the client did not make the connection secure in time";
            Err(Error::new(ErrorKind::TimedOut, OPERATION, why))
        })
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("credentials", &self.credentials)
            .field("clients", &self.clients)
            .field("plain", &self.plain)
            .finish_non_exhaustive()
    }
}

const OPERATION: &str = "tls.accept";

fn config(
    material: &Material,
    clients: ClientCertificates,
    protocols: Protocols,
) -> Result<Arc<ServerConfig>> {
    let invalid = |why: &'static str| Error::new(ErrorKind::Invalid, OPERATION, why);
    let own = material.own.clone();
    let own = own.ok_or_else(|| invalid("a server needs a certificate and its key"))?;
    let verifier = match clients {
        ClientCertificates::Ignored => Arc::new(NoClientAuth),
        ClientCertificates::Required | ClientCertificates::Offered => {
            let authorities = material.authorities.clone().ok_or_else(|| {
                invalid("the authorities must be named that the clients' certificates come from")
            })?;
            let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider());
            let verifier = match clients {
                ClientCertificates::Offered => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            let built = verifier.build();
            built.map_err(|error| invalid("the authorities can't be used").with_source(error))?
        }
    };
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&VERSIONS);
    let builder = builder.map_err(|error| invalid("no version of TLS can be spoken").with_source(error))?;
    let mut config = builder
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    if clients != ClientCertificates::Ignored {
        // A session that is taken up again would let a client in whose certificate has expired since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

/// What a handshake that failed means.
pub(super) fn failed(operation: &'static str, error: std::io::Error) -> Error {
    use std::io::ErrorKind as Io;
    match error.kind() {
        // What rustls finds wrong, or the other side says by an alert.
        Io::InvalidData | Io::InvalidInput => {
            let said = error.get_ref().and_then(|error| error.downcast_ref());
            let why = match said {
                // What TLS calls a corrupt message is mostly none of it.
                Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
                    "the other side does not speak TLS".to_owned()
                }
                _ => error.to_string(),
            };
            Error::new(
                ErrorKind::Refused,
                operation,
                format!("no secure connection: {why}"),
            )
            .with_source(error)
        }
        Io::UnexpectedEof | Io::ConnectionReset | Io::BrokenPipe => {
            let why = "the other side ended the connection before it was secure";
            Error::new(ErrorKind::Closed, operation, why).with_source(error)
        }
        _ => Error::io(operation, "the connection broke before it was secure", error),
    }
}
