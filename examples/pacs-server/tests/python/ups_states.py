"""Unified procedure steps by pynetdicom: each request to a step in each state, and the events that come of it.

    ups_states.py SERVER_PORT DESTINATION_PORT

The server knows this client as DESTINATION. Prints one JSON object a line: {"request", "state", "status"} for each
request, then {"events": [[type, state], ...]} as they came for one step from its creation to its end.
"""

import json
import queue
import sys
import time
import warnings

import associations  # noqa: F401  (by being imported)
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    UnifiedProcedureStepEvent,
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepQuery,
    UnifiedProcedureStepWatch,
)

warnings.simplefilter("ignore")

GLOBAL = "1.2.840.10008.5.1.4.34.5"
RIGHT, WRONG = generate_uid(), generate_uid()
STATES = ["none", "SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED"]


def code(value):
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = "99TEST"
    item.CodeMeaning = "a test"
    return item


def step():
    ds = Dataset()
    ds.TransactionUID = ""
    ds.ProcedureStepState = "SCHEDULED"
    ds.ProcedureStepLabel = "Reading"
    ds.WorklistLabel = "READING"
    ds.ScheduledProcedureStepPriority = "HIGH"
    ds.ScheduledProcedureStepStartDateTime = "20240229101530"
    ds.InputReadinessState = "READY"
    ds.CommentsOnTheScheduledProcedureStep = ""
    for keyword in (
        "ScheduledProcessingParametersSequence",
        "ScheduledStationNameCodeSequence",
        "ScheduledStationClassCodeSequence",
        "ScheduledStationGeographicLocationCodeSequence",
        "ScheduledWorkitemCodeSequence",
        "InputInformationSequence",
        "IssuerOfPatientIDQualifiersSequence",
        "OtherPatientIDsSequence",
        "IssuerOfAdmissionIDSequence",
        "AdmittingDiagnosesCodeSequence",
        "ReferencedRequestSequence",
        "ProcedureStepProgressInformationSequence",
        "UnifiedProcedureStepPerformedProcedureSequence",
    ):
        setattr(ds, keyword, Sequence())
    ds.PatientName = "Doe^Jane"
    ds.PatientID = "P1"
    for keyword in ("IssuerOfPatientID", "PatientBirthDate", "PatientSex", "AdmissionID"):
        setattr(ds, keyword, "")
    ds.AdmittingDiagnosesDescription = ""
    return ds


def performed():
    item = Dataset()
    item.PerformedStationNameCodeSequence = [code("STATION")]
    item.PerformedWorkitemCodeSequence = [code("110005")]
    item.PerformedProcedureStepStartDateTime = "20240229103000"
    item.PerformedProcedureStepEndDateTime = "20240229104500"
    item.OutputInformationSequence = Sequence()
    ds = Dataset()
    ds.UnifiedProcedureStepPerformedProcedureSequence = [item]
    progress = Dataset()
    progress.ProcedureStepDiscontinuationReasonCodeSequence = [code("110513")]
    ds.ProcedureStepProgressInformationSequence = [progress]
    return ds


class Client:
    def __init__(self, port):
        ae = AE("DESTINATION")
        for context in (
            UnifiedProcedureStepPush,
            UnifiedProcedureStepPull,
            UnifiedProcedureStepWatch,
            UnifiedProcedureStepQuery,
        ):
            ae.add_requested_context(context)
        self.association = ae.associate("127.0.0.1", port, ae_title="PACS")
        assert self.association.is_established

    def ready(self):
        # pynetdicom's own thread, when it wakes up late, takes the responses of the next request away.
        while self.association._is_paused:
            time.sleep(0.001)
        return self.association

    def create(self, uid, ds=None):
        status, _ = self.ready().send_n_create(ds or step(), UnifiedProcedureStepPush, uid)
        return status.Status

    def set(self, uid, ds, transaction=None):
        if transaction:
            ds.TransactionUID = transaction
        status, _ = self.ready().send_n_set(
            ds, UnifiedProcedureStepPush, uid, meta_uid=UnifiedProcedureStepPull
        )
        return status.Status

    def get(self, uid):
        status, ds = self.ready().send_n_get(
            [], UnifiedProcedureStepPush, uid, meta_uid=UnifiedProcedureStepPull
        )
        assert ds is None or "TransactionUID" not in ds
        return status.Status

    def act(self, uid, action, ds, meta):
        status, _ = self.ready().send_n_action(ds, action, UnifiedProcedureStepPush, uid, meta_uid=meta)
        return status.Status

    def change(self, uid, state, transaction):
        ds = Dataset()
        ds.ProcedureStepState = state
        if transaction:
            ds.TransactionUID = transaction
        return self.act(uid, 1, ds, UnifiedProcedureStepPull)

    def cancel(self, uid):
        ds = Dataset()
        ds.ReasonForCancellation = "not needed"
        return self.act(uid, 2, ds, UnifiedProcedureStepWatch)

    def watch(self, uid, action, receiver="DESTINATION", lock="FALSE"):
        ds = Dataset()
        ds.ReceivingAE = receiver
        if action == 3:
            ds.DeletionLock = lock
        return self.act(uid, action, ds, UnifiedProcedureStepWatch)

    def find(self, uid):
        ds = Dataset()
        ds.SOPInstanceUID = uid
        ds.ProcedureStepState = ""
        found = []
        for status, answer in self.ready().send_c_find(ds, UnifiedProcedureStepQuery):
            if status.Status == 0xFF00:
                found.append(answer.ProcedureStepState)
        return len(found)


