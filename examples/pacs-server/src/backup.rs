//! `backup`, `restore`, and the backup that a running server makes by itself.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use clap::{Args, Subcommand};
use futures::channel::oneshot;
use futures::executor::block_on;
use futures::future::{Either, select};
use indicatif::{ProgressBar, ProgressStyle};
use pacs_core::{InstanceKey, Timestamp};
use pacs_net::web::http::metrics::OwnNumber;
use pacs_store::backup::Increment;
use pacs_store::embedded::{BackupPlace, Store};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{BackupConfig, Config};
use crate::maintain::{NAMED_MAX, named, say};

/// Files of the data directory that the archive can't tell again, beside the ledger: who is let in, the key of links, and which
/// links are none any more.
const FILES: [&str; 3] = ["users", "shares.key", "shares.key.revoked"];
/// The pause after an increment that failed, unless they come more often.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(600);

#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Make an increment; the server must not be running, while it runs the setting `backup` does this
    Now(At),
    /// Say which moments the archive can be restored to
    List(At),
    /// Compare everything in the backup with the checksums made when it was written
    Verify(At),
}

/// Where the backup is.
#[derive(Debug, Args)]
pub(crate) struct At {
    /// Directory of the backup [default: what `[backup]` of the configuration says]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl At {
    fn place(&self, config: &Config) -> Result<BackupPlace, String> {
        match (&self.directory, &config.backup) {
            (Some(directory), _) => Ok(BackupPlace {
                directory: Some(directory.clone()),
                objects: None,
            }),
            (None, Some(backup)) => Ok(backup.place()),
            (None, None) => {
                Err("there is no [backup] in the configuration: say where it is with --directory".to_owned())
            }
        }
    }
}

/// What is restored.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    from: At,
    /// As it was at this moment, or somewhat before [default: the last that the backup has], such as 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<Timestamp>,
}

fn moment(text: &str) -> Result<Timestamp, String> {
    let moment = chrono::DateTime::parse_from_rfc3339(text)
        .map_err(|_| "a moment is written as 2026-01-31T08:00:00Z".to_owned())?;
    let milliseconds = u64::try_from(moment.timestamp_millis());
    milliseconds
        .map(Timestamp)
        .map_err(|_| "that is before 1970".to_owned())
}

/// Answers whether nothing is missing or damaged.
pub(crate) fn run(
    config: &Config,
    command: &BackupCommand,
    store: impl FnOnce() -> Result<Store, String>,
) -> Result<bool, String> {
    match command {
        BackupCommand::Now(at) => {
            let place = at.place(config)?;
            let store = store()?;
            let made = block_on(store.back_up(&place, &FILES)).map_err(|error| error.to_string());
            let closed = store.pacs.close().map_err(|error| error.to_string());
            let increment = made.and_then(|made| closed.map(|()| made))?;
            say(&line(&increment))?;
            say(&unreadable(&increment.unreadable))?;
            Ok(increment.unreadable.is_empty())
        }
        BackupCommand::List(at) => {
            let increments = at
                .place(config)?
                .increments()
                .map_err(|error| error.to_string())?;
            say(&increments.iter().map(line).collect::<String>())?;
            let last = increments.last().map_or(&[][..], |last| &last.unreadable);
            say(&unreadable(last))?;
            Ok(last.is_empty())
        }
        BackupCommand::Verify(at) => {
            let bar = counting("instances looked at")?;
            let verified = at.place(config)?.verify(|done| bar.set_position(done));
            bar.finish_and_clear();
            let verified = verified.map_err(|error| error.to_string())?;
            let mut text = format!(
                "{:>10} instances and versions whole\n{:>10} damaged\n",
                verified.whole, verified.damaged
            );
            text.extend(
                verified
                    .damaged_files
                    .iter()
                    .map(|name| format!("file {name} is damaged\n")),
            );
            text.push_str(&some(&verified.first_damaged, verified.damaged));
            say(&text)?;
            Ok(verified.damaged == 0 && verified.damaged_files.is_empty())
        }
    }
}

