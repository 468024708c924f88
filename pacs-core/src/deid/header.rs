//! What becomes of the elements of an instance, all but its pixel data: [`Run`].

use std::borrow::Cow;

use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::known::Known;
use super::profile::{Dates, Profile, SafePrivate};
use super::project::{Project, Whose};
use super::table::{Action, Column, Row, row};
use super::{dates, dummy};
use crate::dataset::{DataSet, Element, Value, is_private_creator, standard_vr};

/// The edition of the table, as it is said in De-identification Method (0012,0063).
const METHOD: &str = "DICOM PS3.15 annex E, 2024b";

/// The oldest that is said of an age: above, so few are left that it identifies.
const AGE_MAX_YEARS: u16 = 90;

/// Attributes whose UIDs name a kind of thing and no thing, beside those that the Standard has given.
const CLASSES: [Tag; 12] = [
    tags::SOP_CLASS_UID,
    tags::REFERENCED_SOP_CLASS_UID,
    tags::RELATED_GENERAL_SOP_CLASS_UID,
    tags::ORIGINAL_SPECIALIZED_SOP_CLASS_UID,
    tags::SOP_CLASSES_IN_STUDY,
    tags::SOP_CLASSES_SUPPORTED,
    tags::CODING_SCHEME_UID,
    tags::CONTEXT_UID,
    tags::MAPPING_RESOURCE_UID,
    tags::REFERENCED_SOP_CLASS_UID_IN_FILE,
    tags::REFERENCED_TRANSFER_SYNTAX_UID_IN_FILE,
    tags::AVAILABLE_TRANSFER_SYNTAX_UID,
];

/// Dates of code tables, which are of nobody.
const TABLE_DATES: [Tag; 4] = [
    tags::CONTEXT_GROUP_VERSION,
    tags::CONTEXT_GROUP_LOCAL_VERSION,
    // Template Version and Template Local Version, which are retired.
    Tag(0x0040, 0xDB06),
    Tag(0x0040, 0xDB07),
];

/// One instance that is de-identified.
pub(super) struct Run<'a> {
    profile: &'a Profile,
    project: &'a Project,
    days_back: i64,
    known: Known,
}

/// What is done to an element, and of which option that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chosen {
    action: Action,
    column: Option<Column>,
}

impl<'a> Run<'a> {
    /// For an instance with this header.
    pub(super) fn new(profile: &'a Profile, project: &'a Project, header: &DataSet) -> Self {
        let stays = |element: &Element| choose(profile, element).action == Action::Keep;
        Self {
            profile,
            project,
            days_back: project.days_back(&Whose::of(header)),
            known: Known::of(header, &|element| !stays(element)),
        }
    }

    /// The header that takes the place of this one, with what was done written in (PS3.15 E.1.1, PS3.3 C.7.1.1).
    pub(super) fn header(&self, header: DataSet, pixels_are_cleaned: bool) -> DataSet {
        let pseudonym = self.project.patient(&Whose::of(&header));
        let has = [tags::PATIENT_ID, tags::PATIENT_NAME].map(|tag| header.contains(tag));
        let mut made = self.data_set(header);
        for (tag, vr, has) in [
            (tags::PATIENT_ID, VR::LO, has[0]),
            (tags::PATIENT_NAME, VR::PN, has[1]),
        ] {
            if has {
                made.put_text(tag, vr, pseudonym.clone());
            }
        }
        made.put_text(tags::PATIENT_IDENTITY_REMOVED, VR::CS, "YES");
        let version = env!("CARGO_PKG_VERSION");
        let method = format!("{METHOD}\\pacs-core {version}");
        made.put_text(tags::DEIDENTIFICATION_METHOD, VR::LO, method);
        let codes = self.profile.codes(pixels_are_cleaned);
        made.put_items(tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE, codes);
        let dates = match self.profile.dates {
            Dates::Remove => "REMOVED",
            Dates::Keep => "UNMODIFIED",
            Dates::Shift => "MODIFIED",
        };
        made.put_text(tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED, VR::CS, dates);
        if pixels_are_cleaned {
            made.put_text(tags::BURNED_IN_ANNOTATION, VR::CS, "NO");
        }
        if !is_ascii(&made) {
            made.put_text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
        }
        made
    }

    /// Whether an element with this tag is left out whatever its value.
    pub(super) fn leaves_out(&self, tag: Tag) -> bool {
        if tag.0 % 2 == 1 {
            return !self.profile.retain_safe_private;
        }
        let (vr, value) = (VR::UN, Value::Bytes(Bytes::new()));
        choose(self.profile, &Element { tag, vr, value }).action == Action::Remove
    }

