//! The Native DICOM Model (PS3.19 annex A.1): a data set whose bulk data lies elsewhere, to and from XML.
//!
//! ```
//! use pacs_core::dataset::{DataSet, xml};
//! use pacs_core::{VR, tags};
//!
//! let mut set = DataSet::new();
//! set.put_text(tags::PATIENT_ID, VR::LO, "A<B");
//! let mut out = Vec::new();
//! xml::write(&set, &[], &|_| String::new(), &mut out);
//! let text = String::from_utf8(out.clone()).unwrap();
//! assert!(text.contains(r#"<DicomAttribute tag="00100020" vr="LO" keyword="PatientID">"#));
//! assert!(text.contains(r#"<Value number="1">A&lt;B</Value></DicomAttribute></NativeDicomModel>"#));
//! assert_eq!(xml::read(&out).unwrap().header, set);
//! ```

mod read;
#[cfg(test)]
mod tests;

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;

pub use self::read::read;
use super::described::merge::{Entry, Merge};
use super::described::values::{
    Number, bare_components, is_binary, is_number, readable, write_hex, write_unsigned,
};
pub use super::described::{BulkReference, Described};
use super::described::{UTF8, base64, is_left_out, needs_charset};
use super::metadata::BulkValue;
use super::model::{DataSet, Element, Value};
use super::normal::SPECIFIC_CHARACTER_SET;

/// The components of a name, in order (PS3.5 6.2.1.1).
const COMPONENTS: [&str; 5] = [
    "FamilyName",
    "GivenName",
    "MiddleName",
    "NamePrefix",
    "NameSuffix",
];
/// Its component groups.
const GROUPS: [&str; 3] = ["Alphabetic", "Ideographic", "Phonetic"];

/// Appends one document: the elements of `header`, and of `bulk`, which is in order of path, each with the URI that
/// `uri` gives.
///
/// - Specific Character Set (0008,0005) is UTF-8 where it is there or text is not ASCII. Group Length, File Meta
///   Information and padding are left out.
/// - A private element whose block is reserved is named by its creator, with the block left out of its tag; not so
///   where its creator has several blocks in the group, and this is not the first.
/// - What is no text, and the characters that XML 1.0 does not have, become U+FFFD.
pub fn write(header: &DataSet, bulk: &[BulkValue], uri: &dyn Fn(&BulkValue) -> String, out: &mut Vec<u8>) {
    let mut writer = Writer {
        merge: Merge::new(bulk),
        uri,
        out,
    };
    writer.put("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    writer.put(
        "<NativeDicomModel xmlns=\"http://dicom.nema.org/PS3.19/models/NativeDICOM\" xml:space=\"preserve\">",
    );
    writer.set(header, needs_charset(header));
    writer.put("</NativeDicomModel>");
}

/// The creator of a private element (PS3.5 7.8.1), and whether its block is the first that this creator has.
fn creator_of(set: &DataSet, Tag(group, number): Tag) -> Option<(&str, bool)> {
    let block = number >> 8;
    if group.is_multiple_of(2) || block < 0x10 {
        return None;
    }
    let of = |block| {
        let element = set
            .get(Tag(group, block))
            .filter(|element| element.vr == VR::LO)?;
        element.strings().next().filter(|creator| !creator.is_empty())
    };
    let creator = of(block)?;
    let is_first = !(0x10..block).any(|other| of(other) == Some(creator));
    Some((creator, is_first))
}

struct Writer<'a, 'o> {
    merge: Merge<'a>,
    uri: &'a dyn Fn(&BulkValue) -> String,
    out: &'o mut Vec<u8>,
}

