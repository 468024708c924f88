//! Any bytes as the files of certificates, keys and authorities: they serve, or the error names the file.
//!
//! Run with `cargo fuzz run -s none certificates`.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pacs_core::dataset::base64;
use pacs_net::tls::{Acceptor, ClientCertificates, Connector, Credentials, Files};
use tempfile::TempDir;

/// In memory, where the system has a directory for that.
static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| {
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    directory.expect("a directory can be made")
});

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    certificate: Option<Pem<'a>>,
    key: Option<Pem<'a>>,
    authorities: Option<Pem<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Pem<'a> {
    Bytes(&'a [u8]),
    /// Of a kind, with any content.
    Sections(Vec<(u8, &'a [u8])>),
    /// One that is right, with some bytes changed.
    Right(u8, Vec<(u16, u8)>),
}

const LABELS: [&str; 7] = [
    "CERTIFICATE",
    "PRIVATE KEY",
    "RSA PRIVATE KEY",
    "EC PRIVATE KEY",
    "ENCRYPTED PRIVATE KEY",
    "X509 CRL",
    "TRUSTED CERTIFICATE",
];

/// A key pair for tests: P-256, of an authority of its own.
const RIGHT: [&[u8]; 2] = [
    include_bytes!("../seeds/certificates/certificate.der"),
    include_bytes!("../seeds/certificates/key.der"),
];

fn section(out: &mut Vec<u8>, label: &str, content: &[u8]) {
    let mut text = Vec::new();
    base64::encode(content, &mut text);
    out.extend_from_slice(format!("-----BEGIN {label}-----\n").as_bytes());
    for line in text.chunks(64) {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
}

impl Pem<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Bytes(bytes) => return bytes.to_vec(),
            Self::Sections(sections) => {
                for (label, content) in sections {
                    section(&mut bytes, LABELS[usize::from(*label) % LABELS.len()], content);
                }
            }
            Self::Right(which, changes) => {
                let which = usize::from(*which) % RIGHT.len();
                let mut right = RIGHT[which].to_vec();
                let length = right.len();
                for (at, change) in changes {
                    right[usize::from(*at) % length] ^= change;
                }
                section(&mut bytes, LABELS[which], &right);
            }
        }
        bytes
    }
}

fn file(name: &str, pem: Option<&Pem<'_>>) -> Option<PathBuf> {
    let path = DIRECTORY.path().join(name);
    fs::write(&path, pem?.bytes()).expect("a file can be written");
    Some(path)
}

fuzz_target!(|input: Input| {
    let files = Files {
        certificate: file("certificate", input.certificate.as_ref()),
        key: file("key", input.key.as_ref()),
        authorities: file("authorities", input.authorities.as_ref()),
    };
    let has_authorities = files.authorities.is_some();
    let credentials = match Credentials::read(files) {
        Ok(credentials) => credentials,
        Err(error) => {
            let _ = error.to_string();
            return;
        }
    };
    let _ = Acceptor::new(&credentials, ClientCertificates::Required);
    let _ = Acceptor::new(&credentials, ClientCertificates::Ignored);
    // Without authorities those of the system are read, which takes long.
    if has_authorities {
        let _ = Connector::new(&credentials);
    }
});
