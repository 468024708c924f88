//! The resource: ImagingStudy (FHIR R4), of what the index knows.

use dicom_core::chrono::NaiveDate;
use dicom_dictionary_std::tags;
use pacs_core::{DataSet, Tag, VR};
use serde_json::{Map, Value, json};

/// What is asked of a study.
pub(super) const STUDY: &[(Tag, VR)] = &[
    (tags::STUDY_DATE, VR::DA),
    (tags::STUDY_TIME, VR::TM),
    (tags::ACCESSION_NUMBER, VR::SH),
    (tags::MODALITIES_IN_STUDY, VR::CS),
    (tags::REFERRING_PHYSICIAN_NAME, VR::PN),
    (tags::TIMEZONE_OFFSET_FROM_UTC, VR::SH),
    (tags::STUDY_DESCRIPTION, VR::LO),
    (tags::PROCEDURE_CODE_SEQUENCE, VR::SQ),
    (tags::PATIENT_NAME, VR::PN),
    (tags::PATIENT_ID, VR::LO),
    (tags::ISSUER_OF_PATIENT_ID, VR::LO),
    (tags::STUDY_INSTANCE_UID, VR::UI),
    (tags::NUMBER_OF_STUDY_RELATED_SERIES, VR::IS),
    (tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS),
];

/// What is asked of a series.
pub(super) const SERIES: &[(Tag, VR)] = &[
    (tags::SERIES_DATE, VR::DA),
    (tags::SERIES_TIME, VR::TM),
    (tags::MODALITY, VR::CS),
    (tags::SERIES_DESCRIPTION, VR::LO),
    (tags::BODY_PART_EXAMINED, VR::CS),
    (tags::STUDY_INSTANCE_UID, VR::UI),
    (tags::SERIES_INSTANCE_UID, VR::UI),
    (tags::SERIES_NUMBER, VR::IS),
    (tags::LATERALITY, VR::CS),
    (tags::NUMBER_OF_SERIES_RELATED_INSTANCES, VR::IS),
];

/// What is asked of an instance.
pub(super) const INSTANCE: &[(Tag, VR)] = &[
    (tags::SOP_CLASS_UID, VR::UI),
    (tags::SOP_INSTANCE_UID, VR::UI),
    (tags::STUDY_INSTANCE_UID, VR::UI),
    (tags::SERIES_INSTANCE_UID, VR::UI),
    (tags::INSTANCE_NUMBER, VR::IS),
    (tags::DOCUMENT_TITLE, VR::ST),
];

const DCM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const URI: &str = "urn:ietf:rfc:3986";

/// Members that have a value: FHIR has no empty ones (2.6.2).
#[derive(Default)]
struct Members(Map<String, Value>);

impl Members {
    fn put(&mut self, name: &str, value: Value) {
        let is_empty = match &value {
            Value::Null => true,
            Value::String(text) => text.trim().is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(members) => members.is_empty(),
            _ => false,
        };
        if !is_empty {
            self.0.insert(name.to_owned(), value);
        }
    }

    fn done(self) -> Value {
        Value::Object(self.0)
    }
}

