//! Back to the PACS: C-STORE of what was made, again and again until the PACS has decided about it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dicom_dictionary_std::uids;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::{Error, ErrorKind, Result, Uid};
use pacs_net::dimse::Status;
use pacs_net::scu::{Outgoing, Pieces, Remote, Sending, Supply};

use crate::result::Made;

const EXPLICIT: Uid = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);
/// Between two attempts, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Sends until each is either stored or refused for good; answers how many were refused.
pub(crate) async fn deliver(pacs: &Remote, made: Vec<Made>) -> usize {
    let (mut left, mut refused) = (made, 0);
    let (mut pause, longest) = PAUSES;
    loop {
        let kinds: BTreeSet<(Uid, Uid)> = left.iter().map(|made| (made.class, EXPLICIT)).collect();
        let mut sending = Sending::to(pacs.clone()).send(&kinds, Arc::new(InMemory), stream::iter(left));
        let mut again = Vec::new();
        while let Some((made, sent)) = sending.next().await {
            let (class, instance) = (made.class, made.instance);
            match sent {
                Ok((status, _)) if status.is_done() => tracing::info!(%class, %instance, "result stored"),
                Ok((status, _)) if !may_pass(status) => {
                    tracing::error!(%class, %instance, %status, "the PACS refuses a result");
                    refused += 1;
                }
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    tracing::error!(%class, %instance, %error, "the PACS does not take a result");
                    refused += 1;
                }
                Ok((status, _)) => {
                    tracing::warn!(%class, %instance, %status, "the PACS has no room for a result now");
                    again.push(made);
                }
                Err(error) => {
                    tracing::warn!(%class, %instance, %error, "a result could not be sent");
                    again.push(made);
                }
            }
        }
        if again.is_empty() {
            return refused;
        }
        left = again;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// Whether a failure may be none later: out of resources (PS3.4 B.2.3, PS3.7 annex C).
fn may_pass(status: Status) -> bool {
    matches!(status.0, 0xA700..=0xA7FF | 0x0213)
}

struct InMemory;

impl InMemory {
    fn pieces(made: &Made, syntax: Uid) -> Result<Pieces> {
        let bytes = encode(&made.data_set, &syntax, &CharacterSet::utf8())?;
        Ok(stream::iter([Ok(bytes.into())]).boxed())
    }
}

impl Supply<Made> for InMemory {
    fn outgoing(&self, made: &Made) -> Outgoing {
        Outgoing {
            sop_class: made.class,
            sop_instance: made.instance,
            transfer_syntax: EXPLICIT,
        }
    }

    fn open<'a>(&'a self, made: &'a Made) -> BoxFuture<'a, Result<Pieces>> {
        async move { Self::pieces(made, EXPLICIT) }.boxed()
    }

    fn convert<'a>(&'a self, made: &'a Made, accepted: &'a [Uid]) -> BoxFuture<'a, Result<(Uid, Pieces)>> {
        async move {
            let implicit = Uid::constant(uids::IMPLICIT_VR_LITTLE_ENDIAN);
            if !accepted.contains(&implicit) {
                let why = "the PACS takes no uncompressed transfer syntax";
                return Err(Error::new(ErrorKind::Unsupported, "triage.deliver", why));
            }
            Ok((implicit, Self::pieces(made, implicit)?))
        }
        .boxed()
    }
}
