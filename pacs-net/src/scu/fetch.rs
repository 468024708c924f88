//! [`fetch_study`]: brings one study of a peer into an engine, and looks whether all of it came.

use std::collections::BTreeSet;
use std::sync::Arc;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::TryStreamExt;
use pacs_core::query::Model;
use pacs_core::{AeTitle, DataSet, Error, ErrorKind, Level, Pacs, Result, Uid};

use super::{Progress, Remote, find, identifier, move_to, query_proposal, receiving, retrieve};
use crate::dimse::{Client, CommandField};
use crate::scp::{PacsServices, ScpOptions};

/// Instances of one study that a peer may list. Real ones stay far below; bounds what is held of an answer.
const LISTED_MAX: usize = 200_000;

/// By which service a study is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// C-GET: the instances come on our own association.
    Get,
    /// C-MOVE to this AE title, under which the peer knows a server of ours that serves the same engine and listens.
    Move(AeTitle),
}

/// What became of a study.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Series that the peer lists.
    pub series: usize,
    /// Instances that it lists.
    pub instances: usize,
    /// Bytes of those of them that are kept here, in their Part 10 streams.
    pub bytes: u64,
    /// How many had to be fetched; the others were kept already.
    pub asked: usize,
    /// Those that are not kept here after all, or not as they were stored where that was looked at.
    pub missing: Vec<Uid>,
    /// What the peer said of the last retrieval that was not all success.
    pub said: Option<String>,
}

/// Fetches what a peer lists of a study and is not kept here: nothing where all is. Then it looks whether every
/// instance is kept; with `verify` also whether the archive can give it back as it was stored, to the last byte.
///
/// What the peer can't give is no error: it is `missing`.
///
/// # Errors
/// When the peer can't be asked, or refuses the query; `Unsupported` when it doesn't offer the service; what the index
/// says.
pub async fn fetch_study(
    pacs: &Pacs,
    remote: &Remote,
    study: &Uid,
    how: Fetch,
    verify: bool,
) -> Result<Fetched> {
    let listed = list(remote, study).await?;
    let series: BTreeSet<Uid> = listed.iter().map(|it| it.series).collect();
    let mut fetched = Fetched {
        series: series.len(),
        instances: listed.len(),
        ..Fetched::default()
    };
    let (bytes, missing) = missing(pacs, &listed, verify).await?;
    fetched.asked = missing.len();
    if missing.is_empty() {
        fetched.bytes = bytes;
        return Ok(fetched);
    }
    let classes = classes(&missing);
    let lacking: BTreeSet<Uid> = missing.iter().map(|it| it.series).collect();
    let identifiers: Vec<DataSet> = match lacking == series {
        true => vec![of(Level::Study, study, None)],
        false => lacking
            .iter()
            .map(|it| of(Level::Series, study, Some(it)))
            .collect(),
    };
    let client = match how {
        Fetch::Get => {
            let proposal = query_proposal(remote, Model::StudyRoot, CommandField::C_GET);
            let proposal = receiving(proposal.with_asynchronous(1, 0), &classes);
            let mut options = ScpOptions::new(remote.calling);
            options.any_sop_class = true;
            options.timeouts = remote.timeouts;
            let services = PacsServices::new(pacs.clone(), options);
            Client::start(remote.connect(&proposal).await?, Arc::new(services))
        }
        Fetch::Move(_) => {
            let proposal = query_proposal(remote, Model::StudyRoot, CommandField::C_MOVE);
            remote.client(&proposal).await?
        }
    };
    for identifier in &identifiers {
        let mut progress = match how {
            Fetch::Get => retrieve(&client, Model::StudyRoot, identifier).await?,
            Fetch::Move(destination) => move_to(&client, Model::StudyRoot, identifier, &destination).await?,
        };
        while let Some(progress) = progress.try_next().await? {
            fetched.said = words(&progress).or(fetched.said);
        }
    }
    release(&client).await;
    let (bytes, missing) = self::missing(pacs, &listed, verify).await?;
    fetched.bytes = bytes;
    fetched.missing = missing.iter().map(|it| it.instance).collect();
    Ok(fetched)
}

