//! [`DataSet`]: elements in tag order, in one normal form whatever they were read from.

use std::fmt;

use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use crate::error::{Error, ErrorKind, Result};
use crate::uid::Uid;

/// A data set in memory, in normal form: text is UTF-8, numbers are little endian, elements are in
/// ascending order of tag (PS3.5 7.1), sequences are data sets of the same form.
///
/// It is meant for what is small: identifiers, responses, the searched attributes of an instance. The
/// data set of an instance itself stays bytes.
///
/// `Debug` shows tags, VRs and lengths, never values: they are patient data.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DataSet {
    elements: Vec<Element>,
}

/// One element of a [`DataSet`].
#[derive(Clone, PartialEq, Eq)]
pub struct Element {
    /// Its tag.
    pub tag: Tag,
    /// Its value representation.
    pub vr: VR,
    /// Its value.
    pub value: Value,
}

/// The value of an [`Element`].
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// Anything but a sequence: for text UTF-8 with `\` between values, for numbers little endian.
    /// Padding may be present.
    Bytes(Bytes),
    /// The items of a sequence.
    Items(Vec<DataSet>),
}

impl DataSet {
    /// One without elements.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// The number of elements at the top level.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// The elements in ascending order of tag.
    pub fn iter(&self) -> std::slice::Iter<'_, Element> {
        self.elements.iter()
    }

    /// The element with this tag.
    pub fn get(&self, tag: Tag) -> Option<&Element> {
        self.position(tag).ok().map(|at| &self.elements[at])
    }

    /// Whether there is an element with this tag, with or without a value.
    pub fn contains(&self, tag: Tag) -> bool {
        self.position(tag).is_ok()
    }

    /// Adds `element`, in place of one with the same tag.
    pub fn put(&mut self, element: Element) {
        // Elements come in order nearly always; then this is a push.
        match self.elements.last() {
            Some(last) if last.tag >= element.tag => match self.position(element.tag) {
                Ok(at) => self.elements[at] = element,
                Err(at) => self.elements.insert(at, element),
            },
            _ => self.elements.push(element),
        }
    }

    /// Adds an element with text as its value; several values stand with `\` between them.
    pub fn put_text(&mut self, tag: Tag, vr: VR, text: impl Into<String>) {
        self.put(Element {
            tag,
            vr,
            value: Value::Bytes(Bytes::from(text.into())),
        });
    }

    /// Adds an element of VR US.
    pub fn put_u16(&mut self, tag: Tag, number: u16) {
        self.put(Element {
            tag,
            vr: VR::US,
            value: Value::Bytes(Bytes::copy_from_slice(&number.to_le_bytes())),
        });
    }

    /// Adds an element of VR UI.
    pub fn put_uid(&mut self, tag: Tag, uid: &Uid) {
        self.put_text(tag, VR::UI, uid.as_str());
    }

    /// Adds a sequence.
    pub fn put_items(&mut self, tag: Tag, items: Vec<DataSet>) {
        self.put(Element {
            tag,
            vr: VR::SQ,
            value: Value::Items(items),
        });
    }

    /// An item of a code sequence (PS3.3 8.8).
    pub fn code(value: &str, scheme: &str, meaning: &str) -> Self {
        let mut item = Self::new();
        item.put_text(tags::CODE_VALUE, VR::SH, value);
        item.put_text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, scheme);
        item.put_text(tags::CODE_MEANING, VR::LO, meaning);
        item
    }

    /// Takes the element with this tag out.
    pub fn remove(&mut self, tag: Tag) -> Option<Element> {
        self.position(tag).ok().map(|at| self.elements.remove(at))
    }

    /// The elements that have a value.
    pub fn with_values(&self) -> Self {
        let mut set = self.clone();
        set.retain(|element| !element.is_empty());
        set
    }

    /// Keeps the elements for which `keep` answers true.
    pub fn retain(&mut self, keep: impl FnMut(&Element) -> bool) {
        self.elements.retain(keep);
    }

    /// Adds every element of `other` that is not here, not even without a value.
    pub fn add_from(&mut self, other: &DataSet) {
        for element in other.iter() {
            if !self.contains(element.tag) {
                self.put(element.clone());
            }
        }
    }

    /// The values of a text element without insignificant padding; none when it is absent or empty.
    pub fn strings(&self, tag: Tag) -> impl Iterator<Item = &str> {
        self.get(tag).into_iter().flat_map(Element::strings)
    }

    /// The first value of a text element without insignificant padding, if it is there and not empty.
    pub fn string(&self, tag: Tag) -> Option<&str> {
        self.strings(tag).next().filter(|text| !text.is_empty())
    }

    /// The first value of a US element.
    pub fn u16(&self, tag: Tag) -> Option<u16> {
        let Value::Bytes(bytes) = &self.get(tag)?.value else {
            return None;
        };
        bytes.first_chunk().map(|chunk| u16::from_le_bytes(*chunk))
    }

    /// The UID that must stand under this tag.
    ///
    /// # Errors
    /// `Invalid`, with the tag, when it is absent, empty or not a UID.
    pub fn uid(&self, tag: Tag) -> Result<Uid> {
        let text = self.string(tag).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "data_set.uid", "a UID is missing").with_tag(tag)
        })?;
        Uid::parse(text).map_err(|error| error.with_tag(tag))
    }

    /// The items of a sequence; none when it is absent or no sequence.
    pub fn items(&self, tag: Tag) -> &[DataSet] {
        match self.get(tag) {
            Some(Element {
                value: Value::Items(items),
                ..
            }) => items,
            _ => &[],
        }
    }

    pub(super) fn elements_mut(&mut self) -> &mut [Element] {
        &mut self.elements
    }

    fn position(&self, tag: Tag) -> Result<usize, usize> {
        self.elements.binary_search_by_key(&tag, |element| element.tag)
    }
}

