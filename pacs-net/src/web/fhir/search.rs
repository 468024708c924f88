//! What is searched by (FHIR R4 3.1.1, and the search parameters of ImagingStudy).

use std::collections::BTreeSet;

use dicom_core::chrono::{Days, Months, NaiveDate};
use dicom_dictionary_std::tags;
use pacs_core::{DataSet, Tag, Uid, VR};
use serde_json::{Value, json};

use super::outcome::{FhirResult, Outcome};

/// A parameter, as the capability statement describes it.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    /// The end of the canonical URL of the one of the specification.
    pub(super) definition: Option<&'static str>,
    pub(super) documentation: &'static str,
}

const fn parameter(
    name: &'static str,
    kind: &'static str,
    definition: Option<&'static str>,
    documentation: &'static str,
) -> Parameter {
    Parameter {
        name,
        kind,
        definition,
        documentation,
    }
}

pub(super) const PARAMETERS: &[Parameter] = &[
    parameter("_id", "token", Some("Resource-id"), "Study Instance UID"),
    parameter(
        "identifier",
        "token",
        Some("clinical-identifier"),
        "urn:dicom:uid|urn:oid:UID, or an Accession Number",
    ),
    parameter(
        "patient",
        "reference",
        Some("clinical-patient"),
        "patient:identifier or patient.identifier: the Patient ID, with any system",
    ),
    parameter("subject", "reference", Some("ImagingStudy-subject"), "as patient"),
    parameter(
        "started",
        "date",
        Some("ImagingStudy-started"),
        "Study Date: a year, month or day, with eq, ge, gt, le or lt before it; twice for a range",
    ),
    parameter(
        "modality",
        "token",
        Some("ImagingStudy-modality"),
        "of any series of the study",
    ),
    parameter(
        "dicom-class",
        "uri",
        Some("ImagingStudy-dicom-class"),
        "SOP Class UID of any instance of the study",
    ),
    parameter(
        "basedon",
        "reference",
        Some("ImagingStudy-basedon"),
        "basedon:identifier or basedon.identifier: the Accession Number",
    ),
    parameter(
        "status",
        "token",
        Some("ImagingStudy-status"),
        "every study that is kept is available",
    ),
];

/// Resources of a page where nothing else is asked for, and at most.
const COUNT_DEFAULT: usize = 20;
const COUNT_MAX: usize = 100;

/// Parameters of one search, and values of one of them.
const PARAMETERS_MAX: usize = 64;
const VALUES_MAX: usize = 100;

const DICOM_UID: &str = "urn:dicom:uid";
const MODALITIES: &str = "http://dicom.nema.org/resources/ontology/DCM";

/// A search.
#[derive(Debug)]
pub(super) struct Search {
    /// Resources of the page.
    pub(super) count: usize,
    /// Resources before it.
    pub(super) offset: usize,
    matched: DataSet,
    from: NaiveDate,
    to: NaiveDate,
    /// What is asked for that no study here is.
    is_nothing: bool,
    /// What was asked for, but for the page, so that the links say it again.
    asked: Vec<(String, String)>,
}

impl Search {
    /// Reads the parameters of a URL or a form.
    pub(super) fn parse(forms: &[&str]) -> FhirResult<Self> {
        let mut search = Self {
            count: COUNT_DEFAULT,
            offset: 0,
            matched: DataSet::new(),
            from: NaiveDate::MIN,
            to: NaiveDate::MAX,
            is_nothing: false,
            asked: Vec::new(),
        };
        let pairs = forms
            .iter()
            .flat_map(|form| form_urlencoded::parse(form.as_bytes()));
        for (number, (name, value)) in pairs.enumerate() {
            if number == PARAMETERS_MAX {
                return Err(Outcome::invalid("a search has too many parameters"));
            }
            // A parameter without a value is none (3.1.1.3).
            if value.is_empty() {
                continue;
            }
            search.take(&name, &value)?;
            if !matches!(name.as_ref(), "_count" | "_offset") {
                search.asked.push((name.into_owned(), value.into_owned()));
            }
        }
        Ok(search)
    }

