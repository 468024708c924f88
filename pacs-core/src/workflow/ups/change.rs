//! Create, set, change the state, request cancellation, get; deletion of what is long done.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::StreamExt;

use super::attributes::{self, missing_in};
use super::event::{self, CANCEL_INFORMATION, Event};
use super::held::{Held, Plan, as_kept, public};
use super::keys;
use super::refusal::{Refusal, Warning};
use super::state::{Request, State, Verdict, verdict};
use super::{ChangeKind, FILTERED_GLOBAL_SUBSCRIPTION, GLOBAL_SUBSCRIPTION, Outcome, UPS_PUSH, Ups};
use crate::archive::Timestamp;
use crate::dataset::DataSet;
use crate::error::Result;
use crate::ledger::Step;
use crate::uid::{AeTitle, Uid};
use crate::workflow::reading;

impl Ups {
    /// Creates a step (PS3.4 CC.2.5). Its UID is `sop_instance`, else the SOP Instance UID among its attributes, else a
    /// new one. Those who are subscribed globally are told.
    ///
    /// Attributes that must be there and may be empty are added where they are missing
    /// ([`Warning::CreatedWithModifications`]). Worklist Label and the time of modification are filled in.
    ///
    /// # Errors
    /// [`Refusal::Duplicate`], [`Refusal::NotScheduled`], [`Refusal::MissingAttribute`], [`Refusal::MissingValue`],
    /// [`Refusal::InvalidValue`] with the attribute; what the ledger says.
    pub async fn create(&self, sop_instance: Option<Uid>, mut attributes: DataSet) -> Result<Outcome> {
        let within = match attributes.string(tags::SOP_INSTANCE_UID) {
            Some(text) => Some(
                Uid::parse(text).map_err(|_| Refusal::InvalidValue.with_tags([tags::SOP_INSTANCE_UID]))?,
            ),
            None => None,
        };
        let uid = match (sop_instance, within) {
            (Some(given), Some(within)) if given != within => {
                return Err(Refusal::InvalidValue.with_tags([tags::SOP_INSTANCE_UID]));
            }
            (given, within) => given.or(within).unwrap_or_else(Uid::random),
        };
        if [GLOBAL_SUBSCRIPTION, FILTERED_GLOBAL_SUBSCRIPTION].contains(&uid) {
            return Err(Refusal::InvalidValue.with_tags([tags::SOP_INSTANCE_UID]));
        }
        let was_completed = begin(&uid, &mut attributes)?;
        loop {
            let (held, plan) = self.creating(&uid, &attributes).await?;
            if self.commit(&held, plan).await? {
                break;
            }
        }
        Ok(Outcome {
            sop_instance: uid,
            warning: was_completed.then_some(Warning::CreatedWithModifications),
            change: Some(self.changed(&uid, ChangeKind::Created, attributes)),
        })
    }

    /// What is to become of a step that isn't there yet.
    async fn creating(&self, uid: &Uid, attributes: &DataSet) -> Result<(Held, Plan)> {
        let held = self.held(uid).await?;
        if held.step.is_some() {
            return Err(Refusal::Duplicate.error());
        }
        let (globally, expected) = self.globally().await?;
        let mut plan = Plan::of(&held, attributes.clone());
        plan.subscribers = globally.for_new(attributes)?;
        plan.events.push(Event::state_report(*uid, attributes));
        plan.events.extend(Event::assigned(*uid, attributes));
        // Who subscribes now gets this step by one way or the other.
        plan.further.push(Step::Expect(keys::global(), expected));
        Ok((held, plan))
    }

    /// Sets attributes of a step (PS3.4 CC.2.6); a sequence is set as a whole. While it is IN PROGRESS `transaction`
    /// must be the one that it was claimed with, before that there must be none. `transaction` counts before a
    /// Transaction UID among the attributes.
    ///
    /// # Errors
    /// [`Refusal::NoSuchStep`], [`Refusal::Final`], [`Refusal::TransactionUid`], [`Refusal::NotInProgress`],
    /// [`Refusal::OnlyCreatedScheduled`]; with the attribute [`Refusal::InvalidValue`], [`Refusal::MissingAttribute`],
    /// [`Refusal::MissingValue`]; what the ledger says.
    pub async fn set(
        &self,
        sop_instance: &Uid,
        transaction: Option<&Uid>,
        attributes: DataSet,
    ) -> Result<Outcome> {
        let check = attributes::check_update;
        self.set_checked(sop_instance, transaction, attributes, check)
            .await
    }