/// The ImagingStudy of a study.
pub(super) fn study(found: &DataSet, series: Vec<Value>, dicomweb: &str) -> Value {
    let uid = found.string(tags::STUDY_INSTANCE_UID).unwrap_or_default();
    let accession = found.string(tags::ACCESSION_NUMBER).map(|number| {
        json!({
            "type": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN" }] },
            "value": number,
        })
    });
    let mut identifiers =
        vec![json!({ "use": "official", "system": "urn:dicom:uid", "value": format!("urn:oid:{uid}") })];
    identifiers.extend(accession.clone());
    let mut it = Members::default();
    it.put("resourceType", json!("ImagingStudy"));
    // A UID is an id as FHIR has it: digits and dots, at most 64 (2.24.0.1).
    it.put("id", json!(uid));
    it.put("contained", json!([endpoint(dicomweb)]));
    it.put("identifier", identifiers.into());
    it.put("status", json!("available"));
    let modalities = found
        .strings(tags::MODALITIES_IN_STUDY)
        .filter(|code| !code.is_empty());
    it.put("modality", modalities.map(modality).collect());
    it.put("subject", subject(found));
    let zone = found.string(tags::TIMEZONE_OFFSET_FROM_UTC);
    it.put(
        "started",
        date_time(found, tags::STUDY_DATE, tags::STUDY_TIME, zone).into(),
    );
    if let Some(accession) = accession {
        it.put(
            "basedOn",
            json!([{ "type": "ServiceRequest", "identifier": accession }]),
        );
    }
    if let Some(name) = found
        .string(tags::REFERRING_PHYSICIAN_NAME)
        .map(display)
        .filter(|name| !name.is_empty())
    {
        it.put("referrer", json!({ "display": name }));
    }
    it.put("endpoint", json!([{ "reference": "#dicomweb" }]));
    it.put(
        "numberOfSeries",
        count(found, tags::NUMBER_OF_STUDY_RELATED_SERIES),
    );
    it.put(
        "numberOfInstances",
        count(found, tags::NUMBER_OF_STUDY_RELATED_INSTANCES),
    );
    let procedures = found.items(tags::PROCEDURE_CODE_SEQUENCE).iter();
    it.put("procedureCode", procedures.filter_map(concept).collect());
    it.put("description", json!(found.string(tags::STUDY_DESCRIPTION)));
    it.put("series", series.into());
    it.done()
}

/// A series of it.
pub(super) fn series(found: &DataSet, of: &DataSet, instances: Vec<Value>) -> Value {
    let mut it = Members::default();
    it.put("uid", json!(found.string(tags::SERIES_INSTANCE_UID)));
    it.put("number", count(found, tags::SERIES_NUMBER));
    // It must be there: what says nothing of it is of some other kind.
    it.put("modality", modality(found.string(tags::MODALITY).unwrap_or("OT")));
    it.put("description", json!(found.string(tags::SERIES_DESCRIPTION)));
    it.put(
        "numberOfInstances",
        count(found, tags::NUMBER_OF_SERIES_RELATED_INSTANCES),
    );
    if let Some(part) = found.string(tags::BODY_PART_EXAMINED) {
        it.put("bodySite", json!({ "display": part }));
    }
    let laterality = match found.string(tags::LATERALITY) {
        Some("L") => Some(("7771000", "Left")),
        Some("R") => Some(("24028007", "Right")),
        _ => None,
    };
    if let Some((code, display)) = laterality {
        it.put(
            "laterality",
            json!({ "system": "http://snomed.info/sct", "code": code, "display": display }),
        );
    }
    let zone = of.string(tags::TIMEZONE_OFFSET_FROM_UTC);
    it.put(
        "started",
        date_time(found, tags::SERIES_DATE, tags::SERIES_TIME, zone).into(),
    );
    it.put("instance", instances.into());
    it.done()
}

/// An instance of it.
pub(super) fn instance(found: &DataSet) -> Value {
    let mut it = Members::default();
    it.put("uid", json!(found.string(tags::SOP_INSTANCE_UID)));
    let class = found.string(tags::SOP_CLASS_UID).unwrap_or_default();
    it.put(
        "sopClass",
        json!({ "system": URI, "code": format!("urn:oid:{class}") }),
    );
    it.put("number", count(found, tags::INSTANCE_NUMBER));
    it.put("title", json!(found.string(tags::DOCUMENT_TITLE)));
    it.done()
}

/// Where the study is had from: DICOMweb of this server.
fn endpoint(dicomweb: &str) -> Value {
    json!({
        "resourceType": "Endpoint",
        "id": "dicomweb",
        "status": "active",
        "connectionType": {
            "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
            "code": "dicom-wado-rs",
        },
        "payloadType": [{ "text": "DICOM" }],
        "payloadMimeType": ["application/dicom"],
        "address": dicomweb,
    })
}

