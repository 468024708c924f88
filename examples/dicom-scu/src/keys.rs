//! Keys of an identifier from the command line: `PatientName=Doe*`, `0010,0010`,
//! `RequestAttributesSequence.ScheduledProcedureStepID=5`.

use std::str::FromStr;

use bytes::Bytes;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;
use pacs_core::DataSet;
use pacs_core::dataset::{Element, Value};

/// Sequences in sequences that a key may name.
const PATH_LENGTH_MAX: usize = 8;

/// One key: where it stands, and its value (empty: a return key, or universal matching).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Sequences from the outside in.
    sequences: Vec<Tag>,
    tag: Tag,
    vr: VR,
    value: Bytes,
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, value) = text.split_once('=').unwrap_or((text, ""));
        let mut sequences = Vec::new();
        let mut steps = path.split('.').peekable();
        while let Some(step) = steps.next() {
            let (tag, vr) = attribute(step)?;
            if steps.peek().is_none() {
                let value = encode(vr, value)?;
                return Ok(Self {
                    sequences,
                    tag,
                    vr,
                    value,
                });
            }
            if vr != VR::SQ {
                return Err(format!("{step} is not a sequence"));
            }
            if sequences.len() == PATH_LENGTH_MAX {
                return Err(format!("more than {PATH_LENGTH_MAX} sequences in each other"));
            }
            sequences.push(tag);
        }
        Err("a key begins with an attribute".to_owned())
    }
}

impl Key {
    /// Adds this key to an identifier; keys of one sequence stand in its one item (PS3.4 C.2.2.2.6).
    pub(crate) fn put_into(&self, set: &mut DataSet) {
        put(set, &self.sequences, self);
    }
}

fn put(set: &mut DataSet, sequences: &[Tag], key: &Key) {
    let Some((sequence, rest)) = sequences.split_first() else {
        let value = if key.vr == VR::SQ {
            Value::Items(Vec::new())
        } else {
            Value::Bytes(key.value.clone())
        };
        set.put(Element {
            tag: key.tag,
            vr: key.vr,
            value,
        });
        return;
    };
    let mut item = set.items(*sequence).first().cloned().unwrap_or_default();
    put(&mut item, rest, key);
    set.put_items(*sequence, vec![item]);
}

/// An attribute by its keyword, or by its tag as gggg,eeee, (gggg,eeee) or ggggeeee.
fn attribute(text: &str) -> Result<(Tag, VR), String> {
    let dictionary = StandardDataDictionary;
    let hexadecimal = (text.len() == 8)
        .then(|| u32::from_str_radix(text, 16).ok())
        .flatten();
    let tag = match hexadecimal {
        Some(number) => Tag((number >> 16) as u16, number as u16),
        None => dictionary
            .parse_tag(text)
            .ok_or_else(|| format!("{text:?} is neither a keyword of the dictionary nor a tag"))?,
    };
    // An attribute that the dictionary doesn't know, such as a private one, is asked for as text.
    let vr = dictionary
        .by_tag(tag)
        .map_or(VR::LO, |entry| entry.vr().relaxed());
    Ok((tag, vr))
}

/// A value in the normal form of a [`DataSet`].
fn encode(vr: VR, text: &str) -> Result<Bytes, String> {
    fn numbers<T: FromStr, const N: usize>(
        text: &str,
        bytes: impl Fn(T) -> [u8; N],
    ) -> Result<Bytes, String> {
        let mut out = Vec::new();
        for value in text.split('\\').filter(|value| !value.is_empty()) {
            let number = value
                .parse()
                .map_err(|_| format!("{value:?} is not a number of this attribute's kind"))?;
            out.extend_from_slice(&bytes(number));
        }
        Ok(out.into())
    }
    match vr {
        VR::US => numbers(text, u16::to_le_bytes),
        VR::SS => numbers(text, i16::to_le_bytes),
        VR::UL => numbers(text, u32::to_le_bytes),
        VR::SL => numbers(text, i32::to_le_bytes),
        VR::UV => numbers(text, u64::to_le_bytes),
        VR::SV => numbers(text, i64::to_le_bytes),
        VR::FL => numbers(text, f32::to_le_bytes),
        VR::FD => numbers(text, f64::to_le_bytes),
        VR::SQ | VR::AT | VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN => {
            if text.is_empty() {
                Ok(Bytes::new())
            } else {
                Err(format!(
                    "an attribute of VR {} can only be asked for without a value",
                    vr.to_string()
                ))
            }
        }
        _ => Ok(Bytes::copy_from_slice(text.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use dicom_dictionary_std::tags;

    use super::*;

    fn identifier(keys: &[&str]) -> DataSet {
        let mut set = DataSet::new();
        for key in keys {
            key.parse::<Key>().unwrap().put_into(&mut set);
        }
        set
    }

    #[test]
    fn a_key_is_named_by_keyword_or_tag() {
        let set = identifier(&[
            "PatientName=Müller*",
            "0010,0020=5",
            "(0008,0050)=7",
            "00080060",
            "Rows=512",
        ]);
        assert_eq!(set.string(tags::PATIENT_NAME), Some("Müller*"));
        assert_eq!(set.string(tags::PATIENT_ID), Some("5"));
        assert_eq!(set.string(tags::ACCESSION_NUMBER), Some("7"));
        assert!(set.get(tags::MODALITY).unwrap().is_empty());
        assert_eq!(set.u16(tags::ROWS), Some(512));
    }

    #[test]
    fn keys_of_one_sequence_share_its_item() {
        let set = identifier(&[
            "RequestAttributesSequence.ScheduledProcedureStepID=5",
            "RequestAttributesSequence.RequestedProcedureID=6",
            "ReferencedStudySequence",
        ]);
        let items = set.items(tags::REQUEST_ATTRIBUTES_SEQUENCE);
        assert_eq!(items.len(), 1);
        assert_eq!(items[0].string(tags::SCHEDULED_PROCEDURE_STEP_ID), Some("5"));
        assert_eq!(items[0].string(tags::REQUESTED_PROCEDURE_ID), Some("6"));
        assert!(set.contains(tags::REFERENCED_STUDY_SEQUENCE));
    }

    #[test]
    fn what_is_no_key_is_refused_with_a_reason() {
        for (text, reason) in [
            ("PatientNam=x", "neither a keyword"),
            ("PatientName.PatientID=x", "not a sequence"),
            ("Rows=many", "not a number"),
            ("PixelData=x", "without a value"),
            ("=x", "neither a keyword"),
        ] {
            let error = text.parse::<Key>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
