//! The settings: from their defaults, a TOML file and the command line, in this order.

mod access;
mod audit;
mod render;
mod values;

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pacs_core::AeTitle;
use pacs_net::AddressShare;
use pacs_net::settings::{Peer, Tls, ae_title, at_least_one};
use pacs_net::tls::{Connector, Credentials};
use pacs_store::embedded::{
    ArchiveKind, Attribute, BackupPlace, Database, Duplicates, Encryption, ObjectLocation, Replica, Settings,
};
use serde::Deserialize;

pub(crate) use access::AccessConfig;
pub(crate) use audit::AuditConfig;
use values::{filter, origin, origins, percent};

/// All settings. The file's keys are the names of the command line's flags.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// The file they were read from.
    #[serde(skip)]
    pub(crate) file: Option<PathBuf>,
    /// Where instances and index are kept.
    pub(crate) data: PathBuf,
    /// What this server is called.
    #[serde(deserialize_with = "ae_title")]
    pub(crate) ae_title: AeTitle,
    /// Where it listens for DICOM; 0 lets the system choose.
    pub(crate) dicom_port: u16,
    /// Where it listens for HTTP; 0 lets the system choose.
    pub(crate) http_port: u16,
    /// The address it listens on.
    pub(crate) listen: IpAddr,
    /// How long running associations may take to end after a signal to stop.
    pub(crate) stop_grace_seconds: u32,
    /// What happens to an instance that comes with other bytes under a UID that is kept.
    pub(crate) duplicates: Duplicates,
    /// Take instances of SOP classes that the dictionary of the Standard doesn't know.
    pub(crate) any_sop_class: bool,
    /// Memory for the index's pages.
    pub(crate) index_cache_mebibytes: u32,
    /// The file that says where things go by themselves.
    pub(crate) routes: Option<PathBuf>,
    /// How long nothing must have come to a series or a study before it counts as stable.
    #[serde(deserialize_with = "at_least_one")]
    pub(crate) stable_after_seconds: u32,
    /// The object store that instances are kept in.
    pub(crate) objects: Option<ObjectLocation>,
    /// Where second copies of instances are kept.
    pub(crate) replica: Option<Replica>,
    /// How what is kept is read through, over and over.
    pub(crate) scrub: Option<ScrubConfig>,
    /// Where the backup is, and how often it is brought up.
    pub(crate) backup: Option<BackupConfig>,
    /// The database that index and ledger are kept in.
    pub(crate) database: Option<Database>,
    /// How what is kept is encrypted.
    pub(crate) encryption: Option<Encryption>,
    /// Who may do what; where it isn't said, everybody on this machine may everything, and nobody else anything.
    pub(crate) access: Option<AccessConfig>,
    /// Where it is recorded who did what with whose data.
    pub(crate) audit: Option<AuditConfig>,
    /// How much is served at once, and how long is waited.
    pub(crate) limits: LimitsConfig,
    /// What HL7 messages are taken.
    pub(crate) hl7: Hl7Config,
    /// What is offered over HTTP.
    pub(crate) web: WebConfig,
    /// What connections are made secure with.
    pub(crate) tls: Tls,
    /// How it logs.
    pub(crate) log: LogConfig,
    /// What is searched beyond the attributes of the Standard's query models.
    #[serde(rename = "attribute")]
    pub(crate) attributes: Vec<Attribute>,
    /// Whom it sends to, and what is known of them.
    #[serde(rename = "peer")]
    pub(crate) peers: Vec<Peer>,
}

