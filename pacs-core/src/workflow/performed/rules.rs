//! PS3.4 table F.7.2-1 as data: what must be said of a step when, and what may not be said later.
//!
//! Attributes that are not in it ("all other attributes", 3/3) may be created and set at any time. Codes are taken as
//! they come.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags::*;

use super::{PerformedStatus, empty, refused};
use crate::dataset::{DataSet, Element, Value, standard_vr};
use crate::error::Result;

/// How much is required of an attribute (PS3.5 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Type 1: a value.
    Value,
    /// Type 2: to be there.
    Presence,
    /// Type 3: nothing.
    Nothing,
}
use Need::{Nothing, Presence, Value as AValue};

/// A row of the table.
struct Rule {
    tag: Tag,
    /// When it is created.
    create: Need,
    /// Whether N-SET may set it.
    set: bool,
    /// When the step becomes final.
    last: Need,
    /// Of the items of a sequence.
    items: &'static [Rule],
}

/// What N-SET may not set.
const fn fixed(tag: Tag, create: Need) -> Rule {
    Rule {
        tag,
        create,
        set: false,
        last: Nothing,
        items: &[],
    }
}

/// What N-SET may set.
const fn set(tag: Tag, create: Need, last: Need) -> Rule {
    Rule {
        tag,
        create,
        set: true,
        last,
        items: &[],
    }
}

const fn with_items(rule: Rule, items: &'static [Rule]) -> Rule {
    Rule { items, ..rule }
}

const FIXED_REFERENCE: &[Rule] = &[
    fixed(REFERENCED_SOP_CLASS_UID, AValue),
    fixed(REFERENCED_SOP_INSTANCE_UID, AValue),
];

const REFERENCE: &[Rule] = &[
    set(REFERENCED_SOP_CLASS_UID, AValue, AValue),
    set(REFERENCED_SOP_INSTANCE_UID, AValue, AValue),
];

const SCHEDULED: &[Rule] = &[
    fixed(STUDY_INSTANCE_UID, AValue),
    with_items(fixed(REFERENCED_STUDY_SEQUENCE, Presence), FIXED_REFERENCE),
    fixed(ACCESSION_NUMBER, Presence),
    fixed(REQUESTED_PROCEDURE_ID, Presence),
    fixed(REQUESTED_PROCEDURE_DESCRIPTION, Presence),
    fixed(SCHEDULED_PROCEDURE_STEP_ID, Presence),
    fixed(SCHEDULED_PROCEDURE_STEP_DESCRIPTION, Presence),
    fixed(SCHEDULED_PROTOCOL_CODE_SEQUENCE, Presence),
];

/// What may be empty in an item may also be missing in one that is set: real modalities leave it out, and then it says
/// as little.
const SERIES: &[Rule] = &[
    set(PERFORMING_PHYSICIAN_NAME, Presence, Nothing),
    set(PROTOCOL_NAME, AValue, AValue),
    set(OPERATORS_NAME, Presence, Nothing),
    set(SERIES_INSTANCE_UID, AValue, AValue),
    set(SERIES_DESCRIPTION, Presence, Nothing),
    set(RETRIEVE_AE_TITLE, Presence, Nothing),
    with_items(set(REFERENCED_IMAGE_SEQUENCE, Presence, Nothing), REFERENCE),
    with_items(
        set(
            REFERENCED_NON_IMAGE_COMPOSITE_SOP_INSTANCE_SEQUENCE,
            Presence,
            Nothing,
        ),
        REFERENCE,
    ),
];

const RULES: &[Rule] = &[
    with_items(fixed(SCHEDULED_STEP_ATTRIBUTES_SEQUENCE, AValue), SCHEDULED),
    fixed(PATIENT_NAME, Presence),
    fixed(PATIENT_ID, Presence),
    fixed(ISSUER_OF_PATIENT_ID, Nothing),
    fixed(ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE, Nothing),
    fixed(OTHER_PATIENT_I_DS_SEQUENCE, Nothing),
    fixed(PATIENT_BIRTH_DATE, Presence),
    fixed(PATIENT_SEX, Presence),
    with_items(fixed(REFERENCED_PATIENT_SEQUENCE, Presence), FIXED_REFERENCE),
    fixed(ADMISSION_ID, Nothing),
    fixed(ISSUER_OF_ADMISSION_ID_SEQUENCE, Nothing),
    fixed(SERVICE_EPISODE_ID, Nothing),
    fixed(ISSUER_OF_SERVICE_EPISODE_ID_SEQUENCE, Nothing),
    fixed(SERVICE_EPISODE_DESCRIPTION, Nothing),
    fixed(PERFORMED_PROCEDURE_STEP_ID, AValue),
    fixed(PERFORMED_STATION_AE_TITLE, AValue),
    fixed(PERFORMED_STATION_NAME, Presence),
    fixed(PERFORMED_LOCATION, Presence),
    fixed(PERFORMED_PROCEDURE_STEP_START_DATE, AValue),
    fixed(PERFORMED_PROCEDURE_STEP_START_TIME, AValue),
    set(PERFORMED_PROCEDURE_STEP_STATUS, AValue, AValue),
    set(PERFORMED_PROCEDURE_STEP_DESCRIPTION, Presence, Nothing),
    set(PERFORMED_PROCEDURE_TYPE_DESCRIPTION, Presence, Nothing),
    set(PROCEDURE_CODE_SEQUENCE, Presence, Nothing),
    set(PERFORMED_PROCEDURE_STEP_END_DATE, Presence, AValue),
    set(PERFORMED_PROCEDURE_STEP_END_TIME, Presence, AValue),
    fixed(MODALITY, AValue),
    fixed(STUDY_ID, Presence),
    set(PERFORMED_PROTOCOL_CODE_SEQUENCE, Presence, Nothing),
    // "May not be empty": a series must exist, though it may have no instances (note 2).
    with_items(set(PERFORMED_SERIES_SEQUENCE, Presence, AValue), SERIES),
];

