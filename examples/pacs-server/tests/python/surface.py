"""Makes up requests from the tables of PS3.18's resources and parameters, with right and wrong values, and
looks at what comes: a status that is meant, an error as problem details, headers and a body that fit together.

    surface.py [--seed N] [--requests N] HTTP_URL

The same seed makes the same requests. The exit code is 1 when an answer wasn't right.
"""

import argparse
import http.client
import json
import random
import re
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit

import pydicom

from surfacebodies import body
from surfacetables import (
    DICOMWEB,
    FRAMES,
    GARBAGE,
    MEDIA,
    OTHERS,
    PARAMETERS,
    PATHS,
    RESOURCES,
    SYNTAXES,
    TAGS,
    VALUES,
)
from webchecks import multipart, parts

SECONDS = 60
FILES = ("CT_small.dcm", "MR_small.dcm", "SC_rgb_rle_2frame.dcm", "examples_palette.dcm", "rtplan.dcm")


class Maker:
    """Requests from one seed."""

    def __init__(self, seed, known):
        self.random = random.Random(seed)
        self.known = known

    def chance(self, of_hundred):
        return self.random.random() * 100 < of_hundred

    def pick(self, some):
        return self.random.choice(some)

    def uids(self):
        """Mostly those of an instance that is there."""
        study, series, instance, _ = self.pick(self.known)
        right = {"study": study, "series": series, "instance": instance}
        return {name: uid if self.chance(85) else self.pick(GARBAGE) for name, uid in right.items()}

    def request(self):
        uids = self.uids()
        if self.chance(88):
            template, methods = self.pick(RESOURCES)
            template = DICOMWEB + template
        else:
            template, methods = self.pick(OTHERS), "GET HEAD POST OPTIONS"
        method = (
            self.pick(methods.split())
            if self.chance(95)
            else self.pick(["TRACE", "PATCH", "DELETE", "FOO", "PUT"])
        )
        frames = self.pick(FRAMES) if self.chance(50) else "1"
        path = template
        for name, value in {**uids, "frames": frames, "path": self.pick(PATHS)}.items():
            path = path.replace("{" + name + "}", value)
        if self.chance(4):
            path += self.pick(["/", "//", "/x", "?", "#", "%", ";a=b", "/../..", "\t"])
        query = self.query(uids, "/wado" in template)
        headers = self.headers()
        content = b""
        if method in ("POST", "PUT", "PATCH"):
            content_type, content = body(self.random, self.known)
            if content_type is not None:
                headers["Content-Type"] = content_type
        return method, path + ("?" + query if query else ""), headers, content

    def query(self, uids, wado):
        found = []
        if wado and self.chance(85):
            found += ["requestType=WADO"] if self.chance(90) else []
            found += [
                f"{name}UID={uids[of]}"
                for name, of in (("study", "study"), ("series", "series"), ("object", "instance"))
                if self.chance(95)
            ]
        for _ in range(self.pick([0, 0, 0, 1, 1, 2, 5])):
            if self.chance(70):
                name = self.pick(list(PARAMETERS))
                value = self.pick(PARAMETERS[name])
            else:
                name, value = self.pick(TAGS), self.pick(VALUES)
            value = value.format(**uids) if value.startswith("{") and value.endswith("}") else value
            found.append(
                f"{quote(name)}={quote(value, errors='surrogatepass') if self.chance(90) else wire(value)}"
            )
        if self.chance(3):
            found.append(
                self.pick(
                    ["&", "=", "&&&&", "=&=", "%", "%%%", "a" * 20000, "a&" * 2000, "%ff", "+", "limit"]
                )
            )
        return "&".join(found)

    def media_range(self):
        value = self.pick(MEDIA)
        if value == "multipart/related" and self.chance(90):
            value += f'; type="{self.pick(MEDIA)}"'
        if self.chance(40):
            value += f"; transfer-syntax={self.pick(SYNTAXES)}"
        if self.chance(30):
            value += f";q={self.pick(['0', '1', '0.5', '0.001', '2', '-1', 'x', '1.0000', ''])}"
        if self.chance(4):
            value += self.pick([";", ";;", '; type="', "; a=b; a=c", ' "', ";charset=utf-8", "; boundary=x"])
        return value

    def headers(self):
        found = {}
        # Most resources have one media type or two: with more the answer would hardly ever be another than 406.
        if self.chance(50):
            found["Accept"] = ", ".join(self.media_range() for _ in range(self.pick([1, 1, 1, 2, 4, 40])))
        for name, values in (
            ("Accept-Encoding", ["gzip", "zstd", "br", "gzip;q=0, *", "identity;q=0", "x"]),
            ("Accept-Charset", ["utf-8", "iso-8859-1", "x"]),
            (
                "Range",
                [
                    "bytes=0-",
                    "bytes=0-0",
                    "bytes=-1",
                    "bytes=5-2",
                    "bytes=0-1,3-4",
                    "bytes=x",
                    "bytes=" + "0-0," * 500,
                    "bytes=99999999999999999999-",
                    "items=0-1",
                    "bytes=-0",
                ],
            ),
            ("If-None-Match", ["*", '"x"', "x", 'W/"x"', '"' * 30]),
            ("If-Match", ["*", '"x"']),
            ("If-Range", ['"x"', "Wed, 21 Oct 2015 07:28:00 GMT"]),
            (
                "If-Modified-Since",
                ["Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2099 07:28:00 GMT", "yesterday"],
            ),
            ("Origin", ["http://example.invalid", "null", "x"]),
            ("Access-Control-Request-Method", ["GET", "DELETE"]),
            ("Content-Encoding", ["gzip", "identity", "x"]),
            ("X-Request-Id", ["abc", "a" * 4000, "\x7f", ""]),
            ("Connection", ["close", "keep-alive, x"]),
            ("Cookie", ["a=b" * 500]),
            ("Host", ["", "x", "[::1", "a b", "evil.invalid:99999"]),
        ):
            if self.chance(2 if name in ("Host", "Content-Encoding", "Cookie") else 6):
                found[name] = self.pick(values)
        return found


