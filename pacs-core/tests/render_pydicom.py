"""Renders by the Standard's formulas, in numpy, and compares that with pictures that were rendered elsewhere.

    render_pydicom.py list
    render_pydicom.py make FOLDER      files of what pydicom has no test file of; prints their paths
    render_pydicom.py compare < lines of "file <tab> frame from 1 <tab> picture <tab> window <tab> viewport <tab> MONOCHROME1"

A picture is a file of width, height and channels, each of 4 bytes, and the pixels. Window and viewport are as in
a query, or empty. The files are uncompressed. Prints no value of any element.
"""

import copy
import functools
import os
import sys
import warnings

import numpy
import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.sequence import Sequence

warnings.simplefilter("ignore")
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE


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


# What the header says of a frame.


def group(ds, index, sequence, keyword):
    for groups in (ds.get("PerFrameFunctionalGroupsSequence") or [])[index : index + 1]:
        if groups.get(sequence) and groups[sequence][0].get(keyword) is not None:
            return groups[sequence][0]
    for groups in (ds.get("SharedFunctionalGroupsSequence") or [])[:1]:
        if groups.get(sequence) and groups[sequence][0].get(keyword) is not None:
            return groups[sequence][0]
    return ds


def floats(ds, keyword):
    value = ds.get(keyword)
    if value is None or value == "":
        return []
    values = value if isinstance(value, (list, tuple, pydicom.multival.MultiValue)) else [value]
    return [float(value) for value in values]


def first(ds, keyword, default=None):
    values = floats(ds, keyword)
    return values[0] if values else default


# Samples (PS3.5 8.1.1).


