//! How records become bytes: variable-length numbers, packed UIDs, and data sets whose common
//! attributes take a byte for tag and VR together.
//!
//! Reading checks every length against what is there: a damaged file is an error, never a panic.

use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use pacs_core::dataset::{DataSet, Element, Value};
use pacs_core::error::{Error, ErrorKind, Result};
use pacs_core::uid::Uid;

/// Root of the Standard's own UIDs (PS3.5 9), which SOP classes and transfer syntaxes share.
pub(super) const STANDARD_ROOT: &str = "1.2.840.10008.";

/// Items in items that are read back. What was written came through a scan with a lower limit.
const DEPTH_MAX: usize = pacs_core::limits::SEQUENCE_DEPTH_MAX + 2;

fn damaged() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "index.decode",
        "a record of the index is damaged: rebuild the index from the archive",
    )
}

/// Appends a number, seven bits to a byte, lowest first.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends bytes behind their length.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// 1 to 10 for a digit, 11 for a dot: 0 is left to end a text of odd length.
fn nibble(byte: u8) -> u8 {
    if byte == b'.' {
        11
    } else {
        byte.wrapping_sub(b'0').wrapping_add(1) & 0x0F
    }
}

fn pack(out: &mut Vec<u8>, text: &[u8]) {
    for pair in text.chunks(2) {
        out.push(nibble(pair[0]) << 4 | pair.get(1).map_or(0, |&b| nibble(b)));
    }
}

/// A UID as a key: two characters a byte, ended by a zero nibble, so that UIDs which share a prefix
/// stay neighbours and none is the prefix of another.
pub(crate) fn uid_key(uid: &Uid) -> Vec<u8> {
    let text = uid.as_str().as_bytes();
    let mut out = Vec::with_capacity(text.len() / 2 + 5);
    pack(&mut out, text);
    if text.len().is_multiple_of(2) {
        out.push(0);
    }
    out
}

/// Appends a UID as what differs from `base`.
pub(super) fn put_uid(out: &mut Vec<u8>, uid: &str, base: &str) {
    let shared = uid.bytes().zip(base.bytes()).take_while(|(a, b)| a == b).count();
    let rest = &uid.as_bytes()[shared..];
    out.push(shared as u8);
    out.push(rest.len() as u8);
    pack(out, rest);
}

/// Reads what the functions above wrote.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        let (&first, rest) = self.rest.split_first().ok_or_else(damaged)?;
        self.rest = rest;
        Ok(first)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(damaged)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn number(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(damaged())
    }

    pub(super) fn number_u32(&mut self) -> Result<u32> {
        u32::try_from(self.number()?).map_err(|_| damaged())
    }

    /// A count of things of which each takes at least one byte.
    pub(super) fn count(&mut self) -> Result<usize> {
        let count = usize::try_from(self.number()?).map_err(|_| damaged())?;
        if count > self.rest.len() {
            return Err(damaged());
        }
        Ok(count)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.count()?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| damaged())
    }

    pub(super) fn uid(&mut self, base: &str) -> Result<Uid> {
        let shared = usize::from(self.byte()?);
        let length = usize::from(self.byte()?);
        let base = base.as_bytes().get(..shared).ok_or_else(damaged)?;
        let packed = self.take(length.div_ceil(2))?;
        let mut text = [0; 64];
        if shared + length > text.len() {
            return Err(damaged());
        }
        text[..shared].copy_from_slice(base);
        for (at, byte) in text[shared..shared + length].iter_mut().enumerate() {
            let pair = packed[at / 2];
            let nibble = if at % 2 == 0 { pair >> 4 } else { pair & 0x0F };
            *byte = match nibble {
                11 => b'.',
                1..=10 => b'0' + nibble - 1,
                _ => return Err(damaged()),
            };
        }
        std::str::from_utf8(&text[..shared + length])
            .ok()
            .and_then(|text| Uid::parse(text).ok())
            .ok_or_else(damaged)
    }
}

