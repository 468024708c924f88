//! An HL7 v2 message (HL7 v2.5 chapter 2): [`Message`], [`Segment`], [`Delimiters`].
//!
//! ```
//! use pacs_net::hl7::Message;
//! # fn main() -> pacs_core::Result<()> {
//! let message = Message::parse(
//!     b"MSH|^~\\&|RIS|HOSPITAL|||20240229||ADT^A08|42|P|2.5\rPID|||4711^^^HOSPITAL||O\\T\\Hara^Jane\r",
//! )?;
//! assert_eq!(message.get("PID-3.4").as_deref(), Some("HOSPITAL"));
//! assert_eq!(message.get("PID-5").as_deref(), Some("O&Hara"));
//! assert_eq!(message.get("PID-7"), None);
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::sync::Arc;

use pacs_core::{Error, ErrorKind, Result};

use super::charset::Charset;
use super::escape::{escape, unescape};
use super::path::Path;

/// The longest message that is read where nobody says otherwise, in bytes: with its account of a failure it fits into a
/// value of the ledger.
pub const MESSAGE_LENGTH_MAX_BYTES: usize = 15 * 1024 * 1024;

/// Segments of a message. A report of a few thousand lines has one for each.
pub const SEGMENTS_MAX: usize = 50_000;

/// Fields of a segment: beyond what any has.
pub const FIELDS_MAX: usize = 999;

/// What stands between the parts of a message: MSH-1 and MSH-2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delimiters {
    /// Between fields: `|`.
    pub field: char,
    /// Between components: `^`.
    pub component: char,
    /// Between repetitions: `~`.
    pub repetition: Option<char>,
    /// Around escape sequences: `\`.
    pub escape: Option<char>,
    /// Between subcomponents: `&`.
    pub subcomponent: Option<char>,
}

impl Default for Delimiters {
    /// Those that HL7 recommends.
    fn default() -> Self {
        Self {
            field: '|',
            component: '^',
            repetition: Some('~'),
            escape: Some('\\'),
            subcomponent: Some('&'),
        }
    }
}

impl Delimiters {
    /// Reads those of an MSH segment.
    fn read(msh: &str) -> Result<Self> {
        let bad =
            || invalid("MSH-1 and MSH-2 must be different marks, none of them a letter, digit or blank");
        let mut marks = msh.chars().skip(3);
        let field = marks.next().ok_or_else(bad)?;
        let encoding: Vec<char> = marks.take_while(|c| *c != field).take(6).collect();
        // The fifth marks what was truncated (since 2.7), and is data to us.
        let (&component, more) = encoding.split_first().ok_or_else(bad)?;
        let all: Vec<char> = std::iter::once(field).chain(encoding.iter().copied()).collect();
        let is_mark = |(at, c): (usize, &char)| c.is_ascii_punctuation() && !all[..at].contains(c);
        if encoding.len() > 5 || !all.iter().enumerate().all(is_mark) {
            return Err(bad());
        }
        Ok(Self {
            field,
            component,
            repetition: more.first().copied(),
            escape: more.get(1).copied(),
            subcomponent: more.get(2).copied(),
        })
    }

    pub(super) fn is_one(&self, c: char) -> bool {
        let Self {
            field,
            component,
            repetition,
            escape,
            subcomponent,
        } = *self;
        [Some(field), Some(component), repetition, escape, subcomponent].contains(&Some(c))
    }
}

/// One segment: a line of a message. It is kept as it is written, and taken apart when it is asked.
#[derive(Clone, PartialEq, Eq)]
pub struct Segment {
    /// Shared: parts of a message have the same ones.
    text: Arc<str>,
    /// What stands between its fields.
    field: char,
}

