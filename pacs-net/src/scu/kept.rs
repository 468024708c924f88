//! [`Kept`]: instances of an engine, to be sent.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
#[cfg(feature = "pixel")]
use pacs_core::Uid;
use pacs_core::{InstanceRecord, Pacs, Result, Source};

use super::{Outgoing, Pieces, Supply};

/// Gives the instances of an engine, as far as somebody may have them.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Where they are kept.
    pub pacs: Pacs,
    /// Who gets them: the decider is asked about it.
    pub source: Source,
    /// How long a turn to decode is waited for.
    pub patience: Duration,
}

impl Supply<InstanceRecord> for Kept {
    fn outgoing(&self, record: &InstanceRecord) -> Outgoing {
        Outgoing {
            sop_class: record.sop_class,
            sop_instance: record.key.instance,
            transfer_syntax: record.transfer_syntax,
        }
    }

    fn open<'a>(&'a self, record: &'a InstanceRecord) -> BoxFuture<'a, Result<Pieces>> {
        async move {
            self.pacs.admit_retrieve(&self.source, record).await?;
            Ok(self.pacs.outgoing_data_set(record))
        }
        .boxed()
    }

    #[cfg(feature = "pixel")]
    fn convert<'a>(
        &'a self,
        record: &'a InstanceRecord,
        accepted: &'a [Uid],
    ) -> BoxFuture<'a, Result<(Uid, Pieces)>> {
        async move {
            self.pacs.admit_retrieve(&self.source, record).await?;
            let data_set = async { Ok(self.pacs.read_data_set(record)) };
            transcoded(&self.pacs, record, data_set, accepted, self.patience).await
        }
        .boxed()
    }
}

/// The data set in one of `accepted`, made of the stored one, which is asked for when it is clear that one can be.
#[cfg(feature = "pixel")]
pub(crate) async fn transcoded(
    pacs: &Pacs,
    record: &InstanceRecord,
    stored: impl Future<Output = Result<Pieces>>,
    accepted: &[Uid],
    patience: Duration,
) -> Result<(Uid, Pieces)> {
    use pacs_core::pixel::can_transcode;
    use pacs_core::{Error, ErrorKind};

    let syntax = &record.transfer_syntax;
    let Some(target) = can_transcode(syntax, accepted) else {
        let why = format!("the receiver does not take transfer syntax {syntax}, and it can't be converted");
        return Err(Error::new(ErrorKind::Unsupported, "store.convert", why));
    };
    // Others that decode may be slow to take it; this one gives up before its association does.
    let transcoded = pacs.transcode(record, stored.await?, target);
    let pieces = tokio::time::timeout(patience, transcoded).await.map_err(|_| {
        let why = "its decoding has not begun in time";
        Error::new(ErrorKind::OutOfResources, "store.convert", why)
    })??;
    Ok((target.uid(), pieces))
}
