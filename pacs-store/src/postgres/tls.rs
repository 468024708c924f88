//! The line to the database, made secure.

use std::path::Path;
use std::sync::Arc;

use pacs_core::{Error, ErrorKind, Result};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

const OPERATION: &str = "database.tls";

/// By what connections are made that believe these authorities, or those of the system.
///
/// # Errors
/// `Io` or `Invalid`, with the file's name, when it can't be read or holds no authority.
pub(super) fn connector(authorities: Option<&Path>) -> Result<MakeRustlsConnect> {
    let mut store = RootCertStore::empty();
    match authorities {
        Some(file) => {
            let text = std::fs::read(file)
                .map_err(|error| Error::io(OPERATION, format!("{} can't be read", file.display()), error))?;
            let certificates: std::result::Result<Vec<_>, _> =
                CertificateDer::pem_slice_iter(&text).collect();
            store.add_parsable_certificates(certificates.unwrap_or_default());
            if store.is_empty() {
                let why = format!("{}: there is no authority in it", file.display());
                return Err(Error::new(ErrorKind::Invalid, OPERATION, why));
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            Error::new(ErrorKind::Internal, OPERATION, "no version of TLS can be spoken").with_source(error)
        })?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
