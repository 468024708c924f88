//! Procedure steps for tests.

use dicom_core::VR;
use dicom_dictionary_std::tags;

use crate::dataset::DataSet;

/// A unified procedure step to be created, with what an SCP requires (PS3.4 table CC.2.5-3).
pub fn step() -> DataSet {
    let mut set = DataSet::new();
    for (tag, vr, text) in [
        (tags::PROCEDURE_STEP_STATE, VR::CS, "SCHEDULED"),
        (tags::PROCEDURE_STEP_LABEL, VR::LO, "Reading"),
        (tags::SCHEDULED_PROCEDURE_STEP_PRIORITY, VR::CS, "HIGH"),
        (
            tags::SCHEDULED_PROCEDURE_STEP_START_DATE_TIME,
            VR::DT,
            "20240229101530",
        ),
        (tags::INPUT_READINESS_STATE, VR::CS, "READY"),
        (tags::PATIENT_NAME, VR::PN, "Müller^Jürgen"),
        (tags::PATIENT_ID, VR::LO, "P1"),
    ] {
        set.put_text(tag, vr, text);
    }
    set
}

/// What its performer says of a step when it is done.
pub fn performed() -> DataSet {
    let code = |value| vec![DataSet::code(value, "99TEST", "a test")];
    let mut item = DataSet::new();
    item.put_items(tags::PERFORMED_STATION_NAME_CODE_SEQUENCE, code("STATION"));
    item.put_items(tags::PERFORMED_WORKITEM_CODE_SEQUENCE, code("110005"));
    for (tag, time) in [
        (tags::PERFORMED_PROCEDURE_STEP_START_DATE_TIME, "20240229103000"),
        (tags::PERFORMED_PROCEDURE_STEP_END_DATE_TIME, "20240229104500"),
    ] {
        item.put_text(tag, VR::DT, time);
    }
    item.put_items(tags::OUTPUT_INFORMATION_SEQUENCE, Vec::new());
    let mut set = DataSet::new();
    set.put_items(
        tags::UNIFIED_PROCEDURE_STEP_PERFORMED_PROCEDURE_SEQUENCE,
        vec![item],
    );
    set
}
