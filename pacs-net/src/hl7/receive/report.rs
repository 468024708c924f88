//! What messages say of results: reports, kept as instances (HL7 v2.5 chapter 7; PS3.3 A.35.1, A.45.1).

use bytes::Bytes;
use dicom_dictionary_std::{tags, uids};
use futures::{TryStreamExt, stream};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::dataset::part10::{Meta, write_meta};
use pacs_core::dataset::{Element, Value, base64};
use pacs_core::query::{Model, Query, QueryOptions};
use pacs_core::{DataSet, Level, PatientId, Result, Source, Tag, Uid, VR};

use super::super::ack::{Condition, Fault};
use super::super::message::{Message, Segment};
use super::once::Identity;
use super::order::groups;
use super::patient::patient_id;
use super::{Inner, at};

const EXPLICIT: Uid = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);

/// Reports of one message.
const REPORTS_MAX: usize = 100;

/// One report, as it will be kept.
struct Report {
    class: Uid,
    modality: &'static str,
    content: DataSet,
}

impl Inner {
    /// ORU^R01: each OBR is a report. Its documents are kept as they are, and its text as one instance.
    pub(super) async fn keep_report(
        &self,
        message: &Message,
        identity: Identity,
        source: &Source,
    ) -> Result<(), Fault> {
        let patient = self.patient(message)?;
        let mut instances = Vec::new();
        // All of it is looked at before any of it is kept.
        for group in groups(message)? {
            let order = self.options.mapping.order.apply(&group)?;
            let study = self.study(&order, &patient, source).await?;
            for report in reports(&group)? {
                if instances.len() == REPORTS_MAX {
                    return Err(Fault::reject(
                        Condition::Internal,
                        "the message has too many reports",
                    ));
                }
                instances.push(instance(
                    &group,
                    report,
                    &study,
                    &order,
                    identity,
                    instances.len(),
                ));
            }
        }
        if instances.is_empty() {
            let why = "the message has no OBX with text or a document";
            return Err(Fault::error(Condition::RequiredFieldMissing, why).at(at("OBX-5")));
        }
        for (class, instance) in instances {
            let uid = instance.uid(tags::SOP_INSTANCE_UID)?;
            let header = write_meta(&Meta::new(class, uid, EXPLICIT));
            let data_set = encode(&instance, &EXPLICIT, &CharacterSet::utf8())?;
            let pieces = stream::iter([Ok(header), Ok(Bytes::from(data_set))]);
            self.pacs.import(source.clone(), pieces).await?;
        }
        Ok(())
    }

    /// What is known of the patient and the study that a report belongs to: by the Accession Number the study that is
    /// kept, else that of the order; else by what the message says.
    async fn study(&self, order: &DataSet, patient: &DataSet, source: &Source) -> Result<DataSet, Fault> {
        let patient_id = patient_id(patient)?;
        let accession = order.string(tags::ACCESSION_NUMBER);
        let accession = accession.ok_or_else(|| Fault::missing("OBR-18"))?;
        let mut keys = DataSet::new();
        keys.put_text(tags::ACCESSION_NUMBER, VR::SH, accession);
        for (tag, vr) in STUDY {
            keys.put_text(*tag, *vr, "");
        }
        let options = QueryOptions {
            relational: true,
            ..QueryOptions::default()
        };
        let mut found = self
            .pacs
            .find(source, Query::new(Model::StudyRoot, Level::Study, keys, options))?;
        let mut of_another = false;
        while let Some(study) = found.try_next().await? {
            // A wild card in the key is only a letter here.
            if study.string(tags::ACCESSION_NUMBER) != Some(accession) {
                continue;
            }
            if PatientId::of(&study).agrees(&patient_id) {
                let mut study = study.with_values();
                study.retain(|element| STUDY.iter().any(|(tag, _)| *tag == element.tag));
                study.put_text(tags::ACCESSION_NUMBER, VR::SH, accession);
                return Ok(study);
            }
            of_another = true;
        }
        if of_another {
            let why = "the study with this Accession Number is of another patient";
            return Err(Fault::error(Condition::UnknownKey, why).at(at("PID-3")));
        }
        let mut study = DataSet::new();
        study.put_text(tags::ACCESSION_NUMBER, VR::SH, accession);
        let steps = self.worklist.of_order(accession).await?;
        let step = steps.iter().find(|step| PatientId::of(step).agrees(&patient_id));
        let uid = match order
            .uid(tags::STUDY_INSTANCE_UID)
            .ok()
            .or(step.and_then(|step| step.uid(tags::STUDY_INSTANCE_UID).ok()))
        {
            Some(uid) => uid,
            None => named(&["hl7-study", patient_id.id(), accession]),
        };
        study.put_uid(tags::STUDY_INSTANCE_UID, &uid);
        if let Some(referring) = order.get(tags::REFERRING_PHYSICIAN_NAME) {
            study.put(referring.clone());
        }
        study.add_from(&patient.with_values());
        Ok(study)
    }
}

