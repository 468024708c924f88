//! The settings: from their defaults, a TOML file and the command line, in this order.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pacs_core::query::{AttributePath, AttributeSet};
use pacs_core::{AeTitle, DuplicatePolicy, Level};
use serde::{Deserialize, Deserializer, de};

/// All settings. The file's keys are the names of the command line's flags.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// Where instances and index are kept.
    pub(crate) data: PathBuf,
    /// What this server is called.
    #[serde(deserialize_with = "ae_title")]
    pub(crate) ae_title: AeTitle,
    /// Where it listens for DICOM; 0 lets the system choose.
    pub(crate) dicom_port: u16,
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
    /// How much is served at once, and how long is waited.
    pub(crate) limits: LimitsConfig,
    /// How it logs.
    pub(crate) log: LogConfig,
    /// What is searched beyond the attributes of the Standard's query models.
    #[serde(rename = "attribute")]
    pub(crate) attributes: Vec<Attribute>,
    /// Whom it sends to, and what is known of them.
    #[serde(rename = "peer")]
    pub(crate) peers: Vec<Peer>,
}

/// What happens to an instance that comes with other bytes under a UID that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Duplicates {
    Replace,
    KeepFirst,
    Refuse,
}

impl Duplicates {
    pub(crate) fn policy(self) -> DuplicatePolicy {
        match self {
            Self::Replace => DuplicatePolicy::Replace,
            Self::KeepFirst => DuplicatePolicy::KeepFirst,
            Self::Refuse => DuplicatePolicy::Refuse,
        }
    }
}

/// An attribute that is searched and returned besides the usual ones.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Attribute {
    /// At which level it is asked for.
    pub(crate) level: AttributeLevel,
    /// Where it stands, as [`AttributePath`] reads it.
    #[serde(deserialize_with = "path")]
    pub(crate) path: String,
}

/// A level by its name in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AttributeLevel {
    Patient,
    Study,
    Series,
    Instance,
}

impl AttributeLevel {
    fn level(self) -> Level {
        match self {
            Self::Patient => Level::Patient,
            Self::Study => Level::Study,
            Self::Series => Level::Series,
            Self::Instance => Level::Instance,
        }
    }
}

/// How much is served at once, and how long is waited.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LimitsConfig {
    /// Associations at once.
    #[serde(deserialize_with = "at_least_one")]
    pub(crate) associations: usize,
    /// Operations that one association may have in flight.
    #[serde(deserialize_with = "at_least_one")]
    pub(crate) operations: u16,
    /// How long an association may be silent.
    #[serde(deserialize_with = "at_least_one")]
    pub(crate) idle_seconds: u32,
    /// How long an instance waits for its turn.
    #[serde(deserialize_with = "at_least_one")]
    pub(crate) patience_seconds: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            associations: 1000,
            operations: 16,
            idle_seconds: 600,
            patience_seconds: 30,
        }
    }
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

/// A remote application entity.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Peer {
    /// What it is called: the destination of a C-MOVE.
    #[serde(deserialize_with = "ae_title")]
    pub(crate) ae_title: AeTitle,
    /// Its host name or address.
    #[serde(deserialize_with = "not_empty")]
    pub(crate) host: String,
    /// Its port.
    #[serde(deserialize_with = "port")]
    pub(crate) port: u16,
    /// Associations opened to it at once.
    #[serde(default = "Peer::default_associations", deserialize_with = "associations")]
    pub(crate) associations: usize,
}

impl Peer {
    /// Associations opened to one peer at most: more would only wait for its disk.
    const ASSOCIATIONS_MAX: usize = 64;

    fn default_associations() -> usize {
        2
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("./pacs-data"),
            ae_title: "PACS".parse().expect("PACS is an AE title"),
            dicom_port: 11112,
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            stop_grace_seconds: 30,
            duplicates: Duplicates::Replace,
            any_sop_class: false,
            index_cache_mebibytes: 128,
            limits: LimitsConfig::default(),
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
        for (at, peer) in config.peers.iter().enumerate() {
            if config.peers[..at]
                .iter()
                .any(|other| other.ae_title == peer.ae_title)
            {
                return Err(format!(
                    "two [[peer]] tables have the ae-title {:?}",
                    peer.ae_title.as_str()
                ));
            }
        }
        Ok(config)
    }