def wire(text):
    """Without what http.client would not send at all: a raw socket does that in sockets.py."""
    return re.sub(r"[\x00-\x20\x7f-\U0010ffff]", "%20", text)


class Answer:
    def __init__(self, response, content):
        self.status, self.headers, self.content = response.status, response.headers, content


def faults(method, path, headers, answer):
    """What isn't right about an answer."""
    status = answer.status
    media_type = (answer.headers.get("Content-Type") or "").split(";")[0].strip().lower()
    if not (200 <= status < 500 or status in (501, 503)):
        yield f"status {status}"
    for name in ("Content-Type", "Content-Length", "ETag", "Location", "Content-Range"):
        if len(answer.headers.get_all(name) or []) > 1:
            yield f"{name} twice"
    for name, value in answer.headers.items():
        if not re.fullmatch(r"[\t\x20-\x7e]*", value):
            yield f"{name} has other characters than ASCII has"
    if method == "HEAD" or status in (204, 304):
        if answer.content:
            yield "a body where none may be"
        return
    if status >= 400:
        yield from error_faults(path, headers, answer, media_type)
    if status == 405 and not answer.headers.get("Allow"):
        yield "405 without Allow"
    if status == 206 and not (answer.headers.get("Content-Range") or media_type == "multipart/byteranges"):
        yield "206 without Content-Range"
    if status == 416 and not (answer.headers.get("Content-Range") or "").startswith("bytes */"):
        yield "416 without the length"
    if answer.content and not media_type:
        yield "a body without Content-Type"
    encoded = answer.headers.get("Content-Encoding")
    if encoded or not answer.content:
        return
    if media_type.endswith("json"):
        try:
            json.loads(answer.content)
        except ValueError:
            yield "JSON that is none"
    if media_type == "multipart/related":
        try:
            parts(answer)
        except Exception as error:  # noqa: BLE001 any fault of the body is one
            yield f"multipart: {error}"


def error_faults(path, headers, answer, media_type):
    stored = ("application/dicom+json", "application/json", "application/dicom+xml")
    if media_type in stored and answer.status == 409:
        return  # The Store Instances Response Module (PS3.18 10.5.3.2).
    if media_type != "application/problem+json":
        # HTTP itself isn't right in this request: nothing of DICOMweb was reached.
        before = answer.status in (400, 414, 431) and not answer.content
        wrong = re.search(r"[^!-~]|[\\^`{|}<>\"#]", path) or len(path) > 8000 or "Host" in headers
        # No header field has a control character (RFC 9110 5.5).
        wrong = wrong or any(re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value) for value in headers.values())
        if not (before and wrong):
            yield f"{answer.status} as {media_type or 'nothing'}"
        return
    try:
        details = json.loads(answer.content)
    except ValueError:
        return
    if details.get("status", answer.status) != answer.status or not isinstance(details.get("title", ""), str):
        yield "problem details that don't fit"