/// How much is served at once, and how long is waited.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LimitsConfig {
    /// Associations at once.
    #[serde(deserialize_with = "at_least_one")]
    pub(crate) associations: usize,
    /// What one address may have of the connections that a port takes, in percent.
    #[serde(deserialize_with = "percent")]
    pub(crate) address_percent: u8,
    /// Operations that one association may have in flight.
    #[serde(deserialize_with = "at_least_one")]
    pub(crate) operations: u16,
    /// How long an association may be silent.
    #[serde(deserialize_with = "at_least_one")]
    pub(crate) idle_seconds: u32,
    /// How long an instance waits for its turn.
    #[serde(deserialize_with = "at_least_one")]
    pub(crate) patience_seconds: u32,
    /// How long procedure steps are kept after their end, and events of them that nobody takes.
    #[serde(deserialize_with = "at_least_one")]
    pub(crate) steps_kept_days: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            associations: 1000,
            address_percent: 50,
            operations: 16,
            idle_seconds: 600,
            patience_seconds: 30,
            steps_kept_days: 90,
        }
    }
}

/// How what is kept is read through, over and over, and compared with what was stored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ScrubConfig {
    /// What is read in a second.
    pub(crate) mebibytes_per_second: NonZeroU32,
    /// How long after the end of a pass the next one begins.
    pub(crate) pause_days: u32,
}

impl Default for ScrubConfig {
    fn default() -> Self {
        Self {
            mebibytes_per_second: NonZeroU32::new(20).expect("20 is not 0"),
            pause_days: 7,
        }
    }
}

/// Where the backup is, and how often it is brought up.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct BackupConfig {
    /// Its directory.
    pub(crate) directory: Option<PathBuf>,
    /// Or the object store that it is in.
    pub(crate) objects: Option<ObjectLocation>,
    /// How long after one increment the next one is made.
    pub(crate) every_minutes: NonZeroU32,
}

impl Default for BackupConfig {
    fn default() -> Self {
        Self {
            directory: None,
            objects: None,
            every_minutes: NonZeroU32::new(60).expect("60 is not 0"),
        }
    }
}

impl BackupConfig {
    pub(crate) fn place(&self) -> BackupPlace {
        BackupPlace {
            directory: self.directory.clone(),
            objects: self.objects.clone(),
        }
    }
}

/// What HL7 messages are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Hl7Config {
    /// Where it listens for HL7 over MLLP; nowhere, and no message is taken.
    pub(crate) port: Option<u16>,
}

/// What is offered over HTTP, and to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct WebConfig {
    /// Nothing is offered over HTTP.
    pub(crate) off: bool,
    /// Studies, series and instances may be deleted.
    pub(crate) delete: bool,
    /// How clients reach this server, where that is not what their Host field says.
    #[serde(deserialize_with = "origin")]
    pub(crate) origin: String,
    /// Pages of these origins may use DICOMweb.
    #[serde(deserialize_with = "origins")]
    pub(crate) cors_origins: Vec<String>,
    /// Where OHIF's files are, where it is not looked for beside the server.
    pub(crate) ohif_directory: Option<PathBuf>,
}

/// How the server logs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LogConfig {
    /// Lines for people, or one JSON object a line.
    pub(crate) format: LogFormat,
    /// A level, or a filter as `tracing_subscriber::EnvFilter` reads it.
    #[serde(deserialize_with = "filter")]
    pub(crate) filter: String,
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    Human,
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            file: None,
            data: PathBuf::from("./pacs-data"),
            ae_title: "PACS".parse().expect("PACS is an AE title"),
            dicom_port: 11112,
            http_port: 8080,
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            stop_grace_seconds: 30,
            duplicates: Duplicates::Replace,
            any_sop_class: false,
            index_cache_mebibytes: 128,
            routes: None,
            stable_after_seconds: 60,
            objects: None,
            replica: None,
            scrub: None,
            backup: None,
            database: None,
            encryption: None,
            access: None,
            audit: None,
            limits: LimitsConfig::default(),
            hl7: Hl7Config::default(),
            web: WebConfig::default(),
            tls: Tls::default(),
            log: LogConfig::default(),
            attributes: Vec::new(),
            peers: Vec::new(),
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Human,
            filter: "info".to_owned(),
        }
    }
}

