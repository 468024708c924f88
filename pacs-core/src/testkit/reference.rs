//! The reference: what an index must answer, written as plainly as the Standard says it, and slowly.
//!
//! It shares nothing with [`crate::query`] but the types: dates are compared as padded text, wild cards by
//! the definition's recursion, entities are gathered by walking all instances. It covers what the random
//! worlds of [`super::world`] hold, not every oddity of real data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use unicode_normalization::UnicodeNormalization;

use crate::dataset::{DataSet, Element, FrameTable, Value};
use crate::index::{Change, InstanceRecord, Totals};
use crate::query::Query;
use crate::uid::{Level, Uid};

/// The instances that an index must know, and nothing else.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reference {
    /// By SOP Instance UID.
    pub instances: BTreeMap<Uid, InstanceRecord>,
    /// Frame tables of these versions.
    pub frames: BTreeMap<Uid, Arc<FrameTable>>,
    /// Metadata of these versions.
    pub metadata: BTreeMap<Uid, Bytes>,
}

impl Reference {
    /// Applies one change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Store(record) => {
                let before = self.store((**record).clone());
                if before.is_none_or(|before| before.locator != record.locator) {
                    self.frames.remove(&record.key.instance);
                    self.metadata.remove(&record.key.instance);
                }
            }
            Change::Frames {
                instance,
                version,
                table,
            } => {
                let known = self.instances.get(instance);
                if known.is_some_and(|known| known.locator == *version) {
                    self.frames.insert(*instance, Arc::clone(table));
                }
            }
            Change::Metadata {
                instance,
                version,
                record,
            } => {
                let known = self.instances.get(instance);
                if known.is_some_and(|known| known.locator == *version) {
                    self.metadata.insert(*instance, record.clone());
                }
            }
            Change::Correct(key, correction) => {
                if self
                    .instances
                    .get(&key.instance)
                    .is_none_or(|known| known.key != *key)
                {
                    return;
                }
                for other in self
                    .instances
                    .values_mut()
                    .filter(|other| other.key.study == key.study)
                {
                    correction.correct(Level::Patient, &mut other.attributes.patient);
                    correction.correct(Level::Study, &mut other.attributes.study);
                    if other.key.series == key.series {
                        correction.correct(Level::Series, &mut other.attributes.series);
                    }
                }
            }
            Change::Remove(instance) => {
                self.instances.remove(instance);
                self.frames.remove(instance);
                self.metadata.remove(instance);
            }
        }
    }

    /// Instances of one entity agree here at every time: each is brought what is known of it.
    fn store(&mut self, record: InstanceRecord) -> Option<InstanceRecord> {
        let before = self.instances.remove(&record.key.instance);
        let key = record.key;
        self.instances.insert(key.instance, record.clone());
        for level in [Level::Patient, Level::Study, Level::Series] {
            let one = |other: &InstanceRecord| {
                other.key.study == key.study && (level != Level::Series || other.key.series == key.series)
            };
            let other = |other: &&InstanceRecord| one(other) && other.key.instance != key.instance;
            let in_place = || before.as_ref().filter(|before| before.key == key);
            let known = self.instances.values().find(other).or_else(in_place);
            let mut said = known.map_or_else(DataSet::new, |known| known.attributes.at(level).clone());
            record.tell(level, &mut said);
            for other in self.instances.values_mut().filter(|other| one(other)) {
                *other.attributes.at_mut(level) = said.clone();
            }
        }
        before
    }

    /// What an index must say of its totals.
    pub fn totals(&self) -> Totals {
        let count = |level| {
            let names: BTreeSet<String> = self.instances.values().map(|r| entity(r, level)).collect();
            names.len() as u64
        };
        Totals {
            patients: count(Level::Patient),
            studies: count(Level::Study),
            series: count(Level::Series),
            instances: count(Level::Instance),
            bytes: self.instances.values().map(|record| record.length).sum(),
        }
    }

    /// What an index must answer, by the name of the entity; elements without a value left out.
    ///
    /// Instances of one entity must agree about it.
    pub fn answers(&self, query: &Query) -> BTreeMap<String, DataSet> {
        let mut groups: BTreeMap<String, Vec<&InstanceRecord>> = BTreeMap::new();
        for record in self.instances.values() {
            groups
                .entry(entity(record, query.level()))
                .or_default()
                .push(record);
        }
        groups
            .into_iter()
            .map(|(name, records)| (name, self.record(query.level(), &records)))
            .filter(|(_, record)| matches(query, record))
            .collect()
    }

    /// All that is known of one entity and those above it.
    fn record(&self, level: Level, members: &[&InstanceRecord]) -> DataSet {
        let mut out = DataSet::new();
        for member in members {
            for above in Level::ALL.into_iter().filter(|above| *above <= level) {
                out.add_from(&member.attributes.at(above).with_values());
            }
        }
        let Some(first) = members.first() else {
            return out;
        };
        for above in Level::ALL.into_iter().filter(|above| *above <= level) {
            let name = entity(first, above);
            let below: Vec<&InstanceRecord> = self
                .instances
                .values()
                .filter(|r| entity(r, above) == name)
                .collect();
            let mut count = |tag, level| {
                let names: BTreeSet<String> = below.iter().map(|r| entity(r, level)).collect();
                out.put_text(tag, VR::IS, names.len().to_string());
            };
            match above {
                Level::Patient => {
                    count(tags::NUMBER_OF_PATIENT_RELATED_STUDIES, Level::Study);
                    count(tags::NUMBER_OF_PATIENT_RELATED_SERIES, Level::Series);
                    count(tags::NUMBER_OF_PATIENT_RELATED_INSTANCES, Level::Instance);
                }
                Level::Study => {
                    count(tags::NUMBER_OF_STUDY_RELATED_SERIES, Level::Series);
                    count(tags::NUMBER_OF_STUDY_RELATED_INSTANCES, Level::Instance);
                    let modalities = below
                        .iter()
                        .filter_map(|r| r.attributes.series.string(tags::MODALITY));
                    let classes = below.iter().map(|r| r.sop_class.as_str());
                    out.put_text(tags::MODALITIES_IN_STUDY, VR::CS, distinct(modalities));
                    out.put_text(tags::SOP_CLASSES_IN_STUDY, VR::UI, distinct(classes));
                }
                Level::Series => count(tags::NUMBER_OF_SERIES_RELATED_INSTANCES, Level::Instance),
                Level::Instance => {}
            }
        }
        out.retain(|element| !element.is_empty());
        out
    }
}

