//! A query of the worklist, and the walk that answers it: [`WorklistQuery`].

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use super::entries::{self, By, Identity};
use super::{attributes, read};
use crate::dataset::{DataSet, Value, compact};
use crate::error::Result;
use crate::give_way::give_way;
use crate::ledger::{Ledger, after};
use crate::query::{Key, KeyMatch, Pattern, QueryOptions, answer, check_size, is_never_matched};

/// What is asked of a worklist. Cheap to clone.
#[derive(Clone, Debug)]
pub struct WorklistQuery {
    asked: Arc<Asked>,
}

#[derive(Debug)]
struct Asked {
    keys: DataSet,
    /// The keys that restrict; those cheap to decide come first.
    matching: Vec<Key>,
    unsupported: Vec<Tag>,
}

impl WorklistQuery {
    /// Reads the identifier of a C-FIND request (PS3.4 K.4.1.1.3.1), in normal form.
    ///
    /// - Matching keys are all attributes of the modules of K.6.1.2.1, in sequences too (C.2.2.2.6), with any kind of
    ///   matching that their VR allows.
    /// - A range of dates with a range of times is one range of moments (table K.6-1, remark on Scheduled Procedure Step
    ///   Start Time).
    /// - Any other attribute is answered where an item has it, doesn't restrict, and is listed by
    ///   [`unsupported`](Self::unsupported).
    /// - An identifier without any key matches nothing (K.4.1.3.1).
    ///
    /// # Errors
    /// `Invalid`, with the tag at fault, when a sequence has more than one item or a key is too long.
    pub fn from_identifier(identifier: &DataSet) -> Result<Self> {
        Self::read(identifier, false)
    }

    /// The same after fuzzy semantic matching of person names was agreed on (K.5.1).
    ///
    /// # Errors
    /// As [`from_identifier`](Self::from_identifier).
    pub fn from_identifier_fuzzy(identifier: &DataSet) -> Result<Self> {
        Self::read(identifier, true)
    }

