"""Lists the test files of pydicom and pydicom-data, and compares what became of them with what
pydicom reads from them.

    transcode_pydicom.py list
    transcode_pydicom.py compare < lines of "original <tab> transcoded"

Prints no value of any element.
"""

import functools
import io
import os
import sys
import warnings

import numpy
import pydicom
from pydicom.filewriter import write_data_element
from pydicom.filebase import DicomFileLike
from pydicom.pixels import pixel_array

warnings.simplefilter("ignore")
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE

# What decoding changes, or what is about the fragments.
LABELS = {0x00280004, 0x00280006, 0x00282110, 0x7FE00001, 0x7FE00002, 0x7FE00003, 0x7FE00010}


def folders():
    yield os.path.join(os.path.dirname(pydicom.__file__), "data")
    try:
        import data_store

        yield os.path.dirname(data_store.__file__)
    except ImportError:
        pass


def files():
    for top in folders():
        for folder, _, names in sorted(os.walk(top)):
            for name in sorted(names):
                path = os.path.join(folder, name)
                if not name.endswith((".py", ".pyc", ".json", ".zip", ".txt", ".md", ".xml")):
                    yield path


def value_bytes(element, charset, big_endian, cell_bytes=2):
    """The value as Implicit VR Little Endian has it, without padding."""
    if isinstance(element.value, bytes) or element.value is None:
        value = element.value or b""
        if big_endian and element.VR == "OW":
            size = cell_bytes if element.tag == 0x7FE00010 else 2
            value = numpy.frombuffer(value, f">u{size}").astype(f"<u{size}").tobytes()
        return value.rstrip(b"\0 ")
    buffer = DicomFileLike(io.BytesIO())
    buffer.is_little_endian, buffer.is_implicit_VR = True, True
    write_data_element(buffer, element, charset)
    return buffer.parent.getvalue()[8:].rstrip(b"\0 ")


def differences(old, new, charset, implicit, big_endian, path=""):
    skip = lambda tag: tag.element == 0 or (not path and tag in LABELS - {0x7FE00010})
    old_tags = [tag for tag in sorted(old.keys()) if not skip(tag)]
    new_tags = [tag for tag in sorted(new.keys()) if not skip(tag)]
    if old_tags != new_tags:
        yield f"{path} tags {sorted(set(old_tags) ^ set(new_tags))}"
        return
    charset = getattr(old, "_character_set", None) or charset
    # Cells of 32 bits are swapped whole.
    cell_bytes = 2 if path else max(2, old.get("BitsAllocated", 16) // 8)
    for tag in old_tags:
        if tag == 0x7FE00010 and old.is_compressed:
            continue
        try:
            a, b = old[tag], new[tag]
        except Exception as error:
            yield f"{path}{tag} is not readable by pydicom: {type(error).__name__}"
            continue
        here = f"{path}{tag}"
        # In Implicit VR, the VR is what pydicom's dictionaries say, not what was written.
        guessed = "UN" in (a.VR, b.VR) or {a.VR, b.VR} == {"OB", "OW"} or implicit and (tag.is_private or {a.VR, b.VR} <= {"US", "SS", "OW", "OB"})
        if a.VR != b.VR and not guessed:
            yield f"{here} VR {a.VR} became {b.VR}"
        if a.VR == "SQ" and b.VR == "SQ":
            if len(a.value) != len(b.value):
                yield f"{here} items {len(a.value)} became {len(b.value)}"
            for at, (x, y) in enumerate(zip(a.value, b.value)):
                x.is_compressed = False
                yield from differences(x, y, charset, implicit, big_endian, f"{here}[{at}].")
        elif "SQ" in (a.VR, b.VR):
            pass  # UN of undefined length: pydicom parses one of them only.
        elif value_bytes(a, charset, big_endian, cell_bytes) != value_bytes(b, charset, False):
            yield f"{here} {a.VR}/{b.VR} value differs"


@functools.lru_cache(1)
def read(path):
    ds = pydicom.dcmread(path, force=True)
    syntax = getattr(ds.file_meta, "TransferSyntaxUID", None) if hasattr(ds, "file_meta") else None
    ds.is_compressed = bool(syntax and syntax.is_encapsulated)
    return ds


def check_pixels(old, new):
    if "PixelData" not in old:
        return
    pi, decoded = old.get("PhotometricInterpretation"), new.get("PhotometricInterpretation")
    lossy = str(old.file_meta.TransferSyntaxUID) in ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
    if decoded in ("YBR_RCT", "YBR_ICT", "YBR_FULL_422"):
        yield f"labelled {decoded}"
    if not pi.startswith("YBR") and decoded != pi:
        yield f"{pi} labelled {decoded}"
    if lossy and new.get("LossyImageCompression") != "01" and old.get("LossyImageCompression") is None:
        yield "lossy compression is not labelled"
    frames = int(new.get("NumberOfFrames") or 1)
    length = frames * new.Rows * new.Columns * new.SamplesPerPixel * (new.BitsAllocated // 8)
    if len(new.PixelData) != length + length % 2:
        yield f"pixel data of {len(new.PixelData)} bytes where labels say {length}"
    if not new.file_meta.TransferSyntaxUID.is_implicit_VR:
        if new["PixelData"].VR != ("OW" if new.BitsAllocated > 8 else "OB"):
            yield f"pixel data labelled {new['PixelData'].VR}"
    # Of many frames, the first, one in the middle and the last.
    indices = (0, frames // 2, frames - 1) if frames > 20 else (None,)
    try:
        if not hasattr(old, "expected"):
            old.expected = [pixel_array(old, index=index) for index in indices]
    except Exception as error:
        yield f"note: pydicom can't decode it: {type(error).__name__}"
        return
    pixels = [pixel_array(new, index=index) for index in indices]
    for x, y in zip(old.expected, pixels):
        if x.shape != y.shape:
            yield f"shape {x.shape} became {y.shape}"
            return
    off = numpy.abs(numpy.stack(pixels).astype(numpy.int64) - numpy.stack(old.expected))
    if not off.any():
        return
    beyond = numpy.count_nonzero(off > 2) / off.size
    text = f"pixels differ by up to {off.max()}, on average by {off.mean():.4f}, {beyond:.6%} by more than 2"
    # Decoders of lossy JPEG round differently; where chrominance is turned to RGB, that is multiplied.
    close = lossy and (off.max() <= 2 or pi.startswith("YBR") and off.max() <= 8 and beyond < 1e-4)
    yield f"note: {text}" if close else text


def compare(original, transcoded):
    old, new = read(original), read.__wrapped__(transcoded)
    if len(old) == 0:
        yield f"note: pydicom reads no element of it, and {len(new)} of what became of it"
        return
    big_endian = getattr(old.file_meta, "TransferSyntaxUID", None) == "1.2.840.10008.1.2.2"
    implicit = old.original_encoding[0] or new.original_encoding[0]
    yield from differences(old, new, "latin_1", implicit, big_endian)
    if old.is_compressed:
        yield from check_pixels(old, new)


def main():
    if sys.argv[1] == "list":
        print(*files(), sep="\n")
        return
    for line in sys.stdin:
        original, transcoded = line.rstrip("\n").split("\t")
        try:
            found = list(compare(original, transcoded))
        except Exception as error:
            found = [f"note: pydicom does not read it: {type(error).__name__} {error}"]
        print(transcoded, *found, sep="\t", flush=True)


main()
