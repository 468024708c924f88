//! What a resource holds, known before its answer begins.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, UNIX_EPOCH};

use futures::TryStreamExt;
use pacs_core::audit::{Outcome, Subjects};
use pacs_core::{InstanceRecord, Pacs, Result, Source, Timestamp};

use super::super::http::conditional::Validators;
use super::super::http::media_type::MediaType;
use super::super::resource::{Resource, not_found};
use crate::audited;

/// The instances of a resource, without any of them.
#[derive(Debug)]
pub(super) struct Listing {
    /// How many there are.
    pub(super) count: usize,
    /// Those among them that can be handed out as it is asked for.
    pub(super) acceptable: usize,
    /// When the newest came.
    newest: Timestamp,
    /// Another one when any of them is another one (RFC 9110 8.8.3).
    tag: String,
}

impl Listing {
    /// Looks through the instances of `resource` that `source` may have, and records that they go to it.
    ///
    /// # Errors
    /// `NotFound` when there is none; what the index says.
    pub(super) async fn of(
        pacs: &Pacs,
        source: &Source,
        resource: &Resource,
        is_acceptable: impl Fn(&InstanceRecord) -> bool,
    ) -> Result<Self> {
        let mut instances = resource.instances(pacs, source);
        let mut subjects = pacs.audit().is_on().then(Subjects::default);
        let mut last = None;
        let (mut count, mut acceptable, mut newest) = (0, 0, Timestamp(0));
        let mut hasher = DefaultHasher::new();
        while let Some(record) = instances.try_next().await? {
            count += 1;
            acceptable += usize::from(is_acceptable(&record));
            newest = newest.max(record.received);
            hash(&record, &mut hasher);
            if let Some(subjects) = &mut subjects {
                subjects.add(&record);
                last = Some(record);
            }
        }
        if count == 0 {
            return Err(not_found());
        }
        match (subjects, last) {
            (Some(_), Some(record)) if resource.instance.is_some() => {
                audited::shown(pacs, source, &record).await?;
            }
            (Some(subjects), _) => {
                audited::handed_out(pacs, source, None, subjects.take(), Some(Outcome::SUCCESS)).await?;
            }
            (None, _) => {}
        }
        Ok(Self {
            count,
            acceptable,
            newest,
            tag: format!("{:016x}", hasher.finish()),
        })
    }

    /// By what a client knows one of its representations again. `more` is what tells it from others beside its
    /// media type.
    pub(super) fn validators(&self, media_type: &MediaType, more: impl Hash) -> Validators {
        let mut hasher = DefaultHasher::new();
        media_type.to_string().hash(&mut hasher);
        more.hash(&mut hasher);
        let tag = format!("{}-{:016x}", self.tag, hasher.finish());
        let newest = UNIX_EPOCH + Duration::from_millis(self.newest.0);
        Validators::of_tag(&tag).with_last_modified(newest)
    }

    /// Of one instance.
    pub(super) fn of_one(record: &InstanceRecord) -> Self {
        let mut hasher = DefaultHasher::new();
        hash(record, &mut hasher);
        Self {
            count: 1,
            acceptable: 1,
            newest: record.received,
            tag: format!("{:016x}", hasher.finish()),
        }
    }
}

/// What is another one when an instance is.
fn hash(record: &InstanceRecord, hasher: &mut DefaultHasher) {
    record.key.instance.hash(hasher);
    record.sequence.hash(hasher);
    record.received.hash(hasher);
    record.length.hash(hasher);
    if let Some(coerced) = &record.coerced {
        pacs_core::dataset::compact::to_bytes(coerced).hash(hasher);
    }
}
