//! A worklist server on a folder of files; see its README.
//!
//! Run with
//!
//! ```text
//! cargo run --release -p worklist -- some/folder
//! ```

#![forbid(unsafe_code)]

mod folder;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use dicom_dictionary_std::uids;
use futures::future::BoxFuture;
use pacs_core::workflow::{PerformedSteps, Worklist};
use pacs_core::{AeTitle, Error, Ledger, Result, Uid};
use pacs_net::dimse::{Operation, Reply, Services, serve};
use pacs_net::scp::{create_performed, find_worklist, get_performed, set_performed};
use pacs_net::scu::NATIVE;
use pacs_net::transport::{Acceptor, Connection, accept};
use pacs_net::ul::negotiate::{AcceptPolicy, ContextRule};
use pacs_store::RedbLedger;
use tokio::net::TcpListener;

use folder::Folder;

/// How often the folder is looked at.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(1);

/// A worklist server on a folder of files.
#[derive(Debug, Parser)]
#[command(name = "worklist", version)]
struct Cli {
    /// The folder: .json files in the DICOM JSON Model, .wl files as DCMTK has them
    folder: PathBuf,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:11112")]
    listen: SocketAddr,
    /// What the server is called
    #[arg(long, value_name = "TITLE", default_value = "WORKLIST")]
    ae_title: AeTitle,
    /// The file that keeps what modalities say [default: worklist.redb in the folder]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

/// Answers from the worklist.
struct Desk {
    worklist: Worklist,
    performed: PerformedSteps,
}

impl Services for Desk {
    fn c_find(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(find_worklist(&self.worklist, operation))
    }

    fn n_create(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(create_performed(&self.performed, None, operation))
    }

    fn n_set(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(set_performed(&self.performed, None, operation))
    }

    fn n_get(&self, operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(get_performed(&self.performed, operation))
    }
}

fn policy(ae_title: AeTitle) -> AcceptPolicy {
    let mut policy = AcceptPolicy::new();
    for sop_class in [
        uids::VERIFICATION,
        uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND,
        uids::MODALITY_PERFORMED_PROCEDURE_STEP,
        uids::MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE,
    ] {
        policy = policy.with_context(Uid::constant(sop_class), ContextRule::preferred(NATIVE));
    }
    policy.ae_titles = vec![ae_title];
    policy
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the server ends");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<()> {
    let state = cli.state.unwrap_or_else(|| cli.folder.join("worklist.redb"));
    let ledger: Arc<dyn Ledger> = Arc::new(RedbLedger::open(state)?);
    let worklist = Worklist::new(Arc::clone(&ledger));
    let mut folder = Folder::new(cli.folder);
    folder.read(&worklist).await?;
    folder.tidy(&worklist).await?;

    let no_port = |error| Error::io("server.bind", format!("can't listen on {}", cli.listen), error);
    let listener = TcpListener::bind(cli.listen).await.map_err(no_port)?;
    let address = listener.local_addr().map_err(no_port)?;
    say(&format!(
        "listens on {address} as {}: {} items",
        cli.ae_title,
        folder.items()
    ))?;
    let acceptor = Arc::new(Acceptor::new(policy(cli.ae_title)));
    let desk = Arc::new(Desk {
        worklist: worklist.clone(),
        performed: PerformedSteps::new(ledger),
    });
    let mut look = tokio::time::interval(LOOKED_AT_EVERY);
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            _ = &mut stop => return Ok(()),
            _ = look.tick() => match folder.read(&worklist).await {
                Ok(true) => say(&format!("{} items", folder.items()))?,
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "the folder can't be read"),
            },
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (acceptor, desk) = (Arc::clone(&acceptor), Arc::clone(&desk));
                    tokio::spawn(async move {
                        let served = async {
                            let association = accept(Connection::tcp(stream), &acceptor).await?;
                            serve(association, desk).await
                        };
                        if let Err(error) = served.await {
                            tracing::warn!(%error, "an association ended otherwise than by release");
                        }
                    });
                }
                Err(error) => tracing::error!(%error, "a connection could not be accepted"),
            },
        }
    }
}

fn say(text: &str) -> Result<()> {
    let mut out = io::stdout();
    let said = writeln!(out, "{text}").and_then(|()| out.flush());
    said.map_err(|error| Error::io("server.say", "standard output can't be written", error))
}
