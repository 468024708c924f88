//! A DICOM client: echo, store, commit, find, move and get, worklists and procedure steps.
//!
//! Run with
//!
//! ```text
//! cargo run --release -p dicom-scu -- echo 127.0.0.1:11112
//! cargo run --release -p dicom-scu -- store 127.0.0.1:11112 some/directory
//! cargo run --release -p dicom-scu -- find 127.0.0.1:11112 -k PatientName=DOE* -k StudyDate
//! cargo run --release -p dicom-scu -- worklist 127.0.0.1:11112 -k ScheduledProcedureStepSequence.Modality=CT
//! ```

#![forbid(unsafe_code)]

mod answer;
mod cli;
mod commit;
mod keys;
mod peer;
mod retrieve;
mod steps;
mod store;
mod ups;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use dicom_dictionary_std::uids;
use pacs_core::{Error, ErrorKind, Result, Uid};
use pacs_net::dimse::NoServices;
use pacs_net::scu::NATIVE;

use cli::{Cli, Command, Peer};
use store::Manner;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.to_string()),
    };
    match runtime.block_on(run(command)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => complain(&error.to_string()),
    }
}

/// Answers whether the peer did all of it without a warning.
async fn run(command: Command) -> Result<bool> {
    match command {
        Command::Echo { peer } => echo(&peer).await,
        Command::Store {
            peer,
            associations,
            async_window,
            paths,
        } => {
            store::store(
                Arc::new(peer),
                &paths,
                Manner {
                    associations,
                    async_window,
                },
            )
            .await
        }
        Command::Commit { peer, wanted } => commit::commit(&peer, wanted).await,
        Command::Find {
            peer,
            query,
            json,
            cancel_after,
        } => retrieve::find(&peer, &query, json, cancel_after).await,
        Command::Move {
            peer,
            query,
            destination,
        } => retrieve::r#move(&peer, &query, &destination).await,
        Command::Get {
            peer,
            query,
            output,
            discard,
        } => retrieve::get(&peer, &query, (!discard).then_some(output)).await,
        Command::Worklist {
            peer,
            keys,
            json,
            cancel_after,
        } => steps::worklist(&peer, &keys, json, cancel_after).await,
        Command::Mpps { command } => steps::mpps(&command).await,
        Command::Ups(command) => ups::run(command).await,
    }
}

async fn echo(peer: &Peer) -> Result<bool> {
    let verification = Uid::constant(uids::VERIFICATION);
    let proposal = peer.proposal().with_context(verification, &NATIVE);
    let client = peer.call(&proposal, Arc::new(NoServices)).await?;
    let status = client.echo().await?;
    client.release().await?;
    say(&format!("{} at {} answers {status}\n", peer.called, peer.address))?;
    Ok(status.is_done())
}

fn say(text: &str) -> Result<()> {
    io::stdout().write_all(text.as_bytes()).map_err(|error| {
        Error::new(ErrorKind::Io, "answer.print", "standard output can't be written").with_source(error)
    })
}

/// Says what went wrong, on standard error.
fn complain(error: &str) -> ExitCode {
    warn(error);
    ExitCode::FAILURE
}

fn warn(text: &str) {
    // When standard error is gone, the exit code still tells.
    let _ = writeln!(io::stderr(), "dicom-scu: {text}");
}
