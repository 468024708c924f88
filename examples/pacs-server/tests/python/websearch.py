"""QIDO-RS: what is found is what pydicom says of the files."""

import re

from webchecks import expect, same

STUDY_UID, SERIES_UID, INSTANCE_UID = "0020000D", "0020000E", "00080018"


def uids(found, tag):
    return sorted(one[tag]["Value"][0] for one in found)


class Known:
    """One attribute of the instances in force, as text, where pydicom reads it."""

    def __init__(self, run):
        self.run = run
        self.cache = {}

    def of(self, instance, keyword):
        key = (instance.name, keyword)
        if key not in self.cache:
            ds = instance.read()
            try:
                value = ds.get(keyword)
                self.cache[key] = None if value is None else str(value)
            except Exception:  # noqa: BLE001 a damaged file
                self.cache[key] = None
        return self.cache[key]

    def agreed(self, instances, keyword):
        """The value that all of them have, or None."""
        values = {self.of(instance, keyword) for instance in instances}
        return values.pop() if len(values) == 1 else None


def plain(value):
    """A value that stands for itself as a matching key, in any character set; not the delimiters of a name
    that has none."""
    return (
        bool(value)
        and re.fullmatch(r"[A-Za-z0-9^. _-]+", value)
        and value.strip() == value
        and value.strip("^") != ""
    )


def check(run):
    known = Known(run)
    levels(run)
    filters(run, known)
    fields(run)
    paging(run)
    fuzzy(run, known)
    refused(run)


def levels(run):
    """Every resource of PS3.18 table 10.6.1-1."""
    client, checks = run.client, run.checks
    studies, series = run.studies(), run.series()
    with checks.check("search_for_studies", "all"):
        found = uids(client.search_for_studies(get_remaining=True), STUDY_UID)
        same(set(studies) - set(found), set(), "studies that are not found")
        same(len(found), len(set(found)), "studies found twice")
    with checks.check("search_for_series", "all"):
        found = uids(client.search_for_series(get_remaining=True), SERIES_UID)
        same({uid for _, uid in series} - set(found), set(), "series that are not found")
    with checks.check("search_for_instances", "all"):
        found = uids(client.search_for_instances(get_remaining=True), INSTANCE_UID)
        same(set(run.stored) - set(found), set(), "instances that are not found")
        same(len(found), len(set(found)), "instances found twice")
    for study, instances in studies.items():
        with checks.check("search_for_series", f"of the study of {instances[0].name}"):
            found = uids(client.search_for_series(study), SERIES_UID)
            same(set(found), {instance.item.series for instance in instances}, "series")
        with checks.check("search_for_instances", f"of the study of {instances[0].name}"):
            found = uids(client.search_for_instances(study), INSTANCE_UID)
            same(set(found), {instance.item.sop_instance for instance in instances}, "instances")
    for (study, one), instances in series.items():
        with checks.check("search_for_instances", f"of the series of {instances[0].name}"):
            found = client.search_for_instances(study, one)
            same(set(uids(found, INSTANCE_UID)), {i.item.sop_instance for i in instances}, "instances")
    for study, instances in studies.items():
        with checks.check("search_for_studies", f"attributes of the study of {instances[0].name}"):
            found = client.search_for_studies(search_filters={"StudyInstanceUID": study})
            same(len(found), 1, "studies")
            required(found[0], instances)


def required(found, instances):
    """The attributes that a study always has in an answer (PS3.18 table 10.6.3-3)."""
    expect(found.get("00080061", {}).get("Value"), "ModalitiesInStudy has no Value")
    same(found["00201206"]["Value"], [len({i.item.series for i in instances})], "NumberOfStudyRelatedSeries")
    same(found["00201208"]["Value"], [len(instances)], "NumberOfStudyRelatedInstances")
    for tag in (
        "00080020",
        "00080030",
        "00080050",
        "00080090",
        "00100010",
        "00100020",
        "00100030",
        "00100040",
        "00200010",
    ):
        expect(tag in found, f"{tag} is not in the answer")
        expect("vr" in found[tag], f"{tag} has no VR")


