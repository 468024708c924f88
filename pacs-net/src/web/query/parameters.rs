//! The query component of a search: what is matched, what is returned, and which part of it
//! (PS3.18 8.3.4).

use dicom_core::dictionary::DataDictionary;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use pacs_core::dataset::{Element, Value, standard_vr};
use pacs_core::limits::SEQUENCE_DEPTH_MAX;
use pacs_core::query::QueryOptions;
use pacs_core::{DataSet, Error, ErrorKind, Level, Result};

/// Matching keys and return keys of one search. What matching costs grows with each, and nobody asks for
/// more.
const PARAMETERS_MAX: usize = 512;

/// A longer name of a parameter is not repeated.
const PARAMETER_LENGTH_MAX_BYTES: usize = 64;

/// What a search asks for.
#[derive(Debug)]
pub(in crate::web) struct Parameters {
    /// The identifier of a C-FIND that asks the same.
    pub(in crate::web) identifier: DataSet,
    pub(in crate::web) options: QueryOptions,
    /// includefield=all.
    pub(in crate::web) everything: bool,
    pub(in crate::web) limit: Option<u64>,
    pub(in crate::web) offset: u64,
}

impl Parameters {
    /// Reads the query component of a search at `level`.
    pub(in crate::web) fn parse(query: &str, level: Level) -> Result<Self> {
        let mut parameters = Self {
            identifier: DataSet::new(),
            options: QueryOptions {
                // Any level may be searched without those above it (PS3.18 10.6.1.1), and each of the others
                // is asked for by a parameter or harms nobody.
                relational: true,
                combined_date_time: true,
                fuzzy_person_names: false,
                multiple_values: false,
            },
            everything: false,
            limit: None,
            offset: 0,
        };
        for (count, (name, value)) in form_urlencoded::parse(query.as_bytes()).enumerate() {
            if count == PARAMETERS_MAX {
                return Err(invalid("a search has too many parameters"));
            }
            parameters.take(&name, &value)?;
        }
        let level = level.as_str();
        parameters
            .identifier
            .put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, level);
        Ok(parameters)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            // 8.3.4.2, 8.3.4.6
            "fuzzymatching" => self.options.fuzzy_person_names = switch(name, value)?,
            "multiplevaluematching" => self.options.multiple_values = switch(name, value)?,
            // 8.3.4.5: two quotation marks match what has no value, asked for or not.
            "emptyvaluematching" => _ = switch(name, value)?,
            // 8.3.4.3
            "includefield" => {
                for field in value.split(',').map(str::trim).filter(|field| !field.is_empty()) {
                    match field {
                        "all" => self.everything = true,
                        field => {
                            let why = "includefield names what is no attribute";
                            let path = path(field, || invalid(why))?;
                            put(&mut self.identifier, &path, None)?;
                        }
                    }
                }
            }
            // 8.3.4.4
            "limit" => self.limit = Some(number(name, value)?),
            "offset" => self.offset = number(name, value)?,
            // 8.3.3: what the answer is to be is negotiated elsewhere.
            "accept" | "charset" => {}
            // 8.3.4.1
            attribute => {
                let path = path(attribute, || unknown(attribute))?;
                put(&mut self.identifier, &path, Some(value))?;
            }
        }
        Ok(())
    }
}

fn invalid(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Invalid, "web.search", why)
}

fn switch(name: &str, value: &str) -> Result<bool> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(invalid(format!("{name} is \"true\" or \"false\""))),
    }
}

fn number(name: &str, value: &str) -> Result<u64> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| value.parse().ok()).flatten();
    number.ok_or_else(|| invalid(format!("{name} is a number from 0 on")))
}

