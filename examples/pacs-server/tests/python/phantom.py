"""Writes a CT of nobody: a head of ellipsoids in 40 planes, and an older one in 12.

    phantom.py DIRECTORY

What the browser tests look at: pydicom's own series are of 16 by 16 pixels, too small to see whether a
reconstruction is right.
"""

import sys
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

SIZE = 256
SPACING = 0.9
# Center and half axes in mm, along x, y and z, and Hounsfield units inside; the later ones cover the
# earlier ones.
HEAD = [
    ((0, 0, 0), (78, 100, 88), 60),
    ((0, 0, 0), (74, 96, 84), 1100),
    ((0, 0, 0), (68, 90, 78), 36),
    ((-14, -18, 4), (7, 30, 22), 4),
    ((14, -18, 4), (7, 30, 22), 4),
    ((0, 30, 0), (3, 14, 10), 4),
    # On the left side alone, and above the middle: what is turned or mirrored shows.
    ((38, 26, 6), (14, 18, 12), 66),
    ((-34, 44, -20), (10, 10, 10), 16),
]


def plane(z, random):
    """Hounsfield units of the plane at `z` mm, with a little noise."""
    along = (np.arange(SIZE) - (SIZE - 1) / 2) * SPACING
    x, y = np.meshgrid(along, along)
    values = np.full((SIZE, SIZE), -1000.0)
    for (cx, cy, cz), (ax, ay, az), units in HEAD:
        inside = ((x - cx) / ax) ** 2 + ((y - cy) / ay) ** 2 + ((z - cz) / az) ** 2 <= 1
        values[inside] = units
    return np.rint(values + random.normal(0, 5, values.shape)).astype(np.int16)


def write(directory, study, date, count, thickness):
    random = np.random.default_rng(study)
    for number in range(1, count + 1):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = f"2.25.7100{study}.1.{number}"
        ds = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        ds.StudyInstanceUID, ds.SeriesInstanceUID = f"2.25.7100{study}", f"2.25.7100{study}.1"
        ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = f"2.25.7100{study}.2", ""
        ds.StudyDate = ds.SeriesDate = date
        ds.StudyTime = ds.SeriesTime = "101500"
        ds.AccessionNumber, ds.StudyID = f"PH{study}", str(study)
        ds.Modality, ds.BodyPartExamined = "CT", "HEAD"
        ds.StudyDescription, ds.SeriesDescription = "Head phantom", f"Axial {thickness:g} mm"
        ds.PatientName, ds.PatientID = "Phantom^Head", "PHANTOM-1"
        ds.PatientBirthDate, ds.PatientSex = "20000101", "O"
        ds.Manufacturer, ds.PatientPosition = "None", "HFS"
        ds.SeriesNumber, ds.InstanceNumber = 1, number
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        z = (number - (count + 1) / 2) * thickness
        corner = -(SIZE - 1) / 2 * SPACING
        ds.ImagePositionPatient = [round(corner, 4), round(corner, 4), round(z, 4)]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.SliceThickness, ds.SliceLocation = thickness, round(z, 4)
        ds.PixelSpacing = [SPACING, SPACING]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows = ds.Columns = SIZE
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "HU"
        ds.WindowCenter, ds.WindowWidth = 40, 120
        ds.PixelData = plane(z, random).astype("<i2").tobytes()
        ds.save_as(directory / f"{study}-{number:02}.dcm", enforce_file_format=True)


def main():
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    write(directory, 1, "20240312", 40, 3.0)
    write(directory, 2, "20221104", 12, 10.0)


main()
