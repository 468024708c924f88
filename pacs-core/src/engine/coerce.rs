//! What a coercer wants, held against what may be, and put into the form that is kept.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use crate::archive::Timestamp;
use crate::dataset::charset::CharacterSet;
use crate::dataset::part10::IMPLEMENTATION_VERSION_NAME;
use crate::dataset::{DataSet, Element, Value, coercion, compact, encode, syntax};
use crate::error::{Error, ErrorKind, Result};
use crate::hooks::Source;
use crate::uid::{AeTitle, Uid};

/// Why attributes are changed: Reason for the Attribute Modification (0400,0565), PS3.3 C.12.1.1.9.
#[derive(Clone, Copy)]
pub(super) enum Reason {
    /// On the way in, to what is known here.
    Coerce,
    /// Later, because they were wrong.
    Correct,
}

/// An instance that is to be coerced.
pub(super) struct Original<'a> {
    pub(super) reason: Reason,
    /// Who provided the values that it has, where that is known.
    pub(super) provider: Option<AeTitle>,
    pub(super) header: &'a DataSet,
    pub(super) transfer_syntax: &'a Uid,
    pub(super) source: &'a Source,
    /// Whether the header has all of the element with a tag, or there is none.
    pub(super) knows: &'a dyn Fn(Tag) -> bool,
    /// Whether the header has all that stands before the pixel data.
    pub(super) is_all: bool,
}

impl Original<'_> {
    /// What is kept of the elements that are `wanted`, in the form of [`coercion`]; `None` when they change
    /// nothing.
    pub(super) fn coerced(&self, wanted: DataSet, now: Timestamp) -> Result<Option<DataSet>> {
        let mut kept = DataSet::new();
        for element in wanted {
            may_be_coerced(&element)?;
            if !(self.knows)(element.tag) {
                return Err(unknown(element.tag));
            }
            if !self
                .header
                .get(element.tag)
                .is_some_and(|came| same(came, &element))
            {
                kept.put(element);
            }
        }
        if kept.is_empty() {
            return Ok(None);
        }
        if syntax::is_deflated(self.transfer_syntax) {
            let what = "an instance in a deflated transfer syntax can't be coerced";
            return Err(Error::new(ErrorKind::Unsupported, "engine.coerce", what));
        }
        if !(self.knows)(tags::ORIGINAL_ATTRIBUTES_SEQUENCE) {
            return Err(unknown(tags::ORIGINAL_ATTRIBUTES_SEQUENCE));
        }
        let encoding = syntax::Encoding::of(self.transfer_syntax);
        let named = self.header.get(tags::SPECIFIC_CHARACTER_SET);
        let mut charset = named.map_or_else(CharacterSet::default, charset_of);
        let says = |charset: &CharacterSet| {
            let mut elements = kept.iter();
            elements.all(|element| encode::element(element, encoding, charset).is_ok())
        };
        // What is plain ASCII is the same in UTF-8, which can say everything.
        let is_ascii = || self.is_all && is_ascii(self.header);
        let is_turned = charset == CharacterSet::default() && !says(&charset) && is_ascii();
        if is_turned {
            charset = CharacterSet::utf8();
            kept.put_text(tags::SPECIFIC_CHARACTER_SET, VR::CS, charset.value());
        }
        let mut items = self.header.items(tags::ORIGINAL_ATTRIBUTES_SEQUENCE).to_vec();
        items.push(self.modified(&kept, now));
        for item in &mut items {
            make_sayable(item, &charset);
        }
        kept.put_items(tags::ORIGINAL_ATTRIBUTES_SEQUENCE, items);
        for element in kept.iter() {
            encode::element(element, encoding, &charset)?;
        }
        if let (Some(named), false) = (named, is_turned) {
            kept.put(named.clone());
        }
        // What can't be read back must not be promised: originals may be nested as deep as is read at all.
        match compact::from_bytes(&compact::to_bytes(&kept).into()) {
            Ok(read) if read == kept => Ok(Some(kept)),
            _ => {
                Err(invalid("what is coerced is nested too deep")
                    .with_tag(tags::ORIGINAL_ATTRIBUTES_SEQUENCE))
            }
        }
    }

    /// The item of Original Attributes Sequence that tells of this coercion (PS3.3 C.12.1.1.9).
    fn modified(&self, kept: &DataSet, now: Timestamp) -> DataSet {
        let mut values = DataSet::new();
        for element in kept.iter() {
            let came = self.header.get(element.tag).filter(|came| conforms(came));
            // What was absent or empty has a value of zero length, and so what its VR can't be.
            values.put(
                came.cloned()
                    .unwrap_or_else(|| without_value(element.tag, element.vr)),
            );
        }
        // Tells whose Patient ID it was, also where that does not change.
        if kept.contains(tags::PATIENT_ID)
            && let Some(issuer) = self.header.get(tags::ISSUER_OF_PATIENT_ID)
            && conforms(issuer)
        {
            values.put(issuer.clone());
        }
        let mut item = DataSet::new();
        item.put_items(tags::MODIFIED_ATTRIBUTES_SEQUENCE, vec![values]);
        item.put_text(tags::ATTRIBUTE_MODIFICATION_DATE_TIME, VR::DT, now.date_time());
        let title = |title: Option<AeTitle>| title.map(|title| title.as_str().to_owned());
        let system = title(self.source.called_ae).unwrap_or_else(|| IMPLEMENTATION_VERSION_NAME.to_owned());
        item.put_text(tags::MODIFYING_SYSTEM, VR::LO, system);
        let previous = title(self.provider).unwrap_or_default();
        item.put_text(tags::SOURCE_OF_PREVIOUS_VALUES, VR::LO, previous);
        let reason = match self.reason {
            Reason::Coerce => "COERCE",
            Reason::Correct => "CORRECT",
        };
        item.put_text(tags::REASON_FOR_THE_ATTRIBUTE_MODIFICATION, VR::CS, reason);
        item
    }
}

