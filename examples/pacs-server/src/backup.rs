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
use tokio::signal::unix::Signal;

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
    // A second without parts means all of it: the list shows milliseconds.
    let rest = if text.contains('.') { 0 } else { 999 };
    let milliseconds = u64::try_from(moment.timestamp_millis() + rest);
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
            say(&unreadable(&increment))?;
            Ok(increment.unreadable == 0)
        }
        BackupCommand::List(at) => {
            let increments = at
                .place(config)?
                .increments()
                .map_err(|error| error.to_string())?;
            say(&increments.iter().map(line).collect::<String>())?;
            let Some(last) = increments.last() else {
                say("The backup is begun, and has no increment.\n")?;
                return Ok(true);
            };
            let missing = last.number - increments.len() as u64;
            if missing > 0 {
                say(&format!(
                    "\nRecords of {missing} more are damaged; what they brought is in those that follow.\n"
                ))?;
            }
            say(&unreadable(last))?;
            Ok(last.unreadable == 0 && missing == 0)
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
            text.push_str(&lost(verified.lost_records));
            say(&text)?;
            let is_whole = verified.damaged == 0 && verified.lost_records == 0;
            Ok(is_whole && verified.damaged_files.is_empty())
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
    for name in &restored.damaged_files {
        say(&format!(
            "file {name} is damaged in the backup and was left out\n"
        ))?;
    }
    say(&some(&restored.first_damaged, restored.damaged))?;
    say(&lost(restored.lost_records))?;
    say(&unreadable(&increment))?;
    say(
        "The index is made with the first start. It is another archive now: its backup is begun in a new place.\n",
    )?;
    let is_whole = restored.damaged == 0 && restored.lost_records == 0 && restored.damaged_files.is_empty();
    Ok(is_whole && increment.unreadable == 0)
}

/// Makes increments until it is told to stop, and one at once where it is `asked` for. Blocks.
pub(crate) fn keep_up(
    config: &BackupConfig,
    store: &Store,
    runtime: &tokio::runtime::Handle,
    [last, missing]: &[OwnNumber; 2],
    (mut asked, mut stopped): (Signal, oneshot::Receiver<()>),
) {
    let every = Duration::from_secs(60 * u64::from(config.every_minutes.get()));
    let place = config.place();
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
                missing.set(increment.unreadable);
                let Increment {
                    number,
                    instances,
                    bytes,
                    removed,
                    unreadable,
                    ..
                } = increment;
                tracing::info!(
                    number,
                    instances,
                    bytes,
                    removed,
                    "an increment of the backup is made"
                );
                if unreadable > 0 {
                    tracing::error!(unreadable, "instances can't be read and are not in the backup");
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

fn unreadable(increment: &Increment) -> String {
    match increment.unreadable {
        0 => String::new(),
        count => format!(
            "\n{count} instances can't be read in the archive, and are not in the backup:\n{}",
            some(&increment.first_unreadable, count)
        ),
    }
}

fn lost(records: u64) -> String {
    match records {
        0 => String::new(),
        count => format!(
            "\n{count} records of what the backup has are lost, each of up to a thousand instances and removals\n"
        ),
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