/// Answers whether everything is there.
pub(crate) fn restore(config: &Config, wanted: &Restore) -> Result<bool, String> {
    let place = wanted.from.place(config)?;
    let bar = counting("instances restored")?;
    let restored = Store::restore(&config.store(), &place, wanted.at, |done| bar.set_position(done));
    bar.finish_and_clear();
    let (increment, restored) = restored.map_err(|error| error.to_string())?;
    say(&format!(
        "{} is what it was at {}\n{:>10} instances and versions\n{:>10} damaged in the backup\n",
        config.data.display(),
        increment.at.rfc3339(),
        restored.instances,
        restored.damaged
    ))?;
    say(&some(&restored.first_damaged, restored.damaged))?;
    say(&unreadable(&increment.unreadable))?;
    say(
        "The index is made with the first start. It is another archive now: its backup is begun in a new place.\n",
    )?;
    Ok(restored.damaged == 0 && increment.unreadable.is_empty())
}

/// Makes increments until it is told to stop; one at once where SIGUSR1 comes. Blocks.
pub(crate) fn keep_up(
    config: &BackupConfig,
    store: &Store,
    runtime: &tokio::runtime::Handle,
    [last, missing]: &[OwnNumber; 2],
    mut stopped: oneshot::Receiver<()>,
) {
    let every = Duration::from_secs(60 * u64::from(config.every_minutes.get()));
    let place = config.place();
    let asked = {
        let _inside = runtime.enter();
        signal(SignalKind::user_defined1())
    };
    let mut asked = match asked {
        Ok(asked) => asked,
        Err(error) => {
            tracing::error!(%error, "no backup is made: it can't be listened to SIGUSR1");
            return;
        }
    };
    loop {
        // Not on a thread of the runtime: it blocks in places.
        let made = block_on(async {
            match select(pin!(store.back_up(&place, &FILES)), &mut stopped).await {
                Either::Left((made, _)) => Some(made),
                Either::Right(_) => None,
            }
        });
        let pause = match made {
            // What was begun goes on the next time.
            None => return,
            Some(Ok(increment)) => {
                last.set(increment.at.0 / 1000);
                missing.set(increment.unreadable.len() as u64);
                let Increment {
                    number,
                    instances,
                    bytes,
                    removed,
                    ..
                } = increment;
                tracing::info!(
                    number,
                    instances,
                    bytes,
                    removed,
                    "an increment of the backup is made"
                );
                if !increment.unreadable.is_empty() {
                    let count = increment.unreadable.len();
                    tracing::error!(count, "instances can't be read and are not in the backup");
                }
                every
            }
            Some(Err(error)) => {
                tracing::error!(%error, "no increment of the backup could be made");
                every.min(PAUSE_AFTER_FAILURE)
            }
        };
        let is_stopped = runtime.block_on(async {
            tokio::select! {
                _ = &mut stopped => true,
                _ = asked.recv() => false,
                () = tokio::time::sleep(pause) => false,
            }
        });
        if is_stopped {
            return;
        }
    }
}

fn line(increment: &Increment) -> String {
    format!(
        "{:>8}  {}  {:>10} instances  {:>16} bytes  {:>8} removed\n",
        increment.number,
        increment.at.rfc3339(),
        increment.instances,
        increment.bytes,
        increment.removed
    )
}

fn unreadable(keys: &[InstanceKey]) -> String {
    match keys.is_empty() {
        true => String::new(),
        false => {
            let count = keys.len();
            format!(
                "\n{count} instances can't be read in the archive, and are not in the backup:\n{}",
                some(keys, count as u64)
            )
        }
    }
}

fn some(keys: &[InstanceKey], count: u64) -> String {
    let shown = &keys[..keys.len().min(NAMED_MAX)];
    let mut text: String = shown.iter().map(named).collect();
    let more = count - shown.len() as u64;
    if more > 0 {
        text.push_str(&format!("\nand {more} more\n"));
    }
    text
}

fn counting(what: &str) -> Result<ProgressBar, String> {
    let bar = ProgressBar::no_length();
    let style = format!("{{spinner}} {{pos}} {what}, {{per_sec}}");
    bar.set_style(ProgressStyle::with_template(&style).map_err(|error| error.to_string())?);
    Ok(bar)
}
