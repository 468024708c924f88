//! The instances that are asked about: always the same ones.
//!
//! One patient has many studies, one study many series, one series many instances, so that there is
//! something to tell apart at every level where the unique keys above are given.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use pacs_core::archive::{Locator, Sequence, Timestamp};
use pacs_core::index::{Change, InstanceRecord};
use pacs_core::query::AttributeSet;
use pacs_core::testkit::reference::Reference;
use pacs_core::{DataSet, InstanceKey, Uid};
use serde_json::{Value, json};

use crate::clients;

/// The patient, study and series with the most below them.
pub(crate) const PATIENT: &str = "P-00";
pub(crate) const STUDY: &str = "2.25.7000";
pub(crate) const SERIES: &str = "2.25.7000.0";

/// Name and Specific Character Set of each patient. All below a patient is written in that set.
const PATIENTS: [(&str, &str); 13] = [
    ("Müller^Jürgen", "ISO_IR 192"),
    ("MULLER^JURGEN", ""),
    ("Sørensen^Åse^^Dr", "ISO_IR 100"),
    ("Yamada^Tarou=山田^太郎=やまだ^たろう", "\\ISO 2022 IR 87"),
    ("Hong^Gildong=洪^吉洞=홍^길동", "\\ISO 2022 IR 149"),
    ("Wang^XiaoDong=王^小东", "GB18030"),
    ("Люксембург^Роза", "ISO_IR 144"),
    ("Παπαδόπουλος^Γιώργος", "ISO_IR 126"),
    (
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        "ISO 2022 IR 13\\ISO 2022 IR 87",
    ),
    ("Doe^Jane", ""),
    ("doe^jane^q", ""),
    ("Do^J", ""),
    ("", ""),
];
const PHYSICIANS: [&str; 5] = ["Grey^Meredith", "GREY^ZOLA", "Shepherd^Derek^^Dr", "", "grey"];
const DATES: [&str; 6] = ["19991231", "20230105", "20230131", "20240229", "", "20240301"];
const TIMES: [&str; 7] = ["000000", "0959", "100000.5", "10", "235959.999999", "", "183000"];
const DATE_TIMES: [&str; 5] = [
    "20230105100000+0100",
    "20230105100000.25",
    "20230105",
    "",
    "20240229235959",
];
const DESCRIPTIONS: [&str; 6] = ["CHEST PA", "Chest pa", "HEAD+NECK", "A", "", "CHEST"];
const KINDS: [(&str, &str); 4] = [
    ("CT", uids::CT_IMAGE_STORAGE),
    ("MR", uids::MR_IMAGE_STORAGE),
    ("SR", uids::BASIC_TEXT_SR_STORAGE),
    ("CT", uids::SECONDARY_CAPTURE_IMAGE_STORAGE),
];

/// An instance before it is encoded.
pub(crate) struct Instance {
    /// Specific Character Set.
    charset: &'static str,
    /// Its data set, text as UTF-8.
    header: DataSet,
}

/// All of them.
pub(crate) fn instances() -> Vec<Instance> {
    let mut out = Vec::new();
    for patient in 0..PATIENTS.len() {
        let studies = if patient == 0 { 7 } else { 1 + patient % 2 };
        for study in 0..studies {
            let rich = patient == 0 && study == 0;
            for series in 0..if rich { 7 } else { 1 + (patient + study) % 2 } {
                let rich = rich && series == 0;
                for instance in 0..if rich { 11 } else { 1 + (study + series) % 2 } {
                    out.push(Instance::new(patient, study, series, instance));
                }
            }
        }
    }
    out
}

/// One of `list`, another one for each number.
fn pick<T: Copy>(list: &[T], number: usize) -> T {
    list[number % list.len()]
}

fn code(value: &str, meaning: &str) -> DataSet {
    let mut item = DataSet::new();
    item.put_text(tags::CODE_VALUE, VR::SH, value);
    item.put_text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, "99TEST");
    item.put_text(tags::CODE_MEANING, VR::LO, meaning);
    item
}

