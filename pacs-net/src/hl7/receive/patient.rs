//! What messages say of patients (HL7 v2.5 chapter 3).

use dicom_dictionary_std::tags;
use futures::TryStreamExt;
use pacs_core::query::{Model, Query, QueryOptions};
use pacs_core::{Amended, DataSet, ErrorKind, Level, PatientId, Result, Retry, Source, VR};

use super::super::ack::{Condition, Fault};
use super::super::message::{Message, Segment};
use super::{Inner, at};

impl Inner {
    /// A01, A04, A08, A28, A31: what is kept of the patient is corrected. There may be nothing: then it is known with
    /// the first order or instance.
    pub(super) async fn update_patient(&self, message: &Message, source: &Source) -> Result<(), Fault> {
        let attributes = self.patient(message)?;
        let patient = patient_id(&attributes)?;
        // The others make a patient known.
        let is_change = matches!(message.get("MSH-9.2").as_deref(), Some("A08" | "A31"));
        if is_change && self.is_anothers(source, &patient).await? {
            return Err(of_another("PID-3"));
        }
        let failed = self.amend(source, &patient, &attributes).await?;
        self.set_patient(&patient, &attributes).await?;
        all_amended(failed)
    }

    /// A40: everything of the prior patients becomes the surviving one's. Each PID has its MRG behind it.
    pub(super) async fn merge_patients(&self, message: &Message, source: &Source) -> Result<(), Fault> {
        let pairs = pairs(message.segments());
        if pairs.is_empty() {
            let why = "a merge needs a PID and an MRG behind it";
            return Err(Fault::error(Condition::SegmentSequence, why));
        }
        // All of it is looked at before any of it is done.
        let mut merges = Vec::new();
        for (surviving, merge) in pairs {
            let part = message.part([surviving, merge]);
            let attributes = self.patient(&part)?;
            let surviving = patient_id(&attributes)?;
            let prior = self.prior(&part).ok_or_else(|| Fault::missing("MRG-1"))?;
            if prior.id().is_empty() || prior.agrees(&surviving) {
                let why = "MRG-1 must name another patient than PID-3";
                return Err(Fault::error(Condition::DataType, why).at(at("MRG-1")));
            }
            if self.is_anothers(source, &prior).await? {
                return Err(of_another("MRG-1"));
            }
            merges.push((prior, surviving, attributes));
        }
        let mut failed = 0;
        for (prior, surviving, attributes) in merges {
            match self.pacs.merge_patients(source, &prior, &surviving).await {
                Ok(merged) => failed += merged.failed,
                // Of one of the two nothing is kept: the prior one's become the surviving one's below, or there are none.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
            for patient in [&prior, &surviving] {
                failed += self.amend(source, patient, &attributes).await?;
                self.set_patient(patient, &attributes).await?;
            }
        }
        all_amended(failed)
    }

    /// The prior patient of a merge; of an issuer where the mapping asks for that of patients.
    fn prior(&self, message: &Message) -> Option<PatientId> {
        let id = message.get("MRG-1")?;
        let mut rules = self.options.mapping.patient.attributes();
        let issuer = rules
            .any(|(tag, _)| tag == tags::ISSUER_OF_PATIENT_ID)
            .then(|| message.get("MRG-1.4").or_else(|| message.get("MRG-1.4.2")));
        Some(PatientId::new(&id, issuer.flatten().as_deref()))
    }

    /// Puts a patient's attributes into all that is to be done for them.
    async fn set_patient(&self, prior: &PatientId, attributes: &DataSet) -> Result<(), Fault> {
        self.worklist.set_patient(prior, attributes).await?;
        self.pacs.ups()?.set_patient(prior, attributes).await?;
        Ok(())
    }

    /// Corrects what the instances of a patient say of them. Answers how many could not be corrected.
    async fn amend(&self, source: &Source, patient: &PatientId, attributes: &DataSet) -> Result<u64, Fault> {
        let Some(known) = self.patient_kept(source, patient).await? else {
            return Ok(0);
        };
        let mut wanted = attributes.clone();
        wanted.retain(|element| {
            // Of whom it isn't known who gave the ID, that alone is no reason to keep every instance anew.
            let is_told_anew = element.tag == tags::ISSUER_OF_PATIENT_ID && !known.contains(element.tag);
            let is_same_id = element.tag == tags::PATIENT_ID && element.strings().eq([patient.id()]);
            !is_told_anew && !is_same_id
        });
        // A name is the same with empty components at its end.
        let name = |set: &DataSet| {
            set.string(tags::PATIENT_NAME)
                .map(|name| trimmed_name(name).to_owned())
        };
        if name(&known).is_some() && name(&known) == name(&wanted) {
            let said = known.string(tags::PATIENT_NAME).unwrap_or_default();
            wanted.put_text(tags::PATIENT_NAME, VR::PN, said);
        }
        if wanted.is_empty() {
            return Ok(0);
        }
        match self.pacs.amend_patient(source, patient, wanted).await {
            Ok(Amended { failed, .. }) => Ok(failed),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// What is known of a patient of whom something is kept.
    async fn patient_kept(&self, source: &Source, patient: &PatientId) -> Result<Option<DataSet>, Fault> {
        let kept = self.kept_under(source, patient.id(), |kept| kept.agrees(patient));
        Ok(kept.await?)
    }

    /// Whether all that is known under the ID of a patient is another one's, by another issuer: then there is something, and
    /// nothing of it is theirs.
    async fn is_anothers(&self, source: &Source, patient: &PatientId) -> Result<bool, Fault> {
        if patient.issuer().is_none() || self.patient_kept(source, patient).await?.is_some() {
            return Ok(false);
        }
        let mut others = self.kept_under(source, patient.id(), |_| true).await?.is_some();
        let mut steps = self.pacs.ups()?.of_patient(patient.id());
        while let Some(step) = steps.try_next().await? {
            match PatientId::of(&step).agrees(patient) {
                true => return Ok(false),
                false => others = true,
            }
        }
        let items = self.worklist.of_patient(patient.id()).await?;
        others |= !items.is_empty();
        Ok(others && !items.iter().any(|item| PatientId::of(item).agrees(patient)))
    }

    /// What the first study with this Patient ID that is one says of its patient.
    async fn kept_under(
        &self,
        source: &Source,
        id: &str,
        is_one: impl Fn(&PatientId) -> bool,
    ) -> Result<Option<DataSet>> {
        let mut keys = DataSet::new();
        for (tag, vr) in self.options.mapping.patient.attributes() {
            if vr != VR::SQ {
                keys.put_text(tag, vr, "");
            }
        }
        keys.put_text(tags::ISSUER_OF_PATIENT_ID, VR::LO, "");
        keys.put_text(tags::PATIENT_ID, VR::LO, id);
        let query = Query::new(Model::StudyRoot, Level::Study, keys, QueryOptions::default());
        let mut found = self.pacs.find(source, query)?;
        while let Some(study) = found.try_next().await? {
            let of = PatientId::of(&study);
            // A wild card in the key is only a letter here.
            if of.id() == id && is_one(&of) {
                return Ok(Some(study.with_values()));
            }
        }
        Ok(None)
    }
}

/// Whose the message is; their Patient ID must be there.
pub(super) fn patient_id(attributes: &DataSet) -> Result<PatientId, Fault> {
    match PatientId::of(attributes) {
        patient if patient.id().is_empty() => Err(Fault::missing("PID-3")),
        patient => Ok(patient),
    }
}

/// Each PID with the MRG that follows it.
fn pairs(segments: &[Segment]) -> Vec<(&Segment, &Segment)> {
    let (mut pairs, mut surviving) = (Vec::new(), None);
    for segment in segments {
        match segment.name() {
            "PID" => surviving = Some(segment),
            "MRG" => pairs.extend(surviving.map(|surviving| (surviving, segment))),
            _ => {}
        }
    }
    pairs
}

fn of_another(path: &'static str) -> Fault {
    let why = "who has this ID here has it of another assigning authority";
    Fault::error(Condition::UnknownKey, why).at(at(path))
}

/// Said when all else is done. The same message does it again.
fn all_amended(failed: u64) -> Result<(), Fault> {
    match failed {
        0 => Ok(()),
        failed => {
            let why = format!("{failed} instances of the patient could not be corrected; all else is");
            let mut fault = Fault::error(Condition::Internal, why);
            fault.retry = Retry::Later;
            Err(fault)
        }
    }
}

fn trimmed_name(name: &str) -> &str {
    name.trim_end_matches(['^', ' ', '='])
}