/// What an instance says of its patient and study.
const STUDY: &[(Tag, VR)] = &[
    (tags::STUDY_DATE, VR::DA),
    (tags::STUDY_TIME, VR::TM),
    (tags::REFERRING_PHYSICIAN_NAME, VR::PN),
    (tags::STUDY_DESCRIPTION, VR::LO),
    (tags::PATIENT_NAME, VR::PN),
    (tags::PATIENT_ID, VR::LO),
    (tags::ISSUER_OF_PATIENT_ID, VR::LO),
    (tags::PATIENT_BIRTH_DATE, VR::DA),
    (tags::PATIENT_SEX, VR::CS),
    (tags::STUDY_INSTANCE_UID, VR::UI),
    (tags::STUDY_ID, VR::SH),
];

/// The documents of an order, and its text.
fn reports(group: &Message) -> Result<Vec<Report>, Fault> {
    let standing = Standing::of(group);
    let mut reports = Vec::new();
    let mut texts: Vec<(String, DataSet, String)> = Vec::new();
    for segment in group.segments().iter().filter(|segment| segment.name() == "OBX") {
        // Deleted, wrong, or without a result.
        if is_nothing(segment) {
            continue;
        }
        match segment.field(2) {
            "ED" => reports.push(document(group, segment, &standing)?),
            "HD" | "RP" => {}
            _ => {
                let (key, line) = (segment.field(3).to_owned(), text(group, segment));
                match texts.last_mut() {
                    // A text of several lines is sent as so many OBX.
                    Some((last, _, whole)) if *last == key => {
                        whole.push_str("\r\n");
                        whole.push_str(&line);
                    }
                    _ => texts.push((key, concept(group, segment), line)),
                }
            }
        }
    }
    let items: Vec<DataSet> = texts
        .into_iter()
        .filter(|(_, _, text)| !text.trim().is_empty())
        .map(|(_, concept, text)| {
            let mut item = DataSet::new();
            item.put_text(tags::RELATIONSHIP_TYPE, VR::CS, "CONTAINS");
            item.put_text(tags::VALUE_TYPE, VR::CS, "TEXT");
            item.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![concept]);
            item.put_text(tags::TEXT_VALUE, VR::UT, text);
            item
        })
        .collect();
    if !items.is_empty() {
        reports.push(structured(items, &standing));
    }
    Ok(reports)
}

/// Whether an OBX is deleted, wrong, or without a result.
fn is_nothing(segment: &Segment) -> bool {
    matches!(segment.field(11), "D" | "W" | "X" | "N") || segment.field(5).is_empty()
}

/// What stands behind a report, by OBR-25 and OBX-11 (HL7 tables 0123 and 0085).
struct Standing {
    /// All of it is final, or a correction of what was.
    is_final: bool,
    /// It is told not to be.
    is_preliminary: bool,
    /// Who verified it, where it is final and the message says who (OBR-32).
    observer: Option<DataSet>,
}

