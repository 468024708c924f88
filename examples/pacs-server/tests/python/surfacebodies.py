"""Bodies for STOW-RS (PS3.18 10.5.1): right ones, and ones that are damaged in all the ways there are."""

import gzip
import json
from io import BytesIO

import pydicom

from webchecks import BOUNDARY, multipart

JSON = "application/dicom+json"
XML = "application/dicom+xml"
BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + at, b"&%c;" % (97 + at) * 10) for at in range(8))
    + b"]><NativeDicomModel>&i;</NativeDicomModel>"
)


def body(random, known):
    """A Content-Type, or None, and a body."""
    return random.choice(KINDS)(random, random.choice(known)[3])


def right(random, file):
    return multipart([file] * random.choice([1, 1, 2]))


def damaged_file(random, file):
    return multipart([damaged(random, file)])


def damaged(random, content):
    """Some bytes changed, left out, or doubled; or the end cut off."""
    content = bytearray(
        content[: random.choice([len(content), len(content), random.randrange(1, len(content))])]
    )
    for _ in range(random.choice([0, 1, 3, 30])):
        at = random.randrange(len(content))
        where = random.choice([at, min(at, 600)])
        if random.random() < 0.7:
            content[where] = random.choice([0, 0xFF, 0xFE, random.randrange(256)])
        else:
            del content[where : where + random.randrange(1, 9)]
            content = content or bytearray(b"x")
    return bytes(content)


def damaged_multipart(random, file):
    content_type, whole = multipart([file[:2000]])
    delimiter = b"--" + BOUNDARY.encode()
    whole = random.choice(
        [
            damaged(random, whole),
            whole[: random.randrange(len(whole))],
            whole.replace(b"\r\n", b"\n"),
            whole.replace(delimiter, b"--another"),
            b"preamble " * 2000 + b"\r\n" + whole + b"epilogue" * 2000,
            whole.replace(b"Content-Type", b"Content-Typ\xe9"),
            whole.replace(b"\r\n\r\n", b"\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", 1),
            whole.replace(b"\r\n\r\n", b"\r\nX: y" * 5000 + b"\r\n\r\n", 1),
            (delimiter + b"\r\n\r\n\r\n") * 3000 + delimiter + b"--\r\n",
            delimiter * 3000,
            whole + whole,
            delimiter + b"--",
            b"",
        ]
    )
    return content_type, whole


def wrong_content_type(random, file):
    _, whole = multipart([file[:2000]])
    return (
        random.choice(
            [
                None,
                "",
                "multipart/related",
                "multipart/related; boundary=",
                'multipart/related; boundary="' + "x" * 71 + '"',
                'multipart/related; type="application/dicom"; boundary="un closed',
                f"multipart/related; boundary={BOUNDARY}",
                f'multipart/related; type="image/png"; boundary={BOUNDARY}',
                f'multipart/form-data; type="application/dicom"; boundary={BOUNDARY}',
                f"multipart/related; type=application/dicom; boundary={BOUNDARY}; boundary=x",
                "application/dicom",
                JSON,
                XML,
                "application/json",
                "application/x-www-form-urlencoded",
                "text/plain; charset=utf-16",
                "/",
                ";" * 1000,
            ]
        ),
        whole,
    )


def one_file(random, file):
    return "application/dicom", random.choice([file, damaged(random, file), b""])


def described(file):
    ds = pydicom.dcmread(BytesIO(file))
    return ds.to_json_dict(256, lambda _: "bulk/1", suppress_invalid_tags=True)


def with_metadata(random, file):
    """Metadata, right or not, in a part of its own, and its bulk data."""
    text = json.dumps([described(file)])
    deep = random.choice([60, 5000, 200_000])
    text = random.choice(
        [
            text,
            text,
            damaged(random, text.encode()).decode("latin-1"),
            text[: len(text) // 2],
            "[" * deep,
            '[{"00081140":{"vr":"SQ","Value":' * deep,
            '{"a":' * deep + "1" + "}" * deep,
            "null",
            "[]",
            "[null]",
            "[{}]",
            '[{"00080018":null}]',
            '[{"00080018":{"vr":"UI","Value":[{"Alphabetic":"x"}]}}]',
            '[{"00280010":{"vr":"US","Value":[99999999999999999999, -1, 1e400, "x"]}}]',
            '[{"7FE00010":{"vr":"OW","InlineBinary":"!!!"}}]',
            '[{"7FE00010":{"vr":"OW","BulkDataURI":"file:///etc/passwd"}}]',
            '[{"7FE00010":{"vr":"OW","BulkDataURI":"http://127.0.0.1:1/"}}]',
            '[{"00080018":{"vr":"UI","Value":["1.2"],"Value":["1.3"]}}]',
            '[{"x":{"vr":"UI"}},{"00080018":{"vr":"XX","Value":[1]}}]',
            '[{"00100010":{"vr":"PN","Value":[{"Alphabetic":"' + "x" * 300_000 + '"}]}}]',
            "[" + ",".join(["{}"] * 20_000) + "]",
            '["\\ud800"]',
            "\ufeff[]",
        ]
    )
    return metadata_body(random, JSON, text.encode("utf-8", "replace"))


def with_xml(random, file):
    deep = random.choice([60, 5000, 100_000])
    text = random.choice(
        [
            b'<?xml version="1.0" encoding="UTF-8"?><NativeDicomModel><DicomAttribute tag="00080018" vr="UI">'
            b'<Value number="1">1.2.3</Value></DicomAttribute></NativeDicomModel>',
            BOMB,
            b"<a>" * deep,
            b'<NativeDicomModel><DicomAttribute tag="00081140" vr="SQ"><Item number="1">' * deep,
            b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>',
            b"<NativeDicomModel>" + b"<DicomAttribute/>" * 10_000 + b"</NativeDicomModel>",
            b"<NativeDicomModel><DicomAttribute tag='zz' vr='UI'/></NativeDicomModel>",
            b"<",
            b"\xff\xfe<\0a\0>\0",
            b"",
        ]
    )
    return metadata_body(random, XML, text)


def metadata_body(random, media_type, text):
    syntax = random.choice(
        ["", "; transfer-syntax=1.2.840.10008.1.2.1", "; transfer-syntax=1.2.840.10008.1.2.4.50"]
    )
    location = random.choice(["bulk/1", "bulk/1", "elsewhere", ""])
    pieces = [
        f"--{BOUNDARY}\r\nContent-Type: {media_type}{syntax}\r\n\r\n".encode() + text,
        f"\r\n--{BOUNDARY}\r\nContent-Type: application/octet-stream{syntax}\r\n"
        f"Content-Location: {location}\r\n\r\n".encode()
        + bytes(random.choice([0, 1, 32768])),
        f"\r\n--{BOUNDARY}--\r\n".encode(),
    ]
    if random.random() < 0.1:
        pieces[0], pieces[1] = pieces[1], pieces[0]
    return f'multipart/related; type="{media_type}"; boundary={BOUNDARY}', b"".join(pieces)


def compressed(random, file):
    """What a Content-Encoding would say; it goes without one, or with one of another kind."""
    content_type, whole = multipart([file])
    return content_type, random.choice([gzip.compress(whole), gzip.compress(bytes(4_000_000))])


def noise(random, file):
    return random.choice([None, "application/dicom", JSON]), random.randbytes(
        random.choice([0, 1, 1000, 100_000])
    )


KINDS = [
    right,
    damaged_file,
    damaged_file,
    damaged_multipart,
    damaged_multipart,
    wrong_content_type,
    one_file,
    with_metadata,
    with_metadata,
    with_xml,
    compressed,
    noise,
]
