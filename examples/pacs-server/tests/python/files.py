"""The files of pydicom and pydicom-data, real and damaged, as the tests send them."""

from pathlib import Path

import data_store
import pydicom
from pydicom.filereader import _read_file_meta_info, dcmread, read_preamble
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian


# In the names of those that are cut off.
CUT_OFF = ("truncated", "too_short")


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
        # What was sent, and how: of a sender that encodes anew, known from what the destination received.
        self.sent = self.data_set

    @property
    def kind(self):
        return (self.sop_class, str(self.transfer_syntax))


def items(roots):
    """Each file: its path, its name in the table, and the item or why there is none.

    Those that are cut off come first: they don't take the place of a whole instance with the same UID."""
    roots = roots or [Path(pydicom.__file__).parent / "data", Path(data_store.__file__).parent / "data"]
    for root in roots:
        paths = sorted(path for path in root.rglob("*") if path.is_file())
        for path in sorted(paths, key=lambda path: not any(word in path.name for word in CUT_OFF)):
            if path.suffix in (".py", ".pyc", ".json", ".txt", ".md", ".icc", ".sha256"):
                continue
            name = str(path.relative_to(root))
            try:
                item = Item(path)
            except Exception as error:
                yield path, name, None, f"pydicom can't read it: {type(error).__name__}"
                continue
            if not item.sop_class or not item.sop_instance:
                yield path, name, None, "it has no SOP class or SOP instance UID to announce"
            elif item.sop_class == "1.2.840.10008.1.3.10":
                yield path, name, None, "a DICOMDIR has no storage service"
            else:
                yield path, name, item, None


def groups(some, size):
    some = list(some)
    return [some[at : at + size] for at in range(0, len(some), size)]
