//! What messages say of orders (HL7 v2.5 chapter 4; IHE RAD TF-2 4.2 to 4.4).

use std::collections::{BTreeSet, HashSet};

use dicom_dictionary_std::tags;
use pacs_core::workflow::worklist::status;
use pacs_core::{DataSet, Result, Source, Uid};

use super::super::ack::{Condition, Fault};
use super::super::message::{MESSAGE_LENGTH_MAX_BYTES, Message, SEGMENTS_MAX, Segment};
use super::patient::patient_id;
use super::{Inner, at};

/// Orders of one message.
const ORDERS_MAX: usize = 1000;

/// Segments of all orders of a message, with those that they share counted for each.
const COPIED_MAX: usize = 4 * SEGMENTS_MAX;

/// Bytes of what several orders of a message share, counted for each: it is read for each.
const SHARED_MAX_BYTES: usize = 4 * MESSAGE_LENGTH_MAX_BYTES;

/// What is to be done with a step.
enum Act {
    Put(DataSet),
    /// It is to be done, also where it was given up before.
    Schedule(DataSet),
    /// It is as it was ordered, whatever else the message says.
    Again,
    /// It is over.
    End(&'static str),
}

impl Inner {
    /// ORM^O01, OMI^O23: each order is put, or is over.
    pub(super) async fn take_order(&self, message: &Message, source: &Source) -> Result<(), Fault> {
        let patient = self.patient(message)?;
        let groups = groups(message)?;
        let (mut acts, mut known) = (Vec::new(), HashSet::new());
        // All of it is looked at before any of it is done.
        for group in &groups {
            let Some(control) = group.get("ORC-1") else {
                return Err(Fault::missing("ORC-1"));
            };
            let mut item = self.options.mapping.order.apply(group)?;
            let accession = item.string(tags::ACCESSION_NUMBER).unwrap_or_default().to_owned();
            if accession.is_empty() {
                let why = "the order has no Accession Number (by default OBR-18, else OBR-3 or ORC-3)";
                return Err(Fault::error(Condition::RequiredFieldMissing, why).at(at("OBR-18")));
            }
            let step = item.items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE).first();
            let step = step.and_then(|step| step.string(tags::SCHEDULED_PROCEDURE_STEP_ID));
            let step = step.unwrap_or_default().to_owned();
            let act = match control.as_str() {
                "NW" | "XO" | "SN" | "RP" | "PA" | "CH" => {
                    if !known.insert((accession.clone(), step.clone())) {
                        let why = "two orders of the message have the same Accession Number and step ID";
                        return Err(Fault::error(Condition::DuplicateKey, why).at(at("OBR-20")));
                    }
                    patient_id(&patient)?;
                    item.add_from(&patient);
                    // What is to have no value in an item need not be there.
                    let item = item.with_values();
                    match control.as_str() {
                        "PA" | "CH" => Act::Put(item),
                        _ => Act::Schedule(item),
                    }
                }
                "CA" | "OC" | "CR" | "DC" | "OD" | "DR" => Act::End(status::CANCELLED),
                // A status alone: the rest of the order need not be there.
                "SC" => match group.get("ORC-5").as_deref() {
                    Some("CA" | "DC") => Act::End(status::CANCELLED),
                    Some("CM") => Act::End(status::COMPLETED),
                    Some("SC") => Act::Again,
                    _ => continue,
                },
                _ => {
                    let why = "this order control is not taken here";
                    return Err(Fault::reject(Condition::TableValue, why).at(at("ORC-1")));
                }
            };
            acts.push((
                accession,
                step,
                act,
                group.get("OBR-20").is_some() || group.get("IPC-4").is_some(),
            ));
        }
        let mut studies = BTreeSet::new();
        for (accession, step, act, names_step) in acts {
            // Who names no step means the order.
            let named = names_step.then_some(step.as_str());
            match act {
                Act::Put(item) => {
                    self.worklist.put(item).await?;
                    studies.extend(self.study_of(&accession, &step).await?);
                }
                Act::Schedule(item) => {
                    self.worklist.schedule(item).await?;
                    studies.extend(self.study_of(&accession, &step).await?);
                }
                Act::Again => {
                    self.worklist
                        .change_status(&accession, named, status::again)
                        .await?;
                }
                Act::End(status) => self.end(&accession, named, status).await?,
            }
        }
        for study in studies {
            self.pacs.order_placed(&study, source).await?;
        }
        Ok(())
    }

    /// The study of an item, which may have been made up just now.
    async fn study_of(&self, accession: &str, step: &str) -> Result<Option<Uid>, Fault> {
        let item = self.worklist.get(accession, step).await?;
        Ok(item.and_then(|item| item.uid(tags::STUDY_INSTANCE_UID).ok()))
    }

    /// Steps of an order are over: all of them, or the one that is named. What was done stays done.
    async fn end(&self, accession: &str, step: Option<&str>, wanted: &'static str) -> Result<(), Fault> {
        let ended = |had: &str| match had {
            status::COMPLETED => None,
            // It was begun, and is not brought to its end.
            status::STARTED if wanted == status::CANCELLED => Some(status::DISCONTINUED),
            _ => Some(wanted),
        };
        let had = self.worklist.change_status(accession, step, ended).await?;
        let why = match had.iter().all(|had| had == status::COMPLETED) {
            true if had.is_empty() => "there is no such order",
            true if wanted != status::COMPLETED => "the order is done already",
            _ => return Ok(()),
        };
        Err(Fault::error(Condition::UnknownKey, why).at(at("ORC-3")))
    }
}