def filters(run, known):
    """Matching by tag, by keyword and by path through a sequence; single values, lists, wild cards, ranges."""
    client, checks = run.client, run.checks
    for keyword, tag in (
        ("PatientID", "00100020"),
        ("PatientName", "00100010"),
        ("AccessionNumber", "00080050"),
        ("StudyID", "00200010"),
        ("StudyDate", "00080020"),
        ("StudyTime", "00080030"),
    ):
        by_value = {}
        for study, instances in run.studies().items():
            value = known.agreed(instances, keyword)
            if plain(value):
                by_value.setdefault(value, set()).add(study)
        for value, studies in by_value.items():
            for key in (keyword, tag):
                with checks.check("search_for_studies", f"{key} of {len(studies)} studies"):
                    found = set(uids(client.search_for_studies(search_filters={key: value}), STUDY_UID))
                    same(studies - found, set(), "studies that are not found")
    for study, instances in run.studies().items():
        name = instances[0].name
        date = known.agreed(instances, "StudyDate")
        if date and re.fullmatch(r"\d{8}", date):
            for what, value in (("a range", f"{date}-{date}"), ("from", f"{date}-"), ("to", f"-{date}")):
                with checks.check("search_for_studies", f"StudyDate, {what}, of {name}"):
                    found = client.search_for_studies(search_filters={"StudyDate": value})
                    expect(study in uids(found, STUDY_UID), "the study is not found")
        patient = known.agreed(instances, "PatientName")
        if plain(patient) and len(patient) > 3:
            for value in (patient[:2] + "*", "*" + patient[-2:], "?" + patient[1:]):
                with checks.check("search_for_studies", f"PatientName with a wild card, of {name}"):
                    found = client.search_for_studies(search_filters={"PatientName": value})
                    expect(study in uids(found, STUDY_UID), "the study is not found")
        modality = known.agreed(instances, "Modality")
        if plain(modality):
            with checks.check("search_for_studies", f"ModalitiesInStudy of {name}"):
                found = client.search_for_studies(search_filters={"ModalitiesInStudy": modality})
                expect(study in uids(found, STUDY_UID), "the study is not found")
                for one in found:
                    expect(modality in one["00080061"]["Value"], "a study without the modality is found")
            with checks.check("search_for_series", f"Modality of {name}"):
                found = client.search_for_series(search_filters={"Modality": modality})
                expect(study in uids(found, STUDY_UID), "no series of the study is found")
                same({one["00080060"]["Value"][0] for one in found}, {modality}, "modalities found")
    studies = list(run.studies())
    with checks.check("search_for_studies", "a list of UIDs"):
        found = client.search_for_studies(search_filters={"StudyInstanceUID": ",".join(studies[:5])})
        same(uids(found, STUDY_UID), sorted(studies[:5]), "studies")
    for instance in run.instances():
        with checks.check("search_for_instances", f"SOPInstanceUID of {instance.name}"):
            for key in ("SOPInstanceUID", "00080018"):
                found = client.search_for_instances(search_filters={key: instance.item.sop_instance})
                same(uids(found, INSTANCE_UID), [instance.item.sop_instance], "instances")
    sequences(run)


def sequences(run):
    """`RequestAttributesSequence` is the one sequence that every server matches at series level (PS3.18 table
    10.6.1-5)."""
    for instance in run.instances():
        try:
            steps = instance.read().get("RequestAttributesSequence") or []
            ids = [str(step.get("RequestedProcedureID") or "") for step in steps]
        except Exception:  # noqa: BLE001 a damaged file
            continue
        for value in filter(plain, ids):
            for key in ("RequestAttributesSequence.RequestedProcedureID", "00400275.00401001"):
                with run.checks.check("search_for_series", f"{key} of {instance.name}"):
                    found = run.client.search_for_series(search_filters={key: value})
                    expect(instance.item.series in uids(found, SERIES_UID), "the series is not found")


