//! Answers for people, and as the DICOM JSON Model (PS3.18 F.2).

use std::fmt::Write as _;

use dicom_core::VR;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::StandardDataDictionary;
use pacs_core::DataSet;
use pacs_core::dataset::{Element, Value};
use serde_json::{Map, Value as Json, json};

/// One line for each element; items of sequences are indented.
pub(crate) fn text(set: &DataSet) -> String {
    let mut out = String::new();
    write_text(set, 0, &mut out);
    out
}

fn write_text(set: &DataSet, depth: usize, out: &mut String) {
    for element in set.iter() {
        let keyword = StandardDataDictionary
            .by_tag(element.tag)
            .map_or("", |entry| entry.alias());
        let indent = depth * 2;
        // Writing to a String can't fail.
        let _ = write!(
            out,
            "{:indent$}{} {} {keyword}: ",
            "",
            element.tag,
            element.vr.to_string()
        );
        match &element.value {
            Value::Items(items) => {
                let _ = writeln!(out, "{} item(s)", items.len());
                for item in items {
                    write_text(item, depth + 1, out);
                }
            }
            Value::Bytes(_) => {
                let values = match numbers(element) {
                    Some(numbers) => numbers.iter().map(Json::to_string).collect::<Vec<_>>().join("\\"),
                    // What a peer sent must not steer the terminal that it is shown on.
                    None => element
                        .strings()
                        .collect::<Vec<_>>()
                        .join("\\")
                        .replace(|c: char| c.is_control(), "\u{FFFD}"),
                };
                let _ = writeln!(out, "{values}");
            }
        }
    }
}

/// The data set as an object of the DICOM JSON Model.
pub(crate) fn json(set: &DataSet) -> Json {
    let mut object = Map::new();
    for element in set.iter() {
        let key = format!("{:04X}{:04X}", element.tag.group(), element.tag.element());
        let mut entry = Map::new();
        entry.insert("vr".to_owned(), json!(element.vr.to_string()));
        let values: Vec<Json> = match &element.value {
            Value::Items(items) => items.iter().map(json).collect(),
            Value::Bytes(_) if element.is_empty() => Vec::new(),
            Value::Bytes(_) => match (numbers(element), element.vr) {
                (Some(numbers), _) => numbers,
                (None, VR::PN) => element.strings().map(person_name).collect(),
                // An empty value among others is null (PS3.18 F.2.5).
                (None, VR::DS | VR::IS) => element
                    .strings()
                    .map(|text| serde_json::from_str(text.trim_start_matches('+')).unwrap_or(json!(text)))
                    .map(|value: Json| if value == json!("") { Json::Null } else { value })
                    .collect(),
                (None, _) => element
                    .strings()
                    .map(|text| if text.is_empty() { Json::Null } else { json!(text) })
                    .collect(),
            },
        };
        if !values.is_empty() {
            entry.insert("Value".to_owned(), Json::Array(values));
        }
        object.insert(key, Json::Object(entry));
    }
    Json::Object(object)
}

/// The component groups of a name (PS3.5 6.2.1.2, PS3.18 F.2.2).
fn person_name(text: &str) -> Json {
    let mut groups = Map::new();
    for (name, group) in ["Alphabetic", "Ideographic", "Phonetic"]
        .into_iter()
        .zip(text.split('='))
    {
        if !group.is_empty() {
            groups.insert(name.to_owned(), json!(group));
        }
    }
    Json::Object(groups)
}

/// The values of an element of a binary number's VR.
fn numbers(element: &Element) -> Option<Vec<Json>> {
    fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> Json) -> Vec<Json> {
        bytes
            .as_chunks::<N>()
            .0
            .iter()
            .map(|chunk| number(*chunk))
            .collect()
    }
    let bytes = element.bytes();
    Some(match element.vr {
        VR::US => each(bytes, |b| json!(u16::from_le_bytes(b))),
        VR::SS => each(bytes, |b| json!(i16::from_le_bytes(b))),
        VR::UL => each(bytes, |b| json!(u32::from_le_bytes(b))),
        VR::SL => each(bytes, |b| json!(i32::from_le_bytes(b))),
        VR::UV => each(bytes, |b| json!(u64::from_le_bytes(b))),
        VR::SV => each(bytes, |b| json!(i64::from_le_bytes(b))),
        VR::FL => each(bytes, |b| json!(f32::from_le_bytes(b))),
        VR::FD => each(bytes, |b| json!(f64::from_le_bytes(b))),
        VR::AT => each(bytes, |[a, b, c, d]| {
            json!(format!("{b:02X}{a:02X}{d:02X}{c:02X}"))
        }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use dicom_dictionary_std::tags;

    use super::*;

    fn answer() -> DataSet {
        let mut item = DataSet::new();
        item.put_text(tags::CODE_VALUE, VR::SH, "T-1 ");
        let mut set = DataSet::new();
        set.put_text(tags::PATIENT_NAME, VR::PN, "Yamada^Tarou=山田^太郎=やまだ^たろう");
        set.put_text(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\\\AXIAL");
        set.put_text(tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, "12 ");
        set.put_text(tags::PATIENT_COMMENTS, VR::LT, "a\x1b[2Jb");
        set.put_u16(tags::ROWS, 512);
        set.put_text(tags::ACCESSION_NUMBER, VR::SH, "");
        set.put_items(tags::PROCEDURE_CODE_SEQUENCE, vec![item]);
        set
    }

    #[test]
    fn json_follows_the_dicom_json_model() {
        assert_eq!(
            json(&answer()),
            json!({
                "00080008": {"vr": "CS", "Value": ["ORIGINAL", null, "AXIAL"]},
                "00080050": {"vr": "SH"},
                "00081032": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["T-1"]}}]},
                "00100010": {"vr": "PN", "Value": [{
                    "Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"
                }]},
                "00104000": {"vr": "LT", "Value": ["a\u{1b}[2Jb"]},
                "00201208": {"vr": "IS", "Value": [12]},
                "00280010": {"vr": "US", "Value": [512]},
            })
        );
    }

    #[test]
    fn text_names_each_attribute_and_never_steers_the_terminal() {
        let text = text(&answer());
        assert!(text.contains("(0010,0010) PN PatientName: Yamada^Tarou=山田^太郎"));
        assert!(text.contains("(0028,0010) US Rows: 512\n"));
        assert!(
            text.contains(
                "(0008,1032) SQ ProcedureCodeSequence: 1 item(s)\n  (0008,0100) SH CodeValue: T-1\n"
            )
        );
        assert!(!text.contains('\x1b'));
    }
}
