//! From the Native DICOM Model to a data set.

use std::collections::BTreeMap;

use bytes::Bytes;
use dicom_core::{Tag, VR};
use quick_xml::Reader as XmlReader;
use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};

use super::{COMPONENTS, GROUPS};
use crate::dataset::described::values::value;
use crate::dataset::described::{Described, Reading, base64, check_length, invalid, parse_vr, sequence};
use crate::dataset::metadata::parse_tag;
use crate::dataset::model::{DataSet, Element, Value};
use crate::dataset::syntax::dictionary_vr;
use crate::error::Result;

/// Values that a number may leave out in front of it.
const VALUES_LEFT_OUT_MAX: usize = 1024;

/// Reads one document. Group Length is left out. A private element that is named by its creator gets the block that
/// its creator has in the data set, or a free one that is reserved for it.
///
/// # Errors
/// `Invalid`, with the element where one is at fault, when it is not XML, has a document type, or is not what PS3.19
/// A.1 says; `OutOfResources` when it is longer than
/// [`DESCRIPTION_LENGTH_MAX_BYTES`](crate::limits::DESCRIPTION_LENGTH_MAX_BYTES).
pub fn read(bytes: &[u8]) -> Result<Described> {
    check_length(bytes)?;
    let text = std::str::from_utf8(bytes).map_err(|error| invalid("XML is not UTF-8").with_source(error))?;
    let mut xml = XmlReader::from_str(text.strip_prefix('\u{FEFF}').unwrap_or(text));
    xml.config_mut().expand_empty_elements = true;
    let mut reader = Reader {
        xml,
        reading: Reading::default(),
    };
    match reader.next()? {
        Some(Token::Start(start)) if start.local_name().as_ref() == "NativeDicomModel" => {}
        _ => return Err(invalid("no document of the Native DICOM Model")),
    }
    let header = reader.set()?;
    match reader.next()? {
        None => Ok(reader.reading.finish(header)),
        Some(_) => Err(invalid("more than one element at the top of a document")),
    }
}

struct Reader<'a> {
    xml: XmlReader<&'a [u8]>,
    reading: Reading,
}

/// What matters of a document.
enum Token<'a> {
    Start(BytesStart<'a>),
    End,
    Text(String),
}

