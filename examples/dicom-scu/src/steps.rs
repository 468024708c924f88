//! `worklist` and `mpps`: what is to be done, and what is done.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use dicom_core::Tag;
use futures::TryStreamExt as _;
use futures::channel::oneshot;
use pacs_core::dataset::json;
use pacs_core::workflow::performed::begun;
use pacs_core::{DataSet, Error, ErrorKind, Result, Uid};
use pacs_net::dimse::{NoServices, Response};
use pacs_net::scu;

use crate::answer;
use crate::cli::{Mpps, Peer};
use crate::keys::Key;
use crate::peer::{expect_done, words};
use crate::retrieve::is_heard;
use crate::say;

/// Asks for the worklist and prints the items, as long as somebody reads them.
pub(crate) async fn worklist(
    peer: &Peer,
    keys: &[Key],
    as_json: bool,
    cancel_after: Option<usize>,
) -> Result<bool> {
    let proposal = scu::worklist_proposal(&peer.remote()?);
    let client = peer.call(&proposal, Arc::new(NoServices)).await?;
    let (cancel, cancelled) = oneshot::channel::<()>();
    let mut cancel = Some(cancel);
    let cancelled = async {
        // Nobody cancels any more: it ends by itself.
        if cancelled.await.is_err() {
            std::future::pending().await
        }
    };
    let mut items = scu::find_worklist_until(&client, &data_set(keys), cancelled).await?;
    let mut answers = 0;
    let mut out = io::stdout().lock();
    loop {
        let set = match items.try_next().await {
            Ok(Some(set)) => set,
            Ok(None) => break,
            Err(error) if error.kind() == ErrorKind::Cancelled => break,
            Err(error) => return Err(error),
        };
        if !is_heard(out.write_all(printed(&set, as_json).as_bytes()))? {
            return Ok(true);
        }
        answers += 1;
        if cancel_after == Some(answers)
            && let Some(cancel) = cancel.take()
        {
            // Whoever no longer listens has come to the end.
            let _ = cancel.send(());
        }
    }
    client.release().await?;
    if !as_json {
        is_heard(writeln!(out, "{answers} item(s)"))?;
    }
    Ok(true)
}

/// Creates, sets or gets a performed procedure step.
pub(crate) async fn mpps(command: &Mpps) -> Result<bool> {
    let peer = command.peer();
    let proposal = scu::performed_proposal(&peer.remote()?);
    let client = peer.call(&proposal, Arc::new(NoServices)).await?;
    let response = match command {
        Mpps::Create {
            instance, item, keys, ..
        } => {
            let item = item.as_deref().map(read_item).transpose()?.unwrap_or_default();
            let mut attributes = begun(&item);
            keys.iter().for_each(|key| key.put_into(&mut attributes));
            let instance = instance.unwrap_or_else(Uid::random);
            let response = scu::create_performed(&client, &instance, &attributes).await?;
            if response.status().is_done() {
                say(&format!("{instance}\n"))?;
            }
            response
        }
        Mpps::Set { instance, keys, .. } => scu::set_performed(&client, instance, &data_set(keys)).await?,
        Mpps::Get {
            instance, keys, json, ..
        } => {
            let tags: Vec<Tag> = data_set(keys).iter().map(|element| element.tag).collect();
            let (response, set) = scu::get_performed(&client, instance, &tags).await?;
            if let Some(set) = set {
                is_heard(io::stdout().write_all(printed(&set, *json).as_bytes()))?;
            }
            response
        }
    };
    client.release().await?;
    done(&response)
}

/// Whether the peer did it without a warning.
fn done(response: &Response) -> Result<bool> {
    expect_done(response)?;
    let without_warning = response.status() == pacs_net::dimse::Status::SUCCESS;
    if !without_warning {
        say(&format!("the peer answered {}\n", words(response)))?;
    }
    Ok(without_warning)
}

fn printed(set: &DataSet, as_json: bool) -> String {
    match as_json {
        true => format!("{}\n", answer::json(set)),
        false => format!("{}\n", answer::text(set)),
    }
}

fn data_set(keys: &[Key]) -> DataSet {
    let mut set = DataSet::new();
    keys.iter().for_each(|key| key.put_into(&mut set));
    set
}

/// The first item of a file of the DICOM JSON Model.
fn read_item(path: &Path) -> Result<DataSet> {
    let unreadable = |error| Error::io("item.read", format!("{} can't be read", path.display()), error);
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let mut items = json::read(&bytes)?;
    if items.is_empty() {
        return Err(Error::new(
            ErrorKind::Invalid,
            "item.read",
            "the file has no item",
        ));
    }
    Ok(items.swap_remove(0).header)
}
