//! Dummy values: valid for their VR, and saying nothing (PS3.15 E.1.1).

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::tags;

use crate::dataset::{DataSet, Element, Value, syntax};

/// In the place of text. It fits every VR: CS, AE and SH too.
const TEXT: &str = "ANONYMIZED";

/// In the place of a value of any VR but SQ and UI. Numbers become as many zeros, text one value.
pub(super) fn value(vr: VR, original: &[u8]) -> Bytes {
    let text = match vr {
        VR::DA => "19000101",
        VR::TM => "000000",
        VR::DT => "19000101000000",
        VR::AS => "000Y",
        VR::IS | VR::DS => "0",
        VR::UR => "urn:uuid:00000000-0000-0000-0000-000000000000",
        vr if syntax::number_size(vr) > 1 => return Bytes::from(vec![0; original.len()]),
        VR::OB | VR::UN => return Bytes::from_static(&[0, 0]),
        _ => TEXT,
    };
    Bytes::from_static(text.as_bytes())
}

/// In the place of the content of a report: one item that is text (PS3.3 C.17.3).
pub(super) fn content_item() -> DataSet {
    let mut item = DataSet::new();
    item.put_text(tags::RELATIONSHIP_TYPE, VR::CS, "CONTAINS");
    item.put_text(tags::VALUE_TYPE, VR::CS, "TEXT");
    let name = DataSet::code("121106", "DCM", "Comment");
    item.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![name]);
    item.put_text(tags::TEXT_VALUE, VR::UT, TEXT);
    item
}

/// In the place of graphic annotations: one point, in the layer of the first of them (PS3.3 C.10.5).
pub(super) fn graphic_annotation(first: Option<&DataSet>) -> DataSet {
    let mut graphic = DataSet::new();
    graphic.put_text(tags::GRAPHIC_ANNOTATION_UNITS, VR::CS, "DISPLAY");
    graphic.put_u16(tags::GRAPHIC_DIMENSIONS, 2);
    graphic.put_u16(tags::NUMBER_OF_GRAPHIC_POINTS, 1);
    graphic.put(Element {
        tag: tags::GRAPHIC_DATA,
        vr: VR::FL,
        value: Value::Bytes(Bytes::from_static(&[0; 8])),
    });
    graphic.put_text(tags::GRAPHIC_TYPE, VR::CS, "POINT");
    let mut item = DataSet::new();
    if let Some(layer) = first.and_then(|first| first.get(tags::GRAPHIC_LAYER)) {
        item.put(layer.clone());
    }
    item.put_items(tags::GRAPHIC_OBJECT_SEQUENCE, vec![graphic]);
    item
}
