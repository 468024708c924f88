//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pacs_core::query::Model;
use pacs_core::{AeTitle, DataSet, Level, Uid};
use pacs_net::scu::Reference;

use crate::commit;
use crate::keys::Key;

/// A DICOM client: echo, store, commit, find, move and get, worklists and procedure steps.
///
/// Exit codes: 0 done; 1 failed; 2 wrong usage; 3 done, and the peer answered some of it with a
/// failure or a warning, or a file could not be sent.
#[derive(Debug, Parser)]
#[command(name = "dicom-scu", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ask whether the peer is there (C-ECHO)
    Echo {
        #[command(flatten)]
        peer: Peer,
    },
    /// Send files, and all files below directories (C-STORE)
    Store {
        #[command(flatten)]
        peer: Peer,
        /// Associations at once
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
        associations: u16,
        /// Operations in flight on one association, as far as the peer agrees (PS3.7 D.3.3.3)
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
        async_window: u16,
        /// What to send
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Ask the peer to commit itself to keep instances (storage commitment)
    Commit {
        #[command(flatten)]
        peer: Peer,
        #[command(flatten)]
        wanted: ToCommit,
    },
    /// Query (C-FIND)
    Find {
        #[command(flatten)]
        peer: Peer,
        #[command(flatten)]
        query: Query,
        /// Print one JSON object an answer, in the DICOM JSON Model
        #[arg(long)]
        json: bool,
        /// Cancel after this many answers
        #[arg(long, value_name = "N")]
        cancel_after: Option<usize>,
    },
    /// Have the peer send what matches to a third (C-MOVE)
    Move {
        #[command(flatten)]
        peer: Peer,
        #[command(flatten)]
        query: Query,
        /// AE title of the destination, which the peer must know
        #[arg(long, value_name = "TITLE")]
        destination: AeTitle,
    },
    /// Fetch what matches (C-GET)
    Get {
        #[command(flatten)]
        peer: Peer,
        #[command(flatten)]
        query: Query,
        /// Directory to write into: one Part 10 file an instance, named by its SOP Instance UID
        #[arg(long, value_name = "DIR", default_value = ".")]
        output: PathBuf,
        /// Write nothing: to see how fast the peer sends
        #[arg(long, conflicts_with = "output")]
        discard: bool,
    },
    /// Ask for scheduled procedure steps (C-FIND of the Modality Worklist)
    Worklist {
        #[command(flatten)]
        peer: Peer,
        /// A key by keyword or tag: PatientID=5, ScheduledProcedureStepSequence.Modality=CT. Without a value it is only
        /// returned; ScheduledProcedureStepSequence alone returns all of it
        #[arg(short, long = "key", value_name = "KEY[=VALUE]", required = true)]
        keys: Vec<Key>,
        /// Print one JSON object an item, in the DICOM JSON Model
        #[arg(long)]
        json: bool,
        /// Cancel after this many items
        #[arg(long, value_name = "N")]
        cancel_after: Option<usize>,
    },
    /// Say what is done (Modality Performed Procedure Step)
    Mpps {
        #[command(subcommand)]
        command: Mpps,
    },
    /// Unified procedure steps (PS3.4 annex CC)
    #[command(subcommand)]
    Ups(Ups),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Mpps {
    /// Begin a step (N-CREATE): prints its SOP Instance UID
    Create {
        #[command(flatten)]
        peer: Peer,
        /// SOP Instance UID; a new one without it
        #[arg(long, value_name = "UID")]
        instance: Option<Uid>,
        /// An item of the worklist, as `worklist --json` prints it, from which attributes are taken
        #[arg(long, value_name = "FILE")]
        item: Option<PathBuf>,
        /// Further attributes. Those that are required and may be empty are sent empty
        #[arg(short, long = "key", value_name = "KEY=VALUE")]
        keys: Vec<Key>,
    },
    /// Go on with a step, or end it (N-SET)
    Set {
        #[command(flatten)]
        peer: Peer,
        /// SOP Instance UID
        instance: Uid,
        /// The attributes: PerformedProcedureStepStatus=COMPLETED
        #[arg(short, long = "key", value_name = "KEY=VALUE", required = true)]
        keys: Vec<Key>,
    },
    /// Ask for a step (N-GET)
    Get {
        #[command(flatten)]
        peer: Peer,
        /// SOP Instance UID
        instance: Uid,
        /// The attributes; all without it
        #[arg(short, long = "key", value_name = "KEY")]
        keys: Vec<Key>,
        /// Print one JSON object, in the DICOM JSON Model
        #[arg(long)]
        json: bool,
    },
}

impl Mpps {
    pub(crate) fn peer(&self) -> &Peer {
        match self {
            Self::Create { peer, .. } | Self::Set { peer, .. } | Self::Get { peer, .. } => peer,
        }
    }
}

/// What is to be committed, and how long is waited.
#[derive(Debug, Args)]
pub(crate) struct ToCommit {
    /// An instance by its UIDs
    #[arg(long = "instance", value_name = "SOP-CLASS:SOP-INSTANCE", value_parser = commit::reference)]
    pub(crate) instances: Vec<Reference>,
    /// Port of this client for a report on an association of the peer's own; without it the report can only come on the
    /// association of the request
    #[arg(long, value_name = "PORT")]
    pub(crate) listen_port: Option<u16>,
    /// Seconds that the association of the request is kept for the report, where there is a port for another one
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) hold: u32,
    /// Seconds that the report is waited for in all
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(crate) patience: u32,
    /// Files with the instances, and directories of such
    #[arg(required_unless_present = "instances")]
    pub(crate) paths: Vec<PathBuf>,
}

