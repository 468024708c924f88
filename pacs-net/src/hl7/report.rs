//! A report that is kept, as a message: [`oru`] (HL7 v2.5 7.3.1; IHE RAD TF-2 4.28).

use bytes::BytesMut;
use dicom_dictionary_std::{tags, uids};
use futures::TryStreamExt;
use pacs_core::dataset::{base64, scan};
use pacs_core::{DataSet, Error, ErrorKind, InstanceRecord, Pacs, Result, Retry, Tag};

use super::message::{MESSAGE_LENGTH_MAX_BYTES, Message, SEGMENTS_MAX, Segment};
use super::path::Path;
use super::time;

/// The longest document that a message carries, in bytes: in Base64 it takes four thirds of that.
pub const DOCUMENT_LENGTH_MAX_BYTES: usize = 11 * 1024 * 1024;

/// Who sends a message, and to whom: MSH-3 to MSH-6.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parties {
    /// Sending application.
    pub sending_application: String,
    /// Sending facility.
    pub sending_facility: String,
    /// Receiving application.
    pub receiving_application: String,
    /// Receiving facility.
    pub receiving_facility: String,
}

/// The result message (ORU^R01) of a report: a structured report whose Completion Flag (0040,A491) is COMPLETE, or an
/// encapsulated PDF. What is known to be UNVERIFIED or PRELIMINARY is sent as such (OBR-25 R and P), all else as final.
/// `report` is the whole instance; `order` has what its worklist item says of the order, where there is one.
///
/// TEXT, CODE and NUM items become an OBX each, in the order of the content tree, with their place in it as OBX-4; a PDF becomes
/// one OBX of type ED. MSH-10 is the same whenever the message is made of the same instance, so that a receiver can tell
/// that it gets it again.
///
/// # Errors
/// - `Unsupported` when the instance is no report, `Refused` when it is not complete.
/// - `Invalid`, with the tag, when what a report must have is missing.
/// - `OutOfResources`, to be tried never, when the message would be longer than [`MESSAGE_LENGTH_MAX_BYTES`].
pub fn oru(report: &DataSet, order: Option<&DataSet>, parties: &Parties) -> Result<Message> {
    let instance = report.uid(tags::SOP_INSTANCE_UID)?;
    let class = report.uid(tags::SOP_CLASS_UID)?;
    let study = report.uid(tags::STUDY_INSTANCE_UID)?;
    let is_document = class.as_str() == uids::ENCAPSULATED_PDF_STORAGE;
    if !is_document && report.string(tags::VALUE_TYPE) != Some("CONTAINER") {
        let why = "the instance is neither a structured report nor an encapsulated PDF";
        return Err(Error::new(ErrorKind::Unsupported, "hl7.report", why));
    }
    if !is_document && report.string(tags::COMPLETION_FLAG) != Some("COMPLETE") {
        let why = "the report is not complete";
        return Err(Error::new(ErrorKind::Refused, "hl7.report", why).with_tag(tags::COMPLETION_FLAG));
    }
    let id = format!("{:032X}", twox_hash::XxHash3_128::oneshot(instance.as_bytes()));
    let mut message = Message::new("ORU^R01^ORU_R01", &id[..20], &time::now());
    for (path, text) in [
        ("MSH-3", &parties.sending_application),
        ("MSH-4", &parties.sending_facility),
        ("MSH-5", &parties.receiving_application),
        ("MSH-6", &parties.receiving_facility),
    ] {
        message.set(&Path::parse(path)?, text)?;
    }
    let writer = Writer { report, order };
    message.push(writer.patient(&message)?);
    message.push(writer.common(&message));
    message.push(writer.request(&message));
    let mut rows = Rows::new(&mut message, status(report, false));
    rows.put("HD", "113014^DICOM Study^DCM", "", study.as_str(), "")?;
    rows.put("HD", "^SR Instance UID", "", instance.as_str(), "")?;
    if is_document {
        writer.document(&mut rows)?;
    } else {
        content(report, &mut rows)?;
    }
    Ok(message)
}