    fn take(&mut self, name: &str, value: &str) -> FhirResult<()> {
        match name {
            "_count" => self.count = number(name, value)?.min(COUNT_MAX),
            "_offset" => self.offset = number(name, value)?,
            "_format" | "_pretty" => {}
            "_id" => {
                let ids: Vec<Uid> = values(value)?
                    .iter()
                    .filter_map(|id| Uid::parse(id).ok())
                    .collect();
                self.uids(tags::STUDY_INSTANCE_UID, &ids)?;
            }
            "identifier" => self.identifier(value)?,
            "patient:identifier" | "patient.identifier" | "subject:identifier" | "subject.identifier" => {
                self.patient(value)?;
            }
            "basedon:identifier" | "basedon.identifier" => {
                self.text(tags::ACCESSION_NUMBER, VR::SH, &codes(value, |_| true)?)?;
            }
            "patient" | "subject" | "basedon" => {
                let why =
                    format!("{name} is asked for by {name}:identifier: no such resources are kept here");
                return Err(Outcome::invalid(why));
            }
            "started" => self.started(value)?,
            "modality" => {
                let codes = codes(value, |system| system == MODALITIES)?;
                self.text(tags::MODALITIES_IN_STUDY, VR::CS, &codes)?;
            }
            "dicom-class" => {
                let classes = values(value)?;
                let classes: Vec<Uid> = classes.iter().filter_map(|class| uid(class)).collect();
                self.uids(tags::SOP_CLASSES_IN_STUDY, &classes)?;
            }
            "status" => {
                let known = [
                    "registered",
                    "available",
                    "cancelled",
                    "entered-in-error",
                    "unknown",
                ];
                let asked = codes(value, |system| {
                    system == "http://hl7.org/fhir/imagingstudy-status"
                })?;
                if let Some(other) = asked.iter().find(|code| !known.contains(&code.as_str())) {
                    let _ = other;
                    return Err(Outcome::invalid("status is one that no study can have"));
                }
                self.is_nothing |= !asked.iter().any(|code| code == "available");
            }
            _ => return Err(unknown(name)),
        }
        Ok(())
    }

    /// Patient IDs; a system is who issued them.
    fn patient(&mut self, value: &str) -> FhirResult<()> {
        let asked = values(value)?;
        let (systems, ids): (BTreeSet<&str>, Vec<String>) = asked
            .iter()
            .map(|one| one.split_once('|').unwrap_or(("", one)))
            .map(|(system, id)| (system, id.to_owned()))
            .unzip();
        if systems.len() > 1 {
            return Err(Outcome::invalid(
                "identifiers of patients are asked for by one system",
            ));
        }
        self.text(tags::PATIENT_ID, VR::LO, &ids)?;
        match systems.first() {
            None | Some(&"") => Ok(()),
            Some(system) => {
                let issuer = system.strip_prefix("urn:oid:").unwrap_or(system);
                self.text(tags::ISSUER_OF_PATIENT_ID, VR::LO, &[issuer.to_owned()])
            }
        }
    }

    fn identifier(&mut self, value: &str) -> FhirResult<()> {
        let (mut uids, mut texts) = (Vec::new(), Vec::new());
        for one in values(value)? {
            let (system, code) = match one.split_once('|') {
                Some((system, code)) => (Some(system.to_owned()), code.to_owned()),
                None => (None, one),
            };
            match system.as_deref() {
                Some(DICOM_UID | "urn:ietf:rfc:3986") => uids.extend(uid(&code)),
                // Without a system what looks like a UID is one.
                None if code.starts_with("urn:oid:") || code.contains('.') && Uid::parse(&code).is_ok() => {
                    uids.extend(uid(&code));
                }
                None | Some("") => texts.push(code),
                // Accession Numbers have no system here.
                Some(_) => {}
            }
        }
        match (uids.is_empty(), texts.is_empty()) {
            (false, false) => Err(Outcome::invalid(
                "identifier is a list of UIDs, or of Accession Numbers, not of both",
            )),
            (_, true) => self.uids(tags::STUDY_INSTANCE_UID, &uids),
            (true, false) => self.text(tags::ACCESSION_NUMBER, VR::SH, &texts),
        }
    }

