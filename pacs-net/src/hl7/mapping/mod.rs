//! Which attribute is had from which field, as data: [`Mapping`].
//!
//! The default follows IHE Radiology (RAD TF-2x appendix B). A configuration puts its own rules in place of those of
//! the same attribute, or, with `defaults = false`, of all:
//!
//! ```
//! # use pacs_net::hl7::mapping::Mapping;
//! let mapping: Mapping = toml::from_str(r#"
//!     [patient]
//!     PatientID = "PID-3[2] id or PID-2 id"
//!
//!     [order]
//!     AccessionNumber = "OBR-3 id"
//!     "ScheduledProcedureStepSequence.ScheduledStationAETitle" = "OBR-21 or 'CT_1'"
//!     ReferringPhysicianName = ""
//! "#).unwrap();
//! ```
//!
//! On the left stands an attribute, by its keyword or in eight hexadecimal digits, within a sequence behind it and a dot. On
//! the right stands where its value comes from, the first that has one: a [`Path`] and how it is read, or text
//! between quotation marks. An empty text takes the attribute out.
//!
//! | how | what is read | for |
//! | --- | --- | --- |
//! | `text` | text, shortened to what the attribute may have; capital letters for CS | the default for most attributes |
//! | `id` | an identifier, which is never shortened: the message is refused | |
//! | `issuer` | the assigning authority of an identifier (CX): its name, else its universal ID | |
//! | `name` | the name of a person (XPN), with its ideographic and phonetic form | the default for PN |
//! | `person` | the name of a person who has an identifier before it (XCN) | |
//! | `date` | the date of a point in time; nothing where the day is not said | the default for DA |
//! | `time` | its time | the default for TM |
//! | `datetime` | both | the default for DT |
//! | `sex` | M, F and O; A and N are O; others say nothing | |
//! | `code` | a coded entry (CE, CWE): an item of a code sequence | the default for SQ |
//! | `priority` | S, A, R and the like: STAT, HIGH, ROUTINE, MEDIUM or LOW | |
//!
//! A path that ends at a component goes on from there: `OBR-4.4 code` is the alternate code, `OBR-34.1 person` has the
//! parts of the name as subcomponents.

mod default;
mod read;
mod transform;

use pacs_core::dataset::{Element, Value};
use pacs_core::{DataSet, Tag, VR};

use super::ack::Fault;
use super::message::Message;
use super::path::Path;
use transform::{Said, Transform};

/// Where attributes come from, for each kind of message.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// Of a patient (ADT), and of the patient of an order or a report.
    pub patient: Table,
    /// Of an order: requested procedure, order, visit and scheduled procedure step, as the Modality Worklist has them (PS3.4
    /// table K.6-1). What is said of the patient comes besides.
    pub order: Table,
}

/// Where the attributes of one data set come from.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rules: Vec<Rule>,
}

/// Where one attribute comes from.
#[derive(Clone, Debug)]
struct Rule {
    /// The attribute, with the sequences that it is in.
    attribute: Vec<Tag>,
    vr: VR,
    /// The first that has a value counts.
    origins: Vec<Origin>,
}

#[derive(Clone, Debug)]
enum Origin {
    Field(Path, Transform),
    Text(String),
}

impl Table {
    /// The attributes that a message says. What it says nothing of is not there; what it has two quotation marks for (HL7 v2.5
    /// 2.5.3) is there without a value.
    ///
    /// # Errors
    /// A value that the attribute can't have, with its place.
    pub fn apply(&self, message: &Message) -> Result<DataSet, Fault> {
        let mut set = DataSet::new();
        for rule in &self.rules {
            for origin in &rule.origins {
                let said = match origin {
                    Origin::Text(text) => Said::Text(text.clone()),
                    Origin::Field(path, transform) => transform.read(message, path, rule.vr)?,
                };
                if let Some(value) = value(said) {
                    put(&mut set, &rule.attribute, rule.vr, value);
                    break;
                }
            }
        }
        Ok(set)
    }

    /// The attributes of the top level that there are rules for, or for something within.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (Tag, VR)> {
        self.rules.iter().filter_map(|rule| {
            let vr = if rule.attribute.len() > 1 { VR::SQ } else { rule.vr };
            Some((*rule.attribute.first()?, vr))
        })
    }

    /// Puts a rule in place of one of the same attribute.
    fn put(&mut self, rule: Rule) {
        self.rules.retain(|other| other.attribute != rule.attribute);
        if !rule.origins.is_empty() {
            self.rules.push(rule);
        }
    }
}

