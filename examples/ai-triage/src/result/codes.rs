//! The codes that a report uses, and content items made with them (PS3.3 C.17.3).

use dicom_core::VR;
use dicom_dictionary_std::tags;
use pacs_core::dataset::{Element, Value};
use pacs_core::{DataSet, Uid};

use crate::outline::Outline;

/// A code: value, scheme, meaning.
pub(crate) type Code = (&'static str, &'static str, &'static str);

pub(super) const REPORT: Code = ("126000", "DCM", "Imaging Measurement Report");
pub(super) const LANGUAGE: Code = ("121049", "DCM", "Language of Content Item and Descendants");
pub(super) const ENGLISH: Code = ("en", "RFC5646", "English");
pub(super) const OBSERVER_TYPE: Code = ("121005", "DCM", "Observer Type");
pub(super) const DEVICE: Code = ("121007", "DCM", "Device");
pub(super) const DEVICE_UID: Code = ("121012", "DCM", "Device Observer UID");
pub(super) const DEVICE_NAME: Code = ("121013", "DCM", "Device Observer Name");
pub(super) const DEVICE_MANUFACTURER: Code = ("121014", "DCM", "Device Observer Manufacturer");
pub(super) const DEVICE_MODEL: Code = ("121015", "DCM", "Device Observer Model Name");
pub(super) const PROCEDURE: Code = ("121058", "DCM", "Procedure reported");
pub(super) const CT: Code = ("77477000", "SCT", "Computed tomography");
pub(super) const MEASUREMENTS: Code = ("126010", "DCM", "Imaging Measurements");
pub(super) const GROUP: Code = ("125007", "DCM", "Measurement Group");
pub(super) const TRACKING: Code = ("112039", "DCM", "Tracking Identifier");
pub(super) const TRACKING_UID: Code = ("112040", "DCM", "Tracking Unique Identifier");
pub(super) const FINDING: Code = ("121071", "DCM", "Finding");
pub(super) const ALGORITHM_NAME: Code = ("111001", "DCM", "Algorithm Name");
pub(super) const ALGORITHM_VERSION: Code = ("111003", "DCM", "Algorithm Version");
pub(super) const SITE: Code = ("363698007", "SCT", "Finding Site");
pub(super) const BRAIN: Code = ("12738006", "SCT", "Brain");
pub(super) const REGION: Code = ("111030", "DCM", "Image Region");
pub(super) const SOURCE: Code = ("121112", "DCM", "Source of Measurement");
pub(super) const VOLUME: Code = ("118565006", "SCT", "Volume");
pub(super) const ATTENUATION: Code = ("112031", "DCM", "Attenuation Coefficient");
pub(super) const DERIVATION: Code = ("121401", "DCM", "Derivation");
pub(super) const MEAN: Code = ("373098007", "SCT", "Mean");
pub(super) const EVALUATIONS: Code = ("C0034375", "UMLS", "Qualitative Evaluations");
pub(super) const COMMENT: Code = ("121106", "DCM", "Comment");
pub(super) const MILLILITRE: Code = ("ml", "UCUM", "milliliter");
pub(super) const HOUNSFIELD: Code = ("[hnsf'U]", "UCUM", "Hounsfield unit");

/// What is said to be suspected; what a rule of a PACS looks for.
pub(super) const HEMORRHAGE: Code = ("1386000", "SCT", "Intracranial hemorrhage");
/// What is said where nothing was found.
pub(super) const ABSENT: Code = ("373572006", "SCT", "Clinical finding absent");

/// How an item stands to the one around it.
pub(super) const CONTAINS: &str = "CONTAINS";
pub(super) const CONTEXT: &str = "HAS OBS CONTEXT";
pub(super) const MODIFIER: &str = "HAS CONCEPT MOD";

/// An item of a code sequence.
pub(super) fn code((value, scheme, meaning): Code) -> DataSet {
    DataSet::code(value, scheme, meaning)
}

fn item(relationship: &str, kind: &str, name: Code) -> DataSet {
    let mut item = DataSet::new();
    item.put_text(tags::RELATIONSHIP_TYPE, VR::CS, relationship);
    item.put_text(tags::VALUE_TYPE, VR::CS, kind);
    item.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code(name)]);
    item
}

/// Puts items into one.
pub(super) fn with(mut item: DataSet, children: Vec<DataSet>) -> DataSet {
    item.put_items(tags::CONTENT_SEQUENCE, children);
    item
}

/// Makes of an item the container of a template.
pub(super) fn of_template(mut item: DataSet, template: &str) -> DataSet {
    let mut named = DataSet::new();
    named.put_text(tags::MAPPING_RESOURCE, VR::CS, "DCMR");
    named.put_text(tags::TEMPLATE_IDENTIFIER, VR::CS, template);
    item.put_items(tags::CONTENT_TEMPLATE_SEQUENCE, vec![named]);
    item
}

pub(super) fn container(name: Code, children: Vec<DataSet>) -> DataSet {
    let mut item = item(CONTAINS, "CONTAINER", name);
    item.put_text(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE");
    with(item, children)
}

pub(super) fn text(relationship: &str, name: Code, text: impl Into<String>) -> DataSet {
    let mut item = item(relationship, "TEXT", name);
    item.put_text(tags::TEXT_VALUE, VR::UT, text);
    item
}

pub(super) fn coded(relationship: &str, name: Code, value: Code) -> DataSet {
    let mut item = item(relationship, "CODE", name);
    item.put_items(tags::CONCEPT_CODE_SEQUENCE, vec![code(value)]);
    item
}

pub(super) fn uid(relationship: &str, name: Code, uid: &Uid) -> DataSet {
    let mut item = item(relationship, "UIDREF", name);
    item.put_uid(tags::UID, uid);
    item
}

pub(super) fn number(name: Code, number: f64, unit: Code) -> DataSet {
    let mut measured = DataSet::new();
    measured.put_items(tags::MEASUREMENT_UNITS_CODE_SEQUENCE, vec![code(unit)]);
    measured.put_text(tags::NUMERIC_VALUE, VR::DS, super::decimal(number));
    let mut item = item(CONTAINS, "NUM", name);
    item.put_items(tags::MEASURED_VALUE_SEQUENCE, vec![measured]);
    item
}

/// An image that an item is about.
pub(super) fn image(relationship: &str, name: Option<Code>, class: &Uid, instance: &Uid) -> DataSet {
    let mut item = DataSet::new();
    item.put_text(tags::RELATIONSHIP_TYPE, VR::CS, relationship);
    item.put_text(tags::VALUE_TYPE, VR::CS, "IMAGE");
    if let Some(name) = name {
        item.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code(name)]);
    }
    item.put_items(
        tags::REFERENCED_SOP_SEQUENCE,
        vec![super::reference(class, instance)],
    );
    item
}

/// A closed line in an image (PS3.3 C.18.6).
pub(super) fn region(outline: &Outline, class: &Uid, instance: &Uid) -> DataSet {
    let mut item = item(CONTAINS, "SCOORD", REGION);
    let corners = outline.iter().flat_map(|(x, y)| [*x as f32, *y as f32]);
    let bytes: Vec<u8> = corners.flat_map(f32::to_le_bytes).collect();
    item.put(Element {
        tag: tags::GRAPHIC_DATA,
        vr: VR::FL,
        value: Value::Bytes(bytes.into()),
    });
    item.put_text(tags::GRAPHIC_TYPE, VR::CS, "POLYLINE");
    with(item, vec![image("SELECTED FROM", None, class, instance)])
}