fn rule(tag: Tag) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.tag == tag)
}

/// What is missing, and what has no value though it must have one.
#[derive(Default)]
struct Lacking {
    missing: Vec<Tag>,
    without_value: Vec<Tag>,
}

impl Lacking {
    fn look(&mut self, set: &DataSet, rules: &[Rule], need: fn(&Rule) -> Need) {
        for rule in rules {
            match (need(rule), set.get(rule.tag)) {
                (AValue | Presence, None) => self.missing.push(rule.tag),
                (AValue, Some(element)) if element.is_empty() => self.without_value.push(rule.tag),
                _ => {}
            }
            for item in set.items(rule.tag) {
                self.look(item, rule.items, need);
            }
        }
    }

    /// Each tag once, however many items lack it.
    fn error(mut tags: Vec<Tag>, why: &'static str, status: u16) -> Result<()> {
        tags.sort_unstable();
        tags.dedup();
        match tags.is_empty() {
            true => Ok(()),
            false => Err(tags
                .into_iter()
                .fold(refused(why, status), |error, tag| error.with_tag(tag))),
        }
    }
}

/// Whether a step can be created with these attributes.
pub(super) fn check_created(attributes: &DataSet) -> Result<()> {
    let mut lacking = Lacking::default();
    lacking.look(attributes, RULES, |rule| rule.create);
    Lacking::error(lacking.missing, "a required attribute is missing", 0x0120)?;
    Lacking::error(lacking.without_value, "a required attribute has no value", 0x0121)
}

/// Whether these attributes of a step in progress can be set.
pub(super) fn check_set(kept: &DataSet, modifications: &DataSet) -> Result<()> {
    let not_allowed = modifications.iter().filter(|element| {
        let fixed = rule(element.tag).is_some_and(|rule| !rule.set);
        fixed
            && !kept
                .get(element.tag)
                .is_some_and(|kept| says_the_same(kept, element))
    });
    let not_allowed = not_allowed.map(|element| element.tag).collect();
    Lacking::error(not_allowed, "an attribute may not be set any more", 0x0105)?;
    let mut lacking = Lacking::default();
    if let Some(status) = modifications.get(PERFORMED_PROCEDURE_STEP_STATUS)
        && status.is_empty()
    {
        lacking.without_value.push(PERFORMED_PROCEDURE_STEP_STATUS);
    }
    for item in modifications.items(PERFORMED_SERIES_SEQUENCE) {
        lacking.look(item, SERIES, |rule| rule.last);
    }
    // N-SET has no status for what is missing (PS3.7 10.1.3.1.9).
    lacking.without_value.append(&mut lacking.missing);
    Lacking::error(lacking.without_value, "a required attribute has no value", 0x0121)
}

/// Whether a step with these attributes can be final.
pub(super) fn check_final(attributes: &DataSet) -> Result<()> {
    let mut lacking = Lacking::default();
    lacking.look(attributes, RULES, |rule| rule.last);
    lacking.without_value.append(&mut lacking.missing);
    let why = "a step that is final needs a value";
    Lacking::error(lacking.without_value, why, 0x0121)
}

/// Whether two elements have the same values, however they are padded.
fn says_the_same(one: &Element, other: &Element) -> bool {
    match (&one.value, &other.value) {
        (Value::Items(ones), Value::Items(others)) => {
            // As deep as data sets are read, which is bounded.
            let same = |one: &DataSet, other: &DataSet| {
                one.len() == other.len()
                    && one.iter().all(|element| {
                        let other = other.get(element.tag);
                        other.is_some_and(|other| says_the_same(element, other))
                    })
            };
            ones.len() == others.len() && ones.iter().zip(others).all(|(one, other)| same(one, other))
        }
        (Value::Bytes(_), Value::Bytes(_)) => {
            one.bytes() == other.bytes() || one.vr == other.vr && one.strings().eq(other.strings())
        }
        _ => one.is_empty() && other.is_empty(),
    }
}

/// See [`super::begun`].
pub(super) fn begun(item: &DataSet) -> DataSet {
    let step = item.items(SCHEDULED_PROCEDURE_STEP_SEQUENCE).first();
    // Where a worklist has what a performed step says of the same.
    let known = |tag: Tag| {
        step.and_then(|step| step.get(tag))
            .or_else(|| item.get(tag))
            .cloned()
    };
    let filled = |rules: &[Rule], optional: &[Tag]| {
        let mut out = DataSet::new();
        for rule in rules {
            match (known(rule.tag), rule.create) {
                (Some(element), AValue | Presence) => out.put(element),
                (None, Presence) => empty(&mut out, rule.tag, standard_vr(rule.tag).unwrap_or(VR::LO)),
                _ => {}
            }
        }
        optional
            .iter()
            .filter_map(|tag| known(*tag))
            .for_each(|element| out.put(element));
        out
    };
    let scheduled = filled(
        SCHEDULED,
        &[
            ISSUER_OF_ACCESSION_NUMBER_SEQUENCE,
            REQUESTED_PROCEDURE_CODE_SEQUENCE,
            PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST,
            FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST,
        ],
    );
    let mut out = filled(RULES, &[ISSUER_OF_PATIENT_ID, ADMISSION_ID]);
    out.put_items(SCHEDULED_STEP_ATTRIBUTES_SEQUENCE, vec![scheduled]);
    let status = PerformedStatus::InProgress.as_str();
    out.put_text(PERFORMED_PROCEDURE_STEP_STATUS, VR::CS, status);
    out
}