def frame_of(ds, index):
    """The stored values, rows by columns by samples, and the cells they are in."""
    rows, columns, samples = ds.Rows, ds.Columns, ds.get("SamplesPerPixel", 1)
    count = int(ds.get("NumberOfFrames") or 1)
    pixels = rows * columns
    for keyword, dtype in (("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")):
        if keyword in ds:
            cells = numpy.frombuffer(ds[keyword].value, dtype)[index * pixels : (index + 1) * pixels]
            return cells.reshape(rows, columns, 1).astype(float), cells.reshape(rows, columns)
    allocated = ds.BitsAllocated
    if allocated == 1:
        bits = numpy.unpackbits(numpy.frombuffer(ds.PixelData, "u1"), bitorder="little")
        bits = bits[index * pixels : (index + 1) * pixels].reshape(rows, columns)
        return bits[..., None].astype(float), bits
    cells = numpy.frombuffer(ds.PixelData, f"<u{allocated // 8}", count=len(ds.PixelData) * 8 // allocated)
    subsampled = samples == 3 and ds.PhotometricInterpretation.endswith("_422") and len(cells) < count * pixels * 3
    length = pixels * 2 if subsampled else pixels * samples
    cells = cells[index * length : (index + 1) * length]
    if subsampled:
        pairs = cells.reshape(-1, 4)
        cells = numpy.stack([pairs[:, [0, 2, 3]], pairs[:, [1, 2, 3]]], axis=1).reshape(rows, columns, 3)
    elif samples > 1 and ds.PlanarConfiguration == 1:
        cells = cells.reshape(samples, rows, columns).transpose(1, 2, 0)
    else:
        cells = cells.reshape(rows, columns, samples)
    stored, high = ds.BitsStored, ds.get("HighBit", ds.BitsStored - 1)
    values = cells.astype(numpy.int64) >> (high + 1 - stored) & (1 << stored) - 1
    if ds.PixelRepresentation == 1 and samples == 1:
        values = numpy.where(values >= 1 << stored - 1, values - (1 << stored), values)
    return values.astype(float), cells[..., 0]


# Lookup tables (PS3.3 C.11.1.1).


def table(item, signed):
    descriptor = item["LUTDescriptor"]
    entries, begin, bits = (int(value) for value in descriptor.value)
    entries = entries or 65536
    begin &= 0xFFFF
    if (signed or descriptor.VR == "SS") and begin >= 32768:
        begin -= 65536
    data = item["LUTData"].value
    if isinstance(data, bytes):
        data = numpy.frombuffer(data, "u1" if bits <= 8 and len(data) < entries * 2 else "<u2")
    data = numpy.atleast_1d(numpy.array(data, float))[:entries]
    return data, begin, bits


def look_up(values, data, begin):
    return data[numpy.clip(values - begin, 0, len(data) - 1).astype(int)]


# The grayscale pipeline (PS3.4 N.2, PS3.3 C.11.1, C.11.2).


def windowed(x, center, width, function):
    if function == "sigmoid":
        return 1 / (1 + numpy.exp(-4 * (x - center) / width))
    if function == "linear":
        y = (x - (center - 0.5)) / (width - 1) + 0.5 if width > 1 else numpy.zeros_like(x)
        low, high = center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
    else:
        y, low, high = (x - center) / width + 0.5, center - width / 2, center + width / 2
    return numpy.where(x <= low, 0, numpy.where(x > high, 1, y))


def gray(ds, index, window, monochrome1):
    stored, _ = frame_of(ds, index)
    stored = stored[..., 0]
    signed = ds.get("PixelRepresentation") == 1
    rescale = group(ds, index, "PixelValueTransformationSequence", "RescaleSlope")
    has_table = bool(rescale.get("ModalityLUTSequence"))
    if has_table:
        data, begin, _ = table(rescale.ModalityLUTSequence[0], signed)
        x = look_up(stored, data, begin)
    else:
        x = stored * (first(rescale, "RescaleSlope") or 1.0) + first(rescale, "RescaleIntercept", 0.0)
    voi = group(ds, index, "FrameVOILUTSequence", "WindowCenter")
    center, width = first(voi, "WindowCenter"), first(voi, "WindowWidth")
    if window:
        center, width, function = window.split(",")
        y = windowed(x, float(center), float(width), function)
    elif voi.get("VOILUTSequence"):
        data, begin, bits = table(voi.VOILUTSequence[0], signed and not has_table)
        y = look_up(x, data, begin) / ((1 << bits) - 1)
    elif center is not None and width is not None and width > 0:
        function = (voi.get("VOILUTFunction") or "LINEAR").lower().replace("_", "-")
        if function == "linear" and width < 1:
            function = "linear-exact"
        y = windowed(x, center, width, function)
    else:
        seen = numpy.isfinite(x)
        padding = ds.get("PixelPaddingValue")
        if isinstance(padding, int):
            padding = [padding, ds.get("PixelPaddingRangeLimit", padding)]
            if signed:
                padding = [value - 65536 if value > 32767 else value for value in padding]
            seen &= (stored < min(padding)) | (stored > max(padding))
        low, high = (x[seen].min(), x[seen].max()) if seen.any() else (0, 0)
        y = numpy.clip((x - low) / (high - low), 0, 1) if high > low else numpy.zeros_like(x)
    inverse = ds.PhotometricInterpretation == "MONOCHROME1" or monochrome1
    if inverse or ds.get("PresentationLUTShape") == "INVERSE":
        y = 1 - y
    return numpy.floor(y * 255 + 0.5)[..., None]


def check_with_pydicom(ds, index, window, picture):
    """What pydicom's own pipeline makes of it; it has no levels of 8 bits, and no padding."""
    if window or ds.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        return None
    if "PerFrameFunctionalGroupsSequence" in ds or not ("WindowWidth" in ds or ds.get("VOILUTSequence")):
        return None
    if "PixelData" not in ds or ds.BitsAllocated < 8 or ds.get("VOILUTFunction") not in (None, "LINEAR", "LINEAR_EXACT", "SIGMOID"):
        return None
    stored, _ = frame_of(ds, index)
    dtype = f"i{ds.BitsAllocated // 8}" if ds.PixelRepresentation else f"u{ds.BitsAllocated // 8}"
    try:
        values = apply_voi_lut(apply_modality_lut(stored[..., 0].astype(dtype), ds), ds)
    except TypeError:
        # It has no tables of 12 bits one after the other.
        return None
    if ds.get("VOILUTSequence"):
        least, most = 0, (1 << int(ds.VOILUTSequence[0].LUTDescriptor[2])) - 1
    else:
        if ds.get("ModalityLUTSequence"):
            least, most = 0, (1 << int(ds.ModalityLUTSequence[0].LUTDescriptor[2])) - 1
        elif ds.PixelRepresentation:
            least, most = -(1 << ds.BitsStored - 1), (1 << ds.BitsStored - 1) - 1
        else:
            least, most = 0, (1 << ds.BitsStored) - 1
        if "RescaleSlope" in ds:
            least, most = (end * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for end in (least, most))
    levels = (values.astype(float) - least) / (most - least) * 255
    if ds.PhotometricInterpretation == "MONOCHROME1":
        levels = 255 - levels
    return numpy.abs(levels - picture[..., 0]).max()


# Colours (PS3.3 C.7.6.3.1.2, C.7.6.3.1.5).

FULL = numpy.linalg.inv([[0.2990, 0.5870, 0.1140], [-0.1687, -0.3313, 0.5000], [0.5000, -0.4187, -0.0813]])
PARTIAL = numpy.linalg.inv([[0.2568, 0.5041, 0.0979], [-0.1482, -0.2910, 0.4392], [0.4392, -0.3678, -0.0714]])


def color(ds, index):
    stored, _ = frame_of(ds, index)
    photometric = ds.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        tables, widest = [], 0
        for name in ("Red", "Green", "Blue"):
            entries, begin, bits = (int(value) for value in ds[name + "PaletteColorLookupTableDescriptor"].value)
            entries, begin = entries or 65536, begin & 0xFFFF
            if ds.PixelRepresentation == 1 and begin >= 32768:
                begin -= 65536
            if name + "PaletteColorLookupTableData" in ds:
                data = ds[name + "PaletteColorLookupTableData"].value
                data = numpy.frombuffer(data, "u1" if bits == 8 and len(data) < entries * 2 else "<u2")[:entries]
            else:
                words = numpy.frombuffer(ds["Segmented" + name + "PaletteColorLookupTableData"].value, "<u2")
                data = numpy.array(segments(words.tolist()))[:entries]
            widest = max(widest, data.max())
            tables.append((data.astype(float), begin, bits))
        most = lambda bits: 255 if widest < 256 else (1 << bits) - 1
        planes = [look_up(stored[..., 0], data, begin) / most(bits) * 255 for data, begin, bits in tables]
        return numpy.floor(numpy.stack(planes, axis=-1) + 0.5)
    values = stored * 255 / ((1 << ds.BitsStored) - 1)
    if photometric.startswith("YBR_FULL"):
        values = (values - [0, 128, 128]) @ FULL.T
    elif photometric.startswith("YBR_PARTIAL"):
        values = (values - [16, 128, 128]) @ PARTIAL.T
    return numpy.clip(numpy.floor(values + 0.5), 0, 255)


def segments(words):
    out, at = [], 0
    while at + 1 < len(words):
        kind, length = words[at], words[at + 1]
        if kind == 0:
            out += words[at + 2 : at + 2 + length]
            at += 2 + length
        elif kind == 1:
            begin, end = out[-1], words[at + 2]
            out += [round(begin + (end - begin) * step / length) for step in range(1, length + 1)]
            at += 3
        else:
            offset = (words[at + 2] | words[at + 3] << 16) // 2
            sizes = lambda at: 2 + words[at + 1] if words[at] == 0 else 3
            for _ in range(length):
                part = words[offset : offset + sizes(offset)]
                if part[0] == 0:
                    out += part[2:]
                else:
                    begin = out[-1]
                    out += [round(begin + (part[2] - begin) * step / part[1]) for step in range(1, part[1] + 1)]
                offset += sizes(offset)
            at += 4
    return out


# Overlays and shutters (PS3.3 C.9.2, C.7.6.11).


def draw_over(ds, index, picture):
    rows, columns = picture.shape[:2]
    row, column = numpy.mgrid[1 : rows + 1, 1 : columns + 1]
    hidden = numpy.zeros((rows, columns), bool)
    shapes = ds.get("ShutterShape") or []
    for shape in [shapes] if isinstance(shapes, str) else shapes:
        if shape == "RECTANGULAR":
            hidden |= (column < ds.ShutterLeftVerticalEdge) | (column > ds.ShutterRightVerticalEdge)
            hidden |= (row < ds.ShutterUpperHorizontalEdge) | (row > ds.ShutterLowerHorizontalEdge)
        elif shape == "CIRCULAR":
            center = ds.CenterOfCircularShutter
            hidden |= (row - center[0]) ** 2 + (column - center[1]) ** 2 > ds.RadiusOfCircularShutter**2
        else:
            raise NotImplementedError(shape)
    picture[hidden] = ds.get("ShutterPresentationValue", 0) >> 8
    _, cells = frame_of(ds, index)
    for number in range(0x6000, 0x6020, 2):
        if (number, 0x0010) not in ds or ds.get((number, 0x0040), None) and ds[number, 0x0040].value == "R":
            continue
        height, width = ds[number, 0x0010].value, ds[number, 0x0011].value
        origin = ds[number, 0x0050].value if (number, 0x0050) in ds else [1, 1]
        if (number, 0x3000) in ds:
            plane = 0
            if (number, 0x0015) in ds and ds[number, 0x0015].value not in (None, ""):
                begin = ds[number, 0x0051].value if (number, 0x0051) in ds else 1
                plane = index + 1 - begin
                if not 0 <= plane < int(ds[number, 0x0015].value):
                    continue
            bits = numpy.unpackbits(numpy.frombuffer(ds[number, 0x3000].value, "u1"), bitorder="little")
            bits = bits[plane * height * width :][: height * width]
            bits = numpy.pad(bits, (0, height * width - len(bits))).reshape(height, width)
            top, left = int(origin[0]) - 1, int(origin[1]) - 1
            for y, x in numpy.argwhere(bits):
                if 0 <= top + y < rows and 0 <= left + x < columns:
                    picture[top + y, left + x] = 255
        elif ds.get((number, 0x0102)) and ds[number, 0x0102].value > 0 and ds[number, 0x0100].value == ds.BitsAllocated:
            picture[(cells.reshape(rows, columns) >> ds[number, 0x0102].value & 1) == 1] = 255
    return picture


# The viewport (PS3.18 8.3.5.1.3).


def aspect(ds, index):
    for values in (
        floats(ds, "PixelAspectRatio"),
        floats(group(ds, index, "PixelMeasuresSequence", "PixelSpacing"), "PixelSpacing"),
        floats(ds, "ImagerPixelSpacing"),
        floats(ds, "NominalScannedPixelSpacing"),
    ):
        if len(values) >= 2:
            ratio = values[0] / values[1] if values[1] else 0
            return ratio if 1 / 32 <= ratio <= 32 and abs(ratio - 1) > 1e-3 else 1.0
    return 1.0


def weights(begin, extent, size, count):
    """What each pixel of a picture's side has of each pixel of the image's."""
    scale = extent / count
    of = numpy.zeros((count, size))
    for at in range(count):
        if scale >= 1:
            low, high = begin + at * scale, begin + (at + 1) * scale
            pixels = numpy.arange(size)
            of[at] = numpy.clip(numpy.minimum(high, pixels + 1) - numpy.maximum(low, pixels), 0, None) / scale
        else:
            center = begin + (at + 0.5) * scale - 0.5
            center = min(max(center, numpy.floor(begin)), numpy.ceil(begin + extent) - 1)
            low = int(numpy.floor(center))
            of[at, low] += 1 - (center - low)
            if center > low:
                of[at, low + 1] += center - low
    return of


def scaled(ds, index, viewport, picture):
    rows, columns = picture.shape[:2]
    x, y, width, height = 0.0, 0.0, float(columns), float(rows)
    flip = [False, False]
    numbers = viewport.split(",") if viewport else []
    if len(numbers) == 6:
        x, y, width, height = (float(number) for number in numbers[2:])
        flip = [width < 0, height < 0]
        end_x, end_y = min(x + abs(width), columns), min(y + abs(height), rows)
        x, y = max(x, 0), max(y, 0)
        width, height = end_x - x, end_y - y
    ratio = aspect(ds, index)
    if not viewport and ratio == 1:
        return picture
    across, down = (width, height * ratio) if ratio >= 1 else (width / ratio, height)
    if viewport:
        scale = min(int(numbers[0]) / across, int(numbers[1]) / down)
        across, down = across * scale, down * scale
    half_up = lambda number: max(int(numpy.floor(number + 0.5)), 1)
    across, down = half_up(across), half_up(down)
    over, under = weights(x, width, columns, across), weights(y, height, rows, down)
    # The product of matrices, for each channel.
    out = numpy.stack([under @ plane @ over.T for plane in numpy.moveaxis(picture, 2, 0)], axis=-1)
    if flip[0]:
        out = out[:, ::-1]
    if flip[1]:
        out = out[::-1]
    return out


@functools.lru_cache(maxsize=2)
def read(path):
    return pydicom.dcmread(path)


@functools.lru_cache(maxsize=4)
def unscaled(path, index, window, monochrome1):
    ds = read(path)
    is_gray = ds.get("SamplesPerPixel", 1) == 1 and ds.PhotometricInterpretation.startswith("MONOCHROME")
    picture = gray(ds, index, window, monochrome1) if is_gray else color(ds, index)
    note = check_with_pydicom(ds, index, window, picture) if is_gray and not monochrome1 else None
    if ds.PhotometricInterpretation == "PALETTE COLOR" and "RedPaletteColorLookupTableData" in ds:
        stored, _ = frame_of(ds, index)
        colors = apply_color_lut(stored[..., 0].astype(f"u{ds.BitsAllocated // 8}"), ds)
        note = numpy.abs((colors >> 8 if colors.dtype == numpy.uint16 else colors) - picture).max()
    return draw_over(ds, index, picture), note


def compare():
    for line in sys.stdin:
        path, number, rendered, window, viewport, monochrome1 = line.rstrip("\n").split("\t")
        what = f"{os.path.basename(path)} frame {number} window '{window}' viewport '{viewport}' {monochrome1}"
        with open(rendered, "rb") as file:
            width, height, channels = numpy.frombuffer(file.read(12), "<u4").tolist()
            picture = numpy.frombuffer(file.read(), "u1").reshape(height, width, channels).astype(float)
        try:
            expected, note = unscaled(path, int(number) - 1, window, monochrome1 == "MONOCHROME1")
            expected = scaled(read(path), int(number) - 1, viewport, expected)
        except Exception as error:
            print(f"{what}\tBAD reference {type(error).__name__} {error}", flush=True)
            continue
        if expected.shape != picture.shape:
            print(f"{what}\tBAD picture {picture.shape} where {expected.shape} is expected", flush=True)
            continue
        off = numpy.abs(expected - picture).max()
        close = "ok" if off <= 1.01 else "BAD"
        also = "" if note is None else f", pydicom's pipeline off by {note:.2f}"
        print(f"{what}\t{close} off by {off:.2f}{also}", flush=True)


# Files of what pydicom has none of.


def lut(entries, begin, bits, signed=False, vr="US"):
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if signed else "US", [len(entries) % 65536, begin, bits])
    item.add_new("LUTData", "OW", numpy.array(entries, "<u2").tobytes())
    return item


