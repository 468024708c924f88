//! [`Profile`]: which options of PS3.15 annex E are taken, as configuration files have it; [`Settings`] with the
//! project.

use std::fmt;

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use serde::{Deserialize, Deserializer, de};

use super::project::Project;
use super::table::Column;
use crate::dataset::DataSet;
use crate::error::Result;

/// The options that are taken beside the Basic Profile; none by default (PS3.15 E.3). The keys of a file are the fields'
/// names, with hyphens.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Profile {
    /// Retain Safe Private (E.3.10): what [`safe_private`](Self::safe_private) names, and nothing else. The Standard's own
    /// table of private attributes that some makers say are safe is not taken for granted.
    pub retain_safe_private: bool,
    /// Retain UIDs (E.3.9).
    pub retain_uids: bool,
    /// Retain Device Identity (E.3.8).
    pub retain_device_identity: bool,
    /// Retain Institution Identity (E.3.11).
    pub retain_institution_identity: bool,
    /// Retain Patient Characteristics (E.3.7). An age above 89 years is said to be 90.
    pub retain_patient_characteristics: bool,
    /// Retain Longitudinal Temporal Information (E.3.6).
    pub dates: Dates,
    /// Clean Descriptors (E.3.5): descriptions stay, without the names, IDs and the like that stand in attributes of
    /// the same instance. What names somebody in other words is not found.
    pub clean_descriptors: bool,
    /// Clean Structured Content (E.3.4): the content of a report stays, without names and, unless descriptors are
    /// cleaned too, without text.
    pub clean_structured_content: bool,
    /// Clean Graphics (E.3.3): graphic annotations stay, without text unless descriptors are cleaned too. Overlays and
    /// curves are left out all the same: nobody can look into them here.
    pub clean_graphics: bool,
    /// What is done with an image that may have annotations burned in, where no region is known for it.
    pub burned_in: BurnedIn,
    /// What is done with an instance that holds a document (PS3.3 A.45).
    pub documents: Documents,
    /// Where annotations are burned in: that is blanked (Clean Pixel Data, E.3.1).
    pub regions: Vec<Region>,
    /// Private attributes that are known to be safe.
    pub safe_private: Vec<SafePrivate>,
}

/// What becomes of dates and times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dates {
    /// They are taken away, or are dummies.
    #[default]
    Remove,
    /// They stay (E.3.6.1, full dates).
    Keep,
    /// Dates go back by a number of days that is the same for all of a patient, and times stay (modified dates).
    Shift,
}

/// What is done with an image that may have annotations burned in: Burned In Annotation (0028,0301) is YES; or it
/// isn't NO, and the image is an ultrasound, a secondary capture, a photograph, a saved screen or converted from something
/// else. So it is with one that has an overlay in unused bits of its pixel data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BurnedIn {
    /// It is refused.
    #[default]
    Refuse,
    /// It leaves with its pixels as they are.
    Keep,
}

/// What is done with an instance that holds a document, such as a PDF: it can't be looked into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Documents {
    /// It is refused.
    #[default]
    Refuse,
    /// An empty document of two bytes takes its place.
    Replace,
}

/// Rectangles that are blanked in the frames of some images. Every condition must hold, case and blanks around don't
/// count, and one that is not there holds. Of several that match each counts; one without rectangles says that nothing
/// is burned in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Region {
    /// Modality (0008,0060).
    pub modality: Option<String>,
    /// Manufacturer (0008,0070).
    pub manufacturer: Option<String>,
    /// Manufacturer's Model Name (0008,1090).
    pub model: Option<String>,
    /// SOP Class UID (0008,0016).
    pub sop_class: Option<String>,
    /// Rows (0028,0010).
    pub rows: Option<u16>,
    /// Columns (0028,0011).
    pub columns: Option<u16>,
    /// What is blanked.
    pub blank: Vec<Rectangle>,
}

/// A rectangle of pixels; what reaches beyond the image counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rectangle {
    /// Its first column, from 0.
    pub x: u32,
    /// Its first row, from 0.
    pub y: u32,
    /// In columns.
    pub width: u32,
    /// In rows.
    pub height: u32,
}

/// A private attribute that is known to be safe.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SafePrivate {
    /// Its group, in hexadecimal.
    #[serde(deserialize_with = "hexadecimal")]
    pub group: u16,
    /// Its element in the block of its creator, in hexadecimal: of (0029,xx0C) it is `0C`.
    #[serde(deserialize_with = "hexadecimal")]
    pub element: u8,
    /// Its Private Creator (PS3.5 7.8.1).
    pub creator: String,
}

/// A profile with its project, as a file has them.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// The project's name.
    pub project: String,
    /// The project's secret: see [`Project`].
    pub secret: String,
    /// The options.
    #[serde(default)]
    pub profile: Profile,
}

impl Settings {
    /// What de-identifies so.
    ///
    /// # Errors
    /// `Invalid` when the secret is too short.
    pub fn deidentifier(&self) -> Result<super::Deidentifier> {
        let project = Project::new(&self.project, self.secret.as_bytes())?;
        Ok(super::Deidentifier::new(self.profile.clone(), project))
    }
}

/// The secret is one.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("project", &self.project)
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

