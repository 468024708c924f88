"""Frames and rendered pictures."""

from io import BytesIO

import numpy as np
from PIL import Image

from webchecks import Refused, expect, parameters, parts, same
from webfiles import decoded, encoded, frame_count, some_frames
from webreference import reference
from webretrieve import EXPLICIT, close

# The media type of a compressed frame by its transfer syntax (PS3.18 table 8.7.3-5).
MEDIA_TYPE = {
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.92": "image/jpx",
    "1.2.840.10008.1.2.4.93": "image/jpx",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
    "1.2.840.10008.1.2.4.110": "image/jxl",
    "1.2.840.10008.1.2.4.111": "image/jxl",
    "1.2.840.10008.1.2.4.112": "image/jxl",
    "1.2.840.10008.1.2.4.100": "video/mpeg2",
    "1.2.840.10008.1.2.4.101": "video/mpeg2",
    "1.2.840.10008.1.2.4.102": "video/mp4",
    "1.2.840.10008.1.2.4.103": "video/mp4",
    "1.2.840.10008.1.2.4.104": "video/mp4",
    "1.2.840.10008.1.2.4.105": "video/mp4",
    "1.2.840.10008.1.2.4.106": "video/mp4",
}
# Those that dicomweb-client has no name for are asked for by hand.
CLIENT_KNOWS_NOT = ("image/jphc", "image/jxl")


def with_pixels(run):
    for instance in run.instances():
        ds = instance.read()
        if "PixelData" in ds and ds.get("Rows") and ds.get("Columns"):
            yield instance, ds


def check_frames(run):
    for instance, ds in with_pixels(run):
        count = frame_count(ds)
        numbers = some_frames(count)
        check_decoded(run, instance, ds, numbers)
        if instance.syntax.is_compressed and instance.syntax.is_encapsulated:
            check_encoded(run, instance, ds, numbers)
        check_lists(run, instance, numbers)
        check_no_frame(run, instance, count)


def check_decoded(run, instance, ds, numbers):
    """As octet-stream a frame is what the instance has in Explicit VR Little Endian, with pydicom's pixels."""
    client, checks = run.client, run.checks
    octets = ("application/octet-stream", EXPLICIT)
    try:
        described = client.retrieve_instance(*instance.uids, media_types=(("application/dicom", EXPLICIT),))
    except Exception:  # noqa: BLE001 told where instances are retrieved
        described = None
    for number in numbers:
        what = f"{number} of {instance.name}"
        wanted = decoded(ds, number)
        with checks.check("retrieve_instance_frames, application/octet-stream", what):
            if wanted is None:
                # Whatever comes, there is nothing to hold it against; but it must be an answer.
                response = run.get(run.path(instance, "frames", str(number)), "application/octet-stream")
                expect(
                    response.status_code < 500 or response.status_code == 501,
                    f"status {response.status_code}",
                )
                raise Refused("not compared: pydicom does not decode it")
            came = client.retrieve_instance_frames(*instance.uids, [number], media_types=(octets,))
            same(len(came), 1, "parts")
            expect(described is not None, "the frame comes, the instance not")
            close(instance, frame_of(described, bytes(came[0]), ds), wanted, number)
    operation = "iter_instance_frames, application/octet-stream"
    with checks.check(operation, instance.name, may_end=instance.is_cut_off):
        came = list(client.iter_instance_frames(*instance.uids, numbers, media_types=(octets,)))
        again = client.retrieve_instance_frames(
            *instance.uids, numbers, media_types=("application/octet-stream",)
        )
        same([bytes(one) for one in came], [bytes(one) for one in again], "frames")
        same(len(came), len(numbers), "frames")


