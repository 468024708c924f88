//! What is answered of a match (PS3.18 10.6.3.3).

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags::*;
use pacs_core::dataset::{Element, json};
use pacs_core::query::AttributeSet;
use pacs_core::{DataSet, Level, Uid};

use super::super::resource::Resource;
use super::super::{Asking, Web};
use super::Target;
use super::parameters::Parameters;

/// What is always answered of a study (table 10.6.3-3).
const STUDY: &[Tag] = &[
    STUDY_DATE,
    STUDY_TIME,
    ACCESSION_NUMBER,
    MODALITIES_IN_STUDY,
    REFERRING_PHYSICIAN_NAME,
    PATIENT_NAME,
    PATIENT_ID,
    PATIENT_BIRTH_DATE,
    PATIENT_SEX,
    STUDY_INSTANCE_UID,
    STUDY_ID,
    NUMBER_OF_STUDY_RELATED_SERIES,
    NUMBER_OF_STUDY_RELATED_INSTANCES,
];

/// Of a series (table 10.6.3-4), with the study that it is in.
const SERIES: &[Tag] = &[
    STUDY_INSTANCE_UID,
    MODALITY,
    SERIES_INSTANCE_UID,
    SERIES_NUMBER,
    NUMBER_OF_SERIES_RELATED_INSTANCES,
];

/// Of an instance (table 10.6.3-5), with study and series that it is in.
const INSTANCE: &[Tag] = &[
    STUDY_INSTANCE_UID,
    SERIES_INSTANCE_UID,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    INSTANCE_NUMBER,
];

/// What the tables ask for where it is known, at each level.
const WHERE_KNOWN: &[(Level, &[Tag])] = &[
    (Level::Study, &[TIMEZONE_OFFSET_FROM_UTC]),
    (
        Level::Series,
        &[
            SERIES_DESCRIPTION,
            PERFORMED_PROCEDURE_STEP_START_DATE,
            PERFORMED_PROCEDURE_STEP_START_TIME,
            REQUEST_ATTRIBUTES_SEQUENCE,
        ],
    ),
    (
        Level::Instance,
        &[ROWS, COLUMNS, BITS_ALLOCATED, NUMBER_OF_FRAMES],
    ),
];

/// How a match becomes an answer.
#[derive(Clone)]
pub(super) struct Answers {
    level: Level,
    base: String,
    /// What is answered without a value where it has none; all else is left out then.
    always: Vec<Tag>,
    /// What is answered beside what is asked for.
    returned: Vec<Tag>,
}

impl Answers {
    pub(super) fn new(web: &Web, asking: &Asking, target: Target, asked: &Parameters) -> Self {
        let level = target.level;
        // "If the Target Resource is All Series, then include all Study Level Attributes", and so for instances.
        let mut always = Vec::new();
        let mut returned = Vec::new();
        let levels = [
            (Level::Study, STUDY, target.study.is_none()),
            (Level::Series, SERIES, target.series.is_none()),
            (Level::Instance, INSTANCE, true),
        ];
        for (of, table, is_free) in levels {
            if of == level || (of < level && is_free) {
                always.extend_from_slice(table);
                returned.extend(where_known(of));
            }
        }
        if asked.everything {
            returned.extend(everything(web.pacs.attributes(), level));
        }
        returned.extend_from_slice(&always);
        always.extend(asked.identifier.iter().map(|key| key.tag));
        Self {
            level,
            base: asking.base.clone(),
            always,
            returned,
        }
    }

    /// `identifier` with return keys for what is answered besides.
    pub(super) fn returning(&self, identifier: &DataSet) -> DataSet {
        let mut identifier = identifier.clone();
        for tag in &self.returned {
            if !identifier.contains(*tag) {
                super::parameters::put_return_key(&mut identifier, *tag);
            }
        }
        identifier
    }

    /// Writes the `number`th answer into an array.
    pub(super) fn write(&self, found: DataSet, number: u64, out: &mut Vec<u8>) {
        if number > 0 {
            out.push(b',');
        }
        json::write(&self.complete(found), &[], &|_| String::new(), out);
    }

    /// The match with what depends on who answers.
    pub(super) fn complete(&self, mut found: DataSet) -> DataSet {
        found.remove(QUERY_RETRIEVE_LEVEL);
        found.retain(|element: &Element| !element.is_empty() || self.always.contains(&element.tag));
        // What is answered is written in UTF-8.
        found.put_text(SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
        found.put_text(INSTANCE_AVAILABILITY, VR::CS, "ONLINE");
        // Who may see a part of a study is told nothing of what is derived from all of it.
        let counted = found.get(NUMBER_OF_STUDY_RELATED_INSTANCES);
        let is_counted = counted.is_some_and(|count| !count.is_empty());
        if is_counted && found.get(MODALITIES_IN_STUDY).is_some_and(Element::is_empty) {
            // Modality is of type 1, and viewers rely on its being there: where no series of the study has
            // one, it is of some other kind.
            found.put_text(MODALITIES_IN_STUDY, VR::CS, "OT");
        }
        if let Some(url) = self.url(&found) {
            found.put_text(RETRIEVE_URL, VR::UR, url);
        }
        found
    }

    fn url(&self, found: &DataSet) -> Option<String> {
        let uid = |level: Level, tag| match self.level >= level {
            true => found.uid(tag).ok().map(Some),
            false => Some(None::<Uid>),
        };
        let resource = Resource {
            study: found.uid(STUDY_INSTANCE_UID).ok()?,
            series: uid(Level::Series, SERIES_INSTANCE_UID)?,
            instance: uid(Level::Instance, SOP_INSTANCE_UID)?,
        };
        Some(format!("{}{}", self.base, resource.path()))
    }
}

fn where_known(level: Level) -> impl Iterator<Item = Tag> {
    let tables = WHERE_KNOWN.iter().filter(move |(of, _)| *of == level);
    tables.flat_map(|(_, tags)| tags.iter().copied())
}

/// All that is kept of an entity and of those above it.
fn everything(attributes: &AttributeSet, level: Level) -> impl Iterator<Item = Tag> {
    let levels = Level::ALL.into_iter().filter(move |of| *of <= level);
    levels.flat_map(|of| attributes.at(of))
}
