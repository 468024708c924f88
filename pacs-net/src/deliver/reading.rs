//! [`ToReadingWorklist`]: what happened, onto the reading worklist of the engine itself.

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use pacs_core::route::{Line, Trigger, Waiting, What};
use pacs_core::workflow::Reading;
use pacs_core::{Pacs, Result, Retry};

use super::{Destination, Recipient, Tried, in_order};

/// Opens the reading step of a study that is stable, completes it when a final report is stored, and makes it more
/// urgent when a rule tells of anything else with another priority than the usual.
#[derive(Clone, Debug)]
pub struct ToReadingWorklist {
    pacs: Pacs,
    reading: Reading,
}

impl ToReadingWorklist {
    /// The reading worklist of `pacs`.
    ///
    /// # Errors
    /// `Unsupported` when it has no ledger.
    pub fn new(pacs: Pacs) -> Result<Self> {
        Ok(Self {
            reading: Reading::new(&pacs)?,
            pacs,
        })
    }

    async fn note(&self, line: &Line, waiting: &Waiting) -> Result<()> {
        let priority = waiting.recorded.priority;
        match waiting.what {
            What::Occasion(Trigger::StudyStable, ..) => {
                self.reading.open(line.study(), priority).await?;
            }
            What::Occasion(Trigger::ReportStored, instance, _) => {
                if let Some(record) = self.pacs.lookup(&instance).await? {
                    self.reading.complete(&record).await?;
                }
            }
            _ => {}
        }
        match priority {
            pacs_core::route::Priority::Medium => Ok(()),
            urgent => self.reading.raise(line.study(), urgent).await,
        }
    }
}

impl Destination for ToReadingWorklist {
    fn recipient(&self) -> Recipient {
        Recipient::Nobody
    }

    fn deliver<'a>(&'a self, line: &'a Line, batch: Vec<Waiting>) -> BoxStream<'a, (Waiting, Tried)> {
        let each = stream::iter(batch).then(move |waiting| async move {
            let tried = match self.note(line, &waiting).await {
                Ok(()) => Tried::Delivered(String::new()),
                Err(error) if error.retry() == Retry::Later => Tried::Broken(error.to_string()),
                Err(error) => Tried::Failed(error.to_string()),
            };
            (waiting, tried)
        });
        in_order(each).boxed()
    }
}