    /// Matches any of these.
    fn uids(&mut self, tag: Tag, uids: &[Uid]) -> FhirResult<()> {
        let uids: Vec<String> = uids.iter().map(ToString::to_string).collect();
        self.put(tag, VR::UI, uids)
    }

    /// Matches any of these, letter by letter.
    fn text(&mut self, tag: Tag, vr: VR, texts: &[String]) -> FhirResult<()> {
        // In DICOM these would match more than themselves.
        let is_plain = |text: &&String| !text.contains(['*', '?', '\\', '"']) && !text.trim().is_empty();
        let plain = texts.iter().filter(is_plain).cloned().collect();
        self.put(tag, vr, plain)
    }

    fn put(&mut self, tag: Tag, vr: VR, texts: Vec<String>) -> FhirResult<()> {
        let wanted: Vec<String> = match self.matched.get(tag) {
            // The same parameter twice: both must hold (3.1.1.3.3). Of lists of unique values that is what they share.
            Some(known) if vr == VR::UI && tag == tags::STUDY_INSTANCE_UID => {
                let known: Vec<&str> = known.strings().collect();
                texts
                    .into_iter()
                    .filter(|text| known.contains(&text.as_str()))
                    .collect()
            }
            Some(_) => return Err(Outcome::invalid("an attribute of the study is matched twice")),
            None => texts,
        };
        self.is_nothing |= wanted.is_empty();
        self.matched.put_text(tag, vr, wanted.join("\\"));
        Ok(())
    }

    /// A date with a prefix (3.1.1.4.7); all of its parts that are not said are meant.
    fn started(&mut self, value: &str) -> FhirResult<()> {
        let (prefix, date) = match value.get(..2) {
            Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_alphabetic()) => (prefix, &value[2..]),
            _ => ("eq", value),
        };
        let why =
            "started is a year, month or day (2024, 2024-02, 2024-02-29) with eq, ge, gt, le or lt before it";
        let (first, last) = span(date).ok_or_else(|| Outcome::invalid(why))?;
        let (from, to) = match prefix {
            "eq" => (first, last),
            "ge" => (first, NaiveDate::MAX),
            "gt" => (
                last.checked_add_days(Days::new(1)).unwrap_or(NaiveDate::MAX),
                NaiveDate::MAX,
            ),
            "le" => (NaiveDate::MIN, last),
            "lt" => (
                NaiveDate::MIN,
                first.checked_sub_days(Days::new(1)).unwrap_or(NaiveDate::MIN),
            ),
            _ => return Err(Outcome::invalid(why)),
        };
        self.from = self.from.max(from);
        self.to = self.to.min(to);
        Ok(())
    }

    /// `keys` with what is matched; none where no study can be.
    pub(super) fn keys(&self, mut keys: DataSet) -> Option<DataSet> {
        if self.is_nothing || self.from > self.to {
            return None;
        }
        for element in self.matched.iter() {
            keys.put(element.clone());
        }
        let text = |date: NaiveDate, open| match date == open {
            true => String::new(),
            false => date.format("%Y%m%d").to_string(),
        };
        let range = (text(self.from, NaiveDate::MIN), text(self.to, NaiveDate::MAX));
        match range {
            (from, to) if from.is_empty() && to.is_empty() => {}
            (from, to) => keys.put_text(tags::STUDY_DATE, VR::DA, format!("{from}-{to}")),
        }
        Some(keys)
    }

    /// The links of the Bundle: this page and its neighbours (3.1.1.5).
    pub(super) fn links(&self, base: &str, is_more: bool) -> Value {
        let link = |relation: &str, offset: usize| {
            let mut query = form_urlencoded::Serializer::new(String::new());
            for (name, value) in &self.asked {
                query.append_pair(name, value);
            }
            query.append_pair("_count", &self.count.to_string());
            if offset > 0 {
                query.append_pair("_offset", &offset.to_string());
            }
            json!({ "relation": relation, "url": format!("{base}/ImagingStudy?{}", query.finish()) })
        };
        let mut links = vec![link("self", self.offset)];
        if self.count > 0 {
            links.push(link("first", 0));
            if self.offset > 0 {
                links.push(link("previous", self.offset.saturating_sub(self.count)));
            }
            if is_more {
                links.push(link("next", self.offset.saturating_add(self.count)));
            }
        }
        links.into()
    }
}