impl Profile {
    pub(super) fn takes(&self, column: Column) -> bool {
        match column {
            Column::Private => self.retain_safe_private,
            Column::Uids => self.retain_uids,
            Column::Device => self.retain_device_identity,
            Column::Institution => self.retain_institution_identity,
            Column::Patient => self.retain_patient_characteristics,
            Column::FullDates => self.dates == Dates::Keep,
            Column::ModifiedDates => self.dates == Dates::Shift,
            Column::Descriptors => self.clean_descriptors,
            Column::Structure => self.clean_structured_content,
            Column::Graphics => self.clean_graphics,
        }
    }

    /// The rectangles that are known for an image; `None` where no region matches.
    pub(super) fn rectangles(&self, header: &DataSet) -> Option<Vec<Rectangle>> {
        let mut matching = self
            .regions
            .iter()
            .filter(|region| region.matches(header))
            .peekable();
        matching.peek()?;
        Some(matching.flat_map(|region| region.blank.clone()).collect())
    }

    /// What of Annex E was done, as PS3.16 CID 7050 codes it.
    pub(super) fn codes(&self, pixels_are_cleaned: bool) -> Vec<DataSet> {
        let all = [
            (true, "113100", "Basic Application Confidentiality Profile"),
            (pixels_are_cleaned, "113101", "Clean Pixel Data Option"),
            (self.clean_graphics, "113103", "Clean Graphics Option"),
            (
                self.clean_structured_content,
                "113104",
                "Clean Structured Content Option",
            ),
            (self.clean_descriptors, "113105", "Clean Descriptors Option"),
            (
                self.dates == Dates::Keep,
                "113106",
                "Retain Longitudinal Temporal Information Full Dates Option",
            ),
            (
                self.dates == Dates::Shift,
                "113107",
                "Retain Longitudinal Temporal Information Modified Dates Option",
            ),
            (
                self.retain_patient_characteristics,
                "113108",
                "Retain Patient Characteristics Option",
            ),
            (
                self.retain_device_identity,
                "113109",
                "Retain Device Identity Option",
            ),
            (self.retain_uids, "113110", "Retain UIDs Option"),
            (self.retain_safe_private, "113111", "Retain Safe Private Option"),
            (
                self.retain_institution_identity,
                "113112",
                "Retain Institution Identity Option",
            ),
        ];
        let taken = all.into_iter().filter(|(taken, ..)| *taken);
        taken
            .map(|(_, value, meaning)| DataSet::code(value, "DCM", meaning))
            .collect()
    }
}

impl Region {
    fn matches(&self, header: &DataSet) -> bool {
        let text = |wanted: &Option<String>, tag: Tag| {
            wanted.as_ref().is_none_or(|wanted| {
                let found = header.string(tag).unwrap_or_default();
                found.trim().eq_ignore_ascii_case(wanted.trim())
            })
        };
        let number =
            |wanted: Option<u16>, tag: Tag| wanted.is_none_or(|wanted| header.u16(tag) == Some(wanted));
        text(&self.modality, tags::MODALITY)
            && text(&self.manufacturer, tags::MANUFACTURER)
            && text(&self.model, tags::MANUFACTURER_MODEL_NAME)
            && text(&self.sop_class, tags::SOP_CLASS_UID)
            && number(self.rows, tags::ROWS)
            && number(self.columns, tags::COLUMNS)
    }
}

fn hexadecimal<'de, D: Deserializer<'de>, N: TryFrom<u32>>(deserializer: D) -> Result<N, D::Error> {
    let text = String::deserialize(deserializer)?;
    let number = u32::from_str_radix(&text, 16)
        .ok()
        .and_then(|number| N::try_from(number).ok());
    number.ok_or_else(|| de::Error::custom("hexadecimal digits are needed"))
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;

    use super::*;

    #[test]
    fn a_profile_reads_from_a_file_and_names_what_it_does_not_know() {
        let text = r#"
            project = "trial"
            secret = "0123456789abcdef"
            [profile]
            dates = "shift"
            clean-descriptors = true
            burned-in = "keep"
            [[profile.regions]]
            modality = "us"
            rows = 480
            blank = [{ x = 0, y = 0, width = 640, height = 40 }]
            [[profile.safe-private]]
            group = "0029"
            element = "0C"
            creator = "MAKER"
        "#;
        let settings: Settings = toml::from_str(text).unwrap();
        assert!(settings.deidentifier().is_ok());
        assert!(!format!("{settings:?}").contains("0123456789"));
        let profile = settings.profile;
        assert_eq!((profile.dates, profile.burned_in), (Dates::Shift, BurnedIn::Keep));
        assert_eq!(profile.safe_private[0].element, 0x0C);
        let mut header = DataSet::new();
        header.put_text(tags::MODALITY, VR::CS, "US ");
        header.put_u16(tags::ROWS, 480);
        assert_eq!(profile.rectangles(&header).unwrap().len(), 1);
        header.put_u16(tags::ROWS, 481);
        assert!(profile.rectangles(&header).is_none());
        assert!(toml::from_str::<Profile>("retain-everything = true").is_err());
    }

    #[test]
    fn what_was_done_is_said_in_codes() {
        let profile = Profile {
            dates: Dates::Shift,
            retain_uids: true,
            ..Profile::default()
        };
        let codes = profile.codes(true);
        let values: Vec<_> = codes
            .iter()
            .filter_map(|code| code.string(tags::CODE_VALUE))
            .collect();
        assert_eq!(values, ["113100", "113101", "113107", "113110"]);
    }
}
