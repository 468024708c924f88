//! What encryption at rest costs whoever sends and fetches: two servers, one of which encrypts, turn by turn in one run.
//!
//! Instances are sent by C-STORE, fetched by C-GET after the system was told to forget the files, and fetched once more
//! from its memory.

use std::error::Error as StdError;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use pacs_core::{Error, ErrorKind, Result};
use rustix::fs::{Advice, fadvise};
use tempfile::TempDir;

use crate::large::{Large, Noise};
use crate::memory::{fetch, send};
use crate::server::Server;
use crate::{Common, Turns, median, say};

/// Of the rate of the plain one, at least.
const TARGET: f64 = 0.85;
/// Pixel data of an instance in bytes, and how many there are in a turn.
const SIZES: [(u64, u64); 2] = [(512 << 10, 96), (20 << 20, 8)];
const ASSOCIATIONS: [usize; 2] = [1, 4];
const WHAT: [&str; 3] = ["sent", "fetched from disk", "fetched"];

struct Side {
    room: TempDir,
    server: Server,
    times: [Vec<Duration>; 3],
}

impl Side {
    async fn start(common: &Common, encrypted: bool) -> std::result::Result<Self, Box<dyn StdError>> {
        let room = common.room()?;
        let mut configuration = String::new();
        if encrypted {
            let file = room.path().join("keys");
            pacs_store::layers::encrypt::KeyFile::new(&file).add()?;
            configuration = format!("[encryption]\nkey-file = {file:?}\n");
        }
        let (server, _) = Server::start_with(&room.path().join("data"), &configuration, "").await?;
        Ok(Self {
            room,
            server,
            times: Default::default(),
        })
    }

    /// Sends these, so many at a time, and fetches them twice.
    async fn turn(&mut self, instances: &[Large], at_once: usize) -> Result<()> {
        let each = instances.len().div_ceil(at_once);
        let parts = || instances.chunks(each).map(<[Large]>::to_vec);
        for what in 0..WHAT.len() {
            if what == 1 {
                forget(self.room.path())
                    .map_err(|error| Error::io("encrypted", "the system did not forget the files", error))?;
            }
            let begin = Instant::now();
            let tasks = parts().map(|part| {
                let remote = self.server.remote();
                tokio::spawn(async move {
                    match what {
                        0 => send(remote, part).await,
                        _ => fetch(remote, part).await,
                    }
                })
            });
            for ended in try_join_all(tasks).await.map_err(|_| panicked())? {
                ended?;
            }
            self.times[what].push(begin.elapsed());
        }
        Ok(())
    }
}

fn panicked() -> Error {
    Error::new(ErrorKind::Internal, "encrypted", "a task panicked")
}

/// Has the system give up what it holds of these files in memory.
fn forget(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            forget(&entry.path())?;
        } else {
            let file = std::fs::File::open(entry.path())?;
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

pub(crate) async fn measure(arguments: &Turns) -> std::result::Result<bool, Box<dyn StdError>> {
    let quick = arguments.common.quick;
    let turns = if quick { 1 } else { arguments.turns };
    let noise = Noise::new();
    let mut number = 0;
    let mut held = true;
    say(&format!(
        "{:>10} {:>13}   {:<18} {:>12} {:>14} {:>6}",
        "", "associations", "", "plain", "encrypted", "ratio"
    ))?;
    for (length, instances) in SIZES {
        let instances = if quick { 2 } else { instances };
        for at_once in ASSOCIATIONS {
            let mut sides = [
                Side::start(&arguments.common, false).await?,
                Side::start(&arguments.common, true).await?,
            ];
            for turn in 0..turns {
                let made: Vec<Large> = (number..number + instances)
                    .map(|number| Large::new(number, length, &noise))
                    .collect();
                number += instances;
                // Who begins is another one each time.
                for at in if turn % 2 == 0 { [0, 1] } else { [1, 0] } {
                    sides[at].turn(&made, at_once).await?;
                }
            }
            let [plain, encrypted] = sides;
            for (what, name) in WHAT.iter().enumerate() {
                let (plain, encrypted) = (&plain.times[what], &encrypted.times[what]);
                // Turn by turn, since what else the machine does comes and goes.
                let ratios = plain.iter().zip(encrypted);
                let ratio =
                    median(ratios.map(|(plain, encrypted)| plain.as_secs_f64() / encrypted.as_secs_f64()));
                let rate =
                    |times: &[Duration]| instances as f64 / median(times.iter().map(Duration::as_secs_f64));
                let missed = !quick && ratio < TARGET;
                held &= !missed;
                say(&format!(
                    "{:>6} KiB {at_once:>13}   {name:<18} {:>10.0}/s {:>12.0}/s {ratio:>6.2}{}",
                    length >> 10,
                    rate(plain),
                    rate(encrypted),
                    if missed { "  missed" } else { "" }
                ))?;
            }
            plain.server.stop()?;
            encrypted.server.stop()?;
        }
    }
    Ok(held)
}
