"""Compresses test files of pydicom as JPEG XL, by libjxl in imagecodecs, and compares what became of them.

    jpegxl_pydicom.py make FOLDER    prints lines of "compressed <tab> pixels expected <tab> largest difference"
    jpegxl_pydicom.py compare < lines of "transcoded <tab> pixels expected <tab> largest difference"

Prints no value of any element.
"""

import copy
import os
import sys
import warnings

import imagecodecs
import numpy
import pydicom
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import pixel_array
from pydicom.uid import UID

warnings.simplefilter("ignore")

LOSSLESS, RECOMPRESSED, LOSSY = (UID(f"1.2.840.10008.1.2.4.{last}") for last in (110, 111, 112))


def write(folder, name, ds, syntax, frames, photometric, expected, tolerance):
    out = copy.deepcopy(ds)
    # pydicom knows none of these transfer syntaxes: it writes another one whose UID is as long.
    out.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.100")
    out.PixelData = encapsulate(frames)
    out["PixelData"].VR = "OB"
    out["PixelData"].is_undefined_length = True
    out.PhotometricInterpretation = photometric
    if out.SamplesPerPixel > 1:
        out.PlanarConfiguration = 0
    path = os.path.join(folder, name)
    out.save_as(path)
    with open(path, "rb") as file:
        head, rest = file.read(1000), file.read()
    with open(path, "wb") as file:
        file.write(head.replace(b"1.2.840.10008.1.2.4.100", syntax.encode()) + rest)
    numpy.save(path + ".npy", expected)
    print(path, path + ".npy", tolerance, sep="\t")


def lossless(pixels, bits):
    stored = pixels.astype(pixels.dtype.str.replace("i", "u"))
    if pixels.dtype.itemsize > 1 and bits < 16:
        stored &= (1 << bits) - 1
    return imagecodecs.jpegxl_encode(stored, lossless=True, bitspersample=bits if bits > 8 else None)


def make(folder):
    sources = ["CT_small.dcm", "MR_small.dcm", "RG1_UNCR.dcm", "SC_rgb.dcm", "SC_rgb_16bit.dcm", "emri_small.dcm",
               "SC_rgb_2frame.dcm", "OBXXXX1A.dcm"]
    for name in sources:
        path = get_testdata_file(name, download=False)
        if path is None:
            continue
        ds = pydicom.dcmread(path)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID
        pixels = pixel_array(path, raw=True)
        frames = pixels if int(ds.get("NumberOfFrames") or 1) > 1 else pixels[None]
        photometric = ds.PhotometricInterpretation
        coded = [lossless(frame, ds.BitsStored) for frame in frames]
        write(folder, "lossless-" + name, ds, LOSSLESS, coded, photometric, pixels, 0)
        if frames.dtype == numpy.uint8 and photometric != "PALETTE COLOR":
            coded = [imagecodecs.jpegxl_encode(frame, distance=1.0) for frame in frames]
            expected = numpy.stack([imagecodecs.jpegxl_decode(frame) for frame in coded])
            expected = expected.reshape(pixels.shape)
            label = "XYB" if ds.SamplesPerPixel == 3 else photometric
            write(folder, "lossy-" + name, ds, LOSSY, coded, label, expected, 1)
    for name in ["SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_small_odd_jpeg.dcm", "examples_ybr_color.dcm", "SC_jpeg_no_color_transform.dcm",
                 "JPGExtended.dcm"]:
        path = get_testdata_file(name, download=False)
        if path is None:
            continue
        ds = pydicom.dcmread(path)
        if str(ds.file_meta.TransferSyntaxUID) != "1.2.840.10008.1.2.4.50":
            continue
        count = int(ds.get("NumberOfFrames") or 1)
        jpegs = list(generate_frames(ds.PixelData, number_of_frames=count))
        coded = [imagecodecs.jpegxl_encode_jpeg(jpeg) for jpeg in jpegs]
        expected = numpy.stack([imagecodecs.jpegxl_decode(frame) for frame in coded])
        if count == 1:
            expected = expected[0]
        write(folder, "recompressed-" + name, ds, RECOMPRESSED, coded, ds.PhotometricInterpretation, expected, 1)


def compare():
    for line in sys.stdin:
        transcoded, expected, tolerance = line.rstrip("\n").split("\t")
        ds = pydicom.dcmread(transcoded)
        pixels, expected = pixel_array(transcoded, raw=True), numpy.load(expected)
        name = os.path.basename(transcoded)
        if pixels.shape != expected.shape:
            print(f"{name}\tBAD shape {pixels.shape} where {expected.shape} is expected")
            continue
        off = numpy.abs(pixels.astype(numpy.int64) - expected)
        lossy = int(tolerance) > 0
        verdict = "ok" if off.max() <= int(tolerance) else "BAD"
        if lossy and ds.SamplesPerPixel == 3 and ds.PhotometricInterpretation != "RGB":
            verdict = "BAD label"
        print(f"{name}\t{verdict} {pixels.shape} {pixels.dtype} {ds.PhotometricInterpretation}, off by {off.max()}")


make(sys.argv[2]) if sys.argv[1] == "make" else compare()
