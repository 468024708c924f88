//! What messages say of patients (HL7 v2.5 chapter 3).

use dicom_dictionary_std::tags;
use futures::TryStreamExt;
use pacs_core::query::{Model, Query, QueryOptions};
use pacs_core::{DataSet, ErrorKind, Level, Result, Scope, Source, VR};

use super::super::ack::{Condition, Fault};
use super::super::message::{Message, Segment};
use super::{Inner, at};

impl Inner {
    /// A01, A04, A08, A28, A31: what is kept of the patient is corrected. There may be nothing: then it is known with
    /// the first order or instance.
    pub(super) async fn update_patient(&self, message: &Message, source: &Source) -> Result<(), Fault> {
        let attributes = self.patient(message)?;
        let id = patient_id(&attributes)?;
        self.amend(source, &id, &attributes).await?;
        self.set_patient(&id, &attributes).await
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
            let prior = part.get("MRG-1").ok_or_else(|| Fault::missing("MRG-1"))?;
            let prior = prior.trim().to_owned();
            if prior.is_empty() || prior == surviving {
                let why = "MRG-1 must name another patient than PID-3";
                return Err(Fault::error(Condition::DataType, why).at(at("MRG-1")));
            }
            merges.push((prior, surviving, attributes));
        }
        for (prior, surviving, attributes) in merges {
            match self.pacs.merge_patients(source, &prior, &surviving).await {
                Ok(merged) => all_amended(merged.failed)?,
                // Of one of the two nothing is kept: the prior one's become the surviving one's below, or there are none.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
            self.amend(source, &prior, &attributes).await?;
            self.amend(source, &surviving, &attributes).await?;
            self.set_patient(&prior, &attributes).await?;
            self.set_patient(&surviving, &attributes).await?;
        }
        Ok(())
    }

    /// Puts a patient's attributes into all that is to be done for them.
    async fn set_patient(&self, prior: &str, attributes: &DataSet) -> Result<(), Fault> {
        self.worklist.set_patient(prior, attributes).await?;
        self.pacs.ups()?.set_patient(prior, attributes).await?;
        Ok(())
    }

    /// Corrects what the instances of a patient say of them.
    async fn amend(&self, source: &Source, id: &str, attributes: &DataSet) -> Result<(), Fault> {
        let Some(known) = self.patient_kept(source, id).await? else {
            return Ok(());
        };
        let mut wanted = attributes.clone();
        wanted.retain(|element| {
            // Of whom it isn't known who gave the ID, that alone is no reason to keep every instance anew.
            let is_told_anew = element.tag == tags::ISSUER_OF_PATIENT_ID && !known.contains(element.tag);
            let is_same_id = element.tag == tags::PATIENT_ID && element.strings().eq([id]);
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
            return Ok(());
        }
        match self
            .pacs
            .amend(source, Scope::Patient(id.to_owned()), wanted)
            .await
        {
            Ok(amended) => all_amended(amended.failed),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What is known of a patient of whom something is kept.
    async fn patient_kept(&self, source: &Source, id: &str) -> Result<Option<DataSet>, Fault> {
        let mut keys = DataSet::new();
        keys.put_text(tags::PATIENT_ID, VR::LO, id);
        for element in self.options.mapping.patient.attributes() {
            if element.0 != tags::PATIENT_ID && element.1 != VR::SQ {
                keys.put_text(element.0, element.1, "");
            }
        }
        let query = Query::new(Model::PatientRoot, Level::Patient, keys, QueryOptions::default());
        let mut found = self.pacs.find(source, query)?;
        while let Some(patient) = found.try_next().await? {
            // A wild card in the key is only a letter here.
            if patient.string(tags::PATIENT_ID) == Some(id) {
                return Ok(Some(patient.with_values()));
            }
        }
        Ok(None)
    }
}

/// The Patient ID, which must be there.
pub(super) fn patient_id(attributes: &DataSet) -> Result<String, Fault> {
    let id = attributes.string(tags::PATIENT_ID).map(str::to_owned);
    id.ok_or_else(|| Fault::missing("PID-3"))
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

fn all_amended(failed: u64) -> Result<(), Fault> {
    match failed {
        0 => Ok(()),
        failed => {
            let why = format!("{failed} instances of the patient could not be corrected; all else is");
            Err(Fault::error(Condition::Internal, why))
        }
    }
}

fn trimmed_name(name: &str) -> &str {
    name.trim_end_matches(['^', ' ', '='])
}
