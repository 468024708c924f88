//! `find`, `move` and `get`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use dicom_dictionary_std::tags;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use indicatif::ProgressBar;
use pacs_core::dataset::part10::{Meta, write_meta};
use pacs_core::{AeTitle, Error, ErrorKind, Result, Uid};
use pacs_net::dimse::{NoServices, Operation, Reply, Responses, Services, SubOperations};
use pacs_net::scu::{NATIVE, receiving};

use crate::answer;
use crate::cli::{Peer, Query};
use crate::peer::{Service, data_set, expect_done, words};
use crate::say;

/// Asks and prints the answers, as long as somebody reads them.
pub(crate) async fn find(
    peer: &Peer,
    query: &Query,
    json: bool,
    cancel_after: Option<usize>,
) -> Result<bool> {
    let sop_class = query.sop_class(Service::Find);
    let proposal = peer.proposal().with_context(sop_class, &NATIVE);
    let client = peer.call(&proposal, Arc::new(NoServices)).await?;
    let context = client.context_for(&sop_class)?.clone();
    let mut responses = client.find(&context, query.identifier(&context)?).await?;
    let mut answers = 0;
    let mut out = io::stdout().lock();
    while let Some(response) = responses.next().await {
        let response = response?;
        if !response.status().is_pending() {
            let cancelled = cancel_after.is_some_and(|wanted| answers >= wanted);
            if !cancelled {
                expect_done(&response)?;
            }
            break;
        }
        if let Some(set) = data_set(&context, &response)? {
            let text = if json {
                format!("{}\n", answer::json(&set))
            } else {
                format!("{}\n", answer::text(&set))
            };
            if !is_heard(out.write_all(text.as_bytes()))? {
                return Ok(true);
            }
        }
        answers += 1;
        if cancel_after == Some(answers) {
            responses.cancel().await?;
        }
    }
    client.release().await?;
    if !json {
        is_heard(writeln!(out, "{answers} answer(s)"))?;
    }
    Ok(true)
}

/// Has the peer send what matches to `destination`. Answers whether all of it came there.
pub(crate) async fn r#move(peer: &Peer, query: &Query, destination: &AeTitle) -> Result<bool> {
    let sop_class = query.sop_class(Service::Move);
    let proposal = peer.proposal().with_context(sop_class, &NATIVE);
    let client = peer.call(&proposal, Arc::new(NoServices)).await?;
    let context = client.context_for(&sop_class)?.clone();
    let responses = client
        .r#move(&context, destination, query.identifier(&context)?)
        .await?;
    let whole = watch(responses).await?;
    client.release().await?;
    Ok(whole)
}

/// Fetches what matches into files of `output`, where there is one. Answers whether all of it came.
pub(crate) async fn get(peer: &Peer, query: &Query, output: Option<PathBuf>) -> Result<bool> {
    if let Some(output) = &output {
        fs::create_dir_all(output)
            .map_err(|error| Error::io("get.open", format!("{} can't be made", output.display()), error))?;
    }
    let sop_class = query.sop_class(Service::Get);
    let mut proposal = peer
        .proposal()
        .with_context(sop_class, &NATIVE)
        .with_asynchronous(1, 0);
    // With what the peer says beforehand will come, there is room for all that it may be sent in.
    proposal = receiving(proposal, &sop_classes(peer, query).await);
    let services: Arc<dyn Services> = match output {
        Some(directory) => Arc::new(Files { directory }),
        None => Arc::new(Discard),
    };
    let client = peer.call(&proposal, services).await?;
    let context = client.context_for(&sop_class)?.clone();
    let responses = client.get(&context, query.identifier(&context)?).await?;
    let whole = watch(responses).await?;
    client.release().await?;
    Ok(whole)
}

/// The SOP classes of what matches, where the peer can tell; none otherwise.
async fn sop_classes(peer: &Peer, query: &Query) -> BTreeSet<Uid> {
    let ask = async {
        let sop_class = query.sop_class(Service::Find);
        let proposal = peer.proposal().with_context(sop_class, &NATIVE);
        let client = peer.call(&proposal, Arc::new(NoServices)).await?;
        let context = client.context_for(&sop_class)?.clone();
        let asked = [tags::SOP_CLASSES_IN_STUDY, tags::SOP_CLASS_UID];
        let identifier = query.identifier_asking(&context, &asked)?;
        let mut responses = client.find(&context, identifier).await?;
        let mut classes = BTreeSet::new();
        while let Some(response) = responses.next().await {
            let Some(set) = data_set(&context, &response?)? else {
                continue;
            };
            let values = asked.iter().flat_map(|tag| set.strings(*tag));
            classes.extend(values.filter_map(|value| Uid::parse(value).ok()));
        }
        client.release().await?;
        Ok::<_, Error>(classes)
    };
    // Only a help: without it the usual classes are proposed.
    ask.await.unwrap_or_default()
}

/// Shows sub-operations as they are done; answers whether none failed.
async fn watch(mut responses: Responses) -> Result<bool> {
    let bar = ProgressBar::no_length();
    while let Some(response) = responses.next().await {
        let response = response?;
        let counts = response.command.sub_operations();
        let SubOperations {
            remaining,
            completed,
            failed,
            warning,
        } = counts;
        let done = u64::from(completed) + u64::from(failed) + u64::from(warning);
        bar.set_length(done + u64::from(remaining.unwrap_or_default()));
        bar.set_position(done);
        if response.status().is_pending() {
            continue;
        }
        bar.finish_and_clear();
        say(&format!(
            "{completed} done, {warning} with a warning, {failed} failed\n"
        ))?;
        if failed == 0 && warning == 0 {
            expect_done(&response)?;
        } else {
            say(&format!("the peer answered {}\n", words(&response)))?;
        }
        return Ok(failed == 0 && warning == 0);
    }
    Err(Error::new(
        ErrorKind::Closed,
        "retrieve.wait",
        "the association ended before the final response",
    ))
}

/// Takes C-STORE requests into files.
struct Files {
    directory: PathBuf,
}

impl Services for Files {
    fn c_store(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let sop_instance = operation.command().sop_instance()?;
            let meta = write_meta(&Meta {
                sop_class: operation.command().sop_class()?,
                sop_instance,
                transfer_syntax: operation.context().transfer_syntax,
                source: AeTitle::parse(&operation.negotiated().called_ae_title).ok(),
                sending: None,
                receiving: None,
            });
            // A UID is digits and dots, so it leads nowhere else.
            let path = self.directory.join(format!("{sop_instance}.dcm"));
            let part = self.directory.join(format!("{sop_instance}.part"));
            let failed = |error| Error::io("file.write", "the received instance can't be written", error);
            let mut file = File::create(&part).map_err(failed)?;
            file.write_all(&meta).map_err(failed)?;
            if let Some(mut data_set) = operation.take_data_set() {
                while let Some(piece) = data_set.next_piece().await? {
                    file.write_all(&piece).map_err(failed)?;
                }
            }
            fs::rename(&part, &path).map_err(failed)?;
            Ok(Reply::success())
        })
    }
}

/// Takes C-STORE requests and keeps nothing.
struct Discard;

impl Services for Discard {
    fn c_store(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            if let Some(mut data_set) = operation.take_data_set() {
                while data_set.next_piece().await?.is_some() {}
            }
            Ok(Reply::success())
        })
    }
}

/// Whether somebody read what was printed: whoever closed the pipe, as `head` does, has enough.
pub(crate) fn is_heard(printed: io::Result<()>) -> Result<bool> {
    match printed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::io(
            "answer.print",
            "standard output can't be written",
            error,
        )),
    }
}
