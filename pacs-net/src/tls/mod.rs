//! TLS for every protocol of this crate: DICOM, HTTP and HL7 (PS3.15 annex B).
//!
//! [`Credentials`] are what this side has: its certificate, its key, and the authorities it believes. They are read from
//! files, and read again when these change, without a restart. A server takes an [`Acceptor`] of them, who calls others a
//! [`Connector`].
//!
//! What is negotiated is TLS 1.3, or 1.2 with forward secrecy and authenticated encryption (ECDHE with AES-GCM or
//! ChaCha20-Poly1305): the BCP 195 profile of RFC 8996 and RFC 9325 (PS3.15 B.12). Nothing older or weaker can be switched on.
//!
//! ```no_run
//! use pacs_net::tls::{Acceptor, ClientCertificates, Connector, Credentials, Files};
//!
//! # fn main() -> pacs_core::Result<()> {
//! let credentials = Credentials::read(Files {
//!     certificate: Some("pacs.pem".into()),
//!     key: Some("pacs-key.pem".into()),
//!     authorities: Some("ca.pem".into()),
//! })?;
//! // For the option `tls` of a server: who comes without a certificate of these authorities is refused.
//! let acceptor = Acceptor::new(&credentials, ClientCertificates::Required)?;
//! // For a `Remote` that is called over TLS.
//! let connector = Connector::new(&credentials)?;
//! # Ok(())
//! # }
//! ```

mod acceptor;
mod certificate;
mod connector;
mod credentials;
mod stream;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use acceptor::{Acceptor, ClientCertificates};
pub use certificate::Certificate;
pub use connector::Connector;
pub use credentials::{Credentials, Files};
pub(crate) use stream::Stream;

/// What is negotiated, the better first (RFC 9325 3.1, 4.2).
static VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

/// Its cipher suites are those of RFC 9325 4.2 with ECDHE, and those of TLS 1.3.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
