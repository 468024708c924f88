"""STOW-RS, and Delete behind its switch."""

import re
from io import BytesIO

import pydicom

from webchecks import Refused, data_set, expect, multipart, parts, problem, same
from webfiles import every

AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
# Refused where an instance has no place in study, series and instance (PS3.18 I.2.2).
NO_PLACE = {0xA900, 0xC000, 0x0110, 0x0106, 0x0122}


def post(run, contents, study=None):
    content_type, body = multipart(contents)
    url = f"{run.base}/studies" + (f"/{study}" if study else "")
    headers = {"Content-Type": content_type, "Accept": "application/dicom+json"}
    return run.session.post(url, data=body, headers=headers, timeout=300)


def answer(response):
    """The Store Instances Response Module (PS3.18 I.2) of an answer with one."""
    same(response.headers["Content-Type"].split(";")[0], "application/dicom+json", "media type of the answer")
    found = response.json()
    if isinstance(found, list):
        expect(len(found) == 1, "the answer is one data set")
        found = found[0]
    return pydicom.Dataset.from_json(found)


def fill(run):
    """Stores every file, one request each, and has each back at once: it is the version in force only then."""
    for wave in run.waves:
        taken = []
        for instance in wave:
            with run.checks.check("store: one instance", instance.name):
                if store_one(run, instance):
                    taken.append(instance)
        for instance in taken:
            run.stored[instance.item.sop_instance] = instance
            with run.checks.check("retrieve: the bytes that were stored", instance.name):
                comes_back(run, instance)


def store_one(run, instance):
    """Whether it was taken; what was refused says why, by a code of the Standard."""
    response = post(run, [instance.part10])
    expect(response.status_code in (200, 202, 409), f"status {response.status_code} {problem(response)}")
    module = answer(response)
    kept = module.get("ReferencedSOPSequence") or []
    failed = failures(module, named=is_named(instance))
    if response.status_code == 409:
        same((len(kept), len(failed)), (0, 1), "instances kept and failed")
        reason = int(failed[0].FailureReason)
        expect(reason in NO_PLACE, f"refused with {reason:04X}")
        has_place = all(map(is_uid, (*instance.uids, instance.item.sop_class)))
        expect(not has_place, f"refused with {reason:04X} though it has its UIDs")
        return False
    same((len(kept), len(failed)), (1, 0), "instances kept and failed")
    same(str(kept[0].ReferencedSOPInstanceUID), instance.item.sop_instance, "SOP Instance UID")
    same(str(kept[0].ReferencedSOPClassUID), instance.item.sop_class, "SOP Class UID")
    expect("RetrieveURL" in kept[0], "an instance that is kept has its Retrieve URL")
    if response.status_code == 202:
        expect("WarningReason" in kept[0] or "WarningReason" in module, "202 without a warning")
    # pydicom misses the study of a damaged file; the URL has it.
    if not all(instance.uids):
        at = str(kept[0].RetrieveURL).split("/studies/")[1].split("/")
        instance.item.study, instance.item.series = at[0], at[2]
    return True


def is_uid(text):
    """Digits and full stops (PS3.5 9.1): some files have a hash in its place."""
    return re.fullmatch(r"[0-9.]{1,64}", text) is not None


def is_named(instance):
    """Whether the data set itself says which instance it is."""
    ds = instance.read()
    return all(is_uid(str(ds.get(keyword) or "")) for keyword in ("SOPClassUID", "SOPInstanceUID"))


def failures(module, named):
    """The Failed SOP Sequence; where nothing names the instance, the Other Failures Sequence as well (PS3.18
    I.2)."""
    failed = list(module.get("FailedSOPSequence") or [])
    return failed if named else failed + list(module.get("OtherFailuresSequence") or [])


