//! [`ToReportReceiver`]: final reports as HL7 messages.

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use pacs_core::audit::{AccessPoint, Participant};
use pacs_core::route::{Line, Trigger, Waiting, What};
use pacs_core::workflow::Worklist;
use pacs_core::{ErrorKind, InstanceRecord, Pacs, Result, Retry, Uid};

use super::{Destination, Recipient, Tried, in_order};
use crate::hl7::Sender;
use crate::hl7::report::{Parties, oru_of};

/// Sends each report that was stored as a result message (ORU^R01) over MLLP, with what the worklist knows of its order.
#[derive(Debug)]
pub struct ToReportReceiver {
    pacs: Pacs,
    sender: Sender,
    parties: Parties,
}

impl ToReportReceiver {
    /// To whom this sends.
    pub fn new(pacs: Pacs, sender: Sender, parties: Parties) -> Self {
        Self {
            pacs,
            sender,
            parties,
        }
    }

    async fn tell(&self, what: What) -> Tried {
        let What::Occasion(Trigger::ReportStored, instance, _) = what else {
            return Tried::Refused("the destination takes reports alone".to_owned());
        };
        match self.send(&instance).await {
            Ok(true) => Tried::Delivered(String::new()),
            Ok(false) => Tried::Gone,
            Err(error) if error.operation() == "hl7.connect" => Tried::Away(error.context().to_owned()),
            // It says that it is not the message: the same may be taken later.
            Err(error) if error.kind() == ErrorKind::Refused && error.retry() == Retry::Later => {
                Tried::Busy(error.context().to_owned())
            }
            Err(error) if error.operation() == "hl7.send" && error.retry() == Retry::Later => {
                Tried::Broken(error.context().to_owned())
            }
            Err(error) if error.retry() == Retry::Later => Tried::Broken(error.to_string()),
            Err(error) => Tried::Refused(error.context().to_owned()),
        }
    }

    /// Whether there is one.
    async fn send(&self, instance: &Uid) -> Result<bool> {
        let Some(record) = self.pacs.lookup(instance).await? else {
            return Ok(false);
        };
        let order = self.order(&record).await?;
        let message = oru_of(&self.pacs, &record, order.as_ref(), &self.parties).await?;
        self.sender.send(&message).await.map(|_| true)
    }

    async fn order(&self, record: &InstanceRecord) -> Result<Option<pacs_core::DataSet>> {
        let worklist = Worklist::new(std::sync::Arc::clone(self.pacs.ledger()?));
        Ok(worklist.of_study(&record.key.study).await?.into_iter().next())
    }
}

impl Destination for ToReportReceiver {
    fn recipient(&self) -> Recipient {
        Recipient::Peer(Participant::node(AccessPoint::host(self.sender.host())))
    }

    fn deliver<'a>(&'a self, _: &'a Line, batch: Vec<Waiting>) -> BoxStream<'a, (Waiting, Tried)> {
        let each = stream::iter(batch).then(move |waiting| async move {
            let tried = self.tell(waiting.what).await;
            (waiting, tried)
        });
        in_order(each).boxed()
    }
}
