//! `ups`: unified procedure steps.

use std::net::SocketAddr;
use std::sync::Arc;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::{FutureExt as _, TryStreamExt as _};
use pacs_core::workflow::ups::{GLOBAL_SUBSCRIPTION, State, Subscription};
use pacs_core::{AeTitle, DataSet, Error, ErrorKind, Result, Uid};
use pacs_net::dimse::{Client, NoServices, serve};
use pacs_net::scu::ups::{self, Answer};
use pacs_net::transport::{Acceptor, Connection, accept};
use pacs_net::ul::negotiate::AcceptPolicy;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::cli::{Keys, Peer, StateName, Ups};
use crate::{answer, say};

/// Answers whether the peer did it without a warning.
pub(crate) async fn run(command: Ups) -> Result<bool> {
    let (client, answered) = match command {
        Ups::Listen { address, count } => return listen(address, count).await,
        Ups::Find { peer, keys, json } => return find(&peer, &keys, json).await,
        Ups::Get { peer, step, json } => {
            let client = call(&peer).await?;
            let got = ups::get(&client, &step, &[]).await?;
            if let Some(set) = &got.attributes {
                show(set, json)?;
            }
            (client, got)
        }
        Ups::Create { peer, keys, uid } => {
            let client = call(&peer).await?;
            let created = ups::create(&client, uid.as_ref(), &keys.set()).await?;
            if let Some(uid) = created.sop_instance.filter(|_| created.status.is_done()) {
                say(&format!("{uid}\n"))?;
            }
            (client, created)
        }
        Ups::Set {
            peer,
            step,
            keys,
            transaction,
        } => {
            let client = call(&peer).await?;
            let set = ups::set(&client, &step, transaction.as_ref(), &keys.set()).await?;
            (client, set)
        }
        Ups::State {
            peer,
            step,
            state,
            transaction,
        } => change_state(&peer, &step, state, transaction).await?,
        Ups::Cancel { peer, step, reason } => {
            let client = call(&peer).await?;
            let mut information = DataSet::new();
            if let Some(reason) = reason {
                information.put_text(tags::REASON_FOR_CANCELLATION, VR::LT, reason);
            }
            let asked = ups::request_cancel(&client, &step, &information).await?;
            (client, asked)
        }
        Ups::Subscribe {
            peer,
            keys,
            step,
            receiver,
            lock,
        } => {
            let client = call(&peer).await?;
            let filter = keys.set();
            let to = match step {
                Some(step) => Subscription::Step(step),
                None if filter.is_empty() => Subscription::Global,
                None => Subscription::Filtered(filter),
            };
            let receiver = receiver.unwrap_or(peer.calling);
            let subscribed = ups::subscribe(&client, &receiver, &to, lock).await?;
            (client, subscribed)
        }
        Ups::Unsubscribe {
            peer,
            step,
            receiver,
            suspend,
        } => {
            let client = call(&peer).await?;
            let ended = unsubscribe(&client, &receiver.unwrap_or(peer.calling), step, suspend).await?;
            (client, ended)
        }
    };
    client.release().await?;
    done(&answered)
}

async fn call(peer: &Peer) -> Result<Client> {
    peer.call(&ups::asking(peer.proposal()), Arc::new(NoServices))
        .await
}

/// Who claims a step needs its Transaction UID later, so it is printed.
async fn change_state(
    peer: &Peer,
    step: &Uid,
    state: StateName,
    transaction: Option<Uid>,
) -> Result<(Client, Answer)> {
    let (state, transaction) = match (state, transaction) {
        (StateName::InProgress, transaction) => {
            (State::InProgress, transaction.unwrap_or_else(Uid::generate))
        }
        (StateName::Completed, Some(transaction)) => (State::Completed, transaction),
        (StateName::Canceled, Some(transaction)) => (State::Canceled, transaction),
        (_, None) => {
            let why = "the Transaction UID is needed that the step was claimed with";
            return Err(Error::new(ErrorKind::Invalid, "ups.state", why));
        }
    };
    let client = call(peer).await?;
    let changed = ups::change_state(&client, step, state, &transaction).await?;
    if state == State::InProgress && changed.status.is_done() {
        say(&format!("{transaction}\n"))?;
    }
    Ok((client, changed))
}

async fn unsubscribe(
    client: &Client,
    receiver: &AeTitle,
    step: Option<Uid>,
    suspend: bool,
) -> Result<Answer> {
    match suspend {
        true => ups::suspend(client, receiver, &GLOBAL_SUBSCRIPTION).await,
        false => ups::unsubscribe(client, receiver, &step.unwrap_or(GLOBAL_SUBSCRIPTION)).await,
    }
}

async fn find(peer: &Peer, keys: &Keys, json: bool) -> Result<bool> {
    let client = call(peer).await?;
    let mut found = ups::find(&client, &keys.set()).await?;
    while let Some(set) = found.try_next().await? {
        show(&set, json)?;
    }
    drop(found);
    client.release().await?;
    Ok(true)
}

fn show(set: &DataSet, json: bool) -> Result<()> {
    match json {
        true => say(&format!("{}\n", answer::json(set))),
        false => say(&format!("{}\n", answer::text(set))),
    }
}

/// Whether it was done without a warning.
fn done(answered: &Answer) -> Result<bool> {
    let comment = answered.comment.as_deref().unwrap_or("without a comment");
    let tags: String = answered
        .offending_elements
        .iter()
        .map(|tag| format!(" {tag}"))
        .collect();
    let text = format!("the peer answered {}: {comment}{tags}", answered.status);
    match answered.status.0 {
        0 => Ok(true),
        _ if answered.status.is_done() => {
            crate::warn(&text);
            Ok(false)
        }
        _ => Err(Error::new(ErrorKind::Refused, "peer.answer", text)),
    }
}

/// Prints events, one a line.
async fn listen(address: SocketAddr, count: Option<usize>) -> Result<bool> {
    let failed = |error| Error::io("ups.listen", format!("can't listen on {address}"), error);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    say(&format!(
        "listens on {}\n",
        listener.local_addr().map_err(failed)?
    ))?;
    let (sender, mut events) = mpsc::unbounded_channel();
    let services = Arc::new(ups::Events::new(move |event| {
        // Nobody is there only when the program ends.
        let _ = sender.send(event);
        async { Ok(()) }.boxed()
    }));
    let mut left = count.unwrap_or(usize::MAX);
    while left > 0 {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.map_err(failed)?;
                let services = services.clone();
                tokio::spawn(async move {
                    let acceptor = Acceptor::new(ups::receiving(AcceptPolicy::new()));
                    if let Ok(association) = accept(Connection::tcp(stream), &acceptor).await {
                        // However it ends, the next one may come.
                        let _ = serve(association, services).await;
                    }
                });
            }
            Some(event) = events.recv() => {
                left -= 1;
                let what = answer::json(&event.attributes);
                say(&format!("{} {:?} {what}\n", event.sop_instance, event.event_type))?;
            }
        }
    }
    Ok(true)
}