/// Attributes that are written with one byte for tag and VR: the place in this list. The list is part
/// of the format: entries are only ever added at the end.
// Retired attributes stand in real instances and are kept too.
#[allow(deprecated)]
const COMMON: &[(Tag, VR)] = &[
    (tags::IMAGE_TYPE, VR::CS),
    (tags::INSTANCE_CREATION_DATE, VR::DA),
    (tags::INSTANCE_CREATION_TIME, VR::TM),
    (tags::SOP_CLASS_UID, VR::UI),
    (tags::SOP_INSTANCE_UID, VR::UI),
    (tags::STUDY_DATE, VR::DA),
    (tags::SERIES_DATE, VR::DA),
    (tags::ACQUISITION_DATE, VR::DA),
    (tags::CONTENT_DATE, VR::DA),
    (tags::ACQUISITION_DATE_TIME, VR::DT),
    (tags::STUDY_TIME, VR::TM),
    (tags::SERIES_TIME, VR::TM),
    (tags::ACQUISITION_TIME, VR::TM),
    (tags::CONTENT_TIME, VR::TM),
    (tags::ACCESSION_NUMBER, VR::SH),
    (tags::MODALITY, VR::CS),
    (tags::MANUFACTURER, VR::LO),
    (tags::INSTITUTION_NAME, VR::LO),
    (tags::REFERRING_PHYSICIAN_NAME, VR::PN),
    (tags::TIMEZONE_OFFSET_FROM_UTC, VR::SH),
    (tags::STATION_NAME, VR::SH),
    (tags::STUDY_DESCRIPTION, VR::LO),
    (tags::SERIES_DESCRIPTION, VR::LO),
    (tags::INSTITUTIONAL_DEPARTMENT_NAME, VR::LO),
    (tags::PERFORMING_PHYSICIAN_NAME, VR::PN),
    (tags::NAME_OF_PHYSICIANS_READING_STUDY, VR::PN),
    (tags::OPERATORS_NAME, VR::PN),
    (tags::MANUFACTURER_MODEL_NAME, VR::LO),
    (tags::PATIENT_NAME, VR::PN),
    (tags::PATIENT_ID, VR::LO),
    (tags::ISSUER_OF_PATIENT_ID, VR::LO),
    (tags::PATIENT_BIRTH_DATE, VR::DA),
    (tags::PATIENT_BIRTH_TIME, VR::TM),
    (tags::PATIENT_SEX, VR::CS),
    (tags::OTHER_PATIENT_I_DS, VR::LO),
    (tags::OTHER_PATIENT_NAMES, VR::PN),
    (tags::PATIENT_AGE, VR::AS),
    (tags::PATIENT_SIZE, VR::DS),
    (tags::PATIENT_WEIGHT, VR::DS),
    (tags::ETHNIC_GROUP, VR::SH),
    (tags::PATIENT_COMMENTS, VR::LT),
    (tags::BODY_PART_EXAMINED, VR::CS),
    (tags::SLICE_THICKNESS, VR::DS),
    (tags::PROTOCOL_NAME, VR::LO),
    (tags::PATIENT_POSITION, VR::CS),
    (tags::STUDY_INSTANCE_UID, VR::UI),
    (tags::SERIES_INSTANCE_UID, VR::UI),
    (tags::STUDY_ID, VR::SH),
    (tags::SERIES_NUMBER, VR::IS),
    (tags::ACQUISITION_NUMBER, VR::IS),
    (tags::INSTANCE_NUMBER, VR::IS),
    (tags::IMAGE_POSITION_PATIENT, VR::DS),
    (tags::IMAGE_ORIENTATION_PATIENT, VR::DS),
    (tags::FRAME_OF_REFERENCE_UID, VR::UI),
    (tags::LATERALITY, VR::CS),
    (tags::SLICE_LOCATION, VR::DS),
    (tags::IMAGE_COMMENTS, VR::LT),
    (tags::SAMPLES_PER_PIXEL, VR::US),
    (tags::PHOTOMETRIC_INTERPRETATION, VR::CS),
    (tags::NUMBER_OF_FRAMES, VR::IS),
    (tags::ROWS, VR::US),
    (tags::COLUMNS, VR::US),
    (tags::PIXEL_SPACING, VR::DS),
    (tags::BITS_ALLOCATED, VR::US),
    (tags::BITS_STORED, VR::US),
    (tags::HIGH_BIT, VR::US),
    (tags::PIXEL_REPRESENTATION, VR::US),
    (tags::WINDOW_CENTER, VR::DS),
    (tags::WINDOW_WIDTH, VR::DS),
    (tags::PERFORMED_PROCEDURE_STEP_START_DATE, VR::DA),
    (tags::PERFORMED_PROCEDURE_STEP_START_TIME, VR::TM),
    (tags::PERFORMED_PROCEDURE_STEP_ID, VR::SH),
    (tags::REQUEST_ATTRIBUTES_SEQUENCE, VR::SQ),
    (tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH),
    (tags::REQUESTED_PROCEDURE_ID, VR::SH),
    (tags::CONTENT_LABEL, VR::CS),
    (tags::CONTENT_DESCRIPTION, VR::LO),
    (tags::CONTENT_CREATOR_NAME, VR::PN),
    (tags::COMPLETION_FLAG, VR::CS),
    (tags::VERIFICATION_FLAG, VR::CS),
    (tags::CONCEPT_NAME_CODE_SEQUENCE, VR::SQ),
    (tags::CODE_VALUE, VR::SH),
    (tags::CODING_SCHEME_DESIGNATOR, VR::SH),
    (tags::CODE_MEANING, VR::LO),
    (tags::SPECIFIC_CHARACTER_SET, VR::CS),
    (tags::PROCEDURE_CODE_SEQUENCE, VR::SQ),
];

