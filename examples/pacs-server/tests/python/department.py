"""What devices and people of a department do, with pynetdicom.

    department.py SERVER_PORT begin|end STEP STUDY
    department.py SERVER_PORT commit DIRECTORY
    department.py SERVER_PORT report STUDY ACCESSION PATIENT

Prints one JSON object a line.
"""

import json
import pathlib
import sys
import threading

import associations  # noqa: F401  (by being imported)
from performed_steps import created, ended
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    BasicTextSRStorage,
    ModalityPerformedProcedureStep as PERFORMED,
    StorageCommitmentPushModel as COMMITMENT,
    StorageCommitmentPushModelInstance as WELL_KNOWN,
)


def associate(port, sop_class, handlers=()):
    ae = AE("MODALITY")
    ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", port, ae_title="PACS", evt_handlers=list(handlers))
    assert association.is_established
    return association


def begin(port, step, study):
    attributes = created()
    scheduled = attributes.ScheduledStepAttributesSequence[0]
    scheduled.StudyInstanceUID = study
    scheduled.AccessionNumber = "A 7"
    scheduled.RequestedProcedureID = "RP7"
    scheduled.ScheduledProcedureStepID = "SPS7"
    attributes.PatientID = "P 7"
    association = associate(port, PERFORMED)
    status, _ = association.send_n_create(attributes, PERFORMED, step)
    association.release()
    return {"status": status.Status}


def end(port, step, study):
    association = associate(port, PERFORMED)
    status, _ = association.send_n_set(ended("COMPLETED"), PERFORMED, step)
    association.release()
    return {"status": status.Status}


def commit(port, directory):
    request = Dataset()
    request.TransactionUID = generate_uid()
    request.ReferencedSOPSequence = []
    for path in sorted(pathlib.Path(directory).iterdir()):
        instance = dcmread(path, stop_before_pixels=True)
        item = Dataset()
        item.ReferencedSOPClassUID = instance.SOPClassUID
        item.ReferencedSOPInstanceUID = instance.SOPInstanceUID
        request.ReferencedSOPSequence.append(item)
    reported, report = threading.Event(), {}

    def on_report(event):
        report["event"] = event.event_type
        report["committed"] = len(event.event_information.ReferencedSOPSequence)
        reported.set()
        return 0x0000, None

    association = associate(port, COMMITMENT, [(evt.EVT_N_EVENT_REPORT, on_report)])
    status, _ = association.send_n_action(request, 1, COMMITMENT, WELL_KNOWN)
    assert reported.wait(60)
    association.release()
    return {"status": status.Status, **report}


def report(port, study, accession, patient):
    document = Dataset()
    document.SOPClassUID = BasicTextSRStorage
    document.SOPInstanceUID = study + ".77.1"
    document.StudyInstanceUID = study
    document.SeriesInstanceUID = study + ".77"
    document.Modality = "SR"
    document.PatientName = "Order^Jane"
    document.PatientID = patient
    document.PatientBirthDate = ""
    document.PatientSex = "O"
    document.StudyDate = document.ContentDate = "20260102"
    document.StudyTime = document.ContentTime = "0500"
    document.StudyID = ""
    document.AccessionNumber = accession
    document.ReferringPhysicianName = ""
    document.SeriesNumber = "77"
    document.InstanceNumber = "1"
    document.Manufacturer = ""
    document.ReferencedPerformedProcedureStepSequence = []
    document.PerformedProcedureCodeSequence = []
    document.CompletionFlag = "COMPLETE"
    document.VerificationFlag = "VERIFIED"
    observer = Dataset()
    observer.VerifyingObserverName = "Reader^R"
    observer.VerifyingOrganization = "Department"
    observer.VerificationDateTime = "20260102050000"
    observer.VerifyingObserverIdentificationCodeSequence = []
    document.VerifyingObserverSequence = [observer]
    document.ValueType = "CONTAINER"
    document.ContinuityOfContent = "SEPARATE"
    document.ConceptNameCodeSequence = [code("18748-4", "LN", "Diagnostic imaging report")]
    finding = Dataset()
    finding.RelationshipType = "CONTAINS"
    finding.ValueType = "TEXT"
    finding.ConceptNameCodeSequence = [code("121071", "DCM", "Finding")]
    finding.TextValue = "A bleeding of the department's phantom"
    document.ContentSequence = [finding]
    document.file_meta = FileMetaDataset()
    document.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    association = associate(port, BasicTextSRStorage)
    status = association.send_c_store(document)
    association.release()
    return {"status": status.Status}


def code(value, scheme, meaning):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


if __name__ == "__main__":
    does = {"begin": begin, "end": end, "commit": commit, "report": report}
    print(json.dumps(does[sys.argv[2]](int(sys.argv[1]), *sys.argv[3:])))