/// What is asked of procedure steps.
#[derive(Debug, Subcommand)]
pub(crate) enum Ups {
    /// Find steps (C-FIND)
    Find {
        #[command(flatten)]
        peer: Peer,
        #[command(flatten)]
        keys: Keys,
        /// Print one JSON object an answer, in the DICOM JSON Model
        #[arg(long)]
        json: bool,
    },
    /// Print a step (N-GET)
    Get {
        #[command(flatten)]
        peer: Peer,
        /// Its SOP Instance UID
        step: Uid,
        /// Print it in the DICOM JSON Model
        #[arg(long)]
        json: bool,
    },
    /// Create a step, and print its UID (N-CREATE)
    Create {
        #[command(flatten)]
        peer: Peer,
        #[command(flatten)]
        keys: Keys,
        /// Its SOP Instance UID; the peer gives it one otherwise
        #[arg(long, value_name = "UID")]
        uid: Option<Uid>,
    },
    /// Set attributes of a step (N-SET)
    Set {
        #[command(flatten)]
        peer: Peer,
        /// Its SOP Instance UID
        step: Uid,
        #[command(flatten)]
        keys: Keys,
        /// The Transaction UID that it was claimed with
        #[arg(long, value_name = "UID")]
        transaction: Option<Uid>,
    },
    /// Claim a step, complete or cancel it (N-ACTION); who claims one is told the Transaction UID
    State {
        #[command(flatten)]
        peer: Peer,
        /// Its SOP Instance UID
        step: Uid,
        /// The state it goes to
        #[arg(value_enum, ignore_case = true)]
        state: StateName,
        /// The Transaction UID: a new one is made to claim a step
        #[arg(long, value_name = "UID")]
        transaction: Option<Uid>,
    },
    /// Ask that a step of another be canceled (N-ACTION)
    Cancel {
        #[command(flatten)]
        peer: Peer,
        /// Its SOP Instance UID
        step: Uid,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
    /// Subscribe an AE to events of a step, of all steps, or of those that match (N-ACTION)
    Subscribe {
        #[command(flatten)]
        peer: Peer,
        #[command(flatten)]
        keys: Keys,
        /// The step; without it and without keys all
        #[arg(long, value_name = "UID", conflicts_with = "keys")]
        step: Option<Uid>,
        /// Who is to be told, which the peer must know; this client otherwise
        #[arg(long, value_name = "TITLE")]
        receiver: Option<AeTitle>,
        /// Keep what it is subscribed to from being deleted
        #[arg(long)]
        lock: bool,
    },
    /// End a subscription to a step, or to all (N-ACTION)
    Unsubscribe {
        #[command(flatten)]
        peer: Peer,
        /// The step; without it all
        #[arg(long, value_name = "UID")]
        step: Option<Uid>,
        /// Who was told; this client otherwise
        #[arg(long, value_name = "TITLE")]
        receiver: Option<AeTitle>,
        /// Only for steps that are still to come
        #[arg(long, conflicts_with = "step")]
        suspend: bool,
    },
    /// Print the events that come, until it is stopped (N-EVENT-REPORT)
    Listen {
        /// Where to listen: an address and a port
        address: SocketAddr,
        /// End after this many events
        #[arg(long, value_name = "N")]
        count: Option<usize>,
    },
}

/// The states that a step is brought to.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum StateName {
    InProgress,
    Completed,
    Canceled,
}