impl<'a> Writer<'a, '_> {
    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// A data set or item; `charset` says whether Specific Character Set is added.
    fn set(&mut self, set: &'a DataSet, mut charset: bool) {
        let mut elements = Merge::elements(set);
        loop {
            let entry = self.merge.next(&mut elements);
            let tag = match &entry {
                None => Tag(0xFFFF, 0xFFFF),
                Some(Entry::Held(element)) => element.tag,
                Some(Entry::Bulk(value)) => value.path.tag(),
            };
            if charset && tag > SPECIFIC_CHARACTER_SET {
                charset = false;
                self.open(set, SPECIFIC_CHARACTER_SET, VR::CS);
                self.value(1, UTF8);
                self.put("</DicomAttribute>");
            }
            match entry {
                None => break,
                Some(_) if is_left_out(tag) => {}
                Some(Entry::Held(element)) => self.element(set, element),
                Some(Entry::Bulk(value)) => {
                    self.open(set, tag, value.vr);
                    // What is empty is nowhere else.
                    if value.length != Some(0) {
                        self.put("<BulkData uri=\"");
                        let uri = (self.uri)(value);
                        self.text(&uri);
                        self.put("\"/>");
                    }
                    self.put("</DicomAttribute>");
                }
            }
        }
    }

    /// Opens an attribute of `set`.
    fn open(&mut self, set: &DataSet, tag: Tag, vr: VR) {
        let creator = creator_of(set, tag);
        self.put("<DicomAttribute tag=\"");
        write_hex(tag.0, self.out);
        let number = match creator {
            Some((_, true)) => tag.1 & 0xFF,
            _ => tag.1,
        };
        write_hex(number, self.out);
        self.put("\" vr=\"");
        self.out.extend_from_slice(&vr.to_bytes());
        if let Some((creator, _)) = creator {
            self.put("\" privateCreator=\"");
            self.text(creator);
        } else if tag.0.is_multiple_of(2)
            && let Some(entry) = StandardDataDictionary.by_tag(tag)
        {
            self.put("\" keyword=\"");
            self.put(entry.alias());
        }
        self.put("\">");
    }

    fn element(&mut self, set: &DataSet, element: &'a Element) {
        let vr = match (&element.value, element.vr) {
            (Value::Items(_), _) => VR::SQ,
            (Value::Bytes(_), VR::SQ) => VR::UN,
            (Value::Bytes(_), vr) => vr,
        };
        self.open(set, element.tag, vr);
        match &element.value {
            Value::Items(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.numbered("Item", at + 1);
                    self.merge.enter(element.tag, at + 1);
                    self.set(item, false);
                    self.merge.leave();
                    self.put("</Item>");
                }
            }
            Value::Bytes(_) if element.is_empty() => {}
            Value::Bytes(bytes) if is_binary(vr) => {
                self.put("<InlineBinary>");
                base64::encode(bytes, self.out);
                self.put("</InlineBinary>");
            }
            Value::Bytes(bytes) if is_number(vr) => {
                for (at, number) in Number::all(vr, bytes).enumerate() {
                    self.numbered("Value", at + 1);
                    number.write(self.out);
                    self.put("</Value>");
                }
            }
            Value::Bytes(_) if element.tag == SPECIFIC_CHARACTER_SET => self.value(1, UTF8),
            Value::Bytes(_) => {
                for (at, text) in readable(element).strings().enumerate() {
                    match vr {
                        VR::PN => self.name(at + 1, text),
                        _ => self.value(at + 1, text),
                    }
                }
            }
        }
        self.put("</DicomAttribute>");
    }

    fn numbered(&mut self, name: &str, number: usize) {
        self.out.push(b'<');
        self.put(name);
        self.put(" number=\"");
        write_unsigned(number as u64, self.out);
        self.put("\">");
    }

    fn value(&mut self, number: usize, text: &str) {
        self.numbered("Value", number);
        self.text(text);
        self.put("</Value>");
    }

    fn name(&mut self, number: usize, text: &str) {
        self.numbered("PersonName", number);
        for (group, name) in text.split('=').map(bare_components).zip(GROUPS) {
            if group.is_empty() {
                continue;
            }
            self.tag("<", name);
            // What is behind the fifth component belongs to none, and stays with it.
            for (component, name) in group.splitn(COMPONENTS.len(), '^').zip(COMPONENTS) {
                if !component.is_empty() {
                    self.tag("<", name);
                    self.text(component);
                    self.tag("</", name);
                }
            }
            self.tag("</", name);
        }
        self.put("</PersonName>");
    }

    fn tag(&mut self, start: &str, name: &str) {
        self.put(start);
        self.put(name);
        self.out.push(b'>');
    }

    /// Text of an element or an attribute, in the characters of XML 1.0 (section 2.2).
    fn text(&mut self, text: &str) {
        let mut start = 0;
        for (at, char) in text.char_indices() {
            let instead = match char {
                '&' => "&amp;",
                '<' => "&lt;",
                '>' => "&gt;",
                '"' => "&quot;",
                // Else they would be read as a line feed, or in an attribute as a space.
                '\t' => "&#9;",
                '\n' => "&#10;",
                '\r' => "&#13;",
                '\0'..=' ' if char != ' ' => "\u{FFFD}",
                '\u{FFFE}' | '\u{FFFF}' => "\u{FFFD}",
                _ => continue,
            };
            self.put(&text[start..at]);
            self.put(instead);
            start = at + char.len_utf8();
        }
        self.put(&text[start..]);
    }
}
