//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use pacs_core::AeTitle;
use pacs_core::dataset::Element;
use pacs_core::route::Trigger;
use pacs_store::audit::AuditHead;

use crate::amend::{self, Of};
use crate::audit;
use crate::backup::{BackupCommand, Restore};
use crate::certs;
use crate::config::Config;
use crate::export::Export;
use crate::migrate::Migrate;
use crate::users;

/// A PACS in one binary: receives instances, keeps them, finds them and hands them out.
///
/// Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 3 done, and something was found
/// wrong or refused.
#[derive(Debug, Parser)]
#[command(name = "pacs-server", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Receive, find and hand out over DICOM until SIGTERM or SIGINT (the default)
    Serve,
    /// Take in every file below a directory; an interrupted import goes on where it was
    Import {
        /// The directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Files at once
        #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
        workers: u16,
    },
    /// Write studies into a folder as DICOM files, as they are or de-identified
    ///
    /// The server must not be running. What is there already is written again.
    Export(Export),
    /// Take over the studies of another PACS; an interrupted migration goes on where it was
    ///
    /// The server must not be running. What is complete here already is not fetched again.
    Migrate(Migrate),
    /// Compare every stored instance, in each of its copies, with the checksum made when it was stored
    ///
    /// The server must not be running; while it runs, the setting `scrub` does this.
    Verify {
        /// Make anew what one of two copies has damaged or lost
        #[arg(long)]
        repair: bool,
    },
    /// The backup: what is kept, at many moments, in another place
    Backup {
        #[command(subcommand)]
        command: BackupCommand,
    },
    /// Make a data directory what it was at a moment of its backup
    ///
    /// The data directory must not be there, or be empty.
    Restore(Restore),
    /// Forget the index and make it anew from the archive
    RebuildIndex,
    /// Say how much is kept
    Stats,
    /// Make a test authority, and certificates of it for this server and its clients: to try TLS, not for patients' data
    ///
    /// An authority that is there already is used again; certificates are made anew.
    Certs {
        /// Directory for ca.pem, server.pem, server-key.pem, and the like for each client
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// A host name or address that the server is called by
        #[arg(long = "host", value_name = "HOST", default_values = ["localhost", "127.0.0.1"], value_parser = certs::host)]
        hosts: Vec<String>,
        /// A client that gets a certificate
        #[arg(long = "client", value_name = "NAME", default_value = "client", value_parser = certs::name)]
        clients: Vec<String>,
    },
    /// Write the DICOM Conformance Statement of these settings, as Markdown, on standard output
    Conformance,
    /// Correct attributes of what is kept; the stored bytes stay, and what was before leaves with it
    ///
    /// The server must not be running. What was broken off goes on when it is called again.
    Amend {
        #[command(flatten)]
        of: Of,
        /// The attributes by keyword or tag, each with its new value, or with none; several values with a backslash between them
        #[arg(value_name = "KEYWORD=VALUE", required = true, value_parser = amend::element)]
        wanted: Vec<Element>,
    },
    /// Say which rules apply to a file, and why
    Route {
        /// The DICOM file; it is kept nowhere. For order-placed, one with an item of the worklist
        #[arg(long, value_name = "FILE")]
        explain: PathBuf,
        /// What happened to it: instance-stored, report-stored, series-stable, study-stable, study-changed or
        /// order-placed
        #[arg(long, value_name = "EVENT", default_value = "instance-stored", value_parser = trigger)]
        on: Trigger,
        /// Who sent it
        #[arg(long, value_name = "TITLE")]
        from_ae: Option<AeTitle>,
        /// It was fetched, as priors are
        #[arg(long)]
        fetched: bool,
    },
    /// Make one patient of two: everything of the one becomes the other's
    ///
    /// The server must not be running. What was broken off goes on when it is called again.
    Merge {
        /// Patient ID of the patient that there is no more
        #[arg(value_name = "PRIOR")]
        prior: String,
        /// Patient ID of the patient that stays
        #[arg(value_name = "SURVIVING")]
        surviving: String,
    },
    /// Say, add and remove who is let in by a password; also while the server runs
    Users {
        #[command(subcommand)]
        command: users::Command,
    },
    /// Make a link by which somebody sees some studies for some days; also while the server runs
    Share(users::Shared),
    /// The audit trail: who did what with whose data
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Make keys for what is kept
    Keys {
        #[command(subcommand)]
        command: Keys,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check that no record was changed, removed, inserted or moved; the server may be running
    ///
    /// Says at the end which head the log has now. Whoever can write where the log is could make all of it anew: a head that
    /// was noted down elsewhere tells.
    Verify {
        /// The head that was noted down: a number, a colon and 64 digits
        #[arg(long, value_name = "HEAD", value_parser = audit::head)]
        head: Option<AuditHead>,
        /// The head of the last file before, where files were taken away on purpose
        #[arg(long, value_name = "HEAD", value_parser = audit::head)]
        after: Option<AuditHead>,
    },
    /// Print messages, as XML; that they were read is recorded too; the server may be running
    Show {
        /// Behind the record of this number
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        after: u64,
        /// So many
        #[arg(long, value_name = "NUMBER", default_value_t = 100)]
        count: usize,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Put a new key before the others in a file; the server writes with it from its next start on
    ///
    /// The file is made where there is none. The others stay for what was written with them. Keep a copy where the data
    /// is not: without its key nothing can be read.
    New {
        /// The file that `key-file` of `[encryption]` names
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

fn trigger(name: &str) -> Result<Trigger, String> {
    Trigger::parse(name).ok_or_else(|| "there is no such event".to_owned())
}

/// What goes over the configuration file.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct Settings {
    /// Directory that instances and index are kept in [default: ./pacs-data]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Application entity title of this server [default: PACS]
    #[arg(long, global = true, value_name = "TITLE")]
    ae_title: Option<AeTitle>,

    /// TCP port for DICOM associations; 0 lets the system choose one [default: 11112]
    #[arg(long, global = true, value_name = "PORT")]
    dicom_port: Option<u16>,

    /// TCP port for DICOMweb and the pages; 0 lets the system choose one [default: 8080]
    #[arg(long, global = true, value_name = "PORT")]
    http_port: Option<u16>,

    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, global = true, value_name = "ADDR")]
    listen: Option<IpAddr>,

    /// TOML file with the same settings and the peers; flags go over it
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// TOML file that says where things go by themselves
    #[arg(long, global = true, value_name = "FILE")]
    routes: Option<PathBuf>,

    /// Show all settings with their meaning and their present values, as TOML, and stop
    #[arg(long, global = true)]
    pub(crate) print_config: bool,
}