/// Stands for "tag and VR follow".
const EXPLICIT: u8 = 0xFF;

/// `(tag, place in COMMON)` in order of tag.
fn common_by_tag() -> &'static [(Tag, u8)] {
    static SORTED: std::sync::OnceLock<Vec<(Tag, u8)>> = std::sync::OnceLock::new();
    SORTED.get_or_init(|| {
        let mut sorted: Vec<_> = COMMON.iter().zip(0..).map(|(&(tag, _), at)| (tag, at)).collect();
        sorted.sort_unstable();
        sorted
    })
}

/// Appends a data set behind its length.
pub(super) fn put_data_set(out: &mut Vec<u8>, set: &DataSet) {
    let mut inner = Vec::with_capacity(set.len() * 12);
    for element in set.iter() {
        put_element(&mut inner, element);
    }
    put_bytes(out, &inner);
}

fn put_element(out: &mut Vec<u8>, element: &Element) {
    let common = common_by_tag();
    let code = common
        .binary_search_by_key(&element.tag, |&(tag, _)| tag)
        .map(|at| common[at].1)
        .ok()
        .filter(|&code| COMMON[usize::from(code)].1 == element.vr);
    match code {
        Some(code) => out.push(code),
        None => {
            out.push(EXPLICIT);
            out.extend_from_slice(&element.tag.0.to_le_bytes());
            out.extend_from_slice(&element.tag.1.to_le_bytes());
            out.extend_from_slice(&element.vr.to_bytes());
        }
    }
    match &element.value {
        // The lowest bit tells a value from a sequence.
        Value::Bytes(bytes) => {
            put_number(out, (bytes.len() as u64) << 1);
            out.extend_from_slice(bytes);
        }
        Value::Items(items) => {
            put_number(out, (items.len() as u64) << 1 | 1);
            for item in items {
                put_data_set(out, item);
            }
        }
    }
}

/// Reads a data set; its values share the memory of `record`, of which `reader` reads.
pub(super) fn data_set(reader: &mut Reader<'_>, record: &Bytes) -> Result<DataSet> {
    data_set_at(reader, record, 0)
}

