//! From the DICOM JSON Model to data sets.

use bytes::Bytes;
use dicom_core::{Tag, VR};

use super::parse::Parser;
use crate::dataset::described::values::value;
use crate::dataset::described::{Described, Reading, base64, check_length, invalid, parse_vr, sequence};
use crate::dataset::metadata::parse_tag;
use crate::dataset::model::{DataSet, Element, Value};
use crate::dataset::syntax::dictionary_vr;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::limits::DESCRIBED_INSTANCES_MAX;

/// Reads an array of objects, or one object. Elements may be in any order; Group Length is left out. Where the VR is
/// missing it is the dictionary's.
///
/// # Errors
/// `Invalid`, with the element where one is at fault, when it is not JSON, or not what PS3.18 F.2 says;
/// `OutOfResources` when it is longer than
/// [`DESCRIPTION_LENGTH_MAX_BYTES`](crate::limits::DESCRIPTION_LENGTH_MAX_BYTES) or describes more than
/// [`DESCRIBED_INSTANCES_MAX`] instances.
pub fn read(bytes: &[u8]) -> Result<Vec<Described>> {
    check_length(bytes)?;
    let mut reader = Reader {
        parser: Parser::new(bytes)?,
        reading: Reading::default(),
    };
    let mut all = Vec::new();
    if reader.parser.peek() == Some(b'[') {
        reader.parser.expect(b'[')?;
        let mut is_first = true;
        while reader.parser.has_next(b']', &mut is_first)? {
            if all.len() == DESCRIBED_INSTANCES_MAX {
                let what = "a document describes too many instances";
                return Err(
                    Error::new(ErrorKind::OutOfResources, "data_set.json", what).with_retry(Retry::Never)
                );
            }
            all.push(reader.described()?);
        }
    } else {
        all.push(reader.described()?);
    }
    reader.parser.end()?;
    Ok(all)
}

struct Reader<'a> {
    parser: Parser<'a>,
    reading: Reading,
}

/// What stands in a "Value" array, as it came: its VR may come behind it.
#[derive(Default)]
struct Values {
    /// All but items, with `\` between them.
    text: String,
    items: Vec<DataSet>,
    count: usize,
    has_items: bool,
    /// Whether anything but `null` and items came.
    has_text: bool,
}

