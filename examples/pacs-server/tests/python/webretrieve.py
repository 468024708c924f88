"""WADO-RS: instances, metadata and bulk data."""

from io import BytesIO
from xml.etree import ElementTree
from zipfile import ZipFile

import numpy as np

from webchecks import Refused, data_set, expect, parameters, parts, same
from webcompare import differences
from webfiles import decoded, frame_count, some_frames

EXPLICIT = "1.2.840.10008.1.2.1"
AS_STORED = (("application/dicom", "*"),)
JSON = "application/dicom+json"
XML = 'multipart/related; type="application/dicom+xml"'


def check_instances(run):
    client, checks = run.client, run.checks
    for study, instances in run.studies().items():
        wanted = {instance.item.sop_instance for instance in instances}
        name = instances[0].name
        with checks.check("retrieve_study", name):
            same(
                {str(ds.SOPInstanceUID) for ds in client.retrieve_study(study, AS_STORED)},
                wanted,
                "instances",
            )
        with checks.check("iter_study", name):
            same({str(ds.SOPInstanceUID) for ds in client.iter_study(study, AS_STORED)}, wanted, "instances")
    for (study, series), instances in run.series().items():
        wanted = {instance.item.sop_instance for instance in instances}
        name = instances[0].name
        with checks.check("retrieve_series", name):
            found = client.retrieve_series(study, series, AS_STORED)
            same({str(ds.SOPInstanceUID) for ds in found}, wanted, "instances")
        with checks.check("iter_series", name):
            found = client.iter_series(study, series, AS_STORED)
            same({str(ds.SOPInstanceUID) for ds in found}, wanted, "instances")
    for instance in run.instances():
        with checks.check("retrieve_instance", instance.name):
            ds = client.retrieve_instance(*instance.uids)
            expect(equal(ds, instance.read()), "the data set reads differently")
        # The default: Explicit VR Little Endian (PS3.18 table 8.7.3-2).
        operation = "retrieve_instance, Explicit VR Little Endian"
        with checks.check(operation, instance.name, may_end=instance.is_cut_off):
            transcoded(run, instance)
    single_parts(run)
    not_there(run)


def equal(a, b):
    """Also where pydicom can't compare two damaged elements."""
    try:
        return a == b or all(str(x) == str(y) for x, y in zip(a, b, strict=True))
    except Exception:  # noqa: BLE001
        return True


def transcoded(run, instance):
    """Asked for uncompressed: the same pixels under a description that is right for them, or 406."""
    ds = run.client.retrieve_instance(*instance.uids, media_types=(("application/dicom", EXPLICIT),))
    same(str(ds.file_meta.TransferSyntaxUID), EXPLICIT, "Transfer Syntax UID")
    original = instance.read()
    if "PixelData" not in original:
        return
    for number in some_frames(frame_count(original)):
        wanted = decoded(original, number)
        if wanted is None:
            continue
        got = decoded(ds, number)
        expect(got is not None, f"pydicom decodes frame {number} of the file, not what came")
        close(instance, got, wanted, number)


# What two decoders of a lossy syntax may differ by, in grey levels: the inverse transforms round differently
# (PS3.5 8.2; ISO/IEC 10918-2 leaves them one), and colours are converted behind that.
TOLERANCE = {
    "1.2.840.10008.1.2.4.50": 6,
    "1.2.840.10008.1.2.4.51": 6,
    "1.2.840.10008.1.2.4.91": 1,
    "1.2.840.10008.1.2.4.203": 1,
    "1.2.840.10008.1.2.4.112": 4,
}


def close(instance, got, wanted, number):
    same(got.shape, wanted.shape, f"shape of frame {number}")
    worst = int(np.abs(got.astype(np.int64) - wanted.astype(np.int64)).max(initial=0))
    allowed = TOLERANCE.get(str(instance.syntax), 0)
    expect(
        worst <= allowed, f"frame {number} differs by {worst} (at most {allowed}) in {instance.syntax.name}"
    )


