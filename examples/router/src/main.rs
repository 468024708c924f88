//! A store-and-forward box: takes instances, forwards them by rules, and forgets them; see its README.
//!
//! Run with
//!
//! ```text
//! cargo run --release -p router -- routes.toml --data box
//! ```

#![forbid(unsafe_code)]

mod forget;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use pacs_core::route::Rules;
use pacs_core::{AeTitle, Options, Pacs};
use pacs_net::deliver::{Deliveries, Patience, Routes};
use pacs_net::scp::{Limits, ScpOptions, Server};
use pacs_net::tls::Connector;
use pacs_store::embedded::{Settings, Store};
use tokio::sync::watch;

/// A store-and-forward box.
#[derive(Debug, Parser)]
#[command(name = "router", version)]
struct Cli {
    /// The file that says where things go
    routes: PathBuf,
    /// Where instances are kept until they are delivered
    #[arg(long, value_name = "DIRECTORY", default_value = "router-data")]
    data: PathBuf,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:11112")]
    listen: SocketAddr,
    /// What the box is called
    #[arg(long, value_name = "TITLE", default_value = "ROUTER")]
    ae_title: AeTitle,
    /// How long a study is kept after the last of it came; longer where something of it is to be delivered still
    #[arg(long, value_name = "SECONDS", default_value_t = 86400)]
    keep: u64,
    /// How long nothing must have come to a study before rules are told that it is stable
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    stable_after: u64,
}

/// What is old is looked for this often, or as often as `--keep` says.
const LOOKED_FOR_EVERY: Duration = Duration::from_secs(60);

/// How long associations may go on after a signal to stop.
const GRACE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "the box ends");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), String> {
    let name = cli.routes.display();
    let text = std::fs::read_to_string(&cli.routes).map_err(|error| format!("{name}: {error}"))?;
    let routes: Routes = toml::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
    let routes = routes
        .among(&[], &[])
        .map_err(|error| format!("{name}: {error}"))?;
    let rules = Rules::new(routes.rules().into()).map_err(|error| format!("{name}: {error}"))?;
    let options = Options {
        router: Some(Arc::new(rules)),
        stable_after: Duration::from_secs(cli.stable_after),
        ..Options::default()
    };
    let settings = Settings {
        data: cli.data.clone(),
        ..Settings::default()
    };
    let store = Store::open_or_make(&settings, options).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let served = runtime.block_on(serve(cli, &store.pacs, &routes));
    served.and(store.pacs.close().map_err(|error| error.to_string()))
}

/// Receives, forwards and forgets until a signal says stop.
async fn serve(cli: &Cli, pacs: &Pacs, routes: &Routes) -> Result<(), String> {
    let failed = |error: pacs_core::Error| error.to_string();
    let keep = Duration::from_secs(cli.keep);
    let services = routes.services(pacs, cli.ae_title, &Connector::default())?;
    let names: Vec<Arc<str>> = services.iter().map(|service| Arc::clone(&service.name)).collect();
    let patience = Patience {
        // By what is remembered it is known what may go.
        remembered: keep.saturating_add(Patience::default().remembered),
        ..Patience::default()
    };
    let deliveries = Deliveries::new(pacs, services, patience).map_err(failed)?;
    let options = ScpOptions::new(cli.ae_title);
    let server = Server::bind(cli.listen, pacs.clone(), options, Limits::default());
    let server = server.await.map_err(failed)?;
    let address = server.address().map_err(failed)?;
    let mut out = io::stdout();
    let said = writeln!(out, "listens on {address} as {}", cli.ae_title).and_then(|()| out.flush());
    said.map_err(|error| format!("standard output can't be written: {error}"))?;

    let (stop, stopped) = watch::channel(());
    let until = |mut stopped: watch::Receiver<()>| async move { drop(stopped.changed().await) };
    let receiving = server.run(until(stopped.clone()), GRACE);
    let delivering = deliveries.run(until(stopped.clone()));
    let forgetting = async {
        let every = keep.clamp(Duration::from_secs(1), LOOKED_FOR_EVERY);
        loop {
            // First of all a while passes, in which the engine catches up with what it was not asked about.
            tokio::time::sleep(every).await;
            match forget::forget(pacs, &names, keep).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "instances that were delivered are forgotten"),
                Err(error) => tracing::error!(%error, "what was delivered could not be forgotten"),
            }
        }
    };
    let signal = async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            interrupted = tokio::signal::ctrl_c() => interrupted,
        }
    };
    let serving = async { tokio::join!(receiving, delivering) };
    tokio::pin!(serving, signal);
    tokio::select! {
        _ = &mut serving => return Ok(()),
        () = forgetting => return Ok(()),
        signal = &mut signal => signal.map_err(|error: io::Error| error.to_string())?,
    }
    drop(stop);
    serving.await;
    Ok(())
}
