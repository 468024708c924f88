//! What is asked of a server, each by a client of DCMTK or by this workspace's `dicom-scu`, and timed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::process::{Process, command};
use crate::servers::{DESTINATION, PDU, Server, own};
use crate::set::Set;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// storescu, getscu, movescu.
    Dcmtk,
    /// dicom-scu with an asynchronous operations window of this many.
    Own(u16),
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Store all on this many associations.
    Store(usize),
    /// Get every study, one after the other; into files, or only off the wire.
    Get { write: bool },
    /// Move every study, one after the other, to the destination.
    Move,
}

/// Carries it out; fails unless the client says that everything succeeded. Returns the time from the
/// first client's start to the last one's end.
pub(crate) fn run(client: Client, ask: Ask, server: &Server, set: &Set, room: &Path) -> io::Result<Duration> {
    let scratch = TempDir::with_prefix_in("client-", room)?;
    let begin = Instant::now();
    match ask {
        Ask::Store(associations) => store(client, associations, server, set, scratch.path())?,
        Ask::Get { write } => {
            for study in &set.studies {
                let out = scratch.path().join(&study.uid);
                fs::create_dir(&out)?;
                finish(
                    get(client, server, &study.uid, write.then_some(&out))?,
                    scratch.path(),
                    "",
                )?;
            }
        }
        Ask::Move => {
            for study in &set.studies {
                // movescu ends with 0 also after a warning: its words decide.
                let words = if client == Client::Dcmtk {
                    "Final Move Response (Success)"
                } else {
                    ""
                };
                finish(moving(client, server, &study.uid)?, scratch.path(), words)?;
            }
        }
    }
    let took = begin.elapsed();
    let kept = match ask {
        Ask::Store(_) => server.files()?,
        Ask::Get { write: true } => Some(
            set.studies
                .iter()
                .map(|study| files(&scratch.path().join(&study.uid)))
                .sum::<io::Result<usize>>()?,
        ),
        Ask::Get { write: false } | Ask::Move => None,
    };
    match kept {
        Some(kept) if kept != set.instances => Err(io::Error::other(format!(
            "{kept} instances came, not {}",
            set.instances
        ))),
        _ => Ok(took),
    }
}

fn store(client: Client, associations: usize, server: &Server, set: &Set, scratch: &Path) -> io::Result<()> {
    let directories: Vec<&PathBuf> = set.studies.iter().map(|study| &study.directory).collect();
    match client {
        Client::Dcmtk => {
            // One process for an association, each with its share of the studies.
            let share = directories.len().div_ceil(associations);
            let mut running = Vec::new();
            for (at, directories) in directories.chunks(share).enumerate() {
                let mut storescu = command("storescu");
                storescu.args(["-aec", server.title, "-pdu", PDU, "-R", "+sd", "127.0.0.1"]);
                storescu.arg(server.port.to_string()).args(directories);
                let log = scratch.join(format!("log-{at}"));
                running.push((Process::start("storescu", storescu, &log)?, log));
            }
            for (process, log) in running {
                succeed(process, &log, "")?;
            }
            Ok(())
        }
        Client::Own(window) => {
            let mut scu = command(own("dicom-scu")?);
            scu.args(["store", "--called", server.title, "--associations"])
                .arg(associations.to_string());
            scu.arg("--async-window").arg(window.to_string());
            scu.arg(format!("127.0.0.1:{}", server.port)).args(directories);
            finish(scu, scratch, "")
        }
    }
}

fn get(client: Client, server: &Server, study: &str, out: Option<&Path>) -> io::Result<Command> {
    Ok(match client {
        Client::Dcmtk => {
            let mut getscu = command("getscu");
            getscu.args([
                "-S",
                "-aec",
                server.title,
                "-pdu",
                PDU,
                "-k",
                "QueryRetrieveLevel=STUDY",
                "-k",
            ]);
            getscu.arg(format!("StudyInstanceUID={study}"));
            match out {
                Some(out) => getscu.arg("-od").arg(out),
                None => getscu.arg("--ignore"),
            };
            getscu.arg("127.0.0.1").arg(server.port.to_string());
            getscu
        }
        Client::Own(_) => {
            let mut scu = command(own("dicom-scu")?);
            scu.args(["get", "--called", server.title, "--level", "study", "-k"]);
            scu.arg(format!("StudyInstanceUID={study}"));
            match out {
                Some(out) => scu.arg("--output").arg(out),
                None => scu.arg("--discard"),
            };
            scu.arg(format!("127.0.0.1:{}", server.port));
            scu
        }
    })
}

fn moving(client: Client, server: &Server, study: &str) -> io::Result<Command> {
    Ok(match client {
        Client::Dcmtk => {
            let mut movescu = command("movescu");
            movescu.args(["-v", "-S", "-aec", server.title, "-aem", DESTINATION]);
            movescu
                .args(["-k", "QueryRetrieveLevel=STUDY", "-k"])
                .arg(format!("StudyInstanceUID={study}"));
            movescu.arg("127.0.0.1").arg(server.port.to_string());
            movescu
        }
        Client::Own(_) => {
            let mut scu = command(own("dicom-scu")?);
            scu.args([
                "move",
                "--called",
                server.title,
                "--destination",
                DESTINATION,
                "--level",
                "study",
                "-k",
            ]);
            scu.arg(format!("StudyInstanceUID={study}"))
                .arg(format!("127.0.0.1:{}", server.port));
            scu
        }
    })
}

fn finish(command: Command, scratch: &Path, words: &str) -> io::Result<()> {
    let log = scratch.join("log");
    let process = Process::start("client", command, &log)?;
    succeed(process, &log, words)
}

fn succeed(process: Process, log: &Path, words: &str) -> io::Result<()> {
    let status = process.wait()?;
    let said = fs::read_to_string(log).unwrap_or_default();
    if status.success() && said.contains(words) {
        return Ok(());
    }
    let tail: Vec<&str> = said.lines().rev().take(5).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    Err(io::Error::other(format!(
        "the client ended with {status}:\n{}",
        tail.join("\n")
    )))
}

fn files(directory: &Path) -> io::Result<usize> {
    Ok(fs::read_dir(directory)?
        .filter_map(Result::ok)
        .filter(|entry| entry.path().is_file())
        .count())
}
