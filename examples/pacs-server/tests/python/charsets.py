"""Sends the files that pydicom has for each Specific Character Set, and asks for each patient by the
name's real characters: in UTF-8, and in the file's own set.

    charsets.py SERVER_PORT

Prints one JSON object a line for each file.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import associations  # noqa: F401  (by being imported)
import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread
from pynetdicom import AE
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as FIND

warnings.simplefilter("ignore")


def ask(association, charset, name):
    """The answers to a query by name: study and name, as pydicom decodes them."""
    keys = Dataset()
    keys.SpecificCharacterSet = charset
    keys.QueryRetrieveLevel = "STUDY"
    keys.PatientName = name
    keys.StudyInstanceUID = ""
    answers = {}
    # pynetdicom's own thread, when it wakes up late, takes the responses of the next request away.
    while association._is_paused:
        time.sleep(0.001)
    for status, answer in association.send_c_find(keys, FIND):
        if status and status.Status in (0xFF00, 0xFF01):
            answer.decode()
            answers[str(answer.StudyInstanceUID)] = str(answer.PatientName)
    return answers


def main():
    port = int(sys.argv[1])
    ae = AE("CHARSETS")
    ae.add_requested_context(FIND)
    files = []
    for path in sorted((Path(pydicom.__file__).parent / "data" / "charset_files").glob("*.dcm")):
        ds = dcmread(path, force=True)
        if "PatientName" in ds and "SOPClassUID" in ds:
            files.append((path.name, ds))
    for _, ds in files:
        ae.add_requested_context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", port, ae_title="PACS")
    assert association.is_established, "the server takes no association"
    # A study of its own for each: some of the files are of one study, with other names.
    for number, (name, ds) in enumerate(files):
        ds.StudyInstanceUID = f"2.25.99.{number}"
        ds.SeriesInstanceUID = f"2.25.99.{number}.1"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"2.25.99.{number}.1.1"
        ds.PatientID = f"CHARSET{number}"
        while association._is_paused:
            time.sleep(0.001)
        row = {"file": name, "stored": association.send_c_store(ds).Status == 0}
        if row["stored"]:
            # The first component group that has letters of its own tells most.
            groups = [group for group in str(ds.PatientName).split("=") if group]
            charset = ds.get("SpecificCharacterSet") or "ISO_IR 6"
            row["charset"] = charset if isinstance(charset, str) else list(charset)
            ways = [ask(association, "ISO_IR 192", group) for group in groups]
            ways.append(ask(association, charset, str(ds.PatientName)))
            row["found"] = all(ds.StudyInstanceUID in answers for answers in ways)
            names = {answers.get(ds.StudyInstanceUID) for answers in ways}
            row["name"] = names == {str(ds.PatientName)}
        print(json.dumps(row))
    association.release()


main()
