//! [`Credentials`]: certificates and keys, as their files are now.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;
use std::{fmt, fs, io};

use pacs_core::{Error, ErrorKind, Result};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::Deserialize;

use super::provider;

/// The files of a side, in PEM. The keys of a configuration are the fields' names, with hyphens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Files {
    /// The certificate, and behind it those that lead from it to an authority.
    pub certificate: Option<PathBuf>,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: Option<PathBuf>,
    /// The authorities that the other side's certificate must come from. Without it, a server that is called is believed
    /// when the operating system knows its authority, and a client's certificate never.
    pub authorities: Option<PathBuf>,
}

/// What a side has to show, and whom it believes. Clones are the same.
///
/// The files are looked at for every connection: when they have changed, new connections use what stands there now. Files
/// that can't be read change nothing; that is logged.
#[derive(Clone)]
pub struct Credentials(Arc<Inner>);

struct Inner {
    files: Files,
    kept: Mutex<Kept>,
    system: OnceLock<Arc<RootCertStore>>,
}

struct Kept {
    /// Of the files when they were last read, whatever came of it.
    stamps: Stamps,
    material: Arc<Material>,
}

/// What the files hold.
pub(super) struct Material {
    pub(super) own: Option<Arc<CertifiedKey>>,
    pub(super) authorities: Option<Arc<RootCertStore>>,
}

/// When each of the files was written, and how long it is.
type Stamps = [Option<(SystemTime, u64)>; 3];

impl Default for Credentials {
    /// Nothing to show; those are believed whom the operating system believes.
    fn default() -> Self {
        Self(Arc::new(Inner {
            files: Files::default(),
            kept: Mutex::new(Kept {
                stamps: Stamps::default(),
                material: Arc::new(Material {
                    own: None,
                    authorities: None,
                }),
            }),
            system: OnceLock::new(),
        }))
    }
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// `Io` or `Invalid`, with the file's name: it can't be read, holds nothing of what it should, or the key is not the
    /// certificate's; `Invalid` when only one of certificate and key is named.
    pub fn read(files: Files) -> Result<Self> {
        let stamps = stamps(&files);
        let material = Arc::new(read(&files)?);
        Ok(Self(Arc::new(Inner {
            files,
            kept: Mutex::new(Kept { stamps, material }),
            system: OnceLock::new(),
        })))
    }

    /// As the files are now.
    pub(super) fn material(&self) -> Arc<Material> {
        let now = stamps(&self.0.files);
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if now != kept.stamps {
            // What is half written is read again when it is whole: then it has another stamp.
            kept.stamps = now;
            match read(&self.0.files) {
                Ok(material) => {
                    tracing::info!("certificates or keys have changed and are used from now on");
                    kept.material = Arc::new(material);
                }
                Err(error) => {
                    tracing::error!(%error, "certificates or keys have changed and can't be used: the old ones stay");
                }
            }
        }
        Arc::clone(&kept.material)
    }

    /// The authorities that the operating system knows. They are read once.
    pub(super) fn system(&self) -> Arc<RootCertStore> {
        let read = || {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "an authority of the system can't be read");
            }
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(found.certs);
            Arc::new(store)
        };
        Arc::clone(self.0.system.get_or_init(read))
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credentials").field(&self.0.files).finish()
    }
}

fn stamps(files: &Files) -> Stamps {
    [&files.certificate, &files.key, &files.authorities].map(|file| {
        let metadata = fs::metadata(file.as_deref()?).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

fn read(files: &Files) -> Result<Material> {
    let own = match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => Some(Arc::new(own(certificate, key)?)),
        (None, None) => None,
        _ => {
            let why = "a certificate needs its key, and a key its certificate";
            return Err(Error::new(ErrorKind::Invalid, OPERATION, why));
        }
    };
    let authorities = files.authorities.as_deref().map(authorities).transpose()?;
    Ok(Material {
        own,
        authorities: authorities.map(Arc::new),
    })
}

fn own(certificate: &Path, key: &Path) -> Result<CertifiedKey> {
    let chain = certificates(certificate)?;
    if is_open(key) {
        tracing::warn!(file = %key.display(), "everybody on this machine may read the private key: `chmod o-rwx` it");
    }
    let of_key = PrivateKeyDer::from_pem_slice(&bytes(key)?)
        .map_err(|_| invalid(key, "there is no private key in it, or an encrypted one"))?;
    CertifiedKey::from_der(chain, of_key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => invalid(key, "it is not the certificate's key"),
        error => invalid(certificate, "it can't be used").with_source(error),
    })
}

fn authorities(file: &Path) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(file)? {
        let added = store.add(certificate);
        added.map_err(|error| invalid(file, "a certificate in it can't be used").with_source(error))?;
    }
    Ok(store)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes(file)?).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(invalid(file, "there is no certificate in it")),
    }
}

/// Whether others than the owner and the group may read or write a file.
fn is_open(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o006 != 0)
}

fn bytes(file: &Path) -> Result<Vec<u8>> {
    fs::read(file)
        .map_err(|error: io::Error| Error::io(OPERATION, format!("{} can't be read", file.display()), error))
}

fn invalid(file: &Path, why: &str) -> Error {
    Error::new(
        ErrorKind::Invalid,
        OPERATION,
        format!("{}: {why}", file.display()),
    )
}

const OPERATION: &str = "tls.credentials";
