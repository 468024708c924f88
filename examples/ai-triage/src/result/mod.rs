//! What is answered: a report and, where something was found, a picture.

mod capture;
mod codes;
mod report;
#[cfg(test)]
mod tests;

use dicom_core::VR;
use dicom_core::chrono::{DateTime, FixedOffset, Utc};
use dicom_dictionary_std::tags;
use pacs_core::dataset::{DataSet, Element, Value};
use pacs_core::{Result, Tag, Uid};
use twox_hash::XxHash3_128;

use crate::analysis::Assessed;

/// What stands in each result for whoever reads it.
pub(crate) const DISCLAIMER: &str = "Not a medical device. Not for diagnosis: a demonstration that finds dense \
     regions by thresholds. No finding does not mean that there is nothing.";

/// The algorithm's name and version, which are part of every identifier that is made.
pub(crate) const ALGORITHM: &str = "Hyperdense intracranial regions by thresholds";
/// To be counted up when the same images may give another answer.
pub(crate) const ALGORITHM_VERSION: &str = "1";

/// An instance that was made here.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) class: Uid,
    pub(crate) instance: Uid,
    pub(crate) data_set: DataSet,
}

/// The results for what was assessed of one study, at this moment.
///
/// The same images give the same SOP Instance UIDs, so that a PACS which hands a study out again gets no second
/// report of it.
///
/// # Errors
/// `Invalid` when the study's own identifiers are missing.
pub(crate) fn results(study: &Uid, assessed: &[Assessed], now: DateTime<Utc>) -> Result<Vec<Made>> {
    let Some(first) = assessed.first() else {
        return Ok(Vec::new());
    };
    let of = Of {
        study: *study,
        header: &first.header,
        names: Names::of(study, assessed),
        now: now.with_timezone(&zone(&first.header)),
    };
    let mut made = vec![report::report(&of, assessed)?];
    let largest = |one: &&Assessed| {
        one.found
            .regions
            .first()
            .map(|region| (region.volume_ml * 1000.0) as u64)
    };
    let with_picture = assessed
        .iter()
        .filter(|one| one.key.is_some())
        .max_by_key(largest);
    made.extend(with_picture.and_then(|one| capture::capture(&of, one)));
    Ok(made)
}

/// What results of one study share.
struct Of<'a> {
    study: Uid,
    /// Of one of its images.
    header: &'a DataSet,
    names: Names,
    now: DateTime<FixedOffset>,
}

/// Makes identifiers from what was looked at.
struct Names(XxHash3_128);

impl Names {
    fn of(study: &Uid, assessed: &[Assessed]) -> Self {
        let mut digest = XxHash3_128::with_seed(0);
        let mut write = |text: &str| {
            digest.write(text.as_bytes());
            digest.write(&[0]);
        };
        write(ALGORITHM);
        write(ALGORITHM_VERSION);
        write(study);
        for one in assessed {
            write(&one.series);
            one.slices.iter().for_each(|(_, instance)| write(instance));
        }
        Self(digest)
    }

    /// The UID of `what`.
    fn uid(&self, what: &str) -> Uid {
        Uid::named([&self.0.finish_128().to_be_bytes()[..], what.as_bytes()])
    }
}

/// The time zone that an image says (0008,0201), else UTC.
fn zone(header: &DataSet) -> FixedOffset {
    let offset = |text: &str| {
        let (sign, digits) = text.split_at_checked(1)?;
        let (hours, minutes) = digits.split_at_checked(2)?;
        let seconds = hours.parse::<i32>().ok()? * 3600 + minutes.parse::<i32>().ok()? * 60;
        FixedOffset::east_opt(if sign == "-" { -seconds } else { seconds })
    };
    let said = header.string(tags::TIMEZONE_OFFSET_FROM_UTC).and_then(offset);
    said.unwrap_or_else(|| FixedOffset::east_opt(0).expect("0 is an offset"))
}

