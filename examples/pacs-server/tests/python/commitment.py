"""Storage commitment (PS3.4 annex J) with pynetdicom as SCU and as SCP.

    commitment.py table SERVER_PORT OWN_PORT     asks in every way, right and wrong; prints what came of it
    commitment.py store SERVER_PORT              sends the instances that are asked for
    commitment.py ask SERVER_PORT                asks, and takes no report
    commitment.py listen OWN_PORT                prints one report, as it comes
    commitment.py provide OWN_PORT same|another REQUESTER_PORT
                                                 is SCP until its input ends, and reports on the same association or
                                                 on another one

The server knows REQUESTER at OWN_PORT. Prints one JSON object a line.
"""

import json
import sys
import threading
from queue import Queue

import associations  # noqa: F401  (by being imported)
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    MRImageStorage,
    StorageCommitmentPushModel as PUSH,
    StorageCommitmentPushModelInstance as WELL_KNOWN,
)

ROOT = "1.2.826.0.1.3680043.10.1.77."
KEPT = [f"{ROOT}{number}" for number in range(1, 5)]
# One that the test damages in the archive, by these bytes.
DAMAGED = f"{ROOT}66"
MARK = b"\xd5\xa7" * 200
WAIT = 30


def say(**row):
    print(json.dumps(row), flush=True)


def instance(uid):
    set_ = Dataset()
    set_.file_meta = FileMetaDataset()
    set_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    set_.SOPClassUID, set_.SOPInstanceUID = CTImageStorage, uid
    set_.StudyInstanceUID, set_.SeriesInstanceUID = f"{ROOT}0", f"{ROOT}0.1"
    set_.PatientID, set_.PatientName, set_.Modality = "COMMIT", "Commit^Test", "CT"
    set_.Rows = set_.Columns = 10
    set_.BitsAllocated = set_.BitsStored = 16
    set_.HighBit, set_.PixelRepresentation, set_.SamplesPerPixel = 15, 0, 1
    set_.PhotometricInterpretation = "MONOCHROME2"
    set_.PixelData = MARK if uid == DAMAGED else bytes(200)
    return set_


def associate(port, contexts, handlers=(), title="PACS", roles=()):
    ae = AE("REQUESTER")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = WAIT
    for context in contexts:
        ae.add_requested_context(context, ExplicitVRLittleEndian)
    association = ae.associate(
        "127.0.0.1", port, ae_title=title, evt_handlers=list(handlers), ext_neg=list(roles)
    )
    assert association.is_established, "no association"
    return association


def store(port):
    association = associate(port, [CTImageStorage])
    for uid in [*KEPT, DAMAGED]:
        assert association.send_c_store(instance(uid)).Status == 0, "it is not stored"
    association.release()


def reference(uid, sop_class=CTImageStorage):
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
    return item


def action(*references):
    set_ = Dataset()
    set_.TransactionUID = generate_uid()
    set_.ReferencedSOPSequence = Sequence(references)
    return set_


def without(keyword):
    set_ = action(reference(KEPT[0]))
    delattr(set_, keyword)
    return set_


def half(keyword):
    item = reference(KEPT[0])
    delattr(item, keyword)
    return action(item)


# Name, action information, and what is said otherwise in the command.
TABLE = [
    ("all kept", action(*[reference(uid) for uid in KEPT]), {}),
    ("one missing", action(reference(KEPT[0]), reference(f"{ROOT}404")), {}),
    ("all missing", action(reference(f"{ROOT}404"), reference(f"{ROOT}405")), {}),
    ("wrong class", action(reference(KEPT[0], MRImageStorage), reference(KEPT[1])), {}),
    ("no class of storage", action(reference(f"{ROOT}406", "1.2.840.10008.1.1")), {}),
    ("damaged", action(reference(DAMAGED), reference(KEPT[0])), {}),
    ("duplicates", action(*[reference(KEPT[0])] * 3, reference(KEPT[1])), {}),
    ("empty sequence", action(), {}),
    ("no sequence", without("ReferencedSOPSequence"), {}),
    ("no transaction UID", without("TransactionUID"), {}),
    ("no class UID", half("ReferencedSOPClassUID"), {}),
    ("no instance UID", half("ReferencedSOPInstanceUID"), {}),
    ("wrong instance UID", action(reference(KEPT[0])), {"instance_uid": "1.2.3"}),
    ("wrong action type", action(reference(KEPT[0])), {"action_type": 2}),
]