fn value(said: Said) -> Option<Value> {
    Some(match said {
        Said::Nothing => return None,
        Said::Empty => Value::Bytes(bytes::Bytes::new()),
        Said::Text(text) => Value::Bytes(text.into()),
        Said::Item(item) => Value::Items(vec![item]),
    })
}

/// Puts a value at the end of a path.
fn put(set: &mut DataSet, path: &[Tag], vr: VR, value: Value) {
    let [tag, rest @ ..] = path else { return };
    if rest.is_empty() {
        let value = match value {
            Value::Bytes(_) if vr == VR::SQ => Value::Items(Vec::new()),
            value => value,
        };
        return set.put(Element { tag: *tag, vr, value });
    }
    let mut item = match set.remove(*tag).map(|element| element.value) {
        Some(Value::Items(items)) => items.into_iter().next().unwrap_or_default(),
        _ => DataSet::new(),
    };
    put(&mut item, rest, vr, value);
    set.put_items(*tag, vec![item]);
}

#[cfg(test)]
mod tests {
    use dicom_dictionary_std::tags;

    use super::*;

    const ORDER: &str = "MSH|^~\\&|RIS|HOSP|PACS|RAD|20240229101530||ORM^O01^ORM_O01|42|P|2.5\r\
        PID|1||4711^^^HOSP&1.2.3&ISO^PI||Doe^Jane^M^Jr.^Dr.^PhD^L^A~山田^花子^^^^^L^I~やまだ^はなこ^^^^^L^P||19700131|F\r\
        PV1|1|I|WARD^3^1|||||8^Refer^Ralph^^^Prof.\r\
        ORC|NW|P1^RIS|F1^RIS||||^^^20240301083000^^S||20240229||9^Enter^Eve||7^Order^Olga\r\
        OBR|1|P1^RIS|F1^RIS|CTHEAD^CT of the head^L^70450^CT head w/o^C4|||||||||Diabetes|||7^Order^Olga||ACC1|RP1|SPS1||||CT|||^^^20240301083000^^S||||^Headache|||&Tech&Tim\r\
        ZDS|1.2.840.1^PACS^Application^DICOM\r";

