//! How a query finds candidates: unique keys first, else the most selective secondary key, else
//! everything.

use std::collections::{BTreeSet, VecDeque};
use std::ops::{Bound, ControlFlow};

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use pacs_core::error::Result;
use pacs_core::query::{Key, KeyMatch, Query};
use pacs_core::uid::{Level, Uid};

use super::bound;
use super::codec::uid_key;
use super::entries::{Entries, Filter, Restriction};
use super::keys::{Form, KeyRange, Kind, PATIENT_KINDS, STUDY_KINDS, modality_prefix, patient_key};
use super::page::Page;
use super::record::Study;
use super::tables::{self, Place, Table, Tables, number, number_at_end, study_key};

/// Entries that are looked at to learn how many a key has. A few microseconds a hundred.
const PROBE_MAX: usize = bound(2_000, 2);
/// Candidates that are found ahead.
const AHEAD_MAX: usize = bound(64, 2);

/// A stretch of places, both ends inside: a study, a series, an instance, or what is left of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) from: Place,
    pub(super) to: Place,
    /// In the series of `from`, nothing after this number: what it was when the series was come to.
    /// What is stored anew behind a stream would otherwise be met again.
    pub(super) last_instance: u32,
}

impl Stretch {
    pub(super) fn study(study: u32) -> Self {
        let place = |n| Place {
            study,
            series: n,
            instance: n,
        };
        Self {
            from: place(0),
            to: place(u32::MAX),
            last_instance: u32::MAX,
        }
    }

    pub(super) fn series(study: u32, series: u32) -> Self {
        let place = |instance| Place {
            study,
            series,
            instance,
        };
        Self {
            from: place(0),
            to: place(u32::MAX),
            last_instance: u32::MAX,
        }
    }

    pub(super) fn instance(place: Place) -> Self {
        Self {
            from: place,
            to: place,
            last_instance: u32::MAX,
        }
    }

    /// Without the series that come after now; `next_series` is the number of the first of them.
    pub(super) fn as_of_now(self, next_series: u32) -> Self {
        let series = self.to.series.min(next_series.saturating_sub(1));
        Self {
            to: Place { series, ..self.to },
            ..self
        }
    }

    /// The part that is of one series, without the instances that come after now.
    pub(super) fn within_series(self, series: u32, next_instance: u32) -> Self {
        let whole = Self::series(self.from.study, series);
        let begun = self.from.series == series && self.last_instance < u32::MAX;
        let last = if begun {
            self.last_instance
        } else {
            next_instance.saturating_sub(1)
        };
        let mut to = whole.to.min(self.to);
        to.instance = to.instance.min(last);
        Self {
            from: whole.from.max(self.from),
            to,
            last_instance: last,
        }
    }

    /// What is left after `series`; `None` when nothing is.
    pub(super) fn after_series(self, series: u32) -> Option<Self> {
        let from = Place {
            series: series.checked_add(1)?,
            instance: 0,
            ..self.from
        };
        let last_instance = u32::MAX;
        (from <= self.to).then_some(Self {
            from,
            last_instance,
            ..self
        })
    }

    /// What is left after `instance`; `None` when nothing is.
    pub(super) fn after_instance(self, instance: Place) -> Option<Self> {
        let from = Place {
            instance: instance.instance.checked_add(1)?,
            ..instance
        };
        (from <= self.to).then_some(Self { from, ..self })
    }
}

/// Where candidates below the patient come from.
pub(super) enum Source {
    /// Every study from one number on, before another.
    All(u32, u32),
    /// These.
    List(VecDeque<Stretch>),
    /// Those that entries lead to.
    Entries(Box<Entries>),
}

/// Candidates below the patient, found a few at a time.
pub(super) struct Candidates {
    source: Source,
    ahead: VecDeque<Stretch>,
}

impl Candidates {
    pub(super) fn all(tables: &impl Tables) -> Result<Self> {
        Ok(Self::of(Source::All(0, tables::state(tables)?.next_study)))
    }

