"""Says what pydicom makes of its test files as DICOM JSON, two lines a file, for pydicom_json.rs.

F  path of a file
J  its data set as one line of JSON, without pixel data; X and a reason where pydicom can't say it
"""

import json
import math
import os
import sys
import warnings

warnings.simplefilter("ignore")

import pydicom  # noqa: E402
from pydicom import config  # noqa: E402

config.settings.reading_validation_mode = config.IGNORE


def plain(value):
    """JSON has no number for these."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value


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
        for tag in (0x7FE00008, 0x7FE00009, 0x7FE00010):
            if tag in dataset:
                del dataset[tag]
        said = plain(dataset.to_json_dict(suppress_invalid_tags=True))
        print("J", json.dumps(said, ensure_ascii=True, allow_nan=False), sep="\t")
    except Exception as error:
        print("X", type(error).__name__, sep="\t")
sys.stdout.flush()