    /// Reads settings from a TOML file.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("the configuration {} can't be read: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("the configuration {}: {error}", path.display()))
    }

    /// The attributes that are searched and returned.
    pub(crate) fn attribute_set(&self) -> AttributeSet {
        self.attributes
            .iter()
            .fold(AttributeSet::default(), |set, attribute| {
                // The path was read once already, when it came in.
                match attribute.path.parse() {
                    Ok(path) => set.keep(attribute.level.level(), &path),
                    Err(_) => set,
                }
            })
    }

    /// How long running associations may take to end after a signal to stop.
    pub(crate) fn stop_grace(&self) -> Duration {
        Duration::from_secs(self.stop_grace_seconds.into())
    }

    /// All settings with their meaning, as TOML that [`parse`](Self::parse) reads back.
    pub(crate) fn render(&self) -> String {
        let mut out = Rendering::default();
        out.text("Settings of pacs-server. A file like this one is read with --config; flags go over it.");
        out.gap();
        out.setting(
            "data",
            quoted(&self.data.to_string_lossy()),
            "Directory that instances and index are kept in.",
        );
        out.setting(
            "ae-title",
            quoted(self.ae_title.as_str()),
            "Application entity title of this server.",
        );
        out.setting(
            "dicom-port",
            self.dicom_port,
            "TCP port for DICOM associations; 0 lets the system choose one.",
        );
        out.setting(
            "listen",
            quoted(&self.listen.to_string()),
            "Address to listen on: 127.0.0.1 serves this machine alone, 0.0.0.0 every network.",
        );
        out.setting(
            "stop-grace-seconds",
            self.stop_grace_seconds,
            "On SIGTERM or SIGINT running associations may go on this long before they are aborted.",
        );
        let duplicates = match self.duplicates {
            Duplicates::Replace => "replace",
            Duplicates::KeepFirst => "keep-first",
            Duplicates::Refuse => "refuse",
        };
        out.setting(
            "duplicates",
            quoted(duplicates),
            "An instance with other bytes under a UID that is kept: \"replace\" (the old version stays in the\n\
             # archive), \"keep-first\" or \"refuse\". The same bytes again are always a success.",
        );
        out.setting(
            "any-sop-class",
            self.any_sop_class,
            "Take instances of every SOP class, not only the storage classes of the Standard's dictionary.",
        );
        out.setting(
            "index-cache-mebibytes",
            self.index_cache_mebibytes,
            "Memory for pages of the index.",
        );
        out.table(
            "[limits]",
            "What is beyond these is refused or waits; every number is at least 1.",
        );
        out.setting(
            "associations",
            self.limits.associations,
            "Associations at once; a further one is rejected for now (local limit exceeded).",
        );
        out.setting(
            "operations",
            self.limits.operations,
            "Operations that an association may have in flight, where the peer negotiates a window.",
        );
        out.setting(
            "idle-seconds",
            self.limits.idle_seconds,
            "How long an association may be silent.",
        );
        out.setting(
            "patience-seconds",
            self.limits.patience_seconds,
            "How long an instance waits for its turn before its sender is answered A700 (out of resources).",
        );
        out.table(
            "[log]",
            "How the server logs, on standard error. No line holds patient data.",
        );
        let format = match self.log.format {
            LogFormat::Human => "human",
            LogFormat::Json => "json",
        };
        out.setting(
            "format",
            quoted(format),
            "\"human\", or \"json\" for one object a line.",
        );
        out.setting(
            "filter",
            quoted(&self.log.filter),
            "error, warn, info, debug or trace; also by module: \"info,pacs_net=debug\".",
        );
        const ATTRIBUTES: &str = "An attribute that is searched and returned besides those of the Standard's query models: a keyword, a\n\
             # tag, a path through sequences, or a private attribute. What is stored already is indexed again in the\n\
             # background. One table each; level is patient, study, series or instance.";
        let examples = [
            (AttributeLevel::Series, "ProtocolName"),
            (AttributeLevel::Instance, "0029xx10[ACME 1.1]:LO"),
        ];
        out.tables(ATTRIBUTES, &self.attributes, Rendering::attribute, || {
            let example = |(level, path): (_, &str)| Attribute {
                level,
                path: path.to_owned(),
            };
            examples.map(example).to_vec()
        });
        const PEERS: &str =
            "A peer that instances may be sent to: the Move Destination of a C-MOVE. One table each.";
        out.tables(PEERS, &self.peers, Rendering::peer, || {
            vec![Peer {
                ae_title: "WORKSTATION".parse().expect("WORKSTATION is an AE title"),
                host: "192.0.2.10".to_owned(),
                port: 104,
                associations: Peer::default_associations(),
            }]
        });
        out.0
    }
}

#[derive(Default)]
struct Rendering(String);

impl Rendering {
    fn gap(&mut self) {
        self.0.push('\n');
    }

    fn text(&mut self, text: &str) {
        self.line(format_args!("# {text}"));
    }

