"""Comes over DICOM as one user after the other, and says what each is answered.

    access.py SERVER_PORT CREDENTIALS

The first must be allowed to store: two studies, of the physicians Heart^Anna and Bone^Bert.

CREDENTIALS is a JSON file: a list of objects with `as` (a name for the output) and either `user` and `password`, or `token`,
or neither; `ae` is the calling AE title. Prints one JSON object a line: who, what, and the status in hexadecimal, `rejected`
or `accepted`.
"""

import json
import sys

import associations  # noqa: F401  (by being imported)
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.sop_class import (
    CTImageStorage,
    ModalityPerformedProcedureStep,
    ModalityWorklistInformationFind,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind as FIND,
    StudyRootQueryRetrieveInformationModelGet as GET,
    StudyRootQueryRetrieveInformationModelMove as MOVE,
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    Verification,
)
from performed_steps import created

CLASSES = (
    Verification, FIND, MOVE, GET, ModalityWorklistInformationFind, ModalityPerformedProcedureStep,
    UnifiedProcedureStepPush, UnifiedProcedureStepPull, StorageCommitmentPushModel,
)


MINE, OTHER = "1.2.826.0.1.3680043.10.9.1", "1.2.826.0.1.3680043.10.9.2"


def instance(study=None, referring=""):
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = CTImageStorage
    made.SOPInstanceUID = generate_uid()
    made.StudyInstanceUID = study or generate_uid()
    made.ReferringPhysicianName = referring
    made.SeriesInstanceUID = generate_uid()
    made.PatientID = "STORED"
    return made


def study(uid=""):
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    keys.StudyInstanceUID = uid
    return keys


def step():
    made = Dataset()
    made.ProcedureStepState = "SCHEDULED"
    made.ScheduledProcedureStepPriority = "MEDIUM"
    made.ProcedureStepLabel = "Read"
    made.WorklistLabel = "TEST"
    made.ScheduledProcedureStepStartDateTime = "20260310120000"
    made.InputReadinessState = "READY"
    made.ScheduledStationNameCodeSequence = []
    made.InputInformationSequence = []
    made.PatientName = ""
    made.PatientID = ""
    return made


def identity(credentials):
    said = UserIdentityNegotiation()
    said.positive_response_requested = True
    if "token" in credentials:
        said.user_identity_type = 5
        said.primary_field = credentials["token"].encode()
    else:
        said.user_identity_type = 2
        said.primary_field = credentials["user"].encode()
        said.secondary_field = credentials["password"].encode()
    return said


def hexadecimal(answer):
    return f"{answer.Status:04X}" if "Status" in answer else "none"


def asked(association, received):
    """What each service answers last, and how many matches or instances there were."""
    yield "C-ECHO", hexadecimal(association.send_c_echo()), 0
    yield "C-STORE", hexadecimal(association.send_c_store(instance())), 0
    for name, model in (("C-FIND", FIND), ("worklist", ModalityWorklistInformationFind)):
        keys = study() if model is FIND else Dataset()
        if model is not FIND:
            keys.PatientName = ""
        answers = list(association.send_c_find(keys, model))
        yield name, hexadecimal(answers[-1][0]), len(answers) - 1
    for name, uid in (("C-GET of mine", MINE), ("C-GET of another", OTHER)):
        before = len(received)
        answers = list(association.send_c_get(study(uid), GET))
        yield name, hexadecimal(answers[-1][0]), len(received) - before
    answers = list(association.send_c_move(study(MINE), "NOWHERE", MOVE))
    yield "C-MOVE", hexadecimal(answers[-1][0]), 0
    status, _ = association.send_n_create(created(), ModalityPerformedProcedureStep, generate_uid())
    yield "MPPS", hexadecimal(status), 0
    uid = generate_uid()
    status, _ = association.send_n_create(step(), UnifiedProcedureStepPush, uid)
    yield "UPS create", hexadecimal(status), 0
    status, _ = association.send_n_get([], UnifiedProcedureStepPush, "1.2.3.4.5")
    yield "UPS get", hexadecimal(status), 0
    answers = list(association.send_c_find(step_keys(), UnifiedProcedureStepPull))
    yield "UPS find", hexadecimal(answers[-1][0]), len(answers) - 1
    transaction = Dataset()
    transaction.TransactionUID = generate_uid()
    transaction.ReferencedSOPSequence = [Dataset()]
    transaction.ReferencedSOPSequence[0].ReferencedSOPClassUID = CTImageStorage
    transaction.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    status, _ = association.send_n_action(transaction, 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")
    yield "commitment", hexadecimal(status), 0


def step_keys():
    keys = Dataset()
    keys.WorklistLabel = "TEST"
    keys.ProcedureStepState = ""
    return keys


def main():
    port, credentials = int(sys.argv[1]), json.load(open(sys.argv[2]))
    for who in credentials:
        ae = AE(ae_title=who.get("ae", "STRANGER"))
        for one in CLASSES:
            ae.add_requested_context(one, ExplicitVRLittleEndian)
        ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        negotiation = [build_role(CTImageStorage, scu_role=True, scp_role=True)]
        if "token" in who or "user" in who:
            negotiation.append(identity(who))
        received = []
        handlers = [(evt.EVT_C_STORE, lambda event: received.append(event.request) or 0)]
        association = ae.associate("127.0.0.1", port, ae_title="PACS", ext_neg=negotiation, evt_handlers=handlers)
        if not association.is_established:
            print(json.dumps({"who": who["as"], "what": "association", "status": "rejected", "matches": 0}))
            continue
        print(json.dumps({"who": who["as"], "what": "association", "status": "accepted", "matches": 0}))
        if who is credentials[0]:
            for study_uid, referring in ((MINE, "Heart^Anna"), (OTHER, "Bone^Bert")):
                assert association.send_c_store(instance(study_uid, referring)).Status == 0
        for what, status, matches in asked(association, received):
            print(json.dumps({"who": who["as"], "what": what, "status": status, "matches": matches}))
        association.release()


main()
