"""The part of tests/query_matrix that pydicom and pynetdicom play.

    query_matrix.py write INSTANCES.json DIRECTORY     writes each instance into a file
    query_matrix.py ask TITLE PORT QUESTIONS.json      prints one JSON object a line for each question

A data set is a list of [tag, VR, text or list of data sets]. In an answer it is an object: by tag, text
with a backslash between values, or a list of such objects.
"""

import json
import socket
import sys
import time
import warnings
from pathlib import Path

import associations  # noqa: F401  (by being imported)
import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

warnings.simplefilter("ignore")
# What is asked need not be a valid value: ranges, wild cards, "".
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE

CHARACTER_SET = "00080005"


def data_set(elements):
    ds = Dataset()
    for tag, vr, value in elements:
        if vr == "SQ":
            ds.add(DataElement(int(tag, 16), vr, [data_set(item) for item in value]))
        elif vr == "US":
            ds.add(DataElement(int(tag, 16), vr, int(value)))
        else:
            # Made as text, so that pydicom takes the text for what it is.
            element = DataElement(int(tag, 16), vr if vr not in ("IS", "DS") else "LO", value)
            element.VR = vr
            ds.add(element)
    return ds


def encoded_in(charset, elements):
    ds = data_set(elements)
    if charset:
        ds.SpecificCharacterSet = charset.split("\\")
    return ds


def value(element):
    if element.VR == "SQ":
        return [in_one_form(item) for item in element.value]
    values = element.value
    if values is None:
        return ""
    if element.VM > 1:
        return "\\".join(str(one).strip() for one in values).strip()
    return str(values).strip()


def in_one_form(ds):
    return {f"{int(element.tag):08X}": value(element) for element in ds if f"{int(element.tag):08X}" != CHARACTER_SET}


def write(spec, directory):
    for number, instance in enumerate(json.loads(Path(spec).read_text())):
        ds = encoded_in(instance["charset"], instance["elements"])
        ds.file_meta = FileMetaDataset()
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.save_as(Path(directory) / f"{number}.dcm", enforce_file_format=True)


def ask(title, port, questions):
    associations = {}
    for question in json.loads(Path(questions).read_text()):
        sop_class, negotiation = question["class"], question["negotiation"]
        kind = (sop_class, tuple(negotiation or ()))
        if kind not in associations:
            ae = AE("MATRIX")
            ae.add_requested_context(sop_class)
            extended = []
            if negotiation:
                item = SOPClassExtendedNegotiation()
                item.sop_class_uid = sop_class
                item.service_class_application_information = bytes(negotiation)
                extended.append(item)
            association = ae.associate("127.0.0.1", int(port), ae_title=title, ext_neg=extended)
            assert association.is_established, "the server takes no association"
            # Without it an identifier waits for the acknowledgement of the command before it.
            association.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            associations[kind] = association
        association = associations[kind]
        keys = encoded_in(question["charset"], question["elements"])
        row = {"status": None, "pending": [], "answers": []}
        # pynetdicom's own thread, when it wakes up late, takes the responses of the next request away.
        while association._is_paused:
            time.sleep(0.001)
        for status, answer in association.send_c_find(keys, sop_class):
            if status.Status in (0xFF00, 0xFF01):
                row["pending"].append(status.Status)
                answer.decode()
                row["answers"].append(in_one_form(answer))
            else:
                row["status"] = status.Status
        print(json.dumps(row))
    for association in associations.values():
        association.release()


{"write": write, "ask": ask}[sys.argv[1]](*sys.argv[2:])