class Connection:
    """One connection, opened anew whenever the server closes it."""

    def __init__(self, netloc):
        self.netloc, self.connection = netloc, None

    def ask(self, method, path, headers, content=b""):
        for last in (False, True):
            self.connection = self.connection or http.client.HTTPConnection(self.netloc, timeout=SECONDS)
            # http.client looks at the path and refuses some: those go as they are.
            self.connection._validate_path = lambda path: None
            try:
                self.connection.putrequest(
                    method, path, skip_host="Host" in headers, skip_accept_encoding=True
                )
                for name, value in headers.items():
                    self.connection.putheader(name, value)
                if content or method in ("POST", "PUT", "PATCH"):
                    self.connection.putheader("Content-Length", str(len(content)))
                self.connection.endheaders()
                try:
                    self.connection.send(content)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # Answered before all was sent: the answer is there to be read, or the connection is gone.
                response = self.connection.getresponse()
                answer = Answer(response, response.read())
                if response.will_close or content and answer.status >= 400:
                    self.close()
                return answer
            except (http.client.HTTPException, ConnectionError):
                self.close()
                if last:
                    raise

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--only", type=int, help="make this request alone, and show it")
    parser.add_argument("url")
    arguments = parser.parse_args()
    connection = Connection(urlsplit(arguments.url).netloc)
    known = store(connection)
    maker = Maker(arguments.seed, known)
    statuses, wrong = {}, []
    # Studies with an instance that came damaged: where its end is missing, an answer that needs it can only be
    # broken off.
    harmed, broken_off = set(), 0
    for number in range(arguments.requests):
        method, path, headers, content = maker.request()
        if arguments.only is not None and number != arguments.only:
            continue
        try:
            answer = connection.ask(method, path, headers, content)
            found = list(faults(method, path, headers, answer))
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
            if method == "POST" and answer.status in (200, 202):
                harmed.update(
                    study for study, *_, file in known if study.encode() in content and file not in content
                )
        except (http.client.HTTPException, ConnectionError) as error:
            answer, found = None, [f"{type(error).__name__}: {error}"]
            if method == "GET" and any(study in path for study in harmed):
                found, broken_off = [], broken_off + 1
        except Exception as error:  # noqa: BLE001 no answer at all
            answer, found = None, [f"{type(error).__name__}: {error}"]
        if found or arguments.only is not None:
            shown = path if len(path) < 300 else path[:300] + "..."
            # Short ones first: an Accept may be long.
            headers = dict(sorted(headers.items(), key=lambda header: len(header[1])))
            wrong.append(
                f"request {number}: {method} {shown} {str(headers)[:400]}, {len(content)} bytes: {found}"
            )
        if arguments.only is not None and answer:
            print(answer.status, answer.headers, answer.content[:2000])
        if method == "DELETE" and answer and answer.status < 300:
            store(connection)
    print(f"seed {arguments.seed}, {arguments.requests} requests, answered:", dict(sorted(statuses.items())))
    print(f"{broken_off} answers were broken off, of instances whose end is missing")
    last = connection.ask("GET", DICOMWEB + "/studies", {"Accept": "application/dicom+json"})
    if last.status != 200:
        wrong.append(f"the search at the end: {last.status}")
    for line in wrong[:50]:
        print(line)
    print(len(wrong), "answers were not right")
    sys.exit(bool(wrong) and arguments.only is None)


def store(connection):
    """What is asked for: study, series and instance with the file's bytes."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    known = []
    for name in FILES:
        content = (folder / name).read_bytes()
        content_type, whole = multipart([content])
        headers = {"Content-Type": content_type, "Accept": "application/dicom+json"}
        answer = connection.ask("POST", DICOMWEB + "/studies", headers, whole)
        assert answer.status in (200, 202), f"{name} is answered {answer.status}"
        ds = pydicom.dcmread(folder / name, stop_before_pixels=True)
        known.append((str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), str(ds.SOPInstanceUID), content))
    return known


main()
