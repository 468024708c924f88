//! Made-up studies: every attribute of an instance follows from its number.
//!
//! 100 instances to a study in 4 series, from 40 devices whose UIDs share long prefixes, 8 studies arriving
//! at a time, 27 studies a day, 2.5 studies a patient, 64,000 family names.

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::{DataSet, Result, Uid};

use crate::scatter;

/// Instances of one study.
pub(crate) const INSTANCES_PER_STUDY: u64 = 100;
const SERIES_PER_STUDY: u64 = 4;
const STUDIES_AT_A_TIME: u64 = 8;
const STUDIES_PER_DAY: u64 = 27;

const SYLLABLES: [&str; 40] = [
    "AN", "BER", "CAR", "DEN", "EL", "FOR", "GAR", "HAL", "IS", "JO", "KAR", "LIN", "MAR", "NOR", "OS",
    "PET", "QUI", "ROS", "SAN", "TOR", "UL", "VAN", "WIL", "XA", "YOR", "ZEL", "BAU", "CLA", "DOR", "ERN",
    "FEL", "GRU", "HOF", "KLE", "LAN", "MUL", "NEU", "RICH", "SCH", "TRA",
];
const GIVEN: [&str; 20] = [
    "JOHN", "MARY", "ANNA", "PETER", "LUIS", "CHEN", "FATIMA", "OLGA", "RAVI", "JOSÉ", "EMMA", "NOAH", "MIA",
    "LIAM", "SOFIA", "HANS", "YUKI", "AHMED", "INGRID", "PAULO",
];
const MODALITIES: [(&str, &str); 4] = [
    ("CT", uids::CT_IMAGE_STORAGE),
    ("MR", uids::MR_IMAGE_STORAGE),
    ("US", uids::ULTRASOUND_IMAGE_STORAGE),
    ("CR", uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE),
];

fn pick<'t>(of: u64, list: &[&'t str]) -> &'t str {
    list[(scatter(of) % list.len() as u64) as usize]
}

/// The day so many days after 2015-01-01, with months of 28 days.
fn day(number: u64) -> String {
    let (year, rest) = (number / 336, number % 336);
    format!("{:04}{:02}{:02}", 2015 + year, rest / 28 + 1, rest % 28 + 1)
}

/// A study.
pub(crate) struct Study(pub(crate) u64);

impl Study {
    fn patient(&self) -> u64 {
        scatter(self.0) % (self.0 * 2 / 5 + 1)
    }

    pub(crate) fn patient_name(&self) -> String {
        let patient = self.patient() << 8;
        let family = [0, 1, 2].map(|part| pick(patient + part, &SYLLABLES)).concat();
        format!("{family}^{}", pick(patient + 3, &GIVEN))
    }

    pub(crate) fn patient_id(&self) -> String {
        format!("{:08}", self.patient() * 37 % 100_000_000)
    }

    pub(crate) fn accession_number(&self) -> String {
        format!("A{:09}", self.0)
    }

    pub(crate) fn date(&self) -> String {
        day(self.0 / STUDIES_PER_DAY)
    }

    /// The days from the study's to the fourth after it, as a range (PS3.5 6.2, DA).
    pub(crate) fn five_days(&self) -> String {
        let first = self.0 / STUDIES_PER_DAY;
        format!("{}-{}", day(first), day(first + 4))
    }

    pub(crate) fn modality(&self) -> &'static str {
        self.device().0
    }

    fn device(&self) -> (&'static str, &'static str) {
        MODALITIES[(scatter(self.0 << 4) % 4) as usize]
    }

    pub(crate) fn uid(&self) -> String {
        let device = scatter(self.0 << 5) % 40;
        format!(
            "1.2.840.113619.2.{}.3.{}.{}.{}",
            50 + device,
            2_831_000_000 + device * 7_919,
            100 + self.0 % 900,
            1_170_318_765 + self.0 * 311
        )
    }

    pub(crate) fn series_uid(&self, series: u64) -> String {
        format!("{}.{series}", self.uid())
    }
}

/// The SOP classes that occur.
pub(crate) fn sop_classes() -> impl Iterator<Item = Uid> {
    MODALITIES.iter().map(|(_, sop_class)| Uid::constant(sop_class))
}

/// An instance as it is sent.
pub(crate) struct Instance {
    pub(crate) sop_class: Uid,
    pub(crate) sop_instance: Uid,
    /// In Explicit VR Little Endian; no pixel data.
    pub(crate) data_set: Bytes,
}

/// The instance that comes as number `at`: some studies arrive side by side.
pub(crate) fn instance(at: u64) -> Result<Instance> {
    let block = STUDIES_AT_A_TIME * INSTANCES_PER_STUDY;
    let (group, within) = (at / block, at % block);
    let study = Study(group * STUDIES_AT_A_TIME + within % STUDIES_AT_A_TIME);
    let instance = within / STUDIES_AT_A_TIME;
    let (series, number) = (instance % SERIES_PER_STUDY + 1, instance / SERIES_PER_STUDY + 1);
    let (modality, sop_class) = study.device();
    let sop_instance = Uid::parse(&format!("{}.{number}", study.series_uid(series)))?;
    let time = format!("{:06}.{:03}", 80_000 + study.0 % 90_000, instance * 7);

    let mut set = DataSet::new();
    set.put_text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
    set.put_text(tags::SOP_CLASS_UID, VR::UI, sop_class);
    set.put_uid(tags::SOP_INSTANCE_UID, &sop_instance);
    for tag in [tags::STUDY_DATE, tags::SERIES_DATE] {
        set.put_text(tag, VR::DA, study.date());
    }
    for tag in [tags::STUDY_TIME, tags::SERIES_TIME] {
        set.put_text(tag, VR::TM, time.as_str());
    }
    set.put_text(tags::ACCESSION_NUMBER, VR::SH, study.accession_number());
    set.put_text(tags::MODALITY, VR::CS, modality);
    set.put_text(tags::REFERRING_PHYSICIAN_NAME, VR::PN, "HOUSE^GREG");
    set.put_text(tags::STUDY_DESCRIPTION, VR::LO, "CHEST WITH CONTRAST");
    set.put_text(tags::SERIES_DESCRIPTION, VR::LO, format!("AXIAL {series}.0 mm"));
    set.put_text(tags::PATIENT_NAME, VR::PN, study.patient_name());
    set.put_text(tags::PATIENT_ID, VR::LO, study.patient_id());
    let year = 1920 + study.patient() % 90;
    set.put_text(tags::PATIENT_BIRTH_DATE, VR::DA, format!("{year}0412"));
    set.put_text(tags::PATIENT_SEX, VR::CS, pick(study.patient(), &["M", "F"]));
    set.put_text(tags::STUDY_INSTANCE_UID, VR::UI, study.uid());
    set.put_text(tags::SERIES_INSTANCE_UID, VR::UI, study.series_uid(series));
    set.put_text(tags::STUDY_ID, VR::SH, (study.0 % 100_000).to_string());
    set.put_text(tags::SERIES_NUMBER, VR::IS, series.to_string());
    set.put_text(tags::INSTANCE_NUMBER, VR::IS, number.to_string());
    set.put_u16(tags::ROWS, 512);
    set.put_u16(tags::COLUMNS, 512);
    let data_set = encode(&set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::utf8())?;
    Ok(Instance {
        sop_class: Uid::constant(sop_class),
        sop_instance,
        data_set: data_set.into(),
    })
}