impl Instance {
    fn new(patient: usize, study: usize, series: usize, instance: usize) -> Self {
        let (name, charset) = PATIENTS[patient];
        let mut header = DataSet::new();
        let mut put = |tag: Tag, vr: VR, text: &str| header.put_text(tag, vr, text);

        let id = format!("P-{patient:02}");
        put(tags::PATIENT_ID, VR::LO, &id);
        put(tags::PATIENT_NAME, VR::PN, name);
        put(tags::PATIENT_BIRTH_DATE, VR::DA, pick(&DATES, patient));
        put(tags::PATIENT_BIRTH_TIME, VR::TM, pick(&TIMES, patient));
        put(tags::PATIENT_SEX, VR::CS, pick(&["M", "F", "O", ""], patient));
        put(
            tags::PATIENT_COMMENTS,
            VR::LT,
            pick(&["Fasting", "fasting since 8\\9", ""], patient),
        );
        put(
            tags::OTHER_PATIENT_NAMES,
            VR::PN,
            pick(&["Grey^M\\Green^N", "Green^N", ""], patient),
        );

        // Numbers that no two studies share.
        let number = patient * 10 + study;
        let study_uid = format!("2.25.{}", 7000 + number);
        put(tags::STUDY_INSTANCE_UID, VR::UI, &study_uid);
        put(tags::STUDY_DATE, VR::DA, pick(&DATES, number));
        put(tags::STUDY_TIME, VR::TM, pick(&TIMES, number));
        put(tags::ACCESSION_NUMBER, VR::SH, &format!("A{}", number % 5));
        put(tags::STUDY_ID, VR::SH, &format!("S{}", number % 4));
        put(tags::STUDY_DESCRIPTION, VR::LO, pick(&DESCRIPTIONS, number));
        put(tags::REFERRING_PHYSICIAN_NAME, VR::PN, pick(&PHYSICIANS, number));
        put(
            tags::NAME_OF_PHYSICIANS_READING_STUDY,
            VR::PN,
            pick(&["Bailey^Miranda\\Grey^Zola", "Bailey^Miranda", ""], number),
        );

        let number = number * 10 + series;
        let series_uid = format!("{study_uid}.{series}");
        put(tags::SERIES_INSTANCE_UID, VR::UI, &series_uid);
        let (modality, sop_class) = pick(&KINDS, patient + study + series);
        put(tags::MODALITY, VR::CS, modality);
        put(
            tags::SERIES_NUMBER,
            VR::IS,
            pick(&["1", "+1", "01 ", "2", ""], number),
        );
        put(tags::SERIES_DATE, VR::DA, pick(&DATES, number + 1));
        put(tags::SERIES_TIME, VR::TM, pick(&TIMES, number + 1));
        put(tags::SERIES_DESCRIPTION, VR::LO, pick(&DESCRIPTIONS, number + 2));
        put(
            tags::PERFORMED_PROCEDURE_STEP_START_DATE,
            VR::DA,
            pick(&DATES, number + 2),
        );
        put(
            tags::PERFORMED_PROCEDURE_STEP_START_TIME,
            VR::TM,
            pick(&TIMES, number + 2),
        );
        put(
            tags::OPERATORS_NAME,
            VR::PN,
            pick(&["Karev^Alex\\Grey^Lexie", "GREY^Lexie", "", "Grey"], number),
        );

        let number = number * 20 + instance;
        let uid = format!("{series_uid}.{instance}");
        put(tags::SOP_CLASS_UID, VR::UI, sop_class);
        put(tags::SOP_INSTANCE_UID, VR::UI, &uid);
        put(tags::INSTANCE_NUMBER, VR::IS, &(instance + 1).to_string());
        put(
            tags::IMAGE_TYPE,
            VR::CS,
            pick(&["ORIGINAL\\PRIMARY\\AXIAL", "DERIVED\\SECONDARY", ""], number),
        );
        put(tags::CONTENT_DATE, VR::DA, pick(&DATES, number + 3));
        put(tags::CONTENT_TIME, VR::TM, pick(&TIMES, number + 3));
        put(tags::ACQUISITION_DATE_TIME, VR::DT, pick(&DATE_TIMES, number));
        put(
            tags::SLICE_LOCATION,
            VR::DS,
            pick(&["1.50", "-2", "15e-1", "1.5 ", ""], number),
        );
        put(tags::CONTENT_CREATOR_NAME, VR::PN, pick(&PHYSICIANS, number + 1));
        put(tags::IMAGE_COMMENTS, VR::LT, pick(&DESCRIPTIONS, number + 1));
        header.put_u16(tags::ROWS, pick(&[128, 512], number));
        Self {
            charset,
            header: with_sequences(header, patient, study, series, instance),
        }
    }

