//! Subscriptions (PS3.4 CC.2.3): to one step, to all, to those that match.

use bytes::{BufMut, Bytes, BytesMut};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::event::Event;
use super::find;
use super::held::{Held, Plan};
use super::keys;
use super::refusal::Refusal;
use super::{FILTERED_GLOBAL_SUBSCRIPTION, GLOBAL_SUBSCRIPTION, Outcome, Ups};
use crate::dataset::DataSet;
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{LedgerExt, data_set_from_value, data_set_to_value};
use crate::limits::UPS_SUBSCRIBERS_MAX;
use crate::query::{Keys, QueryOptions};
use crate::uid::{AeTitle, Uid};

/// What somebody subscribes to.
#[derive(Clone, Debug)]
pub enum Subscription {
    /// One step.
    Step(Uid),
    /// All steps, those that are there and those that come.
    Global,
    /// The same, but only those that match; of those that come, when they are created.
    Filtered(DataSet),
}

impl Subscription {
    /// What a UID names: one of the two well-known ones, else a step. `filter` counts for the filtered one alone.
    pub fn named(uid: Uid, filter: DataSet) -> Self {
        match uid {
            uid if uid == GLOBAL_SUBSCRIPTION => Self::Global,
            uid if uid == FILTERED_GLOBAL_SUBSCRIPTION => Self::Filtered(filter),
            uid => Self::Step(uid),
        }
    }

    /// The UID that names it.
    pub fn uid(&self) -> Uid {
        match self {
            Self::Step(uid) => *uid,
            Self::Global => GLOBAL_SUBSCRIPTION,
            Self::Filtered(_) => FILTERED_GLOBAL_SUBSCRIPTION,
        }
    }
}

/// One who is subscribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subscriber {
    pub(super) ae_title: AeTitle,
    /// The step stays as long as this.
    pub(super) lock: bool,
}

/// Subscribers of a step as a value: of each its AE title, a 0, and whether it locks.
pub(super) fn write_subscribers(subscribers: &[Subscriber]) -> Bytes {
    let mut value = BytesMut::new();
    for subscriber in subscribers {
        value.put_slice(subscriber.ae_title.as_bytes());
        value.put_slice(&[0, u8::from(subscriber.lock)]);
    }
    value.freeze()
}

pub(super) fn read_subscribers(value: &[u8]) -> Result<Vec<Subscriber>> {
    let mut rest = value;
    let mut subscribers = Vec::new();
    while !rest.is_empty() {
        let one = || {
            let end = rest.iter().position(|byte| *byte == 0)?;
            let ae_title = AeTitle::parse(std::str::from_utf8(&rest[..end]).ok()?).ok()?;
            Some((ae_title, *rest.get(end + 1)? == 1, &rest[end + 2..]))
        };
        let (ae_title, lock, behind) = one().ok_or_else(damaged)?;
        subscribers.push(Subscriber { ae_title, lock });
        rest = behind;
    }
    Ok(subscribers)
}

fn damaged() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "ups.subscribers",
        "kept subscriptions can't be read",
    )
}

fn too_many() -> Error {
    let why = "there are too many subscribers";
    Error::new(ErrorKind::OutOfResources, "ups.subscribe", why)
}

/// Private attributes of the value that has all global subscriptions, which nobody else reads.
const ENTRIES: Tag = Tag(0x0075, 0x1001);
const FILTER: Tag = Tag(0x0075, 0x1002);

/// Those who are subscribed globally.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Globally(Vec<Global>);

#[derive(Clone, PartialEq)]
struct Global {
    subscriber: Subscriber,
    /// Matching keys; `None` for all steps.
    filter: Option<DataSet>,
}

impl Globally {
    fn from_value(value: &[u8]) -> Result<Self> {
        let set = data_set_from_value(value)?;
        let global = |item: &DataSet| {
            let ae_title = AeTitle::parse(item.string(tags::RECEIVING_AE).ok_or_else(damaged)?)?;
            Ok(Global {
                subscriber: Subscriber {
                    ae_title,
                    lock: item.string(tags::DELETION_LOCK) == Some("TRUE"),
                },
                filter: item.items(FILTER).first().cloned(),
            })
        };
        Ok(Self(
            set.items(ENTRIES).iter().map(global).collect::<Result<_>>()?,
        ))
    }

    fn to_value(&self) -> Result<Option<Bytes>> {
        let items = self.0.iter().map(|global| {
            let mut item = DataSet::new();
            let lock = if global.subscriber.lock { "TRUE" } else { "FALSE" };
            item.put_text(tags::RECEIVING_AE, VR::AE, global.subscriber.ae_title.as_str());
            item.put_text(tags::DELETION_LOCK, VR::LO, lock);
            if let Some(filter) = &global.filter {
                item.put_items(FILTER, vec![filter.clone()]);
            }
            item
        });
        let mut set = DataSet::new();
        set.put_items(ENTRIES, items.collect());
        match self.0.is_empty() {
            true => Ok(None),
            false => data_set_to_value(&set).map(Some),
        }
    }