/// What names the entity that an instance belongs to.
pub fn entity(record: &InstanceRecord, level: Level) -> String {
    match level {
        Level::Patient => {
            let id = record.attributes.patient.string(tags::PATIENT_ID);
            id.unwrap_or_default().to_owned()
        }
        Level::Study => record.key.study.to_string(),
        // A series belongs to its study, should two studies use one UID.
        Level::Series => format!("{} {}", record.key.study, record.key.series),
        Level::Instance => record.key.instance.to_string(),
    }
}

fn distinct<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    let texts: BTreeSet<&str> = texts.collect();
    texts.into_iter().collect::<Vec<_>>().join("\\")
}

/// Whether an entity matches all keys of a query (PS3.4 C.2.2.2), fuzzy matching of names left out.
pub fn matches(query: &Query, record: &DataSet) -> bool {
    all_keys_match(query.keys(), record, query)
}

fn all_keys_match(keys: &DataSet, record: &DataSet, query: &Query) -> bool {
    keys.iter().all(|key| {
        if key.tag == tags::QUERY_RETRIEVE_LEVEL {
            return true;
        }
        if query.options().combined_date_time
            && let Some((date, time)) = MOMENTS.iter().find(|(_, time)| *time == key.tag)
            && let Some(answer) = combined(keys, record, *date, *time)
        {
            return answer;
        }
        key_matches(key, record.get(key.tag), query)
    })
}

