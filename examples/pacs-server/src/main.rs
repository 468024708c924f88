//! A PACS in one binary: receives instances, keeps them, finds them and hands them out.
//!
//! Run with
//!
//! ```text
//! cargo run --release -p pacs-server
//! ```

#![forbid(unsafe_code)]

mod amend;
mod audit;
mod backup;
mod certs;
mod cli;
mod config;
mod conformance;
mod export;
mod import;
mod logging;
mod maintain;
mod migrate;
mod routing;
mod scrub;
mod serve;
mod store;
mod users;
mod web;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;

use pacs_core::audit::Audit;
use pacs_core::route::Reloadable;
use pacs_store::audit::Known;
use pacs_store::embedded::Store;

use cli::{AuditCommand, Command, Keys};
use config::Config;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let print_config = cli.settings.print_config;
    let config = match cli.settings.resolve() {
        Ok(config) => config,
        Err(error) => return complain(2, &error),
    };
    if print_config {
        return match std::io::stdout().write_all(config.render().as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(1, &error.to_string()),
        };
    }
    if let Err(error) = logging::start(&config.log) {
        return complain(2, &error);
    }
    match run(cli.command.unwrap_or(Command::Serve), &config) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => complain(1, &error),
    }
}

/// Answers whether nothing was found wrong or refused.
fn run(command: Command, config: &Config) -> Result<bool, String> {
    match command {
        Command::Serve => {
            let rates = web::Rates::new();
            let routing = routing::Routing::read(config)?;
            let router = Reloadable::new(Arc::new(routing.rules()));
            let observers = vec![Arc::clone(&rates) as _];
            let trail = config.audit()?;
            let opened = store::open_to_serve(config, observers, router.clone(), trail.audit.clone())?;
            with_store(opened, |store| {
                serve::serve(config, store, rates, (routing, router), trail).map(|()| true)
            })
        }
        Command::Import { directory, workers } => {
            let audit = config.audit()?.audit;
            with_store(store::open_or_make(config, audit)?, |store| {
                import::run(&store.pacs, &directory, workers.into(), &store::imports(config))
            })
        }
        Command::Export(wanted) => {
            let by = wanted.deidentifier()?;
            let audit = config.audit()?.audit;
            with_store(store::open(config, audit)?, |store| {
                export::run(config, &store.pacs, &wanted, by.as_ref())
            })
        }
        Command::Migrate(wanted) => {
            let source = wanted.source(config)?;
            // With its rules, so that what is taken over counts as fetched, and isn't new when it is served.
            let rules = Arc::new(routing::Routing::read(config)?.rules());
            let audit = config.audit()?.audit;
            let opened = store::open_to_serve(config, Vec::new(), Reloadable::new(rules), audit)?;
            with_store(opened, |store| migrate::run(config, &store.pacs, &wanted, source))
        }
        Command::Verify { repair } => with_store(store::open(config, Audit::none())?, |store| {
            maintain::verify(config, store, repair)
        }),
        Command::Backup { command } => backup::run(config, &command, || store::open(config, Audit::none())),
        Command::Restore(wanted) => backup::restore(config, &wanted),
        Command::RebuildIndex => maintain::rebuild_index(config),
        Command::Stats => with_store(store::open(config, Audit::none())?, |store| {
            maintain::stats(config, &store.pacs).map(|()| true)
        }),
        Command::Certs {
            directory,
            hosts,
            clients,
        } => certs::make(&directory, &hosts, &clients).map(|()| true),
        Command::Conformance => conformance::write(config).map(|()| true),
        Command::Amend { of, wanted } => {
            let audit = config.audit()?.audit;
            with_store(store::open(config, audit)?, |store| {
                amend::amend(config, &store.pacs, of, wanted)
            })
        }
        Command::Route {
            explain,
            on,
            from_ae,
            fetched,
        } => {
            let asked = routing::Explained {
                file: &explain,
                on,
                from_ae,
                fetched,
            };
            maintain::say(&routing::explain(config, &asked)?).map(|()| true)
        }
        Command::Merge { prior, surviving } => {
            let audit = config.audit()?.audit;
            with_store(store::open(config, audit)?, |store| {
                amend::merge(config, &store.pacs, &prior, &surviving)
            })
        }
        Command::Users { command } => users::run(config, command),
        Command::Share(shared) => users::share(config, shared),
        Command::Audit { command } => match command {
            AuditCommand::Verify { head, after } => audit::verify_log(config, &Known { head, after }),
            AuditCommand::Show { after, count } => audit::show(config, after, count),
        },
        Command::Keys {
            command: Keys::New { file },
        } => maintain::new_key(config, &file).map(|()| true),
    }
}

/// Works on the data directory, and closes it whatever came of the work.
fn with_store<T>(store: Store, work: impl FnOnce(&Store) -> Result<T, String>) -> Result<T, String> {
    let result = work(&store);
    let closed = store.pacs.close().map_err(|error| error.to_string());
    result.and_then(|value| closed.map(|()| value))
}

/// Says what went wrong, on standard error.
fn complain(code: u8, error: &str) -> ExitCode {
    // When standard error is gone, the exit code still tells.
    let _ = writeln!(std::io::stderr(), "pacs-server: {error}");
    ExitCode::from(code)
}