impl Segment {
    /// One with these fields, from the first on, delimited as HL7 recommends; each as it is to be written, so that text
    /// has been through [`Message::escape`]. Empty ones at the end are left out. A line end in a field, which
    /// none can have, becomes a blank.
    ///
    /// # Panics
    /// When `name` is none: a capital letter, and two more or digits.
    pub fn of<S: AsRef<str>>(name: &'static str, fields: &[S]) -> Self {
        assert!(segment_name(name).is_some(), "the name of a segment");
        let field = Delimiters::default().field;
        let mut text = name.to_owned();
        for value in fields {
            text.push(field);
            text.push_str(value.as_ref());
        }
        let mut text = text.replace(['\r', '\n'], " ");
        text.truncate(text.trim_end_matches(field).len());
        Self {
            text: text.into(),
            field,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        // Nothing shorter is read or made.
        self.text.get(..3).unwrap_or_default()
    }

    /// All of it, as it is written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// A field as it is written; empty where there is none. Field 1 of MSH is the delimiter itself.
    pub fn field(&self, number: usize) -> &str {
        match number {
            0 => "",
            1 if self.is_header() => self.text.get(3..3 + self.field.len_utf8()).unwrap_or_default(),
            _ => {
                let at = if self.is_header() { number - 1 } else { number };
                self.text.split(self.field).nth(at).unwrap_or_default()
            }
        }
    }

    fn is_header(&self) -> bool {
        self.name() == "MSH"
    }

    fn put(&mut self, number: usize, value: &str) {
        let at = if self.is_header() { number - 1 } else { number };
        let mut fields: Vec<&str> = self.text.split(self.field).collect();
        if fields.len() <= at {
            fields.resize(at + 1, "");
        }
        fields[at] = value;
        self.text = fields.join(self.field.encode_utf8(&mut [0; 4])).into();
    }
}

/// Patient data stands in it: only its name is told.
impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(..)", self.name())
    }
}

/// A message, in UTF-8. `Debug` shows the names of its segments alone.
#[derive(Clone)]
pub struct Message {
    delimiters: Delimiters,
    /// What it came in: bytes in an escape sequence are in it still.
    charset: Charset,
    /// The first is MSH.
    segments: Vec<Segment>,
}

/// What they say, whatever they came in.
impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.delimiters == other.delimiters && self.segments == other.segments
    }
}

impl Eq for Message {}

impl Message {
    /// A message of this kind ("ADT^A08^ADT_A01"), with nothing but a header: delimiters as recommended, version 2.5.1,
    /// processing ID P, in UTF-8.
    pub fn new(kind: &str, control_id: &str, time: &str) -> Self {
        let header = ["^~\\&", "", "", "", "", time, "", kind, control_id, "P", "2.5.1"];
        let mut header = header.to_vec();
        header.extend(["", "", "", "", "", "UNICODE UTF-8"]);
        Self {
            delimiters: Delimiters::default(),
            charset: Charset::default(),
            segments: vec![Segment::of("MSH", &header)],
        }
    }

