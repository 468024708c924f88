//! One matching key, read once per query, and whether an element matches it (PS3.4 C.2.2.2).

use std::collections::BTreeSet;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::QueryOptions;
use super::number::{Number, numbers};
use super::person::PersonKey;
use super::temporal::{self, RangeForm, Span};
use super::wildcard::Pattern;
use crate::dataset::{DataSet, Element, Value, is_private_creator, standard_vr};
use crate::uid::Uid;

/// What a key asks of the values of its attribute.
///
/// `Debug` shows the kind, never the value: it is patient data.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum KeyMatch {
    /// Nothing: universal matching (C.2.2.2.3). The key only asks for the value to be returned.
    Universal,
    /// That there is no value: empty value matching, `""` (C.2.2.2.7).
    Empty,
    /// One of these UIDs, in ascending order: list of UID matching (C.2.2.2.2). Empty when the key
    /// held nothing that is a UID; then nothing matches.
    Uids(Vec<Uid>),
    /// This text, without the spaces around it: single value matching (C.2.2.2.1).
    Text(String),
    /// This number.
    Number(Number),
    /// Wild card matching (C.2.2.2.4).
    Wildcard(Pattern),
    /// A person's name, without regard to case and accents.
    Person(PersonKey),
    /// A date from `from` to `to`, both inside, as numbers of the form yyyymmdd (C.2.2.2.5.1).
    Date {
        /// First day.
        from: u32,
        /// Last day.
        to: u32,
    },
    /// A time of day from `from` to `to`, both inside, in microseconds since midnight (C.2.2.2.5.2).
    Time {
        /// First moment.
        from: u64,
        /// Last moment.
        to: u64,
    },
    /// A moment from `from` to `to`, both inside, in microseconds since 1970-01-01 UTC (C.2.2.2.5.3).
    DateTime {
        /// First moment.
        from: i64,
        /// Last moment.
        to: i64,
    },
    /// The moment that this time of day and the date under `date` make together, as of
    /// [`DateTime`](Self::DateTime): combined date-time matching (C.2.2.2.5.4).
    Combined {
        /// The attribute with the date.
        date: Tag,
        /// First moment.
        from: i64,
        /// Last moment.
        to: i64,
    },
    /// At least one item that matches all of these: sequence matching (C.2.2.2.6).
    Items(Vec<Key>),
    /// Any of these: several values in one key.
    Any(Vec<KeyMatch>),
    /// Each of these, by some value: several values in one key after negotiation of multiple value
    /// matching (C.2.2.2.8).
    All(Vec<KeyMatch>),
}

/// One key of a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// The attribute.
    pub tag: Tag,
    /// Its value representation: the Standard's, or the identifier's for what the Standard doesn't know.
    pub vr: VR,
    /// What it asks.
    pub wanted: KeyMatch,
}

/// What stands in an identifier and is never matched: it says how the identifier is encoded, or the
/// answering side fills it in (C.4.1.1.3).
pub(crate) fn is_never_matched(tag: Tag) -> bool {
    matches!(
        tag,
        tags::SPECIFIC_CHARACTER_SET
            | tags::QUERY_RETRIEVE_LEVEL
            | tags::RETRIEVE_AE_TITLE
            | tags::RETRIEVE_URL
            | tags::INSTANCE_AVAILABILITY
            | tags::TIMEZONE_OFFSET_FROM_UTC
            | tags::STORAGE_MEDIA_FILE_SET_ID
            | tags::STORAGE_MEDIA_FILE_SET_UID
    ) || tag.element() == 0
        || is_private_creator(tag)
}

impl Key {
    /// Reads the keys of an identifier or of one of its items, those that are matched.
    pub(crate) fn parse_all(keys: &DataSet, options: QueryOptions) -> Vec<Self> {
        let mut read: Vec<Self> = keys
            .iter()
            .filter(|element| !is_never_matched(element.tag))
            .map(|element| Self::parse(element, options))
            .filter(|key| key.wanted != KeyMatch::Universal)
            .collect();
        if options.combined_date_time {
            combine_pairs(keys, &mut read);
        }
        read
    }

