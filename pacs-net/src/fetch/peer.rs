//! Studies from a peer: C-FIND, C-GET and C-MOVE (PS3.4 annex C).

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use pacs_core::query::Model;
use pacs_core::{DataSet, Error, ErrorKind, Level, Pacs, Result, Uid};
use tokio::sync::oneshot;

use super::{AWAY, Fetch, Listed, of};
use crate::dimse::{Client, CommandField};
use crate::scp::{PacsServices, ScpOptions};
use crate::scu::{Progress, Remote, find_until, identifier, move_to, query_proposal, receiving, retrieve};

/// Asks a peer, on one association as long as it lasts.
#[derive(Debug)]
pub(super) struct Finder {
    remote: Remote,
    client: Option<Client>,
}

impl Finder {
    pub(super) fn new(remote: &Remote) -> Self {
        Self {
            remote: remote.clone(),
            client: None,
        }
    }

    /// Associates, where it is not associated.
    pub(super) async fn client(&mut self) -> Result<Client> {
        if let Some(client) = &self.client
            && !client.has_ended()
        {
            return Ok(client.clone());
        }
        let proposal = query_proposal(&self.remote, Model::StudyRoot, CommandField::C_FIND);
        let client = self.remote.client(&proposal).await;
        let client = client.map_err(|error| unreachable(&self.remote, error))?;
        Ok(self.client.insert(client).clone())
    }

    pub(super) async fn find(
        &mut self,
        level: Level,
        keys: &DataSet,
        at_most: usize,
    ) -> Result<BoxStream<'static, Result<DataSet>>> {
        let client = self.client().await?;
        let (enough, cancelled) = oneshot::channel::<()>();
        let cancelled = async move {
            if cancelled.await.is_err() {
                std::future::pending().await
            }
        };
        let keys = identifier(level, keys);
        let matches = find_until(&client, Model::StudyRoot, &keys, cancelled).await?;
        let begin = (matches, Some(enough), at_most);
        let bounded = stream::try_unfold(begin, |(mut matches, mut enough, left)| async move {
            loop {
                let set = match matches.try_next().await {
                    Ok(Some(set)) => set,
                    Ok(None) => return Ok(None),
                    Err(error) if error.kind() == ErrorKind::Cancelled && enough.is_none() => {
                        return Ok(None);
                    }
                    // It ends by itself what nobody cancelled: it doesn't list that much.
                    Err(error) if error.kind() == ErrorKind::Cancelled => {
                        let why = "the peer ended its answer before all was listed";
                        return Err(Error::new(ErrorKind::Refused, "query.find", why));
                    }
                    Err(error) => return Err(error),
                };
                if left > 0 {
                    return Ok(Some((set, (matches, enough, left - 1))));
                }
                // It is asked to end; what it has sent meanwhile is passed over.
                if let Some(enough) = enough.take() {
                    let _ = enough.send(());
                }
            }
        });
        Ok(bounded.boxed())
    }

    pub(super) async fn close(self) {
        if let Some(client) = &self.client {
            release(client).await;
        }
    }
}

/// Asks for what is missing of a study: all of it where all of its series lack something, else those series. Answers
/// what the peer said that was not all success.
pub(super) async fn fetch(
    pacs: &Pacs,
    (remote, how): (&Remote, Fetch),
    study: &Uid,
    all_series: &BTreeSet<Uid>,
    missing: &[&Listed],
) -> Result<Option<String>> {
    let lacking: BTreeSet<Uid> = missing.iter().map(|it| it.series).collect();
    let identifiers: Vec<DataSet> = match lacking == *all_series {
        true => vec![identifier(Level::Study, &of(study, None))],
        false => lacking
            .iter()
            .map(|it| identifier(Level::Series, &of(study, Some(it))))
            .collect(),
    };
    // What an association of ours brings is recorded when it is over, however that came.
    let mut brought = None;
    let client = match how {
        Fetch::Get => {
            let proposal = query_proposal(remote, Model::StudyRoot, CommandField::C_GET);
            let proposal = receiving(proposal.with_asynchronous(1, 0), &classes(missing));
            let mut options = ScpOptions::new(remote.calling);
            options.any_sop_class = true;
            options.timeouts = remote.timeouts;
            let services = PacsServices::new(pacs.clone(), options);
            let association = remote.connect(&proposal).await;
            let association = association.map_err(|error| unreachable(remote, error))?;
            let (negotiated, peer) = (Arc::clone(association.negotiated()), association.peer());
            let services = Arc::new(services);
            brought = Some((Arc::clone(&services), negotiated, peer));
            Client::start(association, services)
        }
        Fetch::Move(_) => {
            let proposal = query_proposal(remote, Model::StudyRoot, CommandField::C_MOVE);
            let client = remote.client(&proposal).await;
            client.map_err(|error| unreachable(remote, error))?
        }
    };
    let said = retrieve_all(&client, how, &identifiers).await;
    if said.is_ok() {
        release(&client).await;
    }
    if let Some((services, negotiated, peer)) = brought {
        services.ended(&negotiated, peer).await;
    }
    said
}

async fn retrieve_all(client: &Client, how: Fetch, identifiers: &[DataSet]) -> Result<Option<String>> {
    let mut said = None;
    for identifier in identifiers {
        let mut progress = match how {
            Fetch::Get => retrieve(client, Model::StudyRoot, identifier).await?,
            Fetch::Move(destination) => move_to(client, Model::StudyRoot, identifier, &destination).await?,
        };
        while let Some(progress) = progress.try_next().await? {
            said = words(&progress).or(said);
        }
    }
    Ok(said)
}

/// Says which peer can't be had, and whether it isn't there at all.
fn unreachable(remote: &Remote, error: Error) -> Error {
    let is_away = error.operation() == "association.connect";
    let error = remote.unreachable(error);
    match is_away {
        true => Error::new(error.kind(), AWAY, error.context().to_owned()),
        false => error,
    }
}

/// What a final response says, where it is not success alone; not its comment, which may name somebody.
fn words(progress: &Progress) -> Option<String> {
    if progress.status.is_pending() || (progress.status.0 == 0 && progress.counts.failed == 0) {
        return None;
    }
    let (status, failed) = (progress.status, progress.counts.failed);
    Some(format!("{status}, {failed} failed"))
}

/// The SOP classes of what is fetched; none where one is not known, so that all usual ones are proposed.
fn classes(missing: &[&Listed]) -> BTreeSet<Uid> {
    let known: Option<BTreeSet<Uid>> = missing.iter().map(|it| it.sop_class).collect();
    known.unwrap_or_default()
}

async fn release(client: &Client) {
    if let Err(error) = client.release().await {
        tracing::debug!(%error, "a release was not answered");
    }
}