fn key_matches(key: &Element, have: Option<&Element>, query: &Query) -> bool {
    // C.2.2.2.6: one item, all of whose keys match one item.
    if let Value::Items(items) = &key.value {
        let Some(wanted) = items.first().filter(|item| !item.is_empty()) else {
            return true;
        };
        if wanted.iter().all(Element::is_empty) {
            return true;
        }
        return match have.map(|element| &element.value) {
            Some(Value::Items(items)) => items.iter().any(|item| all_keys_match(wanted, item, query)),
            _ => false,
        };
    }
    // C.2.2.2.3: no value, or only "*".
    if key.is_empty() || key.vr != VR::US && key.strings().all(str::is_empty) {
        return true;
    }
    if key.vr == VR::US {
        return have.is_some_and(|element| element.bytes() == key.bytes());
    }
    let values: Vec<String> = match have {
        Some(element) if !element.is_empty() => element.strings().map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let mut wanted = key.strings().filter(|text| !text.is_empty());
    let one = |wanted: &str| match wanted {
        // Asterisks match a zero length value too; in a name, empty components ask nothing either.
        _ if wanted
            .chars()
            .all(|c| c == '*' || key.vr == VR::PN && matches!(c, '^' | '=' | ' ')) =>
        {
            true
        }
        // C.2.2.2.7.
        "\"\"" => values.is_empty(),
        _ => values.iter().any(|value| value_matches(key.vr, wanted, value)),
    };
    // C.2.2.2.8 after negotiation; any of them without.
    if query.options().multiple_values && key.vr != VR::UI {
        wanted.all(one)
    } else {
        wanted.any(one)
    }
}

fn value_matches(vr: VR, key: &str, value: &str) -> bool {
    match vr {
        VR::DA => in_range(key, value, date_least, date_most),
        VR::TM => in_range(key, value, time_least, time_most),
        VR::DT => in_range(key, value, moment_least, moment_most),
        VR::IS | VR::DS => number(key) == number(value),
        VR::PN => name_matches(key, value),
        VR::UI => key == value,
        _ => wild(&letters(key), &letters(value)),
    }
}

fn letters(text: &str) -> Vec<char> {
    text.chars().collect()
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok()
}

/// C.2.2.2.4, by the definition. A key without wild cards matches itself only.
fn wild(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|skipped| wild(rest, &text[skipped..])),
        Some(('?', rest)) => !text.is_empty() && wild(rest, &text[1..]),
        Some((letter, rest)) => text.first() == Some(letter) && wild(rest, &text[1..]),
    }
}

/// C.2.2.2.5: "a-b", "-b", "a-", or a single value, which is a range of itself.
fn in_range(key: &str, value: &str, least: fn(&str) -> String, most: fn(&str) -> String) -> bool {
    let (from, to) = key.split_once('-').unwrap_or((key, key));
    let value = least(value);
    (from.is_empty() || least(from) <= value) && (to.is_empty() || value <= most(to))
}

fn padded(text: &str, pattern: &str) -> String {
    let text: String = text.trim().chars().filter(|c| *c != ':').collect();
    let rest = pattern.get(text.len()..).unwrap_or_default();
    format!("{text}{rest}")
}

fn date_least(text: &str) -> String {
    padded(&undotted(text), "00000101")
}

fn date_most(text: &str) -> String {
    padded(&undotted(text), "99991231")
}

fn undotted(date: &str) -> String {
    date.chars().filter(|c| *c != '.').collect()
}

fn time_least(text: &str) -> String {
    padded(text, "000000.000000")
}

fn time_most(text: &str) -> String {
    padded(text, "235959.999999")
}

/// Takes values without an offset from UTC, or with one to the east: a hyphen is a range's.
fn moment_least(text: &str) -> String {
    moment(text, "00000101000000.000000")
}

fn moment_most(text: &str) -> String {
    moment(text, "99991231235959.999999")
}

