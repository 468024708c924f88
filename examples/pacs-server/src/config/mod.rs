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
mod tests {
    use std::collections::BTreeMap;

    use pacs_core::access::{self, Permission, Role, Values};
    use pacs_core::query::AttributeSet;
    use pacs_net::identity::IssuerSettings;
    use pacs_net::settings::Protocol;
    use pacs_store::embedded::AttributeLevel;

    use super::*;

    #[test]
    fn what_print_config_shows_reads_back_as_the_same_settings() {
        assert_eq!(
            Config::parse(&Config::default().render()).unwrap(),
            Config::default()
        );
        let mut config = Config {
            file: None,
            data: PathBuf::from("/srv/a \"quoted\" \\ place"),
            ae_title: "OTHER PACS".parse().unwrap(),
            dicom_port: 0,
            http_port: 1,
            listen: "::1".parse().unwrap(),
            stop_grace_seconds: 5,
            duplicates: Duplicates::KeepFirst,
            any_sop_class: true,
            index_cache_mebibytes: 7,
            routes: Some(PathBuf::from("/srv/routes \"new\".toml")),
            stable_after_seconds: 9,
            objects: None,
            replica: None,
            scrub: None,
            backup: None,
            database: None,
            encryption: Some(Encryption {
                key_command: vec!["vault".to_owned(), "a \"quoted\" word".to_owned()],
                plain_too: true,
                ..Encryption::default()
            }),
            access: Some(AccessConfig {
                anyone: vec![Permission::Find],
                users: Some(PathBuf::from("/srv/users")),
                roles: vec![
                    Role {
                        name: "reader".to_owned(),
                        allow: vec![Permission::Find, Permission::Retrieve],
                        only: [
                            ("Modality".to_owned(), Values::One("US".to_owned())),
                            (
                                "InstitutionName".to_owned(),
                                Values::Any(vec!["A \"quoted\"".to_owned(), "B".to_owned()]),
                            ),
                        ]
                        .into(),
                    },
                    Role {
                        name: "modality".to_owned(),
                        allow: Vec::new(),
                        only: BTreeMap::new(),
                    },
                ],
                peers: vec![access::Peer {
                    ae_title: Some("CT1".parse().unwrap()),
                    addresses: vec!["10.1.0.0/16".parse().unwrap(), "::1".parse().unwrap()],
                    certificate: Some("ct1.example".to_owned()),
                    roles: vec!["modality".to_owned()],
                }],
                issuers: vec![IssuerSettings {
                    url: "https://login.example/realms/hospital".to_owned(),
                    audience: "pacs".to_owned(),
                    roles_claim: "realm_access.roles".to_owned(),
                    roles: [("Readers".to_owned(), vec!["reader".to_owned()])].into(),
                    name_claim: "email".to_owned(),
                }],
            }),
            audit: Some(AuditConfig {
                directory: Some(PathBuf::from("/srv/audit \"log\"")),
                repository: Some("tls://audit.example:6514".parse().unwrap()),
                required: true,
                limit_mebibytes: Some(4096),
            }),
            hl7: Hl7Config { port: Some(2575) },
            limits: LimitsConfig {
                associations: 2,
                address_percent: 100,
                operations: 3,
                idle_seconds: 4,
                patience_seconds: 5,
                steps_kept_days: 6,
            },
            web: WebConfig {
                off: true,
                delete: true,
                origin: "https://pacs.example:8443".to_owned(),
                cors_origins: vec!["https://viewer.example".to_owned(), "*".to_owned()],
                ohif_directory: Some(PathBuf::from("/srv/ohif \"new\"")),
            },
            tls: Tls {
                certificate: Some(PathBuf::from("pacs.pem")),
                key: Some(PathBuf::from("pacs-key.pem")),
                authorities: Some(PathBuf::from("ca.pem")),
                client_certificates: Some(vec![Protocol::Http]),
                plain: vec![Protocol::Dicom, Protocol::Hl7],
            },
            attributes: vec![Attribute {
                level: AttributeLevel::Series,
                path: "0029xx10[ACME 1.1]:LO".to_owned(),
            }],
            log: LogConfig {
                format: LogFormat::Json,
                filter: "warn,pacs_net=debug".to_owned(),
            },
            peers: Vec::new(),
        };
        for (title, associations) in [("A", 1), ("B", 64)] {
            config.peers.push(Peer {
                ae_title: title.parse().unwrap(),
                host: "workstation.example".to_owned(),
                port: 104,
                associations,
                tls: associations > 1,
            });
        }
        assert_eq!(Config::parse(&config.render()).unwrap(), config);
    }