    fn setting(&mut self, key: &str, value: impl std::fmt::Display, meaning: &str) {
        self.text(meaning);
        self.line(format_args!("{key} = {value}"));
    }

    fn table(&mut self, header: &str, meaning: &str) {
        self.gap();
        self.text(meaning);
        self.line(format_args!("{header}"));
    }

    /// The tables of one name; where there is none, `examples` as comments.
    fn tables<T: Clone>(
        &mut self,
        meaning: &str,
        tables: &[T],
        render: impl Fn(&mut Self, &T),
        examples: impl Fn() -> Vec<T>,
    ) {
        self.gap();
        self.text(meaning);
        for table in tables {
            render(self, table);
        }
        if tables.is_empty() {
            let mut lines = Self::default();
            for example in examples() {
                render(&mut lines, &example);
            }
            for line in lines.0.lines() {
                self.text(line);
            }
        }
    }

    fn attribute(&mut self, attribute: &Attribute) {
        let level = match attribute.level {
            AttributeLevel::Patient => "patient",
            AttributeLevel::Study => "study",
            AttributeLevel::Series => "series",
            AttributeLevel::Instance => "instance",
        };
        self.line(format_args!("[[attribute]]"));
        self.line(format_args!("level = {}", quoted(level)));
        self.line(format_args!("path = {}", quoted(&attribute.path)));
    }

    fn peer(&mut self, peer: &Peer) {
        self.line(format_args!("[[peer]]"));
        self.line(format_args!("ae-title = {}", quoted(peer.ae_title.as_str())));
        self.line(format_args!("host = {}", quoted(&peer.host)));
        self.line(format_args!("port = {}", peer.port));
        self.line(format_args!(
            "associations = {} # opened to it at once, 1 to {}",
            peer.associations,
            Peer::ASSOCIATIONS_MAX
        ));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String can't fail.
        let _ = writeln!(self.0, "{line}");
    }
}

/// `text` as a TOML string.
fn quoted(text: &str) -> toml::Value {
    toml::Value::String(text.to_owned())
}

fn ae_title<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AeTitle, D::Error> {
    let text = String::deserialize(deserializer)?;
    AeTitle::parse(&text).map_err(|error| de::Error::custom(error.context()))
}

fn filter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    crate::logging::filter(&text).map_err(de::Error::custom)?;
    Ok(text)
}

fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.parse::<AttributePath>() {
        Ok(_) => Ok(text),
        Err(error) => Err(de::Error::custom(error.context())),
    }
}

fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        Err(de::Error::custom("a host name or address must stand here"))
    } else {
        Ok(text)
    }
}

fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    match u16::deserialize(deserializer)? {
        0 => Err(de::Error::custom("a port is 1 to 65535")),
        port => Ok(port),
    }
}

fn at_least_one<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + PartialEq + Default,
{
    let number = T::deserialize(deserializer)?;
    if number == T::default() {
        Err(de::Error::custom("at least 1"))
    } else {
        Ok(number)
    }
}

fn associations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let number = usize::deserialize(deserializer)?;
    if (1..=Peer::ASSOCIATIONS_MAX).contains(&number) {
        Ok(number)
    } else {
        Err(de::Error::custom(format_args!(
            "1 to {} associations can be opened to a peer",
            Peer::ASSOCIATIONS_MAX
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_print_config_shows_reads_back_as_the_same_settings() {
        assert_eq!(
            Config::parse(&Config::default().render()).unwrap(),
            Config::default()
        );
        let mut config = Config {
            data: PathBuf::from("/srv/a \"quoted\" \\ place"),
            ae_title: "OTHER PACS".parse().unwrap(),
            dicom_port: 0,
            listen: "::1".parse().unwrap(),
            stop_grace_seconds: 5,
            duplicates: Duplicates::KeepFirst,
            any_sop_class: true,
            index_cache_mebibytes: 7,
            limits: LimitsConfig {
                associations: 2,
                operations: 3,
                idle_seconds: 4,
                patience_seconds: 5,
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
            });
        }
        assert_eq!(Config::parse(&config.render()).unwrap(), config);
    }

    #[test]
    fn the_examples_are_valid_once_their_comment_signs_are_gone() {
        let rendered = Config::default().render();
        let examples = rendered.lines().filter_map(|line| {
            let line = line.strip_prefix("# ")?;
            let is_toml = line.starts_with("[[") || line.split(' ').nth(1) == Some("=");
            is_toml.then(|| format!("{line}\n"))
        });
        let config = Config::parse(&examples.collect::<String>()).unwrap();
        assert_eq!((config.attributes.len(), config.peers.len()), (2, 1));
        assert_ne!(config.attribute_set(), AttributeSet::default());
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