    fn parse(element: &Element, options: QueryOptions) -> Self {
        let vr = standard_vr(element.tag).unwrap_or(element.vr);
        Self {
            tag: element.tag,
            vr,
            wanted: KeyMatch::parse(element, vr, options),
        }
    }

    /// How much it costs to decide, for an order: what is cheap and tells much apart comes first.
    pub(crate) fn cost(&self) -> u8 {
        match &self.wanted {
            KeyMatch::Uids(_) | KeyMatch::Text(_) | KeyMatch::Empty | KeyMatch::Number(_) => 0,
            KeyMatch::Date { .. } | KeyMatch::Time { .. } => 1,
            KeyMatch::Wildcard(_) | KeyMatch::DateTime { .. } | KeyMatch::Combined { .. } => 2,
            _ => 3,
        }
    }

    /// Whether [`matches`](Self::matches) looks at this element.
    pub(crate) fn looks_at(&self, tag: Tag) -> bool {
        self.tag == tag || matches!(self.wanted, KeyMatch::Combined { date, .. } if date == tag)
    }

    /// Whether `record` matches this key.
    pub fn matches(&self, record: &DataSet) -> bool {
        let element = record.get(self.tag);
        if let KeyMatch::Combined { date, from, to } = self.wanted {
            return combined_start(record.get(date), element).is_some_and(|at| from <= at && at <= to);
        }
        self.wanted.matches(element)
    }
}

impl std::fmt::Debug for KeyMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Universal => "Universal",
            Self::Empty => "Empty",
            Self::Uids(_) => "Uids",
            Self::Text(_) => "Text",
            Self::Number(_) => "Number",
            Self::Wildcard(_) => "Wildcard",
            Self::Person(_) => "Person",
            Self::Date { .. } => "Date",
            Self::Time { .. } => "Time",
            Self::DateTime { .. } => "DateTime",
            Self::Combined { .. } => "Combined",
            Self::Items(keys) => return f.debug_tuple("Items").field(keys).finish(),
            Self::Any(alternatives) => return f.debug_tuple("Any").field(alternatives).finish(),
            Self::All(parts) => return f.debug_tuple("All").field(parts).finish(),
        })
    }
}

impl KeyMatch {
    fn parse(element: &Element, vr: VR, options: QueryOptions) -> Self {
        if let Value::Items(items) = &element.value {
            // The Standard asks for one item; with several, an entity need match one of them.
            let mut read = items.iter().map(|item| Key::parse_all(item, options));
            return match (read.next(), read.len()) {
                (None, _) => Self::Universal,
                (Some(keys), _) if keys.is_empty() => Self::Universal,
                (Some(keys), 0) => Self::Items(keys),
                (Some(keys), _) => {
                    let rest: Vec<_> = read.collect();
                    if rest.iter().any(Vec::is_empty) {
                        return Self::Universal;
                    }
                    Self::Any(std::iter::once(keys).chain(rest).map(Self::Items).collect())
                }
            };
        }
        if element.bytes().is_empty() {
            return Self::Universal;
        }
        match vr {
            VR::SQ | VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN => Self::Universal,
            VR::AT | VR::FD | VR::FL | VR::SL | VR::SS | VR::SV | VR::UL | VR::US | VR::UV => {
                let as_vr = Element {
                    tag: element.tag,
                    vr,
                    value: element.value.clone(),
                };
                Self::several(numbers(&as_vr).map(Self::Number).collect(), options)
            }
            VR::UI => Self::parse_uids(element),
            _ => {
                let single = Element {
                    tag: element.tag,
                    vr,
                    value: element.value.clone(),
                };
                // A value that is named twice asks nothing more.
                let texts: BTreeSet<&str> = single.strings().filter(|text| !text.is_empty()).collect();
                let alternatives = texts
                    .into_iter()
                    .map(|text| Self::parse_text(text, vr, options))
                    .collect();
                Self::several(alternatives, options)
            }
        }
    }