def fields(run):
    client, checks = run.client, run.checks
    study = next(iter(run.studies()))
    of_study = {"StudyInstanceUID": study}
    for some in (["StudyDescription"], ["00081030"], ["StudyDescription", "00081048"], ["all"]):
        with checks.check("search_for_studies", f"fields {some}"):
            found = client.search_for_studies(fields=some, search_filters=of_study)
            same(len(found), 1, "studies")
    with checks.check("search_for_series", "fields"):
        found = client.search_for_series(study, fields=["SeriesDescription", "0008103E", "all"])
        expect(found, "series are found")
    with checks.check("search_for_instances", "fields, all"):
        for found in client.search_for_instances(study, fields=["all"]):
            for tag in ("00080016", "00080018", "0020000D", "0020000E"):
                expect(tag in found, f"{tag} is not in the answer")
    with checks.check("search_for_instances", "fields through a sequence"):
        client.search_for_instances(study, fields=["00400275.00401001", "RequestAttributesSequence"])
    for tag in ("StudyDescription", "00081030"):
        with checks.check("search_for_studies", f"a described study has {tag}"):
            for one in client.search_for_studies(fields=[tag]):
                expect("00081030" in one, "the field that was asked for is not in the answer")


def paging(run):
    client, checks = run.client, run.checks
    for what, search in (
        ("studies", client.search_for_studies),
        ("series", client.search_for_series),
        ("instances", client.search_for_instances),
    ):
        tag = {"studies": STUDY_UID, "series": SERIES_UID, "instances": INSTANCE_UID}[what]
        with checks.check(f"search_for_{what}", "limit and offset"):
            everything = uids(search(get_remaining=True), tag)
            pages, size = [], max(1, len(everything) // 7)
            while True:
                page = search(limit=size, offset=len(pages))
                if not page:
                    break
                expect(len(page) <= size, "a page is longer than its limit")
                pages.extend(page)
            same(uids(pages, tag), everything, "what the pages have together")
            same(search(limit=5, offset=len(everything) + 10), [], "behind the end")
    with checks.check("search_for_studies", "a page that was cut says so"):
        response = run.get("studies?limit=1", "application/dicom+json")
        same(response.status_code, 200, "status")
        same(len(response.json()), 1, "studies")
        warning = response.headers.get("Warning", "")
        expect(warning.startswith("299 "), "no Warning: 299 (PS3.18 8.3.4.4)")
    with checks.check("search_for_studies", "XML"):
        accept = 'multipart/related; type="application/dicom+xml"'
        response = run.get("studies?limit=3", accept)
        same(response.status_code, 200, "status")
        same(response.content.count(b"<NativeDicomModel"), 3, "studies")
    with checks.check("search_for_studies", "nothing"):
        response = run.get("studies?PatientID=nobody-has-this", "application/dicom+json")
        expect(response.status_code in (200, 204), f"status {response.status_code}")
        expect(response.status_code == 204 or response.json() == [], "something is found")


def fuzzy(run, known):
    for study, instances in run.studies().items():
        name = known.agreed(instances, "PatientName")
        if not plain(name) or "^" not in name:
            continue
        family, given = name.split("^")[:2]
        for value in filter(None, {family, given, family.lower()}):
            with run.checks.check("search_for_studies", f"fuzzymatching, of {instances[0].name}"):
                response = run.get(
                    f"studies?fuzzymatching=true&PatientName={value}", "application/dicom+json"
                )
                expect(response.status_code in (200, 204), f"status {response.status_code}")
                # A server that does not match so says so, and matches literally (PS3.18 8.3.4.2).
                if "299" in response.headers.get("Warning", ""):
                    continue
                expect(study in uids(response.json() if response.content else [], STUDY_UID), "not found")
        with run.checks.check("search_for_studies", f"fuzzymatching=false, of {instances[0].name}"):
            found = run.client.search_for_studies(fuzzymatching=False, search_filters={"PatientName": name})
            expect(study in uids(found, STUDY_UID), "the study is not found")


def refused(run):
    """What is no search is answered 400 (PS3.18 8.3.1)."""
    for query in (
        "limit=-1",
        "limit=x",
        "offset=-3",
        "fuzzymatching=perhaps",
        "includefield=NoSuchAttribute",
        "NoSuchAttribute=1",
        "StudyDate=yesterday",
        "00100020.00100020=1",
    ):
        with run.checks.check("search: what is no search", query):
            same(run.get(f"studies?{query}", "application/dicom+json").status_code, 400, "status")
    with run.checks.check("search: a media type that it has not", "image/png"):
        same(run.get("studies", "image/png").status_code, 406, "status")