    /// Who is subscribed to a new step, each once; with a lock where one of their subscriptions has it.
    pub(super) fn for_new(&self, step: &DataSet) -> Result<Vec<Subscriber>> {
        let mut subscribers: Vec<Subscriber> = Vec::new();
        for global in &self.0 {
            let wants = match &global.filter {
                None => true,
                Some(filter) => filter_keys(filter)?.matches(step),
            };
            let known = subscribers
                .iter_mut()
                .find(|known| known.ae_title == global.subscriber.ae_title);
            match known {
                _ if !wants => {}
                Some(known) => known.lock |= global.subscriber.lock,
                None => subscribers.push(global.subscriber),
            }
        }
        Ok(subscribers)
    }

    fn ae_titles(&self) -> impl Iterator<Item = AeTitle> {
        self.0.iter().map(|global| global.subscriber.ae_title)
    }
}

fn filter_keys(filter: &DataSet) -> Result<Keys> {
    Keys::new(filter.clone(), QueryOptions::default())
}

impl Ups {
    /// Those who are subscribed globally, and the value they were read from.
    pub(super) async fn globally(&self) -> Result<(Globally, Option<Bytes>)> {
        let value = self.ledger().get(&keys::global()).await?;
        let globally = value
            .as_deref()
            .map_or(Ok(Globally::default()), Globally::from_value)?;
        Ok((globally, value))
    }

    /// Subscribes an AE (table CC.2.3-2). A `lock` keeps what it is subscribed to from being deleted, until it
    /// unsubscribes or subscribes without one. Of one step the state is reported at once; of all that are there with
    /// a global subscription with a lock. A global one does not change subscriptions that are there.
    ///
    /// # Errors
    /// [`Refusal::NoSuchStep`]; `Invalid` for a filter that has no key or too long ones; `OutOfResources` above
    /// [`UPS_SUBSCRIBERS_MAX`]; what the ledger says. A global subscription that fails half way can be asked for again.
    pub async fn subscribe(&self, ae_title: &AeTitle, to: &Subscription, lock: bool) -> Result<Outcome> {
        let subscriber = Subscriber {
            ae_title: *ae_title,
            lock,
        };
        let (filter, sop_instance) = match to {
            Subscription::Step(uid) => loop {
                let held = self.held(uid).await?;
                // One of a specific step is always renewed.
                let Some(plan) = subscribing(&held, subscriber, true, true)? else {
                    return Ok(subscribed(*uid));
                };
                if self.commit(&held, plan).await? {
                    return Ok(subscribed(*uid));
                }
            },
            Subscription::Global => (None, GLOBAL_SUBSCRIPTION),
            Subscription::Filtered(filter) => {
                if filter_keys(filter)?.matching().is_empty() {
                    let why = "a filtered subscription needs a matching key";
                    return Err(Error::new(ErrorKind::Invalid, "ups.subscribe", why));
                }
                (Some(filter.clone()), FILTERED_GLOBAL_SUBSCRIPTION)
            }
        };
        let wanted = Global { subscriber, filter };
        self.update_globally(|list| {
            list.retain(|other| {
                other.subscriber.ae_title != *ae_title || other.filter.is_some() != wanted.filter.is_some()
            });
            if list.len() >= UPS_SUBSCRIBERS_MAX {
                return Err(too_many());
            }
            list.push(wanted.clone());
            Ok(())
        })
        .await?;
        // Whatever is created from now on has this subscriber.
        let asked = wanted.filter.as_ref().map(filter_keys).transpose()?;
        // A step that goes on meanwhile is not missed: the ranges follow the order of the states.
        let ranges = match &asked {
            Some(asked) => find::ranges(asked),
            None => vec![keys::all_steps()],
        };
        let steps = self.uids_in(ranges);
        self.commit_all(steps, |held| {
            let wants = |step: &DataSet| asked.as_ref().is_none_or(|asked| asked.matches(step));
            match held.step.as_ref().is_some_and(wants) {
                true => subscribing(held, subscriber, false, lock),
                false => Ok(None),
            }
        })
        .await?;
        Ok(subscribed(sop_instance))
    }