def labelled():
    ds = Dataset()
    ds.ProcedureStepLabel = "Another label"
    return ds


def state_itself():
    ds = Dataset()
    ds.ProcedureStepState = "SCHEDULED"
    return ds


REQUESTS = {
    "create": lambda c, uid: c.create(uid),
    "get": lambda c, uid: c.get(uid),
    "find": lambda c, uid: c.find(uid),
    "claim": lambda c, uid: c.change(uid, "IN PROGRESS", RIGHT),
    "claim by another": lambda c, uid: c.change(uid, "IN PROGRESS", WRONG),
    "claim without": lambda c, uid: c.change(uid, "IN PROGRESS", None),
    "schedule": lambda c, uid: c.change(uid, "SCHEDULED", RIGHT),
    "complete": lambda c, uid: c.change(uid, "COMPLETED", RIGHT),
    "complete by another": lambda c, uid: c.change(uid, "COMPLETED", WRONG),
    "cancel": lambda c, uid: c.change(uid, "CANCELED", RIGHT),
    "cancel by another": lambda c, uid: c.change(uid, "CANCELED", WRONG),
    "request cancel": lambda c, uid: c.cancel(uid),
    "set": lambda c, uid: c.set(uid, labelled(), RIGHT),
    "set by another": lambda c, uid: c.set(uid, labelled(), WRONG),
    "set without": lambda c, uid: c.set(uid, labelled()),
    "set the state": lambda c, uid: c.set(uid, state_itself()),
    "subscribe": lambda c, uid: c.watch(uid, 3),
    "subscribe a stranger": lambda c, uid: c.watch(uid, 3, receiver="STRANGER"),
    "unsubscribe": lambda c, uid: c.watch(uid, 4),
    "suspend": lambda c, uid: c.watch(uid, 5),
}


def in_state(client, state):
    uid = generate_uid()
    if state == "none":
        return uid
    assert client.create(uid) == 0
    if state != "SCHEDULED":
        assert client.change(uid, "IN PROGRESS", RIGHT) == 0
        assert client.set(uid, performed(), RIGHT) == 0
        if state != "IN PROGRESS":
            assert client.change(uid, state, RIGHT) == 0
    return uid


def main():
    port, here = int(sys.argv[1]), int(sys.argv[2])
    client = Client(port)
    for name, request in REQUESTS.items():
        for state in STATES:
            uid = in_state(client, state)
            print(json.dumps({"request": name, "state": state, "status": request(client, uid)}))

    # What is not finished: attributes that a final state needs, and those that a step needs.
    uid = generate_uid()
    assert client.create(uid) == 0
    assert client.change(uid, "IN PROGRESS", RIGHT) == 0
    for final in ("COMPLETED", "CANCELED"):
        status = client.change(uid, final, RIGHT)
        print(json.dumps({"request": f"{final} too early", "state": "IN PROGRESS", "status": status}))
    for keyword, value in (
        ("ProcedureStepLabel", None),
        ("ProcedureStepLabel", ""),
        ("ProcedureStepState", "IN PROGRESS"),
        ("ScheduledWorkitemCodeSequence", None),
    ):
        ds = step()
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
        status = client.create(generate_uid(), ds)
        print(json.dumps({"request": f"create with {keyword} {value}", "state": "none", "status": status}))

    # Events, to an acceptor that knows of the role selection. Those of the steps above are dropped.
    events = queue.Queue()

    def taken(event):
        info = event.event_information
        said = info.get("ProcedureStepState") or info.get("RequestingAE") or info.get("SCPStatus")
        events.put((str(event.request.AffectedSOPInstanceUID), event.event_type, said))
        return 0x0000, None

    listener = AE("DESTINATION")
    listener.add_supported_context(UnifiedProcedureStepEvent, scu_role=False, scp_role=True)
    server = listener.start_server(
        ("127.0.0.1", here), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, taken)]
    )
    assert client.watch(GLOBAL, 3) == 0
    uid = generate_uid()
    assert client.create(uid) == 0
    assert client.change(uid, "IN PROGRESS", RIGHT) == 0
    progress = Dataset()
    progress.ProcedureStepProgress = "50"
    ds = Dataset()
    ds.ProcedureStepProgressInformationSequence = [progress]
    assert client.set(uid, ds, RIGHT) == 0
    assert client.cancel(uid) == 0
    assert client.set(uid, performed(), RIGHT) == 0
    assert client.change(uid, "CANCELED", RIGHT) == 0
    told = []
    while not told or told[-1][1] != "CANCELED":
        which, kind, said = events.get(timeout=60)
        if which == uid:
            told.append((kind, str(said)))
    print(json.dumps({"events": told}))
    client.association.release()
    server.shutdown()


main()
