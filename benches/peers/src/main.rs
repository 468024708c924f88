//! Runs this server, DCMTK's and Orthanc side by side on generated sets, over DIMSE and over DICOMweb, measures the disk's limit
//! in the same run, and prints medians, ratios and whether the targets hold.
//!
//! Run with
//!
//! ```text
//! .ci/peers
//! cargo run --release -p peers-bench
//! ```
//!
//! Absolute figures move with the machine and the hour: the ratios within one run count. Every server
//! is started fresh on an empty directory of the same file system, with `TCP_NODELAY=1` and the same
//! maximum PDU length, and all dirty pages are written before each measured run. Orthanc has its
//! default durability. In each case of a round the servers take turns.

mod clients;
mod disk;
mod process;
mod profile;
mod servers;
mod set;
mod table;
mod web;

use std::error::Error;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Parser;
use clients::{Ask, Client};
use servers::{Destination, Kind, Server};
use set::{Set, Shape};
use table::{RateTarget, Row, Sample, Table, Target};
use tempfile::TempDir;

/// Compares this server with DCMTK's and Orthanc on one generated set.
///
/// Exit codes: 0 measured, and every target held whose rows were measured; 1 failed; 3 a target was
/// missed (with --quick targets are not judged).
#[derive(Parser)]
#[command(name = "peers-bench", version)]
struct Arguments {
    /// A tiny set and one round: shows that everything runs, measures nothing
    #[arg(long)]
    quick: bool,
    /// Rounds; the medians count
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only the cases whose description holds one of these words
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these servers, by their names in the table
    #[arg(long, value_delimiter = ',')]
    servers: Vec<String>,
    /// Directory on the medium to measure [default: beside this program]
    #[arg(long)]
    room: Option<PathBuf>,
}

/// One measured case.
struct Case {
    what: &'static str,
    ask: Ask,
    client: Client,
    /// Which set: the slices, or the small instances.
    small: bool,
    servers: &'static [Kind],
}

const STORE_1: &str = "store, storescu, 1 association";
const STORE_4: &str = "store, storescu, 4 associations";
const STORE_WINDOW: &str = "store, dicom-scu, 1 association, window 8";
const STORE_WINDOW_4: &str = "store, dicom-scu, 4 associations, window 8";
const SMALL_4: &str = "store 10 KB each, storescu, 4 associations";
const SMALL_WINDOW_4: &str = "store 10 KB each, dicom-scu, 4 associations, window 8";
const GET: &str = "get all studies, getscu";
const GET_DROP: &str = "get all studies, getscu --ignore";
const GET_OWN: &str = "get all studies, dicom-scu --discard";
const MOVE: &str = "move all studies, movescu";
const MOVE_OWN: &str = "move all studies, dicom-scu";
const DISK_1: &str = "append a slice, fdatasync each";
const DISK_16: &str = "append a slice, one fdatasync per 16";

const STORES: &[Kind] = &[Kind::Pacs, Kind::Storescp, Kind::Dcmqrscp, Kind::Orthanc];
const HANDS_OUT: &[Kind] = &[Kind::Pacs, Kind::Dcmqrscp, Kind::Orthanc];

const CASES: &[Case] = &[
    Case {
        what: STORE_1,
        ask: Ask::Store(1),
        client: Client::Dcmtk,
        small: false,
        servers: STORES,
    },
    // dcmqrscp locks its index file for each instance: several associations only slow it down.
    Case {
        what: STORE_4,
        ask: Ask::Store(4),
        client: Client::Dcmtk,
        small: false,
        servers: &[Kind::Pacs, Kind::Storescp, Kind::Orthanc],
    },
    Case {
        what: STORE_WINDOW,
        ask: Ask::Store(1),
        client: Client::Own(8),
        small: false,
        servers: &[Kind::Pacs],
    },
    Case {
        what: STORE_WINDOW_4,
        ask: Ask::Store(4),
        client: Client::Own(8),
        small: false,
        servers: &[Kind::Pacs],
    },
    Case {
        what: SMALL_4,
        ask: Ask::Store(4),
        client: Client::Dcmtk,
        small: true,
        servers: &[Kind::Pacs, Kind::Storescp, Kind::Orthanc],
    },
    Case {
        what: SMALL_WINDOW_4,
        ask: Ask::Store(4),
        client: Client::Own(8),
        small: true,
        servers: &[Kind::Pacs],
    },
    Case {
        what: GET,
        ask: Ask::Get { write: true },
        client: Client::Dcmtk,
        small: false,
        servers: HANDS_OUT,
    },
    // The client receives and writes nothing. Its start, and what it does with each instance, still
    // take as long as this server does: the same asked by dicom-scu shows more of the servers.
    Case {
        what: GET_DROP,
        ask: Ask::Get { write: false },
        client: Client::Dcmtk,
        small: false,
        servers: HANDS_OUT,
    },
    Case {
        what: GET_OWN,
        ask: Ask::Get { write: false },
        client: Client::Own(1),
        small: false,
        servers: HANDS_OUT,
    },
    Case {
        what: MOVE,
        ask: Ask::Move,
        client: Client::Dcmtk,
        small: false,
        servers: HANDS_OUT,
    },
    Case {
        what: MOVE_OWN,
        ask: Ask::Move,
        client: Client::Own(1),
        small: false,
        servers: HANDS_OUT,
    },
];