/// A parameter that means nothing here. It may be anything that somebody typed, and is named where it looks like one.
fn unknown(name: &str) -> Outcome {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b':' | b'.');
    let looks_like_one = name.len() <= 40 && name.bytes().all(letter);
    let name = if looks_like_one { name } else { "a parameter" };
    Outcome::invalid(format!("{name} is no parameter of this search"))
}

fn number(name: &str, value: &str) -> FhirResult<usize> {
    let is_one = value.len() <= 9 && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_one.then(|| value.parse().ok()).flatten();
    number.ok_or_else(|| Outcome::invalid(format!("{name} is a number from 0 on")))
}

/// The values of a parameter: a comma stands between them, unless there is a `\` before it (3.1.1.4.1).
fn values(text: &str) -> FhirResult<Vec<String>> {
    let mut values = vec![String::new()];
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let letter = match letter {
            ',' => {
                if values.len() == VALUES_MAX {
                    return Err(Outcome::invalid("a parameter has too many values"));
                }
                values.push(String::new());
                continue;
            }
            '\\' => letters.next().unwrap_or('\\'),
            letter => letter,
        };
        if let Some(last) = values.last_mut() {
            last.push(letter);
        }
    }
    Ok(values)
}

/// The codes of tokens whose system is none or one of these.
fn codes(text: &str, is_known: impl Fn(&str) -> bool) -> FhirResult<Vec<String>> {
    let codes = values(text)?
        .into_iter()
        .filter_map(|value| match value.split_once('|') {
            Some((system, code)) => (system.is_empty() || is_known(system)).then(|| code.to_owned()),
            None => Some(value),
        });
    Ok(codes.collect())
}

fn uid(text: &str) -> Option<Uid> {
    Uid::parse(text.strip_prefix("urn:oid:").unwrap_or(text)).ok()
}