/// What a final response says, where it is not success alone.
fn words(progress: &Progress) -> Option<String> {
    if progress.status.is_pending() || (progress.status.0 == 0 && progress.counts.failed == 0) {
        return None;
    }
    let comment = progress.comment.as_deref().unwrap_or("without a comment");
    let (status, failed) = (progress.status, progress.counts.failed);
    Some(format!("{status}, {failed} failed: {comment}"))
}

/// An instance that a peer lists.
struct Listed {
    series: Uid,
    instance: Uid,
    sop_class: Option<Uid>,
}

/// The instances of a study by series: an answer of each level, as every peer gives it (PS3.4 C.4.1.2.1).
async fn list(remote: &Remote, study: &Uid) -> Result<Vec<Listed>> {
    let proposal = query_proposal(remote, Model::StudyRoot, CommandField::C_FIND);
    let client = remote.client(&proposal).await?;
    let mut all_series = BTreeSet::new();
    let mut series_keys = of(Level::Series, study, None);
    series_keys.put_text(tags::SERIES_INSTANCE_UID, VR::UI, "");
    let mut matches = find(&client, Model::StudyRoot, &series_keys).await?;
    while let Some(set) = matches.try_next().await? {
        all_series.insert(set.uid(tags::SERIES_INSTANCE_UID)?);
        bounded(all_series.len())?;
    }
    let mut listed = Vec::new();
    let mut seen = BTreeSet::new();
    for series in all_series {
        let mut keys = of(Level::Instance, study, Some(&series));
        keys.put_text(tags::SOP_INSTANCE_UID, VR::UI, "");
        keys.put_text(tags::SOP_CLASS_UID, VR::UI, "");
        let mut matches = find(&client, Model::StudyRoot, &keys).await?;
        while let Some(set) = matches.try_next().await? {
            let instance = set.uid(tags::SOP_INSTANCE_UID)?;
            if seen.insert(instance) {
                listed.push(Listed {
                    series,
                    instance,
                    sop_class: set.uid(tags::SOP_CLASS_UID).ok(),
                });
            }
            bounded(listed.len())?;
        }
    }
    release(&client).await;
    Ok(listed)
}

fn bounded(count: usize) -> Result<()> {
    if count <= LISTED_MAX {
        return Ok(());
    }
    let why = format!("the peer lists more than {LISTED_MAX} instances of one study");
    Err(Error::new(ErrorKind::OutOfResources, "study.list", why))
}

/// The bytes of what is kept of `listed`, and what is not.
async fn missing<'a>(pacs: &Pacs, listed: &'a [Listed], verify: bool) -> Result<(u64, Vec<&'a Listed>)> {
    let (mut bytes, mut missing) = (0, Vec::new());
    for it in listed {
        let Some(record) = pacs.lookup(&it.instance).await? else {
            missing.push(it);
            continue;
        };
        if verify && let Err(error) = pacs.verify_instance(&record).await {
            if error.kind() == ErrorKind::Closed {
                return Err(error);
            }
            tracing::error!(instance = %it.instance, %error, "it is not kept as it was stored");
            missing.push(it);
            continue;
        }
        bytes += record.length;
    }
    Ok((bytes, missing))
}

/// The SOP classes of what is fetched; none where one is not known, so that all usual ones are proposed.
fn classes(missing: &[&Listed]) -> BTreeSet<Uid> {
    let known: Option<BTreeSet<Uid>> = missing.iter().map(|it| it.sop_class).collect();
    known.unwrap_or_default()
}

fn of(level: Level, study: &Uid, series: Option<&Uid>) -> DataSet {
    let mut keys = DataSet::new();
    keys.put_uid(tags::STUDY_INSTANCE_UID, study);
    if let Some(series) = series {
        keys.put_uid(tags::SERIES_INSTANCE_UID, series);
    }
    identifier(level, &keys)
}

async fn release(client: &Client) {
    if let Err(error) = client.release().await {
        tracing::debug!(%error, "a release was not answered");
    }
}
