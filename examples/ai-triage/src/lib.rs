//! A small analysis service beside a PACS, which the PACS sends studies to like to any other destination.
//!
//! ```text
//! PACS --C-STORE--> intake, until the study has been quiet for a while
//!                     |  one series after the other, one slice in memory
//!                   search for dense regions inside the skull
//!                     |
//! PACS <--C-STORE-- a report (SR), and a picture where something was found
//! PACS <--UPS-RS--- the priority of open reading steps, where that is set up
//! ```
//!
//! It is a program of its own with nothing but the network between it and the PACS, so a vendor's box takes its place
//! by another address in the PACS's rules. **It is not a medical device.** The README says what it finds and what not.

#![warn(missing_docs)]

mod analysis;
mod deliver;
mod intake;
mod outline;
mod quiet;
mod regions;
mod result;
mod series;
mod workitems;

#[cfg(test)]
#[path = "../tests/phantom/mod.rs"]
mod phantom;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use pacs_core::{AeTitle, Result, Uid};
use pacs_net::scp::{Limits, ScpOptions, Server};
use pacs_net::scu::Remote;

use analysis::{Assessed, Outcome};
use intake::Intake;
pub use workitems::{Priority, Workitems};

/// Results that are remembered, so that the same images bring no second one.
const REMEMBERED_MAX: usize = 10_000;
/// Between two attempts at a study that can't be read.
const PAUSE: Duration = Duration::from_secs(5);

/// How the service is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What it is called.
    pub ae_title: AeTitle,
    /// Where results go.
    pub pacs: Remote,
    /// A study of which nothing has arrived for so long is whole.
    pub quiet: Duration,
    /// The directory that studies are kept in until they are done.
    pub data: PathBuf,
    /// When as much is kept, in bytes, what comes is refused for now (A700). What is on its way then still comes.
    pub room_bytes: u64,
    /// Where open reading steps are made more urgent by a finding.
    pub workitems: Option<Workitems>,
}

/// The service, ready to run.
pub struct Triage {
    settings: Settings,
    intake: Intake,
    server: Server,
}

impl Triage {
    /// Opens the directory and listens.
    ///
    /// # Errors
    /// What the directory or the network says.
    pub async fn open(settings: Settings) -> Result<Self> {
        let intake = Intake::open(&settings.data, settings.room_bytes, settings.quiet).await?;
        let options = ScpOptions::new(settings.ae_title);
        let server = Server::bind(settings.listen, intake.pacs.clone(), options, Limits::default()).await?;
        Ok(Self {
            settings,
            intake,
            server,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// `Io` when the system can't tell.
    pub fn address(&self) -> Result<SocketAddr> {
        self.server.address()
    }

    /// Serves until `stop` is ready; then associations may go on for `grace`. A study that is not done is taken up
    /// again by the next start.
    ///
    /// # Errors
    /// What the directory says as it is closed.
    pub async fn run(self, stop: impl Future<Output = ()>, grace: Duration) -> Result<()> {
        let Self {
            settings,
            intake,
            server,
        } = self;
        let pacs = intake.pacs.clone();
        let worker = Worker {
            settings,
            intake,
            answered: VecDeque::new(),
        };
        tokio::select! {
            () = server.run(stop, grace) => {}
            never = worker.work() => match never {},
        }
        pacs.close()
    }
}

enum Never {}

/// Takes studies one after the other.
struct Worker {
    settings: Settings,
    intake: Intake,
    /// What was answered before: the report's identifier is made of what was looked at.
    answered: VecDeque<Uid>,
}

impl Worker {
    async fn work(mut self) -> Never {
        loop {
            let study = self.intake.quiet.next().await;
            if let Err(error) = self.study(&study).await {
                tracing::error!(%study, %error, "a study can't be worked on now");
                tokio::time::sleep(PAUSE).await;
                self.intake.quiet.touch(study);
            }
        }
    }

    async fn study(&mut self, study: &Uid) -> Result<()> {
        let kept = self.intake.kept(study).await?;
        tracing::info!(%study, instances = kept.len(), "study is quiet");
        let assessed = self.assess(study).await?;
        if self.intake.quiet.is_waiting(study) {
            tracing::info!(%study, "more of the study has come: it is worked on again");
            return Ok(());
        }
        let found = assessed.iter().any(|one| one.found.count > 0);
        let results = result::results(study, &assessed, SystemTime::now().into())?;
        match results.first().map(|report| report.instance) {
            None => tracing::info!(%study, "nothing of the study can be searched"),
            Some(report) if self.answered.contains(&report) => {
                tracing::info!(%study, %report, "the same images were answered before");
            }
            Some(report) => {
                let count = results.len();
                let refused = deliver::deliver(&self.settings.pacs, results).await;
                tracing::info!(%study, found, results = count, refused, "answered");
                if self.answered.len() >= REMEMBERED_MAX {
                    self.answered.pop_front();
                }
                self.answered.push_back(report);
                if found {
                    self.raise(study).await;
                }
            }
        }
        self.intake.drop_all(study, &kept).await
    }

    async fn assess(&self, study: &Uid) -> Result<Vec<Assessed>> {
        let mut assessed = Vec::new();
        for series in analysis::series_of(&self.intake.pacs, study).await? {
            match analysis::assess(&self.intake.pacs, &series).await? {
                Outcome::Assessed(one) => {
                    let (slices, found) = (one.slices.len(), one.found.count);
                    let largest_ml = one.found.regions.first().map(|region| region.volume_ml);
                    tracing::info!(%study, %series, slices, found, largest_ml, "series searched");
                    assessed.push(*one);
                }
                Outcome::Skipped(why) => tracing::info!(%study, %series, why, "series not searched"),
            }
        }
        Ok(assessed)
    }

    async fn raise(&self, study: &Uid) {
        let Some(workitems) = &self.settings.workitems else {
            return;
        };
        match workitems.raise(study).await {
            Ok(steps) => tracing::info!(%study, steps, "reading steps made more urgent"),
            // The report tells the PACS the same.
            Err(error) => {
                tracing::warn!(%study, %workitems, %error, "reading steps can't be made more urgent")
            }
        }
    }
}
