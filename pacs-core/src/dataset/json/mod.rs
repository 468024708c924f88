//! The DICOM JSON Model (PS3.18 annex F): a data set whose bulk data lies elsewhere, to and from JSON.
//!
//! ```
//! use pacs_core::dataset::{DataSet, json};
//! use pacs_core::{VR, tags};
//!
//! let mut set = DataSet::new();
//! set.put_text(tags::PATIENT_NAME, VR::PN, "Yamada^Tarou=山田^太郎");
//! set.put_text(tags::INSTANCE_NUMBER, VR::IS, "007");
//! let mut out = Vec::new();
//! json::write(&set, &[], &|_| String::new(), &mut out);
//! assert_eq!(
//!     String::from_utf8(out).unwrap(),
//!     r#"{"00080005":{"vr":"CS","Value":["ISO_IR 192"]},"#.to_owned()
//!         + r#""00100010":{"vr":"PN","Value":[{"Alphabetic":"Yamada^Tarou","Ideographic":"山田^太郎"}]},"#
//!         + r#""00200013":{"vr":"IS","Value":[7]}}"#,
//! );
//! ```

mod parse;
mod read;
#[cfg(test)]
mod tests;

use dicom_core::{Tag, VR};

pub use self::read::read;
use super::described::merge::{Entry, Merge};
use super::described::values::{Number, bare_group, is_binary, is_number, json_number, readable, write_hex};
pub use super::described::{BulkReference, Described};
use super::described::{UTF8, base64, is_left_out, needs_charset};
use super::metadata::BulkValue;
use super::model::{DataSet, Element, Value};
use super::normal::SPECIFIC_CHARACTER_SET;

/// Appends one object: the elements of `header`, and of `bulk`, which is in order of path, each with the URI that
/// `uri` gives (F.2.6).
///
/// - Specific Character Set (0008,0005) is UTF-8 where it is there or text is not ASCII. Group Length, File Meta
///   Information and padding are left out.
/// - Values of IS and DS that are numbers, and numbers that a double says exactly, are JSON numbers. All others are
///   strings (F.2.3), also `NaN`, `Infinity` and `-Infinity`, for which JSON has no number.
/// - What is no text becomes U+FFFD. It is JSON whatever the values are.
pub fn write(header: &DataSet, bulk: &[BulkValue], uri: &dyn Fn(&BulkValue) -> String, out: &mut Vec<u8>) {
    let mut writer = Writer {
        merge: Merge::new(bulk),
        uri,
        out,
    };
    writer.set(header, needs_charset(header));
}

struct Writer<'a, 'o> {
    merge: Merge<'a>,
    uri: &'a dyn Fn(&BulkValue) -> String,
    out: &'o mut Vec<u8>,
}