impl Config {
    /// Reads settings from TOML; what it doesn't name has its default. The error says where and why.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if let Some(title) = Peer::twice(&config.peers) {
            return Err(format!(
                "two [[peer]] tables have the ae-title {:?}",
                title.as_str()
            ));
        }
        if config
            .database
            .as_ref()
            .is_some_and(|database| holds_password(&database.url))
        {
            return Err(
                "[database] url: a password belongs into a file of its own, password-file".to_owned(),
            );
        }
        let of_replica = config
            .replica
            .as_ref()
            .and_then(|replica| replica.objects.as_ref());
        if let Some(backup) = &config.backup {
            let checked = backup.place().check();
            checked.map_err(|error| format!("[backup] {}", error.context()))?;
        }
        let of_backup = config.backup.as_ref().and_then(|backup| backup.objects.as_ref());
        for (table, objects) in [
            ("objects", config.objects.as_ref()),
            ("replica.objects", of_replica),
            ("backup.objects", of_backup),
        ] {
            if let Some(name) = objects.and_then(secret_option) {
                return Err(format!(
                    "[{table}] options: {name} belongs into a file of its own, option-files"
                ));
            }
        }
        let store = config.store();
        store.check().map_err(|error| error.to_string())?;
        let attributes = store.attribute_set();
        let attributes = attributes.map_err(|error| error.to_string())?;
        if let Some(access) = &config.access {
            let policy = access.policy()?;
            policy.check(&attributes).map_err(|error| error.to_string())?;
        }
        if let Some(encryption) = &config.encryption {
            encryption.provider().map_err(|error| error.to_string())?;
        }
        Ok(config)
    }

    /// Reads settings from a TOML file.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("the configuration {} can't be read: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("the configuration {}: {error}", path.display()))
    }

    /// The command line that runs `command` with these settings on this data directory.
    pub(crate) fn command(&self, command: &str) -> String {
        let file = self
            .file
            .iter()
            .flat_map(|file| ["--config".into(), quoted(file)]);
        let words = file.chain(["--data".into(), quoted(&self.data), command.into()]);
        format!("pacs-server {}", words.collect::<Vec<String>>().join(" "))
    }

    /// What is kept where.
    pub(crate) fn store(&self) -> Settings {
        Settings {
            data: self.data.clone(),
            archive: ArchiveKind::Segment,
            objects: self.objects.clone(),
            replica: self.replica.clone(),
            duplicates: self.duplicates,
            index_cache_mebibytes: self.index_cache_mebibytes,
            database: self.database.clone(),
            encryption: self.encryption.clone(),
            access: None,
            attributes: self.attributes.clone(),
        }
    }

    /// What connections are made secure with, and by what others are called over TLS.
    pub(crate) fn secure(&self) -> Result<(Credentials, Connector), String> {
        let credentials = self.tls.credentials();
        let secure = credentials.and_then(|credentials| {
            let connector = Connector::new(&credentials)?;
            Ok((credentials, connector))
        });
        secure.map_err(|error| error.to_string())
    }

    /// What one address may have of the connections that a port takes.
    pub(crate) fn address_share(&self) -> AddressShare {
        AddressShare::percent(self.limits.address_percent)
    }

    /// How long running associations may take to end after a signal to stop.
    pub(crate) fn stop_grace(&self) -> Duration {
        Duration::from_secs(self.stop_grace_seconds.into())
    }
}

/// Whether the URL of a database, in either of its forms, holds a password.
fn holds_password(url: &str) -> bool {
    let user = url.split_once("://").and_then(|(_, rest)| rest.split_once('@'));
    user.is_some_and(|(user, _)| user.contains(':')) || url.contains("password=")
}

/// An option whose value is a secret.
fn secret_option(objects: &ObjectLocation) -> Option<&str> {
    // A proxy's URL may hold a password.
    const SECRETS: [&str; 9] = [
        "secret",
        "token",
        "account_key",
        "access_key",
        "master_key",
        "encryption_key",
        "customer_key",
        "sas",
        "proxy_url",
    ];
    let is_secret = |name: &&str| {
        let name = name.to_ascii_lowercase();
        !name.ends_with("access_key_id") && SECRETS.iter().any(|secret| name.contains(secret))
    };
    objects.options.keys().map(String::as_str).find(is_secret)
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests;