impl Reader<'_> {
    fn described(&mut self) -> Result<Described> {
        self.parser.expect(b'{')?;
        let header = self.set(None)?;
        Ok(self.reading.finish(header))
    }

    /// The members of an object whose brace was taken; the name of the first one may have been taken too.
    fn set(&mut self, mut taken: Option<Tag>) -> Result<DataSet> {
        let mut elements = Vec::new();
        let mut is_first = taken.is_none();
        loop {
            let tag = match taken.take() {
                Some(tag) => tag,
                None if !self.parser.has_next(b'}', &mut is_first)? => break,
                None => {
                    let key = self.parser.key()?;
                    parse_tag(&key).ok_or_else(|| invalid("the name of an attribute is no tag"))?
                }
            };
            let element = self.element(tag)?;
            elements.extend(element.filter(|element| element.tag.1 != 0));
        }
        Ok(DataSet::from(elements))
    }

    fn element(&mut self, tag: Tag) -> Result<Option<Element>> {
        let mut vr = None;
        let mut values = None;
        let mut binary = None;
        let mut uri = None;
        self.parser.expect(b'{')?;
        let mut is_first = true;
        while self.parser.has_next(b'}', &mut is_first)? {
            match &*self.parser.key()? {
                "vr" => {
                    let letters = self.parser.string()?;
                    let known = parse_vr(&letters);
                    vr = Some(known.ok_or_else(|| invalid("a VR is none that is known").with_tag(tag))?);
                }
                "Value" => values = Some(self.values(tag)?),
                "BulkDataURI" => uri = Some(self.parser.string()?.into_owned()),
                "InlineBinary" => {
                    let text = self.inline()?;
                    let bytes = base64::decode(&text);
                    binary = Some(bytes.ok_or_else(|| invalid("InlineBinary is not base64").with_tag(tag))?);
                }
                _ => self.parser.pass()?,
            }
        }
        let vr = vr.or_else(|| dictionary_vr(tag, false)).unwrap_or(VR::UN);
        if vr == VR::SQ && values.as_ref().is_some_and(|values| values.has_items) {
            // Items without an element were not gone into.
            self.reading.check_depth(tag)?;
        }
        let one = match (values, binary, uri) {
            (None, None, Some(uri)) => {
                self.reading.refer(tag, vr, uri);
                return Ok(None);
            }
            (Some(values), None, None) => values.element(tag, vr)?,
            (None, Some(bytes), None) if vr != VR::SQ => Element {
                tag,
                vr,
                value: Value::Bytes(Bytes::from(bytes)),
            },
            (None, None, None) => Values::default().element(tag, vr)?,
            // F.2.2: at most one of them.
            _ => return Err(invalid("an attribute has its value in a form that it can't have").with_tag(tag)),
        };
        Ok(Some(one))
    }

    /// Some writers put InlineBinary in an array.
    fn inline(&mut self) -> Result<String> {
        if self.parser.peek() != Some(b'[') {
            return Ok(self.parser.string()?.into_owned());
        }
        let mut text = String::new();
        self.parser.expect(b'[')?;
        let mut is_first = true;
        while self.parser.has_next(b']', &mut is_first)? {
            text.push_str(&self.parser.string()?);
        }
        Ok(text)
    }

    fn values(&mut self, tag: Tag) -> Result<Values> {
        let mut values = Values::default();
        self.parser.expect(b'[')?;
        let mut is_first = true;
        while self.parser.has_next(b']', &mut is_first)? {
            if values.count > 0 {
                values.text.push('\\');
            }
            values.count += 1;
            match self.parser.peek() {
                Some(b'"') => {
                    values.has_text = true;
                    values.text.push_str(&self.parser.string()?);
                }
                Some(b'{') => self.object(tag, &mut values)?,
                Some(b'n') => self.parser.null()?,
                Some(b'-' | b'0'..=b'9') => {
                    values.has_text = true;
                    values.text.push_str(self.parser.number()?);
                }
                _ => return Err(self.parser.unexpected()),
            }
        }
        Ok(values)
    }

    /// An item, or the component groups of a name: its first member tells.
    fn object(&mut self, tag: Tag, values: &mut Values) -> Result<()> {
        self.parser.expect(b'{')?;
        let mut is_first = true;
        values.has_items = true;
        if !self.parser.has_next(b'}', &mut is_first)? {
            // An item, or a name of no groups; its VR tells.
            values.items.push(DataSet::new());
            return Ok(());
        }
        let key = self.parser.key()?;
        let Some(first) = parse_tag(&key) else {
            values.has_items = !values.items.is_empty();
            values.has_text = true;
            return self.name(key.into_owned(), values);
        };
        self.reading.enter(tag, values.items.len() + 1)?;
        let item = self.set(Some(first))?;
        self.reading.within.leave();
        values.items.push(item);
        Ok(())
    }

    fn name(&mut self, mut key: String, values: &mut Values) -> Result<()> {
        let mut groups = [const { String::new() }; 3];
        let mut is_first = false;
        loop {
            let at = match key.as_str() {
                "Alphabetic" => Some(0),
                "Ideographic" => Some(1),
                "Phonetic" => Some(2),
                _ => None,
            };
            match (at, self.parser.peek()) {
                (Some(at), Some(b'"')) => groups[at] = self.parser.string()?.into_owned(),
                _ => self.parser.pass()?,
            }
            if !self.parser.has_next(b'}', &mut is_first)? {
                break;
            }
            key = self.parser.key()?.into_owned();
        }
        let name = groups.join("=");
        values.text.push_str(name.trim_end_matches('='));
        Ok(())
    }
}

impl Values {
    fn element(self, tag: Tag, vr: VR) -> Result<Element> {
        let wrong = || invalid("an attribute has values that its VR can't have").with_tag(tag);
        if vr == VR::SQ {
            if self.has_text || self.items.len() != self.count {
                return Err(wrong());
            }
            return Ok(sequence(tag, self.items));
        }
        let is_name = vr == VR::PN && self.items.iter().all(DataSet::is_empty);
        if self.has_items && !is_name {
            return Err(wrong());
        }
        // `[null]` is no value, like `[]`.
        let value = value(tag, vr, self.text)?;
        Ok(Element { tag, vr, value })
    }
}
