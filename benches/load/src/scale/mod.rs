//! An index as it grows: queries over TCP on one open association, one after the other; the size of what
//! is kept; how long a start takes after a clean stop and after a kill in the middle of receiving.
//!
//! Each size has a data directory of its own that the server itself has made. It is filled through the engine,
//! with made-up instances that have a header and no pixel data: in the index they take the room that real ones
//! take. The sizes are asked in turns, each by its own server, so that whatever else the machine does meanwhile
//! does not look like growth.

mod ask;
mod fill;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pacs_store::embedded::Database;

use crate::server::Server;
use crate::{Common, say};
use ask::{Kind, Times};
use fill::Filled;

/// p99 of a query by a selective key.
const SELECTIVE_MAX: Duration = Duration::from_millis(5);
/// p99 of a query for a part of a name.
const PART_MAX: Duration = Duration::from_millis(100);
/// The p99 at the largest size, times that at the smallest.
const GROWTH_MAX: f64 = 1.3;
const OPEN_AFTER_STOP_MAX: Duration = Duration::from_secs(1);
const OPEN_AFTER_KILL_MAX: Duration = Duration::from_secs(5);
/// The rate of the last million, times that of the first.
const LAST_MILLION_MIN: f64 = 0.8;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Instances at which is measured, ascending
    #[arg(long, value_delimiter = ',', default_values_t = [100_000, 10_000_000])]
    sizes: Vec<u64>,
    /// Queries of each kind at each size
    #[arg(long, default_value_t = 4000)]
    queries: u64,
    /// Instances acknowledged before the kill
    #[arg(long, default_value_t = 50_000)]
    before_kill: u64,
    /// Memory for the index's pages [default: the server's]
    #[arg(long)]
    cache_mebibytes: Option<u32>,
    /// A PostgreSQL, as a URL, that keeps index and ledger, each size in a schema of its own
    #[arg(long)]
    database: Option<String>,
    /// Fill and keep directories in this one instead of temporary ones; what they hold is not filled again
    #[arg(long)]
    data: Option<PathBuf>,
}

/// Where the index of a size is, and how it is used.
#[derive(Clone, Copy)]
struct Place<'a> {
    cache_mebibytes: Option<u32>,
    database: Option<&'a str>,
}

impl Place<'_> {
    fn of(self, size: u64) -> Option<Database> {
        self.database.map(|url| {
            let mut database = Database::at(url);
            database.schema = format!("scale_{size}");
            database
        })
    }

    /// Starts the server on it.
    async fn start(self, data: &Path, size: u64) -> io::Result<(Server, Duration)> {
        let mut lines = String::new();
        if let Some(most) = self.cache_mebibytes {
            lines += &format!("index-cache-mebibytes = {most}\n");
        }
        if let Some(Database { url, schema, .. }) = self.of(size) {
            lines += &format!("[database]\nurl = {url:?}\nschema = {schema:?}\n");
        }
        Server::start_with(data, &lines, "").await
    }
}

/// What was measured of one size.
struct Measured {
    instances: u64,
    data: PathBuf,
    first_and_last: Option<(f64, f64)>,
    after_stop: Duration,
    after_kill: Duration,
    times: BTreeMap<Kind, Times>,
}

pub(crate) async fn measure(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let quick = arguments.common.quick;
    let (sizes, asked) = match quick {
        true => (vec![1_600, 8_000], (20, 200)),
        false => (
            arguments.sizes.clone(),
            (arguments.queries, arguments.before_kill),
        ),
    };
    let room = arguments.common.room()?;
    let data = arguments.data.clone().unwrap_or_else(|| room.path().join("data"));
    let place = Place {
        cache_mebibytes: arguments.cache_mebibytes,
        database: arguments.database.as_deref(),
    };
    let mut measured = Vec::new();
    for size in sizes {
        measured.push(at(data.join(size.to_string()), size, asked.1, place).await?);
    }
    ask_all(&mut measured, asked.0, place).await?;
    say(&table(&measured))?;
    let missed = missed(&measured);
    for line in missed.iter().filter(|_| !quick) {
        say(&format!("missed: {line}"))?;
    }
    Ok(quick || missed.is_empty())
}

/// Asks a server of each size, in turns.
async fn ask_all(measured: &mut [Measured], queries: u64, place: Place<'_>) -> Result<(), Box<dyn Error>> {
    let mut servers = Vec::new();
    for at in measured.iter() {
        servers.push(place.start(&at.data, at.instances).await?.0);
    }
    let studies = |at: &Measured| at.instances / crate::made::INSTANCES_PER_STUDY;
    let asked: Vec<_> = servers
        .iter()
        .map(Server::remote)
        .zip(measured.iter().map(studies))
        .collect();
    let times = ask::all(&asked, queries).await?;
    for ((at, times), server) in measured.iter_mut().zip(times).zip(servers) {
        at.times = times;
        say(&format!(
            "{} instances: memory while queried {} MiB",
            at.instances,
            server.peak_memory()? >> 20
        ))?;
        server.stop()?;
    }
    Ok(())
}