/// The same of an instance that is kept, as it leaves.
///
/// # Errors
/// As [`oru`]; what the archive says.
pub async fn oru_of(
    pacs: &Pacs,
    record: &InstanceRecord,
    order: Option<&DataSet>,
    parties: &Parties,
) -> Result<Message> {
    let mut pieces = pacs.outgoing_data_set(record);
    let mut bytes = BytesMut::new();
    while let Some(piece) = pieces.try_next().await? {
        if bytes.len() + piece.len() > MESSAGE_LENGTH_MAX_BYTES {
            return Err(too_long());
        }
        bytes.extend_from_slice(&piece);
    }
    let report = scan::parse(&bytes, &record.transfer_syntax)?;
    oru(&report, order, parties)
}

/// The status of all results (HL7 table 0123): preliminary, stored and not verified, corrected, final.
fn status(report: &DataSet, is_replacement: bool) -> &'static str {
    let (preliminary, verified) = (tags::PRELIMINARY_FLAG, tags::VERIFICATION_FLAG);
    match (report.string(preliminary), report.string(verified)) {
        (Some("PRELIMINARY"), _) => "P",
        (_, Some("UNVERIFIED")) => "R",
        _ if is_replacement => "C",
        _ => "F",
    }
}

fn too_long() -> Error {
    let why = "the report is longer than a message may be";
    Error::new(ErrorKind::OutOfResources, "hl7.report", why).with_retry(Retry::Never)
}

/// Writes what is known of patient and order.
struct Writer<'a> {
    report: &'a DataSet,
    order: Option<&'a DataSet>,
}