    /// The same for what the PACS itself sets, who may also set what no requester may.
    pub(crate) async fn set_as_scp(
        &self,
        sop_instance: &Uid,
        transaction: Option<&Uid>,
        attributes: DataSet,
    ) -> Result<Outcome> {
        let check = attributes::check_values;
        self.set_checked(sop_instance, transaction, attributes, check)
            .await
    }

    async fn set_checked(
        &self,
        sop_instance: &Uid,
        transaction: Option<&Uid>,
        mut attributes: DataSet,
        check: fn(&DataSet) -> Result<()>,
    ) -> Result<Outcome> {
        let within = attributes.remove(tags::TRANSACTION_UID);
        let within = within.and_then(|element| Uid::parse(element.strings().next()?).ok());
        let transaction = transaction.copied().or(within);
        let attributes = as_kept(&attributes)?;
        let step = loop {
            let held = self.held(sop_instance).await?;
            let old = held.step()?;
            match keys::state_of(old) {
                State::Completed | State::Canceled => return Err(Refusal::Final.error()),
                State::InProgress if !is_right(old, transaction.as_ref()) => {
                    return Err(Refusal::TransactionUid.error());
                }
                State::Scheduled if transaction.is_some() => return Err(Refusal::NotInProgress.error()),
                State::InProgress | State::Scheduled => {}
            }
            check(&attributes)?;
            let mut step = old.clone();
            for element in attributes.iter() {
                step.put(element.clone());
            }
            touch(&mut step);
            let mut plan = Plan::of(&held, step.clone());
            plan.events = event::of_update(*sop_instance, old, &step);
            if self.commit(&held, plan).await? {
                break step;
            }
        };
        Ok(self.done(sop_instance, ChangeKind::Updated, step))
    }

    /// Changes the state of a step (PS3.4 CC.2.1), as table CC.1.1-2 allows. To claim a step is to bring it to IN
    /// PROGRESS with a new Transaction UID, which every later change needs. A reading step whose reader cancels it is
    /// given back: in the same moment a new one waits in its place ([`Reading`](crate::workflow::Reading)).
    ///
    /// # Errors
    /// [`Refusal::NoSuchStep`], [`Refusal::Final`], [`Refusal::TransactionUid`], [`Refusal::InProgress`],
    /// [`Refusal::OnlyCreatedScheduled`], [`Refusal::NotInProgress`], and [`Refusal::FinalStateRequirements`] with the
    /// attributes that lack a value; what the ledger says.
    pub async fn change_state(
        &self,
        sop_instance: &Uid,
        state: State,
        transaction: Option<&Uid>,
    ) -> Result<Outcome> {
        loop {
            let held = self.held(sop_instance).await?;
            let old = held.step()?;
            let is_right = is_right(old, transaction);
            let verdict = verdict(Request::ChangeTo(state), is_right, keys::state_of(old));
            let next = match verdict {
                Verdict::Refuse(refusal) => return Err(refusal.error()),
                Verdict::Warn(warning) => return Ok(unchanged(sop_instance, warning)),
                // No row for a change of state says anything else.
                Verdict::Go(next) => next,
                Verdict::CancelAtOnce | Verdict::Tell => return Err(Refusal::NotAppropriate.error()),
            };
            let mut step = old.clone();
            if let Some(transaction) = transaction {
                step.put_uid(tags::TRANSACTION_UID, transaction);
            }
            enter(&mut step, next)?;
            let mut plan = Plan::of(&held, step.clone());
            plan.events.push(Event::state_report(*sop_instance, &step));
            let again = match next {
                State::Canceled => reading::again(&step),
                _ => None,
            };
            let Some((new, mut attributes)) = again else {
                if self.commit(&held, plan).await? {
                    return Ok(self.done(sop_instance, ChangeKind::StateChanged, step));
                }
                continue;
            };
            begin(&new, &mut attributes)?;
            let (place, replacing) = self.creating(&new, &attributes).await?;
            if self
                .commit_together(vec![(&held, plan), (&place, replacing)])
                .await?
            {
                let done = self.done(sop_instance, ChangeKind::StateChanged, step);
                self.changed(&new, ChangeKind::Created, attributes);
                return Ok(done);
            }
        }
    }