def frame_of(described, content, ds):
    """The bytes of one frame, read by the description of the instance that they belong to."""
    described.PixelData = content + b"\0" * (len(content) % 2)
    described["PixelData"].VR = "OW" if int(described.BitsAllocated) > 8 else "OB"
    described.file_meta.TransferSyntaxUID = EXPLICIT
    if frame_count(ds) > 1:
        described.NumberOfFrames = 1
    got = decoded(described, 1)
    expect(got is not None, "pydicom can't read the frame by the instance's description")
    return got


def check_encoded(run, instance, ds, numbers):
    """In its own transfer syntax a frame has the bytes that are stored."""
    client, checks = run.client, run.checks
    syntax = str(instance.syntax)
    media_type = MEDIA_TYPE.get(syntax)
    if media_type is None:
        return
    for number in numbers:
        what = f"{number} of {instance.name}"
        try:
            wanted = encoded(ds, number)
        except Exception:  # noqa: BLE001 its fragments can't be told apart by pydicom
            continue
        ways = {
            "any": "*/*",
            "its media type and syntax": f'multipart/related; type="{media_type}"; transfer-syntax={syntax}',
            "the syntax it has": 'multipart/related; type="application/octet-stream"; transfer-syntax=*',
        }
        with checks.check(f"retrieve_instance_frames, {media_type}", what):
            if media_type in CLIENT_KNOWS_NOT:
                came = parts(
                    ok(run.get(run.path(instance, "frames", str(number)), ways["its media type and syntax"]))
                )
                came = [content for _, content in came]
            else:
                came = client.retrieve_instance_frames(
                    *instance.uids, [number], media_types=((media_type, syntax),)
                )
            same(len(came), 1, "parts")
            expect(bytes(came[0]).rstrip(b"\0") == wanted.rstrip(b"\0"), "other bytes than those stored")
        with checks.check("frame: transfer-syntax=*", what):
            accept = f'multipart/related; type="{media_type}"; transfer-syntax=*'
            ((headers, content),) = parts(ok(run.get(run.path(instance, "frames", str(number)), accept)))
            expect(content.rstrip(b"\0") == wanted.rstrip(b"\0"), "other bytes than those stored")
            of_part, given = parameters(headers["content-type"])
            same(of_part, media_type, "media type of the part")
            same(given.get("transfer-syntax", syntax), syntax, "transfer syntax of the part")
        with checks.check("frame: a single part", what):
            response = ok(
                run.get(run.path(instance, "frames", str(number)), f"{media_type}; transfer-syntax=*")
            )
            expect(response.content.rstrip(b"\0") == wanted.rstrip(b"\0"), "other bytes than those stored")


def ok(response):
    response.raise_for_status()
    return response


def check_lists(run, instance, numbers):
    """Several frames come in the order they are asked for."""
    if len(numbers) < 2:
        return
    client = run.client
    with run.checks.check("retrieve_instance_frames, a list", instance.name):
        backwards = numbers[::-1]
        came = client.retrieve_instance_frames(*instance.uids, backwards)
        each = [client.retrieve_instance_frames(*instance.uids, [number])[0] for number in backwards]
        expect([bytes(one) for one in came] == [bytes(one) for one in each], "other frames than one by one")


def check_no_frame(run, instance, count):
    for frames, allowed in (
        (str(count + 1), (404, 400)),
        ("0", (400, 404)),
        ("x", (400, 404)),
        ("1,,2", (400, 404)),
    ):
        with run.checks.check("frame: one that isn't there", f"{frames} of {instance.name}"):
            response = run.get(run.path(instance, "frames", frames))
            expect(response.status_code in allowed, f"status {response.status_code}")


def check_rendered(run):
    series_seen = set()
    for instance, ds in with_pixels(run):
        numbers = some_frames(frame_count(ds))
        wanted = decoded(ds, numbers[0])
        if wanted is None:
            with run.checks.check("rendered: what pydicom does not decode", instance.name):
                response = run.get(run.path(instance, "rendered"), "image/png")
                expect(
                    response.status_code < 500 or response.status_code == 501,
                    f"status {response.status_code}",
                )
            continue
        check_formats(run, instance, ds)
        check_reference(run, instance, ds, numbers)
        check_parameters(run, instance, ds)
        if instance.uids[:2] not in series_seen:
            series_seen.add(instance.uids[:2])
            check_above(run, instance)