/// Attributes with or without a value.
#[derive(Debug, Args)]
pub(crate) struct Keys {
    /// An attribute by keyword or tag: ProcedureStepLabel=Reading, 0074,1200=HIGH,
    /// ScheduledStationNameCodeSequence.CodeValue=CT1
    #[arg(short, long = "key", value_name = "KEY[=VALUE]")]
    keys: Vec<Key>,
}

impl Keys {
    pub(crate) fn set(&self) -> DataSet {
        let mut set = DataSet::new();
        for key in &self.keys {
            key.put_into(&mut set);
        }
        set
    }
}

/// Whom to call, and how.
#[derive(Debug, Args)]
pub(crate) struct Peer {
    /// AE title of this client
    #[arg(long, value_name = "TITLE", default_value = "DICOM-SCU")]
    pub(crate) calling: AeTitle,
    /// AE title of the peer
    #[arg(long, value_name = "TITLE", default_value = "PACS")]
    pub(crate) called: AeTitle,
    /// Call it over TLS (PS3.15 B.12)
    #[arg(long)]
    pub(crate) tls: bool,
    /// The authorities that its certificate must come from, in PEM; without them those of the operating system
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub(crate) tls_authorities: Option<PathBuf>,
    /// The certificate that is shown to it, in PEM
    #[arg(long, value_name = "FILE", requires_all = ["tls", "tls_key"])]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// The key of that, in PEM
    #[arg(long, value_name = "FILE", requires_all = ["tls", "tls_certificate"])]
    pub(crate) tls_key: Option<PathBuf>,
    /// The peer
    #[arg(value_name = "HOST:PORT", value_parser = address)]
    pub(crate) address: String,
}

/// Reads `host:port`; an IPv6 address stands in brackets.
fn address(text: &str) -> Result<String, String> {
    let parts = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match parts.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(1..)) => Ok(text.to_owned()),
        Some(_) => Err("a port is a number from 1 to 65535".to_owned()),
        None => Err("a host and a port are needed, such as 192.0.2.7:104".to_owned()),
    }
}

/// What is asked for.
#[derive(Debug, Args)]
pub(crate) struct Query {
    /// Query/Retrieve Level
    #[arg(long, value_enum, ignore_case = true, default_value = "study")]
    level: LevelName,
    /// Information model
    #[arg(long, value_enum, ignore_case = true, default_value = "study-root")]
    model: ModelName,
    /// A key by keyword or tag: PatientName=Doe*, 0010,0020, RequestAttributesSequence.RequestedProcedureID=5.
    /// Without a value it is only returned
    #[arg(short, long = "key", value_name = "KEY[=VALUE]")]
    keys: Vec<Key>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LevelName {
    Patient,
    Study,
    Series,
    Image,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModelName {
    PatientRoot,
    StudyRoot,
}

impl Query {
    /// The information model.
    pub(crate) fn model(&self) -> Model {
        match self.model {
            ModelName::PatientRoot => Model::PatientRoot,
            ModelName::StudyRoot => Model::StudyRoot,
        }
    }

    /// Query/Retrieve Level (0008,0052).
    pub(crate) fn level(&self) -> Level {
        match self.level {
            LevelName::Patient => Level::Patient,
            LevelName::Study => Level::Study,
            LevelName::Series => Level::Series,
            LevelName::Image => Level::Instance,
        }
    }

    /// The keys, without the Query/Retrieve Level.
    pub(crate) fn keys(&self) -> DataSet {
        let mut keys = DataSet::new();
        for key in &self.keys {
            key.put_into(&mut keys);
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn an_address_without_a_port_is_refused_with_what_is_needed() {
        for (text, reason) in [
            ("nohost", "a host and a port"),
            (":104", "a host and a port"),
            ("host:", "from 1 to 65535"),
            ("host:0", "from 1 to 65535"),
            ("host:65536", "from 1 to 65535"),
        ] {
            assert!(address(text).unwrap_err().contains(reason), "{text}");
        }
        for text in ["host:104", "192.0.2.7:104", "[::1]:104"] {
            assert_eq!(address(text), Ok(text.to_owned()));
        }
    }
}