impl Settings {
    /// The settings in force. The error is fit to be shown.
    pub(crate) fn resolve(self) -> Result<Config, String> {
        let mut config = match &self.config {
            Some(path) => {
                let mut config = Config::read(path)?;
                config.file = Some(path.clone());
                config
            }
            None => Config::default(),
        };
        if let Some(routes) = self.routes {
            config.routes = Some(routes);
        }
        if let Some(data) = self.data {
            config.data = data;
        }
        if let Some(ae_title) = self.ae_title {
            config.ae_title = ae_title;
        }
        if let Some(dicom_port) = self.dicom_port {
            config.dicom_port = dicom_port;
        }
        if let Some(http_port) = self.http_port {
            config.http_port = http_port;
        }
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_defaults_that_help_names_are_those_in_force() {
        use clap::CommandFactory as _;
        let help = Cli::command().render_long_help().to_string();
        let config = Config::default();
        for value in [
            config.data.display().to_string(),
            config.ae_title.to_string(),
            config.dicom_port.to_string(),
            config.http_port.to_string(),
            config.listen.to_string(),
        ] {
            assert!(help.contains(&format!("[default: {value}]")), "{value}");
        }
    }

    #[test]
    fn a_flag_goes_over_the_file_and_the_file_over_the_default() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "ae-title = \"FILE\"\ndicom-port = 104").unwrap();
        let path = file.path().to_str().unwrap();
        let cli = Cli::try_parse_from(["pacs-server", "--config", path, "--dicom-port", "4242"]).unwrap();
        let config = cli.settings.resolve().unwrap();
        assert_eq!(config.ae_title.as_str(), "FILE");
        assert_eq!(config.dicom_port, 4242);
        assert_eq!(config.listen, Config::default().listen);
    }
}
