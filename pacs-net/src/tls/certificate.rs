//! [`Certificate`]: whom the other side has shown itself to be.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// What a verified certificate of the other side says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its subject, as RFC 4514 writes it in the order of the certificate: `C=DE, O=Hospital, CN=ct1`.
    pub subject: String,
    /// The last common name of the subject.
    pub common_name: Option<String>,
    /// The DNS names that it is for.
    pub names: Vec<String>,
}

impl Certificate {
    /// Of a certificate that was verified, so that it can be read.
    pub(super) fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, read) = X509Certificate::from_der(der).ok()?;
        let common_names = read.subject().iter_common_name();
        let common_name = common_names.filter_map(|name| name.as_str().ok()).last();
        let alternative = read.subject_alternative_name().ok().flatten();
        let names = alternative.map_or_else(Vec::new, |names| {
            let dns = names.value.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            });
            dns.collect()
        });
        Some(Self {
            subject: read.subject().to_string(),
            common_name: common_name.map(str::to_owned),
            names,
        })
    }
}
