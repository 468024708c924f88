//! What a URL of the Studies Service names (PS3.18 10.1).

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use pacs_core::{
    Error, ErrorKind, InstanceRecord, Level, Pacs, Permission, Result, Retry, Scope, Source, Uid,
};

use crate::audited;

/// A study, a series or an instance, by the UIDs in the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) study: Uid,
    pub(crate) series: Option<Uid>,
    pub(crate) instance: Option<Uid>,
}

impl Resource {
    /// From the UIDs as they stand in the path: one, two or three.
    ///
    /// # Errors
    /// `Invalid` for what is no UID.
    pub(super) fn parse<T: AsRef<str>>(uids: &[T]) -> Result<Self> {
        let uid = |at: usize| uids.get(at).map(|text| Uid::parse(text.as_ref())).transpose();
        let study = uid(0)?.ok_or_else(|| Error::new(ErrorKind::Invalid, "web.path", "no study is named"))?;
        Ok(Self {
            study,
            series: uid(1)?,
            instance: uid(2)?,
        })
    }

    /// Of one instance that is kept.
    pub(super) fn of(record: &InstanceRecord) -> Self {
        Self {
            study: record.key.study,
            series: Some(record.key.series),
            instance: Some(record.key.instance),
        }
    }

    pub(super) fn level(&self) -> Level {
        match (self.series, self.instance) {
            (_, Some(_)) => Level::Instance,
            (Some(_), None) => Level::Series,
            (None, None) => Level::Study,
        }
    }

    /// Its path below the base URL.
    pub(crate) fn path(&self) -> String {
        let mut path = format!("/studies/{}", self.study);
        for (name, uid) in [("series", self.series), ("instances", self.instance)] {
            if let Some(uid) = uid {
                path.push('/');
                path.push_str(name);
                path.push('/');
                path.push_str(&uid);
            }
        }
        path
    }

    pub(super) fn scope(&self) -> Scope {
        match (self.series, self.instance) {
            (_, Some(instance)) => Scope::Instance(instance),
            (Some(series), None) => Scope::Series(series),
            (None, None) => Scope::Study(self.study),
        }
    }

    /// Whether an instance of the scope is also below what stands above it in the path: real series UIDs
    /// stand in two studies now and then.
    pub(super) fn holds(&self, record: &InstanceRecord) -> bool {
        let among = |named: Option<Uid>, uid: Uid| named.is_none_or(|named| named == uid);
        self.study == record.key.study
            && among(self.series, record.key.series)
            && among(self.instance, record.key.instance)
    }

    /// Its instances that `source` may delete.
    pub(super) fn deletable(
        &self,
        pacs: &Pacs,
        source: &Source,
    ) -> BoxStream<'static, Result<InstanceRecord>> {
        let resource = *self;
        pacs.instances_for(source, Permission::Delete, self.scope())
            .try_filter(move |record| std::future::ready(resource.holds(record)))
            .boxed()
    }

    /// Its instances that `source` may have.
    pub(super) fn instances(
        &self,
        pacs: &Pacs,
        source: &Source,
    ) -> BoxStream<'static, Result<InstanceRecord>> {
        let (resource, engine, source) = (*self, pacs.clone(), source.clone());
        let records = pacs.instances(self.scope()).try_filter_map(move |record| {
            let (engine, source) = (engine.clone(), source.clone());
            async move {
                let is_theirs = resource.holds(&record) && may_have(&engine, &source, &record).await?;
                Ok(is_theirs.then_some(record))
            }
        });
        Box::pin(records)
    }

    /// The instance that is named.
    ///
    /// # Errors
    /// `NotFound` when it is not kept; what the decider says when `source` may not have it; what the index says; that it
    /// can't be recorded who has it, where that must be.
    pub(super) async fn instance(&self, pacs: &Pacs, source: &Source) -> Result<InstanceRecord> {
        let found = match &self.instance {
            Some(instance) => pacs.lookup(instance).await?,
            None => None,
        };
        let record = found.filter(|record| self.holds(record)).ok_or_else(not_found)?;
        pacs.admit_retrieve(source, &record).await.map_err(|error| {
            let is_another_part = error.operation() == pacs_core::access::OPERATION;
            if !is_another_part {
                return error;
            }
            // It isn't shown to be there, and that it was asked for is no secret.
            pacs.note_refusal(source, Permission::Retrieve);
            not_found()
        })?;
        audited::shown(pacs, source, &record).await?;
        Ok(record)
    }
}

/// Whether `source` may have an instance.
///
/// # Errors
/// What the index says: else an answer would lack what can't be looked at now.
pub(super) async fn may_have(pacs: &Pacs, source: &Source, record: &InstanceRecord) -> Result<bool> {
    match pacs.admit_retrieve(source, record).await {
        Ok(()) => Ok(true),
        Err(error) if error.retry() == Retry::Later => Err(error),
        Err(_) => Ok(false),
    }
}

/// Nothing is kept that the URL names.
pub(super) fn not_found() -> Error {
    Error::new(
        ErrorKind::NotFound,
        "web.path",
        "nothing is kept under these UIDs",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_study_a_series_or_an_instance() {
        let study = Resource::parse(&["1.2"]).unwrap();
        assert_eq!(
            (study.level(), study.path()),
            (Level::Study, "/studies/1.2".to_owned())
        );
        let instance = Resource::parse(&["1.2", "3.4", "5.6"]).unwrap();
        assert_eq!(instance.path(), "/studies/1.2/series/3.4/instances/5.6");
        assert_eq!(instance.scope(), Scope::Instance(Uid::constant("5.6")));
        assert!(Resource::parse(&["1.2", "../etc"]).is_err());
    }
}