def single_parts(run):
    """What the client never asks for: one part without multipart, ZIP, several media types, HEAD, conditions."""
    checks = run.checks
    for instance in run.instances()[::20]:
        path = run.path(instance)
        with checks.check("instance: a single part", instance.name):
            response = run.get(path, "application/dicom; transfer-syntax=*")
            same(response.status_code, 200, "status")
            same(parameters(response.headers["Content-Type"])[0], "application/dicom", "media type")
            expect(data_set(response.content) == instance.item.data_set, "the data set has other bytes")
        with checks.check("instance: by query instead of a header", instance.name):
            response = run.get(path, params={"accept": "application/dicom; transfer-syntax=*"})
            same(response.status_code, 200, "status")
        with checks.check("instance: the one that is preferred", instance.name):
            accept = 'image/x-none, multipart/related; type="application/dicom"; transfer-syntax=*; q=0.9, */*; q=0.1'
            response = run.get(path, accept)
            same(response.status_code, 200, "status")
            same(data_set(parts(response)[0][1]), instance.item.data_set, "data set")
        with checks.check("instance: none of the media types", instance.name):
            same(run.get(path, "text/css").status_code, 406, "status")
        with checks.check("instance: HEAD", instance.name):
            response = run.session.head(
                f"{run.base}/{path}", headers={"Accept": "application/dicom; transfer-syntax=*"}
            )
            same((response.status_code, response.content), (200, b""), "status and body")
        with checks.check("instance: not modified", instance.name):
            tag = run.get(path, "application/dicom; transfer-syntax=*").headers.get("ETag")
            expect(tag, "has an ETag")
            response = run.get(path, "application/dicom; transfer-syntax=*", headers={"If-None-Match": tag})
            same(response.status_code, 304, "status")
    for study, instances in list(run.studies().items())[::10]:
        with checks.check("study: ZIP", instances[0].name):
            response = run.get(f"studies/{study}", "application/zip; transfer-syntax=*")
            same(response.status_code, 200, "status")
            with ZipFile(BytesIO(response.content)) as archive:
                expect(archive.testzip() is None, "a checksum is wrong")
                kept = [data_set(archive.read(name)) for name in archive.namelist() if name.endswith(".dcm")]
            same(sorted(kept), sorted(i.item.data_set for i in instances), "data sets")


def not_there(run):
    for path in ("studies/2.25.404", "studies/2.25.404/series/2.25.404", "studies/2.25.404/metadata"):
        with run.checks.check("retrieve: what isn't there", path):
            same(run.get(path).status_code, 404, "status")
    instance = run.instances()[0]
    other = next(i for i in run.instances() if i.item.study != instance.item.study)
    with run.checks.check("retrieve: an instance by another study's path", instance.name):
        path = run.path(instance).replace(f"studies/{instance.item.study}/", f"studies/{other.item.study}/")
        same(run.get(path).status_code, 404, "status")
    for path in ("studies/x", "studies/1..2", "studies/" + "1" * 65):
        with run.checks.check("retrieve: what is no UID", path[:20]):
            expect(run.get(path).status_code in (400, 404), "status")


class Fetched:
    """What BulkDataURIs lead to, each asked for once."""

    def __init__(self, run):
        self.run, self.kept = run, {}

    def __call__(self, uri):
        if uri not in self.kept:
            response = self.run.get(self.absolute(uri), "application/octet-stream, multipart/related")
            response.raise_for_status()
            multipart = response.headers["Content-Type"].startswith("multipart/")
            self.kept[uri] = b"".join(c for _, c in parts(response)) if multipart else response.content
        return self.kept[uri]

    def absolute(self, uri):
        """An absolute URI, or one relative to the service (PS3.18 F.2.6). The client sends a Host without its
        port, and a server may well make URIs of that."""
        if uri.startswith("http"):
            return "/".join(self.run.base.split("/")[:3] + uri.split("/")[3:])
        if uri.startswith("/"):
            return "/".join(self.run.base.split("/")[:3]) + uri
        return f"{self.run.base}/{uri.removeprefix('../')}"