impl From<Vec<Element>> for DataSet {
    /// Takes elements in any order; of those with the same tag the last counts.
    fn from(mut elements: Vec<Element>) -> Self {
        if !elements.is_sorted_by(|a, b| a.tag < b.tag) {
            // Stable, so that the last of one tag can be told.
            elements.sort_by_key(|element| element.tag);
            elements.dedup_by(|later, earlier| {
                let same = later.tag == earlier.tag;
                if same {
                    std::mem::swap(later, earlier);
                }
                same
            });
        }
        Self { elements }
    }
}

impl FromIterator<Element> for DataSet {
    fn from_iter<T: IntoIterator<Item = Element>>(elements: T) -> Self {
        Self::from(elements.into_iter().collect::<Vec<_>>())
    }
}

impl IntoIterator for DataSet {
    type Item = Element;
    type IntoIter = std::vec::IntoIter<Element>;
    fn into_iter(self) -> Self::IntoIter {
        self.elements.into_iter()
    }
}

impl fmt::Debug for DataSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.elements).finish()
    }
}

impl Element {
    /// Whether it has no value.
    pub fn is_empty(&self) -> bool {
        match &self.value {
            Value::Bytes(bytes) => match self.vr {
                // Zero is a number, and bytes of any value are data.
                VR::AT
                | VR::FD
                | VR::FL
                | VR::SL
                | VR::SS
                | VR::SV
                | VR::UL
                | VR::US
                | VR::UV
                | VR::OB
                | VR::OD
                | VR::OF
                | VR::OL
                | VR::OV
                | VR::OW
                | VR::UN => bytes.is_empty(),
                _ => bytes.iter().all(|&b| b == b' ' || b == 0),
            },
            Value::Items(items) => items.is_empty(),
        }
    }

    /// The bytes of the value; empty for a sequence.
    pub fn bytes(&self) -> &[u8] {
        match &self.value {
            Value::Bytes(bytes) => bytes,
            Value::Items(_) => &[],
        }
    }

