//! Puts load on the real server and shows what it needs.
//!
//! Run with
//!
//! ```text
//! cargo run --release -p load-bench -- memory   # large instances at once, many associations: peak memory
//! cargo run --release -p load-bench -- scale    # an index of 10 million instances: times at the wire
//! cargo run --release -p load-bench -- routing  # what rules cost, many deliveries that wait, receivers that fail
//! cargo run --release -p load-bench -- attacks  # resource attacks beside honest senders: what these keep of their rate
//! cargo run --release -p load-bench -- encrypted # encryption at rest: sending and fetching beside a server without it
//! cargo run --release -p load-bench -- objects # an archive in SeaweedFS beside an object for each instance
//! cargo run --release -p load-bench -- abi      # the C ABI beside the Rust API, without a server
//! ```
//!
//! Linux only: memory is read from /proc, and `setpriv` of util-linux ends the server with this program.

mod abi;
mod attacks;
mod encrypted;
mod frames;
mod large;
mod made;
mod memory;
mod objects;
mod routing;
mod scale;
mod server;
mod web;

use std::cmp::Ordering;
use std::error::Error;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::{Args, Parser, Subcommand};
use tempfile::TempDir;

/// Puts load on pacs-server and shows what it needs.
///
/// Exit codes: 0 measured, and every target held; 1 failed; 3 a target was missed (with --quick targets
/// are not judged).
#[derive(Parser)]
#[command(name = "load-bench", version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Peak memory: large instances received at once and fetched at once, a larger one over DICOMweb, idle and
    /// active associations
    Memory(memory::Arguments),
    /// Queries at the wire, size and opening of an index as it grows
    Scale(scale::Arguments),
    /// Receiving with rules beside receiving without, deliveries as more of them wait, a receiver beside others that
    /// fail
    Routing(routing::Arguments),
    /// Resource attacks beside four honest senders: what these keep of their rate, peak memory
    Attacks(attacks::Arguments),
    /// Sending to a server that encrypts what it keeps and fetching from it, beside one that doesn't
    Encrypted(Turns),
    /// Keeping instances in SeaweedFS, packed into objects, beside an object for each of them
    Objects(Turns),
    /// Storing, finding and reading through the C ABI beside the Rust API, in this process
    Abi(abi::Arguments),
}

/// What both runs take.
#[derive(Args)]
struct Common {
    /// Tiny sizes: shows that everything runs, measures nothing
    #[arg(long)]
    quick: bool,
    /// Directory on the medium to measure [default: beside this program]
    #[arg(long)]
    room: Option<PathBuf>,
}

/// What those take that compare two sides.
#[derive(Args)]
struct Turns {
    #[command(flatten)]
    common: Common,
    /// Turns, of which the medians are compared
    #[arg(long, default_value_t = 15)]
    turns: u64,
}

impl Common {
    fn room(&self) -> io::Result<TempDir> {
        let beside = std::env::current_exe()?.with_file_name("");
        TempDir::with_prefix_in("load-bench-", self.room.as_ref().unwrap_or(&beside))
    }
}

fn main() -> ExitCode {
    match measure(Arguments::parse().what) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            // When standard error is gone, the exit code still tells.
            let _ = writeln!(io::stderr(), "load-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(what: What) -> Result<bool, Box<dyn Error>> {
    if let What::Abi(arguments) = &what {
        return abi::measure(arguments);
    }
    if let What::Objects(arguments) = &what {
        return objects::measure(arguments);
    }
    build_server()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match what {
        What::Memory(arguments) => runtime.block_on(memory::measure(&arguments)),
        What::Scale(arguments) => runtime.block_on(scale::measure(&arguments)),
        What::Routing(arguments) => runtime.block_on(routing::measure(&arguments)),
        What::Attacks(arguments) => runtime.block_on(attacks::measure(&arguments)),
        What::Encrypted(arguments) => runtime.block_on(encrypted::measure(&arguments)),
        What::Objects(arguments) => objects::measure(&arguments),
        What::Abi(arguments) => abi::measure(&arguments),
    }
}

/// Builds the server beside this program, when cargo runs it.
fn build_server() -> Result<(), Box<dyn Error>> {
    let Some(cargo) = std::env::var_os("CARGO") else {
        return Ok(());
    };
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "-p", "pacs-server"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    match build.status()?.success() {
        true => Ok(()),
        false => Err("pacs-server could not be built".into()),
    }
}

fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

/// The one in the middle; there must be one.
fn median<T: Copy + PartialOrd>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_by(|one, other| one.partial_cmp(other).unwrap_or(Ordering::Equal));
    values[values.len() / 2]
}

/// A number that depends on `of` alone and looks random (splitmix64).
fn scatter(of: u64) -> u64 {
    let mut z = of.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
