"""Holds DICOM JSON (PS3.18 F) against what pydicom reads from the file, element by element."""

import base64
import math

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.valuerep import PersonName

BINARY = {"OB", "OW", "OF", "OD", "OL", "OV", "UN"}
WORD = {"OW": 2, "OF": 4, "OD": 8, "OL": 4, "OV": 8}
NUMBERS = {"DS", "IS", "FL", "FD", "SL", "SS", "SV", "UL", "US", "UV"}
BINARY_NUMBERS = {
    "FL": "<f4",
    "FD": "<f8",
    "SL": "<i4",
    "SS": "<i2",
    "SV": "<i8",
    "UL": "<u4",
    "US": "<u2",
    "UV": "<u8",
}
# The character set is that of the JSON text, UTF-8 (PS3.18 F.2.1): a server may leave this out, or say so.
CHARACTER_SET = "00080005"
# Attributes of a metadata response that are of the response (PS3.18 10.4.3.3.2, 10.6.3.3).
OF_THE_RESPONSE = {"00083002", "00081190", "00080054", "00080056"}


def differences(original, returned, fetch, path=""):
    """A line for each difference: the element's path, and in what it differs; never a value.

    `fetch` brings the bytes behind a BulkDataURI.
    """
    seen = set()
    for tag in list(original.keys()):
        if tag.group == 2 or tag.element == 0 or tag == 0xFFFCFFFC:
            continue
        key = f"{tag.group:04X}{tag.element:04X}"
        seen.add(key)
        if key == CHARACTER_SET:
            continue
        at = path + key
        raw = original.get_item(tag)
        raw = raw.value if isinstance(raw, RawDataElement) else None
        try:
            element = original[tag]
            value, vr = element.value, str(element.VR)
        except Exception:  # noqa: BLE001 pydicom can't read it, so there is nothing to compare with
            continue
        got = returned.get(key)
        if got is None:
            yield f"{at} {vr}: missing"
            continue
        yield from element_differences(at, vr, value, raw, got, fetch, original)
    for key in returned.keys() - seen - OF_THE_RESPONSE - {CHARACTER_SET}:
        if not key.startswith("0002") and not key.endswith("0000"):
            yield f"{path}{key}: not in the file"


def element_differences(at, vr, value, raw, got, fetch, original):
    said = got.get("vr")
    extra = set(got) - {"vr", "Value", "InlineBinary", "BulkDataURI"}
    if extra or len(set(got) - {"vr"}) > 1:
        yield f"{at} {vr}: has {sorted(got)} (PS3.18 F.2.2)"
        return
    if vr == "SQ":
        if said != "SQ":
            yield f"{at}: VR {said} instead of SQ"
            return
        items = got.get("Value", [])
        if len(items) != len(value):
            yield f"{at}: {len(items)} items instead of {len(value)}"
            return
        for number, (item, of_file) in enumerate(zip(items, value), 1):
            yield from differences(of_file, item or {}, fetch, f"{at}/{number}/")
        return
    if said != vr and {said, vr} & {"UN"}:
        # One of the two has no VR for it: the bytes decide where both have some.
        if said == "UN" and raw is not None:
            got_bytes = content(got, fetch)
            if (
                got_bytes.rstrip(b"\0 ") != bytes(raw).rstrip(b"\0 ")
                and original.is_little_endian is not False
            ):
                yield f"{at} {vr}: as UN with other bytes"
        return
    if said != vr and not ({said, vr} <= {"US", "SS", "OW", "OB"}):
        yield f"{at}: VR {said} instead of {vr}"
        return
    if vr in BINARY or said in BINARY:
        if isinstance(value, (bytes, bytearray)):
            wanted = bytes(value)
        elif raw is not None:
            wanted = bytes(raw)
        else:
            wanted = b""
        if original.is_little_endian is False and vr in WORD:
            wanted = np.frombuffer(wanted, f">u{WORD[vr]}").astype(f"<u{WORD[vr]}").tobytes()
        if "BulkDataURI" in got and at.endswith("7FE00010"):
            return  # Pixel data is asked for frame by frame.
        if content(got, fetch).rstrip(b"\0") != wanted.rstrip(b"\0"):
            yield f"{at} {vr}: other bytes"
        return
    if "BulkDataURI" in got:
        yield from bulk_differences(at, vr, value, got, fetch)
        return
    wanted = values(vr, value)
    if "InlineBinary" in got:
        yield f"{at} {vr}: has InlineBinary"
        return
    found = got.get("Value", [])
    if "Value" in got and not found:
        yield f"{at} {vr}: an empty Value (PS3.18 F.2.5)"
    if "" in found or {} in found:
        yield f"{at} {vr}: an empty value that is not null (PS3.18 F.2.5)"
    found = [given(vr, one) for one in found]
    while found and found[-1] is None:
        found.pop()
    while wanted and wanted[-1] is None:
        wanted.pop()
    if len(found) != len(wanted) or not all(alike(vr, a, b) for a, b in zip(found, wanted)):
        kind = (
            f"{len(found)} values instead of {len(wanted)}" if len(found) != len(wanted) else "another value"
        )
        yield f"{at} {vr}: {kind}"


def bulk_differences(at, vr, value, got, fetch):
    """Bulk data is encoded as in Explicit VR Little Endian (PS3.18 8.7.3.5.1)."""
    brought = content(got, fetch)
    if vr in BINARY_NUMBERS:
        wanted = np.array(
            value if isinstance(value, (MultiValue, list)) else [value], BINARY_NUMBERS[vr]
        ).tobytes()
        if brought != wanted:
            yield f"{at} {vr}: other bulk data"
        return
    text = "\\".join(str(one) for one in value) if isinstance(value, MultiValue) else str(value)
    if len(brought.rstrip(b" \0")) < len(text.rstrip(" \0")):
        yield f"{at} {vr}: shorter bulk data"


def content(got, fetch):
    if "InlineBinary" in got:
        return base64.b64decode(got["InlineBinary"], validate=True)
    if "BulkDataURI" in got:
        return fetch(got["BulkDataURI"])
    return b""


def values(vr, value):
    """What pydicom read, as the list of the element's values."""
    if value is None or (isinstance(value, str) and value == ""):
        return []
    several = value if isinstance(value, (MultiValue, list, tuple, Sequence)) else [value]
    return [wanted(vr, one) for one in several]


def wanted(vr, value):
    """What the JSON has to say for a value, None for an empty one."""
    if vr == "PN" and isinstance(value, (PersonName, str)):
        name = PersonName(value) if isinstance(value, str) else value
        groups = {"Alphabetic": name.alphabetic, "Ideographic": name.ideographic, "Phonetic": name.phonetic}
        return {key: group.strip().rstrip("^") for key, group in groups.items() if group.strip()} or None
    if vr == "AT":
        return f"{int(value):08X}"
    if vr in NUMBERS:
        return number(value)
    return text(value)


def given(vr, value):
    if value is None:
        return None
    if vr == "PN":
        return {key: group.strip().rstrip("^") for key, group in value.items() if group.strip()} or None
    if vr == "AT":
        return value.upper()
    if vr in NUMBERS:
        return number(value)
    return text(value)


def number(value):
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return text(value)


def text(value):
    return str(value).replace("\r\n", "\n").strip(" \0\n\t") or None


def alike(vr, a, b):
    if isinstance(a, float) and isinstance(b, float):
        if math.isnan(a) and math.isnan(b):
            return True
        if vr == "FL":
            return np.float32(a) == np.float32(b)
        return a == b or math.isclose(a, b, rel_tol=1e-12)
    return a == b
