//! What an event is about: [`Patient`], [`Study`], and both as a [`Subject`].

use std::collections::BTreeMap;
use std::fmt;

use dicom_dictionary_std::tags;

use super::Code;
use super::object::{Description, Group, Named, Object, SopClass};
use crate::index::InstanceRecord;
use crate::patient::PatientId;
use crate::uid::Uid;

/// A patient, as far as an event knows who it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Patient {
    id: PatientId,
    name: String,
}

impl Patient {
    /// By Patient ID (0010,0020) and Patient's Name (0010,0010); both may be empty, as they may be in an instance.
    pub fn new(id: impl Into<PatientId>, name: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
        }
    }

    pub(super) fn object(self) -> Object {
        let mut object = Object::new(Code::PATIENT_NUMBER, self.id.id(), "1", Named::Name(self.name));
        object.role = Some("1");
        if let Some(issuer) = self.id.issuer() {
            object.detail("IssuerOfPatientID", issuer.as_bytes().to_vec());
        }
        object
    }
}

impl fmt::Debug for Patient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patient").finish_non_exhaustive()
    }
}

/// A study, and which instances of it an event is about.
#[derive(Clone, PartialEq, Eq)]
pub struct Study {
    uid: Uid,
    classes: BTreeMap<Uid, SopClass>,
    description: Description,
}

impl Study {
    /// By its Study Instance UID; no instances are known yet.
    pub fn new(uid: Uid) -> Self {
        Self {
            uid,
            classes: BTreeMap::new(),
            description: Description::default(),
        }
    }

    /// An instance of it. As many SOP Instance UIDs are named as a message has room for; all are counted.
    pub fn add(&mut self, sop_class: Uid, instance: Uid) {
        let class = self
            .classes
            .entry(sop_class)
            .or_insert_with(|| SopClass::new(sop_class));
        class.count += 1;
        if class.instances.len() < super::INSTANCES_NAMED_MAX {
            class.instances.push(instance);
        }
    }

    /// Instances of one SOP class of which the number alone is known.
    pub fn count(&mut self, sop_class: Uid, instances: u64) {
        let class = self
            .classes
            .entry(sop_class)
            .or_insert_with(|| SopClass::new(sop_class));
        class.count += instances;
    }

    /// With an Accession Number (0008,0050).
    #[must_use]
    pub fn with_accession_number(mut self, number: impl Into<String>) -> Self {
        self.description.accession_numbers.push(number.into());
        self
    }

    /// With the SOP Instance UID of a modality performed procedure step.
    #[must_use]
    pub fn with_performed_step(mut self, uid: Uid) -> Self {
        self.description.performed_steps.push(uid);
        self
    }

    /// Whether what identifies the patient was taken out of what is handed on.
    #[must_use]
    pub fn anonymized(mut self, yes: bool) -> Self {
        self.description.anonymized = Some(yes);
        self
    }

    /// Whether what is handed on is encrypted.
    #[must_use]
    pub fn encrypted(mut self, yes: bool) -> Self {
        self.description.encrypted = Some(yes);
        self
    }

    fn object(self) -> Object {
        let name = Named::Name(String::new());
        let mut object = Object::new(Code::STUDY_INSTANCE_UID, self.uid.as_str(), "2", name);
        object.role = Some("3");
        object.description = self.description;
        object.description.classes = self.classes.into_values().collect();
        object
    }
}

/// Which studies somebody has is patient data.
impl fmt::Debug for Study {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Study").finish_non_exhaustive()
    }
}

/// A patient with those of his or her studies that an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    patient: Patient,
    studies: Vec<Study>,
}

impl Subject {
    /// A patient and studies of that one.
    pub fn new(patient: Patient, studies: impl IntoIterator<Item = Study>) -> Self {
        Self {
            patient,
            studies: studies.into_iter().collect(),
        }
    }

    /// Of instances that are kept, one for each patient, in the order of their first instances. Those with no Patient ID
    /// count as one patient's within a study, and as others' in another.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a InstanceRecord>) -> Vec<Self> {
        let mut subjects = Subjects::default();
        for record in records {
            subjects.add(record);
        }
        subjects.take()
    }

    /// Whether what identifies the patient was taken out of what is handed on, of all studies.
    #[must_use]
    pub fn anonymized(mut self, yes: bool) -> Self {
        let studies = self.studies.into_iter();
        self.studies = studies.map(|study| study.anonymized(yes)).collect();
        self
    }

    pub(super) fn group(self) -> Group {
        Group {
            repeated: Some(self.patient.object()),
            objects: self.studies.into_iter().map(Study::object).collect(),
        }
    }
}

/// Gathers [`Subject`]s while instances pass by, without keeping more of them than a message can name.
#[derive(Debug, Default)]
pub struct Subjects {
    of: Vec<(PatientId, Patient, Vec<Study>)>,
}

impl Subjects {
    /// An instance that is kept.
    pub fn add(&mut self, record: &InstanceRecord) {
        let attributes = &record.attributes;
        let id = PatientId::of(&attributes.patient);
        let study_uid = record.key.study;
        let at = self.of.iter().rposition(|(known, _, studies)| {
            *known == id && (!id.id().is_empty() || studies.iter().any(|study| study.uid == study_uid))
        });
        let at = at.unwrap_or_else(|| {
            let name = attributes.patient.string(tags::PATIENT_NAME).unwrap_or_default();
            self.of.push((id.clone(), Patient::new(id, name), Vec::new()));
            self.of.len() - 1
        });
        let studies = &mut self.of[at].2;
        let study = studies.iter().rposition(|study| study.uid == study_uid);
        let study = study.unwrap_or_else(|| {
            let mut study = Study::new(study_uid);
            let number = attributes
                .study
                .string(tags::ACCESSION_NUMBER)
                .unwrap_or_default();
            if !number.is_empty() {
                study = study.with_accession_number(number);
            }
            studies.push(study);
            studies.len() - 1
        });
        studies[study].add(record.sop_class, record.key.instance);
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// How many patients they are of.
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// What was gathered, one for each patient.
    pub fn take(self) -> Vec<Subject> {
        let subject = |(_, patient, studies)| Subject { patient, studies };
        self.of.into_iter().map(subject).collect()
    }
}
