"""Sends every file of pydicom and pydicom-data, and fetches each one that was taken back by C-GET and by
C-MOVE.

    roundtrip.py [--sender pynetdicom|storescu|dcmsend] [--keep DIR] SERVER_PORT DESTINATION_PORT [DIR...]

pynetdicom sends the very bytes of the file. DCMTK's senders read a file and encode it anew, so what they
send goes to the destination first, and what the server gives back is held against that.

The server knows DESTINATION at DESTINATION_PORT. With --keep, the data sets that C-GET brings are written
there. With directories, their files go instead of pydicom's. Prints one JSON object a line for each file.
"""

import argparse
import json
import time
from io import BytesIO
from pathlib import Path

import associations  # noqa: F401  (by being imported)
import dcmtk
from files import groups, items
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role, evt, _config
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelGet as GET,
    StudyRootQueryRetrieveInformationModelMove as MOVE,
)

_config.UNRESTRICTED_STORAGE_SERVICE = True

CONTEXTS_MAX = 128
UIDS_A_REQUEST = 32
SERVER = "PACS"
DESTINATION = "DESTINATION"


def associate(port, kinds, extra=(), handlers=(), scp=False):
    ae = AE("ROUNDTRIP")
    ae.maximum_pdu_size = 128 * 1024
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    contexts = [build_context(uid) for uid in extra] + [build_context(c, [t]) for c, t in kinds]
    roles = [build_role(uid, scp_role=True, scu_role=False) for uid in {c for c, _ in kinds}] if scp else []
    association = ae.associate(
        "127.0.0.1", port, contexts, SERVER, ext_neg=roles, evt_handlers=list(handlers)
    )
    assert association.is_established, "the server takes no association"
    return association


def ready(association):
    """Waits until pynetdicom's own thread has noticed that the last request is over: one that wakes up
    during the next request takes the response away from it."""
    while association._is_paused:
        time.sleep(0.001)


def send(association, item, message_id):
    """One C-STORE of the very bytes: pynetdicom's own service would encode the data set anew."""
    context = next(
        (
            context
            for context in association.accepted_contexts
            if (context.abstract_syntax, context.transfer_syntax[0]) == item.kind
        ),
        None,
    )
    if context is None:
        return None, "its SOP class is not taken"
    request = C_STORE()
    request.MessageID = message_id
    request.AffectedSOPClassUID = item.sop_class
    request.AffectedSOPInstanceUID = item.sop_instance
    request.Priority = 2
    request.DataSet = BytesIO(item.data_set)
    ready(association)
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.001)
    association.dimse.send_msg(request, context.context_id)
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    if response is None:
        return None, "the association ended"
    return response.Status, response.ErrorComment or ""


def identifier(level, uids):
    """A list of UIDs asks for all of them (PS3.4 C.2.2.2.2)."""
    keys = Dataset()
    keys.QueryRetrieveLevel = level
    setattr(keys, "StudyInstanceUID" if level == "STUDY" else "SOPInstanceUID", uids)
    return keys


def receiver(into):
    """Takes the bytes of a C-STORE as they come."""

    def handle(event):
        data_set = event.encoded_dataset(include_meta=False)
        into[str(event.request.AffectedSOPInstanceUID)] = (data_set, event.context.transfer_syntax)
        return 0x0000

    return handle


def finish(responses):
    """Reads the responses of a retrieval up to the final one."""
    status = None
    for status, _ in responses:
        pass
    return status.get("Status") if status else None


def store(port, wave):
    """Sends a wave; answers what was taken."""
    kept = []
    for kinds in groups(sorted({item.kind for _, item in wave}), CONTEXTS_MAX):
        association = associate(port, kinds)
        for number, (row, item) in enumerate(wave):
            if item.kind not in kinds:
                continue
            status, comment = send(association, item, number % 65535 + 1)
            row["status"] = status
            row["reason"] = comment
            if status is not None and (status == 0 or status >> 12 == 0xB):
                kept.append((row, item))
            if not association.is_established:
                association = associate(port, kinds)
        association.release()
    return kept


def get(port, kept):
    """Fetches the instances, some with each request: pynetdicom takes long over one."""
    got = {}
    for kinds in groups(sorted({item.kind for _, item in kept}), CONTEXTS_MAX - 1):
        association = associate(port, kinds, [GET], [(evt.EVT_C_STORE, receiver(got))], scp=True)
        some = [(row, item) for row, item in kept if item.kind in kinds]
        for batch in groups(some, UIDS_A_REQUEST):
            ready(association)
            keys = identifier("IMAGE", [item.sop_instance for _, item in batch])
            status = finish(association.send_c_get(keys, GET))
            for row, _ in batch:
                row["get_status"] = status
        association.release()
    return got