    /// Reads a message in the character set that MSH-18 names; where it names none, as [`Charset::default`].
    ///
    /// Segments end with CR; LF and CR LF are taken too.
    ///
    /// # Errors
    /// `Invalid` when it is none, `Unsupported` for a batch or a character set that is not known, `OutOfResources` when it is
    /// longer than [`MESSAGE_LENGTH_MAX_BYTES`], [`SEGMENTS_MAX`] or [`FIELDS_MAX`] allow. The text never
    /// holds anything of the message.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Self::parse_with(bytes, &Charset::default())
    }

    /// The same; `undeclared` is the character set of who names none.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_with(bytes: &[u8], undeclared: &Charset) -> Result<Self> {
        if bytes.len() > MESSAGE_LENGTH_MAX_BYTES {
            return Err(too_much("the message is too long"));
        }
        let bytes = without_mark(bytes);
        let charset = match declared(bytes) {
            Some(names) => Charset::of(names.iter().map(String::as_str))?,
            None => undeclared.clone(),
        };
        let message = Self::from_text(&charset.decode(bytes)?)?;
        Ok(Self { charset, ..message })
    }

    /// Reads a message whose text is UTF-8 already, whatever MSH-18 says.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), but for the character set.
    pub fn from_text(text: &str) -> Result<Self> {
        let mut lines = text.split(['\r', '\n']).filter(|line| !line.trim().is_empty());
        let header = lines.next().unwrap_or_default();
        match header.get(..3) {
            Some("MSH") => {}
            Some("FHS" | "BHS") => {
                let why = "a batch is not taken: send its messages one by one";
                return Err(Error::new(ErrorKind::Unsupported, "hl7.parse", why));
            }
            _ => return Err(invalid("an HL7 message begins with MSH")),
        }
        let delimiters = Delimiters::read(header)?;
        let mut segments = Vec::new();
        for line in std::iter::once(header).chain(lines) {
            if segments.len() == SEGMENTS_MAX {
                return Err(too_much("the message has too many segments"));
            }
            segments.push(segment(line, &delimiters, segments.is_empty())?);
        }
        Ok(Self {
            delimiters,
            charset: Charset::default(),
            segments,
        })
    }

    /// The header alone of what may be no message otherwise, so that its sender can be answered.
    pub(super) fn header(bytes: &[u8]) -> Option<Self> {
        let bytes = without_mark(bytes);
        let end = bytes
            .iter()
            .position(|byte| matches!(byte, b'\r' | b'\n'))
            .unwrap_or(bytes.len());
        let line = &bytes[..end.min(64 * 1024)];
        let names = declared(line).unwrap_or_default();
        let charset = Charset::of(names.iter().map(String::as_str)).unwrap_or_default();
        let text = charset
            .decode(line)
            .unwrap_or_else(|_| String::from_utf8_lossy(line).into_owned());
        Self::from_text(&text).ok()
    }

    /// The text of the message, each segment with CR at its end.
    pub fn text(&self) -> String {
        let length = self.segments.iter().map(|segment| segment.text.len() + 1).sum();
        let mut text = String::with_capacity(length);
        for segment in &self.segments {
            text.push_str(&segment.text);
            text.push('\r');
        }
        text
    }

    /// The bytes of the message in the character set that its MSH-18 names.
    ///
    /// # Errors
    /// `Invalid` when the set can't say the text, `Unsupported` when it is not known.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let names = self.repetitions(&Path::parse("MSH-18")?);
        Charset::of(names.into_iter())?.encode(&self.text())
    }

    /// What stands between its parts.
    pub fn delimiters(&self) -> &Delimiters {
        &self.delimiters
    }

    /// Its segments; the first is MSH.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Adds a segment at the end; one with other delimiters than the message is written with those of the message.
    pub fn push(&mut self, mut segment: Segment) {
        if segment.field != self.delimiters.field {
            let mark = self.delimiters.field;
            segment.text = segment
                .text
                .replace(segment.field, mark.encode_utf8(&mut [0; 4]))
                .into();
            segment.field = self.delimiters.field;
        }
        self.segments.push(segment);
    }

    /// A segment for this message, whose fields are written already.
    pub(super) fn segment(&self, name: &'static str, fields: &[&str]) -> Segment {
        let field = self.delimiters.field;
        let mut text = name.to_owned();
        for value in fields {
            text.push(field);
            text.push_str(value);
        }
        text.truncate(text.trim_end_matches(field).len());
        Segment {
            text: text.into(),
            field,
        }
    }

    /// Has a field of MSH, as it is written, behind the delimiters.
    pub(super) fn put_header(&mut self, number: usize, value: &str) {
        if let Some(header) = self.segments.first_mut()
            && (number > 2 && !(value.is_empty() && header.field(number).is_empty()))
        {
            header.put(number, value);
        }
    }

    /// A message of the same header and of these segments of it.
    pub(super) fn part<'a>(&'a self, segments: impl IntoIterator<Item = &'a Segment>) -> Self {
        let header = self.segments.first();
        Self {
            delimiters: self.delimiters,
            charset: self.charset.clone(),
            segments: header.into_iter().chain(segments).cloned().collect(),
        }
    }

    /// The value at a path, its escape sequences read: `None` when there is none, or it is empty. Two quotation marks
    /// (`""`, for "delete what you have") are a value.
    pub fn value(&self, path: &Path) -> Option<String> {
        let text = self.raw(path);
        if is_delimiters(path) {
            return Some(text.to_owned());
        }
        let text = self.part_of(text, path.component.unwrap_or(1), path.subcomponent.unwrap_or(1));
        (!text.is_empty()).then(|| unescape(text, &self.delimiters, &self.charset))
    }

    /// The value at a path that is given as text: `None` also where that is no path.
    pub fn get(&self, path: &str) -> Option<String> {
        self.value(&Path::parse(path).ok()?)
    }

    /// The repetition that a path names (the first where it names none) as it is written, with its components; empty where
    /// there is none.
    pub fn raw(&self, path: &Path) -> &str {
        let mut named = self
            .segments
            .iter()
            .filter(|segment| segment.name() == path.segment());
        let Some(segment) = named.nth(usize::from(path.occurrence) - 1) else {
            return "";
        };
        let field = segment.field(usize::from(path.field));
        match self.delimiters.repetition {
            Some(mark) if !is_delimiters(path) => {
                let at = usize::from(path.repetition.unwrap_or(1)) - 1;
                field.split(mark).nth(at).unwrap_or_default()
            }
            _ => field,
        }
    }

    /// Every repetition of the field that a path names, as it is written; none where the field is empty.
    pub fn repetitions(&self, path: &Path) -> Vec<&str> {
        let mut named = self
            .segments
            .iter()
            .filter(|segment| segment.name() == path.segment());
        let Some(segment) = named.nth(usize::from(path.occurrence) - 1) else {
            return Vec::new();
        };
        match (segment.field(usize::from(path.field)), self.delimiters.repetition) {
            ("", _) => Vec::new(),
            (field, Some(mark)) if !is_delimiters(path) => field.split(mark).collect(),
            (field, _) => vec![field],
        }
    }

    /// The component of a repetition as [`raw`](Self::raw) gives it, its escape sequences read; of several
    /// subcomponents the first. Empty where there is none.
    pub fn component(&self, repetition: &str, number: u16) -> String {
        unescape(
            self.part_of(repetition, number, 1),
            &self.delimiters,
            &self.charset,
        )
    }

    /// Text with its escape sequences read.
    pub(super) fn unescaped(&self, text: &str) -> String {
        unescape(text, &self.delimiters, &self.charset)
    }

    /// A component, and a subcomponent of it.
    pub(super) fn part_of<'a>(&self, repetition: &'a str, component: u16, subcomponent: u16) -> &'a str {
        let at = |number: u16| usize::from(number.max(1)) - 1;
        let mut parts = repetition.split(self.delimiters.component);
        let part = parts.nth(at(component)).unwrap_or_default();
        match self.delimiters.subcomponent {
            Some(mark) => part.split(mark).nth(at(subcomponent)).unwrap_or_default(),
            None if subcomponent <= 1 => part,
            None => "",
        }
    }

    /// Text as it stands in a field: delimiters, line ends and control characters as escape sequences.
    pub fn escape(&self, text: &str) -> String {
        escape(text, &self.delimiters)
    }

    /// Has this text at a path, in place of what is there; of a component without a repetition that of the first, of
    /// a field without one all of them. The segment must be there, or be the next of its name: then it is added at
    /// the end.
    ///
    /// # Errors
    /// `Invalid` when it can't be there: MSH-1 and MSH-2, a part that the delimiters of the message can't tell apart, or where segments
    /// before it are missing.
    pub fn set(&mut self, path: &Path, text: &str) -> Result<()> {
        if is_delimiters(path) {
            return Err(invalid("the delimiters of a message are not set"));
        }
        let Delimiters {
            component,
            repetition,
            subcomponent,
            ..
        } = self.delimiters;
        let lacks = |mark: Option<char>, number: Option<u16>| {
            mark.is_none() && number.is_some_and(|number| number > 1)
        };
        if lacks(repetition, path.repetition) || lacks(subcomponent, path.subcomponent) {
            return Err(invalid("the message has no delimiter for this part"));
        }
        let text = self.escape(text);
        let field = self.delimiters.field;
        let named = |segment: &&mut Segment| segment.name() == path.segment();
        let occurrence = usize::from(path.occurrence);
        let count = self.segments.iter_mut().filter(named).count();
        if count + 1 == occurrence {
            let text = path.segment().into();
            self.segments.push(Segment { text, field });
        }
        let Some(segment) = self.segments.iter_mut().filter(named).nth(occurrence - 1) else {
            return Err(invalid("the message has no such segment"));
        };
        let number = usize::from(path.field);
        let old = segment.field(number).to_owned();
        // A component is had from the first repetition where none is named, and put there.
        let at = path.repetition.or(path.component.map(|_| 1));
        let new = within(&old, repetition, at, |old| {
            within(old, Some(component), path.component, |old| {
                within(old, subcomponent, path.subcomponent, |_| text.clone())
            })
        });
        segment.put(number, &new);
        Ok(())
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Message").field(&self.segments).finish()
    }
}

