//! An authority of a test, and certificates of it.
#![allow(dead_code, reason = "each test uses its part")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::ClientConfig;

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

/// What a certificate is like.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) hosts: &'static [&'static str],
    /// Its last day has passed.
    pub(crate) is_old: bool,
    /// It is for clients alone.
    pub(crate) is_of_client: bool,
    /// It is for servers alone.
    pub(crate) is_of_server: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            hosts: &["localhost", "127.0.0.1"],
            is_old: false,
            is_of_client: false,
            is_of_server: false,
        }
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    /// A client of another implementation that believes it.
    pub(crate) fn client(&self, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    /// Its own certificate.
    pub(crate) fn write(&self, path: &Path) {
        fs::write(path, self.certificate.pem()).unwrap();
    }

    pub(crate) fn certify(&self, name: &str, wanted: Wanted, certificate: &Path, key: &Path) {
        let hosts: Vec<String> = wanted.hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Hospital");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = match (wanted.is_of_client, wanted.is_of_server) {
            (true, _) => vec![ExtendedKeyUsagePurpose::ClientAuth],
            (_, true) => vec![ExtendedKeyUsagePurpose::ServerAuth],
            _ => Vec::new(),
        };
        if wanted.is_old {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let pair = KeyPair::generate().unwrap();
        let made = params.signed_by(&pair, &self.issuer).unwrap();
        fs::write(key, pair.serialize_pem()).unwrap();
        fs::write(certificate, made.pem()).unwrap();
    }
}