def comes_back(run, instance):
    response = run.get(run.path(instance), AS_STORED)
    same(response.status_code, 200, "status")
    found = parts(response)
    same(len(found), 1, "parts")
    _, part10 = found[0]
    expect(data_set(part10) == instance.item.data_set, "the data set has other bytes")
    meta = pydicom.dcmread(BytesIO(part10), stop_before_pixels=True).file_meta
    same(str(meta.TransferSyntaxUID), str(instance.syntax), "Transfer Syntax UID")
    same(str(meta.MediaStorageSOPInstanceUID), instance.item.sop_instance, "SOP Instance UID of the header")


def check_answers(run):
    """What one request with many parts, damaged parts, or into another study is answered."""
    checks = run.checks
    first = run.waves[0]
    again = [run.stored[i.item.sop_instance] for i in first if i.item.sop_instance in run.stored]
    with checks.check("store: the same bytes again", f"{len(again)} instances in one request"):
        response = post(run, [instance.part10 for instance in again])
        expect(response.status_code in (200, 202), f"status {response.status_code} {problem(response)}")
        module = answer(response)
        same(len(module.ReferencedSOPSequence), len(again), "instances kept")
        expect("FailedSOPSequence" not in module, "nothing failed")
    small = min(run.instances(), key=lambda instance: len(instance.part10))
    with checks.check("store: an instance and no instance together", small.name):
        response = post(run, [small.part10, b"this is no DICOM"])
        same(response.status_code, 202, "status")
        module = answer(response)
        same(len(module.ReferencedSOPSequence), 1, "instances kept")
        same(len(failures(module, named=False)), 1, "instances failed")
    with checks.check("store: no instance alone", "text"):
        response = post(run, [b"this is no DICOM"])
        expect(response.status_code in (400, 409), f"status {response.status_code}")
    with checks.check("store: into another study", small.name):
        response = post(run, [small.part10], "2.25.404")
        same(response.status_code, 409, "status")
        same(len(answer(response).FailedSOPSequence), 1, "instances failed")
    with checks.check("store: into its own study", small.name):
        response = post(run, [small.part10], small.item.study)
        same(response.status_code, 200, "status")
    with checks.check("store: no part at all", "an empty multipart"):
        response = post(run, [])
        expect(response.status_code in (400, 204), f"status {response.status_code}")
    with checks.check("store: a media type that is none of the Standard's", "text/csv"):
        response = run.session.post(f"{run.base}/studies", data=b"a,b", headers={"Content-Type": "text/csv"})
        same(response.status_code, 415, "status")
    with checks.check("store: answered as XML", small.name):
        content_type, body = multipart([small.part10])
        headers = {"Content-Type": content_type, "Accept": "application/dicom+xml"}
        response = run.session.post(f"{run.base}/studies", data=body, headers=headers)
        same(response.status_code, 200, "status")
        same(response.headers["Content-Type"].split(";")[0], "application/dicom+xml", "media type")
    check_client(run)
    check_metadata_and_bulk_data(run)


def check_client(run):
    """The client writes a data set anew: what it sends differs, so it goes under UIDs of its own."""
    for at, instance in enumerate(run.instances()[:20]):
        ds = instance.read()
        with run.checks.check("store_instances", instance.name):
            try:
                ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.77", "2.25.77.1"
                ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"2.25.77.1.{at + 1}"
                pydicom.dcmwrite(BytesIO(), ds)
            except Exception as error:  # noqa: BLE001 what pydicom can't write is not sent
                raise Refused("not sent: pydicom can't write it") from error
            module = run.client.store_instances([ds])
            same(len(module.ReferencedSOPSequence), 1, "instances kept")
            module = run.client.store_instances([ds], study_instance_uid="2.25.77")
            same(len(module.ReferencedSOPSequence), 1, "instances kept in the study's own resource")
    with run.checks.check("store_instances", "several at once"):
        some = run.client.retrieve_study("2.25.77", media_types=(("application/dicom", "*"),))
        expect(len(some) > 5, "some were stored")
        module = run.client.store_instances(some)
        same(len(module.ReferencedSOPSequence), len(some), "instances kept")


