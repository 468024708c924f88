//! What is known of a patient, corrected in all steps of theirs.

use futures::StreamExt;

use super::attributes::check_values;
use super::held::{Plan, as_kept};
use super::keys;
use super::{ChangeKind, Ups, UpsChange};
use crate::dataset::DataSet;
use crate::error::Result;
use crate::patient::PatientId;
use crate::uid::Uid;

impl Ups {
    /// Puts the patient's attributes (those of group 0010) of `attributes` into every step of this patient, in whatever
    /// state, and into none with the same Patient ID by another issuer: after ADT A08 and A40. With another Patient ID among them the steps are those of
    /// another patient then. Nobody's Transaction UID is asked for, and subscribers are not told: the Standard has no
    /// event for it.
    ///
    /// # Errors
    /// [`Refusal::InvalidValue`](super::Refusal::InvalidValue) for a Patient ID that is too long; what the ledger says. Steps before the one that it
    /// was said of are changed.
    pub async fn set_patient(&self, prior: &PatientId, attributes: &DataSet) -> Result<Vec<UpsChange>> {
        let mut attributes = attributes.clone();
        attributes.retain(|element| element.tag.group() == 0x0010);
        check_values(&attributes)?;
        let attributes = as_kept(&attributes)?;
        // All are known before the first is changed.
        let mut found = self.uids_in(vec![keys::of_patient(prior.id())]);
        let mut uids: Vec<Uid> = Vec::new();
        while let Some(uid) = found.next().await {
            uids.push(uid?);
        }
        let mut changes = Vec::new();
        for uid in uids {
            loop {
                let held = self.held(&uid).await?;
                let is_theirs = |step: &&DataSet| PatientId::of(step).agrees(prior);
                let Some(old) = held.step.as_ref().filter(is_theirs) else {
                    break;
                };
                let mut step = old.clone();
                for element in attributes.iter() {
                    step.put(element.clone());
                }
                if step == *old {
                    break;
                }
                if self.commit(&held, Plan::of(&held, step.clone())).await? {
                    changes.push(self.changed(&uid, ChangeKind::Updated, step));
                    break;
                }
            }
        }
        Ok(changes)
    }
}
