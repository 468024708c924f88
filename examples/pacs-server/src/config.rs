//! The settings: from their defaults, a TOML file and the command line, in this order.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pacs_core::AeTitle;
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
    /// How it logs.
    pub(crate) log: LogConfig,
    /// Whom it sends to, and what is known of them.
    #[serde(rename = "peer")]
    pub(crate) peers: Vec<Peer>,
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
            log: LogConfig::default(),
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
        const PEERS: &str =
            "A peer that instances may be sent to: the Move Destination of a C-MOVE. One table each.";
        if self.peers.is_empty() {
            out.gap();
            out.text(PEERS);
            let example = Peer {
                ae_title: "WORKSTATION".parse().expect("WORKSTATION is an AE title"),
                host: "192.0.2.10".to_owned(),
                port: 104,
                associations: Peer::default_associations(),
            };
            let mut lines = Rendering::default();
            lines.peer(&example);
            for line in lines.0.trim_start().lines() {
                out.text(line);
            }
        }
        for (at, peer) in self.peers.iter().enumerate() {
            if at == 0 {
                out.gap();
                out.text(PEERS);
            }
            out.peer(peer);
        }
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
    fn the_example_of_a_peer_is_valid_once_its_comment_signs_are_gone() {
        let rendered = Config::default().render();
        let (_, example) = rendered.split_once("# [[peer]]").unwrap();
        let table = format!("[[peer]]{}", example.replace("\n# ", "\n"));
        assert_eq!(Config::parse(&table).unwrap().peers.len(), 1);
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
            ("[log]\nfilter = \"pacs=loud\"", "line 2", "filter"),
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