/// The orders of a message, each with the header, the patient and the visit: an ORC with its OBR and what follows it. An
/// OBR or IPC that follows another without an ORC between is a further step of the same order.
///
/// # Errors
/// That there is none.
pub(super) fn groups(message: &Message) -> Result<Vec<Message>, Fault> {
    let mut common: Vec<&Segment> = Vec::new();
    let mut groups: Vec<Vec<&Segment>> = Vec::new();
    let has = |group: &[&Segment], name: &str| group.iter().any(|segment| segment.name() == name);
    let bytes = |segments: &[&Segment]| segments.iter().map(|it| it.text().len()).sum::<usize>();
    let (mut copied, mut shared, mut of_all) = (0, 0, 0);
    for segment in message.segments().iter().skip(1) {
        let name = segment.name();
        let last = groups.last();
        let begun = match (name, last) {
            // What belongs to the order, and not to the step before.
            ("OBR", Some(last)) if has(last, "OBR") => Some(kept(last, &["ORC", "TQ1"])),
            ("IPC", Some(last)) if has(last, "IPC") => {
                Some(last.iter().copied().filter(|it| it.name() != "IPC").collect())
            }
            ("ORC", _) | ("OBR", None) => Some(Vec::new()),
            _ => None,
        };
        if let Some(mut group) = begun {
            copied += group.len() + common.len() + 1;
            shared += bytes(&group) + of_all;
            if groups.len() == ORDERS_MAX || copied > COPIED_MAX || shared > SHARED_MAX_BYTES {
                return Err(Fault::reject(
                    Condition::Internal,
                    "the message has too many orders",
                ));
            }
            group.push(segment);
            groups.push(group);
        } else if let Some(group) = groups.last_mut() {
            group.push(segment);
        } else {
            of_all += segment.text().len();
            common.push(segment);
        }
    }
    if groups.is_empty() {
        let why = "the message has no ORC and no OBR";
        return Err(Fault::error(Condition::SegmentSequence, why));
    }
    // One Study Instance UID (IHE RAD TF-2 4.4.4.1.2.4) that stands behind the last of several orders is of all.
    let studies: Vec<&Segment> = message
        .segments()
        .iter()
        .filter(|segment| segment.name() == "ZDS")
        .collect();
    let whole = groups.into_iter().map(|mut group| {
        if let [study] = studies[..]
            && !has(&group, "ZDS")
        {
            group.push(study);
        }
        message.part(common.iter().copied().chain(group))
    });
    Ok(whole.collect())
}

fn kept<'a>(group: &[&'a Segment], names: &[&str]) -> Vec<&'a Segment> {
    group
        .iter()
        .copied()
        .filter(|segment| names.contains(&segment.name()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_order_has_the_patient_and_its_own_segments() {
        let text = "MSH|^~\\&|A||||||ORM^O01|1|P|2.5\rPID|1\rPV1|1\rORC|NW|1\rTQ1|1\rOBR|1\rNTE|1\rOBR|2\rORC|CA|2\rOBR|3\rIPC|1\rIPC|2\rZDS|1.2\r";
        let message = Message::parse(text.as_bytes()).unwrap();
        let names: Vec<String> = groups(&message)
            .unwrap()
            .iter()
            .map(|group| {
                let names: Vec<&str> = group.segments().iter().map(Segment::name).collect();
                names.join(" ")
            })
            .collect();
        assert_eq!(
            names,
            [
                "MSH PID PV1 ORC TQ1 OBR NTE ZDS",
                "MSH PID PV1 ORC TQ1 OBR ZDS",
                "MSH PID PV1 ORC OBR IPC ZDS",
                "MSH PID PV1 ORC OBR IPC ZDS",
            ]
        );
        let none = Message::parse(b"MSH|^~\\&|A||||||ORM^O01|1|P|2.5\rPID|1\r").unwrap();
        assert!(groups(&none).is_err());
    }

    #[test]
    fn what_orders_share_is_there_once_and_read_for_so_many_as_there_is_time_for() {
        let orders = |count: usize, patient: usize| {
            let header = "MSH|^~\\&|A||||||ORM^O01|1|P|2.5\rPID|1||";
            let text = [
                header,
                &"1".repeat(patient),
                "\r",
                &"ORC|NW|1\rOBR|1\r".repeat(count),
            ]
            .concat();
            groups(&Message::parse(text.as_bytes()).unwrap())
        };
        let groups = orders(ORDERS_MAX, 1000).unwrap();
        let shared = |group: &Message| group.segments()[1].text().as_ptr();
        assert!(groups.iter().all(|group| shared(group) == shared(&groups[0])));
        // 15 GB, copied for each.
        assert!(orders(ORDERS_MAX, MESSAGE_LENGTH_MAX_BYTES - 50_000).is_err());
    }
}
