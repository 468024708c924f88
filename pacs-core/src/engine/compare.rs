//! Whether what arrives under a UID is what is kept under it.

use futures::StreamExt;
use futures::stream;

use super::DuplicatePolicy;
use super::committer::Committer;
use super::digest::{Digest, digest_of};
use super::import::read_meta;
use crate::error::{ErrorKind, Result};
use crate::index::InstanceRecord;

/// How an arriving instance compares with the one kept under its UID.
pub(super) enum Comparison {
    Same,
    Different,
    Damaged,
}

impl Committer {
    /// # Errors
    /// What the archive says when the kept copy can't be read just now, and the policy depends on it.
    pub(super) async fn compare(
        &self,
        kept: &InstanceRecord,
        arriving: &InstanceRecord,
        digest: Digest,
    ) -> Result<Comparison> {
        let same_shape = kept.transfer_syntax == arriving.transfer_syntax
            && kept.length - kept.data_set_offset == arriving.length - arriving.data_set_offset;
        let current = match same_shape {
            true => digest_of(super::outgoing::data_set(&*self.archive, kept))
                .await
                .map(Some),
            false => Ok(None),
        };
        match current {
            Ok(current) if current == Some(digest) => Ok(Comparison::Same),
            Ok(_) => Ok(self.compare_superseded(kept, arriving, digest).await),
            Err(error) => {
                let damaged = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound);
                // A replacement keeps both, so nothing is lost when the medium only hesitates.
                if !damaged && self.duplicates != DuplicatePolicy::Replace {
                    return Err(error);
                }
                let instance = kept.key.instance;
                tracing::error!(%instance, %error, "a kept instance can't be read; the one that arrives takes its place");
                Ok(Comparison::Damaged)
            }
        }
    }

    /// An earlier version that arrives again is kept already, and does not become current again: else two
    /// senders that disagree would make a new version each time they send.
    async fn compare_superseded(
        &self,
        kept: &InstanceRecord,
        arriving: &InstanceRecord,
        digest: Digest,
    ) -> Comparison {
        for locator in &kept.superseded {
            let mut pieces = self.archive.read(locator, 0..u64::MAX);
            let Ok((meta, first)) = read_meta(&mut pieces).await else {
                continue;
            };
            let data_set = stream::iter([Ok(first)]).chain(pieces).boxed();
            if meta.transfer_syntax == arriving.transfer_syntax
                && digest_of(data_set).await.is_ok_and(|version| version == digest)
            {
                return Comparison::Same;
            }
        }
        Comparison::Different
    }
}