    /// Asks that a step be canceled (PS3.4 CC.2.2), by somebody who doesn't perform it. One that is SCHEDULED goes to
    /// CANCELED, through IN PROGRESS; of one that is IN PROGRESS the subscribers are told, and its performer decides.
    /// `information` may have Reason For Cancellation, Procedure Step Discontinuation Reason Code Sequence, Contact URI
    /// and Contact Display Name.
    ///
    /// # Errors
    /// [`Refusal::NoSuchStep`], [`Refusal::Completed`], [`Refusal::PerformerAway`] when it is IN PROGRESS and nobody is
    /// subscribed; what the ledger says.
    pub async fn request_cancel(
        &self,
        sop_instance: &Uid,
        requester: &AeTitle,
        information: &DataSet,
    ) -> Result<Outcome> {
        loop {
            let held = self.held(sop_instance).await?;
            let old = held.step()?;
            let (plan, kind, step) = match verdict(Request::Cancel, false, keys::state_of(old)) {
                Verdict::Refuse(refusal) => return Err(refusal.error()),
                Verdict::Warn(warning) => return Ok(unchanged(sop_instance, warning)),
                Verdict::Tell if held.subscribers.is_empty() => return Err(Refusal::PerformerAway.error()),
                Verdict::Tell => {
                    let mut plan = Plan::of(&held, old.clone());
                    let event = Event::cancel_requested(*sop_instance, requester, information);
                    plan.events.push(event);
                    (plan, ChangeKind::CancelRequested, old.clone())
                }
                Verdict::CancelAtOnce | Verdict::Go(_) => {
                    let (plan, step) = canceled_at_once(&held, old, requester, information)?;
                    (plan, ChangeKind::StateChanged, step)
                }
            };
            if self.commit(&held, plan).await? {
                return Ok(self.done(sop_instance, kind, step));
            }
        }
    }

    /// A step, and the Transaction UID that it was claimed with: for what the PACS itself does to it.
    pub(crate) async fn with_transaction(&self, sop_instance: &Uid) -> Result<(DataSet, Option<Uid>)> {
        let held = self.held(sop_instance).await?;
        let step = held.step()?.clone();
        let transaction = step
            .string(tags::TRANSACTION_UID)
            .and_then(|text| Uid::parse(text).ok());
        Ok((step, transaction))
    }

    /// A step, without its Transaction UID (PS3.4 CC.2.7.3).
    ///
    /// # Errors
    /// [`Refusal::NoSuchStep`]; what the ledger says.
    pub async fn get(&self, sop_instance: &Uid) -> Result<DataSet> {
        let held = self.held(sop_instance).await?;
        held.step()?;
        Ok(held.step.map(public).unwrap_or_default())
    }

    /// Deletes steps that came to their final state before a moment, unless somebody's deletion lock is on them, and
    /// events that have waited for delivery since before it. Answers how many steps.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn expire(&self, before: SystemTime) -> Result<u64> {
        let since = before.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let moment = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        self.expire_events(moment).await?;
        let range = keys::final_before(i64::try_from(moment).unwrap_or(i64::MAX));
        let mut old = self.uids_in(vec![range]);
        let mut deleted = 0;
        while let Some(uid) = old.next().await {
            let uid = uid?;
            loop {
                let held = self.held(&uid).await?;
                let Some(step) = held.step.clone() else { break };
                let is_locked = held.subscribers.iter().any(|subscriber| subscriber.lock);
                if is_locked || !keys::state_of(&step).is_final() {
                    break;
                }
                let mut plan = Plan::of(&held, DataSet::new());
                (plan.step, plan.subscribers) = (None, Vec::new());
                if self.commit(&held, plan).await? {
                    self.changed(&uid, ChangeKind::Deleted, step);
                    deleted += 1;
                    break;
                }
            }
        }
        Ok(deleted)
    }

    fn done(&self, sop_instance: &Uid, kind: ChangeKind, step: DataSet) -> Outcome {
        Outcome {
            sop_instance: *sop_instance,
            warning: None,
            change: Some(self.changed(sop_instance, kind, step)),
        }
    }
}

fn unchanged(sop_instance: &Uid, warning: Warning) -> Outcome {
    Outcome {
        sop_instance: *sop_instance,
        warning: Some(warning),
        change: None,
    }
}