/// The first and the last day that a date says.
fn span(text: &str) -> Option<(NaiveDate, NaiveDate)> {
    let parts: Vec<&str> = text.split('-').collect();
    let number = |at: usize, digits: usize| {
        let part = parts.get(at)?;
        (part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| part.parse::<u32>().ok())?
    };
    let year = i32::try_from(number(0, 4)?).ok()?;
    let (first, months) = match parts.len() {
        1 => (NaiveDate::from_ymd_opt(year, 1, 1)?, 12),
        2 => (NaiveDate::from_ymd_opt(year, number(1, 2)?, 1)?, 1),
        3 => {
            let day = NaiveDate::from_ymd_opt(year, number(1, 2)?, number(2, 2)?)?;
            return Some((day, day));
        }
        _ => return None,
    };
    let last = first
        .checked_add_months(Months::new(months))?
        .checked_sub_days(Days::new(1))?;
    Some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(query: &str) -> Option<DataSet> {
        Search::parse(&[query]).unwrap().keys(DataSet::new())
    }

    #[test]
    fn parameters_become_keys() {
        for (query, tag, expected) in [
            ("_id=1.2,1.3", tags::STUDY_INSTANCE_UID, "1.2\\1.3"),
            ("_id=1.2,1.3&_id=1.3,1.4", tags::STUDY_INSTANCE_UID, "1.3"),
            (
                "identifier=urn:dicom:uid|urn:oid:1.2",
                tags::STUDY_INSTANCE_UID,
                "1.2",
            ),
            ("identifier=urn:oid:1.2", tags::STUDY_INSTANCE_UID, "1.2"),
            ("identifier=ACC1", tags::ACCESSION_NUMBER, "ACC1"),
            ("identifier=|4711", tags::ACCESSION_NUMBER, "4711"),
            ("basedon:identifier=ACC1", tags::ACCESSION_NUMBER, "ACC1"),
            ("patient:identifier=urn:oid:1.9|4711", tags::PATIENT_ID, "4711"),
            ("subject.identifier=a%5C,b", tags::PATIENT_ID, "a,b"),
            (
                "modality=CT,http://dicom.nema.org/resources/ontology/DCM|MR",
                tags::MODALITIES_IN_STUDY,
                "CT\\MR",
            ),
            (
                "dicom-class=urn:oid:1.2.840",
                tags::SOP_CLASSES_IN_STUDY,
                "1.2.840",
            ),
            ("started=2024-02", tags::STUDY_DATE, "20240201-20240229"),
            (
                "started=ge2024&started=lt2024-03-01",
                tags::STUDY_DATE,
                "20240101-20240229",
            ),
            ("started=gt2024-02", tags::STUDY_DATE, "20240301-"),
            ("started=le2024-02-29", tags::STUDY_DATE, "-20240229"),
        ] {
            let keys = keys(query).unwrap();
            let said = keys
                .get(tag)
                .map(|key| String::from_utf8_lossy(key.bytes()).into_owned());
            assert_eq!(said.as_deref(), Some(expected), "{query}");
        }
        assert!(keys("").unwrap().is_empty());
        assert!(
            keys("status=available&_count=3&_format=json&patient:identifier=")
                .unwrap()
                .is_empty()
        );
        for nothing in [
            "_id=x",
            "status=cancelled",
            "started=gt2024&started=lt2024",
            "modality=other|CT",
            "identifier=other|1",
            "patient:identifier=*",
            "_id=1.2&_id=1.3",
        ] {
            assert!(keys(nothing).is_none(), "{nothing}");
        }
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        for query in [
            "PatientID=1",
            "patient=Patient/1",
            "started=ne2024",
            "started=2024-02-30",
            "started=2024-02-29T10:00",
            "started=secret",
            "_count=-1",
            "_count=many",
            "status=kept",
            "patient:identifier=1&subject:identifier=2",
            "identifier=ACC1,urn:oid:1.2",
        ] {
            assert!(Search::parse(&[query]).is_err(), "{query}");
        }
    }

    #[test]
    fn links_lead_to_the_pages_around() {
        let search = Search::parse(&["modality=CT&_count=10&_offset=15"]).unwrap();
        let links = search.links("http://pacs/fhir", true);
        let url = |relation: &str| {
            let links = links.as_array().unwrap();
            let link = links.iter().find(|link| link["relation"] == relation).unwrap();
            link["url"].as_str().unwrap().to_owned()
        };
        assert_eq!(
            url("self"),
            "http://pacs/fhir/ImagingStudy?modality=CT&_count=10&_offset=15"
        );
        assert_eq!(
            url("previous"),
            "http://pacs/fhir/ImagingStudy?modality=CT&_count=10&_offset=5"
        );
        assert_eq!(
            url("next"),
            "http://pacs/fhir/ImagingStudy?modality=CT&_count=10&_offset=25"
        );
        assert_eq!(
            url("first"),
            "http://pacs/fhir/ImagingStudy?modality=CT&_count=10"
        );
    }
}
