//! One step as the ledger has it, and the one way in which it changes.

use std::sync::Arc;

use bytes::Bytes;
use dicom_dictionary_std::tags;
use futures::TryStreamExt;
use futures::stream::BoxStream;

use super::event::Event;
use super::keys;
use super::refusal::Refusal;
use super::subscribe::{Subscriber, read_subscribers, write_subscribers};
use super::{ChangeKind, Ups, UpsChange};
use crate::dataset::DataSet;
use crate::error::Result;
use crate::ledger::{Step, data_set_from_value, data_set_to_value};
use crate::uid::{AeTitle, Uid};

/// Steps that are changed by one application.
const AT_ONCE: usize = 256;

/// A step and its subscribers, as they were read.
pub(super) struct Held {
    pub(super) uid: Uid,
    value: Option<Bytes>,
    subscribed: Option<Bytes>,
    /// With its Transaction UID.
    pub(super) step: Option<DataSet>,
    pub(super) subscribers: Vec<Subscriber>,
}

/// What is to become of it.
pub(super) struct Plan {
    /// What it is then; `None` deletes it.
    pub(super) step: Option<DataSet>,
    pub(super) subscribers: Vec<Subscriber>,
    /// Told to all of `subscribers`.
    pub(super) events: Vec<Event>,
    /// Told to one alone.
    pub(super) initial: Vec<(AeTitle, Event)>,
    /// Applied with it.
    pub(super) further: Vec<Step>,
}

impl Plan {
    /// The step as it is held, or is to be, and nobody is told.
    pub(super) fn of(held: &Held, step: DataSet) -> Self {
        Self {
            step: Some(step),
            subscribers: held.subscribers.clone(),
            events: Vec::new(),
            initial: Vec::new(),
            further: Vec::new(),
        }
    }
}

impl Held {
    /// The step.
    ///
    /// # Errors
    /// [`Refusal::NoSuchStep`].
    pub(super) fn step(&self) -> Result<&DataSet> {
        self.step.as_ref().ok_or_else(|| Refusal::NoSuchStep.error())
    }
}

impl Ups {
    pub(super) async fn held(&self, uid: &Uid) -> Result<Held> {
        // In this order: a change between the two is seen by the expectation of the first.
        let value = self.ledger().get(&keys::step(uid)).await?;
        let subscribed = self.ledger().get(&keys::watchers(uid)).await?;
        Ok(Held {
            uid: *uid,
            step: value.as_deref().map(data_set_from_value).transpose()?,
            subscribers: subscribed.as_deref().map_or(Ok(Vec::new()), read_subscribers)?,
            value,
            subscribed,
        })
    }

    /// Applies a plan, with all entries, subscriptions and events that follow from it; answers false when somebody
    /// changed the step or its subscribers since it was read, or an expectation of `further` did not hold.
    pub(super) async fn commit(&self, held: &Held, plan: Plan) -> Result<bool> {
        self.commit_together(vec![(held, plan)]).await
    }

    /// Does the same with several: all of them or none.
    pub(super) async fn commit_together(&self, plans: Vec<(&Held, Plan)>) -> Result<bool> {
        let (mut steps, mut told) = (Vec::new(), Vec::new());
        for (held, plan) in plans {
            let (more, to) = self.applied(held, plan)?;
            steps.extend(more);
            told.extend(to);
        }
        let is_applied = self.ledger().apply(steps).await?;
        if is_applied {
            self.tell(told);
        }
        Ok(is_applied)
    }