impl Standing {
    fn of(group: &Message) -> Self {
        let status = group.get("OBR-25").unwrap_or_default();
        let rows = group.segments().iter();
        let mut rows = rows.filter(|segment| segment.name() == "OBX" && !is_nothing(segment));
        let is_open = rows.any(|row| matches!(row.field(11), "I" | "P" | "R" | "S"));
        let is_final = matches!(status.as_str(), "F" | "C") && !is_open;
        Self {
            is_final,
            is_preliminary: is_open || !is_final && !status.is_empty(),
            observer: is_final.then(|| observer(group)).flatten(),
        }
    }

    fn put(&self, content: &mut DataSet, is_verified: bool) {
        let flag = if is_verified { "VERIFIED" } else { "UNVERIFIED" };
        content.put_text(tags::VERIFICATION_FLAG, VR::CS, flag);
    }
}

/// Who verified a report (PS3.3 table C.17-2), where all is said that must be: a name, an organization, and when.
fn observer(group: &Message) -> Option<DataSet> {
    let part = |number| {
        let raw = group.raw(&at("OBR-32"));
        let text = group.unescaped(group.part_of(raw, 1, number));
        text.replace(['^', '=', '\\'], " ").replace(char::is_control, " ")
    };
    let name = [2, 3, 4, 6, 5]
        .map(|number| part(number).trim().to_owned())
        .join("^");
    let name: String = name.chars().take(64).collect();
    let name = name.trim_end_matches(['^', ' ']);
    let organization = group.get("MSH-4").or_else(|| group.get("MSH-3"))?;
    let organization = organization.replace('\\', "/").replace(char::is_control, " ");
    let organization: String = organization.trim().chars().take(64).collect();
    let (date, time) = moment(group);
    if name.is_empty() || organization.is_empty() {
        return None;
    }
    let mut item = DataSet::new();
    item.put_text(tags::VERIFYING_ORGANIZATION, VR::LO, organization);
    item.put_text(tags::VERIFICATION_DATE_TIME, VR::DT, [date, time].concat());
    item.put_text(tags::VERIFYING_OBSERVER_NAME, VR::PN, name);
    item.put_items(tags::VERIFYING_OBSERVER_IDENTIFICATION_CODE_SEQUENCE, Vec::new());
    Some(item)
}

/// An OBX with a document (ED): the source, type, subtype, encoding and data.
fn document(group: &Message, segment: &Segment, standing: &Standing) -> Result<Report, Fault> {
    let bad = |why| Fault::error(Condition::DataType, why).at(at("OBX-5"));
    let raw = segment.field(5);
    let part = |number| group.component(raw, number);
    if !part(4).eq_ignore_ascii_case("Base64") {
        return Err(bad("a document comes in Base64"));
    }
    let document = base64::decode(&part(5)).ok_or_else(|| bad("the document is no Base64"))?;
    if !document.starts_with(b"%PDF-") {
        return Err(bad("the document is no PDF, and no other is taken here"));
    }
    let mut content = DataSet::new();
    let length = u32::try_from(document.len()).unwrap_or(u32::MAX);
    content.put_text(tags::DOCUMENT_TITLE, VR::ST, title(group));
    let heading = DataSet::code("18748-4", "LN", "Diagnostic imaging report");
    content.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![heading]);
    standing.put(&mut content, standing.is_final);
    content.put_text(tags::BURNED_IN_ANNOTATION, VR::CS, "YES");
    content.put_text(tags::CONVERSION_TYPE, VR::CS, "WSD");
    content.put_text(
        tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT,
        VR::LO,
        "application/pdf",
    );
    content.put_text(tags::ACQUISITION_DATE_TIME, VR::DT, "");
    let value = |vr, bytes: Bytes, tag| Element {
        tag,
        vr,
        value: Value::Bytes(bytes),
    };
    let length = Bytes::copy_from_slice(&length.to_le_bytes());
    content.put(value(VR::UL, length, tags::ENCAPSULATED_DOCUMENT_LENGTH));
    content.put(value(VR::OB, document.into(), tags::ENCAPSULATED_DOCUMENT));
    Ok(Report {
        class: Uid::constant(uids::ENCAPSULATED_PDF_STORAGE),
        modality: "DOC",
        content,
    })
}

