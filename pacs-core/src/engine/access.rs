//! What the engine asks its [`AccessControl`](crate::access::AccessControl), and what comes of the answers.

use std::sync::Arc;

use dicom_dictionary_std::tags;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::{Inner, Pacs};
use crate::access::{Part, Permission, Restriction, refused};
use crate::audit::{AlertSubject, Code, Message, Outcome, OutcomeIndicator, Participant};
use crate::dataset::DataSet;
use crate::error::{Error, Result};
use crate::hooks::Source;
use crate::index::{InstanceRecord, Scope};
use crate::query::{Model, Query, QueryOptions};
use crate::uid::{InstanceKey, Level};

impl Pacs {
    /// With what part of what is kept `source` may do this; what the program around the engine does itself, it may with all.
    ///
    /// The engine asks itself before it stores, finds, hands out and amends. A door asks about what it does otherwise.
    ///
    /// # Errors
    /// `Refused` when with none.
    pub fn permit(&self, source: &Source, permission: Permission) -> Result<Part> {
        self.inner.permit(source, permission)
    }

    /// Whether `source` may do anything at all.
    pub fn permit_any(&self, source: &Source) -> bool {
        let may = |permission| self.inner.access.permit(source, permission).is_ok();
        source.door.is_none() || Permission::ALL.into_iter().any(may)
    }

    /// The same for what can't be done with a part: whoever may only with a part may not.
    ///
    /// # Errors
    /// `Refused` when not with all.
    pub fn permit_all(&self, source: &Source, permission: Permission) -> Result<()> {
        match self.permit(source, permission)? {
            Part::All => Ok(()),
            Part::Only(_) => self.inner.told_refused(source, permission),
        }
    }

    /// Tells those who watch over security that somebody was refused this: for who decides by
    /// [`permit_instance`](Self::permit_instance), which is also asked to tell parts apart.
    pub fn note_refusal(&self, source: &Source, permission: Permission) {
        self.inner.tell_refused(source, permission, &refused(permission));
    }

    /// Whether `source` may do this with an instance that is kept: whether the study, the series or the instance, as it
    /// is found by a query, is of the part that it may do it with.
    ///
    /// # Errors
    /// `Refused` when it may not; what the index says.
    pub async fn permit_instance(
        &self,
        source: &Source,
        permission: Permission,
        instance: &InstanceKey,
    ) -> Result<()> {
        match self.permit(source, permission)? {
            Part::Only(any) if !self.inner.fits_any(&any, instance).await? => Err(refused(permission)),
            _ => Ok(()),
        }
    }

    /// Every instance of `scope` that `source` may do this with, those of one series together. The others aren't shown to be
    /// there.
    pub fn instances_for(
        &self,
        source: &Source,
        permission: Permission,
        scope: Scope,
    ) -> BoxStream<'static, Result<InstanceRecord>> {
        let records = self.instances(scope);
        match self.permit(source, permission) {
            Ok(Part::All) => records,
            Ok(Part::Only(any)) => {
                let inner = Arc::clone(&self.inner);
                let theirs = move |record: InstanceRecord| {
                    let (inner, any) = (Arc::clone(&inner), Arc::clone(&any));
                    async move { Ok(inner.fits_any(&any, &record.key).await?.then_some(record)) }
                };
                records.try_filter_map(theirs).boxed()
            }
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    /// Whether `source` may have this instance.
    ///
    /// # Errors
    /// `Refused` when it may not; what the decider or the index says.
    pub async fn admit_retrieve(&self, source: &Source, record: &InstanceRecord) -> Result<()> {
        self.permit_instance(source, Permission::Retrieve, &record.key)
            .await?;
        self.inner.decider.before_retrieve(source, record)
    }

    /// Answers a query: one identifier for each match, with the keys that were asked for
    /// (PS3.4 C.4.1.1.3.2).
    ///
    /// Who may find a part finds that. A patient or a study of which a part is theirs is found, without the numbers of
    /// what else is of it.
    ///
    /// # Errors
    /// `Refused` when `source` may not find; what the decider or, as an item of the stream, the index says.
    pub fn find(&self, source: &Source, mut query: Query) -> Result<BoxStream<'static, Result<DataSet>>> {
        let part = self.permit(source, Permission::Find)?;
        self.inner.decider.before_find(source, &mut query)?;
        if let Part::Only(any) = &part
            && any.iter().any(|only| self.inner.level_of(only) > query.level())
        {
            // What is derived from below is of all that is there, and is not matched either.
            query.forget(&DERIVED);
        }
        if let Part::Only(any) = &part
            && let [only] = &**any
            && self.inner.level_of(only) <= query.level()
        {
            // So that the index takes a short way. What is found is looked at below all the same.
            query.restrict(only.keys());
        }
        let matches = self.inner.index.query(query.clone());
        let matches = match part {
            Part::All => matches,
            Part::Only(any) => self.of_part(any, query.level(), matches),
        };
        Ok(matches.map_ok(move |record| query.answer(&record)).boxed())
    }