    #[test]
    fn a_database_reads_back_and_holds_no_password_and_no_encryption() {
        let config = Config {
            database: Some(Database {
                password_file: Some(PathBuf::from("/etc/a \"quoted\" file")),
                schema: "other".to_owned(),
                connections: 3,
                authorities: Some(PathBuf::from("ca.pem")),
                ..Database::at("postgresql://pacs@db.example/pacs?sslmode=require")
            }),
            ..Config::default()
        };
        assert_eq!(Config::parse(&config.render()).unwrap(), config);
        for (text, why) in [
            (
                "[database]\nurl = \"postgresql://pacs:secret@db/pacs\"",
                "password-file",
            ),
            ("[database]\nurl = \"host=db password=secret\"", "password-file"),
            (
                "[database]\nurl = \"postgresql://db/pacs\"\n[encryption]\nkey-file = \"keys\"",
                "encryption and database",
            ),
        ] {
            let error = Config::parse(text).unwrap_err();
            assert!(error.contains(why) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn an_object_store_reads_back_and_its_secrets_are_in_files() {
        let mut objects = ObjectLocation::at("s3://bucket/prefix");
        objects
            .options
            .insert("endpoint".to_owned(), "http://127.0.0.1:8333".to_owned());
        objects.option_files.insert(
            "secret_access_key".to_owned(),
            PathBuf::from("/etc/a \"quoted\" file"),
        );
        objects.authorities = Some(PathBuf::from("ca.pem"));
        let config = Config {
            objects: Some(objects),
            ..Config::default()
        };
        assert_eq!(Config::parse(&config.render()).unwrap(), config);
        let text = "[objects]\nurl = \"s3://bucket\"\noptions = { aws_secret_access_key = \"s3cret\" }";
        let error = Config::parse(text).unwrap_err();
        assert!(
            error.contains("option-files") && !error.contains("s3cret"),
            "{error}"
        );
    }

    #[test]
    fn a_replica_how_it_is_read_through_and_a_backup_read_back() {
        let mut objects = ObjectLocation::at("s3://bucket/prefix");
        objects
            .option_files
            .insert("secret_access_key".to_owned(), PathBuf::from("/etc/file"));
        let at = [
            (Some(PathBuf::from("/mnt/a \"quoted\" place")), None),
            (None, Some(objects)),
        ];
        for (data, objects) in at {
            let backup = BackupConfig {
                directory: data.clone(),
                objects: objects.clone(),
                every_minutes: NonZeroU32::MIN,
            };
            let replica = Replica {
                data,
                objects,
                mode: pacs_store::ReplicateMode::Always,
            };
            let config = Config {
                replica: Some(replica),
                scrub: Some(ScrubConfig {
                    mebibytes_per_second: NonZeroU32::MIN,
                    pause_days: 0,
                }),
                backup: Some(backup),
                ..Config::default()
            };
            assert_eq!(Config::parse(&config.render()).unwrap(), config);
        }
        for (text, why) in [
            ("[replica]", "one of data and objects"),
            (
                "[replica]\ndata = \"a\"\n[replica.objects]\nurl = \"s3://b\"",
                "one of data and objects",
            ),
            ("[replica]\ndata = \"a\"\nmode = \"often\"", "while-present"),
            (
                "[replica.objects]\nurl = \"s3://b\"\noptions = { aws_secret_access_key = \"s3cret\" }",
                "option-files",
            ),
            ("[scrub]\nmebibytes-per-second = 0", "line 2"),
            ("[backup]", "one of directory and objects"),
            ("[backup]\ndirectory = \"a\"\nevery-minutes = 0", "line 3"),
            (
                "[backup.objects]\nurl = \"s3://b\"\noptions = { aws_secret_access_key = \"s3cret\" }",
                "option-files",
            ),
        ] {
            let error = Config::parse(text).unwrap_err();
            assert!(error.contains(why) && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn the_examples_are_valid_once_their_comment_signs_are_gone() {
        let rendered = Config::default().render();
        let examples = rendered.lines().filter_map(|line| {
            let line = line.strip_prefix("# ")?;
            let is_toml = line.starts_with("[[") || line.split(' ').nth(1) == Some("=");
            // Of a table whose header is no comment.
            let of_table = [
                "ohif-directory",
                "repository",
                "required",
                "port = 2575",
                "certificate",
                "client-certificates",
                "key",
                "authorities",
                "url",
                "password-file",
                "option",
                "data = \"/mnt",
                "directory = \"/mnt",
                "every-minutes",
                "mode",
                "mebibytes-per-second",
                "pause-days",
            ];
            let is_of_table = of_table.iter().any(|key| line.starts_with(key));
            (is_toml && !is_of_table).then(|| format!("{line}\n"))
        });
        let config = Config::parse(&examples.collect::<String>()).unwrap();
        assert_eq!((config.attributes.len(), config.peers.len()), (2, 1));
        assert_ne!(config.store().attribute_set().unwrap(), AttributeSet::default());
    }

    #[test]
    fn an_error_names_the_line_and_the_reason() {
        let cases = [
            (
                "data = \"x\"\nae-title = \"A-TITLE-OF-OVER-16-LETTERS\"",
                "line 2",
                "16",
            ),
            ("\n\nlisten = \"nowhere\"", "line 3", "invalid IP address"),
            ("dicom-port = 65536", "line 1", "65536"),
            ("data = 5", "line 1", "expected"),
            ("dicom-prot = 104", "line 1", "unknown field `dicom-prot`"),
            (
                "[[peer]]\nae-title = \"A\"\nhost = \"h\"\nport = 0",
                "line 4",
                "1 to 65535",
            ),
            (
                "[[peer]]\nae-title = \"A\"\nhost = \"\"\nport = 1",
                "line 3",
                "host name",
            ),
            (
                "[[peer]]\nae-title = \"A\"\nhost = \"h\"\nport = 1\nassociations = 0",
                "line 5",
                "1 to 64",
            ),
            (
                "[[peer]]\nae-title = \"A\"\nport = 1",
                "line 1",
                "missing field `host`",
            ),
            ("[limits]\noperations = 0", "line 2", "at least 1"),
            ("[limits]\naddress-percent = 101", "line 2", "1 to 100"),
            ("[encryption]\nkey = \"x\"", "line 2", "unknown field `key`"),
            ("[audit]\nrepository = \"audit:514\"", "line 2", "tls://"),
            ("[web]\norigin = \"pacs.example\"", "line 2", "https://"),
            (
                "[web]\ncors-origins = [\"https://a.example/path\"]",
                "line 2",
                "https://",
            ),
            ("[log]\nfilter = \"pacs=loud\"", "line 2", "filter"),
            (
                "[[attribute]]\nlevel = \"study\"\npath = \"NoSuchKeyword\"",
                "line 3",
                "not an attribute",
            ),
            ("[log]\nformat = \"xml\"", "line 2", "unknown variant `xml`"),
        ];
        for (text, line, reason) in cases {
            let error = Config::parse(text).unwrap_err();
            assert!(
                error.contains(line) && error.contains(reason),
                "{text:?}: {error}"
            );
        }
    }

    #[test]
    fn two_peers_of_one_ae_title_are_refused() {
        let peer = "[[peer]]\nae-title = \"A\"\nhost = \"h\"\nport = 1\n";
        assert!(
            Config::parse(&format!("{peer}{peer}"))
                .unwrap_err()
                .contains("ae-title \"A\"")
        );
    }
}
