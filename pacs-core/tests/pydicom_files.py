"""Says what pydicom reads in its test files, one line per fact, for pydicom_files.rs.

F  path of a file           begins what is said of one file
S  transfer syntax          of the data set as pydicom took it, empty where it has none
E  path  VR  value          one element; the value in hexadecimal: text as UTF-8, numbers little endian
X  reason                   pydicom does not read it
"""

import os
import struct
import sys
import warnings

warnings.simplefilter("ignore")

import pydicom  # noqa: E402
from pydicom import config  # noqa: E402

config.settings.reading_validation_mode = config.IGNORE

NUMBERS = {
    "US": "<H", "SS": "<h", "UL": "<I", "SL": "<i", "FL": "<f", "FD": "<d", "UV": "<Q", "SV": "<q",
}  # fmt: skip


def several(value):
    if value is None or value == "":
        return []
    if isinstance(value, (list, pydicom.multival.MultiValue)):
        return list(value)
    return [value]


def value_bytes(element):
    vr, value = str(element.VR), element.value
    if isinstance(value, bytes):
        return value
    if vr in NUMBERS:
        return b"".join(struct.pack(NUMBERS[vr], v) for v in several(value))
    if vr == "AT":
        return b"".join(struct.pack("<HH", v >> 16, v & 0xFFFF) for v in several(value))
    # A number that came as text is compared as that text; a person's name has bytes there.
    originals = ((getattr(v, "original_string", None), v) for v in several(value))
    texts = (text if isinstance(text, str) else str(v) for text, v in originals)
    return "\\".join(texts).encode("utf-8", "surrogateescape")


def say(dataset, path):
    for tag in sorted(dataset.keys()):
        name = f"{path}{tag.group:04X}{tag.element:04X}"
        pixels = path == "" and tag.group == 0x7FE0 and tag.element in (0x08, 0x09, 0x10)
        if tag.element == 0 or pixels:
            continue
        try:
            element = dataset[tag]
            if str(element.VR) == "SQ":
                print("E", name, "SQ", "", sep="\t")
                for at, item in enumerate(element.value):
                    say(item, f"{name}[{at}].")
            else:
                print("E", name, element.VR, value_bytes(element).hex(), sep="\t")
        except Exception as error:  # whatever pydicom makes of a broken value
            print("E", name, "??", str(type(error).__name__).encode().hex(), sep="\t")


def files():
    import pydicom.data

    roots = [os.path.dirname(pydicom.data.__file__)]
    try:
        import data_store

        roots.append(os.path.dirname(data_store.__file__))
    except ImportError:
        pass
    for root in roots:
        for folder, _, names in sorted(os.walk(root)):
            for name in sorted(names):
                if not name.endswith((".py", ".pyc", ".json", ".md", ".txt", ".gz", ".icc", ".dump")):
                    yield os.path.join(folder, name)


for file in files():
    print("F", file, sep="\t")
    try:
        dataset = pydicom.dcmread(file, force=True)
        print("S", getattr(dataset.file_meta, "TransferSyntaxUID", ""), sep="\t")
        say(dataset, "")
    except Exception as error:
        print("X", type(error).__name__, sep="\t")
sys.stdout.flush()
