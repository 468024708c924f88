//! `certs`: a test authority, and certificates of it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SerialNumber,
};

use crate::maintain::say;

/// Days that certificates of a test are valid for.
const VALID_DAYS: i64 = 365;

/// A client's name, which is also its files'.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    match text {
        "ca" | "server" => Err("ca and server are the names of other files".to_owned()),
        _ if text.ends_with("-key") => Err("a name that ends with -key is that of a key's file".to_owned()),
        _ if text.is_empty() || !text.chars().all(is_plain) => {
            Err("a name is of letters, digits, - and _".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}

/// What the server is called by: a host's name or its address.
pub(crate) fn host(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_*".contains(c);
        !label.is_empty() && label.chars().all(is_plain)
    };
    match text.parse::<IpAddr>().is_ok() || text.split('.').all(is_label) {
        true => Ok(text.to_owned()),
        false => Err("a host is a name or an address, without a scheme and a port".to_owned()),
    }
}

/// Makes the server's certificate and the clients', by the authority that is in `directory`, or by a new one.
pub(crate) fn make(directory: &Path, hosts: &[String], clients: &[String]) -> Result<(), String> {
    fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let issuer = authority(directory)?;
    // It also calls others: deliveries, C-MOVE.
    let both = [
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    certify(directory, "server", hosts, &both, &issuer)?;
    for client in clients {
        certify(directory, client, &[], &both[1..], &issuer)?;
    }
    let file = |name: &str| toml::Value::String(directory.join(name).to_string_lossy().into_owned());
    // What is said beside goes where the table doesn't, which can be put into a file.
    let _ = writeln!(
        io::stderr(),
        "Certificates for {} and of {} are in {}.",
        hosts.join(", "),
        clients.join(", "),
        directory.display(),
    );
    say(&format!(
        "[tls]\ncertificate = {}\nkey = {}\nauthorities = {}\n",
        file("server.pem"),
        file("server-key.pem"),
        file("ca.pem"),
    ))
}

fn authority(directory: &Path) -> Result<Issuer<'static, KeyPair>, String> {
    let (certificate, key) = (directory.join("ca.pem"), directory.join("ca-key.pem"));
    if certificate.exists() || key.exists() {
        let read =
            |path: &Path| fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
        let failed = |error: rcgen::Error| format!("the authority in {}: {error}", directory.display());
        let pair = KeyPair::from_pem(&read(&key)?).map_err(failed)?;
        return Issuer::from_ca_cert_pem(&read(&certificate)?, pair).map_err(failed);
    }
    let mut params = named("pacs-server test authority", &[])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let pair = KeyPair::generate().map_err(|error| error.to_string())?;
    let made = params.self_signed(&pair).map_err(|error| error.to_string())?;
    secret(&key, &pair.serialize_pem())?;
    replace(&certificate, made.pem().as_bytes(), 0o644)?;
    Ok(Issuer::new(params, pair))
}

fn certify(
    directory: &Path,
    name: &str,
    hosts: &[String],
    usages: &[ExtendedKeyUsagePurpose],
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(), String> {
    let mut params = named(name, hosts)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages.to_vec();
    params.use_authority_key_identifier_extension = true;
    let pair = KeyPair::generate().map_err(|error| error.to_string())?;
    let made = params
        .signed_by(&pair, issuer)
        .map_err(|error| error.to_string())?;
    // The key first: with the old certificate it is of no use, and a server keeps the old ones until both fit.
    secret(&directory.join(format!("{name}-key.pem")), &pair.serialize_pem())?;
    replace(
        &directory.join(format!("{name}.pem")),
        made.pem().as_bytes(),
        0o644,
    )
}

fn named(name: &str, hosts: &[String]) -> Result<CertificateParams, String> {
    let mut params =
        CertificateParams::new(hosts).map_err(|error| format!("{}: {error}", hosts.join(", ")))?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = chrono::Utc::now();
    let date = |day: chrono::DateTime<chrono::Utc>| {
        use chrono::Datelike as _;
        // A month is 1 to 12 and a day 1 to 31.
        rcgen::date_time_ymd(day.year(), day.month() as u8, day.day() as u8)
    };
    params.not_before = date(now - chrono::Duration::days(1));
    params.not_after = date(now + chrono::Duration::days(VALID_DAYS));
    let number = pacs_core::Uid::random();
    let mut serial: Vec<u8> = number.bytes().rev().take(16).collect();
    // A positive number (RFC 5280 4.1.2.2).
    serial.insert(0, 1);
    params.serial_number = Some(SerialNumber::from(serial));
    Ok(params)
}

/// Writes what only its owner may read.
fn secret(path: &Path, text: &str) -> Result<(), String> {
    replace(path, text.as_bytes(), 0o600)
}

/// Writes it whole before it takes the place of what was there.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&new)
        .map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)
}