def move(port, kept):
    """Has every study sent to the destination."""
    association = associate(port, [], [MOVE])
    # pydicom misses the study of a damaged file.
    by_study = [(row, item) for row, item in kept if item.study]
    by_instance = [(row, item) for row, item in kept if not item.study]
    for level, some in (("STUDY", by_study), ("IMAGE", by_instance)):
        for batch in groups(some, UIDS_A_REQUEST):
            uids = {item.study if level == "STUDY" else item.sop_instance for _, item in batch}
            ready(association)
            status = finish(association.send_c_move(identifier(level, sorted(uids)), DESTINATION, MOVE))
            for row, _ in batch:
                row["move_status"] = status
    association.release()


def store_by_dcmtk(sender, port, wave, reference_port, reference, others):
    """Has DCMTK send a wave, to the destination and to the server; answers what was taken."""
    kinds = {item.kind for _, item in wave}
    paths = [item.path for _, item in wave] + [path for _, path in others]
    assert len(kinds) <= CONTEXTS_MAX, "a wave does not fit on one association"
    dcmtk.send(sender, reference_port, DESTINATION, paths, kinds)
    outcomes = dcmtk.send(sender, port, SERVER, paths, kinds)
    for row, path in others:
        row["status"], row["reason"], _ = outcomes[str(path)]
    kept = []
    for row, item in wave:
        row["status"], row["reason"], announced = outcomes[str(item.path)]
        if row["status"] is None or (row["status"] != 0 and row["status"] >> 12 != 0xB):
            continue
        item.sop_instance = announced
        item.sent, item.transfer_syntax = reference.get(announced, (None, None))
        row["as_it_is"] = item.sent == item.data_set
        kept.append((row, item))
    return kept


def new(kept, earlier):
    """Without what came before: it is no new version when it comes again, and the last one stays in force.
    Files that differ may be encoded alike."""
    found = []
    for row, item in kept:
        version = (item.sop_instance, item.transfer_syntax, item.sent)
        if version not in earlier:
            earlier.add(version)
            found.append((row, item))
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sender", default="pynetdicom")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("destination_port", type=int)
    parser.add_argument("directories", type=Path, nargs="*")
    arguments = parser.parse_args()
    port = arguments.port

    rows, waves, wave_of, others = [], [], {}, []
    for path, name, item, reason in items(arguments.directories):
        rows.append({"file": name, "path": str(path), "reason": reason})
        if item is None:
            others.append((rows[-1], path))
            continue
        # Files of one SOP Instance UID go one after the other: each is the current version once.
        at = wave_of.get(item.sop_instance, 0)
        wave_of[item.sop_instance] = at + 1
        if at == len(waves):
            waves.append([])
        waves[at].append((rows[-1], item))

    moved = {}
    destination = AE(DESTINATION)
    destination.maximum_pdu_size = 128 * 1024
    # DCMTK converts between the three that are not compressed.
    native = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
    syntaxes = {}
    for _, item in (pair for wave in waves for pair in wave):
        syntaxes.setdefault(item.sop_class, set(native)).add(item.kind[1])
    for sop_class, some in syntaxes.items():
        destination.add_supported_context(sop_class, sorted(some))
    server = destination.start_server(
        ("127.0.0.1", arguments.destination_port),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, receiver(moved))],
    )
    earlier = set()
    for wave in waves:
        moved.clear()
        if arguments.sender == "pynetdicom":
            kept = store(port, wave)
        else:
            reference_port = arguments.destination_port
            kept = store_by_dcmtk(arguments.sender, port, wave, reference_port, moved, others)
            others = []
        kept = new(kept, earlier)
        if not kept:
            continue
        moved.clear()
        got = get(port, kept)
        move(port, kept)
        for row, item in kept:
            for way, came in (("get", got), ("move", moved)):
                data_set, _ = came.get(item.sop_instance, (None, None))
                same = "same" if data_set == item.sent else "different"
                row[way] = "missing" if data_set is None else same
            if arguments.keep and item.sop_instance in got:
                row["kept"] = str(arguments.keep / str(rows.index(row)))
                Path(row["kept"]).write_bytes(got[item.sop_instance][0])
                row["sop_class"], row["sop_instance"] = item.sop_class, item.sop_instance
                row["transfer_syntax"] = str(item.transfer_syntax)
    server.shutdown()
    for row in rows:
        print(json.dumps(row))


main()