    pub(super) fn list(list: impl IntoIterator<Item = Stretch>) -> Self {
        Self::of(Source::List(list.into_iter().collect()))
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            ahead: VecDeque::new(),
        }
    }

    /// The studies of the patient with this Patient ID, and perhaps others.
    pub(super) fn of_patient(tables: &impl Tables, id: &str) -> Result<Self> {
        if id.is_empty() {
            // What has no value has no entry.
            return Self::all(tables);
        }
        let range = KeyRange::text(STUDY_KINDS[0].code, id);
        let entries = Entries::new(STUDY_KINDS[0], vec![range], Filter::All);
        let entries = entries.before(tables::state(tables)?.next_study);
        Ok(Self::of(Source::Entries(Box::new(entries))))
    }

    /// The next candidate. `Ok(None)` when there is none, or when the page is full.
    pub(super) fn next<A, T: Tables>(&mut self, tables: &T, page: &mut Page<A>) -> Result<Option<Stretch>> {
        // What was told is known as long as the page lasts.
        let mut is_told = !page.is_new();
        if self.ahead.is_empty() {
            is_told = false;
            self.look_ahead(tables, page)?;
        }
        if T::IS_FAR && !is_told {
            let studies: Vec<_> = self.ahead.iter().map(|next| study_key(next.from.study)).collect();
            tables.expect(studies.iter().map(|key| (Table::Studies, key.to_vec())))?;
            let mut patients = Vec::new();
            for key in studies {
                let study = tables.get(Table::Studies, &key, Study::decode)?;
                patients.extend(study.map(|study| (Table::Patients, study.patient_key)));
            }
            tables.expect(patients)?;
        }
        Ok(self.ahead.pop_front())
    }

    /// Finds the next candidates. None when there are none, or when the page is full.
    fn look_ahead<A>(&mut self, tables: &impl Tables, page: &mut Page<A>) -> Result<()> {
        while self.ahead.is_empty() && !page.is_full() {
            let more = match &mut self.source {
                Source::List(list) => {
                    let some = list.len().min(AHEAD_MAX);
                    self.ahead.extend(list.drain(..some));
                    !list.is_empty()
                }
                Source::All(from, end) => {
                    let mut more = false;
                    let (first, end) = (study_key(*from), study_key(*end));
                    let between = (Bound::Included(&first[..]), Bound::Excluded(&end[..]));
                    tables.range(Table::Studies, between, AHEAD_MAX, |key, _| {
                        let number = number(key)?;
                        self.ahead.push_back(Stretch::study(number));
                        more = true;
                        *from = number.saturating_add(1);
                        Ok(ControlFlow::Continue(()))
                    })?;
                    more
                }
                Source::Entries(entries) => entries.studies(tables, page, |number| {
                    self.ahead.push_back(Stretch::study(number));
                    self.ahead.len() < AHEAD_MAX
                })?,
            };
            if !more {
                // What is found already is all there is.
                self.source = Source::List(VecDeque::new());
                break;
            }
        }
        Ok(())
    }

    /// Whether nothing is left.
    pub(super) fn is_done(&self) -> bool {
        self.ahead.is_empty() && matches!(&self.source, Source::List(list) if list.is_empty())
    }
}

/// Candidates below the patient for a query.
pub(super) fn candidates(tables: &impl Tables, query: &Query) -> Result<Candidates> {
    if query.level() == Level::Instance
        && let Some(uids) = uids(query, tags::SOP_INSTANCE_UID)
    {
        return instances(tables, uids).map(Candidates::list);
    }
    if query.level() >= Level::Series
        && let Some(uids) = uids(query, tags::SERIES_INSTANCE_UID)
    {
        let mut list = Vec::new();
        for uid in uids {
            list.extend(series(tables, uid)?);
        }
        return Ok(Candidates::list(list));
    }
    if let Some(uids) = uids(query, tags::STUDY_INSTANCE_UID) {
        let mut list = Vec::new();
        for uid in uids {
            list.extend(study(tables, uid)?);
        }
        return Ok(Candidates::list(list));
    }
    match best(tables, ways(tables, query, STUDY_KINDS)?)? {
        Some(entries) => Ok(Candidates::of(Source::Entries(Box::new(entries)))),
        None => Candidates::all(tables),
    }
}