impl<'a> Reader<'a> {
    /// The next token; `None` at the end of the document. White space between elements is none.
    fn next(&mut self) -> Result<Option<Token<'a>>> {
        loop {
            match self.token()? {
                Some(Token::Text(text)) if text.trim().is_empty() => {}
                token => return Ok(token),
            }
        }
    }

    fn token(&mut self) -> Result<Option<Token<'a>>> {
        loop {
            let event = self.xml.read_event();
            let event = event.map_err(|error| invalid("not XML").with_source(error))?;
            return Ok(Some(match event {
                Event::Start(start) => Token::Start(start),
                Event::End(_) => Token::End,
                Event::Text(text) => Token::Text(text.xml10_content().into_owned()),
                Event::CData(text) => Token::Text(text.xml10_content().into_owned()),
                Event::GeneralRef(name) => {
                    let wrong = || invalid("an entity that XML does not define");
                    let char = name
                        .resolve_char_ref()
                        .map_err(|error| wrong().with_source(error))?;
                    Token::Text(match char {
                        Some(char) => char.to_string(),
                        None => resolve_predefined_entity(&name.xml10_content())
                            .ok_or_else(wrong)?
                            .to_owned(),
                    })
                }
                Event::Eof => return Ok(None),
                Event::DocType(_) => return Err(invalid("a document type is not read")),
                Event::Comment(_) | Event::PI(_) | Event::Decl(_) | Event::Empty(_) => continue,
            }));
        }
    }

    /// The next element inside the one that is open; `None` when that ends.
    fn child(&mut self) -> Result<Option<BytesStart<'a>>> {
        match self.next()? {
            Some(Token::Start(start)) => Ok(Some(start)),
            Some(Token::End) => Ok(None),
            _ => Err(invalid("text stands where the Native DICOM Model has none")),
        }
    }

    /// The text of the element that is open, up to its end.
    fn text(&mut self) -> Result<String> {
        let mut all = String::new();
        loop {
            match self.token()? {
                Some(Token::Text(text)) => all.push_str(&text),
                Some(Token::End) => return Ok(all),
                _ => return Err(invalid("an element stands where the Native DICOM Model has text")),
            }
        }
    }

    /// The attributes in the element that is open, up to its end.
    fn set(&mut self) -> Result<DataSet> {
        let mut elements = Vec::new();
        let mut blocks = Blocks::default();
        while let Some(start) = self.child()? {
            if start.local_name().as_ref() != "DicomAttribute" {
                return Err(invalid("an element that the Native DICOM Model does not have"));
            }
            let tag = attribute(&start, "tag")?.and_then(|tag| parse_tag(&tag));
            let mut tag = tag.ok_or_else(|| invalid("an attribute without a tag"))?;
            if let Some(creator) = attribute(&start, "privateCreator")?
                && tag.0 % 2 == 1
                && tag.1 <= 0xFF
            {
                let (block, is_new) = blocks.of(tag.0, &creator).ok_or_else(|| {
                    invalid("a private group has no block left for a creator").with_tag(tag)
                })?;
                if is_new {
                    elements.push(Element {
                        tag: Tag(tag.0, block),
                        vr: VR::LO,
                        value: Value::Bytes(Bytes::from(creator)),
                    });
                }
                tag.1 |= block << 8;
            }
            let vr = match attribute(&start, "vr")? {
                Some(letters) => {
                    let vr = parse_vr(&letters);
                    vr.ok_or_else(|| invalid("a VR is none that is known").with_tag(tag))?
                }
                None => dictionary_vr(tag, false).unwrap_or(VR::UN),
            };
            if let Some(element) = self.element(tag, vr)? {
                blocks.note(&element);
                elements.push(element);
            }
        }
        elements.retain(|element| element.tag.1 != 0);
        Ok(DataSet::from(elements))
    }

    fn element(&mut self, tag: Tag, vr: VR) -> Result<Option<Element>> {
        let wrong = || invalid("an attribute has its value in a form that it can't have").with_tag(tag);
        let mut text = String::new();
        let mut values = 0;
        let mut items = Vec::new();
        let mut binary = None;
        let mut uri = None;
        while let Some(start) = self.child()? {
            let name = start.local_name();
            match name.as_ref() {
                "Value" | "PersonName" => {
                    let number = number(&start)?.unwrap_or(values + 1);
                    if number <= values || number > values + 1 + VALUES_LEFT_OUT_MAX {
                        return Err(invalid("values are not in order").with_tag(tag));
                    }
                    for _ in values.max(1)..number {
                        text.push('\\');
                    }
                    values = number;
                    match name.as_ref() {
                        "Value" => text.push_str(&self.text()?),
                        _ => text.push_str(&self.name()?),
                    }
                }
                "Item" => {
                    if number(&start)?.is_some_and(|number| number != items.len() + 1) {
                        return Err(invalid("items are not in order").with_tag(tag));
                    }
                    self.reading.enter(tag, items.len() + 1)?;
                    items.push(self.set()?);
                    self.reading.within.leave();
                }
                "InlineBinary" => {
                    let bytes = base64::decode(&self.text()?);
                    binary = Some(bytes.ok_or_else(|| invalid("InlineBinary is not base64").with_tag(tag))?);
                }
                "BulkData" => {
                    let one = attribute(&start, "uri")?.or(attribute(&start, "uuid")?);
                    uri = Some(one.ok_or_else(|| invalid("bulk data without a URI").with_tag(tag))?);
                    if !self.text()?.trim().is_empty() {
                        return Err(wrong());
                    }
                }
                _ => {
                    return Err(invalid("an element that the Native DICOM Model does not have").with_tag(tag));
                }
            }
        }
        let has_values = values > 0;
        let one = match (binary, uri) {
            (None, Some(uri)) if !has_values && items.is_empty() => {
                self.reading.refer(tag, vr, uri);
                return Ok(None);
            }
            (Some(bytes), None) if !has_values && items.is_empty() && vr != VR::SQ => Element {
                tag,
                vr,
                value: Value::Bytes(Bytes::from(bytes)),
            },
            (None, None) if vr == VR::SQ && !has_values => sequence(tag, items),
            (None, None) if vr != VR::SQ && items.is_empty() => Element {
                tag,
                vr,
                value: value(tag, vr, text)?,
            },
            _ => return Err(wrong()),
        };
        Ok(Some(one))
    }

    /// The component groups of a name, with `=` between them.
    fn name(&mut self) -> Result<String> {
        let mut groups = [const { String::new() }; GROUPS.len()];
        while let Some(start) = self.child()? {
            let at = GROUPS
                .iter()
                .position(|name| *name == start.local_name().as_ref());
            let group = at.and_then(|at| groups.get_mut(at));
            *group.ok_or_else(unknown_part)? = self.group()?;
        }
        Ok(groups.join("=").trim_end_matches('=').to_owned())
    }

    fn group(&mut self) -> Result<String> {
        let mut components = [const { String::new() }; COMPONENTS.len()];
        while let Some(start) = self.child()? {
            let at = COMPONENTS
                .iter()
                .position(|name| *name == start.local_name().as_ref());
            let component = at.and_then(|at| components.get_mut(at));
            *component.ok_or_else(unknown_part)? = self.text()?;
        }
        Ok(components.join("^").trim_end_matches('^').to_owned())
    }
}