fn data_set_at(reader: &mut Reader<'_>, record: &Bytes, depth: usize) -> Result<DataSet> {
    if depth > DEPTH_MAX {
        return Err(damaged());
    }
    let mut inner = Reader::new(reader.bytes()?);
    let mut set = DataSet::new();
    while !inner.is_at_end() {
        let code = inner.byte()?;
        let (tag, vr) = match COMMON.get(usize::from(code)) {
            Some(&common) => common,
            None if code == EXPLICIT => {
                let &[g0, g1, e0, e1, v0, v1] = inner.take(6)? else {
                    return Err(damaged());
                };
                let tag = Tag(u16::from_le_bytes([g0, g1]), u16::from_le_bytes([e0, e1]));
                (tag, VR::from_binary([v0, v1]).ok_or_else(damaged)?)
            }
            None => return Err(damaged()),
        };
        let length = inner.number()?;
        let count = usize::try_from(length >> 1).map_err(|_| damaged())?;
        let value = if length & 1 == 0 {
            Value::Bytes(record.slice_ref(inner.take(count)?))
        } else {
            let mut items = Vec::new();
            for _ in 0..count {
                items.push(data_set_at(&mut inner, record, depth + 1)?);
            }
            Value::Items(items)
        };
        set.put(Element { tag, vr, value });
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_uid_survives_whatever_it_shares_with_its_base() {
        for (uid, base) in [
            ("1.2.3", "1.2.3"),
            ("1.2.3", ""),
            ("1.2.840.10008.5.1.4.1.1.2", STANDARD_ROOT),
            ("2.25.3", "1.2"),
            ("1.2", "1.2.3"),
        ] {
            let mut out = Vec::new();
            put_uid(&mut out, uid, base);
            assert_eq!(Reader::new(&out).uid(base).unwrap().as_str(), uid);
        }
    }

    #[test]
    fn no_uid_key_is_the_prefix_of_another() {
        let keys = ["1", "1.", "1.2", "1.22", "1.2.", "12"].map(|text| uid_key(&Uid::parse(text).unwrap()));
        for (i, a) in keys.iter().enumerate() {
            for (j, b) in keys.iter().enumerate() {
                assert!(i == j || !a.starts_with(b));
            }
        }
    }

    #[test]
    fn every_common_attribute_stands_in_the_list_once() {
        let tags: std::collections::BTreeSet<_> = COMMON.iter().map(|(tag, _)| tag).collect();
        assert_eq!(tags.len(), COMMON.len());
        assert!(COMMON.len() < usize::from(EXPLICIT));
    }

    fn a_data_set(depth: u32) -> BoxedStrategy<DataSet> {
        let tag = prop_oneof![
            (0..COMMON.len()).prop_map(|at| COMMON[at].0),
            (any::<u16>(), any::<u16>()).prop_map(|(g, e)| Tag(g, e)),
        ];
        let vr = prop_oneof![Just(VR::LO), Just(VR::CS), Just(VR::UN), Just(VR::US)];
        let plain = (tag.clone(), vr, prop::collection::vec(any::<u8>(), 0..40));
        let plain = plain.prop_map(|(tag, vr, bytes)| Element {
            tag,
            vr,
            value: Value::Bytes(bytes.into()),
        });
        let element = if depth == 0 {
            plain.boxed()
        } else {
            let items = prop::collection::vec(a_data_set(depth - 1), 0..3);
            let sequence = (tag, items).prop_map(|(tag, items)| Element {
                tag,
                vr: VR::SQ,
                value: Value::Items(items),
            });
            prop_oneof![4 => plain, 1 => sequence].boxed()
        };
        prop::collection::vec(element, 0..8)
            .prop_map(|elements| elements.into_iter().collect())
            .boxed()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_data_set_survives(set in a_data_set(2)) {
            let mut out = Vec::new();
            put_data_set(&mut out, &set);
            let record = Bytes::from(out);
            prop_assert_eq!(data_set(&mut Reader::new(&record), &record).unwrap(), set);
        }

        #[test]
        fn damaged_bytes_are_an_error_or_a_value_and_never_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200)
        ) {
            let record = Bytes::from(bytes);
            let _ = data_set(&mut Reader::new(&record), &record);
            let _ = Reader::new(&record).uid(STANDARD_ROOT);
            let _ = Reader::new(&record).text();
        }
    }
}