    /// Does the same with many steps, at most [`AT_ONCE`] in one application; `plan` answers `None` for one that stays
    /// as it is, and is asked again where somebody changed one meanwhile. Answers how many changed.
    pub(super) async fn commit_all(
        &self,
        uids: BoxStream<'static, Result<Uid>>,
        plan: impl Fn(&Held) -> Result<Option<Plan>> + Send + Sync,
    ) -> Result<u64> {
        let mut changed = 0;
        let mut chunks = uids.try_chunks(AT_ONCE);
        while let Some(chunk) = chunks.try_next().await.map_err(|error| error.1)? {
            let (mut steps, mut told, mut count) = (Vec::new(), Vec::new(), 0);
            for uid in &chunk {
                let held = self.held(uid).await?;
                if let Some(plan) = plan(&held)? {
                    let (more, to) = self.applied(&held, plan)?;
                    steps.extend(more);
                    told.extend(to);
                    count += 1;
                }
            }
            if count == 0 || self.ledger().apply(steps).await? {
                self.tell(told);
                changed += count;
                continue;
            }
            for uid in &chunk {
                loop {
                    let held = self.held(uid).await?;
                    let Some(plan) = plan(&held)? else { break };
                    if self.commit(&held, plan).await? {
                        changed += 1;
                        break;
                    }
                }
            }
        }
        Ok(changed)
    }

    /// What is applied for a plan, and whose queues get something by it.
    fn applied(&self, held: &Held, plan: Plan) -> Result<(Vec<Step>, Vec<AeTitle>)> {
        let uid = &held.uid;
        let mut steps = plan.further;
        let (key, watchers) = (keys::step(uid), keys::watchers(uid));
        steps.push(Step::Expect(key.clone(), held.value.clone()));
        steps.push(Step::Expect(watchers.clone(), held.subscribed.clone()));
        let entries = |set: &Option<DataSet>| match set {
            Some(step) => keys::entries(uid, step),
            None => Default::default(),
        };
        if held.step != plan.step {
            let (old, new) = (entries(&held.step), entries(&plan.step));
            steps.extend(old.difference(&new).cloned().map(Step::Delete));
            let added = new.difference(&old).cloned();
            steps.extend(added.map(|key| Step::Put(key, Bytes::new())));
            steps.push(match &plan.step {
                Some(step) => Step::Put(key, data_set_to_value(step)?),
                None => Step::Delete(key),
            });
        }
        if held.subscribers != plan.subscribers {
            let is_in = |list: &[Subscriber], ae: &AeTitle| list.iter().any(|one| one.ae_title == *ae);
            for gone in &held.subscribers {
                if !is_in(&plan.subscribers, &gone.ae_title) {
                    steps.push(Step::Delete(keys::watched(&gone.ae_title, uid)));
                }
            }
            for new in &plan.subscribers {
                if !is_in(&held.subscribers, &new.ae_title) {
                    steps.push(Step::Put(keys::watched(&new.ae_title, uid), Bytes::new()));
                }
            }
            steps.push(match plan.subscribers.is_empty() {
                true => Step::Delete(watchers),
                false => Step::Put(watchers, write_subscribers(&plan.subscribers)),
            });
        }
        let mut told = Vec::new();
        let to_all = plan.events.iter().flat_map(|event| {
            let subscribers = plan.subscribers.iter();
            subscribers.map(move |subscriber| (subscriber.ae_title, event))
        });
        let initial = plan.initial.iter().map(|(ae, event)| (*ae, event));
        for (ae, event) in to_all.chain(initial) {
            let key = keys::event(&ae, self.inner.number());
            // Another process may have had the same number.
            steps.push(Step::Expect(key.clone(), None));
            steps.push(Step::Put(key, event.to_value()?));
            told.push(ae);
        }
        Ok((steps, told))
    }

    fn tell(&self, mut told: Vec<AeTitle>) {
        told.sort_unstable();
        told.dedup();
        told.iter().for_each(|ae| self.inner.queued.tell(ae));
    }

    /// Tells who watches that a step was changed to this.
    pub(super) fn changed(&self, uid: &Uid, kind: ChangeKind, step: DataSet) -> UpsChange {
        let change = UpsChange {
            sop_instance: *uid,
            kind,
            state: keys::state_of(&step),
            step: Arc::new(public(step)),
        };
        self.inner.changes.tell(&change);
        change
    }
}

/// The step without what only its performer knows.
pub(super) fn public(mut step: DataSet) -> DataSet {
    step.remove(tags::TRANSACTION_UID);
    step
}

/// The data set as it is read back: values have their padding, so that what is the same is equal.
pub(super) fn as_kept(set: &DataSet) -> Result<DataSet> {
    data_set_from_value(&data_set_to_value(set)?)
}