    fn read(identifier: &DataSet, fuzzy_person_names: bool) -> Result<Self> {
        identifier.iter().try_for_each(|key| check_size(key, key.tag))?;
        let mut unsupported = Vec::new();
        let mut restricting = supported(identifier, attributes::is_known, &mut unsupported);
        if let [step] = identifier.items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE) {
            let step = supported(step, attributes::is_known_in_step, &mut unsupported);
            restricting.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![step]);
        }
        let options = QueryOptions {
            combined_date_time: true,
            fuzzy_person_names,
            ..QueryOptions::default()
        };
        let mut matching = Key::parse_all(&restricting, options);
        matching.sort_by_key(Key::cost);
        let mut keys = identifier.clone();
        keys.remove(tags::SPECIFIC_CHARACTER_SET);
        Ok(Self {
            asked: Arc::new(Asked {
                keys,
                matching,
                unsupported,
            }),
        })
    }

    /// Keys that are none of the information model: they are not matched, and answered where an item has them all the
    /// same (C-FIND status FF01, table K.4-1).
    pub fn unsupported(&self) -> &[Tag] {
        &self.asked.unsupported
    }

    /// Whether an item matches all keys.
    pub fn matches(&self, item: &DataSet) -> bool {
        !self.asked.keys.is_empty() && self.asked.matching.iter().all(|key| key.matches(item))
    }

    /// The response identifier for an item that matches: what was asked for, and nothing else; without a value where
    /// there is none (K.2.2.1.2, K.4.1.1.3.2). The caller adds Specific Character Set when it encodes it.
    pub fn answer(&self, item: &DataSet) -> DataSet {
        let mut out = answer(&self.asked.keys, &self.asked.matching, item);
        // "It shall not be sent with a zero-length value" (K.4.1.1.3.2).
        out.retain(|element| element.tag != tags::TIMEZONE_OFFSET_FROM_UTC || !element.is_empty());
        out
    }

    fn key(&self, tag: Tag) -> Option<&KeyMatch> {
        wanted(&self.asked.matching, tag)
    }

    /// The keys within Scheduled Procedure Step Sequence.
    fn step(&self) -> &[Key] {
        match self.key(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE) {
            Some(KeyMatch::Items(keys)) => keys,
            _ => &[],
        }
    }

    /// Where all items that can match are found, in several ways; the likely best first, and never none.
    fn plans(&self) -> Vec<Vec<Range<Bytes>>> {
        let step = self.step();
        // Who asks for a status may ask for one of a step that is over.
        let asks_status = wanted(step, tags::SCHEDULED_PROCEDURE_STEP_STATUS).is_some();
        let states: &[bool] = if asks_status { &[false, true] } else { &[false] };
        let everywhere = |ranges: &dyn Fn(bool) -> Vec<Range<Bytes>>| -> Vec<Range<Bytes>> {
            states.iter().flat_map(|over| ranges(*over)).collect()
        };
        let mut plans = Vec::new();
        for (by, tag) in [
            (By::Study, tags::STUDY_INSTANCE_UID),
            (By::Order, tags::ACCESSION_NUMBER),
            (By::Procedure, tags::REQUESTED_PROCEDURE_ID),
            (By::Patient, tags::PATIENT_ID),
        ] {
            match self.key(tag) {
                Some(KeyMatch::Wildcard(pattern)) if !beginning(pattern).is_empty() => {
                    plans.push(everywhere(&|over| {
                        vec![entries::under(by, over).beginning(beginning(pattern)).range()]
                    }));
                }
                Some(wanted) => {
                    if let Some(texts) = texts(wanted) {
                        plans.push(everywhere(&|over| {
                            let ranges = texts
                                .iter()
                                .map(|text| entries::under(by, over).text(text).range());
                            ranges.collect()
                        }));
                    }
                }
                None => {}
            }
        }
        if let Some(KeyMatch::Person(name)) = self.key(tags::PATIENT_NAME)
            && !name.prefix().is_empty()
        {
            let beginning = entries::name_beginning(name.prefix());
            plans.push(everywhere(&|over| {
                vec![entries::under(By::Name, over).beginning(beginning).range()]
            }));
        }
        let days = match wanted(step, tags::SCHEDULED_PROCEDURE_STEP_START_DATE) {
            // Dates have eight digits.
            Some(KeyMatch::Date { from, to }) => {
                Some([from, to].map(|day| format!("{:08}", day.min(&99_999_999))))
            }
            _ => None,
        };
        let of_days = |key: crate::ledger::Key| match &days {
            Some([from, to]) => entries::days(&key, from, to),
            None => key.range(),
        };
        for (by, tag) in [
            (By::Station, tags::SCHEDULED_STATION_AE_TITLE),
            (By::Modality, tags::MODALITY),
        ] {
            if let Some(texts) = wanted(step, tag).and_then(texts) {
                plans.push(everywhere(&|over| {
                    let keys = texts.iter().map(|text| entries::under(by, over).text(text));
                    keys.map(of_days).collect()
                }));
            }
        }
        if days.is_some() || plans.is_empty() {
            plans.push(everywhere(&|over| vec![of_days(entries::under(By::Date, over))]));
        }
        plans
    }
}

/// The keys of a level that are matched. Those that the model doesn't have are listed.
fn supported(keys: &DataSet, is_known: fn(Tag) -> bool, unsupported: &mut Vec<Tag>) -> DataSet {
    let mut restricting = DataSet::new();
    for element in keys.iter().filter(|element| !is_never_matched(element.tag)) {
        if !attributes::is_matched(element.tag) {
            continue;
        }
        if is_known(element.tag) {
            restricting.put(without_unmatched(element));
        } else {
            unsupported.push(element.tag);
        }
    }
    restricting
}

/// A key without the sequences in it that are never matched.
fn without_unmatched(element: &crate::dataset::Element) -> crate::dataset::Element {
    let mut element = element.clone();
    if let Value::Items(items) = &mut element.value {
        for item in items {
            // One level is enough: Protocol Context Sequence stands in Scheduled Protocol Code Sequence alone.
            item.retain(|element| attributes::is_matched(element.tag));
        }
    }
    element
}

fn wanted(keys: &[Key], tag: Tag) -> Option<&KeyMatch> {
    let key = keys.iter().find(|key| key.tag == tag)?;
    Some(&key.wanted)
}

/// More alternatives than that are not looked up one by one.
const TEXTS_MAX: usize = 32;