/// A parameter that means nothing here. It may be anything that somebody typed, and is named where it looks like a
/// keyword or a tag.
fn unknown(name: &str) -> Error {
    let looks_like_one = (1..=PARAMETER_LENGTH_MAX_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
    let name = if looks_like_one { name } else { "a parameter" };
    invalid(format!(
        "{name} is neither a parameter of a search nor an attribute"
    ))
}

/// An attribute, with the sequences that it is in: keywords and tags with `.` between them (8.3.4.1).
fn path(name: &str, unknown: impl FnOnce() -> Error) -> Result<Vec<Tag>> {
    let tags: Option<Vec<Tag>> = name.split('.').map(tag).collect();
    let tags = tags.ok_or_else(unknown)?;
    if tags.len() > SEQUENCE_DEPTH_MAX {
        return Err(invalid("an attribute is in too many sequences"));
    }
    let is_sequence = |tag: &Tag| standard_vr(*tag).is_none_or(|vr| vr == VR::SQ);
    match tags.iter().rev().skip(1).find(|tag| !is_sequence(tag)) {
        Some(tag) => Err(invalid("what stands before a . is no sequence").with_tag(*tag)),
        None => Ok(tags),
    }
}

fn tag(text: &str) -> Option<Tag> {
    if text.len() == 8
        && let Ok(number) = u32::from_str_radix(text, 16)
    {
        // Groups below 0008 are of messages and files, not of instances.
        let tag = Tag((number >> 16) as u16, number as u16);
        return (tag.0 >= 8).then_some(tag);
    }
    let entry = StandardDataDictionary.by_name(text)?;
    Some(entry.tag.inner()).filter(|tag| tag.0 >= 8)
}

/// Puts a matching key, or without a value a return key, at the end of a path.
fn put(set: &mut DataSet, path: &[Tag], value: Option<&str>) -> Result<()> {
    let Some((&first, rest)) = path.split_first() else {
        return Ok(());
    };
    if !rest.is_empty() {
        let mut item = match set.remove(first).map(|element| element.value) {
            Some(Value::Items(items)) => items.into_iter().next().unwrap_or_default(),
            _ => DataSet::new(),
        };
        put(&mut item, rest, value)?;
        set.put_items(first, vec![item]);
        return Ok(());
    }
    let vr = standard_vr(first).unwrap_or(VR::UN);
    match value {
        // What is matched is returned as well.
        None if set.contains(first) => {}
        Some(text) if !text.is_empty() && vr != VR::SQ => {
            if set.get(first).is_some_and(|element| !element.is_empty()) {
                return Err(invalid("an attribute is matched twice").with_tag(first));
            }
            // Several UIDs also have a comma between them (8.3.4.1).
            let text = match vr {
                VR::UI => text.replace(',', "\\"),
                _ => text.to_owned(),
            };
            set.put(Element::from_text(first, vr, &text)?);
        }
        Some(text) if !text.is_empty() => {
            return Err(invalid("a sequence is matched by what is in it").with_tag(first));
        }
        None | Some(_) if vr == VR::SQ => set.put_items(first, Vec::new()),
        None | Some(_) => set.put_text(first, vr, ""),
    }
    Ok(())
}

/// Asks for an attribute to be returned.
pub(in crate::web) fn put_return_key(set: &mut DataSet, tag: Tag) {
    // One that is in no sequence is always put.
    let _ = put(set, &[tag], None);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Parameters {
        Parameters::parse(query, Level::Study).unwrap()
    }

    #[test]
    fn attributes_are_named_by_keyword_or_tag_and_in_sequences_by_path() {
        let asked = parse(
            "PatientName=M%C3%BCller%2A&00100020=1&RequestAttributesSequence.00400009=S1\
             &RequestAttributesSequence.RequestedProcedureID=&Rows=512&includefield=StudyDescription,00081030\
             &StudyInstanceUID=1.2,1.3",
        );
        let set = &asked.identifier;
        assert_eq!(set.string(tags::PATIENT_NAME), Some("Müller*"));
        assert_eq!(set.string(tags::PATIENT_ID), Some("1"));
        let item = &set.items(tags::REQUEST_ATTRIBUTES_SEQUENCE)[0];
        assert_eq!(item.string(tags::SCHEDULED_PROCEDURE_STEP_ID), Some("S1"));
        assert!(item.contains(tags::REQUESTED_PROCEDURE_ID));
        assert_eq!(set.u16(tags::ROWS), Some(512));
        assert!(set.get(tags::STUDY_DESCRIPTION).unwrap().is_empty());
        let uids: Vec<_> = set.strings(tags::STUDY_INSTANCE_UID).collect();
        assert_eq!(uids, ["1.2", "1.3"]);
        assert_eq!(set.string(tags::QUERY_RETRIEVE_LEVEL), Some("STUDY"));
    }

    #[test]
    fn the_part_that_is_asked_for_and_the_ways_of_matching_are_parameters() {
        let asked =
            parse("limit=10&offset=20&fuzzymatching=true&multiplevaluematching=true&includefield=all");
        assert_eq!(
            (asked.limit, asked.offset, asked.everything),
            (Some(10), 20, true)
        );
        assert!(asked.options.fuzzy_person_names && asked.options.multiple_values);
        let asked = parse("");
        assert_eq!((asked.limit, asked.offset, asked.everything), (None, 0, false));
        assert!(!asked.options.fuzzy_person_names);
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        for query in [
            "NoSuchKeyword=1",
            "limit=-1",
            "limit=",
            "offset=1.5",
            "limit=99999999999999999999999",
            "fuzzymatching=yes",
            "PatientName.PatientID=1",
            "RequestAttributesSequence=1",
            "Rows=many",
            "00020010=1",
            "PatientID=1&00100020=2",
            "includefield=Nothing",
            ".=1",
            "=",
        ] {
            let refused = Parameters::parse(query, Level::Study);
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid, "{query}");
        }
    }

    #[test]
    fn a_parameter_that_is_unknown_is_named_and_what_may_be_a_value_is_not() {
        let said = |query: &str| {
            let refused = Parameters::parse(query, Level::Study).unwrap_err();
            refused.context().to_owned()
        };
        let named = said("PatientNam=Secret");
        assert!(named.starts_with("PatientNam is neither"), "{named}");
        assert!(!named.contains("Secret"));
        assert!(said("PatientName.Nothing_1=2").starts_with("PatientName.Nothing_1 is neither"));
        let long = "a".repeat(65);
        for query in [
            "Doe%5EJohn=1",
            "Doe%20John",
            "M%C3%BCller=1",
            "=Secret",
            &long,
            "includefield=Secret",
        ] {
            let said = said(query);
            for part in ["Doe", "ller", "Secret", &long] {
                assert!(!said.contains(part), "{said}");
            }
        }
    }

    #[test]
    fn a_return_key_does_not_take_a_matching_keys_value() {
        let asked = parse("PatientID=7&includefield=PatientID&includefield=RequestAttributesSequence");
        assert_eq!(asked.identifier.string(tags::PATIENT_ID), Some("7"));
        assert!(
            asked
                .identifier
                .items(tags::REQUEST_ATTRIBUTES_SEQUENCE)
                .is_empty()
        );
    }
}