    /// Of what was found at `level` that which fits any of these.
    fn of_part(
        &self,
        any: Arc<[Restriction]>,
        level: Level,
        matches: BoxStream<'static, Result<DataSet>>,
    ) -> BoxStream<'static, Result<DataSet>> {
        let inner = Arc::clone(&self.inner);
        let fitting = move |mut found: DataSet| {
            let (inner, any) = (Arc::clone(&inner), Arc::clone(&any));
            async move {
                let mut is_below = false;
                for restriction in &*any {
                    if inner.level_of(restriction) <= level {
                        if restriction.fits(&found) {
                            return Ok(Some(found));
                        }
                    } else if !is_below {
                        is_below = inner.has_below(&found, level, restriction).await?;
                    }
                }
                if is_below {
                    // They count what is not theirs too.
                    found.retain(|element| !DERIVED.contains(&element.tag));
                }
                Ok(is_below.then_some(found))
            }
        };
        matches.try_filter_map(fitting).boxed()
    }
}

/// What is told of an entity by what is below it.
const DERIVED: [dicom_core::Tag; 8] = [
    tags::NUMBER_OF_PATIENT_RELATED_STUDIES,
    tags::NUMBER_OF_PATIENT_RELATED_SERIES,
    tags::NUMBER_OF_PATIENT_RELATED_INSTANCES,
    tags::NUMBER_OF_STUDY_RELATED_SERIES,
    tags::NUMBER_OF_STUDY_RELATED_INSTANCES,
    tags::NUMBER_OF_SERIES_RELATED_INSTANCES,
    tags::MODALITIES_IN_STUDY,
    tags::SOP_CLASSES_IN_STUDY,
];

impl Inner {
    pub(super) fn permit(&self, source: &Source, permission: Permission) -> Result<Part> {
        if source.door.is_none() {
            return Ok(Part::All);
        }
        let permitted = self.access.permit(source, permission);
        permitted.inspect_err(|error| self.tell_refused(source, permission, error))
    }

    /// Whether `source` may store an instance with this beginning. Who may store a part puts nothing in the place of what is
    /// not of it, and nothing below it: what is sent says of itself what it likes.
    pub(super) async fn may_store(&self, source: &Source, key: &InstanceKey, header: &DataSet) -> Result<()> {
        let Part::Only(any) = self.permit(source, Permission::Store)? else {
            return Ok(());
        };
        for restriction in &*any {
            if restriction.fits(header) && self.is_free(restriction, key).await? {
                return Ok(());
            }
        }
        self.told_refused(source, Permission::Store)
    }