impl Of<'_> {
    /// What an instance of a class has of patient, study, equipment and series. `kind` tells the series apart.
    fn instance(&self, class: Uid, kind: &str, modality: &str, number: u16, description: &str) -> Made {
        let instance = self.names.uid(&format!("{kind} instance"));
        let mut set = DataSet::new();
        // Of the patient, the study and its order: as an image says it, those of type 2 also where it doesn't
        // (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2).
        for (tag, vr) in [
            (tags::PATIENT_NAME, VR::PN),
            (tags::PATIENT_ID, VR::LO),
            (tags::PATIENT_BIRTH_DATE, VR::DA),
            (tags::PATIENT_SEX, VR::CS),
            (tags::STUDY_DATE, VR::DA),
            (tags::STUDY_TIME, VR::TM),
            (tags::REFERRING_PHYSICIAN_NAME, VR::PN),
            (tags::STUDY_ID, VR::SH),
            (tags::ACCESSION_NUMBER, VR::SH),
        ] {
            set.put(self.header.get(tag).cloned().unwrap_or_else(|| empty(tag, vr)));
        }
        for tag in [
            tags::ISSUER_OF_PATIENT_ID,
            tags::OTHER_PATIENT_I_DS_SEQUENCE,
            tags::PATIENT_AGE,
            tags::PATIENT_SIZE,
            tags::PATIENT_WEIGHT,
            tags::STUDY_DESCRIPTION,
            tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE,
            tags::TIMEZONE_OFFSET_FROM_UTC,
        ] {
            if let Some(element) = self.header.get(tag).filter(|element| !element.is_empty()) {
                set.put(element.clone());
            }
        }
        set.put_uid(tags::STUDY_INSTANCE_UID, &self.study);
        set.put_uid(
            tags::SERIES_INSTANCE_UID,
            &self.names.uid(&format!("{kind} series")),
        );
        set.put_text(tags::SERIES_NUMBER, VR::IS, number.to_string());
        set.put_text(tags::SERIES_DESCRIPTION, VR::LO, description);
        set.put_text(tags::MODALITY, VR::CS, modality);
        set.put_text(tags::MANUFACTURER, VR::LO, "pacs-engine examples");
        set.put_text(tags::MANUFACTURER_MODEL_NAME, VR::LO, env!("CARGO_PKG_NAME"));
        let version = format!("{} algorithm {ALGORITHM_VERSION}", env!("CARGO_PKG_VERSION"));
        set.put_text(tags::SOFTWARE_VERSIONS, VR::LO, version);
        set.put_uid(tags::SOP_CLASS_UID, &class);
        set.put_uid(tags::SOP_INSTANCE_UID, &instance);
        set.put_text(tags::INSTANCE_NUMBER, VR::IS, "1");
        set.put_text(tags::INSTANCE_CREATION_DATE, VR::DA, self.date());
        set.put_text(tags::INSTANCE_CREATION_TIME, VR::TM, self.time());
        set.put_text(tags::CONTENT_DATE, VR::DA, self.date());
        set.put_text(tags::CONTENT_TIME, VR::TM, self.time());
        Made {
            class,
            instance,
            data_set: set,
        }
    }

    fn date(&self) -> String {
        self.now.format("%Y%m%d").to_string()
    }

    fn time(&self) -> String {
        self.now.format("%H%M%S").to_string()
    }
}

fn empty(tag: Tag, vr: VR) -> Element {
    let value = match vr {
        VR::SQ => Value::Items(Vec::new()),
        _ => Value::Bytes(bytes::Bytes::new()),
    };
    Element { tag, vr, value }
}

/// An item that refers to an instance.
fn reference(class: &Uid, instance: &Uid) -> DataSet {
    let mut item = DataSet::new();
    item.put_uid(tags::REFERENCED_SOP_CLASS_UID, class);
    item.put_uid(tags::REFERENCED_SOP_INSTANCE_UID, instance);
    item
}

/// A number as a DS writes it: at most 16 characters.
fn decimal(number: f64) -> String {
    let text = format!("{number:.3}");
    if text.len() <= 16 {
        text
    } else {
        format!("{number:.6e}")
    }
}
