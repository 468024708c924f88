//! What a later version of an instance corrects above it: in its series, its study and its patient.

use dicom_core::{Tag, VR};

use super::coerce;
use super::import::read_meta;
use super::recovery::read_header;
use crate::archive::{Archive, Locator};
use crate::dataset::{DataSet, Element, coercion, part10, standard_vr};
use crate::index::{Change, InstanceRecord};
use crate::query::{AttributeSet, LevelAttributes};
use crate::uid::Level;

/// The levels above an instance.
const ABOVE: [Level; 3] = [Level::Patient, Level::Study, Level::Series];

/// What an index is told behind the record of a later version.
pub(super) fn change(record: &InstanceRecord, correction: Option<LevelAttributes>) -> Option<Change> {
    let correction = correction.filter(|correction| !correction.is_empty_above())?;
    Some(Change::Correct(record.key, Box::new(correction)))
}

/// Whether the version was made by an amendment.
pub(super) fn is_amended(record: &InstanceRecord) -> bool {
    let coerced = record.coerced.as_ref();
    coerced.is_some_and(|coerced| coerced.contains(coercion::AMENDED))
}

/// What was amended of an instance counts, whatever else is known; `record` has its own attributes.
pub(super) fn of_amended(attributes: &AttributeSet, record: &InstanceRecord) -> Option<LevelAttributes> {
    let mut correction = LevelAttributes::default();
    for tag in coercion::amended(record.coerced.as_ref()?) {
        let Some(level) = attributes.level_of(tag).filter(|level| ABOVE.contains(level)) else {
            continue;
        };
        let element = record.attributes.at(level).get(tag).cloned();
        // None, or one that is not searched.
        let without = || coerce::without_value(tag, standard_vr(tag).unwrap_or(VR::UN));
        correction.at_mut(level).put(element.unwrap_or_else(without));
    }
    Some(correction)
}

/// What the bytes that take the place of an `earlier` version say otherwise than that. Where that can't be read any
/// more nobody can tell. What was amended of any version that `record` supersedes is not taken back.
pub(super) async fn of_replacement(
    archive: &dyn Archive,
    attributes: &AttributeSet,
    earlier: &InstanceRecord,
    record: &InstanceRecord,
) -> Option<LevelAttributes> {
    let (_, scan) = read_header(archive, &earlier.locator).await.ok()?;
    let none = DataSet::new();
    let coerced = earlier.coerced.as_ref().unwrap_or(&none);
    let before = attributes.extract(&coerce::applied(scan.header, coerced));
    let mut amended: Vec<Tag> = coercion::amended(coerced).collect();
    for locator in record
        .superseded
        .iter()
        .filter(|locator| **locator != earlier.locator)
    {
        amended.extend(amended_at(archive, locator).await);
    }
    let mut correction = LevelAttributes::default();
    for level in ABOVE {
        let differs = |element: &&Element| {
            !amended.contains(&element.tag) && before.at(level).get(element.tag) != Some(*element)
        };
        for element in record.attributes.at(level).iter().filter(differs) {
            correction.at_mut(level).put(element.clone());
        }
    }
    Some(correction)
}

/// What was amended of the version at `locator`.
async fn amended_at(archive: &dyn Archive, locator: &Locator) -> Vec<Tag> {
    let meta = read_meta(&mut archive.read(locator, 0..u64::MAX)).await;
    let coerced = meta.and_then(|(meta, _)| part10::coerced(&meta)).ok().flatten();
    coerced.map_or_else(Vec::new, |coerced| coercion::amended(&coerced).collect())
}
