//! The data directory of the server: an embedded [`Store`], with journals of unfinished imports in
//! `DATA/imports/`, of unfinished migrations in `DATA/migrations/`. Errors are fit to be shown.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pacs_core::audit::Audit;
use pacs_core::route::Reloadable;
use pacs_core::{Error, ErrorKind, Observer, Options};
use pacs_store::embedded::{Rebuilt, Store};

use crate::config::Config;

/// Opens the data directory, and makes it where there is none.
pub(crate) fn open_or_make(config: &Config, audit: Audit) -> Result<Store, String> {
    let options = Options {
        audit,
        ..Options::default()
    };
    Store::open_or_make(&config.store(), options).map_err(|error| explained(config, &error))
}

/// The same, to serve: what comes is routed.
pub(crate) fn open_to_serve(
    config: &Config,
    observers: Vec<Arc<dyn Observer>>,
    router: Reloadable,
    audit: Audit,
) -> Result<Store, String> {
    let options = Options {
        observers,
        router: Some(Arc::new(router)),
        stable_after: Duration::from_secs(config.stable_after_seconds.into()),
        access: config.control()?,
        audit,
        ..Options::default()
    };
    Store::open_or_make(&config.store(), options).map_err(|error| explained(config, &error))
}

/// Opens the data directory, which must be there.
pub(crate) fn open(config: &Config, audit: Audit) -> Result<Store, String> {
    let options = Options {
        audit,
        ..Options::default()
    };
    Store::open(&config.store(), options).map_err(|error| explained(config, &error))
}

/// Makes the index anew from the archive alone.
pub(crate) fn rebuild(config: &Config) -> Result<Rebuilt, String> {
    Store::rebuild(&config.store()).map_err(|error| error.to_string())
}

/// Where journals of imports are kept.
pub(crate) fn imports(config: &Config) -> PathBuf {
    config.data.join("imports")
}

/// Where journals of migrations are kept.
pub(crate) fn migrations(config: &Config) -> PathBuf {
    config.data.join("migrations")
}

/// The error, with what to do where the index is damaged.
pub(crate) fn explained(config: &Config, error: &Error) -> String {
    let of_index = error.operation().starts_with("index.");
    if of_index && matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) {
        format!(
            "{error}\nthe index holds nothing of its own, this makes it anew from the archive:\n    {}",
            config.command("rebuild-index")
        )
    } else {
        error.to_string()
    }
}