fn unknown_part() -> crate::error::Error {
    invalid("a part of a name that the Native DICOM Model does not have")
}

fn attribute(start: &BytesStart<'_>, name: &str) -> Result<Option<String>> {
    let wrong = |error| invalid("not XML").with_source(error);
    let Some(attribute) = start
        .try_get_attribute(name)
        .map_err(|error| wrong(error.into()))?
    else {
        return Ok(None);
    };
    let value = attribute
        .normalized_value(XmlVersion::Implicit1_0)
        .map_err(wrong)?;
    Ok(Some(value.into_owned()))
}

fn number(start: &BytesStart<'_>) -> Result<Option<usize>> {
    let Some(text) = attribute(start, "number")? else {
        return Ok(None);
    };
    let number = text.parse().ok().filter(|&number| number > 0);
    let number = number.ok_or_else(|| invalid("the number of a value is none"))?;
    Ok(Some(number))
}

/// Blocks of private elements that are reserved in a data set (PS3.5 7.8.1): by group, the block of each creator.
#[derive(Default)]
struct Blocks(BTreeMap<u16, Vec<(u16, String)>>);

impl Blocks {
    fn note(&mut self, element: &Element) {
        let Tag(group, block) = element.tag;
        if group % 2 == 1
            && (0x10..=0xFF).contains(&block)
            && element.vr == VR::LO
            && let Some(creator) = element.strings().next()
        {
            let taken = self.0.entry(group).or_default();
            taken.retain(|(other, _)| *other != block);
            taken.push((block, creator.to_owned()));
        }
    }

    /// The block of a creator, and whether it has only now been reserved.
    fn of(&mut self, group: u16, creator: &str) -> Option<(u16, bool)> {
        let creator = creator.trim_matches(' ');
        let taken = self.0.entry(group).or_default();
        if let Some((block, _)) = taken.iter().find(|(_, by)| by == creator) {
            return Some((*block, false));
        }
        let is_free = |block: &u16| !taken.iter().any(|(other, _)| other == block);
        let block = (0x10..=0xFF).find(is_free)?;
        taken.push((block, creator.to_owned()));
        Some((block, true))
    }
}