def check_formats(run, instance, ds):
    client, checks = run.client, run.checks
    for media_type, format in (("image/png", "PNG"), ("image/jpeg", "JPEG"), ("image/gif", "GIF")):
        with checks.check(f"retrieve_instance_rendered, {media_type}", instance.name):
            content = client.retrieve_instance_rendered(*instance.uids, media_types=(media_type,))
            picture = Image.open(BytesIO(content))
            same(picture.format, format, "format")
            proportion(picture, ds)
            if format == "GIF" and frame_count(ds) > 1:
                expect(getattr(picture, "n_frames", 1) > 1, "a multi-frame instance is one picture only")
        with checks.check(f"retrieve_instance_frames_rendered, {media_type}", instance.name):
            content = client.retrieve_instance_frames_rendered(*instance.uids, [1], media_types=(media_type,))
            same(Image.open(BytesIO(content)).format, format, "format")
    with checks.check("retrieve_instance_rendered, the default", instance.name):
        # image/jpeg for a single frame (PS3.18 table 8.7.4-1).
        picture = Image.open(BytesIO(client.retrieve_instance_rendered(*instance.uids)))
        expect(picture.format in ("JPEG", "GIF", "PNG"), "a picture of a rendered media type")


def proportion(picture, ds, viewport=None):
    """Rows and columns, or those stretched to square pixels (PS3.3 C.7.6.3.1.7); as large as the viewport allows,
    where one is given (PS3.18 8.3.5.1.3)."""
    width, height = float(ds.Columns), float(ds.Rows)
    down, across = pixel_size(ds)
    stretched = abs(down / across - 1) > 1e-3
    if stretched:
        width, height = (width, height * down / across) if down > across else (width * across / down, height)
    if viewport:
        scale = min(viewport[0] / width, viewport[1] / height)
        width, height = width * scale, height * scale
    # Without either, all is whole.
    off = max(abs(picture.size[0] - width), abs(picture.size[1] - height))
    expect(off <= (1 if stretched or viewport else 0), f"{picture.size} instead of {width:.1f}, {height:.1f}")
    expect(not viewport or max(p / v for p, v in zip(picture.size, viewport)) == 1, f"{viewport} is not filled")