    /// The values of a text element without insignificant padding. LT, ST, UT and UR hold one value,
    /// in which `\` is a character (PS3.5 6.2).
    pub fn strings(&self) -> impl Iterator<Item = &str> {
        let text = std::str::from_utf8(self.bytes()).unwrap_or_default();
        let text = text.trim_end_matches(['\0', ' ']);
        let single = matches!(self.vr, VR::LT | VR::ST | VR::UT | VR::UR);
        let mut rest = (!text.is_empty()).then_some(text);
        std::iter::from_fn(move || {
            let now = rest?;
            let (value, next) = match now.split_once('\\') {
                Some((value, next)) if !single => (value, Some(next)),
                _ => (now, None),
            };
            rest = next;
            let value = value.trim_end_matches(['\0', ' ']);
            Some(if single {
                value
            } else {
                value.trim_start_matches(' ')
            })
        })
    }
}

impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Bytes(bytes) => write!(f, "{} {} {} bytes", self.tag, self.vr.to_string(), bytes.len()),
            Value::Items(items) => write!(f, "{} SQ {items:?}", self.tag),
        }
    }
}

/// Where one frame of encapsulated pixel data lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameExtent {
    /// First byte of the frame's first fragment, from the start of the data set.
    pub offset: u64,
    /// Bytes up to the end of its last fragment. Where a frame has several fragments, the item
    /// headers between them (8 bytes each, PS3.5 A.4) are inside.
    pub length: u64,
}

/// Where the frames of encapsulated pixel data lie (PS3.5 A.4), so that one frame is one range read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameTable {
    /// In order of frame number.
    pub frames: Vec<FrameExtent>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use dicom_dictionary_std::tags;

    #[test]
    fn blanks_are_no_text_and_zero_is_a_number_and_data() {
        let is_empty = |vr, bytes: &'static [u8]| {
            let value = Value::Bytes(Bytes::from_static(bytes));
            let tag = tags::PATIENT_NAME;
            Element { tag, vr, value }.is_empty()
        };
        assert!(is_empty(VR::PN, b"  ") && is_empty(VR::UI, b"\0") && is_empty(VR::OB, b""));
        for vr in [VR::US, VR::OB, VR::OW, VR::UN] {
            assert!(!is_empty(vr, b"\0\0"), "{vr:?}");
        }
    }

    #[test]
    fn elements_stay_in_order_of_tag_and_a_second_put_replaces() {
        let mut set = DataSet::new();
        set.put_text(tags::PATIENT_ID, VR::LO, "B");
        set.put_text(tags::ACCESSION_NUMBER, VR::SH, "1");
        set.put_text(tags::PATIENT_ID, VR::LO, "C ");
        assert_eq!(
            set.iter().map(|e| e.tag).collect::<Vec<_>>(),
            [tags::ACCESSION_NUMBER, tags::PATIENT_ID]
        );
        assert_eq!(set.string(tags::PATIENT_ID), Some("C"));
    }

    #[test]
    fn values_are_split_at_the_backslash_except_in_text_of_one_value() {
        let mut set = DataSet::new();
        set.put_text(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\ PRIMARY \\\\X ");
        set.put_text(tags::IMAGE_COMMENTS, VR::LT, " a\\b ");
        assert_eq!(
            set.strings(tags::IMAGE_TYPE).collect::<Vec<_>>(),
            ["ORIGINAL", "PRIMARY", "", "X"]
        );
        assert_eq!(set.strings(tags::IMAGE_COMMENTS).collect::<Vec<_>>(), [" a\\b"]);
        assert_eq!(set.strings(tags::PATIENT_ID).count(), 0);
    }

    #[test]
    fn debug_shows_no_value() {
        let mut set = DataSet::new();
        set.put_text(tags::PATIENT_NAME, VR::PN, "Secret^Name");
        assert!(!format!("{set:?}").contains("Secret"));
    }
}