    /// A data set or an item. Items are nested at most as deep as the scan lets them, so the recursion is bounded.
    fn data_set(&self, set: DataSet) -> DataSet {
        let creators = Creators::of(&set);
        // A patient in an item may be another one.
        let patient = set.contains(tags::PATIENT_ID).then(|| Whose::of(&set));
        let mut made = DataSet::new();
        for element in set {
            let tag = element.tag;
            if let (Some(whose), tags::PATIENT_ID | tags::PATIENT_NAME) = (&patient, tag) {
                let vr = if tag == tags::PATIENT_ID { VR::LO } else { VR::PN };
                made.put_text(tag, vr, self.project.patient(whose));
                continue;
            }
            if tag.0 % 2 == 1 {
                if self.profile.retain_safe_private
                    && let Some((creator, place)) = creators.safe(tag, &self.profile.safe_private)
                    && let Some(kept) = self.private(element)
                {
                    made.put_text(place, VR::LO, creator);
                    made.put(kept);
                }
                continue;
            }
            if let Some(element) = self.element(element) {
                made.put(element);
            }
        }
        made
    }

    fn element(&self, element: Element) -> Option<Element> {
        let element = understood(element)?;
        let Chosen { action, column } = choose(self.profile, &element);
        match (action, column) {
            (Action::Remove, _) => None,
            // Nothing is in it that could be replaced.
            _ if element.is_empty() => Some(element),
            (Action::Zero, _) => Some(without_value(element)),
            (Action::Dummy, _) => Some(self.dummy(element)),
            (Action::Uid, _) => Some(self.with_other_uids(element)),
            (Action::ReferencesUid | Action::Keep, _) => self.keep(element),
            (Action::Clean, column) => self.clean(element, column),
        }
    }

    /// Keeps an element: items without what identifies in them, text without the identifying values of the instance.
    fn keep(&self, element: Element) -> Option<Element> {
        let Element { tag, vr, value } = element;
        let value = match value {
            Value::Items(items) => Value::Items(items.into_iter().map(|item| self.data_set(item)).collect()),
            Value::Bytes(bytes) => {
                let text = std::str::from_utf8(&bytes);
                match (vr, text) {
                    (VR::LO | VR::SH | VR::LT | VR::ST | VR::UT | VR::UC, Ok(text)) => {
                        Value::Bytes(self.known.without(text).into())
                    }
                    // Text that is none, after it was decoded.
                    (VR::LO | VR::SH | VR::LT | VR::ST | VR::UT | VR::UC, Err(_)) => return None,
                    (VR::AS, Ok(text)) if tag == tags::PATIENT_AGE => Value::Bytes(capped(text).into()),
                    (VR::UI, _) if tag.0 % 2 == 1 && !self.profile.retain_uids => {
                        return Some(self.with_other_uids(Element {
                            tag,
                            vr,
                            value: Value::Bytes(bytes),
                        }));
                    }
                    _ => Value::Bytes(bytes),
                }
            }
        };
        Some(Element { tag, vr, value })
    }

    /// Keeps a private element that is safe, as far as its VR says what it is.
    fn private(&self, element: Element) -> Option<Element> {
        match (element.vr, self.profile.dates) {
            _ if element.is_empty() => Some(element),
            (VR::UN | VR::UR, _) => None,
            (VR::PN, _) | (VR::DA | VR::DT | VR::TM, Dates::Remove) => Some(self.dummy(element)),
            (VR::DA | VR::DT | VR::TM, Dates::Shift) => self.clean(element, Some(Column::ModifiedDates)),
            _ => self.keep(element),
        }
    }

    /// Cleans an element as an option wants it; where it can't be cleaned, what the Basic Profile does is done.
    fn clean(&self, element: Element, column: Option<Column>) -> Option<Element> {
        let is_text = matches!(
            element.vr,
            VR::LO | VR::SH | VR::LT | VR::ST | VR::UT | VR::UC | VR::AE
        );
        match column {
            Some(Column::ModifiedDates) => match element.vr {
                VR::TM => return Some(element),
                VR::DA | VR::DT => {
                    let text = std::str::from_utf8(element.bytes()).unwrap_or_default();
                    let text = text.trim_end_matches(['\0', ' ']);
                    if let Some(text) = dates::shifted(text, self.days_back) {
                        return Some(with_text(element, text));
                    }
                }
                _ => {}
            },
            Some(Column::Descriptors | Column::Patient | Column::Device) if is_text => {
                let cleaned = std::str::from_utf8(element.bytes()).map(|text| self.known.without(text));
                if let Ok(text) = cleaned {
                    return Some(with_text(element, text));
                }
            }
            Some(Column::Descriptors | Column::Structure | Column::Graphics) if element.vr == VR::SQ => {
                return self.keep(element);
            }
            _ => {}
        }
        let basic = rule(&element).map_or(Action::Remove, |row| row.basic);
        match basic {
            Action::Dummy => Some(self.dummy(element)),
            Action::Zero => Some(without_value(element)),
            Action::Uid => Some(self.with_other_uids(element)),
            Action::Remove | Action::Keep | Action::Clean | Action::ReferencesUid => None,
        }
    }

