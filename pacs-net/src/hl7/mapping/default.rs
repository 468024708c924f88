//! The mapping where nobody says otherwise: IHE RAD TF-2x appendix B, tables B-1 (orders) and B-2 (patients), with the
//! places where systems that don't follow it have the same.

use super::read::rule;
use super::{Mapping, Table};

const PATIENT: &[(&str, &str)] = &[
    ("PatientName", "PID-5 name"),
    ("PatientID", "PID-3 id"),
    ("IssuerOfPatientID", "PID-3 issuer"),
    ("PatientBirthDate", "PID-7 date"),
    ("PatientSex", "PID-8 sex"),
];

const ORDER: &[(&str, &str)] = &[
    ("StudyInstanceUID", "IPC-3 id or ZDS-1 id"),
    ("AccessionNumber", "IPC-1 id or OBR-18 id or OBR-3 id or ORC-3 id"),
    (
        "RequestedProcedureID",
        "IPC-2 id or OBR-19 id or IPC-1 id or OBR-18 id or OBR-3 id or ORC-3 id",
    ),
    ("RequestedProcedureDescription", "OBR-44.2 or OBR-4.2 or OBR-4.1"),
    ("RequestedProcedureCodeSequence", "OBR-44 code or OBR-4 code"),
    (
        "RequestedProcedurePriority",
        "TQ1-9 priority or OBR-27.6 priority or ORC-7.6 priority or OBR-5 priority",
    ),
    ("ReasonForTheRequestedProcedure", "OBR-31.2 or OBR-31.1"),
    ("PatientTransportArrangements", "OBR-30"),
    ("ReferringPhysicianName", "PV1-8 person"),
    ("RequestingPhysician", "OBR-16 person or ORC-12 person"),
    ("RequestingService", "ORC-17.2 or ORC-17.1"),
    ("OrderEnteredBy", "ORC-10 person"),
    ("OrderCallbackPhoneNumber", "ORC-14"),
    ("PlacerOrderNumberImagingServiceRequest", "ORC-2 id or OBR-2 id"),
    ("FillerOrderNumberImagingServiceRequest", "ORC-3 id or OBR-3 id"),
    ("AdmissionID", "PV1-19 id or PID-18 id"),
    ("CurrentPatientLocation", "PV1-3"),
    ("PatientState", "OBR-12.2 or OBR-12.1"),
    ("AdditionalPatientHistory", "OBR-13"),
    (
        "ScheduledProcedureStepSequence.Modality",
        "IPC-5 or OBR-24 or 'OT'",
    ),
    ("ScheduledProcedureStepSequence.ScheduledStationAETitle", "IPC-9"),
    ("ScheduledProcedureStepSequence.ScheduledStationName", "IPC-7"),
    (
        "ScheduledProcedureStepSequence.ScheduledProcedureStepLocation",
        "IPC-8",
    ),
    (
        "ScheduledProcedureStepSequence.ScheduledProcedureStepStartDate",
        "TQ1-7 date or OBR-27.4 date or ORC-7.4 date or OBR-36 date or OBR-6 date or MSH-7 date",
    ),
    (
        "ScheduledProcedureStepSequence.ScheduledProcedureStepStartTime",
        "TQ1-7 time or OBR-27.4 time or ORC-7.4 time or OBR-36 time or OBR-6 time or MSH-7 time",
    ),
    (
        "ScheduledProcedureStepSequence.ScheduledPerformingPhysicianName",
        "OBR-34.1 person",
    ),
    (
        "ScheduledProcedureStepSequence.ScheduledProcedureStepID",
        "IPC-4 id or OBR-20 id or IPC-2 id or OBR-19 id or IPC-1 id or OBR-18 id or OBR-3 id or ORC-3 id",
    ),
    (
        "ScheduledProcedureStepSequence.ScheduledProcedureStepDescription",
        "IPC-6.2 or OBR-4.5 or OBR-44.2 or OBR-4.2",
    ),
    (
        "ScheduledProcedureStepSequence.ScheduledProtocolCodeSequence",
        "IPC-6 code or OBR-4.4 code or OBR-4 code",
    ),
];

impl Default for Mapping {
    fn default() -> Self {
        Self {
            patient: table(PATIENT),
            order: table(ORDER),
        }
    }
}

fn table(rules: &[(&str, &str)]) -> Table {
    let mut table = Table::default();
    for (attribute, origins) in rules {
        match rule(attribute, origins) {
            Ok(rule) => table.put(rule),
            // The rules are constants, and the test below reads them all.
            Err(why) => unreachable!("{why}"),
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_can_be_read() {
        let mapping = Mapping::default();
        assert_eq!(
            (mapping.patient.rules.len(), mapping.order.rules.len()),
            (PATIENT.len(), ORDER.len())
        );
    }
}