    fn several(mut alternatives: Vec<Self>, options: QueryOptions) -> Self {
        if options.multiple_values {
            alternatives.retain(|one| *one != Self::Universal);
        } else if alternatives.contains(&Self::Universal) {
            return Self::Universal;
        }
        match alternatives.len() {
            0 => Self::Universal,
            1 => alternatives.remove(0),
            _ if options.multiple_values => Self::All(alternatives),
            _ => Self::Any(alternatives),
        }
    }

    fn parse_uids(element: &Element) -> Self {
        let mut uids = Vec::new();
        let mut asked = false;
        for text in element.strings() {
            match text {
                "" => continue,
                // Not of the Standard for a UID, but sent by real SCUs.
                "*" => return Self::Universal,
                "\"\"" => return Self::Empty,
                _ => asked = true,
            }
            uids.extend(Uid::parse(text));
        }
        if !asked {
            return Self::Universal;
        }
        uids.sort_unstable();
        uids.dedup();
        Self::Uids(uids)
    }

    fn parse_text(text: &str, vr: VR, options: QueryOptions) -> Self {
        match text {
            "\"\"" => return Self::Empty,
            // Wild cards are for some VRs only, but "*" is sent for all of them, to mean anything.
            "*" | "-" if matches!(vr, VR::DA | VR::TM | VR::DT) => return Self::Universal,
            "*" => return Self::Universal,
            _ => {}
        }
        let literal = || Self::Text(text.to_owned());
        match vr {
            VR::DA => temporal::range(text, temporal::date, 0, u32::MAX)
                .map_or_else(literal, |((from, to), _)| Self::Date { from, to }),
            VR::TM => temporal::range(text, temporal::time, 0, u64::MAX)
                .map_or_else(literal, |((from, to), _)| Self::Time { from, to }),
            VR::DT => temporal::range(text, temporal::date_time, i64::MIN, i64::MAX)
                .map_or_else(literal, |((from, to), _)| Self::DateTime { from, to }),
            VR::IS | VR::DS => Number::parse(text).map_or_else(literal, Self::Number),
            VR::PN => {
                PersonKey::parse(text, options.fuzzy_person_names).map_or(Self::Universal, Self::Person)
            }
            VR::AE | VR::CS | VR::LO | VR::LT | VR::SH | VR::ST | VR::UC | VR::UR | VR::UT => {
                match Pattern::parse(text) {
                    Some(pattern) if pattern.is_universal() => Self::Universal,
                    Some(pattern) => Self::Wildcard(pattern),
                    None => literal(),
                }
            }
            _ => literal(),
        }
    }

    /// Whether an attribute with this element (or none) matches. [`Combined`](Self::Combined) needs two
    /// attributes and is decided by [`Key::matches`] alone; here it doesn't match.
    pub fn matches(&self, element: Option<&Element>) -> bool {
        match self {
            Self::Universal => true,
            Self::Empty => element.is_none_or(Element::is_empty),
            Self::Any(alternatives) => alternatives.iter().any(|one| one.matches(element)),
            Self::All(parts) => parts.iter().all(|one| one.matches(element)),
            _ => element.is_some_and(|element| self.matches_value_of(element)),
        }
    }

    fn matches_value_of(&self, element: &Element) -> bool {
        let any = |wanted: &dyn Fn(&str) -> bool| element.strings().any(wanted);
        match self {
            Self::Universal => true,
            Self::Empty | Self::Any(_) | Self::All(_) => self.matches(Some(element)),
            Self::Combined { .. } => false,
            Self::Text(want) => any(&|text| text == want.as_str()),
            Self::Uids(uids) => match uids.as_slice() {
                [only] => any(&|text| text == only.as_str()),
                _ => any(&|text| uids.binary_search_by(|uid| uid.as_str().cmp(text)).is_ok()),
            },
            Self::Wildcard(pattern) => any(&|text| pattern.matches(text)),
            Self::Person(person) => any(&|text| person.matches(text)),
            Self::Number(want) => numbers(element).any(|number| number == *want),
            Self::Date { from, to } => {
                any(&|text| temporal::date(text).is_some_and(|(at, _)| *from <= at && at <= *to))
            }
            Self::Time { from, to } => {
                any(&|text| temporal::time(text).is_some_and(|(at, _)| *from <= at && at <= *to))
            }
            Self::DateTime { from, to } => {
                any(&|text| temporal::date_time(text).is_some_and(|(at, _)| *from <= at && at <= *to))
            }
            Self::Items(keys) => match &element.value {
                Value::Items(items) => items.iter().any(|item| keys.iter().all(|key| key.matches(item))),
                Value::Bytes(_) => false,
            },
        }
    }
}