def check_metadata_and_bulk_data(run):
    """Metadata as JSON with the bulk data in parts of their own (PS3.18 10.5.1.1.1.2): the instance that comes
    of it has the same values and the same pixels."""
    source = next(i for i in run.instances() if i.name.endswith("CT_small.dcm"))
    ds = source.read()
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = "2.25.78", "2.25.78.1", "2.25.78.1.1"
    pixels = ds.PixelData
    metadata = ds.to_json_dict(1024, lambda _: "bulk/pixels")
    metadata["00083002"] = {"vr": "UI", "Value": [str(source.syntax)]}
    import json

    boundary = "metadata-and-bulk-data"
    for with_location, location in ((True, "bulk/pixels"), (False, "elsewhere")):
        body = b"".join(
            [
                f"--{boundary}\r\nContent-Type: application/dicom+json; transfer-syntax={source.syntax}\r\n\r\n".encode(),
                json.dumps([metadata]).encode(),
                f"\r\n--{boundary}\r\nContent-Type: application/octet-stream; transfer-syntax={source.syntax}\r\n"
                f"Content-Location: {location}\r\n\r\n".encode(),
                pixels,
                f"\r\n--{boundary}--\r\n".encode(),
            ]
        )
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom+json"; boundary={boundary}',
            "Accept": "application/dicom+json",
        }
        what = "metadata and bulk data" if with_location else "metadata whose bulk data is missing"
        with run.checks.check(f"store: {what}", source.name):
            response = run.session.post(f"{run.base}/studies", data=body, headers=headers)
            if not with_location:
                expect(response.status_code in (400, 409), f"status {response.status_code}")
                continue
            same(response.status_code, 200, f"status ({problem(response)})")
            back = run.client.retrieve_instance("2.25.78", "2.25.78.1", "2.25.78.1.1")
            same(back.PixelData, pixels, "pixels")
            same(back.Rows, ds.Rows, "rows")
            same(str(back.PatientID), str(ds.PatientID), "an identifier")


def check_delete(run):
    """Only where it is switched on: what is deleted is found and given out no longer."""
    client, checks = run.client, run.checks
    by_study = sorted(run.studies().items(), key=lambda study: -len(study[1]))
    if not by_study:
        return
    instance = by_study[0][1][0]
    with checks.check("delete_instance", instance.name):
        client.delete_instance(*instance.uids)
        gone(run, run.path(instance))
        found = client.search_for_instances(search_filters={"SOPInstanceUID": instance.item.sop_instance})
        same(len(found), 0, "instances found")
    if len(by_study) > 1:
        instance = by_study[1][1][0]
        with checks.check("delete_series", instance.name):
            client.delete_series(*instance.uids[:2])
            gone(run, f"studies/{instance.item.study}/series/{instance.item.series}")
            gone(run, run.path(instance))
    for study, instances in by_study[2:4]:
        with checks.check("delete_study", instances[0].name):
            client.delete_study(study)
            gone(run, f"studies/{study}")
            same(
                len(client.search_for_studies(search_filters={"StudyInstanceUID": study})), 0, "studies found"
            )
    with checks.check("delete: what isn't there", "2.25.404"):
        same(run.session.delete(f"{run.base}/studies/2.25.404").status_code, 404, "status")
    with checks.check("delete: then stored again", by_study[0][1][0].name):
        again = by_study[0][1][0]
        expect(store_one(run, again), "it is taken")
        comes_back(run, again)
    left = [i for i in every([s for _, s in by_study[4:]])]
    with checks.check("delete: the others stay", f"{len(left)} instances"):
        for instance in left:
            comes_back(run, instance)


def gone(run, path):
    response = run.get(path, AS_STORED)
    expect(response.status_code in (404, 410), f"status {response.status_code} after the deletion")