/// A Basic Text SR with these content items.
fn structured(items: Vec<DataSet>, standing: &Standing) -> Report {
    let mut content = DataSet::new();
    content.put_text(tags::VALUE_TYPE, VR::CS, "CONTAINER");
    content.put_text(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE");
    let heading = DataSet::code("18748-4", "LN", "Diagnostic imaging report");
    content.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![heading]);
    content.put_text(
        tags::COMPLETION_FLAG,
        VR::CS,
        if standing.is_final { "COMPLETE" } else { "PARTIAL" },
    );
    if standing.is_final || standing.is_preliminary {
        let flag = if standing.is_final { "FINAL" } else { "PRELIMINARY" };
        content.put_text(tags::PRELIMINARY_FLAG, VR::CS, flag);
    }
    // Who verified it must be said then, and a message need not say it.
    standing.put(&mut content, standing.observer.is_some());
    if let Some(observer) = &standing.observer {
        content.put_items(tags::VERIFYING_OBSERVER_SEQUENCE, vec![observer.clone()]);
    }
    content.put_items(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE, Vec::new());
    // Of type 2 in a report, and none may be there without an item in a document.
    content.put_items(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, Vec::new());
    content.put_items(tags::CONTENT_SEQUENCE, items);
    Report {
        class: Uid::constant(uids::BASIC_TEXT_SR_STORAGE),
        modality: "SR",
        content,
    }
}

/// The instance of a report. Nothing in it is made up anew when the same message comes again.
fn instance(
    group: &Message,
    report: Report,
    study: &DataSet,
    order: &DataSet,
    identity: Identity,
    number: usize,
) -> (Uid, DataSet) {
    let study_uid = study.string(tags::STUDY_INSTANCE_UID).unwrap_or_default();
    let identity = format!("{:x}", identity.0);
    let mut set = report.content;
    set.put_text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
    set.put_uid(tags::SOP_CLASS_UID, &report.class);
    set.put_uid(
        tags::SOP_INSTANCE_UID,
        &named(&["hl7-report", &identity, &number.to_string()]),
    );
    set.put_uid(
        tags::SERIES_INSTANCE_UID,
        &named(&["hl7-series", study_uid, report.modality]),
    );
    set.put_text(tags::MODALITY, VR::CS, report.modality);
    set.put_text(
        tags::SERIES_NUMBER,
        VR::IS,
        if report.modality == "SR" { "901" } else { "902" },
    );
    set.put_text(tags::SERIES_DESCRIPTION, VR::LO, "Reports");
    set.put_text(tags::MANUFACTURER, VR::LO, "");
    set.put_text(tags::INSTANCE_NUMBER, VR::IS, (number + 1).to_string());
    let (date, time) = moment(group);
    set.put_text(tags::CONTENT_DATE, VR::DA, date);
    set.put_text(tags::CONTENT_TIME, VR::TM, time);
    let mut request = DataSet::new();
    for (tag, vr) in REQUEST {
        request.put_text(*tag, *vr, order.string(*tag).unwrap_or_default());
    }
    request.put_uid(tags::STUDY_INSTANCE_UID, &Uid::constant(study_uid));
    request.put_items(tags::REFERENCED_STUDY_SEQUENCE, Vec::new());
    let code = order.items(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE).to_vec();
    request.put_items(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE, code);
    set.put_items(tags::REFERENCED_REQUEST_SEQUENCE, vec![request]);
    set.add_from(study);
    for (tag, vr) in STUDY.iter().filter(|(tag, _)| TYPE_2.contains(tag)) {
        if !set.contains(*tag) {
            set.put_text(*tag, *vr, "");
        }
    }
    (report.class, set)
}

