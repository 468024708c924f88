//! `store`: sends files over several associations, several operations in flight on each.

pub(crate) mod plan;
mod send;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};
use pacs_core::{Error, ErrorKind, Result};
use pacs_net::dimse::{Client, NoServices};

use crate::cli::Peer;
use crate::say;
use plan::{Batch, Plan};
use send::Outcome;

/// How many are named for each reason or comment.
const NAMED_MAX: usize = 5;

/// How to send.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) associations: u16,
    pub(crate) async_window: u16,
}

/// Files by what was said of them.
type Named = BTreeMap<String, Vec<PathBuf>>;

/// What the peer answered.
#[derive(Default)]
struct Tally {
    stored: u64,
    /// By status and comment.
    warned: Named,
    /// By reason.
    not_stored: Named,
}

/// Sends what lies at `paths`; answers whether the peer took all of it without a warning.
pub(crate) async fn store(peer: Arc<Peer>, paths: &[PathBuf], manner: Manner) -> Result<bool> {
    let plan = Plan::make(paths);
    let bar = ProgressBar::new(plan.bytes());
    let style = "{bar:30} {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} remaining";
    let style = ProgressStyle::with_template(style);
    bar.set_style(
        style.map_err(|error| Error::new(ErrorKind::Internal, "progress.draw", error.to_string()))?,
    );
    let tally = Arc::new(Mutex::new(Tally {
        not_stored: plan.refused,
        ..Tally::default()
    }));
    for batch in plan.batches.into_iter().map(Arc::new) {
        let pass = |files: Vec<usize>| Pass {
            peer: Arc::clone(&peer),
            batch: Arc::clone(&batch),
            files,
            next: AtomicUsize::new(0),
            interrupted: Mutex::default(),
            tally: Arc::clone(&tally),
            bar: bar.clone(),
        };
        let interrupted = pass((0..batch.files.len()).collect()).run(manner).await?;
        // A peer that ends the association over one instance takes those in flight with it: each of
        // them is tried again by itself, so that the one at fault is named.
        let alone = Manner {
            associations: 1,
            async_window: 1,
        };
        let interrupted = pass(interrupted).run(alone).await?;
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        for at in interrupted {
            let reason = "the peer ended the association over it".to_owned();
            tally
                .not_stored
                .entry(reason)
                .or_default()
                .push(batch.files[at].path.clone());
        }
    }
    bar.finish_and_clear();
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    tally.report()
}

/// Some files of a batch, which associations take one after the other.
struct Pass {
    peer: Arc<Peer>,
    batch: Arc<Batch>,
    /// Places in the batch.
    files: Vec<usize>,
    /// The next place in `files`.
    next: AtomicUsize,
    /// What was under way when its association ended.
    interrupted: Mutex<Vec<usize>>,
    tally: Arc<Mutex<Tally>>,
    bar: ProgressBar,
}

impl Pass {
    /// Sends them; answers what was under way when an association ended.
    async fn run(self, manner: Manner) -> Result<Vec<usize>> {
        let this = Arc::new(self);
        let associations = usize::from(manner.associations).min(this.files.len());
        let mut running = Vec::new();
        for _ in 0..associations {
            running.push(tokio::spawn(Arc::clone(&this).associate(manner.async_window)));
        }
        for association in running {
            association.await.map_err(panicked)??;
        }
        let interrupted =
            std::mem::take(&mut *this.interrupted.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(interrupted)
    }

    /// One association, and another where it is ended before all is sent. That each of them takes at
    /// least one file is what ends this.
    async fn associate(self: Arc<Self>, async_window: u16) -> Result<()> {
        while self.next.load(Ordering::Relaxed) < self.files.len() {
            let mut proposal = self.peer.proposal();
            if async_window > 1 {
                proposal = proposal.with_asynchronous(async_window, 1);
            }
            for (sop_class, transfer_syntax) in &self.batch.contexts {
                proposal = proposal.with_context(*sop_class, [transfer_syntax]);
            }
            let client = self.peer.call(&proposal, Arc::new(NoServices)).await?;
            let window = match client.negotiated().outgoing_operations {
                0 => async_window,
                agreed => agreed.min(async_window),
            };
            let mut slots = Vec::new();
            for _ in 0..window {
                slots.push(tokio::spawn(Arc::clone(&self).slot(client.clone())));
            }
            let mut whole = true;
            for slot in slots {
                whole &= slot.await.map_err(panicked)?;
            }
            if whole {
                client.release().await?;
            }
        }
        Ok(())
    }

    /// One operation after the other; answers whether the association lasted.
    async fn slot(self: Arc<Self>, client: Client) -> bool {
        while let Some(&at) = self.files.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let file = &self.batch.files[at];
            let Ok(outcome) = send::send(&client, file).await else {
                self.interrupted
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(at);
                return false;
            };
            self.bar.inc(file.length);
            let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Outcome::Stored => tally.stored += 1,
                Outcome::Warned(words) => {
                    tally.warned.entry(words).or_default().push(file.path.clone());
                }
                Outcome::NotStored(reason) => {
                    tally
                        .not_stored
                        .entry(reason)
                        .or_default()
                        .push(file.path.clone());
                }
            }
        }
        true
    }
}

impl Tally {
    fn report(&self) -> Result<bool> {
        let [warned, not_stored] =
            [&self.warned, &self.not_stored].map(|named| named.values().map(Vec::len).sum::<usize>());
        let mut text = format!("{} stored", self.stored);
        if warned > 0 {
            text.push_str(&format!(", {warned} with a warning"));
        }
        text.push_str(&format!(", {not_stored} not stored\n"));
        for (what, named) in [("with a warning", &self.warned), ("not stored", &self.not_stored)] {
            for (words, paths) in named {
                text.push_str(&format!("\n{} {what}: {words}\n", paths.len()));
                for path in paths.iter().take(NAMED_MAX) {
                    text.push_str(&format!("    {}\n", path.display()));
                }
                if paths.len() > NAMED_MAX {
                    text.push_str(&format!("    and {} more\n", paths.len() - NAMED_MAX));
                }
            }
        }
        say(&text)?;
        Ok(not_stored == 0 && warned == 0)
    }
}

fn panicked(error: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Internal, "store.run", "a task failed").with_source(error)
}