/// Pairs of a date and a time that are one moment.
const PAIRS: [(Tag, Tag); 10] = [
    (tags::STUDY_DATE, tags::STUDY_TIME),
    (tags::SERIES_DATE, tags::SERIES_TIME),
    (tags::ACQUISITION_DATE, tags::ACQUISITION_TIME),
    (tags::CONTENT_DATE, tags::CONTENT_TIME),
    (tags::INSTANCE_CREATION_DATE, tags::INSTANCE_CREATION_TIME),
    (tags::PATIENT_BIRTH_DATE, tags::PATIENT_BIRTH_TIME),
    (
        tags::PERFORMED_PROCEDURE_STEP_START_DATE,
        tags::PERFORMED_PROCEDURE_STEP_START_TIME,
    ),
    (
        tags::PERFORMED_PROCEDURE_STEP_END_DATE,
        tags::PERFORMED_PROCEDURE_STEP_END_TIME,
    ),
    (
        tags::SCHEDULED_PROCEDURE_STEP_START_DATE,
        tags::SCHEDULED_PROCEDURE_STEP_START_TIME,
    ),
    (
        tags::SCHEDULED_PROCEDURE_STEP_END_DATE,
        tags::SCHEDULED_PROCEDURE_STEP_END_TIME,
    ),
];

/// Makes one condition of each pair whose two keys have the same form of range (C.2.2.2.5.4). The date's
/// own key stays: it follows from the combined one, and an index can choose by it.
fn combine_pairs(keys: &DataSet, read: &mut [Key]) {
    // Of several alternatives none is the one that the other key belongs to.
    let single = |tag| {
        let mut values = keys.strings(tag);
        values.next().filter(|_| values.next().is_none())
    };
    for (date_tag, time_tag) in PAIRS {
        let Some((dates, date_form)) =
            single(date_tag).and_then(|text| temporal::range(text, temporal::date, 0, u32::MAX))
        else {
            continue;
        };
        let Some((times, time_form)) =
            single(time_tag).and_then(|text| temporal::range(text, temporal::time, 0, u64::MAX))
        else {
            continue;
        };
        if date_form != time_form || date_form == RangeForm::Single {
            continue;
        }
        let (from, to) = combine(dates, times, date_form);
        if let Some(key) = read.iter_mut().find(|key| key.tag == time_tag) {
            key.wanted = KeyMatch::Combined {
                date: date_tag,
                from,
                to,
            };
        }
    }
}

fn combine(dates: Span<u32>, times: Span<u64>, form: RangeForm) -> Span<i64> {
    let moment = |date: u32, time: u64| {
        temporal::date_start(date).saturating_add(i64::try_from(time).unwrap_or(i64::MAX))
    };
    let from = match form {
        RangeForm::UpTo => i64::MIN,
        _ => moment(dates.0, times.0),
    };
    let to = match form {
        RangeForm::From => i64::MAX,
        _ => moment(dates.1, times.1),
    };
    (from, to)
}

/// When a date and a time began. A missing time is midnight, as a date-time without one begins there.
fn combined_start(date: Option<&Element>, time: Option<&Element>) -> Option<i64> {
    let (date, _) = temporal::date(date?.strings().next()?)?;
    let time = match time.and_then(|element| element.strings().next()) {
        Some(text) if !text.is_empty() => temporal::time(text)?.0,
        _ => 0,
    };
    temporal::date_start(date).checked_add(i64::try_from(time).ok()?)
}