const PACS: &str = "pacs-server";

const TARGETS: &[Target] = &[
    Target {
        meaning: "ingest on 1 storescu association, times Orthanc in its default durability",
        ours: (STORE_1, PACS),
        theirs: (STORE_1, "Orthanc"),
        at_least: 2.5,
    },
    Target {
        meaning: "ingest by dicom-scu with a window of 8, share of the disk's append and fdatasync each",
        ours: (STORE_WINDOW, PACS),
        theirs: (DISK_1, "disk"),
        at_least: 0.8,
    },
    Target {
        meaning: "ingest on 4 storescu associations, times storescp",
        ours: (STORE_4, PACS),
        theirs: (STORE_4, "storescp"),
        at_least: 1.0,
    },
    Target {
        meaning: "C-GET of whole studies by dicom-scu --discard, times dcmqrscp",
        ours: (GET_OWN, PACS),
        theirs: (GET_OWN, "dcmqrscp"),
        at_least: 2.0,
    },
    Target {
        meaning: "C-MOVE of whole studies by dicom-scu, times dcmqrscp",
        ours: (MOVE_OWN, PACS),
        theirs: (MOVE_OWN, "dcmqrscp"),
        at_least: 2.0,
    },
];

const RATES: &[RateTarget] = &[RateTarget {
    meaning: "10 KB instances a second on 4 associations",
    ours: (SMALL_WINDOW_4, PACS),
    at_least: 5000.0,
}];

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            // When standard error is gone, the exit code still tells.
            let _ = writeln!(io::stderr(), "peers-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    build_programs()?;
    let beside = std::env::current_exe()?
        .parent()
        .map(PathBuf::from)
        .unwrap_or_default();
    let room = TempDir::with_prefix_in("peers-bench-", arguments.room.as_ref().unwrap_or(&beside))?;
    let room = room.path();
    let (slices, small) = if arguments.quick {
        let shape = Shape {
            studies: 4,
            instances_per_study: 3,
            instances_per_series: 125,
            rows: 64,
            columns: 64,
        };
        (shape, shape)
    } else {
        (
            Shape {
                studies: 4,
                instances_per_study: 250,
                instances_per_series: 125,
                rows: 512,
                columns: 512,
            },
            Shape {
                studies: 4,
                instances_per_study: 1000,
                instances_per_series: 125,
                rows: 72,
                columns: 64,
            },
        )
    };
    let slices = set::generate(&room.join("slices"), slices, 2026)?;
    let small = set::generate(&room.join("small"), small, 4052)?;
    let web = match web::Sets::wanted(&arguments.only) {
        true => Some(web::Sets::generate(&room.join("web"), arguments.quick)?),
        false => None,
    };
    let rounds = if arguments.quick { 1 } else { arguments.rounds };
    say(&format!(
        "{} slices of {:.0} MB together, {} small instances of {:.0} MB together, {rounds} round(s)",
        slices.instances,
        slices.bytes as f64 / 1e6,
        small.instances,
        small.bytes as f64 / 1e6
    ))?;

    let wanted =
        |kind: Kind| arguments.servers.is_empty() || arguments.servers.iter().any(|name| name == kind.name());
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| wanted(*kind)).collect();
    for kind in kinds.iter().filter(|kind| !kind.present()) {
        if std::env::var_os("PACS_REQUIRE_PEERS").is_some() {
            return Err(format!("{} is not installed", kind.name()).into());
        }
        say(&format!("skipped: {} is not installed", kind.name()))?;
    }
    let kinds: Vec<Kind> = kinds.into_iter().filter(|kind| kind.present()).collect();

    let destination = Destination::start(room)?;
    let mut bench = Bench {
        room: room.to_owned(),
        table: Table::default(),
        profile: String::new(),
        memory: web::Memory::default(),
    };
    for round in 1..=rounds {
        bench.round(&kinds, &arguments.only, &slices, &small, &destination)?;
        if let Some(sets) = &web {
            let room = bench.room.clone();
            let into = (&mut bench.table, &mut bench.memory, &mut bench.profile);
            web::round(&kinds, &arguments.only, sets, &room, into)?;
        }
        say(&format!("round {round} of {rounds} is done"))?;
    }

    say(&format!("\n{}", bench.table.render(PACS)))?;
    if !bench.profile.is_empty() {
        say(&format!(
            "Where pacs-server's time went, in the last round:\n\n{}",
            bench.profile
        ))?;
    }
    if arguments.quick {
        return Ok(true);
    }
    let (verdicts, dimse) = bench.table.judge(TARGETS, RATES);
    let (of_web, web) = bench.table.judge(web::TARGETS, &[]);
    let (peaks, memory) = bench.memory.judge();
    say(&format!("{verdicts}{of_web}{peaks}"))?;
    Ok(dimse && web && memory)
}