def make(folder):
    def source(name):
        ds = pydicom.dcmread(get_testdata_file(name, download=False))
        ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        return ds

    def write(name, ds):
        path = os.path.join(folder, name + ".dcm")
        ds.save_as(path, implicit_vr=False, little_endian=True)
        print(path)

    curve = (numpy.linspace(0, 1, 4096) ** 2 * 4095).astype(int)
    ct, mr, rgb = source("CT_small.dcm"), source("MR_small.dcm"), source("SC_rgb.dcm")
    for name, begin, bits in (("voi-table-signed", -1024, 12), ("voi-table-16", -1024, 16)):
        ds = copy.deepcopy(ct)
        ds.VOILUTSequence = Sequence([lut(curve, begin, bits, signed=True)])
        write(name, ds)
    ds = copy.deepcopy(ct)
    del ds.RescaleSlope, ds.RescaleIntercept
    ds.ModalityLUTSequence = Sequence([lut(curve[::-1], -2000, 12, signed=True)])
    ds.ModalityLUTSequence[0].ModalityLUTType = "US"
    write("modality-table", ds)
    ds.VOILUTSequence = Sequence([lut(curve, 0, 12)])
    write("modality-and-voi-table", ds)
    for name, center, width, function in (
        ("sigmoid", 40, 400, "SIGMOID"),
        ("exact", 40.5, 399.25, "LINEAR_EXACT"),
        ("linear", 40, 400, "LINEAR"),
        ("narrow", 40, 1, "LINEAR"),
    ):
        ds = copy.deepcopy(ct)
        ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = [center, 0], [width, 5], function
        write("window-" + name, ds)
    ds = copy.deepcopy(mr)
    ds.PresentationLUTShape = "INVERSE"
    ds.PhotometricInterpretation = "MONOCHROME1"
    write("inverse", ds)
    ds = copy.deepcopy(mr)
    ds.PixelSpacing = [1.5, 0.5]
    write("high-pixels", ds)
    ds.PixelAspectRatio = [3, 4]
    write("wide-pixels", ds)
    # Overlays: one of its own over two frames, one in bit 15, and a region of interest that isn't shown.
    ds = copy.deepcopy(mr)
    frame = numpy.frombuffer(ds.PixelData, "<u2") & 0x0FFF
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.NumberOfFrames = 12, 11, 0, 3
    plane = (numpy.indices((64, 64)).sum(axis=0) % 9 == 0).astype("u1")
    ds.PixelData = numpy.concatenate([frame | plane.ravel().astype("<u2") << 15, frame, frame]).tobytes()
    for number, kind, origin in ((0x6000, "G", [5, -7]), (0x6004, "R", [1, 1])):
        ds.add_new((number, 0x0010), "US", 40)
        ds.add_new((number, 0x0011), "US", 37)
        ds.add_new((number, 0x0015), "IS", 2)
        ds.add_new((number, 0x0040), "CS", kind)
        ds.add_new((number, 0x0050), "SS", origin)
        ds.add_new((number, 0x0051), "US", 2)
        ds.add_new((number, 0x0100), "US", 1)
        ds.add_new((number, 0x0102), "US", 0)
        bits = numpy.random.default_rng(1).integers(0, 2, 2 * 40 * 37).astype("u1")
        bits = numpy.packbits(bits, bitorder="little").tobytes()
        ds.add_new((number, 0x3000), "OW", bits + b"\0" * (len(bits) % 2))
    for element, vr, value in ((0x0010, "US", 64), (0x0011, "US", 64), (0x0040, "CS", "G"), (0x0050, "SS", [1, 1]),
                               (0x0100, "US", 16), (0x0102, "US", 15)):
        ds.add_new((0x6002, element), vr, value)
    write("overlays", ds)
    ds = copy.deepcopy(ct)
    ds.ShutterShape = ["RECTANGULAR", "CIRCULAR"]
    ds.ShutterLeftVerticalEdge, ds.ShutterRightVerticalEdge = 11, 100
    ds.ShutterUpperHorizontalEdge, ds.ShutterLowerHorizontalEdge = 21, 120
    ds.CenterOfCircularShutter, ds.RadiusOfCircularShutter = [64, 60], 50
    ds.ShutterPresentationValue = 0x6000
    write("shutters", ds)
    # Colours.
    pixels = numpy.frombuffer(rgb.PixelData, "u1")[: rgb.Rows * rgb.Columns * 3].reshape(rgb.Rows, rgb.Columns, 3)
    if rgb.get("PlanarConfiguration") == 1:
        raise ValueError("not as expected")
    for name, matrix, black, label in (
        ("full", numpy.linalg.inv(FULL), 0, "YBR_FULL"),
        ("partial", numpy.linalg.inv(PARTIAL), 16, "YBR_PARTIAL_422"),
    ):
        ybr = numpy.clip(numpy.round(pixels @ matrix.T + [black, 128, 128]), 0, 255).astype("u1")
        ds = copy.deepcopy(rgb)
        pairs = ybr[:, : ybr.shape[1] // 2 * 2].reshape(ybr.shape[0], -1, 2, 3)
        shared = numpy.stack([pairs[..., 0, 0], pairs[..., 1, 0], pairs[..., 0, 1], pairs[..., 0, 2]], axis=-1)
        ds.Columns = pairs.shape[1] * 2
        ds.PixelData = shared.tobytes()
        ds.PhotometricInterpretation = label if label.endswith("_422") else label + "_422"
        write("ybr-shared-" + name, ds)
        if label == "YBR_FULL":
            for planar in (0, 1):
                ds = copy.deepcopy(rgb)
                planes = ybr.transpose(2, 0, 1) if planar else ybr
                ds.PixelData = planes.tobytes() + b"\0" * (planes.size % 2)
                ds.PhotometricInterpretation, ds.PlanarConfiguration = label, planar
                write(f"ybr-{name}-{planar}", ds)
    # Palettes.
    ds = copy.deepcopy(mr)
    values = numpy.frombuffer(ds.PixelData, "<i2").astype(int) // 8
    ds.PixelData = numpy.clip(values - 100, -128, 127).astype("<i2").tobytes()
    ds.PhotometricInterpretation = "PALETTE COLOR"
    for at, name in enumerate(("Red", "Green", "Blue")):
        ds.add_new(name + "PaletteColorLookupTableDescriptor", "SS", [200, -90, 16])
        entries = (numpy.arange(200) * (300 - 90 * at) % 65536).astype("<u2")
        ds.add_new(name + "PaletteColorLookupTableData", "OW", entries.tobytes())
    write("palette-signed", ds)
    for name in ("Red", "Green", "Blue"):
        del ds[name + "PaletteColorLookupTableData"]
        words = numpy.array([0, 3, 512, 60000, 200, 1, 90, 40000, 2, 2, 0, 0, 1, 14, 0], "<u2")
        ds.add_new("Segmented" + name + "PaletteColorLookupTableData", "OW", words.tobytes())
    write("palette-segmented", ds)
    # Cells.
    ds = copy.deepcopy(mr)
    values = numpy.frombuffer(ds.PixelData, "<i2")
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 32, 20, 27, 1
    ds.PixelData = ((values.astype(numpy.int64) * 100 - 90000) << 8 & 0xFFFFFFFF | 0xA5).astype("<u4").tobytes()
    write("cells-32", ds)
    ds = copy.deepcopy(mr)
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = ds.PixelRepresentation = 0
    ds.NumberOfFrames, ds.Columns, ds.Rows = 3, 5, 7
    bits = numpy.random.default_rng(2).integers(0, 2, 3 * 5 * 7).astype("u1")
    ds.PixelData = numpy.packbits(bits, bitorder="little").tobytes()
    ds["PixelData"].VR = "OB"
    write("cells-1", ds)
    for keyword, dtype, allocated in (("FloatPixelData", "<f4", 32), ("DoubleFloatPixelData", "<f8", 64)):
        ds = copy.deepcopy(mr)
        del ds.PixelData, ds.BitsStored, ds.HighBit, ds.PixelRepresentation
        ds.BitsAllocated = allocated
        setattr(ds, keyword, (values / 1000 - 0.3).astype(dtype).tobytes())
        ds.WindowCenter, ds.WindowWidth = "0.4", "0.7"
        write("cells-" + keyword, ds)
    # Each frame another window and rescale.
    ds = copy.deepcopy(mr)
    ds.NumberOfFrames = 3
    ds.PixelData = ds.PixelData * 3
    groups = []
    for center, width, slope in ((300, 500, 1), (900, 700, 2)):
        item, voi, rescale = Dataset(), Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = center, width
        rescale.RescaleSlope, rescale.RescaleIntercept = slope, -10
        item.FrameVOILUTSequence, item.PixelValueTransformationSequence = Sequence([voi]), Sequence([rescale])
        groups.append(item)
    ds.SharedFunctionalGroupsSequence = Sequence(groups[:1])
    ds.PerFrameFunctionalGroupsSequence = Sequence([Dataset(), groups[1], Dataset()])
    write("functional-groups", ds)
    ds = copy.deepcopy(ct)
    del ds.RescaleSlope
    for keyword in ("WindowCenter", "WindowWidth"):
        if keyword in ds:
            del ds[keyword]
    ds.add_new("PixelPaddingValue", "SS" if ds.PixelRepresentation else "US", 128)
    ds.add_new("PixelPaddingRangeLimit", "SS" if ds.PixelRepresentation else "US", 300)
    write("padding", ds)


def main():
    if sys.argv[1] == "list":
        print(*files(), sep="\n")
    elif sys.argv[1] == "make":
        make(sys.argv[2])
    else:
        compare()


main()
