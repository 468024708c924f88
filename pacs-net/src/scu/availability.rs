//! Instance Availability Notification (PS3.4 annex R) as SCU.

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use futures::TryStreamExt;
use pacs_core::{AeTitle, DataSet, Pacs, Result, Scope, Uid};

use super::commitment::send;
use super::{NATIVE, Reference, Remote};
use crate::dimse::{Client, CommandField, CommandSet};

pub(crate) const SOP_CLASS: Uid = Uid::constant(uids::INSTANCE_AVAILABILITY_NOTIFICATION);

/// Instances that one notification names: some 600 KiB. A larger study takes several, which may name parts of
/// a study (PS3.4 R.3.2.1).
const INSTANCES_MAX: usize = 4000;

/// Tells `remote` that all instances of a study are available, ONLINE, from `retrieve_ae` (N-CREATE). Answers how many
/// it was told of.
///
/// `performed` is the performed procedure step that the instances came of, where it is known.
///
/// # Errors
/// `Refused` when the peer refuses, with its status; `Unsupported` when it doesn't offer the service; as
/// [`Client::request`]; what the index says.
pub async fn notify_availability(
    remote: &Remote,
    pacs: &Pacs,
    study: Uid,
    retrieve_ae: AeTitle,
    performed: Option<Reference>,
) -> Result<usize> {
    let proposal = remote.proposal().with_context(SOP_CLASS, NATIVE.iter());
    let client = remote.client(&proposal).await?;
    let notice = Notice {
        study,
        performed,
        retrieve_ae,
    };
    let (mut told, mut series, mut named) = (0, Vec::new(), 0);
    let mut records = pacs.instances(Scope::Study(study));
    while let Some(record) = records.try_next().await? {
        let instance = Reference {
            sop_class: record.sop_class,
            sop_instance: record.key.instance,
        };
        match series.last_mut() {
            Some((last, instances)) if *last == record.key.series => Vec::push(instances, instance),
            _ => series.push((record.key.series, vec![instance])),
        }
        named += 1;
        if named == INSTANCES_MAX {
            notice.tell(&client, std::mem::take(&mut series)).await?;
            told += std::mem::take(&mut named);
        }
    }
    if named > 0 {
        notice.tell(&client, series).await?;
        told += named;
    }
    if let Err(error) = client.release().await {
        tracing::debug!(%error, "a release was not answered");
    }
    Ok(told)
}

/// What all notifications of one study have in common.
struct Notice {
    study: Uid,
    performed: Option<Reference>,
    retrieve_ae: AeTitle,
}

impl Notice {
    async fn tell(&self, client: &Client, series: Vec<(Uid, Vec<Reference>)>) -> Result<()> {
        let context = client.context_for(&SOP_CLASS)?;
        let command = CommandSet::request(CommandField::N_CREATE)
            .with_affected_sop_class(&SOP_CLASS)
            .with_affected_sop_instance(&Uid::random());
        let response = send(client, context, command, &self.data_set(series)).await?;
        if response.status().is_done() {
            Ok(())
        } else {
            Err(super::query::failed("availability.notify", &response))
        }
    }

    /// The attributes of table R.3.2-1, and no other one.
    fn data_set(&self, series: Vec<(Uid, Vec<Reference>)>) -> DataSet {
        let instance = |reference: &Reference| {
            let mut item = reference.item();
            item.put_text(tags::RETRIEVE_AE_TITLE, VR::AE, self.retrieve_ae.as_str());
            item.put_text(tags::INSTANCE_AVAILABILITY, VR::CS, "ONLINE");
            item
        };
        let series = series.iter().map(|(series, instances)| {
            let mut item = DataSet::new();
            item.put_items(
                tags::REFERENCED_SOP_SEQUENCE,
                instances.iter().map(instance).collect(),
            );
            item.put_uid(tags::SERIES_INSTANCE_UID, series);
            item
        });
        let performed = self.performed.iter().map(|reference| {
            let mut item = reference.item();
            item.put_items(tags::PERFORMED_WORKITEM_CODE_SEQUENCE, Vec::new());
            item
        });
        let mut set = DataSet::new();
        set.put_items(
            tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE,
            performed.collect(),
        );
        set.put_items(tags::REFERENCED_SERIES_SEQUENCE, series.collect());
        set.put_uid(tags::STUDY_INSTANCE_UID, &self.study);
        set
    }
}