def described(event):
    """The row of an N-EVENT-REPORT."""
    information = event.event_information
    request = event.request
    return {
        "event": request.EventTypeID,
        "well_known": request.AffectedSOPInstanceUID == WELL_KNOWN and request.AffectedSOPClassUID == PUSH,
        "transaction": str(information.TransactionUID),
        "retrieve_ae": information.get("RetrieveAETitle"),
        "committed": sorted(str(it.ReferencedSOPInstanceUID) for it in information.get("ReferencedSOPSequence", [])),
        "failed": {
            str(it.ReferencedSOPInstanceUID): f"{it.FailureReason:04X}"
            for it in information.get("FailedSOPSequence", [])
        },
    }


def listening(port, reports):
    def report(event):
        role = event.assoc.acceptor.role_selection.get(PUSH)
        reports.put(described(event) | {"roles": role is not None and not role.scu_role and role.scp_role})
        return 0x0000, None

    ae = AE("REQUESTER")
    ae.add_supported_context(PUSH, ExplicitVRLittleEndian, scu_role=False, scp_role=True)
    return ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, report)])


def ask(association, set_, otherwise):
    said = {"action_type": 1, "class_uid": PUSH, "instance_uid": WELL_KNOWN} | otherwise
    status, _ = association.send_n_action(set_, **said)
    return f"{status.Status:04X}"


def table(port, own_port):
    reports = Queue()
    server = listening(own_port, reports)

    def same(event):
        reports.put(described(event))
        return 0x0000, None

    for name, set_, otherwise in TABLE:
        for mode in ("same", "another"):
            if "TransactionUID" in set_:
                set_.TransactionUID = generate_uid()
            handlers = [(evt.EVT_N_EVENT_REPORT, same)] if mode == "same" else []
            association = associate(port, [PUSH], handlers)
            row = {"case": name, "mode": mode, "status": ask(association, set_, otherwise)}
            if mode == "another":
                association.release()
            if row["status"] == "0000":
                row |= {"report": reports.get(timeout=WAIT)}
                row["transaction"] = row["report"]["transaction"] == str(set_.TransactionUID)
            if mode == "same":
                association.release()
            say(**row)
    assert reports.empty(), "a report came twice"
    server.shutdown()


def listen(port):
    reports = Queue()
    server = listening(port, reports)
    say(listening=True)
    say(**reports.get(timeout=WAIT))
    server.shutdown()


def provide(port, mode, requester_port):
    """An SCP that keeps everything but what ends with .404."""
    asked = {}

    def take(event):
        asked[event.assoc] = event.action_information
        return 0x0000, None

    def report(information):
        items = information.ReferencedSOPSequence
        failed = [it for it in items if str(it.ReferencedSOPInstanceUID).endswith(".404")]
        for it in failed:
            it.FailureReason = 0x0112
        set_ = Dataset()
        set_.TransactionUID = information.TransactionUID
        set_.ReferencedSOPSequence = Sequence([it for it in items if it not in failed])
        if failed:
            set_.FailedSOPSequence = Sequence(failed)
        return set_, 2 if failed else 1

    def send(association, information):
        set_, event_type = report(information)
        status, _ = association.send_n_event_report(set_, event_type, PUSH, WELL_KNOWN)
        say(answered=f"{status.Status:04X}")

    def sent(event):
        if mode == "same" and type(event.message).__name__ == "N_ACTION_RSP":
            information = asked.pop(event.assoc)
            threading.Thread(target=send, args=(event.assoc, information)).start()

    def later(information):
        role = build_role(PUSH, scu_role=False, scp_role=True)
        association = associate(requester_port, [PUSH], title="REQUESTER", roles=[role])
        send(association, information)
        association.release()

    def released(event):
        if mode == "another" and event.assoc in asked:
            threading.Thread(target=later, args=(asked.pop(event.assoc),)).start()

    ae = AE("KEEPER")
    ae.add_supported_context(PUSH, ExplicitVRLittleEndian)
    handlers = [(evt.EVT_N_ACTION, take), (evt.EVT_DIMSE_SENT, sent), (evt.EVT_RELEASED, released)]
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    say(listening=True)
    sys.stdin.read()
    server.shutdown()


def main():
    command, port, *rest = sys.argv[1:]
    port = int(port)
    if command == "table":
        table(port, int(rest[0]))
    elif command == "store":
        store(port)
    elif command == "ask":
        association = associate(port, [PUSH])
        set_ = action(*[reference(uid) for uid in KEPT])
        status = ask(association, set_, {})
        association.release()
        say(status=status, transaction=str(set_.TransactionUID))
    elif command == "listen":
        listen(port)
    else:
        provide(port, rest[0], int(rest[1]))


main()