fn subject(found: &DataSet) -> Value {
    let mut it = Members::default();
    it.put("type", json!("Patient"));
    if let Some(id) = found.string(tags::PATIENT_ID) {
        let mut identifier = Members::default();
        identifier.put("value", json!(id));
        if let Some(issuer) = found.string(tags::ISSUER_OF_PATIENT_ID) {
            identifier.put("assigner", json!({ "display": issuer }));
        }
        it.put("identifier", identifier.done());
    }
    let name = found.string(tags::PATIENT_NAME).map(display);
    // A reference must lead somewhere or say something, and the study must have one.
    let name = name.filter(|name| !name.is_empty());
    if name.is_none() && !found.contains(tags::PATIENT_ID) {
        it.put("display", json!("unknown"));
    } else {
        it.put("display", json!(name));
    }
    it.done()
}

/// A name as people read it: the alphabetic group, prefix first.
fn display(name: &str) -> String {
    let group = name
        .split('=')
        .map(str::trim)
        .find(|group| !group.is_empty())
        .unwrap_or_default();
    let part = |at| group.split('^').nth(at).unwrap_or_default().trim();
    let parts = [part(3), part(1), part(2), part(0), part(4)];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}

fn modality(code: &str) -> Value {
    json!({ "system": DCM, "code": code })
}

/// A code as CodeableConcept; schemes that have a URI by their URI (PS3.16 table 8-1).
fn concept(code: &DataSet) -> Option<Value> {
    let value = [tags::CODE_VALUE, tags::LONG_CODE_VALUE, tags::URN_CODE_VALUE];
    let value = value.into_iter().find_map(|tag| code.string(tag))?;
    let system = match code.string(tags::CODING_SCHEME_DESIGNATOR) {
        Some("SCT") => Some("http://snomed.info/sct"),
        Some("LN") => Some("http://loinc.org"),
        Some("DCM") => Some(DCM),
        Some("UCUM") => Some("http://unitsofmeasure.org"),
        Some("C4") => Some("http://www.ama-assn.org/go/cpt"),
        _ => None,
    };
    let mut coding = Members::default();
    coding.put("system", json!(system));
    coding.put("code", json!(value));
    coding.put("display", json!(code.string(tags::CODE_MEANING)));
    let mut it = Members::default();
    it.put("coding", json!([coding.done()]));
    it.put("text", json!(code.string(tags::CODE_MEANING)));
    Some(it.done())
}

/// A number as unsignedInt: nothing where it is none.
fn count(found: &DataSet, tag: Tag) -> Value {
    let number = found.string(tag).and_then(|text| text.trim().parse::<u32>().ok());
    let number = number.filter(|number| i32::try_from(*number).is_ok());
    number.into()
}

/// A dateTime: with the time where the zone is known too, as it must be (2.24.0.1).
fn date_time(found: &DataSet, date: Tag, time: Tag, zone: Option<&str>) -> Option<String> {
    let date = NaiveDate::parse_from_str(found.string(date)?, "%Y%m%d").ok()?;
    let day = date.format("%Y-%m-%d").to_string();
    let clock = || {
        let zone =
            zone.filter(|zone| zone.len() == 5 && zone.starts_with(['+', '-']) && is_digits(&zone[1..]))?;
        let time = found.string(time)?;
        let (whole, _) = time.split_once('.').unwrap_or((time, ""));
        let pair = |at: usize| whole.get(at..at + 2).filter(|pair| is_digits(pair));
        let (hour, minute, second) = (pair(0)?, pair(2)?, pair(4).unwrap_or("00"));
        (hour < "24" && minute < "60" && second <= "60")
            .then(|| format!("T{hour}:{minute}:{second}{}:{}", &zone[..3], &zone[3..]))
    };
    Some(format!("{day}{}", clock().unwrap_or_default()))
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}