fn uids(query: &Query, tag: Tag) -> Option<&[Uid]> {
    match query.key(tag) {
        Some(KeyMatch::Uids(uids)) => Some(uids),
        _ => None,
    }
}

/// The study with this UID.
pub(super) fn study(tables: &impl Tables, uid: &Uid) -> Result<Option<Stretch>> {
    let number = tables.get(Table::StudyUids, &uid_key(uid), number)?;
    Ok(number.map(Stretch::study))
}

/// The series with this UID: one, but for senders that use a UID in several studies.
pub(super) fn series(tables: &impl Tables, uid: &Uid) -> Result<Vec<Stretch>> {
    let range = KeyRange::prefix(uid_key(uid));
    let mut list = Vec::new();
    let between = (Bound::Included(&*range.from), Bound::Excluded(&*range.to));
    tables.range(Table::SeriesUids, between, usize::MAX, |key, value| {
        let series = number(value)?;
        list.extend(number_at_end(key).map(|study| Stretch::series(study, series)));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(list)
}

/// The instances with these UIDs, those of one series together.
pub(super) fn instances(tables: &impl Tables, uids: &[Uid]) -> Result<Vec<Stretch>> {
    tables.expect(uids.iter().map(|uid| (Table::InstanceUids, uid_key(uid))))?;
    let mut places = Vec::new();
    for uid in uids {
        places.extend(tables.get(Table::InstanceUids, &uid_key(uid), Place::of_key)?);
    }
    places.sort_unstable();
    Ok(places.into_iter().map(Stretch::instance).collect())
}

/// Where candidates for patients come from.
pub(super) enum Patients {
    /// The table of patients from this key on, up to another, if their Patient ID may match.
    Table(KeyRange, Filter),
    /// These keys.
    List(VecDeque<Vec<u8>>),
    /// Those that entries lead to.
    Entries(Box<Entries>),
}

/// Candidates for a query of patients.
pub(super) fn patients(tables: &impl Tables, query: &Query) -> Result<Patients> {
    match query.key(tags::PATIENT_ID) {
        Some(KeyMatch::Text(id)) => return Ok(Patients::List([patient_key(id)].into())),
        Some(KeyMatch::Any(ids)) => {
            // A set, for a key may hold one value twice.
            let keys: Option<BTreeSet<_>> = ids
                .iter()
                .map(|id| match id {
                    KeyMatch::Text(id) => Some(patient_key(id)),
                    _ => None,
                })
                .collect();
            if let Some(keys) = keys {
                return Ok(Patients::List(keys.into_iter().collect()));
            }
        }
        Some(KeyMatch::Wildcard(pattern)) if !pattern.prefix().is_empty() => {
            let kept = pattern.prefix().as_bytes();
            let range = KeyRange::prefix(kept[..kept.len().min(64)].to_vec());
            return Ok(Patients::Table(range, Filter::Pattern(vec![pattern.clone()])));
        }
        _ => {}
    }
    match best(tables, ways(tables, query, PATIENT_KINDS)?)? {
        Some(entries) => Ok(Patients::Entries(Box::new(entries))),
        None => {
            let everything = KeyRange {
                from: Vec::new(),
                to: vec![u8::MAX],
            };
            Ok(Patients::Table(everything, Filter::All))
        }
    }
}

/// The ways that the keys of a query offer.
fn ways(tables: &impl Tables, query: &Query, kinds: &[Kind]) -> Result<Vec<Entries>> {
    let mut ways = Vec::new();
    let state = tables::state(tables)?;
    let incomplete = state.kinds_below_study;
    let complete = |kind: &&Kind| query.level() <= Level::Study || incomplete & 1 << kind.code == 0;
    for key in query.matching() {
        // A series of a modality stands in a study that has the modality.
        let tag = match key.tag {
            tags::MODALITY => tags::MODALITIES_IN_STUDY,
            tag => tag,
        };
        for kind in kinds.iter().filter(complete).filter(|kind| kind.tag == tag) {
            let mut ranges = Vec::new();
            let mut filter = Filter::All;
            if add(*kind, &key.wanted, query, &mut ranges, &mut filter) {
                ways.push(Entries::new(*kind, ranges, filter).before(state.next_study));
            }
        }
    }
    Ok(ways)
}

/// Adds the ranges in which every entity that matches has an entry; `false` when there are none such.
fn add(
    kind: Kind,
    wanted: &KeyMatch,
    query: &Query,
    ranges: &mut Vec<KeyRange>,
    filter: &mut Filter,
) -> bool {
    match (kind.form, wanted) {
        (_, KeyMatch::Any(alternatives)) => {
            // One filter serves all ranges: each alternative's ranges must pass it.
            let mut all = Filter::All;
            for one in alternatives {
                let mut own = Filter::All;
                if !add(kind, one, query, ranges, &mut own) {
                    return false;
                }
                all = all.or(own, one);
            }
            *filter = all;
            true
        }
        (_, KeyMatch::All(parts)) => parts.iter().any(|one| {
            ranges.clear();
            add(kind, one, query, ranges, filter)
        }),
        (Form::Text, KeyMatch::Text(text)) => {
            ranges.push(KeyRange::text(kind.code, text));
            true
        }
        (Form::Text, KeyMatch::Wildcard(pattern)) => {
            ranges.push(KeyRange::text_prefix(kind.code, pattern.prefix()));
            *filter = Filter::Pattern(vec![pattern.clone()]);
            true
        }
        (Form::Person, KeyMatch::Person(person)) => {
            ranges.push(match person.exact() {
                Some(group) => KeyRange::text(kind.code, group),
                None => KeyRange::text_prefix(kind.code, person.prefix()),
            });
            *filter = Filter::Person(vec![person.clone()]);
            true
        }
        (Form::Date, KeyMatch::Date { from, to }) => {
            ranges.push(KeyRange::dates(&[kind.code], *from, *to));
            ranges.push(KeyRange::irregular_dates(&[kind.code]));
            true
        }
        (Form::ModalityDate, KeyMatch::Text(modality)) => {
            let prefix = modality_prefix(kind.code, modality);
            match query.key(tags::STUDY_DATE) {
                Some(KeyMatch::Date { from, to }) => {
                    ranges.push(KeyRange::dates(&prefix, *from, *to));
                    ranges.push(KeyRange::irregular_dates(&prefix));
                }
                _ => ranges.push(KeyRange::prefix(prefix)),
            }
            true
        }
        _ => false,
    }
}

/// The way with the fewest entries; where all have many, the first two together.
fn best(tables: &impl Tables, mut ways: Vec<Entries>) -> Result<Option<Entries>> {
    let mut counted = Vec::with_capacity(ways.len());
    for (at, way) in ways.iter().enumerate() {
        let count = way.probe(tables, PROBE_MAX)?;
        counted.push((count, way.walks_all(), at));
    }
    counted.sort_unstable();
    let Some(&(count, _, first)) = counted.first() else {
        return Ok(None);
    };
    let second = counted
        .get(1)
        .filter(|_| count >= PROBE_MAX)
        .map(|&(_, _, second)| second);
    let second = second.map(|at| std::mem::replace(&mut ways[at], Entries::nothing()));
    let mut best = ways.swap_remove(first);
    // Modality and date hold the date already.
    if let Some(second) = second.filter(|second| !best.includes(second)) {
        best.restriction = Some(Restriction::new(second));
    }
    Ok(Some(best))
}

/// Keys whose attributes belong to the study or above, where the study has the attribute: decided before
/// its series are read.
pub(super) fn of_study(query: &Query) -> Vec<Key> {
    let above = |key: &&Key| {
        key.tag == tags::STUDY_INSTANCE_UID || STUDY_KINDS.iter().any(|kind| kind.tag == key.tag)
    };
    query.matching().iter().filter(above).cloned().collect()
}

/// Keys whose attributes belong to the series, where it has the attribute: decided before its instances
/// are read.
pub(super) fn of_series(query: &Query) -> Vec<Key> {
    let above = |key: &&Key| {
        matches!(
            key.tag,
            tags::SERIES_INSTANCE_UID | tags::MODALITY | tags::SERIES_NUMBER
        )
    };
    query.matching().iter().filter(above).cloned().collect()
}