struct Bench {
    room: PathBuf,
    table: Table,
    profile: String,
    memory: web::Memory,
}

impl Bench {
    /// What the disk can do just now, with blocks as long as the set's files.
    fn disk(&mut self, set: &Set) -> io::Result<()> {
        let length = (set.bytes / set.instances as u64) as usize;
        let count = set.instances.min(400);
        for (case, what, group) in [(0, DISK_1, 1), (1, DISK_16, 16)] {
            disk::settle(&self.room)?;
            let took = disk::append(&self.room, length, count, group)?;
            let sample = Sample {
                objects: count,
                bytes: (count * length) as u64,
                took,
            };
            self.table.add(
                Row {
                    case,
                    what,
                    who: "disk",
                },
                sample,
            );
        }
        Ok(())
    }

    /// All cases of all servers, once: in each case one server after the other, so that a machine that is
    /// slower for a while is so for all of them.
    fn round(
        &mut self,
        kinds: &[Kind],
        only: &[String],
        slices: &Set,
        small: &Set,
        destination: &Destination,
    ) -> Result<(), Box<dyn Error>> {
        // Only the last round's profile is shown.
        self.profile.clear();
        // Servers that hold the slices, for what hands them out.
        let mut filled: Vec<Option<Server>> = kinds.iter().map(|_| None).collect();
        for (case, what) in CASES.iter().enumerate() {
            // Beside the case whose rate is held against it.
            if what.what == STORE_WINDOW && chosen(only, DISK_1) {
                self.disk(slices)?;
            }
            if !chosen(only, what.what) {
                continue;
            }
            let set = if what.small { small } else { slices };
            for (kind, filled) in kinds.iter().zip(&mut filled) {
                if !what.servers.contains(kind) {
                    continue;
                }
                let server = match (what.ask, filled.take()) {
                    (Ask::Get { .. } | Ask::Move, Some(server)) => server,
                    (Ask::Get { .. } | Ask::Move, None) => {
                        let server = Server::start(*kind, &self.room, destination.port)?;
                        clients::run(Client::Dcmtk, Ask::Store(1), &server, set, &self.room)?;
                        server
                    }
                    (Ask::Store(_), _) => Server::start(*kind, &self.room, destination.port)?,
                };
                self.case(case, *kind, &server, set)?;
                if matches!(what.ask, Ask::Get { .. } | Ask::Move) {
                    *filled = Some(server);
                }
            }
        }
        Ok(())
    }

    /// One case of one server.
    fn case(&mut self, case: usize, kind: Kind, server: &Server, set: &Set) -> Result<(), Box<dyn Error>> {
        let what = &CASES[case];
        disk::settle(&self.room)?;
        let before = profile::threads(server.process.id())?;
        let took = clients::run(what.client, what.ask, server, set, &self.room).map_err(|error| {
            format!(
                "{} of {}: {error}\nits log:\n{}",
                what.what,
                kind.name(),
                server.log()
            )
        })?;
        if kind == Kind::Pacs {
            let after = profile::threads(server.process.id())?;
            self.profile
                .push_str(&profile::render(what.what, took, &before, &after));
        }
        let sample = Sample {
            objects: set.instances,
            bytes: set.bytes,
            took,
        };
        let row = Row {
            case: case + 2,
            what: what.what,
            who: kind.name(),
        };
        self.table.add(row, sample);
        Ok(())
    }
}

/// Whether a case is wanted.
fn chosen(only: &[String], what: &str) -> bool {
    only.is_empty() || only.iter().any(|word| what.contains(word.as_str()))
}

/// Builds what stands beside this program, when cargo runs it.
fn build_programs() -> Result<(), Box<dyn Error>> {
    let Some(cargo) = std::env::var_os("CARGO") else {
        return Ok(());
    };
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "-p", "pacs-server", "-p", "dicom-scu"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let status = build.status()?;
    if status.success() {
        Ok(())
    } else {
        Err("pacs-server and dicom-scu could not be built".into())
    }
}

fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}