/// A date-time as text that sorts as time does. It is turned to UTC minute by minute, as a clock is.
fn moment(text: &str, pattern: &str) -> String {
    let (local, offset) = text.split_once('+').unwrap_or((text, "0000"));
    let padded = padded(local, pattern);
    let field = |from: usize, to: usize| -> u32 {
        let digits = padded.get(from..to).and_then(|digits| digits.parse().ok());
        digits.unwrap_or_default()
    };
    let (mut year, mut month, mut day) = (field(0, 4), field(4, 6), field(6, 8));
    let (mut hour, mut minute) = (field(8, 10), field(10, 12));
    let offset: u32 = offset.trim().parse().unwrap_or_default();
    for _ in 0..offset / 100 * 60 + offset % 100 {
        if minute > 0 {
            minute -= 1;
            continue;
        }
        (minute, hour) = (59, (hour + 23) % 24);
        if hour == 23 {
            day -= 1;
        }
        if day == 0 {
            (year, month) = if month == 1 {
                (year - 1, 12)
            } else {
                (year, month - 1)
            };
            day = match month {
                2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
        }
    }
    let seconds = padded.get(12..).unwrap_or_default();
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{seconds}")
}

/// Dates and times that are one moment together.
const MOMENTS: [(Tag, Tag); 5] = [
    (tags::STUDY_DATE, tags::STUDY_TIME),
    (tags::SERIES_DATE, tags::SERIES_TIME),
    (tags::CONTENT_DATE, tags::CONTENT_TIME),
    (tags::PATIENT_BIRTH_DATE, tags::PATIENT_BIRTH_TIME),
    (
        tags::PERFORMED_PROCEDURE_STEP_START_DATE,
        tags::PERFORMED_PROCEDURE_STEP_START_TIME,
    ),
];

/// C.2.2.2.5.4: a date and its time, when both keys have the same form of range.
fn combined(keys: &DataSet, record: &DataSet, date: Tag, time: Tag) -> Option<bool> {
    if keys.strings(date).count() != 1 || keys.strings(time).count() != 1 {
        return None;
    }
    let (dates, times) = (keys.string(date)?, keys.string(time)?);
    let ((date_from, date_to), (time_from, time_to)) = (dates.split_once('-')?, times.split_once('-')?);
    if date_from.is_empty() != time_from.is_empty() || date_to.is_empty() != time_to.is_empty() {
        return None;
    }
    let Some(date) = record.string(date) else {
        return Some(false);
    };
    let time = record.string(time).unwrap_or_default();
    let have = format!("{}{}", date_least(date), time_least(time));
    let from = format!("{}{}", date_least(date_from), time_least(time_from));
    let to = format!("{}{}", date_most(date_to), time_most(time_to));
    Some((date_from.is_empty() || from <= have) && (date_to.is_empty() || have <= to))
}

/// C.2.2.2.1.1: without regard to case and accents, by component group.
fn name_matches(key: &str, value: &str) -> bool {
    let (key, value) = (name_groups(key), name_groups(value));
    let same = |key: &Vec<String>, value: &Vec<String>| {
        // Components that one side leaves out are empty.
        let length = key.len().max(value.len());
        let joined = |group: &Vec<String>| {
            let mut group = group.clone();
            group.resize(length, String::new());
            letters(&group.join("^"))
        };
        let short = letters(&value.join("^"));
        wild(&joined(key), &joined(value)) || wild(&letters(&key.join("^")), &short)
    };
    let empty = |group: &Vec<String>| group.iter().all(String::is_empty);
    match key.as_slice() {
        [only] if only.iter().all(|component| component.chars().all(|c| c == '*')) => true,
        [only] => value.iter().any(|group| !empty(group) && same(only, group)),
        _ => key.iter().enumerate().all(|(at, group)| {
            let have = value.get(at).cloned().unwrap_or_default();
            let asks_nothing = group.iter().all(|component| component.chars().all(|c| c == '*'));
            asks_nothing || !empty(&have) && same(group, &have)
        }),
    }
}

/// Groups of components, without the empty ones at the ends.
fn name_groups(name: &str) -> Vec<Vec<String>> {
    let mut groups: Vec<Vec<String>> = name
        .split('=')
        .map(|group| {
            let mut components: Vec<String> = group.split('^').map(plain).collect();
            while components.last().is_some_and(String::is_empty) {
                components.pop();
            }
            components
        })
        .collect();
    while groups.len() > 1 && groups.last().is_some_and(Vec::is_empty) {
        groups.pop();
    }
    groups
}

/// Lower case, Latin letters without accents.
fn plain(text: &str) -> String {
    text.trim()
        .to_lowercase()
        .replace('ß', "ss")
        // The same letter, at the end of a word.
        .replace('ς', "σ")
        .replace('ø', "o")
        .replace('ł', "l")
        .nfd()
        .filter(|c| !('\u{0300}'..='\u{036F}').contains(c))
        .nfc()
        .collect()
}

/// The unique key of an answer, by which answers are told apart.
pub fn name_of_answer(level: Level, answer: &DataSet) -> String {
    let text = |tag: Tag| answer.string(tag).unwrap_or_default().to_owned();
    match level {
        Level::Patient => text(tags::PATIENT_ID),
        Level::Study => text(tags::STUDY_INSTANCE_UID),
        Level::Series => format!(
            "{} {}",
            text(tags::STUDY_INSTANCE_UID),
            text(tags::SERIES_INSTANCE_UID)
        ),
        Level::Instance => text(tags::SOP_INSTANCE_UID),
    }
}