    fn dummy(&self, element: Element) -> Element {
        let Element { tag, vr, value } = element;
        match value {
            Value::Items(items) => {
                let items = match tag {
                    tags::CONTENT_SEQUENCE => vec![dummy::content_item()],
                    tags::GRAPHIC_ANNOTATION_SEQUENCE => vec![dummy::graphic_annotation(items.first())],
                    _ => items.into_iter().map(|item| self.dummies(item)).collect(),
                };
                let value = Value::Items(items);
                Element { tag, vr, value }
            }
            Value::Bytes(bytes) if vr == VR::UI => self.with_other_uids(Element {
                tag,
                vr,
                value: Value::Bytes(bytes),
            }),
            Value::Bytes(bytes) => {
                let value = Value::Bytes(dummy::value(vr, &bytes));
                Element { tag, vr, value }
            }
        }
    }

    /// An item that is all dummies: what would stay elsewhere may identify in it.
    fn dummies(&self, item: DataSet) -> DataSet {
        let elements = item.into_iter().filter(|element| element.tag.0 % 2 == 0);
        let made = elements.filter_map(|element| {
            let element = understood(element)?;
            let Chosen { action, column } = choose(self.profile, &element);
            match (action, column) {
                (Action::Remove, _) => None,
                (Action::Zero, _) => Some(without_value(element)),
                (_, Some(Column::FullDates | Column::ModifiedDates)) => self.element(element),
                // What kind of thing is said stays readable.
                _ if CLASSES.contains(&element.tag) || TABLE_DATES.contains(&element.tag) => Some(element),
                _ => Some(self.dummy(element)),
            }
        });
        made.collect()
    }

    fn with_other_uids(&self, element: Element) -> Element {
        let uids = element.strings().map(|uid| match uid.is_empty() {
            true => String::new(),
            false => self.project.uid(uid),
        });
        let text = uids.collect::<Vec<_>>().join("\\");
        with_text(element, text)
    }
}

/// What is done to an element: what an option says of it that is taken, else what the Basic Profile says; and what
/// the table is silent about stays, unless its VR says that it identifies.
fn choose(profile: &Profile, element: &Element) -> Chosen {
    let Some(row) = rule(element) else {
        return Chosen {
            action: Action::Keep,
            column: None,
        };
    };
    let taken = row.options.iter().filter(|(column, _)| profile.takes(*column));
    // What is kept by one option is not cleaned by another; but a real date beside those that have gone back would give
    // away by how much.
    let option = taken.min_by_key(|(column, action)| match (column, action) {
        (Column::ModifiedDates, _) => 0,
        (_, Action::Keep) => 1,
        _ => 2,
    });
    match option {
        Some((column, action)) => Chosen {
            action: *action,
            column: Some(*column),
        },
        None => Chosen {
            action: row.basic,
            column: None,
        },
    }
}