    /// Ends a subscription. From a global one: all that this AE is subscribed to, as the Standard has it; from a
    /// filtered one the same, where the AE has no other global one. Answers whether there was one.
    ///
    /// # Errors
    /// [`Refusal::NoSuchStep`]; what the ledger says.
    pub async fn unsubscribe(&self, ae_title: &AeTitle, sop_instance: &Uid) -> Result<bool> {
        if !is_global(sop_instance) {
            return self.unsubscribe_from(ae_title, sop_instance).await;
        }
        let mut was_there = self.end_global(ae_title, sop_instance).await?;
        let (globally, _) = self.globally().await?;
        if globally.ae_titles().any(|other| other == *ae_title) {
            return Ok(was_there);
        }
        let watched = self.uids_in(vec![keys::watched_by(ae_title)]);
        let ended = self
            .commit_all(watched, |held| match held.step {
                Some(_) => unsubscribing(held, ae_title),
                None => Ok(None),
            })
            .await?;
        was_there |= ended > 0;
        Ok(was_there)
    }

    /// Ends a global subscription for steps that come; the AE stays subscribed to those that are there. Answers whether
    /// there was one.
    ///
    /// # Errors
    /// [`Refusal::NotAppropriate`] for a UID that is not one of the two well-known ones; what the ledger says.
    pub async fn suspend(&self, ae_title: &AeTitle, sop_instance: &Uid) -> Result<bool> {
        match is_global(sop_instance) {
            true => self.end_global(ae_title, sop_instance).await,
            false => Err(Refusal::NotAppropriate.error()),
        }
    }

    /// Tells all who are subscribed to anything that this server was restarted, or that it goes down (CC.2.4.3).
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn report_status(&self, is_going_down: bool) -> Result<()> {
        let status = if is_going_down { "GOING DOWN" } else { "RESTARTED" };
        let event = Event::scp_status(status);
        let mut told: Vec<AeTitle> = self.globally().await?.0.ae_titles().collect();
        told.extend(self.titles_in(keys::all_watched(), keys::watched_by).await?);
        told.sort_unstable();
        told.dedup();
        for ae in told {
            self.queue(&ae, &event).await?;
        }
        Ok(())
    }

    async fn end_global(&self, ae_title: &AeTitle, sop_instance: &Uid) -> Result<bool> {
        let is_filtered = *sop_instance == FILTERED_GLOBAL_SUBSCRIPTION;
        self.update_globally(|list| {
            let before = list.len();
            list.retain(|global| {
                // The global unsubscription ends both.
                global.subscriber.ae_title != *ae_title || (is_filtered && global.filter.is_none())
            });
            Ok(list.len() < before)
        })
        .await
    }

    async fn unsubscribe_from(&self, ae_title: &AeTitle, uid: &Uid) -> Result<bool> {
        loop {
            let held = self.held(uid).await?;
            let Some(plan) = unsubscribing(&held, ae_title)? else {
                return Ok(false);
            };
            if self.commit(&held, plan).await? {
                return Ok(true);
            }
        }
    }

    async fn update_globally<T: Send>(
        &self,
        mut change: impl FnMut(&mut Vec<Global>) -> Result<T> + Send,
    ) -> Result<T> {
        self.ledger()
            .update(keys::global(), |value| {
                let mut globally =
                    value.map_or(Ok(Globally::default()), |value| Globally::from_value(value))?;
                let answer = change(&mut globally.0)?;
                Ok((globally.to_value()?, Vec::new(), answer))
            })
            .await
    }
}

/// Subscribes to one step. Who is subscribed already stays as they are, unless this is `specific`.
fn subscribing(held: &Held, subscriber: Subscriber, specific: bool, tell: bool) -> Result<Option<Plan>> {
    let step = held.step()?;
    let mut plan = Plan::of(held, step.clone());
    let known = plan
        .subscribers
        .iter_mut()
        .find(|known| known.ae_title == subscriber.ae_title);
    match known {
        Some(_) if !specific => return Ok(None),
        Some(known) => known.lock = subscriber.lock,
        None if held.subscribers.len() >= UPS_SUBSCRIBERS_MAX => return Err(too_many()),
        None => plan.subscribers.push(subscriber),
    }
    if tell {
        let report = Event::state_report(held.uid, step);
        plan.initial.push((subscriber.ae_title, report));
    }
    Ok(Some(plan))
}

/// Ends the subscription to one step; `None` when there is none.
fn unsubscribing(held: &Held, ae_title: &AeTitle) -> Result<Option<Plan>> {
    let mut plan = Plan::of(held, held.step()?.clone());
    plan.subscribers.retain(|known| known.ae_title != *ae_title);
    Ok((plan.subscribers != held.subscribers).then_some(plan))
}

fn is_global(uid: &Uid) -> bool {
    [GLOBAL_SUBSCRIPTION, FILTERED_GLOBAL_SUBSCRIPTION].contains(uid)
}

fn subscribed(sop_instance: Uid) -> Outcome {
    Outcome {
        sop_instance,
        warning: None,
        change: None,
    }
}