def pixel_size(ds):
    """The height and the width of a pixel, or their ratio."""
    shared = (ds.get("SharedFunctionalGroupsSequence") or [{}])[0]
    frame = (ds.get("PerFrameFunctionalGroupsSequence") or [{}])[0]
    for group in (frame, shared):
        measures = group.get("PixelMeasuresSequence") if group else None
        if measures and measures[0].get("PixelSpacing"):
            return [float(one) for one in measures[0].PixelSpacing]
    for keyword in ("PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        said = ds.get(keyword)
        if said and len(said) == 2 and all(float(one) > 0 for one in said):
            return [float(one) for one in said]
    return [1.0, 1.0]


def check_reference(run, instance, ds, numbers):
    """Within one grey level of the formulas of PS3.3, written with numpy."""
    monochrome = str(ds.PhotometricInterpretation).startswith("MONOCHROME")
    windows = ["40.5,400,linear", "128,256,linear-exact", "100,300,sigmoid"] if monochrome else [None]
    lossy = str(instance.syntax) in (
        "1.2.840.10008.1.2.4.50",
        "1.2.840.10008.1.2.4.51",
        "1.2.840.10008.1.2.4.91",
    )
    for number in numbers:
        for window in windows:
            with run.checks.check(
                "rendered: held against numpy", f"{number} of {instance.name}, window {window}"
            ):
                wanted = reference(ds, decoded(ds, number), window, number)
                if wanted is None:
                    raise Refused("not compared: no reference for it")
                params = {"window": window} if window else {}
                content = run.client.retrieve_instance_frames_rendered(
                    *instance.uids, [number], media_types=("image/png",), params=params
                )
                picture = Image.open(BytesIO(content))
                proportion(picture, ds)
                if picture.size != (int(ds.Columns), int(ds.Rows)):
                    raise Refused("not compared: stretched to square pixels")
                got = np.asarray(picture.convert("L" if wanted.ndim == 2 else "RGB")).astype(int)
                worst = int(np.abs(got - wanted).max(initial=0))
                expect(worst <= (1 if not lossy else 6), f"differs by {worst} grey levels")


def check_parameters(run, instance, ds):
    """viewport, quality, annotation (PS3.18 8.3.5.1)."""
    client, checks = run.client, run.checks

    def rendered(media_type="image/png", **params):
        content = client.retrieve_instance_frames_rendered(
            *instance.uids, [1], media_types=(media_type,), params=params
        )
        return Image.open(BytesIO(content)), content

    with checks.check("rendered: viewport", instance.name):
        picture, _ = rendered(viewport="64,64")
        proportion(picture, ds, (64, 64))
    if int(ds.Columns) > 32 and int(ds.Rows) > 32:
        with checks.check("rendered: a region of the source", instance.name):
            picture, _ = rendered(viewport="16,16,8,8,16,16")
            expect(max(picture.size) == 16, f"{picture.size} does not fill 16,16")
        with checks.check("rendered: a region, flipped", instance.name):
            picture, _ = rendered(viewport="16,16,8,8,-16,16")
            plain, _ = rendered(viewport="16,16,8,8,16,16")
            same(
                np.asarray(picture.convert("RGB")).tolist(),
                np.asarray(plain.convert("RGB"))[:, ::-1].tolist(),
                "pixels",
            )
    with checks.check("rendered: quality", instance.name):
        _, worse = rendered("image/jpeg", quality="10")
        _, better = rendered("image/jpeg", quality="95")
        expect(len(worse) <= len(better), "a lower quality is longer")
    with checks.check("rendered: annotation", instance.name):
        rendered(annotation="patient,technique")
    for query in (
        "viewport=0,0",
        "viewport=a",
        "quality=0",
        "quality=101",
        "window=1",
        "window=1,0,linear",
        "window=1,2,none",
    ):
        with checks.check("rendered: what is no parameter", f"{query} of {instance.name}"):
            response = run.get(run.path(instance, "rendered") + "?" + query, "image/png")
            same(response.status_code, 400, "status")


def check_above(run, instance):
    client, checks = run.client, run.checks
    study, series, _ = instance.uids
    for media_type in ("image/png", "image/jpeg", "image/gif"):
        with checks.check(f"retrieve_series_rendered, {media_type}", instance.name):
            expect(
                client.retrieve_series_rendered(study, series, media_types=(media_type,)), "something comes"
            )
    for path in (f"studies/{study}/rendered", f"studies/{study}/series/{series}/rendered"):
        with checks.check("rendered: multipart", f"{path.count('/')} levels of {instance.name}"):
            response = ok(run.get(path, 'multipart/related; type="image/jpeg"'))
            for _, content in parts(response):
                same(Image.open(BytesIO(content)).format, "JPEG", "format")
    for path in (
        f"studies/{study}/thumbnail",
        f"studies/{study}/series/{series}/thumbnail",
        run.path(instance, "thumbnail"),
        run.path(instance, "frames", "1", "thumbnail"),
    ):
        with checks.check("thumbnail", f"{path.count('/')} levels of {instance.name}"):
            response = ok(run.get(path))
            picture = Image.open(BytesIO(response.content))
            expect(picture.format in ("JPEG", "PNG", "GIF"), "a picture of a rendered media type")
            expect(max(picture.size) <= 512, f"{picture.size} is small")