/// The texts of which an item must have one, where the key says that.
fn texts(wanted: &KeyMatch) -> Option<Vec<&str>> {
    let texts: Option<Vec<&str>> = match wanted {
        KeyMatch::Text(text) => Some(vec![text]),
        KeyMatch::Uids(uids) => Some(uids.iter().map(|uid| uid.as_str()).collect()),
        KeyMatch::Any(several) => several
            .iter()
            .map(|one| match one {
                KeyMatch::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect(),
        _ => None,
    };
    texts.filter(|texts| texts.len() <= TEXTS_MAX)
}

/// With what each value that matches begins. Values have no spaces around them.
fn beginning(pattern: &Pattern) -> &str {
    pattern.prefix()
}

/// Where more than so many items are found in every way, the way is the likely best one.
const COUNTED_MAX: usize = 16 * 1024;

/// The ranges of the way that finds the fewest items: all are counted a little further, until one comes to its end.
async fn best(ledger: &dyn Ledger, mut plans: Vec<Vec<Range<Bytes>>>) -> Result<Vec<Range<Bytes>>> {
    let mut limit = 64;
    while plans.len() > 1 && limit < COUNTED_MAX {
        for at in 0..plans.len() {
            let mut found = 0;
            for range in &plans[at] {
                found += ledger.range(range.clone(), limit - found).await?.len();
                if found >= limit {
                    break;
                }
            }
            if found < limit {
                return Ok(plans.swap_remove(at));
            }
        }
        limit *= 4;
    }
    Ok(plans.into_iter().next().unwrap_or_default())
}

/// Entries that are read at a time.
const PAGE_ENTRIES: usize = 64;

struct Walk {
    ledger: Arc<dyn Ledger>,
    query: WorklistQuery,
    /// All that is walked; the first of them that are left are still to be read.
    ranges: Vec<Range<Bytes>>,
    left: VecDeque<Range<Bytes>>,
    /// Entries, and the items that they lead to.
    page: VecDeque<(Bytes, Bytes)>,
}

pub(super) fn answers(ledger: Arc<dyn Ledger>, query: WorklistQuery) -> BoxStream<'static, Result<DataSet>> {
    let walk = stream::try_unfold(None, move |walk: Option<Walk>| {
        let (ledger, query) = (Arc::clone(&ledger), query.clone());
        async move {
            let mut walk = match walk {
                Some(walk) => walk,
                None => Walk::begin(ledger, query).await?,
            };
            Ok(walk.next().await?.map(|found| (found, Some(walk))))
        }
    });
    walk.boxed()
}

impl Walk {
    async fn begin(ledger: Arc<dyn Ledger>, query: WorklistQuery) -> Result<Self> {
        let ranges = best(&*ledger, query.plans()).await?;
        Ok(Self {
            ledger,
            query,
            left: ranges.iter().cloned().collect(),
            ranges,
            page: VecDeque::new(),
        })
    }

    /// The answer for the next item that matches.
    async fn next(&mut self) -> Result<Option<DataSet>> {
        loop {
            let Some((entry, value)) = self.page.pop_front() else {
                if !self.turn_page().await? {
                    return Ok(None);
                }
                continue;
            };
            // Most of what is walked by doesn't match: it is read no further than the keys look.
            let matching = &self.query.asked.matching;
            let looked_at = |tag| matching.iter().any(|key| key.looks_at(tag));
            if !self.query.matches(&compact::from_bytes_of(&value, &looked_at)?) {
                continue;
            }
            let item = read(&value)?;
            if self.is_first(&entry, &item)? {
                return Ok(Some(self.query.answer(&item)));
            }
        }
    }

    /// Whether the walk comes by an item at this entry first, so that each is answered once.
    fn is_first(&self, entry: &Bytes, item: &DataSet) -> Result<bool> {
        let entries = entries::of(item)?;
        let walked = |range: &Range<Bytes>| entries.iter().filter(|one| range.contains(*one)).min();
        Ok(self.ranges.iter().find_map(walked) == Some(entry))
    }

    async fn turn_page(&mut self) -> Result<bool> {
        let Some(range) = self.left.pop_front() else {
            return Ok(false);
        };
        // A ledger may be ready at once, always: who asked must come to say that it is enough.
        give_way().await;
        let page = self.ledger.range(range.clone(), PAGE_ENTRIES).await?;
        if let Some((last, _)) = page.last().filter(|_| page.len() == PAGE_ENTRIES) {
            self.left.push_front(after(last)..range.end);
        }
        let items = page.iter().map(|(entry, _)| Ok(Identity::of_entry(entry)?.key()));
        let items = items.collect::<Result<Vec<_>>>()?;
        let values = self.ledger.get_all(&items).await?;
        // One that is removed meanwhile is not answered.
        let both = page.into_iter().zip(values);
        let both = both.filter_map(|((entry, _), value)| Some((entry, value?)));
        self.page.extend(both);
        Ok(true)
    }
}