/// Checks and completes a new step. Answers whether attributes that its requester should have given were added.
fn begin(uid: &Uid, attributes: &mut DataSet) -> Result<bool> {
    let was_completed = attributes::complete_new(attributes)?;
    attributes.put_uid(tags::SOP_CLASS_UID, &UPS_PUSH);
    attributes.put_uid(tags::SOP_INSTANCE_UID, uid);
    touch(attributes);
    Ok(was_completed)
}

/// Whether a Transaction UID is the right one: that of the step, and any where it has none and waits for one.
fn is_right(step: &DataSet, transaction: Option<&Uid>) -> bool {
    let of_step = step.string(tags::TRANSACTION_UID);
    match (transaction, of_step) {
        (Some(given), Some(of_step)) => given.as_str() == of_step,
        (Some(_), None) => keys::state_of(step) == State::Scheduled,
        (None, _) => false,
    }
}

/// The SCP uses its own time (table CC.2.5-3).
fn touch(step: &mut DataSet) {
    step.put_text(
        tags::SCHEDULED_PROCEDURE_STEP_MODIFICATION_DATE_TIME,
        VR::DT,
        Timestamp::now().date_time(),
    );
}

/// Brings a step to a state; to a final one only where its requirements are met.
fn enter(step: &mut DataSet, state: State) -> Result<()> {
    if state == State::Canceled {
        with_progress(step, |progress| {
            if progress
                .string(tags::PROCEDURE_STEP_CANCELLATION_DATE_TIME)
                .is_none()
            {
                progress.put_text(
                    tags::PROCEDURE_STEP_CANCELLATION_DATE_TIME,
                    VR::DT,
                    Timestamp::now().date_time(),
                );
            }
        });
    }
    step.put_text(tags::PROCEDURE_STEP_STATE, VR::CS, state.as_str());
    touch(step);
    let missing = match state.is_final() {
        true => missing_in(state, step),
        false => Vec::new(),
    };
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Refusal::FinalStateRequirements.with_tags(missing)),
    }
}

/// Changes the first item of the progress information, which is added where there is none.
fn with_progress(step: &mut DataSet, change: impl FnOnce(&mut DataSet)) {
    let mut items = step
        .items(tags::PROCEDURE_STEP_PROGRESS_INFORMATION_SEQUENCE)
        .to_vec();
    if items.is_empty() {
        items.push(DataSet::new());
    }
    change(&mut items[0]);
    step.put_items(tags::PROCEDURE_STEP_PROGRESS_INFORMATION_SEQUENCE, items);
}

/// SCHEDULED to CANCELED: we are its performer for that moment, and see to what the final state requires (CC.2.2.3).
fn canceled_at_once(
    held: &Held,
    old: &DataSet,
    requester: &AeTitle,
    information: &DataSet,
) -> Result<(Plan, DataSet)> {
    let mut step = old.clone();
    step.put_uid(tags::TRANSACTION_UID, &Uid::random());
    enter(&mut step, State::InProgress)?;
    let begun = Event::state_report(held.uid, &step);
    with_progress(&mut step, |progress| {
        let [reason, code, uri, name] = CANCEL_INFORMATION;
        let given = |tag| {
            information
                .get(tag)
                .filter(|element| !element.is_empty())
                .cloned()
        };
        for element in [reason, code].into_iter().filter_map(given) {
            progress.put(element);
        }
        // Whom to ask stands in an item of its own, for which the URI is required.
        if let Some(uri) = given(uri) {
            let contact = std::iter::once(uri).chain(given(name)).collect();
            progress.put_items(tags::PROCEDURE_STEP_COMMUNICATIONS_URI_SEQUENCE, vec![contact]);
        }
        if !progress.contains(code) {
            progress.put_items(code, vec![unspecified_reason()]);
        }
    });
    enter(&mut step, State::Canceled)?;
    let mut plan = Plan::of(held, step.clone());
    // Told of every request (CC.2.4.3).
    let requested = Event::cancel_requested(held.uid, requester, information);
    plan.events = vec![requested, begun, Event::state_report(held.uid, &step)];
    Ok((plan, step))
}

/// Of CID 9300, the reasons for discontinuation.
fn unspecified_reason() -> DataSet {
    let mut code = DataSet::new();
    code.put_text(tags::CODE_VALUE, VR::SH, "110513");
    code.put_text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, "DCM");
    code.put_text(tags::CODE_MEANING, VR::LO, "Discontinued for unspecified reason");
    code
}
