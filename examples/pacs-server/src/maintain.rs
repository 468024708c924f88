//! `verify`, `rebuild-index`, `stats` and `keys`.

use std::io::{self, Write as _};
use std::path::Path;

use futures::executor::block_on;
use indicatif::{ProgressBar, ProgressStyle};
use pacs_core::audit::Code;
use pacs_core::engine::VerifyOptions;
use pacs_core::{InstanceKey, Pacs};
use pacs_store::embedded::{Rebuilt, Store};
use pacs_store::layers::encrypt::KeyFile;

use crate::config::Config;
use crate::{audit, store};

/// Instances with something wrong that are named.
pub(crate) const NAMED_MAX: usize = 100;

/// Compares every instance with its checksum; answers whether all are whole in each copy, or were made anew.
pub(crate) fn verify(config: &Config, store: &Store, repair: bool) -> Result<bool, String> {
    let explained = |error| store::explained(config, &error);
    let pacs = &store.pacs;
    let mut is_away = false;
    if let Some(replica) = &store.replica {
        // Else a copy that is not made yet would not be looked at.
        let lag = block_on(replica.lag()).map_err(explained)?;
        match lag.is_present {
            true => block_on(replica.caught_up()).map_err(explained)?,
            false => {
                is_away = true;
                say("The replica is away: its copies are not looked at.\n")?;
            }
        }
    }
    let mut options = VerifyOptions::default();
    options.repair = repair;
    let totals = block_on(pacs.totals()).map_err(explained)?;
    let bar = ProgressBar::new(totals.instances);
    let style = "{bar:30} {pos} of {len} instances, {per_sec}, {eta} remaining";
    bar.set_style(ProgressStyle::with_template(style).map_err(|error| error.to_string())?);
    let verified = block_on(pacs.verify_with(options, |done| bar.set_position(done))).map_err(explained)?;
    bar.finish_and_clear();
    let mut text = format!(
        "{:>10} instances whole\n{:>10} earlier versions whole\n",
        verified.whole - verified.whole_earlier,
        verified.whole_earlier,
    );
    if repair {
        text.push_str(&format!(
            "{:>10} made anew from their other copy\n",
            verified.repaired
        ));
    }
    let damaged = crate::scrub::damaged_count(&verified);
    text.push_str(&format!("{damaged:>10} damaged\n"));
    for (key, why) in verified.damaged.iter().take(NAMED_MAX) {
        text.push_str(&format!("{}    {why}\n", named(key)));
    }
    if damaged > NAMED_MAX as u64 {
        text.push_str(&format!("\nand {} more\n", damaged - NAMED_MAX as u64));
    }
    say(&text)?;
    Ok(damaged == 0 && !is_away)
}

/// Makes the index anew; answers whether every instance could be read and none is missing.
pub(crate) fn rebuild_index(config: &Config) -> Result<bool, String> {
    let rebuilt = store::rebuild(config)?;
    let Rebuilt {
        instances,
        unreadable,
        missing,
        ..
    } = rebuilt;
    let mut text = format!("{instances:>10} instances indexed\n{unreadable:>10} can't be read\n");
    if rebuilt.compared {
        text.push_str(&format!("{missing:>10} missing\n"));
    } else {
        let why = match config.database {
            Some(_) => "is not kept in a database while the new one is made",
            None => "could not be read",
        };
        text.push_str(&format!(
            "\nThe old index {why}, so that nothing can be said of what is missing.\n"
        ));
    }
    if let Some(old) = &rebuilt.old_index {
        text.push_str(&format!(
            "\nThe old index knew what is missing, and the archive does not have it any more. Take it from a\n\
             backup, or have it sent again. The old index is kept: {}\n",
            old.display()
        ));
    }
    for key in &rebuilt.first_missing {
        text.push_str(&named(key));
    }
    let rest = missing - rebuilt.first_missing.len() as u64;
    if rest > 0 {
        text.push_str(&format!("\nand {rest} more\n"));
    }
    say(&text)?;
    Ok(unreadable == 0 && missing == 0)
}

/// An instance and where it belongs, in lines of their own.
pub(crate) fn named(key: &InstanceKey) -> String {
    format!(
        "\n{}\n    of series {}\n    of study {}\n",
        key.instance, key.series, key.study
    )
}

/// Says how much is kept.
pub(crate) fn stats(config: &Config, pacs: &Pacs) -> Result<(), String> {
    let totals = block_on(pacs.totals()).map_err(|error| store::explained(config, &error))?;
    say(&format!(
        "{:>16} patients\n{:>16} studies\n{:>16} series\n{:>16} instances\n{:>16} bytes of instances\n\
         \nCounted without earlier versions, which `verify` counts besides.\n",
        totals.patients, totals.studies, totals.series, totals.instances, totals.bytes
    ))
}

/// Makes a key.
pub(crate) fn new_key(config: &Config, path: &Path) -> Result<(), String> {
    let kind = Code::SECURITY_CONFIGURATION;
    let id = audit::alerted(
        config,
        &kind,
        path,
        "there is a new key, which is the current one",
        || KeyFile::new(path).add().map_err(|error| error.to_string()),
    )?;
    say(&format!(
        "{id} is the current key in {}. Keep a copy where the data is not: without it nothing can be read.\n",
        path.display()
    ))
}

pub(crate) fn say(text: &str) -> Result<(), String> {
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| error.to_string())
}
