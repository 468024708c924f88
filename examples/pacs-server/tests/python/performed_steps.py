"""Brings modality performed procedure steps into each state, makes each request in it, and says what is answered.

    performed_steps.py SERVER_PORT

Prints one JSON object a line for each state and request: the status, and the Error ID where there is one.
"""

import json
import sys

import associations  # noqa: F401  (by being imported)
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import (
    ModalityPerformedProcedureStep as PERFORMED,
    ModalityPerformedProcedureStepRetrieve as RETRIEVE,
)


def created(status="IN PROGRESS"):
    """What table F.7.2-1 of PS3.4 requires of an N-CREATE."""
    scheduled = Dataset()
    scheduled.StudyInstanceUID = "2.25.4711"
    scheduled.ReferencedStudySequence = []
    scheduled.AccessionNumber = "A1"
    scheduled.RequestedProcedureID = "RP1"
    scheduled.RequestedProcedureDescription = ""
    scheduled.ScheduledProcedureStepID = "S1"
    scheduled.ScheduledProcedureStepDescription = ""
    scheduled.ScheduledProtocolCodeSequence = []
    step = Dataset()
    step.ScheduledStepAttributesSequence = [scheduled]
    step.PatientName = "Doe^Jane"
    step.PatientID = "P1"
    step.PatientBirthDate = ""
    step.PatientSex = "F"
    step.ReferencedPatientSequence = []
    step.PerformedProcedureStepID = "PPS1"
    step.PerformedStationAETitle = "CT1"
    step.PerformedStationName = ""
    step.PerformedLocation = ""
    step.PerformedProcedureStepStartDate = "20260310"
    step.PerformedProcedureStepStartTime = "1031"
    step.PerformedProcedureStepStatus = status
    step.PerformedProcedureStepDescription = ""
    step.PerformedProcedureTypeDescription = ""
    step.ProcedureCodeSequence = []
    step.PerformedProcedureStepEndDate = ""
    step.PerformedProcedureStepEndTime = ""
    step.Modality = "CT"
    step.StudyID = ""
    step.PerformedProtocolCodeSequence = []
    step.PerformedSeriesSequence = []
    return step


def ended(status):
    """What is said with a final state."""
    image = Dataset()
    image.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    image.ReferencedSOPInstanceUID = "2.25.4713"
    series = Dataset()
    series.PerformingPhysicianName = ""
    series.ProtocolName = "Head"
    series.OperatorsName = ""
    series.SeriesInstanceUID = "2.25.4712"
    series.SeriesDescription = ""
    series.RetrieveAETitle = ""
    series.ReferencedImageSequence = [image]
    series.ReferencedNonImageCompositeSOPInstanceSequence = []
    step = Dataset()
    step.PerformedProcedureStepStatus = status
    step.PerformedProcedureStepEndDate = "20260310"
    step.PerformedProcedureStepEndTime = "1045"
    step.PerformedSeriesSequence = [series]
    return step


def one(keyword, value):
    step = Dataset()
    setattr(step, keyword, value)
    return step


def without(step, keyword):
    delattr(step, keyword)
    return step


association = None


def create(step, instance):
    return association.send_n_create(step, PERFORMED, instance)[0]


def change(step, instance):
    return association.send_n_set(step, PERFORMED, instance)[0]


def get(tags, instance):
    status, step = association.send_n_get(tags, RETRIEVE, instance)
    if status.Status == 0x0000:
        assert step.PatientID == "P1", "another step is answered"
    return status


REQUESTS = {
    "create": lambda instance: create(created(), instance),
    "create COMPLETED": lambda instance: create(created("COMPLETED"), instance),
    "create without a station": lambda instance: create(
        without(created(), "PerformedStationAETitle"), instance
    ),
    "set IN PROGRESS": lambda instance: change(
        one("PerformedProcedureStepStatus", "IN PROGRESS"), instance
    ),
    "set COMPLETED": lambda instance: change(ended("COMPLETED"), instance),
    "set DISCONTINUED": lambda instance: change(ended("DISCONTINUED"), instance),
    "set COMPLETED without a series": lambda instance: change(
        without(ended("COMPLETED"), "PerformedSeriesSequence"), instance
    ),
    "set an unknown status": lambda instance: change(
        one("PerformedProcedureStepStatus", "SUSPENDED"), instance
    ),
    "set a description": lambda instance: change(
        one("PerformedProcedureStepDescription", "CT of the head"), instance
    ),
    "set the patient": lambda instance: change(one("PatientID", "P2"), instance),
    "get": lambda instance: get([], instance),
}

STATES = {
    "none": [],
    "IN PROGRESS": ["create"],
    "COMPLETED": ["create", "set COMPLETED"],
    "DISCONTINUED": ["create", "set DISCONTINUED"],
}


def main():
    global association
    entity = AE(ae_title="MODALITY")
    entity.add_requested_context(PERFORMED)
    entity.add_requested_context(RETRIEVE)
    association = entity.associate("127.0.0.1", int(sys.argv[1]), ae_title="PACS")
    assert association.is_established, "no association"
    for state, way in STATES.items():
        for name, request in REQUESTS.items():
            instance = generate_uid()
            for step in way:
                assert REQUESTS[step](instance).Status == 0, f"{step} fails"
            status = request(instance)
            error = status.get("ErrorID")
            answer = {"state": state, "request": name, "status": f"{status.Status:04X}"}
            if error is not None:
                answer["error"] = f"{error:04X}"
            print(json.dumps(answer))
    association.release()


if __name__ == "__main__":
    main()