impl Writer<'_> {
    /// The value of an attribute: of the report, of the request that it fulfils, or of the order.
    fn get(&self, tag: Tag) -> &str {
        let request = self.report.items(tags::REFERENCED_REQUEST_SEQUENCE).first();
        let places = [Some(self.report), request, self.order];
        places
            .into_iter()
            .flatten()
            .find_map(|set| set.string(tag))
            .unwrap_or_default()
    }

    fn patient(&self, message: &Message) -> Result<Segment> {
        let id = self.report.string(tags::PATIENT_ID).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "hl7.report", "the report has no Patient ID")
                .with_tag(tags::PATIENT_ID)
        })?;
        let issuer = self.get(tags::ISSUER_OF_PATIENT_ID);
        let id = match issuer {
            "" => message.escape(id),
            issuer => format!("{}^^^{}", message.escape(id), message.escape(issuer)),
        };
        let names: Vec<String> = self
            .get(tags::PATIENT_NAME)
            .split('=')
            .zip(["A", "I", "P"])
            .filter(|(group, _)| !group.is_empty())
            .map(|(group, writing)| {
                let name = person(message, group, "^");
                // The alphabetic one alone needs not be told so.
                match writing {
                    "A" => name,
                    writing => format!("{name}{}L^{writing}", "^".repeat(6 - name.matches('^').count())),
                }
            })
            .collect();
        let (birth, sex) = (self.get(tags::PATIENT_BIRTH_DATE), self.get(tags::PATIENT_SEX));
        let fields = [
            "1",
            "",
            &id,
            "",
            &names.join("~"),
            "",
            &message.escape(birth),
            &message.escape(sex),
        ];
        Ok(Segment::of("PID", &fields))
    }

    /// ORC: results follow.
    fn common(&self, message: &Message) -> Segment {
        Segment::of("ORC", &["RE", &self.placer(message), &self.filler(message)])
    }

    fn placer(&self, message: &Message) -> String {
        message.escape(self.get(tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST))
    }

    fn filler(&self, message: &Message) -> String {
        let filler = self.get(tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST);
        message.escape(if filler.is_empty() {
            self.get(tags::ACCESSION_NUMBER)
        } else {
            filler
        })
    }

    fn request(&self, message: &Message) -> Segment {
        let request = self.report.items(tags::REFERENCED_REQUEST_SEQUENCE).first();
        let code = |set: &DataSet| {
            set.items(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE)
                .first()
                .cloned()
        };
        let service = request.and_then(code).or_else(|| self.order.and_then(code));
        let service = match service {
            Some(service) => coded(message, &service),
            None => match self.get(tags::REQUESTED_PROCEDURE_DESCRIPTION) {
                "" => "18748-4^Diagnostic imaging report^LN".to_owned(),
                description => format!("^{}", message.escape(description)),
            },
        };
        let moment = |date, time| message.escape(&[self.get(date), self.get(time)].concat());
        let replaced = !self.report.items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE).is_empty();
        let physician = match self.get(tags::REQUESTING_PHYSICIAN) {
            "" => self.get(tags::REFERRING_PHYSICIAN_NAME),
            requesting => requesting,
        };
        let physician = person(message, alphabetic(physician), "^");
        let verifying = self.report.items(tags::VERIFYING_OBSERVER_SEQUENCE).last();
        let interpreter = verifying.and_then(|observer| observer.string(tags::VERIFYING_OBSERVER_NAME));
        let interpreter = person(message, alphabetic(interpreter.unwrap_or_default()), "&");
        let behind_id = |name: String, mark: &str| {
            if name.is_empty() {
                name
            } else {
                format!("{mark}{name}")
            }
        };
        let mut fields = vec![String::new(); 32];
        for (number, text) in [
            (1, "1".to_owned()),
            (2, self.placer(message)),
            (3, self.filler(message)),
            (4, service),
            (7, moment(tags::STUDY_DATE, tags::STUDY_TIME)),
            (16, behind_id(physician, "^")),
            (18, message.escape(self.get(tags::ACCESSION_NUMBER))),
            (19, message.escape(self.get(tags::REQUESTED_PROCEDURE_ID))),
            (22, moment(tags::CONTENT_DATE, tags::CONTENT_TIME)),
            (24, "RAD".to_owned()),
            (25, status(self.report, replaced).to_owned()),
            (32, behind_id(interpreter, "&")),
        ] {
            fields[number - 1] = text;
        }
        Segment::of("OBR", &fields)
    }

    fn document(&self, rows: &mut Rows<'_>) -> Result<()> {
        let document = self.report.get(tags::ENCAPSULATED_DOCUMENT);
        let Some(document) = document.filter(|document| !document.is_empty()) else {
            let why = "the document is missing";
            return Err(
                Error::new(ErrorKind::Invalid, "hl7.report", why).with_tag(tags::ENCAPSULATED_DOCUMENT)
            );
        };
        let mut bytes = document.bytes();
        // It may have been padded to an even length.
        if let Some(length) = self.report.get(tags::ENCAPSULATED_DOCUMENT_LENGTH)
            && let Some(length) = length.bytes().first_chunk()
        {
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            bytes = bytes.get(..length).unwrap_or(bytes);
        }
        if bytes.len() > DOCUMENT_LENGTH_MAX_BYTES {
            return Err(too_long());
        }
        let mut data = Vec::new();
        base64::encode(bytes, &mut data);
        // Base64 is ASCII.
        let data = String::from_utf8(data).unwrap_or_default();
        let concept = match self.report.items(tags::CONCEPT_NAME_CODE_SEQUENCE).first() {
            Some(concept) => coded(rows.message, concept),
            None => "18748-4^Diagnostic imaging report^LN".to_owned(),
        };
        rows.put("ED", &concept, "", &format!("^application^pdf^Base64^{data}"), "")
    }
}

/// Writes OBX after OBX, within the length of a message.
struct Rows<'a> {
    message: &'a mut Message,
    count: usize,
    length: usize,
    /// OBX-11 (HL7 table 0085), whose letters are the same here.
    status: &'static str,
}

impl<'a> Rows<'a> {
    fn new(message: &'a mut Message, status: &'static str) -> Self {
        let length = message
            .segments()
            .iter()
            .map(|segment| segment.text().len() + 1)
            .sum();
        Self {
            message,
            count: 0,
            length,
            status,
        }
    }

