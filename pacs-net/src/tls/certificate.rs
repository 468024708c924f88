//! Whom the other side has shown itself to be.

use pacs_core::access::Certificate;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// What a certificate says, that was verified, so that it can be read.
pub(super) fn read(der: &CertificateDer<'_>) -> Option<Certificate> {
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
    Some(Certificate {
        subject: read.subject().to_string(),
        common_name: common_name.map(str::to_owned),
        names,
    })
}