    /// Whether what is kept already where an instance would go is of this part.
    async fn is_free(&self, restriction: &Restriction, key: &InstanceKey) -> Result<bool> {
        if let Some(kept) = self.index.lookup(&key.instance).await?
            && !self.fits(restriction, &kept.key).await?
        {
            return Ok(false);
        }
        for (level, tag, uid) in [
            (Level::Study, tags::STUDY_INSTANCE_UID, &key.study),
            (Level::Series, tags::SERIES_INSTANCE_UID, &key.series),
        ] {
            let mut keys = DataSet::new();
            keys.put_uid(tag, uid);
            let options = QueryOptions {
                relational: true,
                ..QueryOptions::default()
            };
            let mut found = self
                .index
                .query(Query::new(Model::StudyRoot, level, keys, options));
            while let Some(found) = found.try_next().await? {
                if !restriction.fits_at(level, |tag| self.attributes.level_of(tag), &found) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The refusal, of which those hear who watch over security.
    pub(super) fn told_refused<T>(&self, source: &Source, permission: Permission) -> Result<T> {
        let error = refused(permission);
        self.tell_refused(source, permission, &error);
        Err(error)
    }

    fn tell_refused(&self, source: &Source, permission: Permission, error: &Error) {
        let user = source.identity.as_ref().map(|user| user.name.as_str());
        let calling = source.calling_ae.as_ref().map(|title| title.as_str());
        let (door, address, permission) = (source.door, source.address, permission.name());
        tracing::info!(?door, user, calling, ?address, permission, %error, "refused");
        let address = address.map(|address| address.ip());
        let what = (user, calling, address, permission);
        if !self.audit.is_news(&what) {
            return;
        }
        let alert = |us| {
            let kind = Code::USE_OF_RESTRICTED_FUNCTION;
            let subject = AlertSubject::of(address);
            let outcome = Outcome::failure(OutcomeIndicator::MinorFailure, error.context());
            let text = error.context();
            Message::security_alert(kind, [us], [Participant::of(source)], subject, text)
                .with_outcome(outcome)
        };
        // It is refused, whether or not that can be recorded.
        drop(self.audit.submit(alert));
    }

    fn level_of(&self, restriction: &Restriction) -> Level {
        restriction.level(|tag| self.attributes.level_of(tag))
    }

    /// Whether an instance that is kept is of any of these parts.
    async fn fits_any(&self, any: &[Restriction], instance: &InstanceKey) -> Result<bool> {
        for restriction in any {
            if self.fits(restriction, instance).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether an instance that is kept is of this part, as a query finds it.
    async fn fits(&self, restriction: &Restriction, instance: &InstanceKey) -> Result<bool> {
        let level = self.level_of(restriction);
        let mut keys = DataSet::new();
        keys.put_uid(tags::STUDY_INSTANCE_UID, &instance.study);
        if level >= Level::Series {
            keys.put_uid(tags::SERIES_INSTANCE_UID, &instance.series);
        }
        if level >= Level::Instance {
            keys.put_uid(tags::SOP_INSTANCE_UID, &instance.instance);
        }
        self.any(level, keys, restriction).await
    }

    /// Whether below an entity of `level` something is of this part.
    async fn has_below(&self, found: &DataSet, level: Level, restriction: &Restriction) -> Result<bool> {
        let mut keys = DataSet::new();
        let unique = [
            (
                Level::Patient,
                &[tags::PATIENT_ID, tags::ISSUER_OF_PATIENT_ID][..],
            ),
            (Level::Study, &[tags::STUDY_INSTANCE_UID]),
            (Level::Series, &[tags::SERIES_INSTANCE_UID]),
        ];
        // Of a study its UID says all, whosever it is.
        let known = unique.iter().filter(|(at, _)| match level {
            Level::Patient => *at == Level::Patient,
            level => *at > Level::Patient && *at <= level,
        });
        for tag in known.flat_map(|(_, tags)| *tags) {
            if let Some(element) = found.get(*tag) {
                keys.put(element.clone());
            }
        }
        if keys.is_empty() {
            return Ok(false);
        }
        self.any(self.level_of(restriction), keys, restriction).await
    }

    async fn any(&self, level: Level, keys: DataSet, restriction: &Restriction) -> Result<bool> {
        let options = QueryOptions {
            relational: true,
            ..QueryOptions::default()
        };
        let mut query = Query::new(Model::StudyRoot, level, keys.clone(), options);
        query.restrict(restriction.keys());
        let mut found = self.index.query(query).boxed();
        while let Some(found) = found.try_next().await? {
            // A value may look like a wild card.
            let is_it = keys
                .iter()
                .all(|key| found.strings(key.tag).eq(keys.strings(key.tag)));
            if is_it && restriction.fits(&found) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
