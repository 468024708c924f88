//! Writes a [`DataSet`] in a transfer syntax: identifiers, responses, command sets.

use std::borrow::Cow;
use std::io::Write;

use dicom_core::{Tag, VR};
use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::charset::CharacterSet;
use super::model::{DataSet, Element, Value};
use super::normal::SPECIFIC_CHARACTER_SET;
use super::syntax::{self, Encoding, ITEM};
use crate::error::{Error, ErrorKind, Result};

/// The longest value with a 2-byte length.
const SHORT_LENGTH_MAX_BYTES: usize = 0xFFFE;

/// Writes `set` in `transfer_syntax`: Implicit VR Little Endian, Explicit VR Little Endian, the same
/// deflated, or Explicit VR Big Endian. Every other one is written as Explicit VR Little Endian, which is
/// what encapsulated ones use for all but pixel data (PS3.5 A.4).
///
/// Text is written in `charset` when that can say all of it, else in UTF-8. Specific Character Set
/// (0008,0005) names what was used, and is absent when all text is ASCII. Values are padded to even
/// length, sequences have defined lengths, Group Length is not written (for a command set, see
/// PS3.7 6.3.1, the caller puts it in front).
///
/// # Errors
/// `Invalid` when a value is longer than the transfer syntax can say.
pub fn encode(set: &DataSet, transfer_syntax: &str, charset: &CharacterSet) -> Result<Vec<u8>> {
    let utf8 = CharacterSet::utf8();
    let (charset, plain) = match used(set, charset) {
        Used::Ascii => (charset, true),
        Used::Charset => (charset, false),
        Used::Beyond => (&utf8, false),
    };
    let mut writer = Writer {
        encoding: Encoding::of(transfer_syntax),
        charset: Cow::Borrowed(charset),
        strict: false,
        out: Vec::with_capacity(256),
    };
    let mut named = false;
    for element in set.iter() {
        if !plain && !named && element.tag >= SPECIFIC_CHARACTER_SET {
            writer.charset_element()?;
            named = true;
        }
        writer.element(element)?;
    }
    if !plain && !named {
        writer.charset_element()?;
    }
    if syntax::is_deflated(transfer_syntax) {
        return deflate(&writer.out);
    }
    Ok(writer.out)
}

/// Writes elements that are a part of a data set, in Explicit VR Little Endian with text in UTF-8. Specific Character
/// Set (0008,0005) is left out: whoever puts the parts together says it once, at its place.
///
/// # Errors
/// `Invalid` when a value is longer than can be said.
pub fn encode_part(set: &DataSet) -> Result<Vec<u8>> {
    let mut writer = Writer {
        encoding: Encoding::of(syntax::EXPLICIT_LITTLE),
        charset: Cow::Owned(CharacterSet::utf8()),
        strict: false,
        out: Vec::with_capacity(256),
    };
    let parts = set.iter().filter(|element| element.tag != SPECIFIC_CHARACTER_SET);
    parts
        .into_iter()
        .try_for_each(|element| writer.element(element))?;
    Ok(writer.out)
}

/// Writes one element as it stands in a data set whose Specific Character Set is `charset`. An item that
/// names a character set of its own (PS3.5 7.5.3) is written in that, and names it.
///
/// # Errors
/// `Invalid` when the character set can't say a value, or it is longer than the encoding can say.
pub(crate) fn element(element: &Element, encoding: Encoding, charset: &CharacterSet) -> Result<Vec<u8>> {
    let mut writer = Writer {
        encoding,
        charset: Cow::Borrowed(charset),
        strict: true,
        out: Vec::with_capacity(64),
    };
    writer.element(element)?;
    Ok(writer.out)
}

/// One bare deflated stream, padded to even length (PS3.5 A.5).
fn deflate(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    let mut out = encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .map_err(|error| Error::io("data_set.encode", "the data set can't be deflated", error))?;
    if out.len() % 2 == 1 {
        out.push(0);
    }
    Ok(out)
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Used {
    Ascii,
    Charset,
    Beyond,
}

/// What the text of `set` needs.
fn used(set: &DataSet, charset: &CharacterSet) -> Used {
    let needs = set.iter().map(|element| match &element.value {
        Value::Items(items) => items.iter().map(|item| used(item, charset)).max(),
        Value::Bytes(bytes) if syntax::has_character_set(element.vr) && !bytes.is_ascii() => {
            let encoded = std::str::from_utf8(bytes)
                .ok()
                .and_then(|text| charset.encode(text));
            Some(if encoded.is_some() {
                Used::Charset
            } else {
                Used::Beyond
            })
        }
        Value::Bytes(_) => None,
    });
    needs.flatten().max().unwrap_or(Used::Ascii)
}

struct Writer<'a> {
    encoding: Encoding,
    charset: Cow<'a, CharacterSet>,
    /// Character sets are those that the items name, and what they can't say is an error.
    strict: bool,
    out: Vec<u8>,
}