def check_metadata(run):
    client, checks = run.client, run.checks
    fetch = Fetched(run)
    for instance in run.instances():
        with checks.check("retrieve_instance_metadata", instance.name):
            found = client.retrieve_instance_metadata(*instance.uids)
            no_difference(instance, found, fetch)
    with checks.check("metadata: BulkDataURIs lead to this server", "all"):
        for instance in run.instances():
            for _, _, uri in uris(run.get(run.path(instance, "metadata"), JSON).json()[0]):
                relative = not uri.startswith("http")
                expect(relative or uri.startswith(run.base), "a BulkDataURI leads elsewhere")
    for (study, series), instances in run.series().items():
        with checks.check("retrieve_series_metadata", instances[0].name):
            several(client.retrieve_series_metadata(study, series), instances)
    for study, instances in run.studies().items():
        with checks.check("retrieve_study_metadata", instances[0].name):
            several(client.retrieve_study_metadata(study), instances)
    for instance in run.instances()[::10]:
        with checks.check("metadata: XML", instance.name):
            response = run.get(run.path(instance, "metadata"), XML)
            same(response.status_code, 200, "status")
            found = [ElementTree.fromstring(content) for _, content in parts(response)]
            same(len(found), 1, "data sets")
            of_xml = attributes(found[0])
            of_json = client.retrieve_instance_metadata(*instance.uids)
            same(of_xml.keys() ^ of_json.keys(), set(), "attributes that only one of XML and JSON has")
            same(of_xml, {tag: element["vr"] for tag, element in of_json.items()}, "VRs")
        with checks.check("metadata: not modified", instance.name):
            tag = run.get(run.path(instance, "metadata"), JSON).headers.get("ETag")
            expect(tag, "has an ETag")
            response = run.get(run.path(instance, "metadata"), JSON, headers={"If-None-Match": tag})
            same(response.status_code, 304, "status")
        with checks.check("metadata: what a cache may do with it", instance.name):
            # One resource has several representations (RFC 9110 12.5.5), and may have more to say tomorrow: a
            # cache that isn't told keeps it for a tenth of its age (RFC 9111 4.2.2).
            headers = run.get(run.path(instance, "metadata"), JSON).headers
            vary = [name.strip().lower() for name in headers.get("Vary", "").split(",")]
            expect("accept" in vary or "*" in vary, "Vary does not name Accept")
            kept = headers.get("Cache-Control", "")
            expect(any(word in kept for word in ("no-cache", "no-store", "max-age=0")), "it may be kept unasked")
        for coding in ("gzip", "zstd"):
            with checks.check(f"metadata: {coding}", instance.name):
                headers = {"Accept-Encoding": coding}
                response = run.get(run.path(instance, "metadata"), JSON, headers=headers, stream=True)
                same(response.headers.get("Content-Encoding"), coding, "Content-Encoding")
                expect("accept-encoding" in response.headers.get("Vary", "").lower(), "no Vary")
                response.close()


def attributes(model):
    """The VR of each attribute of a Native DICOM Model by its tag. A private one is named by its creator, and its
    tag is without the block (PS3.19 A.1.5)."""
    tags, blocks, found = [element.get("tag").upper() for element in model], {}, {}
    for tag, element in zip(tags, model):
        if int(tag[:4], 16) % 2 and "0010" <= tag[4:] <= "00FF" and not element.get("privateCreator"):
            blocks.setdefault((tag[:4], element.findtext("{*}Value")), tag[6:])
    for tag, element in zip(tags, model):
        creator = element.get("privateCreator")
        if creator and tag[4:6] == "00":
            tag = tag[:4] + blocks[tag[:4], creator] + tag[6:]
        expect(tag not in found, f"{tag} is there twice")
        found[tag] = element.get("vr")
    return found