/// Whether all is known that is needed to coerce to what is `wanted`.
pub(super) fn is_known(wanted: &DataSet, knows: impl Fn(Tag) -> bool) -> bool {
    let mut tags = wanted.iter().map(|element| element.tag);
    wanted.is_empty() || knows(tags::ORIGINAL_ATTRIBUTES_SEQUENCE) && tags.all(knows)
}

/// The header as queries see it.
pub(super) fn applied(mut header: DataSet, coerced: &DataSet) -> DataSet {
    for element in coerced.iter().filter(|element| element.tag != coercion::AMENDED) {
        header.put(element.clone());
    }
    header
}

/// Whether what was read back of a meta is what is written there.
pub(super) fn check(coerced: &DataSet) -> Result<()> {
    let tags: Vec<Tag> = coercion::attributes(coerced).collect();
    let mut elements = coerced.iter().filter(|element| tags.contains(&element.tag));
    elements.try_for_each(may_be_coerced).map_err(|error| {
        Error::new(
            ErrorKind::Corrupt,
            "engine.index",
            "what is kept as coerced could never be",
        )
        .with_source(error)
    })
}

pub(super) fn may_be_coerced(element: &Element) -> Result<()> {
    let Element { tag, vr, value } = element;
    let ours = [
        tags::ICON_IMAGE_SEQUENCE,
        tags::ORIGINAL_ATTRIBUTES_SEQUENCE,
        coercion::AMENDED,
    ];
    if coercion::is_fixed(*tag) || ours.contains(tag) || tag.0 % 2 == 1 {
        return Err(invalid("an attribute that can't be changed: it identifies the instance, describes its pixels, or is private").with_tag(*tag));
    }
    let its_own = syntax::dictionary_vr(*tag, false);
    // Some attributes have a choice of numbers.
    let differs = its_own.is_some_and(|own| own != *vr && !matches!(own, VR::US | VR::OW));
    let items = matches!(value, Value::Items(_));
    if differs || items != (*vr == VR::SQ) {
        return Err(invalid("an attribute is coerced to a VR that is not its own").with_tag(*tag));
    }
    if !conforms(element) {
        return Err(invalid("an attribute is coerced to a value that its VR can't be").with_tag(*tag));
    }
    Ok(())
}

/// Whether text is in a repertoire that its VR allows.
fn conforms(element: &Element) -> bool {
    let vr = element.vr;
    !syntax::is_text(vr) || syntax::has_character_set(vr) || element.bytes().is_ascii()
}

/// Whether two elements have the same value, padding apart.
pub(super) fn same(a: &Element, b: &Element) -> bool {
    let text = syntax::is_text(a.vr) && a.vr == b.vr;
    match (&a.value, &b.value) {
        (Value::Bytes(a), Value::Bytes(b)) if text => {
            let end = |bytes: &[u8]| {
                bytes
                    .iter()
                    .rposition(|byte| !matches!(byte, 0 | b' '))
                    .map(|at| at + 1)
            };
            a[..end(a).unwrap_or(0)] == b[..end(b).unwrap_or(0)]
        }
        _ => a == b,
    }
}

/// Whether all text is in the repertoire that every character set has.
pub(super) fn is_ascii(set: &DataSet) -> bool {
    set.iter().all(|element| match &element.value {
        Value::Items(items) => items.iter().all(is_ascii),
        Value::Bytes(bytes) => !syntax::is_text(element.vr) || bytes.is_ascii(),
    })
}

pub(super) fn charset_of(element: &Element) -> CharacterSet {
    CharacterSet::parse(&String::from_utf8_lossy(element.bytes()))
}

/// Names UTF-8 in every item whose text the character set in force can't say (PS3.5 7.5.3): values came in
/// bytes that their data set does not declare. Items are nested as deep as the scan let them be.
fn make_sayable(item: &mut DataSet, around: &CharacterSet) {
    let own = item.get(tags::SPECIFIC_CHARACTER_SET).map(charset_of);
    let mut charset = own.as_ref().unwrap_or(around).clone();
    let said = |element: &Element| {
        let text = std::str::from_utf8(element.bytes());
        !syntax::has_character_set(element.vr) || text.is_ok_and(|text| charset.encode(text).is_some())
    };
    if !item.iter().all(said) {
        charset = CharacterSet::utf8();
        item.put_text(tags::SPECIFIC_CHARACTER_SET, VR::CS, charset.value());
    }
    let nested: Vec<Element> = item
        .iter()
        .filter(|element| matches!(element.value, Value::Items(_)))
        .cloned()
        .collect();
    for Element { tag, value, .. } in nested {
        if let Value::Items(mut items) = value {
            for item in &mut items {
                make_sayable(item, &charset);
            }
            item.put_items(tag, items);
        }
    }
}

pub(super) fn without_value(tag: Tag, vr: VR) -> Element {
    let value = match vr {
        VR::SQ => Value::Items(Vec::new()),
        _ => Value::Bytes(bytes::Bytes::new()),
    };
    Element { tag, vr, value }
}

fn invalid(context: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, "engine.coerce", context)
}

fn unknown(tag: Tag) -> Error {
    let what = "a coerced attribute is too long, or stands too far behind";
    Error::new(ErrorKind::Unsupported, "engine.coerce", what).with_tag(tag)
}