impl<'a> Writer<'a, '_> {
    fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// A data set or item; `charset` says whether Specific Character Set is added.
    fn set(&mut self, set: &'a DataSet, mut charset: bool) {
        self.out.push(b'{');
        let start = self.out.len();
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
                self.key(start, SPECIFIC_CHARACTER_SET, VR::CS);
                self.put(b",\"Value\":[\"");
                self.put(UTF8.as_bytes());
                self.put(b"\"]}");
            }
            match entry {
                None => break,
                Some(_) if is_left_out(tag) => {}
                Some(Entry::Held(element)) => self.element(start, element),
                Some(Entry::Bulk(value)) => self.bulk(start, value),
            }
        }
        self.out.push(b'}');
    }

    /// What an element begins with, in an object that began at `start`.
    fn key(&mut self, start: usize, Tag(group, element): Tag, vr: VR) {
        if self.out.len() > start {
            self.out.push(b',');
        }
        self.out.push(b'"');
        write_hex(group, self.out);
        write_hex(element, self.out);
        self.put(b"\":{\"vr\":\"");
        self.put(&vr.to_bytes());
        self.out.push(b'"');
    }

    fn bulk(&mut self, start: usize, value: &BulkValue) {
        self.key(start, value.path.tag(), value.vr);
        // What is empty is nowhere else.
        if value.length != Some(0) {
            self.put(b",\"BulkDataURI\":");
            let uri = (self.uri)(value);
            self.string(&uri);
        }
        self.out.push(b'}');
    }

    fn element(&mut self, start: usize, element: &'a Element) {
        let vr = match (&element.value, element.vr) {
            (Value::Items(_), _) => VR::SQ,
            (Value::Bytes(_), VR::SQ) => VR::UN,
            (Value::Bytes(_), vr) => vr,
        };
        self.key(start, element.tag, vr);
        match &element.value {
            Value::Items(items) if items.is_empty() => {}
            Value::Items(items) => {
                self.put(b",\"Value\":[");
                for (at, item) in items.iter().enumerate() {
                    self.comma(at);
                    self.merge.enter(element.tag, at + 1);
                    self.set(item, false);
                    self.merge.leave();
                }
                self.out.push(b']');
            }
            // F.2.5.
            Value::Bytes(_) if element.is_empty() => {}
            Value::Bytes(bytes) if is_binary(vr) => {
                self.put(b",\"InlineBinary\":\"");
                base64::encode(bytes, self.out);
                self.out.push(b'"');
            }
            Value::Bytes(bytes) if is_number(vr) && Number::all(vr, bytes).next().is_none() => {}
            Value::Bytes(bytes) if is_number(vr) => {
                self.put(b",\"Value\":[");
                for (at, number) in Number::all(vr, bytes).enumerate() {
                    self.comma(at);
                    if number.is_plain() {
                        number.write(self.out);
                    } else {
                        self.out.push(b'"');
                        number.write(self.out);
                        self.out.push(b'"');
                    }
                }
                self.out.push(b']');
            }
            Value::Bytes(_) => self.text(&readable(element)),
        }
        self.out.push(b'}');
    }

    fn text(&mut self, element: &Element) {
        self.put(b",\"Value\":[");
        if element.tag == SPECIFIC_CHARACTER_SET {
            self.string(UTF8);
        } else {
            for (at, text) in element.strings().enumerate() {
                self.comma(at);
                match element.vr {
                    _ if text.is_empty() => self.put(b"null"),
                    VR::PN => self.name(text),
                    VR::IS | VR::DS => match json_number(text) {
                        Some(number) => self.put(number.as_bytes()),
                        None => self.string(text),
                    },
                    _ => self.string(text),
                }
            }
        }
        self.out.push(b']');
    }

    /// The component groups of a name that are not empty (F.2.2); the number of groups is three at most.
    fn name(&mut self, text: &str) {
        let groups = text.split('=').map(bare_group);
        let mut groups = ["Alphabetic", "Ideographic", "Phonetic"]
            .into_iter()
            .zip(groups)
            .filter(|(_, group)| !group.is_empty())
            .peekable();
        if groups.peek().is_none() {
            return self.put(b"null");
        }
        self.out.push(b'{');
        for (at, (name, group)) in groups.enumerate() {
            self.comma(at);
            self.out.push(b'"');
            self.put(name.as_bytes());
            self.put(b"\":");
            self.string(group);
        }
        self.out.push(b'}');
    }

    fn comma(&mut self, at: usize) {
        if at > 0 {
            self.out.push(b',');
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push(b'"');
        let bytes = text.as_bytes();
        let mut start = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            if byte >= 0x20 && byte != b'"' && byte != b'\\' {
                continue;
            }
            self.out.extend_from_slice(&bytes[start..at]);
            start = at + 1;
            match byte {
                b'"' | b'\\' => self.out.extend_from_slice(&[b'\\', byte]),
                b'\n' => self.put(b"\\n"),
                b'\r' => self.put(b"\\r"),
                b'\t' => self.put(b"\\t"),
                _ => {
                    self.put(b"\\u");
                    write_hex(u16::from(byte), self.out);
                }
            }
        }
        self.out.extend_from_slice(&bytes[start..]);
        self.out.push(b'"');
    }
}
