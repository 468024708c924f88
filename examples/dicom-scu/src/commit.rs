//! `commit`: asks the peer to commit itself to keep instances.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use pacs_core::{Error, Result, Uid};
use pacs_net::scu::{COMMITMENT_INSTANCES_MAX, CommitmentRequest, Commitments, Reference};
use tokio::net::TcpListener;

use crate::cli::{Peer, ToCommit};
use crate::say;
use crate::store::plan::Plan;

/// How many are named for each reason.
const NAMED_MAX: usize = 5;

/// Reads `SOP-CLASS:SOP-INSTANCE`.
pub(crate) fn reference(text: &str) -> Result<Reference, String> {
    let parts = text.split_once(':').map(|(sop_class, sop_instance)| {
        Ok::<_, Error>(Reference {
            sop_class: Uid::parse(sop_class)?,
            sop_instance: Uid::parse(sop_instance)?,
        })
    });
    match parts {
        Some(Ok(reference)) => Ok(reference),
        Some(Err(error)) => Err(error.context().to_owned()),
        None => Err("SOP class UID and SOP instance UID with a colon between are needed".to_owned()),
    }
}

/// Answers whether the peer commits itself to all of it.
pub(crate) async fn commit(peer: &Peer, wanted: ToCommit) -> Result<bool> {
    let plan = Plan::make(&wanted.paths);
    let files = plan.batches.iter().flat_map(|batch| &batch.files);
    let mut instances: Vec<Reference> = files
        .map(|file| Reference {
            sop_class: file.sop_class,
            sop_instance: file.sop_instance,
        })
        .chain(wanted.instances)
        .collect();
    let mut seen = HashSet::new();
    instances.retain(|reference| seen.insert(*reference));

    let commitments = Arc::new(Commitments::new());
    let listening = match wanted.listen_port {
        Some(port) => {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await;
            let listener =
                listener.map_err(|error| Error::io("commit.listen", format!("port {port}"), error))?;
            let taking = Arc::clone(&commitments).listen(listener, peer.calling);
            Some(tokio::spawn(taking))
        }
        None => None,
    };
    let request = CommitmentRequest {
        hold: match wanted.listen_port {
            Some(_) => Duration::from_secs(wanted.hold.into()),
            // It can come nowhere else.
            None => Duration::from_secs(wanted.patience.into()),
        },
        patience: Duration::from_secs(wanted.patience.into()),
    };
    let mut tally = Tally {
        not_committed: plan
            .refused
            .into_iter()
            .map(|(reason, paths)| {
                let names = paths.iter().map(|path| path.display().to_string());
                (reason, names.collect())
            })
            .collect(),
        ..Tally::default()
    };
    let remote = peer.remote()?;
    for some in instances.chunks(COMMITMENT_INSTANCES_MAX) {
        let report = request.ask(&remote, some, &commitments).await?;
        let mut open: HashSet<Reference> = some.iter().copied().collect();
        tally.committed += report
            .committed
            .iter()
            .filter(|reference| open.remove(*reference))
            .count();
        for (reference, reason) in &report.failed {
            if open.remove(reference) {
                tally.not(failure(*reason), reference);
            }
        }
        for reference in &open {
            tally.not("the report does not name it".to_owned(), reference);
        }
    }
    if let Some(listening) = listening {
        listening.abort();
    }
    tally.report()
}

/// A Failure Reason (PS3.3 C.14.1.1).
fn failure(reason: u16) -> String {
    let meaning = match reason {
        0x0110 => "processing failure",
        0x0112 => "no such instance",
        0x0119 => "it is of another SOP class",
        0x0122 => "the SOP class is not supported",
        0x0131 => "the transaction UID is in use",
        0x0213 => "resource limitation",
        _ => "for a reason of its own",
    };
    format!("{reason:04X}H: {meaning}")
}

#[derive(Default)]
struct Tally {
    committed: usize,
    /// By reason.
    not_committed: BTreeMap<String, Vec<String>>,
}

impl Tally {
    fn not(&mut self, reason: String, reference: &Reference) {
        let name = reference.sop_instance.to_string();
        self.not_committed.entry(reason).or_default().push(name);
    }

    fn report(&self) -> Result<bool> {
        let count: usize = self.not_committed.values().map(Vec::len).sum();
        let mut text = format!("{} committed, {count} not committed\n", self.committed);
        for (reason, names) in &self.not_committed {
            // Writing to a String can't fail.
            let _ = writeln!(text, "\n{} not committed: {reason}", names.len());
            for name in names.iter().take(NAMED_MAX) {
                let _ = writeln!(text, "    {name}");
            }
            if names.len() > NAMED_MAX {
                let _ = writeln!(text, "    and {} more", names.len() - NAMED_MAX);
            }
        }
        say(&text)?;
        Ok(count == 0)
    }
}
