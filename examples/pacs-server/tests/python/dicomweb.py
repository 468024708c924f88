"""Every operation of dicomweb-client against a DICOMweb server, with every file of pydicom and pydicom-data.

    dicomweb.py [--only GROUP,...] [--directory DIR]... BASE_URL

The groups: store, search, retrieve, metadata, bulkdata, frames, rendered, and delete, which is run only where
it is named. The files are stored in any case. Each check is one JSON object a line, see webchecks.py; the exit
code tells only whether the checks could be made.

The server is empty at the start, keeps the last version of an instance in force, and gives an instance out as
it was received when it is asked for `transfer-syntax=*`.
"""

import argparse
import logging
from pathlib import Path

import requests
from dicomweb_client import DICOMwebClient

import webpictures
import webretrieve
import websearch
import webstore
from webchecks import Checks
from webfiles import waves

GROUPS = {
    "store": webstore.check_answers,
    "search": websearch.check,
    "retrieve": webretrieve.check_instances,
    "metadata": webretrieve.check_metadata,
    "bulkdata": webretrieve.check_bulk_data,
    "frames": webpictures.check_frames,
    "rendered": webpictures.check_rendered,
    "delete": webstore.check_delete,
}


class Run:
    """What the groups share: the server by two clients, and what is stored there."""

    def __init__(self, base, found):
        self.base = base
        self.session = requests.Session()
        # The client adds headers of its own to its session. UIDs of old files have leading zeros.
        self.client = DICOMwebClient(base, permissive_uid=True, timeout=120)
        self.checks = Checks()
        self.waves = found
        # By SOP Instance UID, the version in force.
        self.stored = {}

    def get(self, path, accept=None, **more):
        headers = {"Accept": accept} if accept else {}
        headers.update(more.pop("headers", {}))
        url = path if path.startswith("http") else f"{self.base}/{path}"
        return self.session.get(url, headers=headers, timeout=120, **more)

    @staticmethod
    def path(instance, *more):
        study, series, sop_instance = instance.uids
        return "/".join(["studies", study, "series", series, "instances", sop_instance, *more])

    def instances(self):
        return sorted(self.stored.values(), key=lambda instance: instance.name)

    def studies(self):
        found = {}
        for instance in self.instances():
            found.setdefault(instance.item.study, []).append(instance)
        return found

    def series(self):
        found = {}
        for instance in self.instances():
            found.setdefault(instance.uids[:2], []).append(instance)
        return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="store,search,retrieve,metadata,bulkdata,frames,rendered")
    parser.add_argument("--directory", type=Path, action="append", default=[])
    parser.add_argument("base", help="where DICOMweb begins, as http://127.0.0.1:8080/dicom-web")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    run = Run(arguments.base.rstrip("/"), waves(arguments.directory))
    webstore.fill(run)
    for group in arguments.only.split(","):
        GROUPS[group](run)


main()
