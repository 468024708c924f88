//! Whether what arrives under a UID is what is kept under it.

use std::sync::PoisonError;

use futures::StreamExt;
use futures::stream;

use super::DuplicatePolicy;
use super::committer::Committer;
use super::digest::{Digest, digest_of};
use super::import::read_meta;
use super::receipt::is_complete;
use crate::dataset::scan::Scanner;
use crate::dataset::{coercion, part10};
use crate::error::{ErrorKind, Result};
use crate::index::InstanceRecord;

/// Of how many instances it is remembered whether they are whole.
const WHOLE_MAX: usize = 1000;

/// How an arriving instance compares with the one kept under its UID.
pub(super) enum Comparison {
    Same,
    /// The policy for duplicates says which one counts.
    Different,
    /// What arrives is cut off, and the kept one is whole or at least longer.
    Less,
    /// The kept one is damaged, or cut off where the arriving one is whole.
    More,
}

impl Committer {
    /// # Errors
    /// What the archive says when the kept copy can't be read just now, and the policy depends on it.
    pub(super) async fn compare(
        &self,
        kept: &InstanceRecord,
        arriving: &InstanceRecord,
        digest: Digest,
        complete: bool,
    ) -> Result<Comparison> {
        let same_shape = kept.transfer_syntax == arriving.transfer_syntax
            && data_set_length(kept) == data_set_length(arriving);
        let current = match same_shape {
            true => digest_of(super::outgoing::data_set(&*self.archive, kept))
                .await
                .map(Some),
            false => Ok(None),
        };
        let compared = match current {
            Ok(current) if current == Some(digest) => return Ok(Comparison::Same),
            Ok(_) if self.is_superseded(kept, arriving, digest).await => return Ok(Comparison::Same),
            Ok(_) => self.weigh(kept, arriving, complete).await,
            Err(error) => Err(error),
        };
        compared.or_else(|error| {
            let damaged = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound);
            // A replacement keeps both, so nothing is lost when the medium only hesitates.
            let replaces = complete && self.duplicates == DuplicatePolicy::Replace;
            if !(damaged || replaces) {
                return Err(error);
            }
            let instance = kept.key.instance;
            tracing::error!(%instance, %error, "a kept instance can't be read; the one that arrives takes its place");
            Ok(Comparison::More)
        })
    }

    /// Which of two different ones is worth more. Lengths alone don't tell: a whole compressed instance is
    /// shorter than what is left of an uncompressed one.
    async fn weigh(
        &self,
        kept: &InstanceRecord,
        arriving: &InstanceRecord,
        complete: bool,
    ) -> Result<Comparison> {
        if complete && self.duplicates == DuplicatePolicy::Replace {
            return Ok(Comparison::Different);
        }
        Ok(match (complete, self.is_whole(kept).await?) {
            (true, false) => Comparison::More,
            (false, true) => Comparison::Less,
            (false, false) if data_set_length(kept) >= data_set_length(arriving) => Comparison::Less,
            _ => Comparison::Different,
        })
    }

    /// Whether what is kept is not cut off. All commits wait meanwhile, and what is deflated may take long: it is found out
    /// once, however often something else arrives under its UID.
    async fn is_whole(&self, kept: &InstanceRecord) -> Result<bool> {
        let known = || self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(is_whole) = known().get(&(kept.sequence, kept.locator.clone())) {
            return Ok(*is_whole);
        }
        let mut scanner = Scanner::new(&kept.transfer_syntax);
        let mut data_set = super::outgoing::data_set(&*self.archive, kept);
        while let Some(piece) = data_set.next().await {
            scanner.push(&piece?)?;
        }
        let is_whole = is_complete(&scanner.finish()?);
        let mut known = known();
        if known.len() >= WHOLE_MAX {
            known.clear();
        }
        known.insert((kept.sequence, kept.locator.clone()), is_whole);
        Ok(is_whole)
    }

    /// An earlier version that arrives again is kept already, and does not become current again: else two
    /// senders that disagree would make a new version each time they send.
    async fn is_superseded(&self, kept: &InstanceRecord, arriving: &InstanceRecord, digest: Digest) -> bool {
        for locator in &kept.superseded {
            let mut pieces = self.archive.read(locator, 0..u64::MAX);
            let Ok((meta, first)) = read_meta(&mut pieces).await else {
                continue;
            };
            // What was amended has the data set of the version before it, which is in the list as well.
            if part10::coerced(&meta)
                .is_ok_and(|coerced| coerced.is_some_and(|it| it.contains(coercion::AMENDED)))
            {
                continue;
            }
            let data_set = stream::iter([Ok(first)]).chain(pieces).boxed();
            if meta.transfer_syntax == arriving.transfer_syntax
                && digest_of(data_set).await.is_ok_and(|version| version == digest)
            {
                return true;
            }
        }
        false
    }
}

fn data_set_length(record: &InstanceRecord) -> u64 {
    record.length - record.data_set_offset
}
