//! What a later version of an instance corrects above it: in its series, its study and its patient.

use dicom_core::Tag;

use super::coerce;
use super::recovery::read_header;
use crate::archive::Archive;
use crate::dataset::{DataSet, Element, coercion};
use crate::index::{Change, Correction, InstanceRecord};
use crate::query::{AttributeSet, LevelAttributes};
use crate::uid::Level;

/// The levels above an instance.
const ABOVE: [Level; 3] = [Level::Patient, Level::Study, Level::Series];

/// What an index is told behind the record of a later version.
pub(super) fn change(record: &InstanceRecord, correction: Option<Correction>) -> Option<Change> {
    let correction = correction.filter(|correction| !correction.is_empty())?;
    Some(Change::Correct(record.key, Box::new(correction)))
}

/// What was amended of an instance counts, whatever else is known.
pub(super) fn of_amended(record: &InstanceRecord) -> Option<Correction> {
    let amended: Vec<Tag> = coercion::amended(record.coerced.as_ref()?).collect();
    let element = |tag: &Tag| record.coerced.as_ref().and_then(|coerced| coerced.get(*tag));
    let is_empty = |tag: &Tag| element(tag).is_some_and(Element::is_empty);
    Some(Correction {
        attributes: only(&record.attributes, |_, element| amended.contains(&element.tag)),
        emptied: amended.iter().copied().filter(is_empty).collect(),
    })
}

/// What the bytes that take the place of an `earlier` version say otherwise than that. Where that can't be read any
/// more nobody can tell, and what was amended of it is not taken back.
pub(super) async fn of_replacement(
    archive: &dyn Archive,
    attributes: &AttributeSet,
    earlier: &InstanceRecord,
    record: &InstanceRecord,
) -> Option<Correction> {
    let (_, scan) = read_header(archive, &earlier.locator).await.ok()?;
    let none = DataSet::new();
    let coerced = earlier.coerced.as_ref().unwrap_or(&none);
    let before = attributes.extract(&coerce::applied(scan.header, coerced));
    let amended: Vec<Tag> = coercion::amended(coerced).collect();
    Some(Correction {
        attributes: only(&record.attributes, |level, element| {
            !amended.contains(&element.tag) && before.at(level).get(element.tag) != Some(element)
        }),
        emptied: Vec::new(),
    })
}

/// The elements of the levels above that are wanted.
fn only(of: &LevelAttributes, wanted: impl Fn(Level, &Element) -> bool) -> LevelAttributes {
    let mut out = LevelAttributes::default();
    for level in ABOVE {
        let elements = of.at(level).iter().filter(|element| wanted(level, element));
        elements.for_each(|element| out.at_mut(level).put(element.clone()));
    }
    out
}