/// The table's row of an element, or one for what it is silent about.
fn rule(element: &Element) -> Option<Cow<'static, Row>> {
    let Element { tag, vr, .. } = element;
    let made = |basic, options: &[(Column, Action)]| {
        let options = options.to_vec();
        Some(Cow::Owned(Row { basic, options }))
    };
    if let Some(row) = row(*tag) {
        return Some(Cow::Borrowed(row));
    }
    match (*tag, *vr) {
        // Named anew as the text is written.
        (tags::SPECIFIC_CHARACTER_SET, _) => made(Action::Remove, &[]),
        // No group of a data set; and no pixels but those of the instance itself.
        (Tag(..0x0008 | 0x7FE0.., _), _) => made(Action::Remove, &[]),
        // Without its data, the rest of an overlay says nothing, and isn't valid.
        (Tag(0x6000..=0x60FF, _), _) => made(Action::Remove, &[]),
        // What newer editions than the table's have put there: what a patient is called, is asked about, or comes from. How
        // an animal is described stays.
        (Tag(0x0010, element), vr)
            if (vr == VR::SQ || is_text(vr)) && !matches!(element, 0x0212..=0x0229 | 0x2201..=0x2296) =>
        {
            made(Action::Remove, &[])
        }
        // Diagnoses in codes, which are newer than the table too.
        (Tag(0x0008, 0x1301..=0x1304), _) => made(Action::Remove, &[(Column::Descriptors, Action::Clean)]),
        // Where the original is, and often whose it is.
        (_, VR::UR) => made(Action::Remove, &[]),
        // The text of content and annotations that are cleaned and not dummies.
        (tags::TEXT_VALUE | tags::UNFORMATTED_TEXT_VALUE, _) => {
            made(Action::Dummy, &[(Column::Descriptors, Action::Clean)])
        }
        (_, VR::PN) => made(Action::Dummy, &[]),
        (tag, VR::DA | VR::DT | VR::TM) if !TABLE_DATES.contains(&tag) => made(
            Action::Dummy,
            &[
                (Column::FullDates, Action::Keep),
                (Column::ModifiedDates, Action::Clean),
            ],
        ),
        (tag, VR::UI) if !CLASSES.contains(&tag) => made(Action::Uid, &[(Column::Uids, Action::Keep)]),
        _ => None,
    }
}

/// An element as the Standard's dictionary lets it be read; `None` where nothing does.
fn understood(element: Element) -> Option<Element> {
    // By which it is told what identifies: a sender that says another one doesn't hide it.
    const TELLING: [VR; 7] = [VR::PN, VR::DA, VR::DT, VR::TM, VR::UI, VR::AS, VR::UR];
    let known = standard_vr(element.tag);
    match (element.vr, known, &element.value) {
        // Its bytes may be items, with all that stands in these.
        (_, Some(VR::SQ), Value::Bytes(bytes)) if !bytes.is_empty() => None,
        (VR::UN, None | Some(VR::UN), Value::Bytes(bytes)) if !bytes.is_empty() => None,
        (told, Some(vr), Value::Bytes(bytes)) if told == VR::UN || told != vr && TELLING.contains(&vr) => {
            let is_read = !is_text(vr) || std::str::from_utf8(bytes).is_ok();
            is_read.then_some(Element { vr, ..element })
        }
        (_, None, _) => None,
        _ => Some(element),
    }
}

fn is_text(vr: VR) -> bool {
    crate::dataset::syntax::is_text(vr)
}

fn is_ascii(set: &DataSet) -> bool {
    set.iter().all(|element| match &element.value {
        Value::Items(items) => items.iter().all(is_ascii),
        Value::Bytes(bytes) => !is_text(element.vr) || bytes.is_ascii(),
    })
}

fn with_text(element: Element, text: String) -> Element {
    Element {
        value: Value::Bytes(Bytes::from(text)),
        ..element
    }
}

fn without_value(element: Element) -> Element {
    let value = match element.value {
        Value::Items(_) => Value::Items(Vec::new()),
        Value::Bytes(_) => Value::Bytes(Bytes::new()),
    };
    Element { value, ..element }
}

/// An age of which is not told how far it is above 90 years.
fn capped(text: &str) -> String {
    let years = text.trim().strip_suffix('Y').map(str::parse::<u16>);
    match years {
        Some(Ok(years)) if years >= AGE_MAX_YEARS => format!("{AGE_MAX_YEARS:03}Y"),
        _ => text.to_owned(),
    }
}

/// Who reserved which blocks of private elements (PS3.5 7.8.1).
struct Creators(Vec<(Tag, String)>);

impl Creators {
    fn of(set: &DataSet) -> Self {
        let creators = set.iter().filter(|element| is_private_creator(element.tag));
        let named =
            creators.filter_map(|element| Some((element.tag, element.strings().next()?.trim().to_owned())));
        Self(named.collect())
    }

    /// The creator of a private element that is safe, and where that stands.
    fn safe(&self, tag: Tag, named: &[SafePrivate]) -> Option<(String, Tag)> {
        let block = tag.1 >> 8;
        // The low byte, which is the element in its block.
        let element = (tag.1 & 0xFF) as u8;
        let (place, creator) = self
            .0
            .iter()
            .find(|(place, _)| *place == Tag(tag.0, block) && block >= 0x10)?;
        let is_safe = |safe: &SafePrivate| {
            (safe.group, safe.element, safe.creator.trim()) == (tag.0, element, creator.as_str())
        };
        named.iter().any(is_safe).then(|| (creator.clone(), *place))
    }
}

#[cfg(test)]
mod tests;
