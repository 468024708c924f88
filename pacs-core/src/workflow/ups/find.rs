//! C-FIND on steps (PS3.4 CC.2.8), by whichever entries leave the fewest to look at.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use dicom_dictionary_std::tags;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::Ups;
use super::attributes::PRIORITIES;
use super::held::public;
use super::keys;
use super::state::State;
use crate::dataset::DataSet;
use crate::error::Result;
use crate::ledger::{Key, Ledger, data_set_from_value};
use crate::query::{KeyMatch, Keys};
use crate::uid::Uid;

/// Entries that are read at a time.
const PAGE_ENTRIES: usize = 256;

impl Ups {
    /// Answers each step that matches, with the keys that were asked for. Nothing is matched by, or answered of, the
    /// Transaction UID.
    ///
    /// By states from SCHEDULED on, within a state the most urgent first, and of those what is to start first; where
    /// a UID, a study or a patient is asked for, in the order of UIDs.
    pub fn find(&self, keys: Keys) -> BoxStream<'static, Result<DataSet>> {
        let keys = Arc::new(keys);
        let asked = Arc::clone(&keys);
        let steps = self.matching(keys);
        steps.map_ok(move |step| asked.answer(&step)).boxed()
    }

    /// The same steps, whole.
    pub fn steps(&self, keys: Keys) -> BoxStream<'static, Result<DataSet>> {
        self.matching(Arc::new(keys))
    }

    /// The steps of a study: which make it, were requested with it, or work on it.
    pub fn of_study(&self, study: &Uid) -> BoxStream<'static, Result<DataSet>> {
        self.kept(vec![keys::of_study(study)])
    }

    /// The steps of the patient with this Patient ID.
    pub fn of_patient(&self, id: &str) -> BoxStream<'static, Result<DataSet>> {
        self.kept(vec![keys::of_patient(id.trim())])
    }

    fn matching(&self, keys: Arc<Keys>) -> BoxStream<'static, Result<DataSet>> {
        let candidates = match keys.key(tags::SOP_INSTANCE_UID) {
            Some(KeyMatch::Uids(uids)) => {
                let exactly = |uid: &Uid| {
                    let key = Key::of("ups").text(uid);
                    key.range()
                };
                self.kept(uids.iter().map(exactly).collect())
            }
            _ => self.kept(ranges(&keys)),
        };
        candidates
            .try_filter(move |step| futures::future::ready(keys.matches(step)))
            .boxed()
    }

    /// The steps whose keys or entries lie in these ranges.
    fn kept(&self, ranges: Vec<Range<Bytes>>) -> BoxStream<'static, Result<DataSet>> {
        let ledger = Arc::clone(&self.inner.ledger);
        let steps = self.uids_in(ranges).and_then(move |uid| {
            let ledger = Arc::clone(&ledger);
            async move {
                // One that was changed since is looked at as it is now, one that was deleted is gone.
                let value = ledger.get(&keys::step(&uid)).await?;
                value
                    .map(|value| Ok(public(data_set_from_value(&value)?)))
                    .transpose()
            }
        });
        steps.try_filter_map(|step| async move { Ok(step) }).boxed()
    }

    /// The UIDs in the keys of these ranges.
    pub(super) fn uids_in(&self, ranges: Vec<Range<Bytes>>) -> BoxStream<'static, Result<Uid>> {
        let ledger: Arc<dyn Ledger> = Arc::clone(&self.inner.ledger);
        let begin = (ledger, VecDeque::from(ranges));
        let pages = stream::try_unfold(begin, |(ledger, mut ranges)| async move {
            let Some(range) = ranges.pop_front() else {
                return Ok(None);
            };
            let page = ledger.range(range.clone(), PAGE_ENTRIES).await?;
            if page.len() == PAGE_ENTRIES
                && let Some((last, _)) = page.last()
            {
                // The first key after it.
                let next = [last.as_ref(), &[0]].concat();
                ranges.push_front(Bytes::from(next)..range.end);
            }
            let uids: Vec<Result<Uid>> = page.iter().map(|(key, _)| keys::uid_in(key)).collect();
            Ok(Some((stream::iter(uids), (ledger, ranges))))
        });
        pages.try_flatten().boxed()
    }
}

/// Where the steps are that may match.
pub(super) fn ranges(asked: &Keys) -> Vec<Range<Bytes>> {
    if let Some(KeyMatch::Uids(uids)) = asked.key(tags::STUDY_INSTANCE_UID)
        && let [study] = uids.as_slice()
    {
        return vec![keys::of_study(study)];
    }
    if let Some(KeyMatch::Text(id)) = asked.key(tags::PATIENT_ID) {
        return vec![keys::of_patient(id)];
    }
    let states = State::ALL
        .into_iter()
        .filter(|state| may_be(asked.key(tags::PROCEDURE_STEP_STATE), state.as_str()));
    let (from, to) = match asked.key(tags::SCHEDULED_PROCEDURE_STEP_START_DATE_TIME) {
        Some(KeyMatch::DateTime { from, to }) => (*from, *to),
        _ => (i64::MIN, i64::MAX),
    };
    let priorities: Vec<u64> = (0..PRIORITIES.len())
        .filter(|at| {
            may_be(
                asked.key(tags::SCHEDULED_PROCEDURE_STEP_PRIORITY),
                PRIORITIES[*at],
            )
        })
        .map(|at| at as u64)
        .collect();
    states
        .flat_map(|state| priorities.iter().map(move |priority| (state, *priority)))
        .map(|(state, priority)| keys::work(state, priority, from, to))
        .collect()
}

/// Whether what has this value may match.
fn may_be(wanted: Option<&KeyMatch>, value: &str) -> bool {
    match wanted {
        Some(KeyMatch::Text(text)) => text == value,
        Some(KeyMatch::Any(alternatives)) => alternatives.iter().any(|one| may_be(Some(one), value)),
        _ => true,
    }
}
