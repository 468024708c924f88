"""What the scripts against DICOMweb share: the list of what was checked, and multipart by hand."""

import json
import re
from contextlib import contextmanager

import requests


class Refused(Exception):
    """The server says that it does not do this: the status, and whether that may be."""


class Checks:
    """Every check that was made, one JSON object a line: the operation, on what, and how it went.

    A difference is told by tags, numbers and kinds: never by a value out of a file.
    """

    def __init__(self, skip=()):
        self.skip = set(skip)
        self.counts = {}

    def row(self, operation, what, outcome, why=""):
        self.counts[operation, outcome] = self.counts.get((operation, outcome), 0) + 1
        row = {"operation": operation, "what": what, "outcome": outcome, "why": why}
        print(json.dumps(row), flush=True)

    @contextmanager
    def check(self, operation, what, may_end=False):
        """One check: `with checks.check("retrieve_study", name): ...`, in which `expect` and `assert` fail.

        With `may_end` the answer may also be a 4xx, or end before its end: what it would need isn't there.
        """
        try:
            yield
        except Refused as refused:
            self.row(operation, what, "refused", str(refused))
        except requests.HTTPError as error:
            response = error.response
            meant = response.status_code in (406, 501) or may_end and 400 <= response.status_code < 500
            outcome = "refused" if meant else "failed"
            self.row(operation, what, outcome, f"{response.status_code} {problem(response)}")
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            # Not the time out: that is an answer too late.
            self.row(operation, what, "refused" if may_end else "failed", f"broken off: {error}")
        except Exception as error:  # noqa: BLE001 every fault of one check is told, and the next one is made
            self.row(operation, what, "failed", f"{type(error).__name__}: {error}")
        else:
            self.row(operation, what, "ok")


def problem(response):
    """What a problem details object says of itself (RFC 9457)."""
    if not response.headers.get("Content-Type", "").startswith("application/problem+json"):
        return f"and no problem details but {response.headers.get('Content-Type')!r}"
    try:
        details = response.json()
    except ValueError:
        return "and problem details that are not JSON"
    return " ".join(str(details[key]) for key in ("title", "detail") if key in details)


def expect(condition, why):
    if not condition:
        raise AssertionError(why)


def same(got, wanted, what):
    if got != wanted:
        raise AssertionError(f"{what}: {brief(got)} instead of {brief(wanted)}")


def brief(value):
    """Bytes and long lists by their length alone."""
    if isinstance(value, (bytes, bytearray)):
        return f"{len(value)} bytes"
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=str)
    text = repr(value)
    return text if len(text) < 200 else f"{text[:200]}... ({len(value)})"


def parameters(content_type):
    """A media type and its parameters (RFC 9110 8.3.1)."""
    found = re.findall(r';\s*([\w-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;,\s]+)', content_type)
    media_type = content_type.split(";")[0].strip().lower()
    return media_type, {name.lower(): value.strip('"') for name, value in found}


def parts(response):
    """The parts of a multipart/related body (RFC 2387), strictly: headers by lower-case name, and content."""
    media_type, given = parameters(response.headers["Content-Type"])
    same(media_type, "multipart/related", "media type")
    expect("type" in given, "multipart/related names no type (RFC 2387 3.1)")
    boundary = given["boundary"].encode()
    expect(1 <= len(boundary) <= 70, "a boundary has 1 to 70 characters (RFC 2046 5.1.1)")
    body = response.content
    delimiter = b"\r\n--" + boundary
    body = b"\r\n" + body if body.startswith(b"--" + boundary) else body
    pieces = body.split(delimiter)
    expect(len(pieces) >= 2 and pieces[-1].startswith(b"--"), "the last boundary is missing")
    found = []
    for piece in pieces[1:-1]:
        piece = piece.lstrip(b" \t")
        expect(piece.startswith(b"\r\n"), "a boundary stands alone on its line")
        head, separator, content = piece[2:].partition(b"\r\n\r\n")
        expect(separator, "a part has an empty line behind its headers")
        headers = {}
        for line in head.split(b"\r\n"):
            name, _, value = line.decode("ascii").partition(":")
            headers[name.strip().lower()] = value.strip()
        expect("content-type" in headers, "a part says its media type")
        of_part, _ = parameters(headers["content-type"])
        same(of_part, given["type"].lower(), "the media type of a part")
        if "content-length" in headers:
            same(int(headers["content-length"]), len(content), "the Content-Length of a part")
        found.append((headers, content))
    return found


BOUNDARY = "a-boundary-of-the-test"


def multipart(contents, media_type="application/dicom", boundary=BOUNDARY):
    """A multipart/related body of parts of one media type: the Content-Type header, and the body."""
    body = b"".join(
        f"--{boundary}\r\nContent-Type: {media_type}\r\n\r\n".encode() + content + b"\r\n"
        for content in contents
    )
    return (
        f'multipart/related; type="{media_type}"; boundary={boundary}',
        body + f"--{boundary}--\r\n".encode(),
    )


def data_set(part10):
    """The bytes of the data set of a Part 10 file whose header has a group length (PS3.10 7.1)."""
    expect(part10[128:132] == b"DICM", "a DICOM file has a prefix")
    same(part10[132:140], b"\x02\x00\x00\x00UL\x04\x00", "the group length that begins the header")
    return part10[144 + int.from_bytes(part10[140:144], "little") :]