/// What may be empty and must be there.
const TYPE_2: [Tag; 8] = [
    tags::STUDY_DATE,
    tags::STUDY_TIME,
    tags::REFERRING_PHYSICIAN_NAME,
    tags::PATIENT_NAME,
    tags::PATIENT_ID,
    tags::PATIENT_BIRTH_DATE,
    tags::PATIENT_SEX,
    tags::STUDY_ID,
];

/// What an instance says of its order.
const REQUEST: &[(Tag, VR)] = &[
    (tags::ACCESSION_NUMBER, VR::SH),
    (tags::REQUESTED_PROCEDURE_ID, VR::SH),
    (tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO),
    (tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO),
    (tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO),
];

/// When the results were reported (OBR-22), observed (OBR-7), or sent.
fn moment(group: &Message) -> (String, String) {
    for path in ["OBR-22", "OBR-7", "MSH-7"] {
        let time = group.get(path).unwrap_or_default();
        let digits: String = time.chars().take_while(char::is_ascii_digit).collect();
        let (Some(date), Some(clock)) = (digits.get(..8), digits.get(8..digits.len().min(14))) else {
            continue;
        };
        let is_whole = matches!(clock.len(), 2 | 4 | 6);
        return (
            date.to_owned(),
            if is_whole {
                clock.to_owned()
            } else {
                "000000".to_owned()
            },
        );
    }
    ("19700101".to_owned(), "000000".to_owned())
}

/// What is reported: the service of the order.
fn title(group: &Message) -> String {
    let title = group.get("OBR-4.2").or_else(|| group.get("OBR-4.1"));
    let title = title.unwrap_or_else(|| "Report".to_owned());
    title.chars().filter(|c| !c.is_control()).take(1024).collect()
}

/// What an OBX says, as lines.
fn text(group: &Message, segment: &Segment) -> String {
    let field = segment.field(5);
    let mark = group.delimiters().repetition;
    let repetitions: Vec<&str> = match mark {
        Some(mark) => field.split(mark).collect(),
        None => vec![field],
    };
    let lines = repetitions.into_iter().map(|raw| match segment.field(2) {
        // A coded entry: what it is called.
        "CE" | "CWE" | "CNE" | "CF" => {
            let (code, meaning) = (group.component(raw, 1), group.component(raw, 2));
            if meaning.is_empty() { code } else { meaning }
        }
        "NM" => {
            let unit = group.component(segment.field(6), 1);
            format!("{} {unit}", group.component(raw, 1))
                .trim_end()
                .to_owned()
        }
        _ => group.unescaped(raw),
    });
    let whole = lines.collect::<Vec<_>>().join("\n");
    let kept = |c: &char| !c.is_control() || matches!(c, '\t' | '\n');
    whole
        .chars()
        .filter(kept)
        .collect::<String>()
        .replace('\n', "\r\n")
}

/// What an OBX is about: OBX-3 where it names a coding scheme, else "Finding".
fn concept(group: &Message, segment: &Segment) -> DataSet {
    let part = |number| {
        let text = group.component(segment.field(3), number);
        text.chars()
            .filter(|c| !c.is_control() && *c != '\\')
            .collect::<String>()
            .trim()
            .to_owned()
    };
    let (value, meaning, scheme) = (part(1), part(2), part(3));
    let fits = |text: &str, most| (1..=most).contains(&text.chars().count());
    match fits(&value, 16) && fits(&scheme, 16) && fits(&meaning, 64) {
        true => DataSet::code(&value, &scheme, &meaning),
        false => DataSet::code("121071", "DCM", "Finding"),
    }
}

/// The UID of what is made of a message: what is sent again gets the same one.
fn named(parts: &[&str]) -> Uid {
    Uid::named(parts.iter().map(|part| part.as_bytes()))
}