    fn record(&self) -> InstanceRecord {
        let uid = |tag| self.header.uid(tag).expect("every instance has its UIDs");
        InstanceRecord {
            key: InstanceKey {
                study: uid(tags::STUDY_INSTANCE_UID),
                series: uid(tags::SERIES_INSTANCE_UID),
                instance: uid(tags::SOP_INSTANCE_UID),
            },
            sop_class: uid(tags::SOP_CLASS_UID),
            transfer_syntax: Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN),
            locator: Locator::new(&[]),
            length: 0,
            data_set_offset: 0,
            sequence: Sequence(0),
            received: Timestamp(0),
            attributes: AttributeSet::default().extract(&self.header),
            coerced: None,
            superseded: Vec::new(),
        }
    }
}

fn with_sequences(
    mut header: DataSet,
    patient: usize,
    study: usize,
    series: usize,
    instance: usize,
) -> DataSet {
    let mut other = DataSet::new();
    other.put_text(tags::PATIENT_ID, VR::LO, format!("X{}", patient % 3));
    other.put_text(
        tags::ISSUER_OF_PATIENT_ID,
        VR::LO,
        pick(&["HERE", "THERE"], patient),
    );
    header.put_items(
        tags::OTHER_PATIENT_I_DS_SEQUENCE,
        vec![other; usize::from(patient % 4 != 3)],
    );
    let procedures = [
        code("C1", "Chest"),
        code("C2", "Chest and more"),
        code("H1", "Head"),
    ];
    header.put_items(
        tags::PROCEDURE_CODE_SEQUENCE,
        procedures[(patient + study) % 4 % 3..].to_vec(),
    );
    let requests = (0..(study + series) % 3).map(|at| {
        let mut item = DataSet::new();
        let number = series + at;
        item.put_text(
            tags::SCHEDULED_PROCEDURE_STEP_ID,
            VR::SH,
            format!("S{}", number % 3),
        );
        item.put_text(
            tags::REQUESTED_PROCEDURE_ID,
            VR::SH,
            pick(&["R0", "R1", ""], number / 2),
        );
        item
    });
    header.put_items(tags::REQUEST_ATTRIBUTES_SEQUENCE, requests.collect());
    let titles = [code("T1", "Report"), code("T2", "Report, amended")];
    header.put_items(
        tags::CONCEPT_NAME_CODE_SEQUENCE,
        titles[instance % 3 % 2..][..1].to_vec(),
    );
    header
}

/// What must be answered, by who knows them all.
pub(crate) fn reference(instances: &[Instance]) -> Reference {
    let mut reference = Reference::default();
    for instance in instances {
        reference.apply(&Change::Store(Box::new(instance.record())));
    }
    reference
}

/// The instances as tests/python/query_matrix.py writes them into files.
pub(crate) fn described(instances: &[Instance]) -> Value {
    let described = |instance: &Instance| json!({"charset": instance.charset, "elements": clients::described(&instance.header)});
    instances.iter().map(described).collect()
}