impl Writer<'_> {
    fn charset_element(&mut self) -> Result<()> {
        let value = self.charset.value();
        self.value(SPECIFIC_CHARACTER_SET, VR::CS, value.into_bytes())
    }

    fn element(&mut self, element: &Element) -> Result<()> {
        let Element { tag, vr, value } = element;
        match value {
            // Named by `encode` once for all, Group Length by nobody.
            _ if *tag == SPECIFIC_CHARACTER_SET && !self.strict || tag.1 == 0 => Ok(()),
            Value::Items(items) => self.sequence(*tag, items),
            Value::Bytes(bytes) => {
                let mut bytes = match std::str::from_utf8(bytes) {
                    text if self.strict && syntax::has_character_set(*vr) => {
                        let said = text.ok().and_then(|text| self.charset.encode(text));
                        said.ok_or_else(|| unsayable(*tag))?
                    }
                    Ok(text) if syntax::has_character_set(*vr) && !text.is_ascii() => {
                        // What can't be said was found before, so this is never the fallback.
                        self.charset.encode(text).unwrap_or_else(|| bytes.to_vec())
                    }
                    _ => bytes.to_vec(),
                };
                if self.encoding.big_endian {
                    syntax::swap(*vr, &mut bytes);
                }
                // Bytes under SQ would be taken for items.
                let vr = if *vr == VR::SQ { VR::UN } else { *vr };
                self.value(*tag, vr, bytes)
            }
        }
    }

    fn value(&mut self, tag: Tag, vr: VR, mut bytes: Vec<u8>) -> Result<()> {
        if bytes.len() % 2 == 1 {
            let text = syntax::is_text(vr) && vr != VR::UI;
            bytes.push(if text { b' ' } else { 0 });
        }
        self.tag(tag);
        self.vr_and_length(tag, vr, bytes.len())?;
        self.out.extend_from_slice(&bytes);
        Ok(())
    }

    fn sequence(&mut self, tag: Tag, items: &[DataSet]) -> Result<()> {
        self.tag(tag);
        self.vr_and_length(tag, VR::SQ, 0)?;
        let start = self.out.len();
        for item in items {
            self.tag(ITEM);
            self.u32(0);
            let inside = self.out.len();
            let own = item.get(SPECIFIC_CHARACTER_SET).filter(|_| self.strict);
            let own = own.map(|own| CharacterSet::parse(&String::from_utf8_lossy(own.bytes())));
            let around = own.map(|own| std::mem::replace(&mut self.charset, Cow::Owned(own)));
            for element in item.iter() {
                self.element(element)?;
            }
            if let Some(around) = around {
                self.charset = around;
            }
            self.patch(tag, inside)?;
        }
        self.patch(tag, start)
    }

    /// Writes the length of everything from `start` on into the four bytes before it.
    fn patch(&mut self, tag: Tag, start: usize) -> Result<()> {
        let length = self.out.len() - start;
        let length = u32::try_from(length)
            .ok()
            .filter(|&length| length != syntax::UNDEFINED);
        let length = length.ok_or_else(|| too_long(tag))?;
        let bytes = if self.encoding.big_endian {
            length.to_be_bytes()
        } else {
            length.to_le_bytes()
        };
        self.out[start - 4..start].copy_from_slice(&bytes);
        Ok(())
    }

    fn vr_and_length(&mut self, tag: Tag, vr: VR, length: usize) -> Result<()> {
        let long = u32::try_from(length)
            .ok()
            .filter(|&length| length != syntax::UNDEFINED);
        let long = long.ok_or_else(|| too_long(tag))?;
        if !self.encoding.explicit {
            self.u32(long);
            return Ok(());
        }
        if syntax::has_long_length(vr) {
            self.out.extend_from_slice(&vr.to_bytes());
            self.u16(0);
            self.u32(long);
        } else if length <= SHORT_LENGTH_MAX_BYTES {
            self.out.extend_from_slice(&vr.to_bytes());
            // Bounded by the line above.
            self.u16(length as u16);
        } else {
            // PS3.5 6.2.2 note 2: what is too long for its VR goes as UN.
            self.out.extend_from_slice(&VR::UN.to_bytes());
            self.u16(0);
            self.u32(long);
        }
        Ok(())
    }

    fn tag(&mut self, tag: Tag) {
        self.u16(tag.0);
        self.u16(tag.1);
    }

    fn u16(&mut self, number: u16) {
        self.out.extend_from_slice(&if self.encoding.big_endian {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        });
    }

    fn u32(&mut self, number: u32) {
        self.out.extend_from_slice(&if self.encoding.big_endian {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        });
    }
}

fn unsayable(tag: Tag) -> Error {
    Error::new(
        ErrorKind::Invalid,
        "data_set.encode",
        "a value can't be said in the Specific Character Set",
    )
    .with_tag(tag)
}

fn too_long(tag: Tag) -> Error {
    Error::new(
        ErrorKind::Invalid,
        "data_set.encode",
        "a value is longer than its length field can say",
    )
    .with_tag(tag)
}

#[cfg(test)]
mod tests;