/// `text` with one of its parts changed; all of it where no part is named.
fn within(
    text: &str,
    mark: Option<char>,
    number: Option<u16>,
    change: impl FnOnce(&str) -> String,
) -> String {
    let (Some(mark), Some(number)) = (mark, number) else {
        return change(text);
    };
    let mut parts: Vec<&str> = text.split(mark).collect();
    let at = usize::from(number) - 1;
    if parts.len() <= at {
        parts.resize(at + 1, "");
    }
    let changed = change(parts[at]);
    parts[at] = &changed;
    parts.join(mark.encode_utf8(&mut [0; 4]))
}

fn is_delimiters(path: &Path) -> bool {
    path.segment() == "MSH" && path.field <= 2
}

/// The name of a segment: a capital letter, and two more or digits.
pub(super) fn segment_name(text: &str) -> Option<[u8; 3]> {
    let name: [u8; 3] = text.as_bytes().try_into().ok()?;
    let is_one = name[0].is_ascii_uppercase()
        && name
            .iter()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    is_one.then_some(name)
}

fn segment(line: &str, delimiters: &Delimiters, is_first: bool) -> Result<Segment> {
    let name = line.get(..3).and_then(segment_name);
    let behind = line.get(3..).unwrap_or_default();
    match name {
        Some(name) if (name == *b"MSH") != is_first => {
            return Err(invalid("a message has one MSH, at its beginning"));
        }
        Some(_) if behind.is_empty() || behind.starts_with(delimiters.field) => {}
        _ => return Err(invalid("a segment does not begin with its name")),
    }
    // The delimiter that MSH has in its own place is one of them.
    if line.matches(delimiters.field).count() > FIELDS_MAX {
        return Err(too_much("a segment has too many fields"));
    }
    Ok(Segment {
        text: line.into(),
        field: delimiters.field,
    })
}

/// Without the byte order mark and the line ends that some write before a message.
fn without_mark(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    bytes.trim_ascii_start()
}

/// What MSH-18 names, read before anything is decoded: the names are ASCII, as all before them mostly is.
fn declared(bytes: &[u8]) -> Option<Vec<String>> {
    let end = bytes
        .iter()
        .position(|byte| matches!(byte, b'\r' | b'\n'))
        .unwrap_or(bytes.len());
    let header = &bytes[..end];
    let (field, repetition) = (*header.get(3)?, *header.get(5)?);
    let names = header.split(|byte| *byte == field).nth(17)?;
    if names.is_empty() {
        return None;
    }
    let names = names.split(|byte| *byte == repetition && repetition != field);
    Some(
        names
            .take(32)
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect(),
    )
}

fn invalid(why: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, "hl7.parse", why)
}

fn too_much(why: &'static str) -> Error {
    Error::new(ErrorKind::OutOfResources, "hl7.parse", why).with_retry(pacs_core::Retry::Never)
}

#[cfg(test)]
mod tests;