/// Fills a directory up to a size, and starts a server there after a stop and after a kill.
async fn at(
    data: PathBuf,
    size: u64,
    before_kill: u64,
    place: Place<'_>,
) -> Result<Measured, Box<dyn Error>> {
    // The server lays out the directory, so that it finds what it expects.
    fs::create_dir_all(&data)?;
    place.start(&data, size).await?.0.stop()?;
    let begin = Instant::now();
    let Filled {
        lacked,
        holds,
        first_and_last,
    } = fill::up_to(&data, size, place.of(size)).await?;
    let took = begin.elapsed();
    say(&format!(
        "{size} instances: {lacked} of them filled in within {took:.1?}, {:.0} a second",
        lacked as f64 / took.as_secs_f64()
    ))?;
    if let Some((first, last)) = first_and_last {
        say(&format!(
            "    the first million of them at {first:.0} a second, the last at {last:.0}: {:.2}",
            last / first
        ))?;
    }
    let mut on_disk = vec![("archive", "archive")];
    if place.database.is_none() {
        on_disk.push(("index", "index.redb"));
    }
    for (what, name) in on_disk {
        let length = length(&data.join(name))?;
        say(&format!(
            "    on disk: {what} {} MiB, {} B an instance",
            length >> 20,
            length / holds
        ))?;
    }

    let (server, first) = place.start(&data, size).await?;
    let stop = server.stop()?;
    let (server, after_stop) = place.start(&data, size).await?;
    say(&format!(
        "    start after filling {first:.2?}; clean stop {stop:.2?}; start after it {after_stop:.2?}"
    ))?;
    // Numbers far beyond what is filled in: the next size does not meet them, and none came before.
    let from = 100_000_000 + 10 * size + holds;
    let acknowledged = fill::over_the_wire(&server.remote(), from, before_kill).await?;
    server.kill()?;
    let (server, after_kill) = place.start(&data, size).await?;
    ask::are_there(&server.remote(), &acknowledged).await?;
    say(&format!(
        "    kill -9 while receiving, after {} acknowledgements; start after it {after_kill:.2?}; all are there",
        acknowledged.len()
    ))?;
    server.stop()?;
    Ok(Measured {
        instances: size,
        data,
        first_and_last,
        after_stop,
        after_kill,
        times: BTreeMap::new(),
    })
}

/// What a file, or a directory with all below it, takes on the disk.
fn length(path: &Path) -> io::Result<u64> {
    let itself = fs::metadata(path)?;
    if !itself.is_dir() {
        return Ok(itself.blocks() * 512);
    }
    fs::read_dir(path)?.map(|entry| length(&entry?.path())).sum()
}

fn table(measured: &[Measured]) -> String {
    let mut out = format!("\n{:<28}", "C-FIND at the wire");
    for at in measured {
        out += &format!("  {:>42}", format!("{} instances", at.instances));
    }
    out += &format!("\n{:<28}", "");
    for _ in measured {
        out += &format!("  {:>9} {:>9} {:>9} {:>12}", "p50", "p99", "cold p99", "answers");
    }
    out += if measured.len() > 1 { "    p99 grows" } else { "" };
    for kind in Kind::ALL {
        out += &format!("\n{:<28}", kind.name());
        for at in measured {
            let times = &at.times[&kind];
            let cell = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
            out += &format!(
                "  {:>9} {:>9} {:>9} {:>12.1}",
                cell(times.p50),
                cell(times.p99),
                cell(times.cold_p99),
                times.answers
            );
        }
        if measured.len() > 1 {
            out += &format!("    {:.2}", growth(measured, kind));
        }
    }
    out + "\n"
}

fn growth(measured: &[Measured], kind: Kind) -> f64 {
    let p99 = |at: Option<&Measured>| at.map_or(0.0, |at| at.times[&kind].p99.as_secs_f64());
    p99(measured.last()) / p99(measured.first())
}

/// The targets that don't hold.
fn missed(measured: &[Measured]) -> Vec<String> {
    let mut missed = Vec::new();
    for at in measured {
        let size = at.instances;
        if let Some((first, last)) = at.first_and_last
            && last / first < LAST_MILLION_MIN
        {
            missed.push(format!(
                "the last million to {size}: {:.2} of the first's rate, not {LAST_MILLION_MIN}",
                last / first
            ));
        }
        for (kind, times) in &at.times {
            let most = match kind {
                Kind::NamePart => PART_MAX,
                _ => SELECTIVE_MAX,
            };
            if times.p99 > most {
                missed.push(format!(
                    "{} at {size}: p99 {:.2?}, not {most:?}",
                    kind.name(),
                    times.p99
                ));
            }
        }
        if at.after_stop > OPEN_AFTER_STOP_MAX {
            missed.push(format!(
                "start after a clean stop at {size}: {:.2?}",
                at.after_stop
            ));
        }
        if at.after_kill > OPEN_AFTER_KILL_MAX {
            missed.push(format!("start after a kill at {size}: {:.2?}", at.after_kill));
        }
    }
    for kind in Kind::ALL.into_iter().filter(|kind| kind.may_not_grow()) {
        let growth = growth(measured, kind);
        if growth > GROWTH_MAX {
            missed.push(format!(
                "{}: p99 grows {growth:.2} times, not {GROWTH_MAX}",
                kind.name()
            ));
        }
    }
    missed
}
