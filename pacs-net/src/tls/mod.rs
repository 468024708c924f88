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

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use rustls::AlertDescription;
use rustls::crypto::CryptoProvider;

pub use acceptor::{Acceptor, ClientCertificates};
pub use connector::Connector;
pub use credentials::{Credentials, Files};
/// What a certificate that was verified says of whom it belongs to.
pub use pacs_core::access::Certificate;
pub(crate) use stream::Stream;

/// What is negotiated, the better first (RFC 9325 3.1, 4.2).
static VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

/// Its cipher suites are those of RFC 9325 4.2 with ECDHE, and those of TLS 1.3.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Whether an error comes of a certificate that one side doesn't believe: what is sent over the connection is not at fault.
/// In TLS 1.3 a client is told so when it reads for the first time.
pub(crate) fn is_refusal(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = inside.and_then(|inside| inside.downcast_ref());
        match tls.or_else(|| error.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
                return true;
            }
            Some(rustls::Error::AlertReceived(alert)) => return is_of_certificates(*alert),
            _ => cause = error.source(),
        }
    }
    false
}

fn is_of_certificates(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::HandshakeFailure
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
    )
}