    fn put(&mut self, kind: &str, concept: &str, place: &str, value: &str, unit: &str) -> Result<()> {
        self.count += 1;
        let number = self.count.to_string();
        let row = Segment::of(
            "OBX",
            &[
                &number,
                kind,
                concept,
                place,
                value,
                unit,
                "",
                "",
                "",
                "",
                self.status,
            ],
        );
        self.length += row.text().len() + 1;
        if self.length > MESSAGE_LENGTH_MAX_BYTES || self.message.segments().len() >= SEGMENTS_MAX {
            return Err(too_long());
        }
        self.message.push(row);
        Ok(())
    }
}

/// The content tree, each item after those before it and before those within it. It is as deep as a data set may be.
fn content(report: &DataSet, rows: &mut Rows<'_>) -> Result<()> {
    let mut found = 0;
    let mut stack = Vec::new();
    push(report, "", &mut stack);
    while let Some((item, place)) = stack.pop() {
        found += usize::from(row(item, &place, rows)?);
        push(item, &place, &mut stack);
    }
    match found {
        0 => {
            let why = "the report has no content that a message can say";
            Err(Error::new(ErrorKind::Invalid, "hl7.report", why).with_tag(tags::CONTENT_SEQUENCE))
        }
        _ => Ok(()),
    }
}

/// The items within `of`, the first on top.
fn push<'a>(of: &'a DataSet, place: &str, stack: &mut Vec<(&'a DataSet, String)>) {
    for (at, item) in of.items(tags::CONTENT_SEQUENCE).iter().enumerate().rev() {
        let place = match place {
            "" => (at + 1).to_string(),
            place => format!("{place}.{}", at + 1),
        };
        stack.push((item, place));
    }
}

/// Writes one item; answers whether it is one that a message can say.
fn row(item: &DataSet, place: &str, rows: &mut Rows<'_>) -> Result<bool> {
    let concept = item.items(tags::CONCEPT_NAME_CODE_SEQUENCE).first();
    let concept = concept.map_or(String::new(), |concept| coded(rows.message, concept));
    match item.string(tags::VALUE_TYPE) {
        Some("TEXT") => {
            let text = item
                .string(tags::TEXT_VALUE)
                .unwrap_or_default()
                .replace("\r\n", "\n");
            let text = rows.message.escape(&text.replace('\r', "\n"));
            rows.put("FT", &concept, place, &text, "")?;
        }
        Some("CODE") => {
            let code = item.items(tags::CONCEPT_CODE_SEQUENCE).first();
            let code = code.map_or(String::new(), |code| coded(rows.message, code));
            rows.put("CWE", &concept, place, &code, "")?;
        }
        Some("NUM") => {
            // Without a value it was not measured.
            let Some(value) = item.items(tags::MEASURED_VALUE_SEQUENCE).first() else {
                return Ok(false);
            };
            let number = rows
                .message
                .escape(value.string(tags::NUMERIC_VALUE).unwrap_or_default());
            let unit = value.items(tags::MEASUREMENT_UNITS_CODE_SEQUENCE).first();
            let unit = unit.map_or(String::new(), |unit| coded(rows.message, unit));
            rows.put("NM", &concept, place, &number, &unit)?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// A code as CWE.
fn coded(message: &Message, code: &DataSet) -> String {
    let get = |tag| message.escape(code.string(tag).unwrap_or_default());
    let value = [tags::CODE_VALUE, tags::LONG_CODE_VALUE, tags::URN_CODE_VALUE];
    let value = value
        .into_iter()
        .find_map(|tag| code.string(tag))
        .unwrap_or_default();
    [
        message.escape(value),
        get(tags::CODE_MEANING),
        get(tags::CODING_SCHEME_DESIGNATOR),
    ]
    .join("^")
}

/// A component group of PN as XPN, or as the parts of an XCN or NDL behind the identifier: family, given, middle, suffix,
/// prefix.
fn person(message: &Message, group: &str, mark: &str) -> String {
    let part = |at| message.escape(group.split('^').nth(at).unwrap_or_default().trim());
    let parts = [part(0), part(1), part(2), part(4), part(3)];
    parts.join(mark).trim_end_matches(mark).to_owned()
}

fn alphabetic(name: &str) -> &str {
    name.split('=').next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
