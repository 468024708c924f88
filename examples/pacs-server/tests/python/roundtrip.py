"""Sends every file of pydicom and pydicom-data as the bytes that it is, and fetches each one that was
taken back by C-GET and by C-MOVE.

    roundtrip.py SERVER_PORT DESTINATION_PORT

The server knows DESTINATION at DESTINATION_PORT. Prints one JSON object a line for each file.
"""

import json
import sys
import time
from io import BytesIO
from pathlib import Path

import data_store
import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread, read_preamble
from pydicom.filereader import _read_file_meta_info
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
SERVER = "PACS"
DESTINATION = "DESTINATION"


class Item:
    """A file: what it says of itself, and the bytes of its data set."""

    def __init__(self, path: Path):
        self.path = path
        self.sop_class = self.sop_instance = self.study = self.series = None
        raw = path.read_bytes()
        with path.open("rb") as file:
            # Leaves the file where the meta information begins, or at its start.
            has_preamble = read_preamble(file, force=True) is not None
            if not has_preamble:
                file.seek(0)
            meta = _read_file_meta_info(file)
            offset = file.tell()
        self.data_set = raw[offset:]
        header = dcmread(
            path,
            force=True,
            specific_tags=["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"],
        )
        self.transfer_syntax = meta.get("TransferSyntaxUID")
        if self.transfer_syntax is None:
            implicit, little = header.original_encoding
            explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            self.transfer_syntax = ImplicitVRLittleEndian if implicit else explicit
        self.sop_class = str(header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")
        self.sop_instance = str(header.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID") or "")
        self.study = str(header.get("StudyInstanceUID") or "")
        self.series = str(header.get("SeriesInstanceUID") or "")

    @property
    def kind(self):
        return (self.sop_class, str(self.transfer_syntax))


def items():
    roots = [Path(pydicom.__file__).parent / "data", Path(data_store.__file__).parent / "data"]
    for root in roots:
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            if path.suffix in (".py", ".pyc", ".json", ".txt", ".md", ".icc", ".sha256"):
                continue
            name = str(path.relative_to(root))
            try:
                item = Item(path)
            except Exception as error:
                yield name, None, f"pydicom can't read it: {type(error).__name__}"
                continue
            if not item.sop_class or not item.sop_instance:
                yield name, None, "it has no SOP class or SOP instance UID to announce"
            elif item.sop_class == "1.2.840.10008.1.3.10":
                yield name, None, "a DICOMDIR has no storage service"
            else:
                yield name, item, None


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


def groups(kinds, size):
    kinds = sorted(kinds)
    return [kinds[at : at + size] for at in range(0, len(kinds), size)]


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


def identifier(level, item):
    keys = Dataset()
    keys.QueryRetrieveLevel = level
    if level == "STUDY":
        keys.StudyInstanceUID = item.study
    else:
        keys.SOPInstanceUID = item.sop_instance
    return keys


def receiver(into):
    """Takes the bytes of a C-STORE as they come."""

    def handle(event):
        into[str(event.request.AffectedSOPInstanceUID)] = event.encoded_dataset(include_meta=False)
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
    for kinds in groups({item.kind for _, item in wave}, CONTEXTS_MAX):
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
    """Fetches each instance by itself."""
    got = {}
    for kinds in groups({item.kind for _, item in kept}, CONTEXTS_MAX - 1):
        association = associate(port, kinds, [GET], [(evt.EVT_C_STORE, receiver(got))], scp=True)
        for row, item in kept:
            if item.kind in kinds:
                ready(association)
                row["get_status"] = finish(association.send_c_get(identifier("IMAGE", item), GET))
        association.release()
    return got


def move(port, kept):
    """Has every study sent to the destination."""
    association = associate(port, [], [MOVE])
    studies = {item.study: item for _, item in kept}
    for study, item in studies.items():
        # pydicom misses the study of a damaged file.
        level = "STUDY" if study else "IMAGE"
        ready(association)
        status = finish(association.send_c_move(identifier(level, item), DESTINATION, MOVE))
        for row, other in kept:
            if other.study == study:
                row["move_status"] = status
    association.release()


def main():
    port, destination_port = int(sys.argv[1]), int(sys.argv[2])
    rows, waves, wave_of = [], [], {}
    for name, item, reason in items():
        rows.append({"file": name, "reason": reason})
        if item is not None:
            # Files of one SOP Instance UID go one after the other: each is the current version once.
            at = wave_of.get(item.sop_instance, 0)
            wave_of[item.sop_instance] = at + 1
            if at == len(waves):
                waves.append([])
            waves[at].append((rows[-1], item))

    moved = {}
    destination = AE(DESTINATION)
    destination.maximum_pdu_size = 128 * 1024
    syntaxes = {}
    for _, item in (pair for wave in waves for pair in wave):
        syntaxes.setdefault(item.sop_class, set()).add(item.kind[1])
    for sop_class, some in syntaxes.items():
        destination.add_supported_context(sop_class, sorted(some))
    server = destination.start_server(
        ("127.0.0.1", destination_port), block=False, evt_handlers=[(evt.EVT_C_STORE, receiver(moved))]
    )
    for wave in waves:
        kept = store(port, wave)
        if not kept:
            continue
        moved.clear()
        got = get(port, kept)
        move(port, kept)
        for row, item in kept:
            for way, came in (("get", got), ("move", moved)):
                data_set = came.get(item.sop_instance)
                same = "same" if data_set == item.data_set else "different"
                row[way] = "missing" if data_set is None else same
    server.shutdown()
    for row in rows:
        print(json.dumps(row))


main()
