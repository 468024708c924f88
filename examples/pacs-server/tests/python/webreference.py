"""How stored values become grey levels or colours, by PS3.3 C.11.1, C.11.2 and C.9.2, with numpy alone."""

import numpy as np
from pydicom.pixels import apply_color_lut


def reference(ds, frame, window, number):
    """Eight bits a sample of frame `number`; None where no reference is written here."""
    picture = without_graphics(ds, frame, window)
    return None if picture is None else graphics(ds, picture, number)


def graphics(ds, picture, number):
    """Overlays of graphics are drawn in white, those that are regions of interest are not (C.9.2)."""
    for group in range(0x6000, 0x6020, 2):
        if (group, 0x3000) not in ds or (group, 0x0040) in ds and ds[group, 0x0040].value == "R":
            continue
        planes = ds.overlay_array(group)
        if (group, 0x0015) in ds:
            first = int(ds[group, 0x0051].value) if (group, 0x0051) in ds else 1
            planes = planes.reshape(int(ds[group, 0x0015].value), *planes.shape[-2:])
            if not 0 <= number - first < len(planes):
                continue
            planes = planes[number - first]
        top, left = (int(one) - 1 for one in ds[group, 0x0050].value) if (group, 0x0050) in ds else (0, 0)
        # What the plane has outside of the image is not seen.
        rows, columns = np.nonzero(planes)
        rows, columns = rows + top, columns + left
        seen = (rows >= 0) & (rows < picture.shape[0]) & (columns >= 0) & (columns < picture.shape[1])
        picture[rows[seen], columns[seen]] = 255
    return picture


def without_graphics(ds, frame, window):
    kind = str(ds.PhotometricInterpretation)
    if kind in ("MONOCHROME1", "MONOCHROME2"):
        if ds.get("ModalityLUTSequence") or ds.get("VOILUTSequence") or not integers(frame):
            return None
        center, width, function = window.split(",")
        grey = FUNCTIONS[function](modality(ds, frame), float(center), float(width))
        grey = np.clip(grey, 0, 1)
        return np.rint((1 - grey if kind == "MONOCHROME1" else grey) * 255).astype(int)
    if kind == "PALETTE COLOR":
        try:
            colours = apply_color_lut(frame, ds)
        except Exception:  # noqa: BLE001 the table is damaged
            return None
        bits = 16 if colours.dtype.itemsize == 2 else 8
        return eight_bits(colours, bits)
    if frame.ndim == 3 and frame.shape[-1] == 3:
        return eight_bits(frame, int(ds.BitsStored))
    return None


def integers(frame):
    return frame.ndim == 2 and np.issubdtype(frame.dtype, np.integer)


def modality(ds, frame):
    slope, intercept = ds.get("RescaleSlope"), ds.get("RescaleIntercept")
    if slope is None:
        shared = (ds.get("SharedFunctionalGroupsSequence") or [{}])[0]
        several = shared.get("PixelValueTransformationSequence") if shared else None
        if several:
            slope, intercept = several[0].RescaleSlope, several[0].RescaleIntercept
    values = frame.astype(np.float64)
    return values if slope is None else values * float(slope) + float(intercept or 0)


def linear(x, center, width):
    """C.11.2.1.2.1."""
    low, high = center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
    if width <= 1:
        return np.where(x <= low, 0.0, 1.0)
    return np.where(x <= low, 0.0, np.where(x > high, 1.0, (x - (center - 0.5)) / (width - 1) + 0.5))


def linear_exact(x, center, width):
    """C.11.2.1.3.2."""
    low, high = center - width / 2, center + width / 2
    return np.where(x <= low, 0.0, np.where(x > high, 1.0, (x - center) / width + 0.5))


def sigmoid(x, center, width):
    """C.11.2.1.3.1."""
    return 1 / (1 + np.exp(np.clip(-4 * (x - center) / width, -700, 700)))


FUNCTIONS = {"linear": linear, "linear-exact": linear_exact, "sigmoid": sigmoid}


def eight_bits(samples, bits):
    return np.rint(samples.astype(np.float64) / (2**bits - 1) * 255).astype(int)
