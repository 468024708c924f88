//! Instance Availability Notification (PS3.4 annex R) as SCP.

use std::fmt;

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use pacs_core::dataset::scan;
use pacs_core::{AeTitle, DataSet, Result, Uid};

use super::{PacsServices, source};
use crate::dimse::{Operation, Reply, Status};
use crate::scu::Reference;

/// What a peer tells of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Available {
    /// Study Instance UID (0020,000D).
    pub study: Uid,
    /// Series Instance UID (0020,000E).
    pub series: Uid,
    /// The instance.
    pub instance: Reference,
    /// Instance Availability (0008,0056): ONLINE, NEARLINE, OFFLINE or UNAVAILABLE (PS3.3 C.4.23.1.1).
    pub availability: String,
    /// Retrieve AE Title (0008,0054).
    pub retrieve_ae: AeTitle,
}

/// Is told which instances are available elsewhere. It must not block.
pub trait AvailabilityObserver: fmt::Debug + Send + Sync + 'static {
    /// A notification came from `source`, of which everything is well formed.
    ///
    /// # Errors
    /// What the peer is answered.
    fn available(&self, source: Option<AeTitle>, instances: &[Available]) -> Result<()>;
}

/// Missing Attribute (PS3.7 10.1.5.1.6): it must be there.
const MISSING_ATTRIBUTE: Status = Status(0x0120);
/// Missing Attribute Value: it must have a value.
const MISSING_ATTRIBUTE_VALUE: Status = Status(0x0121);
/// Invalid Attribute Value.
const INVALID_ATTRIBUTE_VALUE: Status = Status(0x0106);

const AVAILABILITIES: [&str; 4] = ["ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE"];

/// N-CREATE: a notification. Nothing is kept of it: who must know is told.
pub(super) async fn create(services: &PacsServices, mut operation: Operation) -> Result<Reply> {
    let command = operation.command();
    let sop_class = command.sop_class();
    if sop_class.is_ok_and(|sop_class| sop_class != operation.context().abstract_syntax) {
        return Ok(Reply::new(Status::NO_SUCH_SOP_CLASS));
    }
    // An SCU that gives it no UID leaves that to us (PS3.7 10.1.5.1.4).
    let given = command.sop_instance().ok();
    let bytes = operation.gather_data_set().await?;
    let set = scan::parse(&bytes, &operation.context().transfer_syntax)?;
    let instances = match read(&set) {
        Ok(instances) => instances,
        Err((status, tag)) => return Ok(Reply::new(status).with_offending_element(tag)),
    };
    let from = source(&operation).calling_ae;
    if let Some(observer) = &services.options.availability {
        observer.available(from, &instances)?;
    }
    if let Some(first) = instances.first() {
        let (study, count) = (first.study, instances.len());
        let from = from.as_deref().unwrap_or_default();
        tracing::info!(from, %study, instances = count, "instances are available");
    }
    let mut reply = Reply::success();
    reply.affected_sop_instance = Some(given.unwrap_or_else(Uid::random));
    Ok(reply)
}

type Fault = (Status, Tag);

/// What must be there by table R.3.2-1.
fn read(set: &DataSet) -> Result<Vec<Available>, Fault> {
    let study = uid(set, tags::STUDY_INSTANCE_UID)?;
    let mut instances = Vec::new();
    for item in items(set, tags::REFERENCED_SERIES_SEQUENCE)? {
        let series = uid(item, tags::SERIES_INSTANCE_UID)?;
        for item in items(item, tags::REFERENCED_SOP_SEQUENCE)? {
            let availability = text(item, tags::INSTANCE_AVAILABILITY)?;
            if !AVAILABILITIES.contains(&availability) {
                return Err((INVALID_ATTRIBUTE_VALUE, tags::INSTANCE_AVAILABILITY));
            }
            let retrieve_ae = text(item, tags::RETRIEVE_AE_TITLE)?;
            instances.push(Available {
                study,
                series,
                instance: Reference {
                    sop_class: uid(item, tags::REFERENCED_SOP_CLASS_UID)?,
                    sop_instance: uid(item, tags::REFERENCED_SOP_INSTANCE_UID)?,
                },
                availability: availability.to_owned(),
                retrieve_ae: AeTitle::parse(retrieve_ae)
                    .map_err(|_| (INVALID_ATTRIBUTE_VALUE, tags::RETRIEVE_AE_TITLE))?,
            });
        }
    }
    Ok(instances)
}

fn text(set: &DataSet, tag: Tag) -> Result<&str, Fault> {
    if !set.contains(tag) {
        return Err((MISSING_ATTRIBUTE, tag));
    }
    set.string(tag).ok_or((MISSING_ATTRIBUTE_VALUE, tag))
}

fn uid(set: &DataSet, tag: Tag) -> Result<Uid, Fault> {
    Uid::parse(text(set, tag)?).map_err(|_| (INVALID_ATTRIBUTE_VALUE, tag))
}

fn items(set: &DataSet, tag: Tag) -> Result<&[DataSet], Fault> {
    match set.items(tag) {
        [] if set.contains(tag) => Err((MISSING_ATTRIBUTE_VALUE, tag)),
        [] => Err((MISSING_ATTRIBUTE, tag)),
        items => Ok(items),
    }
}
