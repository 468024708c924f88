"""The instances that the scripts store, and what pydicom reads of each."""

import warnings
from io import BytesIO
from itertools import chain

import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import write_file_meta_info
from pydicom.pixels import pixel_array
from pydicom.uid import UID

from files import items

warnings.filterwarnings("ignore")


class Instance:
    """One file, as the Part 10 stream that is sent."""

    def __init__(self, name, item):
        self.name = name
        self.item = item
        raw = item.path.read_bytes()
        whole = (
            raw[128:132] == b"DICM"
            and raw.endswith(item.data_set)
            and raw[132:140] == b"\x02\x00\x00\x00UL\x04\x00"
        )
        self.part10 = raw if whole else header(item) + item.data_set
        self.as_it_is = whole

    uids = property(lambda self: (self.item.study, self.item.series, self.item.sop_instance))
    # Its last element has less than its length says. It is taken, and given out as it came; what needs that
    # element's value is refused, or broken off where it is missed only then.
    is_cut_off = property(lambda self: self.item.path.name in ("MR_truncated.dcm", "rtplan_truncated.dcm"))
    syntax = property(lambda self: UID(str(self.item.transfer_syntax)))

    def read(self):
        """Read anew each time: pydicom's elements change as they are looked at."""
        return pydicom.dcmread(BytesIO(self.part10), force=True)


def header(item):
    """Preamble and meta information for a file that has none, or one without a group length."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = item.sop_class
    meta.MediaStorageSOPInstanceUID = item.sop_instance
    meta.TransferSyntaxUID = item.transfer_syntax
    meta.ImplementationClassUID = "2.25.20260114"
    buffer = BytesIO()
    write_file_meta_info(buffer, meta, enforce_standard=False)
    return bytes(128) + b"DICM" + buffer.getvalue()


def waves(directories=()):
    """The instances in lists, each with a SOP Instance UID once: the last one stays in force."""
    found, wave_of = [], {}
    for _, name, item, _ in items(list(directories)):
        if item is None:
            continue
        at = wave_of.get(item.sop_instance, 0)
        wave_of[item.sop_instance] = at + 1
        if at == len(found):
            found.append([])
        found[at].append(Instance(name, item))
    return found


def frame_count(ds):
    return max(1, int(ds.get("NumberOfFrames") or 1))


def some_frames(count):
    """The first, the last, and one between."""
    return sorted({1, (count + 1) // 2, count})


def decoded(ds, number, raw=False):
    """Frame `number`, from 1, as pydicom decodes it: colours as RGB, unless `raw`. None where it can't."""
    try:
        return pixel_array(ds, index=number - 1, raw=raw) if frame_count(ds) > 1 else pixel_array(ds, raw=raw)
    except Exception:  # noqa: BLE001 whatever the reason, there is nothing to compare with
        return None


def encoded(ds, number):
    """Frame `number` of encapsulated pixel data, without the byte that pads it."""
    frames = pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=frame_count(ds))
    return next(frame for at, frame in enumerate(frames, 1) if at == number)


def every(found):
    return list(chain.from_iterable(found))