    fn apply(table: &Table, text: &str) -> DataSet {
        table.apply(&Message::parse(text.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn an_order_becomes_an_item_of_a_worklist() {
        let mapping = Mapping::default();
        let patient = apply(&mapping.patient, ORDER);
        for (tag, text) in [
            (tags::PATIENT_ID, "4711"),
            (tags::ISSUER_OF_PATIENT_ID, "HOSP"),
            (
                tags::PATIENT_NAME,
                "Doe^Jane^M^Dr.^Jr. PhD=山田^花子=やまだ^はなこ",
            ),
            (tags::PATIENT_BIRTH_DATE, "19700131"),
            (tags::PATIENT_SEX, "F"),
        ] {
            assert_eq!(patient.string(tag), Some(text), "{tag}");
        }
        let order = apply(&mapping.order, ORDER);
        for (tag, text) in [
            (tags::ACCESSION_NUMBER, "ACC1"),
            (tags::REQUESTED_PROCEDURE_ID, "RP1"),
            (tags::REQUESTED_PROCEDURE_DESCRIPTION, "CT of the head"),
            (tags::REQUESTED_PROCEDURE_PRIORITY, "STAT"),
            (tags::STUDY_INSTANCE_UID, "1.2.840.1"),
            (tags::REFERRING_PHYSICIAN_NAME, "Refer^Ralph^^Prof."),
            (tags::REQUESTING_PHYSICIAN, "Order^Olga"),
            (tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, "P1"),
            (tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, "F1"),
            (tags::REASON_FOR_THE_REQUESTED_PROCEDURE, "Headache"),
            (tags::CURRENT_PATIENT_LOCATION, "WARD"),
            (tags::ADDITIONAL_PATIENT_HISTORY, "Diabetes"),
        ] {
            assert_eq!(order.string(tag), Some(text), "{tag}");
        }
        let [code] = order.items(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE) else {
            panic!()
        };
        assert_eq!(code.string(tags::CODE_VALUE), Some("CTHEAD"));
        let [step] = order.items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE) else {
            panic!()
        };
        for (tag, text) in [
            (tags::MODALITY, "CT"),
            (tags::SCHEDULED_PROCEDURE_STEP_ID, "SPS1"),
            (tags::SCHEDULED_PROCEDURE_STEP_START_DATE, "20240301"),
            (tags::SCHEDULED_PROCEDURE_STEP_START_TIME, "083000"),
            (tags::SCHEDULED_PERFORMING_PHYSICIAN_NAME, "Tech^Tim"),
            (tags::SCHEDULED_PROCEDURE_STEP_DESCRIPTION, "CT head w/o"),
        ] {
            assert_eq!(step.string(tag), Some(text), "{tag}");
        }
        let [protocol] = step.items(tags::SCHEDULED_PROTOCOL_CODE_SEQUENCE) else {
            panic!()
        };
        assert_eq!(protocol.string(tags::CODING_SCHEME_DESIGNATOR), Some("C4"));
    }

    #[test]
    fn a_configuration_changes_rules_and_may_begin_anew() {
        let mapping: Mapping = toml::from_str(
            r#"
            [patient]
            PatientID = "PID-99 id or PID-3[2] id"
            PatientSex = ""
            "OtherPatientIDsSequence.PatientID" = "PID-3 id"
            [order]
            "ScheduledProcedureStepSequence.ScheduledStationAETitle" = "OBR-21 or 'CT 1'"
            00081030 = "OBR-4.2"
            "#,
        )
        .unwrap();
        let text = ORDER.replace("PI||Doe", "PI~0815||Doe");
        let patient = apply(&mapping.patient, &text);
        assert_eq!(patient.string(tags::PATIENT_ID), Some("0815"));
        assert!(!patient.contains(tags::PATIENT_SEX));
        assert!(patient.contains(tags::PATIENT_NAME));
        let other = &patient.items(tags::OTHER_PATIENT_I_DS_SEQUENCE)[0];
        assert_eq!(other.string(tags::PATIENT_ID), Some("4711"));
        let order = apply(&mapping.order, &text);
        assert_eq!(order.string(tags::STUDY_DESCRIPTION), Some("CT of the head"));
        let step = &order.items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE)[0];
        assert_eq!(step.string(tags::SCHEDULED_STATION_AE_TITLE), Some("CT 1"));
        assert_eq!(step.string(tags::MODALITY), Some("CT"));
        let mapping: Mapping =
            toml::from_str("defaults = false\n[patient]\nPatientID = \"PID-3 id\"").unwrap();
        assert_eq!(apply(&mapping.patient, &text).len(), 1);
        assert!(apply(&mapping.order, &text).is_empty());
    }

    #[test]
    fn a_mistake_in_a_configuration_is_told_with_what_is_meant() {
        for (text, said) in [
            ("[patient]\nPatientNam = \"PID-5\"", "PatientNam is no attribute"),
            (
                "[patient]\nPatientName = \"PID5\"",
                "PatientName: \"PID5\" is not a path into an HL7 message",
            ),
            (
                "[patient]\nPatientName = \"PID-5 nam\"",
                "PatientName: \"nam\" is not one of text, id,",
            ),
            (
                "[patient]\nPatientName = \"PID-5 name PID-6\"",
                "PatientName: \"PID-6\" stands where \"or\" is expected",
            ),
            (
                "[patient]\nPatientName = \"PID-5 or\"",
                "PatientName: nothing stands behind \"or\"",
            ),
            (
                "[patient]\nPatientName = \"'Doe\"",
                "PatientName: a quotation mark is missing",
            ),
            (
                "[patient]\nPatientName = \"PID-5 code\"",
                "PatientName: code makes an item of a sequence",
            ),
            (
                "[order]\nRequestedProcedureCodeSequence = \"OBR-4 text\"",
                "is a sequence: only code",
            ),
            (
                "[order]\n\"PatientName.Modality\" = \"OBR-24\"",
                "PatientName is no sequence",
            ),
            ("[order]\nRows = \"OBR-24\"", "Rows: a number in binary"),
            ("[orders]\n", "unknown field `orders`"),
        ] {
            let error = toml::from_str::<Mapping>(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
