//! [`Question`]: keys as the URL of a search (PS3.18 10.6.1).

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use pacs_core::dataset::{Element, Value};
use pacs_core::{DataSet, Error, ErrorKind, Level, Result, Uid};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands for itself (RFC 3986 2.3), and the wild card, which may (3.4) and which not every service decodes.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'*')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What is searched.
#[derive(Debug)]
pub(super) struct Question {
    /// The path and its parameters, but for those of a page.
    url: String,
    has_parameters: bool,
    /// The attribute that tells entities of the level apart.
    pub(super) unique: Tag,
    pub(super) level: Level,
}

impl Question {
    /// # Errors
    /// `Unsupported` for what no resource of PS3.18 is searched by: patients, and attributes in items.
    pub(super) fn new(level: Level, keys: &DataSet) -> Result<Self> {
        let unsupported = |why| Error::new(ErrorKind::Unsupported, "fetch.search", why);
        let (resource, unique, above): (_, _, &[(&str, Tag)]) = match level {
            Level::Patient => return Err(unsupported("a DICOMweb service is not searched for patients")),
            Level::Study => ("studies", tags::STUDY_INSTANCE_UID, &[]),
            Level::Series => (
                "series",
                tags::SERIES_INSTANCE_UID,
                &[("studies", tags::STUDY_INSTANCE_UID)],
            ),
            Level::Instance => (
                "instances",
                tags::SOP_INSTANCE_UID,
                &[
                    ("studies", tags::STUDY_INSTANCE_UID),
                    ("series", tags::SERIES_INSTANCE_UID),
                ],
            ),
        };
        let mut question = Self {
            url: String::new(),
            has_parameters: false,
            unique,
            level,
        };
        // What is above stands in the path, as far as it is named from the top.
        let mut in_path = Vec::new();
        for (name, tag) in above {
            let Some(uid) = one(keys, *tag) else { break };
            question.url.push_str(&format!("/{name}/{uid}"));
            in_path.push(*tag);
        }
        question.url.push_str(&format!("/{resource}"));
        for element in keys.iter() {
            let is_said = in_path.contains(&element.tag)
                || matches!(
                    element.tag,
                    tags::QUERY_RETRIEVE_LEVEL | tags::SPECIFIC_CHARACTER_SET
                );
            if is_said {
                continue;
            }
            let name = format!("{:04X}{:04X}", element.tag.0, element.tag.1);
            match &element.value {
                Value::Items(items) if items.iter().any(|item| !item.is_empty()) => {
                    return Err(unsupported(
                        "a DICOMweb service is not asked for attributes in items",
                    ));
                }
                _ if element.is_empty() => question.add("includefield", &name),
                Value::Items(_) => question.add("includefield", &name),
                Value::Bytes(_) => question.add(&name, &matched(element)),
            }
        }
        Ok(question)
    }

    fn add(&mut self, name: &str, value: &str) {
        self.url.push(if self.has_parameters { '&' } else { '?' });
        self.has_parameters = true;
        self.url.push_str(name);
        self.url.push('=');
        self.url.extend(utf8_percent_encode(value, ENCODED));
    }

    /// The URL below the base for at most `limit` answers behind the first `offset` ones (8.3.4.4).
    pub(super) fn page(&self, limit: usize, offset: usize) -> String {
        let mark = if self.has_parameters { '&' } else { '?' };
        let mut url = format!("{}{mark}limit={limit}", self.url);
        if offset > 0 {
            url.push_str(&format!("&offset={offset}"));
        }
        url
    }
}

/// The UID where there is one alone.
fn one(keys: &DataSet, tag: Tag) -> Option<Uid> {
    let mut all = keys.strings(tag);
    let uid = Uid::parse(all.next()?).ok()?;
    all.next().is_none().then_some(uid)
}

/// A matching key's value: several UIDs have commas between them (8.3.4.1).
fn matched(element: &Element) -> String {
    let separator = match element.vr {
        VR::UI => ",",
        _ => "\\",
    };
    element.strings().collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(all: &[(Tag, VR, &str)]) -> DataSet {
        let mut keys = DataSet::new();
        for (tag, vr, value) in all {
            keys.put_text(*tag, *vr, *value);
        }
        keys
    }

    #[test]
    fn what_is_above_a_level_stands_in_the_path_and_the_rest_are_parameters() {
        let asked = |level, all: &[_]| Question::new(level, &keys(all)).unwrap().page(10, 0);
        assert_eq!(
            asked(
                Level::Study,
                &[
                    (tags::QUERY_RETRIEVE_LEVEL, VR::CS, "STUDY"),
                    (tags::STUDY_DATE, VR::DA, "20200101-20200131"),
                    (tags::PATIENT_NAME, VR::PN, "Müller^A*&b=c"),
                    (tags::STUDY_INSTANCE_UID, VR::UI, "1.2\\1.3"),
                    (tags::STUDY_DESCRIPTION, VR::LO, ""),
                ]
            ),
            "/studies?00080020=20200101-20200131&includefield=00081030\
             &00100010=M%C3%BCller%5EA*%26b%3Dc&0020000D=1.2%2C1.3&limit=10"
        );
        let series = (tags::SERIES_INSTANCE_UID, VR::UI, "1.3");
        let study = (tags::STUDY_INSTANCE_UID, VR::UI, "1.2");
        let instance = (tags::SOP_INSTANCE_UID, VR::UI, "");
        assert_eq!(
            asked(Level::Instance, &[study, series, instance]),
            "/studies/1.2/series/1.3/instances?includefield=00080018&limit=10"
        );
        assert_eq!(asked(Level::Series, &[study]), "/studies/1.2/series?limit=10");
        assert_eq!(
            asked(Level::Instance, &[series]),
            "/instances?0020000E=1.3&limit=10"
        );
        let next = Question::new(Level::Series, &keys(&[study])).unwrap().page(5, 7);
        assert_eq!(next, "/studies/1.2/series?limit=5&offset=7");
    }

    #[test]
    fn what_is_no_uid_never_comes_into_the_path() {
        let study = (tags::STUDY_INSTANCE_UID, VR::UI, "../../x");
        let question = Question::new(Level::Series, &keys(&[study])).unwrap();
        assert_eq!(question.page(1, 0), "/series?0020000D=..%2F..%2Fx&limit=1");
    }

    #[test]
    fn patients_and_attributes_in_items_are_not_searched() {
        let mut within = DataSet::new();
        within.put_items(
            tags::REQUEST_ATTRIBUTES_SEQUENCE,
            vec![keys(&[(tags::ACCESSION_NUMBER, VR::SH, "1")])],
        );
        for (level, keys) in [(Level::Patient, DataSet::new()), (Level::Series, within)] {
            let error = Question::new(level, &keys).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
    }
}