def no_difference(instance, found, fetch):
    different = list(differences(instance.read(), found, fetch))
    if instance.is_cut_off and len(different) == 1 and different[0].endswith(": missing"):
        return  # The element that is not whole.
    if different:
        raise AssertionError(f"{len(different)}: {'; '.join(different[:5])}")


def several(found, instances):
    same(
        {one["00080018"]["Value"][0] for one in found},
        {instance.item.sop_instance for instance in instances},
        "instances",
    )
    same(len(found), len(instances), "data sets")


def uris(found, path=""):
    """Each BulkDataURI of a data set with its VR, and the keys of the way to it."""
    for key, element in found.items():
        if "BulkDataURI" in element:
            yield f"{path}{key}", element["vr"], element["BulkDataURI"]
        for number, item in enumerate(element.get("Value", []) if element["vr"] == "SQ" else [], 1):
            yield from uris(item or {}, f"{path}{key}/{number}/")


def check_bulk_data(run):
    client, checks = run.client, run.checks
    fetch = Fetched(run)
    for instance in run.instances():
        found = client.retrieve_instance_metadata(*instance.uids)
        for at, vr, uri in uris(found):
            url = fetch.absolute(uri)
            what = f"{at} of {instance.name}"
            # Bulk data has been compared with the file where the metadata was: here, that all ways agree.
            if at.endswith("7FE00010"):
                with checks.check("retrieve_bulkdata, pixel data", what, may_end=instance.is_cut_off):
                    pixel_data(run, instance, at, url)
                continue
            with checks.check("retrieve_bulkdata", what):
                whole = client.retrieve_bulkdata(url, media_types=("application/octet-stream",))
                same(len(whole), 1, "parts")
                same(whole[0], fetch(uri), "bulk data")
            with checks.check("iter_bulkdata", what):
                came = b"".join(client.iter_bulkdata(url, media_types=("application/octet-stream",)))
                same(came, fetch(uri), "bulk data")
            with checks.check("bulk data: any media type", what):
                same(b"".join(client.retrieve_bulkdata(url)), fetch(uri), "bulk data")
            ranges(run, url, fetch(uri), what)


def ranges(run, url, whole, what):
    """Range requests (PS3.18 8.3.5, RFC 9110 14): on the single part."""
    if len(whole) < 4:
        return
    with run.checks.check("bulk data: a range", what):
        response = run.get(url, "application/octet-stream", headers={"Range": "bytes=1-2"})
        same(response.status_code, 206, "status")
        same(response.content, whole[1:3], "the range")
        same(response.headers["Content-Range"], f"bytes 1-2/{len(whole)}", "Content-Range")
    with run.checks.check("bulk data: the end", what):
        response = run.get(url, "application/octet-stream", headers={"Range": "bytes=-3"})
        same((response.status_code, response.content), (206, whole[-3:]), "status and range")
    with run.checks.check("bulk data: a range behind the end", what):
        response = run.get(url, "application/octet-stream", headers={"Range": f"bytes={len(whole)}-"})
        same(response.status_code, 416, "status")


def pixel_data(run, instance, at, url):
    """As octet-stream: all frames decoded, one part, or a part each (PS3.18 10.4.1.1.5). Refused where the server
    has no decoder."""
    ds = image = instance.read()
    # Pixel data of an icon is in an item.
    *way, _ = at.split("/")
    for sequence, number in zip(way[::2], way[1::2]):
        image = image[int(sequence, 16)].value[int(number) - 1]
    came = b"".join(bytes(one) for one in run.client.retrieve_bulkdata(url))
    expect(came, "something comes")
    if ds.file_meta.TransferSyntaxUID.is_compressed:
        return
    if ds.is_little_endian is False or int(image.get("BitsAllocated") or 0) == 1:
        raise Refused("not compared: bytes or bits in another order")
    wanted = bytes(image.PixelData)
    same(came.rstrip(b"\0"), wanted.rstrip(b"\0"), "pixel data")
