"""Lists the test files of pydicom and pydicom-data, and compares single frames of them with what
pydicom reads from them.

    frames_pydicom.py list
    frames_pydicom.py compare < lines of "original <tab> folder"

A folder holds `N.encoded` and `N.decoded` for each frame N from 1 on that was read, and `header`: lines of
"keyword <tab> value" that describe the decoded ones. Prints no value of any element.
"""

import os
import sys
import warnings

import numpy
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.pixels import iter_pixels, pack_bits, pixel_array, unpack_bits

warnings.simplefilter("ignore")
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE

BIG_ENDIAN = "1.2.840.10008.1.2.2"
LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


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
                if not name.endswith((".py", ".pyc", ".json", ".zip", ".txt", ".md", ".xml")):
                    yield os.path.join(folder, name)


def number_of_frames(ds):
    try:
        return max(1, int(ds.get("NumberOfFrames") or 1))
    except ValueError:
        return 1


def stored_frames(ds, syntax):
    """The bytes of each frame: as fragments have them, or as Explicit VR Little Endian has them."""
    count = number_of_frames(ds)
    value = next(ds[keyword].value for keyword in PIXELS if keyword in ds)
    if syntax.is_encapsulated:
        extended = None
        if "ExtendedOffsetTable" in ds:
            extended = (ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths)
        yield from generate_frames(value, number_of_frames=count, extended_offsets=extended)
        return
    bits = 32 if "FloatPixelData" in ds else 64 if "DoubleFloatPixelData" in ds else ds.BitsAllocated
    samples = ds.Rows * ds.Columns * ds.SamplesPerPixel
    if syntax == BIG_ENDIAN and (bits > 8 or ds["PixelData"].VR == "OW"):
        size = max(bits // 8, 2 if ds["PixelData"].VR == "OW" else 1)
        value = numpy.frombuffer(value, f">u{size}").astype(f"<u{size}").tobytes()
    if bits == 1:
        cells = unpack_bits(value)
        for at in range(count):
            yield pack_bits(cells[at * samples : (at + 1) * samples], pad=False)
        return
    length = samples * bits // 8
    if ds.PhotometricInterpretation == "YBR_FULL_422":
        length = length // 3 * 2
    for at in range(count):
        yield value[at * length : (at + 1) * length]


def described(header, pixels):
    """A data set of one native frame."""
    new = Dataset()
    new.file_meta = FileMetaDataset()
    new.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    for line in header.splitlines():
        keyword, value = line.split("\t")
        setattr(new, keyword, value if keyword == "PhotometricInterpretation" else int(value))
    new.PixelData = pixels + b"\0" * (len(pixels) % 2)
    new["PixelData"].VR = "OW" if new.BitsAllocated > 8 else "OB"
    return new


def pixels_differ(old, syntax, expected, pixels):
    if expected.shape != pixels.shape:
        return f"shape {expected.shape} became {pixels.shape}"
    off = numpy.abs(pixels.astype(numpy.int64) - expected)
    if not off.any():
        return None
    beyond = numpy.count_nonzero(off > 2) / off.size
    text = f"pixels differ by up to {off.max()}, {beyond:.6%} by more than 2"
    # Decoders of lossy JPEG round differently, by 1 in each sample (ITU-T T.83); where chrominance is turned to
    # RGB that is multiplied by up to 1.772, and where it was subsampled it is interpolated otherwise.
    ybr = old.PhotometricInterpretation.startswith("YBR")
    close = syntax in LOSSY and (off.max() <= 2 or ybr and off.max() <= 8 and beyond < 1e-4)
    return f"note: {text}" if close else text


def contents(folder, number, kind):
    try:
        with open(os.path.join(folder, f"{number}.{kind}"), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def compare(original, folder):
    old = pydicom.dcmread(original, force=True)
    if not any(keyword in old for keyword in PIXELS):
        return
    syntax = old.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        implicit, little = old.original_encoding
        syntax = pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
        old.file_meta.TransferSyntaxUID = syntax
    count = number_of_frames(old)
    same = 0
    try:
        for number, stored in enumerate(stored_frames(old, syntax), 1):
            encoded = contents(folder, number, "encoded")
            if encoded is None:
                yield f"encoded frame {number} is missing"
            # The byte that makes a fragment even.
            elif encoded not in (stored, stored + b"\0") and encoded + b"\0" != stored:
                yield f"encoded frame {number} of {len(stored)} bytes is another one of {len(encoded)}"
            else:
                same += 1
    except Exception as error:
        yield f"note: pydicom tells no frames: {type(error).__name__}"
    yield f"encoded: {same}"
    with open(os.path.join(folder, "header")) as file:
        header = file.read()
    same = 0
    try:
        # As `pixel_array` decodes a whole instance.
        for number, expected in enumerate(iter_pixels(old), 1):
            pixels = contents(folder, number, "decoded")
            if pixels is None:
                yield f"decoded frame {number} is missing"
                continue
            difference = pixels_differ(old, syntax, expected, pixel_array(described(header, pixels)))
            if difference:
                yield difference
            if not difference or difference.startswith("note"):
                same += 1
    except Exception as error:
        yield f"note: pydicom decodes not all of it: {type(error).__name__} {error}"
    yield f"decoded: {same}"


def main():
    if sys.argv[1] == "list":
        print(*files(), sep="\n")
        return
    for line in sys.stdin:
        original, folder = line.rstrip("\n").split("\t")
        found = list(dict.fromkeys(compare(original, folder)))
        print(original, *found, sep="\t", flush=True)


main()
